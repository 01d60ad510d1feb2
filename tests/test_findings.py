"""Findings: the numbers against scipy's, damaged and hostile files, verdicts, and what is said in words."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy import stats
from tiny import Mlp, blobs

from locality_prior._check import Problem, Told
from locality_prior._files import digest
from locality_prior.analysis import statistics
from locality_prior.layers import LocalityLinear
from locality_prior.placement import place
from locality_prior.report.files import read_found
from locality_prior.runs import record
from locality_prior.studies import find, read_findings, study_from
from locality_prior.studies.answers import answers, summary
from locality_prior.studies.findings import evidence, verdict
from locality_prior.studies.measures import described
from locality_prior.studies.study import plan, write_study

#: condition → the mean of (accuracy, Moran's I); seeds add their own noise.
MEANS = {"control": (96.0, 0.0), "linear@3": (97.0, 0.5), "linear@3 shuffled": (96.0, 0.0)}
CLAIMS = [
    {"says": "It rises.", "measure": "accuracy", "expected": "higher", "condition": {"cost": "linear@3"}},
    {"says": "No worse.", "measure": "loss", "expected": "alike", "margin": 0.1, "condition": {"cost": "linear@3"}},
]
TASK = {"name": "shapes", "classes": ["a", "b"], "scores": [{"name": "accuracy", "unit": "%", "better": "up"}]}


def make(directory: Path, seeds: Sequence[int] = (1, 2, 3, 4, 5, 6), **change: Any) -> dict[str, dict[int, Any]]:
    """A study with made-up runs: condition → seed → measures."""
    study = study_from(
        {
            "task": "shapes",
            "model": "net",
            "cost": "linear@3",
            "shuffled": "linear@3",
            "seeds": list(seeds),
            "hypotheses": CLAIMS,
            **change,
        }
    )
    write_study(directory, study)
    rng = np.random.default_rng(0)
    made: dict[str, dict[int, Any]] = {name: {} for name in study.conditions()}
    for cell in plan(study)["cells"]:
        accuracy, moran = MEANS[cell["condition"]]
        measures = {
            "morans_i.out": moran + 0.05 * rng.normal(),
            "loss": 0.1 + 0.01 * rng.normal(),
            "accuracy": accuracy + 0.3 * rng.normal(),
            "spatial_variance.out": 8 + 0.1 * rng.normal(),
            "modularity.fc": None,
        }
        write_run(directory / cell["run"], cell["condition"], cell["seed"], measures, cell["config"], rng)
        made[cell["condition"]][cell["seed"]] = measures
    return made


def write_run(home: Path, condition: str, seed: int, measures: Any, config: Any, rng: Any, **change: Any) -> None:
    home.mkdir(parents=True)
    (home / "config.yaml").write_text(yaml.safe_dump(config, explicit_end=True), encoding="utf-8")
    variance = (8 + rng.normal(size=20)).astype(np.float32)
    variance[seed % 20] = np.nan
    np.savez(home / "measures.npz", **{"sheet/out/variance": variance})
    told = {
        "condition": condition,
        "seed": seed,
        "items": 20,
        "task": TASK,
        "sheets": {"out": {"units": 9, "geometry": "Grid(3, 3)", "places": None, "silent": 0, "undefined": 1}},
        "layers": {},
        "measures": measures,
        "files": {"measures.npz": digest(home / "measures.npz")},
    }
    (home / "analysis.json").write_text(json.dumps(told | change), encoding="utf-8")


def row(found: dict[str, Any], measure: str, condition: str = "linear@3", control: str = "control") -> dict[str, Any]:
    (one,) = [
        c for c in found["comparisons"] if (c["condition"], c["control"], c["measure"]) == (condition, control, measure)
    ]
    return one


# Numbers


def test_every_test_is_scipys(tmp_path: Path) -> None:
    made = make(tmp_path)
    found = find(tmp_path)
    seeds = [1, 2, 3, 4, 5, 6]
    for condition, control in (
        ("linear@3", "control"),
        ("linear@3", "linear@3 shuffled"),
        ("linear@3 shuffled", "control"),
    ):
        for measure in ("accuracy", "loss", "morans_i.out"):
            a, b = (np.array([made[name][s][measure] for s in seeds]) for name in (condition, control))
            one, test = row(found, measure, condition, control), stats.ttest_rel(a, b)
            assert one["n"] == 6
            assert one["means"] == pytest.approx([a.mean(), b.mean()])
            assert one["mean_difference"] == pytest.approx((a - b).mean())
            assert one["ci"] == pytest.approx(list(test.confidence_interval()))
            assert one["p"] == pytest.approx(test.pvalue)
            assert one["p_wilcoxon"] == pytest.approx(stats.wilcoxon(a - b).pvalue)
            flips = stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=np.inf)
            assert one["p_permutation"] == pytest.approx(flips.pvalue)
            assert one["effect"] == pytest.approx((a - b).mean() / (a - b).std(ddof=1))
            assert one["evidence"] == evidence(one["ci"])


def test_holms_correction_is_over_the_measures_of_one_comparison(tmp_path: Path) -> None:
    make(tmp_path)
    rows = [c for c in find(tmp_path)["comparisons"] if (c["condition"], c["control"]) == ("linear@3", "control")]
    assert [one["p_holm"] for one in rows] == statistics.holm([one["p"] for one in rows])
    defined = [one for one in rows if one["p"] is not None]
    least = min(defined, key=lambda one: one["p"])
    assert least["p_holm"] == pytest.approx(len(defined) * least["p"])


def test_the_needed_seeds_find_the_effect_and_its_near_end(tmp_path: Path) -> None:
    make(tmp_path)
    one = row(find(tmp_path), "morans_i.out")
    assert one["seeds_needed"] == statistics.seeds_needed(one["effect"])
    assert one["seeds_needed_near_end"] == statistics.seeds_needed(min(map(abs, one["effect_ci"])))
    assert one["seeds_needed_near_end"] >= one["seeds_needed"]
    none = next(c for c in find(tmp_path)["comparisons"] if c["ci"] and c["ci"][0] < 0 < c["ci"][1])
    assert none["seeds_needed_near_end"] is None
    assert none["evidence"] == 0


@pytest.mark.parametrize(
    ("ci", "distance"),
    [(None, 0), ((-1, 1), 0), ((0, 1), 0), ((1, 3), 1), ((-3, -1), 1), ((9, 11), 9), ((2, 2), 0)],
)
def test_evidence_is_the_distance_from_0_in_half_widths(ci: Any, distance: float) -> None:
    assert evidence(ci) == distance


def test_an_undefined_value_leaves_its_pair_out_of_everything(tmp_path: Path) -> None:
    made = make(tmp_path, seeds=(1, 2, 3))
    runs = {
        (c["condition"], c["seed"]): tmp_path / c["run"]
        for c in json.loads((tmp_path / "plan.json").read_text())["cells"]
    }
    path = runs["linear@3", 2] / "analysis.json"
    told = json.loads(path.read_text())
    told["measures"]["accuracy"] = None
    del told["measures"]["loss"]
    path.write_text(json.dumps(told))
    found = find(tmp_path)
    for measure, dropped in (("accuracy", 1), ("loss", 0)):
        one = row(found, measure)
        a, b = ([made[name][s][measure] for s in (1, 3)] for name in ("linear@3", "control"))
        assert (one["n"], one["dropped"]) == (2, dropped)
        assert one["means"] == pytest.approx([np.mean(a), np.mean(b)])
        assert one["mean_difference"] == pytest.approx(np.mean(a) - np.mean(b))
    nowhere = row(found, "modularity.fc")
    assert (nowhere["n"], nowhere["means"], nowhere["p_holm"], nowhere["seeds_needed"]) == (0, [None, None], None, None)
    read_found(tmp_path)  # the report takes it


def test_each_pair_is_tested_over_its_items(tmp_path: Path) -> None:
    make(tmp_path, seeds=(1, 2))
    found = find(tmp_path)
    cells = {(c["condition"], c["seed"]): tmp_path / c["run"] / "measures.npz" for c in found["cells"]}
    items = row(found, "spatial_variance.out")["per_item"]
    assert [one["seed"] for one in items] == [1, 2]
    for one in items:
        with np.load(cells["linear@3", one["seed"]]) as local, np.load(cells["control", one["seed"]]) as control:
            a, b = (file["sheet/out/variance"].astype(float) for file in (local, control))
        there = np.isfinite(a) & np.isfinite(b)
        test = stats.ttest_rel(a[there], b[there])
        assert (one["n"], one["t"], one["p"]) == (19, pytest.approx(test.statistic), pytest.approx(test.pvalue))
    assert "per_item" not in row(found, "loss")


@pytest.mark.parametrize(
    ("expected", "ci", "said"),
    [
        ("lower", (-3, -2), "holds"),
        ("lower", (-3, -0.5), "cannot be told"),
        ("lower", (-0.5, 2), "does not hold"),
        ("higher", (2, 3), "holds"),
        ("higher", (-3, 0.5), "does not hold"),
        ("alike", (-0.5, 0.5), "holds"),
        ("alike", (0.5, 1.5), "cannot be told"),
        ("alike", (1.5, 2.5), "does not hold"),
        ("alike", None, "cannot be told"),
    ],
)
def test_a_verdict_is_about_the_whole_interval(expected: str, ci: Any, said: str) -> None:
    assert verdict(expected, 1.0, ci) == said


def test_hypotheses_are_judged(tmp_path: Path) -> None:
    make(tmp_path)
    rises, alike = find(tmp_path)["hypotheses"]
    assert (rises["verdict"], rises["condition"], rises["control"]) == ("holds", "linear@3", "control")
    assert rises["seeds_needed"] is not None
    assert (alike["verdict"], alike["seeds_needed"]) == ("holds", None)


def test_scores_come_first_and_an_unknown_measure_is_described() -> None:
    run = {"task": TASK, "measures": {"made_up.out": 1.0, "loss": 0.1, "morans_i.out": 0.2, "accuracy": 98.0}}
    found = described([run], ["patches.out"])
    assert list(found) == ["accuracy", "loss", "morans_i.out", "patches.out", "made_up.out"]
    assert found["accuracy"] == {
        "base": "accuracy",
        "part": "",
        "label": "test accuracy",
        "unit": "%",
        "better": "up",
        "forced": False,
    }
    assert found["made_up.out"]["label"] == "made up"


# Files


def test_findings_are_read_and_made_without_torch(tmp_path: Path) -> None:
    make(tmp_path, seeds=(1, 2))
    code = (
        "import sys; from pathlib import Path; from locality_prior.studies import find, read_findings\n"
        f"home = Path({str(tmp_path)!r}); assert find(home) == read_findings(home)\n"
        "assert not {'torch', 'lightning_fabric', 'torchvision', 'sklearn', 'matplotlib'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def test_findings_do_not_depend_on_where_they_are_made(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    make(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert find(tmp_path / "here") == find(tmp_path / "there")
    made = [(tmp_path / name / "study.json").read_bytes() for name in ("here", "there")]
    assert made[0] == made[1]


def test_a_damaged_run_is_left_out_and_named_in_one_line(tmp_path: Path) -> None:
    make(tmp_path, seeds=(1, 2, 3))
    cells = {(c["condition"], c["seed"]): tmp_path / c["run"] for c in find(tmp_path)["cells"]}
    (cells["linear@3", 1] / "measures.npz").write_bytes(b"garbage")
    (cells["linear@3", 2] / "analysis.json").write_text("{}")
    (cells["control", 3] / "config.yaml").write_text("task: digi")
    (cells["linear@3 shuffled", 1] / "analysis.json").unlink()
    found = find(tmp_path)
    errors = {(c["condition"], c["seed"]): c["error"] for c in found["cells"] if c["measures"] is None}
    assert errors.keys() == {("linear@3", 1), ("linear@3", 2), ("control", 3), ("linear@3 shuffled", 1)}
    assert errors["linear@3 shuffled", 1] == "not run"
    assert "measures.npz is missing or has changed" in errors["linear@3", 1]
    assert not any("\n" in error or str(tmp_path) in error for error in errors.values())
    assert {c["n"] for c in found["comparisons"] if c["condition"] == "linear@3" and c["control"] == "control"} == set()
    read_found(tmp_path)


def test_a_study_of_damaged_runs_alone_says_the_first_and_writes_nothing(tmp_path: Path) -> None:
    make(tmp_path, seeds=(1,))
    for path in (tmp_path / "runs").glob("*/analysis.json"):
        path.write_text("[" * 10_000)
    with pytest.raises(Problem, match=r"analysis\.json") as caught:
        find(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "study.json").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("measures", {"accuracy": "high"}),
        ("measures", [1, 2]),
        ("measures", {"accuracy": True}),
        ("task", None),
        ("task", {"name": "x", "classes": 5, "scores": []}),
        ("task", {"name": "x", "classes": None, "scores": [{}]}),
        ("sheets", {"out": 5}),
        ("sheets", {"out": {}}),
        ("seed", "1"),
        ("condition", 5),
        ("files", 5),
        ("files", {"../../outside": "0"}),
    ],
)
def test_a_run_that_says_other_things_is_damaged(tmp_path: Path, key: str, value: Any) -> None:
    make(tmp_path, seeds=(1, 2))
    path = next((tmp_path / "runs").glob("*/analysis.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    found = find(tmp_path)
    (error,) = [c["error"] for c in found["cells"] if c["measures"] is None]
    assert "Run the command that trained this network again" in error


HOSTILE: list[Any] = [
    [],
    {"conditions": []},
    {"cells": [{"condition": "control", "seed": 1, "run": "../../outside", "config": {}}]},
    {"cells": [{"condition": "control", "seed": 1, "run": "/etc", "config": {}}]},
    {"cells": [{"condition": "nobody", "seed": 1, "run": "runs/x", "config": {}}]},
    {"cells": [{"condition": "control", "seed": [], "run": "runs/x", "config": {}}]},
    {"cells": 5},
    {"groups": [{"name": "x", "control": None, "conditions": []}]},
    {"hypotheses": [{"measure": "x", "expected": "?", "margin": 0, "condition": "control", "control": "control"}]},
    {"published": [5]},
    {"about": 5},
    {"title": None},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_a_damaged_or_hostile_plan_is_said_in_one_line(tmp_path: Path, change: Any) -> None:
    make(tmp_path, seeds=(1,))
    whole = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps(change if isinstance(change, list) else whole | change))
    with pytest.raises(Problem, match=r"plan\.json is damaged or of another version\. Run the study again"):
        find(tmp_path)
    assert not (tmp_path / "study.json").exists()


def test_old_reasons_are_kept_and_damaged_ones_forgotten(tmp_path: Path) -> None:
    make(tmp_path, seeds=(1, 2))
    (next((tmp_path / "runs").glob("*linear-3-seed2-*/analysis.json"), None) or first(tmp_path)).unlink()
    told = find(tmp_path, {(c["condition"], c["seed"]): "it broke" for c in cells_of(tmp_path)})
    assert [c["error"] for c in told["cells"] if c["measures"] is None] == ["it broke"]
    assert find(tmp_path) == told
    for text in ("[", "[]", '{"cells": 5}', '{"cells": [{"error": 1}]}'):
        (tmp_path / "study.json").write_text(text)
        assert [c["error"] for c in find(tmp_path)["cells"] if c["measures"] is None] == ["not run"]


def first(directory: Path) -> Path:
    return min((directory / "runs").glob("*/analysis.json"))


def cells_of(directory: Path) -> Any:
    return json.loads((directory / "plan.json").read_text())["cells"]


@pytest.mark.parametrize("text", ["[]", "{}", "{", "5"])
def test_damaged_findings_are_said_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(Problem, match=r"has no study\.json yet"):
        read_findings(tmp_path)
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(Told, match=r"study\.json"):
        read_findings(tmp_path)


# Recorded runs


def recorded(directory: Path, conditions: dict[str, int], task: str = "shapes") -> None:
    rng = np.random.default_rng(1)
    for condition, seeds in conditions.items():
        for seed in range(seeds):
            home = directory / f"{task}-{condition}-{seed}".replace(" ", "-")
            config = {"recorded": True, "condition": condition, "seed": seed}
            write_run(home, condition, seed, {"accuracy": rng.normal()}, config, rng, task=TASK | {"name": task})


def test_a_folder_of_recorded_runs_is_a_study(tmp_path: Path) -> None:
    recorded(tmp_path, {"mine": 3, "control": 3, "mine shuffled": 2})
    found = find(tmp_path)
    assert found["groups"][0]["conditions"] == ["control", "mine", "mine shuffled"]
    assert {name: (c["control"], c["null"], c["of"]) for name, c in found["conditions"].items()} == {
        "control": (None, None, None),
        "mine": ("control", "mine shuffled", None),
        "mine shuffled": ("control", None, "mine"),
    }
    assert row(found, "accuracy", "mine", "mine shuffled")["n"] == 2
    assert found["command"] == ""
    read_found(tmp_path)


def test_recorded_runs_of_two_tasks_are_two_groups(tmp_path: Path) -> None:
    recorded(tmp_path, {"mine": 2, "control": 2})
    recorded(tmp_path, {"mine": 2, "control": 2, "mine shuffled": 2}, "sounds")
    found = find(tmp_path)
    assert [group["name"] for group in found["groups"]] == ["shapes", "sounds"]
    assert found["conditions"]["mine, sounds"]["control"] == "control, sounds"
    assert found["conditions"]["mine, sounds"]["null"] == "mine shuffled, sounds"
    assert found["conditions"]["mine, sounds"]["label"] == "mine"
    read_found(tmp_path)


def test_one_recorded_condition_has_a_page_and_two_need_a_control(tmp_path: Path) -> None:
    recorded(tmp_path, {"mine": 2})
    found = find(tmp_path)
    assert (found["groups"][0]["control"], found["comparisons"], found["answers"]) == ("mine", [], [])
    read_found(tmp_path)
    recorded(tmp_path, {"yours": 1})
    with pytest.raises(Problem, match=r"holds mine and yours, but no condition called control to compare them with\."):
        find(tmp_path)


def test_two_recorded_runs_of_one_seed_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(Problem, match=r"is not a study: it holds neither plan\.json nor directories of finished runs"):
        find(tmp_path)
    recorded(tmp_path, {"control": 1})
    shutil.copytree(tmp_path / "shapes-control-0", tmp_path / "copy")
    with pytest.raises(Problem, match=r"holds two runs of control with seed 0\. Keep one of them\."):
        find(tmp_path)


def test_networks_of_a_loop_of_ones_own_are_compared(tmp_path: Path) -> None:
    task = blobs(48)
    for name in ("control", "local"):
        for seed in (1, 2):
            torch.manual_seed(seed)
            model = Mlp(4, 4)
            if name == "local":
                model.middle = LocalityLinear(16, 16, cost="linear@2")
            record(model, place(model, model.place), task, tmp_path / f"{name}{seed}", condition=name, seed=seed)
    found = find(tmp_path)
    assert row(found, "morans_i.output", "local")["n"] == 2
    read_found(tmp_path)


# Words


def told(
    values: Sequence[float],
    controls: Sequence[float],
    moran: Sequence[float] = (),
    null: float | None = None,
    of: str | None = None,
    better: str = "up",
) -> str:
    """What is said of a condition with these scores and maps."""

    def test(condition: str, control: str, measure: str, a: Sequence[float], b: Sequence[float]) -> dict[str, Any]:
        comparison = statistics.paired_comparison(np.array(a), np.array(b))
        means = [float(np.mean(a)), float(np.mean(b))] if comparison.n else [None, None]
        return {
            "condition": condition,
            "control": control,
            "measure": measure,
            "n": comparison.n,
            "means": means,
            "mean_difference": comparison.mean_difference,
            "ci": comparison.ci,
            "evidence": evidence(comparison.ci),
        }

    noise = [0.001 * k for k in range(len(moran))]
    rows = [test("linear@3", "control", "accuracy", values, controls)] if len(values) else []
    if moran:
        rows.append(test("linear@3", "control", "morans_i.out", moran, noise))
    if null is not None:
        rows.append(test("linear@3", "its null", "morans_i.out", moran, [null] * len(moran)))
    scores = TASK | {"scores": [{"name": "accuracy", "unit": "%", "better": better}]}
    found = {
        "conditions": {
            "control": {"control": None, "null": None, "of": None},
            "linear@3": {"control": "control", "null": None if null is None else "its null", "of": of},
        },
        "comparisons": rows,
        "measures": described([{"task": scores, "measures": {"accuracy": 0, "morans_i.out": 0}}], []),
    }
    (answer,) = answers(found)
    assert len(answer["text"]) < 500
    return str(answer["text"])


def test_no_pair() -> None:
    assert told([], []) == "linear@3 against its control: no two networks with the same seed are finished yet."


def test_one_pair() -> None:
    assert told([97.0], [96.0], [0.42], 0.03) == (
        "linear@3 against its control: accuracy is 97.0 %, and 96.0 % in the control; Moran's I of class maps in out "
        "is 0.42, and 0.00 in the control; in its shuffled null it is 0.03. "
        "This is one pair of networks: it cannot show whether another pair would give the same."
    )


def test_few_pairs() -> None:
    assert told([95.0, 94.9, 95.3], [96.0, 96.1, 96.2]) == (
        "linear@3 against its control: accuracy fell from 96.10 to 95.07 % (−1.03 points, 95 % interval −1.41 to "
        "−0.65), which is worse. From 3 pairs of networks, which is too few to rely on."
    )


def test_many_pairs() -> None:
    assert told([97.0, 97.1, 96.9, 97.2, 97.0], [96.0] * 5, [0.4, 0.5, 0.45, 0.42, 0.48], 0.0301) == (
        "linear@3 against its control: accuracy rose from 96.00 to 97.04 % (+1.04 points, 95 % interval +0.90 to "
        "+1.18), which is better; Moran's I of class maps in out rose from 0.002 to 0.450 (+0.448, 95 % interval "
        "+0.397 to +0.499), a clearer map; in its shuffled null it is 0.030. From 5 pairs of networks."
    )


def test_no_clear_change() -> None:
    assert told([97.0, 95.0, 96.5, 95.2, 96.1], [96.0] * 5) == (
        "linear@3 against its control: no clear change in accuracy (from 96.0 to 96.0 %: 0.0 points, 95 % interval "
        "−1.1 to +1.0). From 5 pairs of networks."
    )


def test_a_null_says_that_it_is_one() -> None:
    said = told([97.0] * 5, [96.0] * 5, [0.4, 0.5, 0.45, 0.42, 0.48], of="linear")
    assert said.startswith(
        "linear@3 (the null of linear: the same costs, shuffled among the wires) against its control: "
    )
    assert "a clearer map" not in said


def test_two_that_agree_exactly_and_two_that_say_nothing() -> None:
    assert "accuracy is 96.50 % in both." in told([96.0, 97.0], [96.0, 97.0])
    assert "(from 77.8 to 78.5 %: +0.7 points, 95 % interval −53.9 to +55.3)" in told([74.0, 83.0], [77.6, 78.0])


def test_less_may_be_better_and_a_score_undefined() -> None:
    assert "which is better" in told([95.0, 94.9, 95.3], [96.0, 96.1, 96.2], better="down")
    assert told([math.nan], [96.0], [0.5]).startswith("linear@3 against its control: accuracy is undefined; Moran's I")


# How alike the networks of a condition are


def give_maps(directory: Path, of: Any, axes: Any = ((4, False, 1.0), (4, False, 1.0))) -> None:
    """Give each run of the study responses and maps: ``of(condition, seed)`` → (responses, class means)."""
    for cell in json.loads((directory / "plan.json").read_text())["cells"]:
        home = directory / cell["run"]
        responses, means = of(cell["condition"], cell["seed"])
        np.savez(home / "activations.npz", **{"sheet/out": responses})
        np.savez(home / "measures.npz", **{"sheet/out/class_means": means, "classes": np.arange(len(means))})
        told = json.loads((home / "analysis.json").read_text())
        told["sheets"]["out"] |= {"units": means.shape[1], "axes": axes}
        told["files"] = {name: digest(home / name) for name in ("activations.npz", "measures.npz")}
        (home / "analysis.json").write_text(json.dumps(told))


def drawn(condition: str, seed: int) -> tuple[Any, Any]:
    """The same items and maps under every seed, turned, where there is a cost; else others under every seed."""
    rng = np.random.default_rng(0 if condition == "linear@3" else [len(condition), seed])
    responses, maps = rng.normal(size=(250, 16)), rng.normal(size=(3, 4, 4))
    turned = np.rot90(maps, seed, axes=(1, 2)) if condition == "linear@3" else maps
    return responses[:, np.random.default_rng(seed).permutation(16)], turned.reshape(3, 16)


def test_likeness_is_the_mean_over_pairs_of_seeds(tmp_path: Path) -> None:
    from locality_prior import Grid, analysis

    make(tmp_path, seeds=(1, 2, 3))
    give_maps(tmp_path, drawn)
    found = find(tmp_path)["likeness"]
    assert [(one["condition"], one["sheet"], one["seeds"], one["pairs"]) for one in found] == [
        (name, "out", 3, 3) for name in ("control", "linear@3", "linear@3 shuffled")
    ]
    control, linear, _ = found
    assert (linear["representation"], linear["map"]) == (1, 1)
    assert abs(control["representation"]) < 0.05
    assert 0.1 < control["map"] < 0.7
    pairs = [(drawn("control", a), drawn("control", b)) for a, b in ((1, 2), (1, 3), (2, 3))]
    items = np.linspace(0, 249, 200).round().astype(int)
    likeness = [analysis.representational_similarity(a[0][items], b[0][items]) for a, b in pairs]
    maps = [analysis.map_similarity(a[1], b[1], Grid(4, 4)) for a, b in pairs]
    assert control["representation"] == pytest.approx(np.mean(likeness), abs=1e-6)
    assert control["map"] == pytest.approx(np.mean([one.score for one in maps]), abs=1e-6)
    assert control["chance"] == pytest.approx(np.mean([one.chance for one in maps]), abs=1e-6)
    assert find(tmp_path)["likeness"] == found


def test_one_network_is_like_no_other(tmp_path: Path) -> None:
    make(tmp_path, seeds=(1,))
    give_maps(tmp_path, drawn)
    assert find(tmp_path)["likeness"] == []


UNDEFINED = {"representation": None, "map": None, "chance": None}


def test_runs_without_the_arrays_have_no_likeness(tmp_path: Path) -> None:
    make(tmp_path, seeds=(1, 2))
    rows = find(tmp_path)["likeness"]
    assert len(rows) == 3
    assert all(one | UNDEFINED == one for one in rows)


@pytest.mark.parametrize(
    ("axes", "map_is"),
    [
        (None, True),
        ("grid", True),
        ([], True),
        ([[4, False, 1.0]] * 2, True),
        ([[4, False, 1.0]] * 9, True),
        ([[4, 0, 1.0], [4, False, 1.0]], True),
        ([[-4, False, 1.0], [-4, False, 1.0]], True),
        ([[10**40, True, 1.0], [4, False, 1.0]], False),
        ([[4, False, 1.0], [5, False, 1.0]], False),
    ],
)
def test_axes_that_are_none_leave_maps_as_they_lie(axes: Any, map_is: bool, tmp_path: Path) -> None:
    make(tmp_path, seeds=(1, 2))
    give_maps(tmp_path, drawn, axes)
    (control, *_) = find(tmp_path)["likeness"]
    assert control["representation"] is not None
    assert (control["map"] is not None) == map_is


@pytest.mark.parametrize(
    "arrays",
    [
        {"sheet/out": np.ones(3)},
        {"sheet/out": np.array([["a", "b"]])},
        {"sheet/out": np.full((5, 16), np.nan)},
        {"sheet/out": np.zeros((0, 16))},
        {"sheet/out/class_means": np.ones((3, 16)), "classes": np.arange(2)},
        {"sheet/out/class_means": np.ones((3, 16)), "classes": np.ones(3)},
        {"sheet/out/class_means": np.full((3, 16), np.inf), "classes": np.arange(3)},
        {"classes": np.arange(3)},
    ],
)
def test_arrays_of_another_shape_have_no_likeness(arrays: dict[str, Any], tmp_path: Path) -> None:
    make(tmp_path, seeds=(1, 2))
    for cell in json.loads((tmp_path / "plan.json").read_text())["cells"]:
        home = tmp_path / cell["run"]
        for name in ("activations.npz", "measures.npz"):
            np.savez(home / name, **arrays)
        told = json.loads((home / "analysis.json").read_text()) | {"files": {}}
        (home / "analysis.json").write_text(json.dumps(told))
    assert all(one | UNDEFINED == one for one in find(tmp_path)["likeness"])


def test_scores_under_damage_have_the_units_of_the_main_score() -> None:
    run = {"task": TASK, "measures": {"accuracy": 98.0, "noise_score": 97.0, "patch_lesion_score.out": 90.0}}
    found = described([run], [])
    assert [(found[name]["unit"], found[name]["better"]) for name in found] == [("%", "up")] * 3


def compared_methods(n: int = 5) -> dict[str, Any]:
    """What findings tell of three objectives: the first makes a map, the second makes one dearly, the third none."""
    kinds = {"a:1": ("a", 0.4, 0.1), "b:1": ("b", 0.8, -3.0), "c:1": ("c", 0.01, 0.0)}
    told = {"control": {"control": None, "of": None, "method": "control", "objective": "none"}}
    told |= {c: {"control": "control", "of": None, "method": m, "objective": c} for c, (m, _, _) in kinds.items()}
    for name, one in told.items():
        one["label"] = name.upper()
    rows = []
    for condition, (_, map_, change) in kinds.items():
        for measure, at, difference in (
            ("accuracy", 97.0, change),
            ("morans_i.one", 0.0, map_),
            ("morans_i.two", 0.0, map_ + 0.1),
            ("mean_wire_length.layer", 9.0, -4.0 if condition == "a:1" else -6.0 if condition == "b:1" else 0.0),
        ):
            half = 0.5 if measure in ("accuracy", "mean_wire_length.layer") else 0.2
            row = {"condition": condition, "control": "control", "measure": measure, "n": n}
            row |= {"mean_difference": difference, "means": [at + difference, at]}
            rows.append(row | {"ci": [difference - half, difference + half] if n > 1 else None})
    names = {"accuracy": ("test accuracy", "%", "up"), "morans_i": ("Moran's I of class maps", "", "up")}
    names |= {"mean_wire_length": ("mean wire length", "spacings", "down")}
    measures = {}
    for name in dict.fromkeys(row["measure"] for row in rows):
        base, _, part = name.partition(".")
        label, unit, better = names[base]
        measures[name] = {"base": base, "part": part, "label": label, "unit": unit, "better": better}
    group = {"name": "net", "control": "control", "conditions": list(told), "scores": [{"name": "accuracy"}]}
    return {"groups": [group], "conditions": told, "comparisons": rows, "measures": measures}


def test_methods_are_summed_up_in_three_sentences() -> None:
    found = compared_methods()
    assert summary(found) == [
        "The clearest maps are those of B:1 (Moran's I 0.85 as a mean over sheets, 0.00 in the control; "
        "accuracy −3.00 points [−3.50, −2.50]); where accuracy is not certainly worse, those of A:1 "
        "(Moran's I 0.45 as a mean over sheets, 0.00 in the control; accuracy +0.10 points [−0.40, +0.60]).",
        "At no strength is Moran's I certainly above the control's in every sheet with c.",
        "The shortest wires, where accuracy is not certainly worse, are those of A:1: 5.0 spacings on average, "
        "9.0 in the control.",
    ]
    found["groups"].append({**found["groups"][0], "name": "other", "conditions": ["control"]})
    assert summary(found)[1].startswith("net: at no strength")


def test_few_networks_and_few_objectives_are_not_summed_up() -> None:
    assert summary(compared_methods(4)) == []
    assert summary(compared_methods(1)) == []
    found = compared_methods()
    found["conditions"]["c:1"]["objective"] = "none"
    assert summary(found) == []
