"""Kernels in C for the CPU, compiled when first needed; where there is no compiler, torch does the same more slowly."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import tempfile
from functools import lru_cache
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

#: C's names of the dtypes that are served.
REALS = {torch.float32: "float", torch.float64: "double"}


@lru_cache
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The functions of ``kernels.c`` in ``dtype``; None without a C compiler that does as asked.

    It is compiled for this very processor (half a second) and belongs to this process: nothing is left on disk that
    another machine could find. The compiler is ``$CC``, else ``cc``; ``CC=false`` does without.
    """
    source = resources.files("locality_prior").joinpath("kernels.c").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        made, linked = Path(folder, "kernels.o"), Path(folder, "kernels.so")
        flags = ["-O3", "-march=native", "-fopenmp", "-fPIC", f"-DREAL={REALS[dtype]}", "-x", "c", "-c", "-"]
        try:
            compiler = shlex.split(os.environ.get("CC") or "cc")
            subprocess.run([*compiler, *flags, "-o", made], input=source.encode(), capture_output=True, check=True)
            # not linked with -fopenmp: torch's own threads serve, a second set of them would fight for the cores
            subprocess.run([*compiler, "-shared", made, "-o", linked], capture_output=True, check=True)
            return ctypes.CDLL(str(linked))
        except (OSError, ValueError, subprocess.CalledProcessError):
            return None


def serves(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether there are kernels for ``dtype`` on ``device``, and a compiler to make them with."""
    return device.type == "cpu" and dtype in REALS and library(dtype) is not None


def call(name: str, dtype: torch.dtype, rows: int, *arguments: Tensor | int | None) -> None:
    """The C function ``name`` on all threads. Tensors go as pointers: the caller sees that they are contiguous."""
    getattr(library(dtype), name)(*map(_to_c, (rows, torch.get_num_threads(), *arguments)))


def _to_c(value: Tensor | int | None) -> ctypes.c_void_p | ctypes.c_int64:
    if isinstance(value, int):
        return ctypes.c_int64(value)
    return ctypes.c_void_p(None if value is None else value.data_ptr())
