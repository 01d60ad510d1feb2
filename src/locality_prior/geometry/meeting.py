"""How two geometries meet: the target is laid onto the source, and distances are taken there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from locality_prior._check import ROUNDING
from locality_prior.geometry.base import Geometry, cannot_meet
from locality_prior.geometry.channels import Channels
from locality_prior.geometry.grids import Grid, HexGrid
from locality_prior.geometry.measured import Measured
from locality_prior.geometry.points import Points, Sphere
from locality_prior.geometry.tiles import tiles

#: Entries of a matrix that are handled at once.
BLOCK = 1 << 22
#: Units of a tile of targets whose neighbours are looked for together.
TILE = 256


def meet(target: Geometry, source: Geometry, rows: Tensor) -> Tensor:
    """Distances (len(rows), len(source)) of the target units ``rows``: the rule by which geometries meet."""
    if isinstance(target, Channels):
        return meet(target.base, source, rows % len(target.base))
    if isinstance(source, Channels):
        return meet(target, source.base, rows).repeat(1, source.channels)
    if isinstance(target, Grid) and isinstance(source, Grid):
        return _grids(target, source, rows)
    laid = _laid(target, source)
    if laid is not None:
        return laid.between(laid.target[rows], laid.source)
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

    Between grids only cells within reach are looked at, and between other places only what is in a box around each tile
    of targets; with channels, and where distances alone are known, all are gone through, some rows at a time.
    """
    within = radius * (1 + ROUNDING)
    if isinstance(target, Grid) and isinstance(source, Grid):
        yield from _near_cells(target, source, within)
        return
    laid = _laid(target, source)
    if laid is not None and laid.boxed:
        yield from _near_boxes(laid, within)
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


@dataclass(frozen=True)
class _Laid:
    """Coordinates of both sides in one frame, (n, d) and (m, d), and the distance there."""

    target: Tensor
    source: Tensor
    between: Callable[[Tensor, Tensor], Tensor]
    #: Whether no coordinate differs by more than the distance.
    boxed: bool = True


def _laid(target: Geometry, source: Geometry) -> _Laid | None:
    """The target laid onto the source; None where the two have no common frame, or are grids."""
    if isinstance(target, Channels) or isinstance(source, Channels):
        return None
    if isinstance(target, Points) or isinstance(source, Points):
        return _points(target, source)
    if isinstance(target, (Grid, HexGrid)) and isinstance(source, (Grid, HexGrid)):
        return _boxes(target, source) if isinstance(target, HexGrid) or isinstance(source, HexGrid) else None
    if isinstance(target, Sphere) and isinstance(source, Sphere):
        return _Laid(target.directions * source.radius, source.positions, partial(_arc, source.radius))
    return None


def _arc(radius: float, u: Tensor, v: Tensor) -> Tensor:
    # the angle as 2 atan2(|u − v|, |u + v|): accurate at 0 and at π, where acos(u·v) is not
    return 2 * radius * torch.atan2(*(_euclidean(u, w) for w in (v, -v)))


def _euclidean(u: Tensor, v: Tensor) -> Tensor:
    return torch.cdist(u, v, compute_mode="donot_use_mm_for_euclid_dist")


def _near_boxes(laid: _Laid, within: float) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    target, source = laid.target.detach(), laid.source.detach()
    numbers = tiles(target, TILE)
    order, sizes = torch.argsort(numbers, stable=True), torch.bincount(numbers)
    pairs, lengths = [], []
    reach = within * (1 + ROUNDING)  # more than any rounding of the box
    for units in torch.split(order, sizes.tolist()):
        low, high = target[units].amin(0) - reach, target[units].amax(0) + reach
        seen = ((source >= low) & (source <= high)).all(1).nonzero()[:, 0]
        d = laid.between(target[units], source[seen])
        i, j = (d <= within).nonzero(as_tuple=True)
        pairs.append(units[i] * len(source) + seen[j])
        lengths.append(d[i, j])
    found, by_row = torch.cat(pairs).sort()
    d = torch.cat(lengths)[by_row]
    for part, there in zip(torch.split(found, BLOCK), torch.split(d, BLOCK), strict=True):
        yield part // len(source), part % len(source), there


def _boxes(target: Grid | HexGrid, source: Grid | HexGrid) -> _Laid:
    for sheet in (target, source):
        if isinstance(sheet, Grid) and (len(sheet.shape) != 2 or any(sheet.periodic) or sheet.spacing):
            cannot_meet(target, source, "a HexGrid meets grids with two open axes and no spacing")
    (low_t, extent_t), (low_s, extent_s) = _box(target), _box(source)
    places = target.positions
    if target != source:
        places = (places - low_t) * (extent_s / extent_t) + low_s
    return _Laid(places, source.positions, _euclidean)


def _points(target: Geometry, source: Geometry) -> _Laid:
    metrics = [g.metric for g in (target, source) if isinstance(g, Points)]
    if len(metrics) == 2 and metrics[0] != metrics[1]:
        cannot_meet(target, source, "their metrics differ")
    for g in (target, source):
        if isinstance(g, Measured):
            cannot_meet(target, source, "a geometry of distances alone meets only itself")
        if isinstance(g, Grid) and any(g.periodic):
            cannot_meet(target, source, "points do not close on themselves (periodic)")
    a, b = target.positions, source.positions
    if a.shape[1] != b.shape[1]:
        cannot_meet(target, source, f"positions have {a.shape[1]} and {b.shape[1]} coordinates")
    points = target if isinstance(target, Points) else source
    assert isinstance(points, Points)
    return _Laid(a, b, points.between, boxed=not callable(points.metric))
