"""Measures of maps against definitions written out as loops, tiny cases by hand, and scipy."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy import stats

from locality_prior.analysis import (
    SignedMaps,
    _given,
    class_means,
    effective_dimension,
    holm,
    maps,
    mean_interval,
    modularity,
    morans_i,
    nested_patches,
    paired_comparison,
    paired_t_test,
    patches,
    response_correlation,
    seeds_needed,
    selectivity,
    small_worldness,
    smoothness,
    spatial_variance,
    wire_lengths,
)
from locality_prior.geometry import Distances, Geometry, Graph, Grid, HexGrid, Line, Points, Sphere

INF = math.inf
PATH = np.diag([1.0, 2.0, 0.5, 1.0], 1) + np.diag([1.0, 2.0, 0.5, 1.0], -1)  # five nodes in a row
PAIRS = np.kron(np.eye(2), [[0, 1], [1, 0]])  # two components of two nodes


def random(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def variance_by_hand(a, d):
    """½ ΣΣ p_i p_j d_ij² / (1 − Σp²), for one image."""
    p = [x / sum(a) for x in a]
    total = 0.0
    for i in range(len(p)):
        for j in range(len(p)):
            total += p[i] * p[j] * d[i][j] ** 2 / 2
    return total / (1 - sum(x * x for x in p))


EUCLIDEAN = [
    Grid(4, 5),
    Grid(3, 4, spacing=(0.5, 2.0)),
    Grid(2, 3, 2),
    Line(7),
    Grid(3, 3, units=7),
    HexGrid(4, 3),
    Points(random(9, 3, seed=1)),
    Grid(2, 3).with_channels(3),
]
OTHERS = [
    Grid(4, 5, periodic=True),
    Grid(3, 4, periodic=(True, False)),
    Sphere(14),
    Graph(PATH),
    Points(random(8, 2, seed=1), "cityblock"),
    Grid(2, 3, periodic=True).with_channels(2),
]


@pytest.mark.parametrize("geometry", EUCLIDEAN + OTHERS, ids=repr)
def test_spatial_variance_is_the_pairwise_sum(geometry):
    a = random(4, len(geometry)) ** 3
    a[0, 2:] = 0  # two active units
    expected = [variance_by_hand(row, geometry.distances().numpy()) for row in a]
    np.testing.assert_allclose(spatial_variance(a, geometry), expected, rtol=1e-11)


def test_moments_on_euclidean_geometries_equal_the_pairwise_form():
    geometry, a = Grid(6, 6).with_channels(4), random(3, 144)
    pairwise = spatial_variance(a, Distances(geometry.distances()))
    np.testing.assert_allclose(spatial_variance(a, geometry), pairwise, rtol=1e-12)


def test_spatial_variance_by_hand():
    # two equal units 3 apart: ½ · 2 · ¼ · 9 / (1 − ½); thrice as much in one: ½ · 2 · 3/16 · 9 / (1 − 10/16)
    a = [[1, 0, 0, 1], [0, 2, 0, 0], [3, 0, 0, 1]]
    np.testing.assert_allclose(spatial_variance(np.array(a), Line(4)), [4.5, np.nan, 4.5])
    np.testing.assert_allclose(spatial_variance(np.array(a), Line(4, periodic=True)), [0.5, np.nan, 0.5])
    # equal activity on a line of n units: the sample variance of 0 … n − 1
    uniform = spatial_variance(np.ones((1, 6)), Line(6))
    np.testing.assert_allclose(uniform, [np.var(range(6), ddof=1)], rtol=1e-14)


def test_spatial_variance_of_channels_at_one_place_is_zero():
    at_one_place = np.zeros((1, 36 * 3))
    at_one_place[0, [7, 43, 79]] = 1, 2, 3
    np.testing.assert_allclose(spatial_variance(at_one_place, Grid(6, 6).with_channels(3)), [0], atol=1e-14)


@pytest.mark.parametrize("geometry", [Line(4), Line(4, periodic=True)], ids=repr)
def test_spatial_variance_is_nan_where_undefined_and_only_there(geometry):
    a = np.ones((8, 4))
    a[1, 0], a[2, 3], a[3, 1], a[4, 2] = -1e-9, np.nan, INF, -INF
    a[5], a[6] = 0, [0, 5, 0, 0]
    with pytest.warns(SignedMaps, match="activations: 2 maps have negative values"):
        undefined = np.isnan(spatial_variance(a, geometry))
    assert undefined.tolist() == [False, True, True, True, True, True, True, False]


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("faint", [1e-9, 1e-17, 1e-250])
def test_spatial_variance_keeps_its_digits_beside_one_dominant_unit(faint, periodic):
    # where one unit k has nearly all activity, σ² → Σ_j a_j d_kj² / 2 Σ_j a_j over the others
    a = np.full((1, 5), faint)
    a[0, 0] = 1
    d = Line(5, periodic=periodic).distances()[0].numpy()
    np.testing.assert_allclose(spatial_variance(a, Line(5, periodic=periodic)), (d**2).sum() / 8, rtol=2e-8)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_spatial_variance_does_not_depend_on_the_scale_of_activity(scale):
    a = random(2, 20)
    np.testing.assert_allclose(spatial_variance(a * scale, Grid(4, 5)), spatial_variance(a, Grid(4, 5)), rtol=1e-12)


def test_spatial_variance_far_from_the_origin():
    near, a = random(6, 2), random(1, 6)
    far = np.round(near * 2**10) / 2**10 + 2.0**30
    np.testing.assert_allclose(spatial_variance(a, Points(far)), spatial_variance(a, Points(far - 2.0**30)), rtol=1e-12)


def test_spatial_variance_without_a_way_between_two_active_units():
    a = np.array([[1.0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 3], [1, 1, 1, 1]])
    np.testing.assert_allclose(spatial_variance(a, Graph(PAIRS)), [0.5, np.nan, 0.5, np.nan])
    # no wire from a unit to itself is no obstacle
    lengths = np.where(np.eye(4, dtype=bool), INF, Line(4).distances().numpy())
    np.testing.assert_allclose(spatial_variance(a, Distances(lengths)), spatial_variance(a, Line(4)))


def test_spatial_variance_returns_the_kind_it_was_given():
    a = random(300, 6)
    array = spatial_variance(a, Line(6))
    assert array.dtype == np.float64
    assert array.shape == (300,)
    given = torch.from_numpy(a).requires_grad_()
    tensor = spatial_variance(given, Line(6))
    assert tensor.dtype == torch.float64
    assert not tensor.requires_grad
    assert tensor.tolist() == array.tolist()
    half = torch.from_numpy(a).bfloat16()
    assert spatial_variance(half, Line(6)).tolist() == spatial_variance(half.double(), Line(6)).tolist()
    assert spatial_variance(a[:0], Line(6)).shape == (0,)


@pytest.mark.parametrize("sheet", [Grid(3, 4), Grid(3, 4, periodic=True)], ids=repr)
def test_spatial_variance_of_maps_in_any_shape(sheet):
    a = random(2, 5, 12)
    flat = spatial_variance(a.reshape(10, 12), sheet)
    np.testing.assert_array_equal(spatial_variance(a, sheet), flat.reshape(2, 5))
    assert spatial_variance(torch.from_numpy(a), sheet).shape == (2, 5)
    assert spatial_variance(a[0, 0], sheet) == flat[0]
    assert isinstance(spatial_variance(a[0, 0], sheet), float)
    assert spatial_variance(np.zeros(12), sheet) is None
    assert spatial_variance(torch.from_numpy(a[0, 0]), sheet).tolist() == flat[0]


def test_signed_maps_are_told_once_and_can_be_counted_instead():
    a = random(3, 4)
    a[1, 2] = -1
    with pytest.warns(SignedMaps, match=r"^activations: 1 map has negative values, and so no spatial variance"):
        spatial_variance(a, Line(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SignedMaps)
        assert np.isnan(spatial_variance(a, Line(4))).sum() == 1


@pytest.mark.parametrize("measure", [spatial_variance, response_correlation])
@pytest.mark.parametrize(
    ("activations", "message"),
    [
        (np.ones((2, 3)), r"activations: got 3 units, expected the 4 units of Grid\(4\)"),
        (np.ones((2, 4), complex), r"activations: got complex128 \(2, 4\), expected an array of numbers"),
        (np.array([["a"] * 4]), r"activations: got <U1 \(1, 4\), expected an array of numbers"),
        ([[1, 2], [1]], r"activations: got \[\[1, 2\], \[1\]\], expected an array of numbers"),
    ],
)
def test_activations_that_do_not_fit(measure, activations, message):
    with pytest.raises(ValueError, match=message) as error:
        measure(activations, Line(4))
    assert "\n" not in str(error.value)


def test_activations_that_are_not_images_of_units():
    for given in (np.ones(4), torch.ones(1, 2, 4)):
        with pytest.raises(ValueError, match=r"activations: got shape .*, expected numbers of shape \(images, units\)"):
            response_correlation(given, Line(4))
    with pytest.raises(ValueError, match=r"activations: got shape \(\), expected numbers of shape \(…, units\)"):
        spatial_variance(1.0, Line(4))


@pytest.mark.parametrize("measure", [spatial_variance, response_correlation])
def test_lengths_between_two_layers_are_no_sheet(measure):
    with pytest.raises(ValueError, match=r"geometry: got Distances.*expected distances among its own units"):
        measure(random(3, 2), Distances(np.ones((2, 3))))


def test_paired_t_test_is_scipys():
    a, b = random(30), random(30, seed=1) + 0.1
    expected = stats.ttest_rel(a, b)
    test = paired_t_test(a, torch.from_numpy(b))
    assert test.t == pytest.approx(expected.statistic, rel=1e-12)
    assert test.p == pytest.approx(expected.pvalue, rel=1e-12)
    assert test.mean_difference == pytest.approx((a - b).mean(), rel=1e-12)
    assert (test.n, test.dropped) == (30, 0)
    assert test.t < 0 < paired_t_test(b, a).t


def test_paired_t_test_drops_a_pair_with_a_nan_from_both_sides():
    a, b = random(12), random(12, seed=1)
    a[2], b[[2, 5]], b[7] = np.nan, np.nan, INF
    keep = [i for i in range(12) if i not in (2, 5, 7)]
    test, kept = paired_t_test(a, b), paired_t_test(a[keep], b[keep])
    assert (test.t, test.p, test.mean_difference) == (kept.t, kept.p, kept.mean_difference)
    assert test.t is not None
    assert (test.n, test.dropped) == (9, 3)


@pytest.mark.parametrize(
    ("a", "b", "n", "mean"),
    [
        ([], [], 0, None),
        ([np.nan], [1.0], 0, None),
        ([3.0, np.nan], [1.0, 1.0], 1, 2.0),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 3, 0.0),
        ([0.1, 0.2, 0.3], [0.2, 0.3, 0.4], 3, -0.1),  # equal differences, but for rounding
    ],
)
def test_paired_t_test_is_none_where_undefined(a, b, n, mean):
    test = paired_t_test(a, b)
    assert (test.t, test.p, test.n, test.dropped) == (None, None, n, len(a) - n)
    assert test.mean_difference == (None if mean is None else pytest.approx(mean))


def test_paired_t_test_errors():
    with pytest.raises(ValueError, match="control: got 2 values, expected 3, as many as treatment"):
        paired_t_test([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"treatment: got shape \(1, 2\), expected numbers of shape \(pairs,\)"):
        paired_t_test([[1, 2]], [1, 2])


def correlation_by_hand(a, d, bin_of):
    """Pairs' distances and correlations, and those correlations by bin."""
    distances, correlations, bins = [], [], {}
    for i in range(a.shape[1]):
        for j in range(i + 1, a.shape[1]):
            if np.ptp(a[:, i]) > 0 and np.ptp(a[:, j]) > 0 and d[i][j] < INF:
                distances.append(d[i][j])
                correlations.append(np.corrcoef(a[:, i], a[:, j])[0, 1])
                bins.setdefault(bin_of(d[i][j]), []).append((distances[-1], correlations[-1]))
    return distances, correlations, [np.array(bins[b]).T for b in sorted(bins)]


@pytest.mark.parametrize(
    "geometry",
    [Grid(4, 3), Grid(3, 4, spacing=0.1), HexGrid(3, 4), Sphere(12), Grid(2, 3).with_channels(2), Graph(PATH)],
    ids=repr,
)
def test_response_correlation_by_hand(geometry):
    a = random(15, len(geometry)) - 0.5
    a[:, 3] = 0.1  # silent
    h = geometry.neighbour_distance
    d, r, bins = correlation_by_hand(a, geometry.distances().numpy(), lambda d: math.floor(d / h + 0.5))
    curve = response_correlation(a, geometry)
    assert curve.silent == 1
    assert curve.pairs.tolist() == [len(x) for x, _ in bins]
    np.testing.assert_allclose(curve.distance, [x.mean() for x, _ in bins], rtol=1e-12)
    np.testing.assert_allclose(curve.correlation, [y.mean() for _, y in bins], rtol=1e-10)
    sem = [y.std(ddof=1) / math.sqrt(len(y)) if len(y) > 1 else np.nan for _, y in bins]
    np.testing.assert_allclose(curve.sem, sem, rtol=1e-10)
    assert curve.score == pytest.approx(stats.pearsonr(r, 1 / (1 + np.array(d))).statistic, rel=1e-10)


def test_response_correlation_in_bins_of_ones_own():
    a = random(10, 6)
    curve = response_correlation(a, Line(6), bins=[1, 2, 2.5, 4])  # [1, 2), [2, 2.5), [2.5, 4]: 5 is outside
    _, _, bins = correlation_by_hand(a, Line(6).distances().numpy(), {1: 0, 2: 1, 3: 2, 4: 2, 5: 3}.get)
    assert curve.pairs.tolist() == [5, 4, 5]
    np.testing.assert_allclose(curve.distance, [1, 2, 17 / 5])
    np.testing.assert_allclose(curve.correlation, [y.mean() for _, y in bins[:3]])
    assert curve.score == response_correlation(a, Line(6)).score
    assert response_correlation(a, Line(6), bins=[2.2, 2.8]).pairs.tolist() == []


def test_a_smooth_map_scores_high_and_a_shuffled_one_does_not():
    sheet = Grid(8, 8)
    smooth = np.random.default_rng(0).normal(size=(400, 64)) @ np.exp(-(sheet.distances().numpy() ** 2) / 8)
    shuffled = np.random.default_rng(1).permuted(smooth, axis=1)
    assert response_correlation(smooth, sheet).score > 0.8
    assert abs(response_correlation(shuffled, sheet).score) < 0.1
    near_to_far = response_correlation(smooth, sheet).correlation
    assert near_to_far[0] > 0.7 > 0.2 > near_to_far[5]


def test_response_correlation_leaves_out_pairs_without_a_way_and_units_without_a_response():
    a = random(9, 4)
    curve = response_correlation(a, Graph(PAIRS))
    assert curve.pairs.tolist() == [2]
    within = [np.corrcoef(a[:, i], a[:, i + 1])[0, 1] for i in (0, 2)]
    np.testing.assert_allclose(curve.correlation, [np.mean(within)])
    assert curve.score is None  # all pairs at one distance
    a[:, 3] = 0.1
    for broken in (np.nan, INF, -INF):
        a[2, 1] = broken
        curve = response_correlation(a, Line(4))
        assert (curve.silent, curve.pairs.tolist(), curve.distance.tolist()) == (2, [1], [2])
        assert np.isnan(curve.sem).tolist() == [True]
        assert curve.score is None
    silent = response_correlation(np.ones((3, 4)), Line(4))
    assert (silent.silent, silent.score, len(silent.pairs)) == (4, None, 0)


def test_response_correlation_of_identical_units_is_one_and_has_no_score():
    a = np.outer(random(7), [1, 2, 1e-200, 1e200, 5])
    curve = response_correlation(a, Line(5))
    np.testing.assert_allclose(curve.correlation, 1, rtol=1e-14)
    assert curve.score is None


def test_response_correlation_has_no_score_where_distances_differ_by_rounding():
    triangle = Points(np.array([[0, 0], [1, 0], [0.5, math.sqrt(3) / 2]]) + 1000.3)
    assert len(set(triangle.distances()[[0, 0, 1], [1, 2, 2]].tolist())) > 1
    assert response_correlation(random(9, 3), triangle).score is None


def test_lengths_that_differ_by_direction_count_with_their_mean():
    lengths = Line(4).distances().numpy()
    skewed = lengths + np.triu(np.full((4, 4), 0.5), 1) - np.tril(np.full((4, 4), 0.5), -1)
    a = random(8, 4)
    bins = [0.75, 1.75, 2.75, 3.75]
    both, plain = (response_correlation(a, Distances(x), bins) for x in (skewed, lengths))
    np.testing.assert_allclose(both.distance, plain.distance)
    assert both.score == pytest.approx(plain.score)


def test_response_correlation_errors():
    with pytest.raises(ValueError, match="activations: got 1 images, expected at least 2"):
        response_correlation(random(1, 4), Line(4))
    for bins in ([1.0], [1, 1], [2, 1], [1, np.nan]):
        with pytest.raises(ValueError, match=r"bins: got .*, expected two or more increasing edges"):
            response_correlation(random(3, 4), Line(4), bins)
    with pytest.raises(ValueError, match=r"bins: got shape \(\), expected numbers of shape \(edges,\)"):
        response_correlation(random(3, 4), Line(4), 5)


def moran_by_hand(v, d, radius):
    z, n = np.asarray(v) - np.mean(v), len(v)
    total = s0 = 0.0
    for i in range(n):
        near = [j for j in range(n) if j != i and 0 < d[i][j] <= radius + 1e-9]
        for j in near:
            s0 += 1 / len(near)
            total += z[i] * z[j] / len(near)
    return n / s0 * total / (z @ z)


@pytest.mark.parametrize(
    ("geometry", "radius"),
    [
        (Grid(4, 5), None),
        (Grid(4, 5, periodic=True), 1.0),
        (Grid(3, 4, spacing=0.1), None),
        (Grid(3, 4, spacing=0.1), 0.3),  # 3 · 0.1 > 0.3 in floating point: the edge is within
        (HexGrid(4, 4), None),
        (Sphere(20), 2.5),
        (Points([[0.0, 0], [0, 1], [1, 0], [0, 0], [9, 9]]), 1.2),  # two units at one place, an island
        (Grid(2, 3).with_channels(2), None),
        (Grid(20, 20), None),  # few neighbours: sparse weights
    ],
    ids=repr,
)
def test_morans_i_by_hand(geometry, radius):
    v = random(len(geometry))
    expected = moran_by_hand(v, geometry.distances().numpy(), radius or 1.5 * geometry.neighbour_distance)
    moran = morans_i(v, geometry, permutations=9, radius=radius)
    assert moran.i == pytest.approx(expected, rel=1e-10)
    assert moran.expected == pytest.approx(-1 / (len(v) - 1))


@pytest.mark.parametrize("side", [6, 24], ids=["dense weights", "sparse weights"])
def test_morans_i_tells_order_from_noise(side):
    sheet = Grid(side, side)
    row, column = sheet.positions.numpy().T
    gradient = morans_i(row + column, sheet)
    assert gradient.i > 0.7
    assert gradient.p == 1 / 1000
    checkerboard = morans_i((row + column) % 2, Grid(side, side, periodic=True), radius=1)
    assert checkerboard.i == pytest.approx(-1, rel=1e-12)
    assert checkerboard.p == 1
    noise = morans_i(random(side**2, seed=3), sheet)
    assert abs(noise.i) < 0.15
    assert 0.02 < noise.p < 0.98


def test_morans_p_is_uniform_under_noise():
    p = [morans_i(random(36, seed=s), Grid(6, 6), permutations=99, seed=s).p for s in range(200)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_morans_p_is_exact_where_every_shuffle_can_be_told():
    # 1 0 0 on a line with neighbours at 1: I is higher with the 1 at an end (2 of 3 places) than in the middle
    end, middle = (morans_i(v, Line(3), permutations=9999) for v in ([1, 0, 0], [0, 1, 0]))
    assert end.i > middle.i
    assert end.p == pytest.approx(2 / 3, abs=0.02)
    assert middle.p == 1


def test_morans_p_follows_the_seed_alone():
    v, sheet = random(36, seed=5), Grid(6, 6)
    first = morans_i(v, sheet, seed=1)
    np.random.default_rng().random()
    again = morans_i(torch.from_numpy(v), sheet, seed=1)
    assert (again.i, again.p) == (first.i, first.p)
    assert len({morans_i(v, sheet, seed=s).p for s in range(5)}) > 1
    assert {morans_i(v, sheet, seed=s).i for s in range(5)} == {first.i}


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_morans_i_does_not_depend_on_the_scale_of_the_map(scale):
    v = random(20)
    assert morans_i(v * scale, Grid(4, 5)).i == pytest.approx(morans_i(v, Grid(4, 5)).i, rel=1e-10)


@pytest.mark.parametrize(
    ("values", "geometry", "radius"),
    [
        ([0.1] * 6, Line(6), None),
        ([np.nan] * 6, Line(6), None),
        ([1, 2, 3, 4, 5, 6], Line(6), 0.5),
        ([1, 2], Points([[0.0], [0.0]]), None),
        ([1, 2], Distances([[1, INF], [INF, 1]]), None),  # a wire to itself is no neighbour
    ],
)
def test_morans_i_is_none_where_undefined(values, geometry, radius):
    moran = morans_i(values, geometry, radius=radius)
    assert (moran.i, moran.p, moran.permutations) == (None, None, 999)
    n = np.isfinite(values).sum()
    assert moran.expected == (-1 / (n - 1) if n else None)
    assert moran.left_out == len(values) - n


@pytest.mark.parametrize("missing", [np.nan, INF, -INF])
def test_morans_i_leaves_out_units_without_a_value(missing):
    v, xy = random(30), random(30, 2, seed=1)
    v[[3, 17]] = missing
    there = np.isfinite(v)
    found = morans_i(v, Points(xy), radius=0.3)
    expected = morans_i(v[there], Points(xy[there]), radius=0.3)
    assert found.i == pytest.approx(expected.i, rel=1e-12)
    assert (found.p, found.expected, found.left_out) == (expected.p, expected.expected, 2)


def test_morans_i_of_many_maps_is_that_of_each():
    sheet, v = Grid(5, 6), random(2, 4, 30)
    v[0, 1] = 3  # constant
    v[1, 2, 7] = np.nan
    v[1, 3, 7] = np.nan
    many = morans_i(v, sheet, permutations=99)
    for k in np.ndindex(2, 4):
        one = morans_i(v[k], sheet, permutations=99)
        for name in ("i", "p", "expected", "left_out"):
            single, entry = getattr(one, name), getattr(many, name)[k]
            assert np.isnan(entry) if single is None else entry == pytest.approx(single, rel=1e-13), name
    assert many.left_out.tolist() == [[0, 0, 0, 0], [0, 0, 1, 1]]
    assert morans_i(v[:0], sheet, permutations=9).i.shape == (0, 4)


@pytest.mark.parametrize(
    "sheet", [Grid(5, 4), Grid(5, 4, periodic=True), Graph(np.kron(np.eye(4), 1 - np.eye(5)))], ids=repr
)
def test_blocks_of_rows_add_up(sheet, monkeypatch):
    a, v = random(9, 20) - 0.5, random(3, 20)
    a[:, 7], v[1, 4] = 0.1, np.nan
    whole, curve = smoothness(v, sheet), response_correlation(a, sheet)
    variance = spatial_variance(v + 1, sheet)
    p = morans_i(v, sheet, permutations=20).p
    monkeypatch.setattr(_given, "ROWS", 3)
    monkeypatch.setattr(maps, "ROWS", 2)
    np.testing.assert_allclose(smoothness(v, sheet).score, whole.score, rtol=1e-12)
    again = response_correlation(a, sheet)
    assert again.pairs.tolist() == curve.pairs.tolist()
    assert again.score == (None if curve.score is None else pytest.approx(curve.score, rel=1e-12))
    for name in ("distance", "correlation", "sem"):
        np.testing.assert_allclose(getattr(again, name), getattr(curve, name), rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(spatial_variance(v + 1, sheet), variance)
    assert morans_i(v, sheet, permutations=20).p.shape == p.shape


def test_a_unit_far_away_makes_no_long_row_of_bins():
    xy = random(12, 2)
    xy[5] = 1e9
    curve = response_correlation(random(9, 12), Points(xy))
    assert curve.pairs.sum() == 66
    assert curve.pairs[-1] == 11 or curve.distance[-1] > 1e8
    assert smoothness(random(12), Points(xy)).score >= 0


def test_measures_of_many_maps_ask_for_distances_once(monkeypatch):
    asked = []
    whole = Geometry.distances

    def counted(self, other=None, rows=None):
        asked.append(len(self) if rows is None else len(rows))
        return whole(self, other, rows)

    monkeypatch.setattr(Geometry, "distances", counted)
    sheet, v = Grid(40, 30), random(10, 1200)
    for measure in (
        lambda: morans_i(v, sheet, permutations=9),
        lambda: smoothness(v, sheet),
        lambda: patches(v, sheet, 0.5),
        lambda: nested_patches(v, sheet, [0.5]),
        lambda: response_correlation(v, sheet),
    ):
        asked.clear()
        measure()
        assert sum(asked) <= 2 * 1200 + 1  # by rows: smoothness needs the largest first
        assert max(asked) <= 256


def test_morans_i_of_one_unit():
    moran = morans_i([1.0], Line(1))
    assert (moran.i, moran.p, moran.expected) == (None, None, None)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.ones((2, 3)), {}, r"values: got 3 units, expected the 6 units of Grid\(6\)"),
        (np.ones(5), {}, r"values: got 5 units, expected the 6 units of Grid\(6\)"),
        (np.ones(6), {"permutations": 0}, "permutations: got 0, expected a whole number from 1 to 100,000"),
        (
            np.ones(6),
            {"permutations": 10**9},
            "permutations: got 1000000000, expected a whole number from 1 to 100,000",
        ),
        (np.ones(6), {"seed": -1}, "seed: got -1, expected a whole number of at least 0"),
        (np.ones(6), {"radius": 0}, "radius: got 0, expected a finite number above 0"),
    ],
)
def test_morans_i_errors(values, options, message):
    with pytest.raises(ValueError, match=message):
        morans_i(values, Line(6), **options)


def test_class_means():
    a = np.array([[1.0, 2], [3, 4], [5, np.nan], [INF, 0], [-INF, 0]], np.float32)
    expected = [[2, 3], [np.nan, np.nan], [5, np.nan], [np.nan, 0]]
    for labels in ([0, 0, 2, 3, 3], torch.tensor([0, 0, 2, 3, 3], dtype=torch.uint8)):
        means = class_means(a, labels)
        assert means.dtype == np.float64
        np.testing.assert_array_equal(means, expected)
    more = class_means(torch.from_numpy(a), [0, 0, 2, 3, 3], classes=6)
    np.testing.assert_array_equal(more, [*expected, [np.nan] * 2, [np.nan] * 2])
    none = class_means(np.empty((0, 2)), np.empty(0, int), classes=1)
    np.testing.assert_array_equal(none, [[np.nan] * 2])


@pytest.mark.parametrize(
    ("activations", "labels", "classes", "message"),
    [
        (np.ones(3), [0, 1, 2], None, r"activations: got shape \(3,\), expected .* \(images, units\)"),
        (np.ones((3, 2)), [0, 1], None, r"labels: got int64 \(2,\), expected whole numbers of shape \(3,\)"),
        (np.ones((2, 2)), [0.0, 1.0], None, r"labels: got float64 \(2,\), expected whole numbers"),
        (np.ones((2, 2)), [0, 2], 2, "labels: got 2, expected whole numbers from 0 to 1"),
        (np.ones((2, 2)), [1, -1], None, "labels: got -1, expected whole numbers from 0"),
        (np.ones((1, 2)), [-1], None, "labels: got -1, expected whole numbers from 0"),
        (np.ones((1, 2)), [0], 0, "classes: got 0, expected a whole number from 1 to 134,217,728"),
        (np.ones((1, 9)), [0], 10**9, "classes: got 1000000000, expected a whole number from 1 to 29,826,161"),
        (np.ones((1, 9)), [10**9], None, "labels: got 1000000000, expected whole numbers from 0 to 29,826,160"),
        (np.ones((0, 2)), np.empty(0, int), None, "labels: got none, expected at least one"),
    ],
)
def test_class_means_errors(activations, labels, classes, message):
    with pytest.raises(ValueError, match=message):
        class_means(activations, labels, classes)


def test_large_numbers_do_not_overflow():
    sheet, a = Grid(4, 5), random(6, 20) - 0.5
    big = a / np.abs(a).max() * 1.7e308
    large, small = morans_i(big, sheet), morans_i(a, sheet)
    np.testing.assert_allclose(large.i, small.i, rtol=1e-10)
    np.testing.assert_array_equal(large.p, small.p)
    np.testing.assert_allclose(smoothness(big, sheet).score, smoothness(a, sheet).score, rtol=1e-10)
    assert response_correlation(big, sheet).score == pytest.approx(response_correlation(a, sheet).score)
    assert effective_dimension(big) == pytest.approx(effective_dimension(a))
    assert class_means(big, [0] * 6).shape == (1, 20)


# what is given

SHEET = Grid(2, 3)
ONES, LABELS = np.ones((4, 6)), [0, 0, 1, 1]
MASKED = np.ma.masked_array(ONES, ONES > 2)
MASKED[1, 2] = np.ma.masked
#: What is no array of numbers of any use, to any argument that takes one.
NO_ARRAY = {
    "nothing": None,
    "a word": "activations",
    "words": ["a", "b"],
    "ragged": [[1.0, 2.0], [1.0]],
    "a dict": {"a": 1},
    "objects": [object()],
    "complex": ONES * 1j,
    "too deep": np.ones((1, 1, 1, 1)),
    "masked": MASKED,
    "meta": torch.ones(4, 6, device="meta"),
    "sparse": torch.ones(4, 6).to_sparse(),
    "a geometry": SHEET,
}
TAKES_ARRAYS = {
    "activations": [
        lambda x: spatial_variance(x, SHEET),
        lambda x: response_correlation(x, SHEET),
        lambda x: class_means(x, LABELS),
        lambda x: selectivity(x, LABELS),
        lambda x: effective_dimension(x),
    ],
    "labels": [lambda x: class_means(ONES, x), lambda x: selectivity(ONES, x)],
    "values": [
        lambda x: morans_i(x, SHEET),
        lambda x: smoothness(x, SHEET),
        lambda x: patches(x, SHEET, 0),
        lambda x: nested_patches(x, SHEET, [0]),
        lambda x: mean_interval(x),
    ],
    "thresholds": [lambda x: nested_patches(ONES, SHEET, x)],
    "bins": [lambda x: response_correlation(ONES, SHEET, x if x is not None else "None")],
    "weights": [
        lambda x: wire_lengths(x, SHEET),
        lambda x: modularity(x),
        lambda x: small_worldness(x),
    ],
    "treatment": [lambda x: paired_t_test(x, [1.0]), lambda x: paired_comparison(x, [1.0])],
    "control": [lambda x: paired_t_test([1.0], x), lambda x: paired_comparison([1.0], x)],
    "p": [lambda x: holm(x)],
}
ARRAY_CALLS = [(f"{name} {k}", name, call) for name, calls in TAKES_ARRAYS.items() for k, call in enumerate(calls)]


@pytest.mark.parametrize("given", NO_ARRAY)
@pytest.mark.parametrize(("name", "call"), [c[1:] for c in ARRAY_CALLS], ids=[c[0] for c in ARRAY_CALLS])
def test_no_array_of_numbers(name, call, given):
    with pytest.raises((ValueError, TypeError), match=f"^{name}: got .*, expected ") as error:
        call(NO_ARRAY[given])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


GEOMETRY_CALLS = {
    "spatial_variance": lambda g: spatial_variance(ONES, g),
    "response_correlation": lambda g: response_correlation(ONES, g),
    "morans_i": lambda g: morans_i(ONES, g),
    "smoothness": lambda g: smoothness(ONES, g),
    "patches": lambda g: patches(ONES, g, 0),
    "nested_patches": lambda g: nested_patches(ONES, g, [0]),
}


@pytest.mark.parametrize("given", [None, "sheet", 6, ONES, Grid, {"type": "Grid", "shape": [2, 3]}], ids=str)
@pytest.mark.parametrize("call", GEOMETRY_CALLS.values(), ids=GEOMETRY_CALLS)
def test_no_geometry(call, given):
    with pytest.raises(TypeError, match=r"^geometry: got .*, expected a Geometry, such as Grid\(32, 32\)$"):
        call(given)


NUMBER_CALLS = {
    "permutations": lambda x: morans_i(ONES, SHEET, permutations=x),
    "seed": lambda x: morans_i(ONES, SHEET, seed=x),
    "radius": lambda x: morans_i(ONES, SHEET, radius=x if x is not None else "None"),
    "threshold": lambda x: patches(ONES, SHEET, x),
    "classes": lambda x: class_means(ONES, LABELS, x if x is not None else "None"),
    "density": lambda x: modularity(np.ones((6, 6)), x),
    "nulls": lambda x: small_worldness(np.ones((6, 6)), nulls=x),
    "resamples": lambda x: paired_comparison([1.0, 2], [2.0, 1], x),
    "effect": lambda x: seeds_needed(x),
    "power": lambda x: seeds_needed(1, x),
    "level": lambda x: seeds_needed(1, level=x),
}


NO_NUMBERS = [None, "3", [3], np.ones(2), math.nan, INF, -1, 1j, True, pytest.param(object(), id="object")]


@pytest.mark.parametrize("given", NO_NUMBERS, ids=str)
@pytest.mark.parametrize("name", NUMBER_CALLS)
def test_no_number(name, given):
    if isinstance(given, int) and given == -1 and name in ("effect", "threshold"):
        return  # a number as good as another
    with pytest.raises((ValueError, TypeError), match=f"^{name}: got .*, expected ") as error:
        NUMBER_CALLS[name](given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["permutations", "nulls", "resamples", "classes"])
def test_numbers_too_large_to_wait_for(name):
    with pytest.raises(ValueError, match=f"^{name}: got 1000000000, expected a whole number from 1 to "):
        NUMBER_CALLS[name](10**9)


def test_none_in_a_list_is_nan():
    assert paired_t_test([1.0, None, 3.0], [0.0, 1.0, 1.0]) == paired_t_test([1.0, np.nan, 3.0], [0.0, 1.0, 1.0])
    assert np.isnan(class_means([[1.0, None]], [0])).tolist() == [[False, True]]


@pytest.mark.parametrize("geometry", [Grid(4, 5), Grid(4, 5, periodic=True), Sphere(20), HexGrid(4, 5)], ids=repr)
def test_a_default_device_changes_nothing(geometry):
    rng = np.random.default_rng(0)
    activations, labels = np.abs(rng.normal(size=(30, 20))), np.arange(30) % 3

    def measures():
        return [
            spatial_variance(activations, geometry),
            response_correlation(activations, geometry).score,
            morans_i(class_means(activations, labels), geometry, permutations=9).i,
            wire_lengths(activations[:20], geometry).mean,
        ]

    with torch.device("meta"):
        made = measures()
    for one, other in zip(made, measures(), strict=True):
        np.testing.assert_array_equal(one, other)
