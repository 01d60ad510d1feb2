"""The page of a reproduction: its figures, drawn by :mod:`locality_prior.plots` from what runs left behind."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from locality_prior import analysis, plots
from locality_prior import cost as costs
from locality_prior._check import wrong
from locality_prior.experiments.measure import SIDES, Measured, mean_defined
from locality_prior.report import tables
from locality_prior.report.maps import class_maps, some
from locality_prior.report.page import Picture, new_figure, one_legend, write_page
from locality_prior.report.priors import priors, signals, wiring
from locality_prior.report.tables import CUT_FIRST, title
from locality_prior.studies.reproduction import Reproduction, read_reproduction
from locality_prior.studies.summary import read_all, read_summary

Runs = dict[tuple[str, int], Measured]


def write(directory: Path) -> Path:
    """Write the page of the analysed reproduction in ``directory``.

    Raises:
        ValueError: it is not finished, or not analysed.
    """
    study = read_reproduction(directory)
    summary = read_summary(directory)
    told = (summary.get("seeds"), list(summary.get("conditions", {})))
    if told != (list(study.seeds), list(study.conditions)):
        raise wrong("directory", f"{directory} with a summary of other runs than its study's", "one analysed since")
    kept = read_all(directory, study)
    return write_page(
        directory,
        "reproduction.html",
        of_study(study, kept),
        study=study,
        conditions=[tables.title(name) for name in study.conditions],
        results=tables.results(summary),
        tests=tables.tests(summary),
        pruning=tables.pruning(summary),
        seeds=tables.seeds(summary),
        document=tables.document(summary),
        command=tables.command(study),
        network=tables.network(study),
        images=summary["conditions"]["control"]["per_seed"][0]["images"],
    )


def of_study(study: Reproduction, kept: Runs) -> Iterator[Picture]:
    """Every figure of a study's report, in the order of the page."""
    cost = costs.parse(study.conditions["local"])
    yield wiring(cost)
    yield signals(cost)
    yield priors(cost)
    shown = {title(name): kept[name, study.seeds[0]] for name in study.conditions}
    yield from (class_maps(shown, side) for side in SIDES)
    yield _variance(study, kept)
    yield _correlation(study, kept)
    yield _training(study, kept)
    yield _pruning(study, kept)
    if len(study.seeds) > 1:
        yield _seeds(study, kept)


def _variance(study: Reproduction, kept: Runs) -> Picture:
    seed = study.seeds[0]
    control = kept["control", seed]
    figure, axes = new_figure(7.2, 5.2, rows=2, sharex=True)
    there = np.isin(control.labels, control.shown)
    for ax, side in zip(axes, SIDES, strict=True):
        plots.variance_by_class(
            {title(name): kept[name, seed].variance(side)[there] for name in study.conditions},
            control.labels[there],
            ax,
        )
        ax.set_title(f"layer's {side}")
    axes[0].set_xlabel("")
    one_legend(figure, axes)
    return Picture(
        "variance",
        "variance",
        figure,
        f"Spatial variance by class, networks of seed {seed}: mean over images with its 95 % interval{some(control)}. "
        "The interval is over images of one network; another pair of networks may differ by more.",
    )


def _correlation(study: Reproduction, kept: Runs) -> Picture:
    figure, axes = new_figure(7.2, 3.0, 2)
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
    one_legend(figure, axes)
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
    figure, axes = new_figure(7.2, 2.8, 2)
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
    one_legend(figure, axes)
    return Picture(
        "training",
        "training",
        figure,
        "Test accuracy and mean wire length Σ d|V| / Σ|V| after each epoch, a line for each network.",
    )


def _pruning(study: Reproduction, kept: Runs) -> Picture:
    figure, rows = new_figure(7.2, 4.6, columns=len(CUT_FIRST), rows=2, sharex=True, sharey="row")
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
    one_legend(figure, rows.flatten())
    return Picture(
        "pruning",
        "pruning",
        figure,
        "Test accuracy, and Σ d over the wires kept, as wires of the layer are cut: the smallest |V| first, the "
        "longest first, or the smallest c(d)|V|. Shares of a network's own wires, a line for each network; nothing is "
        "trained after the cut.",
    )


def _seeds(study: Reproduction, kept: Runs) -> Picture:
    figure, axes = new_figure(7.2, 3.0, 2)
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
