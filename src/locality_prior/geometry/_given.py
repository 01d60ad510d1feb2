"""Arrays that a caller gives, as tensors of the library's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from locality_prior._check import Told, array_like, unmasked, wrong


def reals(name: str, value: Any, expected: str) -> Tensor:
    """``value`` as a new float64 tensor on the CPU.

    Raises:
        ValueError: no array of real numbers, one with masked values, or a tensor that requires a gradient.
    """
    unmasked(name, value)
    if isinstance(value, Tensor) and value.requires_grad:
        raise wrong(name, "a tensor that requires a gradient", f"{expected} that do not learn, such as {name}.detach()")
    if isinstance(value, Tensor) and (value.is_complex() or value.layout != torch.strided):
        raise wrong(name, f"{value.dtype}, {value.layout}", f"{expected}, dense and real")
    return _new(name, value, expected, "biuf", torch.float64)


def whole(name: str, value: Any, expected: str) -> Tensor:
    """``value`` as a new int64 tensor on the CPU.

    Raises:
        ValueError: no array of whole numbers, or one with masked values.
    """
    unmasked(name, value)
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.is_floating_point() or value.is_complex():
            raise wrong(name, f"{value.dtype}, {value.layout}", expected)
        if value.dtype == torch.bool:
            raise wrong(name, value.dtype, expected)
    return _new(name, value, expected, "iu", torch.int64)


def _new(name: str, value: Any, expected: str, kinds: str, dtype: torch.dtype) -> Tensor:
    """A tensor, or an array of one of numpy's ``kinds``, as a new tensor of ``dtype`` on the CPU."""
    try:
        if isinstance(value, Tensor):
            return value.detach().to("cpu", dtype, copy=True)
        if not array_like(value):
            raise wrong(name, type(value).__name__, expected)
        array = np.asarray(value)
        if array.dtype.kind not in kinds:
            raise wrong(name, f"{type(value).__name__} of {array.dtype}", expected)
        return torch.tensor(array.astype(np.float64 if dtype == torch.float64 else np.int64), device="cpu")
    except Told:
        raise
    except Exception:  # whatever an object does that is no array
        raise wrong(name, type(value).__name__, expected) from None
