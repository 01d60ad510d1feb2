"""The *windowed* way: tiles of target units, each with its window of source units, as one batched product."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from locality_prior.prior import Wires

#: Units of a tile where nothing else is asked for: 8×8 on a sheet.
TILE = 64


class Windows:
    """Products with the matrix of the wires as dense blocks: a tile of target units × the source units they reach.

    Args:
        wires: which pairs have a wire.
        tiles: tile numbers of the target units, (out,), from :func:`tiles`.
        device: where to compute.
    """

    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

    def __init__(self, wires: Wires, tiles: Tensor, device: torch.device) -> None:
        out, features = self.shape = wires.shape
        order = torch.argsort(tiles, stable=True)  # target units, tile by tile
        counts = torch.bincount(tiles)
        n, tall = len(counts), int(counts.max())
        starts = counts.cumsum(0) - counts
        slot = torch.empty_like(order)
        slot[order] = torch.arange(out) - starts[tiles[order]]
        #: Where each target unit's row is among the rows of all blocks.
        place = tiles * tall + slot

        rows = wires.rows()
        # the window of a tile: its sources, each once, in order
        pairs, which = torch.unique(tiles[rows] * features + wires.sources, return_inverse=True)
        sizes = torch.bincount(pairs // features, minlength=n)
        wide = int(sizes.max())
        column = torch.arange(len(pairs)) - (sizes.cumsum(0) - sizes)[pairs // features]
        window = torch.zeros(n * wide, dtype=torch.int64)  # padded with unit 0, which no value then weighs
        window[pairs // features * wide + column] = pairs % features

        self.blocks = (n, tall, wide)
        self.place = place.to(device)
        self.window = window.to(device)
        self.at = (place[rows] * wide + column[which]).to(device)

    @property
    def entries(self) -> int:
        """Entries of all blocks, padding included."""
        return math.prod(self.blocks)

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Σ_j V_ij x_j, (n, out), of x (n, in) and V (wires,); and what the backward uses again."""
        tiles, _, wide = self.blocks
        filled = v.new_zeros(self.entries).index_copy_(0, self.at, v).view(self.blocks)
        seen = x.t().contiguous().index_select(0, self.window).view(tiles, wide, len(x))
        y = torch.bmm(filled, seen).flatten(0, 1)
        return y.index_select(0, self.place).t(), (filled, seen)

    def backward(
        self, grad: Tensor, kept: tuple[Tensor, ...], need_x: bool, need_v: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of x, (n, in), and of V, (wires,), where needed, from that of y, (n, out)."""
        tiles, tall, _ = self.blocks
        (filled, seen), grad_x, grad_v, n = kept, None, None, len(grad)
        tiled = grad.new_zeros(tiles * tall, n).index_copy_(0, self.place, grad.t()).view(tiles, tall, n)
        if need_x:
            from_tiles = torch.bmm(filled.transpose(1, 2), tiled).flatten(0, 1)
            grad_x = grad.new_zeros(self.shape[1], n).index_add_(0, self.window, from_tiles).t()
        if need_v:
            grad_v = torch.bmm(tiled, seen.transpose(1, 2)).view(-1).index_select(0, self.at)
        return grad_x, grad_v


def tiles(positions: Tensor, tile: int = TILE) -> Tensor:
    """Compact tiles of at most ``tile`` units: halves along the widest side, and again, as a k-d tree.

    Args:
        positions: (units, d).
        tile: the most units in a tile.

    Returns:
        The tile number of each unit, (units,).
    """
    number = torch.zeros(len(positions), dtype=torch.int64)
    order = torch.arange(len(positions))[None]
    parts = [order[0]]
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
