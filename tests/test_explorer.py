"""What the explorer shows: how scenes are checked and packed, and how they are made of runs and of activations."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import locality_prior as lp
from locality_prior.explorer import Network, Scene, Sheet, Wires, pack, scene
from locality_prior.plots import Places

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
            assert packed[key]["type"] == "u1"
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
    assert (
        Places.from_config({k: packed[k] for k in ("kind", "shape", "spacing", "radius")}, places.xy).config()
        == places.config()
    )
    assert packed["units"] == len(places)
    whole = isinstance(geometry, lp.Grid) and geometry.whole
    assert (packed["xy"] is None) == whole
    if whole:
        cols = packed["shape"][-1]
        assert places.xy.tolist() == [[k % cols, k // cols] for k in range(len(places))]
    elif packed["kind"] == "cells":
        assert (unpacked(packed["xy"], data) == places.xy).all()
    else:
        assert packed["xy"]["type"] == "u2"
        held(places.xy, packed["xy"], data)


def test_cells_in_another_order_are_packed_as_they_are() -> None:
    xy = GRID.xy[::-1]
    one = Sheet(Places(xy, "cells", (3, 4)), np.zeros((1, 12)))
    description, data = pack(Scene("", (), (Network("", None, {"": one}, {}),)))
    assert (unpacked(description["places"][0]["xy"], data) == xy).all()


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
    assert len(data) == 24 + 24 + 72 + 60 + 48


def test_sources_of_many_units_are_numbered_by_four_bytes() -> None:
    for units, kind in ((65_535, "u2"), (65_536, "u4")):
        layer = wires(units, source=None, target=None, origin=np.full((12, 3), units - 1))
        description, data = pack(shown(networks=(Network("", None, {}, {"l": layer}),)))
        packed = description["networks"][0]["layers"]["l"]
        assert packed["origin"]["type"] == kind
        assert (unpacked(packed["origin"], data) == units - 1).all()


def test_too_large_a_scene_is_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "MOST_BYTES", 1 << 20)
    places = Places.of(lp.Grid(1024, 1024))
    pack(Scene("", (), (Network("", None, {"": Sheet(places, RNG.random((1, 1 << 20)))}, {}),)))
    with pytest.raises(ValueError, match=r"scene: got arrays of more than 1 MiB, expected at most 1 MiB"):
        pack(Scene("", ("a", "b"), (Network("", None, {"": Sheet(places, RNG.random((2, 1 << 20)))}, {}),)))


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
        (lambda: sheet(epochs=None), "epochs: got None, expected both epochs and epoch_means, or neither"),
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
