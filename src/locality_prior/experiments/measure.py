"""From what runs left in their directories to numbers: one run's analysis, and the comparison of many."""

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
from locality_prior.analysis import PairedTest
from locality_prior.experiments.config import (
    ACTIVATIONS,
    ANALYSIS,
    CONTROL,
    LOCAL,
    METRICS,
    PRUNING,
    SUMMARY,
    Run,
    Study,
    read_run,
    read_study,
    run_directory,
)
from locality_prior.geometry import Grid
from locality_prior.pruning import By

#: The two sheets of units: before the layer and after it.
SIDES = ("input", "output")
#: The most classes whose maps are shown: from all over them, where there are more.
SHOWN = 10
METRICS_KEPT = {"epoch", "accuracy", "test_loss", "mean_wire_length"}
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
    return _analyse(directory, read(directory))


def _analyse(directory: Path, kept: Measured) -> dict[str, Any]:
    numbers = _numbers(kept)
    _write(directory / ANALYSIS, numbers)
    return numbers


def _numbers(kept: Measured) -> dict[str, Any]:
    last = {key: float(values[-1]) for key, values in kept.metrics.items()}
    numbers: dict[str, Any] = {
        "seed": kept.run.seed,
        "accuracy": last["accuracy"],
        "top5_accuracy": last.get("top5_accuracy"),
        "loss": last["test_loss"],
        "mean_wire_length": last["mean_wire_length"],
        "images": len(kept.labels),
    }
    variance = {side: kept.variance(side) for side in SIDES}
    correlation = {side: analysis.response_correlation(kept.activations[side], kept.sheet(side)) for side in SIDES}
    moran = {
        side: [analysis.morans_i(m, kept.sheet(side)) for m in kept.class_maps(side)[kept.shown]] for side in SIDES
    }
    return numbers | {
        # images whose map has fewer than two active units have no variance: counted, and left out of the mean
        "spatial_variance": {side: mean_defined(variance[side]) for side in SIDES},
        "spatial_variance_undefined": {side: int(np.isnan(variance[side]).sum()) for side in SIDES},
        # of r_ij with 1/(1 + d_ij), over pairs of units
        "response_correlation": {side: correlation[side].score for side in SIDES},
        "silent_units": {side: correlation[side].silent for side in SIDES},
        # of the class-average maps that are shown: the mean over classes, and each class's p under permutation
        "morans_i": {side: mean_defined([m.i for m in moran[side]]) for side in SIDES},
        "morans_i_p": {side: [m.p for m in moran[side]] for side in SIDES},
        # the fewest wires, and their length, at half a point of accuracy: shares of all, by what is cut first
        "pruned_wires": {by: _fewest(curve)[0] for by, curve in kept.pruning.items()},
        "pruned_length": {by: _fewest(curve)[1] for by, curve in kept.pruning.items()},
    }


def _fewest(curve: dict[str, Floats]) -> tuple[float, float]:
    """Shares of the wires and of their length of the smallest cut within ``DROP`` points of accuracy."""
    k = int(np.flatnonzero(curve["accuracy"] >= curve["accuracy"][0] - DROP - ROUNDING)[-1])
    return float(curve["share"][k]), float(curve["wire_length"][k] / curve["wire_length"][0])


def analyse_study(directory: Path) -> dict[str, Any]:
    """Measure every run of the study in ``directory``, compare them, and keep the comparison as ``summary.json``."""
    study = read_study(directory)
    kept = read_all(directory, study)
    numbers = {key: _analyse(run_directory(directory, *key), one) for key, one in kept.items()}
    compared = {name: _compare(study, kept, numbers, name) for name in study.conditions if name != CONTROL}
    summary = {
        "experiment": study.experiment,
        "recipe": study.recipe.optimizer,
        "sheet": list(study.sheet),
        "layer": None if study.alexnet is None else study.alexnet.layer,
        "seeds": list(study.seeds),
        "conditions": {
            name: {"cost": cost, **_condition([numbers[name, seed] for seed in study.seeds])}
            for name, cost in study.conditions.items()
        },
        "tests": compared[LOCAL],
        "comparisons": compared,
    }
    _write(directory / SUMMARY, summary)
    return summary


def read_all(directory: Path, study: Study) -> dict[tuple[str, int], Measured]:
    """Every run of a study, by (condition, seed)."""
    kept = {key: read(run_directory(directory, *key)) for key in study.runs()}
    for key, run in study.runs().items():
        if kept[key].run != run:
            raise wrong("directory", f"{run_directory(directory, *key)} of other settings", f"the study's run, {run}")
    return kept


def _condition(per_seed: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, and the seeds."""

    def mean(key: str) -> Any:
        first = per_seed[0][key]
        if isinstance(first, dict):
            return {side: mean_defined([one[key][side] for one in per_seed]) for side in first}
        return mean_defined([one[key] for one in per_seed])

    keys = [
        "accuracy",
        "top5_accuracy",
        "loss",
        "spatial_variance",
        "mean_wire_length",
        "response_correlation",
        "morans_i",
    ]
    keys += ["pruned_wires", "pruned_length"]
    return {key: mean(key) for key in keys} | {"per_seed": per_seed}


def _compare(
    study: Study,
    kept: dict[tuple[str, int], Measured],
    numbers: dict[tuple[str, int], dict[str, Any]],
    condition: str,
) -> dict[str, Any]:
    """A condition against the control: spatial variance over images, and everything over seeds."""
    images = {
        seed: {
            side: analysis.paired_t_test(kept[condition, seed].variance(side), kept[CONTROL, seed].variance(side))
            for side in SIDES
        }
        for seed in study.seeds
    }

    def over_seeds(key: str, side: str | None = None) -> dict[str, Any]:
        pairs = [[numbers[name, seed][key] for seed in study.seeds] for name in (condition, CONTROL)]
        values = [[one[side] if side else one for one in ones] for ones in pairs]
        return _test(analysis.paired_t_test(*[np.array(v, dtype=np.float64) for v in values]))

    # the per-network test takes, for each pair of networks, the mean over the images that both define
    differences = {
        side: np.array([images[seed][side].mean_difference for seed in study.seeds], dtype=np.float64) for side in SIDES
    }
    per_seed: dict[str, Any] = {
        side: _test(analysis.paired_t_test(differences[side], np.zeros(len(study.seeds)))) for side in SIDES
    }
    for key in ("accuracy", "loss", "mean_wire_length"):
        per_seed[key] = over_seeds(key)
    for key in ("response_correlation", "morans_i"):
        per_seed[key] = {side: over_seeds(key, side) for side in SIDES}
    per_seed["per_image"] = [
        {"seed": seed, **{side: _test(images[seed][side]) for side in SIDES}} for seed in study.seeds
    ]
    return {"per_image": {side: _test(images[study.seeds[0]][side]) for side in SIDES}, "per_seed": per_seed}


def _test(test: PairedTest) -> dict[str, Any]:
    return {"t": test.t, "p": test.p, "n": test.n, "mean_difference": test.mean_difference}


def mean_defined(values: Any) -> float | None:
    """The mean of the values that are neither None nor NaN; None where none is."""
    defined = [v for v in values if v is not None and not math.isnan(v)]
    return float(np.mean(defined)) if defined else None


def _write(path: Path, numbers: dict[str, Any]) -> None:
    write_text(path, json.dumps(numbers, indent=2, allow_nan=False) + "\n")


def read_summary(directory: Path) -> dict[str, Any]:
    """The comparison that :func:`analyse_study` kept in ``directory``."""
    try:
        summary: dict[str, Any] = json.loads((directory / SUMMARY).read_text(encoding="utf-8"))
        if not (isinstance(summary["conditions"], dict) and isinstance(summary["comparisons"], dict)):
            raise ValueError("no conditions or comparisons")
    except FileNotFoundError:
        raise wrong("directory", f"{directory} without {SUMMARY}", "an analysed study") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise wrong("directory", f"{directory / SUMMARY} ({error})", "a readable summary") from None
    return summary
