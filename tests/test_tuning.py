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
from locality_prior.analysis import effective_dimension, patches, selectivity, smoothness

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
def test_smoothness_pair_by_pair(name: str) -> None:
    sheet = SHEETS[name]
    values = np.random.default_rng(2).normal(size=30)
    d = sheet.distances().numpy()
    bins: dict[int, list[float]] = {}
    for i, j in itertools.permutations(range(30), 2):
        bins.setdefault(math.floor(d[i, j] / sheet.neighbour_distance + 0.5), []).append(abs(values[i] - values[j]))
    y = [statistics.mean(bins[k]) for k in sorted(bins)]
    assert smoothness(values, sheet) == pytest.approx((max(y) - y[0]) / max(y))


def test_smoothness_of_a_slope_of_noise_and_of_nothing() -> None:
    line = lp.Line(100)
    slope = smoothness(np.arange(100.0), line)
    noise = smoothness(np.random.default_rng(0).permutation(100.0 * np.arange(100)), line)
    assert slope == pytest.approx(98 / 99)
    assert slope is not None
    assert noise is not None
    assert noise < slope
    for nothing in (np.ones(100), np.full(100, np.nan)):
        assert smoothness(nothing, line) is None
    assert smoothness([1.0, 2.0], lp.Line(2)) is None  # one distance


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
