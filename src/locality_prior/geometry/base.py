"""What every geometry is: places for units, and the distances between them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NoReturn

import torch
from torch import Tensor

from locality_prior._check import wrong


class Geometry(ABC):
    """Places for units, and the distances between them. Immutable; equal when made equal."""

    #: True where squared distances are squared Euclidean distances between ``positions``.
    euclidean: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """How many units."""

    @property
    @abstractmethod
    def positions(self) -> Tensor:
        """Coordinates of every unit, (n, d) float64; ValueError where a geometry knows distances alone."""

    @property
    def neighbour_distance(self) -> float:
        """Distance between neighbouring units: the median over units of the distance to the nearest other place."""
        d = self.distances()
        nearest = torch.where((d > 0) & d.isfinite(), d, math.inf).min(dim=1).values
        nearest = nearest[nearest.isfinite()]
        return float(nearest.median()) if len(nearest) else 1.0

    def distances(self, other: Geometry | None = None, rows: Tensor | None = None) -> Tensor:
        """Length of the wire from each unit of ``other`` to each unit of this geometry.

        Args:
            other: the source geometry; this one is the target and is laid onto it. None: this geometry itself.
            rows: numbers of the target units wanted, (r,); None: all of them.

        Returns:
            (len(self), len(other)), or (r, len(other)), float64 on the CPU, in units of ``other``'s spacing
            (physical where a ``spacing`` or coordinates are given); inf where there is no way between two units.

        Raises:
            ValueError: the two geometries cannot meet.
        """
        from locality_prior.geometry.meeting import meet  # here, since it knows every kind and each is a Geometry

        source = self if other is None else other
        if rows is None:
            rows = torch.arange(len(self))
        elif len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) < len(self)):
            raise wrong("rows", f"{int(rows.min())} to {int(rows.max())}", f"units from 0 to {len(self) - 1}")
        return meet(self, source, rows)

    def with_channels(self, channels: int) -> Geometry:
        """``channels`` units at each place, ordered as flattened convolution features: channel by channel."""
        from locality_prior.geometry.channels import Channels  # here, since Channels is a Geometry

        return Channels(self, channels)

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values (JSON, YAML) from which :func:`from_config` makes an equal geometry."""

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and self.config() == other.config())

    def __hash__(self) -> int:
        return hash((type(self).__name__, len(self)))

    def __deepcopy__(self, memo: Any) -> Geometry:
        return self  # immutable


def cannot_meet(target: Geometry, source: Geometry, why: str) -> NoReturn:
    raise ValueError(f"target: got {target!r} opposite source {source!r}, which cannot meet: {why}")
