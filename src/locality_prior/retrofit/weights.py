"""The raw weights of an effective weight, W = V / P, and how much of V they lose."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from locality_prior._check import wrong
from locality_prior.layers import Locality, LocalityLinear, Wiring
from locality_prior.prior import Prior, aside

#: A signal below this counts as no wire where a weight is divided by it.
LEAST = 1e-6


class Losses:
    """How much of Σ|V| layers lose when W = V / P; what is known of a prior is computed once."""

    def __init__(self) -> None:
        self._least: dict[Prior, float] = {}

    def dropped(self, layer: Locality, module: nn.Module) -> float | None:
        """The share of Σ|V| on pairs that have no wire; None where the weights are on the meta device.

        Raises:
            ValueError: a W that is not finite in the weight's dtype.
        """
        weights = [(w, module.get_parameter(w.name)) for w in layer.wirings()]
        if any(v.is_meta for _, v in weights):
            return None
        if all(self._keeps_all(w.rule, v) for w, v in weights):
            return 0.0
        total = sum(float(v.detach().double().abs().sum()) for _, v in weights)
        lost = total - sum(raw(layer, w, v)[1] for w, v in weights)
        return lost / total if lost > 1e-12 * total else 0.0

    def _keeps_all(self, rule: Prior, v: Tensor) -> bool:
        """Whether every pair has a wire and V / P is surely finite: then nothing need be computed weight by weight."""
        if rule.bounded:
            return False
        if rule not in self._least:
            self._least[rule] = _least(rule)
        least = self._least[rule]
        return least >= LEAST and bool((v.detach().abs().max().double() / least).to(v.dtype).isfinite())


def _least(rule: Prior) -> float:
    """A lower bound of the signals of a prior in which every pair has a wire."""
    if rule.flat:
        return 1.0
    with aside():
        table = rule.table()
        if table is not None:
            scale = 1.0 if table.row_scale is None else float(table.row_scale.min())
            return float(table.values.min()) * scale
        return min(float(rule.rows(rows).detach().min()) for rows in _blocks(rule))


def _blocks(rule: Prior) -> tuple[Tensor, ...]:
    return torch.split(torch.arange(rule.shape[0]), max(1, (1 << 22) // rule.shape[1]))


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
    blocks = [_divided(v[r.to(v.device)], rule.rows(r).detach().to(v.device)) for r in _blocks(rule)]
    return torch.cat([w for w, _ in blocks]), sum(on_wires for _, on_wires in blocks)


def _divided(v: Tensor, p: Tensor) -> tuple[Tensor, float]:
    """V / P where there is a wire, else 0; and Σ|V| over the wires."""
    there = p >= LEAST
    w = torch.where(there, v.double() / torch.where(there, p, 1.0), 0.0).to(v.dtype)
    if v.isfinite().all() and not w.isfinite().all():
        least = float(p[there].min())
        raise wrong("cost", f"a signal as low as {least:.1e}", f"one for which W = V/P is finite in {v.dtype}")
    return w, float((v.double().abs() * there).sum())


def pairs(wiring: Wiring) -> int:
    """How many pairs of units a weight has entries for: in a grouped convolution, those within groups."""
    out, features = wiring.rule.shape
    return out * (wiring.weight.shape[1] if wiring.weight.dim() == 4 else features)


def wires(wiring: Wiring) -> int:
    """How many of the :func:`pairs` have a wire."""
    rule, count = wiring.rule, pairs(wiring)
    if not rule.bounded:
        return count
    if count == math.prod(rule.shape):
        return rule.wires().count
    return int((wiring.spread(rule.dense()) > 0).sum())
