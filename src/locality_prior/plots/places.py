"""How the units of a sheet are drawn: numbers alone, so that a page needs neither a geometry nor torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from locality_prior._check import choice, count, number, positive, wrong, wrong_type
from locality_prior.analysis._given import Floats, floats

if TYPE_CHECKING:
    from locality_prior.geometry import Geometry

#: The most cells of a sheet, most of which may be without a unit.
MOST_CELLS = 1 << 24

Kind = Literal["cells", "hexagons", "sphere", "points"]


@dataclass(frozen=True, eq=False)
class Places:
    """Where the units of a sheet are drawn, and as what. Every plot that takes a geometry takes its places as well.

    >>> import locality_prior as lp
    >>> places = lp.plots.Places.of(lp.Grid(2, 2))
    >>> places
    Places(kind='cells', shape=(2, 2), spacing=(), radius=0.0)
    >>> print(places.xy)
    [[0. 0.]
     [1. 0.]
     [0. 1.]
     [1. 1.]]

    Args:
        xy: (units, 2) places on the page: rightwards, and downwards (upwards for points and the sphere).
        kind: what a unit is drawn as: a cell of a grid, a hexagon, a disc on a map of the sphere, or a disc at a point.
        shape: rows and columns of cells or hexagons, or the length of a line of cells; empty for the other kinds.
        spacing: distance between neighbours along each axis of ``shape``, for cells; only the ratio is drawn.
        radius: of the sphere.
    """

    xy: Floats = field(repr=False)
    kind: Kind
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    radius: float = 0.0

    def __post_init__(self) -> None:
        xy = floats("xy", self.xy, "units", 2)
        if not len(xy) or not np.isfinite(xy).all():
            raise wrong("xy", xy, "a finite place for each of one or more units")
        choice("kind", self.kind, get_args(Kind))
        axes = {"cells": (1, 2), "hexagons": (2,)}.get(self.kind, (0,))
        shape = tuple(count("shape", n) for n in _tuple("shape", self.shape))
        spacing = tuple(positive("spacing", s) for s in _tuple("spacing", self.spacing))
        if len(shape) not in axes or (shape and not len(xy) <= math.prod(shape) <= max(MOST_CELLS, len(xy))):
            raise wrong("shape", shape, f"the shape of {len(xy)} {self.kind}")
        if len(spacing) not in ((0, len(shape)) if self.kind == "cells" else (0,)):
            raise wrong("spacing", spacing, "one for each axis of cells, or none")
        if self.kind == "cells" and not _are_cells(xy, shape):
            raise wrong("xy", xy, f"a cell (column, row) of its own for each unit, within {shape}")
        number("radius", self.radius, 0)
        for name, value in (("xy", xy), ("shape", shape), ("spacing", spacing), ("radius", float(self.radius))):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.xy)

    @classmethod
    def of(cls, geometry: Geometry | Places) -> Places:
        """The places of a geometry's units; those that are places already are returned as they are.

        Points in three or more dimensions are projected onto their first two principal axes.

        Raises:
            TypeError: neither a geometry nor places.
            ValueError: a geometry that cannot be drawn: one with several units at each place, a grid of more than two
                axes, or one that knows distances alone.
        """
        if isinstance(geometry, Places):
            return geometry
        from locality_prior.geometry import Channels, Geometry, Grid, HexGrid, Permuted, Sphere

        if not isinstance(geometry, Geometry):
            raise wrong_type("geometry", geometry, "a Geometry, such as Grid(32, 32), or Places")
        if isinstance(geometry, Permuted):
            places = cls.of(geometry.base)
            return replace(places, xy=places.xy[geometry.order.numpy()])
        if isinstance(geometry, Channels):
            raise wrong("geometry", repr(geometry), "a geometry without channels; average them and give their places")
        if isinstance(geometry, Sphere):
            xy = _hammer(geometry.directions.numpy()) * geometry.radius
            return cls(xy, "sphere", radius=geometry.radius)
        try:
            positions: Floats = geometry.positions.detach().numpy()
        except ValueError:
            raise wrong("geometry", repr(geometry), "a geometry of places; this one knows distances alone") from None
        if isinstance(geometry, HexGrid):
            return cls(positions[:, ::-1], "hexagons", (geometry.rows, geometry.cols))
        if isinstance(geometry, Grid):
            if len(geometry.shape) > 2:
                raise wrong("geometry", repr(geometry), "a geometry of places on a plane or a sphere")
            index = np.unravel_index(np.arange(len(geometry)), geometry.shape)
            return cls(_plane(np.stack(index[::-1], axis=1)), "cells", geometry.shape, geometry.spacing or ())
        return cls(_plane(positions), "points")

    def config(self) -> dict[str, Any]:
        """All but ``xy``, as plain values for JSON."""
        config: dict[str, Any] = {"kind": self.kind}
        if self.shape:
            config["shape"] = list(self.shape)
        if self.spacing:
            config["spacing"] = list(self.spacing)
        if self.radius:
            config["radius"] = self.radius
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], xy: Any) -> Places:
        """The places that :meth:`config` describes, at ``xy``.

        Raises:
            ValueError: values that do not describe places.
        """
        names = {"kind", "shape", "spacing", "radius"}
        if not isinstance(config, dict) or "kind" not in config or not names.issuperset(config):
            raise wrong("config", config, 'a mapping with "kind" and, where the kind has them, shape, spacing, radius')
        return cls(xy, **config)


def _are_cells(xy: Floats, shape: tuple[int, ...]) -> bool:
    """Whether units lie in cells (column, row) of a grid, no two of them in the same one."""
    columns, rows = shape[-1], math.prod(shape[:-1])
    inside = (xy >= 0) & (xy < (columns, rows)) & (xy == np.floor(xy))
    return bool(inside.all()) and len(np.unique(xy[:, 1] * columns + xy[:, 0])) == len(xy)


def _tuple(name: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, (tuple, list)):
        raise wrong(name, values, "a list of numbers")
    return tuple(values)


def _plane(positions: Any) -> Floats:
    """Positions (units, d) as (units, 2): a second coordinate of 0 for a line, two principal axes for three or more."""
    xy = np.asarray(positions, dtype=np.float64)
    if xy.shape[1] == 1:
        return np.hstack([xy, np.zeros_like(xy)])
    if xy.shape[1] == 2:
        return xy
    xy = xy - xy.mean(axis=0)
    axes = np.linalg.svd(xy, full_matrices=False)[2][:2]
    # an axis may point either way: let its largest entry be positive, so that the picture is always the same
    axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1))
    flat: Floats = xy @ axes.T
    return flat if flat.shape[1] == 2 else np.hstack([flat, np.zeros_like(flat)])


def _hammer(directions: Floats) -> Floats:
    """Hammer's equal-area projection of unit vectors (n, 3) into an ellipse of semi-axes 2√2 and √2: (n, 2)."""
    x, y, z = directions.T
    half, level = np.arctan2(y, x) / 2, np.hypot(x, y)
    along = np.sqrt(1 + level * np.cos(half))
    return math.sqrt(2) * np.stack([2 * level * np.sin(half) / along, z / along], axis=1)
