"""A reproduction's runs → their comparison, ``summary.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from locality_prior import analysis
from locality_prior._check import wrong
from locality_prior.analysis import PairedTest
from locality_prior.experiments.config import CONTROL
from locality_prior.experiments.measure import SIDES, Measured, analyse, mean_defined, read, write_numbers
from locality_prior.studies.reproduction import LOCAL, SUMMARY, Reproduction, read_reproduction, run_directory


def summarise(directory: Path) -> dict[str, Any]:
    """Measure every run of the study in ``directory``, compare them, and keep the comparison as ``summary.json``."""
    study = read_reproduction(directory)
    kept = read_all(directory, study)
    numbers = {key: analyse(run_directory(directory, *key), one) for key, one in kept.items()}
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
    write_numbers(directory / SUMMARY, summary)
    return summary


def read_all(directory: Path, study: Reproduction) -> dict[tuple[str, int], Measured]:
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
    study: Reproduction,
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


def read_summary(directory: Path) -> dict[str, Any]:
    """The comparison that :func:`summarise` kept in ``directory``."""
    try:
        summary: dict[str, Any] = json.loads((directory / SUMMARY).read_text(encoding="utf-8"))
        if not (isinstance(summary["conditions"], dict) and isinstance(summary["comparisons"], dict)):
            raise ValueError("no conditions or comparisons")
    except FileNotFoundError:
        raise wrong("directory", f"{directory} without {SUMMARY}", "an analysed study") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise wrong("directory", f"{directory / SUMMARY} ({error})", "a readable summary") from None
    return summary
