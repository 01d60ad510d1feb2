"""Comparisons of networks over seeds: a row for each condition, however many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from locality_prior._check import wrong
from locality_prior.analysis._given import Floats
from locality_prior.plots._given import as_array, as_conditions, as_parts, intervals_of
from locality_prior.plots._page import axes_or_new, colours_of, dress, legend_above
from locality_prior.plots._style import mark, stroke, text_size

_ROW = 0.28  # inches


def seeds_by_condition(
    values: Mapping[str, Any],
    ax: Axes | None = None,
    *,
    label: str,
    intervals: Mapping[str, tuple[float, float] | None] | None = None,
) -> Axes:
    """A row for each condition: its networks, their mean and its interval. A line joins the networks of each seed.

    >>> import locality_prior as lp
    >>> values = {"control": [97.9, 98.0, 97.8], "linear": [98.0, 98.2, 97.9]}
    >>> ax = lp.plots.seeds_by_condition(values, label="accuracy (%)")

    Args:
        values: condition → (seeds,) numbers, the same seeds in the same order; NaN where there is no network.
        label: what the numbers are, with their unit.
        intervals: condition → (low, high) of the mean; None or absent where there is none.

    Raises:
        ValueError: numbers of seeds that differ.
    """
    table, bars = _table("values", values), intervals_of("intervals", intervals)
    ax = axes_or_new(ax, 4.0, 0.8 + _ROW * len(table))
    y = np.arange(len(table))
    for seed in table.T:
        there = np.isfinite(seed)
        ax.plot(seed[there], y[there], "o-", color="0.55", ms=mark(2.5), lw=stroke(0.6), alpha=0.8)
    for k, ((name, colour), row) in enumerate(zip(colours_of(values).items(), table, strict=True)):
        if np.isfinite(row).any():
            ax.plot(np.nanmean(row), k, "|", color=colour, ms=mark(13), mew=stroke(3), zorder=3)
        _bar(ax, bars.get(name), k, colour)
    _rows(ax, list(values))
    return dress(ax, label)


def differences_by_condition(
    differences: Mapping[str, Any],
    intervals: Mapping[str, tuple[float, float] | None],
    ax: Axes | None = None,
    *,
    label: str,
    notes: Mapping[str, Sequence[str]] | None = None,
    heads: Sequence[str] = (),
) -> Axes:
    """A row for each condition: the seeds' differences from the control, their mean and its interval, and notes.

    >>> import locality_prior as lp
    >>> differences = {"linear": [0.1, -0.1, 0.0], "linear@2": [0.5, 0.4, 0.6]}
    >>> intervals = {"linear@2": (0.25, 0.75)}
    >>> ax = lp.plots.differences_by_condition(differences, intervals, label="difference in accuracy (%)")

    Args:
        differences: condition → (seeds,) condition − control; NaN where there is no pair.
        intervals: condition → (low, high) of the mean; None or absent where there is none.
        label: what the numbers are, with their unit.
        notes: condition → texts to the right of the row, one for each of ``heads``.
        heads: what stands above each column of notes.

    Raises:
        ValueError: numbers of seeds that differ, or notes that are not as many as their heads.
    """
    table, bars = _table("differences", differences), intervals_of("intervals", intervals)
    texts = _notes(notes, heads)
    ax = axes_or_new(ax, 4.0, 0.8 + _ROW * len(table))
    ax.axvline(0, color="0.6", lw=stroke(0.8), zorder=0)
    for k, ((name, colour), row) in enumerate(zip(colours_of(differences).items(), table, strict=True)):
        ax.plot(row, np.full(len(row), k), "o", color="0.55", ms=mark(2.5), alpha=0.8)
        _bar(ax, bars.get(name), k, colour)
        if np.isfinite(row).any():
            ax.plot(np.nanmean(row), k, "D", color=colour, ms=mark(4.5), zorder=4)
    _rows(ax, list(differences))
    places: Any = ("axes fraction", "data")
    for column, head in enumerate(heads):
        style: dict[str, Any] = {"ha": "right", "va": "center", "annotation_clip": False}
        style["fontsize"] = text_size("ytick.labelsize", "small")
        x = 1.2 + 0.19 * column
        ax.annotate(head, (x, 1.02), xycoords="axes fraction", **(style | {"va": "bottom"}))
        for k, name in enumerate(differences):
            ax.annotate(texts.get(name, [""] * len(heads))[column], (x, k), xycoords=places, **style)
    return dress(ax, label)


def scatter(points: Mapping[str, Any], ax: Axes | None = None, *, x: str, y: str) -> Axes:
    """A point for each network, in its condition's colour.

    >>> import locality_prior as lp
    >>> points = {"control": ([3.5, 3.6], [97.9, 98.0]), "linear": ([3.1, 3.2], [97.8, 98.1])}
    >>> ax = lp.plots.scatter(points, x="mean wire length", y="accuracy (%)")

    Args:
        points: condition → (x, y), two arrays of (networks,).
        x, y: what they are, with their units.

    Raises:
        ValueError: not two arrays of equal size.
    """
    parts = {c: as_parts("points", v, c, 2) for c, v in as_conditions("points", points).items()}
    places = {}
    for condition, (across, up) in parts.items():
        across = as_array("points", across, None, of=condition)
        places[condition] = across, as_array("points", up, len(across), of=condition)
    ax = axes_or_new(ax, 4.0, 3.0)
    for k, (condition, colour) in enumerate(colours_of(places).items()):
        marker = "osD^vPX*"[k % 8]  # conditions may be more than colours
        ax.plot(*places[condition], marker, color=colour, ms=mark(4.5), alpha=0.75, mew=0, label=condition)
    return legend_above(dress(ax, x, y))


def _table(name: str, values: Mapping[str, Any]) -> Floats:
    """(conditions, seeds)."""
    given = as_conditions(name, values)
    arrays = [as_array(name, v, None, of=c) for c, v in given.items()]
    if len({len(a) for a in arrays}) > 1:
        raise wrong(name, f"{sorted({len(a) for a in arrays})} seeds", "as many for each condition")
    return np.stack(arrays)


def _notes(notes: Any, heads: Any) -> Mapping[str, Sequence[str]]:
    if isinstance(heads, str) or not isinstance(heads, Sequence):
        raise wrong("heads", heads, "a list of texts")
    if notes is not None and not isinstance(notes, Mapping):
        raise wrong("notes", notes, "a dict of condition → texts")
    for name, texts in (notes or {}).items():
        if isinstance(texts, str) or not isinstance(texts, Sequence) or len(texts) != len(heads):
            raise wrong(f"notes[{name!r}]", texts, f"{len(heads)} texts, one for each of heads")
    return notes or {}


def _bar(ax: Axes, interval: tuple[float, float] | None, row: int, colour: str) -> None:
    if interval is not None:
        ax.plot(interval, [row, row], "-", color=colour, lw=stroke(2.2), solid_capstyle="butt", zorder=3)


def _rows(ax: Axes, names: list[str]) -> None:
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.margins(x=0.08)
