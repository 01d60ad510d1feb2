"""Where the maps of a figure stand. A layout engine would cut long names off. Lengths are in inches."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text
from numpy.typing import NDArray

#: Around the figure, and between two maps.
EDGE = GAP = 0.06
#: To the right of maps with a colour bar below, whose last number reaches beyond its end.
RIGHT = 0.16
#: The widest map; the narrowest, in ems, as long as there is room below for more lines of maps.
WIDEST, NARROWEST = 1.2, 3.0
#: The highest figure: a page has no more room.
HIGHEST = 9.4
#: A colour bar below the maps: how thick, how far from them, and its least length.
THICK, APART, LEAST = 0.1, 0.08, 1.4
#: How a title stands that is too long to be level.
SLANTED: dict[str, Any] = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"}


def lay_out(grid: NDArray[np.object_], bar: Axes, aspects: list[float], width: float | None) -> None:
    """Place (rows, classes) maps and size their figure.

    Without a ``width`` each row is one line of maps, the colour bar stands to its right, and the figure is as large as
    they are. With one, the rows are folded until the maps are wide enough, and the colour bar lies below.
    """
    figure = grid[0, 0].figure
    n = grid.shape[1]
    labels = [_extent(ax.yaxis.label) for ax in grid[:, 0]]
    left = EDGE + max(across for across, _ in labels) + 0.1

    def pitch(across: float) -> list[float]:  # a name may be higher than its row
        return [max(across * aspect, up) + GAP for aspect, (_, up) in zip(aspects, labels, strict=True)]

    figure.set_size_inches(width or 8, 4)
    beside, below = _extent_of_bar(bar)
    if width is None:
        side_by_side, across = n, min(max(0.6, 6 / n), WIDEST)
    else:
        below += APART
        side_by_side, across = _folded(grid, width - left - RIGHT, pitch, below)
        if across < max(wide for wide, _ in _titles(grid)) and not _slanted(grid):
            for ax in grid[0]:
                ax.title.set(**SLANTED)
            side_by_side, across = _folded(grid, width - left - RIGHT, pitch, below)
    lines = -(-n // side_by_side)
    top = EDGE + max(up for _, up in _titles(grid)) + 0.1
    heights = pitch(across)
    maps = side_by_side * (across + GAP)
    if width is None:
        # a slanted title begins in the middle of its map, a level one has its middle there
        ends = [k * (across + GAP) + across / 2 + wide for k, (wide, _) in enumerate(_titles(grid))]
        figure.set_size_inches(left + max(maps + beside, *ends) + EDGE, top + sum(heights) + EDGE)
    else:
        left += max(0.0, width - left - maps - RIGHT - _overhang(grid, across)) / 2
        figure.set_size_inches(width, lines * (top + sum(heights)) + below)
        length = max(maps - GAP, LEAST)
        start = min(left, width - length - RIGHT)
        bar.set_axes_locator(None)  # type: ignore[arg-type]
        place = start, below - APART - THICK, length, THICK
        bar.set_position(np.divide(place, np.tile(figure.get_size_inches(), 2)).tolist())
    size = figure.get_size_inches()
    above = 0.0
    for line in range(lines):
        above += top
        block = grid[:, line * side_by_side : (line + 1) * side_by_side]
        for row, name, aspect, height in zip(block, grid[:, 0], aspects, heights, strict=True):
            row[0].yaxis.label.set(**_properties(name.yaxis.label))
            bottom = size[1] - above - (height - GAP + across * aspect) / 2
            for k, ax in enumerate(row):
                place = left + k * (across + GAP), bottom, across, across * aspect
                ax.set_position(np.divide(place, (*size, *size)).tolist())
            above += height


def _folded(grid: NDArray[np.object_], room: float, pitch: Any, below: float) -> tuple[int, float]:
    """How many maps stand side by side, and how wide each is.

    As many as there is room for. If they are too narrow for that, as few as a page is high enough for.
    """
    n = grid.shape[1]
    titles = _titles(grid)
    least = NARROWEST * grid[0, 0].title.get_size() / 72
    if not _slanted(grid):
        least = max(least, *(wide for wide, _ in titles))
    top = EDGE + max(up for _, up in titles) + 0.1

    def height(lines: int, across: float) -> float:
        return float(lines * (top + sum(pitch(across))) + below)

    found = n, 0.0
    for lines in range(1, n + 1):
        side_by_side = -(-n // lines)
        across = max(min((room - _overhang(grid, least)) / side_by_side - GAP, WIDEST), 0.05)
        while across > least and height(lines, across) > HIGHEST:
            across -= 0.02
        if found[1] >= least / 2 and height(lines, across) > HIGHEST:
            break
        found = side_by_side, across
        if across >= least:
            break
    return found


def _slanted(grid: NDArray[np.object_]) -> bool:
    return bool(grid[0, 0].title.get_rotation())


def _overhang(grid: NDArray[np.object_], across: float) -> float:
    """How far a slanted title reaches beyond the right edge of its map."""
    return max(0.0, max(wide for wide, _ in _titles(grid)) - across / 2) if _slanted(grid) else 0.0


def _titles(grid: NDArray[np.object_]) -> list[tuple[float, float]]:
    return [_extent(ax.title) for ax in grid[0]]


def _extent(text: Text) -> tuple[float, float]:
    box, figure = text.get_window_extent(), text.figure
    assert figure is not None
    return box.width / figure.dpi, box.height / figure.dpi


def _extent_of_bar(bar: Axes) -> tuple[float, float]:
    """The room that a colour bar takes beside the maps, and below them."""
    drawn, dpi = bar.get_tightbbox(), bar.figure.dpi
    return (0.15, 0.1) if drawn is None else (drawn.width / dpi + 0.15, drawn.height / dpi + 0.1)


def _properties(label: Text) -> dict[str, Any]:
    return {"text": label.get_text(), "rotation": 0, "ha": "right", "va": "center"}
