"""The figures of a study's page."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath
from matplotlib.ticker import AutoLocator, MaxNLocator

from locality_prior import plots
from locality_prior.analysis.statistics import mean_interval
from locality_prior.report.files import Floats, Run, Study
from locality_prior.report.methods import objectives_of
from locality_prior.report.tables import CUT_FIRST, measure_name, part_name
from locality_prior.report.words import decimals, drawn, fixed, listed, plain, told_apart

#: Conditions in a figure of rows, of maps, and of curves, whose colours must be told apart.
ROWS, MAPS, CURVES = 24, 6, 6
#: Panels in a figure, and panels side by side.
PANELS, ACROSS = 12, 3
#: Width of a figure that fills the page, in inches.
WIDE = 9.6
#: The share of the responses of a row of maps that is not brighter than the brightest colour.
BRIGHT = 0.99


@dataclass(frozen=True)
class Picture:
    """A figure of a page.

    Args:
        name: of its files.
        caption: what stands below it.
        alt: a description for those who cannot see it.
        scale: how much larger than the figure the page shows it, if there is room.
        subject: what it shows; two pictures with the same subject show the same.
    """

    name: str
    figure: Figure
    caption: str
    alt: str
    scale: float = 1.0
    subject: Any = None


# Class maps


def most_telling(study: Study) -> Picture | None:
    """Class maps of the sheet on which a condition, other than a null, differs most from its control in Moran's I.

    It is the one with the most evidence; where there is none, the one with the largest difference.
    """
    found = study.found
    nulls = {told["null"] for told in found["conditions"].values()}
    evidence = {(c["condition"], c["control"], c["measure"]): float(c["evidence"]) for c in found["comparisons"]}
    best: tuple[tuple[float, float], int, str, list[str]] | None = None
    for k, group in enumerate(found["groups"]):
        for sheet in _drawable(group):
            for name in group["conditions"]:
                told = found["conditions"][name]
                related = {told["control"], name, told["null"]}
                rows = [other for other in group["conditions"] if other in related]
                if told["control"] is None or name in nulls or _same_seed(study, rows, sheet) is None:
                    continue
                means = [mean_of(study.values(c, f"morans_i.{sheet}").values()) for c in (name, told["control"])]
                apart = abs(means[0] - means[1])
                sure = evidence.get((name, told["control"], f"morans_i.{sheet}"), 0.0)
                weight = (sure, apart if math.isfinite(apart) else -1.0)
                if best is None or weight > best[0]:
                    best = weight, k, sheet, rows
    if best is None:
        return None
    _, k, sheet, rows = best
    return class_maps(study, found["groups"][k], sheet, rows, "most-telling")


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
    places = plots.Places.from_config(group["sheets"][sheet]["places"], runs[0].arrays[f"sheet/{sheet}/xy"])
    classes = told_apart(class_names(group, runs[0]), 14, 1)
    classes, more_classes = classes[:most_classes], len(classes[most_classes or len(classes) :])
    with unseen_glyphs():
        figure: Any = plots.class_maps(rows, places, classes=classes, label="relative response")[0, 0].figure
    figure.set_figheight(max(figure.get_figheight(), 2.3))  # flat maps: else the colour bar's label would be cut off
    plt.close(figure)  # it belongs to the page: pyplot need not show it
    explained = ""
    if any(row not in labels.values() for row in rows):
        explained = " I is Moran's I, averaged over classes: 0 for a map without order, 1 for a perfectly smooth one."
    return Picture(
        name,
        figure,
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
    figure, axes = panelled(len(lengths), 3.0)
    for ax, measure in zip(axes, lengths, strict=False):
        points = {}
        for name in names:
            x, y = study.values(name, measure), study.values(name, score)
            seeds = sorted(x.keys() & y.keys())
            points[labels[name]] = np.array([x[s] for s in seeds]), np.array([y[s] for s in seeds])
        plots.scatter(points, ax, x=measure_name(study, measure, part=False), y=measure_name(study, score))
        _title(ax, study, measure, len(lengths))
    _one_legend(figure, axes)
    first_label_only(axes)
    return Picture(
        f"{prefix}score-against-wire-length",
        figure,
        f"{capital(measure_name(study, score))} against the mean wire length Σ d|V| / Σ|V|: a point for each network."
        + told_left_out(left_out, "condition"),
        f"Scatter of {measure_name(study, score)} against mean wire length for {_told(study, labels)}",
    )


def measures(study: Study, group: dict[str, Any], prefix: str) -> Iterator[Picture]:
    """A figure for each base measure: a row for each condition, a panel for each sheet, layer or cut."""
    names = group["conditions"][:ROWS]
    labels = _labels(study, names, 26)
    seeds = study.seeds(group)
    for base in dict.fromkeys(study.found["measures"][m]["base"] for m in study.measures(group)):
        all_parts = _parts(study, group, base)
        parts = all_parts[:PANELS]
        lines = sum(label.count("\n") + 1 for label in labels.values())
        figure, axes = panelled(len(parts), 0.75 + 0.18 * lines + 0.1 * len(names), sharey=True)
        for ax, measure in zip(axes, parts, strict=False):
            table, intervals = {}, {}
            for name in names:
                values = study.values(name, measure)
                table[labels[name]] = np.array([values.get(s, math.nan) for s in seeds])
                intervals[labels[name]] = mean_interval(list(values.values()))
            plots.seeds_by_condition(table, ax, label=measure_name(study, measure, part=False), intervals=intervals)
            ax.xaxis.set_major_locator(MaxNLocator(4))
            _title(ax, study, measure, 2 if study.found["measures"][measure]["part"] else 1)
        said = measure_name(study, parts[0], part=False)
        yield Picture(
            f"{prefix}{base}",
            figure,
            f"{capital(said)}: every network, joined by seed, with each condition's mean and its 95 % interval."
            + told_left_out(len(group["conditions"]) - ROWS, "condition")
            + told_left_out(len(all_parts) - PANELS, "panel"),
            f"{capital(said)} of every network of {_told(study, labels)}",
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
        ("distance between units (spacings)", "response correlation", 0.0),
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
        ("length of the wire (spacings)", "share of Σ|V| / share of wires", 1.0),
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
    figure, axes = panelled(len(shown), 2.6)
    limits = []
    for ax, (part, bands) in zip(axes, shown, strict=False):
        plots.banded(bands, ax, x=x, y=y, level=level)
        limits.append((ax, _view([y for _, y, _ in bands.values()], level)))
        if len(panels) > 1:
            ax.set_title(fitted(part_name(part)), fontsize="medium")
    _one_legend(figure, axes)
    for ax, (low, high) in limits:  # the bands of few networks may be far wider than their lines are apart
        bottom, top = ax.get_ylim()
        ax.set_ylim(max(low, bottom), min(high, top))
    first_label_only(axes)
    more = told_left_out(left_out, "condition") + told_left_out(len(panels) - PANELS, "panel")
    return Picture(name, figure, caption + more, f"{capital(y)} against {x} for {_told(study, labels)}")


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
        "mean_wire_length": "mean wire length (spacings)",
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
    figure, axes = panelled(len(panels), 2.4, across=2)
    for ax, (said, curves) in zip(axes, panels.items(), strict=False):
        plots.training(curves, ax, label=said)
    _one_legend(figure, axes)
    for ax in axes[: len(panels)]:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return Picture(
        f"{prefix}training",
        figure,
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
    figure = Figure(figsize=(min(WIDE, 1 + 3 * len(panels)), 4.8), layout="constrained")
    axes = figure.subplots(2, len(panels), squeeze=False, sharex=True, sharey="row")
    for k, (by, curves) in enumerate(panels.items()):
        for row, said in enumerate((f"test {drawn(score['name'])}{unit}", "wire length (%)")):
            plots.pruning({c: both[row] for c, both in curves.items()}, axes[row, k], label=said if not k else "")
        axes[0, k].set_title(CUT_FIRST[by], fontsize="medium")
        axes[0, k].set_xlabel("")
    _one_legend(figure, axes.ravel())
    return Picture(
        f"{prefix}pruning",
        figure,
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


def _told(study: Study, conditions: Iterable[str]) -> str:
    return listed(study.label(c) for c in conditions)


def panelled(n: int, height: float, across: int = ACROSS, sharey: bool = False) -> tuple[Figure, Any]:
    """A figure of ``n`` panels in rows, and their axes."""
    columns = min(n, across)
    rows = -(-n // columns)
    width = min(WIDE, {1: 5.6, 2: 8.0}.get(columns, WIDE))
    figure = Figure(figsize=(width, height * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey="row" if sharey else False).ravel()
    for ax in axes[n:]:
        ax.set_visible(False)
    return figure, axes


def _one_legend(figure: Figure, axes: Any) -> None:
    """One legend above the panels in place of each panel's own and of its headroom."""
    handles: dict[str, Any] = {}
    for ax in axes:
        if ax.get_legend() is None:
            continue
        handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        ax.get_legend().remove()
        ax.autoscale(axis="y")
        _apart(ax)
        ax.yaxis.set_major_locator(AutoLocator())
    widths = [max(_inches(line, 8.4) for line in label.split("\n")) + 0.6 for label in handles]
    columns = len(handles)
    if sum(widths) > figure.get_figwidth():
        columns = max(1, int(figure.get_figwidth() / max(widths)))
    rows = -(-len(handles) // max(columns, 1))
    lines = rows * max((label.count("\n") + 1 for label in handles), default=0)
    figure.set_figheight(figure.get_figheight() + 0.15 * max(lines - 1, 0))
    figure.legend(
        handles.values(), handles.keys(), loc="outside upper center", ncols=columns, frameon=False, fontsize="small"
    )


def _apart(ax: Any) -> None:
    """Give the lines that share a colour, being of one kind of condition, different strokes."""
    strokes: dict[Any, int] = {}
    for line in ax.get_lines():
        if line.get_label().startswith("_") or line.get_linestyle() == "None":
            continue
        k = strokes[line.get_color()] = strokes.get(line.get_color(), -1) + 1
        line.set_linestyle(("-", "--", ":", "-.")[k % 4])


def first_label_only(axes: Any) -> None:
    """Leave the label of the vertical axis to the first panel of each row."""
    for ax in axes:
        if not ax.get_subplotspec().is_first_col():
            ax.set_ylabel("")


def _title(ax: Any, study: Study, measure: str, panels: int) -> None:
    part = study.found["measures"][measure]["part"]
    if part and panels > 1:
        ax.set_title(fitted(part_name(part)), fontsize="medium")


def _inches(text: str, size: float) -> float:
    """Width of a text of ``size`` points."""
    with unseen_glyphs():
        return float(TextPath((0, 0), text, size=size).get_extents().width) / 72 if text.strip() else 0.0


@contextlib.contextmanager
def unseen_glyphs() -> Iterator[None]:
    """No warning of a name in a script that matplotlib's font lacks: its letters are drawn as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


@contextlib.contextmanager
def text_in_pdf() -> Iterator[None]:
    """The text of a PDF stays text, which can be searched and edited: its fonts are TrueType."""
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        yield


def fitted(text: str, inches: float = 2.1) -> str:
    """``text`` as a title that is no wider than a narrow panel."""
    return next(t for n in range(32, 3, -2) if _inches(t := drawn(text, n), 10) <= inches or n == 4)


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
