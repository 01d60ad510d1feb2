"""A study's cells → what is found: every condition against its control, ``study.json``."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from locality_prior import analysis
from locality_prior._check import wrong
from locality_prior.experiments.config import plain
from locality_prior.experiments.measure import NAMES, SIDES, Floats, analyse_run, read, read_measures, write_numbers
from locality_prior.studies.cells import Key, trained
from locality_prior.studies.study import FINDINGS, Hypothesis, Study, cell_directory, cell_name, read_study

#: The measure that each image has of its own, so that it can be tested over images too.
PER_IMAGE = "spatial_variance"

#: The least effect of which it is told how many seeds it needs: a hundredth would need some 80,000.
SMALLEST = 0.01

#: What every row of the findings has.
_KEYS = {
    "cells": {"condition", "seed", "run", "config", "measures"},
    "comparisons": {
        "condition",
        "control",
        "measure",
        "n",
        "mean_difference",
        "ci",
        "p",
        "p_permutation",
        "per_image_p",
    },
    "hypotheses": {"says", "condition", "control", "measure", "verdict"},
}

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"


def find(directory: Path, errors: dict[Key, str] | None = None) -> dict[str, Any]:
    """Compare the finished cells of the study in ``directory``, and keep what is found there as ``study.json``.

    Nothing in it tells when, where or how often the study was run.

    Args:
        directory: of a study.
        errors: what cells that failed said, by (condition, seed); None: what was kept of that.

    Raises:
        ValueError: there is no study, or none of its cells is finished.
    """
    study = read_study(directory)
    runs = study.runs()
    there = {key: path for key, run in runs.items() if trained(run, path := cell_directory(directory, run))}
    if not there:
        raise wrong("directory", str(directory), "a study with a finished cell")
    measures = {key: _measured(path) for key, path in there.items()}
    said = _said(directory) if errors is None else {cell_name(runs[key]): error for key, error in errors.items()}
    cells = []
    for key, run in runs.items():
        told = {k: v for k, v in plain(run).items() if k != "seed"}
        cell = {"condition": key[0], "seed": key[1], "run": cell_name(run), "config": told}
        failed = {"error": said.get(cell_name(run), "not run")}
        cells.append(cell | ({"measures": measures[key]} if key in measures else {"measures": None} | failed))

    @lru_cache(maxsize=2)
    def variances(key: Key) -> dict[str, Floats]:
        kept = read(there[key])
        return {side: kept.variance(side) for side in SIDES}

    comparisons = []
    for pair in study.pairs():
        seeds = _shared(pair, measures)
        images = {
            f"{PER_IMAGE}.{side}": [
                {"seed": seed, **_over_images(*(variances((name, seed))[side] for name in pair))} for seed in seeds
            ]
            for side in SIDES
        }
        comparisons += _compared(pair, seeds, measures, images)
    found = {"cells": cells, "comparisons": comparisons}
    found["hypotheses"] = [_judged(study, hypothesis, measures) for hypothesis in study.hypotheses]
    write_numbers(directory / FINDINGS, found)
    return found


def _measured(directory: Path) -> dict[str, float | None]:
    """The measures of a trained run; made where there are none, or others than today's."""
    try:
        return read_measures(directory)
    except (OSError, ValueError):
        analyse_run(directory)
        return read_measures(directory)


def _said(directory: Path) -> dict[str, str]:
    """What cells that failed said when the study in ``directory`` was last run, by their directories' names."""
    try:
        return {cell["run"]: cell["error"] for cell in read_findings(directory)["cells"] if "error" in cell}
    except ValueError:
        return {}


def _shared(pair: tuple[str, str], measures: dict[Key, dict[str, float | None]]) -> list[int]:
    """Seeds under which both conditions have a network, in the study's order."""
    return [seed for name, seed in measures if name == pair[0] and (pair[1], seed) in measures]


def _compared(
    pair: tuple[str, str],
    seeds: list[int],
    measures: dict[Key, dict[str, float | None]],
    images: dict[str, list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """One pair of conditions by every measure, with Holm's correction over them."""
    rows = []
    for measure in NAMES:
        row = {"condition": pair[0], "control": pair[1], "measure": measure, **_tested(pair, seeds, measures, measure)}
        per_image = images.get(measure)
        # the document's test is of one pair of networks: the first
        row["per_image_p"] = per_image[0]["p"] if per_image else None
        rows.append(row | ({"per_image": per_image} if per_image else {}))
    for row, p in zip(rows, analysis.holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p
    return rows


def _tested(
    pair: tuple[str, str], seeds: list[int], measures: dict[Key, dict[str, float | None]], measure: str
) -> dict[str, Any]:
    """Condition less control over seeds, by every test; the means of both."""
    sides = [[measures[name, seed][measure] for seed in seeds] for name in pair]
    arrays = [np.array([math.nan if v is None else v for v in side], dtype=np.float64) for side in sides]
    tests = dataclasses.asdict(analysis.paired_comparison(arrays[0], arrays[1]))
    effect = tests["effect"]
    return tests | {
        "means": [float(a.mean()) if len(a) and np.isfinite(a).all() else None for a in arrays],
        # for the effect found, at 80 % power
        "seeds_needed": None if not effect or abs(effect) < SMALLEST else analysis.seeds_needed(effect),
    }


def _over_images(condition: Floats, control: Floats) -> dict[str, Any]:
    test = analysis.paired_t_test(condition, control)
    return {"mean_difference": test.mean_difference, "t": test.t, "p": test.p, "n": test.n}


def _judged(study: Study, hypothesis: Hypothesis, measures: dict[Key, dict[str, float | None]]) -> dict[str, Any]:
    """A hypothesis and what the networks say of it."""
    pair = study.compared(hypothesis)
    tests = _tested(pair, _shared(pair, measures), measures, hypothesis.measure)
    told = {k: v for k, v in dataclasses.asdict(hypothesis).items() if k in ("says", "measure", "expected", "margin")}
    shown = {k: tests[k] for k in ("n", "means", "mean_difference", "ci", "p", "seeds_needed")}
    if hypothesis.expected == "alike":
        shown["seeds_needed"] = None  # which are to find a difference
    return told | {"condition": pair[0], "control": pair[1], **shown, "verdict": verdict(hypothesis, tests["ci"])}


def verdict(hypothesis: Hypothesis, ci: tuple[float, float] | None) -> str:
    """Whether a hypothesis holds: the differences that agree with it hold the whole interval, none of it, or a part.

    Those below −margin agree with "lower", those above margin with "higher", those between with "alike".
    """
    if ci is None:
        return OPEN
    margin, (low, high) = hypothesis.margin, ci
    agree = {"lower": (-math.inf, -margin), "higher": (margin, math.inf), "alike": (-margin, margin)}
    least, most = agree[hypothesis.expected]
    if least <= low and high <= most:
        return HOLDS
    return FAILS if high < least or low > most else OPEN


def read_findings(directory: Path) -> dict[str, Any]:
    """What :func:`find` kept in ``directory``."""
    path = directory / FINDINGS
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for part, needed in _KEYS.items():
            if not all(needed <= row.keys() for row in found[part]):
                raise ValueError(f"{part} without {', '.join(sorted(needed))}")
    except FileNotFoundError:
        raise wrong("directory", f"{directory} without {path.name}", "an analysed study") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise wrong("directory", f"{path} ({error})", "readable findings") from None
    return found
