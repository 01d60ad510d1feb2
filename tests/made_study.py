"""Directories of finished studies made of random numbers: what the report reads, without training or torch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

SCORES = [{"name": "accuracy", "unit": "%", "better": "up"}]
BASES = {
    "accuracy": ("accuracy", "%", "up", False),
    "loss": ("loss", "", "down", False),
    "spatial_variance": ("spatial variance", "spacings²", None, False),
    "response_correlation": ("correlation with 1/(1 + d)", "", None, False),
    "morans_i": ("Moran's I of class maps", "", None, False),
    "mean_wire_length": ("mean wire length", "spacings", None, True),
    "pruned_wires": ("wires needed", "share", "down", False),
}
CUTS = ("weight", "length", "cost")


@dataclass
class Group:
    """A group of networks to make up: ``conditions`` maps a name to (cost, the condition that it is the null of)."""

    name: str = "mlp on shapes"
    task: str = "shapes"
    model: str = "mlp"
    conditions: dict[str, tuple[str, str | None]] = field(
        default_factory=lambda: {
            "control": ("flat", None),
            "linear": ("linear", None),
            "linear shuffled": ("linear", "linear"),
        }
    )
    sheets: dict[str, tuple[int, int] | None] = field(default_factory=lambda: {"input": (6, 6), "output": (8, 8)})
    classes: list[str] | None = field(default_factory=lambda: [f"class {k}" for k in range(6)])
    labels: dict[str, str] = field(default_factory=dict)


def write_study(
    directory: Path,
    groups: Sequence[Group] = (Group(),),
    seeds: Sequence[int] = (1, 2, 3, 4, 5),
    *,
    failed: Sequence[tuple[str, int]] = (),
    recorded: Sequence[tuple[str, int]] = (),
    undefined: Sequence[str] = (),
    title: str = "A made-up study",
    about: Sequence[str] = ("Numbers drawn at random, with a map in every local network.",),
    says: str = "Short wires make maps.",
) -> dict[str, Any]:
    """Write ``study.json`` and its runs into ``directory``; what ``study.json`` holds.

    Args:
        failed: (condition, seed) of cells with an error in place of measures.
        recorded: (condition, seed) of networks that came without metrics.csv and pruning.csv.
        undefined: measures that are null in every network.
    """
    rng = np.random.default_rng(0)
    study: dict[str, Any] = {
        "title": title,
        "about": list(about),
        "command": "locality-prior study study.yaml --out DIR",
        "groups": [],
        "conditions": {},
        "measures": {},
        "published": [],
        "cells": [],
        "comparisons": [],
        "hypotheses": [],
        "answers": [],
        "likeness": [],
    }
    for g, group in enumerate(groups):
        sheets = {name: _sheet(shape) for name, shape in group.sheets.items()}
        layers = [f"{a} to {b}" for a, b in pairwise(group.sheets)] or ["layer"]
        control = next(iter(group.conditions))
        study["groups"].append(
            {
                "name": group.name,
                "task": group.task,
                "model": group.model,
                "conditions": list(group.conditions),
                "control": control,
                "classes": group.classes,
                "scores": SCORES,
                "recipe": {"optimizer": "sgd", "lr": 0.01, "epochs": 4},
                "sheets": sheets,
                "layers": {name: {"geometry": "Grid", "source": "Grid", "wires": 100} for name in layers},
            }
        )
        names = _measures(study, list(sheets), layers)
        for k, (condition, (cost, of)) in enumerate(group.conditions.items()):
            null = next((c for c, (_, other) in group.conditions.items() if other == condition), None)
            study["conditions"][condition] = {
                "group": group.name,
                "control": None if condition == control else control,
                "null": null,
                "of": of,
                "cost": cost,
                "shuffled": of is not None,
                "label": group.labels.get(condition, condition),
                "settings": {"cost": cost},
            }
            local = condition != control and of is None
            pairs = len(seeds) * (len(seeds) - 1) // 2
            for name in sheets if pairs else ():
                maps = (0.2 + 0.3 * local, 0.2) if group.classes else (None, None)
                row = {"condition": condition, "sheet": name, "seeds": len(seeds), "pairs": pairs}
                row |= {"representation": 0.8, "map": maps[0], "chance": maps[1]}
                study["likeness"].append(row)
            for seed in seeds:
                run = f"runs/{g}-{k}-seed{seed}"
                cell: dict[str, Any] = {"condition": condition, "seed": seed, "run": run, "config": {"cost": cost}}
                cell["measures"] = None
                if (condition, seed) in failed:
                    cell["error"] = "The loss became NaN in epoch 2; try a smaller learning rate."
                else:
                    measures = {n: _value(n, local, rng) for n in names}
                    cell["measures"] = {n: None if n in undefined else v for n, v in measures.items()}
                    _write_run(directory / run, group, layers, local, rng, recorded=(condition, seed) in recorded)
                study["cells"].append(cell)
        _compare(study, group, names)
    _claim(study, groups[0], says)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "study.json").write_text(json.dumps(study), encoding="utf-8")
    return study


def _sheet(shape: tuple[int, int] | None) -> dict[str, Any]:
    if shape is None:
        return {"units": 30, "geometry": "Distances(30)", "places": None}
    return {
        "units": shape[0] * shape[1],
        "geometry": f"Grid{shape}",
        "places": {"kind": "cells", "shape": list(shape)},
    }


def _measures(study: dict[str, Any], sheets: list[str], layers: list[str]) -> list[str]:
    parts = {"mean_wire_length": layers, "pruned_wires": list(CUTS), "accuracy": [""], "loss": [""]}
    names = []
    for base, (label, unit, better, forced) in BASES.items():
        for part in parts.get(base, sheets):
            names.append(f"{base}.{part}" if part else base)
            study["measures"][names[-1]] = {
                "base": base,
                "part": part or None,
                "label": label,
                "unit": unit,
                "better": better,
                "forced": forced,
            }
    return names


def _value(name: str, local: bool, rng: np.random.Generator) -> float:
    base = name.partition(".")[0]
    mean, effect, spread = {
        "accuracy": (97.9, 0.1, 0.15),
        "loss": (0.11, 0, 0.01),
        "spatial_variance": (8.4, -0.4, 0.2),
        "response_correlation": (0.0, 0.05, 0.02),
        "morans_i": (0.0, 0.4, 0.03),
        "mean_wire_length": (3.6, -1.5, 0.05),
        "pruned_wires": (0.3, -0.1, 0.05),
    }[base]
    return mean + effect * local + float(rng.normal(0, spread))


def _write_run(
    path: Path, group: Group, layers: list[str], local: bool, rng: np.random.Generator, *, recorded: bool
) -> None:
    path.mkdir(parents=True)
    k = len(group.classes or [])
    arrays: dict[str, Any] = {"classes": np.arange(k)} if k else {}
    bins = np.arange(8.0)
    for name, shape in group.sheets.items():
        if shape is not None:
            y, x = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
            arrays[f"sheet/{name}/xy"] = np.stack([x, y], axis=1).astype(np.float32)
            if k:
                arrays[f"sheet/{name}/class_means"] = _maps(k, shape, local, rng)
                arrays[f"sheet/{name}/selectivity"] = _maps(k, shape, local, rng) - 1
        arrays[f"sheet/{name}/variance"] = rng.normal(8, 1, 50).astype(np.float32)
        curve = np.stack([bins + 1, local * np.exp(-bins / 2) + rng.normal(0, 0.02, len(bins)), 50 - bins])
        arrays[f"sheet/{name}/curve"] = curve.astype(np.float32)
    for name in layers:
        share = np.full(len(bins), 1 / len(bins))
        strength = np.exp(-bins / 2) if local else share
        values = {"length": bins + 0.5, "strength": strength / strength.sum(), "count": share}
        arrays |= {f"wires/{name}/{key}": value.astype(np.float32) for key, value in values.items()}
    np.savez_compressed(path / "measures.npz", **arrays)
    if recorded:
        return
    head = "epoch,train_loss,validation_loss,validation_accuracy,mean_wire_length,seconds,skipped"
    rows = [f"{e},{1 / e},{1.1 / e},{98 - 5 / e + rng.normal(0, 0.2)},{4 - local * e / 4},1.5,0" for e in range(1, 5)]
    (path / "metrics.csv").write_text("\n".join([head, *rows]) + "\n")
    rows = ["by,wires,share,wire_length,validation,test"]
    for by in CUTS:
        for share in (1.0, 0.3, 0.1, 0.03):
            rows.append(f"{by},{int(2401 * share)},{share},{5000 * share},{98 - 0.5 / share},{97.9 - 0.5 / share}")
    (path / "pruning.csv").write_text("\n".join(rows) + "\n")


def _maps(k: int, shape: tuple[int, int], local: bool, rng: np.random.Generator) -> Any:
    """(k, units): a bump at a place of its own for each class; in a network that is not local the units are mixed."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    centre = rng.uniform(0, 1, (k, 2)) * shape
    maps = np.stack([np.exp(-((y - a) ** 2 + (x - b) ** 2) / 6) for a, b in centre]).reshape(k, -1)
    maps += 0.1 * rng.random(maps.shape)
    return (maps if local else rng.permuted(maps, axis=1)).astype(np.float32)


def _compare(study: dict[str, Any], group: Group, names: list[str]) -> None:
    values: dict[str, dict[int, Any]] = {}
    for cell in study["cells"]:
        if cell["condition"] in group.conditions and cell["measures"] is not None:
            values.setdefault(cell["condition"], {})[cell["seed"]] = cell["measures"]
    for condition in group.conditions:
        told = study["conditions"][condition]
        for other in (told["control"], told["null"]):
            if other is None:
                continue
            seeds = sorted(values.get(condition, {}).keys() & values.get(other, {}).keys())
            for name in names:
                a, b = ([values[c][s][name] for s in seeds] for c in (condition, other))
                both = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
                study["comparisons"].append(_comparison(condition, other, name, both, seeds))
        if told["control"] is not None:
            n = len(values.get(condition, {}))
            text = f"{condition}: Moran's I rose by 0.4 over {n} networks." if n > 1 else "One seed cannot say."
            study["answers"].append({"condition": condition, "control": told["control"], "text": text, "n": n})


def _comparison(
    condition: str, control: str, name: str, both: list[tuple[float, float]], seeds: list[int]
) -> dict[str, Any]:
    n = len(both)
    differences = [a - b for a, b in both]
    mean = sum(differences) / n if n else None
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1)) if n > 1 and mean is not None else None
    half = None if spread is None else 2.8 * spread / math.sqrt(n)
    ci = None if half is None or mean is None else [mean - half, mean + half]
    evidence = max(0.0, (abs(mean) - half) / half) if half and mean is not None else 0.0
    effect = mean / spread if spread and mean is not None else None
    p = None if effect is None else math.exp(-abs(effect) * math.sqrt(n))
    items = [{"seed": s, "mean_difference": d, "t": 9 * d, "p": 0.001, "n": 50} for s, d in zip(seeds, differences)]  # noqa: B905
    return {
        "condition": condition,
        "control": control,
        "measure": name,
        "n": n,
        "means": [sum(c) / n for c in zip(*both, strict=True)] if n else [None, None],
        "mean_difference": mean,
        "ci": ci,
        "p": p,
        "p_holm": None if p is None else min(1.0, 10 * p),
        "p_permutation": None if p is None else max(p, 2.0**-n),
        "p_wilcoxon": None if p is None else max(p, 2.0**-n),
        "effect": effect,
        "effect_ci": None,
        "seeds_needed": None if effect is None else max(2, int(8 / effect**2) + 2),
        "seeds_needed_near_end": None if not evidence else 40,
        "evidence": evidence,
        **({"per_item": items} if name.startswith("spatial_variance.") else {}),
    }


def _claim(study: dict[str, Any], group: Group, says: str) -> None:
    control, *others = group.conditions
    if not others:
        return
    measure = next((m for m in study["measures"] if m.startswith("morans_i")), "loss")
    found = next(
        c for c in study["comparisons"] if (c["condition"], c["control"], c["measure"]) == (others[0], control, measure)
    )
    kept = ("n", "means", "mean_difference", "ci", "p", "seeds_needed")
    study["hypotheses"].append(
        {"says": says, "measure": measure, "expected": "higher", "margin": 0.0, "condition": others[0]}
        | {"control": control, "verdict": "holds", **{key: found[key] for key in kept}}
    )
    study["published"].append(
        {"name": "control, another laboratory", "source": "a paper", "measures": {"accuracy": 98.1, "loss": 0.101}}
    )
