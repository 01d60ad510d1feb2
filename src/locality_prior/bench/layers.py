"""One layer against nn.Linear, and layers that no matrix could hold."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locality_prior import cost as costs
from locality_prior.bench.row import SHEET, SMALL, Measure, Row, against, compare, one_thread, peak
from locality_prior.bench.row import step as a_step
from locality_prior.cost import Cost
from locality_prior.geometry import Grid, Points
from locality_prior.layers import LocalityLinear

#: Radius and batch of the sheets that no dense layer could hold.
SCALE_RADIUS, SCALE_BATCH = 4, 8

Layer = LocalityLinear | nn.Linear


class Obvious(nn.Linear):
    """The equation as one would write it down: F.linear(x, W * P, b)."""

    def __init__(self, prior: Tensor) -> None:
        super().__init__(prior.shape[1], prior.shape[0], device=prior.device)
        self.prior: Tensor
        self.register_buffer("prior", prior)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.prior, self.bias)


def step(layer: Layer, batch: int) -> Callable[[], None]:
    """Forward, backward and SGD; the input wants its gradient too, as within a network."""
    x = torch.randn(batch, layer.in_features, device=layer.weight.device, requires_grad=True)
    grad = torch.randn(batch, layer.out_features, device=layer.weight.device)
    return a_step(layer, x, lambda y: y.backward(grad), partial(torch.optim.SGD, lr=1e-3))


def infer(layer: Layer, batch: int) -> Callable[[], None]:
    """A forward pass without gradients."""
    x = torch.randn(batch, layer.in_features, device=layer.weight.device)

    def call() -> None:
        with torch.no_grad():
            layer(x)

    return call


def _layer(
    device: torch.device, cost: Cost | str = "linear", backend: str = "auto", sheet: Grid | None = None
) -> LocalityLinear:
    sheet = SHEET if sheet is None else sheet
    units = len(sheet)
    return LocalityLinear(units, units, source=sheet, target=sheet, cost=cost, backend=backend, device=device)


def _linear(device: torch.device) -> nn.Linear:
    return nn.Linear(len(SHEET), len(SHEET), device=device)


def _dense_step(batch: int) -> Measure:
    def measure(name: str, device: torch.device) -> Row:
        times = compare({"ours": step(_layer(device), batch), "baseline": step(_linear(device), batch)})
        return against(name, times, "a full step of the dense layer, linear cost; nn.Linear(4096, 4096)")

    return measure


def _reference_step(name: str, device: torch.device) -> Row:
    ours = _layer(device)
    times = compare({"ours": step(ours, 64), "baseline": step(Obvious(ours.prior), 64)})
    return against(name, times, "a full step; F.linear(x, W * P, b)")


def _learned_step(name: str, device: torch.device) -> Row:
    points, units = Points(SMALL.positions, learned=True), len(SMALL)
    ours = LocalityLinear(units, units, source=points, device=device)
    with one_thread():  # more of them make a step of this size slower on a busy machine
        times = compare({"ours": step(ours, 64), "baseline": step(_layer(device, sheet=SMALL), 64)})
    return against(name, times, f"{units:,} units whose positions learn, a full step, one thread; at fixed positions")


def _folded_inference(name: str, device: torch.device) -> Row:
    times = compare({"ours": infer(_layer(device).fold(), 64), "baseline": infer(_linear(device), 64)})
    return against(name, times, "batch 64; nn.Linear(4096, 4096)")


def _local(radius: float, batch: int, training: bool) -> Measure:
    def measure(name: str, device: torch.device) -> Row:
        cost = costs.Linear().within(radius)
        layers: dict[str, Layer] = {"baseline": _linear(device)}
        layers |= {way: _layer(device, cost, way) for way in ("auto", "windowed", "wires")}
        times = compare({k: step(v, batch) if training else infer(v, batch) for k, v in layers.items()})
        auto = layers["auto"]
        assert isinstance(auto, LocalityLinear)
        assert auto.pattern is not None
        said = f"{auto.pattern.wires.count:,} wires, {auto.pattern.describe(auto.weight.dtype, device)}; "
        ways = ", ".join(f"{way} {times[way]:.2f} ms" for way in ("windowed", "wires"))
        return Row(name, times["auto"], times["baseline"], said + ways)

    return measure


def _prior_memory(name: str, device: torch.device) -> Row:
    layer = _layer(device)
    held = layer.rule.values(layer.weight.dtype, device)
    tensors = [held] if isinstance(held, Tensor) else [t for t in (held.values, held.row_scale) if t is not None]
    ours = sum(t.untyped_storage().nbytes() for t in tensors) / 2**20
    whole = len(SHEET) ** 2 * layer.weight.element_size() / 2**20
    return Row(name, ours, whole, "P as the layer keeps it, a table of offsets; as a matrix", "mib")


# --- sheets that no dense layer could hold ---------------------------------------------------------------------------


def _scale(side: int) -> Measure:
    def measure(name: str, device: torch.device) -> Row:
        # a process of its own, whose memory is this sheet's alone
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            found = alone.submit(_scale_alone, side, torch.get_num_threads()).result()
        each = 1e6 * found["ours"] / found["wires"]
        return Row(
            name,
            found["ours"],
            found["small"] * found["wires"] / found["small_wires"],
            f"a full step, radius {SCALE_RADIUS}, batch {SCALE_BATCH}: {found['wires']:,} wires, {each:.1f} ns each; "
            f"made in {found['made']:.0f} s; peak memory {found['peak']:.2f} GiB; "
            "baseline: the 4,096-unit sheet's time for as many wires",
        )

    return measure


def _scale_alone(side: int, threads: int) -> dict[str, float]:
    torch.set_num_threads(threads)
    device, cost = torch.device("cpu"), costs.Linear().within(SCALE_RADIUS)
    start = time.perf_counter()
    sheet = Grid(side, side)
    large, small = _layer(device, cost, sheet=sheet), _layer(device, cost)
    made = time.perf_counter() - start
    steps = {"ours": step(large, SCALE_BATCH), "small": step(small, SCALE_BATCH)}
    times = compare(steps, rounds=7)
    return times | {"wires": len(large.weight), "small_wires": len(small.weight), "made": made, "peak": peak()}


ROWS: dict[str, Measure] = {
    "dense_step_b64": _dense_step(64),
    "dense_step_b256": _dense_step(256),
    "reference_step_b64": _reference_step,
    "learned_step_1024": _learned_step,
    "folded_inference": _folded_inference,
    "local_train_r8_b64": _local(8, 64, training=True),
    "local_train_r8_b256": _local(8, 256, training=True),
    "local_train_r4_b64": _local(4, 64, training=True),
    "local_infer_r8_b64": _local(8, 64, training=False),
    "local_infer_r4_b64": _local(4, 64, training=False),
    "prior_memory_4096": _prior_memory,
    "scale_65536": _scale(256),
    "scale_1048576": _scale(1024),
}
