"""Whether a difference is more than chance: intervals, tests over pairs, and how many pairs they need. Needs scipy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from locality_prior._check import count, needs, number, wrong
from locality_prior.analysis._given import Floats, floats

#: The most random sign flips.
MOST_RESAMPLES = 100_000
#: The least effect whose number of seeds is looked for: it takes hundreds of millions.
LEAST_EFFECT = 1e-4


def mean_interval(values: Any) -> tuple[float, float] | None:
    """Student's 95 % confidence interval of a mean: mean ± t* · sd / √n, with t* the 97.5 % point of n − 1 degrees.

    >>> import locality_prior as lp
    >>> low, high = lp.analysis.mean_interval([97.8, 97.9, 98.1])
    >>> print(f"{low:.2f} to {high:.2f}")
    97.55 to 98.31

    Args:
        values: (n,); NaN and infinite values are left out.

    Returns:
        (low, high); None for fewer than two values, and for values that are all equal to rounding.

    Raises:
        ValueError: values that are not one-dimensional.
    """
    v = floats("values", values, "values")
    v = v[np.isfinite(v)]
    if len(v) < 2 or np.ptp(v) <= 4 * np.finfo(float).eps * abs(v).max():
        return None
    needs("scipy", "analysis", "this measure")
    from scipy import stats

    half = float(stats.t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / math.sqrt(len(v)))
    mean = float(v.mean())
    return mean - half, mean + half


@dataclass(frozen=True)
class PairedTest:
    """A paired t-test; ``t`` and ``p`` are None where undefined.

    >>> import locality_prior as lp
    >>> found = lp.analysis.paired_t_test([3.0, 4.0, 6.0, 5.0], [2.0, 3.5, 4.0, float("nan")])
    >>> print(f"t({found.n - 1}) = {found.t:.2f}, p = {found.p:.2f}, {found.dropped} pair left out")
    t(2) = 2.65, p = 0.12, 1 pair left out

    Args:
        t: mean difference over its standard error, with n − 1 degrees of freedom.
        p: two-sided.
        n: pairs compared.
        mean_difference: mean of treatment − control; None without a pair.
        dropped: pairs left out because a side was NaN or infinite.
    """

    t: float | None
    p: float | None
    n: int
    mean_difference: float | None
    dropped: int


def paired_t_test(treatment: Any, control: Any) -> PairedTest:
    """Student's paired t-test on δ = treatment − control: t = mean(δ) / (sd(δ) / √n), df = n − 1, two-sided.

    The conclusion depends on what is paired. Over the images of one pair of networks the test is pseudo-replication:
    all images share the two networks, so they can only say that *these two* networks differ, as any two seeds do, and
    p shrinks with every image added. A claim about a kind of network takes one number for each network, paired over
    seeds.

    >>> import locality_prior as lp
    >>> found = lp.analysis.paired_t_test([3.0, 4.0, 6.0, 5.0], [2.0, 3.5, 4.0, 3.0])
    >>> print(f"t({found.n - 1}) = {found.t:.2f}, p = {found.p:.3f}")
    t(3) = 3.67, p = 0.035

    Args:
        treatment, control: (pairs,) each. A pair with a NaN, a None or an infinity is dropped from both sides and
            counted.

    Returns:
        The test; t and p are None for fewer than two pairs, and for differences that are all equal to rounding.

    Raises:
        ValueError: arrays that are not one-dimensional, or not of one length.
    """
    a, b = floats("treatment", treatment, "pairs"), floats("control", control, "pairs")
    if len(a) != len(b):
        raise wrong("control", f"{len(b)} values", f"{len(a)}, as many as treatment")
    fit = np.isfinite(a) & np.isfinite(b)
    a, b = a[fit], b[fit]
    n, dropped = len(a), int((~fit).sum())
    delta = a - b
    mean = float(delta.mean()) if n else None
    if mean is None or n < 2 or np.ptp(delta) <= 4 * np.finfo(float).eps * max(abs(a).max(), abs(b).max()):
        return PairedTest(None, None, n, mean, dropped)
    needs("scipy", "analysis", "this measure")
    from scipy import stats

    t = mean / float(delta.std(ddof=1) / np.sqrt(n))
    return PairedTest(t, float(2 * stats.t.sf(abs(t), n - 1)), n, mean, dropped)


@dataclass(frozen=True)
class PairedComparison:
    """A condition against its control over pairs, by each of the usual tests; None where undefined.

    >>> import locality_prior as lp
    >>> found = lp.analysis.paired_comparison([3.0, 4.0, 6.0, 5.0], [2.0, 3.5, 4.0, 3.0])
    >>> print(found.n, found.mean_difference, [round(end, 2) for end in found.ci])
    4 1.375 [0.18, 2.57]

    Args:
        n: pairs compared.
        mean_difference: mean of treatment − control.
        ci: 95 % confidence interval of the mean difference (:func:`mean_interval`).
        t, p: Student's paired t-test, two-sided.
        p_wilcoxon: Wilcoxon's signed-rank test, two-sided.
        p_permutation: the sign-flip test of the mean, two-sided; with n pairs never below 2/2ⁿ.
        effect: mean over standard deviation of the differences (Cohen's d_z).
        effect_ci: 95 % confidence interval of the effect, from the noncentral t distribution (Steiger & Fouladi 1997):
            its ends are the effects under which a t as large, or as small, has a probability of 2.5 %. It holds 0
            exactly where p > 0.05.
        dropped: pairs left out because a side was NaN or infinite.
    """

    n: int
    mean_difference: float | None
    ci: tuple[float, float] | None
    t: float | None
    p: float | None
    p_wilcoxon: float | None
    p_permutation: float | None
    effect: float | None
    effect_ci: tuple[float, float] | None
    dropped: int


def paired_comparison(treatment: Any, control: Any, resamples: int = 9999, seed: int = 0) -> PairedComparison:
    """Compare a condition with its control over pairs: one number for each network, paired over seeds.

    >>> import locality_prior as lp
    >>> local, control = [3.0, 4.0, 6.0, 5.0], [2.0, 3.5, 4.0, 3.0]  # a number for each seed
    >>> found = lp.analysis.paired_comparison(local, control)
    >>> print(f"{found.mean_difference:+.2f}, 95 % interval {found.ci[0]:.2f} to {found.ci[1]:.2f}, p = {found.p:.3f}")
    +1.38, 95 % interval 0.18 to 2.57, p = 0.035

    Args:
        treatment, control: (pairs,) each; see :func:`paired_t_test`.
        resamples: random sign flips, at most 100,000, for more than 16 pairs; up to 16 pairs, all flips are taken.
        seed: of the random flips; the same seed gives the same numbers.

    Raises:
        ValueError: arrays that are not one-dimensional, or not of one length.
    """
    test = paired_t_test(treatment, control)
    resamples, rng = count("resamples", resamples, 1, MOST_RESAMPLES), np.random.default_rng(count("seed", seed, 0))
    a, b = floats("treatment", treatment, "pairs"), floats("control", control, "pairs")
    delta = (a - b)[np.isfinite(a) & np.isfinite(b)]
    p_permutation = _sign_flips(delta, resamples, rng) if test.n else None
    if test.t is None or test.mean_difference is None:
        mean = test.mean_difference
        return PairedComparison(test.n, mean, None, None, None, None, p_permutation, None, None, test.dropped)
    needs("scipy", "analysis", "this measure")
    from scipy import stats

    return PairedComparison(
        test.n,
        test.mean_difference,
        mean_interval(delta),
        test.t,
        test.p,
        float(stats.wilcoxon(delta).pvalue),
        p_permutation,
        test.t / math.sqrt(test.n),
        _effect_interval(test.t, test.n),
        test.dropped,
    )


def _sign_flips(delta: Floats, resamples: int, rng: np.random.Generator) -> float:
    """The share of sign flips whose mean is as far from 0: of all flips, or of ``resamples`` and the unflipped one."""
    n = len(delta)
    if n <= 16:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.vstack([np.ones(n), rng.choice([-1.0, 1.0], (resamples, n))])
    sums = np.abs(signs @ delta)
    return float((sums >= sums[0] * (1 - 1e-12)).mean())


def _effect_interval(t: float, n: int) -> tuple[float, float]:
    """The 95 % interval of d_z: the noncentralities, over √n, for which P(T > t) is 2.5 % and 97.5 %."""
    needs("scipy", "analysis", "this measure")
    from scipy.optimize import brentq

    def end(share: float) -> float:
        reach = 8 + 2 * abs(t)  # how far the noncentrality may be from t, which is widest for two pairs
        return float(brentq(lambda away: _above(t, n - 1, away) - share, t - reach, t + reach)) / math.sqrt(n)

    return end(0.025), end(0.975)


def _above(t: float, freedom: int, away: float) -> float:
    """P(T > t) for noncentral t of ``freedom`` degrees and noncentrality ``away``.

    T = (Z + away) / s, with Z normal and s² chi-squared over its degrees of freedom, so the probability is
    ∫ f(s) Φ(away − t s) ds. The integral is taken by Gauss's rule in pieces about the edge of Φ. (scipy's own function
    gives NaN for some arguments.)
    """
    needs("scipy", "analysis", "this measure")
    from scipy.special import gammainccinv, gammaincinv, ndtr

    half = freedom / 2
    low, high = math.sqrt(gammaincinv(half, 1e-17) / half), math.sqrt(gammainccinv(half, 1e-17) / half)
    steps = [(away + k) / t for k in (-9, -3, 0, 3, 9)] if t else []
    edges = np.unique(np.clip([*np.linspace(low, high, 9), *steps], low, high))[:, None]
    nodes, weights = np.polynomial.legendre.leggauss(24)
    s = (edges[1:] + edges[:-1]) / 2 + np.diff(edges, axis=0) / 2 * nodes
    log_f = (freedom - 1) * np.log(s) - half * np.square(s)  # but for a constant
    f = np.exp(log_f - log_f.max()) * np.diff(edges, axis=0) * weights
    return float((f * ndtr(away - t * s)).sum() / f.sum())


def holm(p: Any) -> list[float | None]:
    """p-values corrected for several tests (Holm, Scand. J. Statist. 1979): max_{j ≤ i} min(1, (m − j + 1) p_(j)).

    Of m tests the smallest p is multiplied by m, the next by m − 1, and so on, and none becomes less than one before
    it. Whoever calls those below α significant is wrong about any of them with a probability of at most α.

    >>> import locality_prior as lp
    >>> lp.analysis.holm([0.5, 0.25, 0.125])
    [0.5, 0.5, 0.375]

    Args:
        p: (tests,) the p-values; None or NaN, for a test that is undefined, is not counted and stays None.

    Raises:
        ValueError: a p that is not from 0 to 1.
    """
    values, defined = _p_values(p)
    corrected: list[float | None] = [None] * len(values)
    least = 0.0
    for rank, k in enumerate(defined[np.argsort(values[defined], kind="stable")]):
        least = max(least, min(1.0, float(values[k]) * (len(defined) - rank)))
        corrected[k] = least
    return corrected


def fdr(p: Any) -> Floats:
    """p-values corrected for the rate of false discoveries: min_{j ≥ i} min(1, m p_(j) / j).

    The method is that of Benjamini & Hochberg (J. R. Statist. Soc. B 1995). Of m tests the largest p stays, and each
    smaller one is multiplied by m over its rank, but becomes no larger than one after it. Of those called significant
    below α, a share of at most α is expected to be wrong, if the tests are independent or positively dependent.

    >>> import locality_prior as lp
    >>> lp.analysis.fdr([0.5, 0.25, 0.125])
    array([0.5  , 0.375, 0.375])

    Args:
        p: (tests,) the p-values; None or NaN, for a test that is undefined, is not counted and becomes NaN.

    Returns:
        (tests,) float64.

    Raises:
        ValueError: a p that is not from 0 to 1.
    """
    values, defined = _p_values(p)
    order = defined[np.argsort(values[defined], kind="stable")]
    corrected = np.full(len(values), np.nan)
    scaled = values[order] * len(order) / np.arange(1, len(order) + 1)
    corrected[order] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1.0)
    return corrected


def _p_values(p: Any) -> tuple[Floats, npt.NDArray[np.intp]]:
    """p-values, and the numbers of those that are defined."""
    values = floats("p", p, "tests")
    defined = np.flatnonzero(~np.isnan(values))
    if not ((values[defined] >= 0) & (values[defined] <= 1)).all():
        raise wrong("p", values.tolist(), "numbers from 0 to 1")
    return values, defined


def near_end(interval: tuple[float, float] | None) -> float | None:
    """The end of a confidence interval that is nearer to 0; None for no interval, and for one that holds 0.

    It is the least effect that the data support: ``seeds_needed(near_end(comparison.effect_ci))`` is the number of
    seeds that finds even that one.

    >>> import locality_prior as lp
    >>> lp.analysis.near_end((0.5, 2.0)), lp.analysis.near_end((-2.0, -0.5)), lp.analysis.near_end((-0.5, 2.0))
    (0.5, -0.5, None)

    Raises:
        ValueError: an interval that is not (low, high).
    """
    if interval is None:
        return None
    low, high = floats("interval", interval, 2).tolist()
    if not low <= high:
        raise wrong("interval", interval, "(low, high)")
    return None if low <= 0 <= high else min(low, high, key=abs)


def seeds_needed(effect: float, power: float = 0.8, level: float = 0.05) -> int:
    """The fewest pairs of networks with which the two-sided paired t-test finds an effect with the given power.

    The test's statistic follows a noncentral t distribution, of n − 1 degrees of freedom and noncentrality effect · √n.

    >>> import locality_prior as lp
    >>> lp.analysis.seeds_needed(0.5), lp.analysis.seeds_needed(2.0)
    (34, 5)

    Args:
        effect: mean over standard deviation of the differences (Cohen's d_z), at least 0.0001 from 0.
        power: the probability of finding it, between 0 and 1.
        level: the level of the test, between 0 and 1.

    Raises:
        ValueError: a number out of range.
    """
    needs("scipy", "analysis", "this measure")
    from scipy import stats

    if abs(number("effect", effect)) < LEAST_EFFECT:
        raise wrong("effect", effect, f"a number at least {LEAST_EFFECT} from 0")
    for name, share in (("power", power), ("level", level)):
        if not 0 < number(name, share) < 1:
            raise wrong(name, share, "a number between 0 and 1")

    def found(n: int) -> float:
        edge, away = float(stats.t.isf(level / 2, n - 1)), abs(float(effect)) * math.sqrt(n)
        return _above(edge, n - 1, away) + _above(edge, n - 1, -away)

    few, many = 1, 2
    while found(many) < power:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if found(middle) >= power else (middle, many)
    return many
