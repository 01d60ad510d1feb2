"""The units of a sheet as marks on the page."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Ellipse

from locality_prior._check import number, wrong
from locality_prior.analysis._given import Floats
from locality_prior.plots._style import frame
from locality_prior.plots.places import Places

_NAN = "0.85"
#: The largest number on a colour scale: matplotlib cannot place ticks on one that is longer.
LARGEST = 1e300


def extent_of(places: Places) -> Floats:
    """Width and height of the units' places and the room around them."""
    size: Floats = np.ptp(places.xy, axis=0)
    return size + _spacing(places.xy)


def _spacing(xy: Floats) -> float:
    """Room for one unit if the units were spread evenly over the box (or the line) that holds them."""
    size = np.ptp(xy, axis=0)
    return math.sqrt(float(np.prod(np.maximum(size, size.max() / len(xy)))) / len(xy)) or 1.0


def figure_size(places: Places, width: float) -> tuple[float, float]:
    """Size of a figure for a sheet and its colour bar, in inches."""
    across, down = extent_of(places)
    return width, min(1.25 * width, 0.6 + (width - 0.9) * max(down / across, 0.4))


def draw_units(values: Floats, places: Places, ax: Axes, norm: Normalize, cmap: Colormap) -> ScalarMappable:
    """Each unit in the colour of its value."""
    ax.spines[:].set(linewidth=frame(0.5), color="0.6")
    if places.kind == "cells":
        return _cells(values, places, ax, norm, cmap)
    if places.kind == "hexagons":
        return _polygons(values, places.xy, 1 / math.sqrt(3), 6, ax, norm, cmap, down=True)
    if places.kind == "sphere":
        width = 4 * math.sqrt(2) * places.radius
        ax.add_patch(Ellipse((0, 0), width, width / 2, fc="none", ec="0.6", lw=frame(0.5)))
        return _polygons(values, places.xy, 0.5, 24, ax, norm, cmap)
    return _polygons(values, places.xy, 0.42 * _spacing(places.xy), 24, ax, norm, cmap)


def _cells(values: Floats, places: Places, ax: Axes, norm: Normalize, cmap: Colormap) -> ScalarMappable:
    flat = len(places.shape) == 1
    shape = (1, *places.shape) if flat else places.shape
    cells, there = np.full(math.prod(shape), np.nan), np.zeros(math.prod(shape))
    at = np.ravel_multi_index(tuple(places.xy.T[::-1].astype(np.int64)), shape)
    cells[at], there[at] = values, 1.0
    whole = len(places) == len(cells)
    spacing = places.spacing or (1.0, 1.0)
    if flat:
        ax.set_box_aspect(max(1 / len(places), 0.08))
    if not whole:
        ax.spines[:].set_visible(False)
    return ax.imshow(
        np.ma.masked_invalid(cells.reshape(shape)),
        norm=norm,
        cmap=cmap,
        alpha=None if whole else there.reshape(shape),
        aspect="auto" if flat else spacing[0] / spacing[1],
        interpolation="nearest",
    )


def _polygons(
    values: Floats,
    xy: Floats,
    radius: float,
    sides: int,
    ax: Axes,
    norm: Normalize,
    cmap: Colormap,
    down: bool = False,
) -> ScalarMappable:
    """A regular polygon with a corner on top at each place."""
    angle = 2 * math.pi * np.arange(sides) / sides
    corners = xy[:, None] + radius * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    shown = np.ma.masked_invalid(values)
    patches = PolyCollection(list(corners), array=shown, norm=norm, cmap=cmap, edgecolors="face", linewidths=0.2)
    ax.add_collection(patches)
    ax.set_aspect("equal")
    ax.spines[:].set_visible(False)
    ax.set(xticks=[], yticks=[])
    ax.autoscale_view()
    ax.margins(0.02)
    if down:
        ax.yaxis.set_inverted(True)
    return patches


def colour_scale(
    values: Floats, vmin: float | None, vmax: float | None, cmap: str | Colormap | None
) -> tuple[Normalize, Colormap]:
    """The scale from values to colours: from 0 to the maximum, or symmetric about 0 if a value is negative."""
    vmin, vmax = (
        None if end is None else number(name, end, -LARGEST, LARGEST) for name, end in (("vmin", vmin), ("vmax", vmax))
    )
    if (isinstance(cmap, str) and cmap not in plt.colormaps()) or not isinstance(cmap, (str, Colormap, type(None))):
        raise wrong("cmap", cmap, "the name of a matplotlib colour map, a Colormap, or None")
    finite = np.clip(values[np.isfinite(values)], -LARGEST, LARGEST)
    top = float(np.abs(finite).max(initial=0.0)) or 1.0
    signed = bool((finite < 0).any())
    low = (-top if signed else 0.0) if vmin is None else vmin
    high = top if vmax is None else vmax
    if not low < high:
        raise wrong("vmin, vmax", f"{low:g}, {high:g}", "vmin below vmax")
    if cmap is None:
        cmap = "RdBu_r" if low == -high else "viridis"
    return Normalize(low, high), plt.get_cmap(cmap).with_extremes(bad=_NAN)
