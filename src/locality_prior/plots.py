"""Pictures of sheets, wires and measurements: numbers in, matplotlib Axes out.

Every function takes ``ax=None`` and returns the Axes it drew on. Without one it opens a pyplot figure of journal
size: ``ax.figure.savefig("map.pdf")`` saves it and ``plt.close(ax.figure)`` frees it. With one it draws there alone,
and the figure, best made with ``layout="constrained"``, stays the caller's. Text is sized relative to
``rcParams["font.size"]``: 8 to 10 points by default. Needs matplotlib.

A condition is a name such as ``"control"`` (always grey) or ``"local"`` (always blue); the others take the colours
of a colour-blind-safe cycle in the order given. Numbers are array-likes or tensors of any device.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection, LineCollection, PolyCollection
from matplotlib.colorbar import make_axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.patches import Ellipse
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from torch import Tensor

from locality_prior._check import wrong
from locality_prior.geometry import Channels, Geometry, Grid, HexGrid, Measured, Points, Sphere

Floats = NDArray[np.float64]

#: Half the width of a 95 % confidence interval, in standard errors of the mean.
_Z95 = 1.96
_FIXED = {"control": "#7f7f7f", "local": "#0072B2"}
_CYCLE = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = "osD^vP"
_NAN = "0.85"
_WIRES = LinearSegmentedColormap.from_list("wires", ["0.84", "0.0"])


# Sheets of units


def sheet(
    values: Any,
    geometry: Geometry,
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
    places = _places(geometry)
    values = _array("values", values, len(geometry))
    norm, colours = _scale(values, vmin, vmax, cmap)
    ax = _axes(ax, *_size(places, 3.4))
    drawn = _draw(values, geometry, places, ax, norm, colours)
    _index_ticks(geometry, ax)
    if colorbar:
        _colour_bar(drawn, [ax], label, below=isinstance(geometry, Grid) and len(geometry.shape) == 1)
    return _dress(ax, title=title)


def transmitted_signal(
    signal: Any, geometry: Geometry, unit: int, ax: Axes | None = None, *, label: str = "transmitted signal"
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
    unit = _unit(unit, len(geometry))
    x, y = _places(geometry)[unit]
    signal = _array("signal", signal, len(geometry))
    top = float(np.max(signal, initial=1.0, where=np.isfinite(signal)))
    n = _columns(geometry)
    title = f"unit at row {unit // n}, column {unit % n}" if n else f"unit {unit}"
    ax = sheet(signal, geometry, ax, vmin=0.0, vmax=top, label=label, title=title)
    ring = ax.plot(x, y, "o", ms=6, mfc="none", mec="black", mew=1.0, clip_on=False, zorder=3)[0]
    ring.set_path_effects([withStroke(linewidth=2.0, foreground="white")])
    return ax


def class_maps(
    maps: Mapping[str, Any],
    geometry: Geometry,
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
    places = _places(geometry)
    arrays = {name: _array("maps", m, None, len(geometry), of=name) for name, m in _conditions("maps", maps).items()}
    n = len(next(iter(arrays.values())))
    for name, array in arrays.items():
        _array("maps", array, n, len(geometry), of=name)
    names = _names(classes, n)
    norm, colours = _scale(np.stack(list(arrays.values())), None, None, None)
    grid = _grid_of_axes(axes, len(arrays), n, places)
    for row, (condition, array) in zip(grid, arrays.items(), strict=True):
        for ax, values in zip(row, array, strict=True):
            drawn = _draw(values, geometry, places, ax, norm, colours)
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(condition, rotation=0, ha="right", va="center")
    slant = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"} if max(map(len, names)) > 8 else {}
    for ax, name in zip(grid[0], names, strict=True):
        ax.set_title(name, fontsize="medium" if not slant else "small", pad=3, **slant)
    _colour_bar(drawn, grid.ravel().tolist(), label)
    return grid


# Wires


def wiring(
    costs: Any,
    ax: Axes | None = None,
    *,
    unit: int | None = None,
    label: str = "cost of the wire",
    colorbar: bool = True,
) -> Axes:
    """The wiring diagram of two rows of units: sources below, targets above, and the darker a wire the dearer.

    Args:
        costs: (out, in) costs c(d) of the wires; inf or NaN is no wire.
        unit: draw the wires of this target unit alone, on the grey scale of them all.

    Raises:
        ValueError: not a matrix, or no such unit.
    """
    costs = _array("costs", costs, None, None)
    n_out, n_in = costs.shape
    shown = range(n_out) if unit is None else [_unit(unit, n_out)]
    # the rule by which grids meet: the target's row is stretched onto the source's
    above, below = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5, np.arange(n_in, dtype=float)
    wires = [(i, j) for i in shown for j in range(n_in) if np.isfinite(costs[i, j])]
    wires.sort(key=lambda wire: float(costs[wire]))  # the dear ones, which are dark, on top
    finite = costs[np.isfinite(costs)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (1.0, 2.0)

    ax = _axes(ax, 4.2, 2.3)
    lines = LineCollection(
        [[(below[j], 0.0), (above[i], 1.0)] for i, j in wires],
        array=np.array([costs[wire] for wire in wires]),
        norm=Normalize(low, high if high > low else low + 1),
        cmap=_WIRES,
        linewidths=1.1,
        zorder=1,
    )
    ax.add_collection(lines)
    top = ax.secondary_xaxis("top")
    for axis, y, x, numbered in ((ax, 0.0, below, range(n_in)), (top, 1.0, above, shown)):
        _circles(ax, x, y, np.isin(np.arange(len(x)), numbered))
        ticks = [k for k in numbered if max(n_out, n_in) <= 20 or len(numbered) == 1 or k in (0, len(x) - 1)]
        axis.set_xticks(x[ticks], [str(k) for k in ticks])
        axis.tick_params(length=0, labelsize="small")
        axis.spines[:].set_visible(False)
    room = max(0.0, 7 - n_in) / 2  # a short row keeps its circles small
    ax.set(xlim=(-0.6 - room, n_in - 0.4 + room), ylim=(-0.1, 1.1))
    ax.set_yticks([0.0, 1.0], ["source", "target"])
    if colorbar:
        _colour_bar(lines, [ax], label)
    return _dress(ax)


# Measurements of conditions


def variance_by_class(
    variances: Mapping[str, Any], labels: Any, ax: Axes | None = None, *, classes: Sequence[Any] | None = None
) -> Axes:
    """Mean spatial variance of each class's maps, and its 95 % confidence interval over images (1.96 sem).

    Args:
        variances: condition → (n,) variances of the images' maps, in spacings²; NaN (undefined) is left out.
        labels: (n,) classes of the images, whole numbers from 0.
        classes: names of the classes 0, 1, …; None: the numbers themselves.

    Raises:
        ValueError: sizes that differ, or a label without a name.
    """
    labels = _array("labels", labels, None)
    if not len(labels) or not (np.equal(np.mod(labels, 1), 0) & (labels >= 0)).all():
        raise wrong("labels", f"{labels.tolist()[:5]} …" if len(labels) else "none", "whole numbers from 0")
    present = np.unique(labels).astype(int)
    names = [str(k) for k in present] if classes is None else _names(classes)
    if classes is not None:
        if present[-1] >= len(names):
            raise wrong("classes", f"{len(names)} names", f"a name for each class up to {present[-1]}")
        present = np.arange(len(names))
    arrays = {c: _array("variances", v, len(labels), of=c) for c, v in _conditions("variances", variances).items()}

    ax = _axes(ax, 5.5, 3.0)
    step = min(0.22, 0.7 / len(arrays))
    for k, (condition, colour) in enumerate(_colours(arrays).items()):
        means, sems = np.array([_mean_sem(arrays[condition][labels == c]) for c in present]).T
        x = np.arange(len(present)) + (k - (len(arrays) - 1) / 2) * step
        style: dict[str, Any] = {"fmt": _MARKERS[k % len(_MARKERS)], "ms": 4.5, "lw": 1.4, "label": condition}
        ax.errorbar(x, means, yerr=_Z95 * sems, color=colour, **style)
    long = max(map(len, names)) > 8
    ax.set_xticks(range(len(names)), names, rotation=40 if long else 0, ha="right" if long else "center")
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.tick_params(axis="x", length=0)
    return _legend(_dress(ax, "class", "spatial variance (spacings²)"), most=4)


def correlation_by_distance(curves: Mapping[str, Any], ax: Axes | None = None) -> Axes:
    """Response correlation of pairs of units against the distance between them, with a band of ± 1 sem.

    Args:
        curves: condition → (distance, correlation, sem), three arrays of (bins,); distance in spacings.

    Raises:
        ValueError: not three arrays of equal size.
    """
    parts = {c: _parts("curves", v, c, 3) for c, v in _conditions("curves", curves).items()}
    arrays = {
        c: [_array("curves", p, len(_array("curves", v[0], None, of=c)), of=c) for p in v] for c, v in parts.items()
    }
    ax = _axes(ax, 4.0, 2.8)
    ax.axhline(0, color="0.6", lw=0.8, zorder=0)
    for condition, colour in _colours(arrays).items():
        distance, correlation, sem = arrays[condition]
        ax.fill_between(distance, correlation - sem, correlation + sem, color=colour, alpha=0.25, lw=0)
        ax.plot(distance, correlation, color=colour, lw=1.5, label=condition)
    return _legend(_dress(ax, "distance between units (spacings)", "response correlation"))


def paired_seeds(values: Mapping[str, Any], ax: Axes | None = None, *, label: str) -> Axes:
    """A line for each seed, which joins its networks across conditions, and a bar at each condition's mean.

    Args:
        values: condition → (seeds,) numbers, the same seeds in the same order; a seed with a NaN is left out.
        label: what the numbers are, with their unit.

    Raises:
        ValueError: numbers of seeds that differ.
    """
    given = _conditions("values", values)
    n = len(_array("values", next(iter(given.values())), None))
    table = np.stack([_array("values", v, n, of=c) for c, v in given.items()])
    table = table[:, np.isfinite(table).all(axis=0)]
    ax = _axes(ax, 1.3 + 0.75 * len(table), 2.8)
    x = np.arange(len(table))
    for k, colour in enumerate(_colours(given).values()):
        ax.plot(k, _mean_sem(table[k])[0], "_", color=colour, ms=20, mew=3.5, zorder=1)
    for seed in table.T:
        ax.plot(x, seed, "o-", color="0.45", ms=3, lw=0.7, zorder=2)
    ax.set_xticks(x, list(given))
    ax.set_xlim(-0.5, len(table) - 0.5)
    ax.margins(y=0.12)
    ax.tick_params(axis="x", length=0)
    return _dress(ax, y=label)


def training(curves: Mapping[str, Any], ax: Axes | None = None, *, label: str) -> Axes:
    """A number over the epochs of training, one thin line for each seed of each condition.

    Args:
        curves: condition → (epochs, values): (n,) and (n,) or (seeds, n) numbers.
        label: what the values are, with their unit.

    Raises:
        ValueError: values that do not have one number for each epoch.
    """
    arrays = {}
    for condition, curve in _conditions("curves", curves).items():
        epochs, values = _parts("curves", curve, condition, 2)
        epochs = _array("curves", epochs, None, of=condition)
        values = _array("curves", values, *[None] * (np.ndim(values) > 1), len(epochs), of=condition)
        arrays[condition] = epochs, np.atleast_2d(values)
    ax = _axes(ax, 4.0, 2.8)
    for condition, colour in _colours(arrays).items():
        epochs, seeds = arrays[condition]
        # a single epoch has no line: its mark alone would be invisible
        lines = ax.plot(epochs, seeds.T, "." if len(epochs) == 1 else "-", color=colour, lw=0.9, alpha=0.85)
        lines[0].set_label(condition)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _legend(_dress(ax, "epoch", label))


# What is given


def _array(name: str, values: Any, *shape: int | None, of: str | None = None) -> Floats:
    """``values`` as float64 of ``shape``, where None is any size; ``of``: the condition they belong to."""
    name = name if of is None else f"{name}[{of!r}]"
    try:
        array = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.asarray(values, float)
    except (TypeError, ValueError):
        raise wrong(name, type(values).__name__, "an array of numbers") from None
    if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        sizes = ", ".join("any" if n is None else str(n) for n in shape) + "," * (len(shape) == 1)
        raise wrong(name, f"shape {array.shape}", f"shape ({sizes})")
    return array


def _conditions(name: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping) or not given:
        raise wrong(name, repr(given) if not given else type(given).__name__, "a dict of condition → numbers")
    return given


def _parts(name: str, given: Any, condition: str, n: int) -> Sequence[Any]:
    if not isinstance(given, (tuple, list)) or len(given) != n:
        shown = f"{len(given)} arrays" if isinstance(given, (tuple, list)) else type(given).__name__
        raise wrong(f"{name}[{condition!r}]", shown, f"a tuple of {n} arrays")
    return given


def _names(classes: Sequence[Any] | None, n: int | None = None) -> list[str]:
    names = [str(c) for c in (range(n or 0) if classes is None else classes)]
    if n is not None and len(names) != n:
        raise wrong("classes", f"{len(names)} names", f"{n}, one for each class")
    return names


def _unit(unit: Any, n: int) -> int:
    try:
        number = operator.index(unit)
    except TypeError:
        number = -1
    if not 0 <= number < n:
        raise wrong("unit", repr(unit), f"the number of a unit, from 0 to {n - 1}")
    return number


def _mean_sem(values: Floats) -> tuple[float, float]:
    """Mean and standard error of the values that are not NaN; NaN where there are too few."""
    values = values[np.isfinite(values)]
    n = len(values)
    return (
        float(values.mean()) if n else math.nan,
        float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan,
    )


# Places on the page


def _places(geometry: Geometry) -> Floats:
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


def _columns(geometry: Geometry) -> int:
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


def _extent(places: Floats) -> Floats:
    """Width and height of the units' places and the room around them."""
    size: Floats = np.ptp(places, axis=0)
    return size + _spacing(places)


def _spacing(places: Floats) -> float:
    """Room for one unit, were they spread evenly over the box (or the line) that holds them."""
    size = np.ptp(places, axis=0)
    return math.sqrt(float(np.prod(np.maximum(size, size.max() / len(places)))) / len(places)) or 1.0


def _size(places: Floats, width: float) -> tuple[float, float]:
    """Size of a figure for a sheet and its colour bar, in inches."""
    across, down = _extent(places)
    return width, min(1.25 * width, 0.6 + (width - 0.9) * max(down / across, 0.4))


# Drawing


def _draw(
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


def _circles(ax: Axes, x: Floats, y: float, shown: NDArray[np.bool_]) -> None:
    """A row of units at height ``y``; those not ``shown`` are faint."""
    size = np.full(len(x), 0.56 * min(1.0, float(np.diff(x).min(initial=1.0))))
    circles = EllipseCollection(
        size,
        size,
        np.zeros(len(x)),
        units="x",
        offsets=np.stack([x, np.full(len(x), y)], axis=1),
        offset_transform=ax.transData,
        facecolors="white",
        edgecolors=np.where(shown, "0.1", "0.8").tolist(),
        linewidths=1.0,
        clip_on=False,
        zorder=2,
    )
    ax.add_collection(circles)


def _scale(
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


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    return ax if ax is not None else plt.subplots(figsize=(width, height), layout="constrained")[1]


def _grid_of_axes(axes: Any, rows: int, cols: int, places: Floats) -> NDArray[np.object_]:
    if axes is None:
        across, down = _extent(places)
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


def _index_ticks(geometry: Geometry, ax: Axes) -> None:
    """The first and the last index of each axis of a grid, and no other tick."""
    if not isinstance(geometry, Grid):
        return
    *rows, cols = geometry.shape
    ax.set_xticks(sorted({0, cols - 1}))
    ax.set_yticks(sorted({0, rows[0] - 1}) if rows else [])
    ax.tick_params(length=0, pad=5)


def _colour_bar(drawn: ScalarMappable, axes: list[Axes], label: str | None, below: bool = False) -> None:
    """A colour bar along the drawing itself, which an equal aspect makes smaller than the room it has."""
    figure = axes[0].figure
    across, up = (figure.dpi / 72 / side for side in (figure.bbox.width, figure.bbox.height))  # one point

    def drawing(original: bool = False) -> Bbox:
        return Bbox.union([ax.get_position(original=original) for ax in axes])

    def along(cax: Any, _: Any) -> Bbox:
        if cax.get_box_aspect() is not None:  # which a layout engine gives it
            cax.set_box_aspect(None)
        box = drawing()
        if below:
            return Bbox([[box.x0, box.y0 - 26 * up], [box.x1, box.y0 - 19 * up]])
        return Bbox([[box.x1 + 6 * across, box.y0], [box.x1 + 13 * across, box.y1]])

    pad = 6 * up / drawing(True).height if below else 6 * across / drawing(True).width
    cax, how = make_axes(axes, location="bottom" if below else "right", fraction=0.1, pad=pad)
    cax.set_axes_locator(along)
    bar = figure.colorbar(drawn, cax=cax, ticks=MaxNLocator(5, steps=[1, 2, 5, 10]), **how)
    bar.outline.set_linewidth(0.5)
    bar.ax.tick_params(labelsize="small", width=0.5, length=2.5)
    if label:
        bar.set_label(label)


def _dress(ax: Axes, x: str | None = None, y: str | None = None, title: str | None = None) -> Axes:
    ax.tick_params(labelsize="small")
    if x or y:
        ax.spines[["top", "right"]].set_visible(False)
    if x:
        ax.set_xlabel(x)
    if y:
        ax.set_ylabel(y)
    if title:
        ax.set_title(title, fontsize="medium")
    return ax


def _legend(ax: Axes, most: int = 3) -> Axes:
    """A legend in headroom of its own above the data."""
    low, high = ax.get_ylim()
    handles, labels = ax.get_legend_handles_labels()
    ax.set_yticks([t for t in ax.get_yticks() if low <= t <= high])
    rows = -(-len(labels) // most)
    ax.set_ylim(low, high + 0.12 * rows * (high - low))
    columns = -(-len(labels) // rows)
    ax.legend(handles, labels, loc="upper center", ncols=columns, frameon=False, fontsize="small", borderaxespad=0.1)
    return ax


def _colours(conditions: Iterable[str]) -> dict[str, str]:
    conditions = list(conditions)
    others = [c for c in conditions if c not in _FIXED]
    return {c: _FIXED.get(c) or _CYCLE[others.index(c) % len(_CYCLE)] for c in conditions}
