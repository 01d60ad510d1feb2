"""The built-in networks: plain torch, which names the sheets to look at and the layers that a condition makes local."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locality_prior._check import boolean, check_fits, choice, count, number, wrong
from locality_prior.geometry import Geometry, Grid, default_sheet
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


class Attention(nn.Module):
    """Causal attention of several heads, in four linear layers: each token attends to itself and those before it.

    softmax(Q Kᵀ / √d) V for each head, of width d = width / heads (Vaswani et al., NeurIPS 2017). With a ``window`` w,
    a token attends to itself and to the w − 1 before it (sliding-window attention: Beltagy, Peters & Cohan 2020).
    """

    def __init__(self, width: int, heads: int, window: int | None = None) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(items, tokens, width) → (items, tokens, width)."""
        parts = (self.query(x), self.key(x), self.value(x))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        if self.window is None:
            seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            near = torch.ones(2 * x.shape[1:2], dtype=torch.bool, device=x.device).tril().triu(1 - self.window)
            seen = F.scaled_dot_product_attention(q, k, v, near)
        mixed: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    """A block of a transformer with normalisation first: x + attention(norm(x)), and then x + MLP(norm(x)) of that."""

    def __init__(self, width: int, hidden: int, heads: int, window: int | None = None) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.up, self.hidden, self.down = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(items, tokens, width) → (items, tokens, width)."""
        x = x + self.attention(self.norm1(x))
        mixed: Tensor = x + self.down(self.hidden(self.up(self.norm2(x))))
        return mixed


class Embedding(nn.Module):
    """Each token's vector, and that of its position."""

    def __init__(self, vocabulary: int, context: int, width: int) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(vocabulary, width), nn.Embedding(context, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(items, tokens) whole numbers → (items, tokens, width)."""
        there, most = tokens.shape[-1], self.position.num_embeddings
        if there > most:
            raise wrong("inputs", f"{there} tokens", f"at most {most}, which is the context")
        embedded: Tensor = self.token(tokens) + self.position.weight[:there]
        return embedded


def gpt(
    task: Task | None = None,
    layers: int = 2,
    width: int = 256,
    heads: int = 4,
    window: int | None = None,
    context: int | None = None,
    vocabulary: int | None = None,
) -> Sheets:
    """A transformer that predicts the next token: pre-norm blocks, causal attention, learned positions.

    Token and position embeddings, ``layers`` blocks of attention (``block1.attention``: linear layers ``query``,
    ``key``, ``value`` and ``out``) and an MLP of four times the width (``block1.up``, GELU ``block1.hidden``,
    ``block1.down``), LayerNorm, and a linear layer to logits. Initial weights are those of GPT-2 (Radford et al. 2019):
    normal with a standard deviation of 0.02, or 0.02/√(2 layers) in ``out`` and ``down``, which add to what passes by;
    biases are 0.

    What passes from block to block lies on a square sheet of ``width`` units (256: 16×16), and each MLP's hidden units
    lie on one of four times as many (1,024: 32×32). The sheets to look at are the attention's outputs and the MLP's
    hidden units, and all of the blocks' linear layers may be local.

    Args:
        task: what it learns; its different tokens are counted, and its context is taken.
        layers: how many blocks.
        width: units that pass from block to block.
        heads: parts that the width is divided into, each with an attention of its own.
        window: tokens that a token attends to, itself and those just before it; None: all before it.
        context: the most tokens that it reads, where they are not those of the task.
        vocabulary: how many logits, where there is no task.
    """
    layers, width = count("layers", layers, most=1000), count("width", width, most=1 << 16)
    if width % count("heads", heads, most=width):
        raise wrong("heads", heads, f"a number that divides the width, {width}")
    words, most = _tokens(task, vocabulary, context)
    near = None if window is None else count("window", window, most=1 << 20)
    hidden = 4 * width
    check_fits(2 * layers * 12 * width * width, f"a network of {layers} blocks of width {width:,}", "choose fewer.")
    at, wide = default_sheet(width), default_sheet(hidden)
    modules: dict[str, nn.Module] = {"embed": Embedding(words, most, width)}
    place: dict[str, Geometry] = {}
    local: dict[str, tuple[Geometry, Geometry]] = {}
    for name in (f"block{k}" for k in range(1, layers + 1)):
        modules[name] = Block(width, hidden, heads, near)
        place |= {f"{name}.attention": at, f"{name}.hidden": wide}
        local |= {f"{name}.attention.{part}": (at, at) for part in ("query", "key", "value", "out")}
        local |= {f"{name}.up": (at, wide), f"{name}.down": (wide, at)}
    modules |= {"norm": nn.LayerNorm(width), "head": nn.Linear(width, words)}
    for at_name, module in nn.ModuleDict(modules).named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            adds = at_name.endswith((".out", ".down"))
            nn.init.normal_(module.weight, std=0.02 / math.sqrt(2 * layers) if adds else 0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    return Sheets(modules, place, local)


def _tokens(task: Task | None, vocabulary: int | None, context: int | None) -> tuple[int, int]:
    """How many different tokens a model of language reads and predicts, and the most that it reads at once."""
    found = []
    for name, given in (("vocabulary", vocabulary), ("context", context)):
        own = getattr(task, name, None)
        if given is None and own is None:
            what = "none" if task is None else f"none, and {task.name} has none"
            raise wrong(name, what, "a number, or a task that has one, such as text")
        found.append(count(name, own if given is None else given, most=1 << 20))
    return found[0], found[1]


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
