"""Running a study: each run is a cell, trained and measured once, wherever an executor takes it."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from locality_prior._check import short
from locality_prior._files import alone_in, sweep
from locality_prior._processes import processes, read_progress
from locality_prior.runs import door
from locality_prior.runs import machine as machines
from locality_prior.runs.config import Run
from locality_prior.runs.files import PROGRESS
from locality_prior.runs.machine import Machine
from locality_prior.runs.network import network
from locality_prior.runs.task import Task
from locality_prior.runs.training import finished, job, train
from locality_prior.studies.study import Study, check_study, run_path, write_study

Key = tuple[str, int]  # condition, seed

#: Seconds between two looks at how far the cells are.
LOOK = 0.2
#: What a process imports before it is given cells.
PRELOAD = ("locality_prior.runs.training", "lightning_fabric")


def run_study(
    study: Study,
    directory: Path,
    data_root: str | None = None,
    executor: Executor | None = None,
    console: Console | None = None,
    machine: Machine = Machine(),  # noqa: B008  # frozen
) -> dict[Key, str]:
    """Train and measure every cell of ``study`` that ``directory`` does not hold finished yet.

    Args:
        study: what to run.
        directory: where; each run is in a directory named after its settings, and goes on where it was stopped.
        data_root: a folder that tasks get where they have a parameter ``data_root``.
        executor: where the cells run, on one file system; None: as many one-thread processes as there are cores.
        console: where progress is shown; None: standard error.
        machine: where one run is computed; where that takes more than one CPU process, the cells run one by one.

    Returns:
        The errors of the cells that failed. None of them stops the others; the same call tries them again.

    Raises:
        ValueError, Problem: settings, data or a directory that do not fit, before anything is written.
    """
    runs = study.runs()
    check_study(directory, study)
    _try_out(study, data_root, machine)
    console = console or Console(stderr=True)
    portable = all(door.portable(word) for run in runs.values() for word in (run.task, run.model))
    if executor is None and not (machine.alone and portable):
        return _one_by_one(study, directory, data_root, machine, console)
    with alone_in(directory):
        check_study(directory, study)  # again: another process may have been quicker
        sweep(directory)
        write_study(directory, study)
        return _all_at_once(runs, directory.absolute(), data_root, executor, console)


def _try_out(study: Study, data_root: str | None, machine: Machine) -> None:
    """Make each task and each network once, so that what does not fit is said before anything is written."""
    tasks: dict[str, Task] = {}
    seen = set()
    for run in study.conditions().values():
        if run.task not in tasks:
            offered = {"data_root": data_root, "workers": machine.workers, "skip_broken": machine.skip_broken}
            tasks[run.task] = door.call("task", run.task, Task, **offered)
        key = (run.task, run.model, run.place, run.local, run.cost, run.shuffled)
        if key not in seen:
            seen.add(key)
            network(run, tasks[run.task])


def _one_by_one(
    study: Study, directory: Path, data_root: str | None, machine: Machine, console: Console
) -> dict[Key, str]:
    """Train cell after cell on all of ``machine``: every process of it comes here, and one writes and shows."""
    runs = study.runs()
    machines.fabric(machine, next(iter(runs.values())).recipe.precision)  # launches the other processes
    first = machines.first()
    errors: dict[Key, str] = {}
    with contextlib.ExitStack() as stack:
        if first:
            stack.enter_context(alone_in(directory))
            check_study(directory, study)
            sweep(directory)
            write_study(directory, study)
        where = {key: directory / run_path(run) for key, run in runs.items()}
        done = sum(finished(run, where[key]) for key, run in runs.items())
        shown = stack.enter_context(_Shown(console, len(runs), done, quiet=not first))
        for key, run in runs.items():
            if finished(run, where[key]):
                continue

            def tick(epoch: int, share: float, key: Key = key, run: Run = run) -> None:
                shown.running({key: (epoch - 1 + share) / run.recipe.epochs})

            try:
                train(run, where[key], data_root, machine, tick, key[0])
                shown.done(key)
            except Exception as error:
                if machine.alone:
                    errors[key] = _said(error, where[key])
                    shown.failed(key, errors[key])
                else:
                    raise  # other processes wait for this one
    return errors


def _all_at_once(
    runs: dict[Key, Run], directory: Path, data_root: str | None, executor: Executor | None, console: Console
) -> dict[Key, str]:
    where = {key: directory / run_path(run) for key, run in runs.items()}
    left = [key for key, run in runs.items() if not finished(run, where[key])]
    errors: dict[Key, str] = {}
    with _Shown(console, len(runs), len(runs) - len(left)) as shown:
        turns = [left] if left else []
        while turns:
            now = turns.pop(0)
            for key in now:
                (where[key] / PROGRESS).unlink(missing_ok=True)  # of a run that was killed
            with processes(len(now), PRELOAD) if executor is None else contextlib.nullcontext(executor) as made:
                futures = {made.submit(cell, runs[key], str(where[key]), data_root, key[0]): key for key in now}
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
            # a process that dies takes the other cells with it: those under way are tried one by one
            begun = [key for key in broken if (where[key] / PROGRESS).exists()] or broken
            rest = [key for key in broken if key not in begun]
            turns += [[key] for key in begun] + ([rest] if rest else [])
    return errors


def cell(run: Run, directory: str, data_root: str | None, label: str) -> None:
    """Train and measure ``run``, as an executor's job."""
    under_way = Path(directory, PROGRESS)
    under_way.parent.mkdir(parents=True, exist_ok=True)
    job(run, directory, data_root, label)
    under_way.unlink(missing_ok=True)


def _watch(
    futures: dict[Future[None], Key],
    where: dict[Key, Path],
    runs: dict[Key, Run],
    errors: dict[Key, str],
    shown: _Shown,
) -> None:
    """Show how far the cells are until all have ended, and keep the errors of those that failed."""
    shares: dict[Key, float] = {}
    pending = set(futures)
    while pending:
        ended, pending = wait(pending, timeout=LOOK, return_when=FIRST_COMPLETED)
        for future in pending:
            key = futures[future]
            epochs = read_progress(where[key] / PROGRESS)
            if epochs is not None:
                shares[key] = epochs / runs[key].recipe.epochs
        for future in ended:
            key = futures[future]
            shares.pop(key, None)
            error = _error(future)
            if error is None:
                shown.done(key)
            elif not isinstance(error, BrokenExecutor):
                errors[key] = _said(error, where[key])
                shown.failed(key, errors[key])
        shown.running(shares)


def _said(error: BaseException, directory: Path) -> str:
    """An error in one line. A path becomes the run's name: the study is to be the same in any directory."""
    text = " ".join(str(error).replace(str(directory), directory.name).split())
    return short(text) if text else type(error).__name__


def _error(future: Future[None]) -> BaseException | None:
    """The error of a job that has ended, or that it was cancelled."""
    try:
        return future.exception()
    except CancelledError as error:
        return error


class _Shown:
    """One display of a whole study: cells done, running and failed, and the time left."""

    def __init__(self, console: Console, cells: int, done: int, quiet: bool = False) -> None:
        self.console, self.cells, self.found, self.ended, self.wrong = console, cells, done, 0, 0
        self.quiet = quiet
        self.started, self.share = time.monotonic(), 0.0
        columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}")
        self.progress = Progress(*columns, console=console, disable=quiet or not console.is_terminal)
        self.task = self.progress.add_task("", total=cells, completed=done, left="")

    def __enter__(self) -> _Shown:
        self.progress.start()
        if not self.console.is_terminal:
            self._print(self._counts(0))
        return self

    def __exit__(self, *_: Any) -> None:
        self.progress.stop()

    def running(self, shares: dict[Key, float]) -> None:
        """Show the cells under way, and the share of each that is done."""
        self.share = sum(shares.values())
        completed = self.found + self.ended + self.wrong + self.share
        self.progress.update(self.task, description=self._counts(len(shares)), completed=completed, left=self._left())

    def done(self, key: Key) -> None:
        """Count a cell that has finished."""
        self.ended += 1
        if not self.console.is_terminal:
            self._print(f"{key[0]} · seed {key[1]} · {self._counts(0)}{self._left()}")

    def failed(self, key: Key, error: str) -> None:
        """Count a cell that has failed, and say why."""
        self.wrong += 1
        self._print(f"failed: {key[0]} · seed {key[1]} · {error}")

    def _print(self, text: str) -> None:
        if not self.quiet:
            self.console.print(escape(text), highlight=False)

    def _counts(self, running: int) -> str:
        under = f" · {running} running" if running else ""
        return f"{self.found + self.ended} of {self.cells} networks{under} · {self.wrong} failed"

    def _left(self) -> str:
        """The time left, by the time that the cells so far have taken."""
        done = self.ended + self.wrong + self.share
        if not done:
            return ""
        seconds = (time.monotonic() - self.started) / done * (self.cells - self.found - done)
        return f" · {seconds / 60:.0f} min left" if seconds >= 90 else f" · {seconds:.0f} s left"
