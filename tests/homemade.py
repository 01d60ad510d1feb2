"""A geometry and a cost of a user's own, in a module without ``from __future__ import annotations``."""

import math
from dataclasses import dataclass

import torch

from locality_prior.cost import Cost
from locality_prior.geometry import Coordinates, Geometry


class Cylinder(Geometry):
    """Units around a cylinder of radius 1, at angles (n,) and heights (n,)."""

    def __init__(self, angles, heights, power=2):
        self.angles = torch.as_tensor(angles, dtype=torch.float64)
        self.heights = torch.as_tensor(heights, dtype=torch.float64)
        self.power = power

    def __len__(self):
        return len(self.angles)

    @property
    def positions(self):
        return torch.stack([self.angles, self.heights], dim=1)

    def meet(self, source):
        if isinstance(source, Cylinder):
            return Coordinates(self.positions, source.positions, around)
        return None

    def arguments(self):
        return {"angles": self.angles, "heights": self.heights, "power": self.power}


def around(a, b):
    turn = (a[:, None, 0] - b[None, :, 0]).abs() % (2 * math.pi)
    turn = torch.minimum(turn, 2 * math.pi - turn)
    return torch.hypot(turn, a[:, None, 1] - b[None, :, 1])


@dataclass(frozen=True, repr=False)
class Logarithmic(Cost):
    """c(d) = 1 + log(1 + d/ℓ)."""

    length: float = 1.0

    def cost_of(self, d):
        return 1 + torch.log1p(d / self.length)
