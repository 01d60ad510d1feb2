"""P against the reference, whole, by row and as a table of offsets."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import reference
import torch
from reference import COSTS, GEOMETRIES, Meeting, pairwise
from torch import Tensor
from torch.testing import assert_close

import locality_prior as lp
from locality_prior import prior as prior_module
from locality_prior.cost import Cost
from locality_prior.geometry import Geometry, Offsets, default_sheet, meet
from locality_prior.prior import Prior, Table, resolve

meetings = pytest.mark.parametrize("meeting", GEOMETRIES.values(), ids=GEOMETRIES)
rescaled = pytest.mark.parametrize("rescale", [False, True], ids=["", "rescaled"])


def tensor(rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@meetings
def test_prior_is_the_references(meeting: Meeting) -> None:
    """Each geometry with each cost, in one test for a geometry."""
    for cost, price in COSTS.values():
        for rescale in (False, True):
            check(meeting, cost, price, rescale)


def check(meeting: Meeting, cost: Cost, price: Callable[[float], float], rescale: bool) -> None:
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


def tabulate(source: lp.Grid, target: lp.Grid, cost: Cost, row_scale: Tensor | None) -> Table:
    """The table by hand: a value for each combination of the axes' offsets."""
    met = meet(target, source)
    assert isinstance(met, Offsets)
    axes = met.axes
    squared = torch.zeros(())
    for axis in axes:
        squared = squared[..., None] + axis.lengths.square()
    steps = tuple(axis.steps for axis in axes)
    return Table(cost.signal(squared.sqrt()), target.shape, source.shape, steps, row_scale)


# of grids × block sizes × rescaling (112), a sample in which any two meet
@pytest.mark.parametrize(("grids", "block", "rescale"), pairwise([*GRIDS], [0, 1, 30, 1 << 18], [False, True]))
def test_a_table_is_the_matrix(grids: str, rescale: bool, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = GRIDS[grids]
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


# --- one definition of a wire ----------------------------------------------------------------------------------------

#: Long wires whose signal is above 0 in float64 and rounds to 0 in every narrower dtype.
FAINT = lp.cost.Gaussian(1).within(30)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("line", [lp.Line(40), lp.Points([[float(k)] for k in range(40)])], ids=repr)
def test_a_wire_is_one_in_every_form_and_dtype(line: Geometry, dtype: torch.dtype) -> None:
    prior, cpu = Prior(line, line, FAINT), torch.device("cpu")
    wires = prior.wires()
    expected = torch.tensor([[abs(i - j) <= 30 for j in range(40)] for i in range(40)])
    assert wires.count == int(expected.sum()) == 1510
    assert torch.equal(torch.stack([wires.rows(), wires.sources], 1), expected.nonzero())
    support = prior.support(dtype, cpu)
    assert support is not None
    assert support.dtype == dtype
    assert torch.equal(support, expected.to(dtype))
    assert len(prior.signals(dtype, cpu)) == 1510
    if dtype != torch.float64:
        assert int((prior.dense(dtype) > 0).sum()) < 1510  # which is not where the wires are
    lengths = prior.lengths(dtype, cpu)
    assert torch.equal(lengths > 0, expected & ~torch.eye(40).bool())
    assert torch.equal(lengths[expected], prior.wire_lengths(dtype, cpu))
    some = Prior(line, line, FAINT, kept=torch.tensor([0, 30, *range(41, 1600, 41)]))
    left = some.support(dtype, cpu)
    assert left is not None
    assert left.sum() == some.wires().count == 41
    assert left[0, 30] == 1


def test_a_prior_with_a_wire_for_every_pair_needs_no_support() -> None:
    for cost in (lp.cost.Linear(), lp.cost.Flat(), lp.cost.Linear().within(99), lp.cost.Exponential(2)):
        assert Prior(lp.Line(40), lp.Line(40), cost).support(torch.float32, torch.device("cpu")) is None
    assert not Prior(lp.Line(40), lp.Line(40), lp.cost.Gaussian(1)).complete  # e^(−39²/2) is 0 in float64
    assert (
        Prior(lp.Line(4), lp.Line(4), lp.cost.Flat(), kept=torch.arange(0, 16, 5)).support(torch.float32, "cpu")
        is not None
    )  # type: ignore[arg-type]


@meetings
def test_a_default_device_changes_nothing(meeting: Meeting) -> None:
    cpu = torch.device("cpu")

    def made(cost: Cost) -> list[Tensor]:
        prior = Prior(meeting.source, meeting.target, cost, rescale=True)
        wires = prior.wires()
        return [
            prior.dense(),
            prior.rows(torch.tensor([1, 0], device="cpu")),
            prior.signals(torch.float64, cpu),
            prior.lengths(torch.float64, cpu),
            prior.wire_charges(cost, torch.float64, cpu),
            wires.rows(),
            wires.sources,
        ]

    for cost in (lp.cost.Linear(), lp.cost.Linear().within(1.6)):
        expected = made(cost)
        with torch.device("meta"):
            found = made(cost)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)


def test_a_word_is_a_cost() -> None:
    assert Prior(GRID, GRID, "linear@1.0").cost == lp.cost.Linear().within(1)


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
        (lambda: Prior(GRID, GRID, "cubic"), "cost: got 'cubic', expected name"),
        (lambda: Prior(GRID, GRID, None), "cost: got None, expected a cost"),
        (lambda: Prior(GRID, GRID, lp.cost.Linear(), rescale="no"), "rescale: got no, expected True or False"),
        (
            lambda: resolve(10**9, 10**9, None, None) and Prior(*resolve(10**9, 10**9, None, None), "linear"),
            "GiB, more",
        ),
        (lambda: Prior(GRID, GRID, lp.cost.Linear), "cost: got <class"),
        (lambda: Prior("sheet", GRID, lp.cost.Linear()), "source: got sheet, expected a geometry"),
        (lambda: Prior(GRID, 3, lp.cost.Linear()), "target: got 3, expected a geometry"),
        (lambda: Prior(GRID, lp.Sphere(3), lp.cost.Linear()), r"target: got Sphere\(3\) opposite .*Grid\(3\), which"),
        (
            lambda: Prior(lp.Line(8), lp.Line(1), lp.cost.Linear().within(0.4)),
            r"target: got unit 0 of Grid\(1\) with no wire under Linear\(\).within\(0.4\), expected a wire to each",
        ),
        (lambda: Prior(lp.Line(4), lp.Line(2), lp.cost.LinearDecay(0.5)), "target: got unit 0 .* no wire"),
        (
            lambda: Prior(d := lp.Distances([[0, 1], [math.inf, math.inf]]), d, lp.cost.Flat()),
            "target: got unit 1 of .* with no wire",
        ),
        (lambda: resolve(4, 4, "sheet", None), "source: got sheet, expected a geometry"),
        (lambda: resolve(4, 4, lp.Distances([[1.0] * 4] * 4), "sheet"), "target: got sheet, expected a geometry"),
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
    with pytest.raises((ValueError, TypeError, RuntimeError), match=words) as caught:
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
    geometry: Geometry = lp.Points(reference.XYZ)
    layer = lp.LocalityLinear(5, 5, source=geometry)
    assert copy.deepcopy(layer).source is geometry
