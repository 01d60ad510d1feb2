"""The built-in networks: plain torch, which names the sheets to look at and the layers that a condition makes local."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from locality_prior._check import boolean, check_fits, choice, count, number, wrong
from locality_prior.geometry import Geometry, Grid
from locality_prior.runs import places
from locality_prior.runs.task import Shard, Task


class Sheets(nn.Sequential):
    """A plain sequence of modules that names its sheets.

    Attributes:
        place: the sheets to look at, {module: geometry}.
        local: the layers that a condition makes local, {layer: (source, target)}.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        place: Mapping[str, Geometry],
        local: Mapping[str, tuple[Geometry, Geometry]],
    ) -> None:
        super().__init__(OrderedDict(modules))
        self.place, self.local = dict(place), dict(local)


def lenet(task: Task | None = None, sheet: Any = "7x7", classes: int | None = None) -> Sheets:
    """LeNet for grey images of 28×28 pixels, with one more linear layer and BatchNorm, as the source document has it.

    conv 10@5×5, max-pool 2, ReLU, conv 20@5×5, Dropout2d, max-pool 2, ReLU, dropout, linear 320 → K, ReLU (*input*),
    dropout, linear K → K (the layer that may be local), BatchNorm, ReLU (*output*), linear K → classes.

    Args:
        task: what it learns; its classes are counted.
        sheet: the geometry of the K units before and after the layer.
        classes: how many logits, where there is no task.
    """
    at = _sheet("sheet", sheet)
    units = len(at)
    _check_size(units, units)
    modules = {
        "conv1": nn.Conv2d(1, 10, 5),
        "pool1": nn.MaxPool2d(2),
        "relu1": nn.ReLU(),
        "conv2": nn.Conv2d(10, 20, 5),
        "dropout2d": nn.Dropout2d(),
        "pool2": nn.MaxPool2d(2),
        "relu2": nn.ReLU(),
        "flatten": nn.Flatten(),
        "dropout1": nn.Dropout(),
        "fc1": nn.Linear(320, units),
        "input": nn.ReLU(),
        "dropout2": nn.Dropout(),
        "locality": nn.Linear(units, units),
        "norm": nn.BatchNorm1d(units),
        "output": nn.ReLU(),
        "fc2": nn.Linear(units, _logits(task, classes)),
    }
    return Sheets(modules, {"input": at, "output": at}, {"locality": (at, at)})


def alexnet(
    task: Task | None = None,
    classes: int | None = None,
    layer: str = "fc7",
    sheet: Any = "64x64",
    width: float = 1.0,
    stride: int = 4,
) -> Sheets:
    """torchvision's AlexNet, in which one linear layer may be local and has BatchNorm after it.

    Args:
        task: what it learns; its classes are counted.
        classes: how many logits, where there is no task.
        layer: which layer may be local. ``fc7`` goes from sheet to sheet (it is torchvision's ``classifier.4``, which
            the source document's authors call FC6). ``fc6`` goes from the 6×6 places of the last convolution's channels
            to the sheet (``classifier.1``).
        sheet: the geometry of the units of the two hidden layers.
        width: of the convolutions, as a share of 64, 192, 384, 256 and 256 channels.
        stride: of the first convolution.
    """
    at = _sheet("sheet", sheet)
    choice("layer", layer, ("fc6", "fc7"))
    width, stride = number("width", width, 0.001, 16), count("stride", stride, most=16)
    logits = _logits(task, classes)
    channels = [max(1, round(n * width)) for n in (64, 192, 384, 256, 256)]
    units = len(at)
    _check_size(units, max(units, 36 * channels[4]))
    modules: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, channels[0], 11, stride, 2),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(3, 2),
        "conv2": nn.Conv2d(channels[0], channels[1], 5, padding=2),
        "relu2": nn.ReLU(),
        "pool2": nn.MaxPool2d(3, 2),
        "conv3": nn.Conv2d(channels[1], channels[2], 3, padding=1),
        "relu3": nn.ReLU(),
        "conv4": nn.Conv2d(channels[2], channels[3], 3, padding=1),
        "relu4": nn.ReLU(),
        "conv5": nn.Conv2d(channels[3], channels[4], 3, padding=1),
        "relu5": nn.ReLU(),
        "pool5": nn.MaxPool2d(3, 2),
        "average": nn.AdaptiveAvgPool2d((6, 6)),
        "flatten": nn.Flatten(),
    }
    features = Grid(6, 6).with_channels(channels[4])
    first: dict[str, nn.Module] = {"fc6": nn.Linear(len(features), units)}
    second: dict[str, nn.Module] = {"fc7": nn.Linear(units, units)}
    if layer == "fc6":
        modules |= {"input": nn.Identity(), "dropout1": nn.Dropout(), **first, "norm": nn.BatchNorm1d(units)}
        modules |= {"output": nn.ReLU(), "dropout2": nn.Dropout(), **second, "relu7": nn.ReLU()}
        ends: tuple[Geometry, Geometry] = (features, at)
    else:
        modules |= {"dropout1": nn.Dropout(), **first, "input": nn.ReLU(), "dropout2": nn.Dropout()}
        modules |= {**second, "norm": nn.BatchNorm1d(units), "output": nn.ReLU()}
        ends = (at, at)
    modules["fc8"] = nn.Linear(units, logits)
    return Sheets(modules, {"input": ends[0], "output": at}, {layer: ends})


def sheets(
    task: Task | None = None,
    sizes: Sequence[Any] = ("32x32", "32x32", "32x32"),
    retina: bool = True,
    classes: int | None = None,
    dropout: float = 0.0,
) -> Sheets:
    """A stack of sheets. From one to the next go a linear layer that may be local, BatchNorm and ReLU.

    Args:
        task: what it learns; the shape of its items is that of the input, and its classes are counted.
        sizes: the geometry of each sheet, from the first to the last.
        retina: whether the input lies on a sheet too, with an image's pixels in their rows and columns, so that the
            first layer may be local as well. Otherwise that layer stays dense.
        classes: how many logits, where they are not as many as the task has classes.
        dropout: the share of each sheet's responses that dropout leaves out on the way to the next layer, below 1.
    """
    if task is None:
        raise wrong("task", None, "the task that the network learns")
    if not isinstance(sizes, (list, tuple)) or not sizes or len(sizes) > 100:
        raise wrong("sizes", sizes, "the sizes of one sheet or more, such as [32x32, 32x32]")
    item = next(iter(task.test(Shard()))).inputs
    if not isinstance(item, torch.Tensor):
        raise wrong(
            "task", f"{task.name}, whose inputs are {type(item).__name__}", "a task whose inputs are one tensor"
        )
    shape = tuple(item.shape[1:])
    channels, rows, cols = shape if len(shape) == 3 else (1, 1, 0)
    pixels = int(torch.Size(shape).numel())
    source: Geometry | None = None
    if boolean("retina", retina):
        if len(shape) != 3:
            raise wrong("retina", f"True for items of shape {shape}", "images (channels, rows, columns), or False")
        source = Grid(rows, cols) if channels == 1 else Grid(rows, cols).with_channels(channels)
    at_each = [_sheet("sizes", size) for size in sizes]
    for inputs, outputs in pairwise([pixels, *map(len, at_each)]):
        _check_size(inputs, outputs)
    if number("dropout", dropout, least=0.0) >= 1:
        raise wrong("dropout", dropout, "a share of at least 0 and below 1")
    modules: dict[str, nn.Module] = {"flatten": nn.Flatten()}
    place: dict[str, Geometry] = {}
    local: dict[str, tuple[Geometry, Geometry]] = {}
    before, width = source, pixels
    for k, at in enumerate(at_each, 1):
        name = f"sheet{k}"
        modules |= {f"to_{name}": nn.Linear(width, len(at)), f"norm{k}": nn.BatchNorm1d(len(at)), name: nn.ReLU()}
        if dropout:
            modules[f"dropout{k}"] = nn.Dropout(dropout)
        place[name] = at
        if before is not None:
            local[f"to_{name}"] = (before, at)
        before, width = at, len(at)
    modules["head"] = nn.Linear(width, _logits(task, classes))
    return Sheets(modules, place, local)


def _logits(task: Task | None, classes: int | None) -> int:
    """How many logits: as many as ``classes`` says, else as the task has classes, else ten."""
    if classes is None and task is not None:
        if not task.classes:
            raise wrong("classes", f"none, and {task.name} has none", "the number of the network's outputs")
        return len(task.classes)
    return 10 if classes is None else count("classes", classes, most=1 << 20)


def _check_size(inputs: int, outputs: int) -> None:
    """Raise where the weights of a layer, with their gradient, would not fit into memory."""
    check_fits(inputs * outputs, f"a layer from {inputs:,} to {outputs:,} units", "choose a smaller sheet.")


def _sheet(name: str, given: Any) -> Geometry:
    """A geometry, or the one that a word names."""
    if isinstance(given, Geometry):
        return given
    words = places.canonical(name, given)
    if len(words) != 1:
        raise wrong(name, given, "one geometry")
    return places.parse(name, words[0])
