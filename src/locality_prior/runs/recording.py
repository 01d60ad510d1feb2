"""Networks trained in one's own loop join a study: measured, and written as a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from locality_prior._check import Problem, boolean, count, instance, wrong
from locality_prior._files import alone_in, write_text
from locality_prior.geometry import Shuffled
from locality_prior.layers import Locality
from locality_prior.placement import Placement
from locality_prior.runs import files
from locality_prior.runs.finish import finish
from locality_prior.runs.network import Ends, Layer, Network, local_layers
from locality_prior.runs.task import Task


def record(
    model: nn.Module,
    placed: Placement,
    task: Task,
    directory: str | Path,
    *,
    condition: str,
    seed: int,
    local: Mapping[str, Ends] | None = None,
    shuffled: bool = False,
) -> dict[str, Any]:
    """Measure a trained network and write it as a run directory, as if a study had trained it.

    A folder of such directories is a study: ``locality-prior analyse FOLDER`` compares its conditions, seed by seed,
    with the one called ``control``, and ``locality-prior report FOLDER`` draws its page.

    Args:
        model: the trained network; it is left as it is.
        placed: its sheets, from :func:`locality_prior.place`.
        task: what it learned: its test items are what is measured.
        directory: where to write; new, or that of the same condition and seed, which is replaced.
        condition: what made the network local, in a few words; ``control`` for the network without it.
        seed: the networks of one seed, under different conditions, are compared with each other.
        local: the plain layers whose wires are measured too, {layer: geometry, or (source, target)}, so that a control
            is measured beside the local network. A model's locality layers are measured in any case.
        shuffled: whether the wires have other lengths than the sheets': of a null.

    Returns:
        The numbers of ``analysis.json``.

    Raises:
        ValueError: arguments that do not fit.
        Problem: a directory that holds something else.
    """
    instance("model", model, nn.Module, "a torch.nn.Module")
    instance("placed", placed, Placement, "a placement, from locality_prior.place")
    instance("task", task, Task, "a Task")
    if not isinstance(condition, str) or not condition.strip() or len(condition) > 200:
        raise wrong("condition", condition, "a few words, at most 200 characters")
    if placed.model is not model or not len(placed):
        raise wrong("placed", "modules of another model, or none", "a placement of modules of this model")
    seed, home = count("seed", seed, least=0), Path(directory)
    values = {"recorded": True, "condition": condition, "seed": seed}
    with alone_in(home):
        if (home / files.CONFIG).exists():
            if files.read_config(home) != values:
                raise Problem(f"{home} holds another run. Choose a new directory for {condition}, seed {seed}.")
        elif strangers := [p.name for p in home.iterdir() if not p.name.startswith(".")]:
            raise Problem(
                f"{home} holds {sorted(strangers)[0]} but no {files.CONFIG}. Choose a new or empty directory."
            )
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, explicit_end=True)
        write_text(home / files.CONFIG, text)
        layers = {layer.name: layer for layer in (*_locality_of(model), *_plain_of(model, local or {}))}
        was, rng = model.training, torch.get_rng_state()
        try:
            device = next((p.device for p in model.parameters()), torch.device("cpu"))
            fabric = _Here(device)
            return finish(
                fabric,
                Network(model, placed, tuple(layers.values())),
                task,
                home,
                condition=condition,
                seed=seed,
                shuffled=boolean("shuffled", shuffled),
            )
        finally:
            model.train(was)
            torch.set_rng_state(rng)


class _Here:
    """The part of Fabric that measuring needs: one process, where the model already is."""

    world_size = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device


def _locality_of(model: nn.Module) -> list[Layer]:
    """The locality layers of a model, with the places of their units."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, Locality):
            wirings = module.wirings()
            first = wirings[0].rule
            if isinstance(first.target, Shuffled):
                continue  # a null's own lengths say nothing of the sheet; ``local`` names the places
            alike = tuple(w.name for w in wirings if w.rule.source == first.source and w.rule.target == first.target)
            found.append(Layer(name, alike, first.source, first.target))
    return found


def _plain_of(model: nn.Module, local: Mapping[str, Ends]) -> tuple[Layer, ...]:
    """The layers that ``local`` names: plain ones as they are, locality layers as if they were plain."""
    from locality_prior.layers import fold

    has = any(isinstance(m, Locality) for m in model.modules())
    return local_layers(fold(model) if has else model, local)
