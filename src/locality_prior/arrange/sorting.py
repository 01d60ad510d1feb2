"""Sorting units over a sheet by their responses, without a matrix of pairs.

An idea of linear assignment sorting (Barthel, Hezel, Jung and Schall, Computer Graphics Forum 2023): smooth what the
units respond over the sheet, and move each unit to where the result is most like its own; repeat with less smoothing.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from locality_prior._check import needs
from locality_prior.arrange.starts import coordinates, leading, spread
from locality_prior.arrange.swaps import Clock
from locality_prior.geometry import Geometry, Grid, Offsets, Permuted, meet
from locality_prior.geometry.permuted import inverse

#: How often the responses are smoothed, from σ = a fourth of the sheet's widest side to so many neighbour distances.
LEVELS, WIDEST, NARROWEST = 60, 4.0, 0.6
#: With an order to begin with, the first σ is this fraction of the side.
BEGUN = 16.0
#: How many units find their best places among each other at once, and how far away these are in σ.
GROUP, REACH = 128, 4.0
#: How many principal components of the responses count.
KEPT = 32
#: How many weights of a smoothing are computed at once.
BLOCK = 1 << 22


def sort(vectors: Tensor, sheet: Geometry, begun: Tensor | None, seed: int, clock: Clock) -> Tensor:
    """An order, (units,), of units with the responses ``vectors`` (units, samples)."""
    needs("scipy", "analysis", "a linear assignment")
    from scipy.optimize import linear_sum_assignment

    if isinstance(sheet, Permuted):
        inside = inverse(sheet.order)
        return inside[sort(vectors, sheet.base, None if begun is None else sheet.order[begun], seed, clock)]
    places = coordinates(sheet)
    x = principal(vectors, max(KEPT, places.shape[1]))
    order = spread(x, places) if begun is None else begun
    unit = inverse(order).numpy()  # the unit at each place
    rng, n = np.random.default_rng(seed), len(unit)
    means_of = _Cells(sheet) if isinstance(sheet, Grid) else _Sheet(sheet)
    h = sheet.neighbour_distance
    side = max(float((places.amax(0) - places.amin(0)).max()), h)
    first = max(side / (WIDEST if begun is None else BEGUN), NARROWEST * h)
    units, at = x.numpy(), places.numpy()
    for sigma in np.geomspace(first, NARROWEST * h, LEVELS):
        if clock.over or n < 2:
            break
        means = means_of.smooth(x[torch.from_numpy(unit)], float(sigma)).numpy()
        norm = np.square(means).sum(1)
        # compact groups of places: the cells of a lattice that is shifted each time, split at random
        cell = max(REACH * sigma, h * GROUP ** (1 / at.shape[1]))
        cells = np.floor(at / cell + rng.random(at.shape[1]))
        shuffled = np.lexsort((rng.random(n), *cells.T))
        for k in range(0, n, GROUP):
            some = shuffled[k : k + GROUP]
            here = unit[some]
            # ‖x − m‖² but for ‖x‖², which is the same at every place
            costs = norm[some] - 2 * units[here] @ means[some].T
            unit[some[linear_sum_assignment(costs)[1]]] = here
        clock.tell(float(np.square(units[unit] - means).sum(1).mean()))
    return inverse(torch.from_numpy(unit))


def principal(vectors: Tensor, k: int) -> Tensor:
    """The first ``k`` principal components of vectors (units, samples), (units, k); 0 where there are fewer."""
    x = vectors - vectors.mean(0)
    n, samples = x.shape
    if samples <= n:
        return x @ leading(x.T @ x, k, least=0.0)
    gram = x @ x.T
    found = leading(gram, k, least=0.0)
    return found * (found * (gram @ found)).sum(0).clamp(min=0).sqrt()  # U Σ of X = U Σ Vᵀ


class _Sheet:
    """Means over the places of a sheet, weighted by e^(−d²/2σ²)."""

    def __init__(self, sheet: Geometry) -> None:
        self.sheet = sheet

    def smooth(self, values: Tensor, sigma: float) -> Tensor:
        """Values (places, …) as means around each place."""
        found = []
        for rows in torch.split(torch.arange(len(values)), max(1, BLOCK // len(values))):
            near = (self.sheet.distances(rows=rows).square() / (-2 * sigma**2)).exp()
            found.append(near @ values / near.sum(1, keepdim=True))
        return torch.cat(found)


class _Cells(_Sheet):
    """The same on a grid: one axis after another."""

    def __init__(self, sheet: Grid) -> None:
        met = meet(sheet, sheet)
        assert isinstance(met, Offsets)
        self.shape, self.units = sheet.shape, len(sheet)
        self.apart = [axis.lengths[axis.index(torch.arange(axis.target))] for axis in met.axes]
        self.there = self._laid(torch.ones(self.units, 1, dtype=torch.float64))

    def smooth(self, values: Tensor, sigma: float) -> Tensor:
        near = [(d.square() / (-2 * sigma**2)).exp() for d in self.apart]
        total, means = (self._along(near, x) for x in (self.there, self._laid(values)))
        return (means / total).flatten(0, -2)[: self.units]

    def _laid(self, values: Tensor) -> Tensor:
        """Values of the units, (units, e), at the cells of the grid; a cell without a unit has 0."""
        laid = values.new_zeros(math.prod(self.shape), values.shape[1])
        laid[: self.units] = values
        return laid.reshape(*self.shape, -1)

    def _along(self, near: list[Tensor], x: Tensor) -> Tensor:
        for axis, weights in enumerate(near):
            x = torch.tensordot(weights, x, dims=([1], [axis])).movedim(0, axis)
        return x
