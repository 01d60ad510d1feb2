"""Measures of a layer's activations and wires on its sheet, and statistics that compare networks.

Every function takes arrays (numpy, torch, or nested lists) and geometries, never models, so that a control network is
measured exactly as a local one. All arithmetic is float64 on the CPU. An undefined entry of an array is NaN; an
undefined single number is None. None in a list of numbers is read as NaN.

Nothing here imports torch: only a geometry or a tensor that a caller brings does.
"""

from locality_prior._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
