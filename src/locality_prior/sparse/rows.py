"""The *wires* way: compressed sparse rows, through torch.sparse."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from locality_prior.functional import Workspace
from locality_prior.prior import Wires


class Rows:
    """Products with the matrix of the wires as compressed sparse rows.

    Args:
        wires: which pairs have a wire.
        device: where to compute.
    """

    def __init__(self, wires: Wires, device: torch.device) -> None:
        small = torch.int32 if max(*wires.shape, wires.count) < 2**31 else torch.int64
        self.shape, self.count = wires.shape, wires.count
        self.ends, self.sources = wires.ends.to(device, small), wires.sources.to(device, small)

    @staticmethod
    def serves(dtype: torch.dtype, device: torch.device) -> bool:
        """Whether torch has sparse products in ``dtype`` on ``device``."""
        mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        there = mkl if device.type == "cpu" else device.type == "cuda"
        return there and dtype in (torch.float32, torch.float64)

    @cached_property
    def _transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        return transposed(self.shape, self.ends, self.sources)

    def forward(
        self, x: Tensor, v: Tensor, bias: Tensor | None, space: Workspace, training: bool
    ) -> tuple[Tensor, Any]:
        """V x + b, (n, out), of x (n, in), V (wires,) and b (out,)."""
        y = (_matrix(self.ends, self.sources, v, self.shape) @ x.t().contiguous()).t()
        return y if bias is None else y.add_(bias), None

    def backward(
        self, grad: Tensor, x: Tensor | None, v: Tensor | None, kept: Any, space: Workspace
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of x, (n, in), and of V, (wires,), from that of y, (n, out)."""
        grad_x, grad_v, g = None, None, grad.t().contiguous()
        if v is not None:
            ends, sources, order = self._transposed
            grad_x = (_matrix(ends, sources, v.index_select(0, order), self.shape[::-1]) @ g).t()
        if x is not None:
            zero = _matrix(self.ends, self.sources, g.new_zeros(self.count), self.shape)
            grad_v = torch.sparse.sampled_addmm(zero, g, x, beta=0.0).values()
        return grad_x, grad_v


def transposed(shape: tuple[int, int], ends: Tensor, sources: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Ends and sources of the transposed matrix, and where its values are among the wires."""
    out, features = shape
    order = torch.argsort(sources, stable=True)
    rows = torch.arange(out, device=order.device, dtype=sources.dtype).repeat_interleave(ends.diff())
    counts = torch.bincount(sources, minlength=features)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(ends.dtype), rows[order], order


def _matrix(ends: Tensor, sources: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(ends, sources, values, shape, check_invariants=False)
