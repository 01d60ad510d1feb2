"""Where units sit and how far apart they are, against the reference's double loops."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import reference
import torch
from reference import GEOMETRIES, Meeting
from torch.testing import assert_close

import locality_prior as lp
from locality_prior.geometry import Geometry, default_sheet, from_config

meetings = pytest.mark.parametrize("meeting", GEOMETRIES.values(), ids=GEOMETRIES)
KINDS: dict[str, Geometry] = {
    repr(g): g for meeting in GEOMETRIES.values() for g in (meeting.source, meeting.target)
} | {
    "lone": lp.Grid(1),
    "exact": lp.Points(np.random.default_rng(0).random((4, 2))),
    "deep": lp.Grid(2, 2).with_channels(2).with_channels(3),
    "graph": lp.Graph(reference.EDGES),
}
kinds = pytest.mark.parametrize("geometry", KINDS.values(), ids=KINDS)


@meetings
def test_distances_are_the_references(meeting: Meeting) -> None:
    d = meeting.target.distances(meeting.source)
    assert d.dtype == torch.float64
    assert d.device.type == "cpu"
    assert_close(d, torch.tensor(meeting.distances, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_the_reference_is_told_apart() -> None:
    """Unequal sheets laid corner on corner instead of stretched do not pass for the reference."""
    unequal = GEOMETRIES["sheet unequal"]
    shifted = torch.tensor(reference.grid([2, 5], [4, 3], None, ((1.0, 1.0), (1.0, 1.0))), dtype=torch.float64)
    with pytest.raises(AssertionError):
        assert_close(shifted, torch.tensor(unequal.distances, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@meetings
def test_rows_are_rows_of_the_whole(meeting: Meeting) -> None:
    rows = torch.tensor([2, 0, 2])
    d = meeting.target.distances(meeting.source)
    assert_close(meeting.target.distances(meeting.source, rows), d[rows], rtol=1e-15, atol=0)
    assert meeting.target.distances(meeting.source, rows[:0]).shape == (0, d.shape[1])


@kinds
def test_a_geometry_meets_itself(geometry: Geometry) -> None:
    d = geometry.distances()
    assert torch.equal(d, geometry.distances(geometry))
    assert d.shape[0] == len(geometry)
    assert not d.isnan().any()
    if not isinstance(geometry, lp.Distances):
        assert (d.diagonal() == 0).all()
        assert_close(d, d.T)


def test_a_shuffled_sheet_keeps_each_units_signal_and_nothing_else() -> None:
    sheet = lp.Grid(6, 5)
    null = lp.Shuffled(sheet, seed=3)
    d, own = null.distances(), sheet.distances()
    assert_close(d.sort(1).values, own.sort(1).values, rtol=0, atol=0)
    assert (d != own).any(1).all()  # in every row
    # neighbours hear as many sources in common as any two units: those of the sheet hear many
    near, own_near = (x <= 2 for x in (d, own))
    common = [(m.double() @ m.double().T)[own == 1].mean() for m in (near, own_near)]
    chance = float((near.sum(1)[:, None] * near.sum(1) / len(sheet))[own == 1].mean())
    assert abs(common[0] - chance) < 0.15 * chance
    assert common[1] > 2 * chance
    assert not torch.equal(d, lp.Shuffled(sheet, seed=4).distances())
    assert null == lp.Shuffled(sheet, sheet, 3)
    assert repr(null) == "Shuffled(Grid(6, 5), seed=3)"
    with pytest.raises(ValueError, match="seed: got -1, expected a whole number of at least 0"):
        lp.Shuffled(sheet, seed=-1)


@kinds
def test_config_goes_through_json(geometry: Geometry) -> None:
    again = from_config(json.loads(json.dumps(geometry.config(), allow_nan=False)))
    assert again == geometry
    assert hash(again) == hash(geometry)
    assert torch.equal(again.distances(), geometry.distances())


def test_geometries_that_differ_are_not_equal() -> None:
    for a, first in KINDS.items():
        for b, second in KINDS.items():
            if first == second:
                assert first.config() == second.config(), (a, b)
    assert lp.Grid(4) != lp.Grid(2, 2)
    assert lp.Grid(4) != lp.Grid(4, periodic=True)
    assert lp.Grid(4) != lp.Grid(4, spacing=1)
    assert lp.Points(reference.XYZ) != lp.Points(reference.XYZ, "cityblock")
    assert lp.Grid(4) != "Grid(4)"


@pytest.mark.parametrize(
    "geometry",
    [
        lp.Grid(3, 4),
        lp.Grid(3, 4, periodic=(True, False)),
        lp.Grid(3, periodic=True, spacing=0.1),
        lp.Grid(3, 4, spacing=(0.5, 2)),
        default_sheet(10),
        lp.Line(4),
        lp.HexGrid(3, 2),
        lp.Sphere(7),
        lp.Grid(6, 6).with_channels(256),
    ],
    ids=repr,
)
def test_repr_can_be_read_back(geometry: Geometry) -> None:
    assert eval(repr(geometry), vars(lp)) == geometry


@pytest.mark.parametrize("geometry", [lp.Points(PLANE := reference.PLANE), lp.Points(PLANE, reference.taxi)])
def test_repr_names_what_it_does_not_list(geometry: lp.Points) -> None:
    assert repr(geometry).startswith("Points(3 × 2")
    assert ("taxi" in repr(geometry)) == callable(geometry.metric)


def test_geometries_do_not_change_with_the_array_they_were_made_of() -> None:
    xyz, lengths, edges = np.array(reference.XYZ), np.array(reference.TRACTS), np.array(reference.EDGES)
    made = lp.Points(xyz), lp.Distances(lengths), lp.Graph(edges)
    before = [g.distances().clone() for g in made]
    for array in (xyz, lengths, edges):
        array += 1
    assert all(torch.equal(g.distances(), d) for g, d in zip(made, before, strict=True))


# --- grids -----------------------------------------------------------------------------------------------------------


def test_positions_of_a_grid() -> None:
    assert lp.Grid(2, 3).positions.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert lp.Grid(3, spacing=0.5).positions.tolist() == [[0], [0.5], [1]]
    assert lp.Grid(2, 2, units=3).positions.tolist() == [[0, 0], [0, 1], [1, 0]]


def test_stretching_keeps_the_middle_and_the_ends_alike() -> None:
    """Twice as many targets sit symmetrically at ±¼ of each source cell."""
    d = lp.Line(8).distances(lp.Line(4))
    assert_close(d.min(1).values, torch.full((8,), 0.25, dtype=torch.float64))
    assert torch.equal(d, d.flip(0, 1))


def test_one_unit_sits_in_the_middle() -> None:
    assert lp.Line(1).distances(lp.Line(4)).tolist() == [[1.5, 0.5, 0.5, 1.5]]


def test_a_ring_has_no_ends() -> None:
    d = lp.Line(6, periodic=True).distances()
    assert torch.equal(d, d.roll((1, 1), (0, 1)))
    assert d.max() == 3


def test_default_sheet_fills_rows_of_the_smallest_square() -> None:
    for n in range(1, 40):
        sheet = default_sheet(n)
        rows, columns = sheet.shape
        assert columns == math.ceil(math.sqrt(n))
        assert (rows - 1) * columns < n <= rows * columns
        assert len(sheet) == n
    assert default_sheet(4096) == lp.Grid(64, 64)


@pytest.mark.parametrize(
    ("sheet", "expected"),
    [
        (lp.Grid(5, 5), 1.0),
        (lp.Grid(4, 5, spacing=(0.5, 2)), 0.5),
        (lp.Grid(1, 5, spacing=(0.5, 2)), 2.0),
        (lp.Grid(1), 1.0),
        (lp.HexGrid(4, 4), 1.0),
        (lp.Points([[0, 0], [0, 3], [0, 6]]), 3.0),
        (lp.Graph([[0, 2], [2, 0]]), 2.0),
        (lp.Grid(2, 2, spacing=3).with_channels(4), 3.0),
        (lp.Points([[1.0], [1.0]]), 1.0),
    ],
    ids=repr,
)
def test_neighbour_distance(sheet: Geometry, expected: float) -> None:
    assert sheet.neighbour_distance == expected


# --- other kinds -----------------------------------------------------------------------------------------------------


def test_hexagonal_neighbours_are_at_one() -> None:
    d = lp.HexGrid(5, 5).distances()
    inner = d[12]
    assert (inner.sort().values[1:7] - 1).abs().max() < 1e-15
    assert inner.sort().values[7] > 1.7
    assert (d + 2 * torch.eye(25)).min() > 1 - 1e-15


def test_neighbours_on_a_sphere_are_about_one_apart() -> None:
    for n in (50, 500):
        d = lp.Sphere(n).distances() + 10 * torch.eye(n)
        assert 0.85 < d.min(1).values.median() < 1.15
    assert lp.Sphere(500).distances().max() <= math.pi * lp.Sphere(500).radius


def test_a_sphere_is_exact_at_coincident_and_opposite_points() -> None:
    """Units 0 and 1 of two are not opposite, but rows of a sphere meet their own antipodes up to rounding."""
    sphere = lp.Sphere(2)
    sphere.__dict__["directions"] = torch.tensor([[0.0, 0.6, 0.8], [0.0, -0.6, -0.8]], dtype=torch.float64)
    d = sphere.distances()
    assert d[0, 0] == 0
    assert_close(d[0, 1], torch.tensor(math.pi * sphere.radius, dtype=torch.float64), rtol=1e-15, atol=0)


def test_points_keep_the_gradient_of_their_coordinates() -> None:
    for dtype in (torch.float32, torch.float64):
        xyz = torch.tensor(reference.XYZ, dtype=dtype, requires_grad=True)
        lp.Points(xyz).distances().sum().backward()
        assert xyz.grad is not None
        assert xyz.grad.isfinite().all()
        assert xyz.grad.abs().sum() > 0


def test_graphs_take_sparse_matrices_and_leave_islands_out_of_reach() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    graph = lp.Graph(reference.EDGES)
    assert lp.Graph(sparse.csr_array(reference.EDGES)) == graph
    assert graph.distances()[4, :4].isinf().all()
    assert graph.distances()[1, 3] == pytest.approx(1.3)


def test_channels_follow_flattened_convolution_features() -> None:
    base, channels = lp.Grid(2, 3), 4
    features = torch.arange(6.0).reshape(1, 1, 2, 3).expand(1, channels, 2, 3)
    place = torch.flatten(features, 1)[0].long()
    assert torch.equal(base.with_channels(channels).positions, base.positions[place])
    assert len(lp.Grid(6, 6).with_channels(256)) == 9216


def test_channels_compare_without_saving_their_base() -> None:
    """A metric that cannot be saved can still be compared and shown."""
    points = lp.Points(reference.PLANE, lambda a, b: torch.cdist(a, b))
    assert points.with_channels(2) == points.with_channels(2)
    assert points.with_channels(2) != points.with_channels(3)


# --- bad input -------------------------------------------------------------------------------------------------------

NAN = math.nan


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: lp.Grid(), r"Grid\(\*shape\): got no sizes, expected"),
        (lambda: lp.Grid(0, 3), r"Grid\(\*shape\): got 0, expected a whole number of at least 1"),
        (lambda: lp.Grid(2.5), r"got 2.5"),
        (lambda: lp.Grid((3, 4)), r"got \(3, 4\)"),
        (lambda: lp.Grid(True), "got True"),
        (lambda: lp.Grid(3, 4, periodic=(True,)), r"periodic: got \(True,\), expected one value for each of the 2"),
        (lambda: lp.Grid(3, 4, spacing=0), "spacing: got 0, expected a finite number above 0"),
        (lambda: lp.Grid(3, 4, spacing=(1, -2)), "spacing: got -2"),
        (lambda: lp.Grid(3, 4, spacing=(1, 2, 3)), "spacing: .* one value for each of the 2"),
        (lambda: lp.Grid(3, spacing=NAN), "spacing: got nan"),
        (lambda: lp.Grid(2, 2, units=5), "units: got 5, expected at most the 4"),
        (lambda: lp.HexGrid(0, 2), "rows: got 0"),
        (lambda: lp.HexGrid(2, -1), "cols: got -1"),
        (lambda: lp.Sphere(0), "n: got 0"),
        (lambda: lp.Points([[0.0, NAN], [1.0, 1.0]]), r"xyz: got \[0.0, nan\] at unit 0, expected finite"),
        (lambda: lp.Points([1.0, 2.0]), r"xyz: got shape \(2,\), expected .*\(n, d\)"),
        (lambda: lp.Points([[1.0], [1.0, 2.0]]), "xyz: got list, expected"),
        (lambda: lp.Points("here"), "xyz: got str"),
        (lambda: lp.Points(np.zeros((0, 2))), r"xyz: got shape \(0, 2\)"),
        (lambda: lp.Points([[0.0]], "manhattan"), "metric: got 'manhattan', expected 'euclidean'"),
        (lambda: lp.Points([[0.0]], ["cityblock"]), r"metric: got \['cityblock'\], expected 'euclidean'"),
        (
            lambda: lp.Points([[0.0, 1.0]], lambda a, b: a).distances(),
            r"metric: got Tensor \(1, 2\), expected .*\(1, 1\)",
        ),
        (lambda: lp.Points([[0.0]], lambda a, b: -torch.ones(1, 1)).distances(), "metric: got a negative or NaN"),
        (lambda: lp.Graph([[0, 1], [2, 0]]), "adjacency: got an asymmetric matrix"),
        (lambda: lp.Graph([[0, -1], [-1, 0]]), "adjacency: got a negative"),
        (lambda: lp.Graph([[0, 1, 2]]), r"adjacency: got .*\(1, 3\), expected .*\(n, n\)"),
        (lambda: lp.Graph([[0, 1], [2]]), "adjacency: got list, expected"),
        (lambda: lp.Graph([["a"]]), "adjacency: "),
        (lambda: lp.Distances([[1.0, -1.0]]), r"lengths: got -1.0 at \(0, 1\), expected lengths of at least 0"),
        (lambda: lp.Distances([[NAN]]), r"lengths: got nan at \(0, 0\)"),
        (lambda: lp.Distances([1.0]), r"lengths: got shape \(1,\)"),
        (lambda: lp.Distances("far"), "lengths: got str"),
        (lambda: lp.Grid(3).with_channels(0), "channels: got 0"),
        (lambda: lp.Distances([[1.0]]).with_channels(2), "with_channels: got Distances"),
        (lambda: default_sheet(0), "units: got 0"),
        (lambda: from_config({"type": "Donut"}), "geometry: got .*Donut.*, expected .*Grid"),
        (lambda: from_config({"type": ["Grid"]}), "geometry: got "),
        (lambda: from_config({"type": "Grid", "shape": 3}), "geometry: got .*, expected the values of a Grid"),
        (lambda: from_config({"type": "Grid", "sides": [3]}), "geometry: got .*, expected the values of a Grid"),
        (lambda: from_config({"type": "Graph", "nodes": 2, "edges": [[0, 5, 1.0]]}), "values of a Graph"),
        (lambda: from_config(None), "geometry: got None"),
        (lambda: from_config({"type": "Points", "xyz": [[0.0]], "metric": "nowhere:f"}), "metric: .*import nowhere"),
        (lambda: lp.Points([[0.0]], lambda a, b: torch.cdist(a, b)).config(), "metric: .*cannot be saved"),
        (lambda: lp.Distances([[1.0]]).positions, r"Distances\(1 × 1\) has no positions"),
    ],
)
def test_bad_input_is_named_in_one_line(make: object, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        make()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "source", "why"),
    [
        (lp.Grid(3), lp.Grid(2, 2), "different numbers of axes"),
        (lp.Grid(3), lp.Grid(3, periodic=True), "periodic"),
        (
            lp.Grid(3, periodic=True, spacing=1),
            lp.Grid(4, periodic=True, spacing=1),
            "axis 0 closes after 3 and after 4",
        ),
        (lp.Grid(2, 2), lp.Sphere(4), "no distance is defined"),
        (lp.Grid(4), lp.HexGrid(2, 2), "HexGrid meets grids with two open axes"),
        (lp.Grid(2, 2, periodic=True), lp.HexGrid(2, 2), "two open axes"),
        (lp.HexGrid(2, 2), lp.Grid(2, 2, spacing=2), "no spacing"),
        (lp.Points([[0.0, 0.0]]), lp.Points([[0.0]]), "2 and 1 coordinates"),
        (lp.Points([[0.0]]), lp.Points([[0.0]], "cityblock"), "metrics differ"),
        (lp.Points([[0.0]]), lp.Grid(2, periodic=True), "do not close"),
        (lp.Points([[0.0]]), lp.Graph([[0, 1], [1, 0]]), "meets only itself"),
        (lp.Graph([[0, 1], [1, 0]]), lp.Graph([[0, 2], [2, 0]]), "meets only itself"),
        (lp.Distances([[1.0, 2.0]]), lp.Grid(2), "meets only itself"),
        (lp.Grid(3).with_channels(2), lp.Sphere(2), "no distance is defined"),
    ],
    ids=str,
)
def test_geometries_that_cannot_meet_say_why(target: Geometry, source: Geometry, why: str) -> None:
    for a, b in ((target, source), (source, target)):
        with pytest.raises(ValueError, match="cannot meet") as caught:
            a.distances(b)
        assert str(caught.value).startswith("target: got ")
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=why):
        target.distances(source)


@pytest.mark.parametrize("rows", [[9], [-1], [0, 100]])
def test_rows_that_are_not_there_are_refused(rows: list[int]) -> None:
    for geometry in (lp.Grid(3, 3), lp.HexGrid(3, 3), lp.Sphere(9), lp.Grid(3).with_channels(3)):
        with pytest.raises(ValueError, match=r"rows: got .* expected units from 0 to 8"):
            geometry.distances(rows=torch.tensor(rows))
