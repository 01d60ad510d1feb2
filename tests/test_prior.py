"""P against the reference, whole, by row and as a table of offsets."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import reference
import torch
from reference import COSTS, GEOMETRIES, Meeting
from torch import Tensor
from torch.testing import assert_close

import locality_prior as lp
from locality_prior import prior as prior_module
from locality_prior.cost import Cost
from locality_prior.geometry import Geometry, default_sheet
from locality_prior.prior import Prior, Table, resolve

meetings = pytest.mark.parametrize("meeting", GEOMETRIES.values(), ids=GEOMETRIES)
costs = pytest.mark.parametrize(("cost", "price"), COSTS.values(), ids=COSTS)
rescaled = pytest.mark.parametrize("rescale", [False, True], ids=["", "rescaled"])


def tensor(rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@meetings
@costs
@rescaled
def test_prior_is_the_references(meeting: Meeting, cost: Cost, price: Callable[[float], float], rescale: bool) -> None:
    prior = Prior(meeting.source, meeting.target, cost, rescale)
    expected = tensor(reference.prior(meeting.distances, price, rescale))
    dense = prior.dense()
    assert prior.shape == dense.shape == expected.shape
    assert_close(dense, expected, rtol=1e-12, atol=1e-13)
    assert torch.equal(dense == 0, expected == 0)
    rows = torch.tensor([1, 0, 1])
    assert_close(prior.rows(rows), dense[rows], rtol=1e-15, atol=0)
    assert prior.flat == bool((dense == 1).all() and isinstance(cost, lp.cost.Flat) and cost.radius == math.inf)
    if rescale:
        assert_close(dense.sum(1), torch.full((len(dense),), float(dense.shape[1]), dtype=torch.float64))


def test_a_prior_without_its_rescaling_is_caught() -> None:
    meeting = GEOMETRIES["sheet"]
    prior = Prior(meeting.source, meeting.target, lp.cost.Linear(), True)
    prior.row_scale = None
    expected = tensor(reference.prior(meeting.distances, COSTS["linear"][1], True))
    with pytest.raises(AssertionError):
        assert_close(prior.dense(), expected, rtol=1e-12, atol=1e-13)


# --- tables ----------------------------------------------------------------------------------------------------------

GRIDS: dict[str, tuple[lp.Grid, lp.Grid]] = {
    "line": (lp.Line(5), lp.Line(5)),
    "line 6 to 4": (lp.Line(6), lp.Line(4)),
    "line 4 to 6": (lp.Line(4), lp.Line(6)),
    "line 1 to 3": (lp.Line(1), lp.Line(3)),
    "ring": (lp.Line(5, periodic=True), lp.Line(5, periodic=True)),
    "ring 6 to 4": (lp.Line(6, periodic=True), lp.Line(4, periodic=True)),
    "sheet": (lp.Grid(3, 4), lp.Grid(3, 4)),
    "sheet unequal": (lp.Grid(4, 3), lp.Grid(2, 5)),
    "torus": (lp.Grid(4, 3, periodic=True), lp.Grid(4, 3, periodic=True)),
    "cylinder unequal": (lp.Grid(4, 3, periodic=(False, True)), lp.Grid(3, 6, periodic=(False, True))),
    "spaced": (lp.Grid(3, 2, spacing=(0.5, 2)), lp.Grid(3, 2, spacing=(0.5, 2))),
    "spaced unlike": (lp.Line(4), lp.Line(6, spacing=0.6)),
    "block": (lp.Grid(2, 3, 4), lp.Grid(2, 3, 4)),
    "block unequal": (lp.Grid(2, 3, 4), lp.Grid(3, 2, 2)),
}
grids = pytest.mark.parametrize(("source", "target"), GRIDS.values(), ids=GRIDS)


def tabulate(source: lp.Grid, target: lp.Grid, cost: Cost, row_scale: Tensor | None) -> Table:
    """The table by hand: a value for each combination of the axes' offsets."""
    axes = target.axes(source)
    squared = torch.zeros(())
    for axis in axes:
        squared = squared[..., None] + axis.lengths.square()
    steps = tuple(axis.steps for axis in axes)
    return Table(cost.signal(squared.sqrt()), target.shape, source.shape, steps, row_scale)


@grids
@rescaled
@pytest.mark.parametrize("block", [0, 1, 30, 1 << 18])
def test_a_table_is_the_matrix(
    source: lp.Grid, target: lp.Grid, rescale: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if block:  # as without a compiler; 0: as it is here
        monkeypatch.setattr(prior_module, "BLOCK", block)
        monkeypatch.setattr(prior_module._compiled, "serves", lambda *_: False)
    prior = Prior(source, target, lp.cost.Quadratic(3), rescale)
    table, whole = tabulate(source, target, prior.cost, prior.row_scale), prior.dense()
    assert table.shape == whole.shape
    assert_close(table.dense(), whole, rtol=1e-14, atol=0)
    weight = torch.randn(whole.shape, dtype=torch.float64)
    expected, out = weight * whole, torch.empty_like(weight)
    assert table.multiply(weight, out) is out
    assert_close(out, expected, rtol=1e-14, atol=0)
    assert_close(table.multiply(weight.t().contiguous().t(), out), expected, rtol=1e-14, atol=0)
    assert_close(table.multiply(weight, weight), expected, rtol=1e-14, atol=0)
    halved = table.map(lambda t: t.float())
    assert halved.dense().dtype == torch.float32
    assert_close(halved.dense().double(), whole, rtol=1e-6, atol=0)
    ones = torch.ones_like(whole, dtype=torch.float32)
    assert_close(halved.multiply(ones, ones).double(), whole, rtol=1e-6, atol=0)


def test_a_table_may_be_part_of_a_larger_tensor() -> None:
    table = tabulate(lp.Line(4), lp.Line(4), lp.cost.Linear(), None)
    within = torch.cat([torch.full((3,), 9.0, dtype=torch.float64), table.values])[3:]
    moved = table.map(lambda _: within)
    weight = torch.ones(4, 4, dtype=torch.float64)
    assert torch.equal(moved.dense(), table.dense())
    assert torch.equal(moved.multiply(weight, torch.empty_like(weight)), table.dense())


def test_a_wrong_table_is_caught() -> None:
    table = tabulate(lp.Grid(3, 4), lp.Grid(3, 4), lp.cost.Linear(), None)
    with pytest.raises(AssertionError):
        assert_close(
            table.map(lambda t: t.roll(1)).dense(), Prior(lp.Grid(3, 4), lp.Grid(3, 4), lp.cost.Linear()).dense()
        )


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (lp.Line(20), lp.Line(20)),
        (lp.Grid(8, 8), lp.Grid(8, 8)),
        (lp.Grid(8, 8, periodic=True), lp.Grid(8, 8, periodic=True)),
        (lp.Grid(12, 12), lp.Grid(8, 8)),
        (lp.Grid(4, 4, 4), lp.Grid(4, 4, 4)),
    ],
    ids=repr,
)
@rescaled
def test_the_priors_own_table(source: lp.Grid, target: lp.Grid, rescale: bool) -> None:
    prior = Prior(source, target, lp.cost.Linear(2), rescale)
    table = prior.table()
    assert table is not None
    assert table.values.numel() * 4 <= math.prod(prior.shape)
    assert_close(table.dense(), prior.dense(), rtol=1e-14, atol=0)


def test_what_has_no_table() -> None:
    for geometry in (default_sheet(31), lp.HexGrid(8, 8), lp.Grid(4, 4).with_channels(4), lp.Sphere(64)):
        assert Prior(geometry, geometry, lp.cost.Linear()).table() is None


@pytest.mark.parametrize("rescale", [False, True])
def test_a_large_sheet_keeps_little(rescale: bool) -> None:
    """16.8 million entries of P in under 1 MiB, the rule's own tensors included."""
    prior = Prior(lp.Grid(64, 64), lp.Grid(64, 64), lp.cost.Linear(), rescale)
    kept = prior.values(torch.float32, torch.device("cpu"))
    assert isinstance(kept, Table)
    held = [*vars(prior).values(), *vars(kept).values(), *vars(prior.source).values()]
    assert sum(t.untyped_storage().nbytes() for t in held if isinstance(t, Tensor)) < 1 << 20
    rows = torch.tensor([0, 2080, 4095])
    ones = torch.zeros(4096, 4096)
    ones[rows] = 1
    assert_close(kept.multiply(ones, ones)[rows].double(), prior.rows(rows), rtol=1e-6, atol=0)


def test_prior_is_rounded_once() -> None:
    prior = Prior(lp.Grid(3, 4), lp.Grid(3, 4), lp.cost.Exponential(3), True)
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        assert torch.equal(prior.dense(dtype), prior.dense().to(dtype))
        kept = prior.values(dtype, torch.device("cpu"))
        assert isinstance(kept, Tensor)
        assert torch.equal(kept, prior.dense().to(dtype))


@pytest.mark.parametrize("metric", ["euclidean", "cityblock", "chebyshev", reference.taxi])
@pytest.mark.parametrize("cost", [cost for cost, _ in COSTS.values()], ids=COSTS)
@rescaled
def test_gradients_reach_the_points(metric: object, cost: Cost, rescale: bool) -> None:
    """Finite at coincident units, and the derivative of P itself: that of r_i too where rows are rescaled."""
    xyz = torch.tensor(reference.XYZ, dtype=torch.float64, requires_grad=True)
    readout = torch.randn(5, 5, dtype=torch.float64)

    def read(places: Tensor) -> Tensor:
        points = lp.Points(places, metric)  # type: ignore[arg-type]
        return (Prior(points, points, cost, rescale).dense() * readout).sum()

    (slope,) = torch.autograd.grad(read(xyz), xyz)
    assert slope.isfinite().all()
    step = 1e-6 * torch.zeros(5, 3, dtype=torch.float64).index_put((torch.tensor([3]),), torch.ones(3).double())
    with torch.no_grad():
        measured = (read(xyz + step) - read(xyz - step)) / 2e-6
    assert_close(slope[3].sum(), measured, rtol=1e-5, atol=1e-8)


def test_islands_are_seen_through_channels_and_own_metrics() -> None:
    """A flat prior is 1 on wires alone."""
    graph = lp.Graph([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    apart = lp.Points([[0.0], [1.0]], lambda a, b: torch.where(a == b.T, 0.0, math.inf))
    for geometry in (graph, graph.with_channels(2), apart):
        prior = Prior(geometry, geometry, lp.cost.Flat())
        assert torch.equal(prior.dense(), geometry.distances().isfinite().double())
        assert not prior.flat
    assert Prior(lp.Grid(3), lp.Grid(3), lp.cost.Flat()).flat
    assert Prior(lp.Graph([[0, 1], [1, 0]]), lp.Graph([[0, 1], [1, 0]]), lp.cost.Flat()).flat


# --- which geometries a layer has ------------------------------------------------------------------------------------


def test_missing_geometries() -> None:
    sheet, line = lp.Grid(2, 3), lp.Line(6)
    assert resolve(6, 6, sheet, None) == (sheet, sheet)
    assert resolve(6, 6, None, sheet) == (sheet, sheet)
    assert resolve(6, 6, sheet, line) == (sheet, line)
    assert resolve(6, 4, sheet, None) == (sheet, lp.Grid(2, 2))
    assert resolve(4, 6, None, sheet) == (lp.Grid(2, 2), sheet)
    assert resolve(10, 5, None, None) == (default_sheet(10), default_sheet(5))
    tracts = lp.Distances(reference.TRACTS)
    assert resolve(4, 3, tracts, None) == resolve(4, 3, None, tracts) == resolve(4, 3, tracts, tracts)


# --- bad input -------------------------------------------------------------------------------------------------------

GRID = lp.Grid(3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Prior(GRID, GRID, "linear"), "cost: got 'linear', expected a cost"),
        (lambda: Prior(GRID, GRID, lp.cost.Linear), "cost: got <class"),
        (lambda: Prior("sheet", GRID, lp.cost.Linear()), "source: got 'sheet', expected a geometry"),
        (lambda: Prior(GRID, 3, lp.cost.Linear()), "target: got 3, expected a geometry"),
        (lambda: Prior(GRID, lp.Sphere(3), lp.cost.Linear()), r"target: got Sphere\(3\) opposite .*Grid\(3\), which"),
        (
            lambda: Prior(lp.Line(8), lp.Line(1), lp.cost.Linear().within(0.4)),
            r"target: got unit 0 of Grid\(1\) with no wire under Linear\(\).within\(0.4\), expected a wire",
        ),
        (lambda: Prior(lp.Line(4), lp.Line(2), lp.cost.LinearDecay(0.5)), "target: got unit 0 .* no wire"),
        (
            lambda: Prior(d := lp.Distances([[0, 1], [math.inf, math.inf]]), d, lp.cost.Flat()),
            "target: got unit 1 of .* with no wire",
        ),
        (lambda: resolve(4, 4, "sheet", None), "source: got 'sheet', expected a geometry"),
        (lambda: resolve(4, 4, lp.Distances([[1.0] * 4] * 4), "sheet"), "target: got 'sheet', expected a geometry"),
        (
            lambda: resolve(4, 4, lp.Grid(3), None),
            r"source: got Grid\(3\) of 3 units, expected 4 units \(in_features\)",
        ),
        (lambda: resolve(4, 6, None, lp.Grid(3)), r"target: got Grid\(3\) of 3 units, expected 6 units \(out_feat"),
        (
            lambda: resolve(3, 4, lp.Distances(reference.TRACTS), None),
            r"source: got Distances\(3 × 4\), expected lengths of shape \(out, in\) = \(4, 3\)",
        ),
    ],
)
def test_bad_input_is_named_in_one_line(make: Callable[[], object], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_repr() -> None:
    assert repr(Prior(GRID, GRID, lp.cost.Linear(), True)) == "Prior(Grid(3) → Grid(3), Linear(), rescale=True)"


def test_two_geometries_can_share_a_rule_of_prices() -> None:
    """Asked for in turn by several callers, prices and lengths are each their own."""
    prior = Prior(GRID, GRID, lp.cost.Linear().within(1))
    cpu = torch.device("cpu")
    for _ in range(2):
        assert prior.lengths(torch.float64, cpu).tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
        assert prior.charges(lp.cost.Quadratic(), torch.float32, cpu).tolist() == [[1, 4, 0], [4, 1, 4], [0, 4, 1]]
        assert prior.charges(lp.cost.Linear(0.5), torch.float64, cpu).tolist() == [[1, 3, 0], [3, 1, 3], [0, 3, 1]]


def test_geometry_is_shared_by_copies() -> None:
    geometry: Geometry = lp.Points(torch.tensor(reference.XYZ, requires_grad=True))
    layer = lp.LocalityLinear(5, 5, source=geometry)
    assert copy.deepcopy(layer).source is geometry
