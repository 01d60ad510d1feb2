"""How good arrangements are: against random swaps in the same time, and against the program of other authors.

    uv run python benchmarks/arranging.py swaps [SIDE]
    uv run python benchmarks/arranging.py colours [SIDE] [PYTHON]

``swaps`` arranges SIDE × SIDE units (by default 64 × 64) by :func:`locality_prior.arrange.by_similarity`, and then, for
the same time, by the rule of TDANN's search: two units of a random neighbourhood swap places if that makes the map
better. ``colours`` sorts SIDE × SIDE random colours (by default 100 × 100). If PYTHON is an interpreter that has
``vc-flas`` and numpy, the authors' own FLAS sorts them too. Seconds are processor seconds, on one thread.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import locality_prior as lp
from locality_prior.arrange.similarity import standardised
from locality_prior.arrange.swaps import Quadratic

#: The side of the neighbourhoods in which random swaps are drawn, in units, and how many in each: TDANN draws 500.
NEIGHBOURHOOD, DRAWN = 12, 500
FLAS = """
import sys, time, numpy as np, vc_flas
x = np.load(sys.argv[1])
start = time.process_time()
found = vc_flas.flas(x, wrap=False, radius_decay=float(sys.argv[2]), seed=1).get_sorted_features()
print(time.process_time() - start)
np.save(sys.argv[3], found)
"""


def swaps(side: int) -> None:
    """By the best swaps of all, and by random ones."""
    sheet, draw = lp.Grid(side, side), np.random.default_rng(0)
    centres = torch.from_numpy(draw.random((400, 2)) * side)
    bumps = (-torch.cdist(centres, sheet.positions).square() / (2 * (side / 12) ** 2)).exp()
    noise = torch.from_numpy(draw.normal(size=bumps.shape))
    hidden = torch.from_numpy(draw.permutation(len(sheet)))
    responses = bumps[:, hidden] + 0.3 * noise

    def loss(order: Tensor) -> float:
        return float(lp.objectives.spatial_correlation(responses, sheet.permuted(order)))

    print(f"spatial loss: as given {loss(torch.arange(len(sheet))):.4f}, before it was shuffled {loss(hidden):.4f}")
    start = time.process_time()
    order = lp.arrange.by_similarity(responses, sheet)
    seconds = time.process_time() - start
    print(f"by_similarity: {loss(order):.4f} after {seconds:.1f} s")
    z = standardised(responses.T)
    problem = Quadratic(-(z @ z.T).fill_diagonal_(0), (1 / (1 + sheet.distances())).fill_diagonal_(0))
    found = np.arange(len(sheet))
    start, tried = time.process_time(), 0
    while time.process_time() - start < seconds:
        unit = np.argsort(found)  # at each place
        corner = draw.integers(0, side - NEIGHBOURHOOD + 1, 2)
        for a, b in draw.integers(0, NEIGHBOURHOOD, (DRAWN, 2, 2)) + corner:
            u, v = unit[a @ (side, 1)], unit[b @ (side, 1)]
            if problem.change(found, int(u), int(v)) < 0:
                found[u], found[v] = found[v], found[u]
                unit[found[u]], unit[found[v]] = u, v
            tried += 1
    print(f"random swaps: {loss(torch.from_numpy(found)):.4f} after as long, {tried:,} of them")


def colours(side: int, python: str | None) -> None:
    """Random colours, sorted here and by the authors' program."""
    sheet, x = lp.Grid(side, side), np.random.default_rng(0).random((side, side, 3)).astype(np.float32)
    vectors = torch.from_numpy(x.reshape(-1, 3)).T
    start = time.process_time()
    order = lp.arrange.by_similarity(vectors, sheet, measure="dpq")
    seconds = time.process_time() - start
    print(f"by_similarity: DPQ16 {lp.arrange.dpq(vectors, sheet.permuted(order)):.4f} after {seconds:.2f} s")
    for decay in () if python is None else ("0.93", "0.99"):
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder, "given.npy"), Path(folder, "made.npy")
            np.save(given, x)
            done = subprocess.run([python, "-c", FLAS, given, decay, made], capture_output=True, text=True, check=True)
            found = torch.from_numpy(np.load(made).reshape(-1, 3)).T
        print(f"FLAS, radius_decay {decay}: DPQ16 {lp.arrange.dpq(found, sheet):.4f} after {float(done.stdout):.2f} s")


def main() -> None:
    """Run the benchmark that the command names."""
    torch.set_num_threads(1)
    what, *rest = sys.argv[1:] or ["swaps"]
    if what == "swaps":
        swaps(int(rest[0]) if rest else 64)
    else:
        colours(int(rest[0]) if rest else 100, rest[1] if len(rest) > 1 else None)


if __name__ == "__main__":
    main()
