"""A study: its grid and its names, its cells and their failures, its findings beside scipy's, its page."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import study_jobs
import torch
import yaml
from matplotlib.figure import Figure
from rich.console import Console
from scipy import stats
from statsmodels.stats.multitest import multipletests
from tiny import TEST

import locality_prior as lp
from locality_prior import analysis, cli, cost, plots, report
from locality_prior._files import alone_in
from locality_prior.experiments import Recipe, Run, models
from locality_prior.experiments.measure import MEASURES, NAMES, read_measures
from locality_prior.report import findings as pages
from locality_prior.report import tables
from locality_prior.studies import cells, pool
from locality_prior.studies.cells import finished, run_study
from locality_prior.studies.findings import find, read_findings, verdict
from locality_prior.studies.study import (
    Axes,
    Hypothesis,
    Study,
    cell_directory,
    cell_name,
    claim_study,
    read_study,
    settings,
    study_from,
    study_values,
)

SEEDS = [1, 2, 3]
NULL = "linear@2 shuffled"
#: What a study that is trained here says; with hypotheses that hold or not whatever the networks are like.
VALUES: dict[str, Any] = {
    "data": "mnist",
    "seeds": SEEDS,
    "cost": ["flat", "linear@2"],
    "shuffled": "linear@2",
    "epochs": 1,
    "hypotheses": [
        {"says": "Wires are shorter.", "measure": "mean_wire_length", "expected": "lower", "margin": 0.5},
        {"says": "Wires are longer – ℓ.", "measure": "mean_wire_length", "expected": "higher"},
        {"says": "As long as the null's.", "measure": "mean_wire_length", "expected": "alike", "margin": 1e-9},
    ],
}
for one in VALUES["hypotheses"]:
    one["condition"] = {"cost": "linear@2"}
VALUES["hypotheses"][2]["control"] = {"cost": "linear@2", "shuffled": True}


def of(**values: Any) -> Study:
    return study_from(values)


def silent() -> Console:
    return Console(quiet=True)


@pytest.fixture(scope="session")
def studied(tmp_path_factory: pytest.TempPathFactory, root: str) -> Path:
    """A finished study of nine networks, and what was found. Not to be written to."""
    directory = tmp_path_factory.mktemp("study") / "out"
    with ThreadPoolExecutor(1) as executor:  # any executor will do
        assert run_study(study_from(VALUES), directory, root, executor, silent()) == {}
    find(directory)
    return directory


@pytest.fixture
def mine(studied: Path, tmp_path: Path) -> Path:
    """A copy of the finished study."""
    return Path(shutil.copytree(studied, tmp_path / "mine"))


# The grid


def test_a_study_is_every_combination_of_its_axes() -> None:
    study = of(
        data=["digits", "mnist"],
        seeds=[5, 6],
        cost=["linear", "sqrt"],
        optimizer=["sgd", "rmsprop"],
        weight_decay=[0.01, 0.1],
        l1=[0, 1e-4],
        sheet=["7x7", "8x6"],
        scale=[1, 2],
        epochs=3,
    )
    runs = study.runs()
    asked = itertools.product(
        ("digits", "mnist"),
        ("sgd", "rmsprop"),
        (0.01, 0.1),
        (0.0, 1e-4),
        ((7, 7), (8, 6)),
        ("flat", "linear", "linear:2", "sqrt", "sqrt:2"),
        (5, 6),
    )
    expected = {
        Run(d, c, Recipe(o, weight_decay=w, l1=a, epochs=3), seed, s) for d, o, w, a, s, c, seed in asked
    }  # the control is there unasked
    assert len(expected) == 320
    assert set(runs.values()) == expected
    assert len(runs) == 320
    assert len(study.conditions()) == 160
    # seed by seed, so that an interrupted study has whole pairs
    assert [seed for _, seed in runs] == [5] * 160 + [6] * 160
    assert all(runs[name, seed].seed == seed for name, seed in runs)


def test_what_is_the_same_is_there_once() -> None:
    study = of(cost=["linear", "LINEAR:1", "flat", "linear:2"], scale=[1, 2], shuffled=["linear:2"], seeds=3)
    assert list(study.conditions()) == [
        "control",
        "linear",
        "linear:2",
        "linear:4",
        "linear:2 shuffled",
        "linear:4 shuffled",
    ]
    assert list(of(sheet=["7x7", "07X7"]).conditions()) == ["control", "linear"]
    again = of(also=[{}, {"seeds": [3, 4]}])
    assert list(again.conditions()) == ["control", "linear"]
    assert again.seeds() == {"control": [1, 2, 3, 4], "linear": [1, 2, 3, 4]}
    # a length has a scale, an end of wires has none
    assert list(of(cost=["linear@2", "lineardecay:3"], scale=[2]).conditions()) == [
        "control",
        "linear:2@2",
        "lineardecay:6",
    ]


def test_conditions_are_called_what_sets_them_apart() -> None:
    study = of(
        data="mnist",
        cost="flat",
        also=[
            {"cost": "sqrt", "shuffled": "sqrt", "weight_decay": "1e-4", "l1": 0.5, "seeds": [9]},
            {"data": "digits", "sheet": "4x5", "epochs": 2, "optimizer": "rmsprop", "cost": "flat@2"},
        ],
    )
    other = "data digits, optimizer rmsprop, sheet 4x5, epochs 2"
    assert list(study.conditions()) == [
        "control",
        "control, weight decay 0.0001, l1 0.5",
        "sqrt, weight decay 0.0001, l1 0.5",
        "sqrt shuffled, weight decay 0.0001, l1 0.5",
        f"control, {other}",
        f"flat@2, {other}",
    ]
    assert list(study.seeds().values()) == [[1, 2, 3], [9], [9], [9], [1, 2, 3], [1, 2, 3]]
    assert len(study.runs()) == 3 + 3 + 6
    assert {seed for name, seed in study.runs() if "l1" in name} == {9}
    small = of(data="imagenet", preset="small", epochs=2).conditions()["linear"]
    assert (small.alexnet.crop, small.sheet, small.recipe.epochs) == (64, (32, 32), 2)  # type: ignore[union-attr]


def test_every_condition_has_its_own_control_and_every_cost_its_null() -> None:
    study = of(cost=["linear", "sqrt"], shuffled="sqrt", also=[{"cost": "linear", "shuffled": [], "l1": 0.5}])
    assert study.pairs() == [
        ("linear", "control"),
        ("sqrt", "control"),
        ("sqrt", "sqrt shuffled"),
        ("sqrt shuffled", "control"),
        ("linear, l1 0.5", "control, l1 0.5"),
    ]
    assert of(cost="flat").pairs() == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (None, "study: got NoneType, expected settings by name"),
        ([1], "study: got list, expected settings by name"),
        ({"costs": ["linear"]}, "study: got costs, expected settings among data, seeds, cost"),
        ({3: 4}, "study: got 3, expected settings among data, seeds"),
        ({"cost": []}, r"cost: got \[\], expected one or more different values"),
        ({"cost": ["linear", "linear"]}, "cost: got .*, expected one or more different values"),
        ({"weight_decay": ["1e-4", 0.0001]}, "weight_decay: got .*, expected one or more different values"),
        ({"cost": [["linear"]]}, r"cost: got \[\['linear'\]\], expected values of type str"),
        ({"cost": {"linear": 1}}, "cost: got .*, expected values of type str"),
        ({"cost": "cubic"}, "cost: got 'cubic', expected name"),
        ({"cost": None}, r"cost: got \[None\], expected values of type str"),
        ({"shuffled": "cubic"}, "cost: got 'cubic'"),
        ({"seeds": "12"}, r"seeds: got \['12'\], expected values of type int"),
        ({"seeds": [True]}, r"seeds: got \[True\], expected values of type int"),
        ({"seeds": [1.0]}, "seeds: got .*, expected values of type int"),
        ({"seeds": -1}, "seed: got -1, expected a whole number of at least 0"),
        ({"weight_decay": "heavy"}, r"weight_decay: got \['heavy'\], expected values of type float"),
        ({"weight_decay": -1}, "weight_decay: got -1.0, expected a number of at least 0"),
        ({"weight_decay": [None]}, "weight_decay: got .*, expected values of type float"),
        ({"scale": 0}, "scale: got 0.0, expected a finite number above 0"),
        ({"sheet": [7, 8]}, r"sheet: got \[7, 8\], expected values of type str"),
        ({"sheet": "7"}, "sheet: got '7', expected units such as 7x7"),
        ({"sheet": "0x7"}, "sheet: got 0, expected a whole number of at least 1"),
        ({"data": "mnst"}, "data: got 'mnst', expected one of digits, mnist, imagenet"),
        ({"optimizer": "adam"}, "optimizer: got 'adam', expected one of sgd, rmsprop"),
        ({"preset": "tiny"}, "preset: got 'tiny', expected one of full, small"),
        ({"epochs": "3"}, "epochs: got '3', expected a whole number of at least 1"),
        ({"epochs": [1, 2]}, r"epochs: got \[1, 2\], expected a whole number"),
        ({"also": {"cost": "linear"}}, "also: got {'cost': 'linear'}, expected a list"),
        ({"also": 3}, "also: got 3, expected a list"),
        ({"also": [None]}, "study: got None, expected settings among data"),
        ({"also": [{"also": []}]}, "study: got also, expected settings among data"),
        ({"hypotheses": [{"says": "x"}]}, "hypotheses: got says, expected each with says, measure, expected, cond"),
    ],
)
def test_a_bad_study_is_told_in_one_line(values: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        study_from(values)


@pytest.mark.parametrize(
    ("differs", "said"),
    [
        ({"condition": "linear"}, "hypotheses: got linear, expected settings by name"),
        ({"condition": {"margin": 1}}, "hypotheses: got .*margin.*, expected settings by name"),
        ({"condition": {"cost": "cubic"}}, "cost: got 'cubic', expected name"),
        (
            {"condition": {"cost": "quadratic"}},
            "hypotheses: got {'cost': 'quadratic'}, expected settings of one of: contr",
        ),
        ({"condition": {}}, "hypotheses: got control compared with itself, expected a condition and another"),
        ({"control": {"cost": "sqrt"}}, "hypotheses: got {'cost': 'sqrt'}, expected settings of one of: control"),
        ({"expected": "better"}, "expected: got 'better', expected one of lower, higher, alike"),
        ({"expected": "alike"}, "margin: got 0.0, expected a finite number above 0"),
        ({"margin": -1}, "margin: got -1, expected a finite number above 0"),
        ({"margin": "wide"}, "margin: got 'wide', expected a number above 0"),
    ],
)
def test_a_bad_hypothesis_is_told_in_one_line(differs: dict[str, Any], said: str) -> None:
    good = {"says": "x", "measure": "accuracy", "expected": "lower", "condition": {"cost": "linear"}}
    assert of(hypotheses=[good]).hypotheses[0].says == "x"
    with pytest.raises(ValueError, match=f"^{said}"):
        of(hypotheses=[good | differs])


def test_a_margin_is_a_number_however_yaml_reads_it() -> None:
    text = "{hypotheses: [{says: x, measure: loss, expected: lower, condition: {cost: linear}, margin: 1e-2}]}"
    (asked,) = study_from(yaml.safe_load(text)).hypotheses
    assert asked.margin == 0.01
    assert verdict(asked, (-2.0, -1.0)) == "holds"


def test_a_hypothesis_says_its_settings_as_a_person_writes_them() -> None:
    asked = {"says": "x", "measure": "accuracy", "expected": "lower"}
    for told in (
        {"cost": "linear:1", "weight_decay": "1e-3"},
        {"cost": "Linear", "sheet": [7, 7], "weight_decay": 0.001},
    ):
        study = of(cost=["linear"], weight_decay=[0.01, "1e-3"], hypotheses=[asked | {"condition": told}])
        pair = study.compared(study.hypotheses[0])
        assert pair == ("linear, weight decay 0.001", "control, weight decay 0.001")


def test_a_hypothesis_is_about_two_conditions() -> None:
    study = of(cost=["linear", "sqrt"], shuffled="sqrt", weight_decay=[0.01, 0.1])

    def pair(condition: dict[str, Any], control: dict[str, Any] | None = None) -> tuple[str, str]:
        return study.compared(Hypothesis("x", "accuracy", "lower", condition, control))

    assert pair({"cost": "sqrt"}) == ("sqrt", "control")
    assert pair({"cost": "sqrt", "shuffled": True}) == ("sqrt shuffled", "control")
    assert pair({"cost": "sqrt", "weight_decay": 0.1}) == ("sqrt, weight decay 0.1", "control, weight decay 0.1")
    heavy = {"cost": "linear", "weight_decay": 0.1}
    assert pair(heavy, {"cost": "linear"}) == ("linear, weight decay 0.1", "linear")


def test_two_conditions_of_one_name_are_refused_and_not_lost() -> None:
    # small and full differ in batch size and crop, which no name tells
    same = {"sheet": "8x8", "epochs": 1, "weight_decay": 1e-4}
    with pytest.raises(ValueError, match=r"also: got .*control.*, expected"):
        of(data="imagenet", **same, also=[{"preset": "small"}])
    of(data="imagenet", **same, also=[{"preset": "small", "epochs": 2}])


STUDIES = (
    {},
    VALUES,
    {"cost": "power:2,1.5", "weight_decay": "1e-4", "sheet": ["8x8"], "preset": "small", "data": "imagenet"},
    {"epochs": 2, "also": [{"epochs": None}, {"shuffled": "sqrt", "l1": [0.5, 1]}, {}]},
    yaml.safe_load((Path(__file__).parents[1] / "studies" / "mnist.yaml").read_text(encoding="utf-8")),
)


@pytest.mark.parametrize("values", STUDIES, ids=str)
def test_a_study_comes_back_from_its_file(values: dict[str, Any], tmp_path: Path) -> None:
    study = study_from(values)
    assert study_from(study_values(study)) == study
    claim_study(tmp_path, study)
    assert read_study(tmp_path) == study
    assert read_study(tmp_path).runs() == study.runs()


# Names and claims


def test_a_run_is_called_the_same_in_every_study_and_another_run_otherwise() -> None:
    run = Run("mnist", "linear:2@3", seed=4)
    # a name is for ever: runs that are on disk are found by it
    assert cell_name(run) == "mnist-linear_2@3-seed4-" + cell_name(run)[-8:]
    assert cell_name(Run("digits")) == "digits-linear-seed1-" + cell_name(Run("digits"))[-8:]
    others = [Run("mnist", "linear:2@3", dataclasses.replace(run.recipe, **{k: v}), 4) for k, v in CHANGED.items()]
    others += [dataclasses.replace(run, **{k: v}) for k, v in OTHERWISE.items()]
    sizes = models.config.AlexNet(), models.config.AlexNet(layer="fc6"), models.config.AlexNet(width=0.5)
    others += [Run("imagenet", alexnet=size) for size in sizes]
    assert len({cell_name(r) for r in (run, *others)}) == 1 + len(others)
    assert set(CHANGED) == {f.name for f in dataclasses.fields(Recipe)}
    assert {*OTHERWISE, "recipe", "alexnet"} == {f.name for f in dataclasses.fields(Run)}
    alone, among = of(cost="sqrt"), of(data=["mnist", "digits"], cost=["linear", "sqrt"], l1=[0.5, 0], scale=[1, 3])
    names = {cell_name(r) for r in among.runs().values()}
    assert {cell_name(r) for r in alone.runs().values()} <= names
    assert len(names) == len(among.runs())
    for name in [*names, cell_name(Run("mnist", "power:1.25,0.5@2", shuffled=True))]:
        assert re.fullmatch(r"[a-z0-9_@.,-]{1,80}", name)


CHANGED: dict[str, Any] = {
    "optimizer": "rmsprop",
    "lr": 0.02,
    "momentum": 0.6,
    "weight_decay": 0.02,
    "epochs": 11,
    "batch_size": 65,
    "l1": 0.1,
    "drop_every": 1,
    "precision": "bf16-mixed",
}
OTHERWISE: dict[str, Any] = {"data": "digits", "cost": "linear:2@4", "seed": 5, "sheet": (7, 8), "shuffled": True}


def contents(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_a_study_may_grow_and_loses_nothing(tmp_path: Path) -> None:
    small, large = of(seeds=[1], cost="linear"), of(seeds=[2, 1], cost=["sqrt", "linear"], l1=[0, 1])
    claim_study(tmp_path / "a", small)
    claim_study(tmp_path / "a", large)
    assert read_study(tmp_path / "a") == large
    # other hypotheses are other questions to the same runs
    claim_study(tmp_path / "a", dataclasses.replace(large, hypotheses=study_from(HELD).hypotheses))
    before = contents(tmp_path)
    assert list(before) == ["a/study.yaml"]
    with pytest.raises(ValueError, match=r"out: got .*, which holds .* of seed 2, expected a new dir"):
        claim_study(tmp_path / "a", small)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes").write_text("mine")
    (tmp_path / "c").write_text("a file")
    for name, said in (("b", "which holds notes but no study.yaml"), ("c", "is a file"), ("c/d", "is a file")):
        with pytest.raises(ValueError, match=said):
            claim_study(tmp_path / name, small)
    assert contents(tmp_path) == before | {"b/notes": b"mine", "c": b"a file"}


HELD = {"hypotheses": [{"says": "x", "measure": "loss", "expected": "lower", "condition": {"cost": "linear"}}]}


@pytest.mark.parametrize("text", ["", "[", "cost: 3", "3", "costs: linear", "\xff"])
def test_a_study_that_cannot_be_read_is_told_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_bytes(text.encode("latin-1"))
    for act in (read_study, find, report.write, lambda d: claim_study(d, Study())):
        with pytest.raises(ValueError, match="got") as raised:
            act(tmp_path)
        assert "\n" not in str(raised.value)
    assert contents(tmp_path) == {"study.yaml": text.encode("latin-1")}


# Hypotheses


@pytest.mark.parametrize(
    ("interval", "margin", "lower", "higher", "alike"),
    [
        ((-3, -2), 1, "holds", "does not hold", "does not hold"),
        ((2, 3), 1, "does not hold", "holds", "does not hold"),
        ((-0.5, 0.9), 1, "does not hold", "does not hold", "holds"),
        ((-2, -0.5), 1, "cannot be told", "does not hold", "cannot be told"),
        ((0.5, 2), 1, "does not hold", "cannot be told", "cannot be told"),
        ((-2, 2), 1, "cannot be told", "cannot be told", "cannot be told"),
        ((-1, 1), 1, "cannot be told", "cannot be told", "holds"),  # a margin is part of both sides of it
        (None, 1, "cannot be told", "cannot be told", "cannot be told"),
        ((-3, -2), 0, "holds", "does not hold", None),
        ((2, 3), 0, "does not hold", "holds", None),
        ((-1, 1), 0, "cannot be told", "cannot be told", None),
    ],
)
def test_a_verdict_is_where_the_whole_interval_lies(
    interval: tuple[float, float] | None, margin: float, lower: str, higher: str, alike: str | None
) -> None:
    for expected, said in (("lower", lower), ("higher", higher), ("alike", alike)):
        if said is not None:
            assert verdict(Hypothesis("x", "loss", expected, {}, margin=margin), interval) == said  # type: ignore[arg-type]


# Findings


def measured(directory: Path, condition: str, seed: int) -> dict[str, Any]:
    study = read_study(directory)
    path = cell_directory(directory, study.runs()[condition, seed])
    return json.loads((path / "analysis.json").read_text())


def part(numbers: dict[str, Any], measure: str) -> float | None:
    name, _, of = measure.partition(".")
    return numbers[name][of] if of else numbers[name]


def test_findings_are_every_cell_and_every_comparison(studied: Path) -> None:
    found = json.loads((studied / "study.json").read_text())
    assert found == read_findings(studied)
    assert list(found) == ["cells", "comparisons", "hypotheses"]
    study = read_study(studied)
    assert [(c["condition"], c["seed"]) for c in found["cells"]] == list(study.runs())
    assert len(found["cells"]) == 9
    names = list(found["cells"][0]["measures"])
    assert {n.partition(".")[0] for n in names} == set(MEASURES)
    assert len(names) == 28
    for cell in found["cells"]:
        run = study.runs()[cell["condition"], cell["seed"]]
        assert models.config.run_from(cell["config"] | {"seed": cell["seed"]}) == run
        assert cell["run"] == cell_name(run)
        assert list(cell["measures"]) == names
        numbers = measured(studied, cell["condition"], cell["seed"])
        assert cell["measures"] == {name: part(numbers, name) for name in names}
        assert "error" not in cell
    pairs = [("linear@2", "control"), ("linear@2", NULL), (NULL, "control")]
    assert [(c["condition"], c["control"], c["measure"]) for c in found["comparisons"]] == [
        (*pair, name) for pair in pairs for name in names
    ]


def test_comparisons_are_scipys(studied: Path) -> None:
    """Each number from the runs' own files, by other means."""
    found = read_findings(studied)
    numbers = {key: measured(studied, *key) for key in read_study(studied).runs()}
    tested = 0
    for row in found["comparisons"]:
        a, b = (
            np.array([part(numbers[row[side], seed], row["measure"]) for seed in SEEDS], dtype=float)
            for side in ("condition", "control")
        )
        d = (a - b)[np.isfinite(a - b)]
        assert row["n"] == len(d)
        if len(d) < 2 or np.ptp(d) < 1e-12:
            assert (row["t"], row["p"], row["ci"]) == (None, None, None)
            continue
        test = stats.ttest_1samp(d, 0)
        interval = test.confidence_interval(0.95)
        assert row["mean_difference"] == pytest.approx(d.mean())
        assert (row["t"], row["p"]) == pytest.approx((test.statistic, test.pvalue))
        assert row["ci"] == pytest.approx([interval.low, interval.high])
        flips = [abs(np.dot(s, d)) for s in itertools.product((1, -1), repeat=len(d))]
        assert row["p_permutation"] == np.mean([f >= abs(d.sum()) * (1 - 1e-12) for f in flips])
        assert row["effect"] == pytest.approx(d.mean() / d.std(ddof=1))
        assert row["means"] == pytest.approx([a.mean(), b.mean()])
        needed = None if abs(row["effect"]) < 0.01 else analysis.seeds_needed(row["effect"])
        assert row["seeds_needed"] == needed
        tested += 1
    assert tested > 70
    for _, rows in itertools.groupby(found["comparisons"], key=lambda r: (r["condition"], r["control"])):
        # corrected over the measures of one comparison
        given = [(row["p"], row["p_holm"]) for row in rows]
        p, corrected = zip(*[pair for pair in given if pair[0] is not None], strict=True)
        assert len(p) > 20
        assert corrected == pytest.approx(multipletests(p, method="holm")[1])
        assert all(h is None for p, h in given if p is None)


def test_p_over_images_is_of_the_first_pair(studied: Path) -> None:
    """From the stored activations, by scipy's test."""

    def variances(condition: str, seed: int, side: str) -> Any:
        run = read_study(studied).runs()[condition, seed]
        with np.load(cell_directory(studied, run) / "activations.npz") as kept:
            assert kept[side].shape == (TEST, 49)
            return analysis.spatial_variance(kept[side].astype(float), lp.Grid(7, 7))

    rows = [r for r in read_findings(studied)["comparisons"] if r["per_image_p"] is not None]
    assert {r["measure"] for r in rows} == {"spatial_variance.input", "spatial_variance.output"}
    assert len(rows) == 6
    for row in rows:
        side = row["measure"].partition(".")[2]
        assert [one["seed"] for one in row["per_image"]] == SEEDS
        for one in row["per_image"]:
            mine, theirs = (variances(row[k], one["seed"], side) for k in ("condition", "control"))
            kept = np.isfinite(mine) & np.isfinite(theirs)
            test = stats.ttest_rel(mine[kept], theirs[kept])
            assert (one["t"], one["p"], one["n"]) == pytest.approx((test.statistic, test.pvalue, kept.sum()))
            assert one["mean_difference"] == pytest.approx((mine - theirs)[kept].mean())
        assert row["per_image_p"] == row["per_image"][0]["p"]
    other = [r for r in read_findings(studied)["comparisons"] if not r["measure"].startswith("spatial_variance")]
    assert other
    assert all(r["per_image_p"] is None and "per_image" not in r for r in other)


def test_hypotheses_are_judged_by_their_intervals(studied: Path) -> None:
    shorter, longer, alike = read_findings(studied)["hypotheses"]
    by = {(r["condition"], r["control"], r["measure"]): r for r in read_findings(studied)["comparisons"]}
    for one, control in ((shorter, "control"), (longer, "control"), (alike, NULL)):
        row = by["linear@2", control, "mean_wire_length"]
        assert (one["condition"], one["control"], one["n"]) == ("linear@2", control, 3)
        assert [one[k] for k in ("mean_difference", "ci", "p")] == [row[k] for k in ("mean_difference", "ci", "p")]
    assert shorter["ci"][1] < -0.5
    assert [one["verdict"] for one in (shorter, longer, alike)] == ["holds", "does not hold", "does not hold"]
    assert longer["says"] == "Wires are longer – ℓ."


def _found(directory: Path, values: dict[str, Any]) -> None:
    claim_study(directory, study_from(values))
    find(directory)


@pytest.mark.parametrize("measure", ["acuracy", "spatial_variance", "accuracy.output"])
def test_a_hypothesis_about_no_measure_is_told(mine: Path, measure: str) -> None:
    asked = {**VALUES, "hypotheses": [VALUES["hypotheses"][0] | {"measure": measure}]}
    with pytest.raises(ValueError, match=f"measure: got '{measure}', expected one of accuracy, loss, spat"):
        _found(mine, asked)


def test_a_trained_cell_that_is_not_measured_is_measured(mine: Path, studied: Path) -> None:
    (cell_directory(mine, read_study(mine).runs()[NULL, 2]) / "analysis.json").unlink()
    find(mine)
    assert (mine / "study.json").read_bytes() == (studied / "study.json").read_bytes()


def test_findings_are_the_same_bytes_whenever_and_wherever(mine: Path, studied: Path, tmp_path: Path) -> None:
    before = (studied / "study.json").read_bytes()
    (mine / "study.json").unlink()
    find(mine)
    assert (mine / "study.json").read_bytes() == before
    for stranger in (str(studied), str(studied.parent), "pid", "time", "machine"):
        assert stranger.encode() not in before.replace(b"times", b"")


def test_a_study_trained_again_elsewhere_in_another_order_finds_the_same(
    studied: Path, root: str, tmp_path: Path
) -> None:
    """Two of the three seeds are taken over, in another order than here; the second is trained again."""
    out = tmp_path / "somewhere" / "else"
    study = study_from(VALUES)
    for (_, seed), run in reversed(study.runs().items()):
        if seed != 2:
            shutil.copytree(cell_directory(studied, run), cell_directory(out, run))
    claim = out / "study.yaml"
    claim.write_text(yaml.safe_dump(study_values(study)))
    with ThreadPoolExecutor(1) as executor:
        assert run_study(study, out, root, executor, silent()) == {}
    find(out)
    assert (out / "study.json").read_bytes() == (studied / "study.json").read_bytes()


def test_undefined_measures_and_missing_pairs_are_left_out(mine: Path) -> None:
    study = read_study(mine)
    path = cell_directory(mine, study.runs()["linear@2", 2]) / "analysis.json"
    numbers = json.loads(path.read_text())
    path.write_text(json.dumps(numbers | {"modularity": None, "smoothness": {"input": None, "output": 0.5}}))
    shutil.rmtree(cell_directory(mine, study.runs()["control", 3]))
    found = find(mine)
    rows = {(r["condition"], r["control"], r["measure"]): r for r in found["comparisons"]}
    assert rows["linear@2", "control", "accuracy"]["n"] == 2
    assert rows["linear@2", NULL, "accuracy"]["n"] == 3
    one = rows["linear@2", "control", "modularity"]
    assert (one["n"], one["dropped"], one["t"], one["means"][0]) == (1, 1, None, None)
    assert rows["linear@2", NULL, "modularity"]["n"] == 2
    assert rows["linear@2", NULL, "smoothness.input"]["dropped"] == 1
    (gone,) = (c for c in found["cells"] if c["measures"] is None)
    assert (gone["condition"], gone["seed"], gone["error"]) == ("control", 3, "not run")
    for run in study.runs().values():
        shutil.rmtree(cell_directory(mine, run), ignore_errors=True)
    with pytest.raises(ValueError, match=r"directory: got .*, expected a study with a finished cell"):
        find(mine)


def test_a_stale_or_spoilt_cell_is_not_finished(mine: Path) -> None:
    study = read_study(mine)
    run = study.runs()["linear@2", 1]
    directory = cell_directory(mine, run)
    assert finished(run, directory)
    assert not finished(dataclasses.replace(run, seed=2), directory)
    for name, text in (
        ("analysis.json", b"{"),
        ("analysis.json", b"3"),
        ("analysis.json", b"{}"),
        ("analysis.json", json.dumps(dict.fromkeys(list(MEASURES)[1:], 1)).encode()),  # before a measure was thought of
        ("config.yaml", b"data: digits"),
        ("config.yaml", b""),
        ("model.safetensors", b"x"),
        ("activations.npz", b""),
        ("metrics.csv", None),
    ):
        path = directory / name
        kept = path.read_bytes()
        path.unlink() if text is None else path.write_bytes(text)
        assert not finished(run, directory), (name, text)
        path.write_bytes(kept)
    assert finished(run, directory)


# Cells


class Inline(Executor):
    """Runs each job when it is submitted, in the order that it is told."""

    def __init__(self, act: Callable[..., Any] | None = None) -> None:
        self.act, self.asked = act, []

    def submit(self, job: Any, /, *given: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.asked.append(given[0])
        try:
            future.set_result((self.act or job)(*given))
        except Exception as error:
            future.set_exception(error)
        return future


def test_a_finished_cell_is_never_run_again(mine: Path, root: str) -> None:
    times = {p: p.stat().st_mtime_ns for p in mine.rglob("runs/*/*")}
    assert len(times) >= 9 * 5
    executor = Inline()
    assert run_study(read_study(mine), mine, root, executor, silent()) == {}
    assert executor.asked == []
    # nor when the study grows: what is new alone is run, here up to the network that the seed gives
    grown = study_from({**VALUES, "cost": ["flat", "linear@2", "sqrt"], "seeds": [2, 1, 3, 4]})
    executor = Inline(lambda *_: None)
    run_study(grown, mine, root, executor, silent())
    assert {(r.cost, r.shuffled, r.seed) for r in executor.asked} == {
        *(("sqrt", False, seed) for seed in (1, 2, 3, 4)),
        *((c, n, 4) for c, n in (("flat", False), ("linear@2", False), ("linear@2", True))),
    }
    assert len(executor.asked) == 7
    assert {p: p.stat().st_mtime_ns for p in mine.rglob("runs/*/*")} == times
    # one that is trained and not measured by all that is measured now is measured, and not trained
    run = grown.runs()["linear@2", 2]
    directory = cell_directory(mine, run)
    (directory / "analysis.json").write_text("{}")
    cells.cell(run, str(directory), root)
    assert (directory / "state.pt").stat().st_mtime_ns == times[directory / "state.pt"]
    assert finished(run, directory)


def test_an_interrupted_study_goes_on(mine: Path, root: str, studied: Path) -> None:
    """Three cells done, one interrupted; the rest are not begun."""
    study = read_study(mine)
    keys = list(study.runs())
    for key in keys[3:]:
        shutil.rmtree(cell_directory(mine, study.runs()[key]))
    (mine / "study.json").unlink()

    def interrupted(run: Run, *_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study, mine, root, Inline(interrupted), silent())
    assert not (mine / "study.json").exists()
    copied = []

    def taken_over(run: Run, directory: str, _: Any) -> None:
        shutil.copytree(cell_directory(studied, run), directory)
        copied.append(run)

    assert run_study(study, mine, root, Inline(taken_over), silent()) == {}
    assert copied == [study.runs()[key] for key in keys[3:]]
    find(mine)
    assert (mine / "study.json").read_bytes() == (studied / "study.json").read_bytes()


def test_a_cell_that_fails_is_told_and_stops_no_other(mine: Path, root: str) -> None:
    """A weight decay that no network survives, before one that all do."""
    also = [
        {"cost": "flat", "shuffled": [], "weight_decay": [1e30], "seeds": [1]},
        {"cost": "flat", "shuffled": [], "l1": 1e-4, "seeds": [1]},
    ]
    study = study_from({**VALUES, "also": also})
    key = ("control, weight decay 1e+30", 1)
    for _ in range(2):  # it is tried again, and fails again
        with ThreadPoolExecutor(1) as executor:
            errors = run_study(study, mine, root, executor, silent())
        assert list(errors) == [key]
        assert re.match("recipe: got loss nan.*expected a recipe that does not diverge", errors[key])
    assert str(mine) not in errors[key]
    find(mine, errors)
    find(mine)  # which keeps what was said
    failed = [c for c in read_findings(mine)["cells"] if c["measures"] is None]
    assert [(c["condition"], c["seed"], c["error"]) for c in failed] == [(*key, errors[key])]
    assert finished(study.runs()["control, l1 0.0001", 1], cell_directory(mine, study.runs()["control, l1 0.0001", 1]))
    # what ends without a word has a name still
    out = mine.parent / "silent"

    def no_word(*_: Any) -> None:
        raise MemoryError

    errors = run_study(of(seeds=1, cost="flat"), out, root, Inline(no_word), silent())
    assert "MemoryError" in errors["control", 1]


def test_a_directory_is_waited_for(tmp_path: Path) -> None:
    """What a killed command left at work goes soon: the same command, started at once, does not fail for it."""
    order = []

    def work(name: str, seconds: float) -> None:
        with alone_in(tmp_path):
            order.append(name)
            time.sleep(seconds)
            order.append(name)

    with ThreadPoolExecutor(3) as executor:
        for one in [executor.submit(work, name, 0.2) for name in "abc"]:
            one.result()
    assert order[::2] == order[1::2]
    assert sorted(order) == list("aabbcc")
    assert contents(tmp_path) == {}


def broken(*_: Any) -> None:
    raise BrokenExecutor


def test_an_executor_of_ones_own_that_breaks_is_told(root: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenExecutor):
        run_study(of(data="mnist", seeds=1), tmp_path, root, Inline(broken), silent())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cell_whose_process_is_ended_is_told_and_takes_no_other_with_it(
    workers: int, tmp_path: Path, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under real processes, which all end with the one: those under way are then tried one by one."""
    monkeypatch.setattr(cells, "cell", study_jobs.die)
    monkeypatch.setattr(pool, "cores", lambda: workers)
    study = of(data="mnist", seeds=[1], cost=["flat", "sqrt", "linear", "quadratic"])
    errors = run_study(study, tmp_path, root, None, silent())
    assert errors == {("sqrt", 1): "its process was ended from outside"}
    for name in ("control", "linear", "quadratic"):
        assert (cell_directory(tmp_path, study.runs()[name, 1]) / "been").exists()


def test_what_is_no_cluster_is_told() -> None:
    for given in ("threads", "", "tcp://here"):
        with (
            pytest.raises(ValueError, match=f"executor: got '{given}', expected processes, or dask://host:port"),
            pool.cluster(given),
        ):
            pass
    with pool.cluster("processes") as executor:
        assert executor is None


def test_bad_data_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises((ValueError, OSError)):
        run_study(of(data="imagenet"), tmp_path / "out", str(tmp_path), Inline(), silent())
    with pytest.raises(ValueError, match="seed: got -2"):
        run_study(of(seeds=[1, -2]), tmp_path / "out", None, Inline(), silent())
    assert contents(tmp_path) == {}
    assert not (tmp_path / "out").exists()


def test_progress_is_told_line_by_line_without_a_terminal(mine: Path, root: str) -> None:
    study = study_from({**VALUES, "also": [{"cost": "sqrt", "shuffled": [], "seeds": [1, 2]}]})

    def act(run: Run, *_: Any) -> None:
        if run.seed == 2:
            raise ValueError("no [bold]luck[/bold]")

    with (mine.parent / "said").open("w+") as file:
        run_study(study, mine, root, Inline(act), Console(file=file, width=200))
        file.seek(0)
        said = file.read().splitlines()
    assert said[0] == "9 of 11 cells · 0 failed"
    assert said[1].startswith("sqrt · seed 1 · 10 of 11 cells · 0 failed")
    assert re.match(r"failed: sqrt · seed 2 · .*no \[bold\]luck\[/bold\]", said[2])


# The null


@pytest.mark.parametrize("word", ["linear", "linear@2", "gaussian:2"])
def test_a_shuffled_network_is_the_local_one_but_for_the_order_of_ps_rows(word: str) -> None:
    def made(given: str, shuffled: bool, seed: int = 3) -> models.Network:
        return models.network(Run("mnist", given, seed=seed, shuffled=shuffled), 10)

    control, local, null = made("flat", False), made(word, False), made(word, True)
    for (name, a), b, c in zip(
        control.state_dict().items(), local.state_dict().values(), null.state_dict().values(), strict=True
    ):
        on_wires = name == "locality.weight"  # where there is no wire there is no weight
        assert all(torch.equal(torch.where(w == 0, w, a) if on_wires else a, w) for w in (b, c)), name

    def p(net: models.Network, raw: models.Network = control) -> torch.Tensor:
        return net.locality.effective_weight.detach() / raw.locality.state_dict()["weight"]

    real, mixed = p(local), p(null)
    torch.testing.assert_close(real, cost.parse(word).signal(lp.Grid(7, 7).distances()).to(real.dtype))
    torch.testing.assert_close(mixed.sort(1).values, real.sort(1).values)
    torch.testing.assert_close(mixed.sum(1), real.sum(1))
    moved = (mixed - real).abs().amax(1) > 0.01
    assert moved.all()
    # each row in an order of its own: of two alike, in the middle, none is the other moved
    orders = {tuple(row.argsort(stable=True).tolist()) for row in mixed}
    assert len(orders) == 49
    other = p(made(word, True, seed=4), made("flat", False, seed=4))
    torch.testing.assert_close(other.sum(1), real.sum(1))
    assert ((other - mixed).abs() > 0.01).double().mean() > 0.1  # another network is in another order
    assert null.places == (lp.Grid(7, 7), lp.Grid(7, 7))


def test_wires_of_a_shuffled_network_are_measured_on_the_sheet(studied: Path) -> None:
    lengths = torch.cdist(*[torch.cartesian_prod(torch.arange(7.0), torch.arange(7.0)).double()] * 2)
    for condition in ("control", "linear@2", NULL):
        run = read_study(studied).runs()[condition, 1]
        net = models.trained(run, cell_directory(studied, run) / "model.safetensors")
        v = net.locality.effective_weight.detach().double().abs()
        found = measured(studied, condition, 1)
        assert found["mean_wire_length"] == pytest.approx(float((v * lengths).sum() / v.sum()), rel=1e-5)
        assert found["total_wire_length"] == pytest.approx(float((v * lengths).sum()), rel=1e-5)
        far = float(v[lengths > 2 + 1e-9].sum() / v.sum())
        assert (far > 0.5) == (condition != "linear@2")


def test_measures_are_what_a_run_is_measured_by(studied: Path) -> None:
    numbers = measured(studied, "linear@2", 1)
    assert set(MEASURES) <= numbers.keys()
    assert set(pages.NAMED) == set(MEASURES)
    run = read_study(studied).runs()["linear@2", 1]
    named = read_measures(cell_directory(studied, run))
    assert tuple(named) == NAMES
    for name, parts in MEASURES.items():
        for part in parts or [""]:
            assert named[f"{name}.{part}" if part else name] == (numbers[name][part] if part else numbers[name])
    # what cutting wires by length comes to is not told in lengths that are not the sheet's
    null = measured(studied, NULL, 1)
    assert null["pruned_wires"] == {"weight": null["pruned_wires"]["weight"], "length": None, "cost": None}
    assert set(null["pruned_length"].values()) == {None}
    assert null["pruned_wires"]["weight"] is not None
    assert all(v is None or math.isfinite(v) for v in named.values())
    assert len([v for v in named.values() if v is not None]) >= 26


# Costs in a word


@pytest.mark.parametrize("kind", [k for k in cost.KINDS if k != "Custom"])
@pytest.mark.parametrize("length", [1.0, 2.0, 0.1, 1 / 3, 1e-7, 123456789.0, 5e22])
@pytest.mark.parametrize("radius", [math.inf, 2.0, 0.3, 1e9 + 1])
def test_a_word_is_the_cost_that_it_is_parsed_to(kind: str, length: float, radius: float) -> None:
    values = {"length": length, "end": length, "p": length * 1.5}
    made = cost.KINDS[kind]
    given = {f.name: values[f.name] for f in dataclasses.fields(made) if f.name in values}
    one = made(**given, radius=radius)
    assert cost.parse(cost.word(one)) == one
    assert cost.word(cost.parse(cost.word(one))) == cost.word(one)
    assert not set(cost.word(one)) & set(" /\\\n")


def test_words_are_short_and_of_costs_that_have_a_name() -> None:
    said = [cost.word(cost.parse(text)) for text in ("LINEAR:1", "linear:1.0@2.0", "power:1,2", "lineardecay:3")]
    assert said == ["linear", "linear@2", "power:1,2", "lineardecay:3"]
    with pytest.raises(ValueError, match=r"cost: got Custom\(.*\), expected one that has a name"):
        cost.word(cost.Custom(torch.ones_like))


def test_a_scaled_cost_is_the_cost_of_a_scaled_length() -> None:
    d = torch.linspace(0, 3, 13, dtype=torch.float64)
    for text in ("linear", "sqrt:2", "quadratic", "power:2,1.5", "exponential", "gaussian:3", "lineardecay:2"):
        one = cost.parse(text)
        torch.testing.assert_close(cost.scaled(one, 2.5).signal(2.5 * d), one.signal(d))
        assert cost.scaled(one, 1) == one
        assert cost.scaled(one, 2) != one
    assert cost.scaled(cost.parse("linear:2@3"), 2) == cost.parse("linear:4@3")
    assert cost.scaled(cost.Flat(), 2) == cost.Flat()
    for bad in (0, -1, math.nan, "x"):
        with pytest.raises(ValueError, match="scale: got"):
            cost.scaled(cost.Linear(), bad)  # type: ignore[arg-type]


# Plots


@pytest.fixture
def _closed() -> Iterator[None]:
    yield
    if plt.get_fignums():
        plt.gcf().canvas.draw()
    plt.close("all")


@pytest.mark.usefixtures("_closed")
def test_seeds_by_condition() -> None:
    nan = math.nan
    ax = plots.seeds_by_condition({"control": [1, 2, 3], "local": [4, nan, 6], "none": [nan] * 3}, label="accuracy (%)")
    seeds, means = ax.lines[:3], ax.lines[3:]
    assert [line.get_xydata().tolist() for line in seeds] == [[[1, 0], [4, 1]], [[2, 0]], [[3, 0], [6, 1]]]
    assert [line.get_xydata().tolist() for line in means] == [[[2, 0]], [[5, 1]]]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["control", "local", "none"]
    assert ax.get_ylim() == (2.5, -0.5)  # the first on top
    assert ax.get_xlabel() == "accuracy (%)"
    assert means[0].get_color() == "#7f7f7f"


@pytest.mark.usefixtures("_closed")
def test_differences_by_condition() -> None:
    nan = math.nan
    mine = plt.subplots(layout="constrained")[1]
    ax = plots.differences_by_condition(
        {"a": [1, 3], "b": [nan, 2], "c": [nan, nan]},
        {"a": (-1, 5), "b": None},
        mine,
        label="less the control's",
        notes={"a": ["0.5", "1"], "b": ["–", "–"]},
        heads=["p", "flips"],
    )
    assert ax is mine
    zero, *rest = ax.lines
    assert list(zero.get_xdata()) == [0, 0]
    intervals = [line for line in rest if line.get_linestyle() == "-"]
    assert [line.get_xydata().tolist() for line in intervals] == [[[-1, 0], [5, 0]]]
    diamonds = [line.get_xydata().tolist() for line in rest if line.get_marker() == "D"]
    assert diamonds == [[[2, 0]], [[2, 1]]]
    dots = [line for line in rest if line.get_marker() == "o"]
    assert [int(np.isfinite(line.get_xdata()).sum()) for line in dots] == [2, 1, 0]
    assert [t.get_text() for t in ax.texts] == ["p", "0.5", "–", "", "flips", "1", "–", ""]


@pytest.mark.usefixtures("_closed")
def test_scatter() -> None:
    points = {"control": ([1, 2], [3, 4]), "local": ([], []), "c": ([5], [6])}
    ax = plots.scatter(points, x="wire length", y="accuracy (%)")
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[1, 3], [2, 4]], [], [[5, 6]]]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["control", "local", "c"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("wire length", "accuracy (%)")
    assert len({line.get_marker() for line in ax.lines}) == 3


@pytest.mark.usefixtures("_closed")
@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda: plots.seeds_by_condition({}, label=""), "values: got {}, expected a dict"),
        (lambda: plots.seeds_by_condition({"a": [1], "b": [1, 2]}, label=""), r"values: got \[1, 2\] seeds, expected"),
        (lambda: plots.seeds_by_condition({"a": [[1]]}, label=""), r"values\['a'\]: got shape \(1, 1\), expected"),
        (lambda: plots.differences_by_condition({"a": ["x"]}, {}, label=""), r"differences\['a'\]: got list, expected"),
        (lambda: plots.differences_by_condition({"a": [1], "b": []}, {}, label=""), "differences: got .* seeds"),
        (lambda: plots.scatter({"a": [1, 2, 3]}, x="", y=""), r"points\['a'\]: got 3 arrays, expected a tuple of 2"),
        (lambda: plots.scatter({"a": ([1], [1, 2])}, x="", y=""), r"points\['a'\]: got shape \(2,\), expected"),
    ],
)
def test_what_cannot_be_drawn_is_told(draw: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        draw()


# The page


def test_a_study_has_a_page(mine: Path, root: str, sketched: dict[str, Figure]) -> None:
    errors = {("linear@2", 3): "recipe: got <loss> nan"}
    shutil.rmtree(cell_directory(mine, read_study(mine).runs()["linear@2", 3]))
    find(mine, errors)
    assert report.write(mine) == mine / "report.html"
    page = (mine / "report.html").read_text(encoding="utf-8")
    for name in (*MEASURES, "accuracy_against_wire_length", "correlation", "nested", "wire_lengths", "maps_output"):
        assert page.count(f'<figure id="{name}">') == 1, name
        assert {f"{name}.png", f"{name}.pdf"} <= sketched.keys()
        assert (mine / "figures" / f"{name}.pdf").exists()
    assert "linear@2, seed 3: recipe: got &lt;loss&gt; nan" in page
    assert "“Wires are longer – ℓ.” (mean wire length (spacings): higher)" in page
    assert "linear within 2 − linear within 2 shuffled" in page
    for name in (cell_name(run) for run in read_study(mine).runs().values()):
        assert name in page
    assert "locality-prior study study.yaml --out DIR" in page
    assert "http" not in re.sub(r'src="data:[^"]*"', "", page)
    assert "nan" not in re.sub(r'src="data:[^"]*"', "", page).replace("&lt;loss&gt; nan", "")
    # each network and each comparison is drawn: two sheets, each with seeds left and differences right
    figure = sketched["spatial_variance.png"]
    assert len(figure.axes) == 4
    left, right = figure.axes[:2]
    assert [t.get_text() for t in left.get_yticklabels()] == [
        "control",
        "linear within 2",
        "linear within 2 shuffled",
        "linear within 2, less its null",
    ]
    assert [len(line.get_xdata()) for line in left.lines[:3]] == [3, 3, 2]
    assert len([line for line in right.lines if line.get_marker() == "D"]) == 3
    shown = [t.get_text() for t in right.texts]
    assert shown[0] == "p: t-test"
    assert "images" in shown


def test_the_tables_say_what_was_found(studied: Path) -> None:
    found = read_findings(studied)
    conditions, hypotheses, few = pages.tables(found)
    assert [row[:2] for row in conditions[1:]] == [[c, "3"] for c in ("control", "linear within 2", tables.title(NULL))]
    mean = np.mean([measured(studied, "linear@2", seed)["mean_wire_length"] for seed in SEEDS])
    assert conditions[2][6] == f"{mean:.2f}"
    assert [row[-1] for row in hypotheses[1:]] == ["holds", "does not hold", "does not hold"]
    assert len(few) == 9
    effects = [abs(r["effect"] or 0) for r in found["comparisons"]]
    largest = next(r["effect"] for r in found["comparisons"] if abs(r["effect"] or 0) == max(effects))
    assert float(pages.by_effect(found)[1][3].replace("−", "-")) == pytest.approx(largest, abs=0.006)
    over = pages.images(found)
    assert len(over) == 7
    for row, one in zip(over[1:], [r for r in found["comparisons"] if "per_image" in r], strict=True):
        lower = sum(t["p"] < 0.05 and t["t"] < 0 for t in one["per_image"])
        higher = sum(t["p"] < 0.05 and t["t"] > 0 for t in one["per_image"])
        assert row[2:6] == [str(n) for n in (3, lower, higher, 3 - lower - higher)]
    assert len(pages.cells(found)) == 10


def shrunk(studied: Path, out: Path, **differs: Any) -> Path:
    """A smaller study of the networks that are there."""
    study = study_from({**VALUES, "hypotheses": [], **differs})
    claim_study(out, study)
    for run in study.runs().values():
        shutil.copytree(cell_directory(studied, run), cell_directory(out, run))
    find(out)
    return out


@pytest.mark.parametrize(("differs", "comparisons"), [({"seeds": [2]}, 84), ({"cost": "flat", "shuffled": []}, 0)])
def test_a_small_study_has_a_page_too(
    studied: Path,
    tmp_path: Path,
    sketched: dict[str, Figure],
    monkeypatch: pytest.MonkeyPatch,
    differs: dict[str, Any],
    comparisons: int,
) -> None:
    monkeypatch.setattr(pages, "MEASURES", ("accuracy", "spatial_variance"))
    out = shrunk(studied, tmp_path / "out", **differs)
    found = read_findings(out)
    assert len(found["comparisons"]) == comparisons
    report.write(out)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "What was claimed" not in page
    assert '<figure id="spatial_variance">' in page
    assert '<figure id="wire_lengths">' in page
    if differs.get("seeds"):
        assert all(r["ci"] is r["p"] is None and r["n"] <= 1 for r in found["comparisons"])
        assert sum(r["n"] for r in found["comparisons"]) > 60
        assert any(r["per_image_p"] is not None for r in found["comparisons"])
        right = sketched["accuracy.png"].axes[1]
        assert not [line for line in right.lines[1:] if line.get_linestyle() == "-"]


def test_a_page_of_conditions_without_a_network(
    mine: Path, root: str, sketched: dict[str, Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MEASURES", ("accuracy", "modularity"))
    grown = study_from({**VALUES, "also": [{"cost": "power:1.23456789,1.5@2", "shuffled": [], "l1": 0.123456789}]})
    name = "power:1.23456789,1.5@2, l1 0.123456789"
    assert name in grown.conditions()
    claim_study(mine, grown)
    with pytest.raises(ValueError, match="findings of other runs than its study's"):
        report.write(mine)
    found = find(mine)
    assert sum(c["measures"] is None for c in found["cells"]) == 6
    assert all(r["n"] == 0 and r["t"] is None for r in found["comparisons"] if r["condition"] == name)
    report.write(mine)
    page = (mine / "report.html").read_text(encoding="utf-8")
    assert page.count(": not run</li>") == 6
    assert '<figure id="maps_output">' in page  # of the networks that are there


@pytest.mark.parametrize(
    "text", ["", "{", "3", "[]", "{}", '{"cells": 1, "comparisons": [], "hypotheses": []}', '{"cells": []}']
)
def test_findings_that_cannot_be_read_are_told(mine: Path, text: str) -> None:
    (mine / "study.json").write_text(text)
    with pytest.raises(ValueError, match=r"directory: got .*study.json .*, expected readable findings"):
        report.write(mine)
    (mine / "study.json").unlink()
    with pytest.raises(ValueError, match=r"directory: got .* without study.json, expected an analysed study"):
        report.write(mine)


def test_a_page_of_neither_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"directory: got .*, expected one that holds study.yaml or reproduction.yaml"):
        report.write(tmp_path)


# The command


def test_the_command_runs_a_file_with_changes(
    studied: Path, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On networks that are there already: nothing is trained, and it exits with 0; with 1 where a cell fails."""
    out, file = tmp_path / "out", tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({k: v for k, v in VALUES.items() if k not in ("seeds", "hypotheses")}))
    shown = []
    monkeypatch.setattr(cli, "_show_study", shown.append)
    monkeypatch.setattr(cli, "_import_report", lambda: None)
    said = {"error": False}

    def taken(run: Run, directory: str, _: Any) -> None:
        if said["error"]:
            raise ValueError("no luck")
        shutil.copytree(cell_directory(studied, run), directory)

    @contextmanager
    def made(where: str) -> Iterator[Executor]:
        assert where == "processes"
        yield Inline(taken)

    monkeypatch.setattr(pool, "cluster", made)
    arguments = ["study", str(file), "--seeds", "1", "2", "--data-root", root, "--out", str(out)]
    assert cli.main(arguments) == 0
    assert shown == [out]
    assert {(c["condition"], c["seed"]) for c in read_findings(out)["cells"]} == {
        (c, s) for c in ("control", "linear@2", NULL) for s in (1, 2)
    }
    said["error"] = True
    arguments[3:5] = ["--l1", "0", "0.5", "--seeds", "1", "2"][2:4]
    assert cli.main([*arguments[:2], "--seeds", "1", "2", "3", *arguments[5:]]) == 1
    assert sum(c["measures"] is None for c in read_findings(out)["cells"]) == 3
    capsys.readouterr()
    for bad, told in (
        (["study", str(tmp_path / "none.yaml")], "file: got .*none.yaml .*expected a YAML file"),
        (["study", str(file), "--sheet", "7", "--out", str(tmp_path / "n")], "sheet: got '7', expected units such as"),
        (["study", str(file), *arguments[5:], "--seeds", "9"], "out: got .*, which holds .*, expected a new directory"),
    ):
        assert cli.main(bad) == 2
        line = capsys.readouterr().err
        assert re.match(f"locality-prior: error: {told}", line), line
        assert line.count("\n") == 1


def test_settings_are_all_that_a_condition_is_told_by() -> None:
    run = Run("mnist", "sqrt", Recipe(l1=0.5, epochs=2), 1, (4, 5), shuffled=True)
    assert settings(run) == {
        "cost": "sqrt",
        "shuffled": True,
        "data": "mnist",
        "optimizer": "sgd",
        "weight_decay": 0.01,
        "l1": 0.5,
        "sheet": "4x5",
        "epochs": 2,
    }
    assert {f.name for f in dataclasses.fields(Axes)} - {"seeds", "scale", "preset"} == settings(run).keys()
