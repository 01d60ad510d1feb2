"""The contract of the layer: geometries, costs, rescaling and dtypes against the slow reference.

A new geometry or cost adds a row in ``reference.py``. The combinations are a fixed sample: each geometry, and each
cost, meets both kinds of rescaling in all three dtypes, but a geometry does not meet every cost here. That product
is tested once, where P is made (``test_prior.py``); the layer only multiplies by P.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable

import homemade
import pytest
import reference
import torch
from reference import COSTS, GEOMETRIES, Matrix, Meeting, named, sampled
from torch import Tensor, nn
from torch.testing import assert_close

import locality_prior as lp
from locality_prior import prior as prior_module
from locality_prior.cost import Cost
from locality_prior.layers import linear as linear_module
from locality_prior.prior import Table

meetings = pytest.mark.parametrize("meeting", GEOMETRIES.values(), ids=GEOMETRIES)
rescaled = pytest.mark.parametrize("rescale", [False, True], ids=["", "rescaled"])
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 2e-2}
CONTRACT = sampled(list(GEOMETRIES), list(COSTS), few=([False, True], list(TOLERANCE)))


def agree(actual: Tensor | None, expected: object) -> None:
    """Equal up to a few roundings of ``actual``'s dtype, relative to the largest entry."""
    assert actual is not None
    truth = torch.tensor(expected, dtype=torch.float64)
    assert actual.shape == truth.shape
    assert actual.isfinite().all()
    gap = (actual.detach().double() - truth).abs().max() / truth.abs().max()
    assert gap <= TOLERANCE[actual.dtype], f"off by {gap:.1e} of the largest"


def honour_contract(layer: lp.LocalityLinear, p: Matrix) -> None:
    """Values and gradients with P = ``p`` are the reference's; off the wires all is exactly 0."""
    dtype = layer.weight.dtype
    x = torch.randn(2, layer.in_features, dtype=dtype, requires_grad=True)
    g = torch.randn(2, layer.out_features, dtype=dtype)
    w, b = layer.weight.tolist(), layer.bias.tolist()
    y = layer(x)
    y.backward(g)
    agree(y, reference.linear(x.tolist(), w, p, b))
    gx, gw, gb = reference.linear_gradients(x.tolist(), w, p, g.tolist())
    agree(x.grad, gx)
    agree(layer.weight.grad, gw)
    agree(layer.bias.grad, gb)
    agree(layer.prior, p)
    off = torch.tensor(p) == 0
    assert layer.weight.grad is not None
    for zero in (layer.weight[off], layer.weight.grad[off], layer.effective_weight[off], layer.prior[off]):
        assert (zero == 0).all()
    assert (layer.support is None) == (not off.any())
    if layer.support is not None:
        assert torch.equal(layer.support, ~off)


@pytest.mark.parametrize(("place", "cost", "rescale", "dtype"), CONTRACT, ids=named(CONTRACT))
def test_contract(place: str, cost: str, rescale: bool, dtype: torch.dtype) -> None:
    meeting, (made, price) = GEOMETRIES[place], COSTS[cost]
    layer = meeting.layer(made, rescale=rescale, dtype=dtype)
    honour_contract(layer, reference.prior(meeting.distances, price, rescale))


def test_the_sample_leaves_nothing_out() -> None:
    for k, values in enumerate((GEOMETRIES, COSTS)):
        assert len({(row[k], *row[2:]) for row in CONTRACT}) == len(values) * 2 * len(TOLERANCE)


@pytest.mark.parametrize("at", [0, -1])
def test_the_contract_can_be_broken(at: int) -> None:
    meeting = GEOMETRIES["sheet"]
    p = reference.prior(meeting.distances, COSTS["linear"][1])
    layer = meeting.layer(lp.cost.Linear())
    honour_contract(layer, p)
    assert isinstance(layer._values, Tensor)
    layer._values[at, at] *= 1.01
    with pytest.raises(AssertionError, match="off by"):
        honour_contract(layer, p)


TABLES = {
    "sheet": Meeting(g := lp.Grid(6, 6), g, lambda: reference.grid([6, 6], [6, 6])),
    "line 24 to 12": Meeting(lp.Line(24), lp.Line(12), lambda: reference.grid([12], [24])),
    "ring": Meeting(r := lp.Grid(20, periodic=True), r, lambda: reference.grid([20], [20], [True])),
}
# each table with each cost and dtype; rescaling and the size of a block take turns
TABLED = sampled(
    list(itertools.product(TABLES, ["linear", "linear within"], TOLERANCE)),
    list(itertools.product([False, True], [100, 1 << 18])),
    few=(),
    seed=1,
)


@pytest.mark.parametrize(("what", "how"), TABLED, ids=named(TABLED))
def test_contract_with_a_table(
    what: tuple[str, str, torch.dtype], how: tuple[bool, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place, cost, dtype), (rescale, block) = what, how
    monkeypatch.setattr(prior_module, "WHOLE", 0)
    monkeypatch.setattr(prior_module, "BLOCK", block)
    meeting, (made, price) = TABLES[place], COSTS[cost]
    layer = meeting.layer(made, rescale=rescale, dtype=dtype)
    assert isinstance(layer._values, Table)
    honour_contract(layer, reference.prior(meeting.distances, price, rescale))


# --- equation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1, 3), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_leading_shapes(shape: tuple[int, ...], bias: bool) -> None:
    layer = lp.LocalityLinear(6, 4, bias, dtype=torch.float64)
    x = torch.randn(*shape, 6, dtype=torch.float64, requires_grad=True)
    plain = nn.functional.linear(x, layer.weight * layer.prior, layer.bias)
    g = torch.randn_like(plain)
    inputs = [x, *layer.parameters()]
    y = layer(x)
    assert_close(y, plain)
    assert_close(torch.autograd.grad(y, inputs, g), torch.autograd.grad(plain, inputs, g))


def test_input_need_not_be_contiguous() -> None:
    layer = lp.LocalityLinear(6, 4)
    x = torch.randn(6, 3, 2).permute(2, 1, 0).requires_grad_()
    plain = layer.fold()
    for module in (layer, plain):
        module(x).square().sum().backward()
    assert_close(layer(x), plain(x))
    assert_close(layer.bias.grad, plain.bias.grad)


@pytest.mark.parametrize(
    "wanted", [(True, False, False), (False, True, False), (False, False, True), (True, True, False)]
)
def test_only_wanted_gradients(wanted: tuple[bool, ...]) -> None:
    layer = lp.LocalityLinear(6, 4)
    x = torch.randn(3, 6)
    inputs = [x, layer.weight, layer.bias]
    for tensor, want in zip(inputs, wanted, strict=True):
        tensor.requires_grad_(want)
    kept = [t for t, want in zip(inputs, wanted, strict=True) if want]
    plain = nn.functional.linear(x, layer.weight * layer.prior, layer.bias).square().sum()
    assert_close(torch.autograd.grad(layer(x).square().sum(), kept), torch.autograd.grad(plain, kept))


@rescaled
def test_gradcheck(rescale: bool) -> None:
    layer = lp.LocalityLinear(6, 4, cost=lp.cost.Linear().within(1.2), rescale=rescale, dtype=torch.float64)

    def f(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        values = layer._prior()
        return lp.functional.locality_linear(x, weight, values, bias, layer._workspace)

    inputs = (torch.randn(3, 6, dtype=torch.float64, requires_grad=True), layer.weight, layer.bias)
    assert torch.autograd.gradcheck(f, inputs, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, inputs)


def test_a_wrong_backward_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient that misses P is told from the right one."""
    layer = lp.LocalityLinear(6, 4, dtype=torch.float64)
    x = torch.randn(3, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda w: _apply(layer, x, w), layer.weight)
    y = _apply(layer, x, layer.weight)
    monkeypatch.setattr(lp.functional, "multiply", lambda weight, prior, out: out.copy_(weight))
    (wrong,) = torch.autograd.grad(y.sum(), layer.weight)
    monkeypatch.undo()
    (right,) = torch.autograd.grad(_apply(layer, x, layer.weight).sum(), layer.weight)
    with pytest.raises(AssertionError):
        assert_close(wrong, right)


def _apply(layer: lp.LocalityLinear, x: Tensor, weight: Tensor) -> Tensor:
    return lp.functional.locality_linear(x, weight, layer._prior(), layer.bias, layer._workspace)


def test_without_a_workspace() -> None:
    x, w, p = torch.randn(3, 6), torch.randn(4, 6), torch.rand(4, 6)
    assert_close(lp.functional.locality_linear(x, w, p), x @ (w * p).T)


# --- a drop-in for nn.Linear -----------------------------------------------------------------------------------------


CUT = lp.cost.Linear().within(1)


STARTS = sampled(
    list(itertools.product([(6, 4), (9, 1), (17, 33), (100, 257)], ["auto", "dense", "windowed", "wires"])),
    list(itertools.product([torch.float32, torch.float64, torch.bfloat16], [True, False])),
)


@pytest.mark.parametrize(("shape", "how"), STARTS, ids=named(STARTS))
def test_starts_as_nn_linear_does(shape: tuple[tuple[int, int], str], how: tuple[torch.dtype, bool]) -> None:
    """The same numbers on the wires, and the generator in the same state, whatever the backend and the size."""
    ((features, out), backend), (dtype, bias) = shape, how
    torch.manual_seed(3)
    plain = nn.Linear(features, out, bias, dtype=dtype)
    after = torch.rand(1)
    torch.manual_seed(3)
    layer = lp.LocalityLinear(features, out, bias, dtype=dtype, backend=backend, cost=CUT)
    assert torch.equal(torch.rand(1), after)
    there = layer.rule.dense() > 0
    assert not there.all()

    def check() -> None:
        matrix = layer.weight if layer.pattern is None else layer.pattern.scatter(layer.weight)
        assert torch.equal(matrix, plain.weight * there)
        assert not bias or torch.equal(layer.bias, plain.bias)

    check()
    layer.weight.data.fill_(1)
    torch.manual_seed(3)
    layer.reset_parameters()
    check()


@pytest.mark.parametrize("block", [1, 100, 4099])
def test_blocks_of_rows_are_drawn_as_the_whole(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_module, "BLOCK", block)
    for size in (37, 64, 101):
        torch.manual_seed(3)
        plain = nn.Linear(size, size)
        after = torch.rand(1)
        torch.manual_seed(3)
        layer = lp.LocalityLinear(size, size, cost=CUT, backend="wires")
        assert torch.equal(torch.rand(1), after)
        assert torch.equal(layer.weight, layer.pattern.gather(plain.weight))
        assert torch.equal(layer.bias, plain.bias)


def test_layers_that_are_too_large_draw_for_their_wires_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_module, "DRAWN", 99)
    monkeypatch.setattr(linear_module, "_draw_on_wires", None)
    layer = lp.LocalityLinear(10, 10, cost=CUT, backend="wires")
    assert layer.weight.abs().max() <= 1 / math.sqrt(10)
    assert layer.weight.abs().min() > 0


@pytest.mark.parametrize("cost", [lp.cost.Linear(), lp.cost.Flat()], ids=repr)
def test_a_dense_layer_has_all_of_nn_linears_numbers(cost: Cost) -> None:
    torch.manual_seed(3)
    plain = nn.Linear(6, 4)
    torch.manual_seed(3)
    assert_close(dict(lp.LocalityLinear(6, 4, cost=cost).state_dict()), dict(plain.state_dict()), rtol=0, atol=0)


def test_initial_scale_is_the_documented() -> None:
    prior = lp.LocalityLinear(49, 49, dtype=torch.float64).prior
    assert prior.square().mean().sqrt() == pytest.approx(0.30, abs=0.005)


@pytest.mark.parametrize("assign", [False, True])
def test_loads_from_nn_linear_and_back(assign: bool) -> None:
    plain, cut = nn.Linear(6, 4), lp.LocalityLinear(6, 4, cost=lp.cost.Linear().within(1))
    assert plain.state_dict().keys() == cut.state_dict().keys()
    before = copy.deepcopy(plain.state_dict())
    cut.load_state_dict(plain.state_dict(), strict=True, assign=assign)
    off = cut.prior == 0
    assert off.any()
    assert (cut.weight[off] == 0).all()
    assert torch.equal(cut.weight[~off], plain.weight[~off])
    assert_close(dict(plain.state_dict()), dict(before), rtol=0, atol=0)
    assert cut.weight.requires_grad
    whole = lp.LocalityLinear(6, 4)
    whole.load_state_dict(plain.state_dict(), strict=True, assign=assign)
    assert torch.equal(whole.weight, plain.weight)
    assert (whole.weight.data_ptr() == plain.weight.data_ptr()) == assign
    plain.load_state_dict(cut.state_dict(), strict=True)
    assert torch.equal(plain.weight, cut.weight)
    with pytest.raises(RuntimeError, match="size mismatch"):
        cut.load_state_dict(nn.Linear(6, 5).state_dict())


def test_off_wire_weights_stay_zero_through_training() -> None:
    layer = lp.LocalityLinear(9, 9, cost=lp.cost.Linear().within(1))
    off = layer.prior == 0
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        layer(torch.randn(5, 9)).square().sum().backward()
        optimiser.step()
    assert (layer.weight[off] == 0).all()
    assert (layer.weight[~off] != 0).all()


def test_flat_is_nn_linear() -> None:
    control = lp.LocalityLinear(6, 4, cost=lp.cost.Flat())
    x = torch.randn(3, 6)
    assert torch.equal(control(x), nn.functional.linear(x, control.weight, control.bias))
    assert torch.equal(control.prior, torch.ones(4, 6))
    assert control.support is None


# --- folding ---------------------------------------------------------------------------------------------------------


@meetings
def test_fold_is_the_layer(meeting: Meeting) -> None:
    rescale = meeting.sizes[0] % 2 == 0
    layer = meeting.layer(lp.cost.Linear(), rescale=rescale, bias=rescale)
    plain = layer.fold()
    x = torch.randn(5, layer.in_features)
    assert type(plain) is nn.Linear
    assert (plain.in_features, plain.out_features) == (layer.in_features, layer.out_features)
    assert_close(plain(x), layer(x), rtol=1e-6, atol=1e-6)
    assert (layer(x) - nn.functional.linear(x, layer.weight, layer.bias)).abs().max() > 1e-3
    assert type(lp.fold(layer)) is nn.Linear


@pytest.mark.parametrize("cost", [lp.cost.Linear(), lp.cost.Flat()], ids=repr)
def test_fold_copies(cost: Cost) -> None:
    layer = lp.LocalityLinear(6, 4, cost=cost)
    layer.weight.requires_grad_(False)
    plain = layer.eval().fold()
    before = [p.clone() for p in plain.parameters()]
    assert not plain.training
    assert not plain.weight.requires_grad
    assert plain.bias.requires_grad
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), before, strict=True))


def test_fold_of_a_model_keeps_a_layer_that_is_used_twice_one() -> None:
    shared = lp.LocalityLinear(6, 6, cost=lp.cost.Quadratic())
    model = nn.Sequential(nn.Linear(5, 6), shared, nn.Tanh(), nn.ModuleDict({"again": shared})["again"], nn.ReLU())
    plain = lp.fold(model)
    x = torch.randn(3, 5)
    assert_close(plain(x), model(x), rtol=1e-6, atol=1e-6)
    assert plain[1] is plain[3]
    assert type(plain[1]) is nn.Linear
    assert isinstance(model[1], lp.LocalityLinear)
    assert not {p.data_ptr() for p in plain.parameters()} & {p.data_ptr() for p in model.parameters()}
    with pytest.raises(ValueError, match="module: got Sequential, expected a model with a locality layer"):
        lp.fold(plain)


CUSTOM = {"reference:taxi": reference.taxi, "homemade:Cylinder": homemade.Cylinder}

# --- describing ------------------------------------------------------------------------------------------------------


@meetings
def test_config_makes_an_equal_layer(meeting: Meeting) -> None:
    rescale = meeting.sizes[0] % 2 == 0
    layer = meeting.layer(lp.cost.Quadratic(2).within(3), rescale=rescale, bias=not rescale)
    again = lp.LocalityLinear.from_config(layer.config(), CUSTOM, dtype=torch.float64)
    assert again.config() == layer.config()
    assert again.weight.dtype == torch.float64
    assert torch.equal(again.prior.float(), layer.prior)


def test_repr_shows_geometry_and_cost() -> None:
    assert repr(lp.LocalityLinear(4, 4)) == "LocalityLinear(4, 4, source=Grid(2, 2), cost=Linear())"
    layer = lp.LocalityLinear(4, 3, False, cost=lp.cost.Power(2, 1.5).within(3), rescale=True)
    assert repr(layer) == (
        "LocalityLinear(4, 3, source=Grid(2, 2), target=Grid(2, 2, units=3), "
        "cost=Power(length=2, p=1.5).within(3), rescale=True, bias=False)"
    )


# --- bad input -------------------------------------------------------------------------------------------------------

LAYER = lp.LocalityLinear(6, 4)
CONTROL = lp.LocalityLinear(6, 4, cost=lp.cost.Flat())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: lp.LocalityLinear(0, 4), "in_features: got 0, expected a whole number"),
        (lambda: lp.LocalityLinear(4, -1), "out_features: got -1"),
        (lambda: lp.LocalityLinear(4, 2.5), "out_features: got 2.5"),
        (lambda: lp.LocalityLinear(4, 4, source=lp.Grid(3)), r"source: got Grid\(3\) of 3 units, expected 4"),
        (lambda: lp.LocalityLinear(4, 4, target=lp.Grid(3)), r"target: got Grid\(3\) of 3 units, expected 4"),
        (lambda: lp.LocalityLinear(4, 4, source=[2, 2]), r"source: got \[2, 2\], expected a geometry"),
        (lambda: lp.LocalityLinear(4, 4, source=lp.Line(4), target=lp.Grid(2, 2)), "cannot meet"),
        (lambda: lp.LocalityLinear(4, 4, cost="lineal"), "cost: got 'lineal', expected"),
        (lambda: lp.LocalityLinear(4, 4, cost=3), "cost: got 3, expected a cost"),
        (lambda: lp.LocalityLinear(4, 1, cost=lp.cost.Linear().within(0.2)), "target: got unit 0 .* no wire"),
        (lambda: lp.LocalityLinear(4, 4, backend="fast"), "backend: got fast, expected one of auto"),
        (lambda: lp.LocalityLinear(4, 4, dtype=torch.int64), "dtype: got torch.int64, expected a floating-point"),
        (lambda: lp.LocalityLinear(4, 4, dtype="float32"), "dtype: got float32, expected a floating-point"),
        (lambda: LAYER(torch.randn(3, 5)), r"input: got shape \(3, 5\), expected \(…, 6\)"),
        (lambda: LAYER(torch.tensor(1.0)), r"input: got shape \(\), expected \(…, 6\)"),
        (lambda: LAYER(torch.randn(3, 6).double()), "input: got dtype torch.float64, expected .*torch.float32"),
        (lambda: LAYER(torch.ones(3, 6, dtype=torch.int64)), "input: got dtype torch.int64"),
        (lambda: LAYER([[1.0] * 6]), r"input: got \[\[1.0, .*\]\], expected a tensor \(…, 6\)"),
        (lambda: CONTROL(torch.randn(3, 5)), r"input: got shape \(3, 5\)"),
        (lambda: CONTROL(torch.randn(3, 6).half()), "input: got dtype torch.float16"),
        (lambda: _in_autocast(torch.ones(3, 6, dtype=torch.int64)), "input: got dtype torch.int64"),
        (lambda: _in_autocast(torch.ones(3, 6, dtype=torch.float64)), "input: got dtype torch.float64"),
    ],
)
def test_bad_input_is_named_in_one_line(make: Callable[[], object], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def _in_autocast(x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return LAYER(x)
