"""The wires between two rows of units."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from numpy.typing import NDArray

from locality_prior._check import wrong
from locality_prior.analysis._given import Floats
from locality_prior.plots._given import as_array, unit_number
from locality_prior.plots._page import axes_or_new, colour_bar, dress
from locality_prior.plots._style import stroke, text_size

#: The most wires in a picture.
MOST_WIRES = 100_000
_WIRES = LinearSegmentedColormap.from_list("wires", ["0.84", "0.0"])


def wiring(
    costs: Any,
    ax: Axes | None = None,
    *,
    unit: int | None = None,
    label: str = "cost of the wire",
    colorbar: bool = True,
) -> Axes:
    """The wiring diagram of two rows of units: sources below, targets above, and costly wires dark.

    >>> import locality_prior as lp
    >>> ax = lp.plots.wiring(lp.cost.Linear().within(2).cost(lp.Line(6).distances()))

    Args:
        costs: (out, in) costs c(d) of the wires; inf or NaN is no wire.
        unit: draw only the wires of this target unit, on the grey scale of all; None: all wires.
        label: what the colour bar shows, with its unit.
        colorbar: whether to draw it.

    Raises:
        ValueError: not a matrix, or no such unit.
    """
    costs = as_array("costs", costs, None, None)
    if not costs.size or costs.size > MOST_WIRES:
        raise wrong("costs", f"shape {costs.shape}", f"1 to {MOST_WIRES:,} costs")
    n_out, n_in = costs.shape
    shown = range(n_out) if unit is None else [unit_number(unit, n_out)]
    # the target's row is stretched onto the source's, as grids are
    above, below = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5, np.arange(n_in, dtype=float)
    wires = [(i, j) for i in shown for j in range(n_in) if np.isfinite(costs[i, j])]
    wires.sort(key=lambda wire: float(costs[wire]))  # costly wires, which are dark, on top
    finite = costs[np.isfinite(costs)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (1.0, 2.0)

    ax = axes_or_new(ax, 4.2, 2.3)
    lines = LineCollection(
        [[(below[j], 0.0), (above[i], 1.0)] for i, j in wires],
        array=np.array([costs[wire] for wire in wires]),
        norm=Normalize(low, high if high > low else low + 1),
        cmap=_WIRES,
        linewidths=stroke(1.1),
        zorder=1,
    )
    ax.add_collection(lines)
    top = ax.secondary_xaxis("top")
    for axis, y, x, numbered in ((ax, 0.0, below, range(n_in)), (top, 1.0, above, shown)):
        _circles(ax, x, y, np.isin(np.arange(len(x)), numbered))
        ticks = [k for k in numbered if max(n_out, n_in) <= 20 or len(numbered) == 1 or k in (0, len(x) - 1)]
        axis.set_xticks(x[ticks], [str(k) for k in ticks])
        axis.tick_params(length=0, labelsize=text_size("xtick.labelsize", "small"))
        axis.spines[:].set_visible(False)
    room = max(0.0, 7 - n_in) / 2  # a short row keeps its circles small
    ax.set(xlim=(-0.6 - room, n_in - 0.4 + room), ylim=(-0.1, 1.1))
    ax.set_yticks([0.0, 1.0], ["source", "target"])
    if colorbar:
        colour_bar(lines, [ax], label)
    return dress(ax)


def _circles(ax: Axes, x: Floats, y: float, shown: NDArray[np.bool_]) -> None:
    """A row of units at height ``y``; those that are not ``shown`` are faint."""
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
        linewidths=stroke(1.0),
        clip_on=False,
        zorder=2,
    )
    ax.add_collection(circles)
