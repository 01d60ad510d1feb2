"""What a run keeps to be looked at unit by unit: maps over its epochs, correlations, the strongest wires."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor, nn

from locality_prior import Grid, place
from locality_prior._files import read_json
from locality_prior.runs import Machine, Recipe, Run, train
from locality_prior.runs import epochs as maps_of_epochs
from locality_prior.runs.network import Layer, Network, local_layers
from locality_prior.runs.wires import STRONGEST, ends, strongest

RECIPE = Recipe(epochs=3, batch_size=32)


class Stop(Exception):
    pass


def arrays_of(home: Path) -> dict[str, Any]:
    with np.load(home / "measures.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("kept") / "run"
    train(Run(tiny.TASK, tiny.MODEL, cost="linear@2", recipe=RECIPE), home)
    return home


def test_maps_are_kept_before_training_and_after_each_epoch(home: Path) -> None:
    kept = arrays_of(home)
    assert kept["epochs"].tolist() == [0, 1, 2, 3]
    for name in ("input", "output"):
        maps = kept[f"sheet/{name}/epoch_means"]
        assert maps.shape == (4, 4, 16)
        assert maps.dtype == np.float16
        np.testing.assert_allclose(maps[-1], kept[f"sheet/{name}/class_means"], rtol=2e-3, atol=1e-4)
        assert np.abs(maps[1] - maps[0]).max() > 0.01


def test_the_map_before_training_is_that_of_the_initial_weights(home: Path, tmp_path: Path) -> None:
    shorter = Run(tiny.TASK, tiny.MODEL, cost="linear@2", recipe=Recipe(epochs=1, batch_size=32, lr=1e-30))
    train(shorter, tmp_path / "run")
    np.testing.assert_array_equal(
        arrays_of(home)["sheet/input/epoch_means"][0], arrays_of(tmp_path / "run")["sheet/input/epoch_means"][0]
    )


def test_a_stopped_run_keeps_the_same_maps(home: Path, tmp_path: Path) -> None:
    run = Run(tiny.TASK, tiny.MODEL, cost="linear@2", recipe=RECIPE)

    def stop(epoch: int, share: float) -> None:
        if epoch == 3 and share > 0.4:
            raise Stop

    with pytest.raises(Stop):
        train(run, tmp_path / "run", tick=stop)
    train(run, tmp_path / "run")
    straight, resumed = arrays_of(home), arrays_of(tmp_path / "run")
    assert straight.keys() == resumed.keys()
    for name, values in straight.items():
        np.testing.assert_array_equal(values, resumed[name], err_msg=name)


def test_maps_are_never_those_of_another_epoch(home: Path, tmp_path: Path) -> None:
    """Of a run that was stopped within an epoch and whose state has no maps, as after several devices."""
    run = Run(tiny.TASK, tiny.MODEL, cost="linear@2", recipe=RECIPE)

    def stop(epoch: int, share: float) -> None:
        if epoch == 3 and share > 0.4:
            raise Stop

    with pytest.raises(Stop):
        train(run, tmp_path / "run", machine=Machine(save_every=0), tick=stop)
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    assert state["part"]["step"] > 0
    torch.save(
        state | {"maps": {"epochs": [], "means": {"input": torch.empty(0), "output": torch.empty(0)}}},
        tmp_path / "run" / "state.pt",
    )
    train(run, tmp_path / "run")
    kept = arrays_of(tmp_path / "run")
    assert kept["epochs"].tolist() == [3]
    np.testing.assert_array_equal(kept["sheet/output/epoch_means"][0], arrays_of(home)["sheet/output/epoch_means"][3])


def test_keeping_maps_does_not_change_training(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps_of_epochs, "NUMBERS", 0)
    train(Run(tiny.TASK, tiny.MODEL, cost="linear@2", recipe=RECIPE), tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (home / "model.safetensors").read_bytes()
    assert "epochs" not in arrays_of(tmp_path / "run")


def test_of_many_epochs_a_bounded_number_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps_of_epochs, "EPOCHS", 3)
    train(Run(tiny.TASK, tiny.MODEL, recipe=Recipe(epochs=6, batch_size=32)), tmp_path / "run")
    kept = arrays_of(tmp_path / "run")
    assert kept["epochs"].tolist() == [0, 3, 6]
    assert len(kept["sheet/output/epoch_means"]) == 3


def test_factors_give_the_correlations_of_units(home: Path) -> None:
    with np.load(home / "activations.npz") as kept:
        responses = kept["sheet/output"].astype(np.float64)
    factors = arrays_of(home)["sheet/output/factors"].astype(np.float64)
    expected = np.nan_to_num(np.corrcoef(responses.T))
    np.testing.assert_allclose(factors.T @ factors, expected, atol=3e-3)


def test_the_strongest_wires_are_kept(home: Path) -> None:
    kept, told = arrays_of(home), read_json(home / "analysis.json")
    assert told["layers"]["middle"]["from"] == "input"
    assert told["layers"]["middle"]["to"] == "output"
    assert told["layers"]["middle"]["units"] == [16, 16]
    origin, weight = kept["wires/middle/origin"], kept["wires/middle/weight"]
    assert origin.shape == weight.shape == (16, 16)
    assert (kept["wires/middle/distance"][weight > 0] <= 2).all()
    assert (np.diff(weight, axis=1) <= 0).all()
    assert (weight[:, -1] == 0).all()  # no unit has wires to all


def test_strongest_wires_against_a_slow_reference() -> None:
    rng = np.random.default_rng(0)
    source, target = Grid(8, 8), Grid(3, 4)
    v = np.abs(rng.normal(size=(12, 64))) * (rng.random((12, 64)) < 0.9)
    made = strongest(Layer("l", ("weight",), source, target), v)
    d = target.distances(source).numpy()
    wires = [v[i, j] for i in range(12) for j in range(64) if v[i, j] > 0]
    assert made["origin"].shape == (12, STRONGEST)
    for i in range(12):
        order = sorted(range(64), key=lambda j: (-v[i, j], j))[:STRONGEST]
        assert made["origin"][i].tolist() == order
        np.testing.assert_array_equal(made["weight"][i], v[i, order])
        np.testing.assert_array_equal(made["distance"][i], d[i, order])
        ranks = [sum(w >= v[i, j] for w in wires) / len(wires) for j in order]
        np.testing.assert_allclose(made["rank"][i], ranks)


def test_wires_of_units_that_share_a_place_are_added_up() -> None:
    source, target = Grid(2, 3).with_channels(4), Grid(2, 3)
    v = np.random.default_rng(1).random((6, 24))
    made = strongest(Layer("l", ("weight",), source, target), v)
    summed = v.reshape(6, 4, 6).sum(1)
    assert made["origin"].shape == (6, 6)
    np.testing.assert_allclose(np.sort(made["weight"], axis=1), np.sort(summed, axis=1))
    at = made["origin"][0]
    np.testing.assert_allclose(made["weight"][0], summed[0, at])
    np.testing.assert_allclose(made["distance"][0], Grid(2, 3).distances().numpy()[0, at])


class Memory(nn.Module):
    """A recurrent sheet, and a reading of its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, 16, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        states: Tensor = self.rnn(x[:, :, None])[0]
        return self.head(states[:, -1])  # type: ignore[no-any-return]


def ends_of(model: nn.Module, sheets: dict[str, Any], local: dict[str, Any]) -> Any:
    net = Network(model, place(model, sheets), local_layers(model, local))
    return ends(net, tiny.blobs(), torch.device("cpu"))


def chain(*widths: int) -> nn.Sequential:
    """Linear layers l0, l1, … with a ReLU after each: r0, r1, …"""
    parts: dict[str, nn.Module] = {}
    for k, (source, target) in enumerate(pairwise(widths)):
        parts |= {f"l{k}": nn.Linear(source, target), f"r{k}": nn.ReLU()}
    return nn.Sequential(OrderedDict(parts))


def test_wires_of_a_recurrent_sheet_stay_on_it() -> None:
    sheet = Grid(4, 4)
    assert ends_of(Memory(), {"rnn": sheet}, {"rnn": sheet}) == {"rnn": ("rnn", "rnn")}


def test_between_which_sheets_wires_run() -> None:
    four, three = Grid(4, 4), Grid(3, 3)
    layers = {"l0": four, "l1": four, "l2": (four, three)}
    net = chain(16, 16, 16, 9)
    # between l0 and the sheet after l1 there is another layer; l2 reads that sheet, and enters none
    assert ends_of(net, {"r1": four}, layers) == {"l0": (None, None), "l1": (None, "r1"), "l2": ("r1", None)}
    # layers that are sheets themselves
    assert ends_of(net, {"l0": four, "l2": three}, layers) == {
        "l0": (None, "l0"),
        "l1": ("l0", None),
        "l2": (None, "l2"),
    }


def test_a_sheet_behind_a_layer_that_is_not_local_is_not_that_of_a_wire() -> None:
    sheet = Grid(4, 4)
    assert ends_of(chain(16, 16, 16, 16), {"r0": sheet, "r2": sheet}, {"l1": sheet}) == {"l1": ("r0", None)}
    assert ends_of(chain(16, 16, 16, 16), {"r0": sheet, "r2": sheet}, {"l2": sheet}) == {"l2": (None, "r2")}


def test_normalisation_leaves_a_unit_a_unit() -> None:
    sheet = Grid(4, 4)
    for norm in (nn.BatchNorm1d(16), nn.LayerNorm(16), nn.Dropout(), nn.Tanh()):
        net = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), norm, nn.Linear(16, 16), norm, nn.ReLU())
        assert ends_of(net, {"1": sheet, "5": sheet}, {"3": sheet}) == {"3": ("1", "5")}, norm


class Branches(nn.Module):
    """Two layers read the first one side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(16, 16) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        total: Tensor = self.b(h) + self.c(h)
        return total


def test_branches_read_what_they_come_from() -> None:
    sheet = Grid(4, 4)
    sheets = {"a": sheet, "b": sheet}
    assert ends_of(Branches(), sheets, {"b": sheet, "c": sheet}) == {"b": ("a", "b"), "c": ("a", None)}


def test_channels_of_a_convolution_that_are_flattened() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.fc = nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Linear(48, 16)

        def forward(self, x: Tensor) -> Tensor:
            features: Tensor = self.relu(self.conv(x.reshape(-1, 1, 4, 4)))
            return self.fc(features.flatten(1))  # type: ignore[no-any-return]

    features, sheet = Grid(4, 4).with_channels(3), Grid(4, 4)
    assert ends_of(Net(), {"relu": features, "fc": sheet}, {"fc": (features, sheet)}) == {"fc": ("relu", "fc")}


def test_maps_of_no_classes_are_not_kept(tmp_path: Path) -> None:
    from test_runs import Sines

    train(Run(Sines(), tiny.mlp, recipe=Recipe(epochs=1, batch_size=32)), tmp_path / "run")
    kept = arrays_of(tmp_path / "run")
    assert "epochs" not in kept
    assert "sheet/output/factors" in kept
