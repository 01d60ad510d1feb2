"""How alike the networks of one condition are from seed to seed, read from their files, without torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from locality_prior._check import Told
from locality_prior._files import read_npz
from locality_prior.analysis import likeness
from locality_prior.analysis.likeness import MOST_AXES, Axis
from locality_prior.runs import files

Floats = npt.NDArray[np.float64]

#: The most items whose representations are compared: so many, spread evenly over those that are kept.
ITEMS = 200
#: The most networks of a condition that are compared with one another: those of the first seeds.
NETWORKS = 20


def likenesses(
    conditions: Sequence[str], homes: Mapping[str, Sequence[Path]], runs: Mapping[Path, dict[str, Any]]
) -> list[dict[str, Any]]:
    """For each condition and sheet, how alike each two of its networks are, on average over pairs of seeds.

    Args:
        conditions: their names, in the study's order.
        homes: the directories of each condition's finished runs, in the order of their seeds.
        runs: the numbers of each run, by its directory.

    Returns:
        A row for each condition and sheet with at least two networks: the condition, the sheet, how many ``seeds`` and
        ``pairs``, and the means over pairs of ``representation`` (:func:`~analysis.representational_similarity`), of
        ``map`` and of its level by ``chance`` (:func:`~analysis.map_similarity`); None where no pair has them.
    """
    rows = []
    for condition in conditions:
        there = list(homes.get(condition, ()))[:NETWORKS]
        if len(there) < 2:
            continue
        told = [runs[home]["sheets"] for home in there]
        sheets = [name for name in told[0] if all(name in one for one in told)]
        networks = [_read(home, sheets) for home in there]
        pairs = list(itertools.combinations(range(len(there)), 2))
        for sheet in sheets:
            axes = _axes(told[0][sheet])
            found = [_pair(networks[i][sheet], networks[j][sheet], axes) for i, j in pairs]
            means = {name: _mean([one[name] for one in found]) for name in ("representation", "map", "chance")}
            rows.append({"condition": condition, "sheet": sheet, "seeds": len(there), "pairs": len(pairs), **means})
    return rows


class _Sheet(NamedTuple):
    """What is compared of one network's sheet.

    Args:
        similarities: how alike its responses to each two of at most :data:`ITEMS` items are; None where there are none.
        maps: the mean map of each class; empty where there are no classes.
    """

    similarities: Floats | None
    maps: dict[int, Floats]


def _read(home: Path, sheets: Sequence[str]) -> dict[str, _Sheet]:
    """The sheets of the run in ``home``, from arrays that may be damaged, missing or of another shape."""
    kept, measured = _arrays(home / files.ACTIVATIONS), _arrays(home / files.MEASURES)
    classes, found = measured.get("classes"), {}
    for sheet in sheets:
        similar, maps = None, {}
        responses, means = _numbers(kept, f"sheet/{sheet}"), _numbers(measured, f"sheet/{sheet}/class_means")
        if responses is not None:
            chosen = np.linspace(0, len(responses) - 1, min(len(responses), ITEMS)).round().astype(np.int64)
            similar = likeness.similarities(responses[chosen].astype(np.float64))
        if (
            means is not None
            and classes is not None
            and classes.shape == means.shape[:1]
            and classes.dtype.kind in "iu"
        ):
            maps = {int(k): row.astype(np.float64) for k, row in zip(classes, means, strict=True)}
        found[sheet] = _Sheet(similar, maps)
    return found


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file; none where there is no such file, or it is damaged."""
    try:
        return read_npz(path, files.MOST)
    except (Told, OSError):
        return {}


def _numbers(arrays: dict[str, npt.NDArray[Any]], name: str) -> npt.NDArray[Any] | None:
    """The matrix of numbers of that name."""
    found = arrays.get(name)
    return found if found is not None and found.ndim == 2 and found.size and found.dtype.kind in "fiu" else None


def _pair(one: _Sheet, other: _Sheet, axes: tuple[Axis, ...] | None) -> dict[str, float | None]:
    """How alike two networks are on a sheet."""
    found: dict[str, float | None] = {"representation": None, "map": None, "chance": None}
    if (
        one.similarities is not None
        and other.similarities is not None
        and len(one.similarities) == len(other.similarities)
    ):
        found["representation"] = likeness.agreement(one.similarities, other.similarities)
    shared = sorted(one.maps.keys() & other.maps.keys())
    if shared:
        a, b = (np.stack([sheet.maps[k] for k in shared]) for sheet in (one, other))
        if a.shape == b.shape and (axes is None or a.shape[1] == math.prod(n for n, _, _ in axes)):
            best = likeness.best_of_symmetries(a, b, axes)
            found["map"], found["chance"] = best.score, best.chance
    return found


def _axes(sheet: dict[str, Any]) -> tuple[Axis, ...] | None:
    """The axes of a sheet as a run's numbers tell them; None where they tell none that are axes."""
    told = sheet.get("axes")
    if not isinstance(told, list) or not 1 <= len(told) <= MOST_AXES:
        return None
    for axis in told:
        if not isinstance(axis, list) or [type(x) for x in axis] not in ([int, bool, float], [int, bool, int]):
            return None
        if axis[0] < 1:
            return None
    return tuple((n, periodic, float(spacing)) for n, periodic, spacing in told)


def _mean(values: list[float | None]) -> float | None:
    """The mean of the numbers, to six decimals: the last digits of a product depend on how many cores make it."""
    defined = [v for v in values if v is not None]
    return round(float(np.mean(defined)), 6) if defined else None
