"""Objectives as conditions of runs and studies: names, binding, matched pairs, logs, resuming, and errors."""

from __future__ import annotations

import json
import re
import subprocess
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import test_parallel
import tiny
import torch
from test_runs import Stop, assert_same, numbers, rows, stopped_after
from test_study import quiet
from torch import Tensor, nn

import locality_prior as lp
from locality_prior import cli
from locality_prior._check import Problem, wrong
from locality_prior._files import read_json
from locality_prior.catalog import models
from locality_prior.geometry import Geometry
from locality_prior.objectives import base, words
from locality_prior.objectives.kinds import KINDS
from locality_prior.placement import Placement
from locality_prior.runs import Machine, Recipe, Run, train, training
from locality_prior.runs.config import condition_of, run_name
from locality_prior.runs.network import network
from locality_prior.runs.training import check_fit
from locality_prior.studies import Axes, Hypothesis, Study, find, run_study
from locality_prior.studies.study import plan, study_from, study_values

RECIPE = Recipe(epochs=2, batch_size=16, lr=0.1)


class Shrunk(base.OfWeights):
    """Σ V²: what every sum over weights is like."""

    WORD = "shrunk"

    def __init__(self, placed: Placement, strength: Any = 0.25, *, factor: int = 1, whole: bool = False) -> None:
        super().__init__(placed, strength, factor=factor, whole=whole)
        if factor == 7:
            raise wrong("factor", factor, "another one")

    def of(self, name: str) -> Tensor:
        return torch.stack([one.weight.square().sum() for one in self.placed.matrices(name)]).sum()


class Even(base.OfResponses):
    """The variance over units of what each responds on average."""

    WORD = "even"

    def __init__(self, placed: Placement, strength: Any = 1.0) -> None:
        super().__init__(placed, strength)

    def of(self, responses: Tensor, geometry: Geometry) -> Tensor:
        return responses.float().mean(0).var()


class Nudged(base.OfWeights):
    """No loss, and weights that are made smaller after each step."""

    WORD = "nudged"
    LOSS = False

    def __init__(self, placed: Placement, strength: Any = 0.1) -> None:
        super().__init__(placed, strength)

    def of(self, name: str) -> Tensor:
        return torch.zeros(())

    def after_step(self, progress: float | None = None) -> None:
        with torch.no_grad():
            for name in self.placed:
                self.placed[name].module.weight.mul_(1 - self.weight(progress))  # type: ignore[operator]


class Absurd(base.OfWeights):
    """A number that is too large for any step."""

    WORD = "absurd"

    def __init__(self, placed: Placement, strength: Any = 1.0) -> None:
        super().__init__(placed, strength)

    def of(self, name: str) -> Tensor:
        return (1000 * self.placed.matrices(name)[0].weight.square().sum()).exp()


MADE = (Shrunk, Even, Nudged, Absurd)


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in MADE:
        monkeypatch.setitem(KINDS, kind.__name__, kind)
        monkeypatch.setitem(words.WORDS, kind.WORD, kind)


def run(objective: str = "none", cost: str = "flat", **more: Any) -> Run:
    return Run(tiny.TASK, tiny.MODEL, cost, objective=objective, **{"recipe": RECIPE} | more)


# --- settings and names ----------------------------------------------------------------------------------------------


def test_an_objective_has_one_spelling() -> None:
    assert run("Shrunk") == run("shrunk:0.250") == run("shrunk:.25,factor=1,whole=false")
    assert run("even : 1e6 , ramp=0.1+shrunk:0.3,whole=true").objective == "even:1e06,ramp=0.1+shrunk:0.3,whole=true"
    assert run("even:0.12345678901").objective == "even:0.12345678901"
    for word in ("even:1e06+even:1e-07", "even:0.1234567,steps=0.25/0.5,times=3", "none"):
        assert words.canonical("objective", word) == word
    assert words.names("even:1+shrunk:2+even:3") == ["even", "shrunk", "even_2"]
    assert words.several("objective", "even:1,2+shrunk:3,4") == [
        *("even:1+shrunk:3", "even:1+shrunk:4", "even:2+shrunk:3", "even:2+shrunk:4")
    ]


def test_names_of_runs_without_an_objective_are_as_they_were() -> None:
    local = Run("digits", "lenet", "linear@2", True, {"output": "7x7"}, {"locality": "7x7"})
    assert run_name(local) == "digits-lenet-linear-2-shuffled-5b8e79-seed1-c17ee57b"
    assert run_name(Run("digits", "lenet")) == "digits-lenet-control-seed1-0c0a7df5"


def test_runs_of_other_objectives_have_other_names() -> None:
    every = [
        run(),
        run("even"),
        run("even:2"),
        run("even", "linear"),
        run("shrunk+even"),
        run("even", "linear@2", shuffled=True),
    ]
    assert len({run_name(one) for one in every}) == len(every)
    assert [condition_of(one) for one in every] == [
        *("control", "even:1", "even:2", "linear + even:1", "shrunk:0.25+even:1", "linear@2 shuffled + even:1")
    ]
    assert "-even-1" in run_name(run("even"))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("lunar:1", "objective: got 'lunar:1', expected name"),
        ("even:1,2", "objective: got 'even:1,2', expected one strength"),
        ("even:-1", "objective even: strength: got -1"),
        ("shrunk:1,colour=red", "objective: got 'shrunk:1,colour=red', expected options among ramp"),
        (3, "objective: got 3, expected name"),
        (None, "objective: got None, expected name"),
        ("", "objective: got '', expected name"),
        ("even:" + ",".join(map(str, range(200))) + "+shrunk:" + ",".join(map(str, range(200))), "objective: got"),
    ],
)
def test_a_bad_word_is_one_line(word: Any, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{said}") as error:
        run(word)
    assert "\n" not in str(error.value)


# --- binding ---------------------------------------------------------------------------------------------------------


def test_objectives_are_bound_to_layers_with_their_ends_and_to_sheets() -> None:
    net = network(run("shrunk:0.5+even:2,ramp=0.5", "linear@2"), tiny.blobs())
    of_weights, of_responses = net.objectives
    assert of_weights.placed.names == ("middle",)
    assert of_weights.placed["middle"].source == of_weights.placed["middle"].geometry == lp.Grid(4, 4)
    assert of_responses.placed is net.placed
    assert (of_weights.weight(0.0), of_responses.weight(0.25)) == (0.5, 1.0)
    v = net.model.get_submodule("middle").effective_weight  # type: ignore[operator]
    assert torch.equal(of_weights.value(), v.square().sum())


@pytest.mark.parametrize("kind", [*KINDS.values(), *MADE], ids=lambda kind: kind.WORD)
def test_binding_draws_nothing_and_leaves_the_weights(kind: Any) -> None:
    def net() -> nn.Module:
        torch.rand(1)
        return models.sheets(tiny_images(), sizes=["8x8", "8x8"], dropout=0.25)

    def made(objective: str) -> tuple[dict[str, Tensor], Tensor]:
        found = network(Run(tiny.TASK, net, objective=objective), tiny.blobs())
        assert len(found.objectives) == (objective != "none")
        return found.model.state_dict(), torch.get_rng_state()

    (plain, drawn), (ours, after) = made("none"), made(kind.WORD)
    assert torch.equal(drawn, after)
    ours = {name.replace("parametrizations.", "").replace(".original", ""): v for name, v in ours.items()}
    assert all(torch.equal(plain[name], ours[name]) for name in plain)


def tiny_images() -> Any:
    from locality_prior.runs import Task

    x, y = torch.rand(20, 1, 8, 8), torch.arange(20) % 4
    return Task.classification(train=(x[:10], y[:10]), test=(x[10:], y[10:]), name="images")


@pytest.mark.parametrize("objective", ["shrunk:0.5", "even:0.5", "nudged"])
def test_the_pair_sees_the_same_items_and_the_same_dropout(objective: str, tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def net() -> nn.Module:
        sheet = lp.Grid(4, 4)
        parts = {
            "start": nn.Dropout(0.3),
            "first": nn.Linear(16, 16),
            "middle": nn.Linear(16, 16),
            "drop": nn.Dropout(),
        }
        model = nn.Sequential(OrderedDict(**parts, head=nn.Linear(16, 4)))
        model.start.register_forward_hook(lambda module, _, out: seen.append(out.clone()) if module.training else None)
        model.place = {"middle": sheet}  # type: ignore[assignment]
        model.local = {"middle": sheet}  # type: ignore[assignment]
        return model

    found = []
    for k, word in enumerate(("none", objective)):
        train(Run(tiny.TASK, net, objective=word, recipe=RECIPE), tmp_path / str(k))
        found.append(seen[-16:])
        seen.clear()
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    weights = [torch.load(tmp_path / k / "state.pt", weights_only=True)["model"]["middle.weight"] for k in "01"]
    assert not torch.equal(*weights)


@pytest.mark.parametrize(
    ("objective", "differs", "said"),
    [
        ("shrunk:1,factor=7", {}, "objective: factor: got 7, expected another one"),
        ("shrunk", {"place": {"output": "4x4"}}, "objective: got shrunk.*, expected a network with layers between"),
    ],
)
def test_what_cannot_be_bound_names_the_setting(objective: str, differs: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{said}") as error:
        train(run(objective, **differs), tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


# --- the loop --------------------------------------------------------------------------------------------------------


def test_an_objective_is_minimised_and_logged(tmp_path: Path) -> None:
    for name, word in (("plain", "none"), ("small", "shrunk:0.05,ramp=0.5"), ("two", "even:0.5+shrunk:0.05+even:0")):
        train(run(word), tmp_path / name)
    told = {name: rows(tmp_path / name / "metrics.csv") for name in ("plain", "small", "two")}
    assert list(told["small"][0])[:5] == ["epoch", "train_loss", "shrunk", "shrunk_weighted", "validation_loss"]
    assert list(told["two"][0])[2:8] == [
        *("even", "even_weighted", "shrunk", "shrunk_weighted", "even_2", "even_2_weighted")
    ]
    assert "shrunk" not in told["plain"][0]
    first, last = told["small"]
    assert 0 < float(last["shrunk"]) < float(first["shrunk"])
    assert float(last["shrunk_weighted"]) == pytest.approx(0.05 * float(last["shrunk"]), rel=1e-5)  # the ramp has ended
    assert float(first["shrunk_weighted"]) < 0.03 * float(first["shrunk"])
    assert float(told["two"][0]["even_2"]) == pytest.approx(float(told["two"][0]["even"]))
    assert float(told["two"][0]["even_2_weighted"]) == 0
    model = {k: torch.load(tmp_path / k / "state.pt", weights_only=True)["model"] for k in ("plain", "small")}
    assert model["small"]["middle.weight"].norm() < 0.85 * model["plain"]["middle.weight"].norm()
    assert numbers(tmp_path / "small")["condition"] == "shrunk:0.05,ramp=0.5"


def test_the_log_is_the_mean_over_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, float, float]] = []

    class Watched(Shrunk):
        def weight(self, progress: float | None = None) -> float:
            assert progress is not None
            seen.append((progress, super().weight(progress), float(self.value().detach())))
            return seen[-1][1]

    monkeypatch.setitem(words.WORDS, "shrunk", Watched)
    train(run("shrunk:0.05,steps=0.5"), tmp_path / "run")
    assert [progress for progress, _, _ in seen] == [k / 16 for k in range(16)]
    assert [weight for _, weight, _ in seen] == pytest.approx([0.05] * 8 + [0.5] * 8)
    for row, part in zip(rows(tmp_path / "run" / "metrics.csv"), (seen[:8], seen[8:]), strict=True):
        assert float(row["shrunk"]) == pytest.approx(sum(v for _, _, v in part) / 8)
        assert float(row["shrunk_weighted"]) == pytest.approx(sum(w * v for _, w, v in part) / 8)


def test_an_objective_without_strength_changes_no_bit(tmp_path: Path) -> None:
    for name, word in (("plain", "none"), ("watched", "even:0+shrunk:0")):
        train(run(word), tmp_path / name)
    states = [torch.load(tmp_path / name / "state.pt", weights_only=True)["model"] for name in ("plain", "watched")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("objective", "cost"),
    [("shrunk:0.05,ramp=0.5+even:0.5", "linear@2"), ("nudged:0.01,steps=0.3", "flat"), ("even:0.5+even:0.1", "flat")],
)
def test_stopped_anywhere_a_run_with_an_objective_ends_in_the_same_bits(
    objective: str, cost: str, tmp_path: Path
) -> None:
    one = run(objective, cost)
    train(one, tmp_path / "straight")
    home = tmp_path / "stopped"
    for steps in (0, 3, 5, 2):  # each time a little farther
        with pytest.raises(Stop):
            train(one, home, machine=Machine(save_every=0.0), tick=stopped_after(steps))
    kept = torch.load(home / "state.pt", weights_only=True)["part"]
    assert kept is not None
    assert len(kept["total"]) == len(kept["recent"]) == (1 if "nudged" in objective else 5)
    train(one, home)
    assert_same(tmp_path / "straight", home)


def test_an_objective_that_diverges_is_told(tmp_path: Path) -> None:
    for _ in range(2):  # and the second time at once
        with pytest.raises(
            Problem, match=r"Training diverged: .*in epoch 1, step 8.* or absurd:1 with a lower strength"
        ):
            train(run("absurd"), tmp_path / "run")
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["part"]["step"] == 8


def test_bf16_and_several_modules(tmp_path: Path) -> None:
    train(run("even:0.5+shrunk:0.01", recipe=Recipe(epochs=1, batch_size=32, precision="bf16-mixed")), tmp_path / "run")
    (row,) = rows(tmp_path / "run" / "metrics.csv")
    assert float(row["even"]) > 0


class Partly(nn.Module):
    """A network that calls a sheet only when it is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.middle, self.sheet, self.head = nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)
        self.place = {"sheet": lp.Grid(4, 4)}
        self.local = {"middle": lp.Grid(4, 4)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(x)
        return self.head(x if self.training else self.sheet(x))


def test_a_module_that_training_never_calls_is_told_before_anything_is_written(tmp_path: Path) -> None:
    one = Run(tiny.TASK, Partly, objective="even", recipe=RECIPE)
    with pytest.raises(Problem, match="sheet was not called in the model's last training pass") as error:
        train(one, tmp_path / "run")
    assert "\n" not in str(error.value)
    with pytest.raises(Problem, match="sheet was not called"):
        run_study(Study(Axes(task=tiny.TASK, model=Partly, objective="even")), tmp_path / "study", console=quiet())
    assert not list(tmp_path.iterdir())


def test_trying_an_objective_out_leaves_the_network_as_it_was() -> None:
    task = tiny.blobs()
    net = network(run("even+shrunk"), task)
    net.model.eval()
    net.model.get_submodule("norm").train()
    before = {k: v.clone() for k, v in net.model.state_dict().items()}
    buffers = [id(b) for b in net.model.buffers()]
    modes, state = [m.training for m in net.model.modules()], torch.get_rng_state()
    training._try_objectives(net, next(iter(task.validation(lp.runs.Shard()))).inputs)
    assert all(torch.equal(v, before[k]) for k, v in net.model.state_dict().items())
    assert [id(b) for b in net.model.buffers()] == buffers
    assert [m.training for m in net.model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    check_fit(net, task)
    assert all(torch.equal(v, before[k]) for k, v in net.model.state_dict().items())


@pytest.mark.parametrize("word", ["blur:0.3", "mask:0.5", "cbsom"])
def test_what_adds_nothing_to_the_loss_has_no_column(word: str, tmp_path: Path) -> None:
    train(run(word), tmp_path / "run")
    assert list(rows(tmp_path / "run" / "metrics.csv")[0])[:3] == ["epoch", "train_loss", "validation_loss"]


def test_a_compiled_network_has_the_same_objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *a, **k: plain(*a, **{**k, "backend": "eager"}))
    for compile_it in (False, True):
        train(run("even:0.5"), tmp_path / str(compile_it), machine=Machine(compile=compile_it))
    told = [rows(tmp_path / str(k) / "metrics.csv")[-1]["even"] for k in (False, True)]
    assert float(told[0]) == pytest.approx(float(told[1]), rel=1e-4)


def test_weights_in_parts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.machines, "sharded", lambda fabric: True)
    for word in ("shrunk:1", "even:1+shrunk:1", "nudged:1"):
        with pytest.raises(ValueError, match=f"^strategy: got fsdp with the objective {re.escape(word)}, expected ddp"):
            train(run(word), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    net = network(run("even+shrunk"), tiny.blobs())
    assert [training._of_responses_alone(one) for one in net.objectives] == [True, False]


#: A network that two processes train.
SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_parallel, test_trained_by
from locality_prior.objectives import words
from locality_prior.runs import Machine, train

words.WORDS.update({{kind.WORD: kind for kind in test_trained_by.MADE}})
train(test_trained_by.shared(), sys.argv[1], machine=Machine(devices="2", save_every=0.0))
"""


def shared() -> Run:
    task, model = (f"{test_parallel.HERE}:{name}" for name in ("big", "still"))
    recipe = Recipe(epochs=2, batch_size=30, lr=0.05)
    return Run(task, model, objective="shrunk:0.01,ramp=0.5+even:0+nudged:0.001", recipe=recipe)


@pytest.mark.slow
def test_two_processes_train_by_an_objective_of_weights_as_one_does(tmp_path: Path) -> None:
    """And each measures responses on its own half of a batch."""
    (tmp_path / "script.py").write_text(SCRIPT)
    process = test_parallel.start(str(tmp_path / "script.py"), str(tmp_path / "two"), stderr=subprocess.PIPE)
    wrong = process.communicate(timeout=300)[1]
    assert process.returncode == 0, wrong[-3000:]
    train(shared(), tmp_path / "one")
    one, two = (test_parallel.weights(tmp_path / name) for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(
        rows(tmp_path / "one" / "metrics.csv"), rows(tmp_path / "two" / "metrics.csv"), strict=True
    ):
        for name in ("train_loss", "shrunk", "shrunk_weighted"):
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-4)
        assert float(theirs["even"]) > 0
        assert float(ours["even"]) == pytest.approx(float(theirs["even"]), rel=0.3)


# --- studies ---------------------------------------------------------------------------------------------------------


def study(**more: Any) -> Study:
    settings = {"task": tiny.TASK, "model": tiny.MODEL, "epochs": 1, "batch_size": 16}
    return study_from(settings | more)


def test_each_strength_is_a_condition_beside_the_costs() -> None:
    one = study(cost=["linear@2"], shuffled="linear@2", objective=["even:0.5,2", "shrunk+even"], lr=[0.1, 0.2], seeds=1)
    local = ["control", "linear@2", "linear@2 shuffled", "even:0.5", "even:2", "shrunk:0.25+even:1"]
    assert list(one.conditions()) == [*local, *(f"{name}, lr 0.2" for name in local)]
    assert one.axes.objective == ("even:0.5", "even:2", "shrunk:0.25+even:1")
    assert study_from(study_values(one)) == one
    assert one.control("even:2, lr 0.2") == "control, lr 0.2"
    assert one.control("control") is None
    assert one.null("even:2") is None
    assert len(plan(one)["cells"]) == 12
    assert study(objective="none").conditions() == study().conditions()
    described = plan(one)["conditions"]
    assert [(d["objective"], d["method"], d["strength"]) for d in described.values()][:6] == [
        ("none", "control", None),
        ("none", "prior: linear@2", None),
        ("none", "prior: linear@2 shuffled", None),
        ("even:0.5", "even", 0.5),
        ("even:2", "even", 2.0),
        ("shrunk:0.25+even:1", "shrunk:0.25+even:1", None),
    ]
    assert described["even:2, lr 0.2"]["method"] == "even, lr 0.2"
    with pytest.raises(ValueError, match=r"^objective: got .*, expected each value once"):
        study(objective=["even:1,2", "even:2"])
    with pytest.raises(ValueError, match=r"^objective: got 'lunar', expected name"):
        study(objective="lunar")


def test_also_adds_objectives_to_other_networks() -> None:
    one = study(objective="even:2", also=[{"model": f"{tiny.MODEL}:side=3", "objective": ["shrunk:1,2"]}, {"l1": 0.1}])
    assert list(one.conditions()) == [
        *("control", "linear", "even:2"),
        *("control, mlp (side 3)", "linear, mlp (side 3)", "shrunk:1, mlp (side 3)", "shrunk:2, mlp (side 3)"),
        *("control, l1 0.1", "linear, l1 0.1", "even:2, l1 0.1"),
    ]
    assert plan(one)["conditions"]["shrunk:2, mlp (side 3)"]["method"] == "shrunk"
    assert study_from(study_values(one)) == one


def test_hypotheses_speak_of_objectives(tmp_path: Path) -> None:
    claim = {"says": "It falls.", "measure": "loss", "expected": "lower"}
    one = study(
        objective="even:0.5,2",
        hypotheses=[
            claim | {"condition": {"objective": "even:0.50"}},
            claim | {"condition": {"objective": "even:2"}, "control": {"cost": "linear"}},
        ],
    )
    assert [one.compared(h) for h in one.hypotheses] == [("even:0.5", "control"), ("even:2", "linear")]
    with pytest.raises(ValueError, match=r"^objective: got 'even:1,2', expected one strength"):
        Hypothesis(**claim, condition={"objective": "even:1,2"})
    with pytest.raises(ValueError, match=r"^hypotheses: got {'objective': 'even:3'}, expected the settings of one"):
        study(objective="even:2", hypotheses=[claim | {"condition": {"objective": "even:3"}}])


def test_a_study_of_objectives_is_compared(tmp_path: Path) -> None:
    task, model = tiny.blobs(48), lambda: tiny.Mlp(4, 4)
    axes = Axes(task=task, model=model, cost="flat", objective=["shrunk:0.1,1"], seeds=(1, 2), epochs=1, batch_size=16)
    assert run_study(Study(axes), tmp_path, console=quiet()) == {}
    found = find(tmp_path)
    assert {name: (one["method"], one["strength"]) for name, one in found["conditions"].items()} == {
        "control": ("control", None),
        "shrunk:0.1": ("shrunk", 0.1),
        "shrunk:1": ("shrunk", 1.0),
    }
    assert {(one["condition"], one["control"]) for one in found["comparisons"]} == {
        *(("shrunk:0.1", "control"), ("shrunk:1", "control"))
    }
    damaged = read_json(tmp_path / "plan.json")
    damaged["conditions"]["control"]["method"] = 3
    (tmp_path / "plan.json").write_text(json.dumps(damaged))
    with pytest.raises(Problem, match="damaged or of another version"):
        find(tmp_path)


# --- flags -----------------------------------------------------------------------------------------------------------

SMALL = ["--task", f"{tiny.TASK}:items=48", "--model", tiny.MODEL, "--epochs", "1", "--batch-size", "16"]


def test_flags_of_a_network_and_of_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *SMALL, "--objective", "even:0.5", "--out", str(tmp_path / "run")]) == 0
    assert "even_weighted" in rows(tmp_path / "run" / "metrics.csv")[0]
    capsys.readouterr()
    assert cli.main(["train", *SMALL, "--objective", "even:0.5,2", "--out", str(tmp_path / "other")]) == 2
    assert capsys.readouterr().err == ("locality-prior: error: objective: got 'even:0.5,2', expected one strength\n")
    parsed = cli._parser().parse_args(["study", *SMALL, "--objective", "even:0.5,2", "shrunk:0.25"])
    assert parsed.objective == ["even:0.5,2", "shrunk:0.25"]


# --- the catalog's sheets --------------------------------------------------------------------------------------------


def test_sheets_with_dropout_have_the_same_modules_and_weights_beside_it() -> None:
    def made(**more: Any) -> nn.Module:
        torch.manual_seed(1)
        return models.sheets(tiny_images(), sizes=["4x4", "4x4"], **more)

    plain, dropping = made(), made(dropout=0.5)
    assert [name for name, _ in dropping.named_children() if name.startswith("dropout")] == ["dropout1", "dropout2"]
    assert all(torch.equal(v, dropping.state_dict()[k]) for k, v in plain.state_dict().items())
    assert plain.state_dict().keys() == dropping.state_dict().keys()
    names = [name for name, _ in dropping.named_children()]
    assert names[names.index("sheet1") + 1] == "dropout1"
    assert list(dropping.place) == ["sheet1", "sheet2"]  # type: ignore[arg-type]
    for share in (-0.1, 1.0, "half"):
        with pytest.raises(ValueError, match=f"dropout: got {share}"):
            made(dropout=share)
