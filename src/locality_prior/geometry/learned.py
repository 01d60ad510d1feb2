"""Distances through which a gradient reaches positions that learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: Distances (n, m) between coordinates (n, d) and (m, d).
Metric = Callable[[Tensor, Tensor], Tensor]


def precision(*tensors: Tensor) -> torch.dtype:
    """The dtype of distances that learn: the widest of the tensors', and at least float32."""
    widest = torch.float32
    for tensor in tensors:
        widest = torch.promote_types(widest, tensor.dtype)
    return widest


def between(target: Tensor, source: Tensor, metric: str | Metric) -> Tensor:
    """Distances (n, m) between coordinates (n, d) and (m, d), differentiable any number of times.

    Between two units at one place the gradient is 0, where that of √ would be NaN.
    """
    return metric(target, source) if callable(metric) else length(target.unsqueeze(-2) - source, metric)


def length(difference: Tensor, metric: str) -> Tensor:
    """Lengths (…) of differences of coordinates (…, d); differentiable, with the gradient 0 where they are 0."""
    if metric == "cityblock":
        return difference.abs().sum(-1)
    if metric == "chebyshev":
        return difference.abs().amax(-1)
    squared = difference.square().sum(-1)
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
