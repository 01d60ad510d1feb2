"""How the units of a sheet are drawn: numbers alone, so that a page needs neither a geometry nor torch."""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from locality_prior._check import choice, count, instance, number, positive, wrong, wrong_type
from locality_prior.analysis._given import Floats, Integers, floats
from locality_prior.plots._views import Cover
from locality_prior.plots.surfaces import Hemisphere, Surface, whole

if TYPE_CHECKING:
    from locality_prior.geometry import Geometry, Mesh

#: The most cells of a sheet, most of which may be without a unit.
MOST_CELLS = 1 << 24

#: A cortex is of one hemisphere where so much larger a share of its vertices is on one side than on the other. One that
#: was inflated to a sphere has no side.
ASIDE = 0.8

Kind = Literal["cells", "hexagons", "sphere", "points", "surface"]

#: Surfaces that were read, by their key: those of many runs are held once.
_READ: weakref.WeakValueDictionary[str, Surface] = weakref.WeakValueDictionary()
_COVERS: weakref.WeakKeyDictionary[Surface, dict[bytes, Cover]] = weakref.WeakKeyDictionary()


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
        xy: (units, 2) places on the page: rightwards, and downwards (upwards for points, the sphere and a surface, of
            which they are places on one side).
        kind: what a unit is drawn as: a cell of a grid, a hexagon, a disc on a map of the sphere, a disc at a point, or
            a part of a surface.
        shape: rows and columns of cells or hexagons, or the length of a line of cells; empty for the other kinds.
        spacing: distance between neighbours along each axis of ``shape``, for cells; only the ratio is drawn.
        radius: of the sphere.
        surface: on which the units are drawn, for units on a surface: a ``locality_prior.plots.surfaces.Surface``.
        vertex: (units,) the vertex of the surface at which each of them is.
    """

    xy: Floats = field(repr=False)
    kind: Kind
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    radius: float = 0.0
    surface: Surface | None = field(default=None, repr=False)
    vertex: Integers | None = field(default=None, repr=False)

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
        if self.kind == "surface":
            surface = instance("surface", self.surface, Surface, "the Surface on which the units are")
            object.__setattr__(self, "vertex", whole("vertex", self.vertex, len(surface.vertices), len(xy)))
        elif self.surface is not None or self.vertex is not None:
            raise wrong("surface", self.surface, f"none for units that are {self.kind}")

    def __len__(self) -> int:
        return len(self.xy)

    @classmethod
    def of(cls, geometry: Geometry | Places) -> Places:
        """The places of a geometry's units; those that are places already are returned as they are.

        Points in three or more dimensions are projected onto their first two principal axes. The units of a mesh are
        drawn on its inflated surface, if it has one.

        Raises:
            TypeError: neither a geometry nor places.
            ValueError: a geometry that cannot be drawn: one with several units at each place, a grid of more than two
                axes, or one that knows distances alone.
        """
        if isinstance(geometry, Places):
            return geometry
        from locality_prior.geometry import Channels, Geometry, Grid, HexGrid, Mesh, Permuted, Sphere

        if not isinstance(geometry, Geometry):
            raise wrong_type("geometry", geometry, "a Geometry, such as Grid(32, 32), or Places")
        if isinstance(geometry, Permuted):
            places = cls.of(geometry.base)
            order = geometry.order.numpy()
            return replace(places, xy=places.xy[order], vertex=None if places.vertex is None else places.vertex[order])
        if isinstance(geometry, Channels):
            raise wrong("geometry", repr(geometry), "a geometry without channels; average them and give their places")
        if isinstance(geometry, Sphere):
            xy = _hammer(geometry.directions.numpy()) * geometry.radius
            return cls(xy, "sphere", radius=geometry.radius)
        if isinstance(geometry, Mesh):
            return _on(geometry)
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
            return cls(on_plane(np.stack(index[::-1], axis=1)), "cells", geometry.shape, geometry.spacing or ())
        return cls(on_plane(positions), "points")

    @property
    def cover(self) -> Cover:
        """How the units cover the surface; all places of the same units share it."""
        assert self.surface is not None
        assert self.vertex is not None
        covers = _COVERS.setdefault(self.surface, {})
        return covers.setdefault(self.vertex.tobytes(), Cover(self.surface, self.vertex))

    def config(self) -> dict[str, Any]:
        """All but the arrays, as plain values for JSON; :func:`arrays_of` has the arrays."""
        config: dict[str, Any] = {"kind": self.kind}
        if self.shape:
            config["shape"] = list(self.shape)
        if self.spacing:
            config["spacing"] = list(self.spacing)
        if self.radius:
            config["radius"] = self.radius
        if self.surface is not None:
            config["hemisphere"] = self.surface.hemisphere
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], arrays: Mapping[str, Any], sheet: str) -> Places:
        """The places of a sheet that :meth:`config` describes, with its arrays: see :func:`arrays_of`.

        Raises:
            ValueError: values that do not describe places.
        """
        names = {"kind", "shape", "spacing", "radius", "hemisphere"}
        if not isinstance(config, dict) or "kind" not in config or not names.issuperset(config):
            expected = 'a mapping with "kind" and, where the kind has them, shape, spacing, radius, hemisphere'
            raise wrong("config", config, expected)
        given = {name: value for name, value in config.items() if name != "hemisphere"}
        if config["kind"] == "surface":
            given["vertex"] = _array(arrays, f"sheet/{sheet}/vertex")
            k = int(whole(f"sheet/{sheet}/surface", _array(arrays, f"sheet/{sheet}/surface"), 1 << 31))
            vertices, faces = (_array(arrays, f"surface/{k}/{part}") for part in ("vertices", "faces"))
            read = Surface(vertices, faces, arrays.get(f"surface/{k}/curvature"), config.get("hemisphere", ""))
            given["surface"] = _READ.setdefault(read.key, read)
        return cls(_array(arrays, f"sheet/{sheet}/xy"), **given)


def arrays_of(sheets: Mapping[str, Places]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of the places of sheets, by their keys in measures.npz: ``sheet/NAME/xy``, and for units on a surface
    ``sheet/NAME/vertex`` and the number of the surface, ``sheet/NAME/surface``. A surface that several sheets share is
    held once, as ``surface/NUMBER/vertices``, ``surface/NUMBER/faces`` and ``surface/NUMBER/curvature``."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    number: dict[str, int] = {}
    for name, places in sheets.items():
        arrays[f"sheet/{name}/xy"] = places.xy
        if places.surface is None or places.vertex is None:
            continue
        surface = places.surface
        k = number.setdefault(surface.key, len(number))
        arrays[f"sheet/{name}/vertex"] = places.vertex.astype(np.int32)
        arrays[f"sheet/{name}/surface"] = np.array(k)
        arrays |= {f"surface/{k}/vertices": surface.vertices, f"surface/{k}/faces": surface.faces}
        if surface.curvature is not None:
            arrays[f"surface/{k}/curvature"] = surface.curvature
    return arrays


def _array(arrays: Mapping[str, Any], key: str) -> Any:
    if key not in arrays:
        raise wrong("arrays", f"none named {key}", "the arrays of a sheet's places")
    return arrays[key]


def _on(mesh: Mesh) -> Places:
    """The places of a mesh's units on its inflated surface, or on the mesh itself."""
    vertices = mesh.vertices.numpy()
    hemisphere: Hemisphere = ""
    left = float((vertices[:, 0] < 0).mean())
    if mesh.inflated is not None and abs(2 * left - 1) > ASIDE:  # a cortex on one side of the head
        hemisphere = "left" if left > 0.5 else "right"
    drawn = vertices if mesh.inflated is None else mesh.inflated.numpy()
    curvature = None if mesh.curvature is None else mesh.curvature.numpy()
    surface = Surface(drawn, mesh.faces.numpy(), curvature, hemisphere)
    vertex = mesh.units.numpy()
    on = Cover(surface, vertex)
    places = Places(surface.points[vertex] @ on.sides[0].axes[:2].T, "surface", surface=surface, vertex=vertex)
    _COVERS.setdefault(surface, {})[vertex.tobytes()] = on
    return places


def _are_cells(xy: Floats, shape: tuple[int, ...]) -> bool:
    """Whether units lie in cells (column, row) of a grid, no two of them in the same one."""
    columns, rows = shape[-1], math.prod(shape[:-1])
    inside = (xy >= 0) & (xy < (columns, rows)) & (xy == np.floor(xy))
    return bool(inside.all()) and len(np.unique(xy[:, 1] * columns + xy[:, 0])) == len(xy)


def _tuple(name: str, values: Any) -> tuple[Any, ...]:
    if not isinstance(values, (tuple, list)):
        raise wrong(name, values, "a list of numbers")
    return tuple(values)


def on_plane(positions: Any) -> Floats:
    """Positions (…, units, d) as (…, units, 2): a second coordinate of 0 for a line, two principal axes for three or
    more, which are those of the last of several arrays of positions."""
    xy = np.asarray(positions, dtype=np.float64)
    if xy.shape[-1] > 2:
        last = xy.reshape(-1, *xy.shape[-2:])[-1]
        xy, last = xy - last.mean(axis=0), last - last.mean(axis=0)
        axes = np.linalg.svd(last, full_matrices=False)[2][:2]
        # an axis may point either way: let its largest entry be positive, so that the picture is always the same
        axes = axes * np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1))
        xy = xy @ axes.T
    return xy if xy.shape[-1] == 2 else np.concatenate([xy, np.zeros_like(xy)], axis=-1)


def where_moved(positions: Any, began: str) -> Floats:
    """Positions (…, units, d) that units have moved to, as places of points, (…, units, 2).

    Units that ``began`` as the cells or hexagons of a sheet, which have positions (row, column), are drawn as there:
    columns rightwards, and rows downwards.
    """
    xy = on_plane(positions)
    return xy[..., ::-1] * (1, -1) if began in ("cells", "hexagons") and np.shape(positions)[-1] == 2 else xy


def _hammer(directions: Floats) -> Floats:
    """Hammer's equal-area projection of unit vectors (n, 3) into an ellipse of semi-axes 2√2 and √2: (n, 2)."""
    x, y, z = directions.T
    half, level = np.arctan2(y, x) / 2, np.hypot(x, y)
    along = np.sqrt(1 + level * np.cos(half))
    return math.sqrt(2) * np.stack([2 * level * np.sin(half) / along, z / along], axis=1)
