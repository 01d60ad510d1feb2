"""Every kind of objective, by the name under which it is saved."""

from __future__ import annotations

from locality_prior.objectives.base import Objective
from locality_prior.objectives.correlation import AbsoluteCorrelation, Bootphon, SpatialCorrelation
from locality_prior.objectives.energy import TICA

#: The built-in objectives.
KINDS: dict[str, type[Objective]] = {
    kind.__name__: kind for kind in (SpatialCorrelation, AbsoluteCorrelation, Bootphon, TICA)
}
