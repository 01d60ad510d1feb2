"""Geometries as plain values and tensors, to be saved, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locality_prior._check import Told, from_import_path, import_path, instance, kind_from, wrong
from locality_prior._memory import aside
from locality_prior.geometry.base import Geometry
from locality_prior.geometry.channels import Channels
from locality_prior.geometry.grids import Grid, HexGrid
from locality_prior.geometry.measured import Distances, Graph, Shuffled, Wired
from locality_prior.geometry.mesh import Mesh
from locality_prior.geometry.permuted import Permuted
from locality_prior.geometry.points import Points, Sphere

#: The built-in geometries, by the names under which they are saved.
KINDS: dict[str, type[Geometry]] = {
    kind.__name__: kind
    for kind in (Grid, HexGrid, Sphere, Points, Mesh, Graph, Distances, Wired, Shuffled, Channels, Permuted)
}


def to_config(geometry: Geometry) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``geometry`` as plain values (JSON, YAML), and apart from them its tensors by name.

    Raises:
        ValueError: a function or class that has no import path, as a lambda.
    """
    tensors: dict[str, Tensor] = {}
    return _encode("", instance("geometry", geometry, Geometry, "a geometry"), tensors), tensors


def plain_config(geometry: Geometry) -> dict[str, Any]:
    """``geometry`` as plain values alone: tensors are lists, in which None stands for infinity."""
    config: dict[str, Any] = _encode("", geometry, None)
    return config


def _encode(name: str, value: Any, tensors: dict[str, Tensor] | None) -> Any:
    if isinstance(value, Geometry):
        kind = type(value)
        known = KINDS.get(kind.__name__) is kind
        prefix = f"{name}." if name else ""
        inside = {key: _encode(f"{prefix}{key}", one, tensors) for key, one in value.arguments().items()}
        return {"type": kind.__name__ if known else import_path("geometry", kind), **inside}
    if isinstance(value, Tensor):
        if tensors is None:
            return {"tensor": _finite(value.tolist())}
        tensors[name] = value.detach().cpu().contiguous()
        return {"tensor": name}
    if callable(value):
        return {"function": import_path(name, value)}
    return value


def _finite(value: Any) -> Any:
    """Nested lists with None for infinity, which JSON does not have."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if value == math.inf else value


def from_config(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor] | None = None,
    custom: Mapping[str, Any] | None = None,
) -> Geometry:
    """The geometry that ``config`` describes, of :func:`to_config` or :meth:`Geometry.config`.

    Nothing is imported and no function is looked up: a geometry or a metric of your own is the one that you pass.

    >>> import locality_prior as lp
    >>> lp.Grid(4, 4).config()
    {'type': 'Grid', 'shape': [4, 4]}
    >>> lp.geometry.from_config(lp.Grid(4, 4).config())
    Grid(4, 4)

    Args:
        config: plain values.
        tensors: the tensors that ``config`` names.
        custom: your own functions and classes by the import path under which they were saved, such as
            ``{"mine.shapes:Cylinder": Cylinder}``.

    Raises:
        ValueError: no such geometry, values that do not fit it, or a function or class that ``custom`` does not hold.
    """
    try:
        with aside():
            return _decode_geometry(config, tensors or {}, custom)
    except RecursionError:
        raise wrong("geometry", "a description of too many geometries within each other", "fewer") from None


def _decode_geometry(config: Any, tensors: Mapping[str, Tensor], custom: Mapping[str, Any] | None) -> Geometry:
    kind, values = kind_from("geometry", config, KINDS, Geometry, custom)
    arguments = {str(key): _decode(value, tensors, custom) for key, value in values.items()}
    try:
        return kind.from_arguments(**arguments)
    except Told:
        raise
    except (TypeError, KeyError, IndexError, ValueError, RuntimeError):
        raise wrong("geometry", repr(config), f"the values of a {kind.__name__}") from None


def _decode(value: Any, tensors: Mapping[str, Tensor], custom: Mapping[str, Any] | None) -> Any:
    if not isinstance(value, Mapping):
        return value
    if "type" in value:
        return _decode_geometry(value, tensors, custom)
    if value.keys() == {"function"}:
        return from_import_path("geometry", value["function"], custom)
    if value.keys() == {"tensor"}:
        return _decode_tensor(value["tensor"], tensors)
    return value


def _decode_tensor(value: Any, tensors: Mapping[str, Tensor]) -> Tensor:
    if isinstance(value, str):
        if not isinstance(tensors.get(value), Tensor):
            raise wrong("tensors", f"no tensor {value!r}", "the tensors that were saved with the geometry")
        return tensors[value]
    try:
        return torch.from_numpy(np.array(_infinite(value)))  # as float64 or int64, whatever torch's default is
    except (TypeError, ValueError, RuntimeError):
        raise wrong("geometry", repr(value), "nested lists of numbers") from None


def _infinite(value: Any) -> Any:
    """Nested lists with infinity for None."""
    if isinstance(value, list):
        return [_infinite(one) for one in value]
    return math.inf if value is None else value
