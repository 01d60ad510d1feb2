"""Language models of ``transformers``: GPT-2, Llama and a pretrained one, localized, folded and placed."""

from __future__ import annotations

import copy
import os
import re
import runpy
import struct
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch as safetensors
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import locality_prior as lp
from locality_prior.layers import Locality

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

STREAM, WIDE = lp.Grid(4, 4), lp.Grid(8, 8)
#: GPT-2's layers: queries, keys and values lie on three copies of the sheet of what the blocks read and write.
GPT2 = {
    "c_attn": (STREAM, STREAM.with_channels(3)),
    "attn.c_proj": STREAM,
    "c_fc": (STREAM, WIDE),
    "mlp.c_proj": (WIDE, STREAM),
}
#: Llama's: two heads of keys and values for four of queries.
LLAMA = {
    "q_proj": STREAM,
    "**.[kv]_proj": (STREAM, lp.Grid(2, 4)),
    "o_proj": STREAM,
    "gate_proj": (STREAM, None),
    "up_proj": (STREAM, None),
    "down_proj": (None, STREAM),
}
TARGETS = {"gpt2": GPT2, "llama": LLAMA}
X = torch.randint(3, 32, (2, 7), generator=torch.Generator().manual_seed(1))


def gpt2(**options: Any) -> nn.Module:
    sizes = {"vocab_size": 32, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 4, "initializer_range": 0.4}
    special = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    net: nn.Module = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **special, **options))
    return net.eval()


def llama(tied: bool = True) -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        initializer_range=0.4,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    net: nn.Module = transformers.LlamaForCausalLM(config)
    return net.eval()


MAKERS = {"gpt2": gpt2, "llama": llama}


def quietly(model: nn.Module, targets: Any, **options: Any) -> nn.Module:
    with warnings.catch_warnings(action="ignore"):
        return lp.localize(model, targets, **options)


def changed(model: nn.Module) -> list[str]:
    return [name for name, m in model.named_modules() if isinstance(m, Locality)]


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(X).logits
    return found


def continued(model: Any, cache: bool) -> list[int]:
    """The likeliest tokens after the first of ``X``, taken one by one."""
    told = model.generate(X[:1, :4], max_new_tokens=12, min_new_tokens=12, do_sample=False, use_cache=cache)
    numbers: list[int] = told[0, 4:].tolist()
    return numbers


def embedding(model: Any) -> Any:
    return model.get_input_embeddings()


# There and back


@pytest.mark.parametrize("options", [{}, {"cost": "linear@99", "rescale": True}], ids=str)
@pytest.mark.parametrize("name", MAKERS)
def test_there_and_back(name: str, options: dict[str, Any]) -> None:
    """One function; a state dict that the plain model loads; the head still tied; the same text with a cache of keys
    and values and without."""
    net = MAKERS[name]().double()
    plain, before = copy.deepcopy(net), logits(net)
    told = continued(net, cache=False)
    assert len(set(told)) > 2
    quietly(net, TARGETS[name], example=X, **options)
    assert len(changed(net)) == 2 * (4 if name == "gpt2" else 7)
    for model in (net, lp.fold(net)):
        assert_close(logits(model), before)
        assert continued(model, cache=True) == continued(model, cache=False) == told
        assert model.lm_head.weight is embedding(model).weight
        shapes = {key: value.shape for key, value in model.state_dict().items()}
        assert shapes == {key: value.shape for key, value in plain.state_dict().items()}
    folded = lp.fold(net)
    assert [type(m) for m in folded.modules()] == [type(m) for m in plain.modules()]
    assert_close(dict(folded.state_dict()), dict(plain.state_dict()))
    assert not {p.data_ptr() for p in folded.parameters()} & {p.data_ptr() for p in net.parameters()}
    quietly(folded, TARGETS[name])  # and once more from there
    assert_close(logits(folded), before)


@pytest.mark.parametrize("name", MAKERS)
def test_training_keeps_the_head_tied(name: str) -> None:
    net = MAKERS[name]()
    quietly(net, TARGETS[name], cost="linear@1.5")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = net(X, labels=X).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    folded = lp.fold(net)
    assert folded.lm_head.weight is embedding(folded).weight
    assert torch.equal(folded.lm_head.weight, embedding(net).weight)
    assert_close(logits(folded), logits(net), rtol=1e-4, atol=1e-5)
    for layer in (m for m in net.modules() if isinstance(m, lp.LocalityLinear)):
        assert (layer.effective_weight[layer.rule.dense() == 0] == 0).all()


def test_a_tied_head_is_never_localized() -> None:
    """A type or a pattern that means all layers says so, and the model is left alone."""
    for make, name in ((gpt2, "transformer.wte"), (llama, "model.embed_tokens")):
        for key in (nn.Linear, "**", "lm_head"):
            net = make()
            said = f"targets: got lm_head, which shares its weight with {name}, expected .*'lm_head': False to leave it"
            with pytest.raises(ValueError, match=said):
                quietly(net, {key: None})
            assert changed(net) == []
    net = llama()
    quietly(net, {nn.Linear: None, "lm_head": False})
    assert len(changed(net)) == 14
    assert net.lm_head.weight is embedding(net).weight
    net = llama(tied=False)
    quietly(net, {"lm_head": (STREAM, None)}, example=X)  # a head with weights of its own
    assert changed(net) == ["lm_head"]


# Conv1D's state dict


def test_a_plain_checkpoint_loads_as_raw_weights() -> None:
    """Dense and sparse, and a square matrix is not taken for its transpose."""
    plain, wide = gpt2(n_inner=256), lp.Grid(16, 16)
    state = copy.deepcopy(plain.state_dict())
    for backend in ("dense", "windowed", "wires"):
        targets = {
            k: {"source": STREAM, "target": v, "backend": backend} for k, v in (("c_fc", wide), ("attn.c_proj", STREAM))
        }
        net = quietly(gpt2(n_inner=256), targets, cost="linear@1.5")
        net.load_state_dict(state)
        kept = quietly(copy.deepcopy(plain), targets, cost="linear@1.5", keep="weights")
        assert_close(dict(net.state_dict()), dict(kept.state_dict()), rtol=0, atol=0)
        assert_close(logits(net), logits(kept))
        for block, old in zip(net.transformer.h, plain.transformer.h, strict=True):
            for layer, conv in ((block.mlp.c_fc, old.mlp.c_fc), (block.attn.c_proj, old.attn.c_proj)):
                assert_close(layer.fold().weight, conv.weight * layer.rule.dense(torch.float32).T)


def test_from_dense_to_sparse_and_back() -> None:
    dense, sparse = (
        lp.LocalityConv1D(16, 256, source=lp.Grid(4, 4), target=lp.Grid(16, 16), cost="linear@1.5", backend=backend)
        for backend in ("dense", "wires")
    )
    x = torch.randn(3, 16)
    for one, other in ((dense, sparse), (sparse, dense)):
        nn.init.normal_(one.weight)
        one.load_state_dict(one.state_dict())  # drops what has no wire
        other.load_state_dict(one.state_dict())
        assert_close(other(x), one(x))


def test_what_is_assigned_is_kept_row_by_row() -> None:
    conv = transformers.Conv1D(9, 4)
    layer = lp.LocalityConv1D(4, 9, cost="flat")
    layer.load_state_dict(conv.state_dict(), assign=True)
    assert layer.weight.is_contiguous()
    assert torch.equal(layer.weight, conv.weight.T)
    x = torch.randn(3, 4)
    assert_close(layer(x), conv(x))
    again = copy.deepcopy(layer)
    for value in again.state_dict().values():
        value.zero_()  # the values are those of the layer, not copies
    assert not again(x).any()
    wrong = {"weight": torch.zeros(9, 4), "bias": torch.zeros(9)}
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        layer.load_state_dict(wrong)


@pytest.mark.parametrize("backend", ["dense", "wires"])
def test_pruned_saved_and_loaded(backend: str, tmp_path: Path) -> None:
    targets = {"c_fc": {"source": STREAM, "target": WIDE, "backend": backend}, "attn.c_proj": STREAM}
    net = quietly(gpt2(), targets, cost="linear@2")
    pruned = lp.sparsify(net, keep=0.5).model
    assert [type(pruned.get_submodule(name)) for name in changed(pruned)] == [lp.LocalityConv1D] * 4
    assert pruned.lm_head.weight is embedding(pruned).weight
    folded = lp.fold(pruned)
    assert_close(logits(folded), logits(pruned))
    assert type(folded.transformer.h[0].mlp.c_fc) is transformers.Conv1D
    for k, model in enumerate((net, pruned)):
        path = tmp_path / f"{k}.safetensors"
        lp.save(model, path)
        again = lp.load(path, quietly(gpt2(), targets, cost="linear@2"))
        assert torch.equal(logits(again), logits(model))
        assert again.lm_head.weight is embedding(again).weight
    layer = pruned.transformer.h[0].mlp.c_fc
    lp.save(layer, tmp_path / "layer.safetensors")
    alone = lp.load(tmp_path / "layer.safetensors")
    assert type(alone) is lp.LocalityConv1D
    x = torch.randn(3, 16)
    assert_close(alone(x), layer(x))
    whole = lp.LocalityConv1D(4, 9)
    lp.save(whole, tmp_path / "whole.safetensors")
    assert torch.equal(lp.load(tmp_path / "whole.safetensors").weight, whole.weight)


def test_transformers_and_safetensors_write_it(tmp_path: Path) -> None:
    """What is folded is a plain GPT-2 for them, and what is localized has a plain GPT-2's names and shapes."""
    net = quietly(gpt2(), GPT2)
    for model in (net, lp.fold(net)):
        model.save_pretrained(tmp_path)
        again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
        assert_close(dict(again.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
        safetensors.save_model(model, tmp_path / "model")
        other = quietly(gpt2(), GPT2) if model is net else gpt2()
        safetensors.load_model(other, tmp_path / "model")
        assert torch.equal(logits(other), logits(model))
    assert torch.equal(logits(again), logits(lp.fold(net)))


def test_what_a_conv1d_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^bias: got False, expected True, since a Conv1D of transformers has one$"):
        lp.LocalityConv1D(4, 9, bias=False)
    layer, before = lp.LocalityConv1D(4, 9), torch.get_rng_state()
    layer.weight.requires_grad_(False)
    conv = layer.eval().fold()
    assert torch.equal(torch.get_rng_state(), before)
    assert (conv.training, conv.weight.requires_grad, conv.bias.requires_grad) == (False, False, True)
    assert conv.weight.is_contiguous()
    monkeypatch.setitem(sys.modules, "transformers.pytorch_utils", None)
    with pytest.raises(ImportError, match=r"^folding a LocalityConv1D needs transformers, which is not installed: pip"):
        layer.fold()


# Places, time and memory


def test_queries_keys_and_values_lie_on_one_sheet() -> None:
    """GPT-2 computes them in one layer: each third of its outputs is a copy of the sheet."""
    net = quietly(gpt2(), GPT2)
    for third in net.transformer.h[0].attn.c_attn.prior.chunk(3):
        assert_close(third, net.transformer.h[0].attn.c_proj.prior)


def test_heads_of_keys_lie_between_those_that_they_serve() -> None:
    layer = quietly(llama(), LLAMA).model.layers[0].self_attn.k_proj
    rows = layer.rule.distances().reshape(2, 4, 4, 4)  # head and unit of the key; head and unit of the stream
    for head, served in ((0, (0, 1)), (1, (2, 3))):
        near = [rows[head, 0, other, 0].item() for other in served]
        assert near == pytest.approx([0.5, 0.5])


def test_placed() -> None:
    """Attention, MLPs, gates and whole blocks; projections of unequal sizes; localized or not."""
    net, heads, inner = llama(), lp.Grid(2, 4), lp.Grid(4, 6)
    targets = {"self_attn": STREAM, "mlp": STREAM, "**.layers.*": STREAM, "act_fn": inner, "down_proj": (inner, STREAM)}
    targets |= {"**.[kv]_proj": (STREAM, heads), "q_proj": STREAM, "embed_tokens": STREAM, "lm_head": lp.Line(32)}
    placed = lp.place(net, targets)
    assert len(placed) == 2 * 8 + 2
    plain = {name: placed.weights(name).clone() for name in placed if name.endswith("_proj")}
    widths = {"act_fn": 24, "k_proj": 8, "v_proj": 8, "lm_head": 32}
    with placed.record() as seen:
        net(X)
    with placed.record(items=True) as each:
        net(X)
    for name in placed:
        width = widths.get(name.rpartition(".")[2], 16)
        assert seen[name].shape == (14, width)
        assert_close(each[name], seen[name].reshape(2, 7, width).mean(1))
    quietly(net, LLAMA)
    again = lp.place(net, targets)
    for name, weight in plain.items():
        assert_close(again.weights(name), weight)
        (between,) = again.matrices(name)
        assert between.weight.shape == (len(between.target), len(between.source))
    local = lp.place(net, {"k_proj": heads})["model.layers.0.self_attn.k_proj"]
    assert local.source == STREAM  # which a locality layer knows itself


def test_a_whole_gpt2_is_planned_quickly() -> None:
    """Twelve blocks and 124 million parameters: within 2 s of processor time, and no weight is copied."""
    with torch.device("meta"):
        net = transformers.GPT2LMHeadModel(transformers.GPT2Config())
    for conv in (m for m in net.modules() if isinstance(m, transformers.Conv1D)):
        conv.weight = nn.Parameter(torch.zeros(conv.weight.shape))
        conv.bias = nn.Parameter(torch.zeros(conv.bias.shape))
    assert sum(p.numel() for p in net.parameters()) > 124e6
    lp.plan(gpt2(), {transformers.Conv1D: None})  # imports parts of torch
    start = time.process_time()
    plan = lp.plan(net, {transformers.Conv1D: None})
    assert len(str(plan).splitlines()) == 49
    assert time.process_time() - start < 2
    assert all(p.is_meta for change in plan.changes for p in change.layer.parameters())


def test_layers_of_one_rule_share_p() -> None:
    """Between sheets that are not whole P is as large as W, and twelve of them would double a model."""
    net = quietly(gpt2(), {"c_fc": (lp.Points(torch.rand(16, 2)), lp.Points(torch.rand(64, 2)))})
    for dtype in (torch.float32, torch.float64):
        one, other = (block.mlp.c_fc for block in net.to(dtype).transformer.h)
        assert one.prior.dtype == dtype
        assert one.prior.data_ptr() == other.prior.data_ptr()
        assert one.weight.data_ptr() != other.weight.data_ptr()
    one.cost = "quadratic"
    assert not torch.equal(one.prior, other.prior)
    with other.perturbed():
        assert not torch.equal(net.transformer.h[1].mlp.c_fc.prior, other.rule.dense())
    assert torch.equal(other.prior, other.rule.dense())


# The pretrained one

EXAMPLE = Path(__file__).parent.parent / "examples" / "language_model.py"
TEXTS = Path(os.environ.get("LOCALITY_PRIOR_DATA", EXAMPLE.parent.parent.parent / "shared" / "data")) / "text"


def written(path: Path, tied: bool) -> dict[str, Any]:
    """A file of llama2.c's version 0 with random numbers, and what it holds."""
    width, hidden, depth, heads, pairs, words, length = 16, 24, 2, 4, 2, 32, 12
    draw = np.random.default_rng(0)

    def some(*shape: int) -> np.ndarray:
        return draw.normal(size=shape, scale=0.4).astype(np.float32)

    held: dict[str, Any] = {"embedding": some(words, width), "norm1": 1 + some(depth, width)}
    held |= {"q": some(depth, width, width), "k": some(depth, 8, width), "v": some(depth, 8, width)}
    held |= {"o": some(depth, width, width), "norm2": 1 + some(depth, width), "gate": some(depth, hidden, width)}
    held |= {"down": some(depth, width, hidden), "up": some(depth, hidden, width), "norm": 1 + some(width)}
    held |= {"turns": some(2, length, 2), "head": some(words, width)}
    sizes = struct.pack("<7i", width, hidden, depth, heads, pairs, words if tied else -words, length)
    if tied:
        del held["head"]
    path.write_bytes(sizes + b"".join(value.tobytes() for value in held.values()))
    return held


def slowly(held: dict[str, Any], numbers: list[int]) -> np.ndarray:
    """The logits of such a model, token by token and head by head; pairs of neighbouring units are turned."""
    heads, pairs, size = 4, 2, 4

    def normed(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return weight * x / np.sqrt((x * x).mean() + 1e-5)

    def turned(x: np.ndarray, at: int) -> np.ndarray:
        y = x.astype(complex).reshape(-1, size // 2, 2)
        angles = at * 10000.0 ** (-2 * np.arange(size // 2) / size)
        z = (y[..., 0] + 1j * y[..., 1]) * np.exp(1j * angles)
        return np.stack([z.real, z.imag], axis=-1).reshape(-1, size)

    kept: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in held["q"]]
    found = []
    for at, number in enumerate(numbers):
        x = held["embedding"][number].astype(float)
        for n, cache in enumerate(kept):
            h = normed(x, held["norm1"][n])
            q = turned(held["q"][n] @ h, at)
            cache.append((turned(held["k"][n] @ h, at), (held["v"][n] @ h).reshape(pairs, size)))
            out = []
            for head in range(heads):
                of = head * pairs // heads
                scores = np.exp([q[head] @ k[of] / np.sqrt(size) for k, _ in cache])
                out.append(sum(s * v[of] for s, (_, v) in zip(scores / scores.sum(), cache, strict=True)))
            x = x + held["o"][n] @ np.concatenate(out)
            h = normed(x, held["norm2"][n])
            gate = held["gate"][n] @ h
            x = x + held["down"][n] @ (gate / (1 + np.exp(-gate)) * (held["up"][n] @ h))
        found.append(held.get("head", held["embedding"]) @ normed(x, held["norm"]))
    return np.array(found)


@pytest.mark.parametrize("tied", [True, False])
def test_a_file_of_llama2c_is_read(tied: bool, tmp_path: Path) -> None:
    """Against llama2.c's own way to compute, where neighbouring units of a head are turned."""
    example = runpy.run_path(str(EXAMPLE))
    held = written(tmp_path / "model.bin", tied)
    model = example["read_model"](tmp_path / "model.bin")
    numbers = [1, 5, 30, 2, 5, 17, 9, 9]
    with torch.no_grad():
        found = model(torch.tensor([numbers])).logits[0]
    assert_close(found.double(), torch.tensor(slowly(held, numbers)), rtol=1e-4, atol=1e-4)
    assert (model.lm_head.weight is embedding(model).weight) == tied
    with (tmp_path / "model.bin").open("ab") as file:
        file.write(bytes(8))
    with pytest.raises(SystemExit, match=r"model\.bin holds [\d,]+ numbers, and its first line asks for [\d,]+$"):
        example["read_model"](tmp_path / "model.bin")


def test_tokens_of_llama2c_are_read(tmp_path: Path) -> None:
    """The pair with the best score is joined first; what has no token of its own is told by its bytes."""
    example = runpy.run_path(str(EXAMPLE))
    words = {b" ": -9.0, b"a": -9.0, b"b": -9.0, b"c": -9.0, b"ab": -3.0, b"bc": -1.0, b" a": -2.0, b" ab": -4.0}
    tokens = [(0.0, b"<unk>"), (0.0, b"\n<s>\n"), (0.0, b"\n</s>\n"), *((0.0, b"<0x%02X>" % k) for k in range(256))]
    tokens += [(score, word) for word, score in words.items()]
    data = b"".join(struct.pack("<fI", score, len(word)) + word for score, word in tokens)
    (tmp_path / "tok.bin").write_bytes(struct.pack("<I", 7) + data)
    read = example["Tokens"](tmp_path / "tok.bin")
    for text, expected in {"abc": [b" a", b"bc"], "abab": [b" ab", b"ab"], "a<s>é": None}.items():
        numbers = read.encode(text)[0].tolist()
        assert numbers[0] == 1
        assert read.decode(numbers) == text
        if expected is not None:
            assert [read.tokens[n] for n in numbers[1:]] == expected


def test_without_the_data_it_says_so_in_one_line(tmp_path: Path) -> None:
    main = runpy.run_path(str(EXAMPLE))["main"]
    with pytest.raises(SystemExit) as error:
        main(tmp_path)
    assert re.fullmatch(r".*stories260K\.bin is not there: see the first lines of language_model\.py", str(error.value))


@pytest.mark.skipif(not (TEXTS / "stories260K.bin").is_file(), reason="stories260K is not at hand")
def test_a_pretrained_llama_tells_the_same_story(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLE))["main"](TEXTS, length=30)
    lines = capsys.readouterr().out.splitlines()
    assert 1.2 < float(lines[0].split()[1]) < 1.5  # 1.2968 in validation
    assert lines[1].startswith("Once upon a time, there was a little girl named Lily. She loved to play outside in the")
    said = [f"{what}: the same story True; head and embedding still one True" for what in ("localized", "folded")]
    assert lines[-3:-1] == said
