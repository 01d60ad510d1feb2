"""Every kind of objective, by the name under which it is saved."""

from __future__ import annotations

from locality_prior.objectives.base import Objective

#: The built-in objectives.
KINDS: dict[str, type[Objective]] = {}
