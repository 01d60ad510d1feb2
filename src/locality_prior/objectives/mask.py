"""A layer whose units are wired to their neighbours alone: a mask on its weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from locality_prior._check import boolean, instance, number, wrong
from locality_prior.cost import Flat
from locality_prior.geometry import Geometry
from locality_prior.layers import Locality
from locality_prior.objectives import _given
from locality_prior.objectives.base import WithoutLoss
from locality_prior.objectives.schedules import Strength
from locality_prior.placement import Placed, Placement
from locality_prior.prior import Prior


def topoformer_mask(target: Geometry, source: Geometry | None = None, share: float = 0.3) -> Tensor:
    """Which wires there are where each unit reaches a disc that holds ``share`` of the source sheet.

    M_ij = 1 where d_ij ≤ √(share/π)·side, else 0; side is the root of the source sheet's area, in which each unit has
    a square of its own. This is the support of a flat cost within that radius: ``localize(…, cost="flat@r")``.

    Source: Topoformer (2024), TahaBinhuraib/topoformer ``topoformer/models/custom_layers.py`` and ``constraints.py``.
    Differences: their sheets are square tori, which are ``Grid(n, n, periodic=True)`` here; any grids that meet will
    do, and on a sheet with borders a disc near one holds fewer units. For their spatial querying, (Q M) Kᵀ,
    multiply the queries by this mask, as a floating-point tensor over its norm.

    >>> import locality_prior as lp
    >>> mask = lp.objectives.topoformer_mask(lp.Grid(6, 6, periodic=True), share=0.2)
    >>> mask[0].reshape(6, 6).int()
    tensor([[1, 1, 0, 0, 0, 1],
            [1, 1, 0, 0, 0, 1],
            [0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0],
            [1, 1, 0, 0, 0, 1]], dtype=torch.int32)

    Args:
        target: the places of the units, which meet the source.
        source: the places of the units that the wires come from, a whole grid of two axes; None: the target.
        share: above 0 and at most 1. A disc that holds all of a square would be wider than the square: a share of 1
            still leaves its corners out.

    Returns:
        (out, in), boolean, on the CPU.

    Raises:
        ValueError: geometries that do not meet, no grid, or a target unit that no wire reaches.
    """
    at = instance("target", target, Geometry, "a geometry, such as Grid(7, 7)")
    start = instance("source", at if source is None else source, Geometry, "a geometry, or None")
    sheet = _given.plane("target" if source is None else "source", start)
    if number("share", share, 0.0, 1.0) == 0:
        raise wrong("share", share, "above 0 and at most 1")
    return Prior(start, at, Flat().within(mask_radius(sheet, share))).dense(torch.bool)


def mask_radius(source: Geometry, share: float) -> float:
    """How far the wires of :func:`topoformer_mask` reach, in units of the source's spacing."""
    sheet = _given.plane("source", source)
    area = math.prod(n * s for n, s in zip(sheet.shape, sheet.spacing or (1.0, 1.0), strict=True))
    return math.sqrt(share * area / math.pi)


class Mask(WithoutLoss):
    """Put :func:`topoformer_mask` on the weights of each placed module: it computes with W∘M.

    There is no loss. The weight becomes a parametrization of torch: the optimiser sees the same parameter W as before,
    whose gradient is 0 where there is no wire, under the name ``parametrizations.weight.original`` in a state dict. In
    attention the projections of queries, keys, values and outputs are masked.

    Source and differences: as in :func:`topoformer_mask`. With ``absolute`` the module computes with |W∘M|; their
    code writes this back into W at each step, and first multiplies the initial weights by 10, which is left out.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 64))
    >>> masked = lp.objectives.Mask(lp.place(net, {"0": lp.Grid(8, 8, periodic=True)}))
    >>> int((net[0].weight != 0).sum(1).unique())
    21
    >>> masked.remove()
    >>> int((net[0].weight != 0).sum())
    4096

    Args:
        placed: linear layers, convolutions (by their channels) and attention modules of torch, whose sources are known:
            place a module with a pair (source, target) where it has other inputs than units.
        strength: the ``share`` of :func:`topoformer_mask`, which cannot change during training.
        absolute: whether the module computes with absolute weights.
        normalise: whether M is divided by its Frobenius norm.

    Raises:
        ValueError: a module without such weights, a locality layer (give it the cost ``flat@radius``), a weight that a
            parametrization computes already, an unknown source, or a strength that is 0, above 1 or changes.
    """

    WORD = "mask"

    def __init__(
        self,
        placed: Placement,
        strength: float | Strength = 0.3,
        *,
        absolute: bool = False,
        normalise: bool = False,
    ) -> None:
        absolute, normalise = boolean("absolute", absolute), boolean("normalise", normalise)
        super().__init__(placed, strength, absolute=absolute, normalise=normalise)
        share = self.fixed(self.WORD, most=1.0)
        masks = [found for name in placed for found in _masks(placed, placed[name], share)]
        self._masked: list[tuple[nn.Module, str]] = []
        for module, name, mask in masks:
            masking = _Masking(mask.to(getattr(module, name).device), absolute, normalise)
            parametrize.register_parametrization(module, name, masking)
            self._masked.append((module, name))

    def remove(self) -> None:
        for module, name in self._masked:
            parametrize.remove_parametrizations(module, name, leave_parametrized=False)
        self._masked = []


class _Masking(nn.Module):
    """W → W∘M, or |W∘M|, over ‖M‖ where it is to be normalised."""

    mask: Tensor

    def __init__(self, mask: Tensor, absolute: bool, normalise: bool) -> None:
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)
        self.absolute = absolute
        self.scale = 1 / math.sqrt(int(mask.sum())) if normalise else 1.0

    def forward(self, weight: Tensor) -> Tensor:
        kept = weight * self.mask
        if self.absolute:
            kept = kept.abs()
        return kept if self.scale == 1 else kept * self.scale


def _masks(placement: Placement, placed: Placed, share: float) -> list[tuple[nn.Module, str, Tensor]]:
    """The weights of a module that are masked, and their masks, in the shape of a weight or one that broadcasts."""
    module, name = placed.module, placed.name
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)
    if isinstance(module, Locality) or not isinstance(module, kinds):
        given = f"{name}, a {type(module).__name__}"
        expected = "a linear layer, convolution or attention module of torch; a locality layer takes the cost flat@r"
        raise wrong("placed", given, expected)
    if isinstance(module, nn.MultiheadAttention):
        owners: list[tuple[nn.Module, str]] = [(module, "in_proj_weight"), (module.out_proj, "weight")]
    else:
        owners = [(module, "weight")]
    if any(weight not in owner._parameters for owner, weight in owners):
        raise wrong("placed", f"{name}, whose weights a parametrization computes", "weights of its own")
    found = []
    for between in placement.matrices(name):
        if between.source is None:
            given = f"{name}, whose {between.weight.shape[1]} inputs have no places"
            raise wrong("placed", given, "a module placed with a pair (source, target)")
        mask = topoformer_mask(between.target, between.source, share)
        found.append(mask.reshape(mask.shape + (1,) * (between.weight.dim() - 2)))
    each = found if len(owners) == 1 else [torch.cat(found[:3]), found[3]]
    return [(*owner, mask) for owner, mask in zip(owners, each, strict=True)]
