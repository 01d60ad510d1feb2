"""The door by which tasks and models come in: an import path with plain arguments, or a Python function.

A word is ``[PLACE:]NAME[:key=value,…]``. PLACE is a module's import path, or a Python file; without one, NAME is looked
up in the catalog. Values are read as YAML scalars: ``nets.py:mlp:width=256,norm=true``. Only what a caller names is
imported; reading a run or a study from disk never is.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from locality_prior._check import Problem, wrong, wrong_type

CATALOG = "locality_prior.catalog"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")

#: Python objects that were given in the place of words, by the words that stand for them in this process.
_objects: dict[str, Any] = {}


def parse(argument: str, word: str) -> tuple[str, str, dict[str, Any]]:
    """The place ("" for the catalog), the name and the arguments that ``word`` says.

    Args:
        argument: what ``word`` is the value of, for errors.
        word: as the module's docstring describes.
    """
    expected = "MODULE:NAME, FILE.py:NAME or a name of the catalog, and :key=value,… after it"
    if not isinstance(word, str):
        raise wrong_type(argument, word, expected)
    parts = word.strip().split(":")
    at = next((k for k, part in enumerate(parts) if k and "=" in part), len(parts))
    head, rest = parts[:at], ":".join(parts[at:])
    place, name = ":".join(head[:-1]), head[-1]
    if not _NAME.match(name) or (place and not place.endswith(".py") and not _NAME.match(place)):
        raise wrong(argument, word, expected)
    return place, name, _arguments(argument, rest) if rest else {}


def _arguments(argument: str, text: str) -> dict[str, Any]:
    """``key=value,…`` as a mapping; commas within brackets belong to a value."""
    found: dict[str, Any] = {}
    for part in re.split(r",(?![^\[\]]*\])", text):
        key, equals, value = part.partition("=")
        if not equals or not key.strip().isidentifier():
            raise wrong(argument, repr(part), "key=value")
        if key.strip() in found:
            raise wrong(argument, f"{key.strip()} twice", "each argument once")
        try:
            found[key.strip()] = yaml.safe_load(value)
        except (yaml.YAMLError, RecursionError):
            raise wrong(argument, repr(value), "a value that YAML can read") from None
    return found


def canonical(argument: str, given: Any) -> str:
    """The one spelling of a word: arguments in order, a file by its whole path. An object gets a word of its own."""
    if not isinstance(given, str):
        return _word_of(argument, given)
    if given.startswith("object:"):
        return given
    place, name, values = parse(argument, given)
    if place.endswith(".py"):
        place = str(Path(place).expanduser().resolve())
    rest = ",".join(f"{key}={_plain(values[key])}" for key in sorted(values))
    return ":".join(part for part in (place, name, rest) if part)


def _plain(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()
    return text.removesuffix("...").strip().replace(", ", ",")


def _word_of(argument: str, given: Any) -> str:
    """A word for a Python object: its import path where it has one, else one that holds for this process alone."""
    module, name = str(getattr(given, "__module__", "")), str(getattr(given, "__qualname__", ""))
    at_top = callable(given) and module not in ("", "__main__") and _NAME.match(name)
    if at_top and getattr(sys.modules.get(module), name, None) is given:
        return f"{module}:{name}"
    if given is None or isinstance(given, (int, float, bytes, list, tuple, set, dict)):
        raise wrong_type(argument, given, "an import path, a function, or an object of the right kind")
    for word, held in _objects.items():
        if held is given:
            return word
    label = re.sub(r"\W+", "-", str(getattr(given, "name", None) or name or type(given).__name__)).strip("-")
    word = f"object:{label}" if f"object:{label}" not in _objects else f"object:{label}-{len(_objects)}"
    _objects[word] = given
    return word


def portable(word: str) -> bool:
    """Whether another process finds by ``word`` what this one does."""
    return not word.startswith("object:")


def label(word: str) -> str:
    """What ``word`` is called where people read it: its name and its arguments, without its place."""
    if word.startswith("object:"):
        return word.partition(":")[2]
    _, name, values = parse("name", word)
    said = ", ".join(f"{key} {_plain(value)}" for key, value in values.items())
    return f"{name} ({said})" if said else name


def find(argument: str, word: str) -> Any:
    """The function or object that ``word`` names, not yet called; a file of the user's is run to find it."""
    if word.startswith("object:"):
        if word not in _objects:
            raise Problem(f"{argument}: {word!r} was a Python object of another process; give it again to go on")
        return _objects[word]
    place, name, _ = parse(argument, word)
    module = _file(argument, place) if place.endswith(".py") else _module(argument, place or CATALOG)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        where = place or "the catalog"
        known = sorted(k for k, v in vars(module).items() if inspect.isfunction(v) and not k.startswith("_"))
        raise wrong(argument, f"{name!r}, which {where} does not have", f"one of {', '.join(known) or 'its names'}")
    return found


def _module(argument: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name and (path == error.name or path.startswith(f"{error.name}.")):
            raise wrong(argument, repr(path), "a module that can be imported") from None
        raise


def _file(argument: str, path: str) -> ModuleType:
    """The module that a Python file makes: run once in a process."""
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise wrong(argument, str(path), "a Python file that is there")
    name = f"_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: its dataclasses look themselves up
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception):
            raise Problem(f"{argument}: {file} could not be imported ({type(error).__name__}: {error})") from error
        raise
    return module


def call(argument: str, word: str, kind: type[Any] | tuple[type[Any], ...], **offered: Any) -> Any:
    """What ``word`` names: a function is called with its arguments, an object of ``kind`` is taken as it is.

    Args:
        argument: what ``word`` is the value of, for errors.
        word: see :func:`parse`.
        kind: what it must give.
        offered: arguments that the function gets where it has parameters of these names.
    """
    found = find(argument, word)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    expected = " or ".join(k.__name__ for k in kinds)
    if isinstance(found, kinds):
        return found
    if not callable(found):
        raise wrong_type(argument, f"{label(word)}, a {type(found).__name__}", f"a function that returns a {expected}")
    given = {} if word.startswith("object:") else parse(argument, word)[2]
    made = found(**_fitting(argument, found, given, offered))
    if not isinstance(made, kinds):
        raise wrong_type(argument, f"{label(word)}, which returns a {type(made).__name__}", f"a {expected}")
    return made


def _fitting(
    argument: str, function: Callable[..., Any], given: dict[str, Any], offered: dict[str, Any]
) -> dict[str, Any]:
    """``given`` with what of ``offered`` the function asks for; an error where it takes other arguments."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return given
    names = set(signature.parameters)
    values = {**{k: v for k, v in offered.items() if k in names and v is not None}, **given}
    try:
        signature.bind(**values)
    except TypeError as error:
        takes = ", ".join(k for k in names - offered.keys()) or "none"
        raise wrong(argument, f"arguments that do not fit ({error})", f"its own: {takes}") from None
    return values
