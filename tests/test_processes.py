"""Processes that end with their block and with their parent, clusters that answer, and how far jobs are."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from locality_prior import _processes, _timing
from locality_prior._check import Problem
from locality_prior._processes import (
    check_processes,
    cluster,
    processes,
    read_progress,
    write_progress,
)


def wait_for(true: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def alive(process: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# Processes of this machine


def test_no_more_processes_than_cores_or_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_timing, "cores", lambda: 3)
    assert [check_processes("devices", value) for value in (1, 3)] == [1, 3]
    for value in (4, 999_999):
        with pytest.raises(ValueError, match=rf"\Adevices: got {value}, expected at most 3, the number of cores"):
            check_processes("devices", value)
    for value in (0, -1, 1.5, True, "2", None):
        with pytest.raises(ValueError, match=r"devices: got .*, expected a whole number of at least 1"):
            check_processes("devices", value)
    for jobs, started in ((1, 1), (2, 2), (999_999, 3)):
        with processes(jobs) as executor:
            assert executor._max_workers == started
    with pytest.raises(ValueError, match="jobs: got 0"), processes(0):
        pass


def test_only_its_own_processes_end_with_a_block() -> None:
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    other.start()
    try:
        begun = time.monotonic()
        with processes(2) as executor:
            worker = executor.submit(os.getpid).result()
            jobs = [executor.submit(time.sleep, 60) for _ in range(4)]
        assert time.monotonic() - begun < 10
        assert not alive(worker)
        assert other.is_alive()
        for job in jobs:
            assert isinstance(job.cancelled() or job.exception(), (bool, BrokenProcessPool))
    finally:
        other.kill()
        other.join()


def test_two_blocks_do_not_end_one_another() -> None:
    with processes(1) as outer:
        worker = outer.submit(os.getpid).result()
        with processes(1) as inner:
            assert inner.submit(os.getpid).result() != worker
        assert outer.submit(os.getpid).result() == worker


def test_jobs_do_not_hear_ctrl_c() -> None:
    with processes(1) as executor:
        worker = executor.submit(os.getpid).result()
        os.kill(worker, signal.SIGINT)
        assert executor.submit(os.getpid).result() == worker


PARENT = """
import sys, time
from locality_prior._processes import processes
print("begun", flush=True)
with processes(2, ["locality_prior._processes", "json.tool"]) as executor:
    executor.submit(sum, range(3)).result()
    {jobs}
    print("working", flush=True)
    time.sleep(60)
"""
#: What the workers are busy with when their parent is killed: nothing, waiting, computing, importing.
JOBS = {
    "idle": "pass",
    "waiting": "[executor.submit(time.sleep, 600) for _ in range(4)]",
    "computing": "[executor.submit(exec, 'while True: pass') for _ in range(4)]",
    "importing": "[executor.submit(exec, 'import time, torch, scipy.stats; time.sleep(600)') for _ in range(4)]",
}


def marked(mark: str) -> list[int]:
    """The processes that are there with ``mark`` in their environment, which all descendants inherit."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes() and alive(int(path.name)):
                found.append(int(path.name))
        except OSError:
            pass
    return found


def kill_parent(jobs: str, seconds: float | None) -> int:
    """Kill a parent so many seconds after it began, or once its workers are at work; how many others were there."""
    mark = uuid.uuid4().hex
    environment = os.environ | {"MARK": mark, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PARENT.format(jobs=jobs)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        if seconds is None:
            assert parent.stdout.readline() == b"working\n"
        else:
            time.sleep(seconds)
        others = len(marked(mark)) - 1
        parent.kill()
    try:
        wait_for(lambda: not marked(mark), 5)
    finally:
        for process in marked(mark):
            os.kill(process, signal.SIGKILL)
    return others


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")


@needs_proc
@pytest.mark.parametrize("jobs", JOBS.values(), ids=JOBS)
def test_nothing_outlives_a_killed_parent(jobs: str) -> None:
    assert kill_parent(jobs, None) >= 3  # the fork server, the resource tracker, at least one worker


@needs_proc
@pytest.mark.parametrize("seconds", [0.05, 0.3])
def test_nothing_outlives_a_parent_killed_as_it_begins(seconds: float) -> None:
    kill_parent(JOBS["computing"], seconds)


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("jobs", JOBS.values(), ids=JOBS)
def test_nothing_outlives_a_parent_killed_at_any_moment(jobs: str) -> None:
    drawn = random.Random(0)
    for _ in range(15):
        kill_parent(jobs, drawn.choice([drawn.uniform(0, 0.3), drawn.uniform(0, 3)]))


# A cluster


def test_an_address_that_is_none_is_told() -> None:
    for given in (
        "",
        "threads",
        "tcp://here:80",
        "dask://",
        "dask://host",
        "dask://:8786",
        "dask://host:0",
        "dask://host:port",
        "dask://host:99999",
        "dask://host:-1",
        "dask://me@host:1",
        "dask://host:1/path",
        "dask://[::1",
    ):
        with pytest.raises(ValueError, match=r"\Aexecutor: got '.*', expected processes, or dask://host:port"):
            cluster(given).__enter__()
    with pytest.raises(TypeError, match="executor: got None, expected processes, or"):
        cluster(None).__enter__()  # type: ignore[arg-type]
    with cluster("processes") as executor:
        assert executor is None


def reply(listener: socket.socket, answer: bytes) -> None:
    with listener.accept()[0] as accepted:
        accepted.sendall(answer)


@pytest.mark.parametrize("answer", [None, b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["closed", "silent", "other"])
def test_a_scheduler_that_does_not_answer_is_told_soon(answer: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    assert _processes.ANSWER <= 5
    monkeypatch.setattr(_processes, "ANSWER", 1.0)
    with socket.socket() as listener, ThreadPoolExecutor(1) as thread:
        listener.bind(("127.0.0.1", 0))
        where = f"dask://127.0.0.1:{listener.getsockname()[1]}"
        if answer is not None:
            listener.listen()
        if answer:
            thread.submit(reply, listener, answer)
        begun = time.monotonic()
        with pytest.raises(Problem) as caught:
            cluster(where).__enter__()
        assert time.monotonic() - begun < 5
        listener.close()
    assert str(caught.value) == (
        f"No Dask scheduler answers at {where}. Start one (dask scheduler), or give the address that it shows."
    )


CLUSTER = """
import os
from distributed import LocalCluster
from locality_prior._processes import cluster
options = dict(n_workers=1, processes=False, host="127.0.0.1", protocol="tcp", dashboard_address=None)
for threads in 1, 2:
    with LocalCluster(threads_per_worker=threads, **options) as started:
        where = started.scheduler_address.replace("tcp", "dask")
        try:
            with cluster(where) as executor:
                print(executor.submit(sum, [threads, 40]).result())
        except ValueError as error:
            print(str(error).replace(where, "WHERE"))
"""


def test_a_cluster_has_workers_of_one_thread() -> None:
    pytest.importorskip("distributed")
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", CLUSTER], capture_output=True, text=True, timeout=60, env=environment, check=True
    )
    assert done.stdout.splitlines() == [
        "41",
        "executor: got WHERE with workers of [2] threads, expected one or more workers of one thread each "
        "(dask worker --nthreads 1)",
    ]


# How far the jobs are


def test_progress_is_told_by_a_file(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    assert read_progress(path) is None
    for done in (0.5, 2):
        write_progress(path, done)
        assert read_progress(path) == done
    for damaged in ("", "{", "[]", "3", "{}", '{"done": null}', '{"done": NaN}', '{"done": "1"}', "[" * 999, "\xff"):
        path.write_text(damaged, encoding="latin-1")
        assert read_progress(path) is None
    path.unlink()
    os.mkfifo(path)
    assert read_progress(path) is None


def test_nothing_is_imported_before_it_is_needed() -> None:
    code = "import sys, locality_prior._processes; assert not {'torch', 'distributed'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
