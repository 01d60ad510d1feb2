"""Distances along the cortex: fsaverage5's 10,242 vertices within 20 mm, beside all pairs.

    uv run python benchmarks/geodesics.py [--radius 20] [--sample 16] [--along exact | edges]

It prints seconds by the clock, processor seconds, and the peak memory of this process and of the largest that it
starts. All pairs are timed on a sample of the sources, and the time is scaled. The heat method is approximate; its row
appears if potpourri3d is installed.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import locality_prior as lp
from locality_prior.geometry import _surface, near


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--radius", type=float, default=20.0, help="in millimetres")
    parser.add_argument("--sample", type=int, default=16, help="how many sources stand for all")
    parser.add_argument("--along", choices=("exact", "edges"), default="exact")
    options = parser.parse_args()
    if options.along == "edges":
        _surface.exact = lambda: False
    torch.set_num_threads(1)
    mesh = lp.Mesh.fsaverage("left")
    n, sample = len(mesh), torch.linspace(0, len(mesh) - 1, options.sample).long()
    before = memory()
    pairs, clock, worked = timed(lambda: sum(len(i) for i, _, _ in near(mesh, mesh, options.radius)))
    table = Table("way", "pairs", "seconds", "processor seconds", "", title=repr(mesh))
    more = f"{memory():.0f} MiB at the peak, {before:.0f} before"
    table.add_row(f"within {options.radius:g} mm", f"{pairs:,}", f"{clock:.1f}", f"{worked:.1f}", more)

    def scaled(name: str, clock: float, worked: float, more: str) -> None:
        times = (f"{x * n / len(sample):.0f} (scaled)" for x in (clock, worked))
        table.add_row(name, f"{n * n:,}", *times, more)

    exact, *times = timed(lambda: mesh.distances(rows=sample))
    scaled("all pairs, one process", *times, f"a matrix of {8 * n * n / 2**20:.0f} MiB")
    try:
        import potpourri3d
    except ImportError:
        pass
    else:
        solver = potpourri3d.MeshHeatMethodDistanceSolver(mesh.vertices.numpy(), mesh.faces.numpy())
        d, *times = timed(lambda: [torch.from_numpy(solver.compute_distance(int(k))) for k in sample])
        there = (exact > 0) & (exact <= options.radius)
        error = ((torch.stack(d) - exact).abs() / exact)[there]
        scaled("all pairs, heat method", *times, f"errors of {float(error.mean()):.1%}, up to {float(error.max()):.0%}")
    Console(width=120).print(table)


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What ``work`` returns, its seconds, and its processor seconds, including those of processes that it starts."""
    clock, worked = time.perf_counter(), processors()
    return work(), time.perf_counter() - clock, processors() - worked


def processors() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def memory() -> float:
    """The most memory that this process has had, and the largest of those that it started, in MiB."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024


if __name__ == "__main__":
    main()
