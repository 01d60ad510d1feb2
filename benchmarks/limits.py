"""How far the rows of a bench.json are from what the machine can do.

    uv run locality-prior bench --out bench.json && uv run python benchmarks/limits.py bench.json

Three rates are measured here: float32 operations (a large matrix product), memory (a large copy), and reads from the
cores' own caches (dot products of vectors that fit there). A row's limit is the longest of its operations, its bytes of
memory and its bytes of cache, each at its rate.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from locality_prior._timing import cores
from locality_prior.bench.layers import SCALE_BATCH
from locality_prior.bench.row import SHEET

K, BATCH = len(SHEET), re.compile(r"_b(\d+)")


def rates() -> tuple[float, float, float]:
    """Operations, bytes of memory and bytes of cache a second, with all cores."""
    a, big = torch.randn(2048, 2048), torch.randn(1 << 26)
    to = torch.empty_like(big)
    operations = 2 * 2048**3 / _fastest(lambda: a @ a)
    memory = 2 * 4 * len(big) / _fastest(lambda: to.copy_(big))
    torch.set_num_threads(1)
    x, y = torch.randn(1 << 15), torch.randn(1 << 15)  # 256 KiB
    cache = cores() * 8 * len(x) * 200 / _fastest(lambda: [torch.dot(x, y) for _ in range(200)])
    torch.set_num_threads(cores())
    return operations, memory, cache


def _fastest(call: object, times: int = 100) -> float:
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        call()  # type: ignore[operator]
        best = min(best, time.perf_counter() - start)
    return best


def work(name: str, detail: str) -> tuple[float, float, float] | None:
    """Operations, and bytes that memory and caches cannot be spared, of a row of layers; None for the others."""
    batch = int(found[1]) if (found := BATCH.search(name)) else 64
    wires = float(found[1].replace(",", "")) if (found := re.search(r"([\d,]+) wires", detail)) else float(K * K)
    if name.startswith("scale"):
        batch = SCALE_BATCH
    elif not name.startswith(("dense", "reference", "folded", "local")):
        return None
    training = "infer" not in name
    operations = 2 * batch * wires * (3 if training else 1)
    # a step reads W twice, writes and reads its gradient, and reads and writes W again
    memory = 4 * wires * (6 if training else 1)
    if name.startswith(("local", "scale")):
        memory += 8 * wires * (3 if training else 1)  # P, and where the wire comes from, in each product
        cache = 4 * batch * wires * (3 if training else 1)  # a row of the batch for each wire, in each product
        return operations, memory, cache
    return operations, memory, 0.0


def main() -> None:
    torch.set_num_threads(cores())
    rows = json.loads(Path(sys.argv[1]).read_text())["rows"]
    operations, memory, cache = rates()
    print(f"{operations / 1e9:.0f} GFLOP/s, memory {memory / 1e9:.0f} GB/s, caches {cache / 1e9:.0f} GB/s")
    table = Table("row", "GFLOP", "memory MB", "cache MB", "limit ms", "set by", "ours ms", "ours / limit")
    for row in rows:
        todo = work(row["name"], row["detail"])
        if todo is None:
            continue
        times = {"operations": todo[0] / operations, "memory": todo[1] / memory, "caches": todo[2] / cache}
        limit = max(times, key=lambda key: times[key])
        table.add_row(
            row["name"],
            f"{todo[0] / 1e9:.2f}",
            f"{todo[1] / 1e6:.1f}",
            f"{todo[2] / 1e6:.0f}" if todo[2] else "",
            f"{1000 * times[limit]:.2f}",
            limit,
            f"{row['ours_ms']:.2f}",
            f"{row['ours_ms'] / 1000 / times[limit]:.1f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
