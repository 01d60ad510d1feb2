"""From what a run left in its directory to numbers."""

from __future__ import annotations

import csv
import json
import math
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from locality_prior import analysis
from locality_prior._check import ROUNDING, wrong
from locality_prior._files import write_text
from locality_prior.experiments.config import (
    ACTIVATIONS,
    ANALYSIS,
    METRICS,
    MODEL,
    PRUNING,
    Run,
    read_run,
)
from locality_prior.experiments.models import Network, trained
from locality_prior.geometry import Grid
from locality_prior.pruning import By

#: The two sheets of units: before the layer and after it.
SIDES = ("input", "output")
#: The most classes whose maps are shown: from all over them, where there are more.
SHOWN = 10
METRICS_KEPT = {"epoch", "accuracy", "test_loss", "mean_wire_length"}
#: d′ above which a unit is of a class's patch, and the levels over which it is asked whether patches are nested.
PATCH, LEVELS = 1.0, (0.5, 1.0, 1.5, 2.0)
#: The most units of which a graph is made: to find its communities takes a second at a thousand units.
GRAPH = 1024
#: What is compared between networks, and of what: the two sides, the orders of cutting wires, or the whole.
MEASURES: dict[str, tuple[str, ...]] = {
    "accuracy": (),
    "loss": (),
    "spatial_variance": SIDES,
    "response_correlation": SIDES,
    "morans_i": SIDES,
    "smoothness": SIDES,
    "patches": SIDES,
    "patch_size": SIDES,
    "nestedness": SIDES,
    "effective_dimension": SIDES,
    "mean_wire_length": (),
    "total_wire_length": (),
    "modularity": (),
    "small_worldness": (),
    "pruned_wires": get_args(By),
    "pruned_length": get_args(By),
}
#: The same by one name each, as ``morans_i.output``.
NAMES = tuple(".".join(filter(None, (name, part))) for name, parts in MEASURES.items() for part in parts or ("",))
#: What of a cut is kept, and the points of accuracy that the cut reported in the tables may cost.
CUT = ("share", "wire_length", "accuracy")
DROP = 0.5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A finished run as arrays: what figures and comparisons are made from."""

    run: Run
    metrics: dict[str, Floats]  # column → (epochs,)
    activations: dict[str, Floats]  # side → (images, units)
    labels: npt.NDArray[np.int64]
    pruning: dict[str, dict[str, Floats]]  # what is cut first → column → (cuts,), from all wires to few

    def sheet(self, side: str) -> Grid:
        """Places of the units."""
        return _sheet(self.run, side)

    @property
    def shown(self) -> list[int]:
        """The classes to show: all, or ten from all over them."""
        there = np.unique(self.labels)
        return [int(there[round(k)]) for k in np.linspace(0, len(there) - 1, min(len(there), SHOWN))]

    def variance(self, side: str) -> Floats:
        """Spatial variance of each image's map, (images,), NaN where undefined."""
        return np.asarray(analysis.spatial_variance(self.activations[side], self.sheet(side)))

    def tuning(self, side: str) -> Floats:
        """d′ of each shown class, (classes, units); 0 for a unit that never responds: it is selective for nothing."""
        maps = analysis.selectivity(self.activations[side], self.labels).d_prime[self.shown]
        silent = np.ptp(self.activations[side], axis=0) == 0
        return np.where(silent, 0.0, maps)

    def class_maps(self, side: str) -> Floats:
        """Mean activation for each class, (classes, units)."""
        return analysis.class_means(self.activations[side], self.labels)


def _sheet(run: Run, side: str) -> Grid:
    """Places of what is kept of a side: of fc6's input, the mean over channels at each of the 6×6 places."""
    first = run.alexnet is not None and run.alexnet.layer == "fc6" and side == "input"
    return Grid(6, 6) if first else Grid(*run.sheet)


def read(directory: Path) -> Measured:
    """The finished run in ``directory``.

    Raises:
        ValueError: there is none, or one that is not finished.
    """
    run = read_run(directory)
    try:
        with open(directory / METRICS, newline="") as file:
            rows = list(csv.DictReader(file))
        with open(directory / ACTIVATIONS, "rb") as raw, np.load(raw, allow_pickle=False) as kept:
            activations = {side: kept[side].astype(np.float64) for side in SIDES}
            labels = kept["labels"]
        metrics = {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}
        pruning = _read_pruning(directory / PRUNING)
        shapes = {side: a.shape for side, a in activations.items()}
        expected = {side: (len(labels), len(_sheet(run, side))) for side in SIDES}
        if shapes != expected or not metrics.keys() >= METRICS_KEPT:
            raise ValueError(f"activations of {shapes}, metrics {', '.join(metrics)}")
    except FileNotFoundError as error:
        raise wrong("directory", f"{directory} without {Path(error.filename).name}", "a finished run") from None
    except (OSError, KeyError, TypeError, ValueError, IndexError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise wrong("directory", f"{directory} ({error})", "a finished run; training it again mends it") from None
    return Measured(run, metrics, activations, labels, pruning)


def _read_pruning(path: Path) -> dict[str, dict[str, Floats]]:
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    curves = {
        by: {key: np.array([float(row[key]) for row in rows if row["by"] == by]) for key in CUT} for by in get_args(By)
    }
    if not all(len(curve["share"]) and curve["share"][0] == 1 for curve in curves.values()):
        raise ValueError(f"{path.name} without all wires")
    return curves


def analyse_run(directory: Path) -> dict[str, Any]:
    """Measure the finished run in ``directory``, and keep the numbers there as ``analysis.json``."""
    return analyse(directory, read(directory))


def analyse(directory: Path, kept: Measured) -> dict[str, Any]:
    """:func:`analyse_run` of a run already read."""
    numbers = _numbers(kept) | _wiring(trained(kept.run, directory / MODEL))
    write_numbers(directory / ANALYSIS, numbers)
    return numbers


def _numbers(kept: Measured) -> dict[str, Any]:
    last = {key: float(values[-1]) for key, values in kept.metrics.items()}
    variance = {side: kept.variance(side) for side in SIDES}
    correlation = {side: analysis.response_correlation(kept.activations[side], kept.sheet(side)) for side in SIDES}
    moran = {
        side: [analysis.morans_i(m, kept.sheet(side)) for m in kept.class_maps(side)[kept.shown]] for side in SIDES
    }
    tuning = {side: kept.tuning(side) for side in SIDES}
    patches = {side: [_patch_sizes(m, kept.sheet(side)) for m in tuning[side]] for side in SIDES}
    nested = {side: analysis.nested_patches(tuning[side], kept.sheet(side), LEVELS) for side in SIDES}
    return {
        "seed": kept.run.seed,
        "accuracy": last["accuracy"],
        "top5_accuracy": last.get("top5_accuracy"),
        "loss": last["test_loss"],
        "images": len(kept.labels),
        # images whose map has fewer than two active units have no variance: counted, and left out of the mean
        "spatial_variance": {side: mean_defined(variance[side]) for side in SIDES},
        "spatial_variance_undefined": {side: int(np.isnan(variance[side]).sum()) for side in SIDES},
        # of r_ij with 1/(1 + d_ij), over pairs of units
        "response_correlation": {side: correlation[side].score for side in SIDES},
        "silent_units": {side: correlation[side].silent for side in SIDES},
        # of the class-average maps that are shown: the mean over classes, and each class's p under permutation
        "morans_i": {side: mean_defined([m.i for m in moran[side]]) for side in SIDES},
        "morans_i_p": {side: [m.p for m in moran[side]] for side in SIDES},
        # of the d′ maps of the classes that are shown, the mean over classes
        "smoothness": {
            side: mean_defined([analysis.smoothness(m, kept.sheet(side)) for m in tuning[side]]) for side in SIDES
        },
        "patches": {side: mean_defined([len(sizes) for sizes in patches[side]]) for side in SIDES},
        "patch_size": {side: mean_defined([np.mean(sizes) for sizes in patches[side] if len(sizes)]) for side in SIDES},
        "nestedness": {side: nested[side].score for side in SIDES},
        "effective_dimension": {side: analysis.effective_dimension(kept.activations[side]) for side in SIDES},
        # the fewest wires, and their length, at half a point of accuracy: shares of all, by what is cut first
        # (a null's wires have other lengths than the sheet's, so that only cutting by weight says the same of it)
        "pruned_wires": {
            by: None if kept.run.shuffled and by != "weight" else _fewest(curve)[0]
            for by, curve in kept.pruning.items()
        },
        "pruned_length": {by: None if kept.run.shuffled else _fewest(curve)[1] for by, curve in kept.pruning.items()},
    }


def _patch_sizes(values: Floats, sheet: Grid) -> npt.NDArray[np.int64]:
    patch = analysis.patches(values, sheet, PATCH)
    return np.bincount(patch[patch >= 0])


def _wiring(net: Network) -> dict[str, Any]:
    """Of the effective weights, on the sheets where the units are, whatever P was made from."""
    source, target = net.places
    weights = effective_weights(net)
    lengths = analysis.wire_lengths(weights, target, source)
    square = weights.shape[0] == weights.shape[1] <= GRAPH
    return {
        "mean_wire_length": lengths.mean,
        "total_wire_length": lengths.total,
        # of the graph of the strongest tenth of the pairs, against random graphs of as many edges
        "modularity": analysis.modularity(weights).excess if square else None,
        "small_worldness": analysis.small_worldness(weights).sigma if square else None,
    }


def effective_weights(net: Network) -> Floats:
    """V of a network's layer, (out, in)."""
    v: Floats = net.locality.fold().weight.detach().double().numpy()
    return v


def _fewest(curve: dict[str, Floats]) -> tuple[float, float]:
    """Shares of the wires and of their length of the smallest cut within ``DROP`` points of accuracy."""
    k = int(np.flatnonzero(curve["accuracy"] >= curve["accuracy"][0] - DROP - ROUNDING)[-1])
    return float(curve["share"][k]), float(curve["wire_length"][k] / curve["wire_length"][0])


def mean_defined(values: Any) -> float | None:
    """The mean of the values that are neither None nor NaN; None where none is."""
    defined = [v for v in values if v is not None and not math.isnan(v)]
    return float(np.mean(defined)) if defined else None


def read_measures(directory: Path) -> dict[str, float | None]:
    """The measures of the analysed run in ``directory``, by :data:`NAMES`.

    Raises:
        OSError: it is not analysed.
        ValueError: by other measures than today's, or not readable.
    """
    path = directory / ANALYSIS
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        found = {name: kept[name.partition(".")[0]] for name in NAMES}
        found = {name: value[part] if (part := name.partition(".")[2]) else value for name, value in found.items()}
        if not all(v is None or (isinstance(v, (int, float)) and math.isfinite(v)) for v in found.values()):
            raise ValueError("no numbers")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise wrong("directory", f"{path} ({error})", "an analysis by today's measures") from None
    return found


def write_numbers(path: Path, numbers: dict[str, Any]) -> None:
    write_text(path, json.dumps(numbers, indent=2, allow_nan=False) + "\n")
