"""Which units respond more to some items than to others, and whether they lie together on the sheet. Needs scipy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from locality_prior._check import count, needs, number, wrong
from locality_prior.analysis._given import ROWS, Floats, Integers, floats, units
from locality_prior.analysis.maps import MOST_PERMUTATIONS, ROUNDING, Moran, morans_i
from locality_prior.analysis.statistics import fdr

if TYPE_CHECKING:
    from locality_prior.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Localizer:
    """Units that respond more to one set of items than to another, and whether they lie together.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> noise = np.random.default_rng(0).normal(size=(2, 40, 64))
    >>> found = lp.analysis.localizer(noise[0], noise[1], lp.Grid(8, 8), top=5)
    >>> found.t.shape, len(found.units), int(found.significant.sum())
    ((64,), 5, 0)

    Args:
        t: (units,) Welch's t of |activation|; NaN for a unit that does not vary, or has a value that is not finite.
        p: (units,) the probability of a t as large by chance, one-sided; NaN where t is.
        corrected: (units,) p corrected for as many units, see :func:`fdr`.
        significant: (units,) which units have a corrected p below the level.
        units: the numbers of the units with the largest t, the largest first, significant or not.
        moran: Moran's I of the map that is 1 at ``units`` and 0 elsewhere, with p against as many units that are
            anywhere on the sheet. Undefined where all units, or none, are chosen.
        p_items: the share of random divisions of the same items into two sets whose ``units`` have as large a Moran's
            I; None where that is undefined.
    """

    t: Floats
    p: Floats
    corrected: Floats
    significant: npt.NDArray[np.bool_]
    units: Integers
    moran: Moran
    p_items: float | None


def localizer(
    one: Any,
    other: Any,
    geometry: Geometry,
    *,
    top: float = 0.1,
    level: float = 0.05,
    permutations: int = 999,
    seed: int = 0,
) -> Localizer:
    """Find the units that respond more to one set of items than to another, as the localizers of neuroscience do.

    For each unit, with x = |activation| over each set's items (Welch, Biometrika 1947)::

        t = (mean x₁ − mean x₂) / √(s₁²/n₁ + s₂²/n₂)

    s² is the variance with n − 1, and p is one-sided, from Student's t with Welch's degrees of freedom. In models of
    language an item is a sentence or a window of text, and its activation is that at the last token, or the mean over
    tokens: :meth:`Placement.record` gives either.

    Two nulls say whether the chosen units lie together. That of :attr:`Localizer.moran` asks whether they are nearer to
    one another than units drawn at random. On a smooth sheet they are for any contrast, even between two halves of the
    same items, since neighbours respond alike. :attr:`Localizer.p_items` therefore divides the items at random, chooses
    as many units in the same way, and asks whether those lie together as much.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> sheet, rng = lp.Grid(8, 8), np.random.default_rng(0)
    >>> words, others = rng.normal(size=(2, 40, 64))
    >>> words[:, sheet.distances()[27] <= 1.5] *= 4  # nine units around unit 27
    >>> found = lp.analysis.localizer(words, others, sheet, top=9)
    >>> np.array_equal(found.significant, sheet.distances()[27].numpy() <= 1.5)
    True
    >>> print(f"I = {found.moran.i:.2f}, p = {found.moran.p:.3f}, and p = {found.p_items:.3f} against random items")
    I = 0.48, p = 0.001, and p = 0.001 against random items

    Args:
        one, other: responses (items, units) to each set, of two items or more.
        geometry: where the units sit.
        top: how many units to choose, or their share where it is below 1. The language localizer of models chooses a
            hundredth to a tenth.
        level: of ``significant``.
        permutations: of each null, at most 100,000.
        seed: of the nulls; the same seed gives the same p.

    Raises:
        ValueError: arrays that are not (items, units) or not of the geometry's number of units, too few items, or a
            number out of range.
    """
    x, y = (np.abs(floats(name, given, "items", "units")) for name, given in (("one", one), ("other", other)))
    for name, given in (("one", x), ("other", y)):
        units(name, given.shape[1], geometry)
        if len(given) < 2:
            raise wrong(name, f"{len(given)} items", "at least 2, which can vary")
    n, share = len(geometry), number("top", top, least=0.0)
    k = max(1, round(share * n)) if share < 1 else count("top", int(share) if share.is_integer() else top, 1, n)
    if not 0 < number("level", level) < 1:
        raise wrong("level", level, "a number between 0 and 1")
    permutations, seed = count("permutations", permutations, 1, MOST_PERMUTATIONS), count("seed", seed, 0)
    needs("scipy", "analysis", "this measure")
    from scipy import stats

    both = np.concatenate([x, y])
    fit = np.isfinite(both).all(axis=0)
    # about 0 and of size 1, so that squares neither overflow nor lose digits
    z = np.where(fit, both, 0.0)
    z /= np.maximum(z.max(axis=0), np.finfo(np.float64).tiny)
    z -= z.mean(axis=0)
    parts = z[: len(x)], z[len(x) :]
    t, freedom = _welch(
        *((len(part), part.mean(axis=0), np.where(_constant(part), 0.0, part.var(axis=0, ddof=1))) for part in parts)
    )
    t[~fit] = np.nan
    p: Floats = np.asarray(stats.t.sf(t, freedom))
    corrected = fdr(p)
    chosen = _largest(t[None], k)
    moran = morans_i(chosen[0], geometry, permutations=permutations, seed=seed)
    p_items = None
    if moran.i is not None:
        rng = np.random.default_rng(seed)
        above = 0
        for start in range(0, permutations, ROWS):
            size = min(ROWS, permutations - start)
            first = rng.permuted(np.tile(np.arange(len(z)) < len(x), (size, 1)), axis=1)
            maps = _largest(np.where(fit, _divided(z, first), np.nan), k)
            above += int((morans_i(maps, geometry, permutations=1).i >= moran.i - ROUNDING).sum())
        p_items = (1 + above) / (1 + permutations)
    order = np.argsort(-np.where(np.isnan(t), -np.inf, t), kind="stable")[: int(chosen.sum())]
    with np.errstate(invalid="ignore"):
        return Localizer(t, p, corrected, corrected < level, order, moran, p_items)


def _constant(values: Floats) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.ptp(values, axis=0) == 0
    return found


def _welch(one: tuple[Any, Floats, Floats], other: tuple[Any, Floats, Floats]) -> tuple[Floats, Floats]:
    """Welch's t, and its degrees of freedom, from the numbers, means and variances of two samples."""
    (n, mean, v), (m, rest, w) = one, other
    v, w = v / n, w / m
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = np.square(v + w) / (np.square(v) / (n - 1) + np.square(w) / (m - 1))
        return np.where(v + w > 0, (mean - rest) / np.sqrt(v + w), np.nan), freedom


def _divided(z: Floats, first: npt.NDArray[np.bool_]) -> Floats:
    """Welch's t of the items' divisions ``first`` (divisions, items) into two sets, (divisions, units)."""
    of = first.astype(np.float64)
    n = of.sum(axis=1, keepdims=True)
    m = len(z) - n
    sums, squares = of @ z, of @ np.square(z)
    mean, rest = sums / n, (z.sum(axis=0) - sums) / m
    v = np.maximum(squares - n * np.square(mean), 0) / (n - 1)
    w = np.maximum(np.square(z).sum(axis=0) - squares - m * np.square(rest), 0) / (m - 1)
    return _welch((n, mean, v), (m, rest, w))[0]


def _largest(t: Floats, k: int) -> Floats:
    """Maps (maps, units) that are 1 at the k units with the largest t; of equals, those with the lowest numbers."""
    t = np.where(np.isnan(t), -np.inf, t)
    found = np.zeros_like(t)
    np.put_along_axis(found, np.argsort(-t, axis=1, kind="stable")[:, :k], 1, axis=1)
    found[np.isneginf(t)] = 0
    return found
