"""Config, data, model, training, measurement and report, in this process and on a few images."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from tiny import TEST, TRAIN, write_mnist
from torch import nn

import locality_prior as lp
from locality_prior import report
from locality_prior.experiments import RECIPES, Recipe, Run, config, data, measure, models
from locality_prior.experiments.machine import Machine
from locality_prior.experiments.train import train
from locality_prior.report import priors, tables
from locality_prior.studies import Reproduction, reproduction
from locality_prior.studies.reproduction import reproduce as run_reproduction
from locality_prior.studies.summary import summarise

QUICK = Recipe(epochs=3, lr=0.05)
CONDITIONS = {"control": "flat", "local": "linear"}
REAL = Path(os.environ.get("LOCALITY_PRIOR_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def studied(tmp_path_factory: pytest.TempPathFactory, root: str) -> Path:
    """A finished, analysed study of two seeds and three conditions."""
    directory = tmp_path_factory.mktemp("study") / "out"
    study = Reproduction("mnist", QUICK, (1, 2), CONDITIONS | {"linear@2": "linear@2"})
    with ThreadPoolExecutor(1) as executor:  # any executor will do
        run_reproduction(study, directory, root, executor)
    summarise(directory)
    return directory


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(directory / "state.pt", weights_only=True)["model"]


def assert_same(a: Path, b: Path) -> None:
    """Two runs ended in the same bits."""
    one, other = weights(a), weights(b)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()
    with np.load(a / "activations.npz") as x, np.load(b / "activations.npz") as y:
        assert all(np.array_equal(x[key], y[key]) for key in ("input", "output", "labels"))


# The network


def plain_lenet(x: torch.Tensor, net: models.LeNet, layer: nn.Module) -> torch.Tensor:
    """The document's network in evaluation mode, written out."""
    x = F.relu(F.max_pool2d(F.conv2d(x, net.conv1.weight, net.conv1.bias), 2))
    x = F.relu(F.max_pool2d(F.conv2d(x, net.conv2.weight, net.conv2.bias), 2))
    x = F.relu(net.fc1(x.flatten(1)))
    return net.fc2(F.relu(net.norm(layer(x))))


@pytest.mark.parametrize("cost", [lp.cost.Flat(), lp.cost.Linear(), lp.cost.Linear().within(2)])
def test_lenet_is_the_documents(cost: lp.cost.Cost) -> None:
    torch.manual_seed(0)
    net = models.LeNet(cost, lp.Grid(7, 7)).eval()
    x = torch.randn(4, 1, 28, 28)
    linear = nn.Linear(49, 49)
    linear.load_state_dict({"weight": net.locality.effective_weight.detach(), "bias": net.locality.bias.detach()})
    torch.testing.assert_close(net(x), plain_lenet(x, net, linear))
    before, after = net.sheets(x)
    assert before.shape == after.shape == (4, 49)
    assert (before >= 0).all()
    assert (after >= 0).all()
    torch.testing.assert_close(net.fc2(after), net(x))


def test_control_and_local_start_from_the_same_weights() -> None:
    nets = []
    for cost in (lp.cost.Flat(), lp.cost.Linear()):
        torch.manual_seed(3)
        nets.append(models.LeNet(cost, lp.Grid(7, 7)))
    for (name, a), b in zip(nets[0].state_dict().items(), nets[1].state_dict().values(), strict=True):
        assert torch.equal(a, b), name


# Data


def test_digits() -> None:
    digits = data.load("digits")
    assert digits.train_images.shape == (1297, 1, 28, 28)
    assert digits.test_images.shape == (500, 1, 28, 28)
    assert digits.train_images.dtype == torch.uint8
    # stratified: every class in both parts, in proportion
    counts = digits.test_labels.bincount(minlength=10)
    assert counts.min() >= 48
    assert counts.max() <= 51
    again = data.load("digits")
    assert torch.equal(again.train_images, digits.train_images)
    batch = digits.batch(digits.train_images)
    assert abs(float(batch.mean())) < 1e-3
    assert abs(float(batch.std()) - 1) < 1e-3


def test_mnist_is_read_and_found(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mnist = data.load("mnist", root)
    assert mnist.train_images.shape == (TRAIN, 1, 28, 28)
    assert mnist.test_labels.tolist() == [k % 10 for k in range(TEST)]
    monkeypatch.setenv("LOCALITY_PRIOR_DATA", root)
    assert torch.equal(data.load("mnist").train_images, mnist.train_images)


@pytest.mark.skipif(not (REAL / "MNIST").is_dir(), reason=f"no MNIST in {REAL}: set LOCALITY_PRIOR_DATA to its folder")
def test_real_mnist() -> None:
    mnist = data.load("mnist", REAL)
    assert mnist.train_images.shape == (60000, 1, 28, 28)
    assert mnist.test_images.shape == (10000, 1, 28, 28)
    batch = mnist.batch(mnist.train_images[:20000])
    assert abs(float(batch.mean())) < 0.01
    assert abs(float(batch.std()) - 1) < 0.01


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda raw: (raw / "t10k-labels-idx1-ubyte").unlink(), "t10k-labels-idx1-ubyte is missing"),
        (lambda raw: os.truncate(raw / "train-images-idx3-ubyte", 5000), "of 5,000 bytes, expected 250,896 bytes"),
        (lambda raw: os.truncate(raw / "train-images-idx3-ubyte", 3), "not an IDX file"),
        (lambda raw: (raw / "train-labels-idx1-ubyte").write_bytes(b"hello, world"), "not an IDX file"),
        (shutil.rmtree, "train-images-idx3-ubyte is missing"),
    ],
)
def test_broken_data_is_named_before_anything_is_written(break_it, said: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    broken = write_mnist(tmp_path / "data")
    break_it(broken / "MNIST" / "raw")
    for start in (
        lambda: train(Run("mnist", recipe=QUICK), tmp_path / "run", str(broken)),
        lambda: run_reproduction(Reproduction("mnist", QUICK, (1,), CONDITIONS), tmp_path / "run", str(broken)),
    ):
        with pytest.raises(ValueError, match="data-root") as error:
            start()
        assert said in str(error.value)
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists()


# Training


def test_training_learns_and_leaves_a_run_directory(root: str, tmp_path: Path) -> None:
    run = Run("mnist", "linear", dataclasses.replace(QUICK, epochs=12))
    ticks: list[tuple[int, float]] = []
    train(run, tmp_path / "run", root, tick=lambda epoch, share: ticks.append((epoch, share)))
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "activations.npz",
        "config.yaml",
        "metrics.csv",
        "model.safetensors",
        "pruning.csv",
        "state.pt",
    ]
    assert ticks == [(epoch, (step + 1) / 5) for epoch in range(1, 13) for step in range(5)]
    kept = measure.read(tmp_path / "run")
    assert kept.run == run
    assert kept.metrics["accuracy"][-1] > 80 > kept.metrics["accuracy"][0]
    assert kept.metrics["epoch"].tolist() == list(range(1, 13))
    # what is left when wires are cut: all of them is the network itself, a hundredth of them a worse one
    for curve in kept.pruning.values():
        assert curve["accuracy"][0] == pytest.approx(kept.metrics["accuracy"][-1])
        assert curve["accuracy"][-1] < curve["accuracy"][0] - 20
        assert curve["wire_length"][0] == pytest.approx(float(kept.sheet("input").distances().sum()))
        assert (np.diff(curve["share"]) < 0).all()
        assert (np.diff(curve["wire_length"]) <= 0).all()
    # what is kept is what the saved model does
    net = models.LeNet(lp.cost.Linear(), lp.Grid(7, 7))
    lp.load(tmp_path / "run" / "model.safetensors", net)
    net.eval()
    mnist = data.load("mnist", root)
    x = mnist.batch(mnist.test_images)
    with torch.no_grad():
        for side, maps in zip(("input", "output"), net.sheets(x), strict=True):
            np.testing.assert_allclose(kept.activations[side], maps.numpy(), rtol=1e-4, atol=1e-5)
        loss = F.cross_entropy(net(x), mnist.test_labels).item()
    assert math.isclose(kept.metrics["test_loss"][-1], loss, rel_tol=1e-5)
    assert math.isclose(kept.metrics["mean_wire_length"][-1], lp.mean_wire_length(net).item(), rel_tol=1e-6)


def test_conditions_share_data_order_and_dropout(root: str, tmp_path: Path) -> None:
    # a cost that is flat but for rounding must train as the control does, to rounding; a new seed must not
    for name, run in {
        "control": Run("mnist", "flat", QUICK),
        "almost": Run("mnist", "linear:1000000", QUICK),
        "other": Run("mnist", "flat", QUICK, seed=2),
    }.items():
        train(run, tmp_path / name, root)
    control, almost, other = (weights(tmp_path / name) for name in ("control", "almost", "other"))
    for key in control:
        torch.testing.assert_close(control[key], almost[key], rtol=1e-2, atol=1e-3)
    assert not torch.allclose(control["fc1.weight"], other["fc1.weight"], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    "recipe", [QUICK, dataclasses.replace(QUICK, l1=1e-3), dataclasses.replace(QUICK, optimizer="rmsprop", lr=0.001)]
)
def test_a_stopped_run_resumes_to_the_same_bits(recipe: Recipe, root: str, tmp_path: Path) -> None:
    run = Run("mnist", "linear", recipe)
    train(run, tmp_path / "straight", root)

    for stop_at in ((1, 0.4), (2, 0.2), (2, 1.0), (3, 0.8)):

        def tick(epoch: int, share: float, stop_at: tuple[int, float] = stop_at) -> None:
            if (epoch, share) == stop_at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train(run, tmp_path / "stopped", root, tick=tick)
        # draws of others in between must not matter
        torch.rand(7)
        np.random.default_rng().random(3)
    train(run, tmp_path / "stopped", root)
    assert_same(tmp_path / "straight", tmp_path / "stopped")


def test_what_the_state_tells_is_rebuilt(root: str, tmp_path: Path) -> None:
    run = Run("mnist", "linear", QUICK)
    train(run, tmp_path / "run", root)
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    for name in ("metrics.csv", "model.safetensors", "activations.npz", "pruning.csv"):
        (tmp_path / "run" / name).unlink()
    train(run, tmp_path / "run", root)
    assert_same(tmp_path / "run", tmp_path / "whole")
    assert (tmp_path / "run" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()
    # a finished run is left alone, and asks for no data
    train(run, tmp_path / "run", str(tmp_path / "nowhere"))


def test_l1_shrinks_the_layer(root: str, tmp_path: Path) -> None:
    size = {}
    for l1 in (0.0, 0.01):
        train(Run("mnist", "linear", dataclasses.replace(QUICK, l1=l1)), tmp_path / str(l1), root)
        size[l1] = weights(tmp_path / str(l1))["locality.weight"].abs().sum()
    assert size[0.01] < 0.9 * size[0.0]


def test_a_diverging_recipe_says_so(root: str, tmp_path: Path) -> None:
    run = Run("mnist", "linear", dataclasses.replace(QUICK, lr=1e12, weight_decay=1e12))
    with pytest.raises(ValueError, match=r"recipe: got loss (nan|inf) in epoch 1"):
        train(run, tmp_path, root)


@pytest.mark.parametrize("broken", [b"", b"not a checkpoint", "cut", "other", "code"])
def test_a_corrupt_checkpoint_is_refused(broken: bytes | str, root: str, tmp_path: Path) -> None:
    run = Run("mnist", "linear", QUICK)
    train(run, tmp_path / "run", root)
    path = tmp_path / "run" / "state.pt"
    whole = path.read_bytes()
    if broken == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif broken == "other":
        train(dataclasses.replace(run, seed=9), tmp_path / "other", root)
        shutil.copy(tmp_path / "other" / "state.pt", path)
    elif broken == "code":
        path.write_bytes(pickle.dumps(Explosive(str(tmp_path / "ran"))))
    else:
        assert isinstance(broken, bytes)
        path.write_bytes(broken)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"state\.pt") as error:
        train(run, tmp_path / "run", root)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before
    assert not (tmp_path / "ran").exists()


class Explosive:
    """A pickle that would write a file on loading."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return (os.mkdir, (self.path,))


def test_a_directory_of_something_else_is_refused(root: str, tmp_path: Path) -> None:
    run = Run("mnist", "linear", QUICK)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "precious.txt").write_text("mine")
    (tmp_path / "file").write_text("a file")
    study = Reproduction("mnist", QUICK, (1,), CONDITIONS)
    for place, said in (("notes", "precious.txt"), ("file", "is a file"), ("file/below", "is a file")):
        for start in (lambda p: train(run, p, root), lambda p: run_reproduction(study, p, root)):
            with pytest.raises(ValueError, match="out: got") as error:
                start(tmp_path / place)
            assert said in str(error.value)
    assert [p.name for p in (tmp_path / "notes").iterdir()] == ["precious.txt"]

    config.claim_run(tmp_path / "run", run)
    for other, said in (
        (dataclasses.replace(run, seed=2), "seed = 1 (asked: 2)"),
        (dataclasses.replace(run, cost="sqrt"), "cost = linear (asked: sqrt)"),
        (dataclasses.replace(run, recipe=Recipe(lr=0.05)), "recipe.epochs = 3 (asked: 10)"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            train(other, tmp_path / "run", root)
    (tmp_path / "run" / "config.yaml").write_text("data: [")
    with pytest.raises(ValueError, match="readable config"):
        train(run, tmp_path / "run", root)


def test_a_study_may_gain_seeds_and_conditions_but_not_another_recipe(tmp_path: Path) -> None:
    study = Reproduction("mnist", QUICK, (1,), CONDITIONS)
    reproduction.claim(tmp_path / "out", study)
    reproduction.claim(
        tmp_path / "out", dataclasses.replace(study, seeds=(1, 2), conditions=CONDITIONS | {"sqrt": "sqrt"})
    )
    assert reproduction.read_reproduction(tmp_path / "out").seeds == (1, 2)
    with pytest.raises(ValueError, match=r"recipe\.optimizer = sgd \(asked: rmsprop\)"):
        reproduction.claim(tmp_path / "out", dataclasses.replace(study, recipe=RECIPES["rmsprop"]))
    with pytest.raises(ValueError, match=r"experiment = mnist \(asked: digits\)"):
        reproduction.claim(tmp_path / "out", dataclasses.replace(study, experiment="digits"))
    assert reproduction.read_reproduction(tmp_path / "out").seeds == (1, 2)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Run("cifar"), "data: got 'cifar', expected one of digits, mnist, imagenet"),  # type: ignore[arg-type]
        (lambda: Run("mnist", "sideways"), "cost: got 'sideways'"),
        (lambda: Run("mnist", "linear@0"), "radius: got '0'"),
        (lambda: Run("mnist", recipe=Recipe(optimizer="adam")), "recipe: got 'adam'"),  # type: ignore[arg-type]
        (lambda: Run("mnist", recipe=Recipe(epochs=0)), "epochs: got 0"),
        (lambda: Run("mnist", recipe=Recipe(lr=-1)), "lr: got -1"),
        (lambda: Run("mnist", recipe=Recipe(lr=math.nan)), "lr: got nan"),
        (lambda: Run("mnist", recipe=Recipe(l1=-1)), "l1: got -1"),
        (lambda: Run("mnist", recipe=Recipe(weight_decay=math.nan)), "weight_decay: got nan"),
        (lambda: Run("mnist", recipe=Recipe(batch_size=1)), "batch_size: got 1"),
        (lambda: Run("mnist", seed=-1), "seed: got -1"),
        (lambda: Run("mnist", sheet=(7, 0)), "sheet: got 0"),
        (lambda: Reproduction("mnist", QUICK, (), CONDITIONS), "seeds: got []"),
        (lambda: Reproduction("mnist", QUICK, (1, 1), CONDITIONS), "seeds: got [1, 1]"),
    ],
)
def test_bad_settings(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="expected") as error:
        make()
    assert said in str(error.value)


def test_what_a_finished_run_lost_is_made_again(root: str, tmp_path: Path) -> None:
    run = Run("mnist", "linear", QUICK)
    train(run, tmp_path / "run", root)
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    for name in ("model.safetensors", "activations.npz"):
        os.truncate(tmp_path / "run" / name, 500)
        train(run, tmp_path / "run", root)
        assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state["model"].pop("fc1.weight"),
        lambda state: state.update(optimizer={}),
        lambda state: state.update(model=5),
        lambda state: state.update(history=[{}]),
        lambda state: state.update(epoch=7),
    ],
)
def test_a_checkpoint_damaged_within_is_refused(damage, root: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = Run("mnist", "linear", dataclasses.replace(QUICK, epochs=1))
    train(run, tmp_path, root)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    damage(state)
    torch.save(state, tmp_path / "state.pt")
    (tmp_path / "metrics.csv").unlink()
    with pytest.raises(ValueError, match=r"state\.pt") as error:
        train(run, tmp_path, root)
    assert "\n" not in str(error.value)


def test_flipped_bits_in_a_checkpoint_are_seen(root: str, tmp_path: Path) -> None:
    run = Run("mnist", "linear", QUICK)
    train(run, tmp_path, root)
    whole = bytearray((tmp_path / "state.pt").read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 50] = bytes(255 - b for b in whole[middle : middle + 50])
    (tmp_path / "state.pt").write_bytes(whole)
    with pytest.raises(ValueError, match=r"state\.pt, which cannot be read"):
        train(run, tmp_path, root)


def test_an_absent_accelerator_is_named(root: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="accelerator: got 'abacus'"):
        train(Run("mnist", "linear", QUICK), tmp_path / "run", root, machine=Machine(accelerator="abacus"))
    assert not (tmp_path / "run").exists()


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    broken = write_mnist(tmp_path)
    raw = broken / "MNIST" / "raw"
    shutil.copy(raw / "t10k-labels-idx1-ubyte", raw / "train-labels-idx1-ubyte")
    with pytest.raises(ValueError, match=r"data-root: got .* with images \(320, 28, 28\) and labels \(120,\)"):
        data.locate("mnist", broken)


# Measurement


def test_the_summary_is_made_of_what_the_runs_left(studied: Path) -> None:
    summary = json.loads((studied / "summary.json").read_text())
    assert summary["experiment"] == "mnist"
    assert summary["recipe"] == "sgd"
    assert summary["seeds"] == [1, 2]
    assert list(summary["conditions"]) == ["control", "local", "linear@2"]
    variances: dict[tuple[str, int], np.ndarray] = {}
    for name, condition in summary["conditions"].items():
        assert [one["seed"] for one in condition["per_seed"]] == [1, 2]
        for one in condition["per_seed"]:
            kept = measure.read(reproduction.run_directory(studied, name, one["seed"]))
            assert one["accuracy"] == kept.metrics["accuracy"][-1]
            assert one["loss"] == kept.metrics["test_loss"][-1]
            variances[name, one["seed"]] = lp.analysis.spatial_variance(kept.activations["output"], lp.Grid(7, 7))
            expected = np.nanmean(variances[name, one["seed"]])
            assert math.isclose(one["spatial_variance"]["output"], expected)
            assert (
                json.loads((reproduction.run_directory(studied, name, one["seed"]) / "analysis.json").read_text())
                == one
            )
        for key in ("accuracy", "loss", "mean_wire_length"):
            assert math.isclose(condition[key], np.mean([one[key] for one in condition["per_seed"]]))
    assert summary["tests"] == summary["comparisons"]["local"]
    for name in ("local", "linear@2"):
        test = summary["comparisons"][name]
        per_image = stats.ttest_rel(variances[name, 1], variances["control", 1], nan_policy="omit")
        assert math.isclose(test["per_image"]["output"]["t"], per_image.statistic, rel_tol=1e-9)
        assert math.isclose(test["per_image"]["output"]["p"], per_image.pvalue, rel_tol=1e-9)
        assert test["per_image"] == {k: v for k, v in test["per_seed"]["per_image"][0].items() if k != "seed"}
        differences = [np.nanmean(variances[name, s] - variances["control", s]) for s in (1, 2)]
        per_seed = stats.ttest_1samp(differences, 0)
        assert math.isclose(test["per_seed"]["output"]["t"], per_seed.statistic, rel_tol=1e-9)
        assert math.isclose(test["per_seed"]["output"]["p"], per_seed.pvalue, rel_tol=1e-9)
    # wires that end at 2 are shorter than wires that do not end
    length = {name: c["mean_wire_length"] for name, c in summary["conditions"].items()}
    assert length["linear@2"] < length["local"] < length["control"]


def test_what_is_undefined_is_null(studied: Path, tmp_path: Path, sketched: dict[str, object]) -> None:
    shutil.copytree(studied, tmp_path / "out")
    run = reproduction.run_directory(tmp_path / "out", "local", 1)
    with np.load(run / "activations.npz") as kept:
        arrays = dict(kept)
    arrays["output"][:] = 0  # no unit is active in any image
    np.savez(run / "activations.npz", **arrays)
    summary = summarise(tmp_path / "out")
    assert "NaN" not in (tmp_path / "out" / "summary.json").read_text()
    one = summary["conditions"]["local"]["per_seed"][0]
    assert one["spatial_variance"]["output"] is None
    assert one["spatial_variance_undefined"]["output"] == TEST
    assert one["response_correlation"]["output"] is None
    assert summary["tests"]["per_image"]["output"] == {"t": None, "p": None, "n": 0, "mean_difference": None}
    assert summary["tests"]["per_seed"]["output"]["n"] == 1
    report.write(tmp_path / "out")


@pytest.mark.parametrize("name", ["metrics.csv", "activations.npz", "pruning.csv", "config.yaml"])
def test_unfinished_and_broken_runs_are_named(name: str, studied: Path, tmp_path: Path) -> None:
    for breaking in ("missing", "broken"):
        shutil.copytree(studied, tmp_path / breaking)
        path = reproduction.run_directory(tmp_path / breaking, "local", 2) / name
        path.unlink()
        if breaking == "broken":
            path.write_bytes(b"\x00junk")
        with pytest.raises(ValueError, match="directory: got") as error:
            summarise(tmp_path / breaking)
        assert "local-seed2" in str(error.value)
        assert "\n" not in str(error.value)


# The report


def test_the_report_stands_alone(studied: Path, tmp_path: Path) -> None:
    shutil.copytree(studied, tmp_path / "elsewhere")
    page = report.write(tmp_path / "elsewhere").read_text()
    names = [p.stem for p in sorted((tmp_path / "elsewhere" / "figures").glob("*.png"))]
    assert names == sorted(
        [
            "wiring",
            "signals",
            "priors",
            "maps_input",
            "maps_output",
            "variance",
            "correlation",
            "training",
            "pruning",
            "seeds",
        ]
    )
    for name in names:
        assert f'id="{name}"' in page
        assert (tmp_path / "elsewhere" / "figures" / f"{name}.pdf").stat().st_size > 1000
    assert set(re.findall(r'src="([a-z:/;0-9]*)', page)) == {"data:image/png;base64"}
    assert not re.search(r"https?://|href=|<script|@import|url\(", page)
    assert "98.1" in page  # the document's number, beside ours
    assert "locality-prior reproduce mnist" in page
    summary = json.loads((studied / "summary.json").read_text())
    for condition in summary["conditions"].values():
        assert f"{condition['accuracy']:.2f}" in page


def test_a_report_is_of_the_study_that_is_there(studied: Path, tmp_path: Path) -> None:
    shutil.copytree(studied, tmp_path / "out")
    study = reproduction.read_reproduction(tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    (tmp_path / "out" / "summary.json").write_text(json.dumps(summary | {"seeds": [1]}))
    with pytest.raises(ValueError, match="summary of other runs"):
        report.write(tmp_path / "out")
    # nor may a study lose what it has, or hold another's run
    with pytest.raises(ValueError, match=r"out: got .* which holds seeds \[1, 2\]"):
        reproduction.claim(tmp_path / "out", dataclasses.replace(study, seeds=(1,)))
    run = reproduction.run_directory(tmp_path / "out", "local", 1)
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("seed: 1", "seed: 7"))
    with pytest.raises(ValueError, match="of other settings"):
        summarise(tmp_path / "out")


def test_a_report_needs_an_analysed_study(studied: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"reproduction\.yaml"):
        report.write(tmp_path)
    shutil.copytree(studied, tmp_path / "out")
    (tmp_path / "out" / "summary.json").unlink()
    with pytest.raises(ValueError, match=r"without summary\.json"):
        report.write(tmp_path / "out")


def test_the_tables_show_one_seed_and_many(studied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = json.loads((studied / "summary.json").read_text())
    assert [row[0] for row in tables.results(summary)[1:]] == [
        "control",
        "local",
        "linear within 2",
        "control, document",
        "local, document",
    ]
    for rows in (tables.results(summary), tables.tests(summary), tables.seeds(summary)):
        assert {len(row) for row in rows} == {len(rows[0])}
    tables.show(tables.results(summary))
    assert "98.1" in capsys.readouterr().out


def test_the_command_of_a_report_makes_the_study_again() -> None:
    recipe = dataclasses.replace(RECIPES["rmsprop"], epochs=2, l1=0.5)
    study = Reproduction("mnist", recipe, (4, 5), CONDITIONS | {"linear@2": "linear@2"})
    assert tables.command(study) == (
        "locality-prior reproduce mnist --recipe rmsprop --epochs 2 --seeds 4 5 --l1 0.5 --also linear@2"
    )


def test_the_centre_of_a_sheet() -> None:
    assert priors.centre(lp.Grid(7, 7)) == 24
    assert priors.centre(lp.Grid(64, 64)) == 32 * 64 + 32


def test_documented_recipes() -> None:
    for name, recipe in RECIPES.items():
        assert recipe == Recipe(name, 0.01, 0.5, 0.01, 10, 64, 0.0)  # type: ignore[arg-type]
    assert data.KEPT == 1000
