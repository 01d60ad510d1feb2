"""The *windowed* way: one batched product of tiles of target units, each with its window of source units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from locality_prior.functional import Workspace
from locality_prior.geometry import tiles
from locality_prior.prior import Wires

#: How many units a tile may have.
TILES = (16, 32, 64, 128)
#: What a unit in the window of a tile costs, in entries of a block: it is gathered, and its gradient is scattered.
SEEN = 16
#: How many tiles are looked at in order to choose a size.
LOOKED_AT = 64


class Windows:
    """Products with the matrix of the wires as dense blocks: a tile of target units × the source units in its window.

    Args:
        wires: which pairs have a wire.
        tiles: tile numbers of the target units, (out,), from :func:`best_tiles`.
        device: where to compute.
        multiple: pad tiles and windows to a multiple of this many units.
    """

    def __init__(self, wires: Wires, tiles: Tensor, device: torch.device, multiple: int = 1) -> None:
        out, features = self.shape = wires.shape
        order = torch.argsort(tiles, stable=True)  # target units, tile by tile
        counts = torch.bincount(tiles)
        n, tall = len(counts), -(-int(counts.max()) // multiple) * multiple
        starts = counts.cumsum(0) - counts
        slot = torch.empty_like(order)
        slot[order] = torch.arange(out) - starts[tiles[order]]
        #: Where each target unit's row is among the rows of all blocks.
        place = tiles * tall + slot

        rows = wires.rows()
        # the window of a tile: its sources, each once, in order
        pairs, which = torch.unique(tiles[rows] * features + wires.sources, return_inverse=True)
        sizes = torch.bincount(pairs // features, minlength=n)
        wide = -(-int(sizes.max()) // multiple) * multiple
        column = torch.arange(len(pairs)) - (sizes.cumsum(0) - sizes)[pairs // features]
        window = torch.zeros(n * wide, dtype=torch.int64)  # padded with unit 0, whose weights are 0
        window[pairs // features * wide + column] = pairs % features

        self.blocks = (n, tall, wide)
        self.padded = n * tall > out
        self.place = place.to(device)
        self.window = window.to(device)
        self.at = (place[rows] * wide + column[which]).to(device)

    @property
    def entries(self) -> int:
        """Entries of all blocks, padding included."""
        return math.prod(self.blocks)

    def forward(
        self, x: Tensor, weight: Tensor, prior: Tensor, bias: Tensor | None, space: Workspace, training: bool
    ) -> tuple[Tensor, Any]:
        """V x + b, (n, out), of x (n, in), W and P (wires,) and b (out,)."""
        tiles, tall, _ = self.blocks
        # the blocks stay as they are while V does (it is not compared on a GPU, which would have to be waited for)
        filled = self._fill(space.fill(weight, prior), space, compare=not training and not x.is_cuda)
        seen = self._see(x, space)
        y = torch.bmm(filled, seen, out=space.buffer("tiled", (tiles, tall, len(x)), x))
        y = y.flatten(0, 1).index_select(0, self.place).t()
        return y if bias is None else y.add_(bias), space.stamp

    def backward(
        self, grad: Tensor, x: Tensor | None, weight: Tensor | None, prior: Tensor, kept: Any, space: Workspace
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of x, (n, in), and of W, (wires,), from that of y, (n, out)."""
        tiles, tall, wide = self.blocks
        grad_x, grad_weight, n = None, None, len(grad)
        current = kept == space.stamp
        if not current:
            space.stamp += 1  # the buffers no longer hold what the last forward pass left in them
        tiled = space.buffer("tiled", (tiles, tall, n), grad)
        if self.padded:
            tiled.zero_()
        tiled.view(tiles * tall, n).index_copy_(0, self.place, grad.t())
        if x is not None:
            seen = space.buffer("seen", (tiles, wide, n), x) if current else self._see(x, space)
            grads = torch.bmm(tiled, seen.transpose(1, 2), out=space.buffer("grads", self.blocks, grad))
            grad_weight = grads.view(-1).index_select(0, self.at).mul_(prior)
        if weight is not None:
            v, _ = space.again(kept, weight, prior)
            filled = space.buffer("filled", self.blocks, v) if current else self._fill(v, space)
            back = torch.bmm(filled.transpose(1, 2), tiled, out=space.buffer("back", (tiles, wide, n), grad))
            grad_x = grad.new_zeros(self.shape[1], n).index_add_(0, self.window, back.view(-1, n)).t()
        return grad_x, grad_weight

    def _fill(self, v: Tensor, space: Workspace, compare: bool = False) -> Tensor:
        """V in blocks, (tiles, tall, wide)."""
        filled = space.buffer("filled", self.blocks, v, zeros=True)
        held = space.buffer("values", v.shape, v, zeros=True)
        if not (compare and torch.equal(held, v)):
            filled.view(-1).index_copy_(0, self.at, v)
            held.copy_(v)
        return filled

    def _see(self, x: Tensor, space: Workspace) -> Tensor:
        """What each tile sees of x, (tiles, wide, n)."""
        tiles, _, wide = self.blocks
        seen = space.buffer("seen", (tiles, wide, len(x)), x)
        torch.index_select(x.t().contiguous(), 0, self.window, out=seen.view(-1, len(x)))
        return seen


def best_tiles(
    positions: Tensor, wires: Wires, sizes: Sequence[int] = TILES, taps: int = 1, seen: int = SEEN
) -> Tensor:
    """Tiles of the size that is quickest: larger tiles gather less and multiply more zeros.

    The price of a size is the number of entries in all blocks, times ``taps``, plus ``seen`` times the number of units
    in all windows, as estimated from some of the tiles.
    """
    best, least = torch.empty(0), math.inf
    for size in sizes:
        numbers = tiles(positions, size)
        n = int(numbers.max()) + 1
        looked_at = torch.linspace(0, n - 1, min(n, LOOKED_AT), dtype=torch.float64).long()
        order = torch.argsort(numbers, stable=True)
        ends = torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(numbers).cumsum(0)])
        wide = 0
        for tile in looked_at.tolist():
            units = order[ends[tile] : ends[tile + 1]].tolist()
            window = torch.cat([wires.sources[wires.ends[i] : wires.ends[i + 1]] for i in units])
            wide = max(wide, int((window.bincount() > 0).sum()))
        price = n * wide * (min(size, len(positions)) * taps + seen)
        if price < least:
            best, least = numbers, price
    return best
