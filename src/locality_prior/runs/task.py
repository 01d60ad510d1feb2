"""What a network learns: batches of items, a loss, scores, and the labels that maps are made by."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from locality_prior._check import choice, count, number, wrong, wrong_type

if TYPE_CHECKING:
    from locality_prior.runs.arrays import Items

#: Test items whose activations are kept: the source document's thousand.
KEPT = 1000


@dataclass(frozen=True)
class Shard:
    """One process's share of every batch: of ``world`` processes, process ``rank`` gets items rank, rank + world, …

    >>> import torch
    >>> from locality_prior.runs import Shard
    >>> Shard(rank=1, world=2).of(torch.arange(6))
    tensor([1, 3, 5])
    """

    rank: int = 0
    world: int = 1

    def of(self, items: Tensor) -> Tensor:
        """This process's share of ``items``."""
        return items[self.rank :: self.world]


class Batch(NamedTuple):
    """One process's share of a batch.

    >>> import torch
    >>> from locality_prior.runs import Batch
    >>> batch = Batch(inputs=torch.randn(64, 8), targets=torch.zeros(64), planned=64)
    >>> batch.labels is None, batch.broken
    (True, ())
    """

    inputs: Any  #: what the model is called with: a tensor, a tuple of arguments or a mapping of them
    targets: Tensor  #: what the loss compares the output with; its first axis goes along the items
    planned: int  #: how many items the batch has over all processes together
    labels: Tensor | None = None  #: the class of each item, by which maps are made; None: items have no classes
    broken: tuple[str, ...] = ()  #: files that could not be read and were left out


@dataclass(frozen=True)
class Score:
    """A number by which trained networks are compared.

    >>> from locality_prior.runs import Score
    >>> Score("error", better="down", tolerance=0.05)
    Score(name='error', unit='', better='down', tolerance=0.05)

    Args:
        name: one word, such as ``accuracy``.
        unit: its unit, such as ``%``.
        better: "up" where more is better, "down" where less is.
        tolerance: how much worse it may become when wires are cut, in its unit.
    """

    name: str
    unit: str = ""
    better: Literal["up", "down"] = "up"
    tolerance: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise wrong("name", self.name, "one word, such as accuracy")
        choice("better", self.better, ("up", "down"))
        number("tolerance", self.tolerance, least=0.0)


class Task(ABC):
    """What a network learns. :meth:`classification` makes one of arrays, data sets or folders.

    A subclass says how many batches an epoch has and what is in them. Whatever is random in them must be drawn from the
    seed, the epoch and the number of the item (see :func:`draw`), so that the batches are the same each time they are
    asked for, from any step on. That is what lets a stopped run continue as if it had never been stopped.

    >>> import torch
    >>> from locality_prior.runs import Task
    >>> x, y = torch.randn(60, 8), torch.arange(60) % 3
    >>> Task.classification(train=(x[:40], y[:40]), test=(x[40:], y[40:]), name="three")
    Classification('three': 36 to train, 4 to validate, 20 to test, 3 classes)
    """

    #: What the task is called on pages.
    name: str = "task"
    #: Names of the classes, in the order of the labels; None: items have no labels.
    classes: tuple[str, ...] | None = None
    #: Scores beside the loss. Cuts of wires are judged by the first one. Without any, the loss may rise by a tenth.
    scores: tuple[Score, ...] = ()
    #: What a unit's response to an item is: its mean over tokens or positions, or that at the last token.
    response: Literal["mean", "last"] = "mean"

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, ...]:
        """How many items there are to train, validate and test with. A run continues only if they are unchanged."""

    @abstractmethod
    def steps(self, batch_size: int, world: int) -> int:
        """How many batches an epoch has; ``world`` is the number of processes that share each of them."""

    @abstractmethod
    def epoch(self, seed: int, epoch: int, batch_size: int, shard: Shard, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch without the first ``start`` of them. Each call must give the same batches."""

    @abstractmethod
    def validation(self, shard: Shard) -> Iterator[Batch]:
        """The held-out items that choices are based on. Each comes once over all processes, and none is trained on."""

    @abstractmethod
    def test(self, shard: Shard) -> Iterator[Batch]:
        """The items by which results are reported. Each comes once over all processes."""

    def kept(self) -> Iterator[Batch]:
        """The test items whose activations are kept and measured: the first thousand."""
        left = KEPT
        for batch in self.test(Shard()):
            yield first(batch, left)
            left -= len(batch.targets)
            if left <= 0:
                return

    def loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """The loss of a batch, a scalar: the mean over its items. Here it is cross-entropy."""
        return F.cross_entropy(logits_of(outputs), targets)

    def score(self, outputs: Any, targets: Tensor) -> dict[str, Tensor]:
        """Each of :attr:`scores` by its name: a tensor whose mean over all batches is reported.

        It has a number for each item, or for each part of the items, such as a character.
        """
        return {}

    def ceiling(self) -> float:
        """The mean loss above which training counts as diverged: a hundred times that of guessing among the classes."""
        return math.inf if self.classes is None else 100.0 * math.log(max(len(self.classes), 2))

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
        """A task whose items each belong to one class. The loss is cross-entropy and the score is accuracy.

        >>> import torch
        >>> from locality_prior.runs import Task
        >>> x, y = torch.randn(60, 8), torch.arange(60) % 3
        >>> Task.classification(train=(x[:40], y[:40]), test=(x[40:], y[40:]))
        Classification('task': 36 to train, 4 to validate, 20 to test, 3 classes)

        Args:
            train: a pair (inputs, labels) of arrays or tensors, with inputs of shape (items, …) and labels that are
                whole numbers from 0; or a torch data set whose items are pairs (input, label); or a folder that holds a
                folder of photographs for each class, or that holds two of those, ``train`` and ``val``.
            test: the test items, in the same form; None where ``train`` is a folder that holds both.
            validation: how much of ``train`` to hold out, as a share below 1 or a number of items; or the items
                themselves, in the same form as ``test``. What is held out is drawn class by class, and it is the same
                under every seed. If a data set has a random transform, it is applied to validation items too, always in
                the same way.
            classes: names of the classes; None: those that the data set has, else their numbers. Classes in folders
                have the folders' names.
            transform: applied to each batch of inputs; None: uint8 inputs are divided by 255, others are left as they
                are. Photographs in folders are normalised instead.
            passes: how often an epoch goes over the training items; each pass has an order of its own.
            name: the task's name on pages.

        Raises:
            ValueError, TypeError: arrays of different lengths, labels that are not whole numbers from 0, or too few
                items to train on.
        """
        from locality_prior.runs import arrays

        if isinstance(train, (str, Path)):
            from locality_prior.runs.folders import photographs

            for argument, value in (("classes", classes), ("transform", transform)):
                if value is not None:
                    raise wrong(argument, value, "none, since train is a folder of photographs")
            return photographs(train, test, validation=validation, passes=passes, name=name)
        parts = arrays.parts(train, test, validation)
        most = max(int(part.labels.max()) + 1 for part in parts)
        known = classes if classes is not None else getattr(train, "classes", None)
        if isinstance(known, str) or not (known is None or isinstance(known, Sequence)):
            raise wrong_type("classes", known, "a list of names")
        names = tuple(str(k) for k in (range(most) if known is None else known))
        if len(names) < most:
            raise wrong("classes", f"{len(names)} names", f"one for each of {most} classes")
        return Classification(names, *parts, transform=transform, passes=passes, name=name)


class Classification(Task):
    """A task in which each item belongs to one class.

    >>> import torch
    >>> from locality_prior.runs import Shard, Task
    >>> x, y = torch.randn(60, 8), torch.arange(60) % 3
    >>> task = Task.classification(train=(x[:40], y[:40]), test=(x[40:], y[40:]), classes=["cat", "dog", "house"])
    >>> task
    Classification('task': 36 to train, 4 to validate, 20 to test, 3 classes)
    >>> next(task.epoch(seed=1, epoch=1, batch_size=16, shard=Shard())).inputs.shape
    torch.Size([16, 8])
    """

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
        if not isinstance(name, str) or not name.strip() or len(name) > 200:
            raise wrong("name", name, "a few words, at most 200 characters")
        if not (transform is None or callable(transform)):
            raise wrong_type("transform", transform, "a function of a batch of inputs")
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
        """The first thousand test items where all classes are among them, else about equally many of each."""
        return self._each_once(self._test, representative(self._test.labels, KEPT), Shard())

    def score(self, outputs: Any, targets: Tensor) -> dict[str, Tensor]:
        logits = logits_of(outputs)
        likeliest = logits.topk(min(5, logits.shape[1])).indices == targets[:, None]
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


def logits_of(outputs: Any) -> Any:
    """What a model gives, or its attribute ``logits``, as the models of the ``transformers`` library have it."""
    return getattr(outputs, "logits", outputs)


def _scaled(pixels: Tensor) -> Tensor:
    """uint8 images as numbers from 0 to 1."""
    return pixels.float().div_(255)


def first(batch: Batch, most: int) -> Batch:
    """A batch with at most ``most`` of its items, the first ones."""
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
    """Numbers of at most ``most`` items: the first ones where all classes are among them.

    Otherwise, for example where items are sorted by class, equally many items of each class. If there are more than
    forty classes, forty that are spread evenly over them are used.
    """
    if len(labels) <= most or len(torch.unique(labels[:most])) == len(torch.unique(labels)):
        return torch.arange(min(most, len(labels)))
    there = torch.unique(labels)
    chosen = there[spread(len(there), 40)]
    parts = [(labels == k).nonzero()[:, 0] for k in chosen]
    return torch.cat([part[spread(len(part), most // len(chosen))] for part in parts])


def spread(n: int, most: int) -> Tensor:
    """At most ``most`` of the numbers below ``n``, spread evenly over them."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long()


def shuffled(n: int, seed: int, epoch: int, passes: int = 1) -> Tensor:
    """The order of ``n`` training items in an epoch."""
    generator = torch.Generator().manual_seed(draw(seed, epoch, 0))
    return torch.cat([torch.randperm(n, generator=generator) for _ in range(passes)])


def cut(order: Tensor, batch_size: int, world: int) -> list[Tensor]:
    """Batches of ``order``. A last batch with fewer than two items a process is dropped, since BatchNorm needs two."""
    return [batch for batch in torch.split(order, batch_size) if len(batch) >= 2 * world]


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """A block in which torch, numpy and Python draw from ``seed``. Afterwards they draw as if nothing had happened."""
    held = random.getstate(), np.random.get_state()  # noqa: NPY002  # that of users' transforms
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(held[0])
            np.random.set_state(held[1])  # noqa: NPY002


def draw(*numbers: int) -> int:
    """A seed made of ``numbers``, such as a run's seed, an epoch and an item's number."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
