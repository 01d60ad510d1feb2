"""Scores under perturbed inputs and without some units, against the same done by hand."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import locality_prior as lp
from locality_prior.placement import place, silenced
from locality_prior.runs import stages
from locality_prior.runs.network import Network
from locality_prior.runs.robustness import SHARE, TIMES, _chosen, robustness
from locality_prior.runs.task import Batch, Shard, Task, draw

CPU = torch.device("cpu")


def trained(model: nn.Module, task: Task) -> nn.Module:
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    model.train()
    for epoch in (1, 2, 3):
        for batch in task.epoch(1, epoch, 20, Shard()):
            optimizer.zero_grad()
            task.loss(model(batch.inputs), batch.targets).backward()
            optimizer.step()
    model.zero_grad()
    return model.eval()


def network(model: nn.Module, **sheets: Any) -> Network:
    return Network(model, place(model, sheets), ())


@pytest.fixture(scope="module")
def task() -> Task:
    return tiny.blobs()


@pytest.fixture(scope="module")
def net(task: Task) -> Network:
    model = trained(tiny.mlp(task, side=6), task)
    return network(model, input=lp.Grid(6, 6), output=lp.Grid(6, 6, periodic=True))


def kept(task: Task) -> tuple[Tensor, Tensor]:
    batches = list(task.kept())
    return torch.cat([b.inputs for b in batches]), torch.cat([b.targets for b in batches])


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    return 100 * float((outputs.argmax(1) == targets).double().mean())


def test_perturbed_inputs_are_as_said(net: Network, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    large, far = 2.0, 0.6  # so that both scores fall
    monkeypatch.setattr("locality_prior.runs.robustness.NOISE", large)
    monkeypatch.setattr("locality_prior.runs.robustness.STEP", far)
    found = robustness(net, task, CPU, seed=3)
    x, y = kept(task)
    size = float(x.double().std(correction=0))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(draw(3, 0, 4)))
    assert found["noise_score"] == pytest.approx(accuracy(net.model(x + large * size * noise), y))
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(task.loss(net.model(leaf), y), leaf)
    attacked = accuracy(net.model(x + far * size * gradient.sign()), y)
    assert found["adversarial_score"] == pytest.approx(attacked)
    assert max(found["noise_score"] or 0, attacked) < accuracy(net.model(x), y)


def test_lesions_are_as_said(net: Network, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locality_prior.runs.robustness.SHARE", 0.7)  # so much that scores fall
    found = robustness(net, task, CPU, seed=3)
    (x, y), m = kept(task), net.model.get_submodule
    for k, name in enumerate(("input", "output")):
        for base, chosen in zip(("patch", "random"), _chosen(net.placed[name].geometry, draw(3, 0, 5, k)), strict=True):
            scores = []
            for units in chosen:
                whole = torch.ones(36)
                whole[units] = 0
                first = m("first")(x).relu() * (whole if name == "input" else 1)
                second = m("norm")(m("middle")(first)).relu() * (whole if name == "output" else 1)
                scores.append(accuracy(m("head")(second), y))
            assert found[f"{base}_lesion_score.{name}"] == pytest.approx(sum(scores) / TIMES)
    assert len({found[f"{base}_lesion_score.{name}"] for base in ("patch", "random") for name in net.placed}) > 1


def test_what_is_knocked_out() -> None:
    sheet = lp.Grid(9, 8, periodic=True)
    patches, random = _chosen(sheet, 7)
    assert len(patches) == len(random) == TIMES
    for units in (*patches, *random):
        assert len(units) == len(set(units.tolist())) == round(SHARE * 72)
    distances = sheet.distances()
    for units in patches:  # the first is the centre, and nothing else is nearer to it
        others = torch.ones(72, dtype=torch.bool)
        others[units] = False
        assert distances[units[0], units].max() <= distances[units[0], others].min()
    assert len({int(units[0]) for units in patches}) > 1
    again, other = _chosen(sheet, 7), _chosen(sheet, 8)
    assert torch.equal(torch.stack(patches), torch.stack(again[0]))
    assert not torch.equal(torch.stack(random), torch.stack(other[1]))
    assert [len(units) for units in _chosen(lp.Line(3), 1)[0]] == [1] * TIMES


def test_a_dead_unit_is_the_whole_lesion_of_a_unit_that_decides(task: Task) -> None:
    """Four units, one for each class: without one of them, the items of its class are lost."""
    model = nn.Sequential(OrderedDict(sheet=nn.Linear(16, 4), read=nn.Identity()))
    trained(model, task)
    with torch.no_grad():
        x, y = kept(task)
        model[0].weight.mul_(100)
        model[0].bias.fill_(1000)  # so that every unit is far above 0, which a silent one gives
        right = model(x).argmax(1) == y
    found = robustness(network(model, sheet=lp.Line(4)), task, CPU, seed=1)
    for base, chosen in zip(("patch", "random"), _chosen(lp.Line(4), draw(1, 0, 5, 0)), strict=True):
        expected = [100 * float((right & (y != int(unit))).double().mean()) for (unit,) in chosen]
        assert found[f"{base}_lesion_score.sheet"] == pytest.approx(sum(expected) / TIMES)


class Whole(nn.Module):
    """The same network, which does not say that it is a sequence."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def test_a_network_in_one_piece_scores_as_one_in_stages(
    net: Network, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = robustness(net, task, CPU, seed=1)
    sheets = {f"inner.{name}": net.placed[name].geometry for name in net.placed}
    found = robustness(network(Whole(net.model), **sheets), task, CPU, seed=1)
    assert {name.replace("inner.", ""): value for name, value in found.items()} == expected
    monkeypatch.setattr(stages, "MEMORY", 100)  # so that items are read again each time
    assert robustness(net, task, CPU, seed=1) == expected


def test_nothing_is_left_behind(net: Network, task: Task) -> None:
    before = {k: v.clone() for k, v in net.model.state_dict().items()}
    random = torch.get_rng_state()
    robustness(net, task, CPU, seed=1)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(v, before[k]) for k, v in net.model.state_dict().items())
    assert all(p.grad is None for p in net.model.parameters())
    assert not any(m._forward_hooks for m in net.model.modules())
    assert not net.model.training


class Other(Task):
    """Inputs as ``make`` makes them of floating numbers; without scores, so the loss is the main one."""

    sizes = (8, 8, 8)

    def __init__(self, make: Any) -> None:
        self.make = make

    def steps(self, batch_size: int, world: int) -> int:
        return 1

    def epoch(self, *args: Any, **kwargs: Any) -> Iterator[Batch]:
        return self.test(Shard())

    validation = epoch

    def test(self, shard: Shard) -> Iterator[Batch]:
        x = torch.linspace(0, 1, 32).reshape(8, 4)
        yield Batch(self.make(x), torch.zeros(8), 8)

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        return (outputs.sum(1) - targets).square().mean()


class Called(nn.Module):
    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.how, self.sheet = how, nn.Linear(4, 4)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        if self.how == "detached":
            x = x.detach()
        if self.how == "in place":
            x.mul_(2)
        return self.sheet(x.float()).tanh()


@pytest.mark.parametrize(
    ("make", "how", "undefined"),
    [
        (lambda x: x, "", set()),
        (lambda x: x.bfloat16(), "", set()),
        (lambda x: x, "in place", set()),
        (lambda x: (x * 9).long(), "", {"noise_score", "adversarial_score"}),
        (lambda x: (x, x), "", {"noise_score", "adversarial_score"}),
        (lambda x: {"x": x}, "", {"noise_score", "adversarial_score"}),
        (lambda x: torch.zeros(8, 4), "", {"noise_score", "adversarial_score"}),
    ],
)
def test_what_cannot_be_perturbed_is_undefined(make: Any, how: str, undefined: set[str]) -> None:
    torch.manual_seed(0)
    found = robustness(network(Called(how).eval(), sheet=lp.Line(4)), Other(make), CPU, seed=1)
    assert {name for name, value in found.items() if value is None} == undefined
    assert found.keys() == {
        *("noise_score", "adversarial_score", "patch_lesion_score.sheet", "random_lesion_score.sheet")
    }


def test_a_loss_without_a_gradient_by_the_inputs() -> None:
    model = Called("detached").eval()
    found = robustness(network(model, sheet=lp.Line(4)), Other(lambda x: x), CPU, seed=1)
    assert found["adversarial_score"] is None
    assert found["noise_score"] is not None
    one = nn.Sequential(OrderedDict(a=nn.Linear(4, 1), b=nn.Linear(1, 2))).eval()
    alone = robustness(network(one, a=lp.Line(1)), Other(lambda x: x), CPU, seed=1)
    assert alone["patch_lesion_score.a"] is None  # of one unit


def test_units_that_share_a_place_are_lost_together() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(wide=nn.Linear(4, 12), head=nn.Linear(12, 2))).eval()
    net = network(model, wide=lp.Grid(2, 2).with_channels(3))
    task = Other(lambda x: x)
    found = robustness(net, task, CPU, seed=2)
    ((x, *_),) = task.test(Shard())
    losses = []
    for places in _chosen(lp.Grid(2, 2), draw(2, 0, 5, 0))[0]:
        seen = model[0](x).detach().reshape(8, 3, 4)
        seen[:, :, places] = 0
        losses.append(task.loss(model[1](seen.flatten(1)), torch.zeros(8)).item())
    assert found["patch_lesion_score.wide"] == pytest.approx(sum(losses) / TIMES)


# Which part of an output belongs to the lost units


def test_lost_units_of_a_feature_map() -> None:
    lost = torch.tensor([True, False, False])
    conv = place(nn.Sequential(nn.Conv2d(2, 3, 1)), {"0": lp.Line(3)})["0"]
    for output in (torch.ones(5, 3, 4, 4), torch.ones(3, 4, 4)):
        seen = silenced(conv, output, lost).sum((-1, -2)).reshape(-1, 3)
        assert seen.unique(dim=0).tolist() == [[0, 16, 16]]
    flat = place(nn.Sequential(nn.ReLU()), {"0": lp.Grid(2, 2).with_channels(3)})["0"]
    places = torch.zeros(12, dtype=torch.bool)
    places[5] = True
    seen = silenced(flat, torch.ones(6, 3, 2, 2), places)
    assert (seen == 0).nonzero()[:, 1:].tolist() == [[1, 0, 1]] * 6


def test_lost_units_give_zero_whatever_they_gave() -> None:
    one = place(nn.Sequential(nn.ReLU()), {"0": lp.Line(2)})["0"]
    output = torch.tensor([[torch.nan, 1.0]])
    assert silenced(one, output, torch.tensor([True, False])).tolist() == [[0, 1]]
    assert output.isnan().any()  # a copy was changed


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_lost_units_of_a_recurrent_network(kind: Any, bidirectional: bool, packed: bool) -> None:
    torch.manual_seed(0)
    module = kind(2, 3, num_layers=2, bidirectional=bidirectional, batch_first=True)
    units = 3 * (1 + bidirectional)
    placed = place(nn.Sequential(module), {"0": lp.Line(units)})["0"]
    lost = torch.zeros(units, dtype=torch.bool)
    lost[1] = True
    x: Any = pack_sequence([torch.randn(5, 2), torch.randn(3, 2)]) if packed else torch.randn(4, 5, 2)
    before, states = module(x)
    after, changed = silenced(placed, (before, states), lost)
    assert isinstance(after, PackedSequence) == packed
    one, other = (y.data if packed else y for y in (before, after))
    torch.testing.assert_close(other, one.masked_fill(lost, 0))
    for a, b in zip(*((s if isinstance(s, tuple) else (s,)) for s in (states, changed)), strict=True):
        expected = a.clone()
        expected[-1 - bidirectional, :, 1] = 0  # of the last layer's forward direction
        torch.testing.assert_close(b, expected)


def test_lost_units_in_tuples_and_mappings() -> None:
    placed, lost = place(nn.Sequential(nn.ReLU()), {"0": lp.Line(2)})["0"], torch.tensor([True, False])
    ones = torch.ones(3, 2)
    Pair = namedtuple("Pair", ["name", "values", "rest"])
    named = silenced(placed, Pair("a", ones, ones), lost)
    assert isinstance(named, Pair)
    for seen in (
        named.values,
        silenced(placed, {"a": None, "b": ones}, lost)["b"],
        silenced(placed, [(ones,)], lost)[0][0],
    ):
        assert seen.tolist() == [[0, 1]] * 3
    assert named.rest is ones
