"""One run: a visible loop whose every epoch is kept, and which goes on where it was stopped, bit for bit."""

from __future__ import annotations

import csv
import io
import json
import math
import multiprocessing
import os
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from locality_prior import cost as costs
from locality_prior import layers, objectives
from locality_prior._check import wrong
from locality_prior._files import replacing, write_text
from locality_prior.experiments import data as datasets
from locality_prior.experiments.config import (
    ACTIVATIONS,
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
)
from locality_prior.experiments.data import Data
from locality_prior.experiments.models import LeNet
from locality_prior.geometry import Grid
from locality_prior.pruning import By, sparsify

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Test images whose activations are kept: the document's thousand.
KEPT_IMAGES = 1000
#: Images in one batch of evaluation.
EVALUATION = 1000

Tick = Callable[[int, float], None]  # epoch under way, share of it done


def train(
    run: Run, directory: Path, data_root: str | None = None, accelerator: str = "cpu", tick: Tick | None = None
) -> None:
    """Train ``run`` in ``directory``, from wherever it stands there.

    After each epoch ``state.pt`` is replaced in one step: a stop at any moment loses at most the epoch in flight, and
    a resumed run ends in the same weights. Data order and dropout are drawn from seed and epoch.

    Raises:
        ValueError: a directory of another run, a state that cannot be read, missing data.
    """
    check_run(directory, run)
    recipe, sheet = run.recipe, Grid(*run.sheet)
    state = _read_state(directory / STATE, run)
    if state and state["epoch"] == recipe.epochs and _whole(directory):
        return
    data = datasets.load(run.data, data_root)

    from lightning_fabric import Fabric  # here, since it takes seconds and only training needs it

    try:
        fabric = Fabric(accelerator=accelerator, devices=1)
    except (RuntimeError, ValueError, TypeError) as error:
        raise wrong("accelerator", f"{accelerator!r} ({error})", "one that this machine has, such as cpu") from None
    claim_run(directory, run)
    torch.manual_seed(run.seed)  # the same initial weights under every cost
    net = LeNet(costs.parse(run.cost), sheet).to(memory_format=torch.channels_last)
    model, optimizer = fabric.setup(net, _optimizer(net, recipe))
    model.mark_forward_method("sheets")
    history: list[dict[str, float]] = []
    if state:
        try:
            net.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise _corrupt(directory / STATE, error) from None
        history = state["history"]

    for epoch in range(len(history) + 1, recipe.epochs + 1):
        start = time.perf_counter()
        train_loss = _train_epoch(fabric, model, optimizer, data, run, epoch, tick)
        loss, accuracy = _evaluate(fabric, model, data)
        history.append(
            {
                "epoch": epoch,
                "train_loss": train_loss,
                "test_loss": loss,
                "accuracy": accuracy,
                "mean_wire_length": objectives.mean_wire_length(net).item(),
                "wiring_cost": objectives.wiring_cost(net).item(),
                "seconds": time.perf_counter() - start,
            }
        )
        with replacing(directory / STATE) as partial:
            fabric.save(
                partial,
                {
                    "config": plain(run),
                    "epoch": epoch,
                    "history": history,
                    "model": net.state_dict(),
                    "optimizer": optimizer.state_dict(),
                },
            )
        _write_table(directory / METRICS, history)

    # what follows is rebuilt from the state alone
    _write_table(directory / METRICS, history)
    layers.save(net, directory / MODEL)
    _keep_activations(fabric, model, data, directory / ACTIVATIONS)
    _keep_pruning(fabric, net, data, directory / PRUNING)
    (directory / PROGRESS).unlink(missing_ok=True)


def job(run: Run, directory: str, data_root: str | None) -> None:
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

    train(run, Path(directory), data_root, tick=tick)


def _train_epoch(
    fabric: Fabric, model: Any, optimizer: Any, data: Data, run: Run, epoch: int, tick: Tick | None
) -> float:
    """One pass over the training images; the mean loss."""
    recipe = run.recipe
    generator = torch.Generator().manual_seed(_draw(run.seed, epoch, 0))
    order = torch.cat([torch.randperm(len(data.train_labels), generator=generator) for _ in range(data.passes)])
    torch.manual_seed(_draw(run.seed, epoch, 1))  # dropout
    model.train()
    total = torch.zeros((), device=fabric.device)
    batches = [
        batch for batch in torch.split(order, recipe.batch_size) if len(batch) > 1
    ]  # BatchNorm has no use for one image
    for step, batch in enumerate(batches):
        images, labels = fabric.to_device((data.batch(data.train_images[batch]), data.train_labels[batch]))
        loss = F.cross_entropy(model(images), labels)
        penalty = recipe.l1 * objectives.weight_l1(model) if recipe.l1 else 0.0
        optimizer.zero_grad()
        fabric.backward(loss + penalty)
        optimizer.step()
        total += loss.detach()
        if tick is not None:
            tick(epoch, (step + 1) / len(batches))
    mean = float(total) / len(batches)
    if not math.isfinite(mean):
        raise wrong("recipe", f"loss {mean} in epoch {epoch} of {plain(recipe)}", "a recipe that does not diverge")
    return mean


@torch.no_grad()
def _evaluate(fabric: Fabric, model: Any, data: Data) -> tuple[float, float]:
    """Mean test cross-entropy, and accuracy in percent."""
    model.eval()
    loss, right = 0.0, 0
    for images, labels in zip(
        torch.split(data.test_images, EVALUATION), torch.split(data.test_labels, EVALUATION), strict=True
    ):
        x, y = fabric.to_device((data.batch(images), labels))
        logits = model(x)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        right += int((logits.argmax(1) == y).sum())
    n = len(data.test_labels)
    return loss / n, 100 * right / n


@torch.no_grad()
def _keep_activations(fabric: Fabric, model: Any, data: Data, path: Path) -> None:
    """The layer's input and output over the first test images, as float32, with the images' labels."""
    model.eval()
    images, labels = data.test_images[:KEPT_IMAGES], data.test_labels[:KEPT_IMAGES]
    before, after = model.sheets(fabric.to_device(data.batch(images)))
    with replacing(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, input=_array(before), output=_array(after), labels=_array(labels))


@torch.no_grad()
def _keep_pruning(fabric: Fabric, net: LeNet, data: Data, path: Path) -> None:
    """Test accuracy with ever fewer of the layer's wires, by each measure of what to cut first."""
    net.eval()
    batches = torch.split(data.test_images, EVALUATION)
    # the layer's input is the same for every cut
    before = torch.cat([net.sheets(fabric.to_device(data.batch(images)))[0] for images in batches])
    labels = fabric.to_device(data.test_labels)

    def accuracy(net: LeNet) -> float:
        return 100 * float((net.fc2(net.second(before)).argmax(1) == labels).double().mean())

    rows: list[dict[str, Any]] = []
    for by in get_args(By):
        curve = sparsify(net, by, keep=1.0, evaluate=accuracy).curve
        rows += [
            {"by": by, "wires": c.wires, "share": c.share, "wire_length": c.wire_length, "accuracy": c.score}
            for c in curve
        ]
    _write_table(path, rows)


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = tensor.cpu().numpy()
    return array


def _optimizer(net: LeNet, recipe: Recipe) -> torch.optim.Optimizer:
    kinds: dict[str, type[torch.optim.SGD | torch.optim.RMSprop]]
    kinds = {"sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}
    return kinds[recipe.optimizer](
        net.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )


def _draw(seed: int, epoch: int, use: int) -> int:
    """A seed for one ``use`` in one epoch of a run: the same whenever and however often it is asked for."""
    return int(np.random.SeedSequence((seed, epoch, use)).generate_state(1, np.uint64)[0] >> np.uint64(1))


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
    if found != plain(run) or not ok:
        raise wrong("out", f"{path}, a checkpoint of another run", "this run's; delete it to start again")
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
