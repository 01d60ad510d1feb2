"""Attention as torch computes it, in every option, with matrices and wire by wire."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from reference import named, sampled
from torch import Tensor, nn
from torch.testing import assert_close

import locality_prior as lp

LENGTH, KEYS, BATCH, HEADS, SIZE = 4, 5, 3, 2, 6
BACKENDS = ("dense", "windowed", "wires")
#: What a constructor is given.
MADE: dict[str, dict[str, Any]] = {
    "plain": {},
    "no bias": {"bias": False},
    "bias_kv": {"add_bias_kv": True},
    "zero_attn": {"add_zero_attn": True},
    "both added": {"add_bias_kv": True, "add_zero_attn": True},
    "other keys": {"kdim": 4},
    "other values": {"vdim": 9, "bias": False, "add_bias_kv": True},
    "dropout": {"dropout": 0.4},
}
#: Which of query, key and value are one tensor: all of them, key and value, or none.
GIVEN = ("self", "memory", "apart")
MASKS = ("none", "boolean", "additive", "boolean of each", "additive of each", "causal", "all of a row")
PADDINGS = ("none", "boolean", "additive", "all")
LAYOUTS = ("batch first", "time first", "no batch")
ASKED = ("weights", "of each head", "output alone")
ROWS = sampled(list(MADE), list(MASKS), list(PADDINGS), list(BACKENDS), list(ASKED), few=[GIVEN, LAYOUTS])


def mask_of(kind: str, batch: int, queries: int, keys: int) -> Tensor | None:
    forbidden = torch.rand(batch * HEADS, queries, keys) < 0.3
    forbidden[..., 0] = False  # every query sees the first key
    added = torch.randn(batch * HEADS, queries, keys, dtype=torch.float64)
    causal = torch.ones(queries, keys, dtype=torch.bool).triu(1)
    row = torch.zeros(queries, keys, dtype=torch.bool)
    row[1] = True
    return {
        "none": None,
        "boolean": forbidden[0],
        "additive": added[0].masked_fill(forbidden[0], -math.inf),
        "boolean of each": forbidden,
        "additive of each": added,
        "causal": causal,
        "all of a row": row,
    }[kind]


def padding_of(kind: str, batch: int, keys: int) -> Tensor | None:
    padded = torch.arange(keys) >= torch.randint(1, keys + 1, (batch, 1))
    if kind == "all":
        padded[0] = True
    return {"none": None, "additive": torch.randn(batch, keys, dtype=torch.float64)}.get(kind, padded)


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")
@pytest.mark.parametrize(("made", "mask", "padding", "backend", "asked", "given", "layout"), ROWS, ids=named(ROWS))
def test_as_torchs_own(made: str, mask: str, padding: str, backend: str, asked: str, given: str, layout: str) -> None:
    """In outputs, weights and every gradient, with NaN where a query may see nothing; as many numbers are drawn."""
    options = MADE[made] | {"batch_first": layout == "batch first", "dtype": torch.float64}
    layer = lp.LocalityMultiheadAttention(SIZE, HEADS, units=lp.Grid(2, 3), cost="linear@1", backend=backend, **options)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    plain = lp.fold(layer)
    assert type(plain) is nn.MultiheadAttention
    keys, batch = LENGTH if given == "self" else KEYS, 1 if layout == "no batch" else BATCH

    def sequence(length: int, features: int) -> Tensor:
        shape = {"batch first": (batch, length), "time first": (length, batch), "no batch": (length,)}[layout]
        return torch.randn(*shape, features, dtype=torch.float64, requires_grad=True)

    x = [sequence(LENGTH, SIZE), sequence(keys, layer.kdim), sequence(keys, layer.vdim)]
    if given != "apart":  # one tensor where the sizes allow it
        x[2] = x[1] if layer.kdim == layer.vdim else x[2]
        x[1:] = [x[0]] * 2 if given == "self" and layer.kdim == layer.vdim == SIZE else x[1:]
    attn_mask, padded = mask_of(mask, batch, LENGTH, keys), padding_of(padding, batch, keys)
    call = {
        "attn_mask": attn_mask,
        "key_padding_mask": padded[0] if padded is not None and layout == "no batch" else padded,
        "is_causal": mask == "causal",
        "need_weights": asked != "output alone",
        "average_attn_weights": asked == "weights",
    }
    found = []
    for net in (layer, plain):
        torch.manual_seed(1)
        y, weights = net(*x, **call)
        leaves = dict(enumerate(dict.fromkeys(x))) | dict(net.named_parameters())
        loss = (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).nansum()
        loss = loss if weights is None else loss + weights.square().nansum()
        grads = dict(zip(leaves, torch.autograd.grad(loss, [*leaves.values()]), strict=True))
        if net is plain:  # W's gradient is P∘ that of V
            for w in layer.wirings():
                grads[w.name] = w.prior * (grads[w.name] if w.pattern is None else w.pattern.gather(grads[w.name]))
        found.append((y, weights, grads, torch.rand(1)))
    assert_close(found[0], found[1], rtol=1e-12, atol=1e-12, equal_nan=True)


def by_wires(backend: str = "wires", **options: Any) -> lp.LocalityMultiheadAttention:
    return lp.LocalityMultiheadAttention(
        SIZE, HEADS, batch_first=True, units=lp.Grid(2, 3), cost="linear@1", backend=backend, **options
    )


def test_auto_takes_the_wires_where_they_are_quicker() -> None:
    for units, cost, shape in (
        (256, "linear@3", (18_924,)),
        (240, "linear@3", (720, 240)),
        (256, "linear@9", (768, 256)),
    ):
        layer = lp.LocalityMultiheadAttention(units, 2, cost=cost)
        assert layer.in_proj_weight.shape == shape
        assert layer.out_proj.weight.dim() == len(shape)
        assert layer.backend == "auto"
        assert ("backend='auto' (wires" in repr(layer)) == (len(shape) == 1)


def test_an_encoder_calls_it() -> None:
    """Also where torch's own encoder layer would take its fast path, which reads the weights as matrices."""
    encoder = nn.TransformerEncoderLayer(SIZE, HEADS, 8, batch_first=True).eval()
    encoder.self_attn = by_wires().eval()
    x = torch.randn(2, 5, SIZE)
    with torch.no_grad():
        y = encoder(x)
        assert_close(y, encoder(x.clone().requires_grad_()))
        assert_close(y, lp.fold(encoder)(x))


@pytest.mark.parametrize("given", ["self", "apart"])
def test_transformed(given: str) -> None:
    """Compiled, under autocast, for each sample's gradients, and on the meta device."""
    layer = by_wires("windowed", positions=lp.Line(5))  # this backend has 16-bit products
    x, memory = torch.randn(3, 5, SIZE), torch.randn(3, 4, SIZE)
    parameters = dict(layer.named_parameters())

    def run(parameters: dict[str, Tensor], x: Tensor, memory: Tensor) -> Tensor:
        y: Tensor
        y, _ = torch.func.functional_call(layer, parameters, (x, *((x, x) if given == "self" else (memory, memory))))
        return y

    expected = run(parameters, x, memory)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    assert_close(compiled(x, *((x, x) if given == "self" else (memory, memory)))[0], expected)
    each = torch.func.vmap(torch.func.grad(lambda *args: run(*args).sum()), (None, 0, 0))(parameters, x, memory)
    grads = torch.autograd.grad(expected.sum(), list(parameters.values()))
    assert_close([g.sum(0) for g in each.values()], list(grads))
    with torch.autocast("cpu", torch.bfloat16):
        y = run(parameters, x, memory)
    assert y.dtype == torch.bfloat16
    assert_close(y.float(), expected, rtol=0.05, atol=0.05)
    there = by_wires(device="meta")
    assert there(*[x.to("meta")] * 3)[0].shape == x.shape


@pytest.mark.parametrize("options", [{}, {"kdim": 4}])
def test_localized(options: dict[str, Any]) -> None:
    """The model's function is kept where every pair has a wire: W = V / P on the wires."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(SIZE, HEADS, dtype=torch.float64, **options)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.attention(x, x[..., : self.attention.kdim] if options else x, x)[0]
            return y

    net, x = Net(), torch.randn(5, 3, SIZE, dtype=torch.float64)
    expected = net(x)
    with pytest.warns(UserWarning, match="weight decay"):
        lp.localize(net, {"attention": {"units": lp.Grid(2, 3), "backend": "wires"}}, cost="linear@9")
    assert isinstance(net.attention, lp.LocalityMultiheadAttention)
    assert net.attention.out_proj.weight.shape == (SIZE * SIZE,)
    assert_close(net(x), expected, rtol=1e-12, atol=1e-12)
