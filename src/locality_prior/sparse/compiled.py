"""The *wires* way in C: the quicker one on a CPU, where there is a compiler."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from locality_prior._compiled import call, serves
from locality_prior.functional import Workspace
from locality_prior.prior import Wires
from locality_prior.sparse.rows import transposed

#: How many vectors wide a panel may be, and the bytes of a vector.
WIDTHS, VECTOR = (1, 2, 4, 8), 32


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
        return max(*wires.shape, wires.count) < 2**31 and serves(dtype, device)

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
    lanes, units = VECTOR // x.element_size(), x.shape[1]
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
            call("pack", part.dtype, units, n, width, part.stride(0), part, panels[-1])
    return panels


def _by_unit(panels: list[Tensor], n: int) -> Tensor:
    """(n, units), laid out unit by unit, of panels."""
    return (panels[0] if len(panels) == 1 else torch.cat(panels, 1))[:, :n].t()


def _by_example(panels: list[Tensor], n: int) -> Tensor:
    """(n, units), laid out example by example, of panels."""
    x = panels[0].new_empty(n, len(panels[0]))
    for part, panel in zip(torch.split(x, panels[0].shape[1]), panels, strict=True):
        call("unpack", panel.dtype, len(panel), len(part), panel.shape[1], part.stride(0), panel, part)
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


def _call(panel: Tensor, name: str, rows: int, *arguments: Tensor | int | None) -> None:
    """The C function of that name for panels as wide as ``panel``."""
    width = panel.shape[1] * panel.element_size() // VECTOR
    call(f"{name}_{width}", panel.dtype, rows, *arguments)
