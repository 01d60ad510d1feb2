"""The document's experiment: a control and a local network, trained side by side; which runs, and running them."""

from __future__ import annotations

import dataclasses
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from locality_prior._check import wrong
from locality_prior._files import write_text
from locality_prior.experiments import data as datasets
from locality_prior.experiments.config import (
    CONTROL,
    AlexNet,
    DataName,
    Recipe,
    Run,
    check_run,
    difference,
    parts,
    plain,
    read_config,
    vacant,
)
from locality_prior.experiments.machine import Machine, fabric, first
from locality_prior.experiments.train import job, train
from locality_prior.studies.pool import follow, processes

#: What a reproduction's directory holds, beside its runs.
REPRODUCTION, SUMMARY = "reproduction.yaml", "summary.json"

#: The conditions that every reproduction has, and the cost of each in one word.
LOCAL = "local"
CONDITIONS = {CONTROL: "flat", LOCAL: "linear"}


@dataclass(frozen=True)
class Reproduction:
    """Runs to compare: every seed under every condition, all else equal."""

    experiment: DataName
    recipe: Recipe
    seeds: tuple[int, ...]
    conditions: dict[str, str]  # name → cost; "control" and "local" are always there
    sheet: tuple[int, int] = (7, 7)
    alexnet: AlexNet | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.conditions, dict) or not {CONTROL, LOCAL} <= self.conditions.keys():
            raise wrong("conditions", self.conditions, f"costs by name, {CONTROL} and {LOCAL} among them")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise wrong("seeds", list(self.seeds), "one or more different whole numbers")
        self.runs()

    def runs(self) -> dict[tuple[str, int], Run]:
        """Every run by (condition, seed): seed by seed, so that pairs finish together."""
        return {
            (name, seed): Run(self.experiment, cost, self.recipe, seed, self.sheet, self.alexnet)
            for seed in self.seeds
            for name, cost in self.conditions.items()
        }


def run_name(condition: str, seed: int) -> str:
    """The name of a run's directory within a study."""
    return f"{condition.replace(':', '_')}-seed{seed}"  # a colon is not for every file system


def run_directory(study: Path, condition: str, seed: int) -> Path:
    """Where a study keeps one of its runs."""
    return study / "runs" / run_name(condition, seed)


def read_reproduction(directory: Path) -> Reproduction:
    """The config of the study in ``directory``."""
    return read_config(directory / REPRODUCTION, _made)


def _made(values: dict[str, Any]) -> Reproduction:
    return Reproduction(**{**parts(values), "seeds": tuple(values["seeds"])})


def claim(directory: Path, study: Reproduction) -> None:
    """Make ``directory`` the home of ``study``. One of the same experiment and recipe may gain seeds and conditions.

    Raises:
        ValueError: it holds something else, or a study or run of other settings; nothing is written then.
    """
    if not vacant(directory, REPRODUCTION):
        found = read_reproduction(directory)
        kept = dataclasses.replace(study, seeds=found.seeds, conditions=found.conditions)
        if found != kept:
            raise wrong(
                "out", f"{directory}, which holds {difference(found, kept)}", "a new directory or the same settings"
            )
        if not (set(found.seeds) <= set(study.seeds) and found.conditions.items() <= study.conditions.items()):
            held = f"seeds {list(found.seeds)} under {', '.join(found.conditions)}"
            raise wrong("out", f"{directory}, which holds {held}", "a new directory, or all of these and more")
    for (condition, seed), run in study.runs().items():
        check_run(run_directory(directory, condition, seed), run)
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / REPRODUCTION, yaml.safe_dump(plain(study), sort_keys=False))


def reproduce(
    study: Reproduction,
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
    claim(directory, study)
    with ExitStack() as stack:
        if executor is None:
            executor = stack.enter_context(processes(len(jobs)))
        futures = {
            executor.submit(job, run, str(jobs[key]), None if root is None else str(root), machine): key
            for key, run in study.runs().items()
        }
        _watch(futures, jobs, study.recipe.epochs, console)


def _one_by_one(
    study: Reproduction,
    directory: Path,
    jobs: dict[tuple[str, int], Path],
    root: str | None,
    machine: Machine,
    console: Console,
) -> None:
    """Train run after run on all of ``machine``: every process of it comes here, and one writes and shows."""
    fabric(machine, study.recipe.precision)  # launches the other processes
    if first():
        claim(directory, study)
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


def _watch(
    futures: dict[Future[None], tuple[str, int]], jobs: dict[tuple[str, int], Path], epochs: int, console: Console
) -> None:
    """Show progress until all is done, or raise what the first failing job raised."""
    with _progress(console) as progress:
        bars = {key: progress.add_task(f"{key[0]} · seed {key[1]}", total=epochs, epoch=0, start=False) for key in jobs}
        told = dict.fromkeys(jobs, 0)
        for standings in follow(futures, jobs):
            for future in futures:
                if future.done():
                    future.result()
            for key, standing in standings.items():
                completed = float(epochs) if standing.ended else standing.epochs
                if completed is None:
                    continue
                if int(completed) > told[key]:
                    told[key] = int(completed)
                    if not console.is_terminal:
                        console.print(f"{key[0]} · seed {key[1]} · epoch {told[key]}/{epochs}")
                progress.start_task(bars[key])
                progress.update(bars[key], completed=completed, epoch=int(completed))
