"""What the explorer shows, as numbers: networks, their sheets and wires, and how they are packed for a browser."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from locality_prior._check import count, instance, shown, wrong
from locality_prior.plots import Places
from locality_prior.plots.places import where_moved
from locality_prior.plots.surfaces import BENT, STEPS, Surface

Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]

#: The most bytes that a scene is packed into.
MOST_BYTES = 512 << 20
#: The most class means of a sheet, or d′, that are packed in 65,534 steps and not in 254.
EXACT = 1 << 20
#: Numbers that are packed at once.
AT_ONCE = 1 << 22
#: The distance between the rows of a sheet of hexagons.
HIGH = math.sqrt(3) / 2
#: Larger numbers are packed as this, so that the range of an array is a number.
LARGEST = np.finfo(np.float64).max / 4


@dataclass(frozen=True, eq=False)
class Sheet:
    """One sheet of one network. Numbers that are not finite count as undefined.

    Args:
        places: where its units are drawn.
        means: (classes, units) each unit's mean response to the items of each class.
        selectivity: (classes, units) d′, how much more a unit responds to a class than to the rest; None if not known.
        epochs: (e,) the epochs after which maps were kept, 0 for before training; None if none were. The last is the
            end of training, whose class means are ``means``.
        epoch_means: (e, classes, units) the class means at those epochs.
        factors: (k, units), where Σ_k f_ki f_kj is the correlation of units i and j over items; None if not known.
        epoch_xy: (e, units, 2) the places of units that moved, at those epochs; the last ones are ``places``.
    """

    places: Places
    means: Floats
    selectivity: Floats | None = None
    epochs: Integers | None = None
    epoch_means: Floats | None = None
    factors: Floats | None = None
    epoch_xy: Floats | None = None

    def __post_init__(self) -> None:
        instance("places", self.places, Places, "Places, such as Places.of(Grid(32, 32))")
        units = len(self.places)
        means = _floats("means", self.means, "classes", units)
        object.__setattr__(self, "means", means)
        if self.selectivity is not None:
            object.__setattr__(self, "selectivity", _floats("selectivity", self.selectivity, len(means), units))
        if (self.epochs is None) != (self.epoch_means is None and self.epoch_xy is None):
            lacks = "epochs" if self.epochs is None else "epoch_means"
            raise wrong(lacks, None, "both epochs and what was kept at them, or neither")
        if self.epochs is not None:
            epochs = _integers("epochs", self.epochs, "epochs")
            object.__setattr__(self, "epochs", epochs)
            if self.epoch_means is not None:
                kept = _floats("epoch_means", self.epoch_means, len(epochs), len(means), units)
                object.__setattr__(self, "epoch_means", kept)
            if self.epoch_xy is not None:
                moved = _floats("epoch_xy", self.epoch_xy, len(epochs), units, 2)
                if self.places.kind != "points" or not np.isfinite(moved).all():
                    raise wrong("epoch_xy", f"places of {self.places.kind}", "finite places of units that are points")
                object.__setattr__(self, "epoch_xy", moved)
        if self.factors is not None:
            object.__setattr__(self, "factors", _floats("factors", self.factors, "factors", units))


@dataclass(frozen=True, eq=False)
class Wires:
    """The strongest wires into each unit of a layer, the strongest first.

    Args:
        source: the name of the sheet that they leave; None if that end is on none.
        target: the name of the sheet that they enter; None if that end is on none.
        units: how many units the two ends have, source and target.
        origin: (target units, k) the number of the source unit.
        weight: (target units, k) |V|; 0 where a unit has fewer wires.
        distance: (target units, k) length; NaN where it is not known.
        rank: (target units, k) the share of the layer's wires that are as strong or stronger, above 0 and at most 1. If
            the layer is cut down to a share s of its wires, those with rank ≤ s are kept.
    """

    source: str | None
    target: str | None
    units: tuple[int, int]
    origin: Integers
    weight: Floats
    distance: Floats
    rank: Floats

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            if getattr(self, name) is not None:
                instance(name, getattr(self, name), str, "the name of a sheet, or None")
        if not isinstance(self.units, (tuple, list)) or len(self.units) != 2:
            raise wrong("units", self.units, "two numbers of units, of source and target")
        source, target = (count("units", n) for n in self.units)
        origin = _integers("origin", self.origin, target, "wires")
        if origin.max(initial=0) >= source:
            raise wrong("origin", int(origin.max()), f"numbers of source units, from 0 to {source - 1:,}")
        object.__setattr__(self, "units", (source, target))
        object.__setattr__(self, "origin", origin)
        for name in ("weight", "distance", "rank"):
            object.__setattr__(self, name, _floats(name, getattr(self, name), *origin.shape))


@dataclass(frozen=True, eq=False)
class Network:
    """One trained network.

    Args:
        name: its condition as a reader sees it, such as "linear@2".
        seed: None if not known.
        sheets: by name.
        layers: by name, the wires of each.
    """

    name: str
    seed: int | None
    sheets: Mapping[str, Sheet]
    layers: Mapping[str, Wires]

    def __post_init__(self) -> None:
        instance("name", self.name, str, "a text")
        if self.seed is not None:
            object.__setattr__(self, "seed", count("seed", self.seed, 0))
        for argument, values, kind in (("sheets", self.sheets, Sheet), ("layers", self.layers, Wires)):
            instance(argument, values, Mapping, f"a mapping of names to {kind.__name__}")
            for name, value in values.items():
                instance(argument, name, str, "names that are texts")
                instance(argument, value, kind, f"a {kind.__name__} for each name")
        for layer, wires in self.layers.items():
            for end, units in zip((wires.source, wires.target), wires.units, strict=True):
                if end is not None and end not in self.sheets:
                    raise wrong("layers", f"{layer!r} on the sheet {end!r}", f"one of {', '.join(self.sheets)}")
                if end is not None and len(self.sheets[end].places) != units:
                    there = len(self.sheets[end].places)
                    raise wrong("layers", f"{layer!r} of {units:,} units", f"the {there:,} units of the sheet {end!r}")


@dataclass(frozen=True, eq=False)
class Scene:
    """All that one explorer shows.

    Args:
        title: of the page.
        classes: the names of the classes that have maps. If it is empty, each sheet has one map: the mean over items.
        networks: one or more.
        note: a line under the views, such as what was left out.
        against: the name of the network that stands beside the first one at the start; empty: the last one.
    """

    title: str
    classes: tuple[str, ...]
    networks: tuple[Network, ...]
    note: str = ""
    against: str = ""

    def __post_init__(self) -> None:
        for name in ("title", "note", "against"):
            instance(name, getattr(self, name), str, "a text")
        for name, kind in (("classes", str), ("networks", Network)):
            values = tuple(instance(name, getattr(self, name), (tuple, list), f"a tuple of {kind.__name__}"))
            for value in values:
                instance(name, value, kind, f"a {kind.__name__} for each entry")
            object.__setattr__(self, name, values)
        if not self.networks:
            raise wrong("networks", self.networks, "one network or more")
        maps = len(self.classes) or 1
        for network in self.networks:
            for name, sheet in network.sheets.items():
                if len(sheet.means) != maps:
                    expected = f"{maps} maps, as there are {len(self.classes)} classes"
                    raise wrong("networks", f"{len(sheet.means)} maps of the sheet {name!r}", expected)


def network(
    name: str,
    seed: int | None,
    arrays: Mapping[str, npt.NDArray[Any]],
    sheets: Mapping[str, Mapping[str, Any]],
    layers: Mapping[str, Mapping[str, Any]],
) -> Network:
    """A network from what its run keeps.

    A sheet without places or class means is left out, and so is a layer without its strongest wires.

    Args:
        name: its condition as a reader sees it.
        seed: of the network.
        arrays: those of measures.npz.
        sheets: what analysis.json says of each sheet: ``places``, see :meth:`Places.config`, or None.
        layers: what it says of each layer: the sheets that its wires leave and enter, ``from`` and ``to``, and how many
            ``units`` the two have.

    Raises:
        ValueError: arrays that do not fit.
    """
    drawn: dict[str, Sheet] = {}
    for key, sheet in sheets.items():
        xy, means = arrays.get(f"sheet/{key}/xy"), arrays.get(f"sheet/{key}/class_means")
        if sheet.get("places") is None or xy is None or means is None:
            continue
        places, moved = places_of(sheet["places"], arrays, key)
        epochs, grown = arrays.get("epochs"), arrays.get(f"sheet/{key}/epoch_means")
        drawn[key] = Sheet(
            places,
            means,
            arrays.get(f"sheet/{key}/selectivity"),
            None if epochs is None or (grown is None and moved is None) else _whole(epochs),
            None if epochs is None else grown,
            arrays.get(f"sheet/{key}/factors"),
            None if epochs is None else moved,
        )
    wires: dict[str, Wires] = {}
    for key, layer in layers.items():
        parts = ("origin", "weight", "distance", "rank")
        kept = {part: arrays[f"wires/{key}/{part}"] for part in parts if f"wires/{key}/{part}" in arrays}
        if len(kept) < len(parts) or "units" not in layer:
            continue
        source, target = (
            end if end in drawn and len(drawn[end].places) == units else None
            for end, units in zip((layer.get("from"), layer.get("to")), layer["units"], strict=True)
        )
        origin = _whole(kept["origin"])
        wires[key] = Wires(
            source, target, tuple(layer["units"]), origin, kept["weight"], kept["distance"], kept["rank"]
        )
    return Network(name, seed, drawn, wires)


def places_of(
    places: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], sheet: str
) -> tuple[Places, Floats | None]:
    """Where the units of a sheet are drawn and, if they moved, where they were at the kept epochs.

    Args:
        places: what the units lay on at the start, as in :meth:`Places.config`. Units that moved are points.
        arrays: those of measures.npz.
        sheet: its name.

    Returns:
        Places, and (epochs, units, 2) or None.

    Raises:
        ValueError: an array of another shape.
    """
    given = arrays.get(f"sheet/{sheet}/epoch_positions")
    if given is None:
        return Places.from_config(dict(places), arrays, sheet), None
    units = len(arrays[f"sheet/{sheet}/xy"])
    moved = _floats("epoch_positions", given, "epochs", units, "d")
    if not moved.size or not np.isfinite(moved).all():
        raise wrong("epoch_positions", f"shape {moved.shape}", "finite positions at one epoch or more")
    xy = where_moved(moved, places.get("kind", ""))
    return Places(xy[-1], "points"), xy


def in_order(shown: Network) -> Network:
    """A network whose cells and hexagons are numbered row by row, as a reader finds them.

    Those that are not the first cells of their sheet have no such numbers: they are points at the same places.
    """
    sheets: dict[str, Sheet] = {}
    orders: dict[str, Integers] = {}  # of sheets in another order, the unit at each place
    for name, sheet in shown.sheets.items():
        at, sheets[name] = sheet.places, sheet
        if at.kind not in ("cells", "hexagons"):
            continue
        order = np.lexsort(at.xy.T)
        cells = np.arange(len(at))
        own = np.stack([cells % at.shape[-1], cells // at.shape[-1]], axis=1).astype(np.float64)
        if at.kind == "hexagons":
            own = np.stack([own[:, 0] + own[:, 1] % 2 / 2, own[:, 1] * HIGH], axis=1)
        if not np.allclose(at.xy[order], own, atol=1e-3):
            down, right = (1.0, 1.0, *at.spacing)[-2:]
            sheets[name] = replace(sheet, places=Places(at.xy * (right, -down), "points"))
        elif (order != cells).any():
            orders[name] = order
            parts = ("means", "selectivity", "epoch_means", "factors")
            moved = {part: a[..., order] for part in parts if (a := getattr(sheet, part)) is not None}
            sheets[name] = replace(sheet, places=replace(at, xy=at.xy[order]), **moved)
    layers = dict(shown.layers)
    for name, wires in layers.items():
        if wires.target in orders:
            parts = ("origin", "weight", "distance", "rank")
            wires = replace(wires, **{part: getattr(wires, part)[orders[wires.target]] for part in parts})
        if wires.source in orders:
            wires = replace(wires, origin=np.argsort(orders[wires.source])[wires.origin])
        layers[name] = wires
    return replace(shown, sheets=sheets, layers=layers)


def _whole(values: Any) -> Any:
    """Whole numbers that were read as floats, as whole numbers."""
    a = np.asarray(values)
    return a.astype(np.int64) if a.dtype.kind == "f" and (a == np.rint(a)).all() else a


def pack(scene: Scene) -> tuple[dict[str, Any], bytes]:
    """A scene as plain values for JSON, and the bytes of its arrays.

    In the description an array is ``{"at", "shape", "type", "low", "step"}``: ``type`` ("u1", "u2" or "u4", little
    end first) from byte ``at`` on, a multiple of 4. The values are low + step·code, and the largest code of u1 and u2
    is undefined (NaN). They differ from those given by at most half a step, which is 1/254 of the array's range. For
    places, lengths and ranks of wires, and class means and d′ of sheets that are not very large, it is 1/65,534. Arrays
    of the same bytes are held once.

    Raises:
        ValueError: the arrays would take more than 512 MiB.
    """
    buffer = _Buffer()
    places: list[dict[str, Any]] = []
    surfaces: list[dict[str, Any]] = []
    number: dict[str, int] = {}  # the numbers of places and surfaces, by their values

    def carried(given: Surface) -> int:
        if given.key not in number:
            number[given.key] = len(surfaces)
            surfaces.append(_surface(given, buffer))
        return number[given.key]

    def placed(given: Places) -> int:
        parts = [given.xy, *([] if given.vertex is None else [given.vertex])]
        key = json.dumps([given.config(), *(hashlib.sha256(a.tobytes()).hexdigest() for a in parts)])
        if given.surface is not None:
            key += given.surface.key
        if key not in number:
            number[key] = len(places)
            described = _places(given, buffer)
            if given.surface is not None:
                described["surface"] = carried(given.surface)
            places.append(described)
        return number[key]

    networks = [
        {
            "name": network.name,
            "seed": network.seed,
            "sheets": {name: {"places": placed(s.places), **_sheet(s, buffer)} for name, s in network.sheets.items()},
            "layers": {name: _wires(wires, buffer) for name, wires in network.layers.items()},
        }
        for network in map(in_order, scene.networks)
    ]
    description = {
        "title": scene.title,
        "note": scene.note,
        "against": scene.against,
        "classes": list(scene.classes),
        "places": places,
        "surfaces": surfaces,
        "networks": networks,
    }
    return description, bytes(buffer.held)


def _places(places: Places, buffer: _Buffer) -> dict[str, Any]:
    described = {
        "units": len(places),
        "kind": places.kind,
        "shape": list(places.shape),
        "spacing": list(places.spacing),
        "radius": places.radius,
    }
    if places.vertex is not None:
        first = places.cover.sides[0]  # from which the surface is seen at the start
        return {
            **described,
            "vertex": buffer.integers(places.vertex),
            "coloured": buffer.integers(places.cover.coloured + 1),  # 0 for none
            "turn": first.axes.ravel().tolist(),
            "window": list(first.window),
        }
    return {**described, "xy": None if places.kind == "cells" else buffer.values(places.xy, "u2")}


def _surface(surface: Surface, buffer: _Buffer) -> dict[str, Any]:
    bent = surface.curvature
    return {
        "vertices": buffer.steps(surface.vertices, STEPS, "u2"),
        "faces": buffer.integers(surface.faces),
        "curvature": None if bent is None else buffer.steps(bent, BENT, "u1"),
        "closed": surface.closed,
    }


def _sheet(sheet: Sheet, buffer: _Buffer) -> dict[str, Any]:
    def packed(values: Floats | None, exact: bool = False) -> dict[str, Any] | None:
        return None if values is None else buffer.values(values, "u2" if exact and values.size <= EXACT else "u1")

    return {
        "means": packed(sheet.means, exact=True),
        "selectivity": packed(sheet.selectivity, exact=True),
        "epochs": None if sheet.epochs is None else sheet.epochs.tolist(),
        "epoch_means": packed(sheet.epoch_means),
        "epoch_xy": None if sheet.epoch_xy is None else buffer.values(sheet.epoch_xy, "u2"),
        "factors": packed(sheet.factors),
    }


def _wires(wires: Wires, buffer: _Buffer) -> dict[str, Any]:
    return {
        "source": wires.source,
        "target": wires.target,
        "units": list(wires.units),
        "origin": buffer.integers(wires.origin),
        "weight": buffer.values(np.where(wires.weight > 0, wires.weight, np.nan)),  # 0 is no wire, not a weak one
        "distance": buffer.values(wires.distance, "u2"),
        "rank": buffer.values(wires.rank, "u2"),
    }


class _Buffer:
    """The bytes of arrays, one after another, each once."""

    def __init__(self) -> None:
        self.held = bytearray()
        self._at: dict[bytes, int] = {}

    def values(self, values: Floats, kind: str = "u1") -> dict[str, Any]:
        """Real numbers, as equal steps between the least and the largest."""
        flat = values.reshape(-1)
        parts = [slice(start, start + AT_ONCE) for start in range(0, len(flat), AT_ONCE)]
        low, high = math.inf, -math.inf
        for part in parts:
            there = np.isfinite(flat[part])
            low = min(low, float(flat[part].min(where=there, initial=math.inf)))
            high = max(high, float(flat[part].max(where=there, initial=-math.inf)))
        low, high = (min(max(x, -LARGEST), LARGEST) if low <= high else 0.0 for x in (low, high))
        undefined = int(np.iinfo(kind).max)
        step = (high - low) / (undefined - 1)
        codes = np.full(len(flat), undefined, dtype=f"<{kind}")
        for part in parts:
            there = np.isfinite(flat[part])
            given = flat[part][there].astype(np.float64).clip(low, high)
            codes[part][there] = np.rint((given - low) / step) if step else 0
        return {**self._hold(codes, values.shape, kind), "low": low, "step": step}

    def integers(self, values: npt.NDArray[Any]) -> dict[str, Any]:
        """Whole numbers from 0, as they are."""
        kind = "u2" if values.max(initial=0) < np.iinfo("u2").max else "u4"
        return {**self._hold(values.astype(f"<{kind}"), values.shape, kind), "low": 0.0, "step": 1.0}

    def steps(self, values: npt.NDArray[Any], most: int, kind: str) -> dict[str, Any]:
        """Whole numbers from -``most`` to ``most``, as numbers from -1 to 1."""
        codes = (values.astype(np.int64) + most).clip(0, 2 * most).astype(f"<{kind}")
        return {**self._hold(codes, values.shape, kind), "low": -1.0, "step": 1 / most}

    def _hold(self, codes: npt.NDArray[Any], shape: tuple[int, ...], kind: str) -> dict[str, Any]:
        held = codes.tobytes()
        key = hashlib.sha256(held).digest()
        if key not in self._at:
            self.held.extend(bytes(-len(self.held) % 4))
            self._at[key] = len(self.held)
            if len(self.held) + len(held) > MOST_BYTES:
                most = f"at most {MOST_BYTES >> 20:,} MiB: show fewer networks, or smaller sheets"
                raise wrong("scene", f"arrays of more than {MOST_BYTES >> 20:,} MiB", most)
            self.held.extend(held)
        return {"at": self._at[key], "shape": list(shape), "type": kind}


def _floats(name: str, values: Any, *axes: str | int) -> Floats:
    """``values`` as an array of floats with one axis for each of ``axes``: its length, or its name if any fits."""
    a = _shaped(name, values, "biuf", axes)
    return a if a.dtype.kind == "f" else a.astype(np.float64)


def _integers(name: str, values: Any, *axes: str | int) -> Integers:
    """The same for whole numbers from 0."""
    a = _shaped(name, values, "iu", axes)
    if a.size and a.min() < 0:
        raise wrong(name, int(a.min()), "whole numbers from 0")
    return a


def _shaped(name: str, values: Any, kinds: str, axes: tuple[str | int, ...]) -> npt.NDArray[Any]:
    expected = "whole numbers" if kinds == "iu" else "numbers"
    try:
        a = np.asarray(values)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise wrong(name, shown(values), f"an array of {expected}") from None
    if a.dtype.kind not in kinds:
        raise wrong(name, f"{a.dtype} {a.shape}" if a.ndim else shown(values), f"an array of {expected}")
    if a.ndim != len(axes) or any(isinstance(n, int) and n != m for n, m in zip(axes, a.shape, strict=True)):
        sizes = ", ".join(map(str, axes)) + "," * (len(axes) == 1)
        raise wrong(name, f"shape {a.shape}", f"{expected} of shape ({sizes})")
    return a
