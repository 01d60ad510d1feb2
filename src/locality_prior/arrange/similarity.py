"""The most likeness of neighbours: which unit sits where, so that units near each other respond alike."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from locality_prior._check import check_fits, choice, count, wrong
from locality_prior._memory import aside
from locality_prior.arrange import windows
from locality_prior.arrange.sorting import sort
from locality_prior.arrange.starts import coordinates, leading, spread, turned
from locality_prior.arrange.swaps import EXACT, Clock, Ints, Progress, Quadratic, Reals, improve, kicked
from locality_prior.geometry import Geometry
from locality_prior.geometry.permuted import permutation
from locality_prior.objectives import _given
from locality_prior.objectives._nearness import mutual

Measure = Literal["correlation", "dpq"]
#: How many of the orders to begin with are improved, where there are few units.
ENDS = 3


def by_similarity(
    responses: Tensor,
    sheet: Geometry,
    *,
    measure: Measure = "correlation",
    order: Any = None,
    seed: int = 0,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """The order of a sheet's units in which those near each other respond most alike.

    With ``measure="correlation"`` it is Σ_uv r_uv / (1 + d_uv) that is made large, with r the Pearson correlation of
    two units' responses over samples. Since an order changes neither the correlations nor the distances there are, this
    is the order with the least :func:`~locality_prior.objectives.spatial_correlation`, TDANN's spatial loss, for which
    its authors search by random swaps (Margalit et al., Neuron 2024; neuroailab/TDANN, spacetorch/swapopt). Here the
    best swaps of all are found at once, until none makes it better. It begins with ``order``, or else with the best of
    these: the units as they are, sorted as below, spread along the first eigenvectors of r, and then sorted.

    Above 4,096 units no matrix of pairs is made: swaps are looked for within overlapping windows of 1,024 neighbouring
    places, all others as they are, until no swap within a window makes the order better. It begins with ``order``, or
    with the better of the units as they are and sorted.

    With ``measure="dpq"`` it is :func:`dpq` that is made large, by sorting: the responses are smoothed over the sheet,
    and each unit moves to where the smoothed responses are most like its own; then again with less smoothing, down to
    the nearest neighbours. No matrix of pairs is made, so there may be very many units. It takes an idea from linear
    assignment sorting (Barthel et al., Computer Graphics Forum 2023).

    >>> import torch
    >>> import locality_prior as lp
    >>> waves = torch.cos(torch.arange(8) / 3 - torch.arange(20)[:, None])  # waves that travel along a line
    >>> mixed = waves[:, [3, 7, 0, 5, 1, 6, 2, 4]]
    >>> order = lp.arrange.by_similarity(mixed, lp.Line(8))
    >>> [lp.objectives.spatial_correlation(mixed, sheet) for sheet in (lp.Line(8), lp.Line(8).permuted(order))]
    [tensor(0.6828), tensor(0.0605)]
    >>> lp.objectives.spatial_correlation(waves, lp.Line(8))
    tensor(0.0605)

    Args:
        responses: (samples, units), at least two samples for correlations.
        sheet: the places of the units.
        measure: "correlation" or "dpq".
        order: an order to begin with, (units,); None: one that is looked for.
        seed: of what is drawn at random.
        seconds: stop after about so long, with the best order so far; None: do not.
        progress: is called after each round, or window, with the number of them and what is made small: −Σ r/(1 + d),
            or the mean squared distance of each unit's responses from the smoothed ones at its place.

    Returns:
        The place of each unit, (units,) int64: see :meth:`~locality_prior.Geometry.permuted`.

    Raises:
        ValueError, TypeError: responses that are not (samples, units), are not finite or do not fit the sheet;
            distances that differ by direction; an order that is none.
        Problem: the matrix of correlations does not fit into this machine's memory.
    """
    kind = choice("measure", measure, get_args(Measure))
    x, at = _given.responses(responses, sheet, samples=2 if kind == "correlation" else 1)
    if not x.isfinite().all():
        raise wrong("responses", "some that are not finite", "finite responses")
    begun = None if order is None else permutation("order", order, len(at))
    seed, clock = count("seed", seed, 0), Clock(seconds, progress)
    with torch.no_grad(), aside():
        vectors = x.detach().cpu().double().T
        if kind == "dpq":
            return sort(vectors, at, begun, seed, clock)
        return _correlated(vectors, mutual(at), begun, seed, clock)


def _correlated(vectors: Tensor, sheet: Geometry, begun: Tensor | None, seed: int, clock: Clock) -> Tensor:
    n, z = len(sheet), standardised(vectors)
    if n > windows.LARGE:
        return _in_windows(z, sheet, begun, seed, clock)
    check_fits(8 * n * n, f"the correlations of {n:,} units", 'arrange fewer units, or by measure="dpq"')
    r = z @ z.T
    q = 1 / (1 + sheet.distances())
    problem = Quadratic(-r.fill_diagonal_(0), q.fill_diagonal_(0))
    if begun is not None:
        return improve(problem, begun, clock)
    at, quiet = coordinates(sheet), Clock(None, None)
    quiet.end = clock.end
    along = min((spread(one, at) for one in turned(leading(r, at.shape[1]))), key=problem.cost)
    starts = [torch.arange(n), sort(z, sheet, None, seed, quiet), along, sort(z, sheet, along, seed, quiet)]
    starts.sort(key=problem.cost)
    if n <= EXACT:  # which of them is the best is seen when no swap makes them better
        ends = [improve(problem, one, clock) for one in starts[:ENDS]]
        return kicked(problem, min(ends, key=problem.cost), seed, clock)
    return improve(problem, starts[0], clock)


def _in_windows(z: Tensor, sheet: Geometry, begun: Tensor | None, seed: int, clock: Clock) -> Tensor:
    """The same for very many units, whose correlations are computed some rows at a time."""
    x, n = z.numpy(), len(sheet)

    def likeness(units: Ints) -> list[Reals]:
        r = x[units] @ x.T
        r[np.arange(len(units)), units] = 0
        return [np.negative(r, out=r)]

    def nearness(places: Ints) -> list[Reals]:
        q = (1 / (1 + sheet.distances(rows=torch.from_numpy(places)))).numpy()
        q[np.arange(len(places)), places] = 0
        return [q]

    problem = windows.Blocks(n, likeness, nearness)
    if begun is None:
        quiet = Clock(None, None)
        quiet.end = clock.end
        begun = min((torch.arange(n), sort(z, sheet, None, seed, quiet)), key=problem.cost)
    return windows.improve_in_windows(problem, begun, sheet, coordinates(sheet), clock)


def standardised(vectors: Tensor) -> Tensor:
    """Each unit's responses (units, samples) about their mean and of length 1; 0 where they are constant."""
    z = vectors - vectors.mean(1, keepdim=True)
    z[(vectors == vectors[:, :1]).all(1)] = 0
    largest = z.abs().amax(1, keepdim=True)
    z = z / torch.where(largest > 0, largest, 1.0)
    norm = z.norm(dim=1, keepdim=True)
    return z / torch.where(norm > 0, norm, 1.0)
