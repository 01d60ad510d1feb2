"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from locality_prior._check import wrong

#: Seconds to wait for another process to leave a directory.
PATIENCE = 10.0


def partial_name(path: Path) -> Path:
    """What ``path`` is called while it is written."""
    return path.with_name(f".partial-{path.name}")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A name beside ``path`` to write to; at the end of the block it takes the place of ``path`` in one step.

    A block that raises leaves ``path`` as it was; what a killed one leaves is taken over by the next write.
    """
    path = Path(path)
    partial = partial_name(path)
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """A block in which no other process of this machine is in a block of the same directory.

    It waits a while for one that is: what a killed command leaves behind soon sees that nobody waits for it.

    Raises:
        ValueError: one still is.
    """
    try:
        import fcntl
    except ImportError:  # a system without such locks
        yield
        return
    path, end = partial_name(directory / "lock"), time.monotonic() + PATIENCE
    while True:
        with open(path, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # which ends with the process, however that ends
                mine = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
            except BlockingIOError:
                if time.monotonic() > end:
                    raise wrong("out", f"{directory}, which another process is writing to", "one of its own") from None
                mine = False
            if mine:  # and not of a file that the one before has just removed
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        time.sleep(0.1)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
