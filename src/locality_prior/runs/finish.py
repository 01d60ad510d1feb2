"""From a trained network to the files of its run: weights, activations, scores under damage, and measures."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import nn
from torch.nn.utils import parametrize

from locality_prior import cost as costs
from locality_prior import layers as locality
from locality_prior._files import replacing, write_text
from locality_prior.layers import LocalityLinear
from locality_prior.pruning import SHARES, By, curve
from locality_prior.retrofit.plan import localize
from locality_prior.runs import files
from locality_prior.runs.arranging import Arranger
from locality_prior.runs.loop import evaluate
from locality_prior.runs.measure import Floats, measure
from locality_prior.runs.network import Layer, Network, activations
from locality_prior.runs.robustness import robustness
from locality_prior.runs.stages import Reader, held, staged
from locality_prior.runs.task import Shard, Task
from locality_prior.runs.wires import ends


def finish(
    net: Network,
    task: Task,
    directory: Path,
    device: torch.device,
    *,
    condition: str,
    seed: int,
    shuffled: bool = False,
    history: list[dict[str, float]] | None = None,
    maps: dict[str, Any] | None = None,
    arranger: Arranger | None = None,
) -> dict[str, Any]:
    """Measure a trained network and write its files; the numbers of analysis.json.

    Args:
        net: the network, which is in evaluation mode afterwards.
        task: what it learned.
        directory: the run's directory.
        device: where to compute.
        condition: the name of what made the network local.
        seed: of the network.
        shuffled: whether its wires have other lengths than the sheets'.
        history: the epochs of its training, as rows of metrics.csv.
        maps: the class means after some of its epochs, see :class:`~locality_prior.runs.epochs.EpochMaps`.
        arranger: what gave its units their present places; None: they were not moved.
    """
    (directory / files.ANALYSIS).unlink(missing_ok=True)
    model = net.model.to(device).eval()
    if history:
        write_table(directory / files.METRICS, history)
    _save_model(model, directory / files.MODEL)
    responses, labels = activations(net, task, device)
    kept: dict[str, Any] = {f"sheet/{name}": values for name, values in responses.items()}
    if labels is not None:
        kept["labels"] = labels
    with replacing(directory / files.ACTIVATIONS) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **kept)
    scores = evaluate(model, task, task.test(Shard()), device)
    scores.pop("skipped")
    elsewhere = shuffled or _elsewhere(net)
    cuts = _cuts(net, task, device, ("weight",) if elsewhere else get_args(By))
    if cuts:
        write_table(directory / files.PRUNING, cuts)
    else:
        (directory / files.PRUNING).unlink(missing_ok=True)
    return measure(
        directory,
        condition=condition,
        seed=seed,
        elsewhere=elsewhere,
        task=task,
        scores=scores,
        sheets={name: net.placed[name].geometry for name in net.placed},
        activations=responses,
        labels=labels,
        layers={layer.name: (layer, *_weights(layer, model)) for layer in net.layers},
        cuts=cuts,
        robust=robustness(net, task, device, seed),
        maps=maps,
        ends=ends(net, task, device),
        arranged=None if arranger is None else arranger.told(net, responses),
        began=None if arranger is None else arranger.began(),
    )


def _elsewhere(net: Network) -> bool:
    """Whether a prior's wires no longer have the lengths of its costs, since its units were moved after training."""
    made = {layer.name: net.model.get_submodule(layer.name) for layer in net.layers}
    rules = {name: module.wirings()[0].rule for name, module in made.items() if isinstance(module, LocalityLinear)}
    at = {layer.name: (layer.source, layer.target) for layer in net.layers}
    return any((rule.source, rule.target) != at[name] for name, rule in rules.items())


def _weights(layer: Layer, model: nn.Module) -> tuple[Floats, Floats]:
    """Σ|V| from each unit to each other, and each unit's incoming weights V."""
    return tuple(values.double().cpu().numpy() for values in (layer.strength(model), layer.incoming(model)))  # type: ignore[return-value]


def _save_model(model: nn.Module, path: Path) -> None:
    if any(locality.base.locality_layers(model)):
        locality.save(model, path)
        return
    from safetensors.torch import save_model

    with replacing(path) as partial:
        save_model(model, str(partial))


def _cuts(net: Network, task: Task, device: torch.device, ways: tuple[By, ...]) -> list[dict[str, Any]]:
    """The main score with fewer and fewer wires of the local layers, for each way to choose what is cut first.

    A cut is chosen by the score over the validation items, and reported with the score over the test items. Where the
    wires have other lengths than the sheet's, as in a shuffled network, only cutting by weight can be compared. What
    hooks or parametrizations have changed in a plain layer would be lost in one that can be cut: it is left out.
    """
    model = net.model
    own = [layer for layer in net.layers if not parametrize.is_parametrized(model.get_submodule(layer.name))]
    plain = {layer.name: layer.ends for layer in own if _bare(model.get_submodule(layer.name))}
    names = [n.name for n in own if n.name in plain or isinstance(model.get_submodule(n.name), LocalityLinear)]
    if not names:
        return []
    before = {name: model.get_submodule(name) for name in plain}
    score = task.scores[0].name if task.scores else "loss"
    try:
        if plain:  # the control's layers: with P = 1, every pair of units is a wire
            localize(model, plain, cost=costs.Flat(), keep="weights")
        score_of = _scorer(net, task, device, names, score)
        rows = []
        for by in ways:
            for cut in curve(model, by, score_of, shares=SHARES, names=names):
                kept = {"by": by, "wires": cut.wires, "share": cut.share, "wire_length": cut.wire_length}
                rows.append(kept | dict(zip(("validation", "test"), cut.score, strict=True)))
        return rows
    finally:
        for name, module in before.items():
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module)


def _bare(module: nn.Module) -> bool:
    """Whether a module is a linear layer of torch and nothing hangs on it."""
    hooks = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    return type(module) is nn.Linear and not hooks


def _scorer(
    net: Network, task: Task, device: torch.device, names: list[str], score: str
) -> Callable[[nn.Module], tuple[float, float]]:
    """A function from the model to its scores over the validation items and over the test items.

    Where the model runs its layers one after another, what comes before the first layer to cut is computed only once.
    """

    def reader(key: str) -> Reader:
        return lambda: (batch for batch in getattr(task, key)(Shard()) if len(batch.targets))

    readers = [reader(key) for key in ("validation", "test")]
    before, rest = staged(net.model, names, readers[0], device)
    items = [held(read, before, device) for read in readers]
    known: dict[bytes, tuple[float, float]] = {}  # where all wires cost alike, two ways to choose cut the same ones

    def score_of(model: nn.Module) -> tuple[float, float]:
        stage = model if before is None else rest
        wires = _digest(model.get_submodule(name).get_parameter("weight") for name in names)
        if wires not in known:
            found = [evaluate(stage, task, read(), device)[score] for read in items]
            known[wires] = found[0], found[1]
        return known[wires]

    return score_of


def _digest(weights: Iterable[torch.Tensor]) -> bytes:
    found = hashlib.blake2b()
    for weight in weights:
        found.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return found.digest()


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
