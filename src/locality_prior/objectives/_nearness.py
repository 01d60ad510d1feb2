"""How near the units of a sheet are to each other, q = 1/(1 + d), and products with it.

On a grid of more than 512 units no matrix of pairs is made.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from locality_prior._check import ROUNDING, wrong
from locality_prior._memory import aside
from locality_prior.geometry import Channels, Coordinates, Distances, Geometry, Grid, Offsets, Permuted, meet, still
from locality_prior.objectives._kept import Kept

#: The most entries of Q that are kept off grids; above it, its rows are computed again at each step.
KEPT = 1 << 24
#: The most entries of Q for which a product with it is quicker than FFTs, whose spectra are then no smaller.
SMALL = 1 << 18
#: How many entries of a matrix, or of a spectrum, are handled at once.
BLOCK, SPECTRUM = 1 << 19, 1 << 18


class Nearness:
    """q_uv = 1/(1 + d_uv) between the units of one geometry, as tensors of one dtype on one device.

    Each kind has one of the two methods, or both.
    """

    def times(self, z: Tensor, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Qz, and the sums of q and of q² over the pairs u ≠ v of live units.

        Args:
            z: (samples, units).
            live: (units,), 1 for the units that count and 0 for the others.

        Returns:
            Σ_{v≠u} q_uv z_sv as (samples, units), and two scalars of :func:`wide` dtype. Each pair counts twice.
        """
        raise NotImplementedError

    def rows(self, rows: Tensor) -> Tensor:
        """q of the units ``rows`` (r,) with every unit, (r, units); 1 for a unit with itself."""
        raise NotImplementedError


def nearness(geometry: Geometry, like: Tensor, pairs: bool = False) -> Nearness:
    """The nearness of a geometry's units, for responses of the dtype and device of ``like``.

    It is made once, and kept for as long as the geometry lives.

    Args:
        geometry: where the units are.
        like: the responses.
        pairs: whether its rows are wanted, and not its product.

    Raises:
        ValueError: the distance from u to v is not that from v to u.
    """
    number: int = _number(geometry, like.dtype, str(like.device), pairs)
    return _KEPT.made[number]


def mutual(geometry: Geometry) -> Geometry:
    """A geometry, where the distance from u to v is that from v to u."""
    if isinstance(geometry, Permuted):
        mutual(geometry.base)
    if isinstance(geometry, Distances):
        lengths = meet(geometry, geometry)
        if geometry.shape[0] != geometry.shape[1]:
            raise wrong("geometry", geometry, "distances of the units from each other, (units, units)")
        d = lengths.rows(torch.arange(len(geometry)))
        if not torch.equal(d, d.T):
            raise wrong("geometry", f"{geometry!r}, which differ by direction", "distances that are equal both ways")
    return geometry


def neighbourhood(geometry: Geometry, units: int, radius: float | None, like: Tensor) -> tuple[Tensor, Matrix]:
    """The units around one that is drawn from torch's generator, and their nearness to each other.

    They are at most ``units`` of those within ``radius``, drawn at random, or the ``units`` that are nearest.
    """
    still("geometry", geometry)
    with aside():
        d = geometry.distances(rows=torch.randint(len(geometry), (1,)))[0]
        if radius is None:
            chosen = d.argsort(stable=True)[:units]
        else:
            chosen = (d <= radius * (1 + ROUNDING)).nonzero()[:, 0]
            if len(chosen) > units:
                chosen = chosen[torch.randperm(len(chosen))[:units]]
        q = (1 / (1 + _among(geometry, chosen))).to(like)
    return chosen.to(like.device), Matrix(q)


def wide(like: Tensor) -> torch.dtype:
    """The dtype in which sums are added up: float64 where the device has it."""
    return torch.float32 if like.device.type == "mps" else torch.float64


def places(geometry: Geometry) -> tuple[Geometry, int]:
    """The places of a geometry, and how many units sit at each."""
    return (geometry.base, geometry.channels) if isinstance(geometry, Channels) else (geometry, 1)


def slices(rows: int, each: int, block: int = BLOCK) -> list[slice]:
    """Blocks of rows of ``each`` entries, of about ``block`` entries."""
    step = max(1, block // max(1, each))
    return [slice(k, min(k + step, rows)) for k in range(0, rows, step)]


class Convolution(Nearness):
    """On a grid q depends on the offset of two cells alone, so Qz is a convolution: one FFT, its product, one back.

    Open axes are padded with zeros; a periodic axis is as long as it is. Several units at each place are added up
    before and get the same afterwards. The spectrum is real, since q is even.
    """

    def __init__(self, grid: Grid, channels: int, like: Tensor) -> None:
        self.channels = channels  # but not the grid, which what is kept must not keep
        self.shape, self.cells, self.places = grid.shape, math.prod(grid.shape), len(grid)
        self.padded = tuple(
            n if ring else _smooth(2 * n - 1) for n, ring in zip(grid.shape, grid.periodic, strict=True)
        )
        even = []
        for axis, n, m in zip(_offsets(grid).axes, self.shape, self.padded, strict=True):
            k = torch.arange(m)
            even.append(axis.lengths[n - 1 + torch.minimum(torch.minimum(k, m - k), torch.tensor(n - 1))])
        q = _of_axes(even)
        if channels == 1:
            q.view(-1)[0] = 0  # no unit is its own pair; of several at a place, each is the others'
        m = self.padded[-1]
        # in half a spectrum every column stands for two, but the first and, where m is even, the last
        twice = torch.full((m // 2 + 1,), 2.0, dtype=torch.float64)
        twice[0] = 1
        if m % 2 == 0:
            twice[-1] = 1
        scale = twice / math.prod(self.padded)
        spectrum = torch.fft.rfftn(q).real
        self.spectrum = spectrum.to(like)
        self.of_q = (spectrum * scale).to(like.device, wide(like))
        self.of_squares = (torch.fft.rfftn(q.square()).real * scale).to(like.device, wide(like))

    def times(self, z: Tensor, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out = torch.empty(len(z), self.places, dtype=z.dtype, device=z.device)
        for part in slices(len(z), math.prod(self.padded), SPECTRUM):
            out[part] = self._convolved(self._laid(z[part])).flatten(1)[:, : self.places]
        if self.channels > 1:
            out = out.repeat(1, self.channels).sub_(z)
        alike = torch.fft.rfftn(self._laid(live[None].to(wide(z)))[0], s=self.padded)
        power = alike.real.square() + alike.imag.square()
        own = live.sum(dtype=wide(z)) if self.channels > 1 else 0
        return out, (power * self.of_q).sum() - own, (power * self.of_squares).sum() - own

    def _laid(self, z: Tensor) -> Tensor:
        """What the units hold (samples, units), as the grid's cells hold it."""
        if self.channels > 1:
            z = z.reshape(len(z), self.channels, self.places).sum(1)
        if self.places < self.cells:
            z = F.pad(z, (0, self.cells - self.places))
        return z.reshape(len(z), *self.shape)

    def _convolved(self, x: Tensor) -> Tensor:
        # axis by axis, so that what is only padding is not transformed
        last = len(self.shape)
        y = torch.fft.rfft(x, n=self.padded[-1], dim=last)
        for axis in range(1, last):
            y = torch.fft.fft(y, n=self.padded[axis - 1], dim=axis)
        y = y.mul_(self.spectrum)
        for axis in range(1, last):
            y = torch.fft.ifft(y, dim=axis).narrow(axis, 0, self.shape[axis - 1])
        found: Tensor = torch.fft.irfft(y, n=self.padded[-1], dim=last)
        return found.narrow(last, 0, self.shape[-1])


class Table(Nearness):
    """On a grid the rows of Q are read from a table of offsets."""

    def __init__(self, grid: Grid, channels: int, like: Tensor) -> None:
        self.table = _of_axes([axis.lengths for axis in _offsets(grid).axes]).flatten().to(like)
        start, along = torch.zeros(len(grid), dtype=torch.int64), torch.zeros(len(grid), dtype=torch.int64)
        for k, n in zip(grid.cells(torch.arange(len(grid))), grid.shape, strict=True):
            start, along = start * (2 * n - 1) + n - 1 - k, along * (2 * n - 1) + k
        self.start, self.along = (x.repeat(channels).to(like.device) for x in (start, along))

    def rows(self, rows: Tensor) -> Tensor:
        return self.table[self.start[rows][:, None] + self.along]


class Matrix(Nearness):
    """Q itself, where it is small."""

    def __init__(self, q: Tensor) -> None:
        self.q = q  # with 1 on the diagonal
        self.sums, self.squares = _sums([q], q)

    def times(self, z: Tensor, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        silent = (1 - live).to(z.dtype)
        q1 = _of_live(self.sums, live, silent @ (self.q @ silent))
        q2 = _of_live(self.squares, live, silent @ (self.q.square() @ silent))
        own = live.sum(dtype=wide(z))
        return (z @ self.q).sub_(z), q1 - own, q2 - own

    def rows(self, rows: Tensor) -> Tensor:
        return self.q[rows]


class Rows(Nearness):
    """Q by blocks of rows, which are computed again each time."""

    def __init__(self, geometry: Geometry, like: Tensor) -> None:
        # weakly, since what is kept must not keep its geometry
        self.geometry, self.units, self.like = weakref.ref(geometry), len(geometry), like.new_empty(0)
        self.blocks = [torch.arange(s.start, s.stop) for s in slices(self.units, self.units)]
        self.sums, self.squares = _sums((self.rows(rows) for rows in self.blocks), like)

    def times(self, z: Tensor, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        silent = (1 - live).to(z.dtype)
        out, q1, q2 = torch.empty_like(z), z.new_zeros(()), z.new_zeros(())
        for rows in self.blocks:
            part, q = slice(int(rows[0]), int(rows[-1]) + 1), self.rows(rows)
            out[:, part] = z @ q.T
            q1 = q1 + silent[part] @ (q @ silent)
            q2 = q2 + silent[part] @ (q.square() @ silent)
        own = live.sum(dtype=wide(z))
        return out.sub_(z), _of_live(self.sums, live, q1) - own, _of_live(self.squares, live, q2) - own

    def rows(self, rows: Tensor) -> Tensor:
        geometry = self.geometry()
        assert geometry is not None
        rows = rows.cpu()
        q = 1 / (1 + geometry.distances(rows=rows))
        q[torch.arange(len(rows)), rows] = 1
        return q.to(self.like)


class InOrder(Nearness):
    """The nearness of a geometry's places, for units that are in another order."""

    def __init__(self, geometry: Permuted, like: Tensor, table: bool) -> None:
        self.near = _make(geometry.base, like.dtype, str(like.device), table)
        self.order, self.units = geometry.order.to(like.device), geometry.units.to(like.device)

    def times(self, z: Tensor, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out, q1, q2 = self.near.times(z[:, self.units], live[self.units])
        return out[:, self.order], q1, q2

    def rows(self, rows: Tensor) -> Tensor:
        return self.near.rows(self.order[rows])[:, self.order]


def _sums(blocks: object, like: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of the rows of Q, and of their squares."""
    each = [(q.sum(1, dtype=wide(like)), q.to(wide(like)).square().sum(1)) for q in blocks]  # type: ignore[attr-defined]
    return torch.cat([s for s, _ in each]), torch.cat([s for _, s in each])


def _of_live(sums: Tensor, live: Tensor, among_silent: Tensor) -> Tensor:
    """Σ q over pairs of live units: all, less those with a silent one, which are counted twice among the silent."""
    # exact to the last digit where no unit is silent
    return sums @ (2 * live.to(sums.dtype) - 1) + among_silent.to(sums.dtype)


def _among(geometry: Geometry, units: Tensor) -> Tensor:
    """Distances of some units from each other."""
    if isinstance(geometry, Permuted):
        return _among(geometry.base, geometry.order[units])
    base, channels = places(geometry)
    units = units % len(base) if channels > 1 else units
    met = meet(base, base)
    if isinstance(met, Coordinates):
        d = met.between(met.target[units], met.source[units])
    elif isinstance(met, Offsets):
        squared = torch.zeros((), dtype=torch.float64)
        for axis, k in zip(met.axes, met.target.cells(units), strict=True):
            squared = squared + axis.lengths[axis.index(k).gather(1, k.expand(len(k), -1))].square()
        d = squared.sqrt()
    else:
        d = torch.cat([met.rows(units[part])[:, units] for part in slices(len(units), len(base))])
    return d.fill_diagonal_(0)


def _of_axes(lengths: Sequence[Tensor]) -> Tensor:
    """1/(1 + d) from the lengths along each axis."""
    squared = torch.zeros((), dtype=torch.float64)
    for a, along in enumerate(lengths):
        squared = squared + along.square().reshape([-1 if b == a else 1 for b in range(len(lengths))])
    return squared.sqrt_().add_(1).reciprocal_()


def _offsets(grid: Grid) -> Offsets:
    met = grid.meet(grid)
    assert isinstance(met, Offsets)
    return met


def _smooth(least: int) -> int:
    """The first number from ``least`` on with no prime factor above 5, which FFTs are quick for."""
    for m in itertools.count(least):
        rest = m
        for p in (2, 3, 5):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return m
    raise AssertionError


def _make(geometry: Geometry, dtype: torch.dtype, device: str, table: bool) -> Nearness:
    like = torch.empty(0, dtype=dtype, device=device)
    base, channels = places(mutual(geometry))
    units = len(geometry)
    if isinstance(geometry, Permuted) and units * units > SMALL:
        return InOrder(geometry, like, table)
    if isinstance(base, Grid) and units * units > SMALL:
        return Table(base, channels, like) if table else Convolution(base, channels, like)
    if units * units > KEPT:
        return Rows(geometry, like)
    d = geometry.distances(rows=torch.arange(units))
    return Matrix((1 / (1 + d)).fill_diagonal_(1).to(like))


_KEPT = Kept(_make)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _number(geometry: Geometry, dtype: torch.dtype, device: str, pairs: bool) -> int:
    base = geometry.base if isinstance(geometry, Permuted) else geometry
    return _KEPT.number(geometry, dtype, device, pairs and isinstance(places(base)[0], Grid))
