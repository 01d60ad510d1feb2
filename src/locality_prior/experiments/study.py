"""Many runs at once: each is a job for a standard executor, with a live progress bar."""

from __future__ import annotations

import json
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from locality_prior._timing import cores
from locality_prior.experiments import data as datasets
from locality_prior.experiments.config import PROGRESS, Study, claim_study, run_directory
from locality_prior.experiments.machine import Machine, fabric, first
from locality_prior.experiments.train import job, train

#: Seconds between two looks at how far the runs are.
LOOK = 0.2


def run_study(
    study: Study,
    directory: Path,
    data_root: str | None = None,
    executor: Executor | None = None,
    console: Console | None = None,
    machine: Machine = Machine(),  # noqa: B008  # frozen
) -> None:
    """Train every run of ``study`` that ``directory`` does not hold finished yet.

    Args:
        study: what to run.
        directory: where; runs are under ``runs/``, and an interrupted study goes on where it was.
        data_root: see :func:`locality_prior.experiments.data.locate`.
        executor: where the jobs run (they share this file system); None: as many one-thread processes as there are
            cores, which end with this call.
        console: where progress is shown; None: standard error.
        machine: where one run is computed; one that takes more than this process's CPU computes them one by one.

    Raises:
        ValueError: bad data or directory, before anything is written; or what the first failing run raised.
    """
    root = datasets.locate(study.experiment, data_root)
    jobs = {key: run_directory(directory, *key) for key in study.runs()}
    console = console or Console(stderr=True)
    if executor is None and not machine.alone:
        _one_by_one(study, directory, jobs, None if root is None else str(root), machine, console)
        return
    claim_study(directory, study)
    with ExitStack() as stack:
        if executor is None:
            executor = stack.enter_context(processes(len(jobs)))
        futures = {
            executor.submit(job, run, str(jobs[key]), None if root is None else str(root), machine): key
            for key, run in study.runs().items()
        }
        _watch(futures, jobs, study.recipe.epochs, console)


def _one_by_one(
    study: Study,
    directory: Path,
    jobs: dict[tuple[str, int], Path],
    root: str | None,
    machine: Machine,
    console: Console,
) -> None:
    """Train run after run on all of ``machine``: every process of it comes here, and one writes and shows."""
    fabric(machine, study.recipe.precision)  # launches the other processes
    if first():
        claim_study(directory, study)
    with _progress(console, shown=first()) as progress:
        for key, run in study.runs().items():
            bar = progress.add_task(f"{key[0]} · seed {key[1]}", total=study.recipe.epochs, epoch=0)

            def tick(epoch: int, share: float, bar: TaskID = bar) -> None:
                progress.update(bar, completed=epoch - 1 + share, epoch=epoch - 1)

            train(run, jobs[key], root, machine, tick)
            progress.update(bar, completed=study.recipe.epochs, epoch=study.recipe.epochs)


def _progress(console: Console, shown: bool = True) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.fields[epoch]}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not (shown and console.is_terminal))


@contextmanager
def processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """As many processes as there are cores, and no more than jobs; they end with the block, at work or not."""
    # not forked from here, since torch's threads do not survive that, but from a server that has only imported
    server = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if server else "spawn")
    if server:
        context.set_forkserver_preload(["locality_prior.experiments.train", "lightning_fabric"])
        _start_server()
    executor = ProcessPoolExecutor(min(jobs, cores()), mp_context=context, initializer=_leave_interrupts)
    try:
        yield executor
    finally:
        _stop(executor)


def _start_server() -> None:
    """Start the fork server deaf to Ctrl-C, which it would otherwise answer with a traceback while it imports."""
    if threading.current_thread() is not threading.main_thread():
        return  # where signals cannot be set; the executor starts it
    from multiprocessing import forkserver  # here, since not every system has it

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _leave_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal: it is for the first one to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _stop(executor: ProcessPoolExecutor) -> None:
    """End an executor's processes, at work or not: every run can be taken up again from its last state."""
    executor.shutdown(wait=False, cancel_futures=True)
    for child in multiprocessing.active_children():
        child.kill()


def _watch(
    futures: dict[Future[None], tuple[str, int]], jobs: dict[tuple[str, int], Path], epochs: int, console: Console
) -> None:
    """Show progress until all is done, or raise what the first failing job raised."""
    with _progress(console) as progress:
        bars = {key: progress.add_task(f"{key[0]} · seed {key[1]}", total=epochs, epoch=0, start=False) for key in jobs}
        told = dict.fromkeys(jobs, 0)
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=LOOK, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            for future, key in futures.items():
                completed = float(epochs) if future.done() else _completed(jobs[key])
                if completed is None:
                    continue
                if int(completed) > told[key]:
                    told[key] = int(completed)
                    if not console.is_terminal:
                        console.print(f"{key[0]} · seed {key[1]} · epoch {told[key]}/{epochs}")
                progress.start_task(bars[key])
                progress.update(bars[key], completed=completed, epoch=int(completed))


def _completed(directory: Path) -> float | None:
    """Epochs that a run under way says it has done."""
    try:
        return float(json.loads((directory / PROGRESS).read_text())["epochs"])
    except (OSError, ValueError, KeyError):
        return None
