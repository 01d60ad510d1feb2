"""The names of files: safe ones, and how errors show them."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TypeAlias

from locality_prior._check import instance, short, wrong

StrPath: TypeAlias = str | os.PathLike[str]

#: Bytes in the longest file name that is accepted; the longest that :func:`slug` makes, in characters.
LONGEST_NAME, LONGEST_SLUG = 200, 80


def inside(directory: StrPath, name: str, label: str = "name") -> Path:
    """The path of ``name`` in ``directory``, where ``name`` comes from a file or a user and may be anything.

    Args:
        directory: where the path must stay.
        name: one file name.
        label: what an error calls ``name``.

    Raises:
        ValueError: a name that is empty, ``.`` or ``..``, has a separator, a colon or a character that cannot be
            printed, or is longer than 200 bytes.
    """
    instance(label, name, str, "a file name")
    fits = name not in ("", ".", "..") and not set(name) & set("/\\:") and name.isprintable()
    if not fits or len(os.fsencode(name)) > LONGEST_NAME:
        raise wrong(
            label, repr(name[: 2 * LONGEST_NAME]), f"a file name of at most {LONGEST_NAME} bytes, without / \\ :"
        )
    return Path(directory, name)


def slug(text: str) -> str:
    """A safe file name for any text: another text gets another name, and a name that is safe already stays the same.

    ASCII letters, digits and ``- _ .`` are kept. Where anything had to change, a hash of the text is added.
    """
    kept = re.sub(r"[^A-Za-z0-9._-]+", "-", text).lstrip(".-").rstrip("-")[:LONGEST_SLUG]
    if kept and kept == text:
        return text
    mark = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{kept[: LONGEST_SLUG - 9]}-{mark}".lstrip("-")


def named(path: StrPath) -> str:
    """A path as errors show it, on one line."""
    text = os.fspath(path)
    return text if text.isprintable() and len(text) <= 1000 else short(repr(text))
