"""Where units sit and how far apart they are, against the reference's double loops."""

from __future__ import annotations

import copy
import math
import pickle
import re
import time
import weakref
from collections.abc import Callable, Iterator

import homemade
import numpy as np
import pytest
import reference
import torch
from reference import CUSTOM, GEOMETRIES, Meeting
from torch.testing import assert_close

import locality_prior as lp
from locality_prior._check import ArgumentError, ArgumentTypeError
from locality_prior.geometry import ByRow, Channels, Coordinates, Geometry, default_sheet, from_config, near, to_config
from locality_prior.geometry.points import great_circle
from locality_prior.testing import check_geometry

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
def test_meetings_keep_the_contract(meeting: Meeting) -> None:
    check_geometry(meeting.target, meeting.source)


@kinds
def test_kinds_keep_the_contract(geometry: Geometry) -> None:
    check_geometry(geometry)


def broken(**methods: object) -> Geometry:
    """A cylinder that keeps all rules but one."""
    kind = type("Broken", (homemade.Cylinder,), {"__module__": homemade.__name__, "__qualname__": "Broken", **methods})
    homemade.Broken = kind  # type: ignore[attr-defined]  # where it is found by its import path
    made: Geometry = kind(*zip(*reference.AROUND, strict=True))
    return made


def between(change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[..., object]:
    """A ``meet`` whose distances are changed."""
    return lambda self, source: Coordinates(self.positions, source.positions, change)


class Told(ByRow):
    """A meeting whose near pairs are told in another order, or are not all told."""

    def __init__(self, order: slice) -> None:
        super().__init__((4, 4), lambda rows: CYLINDER.distances()[rows])
        self.order = order

    def near(self, within: float) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        for i, j, d in super().near(within):
            there = list(range(len(i)))[self.order]
            yield i[there], j[there], d[there]


@pytest.mark.parametrize(
    ("methods", "rule"),
    [
        ({"positions": property(lambda self: self.angles[:, None].float())}, "positions are finite"),
        ({"positions": property(lambda self: torch.zeros(3, 2).double())}, r"positions are .*\(shape \(3, 2\)\)"),
        ({"positions": property(lambda self: self.angles[:, None])}, "changing them changes the geometry"),
        ({"meet": between(lambda a, b: homemade.around(a, b) + 1)}, "symmetric, and 0 on the diagonal"),
        ({"meet": between(lambda a, b: homemade.around(a, b) * a[:, :1])}, "symmetric, and 0 on the diagonal"),
        ({"meet": between(lambda a, b: homemade.around(a, b) * len(a))}, "rows that are asked for"),
        ({"meet": lambda self, source: Told(slice(None, None, -1))}, r"near\(\) .*the order"),
        ({"meet": lambda self, source: Told(slice(1, None))}, r"near\(\) .*which pairs"),
        ({"arguments": lambda self: {"angles": self.angles, "heights": self.heights + 1}}, "arguments.*not equal"),
        ({"__reduce__": lambda self: (lp.Grid, (4,))}, "pickle: not equal"),
    ],
    ids=["dtype", "shape", "shared", "diagonal", "asymmetric", "rows", "order", "missing", "arguments", "pickle"],
)
def test_a_broken_rule_is_told(methods: dict[str, object], rule: str) -> None:
    check_geometry(broken())
    with pytest.raises(AssertionError, match=rule):
        check_geometry(broken(**methods))


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


def test_tensors_are_kept_apart_from_the_config() -> None:
    tracts = lp.Distances(torch.rand(300, 300))
    config, tensors = to_config(tracts)
    assert config == {"type": "Distances", "lengths": {"tensor": "lengths"}}
    assert torch.equal(tensors["lengths"], tracts.distances())
    config, tensors = to_config(lp.Points(reference.XYZ).with_channels(2))
    assert config["base"] == {"type": "Points", "xyz": {"tensor": "base.xyz"}, "metric": "euclidean"}
    assert list(tensors) == ["base.xyz"]
    with pytest.raises(ValueError, match=r"tensors: got no tensor 'base.xyz', expected the tensors"):
        from_config(config)


@pytest.mark.parametrize(
    "config",
    [
        {"type": "Points", "xyz": [[0.0]], "metric": {"function": "os:system"}},
        {"type": "os:system", "command": "true"},
        {"type": "reference:taxi"},
        {"type": "Channels", "base": {"type": "homemade:Cylinder"}, "channels": 2},
    ],
    ids=str,
)
def test_a_file_reaches_no_function_by_itself(config: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"geometry: got '.*', which is not built in, expected it to be passed by the"):
        from_config(config)
    with pytest.raises(ValueError, match=r"custom: got .*, expected a subclass of Geometry"):
        from_config({"type": "reference:taxi"}, custom=CUSTOM)


def test_a_description_without_end_is_refused() -> None:
    config: dict[str, object] = {"type": "Grid", "shape": [2]}
    for _ in range(20_000):
        config = {"type": "Channels", "base": config, "channels": 1}
    with pytest.raises(ValueError, match="geometry: got a description of too many geometries"):
        from_config(config)
    while isinstance(config, dict) and "base" in config:  # or it would be taken apart one within another
        config = config.pop("base")  # type: ignore[assignment]


# --- a geometry of a user's own --------------------------------------------------------------------------------------

CYLINDER = homemade.Cylinder(*zip(*reference.AROUND, strict=True))


def test_a_users_geometry_is_saved_under_its_own_name() -> None:
    config = CYLINDER.config()
    assert config["type"] == "homemade:Cylinder"
    with pytest.raises(ValueError, match="geometry: got 'homemade:Cylinder', which is not built in"):
        from_config(config)
    again = from_config(config, custom=CUSTOM)
    assert again == CYLINDER
    assert repr(again) == "Cylinder(4 units)"
    assert again != homemade.Cylinder(CYLINDER.angles, CYLINDER.heights, power=3)
    assert pickle.loads(pickle.dumps(CYLINDER)) == CYLINDER


def test_a_users_geometry_in_a_layer() -> None:
    layer = lp.LocalityLinear(4, 4, source=CYLINDER, cost=homemade.Logarithmic().within(2.5), dtype=torch.float64)
    d = torch.tensor(reference.cylinder(reference.AROUND, reference.AROUND), dtype=torch.float64)
    assert_close(layer.prior, torch.where(d <= 2.5, 1 / (1 + torch.log(1 + d)), 0.0))
    assert CYLINDER.with_channels(2).distances().shape == (8, 8)
    assert CYLINDER.neighbour_distance > 0


def test_a_users_geometry_joins_the_others() -> None:
    """It may say how it meets a kind that does not know it; points meet anything that has positions."""
    points = lp.Points(reference.PLANE)
    assert_close(points.distances(CYLINDER), torch.cdist(points.positions, CYLINDER.positions))
    assert_close(CYLINDER.distances(points), torch.cdist(CYLINDER.positions, points.positions))

    class Beside(homemade.Cylinder):
        def met_by(self, target: Geometry) -> ByRow | None:
            if isinstance(target, lp.Grid):
                return ByRow((len(target), len(self)), lambda rows: rows[:, None].double().expand(-1, len(self)))
            return None

    beside = Beside(CYLINDER.angles, CYLINDER.heights)
    assert lp.Grid(3).distances(beside).tolist() == [[0] * 4, [1] * 4, [2] * 4]
    for target, source in ((lp.Grid(3), CYLINDER), (CYLINDER, lp.Grid(3)), (beside, lp.Grid(3))):
        with pytest.raises(ValueError, match=r"target: got .* which cannot meet: no distance is defined"):
            target.distances(source)


@pytest.mark.parametrize(
    "given", [lambda r: r, lambda r: -torch.ones(len(r), 4), lambda r: None], ids=["shape", "<0", "-"]
)
def test_distances_of_a_users_own_are_checked(given: Callable[[torch.Tensor], torch.Tensor]) -> None:
    class Wrong(homemade.Cylinder):
        def meet(self, source: Geometry) -> ByRow:
            return ByRow((4, 4), given)

    with pytest.raises(ValueError, match=r"distances: got .*, expected (a tensor|distances of at least 0)"):
        Wrong(CYLINDER.angles, CYLINDER.heights).distances()
    nothing = type("Nothing", (homemade.Cylinder,), {"meet": lambda self, source: torch.zeros(4, 4)})
    with pytest.raises(TypeError, match=r"meet: got .*, expected a Meeting, such as Coordinates, from Nothing"):
        nothing(CYLINDER.angles, CYLINDER.heights).distances()


# --- what is computed is shared, and safe ----------------------------------------------------------------------------


@kinds
def test_distances_are_computed_once_while_somebody_holds_them(geometry: Geometry) -> None:
    d = geometry.distances()
    assert geometry.distances() is d
    assert geometry.distances(geometry) is d
    assert pickle.loads(pickle.dumps(geometry)) == copy.deepcopy(geometry) == geometry
    before, gone = d.clone(), weakref.ref(d)
    d += 1  # against the rule, and seen
    assert torch.equal(geometry.distances(), before)
    del d
    assert gone() is None


@kinds
def test_a_default_device_changes_nothing(geometry: Geometry) -> None:
    expected = geometry.distances(rows=torch.arange(len(geometry)))
    config = geometry.config()
    with torch.device("meta"):
        again = from_config(config, custom=CUSTOM)
        d, other = again.distances(), again.distances(from_config(config, custom=CUSTOM))
        found = [*near(again, again, 1.5)]
        neighbours = again.neighbour_distance if d.shape[0] == d.shape[1] else None
    assert torch.equal(d, expected)
    assert torch.equal(other, expected)
    assert {t.device.type for block in found for t in block} == {"cpu"}
    assert neighbours in (None, geometry.neighbour_distance)


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
    radius = 1.7
    there = radius * torch.tensor([[0.0, 0.6, 0.8], [0.0, -0.6, -0.8]], dtype=torch.float64)
    d = great_circle(radius, there, there)
    assert d[0, 0] == 0
    assert_close(d[0, 1], torch.tensor(math.pi * radius, dtype=torch.float64), rtol=1e-15, atol=0)


def test_graphs_take_sparse_matrices_and_leave_islands_out_of_reach() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    graph = lp.Graph(reference.EDGES)
    for made in (sparse.csr_array, sparse.csc_matrix, sparse.coo_array):
        assert lp.Graph(made(reference.EDGES)) == graph
    assert graph.distances()[4, :4].isinf().all()
    assert graph.distances()[1, 3] == pytest.approx(1.3)


def test_graphs_take_networkx_graphs() -> None:
    networkx = pytest.importorskip("networkx")
    net = networkx.Graph()
    net.add_nodes_from("abcde")
    net.add_weighted_edges_from([("b", "a", 1.0), ("b", "c", 0.7), ("d", "b", 2.5), ("c", "d", 0.6)])
    assert lp.Graph(net) == lp.Graph(reference.EDGES)
    assert torch.equal(lp.Graph(networkx.path_graph(5)).distances(), lp.Line(5).distances())  # edges of length 1
    several = networkx.MultiGraph([(0, 1, {"weight": 3.0}), (1, 0, {"weight": 2.0}), (0, 0)])
    assert lp.Graph(several).distances().tolist() == [[0, 2], [2, 0]]


def test_a_large_sparse_graph_is_made_without_a_matrix() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    n = 1_000_000
    adjacency = sparse.coo_array((np.ones(2), ([0, 1], [1, 0])), shape=(n, n))
    graph = lp.Graph(adjacency)
    assert repr(graph) == "Graph(1000000 nodes, 1 edges)"
    with pytest.raises(RuntimeError, match=r"The 1,000,000 × 1,000,000 distances .* would take 7,451 GiB, more than"):
        graph.distances()


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


def graph_of(nodes: int, ends: object, lengths: object) -> Geometry:
    """A graph as a file describes it."""
    given = {"ends": {"tensor": ends}, "lengths": {"tensor": lengths}}
    return from_config({"type": "Graph", "nodes": nodes, **given})


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: lp.Grid(), r"Grid\(\*shape\): got no sizes, expected"),
        (lambda: lp.Grid(0, 3), r"Grid\(\*shape\): got 0, expected a whole number from 1 to 2,147,483,647"),
        (lambda: lp.Grid(3, periodic="no"), "periodic: got no, expected True or False"),
        (lambda: lp.Grid(3, 4, periodic=(True, "no")), "periodic: got no, expected True or False"),
        (lambda: lp.Grid(3, 4, periodic=(1, 0)), "periodic: got 1, expected True or False"),
        (lambda: lp.Grid(3, spacing=np.ma.array([1.0], mask=[True])), "spacing: got an array with 1 masked values"),
        (
            lambda: lp.Points(torch.ones(2, 2, requires_grad=True)),
            "xyz: got a tensor that requires a gradient, expected",
        ),
        (lambda: lp.Points([[1.0, 2j]]), "xyz: got list of complex128, expected coordinates"),
        (lambda: lp.Points(torch.ones(2, 2) * 1j), "xyz: got torch.complex64, torch.strided, expected .* real"),
        (lambda: lp.Points(np.ma.array([[1.0, 2.0]], mask=[[0, 1]])), "xyz: got an array with 1 masked values"),
        (lambda: lp.Distances(np.ma.array([[1.0, 2.0]], mask=[[0, 1]])), "lengths: got an array with 1 masked values"),
        (
            lambda: lp.Graph(np.ma.array([[0.0, 1], [1, 0]], mask=[[0, 1], [1, 0]])),
            "adjacency: got an array with 2 masked",
        ),
        (lambda: lp.Graph(torch.ones(2, 2, requires_grad=True)), "adjacency: got a tensor that requires a gradient"),
        (lambda: lp.Grid(10**9, 10**9), r"Grid\(\*shape\): got 1000000000 × 1000000000 cells, expected at most 2,147"),
        (lambda: lp.Grid(3).distances("sheet"), "other: got sheet, expected a geometry"),
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
        (lambda: lp.Points(torch.ones(2, 2, device="meta")), "xyz: got Tensor, expected"),
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
        (lambda: graph_of(2, [[0], [5]], [1.0]), "ends: got nodes from 0 to 5, expected nodes from 0 to 1"),
        (lambda: graph_of(2, [[0], [-1]], [1.0]), "ends: got nodes from -1 to 0, expected nodes from 0 to 1"),
        (
            lambda: graph_of(2, [[0], [1.5]], [1.0]),
            "ends: got .*, expected the numbers of two nodes for each of 1 edges",
        ),
        (lambda: graph_of(2, [[0], [1]], [0.0]), "lengths: got .*, expected finite lengths above 0"),
        (lambda: graph_of(2, [[0, 1], [1, 0]], [1.0]), "ends: got Tensor .*, expected the numbers of two nodes"),
        (lambda: from_config({"type": "Graph", "nodes": 2, "edges": [[0, 5, 1.0]]}), "values of a Graph"),
        (lambda: from_config({"type": "Points", "xyz": {"tensor": [["a"]]}}), "geometry: got .*expected nested lists"),
        (lambda: from_config(None), "geometry: got None"),
        (
            lambda: from_config({"type": "Points", "xyz": [[0.0]], "metric": "nowhere:f"}),
            "metric: got 'nowhere:f', exp",
        ),
        (lambda: lp.Points([[0.0]], lambda a, b: torch.cdist(a, b)).config(), "metric: .*cannot be saved"),
        (
            lambda: lp.Distances([[1.0]]).positions,
            r"geometry: got Distances\(1 × 1\), which knows only distances, expected",
        ),
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
        (lp.Mesh(reference.FOLDED, reference.FACES), lp.Grid(2), "units on a mesh meet units on the same mesh"),
        (lp.Points(reference.XYZ), lp.Mesh(reference.FOLDED, reference.FACES), "on the same mesh"),
        (
            lp.Mesh(reference.FOLDED, reference.FACES),
            lp.Mesh(reference.FOLDED[:6], reference.FACES[:4]),
            "units on a mesh meet units on the same mesh",
        ),
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


@pytest.mark.parametrize("rows", [[0], "all", torch.tensor([0.0]), torch.tensor(0), torch.tensor([[0]])], ids=repr)
def test_rows_are_numbers_of_units(rows: object) -> None:
    with pytest.raises(ValueError, match=r"rows: got .*, expected numbers of units, a tensor \(r,\) of int64"):
        lp.Grid(3).distances(rows=rows)  # type: ignore[arg-type]


BAD: list[object] = [
    None,
    "word",
    b"word",
    -1,
    0,
    2.5,
    NAN,
    math.inf,
    10**12,
    10**400,
    1j,
    True,
    [],
    [[]],
    {},
    {"a": 1},
    object(),
    print,
    np.zeros(3),
    np.zeros((2, 2), dtype=object),
    np.array(["a"]),
    np.ma.array([1.0, 2.0], mask=[True, False]),
    np.float64(-1),
    torch.zeros(0),
    torch.tensor(2.5),
    torch.tensor(1j),
    torch.ones(2, 2, requires_grad=True),
    torch.ones(2, 2, device="meta"),
    torch.eye(2).to_sparse(),
    range(10**9),
    iter([1]),
    lp.Grid(2),
    lp.cost.Linear(),
]
#: Every argument of every public constructor: the name in the error, and a call with one bad value.
CONSTRUCTORS: dict[str, Callable[[object], object]] = {
    "Grid": lambda bad: lp.Grid(bad),  # type: ignore[arg-type]
    "Grid second": lambda bad: lp.Grid(3, bad),  # type: ignore[arg-type]
    "Grid periodic": lambda bad: lp.Grid(3, periodic=bad),  # type: ignore[arg-type]
    "Grid spacing": lambda bad: lp.Grid(3, spacing=bad),  # type: ignore[arg-type]
    "Grid units": lambda bad: lp.Grid(3, units=bad),  # type: ignore[arg-type]
    "Line": lambda bad: lp.Line(bad),  # type: ignore[arg-type]
    "HexGrid": lambda bad: lp.HexGrid(bad, 2),  # type: ignore[arg-type]
    "HexGrid cols": lambda bad: lp.HexGrid(2, bad),  # type: ignore[arg-type]
    "Sphere": lambda bad: lp.Sphere(bad),  # type: ignore[arg-type]
    "Points": lambda bad: lp.Points(bad),
    "Points metric": lambda bad: lp.Points([[0.0]], bad).distances(),  # type: ignore[arg-type]
    "Graph": lambda bad: lp.Graph(bad),
    "Distances": lambda bad: lp.Distances(bad),
    "Mesh": lambda bad: lp.Mesh(bad, reference.FACES),
    "Mesh faces": lambda bad: lp.Mesh(reference.FOLDED, bad),
    "Mesh n": lambda bad: lp.Mesh(reference.FOLDED, reference.FACES, n=bad if bad is not None else 0),  # type: ignore[arg-type]
    "Mesh units": lambda bad: lp.Mesh(reference.FOLDED, reference.FACES, units=bad),
    "Mesh inflated": lambda bad: lp.Mesh(reference.FOLDED, reference.FACES, inflated=bad),
    "Mesh curvature": lambda bad: lp.Mesh(reference.FOLDED, reference.FACES, curvature=bad),
    "Mesh part": lambda bad: lp.Mesh(reference.FOLDED, reference.FACES).part(bad),
    "fsaverage": lambda bad: lp.Mesh.fsaverage(bad),  # type: ignore[arg-type]
    "Wired": lambda bad: lp.Wired(bad, lp.Grid(2)),
    "Wired target": lambda bad: lp.Wired([[1, 0], [0, 1]], bad),  # type: ignore[arg-type]
    "Wired source": lambda bad: lp.Wired([[1, 0], [0, 1]], lp.Grid(2), bad),  # type: ignore[arg-type]
    "Shuffled": lambda bad: lp.Shuffled(bad),  # type: ignore[arg-type]
    "Shuffled source": lambda bad: lp.Shuffled(lp.Grid(2), bad),  # type: ignore[arg-type]
    "Shuffled seed": lambda bad: lp.Shuffled(lp.Grid(2), seed=bad),  # type: ignore[arg-type]
    "Channels": lambda bad: Channels(bad, 2),  # type: ignore[arg-type]
    "with_channels": lambda bad: lp.Grid(2).with_channels(bad),  # type: ignore[arg-type]
    "default_sheet": lambda bad: default_sheet(bad),  # type: ignore[arg-type]
    "Linear": lambda bad: lp.cost.Linear(bad),  # type: ignore[arg-type]
    "within": lambda bad: lp.cost.Linear().within(bad),  # type: ignore[arg-type]
    "Power": lambda bad: lp.cost.Power(1, bad),  # type: ignore[arg-type]
    "LinearDecay": lambda bad: lp.cost.LinearDecay(bad),  # type: ignore[arg-type]
    "Custom": lambda bad: lp.cost.Custom(bad).cost([1.0]),  # type: ignore[arg-type]
    "signal": lambda bad: lp.cost.Linear().signal(bad),
    "as_cost": lambda bad: lp.cost.as_cost("cost", bad),
    "from_config": lambda bad: from_config(bad),  # type: ignore[arg-type]
    "cost.from_config": lambda bad: lp.cost.from_config(bad),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("make", CONSTRUCTORS.values(), ids=CONSTRUCTORS)
def test_a_bad_argument_is_answered_in_one_clear_line_at_once(make: Callable[[object], object]) -> None:
    """Each bad value is refused by name, or it is a good value for this argument."""
    refused = 0
    for bad in BAD:
        began = time.perf_counter()
        try:
            make(bad)
        except (ArgumentError, ArgumentTypeError) as error:
            said = str(error)
            refused += 1
        else:
            said = ""
        assert re.fullmatch(r"|[^\n]{1,60}: got [^\n]{1,300}, expected [^\n]{1,300}", said), said
        assert time.perf_counter() - began < 1, bad
    assert refused >= len(BAD) / 2
