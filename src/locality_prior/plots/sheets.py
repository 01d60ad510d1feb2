"""Maps: a value for each unit, drawn at its place."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from numpy.typing import NDArray

from locality_prior._check import wrong, wrong_type
from locality_prior.plots._given import as_array, as_conditions, class_names, unit_number
from locality_prior.plots._page import axes_or_new, colour_bar, dress
from locality_prior.plots._units import colour_scale, draw_units, extent_of, figure_size
from locality_prior.plots.places import Places

if TYPE_CHECKING:
    from locality_prior.geometry import Geometry


def sheet(
    values: Any,
    geometry: Geometry | Places,
    ax: Axes | None = None,
    *,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str | Colormap | None = None,
    label: str | None = None,
    colorbar: bool = True,
    title: str | None = None,
) -> Axes:
    """A map of one value for each unit, at the unit's place.

    A two-dimensional :class:`Grid` has row 0 at the top, :class:`Points` are drawn as (x, y), and a :class:`Sphere` in
    Hammer's equal-area projection. Cells without a unit stay blank; NaN and infinite values are light grey.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> ax = lp.plots.sheet(np.arange(64.0), lp.Grid(8, 8), label="mean activation")

    Args:
        values: (units,) numbers.
        geometry: a geometry of places on a plane or on a sphere, or its :class:`Places`.
        vmin, vmax: ends of the colour scale. None: 0 and the maximum, or symmetric about 0 if a value is negative.
        cmap: a matplotlib colour map or its name; None: viridis, or a diverging map where the scale is symmetric
            about 0. Both are perceptually even.
        label: what the colour bar shows, with its unit.
        colorbar: whether to draw it.
        title: of the Axes.

    Raises:
        ValueError: not one value for each unit, or a geometry that cannot be drawn on a plane.
    """
    places = Places.of(geometry)
    values = as_array("values", values, len(places))
    norm, colours = colour_scale(values, vmin, vmax, cmap)
    ax = axes_or_new(ax, *figure_size(places, 3.4))
    drawn = draw_units(values, places, ax, norm, colours)
    _index_ticks(places, ax)
    if colorbar:
        colour_bar(drawn, [ax], label, below=len(places.shape) == 1)
    return dress(ax, title=title)


def transmitted_signal(
    signal: Any, geometry: Geometry | Places, unit: int, ax: Axes | None = None, *, label: str = "transmitted signal"
) -> Axes:
    """The share of each unit's signal that arrives at one unit, which a ring marks.

    >>> import locality_prior as lp
    >>> sheet = lp.Grid(8, 8)
    >>> prior = lp.Prior(sheet, sheet, cost="linear@3").dense()
    >>> ax = lp.plots.transmitted_signal(prior[27], sheet, unit=27)

    Args:
        signal: (units,) row ``unit`` of the prior. The colour scale goes from 0 to 1, or to the maximum where
            rescaling takes it above 1.
        geometry: the sheet on which both sides sit, or its :class:`Places`.
        unit: number of the unit.

    Raises:
        ValueError: as :func:`sheet`, or no such unit.
    """
    places = Places.of(geometry)
    unit = unit_number(unit, len(places))
    x, y = places.xy[unit]
    signal = as_array("signal", signal, len(places))
    top = float(np.max(signal, initial=1.0, where=np.isfinite(signal)))
    n = places.shape[1] if len(places.shape) == 2 else 0
    title = f"unit at row {unit // n}, column {unit % n}" if n else f"unit {unit}"
    ax = sheet(signal, places, ax, vmin=0.0, vmax=top, label=label, title=title)
    ring = ax.plot(x, y, "o", ms=6, mfc="none", mec="black", mew=1.0, clip_on=False, zorder=3)[0]
    ring.set_path_effects([withStroke(linewidth=2.0, foreground="white")])
    return ax


def class_maps(
    maps: Mapping[str, Any],
    geometry: Geometry | Places | Mapping[str, Geometry | Places],
    axes: Any = None,
    *,
    classes: Sequence[Any] | None = None,
    label: str = "mean activation",
) -> NDArray[np.object_]:
    """A map for each class (column) of each condition or sheet (row), all on one colour scale.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> maps = {"control": np.random.default_rng(0).random((3, 64))}
    >>> axes = lp.plots.class_maps(maps, lp.Grid(8, 8), classes=["cat", "dog", "house"])
    >>> axes.shape
    (1, 3)

    Args:
        maps: name of the row, such as the condition → (classes, units) numbers.
        geometry: the sheet of the units, or its :class:`Places`; or one for each row, by the row's name.
        axes: (rows, classes) Axes to draw on; None: a new figure, about 8 inches wide for ten classes.
        classes: a name for each class; None: 0, 1, …
        label: what the colour bar shows, with its unit.

    Returns:
        (rows, classes) Axes.

    Raises:
        ValueError: as :func:`sheet`, or rows with different numbers of classes.
    """
    given = as_conditions("maps", maps)
    if not isinstance(geometry, Mapping):
        places = dict.fromkeys(given, Places.of(geometry))
    elif set(geometry) == set(given):
        places = {name: Places.of(geometry[name]) for name in given}
    else:
        raise wrong("geometry", f"sheets of {list(geometry)}", f"one for each of {list(given)}")
    arrays = {name: as_array("maps", m, None, len(places[name]), of=name) for name, m in given.items()}
    n = len(next(iter(arrays.values())))
    for name, array in arrays.items():
        as_array("maps", array, n, len(places[name]), of=name)
    if not n:
        raise wrong("maps", "no class", "a map for each of one or more classes")
    names = class_names(classes, n)
    norm, colours = colour_scale(np.concatenate([a.ravel() for a in arrays.values()]), None, None, None)
    grid = _grid_of_axes(axes, len(arrays), n)
    for row, (name, array) in zip(grid, arrays.items(), strict=True):
        for ax, values in zip(row, array, strict=True):
            drawn = draw_units(values, places[name], ax, norm, colours)
            ax.set(xticks=[], yticks=[])
        # a word is kept whole where it is a little longer than a line
        longest = max((len(word) for word in name.split()), default=0)
        row[0].set_ylabel(_wrapped(name, longest if 20 < longest <= 26 else 20), rotation=0, ha="right", va="center")
    slant = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"} if max(map(len, names)) > 8 else {}
    for ax, title in zip(grid[0], names, strict=True):
        ax.set_title(_wrapped(title), fontsize="medium" if not slant else "small", pad=3, **slant)
    bar = colour_bar(drawn, grid.ravel().tolist(), label)
    if axes is None:
        _lay_out(grid, bar, [down / across for across, down in map(extent_of, places.values())])
    return grid


def _wrapped(name: str, width: int = 20) -> str:
    return textwrap.fill(name, width)


def _grid_of_axes(axes: Any, rows: int, cols: int) -> NDArray[np.object_]:
    if axes is None:
        grid: NDArray[np.object_] = plt.subplots(rows, cols, squeeze=False)[1]
        return grid
    grid = np.asarray(axes, dtype=object)
    if not all(isinstance(ax, Axes) for ax in grid.flat):
        raise wrong_type("axes", axes, f"matplotlib Axes of shape ({rows}, {cols}), or None for a new figure")
    if grid.size != rows * cols:
        raise wrong("axes", f"shape {grid.shape}", f"Axes of shape ({rows}, {cols})")
    return grid.reshape(rows, cols)


def _lay_out(grid: NDArray[np.object_], bar: Axes, aspects: list[float]) -> None:
    """Make the figure as large as its maps and texts are: a layout engine would cut long names off.

    All sizes are in inches.
    """
    figure = grid[0, 0].figure
    cols = grid.shape[1]
    edge, gap, across = 0.06, 0.06, min(max(0.6, 6 / cols), 1.2)
    heights = [across * min(max(aspect, 0.08), 3.0) for aspect in aspects]

    def extent(text: Text) -> tuple[float, float]:
        box = text.get_window_extent()
        return box.width / figure.dpi, box.height / figure.dpi

    labels = [extent(ax.yaxis.label) for ax in grid[:, 0]]
    titles = [extent(ax.title) for ax in grid[0]]
    # a name may be higher than its row
    pitch = [max(height, label[1]) + gap for height, label in zip(heights, labels, strict=True)]
    left = edge + max(width for width, _ in labels) + 0.1
    top = edge + max(height for _, height in titles) + 0.1
    # a slanted title begins in the middle of its map, a level one has its middle there
    ends = [k * (across + gap) + across / 2 + width for k, (width, _) in enumerate(titles)]
    maps = cols * (across + gap)
    figure.set_size_inches(left + maps + 1, top + sum(pitch))
    drawn = bar.get_tightbbox()
    beside = (0.0 if drawn is None else drawn.width / figure.dpi) + 0.15
    width, height = left + max(maps + beside, *ends) + edge, top + sum(pitch) + edge
    figure.set_size_inches(width, height)
    above = top
    for row, size, room in zip(grid, heights, pitch, strict=True):
        bottom = height - above - (room + size) / 2
        for k, ax in enumerate(row):
            place = left + k * (across + gap), bottom, across, size
            ax.set_position(np.divide(place, (width, height, width, height)).tolist())
        above += room


def _index_ticks(places: Places, ax: Axes) -> None:
    """The first and the last index of each axis of a grid, and no other tick."""
    if places.kind != "cells":
        return
    *rows, cols = places.shape
    ax.set_xticks(sorted({0, cols - 1}))
    ax.set_yticks(sorted({0, rows[0] - 1}) if rows else [])
    ax.tick_params(length=0, pad=5)
