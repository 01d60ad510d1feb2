"""Better places for a network's units: which unit sits at which place of a sheet.

An order is a tensor (units,) of int64: unit k sits at place ``order[k]``. ``sheet.permuted(order)`` is the same sheet
with its units at these places. What the network computes does not change.
"""

from locality_prior._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
