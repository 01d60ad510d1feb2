"""A study's runs → what is found: every condition against its control. It reads files alone, without torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from locality_prior._check import Problem, Told, short
from locality_prior._files import read_json, read_npz, write_json
from locality_prior.analysis import statistics
from locality_prior.runs import files
from locality_prior.runs.files import read_analysis, read_config
from locality_prior.studies import answers, measures
from locality_prior.studies.files import FINDINGS, PLAN, RUNS, STUDY
from locality_prior.studies.likeness import likenesses

Key = tuple[str, int]  # condition, seed
Values = dict[Key, dict[str, float | None]]  # the measures of each run
Floats = npt.NDArray[np.float64]

#: The measure that has a value for every item, so that it can be tested over items too.
PER_ITEM = "spatial_variance"
#: For a smaller effect than this, seeds needed are not given: there would be tens of thousands of them.
SMALLEST = 0.01
#: What the condition without a wiring cost is called among recorded runs.
CONTROL = "control"

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"


def find(directory: str | Path, errors: dict[Key, str] | None = None) -> dict[str, Any]:
    """Compare the finished runs of the study in ``directory``, and write ``study.json``.

    The result is the same whenever, wherever and however often the study was run. A folder of runs that were recorded
    elsewhere is a study too: each of its conditions is compared with the one called ``control``.

    >>> import torch
    >>> import locality_prior as lp
    >>> from locality_prior.runs import Task, record
    >>> from locality_prior.studies import find
    >>> x, y = torch.rand(60, 16), torch.arange(60) % 3
    >>> task = Task.classification(train=(x[:40], y[:40]), test=(x[40:], y[40:]))
    >>> for condition, cost in {"control": "flat", "local": "linear@2"}.items():
    ...     net = torch.nn.Sequential(lp.LocalityLinear(16, 16, cost=cost), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    ...     placed = lp.place(net, {"1": lp.Grid(4, 4)})
    ...     _ = record(net, placed, task, f"both/{condition}-1", condition=condition, seed=1)
    >>> list(find("both")["conditions"])
    ['control', 'local']

    Args:
        directory: of a study, or a folder of run directories.
        errors: why runs failed, by (condition, seed); None: the reasons that study.json already gives.

    Returns:
        What ``study.json`` holds.

    Raises:
        Problem: there is no study, it is damaged, or none of its runs is finished.
    """
    directory = Path(directory)
    plan = _read_plan(directory) if (directory / PLAN).exists() else recorded_plan(directory)
    runs: dict[Key, dict[str, Any]] = {}
    unread: dict[Key, str] = {}
    for cell in plan["cells"]:
        key, home = (cell["condition"], cell["seed"]), directory / cell["run"]
        if not (home / files.ANALYSIS).exists():
            continue
        try:
            if not cell["config"].get("recorded") and read_config(home) != cell["config"]:
                raise Problem(f"{cell['run']} holds another run than this study's.")
            runs[key] = _read_run(home)
        except Told as error:
            unread[key] = " ".join(str(error).replace(str(directory), ".").split())
    if not runs:
        why = next(iter((unread | (errors or {})).values()), None)
        if why is not None:
            raise Problem(f"None of the {len(plan['cells'])} networks of {directory} can be compared. The first: {why}")
        raise Problem(f"{directory} has no finished run yet. Run the study to its end first.")
    reasons = (_reasons(directory) if errors is None else errors) | unread
    cells = []
    for cell in plan["cells"]:
        key = (cell["condition"], cell["seed"])
        if key in runs:
            cells.append({**cell, "measures": runs[key]["measures"]})
        else:
            cells.append({**cell, "measures": None, "error": reasons.get(key, "not run")})
    values = {key: run["measures"] for key, run in runs.items()}
    names = measures.described(list(runs.values()), [asked["measure"] for asked in plan["hypotheses"]])
    variances = _variances({(cell["condition"], cell["seed"]): directory / cell["run"] for cell in plan["cells"]})
    homes: dict[str, list[Path]] = {}
    told: dict[Path, dict[str, Any]] = {}
    for cell in plan["cells"]:
        if (cell["condition"], cell["seed"]) in runs:
            homes.setdefault(cell["condition"], []).append(directory / cell["run"])
            told[directory / cell["run"]] = runs[cell["condition"], cell["seed"]]
    groups = [_group(group, runs) for group in plan["groups"]]
    called = _called(groups)
    found = {
        "title": plan["title"],
        "about": plan["about"],
        "command": _command(directory, plan),
        "groups": [{**group, "name": called[group["name"]]} for group in groups],
        "conditions": {name: {**one, "group": called[one["group"]]} for name, one in plan["conditions"].items()},
        "measures": names,
        "published": plan["published"],
        "cells": cells,
        "comparisons": [row for pair in _pairs(plan) for row in _compared(pair, values, names, variances)],
        "hypotheses": [_judged(asked, values) for asked in plan["hypotheses"]],
        "likeness": likenesses(list(plan["conditions"]), homes, told),
    }
    found["answers"] = answers.answers(found)
    found["summary"] = answers.summary(found)
    write_json(directory / FINDINGS, found)
    return found


def _read_plan(directory: Path) -> dict[str, Any]:
    """The plan of the study in ``directory``, checked, since a file may be damaged or come from somebody else."""
    path = directory / PLAN
    damaged = Problem(f"{path} is damaged or of another version. Run the study again, which writes it anew.")
    plan = read_json(path)
    try:
        conditions = plan["conditions"]
        names = set(conditions)
        fits = isinstance(plan["title"], str) and all(isinstance(text, str) for text in plan["about"])
        for one in conditions.values():
            fits &= {"group", "label", "control", "null", "of"} <= one.keys()
            fits &= isinstance(one["method"], str) and (one["strength"] is None or one["strength"] >= 0)
            fits &= {one["control"], one["null"], one["of"], one.get("unmoved")} <= {None, *names}
        for group in plan["groups"]:
            fits &= isinstance(group["name"], str) and {group["control"], *group["conditions"]} <= names
        for cell in plan["cells"]:
            run, seed = PurePosixPath(cell["run"]), cell["seed"]
            fits &= cell["condition"] in names and type(seed) is int and isinstance(cell["config"], dict)
            fits &= not run.is_absolute() and ".." not in run.parts and "\0" not in cell["run"]
        for asked in plan["hypotheses"]:
            fits &= {asked["condition"], asked["control"]} <= names and isinstance(asked["measure"], str)
            fits &= asked["expected"] in ("lower", "higher", "alike") and asked["margin"] >= 0
        for row in plan["published"]:
            fits &= isinstance(row["name"], str) and isinstance(row["measures"], dict)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise damaged from None
    if not fits:
        raise damaged
    return plan  # type: ignore[no-any-return]


def _read_run(home: Path) -> dict[str, Any]:
    """The numbers of the run in ``home``, checked."""
    run: dict[str, Any] = {}
    try:
        run = read_analysis(home)
        fits = all(v is None or type(v) in (int, float) for v in run["measures"].values())
        fits &= isinstance(run["condition"], str) and type(run["seed"]) is int
        fits &= isinstance(run["task"]["name"], str) and isinstance(run["task"]["classes"], (list, type(None)))
        fits &= all({"name", "unit", "better"} <= score.keys() for score in run["task"]["scores"])
        fits &= all({"units", "geometry", "places"} <= sheet.keys() for sheet in run["sheets"].values())
    except (AttributeError, KeyError, TypeError):
        fits = False
    if not fits:
        path = home / files.ANALYSIS
        raise Problem(f"{path} is damaged. {files.AGAIN}")
    return run


def _command(directory: Path, plan: dict[str, Any]) -> str:
    """The command that makes the study again; "" where none does: of recorded runs, and of Python objects."""
    words = [cell["config"].get(name, "") for cell in plan["cells"] for name in ("task", "model")]
    if not (directory / STUDY).exists() or any(word.startswith("object:") for word in words):
        return ""
    return f"locality-prior study {STUDY} --out DIR"


def recorded_plan(directory: Path) -> dict[str, Any]:
    """The plan of a folder of runs that were recorded elsewhere.

    Raises:
        Problem: it holds no runs, two runs of one condition and seed, or several conditions without a control.
    """
    homes = sorted(
        {path.parent for place in ("*", f"{RUNS}/*") for path in directory.glob(f"{place}/{files.ANALYSIS}")}
    )
    if directory.resolve().name == RUNS and (directory.resolve().parent / PLAN).exists():
        raise Problem(f"{directory} holds the runs of a study. Name the study's own directory, one above.")
    if not homes:
        raise Problem(f"{directory} is not a study: it holds neither {PLAN} nor directories of finished runs.")
    found = [(home, _read_run(home), read_config(home)) for home in homes]
    tasks = dict.fromkeys(run["task"]["name"] for _, run, _ in found)
    groups: dict[str, dict[str, Any]] = {}
    conditions: dict[str, Any] = {}
    cells: dict[Key, dict[str, Any]] = {}
    for home, run, config in found:
        task, label = run["task"]["name"], run["condition"]
        suffix = f", {task}" if len(tasks) > 1 else ""
        key = (label + suffix, run["seed"])
        if key in cells:
            raise Problem(f"{directory} holds two runs of {short(key[0])} with seed {key[1]}. Keep one of them.")
        cells[key] = {"condition": key[0], "seed": key[1], "run": home.relative_to(directory).as_posix()}
        cells[key]["config"] = config if isinstance(config, dict) else {}
        group = {"name": task, "task": task, "model": "", "recipe": {}, "conditions": [], "control": CONTROL + suffix}
        conditions[key[0]] = {
            "group": task,
            "label": label,
            "control": None if label == CONTROL else CONTROL + suffix,
            "null": None,
            "of": None,
            "cost": "",
            "shuffled": False,
            "objective": "",
            "method": label,
            "strength": None,
            "settings": {},
        }
        names = groups.setdefault(task, group)["conditions"]
        if key[0] not in names:
            names.append(key[0])
    for group in groups.values():
        control, names = group["control"], group["conditions"]
        if control not in names and len(names) > 1:
            raise Problem(
                f"{directory} holds {short(names[0])} and {short(names[1])}, but no condition called {CONTROL} to "
                f"compare them with. Record the network without a wiring cost as {CONTROL}."
            )
        if control not in names:  # one condition alone: there is nothing to compare it with
            group["control"] = names[0]
            conditions[names[0]]["control"] = None
        names.sort(key=lambda name: (name != group["control"], name))
        for name in names:
            null = f"{conditions[name]['label']} shuffled{name.removeprefix(conditions[name]['label'])}"
            if null in names:
                conditions[name]["null"] = null
                conditions[null] |= {"of": name, "shuffled": True}
    order = [name for group in groups.values() for name in group["conditions"]]
    return {
        "title": "",
        "about": [],
        "published": [],
        "groups": list(groups.values()),
        "conditions": {name: conditions[name] for name in order},
        "cells": sorted(cells.values(), key=lambda cell: (cell["seed"], order.index(cell["condition"]))),
        "hypotheses": [],
    }


def _group(group: dict[str, Any], runs: dict[Key, dict[str, Any]]) -> dict[str, Any]:
    """A group with its sheets, layers, classes and scores, as its first finished run has them."""
    first = next((run for key, run in runs.items() if key[0] in group["conditions"]), None)
    if first is None:
        return {**group, "classes": None, "scores": [], "sheets": {}, "layers": {}}
    sheets = {
        name: {key: sheet[key] for key in ("units", "geometry", "places")} for name, sheet in first["sheets"].items()
    }
    task = first["task"]
    told = {"task": task["name"], "classes": task["classes"], "scores": task["scores"]}
    return {**group, **told, "sheets": sheets, "layers": first["layers"]}


def _called(groups: list[dict[str, Any]]) -> dict[str, str]:
    """What each group is called: by the name that its task has, where no other group would be called the same."""
    names = {g["name"]: f"{g['model']} on {g['task']}" if g["model"] else g["task"] for g in groups}
    return names if len(set(names.values())) == len(groups) else {g["name"]: g["name"] for g in groups}


def _reasons(directory: Path) -> dict[Key, str]:
    """Why runs failed, as the study.json in ``directory`` gives it."""
    try:
        cells = read_json(directory / FINDINGS)["cells"]
        return {(c["condition"], c["seed"]): str(c["error"]) for c in cells if "error" in c}
    except (Told, KeyError, TypeError):
        return {}


def _pairs(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """Every condition with its control, its null, and the same condition without its arrangement."""
    others = ("control", "null", "unmoved")
    return [(name, one[key]) for name, one in plan["conditions"].items() for key in others if one.get(key)]


def _variances(homes: dict[Key, Path]) -> Callable[[Key, str], Floats | None]:
    """A function that gives the spatial variance of each item's map on a sheet of a run; None where there is none."""
    held: dict[Key, dict[str, Floats]] = {}

    def of(key: Key, sheet: str) -> Floats | None:
        if key not in held:
            arrays = read_npz(homes[key] / files.MEASURES, files.MOST)
            numbers = {name: a for name, a in arrays.items() if a.ndim == 1 and a.dtype.kind in "fiu"}
            held[key] = {n: a.astype(np.float64) for n, a in numbers.items() if n.endswith("/variance")}
        return held[key].get(f"sheet/{sheet}/variance")

    return of


def _compared(
    pair: tuple[str, str],
    values: Values,
    names: dict[str, Any],
    variances: Callable[[Key, str], Floats | None],
) -> list[dict[str, Any]]:
    """One pair of conditions by every measure that both have, with Holm's correction over these."""
    rows = []
    for measure in names:
        seeds = _shared(pair, values, measure)
        if not seeds:
            continue
        row = {"condition": pair[0], "control": pair[1], "measure": measure, **_tested(pair, seeds, values, measure)}
        base, _, part = measure.partition(".")
        if base == PER_ITEM:
            row["per_item"] = []
            for seed in seeds:
                sides = [variances((name, seed), part) for name in pair]
                if sides[0] is not None and sides[1] is not None and len(sides[0]) == len(sides[1]):
                    row["per_item"].append({"seed": seed, **_over_items(sides[0], sides[1])})
        rows.append(row)
    for row, p in zip(rows, statistics.holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def _shared(pair: tuple[str, str], values: Values, measure: str) -> list[int]:
    """The seeds under which both conditions have ``measure``, in the study's order."""
    return [
        seed
        for name, seed in values
        if name == pair[0] and measure in values[name, seed] and measure in values.get((pair[1], seed), {})
    ]


def _tested(pair: tuple[str, str], seeds: list[int], values: Values, measure: str) -> dict[str, Any]:
    """The condition less the control, over seeds, by every test; and the means of both over the same pairs.

    A pair in which the measure is undefined on either side is left out and counted.
    """
    sides = [[values[name, seed][measure] for seed in seeds] for name in pair]
    arrays = [np.array([math.nan if v is None else v for v in side], dtype=np.float64) for side in sides]
    both = np.isfinite(arrays[0]) & np.isfinite(arrays[1])
    tests = dataclasses.asdict(statistics.paired_comparison(arrays[0], arrays[1]))
    tests = {name: list(value) if isinstance(value, tuple) else value for name, value in tests.items()}
    return tests | {
        "means": [float(a[both].mean()) if both.any() else None for a in arrays],
        "seeds_needed": _needed(tests["effect"]),
        "seeds_needed_near_end": _needed(statistics.near_end(tests["effect_ci"])),
        "evidence": evidence(tests["ci"]),
    }


def _needed(effect: float | None) -> int | None:
    """How many seeds find an effect four times in five; None where there is no effect, or a very small one."""
    return None if not effect or abs(effect) < SMALLEST else statistics.seeds_needed(effect)


def evidence(ci: Sequence[float] | None) -> float:
    """How far an interval is from 0, in units of its half width; 0 where it contains 0, or there is no interval."""
    if ci is None or ci[0] <= 0 <= ci[1]:
        return 0.0
    half = (ci[1] - ci[0]) / 2
    return float(min(abs(ci[0]), abs(ci[1])) / half) if half > 0 else 0.0


def _over_items(condition: Floats, control: Floats) -> dict[str, Any]:
    test = statistics.paired_t_test(condition, control)
    return {"mean_difference": test.mean_difference, "t": test.t, "p": test.p, "n": test.n}


def _judged(asked: dict[str, Any], values: Values) -> dict[str, Any]:
    """A hypothesis, with its test and its verdict."""
    pair = asked["condition"], asked["control"]
    tests = _tested(pair, _shared(pair, values, asked["measure"]), values, asked["measure"])
    shown = {k: tests[k] for k in ("n", "means", "mean_difference", "ci", "p", "seeds_needed")}
    if asked["expected"] == "alike":
        shown["seeds_needed"] = None  # which are the seeds that find a difference
    return asked | shown | {"verdict": verdict(asked["expected"], asked["margin"], tests["ci"])}


def verdict(expected: str, margin: float, ci: Sequence[float] | None) -> str:
    """Whether a hypothesis holds: it does if the whole interval agrees with it, and does not if no part of it agrees.

    Differences below −margin agree with "lower", those above margin with "higher", and those between with "alike".
    """
    if ci is None:
        return OPEN
    low, high = ci
    agree = {"lower": (-math.inf, -margin), "higher": (margin, math.inf), "alike": (-margin, margin)}
    least, most = agree[expected]
    if least <= low and high <= most:
        return HOLDS
    return FAILS if high < least or low > most else OPEN


def read_findings(directory: str | Path) -> dict[str, Any]:
    """What :func:`find` wrote in ``directory``.

    >>> import torch
    >>> import locality_prior as lp
    >>> from locality_prior.runs import Task, record
    >>> from locality_prior.studies import find, read_findings
    >>> x, y = torch.rand(60, 16), torch.arange(60) % 3
    >>> task = Task.classification(train=(x[:40], y[:40]), test=(x[40:], y[40:]))
    >>> net = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> _ = record(net, lp.place(net, {"1": lp.Grid(4, 4)}), task, "control/control-1", condition="control", seed=1)
    >>> _ = find("control")
    >>> sorted(read_findings("control"))[:3]
    ['about', 'answers', 'cells']

    Raises:
        Problem: it wrote nothing yet, or the file is damaged.
    """
    path = Path(directory, FINDINGS)
    if not path.exists():
        raise Problem(f"{directory} has no {FINDINGS} yet. Run: locality-prior analyse {directory}")
    found = read_json(path)
    needed = {"groups", "conditions", "measures", "cells", "comparisons", "hypotheses", "answers"}
    if not isinstance(found, dict) or not needed <= found.keys():
        raise Problem(f"{path} is damaged or of another version. Run: locality-prior analyse {directory}")
    return found
