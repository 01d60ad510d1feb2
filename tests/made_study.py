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
#: Measures that only a comparison of methods has.
OF_METHODS = {
    "morans_i_normed": ("Moran's I at equal norms", "", None, False),
    "weight_norm": ("weight norm", "", None, False),
    "weight_similarity": ("similarity of nearby units' weights", "", None, False),
    "noise_score": ("test accuracy with noise", "%", "up", False),
    "adversarial_score": ("test accuracy under attack", "%", "up", False),
    "patch_lesion_score": ("test accuracy without a patch of units", "%", "up", False),
    "random_lesion_score": ("test accuracy without random units", "%", "up", False),
}
CUTS = ("weight", "length", "cost")
OF_LAYERS = ("mean_wire_length", "weight_norm", "weight_similarity")
OF_NETWORKS = ("accuracy", "loss", "noise_score", "adversarial_score")


@dataclass(frozen=True)
class Strength:
    """What makes a condition one of a method's strengths.

    Args:
        method: a label that the conditions of one method share.
        strength: None for a method that has no strengths.
        objective: a word, or "none".
        maps: how much a map this condition makes, from 0 to 1.
        costs: points of accuracy that it loses.
        slower: seconds an epoch, relative to the control's.
    """

    method: str
    strength: float | None = None
    objective: str = "none"
    maps: float = 0.0
    costs: float = 0.0
    slower: float = 1.0


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
    methods: dict[str, Strength] = field(default_factory=dict)
    moving: tuple[str, ...] = ()  # sheets whose units are points that move
    on: tuple[Any, Any] | None = None  # vertices and faces of a surface on which the units of all sheets are


#: Names of methods such as a comparison of many has.
METHODS = (
    "topoloss",
    "spatial_correlation",
    "absolute_correlation",
    "smoothness, cosine distance",
    "saturating, jacobs",
    "communicability",
    "bimt",
    "similarity of weights",
    "similarity of responses",
    "tica",
    "wiring, linear price",
    "wiring, quadratic price",
    "blur",
    "mask",
    "update",
    "topoloss, dropout 0.5",
    "spatial_correlation, dropout 0.5",
)


def group_of_methods(
    count: int = 5, strengths: Sequence[float] = (0.5, 1, 2), side: int = 8, classes: int = 6, layers: int = 2
) -> Group:
    """A control, three priors without strengths, and ``count`` objectives of several strengths."""
    plain = {
        "control": Strength("control"),
        "linear@3": Strength("prior: linear@3", maps=0.5, costs=0.1, slower=1.1),
        "linear@3 shuffled": Strength("prior: linear@3 shuffled", maps=0.02, costs=0.15, slower=1.1),
        "within@3": Strength("prior: within@3", maps=0.7, costs=0.5, slower=0.7),
    }
    conditions: dict[str, tuple[str, str | None]] = {"control": ("flat", None)}
    conditions |= {"linear@3": ("linear@3", None), "linear@3 shuffled": ("linear@3", "linear@3")}
    conditions |= {"within@3": ("within@3", None)}
    methods = dict(plain)
    for k in range(count):
        name = METHODS[k] if k < len(METHODS) else f"objective {k}"
        for strength in strengths:
            word, _, options = name.partition(",")
            condition = f"{word}:{strength:g}{',' * bool(options)}{options}"
            top, price = (0.35 + 0.6 * ((7 * k) % count) / count), 0.05 + 0.5 * ((3 * k) % count) / count
            maps = top * (1 - math.exp(-1.5 * strength))
            methods[condition] = Strength(name, strength, word, maps, price * strength**2, 1 + 0.3 * k)
            conditions[condition] = ("flat", None)
    sheets: dict[str, tuple[int, int] | None] = {f"sheet {k + 1}": (side, side) for k in range(layers)}
    return Group(
        "sheets on shapes", "shapes", "sheets", conditions, sheets, [f"{k}" for k in range(classes)], {}, methods
    )


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
        sheets = {name: _sheet(name, shape, group) for name, shape in group.sheets.items()}
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
                "layers": {name: _layer(name, group) for name in layers},
            }
        )
        names = _measures(study, list(sheets), layers, BASES | (OF_METHODS if group.methods else {}))
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
            local: float = condition != control and of is None
            one = group.methods.get(condition)
            if one is not None:
                told = {"method": one.method, "strength": one.strength, "objective": one.objective}
                study["conditions"][condition] |= told
                local = one.maps
                study["likeness"].extend(_likeness(condition, list(sheets), len(seeds), one))
            else:
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
                    if one is not None:
                        measures["accuracy"] -= one.costs
                    cell["measures"] = {n: None if n in undefined else v for n, v in measures.items()}
                    _write_run(directory / run, group, layers, local, rng, one, recorded=(condition, seed) in recorded)
                study["cells"].append(cell)
        _compare(study, group, names)
    _claim(study, groups[0], says)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "study.json").write_text(json.dumps(study), encoding="utf-8")
    return study


def _sheet(name: str, shape: tuple[int, int] | None, group: Group) -> dict[str, Any]:
    if shape is None:
        return {"units": 30, "geometry": "Distances(30)", "places": None}
    places: dict[str, Any] = {"kind": "cells", "shape": list(shape)}
    if name in group.moving:
        places = {"kind": "points"}
    elif group.on is not None:
        places = {"kind": "surface", "hemisphere": "left"}
    return {"units": shape[0] * shape[1], "geometry": f"Grid{shape}", "places": places}


def _likeness(condition: str, sheets: list[str], seeds: int, one: Strength) -> list[dict[str, Any]]:
    pairs = seeds * (seeds - 1) // 2
    values = {"representation": 0.9 - 0.2 * one.maps, "map": 0.1 + 0.3 * one.maps, "chance": 0.11}
    return [{"condition": condition, "sheet": sheet, "pairs": pairs, **values} for sheet in sheets]


def _layer(name: str, group: Group) -> dict[str, Any]:
    """What is said of a layer, which lies between the two sheets of its name if there are such."""
    ends = [end if end in group.sheets else None for end in ([*name.split(" to "), ""])[:2]]
    shapes = [group.sheets[end] if end is not None else None for end in ends]
    units = [math.prod(shape) if shape is not None else 9 for shape in shapes]
    return {"geometry": "Grid", "source": "Grid", "wires": 100, "from": ends[0], "to": ends[1], "units": units}


def _measures(study: dict[str, Any], sheets: list[str], layers: list[str], bases: dict[str, Any]) -> list[str]:
    parts = dict.fromkeys(OF_LAYERS, layers) | {"pruned_wires": list(CUTS)} | {key: [""] for key in OF_NETWORKS}
    names = []
    for base, (label, unit, better, forced) in bases.items():
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


def _value(name: str, local: float, rng: np.random.Generator) -> float:
    base = name.partition(".")[0]
    mean, effect, spread = {
        "accuracy": (97.9, 0.1, 0.15),
        "loss": (0.11, 0, 0.01),
        "spatial_variance": (8.4, -0.4, 0.2),
        "response_correlation": (0.0, 0.05, 0.02),
        "morans_i": (0.0, 0.4, 0.03),
        "mean_wire_length": (3.6, -1.5, 0.05),
        "pruned_wires": (0.3, -0.1, 0.05),
        "morans_i_normed": (0.0, 0.3, 0.03),
        "weight_norm": (21.0, -9.0, 0.5),
        "weight_similarity": (0.0, 0.5, 0.02),
        "noise_score": (91.0, 1.0, 0.4),
        "adversarial_score": (43.0, 5.0, 2.0),
        "patch_lesion_score": (93.0, -8.0, 1.0),
        "random_lesion_score": (95.0, -1.0, 0.5),
    }[base]
    return mean + effect * local + float(rng.normal(0, spread))


def _write_run(
    path: Path,
    group: Group,
    layers: list[str],
    local: float,
    rng: np.random.Generator,
    one: Strength | None,
    *,
    recorded: bool,
) -> None:
    path.mkdir(parents=True)
    apart = np.random.default_rng(len(path.name))  # for what the explorer alone shows
    k = len(group.classes or [])
    arrays: dict[str, Any] = {"classes": np.arange(k)} if k else {}
    bins = np.arange(8.0)
    for name, shape in group.sheets.items():
        if shape is not None:
            y, x = np.divmod(np.arange(shape[0] * shape[1]), shape[1])
            arrays[f"sheet/{name}/xy"] = np.stack([x, y], axis=1).astype(np.float32)
            if name in group.moving:
                way = np.random.default_rng(len(path.name) + y.size)
                start = way.uniform(0, max(shape), (y.size, 2))
                moved = np.stack([start + share * (arrays[f"sheet/{name}/xy"] - start) for share in (0, 0.6, 1)])
                arrays[f"sheet/{name}/epoch_positions"] = moved.astype(np.float32)
            elif group.on is not None:
                arrays |= _on(name, y.size, *group.on)
            if k:
                arrays[f"sheet/{name}/class_means"] = _maps(k, shape, local, rng)
                arrays[f"sheet/{name}/selectivity"] = _maps(k, shape, local, rng) - 1
                grown = [_maps(k, shape, local, apart) for _ in range(3)]
                arrays |= {"epochs": np.array([0, 2, 4]), f"sheet/{name}/epoch_means": np.stack(grown).astype("f2")}
            arrays[f"sheet/{name}/factors"] = apart.normal(0, 0.5, (4, y.size)).astype(np.float16)
        arrays[f"sheet/{name}/variance"] = rng.normal(8, 1, 50).astype(np.float32)
        curve = np.stack([bins + 1, local * np.exp(-bins / 2) + rng.normal(0, 0.02, len(bins)), 50 - bins])
        arrays[f"sheet/{name}/curve"] = curve.astype(np.float32)
    for name in layers:
        share = np.full(len(bins), 1 / len(bins))
        strength = np.exp(-bins / 2) if local else share.copy()
        values = {"length": bins + 0.5, "strength": strength / strength.sum(), "count": share}
        arrays |= {f"wires/{name}/{key}": value.astype(np.float32) for key, value in values.items()}
        source, target = _layer(name, group)["units"]
        shape = target, min(source, 8)
        made = {
            "weight": -np.sort(-apart.random(shape)),
            "distance": 5 * apart.random(shape),
            "rank": np.full(shape, 0.5),
        }
        arrays |= {f"wires/{name}/{key}": value.astype(np.float32) for key, value in made.items()}
        arrays[f"wires/{name}/origin"] = apart.integers(0, source, shape).astype(np.int32)
    np.savez_compressed(path / "measures.npz", **arrays)
    if recorded:
        return
    head = "epoch,train_loss,validation_loss,validation_accuracy,mean_wire_length,seconds,skipped"
    seconds = 1.5 * (one.slower if one is not None else 1)
    rows = [
        f"{e},{1 / e},{1.1 / e},{98 - 5 / e + rng.normal(0, 0.2)},{4 - local * e / 4},{seconds},0" for e in range(1, 5)
    ]
    if one is not None and one.objective != "none":
        head += f",{one.objective},{one.objective}_weighted"
        values = [(1 - one.maps) * math.exp(-e / 2) + rng.normal(0, 0.01) for e in range(1, 5)]
        rows = [f"{row},{v},{(one.strength or 1) * v}" for row, v in zip(rows, values, strict=True)]
    (path / "metrics.csv").write_text("\n".join([head, *rows]) + "\n")
    rows = ["by,wires,share,wire_length,validation,test"]
    for by in CUTS:
        for share in (1.0, 0.3, 0.1, 0.03):
            rows.append(f"{by},{int(2401 * share)},{share},{5000 * share},{98 - 0.5 / share},{97.9 - 0.5 / share}")
    (path / "pruning.csv").write_text("\n".join(rows) + "\n")


def _on(name: str, units: int, vertices: Any, faces: Any) -> dict[str, Any]:
    """The arrays of a sheet whose units are the first vertices of a surface."""
    on = {f"sheet/{name}/vertex": np.arange(units), f"sheet/{name}/surface": np.array(0)}
    return {**on, "surface/0/vertices": np.asarray(vertices), "surface/0/faces": np.asarray(faces)}


def _maps(k: int, shape: tuple[int, int], local: float, rng: np.random.Generator) -> Any:
    """(k, units): a bump at a place of its own for each class; the less local the network, the more units are mixed."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    centre = rng.uniform(0, 1, (k, 2)) * shape
    maps = np.stack([np.exp(-((y - a) ** 2 + (x - b) ** 2) / 6) for a, b in centre]).reshape(k, -1)
    maps += 0.1 * rng.random(maps.shape)
    if local in (0, 1):
        return (maps if local else rng.permuted(maps, axis=1)).astype(np.float32)
    mixed = rng.random(maps.shape[1]) > local
    maps[:, mixed] = rng.permuted(maps[:, mixed], axis=1)
    return maps.astype(np.float32)


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
