"""How alike networks are: representations and maps, against slow references and cases solved by hand."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

import locality_prior as lp
from locality_prior import analysis
from locality_prior.analysis import factors
from locality_prior.analysis.likeness import axes_of

RNG = np.random.default_rng(0)


def slow_representation(a: Any, b: Any) -> float:
    """numpy's own correlations, pair by pair."""
    pairs = list(itertools.combinations(range(len(a)), 2))
    sides = [[np.corrcoef(x[i], x[j])[0, 1] for i, j in pairs] for x in (a, b)]
    return float(np.corrcoef(*sides)[0, 1])


def test_representational_similarity_is_that_of_the_slow_formula() -> None:
    a, b = RNG.normal(size=(12, 7)), RNG.normal(size=(12, 5))
    b[:, :3] += a[:, :3]
    assert analysis.representational_similarity(a, b) == pytest.approx(slow_representation(a, b))


def test_representations_by_hand() -> None:
    a = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 2]])
    assert analysis.representational_similarity(a, a) == pytest.approx(1)
    assert analysis.representational_similarity(a, a[:, [2, 0, 1]]) == pytest.approx(1)  # it has no places
    assert analysis.representational_similarity(a, 1e200 * a.astype(float) + 7) == pytest.approx(1)
    # three items: similarities 1, −1, −1 in one network and −1, 1, −1 in the other; r = −1/2
    one, other = np.array([[0, 1], [0, 1], [1, 0]]), np.array([[0, 1], [1, 0], [0, 1]])
    assert analysis.representational_similarity(one, other) == pytest.approx(-0.5)


def test_items_without_a_pattern_are_left_out_of_representations() -> None:
    a, b = RNG.normal(size=(8, 6)), RNG.normal(size=(8, 6))
    expected = analysis.representational_similarity(np.delete(a, [2, 5], 0), np.delete(b, [2, 5], 0))
    a[2], b[5, 1] = 3.0, np.nan
    assert analysis.representational_similarity(a, b) == pytest.approx(expected)
    assert analysis.representational_similarity(a[:4], b[:4]) is not None
    assert analysis.representational_similarity(a[:3], b[:3]) is None  # two items are left
    assert analysis.representational_similarity(np.zeros((5, 4)), np.ones((5, 4))) is None
    assert analysis.representational_similarity(a[:, :1], b) is None  # one unit has no pattern
    assert analysis.representational_similarity(np.eye(5), b[:5]) is None  # all items equally alike


def slow_best(a: Any, b: Any, shape: tuple[int, ...], periodic: tuple[bool, ...]) -> float:
    """Every symmetry of a sheet of two axes, one after another, with numpy's own correlations."""
    found = []
    swaps = (False, True) if shape[0] == shape[1] and periodic[0] == periodic[1] else (False,)
    for swap, up, left in itertools.product(swaps, (False, True), (False, True)):
        for shift in itertools.product(*(range(n if p else 1) for n, p in zip(shape, periodic, strict=True))):
            moved = []
            for row in b:
                sheet = row.reshape(shape)
                sheet = sheet.T if swap else sheet
                sheet = sheet[::-1] if up else sheet
                sheet = sheet[:, ::-1] if left else sheet
                moved.append(np.roll(sheet, shift, axis=(0, 1)).ravel())
            found.append(np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, moved, strict=True)]))
    return float(max(found))


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 5), (7, 2), (1, 6)])
@pytest.mark.parametrize("periodic", [(False, False), (True, True), (True, False)])
def test_map_similarity_is_that_of_every_symmetry_in_turn(shape: tuple[int, int], periodic: tuple[bool, bool]) -> None:
    a, b = RNG.normal(size=(2, 3, shape[0] * shape[1]))
    found = analysis.map_similarity(a, b, lp.Grid(*shape, periodic=periodic), permutations=3, seed=5)
    assert found.score == pytest.approx(slow_best(a, b, shape, periodic))
    orders = np.random.default_rng(5)
    shuffled = [b[:, orders.permutation(b.shape[1])] for _ in range(3)]
    assert found.chance == pytest.approx(np.mean([slow_best(a, one, shape, periodic) for one in shuffled]))


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("turn", range(4))
def test_a_turned_map_is_the_same_map(turn: int, periodic: bool) -> None:
    maps = RNG.normal(size=(3, 5, 5))
    turned = np.rot90(maps, turn, axes=(1, 2))[:, :, ::-1]
    if periodic:
        turned = np.roll(turned, (2, 4), axis=(1, 2))
    sheet = lp.Grid(5, 5, periodic=periodic)
    found = analysis.map_similarity(maps.reshape(3, 25), 4 + 9 * turned.reshape(3, 25), sheet)
    assert found.score == pytest.approx(1)
    assert found.chance is not None
    assert 0 < found.chance < 0.8


def test_one_symmetry_serves_all_classes() -> None:
    maps = RNG.normal(size=(2, 6, 6))
    apart = np.stack([maps[0], maps[1][::-1]])
    found = analysis.map_similarity(maps.reshape(2, 36), apart.reshape(2, 36), lp.Grid(6, 6))
    assert found.score is not None
    assert found.score < 0.9
    assert found.score == pytest.approx(slow_best(maps.reshape(2, 36), apart.reshape(2, 36), (6, 6), (False, False)))


def test_noise_is_as_alike_as_chance() -> None:
    sheet, scores, chances = lp.Grid(6, 6, periodic=True), [], []
    for k in range(30):
        found = analysis.map_similarity(*RNG.normal(size=(2, 4, 36)), sheet, seed=k)
        scores.append(found.score)
        chances.append(found.chance)
    assert np.mean(scores) > 0.15  # the best of 288
    assert np.mean(scores) == pytest.approx(np.mean(chances), abs=0.02)


def test_symmetries_are_those_of_whole_grids() -> None:
    assert axes_of(lp.Grid(2, 3, periodic=(True, False), spacing=(1.0, 2.0))) == ((2, True, 1.0), (3, False, 2.0))
    for other in (lp.Grid(2, 3, units=5), lp.Sphere(6), lp.HexGrid(2, 3), lp.Grid(1, 1, 1, 1, 6)):
        assert axes_of(other) is None
    line = np.array([[0.0, 1, 2, 4]])
    assert analysis.map_similarity(line, line[:, ::-1], lp.Line(4)).score == pytest.approx(1)
    half = lp.Points([[0.0], [1.0], [2.0], [3.0]])
    assert analysis.map_similarity(line, line[:, ::-1], half).score == pytest.approx(
        np.corrcoef(line, line[:, ::-1])[0, 1]
    )
    # axes of other spacings are not exchanged
    maps = RNG.normal(size=(1, 4, 4))
    turned = maps.transpose(0, 2, 1).reshape(1, 16)
    assert analysis.map_similarity(maps.reshape(1, 16), turned, lp.Grid(4, 4)).score == pytest.approx(1)
    stretched = analysis.map_similarity(maps.reshape(1, 16), turned, lp.Grid(4, 4, spacing=(1.0, 2.0))).score
    assert stretched is not None
    assert stretched < 0.95


def test_a_class_without_a_map_is_left_out() -> None:
    a, b = RNG.normal(size=(2, 3, 9))
    expected = analysis.map_similarity(a[:1], b[:1], lp.Grid(3, 3))
    a[1], b[2, 4] = 2.0, np.nan
    assert analysis.map_similarity(a, b, lp.Grid(3, 3)) == expected
    assert analysis.map_similarity(a[1:], b[1:], lp.Grid(3, 3)) == analysis.MapSimilarity(None, None)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: analysis.representational_similarity(np.ones((3, 2)), np.ones((4, 2))),
            "b: got 4 items, expected the 3",
        ),
        (lambda: analysis.representational_similarity(np.ones(3), np.ones((4, 2))), "a: got shape"),
        (lambda: analysis.map_similarity(np.ones((3, 4)), np.ones((2, 4)), lp.Grid(2, 2)), "b: got 2 maps"),
        (lambda: analysis.map_similarity(np.ones((3, 4)), np.ones((3, 5)), lp.Grid(2, 2)), "b: got 5 units"),
        (lambda: analysis.map_similarity(np.ones((3, 4)), np.ones((3, 4)), "grid"), "geometry: got"),
        (lambda: analysis.map_similarity(np.ones((3, 4)), np.ones((3, 4)), lp.Grid(2, 2), 0), "permutations: got 0"),
    ],
)
def test_bad_input_is_one_line(call: Any, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said) as error:
        call()
    assert "\n" not in str(error.value)


# Weights and responses at one norm


def slow_weight_similarity(w: Any, sheet: lp.Geometry) -> float:
    d, unit = sheet.distances().numpy(), w / np.linalg.norm(w, axis=1, keepdims=True)
    pairs = [(i, j) for i in range(len(w)) for j in range(len(w)) if i != j]
    near = [unit[i] @ unit[j] for i, j in pairs if 0 < d[i, j] <= 1.5 * sheet.neighbour_distance]
    return float(np.mean(near) - np.mean([unit[i] @ unit[j] for i, j in pairs]))


@pytest.mark.parametrize("sheet", [lp.Grid(4, 5), lp.Grid(5, 5, periodic=True), lp.HexGrid(3, 4), lp.Sphere(17)])
def test_weight_similarity_is_that_of_the_slow_formula(sheet: lp.Geometry, monkeypatch: pytest.MonkeyPatch) -> None:
    w = RNG.normal(size=(len(sheet), 6)) + 0.3
    expected = pytest.approx(slow_weight_similarity(w, sheet))
    assert analysis.weight_similarity(w, sheet) == expected
    monkeypatch.setattr(analysis.wiring, "BLOCK", 40)
    assert (
        analysis.weight_similarity(w * np.geomspace(1e-200, 1e200, len(w))[:, None], sheet) == expected
    )  # of no scale


def test_weight_similarity_by_hand() -> None:
    # on a line of four, two alike and two others alike: neighbours 1, 0, 1; all pairs 1, 1 and four times 0
    w = [[1, 0], [2, 0], [0, 1], [0, 5]]
    assert analysis.weight_similarity(w, lp.Line(4)) == pytest.approx(2 / 3 - 1 / 3)
    assert analysis.weight_similarity([[1, 0], [0, 0], [0, 1], [0, 5]], lp.Line(4)) == pytest.approx(1 - 1 / 3)
    assert analysis.weight_similarity([[1, 0], [0, 0], [0, np.inf], [0, 5]], lp.Line(4)) is None
    assert analysis.weight_similarity(np.zeros((4, 2)), lp.Line(4)) is None
    assert analysis.weight_similarity([[1.0]], lp.Line(1)) is None
    # units at one place are no neighbours, though units of other places are
    assert analysis.weight_similarity([[1, 0], [0, 1], [1, 0], [0, 1]], lp.Line(2).with_channels(2)) == pytest.approx(
        -1 / 3
    )
    with pytest.raises(ValueError, match="weights: got 3 units, expected the 4 units"):
        analysis.weight_similarity(np.ones((3, 2)), lp.Line(4))


def test_normed_responses_have_a_root_mean_square_of_one() -> None:
    a = RNG.normal(size=(9, 4)) * [1, 1e200, 1e-200, 0]
    found = analysis.normed(a)
    np.testing.assert_allclose(np.square(found[:, :3]).mean(axis=0), 1)
    np.testing.assert_allclose(found[:, 0], a[:, 0] / np.sqrt(np.square(a[:, 0]).mean()))
    assert np.isnan(found[:, 3]).all()
    np.testing.assert_allclose(analysis.normed([[3.0, np.inf], [4.0, 1.0]])[:, 0], np.array([3, 4]) / np.sqrt(12.5))
    assert np.isnan(analysis.normed([[3.0, np.inf], [4.0, 1.0]])[:, 1]).all()


@pytest.mark.parametrize(("items", "units"), [(30, 9), (9, 30), (2, 5), (1, 3), (0, 3), (4, 0)])
def test_all_factors_give_the_correlations_of_units(items: int, units: int) -> None:
    responses = 1e5 + RNG.normal(size=(items, units)) @ RNG.normal(size=(units, units))
    f = analysis.correlation_factors(responses)
    assert f.shape == (max(min(items - 1, units), 0), units)
    if len(f):
        assert f.T @ f == pytest.approx(np.corrcoef(responses.T), abs=1e-9)
        assert (np.diff(np.square(f).sum(axis=1)) <= 1e-12).all()  # the largest first
        assert (f.max(axis=1) == np.abs(f).max(axis=1)).all()


def test_a_few_factors_are_the_nearest_of_their_rank() -> None:
    responses = RNG.normal(size=(40, 6)) * np.array([1, 1, 1, 1, 1e6, 1e-6])
    r = np.corrcoef(responses.T)
    f = analysis.correlation_factors(responses, most=2)
    values, axes = np.linalg.eigh(r)
    assert f.T @ f == pytest.approx((axes[:, -2:] * values[-2:]) @ axes[:, -2:].T)


def test_units_without_a_correlation_have_no_factors() -> None:
    responses = RNG.normal(size=(20, 6))
    responses[:, 1], responses[3, 4], responses[:, 5] = 0.1, np.nan, np.inf
    f = analysis.correlation_factors(responses)
    assert (f[:, [1, 4, 5]] == 0).all()
    live = [0, 2, 3]
    assert (f.T @ f)[np.ix_(live, live)] == pytest.approx(np.corrcoef(responses[:, live].T))
    assert analysis.correlation_factors(np.ones((5, 4))).shape == (0, 4)


def test_factors_of_many_units_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    responses = RNG.normal(size=(12, 50)).astype(np.float32)
    whole = analysis.correlation_factors(responses)
    monkeypatch.setattr(factors, "AT_ONCE", 12 * 7)
    assert analysis.correlation_factors(torch.from_numpy(responses)) == pytest.approx(whole)


def test_factors_of_many_items_are_of_some_that_are_spread_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factors, "MOST_ITEMS", 5)
    responses = RNG.normal(size=(9, 4))
    f = analysis.correlation_factors(responses)
    assert f.T @ f == pytest.approx(np.corrcoef(responses[::2].T))


def test_factors_of_what_is_no_matrix() -> None:
    with pytest.raises(ValueError, match=r"responses: got shape \(3,\), expected numbers of shape \(items, units\)"):
        analysis.correlation_factors([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="most: got 0"):
        analysis.correlation_factors(np.eye(3), most=0)
