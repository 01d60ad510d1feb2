"""Spatially embedded neural networks: give units places, make long wires expensive, look at the map."""

from __future__ import annotations

import importlib
from types import ModuleType

from locality_prior import cost as cost
from locality_prior import functional as functional
from locality_prior import geometry as geometry
from locality_prior.geometry import Distances as Distances
from locality_prior.geometry import Geometry as Geometry
from locality_prior.geometry import Graph as Graph
from locality_prior.geometry import Grid as Grid
from locality_prior.geometry import HexGrid as HexGrid
from locality_prior.geometry import Line as Line
from locality_prior.geometry import Points as Points
from locality_prior.geometry import Shuffled as Shuffled
from locality_prior.geometry import Sphere as Sphere
from locality_prior.layers import LocalityConv2d as LocalityConv2d
from locality_prior.layers import LocalityGRU as LocalityGRU
from locality_prior.layers import LocalityLinear as LocalityLinear
from locality_prior.layers import LocalityLSTM as LocalityLSTM
from locality_prior.layers import LocalityMultiheadAttention as LocalityMultiheadAttention
from locality_prior.layers import LocalityRNN as LocalityRNN
from locality_prior.layers import fold as fold
from locality_prior.layers import load as load
from locality_prior.layers import save as save
from locality_prior.localize import localize as localize
from locality_prior.localize import plan as plan
from locality_prior.objectives import mean_wire_length as mean_wire_length
from locality_prior.objectives import weight_l1 as weight_l1
from locality_prior.objectives import wiring_cost as wiring_cost
from locality_prior.prior import Prior as Prior
from locality_prior.pruning import sparsify as sparsify

__version__ = "0.1.0"

#: Made available on first use, since they need more than torch and numpy.
_LATER = ("analysis", "experiments", "plots", "report", "studies")


def __getattr__(name: str) -> ModuleType:
    if name in _LATER:
        return importlib.import_module(f"locality_prior.{name}")
    raise AttributeError(f"module 'locality_prior' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LATER])
