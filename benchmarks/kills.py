"""Kill a training at random moments, go on, and compare the bits: ``kills.py DIR [--kills 20]``.

DIR holds train and val (see docs/howto/imagenet.md). A small AlexNet is trained once without interruption. Every other
training is killed (SIGKILL) at a random moment and started again, and must end in the same weights, bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml

from locality_prior.runs import Recipe, Run
from locality_prior.runs.config import plain

RUN = Run(
    "photographs:crop=64",
    "alexnet:sheet=16x16,stride=2,width=0.25",
    "linear",
    recipe=Recipe("sgd", 0.01, 0.9, 1e-4, 3, 32, drop_every=2),
)


def command(root: str, out: Path) -> list[str]:
    """The command that starts or continues the run in ``out``."""
    settings = out.parent / "run.yaml"
    settings.write_text(yaml.safe_dump(plain(RUN)))
    words = ["train", "--config", str(settings), "--data-root", root, "--out", str(out), "--save-every", "0.5"]
    return [sys.executable, "-m", "locality_prior.cli", *words]


def weights(out: Path) -> dict[str, torch.Tensor]:
    """The final weights of the run in ``out``."""
    state = torch.load(out / "state.pt", weights_only=True)
    assert state["epoch"] == RUN.recipe.epochs
    found: dict[str, torch.Tensor] = state["model"]
    return found


def stands(out: Path) -> str:
    """How far the run in ``out`` has come."""
    if not (out / "state.pt").exists():
        return "no state"
    state = torch.load(out / "state.pt", weights_only=True)
    return f"epoch {state['epoch']}" + (f", step {state['part']['step']}" if state["part"] else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="folder that holds train and val")
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    rng = random.Random(0)
    same = 0
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        subprocess.run(command(options.root, Path(folder, "straight")), check=True)
        took = time.monotonic() - start
        expected = weights(Path(folder, "straight"))
        for k in range(options.kills):
            out = Path(folder, str(k))
            process = subprocess.Popen(command(options.root, out), stdout=subprocess.DEVNULL)
            moment = rng.uniform(0.2, 1.0) * took  # before that, modules are imported
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
            at = stands(out)
            subprocess.run(command(options.root, out), check=True, stdout=subprocess.DEVNULL)
            ended = weights(out)
            alike = all(torch.equal(ended[name], expected[name]) for name in expected)
            same += alike
            print(json.dumps({"kill": k, "seconds": round(moment, 2), "left": at, "same bits": alike}), flush=True)
    print(f"{same} of {options.kills} ended in the same bits")
    return int(same < options.kills)


if __name__ == "__main__":
    sys.exit(main())
