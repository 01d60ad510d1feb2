"""The figures of a study's page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from locality_prior import plots
from locality_prior.analysis.statistics import mean_interval
from locality_prior.explorer.scene import Sheet
from locality_prior.plots._style import text_size
from locality_prior.report.files import Floats, Run, Study
from locality_prior.report.layout import (
    ACROSS,
    INCH,
    WIDE,
    columns_of,
    em,
    entitle,
    first_label_only,
    one_legend,
    panelled,
    settle,
    width_of,
)
from locality_prior.report.methods import objectives_of
from locality_prior.report.saving import unseen_glyphs
from locality_prior.report.tables import CUT_FIRST, measure_name, part_name
from locality_prior.report.words import decimals, drawn, fixed, listed, plain, slug, told_apart

#: Conditions in a figure of rows, of maps, and of curves, whose colours must be told apart.
ROWS, MAPS, CURVES = 24, 6, 6
#: Epochs in a figure of units that moved.
MOMENTS = 5
#: Panels in a figure.
PANELS = 12
#: The share of the responses of a row of maps that is not brighter than the brightest colour.
BRIGHT = 0.99


@dataclass(frozen=True)
class Picture:
    """A figure of a page.

    Args:
        name: of its files.
        draw: makes the figure, at a width in millimetres; None: as the page has it.
        caption: what stands below it.
        alt: a description for those who cannot see it.
        scale: how much larger than the figure the page shows it, if there is room.
        highest: the height in inches to which the page makes it smaller, by a quarter at most.
        subject: what it shows; two pictures with the same subject show the same.
    """

    name: str
    draw: Callable[[float | None], Figure]
    caption: str
    alt: str
    scale: float = 1.0
    subject: Any = None
    highest: float = math.inf

    @cached_property
    def figure(self) -> Figure:
        """The figure as the page has it."""
        return self.draw(None)

    def at(self, width: float) -> Figure:
        """The figure for print, ``width`` millimetres wide: its text is as large as on the page."""
        return settle(self.draw(width))


# Class maps


def telling_condition(study: Study) -> tuple[int, str, str] | None:
    """The condition, other than a null, that differs most from its control in the Moran's I of a sheet.

    It is the one with the most evidence; where there is none, the one with the largest difference.

    Returns:
        The number of its group, the sheet, and the condition; None where no condition has a map and a control.
    """
    found = study.found
    nulls = {told["null"] for told in found["conditions"].values()}
    evidence = {(c["condition"], c["control"], c["measure"]): float(c["evidence"]) for c in found["comparisons"]}
    best: tuple[tuple[float, float], int, str, str] | None = None
    for k, group in enumerate(found["groups"]):
        for sheet in _drawable(group):
            for name in group["conditions"]:
                control = found["conditions"][name]["control"]
                rows = _related(study, group, name)
                if control is None or name in nulls or _same_seed(study, rows, sheet) is None:
                    continue
                means = [mean_of(study.values(c, f"morans_i.{sheet}").values()) for c in (name, control)]
                apart = abs(means[0] - means[1])
                sure = evidence.get((name, control, f"morans_i.{sheet}"), 0.0)
                weight = (sure, apart if math.isfinite(apart) else -1.0)
                if best is None or weight > best[0]:
                    best = weight, k, sheet, name
    return None if best is None else best[1:]


def _related(study: Study, group: dict[str, Any], condition: str) -> list[str]:
    """A condition with its control and its null, in the order of the group."""
    told = study.found["conditions"][condition]
    return [name for name in group["conditions"] if name in {told["control"], condition, told["null"]}]


def most_telling(study: Study) -> Picture | None:
    """Class maps of the condition that :func:`telling_condition` finds, with its control and its null."""
    told = telling_condition(study)
    if told is None:
        return None
    k, sheet, condition = told
    group = study.found["groups"][k]
    return class_maps(study, group, sheet, _related(study, group, condition), "most-telling")


def class_maps(
    study: Study,
    group: dict[str, Any],
    sheet: str,
    conditions: list[str],
    name: str,
    *,
    most: int = MAPS,
    most_classes: int | None = None,
) -> Picture | None:
    """A row of maps for each of at most ``most`` conditions, of networks of the first seed that all of them have."""
    conditions, left_out = conditions[:most], len(conditions) - most
    seed = _same_seed(study, conditions, sheet)
    if seed is None:
        return None
    runs = [study.runs[c, seed] for c in conditions]
    labels = _labels(study, conditions, 16 if most == MAPS else 25)
    rows, largest = {}, []
    for condition, run in zip(conditions, runs, strict=True):
        order = study.values(condition, f"morans_i.{sheet}").get(seed)
        said = "" if order is None else f", I\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{fixed(order, 2)}"
        means = run.arrays[f"sheet/{sheet}/class_means"]
        sizes = np.abs(means[np.isfinite(means)])
        # a few units far above the rest would leave these in the dark
        top = float(np.quantile(sizes, BRIGHT)) if sizes.size else 0.0
        top = top or float(sizes.max(initial=0.0)) or 1.0
        rows[labels[condition] + said] = np.clip(means / top, -1, 1)[:most_classes]
        largest.append(f"{_digits(top)} ({study.label(condition)})")
    places = {}
    for row, run in zip(rows, runs, strict=True):
        assert run.network is not None  # as there are maps
        places[row] = run.network.sheets[sheet].places
    classes = told_apart(class_names(group, runs[0]), 14, 1)
    classes, more_classes = classes[:most_classes], len(classes[most_classes or len(classes) :])

    def draw(width: float | None) -> Figure:
        with unseen_glyphs():
            axes = plots.class_maps(rows, places, classes=classes, label="relative response", width=width)
        figure: Figure = axes[0, 0].figure
        plt.close(figure)  # it belongs to the page: pyplot need not show it
        if width is None:  # flat maps: else the colour bar's label would be cut off
            figure.set_figheight(max(figure.get_figheight(), 2.3))
        return figure

    explained = ""
    if any(row not in labels.values() for row in rows):
        explained = " I is Moran's I, averaged over classes: 0 for a map without order, 1 for a perfectly smooth one."
    return Picture(
        name,
        draw,
        f"Mean response of each unit to the items of each class, on the sheet “{part_name(sheet)}”. From top to "
        f"bottom: {_told(study, labels)}; networks of seed {seed}. Responses may be weaker in one condition than in "
        f"another, so each row is divided by the value that one in a hundred of its responses exceeds, and these are "
        f"drawn as 1: {listed(largest)}.{explained}"
        + told_left_out(left_out, "condition")
        + told_left_out(more_classes, "class", "classes"),
        f"Maps of {len(classes)} classes on the sheet {part_name(sheet)}, a row for each of {_told(study, labels)}",
        1.15,
        (sheet, tuple(conditions), seed),
    )


def positions(study: Study, group: dict[str, Any], prefix: str) -> Iterator[Picture]:
    """For each sheet whose units moved: where they were at some epochs, a row for each condition."""
    for k, sheet in enumerate(group["sheets"], start=1):
        by_seed: dict[int, dict[str, Sheet]] = {}
        for (condition, seed), run in study.runs.items():
            found = run.network.sheets.get(sheet) if run.network is not None else None
            if condition in group["conditions"] and found is not None and found.epoch_xy is not None:
                by_seed.setdefault(seed, {})[condition] = found
        if by_seed:
            seed = max(sorted(by_seed), key=lambda seed: len(by_seed[seed]))
            yield _positions(study, sheet, seed, by_seed[seed], f"{prefix}positions-{k}-{slug(sheet)}".rstrip("-"))


def _positions(study: Study, sheet: str, seed: int, found: dict[str, Sheet], name: str) -> Picture:
    first = next(iter(found.values())).epochs
    assert first is not None
    same = {c: one for c, one in found.items() if one.epochs is not None and np.array_equal(one.epochs, first)}
    shown = list(same)[:MAPS]
    at = np.unique(np.linspace(0, len(first) - 1, min(len(first), MOMENTS)).round().astype(int))
    epochs = ["before training" if first[k] == 0 else f"epoch {first[k]}" for k in at]
    labels = _labels(study, shown, 16)
    rows = {labels[c]: np.asarray(same[c].epoch_xy)[at] for c in shown}

    def draw(width: float | None) -> Figure:
        with unseen_glyphs():
            axes = plots.positions(rows, epochs=epochs, width=width)
        figure: Figure = axes[0, 0].figure
        plt.close(figure)
        return figure

    return Picture(
        name,
        draw,
        f"Where the units of “{part_name(sheet)}” were; networks of seed {seed}. Each unit keeps the colour of the "
        "place where it started. In the last column a line leads from there to where it ended."
        + told_left_out(len(found) - len(shown), "condition"),
        f"Places of the units of {part_name(sheet)} at {len(at)} epochs, a row for each of {_told(study, shown)}",
    )


def _drawable(group: dict[str, Any]) -> list[str]:
    return [name for name, sheet in group["sheets"].items() if sheet["places"] is not None]


def seeds_with_maps(study: Study, condition: str, sheet: str) -> list[int]:
    """The seeds of which a condition has a network with class maps of a sheet."""
    wanted = (f"sheet/{sheet}/class_means", f"sheet/{sheet}/xy", "classes")
    return [
        seed
        for (c, seed), r in study.runs.items()
        if c == condition and all(w in r.arrays and r.arrays[w].size for w in wanted)
    ]


def _same_seed(study: Study, conditions: Iterable[str], sheet: str) -> int | None:
    """The first seed of which every condition has a network with maps of the same classes."""
    names = list(conditions)
    for seed in sorted({s for c, s in study.runs if c == names[0]}):
        runs = [study.runs.get((c, seed)) for c in names]
        arrays = [run.arrays for run in runs if run is not None]
        wanted = (f"sheet/{sheet}/class_means", f"sheet/{sheet}/xy", "classes")
        if (
            len(arrays) == len(runs)
            and all(w in a and a[w].size for a in arrays for w in wanted)
            and all(np.array_equal(a["classes"], arrays[0]["classes"]) for a in arrays)
        ):
            return seed
    return None


def class_names(group: dict[str, Any], run: Run) -> list[str]:
    """The names of the classes whose maps a run kept, in the task's own words; a class without a name is its number."""
    known = group["classes"] or []
    numbers = [int(k) for k in run.arrays["classes"]]
    return [str(known[k]) if 0 <= k < len(known) else str(k) for k in numbers]


# Numbers of networks


def trade(study: Study, group: dict[str, Any], prefix: str) -> Picture | None:
    """The first score against the mean wire length of each layer."""
    score = next((s["name"] for s in group["scores"] if s["name"] in study.measures(group)), None)
    lengths = _parts(study, group, "mean_wire_length")[:ACROSS]
    if score is None or not lengths:
        return None
    names, left_out = _curves(group)
    labels = _labels(study, names)

    def draw(width: float | None) -> Figure:
        figure, axes = panelled(len(lengths), 3.0, width)
        for ax, measure in zip(axes, lengths, strict=False):
            points = {}
            for name in names:
                x, y = study.values(name, measure), study.values(name, score)
                seeds = sorted(x.keys() & y.keys())
                points[labels[name]] = np.array([x[s] for s in seeds]), np.array([y[s] for s in seeds])
            plots.scatter(points, ax, x=measure_name(study, measure, part=False), y=measure_name(study, score))
            _title(ax, study, measure, len(lengths))
        one_legend(figure, axes, width)
        first_label_only(axes)
        return figure

    return Picture(
        f"{prefix}score-against-wire-length",
        draw,
        f"{capital(measure_name(study, score))} against the mean wire length Σ d|V| / Σ|V|: a point for each network."
        + told_left_out(left_out, "condition"),
        f"Scatter of {measure_name(study, score)} against mean wire length for {_told(study, labels)}",
    )


def measures(study: Study, group: dict[str, Any], prefix: str) -> Iterator[Picture]:
    """A figure for each base measure: a row for each condition, a panel for each sheet, layer or cut."""
    for base in dict.fromkeys(study.found["measures"][m]["base"] for m in study.measures(group)):
        yield _measure(study, group, prefix, base)


def _measure(study: Study, group: dict[str, Any], prefix: str, base: str) -> Picture:
    names = group["conditions"][:ROWS]
    seeds = study.seeds(group)
    all_parts = _parts(study, group, base)
    parts = all_parts[:PANELS]

    def draw(width: float | None) -> Figure:
        labels = _labels(study, names, 26 if width is None else _letters(map(study.label, names), width))
        lines = sum(label.count("\n") + 1 for label in labels.values())
        height = (0.75 + 0.18 * lines + 0.1 * len(names)) * 7.2 * em()
        beside = max(width_of(label, text_size("ytick.labelsize", "small")) for label in labels.values())
        figure, axes = panelled(len(parts), height, width, sharey=True, beside=beside)
        for ax, measure in zip(axes, parts, strict=False):
            table, intervals = {}, {}
            for name in names:
                values = study.values(name, measure)
                table[labels[name]] = np.array([values.get(s, math.nan) for s in seeds])
                intervals[labels[name]] = mean_interval(list(values.values()))
            plots.seeds_by_condition(table, ax, label=measure_name(study, measure, part=False), intervals=intervals)
            ax.xaxis.set_major_locator(MaxNLocator(4))
            _title(ax, study, measure, 2 if study.found["measures"][measure]["part"] else 1)
        return figure

    said = measure_name(study, parts[0], part=False)
    return Picture(
        f"{prefix}{base}",
        draw,
        f"{capital(said)}: every network, joined by seed, with each condition's mean and its 95 % interval."
        + told_left_out(len(group["conditions"]) - ROWS, "condition")
        + told_left_out(len(all_parts) - PANELS, "panel"),
        f"{capital(said)} of every network of {_told(study, names)}",
    )


# Curves


def correlation(study: Study, group: dict[str, Any], prefix: str) -> Picture | None:
    """Response correlation of two units against the distance between them, a panel for each sheet."""

    def curve(run: Run, sheet: str) -> tuple[Floats, Floats] | None:
        found = run.arrays.get(f"sheet/{sheet}/curve")
        return None if found is None or not found.size else (found[0], found[1])

    return _banded(
        study,
        group,
        f"{prefix}correlation-by-distance",
        list(group["sheets"]),
        curve,
        ("distance between units", "response correlation", 0.0),
        "How alike two units respond to the test items, against the distance between them: mean over networks and its "
        "95 % interval.",
    )


def wires(study: Study, group: dict[str, Any], prefix: str) -> Picture | None:
    """Where the strength of the wires lies, by their length, a panel for each layer."""

    def curve(run: Run, layer: str) -> tuple[Floats, Floats] | None:
        length, strength, count = (run.arrays.get(f"wires/{layer}/{key}") for key in ("length", "strength", "count"))
        if length is None or strength is None or count is None:
            return None
        there = count > 0
        return (length[there], strength[there] / count[there]) if there.any() else None

    return _banded(
        study,
        group,
        f"{prefix}wires-by-length",
        list(group["layers"]),
        curve,
        ("length of the wire", "share of Σ|V| / share of wires", 1.0),
        "Strength of the wires by their length: the share of Σ|V| that wires of a length carry, divided by the share "
        "of wires that have this length. It is close to 1 without a wiring cost. Mean over networks and 95 % interval.",
    )


def _banded(
    study: Study, group: dict[str, Any], name: str, parts: list[str], curve: Any, axes_are: Any, caption: str
) -> Picture | None:
    names, left_out = _curves(group)
    labels = _labels(study, names)
    panels = {}
    for part in parts:
        bands = {}
        for condition in names:
            found = [curve(run, part) for (c, _), run in study.runs.items() if c == condition]
            if any(one is not None for one in found):
                bands[labels[condition]] = _band([one for one in found if one is not None])
        if any(np.isfinite(y).sum() > 1 for _, y, _ in bands.values()):
            panels[part] = bands
    if not panels:
        return None
    x, y, level = axes_are
    shown = list(panels.items())[:PANELS]

    def draw(width: float | None) -> Figure:
        figure, axes = panelled(len(shown), 2.6, width)
        limits = []
        for ax, (part, bands) in zip(axes, shown, strict=False):
            plots.banded(bands, ax, x=x, y=y, level=level)
            limits.append((ax, _view([heights for _, heights, _ in bands.values()], level)))
            if len(panels) > 1:
                entitle(ax, part_name(part))
        one_legend(figure, axes, width)
        for ax, (low, high) in limits:  # the bands of few networks may be far wider than their lines are apart
            bottom, top = ax.get_ylim()
            ax.set_ylim(max(low, bottom), min(high, top))
        first_label_only(axes)
        return figure

    more = told_left_out(left_out, "condition") + told_left_out(len(panels) - PANELS, "panel")
    return Picture(name, draw, caption + more, f"{capital(y)} against {x} for {_told(study, labels)}")


def _band(curves: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats, Floats]:
    """Mean of several networks' curves, and half its 95 % interval, bin by bin.

    Networks with silent units may lack a bin. Bins are then told by their distance, to the nearest whole spacing.
    """
    same = len({len(x) for x, _ in curves}) == 1 and float(np.ptp([x for x, _ in curves], axis=0).max(initial=0)) < 0.5
    at: dict[int, list[tuple[float, float]]] = {}
    for xs, ys in curves:
        for k, (x, y) in enumerate(zip(xs, ys, strict=True)):
            if math.isfinite(x) and math.isfinite(y):
                at.setdefault(k if same else math.floor(x + 0.5), []).append((float(x), float(y)))
    points = [np.array(at[k]).T for k in sorted(at)]
    intervals = [mean_interval(p[1]) for p in points]
    halves = [math.nan if i is None else (i[1] - i[0]) / 2 for i in intervals]
    return np.array([p[0].mean() for p in points]), np.array([p[1].mean() for p in points]), np.array(halves)


def _view(lines: list[Floats], level: float) -> tuple[float, float]:
    """The heights to show, of a panel with these lines: theirs, and as much again above and below."""
    heights = np.concatenate([*lines, [level]])
    low, high = float(np.nanmin(heights)), float(np.nanmax(heights))
    room = (high - low) or 1.0
    return low - room, high + room


def training(study: Study, group: dict[str, Any], prefix: str, objectives: bool = True) -> Picture | None:
    """Loss, score, wire length and ``objectives`` over the epochs: the mean over networks."""
    score = group["scores"][0] if group["scores"] else {"name": "", "unit": ""}
    unit = f" ({plain(score['unit'], 20)})" if score["unit"] else ""
    wanted = {
        "train_loss": "training loss",
        "validation_loss": "validation loss",
        f"validation_{score['name']}": f"validation {drawn(score['name'])}{unit}",
        "mean_wire_length": "mean wire length",
    }
    names, left_out = _curves(group)
    labels = _labels(study, names)
    runs = {name: [run.metrics for (c, _), run in study.runs.items() if c == name] for name in names}
    if objectives:
        wanted |= {
            o: f"{drawn(o)}, unweighted" for o in objectives_of(m for one in runs.values() for m in one)[:PANELS]
        }
    panels: dict[str, Any] = {}
    for column, said in wanted.items():
        curves = {}
        for name in names:
            line = mean_epochs(runs[name], column)
            if line is not None:
                curves[labels[name]] = line
        if any(len(x) > 1 for x, _ in curves.values()):  # one epoch makes no curve
            panels[said] = curves
    if not panels:
        return None

    def draw(width: float | None) -> Figure:
        figure, axes = panelled(len(panels), 2.4, width, across=2)
        for ax, (said, curves) in zip(axes, panels.items(), strict=False):
            plots.training(curves, ax, label=said)
        one_legend(figure, axes, width)
        for ax in axes[: len(panels)]:
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        return figure

    return Picture(
        f"{prefix}training",
        draw,
        "Each epoch of training, mean over networks." + told_left_out(left_out, "condition"),
        f"Training curves of {_told(study, labels)}",
    )


def pruning(study: Study, group: dict[str, Any], prefix: str) -> Picture | None:
    """What is left of the main score, and of the wire length, as wires are cut: the mean over networks."""
    names, left_out = _curves(group)
    labels = _labels(study, names)
    score = group["scores"][0] if group["scores"] else {"name": "score", "unit": ""}
    unit = f" ({plain(score['unit'], 20)})" if score["unit"] else ""
    panels: dict[str, dict[str, Any]] = {}
    for by in CUT_FIRST:
        for name in names:
            runs = [r.pruning[by] for (c, _), r in study.runs.items() if c == name and by in r.pruning]
            if runs:
                tests = mean_line([(r["share"], r["test"]) for r in runs])
                lengths = mean_line(
                    [(r["share"], 100 * r["wire_length"] / (np.nanmax(r["wire_length"]) or 1)) for r in runs]
                )
                panels.setdefault(by, {})[labels[name]] = tests, lengths
    if not panels:
        return None
    rows = f"test {drawn(score['name'])}{unit}", "wire length (%)"

    def draw(width: float | None) -> Figure:
        n = len(panels)
        inches = min(WIDE, 1 + 3 * n) if width is None else width / INCH
        beside = width is None or columns_of(n, inches) == n  # else what is cut first stands in rows
        figure = Figure(figsize=(inches, 4.8 if beside else 1.7 * n + 0.6), layout="constrained")
        shape = (2, n) if beside else (n, 2)
        axes = figure.subplots(*shape, squeeze=False, sharex=True, sharey="row" if beside else "col")
        for k, (by, curves) in enumerate(panels.items()):
            pair = axes[:, k] if beside else axes[k]
            for row, (ax, said) in enumerate(zip(pair, rows, strict=True)):
                plots.pruning(
                    {c: both[row] for c, both in curves.items()}, ax, label=said if not (k and beside) else ""
                )
                if not ax.get_subplotspec().is_last_row():
                    ax.set_xlabel("")
            pair[0].set_title(
                CUT_FIRST[by], loc="center" if beside else "left", fontsize=text_size("axes.titlesize", "medium")
            )
        one_legend(figure, axes.ravel(), width)
        return figure

    return Picture(
        f"{prefix}pruning",
        draw,
        "Wires cut after training, without training again: the main score on test items, and the total length of the "
        "wires that are left. Shares of a network's own wires; mean over networks."
        + told_left_out(left_out, "condition"),
        f"Score and wire length against the share of wires kept, for {_told(study, labels)}",
    )


def mean_epochs(metrics: list[dict[str, Floats]], column: str) -> tuple[Floats, Floats] | None:
    """Epochs and the mean of a column of metrics.csv over networks; None where no network has it."""
    lines = [(m["epoch"], m[column]) for m in metrics if {"epoch", column} <= m.keys() and len(m["epoch"])]
    lines = [(x, y) for x, y in lines if np.isfinite(y).any()]
    return mean_line(lines) if lines else None


def mean_line(lines: list[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """The mean of several networks' lines, point by point, with the x of the longest."""
    longest = max((x for x, _ in lines), key=len)
    table = np.full((len(lines), len(longest)), np.nan)
    for row, (_, y) in zip(table, lines, strict=True):
        row[: len(y)] = y
    n = np.isfinite(table).sum(axis=0)
    mean = np.nansum(np.where(np.isfinite(table), table, 0), axis=0) / np.maximum(n, 1)
    return longest, np.where(n > 0, mean, np.nan)


# What figures share


def _parts(study: Study, group: dict[str, Any], base: str) -> list[str]:
    return [m for m in study.measures(group) if study.found["measures"][m]["base"] == base]


def _curves(group: dict[str, Any]) -> tuple[list[str], int]:
    """The conditions that a figure of curves shows, and how many it leaves out."""
    return group["conditions"][:CURVES], len(group["conditions"]) - CURVES


def _labels(study: Study, conditions: list[str], width: int = 24) -> dict[str, str]:
    """Conditions → their labels in a figure."""
    return dict(zip(conditions, told_apart(map(study.label, conditions), width), strict=True))


def _letters(labels: Iterable[str], width: float) -> int:
    """How many letters of a name stand in a line beside a panel: a fifth of the width, or a quarter for long words."""
    longest = max(len(word) for label in labels for word in label.split())
    return min(max(int(0.19 * width), min(longest, int(0.27 * width))), 26)


def _told(study: Study, conditions: Iterable[str]) -> str:
    return listed(study.label(c) for c in conditions)


def _title(ax: Any, study: Study, measure: str, panels: int) -> None:
    part = study.found["measures"][measure]["part"]
    if part and panels > 1:
        entitle(ax, part_name(part))


def told_left_out(n: int, what: str, many: str | None = None) -> str:
    """A sentence about what a figure does not show; "" where it shows all."""
    said = f"{many or f'{what}s'} are" if n > 1 else f"{what} is"
    return f" {n} more {said} left out of this figure." if n > 0 else ""


def _digits(value: float) -> str:
    """A number with about two significant digits."""
    return fixed(value, max(decimals([value]) - 1, 0))


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def mean_of(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers) if numbers else math.nan
