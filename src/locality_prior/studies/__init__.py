"""Many runs and their comparison: conditions × seeds → runs → findings."""

from locality_prior._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
