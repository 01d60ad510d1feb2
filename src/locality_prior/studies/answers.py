"""What a study has found: a few plain words about each condition."""

from __future__ import annotations

import math
from typing import Any

#: A result from fewer pairs of networks than this comes with a warning.
FEW = 5
#: From this many methods other than a cost, a group of conditions is summed up; and the settings that make them so.
METHODS, OTHERWISE = 3, ("objective", "arrange")
#: The measures of maps that an answer may quote. Where two have the same evidence, the first is quoted.
MAPS = ("morans_i", "response_correlation")

#: The tests of one pair of conditions, by measure.
Tests = dict[str, dict[str, Any]]


def answers(found: dict[str, Any]) -> list[dict[str, Any]]:
    """For each condition but the controls: what changed, by how much, and from how many pairs of networks."""
    tests: dict[tuple[str, str], Tests] = {}
    for one in found["comparisons"]:
        tests.setdefault((one["condition"], one["control"]), {})[one["measure"]] = one
    told = []
    for name, condition in found["conditions"].items():
        control = condition["control"]
        if control is None:
            continue
        mine = tests.get((name, control), {})
        null = tests.get((name, condition["null"]), {})
        n = max((test["n"] for test in mine.values()), default=0)
        said = _said(found["measures"], mine, null, condition["of"])
        if condition.get("arrange", "none") != "none":
            unmoved = condition.get("unmoved")
            said += _moved(found["measures"], tests.get((name, unmoved), {}) if unmoved else mine, unmoved)
        text = f"{_start(name, condition['of'])}: {said}."
        told.append({"condition": name, "control": control, "n": n, "text": f"{text}{_ending(n)}"})
    return told


def summary(found: dict[str, Any]) -> list[str]:
    """What a group that compares methods has shown, in three sentences: which make maps, which do not, and wires.

    Nothing is said of conditions with fewer than :data:`FEW` pairs of networks. A condition keeps the score where the
    95 % interval of its difference from the control is not wholly on the worse side, and has a map where Moran's I is
    above the control's in every sheet, with the whole interval.
    """
    told = []
    for group in found["groups"]:
        conditions = {c: found["conditions"][c] for c in group["conditions"]}
        methods = {c["method"] for c in conditions.values() if any(c.get(k, "none") != "none" for k in OTHERWISE)}
        if len(methods) >= METHODS:
            told += _Methods(found, group).sentences()
    return told


class _Methods:
    """The conditions of one group, each against the group's control."""

    def __init__(self, found: dict[str, Any], group: dict[str, Any]) -> None:
        self.measures, self.told = found["measures"], found["conditions"]
        self.control, self.model = group["control"], group["name"] if len(found["groups"]) > 1 else ""
        mine = {c for c in group["conditions"] if self.told[c]["control"] == self.control and not self.told[c]["of"]}
        self.rows: dict[str, Tests] = {c: {} for c in group["conditions"] if c in mine}
        for one in found["comparisons"]:
            sure = one["n"] >= FEW and (one["ci"] or one["mean_difference"] == 0)  # without an interval where all are 0
            if one["condition"] in mine and one["control"] == self.control and sure:
                self.rows[one["condition"]][one["measure"]] = one
        known = {name for tests in self.rows.values() for name in tests}
        self.score = next((s["name"] for s in group["scores"] if s["name"] in known), "loss")
        self.maps, self.wires = (
            [m for m in self.measures if self.measures[m]["base"] == base and m in known]
            for base in ("morans_i", "mean_wire_length")
        )

    def sentences(self) -> list[str]:
        kept = [c for c in self.rows if self._kept(c)]
        mapped = [c for c in self.rows if self._mapped(c)]
        said = []
        if mapped:
            best = max(mapped, key=lambda c: self._mean(c, self.maps))
            also = [c for c in mapped if c in kept]
            text = f"The clearest maps are those of {self._with_map(best)}"
            if also and best not in also:
                cheap = max(also, key=lambda c: self._mean(c, self.maps))
                text += f"; where {self._label()} is not certainly worse, those of {self._with_map(cheap)}"
            said.append(f"{text}.")
        tested = [c for c in self.rows if self.maps and all(m in self.rows[c] for m in self.maps)]
        some = {self.told[c]["method"] for c in mapped}
        none = dict.fromkeys(m for c in tested if (m := self.told[c]["method"]) not in some)
        if none:
            lead = "At no strength is Moran's I certainly above the control's in every sheet with"
            said.append(f"{lead} {', '.join(none)}.")
        short = [c for c in kept if self.wires and all(m in self.rows[c] for m in self.wires)]
        if short:
            best = min(short, key=lambda c: self._mean(c, self.wires))
            if self._mean(best, self.wires) < self._mean(best, self.wires, side=1):
                ours, control = (f"{self._mean(best, self.wires, side=k):.1f}" for k in (0, 1))
                lead = (
                    f"The shortest wires, where {self._label()} is not certainly worse, are those of {self._name(best)}"
                )
                unit = (unit := self.measures[self.wires[0]]["unit"]) and f" {unit}"
                said.append(f"{lead}: {ours}{unit} on average, {control} in the control.")
        return [f"{self.model}: {text[0].lower()}{text[1:]}" if self.model else text for text in said]

    def _kept(self, condition: str) -> bool:
        row = self.rows[condition].get(self.score)
        if row is None:
            return False
        low, high = _interval(row)
        return bool(high >= 0 if self.measures[self.score]["better"] == "up" else low <= 0)

    def _mapped(self, condition: str) -> bool:
        rows = [self.rows[condition].get(m) for m in self.maps]
        return bool(rows) and all(row is not None and _interval(row)[0] > 0 for row in rows)

    def _mean(self, condition: str, measures: list[str], side: int = 0) -> float:
        """The mean over sheets or layers, of the condition (0) or of its control (1)."""
        return math.fsum(self.rows[condition][m]["means"][side] for m in measures) / len(measures)

    def _with_map(self, condition: str) -> str:
        ours, control = (_number(self._mean(condition, self.maps, side=k), 2) for k in (0, 1))
        over = " as a mean over sheets" if len(self.maps) > 1 else ""
        text = f"{self._name(condition)} (Moran's I {ours}{over}, {control} in the control"
        row = self.rows[condition].get(self.score)
        if row is None:
            return f"{text})"
        digits = _digits(row)
        change, low, high = (_number(v, digits, sign=True) for v in (row["mean_difference"], *_interval(row)))
        points = " points" if self.measures[self.score]["unit"] == "%" else ""
        return f"{text}; {self._label()} {change}{points} [{low}, {high}])"

    def _name(self, condition: str) -> str:
        """A condition as its group calls it."""
        return str(self.told[condition]["label"])

    def _label(self) -> str:
        return str(self.measures[self.score]["label"]).removeprefix("test ")


def _start(name: str, of: str | None) -> str:
    null = "" if of is None else f" (the null of {of}: the same costs, shuffled among the wires)"
    return f"{name}{null} against its control"


def _ending(n: int) -> str:
    """How much the number of pairs allows to say."""
    if n == 0:
        return ""
    if n == 1:
        return " This is one pair of networks: it cannot show whether another pair would give the same."
    return f" From {n} pairs of networks{', which is too few to rely on' if n < FEW else ''}."


def _said(known: dict[str, Any], tests: Tests, null: Tests, of: str | None) -> str:
    if not any(test["n"] for test in tests.values()):
        return "no two networks with the same seed are finished yet"
    parts = []
    score = next((m for m in tests if not known[m]["part"]), None)  # the task's first score, or the loss
    if score is not None:
        parts.append(_change(known[score], tests[score], _worth))
    best = _map(known, tests)
    if best is not None:
        sure = of is None and tests[best]["n"] >= FEW  # a few networks make no map clearer
        parts.append(_change(known[best], tests[best], _map_worth if sure else _nothing))
        value = null[best]["means"][1] if best in null else None
        if value is not None:
            parts.append(f"in its shuffled null it is {_number(value, _digits(tests[best]))}")
    return "; ".join(parts) or "no measure is defined in both"


def _moved(known: dict[str, Any], tests: Tests, unmoved: str | None) -> str:
    """What new places did to the wires, in the layer with the most evidence; "" where no wires are measured."""
    lengths = [m for m in tests if known[m]["base"] == "mean_wire_length" and tests[m]["n"]]
    if not lengths:
        return ""
    best = max(lengths, key=lambda m: (tests[m]["evidence"], abs(tests[m]["mean_difference"] or 0.0)))
    against = "" if unmoved is None else f"against {unmoved}, "
    return f"; {against}{_change(known[best], tests[best], _nothing)}"


def _interval(test: dict[str, Any]) -> tuple[float, float]:
    """The 95 % interval of a difference; if it is the same in all pairs, that number twice."""
    low, high = test["ci"] or (test["mean_difference"],) * 2
    return low, high


def _map(known: dict[str, Any], tests: Tests) -> str | None:
    """The map measure with the most evidence; where none has any, the one with the largest difference."""
    there = [m for m in tests if known[m]["base"] in MAPS and tests[m]["mean_difference"] is not None]

    def weight(m: str) -> tuple[float, int, float]:
        return tests[m]["evidence"], -MAPS.index(known[m]["base"]), abs(tests[m]["mean_difference"])

    return max(there, key=weight) if there else None


def _change(measure: dict[str, Any], test: dict[str, Any], worth: Any) -> str:
    """How a measure changed from the control to the condition, and what that is worth."""
    label = measure["label"].removeprefix("test ") + (f" in {measure['part']}" if measure["part"] else "")
    value, control = test["means"]
    if value is None or control is None:
        return f"{label} is undefined"
    digits, unit = _digits(test), measure["unit"] and f" {measure['unit']}"
    a, b = _number(control, digits), _number(value, digits)
    if test["ci"] is None and a == b:
        return f"{label} is {b}{unit} in both"
    if test["ci"] is None:
        return f"{label} is {b}{unit}, and {a}{unit} in the control"
    low, high = (_number(end, digits, sign=True) for end in test["ci"])
    points = " points" if measure["unit"] == "%" else unit
    interval = f"{_number(test['mean_difference'], digits, sign=True)}{points}, 95 % interval {low} to {high}"
    if not test["evidence"]:
        return f"no clear change in {label} (from {a} to {b}{unit}: {interval})"
    rose = test["mean_difference"] > 0
    return f"{label} {'rose' if rose else 'fell'} from {a} to {b}{unit} ({interval}){worth(measure, rose)}"


def _worth(measure: dict[str, Any], rose: bool) -> str:
    if measure["better"] is None:
        return ""
    return ", which is better" if rose == (measure["better"] == "up") else ", which is worse"


def _map_worth(measure: dict[str, Any], rose: bool) -> str:
    return ", a clearer map" if rose else ", a weaker map"


def _nothing(measure: dict[str, Any], rose: bool) -> str:
    return ""


def _digits(test: dict[str, Any]) -> int:
    """Decimal places, at least one, with which the uncertainty, or else the difference, has two significant digits."""
    scale = test["mean_difference"] if test["ci"] is None else (test["ci"][1] - test["ci"][0]) / 2
    return max(1, min(6, 1 - math.floor(math.log10(abs(scale))))) if scale else 2


def _number(value: float, digits: int, sign: bool = False) -> str:
    """A number with a true minus sign; 0 has none."""
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    if not float(text.replace(",", "")):
        text = text.lstrip("+-")
    return text.replace("-", "−")
