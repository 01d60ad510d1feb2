"""The measurements behind ``backend="auto"`` of LocalityConv2d: every way to compute, against nn.Conv2d.

    uv run python benchmarks/convolutions.py [--sides 8 16 24 32] [--radii 2 3] [--kernels 1 3 5] [--images 14]
        [--batch 16] [--stride 1] [--threads 2] [--device cpu]

The channels are square sheets of ``sides``. Milliseconds of nn.Conv2d for a forward and backward pass (the input wants
its gradient), and how many times as fast each way is, contestants in turns. With ``CC=false`` there is no compiler, so
"wires" is computed as "windowed".
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import locality_prior as lp
from locality_prior._timing import cores, in_turns

WAYS = ("dense", "windowed", "wires")


def step(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    """A forward and backward pass."""
    wanted = [x, *layer.parameters()]
    grad = torch.randn_like(layer(x))
    return lambda: torch.autograd.grad(layer(x), wanted, grad)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[8, 16, 24, 32], help="of the sheets of channels")
    parser.add_argument("--radii", type=float, nargs="+", default=[2, 3])
    parser.add_argument("--kernels", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--images", type=int, nargs="+", default=[14], help="rows and columns")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--stride", type=int, default=1)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = Table("channels", "radius", "density", "kernel", "images", "nn.Conv2d, ms", *WAYS, "auto")
    for side in options.sides:
        channels, sheet = side**2, lp.Grid(side, side)
        for radius in options.radii:
            for kernel in options.kernels:
                given = (channels, channels, kernel, options.stride, kernel // 2)
                places = {"source": sheet, "cost": lp.cost.Linear().within(radius), "device": options.device}
                layers: dict[str, nn.Module] = {"nn.Conv2d": nn.Conv2d(*given, device=options.device)}
                for way in (*WAYS, "auto"):
                    layers[way] = lp.LocalityConv2d(*given, backend=way, **places)
                auto, wires = layers.pop("auto"), len(layers["wires"].weight)
                for size in options.images:
                    x = torch.randn(options.batch, channels, size, size, device=options.device, requires_grad=True)
                    times = in_turns({name: step(layer, x) for name, layer in layers.items()}, 5, 15.0)
                    plain = times["nn.Conv2d"]
                    ratios = [f"{plain / times[way]:.2f}" for way in WAYS]
                    row = [str(channels), f"{radius:g}", f"{wires / channels**2:.3f}", f"{kernel}×{kernel}"]
                    chosen = "dense" if auto.weight.dim() == 4 else "wires"
                    table.add_row(*row, f"{size}×{size}", f"{plain:.1f}", *ratios, chosen)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
