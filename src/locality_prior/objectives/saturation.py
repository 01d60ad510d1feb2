"""A cost of wires that saturates: a strong wire pays for its length alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from locality_prior._check import boolean, choice, wrong
from locality_prior.geometry import Channels, Geometry, Grid, Measured, Permuted
from locality_prior.objectives import _given
from locality_prior.objectives._kept import kept
from locality_prior.objectives._precision import not_half, precise
from locality_prior.objectives._wires import between_sheets, connected, over_kernel
from locality_prior.objectives.base import OfWeights
from locality_prior.objectives.schedules import Strength
from locality_prior.placement import Placement

#: Which sum is taken.
VARIANTS = ("jacobs", "linear", "wiring")


def saturating(
    weight: Tensor,
    target: Geometry,
    source: Geometry | None = None,
    *,
    variant: str = "jacobs",
    relative: bool = True,
) -> Tensor:
    """Σ_ij d_ij² w_ij² / (1 + w_ij²) over all pairs of a target and a source unit, or a variant of it.

    ===========  ========================
    variant      summed over pairs
    ===========  ========================
    ``jacobs``   d² w² / (1 + w²)
    ``linear``   d w² / (1 + w²)
    ``wiring``   d |w|
    ===========  ========================

    Source: Jacobs & Jordan, *Computational consequences of a bias toward short connections* (1992), for the first, with
    d as it is (``relative=False``); Blauch, Behrmann & Plaut, *A connectivity-constrained computational account of
    topographic organization in primate high-level visual cortex* (PNAS 2022; viscog-cmu/ITN ·
    topographic/utils/training.py) for all three, with d as a share of the sheet's side. Difference: the authors add up
    a kernel's entries before they square; here each entry pays, so that entries of opposite sign do not cancel. Their
    networks have excitatory and inhibitory units, and their optimiser has no weight decay where λ > 0. Neither is part
    of this function.

    >>> import torch
    >>> import locality_prior as lp
    >>> weight = torch.tensor([[5.0, 1.0], [3.0, 5.0]])
    >>> lp.objectives.saturating(weight, lp.Line(2)), lp.objectives.saturating(weight, lp.Line(2), relative=False)
    (tensor(0.3500), tensor(1.4000))

    Args:
        weight: w, (out, in), or (out, in, …) with a kernel.
        target: the places of the rows.
        source: the places of the columns; None: the target.
        variant: "jacobs", "linear" or "wiring".
        relative: whether d is a share of the longest side of the source's sheet. That is the number of cells along the
            longest axis of a grid, times its spacing; for other geometries the longest extent of the positions along
            an axis, and one distance between neighbours more.

    Raises:
        ValueError, TypeError: a geometry without positions where ``relative``, units that are not connected, or a
            weight that does not fit the geometries.
    """
    found, at, start = _given.with_source(weight, target, source)
    kind, shares = choice("variant", variant, VARIANTS), boolean("relative", relative)
    w = precise(found)
    charges = _charges(at, start, 2 if kind == "jacobs" else 1, shares, w.dtype, w.device)
    if kind == "wiring":
        return (over_kernel(w.abs()) * charges).sum()
    with not_half(w):
        if at.learned or start.learned:
            squared = over_kernel(w.square() / (1 + w.square()))
            return (squared * charges).sum()
        total: Tensor = _Saturating.apply(w, charges.reshape(*charges.shape, *(1,) * (w.dim() - 2)))
        return total


class _Saturating(torch.autograd.Function):
    """Σ c w²/(1 + w²), whose derivative by w is 2cw/(1 + w²)²."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, charges: Tensor) -> Tensor:
        squared = w.square()
        share = (squared + 1).reciprocal_()  # 1/(1 + w²)
        charged = charges * share
        ctx.save_for_backward(w, share, charged)
        return squared.mul_(charged).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        w, share, charged = ctx.saved_tensors
        return (w * share).mul_(charged).mul_(2 * grad), None


class Saturating(OfWeights):
    """:func:`saturating` of the weights into each placed module, all gates of a recurrent one.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU())
    >>> objective = lp.objectives.Saturating(lp.place(net, {"0": (lp.Grid(2, 2), lp.Grid(8, 8))}))
    >>> loss = net(torch.randn(32, 4)).square().mean() + objective()
    >>> loss.backward()

    Args:
        placed: the modules, and the places of their units and of their sources.
        strength: λ; ITN's is 0.5.
        variant: "jacobs", "linear" or "wiring".
        relative: whether lengths are shares of the source sheet's longest side.

    Raises:
        ValueError: a module whose source is not known, or a geometry or an option that does not fit.
    """

    WORD = "saturating"
    variant: str
    relative: bool

    def __init__(
        self, placed: Placement, strength: float | Strength = 0.5, *, variant: str = "jacobs", relative: bool = True
    ) -> None:
        kind, shares = choice("variant", variant, VARIANTS), boolean("relative", relative)
        super().__init__(placed, strength, variant=kind, relative=shares)

    def of(self, name: str) -> Tensor:
        each = [
            saturating(one.weight, one.target, source, variant=self.variant, relative=self.relative)
            for one, source in between_sheets(self.placed, name)
        ]
        return torch.stack(each).sum()


@kept
def _charges(
    target: Geometry, source: Geometry, power: int, relative: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """d^power of every pair, (out, in)."""
    d = connected(target, source, dtype, device) / (_side(source) if relative else 1.0)
    return d.pow(power).to(device, dtype)


def _side(sheet: Geometry) -> float:
    """The longest side of a sheet, in the units of its distances."""
    if isinstance(sheet, (Channels, Permuted)):
        return _side(sheet.base)
    if isinstance(sheet, Grid):
        spacing = sheet.spacing or (1.0,) * len(sheet.shape)
        return max(n * apart for n, apart in zip(sheet.shape, spacing, strict=True))
    if isinstance(sheet, Measured):
        raise wrong("relative", f"True for {sheet!r}, which has no sides", "False")
    places = sheet.positions
    return float((places.amax(0) - places.amin(0)).max()) + sheet.neighbour_distance
