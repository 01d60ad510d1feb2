"""The equation on tensors where few pairs have a wire, with its backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from locality_prior.functional import not_autocast, ordinary, ordinary_backward


class Kernel(Protocol):
    """A way to multiply with the matrix V of the wires, (out, in), whose values come as (wires,)."""

    dtypes: tuple[torch.dtype, ...]

    def forward(self, x: Tensor, v: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(n, in), (wires,) → (n, out), and what the backward uses again."""

    def backward(
        self, grad: Tensor, kept: tuple[Tensor, ...], need_x: bool, need_v: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """(n, out) → (n, in), (wires,)."""


def sparse_linear(
    x: Tensor,
    weight: Tensor,
    prior: Tensor,
    bias: Tensor | None,
    kernel: Callable[[torch.dtype, torch.device], Kernel],
    targets: Tensor,
    sources: Tensor,
    out_features: int,
) -> Tensor:
    """y = (P∘W) x + b over the wires.

    Args:
        x: (…, in).
        weight: W on the wires, (wires,), in row-major order.
        prior: P on the wires, (wires,); it gets no gradient here.
        bias: b, (out,).
        kernel: gives the way to multiply in ordinary eager code; elsewhere (compiled, traced or transformed code, a
            backward that is differentiated) the plain formula runs, which gathers and sums wire by wire.
        targets, sources: the units at the two ends of each wire, (wires,).
        out_features: number of target units.

    Returns:
        (…, out).
    """
    if not not_autocast(x):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weight, prior = x.to(kind), weight.to(kind), prior.to(kind)
    rows = x.reshape(-1, x.shape[-1])
    if ordinary(rows, weight) and len(rows):
        way = kernel(rows.dtype, rows.device)
        y: Tensor = _SparseLinear.apply(rows, weight, prior, way, targets, sources, out_features)
    else:
        y = _plain(rows, weight * prior, targets, sources, out_features)
    if bias is not None:
        y = y + bias.to(y.dtype)
    return y.reshape(*x.shape[:-1], out_features)


def _plain(x: Tensor, v: Tensor, targets: Tensor, sources: Tensor, out_features: int) -> Tensor:
    """Σ_j V_ij x_j, a term a wire: slow, and open to every transformation."""
    terms = x.index_select(1, sources) * v
    return x.new_zeros(len(x), out_features).index_add(1, targets, terms)


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        prior: Tensor,
        kernel: Kernel,
        targets: Tensor,
        sources: Tensor,
        out_features: int,
    ) -> Tensor:
        need_x, need_weight, *_ = ctx.needs_input_grad
        # as nn.Linear does: W is held, and guarded against change, only if the input wants its gradient
        ctx.save_for_backward(x if need_weight else None, weight if need_x else None)
        y, kept = kernel.forward(x, weight * prior)
        ctx.kept = kept if need_x or need_weight else None
        ctx.prior, ctx.kernel, ctx.ends, ctx.in_features = prior, kernel, (targets, sources), x.shape[1]
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors  # raises where one was changed since
        need_x, need_weight, *_ = ctx.needs_input_grad
        grad_x = grad_weight = None
        if ordinary_backward(grad):
            grad_x, grad_weight = ctx.kernel.backward(grad, ctx.kept, need_x, need_weight)
            if grad_weight is not None:
                grad_weight.mul_(ctx.prior)
        else:
            targets, sources = ctx.ends
            if need_x:
                grad_x = _plain(grad, weight * ctx.prior, sources, targets, ctx.in_features)
            if need_weight:
                grad_weight = (grad.index_select(1, targets) * x.index_select(1, sources)).sum(0) * ctx.prior
        return grad_x, grad_weight, None, None, None, None, None
