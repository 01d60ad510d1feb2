"""What the objectives that charge wires by their length have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from locality_prior._check import wrong
from locality_prior.geometry import Geometry, learned_distances
from locality_prior.objectives._kept import kept
from locality_prior.placement import Between, Placement


@kept
def lengths(target: Geometry, source: Geometry, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Lengths of the wires of every pair, (out, in), with 0 where a unit is wired to itself.

    Raises:
        ValueError: there is no way between two units.
    """
    d = connected(target, source, dtype, device).to(device, dtype)
    if target == source:
        d = d.clone().fill_diagonal_(0)
    return d


def connected(target: Geometry, source: Geometry, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Distances of every pair, (out, in), all of them finite: float64 on the CPU.

    If positions learn, the distances have a gradient, and are on ``device`` and in ``dtype`` or a wider one.
    """
    if target.learned or source.learned:
        return learned_distances(target, source, torch.empty(0, dtype=dtype, device=device))
    d = target.distances(None if source is target else source)
    if not d.isfinite().all():
        raise wrong("target", f"{target!r}, in which some units are not connected", "a way between any two units")
    return d


def over_kernel(each: Tensor) -> Tensor:
    """Sums over the places of a kernel, (out, in, …) to (out, in)."""
    return each.flatten(2).sum(2) if each.dim() > 2 else each


def between_sheets(placed: Placement, name: str) -> list[tuple[Between, Geometry]]:
    """The matrices of a placed module, each with the places of its columns.

    Raises:
        ValueError: a module without weights, or one of which it is not known where its wires come from.
    """
    found = []
    for one in placed.matrices(name):
        if one.source is None:
            expected = f"{{{name!r}: (source, target)}} in place()"
            raise wrong("placed", f"{name} without the places that its wires come from", expected)
        found.append((one, one.source))
    return found
