"""Better places for the units of a run: which units may move, and to where."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from locality_prior import analysis, arrange
from locality_prior._check import Problem, wrong
from locality_prior.arrange import words
from locality_prior.geometry import Channels, Geometry, Measured, Points
from locality_prior.layers import LocalityLinear
from locality_prior.objectives import Objective
from locality_prior.objectives import words as objectives
from locality_prior.placement import first_of, makers, rows
from locality_prior.retrofit.targets import plain_kind
from locality_prior.runs.config import Run, control_of, epochs_before
from locality_prior.runs.network import Layer, Network, Units, network, responses, to_device
from locality_prior.runs.task import Shard, Task, drawing, first
from locality_prior.runs.wires import ITEMS, ends, follows, mean_wire_length, seen

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: How many training items units are arranged by, through their responses.
SEEN = 1000


def movable(net: Network, task: Task) -> tuple[Units, ...]:
    """The units that may be moved, each at its own place: those of every sheet whose units a layer's weights make.

    What the sheet shows must follow the outputs of a linear layer, a convolution or a recurrent network unit by unit.
    Units whose place has a meaning stay: the inputs, the places of a feature map, and the model's outputs. Sheets that
    follow the same layer show the same units.

    Args:
        net: the network, on the CPU, before training.
        task: the task, a few of whose items are run through the network.
    """
    net.model.eval()
    batch = next((first(b, ITEMS) for b in task.validation(Shard()) if len(b.targets)), None)
    if batch is None:
        return ()
    made, device = makers(net.model), torch.device("cpu")
    watched = {name: placement[name] for placement in (made, net.placed) for name in placement}
    groups: dict[str, list[str]] = {}
    with torch.enable_grad():
        called, _, output = seen(net.model, watched, to_device(batch.inputs, device))
        order = list(called)
        last = first_of(output, Tensor)
        told = last.reshape(-1, last.shape[-1]) if last is not None and last.dim() else None
        given = {
            name for name in made if name in called and told is not None and follows(told, called[name], made[name])
        }
        for name in (n for n in order if n in net.placed):
            if isinstance(net.placed[name].geometry, Channels):
                continue
            shown = rows(net.placed[name], called[name], False)
            before = [n for n in order[: order.index(name)][::-1] if n in made]
            sources = [name] if name in made else before
            maker = next((n for n in sources if n == name or follows(shown, called[n], made[n])), None)
            if maker is not None and maker not in given and len(made[maker].geometry) == shown.shape[1]:
                groups.setdefault(maker, []).append(name)
    at = ends(net, task, device)
    found = []
    for sheets in groups.values():
        leaving = tuple(name for name, (source, _) in at.items() if source in sheets)
        entering = tuple(name for name, (_, target) in at.items() if target in sheets)
        units = torch.arange(len(net.placed[sheets[0]].geometry))
        found.append(Units(tuple(sheets), leaving, entering, units))
    return tuple(found)


class Arranger:
    """Arranges the units of one run, and holds their places.

    Args:
        run: the run, whose setting ``arrange`` says when units move, and by what.
        net: the network of the run, before training and on the CPU.
        task: what it learns.

    Raises:
        ValueError: the network has no units that may move, or something in it does not allow them to.
    """

    def __init__(self, run: Run, net: Network, task: Task) -> None:
        how = words.parse("arrange", run.arrange)
        assert how is not None
        self.run, self.how, self.given, self.task = run, how, net, task
        by_wires = how.by in ("wires", words.LEARNED)
        if how.when == "during" and (fixed := next(filter(_computes, net.objectives), None)):
            expected = "an arrangement before or after training"
            raise wrong("arrange", f"{how} with {fixed.WORD}, which would change the network's function", expected)
        steps = run.recipe.epochs * task.steps(run.recipe.batch_size, 1)
        if isinstance(how, words.Arrangement) and how.when == "during" and 0 < steps < how.every:
            given = f"{how}, every {how.every:,} of {steps:,} steps of training"
            raise wrong("arrange", given, f"every={steps} or less")
        # an objective may be a part of the network that mixes units, as a blur is
        self.units = movable(net if run.objective == objectives.NONE else network(control_of(run), task), task)
        if by_wires:
            self.units = tuple(one for one in self.units if one.leaving or one.entering)
        if not self.units:
            what = "a layer's wires leave or enter" if by_wires else "a layer's weights make"
            raise wrong("arrange", f"{how}, without units to move", f"a sheet whose units {what}")
        for one in self.units if by_wires else ():
            first, *others = _geometries(net, one)
            if different := next((other for other in others if other != first), None):
                given = f"{how}, with the units of {one.sheets[0]} on {first!r} and on {different!r}"
                raise wrong("arrange", given, "one geometry for them in all layers")
        if isinstance(how, words.Learned):
            self.units = tuple(_learning(one, net) for one in self.units)
            for layer in net.layers:
                _check_frame(net.model, layer, self.units)

    def state(self) -> dict[str, Tensor]:
        """The orders for the run's state, of each set of units by its first sheet; none if positions learn."""
        return {one.sheets[0]: one.order for one in self.units if one.points is None}

    def began(self) -> dict[str, Geometry]:
        """By sheet, the geometries from which units began whose positions learn."""
        learning = [name for one in self.units if one.points is not None for name in one.sheets]
        return {name: self.given.placed[name].geometry for name in learning}

    def told(self, net: Network, responded: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, Any]:
        """What the new places are worth: measures of the trained network with units at their own places, and now.

        Args:
            net: the trained network, with its units where they sit.
            responded: the responses of each sheet, in the order of the places.
        """
        lengths = [mean_wire_length(layers, net.model) for layers in (self.given.layers, net.layers)]
        alike = {}
        for one in self.units:
            for name in one.sheets:
                sheet = self.given.placed[name].geometry
                now = responded[name].astype(np.float64)
                if one.points is None:
                    own, there = (now[:, one.order.numpy()], sheet), (now, sheet)
                else:
                    own, there = (now, sheet), (now, net.placed[name].geometry)
                alike[name] = [analysis.response_correlation(*each).score for each in (own, there)]
        return {
            "by": self.how.by,
            "when": self.how.when,
            "epochs": epochs_before(self.run) + self.run.recipe.epochs,
            "mean_wire_length": [None if math.isnan(length) else length for length in lengths],
            "response_correlation": alike,
        }

    def improve(self, net: Network, fabric: Fabric) -> None:
        """Move the units to better places, beginning from the present ones. Every process takes the first one's orders.

        Args:
            net: the network whose wires or responses are used.
            fabric: what runs it.
        """
        if self.how.by == "wires":
            orders = by_wires(self.given, net, self.units, self.run.seed)
        else:
            responded = _responses(net, self.task, self.run, fabric.device)
            orders = by_responses(self.given, responded, self.units, self.run.seed)
        self.put(fabric.broadcast(orders) if fabric.world_size > 1 else orders)

    def put(self, orders: Mapping[str, Tensor]) -> None:
        """Set where the units sit: the orders of a state, or better ones."""
        if orders.keys() != self.state().keys():
            raise Problem("The state holds the order of other units than this network has. Delete it to start again.")
        for name, order in orders.items():
            self.given.placed[name].geometry.permuted(order)  # raises where it is no order of these units
        self.units = tuple(replace(one, order=orders.get(one.sheets[0], one.order)) for one in self.units)


def _geometries(net: Network, units: Units) -> list[Geometry]:
    """The geometries that the layers entering and leaving some units give for these."""
    entered = [layer.target for layer in net.layers if layer.name in units.entering]
    return entered + [layer.source for layer in net.layers if layer.name in units.leaving]


def _learning(units: Units, net: Network) -> Units:
    """Units whose positions learn, beginning at the places that they have."""
    geometry = net.placed[units.sheets[0]].geometry
    if isinstance(geometry, Measured):
        raise wrong("arrange", f"learned and {units.sheets[0]} on {geometry!r}", "a sheet whose units have positions")
    return replace(units, points=Points(geometry.positions, learned=True))


def _check_frame(model: nn.Module, layer: Layer, units: Sequence[Units]) -> None:
    """Raise if a layer cannot have points, or if its wires would be longer or shorter than between its sheets."""
    if not any(layer.name in (*one.leaving, *one.entering) for one in units):
        return
    module = model.get_submodule(layer.name)
    if not isinstance(module, LocalityLinear) and plain_kind(module) is not nn.Linear:
        given = f"learned and the wires of {layer.name}, a {type(module).__name__}"
        raise wrong("arrange", given, "sheets between which all layers are linear")
    expected = (
        "sheets that meet without being stretched, such as equal grids that are not periodic, or grids with a spacing"
    )
    try:
        raw = Points(layer.target.positions).distances(Points(layer.source.positions))
        fits = torch.allclose(raw, layer.target.distances(layer.source), rtol=1e-6, atol=1e-6)
    except ValueError:
        fits = False
    if not fits:
        given = f"learned and {layer.name} from {layer.source!r} to {layer.target!r}"
        raise wrong("arrange", given, expected)


def _computes(objective: Objective) -> bool:
    """Whether an objective changes what the model computes, as a mask does."""
    return not objective.LOSS and type(objective).after_step is Objective.after_step


def by_wires(given: Network, net: Network, units: Sequence[Units], seed: int) -> dict[str, Tensor]:
    """Orders that make Σ d|V| smaller over the layers entering or leaving the units. Other units stay."""
    leaves = {layer: one.sheets[0] for one in units for layer in one.leaving}
    enters = {layer: one.sheets[0] for one in units for layer in one.entering}
    sheets: dict[str, Geometry] = {}
    layers = []
    for layer in given.layers:
        if layer.name in leaves or layer.name in enters:
            source = leaves.get(layer.name, f"what enters {layer.name}")
            target = enters.get(layer.name, f"what leaves {layer.name}")
            sheets |= {source: layer.source, target: layer.target}
            layers.append((layer.strength(net.model), source, target))
    begun = {one.sheets[0]: one.order for one in units if _moved(one)}
    fixed = [name for name in sheets if name not in {one.sheets[0] for one in units}]
    found = arrange.stack_by_wires(sheets, layers, fixed=fixed, orders=begun or None, seed=seed)
    return {one.sheets[0]: found[one.sheets[0]] for one in units}


def by_responses(
    given: Network, responded: Mapping[str, Tensor], units: Sequence[Units], seed: int
) -> dict[str, Tensor]:
    """Orders by which neighbours respond more alike, by the responses of the last sheet that shows the units."""
    found = {}
    for one in units:
        sheet = one.sheets[-1]
        geometry = given.placed[sheet].geometry
        begun = one.order if _moved(one) else None  # at the start a good order is looked for
        found[one.sheets[0]] = arrange.by_similarity(responded[sheet], geometry, order=begun, seed=seed)
    return found


def _moved(units: Units) -> bool:
    """Whether units sit elsewhere than at their own places."""
    return not torch.equal(units.order, torch.arange(len(units.order)))


def _responses(net: Network, task: Task, run: Run, device: torch.device) -> dict[str, Tensor]:
    """The responses of each sheet's units to the first training items of the first epoch, (items, units) float64."""
    kept: dict[str, list[Tensor]] = {name: [] for name in net.placed}
    left, training = SEEN, net.model.training
    net.model.eval()
    with torch.no_grad(), drawing(run.seed):
        for batch in task.epoch(run.seed, 1, run.recipe.batch_size, Shard()):
            some = first(batch, left)
            if len(some.targets):
                for name, values in responses(net, task, to_device(some.inputs, device), len(some.targets)).items():
                    kept[name].append(values.double().cpu())
            left -= len(some.targets)
            if left <= 0:
                break
    net.model.train(training)
    return {name: torch.cat(parts) for name, parts in kept.items()}
