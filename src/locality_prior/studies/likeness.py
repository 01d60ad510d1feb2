"""How alike the networks of one condition are from seed to seed, read from their files, without torch."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
        networks = [_Network(home) for home in there]
        told = [runs[home]["sheets"] for home in there]
        for sheet in told[0]:
            if not all(sheet in one for one in told):
                continue
            alike = all(one[sheet]["units"] == told[0][sheet]["units"] for one in told)
            axes = _axes(told[0][sheet]) if alike else None
            pairs = list(itertools.combinations(range(len(there)), 2))
            similar = [network.similarities(sheet) for network in networks]
            maps = [network.maps(sheet) if alike else None for network in networks]
            found = [_pair(similar[i], similar[j], maps[i], maps[j], axes) for i, j in pairs]
            means = {name: _mean([one[name] for one in found]) for name in ("representation", "map", "chance")}
            rows.append({"condition": condition, "sheet": sheet, "seeds": len(there), "pairs": len(pairs), **means})
    return rows


class _Network:
    """What is on disk of one network: arrays that may be damaged, missing or of another shape."""

    def __init__(self, home: Path) -> None:
        self._kept = _arrays(home / files.ACTIVATIONS)
        self._measured = _arrays(home / files.MEASURES)

    def similarities(self, sheet: str) -> Floats | None:
        """How alike the sheet's responses to each two of at most :data:`ITEMS` items are; None where there are none."""
        responses = _numbers(self._kept, f"sheet/{sheet}")
        if responses is None:
            return None
        chosen = np.linspace(0, len(responses) - 1, min(len(responses), ITEMS)).round().astype(np.int64)
        return likeness.similarities(responses[chosen].astype(np.float64))

    def maps(self, sheet: str) -> dict[int, Floats] | None:
        """The mean map of each class; None where there are no classes."""
        classes, means = self._measured.get("classes"), _numbers(self._measured, f"sheet/{sheet}/class_means")
        if classes is None or means is None or classes.shape != (len(means),) or classes.dtype.kind not in "iu":
            return None
        return {int(k): row.astype(np.float64) for k, row in zip(classes, means, strict=True)}


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


def _pair(
    one: Floats | None,
    other: Floats | None,
    maps: dict[int, Floats] | None,
    others: dict[int, Floats] | None,
    axes: tuple[Axis, ...] | None,
) -> dict[str, float | None]:
    found: dict[str, float | None] = {"representation": None, "map": None, "chance": None}
    if one is not None and other is not None and one.shape == other.shape:
        found["representation"] = likeness.agreement(one, other)
    shared = sorted((maps or {}).keys() & (others or {}).keys())
    if maps and others and shared:
        a, b = (np.stack([each[k] for k in shared]) for each in (maps, others))
        fits = axes is None or a.shape[1] == np.prod([axis[0] for axis in axes])
        if a.shape == b.shape and fits:
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
    defined = [v for v in values if v is not None]
    return float(np.mean(defined)) if defined else None
