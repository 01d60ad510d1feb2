"""Checks of what the functions of this folder are given."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from locality_prior._check import instance, wrong, wrong_type
from locality_prior.geometry import Geometry, Grid, Permuted


def responses(value: Any, geometry: Any, samples: int = 2) -> tuple[Tensor, Geometry]:
    """Responses (samples, units) of the units of a geometry, with at least so many ``samples``."""
    sheet: Geometry = instance("geometry", geometry, Geometry, "a geometry, such as Grid(7, 7)")
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise wrong_type("responses", value, "a floating-point tensor (samples, units)")
    if value.dim() != 2 or value.shape[1] != len(sheet):
        raise wrong("responses", value, f"(samples, {len(sheet)}) for {sheet!r}")
    if len(value) < samples:
        raise wrong("responses", f"{len(value)} sample{'s' if len(value) != 1 else ''}", f"at least {samples}")
    return value, sheet


def weight(value: Any, target: Any, source: Any = None) -> tuple[Tensor, Geometry, Geometry | None]:
    """A weight (out, in) or (out, in, …) with as many rows as the target has units, and columns as the source has."""
    at: Geometry = instance("target", target, Geometry, "a geometry, such as Grid(7, 7)")
    start: Geometry | None = instance("source", source, (Geometry, type(None)), "a geometry, or None")
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise wrong_type("weight", value, "a floating-point tensor (out, in)")
    if value.dim() < 2 or len(value) != len(at):
        raise wrong("weight", value, f"({len(at)}, in) for {at!r}")
    if start is not None and value.shape[1] != len(start):
        raise wrong("weight", value, f"({len(at)}, {len(start)}) for the source {start!r}")
    return value, at, start


def bias(value: Any, target: Geometry) -> Tensor:
    """A bias (out,), with an entry for each of the target's units."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise wrong_type("bias", value, f"a floating-point tensor ({len(target)},), or None")
    if value.shape != (len(target),):
        raise wrong("bias", value, f"({len(target)},) for {target!r}")
    return value


def with_source(value: Any, target: Any, source: Any) -> tuple[Tensor, Geometry, Geometry]:
    """A weight between two sheets. Without a source, the weight must be square, and the source is the target."""
    found, at, start = weight(value, target, source)
    if start is None and found.shape[1] != len(at):
        raise wrong("source", None, f"the places of the {found.shape[1]} units that the wires come from")
    return found, at, at if start is None else start


def plane(name: str, geometry: Geometry) -> Grid:
    """The cells of a whole grid of two axes, for an objective that needs rows and columns; see :func:`by_place`."""
    sheet = geometry.base if isinstance(geometry, Permuted) else geometry
    if not isinstance(sheet, Grid) or len(sheet.shape) != 2 or not sheet.whole:
        raise wrong(name, geometry, "a whole grid of two axes, such as Grid(32, 32)")
    return sheet


def by_place(values: Tensor, geometry: Geometry, dim: int = 0) -> Tensor:
    """Values of a geometry's units along one dimension, in the order of its places."""
    return values.index_select(dim, geometry.units.to(values.device)) if isinstance(geometry, Permuted) else values


def by_unit(values: Tensor, geometry: Geometry, dim: int = 0) -> Tensor:
    """Values of a geometry's places along one dimension, in the order of its units."""
    return values.index_select(dim, geometry.order.to(values.device)) if isinstance(geometry, Permuted) else values
