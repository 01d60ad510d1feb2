"""The page of a study: every measure with every seed, what was claimed, and how to make each network again."""

from __future__ import annotations

import math
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import AutoLocator

from locality_prior import analysis, plots
from locality_prior._check import wrong
from locality_prior.experiments.config import MODEL
from locality_prior.experiments.measure import (
    LEVELS,
    MEASURES,
    SIDES,
    Floats,
    Measured,
    effective_weights,
    mean_defined,
    read,
)
from locality_prior.experiments.models import trained
from locality_prior.report.maps import class_maps
from locality_prior.report.page import Picture, legend_beside, new_figure, one_legend, write_page
from locality_prior.report.tables import CUT_FIRST, Rows, number, title
from locality_prior.studies.findings import read_findings
from locality_prior.studies.study import STUDY, Study, cell_directory, read_study, settings

#: Measures as a reader sees them, with their units.
NAMED = {
    "accuracy": "test accuracy (%)",
    "loss": "test cross-entropy",
    "spatial_variance": "spatial variance (spacings²)",
    "response_correlation": "correlation with 1/(1 + d)",
    "morans_i": "Moran's I of class maps",
    "smoothness": "smoothness of d′ maps",
    "patches": "patches for each class",
    "patch_size": "patch size (units)",
    "nestedness": "containment of patches beyond chance",
    "effective_dimension": "effective dimension",
    "mean_wire_length": "mean wire length (spacings)",
    "total_wire_length": "total wire length Σ d|V|",
    "modularity": "modularity beyond random graphs",
    "small_worldness": "small-worldness σ",
    "pruned_wires": "wires needed (share)",
    "pruned_length": "wire length needed (share)",
}
#: What a wiring cost forces: their effects are the largest, and tell nothing of maps.
FORCED = ("mean_wire_length", "total_wire_length")
#: Rows of the sorted table that the terminal and the page show at once, and of a figure.
SHOWN, FIRST, ROWS = 8, 20, 40


def write(directory: Path) -> Path:
    """Write the page of the analysed study in ``directory``.

    Raises:
        ValueError: it is not analysed, or has changed since.
    """
    study, found = read_study(directory), read_findings(directory)
    told = {(cell["condition"], cell["seed"]) for cell in found["cells"]}
    if told != study.runs().keys():
        raise wrong("directory", f"{directory} with findings of other runs than its study's", "one analysed since")
    return write_page(
        directory,
        "findings.html",
        pictures(directory, study, found),
        data=sorted({run.data for run in study.conditions().values()}),
        conditions=conditions(found),
        hypotheses=hypotheses(found),
        first=by_effect(found, FORCED)[: FIRST + 1],
        every=by_effect(found),
        cells=cells(found),
        networks=sum(cell["measures"] is not None for cell in found["cells"]),
        failed=[c for c in found["cells"] if c["measures"] is None],
        images=images(found),
        command=shlex.join(["locality-prior", "study", STUDY, "--out", "DIR"]),
        one=shlex.join(["locality-prior", "train", "--config", "runs/RUN/config.yaml", "--out", "DIR"]),
    )


# Tables


def tables(found: dict[str, Any]) -> list[Rows]:
    """What the terminal shows: conditions, hypotheses, and the largest effects."""
    few = [[row[k] for k in (0, 1, 2, 4, 6)] for row in by_effect(found, FORCED)[: SHOWN + 1]]
    return [conditions(found), *([hypotheses(found)] if found["hypotheses"] else []), few]


def name(measure: str) -> str:
    """A measure as a reader sees it, its part said last."""
    base, _, part = measure.partition(".")
    return NAMED[base] + (f", {CUT_FIRST.get(part, part)}" if part else "")


def conditions(found: dict[str, Any]) -> Rows:
    """A header and a row for each condition: means over its networks."""
    shown = ["accuracy", "loss", "spatial_variance.input", "spatial_variance.output", "mean_wire_length"]
    shown += ["response_correlation.output", "morans_i.output"]
    forms = [".2f", ".3f", ".3f", ".3f", ".2f", "+.3f", "+.3f"]
    rows = [["", "networks", "accuracy %", "loss", "variance in", "variance out", "wire length", "corr. out"]]
    rows[0].append("Moran's I out")
    for condition, seeds in _by_condition(found).items():
        done = [measures for measures in seeds.values() if measures is not None]
        means = [mean_defined([m[key] for m in done]) for key in shown]
        rows.append([title(condition), str(len(done)), *(number(v, f) for v, f in zip(means, forms, strict=True))])
    return rows


def hypotheses(found: dict[str, Any]) -> Rows:
    """A header and a row for each hypothesis."""
    rows = [["hypothesis", "compared", "difference, 95 % interval", "n", "verdict"]]
    for one in found["hypotheses"]:
        measure = name(one["measure"])
        margin = f", by more than {one['margin']:g}" if one["margin"] else ""
        expected = f"within {one['margin']:g}" if one["expected"] == "alike" else one["expected"] + margin
        needed = one["seeds_needed"]
        more = f" with {one['n']} seeds" if one["verdict"] == "cannot be told" else ""
        more += f" ({needed} for this effect)" if more and needed and needed > one["n"] else ""
        rows.append(
            [
                f"“{one['says']}” ({measure}: {expected})",
                f"{title(one['condition'])} − {title(one['control'])}",
                _difference(one),
                str(one["n"]),
                one["verdict"] + more,
            ]
        )
    return rows


def by_effect(found: dict[str, Any], without: tuple[str, ...] = ()) -> Rows:
    """A header and a row for each comparison, the largest effect first and those without one last; of some measures."""
    rows = [["compared", "measure", "difference, 95 % interval", "d_z", "p: t-test", "Holm", "flips", "images", "n"]]
    rows[0].append("seeds needed")
    kept = [one for one in found["comparisons"] if one["measure"] not in without]
    for one in sorted(kept, key=lambda c: -abs(c["effect"] or 0)):
        rows.append(
            [
                f"{title(one['condition'])} − {title(one['control'])}",
                name(one["measure"]),
                _difference(one),
                number(one["effect"], "+.2f"),
                *(_p(one[p]) for p in ("p", "p_holm", "p_permutation", "per_image_p")),
                str(one["n"]),
                "–" if one["seeds_needed"] is None else str(one["seeds_needed"]),
            ]
        )
    return rows


def images(found: dict[str, Any]) -> Rows:
    """A header and a row for each comparison of variance: how often its pairs differ over images, and which way."""
    rows = [["compared", "", "pairs", "lower, p < 0.05", "higher, p < 0.05", "neither", "p over networks"]]
    for one in found["comparisons"]:
        tests = one.get("per_image")
        if not tests:
            continue
        sure = [test for test in tests if test["p"] is not None and test["p"] < 0.05]
        lower = sum(test["mean_difference"] < 0 for test in sure)
        counts = [len(tests), lower, len(sure) - lower, len(tests) - len(sure)]
        pair = f"{title(one['condition'])} − {title(one['control'])}"
        rows.append([pair, one["measure"].partition(".")[2], *map(str, counts), number(one["p"], ".2g")])
    return rows


def cells(found: dict[str, Any]) -> Rows:
    """A header and a row for every network, with the directory that its config is in."""
    rows = [["", "seed", "accuracy %", "loss", "variance out", "wire length", "corr. out", "run"]]
    for cell in found["cells"]:
        m = cell["measures"]
        shown = [("accuracy", ".2f"), ("loss", ".3f"), ("spatial_variance.output", ".3f")]
        shown += [("mean_wire_length", ".2f"), ("response_correlation.output", "+.3f")]
        numbers = ["–"] * len(shown) if m is None else [number(m[key], form) for key, form in shown]
        rows.append([title(cell["condition"]), str(cell["seed"]), *numbers, cell["run"]])
    return rows


def _difference(one: dict[str, Any]) -> str:
    """The mean difference and its interval."""
    ci, mean = one["ci"], number(one["mean_difference"], "+.3g")
    return mean if ci is None else f"{mean} [{number(ci[0], '+.3g')}, {number(ci[1], '+.3g')}]"


def _p(value: float | None) -> str:
    """A p-value as text; beyond what double precision could tell from 0 it says no more."""
    return "< 1e−16" if value is not None and value < 1e-16 else number(value, ".2g")


def _by_condition(found: dict[str, Any]) -> dict[str, dict[int, dict[str, float | None] | None]]:
    """Condition → seed → measures; None for a cell that failed."""
    table: dict[str, dict[int, dict[str, float | None] | None]] = {}
    for cell in found["cells"]:
        table.setdefault(cell["condition"], {})[cell["seed"]] = cell["measures"]
    return table


# Figures


def pictures(directory: Path, study: Study, found: dict[str, Any]) -> Iterator[Picture]:
    """Every figure of a study's page, in its order."""
    yield _trade(found)
    for base in MEASURES:
        names = [n for n in _names(found) if n.partition(".")[0] == base]
        if names:
            yield _measure(base, names, found)
    first = settings(next(iter(study.conditions().values())))
    there = {(cell["condition"], cell["seed"]) for cell in found["cells"] if cell["measures"] is not None}
    # what has a sheet or a data set of its own is not for one figure with the rest
    alike = {k: run for k, run in study.conditions().items() if _only_cost(settings(run), first)}
    runs = {
        key: cell_directory(directory, run) for key, run in study.runs().items() if key in there and key[0] in alike
    }
    if runs:
        yield from _maps_of(study, runs)


def _only_cost(these: dict[str, Any], those: dict[str, Any]) -> bool:
    return all(these[key] == those[key] for key in these if key not in ("cost", "shuffled"))


def _names(found: dict[str, Any]) -> list[str]:
    """Measures that some network has."""
    kept = [cell["measures"] for cell in found["cells"] if cell["measures"] is not None]
    return [key for key in kept[0] if any(m[key] is not None for m in kept)]


def _trade(found: dict[str, Any]) -> Picture:
    figure, ax = new_figure(7.2, 4.2)
    points = {}
    for condition, seeds in _by_condition(found).items():
        done = [m for m in seeds.values() if m is not None]
        points[_label(condition)] = tuple(
            np.array([_float(m[key]) for m in done]) for key in ("mean_wire_length", "accuracy")
        )
    plots.scatter(points, ax, x=NAMED["mean_wire_length"], y=NAMED["accuracy"])
    legend_beside(figure, ax)
    return Picture(
        "accuracy_against_wire_length",
        "trade",
        figure,
        "Test accuracy against the mean wire length Σ d|V| / Σ|V| on the sheet: a point for each network.",
    )


def _measure(base: str, names: list[str], found: dict[str, Any]) -> Picture:
    """Every network, and every comparison, by the parts of one measure."""
    table = _by_condition(found)
    seeds = list(dict.fromkeys(cell["seed"] for cell in found["cells"]))
    pairs = {}  # row → (condition, control)
    for one in found["comparisons"]:
        null = "shuffled" in one["control"]
        pairs[one["condition"] + (", less its null" if null else "")] = one["condition"], one["control"]
    rows = [*table, *(row for row in pairs if row not in table)][:ROWS]
    drawn = {row: _label(row) for row in rows}
    lines = max(label.count("\n") for label in drawn.values())
    figure, axes = new_figure(
        9.6,
        (0.75 + (0.27 + 0.15 * lines) * len(rows)) * len(names) + 0.3,
        2,
        len(names),
        squeeze=False,
        width_ratios=(1, 1.15),
    )
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0, 0, 0.985, 1))  # the notes end at its edge
    for (left, right), measure in zip(axes, names, strict=True):
        tests = {(c["condition"], c["control"]): c for c in found["comparisons"] if c["measure"] == measure}

        def value(condition: str, seed: int, measure: str = measure) -> float:
            measures = table.get(condition, {}).get(seed)
            return math.nan if measures is None else _float(measures[measure])

        values = {drawn[row]: np.array([value(row, seed) for seed in seeds]) for row in rows}
        own = {row: _interval(numbers) for row, numbers in values.items()}
        plots.seeds_by_condition(values, left, label=name(measure), intervals=own)
        differences: dict[str, Floats] = {}
        intervals, notes = {}, {}
        over_images = any("per_image" in test for test in tests.values())
        heads = ["p: t-test", "flips", *(["images"] if over_images else [])]
        for row in rows:
            pair = pairs.get(row)
            test = tests.get(pair) if pair else None
            one, other = pair or (row, row)
            differences[drawn[row]] = np.array(
                [value(one, seed) - value(other, seed) if test else math.nan for seed in seeds]
            )
            intervals[drawn[row]] = test["ci"] if test else None
            shown = [test["p"], test["p_permutation"], test["per_image_p"]] if test else [None] * 3
            notes[drawn[row]] = [_p(p) if test else "" for p in shown[: len(heads)]]
        plots.differences_by_condition(differences, intervals, right, label="difference", notes=notes, heads=heads)
        right.set_yticklabels([])
    named = NAMED[base][0].upper() + NAMED[base][1:]
    some = f" (the first {ROWS} rows of {len(table) + len(pairs)}; study.json has all)" if len(rows) == ROWS else ""
    return Picture(base, "measures", figure, f"{named}: every network, and every comparison{some}.")


def _interval(values: Floats) -> tuple[float, float] | None:
    """Student's 95 % interval of the mean of what is defined; None of fewer than two."""
    from scipy import stats

    values = values[np.isfinite(values)]
    if len(values) < 2:
        return None
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def _label(condition: str, width: int = 30) -> str:
    """A condition's title, in lines that fit beside a picture."""
    return textwrap.fill(title(condition), width)


def _float(value: float | None) -> float:
    return math.nan if value is None else value


def _maps_of(study: Study, runs: dict[tuple[str, int], Path]) -> Iterator[Picture]:
    """What needs more of a run than its numbers: maps, and curves over distance and over levels."""
    names = list(dict.fromkeys(condition for condition, _ in runs))
    seed = next((s for s in study.axes.seeds if all((n, s) in runs for n in names)), None)
    curves: dict[str, dict[str, list[tuple[Floats, Floats]]]] = {}  # figure.side → condition → a curve for each seed
    for condition in names:
        for key, path in runs.items():
            if key[0] != condition:
                continue
            for where, curve in _curves(read(path), path).items():
                curves.setdefault(where, {}).setdefault(_label(condition), []).append(curve)
    if seed is not None:
        for side in SIDES:
            yield class_maps({_label(n, 16): read(runs[n, seed]) for n in names}, side)
    bands = {
        where: {c: _band(many, where.startswith("correlation")) for c, many in by.items()}
        for where, by in curves.items()
    }
    far = "distance between units (spacings)"
    yield _two(
        "correlation",
        "maps",
        bands,
        far,
        "response correlation",
        0.0,
        (
            "Correlation of two units' responses over images against the distance between them: mean over networks and "
            "its 95 % interval."
        ),
    )
    yield _two(
        "nested",
        "nested",
        bands,
        "level (d′)",
        "containment beyond chance",
        0.0,
        (
            "How much of the smaller of two classes' largest patches lies in the larger, beyond what sizes alone give, "
            "against the level of d′ at which patches are cut: mean over networks and its 95 % interval."
        ),
    )
    figure, ax = new_figure(7.2, 3.4)
    plots.banded(bands["wires"], ax, x="length of the wire (spacings)", y="share of |V| / share of pairs", level=1)
    legend_beside(figure, ax)
    yield Picture(
        "wire_lengths",
        "wires",
        figure,
        "How the strength of the layer's wires is distributed over their lengths: the share of Σ|V| at a distance, "
        "divided by the share of the pairs of units that are so far apart. Mean over networks and its 95 % interval.",
    )


def _curves(kept: Measured, path: Path) -> dict[str, tuple[Floats, Floats]]:
    """Of one network, by figure and side."""
    found = {}
    for side in SIDES:
        curve = analysis.response_correlation(kept.activations[side], kept.sheet(side))
        found[f"correlation.{side}"] = curve.distance, curve.correlation
        nested = analysis.nested_patches(kept.tuning(side), kept.sheet(side), LEVELS)
        found[f"nested.{side}"] = nested.threshold, nested.containment - nested.chance
    net = trained(kept.run, path / MODEL)
    source, target = net.places
    lengths = analysis.wire_lengths(effective_weights(net), target, source)
    found["wires"] = lengths.distance, lengths.share * lengths.pairs.sum() / lengths.pairs
    return found


def _band(curves: list[tuple[Floats, Floats]], binned: bool) -> tuple[Floats, Floats, Floats]:
    """Mean of several networks' curves and half its 95 % interval, at every x (or bin around 0, 1, …) that one has."""
    from scipy import stats

    # where units are silent a network's bins differ a little
    bins = [np.round(x, 0 if binned else 6) for x, _ in curves]
    xs = sorted({float(v) for x in bins for v in x})
    table, where = np.full((2, len(curves), len(xs)), np.nan)
    for k, (x, (at, y)) in enumerate(zip(bins, curves, strict=True)):
        there = [xs.index(float(v)) for v in x]
        table[k, there], where[k, there] = y, at
    n = np.isfinite(table).sum(0)
    mean = np.nansum(table, axis=0) / np.maximum(n, 1)
    spread = np.sqrt(np.nansum((table - mean) ** 2, axis=0) / np.maximum(n - 1, 1) / np.maximum(n, 1))
    half = np.where(n > 1, stats.t.ppf(0.975, np.maximum(n - 1, 1)) * spread, np.nan)
    return np.nanmean(where, axis=0), np.where(n > 0, mean, np.nan), half


def _two(what: str, section: str, bands: dict[str, Any], x: str, y: str, level: float, caption: str) -> Picture:
    """One figure of input and output."""
    figure, axes = new_figure(8.4, 3.4, 2, sharey=True)
    for ax, side in zip(axes, SIDES, strict=True):
        plots.banded(bands[f"{what}.{side}"], ax, x=x, y=y, level=level)
        ax.set_title(f"layer's {side}")
    axes[1].set_ylabel("")
    one_legend(figure, axes)
    # without the headroom of the panels' own legends
    edges = [
        y + sign * np.nan_to_num(half)
        for side in SIDES
        for _, y, half in bands[f"{what}.{side}"].values()
        for sign in (-1, 1)
    ]
    defined = [v for edge in edges for v in edge if np.isfinite(v)]
    if defined and max(defined) > min(defined):
        room = 0.05 * (max(defined) - min(defined))
        axes[0].set_ylim(min(defined) - room, max(defined) + room)
        axes[0].yaxis.set_major_locator(AutoLocator())
    return Picture(what, section, figure, caption)
