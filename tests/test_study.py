"""Studies: settings are canonical, conditions have stable names, and every network is trained exactly once."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from study_jobs import HERE
from tiny import MODEL, TASK, Mlp, blobs

from locality_prior import cost, studies
from locality_prior._check import Problem, Told
from locality_prior._files import alone_in
from locality_prior.geometry import Grid
from locality_prior.runs import Machine, Recipe, Run
from locality_prior.runs.training import finished
from locality_prior.studies import Hypothesis, Study, find, run_study
from locality_prior.studies import cells as cells_module
from locality_prior.studies import study as study_module
from locality_prior.studies.study import check_study, plan, run_path, study_values, write_study

#: What is learned by what, where a test does not care.
USUAL = {"task": "digits", "model": "lenet"}


def Axes(**settings: Any) -> studies.Axes:
    return studies.Axes(**{**USUAL, **settings})


def study_from(values: Any) -> Study:
    return studies.study_from({**USUAL, **values} if isinstance(values, dict) else values)


SMALL = f"{TASK}:items=48"
QUICK: dict[str, Any] = {"task": SMALL, "model": MODEL, "epochs": 1, "batch_size": 16}


def quiet() -> Console:
    return Console(file=io.StringIO(), width=60)


# Settings


def test_one_spelling_is_canonical_in_flags_yaml_and_python() -> None:
    flags = study_from({"cost": ["flat", "linear:1", "linear@3.0"], "lr": ["1e-4"], "place": ["fc1=07x7"]})
    text = "{cost: [flat, linear, linear:1@3], lr: 1e-4, place: {fc1: [7, 7]}}"
    file = study_from(yaml.safe_load(text))
    python = Study(Axes(cost=(cost.Flat(), cost.Linear(), cost.Linear().within(3)), lr=1e-4, place={"fc1": Grid(7, 7)}))
    assert flags == file == python
    assert flags.axes.cost == ("flat", "linear", "linear@3")
    assert flags.axes.lr == (0.0001,)
    assert flags.axes.place == (("fc1", ("7x7",)),)


def test_arguments_of_a_word_are_in_order() -> None:
    assert (
        Axes(model="sheets:sizes=[8x8, 8x8],retina=no").model == Axes(model="sheets:retina=false,sizes=[8x8,8x8]").model
    )


def test_conditions_are_every_combination_and_the_control_is_always_there() -> None:
    study = Study(Axes(cost="linear@2", shuffled="linear@2", scale=(1, 2), lr=(0.1, 0.2), seeds=(3, 1)))
    assert list(study.conditions()) == [
        f"{wires}{lr}"
        for lr in ("", ", lr 0.2")
        for wires in ("control", "linear@2", "linear:2@2", "linear@2 shuffled", "linear:2@2 shuffled")
    ]
    runs = study.runs()
    assert list(runs)[:2] == [("control", 3), ("linear@2", 3)]  # seed by seed
    assert len(runs) == 20
    assert len({run_path(run) for run in runs.values()}) == 20
    assert study.control("linear@2, lr 0.2") == "control, lr 0.2"
    assert study.control("control, lr 0.2") is None
    assert study.null("linear:2@2") == "linear:2@2 shuffled"
    assert study.null("linear:2@2 shuffled") is None
    assert study.null("control") is None


def test_further_settings_take_over_what_they_do_not_name() -> None:
    study = study_from(
        {
            "place": {"fc1": "7x7"},
            "seeds": [1, 2],
            "also": [{"weight_decay": 0.1, "seeds": 7}, {"model": "sheets", "cost": "linear@3", "lr": 0.5}],
        }
    )
    assert list(study.conditions()) == [
        "control",
        "linear",
        "control, weight decay 0.1",
        "linear, weight decay 0.1",
        "control, sheets",
        "linear@3, sheets",
    ]
    assert {name: run.place for name, run in study.conditions().items()}["control, sheets"] == ()
    assert [seed for name, seed in study.runs() if name == "control, weight decay 0.1"] == [7]
    assert study.control("linear@3, sheets") == "control, sheets"


def test_names_stay_as_they_are_when_a_study_grows() -> None:
    small = {"task": "digits", "model": "sheets", "cost": "linear", "lr": [0.1]}
    large = {
        **small,
        "task": ["digits", "mnist", "mine.py:digits", "other.py:digits"],
        "model": ["sheets", "sheets:sizes=[8x8]"],
        "lr": [0.1, 0.10000001],
        "also": [{"place": {"sheet1": "32x32"}}, {"place": {"sheet1": "16x64"}}],
    }
    before, after = study_from(small).conditions(), study_from(large).conditions()
    assert before.items() <= after.items()
    assert len(set(after.values())) == len(after) == 2 * (4 * 2 * 2) + 2 * (4 * 2 * 2) * 2
    assert "linear, lr 0.10000001, place sheet1=16x64, mnist, sheets (sizes [8x8])" in " | ".join(after)


def test_groups_are_made_and_measured_alike() -> None:
    study = study_from({"seeds": 1, "also": [{"place": {"input": "7x7"}}, {"model": "sheets"}]})
    groups = plan(study)["groups"]
    assert [group["name"] for group in groups] == ["lenet on digits", "lenet on digits (2)", "sheets on digits"]
    assert [group["control"] for group in groups] == ["control", "control, place input=7x7", "control, sheets"]
    described = plan(study)["conditions"]
    assert described["linear, sheets"]["label"] == "linear"
    for group in groups:
        assert {described[name]["group"] for name in group["conditions"]} == {group["name"]}


def test_a_null_names_what_it_is_the_null_of() -> None:
    described = plan(study_from({"cost": "linear", "shuffled": "linear"}))["conditions"]
    assert described["linear"]["null"] == "linear shuffled"
    assert described["linear shuffled"]["of"] == "linear"
    assert described["linear shuffled"]["null"] is None


CLAIM = {"says": "It falls.", "measure": "loss", "expected": "lower"}


def test_a_hypothesis_finds_its_two_conditions() -> None:
    study = study_from(
        {
            "cost": ["linear", "quadratic"],
            "weight_decay": [0.01, 0.1],
            "also": [{"model": "sheets", "lr": 0.5, "cost": ["linear@3"]}],
            "hypotheses": [
                CLAIM | {"condition": {"cost": "quadratic:1"}},
                CLAIM | {"condition": {"cost": "linear", "weight_decay": "1e-1"}, "control": {"cost": "linear"}},
                CLAIM | {"condition": {"cost": "linear", "weight_decay": 0.1}},
                CLAIM | {"condition": {"model": "sheets", "cost": "linear@3"}},
            ],
        }
    )
    assert [study.compared(h) for h in study.hypotheses] == [
        ("quadratic", "control"),
        ("linear, weight decay 0.1", "linear"),
        ("linear, weight decay 0.1", "control, weight decay 0.1"),
        ("linear@3, sheets", "control, sheets"),
    ]


def test_a_study_survives_being_written_and_read(tmp_path: Path) -> None:
    study = study_from(
        {
            "title": "A [red]title[/x]: 雪",
            "about": "One paragraph.",
            "published": [{"name": "them", "source": "a paper", "measures": {"accuracy": "9.8e1"}}],
            "place": {"fc1": "torus:7x7", "fc2": "hex:5x5"},
            "local": {"fc2": "7x7,5x5"},
            "shuffled": ["linear"],
            "also": [{"model": "sheets", "shuffled": [], "seeds": [9]}, {"place": {"input": "7x7"}, "l1": "1e-5"}],
            "hypotheses": [CLAIM | {"condition": {"cost": "linear"}, "margin": "1e-3"}],
        }
    )
    assert study_from(study_values(study)) == study
    write_study(tmp_path, study)
    assert study_module.read_study(tmp_path) == study
    assert json.loads((tmp_path / "plan.json").read_text(encoding="utf-8")) == plan(study)


@pytest.mark.parametrize("name", ["digits", "mnist", "imagenet", "imagenet-small"])
def test_the_studies_of_the_catalog_are_studies(name: str) -> None:
    from locality_prior import catalog
    from locality_prior._files import read_yaml

    assert study_from(read_yaml(catalog.STUDIES / f"{name}.yaml")).conditions()


def test_ten_thousand_networks_are_planned_in_seconds() -> None:
    study = study_from({"lr": [k / 10**6 for k in range(1, 1667)], "cost": ["linear", "sqrt"], "seeds": [1, 2]})
    start = time.process_time()
    assert len(plan(study)["cells"]) == 9996
    assert time.process_time() - start < 30


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "study: got [], expected settings by name"),
        ({"colour": "red"}, "study: got a setting 'colour', expected settings among task, model"),
        ({1: 2}, "study: got a setting 1, expected settings among"),
        ({"also": 5}, "also: got 5, expected a list"),
        ({"also": [5]}, "also: got 5, expected settings by name"),
        ({"also": [{"title": "x"}]}, "also: got a setting 'title', expected settings among"),
        ({"about": 5}, "about: got 5, expected paragraphs of text"),
        ({"about": {"a": "b"}}, "about: got {'a': 'b'}, expected paragraphs of text"),
        ({"title": ["x"]}, "title: got ['x'], expected a line of text"),
        ({"seeds": [1, 1]}, "seeds: got [1, 1], expected each value once"),
        ({"seeds": []}, "seeds: got [], expected one or more values"),
        ({"seeds": [-1]}, "seeds: got -1, expected a whole number from 0"),
        ({"seeds": 1.5}, "seeds: got 1.5, expected a whole number"),
        ({"seeds": {"a": 1}}, "seeds: got {'a': 1}, expected a whole number"),
        ({"lr": "fast"}, "lr: got fast, expected a finite number above 0"),
        ({"lr": [0.1, "1e-1"]}, "lr: got [0.1, '1e-1'], expected each value once"),
        ({"batch_size": 0}, "batch_size: got 0, expected a whole number from 2"),
        ({"epochs": True}, "epochs: got True, expected a whole number from 1"),
        ({"optimizer": "magic"}, "optimizer: got magic, expected one of sgd"),
        ({"cost": None}, "cost: got None, expected"),
        ({"cost": "lunar"}, "cost: got 'lunar', expected"),
        ({"shuffled": ["flat"]}, "shuffled: got flat, expected costs that depend on distance"),
        ({"scale": 0}, "scale: got 0, expected a finite number above 0"),
        ({"place": {"fc1": "blob"}}, "place fc1: got 'blob', expected 32x32"),
        ({"place": 5}, "place: got 5, expected geometries by module"),
        ({"local": {"fc1": "7x7,7x7,7x7"}}, "local fc1: got 7x7,7x7,7x7, expected one geometry, or a source"),
        ({"task": None}, "task: got None, expected"),
        ({"model": "no such"}, "model: got no such, expected"),
        ({"seeds": list(range(10_001))}, "seeds: got 10,001 values, expected at most 10,000"),
        ({"seeds": list(range(5001))}, "study: got 15,003 networks, expected at most 10,000"),
        ({"seeds": list(range(2000)), "also": [{"lr": k} for k in (1, 2, 3)]}, "study: got 24,000 networks"),
        ({"published": [{"name": "a", "measures": {"accuracy": "high"}}]}, "published accuracy: got high, expected"),
        ({"published": [{"name": "a"}]}, "published: got {'name': 'a'}, expected rows with name, source and"),
        ({"published": [{"name": "a", "measures": {"x": float("nan")}}]}, "published x: got nan, expected a finite"),
        ({"hypotheses": [{}]}, "hypotheses: got one without says and measure and expected and condition, expected"),
        ({"hypotheses": [CLAIM | {"condition": {"seeds": 1}}]}, "condition: got {'seeds': 1}, expected settings by"),
        ({"hypotheses": [CLAIM | {"condition": {"cost": "cubic"}}]}, "cost: got 'cubic', expected"),
        ({"hypotheses": [CLAIM | {"condition": {"cost": "sqrt"}}]}, "hypotheses: got {'cost': 'sqrt'}, expected the"),
        ({"hypotheses": [CLAIM | {"condition": {}}]}, "hypotheses: got control compared with itself, expected"),
        (
            {"hypotheses": [CLAIM | {"condition": {"cost": "linear"}, "expected": "alike"}]},
            "margin: got 0.0, expected a finite number above 0",
        ),
        (
            {"hypotheses": [CLAIM | {"condition": {"cost": "linear"}, "expected": "up"}]},
            "expected: got up, expected one of lower, higher, alike",
        ),
    ],
)
def test_what_is_not_a_study_is_said_in_one_line(values: Any, said: str) -> None:
    with pytest.raises(Told, match=f"^{re.escape(said)}") as caught:
        study_from(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"axes": {"cost": "linear"}},
        {"also": Axes()},
        {"hypotheses": [CLAIM]},
        {"title": None},
        {"about": [1]},
    ],
)
def test_a_study_of_other_things_is_refused(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises(Told, match=f"^{name}: got "):
        Study(**{"axes": Axes(), **arguments})


# Directories


def test_a_study_grows_and_never_loses_a_run(tmp_path: Path) -> None:
    small, large = (study_from({"seeds": seeds, "lr": lr}) for seeds, lr in (([1], [0.1]), ([1, 2], [0.1, 0.2])))
    check_study(tmp_path, small)
    write_study(tmp_path, small)
    check_study(tmp_path, large)
    write_study(tmp_path, large)
    with pytest.raises(Problem, match=r"already holds control, lr 0\.2 with seed 1, which this study leaves out\."):
        check_study(tmp_path, small)


def test_a_directory_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(Problem, match=r"holds thesis\.tex but no study\.yaml"):
        check_study(tmp_path, Study(Axes()))
    with pytest.raises(ValueError, match=r"^out: got .*, expected a directory, but .*thesis\.tex is a file"):
        check_study(tmp_path / "thesis.tex" / "deeper", Study(Axes()))


def test_hostile_words_never_become_paths(tmp_path: Path) -> None:
    for word in ("../../outside.py:../../x", "/etc/x.py:a/b", "..:..", "a.py:b:c=../../x", "x" * 400 + ".py:y"):
        try:
            run = Run(word, word, recipe=Recipe())
        except Told:
            continue
        path = tmp_path / run_path(run)
        assert path.resolve().parent == tmp_path / "runs"
        assert len(path.name) < 200


# Running


def snapshot(directory: Path) -> dict[str, float]:
    return {str(p): p.stat().st_mtime_ns for p in directory.rglob("*") if p.is_file() and p.parent.name != "runs"}


def test_python_objects_run_in_this_process_and_each_cell_once(tmp_path: Path) -> None:
    made: list[int] = []

    def network() -> Mlp:
        made.append(os.getpid())
        return Mlp(4, 4)

    study = Study(
        Axes(task=blobs(48), model=network, cost=("flat", "linear@1.5"), seeds=(1, 2), epochs=1, batch_size=16)
    )
    assert run_study(study, tmp_path, console=quiet()) == {}
    assert set(made) == {os.getpid()}
    assert len(made) == 2 + 4  # two to try out, four to train
    found = find(tmp_path)
    assert [cell["measures"] is not None for cell in found["cells"]] == [True] * 4
    assert found["groups"][0]["name"].endswith("network on blobs")
    before = snapshot(tmp_path / "runs")
    assert run_study(study, tmp_path, console=quiet()) == {}
    assert len(made) == 6 + 2  # only tried out
    assert snapshot(tmp_path / "runs") == before
    with pytest.raises(ValueError, match=r"^executor: got one, with a task or model that is a Python object, expected"):
        run_study(study, tmp_path, executor=ThreadPoolExecutor(1))


def test_cells_that_fail_or_die_leave_the_others_alone(tmp_path: Path) -> None:
    models = [MODEL, f"{HERE}:failing", f"{HERE}:dying"]
    study = Study(Axes(**QUICK | {"model": models, "cost": ("flat",), "seeds": (1, 2)}))
    console = quiet()
    errors = run_study(study, tmp_path, console=console)
    assert errors == {
        ("control, failing", 1): "Odd: [red]1[/x] and 2",
        ("control, failing", 2): "Odd: [red]1[/x] and 2",
        ("control, dying", 1): "its process was ended from outside",
        ("control, dying", 2): "its process was ended from outside",
    }
    runs = study.runs()
    assert all(finished(runs["control", seed], tmp_path / run_path(runs["control", seed])) for seed in (1, 2))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "failed: control, failing · seed 1 · Odd: [red]1[/x] and 2\n" in shown
    found = find(tmp_path, errors)
    assert {cell["condition"]: cell.get("error") for cell in found["cells"]} == {
        "control": None,
        "control, failing": "Odd: [red]1[/x] and 2",
        "control, dying": "its process was ended from outside",
    }
    first = (tmp_path / "study.json").read_bytes()
    find(tmp_path)  # which keeps the reasons
    assert (tmp_path / "study.json").read_bytes() == first


def test_debug_shows_the_traceback_of_a_cell_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr(cells_module, "train", fails)
    study = Study(Axes(task=blobs(48), model=lambda: Mlp(4, 4), cost="flat", seeds=1))
    for debug in ("", "1"):
        monkeypatch.setenv("LOCALITY_PRIOR_DEBUG", debug)
        assert run_study(study, str(tmp_path), console=quiet()) == {("control", 1): "KeyError: 'x'"}
        assert ("Traceback" in capsys.readouterr().err) is bool(debug)


def test_settings_of_the_machine_reach_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Machine] = []
    monkeypatch.setattr(cells_module, "job", lambda run, at, root, label, machine: seen.append(machine))
    study = Study(Axes(**QUICK, cost="flat", seeds=1))
    machine = Machine(skip_broken=True, save_every=1.0)
    with ThreadPoolExecutor(1) as executor:
        run_study(study, tmp_path, executor=executor, console=quiet(), machine=machine)
    assert seen == [machine]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": "lenet:sheet=99999x99999"}, "sheet: got 99999x99999, which is 9,999,800,001 units, expected"),
        ({"place": {"nowhere": "4x4"}}, "nowhere"),
        ({"place": {"output": "5x5"}, "cost": "flat"}, "place: got Grid(5, 5) of 25 units for output"),
        (
            {"task": "digits"},
            "The model does not fit digits: when it was tried on a few items, it or the loss raised RuntimeError: ",
        ),
        ({"task": "nothing.py:at_all"}, "task: got "),
        ({"model": f"{MODEL}:colour=red"}, "model: got arguments that do not fit"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(tmp_path: Path, settings: Any, said: str) -> None:
    study = Study(Axes(**QUICK | settings))
    with pytest.raises((Told, ValueError, RuntimeError), match=re.escape(said)):
        run_study(study, tmp_path / "out", console=quiet())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("measure", "known"),
    [
        ("acuracy", "accuracy, loss, spatial_variance.input"),
        ("morans_i", "morans_i.input, morans_i.output"),
        ("morans_i.middle", "morans_i.input, morans_i.output"),
        ("mean_wire_length.output", "mean_wire_length.middle"),
        ("pruned_wires.age", "pruned_wires.weight, pruned_wires.length, pruned_wires.cost"),
    ],
)
def test_a_claim_about_no_measure_is_refused_before_training(tmp_path: Path, measure: str, known: str) -> None:
    claim = Hypothesis("It falls.", measure, "lower", {"cost": "linear"})
    study = Study(Axes(**QUICK), hypotheses=(claim,))
    with pytest.raises(ValueError, match=f"^measure: got {measure}, expected one of {re.escape(known)}"):
        run_study(study, tmp_path / "out", console=quiet())
    assert not (tmp_path / "out").exists()


def test_two_studies_begun_together_in_one_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one waits for the other: both find every network, none is trained twice, and none of the files is mixed."""
    trained: list[str] = []
    lock = threading.Lock()
    train = cells_module.train

    def counted(run: Run, directory: Path, *rest: Any) -> bool:
        with lock:
            trained.append(directory.name)
        return train(run, directory, *rest)

    monkeypatch.setattr(cells_module, "train", counted)
    monkeypatch.setattr(cells_module, "alone_in", lambda directory: alone_in(directory, 100))  # on a busy machine
    task, network = blobs(48), lambda: Mlp(4, 4)
    study = Study(Axes(task=task, model=network, cost="flat", seeds=(1, 2), epochs=1, batch_size=16))
    with ThreadPoolExecutor(3) as threads:
        jobs = [threads.submit(run_study, study, tmp_path, console=quiet()) for _ in range(3)]
        assert [job.result() for job in jobs] == [{}] * 3
    assert sorted(trained) == sorted(Path(run_path(run)).name for run in study.runs().values())


def test_a_directory_at_work_elsewhere_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells_module, "alone_in", lambda directory: alone_in(directory, 0.1))
    study = Study(Axes(**QUICK, cost="flat", seeds=1))
    with (
        alone_in(tmp_path),
        ThreadPoolExecutor(1) as thread,
        pytest.raises(Problem, match="Another process is writing to"),
    ):
        thread.submit(run_study, study, tmp_path, console=quiet()).result()


# Interrupts

PROGRAM = [sys.executable, "-m", "locality_prior.cli"]
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(Path(HERE).parents[1] / "src"), str(Path(HERE).parent)]),
}


def written(out: Path, name: str) -> set[str]:
    """Where files called ``name`` are below ``out``, while other files come and go."""
    return {folder for folder, _, files in os.walk(out) if name in files}


def interrupted(arguments: list[str], out: Path, how: list[int], wait: str) -> None:
    """Begin a command, stop it by each signal of ``how`` as soon as it has written something new, and finish it."""
    for number in how:
        there = written(out, wait)
        process = subprocess.Popen(
            [*PROGRAM, *arguments, "--out", str(out)], env=os.environ | ENVIRONMENT, stderr=subprocess.PIPE, text=True
        )
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end and written(out, wait) <= there:
            time.sleep(0.02)
        process.send_signal(number)
        said = process.communicate(timeout=60)[1]
        assert "Traceback" not in said
        assert process.returncode in (130, -number)
        if number != signal.SIGKILL:
            assert said.endswith(
                "locality-prior: interrupted; run the same command again to continue from the last saved state\n"
            )
    done = subprocess.run(
        [*PROGRAM, *arguments, "--out", str(out)],
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how", [[signal.SIGINT, signal.SIGTERM], [signal.SIGKILL, signal.SIGKILL]], ids=str)
def test_a_study_killed_twice_ends_in_the_same_findings(tmp_path: Path, how: list[int]) -> None:
    model = f"{HERE}:slow:seconds=0.02"
    arguments = ["study", "--task", SMALL, "--model", model, "--cost", "linear@1.5", "--shuffled", "linear@1.5"]
    arguments += ["--seeds", "1", "2", "--epochs", "4", "--batch-size", "8", "--save-every", "0.1"]
    interrupted(arguments, tmp_path / "whole", [], "state.pt")
    interrupted(arguments, tmp_path / "killed", how, "state.pt")
    whole, killed = ((tmp_path / name / "study.json").read_bytes() for name in ("whole", "killed"))
    assert whole == killed


def test_a_study_stopped_between_cells_ends_in_the_same_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, network = blobs(48), lambda: Mlp(4, 4)
    study = Study(Axes(task=task, model=network, seeds=(1, 2), epochs=2, batch_size=16))
    run_study(study, tmp_path / "whole", console=quiet())
    train, steps = cells_module.train, []

    def stopped(run: Run, directory: Path, root: Any, machine: Any, tick: Any, label: str) -> bool:
        def told(epoch: int, share: float) -> None:
            steps.append(epoch)
            if len(steps) in (3, 9):
                raise KeyboardInterrupt
            tick(epoch, share)

        return train(run, directory, root, machine, told, label)

    monkeypatch.setattr(cells_module, "train", stopped)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_study(study, tmp_path / "stopped", console=quiet())
    assert run_study(study, tmp_path / "stopped", console=quiet()) == {}
    for name in ("whole", "stopped"):
        find(tmp_path / name)
    whole, stopped_at = ((tmp_path / name / "study.json").read_bytes() for name in ("whole", "stopped"))
    assert whole == stopped_at
