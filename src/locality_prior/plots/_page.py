"""What all pictures share: their Axes, the colours of conditions, colour bars, labels and legends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import make_axes
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from locality_prior._check import instance
from locality_prior.plots._style import frame, legend_style, text_size

_FIXED = {"control": "#7f7f7f", "local": "#0072B2"}
_CYCLE = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def axes_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """The Axes given, or those of a new figure of ``width`` by ``height`` inches."""
    if ax is None:
        return plt.subplots(figsize=(width, height), layout="constrained")[1]
    return instance("ax", ax, Axes, "matplotlib Axes, or None for a new figure")


def colour_bar(drawn: ScalarMappable, axes: list[Axes], label: str | None, below: float | None = None) -> Axes:
    """A colour bar as long as the drawing itself, which an equal aspect makes smaller than its Axes.

    It stands to the right, or lies ``below`` points under the drawing.
    """
    figure = axes[0].figure

    def point() -> tuple[float, float]:
        return figure.dpi / 72 / figure.bbox.width, figure.dpi / 72 / figure.bbox.height

    def drawing(original: bool = False) -> Bbox:
        return Bbox.union([ax.get_position(original=original) for ax in axes])

    def along(cax: Any, _: Any) -> Bbox:
        if cax.get_box_aspect() is not None:  # a layout engine has set it
            cax.set_box_aspect(None)
        box, (across, up) = drawing(), point()
        if below is not None:
            return Bbox([[box.x0, box.y0 - (below + 7) * up], [box.x1, box.y0 - below * up]])
        return Bbox([[box.x1 + 6 * across, box.y0], [box.x1 + 13 * across, box.y1]])

    across, up = point()
    pad = 6 * across / drawing(True).width if below is None else 6 * up / drawing(True).height
    cax, how = make_axes(axes, location="right" if below is None else "bottom", fraction=0.1, pad=pad)
    cax.set_axes_locator(along)
    bar = figure.colorbar(drawn, cax=cax, ticks=MaxNLocator(5, steps=[1, 2, 5, 10]), **how)
    bar.outline.set_linewidth(frame(0.5))
    bar.ax.tick_params(labelsize=_tick_size("y" if below is None else "x"), width=frame(0.5), length=2.5)
    if label:
        bar.set_label(label)
    return bar.ax


def _tick_size(axis: str) -> float | str:
    return text_size(f"{axis}tick.labelsize", "small")


def dress(ax: Axes, x: str | None = None, y: str | None = None, title: str | None = None) -> Axes:
    """The labels and the title of Axes, and no spine that they do not need."""
    for axis in ("x", "y"):
        ax.tick_params(axis=axis, labelsize=_tick_size(axis))
    if x or y:
        ax.spines[["top", "right"]].set_visible(False)
    if x:
        ax.set_xlabel(x)
    if y:
        ax.set_ylabel(y)
    if title:
        ax.set_title(title, fontsize=text_size("axes.titlesize", "medium"))
    return ax


def legend_above(ax: Axes, most: int = 3) -> Axes:
    """A legend above the data, for which the Axes are made higher."""
    low, high = ax.get_ylim()
    handles, labels = ax.get_legend_handles_labels()
    ax.set_yticks([t for t in ax.get_yticks() if low <= t <= high])
    rows = -(-len(labels) // most)
    ax.set_ylim(low, high + 0.12 * rows * (high - low))
    columns = -(-len(labels) // rows)
    ax.legend(handles, labels, loc="upper center", ncols=columns, borderaxespad=0.1, **legend_style())
    return ax


def colours_of(conditions: Iterable[str]) -> dict[str, str]:
    """A colour for each condition. Those whose names are equal up to a comma are of one kind and share its colour."""
    kinds = {c: c.partition(",")[0] for c in conditions}
    others = [kind for kind in dict.fromkeys(kinds.values()) if kind not in _FIXED]
    return {c: _FIXED.get(kind) or _CYCLE[others.index(kind) % len(_CYCLE)] for c, kind in kinds.items()}
