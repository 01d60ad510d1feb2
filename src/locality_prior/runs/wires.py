"""The wires of a trained network: the sheets between which they run, and the strongest into each unit."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from locality_prior.geometry import Channels, Geometry
from locality_prior.placement import hooked
from locality_prior.runs.network import Layer, Network, call, sheet_of, to_device
from locality_prior.runs.task import Task

Floats = npt.NDArray[np.float64]

#: How many wires into a unit are kept.
STRONGEST = 32


@torch.no_grad()
def ends(net: Network, task: Task, device: torch.device) -> dict[str, tuple[str | None, str | None]]:
    """For each layer, the sheets that its wires leave and enter; None where an end lies on no sheet.

    The modules of a network are called in some order. A layer's wires leave the last sheet of as many places that was
    computed before the layer, and enter the layer itself or the first such sheet after it, unless another layer comes
    between them. Wires between a recurrent network's own units leave and enter the same sheet.
    """
    called: list[str] = []
    watched = dict.fromkeys([*(layer.name for layer in net.layers), *net.placed])
    net.model.eval()
    with ExitStack() as stack:
        for name in watched:
            module = net.model.get_submodule(name)
            stack.enter_context(hooked(module, lambda *_, name=name: called.append(name)))
        batch = next((b for b in task.kept() if len(b.targets)), None)
        if batch is not None:
            call(net.model, to_device(batch.inputs, device))
    order = list(dict.fromkeys(called))
    layers = {layer.name for layer in net.layers}
    return {layer.name: _ends(layer, order, layers, net) for layer in net.layers}


def _ends(layer: Layer, order: list[str], layers: set[str], net: Network) -> tuple[str | None, str | None]:
    if layer.name not in order:
        return None, None
    at = order.index(layer.name)

    def fits(name: str, geometry: Geometry) -> bool:
        return name in net.placed and len(sheet_of(net.placed[name].geometry)) == len(sheet_of(geometry))

    after = order[at + 1 :]
    until = next((k for k, name in enumerate(after) if name in layers), len(after))
    target = next((name for name in (layer.name, *after[:until]) if fits(name, layer.target)), None)
    if isinstance(net.model.get_submodule(layer.name), (nn.RNNBase, nn.MultiheadAttention)):
        return (target if layer.source == layer.target else None), target
    return next((name for name in reversed(order[:at]) if fits(name, layer.source)), None), target


def strongest(layer: Layer, weights: Floats) -> dict[str, npt.NDArray[Any]]:
    """The strongest wires into each unit, in order of strength.

    Args:
        layer: the layer. Where several units share a place, as channels do, their wires are added up.
        weights: Σ|V|, (out, in).

    Returns:
        Four arrays (target units, at most 32): ``origin``, the numbers of the source units; ``weight``, Σ|V|;
        ``distance``, in spacings of the source; and ``rank``, the share of the layer's wires that are as strong or
        stronger. Where a unit has fewer wires, the last weights are 0.
    """
    v = _by_place(_by_place(weights, layer.target).T, layer.source).T
    target, source = sheet_of(layer.target), sheet_of(layer.source)
    k = min(STRONGEST, v.shape[1])
    origin = np.argsort(-v, axis=1, kind="stable")[:, :k]
    weight = np.take_along_axis(v, origin, axis=1)
    rows = np.array_split(np.arange(len(v)), -(-len(v) // 1024))
    distance = np.concatenate(
        [
            np.take_along_axis(target.distances(source, torch.from_numpy(part)).numpy(), origin[part], axis=1)
            for part in rows
        ]
    )
    distance[~np.isfinite(distance)] = np.nan  # no way leads there, so there is no wire either
    wires = np.sort(v[v > 0])
    rank = (len(wires) - np.searchsorted(wires, weight)) / max(len(wires), 1)
    return {"origin": origin.astype(np.int32), "weight": weight, "distance": distance, "rank": rank}


def _by_place(weights: Floats, geometry: Geometry) -> Floats:
    """``weights`` (units, …) added up over the units that share a place."""
    if not isinstance(geometry, Channels):
        return weights
    summed: Floats = weights.reshape(geometry.channels, -1, weights.shape[1]).sum(0)
    return summed
