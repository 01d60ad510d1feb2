"""Convolution, recurrence and attention: each against its slow reference, values and gradients, and as torch's own."""

from __future__ import annotations

import copy
import itertools
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from reference import COSTS, Matrix, named, sampled
from torch import Tensor, nn
from torch.testing import assert_close

import locality_prior as lp
from locality_prior._check import Told
from locality_prior.layers import Locality
from locality_prior.layers.base import arguments

RECURRENT: dict[str, Any] = {"RNN": lp.LocalityRNN, "GRU": lp.LocalityGRU, "LSTM": lp.LocalityLSTM}
SHEET = reference.grid((2, 3), (2, 3))
#: A geometry for six units, and the reference's distances on it.
PLACES: dict[str, tuple[lp.Geometry, Matrix]] = {
    "sheet": (lp.Grid(2, 3), SHEET),
    "ring": (lp.Line(6, periodic=True), reference.grid((6,), (6,), periodic=(True,))),
    "hexagons": (lp.HexGrid(2, 3), reference.between(reference.hexagonal(2, 3), reference.hexagonal(2, 3), math.dist)),
}


def tensor(matrix: Matrix) -> Tensor:
    return torch.tensor(matrix, dtype=torch.float64)


def both_ways(layer: Locality, ours: Tensor, theirs: Tensor, inputs: Tensor, effective: dict[str, Tensor]) -> None:
    """Equal outputs; and equal gradients of inputs and of every parameter, W's being P∘ those of V."""
    assert_close(ours, theirs)
    g = torch.randn_like(ours)
    names = list(dict(layer.named_parameters()))
    got = torch.autograd.grad(ours, [inputs, *layer.parameters()], g)
    expected = torch.autograd.grad(theirs, [inputs, *[effective[name] for name in names]], g)
    priors = {w.name: w.prior for w in layer.wirings()}
    assert_close(got[0], expected[0])
    for name, mine, other in zip(names, got[1:], expected[1:], strict=True):
        assert_close(mine, other * priors[name] if name in priors else other)


def effective_weights(layer: Locality, p: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every parameter as the reference multiplies by it: P∘W, of the reference's P, as a leaf."""
    return {name: (w.detach() * p.get(name, torch.ones(()))).requires_grad_() for name, w in layer.named_parameters()}


CONDITIONS = {
    **{name: (*PLACES["sheet"], *cost) for name, cost in COSTS.items()},
    **{name: (*place, lp.cost.Linear(), lambda d: 1 + d) for name, place in PLACES.items()},
}
# Each condition meets each kind of layer; rescaling, the kind of recurrence and positions take turns in a fixed sample.
CONVOLUTIONS = sampled(list(CONDITIONS), [False, True])
RECURRENCES = sampled(list(CONDITIONS), ["RNN", "RELU", "GRU", "LSTM"], few=([False, True],))
ATTENTIONS = sampled(list(CONDITIONS), [False, True], seed=1)


# Convolution


@pytest.mark.parametrize(("condition", "rescale"), CONVOLUTIONS, ids=named(CONVOLUTIONS))
def test_convolution(condition: str, rescale: bool) -> None:
    geometry, distances, cost, price = CONDITIONS[condition]
    layer = lp.LocalityConv2d(6, 6, 3, 2, 1, source=geometry, cost=cost, rescale=rescale, dtype=torch.float64)
    p = tensor(reference.prior(distances, price, rescale))[:, :, None, None]
    v = effective_weights(layer, {"weight": p})
    x = torch.randn(2, 6, 5, 4, dtype=torch.float64, requires_grad=True)
    both_ways(layer, layer(x), reference.convolution(x, v["weight"], v["bias"], 2, 1, 1), x, v)
    assert_close(layer.effective_weight, v["weight"])


@pytest.mark.parametrize(("sources", "targets", "groups"), [(6, 4, 2), (6, 6, 6), (4, 8, 4), (6, 3, 3)])
def test_convolution_in_groups(sources: int, targets: int, groups: int) -> None:
    layer = lp.LocalityConv2d(sources, targets, 3, padding=1, groups=groups, dtype=torch.float64)
    whole = 1 / (1 + layer.target.distances(layer.source))
    inside, out = sources // groups, targets // groups
    p = torch.stack([whole[i, i // out * inside : i // out * inside + inside] for i in range(targets)])[..., None, None]
    v = effective_weights(layer, {"weight": p})
    x = torch.randn(2, sources, 4, 4, dtype=torch.float64, requires_grad=True)
    both_ways(layer, layer(x), reference.convolution(x, v["weight"], v["bias"], 1, 1, groups), x, v)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_convolution_takes_what_torchs_takes(mode: Any) -> None:
    options: dict[str, Any] = {"padding": "same", "dilation": 2, "padding_mode": mode, "bias": False}
    layer = lp.LocalityConv2d(4, 6, (3, 1), **options)
    plain = lp.fold(layer)
    assert type(plain) is nn.Conv2d
    assert (plain.padding, plain.padding_mode, plain.dilation, plain.bias) == ("same", mode, (2, 2), None)
    x = torch.randn(2, 4, 7, 7)
    assert_close(layer(x), plain(x), rtol=0, atol=0)
    assert_close(layer(x[0]), plain(x[0]), rtol=0, atol=0)  # without a batch


# Recurrence


@pytest.mark.parametrize(("condition", "kind", "rescale"), RECURRENCES, ids=named(RECURRENCES))
def test_recurrence(condition: str, kind: str, rescale: bool) -> None:
    geometry, distances, cost, price = CONDITIONS[condition]
    more = {"nonlinearity": "relu"} if kind == "RELU" else {}
    layer = RECURRENT.get(kind, lp.LocalityRNN)(
        3, 6, units=geometry, cost=cost, rescale=rescale, dtype=torch.float64, **more
    )
    gates = len(layer.weight_hh_l0) // 6
    p = tensor(reference.prior(distances, price, rescale) * gates)
    v = effective_weights(layer, {"weight_hh_l0": p})
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    states = [torch.randn(1, 2, 6, dtype=torch.float64) for _ in range(2 if kind == "LSTM" else 1)]
    y, last = layer(x, tuple(states) if kind == "LSTM" else states[0])
    theirs, *ends = reference.recurrence(
        kind, x, [h[0] for h in states], [v[f"{n}_l0"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    )
    for mine, other in zip(last if kind == "LSTM" else (last,), ends, strict=True):
        assert_close(mine[0], other)
    both_ways(layer, y, theirs, x, v)


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_recurrence_takes_what_torchs_takes(kind: str, batch_first: bool, bias: bool) -> None:
    """Layers, directions, dropout, sequences of different lengths, states or none, with a batch or without."""
    layer = RECURRENT[kind](
        3, 6, 2, bias=bias, batch_first=batch_first, dropout=0.3, bidirectional=True, cost=lp.cost.Linear().within(1)
    )
    plain = lp.fold(layer)
    assert type(plain) is getattr(nn, kind)
    x = torch.randn(5, 4, 3)
    batch = 5 if batch_first else 4
    h: Any = torch.randn(4, batch, 6)
    h = (h, torch.randn(4, batch, 6)) if kind == "LSTM" else h
    lengths = torch.tensor([2, 3, 1, 3, 2])[:batch]
    packed = nn.utils.rnn.pack_padded_sequence(
        x if batch_first else x.transpose(0, 1)[:, :batch].transpose(0, 1), lengths[: x.shape[0 if batch_first else 1]],
        batch_first=batch_first, enforce_sorted=False,
    )  # fmt: skip
    one = tuple(s[:, 0] for s in h) if kind == "LSTM" else h[:, 0]
    for given in ((x,), (x, h), (packed,), (packed, h), (x[0],), (x[0], one)):
        torch.manual_seed(1)
        mine = flat(layer(*given))
        torch.manual_seed(1)
        theirs = flat(plain(*given))
        for a, b in zip(mine, theirs, strict=True):
            assert_close(a, b, rtol=0, atol=0)


def flat(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [t for part in output if part is not None for t in flat(part)]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: lp.LocalityLSTM(3, 6, proj_size=2), "proj_size: got"),
        (lambda: lp.LocalityGRU(3, 6, units=lp.Grid(2, 2)), "units"),
        (lambda: lp.LocalityGRU(3, 6)(torch.randn(2, 2, 4)), "input: got 4 features, expected 3"),
        (lambda: lp.LocalityGRU(3, 6)(torch.randn(3)), "input: got shape (3,)"),
        (lambda: lp.LocalityGRU(3, 6)(torch.randn(2, 2, 3), torch.randn(1, 3, 6)), "hx: got shape (1, 3, 6)"),
        (lambda: lp.LocalityLSTM(3, 6)(torch.randn(2, 2, 3), torch.randn(1, 2, 6)),
         "hx: got Tensor, expected a tuple of tensors, (h, c)"),
        (lambda: lp.LocalityRNN(3, 6)(torch.randn(2, 2, 3).double()), "input: got dtype torch.float64"),
        (lambda: lp.LocalityConv2d(6, 6, 3, target=lp.Grid(2, 2)), "target: got Grid(2, 2) of 4 units, expected 6"),
        (lambda: lp.LocalityConv2d(6, 6, 3, groups=2, rescale=True), "rescale: got True with groups=2"),
        (lambda: lp.LocalityConv2d(4, 4, 3, groups=2, source=lp.Line(4), target=lp.Points([[3.0], [2], [1], [0]]),
                                   cost=lp.cost.Linear().within(1)), "groups: got 2"),
        (lambda: lp.LocalityMultiheadAttention(6, 2, slopes=[1, 2]), "positions: got None"),
        (lambda: lp.LocalityMultiheadAttention(6, 2, positions=lp.Line(3), slopes=[1]), "slopes: got 1 of them"),
        (lambda: lp.LocalityMultiheadAttention(6, 2, positions=lp.Line(3), slopes=[1, -1]), "slopes: got -1"),
        (lambda: attend(lp.LocalityMultiheadAttention(6, 2, positions=lp.Line(3)), torch.randn(4, 2, 6)),
         "query: got 4 positions, expected at most 3, which have places"),
        (lambda: attend(lp.LocalityMultiheadAttention(6, 2), torch.randn(4, 2, 6), is_causal=True),
         "attn_mask: got None"),
    ],
)  # fmt: skip
def test_bad_input_is_named_in_one_line(call: Callable[[], object], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(said)) as error:
        call()
    assert "\n" not in str(error.value)


# Attention


def attend(layer: nn.Module, x: Tensor, **options: Any) -> Tensor:
    y: Tensor = layer(x, x, x, **options)[0]
    return y


@pytest.mark.parametrize(("condition", "places"), ATTENTIONS, ids=named(ATTENTIONS))
def test_attention(condition: str, places: bool) -> None:
    """Over units in the projections and, with the same cost, over positions."""
    geometry, distances, cost, price = CONDITIONS[condition]
    more: dict[str, Any] = {"positions": geometry, "position_cost": cost, "slopes": (0.7, 0.2)} if places else {}
    layer = lp.LocalityMultiheadAttention(6, 2, units=geometry, cost=cost, dtype=torch.float64, **more)
    nn.init.normal_(layer.in_proj_bias)
    one = reference.prior(distances, price)
    p = {"in_proj_weight": tensor(one * 3), "out_proj.weight": tensor(one)}
    v = effective_weights(layer, p)
    x = torch.randn(6, 6, dtype=torch.float64, requires_grad=True)
    q, k, val = (x @ v["in_proj_weight"].t() + v["in_proj_bias"]).chunk(3, 1)
    charge = [[price(d) - 1 for d in row] for row in distances] if places else None
    theirs = reference.attention(q, k, val, 2, charge, (0.7, 0.2)) @ v["out_proj.weight"].t() + v["out_proj.bias"]
    both_ways(layer, attend(layer, x), theirs, x, v)


def test_alibi_is_the_linear_case_on_a_line() -> None:
    """Press, Smith & Lewis 2022: logits less m_h |i − j|, with m = 2^−1 … 2^−8 for eight heads."""
    layer = lp.LocalityMultiheadAttention(16, 8, cost=lp.cost.Flat(), positions=lp.Line(9), dtype=torch.float64)
    plain = nn.MultiheadAttention(16, 8, dtype=torch.float64)
    plain.load_state_dict(layer.state_dict())
    i = torch.arange(7)
    slopes = torch.tensor([2.0**-h for h in range(1, 9)], dtype=torch.float64)
    alibi = -slopes[:, None, None] * (i[:, None] - i).abs()
    x = torch.randn(7, 3, 16, dtype=torch.float64)
    for mask in (None, torch.ones(7, 7, dtype=torch.bool).triu(1)):  # all, or causal, as ALiBi is used
        given = alibi if mask is None else alibi.masked_fill(mask, -math.inf)
        mine = layer(x, x, x, attn_mask=mask, average_attn_weights=False)
        theirs = plain(x, x, x, attn_mask=given.repeat(3, 1, 1), average_attn_weights=False)
        for a, b in zip(mine, theirs, strict=True):
            assert_close(a, b)
    scaled = lp.LocalityMultiheadAttention(
        16, 8, cost=lp.cost.Flat(), positions=lp.Line(9), position_cost=lp.cost.Linear(4.0), dtype=torch.float64
    )
    scaled.load_state_dict(layer.state_dict())
    assert not torch.allclose(attend(scaled, x), attend(layer, x))


def test_positions_beyond_the_cost_do_not_attend() -> None:
    layer = lp.LocalityMultiheadAttention(
        4, 2, positions=lp.Grid(3, 3), position_cost=lp.cost.Linear().within(1), batch_first=True
    )
    x = torch.randn(2, 9, 4)
    _, weights = layer(x, x, x)
    apart = lp.Grid(3, 3).distances()
    assert (weights[:, apart > 1] == 0).all()
    assert (weights[:, apart <= 1] > 0).all()


MASKS: dict[str, dict[str, Tensor]] = {
    "none": {},
    "boolean": {"attn_mask": torch.ones(5, 5, dtype=torch.bool).triu(1)},
    "additive": {"attn_mask": torch.randn(5, 5)},
    "each of the batch": {"attn_mask": torch.randn(6, 5, 5)},
    "padding": {"key_padding_mask": torch.tensor([[False] * 4 + [True]] * 3)},
    "both": {
        "attn_mask": torch.ones(5, 5, dtype=torch.bool).triu(1),
        "key_padding_mask": torch.tensor([[False] * 4 + [True]] * 3),
    },
}


MORE: list[dict[str, Any]] = [{}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"bias": False}]
OPTIONS = sampled(list(itertools.product(MASKS, MORE)), list(itertools.product([False, True], [False, True])))


@pytest.mark.parametrize(("what", "how"), OPTIONS, ids=named(OPTIONS))
def test_attention_takes_what_torchs_takes(what: tuple[str, dict[str, Any]], how: tuple[bool, bool]) -> None:
    (mask, more), (batch_first, places) = what, how
    layer = lp.LocalityMultiheadAttention(
        8, 2, batch_first=batch_first, positions=lp.Line(5) if places else None, **more
    ).eval()
    plain = lp.fold(layer)
    assert type(plain) is nn.MultiheadAttention
    x = torch.randn((3, 5, 8) if batch_first else (5, 3, 8))
    for weights in (True, False):
        mine, theirs = (net(x, x, x, need_weights=weights, **MASKS[mask]) for net in (layer, plain))
        for a, b in zip(flat(mine), flat(theirs), strict=True):
            assert_close(a, b)
    with torch.no_grad():  # where torch's own has a fast path
        assert_close(attend(layer, x, **MASKS[mask]), attend(plain, x, **MASKS[mask]))


def test_attention_to_keys_of_other_sizes() -> None:
    layer = lp.LocalityMultiheadAttention(8, 2, kdim=5, vdim=7, positions=lp.Line(6), batch_first=True)
    plain = lp.fold(layer)
    q, k, v = torch.randn(2, 4, 8), torch.randn(2, 6, 5), torch.randn(2, 6, 7)
    for a, b in zip(layer(q, k, v), plain(q, k, v), strict=True):
        assert_close(a, b)
    assert_close(plain.k_proj_weight, layer.effective("k_proj_weight"), rtol=0, atol=0)
    assert [w.rule.shape for w in layer.wirings()] == [(8, 8), (8, 5), (8, 7), (8, 8)]


@pytest.mark.parametrize("grad", [False, True])
def test_an_encoder_layer_calls_it(grad: bool) -> None:
    """torch's encoder layer has a fast path that reads an attention's weights and calls nothing."""
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    encoder.self_attn = lp.LocalityMultiheadAttention(8, 2, batch_first=True).eval()
    x = torch.randn(2, 5, 8)
    expected = encoder(x)  # which requires a gradient, and takes no fast path
    with torch.set_grad_enabled(grad):
        assert_close(encoder(x), expected)
    folded = lp.fold(encoder)
    with torch.no_grad():
        assert_close(folded(x), expected)


# What all of them do

MAKE: dict[str, Callable[..., Locality]] = {
    "convolution": lambda **o: lp.LocalityConv2d(6, 6, 3, **o),
    "groups": lambda **o: lp.LocalityConv2d(6, 4, 3, groups=2, padding=1, bias=False, **o),
    "rnn": lambda **o: lp.LocalityRNN(3, 6, nonlinearity="relu", **o),
    "gru": lambda **o: lp.LocalityGRU(3, 6, 2, **o),
    "lstm": lambda **o: lp.LocalityLSTM(3, 6, bidirectional=True, **o),
    "attention": lambda **o: lp.LocalityMultiheadAttention(6, 2, **o),
    "positions": lambda **o: lp.LocalityMultiheadAttention(6, 2, positions=lp.Line(4), slopes=(1, 2), **o),
    "other keys": lambda **o: lp.LocalityMultiheadAttention(6, 2, kdim=4, **o),
}
CUT = lp.cost.Linear().within(1.5)


@pytest.mark.parametrize("kind", MAKE)
def test_off_wire_weights_are_zero_and_stay_so(kind: str) -> None:
    """From the start, through training, and after loading a plain checkpoint, by copy or by assignment."""
    layer = MAKE[kind](cost=CUT)
    plain = lp.fold(layer)
    nn.utils.vector_to_parameters(torch.randn(sum(p.numel() for p in plain.parameters())), plain.parameters())
    off = {w.name: (w.prior == 0).expand_as(w.weight) for w in layer.wirings()}
    assert all(o.any() for o in off.values())

    def check() -> None:
        for wiring in layer.wirings():
            assert (wiring.weight[off[wiring.name]] == 0).all()
            assert (wiring.weight[~off[wiring.name]] != 0).all()

    check()
    for assign in (False, True):
        given = {k: v.clone() for k, v in plain.state_dict().items()}
        layer.load_state_dict(given, assign=assign)
        check()
        assert_close(dict(given), dict(plain.state_dict()), rtol=0, atol=0)  # the caller's stay the caller's
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, weight_decay=0.1)
    sum(w.weight.mul(w.prior).square().sum() for w in layer.wirings()).backward()  # type: ignore[union-attr]
    optimizer.step()
    check()


@pytest.mark.parametrize("kind", MAKE)
def test_saved_and_made_anew(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "layer.safetensors"
    layer = MAKE[kind](cost=lp.cost.Exponential(2.0), dtype=torch.float64)
    lp.save(layer, path)
    again = lp.load(path)
    assert type(again) is type(layer)
    assert again.config() == layer.config()
    assert_close(dict(again.state_dict()), dict(layer.state_dict()), rtol=0, atol=0)
    other = MAKE[kind](cost=lp.cost.Exponential(3.0), dtype=torch.float64)
    with pytest.raises(ValueError, match="cost"):
        lp.load(path, other)
    same = nn.ModuleDict({"part": MAKE[kind](cost=lp.cost.Exponential(2.0), dtype=torch.float64)})
    lp.save(nn.ModuleDict({"part": layer}), path)
    assert_close(dict(lp.load(path, same).state_dict()), {f"part.{k}": v for k, v in layer.state_dict().items()})
    with pytest.raises(ValueError, match=r"model: got .*, as in the file"):
        lp.load(path, nn.ModuleDict({"part": lp.LocalityLinear(6, 6)}))


@pytest.mark.parametrize("kind", MAKE)
def test_starts_as_torchs_own(kind: str) -> None:
    """The numbers that torch's own layer draws, 0 where there is no wire, and the generator in the same state."""
    for cost in (lp.cost.Flat(), CUT):
        torch.manual_seed(3)
        layer = MAKE[kind](cost=cost)
        after = torch.rand(1)
        kinds = arguments(layer, layer.ARGUMENTS)
        torch.manual_seed(3)
        plain = next(k for k in type(layer).__mro__ if not issubclass(k, Locality))(**kinds)
        assert torch.equal(torch.rand(1), after)
        expected = dict(plain.state_dict())
        for wiring in layer.wirings():
            expected[wiring.name] = expected[wiring.name] * (wiring.prior > 0)
        assert_close(dict(layer.state_dict()), expected, rtol=0, atol=0)
        if cost == lp.cost.Flat():
            assert_close(dict(lp.fold(layer).state_dict()), dict(layer.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("kind", MAKE)
def test_a_cost_can_change(kind: str) -> None:
    """W stays, and becomes 0 where there is no wire any more; a cost that does not fit changes nothing."""
    layer = MAKE[kind](rescale=kind != "groups")
    before = dict(layer.named_parameters())
    for cost in (lp.cost.Quadratic(2), CUT, lp.cost.Flat()):
        layer.cost = cost
        fresh = MAKE[kind](rescale=kind != "groups", cost=cost)
        fresh.load_state_dict(layer.state_dict())
        assert layer.config() == fresh.config()
        for mine, other in zip(layer.wirings(), fresh.wirings(), strict=True):
            assert mine.weight is before[mine.name]
            assert torch.equal(mine.weight, other.weight)
            assert torch.equal(mine.prior, other.prior)
        assert_close(lp.wiring_cost(layer), lp.wiring_cost(fresh))
    layer.cost = "quadratic"
    for value in (3, "lineal", lp.cost.Linear):
        with pytest.raises((ValueError, TypeError), match=r"cost: got .*, expected"):
            layer.cost = value
    assert layer.cost == lp.cost.Quadratic()


@pytest.mark.parametrize("kind", MAKE)
def test_priors_follow_dtype_and_copies(kind: str) -> None:
    layer = MAKE[kind](cost=CUT)
    exact = [w.prior.double() for w in MAKE[kind](cost=CUT, dtype=torch.float64).wirings()]
    for w, p in zip(layer.double().wirings(), exact, strict=True):
        assert torch.equal(w.prior, p)  # made anew from float64, not from float32
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        next(twin.parameters()).zero_()
    assert next(layer.parameters()).abs().sum() > 0
    assert "locality" not in repr(lp.fold(layer)).lower()
    assert "cost=Linear().within(1.5)" in repr(layer)


@pytest.mark.parametrize("kind", MAKE)
def test_reset_draws_on_the_wires_alone(kind: str) -> None:
    layer = MAKE[kind](cost=CUT)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    layer.reset_parameters()  # type: ignore[operator]
    for wiring in layer.wirings():
        off = (wiring.prior == 0).expand_as(wiring.weight)
        assert (wiring.weight[off] == 0).all()
        assert not torch.equal(wiring.weight, before[wiring.name])
    x = torch.randn(3, 2, 6)
    if kind in ("attention", "positions"):  # and an encoder takes no path of its own around it afterwards
        encoder = nn.TransformerEncoderLayer(6, 2, 8).eval()
        encoder.self_attn = layer.eval()
        with torch.no_grad():
            quick = encoder(x)
        assert_close(quick, encoder(x))


@pytest.mark.parametrize("kind", MAKE)
def test_weights_made_of_others(kind: str) -> None:
    """Parametrised, or given for one call: what torch's own layers bear."""
    layer = MAKE[kind](cost=CUT)
    name = layer.wirings()[0].name
    if "." not in name:
        state = copy.deepcopy(layer.state_dict())
        nn.utils.parametrizations.weight_norm(layer, name)
        expected = layer.effective(name)  # type: ignore[operator]
        assert_close(dict(lp.fold(layer).state_dict())[name], expected.detach())
        with pytest.raises(RuntimeError, match="Unexpected key"):
            layer.load_state_dict(state)


def test_a_query_out_of_reach_of_every_key_is_a_number() -> None:
    near = {"positions": lp.Line(8), "position_cost": lp.cost.Linear().within(1)}
    layer = lp.LocalityMultiheadAttention(8, 2, batch_first=True, **near)
    x, padding = torch.randn(1, 4, 8), torch.tensor([[False, False, True, True]])
    for weights in (True, False):
        y = layer(x, x, x, key_padding_mask=padding, need_weights=weights)[0]
        assert y.isfinite().all()
        y[:, :2].sum().backward()
        assert layer.in_proj_weight.grad.isfinite().all()
        with torch.autocast("cpu", torch.float16):  # its range is smaller
            assert layer(x, x, x, key_padding_mask=padding, need_weights=weights)[0].isfinite().all()
        assert layer(torch.randn(1, 6, 8), x[:, :2], x[:, :2], need_weights=weights)[0].isfinite().all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m, x: m(x, x, x, attn_mask=torch.ones(5, 5, dtype=torch.uint8)), "attn_mask: got torch.uint8"),
        (lambda m, x: m(x, x, x, attn_mask=torch.zeros(1, 5)), "attn_mask: got shape (1, 5), expected (5, 5)"),
        (lambda m, x: lp.LocalityMultiheadAttention(8, 2, positions=16), "positions: got 16, expected a geometry"),
        (
            lambda m, x: lp.LocalityMultiheadAttention(8, 2, positions=lp.Line(3), position_cost="lineal"),
            "cost: got 'lineal'",
        ),
        (
            lambda m, x: lp.LocalityMultiheadAttention(8, 2, positions=lp.Line(3), slopes=0.5),
            "slopes: got 0.5, expected a list of 2 numbers",
        ),
        (lambda m, x: lp.LocalityMultiheadAttention(8, 2, positions=lp.Distances([[0, 1.0]])), "positions: got"),
        (lambda m, x: lp.LocalityRNN(3, 8, units=lp.Grid(3, 3)), "units: got Grid(3, 3) of 9 units, expected 8 units"),
        (lambda m, x: lp.LocalityGRU(8, 8)(x, (x, x)), "hx: got tuple, expected a tensor"),
        (lambda m, x: lp.LocalityLSTM(8, 8)(x, (x, None)), "hx: got tuple, expected a tuple of tensors, (h, c)"),
    ],
)
def test_more_bad_input_is_named(call: Callable[[nn.Module, Tensor], object], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=re.escape(said)):
        call(lp.LocalityMultiheadAttention(8, 2, positions=lp.Line(5)), torch.randn(5, 1, 8))


def test_a_subclass_is_saved_as_what_it_is(tmp_path: Path) -> None:
    class Mine(lp.LocalityConv2d):
        pass

    net = nn.Sequential(Mine(3, 4, 3))
    lp.save(net, tmp_path / "f")
    lp.load(tmp_path / "f", nn.Sequential(Mine(3, 4, 3)))


@pytest.mark.parametrize("kind", ["convolution", "groups", "attention", "positions"])
def test_compiled_whole(kind: str) -> None:
    layer = MAKE[kind](cost=CUT)
    x = torch.randn(2, 6, 5, 5) if kind in ("convolution", "groups") else torch.randn(4, 2, 6)
    given = (x,) if x.dim() == 4 else (x, x, x)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled):
            for a, b in zip(flat(compiled(*given)), flat(layer(*given)), strict=True):
                assert_close(a, b)


@pytest.mark.parametrize("kind", MAKE)
def test_objectives_count_every_weight(kind: str) -> None:
    """Against sums over every entry of every weight, with P, c and d of the same entry."""
    for rescale in (False,) if kind == "groups" else (False, True):
        layer = MAKE[kind](cost=CUT, rescale=rescale, dtype=torch.float64)
        charged = strength = weighted = raw = 0.0
        for w in layer.wirings():
            d = w.spread(w.rule.distances()).expand_as(w.weight)
            v = (w.weight * w.prior).abs().detach()
            price = torch.where(w.prior.expand_as(v) > 0, 1 + d, 0.0)
            charged, strength = charged + float((price * v).sum()), strength + float(v.sum())
            weighted, raw = weighted + float((d * v).sum()), raw + float(w.weight.detach().abs().sum())
        assert_close(lp.wiring_cost(layer).item(), charged)
        assert_close(lp.wiring_cost(layer, lp.cost.Linear()).item(), charged)
        assert_close(lp.weight_l1(layer).item(), raw)
        assert_close(lp.mean_wire_length(layer).item(), weighted / strength)


@pytest.mark.parametrize("kind", MAKE)
def test_gradcheck(kind: str) -> None:
    layer = MAKE[kind](cost=CUT, dtype=torch.float64)
    names = [w.name for w in layer.wirings()]
    x = {
        "convolution": (torch.randn(1, 6, 3, 3),),
        "groups": (torch.randn(1, 6, 3, 3),),
        "attention": (torch.randn(3, 2, 6),) * 3,
        "positions": (torch.randn(3, 2, 6),) * 3,
        "other keys": (torch.randn(3, 2, 6), torch.randn(3, 2, 4), torch.randn(3, 2, 6)),
    }.get(kind, (torch.randn(3, 2, 3),))
    given = tuple(t.double() for t in x)

    def run(*weights: Tensor) -> Tensor:
        out = torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), given)
        return flat(out)[0]

    assert torch.autograd.gradcheck(run, tuple(layer.get_parameter(n).detach().requires_grad_() for n in names))


# Bad arguments: one clear line for each, at once and without a large allocation

BAD: list[Any] = [
    None, "", "3", "linear@x", b"x", -1, 0, 2.5, math.nan, math.inf, 10**9, 10**30, True, 1 + 2j, object(), [], {}, (),
    [1, 2, 3], np.array(2.5), np.array([1, 2]), np.float64("nan"), torch.tensor(2.5), torch.tensor([1, 2]),
    torch.tensor(1), lp.Grid(3), lp.Distances([[0, 1.0]]), lp.cost.Linear, torch.nn, int,
]  # fmt: skip
CONSTRUCTORS: dict[str, tuple[Any, dict[str, Any]]] = {
    "linear": (lp.LocalityLinear, {"in_features": 6, "out_features": 6}),
    "convolution": (lp.LocalityConv2d, {"in_channels": 6, "out_channels": 6, "kernel_size": 3}),
    "rnn": (lp.LocalityRNN, {"input_size": 3, "hidden_size": 6}),
    "gru": (lp.LocalityGRU, {"input_size": 3, "hidden_size": 6}),
    "lstm": (lp.LocalityLSTM, {"input_size": 3, "hidden_size": 6}),
    "attention": (lp.LocalityMultiheadAttention, {"embed_dim": 6, "num_heads": 2}),
    "positions": (lp.LocalityMultiheadAttention, {"embed_dim": 6, "num_heads": 2, "positions": lp.Line(4)}),
}


def tell(call: Callable[[], object], what: str) -> bool:
    """Whether ``call`` is refused; it must then say so in one short line that begins with a name."""
    start = time.perf_counter()
    try:
        call()
        refused = False
    except Told as error:
        said = str(error)
        refused = True
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    if refused:
        assert re.match(r"[a-z_, ]+: got .*, expected ", said), f"{what}: {said}"
        assert "\n" not in said, what
        assert len(said) < 500, what
    assert time.perf_counter() - start < 5, what
    return refused


@pytest.mark.filterwarnings("ignore:dropout option adds dropout")
@pytest.mark.parametrize("kind", CONSTRUCTORS)
def test_every_bad_argument_is_told_in_one_line(kind: str) -> None:
    make, good = CONSTRUCTORS[kind]
    names = {*make.keys(), "device", "dtype"} | ({"kept"} if kind == "linear" else set())
    refusals = 0
    for name in sorted(names):
        for value in BAD:
            if name == "device" and isinstance(value, int) and not isinstance(value, bool):
                continue  # torch takes a number for a GPU
            refusals += tell(lambda name=name, value=value: make(**{**good, name: value}), f"{name}={value!r}")
    assert refusals > 15 * len(names)


@pytest.mark.parametrize(
    "make",
    [
        lambda: lp.LocalityLinear(10**9, 9),
        lambda: lp.LocalityLinear(9, 10**12),
        lambda: lp.LocalityLinear(1 << 25, 1 << 25),
        lambda: lp.LocalityGRU(3, 6, num_layers=10**9),
        lambda: lp.LocalityLSTM(1 << 20, 1 << 20),
        lambda: lp.LocalityConv2d(6, 6, 10**6),
        lambda: lp.LocalityMultiheadAttention(1 << 20, 2),
        lambda: lp.LocalityMultiheadAttention(6, 2, positions=lp.Line(1 << 20)),
    ],
)
def test_sizes_that_no_machine_holds_are_refused_at_once(make: Callable[[], object]) -> None:
    assert tell(make, "a giant")


INPUTS: list[Any] = [
    None, 3, "x", [], [[1.0]], np.zeros((2, 6)), torch.zeros(()), torch.zeros(6), torch.zeros(2, 6),
    torch.zeros(2, 5), torch.zeros(0, 6), torch.zeros(2, 3, 5), torch.zeros(2, 3, 6), torch.zeros(2, 6, 4, 4),
    torch.zeros(2, 6, 1, 1), torch.zeros(1, 2, 3, 4, 6), torch.zeros(2, 3, 6).double(), torch.zeros(2, 3, 6).half(),
    torch.zeros(2, 3, 6, dtype=torch.int64), torch.zeros(2, 3, 6, dtype=torch.complex64), (torch.zeros(2, 3, 6),),
    torch.zeros(0, 3, 6), torch.zeros(2, 0, 6), torch.zeros(1, 2, 6), torch.zeros(3, 3, dtype=torch.bool),
]  # fmt: skip
FORWARD: dict[str, tuple[nn.Module, dict[str, Any]]] = {
    "linear": (lp.LocalityLinear(6, 6), {"input": torch.zeros(2, 6)}),
    "sparse": (lp.LocalityLinear(6, 6, cost=lp.cost.Linear().within(1), backend="wires"), {"input": torch.zeros(2, 6)}),
    "convolution": (lp.LocalityConv2d(6, 6, 3), {"input": torch.zeros(2, 6, 4, 4)}),
    "reflected": (lp.LocalityConv2d(6, 6, 3, padding=2, padding_mode="reflect"), {"input": torch.zeros(2, 6, 4, 4)}),
    "circular": (lp.LocalityConv2d(6, 6, 3, padding=2, padding_mode="circular"), {"input": torch.zeros(2, 6, 4, 4)}),
    "rnn": (lp.LocalityRNN(6, 6), {"input": torch.zeros(2, 3, 6), "hx": torch.zeros(1, 3, 6)}),
    "gru": (lp.LocalityGRU(6, 6, batch_first=True), {"input": torch.zeros(3, 2, 6), "hx": torch.zeros(1, 3, 6)}),
    "lstm": (lp.LocalityLSTM(6, 6), {"input": torch.zeros(2, 3, 6), "hx": (torch.zeros(1, 3, 6),) * 2}),
    **{
        kind: (
            lp.LocalityMultiheadAttention(6, 2, **more),
            {
                **dict.fromkeys(("query", "key", "value"), torch.zeros(2, 3, 6)),
                "attn_mask": None,
                "key_padding_mask": None,
            },
        )
        for kind, more in {"attention": {}, "positions": {"positions": lp.Line(4), "batch_first": True}}.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", FORWARD)
def test_every_bad_input_is_told_in_one_line(kind: str) -> None:
    layer, good = FORWARD[kind]
    layer(**good)
    refusals = 0
    for name in good:
        for value in INPUTS:
            what = f"{name}={value if not isinstance(value, Tensor) else (tuple(value.shape), value.dtype)!r}"
            refusals += tell(lambda name=name, value=value: layer(**{**good, name: value}), what)
    assert refusals > 10 * len(good)
