"""Tasks: batches that are the same whenever they are asked for, validation items, and bad input."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from locality_prior._check import Problem
from locality_prior.runs import Batch, Score, Shard, Task
from locality_prior.runs.arrays import held_out
from locality_prior.runs.task import drawing, representative

X, Y = torch.arange(60.0).reshape(60, 1).repeat(1, 3), torch.arange(60) % 3


def made(**differs: Any) -> Task:
    values = {"train": (X[:40], Y[:40]), "test": (X[40:], Y[40:]), "validation": 0.25}
    return Task.classification(**(values | differs))


def read(batches: Any) -> list[tuple[Any, list[int]]]:
    return [(batch.inputs.tolist(), batch.targets.tolist()) for batch in batches]


class Noisy(Dataset[Any]):
    """Items with noise from each of the generators that users' transforms draw from."""

    def __init__(self, targets: bool) -> None:
        if targets:
            self.targets = Y[:40].tolist()
        self.classes = ["a", "b", "c"]

    def __len__(self) -> int:
        return 40

    def __getitem__(self, k: int) -> tuple[Tensor, int]:
        noise = [float(torch.rand(1)), random.random(), float(np.random.rand())]  # noqa: NPY002
        return X[k] + torch.tensor(noise), int(Y[k])


def write_folders(root: Path, classes: int = 3, train: int = 8, test: int = 4) -> Path:
    """Photographs in train and val under ``root``: each class a colour of its own, with noise."""
    rng = np.random.default_rng(0)
    for part, n in (("train", train), ("val", test)):
        for label in range(classes):
            folder = root / part / f"class{label}"
            folder.mkdir(parents=True)
            for k in range(n):
                pixels = rng.integers(0, 120, (40, 48, 3), dtype=np.uint8)
                pixels[..., label] += 120
                Image.fromarray(pixels).save(folder / f"{k}.jpeg")
    return root


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("photographs"))


# --- from arrays, data sets and folders ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, lambda v: v.tolist()])
def test_arrays_tensors_and_lists_are_the_same_task(kind: Any) -> None:
    task = made(train=(kind(X[:40]), kind(Y[:40])), test=(kind(X[40:]), kind(Y[40:])))
    assert task.sizes == (30, 10, 20)
    assert task.classes == ("0", "1", "2")
    assert read(task.epoch(1, 1, 8, Shard())) == read(made().epoch(1, 1, 8, Shard()))
    (test,) = task.test(Shard())
    assert test.inputs.dtype == torch.float32
    assert torch.equal(test.inputs, X[40:])
    assert torch.equal(test.labels, Y[40:])


@pytest.mark.parametrize("targets", [True, False])
def test_a_data_set_is_read_and_its_classes_have_names(targets: bool) -> None:
    task = made(train=Noisy(targets), test=TensorDataset(X[40:], Y[40:]))
    assert task.sizes == (30, 10, 20)
    assert task.classes == ("a", "b", "c")
    found = torch.cat([batch.inputs for batch in task.epoch(1, 1, 8, Shard())])
    assert len(set(found[:, 0].long().tolist())) == 30
    labels = torch.cat([batch.labels for batch in task.epoch(1, 1, 8, Shard())])
    assert torch.equal(labels, found[:, 0].long() % 3)


def test_pixels_are_scaled_and_a_transform_is_for_whole_batches() -> None:
    pixels = (X % 256).byte()
    (test,) = made(train=(pixels[:40], Y[:40]), test=(pixels[40:], Y[40:])).test(Shard())
    assert torch.equal(test.inputs, X[40:] / 255)
    (test,) = made(transform=lambda x: x - 1).test(Shard())
    assert torch.equal(test.inputs, X[40:] - 1)


def test_folders_are_read(photographs: Path) -> None:
    task = Task.classification(photographs, validation=6)
    assert task.sizes == (18, 6, 12)
    assert task.classes == ("class0", "class1", "class2")
    (test,) = task.test(Shard())
    assert test.inputs.shape == (12, 3, 64, 64)
    assert test.inputs.mean((2, 3)).argmax(1).tolist() == test.labels.tolist()
    (held,) = task.validation(Shard())
    assert held.labels.bincount().tolist() == [2, 2, 2]
    apart = Task.classification(photographs / "train", photographs / "val", validation=photographs / "val")
    assert apart.sizes == (24, 12, 12)
    with pytest.raises(ValueError, match=r"transform: got .*, expected none, since train is a folder"):
        Task.classification(photographs, transform=lambda x: x)


# --- the same whenever asked for -------------------------------------------------------------------------------------


def tasks(photographs: Path) -> list[Task]:
    return [made(), made(train=Noisy(True)), made(train=Noisy(False), passes=3), Task.classification(photographs)]


@pytest.mark.parametrize("which", range(4))
def test_an_epoch_is_the_same_whenever_it_is_asked_for_and_from_any_step_on(which: int, photographs: Path) -> None:
    task = tasks(photographs)[which]
    torch.manual_seed(1)
    whole = read(task.epoch(3, 2, 6, Shard()))
    assert len(whole) == task.steps(6, 1) > 2
    for start in (0, 1, len(whole) - 1, len(whole)):
        torch.manual_seed(start)
        random.seed(start)
        assert read(task.epoch(3, 2, 6, Shard(), start)) == whole[start:]
    assert read(task.epoch(3, 3, 6, Shard())) != whole
    assert read(task.epoch(4, 2, 6, Shard())) != whole
    assert read(task.validation(Shard())) == read(task.validation(Shard()))


@pytest.mark.parametrize("which", range(4))
def test_reading_draws_nothing_from_the_generators_of_training(which: int, photographs: Path) -> None:
    task = tasks(photographs)[which]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    for batches in (task.epoch(1, 1, 8, Shard()), task.validation(Shard()), task.kept()):
        list(batches)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert (states[2] == np.random.get_state()[1]).all()  # noqa: NPY002


@pytest.mark.parametrize("world", [2, 3])
def test_shards_are_the_whole_without_loss_or_repetition(world: int, photographs: Path) -> None:
    for task in tasks(photographs):
        for batches in (lambda shard, t=task: t.epoch(1, 1, 6, shard), task.test, task.validation):
            whole = [batch for batch in batches(Shard()) if batch.planned >= 2 * world]
            parts = [list(batches(Shard(rank, world))) for rank in range(world)]
            for k, batch in enumerate(whole):
                assert all(part[k].planned == batch.planned == len(batch.targets) for part in parts)
                for rank, part in enumerate(parts):
                    assert torch.equal(part[k].inputs, batch.inputs[rank::world])
                    assert torch.equal(part[k].targets, batch.targets[rank::world])


def test_passes_go_over_all_items_again_in_another_order() -> None:
    task = made(passes=3)
    found = torch.cat([batch.inputs for batch in task.epoch(1, 1, 9, Shard())])[:, 0].tolist()
    assert task.steps(9, 1) == 10
    orders = [found[k : k + 30] for k in (0, 30, 60)]
    assert len({tuple(order) for order in orders}) == 3
    assert len({tuple(sorted(order)) for order in orders}) == 1


def test_a_last_batch_too_small_for_batchnorm_is_left_out() -> None:
    assert [len(b.targets) for b in made().epoch(1, 1, 29, Shard())] == [29]
    assert made().steps(29, 1) == 1
    assert made().steps(27, 1) == 2
    assert made().steps(27, 2) == 1
    assert made().steps(31, 16) == 0


def test_drawing_leaves_no_trace() -> None:
    def drawn() -> list[float]:
        return [float(torch.rand(1)), random.random(), float(np.random.rand())]  # noqa: NPY002

    with drawing(7):
        first = drawn()
    states = random.getstate()
    with drawing(7):
        assert drawn() == first
    assert random.getstate() == states


# --- validation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1, 7, 0.1, 0.5, 58])
def test_validation_is_drawn_from_train_class_by_class(share: float) -> None:
    labels = torch.tensor([0] * 30 + [1] * 20 + [2] * 10)
    held = held_out(labels, share)
    assert torch.equal(held, held.unique())
    assert len(held) == (share if share >= 1 else round(60 * share))
    if len(held) > 1:
        expected = labels.bincount() * len(held) / 60
        assert ((labels[held].bincount(minlength=3) - expected).abs() <= 1).all()
    torch.manual_seed(5)
    assert torch.equal(held, held_out(labels, share))


def test_train_validation_and_test_are_disjoint_and_the_seed_does_not_matter() -> None:
    task = made()
    held = [b.inputs[:, 0].tolist() for b in task.validation(Shard())]
    for seed in (1, 2):
        seen = {v for b in task.epoch(seed, 1, 8, Shard()) for v in b.inputs[:, 0].tolist()}
        assert not seen & {v for values in held for v in values}
        assert len(seen) >= 28  # the last batch may be too small
    given = made(validation=(X[:5] - 100, Y[:5]))
    assert given.sizes == (40, 5, 20)
    (batch,) = given.validation(Shard())
    assert torch.equal(batch.inputs, X[:5] - 100)


def test_kept_items_are_the_first_thousand_or_of_all_classes() -> None:
    mixed, ordered = torch.arange(3000) % 7, (torch.arange(3000) * 7 // 3000)
    assert torch.equal(representative(mixed, 1000), torch.arange(1000))
    assert set(ordered[representative(ordered, 1000)].bincount().tolist()) == {142}
    many = torch.arange(4000) // 20
    kept = many[representative(many, 400)]
    assert kept.unique().numel() == 40
    assert kept.bincount()[kept.unique()].tolist() == [10] * 40
    assert {0, 199} <= set(kept.tolist())


# --- bad input -------------------------------------------------------------------------------------------------------


class Three(Dataset[Any]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, k: int) -> tuple[Any, ...]:
        return X[k], 0, "extra"


class Pictures(Three):
    def __getitem__(self, k: int) -> tuple[Any, ...]:
        return Image.new("RGB", (4, 4)), 0


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        (
            {"train": X},
            r"train: got Tensor of shape \(60, 3\), expected a pair \(inputs, labels\), or a torch data set",
        ),
        ({"train": {"x": X}}, "train: got .*, expected a pair"),
        ({"train": (X, Y, Y)}, "train: got 3 parts, expected a pair"),
        ({"test": None}, "test: got None, expected a pair"),
        ({"train": (X, Y[:9])}, "train labels: got 9 labels, expected 60, one for each item"),
        ({"train": (X, Y + 0.5)}, "train labels: got Tensor of shape .*, expected whole numbers from 0, one for each"),
        ({"train": (X, Y - 1)}, "train labels: got labels from -1 to 1, expected whole numbers from 0"),
        ({"train": (X, X)}, "train labels: got Tensor of shape .*, expected whole numbers"),
        ({"train": (Y, Y)}, r"train inputs: got shape \(60,\), expected at least two axes"),
        ({"train": (X * torch.inf, Y)}, "train inputs: got values that are not finite, expected finite numbers"),
        ({"train": (X.double() * 1e300, Y)}, "train inputs: got values that are not finite"),
        ({"train": (X[:0], Y[:0])}, "train inputs: got .*, expected one or more real numbers"),
        ({"train": ([["a"]], [0])}, "train inputs: got .*, expected numbers"),
        ({"train": Three()}, r"train: got a data set whose items are tuple, expected items that are pairs"),
        ({"train": Pictures()}, "train: got inputs that are Image, expected a transform that makes tensors"),
        ({"train": TensorDataset(X[:0], Y[:0])}, "train: got an empty data set, expected one or more items"),
        ({"validation": 0}, "validation: got 0, which is 0 of 40 items, expected at least 1, with 2 left to train on"),
        ({"validation": 39}, "validation: got 39, which is 39 of 40 items"),
        ({"validation": 2.5}, "validation: got 2.5, expected a whole number"),
        ({"validation": -1}, "validation: got -1.0, expected a finite number of at least 0"),
        ({"validation": float("nan")}, "validation: got nan, expected"),
        ({"validation": True}, "validation: got True, expected a pair"),
        ({"validation": None}, "validation: got None, expected a pair"),
        ({"classes": ["a"]}, "classes: got 1 names, expected one for each of 3 classes"),
        ({"classes": "abc"}, "classes: got abc, expected a list of names"),
        ({"transform": 3}, "transform: got 3, expected a function of a batch of inputs"),
        ({"passes": 0}, "passes: got 0, expected a whole number from 1"),
        ({"name": ""}, "name: got , expected a few words"),
    ],
)
def test_bad_input_is_one_line(differs: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said) as error:
        made(**differs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: None, r"train: got .*train, expected a folder that holds a folder of photographs for each class"),
        (lambda root: write_folders(root, test=0), r"train: got .*val .*, expected photographs of every class"),
        (
            lambda root: (write_folders(root), (root / "val" / "other").mkdir()),
            r"test: got 'other' in only one of .*, expected the same classes in both",
        ),
    ],
)
def test_bad_folders_are_named(spoil: Any, said: str, tmp_path: Path) -> None:
    spoil(tmp_path)
    with pytest.raises(ValueError, match=said):
        Task.classification(str(tmp_path))


def test_a_broken_photograph_is_named_or_left_out_and_counted(tmp_path: Path) -> None:
    from locality_prior.runs.folders import photographs

    root = write_folders(tmp_path)
    for k in range(2):
        (root / "val" / "class1" / f"{k}.jpeg").write_bytes(b"no photograph")
    with pytest.raises(Problem, match=r"class1/0.jpeg .* cannot be read. Repair or remove it, or leave out"):
        list(photographs(root).test(Shard()))
    (batch,) = photographs(root, skip_broken=True).test(Shard())
    assert batch.planned == 12
    assert len(batch.inputs) == len(batch.targets) == 10
    assert len(batch.broken) == 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("two words",), "name: got two words, expected one word, such as accuracy"),
        (("a", "%", "more"), "better: got more, expected one of up, down"),
        (("a", "%", "up", -1), "tolerance: got -1, expected a finite number of at least 0"),
    ],
)
def test_a_score_is_checked(values: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Score(*values)


def test_more_than_ten_classes_have_a_second_score() -> None:
    task = Task.classification((X, torch.arange(60) % 12), (X, torch.arange(60) % 12))
    logits = torch.zeros(3, 12)
    logits[:, :6] = torch.arange(6.0)
    found = task.score(logits, torch.tensor([5, 2, 0]))
    assert found["accuracy"].tolist() == [100, 0, 0]
    assert found["top5_accuracy"].tolist() == [100, 100, 0]
    assert [score.name for score in task.scores] == ["accuracy", "top5_accuracy"]


def test_a_batch_of_any_form_is_cut_to_its_first_items() -> None:
    from locality_prior.runs.task import first

    for inputs in (X, (X, Y), {"x": X}):
        cut = first(Batch(inputs, Y, 60, Y), 4)
        parts = cut.inputs.values() if isinstance(cut.inputs, dict) else cut.inputs
        assert len(parts) == 4 if isinstance(parts, Tensor) else all(len(part) == 4 for part in parts)
        assert len(cut.targets) == len(cut.labels) == cut.planned == 4
