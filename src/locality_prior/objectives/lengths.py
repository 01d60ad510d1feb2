"""The cost of a layer's wires, computed from its weights: a penalty to train with, and a length to report.

With V = P∘W, |W_ij| = c(d_ij)|V_ij| / r_i. Without rescaling, L1 decay of W is therefore a wiring cost on V,
λ‖W‖₁ = λ Σ c|V|; with the linear cost this is the distance-weighted L1 of the literature. Sums run over wires.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from locality_prior._check import wrong
from locality_prior.cost import Cost, as_cost
from locality_prior.layers import Wiring, locality_layers


def wiring_cost(model: nn.Module, cost: Cost | str | None = None) -> Tensor:
    """Σ c(d_ij) |V_ij| over the wires of all locality layers in ``model``: a differentiable scalar.

    >>> import torch
    >>> import locality_prior as lp
    >>> layer = lp.LocalityLinear(3, 3, source=lp.Line(3), target=lp.Line(3), cost="flat")
    >>> _ = torch.nn.init.ones_(layer.weight)
    >>> lp.wiring_cost(layer, cost="linear")  # 3 · 1 + 4 · 2 + 2 · 3
    tensor(17., grad_fn=<SumBackward0>)

    Args:
        model: a layer, or a model that has some.
        cost: charge this cost, or the cost of that word, instead of each layer's own. A control, whose own cost is
            flat, can be charged in this way.

    Raises:
        ValueError: there is no locality layer, or the cost of a wire that is there is not finite.
    """
    other = None if cost is None else as_cost("cost", cost)
    return torch.stack([_charged(w, w.rule.cost if other is None else other) for w in _wirings(model)]).sum()


def weight_l1(model: nn.Module) -> Tensor:
    """‖W‖₁ = Σ |W_ij| over the wires of all locality layers in ``model``: a differentiable scalar.

    Without rescaling it equals :func:`wiring_cost`; with rescaling |W_ij| = c(d_ij)|V_ij| / r_i.

    >>> import torch
    >>> import locality_prior as lp
    >>> layer = lp.LocalityLinear(3, 3, source=lp.Line(3), target=lp.Line(3), cost="linear@1")
    >>> _ = torch.nn.init.ones_(layer.weight)
    >>> lp.weight_l1(layer)  # two of the nine pairs have no wire
    tensor(7., grad_fn=<SumBackward0>)

    Raises:
        ValueError: there is no locality layer.
    """
    return torch.stack([wiring.raw.sum() for wiring in _wirings(model)]).sum()


def mean_wire_length(model: nn.Module) -> Tensor:
    """Σ d_ij |V_ij| / Σ |V_ij| over the wires of all locality layers in ``model``: a differentiable scalar.

    It does not depend on the scale of V. Lengths are in units of each layer's source spacing. NaN where all of V is 0.

    >>> import torch
    >>> import locality_prior as lp
    >>> layer = lp.LocalityLinear(3, 3, source=lp.Line(3), target=lp.Line(3), cost="flat")
    >>> _ = torch.nn.init.ones_(layer.weight)
    >>> lp.mean_wire_length(layer)  # of nine wires, four have length 1 and two have length 2
    tensor(0.8889, grad_fn=<DivBackward0>)

    Raises:
        ValueError: there is no locality layer.
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
    # computed as r|W|, which equals c|V| and cannot overflow where c is very large
    scale = wiring.row_scale()
    return wiring.raw.sum() if scale is None else (wiring.raw * scale).sum()


def _wirings(model: nn.Module) -> list[Wiring]:
    wirings = [wiring for _, layer in locality_layers(model) for wiring in layer.wirings()]
    if not wirings:
        raise wrong("model", type(model).__name__, "a model with a locality layer")
    return wirings
