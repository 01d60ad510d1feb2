"""Where units sit, and the distance between any two of them.

A geometry holds the places of a layer's units. ``target.distances(source)`` is the length of the wire from each
source unit (column) to each target unit (row), in units of the source's spacing, as float64 on the CPU.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from locality_prior._check import count, from_import_path, import_path, positive, wrong

Metric = Callable[[Tensor, Tensor], Tensor]

_MINKOWSKI = {"euclidean": 2.0, "cityblock": 1.0, "chebyshev": math.inf}


class Geometry(ABC):
    """Places for units, and the distances between them. Immutable; equal when made equal."""

    #: True where squared distances are squared Euclidean distances between ``positions``.
    euclidean: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """How many units."""

    @property
    @abstractmethod
    def positions(self) -> Tensor:
        """Coordinates of every unit, (n, d) float64; ValueError where a geometry knows distances alone."""

    @property
    def neighbour_distance(self) -> float:
        """Distance between neighbouring units: the median over units of the distance to the nearest other place."""
        d = self.distances()
        nearest = torch.where((d > 0) & d.isfinite(), d, math.inf).min(dim=1).values
        nearest = nearest[nearest.isfinite()]
        return float(nearest.median()) if len(nearest) else 1.0

    def distances(self, other: Geometry | None = None, rows: Tensor | None = None) -> Tensor:
        """Length of the wire from each unit of ``other`` to each unit of this geometry.

        Args:
            other: the source geometry; this one is the target and is laid onto it. None: this geometry itself.
            rows: numbers of the target units wanted, (r,); None: all of them.

        Returns:
            (len(self), len(other)), or (r, len(other)), float64 on the CPU, in units of ``other``'s spacing; inf
            where there is no way between two units.

        Raises:
            ValueError: the two geometries cannot meet.
        """
        source = self if other is None else other
        if rows is None:
            rows = torch.arange(len(self))
        return _distances(self, source, rows)

    def with_channels(self, channels: int) -> Geometry:
        """``channels`` units at each place, ordered as flattened convolution features: channel by channel."""
        return Channels(self, channels)

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values (JSON, YAML) from which :func:`from_config` makes an equal geometry."""

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and self.config() == other.config())

    def __hash__(self) -> int:
        return hash((type(self).__name__, len(self)))

    def __deepcopy__(self, memo: Any) -> Geometry:
        return self  # immutable


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

    def axes(self, source: Grid) -> list[Axis]:
        """The tables of offsets, one for each axis, of this grid laid onto ``source``."""
        if len(self.shape) != len(source.shape):
            _cannot_meet(self, source, "they have different numbers of axes")
        if self.periodic != source.periodic:
            _cannot_meet(self, source, "their axes do not close alike (periodic)")
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
                _cannot_meet(self, source, f"axis {a} closes after {m * s:g} and after {period:g}")
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


class Sphere(Geometry):
    """``n`` Fibonacci points on a sphere, with great-circle distances.

    The radius √(n/4π) gives each unit an area of 1, so that neighbours are about 1 apart. A target is laid onto the
    source's sphere by direction.
    """

    def __init__(self, n: int) -> None:
        self.n = count("n", n)
        self.radius = math.sqrt(self.n / (4 * math.pi))

    def __len__(self) -> int:
        return self.n

    @cached_property
    def directions(self) -> Tensor:
        """Unit vectors, (n, 3)."""
        k = torch.arange(self.n).double()
        z = 1 - (2 * k + 1) / self.n
        phi, ring = k * math.pi * (3 - math.sqrt(5)), (1 - z * z).sqrt()
        return torch.stack([ring * phi.cos(), ring * phi.sin(), z], dim=1)

    @property
    def positions(self) -> Tensor:
        return self.directions * self.radius

    @property
    def neighbour_distance(self) -> float:
        return 1.0

    def config(self) -> dict[str, Any]:
        return {"type": "Sphere", "n": self.n}

    def __repr__(self) -> str:
        return f"Sphere({self.n})"


class Points(Geometry):
    """Units at given coordinates, which meet anything that has positions of the same dimension, unstretched.

    Args:
        xyz: (n, d) finite coordinates. A tensor that requires a gradient keeps it: ``distances`` is differentiable.
        metric: "euclidean", "cityblock", "chebyshev", or a function of coordinates (n, d) and (m, d) that returns
            their distances (n, m). A function is saved by its import path, so a lambda cannot be saved.
    """

    def __init__(self, xyz: Any, metric: str | Metric = "euclidean") -> None:
        try:
            self._xyz = torch.as_tensor(xyz, dtype=torch.float64, device="cpu").clone()
        except (TypeError, ValueError, RuntimeError):
            raise wrong("xyz", type(xyz).__name__, "an array of coordinates (n, d)") from None
        if self._xyz.ndim != 2 or 0 in self._xyz.shape:
            raise wrong("xyz", f"shape {tuple(self._xyz.shape)}", "coordinates of shape (n, d)")
        if not self._xyz.isfinite().all():
            row = int((~self._xyz.isfinite()).any(1).nonzero()[0])
            raise wrong("xyz", f"{self._xyz[row].tolist()} at unit {row}", "finite coordinates")
        if not callable(metric) and metric not in list(_MINKOWSKI):
            raise wrong("metric", repr(metric), f"{', '.join(map(repr, _MINKOWSKI))} or a function")
        self.metric = metric
        self.euclidean = metric == "euclidean"

    def __len__(self) -> int:
        return len(self._xyz)

    @property
    def positions(self) -> Tensor:
        return self._xyz

    def between(self, target: Tensor, source: Tensor) -> Tensor:
        """Distances (n, m) by this geometry's metric between coordinates (n, d) and (m, d)."""
        if not callable(self.metric):
            # without the matrix-product shortcut: exact zeros, and torch's gradient 0 there
            return torch.cdist(target, source, p=_MINKOWSKI[self.metric], compute_mode="donot_use_mm_for_euclid_dist")
        d = self.metric(target, source)
        shape = (len(target), len(source))
        if not isinstance(d, Tensor) or d.shape != shape:
            raise wrong("metric", f"{type(d).__name__} {tuple(getattr(d, 'shape', ()))}", f"a tensor {shape}")
        if not (d >= 0).all():
            raise wrong("metric", "a negative or NaN distance", "distances of at least 0")
        return d.double()

    def config(self) -> dict[str, Any]:
        metric = import_path("metric", self.metric) if callable(self.metric) else self.metric
        return {"type": "Points", "xyz": self._xyz.tolist(), "metric": metric}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Points) and self.metric == other.metric and torch.equal(self._xyz, other._xyz)

    __hash__ = Geometry.__hash__

    def __repr__(self) -> str:
        n, d = self._xyz.shape
        metric = getattr(self.metric, "__name__", self.metric)
        return f"Points({n} × {d}{'' if self.euclidean else f', metric={metric}'})"


class Measured(Geometry):
    """A geometry that knows distances alone, and so meets only itself."""

    _lengths: Tensor

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def positions(self) -> Tensor:
        raise ValueError(f"{self!r} has no positions, only distances")

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Measured) and type(self) is type(other) and torch.equal(self._lengths, other._lengths)
        )

    __hash__ = Geometry.__hash__


class Graph(Measured):
    """Units at the nodes of a graph; the distance is the length of the shortest path.

    Args:
        adjacency: symmetric (n, n) lengths of the edges, dense or scipy.sparse; 0 is no edge. For directed or
            measured lengths see :class:`Distances`. A node out of reach has no wire. Needs scipy.
    """

    def __init__(self, adjacency: Any) -> None:
        try:
            a = adjacency.toarray() if hasattr(adjacency, "toarray") else np.asarray(adjacency)
        except (TypeError, ValueError, RuntimeError):
            raise wrong("adjacency", type(adjacency).__name__, "numbers of shape (n, n)") from None
        if a.ndim != 2 or a.shape[0] != a.shape[1] or not a.size or a.dtype.kind not in "biuf":
            raise wrong("adjacency", f"{a.dtype} {a.shape}", "numbers of shape (n, n)")
        a = a.astype(np.float64)
        if not (np.isfinite(a).all() and (a >= 0).all()):
            raise wrong("adjacency", "a negative, NaN or infinite length", "finite lengths of at least 0")
        if not (a == a.T).all():
            raise wrong("adjacency", "an asymmetric matrix", "a symmetric one (Distances takes directed lengths)")
        self._adjacency = a

    def __len__(self) -> int:
        return len(self._adjacency)

    @cached_property
    def _lengths(self) -> Tensor:  # type: ignore[override]
        from scipy.sparse.csgraph import shortest_path

        return torch.from_numpy(shortest_path(self._adjacency, directed=False))

    def config(self) -> dict[str, Any]:
        i, j = np.nonzero(np.triu(self._adjacency))
        edges = [[int(a), int(b), float(self._adjacency[a, b])] for a, b in zip(i, j, strict=True)]
        return {"type": "Graph", "nodes": len(self), "edges": edges}

    def __repr__(self) -> str:
        return f"Graph({len(self)} nodes, {np.count_nonzero(np.triu(self._adjacency))} edges)"


class Distances(Measured):
    """Measured lengths of the wires, fibre tracts say.

    Args:
        lengths: (out, in) lengths of at least 0, from source unit (column) to target unit (row); inf is no wire. As a
            layer's geometry it speaks for both sides at once.
    """

    def __init__(self, lengths: Any) -> None:
        try:
            self._lengths = torch.as_tensor(lengths, dtype=torch.float64, device="cpu").detach().clone()
        except (TypeError, ValueError, RuntimeError):
            raise wrong("lengths", type(lengths).__name__, "an array of shape (out, in)") from None
        if self._lengths.ndim != 2 or 0 in self._lengths.shape:
            raise wrong("lengths", f"shape {tuple(self._lengths.shape)}", "shape (out, in)")
        if not (self._lengths >= 0).all():
            i, j = (~(self._lengths >= 0)).nonzero()[0].tolist()
            raise wrong("lengths", f"{float(self._lengths[i, j])} at ({i}, {j})", "lengths of at least 0")

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self._lengths.shape[0], self._lengths.shape[1]

    def config(self) -> dict[str, Any]:
        # JSON has no infinity: None stands for a wire that is not there
        rows = [[None if math.isinf(d) else d for d in row] for row in self._lengths.tolist()]
        return {"type": "Distances", "lengths": rows}

    def __repr__(self) -> str:
        return f"Distances({self.shape[0]} × {self.shape[1]})"


class Channels(Geometry):
    """Several units at each place of another geometry: unit k sits at place k modulo the number of places."""

    def __init__(self, base: Geometry, channels: int) -> None:
        if isinstance(base, Distances):
            raise wrong("with_channels", repr(base), "a geometry of places")
        channels = count("channels", channels)
        if isinstance(base, Channels):
            channels *= base.channels
            base = base.base
        self.base: Geometry = base
        self.channels: int = channels
        self.euclidean = base.euclidean

    def __len__(self) -> int:
        return len(self.base) * self.channels

    @property
    def positions(self) -> Tensor:
        return self.base.positions.repeat(self.channels, 1)

    @property
    def neighbour_distance(self) -> float:
        return self.base.neighbour_distance

    def config(self) -> dict[str, Any]:
        return {"type": "Channels", "base": self.base.config(), "channels": self.channels}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channels) and self.channels == other.channels and self.base == other.base

    __hash__ = Geometry.__hash__

    def __repr__(self) -> str:
        return f"{self.base!r}.with_channels({self.channels})"


def _distances(target: Geometry, source: Geometry, rows: Tensor) -> Tensor:
    """Distances (len(rows), len(source)) of the target units ``rows``: the rule by which geometries meet."""
    if isinstance(target, Channels):
        return _distances(target.base, source, rows % len(target.base))
    if isinstance(source, Channels):
        return _distances(target, source.base, rows).repeat(1, source.channels)
    if isinstance(target, Points) or isinstance(source, Points):
        return _points(target, source, rows)
    if isinstance(target, Grid) and isinstance(source, Grid):
        return _grids(target, source, rows)
    if isinstance(target, (Grid, HexGrid)) and isinstance(source, (Grid, HexGrid)):
        return _boxes(target, source, rows)
    if isinstance(target, Sphere) and isinstance(source, Sphere):
        u, v = target.directions[rows], source.directions
        # the angle as 2 atan2(|u − v|, |u + v|): accurate at 0 and at π, where acos(u·v) is not
        near, far = (torch.cdist(u, w, compute_mode="donot_use_mm_for_euclid_dist") for w in (v, -v))
        return 2 * source.radius * torch.atan2(near, far)
    if isinstance(target, Measured) and target == source:
        return target._lengths[rows]
    if isinstance(target, Measured) or isinstance(source, Measured):
        _cannot_meet(target, source, "a geometry of distances alone meets only itself")
    _cannot_meet(target, source, "no distance is defined between the two kinds")


def _grids(target: Grid, source: Grid, rows: Tensor) -> Tensor:
    squared = torch.zeros(len(rows), *([1] * len(source.shape)), dtype=torch.float64)
    places = torch.unravel_index(rows, target.shape)
    for a, axis in enumerate(target.axes(source)):
        index = (axis.target - 1 - places[a])[:, None] * axis.steps[0] + torch.arange(axis.source) * axis.steps[1]
        shape = [len(rows)] + [1] * len(source.shape)
        shape[a + 1] = axis.source
        squared = squared + axis.lengths[index].square().reshape(shape)
    return squared.sqrt().flatten(1)[:, : len(source)]


def _box(sheet: Grid | HexGrid) -> tuple[Tensor, Tensor]:
    """The first corner and the extent of the bounding box of a sheet's cells."""
    if isinstance(sheet, Grid):
        low, extent = [-0.5] * len(sheet.shape), [float(n) for n in sheet.shape]
    else:
        height = math.sqrt(3) / 2
        low, extent = [-height / 2, -0.5], [sheet.rows * height, sheet.cols + 0.5 * (sheet.rows > 1)]
    return torch.tensor(low, dtype=torch.float64), torch.tensor(extent, dtype=torch.float64)


def _boxes(target: Grid | HexGrid, source: Grid | HexGrid, rows: Tensor) -> Tensor:
    for sheet in (target, source):
        if isinstance(sheet, Grid) and (len(sheet.shape) != 2 or any(sheet.periodic) or sheet.spacing):
            _cannot_meet(target, source, "a HexGrid meets grids with two open axes and no spacing")
    (low_t, extent_t), (low_s, extent_s) = _box(target), _box(source)
    places = target.positions[rows]
    if target != source:
        places = (places - low_t) * (extent_s / extent_t) + low_s
    return torch.cdist(places, source.positions, compute_mode="donot_use_mm_for_euclid_dist")


def _points(target: Geometry, source: Geometry, rows: Tensor) -> Tensor:
    metrics = [g.metric for g in (target, source) if isinstance(g, Points)]
    if len(metrics) == 2 and metrics[0] != metrics[1]:
        _cannot_meet(target, source, "their metrics differ")
    for g in (target, source):
        if isinstance(g, Measured):
            _cannot_meet(target, source, "a geometry of distances alone meets only itself")
        if isinstance(g, Grid) and any(g.periodic):
            _cannot_meet(target, source, "points do not close on themselves (periodic)")
    a, b = target.positions[rows], source.positions
    if a.shape[1] != b.shape[1]:
        _cannot_meet(target, source, f"positions have {a.shape[1]} and {b.shape[1]} coordinates")
    points = target if isinstance(target, Points) else source
    assert isinstance(points, Points)
    return points.between(a, b)


def _cannot_meet(target: Geometry, source: Geometry, why: str) -> NoReturn:
    raise ValueError(f"target: got {target!r} opposite source {source!r}, which cannot meet: {why}")


def _points_from(xyz: Any, metric: str) -> Points:
    return Points(xyz, from_import_path("metric", metric) if ":" in metric else metric)


def _graph_from(nodes: int, edges: Sequence[tuple[int, int, float]]) -> Graph:
    a = np.zeros((nodes, nodes))
    for i, j, length in edges:
        a[i, j] = a[j, i] = length
    return Graph(a)


_MAKE: dict[str, Callable[..., Geometry]] = {
    "Grid": lambda shape, **rest: Grid(*shape, **rest),
    "HexGrid": HexGrid,
    "Sphere": Sphere,
    "Points": _points_from,
    "Graph": _graph_from,
    "Distances": lambda lengths: Distances([[math.inf if d is None else d for d in row] for row in lengths]),
    "Channels": lambda base, channels: Channels(from_config(base), channels),
}


def from_config(config: dict[str, Any]) -> Geometry:
    """The geometry that ``config`` (of :meth:`Geometry.config`) describes.

    Raises:
        ValueError: no such geometry, or values that do not fit it.
    """
    values = dict(config) if isinstance(config, dict) else {}
    kind = values.pop("type", None)
    if kind not in list(_MAKE):
        raise wrong("geometry", repr(config), f'a mapping whose "type" is one of {", ".join(_MAKE)}')
    try:
        return _MAKE[kind](**values)
    except (TypeError, IndexError):
        raise wrong("geometry", repr(config), f"the values of a {kind}") from None
