"""The measures: what each is called, in which unit, and which way is better."""

from __future__ import annotations

from typing import Any

#: base → (label, unit, better, whether a wiring cost forces it, whatever else happens)
KNOWN: dict[str, tuple[str, str, str | None, bool]] = {
    "loss": ("test loss", "", "down", False),
    "noise_score": ("score with noise on the inputs", "", None, False),
    "adversarial_score": ("score with inputs moved against the network", "", None, False),
    "spatial_variance": ("spatial variance", "", "down", False),
    "response_correlation": ("similarity of nearby units' responses", "", "up", False),
    "morans_i": ("Moran's I of class maps", "", "up", False),
    "morans_i_normed": ("Moran's I of class maps, of equally strong units", "", "up", False),
    "smoothness": ("smoothness of tuning maps", "", "up", False),
    "patches": ("patches per class", "", None, False),
    "patch_size": ("patch size", "units", None, False),
    "nestedness": ("overlap of classes' patches beyond chance", "", None, False),
    "effective_dimension": ("effective dimension", "", None, False),
    "patch_lesion_score": ("score without a patch of units", "", None, False),
    "random_lesion_score": ("score without as many random units", "", None, False),
    "weight_norm": ("norm of a unit's weights", "", None, False),
    "weight_similarity": ("similarity of nearby units' weights beyond all units'", "", "up", False),
    "mean_wire_length": ("mean wire length", "", "down", True),
    "total_wire_length": ("total wire length", "", "down", True),
    "modularity": ("modularity beyond random graphs", "", None, True),
    "small_worldness": ("small-worldness", "", None, True),
    "pruned_wires": ("share of wires needed", "", "down", False),
    "pruned_length": ("share of wire length needed", "", "down", False),
    "pruned_score": ("change of the test score by that cut", "", None, False),
}
#: The measures that are the main score under some damage: they have its unit, and the same way is better.
MAIN = ("noise_score", "adversarial_score", "patch_lesion_score", "random_lesion_score")


def described(runs: list[dict[str, Any]], asked: list[str]) -> dict[str, dict[str, Any]]:
    """Every measure of ``runs`` and those ``asked`` for: the tasks' scores first, then the order of :data:`KNOWN`."""
    scores = {score["name"]: score for run in runs for score in run["task"]["scores"]}
    names = list(dict.fromkeys([*(name for run in runs for name in run["measures"]), *asked]))
    order = [*(n for n in scores if n not in KNOWN), *KNOWN]

    def rank(name: str) -> int:
        base = name.partition(".")[0]
        return order.index(base) if base in order else len(order)

    found = {}
    for name in sorted(names, key=rank):
        base, _, part = name.partition(".")
        if base in scores and base not in KNOWN:
            label = f"test {base.replace('_', ' ')}"
            unit, better, forced = scores[base]["unit"], scores[base]["better"], False
        else:
            label, unit, better, forced = KNOWN.get(base, (base.replace("_", " "), "", None, False))
            if base in MAIN and scores:
                main = next(iter(scores.values()))
                unit, better = main["unit"], main["better"]
        found[name] = {"base": base, "part": part, "label": label, "unit": unit, "better": better, "forced": forced}
    return found
