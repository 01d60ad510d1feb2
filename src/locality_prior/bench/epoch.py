"""An epoch of MNIST, as studies train and in the ordinary way."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path

import torch
import torch.nn.functional as F

from locality_prior import cost as costs
from locality_prior._check import wrong
from locality_prior.bench.row import Measure, Row
from locality_prior.geometry import Grid

#: The costs of the two LeNets that are trained at once.
COSTS = ("flat", "linear")
#: Images of the synthetic MNIST that stands in where there is none.
SYNTHETIC = {"train": 60_000, "t10k": 10_000}


def _mnist_epoch(name: str, device: torch.device) -> Row:
    """Both LeNets at once, as a study trains them, and one after the other, as one would write it down."""
    with tempfile.TemporaryDirectory() as folder:
        root, said = _mnist_root(Path(folder))
        ours, ordinary = [], []
        for one in _at_once(root, Path(folder)):
            ours.append(one)
            ordinary.append(_one_after_the_other(root))
    ours_said = f"{said}; one epoch of control and local, with their measures and cuts"
    detail = f"{ours_said}; torchvision's DataLoader, one network after the other"
    return Row(name, 1000 * statistics.median(ours), 1000 * statistics.median(ordinary), detail)


def _at_once(root: Path, folder: Path, repeats: int = 1) -> Iterator[float]:
    """Seconds of an epoch of both networks in two processes, which have been started before."""
    from locality_prior._processes import processes
    from locality_prior.runs import Recipe, Run
    from locality_prior.runs.training import job
    from locality_prior.studies.cells import PRELOAD

    with processes(len(COSTS), PRELOAD) as executor:
        for repeat in range(-1, repeats):  # the first, which imports what it needs, learns digits
            start = time.perf_counter()
            jobs = [
                executor.submit(
                    job,
                    Run("digits" if repeat < 0 else "mnist", "lenet", cost, recipe=Recipe(epochs=1)),
                    str(folder / f"{cost}{repeat}"),
                    str(root),
                )
                for cost in COSTS
            ]
            wait(jobs)
            for one in jobs:
                one.result()
            if repeat >= 0:
                yield time.perf_counter() - start


def _one_after_the_other(root: Path) -> float:
    """Seconds of the same in the ordinary way."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import MNIST

    from locality_prior.catalog import lenet
    from locality_prior.retrofit.plan import localize
    from locality_prior.runs import Recipe

    recipe = Recipe()
    change = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    start = time.perf_counter()
    for cost in COSTS:
        net = lenet()
        localize(net, {"locality": Grid(7, 7)}, cost=costs.parse(cost), keep="weights")
        optimizer = torch.optim.SGD(
            net.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        net.train()
        for images, labels in DataLoader(MNIST(root, transform=change), recipe.batch_size, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        net.eval()
        with torch.no_grad():
            for images, _ in DataLoader(MNIST(root, train=False, transform=change), 1000):
                net(images).argmax(1)
    return time.perf_counter() - start


def _mnist_root(folder: Path) -> tuple[Path, str]:
    """Where MNIST is, or random images in its place where no folder is named, and which of the two."""
    from locality_prior.catalog.tasks import VARIABLE, write_idx

    given = os.environ.get(VARIABLE)
    if given is not None and not (Path(given) / "MNIST" / "raw").is_dir():
        raise wrong(VARIABLE, given, "a folder that holds MNIST/raw")
    if given is not None:
        return Path(given), "MNIST"
    for part, n in SYNTHETIC.items():
        write_idx(folder, part, torch.randint(256, (n, 28, 28), dtype=torch.uint8), torch.randint(10, (n,)))
    return folder, "synthetic images"


ROWS: dict[str, Measure] = {"mnist_epoch": _mnist_epoch}
