"""How the panels, labels and legends of a figure fit its width.

A figure of the page has a width that suits its panels. For print a width in millimetres is given: text keeps its size,
so the panels stand in as many columns as fit, legends move below, and labels are wrapped.
"""

from __future__ import annotations

import textwrap
from itertools import pairwise
from typing import Any

import matplotlib
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from matplotlib.ticker import AutoLocator, FixedLocator, MaxNLocator

from locality_prior.plots._style import legend_style, text_size
from locality_prior.report.saving import unseen_glyphs
from locality_prior.report.words import drawn

#: Panels side by side on the page.
ACROSS = 3
#: Width of a figure that fills the page, in inches; an inch, in millimetres.
WIDE, INCH = 9.6, 25.4
#: Width of a panel in print, in ems: that which is comfortable; of panels whose rows have names to their left; and the
#: least, where a page is not high enough for wider ones.
ROOMY, NAMED, CLOSE = 15.5, 13.0, 11.5
#: The highest figure in print, in inches, where narrower panels can help.
HIGHEST = 9.4


def em() -> float:
    """The size of text, in inches."""
    return float(matplotlib.rcParams["font.size"]) / 72


def panelled(
    n: int,
    height: float,
    width: float | None,
    *,
    across: int = ACROSS,
    sharey: bool = False,
    beside: float = 0.0,
) -> tuple[Figure, Any]:
    """A figure of ``n`` panels in rows, and their axes.

    Args:
        n: how many panels.
        height: of a panel on the page, in inches.
        width: of the figure in print, in millimetres; None: for the page.
        across: the most panels side by side.
        sharey: whether the panels of a row share their vertical axis.
        beside: the room that names to the left of each row take, in inches.
    """
    if width is None:
        columns = min(n, across)
        inches = min(WIDE, {1: 5.6, 2: 8.0}.get(columns, WIDE))
    else:
        inches = width / INCH
        columns = columns_of(n, inches - beside, across, NAMED if beside else ROOMY)
        if -(-n // columns) * height > HIGHEST:
            columns = columns_of(n, inches - beside, across, CLOSE)
        if not beside:  # a narrow panel is lower, too
            height = min(height, 0.62 * inches / columns + 5 * em())
    rows = -(-n // columns)
    figure = Figure(figsize=(inches, height * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey="row" if sharey else False).ravel()
    for ax in axes[n:]:
        ax.set_visible(False)
    return figure, axes


def columns_of(n: int, inches: float, across: int = ACROSS, least: float = ROOMY) -> int:
    """How many of ``n`` panels, each of ``least`` ems or more, stand side by side in a width."""
    return max(1, min(n, across, int(inches / (least * em()))))


def one_legend(figure: Figure, axes: Any, width: float | None) -> None:
    """One legend, above the panels or, in print, below them, in place of each panel's own and of its headroom."""
    handles: dict[str, Any] = {}
    for ax in axes:
        if ax.get_legend() is None:
            continue
        handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        ax.get_legend().remove()
        ax.autoscale(axis="y")
        _apart(ax)
        ax.yaxis.set_major_locator(AutoLocator())
    legend_of(figure, handles, "upper" if width is None else "lower")


def legend_of(figure: Figure, handles: dict[str, Any], where: str) -> None:
    """A legend at the ``"upper"`` or ``"lower"`` edge in as many columns as fit; the figure grows by its height."""
    style = legend_style()
    size = text_inches(style["fontsize"])
    widths = [width_of(label, style["fontsize"]) + 5.2 * size for label in handles]
    columns = len(handles)
    if sum(widths) > figure.get_figwidth():
        columns = max(1, int(figure.get_figwidth() / max(widths)))
    rows = -(-len(handles) // max(columns, 1))
    lines = rows * max((label.count("\n") + 1 for label in handles), default=0)
    figure.set_figheight(figure.get_figheight() + 1.3 * size * max(lines - 1, 0))
    place: Any = f"outside {where} center"
    figure.legend(handles.values(), handles.keys(), loc=place, ncols=columns, **style)


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


def entitle(ax: Any, title: str, inches: float = 2.1, usual: str = "medium") -> None:
    """A title, shortened to ``inches``, and to what a panel's width leaves beside the numbers of its axis."""
    panel = ax.figure.get_figwidth() / ax.get_subplotspec().get_gridspec().ncols
    size = text_size("axes.titlesize", usual)
    ax.set_title(fitted(title, min(inches, 0.66 * panel, panel - 5 * em()), size), fontsize=size)


def fitted(text: str, inches: float, size: float | str = "medium") -> str:
    """``text``, shortened to a width."""
    return next(t for n in range(32, 3, -2) if width_of(t := drawn(text, n), size) <= inches or n == 4)


def width_of(text: str, size: float | str) -> float:
    """Width of a text in inches; of several lines, that of the longest."""
    points = 72 * text_inches(size)
    with unseen_glyphs():
        widths = [TextPath((0, 0), line, size=points).get_extents().width for line in text.split("\n") if line.strip()]
    return float(max(widths, default=0.0)) / 72


def text_inches(size: float | str) -> float:
    """The size of text, in inches, that matplotlib calls ``size``."""
    return float(FontProperties(size=size).get_size_in_points()) / 72


def settle(figure: Figure) -> Figure:
    """Wrap the labels that are longer than their panel, and thin out the ticks whose labels meet.

    The figure grows by the lines that wrapped labels have more.
    """
    panels = [ax for ax in figure.axes if ax.get_visible()]
    first: float | None = None
    for _ in range(4):
        with unseen_glyphs():
            figure.draw_without_rendering()
        lowest = min(ax.get_window_extent().height for ax in panels)
        first = first or lowest
        if not _fitted(panels):
            break
    spec = panels[0].get_subplotspec()
    if first and spec is not None:
        figure.set_figheight(figure.get_figheight() + spec.get_gridspec().nrows * (first - lowest) / figure.dpi)
    return figure


def _fitted(panels: list[Any]) -> bool:
    """Wrap and thin out once; whether anything changed."""
    changed, thinned = False, []
    for ax in panels:
        box = ax.get_window_extent()
        changed |= _wrapped(ax.xaxis.label, box.width)
        if ax.yaxis.label.get_rotation():  # else it is the name of a row
            changed |= _wrapped(ax.yaxis.label, box.height)
        for along, axis in enumerate((ax.xaxis, ax.yaxis)):
            if axis.major not in thinned and _thinned(axis, along):
                thinned.append(axis.major)  # panels may share it
    return changed or bool(thinned)


def _wrapped(label: Text, room: float) -> bool:
    """Wrap a label where it is longer than ``room``, or nearly, as beside another such label; whether it was."""
    text, box = label.get_text(), label.get_window_extent()
    room, long = 0.94 * room, max(box.width, box.height)
    if not text or long <= room:
        return False
    most = int(room / long * max(map(len, text.split("\n"))))
    line = text.replace("\n", " ")
    fits = [textwrap.wrap(line, n, break_long_words=False) for n in range(max(8, most), 7, -1)]
    even = [lines for lines in fits if len(lines) == len(fits[0])][-1]  # lines of about one length
    label.set_text("\n".join(even))
    return label.get_text() != text


def _thinned(axis: Axis, along: int) -> bool:
    """Use fewer ticks where their labels meet along the axis; whether they did."""
    locator: Any = axis.get_major_locator()
    if isinstance(locator, FixedLocator) and along:
        return False  # the names of rows
    low, high = sorted(axis.get_view_interval())
    inside = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    shown = [label for label in inside if label.get_text() and label.get_visible()]
    boxes = sorted(tuple(label.get_window_extent().get_points()[:, along]) for label in shown)
    gap = 0.0 if along else 0.3 * em() * axis.figure.dpi
    if all(after[0] - before[1] >= gap for before, after in pairwise(boxes)):
        return False
    if isinstance(locator, FixedLocator):
        axis.set_major_locator(FixedLocator(locator.tick_values(low, high)[::-2][::-1]))
    elif isinstance(locator, MaxNLocator):
        locator.set_params(nbins=max(len(shown) - 2, 1))
    return isinstance(locator, (FixedLocator, MaxNLocator))
