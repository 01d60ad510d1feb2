"""The units of a sheet as marks on the page."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Ellipse

from locality_prior._check import number, wrong
from locality_prior.analysis._given import Floats
from locality_prior.plots._style import frame, text_size
from locality_prior.plots._views import GAP, Side
from locality_prior.plots.places import Places
from locality_prior.plots.surfaces import BENT

_NAN = "0.85"
#: Greys of a surface where it has no unit: folded inwards, flat, and folded outwards.
_BENEATH = (0.42, 0.54, 0.66)
#: Pixels along the longer side of a surface: in a single map, and in one of many.
FINE, COARSE = 900, 400
#: The largest number on a colour scale: matplotlib cannot place ticks on one that is longer.
LARGEST = 1e300


def extent_of(places: Places, stacked: bool = False) -> Floats:
    """Width and height of the units' places and the room around them; ``stacked`` as in :func:`draw_units`."""
    if places.surface is not None:
        ends = np.array([side.extent for side in standing(places.cover.sides, stacked)])
        return np.array([ends[:, 1].max(), ends[:, 3].max()])
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


def draw_units(
    values: Floats, places: Places, ax: Axes, norm: Normalize, cmap: Colormap, stacked: bool = False
) -> ScalarMappable:
    """Each unit in the colour of its value; ``stacked``: the sides of a surface one below another, and less fine."""
    ax.spines[:].set(linewidth=frame(0.5), color="0.6")
    if places.surface is not None:
        return _surface(values, places, ax, norm, cmap, stacked)
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


def _surface(
    values: Floats, places: Places, ax: Axes, norm: Normalize, cmap: Colormap, stacked: bool
) -> ScalarMappable:
    """The sides of a surface: each unit's part of it in the unit's colour, and the rest in grey."""
    assert places.surface is not None
    surface, coloured = places.surface, places.cover.coloured
    drawn = ScalarMappable(norm, cmap)
    drawn.set_array(np.ma.masked_invalid(values))
    bent = np.zeros(len(coloured)) if surface.curvature is None else surface.curvature / BENT
    grey = np.interp(-bent, (-1, 0, 1), _BENEATH)
    colours = np.repeat(grey[:, None], 4, axis=1)
    on = coloured >= 0
    colours[on] = cmap(norm(np.ma.masked_invalid(values)))[coloured[on]]
    sides = standing(places.cover.sides, stacked)
    for side in sides:
        facing = np.abs(surface.normals @ side.axes[2])
        lit = np.where(on, light(facing, 0.75), light(facing, 0.45))
        shaded = np.clip(np.column_stack([colours[:, :3] * lit[:, None], np.ones(len(lit))]), 0, 1)
        # beside the surface there is nothing: vertex -1
        shaded = np.rint(255 * np.vstack([shaded, np.zeros(4)])).astype(np.uint8)
        image = shaded[places.cover.seen(side, COARSE if stacked else FINE)]
        ax.imshow(image, extent=side.extent, interpolation="antialiased", zorder=1)
    across, up = extent_of(places, stacked)
    ax.set(xlim=(0, across), ylim=(0, up), xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)
    return drawn


def light(facing: Floats, least: float) -> Floats:
    """The brightness of a surface by how much it faces the reader, from 0 to 1: full brightness up to 45 degrees."""
    lit: Floats = least + (1 - least) * np.minimum(facing / math.sqrt(0.5), 1)
    return lit


def standing(sides: list[Side], stacked: bool) -> list[Side]:
    """The sides of a surface side by side, or one below another with room for their names; each is centred in the other
    direction."""
    sizes = np.array([side.size for side in sides])
    gap = GAP * float(sizes.max())
    across, up = sizes.max(axis=0)
    placed, end = [], gap if stacked else 0.0
    for side, (wide, high) in zip(sides[::-1] if stacked else sides, sizes[::-1] if stacked else sizes, strict=True):
        at = ((across - wide) / 2, end) if stacked else (end, (up - high) / 2)
        placed.append(replace(side, at=at))
        end += (high if stacked else wide) + gap
    return placed[::-1] if stacked else placed


def place_of(places: Places, unit: int) -> tuple[float, float]:
    """Where :func:`draw_units` draws a unit."""
    if places.surface is None or places.vertex is None:
        x, y = places.xy[unit]
        return float(x), float(y)
    vertex = places.vertex[unit]
    sides = standing(places.cover.sides, stacked=False)
    side = max(sides, key=lambda side: float(places.surface.normals[vertex] @ side.axes[2]))  # type: ignore[union-attr]
    x, y, _ = side.axes @ places.surface.points[vertex]
    return float(x - side.window[0] + side.at[0]), float(y - side.window[2] + side.at[1])


def name_sides(places: Places, ax: Axes, stacked: bool = False) -> None:
    """The names of the sides of a surface that is drawn: below each, or small in its corner where they are stacked."""
    if places.surface is None:
        return
    for side in standing(places.cover.sides, stacked):
        left, right, bottom, _ = side.extent
        if stacked:
            small = 0.55 * FontProperties(size=matplotlib.rcParams["xtick.labelsize"]).get_size_in_points()
            ax.text(left, bottom, side.name, size=small, ha="left", va="top", color="0.35")
        else:
            how: dict[str, Any] = {"xytext": (0, -3), "textcoords": "offset points", "annotation_clip": False}
            size = text_size("xtick.labelsize", "small")
            ax.annotate(side.name, ((left + right) / 2, 0), ha="center", va="top", size=size, color="0.35", **how)


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
