"""One run: a visible loop whose every epoch is kept, and which goes on where it was stopped, bit for bit."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from locality_prior._check import wrong
from locality_prior._files import alone_in, partial_name, write_text
from locality_prior.experiments import data as datasets
from locality_prior.experiments import machine as machines
from locality_prior.experiments.config import (
    LOGS,
    METRICS,
    MODEL,
    PROGRESS,
    STATE,
    Recipe,
    Run,
    check_run,
    claim_run,
    run_from,
)
from locality_prior.experiments.data import Data
from locality_prior.experiments.finish import finish, whole, write_table
from locality_prior.experiments.loop import Loop, Tick, diverged
from locality_prior.experiments.machine import Machine
from locality_prior.experiments.models import Network, network

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Copies of a network's parameters in its state, the optimiser's included.
COPIES = {"sgd": 2, "rmsprop": 3}


def train(
    run: Run,
    directory: Path,
    data_root: str | None = None,
    machine: Machine = Machine(),  # noqa: B008  # frozen
    tick: Tick | None = None,
) -> bool:
    """Train ``run`` in ``directory``, from wherever it stands there.

    After each epoch, and every few minutes within one, ``state.pt`` is replaced in one step: a stop at any moment loses
    no more than that, and a resumed run ends in the same weights. Data order and dropout are drawn from seed and epoch,
    what is done to a photograph from its number too.

    Returns:
        Whether this is the process that writes: with several devices, one of them does.

    Raises:
        ValueError: a directory of another run, a state that cannot be read, missing or unreadable data, a loss that
            diverges (the state is kept as it then was).
        OSError: a directory that cannot be written to, or a disk with too little room.
    """
    check_run(directory, run)
    recipe = run.recipe
    state = _read_state(directory / STATE, run)
    if state and state["epoch"] == recipe.epochs and whole(directory):
        return machines.first()
    crop = run.alexnet.crop if run.alexnet else 0
    data = datasets.load(run.data, data_root, crop, machine.workers, machine.skip_broken)
    if state and state.get("sizes", data.sizes) != data.sizes:
        had, has = (f"{k} classes, {n:,} + {m:,} images" for k, n, m in (state["sizes"], data.sizes))
        raise wrong("data-root", has, f"what {directory} was begun with, {had}")
    net = network(run, data.classes)
    _check_room(directory, net, recipe)
    fabric = machines.fabric(machine, recipe.precision)
    if not data.steps(recipe.batch_size, fabric.world_size):
        given = f"{recipe.batch_size} over {fabric.world_size} devices, of {data.sizes[1]} images"
        raise wrong("batch_size", given, "at least two images for each device")
    if machines.sharded(fabric) and recipe.l1:
        raise wrong("strategy", "fsdp with a penalty on weights (l1)", "ddp")
    with ExitStack() as stack:
        if fabric.is_global_zero:
            claim_run(directory, run)
            stack.enter_context(alone_in(directory))
        fabric.barrier()
        _go_on(run, directory, state, data, net, fabric, machine, tick)
    return bool(fabric.is_global_zero)


def _go_on(
    run: Run,
    directory: Path,
    state: dict[str, Any] | None,
    data: Data,
    net: Network,
    fabric: Fabric,
    machine: Machine,
    tick: Tick | None,
) -> None:
    """Train from ``state`` to the end."""
    recipe = run.recipe
    if machine.sync_batchnorm and fabric.world_size > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]  # its parts, in place
    history: list[dict[str, float]] = []
    if state:
        history = state["history"]
        try:
            net.load_state_dict(state["model"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise _corrupt(directory / STATE, error) from None
    called: Any = torch.compile(net) if machine.compile else net
    model, optimizer = fabric.setup(called, _optimizer(net, recipe))
    if state:
        try:
            if machines.sharded(fabric):
                fabric.load(directory / STATE, {"optimizer": optimizer, "model": model}, strict=False)
            else:
                optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise _corrupt(directory / STATE, error) from None

    part = state.get("part") if state else None
    loop = Loop(fabric, net, model, optimizer, data, run, directory, machine.save_every, tick, history, part)
    with _logger(fabric, directory, run) as log:
        for epoch in range(len(history) + 1, recipe.epochs + 1):
            loop.epoch(epoch)
            loop.save()
            if fabric.is_global_zero:
                write_table(directory / METRICS, history)
                log(history[-1])

    if fabric.is_global_zero:
        ended = _read_state(directory / STATE, run)
        assert ended is not None
        finish(fabric.device, run, directory, data, ended)


def job(run: Run, directory: str, data_root: str | None, machine: Machine = Machine()) -> None:  # noqa: B008  # frozen
    """:func:`train` as a job for an executor's process: one thread, progress told by a file in the run's directory."""
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()
    told = 0.0

    def tick(epoch: int, share: float) -> None:
        nonlocal told
        if parent is not None and not parent.is_alive():
            os._exit(1)  # nobody waits for this run any more, and the same command may be starting it anew
        if time.monotonic() - told > 0.25:
            told = time.monotonic()
            write_text(Path(directory, PROGRESS), json.dumps({"epochs": epoch - 1 + share}))

    train(run, Path(directory), data_root, machine, tick)


def _check_room(directory: Path, net: nn.Module, recipe: Recipe) -> None:
    """Raise where a run's files, and a second state beside the first, would not fit on the disk."""
    size = sum(p.numel() * p.element_size() for p in net.parameters())
    held = [directory / STATE, partial_name(directory / STATE), directory / MODEL]
    there = sum(path.stat().st_size for path in held if path.exists())
    need, free = (2 * COPIES[recipe.optimizer] + 1) * size - there, shutil.disk_usage(_there(directory)).free
    if free < need:
        raise wrong("out", f"{directory} with {free / 2**20:.0f} MiB free", f"{need / 2**20:.0f} MiB for this run")


def _there(directory: Path) -> Path:
    """``directory``, or the first above it that is there."""
    return next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())


def _read_state(path: Path, run: Run) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        with warnings.catch_warnings(action="ignore"):  # of what may be a foreign file: the error below is enough
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        with zipfile.ZipFile(path) as file:  # whose checksums torch does not look at
            damaged = file.testzip()
        if damaged is not None:
            raise ValueError(damaged)
        found, history = state["config"], state["history"]
        ok = state["epoch"] == len(history) <= run.recipe.epochs and {"model", "optimizer"} <= state.keys()
        ok = ok and all(one["epoch"] == k for k, one in enumerate(history, 1))
        for one in history:
            one.setdefault("skipped", 0)  # which a run begun by an earlier version did not count
    except Exception as error:  # whatever a damaged file makes of a reader
        raise _corrupt(path, error) from None
    if not ok or run_from(found) != run:
        raise wrong("out", f"{path}, a checkpoint of another run", "this run's; delete it to start again")
    part = state.get("part")
    if part is not None and "diverged" in part:
        raise diverged(run, part["diverged"], state["epoch"] + 1, part["step"], path.parent)
    return state


def _corrupt(path: Path, error: Exception) -> ValueError:
    return wrong(
        "out", f"{path}, which cannot be read ({type(error).__name__})", "a checkpoint; delete it to start again"
    )


def _optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    kinds: dict[str, type[torch.optim.SGD | torch.optim.RMSprop]]
    kinds = {"sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}
    return kinds[recipe.optimizer](
        net.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )


@contextmanager
def _logger(fabric: Fabric, directory: Path, run: Run) -> Iterator[Callable[[dict[str, float]], None]]:
    """What an epoch's numbers are told to: TensorBoard's files, for the long runs."""
    if run.alexnet is None or not fabric.is_global_zero:
        yield lambda numbers: None
        return
    from lightning_fabric.loggers import TensorBoardLogger

    logger = TensorBoardLogger(directory, name=None, version=LOGS)
    yield lambda numbers: logger.log_metrics(
        {k: v for k, v in numbers.items() if k != "epoch"}, step=int(numbers["epoch"])
    )
    logger.finalize("success")
