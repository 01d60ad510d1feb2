"""Geometries from the plain values that are saved with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from locality_prior._check import from_import_path, wrong
from locality_prior.geometry.base import Geometry
from locality_prior.geometry.channels import Channels
from locality_prior.geometry.grids import Grid, HexGrid
from locality_prior.geometry.measured import Distances, Graph, Shuffled
from locality_prior.geometry.points import Points, Sphere


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
    "Shuffled": lambda target, source, seed: Shuffled(from_config(target), from_config(source), seed),
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
