"""Objectives without a loss: a blur and a mask in the architecture, and an update after each step."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.testing import assert_close

import locality_prior as lp
from locality_prior import Grid, objectives, place, runs
from locality_prior._check import Problem
from locality_prior.objectives import CBSOM, Blur, Mask, blur, cbsom, ramp, topoformer_mask, words
from locality_prior.objectives.mask import mask_radius

SHEETS = {
    "square": Grid(4, 4),
    "rectangle": Grid(3, 7),
    "row": Grid(1, 13),
    "torus": Grid(5, 4, periodic=True),
    "tube": Grid(7, 5, periodic=(False, True)),
    "ring": Grid(1, 5, periodic=True),
    "millimetres": Grid(4, 6, spacing=0.5),
}
sheets = pytest.mark.parametrize("sheet", SHEETS.values(), ids=SHEETS)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def alone(module: nn.Module, sheet: lp.Geometry) -> lp.Placement:
    """A placement of one module."""
    return place(nn.Sequential(module), {"0": sheet})


# --- blur ------------------------------------------------------------------------------------------------------------


def slow_blur(x: Tensor, sheet: Grid, share: float) -> Tensor:
    """The equation, one unit after another."""
    rows, columns = sheet.shape
    shorter = min(rows, columns)
    size = max(3, shorter if shorter % 2 else shorter - 1)
    reach = size // 2
    bell = {k: math.exp(-(k**2) / (2 * (share * shorter) ** 2)) for k in range(-reach, reach + 1)}
    total = sum(bell.values())
    found = []
    for r in range(rows):
        for c in range(columns):
            y = torch.zeros_like(x[..., 0])
            for a, down in bell.items():
                for b, across in bell.items():
                    i = (r + a) % rows if sheet.periodic[0] else r + a
                    j = (c + b) % columns if sheet.periodic[1] else c + b
                    if 0 <= i < rows and 0 <= j < columns:
                        y = y + down * across / total**2 * x[..., i * columns + j]
            found.append(y)
    return torch.stack(found, -1)


@sheets
@pytest.mark.parametrize("share", [0.23, 1.0])
def test_blur_is_the_slow_sum(sheet: Grid, share: float) -> None:
    x = drawn(2, 3, len(sheet)).requires_grad_()
    fast, slow = blur(x, sheet, share), slow_blur(x, sheet, share)
    assert_close(fast, slow)
    upstream = drawn(*x.shape, seed=1)
    assert_close(*(torch.autograd.grad(y, x, upstream)[0] for y in (fast, slow)))
    assert torch.autograd.gradcheck(lambda x: blur(x, sheet, share), x[0])


def test_blur_by_hand() -> None:
    """σ = 0.23·4 and 3 cells: e^(−1/2σ²) = 0.5539; weights 0.2628, 0.4744, 0.2628 along each axis."""
    spot = torch.zeros(16, dtype=torch.float64)
    spot[5] = 1
    edge = math.exp(-1 / (2 * 0.92**2))
    side, middle = edge / (1 + 2 * edge), 1 / (1 + 2 * edge)
    assert (round(side, 4), round(middle, 4)) == (0.2628, 0.4744)
    along = torch.tensor([side, middle, side, 0], dtype=torch.float64)
    assert_close(blur(spot, Grid(4, 4)).reshape(4, 4), along[:, None] * along)
    # what would go beyond the border is lost, and on a torus comes in again on the other side
    spot = spot.roll(-5)
    assert blur(spot, Grid(4, 4)).sum().item() == pytest.approx((1 - side) ** 2)
    assert blur(spot, Grid(4, 4, periodic=True)).sum().item() == pytest.approx(1)
    assert_close(blur(torch.ones(16), Grid(4, 4, periodic=True)), torch.ones(16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_blur_keeps_the_dtype_and_is_exact_under_autocast(dtype: torch.dtype) -> None:
    x, sheet = drawn(4, 20, dtype=torch.float64).to(dtype), Grid(4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found = blur(x, sheet)
    assert found.dtype == dtype
    assert_close(found, blur(x.double(), sheet).to(dtype))
    assert_close(torch.compile(blur, backend="eager", fullgraph=True)(x, sheet, 0.23), found)


def test_a_blurred_model_passes_on_blurred_responses() -> None:
    net = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3)).double()
    sheet, x = Grid(4, 5), drawn(7, 6)
    before = net(x)
    placed = place(net, {"1": sheet})
    seen_first: list[Tensor] = []
    net[1].register_forward_hook(lambda module, args, output: seen_first.append(output))
    blurred = Blur(placed)
    with placed.record() as seen:
        y = net(x)
    expected = slow_blur(net[0](x).relu(), sheet, 0.23)
    assert_close(seen["1"], expected)
    assert_close(seen_first[0], expected)  # a hook that was there before the blur
    assert_close(y, net[2](expected))
    value = blurred()
    assert value.item() == 0
    assert not value.requires_grad
    assert blurred.weight() == 0.23
    twin = copy.deepcopy(net)
    assert_close(twin(x), y)
    blurred.remove()
    blurred.remove()
    assert_close(net(x), before)
    assert len(net[1]._forward_hooks) == 1


def test_channels_are_blurred_at_each_place() -> None:
    conv, x, sheet = nn.Conv2d(2, 12, 3).double(), drawn(5, 2, 6, 7), Grid(3, 4)
    plain = conv(x)
    blurred = Blur(alone(conv, sheet), strength=0.5)
    expected = slow_blur(plain.movedim(1, -1), sheet, 0.5).movedim(-1, 1)
    assert_close(conv(x), expected)
    assert_close(conv(x[0]), expected[0])
    blurred.remove()
    # each place of a feature map is a unit
    one, places = nn.Conv2d(2, 1, 3).double(), Grid(4, 5)
    expected = slow_blur(one(x).flatten(1), places, 0.23).reshape(5, 1, 4, 5)
    Blur(alone(one, places))
    assert_close(one(x), expected)


def test_the_first_of_several_outputs_is_blurred() -> None:
    attention, x = nn.MultiheadAttention(12, 2, batch_first=True).double(), drawn(3, 4, 12)
    plain, weights = attention(x, x, x)
    Blur(alone(attention, Grid(3, 4)))
    found, same = attention(x, x, x)
    assert_close(found, slow_blur(plain, Grid(3, 4), 0.23))
    assert_close(same, weights)


# --- mask ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_the_mask_is_the_slow_one(periodic: bool, share: float) -> None:
    rows, columns = 5, 7
    mask = topoformer_mask(Grid(rows, columns, periodic=periodic), share=share)
    for u in range(35):
        for v in range(35):
            apart = [abs(u // columns - v // columns), abs(u % columns - v % columns)]
            if periodic:
                apart = [min(apart[0], rows - apart[0]), min(apart[1], columns - apart[1])]
            assert mask[u, v].item() == (math.hypot(*apart) <= math.sqrt(share * 35 / math.pi))


def test_the_mask_by_hand() -> None:
    """Their 20×20 sheet: f = 0.3 is a radius of 6.18, and 121 of 400 units; f = 0.1 one of 3.57, and 37."""
    sheet = Grid(20, 20, periodic=True)
    for share, radius, units in ((0.3, 6.1804, 121), (0.1, 3.5682, 37)):
        assert mask_radius(sheet, share) == pytest.approx(radius, abs=1e-4)
        counted = sum(math.hypot(a, b) <= radius for a in range(-10, 10) for b in range(-10, 10))
        assert counted == units
        assert topoformer_mask(sheet, share=share).sum(1).tolist() == [units] * 400
    assert mask_radius(Grid(20, 20, spacing=0.5), 0.3) == pytest.approx(6.1804 / 2, abs=1e-4)


@pytest.mark.parametrize(
    ("target", "source"),
    [(Grid(6, 6, periodic=True), None), (Grid(4, 9), Grid(6, 6)), (lp.Points([[0.0, 0.0], [3.0, 2.0]]), Grid(5, 4))],
    ids=["torus", "sheets of two sizes", "points"],
)
def test_a_mask_is_a_flat_cost_within_its_radius(target: lp.Geometry, source: Grid | None) -> None:
    start = target if source is None else source
    assert isinstance(start, Grid)
    net = nn.Sequential(nn.Linear(len(start), len(target))).double()
    local = copy.deepcopy(net)
    lp.localize(local, {"0": (start, target)}, cost=f"flat@{mask_radius(start, 0.2)}", keep="weights")
    Mask(place(net, {"0": (start, target)}), strength=0.2)
    x, upstream = drawn(3, len(start)), drawn(3, len(target), seed=1)
    assert_close(net(x), local(x))
    for model in (net, local):
        model(x).backward(upstream)
    assert_close(net[0].parametrizations.weight.original.grad, local[0].weight.grad)
    assert_close(net[0].weight, local[0].effective_weight)


def test_absolute_and_normalised_weights() -> None:
    net, sheet = nn.Sequential(nn.Linear(30, 30)), Grid(5, 6)
    parameter = net[0].weight
    weight, mask = parameter.detach().clone(), topoformer_mask(sheet, share=0.3)
    masked = Mask(place(net, {"0": sheet}), absolute=True, normalise=True)
    assert_close(net[0].weight, (weight * mask).abs() / mask.float().norm())
    assert list(net.state_dict()) == ["0.bias", "0.parametrizations.weight.original"]
    assert net[0].parametrizations.weight.original is parameter  # an optimiser made before holds it
    net(torch.randn(2, 30)).sum().backward()
    assert parameter.grad is not None
    assert not parameter.grad[~mask].any()
    assert parameter.grad[mask].any()
    masked.remove()
    masked.remove()
    assert net[0].weight is parameter
    assert not parametrize.is_parametrized(net[0])
    assert_close(net[0].weight, weight)


def test_convolutions_and_attention_are_masked() -> None:
    sheet, share = Grid(4, 4, periodic=True), 0.2
    mask = topoformer_mask(sheet, share=share)
    conv = nn.Conv2d(16, 16, 3)
    masked = Mask(alone(conv, sheet), share)
    assert torch.equal((conv.weight != 0).all(-1).all(-1), mask)
    assert torch.equal((conv.weight != 0).any(-1).any(-1), mask)
    masked.remove()
    assert conv.weight.all()
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    x, plain = torch.randn(2, 5, 16), None
    plain = attention(x, x, x)[0]
    masked = Mask(alone(attention, sheet), share)
    assert torch.equal(attention.in_proj_weight != 0, torch.cat([mask] * 3))
    assert torch.equal(attention.out_proj.weight != 0, mask)
    assert not torch.allclose(attention(x, x, x)[0], plain)
    with torch.no_grad():
        assert_close(attention.eval()(x, x, x)[0], attention.train()(x, x, x)[0])  # torch's fast path
    masked.remove()
    assert_close(attention(x, x, x)[0], plain)


def test_a_masked_model_trains_and_what_has_no_wire_stays() -> None:
    net, sheet = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16)), Grid(4, 4, periodic=True)
    placed = place(net, {"2": sheet})
    Mask(placed, 0.3)
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    x, y = torch.randn(64, 16), torch.randn(64, 16)
    before, losses = net[2].parametrizations.weight.original.detach().clone(), []
    for _ in range(30):
        loss = (net(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = net[2].parametrizations.weight.original != before
    assert not changed[~topoformer_mask(sheet)].any()
    assert changed.any()
    assert torch.equal(placed.weights("2") != 0, topoformer_mask(sheet))


# --- cbsom -----------------------------------------------------------------------------------------------------------


def slow_cbsom(weight: Tensor, gradient: Tensor, sheet: lp.Geometry, alpha: float, sigma: float) -> Tensor:
    sizes = [float(row.square().sum().sqrt()) for row in gradient]
    winner = sizes.index(max(sizes))
    apart = sheet.distances()
    rows = []
    for j, row in enumerate(weight):
        near = alpha * math.exp(-(float(apart[winner, j]) ** 2) / (2 * sigma**2))
        rows.append(row + near * (weight[winner] - row))
    return torch.stack(rows)


OTHERS = {
    "points": lp.Points([[0.0, 0.0], [1.0, 2.0], [0.5, 3.0]]),
    "sphere": lp.Sphere(11),
    "graph": lp.Graph([[0, 1, 0], [1, 0, 0], [0, 0, 0]]),
    "hexagons": lp.HexGrid(3, 4),
    "part of a sheet": Grid(3, 4, units=10),
    "a torus in millimetres": Grid(4, 5, periodic=True, spacing=(0.5, 2.0)),
}


@pytest.mark.parametrize("sheet", [*SHEETS.values(), *OTHERS.values()], ids=[*SHEETS, *OTHERS])
@pytest.mark.parametrize("kernel", [(), (3, 2)])
def test_cbsom_is_the_slow_update(sheet: lp.Geometry, kernel: tuple[int, ...]) -> None:
    weight, gradient = drawn(len(sheet), 5, *kernel), drawn(len(sheet), 5, *kernel, seed=1)
    found = cbsom(weight, gradient, sheet, alpha=0.3, sigma=1.5)
    assert_close(found, slow_cbsom(weight, gradient, sheet, 0.3, 1.5))
    usual = cbsom(weight, gradient, sheet)
    assert_close(usual, slow_cbsom(weight, gradient, sheet, 0.008, math.sqrt(len(sheet))))


def test_cbsom_by_hand() -> None:
    """The middle of five units wins. At σ = 1 its neighbours go α e^(−½) of the way, the next ones α e^(−2)."""
    weight, gradient = torch.tensor([[0.0], [0.0], [10.0], [0.0], [0.0]]), torch.tensor([[1.0], [0], [-2], [0], [0]])
    found = cbsom(weight, gradient, Grid(1, 5), alpha=0.1, sigma=1.0)
    assert_close(found.flatten(), torch.tensor([0.135335, 0.606531, 10.0, 0.606531, 0.135335]))
    assert torch.equal(cbsom(weight, torch.zeros(5, 1), Grid(1, 5), alpha=0.1), weight)  # no winner
    low = cbsom(weight.bfloat16(), gradient.bfloat16(), Grid(1, 5), alpha=0.1, sigma=1.0)
    assert low.dtype == torch.bfloat16
    assert_close(low.float(), found, rtol=0.01, atol=0.0)


@pytest.mark.parametrize("periodic", [False, True])
def test_cbsom_compiles_as_a_whole(periodic: bool) -> None:
    weight, gradient, sheet = drawn(20, 3), drawn(20, 3, seed=1), Grid(4, 5, periodic=periodic)
    whole = torch.compile(cbsom, backend="eager", fullgraph=True)
    assert_close(whole(weight, gradient, sheet), cbsom(weight, gradient, sheet))


def test_alpha_and_sigma_fall_to_their_floor() -> None:
    """α = 0.008 e^(−3t), at least 0.003; σ = 8 e^(−3t) on 8×8 units."""
    for progress, alpha in ((0.0, 0.008), (0.2, 0.008 * math.exp(-0.6)), (0.5, 0.003), (1.0, 0.003)):
        layer, sheet = nn.Linear(3, 64).double(), Grid(8, 8)
        organise = CBSOM(alone(layer, sheet))
        layer(drawn(5, 3)).square().sum().backward()
        before = layer.weight.detach().clone()
        organise.after_step(progress)
        expected = slow_cbsom(before, layer.weight.grad, sheet, alpha, 8 * math.exp(-3 * progress))
        assert_close(layer.weight.detach(), expected)
        assert organise(progress).item() == 0
    one = CBSOM(alone(layer, sheet), strength=0.001, sigma=1e-3)
    before = layer.weight.detach().clone()
    one.after_step(1.0)
    assert_close(layer.weight.detach(), slow_cbsom(before, layer.weight.grad, sheet, 0.001, 0.003))


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_where_there_is_no_wire_there_is_still_none(kind: str) -> None:
    sheet = Grid(4, 4)
    net = nn.Sequential(nn.Linear(16, 16) if kind == "linear" else nn.Conv2d(16, 16, 1)).double()
    lp.localize(net, {"0": sheet}, cost="linear@1.5", keep="weights")
    organise = CBSOM(place(net, {"0": sheet}), strength=0.5)
    x = drawn(5, 16) if kind == "linear" else drawn(5, 16, 2, 2)
    net(x).square().sum().backward()
    before, grad = net[0].weight.detach().clone(), net[0].weight.grad
    wired = sheet.distances() <= 1.5
    organise.after_step(0.0)
    after = net[0].weight.detach()
    assert torch.equal(after.flatten(1) != 0, wired)
    expected = slow_cbsom(before.flatten(1), grad.flatten(1), sheet, 0.5, 4.0) * wired
    assert_close(after.flatten(1), expected)


def test_an_organised_layer_has_alike_neighbours() -> None:
    torch.manual_seed(0)
    sheet, x, y = Grid(6, 6), torch.randn(200, 8), torch.randn(200, 4)
    net = nn.Sequential(nn.Linear(8, 36), nn.ReLU(), nn.Linear(36, 4))
    start = copy.deepcopy(net.state_dict())

    def apart(organised: bool) -> float:
        """How far neighbours' weights are from each other after training, as a share of any two units' distance."""
        net.load_state_dict(start)
        organise = CBSOM(place(net, {"0": sheet}), strength=0.5, sigma=2.0)
        optimizer = torch.optim.SGD(net.parameters(), 0.05)
        for step in range(60):
            optimizer.zero_grad()
            (net(x) - y).square().mean().backward()
            optimizer.step()
            if organised:
                organise.after_step(step / 60)
        w = net[0].weight.detach().reshape(6, 6, 8)
        between = torch.cdist(w.reshape(36, 8), w.reshape(36, 8)).sum() / (36 * 35)
        return float(((w[1:] - w[:-1]).norm(dim=-1).mean() + (w[:, 1:] - w[:, :-1]).norm(dim=-1).mean()) / 2 / between)

    assert apart(True) < 0.9 * apart(False)


# --- words, and what does not fit ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "strength", "options", "word"),
    [
        (Blur, 0.23, {}, "blur:0.23"),
        (Blur, 0.5, {}, "blur:0.5"),
        (Mask, 0.3, {}, "mask:0.3"),
        (Mask, 0.1, {"absolute": True, "normalise": True}, "mask:0.1,absolute=true,normalise=true"),
        (CBSOM, 0.008, {}, "cbsom:0.008"),
        (CBSOM, 0.01, {"sigma": 8.0}, "cbsom:0.01,sigma=8"),
    ],
)
def test_words_and_configs_bind_an_equal_objective(
    kind: Any, strength: float, options: dict[str, Any], word: str
) -> None:
    def placed() -> lp.Placement:
        return place(nn.Sequential(nn.Linear(16, 16)), {"0": Grid(4, 4)})

    made = kind(placed(), strength, **options)
    config = json.loads(json.dumps(made.config()))
    again = objectives.from_config(config, placed())
    assert type(again) is kind
    assert again.config() == made.config()
    assert again.weight() == strength
    assert words.canonical("objective", word) == word
    (bound,) = words.bind(word, placed(), placed())
    assert type(bound) is kind
    assert bound.config() == made.config()
    assert float(sum(one() for one in (made, again, bound))) == 0
    assert set(made.parts()) == {"0"}


def test_defaults_are_the_papers() -> None:
    assert [words.canonical("objective", word) for word in ("blur", "mask", "cbsom")] == [
        "blur:0.23",
        "mask:0.3",
        "cbsom:0.008",
    ]


def linear(sheet: Any = SHEETS["square"], inputs: int = 16) -> lp.Placement:
    return place(nn.Sequential(nn.Linear(inputs, 16)), {"0": sheet})


def localized(cost: str, backend: str = "auto") -> lp.Placement:
    return alone(lp.LocalityLinear(16, 16, cost=cost, backend=backend), Grid(4, 4))


def recurrent() -> lp.Placement:
    return alone(nn.GRU(4, 16), Grid(4, 4))


def twice() -> Any:
    placed = linear()
    Mask(placed)
    return Mask(placed)


def normed(norm: Callable[[nn.Module], Any]) -> lp.Placement:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's older weight_norm is deprecated
        return alone(norm(nn.Linear(16, 16)), Grid(4, 4))


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: blur(torch.ones(2, 16), lp.Points(torch.zeros(16, 2))), r"geometry: got Points.*expected a whole grid"),
    (lambda: blur(torch.ones(2, 16), Grid(16)), r"geometry: got Grid\(16\), expected a whole grid of two axes"),
    (lambda: blur(torch.ones(2, 15), Grid(4, 4)), r"responses: got .*expected \(…, 16\)"),
    (lambda: blur(torch.ones(2, 16, dtype=torch.int64), Grid(4, 4)), "responses: got"),
    (lambda: blur(torch.ones(2, 16), Grid(4, 4), 0), "share: got 0, expected a finite number above 0"),
    (lambda: Blur(linear(lp.HexGrid(4, 4))), "blur: got HexGrid.*expected a whole grid"),
    (lambda: Blur(recurrent()), "placed: got 0, a GRU, whose state would go on unblurred"),
    (lambda: Blur(linear(), ramp(0.23)), "strength: got .* for blur, expected one number above 0"),
    (lambda: Blur(linear(), lambda progress: 0.23), "strength: got a function, expected one number"),
    (lambda: Blur(linear(), 0), "strength: got 0.0 for blur, expected one number above 0"),
    (lambda: Blur(linear(), -1), "strength: got -1, expected a finite number of at least 0"),
    (lambda: topoformer_mask(lp.Sphere(16)), "target: got Sphere.*expected a whole grid"),
    (lambda: topoformer_mask(Grid(4, 4), lp.Sphere(16)), "source: got Sphere.*expected a whole grid"),
    (lambda: topoformer_mask(Grid(4, 4), Grid(4, 4, periodic=True)), "target: got .*cannot meet"),
    (lambda: topoformer_mask(Grid(4, 4), share=0), "share: got 0, expected above 0"),
    (lambda: topoformer_mask(Grid(2, 2), Grid(9, 9), 0.001), "has no wire|no wire"),
    (lambda: Mask(linear(inputs=5)), "placed: got 0, whose 5 inputs have no places, expected a module placed with"),
    (lambda: Mask(recurrent()), "placed: got 0, a GRU, expected a linear layer"),
    (lambda: Mask(localized(cost="linear")), "placed: got 0, a LocalityLinear, expected .*flat@r"),
    (lambda: Mask(linear(), 1.5), "strength: got 1.5 for mask, expected one number above 0 and at most 1"),
    (lambda: Mask(linear(), ramp(0.3)), "strength: got .* for mask, expected one number"),
    (lambda: Mask(linear(), absolute=1), "absolute: got 1, expected True or False"),
    (twice, "placed: got 0, whose weights a parametrization computes"),
    (lambda: Mask(normed(parametrizations.weight_norm)), "placed: got 0, whose weights a parametrization computes"),
    (lambda: Mask(normed(nn.utils.weight_norm)), "placed: got 0, whose weights a parametrization computes"),
    (lambda: CBSOM(normed(parametrizations.weight_norm)), "placed: got 0, whose weights a parametrization computes"),
    (lambda: CBSOM(normed(nn.utils.weight_norm)), "placed: got 0, whose weights a parametrization computes"),
    (lambda: cbsom(torch.ones(16, 2), torch.ones(16, 3), Grid(4, 4)), r"gradient: got .*shape \(16, 2\)"),
    (lambda: cbsom(torch.ones(16, 2), None, Grid(4, 4)), "gradient: got None, expected a tensor"),
    (lambda: cbsom(torch.ones(15, 2), torch.ones(15, 2), Grid(4, 4)), "weight: got"),
    (lambda: cbsom(torch.ones(16, 2), torch.ones(16, 2), Grid(4, 4), alpha=2), "alpha: got 2, expected a number from"),
    (lambda: CBSOM(recurrent()), "placed: got 0, a GRU, expected linear layers and convolutions"),
    (lambda: CBSOM(alone(nn.ReLU(), Grid(4, 4))), "placed: got 0, a ReLU, expected"),
    (
        lambda: CBSOM(localized(cost="linear@1.5", backend="wires")),
        "placed: got 0, a sparse LocalityLinear, expected linear layers",
    ),
    (lambda: CBSOM(linear(), sigma=0), "sigma: got 0, expected a finite number above 0"),
    (lambda: CBSOM(linear()).after_step(), "progress: got None, expected the share of training"),
]


@pytest.mark.parametrize(("make", "said"), BAD, ids=range(len(BAD)))
def test_what_does_not_fit_is_one_line(make: Callable[[], Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_mask_that_does_not_fit_leaves_the_model_alone() -> None:
    net = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 9))
    with pytest.raises(ValueError, match="whose 16 inputs have no places"):
        Mask(place(net, {"0": Grid(4, 4), "1": Grid(3, 3)}))
    assert not any(parametrize.is_parametrized(module) for module in net)


def test_what_was_not_trained_has_no_winner() -> None:
    with pytest.raises(Problem, match="The weight of 0 has no gradient, so CBSOM cannot tell"):
        CBSOM(linear()).after_step(0.5)


def test_a_module_without_a_tensor_cannot_be_blurred() -> None:
    class Told(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return {"y": super().forward(x)}

    net = Told(16, 16)
    Blur(alone(net, Grid(4, 4)))
    with pytest.raises(ValueError, match="placed: got 0, whose output is a dict, expected a module that gives"):
        net(torch.ones(2, 16))


# --- runs of such networks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["mask", "blur"])
def test_a_recorded_network_has_no_cuts_of_layers_that_are_masked_or_blurred(way: str, tmp_path: Path) -> None:
    """What the layer computes is measured; in a layer that can be cut it would be lost, so that one is left out."""
    task, sheet = tiny.blobs(), Grid(4, 4)
    torch.manual_seed(0)
    model = tiny.mlp(task)
    bound = Mask(place(model, {"middle": sheet})) if way == "mask" else Blur(place(model, {"middle": sheet}))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for batch in task.epoch(0, 1, 16, runs.Shard()):
        optimizer.zero_grad()
        (task.loss(model(batch.inputs), batch.targets) + bound()).backward()
        optimizer.step()
    placed = lp.place(model, {"output": sheet})
    told = runs.record(
        model,
        placed,
        task,
        tmp_path / "run",
        condition=way,
        seed=0,
        local={"middle": sheet, "head": (sheet, Grid(2, 2))},
    )
    # the head alone is cut: 16 × 4 wires
    cuts = (tmp_path / "run" / "pruning.csv").read_text().splitlines()
    assert cuts[1].split(",")[:3] == ["weight", "64", "1.0"]
    apart = sheet.distances()
    shares = model.middle.weight.detach().abs().double()
    assert told["measures"]["mean_wire_length.middle"] == pytest.approx(float((apart * shares).sum() / shares.sum()))
    if way == "mask":
        assert told["measures"]["mean_wire_length.middle"] < float(apart[topoformer_mask(sheet)].max())
    # the file holds the parameters, and loads into a network that is masked in the same way
    other = tiny.mlp(task)
    again = type(bound)(place(other, {"middle": sheet}))
    other.load_state_dict(load_file(tmp_path / "run" / "model.safetensors"))
    x = torch.randn(3, 16)
    assert torch.equal(other.eval()(x), model.eval()(x))
    again.remove()
    alone = runs.record(model, placed, task, tmp_path / "alone", condition=way, seed=0, local={"middle": sheet})
    assert alone["measures"]["mean_wire_length.middle"] == told["measures"]["mean_wire_length.middle"]
    assert not (tmp_path / "alone" / "pruning.csv").exists()


def test_a_masked_layers_penalty_and_strength_are_those_of_its_wires() -> None:
    from locality_prior.runs.network import Layer

    sheet, net = Grid(4, 4), nn.Sequential(nn.Linear(16, 16), nn.MultiheadAttention(16, 1))
    Mask(place(net, {"0": sheet, "1": sheet}))
    for name, parameters in (("0", ("weight",)), ("1", ("in_proj_weight", "out_proj.weight"))):
        layer = Layer(name, parameters, sheet, sheet)
        strength = layer.strength(net)
        assert torch.equal(strength != 0, topoformer_mask(sheet))
        assert layer.penalty(net).item() == pytest.approx(strength.sum().item(), rel=1e-5)


def test_a_masked_network_is_saved_and_loaded_with_its_locality_layers(tmp_path: Path) -> None:
    def made() -> nn.Sequential:
        net, sheet = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16)), Grid(4, 4)
        lp.localize(net, {"0": sheet}, cost="linear@2", keep="weights")
        Mask(place(net, {"1": sheet}))
        return net

    one, other = made(), made()
    lp.save(one, tmp_path / "net.safetensors")
    lp.load(tmp_path / "net.safetensors", other)
    x = torch.randn(3, 16)
    assert torch.equal(one(x), other(x))
    torch.save(one.state_dict(), tmp_path / "state.pt")
    third = made()
    third.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(third(x), one(x))
