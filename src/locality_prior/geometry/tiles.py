"""Compact groups of units: the units of a tile are near each other."""

from __future__ import annotations

import torch
from torch import Tensor


def tiles(positions: Tensor, tile: int) -> Tensor:
    """Divide units into compact tiles: the units are halved along their widest side again and again, as in a k-d tree.

    Args:
        positions: (units, d) on the CPU.
        tile: the most units in a tile.

    Returns:
        The tile number of each unit, (units,).
    """
    number = torch.zeros(len(positions), dtype=torch.int64, device="cpu")
    parts = [torch.arange(len(positions), device="cpu")]
    while max(map(len, parts)) > tile:
        halves = []
        for part in parts:
            if len(part) == 1:
                halves.append(part)
                continue
            there = positions[part]
            axis = int((there.max(0).values - there.min(0).values).argmax())
            sorted_part = part[there[:, axis].argsort(stable=True)]
            half = (len(part) + 1) // 2
            halves += [sorted_part[:half], sorted_part[half:]]
        parts = halves
    for k, part in enumerate(parts):
        number[part] = k
    return number
