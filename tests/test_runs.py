"""Runs: matched pairs, resuming, damage, what is measured, networks of one's own loop, and machines."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import locality_prior as lp
from locality_prior import analysis, runs
from locality_prior._check import Problem
from locality_prior._files import alone_in
from locality_prior.layers import Locality
from locality_prior.runs import Batch, Machine, Recipe, Run, Score, Shard, Task, files, measure, train, training
from locality_prior.runs.config import run_name
from locality_prior.runs.network import network
from locality_prior.runs.task import Classification

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.1, l1=1e-4, drop_every=2)
RUN = Run(tiny.TASK, tiny.MODEL, "linear@2", recipe=RECIPE)
TABLES = ("metrics.csv", "pruning.csv")


def run(**differs: Any) -> Run:
    from dataclasses import replace

    return replace(RUN, **differs)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that went straight through."""
    home = tmp_path_factory.mktemp("straight") / "run"
    assert train(RUN, home)
    return home


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("control") / "run"
    train(run(cost="flat"), home)
    return home


@pytest.fixture
def mine(straight: Path, tmp_path: Path) -> Path:
    """A copy of that directory, to spoil."""
    return Path(shutil.copytree(straight, tmp_path / "run"))


def rows(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def numbers(home: Path) -> dict[str, Any]:
    return {k: v for k, v in json.loads((home / "analysis.json").read_text()).items() if k != "files"}


def assert_same(one: Path, other: Path) -> None:
    """The same weights, tables, arrays and numbers, to the bit; only the seconds differ."""
    a, b = (torch.load(home / "state.pt", weights_only=True) for home in (one, other))
    assert a["model"].keys() == b["model"].keys()
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    for table in TABLES:
        told = [
            [{k: v for k, v in row.items() if k != "seconds"} for row in rows(home / table)] for home in (one, other)
        ]
        assert told[0] == told[1]
    for name in ("measures.npz", "activations.npz"):
        with np.load(one / name) as x, np.load(other / name) as y:
            assert x.files == y.files
            for key in x.files:
                np.testing.assert_array_equal(x[key], y[key])
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert numbers(one) == numbers(other)


# --- what a run is ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: run(cost="linearly"), "got linearly|got 'linearly'"),
        (lambda: run(cost=3), "cost: got 3, expected a cost"),
        (lambda: run(cost="flat", shuffled=True), "shuffled: got True with the cost flat"),
        (lambda: run(seed=-1), "seed: got -1, expected a whole number from 0"),
        (lambda: run(place={"a": "axb"}), r"place a: got 'axb', expected 32x32 \(a grid\)"),
        (lambda: run(place={"a": "99999x99999"}), "place a: got 99999x99999, which is 9,999,800,001 units"),
        (lambda: run(place={"a": []}), "place a: got none, expected one geometry"),
        (lambda: run(place={"a": "1" + "x1" * 50_000}), "place a: got '1x1"),
        (lambda: run(place={"a": "4x4,4x4"}), "place a: got 4x4,4x4, expected one geometry"),
        (lambda: run(local={"a": "4x4,4x4,4x4"}), "local a: got .*, expected one geometry, or a source and a target"),
        (lambda: run(place=["a"]), "place: got 'a', expected module=geometry, such as fc1=32x32"),
        (lambda: run(place=["a=3", "a=4"]), "place: got the module a twice, expected each module once"),
        (lambda: run(place=3), "place: got 3, expected geometries by module"),
        (lambda: run(recipe="sgd"), "recipe: got sgd, expected a Recipe"),
        (lambda: Recipe(optimizer="lion"), "optimizer: got lion, expected one of sgd, rmsprop, adam, adamw"),
        (lambda: Recipe(lr=0), "lr: got 0, expected a finite number above 0"),
        (lambda: Recipe(lr="fast"), "lr: got fast, expected"),
        (lambda: Recipe(batch_size=1), "batch_size: got 1, expected a whole number from 2"),
        (lambda: Recipe(batch_size=10**12), "batch_size: got 1000000000000, expected"),
        (lambda: Recipe(epochs=1.5), "epochs: got 1.5, expected a whole number"),
    ],
)
def test_bad_settings_are_one_line(make: Callable[[], Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said) as error:
        make()
    assert "\n" not in str(error.value)


def test_settings_are_canonical_from_the_moment_they_are_read() -> None:
    one = run(cost="linear:1@2.0", place={"output": (4, 4)}, local=["middle=4x4"], seed=np.int64(1))
    assert one == run(cost=lp.cost.Linear().within(2), place=[("output", lp.Grid(4, 4))], local={"middle": "04x4"})
    assert Recipe(lr="1e-4").lr == 1e-4
    assert run_name(one) == run_name(run(place={"output": "4x4"}, local={"middle": "4x4"}))
    names = {run_name(r) for r in (RUN, run(cost="linear"), run(shuffled=True), run(seed=2), run(recipe=Recipe()))}
    assert len(names) == 5


# --- matched pairs ---------------------------------------------------------------------------------------------------


class Called(nn.Module):
    """A recurrent or attention layer between linear ones, in a network that calls it on sequences of four."""

    def __init__(self, units: int, kind: str) -> None:
        super().__init__()
        self.into = nn.Linear(4, units)
        if kind == "lstm":
            self.middle: nn.Module = nn.LSTM(units, units, batch_first=True)
        else:
            self.middle = nn.MultiheadAttention(units, 2, batch_first=True)
        self.kind, self.drop, self.head = kind, nn.Dropout(0.3), nn.Linear(units, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.into(x.reshape(len(x), 4, 4))
        x = self.middle(x)[0] if self.kind == "lstm" else self.middle(x, x, x)[0]
        return self.head(self.drop(x).mean(1))


def made(kind: str, side: int) -> nn.Module:
    """A network whose local layer is ``middle`` and whose first dropout is ``start``; more layers follow."""
    units = side * side
    if kind in ("lstm", "attention"):
        return nn.Sequential(OrderedDict(start=nn.Dropout(0.3), body=Called(units, kind)))
    if kind == "conv":
        middle: dict[str, nn.Module] = {
            "image": nn.Unflatten(1, (1, 4, 4)),
            "first": nn.Conv2d(1, units, 3, padding=1),
            "middle": nn.Conv2d(units, units, 3, padding=1),
            "drop": nn.Dropout2d(),
            "flat": nn.Flatten(),
        }
        return nn.Sequential(OrderedDict(start=nn.Dropout(0.3), **middle, head=nn.Linear(16 * units, 4)))
    middle = {"first": nn.Linear(16, units), "middle": nn.Linear(units, units), "drop": nn.Dropout()}
    return nn.Sequential(OrderedDict(start=nn.Dropout(0.3), **middle, head=nn.Linear(units, 4)))


def raw_matches(layer: nn.Module, plain: nn.Module, wires: bool) -> None:
    """The raw weights of a locality layer are the plain layer's on its wires; everything else is equal whole."""
    assert isinstance(layer, Locality)
    through = {wiring.name: wiring for wiring in layer.wirings()}
    for name, theirs in plain.named_parameters():
        if name not in through:
            assert torch.equal(layer.get_parameter(name), theirs)
            continue
        wiring = through[name]
        if wiring.sparse:
            table = wiring.rule.wires()
            assert wires
            assert torch.equal(wiring.weight, theirs[table.rows(), table.sources])
        else:
            on = torch.ones_like(theirs) if wiring.support is None else wiring.support.expand_as(theirs)
            assert torch.equal(wiring.weight * on, theirs * on)


CONDITIONS = [("linear", False), ("linear@2", False), ("gaussian:2@3", False), ("linear@2", True)]


@pytest.mark.parametrize(("cost", "shuffled"), CONDITIONS)
@pytest.mark.parametrize(
    ("kind", "side", "sparse"),
    [("linear", 4, False), ("linear", 32, True), ("conv", 4, False), ("lstm", 4, False), ("attention", 4, False)],
)
def test_every_condition_starts_from_the_weights_of_its_control(
    kind: str, side: int, sparse: bool, cost: str, shuffled: bool
) -> None:
    where = "body.middle" if kind in ("lstm", "attention") else "middle"
    common: dict[str, Any] = {"place": {where: (side, side)}, "local": {where: (side, side)}}

    def net() -> nn.Module:
        return made(kind, side)

    task = tiny.blobs()
    plain = network(Run(tiny.TASK, net, **common), task)
    local = network(Run(tiny.TASK, net, cost, shuffled, **common), task)
    layer = local.model.get_submodule(where)
    raw_matches(layer, plain.model.get_submodule(where), wires=sparse and "@" in cost)
    if sparse and "@2" in cost:
        assert layer.wirings()[0].sparse
    ours, theirs = (dict(one.model.named_parameters()) for one in (local, plain))
    assert ours.keys() == theirs.keys()
    for name in theirs:
        if not name.startswith(where):
            assert torch.equal(ours[name], theirs[name])


@pytest.mark.parametrize("side", [4, 32])
def test_every_condition_sees_the_same_items_and_the_same_dropout(
    side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a dropout at the start of the network lets through depends on the items and on what was drawn before."""
    monkeypatch.setattr(measure, "GRAPH", 100)  # graphs of a thousand units take long
    seen: list[Tensor] = []

    def net() -> nn.Module:
        model = made("linear", side)
        model.start.register_forward_hook(lambda module, _, out: seen.append(out.clone()) if module.training else None)
        return model

    found = []
    for k, (cost, shuffled) in enumerate([("flat", False), ("linear@2", False), ("linear@2", True)]):
        seen.clear()
        one = Run(tiny.TASK, net, cost, shuffled, {"middle": (side, side)}, recipe=Recipe(epochs=2, batch_size=32))
        train(one, tmp_path / str(k))
        found.append(list(seen))
    assert len(found[0]) == 8
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_the_null_has_the_wires_of_another_sheet_and_seeds_differ() -> None:
    task = tiny.blobs()
    local, null, other = (network(one, task).model for one in (RUN, run(shuffled=True), run(seed=2)))
    assert sorted(local.middle.prior.sum(1).tolist()) == pytest.approx(sorted(null.middle.prior.sum(1).tolist()))
    assert not torch.equal(local.middle.prior, null.middle.prior)
    assert not torch.equal(local.middle.weight, other.middle.weight)


# --- training and resuming -------------------------------------------------------------------------------------------


def test_a_run_learns_and_leaves_its_files(straight: Path) -> None:
    assert {p.name for p in straight.iterdir() if not p.name.startswith(".")} == {
        *("config.yaml", "metrics.csv", "pruning.csv", "state.pt"),
        *("model.safetensors", "activations.npz", "measures.npz", "analysis.json"),
    }
    told = rows(straight / "metrics.csv")
    assert list(told[0]) == [
        *("epoch", "train_loss", "validation_loss", "validation_accuracy", "mean_wire_length", "seconds", "skipped")
    ]
    assert [row["epoch"] for row in told] == ["1", "2", "3"]
    assert float(told[2]["train_loss"]) < float(told[0]["train_loss"])
    assert numbers(straight)["measures"]["accuracy"] > 40  # of four classes
    assert (straight / "config.yaml").read_text().endswith("...\n")
    assert files.read_config(straight)["cost"] == "linear@2"


class Stop(Exception):
    pass


def stopped_after(steps: int) -> Callable[[int, float], None]:
    """A tick that stops training."""
    left = iter(range(steps))

    def tick(epoch: int, share: float) -> None:
        if next(left, None) is None:
            raise Stop

    return tick


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam", "adamw"])
def test_stopped_anywhere_a_run_ends_in_the_same_bits(optimizer: Any, tmp_path: Path) -> None:
    one = run(recipe=Recipe(optimizer, 0.01, epochs=2, batch_size=16, drop_every=1))
    train(one, tmp_path / "straight")
    home = tmp_path / "stopped"
    for steps in (0, 3, 5, 2):  # each time a little farther
        with pytest.raises(Stop):
            train(one, home, machine=Machine(save_every=0.0), tick=stopped_after(steps))
        assert not (home / "analysis.json").exists()
    train(one, home)
    assert_same(tmp_path / "straight", home)


def test_a_finished_run_is_not_trained_again(mine: Path) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in mine.iterdir()}
    assert train(RUN, str(mine), tick=stopped_after(0))
    assert before == {p.name: p.stat().st_mtime_ns for p in mine.iterdir()}


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file, or of the largest part of a ZIP file, whose headers have no checksums."""
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            part = max(file.infolist(), key=lambda one: one.compress_size)
        name, extra = (
            int.from_bytes(data[k : k + 2], "little") for k in (part.header_offset + 26, part.header_offset + 28)
        )
        at = part.header_offset + 30 + name + extra + part.compress_size // 2
    data[at] ^= 4
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damage", [flip, Path.unlink, lambda path: path.write_bytes(b"\0{")], ids=["bit", "gone", "junk"]
)
@pytest.mark.parametrize(
    "name", ["metrics.csv", "pruning.csv", "measures.npz", "model.safetensors", "activations.npz", "analysis.json"]
)
def test_what_is_damaged_is_made_again_by_the_same_call(name: str, damage: Any, mine: Path, straight: Path) -> None:
    damage(mine / name)
    if (name, damage) != ("analysis.json", flip):
        with pytest.raises(Problem):
            files.read_measured(mine)
    else:
        (mine / name).write_text((mine / name).read_text()[:-9])
    train(RUN, mine, tick=stopped_after(0))  # no step is trained again
    assert_same(mine, straight)
    files.read_measured(mine)


@pytest.mark.parametrize("told", ["3", "[]", "{}", '{"condition": 1}', None])
def test_an_analysis_of_another_form_is_not_a_finished_run(told: str | None, mine: Path, straight: Path) -> None:
    if told is None:
        held = json.loads((mine / "analysis.json").read_text())
        told = json.dumps(held | {"files": [1]})
    (mine / "analysis.json").write_text(told)
    with pytest.raises(Problem, match="Run the command that trained this network again"):
        files.read_analysis(mine)
    train(RUN, mine)
    assert_same(mine, straight)


def test_another_runs_directory_is_refused(mine: Path, tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"holds another run: seed = 1 \(asked: 2\). Choose a new directory"):
        train(run(seed=2), mine)
    with pytest.raises(Problem, match=r"recipe.lr = 0.1 \(asked: 0.01\)"):
        train(run(recipe=Recipe(epochs=3, batch_size=16, l1=1e-4, drop_every=2)), mine)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letters.txt").write_text("dear")
    with pytest.raises(Problem, match=r"holds letters.txt but no config.yaml. Choose a new or empty directory"):
        train(RUN, tmp_path / "other")
    with pytest.raises(ValueError, match=r"out: got .*, expected a directory \(.*letters.txt is a file\)"):
        train(RUN, tmp_path / "other" / "letters.txt" / "run")


def test_a_truncated_config_is_not_read(mine: Path) -> None:
    """The config of seed 15 must not be read as that of seed 1. A good state says what the run is."""
    text = (mine / "config.yaml").read_text()
    (mine / "config.yaml").write_text(text.replace("seed: 1\n...\n", "seed: 1"))
    with pytest.raises(Problem, match="another run"):
        train(run(seed=2), mine)
    train(RUN, mine)
    assert (mine / "config.yaml").read_text() == text
    (mine / "config.yaml").write_text(text.replace("seed: 1\n...\n", "seed: 1"))
    (mine / "state.pt").unlink()
    with pytest.raises(ValueError, match=r"config.yaml"):
        train(RUN, mine)


@pytest.mark.parametrize(
    "damage", [flip, lambda p: p.write_bytes(p.read_bytes()[:-100]), lambda p: p.write_text("a state"), Path.mkdir]
)
def test_a_damaged_state_says_so(damage: Any, mine: Path) -> None:
    (mine / "analysis.json").unlink()
    if damage is Path.mkdir:
        (mine / "state.pt").unlink()
    damage(mine / "state.pt")
    with pytest.raises(Problem, match=r"state.pt is damaged .*. Delete it to train this run from the start."):
        train(RUN, mine)


def test_a_state_never_runs_code(mine: Path, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "mark"),)

    (mine / "analysis.json").unlink()
    torch.save({"config": Hostile()}, mine / "state.pt")
    with pytest.raises(Problem, match="is damaged"):
        train(RUN, mine)
    assert not (tmp_path / "mark").exists()


def test_the_state_of_another_run_or_of_other_data_is_refused(mine: Path, tmp_path: Path) -> None:
    (mine / "analysis.json").unlink()
    state = torch.load(mine / "state.pt", weights_only=True)
    torch.save(state | {"config": state["config"] | {"seed": 2}}, mine / "state.pt")
    with pytest.raises(Problem, match=r"state.pt is the state of another run"):
        train(RUN, mine)
    torch.save(state | {"sizes": [1, 2, 3]}, mine / "state.pt")
    with pytest.raises(Problem, match=r"was begun with 1 \+ 2 \+ 3 items, and the task now has 128 \+ 32 \+ 40"):
        train(RUN, mine)


def test_a_diverging_loss_keeps_its_state_and_says_so(tmp_path: Path) -> None:
    one = run(recipe=Recipe(lr=1e9, epochs=2, batch_size=16))
    for _ in range(2):  # and the second time at once
        with pytest.raises(Problem, match=r"Training diverged: .* in epoch 1, step 8, with sgd, lr 1e\+09 and weight"):
            train(one, tmp_path / "run")
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["part"]["step"] == 8


def test_a_task_of_one_class_does_not_diverge(tmp_path: Path) -> None:
    x = torch.randn(40, 16)
    task = Task.classification((x, torch.zeros(40)), (x, torch.zeros(40)))
    train(Run(task, tiny.mlp, recipe=Recipe(epochs=1, batch_size=16)), tmp_path / "run")
    found = numbers(tmp_path / "run")["measures"]
    assert found["accuracy"] == 100
    assert found["morans_i.output"] is not None or found["patches.output"] is None


def test_a_full_disk_is_told_before_training_and_during_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_fabric import Fabric

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 2**10))
        with pytest.raises(Problem, match=r"has 0 MiB free, and this run needs 0 MiB. Make room"):
            train(RUN, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    save, saves = Fabric.save, iter(range(3))

    def full(self: Any, path: Path, state: Any) -> None:
        if next(saves, None) is None:
            Path(path).write_bytes(b"half a state")
            raise OSError(28, "No space left on device", str(path))
        save(self, path, state)

    with monkeypatch.context() as patched:
        patched.setattr(Fabric, "save", full)
        with pytest.raises(
            Problem, match=r"state.pt could not be written \(.*No space left.*\). The state that was saved"
        ):
            train(RUN, tmp_path / "run", machine=Machine(save_every=0.0))
    assert {p.name for p in (tmp_path / "run").iterdir() if p.name != ".lock"} == {"config.yaml", "state.pt"}
    train(RUN, tmp_path / "run")


def test_a_directory_at_work_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "alone_in", partial(alone_in, patience=0.0))
    with alone_in(tmp_path), pytest.raises(Problem, match="Another process is writing to"):
        train(RUN, tmp_path)


class Again(nn.Module):
    """A network that calls its layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.middle, self.head = nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.middle(x)))


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        (
            {"model": "lenet"},
            r"The model does not fit blobs: when it was tried on a few items, it or the loss raised",
        ),
        (
            {"model": lambda: nn.Sequential(nn.Linear(16, 2)), "place": {"0": (1, 2)}},
            "The model does not fit blobs: .* IndexError",
        ),
        ({"place": {"nothing": (4, 4)}}, "'nothing', which matches no"),
        ({"place": {"middle": (5, 5)}}, r"Grid\(5, 5\) of 25 units for middle, a Linear of 16 units"),
        ({"place": {"output": (5, 5)}, "cost": "flat"}, r"Grid\(5, 5\) of 25 units for output, whose output has shape"),
        (
            {"model": Again, "place": {"middle": (4, 4)}},
            "The module middle gave 64 responses to 32 items, so it cannot be a sheet",
        ),
        ({"local": {"output": (4, 4)}, "place": {"output": (4, 4)}}, "output"),
        ({"model": lambda: nn.Linear(16, 4)}, "place: got no sheet, expected modules and their geometries"),
        ({"recipe": Recipe(batch_size=500)}, None),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_written(differs: Any, said: str | None, tmp_path: Path) -> None:
    if said is None:
        train(run(**differs), tmp_path / "run")  # one batch of all items
        return
    with pytest.raises((ValueError, TypeError, Problem), match=said) as error:
        train(run(**differs), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_conv3d_and_other_shapes_of_weights_are_trained(tmp_path: Path) -> None:
    def net() -> nn.Module:
        layers = {"cube": nn.Unflatten(1, (1, 4, 2, 2)), "conv": nn.Conv3d(1, 4, 2), "flat": nn.Flatten()}
        return nn.Sequential(OrderedDict(**layers, head=nn.Linear(12, 4)))

    train(Run(tiny.TASK, net, place={"conv": (2, 2)}, recipe=Recipe(epochs=1)), tmp_path / "run")
    assert numbers(tmp_path / "run")["sheets"]["conv"]["units"] == 4


# --- a task of one's own ---------------------------------------------------------------------------------------------


class Sines(Task):
    """Regression: y = sin(x w). Its loss and score are its own, and items have no labels."""

    name = "sines"
    scores = (Score("error", "", "down", tolerance=0.05),)

    def __init__(self, wrong: str = "") -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(120, 16, generator=generator)
        self.y = 40 * torch.sin(self.x @ torch.randn(16, generator=generator))
        self.wrong = wrong

    @property
    def sizes(self) -> tuple[int, ...]:
        return 60, 30, 30

    def steps(self, batch_size: int, world: int) -> int:
        return 4 if self.wrong == "steps" else 3

    def epoch(self, seed: int, epoch: int, batch_size: int, shard: Shard, start: int = 0) -> Iterator[Batch]:
        order = torch.randperm(60, generator=torch.Generator().manual_seed(seed * 1000 + epoch))
        for step in range(start, 3):
            yield self._batch(order[20 * step : 20 * step + 20], shard)

    def validation(self, shard: Shard) -> Iterator[Batch]:
        yield self._batch(torch.arange(60, 90), shard)

    def test(self, shard: Shard) -> Iterator[Batch]:
        yield self._batch(torch.arange(90, 120), shard)

    def _batch(self, numbers: Tensor, shard: Shard) -> Batch:
        mine = shard.of(numbers)
        return Batch(({"x": self.x[mine]} if self.wrong == "mapping" else self.x[mine]), self.y[mine], len(numbers))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - targets).square().mean()

    def score(self, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {} if self.wrong == "score" else {"error": (outputs[:, 0] - targets).abs()}


def test_a_task_of_ones_own_is_trained_measured_and_has_a_page(tmp_path: Path) -> None:
    from locality_prior.report import write
    from locality_prior.studies import find

    for cost in ("flat", "linear"):
        for seed in (1, 2):
            one = Run(Sines, tiny.mlp, cost, seed=seed, recipe=Recipe(epochs=2, batch_size=20, lr=1e-4))
            train(one, tmp_path / "straight" / f"{cost}{seed}")
            with pytest.raises(Stop):
                train(one, tmp_path / "stopped", machine=Machine(save_every=0.0), tick=stopped_after(4))
            train(one, tmp_path / "stopped")
            assert_same(tmp_path / "straight" / f"{cost}{seed}", tmp_path / "stopped")
            shutil.rmtree(tmp_path / "stopped")
    home = tmp_path / "straight" / "linear1"
    told = numbers(home)
    assert told["task"] == {
        "name": "sines",
        "classes": None,
        "scores": [{"name": "error", "unit": "", "better": "down"}, {"name": "loss", "unit": "", "better": "down"}],
    }
    assert told["measures"].keys() >= {"error", "loss", "spatial_variance.output", "effective_dimension.output"}
    assert not any(name.startswith(("morans_i", "patches", "nestedness")) for name in told["measures"])
    with np.load(home / "measures.npz") as arrays:
        assert not any("class" in name or "selectivity" in name for name in arrays.files)
    found = find(tmp_path / "straight")
    assert {one["measure"] for one in found["comparisons"]} >= {"error", "loss"}
    assert write(tmp_path / "straight").is_file()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("steps", r"sines has 4 batches in an epoch, as its steps\(\) says, but its epoch\(\) gave 3"),
        ("score", r"sines has the score error, but its score\(\) gives no tensor of that name"),
    ],
)
def test_a_task_that_contradicts_itself_is_told(wrong: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(Problem, match=said):
        train(Run(Sines(wrong), tiny.mlp, recipe=Recipe(epochs=1)), tmp_path / "run")


class Keyword(nn.Module):
    """A network that takes its input by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.middle, self.head = nn.Linear(16, 16), nn.Linear(16, 1)

    def forward(self, *, x: Tensor) -> Tensor:
        return self.head(self.middle(x).relu())


def test_inputs_may_be_mappings(tmp_path: Path) -> None:
    train(Run(Sines("mapping"), Keyword, "linear", place={"middle": (4, 4)}, recipe=Recipe(epochs=1)), tmp_path / "run")
    assert numbers(tmp_path / "run")["measures"]["pruned_wires.weight"] <= 1


# --- what is measured ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["straight", "control"])
def test_the_numbers_are_those_of_the_library(which: str, request: pytest.FixtureRequest) -> None:
    """Made again from activations.npz and the weights, with the definitions of ``lp.analysis``."""
    home, sheet = request.getfixturevalue(which), lp.Grid(4, 4)
    told = numbers(home)["measures"]
    with np.load(home / "activations.npz") as kept:
        responses, labels = kept["sheet/output"].astype(np.float64), kept["labels"]
    assert responses.shape == (40, 16)
    variance = analysis.spatial_variance(responses, sheet)
    curve = analysis.response_correlation(responses, sheet)
    means = analysis.class_means(responses, labels)
    tuning = analysis.selectivity(responses, labels).d_prime
    tuning = np.where(np.ptp(responses, axis=0) == 0, 0.0, tuning)
    patches = [np.bincount(p[p >= 0]) for p in analysis.patches(tuning, sheet, 1.0)]
    weights = load_file(home / "model.safetensors")["middle.weight"]
    if which == "straight":
        weights = weights * lp.LocalityLinear(16, 16, source=sheet, cost=lp.cost.Linear().within(2)).prior
    lengths = analysis.wire_lengths(weights.abs().double().numpy(), sheet, sheet)
    expected = {
        "spatial_variance.output": np.nanmean(variance),
        "response_correlation.output": curve.score,
        "morans_i.output": np.nanmean(analysis.morans_i(means, sheet, permutations=1).i),
        "morans_i_normed.output": np.nanmean(
            analysis.morans_i(
                analysis.class_means(responses / np.sqrt(np.square(responses).mean(axis=0)), labels), sheet, 1
            ).i
        ),
        "patches.output": np.mean([len(sizes) for sizes in patches]),
        "patch_size.output": np.mean([sizes.mean() for sizes in patches if len(sizes)]),
        "nestedness.output": analysis.nested_patches(tuning, sheet, (0.5, 1.0, 1.5, 2.0)).score,
        "effective_dimension.output": analysis.effective_dimension(responses),
        "weight_norm.middle": float(weights.norm(dim=1).mean()),
        "weight_similarity.middle": analysis.weight_similarity(weights, sheet),
        "mean_wire_length.middle": lengths.mean,
        "total_wire_length.middle": lengths.total,
        "modularity.middle": analysis.modularity(weights.abs().double().numpy()).excess,
    }
    assert {name: told[name] for name in expected} == pytest.approx(expected, rel=1e-5)
    with np.load(home / "measures.npz") as arrays:
        np.testing.assert_allclose(arrays["sheet/output/variance"], variance, rtol=1e-5)
        np.testing.assert_allclose(arrays["sheet/output/class_means"], means, rtol=1e-5)
        np.testing.assert_allclose(arrays["sheet/output/selectivity"], tuning, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(arrays["sheet/output/curve"][:2], [curve.distance, curve.correlation], rtol=1e-4)
        assert arrays["classes"].tolist() == [0, 1, 2, 3]
        assert arrays["sheet/output/xy"].shape == (16, 2)
        assert arrays["wires/middle/strength"].sum() == pytest.approx(1)
        assert arrays["wires/middle/count"].sum() == pytest.approx(1)
        if which == "straight":
            assert (arrays["wires/middle/strength"][arrays["wires/middle/length"] > 2.5] == 0).all()


def test_wires_are_shorter_in_the_local_network_and_decay_is_charged_on_raw_weights(
    straight: Path, control: Path
) -> None:
    ours, theirs = (numbers(home)["measures"]["mean_wire_length.middle"] for home in (straight, control))
    assert ours < theirs
    assert float(rows(straight / "metrics.csv")[-1]["mean_wire_length"]) == pytest.approx(ours, rel=1e-5)


class Leaning(Classification):
    """A task whose validation items are another question than its test items: labels are shifted by one."""

    def test(self, shard: Shard) -> Iterator[Batch]:
        for batch in super().test(shard):
            yield batch._replace(targets=(batch.targets + 1) % 4)


def test_cuts_are_chosen_on_validation_and_told_on_test(straight: Path, tmp_path: Path) -> None:
    told = rows(straight / "pruning.csv")
    assert list(told[0]) == ["by", "wires", "share", "wire_length", "validation", "test"]
    plain = tiny.blobs()
    task = Leaning(plain.classes, plain._train, plain._validation, plain._test, name="blobs")
    train(Run(task, tiny.mlp, "linear@2", recipe=RECIPE), tmp_path / "run")
    leaning = rows(tmp_path / "run" / "pruning.csv")
    assert [row["validation"] for row in told] == [row["validation"] for row in leaning]
    assert [row["test"] for row in told] != [row["test"] for row in leaning]
    one, other = (numbers(home)["measures"] for home in (straight, tmp_path / "run"))
    assert one["accuracy"] != other["accuracy"]
    cuts = [name for name in one if name.startswith("pruned_")]
    assert len(cuts) == 9
    chosen = [name for name in cuts if not name.startswith("pruned_score")]
    assert {name: one[name] for name in chosen} == {name: other[name] for name in chosen}
    for by in ("weight", "length", "cost"):
        curve = [row for row in told if row["by"] == by]
        held = [row for row in curve if float(row["validation"]) >= float(curve[0]["validation"]) - 0.5 - 1e-9]
        assert one[f"pruned_wires.{by}"] == float(held[-1]["share"])
        assert one[f"pruned_length.{by}"] == pytest.approx(
            float(held[-1]["wire_length"]) / float(curve[0]["wire_length"])
        )
        assert one[f"pruned_score.{by}"] == pytest.approx(float(held[-1]["test"]) - float(curve[0]["test"]))


def test_wires_that_cost_alike_are_cut_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the control two of three ways cut the same wires, and every way begins with all of them."""
    from locality_prior.runs import finish, stages

    scored, evaluate = [], finish.evaluate
    monkeypatch.setattr(finish, "evaluate", lambda *args: scored.append(0) or evaluate(*args))
    made = network(run(cost="flat"), tiny.blobs())
    cuts = finish._cuts(made, tiny.blobs(), torch.device("cpu"), ("weight", "length", "cost"))
    scores = ("validation", "test")
    ways = [[[row[key] for key in scores] for row in cuts if row["by"] == by] for by in ("weight", "length", "cost")]
    assert ways[0] == ways[2] != ways[1]
    assert len(scored) == 2 * (2 * len(ways[0]) - 1)
    monkeypatch.setattr(stages, "MEMORY", 100)  # so that items are read again each time
    assert finish._cuts(made, tiny.blobs(), torch.device("cpu"), ("weight", "length", "cost")) == cuts


def test_every_network_is_scored_under_damage(straight: Path, control: Path) -> None:
    told = numbers(straight)["measures"]
    damaged = {"noise_score", "adversarial_score"}
    damaged |= {f"{where}_lesion_score.{sheet}" for where in ("patch", "random") for sheet in ("input", "output")}
    assert told.keys() >= damaged
    assert numbers(control)["measures"].keys() >= damaged
    assert all(0 <= told[name] <= 100 for name in damaged)


def test_all_wires_score_as_the_whole_network(straight: Path, control: Path) -> None:
    for home in (straight, control):
        whole = [row for row in rows(home / "pruning.csv") if row["share"] == "1.0"]
        assert len(whole) == 3
        assert {float(row["test"]) for row in whole} == {numbers(home)["measures"]["accuracy"]}


def test_a_shuffled_network_has_no_cuts_by_length(tmp_path: Path) -> None:
    train(run(shuffled=True), tmp_path / "run")
    told = numbers(tmp_path / "run")["measures"]
    assert told["pruned_wires.weight"] is not None
    cuts = [name for name in told if name.startswith("pruned_") and told[name] is not None]
    assert cuts == ["pruned_wires.weight", "pruned_score.weight"]
    assert {row["by"] for row in rows(tmp_path / "run" / "pruning.csv")} == {"weight"}
    assert told["mean_wire_length.middle"] > 1.5  # on the sheet, though each of its wires is at most 2 long elsewhere


class Turned(nn.Sequential):
    """A sequence that does something else than call its parts one after another."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(-x) + x[:, :4]


@pytest.mark.parametrize("kind", ["relu used twice", "forward of its own", "tuples between"])
def test_cuts_are_those_of_the_model_as_it_runs(kind: str, tmp_path: Path) -> None:
    """What comes before the first layer to cut is computed once only where that is the same."""

    def net() -> nn.Module:
        relu = nn.ReLU()
        parts: dict[str, nn.Module] = {"first": nn.Linear(16, 16), "a": relu, "middle": nn.Linear(16, 16)}
        if kind == "tuples between":
            parts = {"first": nn.Linear(16, 16), "two": Two(), "middle": Join(), "b": relu, "c": nn.Identity()}
        sequence = Turned if kind == "forward of its own" else nn.Sequential
        return sequence(OrderedDict(**parts, d=relu, head=nn.Linear(16, 4)))

    where = {"middle.inner" if kind == "tuples between" else "middle": (4, 4)}
    one = Run(tiny.TASK, net, "linear", place=where, recipe=Recipe(epochs=2, batch_size=16, lr=0.1))
    train(one, tmp_path / "run")
    told = numbers(tmp_path / "run")["measures"]
    assert {float(r["test"]) for r in rows(tmp_path / "run" / "pruning.csv") if r["share"] == "1.0"} == {
        told["accuracy"]
    }


class Two(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Join(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(16, 16)

    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return self.inner(pair[0] + pair[1])


@pytest.mark.parametrize("kind", ["conv", "lstm", "attention"])
@pytest.mark.parametrize("cost", ["flat", "linear"])
def test_other_layers_are_measured(kind: str, cost: str, tmp_path: Path) -> None:
    where = "middle" if kind == "conv" else "body.middle"
    one = Run(tiny.TASK, lambda: made(kind, 4), cost, place={where: (4, 4)}, recipe=Recipe(epochs=1, batch_size=32))
    train(one, tmp_path / "run")
    told = numbers(tmp_path / "run")
    assert told["sheets"][where]["units"] == 16
    assert told["layers"][where]["pairs"] == 256
    assert told["measures"][f"mean_wire_length.{where}"] > 0
    assert told["measures"][f"morans_i.{where}"] is not None
    assert told["sheets"][where]["undefined"] == 40  # their outputs have both signs
    assert told["measures"][f"spatial_variance.{where}"] is None
    assert not (tmp_path / "run" / "pruning.csv").exists()
    layer = network(one, tiny.blobs()).layers[0]
    assert layer.strength(network(one, tiny.blobs()).model).shape == (16, 16)


def test_channels_share_a_place_and_what_cannot_be_drawn_has_no_places(tmp_path: Path) -> None:
    def net() -> nn.Module:
        model = made("conv", 2)
        ring = lp.Graph([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]])
        model.place = {"flat": lp.Grid(4, 4).with_channels(4), "head": ring}
        model.local = {"middle": lp.Grid(2, 2)}
        return model

    train(Run(tiny.TASK, net, recipe=Recipe(epochs=1, batch_size=32)), tmp_path / "run")
    told = numbers(tmp_path / "run")
    assert told["sheets"]["flat"]["units"] == 16
    assert told["sheets"]["flat"]["places"]["shape"] == [4, 4]
    assert told["sheets"]["head"]["places"] is None
    with np.load(tmp_path / "run" / "measures.npz") as arrays, np.load(tmp_path / "run" / "activations.npz") as kept:
        assert "sheet/head/xy" not in arrays.files
        assert kept["sheet/flat"].shape == (40, 16)
    model = network(Run(tiny.TASK, net), tiny.blobs()).model
    model.load_state_dict(load_file(tmp_path / "run" / "model.safetensors"))
    with np.load(tmp_path / "run" / "activations.npz") as kept, torch.no_grad():
        images = next(iter(tiny.blobs().test(Shard()))).inputs
        features = model.eval()[:5](images)
        np.testing.assert_allclose(kept["sheet/flat"], features.mean(1).flatten(1), rtol=1e-4, atol=1e-6)


def test_undefined_numbers_are_null(tmp_path: Path) -> None:
    """Of a network whose units never respond."""
    task, model = tiny.blobs(), tiny.mlp()
    with torch.no_grad():
        model.norm.weight.zero_()
        model.norm.bias.fill_(-1)
    told = runs.record(model, lp.place(model, {"output": lp.Grid(4, 4)}), task, tmp_path, condition="control", seed=1)
    assert told["sheets"]["output"]["silent"] == 16
    assert told["sheets"]["output"]["undefined"] == 40
    for name in ("spatial_variance", "response_correlation", "morans_i", "patch_size"):
        assert told["measures"][f"{name}.output"] is None
    assert told["measures"]["patches.output"] == 0
    json.loads((tmp_path / "analysis.json").read_text(), parse_constant=lambda name: pytest.fail(name))


# --- networks of one's own loop --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_folder_of_recorded_networks_is_a_study(tmp_path: Path) -> None:
    from locality_prior.report import write
    from locality_prior.studies import find

    task, sheet = tiny.blobs(), lp.Grid(4, 4)
    for seed in (1, 2, 3):
        for condition in ("control", "linear", "linear shuffled"):
            torch.manual_seed(seed)
            model = tiny.mlp(task)
            if condition == "linear":
                lp.localize(model, {"middle": sheet}, cost=lp.cost.Linear(), keep="weights")
            elif condition != "control":
                null = lp.Shuffled(sheet, sheet, seed)
                lp.localize(model, {"middle": (null, null)}, cost=lp.cost.Linear(), keep="weights")
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            for batch in task.epoch(seed, 1, 16, Shard()):
                optimizer.zero_grad()
                task.loss(model(batch.inputs), batch.targets).backward()
                optimizer.step()
            runs.record(
                model,
                lp.place(model, {"output": sheet}),
                task,
                tmp_path / f"{condition}-{seed}",
                condition=condition,
                seed=seed,
                local={"middle": sheet},
                shuffled=condition == "linear shuffled",
            )
    found = find(tmp_path)
    assert set(found["conditions"]) == {"control", "linear", "linear shuffled"}
    lengths = [one for one in found["comparisons"] if one["measure"] == "mean_wire_length.middle"]
    assert {one["condition"] for one in lengths} >= {"linear"}
    assert next(one for one in lengths if one["condition"] == "linear")["mean_difference"] < 0
    assert write(tmp_path).is_file()


def test_a_recorded_network_is_left_as_it_was(tmp_path: Path) -> None:
    task, model = tiny.blobs(), tiny.mlp()
    model.train()
    model.norm.eval()  # as where statistics are frozen
    model.head.weight.grad = torch.ones_like(model.head.weight)
    state, middle = {k: v.clone() for k, v in model.state_dict().items()}, model.middle
    modes = [module.training for module in model.modules()]
    random_state = torch.get_rng_state()
    placed = lp.place(model, {"output": lp.Grid(4, 4)})
    arguments: dict[str, Any] = {"condition": "control", "seed": 1, "local": {"middle": lp.Grid(4, 4)}}
    told = runs.record(model, placed, task, tmp_path / "run", **arguments)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert model.middle is middle
    assert torch.equal(model.head.weight.grad, torch.ones_like(model.head.weight))
    assert torch.equal(random_state, torch.get_rng_state())
    assert not any(module._forward_hooks for module in model.modules())
    assert runs.record(model, placed, task, tmp_path / "run", **arguments) == told  # replaced by the same
    runs.record(model, placed, task, tmp_path / "run", condition="control", seed=1)
    assert not (tmp_path / "run" / "pruning.csv").exists()  # that of the first is gone


def test_a_recorded_network_measures_as_a_trained_one(straight: Path, tmp_path: Path) -> None:
    net = network(RUN, tiny.blobs())
    net.model.load_state_dict(torch.load(straight / "state.pt", weights_only=True)["model"])
    told = runs.record(net.model, net.placed, tiny.blobs(), tmp_path, condition="linear@2", seed=1)
    expected = numbers(straight)
    assert told["measures"] == expected["measures"]
    assert told["sheets"] == expected["sheets"]
    assert told["layers"] == expected["layers"]


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ({"model": 3}, "model: got 3, expected a torch.nn.Module"),
        ({"placed": {}}, "placed: got {}, expected a placement, from locality_prior.place"),
        ({"placed": lp.place(tiny.mlp(), {"output": lp.Grid(4, 4)})}, "placed: got a placement of another model"),
        ({"task": "blobs"}, "task: got blobs, expected a Task"),
        ({"condition": " "}, "condition: got , expected a few words"),
        ({"seed": -1}, "seed: got -1, expected a whole number of at least 0"),
        ({"shuffled": "no"}, "shuffled: got no, expected True or False"),
        ({"local": 3}, "local: got 3, expected geometries by layer"),
        ({"local": {"nothing": lp.Grid(4, 4)}}, "nothing"),
        ({"local": {"middle": lp.Grid(3, 3)}}, "3, 3|9 units"),
    ],
)
def test_bad_arguments_of_record_leave_nothing(differs: dict[str, Any], said: str, tmp_path: Path) -> None:
    model = tiny.mlp()
    values = {"model": model, "placed": lp.place(model, {"output": lp.Grid(4, 4)}), "task": tiny.blobs()}
    values |= {"directory": tmp_path / "run", "condition": "control", "seed": 1} | differs
    with pytest.raises((ValueError, TypeError), match=said):
        runs.record(**values)
    assert not (tmp_path / "run").exists()


def test_record_leaves_other_directories_alone(mine: Path, tmp_path: Path) -> None:
    model = tiny.mlp()
    placed = lp.place(model, {"output": lp.Grid(4, 4)})
    with pytest.raises(Problem, match=r"holds another run. Choose a new directory for control, seed 1."):
        runs.record(model, placed, tiny.blobs(), mine, condition="control", seed=1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letters.txt").write_text("dear")
    with pytest.raises(Problem, match=r"holds letters.txt but no config.yaml"):
        runs.record(model, placed, tiny.blobs(), tmp_path / "other", condition="control", seed=1)


# --- machines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        (
            {"devices": "999999"},
            r"devices: got 999999, expected auto, or from 1 to \d+, the number of this machine's cores",
        ),
        ({"devices": 999999, "accelerator": "auto"}, "devices: got 999999, expected auto, or from 1 to"),
        ({"devices": "9" * 10_000}, "devices: got 9999"),
        ({"devices": 0}, "devices: got 0, expected auto"),
        ({"devices": "-1"}, "devices: got -1, expected auto"),
        ({"devices": "two"}, "devices: got two, expected auto"),
        ({"nodes": 10**9}, "nodes: got 1000000000, expected a whole number from 1 to"),
        ({"workers": -1}, "workers: got -1, expected a whole number from 0 to"),
        ({"workers": 999999}, "workers: got 999999, expected a whole number from 0 to"),
        ({"accelerator": "tpu"}, "accelerator: got tpu, expected one of cpu, cuda, mps, auto"),
        ({"strategy": "magic"}, "strategy: got magic, expected one of auto, ddp, fsdp"),
        ({"save_every": -1}, "save_every: got -1, expected a finite number of at least 0"),
        ({"compile": "yes"}, "compile: got yes, expected True or False"),
    ],
)
def test_a_machine_that_there_is_not_is_one_line(differs: dict[str, Any], said: str) -> None:
    start = time.monotonic()
    with pytest.raises(ValueError, match=said) as error:
        Machine(**differs)
    assert time.monotonic() - start < 1
    assert len(str(error.value)) < 400


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
@pytest.mark.parametrize("machine", [Machine("cuda"), Machine("mps"), Machine("cuda", "8"), Machine(strategy="fsdp")])
def test_an_absent_accelerator_is_named(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    with pytest.raises(
        ValueError, match=r"accelerator: got .*, expected what this machine has, such as cpu \("
    ) as error:
        train(RUN, tmp_path / "run", machine=machine)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_mixed_precision_and_long_runs(tmp_path: Path) -> None:
    one = run(recipe=Recipe(epochs=20, batch_size=64, precision="bf16-mixed"))
    train(one, tmp_path / "run")
    assert list((tmp_path / "run" / "logs").iterdir())
    assert numbers(tmp_path / "run")["measures"]["loss"] > 0
