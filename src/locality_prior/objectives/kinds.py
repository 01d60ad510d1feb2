"""Every kind of objective, by the name under which it is saved."""

from __future__ import annotations

from locality_prior.objectives.base import Objective
from locality_prior.objectives.pyramid import TopoLoss
from locality_prior.objectives.similar import ResponseSimilarity, WeightSimilarity
from locality_prior.objectives.smooth import Smoothness

#: The built-in objectives.
KINDS: dict[str, type[Objective]] = {
    kind.__name__: kind for kind in (TopoLoss, Smoothness, WeightSimilarity, ResponseSimilarity)
}
