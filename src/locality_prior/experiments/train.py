"""One run: a visible loop whose every epoch is kept, and which goes on where it was stopped, bit for bit."""

from __future__ import annotations

import csv
import io
import json
import math
import multiprocessing
import os
import shutil
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locality_prior import layers, objectives
from locality_prior._check import wrong
from locality_prior._files import partial_name, replacing, write_text
from locality_prior.experiments import data as datasets
from locality_prior.experiments import machine as machines
from locality_prior.experiments.config import (
    ACTIVATIONS,
    LOGS,
    METRICS,
    MODEL,
    PROGRESS,
    PRUNING,
    STATE,
    Recipe,
    Run,
    check_run,
    claim_run,
    plain,
    run_from,
)
from locality_prior.experiments.data import Data, Shard
from locality_prior.experiments.machine import Machine
from locality_prior.experiments.models import Network, network
from locality_prior.geometry import Channels
from locality_prior.pruning import By, sparsify

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Steps between two looks at the loss, and what it may be, on average over them, in losses of guessing.
LOOK, MOST = 50, 100.0
#: Copies of a network's parameters in its state, the optimiser's included.
COPIES = {"sgd": 2, "rmsprop": 3}

Tick = Callable[[int, float], None]  # epoch under way, share of it done


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
    if state and state["epoch"] == recipe.epochs and _whole(directory):
        return machines.first()
    crop = run.alexnet.crop if run.alexnet else 0
    data = datasets.load(run.data, data_root, crop, machine.workers, machine.skip_broken)

    net = network(run, data.classes)
    _check_room(directory, net, recipe)
    fabric = machines.fabric(machine, recipe.precision)
    if machines.sharded(fabric) and recipe.l1:
        raise wrong("strategy", "fsdp with a penalty on weights (l1)", "ddp")
    if fabric.is_global_zero:
        claim_run(directory, run)
    fabric.barrier()
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

    loop = _Loop(fabric, net, model, optimizer, data, run, directory, machine.save_every, tick)
    loop.history, loop.part = history, state.get("part") if state else None
    with _logger(fabric, directory, run) as log:
        for epoch in range(len(history) + 1, recipe.epochs + 1):
            loop.epoch(epoch)
            loop.save()
            if fabric.is_global_zero:
                _write_table(directory / METRICS, history)
                log(history[-1])

    if fabric.is_global_zero:
        _finish(fabric.device, run, directory, data)
    return bool(fabric.is_global_zero)


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


class _Loop:
    """Training, epoch by epoch, with what of it is kept."""

    def __init__(
        self,
        fabric: Fabric,
        net: Network,
        model: Any,
        optimizer: Any,
        data: Data,
        run: Run,
        directory: Path,
        save_every: float,
        tick: Tick | None,
    ) -> None:
        self.fabric, self.net, self.model, self.optimizer = fabric, net, model, optimizer
        self.data, self.run, self.directory, self.tick = data, run, directory, tick
        self.save_every, self.saved = save_every, time.monotonic()
        self.history: list[dict[str, float]] = []
        #: Where an epoch that was stopped in its middle stands; None between epochs.
        self.part: dict[str, Any] | None = None

    def epoch(self, epoch: int) -> None:
        """One pass over the training images, and what it comes to on the test images."""
        start = time.perf_counter()
        train_loss, skipped = self._train(epoch)
        numbers = _evaluate(self.fabric, self.model, self.data)
        with machines.whole(self.fabric, self.model):
            length, cost = objectives.mean_wire_length(self.net).item(), objectives.wiring_cost(self.net).item()
        self.history.append(
            {
                "epoch": epoch,
                "train_loss": train_loss,
                **numbers,
                "mean_wire_length": length,
                "wiring_cost": cost,
                "skipped": skipped + numbers["skipped"],
                "seconds": time.perf_counter() - start,
            }
        )

    def _train(self, epoch: int) -> tuple[float, int]:
        """The mean loss, and how many files could not be read."""
        fabric, recipe, data, shard = self.fabric, self.run.recipe, self.data, machines.shard(self.fabric)
        part, self.part = self.part or {"step": 0, "total": 0.0, "recent": 0.0, "skipped": 0, "random": None}, None
        steps, total = data.steps(recipe.batch_size, shard.world), part["total"]
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * 0.1 ** ((epoch - 1) // recipe.drop_every if recipe.drop_every else 0)
        _set_random(fabric, part["random"], datasets.draw(self.run.seed, epoch, 1 + shard.rank))
        self.model.train()
        recent = torch.tensor(part["recent"], device=fabric.device)
        skipped = part["skipped"] if fabric.is_global_zero else 0  # which is kept for all
        batches = data.epoch(self.run.seed, epoch, recipe.batch_size, shard, part["step"])
        for step, batch in enumerate(batches, part["step"] + 1):
            if len(batch.labels) < 2:
                raise wrong("data-root", f"a batch of {len(batch.labels)} readable images", "at least 2 for BatchNorm")
            images, labels = fabric.to_device((batch.images, batch.labels))
            # over several processes, or with files left out, each image counts as in one whole batch
            share = len(labels) * shard.world / batch.planned
            loss = F.cross_entropy(self.model(images), labels) * share
            penalty = recipe.l1 * objectives.weight_l1(self.net) if recipe.l1 else 0.0
            self.optimizer.zero_grad()
            fabric.backward(loss + penalty)
            self.optimizer.step()
            recent += loss.detach()
            skipped += len(batch.broken)
            if step % LOOK == 0 or step == steps:
                total += self._look(recent, epoch, step)
                recent.zero_()
            if step < steps and (shard.world == 1 or step % LOOK == 0) and self._time_to_save():
                kept = {"step": step, "total": total, "recent": float(recent), "skipped": self._count(skipped)}
                self.save(kept | {"random": _random(fabric)})
            if self.tick is not None:
                self.tick(epoch, step / steps)
        return total / steps, self._count(skipped)

    def _count(self, number: int) -> int:
        """A number over all processes."""
        return int(_summed(self.fabric, torch.tensor(number)))

    def _look(self, recent: Tensor, epoch: int, step: int) -> float:
        """The sum of the losses since the last look, as a number; an error, and a state, where it diverges."""
        total: float = float(_summed(self.fabric, recent)) / int(self.fabric.world_size)
        loss = total / ((step - 1) % LOOK + 1)
        if not loss < MOST * math.log(self.data.classes):
            self.save({"step": step, "diverged": loss})
            raise _diverged(self.run, loss, epoch, step, self.directory)
        return total

    def _time_to_save(self) -> bool:
        """Whether it is time to keep a state: the first process says so for all."""
        due = time.monotonic() - self.saved > self.save_every
        return bool(self.fabric.broadcast(due)) if self.fabric.world_size > 1 else due

    def save(self, part: dict[str, Any] | None = None) -> None:
        """Replace ``state.pt`` by how things stand: between epochs, or as ``part`` says."""
        path = self.directory / STATE
        state = {
            "config": plain(self.run),
            "epoch": len(self.history),
            "history": self.history,
            "part": part,
            "model": self.model,
            "optimizer": self.optimizer,
        }
        # with several processes, one writes; where parameters are sharded, all give their parts
        with replacing(path) if self.fabric.is_global_zero else nullcontext(partial_name(path)) as partial:
            self.fabric.save(partial, state)
        self.saved = time.monotonic()


@torch.no_grad()
def _evaluate(fabric: Fabric, model: Any, data: Data) -> dict[str, float]:
    """Mean test cross-entropy, accuracy in percent (the five likeliest too, where there are many), files not read."""
    model.eval()
    sums = torch.zeros(5, dtype=torch.float64)
    for batch in data.test(machines.shard(fabric)):
        if len(batch.labels):
            x, y = fabric.to_device((batch.images, batch.labels))
            logits = model(x)
            loss = F.cross_entropy(logits, y, reduction="sum").item()
            first = logits.topk(min(5, data.classes)).indices == y[:, None]
            sums += torch.tensor([loss, int(first[:, 0].sum()), int(first.sum()), len(y), 0])
        sums[4] += len(batch.broken)
    loss, top1, top5, n, skipped = _summed(fabric, sums).tolist()
    five = {"top5_accuracy": 100 * top5 / n} if data.classes > 10 else {}
    return {"test_loss": loss / n, "accuracy": 100 * top1 / n, **five, "skipped": int(skipped)}


def _summed(fabric: Fabric, values: Tensor) -> Tensor:
    """``values`` over all processes."""
    if fabric.world_size == 1:
        return values
    summed: Any = fabric.all_reduce(fabric.to_device(values), reduce_op="sum")
    return torch.as_tensor(summed).cpu()


def _random(fabric: Fabric) -> dict[str, Tensor]:
    """What each process draws dropout from, (world, bytes)."""
    states = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(fabric.device)
    return {
        name: torch.as_tensor(fabric.all_gather(state)).reshape(fabric.world_size, -1).cpu()
        for name, state in states.items()
    }


def _set_random(fabric: Fabric, states: dict[str, Tensor] | None, seed: int) -> None:
    """Go on drawing from ``states``; from ``seed``, where there are none, or of another number of processes."""
    torch.manual_seed(seed)
    for name, state in (states or {}).items():
        if len(state) == fabric.world_size and name == "cpu":
            torch.set_rng_state(state[fabric.global_rank])
        elif len(state) == fabric.world_size and fabric.device.type == "cuda":
            torch.cuda.set_rng_state(state[fabric.global_rank], fabric.device)


def _diverged(run: Run, loss: float, epoch: int, step: int, directory: Path) -> ValueError:
    given = f"loss {loss:.4g} in epoch {epoch}, step {step}, of {plain(run.recipe)} (kept in {directory / STATE})"
    return wrong("recipe", given, "a recipe that does not diverge")


def _check_room(directory: Path, net: nn.Module, recipe: Recipe) -> None:
    """Raise where a run's files, and a second state beside the first, would not fit on the disk."""
    size = sum(p.numel() * p.element_size() for p in net.parameters())
    need, free = (2 * COPIES[recipe.optimizer] + 1) * size, shutil.disk_usage(_there(directory)).free
    if free < need:
        raise wrong("out", f"{directory} with {free / 2**20:.0f} MiB free", f"{need / 2**20:.0f} MiB for this run")


def _there(directory: Path) -> Path:
    """``directory``, or the first above it that is there."""
    return next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())


# What follows training is made from the state alone


def _finish(device: torch.device, run: Run, directory: Path, data: Data) -> None:
    """Make a finished run's files from its state."""
    state = _read_state(directory / STATE, run)
    assert state is not None
    net = network(run, data.classes)
    net.load_state_dict(state["model"])
    net.to(device).eval()
    _write_table(directory / METRICS, state["history"])
    layers.save(net, directory / MODEL)
    _keep_activations(net, device, data, directory / ACTIVATIONS)
    _keep_pruning(net, device, data, directory / PRUNING)
    (directory / PROGRESS).unlink(missing_ok=True)


@torch.no_grad()
def _keep_activations(net: Network, device: torch.device, data: Data, path: Path) -> None:
    """The layer's input and output over some test images, as float32, with the images' labels.

    Where the input has several units at a place, their mean is kept.
    """
    kept: dict[str, list[Tensor]] = {"input": [], "output": [], "labels": []}
    source = net.locality.source
    for batch in data.kept():
        if len(batch.labels):
            before, after = net.sheets(batch.images.to(device))
            if isinstance(source, Channels):
                before = before.reshape(len(before), source.channels, -1).mean(1)
            for name, values in (("input", before), ("output", after), ("labels", batch.labels)):
                kept[name].append(values.cpu())
    arrays: dict[str, Any] = {name: torch.cat(parts).numpy() for name, parts in kept.items()}
    with replacing(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)


@torch.no_grad()
def _keep_pruning(net: Network, device: torch.device, data: Data, path: Path) -> None:
    """Test accuracy with ever fewer of the layer's wires, by each measure of what to cut first."""
    # the layer's input is the same for every cut
    inputs, labels = [], []
    for batch in data.test(Shard()):
        if len(batch.labels):
            inputs.append(net.before(batch.images.to(device)))
            labels.append(batch.labels.to(device))
    before, classes = torch.cat(inputs), torch.cat(labels)

    def accuracy(net: Network) -> float:
        return 100 * float((net.head(net.after(before)).argmax(1) == classes).double().mean())

    rows: list[dict[str, Any]] = []
    for by in get_args(By):
        curve = sparsify(net, by, keep=1.0, evaluate=accuracy).curve
        rows += [
            {"by": by, "wires": c.wires, "share": c.share, "wire_length": c.wire_length, "accuracy": c.score}
            for c in curve
        ]
    _write_table(path, rows)


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
    except Exception as error:  # whatever a damaged file makes of a reader
        raise _corrupt(path, error) from None
    if not ok or run_from(found) != run:
        raise wrong("out", f"{path}, a checkpoint of another run", "this run's; delete it to start again")
    part = state.get("part")
    if part is not None and "diverged" in part:
        raise _diverged(run, part["diverged"], state["epoch"] + 1, part["step"], path.parent)
    return state


def _corrupt(path: Path, error: Exception) -> ValueError:
    return wrong(
        "out", f"{path}, which cannot be read ({type(error).__name__})", "a checkpoint; delete it to start again"
    )


def _whole(directory: Path) -> bool:
    """Whether what a finished run's state is turned into is there and can be read."""
    from safetensors import SafetensorError, safe_open

    try:
        tables = all((directory / name).exists() for name in (METRICS, PRUNING))
        with safe_open(directory / MODEL, framework="np") as model, open(directory / ACTIVATIONS, "rb") as file:
            arrays = np.load(file)
            return bool(model.keys()) and all(len(arrays[key]) for key in arrays) and tables
    except (OSError, ValueError, EOFError, SafetensorError, zlib.error, zipfile.BadZipFile):
        return False


def _write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
