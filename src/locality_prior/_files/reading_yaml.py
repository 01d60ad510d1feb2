"""YAML files that are read without trust in what they hold."""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable
from typing import Any

from locality_prior._check import ArgumentError, short
from locality_prior._files.names import StrPath
from locality_prior._files.reading import DEEPEST, read_text, too_deep, unfit

#: The most bytes that a file may have, unless the caller says otherwise.
YAML_BYTES = 4 * 2**20
#: The most values in a file (each alias counts as all that it stands for), and characters in an unquoted one.
YAML_VALUES, YAML_PLAIN = 20_000, 10_000


def read_yaml(path: StrPath, most: int = YAML_BYTES, *, ended: bool = False) -> Any:
    """The value in a YAML file of at most ``most`` bytes: mappings, lists, text, numbers, dates, and no other objects.

    Unlike YAML 1.1, ``1e-4`` is a number. A file in which aliases stand for very many values is refused before
    anything is built from it.

    Args:
        path: the file.
        most: bytes that it may have.
        ended: whether the file must end with the end marker ``...``, which shows that it was not cut short.

    Raises:
        ValueError: as :func:`read_text`; text that is not YAML; a key that is given twice in one mapping; too many
            values, or values nested too deeply.
    """
    import yaml

    text = read_text(path, most)
    try:
        explicit = _check_yaml(path, text)
        value = yaml.load(text, Loader=_yaml_loader())
    except ArgumentError:
        raise
    except Exception as error:  # unknown tags, dates and numbers that do not exist: PyYAML raises many kinds
        raise unfit(path, f"text that is not valid YAML ({_yaml_trouble(error)})", "a YAML file") from None
    if ended and not explicit:
        raise unfit(path, "a file that was cut short", "the end marker ... at its end")
    return value


@functools.cache
def _yaml_loader() -> Any:
    """PyYAML's safe loader, the fast one where there is one, to which ``1e-4`` is a number."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+][0-9]+$"), list("-+0123456789")
    )
    return Loader


def _check_yaml(path: StrPath, text: str) -> bool:
    """Check the size of a YAML file's value without building it; say whether the file ends with the end marker."""
    import yaml

    explicit = False
    sizes: dict[str, int | None] = {}  # the values that each anchor stands for; None while it is being read
    # one entry for each list or mapping that is open: [its anchor, its values so far, its keys if it is a mapping, and
    # whether a key comes next]
    open_: list[list[Any]] = [[None, 0, None, False]]

    def add(values: int, key: Hashable = None) -> None:
        outer = open_[-1]
        outer[1] += values
        if sum(one[1] for one in open_) > YAML_VALUES:
            raise unfit(path, f"more than {YAML_VALUES:,} values", "fewer (an alias counts as all that it stands for)")
        if outer[2] is not None:
            if outer[3] and key is not None and key in outer[2]:
                raise unfit(path, f"the key {key!r} twice in one mapping", "each key once")
            if outer[3]:
                outer[2].add(key)
            outer[3] = not outer[3]

    for event in yaml.parse(text, Loader=_yaml_loader()):
        if isinstance(event, yaml.DocumentEndEvent):
            explicit = bool(event.explicit)
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(str(event.anchor), 1)  # an unknown anchor is told when the value is built
            if size is None:
                raise unfit(path, f"the alias *{event.anchor} within what it stands for", "values that end")
            add(size)
        elif isinstance(event, yaml.ScalarEvent):
            if not event.style and len(event.value) > YAML_PLAIN:  # a number of a million digits takes for ever
                raise unfit(path, f"an unquoted text of {len(event.value):,} characters", "quotes around it")
            if event.anchor is not None:
                sizes[event.anchor] = 1
            add(1, None if event.value == "<<" else event.value)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(open_) > DEEPEST:
                raise too_deep(path)
            if event.anchor is not None:
                sizes[event.anchor] = None
            open_.append([event.anchor, 1, set() if isinstance(event, yaml.MappingStartEvent) else None, True])
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size, *_ = open_.pop()
            if anchor is not None:
                sizes[anchor] = size
            add(size)
    return explicit


def _yaml_trouble(error: Exception) -> str:
    """What PyYAML found, without its picture of the place."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    if problem is None:
        return short(str(error))
    return str(problem) if mark is None else f"line {mark.line + 1}: {problem}"
