"""The command line as its users meet it: whole processes, exit codes, what is on disk; bad input one line each."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from locality_prior import cli
from locality_prior.experiments import RECIPES
from locality_prior.studies import Reproduction
from locality_prior.studies.reproduction import CONDITIONS
from locality_prior.studies.reproduction import reproduce as run_reproduction

COMMAND = [sys.executable, "-m", "locality_prior.cli"]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=300, env=os.environ | environment, check=False
    )


def reproduce(root: str, out: Path, *more: str) -> list[str]:
    return ["reproduce", "mnist", "--data-root", root, "--out", str(out), *more]


def final_weights(out: Path) -> dict[str, bytes]:
    return {p.parent.name: p.read_bytes() for p in sorted(out.glob("runs/*/model.safetensors"))}


def test_reproduce_then_its_parts(
    root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], sketched: dict[str, object]
) -> None:
    out = tmp_path / "out"
    done = run(*reproduce(root, out, "--epochs", "2", "--seeds", "1", "2", "--also", "linear@2"))
    assert done.returncode == 0, done.stderr
    # a table, with the document's numbers beside ours, and where the page is
    for word in ("control", "local", "linear within 2", "98.1", "accuracy %", str(out / "report.html")):
        assert word in done.stdout
    # progress, one line an epoch where there is no terminal
    assert re.search(r"local · seed 2 · epoch 2/2", done.stderr)
    assert {p.name for p in out.iterdir()} == {"figures", "report.html", "reproduction.yaml", "runs", "summary.json"}
    assert len(final_weights(out)) == 6
    summary = json.loads((out / "summary.json").read_text())
    assert summary["seeds"] == [1, 2]
    for name in ("control", "local", "linear@2"):
        condition = summary["conditions"][name]
        assert {"accuracy", "loss", "spatial_variance", "mean_wire_length", "per_seed"} <= condition.keys()
        assert condition["spatial_variance"].keys() == {"input", "output"}
    for side in ("input", "output"):
        assert summary["tests"]["per_image"][side].keys() >= {"t", "p", "n"}
        assert summary["tests"]["per_seed"][side].keys() >= {"t", "p", "n"}
    assert len(summary["tests"]["per_seed"]["per_image"]) == 2

    # the parts make the same again, from what is on disk
    before = (out / "summary.json").read_bytes()
    (out / "summary.json").unlink()
    assert cli.main(["analyse", str(out)]) == 0
    assert (out / "summary.json").read_bytes() == before
    page = (out / "report.html").read_text()
    assert len(page) > 100_000
    (out / "report.html").unlink()
    assert cli.main(["report", str(out)]) == 0
    pictures = re.compile(r"data:image/png;base64,[^\"]*")
    assert pictures.sub("", (out / "report.html").read_text()) == pictures.sub("", page)
    assert {f"figures/{name}" for name in sketched} == {str(p.relative_to(out)) for p in out.glob("figures/*")}
    capsys.readouterr()
    assert cli.main(["analyse", str(out / "runs" / "local-seed1")]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one["accuracy"] == summary["conditions"]["local"]["per_seed"][0]["accuracy"]

    # a run's own config makes that run again, bit for bit
    config = out / "runs" / "linear@2-seed2" / "config.yaml"
    assert cli.main(["train", "--config", str(config), "--data-root", root, "--out", str(tmp_path / "single")]) == 0
    assert (tmp_path / "single" / "model.safetensors").read_bytes() == final_weights(out)["linear@2-seed2"]


def test_reproduce_digits_out_of_the_box(tmp_path: Path) -> None:
    # no data folder, no network, no settings but one epoch
    done = subprocess.run(
        [*COMMAND, "reproduce", "digits", "--epochs", "1"],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "LOCALITY_PRIOR_DATA"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "results" / "digits-sgd" / "summary.json").read_text())
    assert summary["experiment"] == "digits"
    assert summary["tests"]["per_image"]["output"]["n"] == 500
    assert summary["tests"]["per_seed"]["output"] | {"mean_difference": 0} == {
        "t": None,
        "p": None,
        "n": 1,
        "mean_difference": 0,
    }
    assert min(c["accuracy"] for c in summary["conditions"].values()) > 50  # far from the 10 % of chance


LONG = Reproduction("mnist", dataclasses.replace(RECIPES["sgd"], epochs=40), (1,), CONDITIONS)


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory, root: str) -> Path:
    """A study that nothing interrupted."""
    out = tmp_path_factory.mktemp("straight") / "out"
    with ThreadPoolExecutor(1) as executor:
        run_reproduction(LONG, out, root, executor)
    return out


@pytest.mark.parametrize(
    "blow",
    [signal.SIGINT, *(pytest.param(blow, marks=pytest.mark.slow) for blow in (signal.SIGTERM, signal.SIGKILL))],
)
def test_a_killed_reproduce_goes_on_to_the_same_bits(
    blow: signal.Signals, straight: Path, root: str, tmp_path: Path, sketched: dict[str, object]
) -> None:
    out = tmp_path / "killed"
    command = reproduce(root, out, "--epochs", "40")
    process = subprocess.Popen(
        [*COMMAND, *command],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell's background jobs, and so these tests in one, are started deaf to it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    state = out / "runs" / "local-seed1" / "state.pt"
    wait_for(lambda: state.exists() and epochs(state) >= 2)
    process.send_signal(blow)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == (-signal.SIGKILL if blow == signal.SIGKILL else 130)
    if blow != signal.SIGKILL:
        assert "interrupted; the same command goes on" in said
        assert "Traceback" not in said
    # its workers stop too: nothing is written any more
    wait_for(lambda: not group(process.pid), 30)
    assert 2 <= epochs(state) < 40
    assert not (out / "summary.json").exists()

    if blow == signal.SIGINT:
        assert cli.main(command) == 0
        assert sketched
    else:  # what the command does, without the page at its end
        with ThreadPoolExecutor(1) as executor:
            run_reproduction(LONG, out, root, executor)
    assert final_weights(out) == final_weights(straight)


def epochs(state: Path) -> int:
    return int(torch.load(state, weights_only=True)["epoch"])


def group(leader: int) -> list[str]:
    """The living processes of a session."""
    listed = subprocess.run(["ps", "-o", "pid=,stat=", "-s", str(leader)], capture_output=True, text=True, check=False)
    return [line for line in listed.stdout.splitlines() if " Z" not in line]


def wait_for(true, seconds: float = 120) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_help_names_every_command() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name in ("reproduce", "train", "study", "analyse", "report", "prior", "bench"):
        assert name in done.stdout


@pytest.mark.parametrize("command", ["reproduce", "train", "study", "analyse", "report", "prior"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert len(said.splitlines()) > 5
    assert "None, required" not in said


def test_prior(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "prior.png"
    assert cli.main(["prior", "7x7", "16x16", "--cost", "linear@2", "--out", str(picture)]) == 0
    said = capsys.readouterr().out
    # offsets (0, 0), (1, 0), (1, 1), (2, 0) and their like: 49 + 4·42 + 4·36 + 4·35
    assert "Grid(7, 7), Linear().within(2): 501 wires of 2,401" in said
    assert picture.read_bytes().startswith(b"\x89PNG")


BAD = [
    ([], "command"),
    (["dance"], "dance"),
    (["reproduce"], "experiment"),
    (["reproduce", "cifar"], "cifar"),
    (["reproduce", "digits", "--recipe", "adam"], "adam"),
    (["reproduce", "digits", "--epochs", "0", "--out", "OUT"], "epochs: got 0, expected a whole number of at least 1"),
    (["reproduce", "digits", "--epochs", "two"], "two"),
    (["reproduce", "digits", "--seeds", "1", "1", "--out", "OUT"], "seeds: got [1, 1]"),
    (["reproduce", "digits", "--seeds", "-1", "--out", "OUT"], "seed"),
    (["reproduce", "digits", "--l1", "-1", "--out", "OUT"], "l1: got -1"),
    (["reproduce", "digits", "--also", "bogus", "--out", "OUT"], "cost: got 'bogus'"),
    (["reproduce", "digits", "--also", "linear@0", "--out", "OUT"], "radius: got '0'"),
    (["reproduce", "digits", "--also", "linear:-1", "--out", "OUT"], "length: got '-1'"),
    (["reproduce", "mnist", "--data-root", "NOWHERE", "--out", "OUT"], "data-root: got NOWHERE"),
    (["train", "--out", "OUT"], "data"),
    (["train", "--data", "digits"], "out"),
    (["train", "--data", "digits", "--cost", "bogus", "--out", "OUT"], "cost: got 'bogus'"),
    (["train", "--data", "digits", "--sheet", "[7,0]", "--out", "OUT"], "sheet: got 0"),
    (["train", "--config", "NOWHERE", "--out", "OUT"], "NOWHERE"),
    (["study", "NOWHERE.yaml", "--out", "OUT"], "file: got NOWHERE.yaml"),
    (["study", "--cost", "bogus", "--out", "OUT"], "cost: got 'bogus'"),
    (["study", "--sheet", "7", "--out", "OUT"], "sheet: got '7', expected units such as 7x7"),
    (["study", "--seeds", "1", "1", "--out", "OUT"], "seeds: got [1, 1], expected one or more different values"),
    (["study", "--data", "mnist", "--data-root", "NOWHERE", "--out", "OUT"], "data-root: got NOWHERE"),
    (["study", "--executor", "slurm", "--out", "OUT"], "executor: got 'slurm', expected processes, or dask://"),
    (["analyse", "NOWHERE"], "NOWHERE"),
    (["report", "NOWHERE"], "NOWHERE"),
    (["prior", "7by7", "--out", "OUT.png"], "sheet: got '7by7'"),
    (["prior", "7x7", "--out", "OUT.txt"], "out: got"),
    (["prior", "7x7", "--cost", "lineardecay", "--out", "OUT.png"], "end: got None"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(a) or "nothing" for a, _ in BAD])
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = cli.main(arguments)
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    assert code == 2
    assert len(captured.err.strip().splitlines()) == 1
    assert captured.err.startswith("locality-prior: error: ")
    assert said in captured.err
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_a_foreign_directory_as_a_process(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    done = run("reproduce", "digits", "--out", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "thesis.tex" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_failing_network_stops_the_rest_with_its_reason(straight: Path, root: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(straight, out)
    state = out / "runs" / "local-seed1" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    done = run(*reproduce(root, out, "--epochs", "40"))
    assert done.returncode == 2
    assert "state.pt" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
