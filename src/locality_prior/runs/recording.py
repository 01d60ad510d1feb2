"""Recording a network that was trained in one's own loop, so that it can join a study."""

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
from locality_prior.runs.task import Task, drawing


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

    >>> import torch
    >>> import locality_prior as lp
    >>> from locality_prior.runs import Task, record
    >>> x, y = torch.rand(60, 16), torch.arange(60) % 3
    >>> task = Task.classification(train=(x[:40], y[:40]), test=(x[40:], y[40:]))
    >>> net = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> placed = lp.place(net, {"1": lp.Grid(4, 4)})
    >>> found = record(net, placed, task, "own/control-1", condition="control", seed=1, local={"0": lp.Grid(4, 4)})
    >>> sorted(found["measures"])[:3]
    ['accuracy', 'adversarial_score', 'effective_dimension.1']

    Args:
        model: the trained network. It is not changed.
        placed: its sheets, from :func:`locality_prior.place`.
        task: what it learned. Its test items are what the network is measured with.
        directory: where to write: a new directory, or that of the same condition and seed, whose files are replaced.
        condition: what made the network local, in a few words; ``control`` for the network that is not.
        seed: networks of the same seed are compared with each other, condition by condition.
        local: plain layers whose wires are measured, {layer: geometry, or (source, target)}. For a control, name the
            layers that are local in the other networks. Locality layers need no naming, except shuffled ones.
        shuffled: whether this is a shuffled null, in which a wire's cost does not follow from its length on the sheets.

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
        raise wrong("placed", "a placement of another model, or of no module", "a placement of modules of this model")
    shuffled, seed, home = boolean("shuffled", shuffled), count("seed", seed, least=0), Path(directory)
    if local is not None:
        instance("local", local, Mapping, "geometries by layer, such as {'fc1': Grid(7, 7)}")
    layers = {layer.name: layer for layer in (*_locality_of(model), *_plain_of(model, local or {}))}
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
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        training = [(module, module.training) for module in model.modules()]
        try:
            with drawing(seed):
                net = Network(model, placed, tuple(layers.values()))
                return finish(net, task, home, device, condition=condition, seed=seed, shuffled=shuffled)
        finally:
            for module, was in training:
                module.training = was


def _locality_of(model: nn.Module) -> list[Layer]:
    """The locality layers of a model, with the geometries of their units."""
    found = []
    for name, module in model.named_modules():
        if isinstance(module, Locality):
            wirings = module.wirings()
            first = wirings[0].rule
            if isinstance(first.target, Shuffled):
                continue  # its lengths are not those of the sheet, whose geometry only ``local`` can name
            alike = tuple(w.name for w in wirings if w.rule.source == first.source and w.rule.target == first.target)
            found.append(Layer(name, alike, first.source, first.target))
    return found


def _plain_of(model: nn.Module, local: Mapping[str, Ends]) -> tuple[Layer, ...]:
    """The layers that ``local`` names, on the geometries that it gives, whether they are plain or locality layers."""
    from locality_prior.layers import fold

    has = any(isinstance(m, Locality) for m in model.modules())
    return local_layers(fold(model) if has else model, local)
