"""Photographs in folders, one for each class: read, cropped and turned as a run's seed, epoch and file say."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from locality_prior._check import wrong
from locality_prior.experiments.data import KEPT, Batch, Shard, cut, draw, normalised, shuffled

#: Photographs that are kept of each class, at least, where there are too many classes to keep some of all.
EACH = 25
#: Photographs in one batch of evaluation, over all processes.
EVALUATION = 256
#: What normalises photographs: ImageNet's own, channel by channel.
MEAN, STD = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

#: One photograph: (3, crop, crop) uint8 and its class, or the file that cannot be read.
Item = tuple[Tensor, int] | str


@dataclass(frozen=True)
class Folders:
    """``root/train`` and ``root/val``, each with a folder for every class.

    A training photograph is cropped at a random place and size and mirrored or not, as its seed, epoch and number say;
    one to test with is scaled to 256/224 of the crop and cut in the middle.

    Args:
        root: the folder.
        crop: side of what the network sees.
        workers: processes that read; 0: this one.
        skip_broken: whether files that cannot be read are left out of their batches, and counted; else they are an
            error that names them.
    """

    root: Path
    crop: int
    workers: int = 0
    skip_broken: bool = False

    @cached_property
    def _train(self) -> _Photographs:
        turned = v2.Compose([v2.RandomResizedCrop(self.crop, antialias=True), v2.RandomHorizontalFlip()])
        return _Photographs(self.root / "train", turned)

    @cached_property
    def _test(self) -> _Photographs:
        middle = v2.Compose([v2.Resize(round(self.crop * 256 / 224), antialias=True), v2.CenterCrop(self.crop)])
        return _Photographs(self.root / "val", middle)

    @property
    def classes(self) -> int:
        return len(self._train.classes)

    @property
    def sizes(self) -> list[int]:
        return [self.classes, len(self._train), len(self._test)]

    def steps(self, batch_size: int, world: int) -> int:
        return len(cut(torch.arange(len(self._train)), batch_size, world))

    def epoch(self, seed: int, epoch: int, batch_size: int, shard: Shard, start: int = 0) -> Iterator[Batch]:
        batches = cut(shuffled(len(self._train), seed, epoch), batch_size, shard.world)[start:]
        # a photograph's own seed: whoever reads it, and whenever
        return self._read(self._train, _Keys(batches, shard, lambda i: draw(seed, epoch, 2, i)))

    def test(self, shard: Shard) -> Iterator[Batch]:
        return self._each_once(torch.arange(len(self._test)), shard)

    def kept(self) -> Iterator[Batch]:
        labels = torch.tensor([label for _, label in self._test.files])
        chosen = _spread(self.classes, KEPT // EACH)
        parts = [(labels == k).nonzero()[:, 0] for k in chosen.tolist()]
        return self._each_once(torch.cat([part[_spread(len(part), KEPT // len(chosen))] for part in parts]), Shard())

    def _each_once(self, numbers: Tensor, shard: Shard) -> Iterator[Batch]:
        return self._read(self._test, _Keys(torch.split(numbers, EVALUATION), shard, lambda i: 0))

    def _read(self, photographs: _Photographs, keys: _Keys) -> Iterator[Batch]:
        loader = DataLoader(
            photographs,
            batch_sampler=keys,
            num_workers=self.workers,
            collate_fn=_together,
            # a generator of its own: else the loader would draw from the one that dropout draws from
            generator=torch.Generator(),
            pin_memory=self.workers > 0 and torch.cuda.is_available(),
        )
        for (pixels, labels, broken), batch in zip(loader, keys.batches, strict=True):
            if broken and not self.skip_broken:
                raise wrong("data-root", f"{broken[0]}, which cannot be read", "photographs, or --skip-broken")
            yield Batch(normalised(pixels, MEAN, STD), labels, len(batch), tuple(broken))


def _spread(n: int, most: int) -> Tensor:
    """Numbers below ``n``, at most so many, from all over them."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long()


@dataclass(frozen=True)
class _Keys:
    """What one process reads, batch by batch: each photograph's seed and number."""

    batches: Sequence[Tensor]
    shard: Shard
    seed: Callable[[int], int]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in self.batches:
            yield [(self.seed(i), i) for i in self.shard.of(batch).tolist()]


class _Photographs(Dataset[Item]):
    """The files of one part, by (seed, number)."""

    def __init__(self, folder: Path, turn: Any) -> None:
        try:
            found = ImageFolder(folder)
        except FileNotFoundError as error:  # a class without a photograph
            raise wrong(
                "data-root", f"{folder} ({' '.join(str(error).split())})", "photographs of every class"
            ) from None
        self.files, self.classes, self.turn = found.samples, found.classes, turn

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        seed, number = key
        path, label = self.files[number]
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(path) as opened:  # of odd but readable metadata
                photograph = opened.convert("RGB")
        except Exception as error:  # whatever a damaged file makes of a reader
            return f"{path} ({' '.join(str(error).split())})"
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)
        try:
            return v2.functional.pil_to_tensor(self.turn(photograph)), label
        finally:
            torch.set_rng_state(before)


def _together(items: list[Item]) -> tuple[Tensor, Tensor, list[str]]:
    """A batch of what could be read, and the files that could not."""
    whole = [item for item in items if not isinstance(item, str)]
    pixels = torch.stack([p for p, _ in whole]) if whole else torch.empty(0, 3, 1, 1, dtype=torch.uint8)
    labels = torch.tensor([label for _, label in whole], dtype=torch.int64)
    return pixels, labels, [item for item in items if isinstance(item, str)]
