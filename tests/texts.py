"""The texts that a figure shows: which are cut by its edge, and which lie over each other."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.text import Text

#: Pixels by which two boxes may meet: boxes have room for letters that are not there.
TOUCH = 1.0


def drawn_texts(figure: Any) -> dict[str, Any]:
    """Text → the corners (4, 2) of its box, in pixels, of every text that is drawn; equal texts are numbered."""
    seen: list[Text] = []
    draw = Text.draw

    def note(self: Text, renderer: Any) -> None:
        if self.get_visible() and self.get_text().strip() and self not in seen:
            seen.append(self)
        draw(self, renderer)

    Text.draw = note  # type: ignore[method-assign]
    try:
        figure.draw_without_rendering()
    finally:
        Text.draw = draw  # type: ignore[method-assign]
    found: dict[str, Any] = {}
    for text in seen:
        name, k = text.get_text(), 2
        while name in found:
            name, k = f"{text.get_text()} ({k})", k + 1
        found[name] = _corners(text)
    return found


def _corners(text: Text) -> Any:
    """A slanted text's box is slanted."""
    angle = text.get_rotation()
    if angle % 90 == 0:
        return text.get_window_extent().corners()[[0, 1, 3, 2]]
    anchor = text.get_transform().transform(text.get_unitless_position())
    text.set_rotation(0)
    box = text.get_window_extent().corners()[[0, 1, 3, 2]]
    text.set_rotation(angle)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return (box - anchor) @ np.array([[c, s], [-s, c]]) + anchor


def cut(figure: Any, texts: dict[str, Any]) -> list[str]:
    """The texts that reach beyond the edge of the figure."""
    width, height = figure.bbox.width, figure.bbox.height
    return [
        name
        for name, box in texts.items()
        if (box < -TOUCH).any() or (box[:, 0] > width + TOUCH).any() or (box[:, 1] > height + TOUCH).any()
    ]


def over_each_other(texts: dict[str, Any]) -> list[tuple[str, str]]:
    """The pairs of texts that overlap."""
    return [(a, b) for (a, x), (b, y) in combinations(texts.items(), 2) if _overlap(x, y)]


def _overlap(one: Any, other: Any) -> bool:
    """Whether two rectangles have more than an edge in common: no line along a side of either lies between them."""
    for box in (one, other):
        for side in (box[1] - box[0], box[2] - box[1]):
            across = np.array([-side[1], side[0]]) / (np.hypot(*side) or 1)
            a, b = one @ across, other @ across
            if a.max() - b.min() < TOUCH or b.max() - a.min() < TOUCH:
                return False
    return True
