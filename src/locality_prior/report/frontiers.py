"""The figures of a page that compares methods at several strengths."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from locality_prior import plots
from locality_prior.plots._style import legend_style, stroke, text_size
from locality_prior.report import pictures
from locality_prior.report.files import Study
from locality_prior.report.layout import (
    ACROSS,
    CLOSE,
    INCH,
    WIDE,
    columns_of,
    entitle,
    first_label_only,
    legend_of,
    panelled,
)
from locality_prior.report.methods import (
    Method,
    averaged,
    epoch_times,
    name_of,
    objectives_of,
    parts_of,
    strength_of,
)
from locality_prior.report.pictures import CURVES, Picture
from locality_prior.report.tables import measure_name, part_name
from locality_prior.report.words import decimals, fixed, listed, several, told_apart

Sides = dict[str, dict[int, float]]  # condition → seed → a number

#: Methods in a figure; panels of sheets; rows and classes of maps; and objectives in a figure of their training.
METHODS, SHEETS, ROWS, CLASSES, TRAINED = 30, 6, 24, 10, 24
#: Width in print, in inches (180 mm).
PRINT = 7.1
#: The height to which the page makes maps of many methods smaller, by a quarter at most, in inches.
HIGHEST_MAPS = 9.0
#: The measure of topography, and that of cost.
MAP, LENGTH = "morans_i", "mean_wire_length"
#: Ticks of a logarithmic axis of relative times: the first of these that has three or more in view.
_TIMES = (
    (0.01, 0.1, 1, 10, 100, 1000),
    (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
    (0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30),
)


def frontiers(study: Study, group: dict[str, Any], methods: list[Method], prefix: str) -> Iterator[Picture]:
    """The first score against topography, and then against wire length and training time."""
    score = next((s["name"] for s in group["scores"] if s["name"] in study.measures(group)), None)
    if score is None:
        return
    scores: Sides = {c: study.values(c, score) for c in group["conditions"]}
    up = measure_name(study, score)
    frontier = _Frontier(study, methods, scores, up)

    sheets = parts_of(study, group, MAP)
    if sheets:
        label = measure_name(study, sheets[0], part=False)
        mean = {c: averaged(study, c, sheets) for c in group["conditions"]}
        one_by_one = [(part_name(study.found["measures"][m]["part"] or ""), _sides(study, group, m)) for m in sheets]
        over = f"{label}, mean over sheets" if len(sheets) > 1 else label
        small = one_by_one[:SHEETS] if len(sheets) > 1 else []
        left_out = pictures.told_left_out(len(sheets) - SHEETS, "sheet")
        yield frontier.drawn(
            f"{prefix}frontier",
            [(over, mean)],
            [(label, sides, title) for title, sides in small],
            f"{pictures.capital(up)} against {over}" + (", and for each sheet." if small else ".") + left_out,
        )
    costs = []
    lengths = parts_of(study, group, LENGTH)
    if lengths:
        label = measure_name(study, lengths[0], part=False) + (", mean over layers" if len(lengths) > 1 else "")
        costs.append((label, {c: averaged(study, c, lengths) for c in group["conditions"]}))
    times = epoch_times(study, group)
    if times:
        costs.append(("time of an epoch (control = 1)", times))
    if costs:
        said = " and against ".join(label for label, _ in costs)
        timed = " Times depend on the machine and on what else it did." if times else ""
        yield frontier.drawn(f"{prefix}frontier-costs", costs, [], f"{pictures.capital(up)} against {said}.{timed}")


class _Frontier:
    """Figures of one score against several numbers, with the same methods, styles and heights."""

    def __init__(self, study: Study, methods: list[Method], scores: Sides, up: str) -> None:
        self.study, self.scores, self.up = study, scores, up
        self.methods, self.left_out = methods[:METHODS], len(methods) - METHODS
        self.labels = told_apart((name_of(study, m) for m in self.methods), 26, 2)
        self.control = next((k for k, m in enumerate(self.methods) if m.control), None)
        self.view, self.beyond = self._view()

    def drawn(self, name: str, large: list[Any], small: list[Any], caption: str) -> Picture:
        """``large``: (label, numbers) of the first panels; ``small``: those of sheets, with their names."""
        told = " ".join(t for t in (self.beyond, pictures.told_left_out(self.left_out, "method").strip()) if t)
        return Picture(
            name,
            lambda width: self._figure(width, large, small),
            f"{caption} A faint point is a network, and a mark the mean of a condition; a curve joins a method's "
            f"strengths, and its marks grow with the strength. The star and the broken lines are the control."
            + self._missing(large)
            + (f" {told}" if told else ""),
            f"{caption} A curve for each of {listed(name_of(self.study, m) for m in self.methods)}",
            WIDE / PRINT,
        )

    def _figure(self, width: float | None, large: list[Any], small: list[Any]) -> Figure:
        inches = PRINT if width is None else width / INCH
        beside = inches >= PRINT - 0.1  # there is room for the legend beside the panels
        abreast = len(large) if beside else columns_of(len(large), inches)
        columns = max(abreast, min(len(small), ACROSS if beside else columns_of(len(small), inches, least=CLOSE)), 1)
        above, rows = -(-len(large) // abreast), -(-len(small) // columns)
        lines = sum(label.count("\n") + 1 for label in self.labels)
        first = max(3.3, 0.19 * lines + 0.3 - 1.9 * rows) if beside else 2.8  # as high as the legend
        heights = [first] * above + [1.9] * rows
        figure = Figure(figsize=(inches, sum(heights)), layout="constrained")
        grid = figure.add_gridspec(above + rows, columns, height_ratios=heights)
        share = None
        for k, (label, numbers) in enumerate(large):
            place = grid[k, :] if abreast == 1 else grid[0, k]
            share = ax = figure.add_subplot(place, sharey=share)
            self._draw(ax, label, numbers)
            ax.set_xlabel(textwrap.fill(label, 32 if abreast > 1 else 60))
            if k and abreast > 1:
                ax.set_ylabel("")
        for k, (_, numbers, title) in enumerate(small):
            ax = figure.add_subplot(grid[above + k // columns, k % columns])
            self._draw(ax, "", numbers)
            entitle(ax, title, 1.5, "small")
            ax.set_ylabel("")
            ax.xaxis.set_major_locator(MaxNLocator(3))
            for line in ax.get_lines():
                line.set(markersize=0.65 * line.get_markersize(), linewidth=0.75 * line.get_linewidth())
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if beside:
            figure.legend(handles, labels, loc="outside right upper", **legend_style())
        else:
            legend_of(figure, dict(zip(labels, handles, strict=True)), "lower")
        return figure

    def _draw(self, ax: Any, label: str, numbers: Sides) -> None:
        curves = {}
        for name, method in zip(self.labels, self.methods, strict=True):
            pairs = [self._both(numbers, c) for c in method.conditions]
            curves[name] = [([x for x, _ in p], [y for _, y in p]) for p in pairs]
        control = "" if self.control is None else self.labels[self.control]
        plots.frontier(curves, ax, x=label, y=self.up, control=control, view=self.view, legend=False)
        if label.startswith("time"):
            _ratios(ax)
        else:
            ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))

    def _both(self, numbers: Sides, condition: str) -> list[tuple[float, float]]:
        x, y = numbers.get(condition, {}), self.scores[condition]
        return [(x[seed], y[seed]) for seed in sorted(x.keys() & y.keys())]

    def _missing(self, large: list[Any]) -> str:
        """How many networks have a score and no place in a panel."""
        names = [c for m in self.methods for c in m.conditions]
        n = max(sum(len(self.scores[c].keys() - numbers.get(c, {}).keys()) for c in names) for _, numbers in large)
        return f" {several(n, 'network')} without a defined value {'are' if n > 1 else 'is'} left out." if n else ""

    def _view(self) -> tuple[tuple[float, float] | None, str]:
        """The scores to show, where a few conditions would squeeze all others together; and which these are.

        They are farther from the quartiles of the conditions' means than three times the distance between these.
        """
        means = {
            c: pictures.mean_of(self.scores[c].values()) for m in self.methods for c in m.conditions if self.scores[c]
        }
        values = np.array(list(means.values()))
        if len(values) < 5:
            return None, ""
        low, high = np.quantile(values, (0.25, 0.75))
        room = 3 * (high - low)
        of_control = self.methods[self.control].conditions if self.control is not None else ()
        inside = {c for c, v in means.items() if low - room <= v <= high + room or c in of_control}
        shown = [v for c in inside for v in self.scores[c].values()]
        everything = [v for c in means for v in self.scores[c].values()]
        width = max(shown) - min(shown)
        if len(inside) == len(means) or width <= 0 or max(everything) - min(everything) < 2 * width:
            return None, ""
        outside = [c for c in means if c not in inside]
        places = decimals(means.values())
        told = listed(f"{self.study.label(c)} ({fixed(means[c], places)})" for c in outside)
        view = min(shown) - 0.05 * width, max(shown) + 0.05 * width
        return view, f"Triangles at the edge stand for means far beyond it: {told}."


def _sides(study: Study, group: dict[str, Any], measure: str) -> Sides:
    return {c: study.values(c, measure) for c in group["conditions"]}


def _ratios(ax: Any) -> None:
    """An axis of ratios: logarithmic where they are far apart."""
    low, high = ax.get_xlim()
    data = [
        x for line in ax.get_lines() for x in np.atleast_1d(line.get_xdata()) if line.get_transform() == ax.transData
    ]
    positive = [x for x in data if x > 0]
    if positive and max(positive) > 3 * min(positive):
        low, high = min(positive) / 1.15, max(positive) * 1.15
        ax.set_xscale("log")
        ax.set_xlim(low, high)
        found = [[t for t in ticks if low <= t <= high] for ticks in _TIMES]
        ax.xaxis.set_major_locator(FixedLocator(next((ticks for ticks in found if len(ticks) > 2), found[-1])))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{t:g}"))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(4))


def maps(study: Study, group: dict[str, Any], methods: list[Method], sheet: str, name: str) -> Picture | None:
    """Class maps of a sheet: a row for each method at its middle strength, of networks of one seed."""
    middles = [m.middle for m in methods][:ROWS]
    drawable = {c: pictures.seeds_with_maps(study, c, sheet) for c in middles}
    seeds = sorted({seed for found in drawable.values() for seed in found})
    if not seeds:
        return None
    seed = max(seeds, key=lambda s: (sum(s in found for found in drawable.values()), -s))
    rows = [c for c in middles if seed in drawable[c]]
    picture = pictures.class_maps(study, group, sheet, rows, name, most=ROWS, most_classes=CLASSES)
    if picture is None:
        return None
    missing = len(methods) - len(rows)
    return replace(
        picture,
        caption="A row for each method, at its middle strength. "
        + picture.caption
        + pictures.told_left_out(missing, "method"),
        scale=1.0,
        highest=HIGHEST_MAPS,
    )


def objectives(study: Study, group: dict[str, Any], methods: list[Method], prefix: str) -> Picture | None:
    """What each objective was worth over the epochs, unweighted: a panel for each method, a line for each strength."""
    panels: list[tuple[str, str, dict[str, Any]]] = []
    for method in methods:
        runs = {c: [run.metrics for (name, _), run in study.runs.items() if name == c] for c in method.conditions}
        for column in objectives_of(m for found in runs.values() for m in found):
            curves = {}
            for condition in method.conditions:
                line = pictures.mean_epochs(runs[condition], column)
                if line is not None:
                    curves[condition] = line
            if any(len(x) > 1 for x, _ in curves.values()):
                panels.append((name_of(study, method), column, curves))
    if not panels:
        return None
    shown = panels[:TRAINED]
    twice = {name for k, (name, _, _) in enumerate(panels) if name in {n for n, _, _ in panels[:k]}}

    def draw(width: float | None) -> Figure:
        figure, axes = panelled(len(shown), 2.1, width)
        for ax, (name, column, curves) in zip(axes, shown, strict=False):
            strengths = told_apart((strength_of(study, c) for c in curves), 12, 1)
            plots.training(dict(zip(strengths, curves.values(), strict=True)), ax, label="unweighted value")
            shades = matplotlib.colormaps["viridis"](np.linspace(0.75, 0.05, len(curves)))
            for line, shade in zip(ax.get_lines(), shades, strict=True):
                line.set(color=shade, lw=stroke(1.3))
            small = text_size("legend.fontsize", "x-small")
            ax.legend(fontsize=small, frameon=False, title="strength", title_fontsize=small, loc="best")
            ax.autoscale(axis="y")
            ax.yaxis.set_major_locator(MaxNLocator(4))
            title = f"{name}: {column}" if name in twice and column not in name else name
            entitle(ax, title, 2.6)
        first_label_only(axes)
        return figure

    return Picture(
        f"{prefix}objectives",
        draw,
        "The value of each objective after each epoch, before it is multiplied by its strength: mean over networks. "
        "Each panel has a scale of its own." + pictures.told_left_out(len(panels) - TRAINED, "panel"),
        f"Training curves of the objectives of {listed(dict.fromkeys(name for name, _, _ in panels))}",
    )


def curve_groups(group: dict[str, Any], methods: list[Method]) -> list[dict[str, Any]]:
    """The group in parts whose curves can be told apart: the control and a few methods at their middle strength."""
    others = [m.middle for m in methods if not m.control]
    step = CURVES - 1
    cuts = [others[k : k + step] for k in range(0, len(others), step)] or [[]]
    return [group | {"conditions": [group["control"], *cut]} for cut in cuts]


def middle_group(group: dict[str, Any], methods: list[Method]) -> dict[str, Any]:
    """The group with the middle strength of each method alone."""
    return group | {"conditions": [m.middle for m in methods]}
