"""How a network's maps grow: its class means after some of its epochs, which are kept in the run's state."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from locality_prior import analysis
from locality_prior.geometry import Permuted
from locality_prior.runs.network import Network, activations, sheet_of
from locality_prior.runs.task import Task, spread

#: The most classes whose maps are measured and shown. Of more classes, so many are taken that are spread over them.
SHOWN = 10
#: The most epochs after which maps are kept, and the most numbers that are kept of a sheet.
EPOCHS, NUMBERS = 33, 1 << 22


def shown_classes(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The classes among ``labels`` whose maps are measured and shown, ascending."""
    there = np.unique(labels).astype(np.int64)
    return np.take(there, spread(len(there), SHOWN).numpy())


class EpochMaps:
    """Class means of each sheet's units before training, and after epochs that are spread over all of it.

    Args:
        net: the network, or one with the same sheets.
        task: whose kept items it responds to.
        device: where to compute.
        epochs: how many epochs there are.
        kept: what :meth:`state` returned when the run was stopped; None at its start.
    """

    def __init__(
        self, net: Network, task: Task, device: torch.device, epochs: int, kept: dict[str, Any] | None
    ) -> None:
        self._task, self._device = task, device
        units = max(len(sheet_of(net.placed[name].geometry)) for name in net.placed)
        most = min(EPOCHS, NUMBERS // (SHOWN * units))
        self._wanted = set(spread(epochs + 1, most).tolist()) if most > 1 else set()
        self._epochs: list[int] = kept["epochs"] if kept else []
        self._means: dict[str, list[Tensor]] = {name: list(kept["means"][name]) if kept else [] for name in net.placed}
        learned = [name for name in net.placed if net.placed[name].geometry.learned]
        self._positions: dict[str, list[Tensor]] = {
            name: list(kept["positions"][name]) if kept else [] for name in learned
        }

    def see(self, epoch: int, net: Network) -> None:
        """Keep the maps as they are after ``epoch``, if it is one of those that are kept; 0 is before training."""
        if epoch not in self._wanted or epoch in self._epochs:
            return
        responses, labels = activations(net, self._task, self._device)
        if labels is None and not self._positions:
            self._wanted = set()
            return
        if labels is not None:
            classes = shown_classes(labels)
            for name, values in responses.items():
                means = analysis.class_means(values.astype(np.float64), labels)[classes]
                self._means[name].append(torch.from_numpy(means.astype(np.float16)))
        for name, positions in self._positions.items():
            positions.append(net.placed[name].geometry.positions.float())
        self._epochs.append(epoch)

    def state(self) -> dict[str, Any]:
        """What is kept, for the run's state.

        ``epochs``; ``means`` of each sheet, (epochs, classes, units); and ``positions`` of each sheet whose positions
        learn, (epochs, units, d), if there is one.
        """
        there = {name: torch.stack(maps) if maps else torch.empty(0) for name, maps in self._means.items()}
        moving = {name: torch.stack(seen) if seen else torch.empty(0) for name, seen in self._positions.items()}
        return {"epochs": self._epochs, "means": there} | ({"positions": moving} if moving else {})

    def ended(self, epochs: int, net: Network) -> dict[str, Any] | None:
        """The state of a network of which no maps were kept after so many ``epochs``: where units that moved ended."""
        if not self._positions:
            return None
        there = {name: net.placed[name].geometry.positions.float()[None] for name in self._positions}
        return {"epochs": [epochs], "means": {}, "positions": there}


def in_order(kept: dict[str, Any], net: Network) -> dict[str, Any]:
    """What :meth:`EpochMaps.state` returned, with the units moved to the places of ``net``."""
    means = dict(kept["means"])
    for name in means:
        geometry = net.placed[name].geometry
        if isinstance(geometry, Permuted) and kept["epochs"]:
            means[name] = means[name][..., geometry.units]
    return kept | {"means": means}


def arrays(kept: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """What :meth:`EpochMaps.state` returned, as arrays of measures.npz; none where no maps were kept."""
    if not kept["epochs"]:
        return {}
    means = {f"sheet/{name}/epoch_means": v.numpy() for name, v in kept["means"].items() if len(v)}
    moving = {f"sheet/{name}/epoch_positions": v.numpy() for name, v in kept.get("positions", {}).items()}
    return {"epochs": np.array(kept["epochs"], dtype=np.int64), **means, **moving}
