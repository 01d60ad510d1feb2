"""The *wires* way: compressed sparse rows, through torch.sparse."""

from __future__ import annotations

import warnings
from functools import cached_property

import torch
from torch import Tensor

from locality_prior.prior import Wires


class Rows:
    """Products with the matrix of the wires as compressed sparse rows.

    Args:
        wires: which pairs have a wire.
        device: where to compute.
    """

    #: What torch's sparse kernels serve.
    dtypes = (torch.float32, torch.float64)

    def __init__(self, wires: Wires, device: torch.device) -> None:
        small = torch.int32 if max(*wires.shape, wires.count) < 2**31 else torch.int64
        self.shape, self.count = wires.shape, wires.count
        self.ends, self.sources = wires.ends.to(device, small), wires.sources.to(device, small)

    @cached_property
    def _transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ends and sources of the transposed matrix, and where its values are among the wires."""
        out, features = self.shape
        order = torch.argsort(self.sources, stable=True)
        rows = torch.arange(out, device=order.device, dtype=self.ends.dtype).repeat_interleave(self.ends.diff())
        counts = torch.bincount(self.sources, minlength=features)
        ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(self.ends.dtype)
        return ends, rows[order], order

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Σ_j V_ij x_j, (n, out), of x (n, in) and V (wires,); and what the backward uses again."""
        return (_matrix(self.ends, self.sources, v, self.shape) @ x.t().contiguous()).t(), (x, v)

    def backward(
        self, grad: Tensor, kept: tuple[Tensor, ...], need_x: bool, need_v: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of x, (n, in), and of V, (wires,), where needed, from that of y, (n, out)."""
        (x, v), grad_x, grad_v, g = kept, None, None, grad.t().contiguous()
        if need_x:
            ends, sources, order = self._transposed
            grad_x = (_matrix(ends, sources, v.index_select(0, order), self.shape[::-1]) @ g).t()
        if need_v:
            zero = _matrix(self.ends, self.sources, g.new_zeros(self.count), self.shape)
            grad_v = torch.sparse.sampled_addmm(zero, g, x, beta=0.0).values()
        return grad_x, grad_v


def _matrix(ends: Tensor, sources: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(ends, sources, values, shape, check_invariants=False)
