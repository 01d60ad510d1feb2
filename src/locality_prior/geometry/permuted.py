"""The places of another geometry, with the units in another order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locality_prior._check import array_like, instance, unmasked, wrong
from locality_prior._memory import aside
from locality_prior.geometry.base import Geometry, meet, still
from locality_prior.geometry.measured import Distances
from locality_prior.geometry.meeting import BLOCK, Coordinates, Meeting, Pairs


class Permuted(Geometry):
    """The places of another geometry, with its units in another order: unit k sits at place ``order[k]`` of ``base``.

    Wherever a geometry is expected, this one gives what ``base`` would give if the units were put in that order first.
    Between two grids a prior is stored as a small table; with this geometry on either side it is stored whole.

    :meth:`Geometry.permuted` makes one: see there.

    Args:
        base: the places; if it is permuted too, the two orders become one.
        order: the place of each unit, (units,) whole numbers: a permutation of 0, 1, …, units − 1.
    """

    def __init__(self, base: Geometry, order: Any) -> None:
        still("base", instance("base", base, Geometry, "a geometry, such as Grid(7, 7)"))
        if isinstance(base, Distances) and base.shape[0] != base.shape[1]:
            raise wrong("permuted", repr(base), "a geometry of one set of units")
        order = permutation("order", order, len(base))
        self.base: Geometry = base
        #: The place of each unit, (units,) int64: treat it as read-only.
        self.order: Tensor = order
        if isinstance(base, Permuted):
            self.base, self.order = base.base, base.order[order]
        self.euclidean = base.euclidean

    def __len__(self) -> int:
        return len(self.order)

    @property
    def units(self) -> Tensor:
        """The unit at each place of ``base``, (units,) int64: the inverse of ``order``."""
        return inverse(self.order)

    @property
    def positions(self) -> Tensor:
        return self.base.positions[self.order]

    @property
    def neighbour_distance(self) -> float:
        return self.base.neighbour_distance

    def meet(self, source: Geometry) -> Meeting:
        return _reordered(meet(self.base, source), self.order, None)

    def met_by(self, target: Geometry) -> Meeting:
        return _reordered(meet(target, self.base), None, self.order)

    def arguments(self) -> dict[str, Any]:
        return {"base": self.base, "order": self.order}

    def __repr__(self) -> str:
        return f"Permuted({self.base!r})"


def permutation(name: str, value: Any, units: int) -> Tensor:
    """``value`` as a new tensor (units,) of int64 on the CPU, where it is a permutation of 0, 1, …, units − 1."""
    expected = f"a permutation of the numbers from 0 to {units - 1}, as ({units},) whole numbers"
    unmasked(name, value)
    if not isinstance(value, Tensor) and not array_like(value):
        raise wrong(name, value, expected)
    with aside():
        try:
            found = torch.as_tensor(value if isinstance(value, Tensor) else np.asarray(value)).detach().cpu()
        except (TypeError, ValueError, RuntimeError):
            raise wrong(name, type(value).__name__, expected) from None
        whole = not (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool)
        if not whole or found.shape != (units,):
            raise wrong(name, f"{found.dtype}, shape {tuple(found.shape)}", expected)
        order = found.to(torch.int64, copy=True)
        if not torch.equal(order.sort().values, torch.arange(units)):
            low, high = int(order.min()), int(order.max())
            held = f"{len(set(order.tolist()))} different numbers from {low} to {high}"
            raise wrong(name, held, expected)
        return order


def inverse(order: Tensor) -> Tensor:
    """The permutation that undoes ``order``: which unit is at each place."""
    units = torch.empty_like(order)
    units[order] = torch.arange(len(order), device=order.device)
    return units


class _Reordered(Meeting):
    """A meeting whose units are in another order on one side or on both."""

    def __init__(self, met: Meeting, targets: Tensor | None, sources: Tensor | None) -> None:
        self.met, self.targets, self.sources = met, targets, sources
        self._units = [None if order is None else inverse(order) for order in (targets, sources)]
        self.shape = met.shape
        if met.wired is not None:
            self.wired = self._pairs(met.wired // self.shape[1], met.wired % self.shape[1]).sort().values

    def rows(self, rows: Tensor) -> Tensor:
        return self._columns(self.met.rows(self._places(rows)))

    def rows_within(self, rows: Tensor, within: float) -> Tensor:
        return self._columns(self.met.rows_within(self._places(rows), within))

    def _places(self, rows: Tensor) -> Tensor:
        return rows if self.targets is None else self.targets[rows]

    def _columns(self, d: Tensor) -> Tensor:
        return d if self.sources is None else d[:, self.sources]

    def _pairs(self, i: Tensor, j: Tensor) -> Tensor:
        """The numbers of pairs of units, for pairs of places."""
        target, source = (at if units is None else units[at] for units, at in zip(self._units, (i, j), strict=True))
        return target * self.shape[1] + source

    def near(self, within: float) -> Iterator[Pairs]:
        if type(self.met).near is Meeting.near or within == float("inf"):
            yield from super().near(within)  # all pairs are looked at in any case
            return
        pairs, lengths = [], []
        for i, j, d in self.met.near(within):
            pairs.append(self._pairs(i, j))
            lengths.append(d)
        found, by_row = torch.cat(pairs).sort()
        d = torch.cat(lengths)[by_row]
        for part, there in zip(torch.split(found, BLOCK), torch.split(d, BLOCK), strict=True):
            yield part // self.shape[1], part % self.shape[1], there


def _reordered(met: Meeting, targets: Tensor | None, sources: Tensor | None) -> Meeting:
    if type(met) is Coordinates:
        target = met.target if targets is None else met.target[targets]
        source = met.source if sources is None else met.source[sources]
        return Coordinates(target, source, met.between, met.boxed)
    return _Reordered(met, targets, sources)
