"""The tables of a study: rows of text, for the page and for the terminal."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from locality_prior._check import printable
from locality_prior.analysis.statistics import mean_interval
from locality_prior.report.files import Study
from locality_prior.report.methods import (
    Method,
    averaged,
    epoch_times,
    likeness,
    name_of,
    parts_of,
    strength_of,
)
from locality_prior.report.words import NONE, decimals, fixed, p_value, plain

Rows = list[list[str]]
Key = TypeVar("Key", bound=Hashable)

#: Networks of each condition below which an effect size and the number of seeds it needs are left out.
FEW = 5
#: Measures of a sheet that the results show; the figures show all.
ON_SHEETS = ("morans_i", "spatial_variance", "response_correlation")
#: Measures that the tables of methods show after the first score, by what each table is about.
OF_COSTS = "Wires, time, and how alike networks of different seeds are"
OF_METHODS = {
    "Maps": ("morans_i", "morans_i_normed", "response_correlation", "weight_similarity"),
    OF_COSTS: ("mean_wire_length", "weight_norm"),
    "What networks withstand": ("noise_score", "adversarial_score", "patch_lesion_score", "random_lesion_score"),
}
#: How alike networks of different seeds are, by the keys of study.json.
LIKENESS = {"representation": "likeness of responses", "map": "likeness of maps (by chance)"}
#: What is cut first, by the parts of the measures of pruning.
CUT_FIRST = {"weight": "smallest |V| first", "length": "longest first", "cost": "smallest c|V| first"}


@dataclass(frozen=True)
class Table:
    """A header and rows.

    Args:
        rows: the header first.
        words: columns from the left that hold words rather than numbers.
        published: rows that somebody else published.
    """

    rows: Rows
    words: int = 1
    published: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return len(self.rows) > 1

    def first(self, n: int) -> Table:
        """The header and the first ``n`` rows."""
        return Table(self.rows[: n + 1], self.words)

    def after(self, n: int) -> Table:
        """The header and the rows after the first ``n``."""
        return Table([self.rows[0], *self.rows[n + 1 :]], self.words)


def tables(found: dict[str, Any]) -> list[Rows]:
    """What the terminal shows of ``study.json``: the answers, the hypotheses, and each group's results."""
    study = Study(found)
    shown = [answers(found), hypotheses(study)]
    for group in found["groups"]:
        shown += [networks(study, group), sheets(study, group)]
    return [table.rows for table in shown if table]


def answers(found: dict[str, Any]) -> Table:
    """One sentence for each condition, and how many networks it rests on."""
    return Table([["answer", "networks"], *([plain(a["text"], 500), str(a["n"])] for a in found["answers"])])


def measure_name(study: Study, measure: str, part: bool = True, unit: bool = True) -> str:
    """A measure as a reader sees it, with its unit and with the sheet, layer or cut that it belongs to."""
    told = study.found["measures"][measure]
    name = plain(told["label"]) + (f" ({plain(told['unit'], 20)})" if unit and told["unit"] else "")
    return f"{name}, {part_name(told['part'])}" if part and told["part"] else name


def part_name(part: str) -> str:
    """A sheet, a layer or a cut as a reader sees it."""
    return CUT_FIRST.get(part, plain(part, 40))


def networks(study: Study, group: dict[str, Any]) -> Table:
    """A row for each condition: how many networks, and the means of what belongs to a network as a whole."""
    told = study.found["measures"]
    measures = [m for m in study.measures(group) if not told[m]["part"] or told[m]["base"] == "mean_wire_length"]
    many = sum(told[m]["base"] == "mean_wire_length" for m in measures) > 1
    rows = [["condition", "networks", *(measure_name(study, m, part=many) for m in measures)]]
    columns = {m: _columns(study, group, [m])[m] for m in measures}
    cells = study.of(group, "cells")
    for name in group["conditions"]:
        done = sum(c["condition"] == name and c["measures"] is not None for c in cells)
        rows.append([study.label(name), str(done), *(columns[m][name] for m in measures)])
    ours = len(rows)
    for one in _published(study, group):
        shown = [_as_published(one["measures"].get(m)) for m in measures]
        if any(shown):
            rows.append([plain(one["name"]), "", *shown])
    return Table(rows, published=frozenset(range(ours, len(rows))))


def sheets(study: Study, group: dict[str, Any]) -> Table:
    """A row for each sheet and condition: means of the most telling measures of a map."""
    told = study.found["measures"]
    there = study.measures(group)
    bases = [base for base in ON_SHEETS if any(told[m]["base"] == base for m in there)]
    names = {(told[m]["base"], told[m]["part"]): m for m in there}
    heads = [measure_name(study, next(m for m in there if told[m]["base"] == base), part=False) for base in bases]
    rows, published = [["sheet", "condition", *heads]], set()
    columns: dict[str, dict[str, str]] = {}
    for base in bases:
        columns |= _columns(study, group, [m for (kind, _), m in names.items() if kind == base])
    for sheet in group["sheets"]:
        here = [names.get((base, sheet)) for base in bases]
        if not any(here):
            continue
        for name in group["conditions"]:
            shown = [columns[m][name] if m else NONE for m in here]
            rows.append([part_name(sheet), study.label(name), *shown])
        for one in _published(study, group):
            shown = [_as_published(one["measures"].get(m)) if m else "" for m in here]
            if any(shown):
                published.add(len(rows))
                rows.append([part_name(sheet), plain(one["name"]), *shown])
    return Table(rows, 2, frozenset(published))


def of_methods(
    study: Study, group: dict[str, Any], methods: list[Method], middle: bool = False
) -> list[tuple[str, Table]]:
    """What each table is about, and the table: a row for each condition, method by method.

    The number of networks is left out where all conditions have as many.

    ``middle``: only the condition of each method's middle strength.
    """
    conditions = [(m, c) for m in methods for c in ((m.middle,) if middle else m.conditions)]
    score = [s["name"] for s in group["scores"]][:1]
    done = networks_of(study, group)
    counted = len({done[c] for _, c in conditions}) > 1
    made = []
    for about, bases in OF_METHODS.items():
        columns: dict[str, dict[str, str]] = {}
        for base in dict.fromkeys([*score, *bases]):
            parts = parts_of(study, group, base)
            if parts:
                values = {c: list(averaged(study, c, parts).values()) for c in group["conditions"]}
                columns[measure_name(study, parts[0], part=False)] = _spread(values)
        if about == OF_COSTS:
            columns |= _costs(study, group)
        if len(columns) <= len(score):
            continue
        rows = [["method", "strength", *["networks"] * counted, *columns]]
        for method, condition in conditions:
            numbers = [*[str(done[condition])] * counted, *(column[condition] for column in columns.values())]
            rows.append([name_of(study, method), strength_of(study, condition), *numbers])
        made.append((about, Table(rows)))
    return made


def networks_of(study: Study, group: dict[str, Any]) -> dict[str, int]:
    """Condition → how many networks have results."""
    return {name: sum(name == one for one, _ in study.done) for name in group["conditions"]}


def _costs(study: Study, group: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Columns of what is no measure of a network: its time, and how alike networks of different seeds are."""
    columns = {}
    times = epoch_times(study, group)
    if times:
        columns["time of an epoch (control = 1)"] = _spread({c: list(t.values()) for c, t in times.items()})
    for key, head in LIKENESS.items():
        numbers = {c: likeness(study, c, key) for c in group["conditions"]}
        if any(v is not None for v in numbers.values()):
            columns[head] = {c: fixed(v, min(decimals(numbers.values()), 3)) for c, v in numbers.items()}
    maps = LIKENESS["map"]
    if maps in columns:
        chance = {c: fixed(likeness(study, c, "chance"), 3) for c in group["conditions"]}
        columns[maps] = {c: f"{told} ({chance[c]})" for c, told in columns[maps].items()}
    return columns


def without_variance(study: Study, group: dict[str, Any]) -> list[str]:
    """The sheets of a group whose spatial variance was measured and is undefined in every network."""
    defined = study.measures(group)
    parts = {m: told["part"] for m, told in study.found["measures"].items() if told["base"] == "spatial_variance"}
    return [name for name in group["sheets"] if any(p == name and m not in defined for m, p in parts.items())]


def _columns(study: Study, group: dict[str, Any], measures: list[str]) -> dict[str, dict[str, str]]:
    """Measure → condition → mean over networks, and half its 95 % interval where there is one; as :func:`_spread`."""
    keys = [(m, name) for m in measures for name in group["conditions"]]
    shown = _spread({key: list(study.values(key[1], key[0]).values()) for key in keys})
    return {m: {name: shown[m, name] for name in group["conditions"]} for m in measures}


def _spread(values: dict[Key, list[float]]) -> dict[Key, str]:
    """Key → the mean of its values, and half the 95 % interval of the mean where there is one.

    All have the same number of decimals: three significant digits of the largest mean, or fewer if even the narrowest
    interval has no use for them.
    """
    means: dict[Key, float | None] = {}
    halves: dict[Key, float] = {}
    for key, numbers in values.items():
        means[key] = math.fsum(numbers) / len(numbers) if numbers else None
        interval = mean_interval(numbers)
        if interval is not None:
            halves[key] = (interval[1] - interval[0]) / 2
    places = decimals(means.values())
    if halves:
        places = min(places, max(decimals([min(halves.values())]) - 1, 0))
    shown = {}
    for key, mean in means.items():
        shown[key] = fixed(mean, places) + (f" ± {fixed(halves[key], places)}" if key in halves else "")
    return shown


def _published(study: Study, group: dict[str, Any]) -> list[dict[str, Any]]:
    """Published results that stand beside a group's: the first group that has all their measures."""
    published: list[dict[str, Any]] = study.found["published"]
    groups = study.found["groups"]
    measured = [set(study.measures(g)) for g in groups]
    here = next(k for k, g in enumerate(groups) if g is group)
    return [p for p in published if next((k for k, m in enumerate(measured) if m >= p["measures"].keys()), 0) == here]


def _as_published(value: float | None) -> str:
    return "" if value is None else format(value, ",").replace("-", "−")


def pair(study: Study, one: dict[str, Any]) -> str:
    """The two sides of a comparison, as a difference."""
    groups = [study.found["conditions"][one[side]]["group"] for side in ("condition", "control")]
    sides = study.label(one["condition"]), study.label(one["control"])
    if groups[0] != groups[1]:  # two networks' controls, say, which have one label
        sides = plain(f"{sides[0]} ({groups[0]})"), plain(f"{sides[1]} ({groups[1]})")
    return f"{sides[0]} − {sides[1]}"


def hypotheses(study: Study) -> Table:
    """A row for each hypothesis."""
    rows = [["hypothesis", "compared", "difference [95 % interval]", "n", "verdict"]]
    for one in study.found["hypotheses"]:
        margin = one["margin"] or 0
        expected = f"{one['expected']}, by more than {margin:g}" if margin else one["expected"]
        if one["expected"] == "alike":
            expected = f"alike, within {margin:g}"
        measure = measure_name(study, one["measure"])
        said = f"“{plain(one['says'], 400)}” ({measure}: {plain(expected)})"
        rows.append([said, pair(study, one), _difference(one), str(one["n"]), plain(one["verdict"])])
    return Table(rows, 2)


def comparisons(study: Study, group: dict[str, Any], forced: bool = False) -> Table:
    """A row for each comparison of a group, the one with the strongest evidence first; those that are ``forced``, or
    all others."""
    told = study.found["measures"]
    kept = [c for c in study.of(group, "comparisons") if c["n"] and told[c["measure"]]["forced"] == forced]
    kept.sort(key=lambda c: (-(c["evidence"] or 0), 2 if c["p"] is None else c["p"]))
    rows = [["compared", "measure", "difference [95 % interval]", "n", "p, t-test"]]
    enough = any(c["n"] >= FEW for c in kept)
    if enough:
        rows[0] += ["p, Holm", "p, sign flips", "effect d_z", "seeds needed"]
    for one in kept:
        numbers = [_difference(one), str(one["n"]), p_value(one["p"])]
        if enough and one["n"] >= FEW:
            numbers += [p_value(one[p]) for p in ("p_holm", "p_permutation")]
            numbers += [fixed(one["effect"], 2, sign=True), _needed(one)]
        elif enough:
            numbers += [""] * 4
        rows.append([pair(study, one), measure_name(study, one["measure"]), *numbers])
    return Table(rows, 2)


def _difference(one: dict[str, Any]) -> str:
    mean, ends = one["mean_difference"], one["ci"]
    places = decimals([mean])
    if ends is None:
        return fixed(mean, places, sign=True)
    places = min(places, decimals(ends) + 1)
    return (
        f"{fixed(mean, places, sign=True)} [{fixed(ends[0], places, sign=True)}, {fixed(ends[1], places, sign=True)}]"
    )


def _needed(one: dict[str, Any]) -> str:
    """Seeds needed for the effect found, and for the end of its interval that is nearer to 0."""
    needed, near = one["seeds_needed"], one["seeds_needed_near_end"]
    if needed is None:
        return NONE
    if near is None:
        return f"{needed:,} or more"
    return f"{needed:,}" if needed == near else f"{min(needed, near):,} to {max(needed, near):,}"


def over_items(study: Study, group: dict[str, Any]) -> Table:
    """A row for each comparison that was also tested over test items: in how many pairs of networks it differs, and
    what the networks say."""
    rows = [["compared", "measure", "pairs of networks", "lower, p < 0.05", "higher, p < 0.05", "neither"]]
    rows[0].append("over networks")
    for one in study.of(group, "comparisons"):
        tests = [t for t in one.get("per_item") or () if t["p"] is not None and t["mean_difference"] is not None]
        if not tests:
            continue
        sure = [t for t in tests if t["p"] < 0.05]
        lower = sum(t["mean_difference"] < 0 for t in sure)
        counts = [len(tests), lower, len(sure) - lower, len(tests) - len(sure)]
        verdict = "too few networks" if one["ci"] is None else "no difference found"
        if one["ci"] is not None and (one["ci"][0] > 0 or one["ci"][1] < 0):
            verdict = "higher" if one["ci"][0] > 0 else "lower"
        rows.append([pair(study, one), measure_name(study, one["measure"], unit=False), *map(str, counts), verdict])
    return Table(rows, 2)


def cells(study: Study, group: dict[str, Any]) -> Table:
    """A row for every network: its scores, and the directory of its run."""
    told = study.found["measures"]
    measures = [m for m in study.measures(group) if not told[m]["part"]]
    places = {m: decimals(v for c in group["conditions"] for v in study.values(c, m).values()) for m in measures}
    rows = [["condition", "run", "seed", *(measure_name(study, m) for m in measures)]]
    for cell in study.of(group, "cells"):
        values = [study.values(cell["condition"], m).get(cell["seed"]) for m in measures]
        numbers = [fixed(v, places[m]) for m, v in zip(measures, values, strict=True)]
        rows.append([study.label(cell["condition"]), plain(cell["run"]), str(cell["seed"]), *numbers])
    return Table(rows, 2)


def show(*tables: Rows, prose: str = "") -> None:
    """Print tables to the terminal: each is a header and rows, the first column and the one called ``prose`` in words.

    Names appear as they are: square brackets in them are no markup.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    for rows in tables:
        table = Drawn(box=box.SIMPLE_HEAD, pad_edge=False)
        for k, name in enumerate(rows[0]):
            table.add_column(Text(_seen(name)), justify="right" if k and name != prose else "left", overflow="fold")
        for row in rows[1:]:
            table.add_row(*(Text(_seen(cell)) for cell in row))
        console.print(table)


def _seen(text: str) -> str:
    """``text`` without what would steer the terminal."""
    return "\n".join(map(printable, text.split("\n")))
