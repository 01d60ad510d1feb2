"""Geometries in one word, as flags and YAML name them."""

from __future__ import annotations

from typing import Any

from locality_prior._check import wrong, wrong_type
from locality_prior.geometry import Geometry, Grid, HexGrid, Sphere

#: The most units of a sheet that a word may ask for.
MOST = 1 << 24

WORDS = "32x32 (a grid), 49 (a line), torus:32x32, hex:20x24 or sphere:500"


def canonical(name: str, given: Any) -> tuple[str, ...]:
    """The one spelling of a geometry, or of a source and a target, given as words or as geometries.

    >>> canonical("place fc1", "028x28,torus:32X32")
    ('28x28', 'torus:32x32')
    """
    if isinstance(given, bool):
        raise wrong_type(name, given, WORDS)
    if isinstance(given, (list, tuple)) and not (given and all(isinstance(v, int) for v in given)):
        return tuple(word(name, parse(name, one) if isinstance(one, (str, int)) else one) for one in given)
    if isinstance(given, (list, tuple)):
        given = "x".join(map(str, given))  # sides
    if isinstance(given, (str, int)):
        return tuple(word(name, parse(name, part)) for part in str(given).split(","))
    return (word(name, given),)


def parse(name: str, text: Any) -> Geometry:
    """The geometry that a word names."""
    kind, colon, sides = str(text).strip().lower().rpartition(":")
    parts = sides.split("x")
    if len(parts) > 8 or not all(p.isdecimal() and p.isascii() for p in parts) or (colon and not kind):
        raise wrong(name, repr(text), WORDS)
    sizes = [int(part[:12]) for part in parts]
    units = 1
    for size in sizes:
        units *= size
    if not 1 <= units <= MOST:
        raise wrong(name, f"{text}, which is {units:,} units", f"from 1 to {MOST:,} units")
    if kind in ("", "torus"):
        return Grid(*sizes, periodic=bool(kind))
    if kind == "hex" and len(sizes) == 2:
        return HexGrid(*sizes)
    if kind == "sphere" and len(sizes) == 1:
        return Sphere(sizes[0])
    raise wrong(name, repr(text), WORDS)


def word(name: str, geometry: Any) -> str:
    """The word of a geometry; an error where it has none."""
    if isinstance(geometry, Grid) and len(geometry) == _product(geometry.shape) and geometry.spacing is None:
        sides = "x".join(map(str, geometry.shape))
        periodic = set(geometry.periodic)
        if periodic == {True}:
            return f"torus:{sides}"
        if periodic == {False}:
            return sides
    if isinstance(geometry, HexGrid):
        return f"hex:{geometry.rows}x{geometry.cols}"
    if isinstance(geometry, Sphere):
        return f"sphere:{len(geometry)}"
    if not isinstance(geometry, Geometry):
        raise wrong_type(name, geometry, f"a geometry or its word: {WORDS}")
    raise wrong(name, geometry, f"a geometry that has a word ({WORDS}); others go into the model's place")


def _product(sizes: Any) -> int:
    units = 1
    for size in sizes:
        units *= int(size)
    return units
