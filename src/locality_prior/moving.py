"""The layer's equation if positions learn: P is computed anew at each step, and the gradient reaches the positions.

With y = (P∘W) x + b, V = P∘W and P_ij = r_i s(d_ij), d_ij = |p_i − p_j|::

    ∂L/∂d_ij = Σ_k (∂L/∂P_ik) (∂P_ik/∂d_ij),   ∂L/∂P_ik = (∂L/∂V_ik) W_ik,   ∂d_ij/∂p_i = (p_i − p_j) / d_ij

and 0 between two units at the same place. Distances and P are computed for a block of rows at a time, in the forward
and again in the backward pass, so that no matrices are held but those that a layer needs whose positions do not learn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from locality_prior._memory import empty
from locality_prior.cost import Cost
from locality_prior.functional import Workspace, not_autocast, ordinary, ordinary_backward
from locality_prior.geometry.learned import Metric, between, between_blocks
from locality_prior.prior import rescaled

#: How many entries of a matrix are handled at once: on a CPU, as many as its caches hold.
BLOCK, BLOCK_ELSEWHERE = 1 << 17, 1 << 24


@dataclass(frozen=True, eq=False)
class Moving:
    """P between units whose positions learn.

    Attributes:
        target: coordinates of the target units, (out, d), which may need a gradient.
        source: coordinates of the source units, (in, d), of the same dtype, on the same device.
        metric: of the points.
        cost: a cost that does not end.
        rescale: whether each row is multiplied by r_i = K / Σ_j s(d_ij).
    """

    target: Tensor
    source: Tensor
    metric: str | Metric
    cost: Cost
    rescale: bool

    def distances(self) -> Tensor:
        """Lengths of the wires, (out, in); differentiable."""
        return between(self.target, self.source, self.metric)

    def prior(self) -> Tensor:
        """P, (out, in); differentiable."""
        return self.of(self.distances())

    def of(self, d: Tensor) -> Tensor:
        """Whole rows of P from whole rows of the distances."""
        s = self.cost.signal_of(d)
        return rescaled(s) if self.rescale else s

    def row_scale(self) -> Tensor | None:
        """r_i, (out,); differentiable; None without rescaling."""
        if not self.rescale:
            return None
        s = self.cost.signal_of(self.distances())
        return s.shape[1] / s.sum(1)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Distances for blocks of target units, (r, in), outside autograd."""
        target, source = self.target.detach(), self.source.detach()
        columns = source.t().contiguous()
        block = BLOCK if target.device.type == "cpu" else BLOCK_ELSEWHERE
        step = max(1, block // len(source))
        for first in range(0, len(target), step):
            rows = slice(first, min(first + step, len(target)))
            whole = callable(self.metric)
            yield (
                rows,
                between(target[rows], source, self.metric)
                if whole
                else between_blocks(target[rows], columns, self.metric),
            )


def moving_linear(
    x: Tensor, weight: Tensor, moving: Moving, bias: Tensor | None = None, workspace: Workspace | None = None
) -> Tensor:
    """y = (P∘W) x + b, with a gradient for the positions; as :func:`~locality_prior.functional.locality_linear`."""
    if workspace is not None and not_autocast(x) and ordinary(x, weight) and workspace.lock.acquire(blocking=False):
        try:
            y: Tensor = _MovingLinear.apply(x, weight, bias, moving.target, moving.source, moving, workspace)
            return y
        finally:
            workspace.lock.release()
    return F.linear(x, weight * moving.prior().to(weight.dtype), bias)


def _fill(workspace: Workspace, weight: Tensor, moving: Moving) -> Tensor:
    """P∘W in the workspace's buffer, under a new stamp. The lock must be held."""
    workspace.stamp += 1
    product = workspace.buffer("product", weight.shape, weight)
    for rows, d in moving.blocks():
        torch.mul(weight[rows], moving.of(d).to(weight.dtype), out=product[rows])
    return product


class _MovingLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        source: Tensor,
        moving: Moving,
        workspace: Workspace,
    ) -> Tensor:
        product = _fill(workspace, weight, moving)
        need_x, need_weight, _, *need_places = ctx.needs_input_grad[:5]
        needs_weight = need_x or any(need_places)
        needs_x = need_weight or any(need_places)
        ctx.save_for_backward(x if needs_x else None, weight if needs_weight else None, target, source)
        ctx.how, ctx.workspace, ctx.stamp = (moving.metric, moving.cost, moving.rescale), workspace, workspace.stamp
        ctx.x_shape = x.shape
        return F.linear(x, product, bias).data  # autograd must not treat it as a view: ReLU(inplace=True) may change it

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight, target, source = ctx.saved_tensors
        moving = Moving(target, source, *ctx.how)
        need_x, need_weight, need_bias, *places = ctx.needs_input_grad[:5]
        grad_rows = grad.reshape(-1, grad.shape[-1])
        rows = None if x is None else x.reshape(-1, x.shape[-1])
        found: list[Tensor | None] = [None, None]
        grad_x = grad_weight = None
        if not ordinary_backward(grad):  # then no buffer may be used, and nothing changed in place
            again = torch.is_grad_enabled()
            with torch.enable_grad():
                # aliases, since both sides may be the same units, whose two gradients are added afterwards
                sides = target.view_as(target), source.view_as(source)
                p = Moving(*sides, *ctx.how).prior()
            if need_x:
                grad_x = grad_rows @ (weight * p.to(weight.dtype))
            if rows is not None:
                grad_product = grad_rows.t() @ rows
                grad_weight = grad_product * p.to(grad.dtype) if need_weight else None
                if any(places):
                    wanted = [at for at, need in zip(sides, places, strict=True) if need]
                    grad_p = (grad_product * weight).to(p.dtype)
                    got = iter(torch.autograd.grad(p, wanted, grad_p, create_graph=again, materialize_grads=True))
                    found = [next(got) if need else None for need in places]
        else:
            if need_x:
                with ctx.workspace.lock:
                    if ctx.stamp == ctx.workspace.stamp:
                        product = ctx.workspace.buffer("product", weight.shape, weight)
                    else:
                        product = _fill(ctx.workspace, weight, moving)
                        ctx.stamp = ctx.workspace.stamp
                    grad_x = grad_rows @ product
            if rows is not None:
                grad_weight = torch.mm(grad_rows.t(), rows, out=empty((grad_rows.shape[1], rows.shape[1]), rows))
                found = _pull(moving, grad_weight, weight, places)
                grad_weight = grad_weight if need_weight else None
        if grad_x is not None:
            grad_x = grad_x.reshape(ctx.x_shape)
        return grad_x, grad_weight, grad_rows.sum(0) if need_bias else None, *found, None, None


def _pull(moving: Moving, grad: Tensor, weight: Tensor | None, places: list[bool]) -> list[Tensor | None]:
    """The gradients of the target's and the source's positions from that of V, which becomes that of W in place."""
    if not any(places):
        for rows, d in moving.blocks():
            grad[rows] *= moving.of(d).to(grad.dtype)
        return [None, None]
    assert weight is not None
    # coordinates lie along rows, over which sums are quick
    target, source = (at.detach().t().contiguous() for at in (moving.target, moving.source))
    pulls = torch.zeros_like(target), torch.zeros_like(source)
    for rows, d in moving.blocks():
        with torch.enable_grad():
            p = moving.of(d.requires_grad_())
        grad_p = (grad[rows] * weight[rows]).to(d.dtype)
        (force,) = torch.autograd.grad(p, d, grad_p, materialize_grads=True)
        grad[rows] *= p.detach().to(grad.dtype)
        d = d.detach()
        if moving.metric == "euclidean":
            force = force / d
            if d.device.type != "cpu" or float(d.min()) == 0:  # on a GPU the question alone would make it wait
                force.masked_fill_(d == 0, 0)
            for k, here in enumerate(target[:, rows]):
                torch.sub(here[:, None], source[k], out=d).mul_(force)
                pulls[0][k, rows] = d.sum(1)
                pulls[1][k] -= d.sum(0)
        else:
            with torch.enable_grad():
                here, there = (at.detach().requires_grad_() for at in (moving.target[rows], moving.source))
                lengths = between(here, there, moving.metric)
            each = torch.autograd.grad(lengths, (here, there), force, materialize_grads=True)
            pulls[0][:, rows] = each[0].t()
            pulls[1].add_(each[1].t())
    return [pull.t().contiguous() if need else None for pull, need in zip(pulls, places, strict=True)]
