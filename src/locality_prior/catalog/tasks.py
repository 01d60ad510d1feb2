"""The built-in tasks: scikit-learn's digits, MNIST, and photographs in folders."""

from __future__ import annotations

import math
import os
import struct
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from locality_prior._check import Problem, wrong
from locality_prior.runs.task import Classification, Task

VARIABLE = "LOCALITY_PRIOR_DATA"
_FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def digits(validation: float = 0.1, passes: int = 6) -> Classification:
    """scikit-learn's handwritten digits, which need no download: 1,797 images of 8×8 pixels, brought to 28×28.

    500 are to test, and 1,297 to train and to validate. The split is always the same, and made class by class.

    Args:
        validation: how many of the 1,297 to hold out, or their share.
        passes: how often an epoch goes over the images. With six, the ten epochs of the document have enough steps.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    # 8×8 of 0..16 to 28×28 of 0..255
    images = torch.from_numpy(found.images).float()[:, None] * (255 / 16)
    images = F.interpolate(images, size=(28, 28), mode="bilinear").round().clamp(0, 255).byte()
    labels = torch.from_numpy(np.asarray(found.target)).long()
    train, test = train_test_split(np.arange(len(labels)), test_size=500, random_state=0, stratify=labels.numpy())
    scaled = images[train].double() / 255
    return Task.classification(
        train=(images[train], labels[train]),
        test=(images[test], labels[test]),
        validation=validation,
        transform=partial(_normalised, mean=float(scaled.mean()), std=float(scaled.std())),
        passes=passes,
        name="digits",
    )


def mnist(data_root: str | None = None, validation: float = 1 / 12) -> Classification:
    """MNIST: 60,000 images to train and to validate, and 10,000 to test.

    Args:
        data_root: the folder that holds MNIST/raw; None: the one that the variable LOCALITY_PRIOR_DATA names, else a
            folder in the user's cache, to which MNIST is downloaded.
        validation: how many of the 60,000 to hold out, or their share; 5,000 unless this is given.

    Raises:
        ValueError: a file that is missing or truncated.
        Problem: a download that failed.
    """
    from torchvision.datasets import MNIST

    given = data_root if data_root is not None else os.environ.get(VARIABLE)
    name = "data_root" if data_root is not None or given is None else VARIABLE
    root = _download() if given is None else Path(given)
    sizes = [_check_idx(name, root / "MNIST" / "raw" / file) for file in _FILES]
    for images, labels in (sizes[:2], sizes[2:]):
        if len(images) != 3 or images[1:] != (28, 28) or labels != images[:1] or not images[0]:
            held = f"{root} with images {images} and labels {labels}"
            raise wrong(name, held, "images (n, 28, 28) and labels (n,)")
    train, test = MNIST(root, train=True), MNIST(root, train=False)
    most = max(int(train.targets.max()), int(test.targets.max()))
    if most > 9:
        raise wrong(name, f"{root} with a label {most}", "labels from 0 to 9")
    return Task.classification(
        train=(train.data[:, None], train.targets),
        test=(test.data[:, None], test.targets),
        validation=validation,
        classes=[str(k) for k in range(10)],
        transform=partial(_normalised, mean=0.1307, std=0.3081),
        name="mnist",
    )


def photographs(
    data_root: str | None = None,
    crop: int = 224,
    validation: float = 0.05,
    workers: int = 0,
    skip_broken: bool = False,
) -> Classification:
    """Photographs in two folders, ``train`` and ``val``, each with a folder for each class.

    Args:
        data_root: the folder that holds the two, or that holds a folder ``imagenet`` with the two in it; None: the one
            that the variable LOCALITY_PRIOR_DATA names.
        crop: the side of the squares that the network sees, in pixels.
        validation: how many of the training photographs to hold out, or their share.
        workers: processes that read photographs, for each training process.
        skip_broken: whether to leave out and count files that cannot be read; otherwise the first one is an error.
    """
    from locality_prior.runs import folders

    given = data_root if data_root is not None else os.environ.get(VARIABLE)
    if given is None:
        raise wrong("data_root", f"none, and no {VARIABLE}", "a folder with train and val, each with a folder a class")
    root = next((r for r in (Path(given), Path(given, "imagenet")) if (r / "train").is_dir()), Path(given))
    return folders.photographs(
        root, validation=validation, crop=crop, workers=workers, skip_broken=skip_broken, name="photographs"
    )


def _normalised(pixels: Tensor, mean: float, std: float) -> Tensor:
    """uint8 images (n, channels, height, width) as float32 numbers, normalised by this mean and deviation."""
    x = pixels.float().div_(255).sub_(mean).div_(std)
    return x.contiguous(memory_format=torch.channels_last)


def _download() -> Path:
    from torchvision.datasets import MNIST

    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "locality-prior"
    try:
        MNIST(home, download=True)
    except (RuntimeError, OSError) as error:
        why = str(error).strip().splitlines()[0]
        raise Problem(
            f"MNIST could not be downloaded to {home} ({why}). Connect to the internet, "
            f"or name a folder that holds MNIST/raw with --data-root or the variable {VARIABLE}."
        ) from None
    return home


def write_idx(root: Path, part: str, images: Tensor, labels: Tensor) -> None:
    """Write uint8 images (n, 28, 28) and labels (n,) in MNIST's format, as its part "train" or "t10k"."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for kind, values in (("images", images), ("labels", labels.to(torch.uint8))):
        header = b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
        (raw / f"{part}-{kind}-idx{values.ndim}-ubyte").write_bytes(header + values.numpy().tobytes())


def _check_idx(name: str, path: Path) -> tuple[int, ...]:
    """The shape of the IDX file ``path``; an error where the file is not as long as its header says."""
    if not path.is_file():
        hint = " (only a compressed one is there)" if path.with_suffix(path.suffix + ".gz").is_file() else ""
        missing = f"{path.parent.parent.parent}, where MNIST/raw/{path.name} is missing{hint}"
        raise wrong(name, missing, "MNIST's four files")
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
