"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from locality_prior._files.names import StrPath

#: How the names of folders begin that hold unfinished files.
PARTIAL = ".partial-"


@contextmanager
def replacing(path: StrPath) -> Iterator[Path]:
    """A path to write a new file to, which takes the place of ``path`` in one step when the block ends.

    The new file has the same name, in a folder of its own beside ``path``. If the block raises, ``path`` stays as it
    was. If ``path`` is a link, the link is replaced, and the file that it points to is not touched.
    """
    path = Path(path)
    with _beside(path) as partial:
        yield partial
        _flush(partial)
        os.replace(partial, path)


@contextmanager
def replacing_folder(path: StrPath) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of the folder ``path`` when the block ends.

    The two are exchanged in one step on Linux. On other systems the old folder is moved away just before the new one
    is moved in. If the block or the exchange fails, the old folder stays as it was.

    Raises:
        NotADirectoryError: ``path`` is a file.
    """
    path = Path(path)
    with _beside(path) as partial:
        partial.mkdir()
        yield partial
        for file in partial.rglob("*"):
            if file.is_file() and not file.is_symlink():
                _flush(file)
        _swap(partial, path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A path with the same name in a new folder beside ``path``; the folder is removed when the block ends.

    Nobody else can have made the folder or put a link into it: its name is random, and only its owner may enter.
    """
    try:
        folder = tempfile.mkdtemp(prefix=PARTIAL, dir=path.parent)
    except OSError as error:
        error.filename = os.fspath(path)  # the name that the user knows
        raise
    try:
        yield Path(folder, path.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _flush(path: Path) -> None:
    """Wait until the contents of a file are on the disk, so that a crash cannot leave an empty file in its place."""
    file = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _swap(new: Path, path: Path) -> None:
    """Put the folder ``new`` in the place of ``path``; what was there ends up in the folder that held ``new``."""
    if not os.path.lexists(path):
        try:
            os.rename(new, path)
            return
        except OSError:
            if not os.path.lexists(path):
                raise  # else another writer was quicker, and its folder is exchanged like an old one
    if not (path.is_symlink() or path.is_dir()):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(path))
    if _exchange(new, path):
        return
    old = new.with_name(f"{new.name}.old")
    os.rename(path, old)
    try:
        os.rename(new, path)
    except BaseException:
        os.rename(old, path)
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step, and say whether that was possible: Linux can, on most file systems."""
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError, TypeError):  # a system without it
        return False
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def write_text(path: StrPath, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: StrPath, value: Any) -> None:
    """Write ``value`` to ``path`` as JSON, whole or not at all.

    Raises:
        ValueError: a number that is infinite or not a number, which JSON does not have: write None instead.
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def sweep(directory: StrPath) -> None:
    """Remove the unfinished files of writers that were killed. Call it only inside :func:`alone_in`."""
    with os.scandir(directory) as entries:
        left = [entry for entry in entries if entry.name.startswith(PARTIAL)]
    for entry in left:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with suppress(OSError):
                os.unlink(entry.path)  # of a link, the link itself
