"""What callers give: arrays of numbers, and geometries of as many units."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from locality_prior._check import wrong
from locality_prior.geometry import Geometry

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def array(name: str, values: Any) -> npt.NDArray[Any]:
    """``values`` as an array on the CPU, of its own numbers."""
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        if values.is_floating_point():
            values = values.double()  # numpy has no bfloat16
    try:
        return np.asarray(values)
    except ValueError:
        raise wrong(name, type(values).__name__, "an array of numbers") from None


def floats(name: str, values: Any, *axes: str) -> Floats:
    """``values`` as float64, one axis for each of the names in ``axes``."""
    a = array(name, values)
    if a.dtype.kind not in "biuf" or a.ndim != len(axes):
        raise wrong(name, f"{a.dtype} {a.shape}", f"numbers of shape ({', '.join(axes)})")
    return a.astype(np.float64, copy=False)


def units(name: str, given: int, geometry: Geometry) -> int:
    if given != len(geometry):
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
