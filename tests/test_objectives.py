"""What wires cost: the identity between decay on W and a wiring cost on V, and the reference's sums."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import reference
import torch
from reference import COSTS, GEOMETRIES, Meeting, named, sampled
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import locality_prior as lp
from locality_prior import prior as prior_module

# each geometry and each cost with and without rescaling; test_prior.py has their product, where P is made
SUMS = sampled(list(GEOMETRIES), list(COSTS), few=([False, True],))
rescaled = pytest.mark.parametrize("rescale", [False, True], ids=["", "rescaled"])


def near(actual: Tensor, expected: float) -> None:
    assert actual.shape == ()
    assert actual.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("place", "name", "rescale"), SUMS, ids=named(SUMS))
def test_sums_are_the_references(place: str, name: str, rescale: bool) -> None:
    meeting, (cost, price) = GEOMETRIES[place], COSTS[name]
    layer = meeting.layer(cost, rescale=rescale, dtype=torch.float64)
    v, d = layer.effective_weight.tolist(), meeting.distances
    near(lp.wiring_cost(layer), reference.over_wires(v, d, price, price))
    near(lp.weight_l1(layer), float(layer.weight.detach().abs().sum()))
    near(lp.wiring_cost(layer, lp.cost.Quadratic(3)), reference.over_wires(v, d, price, lambda d: (1 + d / 3) ** 2))
    strength = reference.over_wires(v, d, price, lambda d: 1.0)
    near(lp.mean_wire_length(layer), reference.over_wires(v, d, price, lambda d: d) / strength)
    check_identity(layer, meeting, price)


def check_identity(layer: lp.LocalityLinear, meeting: Meeting, price: Callable[[float], float]) -> None:
    """‖W‖₁ = Σ c|V|/r and ‖W‖₂² = Σ c²V²/r², with c and r from the reference."""
    rescale = layer.rescale
    signals = reference.signals(meeting.distances, price)
    l1 = l2 = 0.0
    for i, row in enumerate(layer.effective_weight.tolist()):
        r = len(row) / sum(signals[i]) if rescale else 1.0
        for j, v in enumerate(row):
            if signals[i][j]:
                c = price(meeting.distances[i][j])
                l1 += c * abs(v) / r
                l2 += c * c * v * v / (r * r)
    near(layer.weight.abs().sum(), l1)
    near(layer.weight.square().sum(), l2)
    near(lp.weight_l1(layer), l1)
    if not rescale:
        near(lp.wiring_cost(layer), l1)


def test_an_identity_without_rescaling_is_caught() -> None:
    """Where rows are rescaled the two penalties differ: the identity needs its r."""
    layer = GEOMETRIES["sheet"].layer(lp.cost.Linear(), rescale=True, dtype=torch.float64)
    with pytest.raises(AssertionError):
        near(lp.wiring_cost(layer), float(lp.weight_l1(layer).detach()))


def test_an_identity_with_another_cost_is_caught() -> None:
    meeting = GEOMETRIES["sheet"]
    check_identity(meeting.layer(lp.cost.Linear(), dtype=torch.float64), meeting, COSTS["linear"][1])
    with pytest.raises(AssertionError):
        check_identity(meeting.layer(lp.cost.Linear(2), dtype=torch.float64), meeting, COSTS["linear"][1])


@rescaled
def test_override_of_the_same_cost_is_the_cost(rescale: bool) -> None:
    """The layer's own cost by its short cut, and the same numbers charged wire by wire."""
    layer = GEOMETRIES["sheet"].layer(lp.cost.Linear(), rescale=rescale, dtype=torch.float64)
    same = lp.cost.Custom(lambda d: 1 + d)
    assert_close(lp.wiring_cost(layer), lp.wiring_cost(layer, same), rtol=1e-12, atol=0)
    for cost in (None, same):
        layer.weight.grad = None
        lp.wiring_cost(layer, cost).backward()
        d = torch.tensor(GEOMETRIES["sheet"].distances, dtype=torch.float64)
        assert_close(layer.weight.grad, layer.weight.sign() * (1 + d) * layer.prior)


def test_a_control_can_be_charged() -> None:
    control = lp.LocalityLinear(12, 12, source=lp.Grid(3, 4), cost=lp.cost.Flat(), dtype=torch.float64)
    near(lp.wiring_cost(control), float(control.weight.detach().abs().sum()))
    v, d = control.weight.tolist(), GEOMETRIES["sheet"].distances
    near(lp.wiring_cost(control, lp.cost.Linear()), reference.over_wires(v, d, lambda d: 1.0, lambda d: 1 + d))


def test_a_table_gives_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = lp.Grid(7, 7)
    layer = lp.LocalityLinear(49, 49, source=sheet, cost=lp.cost.Quadratic().within(4), dtype=torch.float64)
    assert layer.rule.table() is not None
    d = reference.grid([7, 7], [7, 7])
    price = reference.there(lambda d: (1 + d) ** 2, 4)
    v = layer.effective_weight.tolist()
    near(lp.wiring_cost(layer, lp.cost.Linear()), reference.over_wires(v, d, price, lambda d: 1 + d))
    total = reference.over_wires(v, d, price, lambda d: 1.0)
    near(lp.mean_wire_length(layer), reference.over_wires(v, d, price, lambda d: d) / total)
    monkeypatch.setattr(prior_module.Prior, "_tabulate", lambda *_: None)
    layer.rule._memo = {}
    near(lp.mean_wire_length(layer), reference.over_wires(v, d, price, lambda d: d) / total)


def test_sums_go_over_all_layers_once() -> None:
    torch.manual_seed(1)
    first, second = lp.LocalityLinear(6, 6), lp.LocalityLinear(6, 6, cost=lp.cost.Quadratic())
    model = nn.Sequential(nn.Linear(6, 6), first, nn.ReLU(), nn.Sequential(second, first))
    assert_close(lp.wiring_cost(model), lp.wiring_cost(first) + lp.wiring_cost(second))
    assert_close(lp.weight_l1(model), lp.weight_l1(first) + lp.weight_l1(second))
    v = [layer.effective_weight.abs() for layer in (first, second)]
    d = first.source.distances().float()
    assert_close(lp.mean_wire_length(model), (d * (v[0] + v[1])).sum() / (v[0] + v[1]).sum())


def test_mean_wire_length_is_free_of_scale() -> None:
    layer = lp.LocalityLinear(9, 9, dtype=torch.float64)
    before = lp.mean_wire_length(layer)
    with torch.no_grad():
        layer.weight.mul_(1e-3)
    assert_close(lp.mean_wire_length(layer), before)
    with torch.no_grad():
        layer.weight.zero_()
    assert lp.mean_wire_length(layer).isnan()


def test_what_sits_beyond_the_wires_is_not_counted() -> None:
    layer = lp.LocalityLinear(9, 9, cost=lp.cost.Linear().within(1))
    sums = [f(layer) for f in (lp.wiring_cost, lp.weight_l1, lp.mean_wire_length)]
    off = layer.prior == 0
    layer.weight.data[off] = 5
    assert_close([f(layer) for f in (lp.wiring_cost, lp.weight_l1, lp.mean_wire_length)], sums)
    lp.weight_l1(layer).backward()
    assert (layer.weight.grad[off] == 0).all()


@pytest.mark.parametrize("name", COSTS)
def test_gradients_are_finite(name: str) -> None:
    layer = GEOMETRIES["points"].layer(COSTS[name][0], rescale=len(name) % 2 == 0)
    with torch.no_grad():
        layer.weight[0] = 0
    for penalty in (lp.wiring_cost, lp.weight_l1, lp.mean_wire_length):
        layer.weight.grad = None
        penalty(layer).backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.isfinite().all()
        assert layer.weight.grad.abs().sum() > 0


def test_gradient_of_the_own_cost_is_decay() -> None:
    layer = lp.LocalityLinear(9, 9, cost=lp.cost.Exponential())
    lp.wiring_cost(layer).backward()
    assert torch.equal(layer.weight.grad, layer.weight.sign())


def test_far_wires_do_not_overflow_their_own_cost() -> None:
    """e^300 is no float32, yet c|V| = |W| is."""
    line = lp.Line(300)
    layer = lp.LocalityLinear(300, 300, source=line, cost=lp.cost.Exponential())
    assert lp.wiring_cost(layer).isfinite()
    assert lp.mean_wire_length(layer).isfinite()


def test_measuring_first_without_gradients() -> None:
    """What an inference-mode evaluation keeps serves training too."""
    layer = lp.LocalityLinear(9, 9)
    with torch.inference_mode():
        before = lp.wiring_cost(layer, lp.cost.Quadratic()).item(), lp.mean_wire_length(layer).item()
    for penalty, value in (
        (lambda m: lp.wiring_cost(m, lp.cost.Quadratic()), before[0]),
        (lp.mean_wire_length, before[1]),
    ):
        with torch.inference_mode():
            penalty(layer)
        loss = penalty(layer)
        loss.backward()
        assert loss.item() == pytest.approx(value)


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sheet", [lp.Grid(3, 3), lp.Grid(8, 8)], ids=repr)
def test_a_price_for_every_wire_or_an_error(sheet: lp.Grid, dtype: torch.dtype) -> None:
    control = lp.LocalityLinear(len(sheet), len(sheet), source=sheet, cost=lp.cost.Flat(), dtype=dtype)
    for cost in (lp.cost.Linear().within(1.5), lp.cost.LinearDecay(2), lp.cost.Gaussian(1e-2)):
        with pytest.raises(ValueError, match=r"cost: got .*, infinite in torch.float.* at d = .*, expected a price"):
            lp.wiring_cost(control, cost)
    cut = lp.LocalityLinear(len(sheet), len(sheet), source=sheet, cost=lp.cost.Flat().within(1.4), dtype=dtype)
    assert lp.wiring_cost(cut, lp.cost.Linear().within(1.5)).isfinite()


def test_a_price_beyond_the_weights_dtype_is_an_error() -> None:
    line = lp.Line(200)
    control = lp.LocalityLinear(200, 200, source=line, cost=lp.cost.Flat())
    with pytest.raises(ValueError, match=r"infinite in torch.float32 at d = 89, expected a price"):
        lp.wiring_cost(control, lp.cost.Exponential())
    assert lp.wiring_cost(control.double(), lp.cost.Exponential()).isfinite()
    assert math.exp(88) < torch.finfo(torch.float32).max < math.exp(89)


@pytest.mark.parametrize("penalty", [lp.wiring_cost, lp.weight_l1, lp.mean_wire_length])
def test_a_model_without_a_layer(penalty: Callable[[nn.Module], Tensor]) -> None:
    with pytest.raises(ValueError, match="model: got Linear, expected a model with a locality layer"):
        penalty(nn.Linear(3, 3))


@pytest.mark.parametrize("ask", [lp.wiring_cost, lp.weight_l1, lp.mean_wire_length])
def test_what_is_no_model_is_named(ask) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TypeError, match="model: got 3, expected"):
        ask(3)


def test_what_is_no_cost_is_named() -> None:
    for cost in ("lineal", 3, [], lp.cost.Linear):
        with pytest.raises((ValueError, TypeError), match=r"cost: got .*, expected"):
            lp.wiring_cost(lp.LocalityLinear(4, 4), cost)  # type: ignore[arg-type]


def test_a_cost_in_a_word() -> None:
    layer = lp.LocalityLinear(4, 4)
    assert torch.equal(lp.wiring_cost(layer, "quadratic"), lp.wiring_cost(layer, lp.cost.Quadratic()))


class Waits(TorchDispatchMode):
    """Raises where a value is brought to Python, for which the CPU would have to wait for a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise AssertionError(f"{func} waits")
        return func(*args, **(kwargs or {}))


WAITERS: dict[str, Callable[[], nn.Module]] = {
    "dense": lambda: lp.LocalityLinear(9, 9, cost=lp.cost.Linear().within(1), rescale=True),
    "everywhere": lambda: lp.LocalityLinear(9, 9),
    "table": lambda: lp.LocalityLinear(289, 289, cost=lp.cost.Linear().within(2)),
    "sparse": lambda: lp.LocalityLinear(9, 9, cost=lp.cost.Linear().within(1), backend="wires"),
    "convolution": lambda: lp.LocalityConv2d(9, 9, 3, cost=lp.cost.Linear().within(1)),
    "recurrent": lambda: lp.LocalityGRU(9, 9),
    "attention": lambda: lp.LocalityMultiheadAttention(8, 2, cost=lp.cost.Linear().within(1)),
}


@pytest.mark.parametrize("kind", WAITERS)
def test_no_step_waits_for_a_gpu(kind: str) -> None:
    layer = WAITERS[kind]()
    lp.mean_wire_length(layer)
    for penalty in (lp.weight_l1, lp.wiring_cost, lp.mean_wire_length):
        if penalty is lp.mean_wire_length:
            penalty(layer)  # lengths, and then charges, are computed when first asked for
        with Waits():
            penalty(layer).backward()
    with Waits(), pytest.raises(AssertionError, match="waits"):
        bool(next(layer.parameters()).min() > 0)
