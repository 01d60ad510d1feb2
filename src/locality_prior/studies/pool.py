"""Many runs at once: each is a job for a standard executor, and tells how far it is."""

from __future__ import annotations

import json
import multiprocessing
import signal
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from locality_prior._check import wrong
from locality_prior._timing import cores
from locality_prior.experiments.config import PROGRESS

K = TypeVar("K")

#: Seconds between two looks at how far the runs are.
LOOK = 0.2


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


@contextmanager
def cluster(where: str) -> Iterator[Executor | None]:
    """The workers of the ``distributed`` scheduler at ``dask://host:port``; None for ``processes``, of this machine.

    Raises:
        ValueError: neither, or workers that run several jobs in one process: training sets a process's generator.
        OSError: no scheduler there.
    """
    if where == "processes":
        yield None
        return
    if not where.startswith("dask://"):
        raise wrong("executor", repr(where), "processes, or dask://host:port of a scheduler")
    from distributed import Client

    with Client("tcp://" + where.removeprefix("dask://"), timeout=20, set_as_default=False) as client:
        threads = client.nthreads()
        if not threads or max(threads.values()) > 1:
            given = f"{where} with workers of {sorted(threads.values())} threads"
            raise wrong("executor", given, "one or more workers of one thread each (dask worker --nthreads 1)")
        yield client.get_executor(pure=False)


@dataclass(frozen=True)
class Standing:
    """How far a run is: epochs it says it has done (None before it begins), and whether its job has ended."""

    epochs: float | None
    ended: bool


def follow(futures: Mapping[Future[Any], K], directories: Mapping[K, Path]) -> Iterator[dict[K, Standing]]:
    """How far every job is, again and again until all have ended; what failed is for the caller to ask its future."""
    pending = set(futures)
    while True:
        _, pending = wait(pending, timeout=LOOK, return_when=FIRST_COMPLETED)
        yield {
            key: Standing(_epochs(directories[key]) if future in pending else None, future not in pending)
            for future, key in futures.items()
        }
        if not pending:
            return


def _epochs(directory: Path) -> float | None:
    """Epochs that a run under way says it has done."""
    try:
        return float(json.loads((directory / PROGRESS).read_text())["epochs"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
