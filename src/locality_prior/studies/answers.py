"""What a study has found, in one plain sentence for each condition."""

from __future__ import annotations

import math
from typing import Any

#: Fewer networks than this say little, and the sentence says so.
FEW = 5
#: What is told of maps, in this order, where the networks agree on it.
MAPS = ("morans_i", "response_correlation")


def answers(found: dict[str, Any]) -> list[dict[str, Any]]:
    """A sentence for each condition but the controls: what changed, by how much, over how many networks."""
    rows: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for one in found["comparisons"]:
        rows.setdefault((one["condition"], one["control"]), {})[one["measure"]] = one
    told = []
    for name, condition in found["conditions"].items():
        control = condition["control"]
        if control is None:
            continue
        tests = rows.get((name, control), {})
        n = max((test["n"] for test in tests.values()), default=0)
        text = _sentence(found, name, control, tests, rows, n)
        told.append({"condition": name, "control": control, "n": n, "text": text})
    return told


def _sentence(
    found: dict[str, Any],
    name: str,
    control: str,
    tests: dict[str, dict[str, Any]],
    rows: dict[tuple[str, str], dict[str, dict[str, Any]]],
    n: int,
) -> str:
    if not n:
        return f"{_start(name)}: no network of this condition and its control has finished."
    known = found["measures"]
    score = next((m for m in known if not known[m]["part"] and m in tests), None)
    parts = [] if score is None else [_score(known[score], tests[score])]
    best = _map(known, tests)
    if best is not None:
        parts.append(_map_said(known[best], tests[best]))
        null = found["conditions"][name]["null"]
        against = rows.get((name, null), {}).get(best) if null else None
        if against is not None and against["n"]:
            parts.append(_null_said(against))
    over = f"{n} pairs of networks" if n > 1 else "one pair of networks"
    text = f"{_start(name)}, against {control}, over {over}: {'; '.join(parts)}."
    if n == 1:
        return f"{text} One seed cannot say whether this repeats."
    return f"{text} So few networks say little." if n < FEW else text


def _start(name: str) -> str:
    return name[0].upper() + name[1:]


def _score(measure: dict[str, Any], test: dict[str, Any]) -> str:
    means, ci = test["means"], test["ci"]
    unit = f" {measure['unit']}" if measure["unit"] else ""
    label = measure["label"].removeprefix("test ")
    if means[0] is None or means[1] is None:
        return f"{label} undefined"
    said = f"{label} {means[0]:.2f}{unit} instead of {means[1]:.2f}{unit}"
    return f"{said} ({_difference(test)})" if ci is not None else said


def _map(known: dict[str, Any], tests: dict[str, dict[str, Any]]) -> str | None:
    """The map measure with the most evidence; of those with none, the largest difference."""
    there = [m for m in tests if known[m]["base"] in MAPS and tests[m]["mean_difference"] is not None]

    def weight(m: str) -> tuple[float, int, float]:
        return tests[m]["evidence"], -MAPS.index(known[m]["base"]), abs(tests[m]["mean_difference"])

    return max(there, key=weight) if there else None


def _map_said(measure: dict[str, Any], test: dict[str, Any]) -> str:
    label = f"{measure['label']} in {measure['part']}"
    a, b = test["means"]
    values = f"{label} {a:+.3f} instead of {b:+.3f}"
    if test["ci"] is None:
        return values
    if test["evidence"] > 0:
        return f"{values} ({_difference(test)}), {'a clearer map' if test['mean_difference'] > 0 else 'a weaker map'}"
    return f"{values} ({_difference(test)}), no difference that these networks can show"


def _null_said(test: dict[str, Any]) -> str:
    b = test["means"][1]
    if b is None:
        return "its shuffled null is undefined"
    return f"its shuffled null has {b:+.3f}"


def _difference(test: dict[str, Any]) -> str:
    low, high = test["ci"]
    digits = max(0, min(4, 2 - math.floor(math.log10(max(abs(low), abs(high), 1e-9)))))
    return f"difference {test['mean_difference']:+.{digits}f}, 95 % interval {low:+.{digits}f} to {high:+.{digits}f}"
