"""Triangulated surfaces: the rules that they keep, and points spread evenly over them that become new vertices."""

from __future__ import annotations

import hashlib
import importlib.util
import weakref
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch

from locality_prior._check import Problem, check_fits, wrong
from locality_prior.geometry._exact import Array, joined
from locality_prior.geometry._ways import Edges, Faces, Ways
from locality_prior.geometry.tiles import tiles

#: The least sine of an angle of a face: a thinner face has next to no area, and its distances are inexact.
THIN = 1e-5
#: How many candidates there are, at least, for each of the points that are spread over a surface; and in each tile.
CANDIDATES, TILE = 8, 256
#: The least share of a corner in a point that is put into a face, so that the faces around it are not thin; less where
#: a face has several points, as they would leave its border empty.
INSIDE = 0.05


class Surface:
    """Vertices, faces and the shortest paths between the vertices. Equal surfaces are one and the same object.

    Args:
        vertices: (V, 3) float64.
        faces: (F, 3) int64.

    Raises:
        ValueError: distances cannot be measured on such a surface.
    """

    #: The surfaces in use, by what they are made of.
    _known: ClassVar[weakref.WeakValueDictionary[bytes, Surface]] = weakref.WeakValueDictionary()

    vertices: Array
    faces: Array

    def __new__(cls, vertices: Array, faces: Array) -> Surface:
        vertices = vertices + 0.0  # −0 becomes 0, as equal coordinates make the same surface
        digest = hashlib.sha256(vertices.tobytes() + faces.tobytes()).digest()
        found = cls._known.get(digest)
        if found is None:
            _check(vertices, faces)
            found = super().__new__(cls)
            found.vertices, found.faces = vertices, faces
            cls._known[digest] = found
        return found

    def __getnewargs__(self) -> tuple[Array, Array]:
        return self.vertices, self.faces

    def __getstate__(self) -> None:
        """What was computed is not pickled."""

    @cached_property
    def ways(self) -> Ways:
        """The shortest paths between the vertices."""
        if exact():
            return Faces(self.vertices, self.faces)
        try:
            edges = self.edges
            return Edges(len(self.vertices), edges.T, self.lengths)
        except ImportError as error:
            raise Problem(
                "A Mesh needs scipy, and pygeodesic for exact distances: pip install 'locality-prior[surfaces]'."
            ) from error

    @cached_property
    def edges(self) -> Array:
        """The two ends of each edge, (edges, 2)."""
        return np.unique(_sides(self.faces), axis=0)

    @property
    def lengths(self) -> Array:
        """The length of each edge, (edges,)."""
        ends = self.vertices[self.edges]
        lengths: Array = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
        return lengths

    @cached_property
    def parts(self) -> Array:
        """The number of the connected piece that each vertex is in, (V,)."""
        return joined(len(self.vertices), *self.edges.T)


def exact() -> bool:
    """Whether distances along surfaces are exact: whether pygeodesic and scipy are installed."""
    return all(importlib.util.find_spec(module) is not None for module in ("pygeodesic", "scipy"))


def _sides(faces: Array) -> Array:
    """The sides of the faces, as (3F, 2) pairs of vertices with the lower number first."""
    return np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)


def _check(vertices: Array, faces: Array) -> None:
    if not np.isfinite(vertices).all():
        k = int((~np.isfinite(vertices)).any(axis=1).argmax())
        raise wrong("vertices", f"{vertices[k].tolist()} at vertex {k}", "finite coordinates")
    if faces.min() < 0 or faces.max() >= len(vertices):
        given = f"vertices from {faces.min()} to {faces.max()}"
        raise wrong("faces", given, f"vertices from 0 to {len(vertices) - 1}")
    used = np.bincount(faces.ravel(), minlength=len(vertices))
    if not used.all():
        raise wrong("faces", f"none at vertex {int((used == 0).argmax())}", "each vertex in a face")
    corners = vertices[faces]
    a, b, c = (np.linalg.norm(corners[:, k] - corners[:, k - 1], axis=1) for k in range(3))
    twice = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    sides = np.sort([a, b, c], axis=0)
    thin = ~(twice > THIN * sides[1] * sides[2])  # the sine of the least angle, which lies between the longest sides
    if thin.any():
        k = int(thin.argmax())
        raise wrong("faces", f"face {k} of vertices {faces[k].tolist()}, which has no area", "faces with an area")
    if len(np.unique(np.sort(faces, axis=1), axis=0)) < len(faces):
        _, first, counts = np.unique(np.sort(faces, axis=1), axis=0, return_index=True, return_counts=True)
        k = int(first[counts > 1].min())
        raise wrong("faces", f"face {k} of vertices {faces[k].tolist()} more than once", "each face once")
    sides, first, counts = np.unique(_sides(faces), axis=0, return_index=True, return_counts=True)
    if (counts > 2).any():
        k = int((counts > 2).argmax())
        given = f"{counts[k]} faces at the edge from vertex {sides[k, 0]} to {sides[k, 1]}"
        raise wrong("faces", given, "at most two at each edge")
    _check_fans(vertices, faces)


def _check_fans(vertices: Array, faces: Array) -> None:
    """Raise unless the faces around each vertex are connected: no path crosses a vertex where two surfaces touch."""
    f = np.arange(len(faces))
    # a corner is number 3f + k; the two faces at an edge join their corners at each of its ends
    ends = np.stack([np.stack([3 * f + k, 3 * f + (k + 1) % 3], axis=1) for k in range(3)], axis=1).reshape(-1, 2)
    at = faces.ravel()[ends]
    swapped = at[:, 0] > at[:, 1]
    ends[swapped], at[swapped] = ends[swapped][:, ::-1], at[swapped][:, ::-1]
    order = np.lexsort(at.T)
    ends, at = ends[order], at[order]
    twins = np.flatnonzero((at[1:] == at[:-1]).all(axis=1))
    fans = joined(3 * len(faces), ends[twins].ravel(), ends[twins + 1].ravel())
    each = np.unique(np.stack([faces.ravel(), fans], axis=1), axis=0)[:, 0]
    several = np.bincount(each, minlength=len(vertices)) > 1
    if several.any():
        k = int(several.argmax())
        raise wrong("faces", f"faces that touch in vertex {k} alone", "faces around a vertex joined by edges")


# ---------------------------------------------------------------------------------------------------------------------
# Points spread over a surface


def spread(vertices: Array, faces: Array, n: int) -> tuple[Array, Array]:
    """``n`` points spread evenly over a surface: the face of each, (n,), and its barycentric coordinates, (n, 3).

    Each point is the candidate that is farthest from those before it, so that the first m points are spread evenly too
    for every m. The candidates are drawn evenly from the area. Two layers of the surface that face each other, such as
    the banks of a sulcus, count as apart: half a spacing times the difference of their unit normals is added at a right
    angle.
    """
    many = TILE
    while many < CANDIDATES * n:
        many *= 2
    check_fits(32 * many, f"the candidates for {n:,} points on a surface", "ask for fewer")
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) * _sides_up(faces)[:, None]
    twice = np.linalg.norm(normals, axis=1)
    # raw numbers, which no release of numpy may change
    u, v, w = (np.random.PCG64(0).random_raw(3 * many).reshape(3, many) >> np.uint64(11)) * 2.0**-53
    # one candidate from each of ``many`` equal shares of the area
    edges = twice.cumsum()
    face = np.searchsorted(edges, (np.arange(many) + u) / many * edges[-1], side="right").clip(max=len(faces) - 1)
    root = np.sqrt(v)
    least = INSIDE / np.sqrt(np.maximum(n * twice / edges[-1], 1))[face, None]
    shares = np.maximum(np.stack([1 - root, root * (1 - w), root * w], axis=1), least)
    shares /= shares.sum(axis=1, keepdims=True)
    places = np.einsum("nk,nkd->nd", shares, corners[face])
    turned = normals[face] / twice[face, None] * np.sqrt(edges[-1] / 8 / n)
    chosen = _farthest(np.concatenate([places, turned], axis=1), n)
    return face[chosen], shares[chosen]


def _sides_up(faces: Array) -> Array:
    """1 or −1 for each face: with these signs, the normals of faces that share an edge are on the same side."""
    part = joined(int(faces.max()) + 1, faces.ravel(), np.roll(faces, 1, axis=1).ravel())[faces[:, 0]]
    ends = np.stack([faces.ravel(), np.roll(faces, -1, axis=1).ravel()], axis=1)
    order = np.lexsort(np.sort(ends, axis=1).T)
    sides = ends[order]
    twins = np.flatnonzero((np.sort(sides[1:], axis=1) == np.sort(sides[:-1], axis=1)).all(axis=1))
    one, other = order[twins] // 3, order[twins + 1] // 3
    # two faces are turned the same way round where they run along their edge in opposite directions
    turn = np.where(sides[twins, 0] == sides[twins + 1, 0], -1, 1)
    one, other, turn = np.concatenate([one, other]), np.concatenate([other, one]), np.concatenate([turn, turn])
    sign = np.zeros(len(faces), dtype=np.int64)
    sign[np.unique(part, return_index=True)[1]] = 1
    while len(reached := np.flatnonzero((sign[one] != 0) & (sign[other] == 0))):
        sign[other[reached]] = sign[one[reached]] * turn[reached]
    return sign


def _farthest(points: Array, n: int) -> Array:
    """The numbers of ``n`` of the points, each the farthest from those before it; the first is point 0."""
    # a new point changes only the tiles that have a point nearer to it than to all others
    order = tiles(torch.from_numpy(points), TILE).argsort(stable=True).numpy().reshape(-1, TILE)
    tiled = points[order]
    low, high = tiled.min(axis=1), tiled.max(axis=1)
    nearest = np.full(order.shape, np.inf)  # the squares of the distances
    farthest = np.full(len(order), np.inf)
    chosen = np.zeros(n, dtype=np.int64)
    for k in range(1, n):
        last = points[chosen[k - 1]]
        away = np.maximum(np.maximum(low - last, last - high), 0)
        near = np.flatnonzero((away * away).sum(axis=1) < farthest)
        apart = tiled[near] - last
        nearest[near] = np.minimum(nearest[near], (apart * apart).sum(axis=2))
        farthest[near] = nearest[near].max(axis=1)
        tile = farthest.argmax()
        chosen[k] = order[tile, nearest[tile].argmax()]
    return chosen


def insert(vertices: Array, faces: Array, face: Array, shares: Array) -> tuple[Array, Array]:
    """The same surface with more vertices, at barycentric coordinates within faces: its vertices and faces.

    A face with points in it is divided into the Delaunay triangles of its corners and these points.
    """
    added = np.einsum("nk,nkd->nd", shares, vertices[faces[face]])
    number = len(vertices) + np.arange(len(face))
    order = np.argsort(face, kind="stable")
    hit, first, counts = np.unique(face[order], return_index=True, return_counts=True)
    single = order[first[counts == 1]]
    a, b, c = faces[face[single]].T
    p = number[single]
    new = [np.delete(faces, hit, axis=0), *(np.stack(corners, axis=1) for corners in ((a, b, p), (b, c, p), (c, a, p)))]
    for f, start, count in zip(hit[counts > 1], first[counts > 1], counts[counts > 1], strict=True):
        points = order[start : start + count]
        a, b, c = vertices[faces[f]]
        along = (b - a) / np.linalg.norm(b - a)
        up = c - a - (c - a) @ along * along
        up /= np.linalg.norm(up)
        names = np.concatenate([faces[f], number[points]])
        flat = np.stack([a, b, c, *added[points]]) - a
        new.append(names[_delaunay(np.stack([flat @ along, flat @ up], axis=1))])
    return np.concatenate([vertices, added]), np.concatenate(new)


def _delaunay(xy: Array) -> Array:
    """Delaunay triangles of a triangle's corners, the first three of the points (k, 2), and of points inside it.

    After Bowyer (1981) and Watson (1981): each point takes the place of the triangles whose circumcircle it lies in.
    """
    triangles = np.array([[0, 1, 2]])
    for k in range(3, len(xy)):
        away = xy[triangles] - xy[k]
        square = (away**2).sum(axis=2)
        (ax, ay), (bx, by), (cx, cy) = (away[:, corner].T for corner in range(3))
        a, b, c = square.T
        inside = ax * (by * c - b * cy) - ay * (bx * c - b * cx) + a * (bx * cy - by * cx) > 0
        # the sides of these triangles, turned as they are; those that two of them share run both ways, and go
        sides = triangles[inside][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        names = sides @ [len(xy), 1]
        outer = sides[~np.isin(names, sides[:, ::-1] @ [len(xy), 1])]
        triangles = np.concatenate([triangles[~inside], np.column_stack([outer, np.full(len(outer), k)])])
    return triangles
