"""Objectives of neighbours: TopoLoss, smoothness, and similarity of weights and responses."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import locality_prior as lp
from locality_prior.objectives import (
    Objective,
    ResponseSimilarity,
    Smoothness,
    TopoLoss,
    WeightSimilarity,
    from_config,
    similarity,
    smoothness,
    topoloss,
    words,
)
from locality_prior.objectives import _neighbours as machinery

Loss = Callable[[Tensor], Tensor]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def agree(ours: Loss, slow: Loss, x: Tensor) -> None:
    """Equal values and gradients, and gradients that are those of the values."""
    found = []
    for f in (ours, slow):
        one = x.clone().requires_grad_()
        value = f(one)
        assert value.shape == ()
        value.backward()
        found.append((value.detach(), one.grad))
    assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(ours, x.clone().requires_grad_())


# --- TopoLoss --------------------------------------------------------------------------------------------------------


def sampled(weight: Tensor, shape: tuple[int, ...], factor: float) -> tuple[Tensor, Tensor]:
    """The maps of all inputs, and the same sampled down and up by torch, each (in, h, w)."""
    maps = weight.flatten(1).T.reshape(1, -1, *shape)
    down = F.interpolate(maps, scale_factor=1 / factor, mode="bilinear", recompute_scale_factor=False)
    return maps[0], F.interpolate(down, size=shape, mode="bilinear")[0]


def slow_topoloss(weight: Tensor, shape: tuple[int, ...], factor: float, cosine: str) -> Tensor:
    maps, blurred = (one.flatten(1) for one in sampled(weight, shape, factor))
    pairs = zip(maps, blurred, strict=True) if cosine == "maps" else zip(maps.T, blurred.T, strict=True)
    return 1 - torch.stack([a @ b / (a.norm() * b.norm()) for a, b in pairs]).mean()


PLANES = [((4, 4), 2), ((6, 4), 2), ((8, 8), 8), ((7, 5), 3), ((11, 13), 4), ((5, 9), 2.5), ((16, 3), 3), ((3, 4), 1.5)]


@pytest.mark.parametrize("cosine", ["units", "maps"])
@pytest.mark.parametrize(("shape", "factor"), PLANES)
def test_topoloss_is_interpolation_and_cosine(shape: tuple[int, int], factor: float, cosine: str) -> None:
    agree(
        lambda w: topoloss(w, lp.Grid(*shape), factor=factor, cosine=cosine),
        lambda w: slow_topoloss(w, shape, factor, cosine),
        drawn(math.prod(shape), 3),
    )


@pytest.mark.parametrize(("shape", "factor"), [*PLANES, ((49, 98), 49), ((1, 1), 1)])
def test_the_blur_is_two_small_matrices(shape: tuple[int, int], factor: float) -> None:
    from locality_prior.objectives.pyramid import _Blur, _matrices

    blur = _Blur(*_matrices(lp.Grid(*shape), factor, True, torch.device("cpu")))
    sheets, small = drawn(*shape, 2), blur.sample(drawn(*shape, 2))
    assert small.shape[:2] == tuple(max(1, math.floor(n * (1 / factor))) for n in shape)
    if factor != 49:  # of which torch finds that 49 × (1/49) is less than 1
        assert_close(blur.spread(blur.sample(sheets)).movedim(2, 0), sampled(sheets.reshape(-1, 2), shape, factor)[1])
    back = torch.zeros_like(sheets)
    blur.scatter(small, back)
    assert_close((back * sheets).sum(), (small * blur.sample(sheets)).sum())
    assert_close((blur.gather(sheets) * small).sum(), (sheets * blur.spread(small)).sum())
    assert_close(blur.overlap(small), blur.gather(blur.spread(small)))


def test_topoloss_by_hand() -> None:
    grid = lp.Grid(2, 2)
    weight = torch.tensor([[1.0, 0.0], [1.0, 2.0], [1.0, 0.0], [1.0, 2.0]])
    # the blur by 2 gives each unit the mean (1, 1): cosines with (1, 0) and (1, 2) are 1/√2 and 3/√10
    assert topoloss(weight, grid, factor=2).item() == pytest.approx(1 - (1 / math.sqrt(2) + 3 / math.sqrt(10)) / 2)
    # the maps are 1 1 1 1, nothing of which is lost, and 0 2 0 2, whose cosine with its mean is 1/√2
    assert topoloss(weight, grid, factor=2, cosine="maps").item() == pytest.approx((1 - 1 / math.sqrt(2)) / 2)
    assert topoloss(weight, grid, factor=1).item() == pytest.approx(0, abs=1e-6)


def test_kernels_are_inputs_of_their_own() -> None:
    weight = drawn(16, 3, 2, 2)
    assert_close(topoloss(weight, lp.Grid(4, 4), factor=2), topoloss(weight.flatten(1), lp.Grid(4, 4), factor=2))


@pytest.mark.parametrize("cosine", ["units", "maps"])
def test_topoloss_leaves_out_what_has_no_cosine(cosine: str) -> None:
    grid, checkers = lp.Grid(4, 4), torch.ones(4, 4, dtype=torch.float64)
    checkers[::2, ::2] = checkers[1::2, 1::2] = -1
    weight = drawn(16, 3)
    weight[:, 1] = checkers.flatten() if cosine == "maps" else 0  # the blur makes 0 of it
    if cosine == "units":
        weight[5] = 0
    weight.requires_grad_()
    value = topoloss(weight, grid, factor=2, cosine=cosine)
    maps, blurred = (one.flatten(1) for one in sampled(weight, (4, 4), 2))
    a, b = (maps, blurred) if cosine == "maps" else (maps.T, blurred.T)
    there = [k for k in range(len(a)) if k != (1 if cosine == "maps" else 5)]
    assert_close(value, (1 - F.cosine_similarity(a, b, dim=1)[there]).mean())
    value.backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
    nothing = torch.zeros(16, 3, requires_grad=True)
    value = topoloss(nothing, grid, factor=2, cosine=cosine)
    value.backward()
    assert value.item() == 0
    assert nothing.grad is not None
    assert (nothing.grad == 0).all()


@pytest.mark.parametrize(
    ("geometry", "options", "said"),
    [
        (lp.Line(16), {}, r"target: got Grid\(16\), expected a whole grid of two axes"),
        (lp.Grid(5, 4, units=16), {}, r"target: got Grid\(5, 4, units=16\), expected a whole grid of two axes"),
        (lp.HexGrid(4, 4), {}, r"target: got HexGrid\(4, 4\), expected a whole grid of two axes"),
        (lp.Grid(4, 4), {}, r"factor: got 8, expected at most 4, the shorter side of Grid\(4, 4\)"),
        (lp.Grid(4, 4), {"factor": 0.5}, "factor: got 0.5, expected a finite number of at least 1"),
        (lp.Grid(4, 4), {"factor": 2, "cosine": "rows"}, "cosine: got rows, expected one of units, maps"),
        (lp.Grid(3, 4), {"factor": 2}, r"weight: got Tensor of shape \(16, 3\), expected \(12, in\)"),
    ],
)
def test_bad_input_of_topoloss_is_one_line(geometry: lp.Geometry, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        topoloss(torch.ones(16, 3), geometry, **options)
    assert "\n" not in str(caught.value)


# --- neighbours ------------------------------------------------------------------------------------------------------


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return a @ b / (a.norm() * b.norm())


def slow_smoothness(rows: Tensor, shape: tuple[int, ...], circular: bool, periodic: tuple[bool, ...]) -> Tensor:
    cells = list(itertools.product(*map(range, shape)))
    number = {cell: k for k, cell in enumerate(cells)}
    means = []
    for axis, n in enumerate(shape):
        found = []
        for cell in cells:
            after = list(cell)
            after[axis] = (cell[axis] + 1) % n
            if n > 1 and (cell[axis] + 1 < n or circular or periodic[axis]):
                found.append(cosine(rows[number[cell]], rows[number[tuple(after)]]))
        if found:
            means.append(torch.stack(found).mean())
    return (1 - torch.stack(means).mean()) / 2


GRIDS = [lp.Grid(4, 3), lp.Grid(5, 7, periodic=True), lp.Grid(2, 3), lp.Line(5), lp.Grid(3, 4, periodic=[True, False])]
GRIDS += [lp.Grid(2, 3, 2), lp.Grid(1, 5)]


@pytest.mark.parametrize("circular", [True, False])
@pytest.mark.parametrize("grid", GRIDS, ids=repr)
def test_smoothness_is_the_papers(grid: lp.Grid, circular: bool) -> None:
    bias = drawn(len(grid), seed=1)

    def slow(w: Tensor) -> Tensor:
        return slow_smoothness(torch.cat([w, bias[:, None]], 1), grid.shape, circular, grid.periodic)

    agree(lambda w: smoothness(w, grid, bias=bias, circular=circular), slow, drawn(len(grid), 3))
    weight = drawn(len(grid), 2, 2)
    without = slow_smoothness(weight.flatten(1), grid.shape, circular, grid.periodic)
    assert_close(smoothness(weight, grid, circular=circular), without)


def test_smoothness_of_a_bias() -> None:
    bias = drawn(6, seed=1).requires_grad_()
    weight = drawn(6, 2)
    assert torch.autograd.gradcheck(lambda b: smoothness(weight, lp.Grid(2, 3), bias=b), bias)


def test_smoothness_by_hand() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    # down: −1, −1; right: 0, 0
    assert smoothness(rows, lp.Grid(2, 2)).item() == pytest.approx((1 - (-1 + 0) / 2) / 2)
    # a ring of four: 0, 0, 0, 0; open: 0, 0, 0; with a bias of 1: cosines 1/2
    assert smoothness(rows, lp.Line(4)).item() == 0.5
    assert smoothness(rows, lp.Line(4), bias=torch.ones(4), circular=False).item() == pytest.approx(0.25)


def by_distance(geometry: lp.Geometry, reach: float) -> list[tuple[int, int]]:
    d = geometry.distances()
    most = reach * geometry.neighbour_distance * (1 + 1e-9)
    n = len(geometry)
    return [(i, j) for i in range(n) for j in range(i + 1, n) if any(0 < one <= most for one in (d[i, j], d[j, i]))]


OTHERS = [
    lp.HexGrid(3, 4),
    lp.Sphere(13),
    lp.Points(drawn(9, 3, seed=3)),
    lp.Graph([[0, 1, 0, 0], [1, 0, 1, 1], [0, 1, 0, 0], [0, 1, 0, 0]]),
    lp.Grid(2, 2).with_channels(3),
    lp.Distances([[0.0, 1.0, 5.0], [5.0, 0.0, 5.0], [1.2, 5.0, 0.0]]),
    lp.Grid(4, 4, units=13),
    lp.Shuffled(lp.Grid(3, 3)),
]


@pytest.mark.parametrize("geometry", OTHERS, ids=repr)
def test_smoothness_elsewhere_is_of_what_is_near(geometry: lp.Geometry) -> None:
    pairs = by_distance(geometry, 1.0 if isinstance(geometry, lp.Grid) else 1.5)
    assert pairs

    def slow(w: Tensor) -> Tensor:
        return (1 - torch.stack([cosine(w[i], w[j]) for i, j in pairs]).mean()) / 2

    agree(lambda w: smoothness(w, geometry), slow, drawn(len(geometry), 3))


def around(grid: lp.Grid) -> list[tuple[int, int]]:
    """Pairs of a grid's units, twice: each unit with each of those around it."""
    cells = list(itertools.product(*map(range, grid.shape)))
    number = {cell: k for k, cell in enumerate(cells)}
    pairs = []
    for cell in cells:
        found = set()
        for shift in itertools.product((-1, 0, 1), repeat=len(grid.shape)):
            moved = tuple(
                (k + s) % n if p else k + s for k, s, n, p in zip(cell, shift, grid.shape, grid.periodic, strict=True)
            )
            if moved in number and moved != cell:
                found.add(moved)
        pairs += [(number[cell], number[other]) for other in found]
    return pairs


DIFFERENCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": lambda a, b: 1 - cosine(a, b),
    "l2": lambda a, b: (a - b).norm(),
    "correlation": lambda a, b: 1 - torch.corrcoef(torch.stack([a, b]))[0, 1],
}


@pytest.mark.parametrize("by", DIFFERENCES)
@pytest.mark.parametrize("geometry", [*GRIDS, *OTHERS], ids=repr)
def test_similarity_is_the_papers(geometry: lp.Geometry, by: str) -> None:
    whole = isinstance(geometry, lp.Grid) and geometry.whole
    pairs = around(geometry) if isinstance(geometry, lp.Grid) and whole else by_distance(geometry, 1.5)

    def slow(x: Tensor) -> Tensor:
        return torch.stack([DIFFERENCES[by](x[i], x[j]) for i, j in pairs]).mean()

    agree(lambda x: similarity(x, geometry, by=by), slow, drawn(len(geometry), 4))


def test_similarity_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    # six pairs, all of them neighbours: (0,1), (0,2), (0,3), (1,2), (1,3), (2,3)
    assert similarity(x, lp.Grid(2, 2)).item() == pytest.approx((0 + 1 + 0 + 1 + 0 + 1) / 6)
    l2 = (0 + math.sqrt(5) + 2 + math.sqrt(5) + 2 + math.sqrt(13)) / 6
    assert similarity(x, lp.Grid(2, 2), by="l2").item() == pytest.approx(l2)
    assert similarity(x, lp.Grid(2, 2), by="correlation").item() == pytest.approx((0 + 2 + 0 + 2 + 0 + 2) / 6)
    # in a line the pairs at the ends count as those inside
    assert similarity(x, lp.Line(4)).item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("by", DIFFERENCES)
def test_neighbours_without_a_cosine_are_left_out(by: str) -> None:
    x = drawn(6, 4)
    x[1], x[2] = x[0], 0
    x[5] = 3 if by == "correlation" else 0
    x.requires_grad_()
    value = similarity(x, lp.Line(6), by=by)
    kept = [(0, 1), (3, 4)] if by != "l2" else [(k, k + 1) for k in range(5)]
    each = [DIFFERENCES[by](x[i], x[j]).detach() for i, j in kept]
    assert_close(value, torch.stack(each).mean(), rtol=1e-9, atol=1e-9)
    value.backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    for nothing in (torch.zeros(4, 3, requires_grad=True), torch.ones(1, 3, requires_grad=True)):
        for found in (similarity(nothing, lp.Line(len(nothing)), by=by), smoothness(nothing, lp.Line(len(nothing)))):
            nothing.grad = None
            found.backward()
            assert found.item() == 0
            assert nothing.grad is not None
            assert (nothing.grad == 0).all()


def test_an_axis_without_cosines_does_not_count() -> None:
    rows = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    assert smoothness(rows, lp.Grid(2, 2)).item() == pytest.approx((1 - 1 / math.sqrt(2)) / 2)


def test_vectors_are_worked_on_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = drawn(12, 50)
    whole = [similarity(x, place, by=by) for place in (lp.Grid(3, 4), lp.HexGrid(3, 4)) for by in DIFFERENCES]
    monkeypatch.setitem(machinery.BLOCK, "cpu", 1)
    parts = [similarity(x, place, by=by) for place in (lp.Grid(3, 4), lp.HexGrid(3, 4)) for by in DIFFERENCES]
    assert_close(parts, whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("geometry", [lp.Grid(5, 7), lp.Grid(2, 3, 2, periodic=True), *OTHERS], ids=repr)
def test_without_a_compiler_it_is_the_same(
    geometry: lp.Geometry, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for _ in range(2):
        # entries for whole vectors of the processor and for what is left over; a row that has no cosine
        x, bias = drawn(len(geometry), 71).to(dtype), drawn(len(geometry), seed=1).to(dtype)
        x[1] = bias[1] = 0
        x, bias = x.T.contiguous().T.requires_grad_(), bias.requires_grad_()
        value = smoothness(x, geometry, bias=bias) + similarity(x, geometry)
        found.append((value, *torch.autograd.grad(value, (x, bias))))
        monkeypatch.setattr(machinery._compiled, "serves", lambda *_: False)
    assert_close(*found)


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda: smoothness(torch.ones(5, 2), lp.Line(4)), ValueError, r"weight: got .*\(5, 2\), expected \(4, in\)"),
        (lambda: smoothness(torch.ones(4, 2), 4), TypeError, "target: got 4, expected a geometry"),
        (lambda: smoothness(torch.ones(4, 2), lp.Line(4), bias=torch.ones(3)), ValueError, r"bias: got .*\(4,\)"),
        (lambda: smoothness(torch.ones(4, 2), lp.Line(4), bias=3), TypeError, "bias: got 3, expected a floating"),
        (lambda: smoothness(torch.ones(4, 2), lp.Line(4), circular=2), ValueError, "circular: got 2, expected True"),
        (
            lambda: smoothness(torch.ones(2, 2), lp.Distances([[1.0, 2.0, 3.0]] * 2)),
            ValueError,
            r"target: got Distances\(2 × 3\), expected distances among its own units",
        ),
        (lambda: similarity(torch.ones(5, 2), lp.Line(4)), ValueError, r"vectors: got .*expected \(4, features\)"),
        (lambda: similarity([1.0], lp.Line(1)), TypeError, "vectors: got .*expected a floating-point tensor"),
        (lambda: similarity(torch.ones(4, 2), 4), TypeError, "geometry: got 4, expected a geometry"),
        (lambda: similarity(torch.ones(4, 2), lp.Line(4), by="l1"), ValueError, "by: got l1, expected one of cosine"),
    ],
)
def test_bad_input_is_one_line(call: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)


# --- dtypes, compilation, memory --------------------------------------------------------------------------------------

SHEET, HEX = lp.Grid(6, 6), lp.HexGrid(6, 6)
FUNCTIONS: dict[str, Loss] = {
    "topoloss": lambda x: topoloss(x, SHEET, factor=3),
    "topoloss of maps": lambda x: topoloss(x, SHEET, factor=3, cosine="maps"),
    "smoothness": lambda x: smoothness(x, SHEET),
    "smoothness elsewhere": lambda x: smoothness(x, HEX),
    **{by: lambda x, by=by: similarity(x, SHEET, by=by) for by in DIFFERENCES},
}
functions = pytest.mark.parametrize("name", FUNCTIONS)


@functions
def test_precision(name: str) -> None:
    f, x = FUNCTIONS[name], drawn(36, 7)
    exact = f(x)
    assert exact.dtype == torch.float64
    for dtype, near in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2), (torch.float16, 5e-3)):
        low = x.to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
            value = f(low)
            value.backward()
        assert value.dtype == torch.float32
        assert_close(value.double(), exact, rtol=near, atol=0)
        assert low.grad is not None
        assert low.grad.dtype == dtype


@functions
def test_compiled(name: str) -> None:
    torch._dynamo.reset()
    f = FUNCTIONS[name]
    one, other = (drawn(36, 5).requires_grad_() for _ in range(2))
    f(one).backward()
    compiled = torch.compile(f, backend="eager", fullgraph=True)(other)
    compiled.backward()
    assert_close(compiled, f(one))
    assert_close(other.grad, one.grad)


# --- bound to a placement --------------------------------------------------------------------------------------------


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.Flatten(), nn.Linear(16 * 4, 64), nn.ReLU(), nn.Linear(64, 36))


PLACES: dict[Any, lp.Geometry] = {"0": lp.Grid(4, 4), "2": lp.Grid(8, 8), "4": lp.Grid(6, 6)}
BOUND: list[tuple[type[Objective], float, dict[str, Any]]] = [
    (TopoLoss, 1.0, {"factor": 4.0, "cosine": "maps"}),
    (Smoothness, 10.0, {"circular": False}),
    (WeightSimilarity, 1.0, {"by": "l2"}),
    (ResponseSimilarity, 1.0, {"by": "correlation"}),
]
bound = pytest.mark.parametrize(("kind", "strength", "options"), BOUND, ids=[kind.WORD for kind, *_ in BOUND])


@bound
def test_a_bound_objective_is_its_function(kind: Any, strength: float, options: dict[str, Any]) -> None:
    net = network()
    placed = lp.place(net, PLACES)
    objective = kind(placed, **options)
    with placed.record() as seen:
        net(torch.randn(9, 3, 4, 4))
    parts = {}
    for name in placed:
        weight, at = placed.weights(name), placed[name].geometry
        if kind is TopoLoss:
            parts[name] = topoloss(weight, at, **options)
        elif kind is Smoothness:
            parts[name] = smoothness(weight, at, bias=net[int(name)].bias, **options)
        else:
            parts[name] = similarity(weight if kind is WeightSimilarity else seen[name].T, at, **options)
    assert_close(objective.parts(), parts)
    net(torch.randn(9, 3, 4, 4))
    total = torch.stack(list(objective.parts().values()))
    if kind is not ResponseSimilarity:
        assert_close(objective(), strength * (total.mean() if kind is TopoLoss else total.sum()))


@bound
def test_options_survive_files_and_words(kind: Any, strength: float, options: dict[str, Any]) -> None:
    placed = lp.place(network(), PLACES)
    objective = kind(placed, 0.5, **options)
    again = from_config(json.loads(json.dumps(objective.config())), placed)
    assert again.config() == objective.config()
    said = "".join(f",{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in options.items())
    word = words.canonical("objective", f"{kind.WORD}:0.5{said}")
    (one,) = words.bind(word, placed, placed)
    assert one.config() == objective.config()
    assert words.canonical("objective", word) == word


@bound
def test_training_makes_neighbours_alike(kind: Any, strength: float, options: dict[str, Any]) -> None:
    net = network()
    objective = kind(lp.place(net, PLACES), **options)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    x = torch.randn(32, 3, 4, 4)
    values = []
    for _ in range(25):
        net(x)
        value = objective()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.7 * values[0]


def test_what_does_not_fit_is_an_error_at_once() -> None:
    net = network()
    with pytest.raises(ValueError, match=r"factor: got 8, expected at most 4, the shorter side of Grid\(4, 4\)"):
        TopoLoss(lp.place(net, PLACES))
    with pytest.raises(ValueError, match=r"target: got HexGrid\(4, 4\), expected a whole grid of two axes"):
        TopoLoss(lp.place(net, {"0": lp.HexGrid(4, 4)}))
    for kind in (TopoLoss, Smoothness, WeightSimilarity):
        with pytest.raises(ValueError, match="name: got 3, a ReLU, which has no weights into its units"):
            kind(lp.place(net, {"3": lp.Grid(8, 8)}))
    with pytest.raises(ValueError, match="by: got l1"):
        ResponseSimilarity(lp.place(net, {"3": lp.Grid(8, 8)}), by="l1")


def test_a_module_without_a_bias() -> None:
    net = nn.Sequential(nn.Linear(3, 4, bias=False))
    assert_close(Smoothness(lp.place(net, {"0": lp.Line(4)})).value(), smoothness(net[0].weight, lp.Line(4)))
