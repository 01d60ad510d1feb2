"""Methods compared at several strengths: what each gains in one number, and what it pays in another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from locality_prior._check import number, wrong
from locality_prior.analysis._given import Floats
from locality_prior.plots._given import as_array, as_conditions, as_parts
from locality_prior.plots._page import axes_or_new, dress
from locality_prior.plots._style import legend_style, mark, stroke

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")
_MARKS = "osD^vP<X>ph*d"
_STROKES = ("-", "--", ":")
_CONTROL = "black"
#: Points of a mark: of the weakest strength, and of the strongest.
_SMALL, _LARGE = 3.8, 6.5


@dataclass(frozen=True)
class _Style:
    """How a method is drawn: no two of the first 91 are alike, and the first 21 differ in two ways or more."""

    colour: str
    mark: str
    stroke: str
    face: str


def frontier(
    methods: Mapping[str, Any],
    ax: Axes | None = None,
    *,
    x: str,
    y: str,
    control: str = "control",
    view: tuple[float, float] | None = None,
    legend: bool = True,
) -> Axes:
    """A curve for each method, through the means of its strengths, over a faint point for each network.

    The mark of a mean grows with the strength. The control is a black star, with a line across the Axes at each of
    its two means.

    >>> import locality_prior as lp
    >>> methods = {
    ...     "control": [([0.01, -0.01], [97.9, 98.0])],
    ...     "TopoLoss": [([0.1, 0.2], [97.8, 97.7]), ([0.5, 0.6], [96.8, 97.0])],  # two strengths, two networks of each
    ... }
    >>> ax = lp.plots.frontier(methods, x="Moran's I", y="accuracy (%)")

    Args:
        methods: method → a list with (x, y) for each of its strengths, the weakest first: two arrays of (networks,).
            A network with a NaN in either is left out.
        x, y: what they are, with their units.
        control: the method that the others are compared with, if it is one of ``methods``.
        view: the lowest and the highest y to show. A mean beyond is a triangle at the edge; None: all are shown.
        legend: whether to draw it, to the right of the Axes.

    Raises:
        ValueError: strengths that are not two arrays of equal size, or a view whose ends are not in order.
    """
    curves = {name: _strengths(name, given) for name, given in as_conditions("methods", methods).items()}
    ends = None if view is None else _view(view)
    ax = axes_or_new(ax, 6.6, max(3.4, 0.5 + 0.2 * len(curves)))
    styles = _styles([name for name in curves if name != control])
    for name, strengths in curves.items():
        means = np.array([[np.mean(side) if len(side) else math.nan for side in both] for both in strengths])
        if name == control:
            _draw_control(ax, name, strengths, means)
            continue
        style = styles[name]
        for across, up in strengths:
            ax.plot(across, up, style.mark, color=style.colour, ms=mark(2.4), mew=0, alpha=0.3, zorder=2)
        there = np.isfinite(means).all(axis=1)
        line: dict[str, Any] = {"color": style.colour, "lw": stroke(1.1), "ls": style.stroke, "zorder": 3}
        ax.plot(*means[there].T, **line)
        drawn: dict[str, Any] = {"color": style.colour, "mfc": style.face, "mew": stroke(0.9), "zorder": 4}
        for size, mean in zip(np.linspace(_SMALL, _LARGE, len(means)), means, strict=True):
            ax.plot(*mean, style.mark, ms=mark(size if len(means) > 1 else (_SMALL + _LARGE) / 2), **drawn)
        line["ls"] = style.stroke if len(means) > 1 else ""
        ax.plot([], [], style.mark, ms=mark(5), label=name, **line | drawn)  # for the legend
        if ends is not None:
            _mark_beyond(ax, means[there], ends, style.colour)
    if ends is not None:
        ax.set_ylim(*ends)
    dress(ax, x, y)
    if legend:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, **legend_style())
    return ax


def _strengths(name: str, given: Any) -> list[tuple[Floats, Floats]]:
    """(x, y) of the networks of each strength that have both."""
    if isinstance(given, str) or not isinstance(given, Sequence) or not len(given):
        raise wrong(f"methods[{name!r}]", given, "a list with (x, y) for each strength")
    found = []
    for both in given:
        across, up = as_parts("methods", both, name, 2)
        across = as_array("methods", across, None, of=name)
        up = as_array("methods", up, len(across), of=name)
        there = np.isfinite(across) & np.isfinite(up)
        found.append((across[there], up[there]))
    return found


def _view(given: Any) -> tuple[float, float]:
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise wrong("view", given, "(lowest, highest) or None")
    low, high = (number("view", end) for end in given)
    if not low < high:
        raise wrong("view", given, "its lowest end first")
    return low, high


def _styles(names: list[str]) -> dict[str, _Style]:
    styles = {}
    for k, name in enumerate(names):
        colour, around = _COLOURS[k % len(_COLOURS)], k // len(_COLOURS)
        face = "white" if around % 2 else colour
        styles[name] = _Style(colour, _MARKS[k % len(_MARKS)], _STROKES[around % len(_STROKES)], face)
    return styles


def _draw_control(ax: Axes, name: str, strengths: list[tuple[Floats, Floats]], means: Floats) -> None:
    for across, up in strengths:
        ax.plot(across, up, ".", color=_CONTROL, ms=mark(3), mew=0, alpha=0.4, zorder=2)
    there = np.isfinite(means).all(axis=1)
    for at, draw in zip(means[there][:1].T, (ax.axvline, ax.axhline), strict=True):
        for place in at:
            draw(place, color="0.6", lw=stroke(0.7), ls=(0, (4, 3)), zorder=1)
    star: dict[str, Any] = {"ms": mark(10), "mec": "white", "mew": stroke(0.6)}
    ax.plot(*means[there].T, "*", color=_CONTROL, ls="", label=name, zorder=5, **star)


def _mark_beyond(ax: Axes, means: Floats, ends: tuple[float, float], colour: str) -> None:
    """A triangle at the edge for each mean beyond it."""
    for beyond, edge, triangle in ((means[:, 1] < ends[0], ends[0], "v"), (means[:, 1] > ends[1], ends[1], "^")):
        places = means[beyond, 0]
        if not len(places):
            continue  # an empty line that is not clipped is laid out at the figure's corner
        height = np.full(len(places), edge)
        style: dict[str, Any] = {"color": colour, "ms": mark(5.5), "mec": "black", "mew": stroke(0.5)}
        ax.plot(places, height, triangle, ls="", clip_on=False, zorder=6, **style)
