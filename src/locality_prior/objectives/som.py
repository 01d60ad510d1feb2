"""A layer whose units follow the one that learns most: an update of its weights after each step."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from locality_prior._check import Problem, number, positive, wrong, wrong_type
from locality_prior.geometry import Geometry, Grid
from locality_prior.layers import Locality
from locality_prior.objectives import _given
from locality_prior.objectives.base import WithoutLoss
from locality_prior.objectives.schedules import Strength
from locality_prior.placement import Placed, Placement

#: α and σ fall as e^(DECAY·progress), and not below FLOOR.
DECAY, FLOOR = -3.0, 0.003


def cbsom(
    weight: Tensor, gradient: Tensor, target: Geometry, *, alpha: float = 0.008, sigma: float | None = None
) -> Tensor:
    """The weights after a step of a credit-based self-organising map, in which all units move towards the winner.

    The winner w is the unit whose incoming weights have the largest gradient, argmax_j ‖∂L/∂w_j‖. Every unit moves
    towards it, the nearer on the sheet the more: w_j + α exp(−d_wj²/2σ²)(w_w − w_j). Where all gradients are 0 there is
    no winner, and the weights stay.

    Source: CB-SOM (ICLR 2025), BashivanLab/CBSOM ``code/SOCONV_Class.py``. Differences: their sheets are square, with
    borders; any geometry will do here. Their training script reaches only the convolutions that are direct children of
    the network: in its ResNet-18 the first one alone. Here all placed modules are updated.

    >>> import torch
    >>> import locality_prior as lp
    >>> weight, gradient = torch.tensor([[1.0], [0.0], [0.0]]), torch.tensor([[2.0], [1.0], [0.0]])
    >>> lp.objectives.cbsom(weight, gradient, lp.Grid(1, 3), alpha=0.5, sigma=1.0).flatten()
    tensor([1.0000, 0.3033, 0.0677])

    Args:
        weight: (units, in), or (units, in, …) with a kernel's places.
        gradient: of the loss with respect to the weight, in its shape.
        target: the places of the units.
        alpha: how far the units move, 0 to 1.
        sigma: how far over the sheet they follow, in units of the geometry; None: the root of the number of units,
            the side of a square sheet.

    Returns:
        The new weight, in the weight's shape and dtype.

    Raises:
        ValueError, TypeError: other shapes, or another number of units than the geometry has.
    """
    kept, sheet, _ = _given.weight(weight, target)
    if not isinstance(gradient, Tensor):
        raise wrong_type("gradient", gradient, "a tensor of the weight's shape")
    if gradient.shape != kept.shape:
        raise wrong("gradient", gradient, f"the weight's shape {tuple(kept.shape)}")
    share = number("alpha", alpha, 0.0, 1.0)
    width = math.sqrt(len(sheet)) if sigma is None else positive("sigma", sigma)
    wide = torch.float64 if kept.dtype == torch.float64 else torch.float32
    now = kept.to(wide)
    size = gradient.to(wide).flatten(1).norm(dim=1)
    # kept as a tensor of one entry: to make a number of it, the CPU would have to wait for a GPU
    winner = size.argmax().reshape(1)
    near = share * torch.exp(-_squares(sheet, winner, wide) / (2 * width**2))
    near = torch.where(size.amax() > 0, near, 0.0)
    step = near.reshape(-1, *(1,) * (kept.dim() - 1)) * (now.index_select(0, winner) - now)
    return (now + step).to(kept.dtype)


class CBSOM(WithoutLoss):
    """The update of :func:`cbsom`, made by :meth:`after_step` in the weights of each placed module.

    There is no loss: call ``after_step(progress)`` after the optimiser's step and before its ``zero_grad``. In the
    course of training α and σ fall as e^(−3·progress), but not below 0.003, as in the authors' code. Where a locality
    layer has no wire its weight stays 0.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64))
    >>> organise = lp.objectives.CBSOM(lp.place(net, {"0": lp.Grid(8, 8)}))
    >>> net(torch.randn(5, 4)).square().mean().backward()
    >>> organise.after_step(progress=0.0)

    Args:
        placed: linear layers and convolutions (by their channels), of torch or with a prior, whose raw weights are
            then updated.
        strength: α at the start. Where it is below the floor of 0.003 it does not fall.
        sigma: σ at the start, in units of the geometry; None: the root of the number of units.

    Raises:
        ValueError: another module, a sparse layer, or weights that a parametrization computes.
    """

    WORD = "cbsom"

    def __init__(self, placed: Placement, strength: float | Strength = 0.008, *, sigma: float | None = None) -> None:
        super().__init__(placed, strength, sigma=None if sigma is None else positive("sigma", sigma))
        for name in placed:
            _check_module(placed, placed[name])

    @torch.no_grad()
    def after_step(self, progress: float | None = None) -> None:
        """Move the weights towards the winners', by the gradients of the step that was just made.

        Args:
            progress: the share of training that is done, 0 to 1.

        Raises:
            ValueError: no progress.
            Problem: a module without a gradient.
        """
        if progress is None:
            raise wrong("progress", None, "the share of training that is done, 0 to 1")
        start, fallen = self.weight(progress), math.exp(DECAY * progress)
        alpha = min(1.0, max(start * fallen, min(FLOOR, start)))
        for name in self.placed:
            module, sheet = self.placed[name].module, self.placed[name].geometry
            weight = module.get_parameter("weight") if "weight" in module._parameters else None
            if weight is None or weight.grad is None:
                raise Problem(
                    f"The weight of {name} has no gradient, so CBSOM cannot tell which unit learned most. Call "
                    "after_step() after the optimiser's step and before its zero_grad(), and place modules that are "
                    "trained, with weights of their own."
                )
            begin = self.options["sigma"] or math.sqrt(len(sheet))
            sigma = max(begin * fallen, FLOOR)
            after = cbsom(weight, weight.grad, sheet, alpha=alpha, sigma=sigma)
            if isinstance(module, Locality):
                support = module.wirings()[0].support
                after = after if support is None else after * support
            weight.copy_(after)


def _check_module(placement: Placement, placed: Placed) -> None:
    module = placed.module
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    wirings = module.wirings() if isinstance(module, Locality) else []
    single = isinstance(module, kinds) or (len(wirings) == 1 and wirings[0].name == "weight")
    if not single or any(wiring.sparse for wiring in wirings):
        raise wrong(
            "placed",
            f"{placed.name}, a {'sparse ' * any(w.sparse for w in wirings)}{type(module).__name__}",
            "linear layers and convolutions with weights for all pairs of units, as with backend='dense'",
        )
    if "weight" not in module._parameters:
        raise wrong("placed", f"{placed.name}, whose weights a parametrization computes", "weights of its own")
    placement.matrices(placed.name)  # raises where the units are no channels


def _squares(sheet: Geometry, unit: Tensor, dtype: torch.dtype) -> Tensor:
    """Squared distances of all units from one, whose number is in a tensor of one entry; there is no wait for it."""
    # compiled code cannot use a cache, and positions that learn must not
    find = _places.__wrapped__ if torch.compiler.is_compiling() or sheet.learned else _places
    places, period, squares = find(sheet, dtype, unit.device)
    if squares is not None:
        return squares.index_select(0, unit)[0]
    assert places is not None
    apart = (places - places.index_select(0, unit)).abs()
    if period is not None:
        apart = torch.minimum(apart, (period - apart).abs())
    return apart.square().sum(1)


@lru_cache(maxsize=32)
def _places(
    sheet: Geometry, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Coordinates and the length of each axis that closes (inf for others), or all squared distances."""
    if not isinstance(sheet, Grid) and not sheet.euclidean:
        return None, None, sheet.distances().square().to(device, dtype)
    places = sheet.positions.to(device, dtype)
    if not isinstance(sheet, Grid) or sheet.euclidean:
        return places, None, None
    spacing = sheet.spacing or (1.0,) * len(sheet.shape)
    around = [n * s if p else math.inf for n, s, p in zip(sheet.shape, spacing, sheet.periodic, strict=True)]
    return places, torch.tensor(around, dtype=dtype, device=device), None
