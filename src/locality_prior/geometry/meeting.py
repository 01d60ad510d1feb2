"""How two geometries meet: the target is laid onto the source, and distances are taken there."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from locality_prior._check import ROUNDING
from locality_prior.geometry.base import Geometry, cannot_meet
from locality_prior.geometry.channels import Channels
from locality_prior.geometry.grids import Grid, HexGrid
from locality_prior.geometry.measured import Measured
from locality_prior.geometry.points import Points, Sphere

#: Entries of a matrix that are handled at once.
BLOCK = 1 << 22


def meet(target: Geometry, source: Geometry, rows: Tensor) -> Tensor:
    """Distances (len(rows), len(source)) of the target units ``rows``: the rule by which geometries meet."""
    if isinstance(target, Channels):
        return meet(target.base, source, rows % len(target.base))
    if isinstance(source, Channels):
        return meet(target, source.base, rows).repeat(1, source.channels)
    if isinstance(target, Points) or isinstance(source, Points):
        return _points(target, source, rows)
    if isinstance(target, Grid) and isinstance(source, Grid):
        return _grids(target, source, rows)
    if isinstance(target, (Grid, HexGrid)) and isinstance(source, (Grid, HexGrid)):
        return _boxes(target, source, rows)
    if isinstance(target, Sphere) and isinstance(source, Sphere):
        u, v = target.directions[rows], source.directions
        # the angle as 2 atan2(|u − v|, |u + v|): accurate at 0 and at π, where acos(u·v) is not
        near, far = (torch.cdist(u, w, compute_mode="donot_use_mm_for_euclid_dist") for w in (v, -v))
        return 2 * source.radius * torch.atan2(near, far)
    if isinstance(target, Measured) and target == source:
        return target._lengths[rows]
    if isinstance(target, Measured) or isinstance(source, Measured):
        cannot_meet(target, source, "a geometry of distances alone meets only itself")
    cannot_meet(target, source, "no distance is defined between the two kinds")


def _grids(target: Grid, source: Grid, rows: Tensor) -> Tensor:
    squared = torch.zeros(len(rows), *([1] * len(source.shape)), dtype=torch.float64)
    places = target.cells(rows)
    for a, axis in enumerate(target.axes(source)):
        index = (axis.target - 1 - places[a])[:, None] * axis.steps[0] + torch.arange(axis.source) * axis.steps[1]
        shape = [len(rows)] + [1] * len(source.shape)
        shape[a + 1] = axis.source
        squared = squared + axis.lengths[index].square().reshape(shape)
    return squared.sqrt().flatten(1)[:, : len(source)]


def near(target: Geometry, source: Geometry, radius: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Every pair at most ``radius`` apart, in row-major order and in blocks: target and source units, and distances.

    Between grids only cells within reach are looked at; elsewhere all distances are gone through, some rows at a time.
    """
    within = radius * (1 + ROUNDING)
    if isinstance(target, Grid) and isinstance(source, Grid):
        yield from _near_cells(target, source, within)
        return
    for rows in torch.split(torch.arange(len(target)), max(1, BLOCK // len(source))):
        d = target.distances(source, rows)
        i, j = (d <= within).nonzero(as_tuple=True)
        yield rows[i], j, d[i, j]


def _near_cells(target: Grid, source: Grid, within: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    # along each axis, the source cells within reach of each target cell, in order, and how far they are
    cells, apart = [], []
    for axis in target.axes(source):
        k, j = torch.arange(axis.target)[:, None], torch.arange(axis.source)
        d = axis.lengths[(axis.target - 1 - k) * axis.steps[0] + j * axis.steps[1]]
        reached = d <= within
        first = (~reached).to(torch.int8).argsort(dim=1, stable=True)[:, : int(reached.sum(1).max())]
        cells.append(first)
        apart.append(torch.where(reached, d, math.inf).gather(1, first).square())
    block = max(1, BLOCK // max(1, math.prod(c.shape[1] for c in cells)))
    for rows in torch.split(torch.arange(len(target)), block):
        squared, unit = torch.zeros(len(rows), 1, dtype=torch.float64), torch.zeros(len(rows), 1, dtype=torch.int64)
        for a, places in enumerate(target.cells(rows)):
            squared = (squared[:, :, None] + apart[a][places][:, None, :]).flatten(1)
            unit = (unit[:, :, None] * source.shape[a] + cells[a][places][:, None, :]).flatten(1)
        d = squared.sqrt()
        i, c = ((d <= within) & (unit < len(source))).nonzero(as_tuple=True)
        yield rows[i], unit[i, c], d[i, c]


def _box(sheet: Grid | HexGrid) -> tuple[Tensor, Tensor]:
    """The first corner and the extent of the bounding box of a sheet's cells."""
    if isinstance(sheet, Grid):
        low, extent = [-0.5] * len(sheet.shape), [float(n) for n in sheet.shape]
    else:
        height = math.sqrt(3) / 2
        low, extent = [-height / 2, -0.5], [sheet.rows * height, sheet.cols + 0.5 * (sheet.rows > 1)]
    return torch.tensor(low, dtype=torch.float64), torch.tensor(extent, dtype=torch.float64)


def _boxes(target: Grid | HexGrid, source: Grid | HexGrid, rows: Tensor) -> Tensor:
    for sheet in (target, source):
        if isinstance(sheet, Grid) and (len(sheet.shape) != 2 or any(sheet.periodic) or sheet.spacing):
            cannot_meet(target, source, "a HexGrid meets grids with two open axes and no spacing")
    (low_t, extent_t), (low_s, extent_s) = _box(target), _box(source)
    places = target.positions[rows]
    if target != source:
        places = (places - low_t) * (extent_s / extent_t) + low_s
    return torch.cdist(places, source.positions, compute_mode="donot_use_mm_for_euclid_dist")


def _points(target: Geometry, source: Geometry, rows: Tensor) -> Tensor:
    metrics = [g.metric for g in (target, source) if isinstance(g, Points)]
    if len(metrics) == 2 and metrics[0] != metrics[1]:
        cannot_meet(target, source, "their metrics differ")
    for g in (target, source):
        if isinstance(g, Measured):
            cannot_meet(target, source, "a geometry of distances alone meets only itself")
        if isinstance(g, Grid) and any(g.periodic):
            cannot_meet(target, source, "points do not close on themselves (periodic)")
    a, b = target.positions[rows], source.positions
    if a.shape[1] != b.shape[1]:
        cannot_meet(target, source, f"positions have {a.shape[1]} and {b.shape[1]} coordinates")
    points = target if isinstance(target, Points) else source
    assert isinstance(points, Points)
    return points.between(a, b)
