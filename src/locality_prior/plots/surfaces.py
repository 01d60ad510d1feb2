"""Surfaces as they are drawn: triangles between vertices, small enough for each run to store them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from locality_prior._check import choice, wrong
from locality_prior.analysis._given import Floats, Integers, array, floats

#: The most vertices and triangles of a surface that is drawn.
MOST_VERTICES, MOST_FACES = 1 << 20, 1 << 21
#: Steps from the middle of a surface to its farthest end, and from flat to the strongest curvature.
STEPS, BENT = 32767, 127
#: If at least this share of the units' neighbouring vertices are units, the units are a whole patch.
WHOLE = 0.7

Hemisphere = Literal["left", "right", ""]


@dataclass(frozen=True, eq=False)
class Surface:
    """A surface to draw units on. It stores only what a picture needs: the places of its vertices, in 65,534 steps over
    its length, and their curvature, in 255 steps.

    >>> from locality_prior.plots.surfaces import Surface
    >>> corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    >>> faces = [[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]]
    >>> Surface(corners, faces)
    Surface of 4 vertices and 4 triangles

    Args:
        vertices: (vertices, 3) places; the unit does not matter.
        faces: (triangles, 3) the numbers of each triangle's vertices.
        curvature: (vertices,) positive where the surface is folded inwards (a sulcus), which is drawn dark; None: all
            is drawn in one grey.
        hemisphere: "left" or "right" for a cortex, whose x, y and z then point to the right, the front and the top of
            the head; empty for any other surface.
    """

    vertices: npt.NDArray[np.int16] = field(repr=False)
    faces: npt.NDArray[np.int32] = field(repr=False)
    curvature: npt.NDArray[np.int8] | None = field(default=None, repr=False)
    hemisphere: Hemisphere = ""

    def __post_init__(self) -> None:
        given = array("vertices", self.vertices)
        places = floats("vertices", given, "vertices", 3)
        if not 3 <= len(places) <= MOST_VERTICES or not np.isfinite(places).all() or np.abs(places).max() > 1e300:
            raise wrong("vertices", f"shape {places.shape}", f"from 3 to {MOST_VERTICES:,} finite places (x, y, z)")
        faces = whole("faces", self.faces, len(places), "triangles", 3)
        if not 1 <= len(faces) <= MOST_FACES:
            raise wrong("faces", f"{len(faces):,} triangles", f"from 1 to {MOST_FACES:,}")
        low, high = places.min(axis=0), places.max(axis=0)
        half = float((high - low).max()) / 2
        if not half:
            raise wrong("vertices", "vertices that are all at one place", "a surface")
        if given.dtype != np.int16:  # else they are in steps already
            places = np.rint((places - (low + high) / 2) / half * STEPS)
        object.__setattr__(self, "vertices", places.astype(np.int16))
        object.__setattr__(self, "faces", faces.astype(np.int32))
        if self.curvature is not None:
            object.__setattr__(self, "curvature", _steps(self.curvature, len(places)))
        choice("hemisphere", self.hemisphere, get_args(Hemisphere))

    def __repr__(self) -> str:
        return f"Surface of {len(self.vertices):,} vertices and {len(self.faces):,} triangles"

    @cached_property
    def key(self) -> str:
        """A text that two surfaces have in common only if they are equal."""
        made = hashlib.sha256(repr((self.hemisphere, self.vertices.shape, self.faces.shape)).encode())
        for values in (self.vertices, self.faces, self.curvature):
            made.update(b"" if values is None else values.tobytes())
        return made.hexdigest()

    @cached_property
    def points(self) -> Floats:
        """(vertices, 3) places, scaled so that the largest coordinate is 1."""
        return self.vertices / STEPS

    @cached_property
    def normals(self) -> Floats:
        """(vertices, 3) unit normals, outwards where the surface is closed; 0 where there is none."""
        a, b, c = (self.points[self.faces[:, k]] for k in range(3))
        of_faces = np.cross(b - a, c - a)
        normals = np.zeros_like(self.points)
        for k in range(3):
            np.add.at(normals, self.faces[:, k], of_faces)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        found: Floats = normals / np.where(length > 0, length, 1)
        return -found if float(np.einsum("ij,ij->", a, of_faces)) < 0 else found

    @cached_property
    def edges(self) -> tuple[Integers, Integers]:
        """The vertices that each vertex is joined to: where its list starts, and all lists one after another."""
        pairs = np.concatenate([self.faces[:, [i, j]] for i, j in ((0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2))])
        codes = np.unique(pairs[:, 0].astype(np.int64) * len(self.vertices) + pairs[:, 1])
        origin, end = np.divmod(codes, len(self.vertices))
        return np.searchsorted(origin, np.arange(len(self.vertices) + 1)), end

    @cached_property
    def closed(self) -> bool:
        """Whether two triangles meet at each edge, so that the surface's inner side cannot be seen."""
        return len(self.edges[1]) == 3 * len(self.faces)

    def coloured(self, vertex: Integers) -> Integers:
        """The unit whose colour each vertex has, where unit k is at ``vertex[k]``; -1 where it has none.

        A vertex has the colour of the unit that is nearest along the edges, if that is within reach: 0.8 times the
        distance at which nine in ten units have another. Vertices out of reach are coloured only in gaps between units,
        no vertex of which is at twice the reach. If most neighbours of units are units, only units are coloured.
        """
        n = len(self.vertices)
        near, apart = np.full(n, np.inf), np.full(n, -1)
        apart[vertex[::-1]] = np.arange(len(vertex))[::-1]  # of several units at a vertex the first
        near[vertex] = 0
        start, ends = self.edges
        count = np.diff(start)
        there = np.unique(vertex)
        a, b = _joined(there, start, count, ends)
        share = np.bincount(a, near[b] == 0, n)[there] / np.maximum(count[there], 1)
        if np.median(share) >= WHOLE or len(there) < 2:
            return apart
        active = there
        while len(active):
            a, b = _joined(active, start, count, ends)
            length = near[a] + np.linalg.norm(self.points[a] - self.points[b], axis=1)
            better = length < near[b]
            a, b, length = a[better], b[better], length[better]
            order = np.lexsort((-apart[a], -length))  # the nearest last: it stays
            near[b[order]], apart[b[order]] = length[order], apart[a[order]]
            active = np.unique(b)
        a, b = _joined(np.arange(n), start, count, ends)
        between = near[a] + near[b] + np.linalg.norm(self.points[a] - self.points[b], axis=1)
        other = (apart[a] != apart[b]) & np.isfinite(between)
        nearest = np.full(len(vertex), np.inf)
        np.minimum.at(nearest, apart[a[other]], between[other])
        nearest = nearest[np.isfinite(nearest)]
        reach = 0.8 * float(np.quantile(nearest, 0.9)) if len(nearest) else 0.0
        bare = near > reach
        active = np.flatnonzero(near > 2 * reach)
        outside = np.zeros(n, bool)
        while len(active):  # from places far from all units to all that are joined to them without a unit between
            outside[active] = True
            _, b = _joined(active, start, count, ends)
            active = np.unique(b[bare[b] & ~outside[b]])
        return np.where(outside, -1, apart)


def _joined(active: Integers, start: Integers, count: Integers, ends: Integers) -> tuple[Integers, Integers]:
    """The edges that leave some vertices."""
    n = count[active]
    first = np.repeat(start[active] - np.concatenate([[0], np.cumsum(n)[:-1]]), n)
    return np.repeat(active, n), ends[first + np.arange(n.sum())]


def _steps(curvature: Any, n: int) -> npt.NDArray[np.int8]:
    given = array("curvature", curvature)
    values = floats("curvature", given, n)
    if given.dtype == np.int8:
        return given
    values = np.where(np.isfinite(values), values, 0)
    strong = float(np.quantile(np.abs(values), 0.95)) or 1.0
    return np.rint(np.clip(values / strong, -1, 1) * BENT).astype(np.int8)


def whole(name: str, values: Any, below: int, *axes: str | int) -> Integers:
    """Numbers from 0 to ``below`` - 1, such as those of vertices."""
    a = floats(name, values, *axes)
    if not (np.isfinite(a) & (a >= 0) & (a < below) & (a == np.rint(a))).all():
        raise wrong(name, "numbers of no vertex", f"whole numbers from 0 to {below - 1:,}")
    return a.astype(np.int64)
