"""The correlations of all pairs of units in a few numbers for each unit."""

from __future__ import annotations

from typing import Any

import numpy as np

from locality_prior._check import count, wrong
from locality_prior.analysis._given import Floats, array
from locality_prior.analysis.likeness import standardised

#: The most items that are correlated over; of more, so many are taken that are spread over them.
MOST_ITEMS = 1024
#: Numbers that are worked on at once: 128 MiB.
AT_ONCE = 1 << 24


def correlation_factors(responses: Any, most: int = 64) -> Floats:
    """Factors f of the units' correlations over items: Σ_k f_ki f_kj is the Pearson correlation r_ij of units i and j.

    With Z the standardised responses (each unit's about their mean, and of length 1), r = ZᵀZ. The factors are the
    principal axes of Z, each times its singular value, the largest first. All of them give r exactly, and the first
    few the nearest matrix of that rank. The correlation of one unit with all others is then a sum over k, so it can be
    shown for any unit without a (units, units) matrix.

    Args:
        responses: (items, units). Of more than 1,024 items, so many are taken that are spread evenly over them.
        most: the most factors.

    Returns:
        (k, units), with k the smaller of ``most`` and the rank of Z. The largest entry of each factor is positive. A
        unit that always responds alike, or with a value that is not finite, has 0 in every factor.

    Raises:
        ValueError: responses that are not (items, units).
    """
    a = array("responses", responses)
    if a.ndim != 2:
        raise wrong("responses", f"shape {a.shape}", "numbers of shape (items, units)")
    most = count("most", most)
    items, units = min(len(a), MOST_ITEMS), a.shape[1]
    chosen = np.linspace(0, len(a) - 1, items).round().astype(np.int64)
    width = max(1, AT_ONCE // max(items, 1))
    blocks = [slice(start, start + width) for start in range(0, units, width)]

    def z(block: slice) -> Floats:
        """(items, units of the block)."""
        return np.nan_to_num(standardised(a[:, block][chosen].T.astype(np.float64))).T

    gram = np.zeros((items, items))
    for block in blocks:
        part = z(block)
        gram += part @ part.T
    variances, axes = np.linalg.eigh(gram)
    rounding = max(gram.shape, default=0) * np.finfo(np.float64).eps * variances.max(initial=0.0)
    axes = axes[:, variances > rounding][:, ::-1][:, :most]
    factors = np.empty((axes.shape[1], units))
    for block in blocks:
        factors[:, block] = axes.T @ z(block)
    # an axis may point either way
    largest = np.take_along_axis(factors, np.abs(factors).argmax(axis=1, keepdims=True), axis=1) if units else 1.0
    return factors * np.sign(largest)
