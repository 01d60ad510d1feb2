"""Statistics that compare networks: against scipy and statsmodels, and by simulation under the null."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from locality_prior.analysis import holm, mean_interval, near_end, paired_comparison, paired_t_test, seeds_needed


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


@pytest.mark.parametrize("n", [2, 5, 25])
@pytest.mark.parametrize("effect", [-3.0, 0.0, 0.8, 300.0])
def test_the_interval_of_the_effect_is_noncentral_t(n: int, effect: float) -> None:
    found = paired_comparison(*pairs(n, effect))
    assert found.t is not None
    assert found.p is not None
    assert found.effect_ci is not None
    low, high = found.effect_ci
    assert low < found.effect < high  # type: ignore[operator]
    with np.errstate(all="ignore"):
        for end, share in ((low, 0.025), (high, 0.975)):
            assert stats.nct.sf(found.t, n - 1, end * math.sqrt(n)) == pytest.approx(share, abs=1e-6)
    assert (low <= 0 <= high) == (found.p > 0.05)


def test_the_interval_of_the_effect_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for delta in rng.normal(size=(400, 4)) + 1:
        low, high = paired_comparison(delta, np.zeros(4)).effect_ci  # type: ignore[misc]
        held += low <= 1 <= high
    assert 0.92 < held / 400 < 0.98


def test_the_seed_gives_the_numbers() -> None:
    a, b = pairs(25, 0.2)
    assert paired_comparison(a, b) == paired_comparison(a, b)
    assert paired_comparison(a, b, seed=1).p_permutation != paired_comparison(a, b).p_permutation


def test_the_interval_of_a_mean_is_students() -> None:
    v = np.random.default_rng(0).normal(size=9)
    expected = stats.t.interval(0.95, 8, loc=v.mean(), scale=stats.sem(v))
    assert mean_interval([*v, np.nan, np.inf]) == pytest.approx(expected)
    a, b = pairs(9)
    assert paired_comparison(a, b).ci == mean_interval(a - b)
    for nothing in ([], [1.0], [0.1, 0.1, 0.1], [None, 2.0]):
        assert mean_interval(nothing) is None


def test_the_near_end_of_an_interval() -> None:
    assert near_end((0.5, 2.0)) == 0.5
    assert near_end((-2.0, -0.5)) == -0.5
    for nothing in (None, (-1.0, 1.0), (0.0, 2.0)):
        assert near_end(nothing) is None
    a, b = pairs(8, 3)
    found = paired_comparison(a, b)
    least = near_end(found.effect_ci)
    assert least is not None
    assert seeds_needed(least) > seeds_needed(found.effect)  # type: ignore[arg-type]
    for bad in ("ab", (1.0,), (2.0, 1.0), (math.nan, 1.0), 3):
        with pytest.raises(ValueError, match="interval: got"):
            near_end(bad)  # type: ignore[arg-type]


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


def test_seeds_needed_where_scipy_has_no_number() -> None:
    assert seeds_needed(2, 0.8, 0.001) == 10
    assert seeds_needed(-2, 0.8, 0.001) == 10
    rng = np.random.default_rng(0)
    delta = rng.normal(size=(100_000, 10)) + 2
    for n, enough in ((9, False), (10, True)):
        t = stats.ttest_1samp(delta[:, :n], 0, axis=1).pvalue
        assert ((t < 0.001).mean() >= 0.8) == enough


@pytest.mark.parametrize("level", [0.05, 0.001, 1e-6])
@pytest.mark.parametrize("effect", [1e-4, 0.01, 0.3, 1.0, 2.0, 5.0, 50.0])
def test_more_seeds_find_more(effect: float, level: float) -> None:
    needed = [seeds_needed(effect, power, level) for power in (0.1, 0.5, 0.8, 0.99, 0.9999)]
    assert needed == sorted(needed)
    if needed[-1] > 1000:  # where t is all but normal
        normal = ((stats.norm.isf(level / 2) + stats.norm.ppf([0.5, 0.8, 0.99, 0.9999])) / effect) ** 2
        assert needed[1:] == pytest.approx(normal, rel=0.02)


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
