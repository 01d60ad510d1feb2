"""AlexNet on photographs in folders: what is read, what a stop leaves, and what several processes come to."""

from __future__ import annotations

import csv
import dataclasses
import html
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from photographs import CLASSES, TEST, write_folders
from torch import nn
from torch.testing import assert_close

import locality_prior as lp
from locality_prior import report
from locality_prior.experiments import Recipe, Run, data, loop, models
from locality_prior.experiments import train as training
from locality_prior.experiments.config import IMAGENET_RECIPES, PRESETS, AlexNet, standard
from locality_prior.experiments.data import Shard
from locality_prior.experiments.folders import Folders
from locality_prior.experiments.machine import Machine
from locality_prior.experiments.train import train
from locality_prior.report import tables
from locality_prior.studies import Reproduction
from locality_prior.studies.reproduction import CONDITIONS
from locality_prior.studies.reproduction import reproduce as run_reproduction
from locality_prior.studies.summary import summarise

SIZE = AlexNet(crop=36, width=0.1)
QUICK = Recipe("sgd", 0.01, 0.9, 1e-4, epochs=2, batch_size=8, drop_every=1)
RUN = Run("imagenet", "linear", QUICK, 1, (4, 4), SIZE)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """A finished run that nothing stopped."""
    out = tmp_path_factory.mktemp("straight") / "run"
    assert train(RUN, out, str(root)) is True
    return out


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(directory / "state.pt", weights_only=True)["model"]


def rows(directory: Path) -> list[dict[str, str]]:
    with open(directory / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def assert_same(a: Path, b: Path) -> None:
    """Two runs ended in the same bits, and say the same of themselves but for the time it took."""
    one, other = weights(a), weights(b)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    assert (a / "pruning.csv").read_bytes() == (b / "pruning.csv").read_bytes()
    for x, y in zip(rows(a), rows(b), strict=True):
        assert {k: v for k, v in x.items() if k != "seconds"} == {k: v for k, v in y.items() if k != "seconds"}


# Photographs


def batches(folders: Folders, epoch: int = 1, shard: Shard = Shard(), start: int = 0, seed: int = 1) -> list[Any]:  # noqa: B008
    return list(folders.epoch(seed, epoch, 8, shard, start))


def test_an_epoch_is_the_same_whoever_reads_it(root: Path) -> None:
    """Order and augmentation come from seed, epoch and file: not from who reads, from where, or from what was drawn."""
    folders = Folders(root, 36)
    before = torch.get_rng_state()
    whole = batches(folders)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(whole) == folders.steps(8, 1) == 5
    assert [b.planned for b in whole] == [8, 8, 8, 8, 4]
    assert folders.classes == CLASSES
    torch.manual_seed(5)
    for again, first in ((batches(Folders(root, 36, workers=2)), 0), (batches(folders, start=3), 3)):
        for a, b in zip(again, whole[first:], strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.labels, b.labels)
    assert not torch.equal(whole[0].images, batches(folders, epoch=2)[0].images)
    assert not torch.equal(whole[0].images, batches(folders, seed=2)[0].images)
    assert whole[0].images.shape == (8, 3, 36, 36)
    assert whole[0].images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("world", [2, 3])
def test_shards_are_the_whole_without_loss_or_duplication(root: Path, world: int) -> None:
    folders = Folders(root, 36)
    parts = [batches(folders, shard=Shard(rank, world)) for rank in range(world)]
    for step, whole in enumerate(batches(folders)[: len(parts[0])]):
        together = torch.empty_like(whole.images)
        labels = torch.empty_like(whole.labels)
        for rank, part in enumerate(parts):
            together[rank::world], labels[rank::world] = part[step].images, part[step].labels
            assert part[step].planned == whole.planned
        assert torch.equal(together, whole.images)
        assert torch.equal(labels, whole.labels)
    found = sorted(p for rank in range(world) for b in folders.test(Shard(rank, world)) for p in b.labels.tolist())
    assert found == sorted(k for k in range(CLASSES) for _ in range(TEST))


def test_a_last_batch_that_is_too_small_for_batchnorm_is_left_out() -> None:
    order = torch.arange(9)
    assert [len(b) for b in data.cut(order, 4, 1)] == [4, 4]
    assert [len(b) for b in data.cut(torch.arange(10), 4, 1)] == [4, 4, 2]
    assert [len(b) for b in data.cut(torch.arange(11), 4, 2)] == [4, 4]


def test_tests_are_cut_from_the_middle_and_kept_from_all_over(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image
    from torchvision.transforms import v2

    folders = Folders(root, 36)
    batch = next(iter(folders.test(Shard())))
    with Image.open(root / "val" / "class0" / "0.jpeg") as photograph:
        scaled = v2.functional.center_crop(v2.functional.resize(photograph.convert("RGB"), [41]), [36])
    pixels = torch.from_numpy(np.asarray(scaled).copy()).permute(2, 0, 1).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    assert_close(batch.images[0], (pixels - mean[:, None, None]) / std[:, None, None])
    whole = [k for k in range(CLASSES) for _ in range(TEST)]
    for kept, each, labels in ((6, 2, [0, 0, 1, 1, 2, 2]), (6, 3, [0, 0, 0, 2, 2, 2]), (99, 25, whole)):
        monkeypatch.setattr("locality_prior.experiments.folders.KEPT", kept)
        monkeypatch.setattr("locality_prior.experiments.folders.EACH", each)
        assert [k for b in folders.kept() for k in b.labels.tolist()] == labels


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A truncated photograph to train with, one that is none to test with."""
    folder = write_folders(tmp_path / "photographs")
    cut = folder / "train" / "class1" / "3.jpeg"
    cut.write_bytes(cut.read_bytes()[:400])
    (folder / "val" / "class2" / "0.jpeg").write_text("not a photograph")
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_named(broken: Path, workers: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data-root: got .*train/class1/3.jpeg \(.*\), which cannot be read") as error:
        train(RUN, tmp_path / "run", str(broken), Machine(workers=workers))
    assert "\n" not in str(error.value)


def test_or_left_out_and_counted(broken: Path, tmp_path: Path) -> None:
    train(RUN, tmp_path / "run", str(broken), Machine(skip_broken=True))
    assert [row["skipped"] for row in rows(tmp_path / "run")] == ["2", "2"]  # one in training, one in testing
    with np.load(tmp_path / "run" / "activations.npz") as kept:
        assert len(kept["labels"]) == CLASSES * TEST - 1


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "val").rename(root / "test"), "where val is missing"),
        (lambda root: (root / "train").rename(root / "test"), "where train is missing"),
        (lambda root: (root / "train" / "class9").mkdir(), "class9 in one of train and val"),
        (lambda root: [f.unlink() for f in (root / "val" / "class1").iterdir()], "expected photographs of every class"),
    ],
)
def test_a_bad_layout_is_named_and_nothing_written(spoil: Any, said: str, tmp_path: Path) -> None:
    root = write_folders(tmp_path / "photographs", 2, 2)
    spoil(root)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        train(RUN, tmp_path / "run", str(root))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "state.pt").exists()


def test_where_photographs_are_found(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imagenet").symlink_to(root)
    assert data.locate("imagenet", root) == root
    assert data.locate("imagenet", tmp_path) == tmp_path / "imagenet"
    monkeypatch.setenv(data.VARIABLE, str(tmp_path))
    assert data.locate("imagenet") == tmp_path / "imagenet"
    monkeypatch.delenv(data.VARIABLE)
    with pytest.raises(ValueError, match="data-root: got none, and no LOCALITY_PRIOR_DATA"):
        data.locate("imagenet")


# The network


@pytest.mark.parametrize("layer", ["fc6", "fc7"])
def test_alexnet_is_torchvisions_with_batchnorm(layer: Any) -> None:
    """At its own size: the same function as torchvision's module with the layer's V and the BatchNorm put in."""
    from torchvision.models import alexnet

    net = models.AlexNet(lp.cost.Linear(), lp.Grid(8, 8), 7, layer).eval()
    nn.init.uniform_(net.classifier[net.at][1].running_mean, -0.1, 0.1)
    plain = alexnet(num_classes=7)
    for k, features, out in ((1, 9216, 64), (4, 64, 64), (6, 64, 7)):
        plain.classifier[k] = nn.Linear(features, out)
    plain.classifier[net.at] = nn.Sequential(plain.classifier[net.at], nn.BatchNorm1d(64))
    plain.load_state_dict(lp.fold(net).state_dict())
    plain.eval()
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert_close(net(x), plain(x))
        before, after = net.sheets(x)
    assert before.shape == (2, 9216 if layer == "fc6" else 64)
    assert after.shape == (2, 64)
    assert (before >= 0).all()
    assert (after >= 0).all()
    assert net.locality.source == (lp.Grid(6, 6).with_channels(256) if layer == "fc6" else lp.Grid(8, 8))
    assert_close(net.head(after), net(x))


def test_control_and_local_start_from_the_same_weights() -> None:
    nets = [models.network(dataclasses.replace(RUN, cost=cost), 3) for cost in ("flat", "linear")]
    for (name, a), b in zip(nets[0].state_dict().items(), nets[1].state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert nets[0].locality.rule.flat
    # as nn.Linear draws it
    assert abs(float(nets[1].locality.weight.detach().std()) * (3 * 16) ** 0.5 - 1) < 0.2


def test_so_does_one_that_computes_wire_by_wire() -> None:
    run = dataclasses.replace(RUN, sheet=(32, 32), alexnet=AlexNet(crop=36, width=0.02))
    control, local = (models.network(dataclasses.replace(run, cost=cost), 3) for cost in ("flat", "linear@4"))
    pattern = local.locality.pattern
    assert pattern is not None
    assert torch.equal(local.locality.weight, pattern.gather(control.locality.weight))


def test_recipes_are_the_documents() -> None:
    recipe, sheet, size = standard("imagenet", "rmsprop")
    assert (recipe.optimizer, recipe.lr, recipe.momentum, recipe.weight_decay) == ("rmsprop", 0.1, 0.9, 1e-4)
    assert (recipe.epochs, recipe.batch_size, sheet, size) == (90, 256, (64, 64), AlexNet("fc7", 224, 1.0))
    small, sheet, size = standard("imagenet", "sgd", "small")
    assert small == dataclasses.replace(IMAGENET_RECIPES["sgd"], **PRESETS["small"][0])
    assert sheet == (32, 32)


# Training


def stop_at(steps: int) -> Any:
    left = iter(range(steps - 1))

    def tick(epoch: int, share: float) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return tick


def test_a_run_leaves_what_it_should(straight: Path) -> None:
    names = {p.name for p in straight.iterdir()}
    assert names == {
        "config.yaml", "metrics.csv", "state.pt", "model.safetensors", "activations.npz", "pruning.csv", "logs",
    }  # fmt: skip
    assert list((straight / "logs").iterdir())
    log = rows(straight)
    assert [row["epoch"] for row in log] == ["1", "2"]
    with np.load(straight / "activations.npz") as kept:
        assert kept["input"].shape == kept["output"].shape == (CLASSES * TEST, 16)
        x = torch.from_numpy(kept["output"])
    net = models.network(RUN, CLASSES)
    lp.load(straight / "model.safetensors", net)
    net.eval()
    with torch.no_grad():
        assert_close(F.cross_entropy(net.head(x), torch.tensor([0, 1, 2]).repeat_interleave(TEST)).item(),
                     float(log[-1]["test_loss"]), rtol=1e-4, atol=1e-6)  # fmt: skip


def test_lr_falls_tenfold(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    step = torch.optim.SGD.step

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    train(dataclasses.replace(RUN, recipe=dataclasses.replace(QUICK, epochs=3, drop_every=2)), tmp_path, str(root))
    assert [round(lr / 0.01, 6) for lr in seen] == [1.0] * 10 + [0.1] * 5


def test_top_five(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Counted by hand, of logits made up, where there are more than ten classes."""
    made = Folders(root, 36)
    monkeypatch.setattr(Folders, "classes", property(lambda self: 12))
    order = torch.randn(1000, 12)
    seen: list[torch.Tensor] = []

    class Net(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(order[: len(x)])
            return seen[-1]

    from lightning_fabric import Fabric

    found = loop.evaluate(Fabric(accelerator="cpu"), Net(), made)
    labels = torch.cat([b.labels for b in made.test(Shard())])
    ranks = [
        sorted(range(12), key=lambda k: -float(row[k])).index(int(y)) for row, y in zip(seen[0], labels, strict=True)
    ]
    assert_close(found["accuracy"], 100 * sum(r == 0 for r in ranks) / len(ranks))
    assert_close(found["top5_accuracy"], 100 * sum(r < 5 for r in ranks) / len(ranks))


@pytest.mark.parametrize("at", range(1, 11, 2))
def test_stopped_anywhere_it_ends_in_the_same_bits(at: int, straight: Path, root: Path, tmp_path: Path) -> None:
    """With a state kept at every step; then one more stop, of the resumed run."""
    every = Machine(save_every=0.0)
    for stop in (at, 3):
        try:
            train(RUN, tmp_path / "run", str(root), every, stop_at(stop))
        except KeyboardInterrupt:
            state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
            assert state["part"] is None or state["part"]["step"] > 0
    train(RUN, tmp_path / "run", str(root), every)
    assert_same(tmp_path / "run", straight)


def test_workers_change_nothing(straight: Path, root: Path, tmp_path: Path) -> None:
    train(RUN, tmp_path / "run", str(root), Machine(workers=2))
    assert_same(tmp_path / "run", straight)


def test_a_diverging_loss_is_said_and_its_state_kept(root: Path, tmp_path: Path) -> None:
    wild = dataclasses.replace(RUN, recipe=dataclasses.replace(QUICK, lr=1e4))
    for _ in range(2):  # and again, for the same command
        with pytest.raises(ValueError, match=r"recipe: got loss .* in epoch 1, step 5, .* a recipe that does not div"):
            train(wild, tmp_path / "run", str(root))
        state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
        assert state["part"]["step"] == 5
        assert len(state["optimizer"]["state"])


def test_a_full_disk_is_found_before_training(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(1 << 40, 1 << 40, 1 << 17))
    with pytest.raises(ValueError, match=r"out: got .* with 0 MiB free, expected 1 MiB for this run"):
        train(RUN, tmp_path / "run", str(root))
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fills_leaves_the_last_state(straight: Path, root: Path, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from lightning_fabric import Fabric

    save, saves = Fabric.save, iter(range(3))

    def full(self: Any, path: Path, state: Any) -> None:
        if next(saves, None) is None:
            Path(path).write_bytes(b"half a state")
            raise OSError(28, "No space left on device", str(path))
        save(self, path, state)

    with monkeypatch.context() as patched:
        patched.setattr(Fabric, "save", full)
        with pytest.raises(OSError, match="No space left"):
            train(RUN, tmp_path / "run", str(root), Machine(save_every=0.0))
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["config.yaml", "state.pt"]
    train(RUN, tmp_path / "run", str(root))
    assert_same(tmp_path / "run", straight)


def recipe(**differs: Any) -> Run:
    return dataclasses.replace(RUN, recipe=dataclasses.replace(QUICK, **differs))


SLURM = {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "4", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0"}


@pytest.mark.parametrize(
    ("run", "machine", "environment", "said"),
    [
        (
            RUN,
            Machine(),
            {"WORLD_SIZE": "2"},
            "devices: got 1 over all nodes, expected the 2 processes",
        ),
        (RUN, Machine(), SLURM, "devices: got 1 over all nodes, expected the 4"),
        (
            recipe(precision="16-mixed"),
            Machine(),
            {},
            "precision: got 16-mixed, expected bf16-mixed, which is what",
        ),
        (RUN, Machine(strategy="fsdp"), {}, "accelerator: got 'cpu', 1 devices, fsdp"),
    ],
)
@pytest.mark.filterwarnings("ignore:You passed `Fabric.*16-mixed:UserWarning")
def test_a_machine_that_is_not_as_asked_is_named(
    run: Run, machine: Machine, environment: dict[str, str], said: str, root: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Rather than training something else, or as often as there are processes."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=re.escape(said)):
        train(run, tmp_path / "run", str(root), machine)
    assert not (tmp_path / "run").exists()


def test_one_image_is_no_training_set_and_none_no_test(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "photographs", 1, 1)
    for part, extra in itertools.product(("train", "val"), ("class1", "class2")):
        shutil.rmtree(root / part / extra)
    with pytest.raises(ValueError, match="batch_size: got 8 over 1 devices, of 1 images, expected at least two images"):
        train(RUN, tmp_path / "run", str(root))
    other = write_folders(tmp_path / "others", 2, 1)
    for path in (other / "val").rglob("*.jpeg"):
        path.write_text("no photograph")
    with pytest.raises(ValueError, match="data-root: got no test image that can be read"):
        train(RUN, tmp_path / "other", str(other), Machine(skip_broken=True))


def test_other_data_than_a_run_was_begun_with_are_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(RUN, tmp_path / "run", str(root), Machine(save_every=0.0), stop_at(4))
    other = write_folders(tmp_path / "fewer", 4, 4)
    said = r"data-root: got 3 classes, 12 \+ 12 images, expected what .* was begun with, 3 classes, 36 \+ 18 images"
    with pytest.raises(ValueError, match=said):
        train(RUN, tmp_path / "run", str(other))


def test_a_run_may_go_on_where_its_own_files_fill_the_disk(
    straight: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(RUN, tmp_path / "run", str(root), Machine(save_every=0.0), stop_at(4))
    usage = namedtuple("usage", "total used free")
    size = sum(p.numel() * 4 for p in models.network(RUN, CLASSES).parameters())
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(0, 0, round(3.2 * size)))
    train(RUN, tmp_path / "run", str(root))
    assert_same(tmp_path / "run", straight)


def test_two_commands_do_not_write_to_one_directory(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("locality_prior._files.PATIENCE", 0.2)

    def meanwhile(epoch: int, share: float) -> None:
        if (epoch, share) == (1, 1.0):
            with pytest.raises(ValueError, match=r"out: got .*, which another process is writing to"):
                train(RUN, tmp_path / "run", str(root))

    train(RUN, tmp_path / "run", str(root), tick=meanwhile)
    assert not [p.name for p in (tmp_path / "run").iterdir() if p.name.startswith(".")]


def test_a_run_begun_before_files_were_counted_can_be_finished(straight: Path, root: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(RUN, tmp_path / "run", str(root), tick=stop_at(7))
    path = tmp_path / "run" / "state.pt"
    state = torch.load(path, weights_only=True)
    del state["sizes"], state["part"]
    for row in state["history"]:
        del row["skipped"]
    torch.save(state, path)
    train(RUN, tmp_path / "run", str(root))
    assert_same(tmp_path / "run", straight)


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_mixed_precision(precision: Any, root: Path, tmp_path: Path) -> None:
    train(recipe(precision=precision), tmp_path, str(root))
    assert all(w.dtype in (torch.float32, torch.int64) for w in weights(tmp_path).values())
    assert float(rows(tmp_path)[-1]["train_loss"]) < 2


def test_a_study_to_its_report(root: Path, tmp_path: Path, sketched: dict[str, object]) -> None:
    """Of fc6, whose two sheets differ."""
    size = dataclasses.replace(SIZE, layer="fc6")
    study = Reproduction("imagenet", dataclasses.replace(QUICK, epochs=1), (1,), CONDITIONS, (4, 4), size)
    with ThreadPoolExecutor(1) as executor:
        run_reproduction(study, tmp_path, str(root), executor)
    summary = summarise(tmp_path)
    page = html.unescape(report.write(tmp_path).read_text())
    assert "its layer fc6, of 16 units, goes from the last convolution's 6×6 places to a 4×4 sheet" in page
    assert "over 18 test images" in page.replace("\n", " ")
    assert tables.document(summary) is None  # whose sheets are 64×64
    assert [len(row) for row in tables.tests(summary)] == [10] * 3
    assert tables.document(summary | {"sheet": [64, 64]}) is None  # and go from sheet to sheet
    theirs = tables.tests(summary | {"sheet": [64, 64], "layer": "fc7"})[-2:]
    assert [row[:4] for row in theirs] == [
        ["local, document", "input", "−56.5", "−38.98"], ["local, document", "output", "−38.2", "−26.08"],
    ]  # fmt: skip


# Several processes

STUDY = Reproduction("imagenet", QUICK, (1,), CONDITIONS, (4, 4), SIZE)

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_imagenet import STUDY, models, run_reproduction, still, training
from locality_prior.experiments.machine import Machine
training.network = still(models.network)
run_reproduction(STUDY, Path(sys.argv[1]), {root!r}, machine=Machine(devices="2"))
print("finished")
"""


class Frozen(nn.BatchNorm1d):
    """BatchNorm that stays as it is."""

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


def still(network: Any) -> Any:
    """Networks without dropout, their BatchNorm frozen: what differs between one process and several is left out."""

    def made(run: Run, classes: int) -> models.Network:
        net = network(run, classes)
        for module in net.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if isinstance(module, nn.BatchNorm1d):
                module.__class__ = Frozen
        return net

    return made


@pytest.fixture(scope="session")
def script(tmp_path_factory: pytest.TempPathFactory, root: Path) -> str:
    path = tmp_path_factory.mktemp("script") / "script.py"
    path.write_text(SCRIPT.format(tests=str(Path(__file__).parent), root=str(root)))
    return str(path)


def start(*command: str, **options: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *command], env=environment, start_new_session=True, text=True, **options)


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory, script: str) -> Path:
    """A study of two networks by two processes, started by torchrun."""
    out = tmp_path_factory.mktemp("two") / "out"
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    process = start(*launch, script, str(out), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, wrong = process.communicate(timeout=300)
    assert process.returncode == 0, wrong[-3000:]
    assert said.split() == ["finished"] * 2
    return out


def test_two_processes_are_one(two: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same weights as one process with the same batches, to float32's rounding."""
    monkeypatch.setattr(training, "network", still(models.network))
    with ThreadPoolExecutor(1) as executor:
        run_reproduction(STUDY, tmp_path, str(root), executor)
    first = models.network(RUN, CLASSES).state_dict()
    for run in ("control-seed1", "local-seed1"):
        ours, theirs = tmp_path / "runs" / run, two / "runs" / run
        one, both = weights(ours), weights(theirs)
        assert one.keys() == both.keys() == first.keys()
        for name in one:
            assert_close(both[name], one[name], rtol=1e-4, atol=1e-6)
        assert any(float((one[n] - first[n]).abs().max()) > 1e-3 for n in one)  # they did learn
        for a, b in zip(rows(ours), rows(theirs), strict=True):
            for key in ("train_loss", "test_loss", "accuracy", "mean_wire_length"):
                assert_close(float(a[key]), float(b[key]), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_killed_process_of_two_leaves_what_can_be_resumed(script: str, two: Path, tmp_path: Path) -> None:
    """Here the first process starts the second; whichever is killed, the command goes on to the same bits."""
    out = tmp_path / "out"
    with open(tmp_path / "said", "w") as said:
        process = start(script, str(out), stdout=said, stderr=said)
    state = out / "runs" / "control-seed1" / "state.pt"
    end = time.monotonic() + 120
    while not state.exists():  # the first epoch's of the first network
        assert time.monotonic() < end
        assert process.poll() is None, (tmp_path / "said").read_text()[-3000:]
        time.sleep(0.01)
    listed = subprocess.run(["ps", "-o", "pid=", "-s", str(process.pid)], capture_output=True, text=True, check=True)
    ranks = [int(pid) for pid in listed.stdout.split()]
    assert len(ranks) >= 2
    os.kill(max(ranks), signal.SIGKILL)
    assert process.wait(timeout=120) != 0  # the other does not wait for it for ever
    torch.load(state, weights_only=True)
    again = start(script, str(out), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, wrong = again.communicate(timeout=300)
    assert again.returncode == 0, wrong[-3000:]
    for run in ("control-seed1", "local-seed1"):
        one, other = weights(two / "runs" / run), weights(out / "runs" / run)
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert rows(out / "runs" / run)[-1]["accuracy"] == rows(two / "runs" / run)[-1]["accuracy"]
