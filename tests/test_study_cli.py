"""``locality-prior study`` as its users meet it: whole processes, interrupted, and on a cluster's workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from locality_prior import cli
from locality_prior.studies.cells import run_study
from locality_prior.studies.findings import find
from locality_prior.studies.study import study_from

COMMAND = [sys.executable, "-m", "locality_prior.cli", "study"]
FLAGS = ["--data", "mnist", "--seeds", "1", "2", "--cost", "flat", "linear@2", "--epochs", "12"]
STUDY = {"data": ["mnist"], "seeds": [1, 2], "cost": ["flat", "linear@2"], "epochs": 12}


@pytest.fixture(scope="session")
def straight(tmp_path_factory: pytest.TempPathFactory, root: str) -> bytes:
    """What is found by a study that nothing interrupted, in one process."""
    out = tmp_path_factory.mktemp("straight") / "out"
    with ThreadPoolExecutor(1) as executor:
        assert run_study(study_from(STUDY), out, root, executor) == {}
    find(out)
    return (out / "study.json").read_bytes()


def test_a_study_from_a_file(root: str, tmp_path: Path) -> None:
    """To its page; the flags beside a file take its place."""
    claim = {"says": "Ends make maps", "measure": "response_correlation.output", "expected": "higher"}
    file = tmp_path / "ends.yaml"
    file.write_text(yaml.safe_dump(STUDY | {"epochs": 99, "hypotheses": [claim | {"condition": {"cost": "linear@2"}}]}))
    done = subprocess.run(
        [*COMMAND, str(file), "--epochs", "1", "--data-root", root],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "4 of 4 cells · 0 failed" in done.stderr
    for word in ("linear within 2", "Ends make maps", "results/ends/report.html"):
        assert word in done.stdout
    out = tmp_path / "results" / "ends"
    assert {p.name for p in out.iterdir()} == {"figures", "report.html", "runs", "study.json", "study.yaml"}
    found = json.loads((out / "study.json").read_text())
    assert {(c["condition"], c["seed"]) for c in found["cells"]} == {
        (name, seed) for name in ("control", "linear@2") for seed in (1, 2)
    }
    for cell in found["cells"]:
        assert cell["config"]["recipe"]["epochs"] == 1
        assert cell["measures"]["accuracy"] >= 0
    keys = {"condition", "measure", "n", "mean_difference", "ci", "t", "p", "p_permutation", "per_image_p"}
    assert all(keys <= one.keys() for one in found["comparisons"])
    assert found["hypotheses"][0]["verdict"] in ("holds", "does not hold", "cannot be told")
    page = (out / "report.html").read_text()
    assert "Ends make maps" in page
    assert str(tmp_path) not in page + (out / "study.json").read_text() + (out / "study.yaml").read_text()
    # any of its networks is made again, bit for bit, by the command on the page
    cell = found["cells"][-1]["run"]
    assert "locality-prior train --config runs/RUN/config.yaml --out DIR" in page
    again = ["train", "--config", str(out / "runs" / cell / "config.yaml"), "--data-root", root]
    assert cli.main([*again, "--out", str(tmp_path / "again")]) == 0
    name = "model.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (out / "runs" / cell / name).read_bytes()


@pytest.mark.slow
def test_an_interrupted_study_goes_on_to_the_same_findings(root: str, straight: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for k, blow in enumerate((signal.SIGINT, signal.SIGKILL), 1):
        process = subprocess.Popen(
            [*COMMAND, *FLAGS, "--data-root", root, "--out", str(out)],
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        wait_for(lambda k=k: len(list(out.glob("runs/*/state.pt"))) >= k + 1)
        process.send_signal(blow)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == (130 if blow == signal.SIGINT else -signal.SIGKILL), said
        assert "Traceback" not in said
        assert not (out / "study.json").exists()
        assert len(list(out.glob("runs/*/analysis.json"))) < 4
    time.sleep(1)  # a killed command's workers look once in a while whether it lives
    with ThreadPoolExecutor(1) as executor:  # what the command does, without the page at its end
        assert run_study(study_from(STUDY), out, root, executor) == {}
    find(out)
    assert (out / "study.json").read_bytes() == straight


#: What the command does, without the page at its end.
CLUSTER = """
import sys, time, yaml
from pathlib import Path
from locality_prior.studies.cells import run_study
from locality_prior.studies.findings import find
from locality_prior.studies.pool import cluster
from locality_prior.studies.study import study_from

address, study, out, root = sys.argv[1:]
for attempt in range(200):  # until the workers are there
    try:
        with cluster(address) as executor:
            assert run_study(study_from(yaml.safe_load(study)), Path(out), root, executor) == {}
        break
    except ValueError as error:
        assert "one or more workers" in str(error) and attempt < 199, error
        time.sleep(0.2)
find(Path(out))
"""


@pytest.mark.slow
def test_a_study_on_a_cluster(root: str, straight: bytes, tmp_path: Path) -> None:
    """A scheduler of ``distributed`` and two workers, each a process of this machine."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    started = [["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]]
    started += [["worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--no-nanny", "--no-dashboard"]] * 2
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "dask", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=tmp_path,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )
        for words in started
    ]
    out = tmp_path / "out"
    try:
        arguments = [f"dask://127.0.0.1:{port}", yaml.safe_dump(STUDY), str(out), root]
        done = subprocess.run(
            [sys.executable, "-c", CLUSTER, *arguments], capture_output=True, text=True, timeout=300, check=False
        )
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert done.returncode == 0, done.stderr
    assert (out / "study.json").read_bytes() == straight


def wait_for(true, seconds: float = 120) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
