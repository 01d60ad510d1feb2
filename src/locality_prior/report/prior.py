"""Pictures of a prior: what a cost makes of a sheet, before any network is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from locality_prior import cost as costs
from locality_prior import plots
from locality_prior._check import wrong
from locality_prior._files import replacing
from locality_prior.geometry import Geometry
from locality_prior.prior import Prior
from locality_prior.report import saving
from locality_prior.runs.places import parse

#: The most units of a sheet whose whole prior is computed for its numbers.
LARGEST = 1 << 14


def draw_priors(sheets: list[str], cost: str, out: Path) -> list[str]:
    """Draw the signal that the centre unit and the first unit of each sheet receive, and write it to ``out``.

    Args:
        sheets: geometries by their words, such as ``"7x7"``, ``"torus:7x7"``, or ``"7"`` for a line.
        cost: ``name[:length][@radius]``.
        out: a .png, .pdf or .svg file in a directory that exists.

    Returns:
        A line of numbers for each sheet, and the path.

    Raises:
        ValueError: a sheet, cost or path that does not fit.
    """
    if out.suffix.lower() not in (".png", ".pdf", ".svg") or out.is_dir():
        raise wrong("out", str(out), "a file named .png, .pdf or .svg")
    if not out.parent.is_dir():
        raise wrong("out", str(out), f"a file in a directory that exists ({out.parent} does not)")
    grids, price = [parse("sheet", sheet) for sheet in sheets], costs.parse(cost)
    for grid in grids:
        if len(grid) > LARGEST:
            raise wrong("sheet", f"{grid!r} of {len(grid):,} units", f"at most {LARGEST:,} units")
    figure = Figure(figsize=(7.2, 3.2 * len(grids)), layout="constrained")
    lines = []
    for row, sheet in zip(figure.subplots(len(grids), 2, squeeze=False), grids, strict=True):
        p = Prior(sheet, sheet, price).dense(torch.float32)
        wires = int((p > 0).sum())
        lines.append(
            f"{sheet!r}, {price!r}: {wires:,} wires of {p.numel():,} ({wires / p.numel():.1%}), "
            f"signal {p.mean():.3f} on average, {p.square().mean().sqrt():.3f} in root mean square"
        )
        for ax, unit in zip(row, (centre(sheet), 0), strict=True):
            plots.transmitted_signal(p[unit], sheet, unit, ax)
    with replacing(out) as partial:
        saving.save(figure, partial, dpi=200)
    return [*lines, str(out)]


def centre(sheet: Geometry) -> int:
    """The number of the unit that is drawn closest to the middle of a sheet."""
    xy = plots.Places.of(sheet).xy
    return int(np.linalg.norm(xy - (xy.min(axis=0) + xy.max(axis=0)) / 2, axis=1).argmin())
