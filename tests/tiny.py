"""A task and a network so small that a whole run takes a second, and a few images in MNIST's own file format.

``TASK`` and ``MODEL`` are the words by which a command, a study file and :class:`Run` find the first two;
other processes find them too.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from locality_prior.catalog.tasks import write_idx
from locality_prior.geometry import Grid
from locality_prior.runs import Task

#: Words of the task and the network.
TASK, MODEL = f"{Path(__file__).resolve()}:blobs", f"{Path(__file__).resolve()}:mlp"
#: Images of the small MNIST.
TRAIN, TEST = 320, 120


def blobs(items: int = 160, classes: int = 4, seed: int = 0) -> Task:
    """Points in 16 dimensions around a centre for each class; a quarter as many again to test."""
    rng = np.random.default_rng(seed)
    labels = np.arange(items + items // 4) % classes
    inputs = (rng.normal(size=(classes, 16))[labels] + rng.normal(size=(len(labels), 16))).astype(np.float32)
    return Task.classification(
        train=(inputs[:items], labels[:items]), test=(inputs[items:], labels[items:]), validation=0.2, name="blobs"
    )


class Mlp(nn.Sequential):
    """Two sheets, with a layer between them that may be local."""

    def __init__(self, side: int, classes: int) -> None:
        units = side * side
        modules = {
            "first": nn.Linear(16, units),
            "input": nn.ReLU(),
            "dropout": nn.Dropout(0.2),
            "middle": nn.Linear(units, units),
            "norm": nn.BatchNorm1d(units),
            "output": nn.ReLU(),
            "head": nn.Linear(units, classes),
        }
        super().__init__(OrderedDict(modules))
        sheet = Grid(side, side)
        self.place: dict[str, Any] = {"input": sheet, "output": sheet}
        self.local: dict[str, Any] = {"middle": sheet}


def mlp(task: Task | None = None, side: int = 4) -> Mlp:
    """The network, with as many outputs as the task has classes, or one where it has none."""
    return Mlp(side, len(task.classes or "1") if task is not None else 4)


def write_mnist(root: Path) -> Path:
    """Write MNIST/raw under ``root``: each class a bright square at its own place, with noise. Returns ``root``."""
    rng = np.random.default_rng(0)
    for part, n in (("train", TRAIN), ("t10k", TEST)):
        labels = (np.arange(n) % 10).astype(np.uint8)
        images = rng.integers(0, 60, (n, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, col = 4 + 12 * (label // 5), 2 + 5 * (label % 5)
            image[row : row + 8, col : col + 5] += 180
        write_idx(root, part, torch.from_numpy(images), torch.from_numpy(labels))
    return root
