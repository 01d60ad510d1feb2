"""What is given: arrays, conditions and classes, checked and made plain."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from locality_prior._check import wrong

Floats = NDArray[np.float64]


def as_array(name: str, values: Any, *shape: int | None, of: str | None = None) -> Floats:
    """``values`` as float64 of ``shape``, where None is any size; ``of``: the condition they belong to."""
    name = name if of is None else f"{name}[{of!r}]"
    try:
        array = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else np.asarray(values, float)
    except (TypeError, ValueError):
        raise wrong(name, type(values).__name__, "an array of numbers") from None
    if array.ndim != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        sizes = ", ".join("any" if n is None else str(n) for n in shape) + "," * (len(shape) == 1)
        raise wrong(name, f"shape {array.shape}", f"shape ({sizes})")
    return array


def as_conditions(name: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping) or not given:
        raise wrong(name, repr(given) if not given else type(given).__name__, "a dict of condition → numbers")
    return given


def as_parts(name: str, given: Any, condition: str, n: int) -> Sequence[Any]:
    if not isinstance(given, (tuple, list)) or len(given) != n:
        shown = f"{len(given)} arrays" if isinstance(given, (tuple, list)) else type(given).__name__
        raise wrong(f"{name}[{condition!r}]", shown, f"a tuple of {n} arrays")
    return given


def class_names(classes: Sequence[Any] | None, n: int | None = None) -> list[str]:
    names = [str(c) for c in (range(n or 0) if classes is None else classes)]
    if n is not None and len(names) != n:
        raise wrong("classes", f"{len(names)} names", f"{n}, one for each class")
    return names


def unit_number(unit: Any, n: int) -> int:
    try:
        number = operator.index(unit)
    except TypeError:
        number = -1
    if not 0 <= number < n:
        raise wrong("unit", repr(unit), f"the number of a unit, from 0 to {n - 1}")
    return number
