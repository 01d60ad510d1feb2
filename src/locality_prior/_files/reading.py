"""Text, JSON and CSV files that are read without trust in what they hold."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
import stat
from collections.abc import Callable, Sequence
from typing import Any

from locality_prior._check import ArgumentError, short, wrong
from locality_prior._files.names import StrPath, named

#: The most bytes that a file may have, unless the caller says otherwise.
JSON_BYTES, CSV_BYTES = 16 * 2**20, 16 * 2**20
#: The most lists and mappings within one another in a YAML or JSON file.
DEEPEST = 100
#: What a path that is no regular file can be.
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def digest(path: StrPath) -> str:
    """The SHA-256 checksum of a file, as 64 hexadecimal digits.

    Raises:
        ValueError: no such file, or not a regular one.
    """
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: StrPath, most: int) -> str:
    """The text of a UTF-8 file of at most ``most`` bytes.

    Raises:
        ValueError: no such file, not a regular one, a larger one, or other bytes than UTF-8.
    """
    with opened(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise unfit(path, f"more than {most:,} bytes", "a smaller file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise unfit(path, f"a byte that is not text, number {error.start + 1:,}", "text in UTF-8") from None


def read_json(path: StrPath, most: int = JSON_BYTES) -> Any:
    """The value in a JSON file of at most ``most`` bytes.

    Raises:
        ValueError: as :func:`read_text`; text that is not JSON; a number that is not finite; values nested too deeply.
    """
    text = read_text(path, most)
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
        if re.search(r"\\u[dD][89a-fA-F]", text):  # half of a character, which cannot be written again
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise too_deep(path) from None
    except ValueError as error:
        raise unfit(path, f"what is not JSON ({error})", "a JSON file with finite numbers") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [
            one
            for outer in level
            if isinstance(outer, (dict, list))
            for one in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(one, (dict, list))
        ]
        if not level:
            return value
    raise too_deep(path)


def _finite(text: str) -> float:
    """A JSON number as a float, which must be finite."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {short(text)}")
    return number


def read_csv(path: StrPath, columns: Sequence[str] = (), most: int = CSV_BYTES) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, each a dict from column to text.

    Args:
        path: the file.
        columns: names that the header must have; it may have others.
        most: bytes that the file may have.

    Raises:
        ValueError: as :func:`read_text`; a header without these columns or with one of them twice; a row with more or
            fewer fields than the header; a last line that does not end, as in a file that was cut short.
    """
    text = read_text(path, most)
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise unfit(path, f"what is not CSV ({error})", "a CSV file") from None
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    if not header:
        raise unfit(path, "no header", "the names of the columns in the first line")
    missing = [name for name in columns if name not in header]
    if missing or len(set(header)) < len(header):
        wanted = f"each of {', '.join(columns)} once" if columns else "each name once"
        raise unfit(path, f"the columns {', '.join(header)}", wanted)
    if not text.endswith(("\n", "\r")):
        raise unfit(path, "a last line that was cut short", "a line end after it")
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise unfit(path, f"{len(row)} fields in row {number}", f"{len(header)}, as in the header")
    return [dict(zip(header, row, strict=True)) for row in rows]


def opened(path: StrPath) -> io.BufferedReader:
    """A regular file, opened for reading: opening a pipe waits for a writer, and opening a device may do anything."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        _check_regular(path, os.stat(path).st_mode)
        file = os.fdopen(os.open(path, flags), "rb")
    except ArgumentError:
        raise
    except OSError as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
        raise unfit(path, why, "a file that can be read") from None
    except ValueError:  # a name that no file can have
        raise unfit(path, "no such file", "a file that can be read") from None
    try:
        _check_regular(path, os.fstat(file.fileno()).st_mode)  # it may have been replaced in between
    except ArgumentError:
        file.close()
        raise
    return file


def _check_regular(path: StrPath, mode: int) -> None:
    if not stat.S_ISREG(mode):
        given = next((what for test, what in _KINDS if test(mode)), "a device")
        raise unfit(path, given, "a regular file")


def unfit(path: StrPath, given: str, expected: str) -> ArgumentError:
    """The error for a file that does not fit: "path: got X, expected Y"."""
    return wrong(named(path), given, expected)


def too_deep(path: StrPath) -> ArgumentError:
    return unfit(path, f"more than {DEEPEST} lists and mappings within one another", "fewer")
