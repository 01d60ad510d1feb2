"""Networks for studies in tests, which name them by this file's path: one pauses, one dies, and one fails."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from tiny import Mlp
from torch import Tensor, nn

#: This file, as the place of a word: f"{HERE}:slow".
HERE = str(Path(__file__).resolve())


class Odd(Exception):
    """An error that pickle cannot make again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"[red]{one}[/x]\nand {two}")


class _Does(nn.Module):
    """Call ``what`` in every forward pass of training."""

    def __init__(self, what: Callable[[], object]) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.what()
        return x


def _with(what: Callable[[], object]) -> Mlp:
    net = Mlp(4, 4)
    net.add_module("does", _Does(what))
    return net


def _fail() -> None:
    raise Odd(1, 2)


def slow(seconds: float = 0.05) -> nn.Module:
    """A network that pauses at every batch."""
    return _with(lambda: time.sleep(seconds))


def dying() -> nn.Module:
    """A network that ends its process."""
    return _with(lambda: os._exit(3))


def failing() -> nn.Module:
    """A network that cannot be trained."""
    return _with(_fail)
