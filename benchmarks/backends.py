"""The measurements behind ``backend="auto"``: every way to compute, over radii and batches, against nn.Linear.

    uv run python benchmarks/backends.py [--side 64] [--radii 2 4 8 12 16 24] [--batches 8 64 256] [--device cpu]

Milliseconds a training step (forward, backward, SGD; the input wants its gradient) and a forward pass, contestants in
turns. "wires" is torch.sparse where ``CC=false`` is set, and windowed takes the tile size that it chooses itself.
"""

from __future__ import annotations

import argparse

import torch
from rich.console import Console
from rich.table import Table

import locality_prior as lp
from locality_prior._timing import cores, in_turns
from locality_prior.bench.layers import Layer, infer, step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=64, help="of the square sheet")
    parser.add_argument("--radii", type=float, nargs="+", default=[2, 4, 8, 12, 16, 24])
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 64, 256])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(cores())
    sheet, device = lp.Grid(options.side, options.side), torch.device(options.device)
    units = len(sheet)
    ways = ("windowed", "wires", "dense")
    table = Table("radius", "wires a unit", "density", "batch", "", *ways, "nn.Linear", "auto")
    for radius in options.radii:
        cost = lp.cost.Linear().within(radius)
        layers: dict[str, Layer] = {"nn.Linear": torch.nn.Linear(units, units, device=device)}
        for way in (*ways, "auto"):
            layers[way] = lp.LocalityLinear(
                units, units, source=sheet, target=sheet, cost=cost, backend=way, device=device
            )
        auto = layers.pop("auto")
        chosen = "dense" if auto.pattern is None else auto.pattern.choice(torch.float32, device)
        wires = len(layers["wires"].weight)
        for batch in options.batches:
            for name, make in (("train", step), ("infer", infer)):
                times = in_turns({k: make(layer, batch) for k, layer in layers.items()}, 7, 15.0)
                row = [f"{times[way]:.2f}" for way in (*ways, "nn.Linear")]
                table.add_row(
                    f"{radius:g}", f"{wires / units:.0f}", f"{wires / units**2:.3f}", str(batch), name, *row, chosen
                )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
