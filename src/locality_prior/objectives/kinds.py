"""Every kind of objective, by the name under which it is saved."""

from __future__ import annotations

from locality_prior.objectives.base import Objective
from locality_prior.objectives.blurring import Blur
from locality_prior.objectives.mask import Mask
from locality_prior.objectives.som import CBSOM

#: The built-in objectives.
KINDS: dict[str, type[Objective]] = {kind.__name__: kind for kind in (Blur, CBSOM, Mask)}
