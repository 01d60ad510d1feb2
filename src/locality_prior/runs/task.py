"""What a network learns: batches of items, a loss, scores, and the labels that maps are made by."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from locality_prior._check import choice, positive, wrong

if TYPE_CHECKING:
    from locality_prior.runs.arrays import Items

#: Test items whose activations are kept: the source document's thousand.
KEPT = 1000


@dataclass(frozen=True)
class Shard:
    """One process's share of every batch: items ``rank``, ``rank + world``, …"""

    rank: int = 0
    world: int = 1

    def of(self, items: Tensor) -> Tensor:
        """This process's share of ``items``."""
        return items[self.rank :: self.world]


class Batch(NamedTuple):
    """One process's share of a batch."""

    inputs: Any  #: what the model is called with: a tensor, a tuple of arguments or a mapping of them
    targets: Tensor  #: what the loss compares the output with, one entry an item along the first axis
    planned: int  #: how many items the batch has over all processes
    labels: Tensor | None = None  #: the class of each item, by which maps are made; None: there are no classes
    broken: tuple[str, ...] = ()  #: files that could not be read, and were left out


@dataclass(frozen=True)
class Score:
    """A number by which trained networks are compared.

    Args:
        name: one word, such as ``accuracy``.
        unit: what it is counted in, such as ``%``.
        better: whether more of it is better ("up") or less ("down").
        tolerance: how much worse it may become when wires are cut.
    """

    name: str
    unit: str = ""
    better: Literal["up", "down"] = "up"
    tolerance: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise wrong("name", self.name, "one word, such as accuracy")
        choice("better", self.better, ("up", "down"))
        positive("tolerance", self.tolerance)


class Task(ABC):
    """What a network learns. :meth:`classification` makes one of arrays, data sets or folders.

    A subclass says how large an epoch is and what its batches are; everything that is random in them is drawn from the
    seed, the epoch and the item's number, so that they are the same whenever they are asked for, from any step on.
    """

    #: What the task is called on pages.
    name: str = "task"
    #: Names of the classes, in the order of the labels; None: items have no labels.
    classes: tuple[str, ...] | None = None
    #: Scores beside the loss; the first is the one that cutting wires is judged by.
    scores: tuple[Score, ...] = ()

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """How many items there are to train, validate and test: by these the data are known again."""

    @abstractmethod
    def steps(self, batch_size: int, world: int) -> int:
        """How many batches an epoch has."""

    @abstractmethod
    def epoch(self, seed: int, epoch: int, batch_size: int, shard: Shard, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number ``start`` on: the same ones whenever they are asked for."""

    @abstractmethod
    def validation(self, shard: Shard) -> Iterator[Batch]:
        """The items by which anything is chosen; each once over all processes, none of them trained on."""

    @abstractmethod
    def test(self, shard: Shard) -> Iterator[Batch]:
        """The items by which results are told; each once over all processes."""

    def kept(self) -> Iterator[Batch]:
        """The test items whose activations are kept: at most a thousand, the first ones."""
        left = KEPT
        for batch in self.test(Shard()):
            yield _first(batch, left)
            left -= len(batch.targets)
            if left <= 0:
                return

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """The loss of a batch, a scalar: cross-entropy, mean over items."""
        return F.cross_entropy(outputs, targets)

    def score(self, outputs: Any, targets: Tensor) -> dict[str, Tensor]:
        """Each of :attr:`scores` by name: a number for each item, of which the mean is taken."""
        return {}

    def ceiling(self) -> float:
        """The mean loss above which training counts as diverged."""
        return 100.0 * math.log(max(len(self.classes or ()), 2))

    @staticmethod
    def classification(
        train: Any,
        test: Any = None,
        *,
        validation: Any = 0.1,
        classes: Sequence[str] | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
        passes: int = 1,
        name: str = "task",
    ) -> Classification:
        """A task whose items each belong to one class; the loss is cross-entropy, the score accuracy.

        >>> from locality_prior.runs import Task
        >>> x, y = torch.randn(60, 8), torch.arange(60) % 3
        >>> Task.classification(train=(x[:40], y[:40]), test=(x[40:], y[40:]))
        Classification('task': 36 to train, 4 to validate, 20 to test, 3 classes)

        Args:
            train: a pair (inputs, labels) of arrays or tensors, with inputs of shape (items, …) and labels of whole
                numbers from 0; or a torch data set whose items are pairs (input, label); or a folder with a folder of
                photographs for each class, or with ``train`` and ``val`` in it.
            test: the same, of test items; for a folder that holds both, None.
            validation: the share of ``train`` to hold out, or how many items of it, or items of the same form as
                ``test``. What is held out is drawn once, class by class, the same under every seed.
            classes: names of the classes; None: their numbers, or what the folders or the data set call them.
            transform: applied to each batch of inputs; None: uint8 images are divided by 255, and the rest stays.
            passes: how often an epoch goes over the training items, each time in another order.
            name: what the task is called on pages.

        Raises:
            ValueError: arrays of different lengths, labels that are not whole numbers from 0, nothing to train on.
        """
        from locality_prior.runs import arrays

        if isinstance(train, (str, Path)):
            from locality_prior.runs.folders import photographs

            return photographs(train, test, validation=validation, name=name)
        parts = arrays.parts(train, test, validation)
        labels = [part.labels for part in parts]
        count = max((int(y.max()) + 1 for y in labels if len(y)), default=0)
        known = classes if classes is not None else getattr(train, "classes", None)
        names = tuple(str(k) for k in (range(count) if known is None else known))
        if len(names) < count:
            raise wrong("classes", f"{len(names)} names", f"one for each of {count} classes")
        return Classification(names, *parts, transform=transform, passes=passes, name=name)


class Classification(Task):
    """A task in which each item belongs to one class."""

    def __init__(
        self,
        classes: Sequence[str],
        train: Items,
        validation: Items,
        test: Items,
        transform: Callable[[Tensor], Tensor] | None = None,
        passes: int = 1,
        name: str = "task",
    ) -> None:
        from locality_prior._check import count

        self.name, self.classes = name, tuple(classes)
        self.passes = count("passes", passes, most=10_000)
        self.transform = transform or (_scaled if getattr(train, "pixels", False) else None)
        self._train, self._validation, self._test = train, validation, test
        five = (Score("top5_accuracy", "%"),) if len(self.classes) > 10 else ()
        self.scores = (Score("accuracy", "%"), *five)

    def __repr__(self) -> str:
        train, validation, test = self.sizes
        counts = f"{train:,} to train, {validation:,} to validate, {test:,} to test"
        return f"Classification({self.name!r}: {counts}, {len(self.classes or ())} classes)"

    @property
    def sizes(self) -> tuple[int, ...]:
        return len(self._train), len(self._validation), len(self._test)

    def steps(self, batch_size: int, world: int) -> int:
        return len(cut(torch.arange(self.passes * len(self._train)), batch_size, world))

    def epoch(self, seed: int, epoch: int, batch_size: int, shard: Shard, start: int = 0) -> Iterator[Batch]:
        batches = cut(shuffled(len(self._train), seed, epoch, self.passes), batch_size, shard.world)[start:]
        return self._batches(self._train, batches, shard, lambda number: draw(seed, epoch, 2, number))

    def validation(self, shard: Shard) -> Iterator[Batch]:
        return self._each_once(self._validation, torch.arange(len(self._validation)), shard)

    def test(self, shard: Shard) -> Iterator[Batch]:
        return self._each_once(self._test, torch.arange(len(self._test)), shard)

    def kept(self) -> Iterator[Batch]:
        """The first thousand test items where these are of many classes, else as many of each class."""
        return self._each_once(self._test, representative(self._test.labels, KEPT), Shard())

    def score(self, outputs: Any, targets: Tensor) -> dict[str, Tensor]:
        likeliest = outputs.topk(min(5, outputs.shape[1])).indices == targets[:, None]
        scores = {"accuracy": 100.0 * likeliest[:, 0].double()}
        if len(self.classes or ()) > 10:
            scores["top5_accuracy"] = 100.0 * likeliest.any(1).double()
        return scores

    def _each_once(self, items: Items, numbers: Tensor, shard: Shard) -> Iterator[Batch]:
        return self._batches(items, list(torch.split(numbers, items.at_once)), shard, lambda number: 0)

    def _batches(
        self, items: Items, batches: Sequence[Tensor], shard: Shard, seed: Callable[[int], int]
    ) -> Iterator[Batch]:
        for read, planned in zip(items.read([shard.of(b) for b in batches], seed), batches, strict=True):
            inputs = read.inputs if self.transform is None or not len(read.labels) else self.transform(read.inputs)
            yield Batch(inputs, read.labels, len(planned), read.labels, read.broken)


def _scaled(pixels: Tensor) -> Tensor:
    """uint8 images as numbers from 0 to 1."""
    return pixels.float().div_(255)


def _first(batch: Batch, most: int) -> Batch:
    """The first items of a batch."""
    if len(batch.targets) <= most:
        return batch
    inputs: Any = batch.inputs
    if isinstance(inputs, dict):
        inputs = {k: v[:most] for k, v in inputs.items()}
    else:
        inputs = tuple(v[:most] for v in inputs) if isinstance(inputs, tuple) else inputs[:most]
    labels = None if batch.labels is None else batch.labels[:most]
    return Batch(inputs, batch.targets[:most], min(batch.planned, most), labels, batch.broken)


def representative(labels: Tensor, most: int) -> Tensor:
    """Numbers of at most ``most`` items: the first ones; of items sorted by class, as many of each class.

    Of more than forty classes sorted so, forty are taken from all over them.
    """
    if len(labels) <= most or len(torch.unique(labels[:most])) == len(torch.unique(labels)):
        return torch.arange(min(most, len(labels)))
    there = torch.unique(labels)
    chosen = there[spread(len(there), 40)]
    parts = [(labels == k).nonzero()[:, 0] for k in chosen]
    return torch.cat([part[spread(len(part), most // len(chosen))] for part in parts])


def spread(n: int, most: int) -> Tensor:
    """At most ``most`` of the numbers below ``n``, from all over them."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long()


def shuffled(n: int, seed: int, epoch: int, passes: int = 1) -> Tensor:
    """The order of ``n`` training items in an epoch."""
    generator = torch.Generator().manual_seed(draw(seed, epoch, 0))
    return torch.cat([torch.randperm(n, generator=generator) for _ in range(passes)])


def cut(order: Tensor, batch_size: int, world: int) -> list[Tensor]:
    """Batches of ``order``. A last one with fewer than two items a process is left out: BatchNorm has no use for it."""
    return [batch for batch in torch.split(order, batch_size) if len(batch) >= 2 * world]


def draw(*numbers: int) -> int:
    """A seed made from ``numbers``, such as a run's seed, an epoch and a use: the same whenever it is asked for."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
