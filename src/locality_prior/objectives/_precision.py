"""The precision in which objectives are computed: float32 where the model has less, whatever autocast does."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from locality_prior.functional import not_autocast


def precise(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 where it is."""
    return x if x.dtype == torch.float64 else x.float()


def not_half(x: Tensor) -> AbstractContextManager[Any]:
    """A block in which autocast brings nothing to half precision."""
    return nullcontext() if not_autocast(x) else torch.autocast(x.device.type, enabled=False)
