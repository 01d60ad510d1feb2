"""Reading a study's files, which may be damaged or come from somebody else. Nothing in them is executed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locality_prior._check import Problem, wrong
from locality_prior._files import read_csv, read_json, read_npz
from locality_prior.explorer.scene import Network, network, places_of
from locality_prior.report.words import LONGEST, plain
from locality_prior.studies.files import FINDINGS

Floats = NDArray[np.float64]

#: Bytes beyond which a file is not what a run writes.
LARGEST = 1 << 30
#: A strength must be below this, so that it can be a float.
LARGEST_STRENGTH = 1e300

#: The last part of the names of arrays in measures.npz that are of single units and wires, and of surfaces.
OF_UNITS = {
    *("epochs", "epoch_means", "epoch_positions", "factors", "origin", "weight", "distance", "rank"),
    *("vertex", "vertices", "faces", "curvature"),
}

_NUMBER = (int, float, type(None))
_TEXT = (str, type(None))
_OBJECT = dict


class _Each:
    """A JSON object whose keys are names, and whose values all have one shape."""

    def __init__(self, shape: Any) -> None:
        self.shape = shape


#: What study.json must hold: a type, a list of one shape, an object of some keys, or an object of names.
_SHAPE: dict[str, Any] = {
    "title": str,
    "about": [str],
    "command": str,
    "groups": [
        {
            "name": str,
            "task": str,
            "model": str,
            "conditions": [str],
            "control": str,
            "classes": (list, type(None)),
            "scores": [{"name": str, "unit": str}],
            "recipe": _OBJECT,
            "sheets": _Each({"units": int, "places": (dict, type(None))}),
            "layers": _Each(_OBJECT),
        }
    ],
    "conditions": _Each({"group": str, "control": _TEXT, "null": _TEXT, "label": str}),
    "measures": _Each({"base": str, "part": _TEXT, "label": str, "unit": str, "forced": bool}),
    "published": [{"name": str, "source": str, "measures": _Each(_NUMBER)}],
    "cells": [{"condition": str, "seed": int, "run": str, "measures": (dict, type(None))}],
    "comparisons": [
        {
            "condition": str,
            "control": str,
            "measure": str,
            "n": int,
            "mean_difference": _NUMBER,
            "ci": (list, type(None)),
            "p": _NUMBER,
            "p_holm": _NUMBER,
            "p_permutation": _NUMBER,
            "effect": _NUMBER,
            "seeds_needed": _NUMBER,
            "seeds_needed_near_end": _NUMBER,
            "evidence": _NUMBER,
        }
    ],
    "hypotheses": [
        {
            "says": str,
            "measure": str,
            "expected": str,
            "margin": _NUMBER,
            "condition": str,
            "control": str,
            "n": int,
            "mean_difference": _NUMBER,
            "ci": (list, type(None)),
            "verdict": str,
        }
    ],
    "answers": [{"condition": str, "text": str, "n": int}],
}
#: What study.json may hold besides: of a condition, of a comparison, and of a study.
_OF_CONDITION = {"method": _TEXT, "objective": _TEXT, "strength": _NUMBER}
_LIKENESS = [{"condition": str, "sheet": str, "representation": _NUMBER, "map": _NUMBER, "chance": _NUMBER}]
_PER_ITEM = [{"mean_difference": _NUMBER, "p": _NUMBER}]


@dataclass(frozen=True)
class Run:
    """What one network left for the page.

    Args:
        arrays: measures.npz, by key, without those of single units, wires and surfaces.
        metrics: metrics.csv, by column; empty for a network that was not trained by this package.
        pruning: pruning.csv: what is cut first → columns.
        network: what it holds of single units and wires, which the explorer shows.
    """

    arrays: dict[str, Floats]
    metrics: dict[str, Floats] = field(default_factory=dict)
    pruning: dict[str, dict[str, Floats]] = field(default_factory=dict)
    network: Network | None = None


@dataclass(frozen=True)
class Study:
    """``study.json`` and the runs that it names, by (condition, seed)."""

    found: dict[str, Any]
    runs: dict[tuple[str, int], Run] = field(default_factory=dict)

    def label(self, condition: str) -> str:
        """A condition as a reader sees it."""
        return plain(self.found["conditions"][condition]["label"])

    @cached_property
    def _values(self) -> dict[str, dict[int, dict[str, Any] | None]]:
        table: dict[str, dict[int, dict[str, Any] | None]] = {name: {} for name in self.found["conditions"]}
        for cell in self.found["cells"]:
            table[cell["condition"]][cell["seed"]] = cell["measures"]
        return table

    @cached_property
    def done(self) -> list[tuple[str, int]]:
        """(condition, seed) of the networks that have results."""
        return [(cell["condition"], cell["seed"]) for cell in self.found["cells"] if cell["measures"] is not None]

    def seeds(self, group: dict[str, Any]) -> list[int]:
        """Every seed of a group, whether or not its networks have results."""
        return sorted({seed for name in group["conditions"] for seed in self._values[name]})

    def values(self, condition: str, measure: str) -> dict[int, float]:
        """Seed → the measure, for each network of a condition in which it is defined."""
        defined = {}
        for seed, measures in self._values[condition].items():
            value = (measures or {}).get(measure)
            if isinstance(value, (int, float)) and math.isfinite(value):
                defined[seed] = float(value)
        return defined

    def measures(self, group: dict[str, Any]) -> list[str]:
        """Measures that are defined in some network of a group, in the order of study.json."""
        return [m for m in self.found["measures"] if any(self.values(c, m) for c in group["conditions"])]

    def of(self, group: dict[str, Any], key: str) -> list[dict[str, Any]]:
        """The cells or comparisons (``key``) of a group's conditions."""
        return [one for one in self.found[key] if one["condition"] in set(group["conditions"])]


def read(directory: Path) -> Study:
    """Everything that the page of ``directory`` needs.

    Raises:
        ValueError: there is no study.json.
        Problem: a file that is damaged.
    """
    found = read_found(directory)
    groups = {name: group for group in found["groups"] for name in group["conditions"]}
    study = Study(found)
    for cell in found["cells"]:
        if cell["measures"] is not None:
            study.runs[cell["condition"], cell["seed"]] = _run(directory, cell, groups[cell["condition"]], study)
    return study


def read_found(directory: Path) -> dict[str, Any]:
    """What study.json says.

    Raises:
        ValueError: there is no study.json.
        Problem: it is damaged.
    """
    path = directory / FINDINGS
    if not path.is_file():
        raise wrong("directory", str(directory), f"the directory of a study, which holds {FINDINGS}")
    again = "Make it again with `locality-prior analyse`."
    try:
        found = read_json(path, LARGEST)
        _check(found, _SHAPE, "it")
        _names(found)
    except ValueError as error:
        raise Problem(f"{path} cannot be read: {_reason(error, path)}. {again}") from None
    result: dict[str, Any] = found
    return result


def _check(value: Any, shape: Any, where: str) -> None:
    if isinstance(shape, list):
        _check(value, list, where)
        for k, one in enumerate(value):
            _check(one, shape[0], f"{where}[{k}]")
    elif isinstance(shape, dict):
        _check(value, dict, where)
        for key, inner in shape.items():
            if key not in value:
                raise ValueError(f"{where} has no {key!r}")
            _check(value[key], inner, key)
    elif isinstance(shape, _Each):
        _check(value, dict, where)
        for one in value.values():
            _check(one, shape.shape, f"an entry of {where}")
    elif not isinstance(value, shape):
        kinds = shape if isinstance(shape, tuple) else (shape,)
        names = {"dict": "object", "str": "text", "int": "whole number", "float": "number", "NoneType": "null"}
        expected = " or ".join(names.get(k.__name__, k.__name__) for k in kinds)
        raise ValueError(f"{where} is {plain(repr(value), 40)}, not {expected}")


def _names(found: dict[str, Any]) -> None:
    """That what refers to a condition, a measure or a group names one that is there."""
    conditions, measures = found["conditions"], found["measures"]
    grouped = [name for group in found["groups"] for name in group["conditions"]]
    if sorted(grouped) != sorted(conditions):
        raise ValueError("its groups do not hold each condition once")
    used = [("condition", group["control"]) for group in found["groups"]]
    used += [("condition", c[key]) for c in conditions.values() for key in ("control", "null") if c[key] is not None]
    used += [("condition", one["condition"]) for key in ("cells", "answers") for one in found[key]]
    for one in (*found["comparisons"], *found["hypotheses"]):
        used += [("condition", one["condition"]), ("condition", one["control"]), ("measure", one["measure"])]
        if one["ci"] is not None and not (len(one["ci"]) == 2 and all(isinstance(v, (int, float)) for v in one["ci"])):
            raise ValueError("an interval is not two numbers")
        _check(one.get("per_item", []), _PER_ITEM, "per_item")
    for one in conditions.values():
        _check({key: one.get(key) for key in _OF_CONDITION}, _OF_CONDITION, "a condition")
        if not abs(one.get("strength") or 0) < LARGEST_STRENGTH:
            raise ValueError("a strength is beyond all numbers")
    likeness = found.get("likeness") or []
    _check(likeness, _LIKENESS, "likeness")
    _check(found.get("summary", []), [str], "summary")
    used += [("condition", one["condition"]) for one in likeness]
    for kind, name in used:
        if name not in (conditions if kind == "condition" else measures):
            raise ValueError(f"it names the {kind} {plain(name, LONGEST)!r}, which it does not describe")


def _run(directory: Path, cell: dict[str, Any], group: dict[str, Any], study: Study) -> Run:
    name: str = cell["run"]
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or "\\" in name or "\0" in name or not inside.parts:
        raise Problem(
            f"{directory / FINDINGS} names a run outside its own directory ({plain(name, LONGEST)!r}). "
            "Make it again with `locality-prior analyse`."
        )
    home = directory / inside
    path = home / "measures.npz"
    try:
        read = read_npz(path, LARGEST)
        arrays = {key: a.astype(np.float64) for key, a in read.items() if key.rpartition("/")[2] not in OF_UNITS}
        _fits(arrays, read, group)
        shown = network(study.label(cell["condition"]), cell["seed"], read, group["sheets"], group["layers"])
        path = home / "metrics.csv"
        metrics = _columns(read_csv(path)) if path.exists() else {}
        path = home / "pruning.csv"
        pruning: dict[str, dict[str, Floats]] = {}
        if path.exists():
            rows = read_csv(path, ("by",))
            for by in dict.fromkeys(row["by"] for row in rows):
                pruning[by] = _columns([{k: v for k, v in row.items() if k != "by"} for row in rows if row["by"] == by])
            for curve in pruning.values():
                if not {"share", "wire_length", "test"} <= curve.keys() or not (curve["share"] > 0).all():
                    raise ValueError("it lacks a column, or a share is not above 0")
    except (ValueError, TypeError) as error:
        raise Problem(
            f"{path} cannot be read: {_reason(error, path)}. To write it anew, run the study again; "
            "for a network that was trained elsewhere, record it again."
        ) from None
    return Run(arrays, metrics, pruning, shown)


def _reason(error: Exception, path: Path) -> str:
    """What is wrong with a file, without its name, which the sentence around it has."""
    return plain(str(error).removeprefix(f"{path}: "), 200)


def _fits(arrays: dict[str, Floats], read: dict[str, NDArray[Any]], group: dict[str, Any]) -> None:
    """That the arrays have the shapes of the group's sheets and layers; ``read``: all that were read."""
    classes = arrays.get("classes", np.empty(0))
    if classes.ndim != 1 or not np.isfinite(classes).all():
        raise ValueError("its classes are not a list of numbers")
    k = len(classes)
    for name, sheet in group["sheets"].items():
        units = sheet["units"]
        for key, shape in (("xy", (units, 2)), ("class_means", (k, units))):
            array = arrays.get(f"sheet/{name}/{key}")
            if array is not None and array.shape != shape:
                raise ValueError(f"sheet/{plain(name)}/{key} has shape {array.shape}, not {shape}")
        if sheet["places"] is not None and f"sheet/{name}/xy" in arrays:
            places_of(sheet["places"], read, name)
        curve = arrays.get(f"sheet/{name}/curve")
        if curve is not None and (curve.ndim != 2 or len(curve) != 3):
            raise ValueError(f"sheet/{plain(name)}/curve has shape {curve.shape}, not (3, bins)")
    for name in group["layers"]:
        shapes = {
            arrays[key].shape for key in (f"wires/{name}/{p}" for p in ("length", "strength", "count")) if key in arrays
        }
        if len(shapes) > 1 or any(len(shape) != 1 for shape in shapes):
            raise ValueError(f"the arrays of wires/{plain(name)} have different shapes")


def _columns(rows: list[dict[str, str]]) -> dict[str, Floats]:
    """Columns of numbers; an empty field is NaN."""
    return {key: np.array([float(row[key] or "nan") for row in rows]) for key in (rows[0] if rows else ())}
