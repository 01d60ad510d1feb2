"""The *wires* way in C, compiled when it is first needed: the quicker one on a CPU, where there is a compiler."""

from __future__ import annotations

import ctypes
import os
import shlex
import subprocess
import tempfile
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from locality_prior.functional import Workspace
from locality_prior.prior import Wires
from locality_prior.sparse.rows import transposed

#: C's names of the dtypes, and how many of each a vector holds.
REALS = {torch.float32: ("float", 8), torch.float64: ("double", 4)}
#: How many vectors wide a panel may be.
WIDTHS = (1, 2, 4, 8)


@lru_cache
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The products of ``wires.c`` in ``dtype``; None without a C compiler that does as asked.

    It is compiled for this very processor (half a second) and belongs to this process: nothing is left on disk that
    another machine could find. The compiler is ``$CC``, else ``cc``; ``CC=false`` does without.
    """
    source = resources.files("locality_prior.sparse").joinpath("wires.c").read_text(encoding="utf-8")
    compiler = shlex.split(os.environ.get("CC") or "cc")
    with tempfile.TemporaryDirectory() as folder:
        made, linked = Path(folder, "wires.o"), Path(folder, "wires.so")
        flags = ["-O3", "-march=native", "-fopenmp", "-fPIC", f"-DREAL={REALS[dtype][0]}", "-x", "c", "-c", "-"]
        try:
            subprocess.run([*compiler, *flags, "-o", made], input=source, text=True, capture_output=True, check=True)
            # not linked with -fopenmp: torch's own threads serve, a second set of them would fight for the cores
            subprocess.run([*compiler, "-shared", made, "-o", linked], capture_output=True, check=True)
            return ctypes.CDLL(str(linked))
        except (OSError, subprocess.CalledProcessError):
            return None


class CompiledRows:
    """Products with the matrix of the wires as compressed sparse rows, in C, panel by panel of the batch.

    Args:
        wires: which pairs have a wire.
    """

    def __init__(self, wires: Wires) -> None:
        self.shape, self.count = wires.shape, wires.count
        self.ends, self.sources = wires.ends.contiguous(), wires.sources.to(torch.int32).contiguous()

    @staticmethod
    def serves(wires: Wires, dtype: torch.dtype, device: torch.device) -> bool:
        """Whether it can: on a CPU, in float32 or float64, with a compiler, and numbers that 32 bits hold."""
        held = max(*wires.shape, wires.count) < 2**31
        return device.type == "cpu" and dtype in REALS and held and library(dtype) is not None

    @cached_property
    def _transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        ends, sources, order = transposed(self.shape, self.ends, self.sources)
        return ends, sources.to(torch.int32), order.to(torch.int32)

    def forward(
        self, x: Tensor, v: Tensor, bias: Tensor | None, space: Workspace, training: bool
    ) -> tuple[Tensor, Any]:
        """V x + b, (n, out), of x (n, in), V (wires,) and b (out,)."""
        panels = _pack(x)
        y = [_product(panel, v, bias, self.shape[0], self.ends, self.sources) for panel in panels]
        return _by_unit(y, len(x)), (panels, _by_unit if x.stride(0) == 1 else _by_example) if training else None

    def backward(
        self, grad: Tensor, x: Tensor | None, v: Tensor | None, kept: Any, space: Workspace
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of x, (n, in), and of V, (wires,), from that of y, (n, out)."""
        grad_x = grad_v = None
        seen, as_given = kept
        panels = _pack(grad)
        if v is not None:
            ends, sources, order = self._transposed
            back = [_product(panel, v, None, self.shape[1], ends, sources, order) for panel in panels]
            grad_x = as_given(back, len(grad))
        if x is not None:
            grad_v = grad.new_empty(self.count)
            for k, (to, read) in enumerate(zip(panels, seen, strict=True)):
                _call(to, "gradient", self.shape[0], self.ends, self.sources, k, to, read, grad_v)
        return grad_x, grad_v


def _pack(x: Tensor) -> list[Tensor]:
    """x (n, units) as panels (units, width), the last one filled up with zeros; x itself where it is laid out so."""
    lanes, units = REALS[x.dtype][1], x.shape[1]
    if x.stride(0) != 1 and not x.is_contiguous():
        x = x.contiguous()
    panels = []
    for part in torch.split(x, lanes * WIDTHS[-1]):
        n = len(part)
        width = next(lanes * w for w in WIDTHS if lanes * w >= n)
        if part.stride() == (1, width) and n == width:
            panels.append(part.t())
        elif part.stride(0) == 1:
            panels.append(torch.nn.functional.pad(part.t(), (0, width - n)).contiguous())
        else:
            panels.append(part.new_empty(units, width))
            _call(part, "pack", units, n, width, part.stride(0), part, panels[-1])
    return panels


def _by_unit(panels: list[Tensor], n: int) -> Tensor:
    """(n, units), laid out unit by unit, of panels."""
    return (panels[0] if len(panels) == 1 else torch.cat(panels, 1))[:, :n].t()


def _by_example(panels: list[Tensor], n: int) -> Tensor:
    """(n, units), laid out example by example, of panels."""
    x = panels[0].new_empty(n, len(panels[0]))
    for part, panel in zip(torch.split(x, panels[0].shape[1]), panels, strict=True):
        _call(panel, "unpack", len(panel), len(part), panel.shape[1], part.stride(0), panel, part)
    return x


def _product(
    panel: Tensor,
    v: Tensor,
    bias: Tensor | None,
    rows: int,
    ends: Tensor,
    sources: Tensor,
    order: Tensor | None = None,
) -> Tensor:
    y = panel.new_empty(rows, panel.shape[1])
    v, bias = v.contiguous(), None if bias is None else bias.contiguous()
    _call(panel, "product", rows, ends, sources, order, v, bias, panel, y)
    return y


def _call(like: Tensor, name: str, rows: int, *arguments: Tensor | int | None) -> None:
    """The C function ``name`` for tensors of the dtype of ``like``, and of its width where there is one for each."""
    if name in ("product", "gradient"):
        name += f"_{like.shape[1] // REALS[like.dtype][1]}"
    pointers = [ctypes.c_void_p(a.data_ptr()) if isinstance(a, Tensor) else a for a in arguments]
    numbers = [ctypes.c_int64(a) if isinstance(a, int) else a for a in (rows, torch.get_num_threads(), *pointers)]
    getattr(library(like.dtype), name)(*numbers)
