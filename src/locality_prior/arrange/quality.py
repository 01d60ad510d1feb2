"""How well a sheet keeps likeness: the distance-preservation quality of an arrangement."""

from __future__ import annotations

import torch
from torch import Tensor

from locality_prior._check import number, wrong
from locality_prior._memory import aside
from locality_prior.geometry import Geometry
from locality_prior.objectives import _given

#: How many distances are sorted at once.
BLOCK = 1 << 22
#: Distances on a sheet that differ by less than this share are equal: rounding does not tell neighbours apart.
ROUNDING = 1e-9


def dpq(responses: Tensor, sheet: Geometry, p: float = 16) -> float | None:
    """The distance-preservation quality of units on a sheet: how near likeness brings them, at best 1.

    With δ_ij the Euclidean distance between the responses of units i and j, and δ̄ its mean over all pairs::

        DPQ_p = ‖ΔD^sheet‖_p / ‖ΔD^best‖_p,   ΔD_k = max(0, (δ̄ − δ_k) / δ̄),   k = 1, …, units − 1

    δ_k is the mean over units of the mean δ to their k nearest others: the nearest on the sheet, and the nearest in δ
    for the best that there could be. Of others that are equally far away on the sheet, those with smaller δ come first.
    It is about 0 for units in a random order. A large p lets the nearest neighbours count most.

    Source: Barthel, Hezel, Jung and Schall, *Improved Evaluation and Generation of Grid Layouts using Distance
    Preservation Quality and Linear Assignment Sorting* (Computer Graphics Forum 2023), with their p = 16.

    >>> import torch
    >>> import locality_prior as lp
    >>> x = torch.arange(5.0)[None]  # one sample, which each unit along a line answers more strongly
    >>> lp.arrange.dpq(x, lp.Line(5)), round(lp.arrange.dpq(x[:, [2, 0, 3, 1, 4]], lp.Line(5)), 2)
    (1.0, 0.02)

    Args:
        responses: (samples, units).
        sheet: where the units sit.
        p: at least 1.

    Returns:
        From 0 to 1; None where all responses are equal.

    Raises:
        ValueError, TypeError: responses that are not (samples, units), are not finite, or do not fit the sheet; a sheet
            of one unit.
    """
    x, at = _given.responses(responses, sheet, samples=1)
    p = number("p", p, 1)
    n = len(at)
    if n < 2:
        raise wrong("sheet", at, "two units or more")
    if not x.isfinite().all():
        raise wrong("responses", "some that are not finite", "finite responses")
    with torch.no_grad(), aside():
        vectors = x.detach().cpu().double().T.contiguous()
        ranks = torch.arange(1, n, dtype=torch.float64)
        on_sheet, best = torch.zeros(n - 1, dtype=torch.float64), torch.zeros(n - 1, dtype=torch.float64)
        for rows in torch.split(torch.arange(n), max(1, BLOCK // n)):
            each = torch.arange(len(rows))
            apart = torch.cdist(vectors[rows], vectors, compute_mode="donot_use_mm_for_euclid_dist")
            apart[each, rows] = -1.0  # each unit first, to be left out
            alike, other = apart.sort(dim=1)
            d = at.distances(rows=rows)
            d[each, rows] = -1.0
            d = d.gather(1, other)
            # equal up to rounding: the same number
            step = ROUNDING * at.neighbour_distance
            near = (d / step).round().argsort(dim=1, stable=True)
            for total, found in ((on_sheet, alike.gather(1, near)), (best, alike)):
                total += (found[:, 1:].cumsum(1) / ranks).sum(0)
        mean = float(best[-1]) / n
        if mean == 0:
            return None
        gained, possible = (((mean - total / n) / mean).clamp(min=0) for total in (on_sheet, best))
        largest = possible.max()
        return float((gained / largest).norm(p) / (possible / largest).norm(p))
