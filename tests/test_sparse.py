"""Layers that compute wire by wire: the contract of the dense layer, over every way to do so."""

from __future__ import annotations

import copy
import io
import math
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import reference
import torch
from reference import COSTS, GEOMETRIES, Meeting, pairwise
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import locality_prior as lp
from locality_prior import _compiled
from locality_prior._compiled import library
from locality_prior.cost import Cost
from locality_prior.geometry import near, tiles
from locality_prior.sparse import Pattern
from locality_prior.sparse.compiled import CompiledRows
from locality_prior.sparse.windows import Windows, best_tiles

BOUNDED = {name: row for name, row in COSTS.items() if row[0].reach < math.inf}
TOLERANCE = {torch.float64: 1e-13, torch.float32: 1e-6, torch.bfloat16: 3e-2}

#: "wires" is computed in C where there is a compiler, and by torch.sparse where there is none: both are tested.
BACKENDS = ["windowed", "wires", "wires in torch"]
backends = pytest.mark.parametrize("backend", BACKENDS, indirect=True)
meetings = pytest.mark.parametrize("meeting", GEOMETRIES.values(), ids=GEOMETRIES)
#: bfloat16 is for windows alone
WAYS = {
    f"{str(dtype)[6:]} {way}": (dtype, way)
    for dtype, way in [(torch.bfloat16, "windowed")]
    + [
        (dtype, backend)
        for dtype in (torch.float64, torch.float32)
        for backend in ("windowed", "wires", "wires in torch")
    ]
}
#: Of geometries × costs × ways × rescaling, more than two thousand combinations, a sample in which any two values meet:
#: a geometry has each way and each cost, but not each cost in each way.
SAMPLE = pairwise([*GEOMETRIES], [*WAYS], [*BOUNDED], [False, True])


@pytest.fixture
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name, _, without_compiler = str(request.param).partition(" in ")
    if without_compiler:
        monkeypatch.setattr(CompiledRows, "serves", lambda *_: False)
    elif name == "wires" and library(torch.float32) is None:
        pytest.skip("there is no C compiler here to make the compiled way with")
    return name


def agree(actual: Tensor, expected: object) -> None:
    truth = torch.tensor(expected, dtype=torch.float64)
    assert actual.shape == truth.shape
    gap = (actual.detach().double() - truth).abs().max() / truth.abs().max()
    assert gap <= TOLERANCE[actual.dtype], f"off by {gap:.1e} of the largest"


def small(backend: str, **options: object) -> lp.LocalityLinear:
    """A sheet with borders: 6×5 onto 4×4, rescaled."""
    return lp.LocalityLinear(
        30,
        16,
        source=lp.Grid(6, 5),
        target=lp.Grid(4, 4),
        cost=lp.cost.Linear().within(1.7),
        rescale=True,
        backend=backend,
        **options,  # type: ignore[arg-type]
    )


def pair(backend: str, dtype: torch.dtype = torch.float64) -> tuple[lp.LocalityLinear, lp.LocalityLinear]:
    """A sparse layer and a dense one with the same weights."""
    sparse, dense = small(backend, dtype=dtype), small("dense", dtype=dtype)
    sparse.load_state_dict(dense.state_dict())
    return sparse, dense


@pytest.mark.parametrize("backend", ["wires", "wires in torch"], indirect=True)
def test_wires_are_not_for_bfloat16(backend: str) -> None:
    layer = small(backend, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"backend: got 'wires' in torch\.bfloat16"):
        layer(torch.randn(2, layer.in_features, dtype=torch.bfloat16))


@pytest.mark.parametrize(
    ("where", "dtype", "backend", "price_name", "rescale"),
    [(where, *WAYS[way], cost, rescale) for where, way, cost, rescale in SAMPLE],
    ids=[f"{where}, {way}, {cost}{', rescaled' if rescale else ''}" for where, way, cost, rescale in SAMPLE],
    indirect=["backend"],
)
def test_contract(where: str, dtype: torch.dtype, backend: str, price_name: str, rescale: bool) -> None:
    meeting, (cost, price) = GEOMETRIES[where], BOUNDED[price_name]
    layer = meeting.layer(cost, rescale=rescale, dtype=dtype, backend=backend)
    p = reference.prior(meeting.distances, price, rescale)
    pattern = layer.pattern
    assert pattern is not None
    # the wires are the reference's, row by row
    there = torch.tensor(p) != 0
    assert torch.equal(torch.stack(pattern.ends(layer.weight.device), 1), there.nonzero())
    assert layer.weight.shape == layer.prior.shape == layer.effective_weight.shape == (int(there.sum()),)
    agree(pattern.scatter(layer.prior), p)
    x = torch.randn(2, layer.in_features, dtype=dtype, requires_grad=True)
    g = torch.randn(2, layer.out_features, dtype=dtype)
    w, b = pattern.scatter(layer.weight).tolist(), layer.bias.tolist()
    y = layer(x)
    y.backward(g)
    agree(y, reference.linear(x.tolist(), w, p, b))
    gx, gw, gb = reference.linear_gradients(x.tolist(), w, p, g.tolist())
    assert x.grad is not None
    assert layer.weight.grad is not None
    agree(x.grad, gx)
    agree(pattern.scatter(layer.weight.grad), gw)
    agree(layer.bias.grad, gb)
    agree(layer.fold().weight, (torch.tensor(w, dtype=torch.float64) * torch.tensor(p, dtype=torch.float64)).tolist())


@backends
def test_the_contract_can_be_broken(backend: str) -> None:
    layer = small(backend, dtype=torch.float64)
    x = torch.randn(2, 30, dtype=torch.float64)
    folded = layer.fold()
    assert_close(layer(x), folded(x))
    assert isinstance(layer._values, Tensor)
    layer._values[5] *= 1.01
    with pytest.raises(AssertionError):
        assert_close(layer(x), folded(x))


@pytest.mark.parametrize(
    ("backend", "shape", "bias"),
    pairwise(BACKENDS, [(), (1,), (3,), (2, 1, 3), (0,), (2, 0)], [True, False]),
    indirect=["backend"],
)
def test_leading_shapes(backend: str, shape: tuple[int, ...], bias: bool) -> None:
    layer = small(backend, bias=bias, dtype=torch.float64)
    plain = layer.fold()
    x = torch.randn(*shape, 30, dtype=torch.float64, requires_grad=True)
    y, expected = layer(x), plain(x)
    assert_close(y, expected)
    g = torch.randn_like(y)
    assert_close(torch.autograd.grad(y, x, g), torch.autograd.grad(expected, x, g))


@backends
def test_gradcheck(backend: str) -> None:
    layer = small(backend, dtype=torch.float64)
    x = torch.randn(3, 30, dtype=torch.float64, requires_grad=True)

    def f(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(f, (x, layer.weight, layer.bias), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, (x, layer.weight, layer.bias))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, as it loads forward mode
@backends
def test_transforms(backend: str) -> None:
    sparse, dense = pair(backend)
    x, t = torch.randn(4, 30, dtype=torch.float64), torch.randn(4, 30, dtype=torch.float64)
    assert_close(torch.func.vmap(sparse)(x), dense(x))
    for one, other in zip(torch.func.jvp(sparse, (x,), (t,)), torch.func.jvp(dense, (x,), (t,)), strict=True):
        assert_close(one, other)

    def loss(layer: nn.Module) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
        return lambda p, x: torch.func.functional_call(layer, p, (x,)).square().sum()

    ours = torch.func.vmap(torch.func.grad(loss(sparse)), (None, 0))(dict(sparse.named_parameters()), x)
    theirs = torch.func.vmap(torch.func.grad(loss(dense)), (None, 0))(dict(dense.named_parameters()), x)
    assert sparse.pattern is not None
    for k in range(4):
        assert_close(ours["weight"][k], sparse.pattern.gather(theirs["weight"][k]))


@backends
def test_compiled_whole(backend: str) -> None:
    sparse, dense = pair(backend, torch.float32)
    x = torch.randn(4, 30, requires_grad=True)
    compiled = torch.compile(sparse, fullgraph=True, backend="aot_eager")
    assert_close(compiled(x), dense(x))
    compiled(x).square().sum().backward()
    dense(x).square().sum().backward()
    assert sparse.pattern is not None
    assert_close(sparse.weight.grad, sparse.pattern.gather(dense.weight.grad))


@pytest.mark.filterwarnings("ignore:`torch.jit.", "ignore::torch.jit.TracerWarning")
@backends
def test_traced_and_exported_code_takes_any_batch(backend: str) -> None:
    layer = small(backend)
    given = torch.randn(3, 30)
    traced = torch.jit.trace(layer, given)  # type: ignore[no-untyped-call]
    exported = torch.export.export(layer, (given,), dynamic_shapes={"input": {0: torch.export.Dim("batch")}}).module()
    for n in (2, 3, 9):
        x = torch.randn(n, 30)
        assert_close(traced(x), layer(x))
        assert_close(exported(x), layer(x))


@backends
def test_hazards(backend: str) -> None:
    sparse, dense = pair(backend)
    x = torch.randn(4, 30, dtype=torch.float64, requires_grad=True)
    other = torch.randn(7, 30, dtype=torch.float64)
    # two forwards before a backward
    first = sparse(x)
    sparse(other)
    assert_close(torch.autograd.grad(first.sum(), x, retain_graph=True), torch.autograd.grad(dense(x).sum(), x))
    assert_close(torch.autograd.grad(first.sum(), x), torch.autograd.grad(dense(x).sum(), x))
    # W changed in between: as nn.Linear, an error where its value is needed, and none where not
    y = sparse(x)
    with torch.no_grad():
        sparse.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()
    y = sparse(other)
    with torch.no_grad():
        sparse.weight.sub_(1)
    y.sum().backward()
    # copies, threads, inference first
    twin = copy.deepcopy(sparse)
    buffer = io.BytesIO()
    torch.save(sparse, buffer)
    buffer.seek(0)
    pickled = torch.load(buffer, weights_only=False)
    with torch.inference_mode():
        fresh = small(backend, dtype=torch.float64)
        fresh(other)
    for layer in (twin, pickled):
        assert_close(layer(other), dense(other))
    results: dict[int, Tensor] = {}
    threads = [threading.Thread(target=lambda k=k: results.update({k: sparse(other * k)})) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(8):
        assert_close(results[k], dense(other * k))


@backends
def test_a_backward_pass_after_anothers_forward(backend: str) -> None:
    """Each of two graphs, the older first, with inputs that want no gradient, of equal and of other sizes."""
    for n in (5, 9):
        sparse, dense = pair(backend)
        a, b = torch.randn(5, 30, dtype=torch.float64), torch.randn(n, 30, dtype=torch.float64)
        for layer in (sparse, dense):
            first, second = layer(a), layer(b)
            first.sum().backward()
            layer.weight.grad = None
            second.sum().backward()
        assert sparse.pattern is not None
        assert_close(sparse.weight.grad, sparse.pattern.gather(dense.weight.grad))


@backends
def test_the_output_may_be_changed_in_place(backend: str) -> None:
    sparse, dense = pair(backend)
    for shape in ((4, 30), (2, 3, 30), (30,), (70, 30)):
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        grads = []
        for layer in (sparse, dense):
            y = nn.functional.relu(layer(x), inplace=True)
            grads.append(torch.autograd.grad(y.sum(), [x, layer.bias]))
        assert_close(grads[0], grads[1])


@backends
def test_parameters_that_do_not_fit_are_refused(backend: str) -> None:
    """In one line, before a kernel could read beyond them."""
    x = torch.randn(3, 30)
    for change, said in (
        ({"bias": torch.zeros(1)}, r"bias: got \(1,\), torch.float32 on cpu, expected \(16,\), torch.float32 on cpu"),
        ({"bias": torch.zeros(16, dtype=torch.float64)}, "bias: got .* torch.float64 on cpu, expected"),
        ({"weight": torch.zeros(2)}, r"weight: got \(2,\)"),
    ):
        with pytest.raises(ValueError, match=said):
            torch.func.functional_call(small(backend), change, (x,))
    with pytest.raises(ValueError, match=r"weight: got .* on meta, expected .* on cpu"):
        small(backend).to("meta")(x)


@backends
def test_tensors_without_memory_of_their_own(backend: str) -> None:
    sparse, dense = pair(backend)
    x = torch.randn(3, 30, dtype=torch.float64)
    assert_close(sparse(torch._neg_view(x)), dense(-x))
    y = sparse(x.requires_grad_())
    y.backward(torch._efficientzerotensor(y.shape, dtype=y.dtype))
    assert x.grad is not None
    assert not x.grad.any()


def test_autocast_leaves_float64_alone() -> None:
    layer = small("windowed", dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 30, dtype=torch.float64)).dtype == torch.float64


def test_autocast() -> None:
    x = torch.randn(4, 30)
    for backend in ("windowed", "auto"):
        layer = small(backend)
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        assert y.dtype == torch.bfloat16
        assert_close(y.float(), layer(x), rtol=0.05, atol=0.05)


@backends
def test_dtypes_and_meta(backend: str) -> None:
    layer = small(backend)
    exact = layer.rule.signals(torch.float64, layer.weight.device)
    assert torch.equal(layer.double().prior, exact)
    meta = small(backend, device="meta")
    assert meta(torch.empty(2, 30, device="meta")).shape == (2, 16)


@backends
def test_stacked_layers_hand_their_batch_on_as_it_lies(backend: str) -> None:
    """A batch that lies unit by unit stays so in memory, forward and backward, and nothing is moved on the way."""
    a, b = local(2, backend=backend), local(2, backend=backend)
    x = torch.randn(1024, 64).t().requires_grad_()
    between = a(x).relu()
    assert between.t().is_contiguous()
    made: list[tuple[int, int]] = []

    class Moves(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            if func in (torch.ops.aten.clone.default, torch.ops.aten.copy_.default) and out.numel() == between.numel():
                made.append(tuple(out.shape))
            return out

    with Moves():
        y = b(between)
        (back,) = torch.autograd.grad(y, between, y.detach())
    assert not made  # no copy of the batch on either way
    assert back.t().is_contiguous()
    folded = nn.Sequential(lp.fold(a), nn.ReLU(), lp.fold(b))
    assert_close(y, folded(x))


@backends
@pytest.mark.parametrize("batch", [1, 9, 64, 130])
def test_a_batch_leaves_in_the_layout_in_which_it_came(backend: str, batch: int) -> None:
    """As with torch's own layers: BatchNorm and LayerNorm take many times as long on a batch in the other layout."""
    layer = local(2, backend=backend)
    x, grad = torch.randn(batch, 1024), torch.randn(batch, 1024)
    expected = torch.autograd.functional.vjp(lp.fold(layer), x, grad)
    for given in (x, x.t().contiguous().t()):
        for back in (grad, grad.t().contiguous().t()):
            given = given.detach().requires_grad_()
            y = layer(given)
            (found,) = torch.autograd.grad(y, given, back)
            assert_close((y, found), expected)
            for one in (y, found):
                assert one.is_contiguous() == given.is_contiguous()
                assert one.t().is_contiguous() == given.t().is_contiguous()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and there is none here")
@pytest.mark.parametrize("name", ["windowed", "wires", "auto", "dense"])
def test_on_a_gpu(name: str) -> None:
    on_cpu = local(3, dtype=torch.float64, backend="dense")
    layer = local(3, dtype=torch.float64, backend=name, device="cuda")
    layer.load_state_dict(on_cpu.state_dict())
    x = torch.randn(5, 1024, dtype=torch.float64)
    for one in (layer, copy.deepcopy(layer).cpu().cuda()):
        a, b = x.clone().requires_grad_(), x.cuda().requires_grad_()
        expected, y = on_cpu(a), one(b)
        assert_close(y.cpu(), expected)
        expected.square().sum().backward()
        y.square().sum().backward()
        assert_close(b.grad.cpu(), a.grad)


# --- wires, tiles and windows ----------------------------------------------------------------------------------------


@meetings
def test_near_is_what_distances_say(meeting: Meeting) -> None:
    d = meeting.target.distances(meeting.source)
    for radius in (0.4, 1, math.sqrt(2), 2.6, 50):
        i, j = (d <= radius * (1 + 1e-9)).nonzero(as_tuple=True)
        found = [torch.cat(parts) for parts in zip(*near(meeting.target, meeting.source, radius), strict=True)]
        assert torch.equal(found[0], i)
        assert torch.equal(found[1], j)
        assert torch.equal(found[2], d[i, j])


@pytest.mark.parametrize(("n", "size"), [(1, 1), (1, 64), (5, 1), (64, 7), (64, 64), (100, 64), (257, 7)])
def test_tiles_are_compact_and_small(n: int, size: int) -> None:
    numbers = tiles(lp.geometry.default_sheet(n).positions, size)
    counts = numbers.bincount()
    assert len(numbers) == n
    assert counts.min() >= 1
    assert counts.max() <= size


def test_tiles_of_a_sheet_are_squares() -> None:
    numbers = tiles(lp.Grid(32, 32).positions, 64).view(32, 32)
    for row in range(0, 32, 8):
        for col in range(0, 32, 8):
            assert len(numbers[row : row + 8, col : col + 8].unique()) == 1
    assert len(numbers.unique()) == 16


def ring(n: int) -> Tensor:
    """A ring of n nodes, numbered at random."""
    order = torch.randperm(n)
    adjacency = torch.zeros(n, n)
    adjacency[order, order.roll(1)] = 1
    return torch.maximum(adjacency, adjacency.t())


@pytest.mark.parametrize(
    "sheet", [lp.Grid(32, 32), lp.HexGrid(32, 32), lp.Sphere(1024), lp.Graph(ring(1024).numpy())], ids=repr
)
def test_windows_are_small_in_any_geometry(sheet: lp.Geometry) -> None:
    """Tiles are compact, so that blocks hold few more entries than there are wires, however units are numbered."""
    rule = lp.Prior(sheet, sheet, lp.cost.Flat().within(4))
    pattern = Pattern(rule, "windowed")
    windows = pattern.kernel(torch.float64, torch.device("cpu"))
    assert isinstance(windows, Windows)
    assert windows.entries < 5 * pattern.wires.count
    scattered = Windows(pattern.wires, torch.randperm(1024) // 16, torch.device("cpu"))
    assert scattered.entries > 10 * pattern.wires.count
    assert best_tiles(pattern.positions, pattern.wires).bincount().max() <= 128


@pytest.mark.parametrize(
    "make", [lp.Sphere, lambda n: lp.Points(torch.rand(n, 3) * n ** (1 / 3))], ids=["sphere", "points"]
)
def test_near_looks_at_few_pairs(make: Callable[[int], lp.Geometry]) -> None:
    """What is near is found in time that grows with the units, not with their pairs."""
    sheet = make(20_000)
    with Largest() as largest:
        found = sum(len(i) for i, _, _ in near(sheet, sheet, 1.5))
    assert 20_000 <= found < 50 * 20_000
    assert largest.entries < 20_000 * 100


def random_sides(kind: str, g: torch.Generator) -> tuple[lp.Geometry, lp.Geometry, float]:
    """A source and a target of random sizes, and the largest distance between a target unit and its nearest source."""
    a, b, c, d = torch.randint(3, 16, (4,), generator=g).tolist()
    source: lp.Geometry
    target: lp.Geometry
    if kind == "graph":
        source = target = lp.Graph(ring(a * b).numpy())
    else:
        source, target = {
            "grid": lambda: (lp.Grid(a, b), lp.Grid(c, d)),
            "torus": lambda: (lp.Grid(a, b, periodic=True), lp.Grid(c, d, periodic=True)),
            "hexagons": lambda: (lp.HexGrid(a, b), lp.HexGrid(c, d)),
            "sphere": lambda: (lp.Sphere(a * b), lp.Sphere(c * d)),
            "points": lambda: (
                lp.Points(a * torch.rand(a * b, 3, generator=g), "cityblock"),
                lp.Points(a * torch.rand(c * d, 3, generator=g), "cityblock"),
            ),
            "channels": lambda: (lp.Grid(a, b).with_channels(2), lp.Grid(c, d)),
        }[kind]()
    return source, target, float(target.distances(source).min(1).values.max())


@pytest.mark.parametrize("kind", ["grid", "torus", "hexagons", "sphere", "points", "channels", "graph"])
def test_random_geometries_sizes_and_radii(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lp.geometry.meeting, "TILE", 8)
    for seed in range(4):
        with monkeypatch.context() as patch:
            check_random(kind, seed, patch)


def check_random(kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    source, target, least = random_sides(kind, g)
    cost = lp.cost.Exponential(3).within(least + 0.1 + 4 * float(torch.rand((), generator=g)))
    sizes, made = (len(source), len(target)), {"source": source, "target": target, "cost": cost, "dtype": torch.float64}
    dense = lp.LocalityLinear(*sizes, backend="dense", rescale=bool(seed % 2), **made)
    n = int(torch.randint(1, 140, (), generator=g))
    x = torch.randn(n, sizes[0], dtype=torch.float64, requires_grad=True)
    g_y = torch.randn(n, sizes[1], dtype=torch.float64)
    expected = torch.autograd.grad(dense(x), [x, dense.weight, dense.bias], g_y)
    for name, compiled in (("windowed", True), ("wires", True), ("wires", False)):
        if not compiled:
            monkeypatch.setattr(CompiledRows, "serves", lambda *_: False)
        layer = lp.LocalityLinear(*sizes, backend=name, rescale=bool(seed % 2), **made)
        layer.load_state_dict(dense.state_dict())
        for given in (x, x.t().contiguous().t()):  # a batch laid out either way
            assert_close(layer(given), dense(x))
        found = torch.autograd.grad(layer(x), [x, layer.weight, layer.bias], g_y)
        assert layer.pattern is not None
        assert_close(found, (expected[0], layer.pattern.gather(expected[1]), expected[2]))


# --- choosing --------------------------------------------------------------------------------------------------------


def local(radius: float, side: int = 32, **options: object) -> lp.LocalityLinear:
    sheet = lp.Grid(side, side)
    cost = lp.cost.Flat().within(radius)
    return lp.LocalityLinear(side**2, side**2, source=sheet, target=sheet, cost=cost, **options)  # type: ignore[arg-type]


def test_auto_is_dense_where_that_is_quicker() -> None:
    assert small("auto").pattern is None  # small
    assert lp.LocalityLinear(1024, 1024).pattern is None  # no end
    assert local(20).pattern is None  # nearly all pairs have a wire


@pytest.mark.parametrize("compiler", [True, False])
def test_auto_says_what_it_chose(compiler: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiler and library(torch.float32) is None:
        pytest.skip("there is no C compiler here")
    if not compiler:
        monkeypatch.setattr(CompiledRows, "serves", lambda *_: False)
    few, many = local(2), local(6)
    assert "backend='auto' (wires, " + ("compiled)" if compiler else "torch.sparse)") in repr(few)
    assert "backend='auto' (" + ("wires, compiled)" if compiler else "windowed)") in repr(many)
    assert "backend='auto' (windowed)" in repr(few.bfloat16())  # which no sparse product serves
    assert "backend='windowed'" in repr(local(2, backend="windowed"))
    x = torch.randn(3, 1024, dtype=torch.bfloat16)
    assert_close(few(x), lp.fold(few)(x), rtol=0.05, atol=0.05)


def test_without_a_compiler_one_warning_says_what_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compiled, "_warn", cache(_compiled._warn.__wrapped__))  # which may have warned before
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for compiler in ("false", "no-such-compiler", "'"):
            for dtype in (torch.float32, torch.float64):
                monkeypatch.setenv("CC", compiler)
                assert library.__wrapped__(dtype) is None
    assert [str(one.message).split(",")[0] for one in told] == ["no C compiler could be run"]
    assert 'filterwarnings("ignore", message="no C compiler")' in str(told[0].message)


@backends
def test_a_default_device_changes_nothing(backend: str) -> None:
    """All that a layer keeps is made on its own device, before and during a step."""
    x = torch.randn(3, 30, requires_grad=True)
    layer = small(backend)
    expected = torch.autograd.grad(layer(x).sum(), [x, layer.weight])
    with torch.device("meta"):
        again = small(backend, device="cpu")
        again.load_state_dict(layer.state_dict())
        y = again(x)
        found = torch.autograd.grad(y.sum(), [x, again.weight])
        assert small(backend).weight.is_meta
    assert_close(y, layer(x))
    assert_close(found, expected)


def test_the_compiler_is_fed_in_any_locale() -> None:
    if library(torch.float32) is None:
        pytest.skip("there is no C compiler here")
    code = "import torch; from locality_prior._compiled import library; assert library(torch.float32) is not None"
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | plain, check=True, timeout=120)


@backends
def test_what_cannot_run_sparse(backend: str) -> None:
    with pytest.raises(ValueError, match=rf"backend: got '{backend}' with cost Linear\(\), expected a cost that ends"):
        lp.LocalityLinear(9, 9, backend=backend)
    with pytest.raises(ValueError, match="with no wire"):
        lp.LocalityLinear(9, 400, cost=lp.cost.Linear().within(0.01), backend=backend)


class Largest(TorchDispatchMode):
    """The most entries that any tensor made meanwhile has."""

    entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                self.entries = max(self.entries, tensor.untyped_storage().nbytes() // tensor.element_size())
        return made


@pytest.mark.parametrize("backend", ["windowed", "wires", "dense"])
def test_nothing_as_large_as_a_matrix_is_made(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lp.geometry.meeting, "BLOCK", 1 << 14)
    sheet = lp.Grid(48, 48)
    pairs = len(sheet) ** 2
    with Largest() as largest:
        layer = lp.LocalityLinear(
            len(sheet), len(sheet), source=sheet, target=sheet, cost=lp.cost.Linear().within(2), backend=backend
        )
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
        x = torch.randn(2, len(sheet), requires_grad=True)
        (layer(x).square().sum() + lp.wiring_cost(layer) + lp.wiring_cost(layer, lp.cost.Sqrt())).backward()
        optimizer.step()
        lp.mean_wire_length(layer)
        lp.save(layer, tmp_path / "layer.safetensors")
        lp.load(tmp_path / "layer.safetensors")
    assert (largest.entries >= pairs) == (backend == "dense")  # the check sees what it looks for


# --- state, folding, wiring ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", ["dense", "windowed", "wires"])
@pytest.mark.parametrize("other", ["dense", "windowed", "wires"])
def test_any_backend_loads_any_others_state(one: str, other: str, tmp_path: Path) -> None:
    a, b = small(one), small(other)
    x = torch.randn(3, 30)
    b.load_state_dict(a.state_dict())
    assert_close(a(x), b(x))
    lp.save(a, tmp_path / "a.safetensors")
    c = small(other)
    lp.load(tmp_path / "a.safetensors", c)
    assert_close(a(x), c(x))
    model, twin = nn.Sequential(nn.Linear(30, 30), a), nn.Sequential(nn.Linear(30, 30), small(other))
    lp.save(model, tmp_path / "model.safetensors")
    lp.load(tmp_path / "model.safetensors", twin)
    assert_close(model(x), twin(x))
    assert torch.equal(lp.load(tmp_path / "a.safetensors").weight, a.weight)


@pytest.mark.parametrize("backend", ["dense", "windowed", "wires"])
def test_a_state_that_fits_neither_is_refused(backend: str) -> None:
    layer = small(backend)
    before = layer.weight.detach().clone()
    for weight in (torch.randn(7), torch.randn(16, 31), torch.randn(len(before.flatten()) + 1)):
        with pytest.raises(RuntimeError, match="size mismatch for weight"):
            layer.load_state_dict({"weight": weight, "bias": torch.zeros(16)})
        assert torch.equal(layer.weight, before)


@backends
@pytest.mark.parametrize("cost", [None, lp.cost.Quadratic(), lp.cost.Flat()], ids=str)
def test_wiring_is_the_dense_layers(backend: str, cost: Cost | None) -> None:
    sparse, dense = pair(backend)
    assert_close(lp.wiring_cost(sparse, cost), lp.wiring_cost(dense, cost))
    assert_close(lp.weight_l1(sparse), lp.weight_l1(dense))
    assert_close(lp.mean_wire_length(sparse), lp.mean_wire_length(dense))
    lp.wiring_cost(sparse, cost).backward()
    lp.wiring_cost(dense, cost).backward()
    assert sparse.pattern is not None
    assert_close(sparse.weight.grad, sparse.pattern.gather(dense.weight.grad))


@backends
def test_folding_what_is_too_large_takes_a_word(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = small(backend), torch.randn(3, 30)
    assert_close(lp.fold(layer)(x), layer(x))
    monkeypatch.setattr("locality_prior.layers.base.DENSE", 100)
    with pytest.raises(ValueError, match="dense: got False for 16 × 30 weights"):
        lp.fold(layer)
    with pytest.raises(ValueError, match="dense: got False"):
        lp.fold(nn.Sequential(layer))
    assert_close(lp.fold(nn.Sequential(layer), dense=True)(x), layer(x))
