"""Surfaces: their distances against closed forms and libigl's, points spread over them, and what is no surface."""

from __future__ import annotations

import json
import math
import pickle
import re
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from torch.testing import assert_close

import locality_prior as lp
from locality_prior.geometry import Geometry, _exact, _surface, _ways, near
from locality_prior.geometry.meeting import euclidean
from locality_prior.geometry.points import great_circle

Array = np.ndarray[Any, np.dtype[Any]]
PLATE = [[0.0, 0, 0], [3, 0, 0], [3, 4, 0], [0, 4, 0]], [[0, 1, 2], [0, 2, 3]]


def icosphere(times: int) -> tuple[Array, Array]:
    """An icosahedron whose faces are divided into four, so many times, with its vertices on the unit sphere."""
    g = (1 + math.sqrt(5)) / 2
    corners = [(0, a, b * g) for a in (-1, 1) for b in (-1, 1)]
    v = np.array([np.roll(c, k) for k in range(3) for c in corners]) / math.hypot(1, g)
    side = 2 / math.hypot(1, g) * 1.01
    d = np.linalg.norm(v[:, None] - v, axis=-1) < side
    f = [(i, j, k) for i in range(12) for j in range(i) for k in range(j) if d[i, j] and d[j, k] and d[i, k]]
    faces = np.array(f)
    for _ in range(times):
        ends = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        edges, number = np.unique(ends, axis=0, return_inverse=True)
        (ab, bc, ca), (a, b, c) = number.reshape(-1, 3).T + len(v), faces.T
        middle = v[edges].sum(1)
        v = np.concatenate([v, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
        faces = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])
    return v, faces


def hills(n: int, height: float, seed: int = 0, narrow: float = 1.0) -> tuple[Array, Array]:
    """A random triangulation of a rectangle, ``narrow`` times as wide as long, raised to hills."""
    spatial = pytest.importorskip("scipy.spatial")
    xy = np.random.default_rng(seed).random((n, 2))
    faces = spatial.Delaunay(xy).simplices
    z = height * np.sin(9 * xy[:, 0]) * np.cos(7 * xy[:, 1])
    return np.column_stack([xy * [narrow, 1], z]), faces[_angle(np.column_stack([xy * [narrow, 1], z])[faces]) > 1e-3]


def _angle(corners: Array) -> Array:
    sides = np.sort([np.linalg.norm(corners[:, k] - corners[:, k - 1], axis=1) for k in range(3)], axis=0)
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    angle: Array = np.linalg.norm(normal, axis=1) / sides[1] / sides[2]
    return angle


def between(mesh: Geometry, radius: float, source: Geometry | None = None) -> torch.Tensor:
    """The distances of near pairs as a matrix, inf elsewhere."""
    source = mesh if source is None else source
    d = torch.full((len(mesh), len(source)), math.inf, dtype=torch.float64)
    numbers = []
    for i, j, lengths in near(mesh, source, radius):
        d[i, j] = lengths
        numbers.append(i * len(source) + j)
    assert (torch.cat(numbers).diff() > 0).all()  # each pair once, in row-major order
    return d


# --- distances -------------------------------------------------------------------------------------------------------


def test_a_polyhedron_comes_near_the_sphere() -> None:
    """Ways along the faces are shorter than along the sphere around them, by a share that falls as the squared side."""
    short = []
    for times in (1, 2, 3):
        mesh = lp.Mesh(*icosphere(times))
        d, arc = mesh.distances(rows=torch.arange(2)), great_circle(1.0, mesh.positions[:2], mesh.positions)
        assert (d <= arc + 1e-12).all()
        short.append(float(((arc - d) / arc.clamp(min=0.1)).max()))
    assert short[2] < 0.003
    assert short[0] / short[1] == pytest.approx(4, rel=0.3)
    assert short[1] / short[2] == pytest.approx(4, rel=0.3)


@pytest.mark.parametrize("narrow", [1.0, 0.05])
def test_on_a_plate_distances_are_euclids(narrow: float) -> None:
    """Also where faces are thin, and ways cross many whose corners are all far away."""
    vertices, faces = hills(90, 0.0, narrow=narrow)
    mesh = lp.Mesh(vertices, faces)
    inner = torch.from_numpy(np.flatnonzero(np.abs(vertices[:, :2] / [narrow, 1] - 0.5).max(1) < 0.3))
    d, straight = mesh.distances(), euclidean(mesh.positions, mesh.positions)
    assert_close(d[inner][:, inner], straight[inner][:, inner], rtol=1e-9, atol=1e-12)
    for radius in (0.02, 0.2):
        assert torch.equal(between(mesh, radius), torch.where(d <= radius, d, math.inf))


@pytest.mark.parametrize(("height", "n"), [(0.1, None), (0.6, None), (0.3, 60)])
def test_distances_are_libigls(height: float, n: int | None) -> None:
    igl = pytest.importorskip("igl")
    mesh = lp.Mesh(*hills(100, height, seed=3), n=n)
    none, units = np.zeros(0, dtype=np.int64), mesh.units.numpy()
    v, f = mesh.vertices.numpy(), mesh.faces.numpy()
    expected = [igl.exact_geodesic(v, f, units[k : k + 1], none, units, none) for k in range(10)]
    assert_close(mesh.distances()[:10], torch.tensor(np.array(expected)).reshape(10, -1), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("exact", [True, False])
def test_near_pairs_and_rows_are_those_of_the_whole_to_the_bit(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_surface, "exact", lambda: exact)
    mesh = lp.Mesh(*hills(90, 0.5, seed=1 + exact))
    d = mesh.distances()
    assert torch.equal(d, d.T)
    assert (d.diagonal() == 0).all()
    for radius in (0.0, 0.05, 0.3, 0.2, 1.0, 9.0):
        assert torch.equal(between(mesh, radius), torch.where(d <= radius, d, math.inf))
    assert_close(mesh.distances(rows=torch.tensor([7, 3])), d[[7, 3]], rtol=1e-13, atol=1e-14)
    backwards = torch.arange(89, 30, -1)
    one, other = mesh.part(torch.arange(70)), mesh.part(backwards)
    assert torch.equal(one.distances(other), other.distances(one).T)
    assert_close(one.distances(other), d[:70][:, backwards], rtol=1e-13, atol=1e-14)
    assert torch.equal(
        between(one, 0.3, other), torch.where((x := one.distances(other)) <= 0.3 * (1 + 1e-9), x, math.inf)
    )
    again = lp.Mesh(mesh.vertices, mesh.faces)
    again._surface.ways.kept.clear()
    assert torch.equal(again.distances(), d)


def test_without_pygeodesic_ways_lead_along_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = lp.Mesh(*PLATE, n=8)
    assert repr(exact) == "Mesh(12 vertices, 18 faces, 8 units)"
    d = exact.distances()
    exact._surface.__dict__.pop("ways", None)
    monkeypatch.setattr(_surface, "exact", lambda: False)
    mesh = lp.Mesh(exact.vertices, exact.faces, units=exact.units)
    assert repr(mesh) == "Mesh(12 vertices, 18 faces, 8 units, along edges)"
    v = mesh.vertices
    edges = torch.zeros(len(v), len(v), dtype=torch.float64)
    for face in mesh.faces.tolist():
        for a, b in zip(face, [*face[1:], face[0]], strict=True):
            edges[a, b] = edges[b, a] = (v[a] - v[b]).norm()
    expected = torch.tensor(reference.floyd_warshall(edges.tolist()), dtype=torch.float64)[mesh.units][:, mesh.units]
    assert_close(mesh.distances(), expected)
    assert (mesh.distances() >= d - 1e-12).all()
    assert (mesh.distances() > d + 1e-3).any()
    exact._surface.__dict__.pop("ways", None)


def test_parts_of_a_surface_are_out_of_reach_of_each_other() -> None:
    vertices, faces = PLATE
    both = [*vertices, *[[x, y, 0.1] for x, y, _ in vertices]]
    mesh = lp.Mesh(both, [*faces, *[[k + 4 for k in f] for f in faces]])
    d = mesh.distances()
    assert d[:4, 4:].isinf().all()
    assert torch.equal(d[:4, :4], lp.Mesh(vertices, faces).distances())
    assert torch.equal(between(mesh, 4.5), torch.where(d <= 4.5, d, math.inf))
    assert mesh.neighbour_distance == pytest.approx(3)
    assert mesh.part([0, 4]).neighbour_distance == 1.0  # no unit has another
    layer = lp.LocalityLinear(8, 8, source=mesh, target=mesh)
    assert (layer.prior[:4, 4:] == 0).all()


def test_neighbours_are_found_without_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    for mesh in (lp.Mesh(*hills(100, 0.4, seed=5)), lp.Mesh(*icosphere(2), n=7), lp.Mesh(*PLATE).part([2])):
        expected = Geometry.neighbour_distance.fget(mesh)  # type: ignore[attr-defined]
        with monkeypatch.context() as patch:
            patch.setattr(_ways.Shortest, "rows", lambda self, rows: pytest.fail("all pairs"))
            assert lp.Mesh(mesh.vertices, mesh.faces, units=mesh.units).neighbour_distance == expected


def test_a_cost_that_ends_asks_for_near_pairs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = lp.Mesh(*hills(120, 0.3, seed=7))
    retina = mesh.part(torch.arange(80))
    d, wide = mesh.distances(retina), retina.with_channels(3)
    monkeypatch.setattr(_ways.Shortest, "rows", lambda self, rows: pytest.fail("all pairs"))
    for backend in ("dense", "wires", "windowed"):
        layer = lp.LocalityLinear(80, 120, source=retina, target=mesh, cost="linear:0.1@0.25", backend=backend)
        dense = layer.prior if backend == "dense" else layer.pattern.scatter(layer.prior)  # type: ignore[union-attr]
        assert_close(dense.double(), torch.where(d <= 0.25, 1 / (1 + d / 0.1), 0.0), rtol=1e-6, atol=0)
        assert lp.mean_wire_length(layer) < 0.25
    assert torch.equal(between(mesh, 0.25, wide), torch.where(d <= 0.25, d, math.inf).repeat(1, 3))
    assert torch.equal(between(wide, 0.25, mesh), torch.where(d <= 0.25, d, math.inf).T.repeat(3, 1))


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = lp.Mesh(*hills(100, 0.3, seed=11))
    monkeypatch.setattr(_ways, "KEPT", 5000)
    for k in range(10):
        between(mesh.part(torch.arange(40 + k)), 0.3)
    assert 1 < len(mesh._surface.ways.kept) < 10
    monkeypatch.setattr("locality_prior._check._memory", lambda: 1 << 14)
    with pytest.raises(RuntimeError, match=r"More than \d,\d+ pairs of units at most 2 apart would .* ends earlier"):
        between(mesh, 2.0)


# --- several processes -----------------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that were started, which are as soon as there is work for two."""
    all_started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            all_started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    monkeypatch.setattr(_ways, "ALONE", 0.0)
    monkeypatch.setattr(_ways, "TILE", 8)
    monkeypatch.setattr(_ways, "cores", lambda: 2)
    return all_started


def test_processes_find_the_same_and_end(started: list[subprocess.Popen[bytes]]) -> None:
    mesh = lp.Mesh(*icosphere(1))
    near_d, d = between(mesh, 0.7), mesh.distances()
    assert len(started) == 4
    assert all(worker.poll() is not None for worker in started)
    assert torch.equal(near_d, torch.where(d <= 0.7, d, math.inf))
    mesh._surface.ways.kept.clear()
    search = _exact.Search(mesh._surface.vertices, mesh._surface.faces, np.arange(len(mesh)))
    counts, vertices, lengths = search.from_each(np.array([5, 30]), math.inf)
    assert counts.tolist() == [len(mesh)] * 2
    assert torch.equal(d[5, 5:], torch.from_numpy(lengths[vertices.argsort(kind="stable")][::2])[5:])


def test_a_process_that_dies_is_told_of(
    started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "dies.py").write_text("import sys\nsys.stdin.buffer.read(100)\nsys.exit(3)\n")
    monkeypatch.setattr(_exact, "__file__", str(tmp_path / "dies.py"))
    with pytest.raises(RuntimeError, match="A process that measured distances ended early"):
        between(lp.Mesh(icosphere(2)[0] * 2, icosphere(2)[1]), 1.0)
    assert all(worker.poll() is not None for worker in started)


# --- points spread over a surface ------------------------------------------------------------------------------------


def area(mesh: lp.Mesh) -> float:
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    return float(torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2)


def nearest(mesh: lp.Mesh) -> torch.Tensor:
    d = mesh.distances().clone()
    return d.fill_diagonal_(math.inf).min(1).values


@pytest.mark.parametrize(("times", "n"), [(None, 1), (None, 150), (0, 2), (1, 120), (3, 300)])
def test_points_are_new_vertices_of_the_same_surface(times: int | None, n: int) -> None:
    surface = PLATE if times is None else icosphere(times)
    plain, mesh = lp.Mesh(*surface), lp.Mesh(*surface, n=n)
    old = len(plain)
    assert len(mesh) == n
    assert len(mesh.vertices) == old + n
    assert mesh.units.tolist() == list(range(old, old + n))
    assert torch.equal(mesh.positions, mesh.vertices[mesh.units])
    assert torch.equal(mesh.vertices[:old], plain.vertices)
    assert area(mesh) == pytest.approx(area(plain), rel=1e-12)
    same = lp.Mesh(mesh.vertices, mesh.faces, units=torch.arange(0, old, 1 + old // 12))
    assert_close(same.distances(), plain.part(torch.arange(0, old, 1 + old // 12)).distances(), rtol=1e-9, atol=1e-9)


def test_points_are_even_the_first_of_them_too() -> None:
    mesh = lp.Mesh(*icosphere(1), n=120)  # whose faces are turned at random
    for part in (mesh, mesh.part(torch.arange(40))):
        gaps, ideal = nearest(part), math.sqrt(8 * math.pi / math.sqrt(3) / len(part))  # of a hexagonal lattice
        assert gaps.min() > 0.6 * ideal
        assert gaps.std() < 0.15 * gaps.mean()  # 0.52 for points at random
    assert lp.Mesh(*icosphere(1), n=120) == mesh


def test_many_points_in_a_face_leave_no_border_empty() -> None:
    x, y = lp.Mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], PLATE[1], n=1000).positions[:, :2].T
    for border in (torch.minimum(x, y), 1 - torch.maximum(x, y), (x - y).abs()):
        assert 15 <= int((border < 0.02).sum()) <= 55  # about 39 or 40 on average


def test_two_banks_that_face_each_other_get_their_points_apart() -> None:
    """Two plates closer to each other than neighbours are: each is as even as one alone."""
    vertices, faces = PLATE
    both = [*vertices, *[[x, y, 0.05] for x, y, _ in vertices]]
    mesh = lp.Mesh(both, [*faces, *[[k + 4 for k in f[::-1]] for f in faces]], n=200)
    upper = mesh.positions[:, 2] > 0.01
    assert abs(int(upper.sum()) - 100) <= 5
    assert nearest(mesh.part(upper)).min() > 0.6 * nearest(lp.Mesh(vertices, faces, n=100)).min()


def test_what_is_drawn_goes_along_with_new_vertices() -> None:
    v, f = icosphere(1)
    mesh = lp.Mesh(v, f, n=30, inflated=2 * v, curvature=v[:, 0])
    assert mesh.inflated is not None
    assert mesh.curvature is not None
    assert_close(mesh.inflated, 2 * mesh.vertices)
    assert_close(mesh.curvature, mesh.vertices[:, 0])
    part = mesh.part([3, 1])
    assert torch.equal(part.inflated, mesh.inflated)  # type: ignore[arg-type]
    assert lp.Mesh(v, f).inflated is lp.Mesh(v, f).curvature is None


# --- one surface -----------------------------------------------------------------------------------------------------


def test_parts_and_copies_share_a_surface() -> None:
    v, f = icosphere(1)
    mesh = lp.Mesh(v, f, n=20)
    again = lp.Mesh(torch.from_numpy(v), f.tolist(), n=20)
    assert again == mesh
    assert again._surface is mesh._surface is pickle.loads(pickle.dumps(mesh))._surface
    assert pickle.loads(pickle.dumps(mesh)) == mesh
    assert b"kept" not in pickle.dumps(mesh)
    part = mesh.part([5, 2])
    assert part.units.tolist() == mesh.units[[5, 2]].tolist()
    assert part == mesh.part(torch.tensor([5, 2])) != mesh.part([2, 5])
    right = (mesh.positions[:, 0] > 0).numpy()
    for mask in (torch.from_numpy(right), right, list(right), tuple(right.tolist())):
        assert mesh.part(mask) == mesh.part(np.flatnonzero(right))
    assert part.part([1]).units.tolist() == mesh.units[[2]].tolist()
    assert len(lp.Mesh(v, f)) == 42
    v[0] *= 2  # the mesh holds its own
    assert torch.equal(mesh.vertices, again.vertices)
    for value in (mesh.vertices, mesh.faces, mesh.units, mesh.positions):
        value.zero_()
    assert again == mesh == lp.Mesh(*icosphere(1), n=20)


def test_zero_has_no_sign_on_a_surface() -> None:
    mesh, other = lp.Mesh(*PLATE), lp.Mesh(torch.tensor(PLATE[0]) * torch.tensor([1, 1, -1]), PLATE[1])
    assert mesh == other
    assert torch.equal(mesh.distances(other), mesh.distances())


def test_a_layer_on_a_mesh_is_saved_as_tensors(tmp_path: Path) -> None:
    v, f = icosphere(2)
    mesh = lp.Mesh(v, f, n=60, inflated=v, curvature=v[:, 2])
    layer = lp.LocalityLinear(20, 60, source=mesh.part(torch.arange(20)), target=mesh, cost="linear@1.5")
    lp.save(layer, tmp_path / "layer.safetensors")
    again = lp.load(tmp_path / "layer.safetensors")
    assert again.target == mesh  # type: ignore[union-attr]
    assert again.target._surface is again.source._surface is mesh._surface  # type: ignore[union-attr]
    assert torch.equal(again.prior, layer.prior)  # type: ignore[union-attr]
    raw = (tmp_path / "layer.safetensors").read_bytes()
    described = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]["locality-prior/1"]
    assert len(described) < 1000
    model = lp.LocalityLinear(20, 60, source=mesh.part(torch.arange(1, 21)), target=mesh, cost="linear@1.5")
    with pytest.raises(ValueError, match=r"model: got source = .*, expected .*, as in the file"):
        lp.load(tmp_path / "layer.safetensors", model)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda v, f: lp.Mesh([*v[:3], [0, math.nan, 0]], f),
            r"vertices: got \[0.0, nan, 0.0\] at vertex 3, expected fin",
        ),
        (
            lambda v, f: lp.Mesh(v, [[0, 1, 2], [0, 2, 4]]),
            "faces: got vertices from 0 to 4, expected vertices from 0",
        ),
        (
            lambda v, f: lp.Mesh(v, [[0, 1, 2], [0, 2, -1]]),
            "faces: got vertices from -1 to 2, expected vertices from 0",
        ),
        (lambda v, f: lp.Mesh(v, f[:1]), "faces: got none at vertex 3, expected each vertex in a face"),
        (lambda v, f: lp.Mesh(v, [*f, f[0][::-1]]), r"faces: got face 0 of vertices \[0, 1, 2\] more than once, expec"),
        (
            lambda v, f: lp.Mesh(v, [*f, [1, 1, 2]]),
            r"faces: got face 2 of vertices \[1, 1, 2\], which has no area, exp",
        ),
        (
            lambda v, f: lp.Mesh([*v, [1.5, 0, 0]], [*f, [0, 1, 4]]),
            r"faces: got face 2 of vertices \[0, 1, 4\], which has no area, expected faces with an area",
        ),
        (
            lambda v, f: lp.Mesh([*v, [0, 0, 1]], [*f, [0, 2, 4]]),
            "faces: got 3 faces at the edge from vertex 0 to 2, expected at most two at each edge",
        ),
        (
            lambda v, f: lp.Mesh([*v, [9, 0, 1], [9, 1, 1]], [*f, [2, 4, 5]]),
            "faces: got faces that touch in vertex 2 alone, expected faces around a vertex joined by edges",
        ),
        (lambda v, f: lp.Mesh([p[:2] for p in v], f), r"vertices: got shape \(4, 2\), expected shape \(V, 3\)"),
        (lambda v, f: lp.Mesh(v, [[0, 1, 2, 3]]), r"faces: got shape \(1, 4\), expected shape \(F, 3\)"),
        (lambda v, f: lp.Mesh(v, np.array(f) * 1.0), "faces: got ndarray of float64, expected numbers of vertices"),
        (lambda v, f: lp.Mesh(v, f, n=3, units=[1]), "units: got units and n, expected one of the two"),
        (lambda v, f: lp.Mesh(v, f, n=0), "n: got 0, expected a whole number from 1 to"),
        (lambda v, f: lp.Mesh(v, f, units=[0, 4]), "units: got 0 to 4, expected numbers from 0 to 3"),
        (lambda v, f: lp.Mesh(v, f, units=[1, 1]), "units: got a number more than once, expected each once"),
        (lambda v, f: lp.Mesh(v, f, units=[]), r"units: got .*, expected numbers, \(n,\)"),
        (lambda v, f: lp.Mesh(v, f, inflated=v[:3]), r"inflated: got shape \(3, 3\), expected shape \(V, 3\), V = 4"),
        (lambda v, f: lp.Mesh(v, f, curvature=[1, 2, 3, math.inf]), "curvature: got NaN or infinity, expected finite"),
        (lambda v, f: lp.Mesh(v, f).part([4]), "which: got 4 to 4, expected numbers from 0 to 3"),
        (
            lambda v, f: lp.Mesh(v, f).part([True, False]),
            r"which: got shape \(2,\), expected True or False for each of th",
        ),
        (lambda v, f: lp.Mesh(v, f).part([False] * 4), r"which: got shape \(0,\), expected numbers, \(n,\)"),
        (lambda v, f: lp.Mesh(v, f).with_channels(2).distances(lp.Grid(4)), "on a mesh meet units on the same mesh"),
        (lambda v, f: lp.Mesh.fsaverage("both"), "hemisphere: got both, expected"),
        (lambda v, f: lp.Mesh.fsaverage("left", surface="skin"), "surface: got skin, expected"),
    ],
)
def test_what_is_no_surface_is_told_in_one_line(make: Callable[[Any, Any], object], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        make(*PLATE)
    assert "\n" not in str(caught.value)


def test_two_closed_surfaces_that_touch_are_told_of() -> None:
    """All edges have two faces; only the fans around the vertex tell."""
    solid = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]])
    lp.Mesh(solid, faces)
    other = np.where(faces == 0, 0, faces + 3)
    with pytest.raises(ValueError, match="faces: got faces that touch in vertex 0 alone"):
        lp.Mesh(np.concatenate([solid, -solid[1:]]), np.concatenate([faces, other]))


# --- fsaverage -------------------------------------------------------------------------------------------------------


def test_fsaverage_is_there() -> None:
    pytest.importorskip("nilearn")
    left = lp.Mesh.fsaverage("left", n=50)
    assert repr(left) == "Mesh(10292 vertices, 20580 faces, 50 units)"
    assert left.positions[:, 0].max() < 5  # millimetres: the left is where x < 0
    right = lp.Mesh.fsaverage("right", surface="pial")
    assert right.positions[:, 0].min() > -5
    assert 60_000 < area(left) < 75_000
    assert area(right) > 1.1 * area(left)  # the outside is larger
    assert left.inflated is not None
    assert left.curvature is not None
    assert left.inflated.shape == left.vertices.shape
    d = left.distances(rows=torch.tensor([0]))[0]
    assert (d[1:] > (left.positions[1:] - left.positions[0]).norm(dim=1)).all()
    found = torch.cat([d for _, _, d in near(right.part(torch.arange(50)), right, 6.0)])
    assert 50 < len(found) < 2500


# --- graphs ----------------------------------------------------------------------------------------------------------


def ring_of(n: int) -> lp.Graph:
    sparse = pytest.importorskip("scipy.sparse")
    i = np.arange(n)
    lengths = 1 + 0.1 * np.sin(i)
    both = np.concatenate([lengths, lengths]), (np.r_[i, (i + 1) % n], np.r_[(i + 1) % n, i])
    return lp.Graph(sparse.coo_array(both, shape=(n, n)))


def test_a_graph_stops_where_a_cost_ends() -> None:
    """All distances would take 72 MB."""
    graph = ring_of(3_000)
    tracemalloc.start()
    try:
        layer = lp.LocalityLinear(3_000, 3_000, source=graph, target=graph, cost="linear@3", backend="windowed")
        assert graph.neighbour_distance == pytest.approx(0.95, abs=0.02)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 15e6
    assert 5 * 3_000 <= len(layer.weight) <= 7 * 3_000


def test_near_pairs_of_a_graph_are_those_of_the_whole_to_the_bit() -> None:
    graph = ring_of(300)
    d = graph.distances()
    assert torch.equal(d, d.T)
    assert graph.neighbour_distance == Geometry.neighbour_distance.fget(graph)  # type: ignore[attr-defined]
    for radius in (0.0, 2.5, 10.0, 1000.0):
        assert torch.equal(between(graph, radius), torch.where(d <= radius, d, math.inf))


def test_a_graph_of_too_many_nodes_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locality_prior._check._memory", lambda: 1 << 14)
    with pytest.raises(RuntimeError, match=r"The ways between 3,000 nodes would take .*: use a smaller graph"):
        ring_of(3_000).distances(rows=torch.tensor([0]))


@pytest.mark.filterwarnings("ignore:Sparse")
def test_graphs_take_sparse_tensors() -> None:
    dense = torch.tensor(reference.EDGES)
    for made in (dense.to_sparse(), dense.to_sparse_csr(), dense.to_sparse_csc(), dense.double().to_sparse()):
        assert torch.equal(lp.Graph(made)._ends, lp.Graph(dense)._ends)
        assert torch.equal(lp.Graph(made)._edges, lp.Graph(dense.to(made.dtype))._edges)
    twice = torch.sparse_coo_tensor(torch.tensor([[0, 0, 1], [1, 1, 0]]), torch.tensor([1.0, 2.0, 3.0]), (3, 3))
    assert lp.Graph(twice) == lp.Graph([[0, 3, 0], [3, 0, 0], [0, 0, 0]])
    far = np.array([0, 2**32])
    with pytest.raises(ValueError, match="nodes: got 8589934592, expected a whole number"):
        lp.Graph(pytest.importorskip("scipy.sparse").coo_array((np.ones(2), (far, far[::-1])), shape=(2**33, 2**33)))
    for bad, words in (
        (torch.tensor([[0.0, 1], [2, 0]]), "an asymmetric matrix"),
        (torch.tensor([[0.0, 1], [0, 0]]), "an asymmetric matrix"),
        (torch.tensor([[0.0, -1], [-1, 0]]), "a negative, NaN or infinite length"),
        (torch.tensor([[0.0, math.nan], [math.nan, 0]]), "a negative, NaN or infinite length"),
        (torch.zeros(2, 3), r"torch.float32 of shape \(2, 3\)"),
        (torch.ones(2, 2) * 1j, r"torch.complex64 of shape \(2, 2\)"),
        (torch.ones(2, 2, requires_grad=True), "a tensor that requires a gradient"),
    ):
        with pytest.raises(ValueError, match=f"adjacency: got {words}, expected"):
            lp.Graph(bad.to_sparse())


def test_the_program_of_the_processes_needs_nothing_of_the_library() -> None:
    text = Path(_exact.__file__).read_text(encoding="utf-8")
    assert not re.search(r"import (torch|locality_prior)|from (torch|locality_prior)", text)
