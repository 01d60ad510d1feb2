"""The language task, the transformer that learns it, sentences scored by it, and lesions."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

import locality_prior as lp
from locality_prior import catalog
from locality_prior._check import Problem
from locality_prior.catalog.language import KINDS, Text, blimp
from locality_prior.placement import Placement
from locality_prior.runs import Machine, Recipe, Run, Shard, Task, door, lesion, train
from locality_prior.runs.loop import evaluate
from locality_prior.runs.network import activations, network

CPU = torch.device("cpu")
#: Each of its characters says where it is.
CONTENT = "".join(chr(0x4E00 + k) for k in range(400))
PROSE = 'When "it" rained, 12 élans - or 13? - ran to Ångström\'s hut.\nNobody knew why!\n' * 12


def made(content: str = CONTENT, **differs: Any) -> Text:
    return Text(content, **({"context": 5, "validation": 40, "test": 60} | differs))


def windows(task: Text, batches: Any) -> list[tuple[str, str]]:
    return [
        (task.decode(x), task.decode(y)) for batch in batches for x, y in zip(batch.inputs, batch.targets, strict=True)
    ]


# --- the task --------------------------------------------------------------------------------------------------------


def test_windows_and_parts() -> None:
    task = made()
    assert task.sizes == (60, 7, 11)
    assert task.steps(16, 1) == 4
    for x, y in windows(task, task.epoch(1, 1, 16, Shard())):
        at = CONTENT.index(x)
        assert y == CONTENT[at + 1 : at + 6]
        assert at + 6 <= 300
    for batches, first, last in ((task.validation(Shard()), 300, 340), (task.test(Shard()), 340, 400)):
        found = windows(task, batches)
        assert found == [(CONTENT[s : s + 5], CONTENT[s + 1 : s + 6]) for s in range(first, last - 5, 5)]
    assert made(windows=7).sizes == (7, 7, 11)
    assert made(validation=0.1, test=0.15).sizes == task.sizes


def test_batches_come_from_seed_and_epoch() -> None:
    task = made()

    def starts(*given: Any) -> list[Any]:
        return [batch.inputs.tolist() for batch in task.epoch(*given)]

    one = starts(1, 1, 16, Shard())
    assert starts(1, 1, 16, Shard(), 2) == one[2:]
    assert one != starts(2, 1, 16, Shard()) != starts(1, 2, 16, Shard())
    halves = [starts(1, 1, 16, Shard(rank, 2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == [part[::2] + part[1::2] for part in one]
    assert [b.planned for b in task.epoch(1, 1, 16, Shard(1, 2))] == [16, 16, 16, 12]
    # each character has about the same chance to be read
    many = made(windows=60_000)
    count = torch.cat([b.inputs.flatten() for b in many.epoch(1, 1, 60_000, Shard())]).bincount(minlength=400)
    assert int(count[300:].sum()) == int((count[5:290] < 800).sum()) == 0


@pytest.mark.parametrize("level", ["char", "byte"])
def test_there_and_back(level: Any) -> None:
    task = made(PROSE, level=level)
    assert task.decode(task.encode(PROSE)) == PROSE
    assert task.vocabulary == (256 if level == "byte" else len(set(PROSE)))
    given = "content: got 'ø', expected characters that the task's text has"
    if level == "char":
        with pytest.raises(ValueError, match=given):
            task.encode("ø")
    else:
        assert task.decode(task.encode("ø")) == "ø"
        assert task.decode(task.encode("ø")[:1]) == "�"


class Guess(nn.Module):
    """The same probabilities everywhere; they are given as the models of the transformers library do."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.guess = nn.Parameter(torch.randn(vocabulary))

    def forward(self, tokens: Tensor) -> Any:
        return SimpleNamespace(logits=self.guess.expand(*tokens.shape, -1))


@pytest.mark.parametrize("level", ["char", "byte"])
def test_nats_a_token_and_bits_a_byte(level: Any) -> None:
    task = made(PROSE, level=level, test=200)
    net = Guess(task.vocabulary)
    found = evaluate(net, task, task.test(Shard()), CPU)
    logs = net.guess.detach().double().log_softmax(0)
    said = "".join(y for _, y in windows(task, task.test(Shard()))) if level == "char" else None
    tokens = torch.cat([b.targets.flatten() for b in task.test(Shard())])
    nats = [-float(logs[k]) for k in tokens]
    assert found["loss"] == pytest.approx(np.mean(nats), rel=1e-5)
    size = len(said.encode()) if said is not None else len(tokens)
    assert size > len(tokens) or level == "byte"  # some characters take two bytes
    assert found["bits_per_byte"] == pytest.approx(sum(nats) / math.log(2) / size, rel=1e-5)


@pytest.mark.parametrize(
    ("chars", "kind"),
    [
        ("aeiouéö", "vowels"),
        ("bzñy", "consonants"),
        ("AZÅΩ", "capitals"),
        ("09٣", "digits"),
        (" \t\u00a0", "spaces"),
        ("\n\r\u2028", "line ends"),
        ("\"'`“”‘’«»", "quotes"),
        (".!?…", "sentence ends"),
        (",;:-–()[]{}/\\&#", "punctuation"),
        ("$+<>=|~^°ßλ中\x00", "others"),
    ],
)
def test_kinds_of_characters(chars: str, kind: str) -> None:
    kind = kind if chars[0] != "$" else "others"
    task = Text(chars * 50, context=1)
    labels = {task.decode([k]): KINDS[int(task._kinds[k])] for k in range(task.vocabulary)}
    wrong = {c: found for c, found in labels.items() if found != kind}
    assert wrong == ({"ß": "consonants"} if "ß" in chars else {}) or not wrong


def test_kept_windows_are_of_all_kinds() -> None:
    task = made(PROSE, test=0.5, context=9)
    (batch,) = task.kept()
    last = [task.decode(x)[-1] for x in batch.inputs]
    labels = [KINDS[int(k)] for k in batch.labels]
    assert {c for c, label in zip(last, labels, strict=True) if label == "vowels"} == set("aeiouéö") & set(last)
    text = PROSE[len(PROSE) // 2 :]
    assert all(task.decode(x) in text for x in batch.inputs)
    counts = np.bincount(batch.labels)
    assert set(labels) == set(KINDS) - {"others"}
    assert counts[0] == 500 // 9 > counts[KINDS.index("capitals")] > 10  # of rare kinds all that there are
    many = made(PROSE * 40, test=0.5, context=9)
    counts = np.bincount(torch.cat([b.labels for b in many.kept()]))
    assert counts.tolist() == [500 // 9] * 9


def test_a_response_is_that_at_the_last_token() -> None:
    task = made(PROSE)
    net = network(Run(task, "gpt:layers=1,width=16,heads=2"), task)
    values, labels = activations(net, task, CPU)
    batch = next(task.kept())
    seen: dict[str, Tensor] = {}
    net.model.block1.hidden.register_forward_hook(lambda m, x, y: seen.update(y=y))
    net.model(batch.inputs)
    n = len(batch.inputs)
    np.testing.assert_allclose(values["block1.hidden"][:n], seen["y"][:, -1].detach(), rtol=1e-5, atol=1e-7)
    assert labels[:n].tolist() == batch.labels.tolist()


def test_where_a_text_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "prose.txt").write_text(PROSE * 3, encoding="utf-8")
    monkeypatch.delenv("LOCALITY_PRIOR_DATA", raising=False)
    whole = door.call("task", f"text:path={tmp_path / 'text' / 'prose.txt'},context=8,level=byte", Task)
    assert whole.name == "prose.txt"
    assert repr(whole).endswith("256 different bytes, context 8)")
    there = [catalog.text(path, data_root=str(tmp_path)) for path in ("prose.txt", "text/prose.txt")]
    assert there[0].sizes == there[1].sizes
    with pytest.raises(ValueError, match=r"^path: got prose.txt, which is not there, expected a file"):
        catalog.text("prose.txt")
    monkeypatch.setenv("LOCALITY_PRIOR_DATA", str(tmp_path))
    assert len(catalog.text("prose.txt").known) == len(set(PROSE))
    with pytest.raises(ValueError, match=r"path: got none.txt, which is not there, nor in .*, nor in its folder text"):
        catalog.text("none.txt")
    with pytest.raises(ValueError, match="got a directory, expected a regular file"):
        catalog.text("text")
    (tmp_path / "latin.txt").write_bytes(PROSE.encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin.txt: got a byte that is not text, number 22, expected text in UTF-8"):
        catalog.text("latin.txt")


def test_without_a_file_it_is_pythons_own_help(monkeypatch: pytest.MonkeyPatch) -> None:
    task = catalog.text()
    assert task.name.startswith("help of Python 3.")
    assert sum(map(len, (task._train, task._validation, task._test))) > 400_000
    assert "with" in task.decode(task._train[:2000])
    monkeypatch.setitem(__import__("sys").modules, "pydoc_data.topics", None)
    with pytest.raises(Problem, match="This Python comes without the topics of its help"):
        catalog.text()


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ({"content": b"bytes"}, "content: got b'bytes', expected a text"),
        ({"content": ""}, "validation: got 40, which is 40 of 0 tokens|text: got 0 tokens, of which 0 are left"),
        ({"content": "short" * 20}, "text: got 100 tokens, of which 0 are left to train with, expected more than 5"),
        ({"level": "word"}, "level: got word, expected one of char, byte"),
        ({"context": 0}, "context: got 0, expected a whole number from 1"),
        ({"windows": 0}, "windows: got 0, expected a whole number from 1"),
        ({"validation": 5}, "validation: got 5, which is 5 of 400 tokens, expected more than 5, which is the context"),
        ({"test": -1}, "test: got -1, expected a finite number of at least 0"),
        ({"test": 7.5}, "test: got 7.5, expected a whole number"),
        ({"test": math.nan}, "test: got nan, expected"),
    ],
)
def test_what_does_not_fit(differs: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        made(**differs)


def test_a_model_that_does_not_fit() -> None:
    task = made(PROSE)
    batch = next(task.test(Shard()))
    for outputs in (torch.zeros(8), torch.zeros(*batch.targets.shape, 3), torch.zeros(1, 5, task.vocabulary), "words"):
        with pytest.raises(ValueError, match=r"model: got a model that gives .*, expected logits of shape \(\d+, 5, "):
            task.loss(outputs, batch.targets)
    wide = torch.randn(*batch.targets.shape, task.vocabulary + 7)  # as that of a tokenizer with spare numbers
    assert float(task.loss(wide, batch.targets)) > 0


def test_logits_of_an_object_train_a_classification_too() -> None:
    task = tiny.blobs()
    (batch,) = task.test(Shard())
    logits = torch.randn(len(batch.targets), 4)
    given = SimpleNamespace(logits=logits)
    assert torch.equal(task.loss(given, batch.targets), task.loss(logits, batch.targets))
    assert torch.equal(task.score(given, batch.targets)["accuracy"], task.score(logits, batch.targets)["accuracy"])


# --- the network -----------------------------------------------------------------------------------------------------


def test_no_token_sees_those_after_it() -> None:
    net = catalog.gpt(layers=2, width=16, heads=2, context=12, vocabulary=30).eval()
    x = torch.randint(30, (3, 12))
    y = net(x)
    assert y.shape == (3, 12, 30)
    for t in range(12):
        changed = x.clone()
        changed[:, t] = (x[:, t] + 1) % 30
        moved = (net(changed) - y).abs().amax((0, 2)) > 0
        assert moved.tolist() == [False] * t + [True] * (12 - t)
    torch.testing.assert_close(net(x[:, :7]), y[:, :7])


@pytest.mark.parametrize("window", [1, 3, 40])
def test_a_token_attends_to_a_window(window: int) -> None:
    net = catalog.gpt(layers=1, width=16, heads=2, window=window, context=12, vocabulary=30).eval()
    x = torch.randint(30, (3, 12))
    y = net(x)
    for t in range(12):
        changed = x.clone()
        changed[:, t] = (x[:, t] + 1) % 30
        moved = (net(changed) - y).abs().amax((0, 2)) > 0
        assert moved.nonzero()[:, 0].tolist() == list(range(t, min(t + window, 12)))
    whole = catalog.gpt(layers=1, width=16, heads=2, context=12, vocabulary=30).eval()
    whole.load_state_dict(net.state_dict())
    assert torch.allclose(whole(x), y, atol=1e-6) == (window == 40)


def test_its_attention_is_that_of_torch() -> None:
    net = catalog.gpt(layers=1, width=16, heads=4, context=9, vocabulary=30)
    own, theirs, x = net.block1.attention, nn.MultiheadAttention(16, 4, batch_first=True), torch.randn(2, 9, 16)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([own.query.weight, own.key.weight, own.value.weight]))
        theirs.in_proj_bias.zero_()
        theirs.out_proj.weight.copy_(own.out.weight)
        theirs.out_proj.bias.zero_()
    mask = torch.ones(9, 9, dtype=torch.bool).triu(1)
    torch.testing.assert_close(own(x), theirs(x, x, x, attn_mask=mask, need_weights=False)[0])


def test_its_sheets_and_local_layers() -> None:
    task = made(PROSE)
    net = catalog.gpt(task)
    assert net.place == {
        f"block{k}.{part}": sheet
        for k in (1, 2)
        for part, sheet in (("attention", lp.Grid(16, 16)), ("hidden", lp.Grid(32, 32)))
    }
    assert len(net.local) == 12
    assert net.embed.position.num_embeddings == 5
    assert net.head.out_features == task.vocabulary
    assert 1.5e6 < sum(p.numel() for p in net.parameters()) < 2e6
    plain = network(Run(task, "gpt:layers=1,width=16,heads=2", "linear@2"), task).model
    control = network(Run(task, "gpt:layers=1,width=16,heads=2"), task).model
    assert type(plain.block1.attention.query).__name__ == "LocalityLinear"
    assert torch.equal(plain.head.weight, control.head.weight)
    dense = plain.block1.up.prior > 0
    assert torch.equal(lp.fold(plain).block1.up.weight != 0, dense)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: catalog.gpt(), "vocabulary: got none, expected a number, or a task that has one, such as text"),
        (lambda: catalog.gpt(tiny.blobs()), "vocabulary: got none, and blobs has none, expected a number"),
        (lambda: catalog.gpt(vocabulary=5), "context: got none, expected a number"),
        (lambda: catalog.gpt(made(), heads=3), "heads: got 3, expected a number that divides the width, 256"),
        (lambda: catalog.gpt(made(), window=0), "window: got 0, expected a whole number from 1"),
        (lambda: catalog.gpt(made(), layers=0), "layers: got 0, expected a whole number from 1"),
        (lambda: catalog.gpt(made(), width=10**6), "width: got 1000000, expected a whole number from 1"),
        (lambda: catalog.gpt(made(), width=65536, layers=1000), "network of 1000 blocks of width 65,536 would take"),
        (
            lambda: catalog.gpt(made(), width=16)(torch.zeros(1, 6, dtype=torch.int64)),
            "inputs: got 6 tokens, expected at most 5, which is the context",
        ),
    ],
)
def test_networks_that_cannot_be(make: Any, said: str) -> None:
    with pytest.raises((ValueError, Problem), match=said):
        make()


class Stop(Exception):
    pass


def test_a_run_that_was_stopped_ends_in_the_same_weights(tmp_path: Path) -> None:
    """And it learns, is measured, and its layers are pruned, as those of other tasks."""
    task = made(PROSE, windows=64, validation=60, test=100)
    model, recipe = "gpt:layers=1,width=16,heads=2", Recipe("adamw", 0.01, epochs=2, batch_size=16)
    places = {"place": {"block1.hidden": "8x8"}, "local": {"block1.up": ["4x4", "8x8"]}}
    run = Run(task, model, "linear@2", recipe=recipe, **places)
    ends = []
    for name, stops in (("straight", False), ("stopped", True)):

        def tick(epoch: int, share: float, stops: bool = stops) -> None:
            if stops and epoch == 2 and share > 0.5:
                raise Stop

        if stops:
            with pytest.raises(Stop):
                train(run, tmp_path / name, machine=Machine(save_every=0.0), tick=tick)
            train(run, tmp_path / name)
        else:
            train(run, tmp_path / name)
        ends.append((tmp_path / name / "model.safetensors").read_bytes())
    assert ends[0] == ends[1]
    told = json.loads((tmp_path / "straight" / "analysis.json").read_text())
    assert told["task"]["classes"] == list(KINDS)
    assert 1 < told["measures"]["bits_per_byte"] < math.log2(task.vocabulary)
    for key in ("morans_i.block1.hidden", "patch_lesion_score.block1.hidden", "mean_wire_length.block1.up"):
        assert told["measures"][key] is not None
    assert told["measures"]["noise_score"] is None


# --- sentences -------------------------------------------------------------------------------------------------------


def test_log_probabilities_token_by_token() -> None:
    task = made(PROSE)
    net = catalog.gpt(task, layers=1, width=16, heads=2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) / 4)  # so that what comes before matters
    net.block1.train()
    sentences = ["rain", "it ran to why", "n", "", "Nobody knew", "ωmega", "it ran to the hut"]
    found = task.log_probabilities(net, sentences)
    for sentence, value in zip(sentences, found, strict=True):
        if sentence[:1] == "ω":
            assert math.isnan(value)
            continue
        tokens, total = task.encode("\n" + sentence), 0.0
        for t in range(1, len(tokens)):
            logits = net(tokens[max(0, t - 5) : t][None])[0, -1]
            total += float(logits.detach().double().log_softmax(-1)[tokens[t]])
        assert value == pytest.approx(total, rel=1e-5, abs=1e-9)
    assert net.block1.training
    assert not len(task.log_probabilities(net, []))
    for given in ("it", [3]):
        with pytest.raises(TypeError, match=r"sentences: got .*, expected a list of texts"):
            task.log_probabilities(net, given)  # type: ignore[arg-type]


def test_blimps_files(tmp_path: Path) -> None:
    lines = [{"sentence_good": f"It rains {k}.", "sentence_bad": f"It rain {k}.", "UID": "verbs"} for k in range(3)]
    (tmp_path / "text" / "blimp").mkdir(parents=True)
    file = tmp_path / "text" / "blimp" / "verbs.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    pairs = blimp(data_root=str(tmp_path))
    assert pairs == blimp(str(file))
    assert pairs.good[1] == "It rains 1."
    assert pairs.paradigm == ["verbs"] * 3
    for line in ("{", "3", '{"sentence_good": "a", "sentence_bad": "", "UID": "b"}', "[" * 5000):
        file.write_text(json.dumps(lines[0]) + "\n" + line, encoding="utf-8")
        with pytest.raises(ValueError, match=r"^path: got line 2 of .*verbs.jsonl, expected an object with sentence_"):
            blimp(str(file))
    with pytest.raises(ValueError, match=r"which holds no file that ends in \.jsonl"):
        blimp(str(tmp_path))


# --- lesions ---------------------------------------------------------------------------------------------------------


def planted() -> tuple[nn.Module, Placement, Task]:
    """A network that reads 16 units, of which four say all."""
    x, y = torch.rand(200, 4) * 0.2, torch.arange(200) % 4
    x[torch.arange(200), y] += 1
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.weight.zero_()
            layer.bias.zero_()
        for k, unit in enumerate((0, 1, 4, 5)):
            net[0].weight[unit, k] = net[2].weight[k, unit] = 5.0
    task = Task.classification(train=(x[:100], y[:100]), test=(x[100:], y[100:]))
    return net, lp.place(net, {"1": lp.Grid(4, 4)}), task


def test_a_lesion_of_the_units_that_matter() -> None:
    net, placed, task = planted()
    found = lesion(net.train(), placed, task, "1", [5, 0, 1, 4], times=30, seed=2)
    assert found.whole["accuracy"] == 100
    assert found.lesioned["accuracy"] == 25  # all logits are 0, and the first class is taken
    assert found.lesioned["loss"] == pytest.approx(math.log(4))
    assert len(found.random["loss"]) == 30
    assert np.mean(found.random["accuracy"]) > 50
    for key, harm in (("accuracy", np.less_equal), ("loss", np.greater_equal)):
        assert found.p[key] == (1 + harm(found.random[key], found.lesioned[key]).sum()) / 31
    assert found.p["accuracy"] < 0.1
    assert found == lesion(net, placed, task, "1", np.array([0, 1, 4, 5]), times=30, seed=2)
    assert found.random != lesion(net, placed, task, "1", [0, 1, 4, 5], times=30).random
    others = lesion(net, placed, task, "1", [2, 3, 6, 7], times=30)
    assert others.lesioned == others.whole
    assert others.p["accuracy"] == 1
    assert net.training


def test_units_that_give_0() -> None:
    net, placed, _ = planted()
    x = torch.rand(5, 4) + 1
    whole = net[1](net[0](x))
    with placed.lesion("1", torch.tensor([0, 5])), placed.record() as seen:
        net(x)
    assert torch.equal(seen["1"], whole.index_fill(1, torch.tensor([0, 5]), 0))
    with placed.lesion("1", []), placed.record() as seen:
        net(x)
    assert torch.equal(seen["1"], whole)
    gru = nn.GRU(4, 9, batch_first=True)
    packed = nn.utils.rnn.pack_padded_sequence(torch.rand(2, 5, 4), [5, 3], batch_first=True)
    with lp.place(nn.Sequential(gru), {"0": lp.Grid(3, 3)}).lesion("0", [4]):
        assert int((gru(packed)[0].data == 0).all(0).nonzero()) == 4
    assert not net[1]._forward_hooks
    for units in ([16], [-1], [[1]], [1.5], "all", [True], None):
        with pytest.raises(
            ValueError, match=r"^units: got .*, expected whole numbers from 0 to 15 of shape \(units,\)$"
        ):
            placed.lesion("1", units).__enter__()


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ({"units": []}, "units: got none, expected at least one unit"),
        ({"times": 0}, "times: got 0, expected a whole number from 1"),
        ({"name": "0"}, "name: got '0', expected one of 1"),
        ({"model": nn.Linear(2, 2)}, "placed: got a placement of another model"),
        ({"task": 3}, "task: got 3, expected a Task"),
    ],
)
def test_lesions_that_cannot_be(differs: dict[str, Any], said: str) -> None:
    net, placed, task = planted()
    values = {"model": net, "placed": placed, "task": task, "name": "1", "units": [0]} | differs
    with pytest.raises((ValueError, TypeError), match=said):
        lesion(**values)
