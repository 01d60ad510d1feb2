"""An objective that keeps units apart whose positions learn."""

from __future__ import annotations

import torch
from torch import Tensor

from locality_prior._check import instance, positive, wrong
from locality_prior.geometry import Points
from locality_prior.geometry.learned import between, length


def apart(points: Points, *, distance: float = 1.0) -> Tensor:
    """1/n Σ_i Σ_{j≠i} max(0, 1 − d_ij/δ)²: how far the units of a sheet are from being δ apart.

    A signal is strongest between units at the same place, so units whose positions learn may all come together there.
    To keep them apart, add this to the loss, with a strength of your choice. It and its gradient are 0 if no two units
    are nearer to each other than δ. Its gradient is also 0 between units at exactly the same place: begin with
    different places.

    >>> import torch
    >>> import locality_prior as lp
    >>> points = lp.Points(torch.tensor([[0.0], [0.5], [3.0]]), learned=True)
    >>> lp.objectives.apart(points)  # (½² + ½²) / 3: two units are only 0.5 apart
    tensor(0.1667, grad_fn=<MulBackward0>)

    Args:
        points: units whose positions learn.
        distance: δ, above 0, in the coordinates' unit of length.

    Returns:
        A differentiable scalar. At the same density of units, it does not grow with their number.

    Raises:
        ValueError, TypeError: points that do not learn, or a distance that is not above 0.
    """
    xyz = instance("points", points, Points, "points that learn, such as Points(xyz, learned=True)").parameter
    if xyz is None:
        raise wrong("points", repr(points), "points that learn, such as Points(xyz, learned=True)")
    reach = positive("distance", distance)
    if callable(points.metric):
        d = between(xyz, xyz, points.metric)
        near = (1 - d / reach).clamp(min=0).square()
        return (near.sum() - near.diagonal().sum()) / len(points)
    # few pairs are near, and the gradient is computed for these alone
    with torch.no_grad():
        pairs = torch.cat([_near(xyz, k, points.metric, reach) for k in range(0, len(points), BLOCK)], 1)
    d = length(xyz[pairs[0]] - xyz[pairs[1]], points.metric)
    return (1 - d / reach).square().sum() * (2 / len(points))


#: How many units are compared with all others at once.
BLOCK = 256


def _near(xyz: Tensor, first: int, metric: str, reach: float) -> Tensor:
    """The pairs (2, p) of a block of units and others of a higher number that are nearer than ``reach``."""
    found = (between(xyz[first : first + BLOCK], xyz, metric) < reach).triu_(first + 1).nonzero().t()
    return torch.stack([found[0] + first, found[1]])
