"""Training one run: its state is saved after every epoch, and a stopped run continues to the same bits."""

from __future__ import annotations

import shutil
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from locality_prior._check import Problem, Told, instance, short, wrong
from locality_prior._files import alone_in, sweep
from locality_prior._processes import write_progress
from locality_prior.arrange import words as arrangements
from locality_prior.objectives import Objective
from locality_prior.objectives.base import OfResponses
from locality_prior.runs import door, files, finish
from locality_prior.runs import machine as machines
from locality_prior.runs.arranging import Arranger
from locality_prior.runs.config import (
    Recipe,
    Run,
    condition_of,
    control_of,
    difference,
    epochs_before,
    read_run,
    run_from,
    write_run,
)
from locality_prior.runs.epochs import EpochMaps, in_order
from locality_prior.runs.loop import Loop, Tick, diverged, evaluate
from locality_prior.runs.machine import Machine
from locality_prior.runs.network import Network, call, moved, naming, network, responses, settled
from locality_prior.runs.task import Shard, Task, first

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: How many times the size of a network's parameters its state has, with the optimiser's part.
COPIES = {"sgd": 2, "rmsprop": 3, "adam": 3, "adamw": 3}
#: From this many epochs on, a run writes files for TensorBoard too.
LONG = 20


def train(
    run: Run,
    directory: str | Path,
    data_root: str | None = None,
    machine: Machine = Machine(),  # noqa: B008  # frozen
    tick: Tick | None = None,
    label: str | None = None,
) -> bool:
    """Train ``run`` in ``directory``, from wherever it stands there to its end, and measure it.

    ``state.pt`` is replaced in one step after each epoch, and every few minutes within one. A run that is stopped loses
    no more than that, and when it is started again it ends in the same weights, since whatever is random comes from the
    seed, the epoch and the number of an item. Other files that are missing or damaged are made again
    from a good state.

    >>> import torch
    >>> from locality_prior.runs import Recipe, Run, Task, train
    >>> x, y = torch.rand(60, 16), torch.arange(60) % 3
    >>> task = Task.classification(train=(x[:40], y[:40]), test=(x[40:], y[40:]))
    >>> net = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> places = {"place": (("1", ("4x4",)),), "local": (("0", ("4x4",)),)}
    >>> train(Run(task, net, cost="linear@2", recipe=Recipe(epochs=1), **places), "one-run")
    True

    Args:
        run: what to train.
        directory: the run's own; it is created.
        data_root: a folder with data, for tasks that have a parameter ``data_root``.
        machine: where it is computed.
        tick: called with the current epoch and the share of it that is done.
        label: the name of the condition in a study; None: it is made from the cost.

    Returns:
        Whether this is the process that writes the files: one of several is.

    Raises:
        ValueError, TypeError: settings or data that do not fit.
        Problem: a directory that belongs to another run or process, a state that cannot be read, a disk with too little
            room, user's code that raises, or a loss that diverges.
        OSError: a directory that cannot be written to.
    """
    directory = Path(directory)
    check(directory, instance("run", run, Run, "a Run"))
    if finished(run, directory):
        return machines.first()
    recipe = run.recipe
    task = task_of(run, data_root, machine)
    net = network(run, task)
    check_fit(net, task)
    arranger = arranger_of(run, net, task)
    _check_room(directory, net.model, recipe)
    fabric = machines.fabric(machine, recipe.precision)
    if not task.steps(recipe.batch_size, fabric.world_size):
        given = f"{recipe.batch_size} over {fabric.world_size} devices, with {task.sizes[0]} items"
        raise wrong("batch_size", given, "at least one batch with two items for each device")
    if machines.sharded(fabric) and recipe.l1:
        raise wrong("strategy", "fsdp with a penalty on weights (l1)", "ddp")
    if machines.sharded(fabric) and not all(map(_of_responses_alone, net.objectives)):
        raise wrong("strategy", f"fsdp with the objective {run.objective}", "ddp")
    if machines.sharded(fabric) and arranger is not None:
        raise wrong("strategy", f"fsdp with the arrangement {run.arrange}", "ddp")
    with ExitStack() as stack:
        if fabric.is_global_zero:
            stack.enter_context(alone_in(directory))
            check(directory, run)  # again, since another process may have begun a run here in the meantime
            sweep(directory)
            if not _readable_config(directory):
                write_run(directory, run)
        fabric.barrier()
        state = _begun(directory / files.STATE, run, task)
        _go_on(run, directory, state, task, net, arranger, fabric, machine, tick, label or condition_of(run))
    return bool(fabric.is_global_zero)


def _of_responses_alone(objective: Objective) -> bool:
    """Whether an objective reads responses and neither reads nor changes weights, of which a device may hold a part."""
    return isinstance(objective, OfResponses) and type(objective).after_step is Objective.after_step


def task_of(run: Run, data_root: str | None, machine: Machine) -> Task:
    """The task of ``run``. It gets the values from the command line for which it has parameters."""
    offered = {"data_root": data_root, "workers": machine.workers, "skip_broken": machine.skip_broken}
    found: Task = door.call("task", run.task, Task, **offered)
    return found


def finished(run: Run, directory: Path) -> bool:
    """Whether ``directory`` holds ``run``, trained and measured, and no file has changed since."""
    try:
        return read_run(directory) == run and bool(files.read_analysis(directory))
    except (OSError, ValueError, Problem):
        return False


def check(directory: Path, run: Run) -> None:
    """Raise where ``directory`` cannot be used for ``run``, or holds something else. Nothing is written."""
    for parent in (directory, *directory.parents):
        if parent.exists() and not parent.is_dir():
            raise wrong("out", str(directory), f"a directory ({parent} is a file)")
    config, state = directory / files.CONFIG, directory / files.STATE
    if config.exists() or state.exists():
        try:
            found = read_run(directory)
        except Told:
            if not state.exists():
                raise
            _read_state(state, run)  # it says what the run is, and the config is written again
            return
        if found != run:
            raise Problem(
                f"{directory} holds another run: {difference(found, run)}. "
                "Choose a new directory, or give the same settings."
            )
        return
    strangers = directory.exists() and sorted(p.name for p in directory.iterdir() if not p.name.startswith("."))
    if strangers:
        raise Problem(f"{directory} holds {strangers[0]} but no {files.CONFIG}. Choose a new or empty directory.")


def _readable_config(directory: Path) -> bool:
    """Whether the config of the run in ``directory`` is there, and whole."""
    try:
        return bool(read_run(directory))
    except Told:
        return False


def arranger_of(run: Run, net: Network, task: Task) -> Arranger | None:
    """What gives the units of ``run`` better places; None if they stay where they are.

    Raises:
        ValueError: a network whose units cannot be arranged as the run says.
    """
    return None if run.arrange == arrangements.NONE else Arranger(run, net, task)


def _go_on(
    run: Run,
    directory: Path,
    state: dict[str, Any] | None,
    task: Task,
    net: Network,
    arranger: Arranger | None,
    fabric: Fabric,
    machine: Machine,
    tick: Tick | None,
    label: str,
) -> None:
    """Train from ``state`` to the end, and measure."""
    recipe, history = run.recipe, state["history"] if state else []
    when = None if arranger is None else arranger.how.when
    if arranger is not None:
        if state:
            with _readable(directory / files.STATE):
                arranger.put(state["orders"])
        elif when == "before":
            _arrange_before(run, directory, task, arranger, fabric, machine, tick)
        if when != "after":
            net = _at_places(run, task, net, arranger)
    model, optimizer = _set_up(run, net, fabric, machine, state, directory / files.STATE)
    part = state.get("part") if state else None
    maps = EpochMaps(net, task, fabric.device, recipe.epochs, state["maps"] if state else None)
    alone = fabric.world_size == 1  # of several devices, each may hold a part of the model
    if alone and part is None:  # within an epoch the model is no longer as it was after the one before
        maps.see(len(history), net)
    told = _later(tick, epochs_before(run))
    loop = Loop(
        fabric, net, model, optimizer, task, run, directory, machine.save_every, told, history, part, maps, arranger
    )
    if when == "before":
        if not state:
            loop.save()  # including the orders, which would take long to find again
        if fabric.is_global_zero:
            (directory / files.BEFORE).unlink(missing_ok=True)
    with _logger(fabric, directory, run) as log:
        for epoch in range(len(history) + 1, recipe.epochs + 1):
            loop.epoch(epoch)
            if alone:
                maps.see(epoch, loop.net)
            if arranger is not None and when == "after" and epoch == recipe.epochs:
                arranger.improve(net, fabric)
            loop.save()
            if fabric.is_global_zero:
                finish.write_table(directory / files.METRICS, history)
                log(history[-1])

    if fabric.is_global_zero:
        # from the state on disk, so that finishing a run twice gives the same files
        ended = _read_state(directory / files.STATE, run)
        assert ended is not None
        net = network(run, task) if machines.sharded(fabric) else loop.net  # a sharded model is in parts
        net.model.load_state_dict(ended["model"])
        for objective in net.objectives:
            if isinstance(objective, OfResponses):
                objective.remove()  # its hooks, which would see the measuring too
        kept = ended["maps"] if ended["maps"]["epochs"][-1:] == [recipe.epochs] else maps.ended(recipe.epochs, net)
        if arranger is not None and when == "after":
            net = moved(net, arranger.units)
            kept = kept and in_order(kept, net)
        elif arranger is not None:
            net = settled(net, arranger.units)  # the same network, unless positions have learned
        finish.finish(
            net,
            task,
            directory,
            fabric.device,
            condition=label,
            seed=run.seed,
            shuffled=run.shuffled,
            history=ended["history"],
            maps=kept,
            arranger=arranger,
        )


def _arrange_before(
    run: Run, directory: Path, task: Task, arranger: Arranger, fabric: Fabric, machine: Machine, tick: Tick | None
) -> None:
    """Arrange the units of ``run`` by its control, which is trained first for as long as the run says."""
    epochs = epochs_before(run)
    recipe = replace(run.recipe, epochs=epochs) if epochs else run.recipe
    first = replace(control_of(run), recipe=recipe)
    path = directory / files.BEFORE
    state = _begun(path, first, task)
    net = network(first, task)
    model, optimizer = _set_up(first, net, fabric, machine, state, path)
    history, part = (state["history"], state.get("part")) if state else ([], None)
    every = machine.save_every
    loop = Loop(
        fabric, net, model, optimizer, task, first, directory, every, tick, history, part, None, file=files.BEFORE
    )
    for epoch in range(len(history) + 1, epochs + 1):
        loop.epoch(epoch)
        loop.save()
    arranger.improve(net, fabric)


def _at_places(run: Run, task: Task, net: Network, arranger: Arranger) -> Network:
    """The network of a run with its units at their places; with a cost it is made anew, since P depends on them."""
    for objective in net.objectives:
        objective.remove()
    learned = any(one.points is not None for one in arranger.units)
    if run.cost == "flat" and not learned:
        return moved(arranger.given, arranger.units, run)
    return network(run, task, arranger.units)


def _later(tick: Tick | None, epochs: int) -> Tick | None:
    """``tick`` for epochs that begin after so many others."""
    return None if tick is None else lambda epoch, share: tick(epochs + epoch, share)


def _set_up(
    run: Run, net: Network, fabric: Fabric, machine: Machine, state: dict[str, Any] | None, path: Path
) -> tuple[Any, Any]:
    """The model and the optimiser as Fabric has set them up, in the ``state`` that was read from ``path``."""
    if machine.sync_batchnorm and fabric.world_size > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(net.model)  # type: ignore[no-untyped-call]  # its parts, in place
    if state:
        with _readable(path):
            net.model.load_state_dict(state["model"])
    called: Any = torch.compile(net.model) if machine.compile else net.model
    model, optimizer = fabric.setup(called, _optimizer(net, run))
    if state:
        with _readable(path):
            if machines.sharded(fabric):
                fabric.load(path, {"optimizer": optimizer, "model": model}, strict=False)
            else:
                optimizer.load_state_dict(state["optimizer"])
    return model, optimizer


def job(
    run: Run,
    directory: str,
    data_root: str | None,
    label: str | None = None,
    machine: Machine = Machine(),  # noqa: B008  # frozen
) -> None:
    """:func:`train` in a process of its own, on one thread. Its progress is told in a file in the run's directory."""
    torch.set_num_threads(1)
    told = 0.0

    def tick(epoch: int, share: float) -> None:
        nonlocal told
        done = epoch - 1 + share
        if time.monotonic() - told > 0.25 or done >= epochs_before(run) + run.recipe.epochs:
            told = time.monotonic()
            write_progress(Path(directory, files.PROGRESS), done)

    train(run, Path(directory), data_root, machine, tick, label)


def _check_room(directory: Path, net: nn.Module, recipe: Recipe) -> None:
    """Raise where the run's files, with a second state while the first is replaced, would not fit on the disk."""
    size = sum(p.numel() * p.element_size() for p in net.parameters())
    held = [directory / files.STATE, directory / files.MODEL]
    there = sum(path.stat().st_size for path in held if path.exists())
    home = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    need, free = (2 * COPIES[recipe.optimizer] + 1) * size - there, shutil.disk_usage(home).free
    if free < need:
        raise Problem(
            f"The disk of {directory} has {free / 2**20:,.0f} MiB free, and this run needs {need / 2**20:,.0f} MiB. "
            "Make room, or choose a directory on another disk."
        )


def check_fit(net: Network, task: Task) -> None:
    """Raise where the model, its sheets or its outputs do not fit the task's items and loss."""
    batch = next((first(b, 64) for b in task.validation(Shard()) if len(b.targets)), None)
    if batch is None:
        return  # which is told when the network is evaluated
    called: set[str] = set()
    hooks = [
        net.model.get_submodule(layer.name).register_forward_hook(lambda *_, name=layer.name: called.add(name))
        for layer in net.layers
    ]
    try:
        evaluate(net.model, task, iter([batch]), torch.device("cpu"))
        with torch.no_grad(), naming("place"):
            responses(net, task, batch.inputs, len(batch.targets))
        if net.objectives and len(batch.targets) > 1:
            _try_objectives(net, batch.inputs)
    except Told:
        raise
    except Exception as error:
        raise Problem(
            f"The model does not fit {task.name}: when it was tried on a few items, it or the loss raised "
            f"{type(error).__name__}: {short(str(error))}"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    unused = [layer.name for layer in net.layers if layer.name not in called]
    if unused:
        raise wrong("local", f"{unused[0]}, which the model never calls", "layers that it computes with")


def _try_objectives(net: Network, inputs: Any) -> None:
    """Measure each objective once, as a step of training does. The network and the random numbers stay as they were."""
    modules = list(net.model.modules())
    modes = [module.training for module in modules]
    buffers = [(m, name, b, b.clone()) for m in modules for name, b in m._buffers.items() if b is not None]
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), naming("objective"):
            net.model.train()
            call(net.model, inputs)
            for objective in net.objectives:
                objective.value()
    finally:
        for module, was in zip(modules, modes, strict=True):
            module.training = was
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                module._buffers[name] = buffer.copy_(before)


def _read_state(path: Path, run: Run) -> dict[str, Any] | None:
    """The state that ``run`` was left in; None where there is none yet."""
    if not path.exists():
        return None
    with _readable(path):
        with warnings.catch_warnings(action="ignore"):  # about a foreign file: the error says enough
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        with zipfile.ZipFile(path) as file:  # torch does not look at its checksums
            damaged = file.testzip()
        if damaged is not None:
            raise ValueError(damaged)
        found, history = state["config"], state["history"]
        ok = state["epoch"] == len(history) <= run.recipe.epochs
        ok = ok and {"model", "optimizer", "sizes", "maps"} <= state.keys()
        ok = ok and (run.arrange == arrangements.NONE or isinstance(state.get("orders"), dict))
        ok = ok and all(one["epoch"] == k for k, one in enumerate(history, 1))
        ok = ok and run_from(found) == run
    if not ok:
        raise Problem(f"{path} is the state of another run. Choose another directory, or delete it to start again.")
    part = state.get("part")
    if part is not None and "diverged" in part:
        raise diverged(run, part["diverged"], state["epoch"] + 1, part["step"], path)
    return state


def _begun(path: Path, run: Run, task: Task) -> dict[str, Any] | None:
    """The state from which ``run`` goes on; None where there is none yet. An error where its task has other items."""
    state = _read_state(path, run)
    if state and list(state["sizes"]) != list(task.sizes):
        had, has = (" + ".join(f"{n:,}" for n in sizes) for sizes in (state["sizes"], task.sizes))
        raise Problem(f"{path.parent} was begun with {had} items, and the task now has {has}. Give it the same data.")
    return state


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """A block whose errors say that the state at ``path`` is damaged."""
    try:
        yield
    except Exception as error:  # whatever a damaged file raises in its reader
        raise Problem(
            f"{path} is damaged ({type(error).__name__}). Delete it to train this run from the start."
        ) from None


def _optimizer(net: Network, run: Run) -> torch.optim.Optimizer:
    recipe, how = run.recipe, arrangements.parse("arrange", run.arrange)
    common: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay}
    parameters: Any = net.model.parameters()
    if isinstance(how, arrangements.Learned):
        places = net.positions()
        others = [p for p in parameters if all(p is not one for one in places)]
        # weight decay would pull positions to the origin
        parameters = [{"params": others}, {"params": places, "lr": how.lr, "first_lr": how.lr, "weight_decay": 0.0}]
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, momentum=recipe.momentum, **common)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, momentum=recipe.momentum, **common)
        case "adam":
            return torch.optim.Adam(parameters, **common)
        case "adamw":
            return torch.optim.AdamW(parameters, **common)


@contextmanager
def _logger(fabric: Fabric, directory: Path, run: Run) -> Iterator[Callable[[dict[str, float]], None]]:
    """A function that is told each epoch's numbers; in long runs it writes files for TensorBoard."""
    if run.recipe.epochs < LONG or not fabric.is_global_zero:
        yield lambda numbers: None
        return
    from lightning_fabric.loggers import TensorBoardLogger

    logger = TensorBoardLogger(directory, name=None, version=files.LOGS)
    yield lambda numbers: logger.log_metrics(
        {k: v for k, v in numbers.items() if k != "epoch"}, step=int(numbers["epoch"])
    )
    logger.finalize("success")
