"""The numbers of a trained network, which are measured once, at the end of its run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from locality_prior import analysis
from locality_prior._check import ROUNDING
from locality_prior._files import replacing
from locality_prior.analysis.likeness import axes_of
from locality_prior.geometry import Geometry, Permuted
from locality_prior.pruning import By
from locality_prior.runs import epochs, files, robustness, wires
from locality_prior.runs.network import Layer, sheet_of
from locality_prior.runs.task import Score, Task

if TYPE_CHECKING:
    from locality_prior.plots import Places

Floats = npt.NDArray[np.float64]

#: A unit belongs to a class's patch where its d′ is above the first; the others are levels of nested patches.
PATCH, LEVELS = 1.0, (0.5, 1.0, 1.5, 2.0)
#: The most units of which a graph is made, and with how many random graphs it is compared: few where it is large, as
#: searching one of 512 units for its communities takes a fifth of a second.
GRAPH, SMALL, NULLS = 512, 256, (20, 5)
#: What is measured of each network, of each sheet and of each layer that can be made local.
OF_NETWORKS = robustness.OF_NETWORKS
OF_SHEETS = (
    "spatial_variance",
    "response_correlation",
    "morans_i",
    "morans_i_normed",
    "smoothness",
    "patches",
    "patch_size",
    "nestedness",
    "effective_dimension",
    *robustness.OF_SHEETS,
)
OF_LAYERS = (
    "weight_norm",
    "weight_similarity",
    "mean_wire_length",
    "total_wire_length",
    "modularity",
    "small_worldness",
)


def measure(
    directory: Path,
    *,
    condition: str,
    seed: int,
    elsewhere: bool,
    task: Task,
    scores: Mapping[str, float],
    sheets: Mapping[str, Geometry],
    activations: Mapping[str, npt.NDArray[np.float32]],
    labels: Any,
    layers: Mapping[str, tuple[Layer, Floats, Floats]],
    cuts: list[dict[str, Any]],
    robust: Mapping[str, float | None],
    maps: dict[str, Any] | None,
    ends: Mapping[str, tuple[str | None, str | None]],
    arranged: dict[str, Any] | None = None,
    began: Mapping[str, Geometry] | None = None,
) -> dict[str, Any]:
    """Measure a network, and write the numbers to ``analysis.json`` and the arrays to ``measures.npz``.

    Args:
        directory: the run's directory.
        condition: the name of what made the network local.
        seed: of the network.
        elsewhere: whether its wires have other lengths than the sheet's distances.
        task: what it learned.
        scores: the task's scores and the loss, over its test items.
        sheets: the geometry of each sheet's units.
        activations: the responses of each sheet's units, or means over those that share a place, in the order of the
            places, (items, units).
        labels: the items' classes, (items,), or None.
        layers: each layer that a condition makes local, with its weights Σ|V|, (out, in), and each unit's incoming V,
            (out, …).
        cuts: the scores with wires cut, as rows of pruning.csv.
        robust: the scores under perturbations and lesions, see :func:`~locality_prior.runs.robustness.robustness`.
        maps: the class means after some epochs, see :class:`~locality_prior.runs.epochs.EpochMaps`; None: not known.
        ends: the sheets that each layer's wires leave and enter.
        arranged: what the units' new places were worth, if they were given any.
        began: the geometries on which the units of ``sheets`` began, if their positions learned.
    """
    from locality_prior.plots.places import Places, arrays_of, where_moved

    measures: dict[str, float | None] = {**scores, **robust}
    arrays: dict[str, npt.NDArray[Any]] = {}
    described: dict[str, Any] = {}
    shown = None
    if labels is not None:
        shown = arrays["classes"] = epochs.shown_classes(labels)
    places = {name: found for name, units in sheets.items() if (found := _places(sheet_of(units))) is not None}
    on = {name: one.config() for name, one in places.items()}
    for name, geometry in (began or {}).items():
        if (first := _places(geometry)) is not None:
            on[name] = first.config()
            places[name] = Places(where_moved(sheets[name].positions.numpy(), first.kind), "points")
    arrays |= arrays_of(places)
    for name, units in sheets.items():
        geometry = sheet_of(units)
        if isinstance(units, Permuted):
            arrays[f"sheet/{name}/order"] = units.order.numpy().astype(np.int32)
        numbers, made, described[name] = _sheet(geometry, activations[name].astype(np.float64), labels, shown)
        measures |= {f"{base}.{name}": numbers[base] for base in OF_SHEETS if base in numbers}
        described[name]["places"] = on.get(name)
        arrays |= {f"sheet/{name}/{key}": values for key, values in made.items()}
    of_layers = {}
    for name, (layer, weights, incoming) in layers.items():
        numbers, made = _layer(layer, weights, incoming)
        measures |= {f"{base}.{name}": numbers[base] for base in OF_LAYERS}
        arrays |= {f"wires/{name}/{key}": values for key, values in made.items()}
        source, target = ends[name]
        of_layers[name] = {
            "target": repr(layer.target),
            "source": repr(layer.source),
            "pairs": int(weights.size),
            "from": source,
            "to": target,
            "units": [len(sheet_of(layer.source)), len(sheet_of(layer.target))],
        }
    if maps is not None:
        arrays |= epochs.arrays(maps)
    measures |= _cuts(cuts, task, elsewhere)
    told: dict[str, Any] = {
        "condition": condition,
        "seed": seed,
        "items": len(next(iter(activations.values()))),
        "task": {
            "name": task.name,
            "classes": None if task.classes is None else list(task.classes),
            "scores": [{"name": s.name, "unit": s.unit, "better": s.better} for s in scores_of(task)],
        },
        "sheets": described,
        "layers": of_layers,
        "measures": {key: _defined(value) for key, value in measures.items()},
    }
    if arranged is not None:
        told["arranged"] = arranged
    with replacing(directory / files.MEASURES) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **{k: _small(v) for k, v in arrays.items()})  # type: ignore[arg-type]
    # last of all, since a run is finished where this file is there
    return files.write_analysis(directory, told)


def scores_of(task: Task) -> list[Score]:
    """The task's scores, and the loss."""
    return [*task.scores, Score("loss", "", "down")]


def _sheet(
    geometry: Geometry, responses: Floats, labels: Any, shown: npt.NDArray[np.int64] | None
) -> tuple[dict[str, float | None], dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """A sheet's numbers, its arrays, and what it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", analysis.SignedMaps)  # these are counted below
        variance = np.asarray(analysis.spatial_variance(responses, geometry))
    curve = analysis.response_correlation(responses, geometry)
    numbers: dict[str, float | None] = {
        "spatial_variance": mean_defined(variance),
        "response_correlation": curve.score,
        "effective_dimension": analysis.effective_dimension(responses),
    }
    arrays: dict[str, npt.NDArray[Any]] = {
        "variance": variance,
        "curve": np.stack([curve.distance, curve.correlation, curve.pairs.astype(np.float64)]),
        "factors": analysis.correlation_factors(responses).astype(np.float16),
    }
    if shown is not None:
        means = analysis.class_means(responses, labels)[shown]
        normed = analysis.class_means(analysis.normed(responses), labels)[shown]
        tuning = analysis.selectivity(responses, labels).d_prime[shown]
        # a unit that always responds alike is selective for nothing
        tuning = np.where(np.ptp(responses, axis=0) == 0, 0.0, tuning)
        sizes = [np.bincount(patch[patch >= 0]) for patch in analysis.patches(tuning, geometry, PATCH)]
        numbers |= {
            "morans_i": mean_defined(analysis.morans_i(means, geometry, permutations=1).i),
            "morans_i_normed": mean_defined(analysis.morans_i(normed, geometry, permutations=1).i),
            "smoothness": mean_defined(analysis.smoothness(tuning, geometry).score),
            "patches": mean_defined([len(s) for s in sizes]),
            "patch_size": mean_defined([float(np.mean(s)) for s in sizes if len(s)]),
            "nestedness": analysis.nested_patches(tuning, geometry, LEVELS).score,
        }
        arrays |= {"class_means": means, "selectivity": tuning}
    axes = axes_of(geometry)
    described = {
        "units": len(geometry),
        "geometry": repr(geometry),
        "axes": None if axes is None else [list(axis) for axis in axes],
        "silent": int(curve.silent),
        "undefined": int(np.isnan(variance).sum()),
    }
    return numbers, arrays, described


def _places(geometry: Geometry) -> Places | None:
    """Where the units are drawn; None if they have no places to be drawn at, such as those of a graph."""
    from locality_prior.plots import Places

    try:
        return Places.of(geometry)
    except (ValueError, TypeError):
        return None


def _layer(
    layer: Layer, weights: Floats, incoming: Floats
) -> tuple[dict[str, float | None], dict[str, npt.NDArray[Any]]]:
    """A layer's numbers and arrays. Wires are as long as the units are apart on the sheets, in a null model too."""
    lengths = analysis.wire_lengths(weights, layer.target, layer.source)
    square = weights.shape[0] == weights.shape[1] <= GRAPH
    nulls = NULLS[len(weights) > SMALL]
    numbers = {
        "weight_norm": float(np.linalg.norm(incoming, axis=1).mean()),
        "weight_similarity": analysis.weight_similarity(incoming, layer.target),
        "mean_wire_length": lengths.mean,
        "total_wire_length": lengths.total,
        # of the graph of the strongest tenth of the pairs, compared with random graphs of as many edges
        "modularity": analysis.modularity(weights, nulls=nulls).excess if square else None,
        "small_worldness": analysis.small_worldness(weights, nulls=nulls).sigma if square else None,
    }
    arrays = {"length": lengths.distance, "strength": lengths.share, "count": lengths.pairs / lengths.pairs.sum()}
    return numbers, arrays | wires.strongest(layer, weights)


def _cuts(cuts: list[dict[str, Any]], task: Task, elsewhere: bool) -> dict[str, float | None]:
    """The fewest wires with which the main score holds on the validation items, and their length, both as shares.

    What that cut does to the score is measured on the test items, which it was not chosen by.

    Where wires have other lengths than the sheet's, as in a shuffled network, their length is undefined.
    """
    found: dict[str, float | None] = {}
    for by in get_args(By) if cuts else ():
        wires, length, change = _fewest([row for row in cuts if row["by"] == by], task)
        found[f"pruned_wires.{by}"] = wires
        found[f"pruned_score.{by}"] = change
        found[f"pruned_length.{by}"] = None if elsewhere else length
    return found


def _fewest(curve: list[dict[str, Any]], task: Task) -> tuple[float | None, float | None, float | None]:
    """The share of the wires and of their length in the last row of a curve that is within the score's tolerance.

    The third number is how far the test score is from that with all wires.
    """
    score = scores_of(task)[0]
    sign = 1.0 if score.better == "up" else -1.0
    scores = np.array([sign * row["validation"] for row in curve])
    if not len(scores) or not math.isfinite(scores[0]):
        return None, None, None
    tolerance = score.tolerance if task.scores else abs(scores[0]) / 10
    k = int(np.flatnonzero(scores >= scores[0] - tolerance - ROUNDING)[-1])
    whole = curve[0]["wire_length"]
    length = float(curve[k]["wire_length"] / whole) if whole else None
    return float(curve[k]["share"]), length, float(curve[k]["test"] - curve[0]["test"])


def mean_defined(values: Any) -> float | None:
    """The mean of the values that are neither None nor NaN; None where there are none."""
    defined = [v for v in values if v is not None and not math.isnan(v)]
    return float(np.mean(defined)) if defined else None


def _defined(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _small(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.astype(np.float32) if values.dtype == np.float64 else values
