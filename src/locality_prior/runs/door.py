"""The door through which tasks and models come in: an import path with plain arguments, or a Python object.

A word is ``[PLACE:]NAME[:key=value,…]``. PLACE is the import path of a module, or a Python file; without it, NAME is
looked up in the catalog. Values are read as YAML: ``nets.py:mlp:width=256,norm=true``. Reading a word imports nothing:
what it names is imported when a run needs it.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from locality_prior._check import Problem, Told, short, wrong, wrong_type

CATALOG = "locality_prior.catalog"
#: The most characters in a word.
LONGEST = 4000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\Z")

#: Python objects that were given instead of words, by the words that stand for them in this process.
_objects: dict[str, Any] = {}


def parse(argument: str, word: str) -> tuple[str, str, dict[str, Any]]:
    """The place ("" for the catalog), the name and the arguments in ``word``.

    Args:
        argument: the name of the argument whose value ``word`` is, for errors.
        word: as described at the top of this module.
    """
    expected = "MODULE:NAME, FILE.py:NAME or a name in the catalog, with :key=value,… for its arguments"
    if not isinstance(word, str):
        raise wrong_type(argument, word, expected)
    if len(word) > LONGEST:
        raise wrong(argument, word, f"at most {LONGEST:,} characters")
    parts = word.strip().split(":")
    at = next((k for k, part in enumerate(parts) if k and "=" in part), len(parts))
    head, rest = parts[:at], ":".join(parts[at:])
    place, name = ":".join(head[:-1]), head[-1]
    if (
        name.endswith(".py")
        or not _NAME.match(name)
        or (place and not place.endswith(".py") and not _NAME.match(place))
    ):
        raise wrong(argument, word, expected)
    return place, name, _arguments(argument, rest) if rest else {}


def _arguments(argument: str, text: str) -> dict[str, Any]:
    """``key=value,…`` as a mapping."""
    found: dict[str, Any] = {}
    for part in _parts(text):
        key, equals, value = part.partition("=")
        if not equals or not key.strip().isidentifier():
            raise wrong(argument, repr(part), "key=value")
        if key.strip() in found:
            raise wrong(argument, f"the argument {key.strip()} twice", "each argument once")
        try:
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(value, yaml.SafeLoader)):
                raise wrong(argument, repr(value), "a value without YAML's aliases")
            found[key.strip()] = yaml.safe_load(value)
        except (yaml.YAMLError, RecursionError):
            raise wrong(argument, repr(value), "a value that YAML can read") from None
    return found


def _parts(text: str) -> list[str]:
    """``text`` split at its commas, except at those inside brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if letter == "," and not depth and not quote:
            parts.append("")
            continue
        parts[-1] += letter
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "[{") - (letter in "]}")
    return parts


def canonical(argument: str, given: Any) -> str:
    """The one spelling of a word: arguments in order of their names, a file by its full path.

    A Python object gets a word of its own.
    """
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
    """A value as YAML, on one line and without spaces that mean nothing."""
    if isinstance(value, list):
        return f"[{','.join(map(_plain, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{_plain(k)}: {_plain(v)}' for k, v in value.items())}}}"
    if isinstance(value, str) and (set(value) & set(",[]{}'\"=") or not value.isprintable()):
        return json.dumps(value)
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).strip()
    return text.removesuffix("...").strip()


def _word_of(argument: str, given: Any) -> str:
    """A word for a Python object: its import path where it has one, else one that only this process understands."""
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
    """Whether another process finds the same thing by ``word``."""
    return not word.startswith("object:")


def label(word: str) -> str:
    """How ``word`` is shown to people: its name and its arguments, without the place where it is defined."""
    if word.startswith("object:"):
        return word.partition(":")[2]
    _, name, values = parse("name", word)
    said = ", ".join(f"{key} {_plain(value)}" for key, value in values.items())
    return f"{name} ({said})" if said else name


def find(argument: str, word: str) -> Any:
    """The function or object that ``word`` names. To find it, its module is imported, or its file is run."""
    if word.startswith("object:"):
        if word not in _objects:
            raise Problem(
                f"The {argument} of this run, {word!r}, is a Python object that another process was given. "
                "Give the same object again to go on."
            )
        return _objects[word]
    place, name, _ = parse(argument, word)
    module = _file(argument, place) if place.endswith(".py") else _module(argument, place or CATALOG)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise wrong(argument, f"{name!r}, which is not in {place or 'the catalog'}", f"one of {_names(module)}")
    return found


def _names(module: ModuleType) -> str:
    """The functions and classes that a module defines, for an error."""
    public = getattr(module, "__all__", None) or [k for k in vars(module) if not k.startswith("_")]
    own = [k for k in public if str(getattr(getattr(module, k, None), "__module__", "")).startswith(module.__name__)]
    return ", ".join(sorted(own)) or "the names that it defines, and it defines none"


def _module(argument: str, path: str) -> ModuleType:
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name and (path == error.name or path.startswith(f"{error.name}.")):
            raise wrong(argument, repr(path), "a module that can be imported") from None
        raise _raised(argument, path, error) from error
    except (Exception, SystemExit) as error:
        raise _raised(argument, path, error) from error


def _raised(argument: str, what: object, error: BaseException) -> Problem:
    """What is said when a user's module, file or function raises."""
    return Problem(f"{argument}: {what} raised {type(error).__name__}: {short(str(error)) or 'no message'}")


def _file(argument: str, path: str) -> ModuleType:
    """The module that a Python file makes. The file is run once in each process."""
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise wrong(argument, str(path), "a Python file that exists")
    name = f"_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it is run, since its dataclasses look up their module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, (Exception, SystemExit)):
            raise _raised(argument, file, error) from error
        raise
    return module


def call(argument: str, word: str, kind: type[Any], **offered: Any) -> Any:
    """What ``word`` makes: a function is called with its arguments, and an object of ``kind`` is taken as it is.

    Args:
        argument: the name of the argument whose value ``word`` is, for errors.
        word: see :func:`parse`.
        kind: the type that is wanted.
        offered: values for the parameters of these names that the function may have.

    Raises:
        ValueError, TypeError: a word that names nothing, arguments that do not fit, or a result of another type.
        Problem: the user's code raises.
    """
    found = find(argument, word)
    expected = f"a {kind.__name__}"
    if isinstance(found, kind):
        return found
    if not callable(found):
        raise wrong_type(argument, f"{label(word)}, a {type(found).__name__}", f"a function that returns {expected}")
    given = {} if word.startswith("object:") else parse(argument, word)[2]
    values = _fitting(argument, found, given, offered)
    try:
        made = found(**values)
    except (Told, MemoryError):
        raise
    except Exception as error:
        raise _raised(argument, label(word), error) from error
    if not isinstance(made, kind):
        raise wrong_type(argument, f"{label(word)}, which returns a value of type {type(made).__name__}", expected)
    return made


def _fitting(
    argument: str, function: Callable[..., Any], given: dict[str, Any], offered: dict[str, Any]
) -> dict[str, Any]:
    """``given``, and those of ``offered`` that the function has parameters for.

    Raises:
        ValueError: the function does not take these arguments, or needs more.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return given
    names = list(signature.parameters)
    values = {**{k: v for k, v in offered.items() if k in names and v is not None}, **given}
    try:
        signature.bind(**values)
    except TypeError as error:
        takes = ", ".join(k for k in names if k not in offered) or "none"
        raise wrong(argument, f"arguments that do not fit ({error})", f"arguments that it has: {takes}") from None
    return values
