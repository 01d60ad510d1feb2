"""Checks of what a caller gives: one line that names the argument, what was given and what is expected."""

from __future__ import annotations

import math
import operator
import sys
from types import FunctionType
from typing import Any

#: Distances within this relative rounding of a radius count as on it, and are kept.
ROUNDING = 1e-9


def wrong(name: str, given: object, expected: str) -> ValueError:
    """The error for a value that does not fit; the caller raises it."""
    return ValueError(f"{name}: got {given}, expected {expected}")


def positive(name: str, value: Any) -> float:
    """``value`` as a finite float above zero."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise wrong(name, repr(value), "a number above 0") from None
    if isinstance(value, bool) or not math.isfinite(number) or number <= 0:
        raise wrong(name, repr(value), "a finite number above 0")
    return number


def count(name: str, value: Any, least: int = 1) -> int:
    """``value`` as a whole number of at least ``least``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise wrong(name, repr(value), f"a whole number of at least {least}") from None
    if isinstance(value, bool) or number < least:
        raise wrong(name, repr(value), f"a whole number of at least {least}")
    return number


def import_path(name: str, function: Any) -> str:
    """The import path "module:function" by which a user's function is saved."""
    path = f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', '?')}"
    module = sys.modules.get(path.split(":")[0])
    found = getattr(module, path.split(":")[1], None)
    if found is not function or not isinstance(found, FunctionType) or module is sys.modules.get("__main__"):
        raise wrong(name, f"{path}, which cannot be saved", "a function at the top of an importable module")
    return path


def from_import_path(name: str, path: str) -> Any:
    """The function at ``path``, of a module already imported: reading a file must not run code."""
    module, _, function = str(path).partition(":")
    if module not in sys.modules:
        raise wrong(name, repr(path), f"a function of a module already imported (import {module} first)")
    found = getattr(sys.modules[module], function, None)
    if not isinstance(found, FunctionType):
        raise wrong(name, repr(path), "the import path of a Python function")
    return found
