"""Checks of what callers give: arrays of numbers, and geometries of as many units."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from locality_prior._check import count, instance, positive, shown, wrong

if TYPE_CHECKING:
    from locality_prior.geometry import Geometry

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Rows of a matrix of units, images or shuffled maps that are worked on at once: this bounds the memory.
ROWS = 256
#: The most numbers in an array of (classes, units): 2 GiB.
MOST = 1 << 28
#: Bins beyond this are sorted instead of counted.
MOST_BINS = 1 << 20


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
            # numpy has no bfloat16
            values = (values.float() if values.dtype.itemsize < 4 and values.is_floating_point() else values).numpy()
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


def maps(name: str, values: Any, geometry: Geometry) -> tuple[Floats, tuple[int, ...]]:
    """``values`` (…, units) as float64 (maps, units), and the leading shape, which is empty for one map."""
    a = array(name, values)
    if not a.ndim:
        raise wrong(name, f"shape {a.shape}", "numbers of shape (…, units)")
    units(name, a.shape[-1], geometry)
    return a.reshape(-1, a.shape[-1]).astype(np.float64, copy=False), a.shape[:-1]


def unpacked(numbers: Floats, shape: tuple[int, ...]) -> Any:
    """One number for each map in the leading shape of the maps; for one map, a float, or None where it is NaN."""
    if shape:
        return numbers.reshape(shape)
    return None if np.isnan(numbers[0]) else float(numbers[0])


def labels_of(labels: Any, n: int) -> Integers:
    """``labels`` as ``n`` whole numbers from 0."""
    a = array("labels", labels)
    if a.shape != (n,) or a.dtype.kind not in "iu":
        raise wrong("labels", f"{a.dtype} {a.shape}", f"whole numbers of shape ({n},)")
    if n and a.min() < 0:
        raise wrong("labels", int(a.min()), "whole numbers from 0")
    return a.astype(np.int64, copy=False)


def classes_of(label: Integers, units: int, classes: int | None = None) -> int:
    """How many classes: up to the largest label, where it is not said."""
    most = max(1, MOST // max(units, 1))
    if classes is not None:
        classes = count("classes", classes, 1, most)
    elif not len(label):
        raise wrong("labels", "none", "at least one label")
    largest = int(label.max(initial=0))
    if largest >= (classes or most):
        raise wrong("labels", largest, f"whole numbers from 0 to {(classes or most) - 1:,}")
    return classes or largest + 1


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


def own_distances(geometry: Geometry, rows: Integers | None = None) -> Floats:
    """Distances of a geometry's units (or of those numbered ``rows``) to all of them. Read only: it may be shared."""
    import torch

    d: Floats = geometry.distances(rows=None if rows is None else torch.from_numpy(rows)).detach().numpy()
    if d.shape[1] != len(geometry):
        raise wrong("geometry", repr(geometry), "distances among its own units")
    return d


def neighbours(geometry: Geometry, radius: float | None) -> tuple[Integers, Integers, Floats]:
    """Each pair (i, j) of different units that are neighbours, and their distance.

    ``radius`` is how far apart neighbours are at most; None: 1.5 neighbour distances (the eight around a grid's unit).
    """
    from locality_prior.geometry import near

    radius = 1.5 * geometry.neighbour_distance if radius is None else positive("radius", radius)
    own_distances(geometry, np.zeros(1, dtype=np.int64))
    blocks = [[part.detach().numpy() for part in block] for block in near(geometry, geometry, radius)]
    i, j, d = (np.concatenate([block[k] for block in blocks]) for k in range(3))
    others = i != j
    return i[others], j[others], d[others]


def pairs_by_block(geometry: Geometry, numbers: Integers) -> Iterator[tuple[slice, npt.NDArray[np.bool_], Floats]]:
    """Each pair of the units ``numbers`` once, some rows at a time, so that no whole matrix need be made.

    Yields:
        Rows (a slice of ``numbers``), which of their pairs with ``numbers[rows.start:]`` are of two units in order with
        a way between them, and the distances of those pairs: the mean where they differ by direction.
    """
    whole = None if geometry.euclidean else own_distances(geometry)  # a Euclidean one is symmetric
    for start in range(0, len(numbers), ROWS):
        rows = slice(start, min(start + ROWS, len(numbers)))
        columns = numbers[start:]
        if whole is None:
            d = own_distances(geometry, numbers[rows])[:, columns]
        else:
            d = (whole[np.ix_(numbers[rows], columns)] + whole[np.ix_(columns, numbers[rows])].T) / 2
        wanted = np.isfinite(d) & (np.arange(d.shape[0])[:, None] < np.arange(d.shape[1]))
        yield rows, wanted, d[wanted]


def numbered(bins: Floats) -> tuple[Floats, Integers]:
    """The bins that occur, in order, and where in them each of ``bins``, whole numbers from 0, is."""
    if not len(bins) or bins.max() >= MOST_BINS:
        keys, index = np.unique(bins, return_inverse=True)
        return keys, index
    whole = bins.astype(np.int64)  # without sorting, which takes long
    found = np.flatnonzero(np.bincount(whole))
    position = np.zeros(int(found[-1]) + 1, dtype=np.int64)
    position[found] = np.arange(len(found))
    return found.astype(np.float64), position[whole]
