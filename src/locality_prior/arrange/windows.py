"""Swaps among very many units: within windows of places that are near each other, with all other units as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from locality_prior._check import check_fits
from locality_prior.arrange.swaps import Clock, Ints, Quadratic, Reals, improve
from locality_prior.geometry import Geometry
from locality_prior.geometry.tiles import tiles

#: Above this many units, swaps are looked for only within windows.
LARGE = 4096
#: The places of a window, and how many there are to each window's middle: each place lies in about two windows.
WINDOW, APART = 1024, 512


@dataclass(frozen=True)
class Blocks:
    """E(π) = Σ_ij A_ij D[π(i), π(j)] + Σ_i L[i, π(i)] of very many units, some rows at a time: see :class:`Quadratic`.

    Attributes:
        units: how many.
        flow: the rows of A of some units, (some, units), and those of Aᵀ unless both A and D are symmetric.
        lengths: the same of D and some places.
        linear: L, (units, places); None: 0.
    """

    units: int
    flow: Callable[[Ints], list[Reals]]
    lengths: Callable[[Ints], list[Reals]]
    linear: Reals | None = None

    def __post_init__(self) -> None:
        held = 4 * min(WINDOW, self.units) * self.units
        check_fits(held, f"the blocks for windows of {self.units:,} units", "arrange fewer units")

    @classmethod
    def of(cls, flow: Tensor, lengths: Tensor, linear: Tensor | None = None) -> Blocks:
        """From whole matrices A and D; if D is symmetric, only the symmetric part of A counts."""
        a, d = flow.numpy(), lengths.numpy()
        m = None if linear is None else linear.numpy()
        if torch.equal(lengths, lengths.T):
            return cls(len(a), lambda u: [(a[u] + a[:, u].T) / 2], lambda p: [d[p]], m)
        return cls(len(a), lambda u: [a[u], a[:, u].T], lambda p: [d[p], d[:, p].T], m)

    def cost(self, order: Tensor) -> float:
        """E of one order."""
        at = order.numpy()
        parts = np.array_split(np.arange(len(at)), -(-len(at) // WINDOW))
        found = sum(float(np.vdot(self.flow(u)[0], self.lengths(at[u])[0][:, at])) for u in parts)
        return found + (0.0 if self.linear is None else float(self.linear[np.arange(len(at)), at].sum()))

    def window(self, units: Ints, order: Ints) -> Quadratic:
        """The part of E that changes when some units change places among each other."""
        there = order[units]
        flow, lengths = self.flow(units), self.lengths(there)
        linear = np.zeros((len(units), len(units)))
        if self.linear is not None:
            linear += self.linear[np.ix_(units, there)]
        rest = np.delete(np.arange(len(order)), units)
        for a, d in zip(flow, lengths, strict=True):
            # a wire to the rest, and where both are symmetric as much from there
            linear += a[:, rest] @ d[:, order[rest]].T * (2 if len(flow) == 1 else 1)
        among, between = flow[0][:, units].copy(), lengths[0][:, there].copy()
        return Quadratic(torch.from_numpy(among), torch.from_numpy(between), torch.from_numpy(linear))


def improve_in_windows(problem: Blocks, order: Tensor, sheet: Geometry, places: Tensor, clock: Clock) -> Tensor:
    """An order that no swap within a window improves, found from ``order``; or the order reached when the time is up.

    A window is the set of places nearest to one place, its middle. Memory is needed for a few blocks (window, units).

    Args:
        problem: E.
        order: (units,).
        sheet: the places.
        places: their coordinates, (units, axes).
        clock: when to stop, and whom to tell after each window.
    """
    found, cost, quiet = order.numpy().copy(), problem.cost(order), Clock(None, None)
    quiet.end = clock.end
    number = tiles(places, APART)
    parts = [torch.nonzero(number == k)[:, 0] for k in range(int(number.max()) + 1)]
    middles = [int(one[(places[one] - places[one].mean(0)).square().sum(1).argmin()]) for one in parts]
    still = 0  # how many windows in a row were as good as they could be
    while still < len(middles):
        for middle in middles:
            if still == len(middles) or clock.over:
                return torch.from_numpy(found)
            far = sheet.distances(rows=torch.tensor([middle]))[0].numpy()
            units = np.argsort(found)[np.argsort(far, kind="stable")[:WINDOW]]
            inside, own = problem.window(units, found), torch.arange(len(units))
            better = improve(inside, own, quiet)
            change = inside.cost(better) - inside.cost(own)
            still += 1
            if change < -inside.least:
                found[units] = found[units][better.numpy()]
                cost, still = cost + change, 1
            clock.tell(cost)
    return torch.from_numpy(found)
