"""Whether a difference is more than chance: tests over pairs, and what they can tell. All of it needs scipy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from locality_prior._check import count, wrong
from locality_prior.analysis._given import Floats, floats


def mean_interval(values: Any) -> tuple[float, float] | None:
    """Student's 95 % confidence interval of a mean: mean ± t* · sd / √n, with t* the 97.5 % point of n − 1 degrees.

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
    from scipy import stats

    half = float(stats.t.ppf(0.975, len(v) - 1) * v.std(ddof=1) / math.sqrt(len(v)))
    mean = float(v.mean())
    return mean - half, mean + half


@dataclass(frozen=True)
class PairedTest:
    """A paired t-test; ``t`` and ``p`` are None where undefined.

    Args:
        t: mean difference over its standard error, n − 1 degrees of freedom.
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

    What is paired decides what is concluded. Over the images of one pair of networks the test is
    pseudo-replication: all images share the two networks, so n images say that *these two* networks differ,
    which any two seeds do, and p shrinks with every image added. A claim about a kind of network takes one
    number for each network, paired over seeds.

    Args:
        treatment, control: (pairs,) each. A pair with a NaN or an infinity is dropped from both sides and
            counted.

    Returns:
        The test; t and p are None for fewer than two pairs, and for differences all equal to rounding.

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
    from scipy import stats

    t = mean / float(delta.std(ddof=1) / np.sqrt(n))
    return PairedTest(t, float(2 * stats.t.sf(abs(t), n - 1)), n, mean, dropped)


@dataclass(frozen=True)
class PairedComparison:
    """A condition against its control over pairs, by every test that a reader may ask for; None where undefined.

    Args:
        n: pairs compared.
        mean_difference: mean of treatment − control.
        ci: 95 % confidence interval of it, mean ± t* sd/√n.
        t, p: Student's paired t-test, two-sided.
        p_wilcoxon: Wilcoxon's signed-rank test, two-sided.
        p_permutation: the sign-flip test of the mean, two-sided; with n pairs never below 2/2ⁿ.
        effect: mean over standard deviation of the differences (Cohen's d_z).
        effect_ci: 95 % bootstrap interval of it, of percentiles, over pairs.
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

    Args:
        treatment, control: (pairs,) each; see :func:`paired_t_test`.
        resamples: of the bootstrap, and of the sign flips where there are too many to take all (more than 16 pairs).
        seed: of their generator; the same seed gives the same numbers.

    Raises:
        ValueError: arrays that are not one-dimensional, or not of one length.
    """
    test = paired_t_test(treatment, control)
    resamples, rng = count("resamples", resamples), np.random.default_rng(count("seed", seed, 0))
    a, b = floats("treatment", treatment, "pairs"), floats("control", control, "pairs")
    delta = (a - b)[np.isfinite(a) & np.isfinite(b)]
    p_permutation = _sign_flips(delta, resamples, rng) if test.n else None
    if test.t is None or test.mean_difference is None:
        mean = test.mean_difference
        return PairedComparison(test.n, mean, None, None, None, None, p_permutation, None, None, test.dropped)
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
        _bootstrap(delta, resamples, rng),
        test.dropped,
    )


def _sign_flips(delta: Floats, resamples: int, rng: np.random.Generator) -> float:
    """Share of the ways to flip signs whose mean is as far from 0: all of them, or ``resamples`` and the one found."""
    n = len(delta)
    if n <= 16:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        signs = np.vstack([np.ones(n), rng.choice([-1.0, 1.0], (resamples, n))])
    sums = np.abs(signs @ delta)
    return float((sums >= sums[0] * (1 - 1e-12)).mean())


def _bootstrap(delta: Floats, resamples: int, rng: np.random.Generator) -> tuple[float, float] | None:
    """Percentiles of d_z over resamples of the pairs; None where they are not finite (few pairs, drawn all alike)."""
    drawn = delta[rng.integers(0, len(delta), (resamples, len(delta)))]
    with np.errstate(divide="ignore", invalid="ignore"):
        effects = drawn.mean(axis=1) / drawn.std(axis=1, ddof=1)
    low, high = (float(v) for v in np.quantile(effects, [0.025, 0.975], method="nearest"))
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for there being several (Holm, Scand. J. Statist. 1979): max_{j ≤ i} min(1, (m − j) p_(j)).

    Of m tests the smallest p is multiplied by m, the next by m − 1, …, and none is less than one before it. Calling
    those below α significant is wrong about any of them with a probability of at most α.

    Args:
        p: the p-values; None, for a test that is undefined, is not counted and stays None.

    Raises:
        ValueError: a p that is not from 0 to 1.
    """
    defined = [k for k, value in enumerate(p) if value is not None]
    values = floats("p", [p[k] for k in defined], "tests") if defined else np.empty(0)
    if not ((values >= 0) & (values <= 1)).all():
        raise wrong("p", values.tolist(), "numbers from 0 to 1")
    corrected: list[float | None] = [None] * len(p)
    least = 0.0
    for rank, k in enumerate(np.argsort(values, kind="stable")):
        least = max(least, min(1.0, float(values[k]) * (len(values) - rank)))
        corrected[defined[k]] = least
    return corrected


def seeds_needed(effect: float, power: float = 0.8, level: float = 0.05) -> int:
    """The fewest pairs of networks with which the two-sided paired t-test finds an effect as often as asked.

    The test's statistic is noncentral t with n − 1 degrees of freedom and noncentrality effect · √n.

    Args:
        effect: mean over standard deviation of the differences (Cohen's d_z), not 0.
        power: how often it is to be found.
        level: at which level.

    Raises:
        ValueError: an effect of 0, or a power or level that is not between 0 and 1.
    """
    from scipy import stats

    if not (math.isfinite(effect) and effect != 0):
        raise wrong("effect", effect, "a finite number other than 0")
    for name, share in (("power", power), ("level", level)):
        if not 0 < share < 1:
            raise wrong(name, share, "a number between 0 and 1")

    def found(n: int) -> float:
        edge, away = stats.t.ppf(1 - level / 2, n - 1), abs(effect) * math.sqrt(n)
        return float(stats.nct.sf(edge, n - 1, away) + stats.nct.cdf(-edge, n - 1, away))

    few, many = 1, 2
    while found(many) < power:
        few, many = many, 2 * many
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if found(middle) >= power else (middle, many)
    return many
