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
        """Ends and sources of the transposed matrix, and where its values are among the wires."""
        out, features = self.shape
        order = torch.argsort(self.sources, stable=True)
        rows = torch.arange(out, device=order.device, dtype=self.ends.dtype).repeat_interleave(self.ends.diff())
        counts = torch.bincount(self.sources, minlength=features)
        return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(self.ends.dtype), rows[order], order

    def forward(
        self, x: Tensor, weight: Tensor, prior: Tensor, bias: Tensor | None, space: Workspace, training: bool
    ) -> tuple[Tensor, Any]:
        """V x + b, (n, out), of x (n, in), W and P (wires,) and b (out,)."""
        v = space.fill(weight, prior)
        y = (_matrix(self.ends, self.sources, v, self.shape) @ x.t().contiguous()).t()
        return y if bias is None else y.add_(bias), space.stamp

    def backward(
        self, grad: Tensor, x: Tensor | None, weight: Tensor | None, prior: Tensor, kept: Any, space: Workspace
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of x, (n, in), and of W, (wires,), from that of y, (n, out)."""
        grad_x, grad_weight, g = None, None, grad.t().contiguous()
        if weight is not None:
            v, _ = space.again(kept, weight, prior)
            ends, sources, order = self._transposed
            grad_x = (_matrix(ends, sources, v.index_select(0, order), self.shape[::-1]) @ g).t()
        if x is not None:
            zero = _matrix(self.ends, self.sources, g.new_zeros(self.count), self.shape)
            grad_weight = torch.sparse.sampled_addmm(zero, g, x, beta=0.0).values().mul_(prior)
        return grad_x, grad_weight


def _matrix(ends: Tensor, sources: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(ends, sources, values, shape, device=values.device, check_invariants=False)
