"""Several units at each place of another geometry."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from locality_prior._check import count, wrong
from locality_prior.geometry.base import Geometry
from locality_prior.geometry.measured import Distances


class Channels(Geometry):
    """Several units at each place of another geometry: unit k sits at place k modulo the number of places."""

    def __init__(self, base: Geometry, channels: int) -> None:
        if isinstance(base, Distances):
            raise wrong("with_channels", repr(base), "a geometry of places")
        channels = count("channels", channels)
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

    def config(self) -> dict[str, Any]:
        return {"type": "Channels", "base": self.base.config(), "channels": self.channels}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channels) and self.channels == other.channels and self.base == other.base

    __hash__ = Geometry.__hash__

    def __repr__(self) -> str:
        return f"{self.base!r}.with_channels({self.channels})"
