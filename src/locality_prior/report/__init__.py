"""Run directories → one self-contained page. Nothing else is read, so it can be made again anywhere, any time later."""

from __future__ import annotations

from pathlib import Path

from locality_prior._check import wrong
from locality_prior.report import findings, reproduction
from locality_prior.studies.reproduction import REPRODUCTION
from locality_prior.studies.study import STUDY


def write(directory: Path) -> Path:
    """Write ``report.html`` and ``figures/`` (PNG and PDF) into an analysed study or reproduction; the page's path.

    Raises:
        ValueError: there is none in ``directory``, or one that is not finished or not analysed.
    """
    if not any((directory / name).exists() for name in (STUDY, REPRODUCTION)):
        raise wrong("directory", str(directory), f"one that holds {STUDY} or {REPRODUCTION}")
    return findings.write(directory) if (directory / STUDY).exists() else reproduction.write(directory)
