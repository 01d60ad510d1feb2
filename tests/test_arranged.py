"""Arrangements as conditions of runs and studies: which units move, what stays as it was, resuming, files, findings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from test_runs import Stop, assert_same, numbers, stopped_after
from test_study import quiet
from torch import nn

import locality_prior as lp
from locality_prior import cli
from locality_prior._check import Problem
from locality_prior._files import read_json
from locality_prior.arrange import words
from locality_prior.catalog import models
from locality_prior.geometry import Permuted
from locality_prior.placement import makers
from locality_prior.runs import Machine, Recipe, Run, Shard, Task, record, train
from locality_prior.runs.arranging import movable
from locality_prior.runs.config import condition_of, difference, epochs_before, plain, run_from, run_name
from locality_prior.runs.network import Units, moved, network
from locality_prior.studies import Axes, Study, find, run_study
from locality_prior.studies.study import plan, study_from, study_values

RECIPE = Recipe(epochs=2, batch_size=16, lr=0.1)
SMALL = f"{tiny.TASK}:items=48"
SHEETS = ("input", "output")


def run(arrange: str = "none", cost: str = "flat", objective: str = "none", **more: Any) -> Run:
    return Run(tiny.TASK, tiny.MODEL, cost, objective=objective, arrange=arrange, **{"recipe": RECIPE} | more)


def ended(home: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(home / "state.pt", weights_only=True)
    return state


@pytest.fixture(scope="module")
def unmoved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs whose units stay where they are, by their cost."""
    homes = {cost: tmp_path_factory.mktemp("unmoved") / "run" for cost in ("flat", "linear@2")}
    for cost, home in homes.items():
        train(run(cost=cost), home)
    return homes


# --- words and names -------------------------------------------------------------------------------------------------


def test_an_arrangement_has_one_spelling() -> None:
    assert run(" Wires : during , every=100 ").arrange == "wires:during"
    assert run("responses:before,epochs=2").arrange == "responses:before"  # as long as the run itself
    assert run("responses:before,epochs=0").arrange == "responses:before,epochs=0"
    for word in ("none", "wires:after", "responses:during,every=7", "wires:before,epochs=3"):
        assert words.canonical("arrange", word) == run(word).arrange == word
    assert [epochs_before(run(w)) for w in ("none", "wires:before", "wires:before,epochs=3", "wires:after")] == [
        0,
        2,
        3,
        0,
    ]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: run("wires"), "arrange: got 'wires', expected wires or responses, then :before"),
        (lambda: run("length:after"), "arrange: got 'length:after', expected wires or responses"),
        (lambda: run("wires:after,every=3"), "arrange: got 'wires:after,every=3', expected wires:after alone"),
        (lambda: run("wires:during,every=3,every=4"), "expected wires:during, with every=N at most once"),
        (lambda: run("wires:during,every=0"), "arrange every: got 0, expected a whole number from 1"),
        (lambda: run("wires:before,epochs=-1"), "arrange epochs: got -1, expected a whole number from 0"),
        (lambda: run(3), "arrange: got 3"),  # type: ignore[arg-type]
        (lambda: run("wires:during", "linear"), "got wires:during with the cost linear, whose P would change"),
        (
            lambda: Axes(task="t.py:t", model="t.py:m", arrange=["wires:after", "wires:after"]),
            "expected each value once",
        ),
        (lambda: Axes(task="t.py:t", model="t.py:m", arrange=[]), "expected one or more values"),
    ],
)
def test_what_no_arrangement_is_is_told(make: Any, said: str) -> None:
    with pytest.raises((ValueError, TypeError)) as error:
        make()
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_runs_whose_units_stay_have_the_names_and_configs_that_they_had() -> None:
    stays, goes = Run("digits", "lenet"), Run("digits", "lenet", arrange="wires:after")
    assert run_name(stays) == "digits-lenet-control-seed1-0c0a7df5" != run_name(goes)
    assert "arrange" not in plain(stays)
    assert run_from(plain(stays)) == stays
    assert run_from(plain(goes)) == goes
    assert difference(stays, goes) == "arrange = none (asked: wires:after)"
    local = Run("digits", "lenet", "linear", objective="topoloss:0.5", arrange="wires:after")
    assert condition_of(local) == "linear + topoloss:0.5 + wires:after"
    assert condition_of(goes) == "wires:after"


# --- which units move ------------------------------------------------------------------------------------------------


class Two(nn.Module):
    """Two pathways from an image, added up: its pixels, a feature map and the outputs are placed as well."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels, self.map, self.flat = nn.Identity(), nn.Conv2d(1, 1, 1), nn.Flatten()
        self.left, self.right, self.act = nn.Linear(16, 9), nn.Linear(16, 9), nn.ReLU()
        self.features, self.pool = nn.Conv2d(1, 9, 1), nn.ReLU()
        self.head = nn.Linear(9, 4)
        self.place = {
            "pixels": lp.Grid(4, 4),
            "map": lp.Grid(4, 4),
            "features": lp.Grid(4, 4).with_channels(9),
            "pool": lp.Grid(3, 3),
            "left": lp.Grid(3, 3),
            "act": lp.Grid(9),
            "right": lp.Grid(3, 3),
            "head": lp.Grid(2, 2),
        }
        self.local = {"left": (lp.Grid(4, 4), lp.Grid(3, 3)), "head": (lp.Grid(3, 3), lp.Grid(2, 2))}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        image = self.pixels(x.reshape(-1, 1, 4, 4))
        seen = self.pool(self.features(image)).mean((2, 3)) + 1
        flat = self.flat(self.map(image))
        out: torch.Tensor = self.head(self.act(1 + self.left(flat)) * seen.detach() + 0 * self.right(flat))
        return out


def test_only_units_that_a_layer_makes_move_and_those_of_one_layer_move_together() -> None:
    task = tiny.blobs()
    found = movable(network(Run(task, Two), task), task)
    told = {one.sheets: (one.leaving, one.entering) for one in found}
    assert told[("left", "act")] == (("head",), ("left",))
    assert {one for sheets in told for one in sheets} == {
        "left",
        "act",
        "right",
        "pool",
    }  # and no pixel, place or output


def test_in_a_stack_only_the_retina_stays() -> None:
    task = Task.classification(
        train=(torch.rand(40, 1, 6, 6), torch.arange(40) % 4), test=(torch.rand(8, 1, 6, 6), torch.arange(8) % 4)
    )
    found = movable(network(Run(task, lambda task: models.sheets(task, ["4x4", "4x4"])), task), task)
    assert [(one.sheets, one.leaving, one.entering) for one in found] == [
        (("sheet1",), ("to_sheet2",), ("to_sheet1",)),
        (("sheet2",), (), ("to_sheet2",)),
    ]


def test_makers_are_the_modules_whose_weights_make_units() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5), nn.LayerNorm(5)
    )
    assert {name: len(placed.geometry) for name, placed in ((n, makers(net)[n]) for n in makers(net))} == {
        "0": 3,
        "4": 5,
    }


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            {"arrange": "wires:after", "place": {"head": "4"}, "local": {"head": "36,4"}},
            "a layer's wires leave or enter",
        ),
        ({"arrange": "wires:during", "objective": "mask:0.9"}, "wires:during with mask, which would change"),
        ({"arrange": "wires:during"}, "got wires:during, every 100 of 16 steps of training, expected every=16 or less"),
        ({"arrange": "responses:during", "objective": "blur"}, "responses:during with blur, which would change"),
    ],
)
def test_a_network_that_cannot_be_arranged_is_told(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    one = Run(tiny.TASK, f"{tiny.MODEL}:side=6", recipe=RECIPE, **more)
    with pytest.raises(ValueError, match=said) as error:
        train(one, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


# --- what changes, and what does not ---------------------------------------------------------------------------------

AFTER = [("wires:after", "flat"), ("responses:after", "flat"), ("wires:after", "linear@2")]


@pytest.mark.parametrize(("word", "cost"), AFTER)
def test_after_training_the_places_change_and_nothing_else(
    word: str, cost: str, unmoved: dict[str, Path], tmp_path: Path
) -> None:
    homes = {"stay": unmoved[cost], "go": tmp_path / "go"}
    train(run(word, cost), homes["go"])
    stay, go = ended(homes["stay"]), ended(homes["go"])
    assert all(torch.equal(stay["model"][k], go["model"][k]) for k in stay["model"])
    a, b = (read_json(home / "analysis.json") for home in homes.values())
    same = ("accuracy", "loss", "noise_score", "random_lesion_score.input", "weight_norm.middle", "pruned_wires.weight")
    assert all(a["measures"][k] == pytest.approx(b["measures"][k]) for k in same)
    lengths = [told["measures"]["mean_wire_length.middle"] for told in (a, b)]
    assert b["arranged"]["mean_wire_length"] == pytest.approx(lengths)
    assert lengths[1] < lengths[0] or "responses" in word
    assert "arranged" not in a
    assert b["arranged"]["epochs"] == 2
    assert "pruned_length.weight" in b["measures"]
    assert (b["measures"]["pruned_length.weight"] is None) == (cost != "flat")
    alike = b["arranged"]["response_correlation"]
    assert alike.keys() == set(SHEETS)
    assert alike["input"][0] == pytest.approx(a["measures"]["response_correlation.input"])
    assert all(one[1] > one[0] for one in alike.values()) or "wires" in word
    # in the files the units are in the order of their places, whatever they are
    with np.load(homes["stay"] / "measures.npz") as x, np.load(homes["go"] / "measures.npz") as y:
        for sheet in SHEETS:
            order = go["orders"][sheet].numpy()
            told = y.get(f"sheet/{sheet}/order")  # which is left out where each unit is at its own place
            np.testing.assert_array_equal(order, np.arange(16) if told is None else told)
            for key in ("class_means", "selectivity", "epoch_means"):
                np.testing.assert_allclose(x[f"sheet/{sheet}/{key}"], y[f"sheet/{sheet}/{key}"][..., order], rtol=1e-6)
            np.testing.assert_array_equal(x[f"sheet/{sheet}/xy"], y[f"sheet/{sheet}/xy"])
        came, at = (go["orders"][sheet].numpy() for sheet in SHEETS)
        for unit in range(16):
            wires = [(f["wires/middle/origin"][k], f["wires/middle/weight"][k]) for f, k in ((x, unit), (y, at[unit]))]
            kept = [dict(zip(o[w > 0].tolist(), w[w > 0].tolist(), strict=True)) for o, w in wires]
            assert {int(came[o]): w for o, w in kept[0].items()} == pytest.approx(kept[1])
    with np.load(homes["stay"] / "activations.npz") as x, np.load(homes["go"] / "activations.npz") as y:
        np.testing.assert_array_equal(x["sheet/output"], y["sheet/output"][:, at])


@pytest.mark.parametrize(
    ("word", "more"),
    [
        ("wires:before,epochs=1", {"cost": "linear"}),
        ("responses:before,epochs=0", {}),
        ("wires:during,every=3", {}),
        ("responses:during,every=5", {"objective": "topoloss:1,factor=2+cbsom"}),
    ],
)
def test_stopped_anywhere_an_arranged_run_ends_in_the_same_bits(
    word: str, more: Any, unmoved: dict[str, Path], tmp_path: Path
) -> None:
    one = run(word, **more)
    train(one, tmp_path / "straight")
    home, stops = tmp_path / "stopped", (1, 5, 3)
    for steps in stops:
        with pytest.raises(Stop):
            train(one, home, machine=Machine(save_every=0.0), tick=stopped_after(steps))
    if ":before" in word and (home / "state.pt").exists():
        (home / "before.pt").touch()  # as where it was killed before it was deleted
    train(one, home)
    assert_same(tmp_path / "straight", home)
    a, b = (ended(at)["orders"] for at in (tmp_path / "straight", home))
    assert a.keys() == b.keys() == set(SHEETS)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not (home / "before.pt").exists()
    assert any((a[k] != torch.arange(16)).any() for k in a)
    if not more:  # where nothing looks at places, initial weights, data and dropout are the control's to the end
        a, b = (ended(at)["model"] for at in (unmoved["flat"], home))
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_prior_is_made_of_the_new_places() -> None:
    task = tiny.blobs()
    one = run("wires:before", "linear")
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    units = (Units(("output",), (), ("middle",), order),)
    plain_net, net = network(run(), task), network(one, task, units)
    layer: Any = net.model.get_submodule("middle")
    assert torch.equal(layer.weight, plain_net.model.get_submodule("middle").weight)
    expected = 1 / (1 + lp.Grid(4, 4).distances()[order])
    assert torch.allclose(layer.prior.double(), expected, atol=1e-6)
    assert isinstance(net.placed["output"].geometry, Permuted)
    assert net.layers[0].source == lp.Grid(4, 4)


def test_objectives_see_the_new_places_and_hang_on_the_model_once() -> None:
    task, one = tiny.blobs(), run("responses:during", objective="spatial_correlation:1")
    net = network(one, task)
    x = next(task.epoch(1, 1, 16, Shard())).inputs
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    for objective in net.objectives:
        objective.remove()
    new = moved(net, (Units(("output",), (), ("middle",), order),), one)
    new.model.eval()
    new.model(x)
    got = new.objectives[0].parts()
    with net.placed.record() as seen:
        net.model(x)
    expected = lp.objectives.spatial_correlation(seen["output"], lp.Grid(4, 4).permuted(order))
    assert torch.allclose(got["output"], expected)
    assert not torch.allclose(expected, lp.objectives.spatial_correlation(seen["output"], lp.Grid(4, 4)))
    assert len(net.model.get_submodule("output")._forward_hooks) == 1


def test_a_run_of_another_arrangement_or_a_damaged_order_is_told(tmp_path: Path) -> None:
    with pytest.raises(Stop):
        train(run("wires:during,every=3"), tmp_path / "run", machine=Machine(save_every=0.0), tick=stopped_after(6))
    with pytest.raises(Problem, match=r"arrange = wires:during,every=3 \(asked: none\)"):
        train(run(), tmp_path / "run")
    state = ended(tmp_path / "run")
    for orders in ({}, {"input": torch.arange(16)}, {k: torch.zeros(16, dtype=torch.int64) for k in SHEETS}):
        torch.save(state | {"orders": orders}, tmp_path / "run" / "state.pt")
        with pytest.raises(Problem, match="is damaged") as error:
            train(run("wires:during,every=3"), tmp_path / "run")
        assert "\n" not in str(error.value)


def test_a_network_of_ones_own_is_recorded_at_its_places(tmp_path: Path) -> None:
    task, net = tiny.blobs(), tiny.mlp(tiny.blobs())
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    sheet = lp.Grid(4, 4)
    for name, at in (("a", sheet), ("b", sheet.permuted(order))):
        record(
            net,
            lp.place(net, {"output": at}),
            task,
            tmp_path / name,
            condition=name,
            seed=1,
            local={"middle": (sheet, at)},
        )
    with np.load(tmp_path / "a" / "measures.npz") as x, np.load(tmp_path / "b" / "measures.npz") as y:
        assert "sheet/output/order" not in x.files
        np.testing.assert_array_equal(y["sheet/output/order"], order)
        np.testing.assert_allclose(x["sheet/output/class_means"], y["sheet/output/class_means"][:, order], rtol=1e-6)


# --- studies ---------------------------------------------------------------------------------------------------------


def test_arrangements_are_combined_with_costs_and_objectives() -> None:
    words = {"task": "digits", "model": "lenet"}
    axes = {
        "cost": ["flat", "linear"],
        "objective": "topoloss:1,2",
        "arrange": ["none", "wires:after", "responses:during"],
    }
    study = study_from(words | axes)
    each = ["linear", "topoloss:1", "topoloss:2"]
    assert list(study.conditions()) == [
        *("control", "wires:after", "responses:during", "linear", "linear + wires:after"),
        *(f"{one}{at}" for one in each[1:] for at in ("", " + wires:after", " + responses:during")),
    ]
    assert {name for name in study.conditions() if study.control(name) is None} == {"control"}
    assert study.unmoved("linear + wires:after") == "linear"
    assert study.unmoved("wires:after") is None
    assert study_from(study_values(study)) == study
    alone = study_from(words | {"cost": "linear", "shuffled": "linear", "arrange": "wires:after"})
    assert list(alone.conditions()) == ["control", "linear + wires:after", "linear shuffled + wires:after"]
    assert alone.null("linear + wires:after") == "linear shuffled + wires:after"
    described = plan(study)["conditions"]
    assert described["topoloss:2 + wires:after"]["method"] == "topoloss + wires:after"
    assert (described["topoloss:2 + wires:after"]["strength"], described["linear"]["arrange"]) == (2, "none")


def test_a_hypothesis_names_an_arrangement() -> None:
    claim = {"says": "Wires are shorter.", "measure": "mean_wire_length.locality", "expected": "lower"}
    pairs = [
        {"condition": {"cost": "linear", "arrange": " wires:AFTER"}},
        {"condition": {"cost": "linear", "arrange": "wires:after"}, "control": {"cost": "linear"}},
    ]
    study = study_from(
        {
            "task": "digits",
            "model": "lenet",
            "cost": ["flat", "linear"],
            "arrange": ["none", "wires:after"],
            "hypotheses": [claim | pair for pair in pairs],
        }
    )
    assert [study.compared(one) for one in study.hypotheses] == [
        ("linear + wires:after", "control"),
        ("linear + wires:after", "linear"),
    ]


def test_findings_compare_an_arranged_condition_with_its_control_and_with_itself_unmoved(tmp_path: Path) -> None:
    axes = Axes(
        task=tiny.blobs(48),
        model=tiny.mlp,
        cost=["flat", "linear"],
        arrange=["none", "wires:after"],
        seeds=[1],
        epochs=1,
        batch_size=16,
    )
    assert run_study(Study(axes), tmp_path, console=quiet()) == {}
    found = find(tmp_path)
    pairs = {(one["condition"], one["control"]) for one in found["comparisons"]}
    assert pairs == {
        ("wires:after", "control"),
        ("linear", "control"),
        ("linear + wires:after", "control"),
        ("linear + wires:after", "linear"),
    }
    text = {one["condition"]: one["text"] for one in found["answers"]}
    assert "accuracy is" in text["wires:after"]
    assert "% in both" in text["wires:after"]
    assert "; mean wire length in middle is " in text["wires:after"]
    assert "; against linear, mean wire length in middle is " in text["linear + wires:after"]
    assert "wire length" not in text["linear"]


def test_the_command_takes_an_arrangement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--task", SMALL, "--model", tiny.MODEL, "--epochs", "1", "--batch-size", "16"]
    assert cli.main(["train", *words, "--arrange", "wires:before", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert numbers(tmp_path / "run")["arranged"]["epochs"] == 2
    assert cli.main(["study", *words, "--arrange", "wire:after", "--out", str(tmp_path / "study")]) == 2
    assert "arrange: got 'wire:after', expected wires or responses" in capsys.readouterr().err
