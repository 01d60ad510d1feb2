"""The files of a run's directory, and how they are read. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from locality_prior._check import Problem, short
from locality_prior._files import digest, read_csv, read_json, read_npz, read_yaml, write_json

CONFIG, METRICS, STATE, BEFORE, MODEL, ACTIVATIONS, PRUNING, ANALYSIS, MEASURES, PROGRESS, LOGS = (
    "config.yaml",
    "metrics.csv",
    "state.pt",
    "before.pt",  # exists only while the control is trained by which units are arranged
    "model.safetensors",
    "activations.npz",
    "pruning.csv",
    "analysis.json",
    "measures.npz",
    "progress.json",  # only while the run is trained
    "logs",  # of TensorBoard
)
#: The files whose checksums analysis.json holds.
WHOLE = (METRICS, MODEL, ACTIVATIONS, PRUNING, MEASURES)
#: The most bytes that the arrays of one run may take.
MOST = 1 << 33
#: What to do about a file that is damaged.
AGAIN = "Run the command that trained this network again: it makes the file anew."


@dataclass(frozen=True)
class Measured:
    """A measured run: the numbers in analysis.json, the arrays in measures.npz, and the two tables."""

    directory: Path
    analysis: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]
    metrics: list[dict[str, str]]
    pruning: list[dict[str, str]]


def read_config(directory: Path) -> Any:
    """The plain values of a run's config."""
    return read_yaml(directory / CONFIG, ended=True)


def read_analysis(directory: Path, check: bool = True) -> dict[str, Any]:
    """The numbers of a measured run.

    Args:
        directory: the run's directory.
        check: whether to compare the files with their checksums.

    Raises:
        Problem: the run is not finished, or a file has changed since it was measured.
    """
    path = directory / ANALYSIS
    if not path.is_file():
        raise Problem(f"{directory} is not a finished run: it has no {ANALYSIS}. Train it to its end first.")
    try:
        found = read_json(path)
    except ValueError as error:
        raise Problem(f"{path} is damaged ({short(str(error))}). {AGAIN}") from None
    needed = {"condition", "seed", "items", "task", "sheets", "layers", "measures", "files"}
    if not isinstance(found, dict) or not needed <= found.keys() or not isinstance(found["files"], dict):
        raise Problem(f"{path} is damaged. {AGAIN}")
    if check:
        for name, kept in found["files"].items():
            file = directory / Path(name).name
            if not file.is_file() or digest(file) != kept:
                raise Problem(f"{file} is missing or has changed since the run was measured. {AGAIN}")
    return found


def write_analysis(directory: Path, told: dict[str, Any]) -> dict[str, Any]:
    """Write the numbers of a run, with the checksums of its files, and return both."""
    told = told | {"files": {name: digest(directory / name) for name in WHOLE if (directory / name).is_file()}}
    write_json(directory / ANALYSIS, told)
    return told


def read_measured(directory: Path, check: bool = True) -> Measured:
    """A measured run, read from its directory.

    Raises:
        Problem: see :func:`read_analysis`.
    """
    analysis = read_analysis(directory, check)
    tables = {name: directory / name for name in (METRICS, PRUNING)}
    metrics, pruning = (read_csv(path) if path.is_file() else [] for path in tables.values())
    return Measured(directory, analysis, read_npz(directory / MEASURES, MOST), metrics, pruning)
