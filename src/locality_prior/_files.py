"""Files: written whole or not at all, by one process at a time, and read without trust in what they hold.

Nothing here imports torch, and no reader runs code that a file names.
"""

from __future__ import annotations

import csv
import ctypes
import errno
import functools
import hashlib
import io
import json
import math
import os
import re
import shutil
import stat
import tempfile
import time
import zipfile
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from locality_prior._check import ArgumentError, Problem, instance, short, wrong

if TYPE_CHECKING:
    import numpy as np

StrPath: TypeAlias = str | os.PathLike[str]

#: How the names of folders begin that hold unfinished files; and the name of a directory's lock.
PARTIAL, LOCK = ".partial-", ".lock"
#: Bytes in the longest file name that is accepted; the longest that :func:`slug` makes, in characters.
LONGEST_NAME, LONGEST_SLUG = 200, 80
#: The most bytes that each kind of file may have, unless the caller says otherwise.
YAML_BYTES, JSON_BYTES, CSV_BYTES, NPZ_BYTES = 4 * 2**20, 16 * 2**20, 16 * 2**20, 2**30
#: The most values in a YAML file (each alias counts as all that it stands for), and characters in an unquoted one.
YAML_VALUES, YAML_PLAIN = 20_000, 10_000
#: The most lists and mappings within one another in a YAML or JSON file.
DEEPEST = 100


# ---------------------------------------------------------------------------------------------------------------------
# Writing


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
        os.rename(new, path)
        return
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


# ---------------------------------------------------------------------------------------------------------------------
# One process at a time


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
            raise Problem(
                f"Another process is writing to {_named(directory)}. Wait for it to end, or name another directory."
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
    return Problem(f"{_named(path)} is in the way of the directory's lock. Delete it, then start again.")


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
            raise Problem(f"{_named(path)} is in the way of a directory. Delete it, or name another.") from None


def _is_at(file: int, path: Path) -> bool:
    """Whether the open ``file`` is the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


# ---------------------------------------------------------------------------------------------------------------------
# Names


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


def _named(path: StrPath) -> str:
    """A path as errors show it, on one line."""
    text = os.fspath(path)
    return text if text.isprintable() and len(text) <= 1000 else short(repr(text))


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def digest(path: StrPath) -> str:
    """The SHA-256 checksum of a file, as 64 hexadecimal digits.

    Raises:
        ValueError: no such file, or not a regular one.
    """
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: StrPath, most: int) -> str:
    """The text of a UTF-8 file of at most ``most`` bytes.

    Raises:
        ValueError: no such file, not a regular one, a larger one, or other bytes than UTF-8.
    """
    with _opened(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise _unfit(path, f"more than {most:,} bytes", "a smaller file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unfit(path, f"a byte that is not text, number {error.start + 1:,}", "text in UTF-8") from None


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
        raise _too_deep(path) from None
    except ValueError as error:
        raise _unfit(path, f"what is not JSON ({error})", "a JSON file with finite numbers") from None
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
    raise _too_deep(path)


def _finite(text: str) -> float:
    """A JSON number as a float, which must be finite."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {short(text)}")
    return number


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
        raise _unfit(path, f"text that is not valid YAML ({_yaml_trouble(error)})", "a YAML file") from None
    if ended and not explicit:
        raise _unfit(path, "a file that was cut short", "the end marker ... at its end")
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
            raise _unfit(path, f"more than {YAML_VALUES:,} values", "fewer (an alias counts as all that it stands for)")
        if outer[2] is not None:
            if outer[3] and key is not None and key in outer[2]:
                raise _unfit(path, f"the key {key!r} twice in one mapping", "each key once")
            if outer[3]:
                outer[2].add(key)
            outer[3] = not outer[3]

    for event in yaml.parse(text, Loader=_yaml_loader()):
        if isinstance(event, yaml.DocumentEndEvent):
            explicit = bool(event.explicit)
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(str(event.anchor), 1)  # an unknown anchor is told when the value is built
            if size is None:
                raise _unfit(path, f"the alias *{event.anchor} within what it stands for", "values that end")
            add(size)
        elif isinstance(event, yaml.ScalarEvent):
            if not event.style and len(event.value) > YAML_PLAIN:  # a number of a million digits takes for ever
                raise _unfit(path, f"an unquoted text of {len(event.value):,} characters", "quotes around it")
            if event.anchor is not None:
                sizes[event.anchor] = 1
            add(1, None if event.value == "<<" else event.value)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(open_) > DEEPEST:
                raise _too_deep(path)
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
        raise _unfit(path, f"what is not CSV ({error})", "a CSV file") from None
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    if not header:
        raise _unfit(path, "no header", "the names of the columns in the first line")
    missing = [name for name in columns if name not in header]
    if missing or len(set(header)) < len(header):
        wanted = f"each of {', '.join(columns)} once" if columns else "each name once"
        raise _unfit(path, f"the columns {', '.join(header)}", wanted)
    if not text.endswith(("\n", "\r")):
        raise _unfit(path, "a last line that was cut short", "a line end after it")
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise _unfit(path, f"{len(row)} fields in row {number}", f"{len(header)}, as in the header")
    return [dict(zip(header, row, strict=True)) for row in rows]


def read_npz(path: StrPath, most: int = NPZ_BYTES) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays in an NPZ file, by name; they have at most ``most`` bytes in all.

    Each array's size is checked against what the file holds before any memory is taken for it, and no pickle is read.

    Raises:
        ValueError: no such file, not a regular one, a damaged one, one that is too large, or arrays of other things
            than numbers, truth values and text.
    """
    with _opened(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise _unfit(path, f"more than {most:,} bytes", "a smaller file")
        try:
            return _arrays(path, file, most)
        except ArgumentError:
            raise
        except Exception as error:  # a damaged file can make zipfile, zlib and numpy raise almost anything
            raise _unfit(path, f"a damaged file ({error})", "an NPZ file") from None


def _arrays(path: StrPath, file: io.BufferedReader, most: int) -> dict[str, np.ndarray[Any, Any]]:
    import numpy as np

    found: dict[str, np.ndarray[Any, Any]] = {}
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > most:
            raise _unfit(path, f"arrays of more than {most:,} bytes", "smaller ones")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == member.filename or name in found:
                raise _unfit(path, f"a member {member.filename!r}", "arrays, each with a name of its own")
            with archive.open(member) as data:
                version = np.lib.format.read_magic(data)
                header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = header[version](data)
                if dtype.kind not in "biufcSU" or not dtype.itemsize or min(shape, default=0) < 0:
                    raise _unfit(path, f"{name!r} of {dtype} and shape {shape}", "numbers, truth values or text")
                claimed, held = math.prod(shape) * dtype.itemsize, member.file_size - data.tell()
                if claimed != held:
                    raise _unfit(path, f"{name!r} of {claimed:,} bytes by its header", f"{held:,}, as the file holds")
            with archive.open(member) as data:
                found[name] = np.lib.format.read_array(data, allow_pickle=False)
    return found


def _opened(path: StrPath) -> io.BufferedReader:
    """A regular file, opened for reading: opening a pipe waits for a writer, and opening a device may do anything."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        _check_regular(path, os.stat(path).st_mode)
        file = os.fdopen(os.open(path, flags), "rb")
    except ArgumentError:
        raise
    except OSError as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
        raise _unfit(path, why, "a file that can be read") from None
    except ValueError:  # a name that no file can have
        raise _unfit(path, "no such file", "a file that can be read") from None
    try:
        _check_regular(path, os.fstat(file.fileno()).st_mode)  # it may have been replaced in between
    except ArgumentError:
        file.close()
        raise
    return file


#: What a path that is no regular file can be.
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def _check_regular(path: StrPath, mode: int) -> None:
    if not stat.S_ISREG(mode):
        given = next((what for test, what in _KINDS if test(mode)), "a device")
        raise _unfit(path, given, "a regular file")


def _unfit(path: StrPath, given: str, expected: str) -> ArgumentError:
    """The error for a file that does not fit: "path: got X, expected Y"."""
    return wrong(_named(path), given, expected)


def _too_deep(path: StrPath) -> ArgumentError:
    return _unfit(path, f"more than {DEEPEST} lists and mappings within one another", "fewer")
