"""The benchmark command: what a row is, that contestants take turns, and the file it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import write_mnist
from torch import nn

from locality_prior import bench, cli
from locality_prior._timing import in_turns
from locality_prior.bench import epoch, layers, networks, objectives, row
from locality_prior.catalog.tasks import mnist
from locality_prior.geometry import Grid
from locality_prior.layers import Locality, fold
from locality_prior.objectives import words

CPU = torch.device("cpu")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "locality_prior.cli", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_command_prints_a_table_and_leaves_a_file(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    done = run("--only", "prior_memory_4096", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "prior_memory_4096" in done.stdout
    assert str(out) in done.stdout
    found = json.loads(out.read_text())
    (memory,) = found["rows"]
    assert memory.keys() == {"name", "ours_mib", "baseline_mib", "ratio", "detail"}
    assert memory["baseline_mib"] == 64
    assert memory["ours_mib"] < 1
    assert memory["ratio"] == memory["baseline_mib"] / memory["ours_mib"]
    assert found["machine"].keys() == {"cpu", "cores", "python", "torch"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "local_train"], "only: got 'local_train', expected of dense_step_b64, "),
        (["--only", "prior_memory_4096", "--device", "warp"], "device: got 'warp' ("),
        (["--out", "nowhere/bench.json"], "out: got nowhere/bench.json, expected a file in a directory that exists"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *arguments]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(f"locality-prior: error: {said}")
    assert error.count("\n") == 1


def test_the_rows_are_those_that_are_promised() -> None:
    assert list(bench.ROWS) == [
        "dense_step_b64",
        "dense_step_b256",
        "reference_step_b64",
        "learned_step_1024",
        "folded_inference",
        "local_train_r8_b64",
        "local_train_r8_b256",
        "local_train_r4_b64",
        "local_infer_r8_b64",
        "local_infer_r4_b64",
        "prior_memory_4096",
        "scale_65536",
        "scale_1048576",
        "topoloss",
        "smoothness",
        "spatial_correlation",
        "spatial_correlation_memory",
        "spatial_correlation_256",
        "communicability",
        "swap_gains_1024",
        *[f"step_{word}" for word in words.WORDS],
        "stack_1024",
        "stack_4096",
        "gpt_block_1024",
        "gpt_block_4096",
        "lstm_1024",
        "mnist_epoch",
    ]


def test_contestants_take_turns() -> None:
    said: list[str] = []

    def contestant(name: str, seconds: float) -> None:
        said.append(name)
        time.sleep(seconds)

    times = in_turns({"a": lambda: contestant("a", 0.002), "b": lambda: contestant("b", 0.008)}, 3, 0.1)
    assert 2 <= times["a"] < times["b"]
    assert times["b"] >= 8
    # warmed up and sized, then rounds that are begun by each in turn: a call to warm up, and one that is timed
    assert "".join(said) == "aabb" + "aabb" + "bbaa" + "aabb"


@pytest.mark.slow
def test_the_layers_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of every kind of row, on a sheet small enough for a test."""
    monkeypatch.setattr(row, "ROUNDS", 1)
    monkeypatch.setattr(row, "TURN", 0.1)
    monkeypatch.setattr(layers, "SHEET", Grid(32, 32))
    monkeypatch.setattr(bench, "cores", lambda: 1)
    threads = torch.get_num_threads()
    told: list[bench.Row] = []
    names = ["dense_step_b64", "reference_step_b64", "folded_inference", "local_train_r4_b64", "local_infer_r4_b64"]
    rows = bench.bench(names, tell=told.append)
    assert [found.name for found in rows] == names
    assert told == rows
    assert all(found.ours > 0 and found.baseline > 0 for found in rows)
    assert "45,164 wires, backend='auto' (" in rows[3].detail
    assert "windowed" in rows[3].detail
    assert torch.get_num_threads() == threads
    assert [line[0] for line in bench.table(rows)] == ["row", *names]


def test_objectives_are_compared_with_what_they_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[list[torch.Tensor]] = []

    def instead(
        ours: objectives.Loss, plain: objectives.Loss, sheet: Grid, device: torch.device, rounds: int = 1
    ) -> dict[str, float]:
        weight = torch.randn(len(sheet), len(sheet), device=device)
        compared.append([ours(weight), plain(weight)])
        return {"ours": 1.0, "baseline": 2.0}

    monkeypatch.setattr(objectives, "SHEET", Grid(12, 12))
    monkeypatch.setattr(objectives, "SMALL", Grid(5, 4))
    monkeypatch.setattr(row, "TURN", 0.1)
    measured = objectives._objective(lambda w: w.sum(), lambda w: w.square().sum(), objectives.SHEET, CPU)
    assert measured.keys() == {"ours", "baseline"}
    monkeypatch.setattr(objectives, "_objective", instead)
    assert [found.ratio for found in bench.bench(["topoloss", "smoothness", "communicability"])] == [2, 2, 2]
    for ours, plain in compared:
        torch.testing.assert_close(ours, plain)


@pytest.mark.slow
def test_an_objectives_share_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row, "ROUNDS", 1)
    monkeypatch.setattr(row, "TURN", 0.1)
    threads = torch.get_num_threads()
    for word in ("communicability", "tica", "blur", "cbsom"):  # each of another sort
        found = bench.ROWS[f"step_{word}"](word, CPU)
        assert found.ours > 0
        assert found.baseline > 0
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("name", ["stack_1024", "gpt_block_1024", "lstm_1024"])
def test_whole_networks_are_compared_with_the_same_networks_dense(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs: list[nn.Module] = []
    step = networks.step

    def seen(network: nn.Module, *rest: Any) -> Callable[[], None]:
        pairs.append(network)
        return step(network, *rest)

    def small(make: networks.Make) -> networks.Make:
        return lambda side, local, device: make(side // 8, local, device)

    monkeypatch.setattr(networks, "step", seen)
    monkeypatch.setattr(row, "ROUNDS", 1)
    monkeypatch.setattr(row, "TURN", 0.1)
    makes = {"stack_1024": networks.stack, "gpt_block_1024": networks.block, "lstm_1024": networks.recurrent}
    found = networks._row(small(makes[name]), 32, "said")(name, CPU)
    assert found.ours > 0
    assert found.baseline > 0
    assert found.detail == "said; the same network dense"
    ours, dense = pairs
    assert not any(isinstance(layer, Locality) for layer in dense.modules())
    folded = {key: value.shape for key, value in fold(ours).state_dict().items()}
    assert folded == {key: value.shape for key, value in dense.state_dict().items()}
    wired = [wiring.prior for layer in ours.modules() if isinstance(layer, Locality) for wiring in layer.wirings()]
    assert len(wired) == {"stack_1024": 3, "gpt_block_1024": 6, "lstm_1024": 1}[name]
    assert all((prior == 0).any() for prior in wired)  # some pairs of each layer have no wire
    assert all(parameter.grad is not None for parameter in [*ours.parameters(), *dense.parameters()])


@pytest.mark.slow
def test_a_large_sheet_is_measured_in_a_process_of_its_own() -> None:
    found = layers._scale(70)("scale_4900", CPU)
    assert "229,008 wires" in found.detail
    assert "peak memory" in found.detail
    assert found.ours > 0
    assert found.baseline > 0


@pytest.mark.slow
def test_correlations_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row, "TURN", 0.1)
    monkeypatch.setattr(objectives, "SHEET", Grid(24, 24))
    time, memory = bench.bench(["spatial_correlation", "spatial_correlation_memory"])
    assert time.ratio > 1
    assert memory.unit == "mib"
    assert memory.baseline > 0
    large = objectives._spatial_correlation_large(30)("spatial_correlation_30", CPU)
    assert large.ours > 0
    assert "900 units" in large.detail
    assert memory.ratio > 1


@pytest.mark.slow
def test_an_epoch_of_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALITY_PRIOR_DATA", str(write_mnist(tmp_path / "data")))
    monkeypatch.setattr(bench, "cores", lambda: 1)
    (found,) = bench.bench(["mnist_epoch"])
    assert found.detail.startswith("MNIST; ")
    assert found.ours > 0
    assert found.baseline > 0


def test_random_images_stand_in_where_there_is_no_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch, "SYNTHETIC", {"train": 256, "t10k": 64})
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOCALITY_PRIOR_DATA", raising=False)
    assert epoch._mnist_root(tmp_path) == (tmp_path, "synthetic images")
    assert mnist(str(tmp_path), validation=6).sizes == (250, 6, 64)
    monkeypatch.setenv("LOCALITY_PRIOR_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"LOCALITY_PRIOR_DATA: got .*nowhere, expected a folder that holds MNIST/raw"):
        epoch._mnist_root(tmp_path)
