"""How a target and a source meet: the distances between their units, and the pairs that are near each other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from locality_prior._check import ROUNDING, wrong
from locality_prior._memory import aside
from locality_prior.geometry.tiles import tiles

#: How many entries of a matrix are handled at once.
BLOCK = 1 << 22
#: How many target units are in a tile, whose neighbours are looked for together.
TILE = 256

#: Target units, source units and the distances between them, each (pairs,).
Pairs = tuple[Tensor, Tensor, Tensor]
#: Distances (n, m) between coordinates (n, d) and (m, d).
Between = Callable[[Tensor, Tensor], Tensor]


class Meeting(ABC):
    """The distances between a target and a source, once the target is laid onto the source.

    A geometry returns one from :meth:`~locality_prior.geometry.Geometry.meet`. :class:`Coordinates` and
    :class:`ByRow` are ready to use.
    """

    #: How many target units and source units there are.
    shape: tuple[int, int]
    #: The pairs that may have a wire, (pairs,) int64, as increasing numbers i·in + j; None: all of them.
    wired: Tensor | None = None

    @abstractmethod
    def rows(self, rows: Tensor) -> Tensor:
        """Distances (r, m) of the target units ``rows`` (r,) from every source unit; inf where there is no way."""

    def rows_within(self, rows: Tensor, within: float) -> Tensor:
        """The same as :meth:`rows`, except that distances of more than ``within`` may be inf."""
        return self.rows(rows)

    def near(self, within: float) -> Iterator[Pairs]:
        """All pairs at most ``within`` apart, in row-major order, in blocks."""
        for rows in torch.split(torch.arange(self.shape[0]), max(1, BLOCK // self.shape[1])):
            d = self.rows(rows)
            i, j = (d <= within).nonzero(as_tuple=True)
            yield rows[i], j, d[i, j]


class ByRow(Meeting):
    """Distances that a function gives row by row.

    Args:
        shape: how many target units and source units there are.
        distances: takes the numbers of target units, (r,), and returns their distances, (r, source units).
        wired: the pairs that may have a wire, (pairs,) int64, as increasing numbers i·in + j; None: all of them.
    """

    def __init__(
        self, shape: tuple[int, int], distances: Callable[[Tensor], Tensor], wired: Tensor | None = None
    ) -> None:
        self.shape, self._distances, self.wired = shape, distances, wired

    def rows(self, rows: Tensor) -> Tensor:
        return checked("distances", self._distances(rows), (len(rows), self.shape[1]))


def euclidean(u: Tensor, v: Tensor) -> Tensor:
    """Euclidean distances (n, m) between coordinates (n, d) and (m, d)."""
    # torch's quicker way, through a matrix product, does not give exactly 0 between equal points
    return torch.cdist(u, v, compute_mode="donot_use_mm_for_euclid_dist")


class Coordinates(Meeting):
    """Coordinates of both sides in one frame, and the distance between any two of them.

    Args:
        target: coordinates of the target units, (n, d) float64.
        source: coordinates of the source units, (m, d) float64.
        between: takes coordinates (n, d) and (m, d) and returns distances (n, m); Euclidean if not given.
        boxed: whether coordinates never differ by more than the distance, so that units which are near each other can
            be found quickly. It is true of Euclidean distances.
    """

    def __init__(self, target: Tensor, source: Tensor, between: Between = euclidean, boxed: bool | None = None) -> None:
        self.target, self.source, self._between = target, source, between
        self.boxed = between is euclidean if boxed is None else boxed
        self.shape = len(target), len(source)

    def rows(self, rows: Tensor) -> Tensor:
        return self.between(self.target[rows], self.source)

    def between(self, target: Tensor, source: Tensor) -> Tensor:
        """Distances (n, m) between coordinates (n, d) and (m, d)."""
        return checked("distances", self._between(target, source), (len(target), len(source)))

    def near(self, within: float) -> Iterator[Pairs]:
        if not self.boxed:
            yield from super().near(within)
            return
        # for each compact tile of targets, only the sources in a box around it are looked at
        numbers = tiles(self.target, TILE)
        order, sizes = torch.argsort(numbers, stable=True), torch.bincount(numbers)
        pairs, lengths = [], []
        reach = within * (1 + ROUNDING)  # a little more, so that rounding cannot put a unit outside the box
        for units in torch.split(order, sizes.tolist()):
            low, high = self.target[units].amin(0) - reach, self.target[units].amax(0) + reach
            seen = ((self.source >= low) & (self.source <= high)).all(1).nonzero()[:, 0]
            d = self.between(self.target[units], self.source[seen])
            i, j = (d <= within).nonzero(as_tuple=True)
            pairs.append(units[i] * len(self.source) + seen[j])
            lengths.append(d[i, j])
        found, by_row = torch.cat(pairs).sort()
        d = torch.cat(lengths)[by_row]
        for part, there in zip(torch.split(found, BLOCK), torch.split(d, BLOCK), strict=True):
            yield part // len(self.source), part % len(self.source), there


def checked(name: str, d: object, shape: tuple[int, int]) -> Tensor:
    """Distances as a function gave them, where they are distances."""
    if not isinstance(d, Tensor) or d.shape != shape:
        raise wrong(name, f"{type(d).__name__} {tuple(getattr(d, 'shape', ()))}", f"a tensor {shape}")
    if not (d >= 0).all():
        raise wrong(name, "a negative or NaN distance", "distances of at least 0")
    return d.detach().to("cpu", torch.float64)


def in_blocks(pairs: Iterator[Pairs]) -> Iterator[Pairs]:
    """The same blocks, each made apart from the caller's default device and inference mode."""
    while True:
        with aside():  # not around the yield, which would leave the caller inside
            block = next(pairs, None)
        if block is None:
            return
        yield block
