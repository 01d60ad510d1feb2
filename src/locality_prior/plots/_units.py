"""The units of a sheet: their places on the page, and the marks drawn there."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Ellipse

from locality_prior._check import wrong
from locality_prior.geometry import Channels, Geometry, Grid, HexGrid, Measured, Points, Sphere
from locality_prior.plots._given import Floats

_NAN = "0.85"


def places_of(geometry: Geometry) -> Floats:
    """Where each unit is drawn, (units, 2): rightwards, and down the page (up for points and the sphere)."""
    why = "a geometry of places on a plane or a sphere"
    if isinstance(geometry, Channels):
        raise wrong("geometry", repr(geometry), f"{why}, without channels: take the mean or one of them")
    if not isinstance(geometry, Geometry) or isinstance(geometry, Measured):
        raise wrong("geometry", repr(geometry), why)
    if isinstance(geometry, Sphere):
        return _hammer(geometry.directions.numpy()) * geometry.radius
    xy = geometry.positions.detach().numpy()
    if xy.shape[1] > 2:
        raise wrong("geometry", repr(geometry), f"{why}, of at most 2 dimensions")
    if isinstance(geometry, Grid):
        xy = np.stack(np.unravel_index(np.arange(len(geometry)), geometry.shape), axis=1).astype(float)
    if xy.shape[1] == 1:
        return np.hstack([xy, np.zeros_like(xy)])
    return xy if isinstance(geometry, Points) else xy[:, ::-1]


def columns_of(geometry: Geometry) -> int:
    """Units in a row of a sheet in rows and columns; 0 where there is no such thing."""
    if isinstance(geometry, HexGrid):
        return geometry.cols
    return geometry.shape[1] if isinstance(geometry, Grid) and len(geometry.shape) == 2 else 0


def _hammer(directions: Floats) -> Floats:
    """Hammer's equal-area projection of unit vectors (n, 3) into an ellipse of semi-axes 2√2 and √2: (n, 2)."""
    x, y, z = directions.T
    half, level = np.arctan2(y, x) / 2, np.hypot(x, y)
    along = np.sqrt(1 + level * np.cos(half))
    return math.sqrt(2) * np.stack([2 * level * np.sin(half) / along, z / along], axis=1)


def extent_of(places: Floats) -> Floats:
    """Width and height of the units' places and the room around them."""
    size: Floats = np.ptp(places, axis=0)
    return size + _spacing(places)


def _spacing(places: Floats) -> float:
    """Room for one unit, were they spread evenly over the box (or the line) that holds them."""
    size = np.ptp(places, axis=0)
    return math.sqrt(float(np.prod(np.maximum(size, size.max() / len(places)))) / len(places)) or 1.0


def figure_size(places: Floats, width: float) -> tuple[float, float]:
    """Size of a figure for a sheet and its colour bar, in inches."""
    across, down = extent_of(places)
    return width, min(1.25 * width, 0.6 + (width - 0.9) * max(down / across, 0.4))


def draw_units(
    values: Floats, geometry: Geometry, places: Floats, ax: Axes, norm: Normalize, cmap: Colormap
) -> ScalarMappable:
    ax.spines[:].set(linewidth=0.5, color="0.6")
    if isinstance(geometry, Grid):
        return _cells(values, geometry, ax, norm, cmap)
    if isinstance(geometry, HexGrid):
        return _polygons(values, places, 1 / math.sqrt(3), 6, ax, norm, cmap, down=True)
    if isinstance(geometry, Sphere):
        width = 4 * math.sqrt(2) * geometry.radius
        ax.add_patch(Ellipse((0, 0), width, width / 2, fc="none", ec="0.6", lw=0.5))
        return _polygons(values, places, 0.5, 24, ax, norm, cmap)
    return _polygons(values, places, 0.42 * _spacing(places), 24, ax, norm, cmap)


def _cells(values: Floats, grid: Grid, ax: Axes, norm: Normalize, cmap: Colormap) -> ScalarMappable:
    shape = grid.shape if len(grid.shape) == 2 else (1, *grid.shape)
    cells, there = np.full(math.prod(shape), np.nan), np.zeros(math.prod(shape))
    cells[: len(grid)], there[: len(grid)] = values, 1.0
    alpha = None if grid.whole else there.reshape(shape)
    spacing = grid.spacing or (1.0, 1.0)
    flat = len(grid.shape) == 1
    if flat:
        ax.set_box_aspect(max(1 / len(grid), 0.08))
    if not grid.whole:
        ax.spines[:].set_visible(False)
    return ax.imshow(
        np.ma.masked_invalid(cells.reshape(shape)),
        norm=norm,
        cmap=cmap,
        alpha=alpha,
        aspect="auto" if flat else spacing[0] / spacing[1],
        interpolation="nearest",
    )


def _polygons(
    values: Floats,
    places: Floats,
    radius: float,
    sides: int,
    ax: Axes,
    norm: Normalize,
    cmap: Colormap,
    down: bool = False,
) -> ScalarMappable:
    """A regular polygon with a corner on top at each place."""
    angle = 2 * math.pi * np.arange(sides) / sides
    corners = places[:, None] + radius * np.stack([np.sin(angle), np.cos(angle)], axis=1)
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
    finite = values[np.isfinite(values)]
    top = float(np.abs(finite).max(initial=0.0)) or 1.0
    signed = bool((finite < 0).any())
    low = (-top if signed else 0.0) if vmin is None else float(vmin)
    high = top if vmax is None else float(vmax)
    if not low < high:
        raise wrong("vmin, vmax", f"{low:g}, {high:g}", "vmin below vmax")
    if cmap is None:
        cmap = "RdBu_r" if low == -high else "viridis"
    return Normalize(low, high), plt.get_cmap(cmap).with_extremes(bad=_NAN)
