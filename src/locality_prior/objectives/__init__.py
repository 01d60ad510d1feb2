"""What a placement is trained with: differentiable numbers from weights or responses and a geometry.

Each is a pure function of tensors and geometries, and a class that binds it to a placement. Calling the bound objective
gives what a training loop adds to its loss. One file holds one family, and none is called like a function in it, which
it would hide:

- wires and their lengths: ``prices`` (wiring), ``saturation``, ``modular_training`` (BIMT), ``spatial_embedding``
  (communicability), and ``lengths``, the sums over the wires of locality layers;
- sheets of weights: ``pyramid`` (TopoLoss), ``smooth`` (All-TNN), ``similar`` (of weights or of responses);
- responses: ``correlation`` (TDANN's two, bootphon's), ``energy`` (TICA);
- the model or its weights: ``blurring``, ``mask``, ``som`` (CB-SOM);
- positions that learn: ``separation``.

``base`` and ``schedules`` are what they share; ``kinds`` lists them, and ``words`` reads them from flags and files.
"""

from locality_prior._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
