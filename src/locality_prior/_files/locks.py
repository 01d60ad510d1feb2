"""Directories in which one process writes at a time."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from locality_prior._check import Problem
from locality_prior._files.names import StrPath, named

#: The name of a directory's lock.
LOCK = ".lock"


@contextmanager
def alone_in(directory: StrPath, patience: float = 10.0) -> Iterator[None]:
    """A block in which no other process of this machine, and no other thread, is in a block of the same directory.

    The directory is created if necessary. Where another process holds it, the block begins when that process leaves
    or ends, however it ends. Systems without ``flock`` (Windows) have no such lock: there the block begins at once.

    Args:
        directory: where the block will write.
        patience: seconds to wait for another process.

    Raises:
        Problem: another process still holds the directory, or its lock is not a plain file, or it is not a directory.
    """
    directory = Path(directory)
    file = _locked(directory, time.monotonic() + patience)
    try:
        yield
    finally:
        if file is not None:
            with suppress(OSError):
                if _is_at(file, directory / LOCK):  # and not the lock of a directory that was made anew
                    os.unlink(directory / LOCK)  # while it is held: who opened it before sees that it is gone
            os.close(file)


def _locked(directory: Path, end: float) -> int | None:
    """The descriptor of the directory's lock, once it is held; None on a system without locks."""
    try:
        import fcntl
    except ImportError:
        _make(directory)
        return None
    while True:
        file = _lock_file(directory)
        if file is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system releases it if the process is killed
                if _is_at(file, directory / LOCK):
                    return file
            except BlockingIOError:
                pass
            except BaseException:
                os.close(file)
                raise
            os.close(file)
        if time.monotonic() >= end:
            if not directory.is_dir():
                raise Problem(f"{named(directory)} cannot be made. Name another directory.")
            raise Problem(
                f"Another process is writing to {named(directory)}. Wait for it to end, or name another directory."
            )
        time.sleep(0.05)


def _lock_file(directory: Path) -> int | None:
    """The directory's lock file, opened but not yet held; None where the directory was removed in between."""
    path = directory / LOCK
    _make(directory)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        return None
    except OSError:
        if path.is_symlink() or path.is_dir():
            raise _in_the_way(path) from None
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _in_the_way(path)
    return file


def _in_the_way(path: Path) -> Problem:
    return Problem(f"{named(path)} is in the way of the directory's lock. Delete it, then start again.")


def _make(directory: Path) -> None:
    """Create ``directory`` and those above it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError):
        for path in (directory, *directory.parents):
            try:
                found = stat.S_ISDIR(os.stat(path).st_mode)
            except (FileNotFoundError, NotADirectoryError):
                if not path.is_symlink():
                    continue
                found = False
            if found:
                return  # another process removed one below it in between: the caller tries again
            raise Problem(f"{named(path)} is in the way of a directory. Delete it, or name another.") from None


def _is_at(file: int, path: Path) -> bool:
    """Whether the open ``file`` is the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
