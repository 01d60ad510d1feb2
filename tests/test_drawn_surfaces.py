"""Surfaces as they are drawn: what is seen from a side, which unit colours what, and how it is kept in files."""

from __future__ import annotations

import heapq
import io
import json
import math
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from solids import icosphere

from locality_prior import plots
from locality_prior.geometry import Mesh
from locality_prior.plots import Places
from locality_prior.plots._units import place_of, standing
from locality_prior.plots._views import rastered, sides_of
from locality_prior.plots.places import arrays_of
from locality_prior.plots.surfaces import Surface

RNG = np.random.default_rng(0)
BALL, FACES = icosphere(3)  # 642 vertices
EGG = BALL * [0.8, 1.4, 1.0]


@pytest.fixture(autouse=True)
def _figures() -> Any:
    yield
    plt.close("all")


def on(surface: Surface, vertex: Any) -> Places:
    vertex = np.asarray(vertex)
    return Places(surface.points[vertex][:, :2], "surface", surface=surface, vertex=vertex)


# What is seen


def seen_slowly(points: Any, faces: Any, window: Any, shape: Any) -> Any:
    """Pixel by pixel, and triangle by triangle."""
    (rows, cols), (left, right, bottom, top) = shape, window
    image = np.full(shape, -1)
    flat = [np.linalg.inv(np.vstack([points[face][:, :2].T, np.ones(3)])) for face in faces]
    for r in range(rows):
        for c in range(cols):
            at = [left + (c + 0.5) * (right - left) / cols, top - (r + 0.5) * (top - bottom) / rows, 1]
            best = -math.inf
            for face, share in zip(faces, flat @ np.array(at), strict=True):
                if min(share) >= 0 and share @ points[face, 2] > best:
                    best, image[r, c] = share @ points[face, 2], face[share.argmax()]
    return image


def test_the_nearest_triangle_is_seen_and_its_points_belong_to_their_vertices() -> None:
    points = RNG.normal(size=(18, 3))
    faces = RNG.permuted(np.tile(np.arange(18), (12, 1)), axis=1)[:, :3]
    window, shape = (-1.5, 1.0, -0.8, 1.2), (16, 20)
    assert np.array_equal(rastered(points, faces, window, shape), seen_slowly(points, faces, window, shape))


def test_small_triangles_are_seen_as_large_ones() -> None:
    points, shape = BALL[:, [1, 2, 0]], (14, 20)
    near = FACES[(points[FACES, 2] > 0.3).all(axis=1)]
    window = (-0.5, 0.4, 0.1, 0.73)
    found = rastered(points, FACES, window, shape)
    assert np.array_equal(found, seen_slowly(points, near, window, shape))
    assert (found >= 0).all()


@pytest.mark.parametrize("faces", [[[0, 0, 1]], [[0, 1, 2]]], ids=["no area", "beside"])
def test_nothing_is_seen(faces: Any) -> None:
    points = np.array([[5.0, 5, 0], [6, 5, 0], [5, 6, 0]])
    assert (rastered(points, np.array(faces), (-1, 1, -1, 1), (4, 4)) == -1).all()


# Which unit colours what


def nearest_slowly(surface: Surface, vertex: Any) -> Any:
    """Dijkstra's algorithm, from all units at once: how far each vertex is, and the units that are so near."""
    joined: dict[int, dict[int, float]] = {}
    for face in surface.faces:
        for i in face:
            for j in face:
                joined.setdefault(i, {})[j] = float(np.linalg.norm(surface.points[i] - surface.points[j]))
    far = np.full((len(vertex), len(surface.vertices)), math.inf)
    for unit, start in enumerate(vertex):
        heap = [(0.0, int(start))]
        while heap:
            d, i = heapq.heappop(heap)
            if d < far[unit, i]:
                far[unit, i] = d
                for j, length in joined[i].items():
                    heapq.heappush(heap, (d + length, j))
    return far


def test_units_all_over_a_surface_colour_what_is_nearest_to_them() -> None:
    vertex = np.arange(42)  # of the coarser ball: they are evenly spread
    surface = Surface(EGG, FACES)
    far = nearest_slowly(surface, vertex)
    coloured = surface.coloured(vertex)
    assert (coloured >= 0).all()
    assert np.allclose(far[coloured, np.arange(len(EGG))], far.min(axis=0))
    assert np.array_equal(coloured[vertex], np.arange(42))


def test_a_patch_of_spread_units_colours_little_around_it() -> None:
    vertex = np.flatnonzero(BALL[:162, 0] > 0.4)
    surface = Surface(BALL, FACES)
    coloured, far = surface.coloured(vertex), nearest_slowly(surface, vertex)
    spacing = np.median(np.sort(far[:, vertex], axis=1)[:, 1])
    assert (coloured[far.min(axis=0) < 0.6 * spacing] >= 0).all()
    assert (coloured[far.min(axis=0) > 1.1 * spacing] == -1).all()


def test_of_a_whole_patch_nothing_else_is_coloured() -> None:
    vertex = RNG.permutation(np.flatnonzero(BALL[:, 2] > 0.5))
    coloured = Surface(BALL, FACES).coloured(vertex)
    assert np.array_equal(coloured[vertex], np.arange(len(vertex)))
    assert (coloured >= 0).sum() == len(vertex)


def test_units_at_one_vertex_and_single_units() -> None:
    surface = Surface(BALL, FACES)
    assert np.flatnonzero(surface.coloured(np.array([7])) == 0).tolist() == [7]
    coloured = surface.coloured(np.array([7, 9, 7]))
    assert (coloured[7], coloured[9]) == (0, 1)
    assert (coloured < 2).all()


def test_a_part_without_a_unit_is_not_coloured() -> None:
    two = Surface(np.concatenate([BALL, BALL + 3]), np.concatenate([FACES, FACES + len(BALL)]))
    coloured = two.coloured(np.arange(42))
    assert (coloured[: len(BALL)] >= 0).all()
    assert (coloured[len(BALL) :] == -1).all()


# From which sides


def sides(surface: Surface, vertex: Any) -> list[tuple[str, list[float]]]:
    return [(s.name, s.axes[2].tolist()) for s in sides_of(surface, surface.coloured(np.asarray(vertex)))]


def test_a_cortex_is_seen_from_its_lateral_and_medial_side() -> None:
    everywhere = np.arange(len(EGG))
    lateral, medial = [-1, 0, 0], [1, 0, 0]
    assert sides(Surface(EGG, FACES, None, "left"), everywhere) == [("lateral view", lateral), ("medial view", medial)]
    assert sides(Surface(EGG, FACES, None, "right"), everywhere) == [("lateral view", medial), ("medial view", lateral)]
    # any other surface from the sides from which it looks largest
    named = [("seen from +x", medial), ("seen from \N{MINUS SIGN}x", lateral)]
    assert sides(Surface(EGG, FACES), everywhere) == named


@pytest.mark.parametrize(
    ("towards", "name"),
    [
        ((1, 0, 0), "medial view"),
        ((-1, 0, 0), "lateral view"),
        ((0, 1, 0), "anterior view"),
        ((0, -1, 0), "posterior view"),
        ((0, 0, 1), "dorsal view"),
        ((0, 0, -1), "ventral view"),
    ],
)
def test_a_patch_is_seen_from_the_side_where_it_looks_largest(towards: Any, name: str) -> None:
    surface = Surface(EGG, FACES, None, "left")
    patch = np.flatnonzero(BALL @ towards > 0.9)
    (side,) = sides_of(surface, surface.coloured(patch))
    assert side.name == name
    assert side.axes[2].tolist() == list(towards)
    assert np.allclose(side.axes @ side.axes.T, np.eye(3))
    assert np.linalg.det(side.axes) == pytest.approx(1)
    x, y, _ = side.axes @ surface.points[patch].T
    left, right, bottom, top = side.window
    assert left < x.min() < x.max() < right
    assert bottom < y.min() < y.max() < top
    across, down = np.ptp(surface.points @ side.axes[:2].T, axis=0)
    assert (right - left) * (top - bottom) < 0.8 * across * down  # the part around it, and not all of the surface


def test_units_that_no_side_shows_are_seen_from_two_the_larger_first() -> None:
    surface = Surface(EGG, FACES, None, "left")
    patch = np.flatnonzero((BALL[:, 0] > 0.7) | (BALL[:, 0] < -0.9))
    assert [name for name, _ in sides(surface, patch)] == ["medial view", "lateral view"]


@pytest.mark.parametrize("tilt", [0.0, 0.7, math.pi / 2])
def test_a_flat_surface_is_seen_as_it_is(tilt: float) -> None:
    flat = np.stack([*np.mgrid[:4, :3].reshape(2, -1), np.zeros(12)], axis=1)
    cell = np.array([[0, 3, 1], [1, 3, 4]])
    faces = np.concatenate([cell + 3 * r + c for r in range(3) for c in range(2)])
    turn = [[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]]
    surface = Surface(flat @ np.transpose(turn), faces)
    (side,) = sides_of(surface, np.arange(12))
    assert side.name == ""
    seen = surface.points @ side.axes[:2].T
    apart = np.linalg.norm(seen[:, None] - seen, axis=2)
    assert np.allclose(apart / apart.max(), np.linalg.norm(flat[:, None] - flat, axis=2) / math.hypot(3, 2), atol=1e-3)


# In figures


def test_units_have_the_colours_of_their_values() -> None:
    places = on(Surface(EGG, FACES, BALL[:, 2], "left"), np.flatnonzero(np.abs(BALL[:, 2]) < 0.9))
    values = RNG.random(len(places))
    values[3] = np.nan
    ax = plots.sheet(values, places, label="value")
    _, bar = ax.figure.axes
    drawn = ax.images[0].norm, plt.get_cmap("viridis").with_extremes(bad="0.85")
    norm = plt.Normalize(0, np.nanmax(values))
    assert bar.get_ylim() == pytest.approx((0, np.nanmax(values)))
    found = 0
    for unit, vertex in enumerate(places.vertex if places.vertex is not None else ()):
        x, y = place_of(places, unit)
        for image, side in zip(ax.images, standing(places.cover.sides, stacked=False), strict=True):
            if places.surface is None or places.surface.normals[vertex] @ side.axes[2] < 0.8:
                continue
            left, right, bottom, top = image.get_extent()
            pixels = np.asarray(image.get_array())
            row, col = ((top - y) / (top - bottom) * len(pixels), (x - left) / (right - left) * pixels.shape[1])
            expected = np.array(drawn[1](norm(np.ma.masked_invalid(values))[unit]))
            assert np.abs(pixels[int(row), int(col)] / 255 - expected).max() < 0.01
            found += 1
    assert found > 100
    assert [t.get_text() for t in ax.texts] == ["lateral view", "medial view"]


def test_beneath_the_units_folds_are_grey_and_beside_there_is_nothing() -> None:
    bent = np.where(BALL[:, 1] > 0, 1.0, -1.0)  # folded inwards on the right of the left hemisphere's medial side
    places = on(Surface(EGG, FACES, bent, "left"), np.flatnonzero(BALL[:, 0] > 0.9))
    ax = plots.sheet(np.ones(len(places)), places)
    (image,) = (np.asarray(i.get_array()) for i in ax.images)
    assert set(np.unique(image[..., 3])) == {0, 255}
    red, green, blue, there = np.moveaxis(image.astype(int), -1, 0)
    grey = (there > 0) & (red == green) & (green == blue)
    _, columns = np.nonzero(grey)
    middle = image.shape[1] / 2
    dark, bright = (np.median(red[grey][side]) for side in (columns > middle, columns < middle))
    assert dark + 20 < bright
    assert (~grey & (there > 0)).any()


def test_class_maps_stack_the_sides_and_share_one_scale() -> None:
    places = {
        "a": on(Surface(EGG, FACES, None, "left"), np.arange(642)),
        "patch": on(Surface(EGG, FACES), np.arange(9)),
    }
    maps = {"a": RNG.random((3, 642)), "patch": 2 * RNG.random((3, 9))}
    axes = plots.class_maps(maps, places, classes=["x", "y", "z"])
    assert axes.shape == (2, 3)
    assert [len(ax.images) for ax in axes[0]] == [2, 2, 2]
    assert [t.get_text() for t in axes[0, 0].texts] == ["lateral view", "medial view"]
    bottoms = [image.get_extent()[2] for image in axes[0, 0].images]
    assert bottoms[0] > axes[0, 0].images[1].get_extent()[3]
    axes[0, 0].figure.canvas.draw()
    for ax in axes.flat:
        for text in ax.texts:  # no name lies in another map
            assert ax.get_window_extent().y0 - 2 <= text.get_window_extent().y0


def test_the_ring_marks_the_unit_where_it_is_seen() -> None:
    places = on(Surface(EGG, FACES, None, "left"), np.arange(642))
    for unit in (int(EGG[:, 0].argmin()), int(EGG[:, 0].argmax())):
        ax = plots.transmitted_signal(np.ones(642), places, unit)
        (ring,) = ax.lines
        extents = [image.get_extent() for image in ax.images]
        left, right, *_ = extents[0 if EGG[unit, 0] < 0 else 1]  # the lateral side of the left hemisphere is at -x
        assert left < ring.get_xdata()[0] < right


# In files


def test_a_mesh_is_drawn_inflated() -> None:
    mesh = Mesh(BALL - [3, 0, 0], FACES, units=np.arange(0, 642, 2), inflated=EGG, curvature=BALL[:, 2])
    places = Places.of(mesh)
    assert places.surface is not None
    assert (places.kind, len(places), places.surface.hemisphere) == ("surface", 321, "left")
    assert np.allclose(places.surface.points, EGG / 1.4, atol=1e-4)
    plain = Places.of(Mesh(BALL, FACES)).surface
    assert plain is not None
    assert (plain.curvature, plain.hemisphere) == (None, "")
    middle = Places.of(Mesh(BALL, FACES, inflated=EGG)).surface  # on both sides of the head, as a sphere is
    assert middle is not None
    assert middle.hemisphere == ""
    ax = plots.sheet(np.arange(321.0), mesh)
    assert len(ax.images) == 2


def test_places_on_surfaces_go_through_files_bit_for_bit() -> None:
    surface = Surface(EGG + RNG.normal(size=3), FACES, RNG.normal(size=642), "right")
    places = on(surface, RNG.permutation(642)[:50])
    config = json.loads(json.dumps(places.config()))
    held = arrays_of({"a": places})
    again = Places.from_config(config, held, "a")
    read = again.surface
    assert read is not None
    assert read.key == surface.key
    assert Places.from_config(config, held, "a").surface is read  # of many runs it is held once
    for key, values in arrays_of({"a": again}).items():
        assert np.array_equal(values, held[key])
        assert values.dtype == held[key].dtype
    assert np.array_equal(again.cover.coloured, places.cover.coloured)


def test_sheets_share_one_surface_in_few_bytes() -> None:
    vertices, faces = icosphere(5)  # as large as fsaverage5
    surface = Surface(vertices, faces, vertices[:, 0], "left")
    same = Surface(vertices, faces, vertices[:, 0], "left")
    other = Surface(BALL, FACES)
    held = arrays_of({"a": on(surface, np.arange(300)), "b": on(same, np.arange(200)), "c": on(other, np.arange(9))})
    assert [int(held[f"sheet/{name}/surface"]) for name in "abc"] == [0, 0, 1]
    assert sum(key.startswith("surface/") for key in held) == 3 + 2
    assert len(faces) == 20_480
    file = io.BytesIO()
    np.savez_compressed(file, **{key: a for key, a in held.items() if key.startswith("surface/0")})  # type: ignore[arg-type]
    assert len(file.getvalue()) < 300_000


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"sheet/a/vertex": None}, "arrays"),
        ({"surface/0/faces": None}, "arrays"),
        ({"surface/0/vertices": None}, "arrays"),
        ({"sheet/a/surface": np.array(3)}, "arrays"),
        ({"sheet/a/surface": np.array(0.5)}, "sheet/a/surface"),
        ({"sheet/a/vertex": np.arange(40, 52)}, "vertex"),
        ({"sheet/a/vertex": np.arange(5)}, "vertex"),
        ({"surface/0/faces": np.full((4, 3), 42)}, "faces"),
        ({"surface/0/faces": np.zeros((4, 4))}, "faces"),
        ({"surface/0/faces": np.zeros((0, 3))}, "faces"),
        ({"surface/0/vertices": np.full((42, 3), np.nan)}, "vertices"),
        ({"surface/0/vertices": np.zeros((42, 3))}, "vertices"),
        ({"surface/0/vertices": np.zeros((2, 3))}, "vertices"),
        ({"surface/0/curvature": np.zeros(7)}, "curvature"),
    ],
)
def test_damaged_files_of_surfaces_are_one_line(change: Any, name: str) -> None:
    vertices, faces = icosphere(1)
    places = on(Surface(vertices, faces, vertices[:, 0]), np.arange(12))
    held: dict[str, Any] = {**arrays_of({"a": places}), **change}
    held = {key: a for key, a in held.items() if a is not None}
    with pytest.raises(ValueError, match=f"^{name}: got .*, expected "):
        Places.from_config(places.config(), held, "a")


def test_what_is_no_place_on_a_surface() -> None:
    surface = Surface(BALL, FACES)
    with pytest.raises(TypeError, match=r"^surface: got None, expected the Surface"):
        Places(BALL[:, :2], "surface")
    with pytest.raises(ValueError, match=r"^surface: got .*, expected none for units that are points"):
        Places(BALL[:, :2], "points", surface=surface)
    with pytest.raises(ValueError, match=r"^hemisphere: got middle, expected one of"):
        Surface(BALL, FACES, None, "middle")  # type: ignore[arg-type]


# Units that move


def test_moving_units_keep_the_colours_of_their_start() -> None:
    start = RNG.random((30, 2))
    moved = {"local": np.stack([start, start / 2, start / 4]), "control": np.stack([start] * 3)}
    axes = plots.positions(moved, epochs=["before training", "epoch 1", "epoch 2"])
    assert axes.shape == (2, 3)
    assert [ax.get_title() for ax in axes[0]] == ["before training", "epoch 1", "epoch 2"]
    for row, places in zip(axes, moved.values(), strict=True):
        marks = [ax.collections[-1] for ax in row]
        for mark, at in zip(marks, places, strict=True):
            assert np.allclose(mark.get_offsets(), at)
            assert np.array_equal(mark.get_facecolor(), marks[0].get_facecolor())
        assert [len(ax.collections) for ax in row] == [1, 1, 2]
        ways = row[-1].collections[0].get_segments()
        assert np.allclose(ways, np.stack([places[0], places[-1]], axis=1))
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in axes.flat}) == 1
    assert len(np.unique(axes[0, 0].collections[-1].get_facecolor(), axis=0)) == 30


def test_the_ways_of_very_many_units_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from locality_prior.plots import movements

    monkeypatch.setattr(movements, "WAYS", 10)
    axes = plots.positions({"": RNG.random((2, 11, 2))})
    assert len(axes[0, 1].collections) == 1
    assert plots.positions({"": np.zeros((1, 1, 2))}).shape == (1, 1)


@pytest.mark.parametrize(
    ("moved", "name"),
    [
        ({"a": np.full((2, 3, 2), np.nan)}, "moved"),
        ({"a": np.ones((2, 3, 2)), "b": np.ones((3, 3, 2))}, "moved"),
        ({"a": np.ones((2, 3, 3))}, "moved"),
        ({"a": np.ones((2, 0, 2))}, "moved"),
        ([], "moved"),
    ],
)
def test_what_are_no_moving_units(moved: Any, name: str) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"^{name}.*: got .*, expected "):
        plots.positions(moved)
