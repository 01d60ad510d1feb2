"""The correlations of all pairs of units in a few numbers for each unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from locality_prior._check import count, wrong
from locality_prior.analysis._given import Floats, array

#: The most items that are correlated over; of more, so many are taken that are spread over them.
MOST_ITEMS = 1024
#: Numbers that are worked on at once: 4 MiB, which a processor holds near.
AT_ONCE = 1 << 19
#: Numbers that differ by less than this share of their size count as equal.
ROUNDING = 1e-12


def correlation_factors(responses: Any, most: int = 64) -> Floats:
    """Factors f of the units' Pearson correlations over items: r_ij = Σ_k f_ki f_kj for units i and j.

    The sum is exact with all factors. With the first few it gives the nearest matrix of that rank. With Z the
    standardised responses (each unit's about their mean, and of length 1), r = ZᵀZ. The factors are the principal axes
    of Z, each times its singular value, the largest first. The correlation of one unit with all others is then a sum
    over k, so it can be shown for any unit without a (units, units) matrix.

    >>> import locality_prior as lp
    >>> f = lp.analysis.correlation_factors([[1, 2, 6], [2, 4, 5], [3, 6, 4]])  # the third unit falls as others rise
    >>> (f.T @ f).round(3).tolist()
    [[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]]

    Args:
        responses: (items, units). Of more than 1,024 items, so many are taken that are spread evenly over them.
        most: the most factors.

    Returns:
        (k, units), with k the smaller of ``most`` and the rank of Z. The largest entry of each factor is positive. A
        unit whose response is constant, or with a value that is not finite, has 0 in every factor.

    Raises:
        ValueError: responses that are not (items, units).
    """
    a = array("responses", responses)
    if a.ndim != 2:
        raise wrong("responses", f"shape {a.shape}", "numbers of shape (items, units)")
    most = count("most", most)
    items, units = min(len(a), MOST_ITEMS), a.shape[1]
    if not items or not units:
        return np.empty((0, units))
    chosen = np.linspace(0, len(a) - 1, items).round().astype(np.int64)
    width = max(1, AT_ONCE // items)
    blocks = [slice(start, start + width) for start in range(0, units, width)]

    gram = np.zeros((items, items))
    for block in blocks:
        part = _standardised(a[chosen, block])
        gram += part @ part.T
    variances, axes = np.linalg.eigh(gram)
    rounding = items * np.finfo(np.float64).eps * variances.max()
    axes = axes[:, variances > rounding][:, ::-1][:, :most]
    factors = np.empty((axes.shape[1], units))
    for block in blocks:
        factors[:, block] = axes.T @ _standardised(a[chosen, block])
    # an axis may point either way
    largest = np.take_along_axis(factors, np.abs(factors).argmax(axis=1, keepdims=True), axis=1)
    return factors * np.sign(largest)


def _standardised(responses: npt.NDArray[Any]) -> Floats:
    """Each column about its mean and of length 1; 0 for one that is not finite, or constant to rounding."""
    z: Floats = responses.astype(np.float64)
    low, high = z.min(axis=0), z.max(axis=0)
    with np.errstate(invalid="ignore", over="ignore"):  # ∞ − ∞
        width = high - low
        varied = np.isfinite(width) & (width > ROUNDING * np.maximum(np.abs(low), np.abs(high)))
        z -= low
        z /= np.where(varied, width, 1.0)  # large values would overflow
        z -= z.mean(axis=0)
        z /= np.where(varied, np.sqrt(np.einsum("ij,ij->j", z, z)), 1.0)
    z[:, ~varied] = 0
    return z
