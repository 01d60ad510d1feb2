"""Cutting wires: what goes first, the targets, and the pruned layer as a layer like any other."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import locality_prior as lp
from locality_prior import pruning
from locality_prior.cost import Cost

SHEET = lp.Grid(4, 5)
COSTS = [lp.cost.Linear(), lp.cost.Linear().within(1.5), lp.cost.Flat()]
BY = ("weight", "length", "cost")

costs = pytest.mark.parametrize("cost", COSTS, ids=str)
by = pytest.mark.parametrize("by", BY)
backends = pytest.mark.parametrize("backend", ["dense", "windowed", "wires"])


class Net(nn.Module):
    """Two layers of different sheets, one of them used twice."""

    def __init__(self, cost: Cost, rescale: bool = False, backend: str = "dense") -> None:
        super().__init__()
        made: dict[str, Any] = {"cost": cost, "rescale": rescale, "dtype": torch.float64}
        bounded = cost.reach < math.inf
        self.a = lp.LocalityLinear(20, 20, source=SHEET, backend=backend if bounded else "dense", **made)
        self.b = lp.LocalityLinear(20, 9, source=SHEET, target=lp.Grid(3, 3), bias=False, **made)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(self.a(self.a(x).tanh()).tanh())
        return out


def wires_of(net: Net) -> list[tuple[float, float, float, str, int, int]]:
    """Every wire of both layers, slowly: |V|, d, c|V|, and where it is."""
    found = []
    for name, layer in (("a", net.a), ("b", net.b)):
        v, d = lp.fold(layer).weight.detach(), layer.rule.distances()
        for i in range(len(v)):
            for j in range(len(v[0])):
                if layer.cost.signal(d[i, j]) > 0:
                    price = float(layer.cost.cost(d[i, j]))
                    found.append((float(v[i, j].abs()), float(d[i, j]), price * float(v[i, j].abs()), name, i, j))
    return found


def left(model: nn.Module) -> set[tuple[str, int, int]]:
    return {(name, i, j) for name, layer in model.named_children() for i, j in lp.fold(layer).weight.nonzero().tolist()}


@costs
@by
@pytest.mark.parametrize("rescale", [False, True])
def test_what_counts_least_goes_first(cost: Cost, by: str, rescale: bool) -> None:
    net = Net(cost, rescale)
    rank = {"weight": lambda w: -w[0], "length": lambda w: (w[1], -w[0]), "cost": lambda w: -w[2]}[by]
    wires = sorted(wires_of(net), key=rank)
    for keep in (0.35, 1.0):
        pruned, cut, _ = lp.sparsify(net, by, keep=keep)
        kept = wires[: round(keep * len(wires))]
        assert left(pruned) == {w[3:] for w in kept}
        assert cut.wires == len(kept)
        assert cut.share == len(kept) / len(wires)
        assert cut.wire_length == pytest.approx(sum(w[1] for w in kept))
        # what is left is as it was
        for name in ("a", "b"):
            before, after = lp.fold(getattr(net, name)).weight, lp.fold(getattr(pruned, name)).weight
            assert torch.equal(after, torch.where(after == 0, after, before))


@backends
@by
def test_a_pruned_network_computes_what_its_weights_say(backend: str, by: str) -> None:
    net, x = Net(COSTS[1], rescale=True, backend=backend), torch.randn(7, 20, dtype=torch.float64)
    before = copy.deepcopy(net.state_dict())
    pruned, _, _ = lp.sparsify(net, by, keep=0.4)
    folded = lp.fold(pruned)
    assert_close(pruned(x), folded(x))
    assert (folded.a.weight != 0).any()
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    # where it was cut it stays cut
    wires = left(pruned)
    optimizer = torch.optim.SGD(pruned.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        pruned(x).square().sum().backward()
        optimizer.step()
    assert left(pruned) <= wires
    v, d = lp.fold(pruned.a).weight.abs(), SHEET.distances()
    assert_close(lp.mean_wire_length(pruned.a), (v * d).sum() / v.sum())
    assert_close(lp.wiring_cost(pruned.a), (v * (1 + d)).sum())


def test_a_budget_of_wire_length() -> None:
    net = Net(COSTS[0])
    whole = lp.sparsify(net, keep=1).cut
    for budget in (10.0, 20.0, whole.wire_length / 3, whole.wire_length, math.inf):
        for by in ("length", "weight"):
            cut = lp.sparsify(net, by, wire_length=budget).cut
            assert cut.wire_length <= budget + 1e-9
            ranked = sorted(wires_of(net), key=lambda w: (w[1], -w[0]) if by == "length" else -w[0])
            if cut.wires < len(ranked):
                assert cut.wire_length + ranked[cut.wires][1] > budget


def test_the_largest_cut_within_a_drop() -> None:
    torch.manual_seed(1)
    net, x = Net(COSTS[0]), torch.randn(200, 20, dtype=torch.float64)
    labels = net(x).argmax(1)

    def accuracy(model: nn.Module) -> float:
        return float((model(x).argmax(1) == labels).double().mean())

    pruned, cut, curve = lp.sparsify(net, drop=0.1, evaluate=accuracy)
    assert cut.score is not None
    assert cut.score >= 0.9
    assert accuracy(pruned) == pytest.approx(cut.score)
    assert cut.wires < curve[0].wires
    assert [c.wires for c in curve] == sorted({c.wires for c in curve}, reverse=True)
    assert curve[0].share == 1
    assert curve[0].score == 1
    assert min(c.wires for c in curve if c.score is not None and c.score >= 0.9) == cut.wires
    # no fall at all is a target that can always be met
    assert lp.sparsify(net, drop=0, evaluate=accuracy).cut.score == 1


def test_the_same_cut_gives_the_same_layer() -> None:
    """By its size and its share of wires alone, as backend="auto" decides: nothing is timed."""
    sheet = lp.Grid(32, 32)
    layer = lp.LocalityLinear(1024, 1024, source=sheet, backend="dense")
    few = lp.sparsify(layer, keep=0.01).model
    assert few.backend == "auto"
    assert few.weight.shape == (10486,)
    assert lp.sparsify(layer, keep=0.6).model.weight.shape == (1024, 1024)
    assert lp.sparsify(Net(COSTS[0]), keep=0.5).model.a.pattern is None
    x = torch.randn(3, 1024)
    assert_close(few(x), lp.fold(few)(x))
    kept = lp.LocalityLinear(1024, 1024, source=sheet, kept=few.kept)
    assert kept.weight.shape == few.weight.shape


@by
@pytest.mark.parametrize("backend", ["dense", "wires"])
def test_a_curve_in_place(by: str, backend: str) -> None:
    """The model itself is looked at, with the weights of each cut, and has its own again afterwards."""
    net = Net(COSTS[1], backend=backend)
    before = copy.deepcopy(net.state_dict())
    seen = []

    def evaluate(model: nn.Module) -> tuple[str, set[tuple[str, int, int]]]:
        assert model is net
        seen.append(model)
        return "any", left(model)

    curve = pruning.curve(net, by, evaluate, [0.5, 0.2, 0.0001])
    assert len(seen) == len(curve) == 3
    assert [cut.share for cut in curve] == [cut.wires / curve[0].wires for cut in curve]
    assert curve[0].share == 1
    for cut in curve:
        expected = lp.sparsify(net, by, wire_length=math.inf, shares=[cut.share]).curve[-1]
        assert (cut.wires, cut.wire_length) == (expected.wires, expected.wire_length)
        assert len(cut.score[1]) == cut.wires
    assert curve[1].score[1] == left(lp.sparsify(net, by, keep=0.5).model)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_weights_come_back_when_an_evaluation_fails() -> None:
    net = Net(COSTS[0])
    before = copy.deepcopy(net.state_dict())

    def fail(model: nn.Module) -> float:
        raise KeyError("no data")

    for call in (
        lambda: pruning.curve(net, "weight", fail, [0.1]),
        lambda: lp.sparsify(net, keep=0.5, evaluate=fail),
    ):
        with pytest.raises(KeyError):
            call()
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_only_the_layers_that_are_named() -> None:
    net = Net(COSTS[0])
    curve = pruning.curve(net, "weight", left, [0.25], names=["b"])
    assert curve[0].wires == 180
    assert {name for name, _, _ in curve[0].score - curve[1].score} == {"b"}
    pruned = lp.sparsify(net, keep=0.25, names=["a"])
    assert pruned.cut.wires == 100
    assert pruned.model.b.kept is None
    assert len(pruned.model.a.kept) == 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((3, "weight", left), "model: got 3, expected a torch.nn.Module"),
        ((nn.Linear(2, 2), "weight", left), "model: got Linear, expected a model with a LocalityLinear"),
        ((Net(COSTS[0]), "size", left), "by: got size, expected one of weight, length, cost"),
        ((Net(COSTS[0]), None, left), "by: got None, expected one of"),
        ((Net(COSTS[0]), "weight", None), "evaluate: got None, expected a function of the model"),
        ((Net(COSTS[0]), "weight", left, [math.nan]), "shares: got nan, expected a number from 0 to 1"),
        ((Net(COSTS[0]), "weight", left, None), "shares: got None, expected a list"),
        ((Net(COSTS[0]), "weight", left, [0.5], [None]), "names: got None, expected one of 'a', 'b'"),
    ],
)
def test_a_curve_names_bad_input(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises((ValueError, TypeError)) as raised:
        pruning.curve(*arguments)
    assert str(raised.value).startswith(said)


def test_what_a_layer_is_goes_with_it() -> None:
    layer = lp.LocalityLinear(20, 20, source=SHEET, bias=False).eval().requires_grad_(False)
    pruned = lp.sparsify(layer, keep=0.5).model
    assert not pruned.training
    assert not pruned.weight.requires_grad
    assert pruned.bias is None
    assert "kept=200" in repr(pruned)
    assert "200 wires kept" in repr(pruned.rule)
    again = lp.sparsify(pruned, keep=0.5).model
    assert left(nn.Sequential(again)) < left(nn.Sequential(pruned))
    assert len(again.kept) == 100
    assert_close(pruned.double()(torch.eye(20).double()).t(), lp.fold(pruned).weight)


# --- the state of a pruned layer -------------------------------------------------------------------------------------


def pruned_layer(backend: str, kept: Tensor) -> lp.LocalityLinear:
    return lp.LocalityLinear(20, 9, source=SHEET, target=lp.Grid(3, 3), backend=backend, kept=kept, rescale=True)


KEPT = torch.tensor([0, 3, 21, 60, 77, 100, 179])


@pytest.mark.parametrize("one", ["dense", "windowed", "wires"])
@pytest.mark.parametrize("other", ["dense", "windowed", "wires"])
def test_any_backend_loads_any_others_state(one: str, other: str, tmp_path: Path) -> None:
    a, b, x = pruned_layer(one, KEPT), pruned_layer(other, KEPT), torch.randn(4, 20)
    b.load_state_dict(a.state_dict())
    assert_close(a(x), b(x))
    lp.save(a, tmp_path / "a.safetensors")
    for into in (pruned_layer(other, KEPT), pruned_layer(other, KEPT[1:]).rule and None):
        assert_close(lp.load(tmp_path / "a.safetensors", into)(x), a(x))
    assert torch.equal(lp.load(tmp_path / "a.safetensors").kept, KEPT)
    matrix = nn.Linear(20, 9)
    b.load_state_dict(matrix.state_dict())  # a plain checkpoint: what is left of it
    assert torch.equal(lp.fold(b).weight != 0, (b.rule.dense() != 0))


def test_loading_prunes_a_model_that_is_not(tmp_path: Path) -> None:
    net, x = Net(COSTS[0]), torch.randn(4, 20, dtype=torch.float64)
    pruned = lp.sparsify(net, keep=0.3).model
    lp.save(pruned, tmp_path / "net.safetensors")
    fresh = Net(COSTS[0])
    assert lp.load(tmp_path / "net.safetensors", fresh) is fresh
    assert_close(fresh(x), pruned(x))
    assert left(fresh) == left(pruned)


class Shared(nn.Module):
    """One layer in two places."""

    def __init__(self, backend: str = "dense") -> None:
        super().__init__()
        self.a = lp.LocalityLinear(20, 20, source=SHEET, cost=COSTS[1], backend=backend)
        self.b = self.a


def test_a_layer_in_two_places_loads(tmp_path: Path) -> None:
    x = torch.randn(3, 20)
    pruned = lp.sparsify(Shared(), keep=0.5).model
    assert pruned.a is pruned.b
    for model in (pruned, Shared("windowed")):
        lp.save(model, tmp_path / "shared.safetensors")
        assert_close(lp.load(tmp_path / "shared.safetensors", Shared()).b(x), model.a(x))


def test_other_wires_are_refused(tmp_path: Path) -> None:
    a, b = pruned_layer("dense", KEPT), pruned_layer("dense", KEPT + torch.tensor([0] * 6 + [-1]))
    before = copy.deepcopy(b.state_dict())
    lp.save(a, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="model: got kept of other wires, expected the wires in the file"):
        lp.load(tmp_path / "a.safetensors", b)
    with pytest.raises(RuntimeError, match="kept: got 7 wires left by pruning, expected the 7 that this layer has"):
        b.load_state_dict(a.state_dict())
    whole = lp.LocalityLinear(20, 9, source=SHEET, target=lp.Grid(3, 3), rescale=True)
    with pytest.raises(RuntimeError, match="kept: got 7 wires left by pruning, expected all of them"):
        whole.load_state_dict(a.state_dict())
    assert all(torch.equal(v, before[k]) for k, v in b.state_dict().items())
    lp.save(whole, tmp_path / "whole.safetensors")
    with pytest.raises(ValueError, match="differing in kept"):
        lp.load(tmp_path / "whole.safetensors", a)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "keep, wire_length, drop: got none of them, expected one of the three"),
        ({"keep": 0.5, "drop": 1}, "keep, wire_length, drop: got keep and drop"),
        ({"keep": 0}, "keep: got 0, expected a share above 0 and at most 1"),
        ({"keep": 1.5}, "keep: got 1.5"),
        ({"keep": math.nan}, "keep: got nan"),
        ({"keep": 0.01, "by": "length"}, "keep: got 0.01, which leaves layer 'b' without a wire"),
        ({"wire_length": -1}, "wire_length: got -1, expected a finite number of at least 0"),
        ({"wire_length": 0, "by": "length"}, "wire_length: got 0, which leaves layer 'b' without a wire"),
        ({"drop": -1, "evaluate": lambda m: 1.0}, "drop: got -1"),
        ({"drop": 1}, "evaluate: got None"),
        ({"keep": 0.5, "evaluate": 3}, "evaluate: got 3, expected a function from a model to its score"),
        ({"keep": 0.5, "evaluate": lambda m: None}, "evaluate: got None, expected a function that returns a number"),
        ({"keep": "0.5"}, "keep: got 0.5, expected a number from 0 to 1"),
        ({"keep": True}, "keep: got True"),
        ({"wire_length": "a"}, "wire_length: got a, expected"),
        ({"keep": 0.5, "shares": ["a"]}, "shares: got a, expected"),
        ({"drop": 1, "evaluate": lambda m: math.nan}, "drop: got 1, expected a score that is a number"),
        ({"keep": 0.5, "by": "magnitude"}, "by: got magnitude, expected one of weight, length, cost"),
        ({"keep": 0.5, "shares": [0.5, 2]}, "shares: got 2, expected a number from 0 to 1"),
        ({"keep": 0.5, "shares": "0.5"}, "shares: got 0.5, expected a list of shares"),
        ({"keep": 0.5, "shares": 0.5}, "shares: got 0.5, expected a list of shares"),
        ({"keep": 0.5, "shares": [0]}, "shares: got 0.0, expected shares above 0"),
        ({"keep": 0.5, "names": "a"}, "names: got a, expected a list of names"),
        ({"keep": 0.5, "names": ["a", "c"]}, "names: got c, expected one of 'a', 'b'"),
        ({"keep": 0.5, "names": []}, "names: got [], expected at least one name"),
        ({"keep": 0.5, "names": 3}, "names: got 3, expected a list of names"),
    ],
)
def test_targets_that_cannot_be_met(options: dict[str, Any], said: str) -> None:
    net = Net(COSTS[0])
    before = copy.deepcopy(net.state_dict())
    with pytest.raises((ValueError, TypeError)) as raised:
        lp.sparsify(net, **options)
    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_weights_that_are_made_of_others() -> None:
    layer = nn.utils.parametrizations.weight_norm(lp.LocalityLinear(20, 20))
    with pytest.raises(ValueError, match="model: got layer '' with a weight made of others, expected weights without"):
        lp.sparsify(layer, keep=0.5)


def test_places_that_cannot_be_reached_have_no_wire_to_cut() -> None:
    lengths = SHEET.distances()
    lengths[:10, 10:] = lengths[10:, :10] = math.inf
    layer = lp.LocalityLinear(20, 20, source=lp.Distances(lengths))
    for by in BY:
        assert lp.sparsify(layer, by, keep=0.5).cut.wires == 100
    far = lp.LocalityLinear(1600, 1600, cost=lp.cost.Exponential(0.05))  # whose prices no number holds
    assert lp.sparsify(far, keep=0.5).cut.share == pytest.approx(0.5, abs=1e-3)


def test_random_numbers_stay_the_callers() -> None:
    net = Net(COSTS[0])
    before = torch.get_rng_state()
    lp.sparsify(net, keep=0.5)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_pruned_layer_serves_every_dtype() -> None:
    sheet = lp.Grid(32, 32)
    pruned = lp.sparsify(lp.LocalityLinear(1024, 1024, source=sheet), keep=0.05).model
    assert pruned.backend == "auto"
    x = torch.randn(2, 1024)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(pruned(x).float(), lp.fold(pruned)(x).float(), rtol=0.1, atol=0.05)


def test_a_model_without_a_layer() -> None:
    with pytest.raises(ValueError, match="model: got Linear, expected a model with a LocalityLinear"):
        lp.sparsify(nn.Linear(3, 3), keep=0.5)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (torch.tensor([3, 1]), "kept: got numbers from 1 to 3"),
        (torch.tensor([1, 1]), "kept: got numbers from 1 to 1"),
        (torch.tensor([0, 180]), "kept: got numbers from 0 to 180"),
        (torch.tensor([0.0, 1.0]), r"kept: got torch.float32, shape \(2,\)"),
        (torch.tensor([], dtype=torch.int64), r"kept: got torch.int64, shape \(0,\)"),
        ([1, 2], r"kept: got \[1, 2\]"),
    ],
)
def test_what_is_kept_must_be_wires(kept: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pruned_layer("dense", kept)


def test_a_pair_without_a_wire_cannot_be_kept() -> None:
    with pytest.raises(ValueError, match="kept: got 1 pairs that have no wire"):
        lp.LocalityLinear(20, 20, source=SHEET, cost=COSTS[1], kept=torch.tensor([0, 19]))
