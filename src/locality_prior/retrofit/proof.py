"""Compare a model's outputs for an example before and after a change."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from locality_prior._check import wrong

#: How much outputs of equal functions may differ by rounding, relative to the largest output; 1e-3 in other dtypes.
APART = {torch.float16: 2e-2, torch.bfloat16: 1e-1}


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, with random numbers that are the same each time; restore both afterwards."""
    modes = {module: module.training for module in model.modules()}
    devices = {p.device for p in model.parameters() if p.is_cuda}
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        for module in modes:
            module.training = False  # eval() may be overridden to do more than this
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def outputs(model: nn.Module, example: Any) -> list[Tensor]:
    """Every floating-point tensor in the model's output, in evaluation mode."""
    given = copy.deepcopy(example)  # a model may change its input in place
    with torch.no_grad(), _evaluated(model):
        if isinstance(given, Mapping):
            output = model(**given)
        else:
            several = isinstance(given, (tuple, list)) and not isinstance(given, PackedSequence)
            output = model(*given) if several else model(given)
    found = list(_tensors(output))
    if not found:
        raise wrong(
            "example", f"an output of type {type(output).__name__}", "an input for which the model gives finite numbers"
        )
    return found


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point() and output.isfinite().any():
            yield output
    elif isinstance(output, Mapping):
        for one in output.values():
            yield from _tensors(one)
    elif isinstance(output, (tuple, list)):
        for one in output:
            yield from _tensors(one)


def apart(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest difference, relative to the largest value of its tensor; inf where shapes or infinities differ."""
    if [x.shape for x in a] != [y.shape for y in b]:
        return math.inf
    most = 0.0
    for x, y in zip(a, b, strict=True):
        there = x.isfinite()
        if not torch.equal(there, y.isfinite()):
            return math.inf
        largest = float(x[there].abs().max())
        most = max(most, float((x[there] - y[there]).abs().max()) / max(largest, 1e-30))
    return most


def tolerance(outputs: list[Tensor]) -> float:
    """How far :func:`apart` the outputs of equal functions may be."""
    return max(APART.get(x.dtype, 1e-3) for x in outputs)
