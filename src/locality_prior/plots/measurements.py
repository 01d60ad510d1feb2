"""Measurements of conditions: variance, correlation, seeds, training and pruning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from locality_prior._check import number, wrong
from locality_prior.analysis import ResponseCorrelation
from locality_prior.analysis._given import Floats, labels_of
from locality_prior.plots._given import as_array, as_conditions, as_parts, class_names
from locality_prior.plots._page import axes_or_new, colours_of, dress, legend_above
from locality_prior.plots._style import mark, stroke

#: Half the width of a 95 % confidence interval, in standard errors of the mean.
_Z95 = 1.96
_MARKERS = "osD^vP"


def variance_by_class(
    variances: Mapping[str, Any], labels: Any, ax: Axes | None = None, *, classes: Sequence[Any] | None = None
) -> Axes:
    """Mean spatial variance of the maps of each class, with its 95 % confidence interval over images (1.96 sem).

    >>> import locality_prior as lp
    >>> ax = lp.plots.variance_by_class({"control": [8.1, 8.3, 7.9, 8.0]}, labels=[0, 0, 1, 1], classes=["cat", "dog"])

    Args:
        variances: condition → (images,) spatial variances of their maps; NaN (undefined) is left out.
        labels: (images,) whole numbers from 0, each image's class.
        classes: names of the classes 0, 1, …; None: their numbers.

    Raises:
        ValueError: sizes that differ, or a label without a name.
    """
    labels = labels_of(labels, len(as_array("labels", labels, None)))
    if not len(labels):
        raise wrong("labels", "none", "whole numbers from 0")
    present = np.unique(labels)
    names = [str(k) for k in present] if classes is None else class_names(classes)
    if classes is not None:
        if present[-1] >= len(names):
            raise wrong("classes", f"{len(names)} names", f"a name for each class up to {present[-1]}")
        present = np.arange(len(names))
    arrays = {c: as_array("variances", v, len(labels), of=c) for c, v in as_conditions("variances", variances).items()}

    ax = axes_or_new(ax, 5.5, 3.0)
    step = min(0.22, 0.7 / len(arrays))
    for k, (condition, colour) in enumerate(colours_of(arrays).items()):
        means, sems = np.array([_mean_sem(arrays[condition][labels == c]) for c in present]).T
        x = np.arange(len(present)) + (k - (len(arrays) - 1) / 2) * step
        style: dict[str, Any] = {"ms": mark(4.5), "lw": stroke(1.4), "label": condition}
        ax.errorbar(x, means, yerr=_Z95 * sems, fmt=_MARKERS[k % len(_MARKERS)], color=colour, **style)
    long = max(map(len, names)) > 8
    ax.set_xticks(range(len(names)), names, rotation=40 if long else 0, ha="right" if long else "center")
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.tick_params(axis="x", length=0)
    return legend_above(dress(ax, "class", "spatial variance"), most=4)


def correlation_by_distance(curves: Mapping[str, Any], ax: Axes | None = None) -> Axes:
    """Response correlation of pairs of units against the distance between them, with a band of ± 1 sem.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> responses = np.random.default_rng(0).normal(size=(50, 64))
    >>> curve = lp.analysis.response_correlation(responses, lp.Grid(8, 8))
    >>> ax = lp.plots.correlation_by_distance({"noise": curve})

    Args:
        curves: condition → what :func:`locality_prior.analysis.response_correlation` returns, or three arrays of
            (bins,): distance, correlation, and its standard error.

    Raises:
        ValueError: not three arrays of equal size.
    """
    curves = {
        condition: (curve.distance, curve.correlation, curve.sem) if isinstance(curve, ResponseCorrelation) else curve
        for condition, curve in as_conditions("curves", curves).items()
    }
    return banded(curves, ax, x="distance between units", y="response correlation", level=0)


def banded(curves: Mapping[str, Any], ax: Axes | None = None, *, x: str, y: str, level: float | None = None) -> Axes:
    """A line for each condition, with a band around it.

    >>> import locality_prior as lp
    >>> curve = [1, 2, 3], [0.3, 0.2, 0.1], [0.05, 0.05, 0.05]
    >>> ax = lp.plots.banded({"control": curve}, x="distance between units", y="correlation")

    Args:
        curves: condition → (x, y, half the band's width), three arrays of (n,).
        x, y: labels of the axes, with units.
        level: the height of a horizontal line, where there would be no effect; None: no line.

    Raises:
        ValueError: not three arrays of equal size.
    """
    parts = {c: as_parts("curves", v, c, 3) for c, v in as_conditions("curves", curves).items()}
    arrays = {
        c: [as_array("curves", p, len(as_array("curves", v[0], None, of=c)), of=c) for p in v] for c, v in parts.items()
    }
    if level is not None:
        level = number("level", level)
    ax = axes_or_new(ax, 4.0, 2.8)
    if level is not None:
        ax.axhline(level, color="0.6", lw=stroke(0.8), zorder=0)
    for condition, colour in colours_of(arrays).items():
        across, up, half = arrays[condition]
        ax.fill_between(across, up - half, up + half, color=colour, alpha=0.25, lw=0)
        ax.plot(across, up, color=colour, lw=stroke(1.5), label=condition)
    return legend_above(dress(ax, x, y))


def paired_seeds(values: Mapping[str, Any], ax: Axes | None = None, *, label: str) -> Axes:
    """A line for each seed, joining its networks across conditions, and a bar at each condition's mean.

    >>> import locality_prior as lp
    >>> variances = {"control": [8.2, 8.1, 8.4], "linear@2": [7.7, 7.6, 8.0]}
    >>> ax = lp.plots.paired_seeds(variances, label="spatial variance")

    Args:
        values: condition → (seeds,) numbers, the same seeds in the same order; seeds with a NaN are left out.
        label: what the numbers are, with their unit.

    Raises:
        ValueError: numbers of seeds that differ.
    """
    given = as_conditions("values", values)
    n = len(as_array("values", next(iter(given.values())), None))
    table = np.stack([as_array("values", v, n, of=c) for c, v in given.items()])
    table = table[:, np.isfinite(table).all(axis=0)]
    ax = axes_or_new(ax, 1.3 + 0.75 * len(table), 2.8)
    x = np.arange(len(table))
    for k, colour in enumerate(colours_of(given).values()):
        ax.plot(k, _mean_sem(table[k])[0], "_", color=colour, ms=mark(20), mew=stroke(3.5), zorder=1)
    for seed in table.T:
        ax.plot(x, seed, "o-", color="0.45", ms=mark(3), lw=stroke(0.7), zorder=2)
    ax.set_xticks(x, list(given))
    ax.set_xlim(-0.5, len(table) - 0.5)
    ax.margins(y=0.12)
    ax.tick_params(axis="x", length=0)
    return dress(ax, y=label)


def training(curves: Mapping[str, Any], ax: Axes | None = None, *, label: str) -> Axes:
    """A number over the epochs of training: a thin line for each seed of each condition.

    >>> import locality_prior as lp
    >>> seeds = [[2.3, 0.9, 0.5], [2.3, 1.0, 0.4]]
    >>> ax = lp.plots.training({"control": ([1, 2, 3], seeds)}, label="training loss")

    Args:
        curves: condition → (epochs, values): (n,) and (n,) or (seeds, n) numbers.
        label: what the values are, with their unit.

    Raises:
        ValueError: values that do not have one number for each epoch.
    """
    ax = _lines(curves, ax)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return legend_above(dress(ax, "epoch", label))


def pruning(curves: Mapping[str, Any], ax: Axes | None = None, *, label: str = "test accuracy (%)") -> Axes:
    """A number against the share of wires kept, on a logarithmic axis: a line for each seed of each condition.

    >>> import locality_prior as lp
    >>> ax = lp.plots.pruning({"control": ([1.0, 0.3, 0.1, 0.03], [98.0, 97.9, 95.0, 60.0])})

    Args:
        curves: condition → (share, values): (n,) shares, and (n,) or (seeds, n) numbers.
        label: what the values are, with their unit.

    Raises:
        ValueError: values that do not have one number for each share, or a share that is not above 0.
    """
    ax = _lines(curves, ax)
    shares = np.concatenate([np.asarray(line.get_xdata(), dtype=np.float64) for line in ax.get_lines()])
    if not (shares > 0).all():
        raise wrong("curves", f"a share of {shares.min():g}", "shares above 0")
    ax.set_xscale("log")
    ticks = [t for t in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1) if t >= 0.99 * shares.min()]
    ax.set_xticks(ticks, [f"{100 * t:g}" for t in ticks])
    ax.minorticks_off()
    return legend_above(dress(ax, "wires kept (%)", label))


def _lines(curves: Mapping[str, Any], ax: Axes | None) -> Axes:
    """A thin line for each seed of each condition: condition → (x, values), (n,) and (n,) or (seeds, n)."""
    arrays = {}
    for condition, curve in as_conditions("curves", curves).items():
        x, values = as_parts("curves", curve, condition, 2)
        x = as_array("curves", x, None, of=condition)
        values = as_array("curves", values, *[None] * (np.ndim(values) > 1), len(x), of=condition)
        arrays[condition] = x, np.atleast_2d(values)
    ax = axes_or_new(ax, 4.0, 2.8)
    for condition, colour in colours_of(arrays).items():
        x, seeds = arrays[condition]
        # a line through a single point would be invisible: draw a dot
        lines = ax.plot(x, seeds.T, "." if len(x) == 1 else "-", color=colour, lw=stroke(0.9), alpha=0.85)
        lines[0].set_label(condition)
    return ax


def _mean_sem(values: Floats) -> tuple[float, float]:
    """Mean and standard error of the finite values; NaN where there are too few."""
    values = values[np.isfinite(values)]
    n = len(values)
    return (
        float(values.mean()) if n else math.nan,
        float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan,
    )
