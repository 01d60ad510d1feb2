"""Pictures of sheets, wires and measurements: numbers in, matplotlib Axes out.

Every function takes ``ax=None`` and returns the Axes it drew on. Without one it opens a pyplot figure of journal
size: ``ax.figure.savefig("map.pdf")`` saves it and ``plt.close(ax.figure)`` frees it. With one it draws there alone,
and the figure, best made with ``layout="constrained"``, stays the caller's. Text is sized relative to
``rcParams["font.size"]``: 8 to 10 points by default. Needs matplotlib.

A condition is a name such as ``"control"`` (always grey) or ``"local"`` (always blue); the others take the colours
of a colour-blind-safe cycle in the order given. Numbers are array-likes or tensors of any device.
"""

from __future__ import annotations

from locality_prior.plots.comparisons import differences_by_condition as differences_by_condition
from locality_prior.plots.comparisons import scatter as scatter
from locality_prior.plots.comparisons import seeds_by_condition as seeds_by_condition
from locality_prior.plots.measurements import banded as banded
from locality_prior.plots.measurements import correlation_by_distance as correlation_by_distance
from locality_prior.plots.measurements import paired_seeds as paired_seeds
from locality_prior.plots.measurements import pruning as pruning
from locality_prior.plots.measurements import training as training
from locality_prior.plots.measurements import variance_by_class as variance_by_class
from locality_prior.plots.places import Places as Places
from locality_prior.plots.sheets import class_maps as class_maps
from locality_prior.plots.sheets import sheet as sheet
from locality_prior.plots.sheets import transmitted_signal as transmitted_signal
from locality_prior.plots.wires import wiring as wiring
