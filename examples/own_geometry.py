"""A geometry of your own, and a layer on it: a tube that is bent into a U, like a gut.

Units that face each other across the bend are near in space but far along the tube, and wires run along the tube.
"""

import math

import torch

import locality_prior as lp
from locality_prior.geometry import Coordinates
from locality_prior.testing import check_geometry


class FoldedTube(lp.Geometry):
    """``rings`` rings of ``around`` units on a tube of radius 1, bent in its middle third into half a circle.

    The distance between two units is that on the unrolled tube, √(Δs² + Δφ²), the shorter way round.
    """

    def __init__(self, rings, around):
        self.rings, self.around = rings, around

    def __len__(self):
        return self.rings * self.around

    def unrolled(self):
        """The place of each unit along the tube and its angle around it, (n, 2)."""
        angles = torch.arange(self.around, dtype=torch.float64) * 2 * math.pi / self.around
        along = torch.arange(self.rings, dtype=torch.float64) * 2 * math.pi / self.around  # rings as far apart as units
        return torch.cartesian_prod(along, angles)

    @property
    def positions(self):
        s, angle = self.unrolled().T
        third = self.rings * 2 * math.pi / self.around / 3
        turn = ((s - third) / third).clamp(0, 1) * math.pi  # how far the bend has come
        bend, past = third / math.pi, (s - 2 * third).clamp(min=0)
        x, z = s.clamp(max=third) + (bend + angle.cos()) * turn.sin() - past, (bend + angle.cos()) * -turn.cos()
        return torch.stack([x, angle.sin(), z], dim=1)

    def meet(self, source):
        if isinstance(source, FoldedTube):
            return Coordinates(self.unrolled(), source.unrolled(), along_the_tube)

    def arguments(self):
        return {"rings": self.rings, "around": self.around}


def along_the_tube(a, b):
    turn = (a[:, None, 1] - b[:, 1]).remainder(2 * math.pi)
    return torch.hypot(a[:, None, 0] - b[:, 0], torch.minimum(turn, 2 * math.pi - turn))


if __name__ == "__main__":
    tube = FoldedTube(30, 12)
    check_geometry(tube, FoldedTube(30, 12))  # raises if it breaks one of the rules that the library relies on
    space = torch.cdist(tube.positions, tube.positions)
    across = (tube.distances() - space).argmax()
    i, j = divmod(int(across), len(tube))
    print(f"units {i} and {j}: {space[i, j]:.1f} apart in space, {tube.distances()[i, j]:.1f} along the tube")

    layer = lp.LocalityLinear(360, 360, source=tube, target=tube, cost="linear@2")
    print(layer)
    lengths = lp.analysis.wire_lengths(layer.effective_weight.detach(), tube)
    print(f"mean wire length {lengths.mean:.2f}")
