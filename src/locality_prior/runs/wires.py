"""The wires of a trained network: the sheets between which they run, and the strongest into each unit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from locality_prior import analysis
from locality_prior.geometry import Channels, Geometry, Permuted
from locality_prior.placement import Placed, Placement, first_of, hooked, place, rows
from locality_prior.runs.network import Layer, Network, call, sheet_of, to_device
from locality_prior.runs.task import Task, first, spread

Floats = npt.NDArray[np.float64]

#: How many wires into a unit are kept.
STRONGEST = 32
#: Whether units follow one another is tried on this many items, for this many units, which must have more than so many
#: times the influence of others.
ITEMS, UNITS, MAINLY = 16, 8, 4


def ends(net: Network, task: Task, device: torch.device) -> dict[str, tuple[str | None, str | None]]:
    """For each layer, the sheets that its wires leave and enter; None where an end lies on no sheet.

    A layer's wires leave a sheet if each of its inputs follows the sheet's unit of the same number, and enter a sheet
    if each unit of it follows the layer's output of that number. Of several such sheets it is the nearest.
    Normalisation and activation functions in between, which leave a unit a unit, do not matter. Wires between a
    recurrent network's own units leave and enter the same sheet.
    """
    net.model.eval()
    batch = next((first(b, ITEMS) for b in task.kept() if len(b.targets)), None)
    if batch is None or not net.layers:
        return dict.fromkeys((layer.name for layer in net.layers), (None, None))
    own = place(net.model, {layer.name: layer.target for layer in net.layers})
    watched: dict[str, Placed] = {name: placement[name] for placement in (own, net.placed) for name in placement}
    with torch.enable_grad():
        called, inputs, _ = seen(net.model, watched, to_device(batch.inputs, device))
        return {layer.name: _ends(layer, net, own, called, inputs) for layer in net.layers}


def seen(
    model: nn.Module, watched: Mapping[str, Placed], given: Any
) -> tuple[dict[str, Tensor], dict[str, Tensor], Any]:
    """What modules give and read when the model is called, in the order of the calls, and what the model gives."""
    called: dict[str, Tensor] = {}
    inputs: dict[str, Tensor] = {}

    def see(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            read, made = first_of(given, Tensor), first_of(output, Tensor)
            if name in called or made is None:
                return
            called[name] = made
            if read is not None:
                inputs[name] = read

        return hook

    with ExitStack() as stack:
        for name, placed in watched.items():
            stack.enter_context(hooked(placed.module, see(name)))
        output = call(model, given)
    return called, inputs, output


def _ends(
    layer: Layer, net: Network, own: Placement, called: dict[str, Tensor], inputs: dict[str, Tensor]
) -> tuple[str | None, str | None]:
    if layer.name not in called:
        return None, None
    order = list(called)
    at = order.index(layer.name)
    made = own[layer.name]

    def on(names: list[str], units: Geometry) -> list[str]:
        return [name for name in names if name in net.placed and len(net.placed[name].geometry) == len(units)]

    target = layer.name if on([layer.name], layer.target) else None
    if target is None:
        after = on(order[at + 1 :], layer.target)
        target = next(
            (n for n in after if follows(rows(net.placed[n], called[n], False), called[layer.name], made)), None
        )
    if isinstance(made.module, (nn.RNNBase, nn.MultiheadAttention)):
        return (target if layer.source == layer.target else None), target
    if layer.name not in inputs:
        return None, target
    axis = 1 if isinstance(made.module, nn.modules.conv._ConvNd) else -1
    read = inputs[layer.name].movedim(axis, -1).reshape(-1, inputs[layer.name].shape[axis])
    before = on(order[:at][::-1], layer.source)
    return next((n for n in before if follows(read, called[n], net.placed[n])), None), target


def follows(later: Tensor, earlier: Tensor, placed: Placed) -> bool:
    """Whether each unit of ``later`` (samples, units) is made of the unit of the same number of an earlier output.

    It is if that unit has more than :data:`MAINLY` times the influence of any other.
    """
    n = later.shape[1]
    if n != len(placed.geometry) or not later.requires_grad or not earlier.requires_grad:
        return False
    found = 0.0
    for unit in spread(n, UNITS).tolist():
        try:
            grad: Any = torch.autograd.grad(later[:, unit].sum(), earlier, retain_graph=True, allow_unused=True)[0]
        except RuntimeError:  # an operation without a gradient, or a tensor that was changed in place
            return False
        if grad is None:
            return False
        influence = rows(placed, grad, items=False).abs().mean(0)
        itself = float(influence[unit])
        influence[unit] = 0
        if float(influence.max()) * MAINLY > itself:
            return False
        found += itself
    return found > 0


def mean_wire_length(layers: Iterable[Layer], model: nn.Module) -> float:
    """Σ d|V| / Σ|V| over all ``layers``, each d in the unit of its geometries; NaN if there are no layers."""
    sums = [0.0, 0.0]
    for layer in layers:
        lengths = analysis.wire_lengths(layer.strength(model), layer.target, layer.source)
        if lengths.total and lengths.mean:
            sums[0] += lengths.total
            sums[1] += lengths.total / lengths.mean
    return sums[0] / sums[1] if sums[1] else float("nan")


def strongest(layer: Layer, weights: Floats) -> dict[str, npt.NDArray[Any]]:
    """The strongest wires into each unit, in order of strength.

    Args:
        layer: the layer. Where several units share a place, as channels do, their wires are added up.
        weights: Σ|V|, (out, in).

    Returns:
        Four arrays (target units, at most 32): ``origin``, the numbers of the source units; ``weight``, Σ|V|;
        ``distance``, as the geometries have it; and ``rank``, the share of the layer's wires that are as strong or
        stronger. Where a unit has fewer wires, the last weights are 0.
    """
    v = _by_place(_by_place(weights, layer.target).T, layer.source).T
    target, source = sheet_of(layer.target), sheet_of(layer.source)
    k = min(STRONGEST, v.shape[1])
    origin = np.argsort(-v, axis=1, kind="stable")[:, :k]
    weight = np.take_along_axis(v, origin, axis=1)
    blocks = np.array_split(np.arange(len(v)), -(-len(v) // 1024))
    distance = np.concatenate(
        [
            np.take_along_axis(target.distances(source, torch.from_numpy(block)).numpy(), origin[block], axis=1)
            for block in blocks
        ]
    )
    distance[~np.isfinite(distance)] = np.nan  # no way leads there, so there is no wire either
    wires = np.sort(v[v > 0])
    rank = (len(wires) - np.searchsorted(wires, weight)) / max(len(wires), 1)
    return {"origin": origin.astype(np.int32), "weight": weight, "distance": distance, "rank": rank}


def _by_place(weights: Floats, geometry: Geometry) -> Floats:
    """``weights`` (units, …) in the order of the places, added up over the units that share one."""
    if isinstance(geometry, Permuted):
        moved: Floats = weights[geometry.units.numpy()]
        return moved
    if not isinstance(geometry, Channels):
        return weights
    summed: Floats = weights.reshape(geometry.channels, -1, weights.shape[1]).sum(0)
    return summed
