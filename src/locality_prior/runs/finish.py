"""From a finished run's state to its files: network, activations, and what cutting wires comes to."""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from locality_prior import layers
from locality_prior._files import replacing, write_text
from locality_prior.experiments.config import ACTIVATIONS, METRICS, MODEL, PROGRESS, PRUNING, Run
from locality_prior.experiments.data import Data, Shard
from locality_prior.experiments.models import Network, network
from locality_prior.geometry import Channels
from locality_prior.pruning import By, sparsify

#: Images whose activations are on the device at once while wires are cut.
AT_ONCE = 10_000


def finish(device: torch.device, run: Run, directory: Path, data: Data, state: dict[str, Any]) -> None:
    """Make a finished run's files in ``directory`` from its ``state`` alone."""
    net = network(run, data.classes)
    net.load_state_dict(state["model"])
    net.to(device).eval()
    write_table(directory / METRICS, state["history"])
    layers.save(net, directory / MODEL)
    _keep_activations(net, device, data, directory / ACTIVATIONS)
    _keep_pruning(net, device, data, directory / PRUNING)
    (directory / PROGRESS).unlink(missing_ok=True)


@torch.no_grad()
def _keep_activations(net: Network, device: torch.device, data: Data, path: Path) -> None:
    """The layer's input and output over some test images, as float32, with the images' labels.

    Where the input has several units at a place, their mean is kept.
    """
    kept: dict[str, list[Tensor]] = {"input": [], "output": [], "labels": []}
    source, _ = net.places
    for batch in data.kept():
        if len(batch.labels):
            before, after = net.sheets(batch.images.to(device))
            if isinstance(source, Channels):
                before = before.reshape(len(before), source.channels, -1).mean(1)
            for name, values in (("input", before), ("output", after), ("labels", batch.labels)):
                kept[name].append(values.cpu())
    arrays: dict[str, Any] = {name: torch.cat(parts).numpy() for name, parts in kept.items()}
    with replacing(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)


@torch.no_grad()
def _keep_pruning(net: Network, device: torch.device, data: Data, path: Path) -> None:
    """Test accuracy with ever fewer of the layer's wires, by each measure of what to cut first."""
    # the layer's input is the same for every cut
    inputs, labels = [], []
    for batch in data.test(Shard()):
        if len(batch.labels):
            inputs.append(net.before(batch.images.to(device)).cpu())
            labels.append(batch.labels)
    before, classes = torch.split(torch.cat(inputs), AT_ONCE), torch.cat(labels)

    def accuracy(net: Network) -> float:
        said = torch.cat([net.head(net.after(part.to(device))).argmax(1).cpu() for part in before])
        return 100 * float((said == classes).double().mean())

    rows: list[dict[str, Any]] = []
    for by in get_args(By):
        curve = sparsify(net, by, keep=1.0, evaluate=accuracy).curve
        rows += [
            {"by": by, "wires": c.wires, "share": c.share, "wire_length": c.wire_length, "accuracy": c.score}
            for c in curve
        ]
    write_table(path, rows)


def whole(directory: Path) -> bool:
    """Whether what a finished run's state is turned into is there and can be read."""
    from safetensors import SafetensorError, safe_open

    try:
        tables = all((directory / name).exists() for name in (METRICS, PRUNING))
        with safe_open(directory / MODEL, framework="np") as model, open(directory / ACTIVATIONS, "rb") as file:
            arrays = np.load(file)
            return bool(model.keys()) and all(len(arrays[key]) for key in arrays) and tables
    except (OSError, ValueError, EOFError, SafetensorError, zlib.error, zipfile.BadZipFile):
        return False


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
