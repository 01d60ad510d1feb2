"""Runs and studies in which the positions of units learn: words, resuming, what is measured, refusals."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from test_runs import Sines, Stop, assert_same, stopped_after
from test_study import quiet
from torch import nn

import locality_prior as lp
from locality_prior._files import read_json
from locality_prior.arrange import words
from locality_prior.explorer.given import _run
from locality_prior.geometry import Points
from locality_prior.plots import Places
from locality_prior.report.files import read
from locality_prior.runs import Machine, Recipe, Run, train
from locality_prior.runs.arranging import Arranger
from locality_prior.runs.config import condition_of, plain, run_from
from locality_prior.runs.epochs import EpochMaps
from locality_prior.runs.network import network, settled
from locality_prior.runs.training import _optimizer, arranger_of, task_of
from locality_prior.studies import Axes, Study, find, run_study
from locality_prior.studies.study import study_from

RECIPE = Recipe(epochs=2, batch_size=16, lr=0.1, momentum=0.9, drop_every=1)
SHEETS = ("input", "output")


def run(arrange: str = "learned", cost: str = "linear", **more: Any) -> Run:
    return Run(tiny.TASK, tiny.MODEL, cost, arrange=arrange, **{"recipe": RECIPE} | more)


def test_the_word_has_one_spelling() -> None:
    assert (
        words.canonical("arrange", " Learned : lr=0.50 , apart=1") == run("learned:lr=0.5").arrange == "learned:lr=0.5"
    )
    assert words.parse("arrange", "learned:apart=0,lr=2") == words.Learned(2.0, 0.0)
    assert run_from(plain(run("learned:apart=0"))) == run("learned:apart=0")
    assert condition_of(run()) == "linear + learned"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: run("learned:after"),
            "arrange: got 'learned:after', expected learned, with lr=NUMBER and apart=NUMBER",
        ),
        (lambda: run("learned:lr=1,lr=2"), "at most once"),
        (lambda: run("learned:lr=x"), "arrange: got 'learned:lr=x', expected a number as its lr"),
        (lambda: run("learned:lr=0"), "arrange lr: got 0"),
        (lambda: run("learned:apart=-1"), "arrange apart: got -1"),
        (lambda: run(cost="flat"), "with the cost flat and no objective, where nothing moves units"),
        (lambda: run(shuffled=True), "arrange: got learned with a shuffled prior"),
    ],
)
def test_what_does_not_fit_is_told(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=r"^arrange") as error:
        make()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


class Stack(nn.Sequential):
    """Two layers, three sheets."""

    def __init__(self, *sheets: lp.Geometry) -> None:
        pairs = list(pairwise(sheets))
        super().__init__(*(nn.Linear(len(a), len(b)) for a, b in pairs), nn.Linear(len(sheets[-1]), 4))
        self.place = {str(k): sheet for k, sheet in enumerate(sheets[1:])}
        self.local = {str(k): pair for k, pair in enumerate(pairs)}


def arranged(net: nn.Module, cost: str = "linear") -> Arranger:
    one = Run(tiny.blobs(), net, cost, arrange="learned")  # type: ignore[arg-type]
    task = task_of(one, None, Machine())
    found = arranger_of(one, network(one, task), task)
    assert found is not None
    network(one, task, found.units)  # whose layers must take points
    return found


def test_units_between_two_layers_are_one_set_of_points_and_begin_where_they_were() -> None:
    sheet = lp.Grid(4, 4)
    one = Run(tiny.blobs(), Stack(sheet, sheet, sheet), "linear", arrange="learned")  # type: ignore[arg-type]
    task = task_of(one, None, Machine())
    still = network(one, task)
    found = arranger_of(one, still, task)
    assert found is not None
    net = network(one, task, found.units)
    first, second = net.model[0], net.model[1]  # type: ignore[index]
    assert first.target is second.source
    assert first.source == sheet  # the order of the inputs is given
    assert len(net.points()) == 2
    assert all(torch.equal(points.positions, sheet.positions) for points in net.points())
    x = torch.randn(3, 16)
    torch.testing.assert_close(net.model(x), still.model(x))
    groups = _optimizer(net, one).param_groups
    assert [(len(g["params"]), g["weight_decay"], g["lr"]) for g in groups] == [(6, 0.01, 0.01), (2, 0.0, 1.0)]
    with torch.no_grad():
        for p in net.positions():
            p.add_(torch.rand_like(p))
    rests = settled(net, found.units)
    assert not any("positions" in name for name in rests.model.state_dict())
    torch.testing.assert_close(rests.model(x), net.model(x))
    assert rests.layers[0].target == rests.layers[1].source == rests.placed["0"].geometry == net.points()[0].still()
    net.positions()[0].data += 1
    assert not torch.allclose(rests.model(x), net.model(x))


REFUSED: dict[str, tuple[Any, str]] = {
    "stretched": (Stack(lp.Grid(4, 4), lp.Grid(6, 6), lp.Grid(3, 3)), "sheets that meet without being stretched"),
    "periodic": (Stack(*[lp.Grid(4, 4, periodic=True)] * 3), "sheets that meet without being stretched"),
    "graph": (Stack(*[lp.Graph(np.eye(16, k=1) + np.eye(16, k=-1))] * 3), "a sheet whose units have positions"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_whose_units_cannot_move_is_told(name: str) -> None:
    net, expected = REFUSED[name]
    with pytest.raises(ValueError, match=rf"^arrange: got learned and .*expected {expected}") as error:
        arranged(net)
    assert "\n" not in str(error.value)


def test_linear_layers_alone_and_costs_without_end() -> None:
    with pytest.raises(
        ValueError, match=r"^arrange: got learned with the cost linear@2, whose wires would come and go"
    ):
        run(cost="linear@2")

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.RNN(16, 16, batch_first=True), nn.Linear(16, 4)
            self.place = self.local = {"rnn": lp.Grid(4, 4)}

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.rnn(x[:, None])[0][:, -1])  # type: ignore[no-any-return]

    with pytest.raises(ValueError, match=r"^arrange: got learned and the wires of rnn, a LocalityRNN, expected"):
        arranged(Last())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("learned") / "run"
    train(run(), home)
    return home


def test_positions_are_kept_epoch_by_epoch_and_measured_where_they_end(trained: Path) -> None:
    arrays, told = dict(np.load(trained / "measures.npz")), read_json(trained / "analysis.json")
    state = torch.load(trained / "state.pt", weights_only=True)
    grid = lp.Grid(4, 4).positions.numpy()
    for name, key in zip(SHEETS, ("middle.source_positions", "middle.target_positions"), strict=True):
        moved = arrays[f"sheet/{name}/epoch_positions"]
        assert moved.shape == (len(arrays["epochs"]), 16, 2) == (3, 16, 2)
        assert moved.dtype == np.float32
        np.testing.assert_array_equal(moved[0], grid)
        np.testing.assert_array_equal(moved[-1], state["model"][key].numpy())
        assert np.abs(moved[-1] - moved[0]).max() > 0.01
        drawn = arrays[f"sheet/{name}/xy"]  # columns rightwards, rows downwards, as beside it in the control
        np.testing.assert_allclose(drawn, moved[-1][:, ::-1] * (1, -1), atol=1e-6)
        assert told["sheets"][name]["places"] == Places.of(lp.Grid(4, 4)).config()
    final = {name: Points(arrays[f"sheet/{name}/epoch_positions"][-1]) for name in SHEETS}
    model: Any = tiny.mlp()
    lp.localize(model, {"middle": (final["input"], final["output"])}, keep="weights")
    lp.load(trained / "model.safetensors", model)  # which says where the units are
    lengths = lp.analysis.wire_lengths(model.middle.effective_weight.detach(), final["output"], final["input"])
    assert told["measures"]["mean_wire_length.middle"] == pytest.approx(lengths.mean, rel=1e-5)
    assert told["arranged"]["by"] == "learned"
    assert told["measures"]["pruned_length.length"] is not None


def test_stopped_anywhere_a_run_ends_in_the_same_bits(trained: Path, tmp_path: Path) -> None:
    for steps in (0, 3, 9):
        with pytest.raises(Stop):
            train(run(), tmp_path / "run", machine=Machine(save_every=0.0), tick=stopped_after(steps))
    train(run(), tmp_path / "run")
    assert_same(trained, tmp_path / "run")


def test_without_classes_positions_are_kept_too_and_wires_move_the_units_of_a_flat_network(tmp_path: Path) -> None:
    recipe = Recipe(epochs=2, batch_size=20, lr=1e-4)
    one = Run(Sines, tiny.mlp, objective="wiring:0.1", arrange="learned:apart=0", recipe=recipe)  # type: ignore[arg-type]
    train(one, tmp_path / "run")
    arrays = dict(np.load(tmp_path / "run" / "measures.npz"))
    moved = arrays["sheet/input/epoch_positions"]
    assert len(moved) == len(arrays["epochs"]) == 3
    spread = moved.std(axis=1).sum(axis=1)
    assert spread[-1] < spread[0]  # every wire costs its length, and nothing else depends on it
    assert "sheet/input/epoch_means" not in arrays


def test_where_no_maps_are_kept_it_is_known_where_units_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpochMaps, "see", lambda *_: None)  # as over several devices
    train(run(recipe=replace(RECIPE, epochs=1)), tmp_path)
    arrays = dict(np.load(tmp_path / "measures.npz"))
    ended = torch.load(tmp_path / "state.pt", weights_only=True)["model"]["middle.source_positions"]
    np.testing.assert_array_equal(arrays["sheet/input/epoch_positions"], ended[None])
    _, shown = _run(tmp_path, None)
    assert shown.sheets["input"].places.kind == "points"


def test_positions_that_learn_are_a_condition_of_a_study(tmp_path: Path) -> None:
    words = {"task": "digits", "model": "lenet", "objective": "wiring", "arrange": ["none", "learned"]}
    study = study_from(words | {"cost": ["flat", "linear", "linear@2"]})
    assert [name for name in study.conditions() if "learned" in name] == ["linear + learned", "wiring:0.0001 + learned"]
    axes = Axes(
        task=tiny.blobs(48),
        model=tiny.mlp,
        cost="linear",
        arrange=["none", "learned"],
        seeds=[1],
        epochs=1,
        batch_size=16,
    )
    assert run_study(Study(axes), tmp_path, console=quiet()) == {}
    text = {one["condition"]: one["text"] for one in find(tmp_path)["answers"]}
    assert "; against linear, mean wire length in middle is " in text["linear + learned"]
    for (condition, _), one in read(tmp_path).runs.items():
        assert one.network is not None
        sheet = one.network.sheets["output"]
        assert (sheet.places.kind, sheet.epoch_xy is None) == (
            ("points", False) if "learned" in condition else ("cells", True)
        )
