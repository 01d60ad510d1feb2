"""Units on regular sheets: grids of any number of dimensions and the hexagonal lattice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locality_prior._check import count, positive, wrong
from locality_prior.geometry.base import Geometry, cannot_meet


@dataclass(frozen=True)
class Axis:
    """Distances along one axis between ``target`` and ``source`` cells, as a table of their offsets.

    The cells k (target) and j (source) are ``lengths[(target - 1 - k) * steps[0] + j * steps[1]]`` apart.
    """

    target: int
    source: int
    steps: tuple[int, int]
    lengths: Tensor


class Grid(Geometry):
    """Units at the cell centres of a regular grid in any number of dimensions, row by row.

    A target axis of m units opposite a source axis of n units is stretched onto it: target unit k sits at
    (k + ½)·n/m − ½ in source units. With ``spacing`` the coordinates are physical (unit k sits at k·spacing) and
    nothing is stretched. Distances are Euclidean.

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
        self.shape = tuple(count("Grid(*shape)", n) for n in shape)
        self.periodic = tuple(
            bool(p) for p in self._each("periodic", [periodic] * len(shape) if isinstance(periodic, bool) else periodic)
        )
        self.spacing: tuple[float, ...] | None = None
        if spacing is not None:
            given = [spacing] * len(shape) if np.isscalar(spacing) else spacing
            self.spacing = tuple(positive("spacing", s) for s in self._each("spacing", given))
        cells = math.prod(self.shape)
        self.units = cells if units is None else count("units", units)
        if self.units > cells:
            raise wrong("units", units, f"at most the {cells} cells of {self.shape}")
        self.euclidean = not any(self.periodic)

    def _each(self, name: str, values: Any) -> list[Any]:
        each: list[Any] = list(values) if isinstance(values, (list, tuple, np.ndarray)) else [values]
        if len(each) != len(self.shape):
            raise wrong(name, values, f"one value for each of the {len(self.shape)} axes")
        return each

    def __len__(self) -> int:
        return self.units

    @property
    def whole(self) -> bool:
        """Whether every cell holds a unit."""
        return self.units == math.prod(self.shape)

    @cached_property
    def positions(self) -> Tensor:
        spacing = self.spacing or (1.0,) * len(self.shape)
        axes = [torch.arange(n, dtype=torch.float64) * s for n, s in zip(self.shape, spacing, strict=True)]
        return torch.cartesian_prod(*axes).reshape(-1, len(axes))[: self.units]

    @property
    def neighbour_distance(self) -> float:
        apart = [s for n, s in zip(self.shape, self.spacing or (), strict=False) if n > 1]
        return min(apart, default=1.0)

    def cells(self, units: Tensor) -> list[Tensor]:
        """The places of ``units`` (r,) along each axis, each (r,)."""
        # torch.unravel_index would import half of torch's compiler, for seconds
        strides = [math.prod(self.shape[a + 1 :]) for a in range(len(self.shape))]
        return [units // stride % n for stride, n in zip(strides, self.shape, strict=True)]

    def axes(self, source: Grid) -> list[Axis]:
        """The tables of offsets, one for each axis, of this grid laid onto ``source``."""
        if len(self.shape) != len(source.shape):
            cannot_meet(self, source, "they have different numbers of axes")
        if self.periodic != source.periodic:
            cannot_meet(self, source, "their axes do not close alike (periodic)")
        return [self._axis(source, a) for a in range(len(self.shape))]

    def _axis(self, source: Grid, a: int) -> Axis:
        m, n = self.shape[a], source.shape[a]
        period = float(n)
        if self.spacing is None and source.spacing is None:
            # δ(k, j) = (k + ½)·n/m − ½ − j, over the common denominator 2q: exact, so equal offsets are equal numbers
            p, q = n // math.gcd(m, n), m // math.gcd(m, n)
            u = torch.arange((m - 1) * p + (n - 1) * q + 1)
            steps, offset = (p, q), (p - q + 2 * ((m - 1) * p - u)).double() / (2 * q)
        else:
            s = self.spacing[a] if self.spacing else 1.0
            t = source.spacing[a] if source.spacing else 1.0
            period = n * t
            if self.periodic[a] and not math.isclose(m * s, period, rel_tol=1e-9):
                cannot_meet(self, source, f"axis {a} closes after {m * s:g} and after {period:g}")
            if s == t:
                steps, offset = (1, 1), (m - 1 - torch.arange(m + n - 1)).double() * s
            else:
                k, j = torch.arange(m - 1, -1, -1).double(), torch.arange(n).double()
                steps, offset = (n, 1), (k[:, None] * s - j * t).flatten()
        offset = offset.abs()
        if self.periodic[a]:
            offset = torch.minimum(offset, period - offset)
        return Axis(m, n, steps, offset)

    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"type": "Grid", "shape": list(self.shape)}
        if any(self.periodic):
            config["periodic"] = list(self.periodic)
        if self.spacing:
            config["spacing"] = list(self.spacing)
        if not self.whole:
            config["units"] = self.units
        return config

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
    """``n`` units in a row: ``Grid(n)``; with ``periodic=True``, a ring."""
    return Grid(n, periodic=periodic, spacing=spacing)


def default_sheet(n: int) -> Grid:
    """The sheet of units without a geometry: the first n cells, row by row, of ⌈√n⌉ columns."""
    columns = math.isqrt(count("units", n) - 1) + 1
    return Grid(-(-n // columns), columns, units=n)


class HexGrid(Geometry):
    """A hexagonal lattice: odd rows shifted by ½, every nearest neighbour at distance 1, Euclidean distances.

    Positions are (row·√3/2, column + ½·(row odd)). A target is stretched onto a source of another size by the
    bounding box of its cells (as :class:`Grid` is, which it also meets, where that has two open axes).
    """

    euclidean = True

    def __init__(self, rows: int, cols: int) -> None:
        self.rows, self.cols = count("rows", rows), count("cols", cols)

    def __len__(self) -> int:
        return self.rows * self.cols

    @cached_property
    def positions(self) -> Tensor:
        row, col = torch.arange(self.rows).double(), torch.arange(self.cols).double()
        y = (row * math.sqrt(3) / 2)[:, None].expand(-1, self.cols)
        x = col + 0.5 * (row % 2)[:, None]
        return torch.stack([y, x], dim=-1).reshape(-1, 2)

    @property
    def neighbour_distance(self) -> float:
        return 1.0

    def config(self) -> dict[str, Any]:
        return {"type": "HexGrid", "rows": self.rows, "cols": self.cols}

    def __repr__(self) -> str:
        return f"HexGrid({self.rows}, {self.cols})"
