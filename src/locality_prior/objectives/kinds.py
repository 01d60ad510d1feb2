"""Every kind of objective, by the name under which it is saved."""

from __future__ import annotations

from locality_prior.objectives.base import Objective
from locality_prior.objectives.blurring import Blur
from locality_prior.objectives.correlation import AbsoluteCorrelation, Bootphon, SpatialCorrelation
from locality_prior.objectives.energy import TICA
from locality_prior.objectives.mask import Mask
from locality_prior.objectives.modular_training import BIMT
from locality_prior.objectives.prices import Wiring
from locality_prior.objectives.pyramid import TopoLoss
from locality_prior.objectives.saturation import Saturating
from locality_prior.objectives.similar import ResponseSimilarity, WeightSimilarity
from locality_prior.objectives.smooth import Smoothness
from locality_prior.objectives.som import CBSOM
from locality_prior.objectives.spatial_embedding import Communicability

#: The built-in objectives, those of weights first, then of responses, then of the architecture and the update.
KINDS: dict[str, type[Objective]] = {
    kind.__name__: kind
    for kind in (
        Wiring,
        Saturating,
        BIMT,
        Communicability,
        TopoLoss,
        Smoothness,
        WeightSimilarity,
        ResponseSimilarity,
        SpatialCorrelation,
        AbsoluteCorrelation,
        Bootphon,
        TICA,
        Blur,
        Mask,
        CBSOM,
    )
}
