"""What new memory costs: the product that makes a weight's gradient, into new memory, on large pages, and used again.

uv run python benchmarks/pages.py
"""

from __future__ import annotations

import torch

from locality_prior import _memory
from locality_prior._timing import cores, in_turns
from locality_prior.bench.row import SHEET


def main() -> None:
    torch.set_num_threads(cores())
    units = len(SHEET)
    x, grad, shape = torch.randn(64, units), torch.randn(64, units), (units, units)
    kept = torch.empty(shape)
    times = in_turns(
        {
            "new": lambda: torch.mm(grad.t(), x, out=torch.empty(shape)),
            "new, on large pages": lambda: torch.mm(grad.t(), x, out=_memory.empty(shape, x)),
            "used again": lambda: torch.mm(grad.t(), x, out=kept),
        },
        21,
        25.0,
    )
    for name, time in times.items():
        print(f"{name}: {time:.1f} ms")


if __name__ == "__main__":
    main()
