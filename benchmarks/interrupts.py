"""Interrupt a study at random moments, finish it, and compare: ``interrupts.py [--times 10] [--signal INT|KILL]``.

A study of scikit-learn's digits is run once without interruption. The same study is then started again and again in
another directory, and each time it is interrupted at a random moment. At last it is left to finish. Both must end with
the same study.json, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = ["--task", "digits", "--model", "lenet", "--epochs", "3", "--seeds", "1", "2"]
STUDY += ["--cost", "flat", "linear@2", "--shuffled", "linear@2"]


def command(out: Path) -> list[str]:
    """The command that starts or continues the study in ``out``."""
    return [sys.executable, "-m", "locality_prior.cli", "study", *STUDY, "--out", str(out)]


def hear() -> None:
    """Let the process react to interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--signal", choices=["INT", "KILL", "TERM"], help="the same each time (default: any of them)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        straight, broken = Path(folder, "straight"), Path(folder, "broken")
        start = time.monotonic()
        subprocess.run(command(straight), check=True, capture_output=True)
        took = time.monotonic() - start
        for k in range(options.times):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            # processes in the background may have been started in a way that ignores interrupts
            process = subprocess.Popen(command(broken), preexec_fn=hear, **quiet)
            moment = rng.uniform(0.1, 0.35) * took  # less than the whole, since finished runs are not run again
            how = options.signal or rng.choice(["INT", "KILL", "TERM"])
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                process.send_signal(getattr(signal, f"SIG{how}"))
                process.wait()
            left = len(list(broken.glob("runs/*/analysis.json")))
            told = {"interrupt": k, "signal": how, "seconds": round(moment, 1), "exit": process.returncode}
            print(json.dumps(told | {"cells done": left}), flush=True)
        subprocess.run(command(broken), check=True, capture_output=True)
        same = (straight / "study.json").read_bytes() == (broken / "study.json").read_bytes()
    print("the same study.json" if same else "ANOTHER study.json")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
