"""Side by side: what the layer costs against what it replaces, in one process and one run, in turns.

Every figure is a ratio, baseline / ours: above 1, ours is quicker, or smaller. A contestant's turn is one call to warm
up and as many timed ones as fill a moment; the turns go round, and medians over the rounds are compared, so that a slow
minute of the machine is everybody's.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locality_prior import cost as costs
from locality_prior._check import wrong
from locality_prior._files import write_text
from locality_prior._timing import cores, in_turns
from locality_prior.arrange.swaps import swap_gains
from locality_prior.cost import Cost
from locality_prior.geometry import Grid, Points
from locality_prior.layers import LocalityLinear
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

#: Milliseconds that the timed calls of one turn fill, and how many rounds there are.
TURN, ROUNDS = 25.0, 21
#: The sheet of the layers that are compared.
SHEET = Grid(64, 64)
#: The sheet of the recurrent weights whose matrix exponential is compared.
SMALL = Grid(32, 32)
#: The share of training that is done at a step that is measured.
HALF = 0.5
#: Radius and batch of the sheets that no dense layer could hold.
SCALE_RADIUS, SCALE_BATCH = 4, 8
#: Samples of the responses whose correlations are compared.
SAMPLES = 256
#: The costs of the two LeNets that are trained at once.
COSTS = ("flat", "linear")
#: Images of the synthetic MNIST that stands in where there is none.
SYNTHETIC = {"train": 60_000, "t10k": 10_000}


@dataclass(frozen=True)
class Row:
    """A figure: ours against a baseline, in milliseconds or MiB."""

    name: str
    ours: float
    baseline: float
    detail: str
    unit: Literal["ms", "mib"] = "ms"

    @property
    def ratio(self) -> float:
        """Baseline / ours: above 1 is faster, or smaller."""
        return self.baseline / self.ours

    def plain(self) -> dict[str, Any]:
        """The row as ``bench.json`` holds it."""
        return {
            "name": self.name,
            f"ours_{self.unit}": self.ours,
            f"baseline_{self.unit}": self.baseline,
            "ratio": self.ratio,
            "detail": self.detail,
        }


Measure = Callable[[str, torch.device], Row]
Layer = LocalityLinear | nn.Linear
#: A number of a weight.
Loss = Callable[[Tensor], Tensor]


def bench(names: list[str] | None = None, device: str = "cpu", tell: Callable[[Row], None] | None = None) -> list[Row]:
    """Measure the rows called ``names``, or all of them.

    Args:
        names: of :data:`ROWS`.
        device: where the layers compute; ``scale_*`` and ``mnist_epoch`` are of the CPU.
        tell: called with each row as it is there.

    Raises:
        ValueError: a row or a device that there is not.
    """
    for name in names or []:
        if name not in ROWS:
            raise wrong("only", repr(name), f"of {', '.join(ROWS)}")
    place = _device(device)
    measured = []
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(cores())
        for name, measure in ROWS.items():
            if names and name not in names:
                continue
            torch.manual_seed(0)
            measured.append(measure(name, place))
            if tell is not None:
                tell(measured[-1])
    finally:
        torch.set_num_threads(threads)
    return measured


def write(rows: list[Row], path: Path, device: str = "cpu") -> None:
    """Write ``rows``, and what they were measured on, as JSON."""
    write_text(path, json.dumps({"machine": machine(device), "rows": [row.plain() for row in rows]}, indent=2) + "\n")


def table(rows: list[Row]) -> list[list[str]]:
    """A header and a row of text for each figure."""
    header = ["row", "ours", "baseline", "ratio", "detail"]
    unit = {"ms": "ms", "mib": "MiB"}
    return [header] + [
        [r.name, f"{r.ours:.4g} {unit[r.unit]}", f"{r.baseline:.4g} {unit[r.unit]}", f"{r.ratio:.2f}", r.detail]
        for r in rows
    ]


def machine(device: str = "cpu") -> dict[str, Any]:
    """What the figures were measured on."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux
    found = {"cpu": name, "cores": cores(), "python": platform.python_version(), "torch": torch.__version__}
    return found | ({"gpu": torch.cuda.get_device_name(device)} if torch.device(device).type == "cuda" else {})


def _compare(contestants: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    return in_turns(contestants, rounds, TURN)


# --- one layer against nn.Linear -------------------------------------------------------------------------------------


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
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)

    def call() -> None:
        optimizer.zero_grad()
        x.grad = None
        layer(x).backward(grad)
        optimizer.step()

    return call


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


def _against(name: str, times: dict[str, float], detail: str) -> Row:
    return Row(name, times["ours"], times["baseline"], detail)


def _dense_step(batch: int) -> Measure:
    def measure(name: str, device: torch.device) -> Row:
        times = _compare({"ours": step(_layer(device), batch), "baseline": step(_linear(device), batch)})
        return _against(name, times, "a full step of the dense layer, linear cost; nn.Linear(4096, 4096)")

    return measure


def _reference_step(name: str, device: torch.device) -> Row:
    ours = _layer(device)
    times = _compare({"ours": step(ours, 64), "baseline": step(Obvious(ours.prior), 64)})
    return _against(name, times, "a full step; F.linear(x, W * P, b)")


def _learned_step(name: str, device: torch.device) -> Row:
    points, units = Points(SMALL.positions, learned=True), len(SMALL)
    ours = LocalityLinear(units, units, source=points, device=device)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # more of them make a step of this size slower on a busy machine
        times = _compare({"ours": step(ours, 64), "baseline": step(_layer(device, sheet=SMALL), 64)})
    finally:
        torch.set_num_threads(threads)
    return _against(name, times, f"{units:,} units whose positions learn, a full step, one thread; at fixed positions")


def _folded_inference(name: str, device: torch.device) -> Row:
    times = _compare({"ours": infer(_layer(device).fold(), 64), "baseline": infer(_linear(device), 64)})
    return _against(name, times, "batch 64; nn.Linear(4096, 4096)")


def _local(radius: float, batch: int, training: bool) -> Measure:
    def measure(name: str, device: torch.device) -> Row:
        cost = costs.Linear().within(radius)
        layers: dict[str, Layer] = {"baseline": _linear(device)}
        layers |= {way: _layer(device, cost, way) for way in ("auto", "windowed", "wires")}
        times = _compare({k: step(v, batch) if training else infer(v, batch) for k, v in layers.items()})
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


# --- objectives against their formulas as one would write them down ---------------------------------------------------


def _objective(ours: Loss, plain: Loss, sheet: Grid, device: torch.device, rounds: int = 7) -> dict[str, float]:
    """Times of two losses of the weights of a square layer between sheets, forward and backward."""
    weight = torch.randn(len(sheet), len(sheet), device=device, requires_grad=True)

    def call(loss: Loss) -> Callable[[], None]:
        def both() -> None:
            weight.grad = None
            loss(weight).backward()  # type: ignore[no-untyped-call]

        return both

    return _compare({"ours": call(ours), "baseline": call(plain)}, rounds=min(ROUNDS, rounds))


def _topoloss(name: str, device: torch.device) -> Row:
    def plain(weight: Tensor) -> Tensor:
        maps = weight.T.reshape(1, -1, *SHEET.shape)
        down = F.interpolate(maps, scale_factor=1 / 8, mode="bilinear")
        up = F.interpolate(down, size=SHEET.shape, mode="bilinear")
        return 1 - F.cosine_similarity(maps.flatten(2), up.flatten(2), dim=1).mean()

    times = _objective(lambda weight: topoloss(weight, SHEET), plain, SHEET, device, rounds=3)
    return _against(name, times, "forward and backward, factor 8; interpolate down and up, then cosine_similarity")


def _smoothness(name: str, device: torch.device) -> Row:
    cells = torch.arange(len(SHEET), device=device).reshape(SHEET.shape)
    beside = torch.zeros(len(SHEET), len(SHEET), device=device)
    for axis in (0, 1):
        beside[cells.flatten(), cells.roll(-1, axis).flatten()] = 1

    def plain(weight: Tensor) -> Tensor:
        rows = F.normalize(weight, dim=1)
        return (1 - (rows @ rows.T * beside).sum() / beside.sum()) / 2

    times = _objective(lambda weight: smoothness(weight, SHEET), plain, SHEET, device, rounds=3)
    return _against(name, times, "forward and backward, circular; the cosines of all pairs, masked to neighbours")


def _communicability(name: str, device: torch.device) -> Row:
    apart = SMALL.distances().to(device, torch.float32)

    def plain(weight: Tensor) -> Tensor:
        size = weight.abs()
        root = size.sum(0).rsqrt()
        reached: Tensor = torch.linalg.matrix_exp(root[:, None] * size * root)
        return (size * apart * reached).sum()

    times = _objective(lambda weight: communicability(weight, SMALL), plain, SMALL, device, rounds=3)
    return _against(name, times, f"{len(SMALL):,} units, forward and backward; torch.linalg.matrix_exp, with autograd")


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
    times = _compare({"ours": correlate(SHEET, device), "baseline": correlate_matrix(SHEET, device)}, rounds=7)
    detail = f"all pairs of {len(SHEET):,} units, batch {SAMPLES}, forward and backward; the matrix of correlations"
    return _against(name, times, detail)


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
    before = _peak()
    call = way(sheet, device)
    call()
    call()
    return 1024 * (_peak() - before) - 2 * 4 * SAMPLES * len(sheet) / 2**20


def _spatial_correlation_large(side: int) -> Measure:
    def measure(name: str, device: torch.device) -> Row:
        large = Grid(side, side)
        times = _compare({"ours": correlate(large, device), "small": correlate(SHEET, device)}, rounds=5)
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

    times = _compare({"ours": lambda: swap_gains(flow, lengths, order), "anew": anew}, rounds=7)
    pairs = len(SMALL) * (len(SMALL) - 1) // 2
    detail = f"all {pairs:,} swaps of {len(SMALL):,} units; baseline: a swap's cost computed anew, times their number"
    return Row(name, times["ours"], times["anew"] * pairs, detail)


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
    times = _compare(steps, rounds=7)
    return times | {"wires": len(large.weight), "small_wires": len(small.weight), "made": made, "peak": _peak()}


def _peak() -> float:
    """The most memory that this process ever held, in GiB; NaN where the system does not tell."""
    try:  # Linux, whose getrusage tells of the process that started this one too
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**20
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return math.nan
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**30 if sys.platform == "darwin" else 2**20)


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
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(1)  # as in a study, whose cells each have a core
            times = _compare({"ours": train(kind, device), "baseline": train(None, device)})
        finally:
            torch.set_num_threads(threads)
        return _against(
            name, times, "a step of three 16×16 sheets on a retina, batch 128, one thread; without objective"
        )

    return measure


# --- an epoch of MNIST -----------------------------------------------------------------------------------------------


def _mnist_epoch(name: str, device: torch.device) -> Row:
    """Both LeNets at once, as a study trains them, and one after the other, as one would write it down."""
    with tempfile.TemporaryDirectory() as folder:
        root, said = _mnist_root(Path(folder))
        ours, ordinary = [], []
        for one in _at_once(root, Path(folder)):
            ours.append(one)
            ordinary.append(_one_after_the_other(root))
    ours_said = f"{said}; one epoch of control and local, with their measures and cuts"
    detail = f"{ours_said}; torchvision's DataLoader, one network after the other"
    return Row(name, 1000 * statistics.median(ours), 1000 * statistics.median(ordinary), detail)


def _at_once(root: Path, folder: Path, repeats: int = 1) -> Iterator[float]:
    """Seconds of an epoch of both networks in two processes, which have been started before."""
    from locality_prior._processes import processes
    from locality_prior.runs import Recipe, Run
    from locality_prior.runs.training import job
    from locality_prior.studies.cells import PRELOAD

    with processes(len(COSTS), PRELOAD) as executor:
        for repeat in range(-1, repeats):  # the first, which imports what it needs, learns digits
            start = time.perf_counter()
            jobs = [
                executor.submit(
                    job,
                    Run("digits" if repeat < 0 else "mnist", "lenet", cost, recipe=Recipe(epochs=1)),
                    str(folder / f"{cost}{repeat}"),
                    str(root),
                )
                for cost in COSTS
            ]
            wait(jobs)
            for one in jobs:
                one.result()
            if repeat >= 0:
                yield time.perf_counter() - start


def _one_after_the_other(root: Path) -> float:
    """Seconds of the same in the ordinary way."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import MNIST

    from locality_prior.catalog import lenet
    from locality_prior.retrofit.plan import localize
    from locality_prior.runs import Recipe

    recipe = Recipe()
    change = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    start = time.perf_counter()
    for cost in COSTS:
        net = lenet()
        localize(net, {"locality": Grid(7, 7)}, cost=costs.parse(cost), keep="weights")
        optimizer = torch.optim.SGD(
            net.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        net.train()
        for images, labels in DataLoader(MNIST(root, transform=change), recipe.batch_size, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        net.eval()
        with torch.no_grad():
            for images, _ in DataLoader(MNIST(root, train=False, transform=change), 1000):
                net(images).argmax(1)
    return time.perf_counter() - start


def _mnist_root(folder: Path) -> tuple[Path, str]:
    """Where MNIST is, or random images in its place where no folder is named, and which of the two."""
    from locality_prior.catalog.tasks import VARIABLE, write_idx

    given = os.environ.get(VARIABLE)
    if given is not None and not (Path(given) / "MNIST" / "raw").is_dir():
        raise wrong(VARIABLE, given, "a folder that holds MNIST/raw")
    if given is not None:
        return Path(given), "MNIST"
    for part, n in SYNTHETIC.items():
        write_idx(folder, part, torch.randint(256, (n, 28, 28), dtype=torch.uint8), torch.randint(10, (n,)))
    return folder, "synthetic images"


def _device(name: str) -> torch.device:
    try:
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        why = str(error).strip().splitlines()[0]
        raise wrong("device", f"{name!r} ({why})", "one that this machine has, such as cpu") from None


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
    "topoloss": _topoloss,
    "smoothness": _smoothness,
    "spatial_correlation": _spatial_correlation,
    "spatial_correlation_memory": _spatial_correlation_memory,
    "spatial_correlation_256": _spatial_correlation_large(256),
    "communicability": _communicability,
    "swap_gains_1024": _swap_gains,
    **{f"step_{kind.WORD}": _step(kind) for kind in KINDS.values()},
    "scale_65536": _scale(256),
    "scale_1048576": _scale(1024),
    "mnist_epoch": _mnist_epoch,
}
