"""Where tensors are made: on the CPU whatever the default device is, and on large pages."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

#: The size in bytes from which a tensor is given large pages: for smaller ones the system call costs more.
LARGE = 1 << 22


@contextmanager
def aside() -> Iterator[None]:
    """Make the library's own tensors on the CPU, as ordinary tensors.

    Inside the block neither a default device of the caller's nor inference mode has any effect, so that what is made
    here can be kept, and used for training later.
    """
    with torch.inference_mode(False), torch.device("cpu"):
        yield


def empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """An uninitialised tensor of the dtype and device of ``like``.

    On a CPU, touching new memory 4 KiB at a time can cost more than filling it, so Linux is asked for large pages.
    """
    tensor = torch.empty(shape, dtype=like.dtype, device=like.device)
    if tensor.device.type == "cpu" and tensor.nbytes >= LARGE and (advise := _advise()) is not None:
        first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        size = (tensor.data_ptr() + tensor.nbytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
        # this is only a request: nothing depends on whether it succeeds
        advise(ctypes.c_void_p(first), ctypes.c_size_t(size), mmap.MADV_HUGEPAGE)
    return tensor


@lru_cache
def _advise() -> Any:
    return getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None
