"""Times of several contestants, measured in turns so that a slow moment of the machine hits all; and the cores."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Mapping


def in_turns(contestants: Mapping[str, Callable[[], object]], rounds: int, turn: float) -> dict[str, float]:
    """Milliseconds per call of each contestant: the median over ``rounds`` rounds, each begun by another contestant.

    A turn is one call to warm up, followed by as many timed calls as fill ``turn`` milliseconds.
    """
    calls: dict[str, int] = {}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for name, call in contestants.items():
        call()
        calls[name] = max(1, math.ceil(turn / max(_timed(call, 1), 1e-3)))
    names = list(contestants)
    for k in range(rounds):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            contestants[name]()
            times[name].append(_timed(contestants[name], calls[name]))
    return {name: statistics.median(found) for name, found in times.items()}


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _timed(call: Callable[[], object], times: int) -> float:
    """Milliseconds per call."""
    _wait_for_gpu()
    start = time.perf_counter()
    for _ in range(times):
        call()
    _wait_for_gpu()
    return 1000 * (time.perf_counter() - start) / times


def _wait_for_gpu() -> None:
    import torch  # here: a command line that counts cores does not wait for it

    if torch.cuda.is_available():
        torch.cuda.synchronize()
