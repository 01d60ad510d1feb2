"""How well an arrangement puts alike units near each other: its distance-preservation quality."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from locality_prior._check import number, wrong
from locality_prior._memory import aside
from locality_prior.geometry import Geometry
from locality_prior.objectives import _given

#: How many distances are sorted at once.
BLOCK = 1 << 22
#: Distances on a sheet that differ by less than this share count as equal, so that rounding decides nothing.
ROUNDING = 1e-9


def dpq(responses: Tensor, sheet: Geometry, p: float = 16) -> float | None:
    """The distance-preservation quality of units on a sheet: how near to each other units that respond alike are.

    With δ_ij the Euclidean distance between the responses of units i and j, and δ̄ its mean over all pairs::

        DPQ_p = ‖ΔD^sheet‖_p / ‖ΔD^best‖_p,   ΔD_k = max(0, (δ̄ − δ_k) / δ̄),   k = 1, …, units − 1

    δ_k is the mean over units of a unit's mean δ to its k nearest others. For D^sheet these are the nearest on the
    sheet; for D^best, the best that could be reached, they are those with the smallest δ. Of others at equal distance
    on the sheet, those with smaller δ come first. The quality is 1 at best, and about 0 for units in a random order.
    The larger p, the more the nearest neighbours count.

    Source: Barthel, Hezel, Jung and Schall, *Improved Evaluation and Generation of Grid Layouts using Distance
    Preservation Quality and Linear Assignment Sorting* (Computer Graphics Forum 2023), with their p = 16.

    >>> import torch
    >>> import locality_prior as lp
    >>> x = torch.arange(5.0)[None]  # one sample; responses grow along the line
    >>> lp.arrange.dpq(x, lp.Line(5)), round(lp.arrange.dpq(x[:, [1, 0, 2, 4, 3]], lp.Line(5)), 2)
    (1.0, 0.8)

    Args:
        responses: (samples, units).
        sheet: where the units sit.
        p: at least 1.

    Returns:
        A number from 0 to 1; None if all responses are equal.

    Raises:
        ValueError, TypeError: responses that are not (samples, units), are not finite, or do not fit the sheet; a sheet
            of a single unit.
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
        on_sheet, best = np.zeros(n - 1), np.zeros(n - 1)
        for rows in torch.split(torch.arange(n), max(1, BLOCK // n)):
            others = torch.ones(len(rows), n, dtype=torch.bool)
            others[torch.arange(len(rows)), rows] = False
            apart = torch.cdist(vectors[rows], vectors, compute_mode="donot_use_mm_for_euclid_dist")
            for total, found in zip(
                (on_sheet, best), _ordered(apart, at.distances(rows=rows), others, at), strict=True
            ):
                total += (found.cumsum(1) / np.arange(1, n)).sum(0)
        mean = best[-1] / n
        gained, possible = (np.maximum(mean - total / n, 0) for total in (on_sheet, best))
        largest = possible.max()
        if largest <= ROUNDING * mean:
            return None
        return float(np.linalg.norm(gained / largest, p) / np.linalg.norm(possible / largest, p))


def _ordered(
    apart: Tensor, d: Tensor, others: Tensor, sheet: Geometry
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The δ from each row's unit to all others, sorted in two ways: by distance on the sheet, and by δ.

    Of others at equal distance on the sheet, the most alike come first.
    """
    # numpy sorts several times as quickly as torch
    rows = len(apart)
    alike, far = (x[others].reshape(rows, -1).numpy() for x in (apart, d))
    near = np.argsort(far, axis=1)
    far = np.take_along_axis(far, near, axis=1)
    step = np.zeros(far.shape)
    with np.errstate(invalid="ignore"):  # between two that are out of reach
        np.cumsum(np.diff(far, axis=1) > ROUNDING * sheet.neighbour_distance, axis=1, out=step[:, 1:])
    top = max(float(alike.max()), np.finfo(np.float64).tiny) * 1.0001
    step += np.take_along_axis(alike, near, axis=1) / top  # the whole part is the step on the sheet
    step.sort(axis=1)
    return np.modf(step)[0] * top, np.sort(alike, axis=1)
