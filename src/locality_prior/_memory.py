"""Large tensors on large pages: on a CPU, to touch new memory 4 KiB at a time can cost more than to fill it."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

#: Bytes from which it is worth a system call.
LARGE = 1 << 22


def empty(shape: Sequence[int], like: Tensor) -> Tensor:
    """An uninitialised tensor of the dtype and device of ``like``; Linux is asked to give it large pages."""
    tensor = torch.empty(shape, dtype=like.dtype, device=like.device)
    if tensor.device.type == "cpu" and tensor.nbytes >= LARGE and (advise := _advise()) is not None:
        first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        size = (tensor.data_ptr() + tensor.nbytes - first) // mmap.PAGESIZE * mmap.PAGESIZE
        advise(ctypes.c_void_p(first), ctypes.c_size_t(size), mmap.MADV_HUGEPAGE)  # no more than advice: it may fail
    return tensor


@lru_cache
def _advise() -> Any:
    return getattr(ctypes.CDLL(None), "madvise", None) if sys.platform == "linux" else None
