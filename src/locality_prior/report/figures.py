"""The figures of a report, drawn by :mod:`locality_prior.plots` from what runs left behind."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from locality_prior import analysis, plots
from locality_prior import cost as costs
from locality_prior._check import count, wrong
from locality_prior._files import replacing
from locality_prior.cost import Cost
from locality_prior.experiments.measure import SIDES, Measured, mean_defined
from locality_prior.experiments.reproduction import Reproduction
from locality_prior.geometry import Grid, Line
from locality_prior.prior import Prior
from locality_prior.report.tables import CUT_FIRST, title

#: The most units of a sheet whose whole prior is drawn up for its numbers.
LARGEST = 1 << 14

Runs = dict[tuple[str, int], Measured]


@dataclass(frozen=True)
class Picture:
    """A figure, the file it goes to, the part of the page it belongs to, and what it says."""

    name: str
    section: str
    figure: Figure
    caption: str


def of_study(study: Reproduction, kept: Runs) -> Iterator[Picture]:
    """Every figure of a study's report, in the order of the page."""
    cost = costs.parse(study.conditions["local"])
    yield wiring(cost)
    yield signals(cost)
    yield priors(cost)
    yield from _maps(study, kept)
    yield _variance(study, kept)
    yield _correlation(study, kept)
    yield _training(study, kept)
    yield _pruning(study, kept)
    if len(study.seeds) > 1:
        yield _seeds(study, kept)


def _new(width: float, height: float, columns: int = 1, rows: int = 1, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def _one_legend(figure: Figure, axes: Any) -> None:
    """One legend above the panels in place of each panel's own."""
    handles, labels = axes[0].get_legend_handles_labels()
    for ax in axes:
        ax.get_legend().remove()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)


def wiring(cost: Cost) -> Picture:
    """The wiring diagram of a line of 7 units, full and abbreviated."""
    line = Line(7)
    prices = cost.cost(line.distances())
    figure, (full, one) = _new(7.2, 2.4, 2)
    plots.wiring(prices, full, colorbar=False)
    plots.wiring(prices, one, unit=3)
    full.set_title("every wire")
    one.set_title("one unit's wires")
    return Picture(
        "wiring",
        "prior",
        figure,
        f"A layer between two lines of 7 units under the cost {cost!r}. Darker wires are dearer.",
    )


def signals(cost: Cost, side: int = 64) -> Picture:
    """The signal transmitted to the centre and to the top-left unit of a sheet."""
    sheet = Grid(side, side)
    figure, axes = _new(7.2, 3.2, 2)
    for ax, unit in zip(axes, (centre(sheet), 0), strict=True):
        _signal(cost, sheet, unit, ax)
    return Picture(
        "signals",
        "prior",
        figure,
        f"The signal that the centre unit (left) and the top-left unit (right) of a {side}×{side} sheet receive from "
        "every unit of an equal sheet before it: a row of P each.",
    )


def priors(cost: Cost) -> Picture:
    """LeNet's prior beside AlexNet's."""
    figure, axes = _new(7.2, 3.2, 2)
    for ax, sheet, name in zip(axes, (Grid(7, 7), Grid(64, 64)), ("LeNet", "AlexNet"), strict=True):
        _signal(cost, sheet, centre(sheet), ax)
        ax.set_title(f"{name}: {sheet.shape[0]}×{sheet.shape[1]} units")
    return Picture(
        "priors",
        "prior",
        figure,
        "The same cost on a small sheet and on a large one: the centre unit of LeNet's 49 still hears its corners, "
        "that of AlexNet's 4,096 hears its neighbourhood.",
    )


def centre(sheet: Grid) -> int:
    """The number of the unit in the middle of a grid."""
    return int(np.ravel_multi_index(tuple(n // 2 for n in sheet.shape), sheet.shape))


def _signal(cost: Cost, sheet: Grid, unit: int, ax: Any) -> None:
    plots.transmitted_signal(Prior(sheet, sheet, cost).rows(torch.tensor([unit]))[0], sheet, unit, ax)


def _maps(study: Reproduction, kept: Runs) -> Iterator[Picture]:
    seed = study.seeds[0]
    control = kept["control", seed]
    for side in SIDES:
        maps = {title(name): kept[name, seed].class_maps(side)[control.shown] for name in study.conditions}
        axes: Any = plots.class_maps(maps, control.sheet(side), classes=control.shown)
        drawn = axes[0, 0].figure
        plt.close(drawn)  # it is this page's, not pyplot's to show
        yield Picture(
            f"maps_{side}",
            "maps",
            drawn,
            f"Class-average activations of the layer's {side} over {_images(control)}, networks of seed "
            f"{seed}, on one colour scale{_some(control)}.",
        )


def _images(run: Measured) -> str:
    first = "the first " if run.run.alexnet is None else ""  # photographs are taken from all over the test set
    return f"{first}{len(run.labels):,} test images"


def _some(run: Measured) -> str:
    there, each = np.unique(run.labels, return_counts=True)
    some = f"; {len(run.shown)} of {len(there)} classes, {each.min()} images or more each"
    return "" if len(run.shown) == len(there) else some


def _variance(study: Reproduction, kept: Runs) -> Picture:
    seed = study.seeds[0]
    control = kept["control", seed]
    figure, axes = _new(7.2, 5.2, rows=2, sharex=True)
    there = np.isin(control.labels, control.shown)
    for ax, side in zip(axes, SIDES, strict=True):
        plots.variance_by_class(
            {title(name): kept[name, seed].variance(side)[there] for name in study.conditions},
            control.labels[there],
            ax,
        )
        ax.set_title(f"layer's {side}")
    axes[0].set_xlabel("")
    _one_legend(figure, axes)
    return Picture(
        "variance",
        "variance",
        figure,
        f"Spatial variance by class, networks of seed {seed}: mean over images with its 95 % interval{_some(control)}. "
        "The interval is over images of one network; another pair of networks may differ by more.",
    )


def _correlation(study: Reproduction, kept: Runs) -> Picture:
    figure, axes = _new(7.2, 3.0, 2)
    for ax, side in zip(axes, SIDES, strict=True):
        curves = {
            title(name): _mean_curve([kept[name, seed] for seed in study.seeds], side) for name in study.conditions
        }
        plots.correlation_by_distance(curves, ax)
        ax.set_title(f"layer's {side}")
    # one scale for both: that of the wider one
    low, high = min(ax.get_ylim()[0] for ax in axes), max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(low, high)
        ax.yaxis.set_major_locator(MaxNLocator(6))
    axes[1].set_ylabel("")
    _one_legend(figure, axes)
    over = "networks" if len(study.seeds) > 1 else "pairs of units"
    return Picture(
        "correlation",
        "variance",
        figure,
        f"Correlation of two units' responses over images against the distance between them. "
        f"Bands: standard errors over {over}.",
    )


def _mean_curve(runs: list[Measured], side: str) -> tuple[Any, Any, Any]:
    """Distance, mean correlation and its standard error: over networks, or over pairs where there is one network."""
    curves = [analysis.response_correlation(run.activations[side], run.sheet(side)) for run in runs]
    if len(curves) == 1:
        return curves[0].distance, curves[0].correlation, curves[0].sem
    # bins are one spacing wide; where units are silent a network may lack one
    bins = sorted({round(d) for curve in curves for d in curve.distance})
    table = np.full((2, len(curves), len(bins)), np.nan)
    for k, curve in enumerate(curves):
        where = [bins.index(round(d)) for d in curve.distance]
        table[0, k, where], table[1, k, where] = curve.distance, curve.correlation
    have = np.isfinite(table[1]).sum(0)
    mean = np.nanmean(table, axis=1)
    spread = np.sqrt(np.nansum((table[1] - mean[1]) ** 2, axis=0) / np.maximum(have - 1, 1) / have)
    return mean[0], mean[1], np.where(have > 1, spread, np.nan)


def _training(study: Reproduction, kept: Runs) -> Picture:
    figure, axes = _new(7.2, 2.8, 2)
    for ax, key, label in zip(
        axes, ("accuracy", "mean_wire_length"), ("test accuracy (%)", "mean wire length (spacings)"), strict=True
    ):
        curves = {
            title(name): (
                kept[name, study.seeds[0]].metrics["epoch"],
                np.stack([kept[name, seed].metrics[key] for seed in study.seeds]),
            )
            for name in study.conditions
        }
        plots.training(curves, ax, label=label)
    _one_legend(figure, axes)
    return Picture(
        "training",
        "training",
        figure,
        "Test accuracy and mean wire length Σ d|V| / Σ|V| after each epoch, a line for each network.",
    )


def _pruning(study: Reproduction, kept: Runs) -> Picture:
    figure, rows = _new(7.2, 4.6, columns=len(CUT_FIRST), rows=2, sharex=True, sharey="row")
    for k, (by, named) in enumerate(CUT_FIRST.items()):
        for ax, key, label in zip(
            rows[:, k], ("accuracy", "wire_length"), ("test accuracy (%)", "total wire length (%)"), strict=True
        ):
            curves = {}
            for name in study.conditions:
                all_seeds = [kept[name, seed].pruning[by] for seed in study.seeds]
                values = np.stack([curve[key] for curve in all_seeds])
                curves[title(name)] = (
                    all_seeds[0]["share"],
                    values if key == "accuracy" else 100 * values / values[:, :1],
                )
            plots.pruning(curves, ax, label=label if k == 0 else "")
            ax.set_ylim(0, 1.03 * max(100 if key == "wire_length" else c.max() for _, c in curves.values()))
        rows[0, k].set_title(f"{named} first")
        rows[0, k].set_xlabel("")
    _one_legend(figure, rows.flatten())
    return Picture(
        "pruning",
        "pruning",
        figure,
        "Test accuracy, and Σ d over the wires kept, as wires of the layer are cut: the smallest |V| first, the "
        "longest first, or the smallest c(d)|V|. Shares of a network's own wires, a line for each network; nothing is "
        "trained after the cut.",
    )


def _seeds(study: Reproduction, kept: Runs) -> Picture:
    figure, axes = _new(7.2, 3.0, 2)
    for ax, key, label in zip(
        axes, ("accuracy", "variance"), ("test accuracy (%)", "output variance (spacings²)"), strict=True
    ):

        def value(run: Measured, key: str = key) -> float:
            shown = run.metrics["accuracy"][-1] if key == "accuracy" else mean_defined(run.variance("output"))
            return math.nan if shown is None else float(shown)

        plots.paired_seeds(
            {title(name): np.array([value(kept[name, seed]) for seed in study.seeds]) for name in study.conditions},
            ax,
            label=label,
        )
    return Picture(
        "seeds",
        "variance",
        figure,
        "Every seed as a line through its networks, with the mean of each condition: what is compared is networks.",
    )


def draw_priors(sheets: list[str], cost: str, path: Path) -> list[str]:
    """Draw, into ``path``, the signal that each sheet's centre and first unit receive; a line of numbers a sheet."""
    if path.suffix.lower() not in (".png", ".pdf", ".svg") or path.is_dir():
        raise wrong("out", str(path), "a file named .png, .pdf or .svg")
    if not path.parent.is_dir():
        raise wrong("out", str(path), f"a directory that is there ({path.parent} is not)")
    grids, price = [_grid(sheet) for sheet in sheets], costs.parse(cost)
    for grid in grids:
        if len(grid) > LARGEST:
            raise wrong("sheet", f"{grid!r} of {len(grid):,} units", f"at most {LARGEST:,}")
    figure = Figure(figsize=(7.2, 3.2 * len(grids)), layout="constrained")
    said = []
    for row, sheet in zip(figure.subplots(len(grids), 2, squeeze=False), grids, strict=True):
        p = Prior(sheet, sheet, price).dense(torch.float32)
        wires = int((p > 0).sum())
        said.append(
            f"{sheet!r}, {price!r}: {wires:,} wires of {p.numel():,} ({wires / p.numel():.1%}), "
            f"signal {p.mean():.3f} on average, {p.square().mean().sqrt():.3f} in root mean square"
        )
        for ax, unit in zip(row, (centre(sheet), 0), strict=True):
            plots.transmitted_signal(p[unit], sheet, unit, ax)
    with replacing(path) as partial:
        figure.savefig(partial, format=path.suffix[1:].lower(), dpi=200)
    return [*said, str(path)]


def _grid(text: str) -> Grid:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise wrong("sheet", repr(text), "rows x columns, such as 7x7, or a number of units in a line")
    return Grid(*[count("sheet", int(part)) for part in parts])
