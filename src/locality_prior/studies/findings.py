"""A study's runs → what is found: every condition against its control. Files alone are read, without torch."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from locality_prior._check import Problem
from locality_prior._files import read_json, write_json
from locality_prior.analysis import statistics
from locality_prior.runs import files
from locality_prior.runs.files import read_analysis, read_config, read_measured
from locality_prior.studies import answers, measures
from locality_prior.studies.files import FINDINGS, PLAN, RUNS, STUDY

Key = tuple[str, int]  # condition, seed
Floats = npt.NDArray[np.float64]

#: The measure that each item has for itself, so that it can be tested over items too.
PER_ITEM = "spatial_variance"
#: The least effect of which the needed seeds are told: a hundredth would need some 80,000.
SMALLEST = 0.01
#: The condition without a wiring cost.
CONTROL = "control"

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"


def find(directory: Path, errors: dict[Key, str] | None = None) -> dict[str, Any]:
    """Compare the finished runs of the study in ``directory``, and write ``study.json``.

    Nothing in it depends on when, where or how often the study was run. A folder of runs that were recorded elsewhere
    is a study too: each condition is compared with the one called ``control``.

    Args:
        directory: of a study, or a folder of run directories.
        errors: why cells failed, by (condition, seed); None: as the last study.json has it.

    Raises:
        Problem: there is no study, or none of its runs is finished.
    """
    plan = read_json(directory / PLAN) if (directory / PLAN).exists() else recorded_plan(directory)
    runs: dict[Key, dict[str, Any]] = {}
    unread: dict[Key, str] = {}
    for cell in plan["cells"]:
        key = (cell["condition"], cell["seed"])
        home = directory / cell["run"]
        if not (home / files.ANALYSIS).exists():
            continue
        try:
            if not cell["config"].get("recorded") and read_config(home) != cell["config"]:
                raise Problem(f"{cell['run']} holds another run than the study's")
            runs[key] = read_analysis(home)
        except (Problem, ValueError) as error:
            unread[key] = " ".join(str(error).replace(str(directory), ".").split())
    if not runs:
        first = next(iter(unread.values()), None)
        raise Problem(first or f"{directory} has no finished run yet. Run the study to its end first.")
    said = (_said(directory) if errors is None else errors) | unread
    cells = []
    for cell in plan["cells"]:
        key = (cell["condition"], cell["seed"])
        if key in runs:
            cells.append({**cell, "measures": runs[key]["measures"]})
        else:
            cells.append({**cell, "measures": None, "error": said.get(key, "not run")})
    values = {key: run["measures"] for key, run in runs.items()}
    groups = [_group(group, runs) for group in plan["groups"]]
    names = measures.described(list(runs.values()))
    where = {(cell["condition"], cell["seed"]): directory / cell["run"] for cell in plan["cells"]}
    comparisons = []
    for pair in _pairs(plan):
        comparisons += _compared(pair, values, names, where)
    found = {
        "title": plan["title"],
        "about": plan["about"],
        "command": f"locality-prior study {STUDY} --out DIR" if (directory / STUDY).exists() else "",
        "groups": groups,
        "conditions": plan["conditions"],
        "measures": names,
        "published": plan["published"],
        "cells": cells,
        "comparisons": comparisons,
        "hypotheses": [_judged(asked, values) for asked in plan["hypotheses"]],
    }
    found["answers"] = answers.answers(found)
    write_json(directory / FINDINGS, found)
    return found


def recorded_plan(directory: Path) -> dict[str, Any]:
    """The plan of a folder of runs that were recorded elsewhere."""
    homes = sorted(
        {path.parent for depth in ("*", f"{RUNS}/*") for path in directory.glob(f"{depth}/{files.ANALYSIS}")}
    )
    if not homes:
        raise Problem(f"{directory} is no study: it holds neither {PLAN} nor run directories with {files.ANALYSIS}.")
    cells, seen = [], set()
    groups: dict[str, dict[str, Any]] = {}
    conditions: dict[str, Any] = {}
    for home in homes:
        run, config = read_analysis(home), read_config(home)
        key = (run["condition"], run["seed"])
        if key in seen:
            raise Problem(f"{directory} holds two runs of {key[0]}, seed {key[1]}; keep one of them")
        seen.add(key)
        cells.append({"condition": key[0], "seed": key[1], "run": str(home.relative_to(directory)), "config": config})
        name = run["task"]["name"]
        group = groups.setdefault(
            name, {"name": name, "task": name, "model": "", "recipe": {}, "conditions": [], "control": None}
        )
        if key[0] not in group["conditions"]:
            group["conditions"].append(key[0])
        group["control"] = CONTROL if CONTROL in group["conditions"] else None
        conditions[key[0]] = {
            "group": name,
            "label": key[0],
            "control": None if key[0] == CONTROL else CONTROL,
            "null": None,
            "of": None,
            "cost": "",
            "shuffled": False,
            "settings": {},
        }
    for name, one in conditions.items():
        null = f"{name} shuffled"
        if null in conditions:
            one["null"], conditions[null]["of"], conditions[null]["shuffled"] = null, name, True
        if one["control"] not in conditions:
            one["control"] = None
    for group in groups.values():
        group["conditions"].sort(key=lambda name: (name != CONTROL, name))
    order = {CONTROL: 0}
    cells.sort(key=lambda c: (c["seed"], order.get(c["condition"], 1), c["condition"]))
    return {
        "title": "",
        "about": [],
        "published": [],
        "groups": list(groups.values()),
        "conditions": conditions,
        "cells": cells,
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
    return {**group, "classes": task["classes"], "scores": task["scores"], "sheets": sheets, "layers": first["layers"]}


def _said(directory: Path) -> dict[Key, str]:
    """Why cells failed when the study in ``directory`` was last run."""
    try:
        cells = read_json(directory / FINDINGS)["cells"]
        return {(c["condition"], c["seed"]): c["error"] for c in cells if "error" in c}
    except (OSError, Problem, ValueError, KeyError, TypeError):
        return {}


def _pairs(plan: dict[str, Any]) -> list[Key | tuple[str, str]]:
    """Every condition with its control, and every cost with its own null."""
    pairs: list[Any] = []
    for name, one in plan["conditions"].items():
        pairs += [(name, other) for other in (one["control"], one["null"]) if other is not None]
    return pairs


def _shared(pair: Any, values: dict[Key, Any]) -> list[int]:
    """Seeds under which both conditions have a network, in the study's order."""
    return [seed for name, seed in values if name == pair[0] and (pair[1], seed) in values]


def _compared(
    pair: Any, values: dict[Key, dict[str, float | None]], names: dict[str, Any], where: dict[Key, Path]
) -> list[dict[str, Any]]:
    """One pair of conditions by every measure that both have, with Holm's correction over them."""
    seeds = _shared(pair, values)
    if not seeds:
        return []
    has = [name for name in names if all(name in values[side, seed] for side in pair for seed in seeds)]
    images = {seed: [read_measured(where[side, seed], check=False).arrays for side in pair] for seed in seeds}
    rows = []
    for measure in has:
        row = {"condition": pair[0], "control": pair[1], "measure": measure, **_tested(pair, seeds, values, measure)}
        base, _, part = measure.partition(".")
        if base == PER_ITEM:
            key = f"sheet/{part}/variance"
            row["per_item"] = [
                {"seed": seed, **_over_items(*(arrays[key].astype(np.float64) for arrays in images[seed]))}
                for seed in seeds
                if all(key in arrays for arrays in images[seed]) and len({a[key].shape for a in images[seed]}) == 1
            ]
        rows.append(row)
    for row, p in zip(rows, statistics.holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def _tested(pair: Any, seeds: list[int], values: dict[Key, dict[str, float | None]], measure: str) -> dict[str, Any]:
    """Condition less control over seeds, by every test; the means of both."""
    sides = [[values[name, seed].get(measure) for seed in seeds] for name in pair]
    arrays = [np.array([math.nan if v is None else v for v in side], dtype=np.float64) for side in sides]
    tests = dataclasses.asdict(statistics.paired_comparison(arrays[0], arrays[1]))
    effect, near = tests["effect"], statistics.near_end(tests["effect_ci"])
    return tests | {
        "means": [float(a.mean()) if len(a) and np.isfinite(a).all() else None for a in arrays],
        "seeds_needed": _needed(effect),
        "seeds_needed_near_end": _needed(near),
        "evidence": evidence(tests["ci"]),
    }


def _needed(effect: float | None) -> int | None:
    """Seeds with which an effect is found four times in five; None where there is none, or too small a one."""
    return None if not effect or abs(effect) < SMALLEST else statistics.seeds_needed(effect)


def evidence(ci: Any) -> float:
    """How far an interval is from 0, in units of its half width; 0 where it holds 0, or where there is none."""
    if ci is None or ci[0] <= 0 <= ci[1]:
        return 0.0
    half = (ci[1] - ci[0]) / 2
    return float(min(abs(ci[0]), abs(ci[1])) / half) if half > 0 else 0.0


def _over_items(condition: Floats, control: Floats) -> dict[str, Any]:
    test = statistics.paired_t_test(condition, control)
    return {"mean_difference": test.mean_difference, "t": test.t, "p": test.p, "n": test.n}


def _judged(asked: dict[str, Any], values: dict[Key, dict[str, float | None]]) -> dict[str, Any]:
    """A hypothesis, and what the networks say of it."""
    pair = asked["condition"], asked["control"]
    seeds = [s for s in _shared(pair, values) if all(asked["measure"] in values[side, s] for side in pair)]
    tests = _tested(pair, seeds, values, asked["measure"])
    shown = {k: tests[k] for k in ("n", "means", "mean_difference", "ci", "p", "seeds_needed")}
    if asked["expected"] == "alike":
        shown["seeds_needed"] = None  # which are to find a difference
    return asked | shown | {"verdict": verdict(asked["expected"], asked["margin"], tests["ci"])}


def verdict(expected: str, margin: float, ci: Any) -> str:
    """Whether a hypothesis holds: where the whole interval agrees with it; not, where no part of it does.

    Differences below −margin agree with "lower", those above margin with "higher", those between with "alike".
    """
    if ci is None:
        return OPEN
    low, high = ci
    agree = {"lower": (-math.inf, -margin), "higher": (margin, math.inf), "alike": (-margin, margin)}
    least, most = agree[expected]
    if least <= low and high <= most:
        return HOLDS
    return FAILS if high < least or low > most else OPEN


def read_findings(directory: Path) -> dict[str, Any]:
    """What :func:`find` wrote in ``directory``."""
    path = directory / FINDINGS
    if not path.exists():
        raise Problem(f"{directory} has no {FINDINGS} yet. Run: locality-prior analyse {directory}")
    found = read_json(path)
    needed = {"groups", "conditions", "measures", "cells", "comparisons", "hypotheses", "answers"}
    if not isinstance(found, dict) or not needed <= found.keys():
        raise Problem(f"{path} is damaged or of another version. Run: locality-prior analyse {directory}")
    return found
