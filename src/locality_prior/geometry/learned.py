"""Positions that learn: the parameter that holds them, and distances through which a gradient reaches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

#: Distances (n, m) between coordinates (n, d) and (m, d).
Metric = Callable[[Tensor, Tensor], Tensor]


class Positions(nn.Module):
    """Coordinates that learn, (n, d), as a module that layers share: ``xyz`` is the parameter.

    It is a module, and not a parameter of each layer, so that whatever torch does to the parameters of a model (moves
    or replaces them, copies the model, loads a checkpoint), the layers still share one.
    """

    def __init__(self, xyz: Tensor) -> None:
        super().__init__()
        self.xyz = nn.Parameter(xyz)

    def extra_repr(self) -> str:
        n, d = self.xyz.shape
        return f"{n} × {d}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def wide(tensor: Tensor) -> Tensor:
            # half precision is too coarse for places: a model in it keeps them as they are, where they are to be
            made = fn(tensor)
            return made if made.element_size() >= 4 else tensor.to(made.device)

        return super()._apply(wide, recurse)  # type: ignore[no-untyped-call, no-any-return]


def precision(*tensors: Tensor) -> torch.dtype:
    """The dtype of distances that learn: the widest of the tensors', and at least float32."""
    widest = torch.float32
    for tensor in tensors:
        widest = torch.promote_types(widest, tensor.dtype)
    return widest


def between(target: Tensor, source: Tensor, metric: str | Metric) -> Tensor:
    """Distances (n, m) between coordinates (n, d) and (m, d), as often differentiable as they are.

    Between two units at one place the gradient is 0, where that of √ would be NaN.
    """
    if callable(metric):
        return metric(target, source)
    apart = target.unsqueeze(-2) - source
    if metric == "cityblock":
        return apart.abs().sum(-1)
    if metric == "chebyshev":
        return apart.abs().amax(-1)
    squared = apart.square().sum(-1)
    there = squared > 0
    return torch.where(there, torch.where(there, squared, 1.0).sqrt(), 0.0)


def between_blocks(target: Tensor, columns: Tensor, metric: Any) -> Tensor:
    """The same for a block of target units (r, d) and all sources (d, m), quickly and outside autograd."""
    each = torch.sub(target[:, :1], columns[0])
    total = each * each if metric == "euclidean" else each.abs()
    for k in range(1, len(columns)):
        torch.sub(target[:, k : k + 1], columns[k], out=each)
        if metric == "euclidean":
            total.addcmul_(each, each)
        elif metric == "cityblock":
            total.add_(each.abs_())
        else:
            torch.maximum(total, each.abs_(), out=total)
    return total.sqrt_() if metric == "euclidean" else total
