"""A buffer that is used again must not be noticed: every way to run a layer gives what nn.Linear would give."""

from __future__ import annotations

import copy
import io
import math
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import locality_prior as lp
from locality_prior import _memory
from locality_prior.prior import Table

#: P as a whole matrix, and as a table of offsets (over 65,536 entries).
KINDS: dict[str, Callable[..., lp.LocalityLinear]] = {
    "whole": lambda **options: lp.LocalityLinear(9, 6, **options),
    "cut": lambda **options: lp.LocalityLinear(9, 9, cost=lp.cost.Linear().within(1), rescale=True, **options),
    "table": lambda **options: lp.LocalityLinear(272, 272, source=lp.Grid(16, 17), rescale=True, **options),
}
kinds = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def test_the_kinds_are_what_they_say() -> None:
    assert isinstance(KINDS["table"]()._values, Table)
    assert isinstance(KINDS["whole"]()._values, Tensor)


def plainly(layer: lp.LocalityLinear, x: Tensor, weight: Tensor | None = None) -> Tensor:
    """The obvious formula."""
    weight = layer.weight if weight is None else weight
    return nn.functional.linear(x, weight * layer.rule.dense(weight.dtype), layer.bias)


def batch(layer: lp.LocalityLinear, n: int = 3) -> Tensor:
    return torch.randn(n, layer.in_features, dtype=layer.weight.dtype, requires_grad=True)


def close_to_largest(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert_close(actual, expected, rtol=0, atol=tolerance * float(expected.detach().abs().max()))


def inputs(layer: lp.LocalityLinear, *x: Tensor) -> list[Tensor]:
    return [*x, *layer.parameters()]


# --- autograd --------------------------------------------------------------------------------------------------------


@kinds
def test_several_forwards_before_backwards_in_any_order(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make()
    xs = [batch(layer) for _ in range(3)]
    losses = [layer(x).square().sum() for x in xs]
    for k in (1, 0, 2):
        got = torch.autograd.grad(losses[k], inputs(layer, xs[k]))
        assert_close(got, torch.autograd.grad(plainly(layer, xs[k]).square().sum(), inputs(layer, xs[k])))


def test_a_layer_used_twice_in_a_row() -> None:
    layer = lp.LocalityLinear(9, 9)
    x = batch(layer)
    twice = layer(layer(x).tanh()).square().sum()
    plain = plainly(layer, plainly(layer, x).tanh()).square().sum()
    assert_close(torch.autograd.grad(twice, inputs(layer, x)), torch.autograd.grad(plain, inputs(layer, x)))


@kinds
def test_other_weights_in_between(make: Callable[..., lp.LocalityLinear]) -> None:
    """functional_call without a transform runs on the same buffer with other weights."""
    layer = make()
    x = batch(layer)
    loss = layer(x).square().sum()
    other = {name: torch.randn_like(p, requires_grad=True) for name, p in layer.named_parameters()}
    y = functional_call(layer, other, (x,))
    assert_close(y, nn.functional.linear(x, other["weight"] * layer.prior, other["bias"]))
    got = torch.autograd.grad(loss, inputs(layer, x))
    assert_close(got, torch.autograd.grad(plainly(layer, x).square().sum(), inputs(layer, x)))


@pytest.mark.parametrize("wants_input", [False, True])
@pytest.mark.parametrize("again", [False, True], ids=["", "forward in between"])
@kinds
def test_weight_changed_before_backward(make: Callable[..., lp.LocalityLinear], wants_input: bool, again: bool) -> None:
    """As nn.Linear: an error where the input wants its gradient, and the right gradient of W where it does not."""
    layer = make()
    plain = nn.Linear(layer.in_features, layer.out_features)
    x = torch.randn(3, layer.in_features, requires_grad=wants_input)
    expected = torch.autograd.grad(plainly(layer, x).square().sum(), layer.weight)
    for module in (plain, layer):
        loss = module(x).square().sum()
        with torch.no_grad():
            module.weight.add_(1)
        if again:
            module(x)
        if wants_input:
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()
        else:
            loss.backward()
    if not wants_input:
        assert_close(layer.weight.grad, *expected)


@kinds
def test_backward_twice(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make()
    x = batch(layer)
    loss = layer(x).square().sum()
    first = torch.autograd.grad(loss, inputs(layer, x), retain_graph=True)
    layer(batch(layer))
    assert_close(torch.autograd.grad(loss, inputs(layer, x)), first)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, inputs(layer, x))


@kinds
def test_double_backward(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make(dtype=torch.float64)
    x = batch(layer)

    def penalised(y: Tensor) -> tuple[Tensor, ...]:
        slopes = torch.autograd.grad(y.tanh().sum(), inputs(layer, x), create_graph=True)
        return torch.autograd.grad(sum(s.square().sum() for s in slopes), inputs(layer, x))

    assert_close(penalised(layer(x)), penalised(plainly(layer, x)))


@kinds
def test_gradients_add_up(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make(dtype=torch.float64)
    x = batch(layer, 4).detach()
    for part in x.split(1):
        layer(part).square().sum().backward()
    added = layer.weight.grad.clone()
    layer.zero_grad(set_to_none=False)
    assert not layer.weight.grad.any()
    layer(x).square().sum().backward()
    assert_close(layer.weight.grad, added)


@kinds
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(make: Callable[..., lp.LocalityLinear], reentrant: bool) -> None:
    layer = make()
    x = batch(layer)
    checkpoint(layer, x, use_reentrant=reentrant).square().sum().backward()
    expected = torch.autograd.grad(plainly(layer, x).square().sum(), inputs(layer, x))
    assert_close([t.grad for t in inputs(layer, x)], list(expected))


@kinds
def test_saved_tensors_may_be_moved(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make()
    x = batch(layer)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        loss = layer(x).square().sum()
    layer(x)
    got = torch.autograd.grad(loss, inputs(layer, x))
    assert_close(got, torch.autograd.grad(plainly(layer, x).square().sum(), inputs(layer, x)))


# --- transforms ------------------------------------------------------------------------------------------------------


@kinds
def test_vmap(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make()
    x = torch.randn(4, 3, layer.in_features)
    assert_close(vmap(layer)(x), plainly(layer, x))
    weights = torch.randn(2, *layer.weight.shape)
    y = vmap(lambda w: functional_call(layer, {"weight": w}, (x[0],)))(weights)
    assert_close(y, torch.stack([plainly(layer, x[0], w) for w in weights]), rtol=1e-4, atol=1e-5)


@kinds
def test_per_sample_gradients(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make()
    x = torch.randn(4, layer.in_features)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor], row: Tensor) -> Tensor:
        return functional_call(layer, parameters, (row,)).square().sum()

    got = vmap(grad(loss), (None, 0))(parameters, x)
    expected = [torch.autograd.grad(plainly(layer, row).square().sum(), layer.weight)[0] for row in x]
    assert_close(got["weight"], torch.stack(expected), rtol=1e-4, atol=1e-5)


@kinds
def test_jacobians_batch_the_backward(make: Callable[..., lp.LocalityLinear]) -> None:
    """Both vmaps over an ordinary graph: the backward itself is batched."""
    layer = make(dtype=torch.float64)
    x = batch(layer, 1)
    y, plain = layer(x), plainly(layer, x)
    g = torch.randn(5, *y.shape, dtype=torch.float64)
    expected = [torch.autograd.grad(plain, inputs(layer, x), one, retain_graph=True) for one in g]
    stacked = tuple(map(torch.stack, zip(*expected, strict=True)))
    legacy = torch.autograd.grad(y, inputs(layer, x), g, is_grads_batched=True, retain_graph=True)
    assert_close(legacy, stacked)
    assert_close(vmap(lambda one: torch.autograd.grad(y, inputs(layer, x), one, retain_graph=True))(g), stacked)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch's own, as it loads forward mode
@kinds
def test_forward_mode(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make()
    x, t = torch.randn(2, 3, layer.in_features)
    direction = nn.functional.linear(t, layer.effective_weight)
    assert_close(jvp(layer, (x,), (t,)), (plainly(layer, x), direction))
    with forward_ad.dual_level():
        y = layer(forward_ad.make_dual(x, t))
        assert_close(forward_ad.unpack_dual(y).tangent, direction)


NEAR = lp.cost.Linear().within(1.5)
#: Layers that a trace or an export must carry to batches of any size.
CARRIED: dict[str, Callable[[], lp.LocalityLinear]] = {
    **KINDS,
    "flat": lambda: lp.LocalityLinear(9, 6, cost=lp.cost.Flat()),
    "windowed": lambda: lp.LocalityLinear(36, 25, cost=NEAR, rescale=True, backend="windowed"),
    "wires": lambda: lp.LocalityLinear(36, 25, cost=NEAR, backend="wires"),
    "no bias": lambda: lp.LocalityLinear(36, 25, False, cost=NEAR, backend="wires"),
}
carried = pytest.mark.parametrize("make", CARRIED.values(), ids=CARRIED)


@carried
@pytest.mark.parametrize("folded", [False, True], ids=["", "folded"])
def test_exported_with_a_batch_of_any_size(make: Callable[[], lp.LocalityLinear], folded: bool) -> None:
    layer = make()
    model = nn.Sequential(layer, nn.ReLU())
    exported = lp.fold(model) if folded else model
    size = {0: torch.export.Dim("batch")}
    torch.compiler.reset()  # older releases of torch count the exports of a process, and stop
    program = torch.export.export(exported, (torch.randn(3, layer.in_features),), dynamic_shapes=(size,)).module()
    for n in (2, 7):
        x = torch.randn(n, layer.in_features)
        assert_close(program(x), model(x))


@carried
@pytest.mark.filterwarnings("ignore:`torch.jit.:FutureWarning", "ignore:`torch.jit.:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of checks of shapes, which a trace need not keep
def test_traced_with_a_batch_of_any_size(make: Callable[[], lp.LocalityLinear]) -> None:
    layer = make()
    traced = torch.jit.trace(layer, torch.randn(3, layer.in_features))
    for shape in ((7,), (1,), (3,)):
        x = torch.randn(*shape, layer.in_features)
        assert_close(traced(x), layer(x))


# --- another cost ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", [False, True])
def test_a_cost_can_change_during_training(sparse: bool) -> None:
    """W, its parameter and the optimiser stay; P is that of a layer made with the new cost."""
    backend = "wires" if sparse else "dense"
    layer = lp.LocalityLinear(9, 9, cost=lp.cost.Linear().within(1.5), rescale=True, backend=backend)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    parameter = layer.weight
    for cost in (lp.cost.Linear(0.5).within(1.5), lp.cost.Quadratic().within(1.5)):
        loss = layer(batch(layer)).square().sum()
        layer.cost = cost
        loss.backward()  # of the forward before the change
        optimizer.step()
        before = layer.weight.detach().clone()
        assert layer.weight is parameter
        assert layer.cost == cost
        fresh = lp.LocalityLinear(9, 9, cost=cost, rescale=True, backend=backend)
        fresh.load_state_dict(layer.state_dict())
        assert torch.equal(layer.prior, fresh.prior)
        assert torch.equal(layer.weight, before)
        x = batch(layer)
        assert_close(layer(x), fresh(x))
        assert_close(lp.wiring_cost(layer), lp.wiring_cost(fresh))
        assert layer.config() == fresh.config()


def test_a_backward_after_a_change_of_cost_has_the_p_of_its_forward() -> None:
    layer = lp.LocalityLinear(9, 9)
    x = batch(layer)
    expected = torch.autograd.grad(plainly(layer, x).square().sum(), inputs(layer, x))
    loss = layer(x).square().sum()
    layer.cost = lp.cost.Quadratic()
    layer(x)
    assert_close(torch.autograd.grad(loss, inputs(layer, x)), expected)


def test_a_dense_layer_takes_any_cost() -> None:
    layer = lp.LocalityLinear(9, 9)
    control = layer.weight.detach().clone()
    layer.cost = lp.cost.Flat()
    assert_close(layer(torch.eye(9)).t() - layer.bias[:, None], control)
    layer.cost = "quadratic"
    assert layer.cost == lp.cost.Quadratic()
    layer.cost = lp.cost.Linear().within(1)
    off = layer.prior == 0
    assert off.any()
    assert torch.equal(layer.weight, control * ~off)
    for value in ("lineal", 3, []):
        with pytest.raises((ValueError, TypeError), match=r"cost: got .*, expected"):
            layer.cost = value
    with pytest.raises(ValueError, match=r"target: got unit 0 of .* with no wire"):
        lp.LocalityLinear(4, 1).cost = lp.cost.Linear().within(0.2)


KEPT = torch.tensor([0, 1, 9, 10, 20, 30, 40, 50, 60, 70, 80])


@pytest.mark.parametrize(
    "make",
    [
        lambda: lp.LocalityLinear(9, 9, cost=NEAR, backend="wires"),
        lambda: lp.LocalityLinear(9, 9, cost=NEAR, backend="windowed"),
        lambda: lp.LocalityLinear(9, 9, kept=KEPT, backend="dense"),
        lambda: lp.LocalityLinear(9, 9, kept=KEPT, backend="wires"),
    ],
)
def test_the_wires_of_a_sparse_layer_are_fixed(make: Callable[[], lp.LocalityLinear]) -> None:
    layer = make()
    before, wires = layer.prior, layer.rule.wires()
    refused = [lp.cost.Linear().within(0.5), lp.cost.LinearDecay(0.5)]
    if layer.kept is None:
        refused += [lp.cost.Linear(), lp.cost.Linear().within(1), lp.cost.Linear().within(2)]
    else:
        layer.cost = lp.cost.Quadratic()
        assert torch.equal(layer.rule.wires().sources, wires.sources)
        layer.cost = lp.cost.Linear()
    cost = layer.cost
    for other in refused:
        with pytest.raises(ValueError, match=r"cost: got .*, which has other wires, expected the wires that this spar"):
            layer.cost = other
        assert layer.cost == cost
        assert torch.equal(layer.prior, before)


# --- compiled --------------------------------------------------------------------------------------------------------


@kinds
def test_compiled_whole(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for n in (3, 5):
        x = batch(layer, n)
        got = torch.autograd.grad(compiled(x).square().sum(), inputs(layer, x))
        assert_close(got, torch.autograd.grad(plainly(layer, x).square().sum(), inputs(layer, x)))
    # eager and compiled in turn
    assert_close(layer(x), plainly(layer, x))
    layer.double()
    x = batch(layer)
    assert_close(compiled(x), plainly(layer, x))
    layer.cost = lp.cost.Linear(2).within(1) if math.isfinite(layer.cost.reach) else lp.cost.Linear(2)
    assert_close(compiled(x), plainly(layer, x))


@pytest.mark.skipif(not shutil.which("g++"), reason="torch's inductor needs a C++ compiler")
def test_compiled_to_code() -> None:
    layer = KINDS["cut"]()
    x = batch(layer)
    compiled = torch.compile(layer, fullgraph=True)
    got = torch.autograd.grad(compiled(x).square().sum(), inputs(layer, x))
    assert_close(got, torch.autograd.grad(plainly(layer, x).square().sum(), inputs(layer, x)))


# --- threads and processes -------------------------------------------------------------------------------------------


@kinds
def test_threads(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make()
    xs = [batch(layer) for _ in range(6)]
    expected = [torch.autograd.grad(plainly(layer, x).square().sum(), inputs(layer, x)) for x in xs]
    start, failures = threading.Barrier(6), []

    def work(k: int) -> None:
        start.wait()
        try:
            for _ in range(10):
                loss = layer(xs[k]).square().sum()
                assert_close(torch.autograd.grad(loss, inputs(layer, xs[k])), expected[k], rtol=1e-4, atol=1e-5)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert not layer._workspace.lock.locked()


def test_a_busy_buffer_is_left_alone() -> None:
    layer = KINDS["whole"]()
    x = batch(layer)
    with layer._workspace.lock:
        y = layer(x)
    assert layer._workspace.stamp == 0
    assert_close(y, plainly(layer, x))


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    near = lp.cost.Linear().within(2)
    return nn.Sequential(
        lp.LocalityLinear(9, 6, cost=near), nn.Tanh(), lp.LocalityLinear(6, 4, cost=near, backend="wires")
    )


def train_in_pair(rank: int, at: str) -> dict[str, dict[str, Tensor]]:
    """Weights after two steps of one of two processes that meet at the folder ``at``, on its half of the batch."""
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    torch.distributed.init_process_group("gloo", init_method=f"file://{at}/meeting", rank=rank, world_size=2)
    try:
        found = {}
        for way in ("whole", "sharded", "sharded anew"):
            net = small_net()
            model: Any = nn.parallel.DistributedDataParallel(net) if way == "whole" else net
            if way == "sharded":
                model = FullyShardedDataParallel(net, use_orig_params=True, device_id=torch.device("cpu"))
            if way == "sharded anew":
                fully_shard(net, mesh=torch.distributed.init_device_mesh("cpu", (2,)))
            descend(model, torch.randn(8, 9, generator=torch.Generator().manual_seed(1))[rank::2])
            if way == "sharded":
                with FullyShardedDataParallel.summon_full_params(model, writeback=False):
                    found[way] = {k: p.detach().clone() for k, p in net.named_parameters()}
            else:
                found[way] = {k: getattr(p, "full_tensor", p.detach)().detach() for k, p in net.named_parameters()}
        torch.distributed.barrier()  # neither process leaves while the other still gathers from it
        return found
    finally:
        torch.distributed.destroy_process_group()


def descend(model: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")  # of views: nothing here changes them in place
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Each with the whole layers, or with a part of each (FSDP, old and new)."""
    code = f"import test_layer_hazards as here; here.train_in_pair(1, {str(tmp_path)!r})"
    other = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent, stderr=subprocess.PIPE, text=True)
    try:
        found = train_in_pair(0, str(tmp_path))
        assert other.wait(60) == 0, other.communicate()[1]
    finally:
        other.kill()
        other.communicate()
    net = small_net()
    descend(net, torch.randn(8, 9, generator=torch.Generator().manual_seed(1)))
    for weights in found.values():
        assert_close(weights, {k: p.detach() for k, p in net.named_parameters()})
    assert not torch.equal(found["whole"]["0.weight"], small_net()[0].weight)


# --- copies, types and devices ---------------------------------------------------------------------------------------


def pickled(layer: nn.Module) -> Any:
    return pickle.loads(pickle.dumps(layer))


def saved(layer: nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@kinds
@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, saved])
def test_copies_share_no_buffer(make: Callable[..., lp.LocalityLinear], copied: Callable[[Any], Any]) -> None:
    layer = make()
    x = batch(layer)
    loss = layer(x).square().sum()
    other = copied(layer)
    assert other.config() == layer.config()
    assert other._workspace is not layer._workspace
    assert not other._workspace._buffers
    with torch.no_grad():
        other.weight.mul_(2)
    assert_close(other(x), plainly(other, x))
    got = torch.autograd.grad(loss, inputs(layer, x))
    assert_close(got, torch.autograd.grad(plainly(layer, x).square().sum(), inputs(layer, x)))


def test_a_model_can_be_copied_after_training() -> None:
    model = nn.Sequential(KINDS["whole"](), nn.ReLU())
    model(torch.randn(2, 9)).sum().backward()
    lp.mean_wire_length(model).backward()
    x = torch.randn(2, 9)
    assert torch.equal(copy.deepcopy(model)(x), model(x))


@kinds
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_another_dtype_rounds_p_from_float64(make: Callable[..., lp.LocalityLinear], dtype: torch.dtype) -> None:
    layer = make()
    exact = layer.rule.dense()
    assert layer.prior.dtype == torch.float32
    x = torch.randn(3, layer.in_features)
    layer(x)
    layer.to(dtype)
    assert layer.weight.dtype == layer.prior.dtype == layer(x.to(dtype)).dtype == dtype
    if layer.rule.table() is None or not layer.rescale:
        assert torch.equal(layer.prior, exact.to(dtype))
    else:
        assert_close(layer.prior.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-7)
    rows = x.to(dtype).requires_grad_()
    y = layer(rows)
    y.sum().backward()
    close_to_largest(y, nn.functional.linear(rows, layer.weight * layer.prior, layer.bias), 8 * torch.finfo(dtype).eps)
    layer.to(torch.float64)
    assert_close(layer.prior, exact, rtol=1e-15, atol=0)


def test_up_casting_a_rounded_p_would_be_caught() -> None:
    layer = KINDS["whole"]()
    exact, rounded = layer.rule.dense(), layer.prior
    with pytest.raises(AssertionError):
        assert_close(rounded.double(), exact, rtol=1e-15, atol=0)


@kinds
def test_meta_then_empty(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make(device="meta")
    assert layer.weight.is_meta
    assert layer(torch.empty(3, layer.in_features, device="meta")).shape == (3, layer.out_features)
    layer.to_empty(device="cpu")
    torch.manual_seed(5)
    layer.reset_parameters()
    torch.manual_seed(5)
    made = make()
    assert torch.equal(layer.weight, made.weight)
    x = batch(layer)
    assert_close(layer(x), plainly(made, x))
    other = make(device="meta")
    other.load_state_dict(made.state_dict(), assign=True)
    assert_close(other(x), plainly(made, x))


def test_a_layer_on_meta_needs_no_compiler() -> None:
    """Torch imports it, which takes seconds, to join tensors without values."""
    code = """if True:
        import sys, locality_prior as lp
        lp.LocalityLinear(4, 4, device="meta"), lp.LocalityLinear(9, 9, cost="linear@1", backend="wires", device="meta")
        lp.LocalityGRU(4, 4, device="meta"), lp.LocalityConv2d(4, 4, 3, device="meta")
        lp.LocalityMultiheadAttention(4, 2, positions=lp.Line(3), device="meta")
        print("torch._dynamo" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "False\n", done.stderr


MAKE: dict[str, Callable[[], nn.Module]] = {
    **CARRIED,
    "pruned": lambda: lp.LocalityLinear(9, 9, kept=KEPT, backend="wires"),
    "convolution": lambda: lp.LocalityConv2d(4, 4, 3, groups=2),
    "recurrent": lambda: lp.LocalityLSTM(4, 9, cost=NEAR),
    "attention": lambda: lp.LocalityMultiheadAttention(4, 2, kdim=3, positions=lp.Line(4)),
}


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_default_device(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    """A layer made under it lies there; one made before is not disturbed by it."""
    torch.manual_seed(3)
    layer = make()
    with torch.device("meta"):
        moved = make()
        assert all(p.is_meta for p in moved.parameters())
    moved = moved.to_empty(device="cpu")
    torch.manual_seed(3)
    moved.reset_parameters()  # type: ignore[operator]
    if not isinstance(layer, lp.LocalityMultiheadAttention):  # which draws its parts in another order when it is made
        assert_close(dict(moved.state_dict()), dict(layer.state_dict()))
    moved.load_state_dict(layer.state_dict())
    expected = [lp.wiring_cost(layer), lp.weight_l1(layer), lp.mean_wire_length(layer)]
    lp.save(layer, tmp_path / "expected.safetensors")
    with torch.device("meta"):
        assert_close([lp.wiring_cost(moved), lp.weight_l1(moved), lp.mean_wire_length(moved)], expected)
        lp.wiring_cost(moved, lp.cost.Custom(lambda d: 1 + d)).backward()
        lp.fold(moved)
        moved.double().float()
        moved.cost = moved.cost  # type: ignore[assignment]
        lp.save(moved, tmp_path / "layer.safetensors")
        if isinstance(moved, lp.LocalityLinear):
            lp.sparsify(moved, keep=0.9)
            x = torch.randn(2, moved.in_features, device="cpu")
            assert_close(moved(x), layer(x))
    assert (tmp_path / "layer.safetensors").read_bytes() == (tmp_path / "expected.safetensors").read_bytes()


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_made_in_inference_mode(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(3)
    layer = make()
    torch.manual_seed(3)
    with torch.inference_mode():
        made = make()
        assert_close(dict(made.state_dict()), dict(layer.state_dict()), rtol=0, atol=0)
        assert_close(lp.mean_wire_length(made), lp.mean_wire_length(layer))


@kinds
def test_inference_first_then_training(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make()
    x = batch(layer)
    for change in (lambda: None, layer.double):
        change()
        x = x.detach().to(layer.weight.dtype).requires_grad_()
        layer._values = None
        with torch.inference_mode():
            evaluated = layer(x).clone()
        loss = layer(x).square().sum()
        assert_close(layer(x).detach(), evaluated.clone())
        got = torch.autograd.grad(loss, inputs(layer, x))
        assert_close(got, torch.autograd.grad(plainly(layer, x).square().sum(), inputs(layer, x)))
        torch.autograd.grad(layer.effective_weight.sum(), layer.weight)


@kinds
def test_no_grad_between_forward_and_backward(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make()
    x = batch(layer)
    loss = layer(x).square().sum()
    with torch.no_grad():
        assert_close(layer(x), plainly(layer, x))
        assert not layer(x).requires_grad
    got = torch.autograd.grad(loss, inputs(layer, x))
    assert_close(got, torch.autograd.grad(plainly(layer, x).square().sum(), inputs(layer, x)))


@kinds
def test_autocast(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make()
    x = batch(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, plain = layer(x), plainly(layer, x)
        assert y.dtype == torch.bfloat16
        assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert_close(y, plain)
    got = torch.autograd.grad(y.float().square().sum(), inputs(layer, x))
    assert_close(got, torch.autograd.grad(plain.float().square().sum(), inputs(layer, x)), rtol=1e-2, atol=1e-2)
    assert all(g.dtype == torch.float32 for g in got)


@kinds
def test_backward_within_autocast(make: Callable[..., lp.LocalityLinear]) -> None:
    layer = make()
    x = batch(layer)
    loss, plain = layer(x).square().sum(), plainly(layer, x).square().sum()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = torch.autograd.grad(loss, inputs(layer, x))
    for one, other in zip(got, torch.autograd.grad(plain, inputs(layer, x)), strict=True):
        close_to_largest(one, other, 2e-2)


# --- memory ----------------------------------------------------------------------------------------------------------


class Large(TorchDispatchMode):
    """Counts the new tensors of at least ``least`` bytes that operations make."""

    def __init__(self, least: int) -> None:
        super().__init__()
        self.least, self.made = least, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {t.untyped_storage().data_ptr() for t in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for t in _tensors(result):
            storage = t.untyped_storage()
            self.made += storage.nbytes() >= self.least and storage.data_ptr() not in known
        return result


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(values) if isinstance(leaf, Tensor)]


MEMORY = {
    "whole": lp.HexGrid(32, 24),
    "table": lp.Grid(32, 32),
}


@pytest.mark.parametrize("sheet", MEMORY.values(), ids=MEMORY)
def test_no_second_product_is_allocated(sheet: lp.Geometry) -> None:
    """Forward allocates no K×K after the first; backward allocates one, which is the gradient of W itself."""
    k = len(sheet)
    layer = lp.LocalityLinear(k, k, source=sheet, rescale=True)
    x = torch.randn(2, k, requires_grad=True)
    assert isinstance(layer._values, Table) == isinstance(sheet, lp.Grid)
    prior, counts = layer.prior, []
    for run in (layer, layer, lambda x: nn.functional.linear(x, layer.weight * prior, layer.bias)):
        layer.weight.grad = None
        with Large(k * k * 4) as forward:
            loss = run(x).sum()
        with Large(k * k * 4) as backward:
            loss.backward()
        counts.append((forward.made, backward.made))
    assert counts[:2] == [(1, 1), (0, 1)]
    # the obvious formula would not pass
    assert counts[2] == (1, 2)


def test_large_tensors_are_ordinary_ones() -> None:
    like = torch.zeros((), dtype=torch.float64)
    for shape in ((3,), (1 << 10, 1 << 10), ((1 << 20) + 3,)):
        tensor = _memory.empty(shape, like)
        assert tensor.shape == shape
        assert tensor.dtype == torch.float64
        assert tensor.fill_(2).sum() == 2 * tensor.numel()
