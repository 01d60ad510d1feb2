"""A run's network: the model, what makes it local, and which of its modules are looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from locality_prior import cost as costs
from locality_prior._check import Problem, wrong
from locality_prior.geometry import Channels, Geometry, Shuffled
from locality_prior.layers import Locality
from locality_prior.placement import Placement, place
from locality_prior.retrofit.plan import localize, plan
from locality_prior.retrofit.targets import plain_kind
from locality_prior.runs import door, places
from locality_prior.runs.config import Named, Run
from locality_prior.runs.task import Task

#: The source's and the target's geometry of a layer; None: square sheets.
Ends = Geometry | tuple[Geometry | None, Geometry | None] | None


@dataclass(frozen=True)
class Layer:
    """A layer that a condition makes local: its weights from source units to target units."""

    name: str
    parameters: tuple[str, ...]
    source: Geometry
    target: Geometry

    def strength(self, model: nn.Module) -> Tensor:
        """Σ|V| from each source unit to each target unit, (out, in); over gates and kernels where there are some."""
        module = model.get_submodule(self.name)
        shape = len(self.target), len(self.source)
        with torch.no_grad():
            if isinstance(module, Locality):
                module = module.fold()
            values = [module.get_parameter(name).detach().abs() for name in self.parameters]
            flat = [v.flatten(2).sum(2) if v.dim() > 2 else v for v in values]
            return torch.stack([v.reshape(-1, *shape).sum(0) for v in flat]).sum(0)

    def penalty(self, model: nn.Module) -> Tensor:
        """‖W‖₁ of the layer's raw weights: differentiable, a scalar."""
        module = model.get_submodule(self.name)
        if isinstance(module, Locality):
            return torch.stack([wiring.raw.sum() for wiring in module.wirings()]).sum()
        return torch.stack([module.get_parameter(name).abs().sum() for name in self.parameters]).sum()


@dataclass(frozen=True)
class Network:
    """A model, its sheets, and its layers that a condition makes local (plain torch in the control)."""

    model: nn.Module
    placed: Placement
    layers: tuple[Layer, ...]


def network(run: Run, task: Task) -> Network:
    """The network of ``run`` as its seed draws it: every weight as the control's, W too.

    Raises:
        ValueError: modules that the model does not have, geometries that do not fit.
    """
    torch.manual_seed(run.seed)
    model = door.call("model", run.model, nn.Module, task=task)
    placed, local = layout(model, run.place, run.local)
    layers = local_layers(model, local)
    if run.cost != "flat":
        if not layers:
            raise wrong("local", "no layer that can be made local", f"one for the cost {run.cost}")
        cost = costs.parse(run.cost)
        targets = {layer.name: _ends(model, layer, run) for layer in layers}
        localize(model, targets, cost=cost, keep="weights")
    return Network(model.to(memory_format=torch.channels_last), place(model, dict(placed)), layers)


def _ends(model: nn.Module, layer: Layer, run: Run) -> Ends:
    """What a layer's wires are measured by: the places of its units, or the null of that."""
    if not run.shuffled:
        return layer.target if layer.source == layer.target else (layer.source, layer.target)
    null = Shuffled(layer.target, layer.source, run.seed)
    among_themselves = isinstance(model.get_submodule(layer.name), (nn.RNNBase, nn.MultiheadAttention))
    return null if among_themselves else (null, null)


def layout(model: nn.Module, place_at: Named, local_at: Named) -> tuple[dict[str, Geometry], dict[str, Ends]]:
    """The sheets of a model and its layers to make local, by module: as a run names them, else the model's own.

    A model says its own in two attributes: ``place``, {module: geometry}, and ``local``, {layer: geometry, a pair
    (source, target), or None}.
    """
    sheets: dict[str, Geometry] = {name: places.parse("place", words[0]) for name, words in place_at}
    local: dict[str, Ends] = {}
    for name, words in local_at:
        ends = [places.parse("local", word) for word in words]
        local[name] = ends[0] if len(ends) == 1 else (ends[0], ends[1])
    own = _own(model, "place"), _own(model, "local")
    if not sheets:
        sheets = dict(own[0] or {})
        local = local or dict(own[1] or {})
    if not sheets:
        raise wrong("place", "no sheet", "one or more modules on geometries, as fc1=32x32, or a model with its own")
    if not local:
        # every placed layer that a prior can be put into
        placed = place(model, sheets)
        local = {name: placed[name].geometry for name in placed if plain_kind(placed[name].module) is not None}
    return sheets, local


def _own(model: nn.Module, name: str) -> Mapping[str, Any] | None:
    found = getattr(model, name, None)
    return found if isinstance(found, Mapping) else None


def local_layers(model: nn.Module, local: Mapping[str, Ends]) -> tuple[Layer, ...]:
    """The layers of a plain model that ``local`` names, with the geometries at their two ends."""
    if not local:
        return ()
    layers = []
    for change in plan(model, dict(local), cost=costs.Flat()).changes:
        wirings = change.layer.wirings()
        first = wirings[0].rule
        alike = [w for w in wirings if w.rule.source == first.source and w.rule.target == first.target]
        layers.append(Layer(change.names[0], tuple(w.name for w in alike), first.source, first.target))
    return tuple(layers)


@torch.no_grad()
def activations(network: Network, task: Task, device: torch.device) -> tuple[dict[str, npt.NDArray[np.float32]], Any]:
    """Responses of each sheet's units to the task's kept items, (items, units), and the items' labels or None.

    Where several units share a place (channels), their mean is taken.
    """
    kept: dict[str, list[Tensor]] = {name: [] for name in network.placed}
    labels: list[Tensor] = []
    network.model.eval()
    for batch in task.kept():
        if not len(batch.targets):
            continue
        with network.placed.record(items=True) as seen:
            call(network.model, to_device(batch.inputs, device))
        for name in network.placed:
            values, geometry = seen[name], network.placed[name].geometry
            if isinstance(geometry, Channels):
                values = values.reshape(len(values), geometry.channels, -1).mean(1)
            kept[name].append(values.float().cpu())
        if batch.labels is not None:
            labels.append(batch.labels)
    if not any(kept.values()):
        raise Problem("the task has no test item that can be read, so the network cannot be measured")
    found = {name: torch.cat(parts).numpy() for name, parts in kept.items()}
    return found, torch.cat(labels).numpy() if labels else None


def sheet_of(geometry: Geometry) -> Geometry:
    """The geometry that kept activations lie on: of channels, their places."""
    return geometry.base if isinstance(geometry, Channels) else geometry


def call(model: Any, inputs: Any) -> Any:
    """The model's output: ``inputs`` are a tensor, a tuple of arguments or a mapping of them."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def to_device(inputs: Any, device: torch.device) -> Any:
    """``inputs`` on ``device``."""
    if isinstance(inputs, Mapping):
        return {k: to_device(v, device) for k, v in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(to_device(v, device) for v in inputs)
    return inputs.to(device) if isinstance(inputs, Tensor) else inputs
