"""One interactive element that shows sheets, tuning, wires and the growth of maps: the same in a page and a notebook.

A :class:`Scene` holds what is shown, as numbers. :func:`pack` turns it into a description and bytes, which the module
``explorer.js`` draws in a browser. Nothing here imports torch.

Needs matplotlib's extra: ``pip install "locality-prior[plots]"``.
"""

from locality_prior._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
