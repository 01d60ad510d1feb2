"""The network of a run: the model, what makes it local, and which of its modules are looked at."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from locality_prior import cost as costs
from locality_prior._check import ArgumentError, ArgumentTypeError, Problem, wrong
from locality_prior.geometry import Channels, Geometry, Permuted, Points, Shuffled
from locality_prior.layers import Locality, LocalityLinear, locality_layers, with_layers
from locality_prior.objectives import Objective
from locality_prior.objectives import words as objectives
from locality_prior.placement import Placement, place
from locality_prior.retrofit.plan import localize, plan
from locality_prior.retrofit.targets import is_conv1d, plain_kind
from locality_prior.runs import door, places
from locality_prior.runs.config import Named, Run
from locality_prior.runs.task import Task

#: The geometry of a layer's units, or of its source and its target; None: square sheets.
Ends = Geometry | tuple[Geometry | None, Geometry | None] | None


@dataclass(frozen=True)
class Layer:
    """A layer that a condition makes local, with the geometries of its source and its target."""

    name: str
    parameters: tuple[str, ...]
    source: Geometry
    target: Geometry

    @property
    def ends(self) -> Ends:
        """The geometries as ``localize`` takes them: one alone where source and target are equal."""
        return self.target if self.source == self.target else (self.source, self.target)

    def strength(self, model: nn.Module) -> Tensor:
        """Σ|V| from each source unit to each target unit, (out, in), summed over gates and over a kernel's places."""
        flat = [v.flatten(2).sum(2) if v.dim() > 2 else v for v in (v.abs() for v in self._effective(model))]
        return torch.stack([v.reshape(-1, len(self.target), len(self.source)).sum(0) for v in flat]).sum(0)

    def incoming(self, model: nn.Module) -> Tensor:
        """V of all wires into each unit, (out, …): those of all gates and of all places of a kernel side by side."""
        parts = []
        for v in self._effective(model):
            gates = v.reshape(-1, len(self.target), *v.shape[1:])
            parts.append(gates.transpose(0, 1).flatten(1))
        return torch.cat(parts, dim=1)

    def _effective(self, model: nn.Module) -> list[Tensor]:
        """V of each of the layer's parameters, (out, in, …)."""
        module = model.get_submodule(self.name)
        with torch.no_grad():
            if isinstance(module, Locality):
                module = module.fold()
            found = [_weight(module, name).detach() for name in self.parameters]
            return [v.T for v in found] if is_conv1d(type(module)) else found  # which has it as (in, out)

    def penalty(self, model: nn.Module) -> Tensor:
        """‖W‖₁ of the layer's raw weights, a differentiable scalar."""
        module = model.get_submodule(self.name)
        if isinstance(module, Locality):
            return torch.stack([wiring.raw.sum() for wiring in module.wirings()]).sum()
        return torch.stack([_weight(module, name).abs().sum() for name in self.parameters]).sum()


def _weight(module: nn.Module, name: str) -> Tensor:
    """A weight that a module computes with: its parameter, or what a parametrization makes of it."""
    weight: Tensor = attrgetter(name)(module)
    return weight


@dataclass(frozen=True)
class Units:
    """Units that are given places together: on every sheet that shows them they sit at the same places.

    Attributes:
        sheets: the placed modules that show them.
        leaving: the layers whose wires leave them.
        entering: the layers whose wires enter them.
        order: the place of each unit, (units,), among those of the sheets' own geometry.
        points: their positions, if these learn; the order then means nothing.
    """

    sheets: tuple[str, ...]
    leaving: tuple[str, ...]
    entering: tuple[str, ...]
    order: Tensor
    points: Points | None = None

    def moved(self, geometry: Geometry) -> Geometry:
        """The present places of the units, which had the places of ``geometry``."""
        return geometry.permuted(self.order) if self.points is None else self.points


@dataclass(frozen=True)
class Network:
    """A model, its sheets, and the layers that a condition makes local. In the control these are plain torch.

    The objectives are those that it is trained with, bound to the layers or to the sheets.
    """

    model: nn.Module
    placed: Placement
    layers: tuple[Layer, ...]
    objectives: tuple[Objective, ...] = ()

    def points(self) -> list[Points]:
        """The points whose positions learn, in the order of the layers."""
        ends = [end for layer in self.layers for end in (layer.source, layer.target)]
        return list(dict.fromkeys(end for end in ends if isinstance(end, Points) and end.learned))

    def positions(self) -> list[nn.Parameter]:
        """Their coordinates, as the model's parameters."""
        return [one.parameter for one in self.points() if one.parameter is not None]


def network(run: Run, task: Task, units: Sequence[Units] = ()) -> Network:
    """The network of ``run`` before training. Whatever the condition, its raw weights W are the control's.

    Args:
        run: its settings.
        task: what it learns.
        units: those that do not sit where the model's own geometries say.

    Raises:
        ValueError: modules that the model does not have, or geometries or objectives that do not fit.
    """
    torch.manual_seed(run.seed)
    model: nn.Module = door.call("model", run.model, nn.Module, task=task)
    if isinstance(door.find("model", run.model), nn.Module):  # a user's own, which other runs start from too
        model = copy.deepcopy(model)
    placed, local = layout(model, run.place, run.local)
    layers = tuple(_moved(layer, units) for layer in local_layers(model, local))
    if run.cost != "flat" or any(one.points is not None for one in units):
        if not layers:
            raise wrong("local", "no layer that can be made local", f"at least one, to put the cost {run.cost} into")
        cost = costs.parse(run.cost)
        targets = {layer.name: _ends(model, layer, run) for layer in layers}
        localize(model, targets, cost=cost, keep="weights")
    for parameter in model.parameters():
        if parameter.dim() == 4:  # of images, which are computed faster so
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    with naming("place"):
        sheets = _placed(place(model, dict(placed)), units)
    return Network(model, sheets, layers, _bound(run, model, sheets, layers))


def moved(net: Network, units: Sequence[Units], run: Run | None = None) -> Network:
    """``net`` with ``units`` at other places of its geometries. The model, and so what it computes, is the same.

    If the ``run`` is given that is trained with them, its objectives are bound to the new places; otherwise they stay
    as they are.
    """
    sheets, layers = _placed(net.placed, units), tuple(_moved(layer, units) for layer in net.layers)
    return Network(net.model, sheets, layers, _bound(run, net.model, sheets, layers) if run else net.objectives)


def _placed(sheets: Placement, units: Sequence[Units]) -> Placement:
    """``sheets`` with ``units`` moved."""
    at = {name: one for one in units for name in one.sheets}
    found = [sheets[name] for name in sheets]
    return Placement(
        sheets.model, [replace(p, geometry=at[p.name].moved(p.geometry)) if p.name in at else p for p in found]
    )


def _moved(layer: Layer, units: Sequence[Units]) -> Layer:
    """A layer whose source and target are moved with the units at them."""
    for one in units:
        if layer.name in one.leaving:
            layer = replace(layer, source=one.moved(layer.source))
        if layer.name in one.entering:
            layer = replace(layer, target=one.moved(layer.target))
    return layer


def settled(net: Network, units: Sequence[Units]) -> Network:
    """A copy of a network in which no positions learn any more: its units stay where they are now."""
    if all(one.points is None for one in units):
        return net
    rests: dict[Geometry, Geometry] = {one.points: one.points.still() for one in units if one.points is not None}
    layers: dict[nn.Module, nn.Module] = {}
    for _, layer in locality_layers(net.model):
        if isinstance(layer, LocalityLinear) and layer.rule.learned:
            layers[layer] = _at_rest(layer, rests)
    model = with_layers(net.model, layers).train(net.model.training)
    at = {name: rests.get(net.placed[name].geometry, net.placed[name].geometry) for name in net.placed}
    ends = (
        replace(one, source=rests.get(one.source, one.source), target=rests.get(one.target, one.target))
        for one in net.layers
    )
    return Network(model, place(model, dict(at)), tuple(ends))


def _at_rest(layer: LocalityLinear, rests: Mapping[Geometry, Geometry]) -> LocalityLinear:
    """The same layer between points that do not learn."""
    made = LocalityLinear(
        layer.in_features,
        layer.out_features,
        layer.bias is not None,
        source=rests.get(layer.source, layer.source),
        target=rests.get(layer.target, layer.target),
        cost=layer.cost,
        rescale=layer.rescale,
        backend="dense",
        device="meta",
        dtype=layer.weight.dtype,
    ).to_empty(device=layer.weight.device)
    state = layer.state_dict()
    made.load_state_dict({name: state[name] for name in made.state_dict()})
    return made.train(layer.training)


def _bound(run: Run, model: nn.Module, sheets: Placement, layers: tuple[Layer, ...]) -> tuple[Objective, ...]:
    """The objectives of a run, bound to its layers or to its sheets. Nothing random is drawn."""
    if run.objective == objectives.NONE:
        return ()
    with naming("objective"):
        ends = {layer.name: (layer.source, layer.target) for layer in layers}
        return tuple(objectives.bind(run.objective, place(model, ends) if ends else None, sheets))


@contextmanager
def naming(name: str) -> Iterator[None]:
    """A block whose errors speak of a run's setting ``name``, in place of ``targets`` or before another argument."""
    try:
        yield
    except (ArgumentError, ArgumentTypeError) as error:
        text = str(error).replace("targets:", f"{name}:", 1)
        if name == "objective" and not text.startswith(name):
            text = f"{name}: {text}"
        raise type(error)(text) from None


def _ends(model: nn.Module, layer: Layer, run: Run) -> Ends:
    """The geometries that a layer's wires are measured by: those of its units, or shuffled ones."""
    if not run.shuffled:
        return layer.ends
    null = Shuffled(layer.target, layer.source, run.seed)
    among_themselves = isinstance(model.get_submodule(layer.name), (nn.RNNBase, nn.MultiheadAttention))
    return null if among_themselves else (null, null)


def layout(model: nn.Module, place_at: Named, local_at: Named) -> tuple[dict[str, Geometry], dict[str, Ends]]:
    """The sheets of a model and its layers to make local, by module: those that a run names, else the model's own.

    A model names its own in two attributes: ``place``, {module: geometry}, and ``local``, {layer: geometry, a pair
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
        raise wrong(
            "place", "no sheet", "modules and their geometries, such as fc1=32x32, or a model that names its own"
        )
    if not local:
        # every placed layer that can be made local
        with naming("place"):
            placed = place(model, sheets)
        local = {name: placed[name].geometry for name in placed if plain_kind(placed[name].module) is not None}
    return sheets, local


def _own(model: nn.Module, name: str) -> Mapping[str, Any] | None:
    found = getattr(model, name, None)
    return found if isinstance(found, Mapping) else None


def local_layers(model: nn.Module, local: Mapping[str, Ends]) -> tuple[Layer, ...]:
    """The layers of a plain model that ``local`` names, with the geometries of their sources and targets."""
    if not local:
        return ()
    layers = []
    with naming("local"):
        changes = plan(_bare(model, {}), dict(local), cost=costs.Flat()).changes
    for change in changes:
        wirings = change.layer.wirings()
        first = wirings[0].rule
        alike = [w for w in wirings if w.rule.source == first.source and w.rule.target == first.target]
        layers.append(Layer(change.names[0], tuple(w.name for w in alike), first.source, first.target))
    return tuple(layers)


def _bare(module: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """A module with the same weights, without the hooks and parametrizations that cannot pass to a replacing layer."""
    if module not in made:
        kind: type[nn.Module] = type(module)
        parameters, parts = dict(module._parameters), dict(module._modules)
        if parametrize.is_parametrized(module):
            kind = kind.__bases__[0]  # torch makes a class for each module that it puts a parametrization on
            names = parts.pop("parametrizations")._modules  # type: ignore[union-attr]
            parameters |= {name: nn.Parameter(_weight(module, name).detach()) for name in names}
        made[module] = twin = kind.__new__(kind)
        hooks: dict[str, Any] = {name: OrderedDict() for name in module.__dict__ if name.endswith("_hooks")}
        twin.__dict__ = {**module.__dict__, **hooks, "_parameters": parameters}
        twin.__dict__["_modules"] = {n: part if part is None else _bare(part, made) for n, part in parts.items()}
    return made[module]


@torch.no_grad()
def activations(network: Network, task: Task, device: torch.device) -> tuple[dict[str, npt.NDArray[np.float32]], Any]:
    """Responses of each sheet's units to the task's kept items, (items, units), and the items' labels or None.

    Where several units share a place, as channels do, their mean is taken. Units that were moved are numbered
    by their places.
    """
    kept: dict[str, list[Tensor]] = {name: [] for name in network.placed}
    labels: list[Tensor] = []
    network.model.eval()
    for batch in task.kept():
        if not len(batch.targets):
            continue
        seen = responses(network, task, to_device(batch.inputs, device), len(batch.targets))
        for name, values in seen.items():
            geometry = network.placed[name].geometry
            if isinstance(geometry, Channels):
                values = values.reshape(len(values), geometry.channels, -1).mean(1)
            elif isinstance(geometry, Permuted):
                values = values[:, geometry.units.to(values.device)]
            kept[name].append(values.float().cpu())
        if batch.labels is not None:
            labels.append(batch.labels)
    if not any(kept.values()):
        raise Problem(f"{task.name} has no test item that can be read, so the network cannot be measured.")
    found = {name: torch.cat(parts).numpy() for name, parts in kept.items()}
    return found, torch.cat(labels).numpy() if labels else None


def responses(network: Network, task: Task, inputs: Any, items: int) -> dict[str, Tensor]:
    """The responses of each placed module's units to one batch, (items, units).

    Raises:
        Problem: a module that has not one response for each item.
    """
    with network.placed.record(items="last" if task.response == "last" else True) as seen:
        call(network.model, inputs)
    found = {name: seen[name] for name in network.placed}
    for name, values in found.items():
        if len(values) != items:
            raise Problem(
                f"The module {name} gave {len(values)} responses to {items} items, so it cannot be a sheet. "
                "Place a module that the model calls once for each batch."
            )
    return found


def sheet_of(geometry: Geometry) -> Geometry:
    """The geometry of the kept activations: of places, where several units share one or units are in another order."""
    return geometry.base if isinstance(geometry, (Channels, Permuted)) else geometry


def call(model: Any, inputs: Any) -> Any:
    """The output of a model, whose ``inputs`` are a tensor, a tuple of arguments or a mapping of them."""
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
