"""The networks of studies/language.yaml, and what studies/language.py measures of them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from locality_prior.catalog.language import Pairs, Text
from locality_prior.layers import locality_layers
from locality_prior.runs import Recipe, Run, door, train
from locality_prior.runs.network import Network, network
from locality_prior.studies.study import study_from

STUDIES = Path(__file__).parents[1] / "studies"
PROSE = "When it rained, 'Tim' ran to the hut. Nobody knew why!\n" * 40
PAIRS = Pairs(["Tim ran.", "Nobody ran."] * 2, ["Tim nar.", "Nobody nar."] * 2, ["one"] * 3 + ["two"])


@pytest.fixture(scope="module")
def study() -> Any:
    return door._file("model", str(STUDIES / "language.py"))  # as the study itself does


@pytest.fixture
def task() -> Text:
    return Text(PROSE, context=16, validation=200, test=400)


def small(task: Text, seed: int = 1) -> Network:
    return network(Run(task, "gpt:layers=2,width=16,heads=2", seed=seed), task)


def test_its_conditions(study: Any, task: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(STUDIES.parent)
    runs = study_from(yaml.safe_load((STUDIES / "language.yaml").read_text("utf-8"))).runs()
    nets = {name: network(run, task) for (name, seed), run in runs.items() if seed == 1}
    assert nets.keys() == study.CALLED.keys() | {control for control, _ in study.CALLED.values()} | {
        "control, lr 0.004"
    }
    control = nets["control"].model.state_dict()
    for name, net in nets.items():
        assert (len([*locality_layers(net.model)]) == 12) == name.startswith("linear")
        if not name.startswith(("mask", "linear@3")):  # whose weights have another name, or no value without a wire
            assert all(torch.equal(value, control[key]) for key, value in net.model.state_dict().items())
        assert "block2.attention" in net.placed
    assert [layer.name for layer in nets["topoloss:10, mlps"].layers] == ["block1.up", "block2.up"]
    masked = nets["mask:0.11, projections"].model.block1.attention.query
    assert 0.09 < float((masked.weight != 0).double().mean()) < 0.13
    assert [*nets["control, sublayers"].placed] == [
        f"block{k}.{part}" for k in (1, 2) for part in ("attention", "down")
    ]
    assert nets["control, gpt (window 8)"].model.block1.attention.window == 8


def test_scrambled_text(study: Any, task: Text) -> None:
    sets = {name: both for name, *both in study.contrasts(task)}
    assert sets.keys() == {"vowels", "capitals", "spaces", "text"}
    for name, (one, other) in sets.items():
        ends = [{task.decode(row[-1:]) for row in rows} for rows in (one, other)]
        assert name == "text" or not ends[0] & ends[1]
    text, scrambled = sets["text"]
    assert torch.equal(text[:, -1], scrambled[:, -1])
    assert torch.equal(text.sort(1).values, scrambled.sort(1).values)
    assert (text != scrambled).any(1).float().mean() > 0.9


def test_planted_units_are_found(study: Any, task: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four neighbouring units that respond to vowels alone lie together, and an arrangement finds a map."""
    net = small(task)
    vowel = (task._kinds == task.classes.index("vowels")).float()
    units = torch.tensor([0, 1, 4, 5])

    class Planted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tokens = seen[0]
            x = 0.01 * x
            x[..., units] += 5 * vowel[tokens][..., None]
            return x

    seen: list[Tensor] = []
    net.model.embed.register_forward_pre_hook(lambda module, args: seen.insert(0, args[0]))
    net.model.block2.attention.out = nn.Sequential(net.model.block2.attention.out, Planted())
    monkeypatch.setattr(study, "TOP", 4.0)
    found = {(sheet, name): value for sheet, name, value in study.measured(net, task, PAIRS)}
    at = "block2.attention"
    assert found[at, "vowels: Moran's I"] > 0.3
    assert found[at, "vowels: p, places"] < 0.05
    assert 4 / 16 <= found[at, "vowels: significant units"] < 8 / 16
    assert found[at, "Moran's I of kinds, arranged"] > 0
    assert found["", "BLiMP one"] in {k / 3 for k in range(4)}
    assert {sheet for sheet, _ in found} == {at, "block2.hidden", ""}


@pytest.mark.slow
def test_a_folder_is_measured_once(
    study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text(PROSE, encoding="utf-8")
    name = f"text:path={tmp_path / 'text.txt'},context=16,windows=32,validation=200,test=400"
    recipe = Recipe(epochs=1, batch_size=16)
    for seed in (1, 2):
        for cost in ("flat", "linear"):
            run = Run(name, "gpt:layers=2,width=16,heads=2", cost, seed=seed, recipe=recipe)
            train(run, tmp_path / f"runs/{cost}{seed}")
    monkeypatch.setattr(study, "blimp", lambda: PAIRS)
    monkeypatch.setattr(study, "CALLED", {"linear": ("control", "linear cost")})
    study.main(str(tmp_path))
    with (tmp_path / "language.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["condition"], row["when"], row["seed"]) for row in rows} == {
        *((c, "trained", s) for c in ("control", "linear") for s in "12"),
        *(("control", "untrained", s) for s in "12"),
    }
    assert all(math.isfinite(float(row["value"])) for row in rows if row["value"])
    assert (tmp_path / "figures" / "cost.png").stat().st_size > 1000
    told = json.loads((tmp_path / "runs/linear1/analysis.json").read_text("utf-8"))
    assert study.DRAWN.keys() <= told["measures"].keys()
    monkeypatch.setattr(study, "measured", None)  # a second time there is nothing to measure
    study.main(str(tmp_path))
    capsys.readouterr()
    study.times(str(tmp_path))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["control", "linear"]
