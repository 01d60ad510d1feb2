"""Checks of what a caller gives: one line that names the argument, what was given and what is expected.

Nothing here imports torch, so that the command line can answer quickly.
"""

from __future__ import annotations

import importlib
import math
import operator
import os
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import FunctionType
from typing import Any, TypeVar

T = TypeVar("T")

#: Distances within this relative rounding of a radius count as on it, and are kept.
ROUNDING = 1e-9
#: The environment variable with which the tracebacks of errors are shown.
DEBUG = "LOCALITY_PRIOR_DEBUG"
#: The longest description of a value that an error message holds, in characters.
LONGEST = 160


class Told(Exception):
    """An error whose message says everything that its reader needs: the command line shows no traceback of it."""


class ArgumentError(Told, ValueError):
    """A value that does not fit: "name: got X, expected Y"."""


class ArgumentTypeError(Told, TypeError):
    """A value of the wrong type: "name: got X, expected Y"."""


class Problem(Told, RuntimeError):
    """Trouble with files, memory or numbers while working: a sentence says what happened and what to do."""


class Missing(Told, ImportError):
    """A library that is not installed: the message says how to install it."""


def needs(module: str, extra: str, what: str) -> None:
    """Check that ``module``, which the optional dependency ``extra`` installs, is there for ``what``."""
    try:
        importlib.import_module(module)
    except ImportError:
        message = f'{what} needs {module}, which is not installed: pip install "locality-prior[{extra}]"'
        raise Missing(message) from None


def debugging() -> bool:
    """Whether :data:`DEBUG` asks for tracebacks."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def wrong(name: str, given: object, expected: str) -> ArgumentError:
    """The error for a value that does not fit; the caller raises it."""
    return ArgumentError(_message(name, given, expected))


def wrong_type(name: str, given: object, expected: str) -> ArgumentTypeError:
    """The error for a value of the wrong type; the caller raises it."""
    return ArgumentTypeError(_message(name, given, expected))


def _message(name: str, given: object, expected: str) -> str:
    return f"{name}: got {short(given if isinstance(given, str) else shown(given))}, expected {expected}"


def shown(value: object) -> str:
    """A value in one short line: arrays and tensors by their shape, long collections by their length."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None and not isinstance(value, type):
        if math.prod(shape) > 1:
            return f"{type(value).__name__} of shape {tuple(shape)}"
        return short(repr(value))
    if isinstance(value, (list, tuple, set, frozenset, dict)) and len(value) > 12:
        return f"{type(value).__name__} of {len(value):,} entries"
    if isinstance(value, (str, bytes)) and len(value) > LONGEST:
        return f"{short(repr(value[:LONGEST]))} ({len(value):,} characters)"
    try:
        return short(repr(value))
    except Exception:  # a user's class whose repr fails
        return f"a {type(value).__name__}"


def short(text: str, longest: int = LONGEST) -> str:
    """``text`` on one line, cut after ``longest`` characters."""
    line = " ".join(text[: 4 * longest].split())
    return line if len(line) <= longest and len(text) <= 4 * longest else f"{line[:longest]}…"


def printable(text: str) -> str:
    """``text`` on one line, without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def instance(name: str, value: Any, kinds: type[T] | tuple[type[T], ...], expected: str) -> T:
    """``value``, where it is one of ``kinds``."""
    if not isinstance(value, kinds):
        raise wrong_type(name, value, expected)
    return value


def boolean(name: str, value: Any) -> bool:
    """``value`` as True or False; a number or a word is neither."""
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    raise wrong(name, value, "True or False")


def choice(name: str, value: Any, choices: Iterable[T]) -> T:
    """``value``, where it is one of ``choices``."""
    known = list(choices)
    for one in known:
        if type(value) is type(one) and value == one:
            return one
    raise wrong(name, value, f"one of {', '.join(map(str, known))}")


def number(name: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """``value`` as a finite float from ``least`` to ``most``."""
    bounds = {
        (True, True): "a finite number",
        (False, True): f"a finite number of at least {least:g}",
        (True, False): f"a finite number of at most {most:g}",
        (False, False): f"a number from {least:g} to {most:g}",
    }[math.isinf(least), math.isinf(most)]
    found = _float(value)
    if found is None or not math.isfinite(found) or not least <= found <= most:
        raise wrong(name, value, bounds)
    return found


def positive(name: str, value: Any) -> float:
    """``value`` as a finite float above zero."""
    found = _float(value)
    if found is None or not math.isfinite(found) or found <= 0:
        raise wrong(name, value, "a finite number above 0")
    return found


def _float(value: Any) -> float | None:
    """``value`` as a float; None where it is a word, a truth value or no single number."""
    several = getattr(value, "ndim", 0) != 0  # an array of one number too: older releases of numpy take it, and warn
    if several or isinstance(value, (bool, str, bytes, complex)) or type(value).__name__ == "bool_":
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def count(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """``value`` as a whole number of at least ``least`` and at most ``most``."""
    bounds = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most:,}"
    try:
        found = operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        raise wrong(name, value, bounds) from None
    if isinstance(value, bool) or found < least or (most is not None and found > most):
        raise wrong(name, value, bounds)
    return found


def check_fits(entries: int, what: str, advice: str) -> None:
    """Raise where a float64 tensor of so many entries is larger than this machine's memory.

    Raises:
        Problem: ``what`` does not fit; ``advice`` says what to do.
    """
    if 8 * entries > _memory():
        asked, there = 8 * entries / 2**30, _memory() / 2**30
        raise Problem(
            f"{what[0].upper()}{what[1:]} would take {asked:,.0f} GiB, more than this machine's {there:,.0f} GiB of "
            f"memory: {advice}"
        )


@lru_cache
def _memory() -> int:
    """The bytes of memory that this machine has; where that cannot be asked, 1 TiB."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 1 << 40


def unmasked(name: str, value: Any) -> None:
    """Refuse a numpy masked array some of whose values are masked: what is behind the mask is not meant to be used."""
    mask = getattr(value, "mask", None)
    if mask is not None and hasattr(value, "filled") and hasattr(mask, "any") and mask.any():
        raise wrong(name, f"an array with {int(mask.sum())} masked values", "values of which none is masked")


def array_like(value: Any) -> bool:
    """Whether ``value`` is a number or holds some; what would first have to be gone through, as a range, is not."""
    return isinstance(value, (int, float, list, tuple)) or hasattr(value, "__array__")


def import_path(name: str, thing: Any) -> str:
    """The import path "module:name" under which a function or class of a user's own is saved.

    Raises:
        ValueError: a lambda, a function made inside another, or one that is not written in Python.
    """
    path = f"{getattr(thing, '__module__', '?')}:{getattr(thing, '__qualname__', '?')}"
    module, _, attribute = path.partition(":")
    found = getattr(sys.modules.get(module), attribute, None)
    if found is not thing or not isinstance(found, (FunctionType, type)):
        raise wrong(name, f"{path}, which cannot be saved", "a function or class at the top of a module")
    return path


def kind_from(
    name: str, config: Any, kinds: Mapping[str, type[T]], base: type[Any], custom: Mapping[str, Any] | None
) -> tuple[type[T], dict[str, Any]]:
    """The class that the "type" of ``config`` names, and the other values of ``config``.

    Args:
        name: the argument to name in errors.
        config: plain values, as a file holds them.
        kinds: the project's own classes, by name.
        base: what a class of the caller's must be a subclass of.
        custom: the caller's own functions and classes by import path.

    Raises:
        ValueError: no such class, or one of the caller's that ``custom`` does not hold.
    """
    values = dict(config) if isinstance(config, Mapping) else {}
    given = values.pop("type", None)
    kind = kinds.get(given) if isinstance(given, str) else None
    if kind is None:
        if not isinstance(given, str) or ":" not in given:
            raise wrong(name, repr(config), f'a mapping whose "type" is one of {", ".join(kinds)}')
        kind = from_import_path(name, given, custom)
        if not (isinstance(kind, type) and issubclass(kind, base)):
            raise wrong("custom", f"{kind!r} for {given!r}", f"a subclass of {base.__name__}")
    return kind, values


def from_import_path(name: str, path: Any, custom: Mapping[str, Any] | None) -> Any:
    """The function or class that the caller passes for an import path found in a file.

    The path is only a label: nothing is imported or looked up because a file says so.

    Args:
        name: the argument to name in the error.
        path: what the file says, such as "mine.shapes:Cylinder".
        custom: the caller's own functions and classes by import path.

    Raises:
        ValueError: ``custom`` does not hold it, or what it holds cannot be called.
    """
    if custom is not None and not isinstance(custom, Mapping):
        raise wrong_type("custom", custom, 'a mapping, such as {"mine.shapes:Cylinder": Cylinder}')
    if not isinstance(path, str) or custom is None or path not in custom:
        expected = f"it to be passed by the caller: custom={{{short(repr(path))}: …}}"
        raise wrong(name, f"{short(repr(path))}, which is not built in", expected)
    if not callable(custom[path]):
        raise wrong("custom", f"{shown(custom[path])} for {path!r}", "a function or class")
    return custom[path]
