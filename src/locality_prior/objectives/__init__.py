"""What a placement is trained by: differentiable numbers from weights or responses and a geometry.

Each is a pure function of tensors and geometries, and a class that binds it to a placement. Calling the bound objective
gives what a training loop adds to its loss.
"""

from locality_prior._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
