"""The raw weights of an effective weight, W = V / P, and how much of V they lose."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from locality_prior._check import wrong
from locality_prior.layers import Locality, LocalityLinear, Wiring
from locality_prior.prior import Prior, Table, aside

#: A signal below this counts as no wire where a weight is divided by it.
LEAST = 1e-6
#: How many entries of priors a :class:`Division` holds, 64 MiB of them, and how many it works on at once.
HELD, BLOCK = 1 << 23, 1 << 19


class Division:
    """W = V / P for the weights of several layers, and how much of Σ|V| they lose.

    What is needed of a prior is computed once for all layers that share it, as long as it takes little memory.
    """

    def __init__(self) -> None:
        self._least: dict[Prior, float] = {}
        self._held: dict[Prior, Table | Tensor | None] = {}
        self._room = HELD

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
        total = sum(float(v.detach().abs().sum(dtype=torch.float64)) for _, v in weights)
        lost = total - sum(self.raw(layer, w, v) for w, v in weights)
        return lost / total if lost > 1e-12 * total else 0.0

    def raw(self, layer: Locality, wiring: Wiring, v: Tensor, into: Tensor | None = None) -> float:
        """Σ|V| of one weight over its wires. W = V / P is written to ``into``, where that is given.

        Raises:
            ValueError: a W that is not finite in the weight's dtype.
        """
        with aside(), torch.no_grad():
            if wiring.pattern is not None:
                return _divided(wiring.pattern.gather(v), wiring.spread(self._on_wires(wiring.rule)), into)
            if not isinstance(layer, LocalityLinear):
                return _divided(v, wiring.spread(wiring.rule.dense(device=v.device)), into)
            blocks = self._blocks(wiring.rule)
            return sum(_divided(v[rows], p, None if into is None else into[rows]) for rows, p in blocks)

    def _keeps_all(self, rule: Prior, v: Tensor) -> bool:
        """Whether every pair has a wire and V / P is surely finite: then nothing need be computed weight by weight."""
        if rule.bounded:
            return False
        if rule not in self._least:
            with aside(), torch.no_grad():
                self._least[rule] = 1.0 if rule.flat else min(float(p.min()) for _, p in self._blocks(rule))
        least = self._least[rule]
        largest = torch.stack(v.detach().aminmax()).abs().max()
        return least >= LEAST and bool((largest.double() / least).to(v.dtype).isfinite())

    def _on_wires(self, rule: Prior) -> Tensor:
        """P of a bounded prior on its wires, (wires,) float64."""
        held = self._held.get(rule)
        if held is None:
            held = rule.signals(torch.float64, torch.device("cpu"))
            if held.numel() <= self._room:
                self._room -= held.numel()
                self._held[rule] = held
        assert isinstance(held, Tensor)
        return held

    def _blocks(self, rule: Prior) -> Iterator[tuple[slice, Tensor]]:
        """P in blocks of rows, each (r, in) float64."""
        out, features = rule.shape
        if rule not in self._held:
            found: Table | Tensor | None = rule.table()
            if found is None and out * features <= self._room:
                self._room -= out * features
                found = rule.dense()
            self._held[rule] = found
        held = self._held[rule]
        if isinstance(held, Table):
            for rows, block in held.blocks():
                p = block.reshape(-1, features)
                yield rows, p if held.row_scale is None else p * held.row_scale[rows, None]
            return
        step = max(1, BLOCK // features)
        for first in range(0, out, step):
            rows = slice(first, min(first + step, out))
            yield rows, rule.rows(torch.arange(rows.start, rows.stop)) if held is None else held[rows]


def _divided(v: Tensor, p: Tensor, into: Tensor | None) -> float:
    """Σ|V| over the wires; V / P where there is a wire, else 0, is written to ``into``."""
    p = p.to(v.device)
    there = p >= LEAST
    w = torch.where(there, v.double() / torch.where(there, p, 1.0), 0.0).to(v.dtype)
    if not w.isfinite().all() and v.isfinite().all():
        least = float(p[there].min())
        raise wrong("cost", f"a signal as low as {least:.1e}", f"one for which W = V/P is finite in {v.dtype}")
    if into is not None:
        into.copy_(w)
    return float((v.double().abs() * there).sum())


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
