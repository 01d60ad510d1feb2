"""Units that move while a network is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from numpy.typing import NDArray

from locality_prior._check import number, wrong
from locality_prior.analysis._given import Floats
from locality_prior.plots._given import as_array, as_conditions, class_names
from locality_prior.plots._style import mark, stroke, text_size
from locality_prior.plots.sheets import _grid_of_axes, _wrapped

#: The most units for which lines are drawn: with more, the lines would hide the units.
WAYS = 1000
#: Corners of the square of colours: a unit has the colour at the place where it starts.
_CORNERS = np.array([[(0.05, 0.35, 0.65), (0.0, 0.75, 0.6)], [(0.75, 0.15, 0.35), (0.98, 0.8, 0.2)]])


def positions(
    moved: Mapping[str, Any], axes: Any = None, *, epochs: Sequence[Any] | None = None, width: float | None = None
) -> NDArray[np.object_]:
    """The places of units at some epochs (columns), for each condition or sheet (row), all on one scale of length.

    A unit has the colour of its starting place in every column. In the last column a line leads from there to the unit.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> start = np.random.default_rng(0).random((30, 2))
    >>> axes = lp.plots.positions({"local": [start, start**2, start**3]}, epochs=["start", "epoch 1", "end"])
    >>> axes.shape
    (1, 3)

    Args:
        moved: name of the row → places, (epochs, units, 2).
        axes: (rows, epochs) Axes to draw on; None: a new figure.
        epochs: a name for each epoch; None: 0, 1, …
        width: of the new figure, in millimetres; None: as wide as its maps need.

    Returns:
        (rows, epochs) Axes.

    Raises:
        ValueError: places that are not finite, or rows with different numbers of epochs.
    """
    given = as_conditions("moved", moved)
    arrays = {name: as_array("moved", one, None, None, 2, of=name) for name, one in given.items()}
    n = len(next(iter(arrays.values())))
    for name, array in arrays.items():
        as_array("moved", array, n, None, 2, of=name)
        if not array.size or not np.isfinite(array).all():
            raise wrong(f"moved[{name!r}]", f"shape {array.shape}", "finite places of one unit or more")
    names = class_names(epochs, n)
    every = np.concatenate([array.reshape(-1, 2) for array in arrays.values()])
    low, high = every.min(axis=0), every.max(axis=0)
    half = float((high - low).max()) / 2 * 1.08 or 1.0
    (left, bottom), (right, top) = (low + high) / 2 - half, (low + high) / 2 + half
    fresh = axes is None
    grid = _grid_of_axes(axes, len(arrays), n)
    for row, (name, array) in zip(grid, arrays.items(), strict=True):
        colours = _colours(array[0])
        size = mark(min(max(40 / np.sqrt(array.shape[1]), 1.2), 5.0))
        for ax, places in zip(row, array, strict=True):
            if ax is row[-1] and n > 1 and len(places) <= WAYS:
                ways = LineCollection(list(np.stack([array[0], places], axis=1)), colors="0.75", linewidths=stroke(0.4))
                ax.add_collection(ways)
            ax.scatter(*places.T, s=size**2, c=colours, linewidths=0, zorder=2)
            ax.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
            ax.spines[:].set(color="0.8", linewidth=stroke(0.6))
        row[0].set_ylabel(_wrapped(name), rotation=0, ha="right", va="center")
    for ax, title in zip(grid[0], names, strict=True):
        ax.set_title(_wrapped(title), fontsize=text_size("axes.titlesize", "medium"))
    if fresh:
        figure = grid[0, 0].figure
        figure.set_layout_engine("constrained")
        beside = 0.2 + 0.09 * max(len(line) for name in arrays for line in _wrapped(name).split("\n"))
        inches = min(beside + 1.7 * n, 9.6) if width is None else number("width", width, 1) / 25.4
        figure.set_size_inches(inches, max((inches - beside) / n, 0.5) * len(arrays) + 0.35)
    return grid


def _colours(places: Floats) -> Floats:
    """(units, 3) the colour of each place in the square of colours that holds them all."""
    size = np.ptp(places, axis=0)
    x, y = ((places - places.min(axis=0)) / np.where(size > 0, size, 1)).T[:, :, None]
    below, above = (_CORNERS[k, 0] * (1 - x) + _CORNERS[k, 1] * x for k in (0, 1))
    found: Floats = below * (1 - y) + above * y
    return found
