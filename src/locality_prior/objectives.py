"""What a layer's wires cost, from its weights: the penalty to train with, and the length to report.

With V = P∘W, |W_ij| = c(d_ij)|V_ij| / r_i, so that L1 decay on W is, without rescaling, a wiring cost on V:
λ‖W‖₁ = λ Σ c|V|, and with the linear cost the distance-weighted L1 of the literature. Sums run over wires.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from locality_prior._check import wrong
from locality_prior.cost import Cost
from locality_prior.layers import Wiring, locality_layers


def wiring_cost(model: nn.Module, cost: Cost | None = None) -> Tensor:
    """Σ c(d_ij) |V_ij| over the wires of all locality layers in ``model``: differentiable, a scalar.

    Args:
        model: a layer, or a model that has some.
        cost: charged instead of each layer's own, so that a control, whose own cost is flat, can be charged.

    Raises:
        ValueError: no locality layer, or a cost with no finite price for a wire that is there.
    """
    if cost is not None and not isinstance(cost, Cost):
        raise wrong("cost", repr(cost), "a cost, such as locality_prior.cost.Linear()")
    return torch.stack([_charged(w, w.rule.cost if cost is None else cost) for w in _wirings(model)]).sum()


def weight_l1(model: nn.Module) -> Tensor:
    """‖W‖₁ = Σ |W_ij| over the wires of all locality layers in ``model``: differentiable, a scalar.

    Equal to :func:`wiring_cost` where nothing is rescaled; with rescaling |W_ij| = c(d_ij)|V_ij| / r_i.

    Raises:
        ValueError: no locality layer.
    """
    return torch.stack([wiring.raw.sum() for wiring in _wirings(model)]).sum()


def mean_wire_length(model: nn.Module) -> Tensor:
    """Σ d_ij |V_ij| / Σ |V_ij| over the wires of all locality layers in ``model``: a scalar, free of V's scale.

    Lengths are in units of each layer's source spacing. NaN where all of V is 0.

    Raises:
        ValueError: no locality layer.
    """
    sums = []
    for wiring in _wirings(model):
        strength = wiring.strength
        sums.append(torch.stack([(strength * wiring.lengths()).sum(), strength.sum()]))
    weighted, total = torch.stack(sums).sum(0).unbind()
    return weighted / total


def _charged(wiring: Wiring, cost: Cost) -> Tensor:
    if cost != wiring.rule.cost:
        return (wiring.strength * wiring.charges(cost)).sum()
    # c|V| = r|W|, which no distant wire's price can overflow
    scale = wiring.row_scale()
    return wiring.raw.sum() if scale is None else (wiring.raw * scale).sum()


def _wirings(model: nn.Module) -> list[Wiring]:
    wirings = [wiring for _, layer in locality_layers(model) for wiring in layer.wirings()]
    if not wirings:
        raise wrong("model", type(model).__name__, "a model with a locality layer")
    return wirings
