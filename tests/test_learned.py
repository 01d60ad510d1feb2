"""Positions that learn: gradients against autograd and finite differences, one parameter however it is handled."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import locality_prior as lp
from locality_prior import moving, objectives

COSTS: dict[str, tuple[str | lp.cost.Cost, Callable[[float], float]]] = {
    "linear": ("linear:2", lambda d: 1 + d / 2),
    "sqrt": ("sqrt", lambda d: math.sqrt(1 + d)),
    "quadratic": ("quadratic", lambda d: (1 + d) ** 2),
    "power": ("power:1,1.5", lambda d: (1 + d) ** 1.5),
    "exponential": ("exponential:2", lambda d: math.exp(d / 2)),
    "gaussian": ("gaussian:3", lambda d: math.exp(d * d / 18)),
    "flat": ("flat", lambda d: 1.0),
    "custom": (lp.cost.Custom(lambda d: 1 + d**3), lambda d: 1 + d**3),
}


def skewed(a: Tensor, b: Tensor) -> Tensor:
    """A metric of a user's own, differentiable between units at one place too."""
    return 2 * (a[:, None, 0] - b[:, 0]).abs() + (a[:, None, 1] - b[:, 1]).abs()


METRICS: dict[str, tuple[Any, Callable[[Any, Any], float]]] = {
    "euclidean": ("euclidean", reference.euclidean),
    "cityblock": ("cityblock", reference.cityblock),
    "chebyshev": ("chebyshev", reference.chebyshev),
    "own": (skewed, lambda a, b: 2 * abs(a[0] - b[0]) + abs(a[1] - b[1])),
}
#: Which sides learn: both sides are the same units, or each has its own.
SIDES = ["same", "both", "target", "source"]
CASES = reference.pairwise(list(COSTS), list(METRICS), SIDES, [False, True])
cases = pytest.mark.parametrize(("cost", "metric", "sides", "rescale"), CASES, ids=reference.named(CASES))


def coordinates(n: int, seed: int) -> Tensor:
    # of few digits, so that float32 does not move them
    return torch.rand(n, 2, generator=torch.Generator().manual_seed(seed)).mul(256).round().double() / 64


def made(cost: str, metric: str, sides: str, rescale: bool, dtype: torch.dtype = torch.float64) -> lp.LocalityLinear:
    """A layer of 6 units after 5, or after themselves, of which a target and a source unit are at one place."""
    here, there = coordinates(6, 0), coordinates(5, 1)
    there[2] = here[4]
    target = lp.Points(here, METRICS[metric][0], learned=sides != "source")
    source = target if sides == "same" else lp.Points(there, METRICS[metric][0], learned=sides != "target")
    layer = lp.LocalityLinear(
        len(source), 6, source=source, target=target, cost=COSTS[cost][0], rescale=rescale, dtype=dtype
    )
    return layer.double() if dtype == torch.float64 else layer


def slow_prior(layer: lp.LocalityLinear, cost: str, metric: str, rescale: bool) -> Tensor:
    """P of the positions of the moment, as a double loop."""
    sides = layer.target.positions.tolist(), layer.source.positions.tolist()
    d = reference.between(*sides, METRICS[metric][1])
    return torch.tensor(reference.prior(d, COSTS[cost][1], rescale), dtype=torch.float64)


def plainly(layer: lp.LocalityLinear, x: Tensor) -> Tensor:
    return nn.functional.linear(x, layer.effective_weight, layer.bias)


def batch(layer: lp.LocalityLinear, n: int = 3) -> Tensor:
    return torch.randn(n, layer.in_features, dtype=layer.weight.dtype, requires_grad=True)


def gradients(y: Tensor, layer: nn.Module, *x: Tensor) -> tuple[Tensor, ...]:
    wanted = [*x, *layer.parameters()]
    return torch.autograd.grad(y, wanted, torch.ones_like(y).cumsum(0), materialize_grads=True)


# --- gradients -------------------------------------------------------------------------------------------------------


@cases
def test_gradients_by_finite_differences(cost: str, metric: str, sides: str, rescale: bool) -> None:
    layer = made(cost, metric, sides, rescale)
    names = [name for name, _ in layer.named_parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    given = [batch(layer), *(p.detach().clone().requires_grad_() for p in layer.parameters())]
    if cost != "flat":
        assert "MovingLinear" in type(call(*given).grad_fn).__name__  # and not the plain formula
    assert torch.autograd.gradcheck(call, given, check_batched_grad=metric != "own", fast_mode=True)


@cases
def test_values_and_gradients_are_those_of_the_slow_formula(cost: str, metric: str, sides: str, rescale: bool) -> None:
    layer = made(cost, metric, sides, rescale)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(3):  # nothing of the positions before may be left
        x, p = batch(layer), slow_prior(layer, cost, metric, rescale)
        assert_close(layer.prior, p)
        assert_close(layer.rule.dense(), p)
        assert_close(layer(x), nn.functional.linear(x, layer.weight * p, layer.bias))
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        got = [torch.zeros_like(q) if q.grad is None else q.grad for q in layer.parameters()]
        assert all(g.isfinite().all() for g in got)
        assert_close(got, list(torch.autograd.grad(plainly(layer, x).square().sum(), list(layer.parameters()))))
        optimizer.step()


def test_units_at_one_place_pull_nowhere_and_give_no_nan() -> None:
    points = lp.Points(torch.zeros(4, 2), learned=True)
    layer = lp.LocalityLinear(4, 4, source=points)
    for y in (layer(torch.ones(2, 4)), plainly(layer, torch.ones(2, 4)), lp.mean_wire_length(layer)):
        (got,) = torch.autograd.grad(y.sum(), [points.parameter])
        assert torch.equal(got, torch.zeros(4, 2))


@pytest.mark.parametrize("metric", METRICS)
def test_blocks_of_rows_are_one_matrix(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = made("linear", metric, "both", rescale=True)
    x = batch(layer)
    whole = gradients(layer(x), layer, x)
    monkeypatch.setattr(moving, "BLOCK", 7)
    assert_close(gradients(layer(x), layer, x), whole)


def test_float32_is_accurate_far_from_the_origin() -> None:
    xyz = torch.rand(300, 2, generator=torch.Generator().manual_seed(0)) * 16 + 512
    points = lp.Points(xyz, learned=True)
    single = lp.LocalityLinear(300, 300, source=points)
    x = batch(single, 8)
    got = gradients(single(x), single, x)
    double, wide = copy.deepcopy(single).double(), x.detach().double().requires_grad_()
    for mine, exact in zip(got, gradients(plainly(double, wide), double, wide), strict=True):
        assert float((mine - exact).abs().max()) < 3e-6 * float(exact.abs().max())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")
def test_second_derivatives_and_transforms() -> None:
    layer = made("quadratic", "euclidean", "both", rescale=True)
    layer.target.parameter.data += 0.3  # type: ignore[union-attr]  # no two units at one place: √ has a kink there
    names = [name for name, _ in layer.named_parameters()]

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    given = [batch(layer, 2), *(p.detach().clone().requires_grad_() for p in layer.parameters())]
    assert torch.autograd.gradgradcheck(call, given, fast_mode=True)
    x, state = batch(layer).detach(), {name: p.detach() for name, p in layer.named_parameters()}

    def loss(values: dict[str, Tensor], one: Tensor) -> Tensor:
        return functional_call(layer, values, (one,)).square().sum()

    each = vmap(grad(loss), (None, 0))(state, x)
    for name in names:
        assert_close(each[name].sum(0), grad(loss)(state, x)[name])
    change = {name: torch.ones_like(p) for name, p in state.items()}
    _, moved = jvp(lambda values: loss(values, x), (state,), (change,))
    assert_close(moved, torch.stack([g.sum() for g in grad(loss)(state, x).values()]).sum())


def test_compiled_code_sees_where_the_units_are() -> None:
    layer = made("linear", "euclidean", "same", rescale=False)
    torch.compiler.reset()  # other tests have compiled the same code for other layers
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = batch(layer)
    for _ in range(2):
        assert_close(compiled(x), layer(x))
        assert_close(gradients(compiled(x), layer, x), gradients(layer(x), layer, x))
        with torch.no_grad():
            layer.target_positions.add_(0.5 * torch.randn_like(layer.target_positions))  # type: ignore[union-attr,arg-type]


def test_several_forwards_before_backwards_and_positions_that_moved_between() -> None:
    layer = made("linear", "euclidean", "both", rescale=False)
    xs = [batch(layer) for _ in range(3)]
    losses = [layer(x).square().sum() for x in xs]
    for k in (1, 0, 2):
        expected = torch.autograd.grad(plainly(layer, xs[k]).square().sum(), [xs[k], *layer.parameters()])
        assert_close(torch.autograd.grad(losses[k], [xs[k], *layer.parameters()]), expected)
    loss = layer(xs[0]).sum()
    with torch.no_grad():
        layer.source_positions.add_(1)  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("frozen", ["positions", "weight", "both"])
def test_what_is_frozen_gets_no_gradient(frozen: str) -> None:
    layer = made("linear", "euclidean", "both", rescale=False)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(frozen not in name and frozen != "both")
    x = batch(layer)
    left = [x, *(p for p in layer.parameters() if p.requires_grad)]
    got = torch.autograd.grad(layer(x).square().sum(), left)
    assert_close(got, torch.autograd.grad(plainly(layer, x).square().sum(), left))


class Large(TorchDispatchMode):
    """Counts new tensors of at least ``least`` bytes."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least, self.made = least, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = torch.utils._pytree.tree_leaves
        known = {t.untyped_storage().data_ptr() for t in leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for t in leaves(result):
            if isinstance(t, Tensor) and t.untyped_storage().nbytes() >= self.least:
                self.made += t.untyped_storage().data_ptr() not in known
        return result


def test_a_step_makes_no_matrix_but_the_gradient_of_the_weight() -> None:
    n = 640
    points = lp.Points(torch.rand(n, 2) * 25, learned=True)
    layer = lp.LocalityLinear(n, n, source=points)
    x = batch(layer, 2)
    layer(x).sum().backward()  # the buffer is made
    layer.zero_grad()
    with Large(n * n * 4) as large:
        layer(x).sum().backward()
    assert large.made == 1


# --- one parameter ---------------------------------------------------------------------------------------------------


def points(n: int = 16) -> lp.Points:
    return lp.Points(torch.rand(n, 2) * 4, learned=True)


def net(hidden: lp.Points) -> nn.Sequential:
    first = lp.LocalityLinear(9, 16, source=lp.Grid(3, 3), target=hidden)
    last = lp.LocalityLinear(16, 4, source=hidden, target=lp.Grid(2, 2))
    return nn.Sequential(first, nn.ReLU(), lp.LocalityLinear(16, 16, source=hidden), nn.ReLU(), last)


def shared(model: Any) -> lp.Points:
    """The points of a model of :func:`net`, whose layers have one parameter."""
    hidden: lp.Points = model[0].target
    assert hidden is model[2].source
    assert hidden is model[2].target
    assert hidden is model[4].source
    names = {"target_positions": (0, 2), "source_positions": (2, 4)}
    assert all(getattr(model[k], name) is hidden.parameter for name, layers in names.items() for k in layers)
    assert sum(p is hidden.parameter for p in model.parameters()) == 1
    assert len(list(model.parameters())) == 7
    return hidden


X = torch.randn(5, 9, generator=torch.Generator().manual_seed(3))


def test_layers_share_the_parameter_and_its_gradients_add_up() -> None:
    model = net(points())
    hidden = shared(model)
    assert list(model.state_dict())[2] == "0.target_positions"
    model(X).sum().backward()
    assert hidden.parameter is not None
    together = hidden.parameter.grad
    plain = plainly(model[4], plainly(model[2], plainly(model[0], X).relu()).relu())
    assert_close(together, torch.autograd.grad(plain.sum(), hidden.parameter)[0])


COPIES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "to_empty": lambda model: copy.deepcopy(model).to("meta").to_empty(device="cpu"),
    "meta, assign": lambda model: copy.deepcopy(model).to("meta"),
    "assign": copy.deepcopy,
}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_of_a_model_has_positions_of_its_own_which_its_layers_share(way: str) -> None:
    model = net(points())
    other = COPIES[way](model)
    hidden = shared(other)
    assert hidden is not shared(model)
    assert hidden != shared(model)
    other.load_state_dict(copy.deepcopy(model.state_dict()), assign="assign" in way)
    assert shared(other) is hidden
    assert torch.equal(other(X), model(X))
    with torch.no_grad():
        hidden.parameter.add_(torch.rand(16, 2))  # type: ignore[union-attr]
    assert not torch.equal(other(X), model(X))


def test_moving_and_casting_keep_one_parameter_and_half_precision_does_not_coarsen_places() -> None:
    model = net(points())
    before = shared(model).positions
    assert shared(model.double()).parameter.dtype == torch.float64  # type: ignore[union-attr]
    exact = model(X.double())
    half = shared(model.bfloat16())
    assert half.parameter.dtype == torch.float64  # type: ignore[union-attr]
    assert torch.equal(half.positions, before)
    assert float((model(X.bfloat16()) - exact).detach().abs().max()) < 0.02
    model.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float((model(X) - exact).detach().abs().max()) < 0.02


def test_functional_call_uses_other_positions_and_leaves_the_model_as_it_was() -> None:
    model, other = net(points()), net(points())
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        shared(other).parameter.zero_()  # type: ignore[union-attr]
    y = functional_call(model, {"0.target_positions": torch.zeros(16, 2)}, (X,))
    assert torch.equal(y, other(X))
    shared(model)


def test_a_file_holds_positions_once(tmp_path: Path) -> None:
    model, path = net(points()), tmp_path / "model.safetensors"
    lp.save(model, path)
    with safe_open(path, "pt") as file:
        assert [key for key in file.keys() if "xyz" in key or "positions" in key] == ["locality-prior:1.xyz"]  # noqa: SIM118
    other = lp.load(path, net(points()))
    assert torch.equal(other(X), model(X))
    assert torch.equal(shared(other).positions, shared(model).positions)
    apart = net(points())
    apart[0] = lp.LocalityLinear(9, 16, source=lp.Grid(3, 3), target=points())
    with pytest.raises(ValueError, match=r"^model: got 2.source, which shares its positions with other layers"):
        lp.load(path, apart)
    still = net(points())
    still[0] = lp.LocalityLinear(9, 16, source=lp.Grid(3, 3), target=points().still())
    with pytest.raises(ValueError, match=r"^model: got 0.target = "):
        lp.load(path, still)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_lone_layer_comes_back_learned_and_exact(dtype: torch.dtype, tmp_path: Path) -> None:
    layer = made("quadratic", "cityblock", "same", rescale=True, dtype=dtype)
    with torch.no_grad():
        layer.target_positions.mul_(1.1)  # type: ignore[union-attr]
    lp.save(layer, tmp_path / "layer.safetensors")
    other: Any = lp.load(tmp_path / "layer.safetensors")
    assert other.source is other.target
    assert other.target_positions is other.target.parameter
    assert torch.equal(other.target.positions, layer.target.positions)
    x = batch(layer)
    assert torch.equal(other(x), layer(x))
    again = lp.geometry.from_config(layer.target.config())
    assert again.learned
    assert torch.equal(again.positions, layer.target.positions)


@pytest.mark.parametrize("keep", ["function", "weights"])
@pytest.mark.filterwarnings("ignore:localize")
def test_localize_and_fold(keep: Any) -> None:
    plain = nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    before, state, hidden = plain(X), copy.deepcopy(plain.state_dict()), points()
    was = hidden.positions
    sheets = {"0": (lp.Grid(3, 3), hidden), "2": hidden, "4": (hidden, lp.Grid(2, 2))}
    model = lp.localize(plain, sheets, keep=keep, example=X)
    assert shared(model) is hidden
    assert torch.equal(hidden.positions, was)
    if keep == "function":
        assert_close(model(X), before)
    else:
        assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    with torch.no_grad():
        hidden.parameter.mul_(2)  # type: ignore[union-attr]
    folded = lp.fold(model)
    assert {name for name, _ in folded.named_parameters()} == set(state)
    assert_close(folded(X), model(X))


def test_layers_that_localize_makes_alike_share_the_points() -> None:
    model, hidden = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)), points()
    lp.localize(model, {nn.Linear: hidden}, keep="weights")
    assert model[0].target_positions is model[1].source_positions is hidden.parameter  # type: ignore[union-attr]


# --- where the units are now -----------------------------------------------------------------------------------------


def test_points_are_where_they_are_now() -> None:
    hidden = points()
    d, still = hidden.distances(), hidden.still()
    assert hidden.distances(rows=torch.tensor([3])).shape == (1, 16)
    with torch.no_grad():
        hidden.parameter.mul_(2)  # type: ignore[union-attr]
    assert_close(hidden.distances(), 2 * d)
    assert_close(lp.Grid(4, 4).distances(hidden), lp.Grid(4, 4).distances(hidden.still()))
    assert_close(still.distances(), d)
    assert not still.learned
    assert still.parameter is None
    assert not hidden.distances().requires_grad
    assert not hidden.positions.requires_grad
    assert (hidden == hidden) is True
    assert hidden != lp.Points(hidden.positions, learned=True)
    assert hidden != hidden.still()
    assert hidden.still() == hidden.still()
    assert len({hidden, copy.copy(hidden)}) == 2


WIRES: dict[str, Callable[[lp.LocalityLinear], Tensor]] = {
    "mean wire length": lp.mean_wire_length,
    "another cost": lambda layer: lp.wiring_cost(layer, "quadratic"),
    "own cost, rescaled": lp.wiring_cost,
    "wiring": lambda layer: objectives.Wiring(lp.place(nn.Sequential(layer), {"0": layer.target})).value(),
    "price": lambda layer: objectives.wiring(layer.weight, layer.target, layer.source, price="power:2/1.5"),
    "jacobs": lambda layer: objectives.saturating(layer.weight, layer.target, layer.source, relative=False),
    "wiring of ITN": lambda layer: objectives.saturating(
        layer.weight, layer.target, layer.source, variant="wiring", relative=False
    ),
    "communicability": lambda layer: objectives.communicability(layer.weight, layer.target),
    "apart": lambda layer: objectives.apart(layer.target, distance=3),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", WIRES)
def test_what_charges_wires_sees_the_lengths_of_the_moment_and_gives_positions_a_gradient(name: str) -> None:
    layer = made("linear", "euclidean", "same" if name == "communicability" else "both", rescale="own" in name)
    learned = [p for n, p in layer.named_parameters() if "positions" in n]
    for _ in range(2):

        def value(*xyz: Tensor) -> Tensor:
            for parameter, new in zip(learned, xyz, strict=True):
                parameter.data = new
            return WIRES[name](layer)

        now = [p.detach().clone() for p in learned]
        got = torch.autograd.grad(value(*now), learned, materialize_grads=True)
        h = 1e-6
        for k in range(len(now)):
            for at in ((0, 0), (2, 1)):
                ends = [[p.clone() for p in now] for _ in range(2)]
                ends[0][k][at] += h
                ends[1][k][at] -= h
                slope = (value(*ends[0]) - value(*ends[1])) / (2 * h)
                assert_close(got[k][at], slope.detach(), rtol=1e-5, atol=1e-6)
        assert name == "apart" or all(float(g.abs().max()) > 1e-3 for g in got)
        value(*(p + torch.rand_like(p) for p in now))
        if name != "apart":
            assert_close(WIRES[name](layer).detach(), WIRES[name](fixed(layer)).detach())


def fixed(layer: lp.LocalityLinear) -> Any:
    """The same layer between points that do not learn."""
    target, source = (lp.Points(side.positions) for side in (layer.target, layer.source))
    if layer.source is layer.target:
        source = target
    made = lp.LocalityLinear(
        layer.in_features, layer.out_features, source=source, target=target, cost=layer.cost, rescale=layer.rescale
    ).double()
    made.load_state_dict({name: value for name, value in layer.state_dict().items() if "positions" not in name})
    return made


# --- training --------------------------------------------------------------------------------------------------------


def trained(cost: str, charge: float, steps: int = 120) -> tuple[float, float]:
    """The mean distance between each of 8 units and the one whose input it repeats, before and after training."""
    generator = torch.Generator().manual_seed(0)
    order, n = torch.randperm(8, generator=generator), 8
    here, there = torch.rand(2, n, 2, generator=generator) * 6
    hidden, source = lp.Points(here, learned=True), lp.Points(there)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        layer = lp.LocalityLinear(n, n, source=source, target=hidden, cost=cost, bias=False)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)

    def wired() -> float:
        return float(hidden.distances(source)[torch.arange(n), order].mean())

    before = wired()
    for _ in range(steps):
        x = torch.randn(32, n, generator=generator)
        loss = (layer(x) - x[:, order]).square().mean() + charge * lp.wiring_cost(layer, "linear")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return before, wired()


def test_wiring_cost_pulls_units_together_that_are_connected() -> None:
    # where the signal does not depend on length, the task does not move units, and the wiring cost alone does
    before, after = trained("flat", 0)
    assert after == before
    assert trained("flat", 0.004)[1] < 0.3 * before
    # where it does, the task moves them too. The layer's own cost c|V| = |W| does so by way of W
    assert trained("linear", 0.004)[1] < 0.7 * trained("linear", 0)[1] < 0.7 * before


def test_a_layers_own_wiring_cost_does_not_depend_on_positions_at_a_given_w() -> None:
    layer = made("linear", "euclidean", "both", rescale=False)
    (w, *pulls) = torch.autograd.grad(
        lp.wiring_cost(layer),
        [layer.weight, *layer._parameters.values()][:1] + layer_positions(layer),
        allow_unused=True,
    )
    assert torch.equal(w, layer.weight.sign())
    assert pulls == [None, None]


def layer_positions(layer: lp.LocalityLinear) -> list[Tensor]:
    return [p for name, p in layer.named_parameters() if "positions" in name]


def test_apart_is_the_mean_over_units_of_their_sums() -> None:
    for metric, (given, distance) in METRICS.items():
        hidden = lp.Points(coordinates(30, 0), given, learned=True)
        places, slow = hidden.positions.tolist(), 0.0
        for i, a in enumerate(places):
            for j, b in enumerate(places):
                slow += max(0.0, 1 - distance(a, b) / 0.7) ** 2 if i != j else 0.0
        assert_close(float(objectives.apart(hidden, distance=0.7).detach()), slow / 30, msg=metric)


def test_apart_keeps_units_apart() -> None:
    hidden = lp.Points(torch.rand(20, 2, generator=torch.Generator().manual_seed(0)), learned=True)
    optimizer = torch.optim.SGD([hidden.parameter], lr=1.0)
    for _ in range(100):
        optimizer.zero_grad()
        objectives.apart(hidden, distance=1.0).backward()
        optimizer.step()
    d = hidden.distances() + 10 * torch.eye(20)
    assert float(d.min()) > 0.9
    optimizer.zero_grad()
    with torch.no_grad():
        hidden.parameter.mul_(1.2)  # type: ignore[union-attr]
    objectives.apart(hidden, distance=1.0).backward()
    assert float(hidden.parameter.grad.abs().max()) == 0  # type: ignore[union-attr]


def test_objectives_of_responses_and_neighbours_say_that_they_need_places_that_do_not_change() -> None:
    hidden, x, w = points(), torch.randn(5, 16), torch.randn(16, 16)
    for call in (
        lambda: objectives.spatial_correlation(x, hidden),
        lambda: objectives.spatial_correlation(x, hidden, units=4),
        lambda: objectives.bootphon(x, hidden),
        lambda: objectives.tica(x, hidden),
        lambda: objectives.smoothness(w, hidden),
        lambda: objectives.similarity(w, hidden),
        lambda: objectives.bimt(w, hidden),
    ):
        with pytest.raises(ValueError, match=r"got Points\(16 × 2, learned=True\), expected .*still\(\)$"):
            call()
    before = objectives.cbsom(w, w, hidden, sigma=1.0)
    with torch.no_grad():
        hidden.parameter.mul_(3)  # type: ignore[union-attr]
    now = objectives.cbsom(w, w, hidden, sigma=1.0)
    assert not torch.equal(now, before)
    assert torch.equal(now, objectives.cbsom(w, w, hidden.still(), sigma=1.0))


# --- hazards ---------------------------------------------------------------------------------------------------------

FIXED, LEARNS = lp.Points(torch.eye(4)), lp.Points(torch.eye(4), learned=True)
REFUSED: dict[str, Callable[[], object]] = {
    "learned: got 1": lambda: lp.Points(torch.eye(4), learned=1),  # type: ignore[arg-type]
    "xyz: got a tensor that requires a gradient": lambda: lp.Points(torch.eye(4).requires_grad_(), learned=True),
    "cost: got Linear().within(3) between points that learn": lambda: lp.LocalityLinear(
        4, 4, source=LEARNS, cost="linear@3"
    ),
    "cost: got LinearDecay(end=3) between points that learn": lambda: lp.LocalityLinear(
        4, 4, target=LEARNS, source=FIXED, cost="lineardecay:3"
    ),
    "cost: got Linear().within(2)": lambda: setattr(lp.LocalityLinear(4, 4, source=LEARNS), "cost", "linear@2"),
    "backend: got 'wires' with points that learn": lambda: lp.LocalityLinear(4, 4, source=LEARNS, backend="wires"),
    "kept: got 1 wires between points that learn": lambda: lp.LocalityLinear(
        4, 4, source=LEARNS, kept=torch.tensor([0])
    ),
    "target: got Points(4 × 4, learned=True), expected places that do not learn": lambda: lp.LocalityConv2d(
        4, 4, 1, target=LEARNS
    ),
    "source: got Points(4 × 4, learned=True), expected places that do not learn": lambda: lp.LocalityConv2d(
        4, 4, 1, source=LEARNS, target=FIXED
    ),
    "target: got Points(4 × 4, learned=True), expected places": lambda: lp.LocalityGRU(4, 4, units=LEARNS),
    "target: got Points(4 × 4, learned=True), expected": lambda: lp.LocalityMultiheadAttention(4, 2, units=LEARNS),
    "base: got Points(4 × 4, learned=True)": lambda: LEARNS.with_channels(2),
    "target: got Points(4 × 4, learned=True), expected places that do not change": lambda: lp.Shuffled(LEARNS),
    "model: got layer '' between points that learn": lambda: lp.sparsify(
        lp.LocalityLinear(4, 4, source=LEARNS), keep=0.5
    ),
    "points: got Points(4 × 4), expected points that learn": lambda: objectives.apart(FIXED),
    "distance: got 0": lambda: objectives.apart(LEARNS, distance=0),
    "source: got": lambda: lp.LocalityLinear(9, 4, source=lp.Grid(3, 3, periodic=True), target=LEARNS),
}


@pytest.mark.parametrize("start", REFUSED)
def test_what_does_not_fit_is_one_line(start: str) -> None:
    with pytest.raises((ValueError, TypeError)) as error:
        REFUSED[start]()
    assert str(error.value).startswith(start) or start == "source: got"
    assert "\n" not in str(error.value)


def test_a_default_device_a_default_dtype_and_inference_mode_do_not_matter() -> None:
    with torch.device("meta"), torch.inference_mode():
        hidden = lp.Points([[0.0, 1.0], [2.0, 3.0]], learned=True)
    assert hidden.parameter is not None
    assert hidden.parameter.device.type == "cpu"
    assert not hidden.parameter.is_inference()
    layer = lp.LocalityLinear(2, 2, source=hidden)
    with torch.inference_mode():
        y = layer(torch.ones(1, 2))
    assert_close(y, layer(torch.ones(1, 2)).detach())
    meta = lp.LocalityLinear(2, 2, source=hidden, device="meta")
    assert hidden.parameter.device.type == "cpu"
    assert meta(torch.ones(3, 2, device="meta")).shape == (3, 2)
    meta.to("meta")
    with pytest.raises(RuntimeError, match="meta device"):
        _ = hidden.positions


def test_no_rows_and_many_axes() -> None:
    layer = made("linear", "euclidean", "both", rescale=False)
    assert gradients(layer(batch(layer, 0)), layer)[0].abs().sum() == 0
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    assert_close(gradients(layer(x), layer, x), gradients(plainly(layer, x), layer, x))


@pytest.mark.parametrize(("cost", "away"), [("gaussian", 12.5), ("gaussian", 60.0), ("exponential", 75.0)])
def test_a_unit_that_moves_far_away_gives_no_nan(cost: str, away: float) -> None:
    """In float32 the sum of its signals, which its row is divided by, may be 0 or nearly so."""
    target = lp.Points([[0.5], [1.0]], learned=True)
    layer = lp.LocalityLinear(3, 2, source=lp.Line(3), target=target, cost=cost, rescale=True)
    with torch.no_grad():
        target.parameter[0] = away  # type: ignore[index]
    x = batch(layer)
    for y in (layer(x), plainly(layer, x)):
        assert all(g.isfinite().all() for g in gradients(y, layer, x))
    p, exact = layer.prior, layer.rule.dense()
    assert_close(p[1], exact[1].float())
    assert exact.isfinite().all()
    if away < 60:  # its nearest source has it all
        assert_close(p[0], exact[0].float(), rtol=1e-3, atol=1e-6)
    with torch.no_grad():
        target.parameter[0] = math.nan  # type: ignore[index]
    assert layer(x)[:, 0].isnan().all()  # a loss that diverges is seen
