"""Distances along the cortex: fsaverage5's 10,242 vertices within 20 mm, beside all pairs.

    uv run python benchmarks/geodesics.py [--radius 20] [--sample 40] [--along exact | edges]

Seconds and the peak memory of this process and of those that it starts. All pairs are timed on a sample of the sources,
and scaled. The heat method is approximate; its row is there where potpourri3d is installed.
"""

from __future__ import annotations

import argparse
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
    parser.add_argument("--sample", type=int, default=40, help="how many sources stand for all")
    parser.add_argument("--along", choices=("exact", "edges"), default="exact")
    options = parser.parse_args()
    if options.along == "edges":
        _surface.exact = lambda: False
    torch.set_num_threads(1)
    mesh = lp.Mesh.fsaverage("left")
    n, sample = len(mesh), torch.linspace(0, len(mesh) - 1, options.sample).long()
    before = memory()
    pairs, seconds = timed(lambda: sum(len(i) for i, _, _ in near(mesh, mesh, options.radius)))
    table = Table("way", "pairs", "seconds", "memory, MiB", title=repr(mesh))
    table.add_row(
        f"within {options.radius:g} mm", f"{pairs:,}", f"{seconds:.1f}", f"{memory():.0f} (before: {before:.0f})"
    )
    _, seconds = timed(lambda: mesh.distances(rows=sample))
    table.add_row(
        "all pairs, one process", f"{n * n:,}", f"{seconds * n / len(sample):.0f} (scaled)", f"{8 * n * n / 2**20:.0f}"
    )
    try:
        import potpourri3d
    except ImportError:
        pass
    else:
        solver = potpourri3d.MeshHeatMethodDistanceSolver(mesh.vertices.numpy(), mesh.faces.numpy())
        d, seconds = timed(lambda: [torch.from_numpy(solver.compute_distance(int(k))) for k in sample])
        exact = mesh.distances(rows=sample)
        there = (exact > 0) & (exact <= options.radius)
        error = ((torch.stack(d) - exact).abs() / exact)[there]
        table.add_row(
            "all pairs, heat method", f"{n * n:,}", f"{seconds * n / len(sample):.0f} (scaled)",
            f"errors of {float(error.mean()):.1%}, up to {float(error.max()):.0%}",
        )  # fmt: skip
    Console(width=120).print(table)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    return work(), time.perf_counter() - began


def memory() -> float:
    """The most memory that this process has had, and the largest of those that it started, in MiB."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024


if __name__ == "__main__":
    main()
