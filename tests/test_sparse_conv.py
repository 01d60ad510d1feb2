"""Convolutions over the wires between channels, against the plain formula and against torch's own convolution."""

from __future__ import annotations

import copy
import math
import warnings
from typing import Any

import pytest
import reference
import torch
from reference import named, sampled
from torch import Tensor, nn
from torch.testing import assert_close

import locality_prior as lp
from locality_prior.sparse import Convolution, Pattern, Sliding
from locality_prior.sparse.planes import CompiledConvolution

CUT = lp.cost.Linear().within(1.5)
#: "wires" in C where there is a compiler, and in torch where there is none.
WAYS = ["windowed", "wires", "wires in torch"]
ways = pytest.mark.parametrize("way", WAYS, indirect=True)


@pytest.fixture(autouse=True)
def tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tiles: sheets of a few channels have several of them, and not one."""
    monkeypatch.setattr("locality_prior.sparse.convolution.TILES", (4,))
    monkeypatch.setattr("locality_prior.sparse.convolution.MULTIPLE", 3)


@pytest.fixture
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name, _, without_compiler = str(request.param).partition(" in ")
    if without_compiler:
        monkeypatch.setattr(CompiledConvolution, "serves", lambda *_: False)
    elif name == "wires" and not CompiledConvolution.serves(torch.float32, torch.device("cpu")):
        pytest.skip("there is no C compiler here")
    return name


def price(d: float) -> float:
    """The cost ``CUT``."""
    return 1 + d if d <= 1.5 else math.inf


def small(backend: str, kernel: Any = 3, *given: Any, **options: Any) -> lp.LocalityConv2d:
    """From a sheet of 4×3 channels to one of 3×3."""
    places: dict[str, Any] = {"source": lp.Grid(4, 3), "target": lp.Grid(3, 3), "cost": CUT, "dtype": torch.float64}
    return lp.LocalityConv2d(12, 9, kernel, *given, backend=backend, **places | options)


def gradients(layer: nn.Module, x: Tensor, g: Tensor) -> list[Tensor]:
    """Gradients of the input, of P∘W or W with an entry for each pair, and of b."""
    y = layer(x)
    assert y.shape == g.shape
    found = list(torch.autograd.grad(y, [x, *layer.parameters()], g))
    if isinstance(layer, lp.LocalityConv2d):
        (wiring,) = layer.wirings()
        assert wiring.pattern is not None
        found[1] = wiring.pattern.scatter(found[1] / wiring.prior)
    return found


def agrees(layer: lp.LocalityConv2d, x: Tensor) -> None:
    """Assert that outputs and gradients are those of the folded layer."""
    plain = lp.fold(layer)
    expected = plain(x)
    assert_close(layer(x), expected)
    g = torch.randn_like(expected)
    ours, theirs = gradients(layer, x, g), gradients(plain, x, g)
    theirs[1] = theirs[1] * (layer.wirings()[0].matrix() != 0)
    for mine, other in zip(ours, theirs, strict=True):
        assert_close(mine, other)


@ways
@pytest.mark.parametrize(("rescale", "stride", "padding"), [(False, 1, 0), (True, 2, 1)])
def test_contract(way: str, rescale: bool, stride: int, padding: int) -> None:
    layer = small(way, 3, stride, padding, rescale=rescale)
    pattern = layer.wirings()[0].pattern
    assert pattern is not None
    p = torch.tensor(reference.prior(reference.grid((3, 3), (4, 3)), price, rescale), dtype=torch.float64)
    assert torch.equal(torch.stack(pattern.ends(torch.device("cpu")), 1), p.nonzero())
    assert layer.weight.shape == (int((p != 0).sum()), 3, 3)
    v = pattern.scatter(layer.weight.detach()) * p[:, :, None, None]
    v.requires_grad_()
    assert layer.bias is not None
    b = layer.bias.detach().clone().requires_grad_()
    x = torch.randn(2, 12, 5, 4, dtype=torch.float64, requires_grad=True)
    y, expected = layer(x), reference.convolution(x, v, b, stride, padding, 1)
    assert_close(y, expected)
    g = torch.randn_like(y)
    ours = torch.autograd.grad(y, [x, layer.weight, layer.bias], g)
    theirs = torch.autograd.grad(expected, [x, v, b], g)
    assert_close(ours[0], theirs[0])
    assert_close(pattern.scatter(ours[1]), theirs[1] * p[:, :, None, None])
    assert_close(ours[2], theirs[2])


SLIDING = [
    row
    for seed in (0, 1)
    for row in sampled(
        [(1, 1), (3, 3), (2, 5), (4, 1)],
        [(1, 1), (2, 1), (3, 2), (1, 1)],
        [(0, 0), (1, 2), (4, 3)],
        [(1, 1), (2, 3)],
        [(13, 17), (7, 16), (5, 13)],
        [torch.float64, torch.float32],
        few=(WAYS,),
        seed=seed,
    )
]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "size", "dtype", "way"), SLIDING, indirect=["way"], ids=named(SLIDING)
)
def test_sliding(
    kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any, dtype: torch.dtype, way: str
) -> None:
    layer = small(way, kernel, stride, padding, dilation, dtype=dtype)
    agrees(layer, torch.randn(2, 12, *size, dtype=dtype, requires_grad=True))


@ways
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_padding(way: str, mode: Any) -> None:
    for kernel, padding in (((2, 3), "same"), (3, "valid"), (3, (2, 1))):
        layer = small(way, kernel, 1, padding, padding_mode=mode, bias=False)
        x = torch.randn(2, 12, 6, 5, dtype=torch.float64, requires_grad=True)
        agrees(layer, x)
        assert_close(layer(x[0]), layer(x)[0])  # without a batch


@ways
def test_any_layout_of_the_input(way: str) -> None:
    layer = small(way, 3, 1, 1)
    plain = lp.fold(layer)
    for x in (
        torch.randn(2, 12, 4, 8).to(memory_format=torch.channels_last),
        torch.randn(12, 2, 8, 4).permute(1, 0, 3, 2),
        torch.randn(2, 12, 4, 16)[..., ::2],
        torch.randn(1, 12, 1, 1).expand(3, 12, 4, 8),
        torch.randn(2, 12, 4, 8, dtype=torch.complex128).conj().imag,
        torch.randn(0, 12, 4, 8),
    ):
        agrees(layer, x.double().requires_grad_())
    y = layer(torch.randn(2, 12, 4, 8, dtype=torch.float64))
    (grad,) = torch.autograd.grad(y.sum(), layer.weight)  # y's gradient is one number, expanded
    assert grad.isfinite().all()
    assert plain(torch.randn(2, 12, 4, 8, dtype=torch.float64)).is_contiguous() is y.is_contiguous()


@ways
@pytest.mark.parametrize("wanted", [(True, False), (False, True), (False, False)])
def test_only_wanted_gradients(way: str, wanted: tuple[bool, bool]) -> None:
    layer = small(way, 3, 1, 1)
    layer.weight.requires_grad_(wanted[1])
    x = torch.randn(2, 12, 4, 4, dtype=torch.float64, requires_grad=wanted[0])
    layer(x).sum().backward()
    assert (x.grad is not None, layer.weight.grad is not None) == wanted


@ways
def test_gradcheck(way: str) -> None:
    layer = small(way, (3, 2), (1, 2), 1)
    x = torch.randn(2, 12, 3, 3, dtype=torch.float64, requires_grad=True)
    weight = layer.weight.detach().requires_grad_()

    def run(x: Tensor, weight: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(layer, {"weight": weight}, (x,))
        return y[:1, ::4]

    assert torch.autograd.gradcheck(run, (x, weight), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(run, (x, weight), fast_mode=True)


@ways
def test_an_output_that_comes_in_again_is_not_counted_twice(way: str) -> None:
    """A gradient that can itself be differentiated, of a layer whose input depends on its own weight."""
    layer = lp.LocalityConv2d(12, 12, 3, padding=1, source=lp.Grid(4, 3), cost=CUT, backend=way, dtype=torch.float64)
    loss = layer(layer(torch.randn(2, 12, 4, 4, dtype=torch.float64))).square().sum()
    (expected,) = torch.autograd.grad(loss, layer.weight, retain_graph=True)
    (found,) = torch.autograd.grad(loss, layer.weight, create_graph=True)
    assert_close(found, expected)


@ways
def test_an_output_may_be_changed_in_place(way: str) -> None:
    layer, x = small(way, 1), torch.randn(2, 12, 4, 16, dtype=torch.float64)  # nothing lies between the rows
    (expected,) = torch.autograd.grad(layer(x).relu().sum(), layer.weight)
    (found,) = torch.autograd.grad(nn.functional.relu(layer(x), inplace=True).sum(), layer.weight)
    assert_close(found, expected)


@ways
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_under_transformations(way: str) -> None:
    layer = small(way, 3, 1, 1)
    plain = lp.fold(layer)
    x = torch.randn(3, 12, 4, 4, dtype=torch.float64)

    def loss(weight: Tensor, x: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(layer, {"weight": weight}, (x[None],))
        return y.square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(layer.weight.detach(), x)
    for one, mine in zip(x, each, strict=True):
        (expected,) = torch.autograd.grad(layer(one).square().sum(), layer.weight)
        assert_close(mine, expected)
    _, moved = torch.func.jvp(layer, (x,), (torch.ones_like(x),))
    assert_close(moved, layer(torch.ones_like(x)) - layer(torch.zeros_like(x)))
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert_close(compiled(x), plain(x))
    traced = torch.jit.trace(layer, (x,))  # type: ignore[no-untyped-call]
    assert_close(traced(x[:2]), plain(x[:2]))


@ways
def test_autocast_and_half_precision(way: str) -> None:
    layer = small(way, 3, 1, 1, dtype=torch.float32)
    x = torch.randn(2, 12, 4, 4, requires_grad=True)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert_close(y.float(), expected, rtol=0.05, atol=0.05)
    y.sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    half = layer.bfloat16()
    assert_close(half(x.bfloat16()).float(), expected, rtol=0.05, atol=0.05)


def test_a_weight_that_changed_since_is_noticed() -> None:
    layer = small("wires")
    y = layer(torch.randn(1, 12, 4, 4, dtype=torch.float64, requires_grad=True))
    with torch.no_grad():
        layer.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@ways
def test_what_does_not_fit_is_told(way: str) -> None:
    layer = small(way)
    x = torch.randn(1, 12, 4, 4, dtype=torch.float64)
    for name, value in (("weight", layer.weight[1:]), ("bias", torch.randn(8, dtype=torch.float64))):
        with pytest.raises(ValueError, match=f"{name}: got .* like the input"):
            torch.func.functional_call(layer, {name: value}, (x,))
    with pytest.raises(ValueError, match=r"input: got shape \(1, 11, 4, 4\)"):
        layer(x[:, 1:])


@pytest.mark.parametrize("backend", ["windowed", "wires"])
def test_groups_are_dense(backend: str) -> None:
    with pytest.raises(ValueError, match=rf"backend: got '{backend}' with groups=3, expected groups=1"):
        lp.LocalityConv2d(12, 12, 3, groups=3, cost=CUT, backend=backend)
    assert lp.LocalityConv2d(256, 256, 3, groups=2, cost=lp.cost.Linear().within(4)).weight.dim() == 4


def test_auto_takes_what_was_measured_to_be_quicker() -> None:
    def auto(channels: int, radius: float) -> lp.LocalityConv2d:
        return lp.LocalityConv2d(channels, channels, 3, cost=lp.cost.Linear().within(radius), device="meta")

    assert auto(256, 3).weight.shape == (6308, 3, 3)
    assert "6308 wires" in repr(auto(256, 3))
    for dense in (auto(256, 5), auto(64, 1), lp.LocalityConv2d(256, 256, 3, device="meta")):
        assert dense.weight.dim() == 4


def test_the_repr_says_how_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    cut: dict[str, Any] = {"cost": lp.cost.Linear().within(2)}
    monkeypatch.setattr(CompiledConvolution, "serves", lambda *_: True)
    assert "backend='auto' (wires, compiled)" in repr(lp.LocalityConv2d(256, 256, 3, **cut))
    assert "backend='wires' (compiled)" in repr(small("wires"))
    assert repr(small("wires")).count(" wires, ") == 1
    assert "backend='windowed'" in repr(small("windowed"))
    monkeypatch.setattr(CompiledConvolution, "serves", lambda *_: False)
    assert "backend='wires' (windowed)" in repr(small("wires"))


def test_one_tile_is_the_dense_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locality_prior.sparse.convolution.TILES", (1 << 62,))
    layer = small("windowed", 3, 2, 1)
    assert layer._convolution is not None
    assert layer._convolution.windows(layer.weight.device).blocks[0] == 1
    agrees(layer, torch.randn(2, 12, 5, 5, dtype=torch.float64, requires_grad=True))


def test_large_tiles_are_chosen_for_small_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    sheet = lp.Grid(32, 32)
    pattern = Pattern(lp.prior.Prior(sheet, sheet, lp.cost.Linear().within(2)), "windowed")
    tall = {}
    for kernel in (1, 3):
        one = Convolution(pattern, Sliding((kernel, kernel), (1, 1), (0, 0), (1, 1)))
        count, tall[kernel], wide = one.windows(torch.device("cpu")).blocks
        assert count > 1
        assert tall[kernel] % 16 == wide % 16 == 0
    assert tall[3] < tall[1]


def test_images_of_many_sizes_leave_little_behind() -> None:
    layer = small("wires", 1, dtype=torch.float32)
    for wide in range(1, 200):
        layer(torch.randn(1, 12, 1, wide))
    assert layer._convolution is not None
    assert len(layer._convolution.in_c._planes) < 100


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    layer = lp.LocalityConv2d(81, 81, 3, padding=1, cost=CUT, backend="wires")
    x, found = torch.randn(2, 81, 5, 5, requires_grad=True), []
    threads = torch.get_num_threads()
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            y = layer(x)
            found.append([y, *torch.autograd.grad(y.square().sum(), [x, layer.weight])])
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("keep", ["weights", "function"])
def test_localize_a_network(keep: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 64, 3)).double()
    cost = lp.cost.Linear().within(2)
    made: dict[str, Any] = {}
    for backend in ("dense", "wires"):
        made[backend] = copy.deepcopy(net)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="localize: weight decay")
            places = {"target": lp.Grid(8, 8), "backend": backend}
            lp.localize(made[backend], {"3": places}, cost=cost, keep=keep)
    sparse, dense = made["wires"][3], made["dense"][3]
    assert sparse.weight.dim() == 3
    assert_close(sparse.wirings()[0].pattern.scatter(sparse.weight), dense.weight, rtol=0, atol=0)
    x = torch.randn(2, 3, 7, 7, dtype=torch.float64)
    assert_close(made["wires"](x), made["dense"](x))
    for measure in (lp.wiring_cost, lp.weight_l1, lp.mean_wire_length):
        assert_close(measure(made["wires"]), measure(made["dense"]))
