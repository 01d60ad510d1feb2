"""Running a study: each of its runs is a cell, trained and measured once, wherever an executor takes it."""

from __future__ import annotations

import contextlib
import json
import time
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from locality_prior._files import write_text
from locality_prior.experiments import data as datasets
from locality_prior.experiments.config import PROGRESS, Run, claim_run, read_run
from locality_prior.experiments.finish import whole
from locality_prior.experiments.machine import Machine
from locality_prior.experiments.measure import analyse_run, read_measures
from locality_prior.experiments.train import job
from locality_prior.studies import pool
from locality_prior.studies.study import Study, cell_directory, claim_study

Key = tuple[str, int]  # condition, seed


def run_study(
    study: Study,
    directory: Path,
    data_root: str | None = None,
    executor: Executor | None = None,
    console: Console | None = None,
) -> dict[Key, str]:
    """Train and measure every cell of ``study`` that ``directory`` does not hold finished yet.

    Args:
        study: what to run.
        directory: where; each run is in a directory named after its settings, and goes on where it was stopped.
        data_root: see :func:`locality_prior.experiments.data.locate`.
        executor: where the cells run, on one file system; None: as many one-thread processes as there are cores.
        console: where progress is shown; None: standard error.

    Returns:
        What the cells that failed said. None of them stops the others; the same call tries them again.

    Raises:
        ValueError: bad data or directory, before anything is written.
    """
    runs = study.runs()
    roots = {run.data: datasets.locate(run.data, data_root) for run in runs.values()}
    claim_study(directory, study)
    where = {key: cell_directory(directory.absolute(), run) for key, run in runs.items()}
    left = [key for key, run in runs.items() if not finished(run, where[key])]
    errors: dict[Key, str] = {}
    with _Shown(console or Console(stderr=True), len(runs), len(runs) - len(left)) as shown:
        turns = [left] if left else []
        while turns:
            now = turns.pop(0)
            for key in now:
                (where[key] / PROGRESS).unlink(missing_ok=True)  # of a run that was killed
            with pool.processes(len(now)) if executor is None else contextlib.nullcontext(executor) as made:
                futures = {}
                for key in now:
                    root = roots[runs[key].data]
                    submitted = made.submit(cell, runs[key], str(where[key]), None if root is None else str(root))
                    futures[submitted] = key
                try:
                    _watch(futures, where, runs, errors, shown)
                finally:
                    for future in futures:
                        future.cancel()
            broken = [key for future, key in futures.items() if isinstance(_error(future), BrokenExecutor)]
            if broken and executor is not None:
                raise BrokenExecutor  # which is the caller's to mend
            if len(now) == 1:
                for key in broken:
                    shown.failed(key, errors.setdefault(key, "its process was ended from outside"))
                continue
            # a cell whose process dies takes others with it: those under way are tried one by one, to know which it is
            begun = [key for key in broken if (where[key] / PROGRESS).exists()] or broken
            rest = [key for key in broken if key not in begun]
            turns += [[key] for key in begun] + ([rest] if rest else [])
    return errors


def cell(run: Run, directory: str, data_root: str | None) -> None:
    """Train ``run``, and measure it, as an executor's job."""
    claim_run(Path(directory), run)
    under_way = Path(directory, PROGRESS)
    write_text(under_way, json.dumps({"epochs": 0}))
    job(run, directory, data_root, Machine())
    if not finished(run, Path(directory)):
        analyse_run(Path(directory))
    under_way.unlink(missing_ok=True)


def finished(run: Run, directory: Path) -> bool:
    """Whether ``directory`` holds ``run``, trained and measured by all of today's measures."""
    try:
        return bool(read_measures(directory)) and trained(run, directory)
    except (OSError, ValueError):
        return False


def trained(run: Run, directory: Path) -> bool:
    """Whether ``directory`` holds ``run``, trained to its end."""
    try:
        return read_run(directory) == run and whole(directory)
    except (OSError, ValueError):
        return False


def _watch(
    futures: dict[Future[None], Key],
    where: dict[Key, Path],
    runs: dict[Key, Run],
    errors: dict[Key, str],
    shown: _Shown,
) -> None:
    """Show how the cells are until all have ended, and keep what the failed ones said."""
    told: set[Key] = set()
    shares: dict[Key, float] = {}  # of each that has begun: one that is trained is still to be measured
    for standings in pool.follow(futures, where):
        shares |= {k: s.epochs / runs[k].recipe.epochs for k, s in standings.items() if s.epochs is not None}
        shown.running({k: share for k, share in shares.items() if not standings[k].ended})
        for future, key in futures.items():
            if not standings[key].ended or key in told:
                continue
            told.add(key)
            error = _error(future)
            if error is None:
                shown.done(key)
            elif not isinstance(error, BrokenExecutor):
                # a path is this directory's, and a comparison is to be the same in any other
                said = str(error).replace(str(where[key]), where[key].name)
                errors[key] = " ".join(said.split()) or type(error).__name__
                shown.failed(key, errors[key])


def _error(future: Future[None]) -> BaseException | None:
    """What a job that has ended raised, or that it was cancelled."""
    try:
        return future.exception()
    except CancelledError as error:
        return error


class _Shown:
    """One display of a whole study: cells done, running and failed, and the time left."""

    def __init__(self, console: Console, cells: int, done: int) -> None:
        self.console, self.cells, self.found, self.ended, self.wrong = console, cells, done, 0, 0
        self.started, self.share = time.monotonic(), 0.0
        columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}")
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.task = self.progress.add_task("", total=cells, completed=done, left="")

    def __enter__(self) -> _Shown:
        self.progress.start()
        if not self.console.is_terminal:
            self.console.print(self._counts(0))
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()

    def running(self, shares: dict[Key, float]) -> None:
        """Show the cells under way, and how much of each is done."""
        self.share = sum(shares.values())
        completed = self.found + self.ended + self.wrong + self.share
        self.progress.update(self.task, description=self._counts(len(shares)), completed=completed, left=self._left())

    def done(self, key: Key) -> None:
        """Count a cell that has finished."""
        self.ended += 1
        if not self.console.is_terminal:
            self.console.print(f"{key[0]} · seed {key[1]} · {self._counts(0)}{self._left()}", highlight=False)

    def failed(self, key: Key, error: str) -> None:
        """Count a cell that has failed, and say why."""
        self.wrong += 1
        self.console.print(f"failed: {key[0]} · seed {key[1]} · {error}", highlight=False, markup=False)

    def _counts(self, running: int) -> str:
        under = f" · {running} running" if running else ""
        return f"{self.found + self.ended} of {self.cells} cells{under} · {self.wrong} failed"

    def _left(self) -> str:
        """The time left, by that of the cells so far."""
        done = self.ended + self.wrong + self.share
        if not done:
            return ""
        seconds = (time.monotonic() - self.started) / done * (self.cells - self.found - done)
        return f" · {seconds / 60:.0f} min left" if seconds >= 90 else f" · {seconds:.0f} s left"
