"""Class-average maps of networks of one seed."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from locality_prior import plots
from locality_prior.experiments.measure import Measured
from locality_prior.report.page import Picture


def class_maps(kept: dict[str, Measured], side: str) -> Picture:
    """A row of maps for each network, by what it is called: the first one's classes, on one colour scale."""
    one = next(iter(kept.values()))
    maps = {name: run.class_maps(side)[one.shown] for name, run in kept.items()}
    axes: Any = plots.class_maps(maps, one.sheet(side), classes=one.shown)
    drawn = axes[0, 0].figure
    plt.close(drawn)  # it is a page's, not pyplot's to show
    if drawn.get_layout_engine() is not None:
        drawn.get_layout_engine().set(rect=(0.01, 0, 0.99, 1))  # off the edge
    return Picture(
        f"maps_{side}",
        "maps",
        drawn,
        f"Class-average activations of the layer's {side} over {images(one)}, networks of seed {one.run.seed}, on one "
        f"colour scale{some(one)}.",
    )


def images(run: Measured) -> str:
    """The images of a run's maps, in words."""
    first = "the first " if run.run.alexnet is None else ""  # photographs are taken from all over the test set
    return f"{first}{len(run.labels):,} test images"


def some(run: Measured) -> str:
    """Which classes are shown, in words, where it is not all."""
    there, each = np.unique(run.labels, return_counts=True)
    some = f"; {len(run.shown)} of {len(there)} classes, {each.min()} images or more each"
    return "" if len(run.shown) == len(there) else some
