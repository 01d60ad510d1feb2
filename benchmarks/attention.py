"""Steps of attention on sheets, wire by wire, against ``nn.MultiheadAttention``: a table of docs/howto/performance.md.

    uv run python benchmarks/attention.py [--batch 8] [--tokens 64]

One thread, in processor time, so that it can be measured on a busy machine. With ``CC=false`` there is no compiler.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import locality_prior as lp

CASES = [(8, 2, 3), (12, 2, 3), (16, 4, 3), (16, 4, 6), (24, 8, 3), (24, 8, 9), (32, 16, 3), (32, 16, 6), (32, 16, 12)]


def step(layer: nn.MultiheadAttention, batch: int, tokens: int) -> Callable[[], float]:
    """A function that takes a step, forward, backward and SGD, and returns its milliseconds."""
    optimizer = torch.optim.SGD(layer.parameters(), 1e-3)
    x = torch.randn(batch, tokens, layer.embed_dim, requires_grad=True)
    g = torch.randn_like(x)

    def once() -> float:
        start = time.process_time()
        layer(x, x, x)[0].backward(g)
        optimizer.step()
        optimizer.zero_grad()
        x.grad = None
        return 1000 * (time.process_time() - start)

    return once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, help="sequences")
    parser.add_argument("--tokens", type=int, default=64, help="of each")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| units | radius | density | nn.MultiheadAttention, ms | wires |\n|--:|--:|--:|--:|--:|")
    for side, heads, radius in [*CASES, (64, 64, 3)]:
        units = side * side
        wires = lp.LocalityMultiheadAttention(
            units, heads, batch_first=True, units=lp.Grid(side, side), cost=f"linear@{radius}", backend="wires"
        )
        layers = nn.MultiheadAttention(units, heads, batch_first=True), wires
        steps = [step(layer, given.batch, given.tokens) for layer in layers]
        taken = [[one() for one in steps] for _ in range(4 if side == 64 else 10)][1:]
        theirs, ours = (statistics.median(times) for times in zip(*taken, strict=True))
        density = len(wires.out_proj.weight) / units**2
        print(f"| {units:,} | {radius} | {density:.3f} | {theirs:,.1f} | {theirs / ours:.2f} |", flush=True)


if __name__ == "__main__":
    main()
