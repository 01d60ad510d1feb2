"""From a run's last state to its files: the network, its activations, what cutting wires comes to, its measures."""

from __future__ import annotations

import csv
import io
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from locality_prior import cost as costs
from locality_prior import layers as locality
from locality_prior._files import replacing, write_text
from locality_prior.layers import LocalityLinear
from locality_prior.pruning import SHARES, By, curve
from locality_prior.retrofit.plan import localize
from locality_prior.runs import files
from locality_prior.runs.loop import evaluate
from locality_prior.runs.measure import measure
from locality_prior.runs.network import Network, activations, sheet_of
from locality_prior.runs.task import Batch, Shard, Task

#: The most bytes of items that are kept in memory while wires are cut.
MEMORY = 2 << 30


def finish(
    fabric: Any,
    net: Network,
    task: Task,
    directory: Path,
    *,
    condition: str,
    seed: int,
    shuffled: bool = False,
    history: list[dict[str, float]] | None = None,
) -> dict[str, Any]:
    """Make a trained network's files in ``directory``, and measure it; the numbers of analysis.json."""
    (directory / files.ANALYSIS).unlink(missing_ok=True)
    model = net.model.to(fabric.device).eval()
    if history:
        write_table(directory / files.METRICS, history)
    _save_model(model, directory / files.MODEL)
    responses, labels = activations(net, task, fabric.device)
    kept: dict[str, Any] = {f"sheet/{name}": values for name, values in responses.items()}
    if labels is not None:
        kept["labels"] = labels
    with replacing(directory / files.ACTIVATIONS) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **kept)
    scores = evaluate(fabric, model, task, task.test(Shard()))
    scores.pop("skipped")
    cuts = _cuts(fabric, net, task)
    if cuts:
        write_table(directory / files.PRUNING, cuts)
    return measure(
        directory,
        condition=condition,
        seed=seed,
        shuffled=shuffled,
        task=task,
        scores=scores,
        sheets={name: sheet_of(net.placed[name].geometry) for name in net.placed},
        activations=responses,
        labels=labels,
        layers={layer.name: (layer, layer.strength(model).double().cpu().numpy()) for layer in net.layers},
        cuts=cuts,
    )


def _save_model(model: nn.Module, path: Path) -> None:
    if any(locality.base.locality_layers(model)):
        locality.save(model, path)
        return
    from safetensors.torch import save_model

    with replacing(path) as partial:
        save_model(model, str(partial))


def _cuts(fabric: Any, net: Network, task: Task) -> list[dict[str, Any]]:
    """The main score with ever fewer wires of the local layers, by each way to choose what is cut first.

    The score over validation items is what a cut is chosen by, that over test items is what is told of it.
    """
    model, names = net.model, [layer.name for layer in net.layers]
    plain = {
        layer.name: layer.target if layer.source == layer.target else (layer.source, layer.target)
        for layer in net.layers
        if type(model.get_submodule(layer.name)) is nn.Linear
    }
    names = [n for n in names if n in plain or isinstance(model.get_submodule(n), LocalityLinear)]
    if not names:
        return []
    before = {name: model.get_submodule(name) for name in plain}
    score = task.scores[0].name if task.scores else "loss"
    try:
        if plain:  # the control's layers, with P = 1, have wires to cut
            localize(model, plain, cost=costs.Flat(), keep="weights")
        told = _told(fabric, net, task, names, score)
        rows = []
        for by in get_args(By):
            for cut in curve(model, by, told, shares=SHARES, names=names):
                kept = {"by": by, "wires": cut.wires, "share": cut.share, "wire_length": cut.wire_length}
                rows.append(kept | dict(zip(("validation", "test"), cut.score, strict=True)))
        return rows
    finally:
        for name, module in before.items():
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module)


def _told(
    fabric: Any, net: Network, task: Task, names: list[str], score: str
) -> Callable[[nn.Module], tuple[float, float]]:
    """A function from the model to its score over validation items and over test items.

    Where the model runs its layers one after another, what comes before the first local layer is computed once.
    """
    stages = _stages(net.model, names)

    def read(key: str) -> Iterator[Batch]:
        for batch in getattr(task, key)(Shard()):
            if len(batch.targets):
                yield batch

    def headed(batches: Iterator[Batch]) -> Iterator[Batch]:
        assert stages is not None
        for batch in batches:
            with torch.no_grad():
                yield batch._replace(inputs=stages[0](batch.inputs.to(fabric.device)).cpu())

    kept: dict[str, list[Batch] | None] = {}
    for key in ("validation", "test"):
        kept[key] = _in_memory(read(key) if stages is None else headed(read(key)))

    def score_of(model: nn.Module) -> tuple[float, float]:
        rest = model if stages is None else stages[1]
        found = []
        for key, batches in kept.items():
            again = iter(batches) if batches is not None else read(key) if stages is None else headed(read(key))
            found.append(evaluate(fabric, rest, task, again)[score])
        return found[0], found[1]

    return score_of


def _in_memory(batches: Iterator[Batch]) -> list[Batch] | None:
    """The batches in a list; None where they would take more than :data:`MEMORY`, and are read again each time."""
    kept, held = [], 0
    for batch in batches:
        inputs = batch.inputs if isinstance(batch.inputs, tuple) else (batch.inputs,)
        held += sum(x.numel() * x.element_size() for x in inputs if isinstance(x, torch.Tensor))
        if held > MEMORY or isinstance(batch.inputs, dict):
            return None
        kept.append(batch)
    return kept


def _stages(model: nn.Module, names: list[str]) -> tuple[nn.Module, nn.Module] | None:
    """What comes before the first of the layers ``names``, and the rest; None where the model is no plain sequence."""
    if not isinstance(model, nn.Sequential):
        return None
    parts = dict(model.named_children())
    at = min(list(parts).index(name.partition(".")[0]) for name in names)
    halves = list(parts.items())[:at], list(parts.items())[at:]
    return nn.Sequential(OrderedDict(halves[0])), nn.Sequential(OrderedDict(halves[1]))


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
