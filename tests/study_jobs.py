"""Jobs in place of a study's cells, where another process can import them."""

from __future__ import annotations

import os
import time
from pathlib import Path

from locality_prior.experiments.config import PROGRESS, Run


def die(run: Run, directory: str, data_root: str | None) -> None:
    """End the whole process under cost sqrt; say of any other run that it has been here."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    Path(directory, PROGRESS).write_text('{"epochs": 0.5}')  # as a real cell says that it is under way
    if run.cost == "sqrt":
        time.sleep(0.5)  # beside another
        os._exit(3)
    Path(directory, "been").touch()
    Path(directory, PROGRESS).unlink()
