"""Statistics that compare networks: against scipy and statsmodels, and by simulation under the null."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from locality_prior.analysis import holm, paired_comparison, paired_t_test, seeds_needed


def pairs(n: int, effect: float = 0.5, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    control = rng.normal(size=n)
    return control + effect + rng.normal(size=n), control


@pytest.mark.parametrize("n", [3, 7, 12, 30])
def test_every_test_is_scipys(n: int) -> None:
    a, b = pairs(n)
    found = paired_comparison(a, b)
    t = stats.ttest_rel(a, b)
    interval = t.confidence_interval(0.95)
    assert (found.n, found.dropped) == (n, 0)
    assert found.mean_difference == pytest.approx((a - b).mean())
    assert (found.t, found.p) == pytest.approx((t.statistic, t.pvalue))
    assert found.ci == pytest.approx((interval.low, interval.high))
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(a, b).pvalue)
    flips = stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=99999, rng=1)
    assert found.p_permutation == pytest.approx(flips.pvalue, abs=1e-12 if n <= 12 else 0.01)
    assert found.effect == pytest.approx((a - b).mean() / (a - b).std(ddof=1))


def test_bootstrap_interval_is_scipys() -> None:
    a, b = pairs(25, 0.8)
    found = paired_comparison(a, b)
    theirs = stats.bootstrap(
        (a - b,), lambda d, axis: d.mean(axis) / d.std(axis, ddof=1), method="percentile", n_resamples=9999, rng=1
    ).confidence_interval
    assert found.effect_ci == pytest.approx((theirs.low, theirs.high), abs=0.03)
    assert paired_comparison(a, b) == found  # the same seed, the same numbers
    assert paired_comparison(a, b, seed=1).effect_ci != found.effect_ci


def test_sides_signs_and_what_is_dropped() -> None:
    a, b = pairs(8)
    there, back = paired_comparison(a, b), paired_comparison(b, a)
    assert back.mean_difference == -there.mean_difference  # type: ignore[operator]
    assert back.ci == pytest.approx((-there.ci[1], -there.ci[0]))  # type: ignore[index]
    assert (back.p, back.p_permutation, back.p_wilcoxon) == (there.p, there.p_permutation, there.p_wilcoxon)
    a2, b2 = np.append(a, [np.nan, 1.0]), np.append(b, [0.0, np.inf])
    assert paired_comparison(a2, b2).dropped == 2
    assert paired_comparison(a2, b2).p == there.p


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [0.0]), ([1.0, 2.0, 3.0], [0.0, 1.0, 2.0])])
def test_undefined_is_none(a: Any, b: Any) -> None:
    found = paired_comparison(np.array(a), np.array(b))
    assert (found.t, found.p, found.ci, found.effect, found.effect_ci) == (None,) * 5
    # all differences alike: the sign-flip test is defined still
    assert found.p_permutation == (None if not a else 2 / 2 ** len(a))


def test_the_permutation_test_cannot_say_more_than_its_pairs() -> None:
    for n in (2, 3, 6):
        a, b = pairs(n, effect=100)
        assert paired_comparison(a, b).p_permutation == 2 / 2**n


def test_holm_is_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for m in (1, 2, 7, 20):
        p = rng.uniform(size=m) ** 3
        assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1].tolist())
    assert holm([0.04, None, 0.01]) == [0.04, None, 0.02]
    assert holm([]) == []
    assert holm([None]) == [None]
    with pytest.raises(ValueError, match=r"p: got \[2.0\], expected numbers from 0 to 1"):
        holm([2.0])


@pytest.mark.parametrize("effect", [0.2, -0.5, 1.0, 3.0])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_seeds_needed_are_statsmodels(effect: float, power: float) -> None:
    n = seeds_needed(effect, power)
    assert TTestPower().power(abs(effect), n, 0.05) >= power
    assert n == 2 or TTestPower().power(abs(effect), n - 1, 0.05) < power
    for bad in ({"effect": 0.0}, {"effect": math.nan}, {"effect": 1.0, "power": 1.0}, {"effect": 1.0, "level": 0}):
        with pytest.raises(ValueError, match="got"):
            seeds_needed(**bad)  # type: ignore[arg-type]


def test_under_the_null_seeds_reject_at_their_level_and_images_far_above_it() -> None:
    """Networks of two kinds that do not differ; each network has a level of its own, which all its images share."""
    rng = np.random.default_rng(0)
    studies, seeds, images = 500, 6, 200
    over_seeds = over_images = flips = 0
    for _ in range(studies):
        networks = rng.normal(size=(2, seeds, 1))
        maps = networks + rng.normal(size=(2, seeds, images))
        means = maps.mean(axis=2)
        found = paired_comparison(means[0], means[1], resamples=10)
        over_seeds += found.p < 0.05  # type: ignore[operator]
        flips += found.p_permutation < 0.05  # type: ignore[operator]
        over_images += paired_t_test(maps[0, 0], maps[1, 0]).p < 0.05  # type: ignore[operator]
    assert 0.03 < over_seeds / studies < 0.075
    assert flips / studies < 0.075
    assert over_images / studies > 0.8


def test_a_mean_difference_of_nothing_has_an_interval_too() -> None:
    found = paired_comparison([1.0, 2, 3, 4], [2.0, 1, 4, 3])
    assert (found.mean_difference, found.t, found.effect) == (0, 0, 0)
    assert found.p == found.p_permutation == 1
    half = stats.t.ppf(0.975, 3) * np.std([-1, 1, -1, 1], ddof=1) / 2
    assert found.ci == pytest.approx((-half, half))
