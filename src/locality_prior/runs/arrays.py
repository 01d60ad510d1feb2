"""The items of a classification: in memory, or in a torch data set."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from locality_prior._check import count, number, wrong, wrong_type
from locality_prior.runs.task import draw, drawing

#: Items that are evaluated together, over all processes.
EVALUATION = 1000


class Read(NamedTuple):
    """A batch of items as they were read."""

    inputs: Any
    labels: Tensor
    broken: tuple[str, ...] = ()


class Items(Protocol):
    """Items that are read by their numbers.

    >>> import torch
    >>> from locality_prior.runs import Classification
    >>> from locality_prior.runs.arrays import Read
    >>> class Rows:
    ...     at_once = 1000
    ...     def __init__(self, table, labels):
    ...         self.table, self.labels = table, labels
    ...     def __len__(self):
    ...         return len(self.labels)
    ...     def take(self, numbers):
    ...         return Rows(self.table[numbers], self.labels[numbers])
    ...     def read(self, batches, seed):
    ...         for batch in batches:
    ...             yield Read(self.table[batch], self.labels[batch])
    >>> rows = Rows(torch.randn(60, 8), torch.arange(60) % 2)
    >>> first, rest = rows.take(torch.arange(20)), rows.take(torch.arange(20, 60))
    >>> Classification(["left", "right"], train=rest, validation=first, test=first)
    Classification('task': 40 to train, 20 to validate, 20 to test, 2 classes)
    """

    #: How many of them are evaluated together.
    at_once: int

    @property
    def labels(self) -> Tensor:
        """The class of each item."""

    def __len__(self) -> int: ...

    def take(self, numbers: Tensor) -> Items:
        """Some of the items."""

    def read(self, batches: Sequence[Tensor], seed: Callable[[int], int]) -> Iterator[Read]:
        """The items of each batch of numbers. What is random in an item is drawn from ``seed(number)``."""


class Arrays:
    """Inputs (items, …) and labels (items,) in memory."""

    at_once = EVALUATION

    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels
        #: whether the inputs are whole numbers from 0 to 255, as pixels are
        self.pixels = inputs.dtype == torch.uint8

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, numbers: Tensor) -> Arrays:
        return Arrays(self.inputs[numbers], self.labels[numbers])

    def read(self, batches: Sequence[Tensor], seed: Callable[[int], int]) -> Iterator[Read]:
        for batch in batches:
            yield Read(self.inputs[batch], self.labels[batch])


class DataSet:
    """A torch data set whose items are pairs (input, label)."""

    at_once = 256

    def __init__(self, items: Any, numbers: Tensor | None = None, labels: Tensor | None = None) -> None:
        self.items = items
        self.numbers = torch.arange(len(items)) if numbers is None else numbers
        self.labels = labels_of("train", items) if labels is None else labels

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, numbers: Tensor) -> DataSet:
        return DataSet(self.items, self.numbers[numbers], self.labels[numbers])

    def read(self, batches: Sequence[Tensor], seed: Callable[[int], int]) -> Iterator[Read]:
        keys = [[(seed(i), int(self.numbers[i])) for i in batch.tolist()] for batch in batches]
        # with a generator of its own, since the loader would otherwise draw from the one that dropout uses
        loader = DataLoader(_Seeded(self.items), batch_sampler=keys, generator=torch.Generator())
        for (inputs, _), batch in zip(loader, batches, strict=True):
            yield Read(inputs, self.labels[batch])


class _Seeded(Dataset[Any]):
    """The items of a data set by (seed, number), so that a random transform draws from the seed."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        seed, number = key
        with drawing(seed):
            return self.items[number]


def labels_of(name: str, items: Any) -> Tensor:
    """The label of each item: the data set's own ``targets``, else found by reading all items."""
    with drawing(0):
        first = items[0]
        if not isinstance(first, (tuple, list)) or len(first) != 2:
            raise wrong(
                name, f"a data set whose items are {type(first).__name__}", "items that are pairs (input, label)"
            )
        try:
            default_collate([first])
        except (TypeError, RuntimeError):
            raise wrong(name, f"inputs that are {type(first[0]).__name__}", "a transform that makes tensors") from None
        targets = getattr(items, "targets", None)
        if targets is None:
            targets = [items[k][1] for k in range(len(items))]
            targets = [int(y) if hasattr(y, "__int__") else y for y in targets]
    return _labels(f"{name} labels", targets, len(items))


def parts(train: Any, test: Any, validation: Any) -> tuple[Items, Items, Items]:
    """The items to train, to validate and to test."""
    training, testing = _items("train", train), _items("test", test)
    if isinstance(validation, (int, float, np.integer, np.floating)) and not isinstance(validation, bool):
        held = held_out(training.labels, float(validation))
        left = torch.ones(len(training), dtype=torch.bool)
        left[held] = False
        return training.take(left.nonzero()[:, 0]), training.take(held), testing
    return training, _items("validation", validation), testing


def held_out(labels: Tensor, share: float) -> Tensor:
    """Numbers of the items to validate by, ascending: drawn class by class, and always the same.

    Args:
        labels: the classes of the training items.
        share: how many to hold out: a share below 1, or a whole number from 1.
    """
    n, share = len(labels), number("validation", share, least=0.0)
    if share < 1:
        wanted = max(round(share * n), 1) if share else 0
    else:
        wanted = count("validation", int(share) if share.is_integer() else share)
    if not 1 <= wanted <= n - 2:
        raise wrong("validation", f"{share:g}, which is {wanted} of {n} items", "at least 1, with 2 left to train on")
    generator = torch.Generator().manual_seed(draw(0, 3))
    order = torch.randperm(n, generator=generator)
    # every so many of the items sorted by class, which takes from each class its share
    sorted_order = order[labels[order].argsort(stable=True)]
    return sorted_order[torch.linspace(0, n - 1, wanted, dtype=torch.float64).round().long()].sort().values


def _items(name: str, given: Any) -> Items:
    """What a caller gives as items."""
    expected = "a pair (inputs, labels), or a torch data set of such pairs"
    if isinstance(given, (tuple, list)):
        if len(given) != 2:
            raise wrong(name, f"{len(given)} parts", expected)
        inputs = _tensor(f"{name} inputs", given[0])
        if inputs.dim() < 2:
            raise wrong(
                f"{name} inputs", f"shape {tuple(inputs.shape)}", "at least two axes, the first along the items"
            )
        return Arrays(inputs, _labels(f"{name} labels", given[1], len(inputs)))
    if isinstance(given, (np.ndarray, Tensor, str, bytes, dict)):
        raise wrong_type(name, given, expected)
    if hasattr(given, "__getitem__") and hasattr(given, "__len__"):
        if not len(given):
            raise wrong(name, "an empty data set", "one or more items")
        return DataSet(given, labels=labels_of(name, given))
    raise wrong_type(name, given, expected)


def _tensor(name: str, values: Any) -> Tensor:
    """Numbers as a tensor: floating ones as float32."""
    try:
        with warnings.catch_warnings(action="ignore"):  # about arrays that are read-only
            tensor = values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))
    except (TypeError, ValueError):
        raise wrong_type(name, values, "numbers") from None
    if tensor.is_complex() or not tensor.dim() or not tensor.numel():
        raise wrong(name, values, "one or more real numbers")
    if tensor.is_floating_point():
        tensor = tensor.float()
        if not tensor.isfinite().all():
            raise wrong(name, "values that are not finite", "finite numbers")
    return tensor


def _labels(name: str, values: Any, n: int) -> Tensor:
    labels = _tensor(name, values)
    whole = not labels.is_floating_point() or bool((labels == labels.round()).all())
    if labels.dim() != 1 or not whole or labels.dtype == torch.bool:
        raise wrong(name, values, "whole numbers from 0, one for each item")
    if len(labels) != n:
        raise wrong(name, f"{len(labels):,} labels", f"{n:,}, one for each item")
    labels = labels.long()
    if int(labels.min()) < 0 or int(labels.max()) > 1_000_000:
        raise wrong(name, f"labels from {int(labels.min())} to {int(labels.max())}", "whole numbers from 0")
    return labels
