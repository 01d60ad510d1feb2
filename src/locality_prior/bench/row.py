"""What a row of the table is, and how its contestants are measured."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from locality_prior._timing import in_turns
from locality_prior.geometry import Grid

#: Milliseconds that the timed calls of one turn fill, and how many rounds there are.
TURN, ROUNDS = 25.0, 21
#: The sheet of the layers that are compared.
SHEET = Grid(64, 64)
#: The sheet for what would take long on a larger one.
SMALL = Grid(32, 32)


@dataclass(frozen=True)
class Row:
    """A figure: ours against a baseline, in milliseconds or MiB."""

    name: str
    ours: float
    baseline: float
    detail: str
    unit: Literal["ms", "mib"] = "ms"

    @property
    def ratio(self) -> float:
        """Baseline / ours: above 1 is faster, or smaller."""
        return self.baseline / self.ours

    def plain(self) -> dict[str, Any]:
        """The row as ``bench.json`` holds it."""
        return {
            "name": self.name,
            f"ours_{self.unit}": self.ours,
            f"baseline_{self.unit}": self.baseline,
            "ratio": self.ratio,
            "detail": self.detail,
        }


#: Takes the name of a row and a device, and measures the row there.
Measure = Callable[[str, torch.device], Row]
#: Makes an optimiser of parameters.
Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def compare(contestants: Mapping[str, Callable[[], object]], rounds: int | None = None) -> dict[str, float]:
    """Milliseconds per call of each contestant, over :data:`ROUNDS` rounds or fewer."""
    return in_turns(contestants, ROUNDS if rounds is None else min(rounds, ROUNDS), TURN)


def against(name: str, times: Mapping[str, float], detail: str) -> Row:
    """The row of two contestants, ``ours`` and ``baseline``."""
    return Row(name, times["ours"], times["baseline"], detail)


def step(network: nn.Module, x: Tensor, back: Callable[[Any], None], optimizer: Optimizer) -> Callable[[], None]:
    """Forward, backward and the optimiser; ``back`` takes the network's output and starts the backward pass."""
    steps = optimizer(network.parameters())

    def call() -> None:
        steps.zero_grad()
        x.grad = None
        back(network(x))
        steps.step()

    return call


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread inside the block, as in a study, whose cells each have a core."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


def peak() -> float:
    """The most memory that this process ever held, in GiB; NaN where the system does not tell."""
    try:  # Linux, whose getrusage tells of the process that started this one too
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**20
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return math.nan
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**30 if sys.platform == "darwin" else 2**20)
