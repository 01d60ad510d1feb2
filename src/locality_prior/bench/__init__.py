"""Side by side: what the layer costs against what it replaces, in one process and one run, in turns.

Every figure is a ratio, baseline / ours: above 1, ours is quicker, or smaller. A contestant's turn is one call to warm
up and as many timed ones as fill a moment; the turns go round, and medians over the rounds are compared, so that a slow
minute of the machine is everybody's.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from locality_prior._check import wrong
from locality_prior._files import write_text
from locality_prior._timing import cores
from locality_prior.bench import epoch, layers, networks, objectives
from locality_prior.bench.row import Measure
from locality_prior.bench.row import Row as Row

ROWS: dict[str, Measure] = {**layers.ROWS, **objectives.ROWS, **networks.ROWS, **epoch.ROWS}


def bench(names: list[str] | None = None, device: str = "cpu", tell: Callable[[Row], None] | None = None) -> list[Row]:
    """Measure the rows called ``names``, or all of them.

    Args:
        names: of :data:`ROWS`.
        device: where the layers compute; ``scale_*`` and ``mnist_epoch`` are of the CPU.
        tell: called with each row as soon as it is there.

    Raises:
        ValueError: a row or a device that there is not.
    """
    for name in names or []:
        if name not in ROWS:
            raise wrong("only", repr(name), f"of {', '.join(ROWS)}")
    place = _device(device)
    measured = []
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(cores())
        for name, measure in ROWS.items():
            if names and name not in names:
                continue
            torch.manual_seed(0)
            measured.append(measure(name, place))
            if tell is not None:
                tell(measured[-1])
    finally:
        torch.set_num_threads(threads)
    return measured


def write(rows: list[Row], path: Path, device: str = "cpu") -> None:
    """Write ``rows``, and what they were measured on, as JSON."""
    write_text(path, json.dumps({"machine": machine(device), "rows": [row.plain() for row in rows]}, indent=2) + "\n")


def table(rows: list[Row]) -> list[list[str]]:
    """A header and a row of text for each figure."""
    header = ["row", "ours", "baseline", "ratio", "detail"]
    unit = {"ms": "ms", "mib": "MiB"}
    return [header] + [
        [r.name, f"{r.ours:.4g} {unit[r.unit]}", f"{r.baseline:.4g} {unit[r.unit]}", f"{r.ratio:.2f}", r.detail]
        for r in rows
    ]


def machine(device: str = "cpu") -> dict[str, Any]:
    """What the figures were measured on."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux
    found = {"cpu": name, "cores": cores(), "python": platform.python_version(), "torch": torch.__version__}
    return found | ({"gpu": torch.cuda.get_device_name(device)} if torch.device(device).type == "cuda" else {})


def _device(name: str) -> torch.device:
    try:
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        why = str(error).strip().splitlines()[0]
        raise wrong("device", f"{name!r} ({why})", "one that this machine has, such as cpu") from None
