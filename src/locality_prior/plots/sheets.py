"""Maps: a value for each unit, drawn at its place."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from locality_prior._check import number, wrong, wrong_type
from locality_prior.plots._given import as_array, as_conditions, class_names, unit_number
from locality_prior.plots._maps import SLANTED, lay_out
from locality_prior.plots._page import axes_or_new, colour_bar, dress
from locality_prior.plots._style import mark, stroke, text_size
from locality_prior.plots._units import colour_scale, draw_units, extent_of, figure_size, name_sides, place_of
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

    A mesh is drawn on its inflated surface, if it has one, from two sides; or from one side, if most units are seen
    from there. The names of the sides are below. Each unit colours the part of the surface that is nearest to it along
    the edges. Its colour is that of the scale where the surface faces the reader, to within 45 degrees, and darker
    towards the rim. Where there is no unit, the surface is dark grey if it is folded inwards and light grey if
    outwards.

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
    name_sides(places, ax)
    if colorbar:
        colour_bar(drawn, [ax], label, below=19 if len(places.shape) == 1 else None)
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
    x, y = place_of(places, unit)
    signal = as_array("signal", signal, len(places))
    top = float(np.max(signal, initial=1.0, where=np.isfinite(signal)))
    # rows of hexagons are √3/2 apart, and odd ones begin half a hexagon later
    row = y if places.kind == "cells" else y / (math.sqrt(3) / 2)
    title = f"unit at row {round(row)}, column {int(x)}" if len(places.shape) == 2 else f"unit {unit}"
    ax = sheet(signal, places, ax, vmin=0.0, vmax=top, label=label, title=title)
    ring = ax.plot(x, y, "o", ms=mark(6), mfc="none", mec="black", mew=stroke(1.0), clip_on=False, zorder=3)[0]
    ring.set_path_effects([withStroke(linewidth=stroke(2.0), foreground="white")])
    return ax


def class_maps(
    maps: Mapping[str, Any],
    geometry: Geometry | Places | Mapping[str, Geometry | Places],
    axes: Any = None,
    *,
    classes: Sequence[Any] | None = None,
    label: str = "mean activation",
    width: float | None = None,
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
        axes: (rows, classes) Axes to draw on; None: a new figure.
        classes: a name for each class; None: 0, 1, …
        label: what the colour bar shows, with its unit.
        width: of the new figure, in millimetres: where it is too narrow for all classes side by side, they stand in
            several lines. None: about 200 for ten classes.

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
    inches = None if width is None or axes is not None else number("width", width, 1) / 25.4
    letters = 20 if inches is None else _letters(inches / 3)
    grid = _grid_of_axes(axes, len(arrays), n)
    for row, (name, array) in zip(grid, arrays.items(), strict=True):
        for ax, values in zip(row, array, strict=True):
            drawn = draw_units(values, places[name], ax, norm, colours, stacked=True)
            ax.set(xticks=[], yticks=[])
        # a word is kept whole where it is a little longer than a line
        longest = max((len(word) for word in name.split()), default=0)
        wrapped = _wrapped(name, longest if letters < longest <= 1.3 * letters else letters)
        row[0].set_ylabel(wrapped, rotation=0, ha="right", va="center")
        name_sides(places[name], row[0], stacked=True)
    slant = SLANTED if max(map(len, names)) > 8 else {}
    size = text_size("axes.titlesize", "small" if slant else "medium")
    for ax, title in zip(grid[0], names, strict=True):
        ax.set_title(_wrapped(title), fontsize=size, pad=3, **slant)
    bar = colour_bar(drawn, grid.ravel().tolist(), label, below=None if inches is None else 6)
    if axes is None:
        aspects = [
            min(max(down / across, 0.08), 3.0) for across, down in (extent_of(one, True) for one in places.values())
        ]
        lay_out(grid, bar, aspects, inches)
    return grid


def _letters(inches: float) -> int:
    """How many letters of a name fit into a line, up to 20."""
    size = FontProperties(size=matplotlib.rcParams["axes.labelsize"]).get_size_in_points()
    return int(min(max(inches * 72 / (0.55 * size), 6), 20))


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


def _index_ticks(places: Places, ax: Axes) -> None:
    """The first and the last index of each axis of a grid, and no other tick."""
    if places.kind != "cells":
        return
    *rows, cols = places.shape
    ax.set_xticks(sorted({0, cols - 1}))
    ax.set_yticks(sorted({0, rows[0] - 1}) if rows else [])
    ax.tick_params(length=0, pad=5)
