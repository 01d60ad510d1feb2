"""Several units at each place of another geometry."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from locality_prior._check import count, instance, wrong
from locality_prior.geometry.base import MOST, Geometry, meet, still
from locality_prior.geometry.measured import Distances
from locality_prior.geometry.meeting import ByRow, Meeting


class Channels(Geometry):
    """Several units at each place of another geometry: unit k sits at place k modulo the number of places.

    Args:
        base: the places.
        channels: how many units sit at each of them.
    """

    def __init__(self, base: Geometry, channels: int) -> None:
        instance("base", base, Geometry, "a geometry, such as Grid(7, 7)")
        if isinstance(base, Distances):
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
        places, met = len(self.base), meet(self.base, source)
        return ByRow((len(self), met.shape[1]), lambda rows: met.rows(rows % places))

    def met_by(self, target: Geometry) -> Meeting:
        met = meet(target, self.base)
        return ByRow((met.shape[0], len(self)), lambda rows: met.rows(rows).repeat(1, self.channels))

    def arguments(self) -> dict[str, Any]:
        return {"base": self.base, "channels": self.channels}

    def __repr__(self) -> str:
        return f"{self.base!r}.with_channels({self.channels})"
