"""NPZ files that are read without trust in what they hold."""

from __future__ import annotations

import io
import math
import os
import zipfile
from typing import TYPE_CHECKING, Any

from locality_prior._check import ArgumentError
from locality_prior._files.names import StrPath
from locality_prior._files.reading import opened, unfit

if TYPE_CHECKING:
    import numpy as np

#: The most bytes that a file may have, unless the caller says otherwise.
NPZ_BYTES = 2**30


def read_npz(path: StrPath, most: int = NPZ_BYTES) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays in an NPZ file, by name; they have at most ``most`` bytes in all.

    Each array's size is checked against what the file holds before any memory is taken for it, and no pickle is read.

    Raises:
        ValueError: no such file, not a regular one, a damaged one, one that is too large, or arrays of other things
            than numbers, truth values and text.
    """
    with opened(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise unfit(path, f"more than {most:,} bytes", "a smaller file")
        try:
            return _arrays(path, file, most)
        except ArgumentError:
            raise
        except Exception as error:  # a damaged file can make zipfile, zlib and numpy raise almost anything
            raise unfit(path, f"a damaged file ({error})", "an NPZ file") from None


def _arrays(path: StrPath, file: io.BufferedReader, most: int) -> dict[str, np.ndarray[Any, Any]]:
    import numpy as np

    found: dict[str, np.ndarray[Any, Any]] = {}
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > most:
            raise unfit(path, f"arrays of more than {most:,} bytes", "smaller ones")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == member.filename or name in found:
                raise unfit(path, f"a member {member.filename!r}", "arrays, each with a name of its own")
            with archive.open(member) as data:
                version = np.lib.format.read_magic(data)
                header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                shape, _, dtype = header[version](data)
                if dtype.kind not in "biufcSU" or not dtype.itemsize or min(shape, default=0) < 0:
                    raise unfit(path, f"{name!r} of {dtype} and shape {shape}", "numbers, truth values or text")
                claimed, held = math.prod(shape) * dtype.itemsize, member.file_size - data.tell()
                if claimed != held:
                    raise unfit(path, f"{name!r} of {claimed:,} bytes by its header", f"{held:,}, as the file holds")
            with archive.open(member) as data:
                found[name] = np.lib.format.read_array(data, allow_pickle=False)
    return found
