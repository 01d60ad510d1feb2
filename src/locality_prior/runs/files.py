"""What a run's directory holds, and reading it: files alone, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from locality_prior._check import Problem
from locality_prior._files import digest, read_csv, read_json, read_npz, read_yaml

CONFIG, METRICS, STATE, MODEL, ACTIVATIONS, PRUNING, ANALYSIS, MEASURES, PROGRESS, LOGS = (
    "config.yaml",
    "metrics.csv",
    "state.pt",
    "model.safetensors",
    "activations.npz",
    "pruning.csv",
    "analysis.json",
    "measures.npz",
    "progress.json",  # while the run is trained
    "logs",  # TensorBoard's
)
#: What a measured run holds beside its config; analysis.json has the checksum of each.
WHOLE = (METRICS, MODEL, ACTIVATIONS, PRUNING, MEASURES)
#: The most bytes that arrays of one run may take.
MOST = 1 << 33


@dataclass(frozen=True)
class Measured:
    """A measured run: the numbers of analysis.json, the arrays of measures.npz, and the tables."""

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
        directory: the run's.
        check: whether each file is compared with its checksum.

    Raises:
        Problem: the run is not finished, or a file has changed since it was measured.
    """
    path = directory / ANALYSIS
    if not path.is_file():
        raise Problem(f"{directory} is not a finished run: it has no {ANALYSIS}. Train it to its end first.")
    found = read_json(path)
    needed = {"condition", "seed", "items", "task", "sheets", "layers", "measures", "files"}
    if not isinstance(found, dict) or not needed <= found.keys():
        raise Problem(f"{path} is damaged or of another version. Delete it; the command that trained the run mends it.")
    if check:
        for name, kept in found["files"].items():
            file = directory / Path(name).name
            if not file.is_file() or digest(file) != kept:
                raise Problem(
                    f"{file} is missing or has changed since the run was measured. "
                    f"Delete {path}; the command that trained the run mends it."
                )
    return found


def read_measured(directory: Path, check: bool = True) -> Measured:
    """A measured run as it is on disk.

    Raises:
        Problem: see :func:`read_analysis`.
    """
    analysis = read_analysis(directory, check)
    tables = {name: directory / name for name in (METRICS, PRUNING)}
    metrics, pruning = (read_csv(path) if path.is_file() else [] for path in tables.values())
    return Measured(directory, analysis, read_npz(directory / MEASURES, MOST), metrics, pruning)


def checksums(directory: Path) -> dict[str, str]:
    """The checksum of each file of a run that is there."""
    return {name: digest(directory / name) for name in WHOLE if (directory / name).is_file()}
