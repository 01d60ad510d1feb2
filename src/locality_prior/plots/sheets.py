"""Maps: a value for each unit, at the unit's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from locality_prior._check import wrong
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

    A two-dimensional :class:`Grid` has row 0 at the top, :class:`Points` are drawn as (x, y), a :class:`Sphere` in
    Hammer's equal-area projection. Cells without a unit stay blank; NaN and infinite values are light grey.

    Args:
        values: (units,) numbers.
        geometry: a geometry of places on a plane or on a sphere.
        vmin, vmax: ends of the colour scale. None: 0 and the maximum, or symmetric about 0 if a value is negative.
        cmap: None: viridis, or a diverging map where the scale is symmetric about 0.
        label: what the colour bar shows, with its unit.

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
    """The share of the signal that arrives at one unit, marked by a ring, from every unit of its sheet.

    Args:
        signal: (units,) row ``unit`` of the prior. The colour scale goes from 0 to 1, or to the maximum where
            rescaling takes it above 1.
        geometry: the sheet of both sides.
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
    geometry: Geometry | Places,
    axes: Any = None,
    *,
    classes: Sequence[Any] | None = None,
    label: str = "mean activation",
) -> NDArray[np.object_]:
    """A sheet for each condition (row) and class (column), all on one colour scale.

    Args:
        maps: condition → (classes, units) numbers.
        geometry: the sheet of the units.
        axes: (conditions, classes) Axes to draw on; None: a new figure, 7.5 inches wide for ten classes.
        classes: a name for each class; None: 0, 1, …
        label: what the colour bar shows, with its unit.

    Returns:
        (conditions, classes) Axes.

    Raises:
        ValueError: as :func:`sheet`, or numbers of classes that differ.
    """
    places = Places.of(geometry)
    arrays = {name: as_array("maps", m, None, len(places), of=name) for name, m in as_conditions("maps", maps).items()}
    n = len(next(iter(arrays.values())))
    for name, array in arrays.items():
        as_array("maps", array, n, len(places), of=name)
    names = class_names(classes, n)
    norm, colours = colour_scale(np.stack(list(arrays.values())), None, None, None)
    grid = _grid_of_axes(axes, len(arrays), n, places)
    for row, (condition, array) in zip(grid, arrays.items(), strict=True):
        for ax, values in zip(row, array, strict=True):
            drawn = draw_units(values, places, ax, norm, colours)
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(condition, rotation=0, ha="right", va="center")
    slant = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"} if max(map(len, names)) > 8 else {}
    for ax, name in zip(grid[0], names, strict=True):
        ax.set_title(name, fontsize="medium" if not slant else "small", pad=3, **slant)
    colour_bar(drawn, grid.ravel().tolist(), label)
    return grid


def _grid_of_axes(axes: Any, rows: int, cols: int, places: Places) -> NDArray[np.object_]:
    if axes is None:
        across, down = extent_of(places)
        cell = min(max(0.6, 6 / cols), 1.2)
        size = 1.5 + cell * cols, 0.38 + rows * (cell * min(down / across, 3.0) + 0.06)
        grid: NDArray[np.object_] = plt.subplots(rows, cols, figsize=size, layout="compressed", squeeze=False)[1]
        engine = grid[0, 0].figure.get_layout_engine()
        engine.set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
        return grid
    grid = np.asarray(axes, dtype=object)
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
