"""Training steps of whole networks with wires within a radius, against the same networks with dense layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locality_prior._check import check_fits
from locality_prior.bench.row import Measure, Optimizer, Row, against, compare, step
from locality_prior.catalog.models import Block
from locality_prior.geometry import Grid
from locality_prior.layers import LocalityLSTM
from locality_prior.retrofit import localize

#: The cost of a wire in the networks that are local.
COST = "linear@3"
#: Examples in a batch of the stack, and classes that it tells apart.
BATCH, CLASSES = 128, 10
#: Items and tokens in a batch of the block, and heads of its attention.
ITEMS, TOKENS, HEADS = 4, 64, 4
#: Time steps, items and features of what the recurrent network reads.
STEPS, READ, FEATURES = 32, 64, 256

#: Makes the step of a network from the side of its sheet, whether it is local, and a device.
Make = Callable[[int, bool, torch.device], Callable[[], None]]
SGD: Optimizer = partial(torch.optim.SGD, lr=1e-3, momentum=0.9, weight_decay=1e-3)
ADAMW: Optimizer = partial(torch.optim.AdamW, lr=1e-3)


def stack(side: int, local: bool, device: torch.device) -> Callable[[], None]:
    """A step of a classifier: three square sheets, each with BatchNorm and ReLU, after a sheet of inputs."""
    sheet = Grid(side, side)
    units = len(sheet)
    parts: list[nn.Module] = []
    for _ in range(3):
        parts += [nn.Linear(units, units), nn.BatchNorm1d(units), nn.ReLU()]
    network = nn.Sequential(*parts, nn.Linear(units, CLASSES))
    if local:
        localize(network, dict.fromkeys(("0", "3", "6"), sheet), cost=COST, keep="weights")
    labels = torch.randint(CLASSES, (BATCH,), device=device)

    def back(y: Tensor) -> None:
        F.cross_entropy(y, labels).backward()  # type: ignore[no-untyped-call]

    return step(network.to(device), torch.randn(BATCH, units, device=device), back, SGD)


def block(side: int, local: bool, device: torch.device) -> Callable[[], None]:
    """A step of a transformer's block: its stream is on a square sheet, its MLP on one of four times as many units."""
    sheet, wide = Grid(side, side), Grid(2 * side, 2 * side)
    units, hidden = len(sheet), len(wide)
    # as numbers in float64: for each weight of the control its value, gradient and two moments, all in float32
    check_fits(2 * 12 * units * units, f"a block of {units:,} units, dense,", "choose other rows with --only.")
    network = Block(units, hidden, HEADS)
    if local:
        layers: dict[str, Any] = {f"attention.{name}": sheet for name in ("query", "key", "value", "out")}
        localize(network, layers | {"up": (sheet, wide), "down": (wide, sheet)}, cost=COST, keep="weights")
    x = torch.randn(ITEMS, TOKENS, units, device=device, requires_grad=True)
    grad = torch.randn_like(x)
    return step(network.to(device), x, lambda y: y.backward(grad), ADAMW)


def recurrent(side: int, local: bool, device: torch.device) -> Callable[[], None]:
    """A step of an LSTM through time, whose hidden units lie on a square sheet."""
    sheet = Grid(side, side)
    units = len(sheet)
    network = LocalityLSTM(FEATURES, units, units=sheet, cost=COST) if local else nn.LSTM(FEATURES, units)
    x = torch.randn(STEPS, READ, FEATURES, device=device, requires_grad=True)
    grad = torch.randn(STEPS, READ, units, device=device)
    return step(network.to(device), x, lambda y: y[0].backward(grad), SGD)


def _row(make: Make, side: int, said: str, rounds: int = 5) -> Measure:
    def measure(name: str, device: torch.device) -> Row:
        times = compare({"ours": make(side, True, device), "baseline": make(side, False, device)}, rounds)
        return against(name, times, f"{said}; the same network dense")

    return measure


_STACK = f"a step of three sheets of {{}}, {COST}, BatchNorm, ReLU, SGD, batch {BATCH}"
_BLOCK = f"a step of a transformer's block on {{}}, its MLP on {{}}, {COST}, AdamW, {ITEMS}×{TOKENS} tokens"
_LSTM = f"a step of an LSTM of {{}}, {COST}, SGD, {STEPS} time steps, batch {READ}"

ROWS: dict[str, Measure] = {
    "stack_1024": _row(stack, 32, _STACK.format("32×32")),
    "stack_4096": _row(stack, 64, _STACK.format("64×64")),
    "gpt_block_1024": _row(block, 32, _BLOCK.format("32×32", "64×64")),
    "gpt_block_4096": _row(block, 64, _BLOCK.format("64×64", "128×128"), rounds=3),
    "lstm_1024": _row(recurrent, 32, _LSTM.format("32×32")),
}
