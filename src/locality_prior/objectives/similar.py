"""Neighbours alike: in their incoming weights (WS), or in their responses (AS)."""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from locality_prior._check import choice, instance, wrong, wrong_type
from locality_prior.geometry import Geometry
from locality_prior.objectives import _given
from locality_prior.objectives._neighbours import Neighbours, moore
from locality_prior.objectives._precision import not_half, precise
from locality_prior.objectives.base import OfResponses, OfWeights
from locality_prior.objectives.schedules import Strength
from locality_prior.placement import Placement

#: How the difference of two units' vectors is measured.
By = Literal["cosine", "l2", "correlation"]


def similarity(vectors: Tensor, geometry: Geometry, *, by: str = "cosine") -> Tensor:
    """The mean over pairs of neighbours of how much the vectors of two units differ.

    That is 1 − cos(w_u, w_v) for ``by="cosine"``, 1 − corr(w_u, w_v) for ``"correlation"`` and ‖w_u − w_v‖ for
    ``"l2"``. Neighbours on a grid are the eight around a unit, fewer at an edge. The mean is over pairs, so a unit at
    an edge counts less than one inside.

    Weight similarity and activation similarity (Truong & Hasson 2025, arXiv:2508.00043; tlmnhut/weight_vs_act_toponet ·
    ``utils.py``). Their code counts each pair twice, once from either end, which gives the same mean. What differs:

    - A pair of which one vector is zero (or constant, for a correlation) has no cosine and is left out; there it counts
      as 1, and 1e-8 is added to the product of norms.
    - The gradient of ‖w_u − w_v‖ is 0 where two vectors are equal; there it is undefined.
    - A periodic axis of a grid closes. On other geometries, and on a grid with empty cells, neighbours are units at
      different places that are at most 1.5 neighbour distances apart.

    >>> import torch
    >>> import locality_prior as lp
    >>> lp.objectives.similarity(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), lp.Line(3))
    tensor(0.5000)

    Args:
        vectors: (units, features): a weight (out, in), or the transposed responses (samples, units).
        geometry: where the units lie.
        by: "cosine", "l2" or "correlation".

    Returns:
        A scalar; 0 where no pair is defined. float32, or float64 for float64.

    Raises:
        ValueError, TypeError: sizes that do not fit, or another ``by``.
    """
    geometry = instance("geometry", geometry, Geometry, "a geometry, such as Grid(7, 7)")
    if not isinstance(vectors, Tensor) or not vectors.is_floating_point():
        raise wrong_type("vectors", vectors, "a floating-point tensor (units, features)")
    if vectors.dim() != 2 or len(vectors) != len(geometry):
        raise wrong("vectors", vectors, f"({len(geometry)}, features) for {geometry!r}")
    by = choice("by", by, get_args(By))
    pairs = moore("geometry", geometry).to(vectors.device)
    with not_half(vectors):
        return _mean(precise(vectors), pairs, by)


def _mean(rows: Tensor, pairs: Neighbours, by: str) -> Tensor:
    if by == "l2":
        squared = pairs.apart(rows)
        there = squared > 0
        lengths = torch.where(there, torch.where(there, squared, 1.0).sqrt(), 0.0)
        return lengths.sum() / max(1, len(lengths))
    if by == "correlation":
        rows = rows - rows.mean(1, keepdim=True)
    return pairs.differ(rows)


class WeightSimilarity(OfWeights):
    """λ · :func:`similarity` of the incoming weights of each placed module's units (WS), summed over the modules.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU())
    >>> objective = lp.objectives.WeightSimilarity(lp.place(net, {"0": lp.Grid(8, 8)}), strength=0.1)
    >>> loss = net(torch.randn(32, 4)).square().mean() + objective()
    >>> loss.backward()

    Args:
        placed: the modules, and where their units are.
        strength: λ; the paper's is 1.
        by: "cosine", "l2" or "correlation".
    """

    WORD: ClassVar[str] = "weight_similarity"
    by: str

    def __init__(self, placed: Placement, strength: float | Strength = 1.0, *, by: str = "cosine") -> None:
        super().__init__(placed, strength, by=choice("by", by, get_args(By)))

    def of(self, name: str) -> Tensor:
        return similarity(self.placed.weights(name), self.placed[name].geometry, by=self.by)


class ResponseSimilarity(OfResponses):
    """λ · :func:`similarity` of the responses of each placed module's units (AS), summed over the modules.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU())
    >>> objective = lp.objectives.ResponseSimilarity(lp.place(net, {"1": lp.Grid(8, 8)}), strength=0.1)
    >>> loss = net(torch.randn(32, 4)).square().mean() + objective()
    >>> loss.backward()

    Args:
        placed: the modules, and where their units are.
        strength: λ; the paper's is 1.
        by: "cosine", "l2" or "correlation".
    """

    WORD: ClassVar[str] = "response_similarity"
    by: str

    def __init__(self, placed: Placement, strength: float | Strength = 1.0, *, by: str = "cosine") -> None:
        super().__init__(placed, strength, by=choice("by", by, get_args(By)))

    def of(self, responses: Tensor, geometry: Geometry) -> Tensor:
        responses, geometry = _given.responses(responses, geometry)
        return similarity(responses.T, geometry, by=self.by)
