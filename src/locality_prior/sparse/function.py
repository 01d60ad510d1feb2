"""The equation on tensors where few pairs have a wire, with its backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from locality_prior._check import wrong
from locality_prior.functional import Workspace, autocasted, ordinary, ordinary_backward


class Kernel(Protocol):
    """A way to multiply with V = P∘W, (out, in), where W and P come as (wires,).

    A result may lie in memory in either way, example by example or unit by unit.
    """

    def forward(
        self, x: Tensor, weight: Tensor, prior: Tensor, bias: Tensor | None, space: Workspace, training: bool
    ) -> tuple[Tensor, Any]:
        """V x + b, (n, out), and what the backward pass uses again, if ``training``; see :func:`sparse_linear`."""

    def backward(
        self, grad: Tensor, x: Tensor | None, weight: Tensor | None, prior: Tensor, kept: Any, space: Workspace
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of x, (n, in), where W is given, and of W, (wires,), where x is, from that of y, (n, out)."""


def sparse_linear(
    x: Tensor,
    weight: Tensor,
    prior: Tensor,
    bias: Tensor | None,
    kernel: Callable[[Tensor], Kernel],
    targets: Tensor,
    sources: Tensor,
    out_features: int,
    workspace: Workspace,
) -> Tensor:
    """y = (P∘W) x + b over the wires.

    Args:
        x: (…, in).
        weight: W on the wires, (wires,), in row-major order.
        prior: P on the wires, (wires,); it gets no gradient here.
        bias: b, (out,).
        kernel: takes an input (n, in) and returns the way to multiply with it in ordinary eager code. In compiled,
            traced or transformed code, and in a backward pass that is differentiated, the plain formula runs, which
            gathers and sums wire by wire.
        targets, sources: the units at the two ends of each wire, (wires,).
        out_features: number of target units.
        workspace: buffers that are used again at every step. A second thread that works at the same time gets others.

    Returns:
        (…, out), in memory as the input is: example by example, or unit by unit (the transpose of a contiguous
        tensor) where a batch of vectors comes in that way. So does the gradient of the input.

    Raises:
        ValueError: a weight or a bias of another size, dtype or device than the input and the wires ask for.
    """
    x, weight, prior, bias = autocasted(x, weight, prior, bias)
    check_like(x, weight=(weight, prior.shape), bias=(bias, (out_features,)))
    rows = x.reshape(-1, x.shape[-1])
    if ordinary(rows, weight) and len(rows):
        y: Tensor = _SparseLinear.apply(
            rows, weight, bias, prior, kernel(rows), targets, sources, workspace, torch.is_grad_enabled()
        )
    else:
        y = _plain(rows, weight * prior, targets, sources, out_features)
        y = y if bias is None else y + bias
    return y.reshape(*x.shape[:-1], out_features)


def check_like(x: Tensor, **given: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """Raise ValueError where a tensor has another shape, or not the dtype and device of ``x``: kernels rely on them."""
    for name, (value, shape) in given.items():
        if value is not None and (value.shape != shape or value.dtype != x.dtype or value.device != x.device):
            found = f"{tuple(value.shape)}, {value.dtype} on {value.device}"
            raise wrong(name, found, f"{tuple(shape)}, {x.dtype} on {x.device}, like the input")


def by_unit(x: Tensor) -> bool:
    """Whether a batch (n, units) lies in memory unit by unit."""
    return x.stride(0) == 1 and not x.is_contiguous()


def _laid_out(x: Tensor, by_unit: bool) -> Tensor:
    """A batch in the layout that is asked for; torch's normalisation layers are slow on one that they do not expect."""
    return x.t().contiguous().t() if by_unit else x.contiguous()


def _plain(x: Tensor, v: Tensor, targets: Tensor, sources: Tensor, out_features: int) -> Tensor:
    """Σ_j V_ij x_j with one term for each wire: slow, but it works under every transformation."""
    terms = x.index_select(1, sources) * v
    return x.new_zeros(x.shape[0], out_features).index_add(1, targets, terms)


class _SparseLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        prior: Tensor,
        kernel: Kernel,
        targets: Tensor,
        sources: Tensor,
        workspace: Workspace,
        grad_enabled: bool,
    ) -> Tensor:
        need_x, need_weight, *_ = ctx.needs_input_grad
        # as nn.Linear does: W is saved, and must not change, only if the input needs a gradient
        ctx.save_for_backward(x if need_weight else None, weight if need_x else None)
        ctx.prior, ctx.kernel, ctx.ends, ctx.in_features = prior, kernel, (targets, sources), x.shape[1]
        with workspace.held() as ctx.workspace:
            training = grad_enabled and any(ctx.needs_input_grad[:3])
            y, ctx.kept = kernel.forward(x, weight, prior, bias, ctx.workspace, training)
            ctx.by_unit = by_unit(x)
            # autograd must not take it for a view, so that ReLU(inplace=True) may change it
            return _laid_out(y, ctx.by_unit).data

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors  # raises where one of them has changed since
        need_x, need_weight, *_ = ctx.needs_input_grad
        grad_x = grad_weight = None
        if ordinary_backward(grad):
            with ctx.workspace.lock:
                grad_x, grad_weight = ctx.kernel.backward(
                    grad, x if need_weight else None, weight if need_x else None, ctx.prior, ctx.kept, ctx.workspace
                )
                grad_x = None if grad_x is None else _laid_out(grad_x, ctx.by_unit)
        else:
            targets, sources = ctx.ends
            if need_x:
                grad_x = _plain(grad, weight * ctx.prior, sources, targets, ctx.in_features)
            if need_weight:
                grad_weight = (grad.index_select(1, targets) * x.index_select(1, sources)).sum(0) * ctx.prior
        grad_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias, *[None] * 6
