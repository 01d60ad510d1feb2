"""Jobs in place of a study's cells, where another process can import them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from locality_prior.experiments.config import PROGRESS, Run


def begin(directory: str) -> None:
    """Say, as a real cell does, that it is under way."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    Path(directory, PROGRESS).write_text('{"epochs": 0.5}')


def die(run: Run, directory: str, data_root: str | None) -> None:
    """End the whole process under cost sqrt; say of any other run that it has been here."""
    begin(directory)
    if run.cost == "sqrt":
        time.sleep(1)  # long enough to be seen under way
        os._exit(3)
    with open(Path(directory, "been"), "a") as file:
        file.write("x")
