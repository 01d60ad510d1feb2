"""The sides from which a surface is drawn, and what is seen from each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from locality_prior.analysis._given import Floats, Integers
from locality_prior.plots.surfaces import Surface

#: If at least this share of the units is seen from one side, only that side is drawn; and if units look at least this
#: large from one of the two usual sides, as a share of how large they look from the best side, it is the usual side.
SEEN, LARGE = 0.8, 0.8
#: If units colour less than this share of the vertices, they are a patch: then only the part around it is drawn.
PATCH = 0.5
#: Room around the units of a patch, as a share of its size; around a whole surface; and between two sides of it.
AROUND, MARGIN, GAP = 0.35, 0.03, 0.1
#: Pixels that are worked on at once.
AT_ONCE = 1 << 20

_AXES = "xyz"
_OF_CORTEX = {"+y": "anterior", "-y": "posterior", "+z": "dorsal", "-z": "ventral"}


@dataclass(frozen=True)
class Side:
    """A surface, or a part of it, seen from one side.

    Args:
        name: of the side, such as "lateral view".
        axes: (3, 3) rows to the right, upwards, and towards the reader.
        window: the part that is drawn: left, right, bottom, top, along the first two axes.
        at: the left and bottom end of the window in the picture.
    """

    name: str
    axes: Floats
    window: tuple[float, float, float, float]
    at: tuple[float, float] = (0.0, 0.0)

    @property
    def size(self) -> tuple[float, float]:
        left, right, bottom, top = self.window
        return right - left, top - bottom

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Where the window stands in the picture: left, right, bottom, top."""
        (x, y), (wide, high) = self.at, self.size
        return x, x + wide, y, y + high

    def seen(self, surface: Surface, pixels: int) -> npt.NDArray[np.int32]:
        """(rows, columns) the vertex that is seen at each pixel, and -1 beside the surface; the longer side has
        ``pixels``. A point of a triangle belongs to the vertex of which it has the largest share."""
        wide, high = self.size
        scale = pixels / max(wide, high)
        shape = max(1, round(high * scale)), max(1, round(wide * scale))
        return rastered(surface.points @ self.axes.T, surface.faces, self.window, shape)


def rastered(
    points: Floats, faces: Any, window: tuple[float, float, float, float], shape: tuple[int, int]
) -> npt.NDArray[np.int32]:
    """What :meth:`Side.seen` returns, of points (x to the right, y upwards, z towards the reader).

    Each triangle covers the pixels whose middle lies in it; of several triangles at a pixel the nearest is seen.
    """
    (rows, cols), (left, right, bottom, top) = shape, window
    x = (points[:, 0] - left) * (cols / (right - left)) - 0.5  # the middle of pixel k is at k
    y = (top - points[:, 1]) * (rows / (top - bottom)) - 0.5
    xs, ys, zs = x[faces], y[faces], points[:, 2][faces]
    area = (xs[:, 1] - xs[:, 0]) * (ys[:, 2] - ys[:, 0]) - (xs[:, 2] - xs[:, 0]) * (ys[:, 1] - ys[:, 0])
    low = np.stack([np.maximum(np.ceil(v.min(axis=1)), 0) for v in (xs, ys)], axis=1)
    last = np.stack([np.minimum(np.floor(v.max(axis=1)), n - 1) for v, n in ((xs, cols), (ys, rows))], axis=1)
    size = (last - low).max(axis=1) + 1
    drawn = (np.abs(area) > 1e-12) & (last >= low).all(axis=1)
    image, depth = np.full(rows * cols, -1, dtype=np.int32), np.full(rows * cols, -np.inf)
    side = 1
    while drawn.any():
        some = np.flatnonzero(drawn & (size <= side))
        drawn[some] = False
        step = max(1, AT_ONCE // side**2)
        for k in range(0, len(some), step):
            _cover(some[k : k + step], side, xs, ys, zs, area, low, faces, shape, image, depth)
        side *= 2
    return image.reshape(shape)


def _cover(
    some: Integers,
    side: int,
    xs: Floats,
    ys: Floats,
    zs: Floats,
    area: Floats,
    low: Floats,
    faces: Any,
    shape: tuple[int, int],
    image: npt.NDArray[np.int32],
    depth: Floats,
) -> None:
    """Draw some triangles, none of which is wider or higher than ``side`` pixels."""
    across = low[some, 0, None, None] + np.arange(side)
    down = low[some, 1, None, None] + np.arange(side)[:, None]
    share = np.empty((3, len(some), side, side))
    for k, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        x, y, u, v = (values[some, n, None, None] for n in (i, j) for values in (xs, ys))
        share[k] = ((u - x) * (down - y) - (across - x) * (v - y)) / area[some, None, None]
    inside = (share >= -1e-9).all(axis=0) & (across < shape[1]) & (down < shape[0])
    which, *_ = np.nonzero(inside)
    at = (down * shape[1] + across)[inside].astype(np.int64)
    share = share[:, inside]
    height = np.einsum("kn,nk->n", share, zs[some][which])
    np.maximum.at(depth, at, height)
    front = height == depth[at]
    image[at[front]] = faces[some[which[front]], share[:, front].argmax(axis=0)]


class Cover:
    """How units cover a surface, and what is seen of it; everything is computed only once.

    Args:
        surface: the surface.
        vertex: the vertex of each unit.
    """

    def __init__(self, surface: Surface, vertex: Integers) -> None:
        self.surface, self.vertex = surface, vertex
        self._seen: dict[tuple[str, int], npt.NDArray[np.int32]] = {}

    @cached_property
    def coloured(self) -> Integers:
        """The unit whose colour each vertex has, -1 where it has none: see :meth:`Surface.coloured`."""
        return self.surface.coloured(self.vertex)

    @cached_property
    def sides(self) -> list[Side]:
        """The sides from which the surface is drawn."""
        return sides_of(self.surface, self.coloured)

    def seen(self, side: Side, pixels: int) -> npt.NDArray[np.int32]:
        """What :meth:`Side.seen` returns of one of ``sides``."""
        key = side.name, pixels
        if key not in self._seen:
            self._seen[key] = side.seen(self.surface, pixels)
        return self._seen[key]


def sides_of(surface: Surface, coloured: Integers) -> list[Side]:
    """The sides from which the units are drawn: one side if most are seen from there, otherwise two opposite sides.

    Args:
        coloured: what :meth:`Surface.coloured` returns. A side from which only a part is coloured shows that part.
    """
    flat = _flat(surface)
    if flat is not None:
        return [_windowed(surface, "", flat, coloured)]
    units = np.unique(coloured[coloured >= 0])
    pixels = int(min(max(4 * math.sqrt(len(surface.vertices)), 100), 1000))
    pair = list(_pair(surface))
    counts, alone = {}, []
    for name in [*pair, *(f"{sign}{axis}" for axis in _AXES for sign in "+-" if f"{sign}{axis}" not in pair)]:
        image = Side("", frame(name), (-1, 1, -1, 1)).seen(surface, pixels)
        seen = coloured[image[image >= 0]]
        seen = seen[seen >= 0]
        counts[name] = len(seen)
        if len(np.unique(seen)) >= SEEN * len(units):
            alone.append(name)
    if alone:
        # of sides that are equally good, the first
        best = max(alone, key=lambda name: counts[name] / (LARGE if name in pair else 1))
        return [_windowed(surface, best, frame(best), coloured)]
    if (coloured >= 0).mean() < PATCH:  # the side from which a patch looks larger first
        pair = sorted(pair, key=lambda name: -counts[name])
    return [_windowed(surface, name, frame(name), coloured) for name in pair]


def frame(name: str) -> Floats:
    """The axes of the side that is seen from one end of an axis, such as "-x"."""
    towards = np.eye(3)[_AXES.index(name[1])] * (1 if name[0] == "+" else -1)
    up = np.eye(3)[1 if name[1] == "z" else 2]
    return np.stack([np.cross(up, towards), up, towards])


def _pair(surface: Surface) -> tuple[str, str]:
    """Two opposite sides: lateral and medial of a cortex, otherwise those from which a surface looks largest."""
    if surface.hemisphere:
        return ("-x", "+x") if surface.hemisphere == "left" else ("+x", "-x")
    axis = _AXES[int(np.ptp(surface.points, axis=0).argmin())]
    return f"+{axis}", f"-{axis}"


def _flat(surface: Surface) -> Floats | None:
    """The axes of a plane that holds the whole surface, if there is one."""
    middle = surface.points - surface.points.mean(axis=0)
    *_, normal = np.linalg.svd(middle, full_matrices=False)[2]
    if np.abs(middle @ normal).max() > 1e-3:
        return None
    normal = normal * np.sign(normal[np.abs(normal).argmax()])
    up = np.eye(3)[1 if abs(normal[2]) > 0.9 else 2]
    up = up - normal * (up @ normal)
    up = up / np.linalg.norm(up)
    return np.stack([np.cross(up, normal), up, normal])


def _windowed(surface: Surface, name: str, axes: Floats, coloured: Integers) -> Side:
    """A side: all of it, or the part around a patch that is coloured."""
    flat = surface.points @ axes.T
    low, high = flat[:, :2].min(axis=0), flat[:, :2].max(axis=0)
    if (coloured >= 0).mean() < PATCH:
        shown = flat[_vertices(surface, axes, low, high, coloured >= 0), :2]
        if len(shown):
            least, most = shown.min(axis=0), shown.max(axis=0)
            room = max(AROUND * float((most - least).max()), 0.1)
            low, high = np.maximum(low, least - room), np.minimum(high, most + room)
            # and no more than the surface is wide and high there
            inside = flat[_vertices(surface, axes, low, high, coloured > -2), :2]
            low, high = np.maximum(low, inside.min(axis=0)), np.minimum(high, inside.max(axis=0))
    room = MARGIN * float((high - low).max()) / 2
    (left, bottom), (right, top) = (low - room).tolist(), (high + room).tolist()
    return Side(_named(surface, name), axes, (left, right, bottom, top))


def _vertices(surface: Surface, axes: Floats, low: Floats, high: Floats, wanted: npt.NDArray[np.bool_]) -> Integers:
    """The vertices that are seen in a window."""
    (left, bottom), (right, top) = low.tolist(), high.tolist()
    image = Side("", axes, (left, right, bottom, top)).seen(surface, 400)
    seen = np.unique(image[image >= 0]).astype(np.int64)
    return seen[wanted[seen]]


def _named(surface: Surface, name: str) -> str:
    if not name:
        return ""
    if not surface.hemisphere:
        return f"seen from {name}".replace("-", "\N{MINUS SIGN}")
    lateral, _ = _pair(surface)
    side = _OF_CORTEX.get(name, "lateral" if name == lateral else "medial")
    return f"{side} view"
