"""Several units at each place of another geometry."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from locality_prior._check import count, instance, wrong
from locality_prior.geometry.base import MOST, Geometry, meet, still
from locality_prior.geometry.measured import Distances
from locality_prior.geometry.meeting import BLOCK, Meeting, Pairs
from locality_prior.geometry.permuted import Permuted


class Channels(Geometry):
    """Several units at each place of another geometry: unit k sits at place k modulo the number of places.

    Args:
        base: the places.
        channels: how many units sit at each of them.
    """

    def __init__(self, base: Geometry, channels: int) -> None:
        instance("base", base, Geometry, "a geometry, such as Grid(7, 7)")
        if isinstance(base.base if isinstance(base, Permuted) else base, Distances):
            raise wrong("with_channels", repr(base), "a geometry of places")
        still("base", base)
        channels = count("channels", channels, most=MOST // len(base))
        if isinstance(base, Channels):
            channels *= base.channels
            base = base.base
        self.base: Geometry = base
        self.channels: int = channels
        self.euclidean = base.euclidean

    def __len__(self) -> int:
        return len(self.base) * self.channels

    @property
    def positions(self) -> Tensor:
        return self.base.positions.repeat(self.channels, 1)

    @property
    def neighbour_distance(self) -> float:
        return self.base.neighbour_distance

    def meet(self, source: Geometry) -> Meeting:
        return Repeated(meet(self.base, source), self.channels, 1)

    def met_by(self, target: Geometry) -> Meeting:
        return Repeated(meet(target, self.base), 1, self.channels)

    def arguments(self) -> dict[str, Any]:
        return {"base": self.base, "channels": self.channels}

    def __repr__(self) -> str:
        return f"{self.base!r}.with_channels({self.channels})"


class Repeated(Meeting):
    """A meeting of places at which there are several units.

    Args:
        met: how the places meet.
        targets: how many target units there are at each place.
        sources: how many source units there are at each place.
    """

    def __init__(self, met: Meeting, targets: int, sources: int) -> None:
        self.met, self.targets, self.sources = met, targets, sources
        self.shape = met.shape[0] * targets, met.shape[1] * sources

    def rows(self, rows: Tensor) -> Tensor:
        return self.met.rows(rows % self.met.shape[0]).repeat(1, self.sources)

    def rows_within(self, rows: Tensor, within: float) -> Tensor:
        return self.met.rows_within(rows % self.met.shape[0], within).repeat(1, self.sources)

    def near(self, within: float) -> Iterator[Pairs]:
        if within == math.inf:
            yield from super().near(within)
            return
        n, m = self.met.shape
        i, j, d = (torch.cat(parts) for parts in zip(*self.met.near(within), strict=True))
        if not len(i):
            yield i, j, d
            return
        counts = torch.bincount(i, minlength=n)
        block = ((counts.cumsum(0) - counts) * self.sources // BLOCK)[i]  # of whole rows of places
        sizes = torch.unique_consecutive(block, return_counts=True)[1].tolist()
        for channel in range(self.targets):
            for rows, columns, lengths in zip(*(torch.split(x, sizes) for x in (i, j, d)), strict=True):
                order = rows.repeat(self.sources).argsort(stable=True)
                all_columns = (columns + m * torch.arange(self.sources)[:, None]).flatten()
                pair = order % len(rows)
                yield rows[pair] + n * channel, all_columns[order], lengths[pair]
