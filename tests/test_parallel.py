"""Two processes train one network: to the weights of one process, and so that a killed one leaves a run to resume."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from locality_prior.runs import Recipe, Run, Task, files, train

HERE = Path(__file__).resolve()
#: Two networks, one after the other, with a state saved wherever that is possible.
SCRIPT = f"""
import sys
sys.path.insert(0, {str(HERE.parent)!r})
import torch
torch.set_num_threads(1)
from test_parallel import RUNS
from locality_prior.runs import Machine, train

for name, run in RUNS.items():
    wrote = train(run, sys.argv[1] + "/" + name, machine=Machine(devices="2", save_every=0.0))
print("finished", wrote, flush=True)
"""


class Frozen(nn.BatchNorm1d):
    """BatchNorm that stays as it is, since each process would have statistics of its own."""

    def train(self, mode: bool = True) -> Frozen:
        return super().train(False)


def still(task: Task) -> nn.Module:
    """A network without what differs between one process and several: dropout, and batch statistics."""
    import tiny

    model = tiny.mlp(task)
    model.norm.__class__ = Frozen
    model.dropout.p = 0.0
    return model


def big() -> Task:
    """Enough items for epochs in which two processes save their state."""
    import tiny

    return tiny.blobs(4000)


RECIPE = Recipe(epochs=2, batch_size=30, lr=0.05, l1=1e-4)
RUNS = {
    cost: Run(f"{HERE}:big", f"{HERE}:still", cost, shuffled, recipe=RECIPE)
    for cost, shuffled in (("flat", False), ("linear@2", True))
}

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")


def start(*command: str, **options: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *command], env=environment, start_new_session=True, text=True, **options)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("script") / "script.py"
    path.write_text(SCRIPT)
    return str(path)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, script: str) -> Path:
    """The runs, trained by two processes, of which the first starts the second."""
    out = tmp_path_factory.mktemp("two")
    process = start(script, str(out), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, wrong = process.communicate(timeout=300)
    assert process.returncode == 0, wrong[-3000:]
    assert sorted(said.split()) == ["False", "True", "finished", "finished"]
    return out


def weights(home: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(home / "state.pt", weights_only=True)["model"]
    return found


def rows(home: Path) -> list[dict[str, str]]:
    with open(home / "metrics.csv") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RUNS))
def test_two_processes_are_one(name: str, two: Path, tmp_path: Path) -> None:
    """The same weights as of one process with the same batches, to float32's rounding."""
    train(RUNS[name], tmp_path)
    one, both = weights(tmp_path), weights(two / name)
    assert one.keys() == both.keys()
    for key in one:
        assert_close(both[key], one[key], rtol=1e-4, atol=1e-5)
    for a, b in zip(rows(tmp_path), rows(two / name), strict=True):
        for key in ("train_loss", "validation_loss", "validation_accuracy", "mean_wire_length"):
            assert_close(float(a[key]), float(b[key]), rtol=1e-4, atol=1e-5)
    told, expected = (files.read_measured(home).analysis for home in (two / name, tmp_path))
    assert told["measures"].keys() == expected["measures"].keys()
    assert_close(told["measures"]["accuracy"], expected["measures"]["accuracy"], rtol=0.0, atol=0.2)


@pytest.mark.slow
def test_torchrun_starts_the_same(script: str, two: Path, tmp_path: Path) -> None:
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    process = start(*launch, script, str(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, wrong = process.communicate(timeout=300)
    assert process.returncode == 0, wrong[-3000:]
    assert said.split().count("finished") == 2
    for name in RUNS:
        assert all(torch.equal(v, weights(two / name)[k]) for k, v in weights(tmp_path / name).items())


@pytest.mark.slow
@pytest.mark.parametrize("which", [min, max])
def test_a_killed_process_of_two_leaves_what_can_be_resumed(which: Any, script: str, two: Path, tmp_path: Path) -> None:
    """Whichever is killed, the same command goes on and ends in the same bits."""
    with open(tmp_path / "said", "w") as said:
        process = start(script, str(tmp_path / "out"), stdout=said, stderr=said)
    state = tmp_path / "out" / "flat" / "state.pt"
    end = time.monotonic() + 120
    while not state.exists():
        assert time.monotonic() < end
        assert process.poll() is None, (tmp_path / "said").read_text()[-3000:]
        time.sleep(0.01)
    listed = subprocess.run(["ps", "-o", "pid=", "-s", str(process.pid)], capture_output=True, text=True, check=True)
    ranks = [int(pid) for pid in listed.stdout.split()]
    assert len(ranks) >= 2
    os.kill(which(ranks), signal.SIGKILL)
    assert process.wait(timeout=120) != 0  # the other does not wait for it for ever
    end = time.monotonic() + 60
    while subprocess.run(["ps", "-o", "pid=", "-s", str(process.pid)], capture_output=True).stdout.strip():
        assert time.monotonic() < end, "a process is left"
        time.sleep(0.1)
    torch.load(state, weights_only=True)
    again = start(script, str(tmp_path / "out"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, wrong = again.communicate(timeout=300)
    assert again.returncode == 0, wrong[-3000:]
    for name in RUNS:
        one, other = weights(two / name), weights(tmp_path / "out" / name)
        assert all(torch.equal(one[key], other[key]) for key in one)
