"""Units on regular sheets: grids of any number of dimensions and the hexagonal lattice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from locality_prior._check import boolean, count, positive, unmasked, wrong
from locality_prior.geometry import meeting as meetings
from locality_prior.geometry.base import MOST, Geometry, cannot_meet
from locality_prior.geometry.meeting import Coordinates, Meeting, Pairs

T = TypeVar("T")


@dataclass(frozen=True)
class Axis:
    """Distances along one axis between ``target`` and ``source`` cells, as a table of their offsets.

    The cells k (target) and j (source) are ``lengths[(target - 1 - k) * steps[0] + j * steps[1]]`` apart.
    """

    target: int
    source: int
    steps: tuple[int, int]
    lengths: Tensor

    def index(self, k: Tensor) -> Tensor:
        """Where in ``lengths`` the distances of the target cells ``k`` (r,) from all source cells are, (r, source)."""
        j = torch.arange(self.source, device="cpu")
        return (self.target - 1 - k)[:, None] * self.steps[0] + j * self.steps[1]


class Offsets(Meeting):
    """Two grids, whose distances depend only on the offset of two cells along each axis.

    Args:
        target: the grid that is laid onto ``source``.
        source: the other grid.
        axes: the distances along each axis.
    """

    def __init__(self, target: Grid, source: Grid, axes: list[Axis]) -> None:
        self.target, self.source, self.axes = target, source, axes
        self.shape = len(target), len(source)

    def rows(self, rows: Tensor) -> Tensor:
        axes = len(self.axes)
        squared = torch.zeros(len(rows), *([1] * axes), dtype=torch.float64, device="cpu")
        for a, (axis, places) in enumerate(zip(self.axes, self.target.cells(rows), strict=True)):
            shape = [len(rows)] + [1] * axes
            shape[a + 1] = axis.source
            squared = squared + axis.lengths[axis.index(places)].square().reshape(shape)
        return squared.sqrt().flatten(1)[:, : len(self.source)]

    def near(self, within: float) -> Iterator[Pairs]:
        # along each axis, the source cells within reach of each target cell, in order, and how far they are
        cells, apart = [], []
        for axis in self.axes:
            d = axis.lengths[axis.index(torch.arange(axis.target))]
            reached = d <= within
            first = (~reached).to(torch.int8).argsort(dim=1, stable=True)[:, : int(reached.sum(1).max())]
            cells.append(first)
            apart.append(torch.where(reached, d, math.inf).gather(1, first).square())
        block = max(1, meetings.BLOCK // max(1, math.prod(c.shape[1] for c in cells)))
        for rows in torch.split(torch.arange(self.shape[0]), block):
            squared, unit = torch.zeros(len(rows), 1, dtype=torch.float64), torch.zeros(len(rows), 1, dtype=torch.int64)
            for a, places in enumerate(self.target.cells(rows)):
                squared = (squared[:, :, None] + apart[a][places][:, None, :]).flatten(1)
                unit = (unit[:, :, None] * self.source.shape[a] + cells[a][places][:, None, :]).flatten(1)
            d = squared.sqrt()
            i, c = ((d <= within) & (unit < self.shape[1])).nonzero(as_tuple=True)
            yield rows[i], unit[i, c], d[i, c]


class Grid(Geometry):
    """Units at the cell centres of a regular grid in any number of dimensions, row by row.

    A target axis of m units opposite a source axis of n units is stretched onto it: target unit k sits at
    (k + ½)·n/m − ½ in source units. With ``spacing`` the coordinates are physical (unit k sits at k·spacing) and
    nothing is stretched. Distances are Euclidean.

    >>> import locality_prior as lp
    >>> sheet = lp.Grid(2, 3)
    >>> len(sheet), sheet.distances()[0]
    (6, tensor([0.0000, 1.0000, 2.0000, 1.0000, 1.4142, 2.2361], dtype=torch.float64))
    >>> lp.Grid(2, 3, periodic=True).distances()[0]
    tensor([0.0000, 1.0000, 1.0000, 1.0000, 1.4142, 1.4142], dtype=torch.float64)

    Args:
        *shape: units along each axis.
        periodic: whether axes close on themselves (ring, torus); one bool, or one for each axis.
        spacing: physical distance between neighbours, one number or one for each axis; None: 1, and stretched.
        units: only the first ``units`` cells are there; None: all.
    """

    def __init__(
        self,
        *shape: int,
        periodic: bool | Sequence[bool] = False,
        spacing: float | Sequence[float] | None = None,
        units: int | None = None,
    ) -> None:
        if not shape:
            raise wrong("Grid(*shape)", "no sizes", "one size for each axis")
        self.shape = tuple(count("Grid(*shape)", n, most=MOST) for n in shape)
        cells = math.prod(self.shape)
        if cells > MOST:
            raise wrong("Grid(*shape)", f"{' × '.join(map(str, self.shape))} cells", f"at most {MOST:,} of them")
        self.periodic = self._each("periodic", periodic, boolean)
        self.spacing = None if spacing is None else self._each("spacing", spacing, positive)
        self.units = cells if units is None else count("units", units)
        if self.units > cells:
            raise wrong("units", units, f"at most the {cells} cells of {self.shape}")
        self.euclidean = not any(self.periodic)

    def _each(self, name: str, given: Any, check: Callable[[str, Any], T]) -> tuple[T, ...]:
        """One checked value for each axis; a single value is every axis'."""
        unmasked(name, given)
        if not isinstance(given, (list, tuple)) and not (isinstance(given, (np.ndarray, Tensor)) and given.ndim):
            return (check(name, given),) * len(self.shape)
        if len(given) != len(self.shape):
            raise wrong(name, given, f"one value for each of the {len(self.shape)} axes")
        return tuple(check(name, one) for one in given)

    def __len__(self) -> int:
        return self.units

    @property
    def whole(self) -> bool:
        """Whether every cell holds a unit."""
        return self.units == math.prod(self.shape)

    @property
    def positions(self) -> Tensor:
        cells = self.cells(torch.arange(self.units, device="cpu"))
        spacing = self.spacing or (1.0,) * len(self.shape)
        return torch.stack([k.double() * s for k, s in zip(cells, spacing, strict=True)], dim=1)

    @property
    def neighbour_distance(self) -> float:
        apart = [s for n, s in zip(self.shape, self.spacing or (), strict=False) if n > 1]
        return min(apart, default=1.0)

    def cells(self, units: Tensor) -> list[Tensor]:
        """The places of ``units`` (r,) along each axis, each (r,)."""
        # torch.unravel_index would import half of torch's compiler, which takes seconds
        strides = [math.prod(self.shape[a + 1 :]) for a in range(len(self.shape))]
        return [units // stride % n for stride, n in zip(strides, self.shape, strict=True)]

    def meet(self, source: Geometry) -> Meeting | None:
        if not isinstance(source, Grid):
            return None
        if len(self.shape) != len(source.shape):
            cannot_meet(self, source, "they have different numbers of axes")
        if self.periodic != source.periodic:
            cannot_meet(self, source, "their axes do not close alike (periodic)")
        return Offsets(self, source, [self._axis(source, a) for a in range(len(self.shape))])

    def _axis(self, source: Grid, a: int) -> Axis:
        m, n = self.shape[a], source.shape[a]
        period = float(n)
        if self.spacing is None and source.spacing is None:
            # δ(k, j) = (k + ½)·n/m − ½ − j over the common denominator 2q is exact, so equal offsets are equal numbers
            p, q = n // math.gcd(m, n), m // math.gcd(m, n)
            u = torch.arange((m - 1) * p + (n - 1) * q + 1, device="cpu")
            steps, offset = (p, q), (p - q + 2 * ((m - 1) * p - u)).double() / (2 * q)
        else:
            s = self.spacing[a] if self.spacing else 1.0
            t = source.spacing[a] if source.spacing else 1.0
            period = n * t
            if self.periodic[a] and not math.isclose(m * s, period, rel_tol=1e-9):
                cannot_meet(self, source, f"axis {a} closes after {m * s:g} and after {period:g}")
            if s == t:
                steps, offset = (1, 1), (m - 1 - torch.arange(m + n - 1, device="cpu")).double() * s
            else:
                k = torch.arange(m - 1, -1, -1, dtype=torch.float64, device="cpu")
                j = torch.arange(n, dtype=torch.float64, device="cpu")
                steps, offset = (n, 1), (k[:, None] * s - j * t).flatten()
        offset = offset.abs()
        if self.periodic[a]:
            offset = torch.minimum(offset, period - offset)
        return Axis(m, n, steps, offset)

    def arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {"shape": list(self.shape)}
        if any(self.periodic):
            arguments["periodic"] = list(self.periodic)
        if self.spacing:
            arguments["spacing"] = list(self.spacing)
        if not self.whole:
            arguments["units"] = self.units
        return arguments

    @classmethod
    def from_arguments(cls, **arguments: Any) -> Self:
        return cls(*arguments.pop("shape"), **arguments)

    def __repr__(self) -> str:
        parts = [str(n) for n in self.shape]
        if any(self.periodic):
            parts.append(f"periodic={True if all(self.periodic) else self.periodic}")
        if self.spacing:
            parts.append(f"spacing={self.spacing[0] if len(set(self.spacing)) == 1 else self.spacing}")
        if not self.whole:
            parts.append(f"units={self.units}")
        return f"Grid({', '.join(parts)})"


def Line(n: int, periodic: bool = False, spacing: float | None = None) -> Grid:
    """``n`` units in a row: ``Grid(n)``; with ``periodic=True``, a ring.

    >>> import locality_prior as lp
    >>> lp.Line(4).distances()[0], lp.Line(4, periodic=True).distances()[0]
    (tensor([0., 1., 2., 3.], dtype=torch.float64), tensor([0., 1., 2., 1.], dtype=torch.float64))
    """
    return Grid(n, periodic=periodic, spacing=spacing)


def default_sheet(n: int) -> Grid:
    """The sheet on which n units lie if no geometry is given: the first n cells, row by row, of ⌈√n⌉ columns."""
    n = count("units", n, most=MOST)
    columns = math.isqrt(n - 1) + 1
    rows = -(-n // columns)
    return Grid(rows, columns, units=n)


class HexGrid(Geometry):
    """A hexagonal lattice with Euclidean distances: odd rows are shifted by ½, nearest neighbours are 1 apart.

    Positions are (row·√3/2, column + ½·(row odd)). A target is stretched onto a source of another size by the
    bounding box of its cells, as a :class:`Grid` is. It also meets grids with two open axes and no spacing.

    >>> import locality_prior as lp
    >>> lp.HexGrid(2, 2).positions
    tensor([[0.0000, 0.0000],
            [0.0000, 1.0000],
            [0.8660, 0.5000],
            [0.8660, 1.5000]], dtype=torch.float64)

    Args:
        rows: how many rows.
        cols: how many units in each row.
    """

    euclidean = True

    def __init__(self, rows: int, cols: int) -> None:
        self.rows, self.cols = count("rows", rows, most=MOST), count("cols", cols, most=MOST)
        if self.rows * self.cols > MOST:
            raise wrong("HexGrid", f"{self.rows} × {self.cols} units", f"at most {MOST:,} of them")

    def __len__(self) -> int:
        return self.rows * self.cols

    @property
    def positions(self) -> Tensor:
        row = torch.arange(self.rows, dtype=torch.float64, device="cpu")
        col = torch.arange(self.cols, dtype=torch.float64, device="cpu")
        y = (row * math.sqrt(3) / 2)[:, None].expand(-1, self.cols)
        x = col + 0.5 * (row % 2)[:, None]
        return torch.stack([y, x], dim=-1).reshape(-1, 2)

    @property
    def neighbour_distance(self) -> float:
        return 1.0

    def meet(self, source: Geometry) -> Meeting | None:
        return _by_box(self, source) if isinstance(source, (Grid, HexGrid)) else None

    def met_by(self, target: Geometry) -> Meeting | None:
        return _by_box(target, self) if isinstance(target, Grid) else None

    def arguments(self) -> dict[str, Any]:
        return {"rows": self.rows, "cols": self.cols}

    def __repr__(self) -> str:
        return f"HexGrid({self.rows}, {self.cols})"


def _by_box(target: Grid | HexGrid, source: Grid | HexGrid) -> Coordinates:
    """The bounding box of the target's cells laid onto that of the source's."""
    for sheet in (target, source):
        if isinstance(sheet, Grid) and (len(sheet.shape) != 2 or any(sheet.periodic) or sheet.spacing):
            cannot_meet(target, source, "a HexGrid meets grids with two open axes and no spacing")
    places = target.positions
    if target != source:
        (low_t, extent_t), (low_s, extent_s) = _box(target), _box(source)
        places = (places - low_t) * (extent_s / extent_t) + low_s
    return Coordinates(places, source.positions)


def _box(sheet: Grid | HexGrid) -> tuple[Tensor, Tensor]:
    """The first corner and the extent of the bounding box of a sheet's cells."""
    if isinstance(sheet, Grid):
        low, extent = [-0.5] * len(sheet.shape), [float(n) for n in sheet.shape]
    else:
        height = math.sqrt(3) / 2
        low, extent = [-height / 2, -0.5], [sheet.rows * height, sheet.cols + 0.5 * (sheet.rows > 1)]
    return torch.tensor(low, dtype=torch.float64, device="cpu"), torch.tensor(extent, dtype=torch.float64, device="cpu")
