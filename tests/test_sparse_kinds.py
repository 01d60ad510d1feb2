"""Layers of all kinds that compute wire by wire, each against the dense layer of its kind."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from reference import pairwise
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

import locality_prior as lp
from locality_prior.layers.base import Plain
from locality_prior.prior import Prior

SHEET = lp.Grid(3, 4)
#: On a sheet of twelve units, a layer of each kind.
MAKE: dict[str, Callable[..., Any]] = {
    "rnn": lambda **o: lp.LocalityRNN(5, 12, nonlinearity="relu", units=SHEET, **o),
    "gru": lambda **o: lp.LocalityGRU(5, 12, 2, units=SHEET, **o),
    "lstm": lambda **o: lp.LocalityLSTM(5, 12, bidirectional=True, units=SHEET, **o),
    "conv": lambda **o: lp.LocalityConv2d(12, 12, 3, 2, 1, source=SHEET, **o),
    "conv_same": lambda **o: lp.LocalityConv2d(12, 12, (2, 3), padding="same", padding_mode="circular", **o),
    "attention": lambda **o: lp.LocalityMultiheadAttention(12, 2, units=SHEET, batch_first=True, **o),
    "other keys": lambda **o: lp.LocalityMultiheadAttention(12, 2, kdim=9, units=SHEET, **o),
}
CUT = lp.cost.Linear().within(1.5)
kinds = pytest.mark.parametrize("kind", MAKE)


def given(kind: str, dtype: torch.dtype = torch.float64, n: int = 3) -> Tensor:
    """An input for a layer of ``MAKE``."""
    if kind.startswith("conv"):
        return torch.randn(n, 12, 5, 6, dtype=dtype)
    return torch.randn(7, n, 12 if kind in ("attention", "other keys") else 5, dtype=dtype)


def output(layer: nn.Module, x: Tensor) -> Tensor:
    """What a layer gives for ``x``, without its state or its weights."""
    y: Tensor
    if isinstance(layer, nn.MultiheadAttention):
        y = layer(x, x if layer.kdim == 12 else x[..., : layer.kdim], x)[0]
    else:
        y = layer(x) if isinstance(layer, nn.Conv2d) else layer(x)[0]
    return y


def pair(kind: str, backend: str = "wires", seed: int = 0, **options: Any) -> tuple[Any, Any]:
    """A sparse layer and a dense one that are drawn with one seed."""
    options = {"cost": CUT, "dtype": torch.float64} | options
    made = []
    for one in (backend, "dense"):
        torch.manual_seed(seed)
        made.append(MAKE[kind](backend=one, **options))
    return made[0], made[1]


def whole(layer: Plain, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Values of the parameters of a sparse layer, with an entry for each pair."""
    patterns = layer._patterns()
    return {name: patterns[name].scatter(v) if name in patterns else v for name, v in values.items()}


def same_values(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert_close(one[name], other[name], rtol=0, atol=0)


@kinds
def test_a_seed_draws_the_same_weights_for_every_backend(kind: str) -> None:
    torch.manual_seed(0)
    dense = MAKE[kind](backend="dense", cost=CUT)
    after = torch.rand(3)
    torch.manual_seed(0)
    sparse = MAKE[kind](backend="wires", cost=CUT)
    assert torch.equal(torch.rand(3), after)
    assert sparse._patterns()
    same_values(whole(sparse, dict(sparse.named_parameters())), dict(dense.named_parameters()))
    assert all(w.weight.shape[0] == len(w.pattern.targets) == len(w.prior) for w in sparse.wirings())
    for layer in (sparse, dense):
        torch.manual_seed(1)
        layer.reset_parameters()
    same_values(whole(sparse, dict(sparse.named_parameters())), dict(dense.named_parameters()))


@pytest.mark.parametrize(
    ("kind", "backend", "rescale", "dtype"),
    pairwise([*MAKE], ["windowed", "wires"], [False, True], [torch.float64, torch.float32]),
)
def test_outputs_and_gradients_are_those_of_the_dense_layer(
    kind: str, backend: str, rescale: bool, dtype: torch.dtype
) -> None:
    sparse, dense = pair(kind, backend, rescale=rescale, dtype=dtype)
    x = given(kind, dtype).requires_grad_()
    y, expected = output(sparse, x), output(dense, x)
    assert_close(y, expected)
    assert_close(output(lp.fold(sparse), x), expected)
    g = torch.randn_like(y)
    ours = torch.autograd.grad(y, [x, *sparse.parameters()], g)
    theirs = torch.autograd.grad(expected, [x, *dense.parameters()], g)
    assert_close(ours[0], theirs[0])
    names = [name for name, _ in sparse.named_parameters()]
    for a, b in zip(whole(sparse, dict(zip(names, ours[1:], strict=True))).values(), theirs[1:], strict=True):
        assert_close(a, b)
    with torch.no_grad():
        assert_close(output(sparse, x), expected)


@kinds
def test_every_backend_loads_the_state_of_every_other(kind: str, tmp_path: Path) -> None:
    sparse, dense = pair(kind)
    plain, ours = lp.fold(dense).state_dict(), sparse.state_dict()
    for assign in (False, True):
        there, back = pair(kind, seed=1)
        there.load_state_dict(dense.state_dict(), assign=assign)
        same_values(there.state_dict(), ours)
        back.load_state_dict(ours, assign=assign)
        same_values(back.state_dict(), dense.state_dict())
        model, _ = pair(kind, "windowed", seed=1)
        nn.Sequential(model).load_state_dict(nn.Sequential(sparse).state_dict(), assign=assign)
        same_values(model.state_dict(), ours)
        model.load_state_dict(plain, assign=assign)
        same_values(whole(model, model.state_dict()), plain)
    for saved in (sparse, dense):
        lp.save(saved, tmp_path / "layer.safetensors")
        found: Any = lp.load(tmp_path / "layer.safetensors")
        assert found.backend == saved.backend
        same_values(found.state_dict(), saved.state_dict())
        there, back = pair(kind, seed=1)
        for layer in (there, back):
            lp.load(tmp_path / "layer.safetensors", layer)
        same_values(there.state_dict(), ours)
        same_values(back.state_dict(), dense.state_dict())
    name = sparse.wirings()[0].name
    with pytest.raises(RuntimeError, match=f"size mismatch for {name}"):
        sparse.load_state_dict(ours | {name: ours[name][1:]})


@kinds
@pytest.mark.parametrize("rescale", [False, True])
def test_penalties_and_measures_are_those_of_the_dense_layer(kind: str, rescale: bool) -> None:
    sparse, dense = pair(kind, rescale=rescale)
    for measure in (
        lp.wiring_cost,
        lp.weight_l1,
        lp.mean_wire_length,
        lambda layer: lp.wiring_cost(layer, lp.cost.Sqrt()),
    ):
        ours, theirs = measure(sparse), measure(dense)
        assert_close(ours, theirs)
        ours.backward()
        theirs.backward()
        names = [w.name for w in sparse.wirings()]
        for name, grad in whole(sparse, {n: sparse.get_parameter(n).grad for n in names}).items():
            expected = dense.get_parameter(name).grad
            assert_close(grad, torch.where(grad == 0, 0, expected))  # a dense weight has a gradient without a wire
            sparse.get_parameter(name).grad = dense.get_parameter(name).grad = None


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM", "attention"])
def test_objectives_are_those_of_the_dense_layer(kind: str) -> None:
    """With inputs on the units' own sheet, which must not be taken for the units."""
    found = []
    for backend in ("wires", "dense"):
        torch.manual_seed(0)
        if kind == "attention":
            net = nn.Sequential(MAKE[kind](backend=backend, cost=CUT))
        else:
            net = nn.Sequential(RECURRENT[kind](12, 12, units=SHEET, cost=CUT, backend=backend))
        placed = lp.place(net, {"0": SHEET})
        made: list[Any] = [lp.objectives.Wiring(placed), lp.objectives.WeightSimilarity(placed)]
        made += [lp.objectives.TopoLoss(placed, factor=2), lp.objectives.Communicability(placed)]
        found.append(torch.stack([objective.value() for objective in made]))
    assert_close(*found)


@kinds
def test_the_cost_may_change_where_the_wires_stay(kind: str) -> None:
    sparse, dense = pair(kind)
    x = given(kind)
    for cost in (lp.cost.Linear(2).within(1.5), lp.cost.Sqrt().within(1.5)):
        sparse.cost = dense.cost = cost
        assert_close(output(sparse, x), output(dense, x))
    for other in (lp.cost.Linear().within(1), lp.cost.Linear().within(3), "linear"):
        with pytest.raises(ValueError, match=r"cost: got .* which has other wires"):
            sparse.cost = other
    assert_close(output(sparse, x), output(dense, x))
    before = output(sparse, x)
    with sparse.perturbed():
        assert not torch.allclose(output(sparse, x), before)
    assert torch.equal(output(sparse, x), before)


@kinds
def test_copies_pickles_dtypes_and_devices(kind: str) -> None:
    sparse, dense = pair(kind)
    x = given(kind)
    buffer = io.BytesIO()
    torch.save(sparse, buffer)
    buffer.seek(0)
    for layer in (copy.deepcopy(sparse), torch.load(buffer, weights_only=False)):
        assert_close(output(layer, x), output(dense, x))
    assert_close(output(sparse.float(), x.float()), output(dense.float(), x.float()))
    meta = MAKE[kind](cost=CUT, backend="wires", device="meta")
    assert output(meta, given(kind, torch.float32).to("meta")).shape == output(sparse, x.float()).shape
    there = meta.to_empty(device="cpu")
    there.load_state_dict(dense.state_dict())
    assert_close(output(there, x.float()), output(dense, x.float()))


def test_weights_that_cannot_be_drawn_anew_stay() -> None:
    """Torch draws only matrices, so it cannot draw the wires of a weight that a parametrisation computes."""
    sparse, dense = pair("attention")
    x = given("attention")
    for layer in (sparse, dense):
        prune.l1_unstructured(layer, "in_proj_weight", 0.3)
    dense.reset_parameters()
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        sparse.reset_parameters()
    assert sparse.out_proj.weight.dim() == 1
    assert output(sparse, x).shape == output(dense, x).shape


@kinds
def test_a_cost_without_an_end_is_refused(kind: str) -> None:
    for backend in ("windowed", "wires"):
        with pytest.raises(ValueError, match=rf"backend: got '{backend}' with cost Linear\(\), expected a cost"):
            MAKE[kind](backend=backend)
    with pytest.raises(ValueError, match="backend: got fast, expected one of auto, dense, windowed, wires"):
        MAKE[kind](backend="fast", cost=CUT)


@kinds
def test_folding_what_is_too_large_takes_a_word(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse, _ = pair(kind)
    x = given(kind)
    monkeypatch.setattr("locality_prior.layers.base.DENSE", 100)
    with pytest.raises(ValueError, match=r"dense: got False for .* weights, expected at most 100 of them"):
        lp.fold(sparse)
    assert_close(output(lp.fold(sparse, dense=True), x), output(sparse, x))


# Recurrence

RECURRENT: dict[str, Any] = {"RNN": lp.LocalityRNN, "GRU": lp.LocalityGRU, "LSTM": lp.LocalityLSTM}


def flat(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [t for part in output if part is not None for t in flat(part)]


def networks(kind: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    """A sparse and a dense network with the same weights."""
    sparse, dense = (
        RECURRENT[kind](5, 12, *args, units=SHEET, cost=CUT, backend=backend, **{"dtype": torch.float64} | options)
        for backend in ("wires", "dense")
    )
    sparse.load_state_dict(dense.state_dict())
    return sparse, dense


@pytest.mark.parametrize(
    ("kind", "batch_first", "bias", "bidirectional"),
    pairwise([*RECURRENT], [False, True], [False, True], [False, True]),
)
def test_recurrence(kind: str, batch_first: bool, bias: bool, bidirectional: bool) -> None:
    """Layers, dropout, sequences of different lengths, states or none, with a batch or without."""
    sparse, dense = networks(kind, 2, bias=bias, batch_first=batch_first, dropout=0.3, bidirectional=bidirectional)
    x = torch.randn(5, 4, 5, dtype=torch.float64, requires_grad=True)
    batch = 5 if batch_first else 4
    h = torch.randn(2 * (1 + bidirectional), batch, 12, dtype=torch.float64, requires_grad=True)
    states = (h, h + 1) if kind == "LSTM" else h
    one = tuple(s[:, 0] for s in states) if kind == "LSTM" else h[:, 0]
    lengths = torch.tensor([2, 3, 1, 4, 2])[:batch]
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
    for inputs in ((x,), (x, states), (packed, states), (x[0], one)):
        found = []
        for layer in (sparse, dense):
            torch.manual_seed(1)
            outputs = [y for y in flat(layer(*inputs)) if y.is_floating_point()]
            # every output has a weight of its own, so that none can stand for another
            loss = torch.stack([(y * torch.arange(y.numel()).view_as(y)).sum() for y in outputs]).sum()
            wanted = [x, h, *layer.parameters()]
            found.append((outputs, torch.autograd.grad(loss, wanted, retain_graph=True, materialize_grads=True)))
        (ours, grads), (theirs, expected) = found
        assert [y.stride() for y in ours] == [y.stride() for y in theirs]
        assert_close(ours, theirs)
        assert_close(grads[:2], expected[:2])
        names = [name for name, _ in sparse.named_parameters()]
        assert_close([*whole(sparse, dict(zip(names, grads[2:], strict=True))).values()], [*expected[2:]])


@pytest.mark.parametrize("kind", RECURRENT)
def test_gradcheck(kind: str) -> None:
    sheet = lp.Grid(1, 3)
    layer = RECURRENT[kind](
        2, 3, bidirectional=True, units=sheet, cost="linear@1", backend="wires", dtype=torch.float64
    )
    names = [name for name, _ in layer.named_parameters()]
    x, h = torch.randn(2, 2, 2, dtype=torch.float64), torch.randn(2, 2, 3, dtype=torch.float64)

    def f(x: Tensor, h: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        state = (h, 2 * h) if kind == "LSTM" else h
        return tuple(flat(torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x, state))))

    given = (x.requires_grad_(), h.requires_grad_(), *layer.parameters())
    assert torch.autograd.gradcheck(f, given, fast_mode=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, given, fast_mode=True)


@pytest.mark.filterwarnings("ignore:`torch.jit.", "ignore::torch.jit.TracerWarning", "ignore:The .grad attribute")
@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrence_in_transformed_code(kind: str) -> None:
    sparse, dense = networks(kind)
    xs = torch.randn(3, 4, 2, 5, dtype=torch.float64)
    assert_close(torch.func.vmap(lambda x: sparse(x)[0])(xs), torch.stack([dense(x)[0] for x in xs]))

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(sparse, parameters, (x,))[0].square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(dict(sparse.named_parameters()), xs)
    for k, x in enumerate(xs):
        expected = torch.autograd.grad(dense(x)[0].square().sum(), [*dense.parameters()])
        assert_close([*whole(sparse, {name: g[k] for name, g in each.items()}).values()], [*expected])
    traced = torch.jit.trace(sparse, (xs[0],))  # type: ignore[no-untyped-call]
    assert_close(traced(xs[1])[0], dense(xs[1])[0])
    if kind == "LSTM":
        assert_close(torch.compile(sparse, backend="eager")(xs[1])[0], dense(xs[1])[0])


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrence_under_autocast(kind: str) -> None:
    sparse, dense = (
        RECURRENT[kind](5, 12, units=SHEET, cost=CUT, backend=backend) for backend in ("windowed", "dense")
    )
    sparse.load_state_dict(dense.state_dict())
    x = torch.randn(7, 3, 5)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = flat(sparse(x)), flat(dense(x))
    assert [y.dtype for y in ours] == [y.dtype for y in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a.float(), b.float(), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", RECURRENT)
def test_hazards_of_recurrence(kind: str) -> None:
    sparse, dense = networks(kind)
    x, other = (torch.randn(4, n, 5, dtype=torch.float64, requires_grad=True) for n in (2, 3))
    # two forwards before a backward, one backward after another, and an output that is changed in place
    grads = []
    for layer in (sparse, dense):
        y = nn.functional.relu(layer(x)[0], inplace=True)
        layer(other)
        grads.append([torch.autograd.grad(y.sum(), x, retain_graph=True), torch.autograd.grad(y.sum(), x)])
    assert_close(*grads)
    y = sparse(x)[0]
    with torch.no_grad():
        sparse.weight_hh_l0.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_state_that_comes_in_again_is_not_counted_twice(kind: str) -> None:
    """A gradient that can itself be differentiated, where a state depends on the weights and the biases are one."""
    layer, _ = networks(kind)
    layer.bias_hh_l0 = layer.bias_ih_l0
    x = torch.randn(3, 2, 5, dtype=torch.float64)
    loss = layer(x, layer(x)[1])[0].square().sum()
    wanted = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0]
    expected = torch.autograd.grad(loss, wanted, retain_graph=True)
    assert_close(torch.autograd.grad(loss, wanted, create_graph=True), expected)


@pytest.mark.parametrize("kind", RECURRENT)
def test_a_batch_of_nothing(kind: str) -> None:
    for layer in networks(kind, 2, bidirectional=True):
        y, state = layer(torch.randn(4, 0, 5, dtype=torch.float64))
        assert y.shape == (4, 0, 24)
        assert {h.shape for h in flat(state)} == {(4, 0, 12)}


@pytest.mark.parametrize("kind", RECURRENT)
def test_what_does_not_fit_the_wires_is_told(kind: str) -> None:
    layer, dense = networks(kind)
    x = torch.randn(4, 2, 5, dtype=torch.float64)
    for name, value in (
        ("weight_ih", layer.weight_ih_l0[:1]),
        ("weight_hh", layer.weight_hh_l0[1:]),
        ("weight_hh", layer.weight_hh_l0.float()),
        ("weight_hh", dense.weight_hh_l0),
        ("bias_ih", layer.bias_ih_l0[:1]),
        ("bias_hh", layer.bias_hh_l0[1:]),
        ("bias_hh", layer.bias_hh_l0.to("meta")),
    ):
        with pytest.raises(ValueError, match=f"{name}: got .* like the input"):
            torch.func.functional_call(layer, {f"{name}_l0": value.detach()}, (x,))
    with pytest.raises(ValueError, match=r"h: got .* on meta, expected \(2, 12\), torch.float64 on cpu"):
        layer(x, dense.to("meta")(x.to("meta"))[1])


@pytest.mark.parametrize("backend", ["windowed", "wires"])
def test_autograd_holds_what_the_steps_leave(backend: str) -> None:
    """A backward pass then frees it, and checkpointing and hooks of saved tensors save its memory."""
    layer = lp.LocalityLSTM(5, 12, units=SHEET, cost=CUT, backend=backend, dtype=torch.float64)
    x, saved = torch.randn(4, 2, 5, dtype=torch.float64), []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor.clone()

    (expected,) = torch.autograd.grad(layer(x)[0].sum(), layer.weight_hh_l0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y, _ = layer(x)
    assert sum(saved) > len(x) * 2 * 12 * (4 + 2)  # gates and states
    y = y + checkpoint(lambda x: layer(x)[0], x, use_reentrant=False)
    (found,) = torch.autograd.grad(y.sum(), layer.weight_hh_l0)
    assert_close(found, 2 * expected)


@pytest.mark.parametrize("backend", ["windowed", "wires"])
def test_a_thread_that_computes_at_the_same_time(backend: str) -> None:
    layer = lp.LocalityGRU(5, 12, units=SHEET, cost=CUT, backend=backend, dtype=torch.float64)
    x, other = (torch.randn(4, 2, 5, dtype=torch.float64) for _ in range(2))
    (expected,) = torch.autograd.grad(layer(x)[0].sum(), layer.weight_hh_l0)
    layer = copy.deepcopy(layer)
    with layer._spreads["weight_hh_l0"].workspace():  # held, as if by another thread
        y, _ = layer(x)
    layer(other)
    (found,) = torch.autograd.grad(y.sum(), layer.weight_hh_l0)
    assert_close(found, expected)


def test_auto_takes_the_wires_of_large_layers_that_have_few() -> None:
    def made(kind: str, side: int, cost: str) -> Any:
        sheet = lp.Grid(side, side)
        return RECURRENT[kind](3, len(sheet), units=sheet, cost=cost, device="meta")

    assert "backend='auto' (wires" in repr(made("LSTM", 32, "linear@3").to_empty(device="cpu"))
    for kind, smallest in (("RNN", 23), ("GRU", 23), ("LSTM", 32)):
        assert made(kind, smallest, "linear@3")._patterns()
        assert not made(kind, smallest - 1, "linear@3")._patterns()
        assert not made(kind, 32, "linear@8")._patterns()
        assert not made(kind, 32, "linear")._patterns()


@pytest.mark.parametrize("backend", ["auto", "wires"])
def test_wires_are_looked_for_once(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    wires = Prior.wires
    monkeypatch.setattr(Prior, "wires", lambda self: asked.append(self) or wires(self))
    sheet = lp.Grid(32, 32)
    layers = [
        lp.LocalityLinear(1024, 1024, source=sheet, cost="linear@2", backend=backend),
        lp.LocalityGRU(5, 1024, units=sheet, cost="linear@2", backend=backend),
        lp.LocalityConv2d(1024, 1024, 1, source=sheet, cost="linear@2", backend=backend),
    ]
    assert all(wiring.sparse for layer in layers for wiring in layer.wirings())
    assert len(asked) == len(layers)
