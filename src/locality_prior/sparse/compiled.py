"""The *wires* way in C, which is the quicker one on a CPU. It needs a C compiler."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from locality_prior._compiled import call, serves
from locality_prior._memory import empty
from locality_prior.functional import Workspace
from locality_prior.prior import Wires
from locality_prior.sparse.function import by_unit

#: How many vectors wide a panel may be, and how many bytes a vector has.
WIDTHS, VECTOR = (1, 2, 4, 8), 32
#: How many rows a thread takes at a time (UNITS in kernels.c).
UNITS = 64


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
        """Whether this way works: on a CPU in float32 or float64, with a compiler and fewer than 2³¹ wires."""
        return max(*wires.shape, wires.count) < 2**31 and serves(dtype, device)

    @cached_property
    def _reach(self) -> tuple[Tensor, Tensor]:
        """The first and the last source of each ``UNITS`` rows."""
        chunks = torch.arange(self.shape[0], device="cpu") // UNITS
        found = []
        # sources increase within a row, so its two ends are enough; a row without wires has none
        for take, none, nearest in ((0, self.shape[1], "amin"), (-1, -1, "amax")):
            wired = self.ends.diff() > 0
            ends = torch.full((self.shape[0],), none, dtype=torch.int32, device="cpu")
            ends[wired] = self.sources[(self.ends[:-1] if take == 0 else self.ends[1:] - 1)[wired]]
            into = torch.full((int(chunks[-1]) + 1,), none, dtype=torch.int32, device="cpu")
            found.append(into.scatter_reduce_(0, chunks, ends, nearest))
        return found[0], found[1]

    def forward(
        self, x: Tensor, weight: Tensor, prior: Tensor, bias: Tensor | None, space: Workspace, training: bool
    ) -> tuple[Tensor, Any]:
        """V x + b, (n, out), of x (n, in), W and P (wires,) and b (out,)."""
        panels = _pack(x)
        given = (self.ends, self.sources, weight.contiguous(), prior, None if bias is None else bias.contiguous())
        y = [self._made("product", panel, self.shape[0], *given) for panel in panels]
        put = _by_unit if by_unit(x) else _by_example
        return put(y, len(x)), (panels, put) if training else None

    def backward(
        self, grad: Tensor, x: Tensor | None, weight: Tensor | None, prior: Tensor, kept: Any, space: Workspace
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of x, (n, in), and of W, (wires,), from that of y, (n, out)."""
        grad_x = grad_weight = None
        seen, put = kept
        panels = _pack(grad)
        if weight is not None:
            given = (self.shape[1], self.ends, self.sources, *self._reach, weight.contiguous(), prior)
            grad_x = put([self._made("back", panel, self.shape[1], *given) for panel in panels], len(grad))
        if x is not None:
            grad_weight = empty((self.count,), grad)
            for k, (to, read) in enumerate(zip(panels, seen, strict=True)):
                name = f"gradient_{_vectors(to)}"
                call(name, grad.dtype, self.shape[0], self.ends, self.sources, k, to, read, prior, grad_weight)
        return grad_x, grad_weight

    def _made(self, name: str, panel: Tensor, units: int, *given: Tensor | int | None) -> Tensor:
        """The panel (units, width) that a C function makes of another."""
        made = panel.new_empty(units, panel.shape[1])
        call(f"{name}_{_vectors(panel)}", panel.dtype, self.shape[0], *given, panel, made)
        return made


def _pack(x: Tensor) -> list[Tensor]:
    """x (n, units) as panels (units, width), the last one padded with zeros; a view of x where that is possible."""
    lanes, units = VECTOR // x.element_size(), x.shape[1]
    x = x.resolve_neg()
    if 1 not in x.stride():
        x = x.contiguous()
    panels = []
    for part in torch.split(x, lanes * WIDTHS[-1]):
        n = len(part)
        width = next(lanes * w for w in WIDTHS if lanes * w >= n)
        if part.stride() == (1, width) and n == width:
            panels.append(part.t())
        elif part.stride(1) != 1:
            panels.append(torch.nn.functional.pad(part.t(), (0, width - n)).contiguous())
        else:
            panels.append(part.new_empty(units, width))
            call("pack", part.dtype, units, n, width, part.stride(0), part, panels[-1])
    return panels


def _by_unit(panels: list[Tensor], n: int) -> Tensor:
    """Panels as (n, units), laid out unit by unit."""
    return (panels[0] if len(panels) == 1 else torch.cat(panels, 1))[:, :n].t()


def _by_example(panels: list[Tensor], n: int) -> Tensor:
    """Panels as (n, units), laid out example by example."""
    x = panels[0].new_empty(n, len(panels[0]))
    for part, panel in zip(torch.split(x, panels[0].shape[1]), panels, strict=True):
        call("unpack", panel.dtype, len(panel), len(part), panel.shape[1], part.stride(0), panel, part)
    return x


def _vectors(panel: Tensor) -> int:
    return panel.shape[1] * panel.element_size() // VECTOR
