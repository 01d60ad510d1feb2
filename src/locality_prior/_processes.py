"""Many jobs at once: processes of this machine or a cluster's workers, and how far each job is.

Each is a standard executor of :mod:`concurrent.futures`. Nothing here imports torch before a block begins.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection
from typing import Any
from urllib.parse import urlsplit

from locality_prior import _timing
from locality_prior._check import Problem, count, instance, number, wrong
from locality_prior._files import StrPath, read_json, write_json

#: Seconds to wait for a scheduler to answer, and for a killed process to be gone.
ANSWER, GONE = 4.0, 5.0


def check_processes(name: str, value: Any) -> int:
    """``value`` as a number of processes that compute on a CPU: at least 1, and no more than there are cores.

    Raises:
        ValueError: another number, or no whole number.
    """
    most = _timing.cores()
    found = count(name, value)
    if found > most:
        raise wrong(name, value, f"at most {most}, the number of cores that may be used here")
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Processes of this machine


@contextmanager
def processes(jobs: int, preload: Sequence[str] = ()) -> Iterator[ProcessPoolExecutor]:
    """An executor with a process for each job, but no more processes than cores.

    Its processes end with the block, even in the middle of a job. They also end when this process ends, however it
    ends. Ctrl-C is left to this process. Other processes that this one has started are not touched.

    Args:
        jobs: how many jobs there will be.
        preload: names of the modules that the jobs need. They are imported once, and shared by all the processes.
    """
    # A process that is forked from this one could hang, since torch's threads do not survive a fork. So a server that
    # has imported the modules, and has started no thread, forks them.
    server = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if server else "spawn")
    if server:
        context.set_forkserver_preload(list(preload))
        _start_server()
    workers = min(count("jobs", jobs), _timing.cores())
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)
    try:
        yield executor
    finally:
        _end(executor)


def _start_server() -> None:
    """Start the fork server so that it ignores Ctrl-C, which it would answer with a traceback while it imports."""
    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread can set signals; the executor will start the server
    from multiprocessing import forkserver  # not every system has it

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _begin_worker() -> None:
    """What a process does before its first job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()


def _end_with_parent() -> None:
    """End this process as soon as the one that it works for has ended.

    It would otherwise wait for jobs for ever: the pipe that they come through is held open by the other workers.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _end(executor: ProcessPoolExecutor) -> None:
    """End an executor's own processes, even in the middle of a job."""
    # Executor.kill_workers does this from Python 3.14 on; shutdown forgets the processes
    workers = list((executor._processes or {}).values())
    executor.shutdown(wait=False, cancel_futures=True)
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join(GONE)


# ---------------------------------------------------------------------------------------------------------------------
# A cluster


@contextmanager
def cluster(where: str) -> Iterator[Executor | None]:
    """The executor of the Dask scheduler at ``dask://host:port``; None for ``processes``, those of this machine.

    Raises:
        ValueError: another word or address, or workers that run several jobs in one process at a time, since these
            would share one random generator.
        Problem: no scheduler answers within a few seconds, or ``distributed`` is not installed.
    """
    if instance("executor", where, str, "processes, or dask://host:port") == "processes":
        yield None
        return
    address = _address(where)
    try:
        from distributed import Client
    except ImportError:
        raise Problem(f"{where} needs the package distributed: pip install locality-prior[cluster].") from None
    try:
        with ThreadPoolExecutor(1) as thread:  # since this one may have an event loop already, as in a notebook
            thread.submit(lambda: asyncio.run(_answers(address))).result()
        client = Client(address, timeout=ANSWER, set_as_default=False)
    except Exception:  # what does not speak Dask's protocol raises almost anything
        raise Problem(
            f"No Dask scheduler answers at {where}. Start one (dask scheduler), or give the address that it shows."
        ) from None
    with client:
        threads = client.nthreads()
        if not threads or max(threads.values()) > 1:
            given = f"{where} with workers of {sorted(threads.values())} threads"
            raise wrong("executor", given, "one or more workers of one thread each (dask worker --nthreads 1)")
        yield client.get_executor(pure=False)


def _address(where: str) -> str:
    """The address for Dask's client."""
    try:
        parts = urlsplit(where)
        host, port = parts.hostname, parts.port
        fits = parts.scheme == "dask" and host and port and parts.path in ("", "/") and "@" not in where
    except ValueError:  # a port that is no number, or above 65535
        fits = False
    if not fits:
        raise wrong("executor", repr(where), "processes, or dask://host:port of a scheduler")
    return f"tcp://[{host}]:{port}" if host and ":" in host else f"tcp://{host}:{port}"


async def _answers(address: str) -> None:
    """Raise where nothing that speaks Dask's protocol answers: the client alone would wait for ever for some."""
    from distributed.comm import connect

    async def look() -> None:
        (await connect(address, timeout=ANSWER)).abort()

    await asyncio.wait_for(look(), ANSWER)


# ---------------------------------------------------------------------------------------------------------------------
# How far the jobs are


def write_progress(path: StrPath, done: float) -> None:
    """Tell another process by a small file how much of a job is done, in whatever unit the reader expects.

    It takes about a millisecond: a job should not call it more than a few times a second.
    """
    write_json(path, {"done": done})


def read_progress(path: StrPath) -> float | None:
    """How much is done, as :func:`write_progress` told it; None where the file is missing or damaged."""
    try:
        return number("done", read_json(path, 1000)["done"])
    except (ValueError, KeyError, TypeError, IndexError):
        return None
