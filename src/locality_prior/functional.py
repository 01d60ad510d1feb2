"""The layer's equation on tensors, y = (P∘W) x + b, with a backward that allocates no second K×K product."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from locality_prior._memory import empty
from locality_prior.prior import Table

__all__ = ["Workspace", "locality_linear"]

Values = Tensor | Table


class Workspace:
    """Buffers that a layer uses again at every step, because allocating them anew costs more than the arithmetic.

    ``stamp`` says which forward pass the buffers hold. A backward pass whose forward pass has been overwritten fills
    them again. The lock keeps two threads from using them at once. A copied or pickled layer has its own workspace.

    >>> import torch
    >>> from locality_prior.functional import Workspace, locality_linear
    >>> workspace, prior = Workspace(), torch.eye(2)
    >>> locality_linear(torch.ones(1, 2), torch.ones(2, 2), prior, workspace=workspace)
    tensor([[1., 1.]])
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stamp = 0
        self._buffers: dict[str, tuple[object, Tensor]] = {}

    def buffer(self, name: str, shape: Sequence[int], like: Tensor, zeros: bool = False) -> Tensor:
        """The buffer ``name`` with what was last written to it, or a new one (of zeros, if asked) for another shape."""
        # work queued on another CUDA stream may still read a buffer, so each stream has its own
        stream = torch.cuda.current_stream(like.device) if like.is_cuda else None
        key = (tuple(shape), like.dtype, like.device, stream)
        kept, buffer = self._buffers.get(name, (None, like))
        if kept != key:
            with torch.inference_mode(
                False
            ):  # the buffer may be used after an inference-mode block in which it was made
                buffer = empty(shape, like)
                buffer = buffer.zero_() if zeros else buffer
            self._buffers[name] = key, buffer
        return buffer

    def fill(self, weight: Tensor, prior: Values) -> Tensor:
        """P∘W in a buffer, under a new stamp. The lock must be held."""
        self.stamp += 1
        return multiply(weight, prior, out=self.buffer("product", weight.shape, weight))

    def again(self, stamp: int, weight: Tensor, prior: Values) -> tuple[Tensor, int]:
        """The product of ``stamp``, computed again if it has been overwritten. The lock must be held."""
        if stamp == self.stamp:
            return self.buffer("product", weight.shape, weight), stamp
        return self.fill(weight, prior), self.stamp

    @contextmanager
    def held(self) -> Iterator[Workspace]:
        """This workspace, locked inside the block, or a new one if another thread is using this one."""
        if not self.lock.acquire(blocking=False):
            yield Workspace()
            return
        try:
            yield self
        finally:
            self.lock.release()

    def __deepcopy__(self, memo: Any) -> Workspace:
        return Workspace()

    def __reduce__(self) -> tuple[type[Workspace], tuple[()]]:
        return Workspace, ()


def dense(prior: Values) -> Tensor:
    """P as a matrix (out, in)."""
    return prior.dense() if isinstance(prior, Table) else prior


def multiply(weight: Tensor, prior: Values, out: Tensor) -> Tensor:
    """P∘W into ``out``, (out, in), outside autograd."""
    if isinstance(prior, Table):
        return prior.multiply(weight, out)
    return torch.mul(weight, prior, out=out)


def locality_linear(
    x: Tensor, weight: Tensor, prior: Values, bias: Tensor | None = None, workspace: Workspace | None = None
) -> Tensor:
    """y = (P∘W) x + b.

    >>> import torch
    >>> from locality_prior.functional import locality_linear
    >>> x, weight = torch.ones(1, 2), torch.ones(2, 2)
    >>> locality_linear(x, weight, torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
    tensor([[1.5000, 1.5000]])

    Args:
        x: (…, in).
        weight: W, (out, in).
        prior: P, (out, in), a tensor or a table; it gets no gradient here.
        bias: b, (out,).
        workspace: where P∘W may be kept from step to step. The plain formula runs without one, and where a buffer
            cannot be used: in compiled, traced or transformed code, under autocast, and while another thread uses it.

    Returns:
        (…, out).
    """
    if workspace is not None and not_autocast(x) and ordinary(x, weight) and workspace.lock.acquire(blocking=False):
        try:
            y: Tensor = _LocalityLinear.apply(x, weight, bias, prior, workspace)
            return y
        finally:
            workspace.lock.release()
    return F.linear(x, weight * dense(prior), bias)


def not_autocast(x: Tensor) -> bool:
    """Whether autocast is off for the device of ``x``; there is none for the meta device."""
    return x.is_meta or not torch.is_autocast_enabled(x.device.type)


def autocasted(x: Tensor, *others: Tensor | None) -> tuple[Any, ...]:
    """``x`` and the other tensors in autocast's dtype where it is on, but float64 as it is."""
    if not_autocast(x) or x.dtype == torch.float64:
        return x, *others
    kind = torch.get_autocast_dtype(x.device.type)
    return tuple(None if one is None else one.to(kind) for one in (x, *others))


def ordinary(x: Tensor, weight: Tensor) -> bool:
    """Whether this call is ordinary eager code; only then can a backward pass of our own be used."""
    return not (
        x.is_meta
        or torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or type(weight) not in (Tensor, torch.nn.Parameter)
        or type(x) not in (Tensor, torch.nn.Parameter)
    )


def ordinary_backward(grad: Tensor) -> bool:
    """Whether a backward pass is neither differentiated nor batched by one of torch's two kinds of vmap."""
    batched = torch._C._functorch.is_legacy_batchedtensor(grad)
    without_memory = grad._is_zerotensor()
    return not (torch.is_grad_enabled() or torch._C._are_functorch_transforms_active() or batched or without_memory)


def gradients(
    formula: Callable[..., Tensor | tuple[Tensor, ...]],
    given: Sequence[Tensor | None],
    needed: Sequence[bool],
    grads: Sequence[Tensor],
) -> list[Tensor | None]:
    """Gradients of ``formula(*given)`` through torch's own operations, for a backward pass that is not an ordinary one.

    The formula gets an alias of each tensor. One of the tensors may depend on another, for example where a layer's
    output is its input again. Autograd follows that path itself, so it must not be counted here too.

    Args:
        formula: the function whose backward pass this is.
        given: what it takes.
        needed: which of these need a gradient.
        grads: gradients of what the function returns.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        aliases = [None if x is None else x.view_as(x) for x in given]
        wanted = [x for x, need in zip(aliases, needed, strict=True) if x is not None and need]
        made = formula(*aliases)
    found = iter(torch.autograd.grad(made, wanted, grads, create_graph=create_graph, allow_unused=True))
    return [next(found) if need else None for need in needed]


class _LocalityLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, prior: Values, workspace: Workspace
    ) -> Tensor:
        product = workspace.fill(weight, prior)
        need_x, need_weight, *_ = ctx.needs_input_grad
        # as nn.Linear does: W is saved, and must not change, only if the input needs a gradient
        ctx.save_for_backward(x if need_weight else None, weight if need_x else None)
        ctx.prior, ctx.workspace, ctx.stamp, ctx.x_shape = prior, workspace, workspace.stamp, x.shape
        return F.linear(x, product, bias).data  # autograd must not take it for a view: ReLU(inplace=True) may change it

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        plain = not ordinary_backward(grad)  # no buffer may be used and nothing changed in place
        grad_rows = grad.reshape(-1, grad.shape[-1])
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            if plain:
                grad_x = grad_rows @ (weight * dense(ctx.prior))
            else:
                with ctx.workspace.lock:
                    product, ctx.stamp = ctx.workspace.again(ctx.stamp, weight, ctx.prior)
                    grad_x = grad_rows @ product
            grad_x = grad_x.reshape(ctx.x_shape)
        if ctx.needs_input_grad[1]:
            rows = x.reshape(-1, x.shape[-1])
            if plain:
                grad_weight = (grad_rows.t() @ rows) * dense(ctx.prior)
            else:
                grad_weight = torch.mm(grad_rows.t(), rows, out=empty((grad_rows.shape[1], rows.shape[1]), rows))
                multiply(grad_weight, ctx.prior, out=grad_weight)
        if ctx.needs_input_grad[2]:
            grad_bias = grad_rows.sum(0)
        return grad_x, grad_weight, grad_bias, None, None
