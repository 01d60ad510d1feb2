"""Selectivity, patches, smoothness and dimension, each against the slowest way to say it."""

from __future__ import annotations

import itertools
import math
import statistics
from typing import Any

import numpy as np
import pytest
from scipy import stats

import locality_prior as lp
from locality_prior.analysis import effective_dimension, nested_patches, patches, selectivity, smoothness

SHEETS: dict[str, lp.Geometry] = {
    "sheet": lp.Grid(5, 6),
    "torus": lp.Grid(5, 6, periodic=True),
    "hexagons": lp.HexGrid(5, 6),
    "sphere": lp.Sphere(30),
    "ring": lp.Line(30, periodic=True),
}


def test_selectivity_class_by_class() -> None:
    rng = np.random.default_rng(0)
    a, labels = rng.normal(size=(40, 3)), rng.integers(0, 4, 40)
    a[:, 1] += labels == 2
    found = selectivity(a, labels)
    for k, u in itertools.product(range(4), range(3)):
        one = [float(x) for x, y in zip(a[:, u], labels, strict=True) if y == k]
        rest = [float(x) for x, y in zip(a[:, u], labels, strict=True) if y != k]
        apart = statistics.mean(one) - statistics.mean(rest)
        spread = math.sqrt((statistics.variance(one) + statistics.variance(rest)) / 2)
        assert found.d_prime[k, u] == pytest.approx(apart / spread)
        assert found.t[k, u] == pytest.approx(stats.ttest_ind(one, rest, equal_var=False).statistic)
    assert found.t[2, 1] == found.t[2].max()


def test_selectivity_is_nan_where_undefined() -> None:
    found = selectivity([[1.0, 2], [1, 3], [1, 4], [1, 6]], [0, 0, 2, 2])
    assert np.isnan(found.d_prime[1]).all()  # a class without an image
    assert np.isnan(found.t[:, 0]).all()  # a unit that does not vary
    assert found.t[2, 1] == pytest.approx(2.5 / math.sqrt(0.5 / 2 + 2 / 2))
    for labels in ([0, 1, 2], [0.0, 1, 1, 0], [-1, 0, 0, 1]):
        with pytest.raises(ValueError, match="labels: got"):
            selectivity(np.zeros((4, 2)), labels)


def flooded(values: Any, d: Any, threshold: float, radius: float) -> list[set[int]]:
    """Patches by flooding from each unit that is in none yet."""
    left, found = {u for u, v in enumerate(values) if v > threshold}, []
    while left:
        patch, edge = set(), {min(left)}
        while edge:
            patch |= edge
            edge = {v for u in edge for v in left if d[u][v] <= radius} - patch
        found.append(patch)
        left -= patch
    return found


@pytest.mark.parametrize("name", SHEETS)
@pytest.mark.parametrize("threshold", [-0.5, 0.3, 1.0])
def test_patches_are_what_a_flood_reaches(name: str, threshold: float) -> None:
    sheet = SHEETS[name]
    values = np.random.default_rng(1).normal(size=30)
    d = sheet.distances().numpy()
    expected = flooded(values, d.tolist(), threshold, 1.5 * sheet.neighbour_distance)
    found = patches(values, sheet, threshold)
    numbered = [set(np.flatnonzero(found == k).tolist()) for k in range(found.max() + 1)]
    assert sorted(map(sorted, numbered)) == sorted(map(sorted, expected))
    sizes = [len(p) for p in numbered]
    assert sizes == sorted(sizes, reverse=True)
    assert set(np.flatnonzero(found == -1)) == {u for u in range(30) if values[u] <= threshold}


def test_no_patch_and_one() -> None:
    assert (patches(np.zeros(30), SHEETS["sheet"], 1) == -1).all()
    assert (patches(np.zeros(30), SHEETS["sheet"], -1) == 0).all()
    assert patches([1.0, 0, 1, 0, 1], lp.Line(5), 0.5).tolist() == [0, -1, 1, -1, 2]
    assert patches([1.0, 0, 1, 0, 1], lp.Line(5), 0.5, radius=2).tolist() == [0, -1, 0, -1, 0]
    with pytest.raises(ValueError, match="values: got 4 units"):
        patches(np.zeros(4), lp.Line(5), 0)


@pytest.mark.parametrize("name", SHEETS)
def test_nested_patches_class_by_class(name: str) -> None:
    sheet, thresholds = SHEETS[name], [-0.5, 0.4, 1.3, 2.1]
    maps = np.random.default_rng(4).normal(size=(4, 30))
    d = sheet.distances().numpy()
    found = nested_patches(maps, sheet, thresholds)
    beyond = []
    for k, threshold in enumerate(thresholds):
        floods = [flooded(row, d.tolist(), threshold, 1.5 * sheet.neighbour_distance) for row in maps]
        largest = [min(flood, key=lambda patch: (-len(patch), min(patch))) for flood in floods if flood]
        pairs = list(itertools.combinations(largest, 2))
        within = [len(a & b) / min(len(a), len(b)) for a, b in pairs]
        chance = [max(len(a), len(b)) / 30 for a, b in pairs]
        beyond.append(statistics.mean(within) - statistics.mean(chance))
        assert found.threshold[k] == threshold
        assert found.pairs[k] == len(pairs) > 0
        assert found.size[k] == pytest.approx(statistics.mean(map(len, largest)))
        assert found.containment[k] == pytest.approx(statistics.mean(within))
        assert found.chance[k] == pytest.approx(statistics.mean(chance))
    assert len({round(x, 6) for x in found.containment}) > 1
    assert found.score == pytest.approx(statistics.mean(beyond))


def test_hills_within_one_another_and_apart() -> None:
    line = lp.Line(40)
    x = np.arange(40.0)
    within = nested_patches([4 - abs(x - 20), 8 - abs(x - 21)], line, [0, 2])
    assert within.containment.tolist() == [1, 1]
    assert within.chance.tolist() == [15 / 40, 11 / 40]
    assert within.size.tolist() == [11, 7]
    assert within.score == pytest.approx(1 - 13 / 40)
    apart = nested_patches([4 - abs(x - 5), 8 - abs(x - 30)], line, [0])
    assert apart.containment.tolist() == [0]
    assert apart.score == pytest.approx(-15 / 40)
    # the smaller hill of a class does not count
    hills = np.maximum(4 - abs(x - 5), 8 - abs(x - 30))
    assert nested_patches([hills, 4 - abs(x - 5)], line, [0]).containment.tolist() == [0]


def test_places_drawn_at_random_overlap_by_chance() -> None:
    # every unit a neighbour of every other: a patch is all that is above
    everywhere = lp.Distances(1 - np.eye(60))
    found = nested_patches(np.random.default_rng(5).normal(size=(80, 60)), everywhere, [0.0, 1.0])
    assert (found.pairs == 80 * 79 // 2).all()
    np.testing.assert_allclose(found.containment, found.chance, atol=0.01)


def test_nothing_to_nest() -> None:
    maps = np.array([[1.0, 3, np.nan], [2.0, np.nan, np.nan], [np.nan] * 3])
    found = nested_patches(maps, lp.Line(3), [0, 1.5, 2.5, 9])
    assert found.pairs.tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(found.size, [1.5, 1, 1, np.nan])
    np.testing.assert_array_equal(found.containment, [1, 0, np.nan, np.nan])
    np.testing.assert_allclose(found.chance, [2 / 3, 1 / 3, np.nan, np.nan])
    assert found.score == pytest.approx((1 - 2 / 3 + 0 - 1 / 3) / 2)
    assert nested_patches(maps, lp.Line(3), [9]).score is None
    assert nested_patches(maps[:1], lp.Line(3), [0]).score is None
    with pytest.raises(ValueError, match="values: got 3 units"):
        nested_patches(maps, lp.Line(4), [0])
    for thresholds in ([], [1, 1], [2, 1], [0, np.nan]):
        with pytest.raises(ValueError, match="thresholds: got"):
            nested_patches(maps, lp.Line(3), thresholds)


@pytest.mark.parametrize("name", SHEETS)
def test_smoothness_pair_by_pair(name: str) -> None:
    sheet = SHEETS[name]
    values = np.random.default_rng(2).normal(size=30)
    d = sheet.distances().numpy()
    bins: dict[int, list[float]] = {}
    for i, j in itertools.permutations(range(30), 2):
        if d[i, j] > d.max() / 2 + 1e-9:
            continue
        bins.setdefault(math.floor(d[i, j] / sheet.neighbour_distance + 0.5), []).append(abs(values[i] - values[j]))
    y = [statistics.mean(bins[k]) for k in sorted(bins)]
    expected = pytest.approx((max(y) - y[0]) / max(y)) if len(y) > 1 else None
    assert smoothness(values, sheet).score == expected


def test_smoothness_of_a_slope_and_of_nothing() -> None:
    line = lp.Line(100)
    assert smoothness(np.arange(100.0), line).score == pytest.approx(48 / 49)
    for nothing in (np.ones(100), np.full(100, np.nan)):
        assert smoothness(nothing, line).score is None
    assert smoothness([1.0, 2.0], lp.Line(2)).score is None  # one distance


def test_smoothness_of_noise_is_near_nothing() -> None:
    # the few pairs of opposite corners, which differ by chance, do not count
    noise = np.random.default_rng(0).normal(size=(40, 24 * 24)) ** 2
    score = smoothness(noise, lp.Grid(24, 24)).score
    assert 0 <= score.min() <= score.max() < 0.06
    assert score.mean() < 0.025
    row, column = np.indices((24, 24)).reshape(2, -1)
    waves = np.sin(np.stack([row, column, row + column]) / 4)
    assert smoothness(waves, lp.Grid(24, 24)).score.min() > 0.6


def test_smoothness_leaves_out_units_without_a_value() -> None:
    rng = np.random.default_rng(0)
    xy, values = rng.random((40, 2)), rng.normal(size=(3, 40))
    values[0, [3, 8]] = np.nan
    values[2, 1] = np.inf
    found = smoothness(values, lp.Points(xy))
    assert found.left_out.tolist() == [2, 0, 1]
    assert np.isfinite(found.score).all()
    for k in range(3):
        one = smoothness(values[k], lp.Points(xy))
        assert (one.score, one.left_out) == (pytest.approx(found.score[k]), found.left_out[k])
    # a unit that never responds has no d′: the others are measured
    a = np.maximum(rng.normal(size=(50, 30)), 0)
    a[:, 4] = 0
    maps = selectivity(a, np.arange(50) % 5).d_prime
    found = smoothness(maps, lp.Grid(5, 6))
    assert (found.left_out == 1).all()
    assert np.mean(found.score) > 0


def test_patches_of_many_maps_are_those_of_each() -> None:
    maps = np.random.default_rng(6).normal(size=(2, 3, 30))
    found = patches(maps, SHEETS["sheet"], 0.3)
    assert found.shape == maps.shape
    for k in np.ndindex(2, 3):
        np.testing.assert_array_equal(found[k], patches(maps[k], SHEETS["sheet"], 0.3))


@pytest.mark.parametrize(("images", "units"), [(50, 8), (8, 50)])
def test_dimension_is_of_the_eigenvalues(images: int, units: int) -> None:
    a = np.random.default_rng(3).normal(size=(images, units)) * np.geomspace(1, 20, units)
    eigenvalues = np.linalg.eigvalsh(np.cov(a.T))
    assert effective_dimension(a) == pytest.approx(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum())
    assert effective_dimension(1e-200 * a) == pytest.approx(effective_dimension(a))


def test_dimension_at_its_ends() -> None:
    together = np.outer(np.arange(9.0), np.ones(5))
    assert effective_dimension(together) == pytest.approx(1)
    assert effective_dimension(np.vstack([np.eye(5), -np.eye(5)])) == pytest.approx(5)
    assert effective_dimension(np.ones((4, 5))) is None
    assert effective_dimension(np.full((4, 5), np.inf)) is None
