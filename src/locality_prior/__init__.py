"""Spatially embedded neural networks: give units places, make long wires expensive, look at the map."""

from locality_prior._lazy import attach

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = attach(__name__, __file__)
