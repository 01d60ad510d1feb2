"""Checks of what callers give: arrays of numbers, and geometries of as many units."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from locality_prior._check import instance, shown, wrong

if TYPE_CHECKING:
    from locality_prior.geometry import Geometry

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def is_tensor(values: Any) -> bool:
    """Whether ``values`` is a torch tensor. Torch is not imported for the question."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def array(name: str, values: Any) -> npt.NDArray[Any]:
    """``values`` as an array of real numbers on the CPU; None is read as NaN.

    Raises:
        ValueError: no array of real numbers, or one with masked values.
    """
    expected = "an array of numbers"
    try:
        if is_tensor(values):
            values = values.detach().cpu()
            values = (values.double() if values.is_floating_point() else values).numpy()  # numpy has no bfloat16
        a: npt.NDArray[Any] = np.asarray(values)
        if a.dtype == object and all(x is None or isinstance(x, (int, float, np.number)) for x in a.flat):
            a = a.astype(np.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise wrong(name, shown(values), expected) from None
    if np.ma.is_masked(values):
        raise wrong(name, "a masked array with masked values", f"{expected}, with NaN where a number is missing")
    if a.dtype.kind not in "biuf":
        raise wrong(name, f"{a.dtype} {a.shape}" if a.ndim else shown(values), expected)
    return a


def floats(name: str, values: Any, *axes: str | int | None) -> Floats:
    """``values`` as float64 with one axis for each entry of ``axes``: its length, or its name where any length fits."""
    a = array(name, values)
    if a.ndim != len(axes) or any(isinstance(n, int) and n != m for n, m in zip(axes, a.shape, strict=True)):
        sizes = ", ".join("any" if n is None else str(n) for n in axes) + "," * (len(axes) == 1)
        raise wrong(name, f"shape {a.shape}", f"numbers of shape ({sizes})")
    return a.astype(np.float64, copy=False)


def place_of(name: str, geometry: Any) -> Geometry:
    """``geometry``, where it is one."""
    from locality_prior.geometry import Geometry

    return instance(name, geometry, Geometry, "a Geometry, such as Grid(32, 32)")


def units(name: str, given: int, geometry: Geometry) -> int:
    """``given`` units, where they are as many as the geometry has."""
    if given != len(place_of("geometry", geometry)):
        raise wrong(name, f"{given} units", f"the {len(geometry)} units of {geometry!r}")
    return given


def responses(activations: Any, geometry: Geometry) -> Floats:
    """Activations (images, units) of the geometry's units."""
    a = floats("activations", activations, "images", "units")
    units("activations", a.shape[1], geometry)
    return a


def own_distances(geometry: Geometry) -> Floats:
    """Distances (units, units) of a geometry's units from each other, each 0 from itself."""
    d: Floats = geometry.distances().detach().numpy().copy()
    if d.shape[0] != d.shape[1]:
        raise wrong("geometry", repr(geometry), "distances among its own units")
    np.fill_diagonal(d, 0)
    return d
