"""Methods that a study compares: conditions that differ in strength alone, and numbers of whole networks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from locality_prior.report.files import Floats, Study
from locality_prior.report.words import NONE, plain

#: Methods from which on they are compared as methods, even if none has several strengths: figures have no colours
#: for more conditions than this.
MANY = 7
#: Methods among which one is an objective, from which on they are compared as methods.
WITH_OBJECTIVES = 3


@dataclass(frozen=True)
class Method:
    """Conditions that differ in strength alone, the weakest first.

    Args:
        name: as study.json has it.
        control: whether the group's control is one of them.
    """

    name: str
    conditions: tuple[str, ...]
    control: bool

    @property
    def middle(self) -> str:
        """The condition of the middle strength; of an even number, the weaker of the two in the middle."""
        return self.conditions[(len(self.conditions) - 1) // 2]


def methods(study: Study, group: dict[str, Any]) -> list[Method]:
    """The methods of a group, the control's first; none where the group is a plain comparison of a few conditions.

    Methods are compared as such where one of them has several strengths, where there are three or more of which one is
    an objective, or where there are many.
    """
    told = study.found["conditions"]
    by_name: dict[str, list[str]] = {}
    for condition in group["conditions"]:
        name = told[condition].get("method")
        if name is None:
            return []
        by_name.setdefault(name, []).append(condition)

    def strength(condition: str) -> tuple[bool, float]:
        value = told[condition].get("strength")
        return value is not None, float(value or 0)

    found = [Method(n, tuple(sorted(c, key=strength)), group["control"] in c) for n, c in by_name.items()]
    found.sort(key=lambda method: not method.control)
    several = any(len({told[c].get("strength") for c in m.conditions}) > 1 for m in found)
    objective = any(told[c].get("objective") not in (None, "none") for c in group["conditions"])
    if several or len(found) >= MANY or (objective and len(found) >= WITH_OBJECTIVES):
        return found
    return []


def strength_of(study: Study, condition: str) -> str:
    """A condition's strength as a reader sees it."""
    value = study.found["conditions"][condition].get("strength")
    return NONE if value is None else format(value, "g").replace("-", "−")


def name_of(study: Study, method: Method) -> str:
    """A method as a reader sees it: the label of its only condition, or its own name."""
    return study.label(method.conditions[0]) if len(method.conditions) == 1 else plain(method.name)


def parts_of(study: Study, group: dict[str, Any], base: str) -> list[str]:
    """The measures of ``base``: one for each sheet or layer of a group."""
    return [m for m in study.measures(group) if study.found["measures"][m]["base"] == base]


def averaged(study: Study, condition: str, measures: list[str]) -> dict[int, float]:
    """Seed → the mean of several measures, for each network in which all of them are defined."""
    values = [study.values(condition, measure) for measure in measures]
    seeds = [seed for seed in (values[0] if values else ()) if all(seed in one for one in values)]
    return {seed: math.fsum(one[seed] for one in values) / len(values) for seed in seeds}


def epoch_times(study: Study, group: dict[str, Any]) -> dict[str, dict[int, float]]:
    """Condition → seed → the median time of an epoch, relative to the mean of the control's.

    Empty where no network of the control tells its times.
    """
    seconds: dict[str, dict[int, float]] = {condition: {} for condition in group["conditions"]}
    for (condition, seed), run in study.runs.items():
        taken = run.metrics.get("seconds")
        if condition in seconds and taken is not None and (np.isfinite(taken) & (taken > 0)).any():
            seconds[condition][seed] = float(np.median(taken[np.isfinite(taken) & (taken > 0)]))
    of_control = list(seconds[group["control"]].values())
    if not of_control:
        return {}
    usual = float(np.mean(of_control))
    return {condition: {seed: t / usual for seed, t in times.items()} for condition, times in seconds.items()}


def objectives_of(metrics: Iterable[dict[str, Floats]]) -> list[str]:
    """The columns of metrics.csv that hold the unweighted value of an objective: those that have a weighted one too."""
    columns = dict.fromkeys(column for one in metrics for column in one)
    return [column for column in columns if f"{column}_weighted" in columns]


def likeness(study: Study, condition: str, key: str) -> float | None:
    """How alike networks of different seeds are, by ``key``, as a mean over sheets; None where it is not known."""
    rows = study.found.get("likeness") or []
    values = [one.get(key) for one in rows if one["condition"] == condition]
    known = [float(v) for v in values if isinstance(v, (int, float)) and math.isfinite(v)]
    return math.fsum(known) / len(known) if known else None
