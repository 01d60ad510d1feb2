"""The localizer, on planted clusters and on noise; corrected p; and minimal pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import locality_prior as lp
from locality_prior.analysis import fdr, localizer, minimal_pairs

SHEET = lp.Grid(10, 10)
NEAR = SHEET.distances().numpy()


def noise(items: int = 20, units: int = 100, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=(2, items, units))


# --- which units -----------------------------------------------------------------------------------------------------


def test_t_and_p_are_those_of_welch() -> None:
    one, other = noise()
    other = 3 * other[:13] + 1e3
    found = localizer(one, other, SHEET)
    theirs = stats.ttest_ind(abs(one), abs(other), equal_var=False, alternative="greater")
    np.testing.assert_allclose(found.t, theirs.statistic, rtol=1e-10)
    np.testing.assert_allclose(found.p, theirs.pvalue, rtol=1e-8)
    np.testing.assert_allclose(found.corrected, stats.false_discovery_control(theirs.pvalue), rtol=1e-8)
    back = localizer(torch.tensor(other, dtype=torch.float32), torch.tensor(one, dtype=torch.float32), SHEET)
    np.testing.assert_allclose(back.t, -found.t, rtol=1e-3)
    assert back.significant.all()
    assert not found.significant.any()


def test_a_planted_cluster_is_found() -> None:
    one, other = noise(60)
    cluster = np.flatnonzero(NEAR[44] <= 2)
    one[:, cluster] = 4 * one[:, cluster]
    found = localizer(one, other, SHEET, top=len(cluster), level=0.001)
    assert sorted(found.units) == cluster.tolist()
    assert np.flatnonzero(found.significant).tolist() == cluster.tolist()
    assert found.t[found.units].tolist() == sorted(found.t, reverse=True)[: len(cluster)]
    mask = np.zeros(100)
    mask[cluster] = 1
    assert found.moran.i == pytest.approx(lp.analysis.morans_i(mask, SHEET).i)
    assert found.moran.p == found.p_items == 0.001
    far = np.random.default_rng(1).permutation(100)
    scattered = localizer(one[:, far], other[:, far], SHEET, top=len(cluster), level=0.001)
    assert scattered.significant.sum() == len(cluster)
    assert min(scattered.moran.p, scattered.p_items) > 0.05


def test_units_that_respond_less_are_not_chosen() -> None:
    """The size of a response counts and not its sign, and more is meant, not merely something else."""
    one, other = noise(60)
    one[:, :5] *= 5
    other[:, 5:10] *= 5
    one[:, 10:15] -= 20
    found = localizer(one, other, SHEET, top=10, level=0.001, permutations=9)
    assert set(found.units) == {*range(5), *range(10, 15)}
    assert np.flatnonzero(found.significant).tolist() == sorted(found.units)


def test_false_alarms_on_noise() -> None:
    """Each of the three tests errs about as often as its level says: over 100 draws, 5 % give 1 to 13."""
    some, places, items = 0, 0, 0
    for seed in range(100):
        found = localizer(*noise(12, 64, seed), lp.Grid(8, 8), permutations=19)
        some += bool(found.significant.any())
        places += found.moran.p <= 0.05
        assert found.p_items is not None
        items += found.p_items <= 0.05
    assert min(some, places, items) >= 1
    assert max(some, places, items) <= 13


def test_on_a_smooth_sheet_any_contrast_clusters() -> None:
    """Which the null of random places takes for a finding, and that of random items does not."""
    grid = lp.Grid(8, 8)
    blur = np.exp(-np.square(grid.distances().numpy()) / 8)
    places, items = 0, 0
    for seed in range(40):
        one, other = noise(12, 64, seed) @ blur
        found = localizer(one, other, grid, permutations=19)
        places += found.moran.p <= 0.05
        assert found.p_items is not None
        items += found.p_items <= 0.05
    assert places > 35
    assert items <= 7


def test_units_without_a_t() -> None:
    one, other = noise()
    one[:, 3], other[:, 3] = 2.0, 2.0  # constant
    one[:, 4], other[:, 4] = 2.0, -1.0  # constant in each set, and in size not the same
    one[0, 5] = np.nan
    other[0, 6] = np.inf
    one[:, 7] *= 1e200
    other[:, 7] *= 1e200
    found = localizer(one, other, SHEET, top=100, permutations=9)
    assert np.flatnonzero(np.isnan(found.t)).tolist() == [3, 4, 5, 6]
    assert np.isnan(found.p[[3, 4, 5, 6]]).all()
    assert not found.significant[[3, 4, 5, 6]].any()
    assert len(found.units) == 96
    assert np.isfinite(found.t[7])
    nothing = localizer(np.ones((3, 100)), np.ones((4, 100)), SHEET, permutations=9)
    assert len(nothing.units) == 0
    assert (nothing.moran.i, nothing.p_items) == (None, None)


def test_top_is_a_share_or_a_number() -> None:
    one, other = noise()
    for top, k in ((0.25, 25), (7, 7), (0.001, 1), (100, 100)):
        assert len(localizer(one, other, SHEET, top=top, permutations=9).units) == k


def test_the_same_seed_gives_the_same_p() -> None:
    one, other = noise()
    a, b, c = (localizer(one, other, SHEET, permutations=300, seed=seed) for seed in (1, 1, 2))
    assert (a.moran.p, a.p_items) == (b.moran.p, b.p_items) != (c.moran.p, c.p_items)


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ({"one": np.zeros(100)}, r"one: got shape \(100,\), expected numbers of shape \(items, units\)"),
        ({"other": np.zeros((5, 99))}, r"other: got 99 units, expected the 100 units of Grid\(10, 10\)"),
        ({"one": np.zeros((1, 100))}, "one: got 1 items, expected at least 2"),
        ({"one": "words"}, "one: got"),
        ({"geometry": 3}, "geometry: got 3, expected a Geometry"),
        ({"top": 101}, "top: got 101, expected a whole number from 1 to 100"),
        ({"top": 2.5}, "top: got 2.5, expected a whole number"),
        ({"top": -1}, "top: got -1, expected a finite number of at least 0"),
        ({"level": 0}, "level: got 0, expected a number between 0 and 1"),
        ({"permutations": 0}, "permutations: got 0, expected a whole number from 1 to 100,000"),
        ({"seed": -1}, "seed: got -1, expected a whole number of at least 0"),
    ],
)
def test_what_does_not_fit(differs: dict[str, Any], said: str) -> None:
    one, other = noise(5)
    values = {"one": one, "other": other, "geometry": SHEET} | differs
    with pytest.raises((ValueError, TypeError), match=said):
        localizer(**values)


# --- corrected p -----------------------------------------------------------------------------------------------------


def test_corrected_for_false_discoveries() -> None:
    p = np.random.default_rng(0).uniform(size=50) ** 3
    np.testing.assert_allclose(fdr(p), stats.false_discovery_control(p), rtol=1e-14)
    np.testing.assert_allclose(fdr([0.02, None, 0.5, float("nan"), 0.01]), [0.03, np.nan, 0.5, np.nan, 0.03])
    assert len(fdr([])) == 0
    with pytest.raises(ValueError, match=r"p: got .*, expected numbers from 0 to 1"):
        fdr([0.5, 1.5])


# --- minimal pairs ---------------------------------------------------------------------------------------------------


def test_pairs_by_paradigm() -> None:
    good = [-1.0, -2.0, -3.0, -4.0, float("nan"), -1.0]
    bad = [-2.0, -2.0, -2.0, -5.0, -1.0, -np.inf]
    found = minimal_pairs(good, bad, ["a", "a", "b", "b", "a", "c"])
    assert list(found) == ["a", "b", "c"]
    assert (found["a"].accuracy, found["a"].pairs, found["a"].left_out) == (0.75, 2, 1)
    assert found["b"].accuracy == 0.5
    assert (found["c"].accuracy, found["c"].interval, found["c"].left_out) == (None, None, 1)
    for right, n in ((0, 5), (3, 7), (40, 41), (999, 1000)):
        one = minimal_pairs(np.arange(n) < right, np.full(n, 0.5), ["x"] * n)["x"]
        interval = stats.binomtest(right, n).proportion_ci(0.95, "wilson")
        np.testing.assert_allclose(one.interval, interval, atol=1e-12)
    assert minimal_pairs([], [], []) == {}
    for values, said in (
        (([1.0], [1.0, 2.0], ["a"]), "bad: got 2 entries, expected 1, as many as good"),
        (([1.0], [1.0], []), "paradigms: got 0 entries, expected 1"),
        (([1.0], [1.0], "a"), "paradigms: got a, expected a list of names"),
    ):
        with pytest.raises((ValueError, TypeError), match=said):
            minimal_pairs(*values)
