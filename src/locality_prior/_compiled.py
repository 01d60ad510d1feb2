"""Kernels in C for the CPU, compiled when they are first needed.

Without a compiler torch does the same more slowly, and a warning says so once.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import tempfile
import warnings
from functools import cache
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

#: What C calls the dtypes for which there are kernels.
REALS = {torch.float32: "float", torch.float64: "double"}


@cache
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The functions of ``kernels.c`` in ``dtype``; None where they cannot be compiled.

    They are compiled for this machine's processor, in less than a second, and belong to this process: nothing is left
    on disk that another machine could find. The compiler is ``$CC``, or ``cc`` if that is not set.
    """
    source = resources.files("locality_prior").joinpath("kernels.c").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        made, linked = Path(folder, "kernels.o"), Path(folder, "kernels.so")
        flags = ["-O3", "-march=native", "-fopenmp", "-fPIC", f"-DREAL={REALS[dtype]}", "-x", "c", "-c", "-"]
        try:
            compiler = shlex.split(os.environ.get("CC") or "cc")
            subprocess.run([*compiler, *flags, "-o", made], input=source.encode(), capture_output=True, check=True)
            # without -fopenmp, so that torch's own threads are used: a second set would compete for the cores
            subprocess.run([*compiler, "-shared", made, "-o", linked], capture_output=True, check=True)
            return ctypes.CDLL(str(linked))
        except (OSError, ValueError, subprocess.CalledProcessError):
            _warn()
            return None


@cache
def _warn() -> None:
    """Say once that there are no kernels."""
    warnings.warn(
        "no C compiler could be run, so sparse layers and large dense ones compute in torch alone, which can take "
        "several times as long on a CPU: install gcc or clang, or set CC to a compiler; to silence this, "
        'warnings.filterwarnings("ignore", message="no C compiler")',
        RuntimeWarning,
        stacklevel=3,
    )


def serves(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether there are kernels for ``dtype`` on ``device``, and a compiler to make them with."""
    return device.type == "cpu" and dtype in REALS and library(dtype) is not None


def call(name: str, dtype: torch.dtype, rows: int, *arguments: Tensor | int | None) -> None:
    """Call the C function ``name`` on all threads. Tensors are passed as pointers, and must be contiguous."""
    getattr(library(dtype), name)(*map(_to_c, (rows, torch.get_num_threads(), *arguments)))


def _to_c(value: Tensor | int | None) -> ctypes.c_void_p | ctypes.c_int64:
    if isinstance(value, int):
        return ctypes.c_int64(value)
    return ctypes.c_void_p(None if value is None else value.data_ptr())
