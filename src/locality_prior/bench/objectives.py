"""Objectives against their formulas as one would write them down, and their share of a step of training."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locality_prior.arrange.swaps import swap_gains
from locality_prior.bench.row import SHEET, SMALL, Measure, Row, against, compare, one_thread, peak
from locality_prior.geometry import Grid
from locality_prior.objectives import (
    Communicability,
    Objective,
    communicability,
    smoothness,
    spatial_correlation,
    topoloss,
)
from locality_prior.objectives.base import usual_strength
from locality_prior.objectives.kinds import KINDS
from locality_prior.placement import place

#: The share of training that is done at a step that is measured.
HALF = 0.5
#: Samples of the responses whose correlations are compared.
SAMPLES = 256

#: A number of a weight.
Loss = Callable[[Tensor], Tensor]


def _objective(ours: Loss, plain: Loss, sheet: Grid, device: torch.device, rounds: int = 7) -> dict[str, float]:
    """Times of two losses of the weights of a square layer between sheets, forward and backward."""
    weight = torch.randn(len(sheet), len(sheet), device=device, requires_grad=True)

    def call(loss: Loss) -> Callable[[], None]:
        def both() -> None:
            weight.grad = None
            loss(weight).backward()  # type: ignore[no-untyped-call]

        return both

    return compare({"ours": call(ours), "baseline": call(plain)}, rounds)


def _topoloss(name: str, device: torch.device) -> Row:
    def plain(weight: Tensor) -> Tensor:
        maps = weight.T.reshape(1, -1, *SHEET.shape)
        down = F.interpolate(maps, scale_factor=1 / 8, mode="bilinear")
        up = F.interpolate(down, size=SHEET.shape, mode="bilinear")
        return 1 - F.cosine_similarity(maps.flatten(2), up.flatten(2), dim=1).mean()

    times = _objective(lambda weight: topoloss(weight, SHEET), plain, SHEET, device, rounds=3)
    return against(name, times, "forward and backward, factor 8; interpolate down and up, then cosine_similarity")


def _smoothness(name: str, device: torch.device) -> Row:
    cells = torch.arange(len(SHEET), device=device).reshape(SHEET.shape)
    beside = torch.zeros(len(SHEET), len(SHEET), device=device)
    for axis in (0, 1):
        beside[cells.flatten(), cells.roll(-1, axis).flatten()] = 1

    def plain(weight: Tensor) -> Tensor:
        rows = F.normalize(weight, dim=1)
        return (1 - (rows @ rows.T * beside).sum() / beside.sum()) / 2

    times = _objective(lambda weight: smoothness(weight, SHEET), plain, SHEET, device, rounds=3)
    return against(name, times, "forward and backward, circular; the cosines of all pairs, masked to neighbours")


def _communicability(name: str, device: torch.device) -> Row:
    apart = SMALL.distances().to(device, torch.float32)

    def plain(weight: Tensor) -> Tensor:
        size = weight.abs()
        root = size.sum(0).rsqrt()
        reached: Tensor = torch.linalg.matrix_exp(root[:, None] * size * root)
        return (size * apart * reached).sum()

    times = _objective(lambda weight: communicability(weight, SMALL), plain, SMALL, device, rounds=3)
    return against(name, times, f"{len(SMALL):,} units, forward and backward; torch.linalg.matrix_exp, with autograd")


def correlate(sheet: Grid, device: torch.device) -> Callable[[], None]:
    """The spatial correlation of all pairs, forward and backward."""
    x = torch.randn(SAMPLES, len(sheet), device=device, requires_grad=True)

    def call() -> None:
        x.grad = None
        spatial_correlation(x, sheet).backward()  # type: ignore[no-untyped-call]

    return call


def correlate_matrix(sheet: Grid, device: torch.device) -> Callable[[], None]:
    """The same as one would write it down: every pair's correlation from the matrix of all. Its q is made before."""
    x = torch.randn(SAMPLES, len(sheet), device=device, requires_grad=True)
    u, v = torch.tril_indices(len(sheet), len(sheet), -1, device=device)
    q = (1 / (1 + sheet.distances())).to(x)[u, v]

    def call() -> None:
        x.grad = None
        r = torch.corrcoef(x.T)[u, v]
        ((1 - torch.corrcoef(torch.stack([r, q]))[0, 1]) / 2).backward()  # type: ignore[no-untyped-call]

    return call


def _spatial_correlation(name: str, device: torch.device) -> Row:
    times = compare({"ours": correlate(SHEET, device), "baseline": correlate_matrix(SHEET, device)}, rounds=7)
    detail = f"all pairs of {len(SHEET):,} units, batch {SAMPLES}, forward and backward; the matrix of correlations"
    return against(name, times, detail)


def _spatial_correlation_memory(name: str, device: torch.device) -> Row:
    found: list[float] = []
    for way in (correlate, correlate_matrix):
        # a process of its own for each, since what it held at most never falls
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            found.append(alone.submit(_grown, way, SHEET, torch.get_num_threads()).result())
    ours, baseline = found
    return Row(
        name, ours, baseline, f"what a CPU's process grows by for the same, over {SAMPLES} samples' responses", "mib"
    )


def _grown(way: Callable[[Grid, torch.device], Callable[[], None]], sheet: Grid, threads: int) -> float:
    """MiB that this process grows by at most while it does something twice, less the responses and their gradient."""
    torch.set_num_threads(threads)
    device = torch.device("cpu")
    way(Grid(8, 8), device)()  # what the libraries need themselves
    before = peak()
    call = way(sheet, device)
    call()
    call()
    return 1024 * (peak() - before) - 2 * 4 * SAMPLES * len(sheet) / 2**20


def _spatial_correlation_large(side: int) -> Measure:
    def measure(name: str, device: torch.device) -> Row:
        large = Grid(side, side)
        times = compare({"ours": correlate(large, device), "small": correlate(SHEET, device)}, rounds=5)
        detail = (
            f"{len(large):,} units, batch {SAMPLES}; baseline: the {len(SHEET):,}-unit sheet's time for as many units"
        )
        return Row(name, times["ours"], times["small"] * len(large) / len(SHEET), detail)

    return measure


def _swap_gains(name: str, device: torch.device) -> Row:
    """All swap gains of a sheet, against the cost of all its wires computed anew for each swap."""
    weight, lengths = torch.rand(len(SMALL), len(SMALL), dtype=torch.float64), SMALL.distances()
    flow, order = weight + weight.T, torch.randperm(len(SMALL))

    def anew() -> Tensor:
        order[[0, 1]] = order[[1, 0]]
        return (flow * lengths[order][:, order]).sum()

    times = compare({"ours": lambda: swap_gains(flow, lengths, order), "anew": anew}, rounds=7)
    pairs = len(SMALL) * (len(SMALL) - 1) // 2
    detail = f"all {pairs:,} swaps of {len(SMALL):,} units; baseline: a swap's cost computed anew, times their number"
    return Row(name, times["ours"], times["anew"] * pairs, detail)


# --- the share of an objective in a step of training -----------------------------------------------------------------


def train(kind: type[Objective] | None, device: torch.device) -> Callable[[], None]:
    """A step of three sheets on a retina, which learn with an objective at its usual strength, or without one."""
    torch.manual_seed(0)
    retina, sheet = Grid(28, 28), Grid(16, 16)
    parts: list[nn.Module] = []
    for source in (retina, sheet, sheet):
        parts += [nn.Linear(len(source), len(sheet)), nn.BatchNorm1d(len(sheet)), nn.ReLU()]
    net = nn.Sequential(*parts, nn.Linear(len(sheet), 10)).to(device)
    layers: dict[str, Grid | tuple[Grid, Grid]] = {"0": (retina, sheet), "3": sheet, "6": sheet}
    sheets = {"2": sheet, "5": sheet, "8": sheet}
    if kind is Communicability:
        del layers["0"]  # it is of weights from a sheet to itself
    at = layers if kind is None or kind.OF == "weights" else sheets
    objective = None if kind is None else kind(place(net, at), usual_strength(kind))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-3)
    images, labels = torch.randn(128, len(retina), device=device), torch.randint(10, (128,), device=device)

    def call() -> None:
        loss = F.cross_entropy(net(images), labels)
        if objective is not None and objective.LOSS:
            loss = loss + objective(HALF)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if objective is not None:
            objective.after_step(HALF)

    return call


def _step(kind: type[Objective]) -> Measure:
    def measure(name: str, device: torch.device) -> Row:
        with one_thread():
            times = compare({"ours": train(kind, device), "baseline": train(None, device)})
        return against(
            name, times, "a step of three 16×16 sheets on a retina, batch 128, one thread; without objective"
        )

    return measure


ROWS: dict[str, Measure] = {
    "topoloss": _topoloss,
    "smoothness": _smoothness,
    "spatial_correlation": _spatial_correlation,
    "spatial_correlation_memory": _spatial_correlation_memory,
    "spatial_correlation_256": _spatial_correlation_large(256),
    "communicability": _communicability,
    "swap_gains_1024": _swap_gains,
    **{f"step_{kind.WORD}": _step(kind) for kind in KINDS.values()},
}
