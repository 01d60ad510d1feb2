"""Image data sets in memory: the digits that come with scikit-learn, and MNIST through torchvision."""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from locality_prior._check import wrong

VARIABLE = "LOCALITY_PRIOR_DATA"
_FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


@dataclass(frozen=True)
class Data:
    """A data set: uint8 images (n, 1, 28, 28), labels (n,), and the mean and deviation that normalise a batch.

    An epoch goes ``passes`` times over the training images, each time in a new order.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: float
    std: float
    passes: int = 1

    def batch(self, images: Tensor) -> Tensor:
        """uint8 images as normalised float32, channels last."""
        x = images.float().div_(255).sub_(self.mean).div_(self.std)
        return x.contiguous(memory_format=torch.channels_last)


def load(name: str, root: str | os.PathLike[str] | None = None) -> Data:
    """The data set ``name``: "digits" (embedded; 1,297 train and 500 test) or "mnist", from :func:`locate`."""
    return _digits() if name == "digits" else _mnist(locate(name, root))


def locate(name: str, root: str | os.PathLike[str] | None = None) -> Path | None:
    """The folder of the data set ``name``, its files checked; None for one that is embedded.

    Args:
        name: "digits" or "mnist".
        root: the folder that holds MNIST/raw; None: the one that LOCALITY_PRIOR_DATA names; else a cache folder of
            the user's, into which MNIST is downloaded.

    Raises:
        ValueError: a file that is missing or truncated, or a download that failed.
    """
    if name == "digits":
        return None
    given = root if root is not None else os.environ.get(VARIABLE)
    label = "data-root" if root is not None else VARIABLE
    if given is None:
        given = _download()
    sizes = [_check_idx(label, Path(given) / "MNIST" / "raw" / file) for file in _FILES]
    for images, labels in (sizes[:2], sizes[2:]):
        if len(images) != 3 or images[1:] != (28, 28) or labels != images[:1] or not images[0]:
            raise wrong(
                label, f"{given} with images {images} and labels {labels}", "(n, 28, 28) images and (n,) labels"
            )
    return Path(given)


def _digits() -> Data:
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
    return Data(images[train], labels[train], images[test], labels[test], mean, std, passes=6)


def _mnist(root: Path | None) -> Data:
    from torchvision.datasets import MNIST

    train, test = MNIST(root, train=True), MNIST(root, train=False)
    most = max(int(train.targets.max()), int(test.targets.max()))
    if most > 9:
        raise wrong("data-root", f"{root} with a label {most}", "labels from 0 to 9")
    return Data(train.data[:, None], train.targets, test.data[:, None], test.targets, 0.1307, 0.3081)


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
