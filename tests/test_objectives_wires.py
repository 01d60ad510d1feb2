"""Objectives that charge wires by their length, against sums written out pair by pair, in values and gradients."""

from __future__ import annotations

import gc
import json
import math
import re
import weakref
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import locality_prior as lp
from locality_prior import objectives
from locality_prior.objectives import _kept, spatial_embedding, words
from locality_prior.objectives.kinds import KINDS

SHEETS: dict[str, tuple[lp.Geometry, lp.Geometry]] = {
    "square": (lp.Grid(3, 3), lp.Grid(3, 3)),
    "rectangle": (lp.Grid(2, 5), lp.Grid(4, 3)),
    "prime": (lp.Line(7), lp.Line(5)),
    "torus": (lp.Grid(3, 4, periodic=True), lp.Grid(2, 5, periodic=True)),
    "points": (lp.Points([[0.0, 0.5], [2.0, 1.0], [-1.0, 3.0]]), lp.Points([[1.0, 0.0], [0.0, 4.0]])),
    "channels": (lp.Grid(2, 2).with_channels(2), lp.Grid(3, 2)),
    "hexagons": (lp.HexGrid(3, 2), lp.HexGrid(2, 4)),
}
OWN: dict[str, lp.Geometry] = {
    "rectangle": lp.Grid(2, 3),
    "prime": lp.Line(5),
    "torus": lp.Grid(2, 3, periodic=True),
    "box": lp.Grid(2, 2, 2),
    "points": lp.Points([[0.0, 0.5], [2.0, 1.0], [-1.0, 3.0], [1.0, 1.0]]),
    "directed": lp.Distances([[0.5, 1.0, 2.0], [3.0, 0.0, 1.0], [1.5, 2.5, 0.0]]),
}
meetings = pytest.mark.parametrize("name", SHEETS)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Weights, none of which is so near 0 that a difference quotient would step over it."""
    w = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (w + 0.1 * w.sign()).to(dtype).requires_grad_()


def between(name: str, *kernel: int) -> tuple[Tensor, lp.Geometry, lp.Geometry]:
    target, source = SHEETS[name]
    return drawn(len(target), len(source), *kernel), target, source


def pair_by_pair(weight: Tensor, d: Any, each: Callable[[float, float], float]) -> float:
    """Σ each(w_ij, d_ij), a kernel's entries one by one."""
    rows = weight.detach().flatten(2).tolist() if weight.dim() > 2 else weight.detach()[..., None].tolist()
    return math.fsum(
        each(w, float(d[i][j])) for i, row in enumerate(rows) for j, entries in enumerate(row) for w in entries
    )


def agree(f: Callable[[Tensor], Tensor], weight: Tensor, expected: float) -> None:
    """The value, its gradient by difference quotients, and that the gradient goes everywhere."""
    value = f(weight)
    assert value.shape == ()
    assert value.item() == pytest.approx(expected, rel=1e-12)
    assert torch.autograd.gradcheck(f, (weight,))


def placed_net() -> lp.Placement:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 4))
    return lp.place(net, {"0": (lp.Grid(2, 3), lp.Grid(3, 3)), "2": lp.Grid(3, 3)})


# --- wiring ----------------------------------------------------------------------------------------------------------


def root(d: Tensor) -> Tensor:
    return d.sqrt()


@meetings
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize(
    ("price", "f"),
    [
        ("distance", lambda d: d),
        ("linear:2", lambda d: 1 + d / 2),
        ("power:2/1.5", lambda d: (1 + d / 2) ** 1.5),
        (lp.cost.Quadratic(), lambda d: (1 + d) ** 2),
        (root, math.sqrt),
    ],
    ids=["distance", "linear", "power", "cost", "function"],
)
def test_wiring(name: str, power: int, price: Any, f: Callable[[float], float]) -> None:
    weight, target, source = between(name)
    expected = pair_by_pair(weight, target.distances(source), lambda w, d: f(d) * abs(w) ** power)
    agree(lambda w: objectives.wiring(w, target, source, price=price, power=power), weight, expected)


def test_each_entry_of_a_kernel_pays() -> None:
    weight, target, source = between("rectangle", 3, 2)
    d = target.distances(source)
    agree(lambda w: objectives.wiring(w, target, source), weight, pair_by_pair(weight, d, lambda w, d: d * abs(w)))
    side = 4
    expected = pair_by_pair(weight, d, lambda w, d: (d / side * w) ** 2 / (1 + w * w))
    agree(lambda w: objectives.saturating(w, target, source), weight, expected)


def test_wiring_by_hand() -> None:
    """Three units in a row and two beside them: lengths 0 ½ 1 along the common line."""
    weight = torch.tensor([[1.0, -2.0], [3.0, 4.0], [-5.0, 6.0]])
    target, source = lp.Points([[0.0], [1.0], [2.0]]), lp.Points([[0.0], [1.5]])
    assert objectives.wiring(weight, target, source) == 1 * 0 + 2 * 1.5 + 3 * 1 + 4 * 0.5 + 5 * 2 + 6 * 0.5
    assert objectives.wiring(weight, target, source, power=2) == 4 * 1.5 + 9 * 1 + 16 * 0.5 + 25 * 2 + 36 * 0.5


def test_wiring_of_a_layer_is_its_wiring_cost() -> None:
    layer = lp.LocalityLinear(9, 9, cost="linear", dtype=torch.float64)
    v = layer.effective_weight
    assert_close(objectives.wiring(v, layer.target, layer.source, price="linear"), lp.wiring_cost(layer))
    mean = objectives.wiring(v, layer.target, layer.source) / v.abs().sum()
    assert_close(mean, lp.mean_wire_length(layer))


def negative(d: Tensor) -> Tensor:
    return 1 - d


def scalar(d: Tensor) -> Tensor:
    return d.sum()


def writes(d: Tensor) -> Tensor:
    return d.add_(1)


@pytest.mark.parametrize(
    ("price", "said"),
    [
        ("linear@2", "price: got 'linear@2', inf at d = 2.2"),
        (lp.cost.Linear().within(1.5), "price: got Linear().within(1.5), inf at d = 2, expected a finite price of at"),
        (negative, "price: got negative, -1 at d = 2, expected a finite price of at least 0 for every pair"),
        (scalar, "price: got scalar, which gives tensor("),
        ("far", "price: got 'far', expected distance, or a cost's word, with a name of linear, "),
        ("linear:x", "price: got 'linear:x', expected a finite number above 0 as its length"),
        (3, 'price: got 3, expected "distance", a cost, such as "linear:2", or a function of a tensor of lengths'),
        (lp.cost.Linear, "price: got <class 'locality_prior.cost.Linear'>, expected \"distance\", a cost"),
    ],
)
def test_a_price_that_is_none(price: Any, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(said)}"):
        objectives.wiring(torch.ones(9, 9), lp.Grid(3, 3), price=price)


def test_a_price_beyond_float32() -> None:
    weight, line = torch.ones(200, 200), lp.Line(200)
    with pytest.raises(ValueError, match=r"price: got 'exponential', inf at d = \d+, expected a finite price"):
        objectives.wiring(weight, line, price="exponential")
    assert objectives.wiring(weight.double(), line, price="exponential").isfinite()


def test_a_price_that_writes_into_its_lengths() -> None:
    sheet = lp.Grid(3, 3)
    held = sheet.distances()  # the same tensor as long as somebody holds it
    before = held.clone()
    objectives.wiring(torch.ones(9, 9), sheet, price=writes)
    assert sheet.distances() is held
    assert torch.equal(held, before)


# --- saturating ------------------------------------------------------------------------------------------------------

VARIANTS: dict[str, Callable[[float, float], float]] = {
    "jacobs": lambda w, d: d * d * w * w / (1 + w * w),
    "linear": lambda w, d: d * w * w / (1 + w * w),
    "wiring": lambda w, d: d * abs(w),
}
#: The longest side of each source.
SIDES = {
    "square": 3,
    "rectangle": 4,
    "prime": 5,
    "torus": 5,
    "points": 4 + math.sqrt(17),
    "channels": 3,
    "hexagons": 4.5,
}


@meetings
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("relative", [True, False])
def test_saturating(name: str, variant: str, relative: bool) -> None:
    weight, target, source = between(name)
    side = SIDES[name] if relative else 1.0
    expected = pair_by_pair(weight, target.distances(source), lambda w, d: VARIANTS[variant](w, d / side))
    agree(lambda w: objectives.saturating(w, target, source, variant=variant, relative=relative), weight, expected)


def test_saturating_by_hand() -> None:
    """Σ d²w²/(1 + w²) of wires 1 and 2 cells long, weights 1 and 2, on a sheet of 4 cells; lengths as shares."""
    weight = torch.zeros(4, 4)
    weight[0, 1], weight[3, 1] = 1.0, -2.0
    line = lp.Line(4)
    jacobs = Fraction(1, 16) * Fraction(1, 2) + Fraction(4, 16) * Fraction(4, 5)
    linear = Fraction(1, 4) * Fraction(1, 2) + Fraction(2, 4) * Fraction(4, 5)
    assert objectives.saturating(weight, line).item() == pytest.approx(float(jacobs))
    assert objectives.saturating(weight, line, variant="linear").item() == pytest.approx(float(linear))
    assert objectives.saturating(weight, line, variant="wiring").item() == 1 / 4 + 2 * 2 / 4
    assert objectives.saturating(weight, line, relative=False).item() == pytest.approx(16 * float(jacobs))
    apart = lp.Grid(4, spacing=0.5)
    assert objectives.saturating(weight, apart).item() == pytest.approx(float(jacobs))
    assert objectives.saturating(weight, apart, relative=False).item() == pytest.approx(4 * float(jacobs))


def test_a_strong_wire_pays_for_its_length_alone() -> None:
    for strong in (1e3, 1e6):
        assert objectives.saturating(torch.full((4, 4), strong), lp.Line(4)).item() == pytest.approx(40 / 16, rel=1e-5)


# --- BIMT ------------------------------------------------------------------------------------------------------------

#: The places in the unit square of the sheets of SHEETS, by hand: cell centres, or stretched to the box.
CENTRES: dict[str, tuple[list[Any], list[Any], bool]] = {
    "square": (
        [[y, x] for y in (1 / 6, 1 / 2, 5 / 6) for x in (1 / 6, 1 / 2, 5 / 6)],
        [[y, x] for y in (1 / 6, 1 / 2, 5 / 6) for x in (1 / 6, 1 / 2, 5 / 6)],
        False,
    ),
    "rectangle": (
        [[y, x] for y in (0.25, 0.75) for x in (0.1, 0.3, 0.5, 0.7, 0.9)],
        [[y, x] for y in (0.125, 0.375, 0.625, 0.875) for x in (1 / 6, 1 / 2, 5 / 6)],
        False,
    ),
    "prime": ([[(k + 0.5) / 7] for k in range(7)], [[(k + 0.5) / 5] for k in range(5)], False),
    "torus": (
        [[y, x] for y in (1 / 6, 1 / 2, 5 / 6) for x in (0.125, 0.375, 0.625, 0.875)],
        [[y, x] for y in (0.25, 0.75) for x in (0.1, 0.3, 0.5, 0.7, 0.9)],
        True,
    ),
    "points": ([[1 / 3, 0], [1, 0.2], [0, 1]], [[1, 0], [0, 1]], False),
    "channels": (
        [[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]] * 2,
        [[y, x] for y in (1 / 6, 1 / 2, 5 / 6) for x in (0.25, 0.75)],
        False,
    ),
}


def cityblock(name: str) -> list[list[float]]:
    ends, starts, closed = CENTRES[name]
    return [
        [
            sum(min(abs(a - b), 1 - abs(a - b)) if closed else abs(a - b) for a, b in zip(u, v, strict=True))
            for v in starts
        ]
        for u in ends
    ]


@pytest.mark.parametrize("name", CENTRES)
@pytest.mark.parametrize("kernel", [(), (2, 2)])
def test_bimt(name: str, kernel: tuple[int, ...]) -> None:
    weight, target, source = between(name, *kernel)
    expected = pair_by_pair(weight, cityblock(name), lambda w, d: abs(w) * (2 * d + 0.5)) / weight.numel()
    agree(lambda w: objectives.bimt(w, target, source), weight, expected)
    bias = drawn(len(target), seed=1)
    charged = expected + 0.5 * math.fsum(map(abs, bias.tolist())) / len(target)
    agree(lambda w: objectives.bimt(w, target, source, bias=bias), weight, charged)
    agree(lambda b: objectives.bimt(weight.detach(), target, source, bias=b), bias, charged)
    free = 0.5 * float(weight.detach().abs().mean())
    agree(lambda w: objectives.bimt(w, target, source, distance=False), weight, free)


def test_bimt_by_hand() -> None:
    """Places ¼ and ¾ opposite ⅙, ½, ⅚: d = 1/12, 1/4, 7/12 and back."""
    weight = torch.tensor([[1.0, -1.0, 2.0], [0.0, 3.0, -6.0]])
    d = [Fraction(1, 12), Fraction(1, 4), Fraction(7, 12)]
    half = Fraction(1, 2)
    paid = [1 * (2 * d[0] + half), 1 * (2 * d[1] + half), 2 * (2 * d[2] + half), 3 * (2 * d[1] + half)]
    expected = (sum(paid) + 6 * (2 * d[0] + half)) / 6
    found = objectives.bimt(weight, lp.Line(2), lp.Line(3), bias=torch.tensor([3.0, -1.0]))
    assert found.item() == pytest.approx(float(expected) + 1)


def test_bimt_of_a_network_is_the_sum_over_its_layers() -> None:
    net = nn.Sequential(nn.Linear(9, 4), nn.SiLU(), nn.Linear(4, 3)).double()
    placed = lp.place(net, {"0": (lp.Grid(3, 3), lp.Grid(2, 2)), "2": lp.Line(3)})
    objective = objectives.BIMT(placed, last="2")
    first, last = net[0], net[2]
    expected = objectives.bimt(first.weight, lp.Grid(2, 2), lp.Grid(3, 3), bias=first.bias)
    expected = expected + 0.5 * (last.weight.abs().mean() + last.bias.abs().mean())
    assert_close(objective.value(), expected)
    assert_close(objective(), 0.01 * expected)
    with pytest.raises(
        ValueError, match=r"^placed: got 2 without the places that its wires come from, expected \{'2': "
    ):
        objectives.BIMT(placed)


def test_the_schedule_of_its_paper() -> None:
    objective = words.bind("bimt:0.01,steps=0.25/0.5", placed_net(), placed_net())[0]
    steps = 40000
    strength = [objective.weight(step / steps) for step in (0, steps // 4 - 1, steps // 4, steps // 2 - 1, steps // 2)]
    assert strength == pytest.approx([0.01, 0.01, 0.1, 0.1, 1.0])
    assert objective.strength == objectives.steps(0.01)


@pytest.mark.parametrize("bias", [True, False])
def test_biases_of_every_kind(bias: bool) -> None:
    sheet = lp.Grid(2, 2)
    kinds: dict[str, nn.Module] = {
        "gru": nn.GRU(4, 4, 1, bias),
        "attention": nn.MultiheadAttention(4, 2, bias=bias),
        "conv": nn.Conv2d(4, 4, 3, bias=bias),
        "linear": nn.Linear(4, 4, bias=bias),
    }
    for name, module in kinds.items():
        nn.init.constant_(module.get_parameter("weight_hh_l0") if name == "gru" else next(module.parameters()), 1.0)
        for key, parameter in module.named_parameters():
            nn.init.constant_(parameter, 2.0 if "bias" in key else 0.0)
        placed = lp.place(nn.ModuleDict({"it": module}), {"it": sheet})
        count = {"gru": 6, "attention": 4, "conv": 1, "linear": 1}[name]
        assert objectives.BIMT(placed).value().item() == count * bias * 0.5 * 2


# --- communicability -------------------------------------------------------------------------------------------------


def spread(weight: Tensor, d: Tensor) -> Tensor:
    """Σ |W| ∘ D ∘ C, from its definition, with torch's matrix exponential."""
    size = weight.abs()
    inside = size.sum(0).rsqrt().diag()
    c = torch.linalg.matrix_exp(inside @ size @ inside)
    return (size * d * (c - c.diag().diag())).sum()


@pytest.mark.parametrize("name", OWN)
def test_communicability(name: str) -> None:
    sheet = OWN[name]
    weight, d = drawn(len(sheet), len(sheet)), sheet.distances()
    agree(lambda w: objectives.communicability(w, sheet), weight, float(spread(weight.detach(), d)))
    (found,) = torch.autograd.grad(objectives.communicability(weight, sheet), weight)
    (expected,) = torch.autograd.grad(spread(weight, d), weight)
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_second_derivatives_of_communicability() -> None:
    line = lp.Line(3)
    assert torch.autograd.gradgradcheck(lambda w: objectives.communicability(w, line), (drawn(3, 3),))


def test_communicability_by_hand() -> None:
    """One wire each way: S = diag(b, a), A = [[0, a], [b, 0]]/√(ab), and A² = 1, so that C is sinh 1 beside it."""
    weight = torch.tensor([[7.0, 2.0], [-5.0, 7.0]], dtype=torch.float64)
    weight.fill_diagonal_(0)
    found = objectives.communicability(weight, lp.Line(2))
    symmetric = math.sinh(1) * (2 * math.sqrt(2 / 5) + 5 * math.sqrt(5 / 2))
    assert found.item() == pytest.approx(symmetric)


def test_communicability_sums_what_a_unit_sends() -> None:
    """A chain 0 → 1 → 2: in the authors' matrix, ours transposed, S sums rows. Unit 2 sends nothing."""
    theirs = torch.tensor([[0.0, 4.0, 0.0], [0.0, 0.0, 9.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    s = theirs.sum(1)
    inside = torch.where(s > 0, s.clamp(min=1).rsqrt(), 0.0).diag()
    c = torch.linalg.matrix_exp(inside @ theirs @ inside)
    expected = (theirs * lp.Line(3).distances() * c).sum()
    assert expected == 4 * 4 / 6
    assert_close(objectives.communicability(theirs.T, lp.Line(3)), expected)


def test_units_that_send_nothing() -> None:
    sheet = lp.Grid(2, 3)
    weight = drawn(6, 6).detach()
    weight[:, 2] = 0
    weight[:, 4] = 0
    weight.requires_grad_()
    value = objectives.communicability(weight, sheet)
    (gradient,) = torch.autograd.grad(value, weight)
    some = weight.detach().clone()
    some[:, [2, 4]] = 0
    left = [0, 1, 3, 5]
    kept = some[left][:, left]
    # what unit 2 and 4 receive counts for what the others send, and leads nowhere
    s = some.abs().sum(0)[left]
    c = torch.linalg.matrix_exp(s.rsqrt().diag() @ kept.abs() @ s.rsqrt().diag())
    expected = (kept.abs() * sheet.distances()[left][:, left] * c).sum()
    assert_close(value, expected)
    assert gradient.isfinite().all()
    nothing = torch.zeros(6, 6, requires_grad=True)
    zero = objectives.communicability(nothing, sheet)
    zero.backward()
    assert zero == 0
    assert nothing.grad is not None
    assert (nothing.grad == 0).all()


def test_units_that_send_next_to_nothing() -> None:
    weight = (torch.randn(9, 9) * 1e-40).requires_grad_()
    objectives.communicability(weight, lp.Grid(3, 3)).backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def test_detached_communicability() -> None:
    sheet = lp.Grid(2, 3)
    weight = drawn(6, 6)
    s = weight.detach().abs().sum(0).rsqrt().diag()
    c = torch.linalg.matrix_exp(s @ weight.detach().abs() @ s)
    value = objectives.communicability(weight, sheet, through=False)
    assert_close(value, objectives.communicability(weight, sheet))
    (gradient,) = torch.autograd.grad(value, weight)
    assert_close(gradient, weight.detach().sign() * sheet.distances() * c)


def test_the_polynomial_is_taylors() -> None:
    x = torch.tensor([0.1, 0.5, 1.0, 2.0], dtype=torch.float64)
    taylor = sum(x**k / math.factorial(k) for k in range(1, 9))
    assert_close(spatial_embedding._beyond_one(x.diag()).diagonal(), taylor, rtol=1e-14, atol=0)


@pytest.mark.parametrize("uneven", [1.0, 1e6])
def test_float32_is_at_its_rounding(uneven: float) -> None:
    """Where units send very different amounts the symmetric matrix is large, and its shares are not."""
    sheet = lp.Grid(8, 12)
    weight = drawn(96, 96).detach()
    weight[:, ::7] *= uneven
    exact = weight.clone().requires_grad_()
    single = weight.float().requires_grad_()
    values = [objectives.communicability(w, sheet) for w in (single, exact)]
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-6)
    for value in values:
        value.backward()
    assert single.grad is not None
    assert exact.grad is not None
    assert_close(single.grad.double(), exact.grad, rtol=1e-5, atol=1e-6 * float(exact.grad.abs().max()))


def test_a_recurrent_layer_pays_for_its_own_wires() -> None:
    """Its inputs lie on the same sheet, yet they are others."""
    sheet = lp.Grid(2, 2)
    gru = nn.GRU(4, 4)
    placed = lp.place(nn.ModuleDict({"it": gru}), {"it": sheet})
    gates = gru.weight_hh_l0.chunk(3)
    expected = torch.stack([objectives.communicability(gate, sheet) for gate in gates]).sum()
    assert_close(objectives.Communicability(placed).value(), expected)
    assert len(placed.matrices("it")) == 6


@pytest.mark.parametrize("module", [nn.Linear(6, 4), nn.Conv2d(4, 4, 3)])
def test_communicability_asks_for_a_sheet_and_itself(module: nn.Module) -> None:
    placed = lp.place(nn.ModuleDict({"it": module}), {"it": lp.Grid(2, 2)})
    with pytest.raises(ValueError, match=r"placed: got it, a .* without weights from its sheet to itself"):
        objectives.Communicability(placed)


# --- what all of them share ------------------------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "wiring": objectives.wiring,
    "saturating": objectives.saturating,
    "bimt": objectives.bimt,
    "communicability": objectives.communicability,
}
functions = pytest.mark.parametrize("word", FUNCTIONS)


@functions
@pytest.mark.parametrize("autocast", [True, False])
def test_low_precision(word: str, autocast: bool) -> None:
    """Computed in float32 from weights in bfloat16, and under autocast."""
    sheet = lp.Grid(4, 5)
    weight = drawn(20, 20, dtype=torch.bfloat16 if not autocast else torch.float32)
    expected = FUNCTIONS[word](weight.detach().float(), sheet)
    with torch.autocast("cpu", enabled=autocast, dtype=torch.bfloat16):
        value = FUNCTIONS[word](weight, sheet)
        value.backward()
    assert value.dtype == torch.float32
    assert_close(value, expected, rtol=1e-6, atol=0)
    assert weight.grad is not None
    assert weight.grad.dtype == weight.dtype
    assert FUNCTIONS[word](weight.double(), sheet).dtype == torch.float64


@functions
def test_compiled(word: str) -> None:
    torch.compiler.reset()

    def step(weight: Tensor, sheet: lp.Geometry) -> Tensor:
        return FUNCTIONS[word](weight, sheet)

    compiled = torch.compile(step, backend="eager", fullgraph=True)
    for sheet in (lp.Grid(2, 3), lp.Grid(3, 2), lp.Line(6)):
        weight, other = drawn(6, 6), drawn(6, 6)
        compiled(weight, sheet).backward()
        step(other, sheet).backward()
        assert_close(weight.grad, other.grad)


@functions
def test_lengths_are_computed_once(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet, other = lp.Grid(3, 4), lp.Grid(3, 4)
    FUNCTIONS[word](drawn(12, 12), sheet)
    monkeypatch.setattr(lp.Grid, "distances", lambda *_: pytest.fail("computed again"))
    monkeypatch.setattr(lp.Grid, "cells", lambda *_: pytest.fail("computed again"))
    FUNCTIONS[word](drawn(12, 12), sheet)
    FUNCTIONS[word](drawn(12, 12), other)


class Waits(TorchDispatchMode):
    """Raises where a value is brought to Python, for which the CPU would have to wait for a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise AssertionError(f"{func} waits")
        return func(*args, **(kwargs or {}))


@functions
def test_no_step_waits_for_a_gpu(word: str) -> None:
    weight, sheet = drawn(9, 9), lp.Grid(3, 3)
    FUNCTIONS[word](weight, sheet)
    with Waits():
        FUNCTIONS[word](weight, sheet).backward()
    with Waits(), pytest.raises(AssertionError, match="waits"):
        FUNCTIONS[word](weight, sheet).item()


def test_what_is_kept_goes_with_its_sheet() -> None:
    alive: list[weakref.ref[Tensor]] = []

    @_kept.kept
    def made(target: lp.Geometry, source: lp.Geometry, number: int) -> Tensor:
        tensor = torch.full((1,), float(number))
        alive.append(weakref.ref(tensor))
        return tensor

    sheet = lp.Grid(3, 5)
    for number in range(20):
        assert made(sheet, sheet, number) == number
    assert made(sheet, sheet, 19) == 19
    assert len(alive) == 20
    assert sum(ref() is not None for ref in alive) == _kept.KEPT
    del sheet
    gc.collect()
    assert not any(ref() is not None for ref in alive)


def test_measured_first_in_inference_mode() -> None:
    sheet = lp.Grid(3, 3)
    with torch.inference_mode():
        for f in FUNCTIONS.values():
            f(torch.ones(9, 9), sheet)
    for f in FUNCTIONS.values():
        weight = drawn(9, 9, dtype=torch.float32)
        f(weight, sheet).backward()
        assert weight.grad is not None


@functions
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((torch.ones(9, 9), lp.Grid(2, 2)), "weight: got Tensor of shape (9, 9), expected (4, in) for Grid(2, 2)"),
        ((torch.ones(4, 9), lp.Grid(2, 2)), "source: got None, expected the places of the 9 units that the wires"),
        ((torch.ones(4, 9), lp.Grid(2, 2), lp.Grid(2, 2)), "weight: got Tensor of shape (4, 9), expected (4, 4) for"),
        ((torch.ones(4, 4, dtype=torch.int64), lp.Grid(2, 2)), "weight: got Tensor of shape (4, 4), expected a float"),
        ((torch.ones(4, 4), "sheet"), "target: got sheet, expected a geometry"),
        (([[1.0]], lp.Line(1)), "weight: got [[1.0]], expected a floating-point tensor (out, in)"),
    ],
)
def test_what_does_not_fit(word: str, given: Any, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(said)}"):
        FUNCTIONS[word](*given)


APART = lp.Graph([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda w: objectives.wiring(w, APART), "price: got 'distance', inf at d = inf, expected a finite price"),
        (lambda w: objectives.wiring(w, lp.Line(4), power=3), "power: got 3, expected one of 1, 2"),
        (lambda w: objectives.wiring(w, lp.Line(4), power=True), "power: got True, expected one of 1, 2"),
        (lambda w: objectives.saturating(w, APART, relative=False), "in which some units are not connected, expected"),
        (lambda w: objectives.saturating(w, lp.Graph(1 - torch.eye(4))), "relative: got True for Graph(4 nodes"),
        (lambda w: objectives.saturating(w, lp.Line(4), variant="l2"), "variant: got l2, expected one of jacobs, "),
        (lambda w: objectives.saturating(w, lp.Line(4), relative=1), "relative: got 1, expected True or False"),
        (lambda w: objectives.bimt(w, APART), "expected a geometry with positions"),
        (lambda w: objectives.bimt(w, lp.Line(4), lp.Grid(2, 2)), "source: got Grid(2, 2), expected as many axes"),
        (
            lambda w: objectives.bimt(w, lp.Line(4), lp.Line(4, periodic=True)),
            "expected as many axes as Grid(4) has, which close",
        ),
        (
            lambda w: objectives.bimt(w, lp.Line(4), bias=[1.0]),
            "bias: got [1.0], expected a floating-point tensor",
        ),
        (
            lambda w: objectives.bimt(w, lp.Line(4), bias=w),
            "bias: got Tensor of shape (4, 4), expected (4,)",
        ),
        (lambda w: objectives.bimt(w, lp.Line(4), distance=0), "distance: got 0, expected True or False"),
        (lambda w: objectives.communicability(w, APART), "in which some units are not connected, expected a way"),
        (lambda w: objectives.communicability(w, lp.Line(4), lp.Grid(2, 2)), "source: got Grid(2, 2), expected the t"),
        (lambda w: objectives.communicability(w[..., None], lp.Line(4)), "expected (4, 4), without a kernel"),
        (lambda w: objectives.communicability(w, lp.Line(4), through="no"), "through: got no, expected True or Fal"),
    ],
)
def test_what_is_refused(call: Callable[[Tensor], Tensor], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(said)) as error:
        call(torch.ones(4, 4))
    assert "\n" not in str(error.value)


# --- bound to a placement --------------------------------------------------------------------------------------------

BOUND: dict[str, dict[str, Any]] = {
    "Wiring": {"price": "power:2/1.5", "power": 2},
    "Saturating": {"variant": "linear", "relative": False},
    "BIMT": {"last": "2"},
    "Communicability": {"through": False},
}
USUAL = {"Wiring": 1e-4, "Saturating": 0.5, "BIMT": 0.01, "Communicability": 0.5}
bound = pytest.mark.parametrize("kind", BOUND)


def own_net() -> lp.Placement:
    """A network all of whose placed layers lead from a sheet to itself."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 9))
    return lp.place(net, {nn.Linear: lp.Grid(3, 3)})


@bound
def test_bound_to_a_placement(kind: str) -> None:
    placed, function = own_net(), FUNCTIONS[KINDS[kind].WORD]
    objective = KINDS[kind](placed)
    sheet = lp.Grid(3, 3)
    layers = [placed[name].module for name in placed]
    bias = [{"bias": layer.bias} if kind == "BIMT" else {} for layer in layers]
    each = [function(layer.weight, sheet, **more) for layer, more in zip(layers, bias, strict=True)]
    assert_close(list(objective.parts().values()), each)
    assert_close(objective(), USUAL[kind] * torch.stack(each).sum())
    objective().backward()
    assert all(layer.weight.grad is not None for layer in layers)


@bound
def test_round_trips(kind: str) -> None:
    placed, options = own_net(), BOUND[kind]
    objective = KINDS[kind](placed, objectives.steps(0.25), **options)
    config = json.loads(json.dumps(objective.config()))
    again = objectives.from_config(config, placed)
    assert type(again) is KINDS[kind]
    assert again.config() == objective.config()
    said = ",".join(f"{k}={v}" for k, v in options.items())
    text = words.canonical("objective", f"{KINDS[kind].WORD}:0.25,steps=0.25/0.5,{said}")
    assert words.canonical("objective", text) == text
    (third,) = words.bind(text, placed, placed)
    assert third.config() == objective.config()
    assert_close(third(0.3), objective(0.3))
    assert repr(again) == repr(objective)


@bound
def test_it_falls_in_training(kind: str) -> None:
    placed = own_net()
    objective = KINDS[kind](placed)
    before = objective.value().item()
    optimiser = torch.optim.Adam(placed.model.parameters(), lr=1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        objective().backward()
        optimiser.step()
    assert objective.value().item() < 0.5 * before


def test_a_cost_as_a_price_becomes_its_word() -> None:
    placed = own_net()
    objective = objectives.Wiring(placed, price=lp.cost.Power(2, 1.5))
    assert objective.config()["price"] == "power:2/1.5"
    assert objectives.Wiring(placed, price="Linear:1.0").config()["price"] == "linear"
    assert objectives.Wiring(placed).config() == {"type": "Wiring", "strength": 1e-4, "price": "distance", "power": 1}


def test_a_function_as_a_price_cannot_be_saved() -> None:
    placed = own_net()
    objective = objectives.Wiring(placed, price=root)
    assert_close(objective.of("0"), objectives.wiring(placed.weights("0"), lp.Grid(3, 3), price=root))
    with pytest.raises(ValueError, match="price: got root, expected a word, since no other price can be saved"):
        objective.config()


def test_all_matrices_of_a_module_pay() -> None:
    sheet, inputs = lp.Grid(2, 2), lp.Grid(2, 3)
    lstm, attention, conv = nn.LSTM(6, 4), nn.MultiheadAttention(4, 2), nn.Conv2d(6, 4, 3)
    net = nn.ModuleDict({"lstm": lstm, "attention": attention, "conv": conv})
    placed = lp.place(net, {"lstm": (inputs, sheet), "attention": sheet, "conv": (inputs, sheet)})
    for kind in (objectives.Wiring, objectives.Saturating):
        objective, f = kind(placed), FUNCTIONS[kind.WORD]
        gates = [f(w, sheet) for w in lstm.weight_hh_l0.chunk(4)]
        gates += [f(w, sheet, inputs) for w in lstm.weight_ih_l0.chunk(4)]
        assert_close(objective.of("lstm"), torch.stack(gates).sum())
        parts = [*attention.in_proj_weight.chunk(3), attention.out_proj.weight]
        assert_close(objective.of("attention"), torch.stack([f(w, sheet) for w in parts]).sum())
        assert_close(objective.of("conv"), f(conv.weight, sheet, inputs))


def test_the_inputs_of_a_local_recurrent_layer_lie_on_no_sheet() -> None:
    """Only its wires between its own units have a geometry of their own."""
    lstm = lp.LocalityLSTM(4, 6)
    placed = lp.place(nn.ModuleDict({"it": lstm}), {"it": lp.Grid(2, 3)})
    assert placed["it"].source is None
    expected = torch.stack([objectives.wiring(one.weight, lp.Grid(2, 3)) for one in placed.matrices("it")]).sum()
    assert_close(objectives.Wiring(placed).value(), expected)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: objectives.Wiring(p, price="far"), "price: got 'far', expected distance, or a cost's word"),
        (lambda p: objectives.Wiring(p, price="linear@1"), "price: got 'linear@1', inf at d = "),
        (lambda p: objectives.Wiring(p, power=0), "power: got 0, expected one of 1, 2"),
        (lambda p: objectives.Wiring(p, -1.0), "strength: got -1.0, expected a finite number of at least 0"),
        (lambda p: objectives.Saturating(p, variant=2), "variant: got 2, expected one of jacobs, linear, wiring"),
        (lambda p: objectives.Saturating(p, relative="no"), "relative: got no, expected True or False"),
        (lambda p: objectives.BIMT(p, last="5"), "last: got '5', expected one of 0, 2, or ''"),
        (lambda p: objectives.BIMT(p, last=None), "last: got None, expected the name of a placed module"),
        (lambda p: objectives.Communicability(p, through=2), "through: got 2, expected True or False"),
        (lambda p: objectives.Communicability(p), "placed: got 0, a Linear without weights from its sheet to itself"),
    ],
)
def test_what_cannot_be_bound(make: Callable[[lp.Placement], Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{re.escape(said)}"):
        make(placed_net())


@pytest.mark.parametrize("kind", ["Wiring", "Saturating", "BIMT"])
def test_a_missing_source_is_told_when_it_is_bound(kind: str) -> None:
    placed = lp.place(nn.Sequential(nn.Linear(6, 9)), {"0": lp.Grid(3, 3)})
    said = "placed: got 0 without the places that its wires come from, expected {'0': (source, target)} in place()"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        KINDS[kind](placed)
    relu = lp.place(nn.Sequential(nn.ReLU()), {"0": lp.Grid(3, 3)})
    with pytest.raises(ValueError, match="name: got 0, a ReLU, which has no weights into its units"):
        KINDS[kind](relu)
