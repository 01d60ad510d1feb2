"""Running a study: each run is a cell, which is trained and measured once, in whatever process an executor has."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from locality_prior._check import Told, debugging, instance, short, wrong
from locality_prior._files import alone_in, sweep
from locality_prior._processes import processes, read_progress
from locality_prior.pruning import By
from locality_prior.runs import door
from locality_prior.runs import machine as machines
from locality_prior.runs.config import Run
from locality_prior.runs.files import PROGRESS
from locality_prior.runs.machine import Machine
from locality_prior.runs.measure import OF_LAYERS, OF_NETWORKS, OF_SHEETS, scores_of
from locality_prior.runs.network import Network, network
from locality_prior.runs.task import Task
from locality_prior.runs.training import arranger_of, check_fit, finished, job, task_of, train
from locality_prior.studies.progress import Key, Progress
from locality_prior.studies.study import Study, check_study, run_path, write_study

#: Seconds between two looks at how far the cells are.
LOOK = 0.2
#: What a process imports before it is given cells.
PRELOAD = ("locality_prior.runs.training", "lightning_fabric")


def run_study(
    study: Study,
    directory: str | Path,
    data_root: str | None = None,
    executor: Executor | None = None,
    console: Console | None = None,
    machine: Machine = Machine(),  # noqa: B008  # frozen
    quiet: bool = False,
) -> dict[Key, str]:
    """Train and measure every cell of ``study`` that is not finished yet in ``directory``.

    Each run has a directory of its own there, named after its settings, and continues where it was stopped. A cell
    that fails does not stop the others.

    >>> import torch
    >>> from locality_prior.runs import Task
    >>> from locality_prior.studies import Axes, Study, run_study
    >>> x, y = torch.rand(60, 16), torch.arange(60) % 3
    >>> task = Task.classification(train=(x[:40], y[:40]), test=(x[40:], y[40:]))
    >>> net = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> axes = Axes(task=task, model=net, place={"1": "4x4"}, local={"0": "4x4"}, cost="linear@2", seeds=[1], epochs=1)
    >>> run_study(Study(axes), "own-study")
    {}

    Args:
        study: what to run.
        directory: where to keep it.
        data_root: a folder that is passed to tasks with a parameter ``data_root``.
        executor: where the cells run; all of its processes must see the same files. None: processes of this machine
            with one thread each, as many as there are cores.
        console: where progress is shown; None: standard error.
        machine: the devices that compute one run. Unless that is one CPU process, the cells run one after another,
            as they do where a task or a model is a Python object without an import path.
        quiet: whether to show nothing but the cells that fail.

    Returns:
        Why cells failed, by (condition, seed). The same call tries these cells again.

    Raises:
        ValueError, TypeError: settings or data that do not fit. Nothing has been written then.
        Problem: ``directory`` holds something else, or another process is writing to it.
    """
    runs, directory = instance("study", study, Study, "a Study").runs(), Path(directory)
    portable = all(door.portable(word) for run in study.conditions().values() for word in (run.task, run.model))
    if executor is not None and not portable:
        raise wrong("executor", "one, with a task or model that is a Python object", "an import path for each of them")
    if executor is not None and not machine.alone:
        raise wrong("executor", "one, with a machine of several processes or devices", "one CPU process for each run")
    check_study(directory, study)
    _try_out(study, data_root, machine)
    console = console or Console(stderr=True)
    if executor is None and not (machine.alone and portable):
        return _one_by_one(study, directory, data_root, machine, console, quiet)
    with alone_in(directory):
        check_study(directory, study)  # again: another process may have been quicker
        sweep(directory)
        write_study(directory, study)
        return _all_at_once(runs, directory.absolute(), data_root, executor, machine, console, quiet)


def _try_out(study: Study, data_root: str | None, machine: Machine) -> None:
    """Make each task and each network once, so that what does not fit is reported before anything is written."""
    tasks: dict[str, Task] = {}
    measured: dict[Any, dict[str, list[str]]] = {}
    shown: set[Any] = set()
    conditions = study.conditions()
    for run in conditions.values():
        if run.task not in tasks:
            tasks[run.task] = task_of(run, data_root, machine)
        if _drawn(run) not in measured:
            made = network(run, tasks[run.task])
            measured[_drawn(run)] = _measures(tasks[run.task], made)
            if _drawn(run)[:5] not in shown:
                shown.add(_drawn(run)[:5])
                check_fit(made, tasks[run.task])
            arranger_of(run, made, tasks[run.task])
    for hypothesis in study.hypotheses:
        for name in study.compared(hypothesis):
            known = measured[_drawn(conditions[name])]
            base = hypothesis.measure.partition(".")[0]
            if hypothesis.measure not in known.get(base, ()):
                expected = known.get(base) or [of[0] for of in known.values() if of]
                raise wrong("measure", hypothesis.measure, f"one of {', '.join(expected)}")


def _drawn(run: Run) -> Any:
    """The settings on which a run's network, before it is trained, depends."""
    return run.task, run.model, run.place, run.local, run.objective, run.cost, run.shuffled, run.arrange


def _measures(task: Task, made: Network) -> dict[str, list[str]]:
    """The names of the measures that a run of this task and network will have, by what comes before the dot."""
    parts = dict.fromkeys(OF_SHEETS, tuple(made.placed)) | dict.fromkeys(OF_LAYERS, tuple(n.name for n in made.layers))
    parts |= dict.fromkeys(("pruned_wires", "pruned_length", "pruned_score"), get_args(By))
    found = {score.name: [score.name] for score in scores_of(task)}
    found |= {base: [f"{base}.{part}" for part in of] for base, of in parts.items()}
    return found | {name: [name] for name in OF_NETWORKS}


def _one_by_one(
    study: Study, directory: Path, data_root: str | None, machine: Machine, console: Console, quiet: bool
) -> dict[Key, str]:
    """Train one cell after another on all of ``machine``. Each of its processes runs this; one writes and reports."""
    runs = study.runs()
    machines.fabric(machine, next(iter(runs.values())).recipe.precision)  # launches the other processes
    writes = machines.first()
    errors: dict[Key, str] = {}
    with contextlib.ExitStack() as stack:
        if writes:
            stack.enter_context(alone_in(directory))
            check_study(directory, study)
            sweep(directory)
            write_study(directory, study)
        where = {key: directory / run_path(run) for key, run in runs.items()}
        done = sum(finished(run, where[key]) for key, run in runs.items())
        networks = {key: (run, where[key]) for key, run in runs.items()}
        shown = stack.enter_context(Progress(console, networks, done, quiet or not writes))
        shown.running({})
        for key, run in runs.items():
            if finished(run, where[key]):
                continue

            def tick(epoch: int, share: float, key: Key = key) -> None:
                shown.running({key: epoch - 1 + share})

            try:
                train(run, where[key], data_root, machine, tick, key[0])
                shown.ended(key)
            except Exception as error:
                if machine.alone:
                    errors[key] = _failure(error, where[key])
                    shown.ended(key, errors[key])
                else:
                    raise  # other processes wait for this one
    return errors


def _all_at_once(
    runs: dict[Key, Run],
    directory: Path,
    data_root: str | None,
    executor: Executor | None,
    machine: Machine,
    console: Console,
    quiet: bool,
) -> dict[Key, str]:
    """Train the cells in an executor's processes, as many at a time as these are."""
    where = {key: directory / run_path(run) for key, run in runs.items()}
    left = [key for key, run in runs.items() if not finished(run, where[key])]
    errors: dict[Key, str] = {}
    networks = {key: (run, where[key]) for key, run in runs.items()}
    with Progress(console, networks, len(runs) - len(left), quiet) as shown:
        shown.running({})
        turns = [left] if left else []
        while turns:
            now = turns.pop(0)
            for key in now:
                (where[key] / PROGRESS).unlink(missing_ok=True)  # of a run that was killed
            with processes(len(now), PRELOAD) if executor is None else contextlib.nullcontext(executor) as made:
                futures = {
                    made.submit(cell, runs[key], str(where[key]), data_root, machine, key[0]): key for key in now
                }
                try:
                    _watch(futures, where, errors, shown)
                finally:
                    for future in futures:
                        future.cancel()
            broken = [key for future, key in futures.items() if isinstance(_error(future), BrokenExecutor)]
            if broken and executor is not None:
                raise BrokenExecutor  # only the caller can make another
            if len(now) == 1:
                for key in broken:
                    shown.ended(key, errors.setdefault(key, "its process was ended from outside"))
                continue
            # a process that dies takes the others with it: each cell that was under way is tried again alone
            begun = [key for key in broken if (where[key] / PROGRESS).exists()] or broken
            rest = [key for key in broken if key not in begun]
            turns += [[key] for key in begun] + ([rest] if rest else [])
    return errors


def cell(run: Run, directory: str, data_root: str | None, machine: Machine, label: str) -> str | None:
    """Train and measure ``run``, as an executor's job. Returns why it failed, in one line; None where it did not.

    An error is returned as text, since an exception of a user's own class may not reach another process.
    """
    under_way = Path(directory, PROGRESS)
    try:
        under_way.parent.mkdir(parents=True, exist_ok=True)
        job(run, directory, data_root, label, machine)
        return None
    except Exception as error:
        return _failure(error, Path(directory))
    finally:
        under_way.unlink(missing_ok=True)


def _watch(
    futures: Mapping[Future[str | None], Key],
    where: dict[Key, Path],
    errors: dict[Key, str],
    shown: Progress,
) -> None:
    """Show how far the cells are until all have ended, and keep the errors of those that failed."""
    done: dict[Key, float] = {}
    pending = set(futures)
    while pending:
        ended, pending = wait(pending, timeout=LOOK, return_when=FIRST_COMPLETED)
        for future in pending:
            key = futures[future]
            epochs = read_progress(where[key] / PROGRESS)
            if epochs is not None:
                done[key] = epochs
        for future in ended:
            key = futures[future]
            done.pop(key, None)
            error = _error(future)
            if isinstance(error, BrokenExecutor):
                continue  # the cell is tried again
            why = future.result() if error is None else _failure(error, where[key])
            if why is None:
                shown.ended(key)
            else:
                errors[key] = why
                shown.ended(key, why)
        shown.running(done)


def _failure(error: BaseException, directory: Path) -> str:
    """An error in one line. The run's path is shortened to its name, so that a study is the same in any directory."""
    if debugging():
        traceback.print_exception(error)
    text = " ".join(str(error).replace(str(directory), directory.name).split())
    return short(text if isinstance(error, Told) else f"{type(error).__name__}: {text}", 300)


def _error(future: Future[Any]) -> BaseException | None:
    """The error of a job that has ended or was cancelled."""
    try:
        return future.exception()
    except CancelledError as error:
        return error
