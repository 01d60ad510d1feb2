"""Data sets as training sees them; those in memory: scikit-learn's digits, and MNIST through torchvision."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from locality_prior._check import wrong

VARIABLE = "LOCALITY_PRIOR_DATA"
#: Test images whose activations are kept: the document's thousand.
KEPT = 1000
#: Images in one batch of evaluation.
EVALUATION = 1000
_FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


@dataclass(frozen=True)
class Shard:
    """One process's share of every batch: items ``rank``, ``rank + world``, …"""

    rank: int = 0
    world: int = 1

    def of(self, items: Tensor) -> Tensor:
        """This process's of ``items``."""
        return items[self.rank :: self.world]


class Batch(NamedTuple):
    """Images ready for the network, their classes, and how many the batch was to have over all processes."""

    images: Tensor
    labels: Tensor
    planned: int
    broken: tuple[str, ...] = ()  #: files of this process's share that cannot be read


class Data(Protocol):
    """A data set as training sees it."""

    @property
    def classes(self) -> int:
        """How many classes."""

    @property
    def sizes(self) -> list[int]:
        """How many classes, training images and test images: by which a data set is known again."""

    def steps(self, batch_size: int, world: int) -> int:
        """Batches in an epoch."""

    def epoch(self, seed: int, epoch: int, batch_size: int, shard: Shard, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from number ``start``: the same ones whenever they are asked for."""

    def test(self, shard: Shard) -> Iterator[Batch]:
        """The test images, each once over all processes."""

    def kept(self) -> Iterator[Batch]:
        """A thousand test images: the first, or, of a set sorted by class, as many of each of some classes."""


@dataclass(frozen=True)
class Images:
    """A data set in memory: uint8 images (n, 1, 28, 28), labels (n,), and the mean and deviation that normalise them.

    An epoch goes ``passes`` times over the training images, each time in a new order.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: float
    std: float
    passes: int = 1

    @property
    def classes(self) -> int:
        return 10

    @property
    def sizes(self) -> list[int]:
        return [self.classes, len(self.train_labels), len(self.test_labels)]

    def batch(self, images: Tensor) -> Tensor:
        """uint8 images as the network takes them."""
        return normalised(images, self.mean, self.std)

    def steps(self, batch_size: int, world: int) -> int:
        return len(cut(torch.arange(self.passes * len(self.train_labels)), batch_size, world))

    def epoch(self, seed: int, epoch: int, batch_size: int, shard: Shard, start: int = 0) -> Iterator[Batch]:
        order = shuffled(len(self.train_labels), seed, epoch, self.passes)
        for batch in cut(order, batch_size, shard.world)[start:]:
            mine = shard.of(batch)
            yield Batch(self.batch(self.train_images[mine]), self.train_labels[mine], len(batch))

    def test(self, shard: Shard) -> Iterator[Batch]:
        for batch in torch.split(torch.arange(len(self.test_labels)), EVALUATION):
            mine = shard.of(batch)
            yield Batch(self.batch(self.test_images[mine]), self.test_labels[mine], len(batch))

    def kept(self) -> Iterator[Batch]:
        yield Batch(self.batch(self.test_images[:KEPT]), self.test_labels[:KEPT], KEPT)


def normalised(images: Tensor, mean: Any, std: Any) -> Tensor:
    """uint8 images (n, channels, height, width) as float32 of these means and deviations, channels last."""
    x = images.float().div_(255).sub_(mean).div_(std)
    return x.contiguous(memory_format=torch.channels_last)


def shuffled(n: int, seed: int, epoch: int, passes: int = 1) -> Tensor:
    """The order of ``n`` training images in an epoch."""
    generator = torch.Generator().manual_seed(draw(seed, epoch, 0))
    return torch.cat([torch.randperm(n, generator=generator) for _ in range(passes)])


def cut(order: Tensor, batch_size: int, world: int) -> list[Tensor]:
    """Batches of ``order``, without a last one that leaves a process fewer than two images: no use to BatchNorm."""
    return [batch for batch in torch.split(order, batch_size) if len(batch) >= 2 * world]


def draw(*numbers: int) -> int:
    """A seed from ``numbers``, such as a run's seed, an epoch and a use: the same whenever it is asked for."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def load(
    name: str,
    root: str | os.PathLike[str] | None = None,
    crop: int = 224,
    workers: int = 0,
    skip_broken: bool = False,
) -> Data:
    """The data set ``name``: "digits" (embedded; 1,297 train and 500 test), or one from :func:`locate`.

    Args:
        name: "digits", "mnist" or "imagenet".
        root: see :func:`locate`.
        crop, workers, skip_broken: see :class:`locality_prior.experiments.folders.Folders`.
    """
    if name == "digits":
        return _digits()
    found = locate(name, root)
    if name == "mnist":
        return _mnist(found)
    from locality_prior.experiments.folders import Folders  # here, since torchvision takes a second

    assert found is not None
    return Folders(found, crop, workers, skip_broken)


def locate(name: str, root: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder of the data set ``name``, its files checked; None for one that is embedded.

    Args:
        name: "digits", "mnist" or "imagenet".
        root: the folder that holds MNIST/raw, or train and val, each a folder of photographs for every class (these
            two may be in a folder imagenet there); None: the one that LOCALITY_PRIOR_DATA names; else, for MNIST, a
            cache folder of the user's, into which it is downloaded.

    Raises:
        ValueError: a file that is missing or truncated, or a download that failed.
    """
    if name == "digits":
        return None
    given = root if root is not None else os.environ.get(VARIABLE)
    label = "data-root" if root is not None or given is None else VARIABLE
    if name == "imagenet":
        return _locate_folders(label, given)
    if given is None:
        given = _download()
    sizes = [_check_idx(label, Path(given) / "MNIST" / "raw" / file) for file in _FILES]
    for images, labels in (sizes[:2], sizes[2:]):
        if len(images) != 3 or images[1:] != (28, 28) or labels != images[:1] or not images[0]:
            raise wrong(
                label, f"{given} with images {images} and labels {labels}", "(n, 28, 28) images and (n,) labels"
            )
    return Path(given)


def _locate_folders(label: str, given: str | os.PathLike[str] | None) -> Path:
    expected = "a folder with train and val, each with a folder of photographs for every class"
    if given is None:
        raise wrong(label, f"none, and no {VARIABLE}", expected)
    root = Path(given)
    root = root if (root / "train").is_dir() else root / "imagenet"
    classes = []
    for part in ("train", "val"):
        if not (root / part).is_dir():
            raise wrong(label, f"{given}, where {part} is missing", expected)
        classes.append({entry.name for entry in os.scandir(root / part) if entry.is_dir()})
    odd = sorted(classes[0] ^ classes[1])
    if odd or not classes[0]:
        raise wrong(label, f"{root} with {f'{odd[0]} in one of train and val' if odd else 'no classes'}", expected)
    return root


def _digits() -> Images:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    # 8×8 of 0..16 to 28×28 of 0..255
    images = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
    images = F.interpolate(images, size=(28, 28), mode="bilinear").round().clamp(0, 255).byte()
    labels = torch.from_numpy(np.asarray(digits.target)).long()
    train, test = train_test_split(np.arange(len(labels)), test_size=500, random_state=0, stratify=labels.numpy())
    scaled = images[train].double() / 255
    mean, std = float(scaled.mean()), float(scaled.std())
    # six passes over so few images give the document's ten epochs the steps that they need
    return Images(images[train], labels[train], images[test], labels[test], mean, std, passes=6)


def _mnist(root: Path | None) -> Images:
    from torchvision.datasets import MNIST

    train, test = MNIST(root, train=True), MNIST(root, train=False)
    most = max(int(train.targets.max()), int(test.targets.max()))
    if most > 9:
        raise wrong("data-root", f"{root} with a label {most}", "labels from 0 to 9")
    return Images(train.data[:, None], train.targets, test.data[:, None], test.targets, 0.1307, 0.3081)


def _download() -> Path:
    from torchvision.datasets import MNIST

    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "locality-prior"
    try:
        MNIST(home, download=True)
    except (RuntimeError, OSError) as error:
        why = str(error).strip().splitlines()[0]
        raise ValueError(
            f"data-root: not given, and MNIST could not be downloaded to {home} ({why}); "
            f"expected a network, or --data-root or {VARIABLE} naming the folder that holds MNIST/raw"
        ) from None
    return home


def write_idx(root: Path, part: str, images: Tensor, labels: Tensor) -> None:
    """Write images (n, 28, 28), uint8, and labels (n,) as the files of ``part``, "train" or "t10k", of an MNIST."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for kind, values in (("images", images), ("labels", labels.to(torch.uint8))):
        header = b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
        (raw / f"{part}-{kind}-idx{values.ndim}-ubyte").write_bytes(header + values.numpy().tobytes())


def _check_idx(name: str, path: Path) -> tuple[int, ...]:
    """The shape of the IDX file ``path``; raise where it is not one as long as its own header says."""
    if not path.is_file():
        hint = " (only compressed)" if path.with_suffix(path.suffix + ".gz").is_file() else ""
        raise wrong(
            name, f"{path.parent.parent.parent}, where MNIST/raw/{path.name} is missing{hint}", "MNIST's four files"
        )
    with open(path, "rb") as file:
        header = file.read(16)
    size = path.stat().st_size
    dims = header[3] if len(header) > 3 and header[:3] == b"\0\0\x08" else 0
    if not dims or len(header) < 4 + 4 * dims:
        raise wrong(name, f"{path}, which is not an IDX file", "MNIST's four files")
    shape = struct.unpack(f">{dims}I", header[4 : 4 + 4 * dims])
    whole = 4 + 4 * dims + math.prod(shape)
    if size != whole:
        raise wrong(name, f"{path} of {size:,} bytes", f"{whole:,} bytes, as its header says")
    return shape
