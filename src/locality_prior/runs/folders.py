"""Photographs in folders, with a folder for each class."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from locality_prior._check import Problem, boolean, count, wrong
from locality_prior._timing import cores
from locality_prior.runs import arrays
from locality_prior.runs.arrays import Read
from locality_prior.runs.task import Classification, drawing

#: Means and deviations of the red, green and blue of everyday photographs, by which torchvision's networks normalise.
MEAN, STD = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))

#: One photograph: (3, crop, crop) uint8, or the file that cannot be read.
Item = Tensor | str


def photographs(
    train: str | os.PathLike[str],
    test: str | os.PathLike[str] | None = None,
    *,
    validation: Any = 0.05,
    crop: int = 64,
    workers: int = 0,
    skip_broken: bool = False,
    passes: int = 1,
    name: str = "task",
) -> Classification:
    """A task of photographs in folders, with a folder for each class.

    Training photographs are cropped at a random place and size, and half of them are mirrored. Those to validate and to
    test with are scaled to 256/224 of the crop and cut out in the middle.

    Args:
        train: a folder with a folder for each class; or one that holds two of these, ``train`` and ``val``.
        test: the test photographs, in folders of the same names; None: ``val`` in ``train``.
        validation: how many of the training photographs to hold out, or their share; or a folder of others.
        crop: the side of the squares that the network sees, in pixels.
        workers: processes that read photographs, for each training process; 0: the training process itself.
        skip_broken: whether to leave out and count files that cannot be read; otherwise the first one is an error.
        passes: how often an epoch goes over the training photographs.
        name: the task's name on pages.

    Raises:
        ValueError: a folder that is missing, or folders with different classes.
    """
    crop = count("crop", crop, most=4096)
    workers = count("workers", workers, least=0, most=max(cores(), 1))
    skip_broken = boolean("skip_broken", skip_broken)
    root = Path(train)
    if test is None:
        train, test = root / "train", root / "val"
    apart = isinstance(validation, (str, Path))
    names = _classes("train", Path(train))
    for argument, folder in (("test", test), *([("validation", validation)] if apart else [])):
        odd = sorted(set(names) ^ set(_classes(argument, Path(folder))))
        if odd:
            raise wrong(argument, f"{odd[0]!r} in only one of {folder} and {train}", "the same classes in both")
    turned = v2.Compose([v2.RandomResizedCrop(crop, antialias=True), v2.RandomHorizontalFlip()])
    middle = v2.Compose([v2.Resize(round(crop * 256 / 224), antialias=True), v2.CenterCrop(crop)])
    training = Photographs(Path(train), turned, workers, skip_broken)
    if apart:
        held_out = Photographs(Path(validation), middle, workers, skip_broken)
    else:
        held = arrays.held_out(training.labels, validation)
        left = torch.ones(len(training), dtype=torch.bool)
        left[held] = False
        training, held_out = training.take(left.nonzero()[:, 0]), training.take(held, middle)
    testing = Photographs(Path(test), middle, workers, skip_broken)
    return Classification(names, training, held_out, testing, transform=normalised, passes=passes, name=name)


def normalised(pixels: Tensor) -> Tensor:
    """uint8 images (n, 3, height, width) as normalised float32, channels last."""
    return pixels.float().div_(255).sub_(MEAN).div_(STD).contiguous(memory_format=torch.channels_last)


def _classes(argument: str, folder: Path) -> list[str]:
    try:
        found = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        found = []
    if not found:
        raise wrong(argument, str(folder), "a folder that holds a folder of photographs for each class")
    return found


class Photographs:
    """The photographs in a folder with a folder for each class."""

    at_once = 256

    def __init__(self, folder: Path, turn: Any, workers: int, skip_broken: bool) -> None:
        try:
            found = ImageFolder(folder)
        except FileNotFoundError as error:  # a class without a photograph
            given = f"{folder} ({' '.join(str(error).split())})"
            raise wrong("train", given, "photographs of every class") from None
        self.files = [path for path, _ in found.samples]
        self.labels = torch.tensor(found.targets)
        self.turn, self.workers, self.skip_broken = turn, workers, skip_broken

    def __len__(self) -> int:
        return len(self.files)

    def take(self, numbers: Tensor, turn: Any = None) -> Photographs:
        """Some of the photographs; where ``turn`` is given, they are cropped by it."""
        part = object.__new__(Photographs)
        part.files, part.labels = [self.files[i] for i in numbers.tolist()], self.labels[numbers]
        part.turn, part.workers, part.skip_broken = turn or self.turn, self.workers, self.skip_broken
        return part

    def read(self, batches: Sequence[Tensor], seed: Callable[[int], int]) -> Iterator[Read]:
        loader = DataLoader(
            _Files(self.files, self.turn),
            batch_sampler=[[(seed(i), i) for i in batch.tolist()] for batch in batches],
            num_workers=self.workers,
            collate_fn=list,
            # of its own, since the loader would otherwise draw from the one that dropout uses
            generator=torch.Generator(),
            pin_memory=False,
        )
        for items, batch in zip(loader, batches, strict=True):
            broken = tuple(item for item in items if isinstance(item, str))
            if broken and not self.skip_broken:
                raise Problem(
                    f"{broken[0]} cannot be read. Repair or remove it, or leave out such files with --skip-broken."
                )
            whole = torch.tensor([not isinstance(item, str) for item in items], dtype=torch.bool)
            read = [item for item in items if not isinstance(item, str)]
            pixels = torch.stack(read) if read else torch.empty(0, 3, 1, 1, dtype=torch.uint8)
            yield Read(pixels, self.labels[batch][whole], broken)


class _Files(Dataset[Item]):
    """The pixels of files by (seed, number), or what is wrong with a file."""

    def __init__(self, files: list[str], turn: Any) -> None:
        self.files, self.turn = files, turn

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        seed, number = key
        path = self.files[number]
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(path) as opened:  # about odd metadata
                photograph = opened.convert("RGB")
        except Exception as error:  # whatever a damaged file raises in its reader
            return f"{path} ({' '.join(str(error).split())})"
        with drawing(seed):
            pixels: Tensor = v2.functional.pil_to_tensor(self.turn(photograph))
        return pixels
