"""What a caller wants to look at → the scene: directories of runs, or activations and a geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from locality_prior import analysis
from locality_prior._check import Problem, Told, short, shown, unmasked, wrong
from locality_prior._files import StrPath, read_json, read_npz
from locality_prior.analysis._given import array, is_tensor
from locality_prior.explorer.scene import Network, Scene, Sheet, network
from locality_prior.plots import Places
from locality_prior.runs import files
from locality_prior.studies.files import FINDINGS, RUNS

#: The most networks and classes that are shown.
MOST_NETWORKS, MOST_CLASSES = 100, 100
#: The most numbers in the maps of a sheet, and in its factors: of large sheets, fewer classes and factors are shown.
MOST_NUMBERS = 1 << 25
#: The most factors of a sheet's correlations.
MOST_FACTORS = 64
#: Responses that are worked on at once: 4 MiB, which a processor holds near.
AT_ONCE = 1 << 19


def scene_of_runs(paths: Sequence[StrPath]) -> Scene:
    """The networks of runs, and of studies' finished runs.

    Raises:
        ValueError: a path that is neither a run's directory nor a study's.
        Problem: a run that is damaged, or nothing to show.
    """
    title = ""
    homes: list[tuple[Path, str | None]] = []
    for path in map(Path, paths):
        name, found = _study(path) if not (path / files.ANALYSIS).is_file() else (path.resolve().name, [(path, None)])
        title = title or name
        homes += found
    classes: tuple[str, ...] = ()
    networks: list[Network] = []
    notes: list[str] = []
    others = empty = 0
    for home, label in homes[:MOST_NETWORKS]:
        names, one = _run(home, label)
        if not one.sheets:
            empty += 1
        elif networks and names != classes:
            others += 1
        else:
            classes = names
            networks.append(one)
    if not networks:
        raise Problem(
            f"{homes[0][0]} has no sheet that can be shown: its units have no places to be drawn at, or its items no "
            "classes."
        )
    if len(homes) > MOST_NETWORKS:
        notes.append(f"The first {MOST_NETWORKS} of {len(homes)} networks are shown.")
    if others:
        notes.append(f"{others} with other classes {'is' if others == 1 else 'are'} left out.")
    if empty:
        notes.append(f"{empty} without a sheet that can be drawn {'is' if empty == 1 else 'are'} left out.")
    return Scene(title, classes, tuple(networks), " ".join(notes))


def _study(path: Path) -> tuple[str, list[tuple[Path, str | None]]]:
    """A study's title, and its finished runs, each with the name of its condition where study.json has it."""
    if not path.is_dir():
        raise wrong("shown", str(path), "the directory of a run or of a study")
    found = {path / one for place in ("*", f"{RUNS}/*") for one in path.glob(f"{place}/{files.ANALYSIS}")}
    homes = sorted(one.parent for one in found)
    if not homes:
        raise wrong("shown", str(path), "the directory of a finished run, or of a study that has one")
    if not (path / FINDINGS).is_file():
        return path.resolve().name, [(home, None) for home in homes]
    try:
        told = read_json(path / FINDINGS, 1 << 30)
        several = len(told["groups"]) > 1
        labels: dict[str, str] = {}
        for cell in told["cells"]:
            condition = told["conditions"][cell["condition"]]
            labels[cell["run"]] = condition["label"] + (f", {condition['group']}" if several else "")
        title = str(told["title"])
    except (KeyError, TypeError, ValueError) as error:
        raise Problem(
            f"{path / FINDINGS} is damaged ({short(str(error))}). Make it again with `locality-prior analyse`."
        ) from None
    rank = {run: k for k, run in enumerate(labels)}
    inside = {home: home.relative_to(path).as_posix() for home in homes}
    homes.sort(key=lambda home: (rank.get(inside[home], len(rank)), home))
    return title or path.resolve().name, [(home, labels.get(inside[home])) for home in homes]


def _run(home: Path, label: str | None) -> tuple[tuple[str, ...], Network]:
    """The names of the shown classes, and the network of a run."""
    told = files.read_analysis(home, check=False)
    try:
        arrays = read_npz(home / files.MEASURES, files.MOST)
        names, numbers = told["task"]["classes"], arrays.get("classes", np.empty(0, int)).tolist()
        classes = tuple(str(names[k]) if names and 0 <= k < len(names) else str(k) for k in numbers)
        one = network(label or str(told["condition"]), told["seed"], arrays, told["sheets"], told["layers"])
        Scene("", classes, (one,))  # the maps are as many as the classes
    except (Told, AttributeError, KeyError, TypeError, ValueError) as error:
        raise Problem(f"{home} cannot be shown: {short(str(error))}. {files.AGAIN}") from None
    return classes, one


def scene_of_activations(activations: Any, sheet: Any, labels: Any) -> Scene:
    """Responses on one sheet or several, as one network.

    Raises:
        ValueError: sizes that do not fit, or a geometry that cannot be drawn.
    """
    responses = dict(activations) if isinstance(activations, Mapping) else {"sheet": activations}
    if not responses or not all(isinstance(name, str) for name in responses):
        raise wrong("activations", activations, "activations (items, units), or a mapping of the sheets' names to them")
    given = sheet if isinstance(sheet, Mapping) else dict.fromkeys(responses, sheet)
    if set(given) != set(responses):
        raise wrong("sheet", f"sheets {', '.join(map(str, given))}", f"those of {', '.join(responses)}")
    places = {name: Places.of(given[name]) for name in responses}
    values = {name: _responses(values, places[name]) for name, values in responses.items()}
    names: tuple[str, ...] = ()
    codes, note = None, ""
    if labels is not None:
        names, codes = _classes(labels)
        for one in values.values():
            if len(one) != len(codes):
                raise wrong("labels", f"{len(codes)} labels", f"one for each of {len(one)} items")
        most = max(1, min(MOST_CLASSES, MOST_NUMBERS // max(map(len, places.values()))))
        if len(names) > most:
            note = f"{most} of {len(names)} classes are shown."
            names, codes = _some(names, codes, most)
    sheets = {name: _sheet(values[name], places[name], codes, len(names)) for name in responses}
    return Scene("Activations", names, (Network("network", None, sheets, {}),), note)


def _responses(values: Any, places: Places) -> npt.NDArray[Any]:
    """Activations as (items, units), in their own precision."""
    a = array("activations", values)
    if a.ndim != 2 or not len(a):
        raise wrong("activations", f"shape {a.shape}", "numbers of shape (items, units), of one item or more")
    if a.shape[1] != len(places):
        raise wrong("activations", f"{a.shape[1]:,} units", f"the {len(places):,} units of the sheet")
    return a


def _classes(labels: Any) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """The names of the classes among ``labels``, and the number of each item's class."""
    unmasked("labels", labels)
    try:
        a = array("labels", labels) if is_tensor(labels) else np.asarray(labels)
    except (TypeError, ValueError):
        raise wrong("labels", shown(labels), "whole numbers or names, one for each item") from None
    if a.dtype.kind == "O" and all(isinstance(name, str) for name in a.flat):
        a = a.astype(str)
    if a.ndim != 1 or a.dtype.kind not in "biuU":
        raise wrong("labels", f"{a.dtype} {a.shape}", "whole numbers or names, one for each item")
    names, codes = np.unique(a, return_inverse=True)
    return tuple(map(str, names.tolist())), codes.astype(np.int64)


def _some(
    names: tuple[str, ...], codes: npt.NDArray[np.int64], most: int
) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
    """Some of the classes, spread over all of them; the items of all others are of one class more."""
    chosen = np.linspace(0, len(names) - 1, most).round().astype(np.int64)
    number = np.full(len(names), most)
    number[chosen] = np.arange(most)
    return tuple(names[k] for k in chosen), number[codes]


def _sheet(a: npt.NDArray[Any], places: Places, codes: npt.NDArray[np.int64] | None, classes: int) -> Sheet:
    """A sheet of responses (items, units), some units at a time."""
    units = len(places)
    means, tuning = np.empty((classes or 1, units)), np.empty((classes, units))
    width = max(1, AT_ONCE // len(a))
    for start in range(0, units, width):
        block = slice(start, start + width)
        part = a[:, block].astype(np.float64)
        if codes is None:
            means[0, block] = part.mean(axis=0)
            continue
        means[:, block] = analysis.class_means(part, codes)[:classes]
        found = analysis.selectivity(part, codes).d_prime[:classes]
        # a unit that always responds alike is selective for nothing
        tuning[:, block] = np.where(np.ptp(part, axis=0) == 0, 0.0, found)
    most = max(1, min(MOST_FACTORS, MOST_NUMBERS // 2 // units))
    return Sheet(
        places,
        means,
        selectivity=None if codes is None else tuning,
        factors=analysis.correlation_factors(a, most),
    )
