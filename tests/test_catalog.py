"""The built-in tasks, models and study files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
import yaml
from torch import nn

import locality_prior as lp
from locality_prior import catalog
from locality_prior._check import Problem
from locality_prior.placement import place
from locality_prior.runs import Recipe, Run, Shard, Task, door, train
from locality_prior.runs.network import network


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# --- tasks -----------------------------------------------------------------------------------------------------------


def test_digits() -> None:
    task = catalog.digits()
    assert task.sizes == (1167, 130, 500)
    assert task.steps(64, 1) == 6 * 1167 // 64 + 1
    (test,) = task.test(Shard())
    assert test.inputs.shape == (500, 1, 28, 28)
    assert (test.labels.bincount() - 50).abs().max() <= 2
    train = torch.cat([batch.inputs for batch in catalog.digits(passes=1).epoch(1, 1, 64, Shard())])
    assert abs(float(train.mean())) < 0.05
    assert abs(float(train.std()) - 1) < 0.05
    (again,) = catalog.digits().test(Shard())
    assert torch.equal(test.inputs, again.inputs)


def test_mnist_is_read_and_found(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = catalog.mnist(root, validation=20)
    assert task.sizes == (tiny.TRAIN - 20, 20, tiny.TEST)
    assert task.classes == tuple("0123456789")
    monkeypatch.setenv("LOCALITY_PRIOR_DATA", root)
    (one,), (other,) = task.test(Shard()), door.call("task", "mnist:validation=20", Task).test(Shard())
    assert torch.equal(one.inputs, other.inputs)
    assert one.inputs.shape == (tiny.TEST, 1, 28, 28)
    assert one.inputs.min() >= -0.1307 / 0.3081 - 1e-6


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda raw: (raw / "t10k-labels-idx1-ubyte").unlink(), "where MNIST/raw/t10k-labels-idx1-ubyte is missing"),
        (
            lambda raw: (raw / "t10k-labels-idx1-ubyte").rename(raw / "t10k-labels-idx1-ubyte.gz"),
            r"is missing \(only a compressed one is there\), expected MNIST's four files",
        ),
        (
            lambda raw: cut(raw / "train-images-idx3-ubyte"),
            r"train-images-idx3-ubyte of [\d,]+ bytes, expected [\d,]+ bytes",
        ),
        (lambda raw: (raw / "train-images-idx3-ubyte").write_bytes(b""), "which is not an IDX file"),
        (
            lambda raw: (raw / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\3" + b"\xff" * 12),
            "bytes, as its header",
        ),
        (lambda raw: (raw / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\1\0\0\0\1\3"), r"and labels \(1,\)"),
        (lambda raw: high(raw / "t10k-labels-idx1-ubyte"), "with a label 200, expected labels from 0 to 9"),
    ],
)
def test_broken_files_of_mnist_are_named(spoil: Any, said: str, tmp_path: Path) -> None:
    tiny.write_mnist(tmp_path)
    spoil(tmp_path / "MNIST" / "raw")
    with pytest.raises(ValueError, match=rf"^data_root: got .*{said}") as error:
        train(Run("mnist:validation=20", "lenet"), tmp_path / "run", str(tmp_path))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def high(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\xc8")


def test_a_download_that_fails_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision.datasets

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nno route to host")

    monkeypatch.delenv("LOCALITY_PRIOR_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torchvision.datasets, "MNIST", fails)
    with pytest.raises(
        Problem, match=r"could not be downloaded to .*, or name a folder that holds MNIST/raw with --data-"
    ):
        catalog.mnist()


def test_photographs_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_tasks import write_folders

    monkeypatch.delenv("LOCALITY_PRIOR_DATA", raising=False)
    with pytest.raises(
        ValueError, match="data_root: got none, and no LOCALITY_PRIOR_DATA, expected a folder with train"
    ):
        catalog.photographs()
    write_folders(tmp_path / "imagenet")
    monkeypatch.setenv("LOCALITY_PRIOR_DATA", str(tmp_path))
    task = catalog.photographs(crop=32)
    assert task.sizes == (23, 1, 12)
    assert next(iter(task.test(Shard()))).inputs.shape[1:] == (3, 32, 32)


# --- models ----------------------------------------------------------------------------------------------------------


def test_lenet_is_the_documents() -> None:
    model = catalog.lenet().eval()
    assert parameters(model) == 260 + 5020 + 49 * 321 + 49 * 50 + 98 + 10 * 50
    assert model.place == {"input": lp.Grid(7, 7), "output": lp.Grid(7, 7)}
    assert model.local == {"locality": (lp.Grid(7, 7), lp.Grid(7, 7))}
    x = torch.randn(4, 1, 28, 28)
    by_hand = model.pool1(model.conv1(x)).relu()
    by_hand = model.pool2(model.conv2(by_hand)).relu().flatten(1)
    by_hand = model.norm(model.locality(model.fc1(by_hand).relu())).relu()
    torch.testing.assert_close(model(x), model.fc2(by_hand))
    assert [m.p for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)] == [0.5] * 3
    assert catalog.lenet(tiny.blobs()).fc2.out_features == 4
    assert catalog.lenet(sheet=[4, 8], classes=3).locality.weight.shape == (32, 32)


@pytest.mark.parametrize("layer", ["fc6", "fc7"])
def test_alexnet_is_torchvisions_with_batchnorm(layer: str) -> None:
    from torchvision import models

    theirs, ours = models.alexnet(num_classes=7).eval(), catalog.alexnet(classes=7, layer=layer).eval()
    assert parameters(ours) == parameters(theirs) + 2 * 4096
    names = {"features.0": "conv1", "features.3": "conv2", "features.6": "conv3", "features.8": "conv4"}
    names |= {"features.10": "conv5", "classifier.1": "fc6", "classifier.4": "fc7", "classifier.6": "fc8"}
    for theirs_name, ours_name in names.items():
        ours.get_submodule(ours_name).load_state_dict(theirs.get_submodule(theirs_name).state_dict())
    x = torch.randn(2, 3, 96, 96)
    ours.norm.eps = 0.0  # then BatchNorm does nothing before it is trained
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
        with place(ours, ours.place).record() as seen:
            ours(x)
    assert {name: seen[name].shape[1] for name in seen} == {"input": 9216 if layer == "fc6" else 4096, "output": 4096}
    assert set(ours.local) == {layer}


def test_sheets_lie_one_after_another() -> None:
    x, y = torch.randn(40, 2, 5, 6), torch.arange(40) % 4
    task = Task.classification((x, y), (x, y))
    model = catalog.sheets(task, ["3x4", "torus:4x4"])
    assert [name for name, _ in model.named_children()] == [
        *("flatten", "to_sheet1", "norm1", "sheet1", "to_sheet2", "norm2", "sheet2", "head")
    ]
    assert model.place == {"sheet1": lp.Grid(3, 4), "sheet2": lp.Grid(4, 4, periodic=True)}
    retina = lp.Grid(5, 6).with_channels(2)
    assert model.local == {
        "to_sheet1": (retina, lp.Grid(3, 4)),
        "to_sheet2": (lp.Grid(3, 4), lp.Grid(4, 4, periodic=True)),
    }
    assert model(x).shape == (40, 4)
    assert set(catalog.sheets(task, ["3x4", "4x4"], retina=False).local) == {"to_sheet2"}
    assert catalog.sheets(tiny.blobs(), ["3x3"], retina=False).to_sheet1.in_features == 16
    # a pixel's wires go to the units that lie opposite it
    local = network(Run(task, "sheets:sizes=[5x6,5x6]", "linear@1"), task).model
    at = local.to_sheet1.fold().weight.detach()[14].reshape(2, 5, 6) != 0
    assert at.sum().item() == 10
    assert at[:, 2, 2].all()


@pytest.mark.parametrize("model", ["lenet:sheet=6x6", "sheets:sizes=[6x6,6x6,6x6]"])
def test_built_in_networks_train_on_images(model: str, root: str, tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch_size=64, lr=0.05)
    train(Run("mnist:validation=40", model, "linear@2", recipe=recipe), tmp_path / "run", root)
    assert (tmp_path / "run" / "analysis.json").exists()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("lenet:sheet=99999x99999", "sheet: got 99999x99999, which is 9,999,800,001 units, expected from 1 to"),
        ("lenet:sheet=4000x4000", "A layer from 16,000,000 to 16,000,000 units would take .* choose a smaller sheet"),
        ("alexnet:sheet=4000x4000", "A layer from 16,000,000 to 16,000,000 units would take"),
        ("sheets:sizes=[4000x4000,4000x4000],retina=false", "A layer from 16,000,000 to 16,000,000 units would take"),
        ("lenet:sheet=0", "sheet: got 0, which is 0 units"),
        ("lenet:sheet=true", "sheet: got True, expected 32x32"),
        ("lenet:sheet=[7x7,7x7]", "sheet: got .*, expected one geometry"),
        ("lenet:classes=-1", "classes: got -1, expected a whole number from 1"),
        ("alexnet:layer=fc8", "layer: got fc8, expected one of fc6, fc7"),
        ("alexnet:width=1e9", "width: got 1e9, expected a number from 0.001 to 16"),
        ("alexnet:stride=0", "stride: got 0, expected a whole number from 1 to 16"),
        ("sheets:sizes=[]", "sizes: got .*, expected the sizes of one sheet or more"),
        ("sheets", r"retina: got True for items of shape \(16,\), expected images"),
        ("sheets:retina=no way", "retina: got no way, expected True or False"),
    ],
)
def test_bad_arguments_are_one_line_and_quick(model: str, said: str, tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises((ValueError, TypeError, Problem), match=said) as error:
        train(Run(tiny.TASK, model), tmp_path / "run")
    assert time.monotonic() - start < 5
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


# --- studies ---------------------------------------------------------------------------------------------------------


def test_study_files_are_studies_of_the_catalog() -> None:
    from locality_prior.studies import study_from

    assert {"digits", "mnist", "imagenet"} <= set(catalog.studies())
    for name in catalog.studies():
        values = yaml.safe_load((catalog.STUDIES / f"{name}.yaml").read_text(encoding="utf-8"))
        for run in study_from(values).runs().values():
            assert door.parse("task", run.task)[0] == door.parse("model", run.model)[0] == ""


def test_the_catalog_says_what_it_has() -> None:
    assert {"alexnet", "gpt", "lenet", "sheets", "digits", "mnist", "photographs", "text"} <= set(dir(catalog))
    with pytest.raises(
        ValueError, match="task: got 'mnst', which is not in the catalog, expected one of alexnet, digits, gpt"
    ):
        door.call("task", "mnst", Task)
