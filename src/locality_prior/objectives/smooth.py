"""Smooth sheets of weights: the neighbours of a unit receive what it receives (All-TNN)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from locality_prior._check import boolean
from locality_prior.geometry import Geometry, Grid, Permuted
from locality_prior.objectives import _given
from locality_prior.objectives._neighbours import Neighbours, in_order, listed, of_grid
from locality_prior.objectives._precision import not_half, precise
from locality_prior.objectives.base import OfWeights
from locality_prior.objectives.schedules import Strength
from locality_prior.placement import Placement


def smoothness(weight: Tensor, target: Geometry, *, bias: Tensor | None = None, circular: bool = True) -> Tensor:
    """(1 − ½(mean cos(w_u, w_below) + mean cos(w_u, w_right))) / 2, between 0 and 1.

    w_u is the row of incoming weights of unit u, with its bias as one more entry if there is one; *below* and *right*
    are the next units along the two axes of a grid.

    The loss of All-Topographic Neural Networks (Lu et al., Nature Human Behaviour 2025; KietzmannLab/All-TNN ·
    ``tnn_helper_functions.py``), there multiplied by α. What differs:

    - Pairs with a row of zeros have no cosine and are left out of the mean; there they count as 0.
    - A grid may have any number of axes: the mean is over the axes of more than one unit.
    - On any other geometry, and on a grid with empty cells, there is one mean, over all pairs of units at different
      places that are at most 1.5 neighbour distances apart (1 on a grid). ``circular`` has no effect there.

    >>> import torch
    >>> import locality_prior as lp
    >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> lp.objectives.smoothness(rows, lp.Grid(2, 2))  # alike from left to right, and not from top to bottom
    tensor(0.2500)

    Args:
        weight: (units, in), or (units, in, …), whose rows are flattened.
        target: where the units lie.
        bias: (units,), or None.
        circular: whether the last row and column of a grid are neighbours of the first, as in the authors' code;
            otherwise only along its periodic axes.

    Returns:
        A scalar; 0 where no pair has a cosine. float32, or float64 for float64.

    Raises:
        ValueError, TypeError: sizes that do not fit.
    """
    weight, target, _ = _given.weight(weight, target)
    circular = boolean("circular", circular)
    pairs = _neighbours(target, circular).to(weight.device)
    with not_half(weight):
        rows = precise(weight.flatten(1))
        return pairs.differ(rows, None if bias is None else precise(_given.bias(bias, target)).to(rows.dtype)) / 2


class Smoothness(OfWeights):
    """α · :func:`smoothness` of each placed module's incoming weights, with its bias, summed over the modules.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU())
    >>> objective = lp.objectives.Smoothness(lp.place(net, {"0": lp.Grid(8, 8)}), strength=1.0, circular=False)
    >>> loss = net(torch.randn(32, 4)).square().mean() + objective()
    >>> loss.backward()

    Args:
        placed: the modules, and where their units are.
        strength: α; the paper has 1, 10 and 100.
        circular: whether the last row and column of a grid are neighbours of the first.
    """

    WORD: ClassVar[str] = "smoothness"
    circular: bool

    def __init__(self, placed: Placement, strength: float | Strength = 10.0, *, circular: bool = True) -> None:
        super().__init__(placed, strength, circular=boolean("circular", circular))

    def of(self, name: str) -> Tensor:
        placed = self.placed[name]
        bias = bias_of(placed.module, len(placed.geometry))
        return smoothness(self.placed.weights(name), placed.geometry, bias=bias, circular=self.circular)


def bias_of(module: nn.Module, units: int) -> Tensor | None:
    """A module's bias, one for each unit; None where there is none."""
    inside = module.out_proj if isinstance(module, nn.MultiheadAttention) else module
    bias: Any = getattr(inside, "bias", None)
    return bias if isinstance(bias, Tensor) and bias.shape == (units,) else None


def _neighbours(geometry: Geometry, circular: bool) -> Neighbours:
    """The pairs along each axis of a grid; elsewhere, units that are near."""
    if isinstance(geometry, Permuted):
        return in_order(geometry, _neighbours, circular)
    if not isinstance(geometry, Grid):
        return listed("target", geometry, 1.5)
    if not geometry.whole:
        return listed("target", geometry, 1.0)
    axes = len(geometry.shape)
    steps = [tuple(int(a == axis) for a in range(axes)) for axis in range(axes)]
    return of_grid(geometry, steps, (True,) * axes if circular else geometry.periodic)
