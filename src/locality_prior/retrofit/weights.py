"""The raw weights of an effective weight, W = V / P, and what they are counted by."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from locality_prior._check import wrong
from locality_prior.layers import Locality, LocalityLinear, Wiring
from locality_prior.prior import aside

#: A signal below this counts as no wire where a weight is divided by it.
LEAST = 1e-6


def dropped(layer: Locality, module: nn.Module) -> float:
    """The share of Σ|V| where there will be no wire to carry it."""
    weights = [(w, module.get_parameter(w.name)) for w in layer.wirings()]
    total = sum(float(v.detach().double().abs().sum()) for _, v in weights)
    lost = total - sum(raw(layer, w, v)[1] for w, v in weights)
    return lost / total if lost > 1e-12 * total else 0.0


def raw(layer: Locality, wiring: Wiring, v: Tensor) -> tuple[Tensor, float]:
    """W = V / P of one weight, and Σ|V| over its wires."""
    with aside():
        return _raw_aside(layer, wiring, v.detach())


def _raw_aside(layer: Locality, wiring: Wiring, v: Tensor) -> tuple[Tensor, float]:
    rule = wiring.rule
    if wiring.sparse:
        assert isinstance(layer, LocalityLinear)
        assert layer.pattern is not None
        return _divided(layer.pattern.gather(v), rule.signals(torch.float64, v.device))
    if not isinstance(layer, LocalityLinear):
        return _divided(v, wiring.spread(rule.dense(device=v.device).detach()))
    rows = torch.split(torch.arange(rule.shape[0]), max(1, (1 << 22) // rule.shape[1]))
    blocks = [_divided(v[r.to(v.device)], rule.rows(r).detach().to(v.device)) for r in rows]
    return torch.cat([w for w, _ in blocks]), sum(kept for _, kept in blocks)


def _divided(v: Tensor, p: Tensor) -> tuple[Tensor, float]:
    """V / P where there is a wire, else 0; and Σ|V| over the wires."""
    there = p >= LEAST
    w = torch.where(there, v.double() / torch.where(there, p, 1.0), 0.0).to(v.dtype)
    if v.isfinite().all() and not w.isfinite().all():
        least = float(p[there].min())
        raise wrong("cost", f"a signal as low as {least:.1e}", f"one for which W = V/P is finite in {v.dtype}")
    return w, float((v.double().abs() * there).sum())


def pairs(wiring: Wiring) -> int:
    """Pairs that a weight has entries for: in a grouped convolution, those within groups."""
    out, features = wiring.rule.shape
    return out * (wiring.weight.shape[1] if wiring.weight.dim() == 4 else features)


def wires(wiring: Wiring) -> int:
    """Pairs of :func:`pairs` that a wire joins."""
    rule, count = wiring.rule, pairs(wiring)
    if not rule.bounded:
        return count
    if count == math.prod(rule.shape):
        return rule.wires().count
    return int((wiring.spread(rule.dense()) > 0).sum())
