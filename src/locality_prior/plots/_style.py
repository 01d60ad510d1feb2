"""The reader's own style: what ``matplotlib.rcParams`` say of sizes of text, lines and marks holds here too."""

from __future__ import annotations

from typing import Any

import matplotlib

_OWN: Any = matplotlib.rcParams
_USUAL: Any = matplotlib.rcParamsDefault


def text_size(setting: str, usual: str) -> float | str:
    """The size of a text: what rcParams say of ``setting``, such as ``"legend.fontsize"``; untouched, ``usual``."""
    own: float | str = _OWN[setting]
    return usual if own == _USUAL[setting] else own


def legend_style() -> dict[str, Any]:
    """What all legends share."""
    return {"frameon": False, "fontsize": text_size("legend.fontsize", "small")}


def stroke(points: float) -> float:
    """A line's width, as wide as ``points`` where ``lines.linewidth`` is matplotlib's own."""
    return _scaled(points, "lines.linewidth")


def mark(points: float) -> float:
    """A mark's size, as large as ``points`` where ``lines.markersize`` is matplotlib's own."""
    return _scaled(points, "lines.markersize")


def frame(points: float) -> float:
    """The width of a frame, as wide as ``points`` where ``axes.linewidth`` is matplotlib's own."""
    return _scaled(points, "axes.linewidth")


def _scaled(points: float, setting: str) -> float:
    return points * float(_OWN[setting]) / float(_USUAL[setting])
