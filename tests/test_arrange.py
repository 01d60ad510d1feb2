"""Better places for units: against brute force, the true optimum, scipy, and the authors' numbers."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import locality_prior as lp
from locality_prior import arrange
from locality_prior.arrange import swaps, windows
from locality_prior.arrange.similarity import standardised
from locality_prior.geometry import Geometry

pytest.importorskip("scipy")


@pytest.fixture
def few_kicks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local optima are left a few times only."""
    monkeypatch.setattr(swaps, "MOST_KICKS", 3)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def shuffled(n: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).permutation(n))


def total(flow: Tensor, lengths: Tensor, order: Tensor, linear: Tensor | None = None) -> float:
    """Σ_ij A_ij D[π(i), π(j)] + Σ_i L[i, π(i)], term by term."""
    n, at = len(flow), order.tolist()
    found = sum(float(flow[i, j]) * float(lengths[at[i], at[j]]) for i in range(n) for j in range(n))
    return found + (0.0 if linear is None else sum(float(linear[i, at[i]]) for i in range(n)))


def swapped(order: Tensor, u: int, v: int) -> Tensor:
    found = order.clone()
    found[u], found[v] = order[v], order[u]
    return found


MATRICES: dict[str, tuple[Tensor, Tensor]] = {
    "asymmetric": (drawn(7, 7), drawn(7, 7, seed=1)),
    "flow symmetric": (drawn(7, 7) + drawn(7, 7).T, drawn(7, 7, seed=1)),
    "lengths symmetric": (drawn(7, 7), lp.Grid(7).distances()),
    "both symmetric": (drawn(7, 7) + drawn(7, 7).T, lp.Grid(7).distances() + torch.eye(7).double()),
}
matrices = pytest.mark.parametrize("kind", MATRICES)
linears = pytest.mark.parametrize("linear", [None, drawn(7, 7, seed=2)], ids=["alone", "linear"])


@matrices
@linears
def test_gains_are_the_changes_of_the_sum(kind: str, linear: Tensor | None) -> None:
    flow, lengths = MATRICES[kind]
    order = shuffled(7)
    now = total(flow, lengths, order, linear)
    expected = torch.zeros(7, 7, dtype=torch.float64)
    for u, v in itertools.permutations(range(7), 2):
        expected[u, v] = total(flow, lengths, swapped(order, u, v), linear) - now
    assert_close(arrange.swap_gains(flow, lengths, order, linear), expected, rtol=1e-12, atol=1e-12)
    rounded = [None if x is None else x.float() for x in (flow, lengths, linear)]
    assert_close(arrange.swap_gains(rounded[0], rounded[1], order, rounded[2]), expected, rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]
    problem = swaps.Quadratic(flow, lengths, linear)
    for u, v in itertools.permutations(range(7), 2):
        assert problem.change(order.numpy(), u, v) == pytest.approx(float(expected[u, v]), abs=1e-12)
    assert problem.cost(order) == pytest.approx(now)


@matrices
@pytest.mark.parametrize("moves", [1, 2, 20])
def test_products_follow_what_moved(kind: str, moves: int) -> None:
    flow, lengths = (torch.block_diag(x, drawn(13, 13), x) for x in MATRICES[kind])
    problem, before = swaps.Quadratic(flow, lengths), shuffled(27)
    after = before.clone()
    for k in range(moves):
        after = swapped(after, 3 * k % 27, (7 * k + 1) % 27)
    products = problem.products(before.numpy(), True)
    found = problem.moved(products, before.numpy(), after.numpy(), True)
    for moved, anew in zip(found, problem.products(after.numpy(), True), strict=True):
        np.testing.assert_allclose(moved, anew, rtol=1e-12, atol=1e-12)


@matrices
@linears
def test_few_units_find_their_true_optimum(kind: str, linear: Tensor | None) -> None:
    flow, lengths = MATRICES[kind]
    problem = swaps.Quadratic(flow, lengths, linear)
    every = torch.tensor(list(itertools.permutations(range(7))))
    sums = (flow * lengths[every[:, :, None], every[:, None, :]]).sum((1, 2))
    best = float((sums if linear is None else sums + linear[torch.arange(7), every].sum(1)).min())
    found = []
    for seed in range(5):
        clock = swaps.Clock(None, None)
        order = swaps.improve(problem, shuffled(7, seed), clock)
        gains = arrange.swap_gains(flow, lengths, order, linear)
        assert float(gains.min()) >= -1e-9  # no swap is left
        found.append(problem.cost(swaps.kicked(problem, order, seed, clock)))
    assert min(found) <= best + 1e-9


def test_orders_are_about_as_good_as_scipys() -> None:
    """FAQ is a method of quite another kind; it is no better here by more than 1 in 200."""
    from scipy.optimize import quadratic_assignment

    sheet, weight = lp.Grid(5, 6), drawn(30, 30).abs()
    rng = np.random.default_rng(0)
    theirs = quadratic_assignment(weight.numpy(), sheet.distances().numpy(), options={"rng": rng})
    assert total_of(weight, sheet, arrange.by_wires(weight, sheet)) <= 1.005 * theirs.fun


def total_of(weight: Tensor, target: Geometry, order: Tensor, source: Geometry | None = None) -> float:
    return float(lp.objectives.wiring(weight, target.permuted(order), source or target.permuted(order)))


# --- wires -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("price", ["distance", "quadratic", lambda d: d.square()], ids=["distance", "cost", "function"])
def test_no_order_is_better_than_that_of_one_moving_sheet(price: Any) -> None:
    weight, target, source = drawn(6, 5), lp.Grid(2, 3, spacing=1), lp.Grid(1, 5, spacing=0.5)
    every = list(itertools.permutations(range(6)))[::11]  # some of them, and what is found is no worse

    def cost(order: Any) -> float:
        return float(lp.objectives.wiring(weight, target.permuted(order), source, price=price))

    order = arrange.by_wires(weight, target, source, price=price)
    assert order.dtype == torch.int64
    assert cost(order) <= min(cost(p) for p in every) + 1e-12
    source = source.permuted([3, 0, 4, 1, 2])  # and from a sheet that is in an order itself
    order = arrange.by_wires(weight, target, source, price=price)
    assert cost(order) <= min(cost(p) for p in every) + 1e-12


def test_kernels_count_whole() -> None:
    weight = drawn(6, 4, 3, 3)
    order = arrange.by_wires(weight, lp.Line(6), lp.Line(4))
    assert torch.equal(order, arrange.by_wires(weight.abs().sum((2, 3)), lp.Line(6), lp.Line(4)))


@pytest.mark.parametrize(
    "sheet", [lp.Grid(6, 6), lp.Sphere(36), lp.Graph(np.eye(36, k=1) + np.eye(36, k=-1))], ids=repr
)
def test_a_hidden_order_is_found_again(sheet: Geometry) -> None:
    """Wires between neighbours, whose units are then shuffled: the wires end up nearly as short as they were."""
    truth = shuffled(36)
    weight = (-sheet.distances()).exp()[truth][:, truth]
    hidden, mixed = total_of(weight, sheet, truth), total_of(weight, sheet, torch.arange(36))
    found = total_of(weight, sheet, arrange.by_wires(weight, sheet))
    assert found - hidden <= 0.1 * (mixed - hidden)


@pytest.mark.usefixtures("few_kicks")
def test_stacks_end_where_no_sheet_can_be_better() -> None:
    sheets: dict[str, Geometry] = {"in": lp.Grid(2, 3), "mid": lp.Grid(3, 3), "out": lp.HexGrid(2, 2)}
    layers = [
        (drawn(9, 6), "in", "mid"),
        (drawn(4, 9), "mid", "out"),
        (drawn(9, 9), "mid", "mid"),
        (drawn(4, 6), "in", "out"),
    ]

    def cost(orders: dict[str, Tensor]) -> float:
        at = {name: sheet.permuted(orders[name]) for name, sheet in sheets.items()}
        return sum(float(lp.objectives.wiring(w, at[b], at[a])) for w, a, b in layers)

    told: list[float] = []
    for fixed in ([], ["in"], ["in", "mid"]):
        orders = arrange.stack_by_wires(sheets, layers, fixed=fixed, progress=lambda _, c: told.append(c))
        assert told[-1] == pytest.approx(cost(orders))
        assert all(torch.equal(orders[name], torch.arange(len(sheets[name]))) for name in fixed)
        assert cost(orders) < cost({name: torch.arange(len(sheet)) for name, sheet in sheets.items()})
        for name in set(sheets) - set(fixed):
            for u, v in itertools.combinations(range(len(sheets[name])), 2):
                assert cost({**orders, name: swapped(orders[name], u, v)}) >= cost(orders) - 1e-9
    start = {"mid": shuffled(9)}
    assert cost(arrange.stack_by_wires(sheets, layers, orders=start)) < cost({**orders, **start})
    assert arrange.stack_by_wires(sheets, layers[:1], fixed=["in", "mid", "out"])["out"].tolist() == [0, 1, 2, 3]


def test_an_order_to_begin_with_is_changed_little() -> None:
    """Few swaps are needed after a few steps of training; they never make it worse."""
    sheet = lp.Grid(6, 6)
    weight = drawn(36, 36)
    order = arrange.by_wires(weight, sheet)
    later = weight + 0.02 * drawn(36, 36, seed=3)
    again = arrange.by_wires(later, sheet, order=order)
    assert total_of(later, sheet, again) <= total_of(later, sheet, order)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: arrange.by_wires(drawn(4, 4), lp.Line(3)), "weight: got"),
        (lambda: arrange.by_wires(drawn(4, 3), lp.Line(4)), "source: got None"),
        (
            lambda: arrange.by_wires(drawn(4, 4) * math.nan, lp.Line(4)),
            "weight: got weights of which some are not finite",
        ),
        (lambda: arrange.by_wires(drawn(4, 4), lp.Line(4), price="linear@2"), "price: got .*inf"),
        (lambda: arrange.by_wires(drawn(4, 4), lp.Line(4), order=[0, 1, 2, 2]), "order: got"),
        (lambda: arrange.by_wires(drawn(4, 4), lp.Line(4), seed=-1), "seed: got -1"),
        (lambda: arrange.by_wires(drawn(4, 4), lp.Line(4), seconds=0), "seconds: got 0"),
        (lambda: arrange.by_wires(drawn(4, 4), lp.Line(4), progress=3), "progress: got 3"),  # type: ignore[arg-type]
        (lambda: arrange.by_wires("w", lp.Line(4)), "weight: got w"),  # type: ignore[arg-type]
        (lambda: arrange.stack_by_wires({"a": lp.Line(2)}, []), "layers: got none"),
        (lambda: arrange.stack_by_wires({"a": lp.Line(2)}, [(drawn(2, 2), "a", "b")]), "layers: got b"),
        (lambda: arrange.stack_by_wires({"a": lp.Line(2)}, [drawn(2, 2)]), "layers: got"),  # type: ignore[list-item]
        (lambda: arrange.stack_by_wires({"a": 2}, [(drawn(2, 2), "a", "a")]), "sheets: got 2"),  # type: ignore[dict-item]
        (lambda: arrange.stack_by_wires({"a": lp.Line(2)}, [(drawn(2, 2), "a", "a")], fixed=["b"]), "fixed: got b"),
        (lambda: arrange.swap_gains(drawn(3, 4), drawn(3, 3)), "flow: got"),
        (lambda: arrange.swap_gains(drawn(3, 3), drawn(4, 4)), "lengths: got"),
        (lambda: arrange.swap_gains(drawn(3, 3), drawn(3, 3) / 0), "lengths: got numbers that are not finite"),
        (lambda: arrange.by_similarity(drawn(5, 4), lp.Line(3)), "responses: got"),
        (lambda: arrange.by_similarity(drawn(1, 4), lp.Line(4)), "responses: got 1 sample"),
        (lambda: arrange.by_similarity(drawn(5, 4) / 0, lp.Line(4)), "responses: got some that are not finite"),
        (lambda: arrange.by_similarity(drawn(5, 4), lp.Line(4), measure="las"), "measure: got las"),  # type: ignore[arg-type]
        (lambda: arrange.by_similarity(drawn(5, 4), lp.Distances(drawn(4, 4).abs())), "geometry: got .*both ways"),
        (lambda: arrange.dpq(drawn(5, 1), lp.Line(1)), "sheet: got .*expected two units or more"),
        (lambda: arrange.dpq(drawn(5, 4), lp.Line(4), p=0), "p: got 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(call: Callable[[], Any], told: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{told}") as error:
        call()
    assert "\n" not in str(error.value)


def test_what_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locality_prior._check._memory", lambda: 1 << 20)
    for n, large in ((2000, 4096), (2000, 36)):  # all swaps at once, and within windows
        monkeypatch.setattr(windows, "LARGE", large)
        with pytest.raises(RuntimeError, match=r"^The .* of 2,000 units would take .* GiB"):
            arrange.by_similarity(torch.zeros(2, n), lp.Line(n))


def test_the_time_is_kept_and_what_is_found_is_better() -> None:
    sheet, weight = lp.Grid(24, 24), drawn(576, 576)
    rounds: list[int] = []
    start = time.monotonic()
    order = arrange.by_wires(weight, sheet, order=shuffled(576), seconds=0.2, progress=lambda k, _: rounds.append(k))
    assert time.monotonic() - start < 5  # a round, and no more than that, beyond it
    assert rounds == list(range(1, len(rounds) + 1))
    assert total_of(weight, sheet, order) <= total_of(weight, sheet, shuffled(576))
    assert torch.equal(order.sort().values, torch.arange(576))


@pytest.mark.parametrize("sheet", [lp.Grid(6, 6), lp.Grid(6, 6, periodic=True).permuted(shuffled(36))], ids=repr)
@pytest.mark.parametrize("by", ["responses", "wires", "wires that differ by direction"])
def test_many_units_are_arranged_in_windows(sheet: Geometry, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = drawn(20, 36) if by == "responses" else drawn(36, 36).abs() ** 3
    price = lp.Distances(drawn(36, 36).abs()) if by.endswith("direction") else sheet
    begun, told = shuffled(36, seed=3), []

    def made() -> Tensor:
        def progress(_: int, cost: float) -> None:
            told.append(cost)

        if by == "responses":
            return arrange.by_similarity(given, sheet, order=begun, progress=progress)
        return arrange.by_wires(given, price, order=begun, progress=progress)

    def worth(order: Tensor) -> float:
        if by == "responses":
            z = standardised(given.T)
            return -float(((z @ z.T) / (1 + sheet.distances()[order][:, order])).fill_diagonal_(0).sum())
        return total_of(given, price, order)

    monkeypatch.setattr(swaps, "KICKS", 0)
    plain = made()
    monkeypatch.setattr(windows, "LARGE", 35)
    monkeypatch.setattr(windows, "WINDOW", 36)
    assert torch.equal(made(), plain)  # one window holds them all
    monkeypatch.setattr(windows, "WINDOW", 12)
    monkeypatch.setattr(windows, "APART", 6)
    found = made()
    assert told[-1] == pytest.approx(worth(found))
    assert worth(found) - worth(plain) < 0.3 * (worth(begun) - worth(plain))
    again = arrange.by_similarity(given, sheet, order=found) if by == "responses" else None
    assert again is None or torch.equal(again, found)  # no window makes it better


@pytest.mark.usefixtures("few_kicks")
def test_a_seed_gives_the_same_order() -> None:
    sheet, weight, x = lp.Grid(5, 5), drawn(25, 25), drawn(40, 25)
    for find in (
        lambda: arrange.by_wires(weight, sheet, seed=1),
        lambda: arrange.by_similarity(x, sheet, seed=1),
        lambda: arrange.by_similarity(x, sheet, measure="dpq", seed=1),
    ):
        torch.manual_seed(int(torch.randint(1000, ())))
        first = find()
        with torch.device("meta"), torch.inference_mode():
            assert torch.equal(find(), first)
    assert weight.equal(drawn(25, 25))


def test_ties_and_nothing_to_do() -> None:
    for order in (
        arrange.by_wires(torch.ones(9, 9), lp.Grid(3, 3)),
        arrange.by_wires(torch.zeros(9, 9), lp.Grid(3, 3)),
        arrange.by_wires(torch.zeros(9, 4), lp.Grid(3, 3), lp.Grid(2, 2)),
        arrange.by_similarity(torch.ones(4, 9), lp.Grid(3, 3)),
        arrange.by_similarity(torch.ones(4, 9), lp.Grid(3, 3), measure="dpq"),
    ):
        assert torch.equal(order.sort().values, torch.arange(9))
    for one in (
        arrange.by_wires(torch.ones(1, 1), lp.Line(1)),
        arrange.by_similarity(torch.ones(4, 1), lp.Line(1)),
        arrange.by_similarity(torch.ones(4, 1), lp.Line(1), measure="dpq"),
    ):
        assert one.tolist() == [0]


# --- likeness --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few_kicks")
def test_neighbours_become_alike() -> None:
    """Bumps of activity over a sheet, whose units are then shuffled: the map is found again, up to its symmetries."""
    sheet = lp.Grid(12, 12)
    at = sheet.positions
    centres = torch.from_numpy(np.random.default_rng(0).random((60, 2)) * 12)
    responses = (-torch.cdist(centres, at).square() / 8).exp()[:, shuffled(144)]
    truth = float(lp.objectives.spatial_correlation(responses, sheet.permuted(shuffled(144))))
    found = sheet.permuted(arrange.by_similarity(responses, sheet))
    assert float(lp.objectives.spatial_correlation(responses, found)) <= truth + 0.02
    assert float(lp.objectives.spatial_correlation(responses, sheet)) > truth + 0.4
    z = (responses - responses.mean(0)) / responses.std(0)
    r, q = z.T @ z, 1 / (1 + sheet.distances())
    gains = arrange.swap_gains(-r.fill_diagonal_(0), q.fill_diagonal_(0), found.order)  # type: ignore[attr-defined]
    assert float(gains.min()) > -1e-6  # no swap is left
    sorted_ = sheet.permuted(arrange.by_similarity(responses, sheet, measure="dpq"))
    assert arrange.dpq(responses, sorted_) > 0.9 > 0.4 > arrange.dpq(responses, sheet)  # type: ignore[operator]


@pytest.mark.parametrize(
    "sheet",
    [lp.Grid(5, 7, units=33), lp.Grid(6, 6, periodic=True), lp.Sphere(40), lp.Points(drawn(30, 3)), lp.Line(20),
     lp.Grid(6, 6).permuted(shuffled(36)), lp.Grid(4, 4).with_channels(2),
     lp.Graph(np.eye(12, k=1) + np.eye(12, k=-1))],
    ids=repr,
)  # fmt: skip
def test_every_kind_of_sheet_is_sorted(sheet: Geometry) -> None:
    responses = drawn(3, len(sheet)).cumsum(0)
    before = arrange.dpq(responses, sheet)
    order = arrange.by_similarity(responses, sheet, measure="dpq")
    after = arrange.dpq(responses, sheet.permuted(order))
    assert after is not None
    assert before is not None
    assert after > before + 0.2
    base = sheet.base.permuted(sheet.order) if isinstance(sheet, lp.geometry.Permuted) else sheet
    assert torch.equal(order, arrange.by_similarity(responses, base, measure="dpq"))


def test_colours_are_sorted_as_well_as_by_the_authors_program() -> None:
    """1,024 colours: vc_flas 0.1.7 reaches DPQ16 = 0.939 with its own settings, and 0.946 with radius_decay=0.99."""
    colours = torch.from_numpy(np.random.default_rng(0).random((32, 32, 3)).astype(np.float32).reshape(-1, 3)).T
    order = arrange.by_similarity(colours, lp.Grid(32, 32), measure="dpq")
    reached = arrange.dpq(colours, lp.Grid(32, 32).permuted(order))
    assert reached is not None
    assert reached > 0.9393


@pytest.mark.parametrize("sheet", [lp.Grid(3, 4), lp.Grid(3, 4, periodic=True), lp.HexGrid(3, 4)], ids=repr)
@pytest.mark.parametrize("p", [1, 2, 16])
def test_dpq_is_its_definition(sheet: Geometry, p: float) -> None:
    x = drawn(3, 12)
    apart, d = torch.cdist(x.T, x.T), sheet.distances().round(decimals=9)
    curves = []
    for nearest in (lambda i, j: (float(d[i, j]), float(apart[i, j])), lambda i, j: (float(apart[i, j]), 0.0)):
        each = []
        for i in range(12):
            others = sorted((j for j in range(12) if j != i), key=lambda j: nearest(i, j))
            each.append([float(apart[i, others[:k]].mean()) for k in range(1, 12)])
        curves.append(np.mean(each, axis=0))
    mean = float(apart.sum()) / 132
    gains = [np.maximum(0, (mean - curve) / mean) for curve in curves]
    expected = np.linalg.norm(gains[0], p) / np.linalg.norm(gains[1], p)
    assert arrange.dpq(x, sheet, p) == pytest.approx(expected, rel=1e-9)
    assert arrange.dpq(torch.ones(3, 12), sheet) is None


# --- parameters ------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.after = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ConvTranspose2d(6, 4, 3)
        self.fc1, self.bn, self.ln, self.fc2 = nn.Linear(6 * 9, 8), nn.BatchNorm1d(8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.norm(self.conv(x)).relu()
        return self.fc2(self.ln(self.bn(self.fc1(nn.functional.max_pool2d(y, 2).flatten(1))).tanh())), self.after(y)


@pytest.mark.parametrize(
    ("n", "units", "inputs"),
    [(6, ["conv", "norm"], ["after", "fc1"]), (8, ["fc1", "bn", "ln"], ["fc2"]), (4, ["after"], []), (3, "fc2", [])],
)
def test_the_function_stays(n: int, units: Any, inputs: list[str]) -> None:
    torch.manual_seed(0)
    net = Net().double()
    optimizer = torch.optim.Adam(net.parameters())
    twin = Net().double()
    twin.load_state_dict(net.state_dict())
    twins = torch.optim.Adam(twin.parameters())
    order, x = shuffled(n), drawn(7, 1, 8, 8)

    def train(model: Net, by: torch.optim.Optimizer) -> None:
        for _ in range(2):
            by.zero_grad()
            a, b = model(x)
            (a.square().sum(1).mean() + b.square().sum(1).mean()).backward()
            by.step()

    train(net, optimizer)
    train(twin, twins)
    arrange.permute(net, order, units=units, inputs=inputs, optimizer=optimizer)
    for _ in range(2):  # at once, and after more training with the moved momenta
        a, b = (model.eval()(x) for model in (net, twin))
        for name, one, other in (("fc2", a[0], b[0]), ("after", a[1], b[1])):
            assert_close(one, other.index_select(1, order.argsort()) if name in units else other, rtol=1e-9, atol=1e-9)
        train(net.train(), optimizer)
        train(twin.train(), twins)
    first = net.get_submodule(units[0] if isinstance(units, list) else units)
    assert not torch.equal(first.weight, twin.get_submodule(units[0] if isinstance(units, list) else units).weight)


def test_what_cannot_be_moved_is_refused_and_nothing_is_changed() -> None:
    net = nn.ModuleDict(
        {
            "a": nn.Linear(4, 6), "b": nn.Linear(6, 2), "rnn": nn.RNN(6, 6), "local": lp.LocalityLinear(4, 6),
            "group": nn.GroupNorm(2, 6), "wide": nn.Linear(7, 2), "deep": nn.Conv1d(6, 6, 1, groups=2),
            "made": nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)),
        }
    )  # fmt: skip
    net["tied"] = net["a"]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    order = shuffled(6)
    for units, inputs, told in (
        (["x"], [], "units: got x, expected the name of a module"),
        ([], ["b"], "units: got no module"),
        (["a", "rnn"], ["b"], "units: got 'rnn', a RNN, expected a Linear"),
        (["local"], ["b"], r"units: got 'local', a LocalityLinear, expected .*; fold\(\) makes"),
        (["a"], ["local"], "inputs: got 'local'"),
        (["a", "group"], ["b"], "units: got 'group', a GroupNorm"),
        (["a"], ["wide"], "inputs: got 'wide', a Linear of 7 inputs, expected 6, as in the order"),
        (["b"], [], "units: got 'b', a Linear of 2 units, expected 6"),
        (["deep"], ["b"], "units: got 'deep', a Conv1d"),
        (["made"], ["b"], "units: got 'made', a ParametrizedLinear whose weight is computed"),
        (["a", "tied"], ["b"], "units: got 'tied', whose parameters another of these modules shares"),
    ):
        with pytest.raises((ValueError, TypeError), match=f"^{told}"):
            arrange.permute(net, order, units=units, inputs=inputs)
    with pytest.raises(ValueError, match=r"^order: got"):
        arrange.permute(net, [0, 0, 1, 2, 3, 4], units=["a"], inputs=["b"])
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
