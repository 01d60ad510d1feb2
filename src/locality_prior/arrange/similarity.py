"""Arranging by responses: which unit sits where, so that units near each other respond alike."""

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
#: With few units, how many of the orders to begin with are improved.
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
    """An order of a sheet's units in which units near each other respond alike.

    With ``measure="correlation"`` Σ_uv r_uv / (1 + d_uv) is made large, where r is the Pearson correlation of two
    units' responses over samples. An order changes neither the set of correlations nor the set of distances. So this is
    the same as making :func:`~locality_prior.objectives.spatial_correlation` small, TDANN's spatial loss, whose authors
    search by random swaps (Margalit et al., Neuron 2024; neuroailab/TDANN, spacetorch/swapopt). Here the gains of all
    swaps are computed at once and the best are made, until no swap improves the order. The search begins with
    ``order``, or else with the best of these: the units as they are; the units sorted as below; the units spread along
    the first eigenvectors of r; and these sorted in turn.

    Above 4,096 units no matrix of all pairs is made: swaps are looked for within overlapping windows of 1,024
    neighbouring places, with all other units where they are, until no swap within a window improves the order. The
    search then begins with ``order``, or else with the better of the units as they are and the units sorted.

    With ``measure="dpq"`` :func:`dpq` is made large, by sorting. The responses are smoothed over the sheet, and each
    unit moves to where the smoothed responses are most like its own. This is repeated with less and less smoothing,
    down to the nearest neighbours. No matrix of all pairs is made, so there may be very many units. The idea is that of
    linear assignment sorting (Barthel et al., Computer Graphics Forum 2023).

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
        order: an order to begin with, (units,); None: the best of those above.
        seed: the seed of whatever is drawn at random.
        seconds: stop after about this time, with the best order so far; None: no limit.
        progress: called after each round or window with the number of rounds and the number that is made small:
            −Σ r/(1 + d), or the mean squared distance of each unit's responses from the smoothed ones at its place.

    Returns:
        The place of each unit, (units,) int64: see :meth:`~locality_prior.Geometry.permuted`.

    Raises:
        ValueError, TypeError: responses that are not (samples, units), are not finite or do not fit the sheet;
            distances that depend on the direction; an order that is not a permutation.
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
    if n <= EXACT:  # which of them is best shows only when no swap improves them
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
