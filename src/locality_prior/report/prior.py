"""Pictures of priors: what a cost makes of a sheet, before any network is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from locality_prior import cost as costs
from locality_prior import plots
from locality_prior._check import count, wrong
from locality_prior._files import replacing
from locality_prior.cost import Cost
from locality_prior.geometry import Grid, Line
from locality_prior.prior import Prior
from locality_prior.report.page import Picture, new_figure

#: The most units of a sheet whose whole prior is drawn up for its numbers.
LARGEST = 1 << 14


def wiring(cost: Cost) -> Picture:
    """The wiring diagram of a line of 7 units, full and abbreviated."""
    line = Line(7)
    prices = cost.cost(line.distances())
    figure, (full, one) = new_figure(7.2, 2.4, 2)
    plots.wiring(prices, full, colorbar=False)
    plots.wiring(prices, one, unit=3)
    full.set_title("every wire")
    one.set_title("one unit's wires")
    return Picture(
        "wiring",
        "prior",
        figure,
        f"A layer between two lines of 7 units under the cost {cost!r}. Darker wires are dearer.",
    )


def signals(cost: Cost, side: int = 64) -> Picture:
    """The signal transmitted to the centre and to the top-left unit of a sheet."""
    sheet = Grid(side, side)
    figure, axes = new_figure(7.2, 3.2, 2)
    for ax, unit in zip(axes, (centre(sheet), 0), strict=True):
        _signal(cost, sheet, unit, ax)
    return Picture(
        "signals",
        "prior",
        figure,
        f"The signal that the centre unit (left) and the top-left unit (right) of a {side}×{side} sheet receive from "
        "every unit of an equal sheet before it: a row of P each.",
    )


def priors(cost: Cost) -> Picture:
    """LeNet's prior beside AlexNet's."""
    figure, axes = new_figure(7.2, 3.2, 2)
    for ax, sheet, name in zip(axes, (Grid(7, 7), Grid(64, 64)), ("LeNet", "AlexNet"), strict=True):
        _signal(cost, sheet, centre(sheet), ax)
        ax.set_title(f"{name}: {sheet.shape[0]}×{sheet.shape[1]} units")
    return Picture(
        "priors",
        "prior",
        figure,
        "The same cost on a small sheet and on a large one: the centre unit of LeNet's 49 still hears its corners, "
        "that of AlexNet's 4,096 hears its neighbourhood.",
    )


def centre(sheet: Grid) -> int:
    """The number of the unit in the middle of a grid."""
    return int(np.ravel_multi_index(tuple(n // 2 for n in sheet.shape), sheet.shape))


def _signal(cost: Cost, sheet: Grid, unit: int, ax: Any) -> None:
    plots.transmitted_signal(Prior(sheet, sheet, cost).rows(torch.tensor([unit]))[0], sheet, unit, ax)


def draw_priors(sheets: list[str], cost: str, path: Path) -> list[str]:
    """Draw, into ``path``, the signal that each sheet's centre and first unit receive; a line of numbers a sheet."""
    if path.suffix.lower() not in (".png", ".pdf", ".svg") or path.is_dir():
        raise wrong("out", str(path), "a file named .png, .pdf or .svg")
    if not path.parent.is_dir():
        raise wrong("out", str(path), f"a directory that is there ({path.parent} is not)")
    grids, price = [_grid(sheet) for sheet in sheets], costs.parse(cost)
    for grid in grids:
        if len(grid) > LARGEST:
            raise wrong("sheet", f"{grid!r} of {len(grid):,} units", f"at most {LARGEST:,}")
    figure = Figure(figsize=(7.2, 3.2 * len(grids)), layout="constrained")
    said = []
    for row, sheet in zip(figure.subplots(len(grids), 2, squeeze=False), grids, strict=True):
        p = Prior(sheet, sheet, price).dense(torch.float32)
        wires = int((p > 0).sum())
        said.append(
            f"{sheet!r}, {price!r}: {wires:,} wires of {p.numel():,} ({wires / p.numel():.1%}), "
            f"signal {p.mean():.3f} on average, {p.square().mean().sqrt():.3f} in root mean square"
        )
        for ax, unit in zip(row, (centre(sheet), 0), strict=True):
            plots.transmitted_signal(p[unit], sheet, unit, ax)
    with replacing(path) as partial:
        figure.savefig(partial, format=path.suffix[1:].lower(), dpi=200)
    return [*said, str(path)]


def _grid(text: str) -> Grid:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() for part in parts):
        raise wrong("sheet", repr(text), "rows x columns, such as 7x7, or a number of units in a line")
    return Grid(*[count("sheet", int(part)) for part in parts])
