"""Locality in models that are there already: what is found, what is refused, and that the function stays."""

from __future__ import annotations

import copy
import re
import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import locality_prior as lp
from locality_prior.layers import Locality
from locality_prior.retrofit import weights

DECAY = "localize: weight decay on W = V/P charges long wires more"


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(9, 16)
        self.fc2 = nn.Linear(16, 9, bias=False)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(self.act(self.fc1(x)))
        return x + y


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 9, 3)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.rnn = nn.GRU(9, 4, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        x, _ = self.rnn(x)
        x = self.attention(x, x, x, need_weights=False)[0]
        y: Tensor = self.head(x[:, -1])
        return y


def quietly(model: nn.Module, targets: Any, **options: Any) -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        return lp.localize(model, targets, **options)


def changed(model: nn.Module) -> list[str]:
    return [name for name, m in model.named_modules() if isinstance(m, Locality)]


X = torch.randn(2, 3, 5, 5)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("head", ["head"]),
        ("blocks.0.fc1", ["blocks.0.fc1"]),
        ("fc1", ["blocks.0.fc1", "blocks.1.fc1"]),
        ("1.fc2", ["blocks.1.fc2"]),
        ("blocks.**", ["blocks.0.fc1", "blocks.0.fc2", "blocks.1.fc1", "blocks.1.fc2"]),
        ("blocks.*.fc[12]", ["blocks.0.fc1", "blocks.0.fc2", "blocks.1.fc1", "blocks.1.fc2"]),
        ("blocks.?.fc[!1]", ["blocks.0.fc2", "blocks.1.fc2"]),
        ("**.fc1", ["blocks.0.fc1", "blocks.1.fc1"]),
        ("**.head", ["head"]),
        ("**.fc[12]", ["blocks.0.fc1", "blocks.0.fc2", "blocks.1.fc1", "blocks.1.fc2"]),
        ("*", ["conv", "rnn", "attention", "head"]),
        ("**", ["conv", "blocks.0.fc1", "blocks.0.fc2", "blocks.1.fc1", "blocks.1.fc2", "rnn", "attention", "head"]),
        (nn.Linear, ["blocks.0.fc1", "blocks.0.fc2", "blocks.1.fc1", "blocks.1.fc2", "head"]),
        (nn.Conv2d, ["conv"]),
        (nn.GRU, ["rnn"]),
        (nn.MultiheadAttention, ["attention"]),
    ],
)
def test_what_a_key_means(key: Any, found: list[str]) -> None:
    net = Net().eval()
    before = net(X)
    quietly(net, {key: None}, example=X)
    assert changed(net) == found
    assert_close(net(X), before)


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        ({nn.Linear: None, "head": False}, ["blocks.0.fc1", "blocks.0.fc2", "blocks.1.fc1", "blocks.1.fc2"]),
        ({"blocks.0": False, "**.fc1": None}, ["blocks.1.fc1"]),
        ({"**": None, nn.Linear: False, nn.RNNBase: False}, ["conv", "attention"]),
        ({"**": None, Block: False}, ["conv", "rnn", "attention", "head"]),
    ],
)
def test_false_leaves_out_a_module_and_all_inside_it(targets: Any, found: list[str]) -> None:
    assert changed(quietly(Net(), targets)) == found


def test_the_function_stays_and_comes_back() -> None:
    """Localized, folded, localized again and folded again: one function, and weights to rounding."""
    net = Net().eval()
    plain, before = copy.deepcopy(net), net(X)
    assert quietly(net, {"**": None}, cost=lp.cost.Gaussian(3.0), rescale=True, example=X) is net
    assert_close(net(X), before)
    for _ in range(2):
        folded = lp.fold(net)
        assert not changed(folded)
        assert all("locality" not in type(m).__module__ for m in folded.modules() if not isinstance(m, (Net, Block)))
        assert_close(folded(X), before)
        assert_close(dict(folded.state_dict()), dict(plain.state_dict()))
        net = quietly(copy.deepcopy(folded), {"**": None}, cost=lp.cost.Quadratic())


def test_raw_weights_are_v_over_p() -> None:
    for cost in (lp.cost.Linear(), lp.cost.Linear().within(1.5), lp.cost.Exponential(0.1)):
        linear = nn.Linear(9, 9).double()
        net = nn.Sequential(copy.deepcopy(linear))
        quietly(net, {"0": lp.Grid(3, 3)}, cost=cost)
        signal = cost.signal(lp.Grid(3, 3).distances())
        there = signal >= 1e-6  # less counts as no wire
        expected = torch.where(there, linear.weight / torch.where(there, signal, 1.0), 0.0)
        assert_close(net[0].weight, expected)
        assert_close(net[0].effective_weight, torch.where(there, linear.weight, 0.0))
        assert_close(net[0].bias, linear.bias)


@pytest.mark.parametrize(("held", "block"), [(0, 32), (200, 32), (1 << 23, 1 << 19)])
def test_raw_weights_in_blocks(held: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether P is held for other layers, worked out row by row or spread from a table: W = V / P."""
    monkeypatch.setattr(weights, "HELD", held)
    monkeypatch.setattr(weights, "BLOCK", block)
    net = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 16), nn.Linear(12, 12), nn.Linear(16, 16)).double()
    plain = copy.deepcopy(net)
    points, sheet = lp.Points(torch.rand(12, 2)), lp.Grid(4, 4, periodic=True)
    targets = {"0": points, "1": (points, lp.Points(torch.rand(16, 2))), "2": points, "3": sheet}
    for rescale in (False, True):
        local = quietly(copy.deepcopy(net), targets, cost="quadratic", rescale=rescale)
        for layer, old in zip(local, plain, strict=True):
            assert_close(layer.weight, old.weight / layer.rule.dense())
    near = quietly(net, {"0": points, "2": points}, cost="linear@0.4")
    for k in (0, 2):
        there = points.distances() <= 0.4
        assert_close(near[k].weight, torch.where(there, plain[k].weight * (1 + points.distances()), 0.0))


@pytest.mark.parametrize("backend", ["dense", "windowed", "wires"])
def test_any_backend(backend: str) -> None:
    linear = nn.Linear(64, 64)
    net = nn.Sequential(copy.deepcopy(linear))
    cost = lp.cost.Linear().within(2)
    options = {"target": lp.Grid(8, 8), "cost": cost, "backend": backend}
    quietly(net, {"0": options}, example=torch.randn(2, 64))
    there = cost.signal(lp.Grid(8, 8).distances()) > 0
    assert_close(lp.fold(net)[0].weight, linear.weight * there)  # type: ignore[index]


def test_places_and_options_of_each_target() -> None:
    net = Net()
    targets = {
        "blocks.0.fc1": lp.HexGrid(4, 4),
        "blocks.1.fc1": (lp.Grid(3, 3, periodic=True), lp.Grid(4, 4, periodic=True)),
        "fc2": {"source": lp.Grid(4, 4), "cost": lp.cost.Flat(), "norm": False},
        "conv": {"cost": lp.cost.Sqrt(2.0), "norm": True},
        "rnn": lp.Line(4, periodic=True),
        "attention": {"units": lp.Grid(2, 2), "positions": lp.Grid(3, 3), "slopes": (1.0, 0.5)},
        "head": None,
    }
    quietly(net, targets, cost=lp.cost.Gaussian(2.0))
    fc = net.blocks[0].fc1
    assert isinstance(fc, lp.LocalityLinear)
    assert (fc.target, fc.source, fc.cost) == (lp.HexGrid(4, 4), lp.Grid(3, 3), lp.cost.Gaussian(2.0))
    assert net.blocks[1].fc1.source == lp.Grid(3, 3, periodic=True)
    assert net.blocks[1].fc2.cost == lp.cost.Flat()
    assert isinstance(net.conv, nn.Sequential)
    assert isinstance(net.conv[0], lp.LocalityConv2d)
    assert net.conv[0].cost == lp.cost.Sqrt(2.0)
    assert isinstance(net.conv[1], nn.BatchNorm2d)
    assert (net.rnn.units, net.attention.positions) == (lp.Line(4, periodic=True), lp.Grid(3, 3))
    assert net.head.target == lp.Grid(2, 3, units=5)
    net(X)


def test_a_lone_geometry_is_the_sources_too_where_sizes_agree() -> None:
    net = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 25))
    quietly(net, {"0": lp.Grid(4, 4, periodic=True), "1": lp.Grid(5, 5)})
    assert net[0].source == lp.Grid(4, 4, periodic=True)
    assert (net[1].source, net[1].target) == (lp.Grid(4, 4), lp.Grid(5, 5))


def test_matched_control_with_batchnorm() -> None:
    """Same modules, same shapes, the control's P = 1: one plan, two costs."""
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(9, 9), nn.ReLU()) for _ in range(2)]
    x = torch.randn(32, 9)
    before = nets[0](x)
    quietly(nets[0], {"0": lp.Grid(3, 3)}, norm=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a control has nothing to warn of
        lp.localize(nets[1], {"0": lp.Grid(3, 3)}, cost=lp.cost.Flat(), norm=True)
    shapes = [{k: v.shape for k, v in net.state_dict().items()} for net in nets]
    assert shapes[0] == shapes[1]
    assert [type(m) for m in nets[0].modules()] == [type(m) for m in nets[1].modules()]
    assert_close(nets[0].eval()(x), before, rtol=1e-4, atol=1e-5)  # but for BatchNorm's ε
    assert nets[0].training is False
    assert all(m.training for m in nets[1].modules())


def test_modes_dtypes_gradients_and_sharing_are_kept() -> None:
    shared = nn.Linear(9, 9).double().requires_grad_(False)
    net = nn.ModuleDict({"a": nn.Sequential(shared), "b": shared})
    net["a"].eval()
    quietly(net, {"b": None})
    assert net["b"] is net["a"][0]
    assert net["b"].weight.dtype == torch.float64
    assert not net["b"].weight.requires_grad
    assert not net["b"].training
    assert str(lp.plan(nn.ModuleDict({"a": nn.Sequential(shared), "b": shared}), {"a.0": None})).count("a.0, b") == 1


def test_the_plan_is_a_table_and_touches_nothing() -> None:
    net = Net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    rng = torch.get_rng_state()
    cost = lp.cost.Linear().within(1)
    targets = {"fc1": (lp.Grid(3, 3), lp.Grid(4, 4)), "conv": {"cost": lp.cost.Linear().within(2)}}
    plan = lp.plan(net, targets, cost=cost, norm=True)
    lines = str(plan).splitlines()
    assert repr(plan) == str(plan)
    assert lines[0].split() == ["name", "layer", "weights", "places", "cost", "wires", "density", "dropped"]
    assert [line.split()[0] for line in lines[1:]] == ["blocks.0.fc1", "blocks.1.fc1", "conv"]
    wires = lp.Prior(lp.Grid(3, 3), lp.Grid(4, 4), lp.cost.Linear().within(1)).wires().count
    weight = before["blocks.0.fc1.weight"].abs()
    lost = weight[lp.Grid(4, 4).distances(lp.Grid(3, 3)) > 1].sum() / weight.sum()
    for part in ("Linear → LocalityLinear + BatchNorm", "16×9", "Grid(3, 3) → Grid(4, 4)", "Linear().within(1)"):
        assert part in lines[1]
    assert lines[1].split()[-3:] == [str(wires), f"{wires / 144:.1%}", f"{lost:.1%}"]
    assert "9×3×3×3" in lines[3]
    assert_close(dict(net.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), rng)
    assert changed(net) == []
    with warnings.catch_warnings(action="ignore"):
        assert plan.apply() is net
    assert changed(net) == ["conv.0", "blocks.0.fc1.0", "blocks.1.fc1.0"]
    assert str(plan).splitlines() == lines
    with pytest.raises(RuntimeError, match=r"^This plan was applied already. Make a new one with plan\(\).$"):
        plan.apply()


def test_what_is_dropped_is_said() -> None:
    net = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9))
    nn.init.ones_(net[0].weight)
    share = float((lp.Grid(3, 3).distances() > 1).double().mean())
    said = re.escape(f"{DECAY}, λ Σ c²V², from now on in 0, 1. Dropped, of Σ|V|, for want of a wire: {share:.1%} in 0.")
    with pytest.warns(UserWarning, match=said):
        lp.localize(net, {"0": {"target": lp.Grid(3, 3), "cost": lp.cost.Linear().within(1)}, "1": lp.Grid(3, 3)})


# What is refused, with the model left as it was


class Reader(nn.Module):
    """A module that reads a layer's weight and never calls it: what attention modules do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(9, 9)
        self.outer = nn.Linear(9, 9)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.outer(x), self.inner.weight, self.inner.bias)


class Own(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


def tied() -> nn.Module:
    net = nn.ModuleDict({"embedding": nn.Embedding(9, 9), "head": nn.Linear(9, 9)})
    net["head"].weight = net["embedding"].weight
    return net


def hooked() -> nn.Module:
    net = nn.Sequential(nn.Linear(9, 9))
    net[0].register_forward_hook(lambda *given: None)
    return net


def parametrised() -> nn.Module:
    net = nn.Sequential(nn.Linear(9, 9))
    nn.utils.parametrizations.weight_norm(net[0])
    return net


REFUSED: list[tuple[Callable[[], nn.Module], Any, dict[str, Any], str]] = [
    (Net, {"fc9": None}, {}, "targets: got 'fc9', which matches no module, expected one of conv, blocks"),
    (Net, {"head": None, "blocks.*.fc9": None}, {}, "targets: got 'blocks.*.fc9', which matches no module"),
    (Net, {"head": None, "act": None}, {}, "targets: got 'act', a ReLU, expected a layer of type Linear, Conv2d"),
    (Net, {"blocks": None}, {}, "targets: got 'blocks', a ModuleList"),
    (
        Net,
        {"blocks.*": None},
        {},
        "targets: got 'blocks.*', which matches only modules of type Block, expected a layer",
    ),
    (Net, {"[z-a]": None}, {}, "targets: got the pattern '[z-a]', expected wildcards"),
    (
        Net,
        {"head": None, "*": False},
        {},
        "targets: got 'head', whose modules another key leaves out by False, expected other modules",
    ),
    (Net, {nn.ReLU: None}, {}, "targets: got ReLU, expected a layer of type Linear, Conv2d"),
    (Net, {nn.LSTM: None}, {}, "targets: got LSTM, which matches no module"),
    (
        Net,
        {"head": None, "attention.out_proj": None},
        {},
        "a part of an attention module, which reads its weight and never calls it",
    ),
    (
        Net,
        {"head": None, nn.Linear: None},
        {},
        "targets: got 'head' and Linear, which both name head, expected one key for each",
    ),
    (Net, {"head": lp.Grid(2, 2)}, {}, "targets: head: target: got Grid(2, 2) of 4 units, expected 5 units"),
    (Net, {"rnn": (lp.Line(4), lp.Line(4))}, {}, "for rnn, expected a geometry, a mapping of arguments"),
    (Net, {"head": "sheet"}, {}, "targets: got 'sheet' for head, expected a geometry, a pair"),
    (
        Net,
        {"head": {"places": lp.Grid(2, 2)}},
        {},
        "targets: got 'places' for head, expected arguments among backend, cost",
    ),
    (Net, {"rnn": {"norm": True}}, {}, "norm: got True for rnn, a GRU, expected a Linear or a Conv2d"),
    (Net, {"head": lp.Line(5, periodic=True)}, {}, "cannot meet"),
    (Net, {}, {}, "targets: got {}, expected a mapping"),
    (Net, {3: None}, {}, "targets: got the key 3, expected a module's name or type"),
    (Net, {"head": None}, {"cost": "lin"}, "cost: got 'lin', expected name[:length[,p]][@radius]"),
    (
        tied,
        {"head": None},
        {},
        "targets: got head, which shares its weight with embedding, expected weights of its own",
    ),
    (hooked, {"0": None}, {}, "targets: got 0, whose hooks would be lost"),
    (parametrised, {"0": None}, {}, "targets: got 0, whose weights a parametrization computes"),
    (lambda: nn.Sequential(Own(9, 9)), {"0": None}, {}, "targets: got '0', a Own, expected a layer of type"),
    (lambda: nn.Sequential(nn.LazyLinear(9)), {"0": None}, {}, "targets: got '0', a LazyLinear"),
    (lambda: nn.Sequential(lp.LocalityLinear(9, 9)), {"0": None}, {}, "targets: got '0', a LocalityLinear"),
    (lambda: nn.Sequential(nn.LSTM(4, 9, proj_size=4)), {"0": None}, {}, "targets: got 0 with proj_size=4"),
    (
        Reader,
        {"outer": None, "inner": None},
        {"example": torch.randn(2, 9)},
        "model: got inner, whose prior has no effect on the output",
    ),
    (
        Reader,
        {"inner": {"target": lp.Grid(3, 3), "cost": lp.cost.Linear().within(1)}},
        {"example": torch.randn(2, 9)},
        "model: got inner, whose prior has no effect on the output for this example, expected a model that calls",
    ),
]


@pytest.mark.parametrize(("make", "targets", "options", "said"), REFUSED, ids=[case[3][:60] for case in REFUSED])
def test_refused_and_unchanged(make: Callable[[], nn.Module], targets: Any, options: dict[str, Any], said: str) -> None:
    net = make()
    modules = dict(net.named_modules())
    before = copy.deepcopy({k: v for k, v in net.state_dict().items() if not isinstance(v, nn.UninitializedParameter)})
    with pytest.raises((ValueError, TypeError), match=re.escape(said)) as error:
        quietly(net, targets, **options)
    assert "\n" not in str(error.value)
    assert dict(net.named_modules()) == modules
    for key, value in before.items():
        assert torch.equal(net.state_dict()[key], value), key


def test_the_proof_is_by_every_layer() -> None:
    """And it bites: a layer that is called passes, one whose output is multiplied by 0 does not."""

    class Gate(nn.Module):
        def __init__(self, open_: float) -> None:
            super().__init__()
            self.a, self.b, self.open = nn.Linear(9, 9), nn.Linear(9, 9), open_

        def forward(self, x: Tensor) -> dict[str, Any]:
            return {"parts": (self.a(x), self.open * self.b(x)), "n": 3}

    x = {"x": torch.randn(2, 9)}
    quietly(Gate(1.0), {"a": None, "b": None}, example=x)
    with pytest.raises(ValueError, match="model: got b, whose prior has no effect on the output"):
        quietly(Gate(0.0), {"a": None, "b": None}, example=x)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")  # of torch's own way, before
@pytest.mark.parametrize("key", ["linear1", "linear2", "self_attn", "layers.1.linear1"])
def test_torchs_encoder_takes_no_fast_path_around_it(key: str) -> None:
    """In evaluation without gradients, torch's encoder reads weights and calls nothing; padded, it nests tensors."""
    layer = nn.TransformerEncoderLayer(16, 2, 16, dropout=0.1, batch_first=True)
    net = nn.TransformerEncoder(layer, 2).eval()
    x, padding = torch.randn(3, 5, 16), torch.tensor([[False] * 4 + [True]] * 3)
    with torch.no_grad():
        plain = net(x), net(x, src_key_padding_mask=padding)[:, :4]
        quietly(net, {key: lp.Grid(4, 4)}, example=x)
        assert_close(net(x), plain[0], rtol=1e-4, atol=1e-5)
        assert_close(net(x, src_key_padding_mask=padding)[:, :4], plain[1], rtol=1e-4, atol=1e-5)
        folded = lp.fold(net)
        assert_close(folded(x), plain[0], rtol=1e-4, atol=1e-5)


# Hazards


def reads(tail: Callable[[Tensor], Tensor]) -> nn.Module:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(9, 9)

        def forward(self, x: Tensor) -> Tensor:
            return tail(nn.functional.linear(x, self.fc.weight, self.fc.bias))

    return Reads()


@pytest.mark.parametrize("broken", [float("-inf"), float("nan")])
def test_the_proof_is_not_blinded_by_masks(broken: float) -> None:
    """Logits that a model masks, or outputs that it fills with NaN, compare with nothing: the others do."""
    x = torch.randn(9, 9)

    def tail(y: Tensor) -> Tensor:
        return y.masked_fill(torch.eye(9, dtype=torch.bool), broken)

    with pytest.raises(ValueError, match="model: got fc, whose prior has no effect on the output"):
        quietly(reads(tail), {"fc": lp.Grid(3, 3)}, example=x)
    called = nn.Sequential(nn.Linear(9, 9), nn.ModuleDict())
    called[1].forward = tail  # type: ignore[method-assign]
    quietly(called, {"0": lp.Grid(3, 3)}, example=x)


def test_the_proof_is_not_blinded_by_noise_and_leaves_it_alone() -> None:
    noisy = reads(lambda y: y + torch.rand_like(y))
    cost = lp.cost.Linear().within(1)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="whose prior has no effect on the output"):
        quietly(
            noisy,
            {"fc": {"target": lp.Grid(3, 3), "cost": cost}},
            example=torch.randn(2, 9, generator=torch.Generator()),
        )
    assert torch.equal(torch.get_rng_state(), before)


def test_the_proof_leaves_example_and_modes_alone() -> None:
    class Careless(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.mul_(2))

        def train(self, mode: bool = True) -> Careless:
            return super().train(mode).requires_grad_(mode)

    net, x = Careless(nn.Linear(9, 9)), torch.randn(2, 9)
    before = x.clone()
    quietly(net, {"0": None}, example=x)
    assert torch.equal(x, before)
    assert all(p.requires_grad for p in net.parameters())


def test_attention_over_positions_alone_is_proved_too() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mha = nn.MultiheadAttention(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.mha.in_proj_weight.t()

    options = {"mha": {"cost": lp.cost.Flat(), "positions": lp.Line(4)}}
    with pytest.raises(ValueError, match="mha, whose prior has no effect on the output"):
        quietly(Half(), options, example=torch.randn(4, 8))
    net = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 8))
    quietly(net, {"self_attn": options["mha"]}, example=torch.randn(4, 1, 8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_kept_or_refused(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 9)).to(dtype)
    quietly(net, {nn.Linear: lp.Grid(3, 3)}, example=torch.randn(4, 9).to(dtype))
    deep = nn.Sequential(nn.Linear(14, 14)).to(dtype)
    nn.init.constant_(deep[0].weight, 0.2)
    if dtype == torch.float16:  # W = 0.2 e^13 has no float16
        with pytest.raises(
            ValueError, match=r"cost: got a signal as low as .*, expected one for which W = V/P is finite"
        ):
            quietly(deep, {"0": lp.Line(14)}, cost=lp.cost.Exponential())
        assert type(deep[0]) is nn.Linear


@pytest.mark.parametrize("options", [{"bias": False}, {"in_features": 9}, {"device": "meta"}, {"dtype": torch.float64}])
def test_the_layers_own_arguments_stay_its_own(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"targets: got '{next(iter(options))}' for 0, expected arguments among"):
        quietly(nn.Sequential(nn.Linear(9, 9)), {"0": options})


def test_what_a_layer_carries_is_not_lost() -> None:
    class Scaled(nn.Linear):
        def __init__(self) -> None:
            super().__init__(9, 9)
            self.g = nn.Parameter(torch.ones(1))

    buffered = nn.Sequential(nn.Linear(9, 9))
    buffered[0].register_buffer("scale", torch.ones(1))
    for net, name in ((nn.Sequential(Scaled()), "g"), (buffered, "scale")):
        with pytest.raises(ValueError, match=f"targets: got 0, whose {name} would be lost"):
            quietly(net, {"0": None})
    patched = nn.Sequential(nn.Linear(9, 9))
    patched[0].forward = lambda x: x  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="targets: got '0', a Linear, expected a layer of type"):
        quietly(patched, {"0": None})


def test_a_stale_plan_is_refused() -> None:
    said = r"^0 has changed since this plan was made. Make a new one with plan\(\).$"
    net = nn.Sequential(nn.Linear(9, 9))
    plan = lp.plan(net, {"0": None})
    net.double()
    with pytest.raises(RuntimeError, match=said):
        plan.apply()
    plan = lp.plan(net, {"0": None})
    net[0] = nn.Linear(9, 9, bias=False).double()
    with pytest.raises(RuntimeError, match=said):
        plan.apply()


def test_a_plan_looks_again_at_weights_that_changed() -> None:
    """What is dropped decides whether the proof can ask for the same output."""
    net = nn.Sequential(nn.Linear(9, 9))
    with torch.no_grad():
        net[0].weight.mul_(lp.Grid(3, 3).distances() <= 1)
    plan = lp.plan(net, {"0": None}, cost=lp.cost.Linear().within(1))
    assert plan.changes[0].dropped == 0
    nn.init.ones_(net[0].weight)
    plan.apply(torch.randn(2, 9))
    assert plan.changes[0].dropped == pytest.approx(48 / 81)


# The raw weights kept


@pytest.mark.parametrize("backend", ["dense", "windowed", "wires"])
def test_raw_weights_kept(backend: str) -> None:
    linear, sheet, cost = nn.Linear(64, 64), lp.Grid(8, 8), lp.cost.Linear().within(2)
    net = nn.Sequential(copy.deepcopy(linear)).eval()
    with warnings.catch_warnings(action="error"):
        options = {"target": sheet, "backend": backend}
        lp.localize(net, {"0": options}, cost=cost, keep="weights", example=torch.randn(2, 64))
    signal = cost.signal(sheet.distances()).float()
    weight = net[0].weight if backend == "dense" else net[0].pattern.scatter(net[0].weight)
    assert torch.equal(weight, torch.where(signal > 0, linear.weight, 0.0))
    assert torch.equal(net[0].bias, linear.bias)
    assert_close(net[0].fold().weight, linear.weight * signal)
    assert not net[0].training


def test_raw_weights_kept_in_every_kind() -> None:
    net = Net()
    plain = copy.deepcopy(net.state_dict())
    plan = lp.plan(net, {"**": None}, cost=lp.cost.Linear().within(1.5), keep="weights")
    assert all(line.endswith("–") for line in str(plan).splitlines()[1:])
    plan.apply(X)
    behind = {
        f"{name}.{w.name}": w.prior.expand_as(w.weight) > 0
        for name, layer in net.named_modules()
        if isinstance(layer, Locality)
        for w in layer.wirings()
    }
    assert len(behind) == 9
    assert net.state_dict().keys() == plain.keys()
    for name, value in net.state_dict().items():
        there = behind.get(name, torch.ones_like(value, dtype=torch.bool))
        assert torch.equal(value, torch.where(there, plain[name], 0.0)), name


class TypeDependent(nn.Sequential):
    """A model whose output depends on the type of its layer."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x)
        return y if type(self[0]) is nn.Linear else y + 1


def test_the_proof_where_the_weights_are_kept() -> None:
    """A layer that is not called is found out; the output may change, except a control's."""
    net, x = Reader(), torch.randn(2, 9)
    with pytest.raises(ValueError, match="model: got inner, whose prior has no effect on the output"):
        lp.localize(net, {"inner": None}, keep="weights", example=x)
    assert type(net.inner) is nn.Linear
    lp.localize(net, {"outer": None}, keep="weights", example=x)
    flat = {"cost": lp.cost.Flat(), "keep": "weights", "example": x}
    lp.localize(nn.Sequential(nn.Linear(9, 9)), {"0": None}, **flat)
    with pytest.raises(
        ValueError, match="model: got a model whose output for this example changed when 0 was replaced"
    ):
        lp.localize(TypeDependent(nn.Linear(9, 9)), {"0": None}, **flat)


@pytest.mark.parametrize("keep", ["function", "weights"])
@pytest.mark.parametrize("example", [None, X])
def test_random_numbers_are_left_as_they_are(keep: Any, example: Tensor | None) -> None:
    """What a model draws afterwards is then what its control draws."""
    net, large = Net(), nn.Sequential(nn.Linear(1024, 1024))
    before = torch.get_rng_state()
    targets = {"blocks.**": None, "conv": {"norm": True}, "rnn": None, "attention": None}
    quietly(net, targets, cost=lp.cost.Linear().within(1.5), keep=keep, example=example)
    quietly(large, {"0": {"norm": True}}, cost=lp.cost.Linear().within(2), keep=keep)
    assert len(changed(net)) == 7
    assert large[0][0].pattern is not None
    assert torch.equal(torch.get_rng_state(), before)


def test_costs_in_words() -> None:
    net = nn.Sequential(nn.Linear(9, 9), nn.Linear(9, 9), nn.MultiheadAttention(9, 3))
    attention = {"cost": "sqrt", "positions": lp.Line(4), "position_cost": "quadratic"}
    quietly(net, {"0": None, "1": {"cost": "gaussian"}, "2": attention}, cost="exponential")
    assert (net[0].cost, net[1].cost) == (lp.cost.Exponential(), lp.cost.Gaussian())
    assert (net[2].cost, net[2].position_cost) == (lp.cost.Sqrt(), lp.cost.Quadratic())


VALUES = (3, 2.5, "no", b"x", [1, 2], (1, 2, 3), torch.zeros(3), torch.tensor(1.0), object(), int, {"a": 2})


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{value!s:.3}")
@pytest.mark.parametrize(
    "name",
    ["model", "targets", "cost", "rescale", "norm", "keep", "value", "key", "its cost", "its norm", "its backend"],
)
def test_a_bad_argument_is_told_in_one_clear_line(name: str, value: Any) -> None:
    given: dict[str, Any] = {"model": nn.Sequential(nn.Linear(9, 9)), "targets": {"0": None}}
    if name == "key":
        try:
            given["targets"] = {value: None}
        except TypeError:
            return  # it cannot be a key
    elif name == "value":
        given["targets"] = {"0": value}
    elif name.startswith("its"):
        given["targets"] = {"0": {name.removeprefix("its "): value}}
    else:
        given[name] = value
    for call in (lp.localize, lp.plan):
        with pytest.raises(
            (ValueError, TypeError), match=r"^(model|targets|cost|rescale|norm|keep): .*got .*, expected "
        ) as error:
            call(**given)
        assert len(str(error.value)) < 500
        assert "\n" not in str(error.value)


# Memory and time


def test_old_layers_are_freed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(*(nn.Linear(9, 9) for _ in range(4)))
    old = [weakref.ref(layer) for layer in net]
    planned = lp.plan(net, {nn.Linear: None})
    left: list[int] = []
    filled = type(planned)._filled

    def counting(self: Any, change: Any, division: Any) -> Any:
        left.append(sum(one() is not None for one in old))
        return filled(self, change, division)

    monkeypatch.setattr(type(planned), "_filled", counting)
    planned.apply()
    assert left == [4, 3, 2, 1]
    assert not any(one() for one in old)
    assert "Linear → LocalityLinear" in str(planned)


def test_equal_layers_are_made_once_and_share_their_prior() -> None:
    """So the plan of a deep model is quick. Their weights are their own."""
    net = nn.Sequential(*(nn.Linear(9, 9) for _ in range(3)), nn.Linear(9, 9, bias=False))
    plain = copy.deepcopy(net)
    quietly(net, {nn.Linear: None}, cost=lp.cost.Linear().within(1.5))
    assert net[0].rule is net[1].rule is net[2].rule
    assert net[3].bias is None
    for layer, old in zip(net, plain, strict=True):
        assert_close(layer.effective_weight, old.weight * (layer.prior > 0))
    assert len({p.data_ptr() for p in net.parameters()}) == 7


def test_a_deep_model_is_planned_quickly() -> None:
    """Twelve blocks of GPT-2's sizes: within 2 s of processor time."""
    with torch.device("meta"):
        blocks = [nn.Linear(a, b) for a, b in ((768, 2304), (768, 768), (768, 3072), (3072, 768)) for _ in range(12)]
    net = nn.Sequential(*blocks)
    lp.plan(net, {"0": None})  # imports parts of torch
    start = time.process_time()
    assert len(str(lp.plan(net, {nn.Linear: None})).splitlines()) == 49
    assert time.process_time() - start < 2


def test_a_model_on_the_meta_device_can_be_planned() -> None:
    net = nn.Sequential(nn.Linear(9, 9, device="meta"))
    plan = lp.plan(net, {"0": None})
    assert str(plan).endswith("–")
    with pytest.raises(ValueError, match="model: got 0 on the meta device, expected weights that can be divided"):
        plan.apply()
    lp.localize(net, {"0": None}, keep="weights")
    assert net[0].weight.is_meta


def test_a_warning_made_an_error_leaves_the_model() -> None:
    net = nn.Sequential(nn.Linear(9, 9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="weight decay"):
            lp.localize(net, {"0": None})
    assert type(net[0]) is nn.Linear


def test_pruned_from_the_start_and_grouped_counts() -> None:
    kept = torch.arange(0, 81, 2)
    net = nn.Sequential(nn.Linear(9, 9))
    quietly(net, {"0": {"kept": kept, "backend": "dense"}})
    assert torch.equal(net[0].kept, kept)
    table = str(lp.plan(nn.Sequential(nn.Conv2d(8, 8, 3, groups=8)), {"0": {"cost": lp.cost.Linear().within(1)}}))
    assert table.splitlines()[1].split()[-3:] == ["8", "100.0%", "0.0%"]


def test_under_a_default_device() -> None:
    net = nn.Sequential(nn.Linear(9, 9))
    with torch.device("meta"):
        quietly(net, {"0": lp.Grid(3, 3)})
        made = lp.LocalityConv2d(9, 9, 3, cost=lp.cost.Linear().within(1)), lp.LocalityLinear(9, 9)
    assert net[0].weight.device.type == "cpu"
    assert all(p.is_meta for m in made for p in m.parameters())
    real = made[0].to_empty(device="cpu")
    real.reset_parameters()
    assert (real.weight[(real.wirings()[0].prior == 0).expand_as(real.weight)] == 0).all()


# Whole networks


def alexnet() -> tuple[nn.Module, Any, dict[Any, Any]]:
    from torchvision import models

    targets: dict[Any, Any] = {"classifier.6": (lp.Grid(64, 64), None), "features.[36]": None}
    return models.alexnet(), torch.randn(1, 3, 64, 64), targets


def resnet18() -> tuple[nn.Module, Any, dict[Any, Any]]:
    from torchvision import models

    net = models.resnet18()
    for module in net.modules():  # trained statistics, so that depth does not flatten differences
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net, torch.randn(2, 3, 32, 32), {"layer3.**": None, "fc": lp.Grid(25, 40)}


def vit_b_16() -> tuple[nn.Module, Any, dict[Any, Any]]:
    from torchvision import models

    net = models.vit_b_16(image_size=32)
    nn.init.normal_(net.heads.head.weight)  # which starts as 0
    return (
        net,
        torch.randn(1, 3, 32, 32),
        {"encoder_layer_1?.self_attention": lp.Grid(24, 32), "encoder*_11.mlp.?": None},
    )


def bert() -> tuple[nn.Module, Any, dict[Any, Any]]:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=36
    )
    inputs = {"input_ids": torch.randint(0, 50, (2, 7)), "attention_mask": torch.ones(2, 7, dtype=torch.int64)}
    return (
        transformers.BertModel(config),
        inputs,
        {"query": lp.Grid(4, 4), "value": lp.Grid(4, 4), "encoder.**.dense": None},
    )


def test_gpt2s_names() -> None:
    """A pattern that matches other layers says their type; a tied head can be left out."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=2, n_head=2)
    net = transformers.GPT2LMHeadModel(config)
    net.classifier = nn.Linear(8, 4)
    said = "targets: got '**.mlp.act', which matches only modules of type NewGELUActivation, expected a layer of type"
    with pytest.raises(ValueError, match=re.escape(said)):
        quietly(net, {"**.mlp.act": None})
    said = r"got lm_head, which shares its weight with transformer.wte, expected .*'lm_head': False to leave it out"
    with pytest.raises(ValueError, match=said):
        quietly(net, {nn.Linear: None})
    quietly(net, {nn.Linear: None, "lm_head": False})
    assert changed(net) == ["classifier"]
    assert net.lm_head.weight is net.transformer.wte.weight


def gpt2() -> tuple[nn.Module, Any, dict[Any, Any]]:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=2, n_head=2)
    inputs = {"input_ids": torch.randint(0, 20, (2, 7))}
    return transformers.GPT2Model(config), inputs, {"h.*.mlp.c_fc": lp.Grid(4, 8), "c_proj": (None, lp.Grid(2, 4))}


def test_conv1d_of_transformers() -> None:
    """A linear layer whose weight is transposed."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    for keep in ("function", "weights"):
        conv, x = transformers.Conv1D(9, 4), torch.randn(2, 4)
        conv.weight.requires_grad_(False)
        weight, y = conv.weight.detach().clone(), conv(x)
        net = nn.Sequential(conv)
        plan = lp.plan(net, {transformers.Conv1D: lp.Grid(3, 3)}, cost=lp.cost.Quadratic(), keep=keep)
        assert "Conv1D → LocalityConv1D  9×4" in str(plan)
        plan.apply(x)
        found = net[0].weight if keep == "weights" else net[0].effective_weight
        assert_close(found, weight.T)
        assert not net[0].weight.requires_grad
        assert net[0].bias.requires_grad
        if keep == "function":
            assert_close(lp.fold(net)(x), y)


@pytest.mark.parametrize("make", [alexnet, resnet18, vit_b_16, bert, gpt2], ids=lambda make: make.__name__)
def test_a_network_there_and_back(make: Callable[[], tuple[nn.Module, Any, dict[Any, Any]]]) -> None:
    """Same function localized and folded; every replaced layer moves the output; and localized anew from the fold."""
    net, x, targets = make()
    net.eval()
    if "vit" in make.__name__:
        targets = {f"**.{key}": value for key, value in targets.items()}
    plain = copy.deepcopy(net)

    def outputs(model: nn.Module) -> Tensor:
        with torch.no_grad():
            y = model(**x) if isinstance(x, dict) else model(x)
        return y if isinstance(y, Tensor) else y.last_hidden_state

    before = outputs(net)
    close = {"rtol": 1e-3, "atol": 1e-3 * float(before.abs().max())}
    quietly(net, targets, example=x)
    replaced = changed(net)
    assert replaced
    assert_close(outputs(net), before, **close)
    folded = lp.fold(net)
    assert not changed(folded)
    assert {type(m).__module__.split(".")[0] for m in folded.modules()} <= {"torch", "torchvision", "transformers"}
    assert_close(outputs(folded), outputs(net), **close)
    for (name, a), b in zip(plain.named_parameters(), folded.parameters(), strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-7, msg=name)
    if make in (resnet18, bert, gpt2):  # and once more, from there
        quietly(folded, targets)
        assert changed(folded) == replaced
        assert_close(outputs(folded), before, **close)
