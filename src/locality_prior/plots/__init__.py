"""Pictures of sheets, wires and measurements: numbers in, matplotlib Axes out.

Every function takes ``ax=None`` and returns the Axes it drew on. Without one it opens a pyplot figure of journal size:
``ax.figure.savefig("map.pdf")`` saves it and ``plt.close(ax.figure)`` frees it. With one it draws only there, and the
figure, best made with ``layout="constrained"``, stays the caller's. The style is that of ``matplotlib.rcParams``: sizes
of text are relative to ``font.size`` (8 to 10 points by default), the widths of lines to ``lines.linewidth``, and the
sizes of marks to ``lines.markersize``.

A condition is a name such as ``"control"`` (always grey) or ``"local"`` (always blue); the others take the colours of a
colour-blind-safe cycle in the order given. Numbers are arrays, nested lists, or tensors on any device. Wherever a
geometry is asked for, its :class:`Places` will do, which are plain numbers: nothing here imports torch.

Needs matplotlib: ``pip install "locality-prior[plots]"``.
"""

from locality_prior._check import needs
from locality_prior._lazy import attach

needs("matplotlib", "plots", "plotting")
__getattr__, __dir__, __all__ = attach(__name__, __file__)
