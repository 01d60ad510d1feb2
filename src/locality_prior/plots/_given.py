"""Checks of what callers give: arrays, conditions, classes and units."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from locality_prior._check import wrong
from locality_prior.analysis._given import Floats, floats


def as_array(name: str, values: Any, *shape: int | None, of: str | None = None) -> Floats:
    """``values`` as float64 of ``shape``, where None is any size; ``of``: the condition they belong to."""
    return floats(name if of is None else f"{name}[{of!r}]", values, *shape)


def as_conditions(name: str, given: Any) -> Mapping[str, Any]:
    """``given``, where it maps the name of each condition to its numbers."""
    if not isinstance(given, Mapping) or not given or not all(isinstance(c, str) for c in given):
        raise wrong(name, given, "a dict of condition → numbers")
    return given


def as_parts(name: str, given: Any, condition: str, n: int) -> Sequence[Any]:
    """``given``, where it is ``n`` arrays."""
    if not isinstance(given, (tuple, list)) or len(given) != n:
        shown = f"{len(given)} arrays" if isinstance(given, (tuple, list)) else type(given).__name__
        raise wrong(f"{name}[{condition!r}]", shown, f"a tuple of {n} arrays")
    return given


def class_names(classes: Sequence[Any] | None, n: int | None = None) -> list[str]:
    """The names of ``n`` classes; None: the numbers from 0."""
    if classes is not None and (isinstance(classes, str) or not hasattr(classes, "__len__")):
        raise wrong("classes", classes, "a list of names")
    names = [str(c) for c in (range(n or 0) if classes is None else classes)]
    if n is not None and len(names) != n:
        raise wrong("classes", f"{len(names)} names", f"{n}, one for each class")
    return names


def intervals_of(name: str, given: Any) -> dict[str, tuple[float, float]]:
    """The (low, high) of each condition that has an interval; None: of none."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise wrong(name, given, "a dict of condition → (low, high) or None")
    found = {c: floats(f"{name}[{c!r}]", ends, 2).tolist() for c, ends in given.items() if ends is not None}
    return {c: (low, high) for c, (low, high) in found.items()}


def unit_number(unit: Any, n: int) -> int:
    """``unit``, where it is the number of one of ``n`` units."""
    try:
        number = operator.index(unit)
    except (TypeError, ValueError, RuntimeError):
        number = -1
    if not 0 <= number < n or isinstance(unit, bool):
        raise wrong("unit", unit, f"the number of a unit, from 0 to {n - 1}")
    return number
