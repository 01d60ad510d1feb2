"""What the explorer shows: how scenes are checked and packed, and how they are made of runs and of activations."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from solids import icosphere
from tiny import MODEL, TASK

import locality_prior as lp
from locality_prior import analysis
from locality_prior._check import Problem
from locality_prior.explorer import Network, Scene, Sheet, Wires, given, network, pack, scene
from locality_prior.plots import Places
from locality_prior.plots.places import arrays_of
from locality_prior.plots.surfaces import Surface
from locality_prior.runs.files import read_measured
from locality_prior.studies import Axes, Study, find, run_study

RNG = np.random.default_rng(0)
GRID = Places.of(lp.Grid(3, 4))


def unpacked(array: dict[str, Any], data: bytes) -> Any:
    """The numbers of a packed array, one after another, as a browser reads them."""
    size = {"u1": 1, "u2": 2, "u4": 4}[array["type"]]
    assert array["at"] % 4 == 0
    numbers = []
    for k in range(int(np.prod(array["shape"]))):
        start = array["at"] + k * size
        code = int.from_bytes(data[start : start + size], "little")
        assert start + size <= len(data)
        undefined = array["type"] != "u4" and code == 256**size - 1
        numbers.append(np.nan if undefined else array["low"] + array["step"] * code)
    return np.array(numbers, dtype=np.float64).reshape(array["shape"])


def held(given: Any, array: dict[str, Any], data: bytes) -> None:
    """Check that ``array`` holds the numbers ``given`` to half a step."""
    given = np.asarray(given, dtype=np.float64)
    found = unpacked(array, data)
    assert (np.isnan(found) == ~np.isfinite(given)).all()
    there = np.isfinite(given)
    assert np.abs(found - given)[there].max(initial=0.0) <= array["step"] / 2 * (1 + 1e-9)


def sheet(places: Places = GRID, classes: int = 2, **changed: Any) -> Sheet:
    units = len(places)
    values: dict[str, Any] = {
        "places": places,
        "means": RNG.normal(size=(classes, units)),
        "selectivity": RNG.normal(size=(classes, units)),
        "epochs": np.arange(3),
        "epoch_means": RNG.normal(size=(3, classes, units)).astype(np.float16),
        "factors": RNG.normal(size=(5, units)).astype(np.float32),
    }
    return Sheet(**{**values, **changed})


def wires(sources: int = 12, **changed: Any) -> Wires:
    values: dict[str, Any] = {
        "source": "in",
        "target": "out",
        "units": (sources, 12),
        "origin": RNG.integers(sources, size=(12, 3)),
        "weight": RNG.random((12, 3)),
        "distance": RNG.random((12, 3)) * 5,
        "rank": RNG.random((12, 3)),
    }
    return Wires(**{**values, **changed})


def shown(**changed: Any) -> Scene:
    network = Network("control", 3, {"in": sheet(), "out": sheet()}, {"between": wires()})
    return Scene(**{"title": "Maps", "classes": ("a", "b"), "networks": (network,), **changed})


def test_a_scene_is_packed_to_half_a_step() -> None:
    given = shown(note="Two sheets.")
    description, data = pack(given)
    assert json.loads(json.dumps(description, allow_nan=False)) == description
    assert {key: description[key] for key in ("title", "note", "classes")} == {
        "title": "Maps",
        "note": "Two sheets.",
        "classes": ["a", "b"],
    }
    (network,) = description["networks"]
    assert (network["name"], network["seed"]) == ("control", 3)
    for name, one in given.networks[0].sheets.items():
        packed = network["sheets"][name]
        assert packed["epochs"] == [0, 1, 2]
        for key in ("means", "selectivity", "epoch_means", "factors"):
            assert packed[key]["type"] == ("u2" if key in ("means", "selectivity") else "u1")
            held(getattr(one, key), packed[key], data)
    layer, one = network["layers"]["between"], given.networks[0].layers["between"]
    assert (layer["source"], layer["target"], layer["units"]) == ("in", "out", [12, 12])
    assert (unpacked(layer["origin"], data) == one.origin).all()
    for key in ("weight", "distance", "rank"):
        held(getattr(one, key), layer[key], data)
    assert layer["rank"]["step"] < 1 / 65_000


@pytest.mark.parametrize(
    "values",
    [
        [[0.0, np.nan, 1.0], [np.inf, -np.inf, 0.3]],
        [[5.0, 5.0, np.nan]],
        [[np.nan, np.nan]],
        [[1e-320, 0.0, 3e-322]],
        [[1e9, 1e9 + 1e-5, 1e9 + 2e-5]],
        [[-3e200, 7e199]],
        np.empty((0, 4)),
        np.arange(24).reshape(4, 6)[:, ::2],
        np.arange(6, dtype=np.float16).reshape(2, 3),
    ],
    ids=["undefined", "constant", "nothing", "tiny", "near", "huge", "empty", "strided", "half"],
)
@pytest.mark.parametrize("at_once", [1, 4, 1000])
def test_all_kinds_of_numbers_are_packed(values: Any, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "AT_ONCE", at_once)
    values = np.asarray(values)
    places = Places(np.zeros((values.shape[1], 2)), "points")
    means = np.zeros((1, values.shape[1]))
    one = Sheet(places, means, factors=values)
    description, data = pack(Scene("", (), (Network("", None, {"": one}, {}),)))
    array = description["networks"][0]["sheets"][""]["factors"]
    held(values, array, data)
    there = values[np.isfinite(values)]
    assert (array["step"] == 0) == (not len(there) or np.ptp(there) < 254 * 5e-324)


def test_the_largest_numbers_are_packed_without_an_overflow() -> None:
    most = np.finfo(np.float64).max
    one = Sheet(Places.of(lp.Line(3)), [[-most, 0.0, most]])
    description, data = pack(Scene("", ("a",), (Network("", None, {"": one}, {}),)))
    found = unpacked(description["networks"][0]["sheets"][""]["means"], data)[0]
    assert np.isfinite(found).all()
    assert found[0] < found[1] < found[2]


@pytest.mark.parametrize(
    "geometry",
    [
        lp.Grid(3, 4),
        lp.Grid(3, 4, units=10),
        lp.Line(7),
        lp.HexGrid(4, 3),
        lp.Sphere(20),
        lp.Points(RNG.normal(size=(9, 3))),
        lp.Grid(2, 3, spacing=(1.0, 2.5)),
        lp.Grid(1, 70_000),
    ],
    ids=repr,
)
def test_places_are_packed(geometry: lp.Geometry) -> None:
    places = Places.of(geometry)
    one = Sheet(places, np.zeros((1, len(places))))
    description, data = pack(Scene("", ("a",), (Network("", None, {"": one}, {}),)))
    (packed,) = description["places"]
    config = {k: packed[k] for k in ("kind", "shape", "spacing", "radius")}
    assert Places.from_config(config, arrays_of({"": places}), "").config() == places.config()
    assert packed["units"] == len(places)
    if isinstance(geometry, lp.Grid):  # cells are numbered row by row
        cols = packed["shape"][-1]
        assert packed["xy"] is None
        assert places.xy.tolist() == [[k % cols, k // cols] for k in range(len(places))]
    else:
        assert packed["xy"]["type"] == "u2"
        held(places.xy, packed["xy"], data)


@pytest.mark.parametrize("base", [lp.Grid(3, 4), lp.Grid(4, 4, units=12), lp.Line(12), lp.HexGrid(4, 3)], ids=repr)
def test_units_in_another_order_are_shown_where_they_sit(base: lp.Geometry) -> None:
    order = RNG.permutation(12)
    places = Places.of(base)
    there = Network("", None, {name: sheet(places) for name in ("in", "out")}, {"l": wires()})
    parts = ("means", "selectivity", "epoch_means", "factors")
    sheets = {
        name: replace(one, places=Places.of(base.permuted(order)), **{k: getattr(one, k)[..., order] for k in parts})
        for name, one in there.sheets.items()
    }
    layer = {part: getattr(there.layers["l"], part)[order] for part in ("origin", "weight", "distance", "rank")}
    layer["origin"] = np.argsort(order)[layer["origin"]]
    moved = Network("", None, sheets, {"l": wires(**layer)})
    assert pack(shown(networks=(moved,))) == pack(shown(networks=(there,)))


def test_units_in_cells_with_gaps_are_points() -> None:
    xy = np.array([[0, 0], [2, 0], [1, 1]])
    one = Sheet(Places(xy, "cells", (2, 3), (2.0, 1.0)), np.zeros((1, 3)))
    description, data = pack(Scene("", (), (Network("", None, {"": one}, {}),)))
    (packed,) = description["places"]
    assert packed["kind"] == "points"
    assert np.allclose(unpacked(packed["xy"], data), xy * (1, -2), atol=1e-4)


def on_ball(units: int) -> Places:
    vertices, faces = icosphere(2)
    surface = Surface(vertices, faces, vertices[:, 2], "left")
    return Places(vertices[:units, :2], "surface", surface=surface, vertex=np.arange(units))


def test_surfaces_are_packed_once_for_all_sheets_on_them() -> None:
    places = {"a": on_ball(162), "b": on_ball(12)}
    sheets = {name: Sheet(one, np.zeros((1, len(one)))) for name, one in places.items()}
    description, data = pack(Scene("", ("c",), (Network("", None, sheets, {}),)))
    (packed,) = description["surfaces"]
    surface = places["a"].surface
    assert surface is not None
    assert np.allclose(unpacked(packed["vertices"], data), surface.points, atol=1e-12)
    assert (unpacked(packed["faces"], data) == surface.faces).all()
    assert np.allclose(unpacked(packed["curvature"], data) * 127, surface.curvature)
    assert packed["closed"]
    for one, made in zip(description["places"], places.values(), strict=True):
        assert (one["kind"], one["units"], one["surface"]) == ("surface", len(made), 0)
        assert (unpacked(one["vertex"], data) == made.vertex).all()
        assert (unpacked(one["coloured"], data) - 1 == made.cover.coloured).all()
        assert one["turn"] == made.cover.sides[0].axes.ravel().tolist()
    assert len(data) < 10_000


def test_an_open_surface_is_told_from_a_closed_one() -> None:
    vertices, faces = icosphere(1)
    assert Surface(vertices, faces).closed
    assert not Surface(vertices, faces[1:]).closed


def test_what_is_alike_is_held_once() -> None:
    one = sheet()
    again = Sheet(Places.of(lp.Grid(3, 4)), one.means.copy(), one.selectivity, one.epochs, one.epoch_means)
    other = Sheet(Places.of(lp.HexGrid(3, 4)), one.means + 1)
    networks = tuple(Network(name, 0, {"a": s}, {}) for name, s in (("x", one), ("y", again), ("z", other)))
    description, data = pack(Scene("", ("p", "q"), networks))
    first, second, third = (n["sheets"]["a"] for n in description["networks"])
    assert [s["places"] for s in (first, second, third)] == [0, 0, 1]
    assert first["means"] == second["means"]
    assert third["means"]["at"] == first["means"]["at"]  # the same codes, from another number on
    held(other.means, third["means"], data)
    assert len(description["places"]) == 2
    # means, d′, maps of 3 epochs, factors, and the places of hexagons
    assert len(data) == 48 + 48 + 72 + 60 + 48


def test_sources_of_many_units_are_numbered_by_four_bytes() -> None:
    for units, kind in ((65_535, "u2"), (65_536, "u4")):
        layer = wires(units, source=None, target=None, origin=np.full((12, 3), units - 1))
        description, data = pack(shown(networks=(Network("", None, {}, {"l": layer}),)))
        packed = description["networks"][0]["layers"]["l"]
        assert packed["origin"]["type"] == kind
        assert (unpacked(packed["origin"], data) == units - 1).all()


def test_too_large_a_scene_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "MOST_BYTES", 2 << 20)
    places = Places.of(lp.Grid(1024, 1024))
    pack(Scene("", (), (Network("", None, {"": Sheet(places, RNG.random((1, 1 << 20)))}, {}),)))
    with pytest.raises(ValueError, match=r"scene: got arrays of more than 2 MiB, expected at most 2 MiB"):
        pack(Scene("", ("a", "b", "c"), (Network("", None, {"": Sheet(places, RNG.random((3, 1 << 20)))}, {}),)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sheet(places=lp.Grid(3, 4)), "places: got Grid.*, expected Places"),
        (
            lambda: sheet(means=np.zeros((2, 11))),
            r"means: got shape \(2, 11\), expected numbers of shape \(classes, 12\)",
        ),
        (lambda: sheet(means="abc"), "means: got 'abc', expected an array of numbers"),
        (lambda: sheet(selectivity=np.zeros((3, 12))), r"selectivity: .* expected numbers of shape \(2, 12\)"),
        (lambda: sheet(epochs=None), "epochs: got None, expected both epochs and what was kept at them, or neither"),
        (lambda: sheet(epoch_means=None), "epoch_means: got None"),
        (lambda: sheet(epochs=[0.5, 1.0, 2.0]), "epochs: .* expected an array of whole numbers"),
        (lambda: sheet(epochs=[-1, 1, 2]), "epochs: got -1, expected whole numbers from 0"),
        (lambda: sheet(epochs=[1, 2]), r"epoch_means: got shape \(3, 2, 12\), expected numbers of shape \(2, 2, 12\)"),
        (lambda: sheet(factors=np.zeros((2, 3))), r"factors: .* expected numbers of shape \(factors, 12\)"),
        (lambda: wires(source=3), "source: got 3, expected the name of a sheet, or None"),
        (lambda: wires(units=(12,)), "units: got .12,., expected two numbers"),
        (lambda: wires(units=(12, 0)), "units: got 0, expected a whole number"),
        (lambda: wires(units=(2, 12)), "origin: got .*, expected numbers of source units, from 0 to 1"),
        (
            lambda: wires(units=(12, 11)),
            r"origin: got shape \(12, 3\), expected .* of shape \(11, wires\)",
        ),
        (lambda: wires(rank=np.zeros((12, 2))), r"rank: got shape \(12, 2\), expected numbers of shape \(12, 3\)"),
        (lambda: Network(3, None, {}, {}), "name: got 3, expected a text"),
        (lambda: Network("", -1, {}, {}), "seed: got -1"),
        (lambda: Network("", 0, [sheet()], {}), "sheets: .* expected a mapping of names to Sheet"),
        (lambda: Network("", 0, {"a": 3}, {}), "sheets: got 3, expected a Sheet for each name"),
        (
            lambda: Network("", 0, {"in": sheet()}, {"l": wires()}),
            "layers: got 'l' on the sheet 'out', expected one of",
        ),
        (
            lambda: Network("", 0, {"in": sheet(), "out": sheet(Places.of(lp.Line(5)))}, {"l": wires()}),
            "layers: got 'l' of 12 units, expected the 5 units of the sheet 'out'",
        ),
        (lambda: shown(title=None), "title: got None, expected a text"),
        (lambda: shown(classes="ab"), "classes: got ab, expected a tuple of str"),
        (lambda: shown(classes=("a", 1)), "classes: got 1, expected a str for each entry"),
        (lambda: shown(networks=()), "networks: got ().*, expected one network or more"),
        (lambda: shown(classes=()), "networks: got 2 maps of the sheet 'in', expected 1 maps, as there are 0 classes"),
        (lambda: shown(classes=("a", "b", "c")), "networks: got 2 maps of the sheet 'in', expected 3 maps"),
    ],
)
def test_what_does_not_fit_is_one_line(make: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def kept(**changed: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Arrays and descriptions as a run keeps them: two sheets of 12 units and a layer between them."""
    arrays: dict[str, Any] = {"classes": np.array([0, 1]), "epochs": np.array([0, 2])}
    for name in ("a", "b/c"):
        arrays |= {
            f"sheet/{name}/xy": GRID.xy,
            f"sheet/{name}/class_means": RNG.normal(size=(2, 12)).astype(np.float32),
            f"sheet/{name}/selectivity": RNG.normal(size=(2, 12)),
            f"sheet/{name}/epoch_means": RNG.normal(size=(2, 2, 12)).astype(np.float16),
            f"sheet/{name}/factors": RNG.normal(size=(3, 12)).astype(np.float16),
        }
    for part in ("weight", "distance", "rank"):
        arrays[f"wires/l/{part}"] = RNG.random((12, 4))
    arrays["wires/l/origin"] = RNG.integers(12, size=(12, 4)).astype(np.int32)
    sheets = {name: {"units": 12, "places": GRID.config()} for name in ("a", "b/c")}
    layers = {"l": {"from": "a", "to": "b/c", "units": [12, 12], "pairs": 144}}
    arrays = {key: value for key, value in {**arrays, **changed}.items() if value is not None}
    return arrays, sheets, layers


def test_a_network_is_made_of_what_its_run_keeps() -> None:
    arrays, sheets, layers = kept()
    made = network("linear@2", 7, arrays, sheets, layers)
    assert (made.name, made.seed, list(made.sheets), list(made.layers)) == ("linear@2", 7, ["a", "b/c"], ["l"])
    for name, one in made.sheets.items():
        assert one.epochs is not None
        assert one.epochs.tolist() == [0, 2]
        assert (one.means == arrays[f"sheet/{name}/class_means"]).all()
        for part in ("selectivity", "epoch_means", "factors"):
            assert getattr(one, part) is arrays[f"sheet/{name}/{part}"]
        assert one.places.config() == GRID.config()
    layer = made.layers["l"]
    assert (layer.source, layer.target, layer.units) == ("a", "b/c", (12, 12))
    for part in ("origin", "weight", "distance", "rank"):
        assert getattr(layer, part) is arrays[f"wires/l/{part}"]


def test_whole_numbers_that_were_read_as_floats_are_whole_numbers() -> None:
    arrays, sheets, layers = kept()
    made = network("", 0, {key: a.astype(np.float64) for key, a in arrays.items()}, sheets, layers)
    assert made.layers["l"].origin.dtype.kind == "i"
    assert made.sheets["a"].epochs is not None
    with pytest.raises(ValueError, match=r"origin: got .* expected an array of whole numbers"):
        network("", 0, {**arrays, "wires/l/origin": np.full((12, 4), 0.5)}, sheets, layers)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_units_that_moved_end_at_their_places(d: int) -> None:
    end = lp.Points(RNG.normal(size=(12, d)))
    places = Places.of(end)
    arrays, sheets, layers = kept()
    sheets["a"]["places"] = places.config()
    arrays["sheet/a/xy"] = places.xy
    arrays["sheet/a/epoch_positions"] = np.stack([RNG.normal(size=(12, d)), end.positions.numpy()]).astype(np.float32)
    one = network("", 0, arrays, sheets, layers).sheets["a"]
    assert one.epoch_xy is not None
    assert np.allclose(one.epoch_xy[-1], places.xy, atol=1e-5)
    if d == 2:
        assert (one.epoch_xy[0] == arrays["sheet/a/epoch_positions"][0]).all()
    description, data = pack(Scene("", ("a", "b"), (Network("", 0, {"a": one}, {}),)))
    held(one.epoch_xy, description["networks"][0]["sheets"]["a"]["epoch_xy"], data)
    # they move where no maps of epochs were kept, too
    del arrays["sheet/a/epoch_means"]
    one = network("", 0, arrays, sheets, layers).sheets["a"]
    assert (one.epoch_means, one.epochs is None, one.epoch_xy is None) == (None, False, False)
    # and where the sheet is a grid's in the study's first network, whose units stay
    sheets["a"]["places"] = GRID.config()
    one = network("", 0, arrays, sheets, layers).sheets["a"]
    assert (one.places.kind, one.epoch_xy is None) == ("points", False)


def test_units_that_left_their_cells_begin_where_the_cells_are_drawn() -> None:
    arrays, sheets, layers = kept()
    cells = lp.Grid(3, 4)
    sheets["a"]["places"] = Places.of(cells).config()
    end = cells.positions + 0.25
    arrays["sheet/a/epoch_positions"] = np.stack([cells.positions, end]).astype(np.float32)
    one = network("", 0, arrays, sheets, layers).sheets["a"]
    assert one.epoch_xy is not None
    # points are drawn upwards, and cells downwards
    assert (one.epoch_xy[0] * (1, -1) == Places.of(cells).xy).all()
    assert (one.places.xy == one.epoch_xy[-1]).all()


@pytest.mark.parametrize(
    "moved",
    [np.zeros((2, 12)), np.zeros((0, 12, 2)), np.full((2, 12, 3), np.nan), np.zeros((2, 5, 2)), np.zeros((3, 12, 2))],
)
def test_damaged_positions_are_one_line(moved: Any) -> None:
    arrays, sheets, layers = kept()
    sheets["a"]["places"] = {"kind": "points"}
    with pytest.raises(ValueError, match=r"^epoch_(positions|xy): got .*, expected "):
        network("", 0, {**arrays, "sheet/a/epoch_positions": moved}, sheets, layers)


def test_what_a_run_has_not_kept_is_left_out() -> None:
    def made(sheet: dict[str, Any] | None = None, layer: dict[str, Any] | None = None, **missing: None) -> Network:
        arrays, sheets, layers = kept(**{key.replace("__", "/"): value for key, value in missing.items()})
        sheets["a"] |= sheet or {}
        layers["l"] |= layer or {}
        return network("", 0, arrays, sheets, layers)

    for one in (made(sheet={"places": None}), made(sheet__a__xy=None), made(sheet__a__class_means=None)):
        assert list(one.sheets) == ["b/c"]
        assert (one.layers["l"].source, one.layers["l"].target) == (None, "b/c")
    for part in ("selectivity", "factors", "epoch_means"):
        one = made(**{f"sheet__a__{part}": None})
        assert getattr(one.sheets["a"], part) is None
        assert (one.sheets["a"].epochs is None) == (part == "epoch_means")
    assert made(epochs=None).sheets["a"].epoch_means is None
    for part in ("origin", "weight", "distance", "rank"):
        assert not made(**{f"wires__l__{part}": None}).layers
    arrays, sheets, layers = kept()
    del layers["l"]["units"]
    assert not network("", 0, arrays, sheets, layers).layers
    # an end on a sheet of other units, as it may be with channels, or on none that is known
    arrays["wires/l/origin"] = np.zeros((12, 4), dtype=np.int64)
    assert made(layer={"from": "x"}).layers["l"].source is None
    assert network("", 0, arrays, sheets, {"l": {"from": "a", "to": None, "units": [3, 12]}}).layers["l"].source is None


def of(explorer: Any, sheet: str = "sheet") -> Mapping[str, Any]:
    """A sheet of an explorer's first network, with numbers in place of packed arrays."""
    packed = explorer.description["networks"][0]["sheets"][sheet]
    return {k: unpacked(v, explorer.data) if isinstance(v, dict) else v for k, v in packed.items()}


ACTIVATIONS = RNG.random((20, 12)).astype(np.float32)
LABELS = np.arange(20) % 4


@pytest.mark.parametrize(
    "activations",
    [
        ACTIVATIONS,
        ACTIVATIONS.astype(np.float64).tolist(),
        torch.from_numpy(ACTIVATIONS),
        torch.from_numpy(ACTIVATIONS).double().requires_grad_(),
        ACTIVATIONS.astype(np.float16),
        torch.from_numpy(ACTIVATIONS).bfloat16(),
        {"sheet": ACTIVATIONS},
    ],
    ids=["array", "lists", "tensor", "grad", "half", "bfloat16", "mapping"],
)
@pytest.mark.parametrize("labels", [LABELS, LABELS.tolist(), torch.from_numpy(LABELS)], ids=["array", "list", "tensor"])
def test_activations_are_explored(activations: Any, labels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "AT_ONCE", 20 * 5)
    explorer = lp.explore(activations, lp.Grid(3, 4), labels)
    assert explorer.description["classes"] == ["0", "1", "2", "3"]
    shown = of(explorer)
    rounding = 1e-2 if "16" in str(getattr(activations, "dtype", "")) else 1e-6
    for key, expected in (
        ("means", analysis.class_means(ACTIVATIONS, LABELS)),
        ("selectivity", analysis.selectivity(ACTIVATIONS, LABELS).d_prime),
    ):
        step = explorer.description["networks"][0]["sheets"]["sheet"][key]["step"]
        assert shown[key] == pytest.approx(expected, abs=step + 10 * rounding)
    factors = shown["factors"]
    assert factors.T @ factors == pytest.approx(np.corrcoef(ACTIVATIONS.T), abs=0.05)
    assert shown["epochs"] is None
    assert (shown["places"], explorer.description["places"][0]["shape"]) == (0, [3, 4])


def test_activations_without_labels_have_one_map() -> None:
    explorer = lp.explore(ACTIVATIONS, Places.of(lp.HexGrid(3, 4)))
    assert explorer.description["classes"] == []
    shown = of(explorer)
    assert shown["means"][0] == pytest.approx(ACTIVATIONS.mean(axis=0), abs=1e-2)
    assert shown["selectivity"] is None


def test_classes_have_names() -> None:
    words = np.array(["<b>", "a", 'q"', "zz" * 5000])[LABELS]
    for labels in (words, words.tolist(), words.astype(object)):
        explorer = lp.explore(ACTIVATIONS, lp.Grid(3, 4), labels)
        assert explorer.description["classes"] == sorted(set(words.tolist()))
    explorer = lp.explore(ACTIVATIONS, lp.Grid(3, 4), LABELS * 1000 - 7)
    assert explorer.description["classes"] == ["-7", "993", "1993", "2993"]


def test_of_many_classes_some_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "MOST_CLASSES", 3)
    labels = np.arange(20) % 5
    explorer = lp.explore(ACTIVATIONS, lp.Grid(3, 4), labels)
    assert explorer.description["classes"] == ["0", "2", "4"]
    assert explorer.description["note"] == "3 of 5 classes are shown."
    expected = analysis.selectivity(ACTIVATIONS, labels).d_prime[[0, 2, 4]]  # against all others, shown or not
    assert of(explorer)["selectivity"] == pytest.approx(expected, abs=0.05)


def test_several_sheets_are_explored() -> None:
    more = {"one": ACTIVATIONS, "two": ACTIVATIONS[:, :9]}
    explorer = lp.explore(more, {"two": lp.Grid(3, 3), "one": lp.Grid(3, 4)}, LABELS)
    assert list(explorer.description["networks"][0]["sheets"]) == ["one", "two"]
    assert of(explorer, "two")["means"].shape == (4, 9)
    explorer = lp.explore({"one": ACTIVATIONS, "two": ACTIVATIONS}, lp.Grid(3, 4))
    assert len(explorer.description["places"]) == 1


def test_silent_units_and_undefined_responses() -> None:
    activations = ACTIVATIONS.copy()
    activations[:, 3], activations[4, 5] = 0.5, np.nan
    shown = of(lp.explore(activations, lp.Grid(3, 4), LABELS))
    assert np.abs(shown["selectivity"][:, 3]).max() < 0.02
    assert np.isnan(shown["means"][0, 5])
    assert np.isfinite(shown["means"][1:, 5]).all()
    assert np.abs(shown["factors"][:, [3, 5]]).max() < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ACTIVATIONS,), r"sheet: got None, expected where the units sit"),
        ((ACTIVATIONS, lp.Grid(4, 4)), "activations: got 12 units, expected the 16 units of the sheet"),
        (
            (ACTIVATIONS[0], lp.Grid(3, 4)),
            r"activations: got shape \(12,\), expected numbers of shape",
        ),
        ((ACTIVATIONS[:0], lp.Grid(3, 4)), r"activations: got shape \(0, 12\), .* of one item or more"),
        (("nowhere/at/all",), "shown: got nowhere/at/all, expected the directory of a run or of a study"),
        ((["nowhere/at/all"],), "shown: got nowhere/at/all"),
        ((Path("nowhere"), lp.Grid(3, 4)), "sheet: got Grid.*, expected None for directories"),
        (("nowhere", None, LABELS), "labels: got ndarray.*, expected None for directories"),
        (([["a"]], lp.Grid(1)), "activations: got .*, expected an array of numbers"),
        ((object(), lp.Grid(1)), "activations: got .*, expected an array of numbers"),
        (({}, lp.Grid(1)), "activations: got {}, expected activations"),
        (({1: ACTIVATIONS}, lp.Grid(3, 4)), "activations: got {1: .*, expected activations"),
        (({"a": ACTIVATIONS}, {"b": lp.Grid(3, 4)}), "sheet: got sheets b, expected those of a"),
        ((ACTIVATIONS, (3, 4)), r"geometry: got \(3, 4\), expected a Geometry"),
        ((ACTIVATIONS, lp.Graph(np.eye(12, k=1) + np.eye(12, k=-1))), "expected a geometry of places"),
        ((ACTIVATIONS, lp.Grid(3, 4), LABELS[:5]), "labels: got 5 labels, expected one for each of 20 items"),
        ((ACTIVATIONS, lp.Grid(3, 4), LABELS / 2), r"labels: got float64 \(20,\), expected whole numbers or names"),
        ((ACTIVATIONS, lp.Grid(3, 4), [[1], [1, 2]]), "labels: got .*, expected whole numbers or names"),
        ((ACTIVATIONS, lp.Grid(3, 4), np.ma.masked_equal(LABELS, 2)), "labels: got an array with 5 masked values"),
        ((ACTIVATIONS, lp.Grid(3, 4), 3), r"labels: got int64 \(\), expected whole numbers or names"),
    ],
)
def test_what_cannot_be_explored_is_one_line(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        lp.explore(*arguments)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two conditions and two seeds."""
    home = tmp_path_factory.mktemp("study")
    axes = Axes(task=TASK, model=MODEL, cost=("flat", "linear"), seeds=(1, 2), epochs=2, batch_size=16)
    with ThreadPoolExecutor(1) as executor:
        study = Study(axes, title="Small")
        assert run_study(study, home, executor=executor, console=Console(file=io.StringIO())) == {}
    find(home)
    return home


def test_a_run_is_explored(study: Path) -> None:
    home = next(one.parent for one in sorted(study.rglob("analysis.json")))
    measured = read_measured(home)
    explorer = lp.explore(home)
    assert explorer.description["title"] == home.name
    assert explorer.description["classes"] == measured.analysis["task"]["classes"]
    (one,) = explorer.description["networks"]
    assert (one["name"], one["seed"]) == (measured.analysis["condition"], measured.analysis["seed"])
    assert set(one["sheets"]) == {"input", "output"}
    assert one["sheets"]["input"]["epochs"] == [0, 1, 2]
    held(measured.arrays["sheet/input/class_means"], one["sheets"]["input"]["means"], explorer.data)
    assert (one["layers"]["middle"]["source"], one["layers"]["middle"]["target"]) == ("input", "output")


def test_a_study_is_explored(study: Path) -> None:
    explorer = lp.explore(str(study))
    found = json.loads((study / "study.json").read_text())
    labels = {name: one["label"] for name, one in found["conditions"].items()}
    expected = [(labels[cell["condition"]], cell["seed"]) for cell in found["cells"]]
    assert [(one["name"], one["seed"]) for one in explorer.description["networks"]] == expected
    assert explorer.description["title"] == found["title"]
    assert explorer.description["note"] == ""
    two = lp.explore([one.parent for one in sorted(study.rglob("analysis.json"))[:2]])
    assert len(two.description["networks"]) == 2


def test_of_many_networks_some_are_shown(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "MOST_NETWORKS", 3)
    explorer = lp.explore(study)
    assert len(explorer.description["networks"]) == 3
    assert explorer.description["note"] == "The first 3 of 4 networks are shown."


def altered(home: Path, to: Path, change: Any) -> Path:
    """A copy of a run without its checked files, whose numbers ``change`` has changed."""
    to.mkdir()
    told = json.loads((home / "analysis.json").read_text())
    with np.load(home / "measures.npz") as loaded:
        arrays = dict(loaded)
    change(told, arrays)
    (to / "analysis.json").write_text(json.dumps(told))
    np.savez(to / "measures.npz", **arrays)
    return to


def test_runs_that_cannot_be_shown(study: Path, tmp_path: Path) -> None:
    home = next(one.parent for one in sorted(study.rglob("analysis.json")))

    def unplaced(told: Any, arrays: Any) -> None:
        for sheet in told["sheets"].values():
            sheet["places"] = None

    with pytest.raises(Problem, match="has no sheet that can be shown"):
        lp.explore(altered(home, tmp_path / "unplaced", unplaced))
    both = lp.explore([home, tmp_path / "unplaced"])
    assert both.description["note"] == "1 without a sheet that can be drawn is left out."

    others = altered(home, tmp_path / "others", lambda told, arrays: told["task"].update(classes=list("wxyz")))
    both = lp.explore([home, others])
    assert both.description["note"] == "1 with other classes is left out."
    assert len(both.description["networks"]) == 1

    def short(told: Any, arrays: Any) -> None:
        arrays["sheet/input/class_means"] = np.zeros((4, 3))

    with pytest.raises(Problem, match=r"cannot be shown: means: got shape \(4, 3\).* Run the command"):
        lp.explore(altered(home, tmp_path / "short", short))
    with pytest.raises(Problem, match="cannot be shown"):
        lp.explore(altered(home, tmp_path / "odd", lambda told, arrays: told.update(layers=[1])))
    (tmp_path / "short" / "measures.npz").write_bytes(b"PK nothing")
    with pytest.raises(Problem, match=r"cannot be shown: .*damaged"):
        lp.explore(tmp_path / "short")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="expected the directory of a finished run, or of a study that has one"):
        lp.explore(tmp_path / "empty")


def test_a_damaged_study_is_told(study: Path, tmp_path: Path) -> None:
    home = next(one.parent for one in sorted(study.rglob("analysis.json")))
    altered(home, tmp_path / "run", lambda told, arrays: None)
    assert lp.explore(tmp_path).description["title"] == tmp_path.name  # a folder of runs
    for text in ("[]", "{", '{"title": "", "groups": [], "cells": [{"condition": "x"}], "conditions": {}}'):
        (tmp_path / "study.json").write_text(text)
        with pytest.raises(Problem, match=r"is damaged .*locality-prior analyse"):
            lp.explore(tmp_path)


def test_the_page_is_saved(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script>\u2028\x00\"'" + "x" * 10_000
    explorer = lp.explore({hostile: ACTIVATIONS}, lp.Grid(3, 4), [f"{hostile}{k}" for k in LABELS])
    explorer.save(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text == explorer.page()
    assert (
        text.count("<script")
        == text.count("</script>")
        == lp.explore(ACTIVATIONS, lp.Grid(3, 4)).page().count("<script")
    )
    assert "alert(1)</script>" not in text
    assert hostile in explorer.description["networks"][0]["sheets"]


def test_a_notebook_holds_the_page_unless_it_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    from locality_prior.explorer import widget

    explorer = lp.explore(ACTIVATIONS, lp.Grid(3, 4))
    shown, _ = explorer._repr_mimebundle_()
    assert set(shown) == {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    assert shown["text/plain"].startswith("Explorer of 1 network:")
    monkeypatch.setattr(widget, "MOST_HTML", 1000)
    assert "text/html" not in explorer._repr_mimebundle_()[0]


def test_exploring_needs_no_torch_and_reading_no_yaml(study: Path) -> None:
    home = next(one.parent for one in sorted(study.rglob("analysis.json")))
    code = f"""
import sys
sys.modules.update(dict.fromkeys(["torch", "yaml", "scipy", "lightning_fabric"]))
import numpy as np
import locality_prior as lp
from locality_prior.plots import Places
lp.explore([[1.0, 2.0], [3.0, 5.0]], Places(np.eye(2), "points"), [0, 1])
print(lp.explore({str(home)!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.startswith("Explorer of 1 network"), done.stderr


def test_without_anywidget_one_line_says_how_to_install_it() -> None:
    code = """
import sys
sys.modules["anywidget"] = None
import locality_prior as lp
try:
    lp.explore
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == (
        "locality_prior.explore needs more than the core. Install it with: pip install 'locality-prior[notebook]'\n"
    ), done.stderr
