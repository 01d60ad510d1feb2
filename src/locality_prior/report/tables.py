"""The tables of a comparison, for the terminal and for the page: rows of text from a summary."""

from __future__ import annotations

import shlex
from typing import Any

from locality_prior.experiments.config import CONTROL, PRESETS, Preset, standard
from locality_prior.studies.reproduction import Reproduction

Rows = list[list[str]]

#: What is cut first, by the names of :func:`locality_prior.sparsify`.
CUT_FIRST = {"weight": "small |V|", "length": "long d", "cost": "small c|V|"}

#: What the source document reports for MNIST, its variances being the layer's output over 1,000 test images, and what
#: its authors report for ImageNet, the layer between two sheets of 64×64.
DOCUMENT: dict[str, dict[str, Any]] = {
    "mnist": {
        "sheet": [7, 7],
        "layer": None,
        "conditions": {
            "control": {"accuracy": 98.1, "loss": 0.101, "variance": {"output": 8.667}},
            "local": {"accuracy": 97.9, "loss": 0.122, "variance": {"output": 8.458}},
        },
        "tests": {"output": {"t": -6.49, "p": 1.35e-10, "n": 1000}},
    },
    "imagenet": {
        "sheet": [64, 64],
        "layer": "fc7",
        "conditions": {
            "control": {"variance": {"input": 687.4, "output": 691.6}},
            "local": {"variance": {"input": 630.9, "output": 653.4}},
        },
        "tests": {"input": {"t": -38.98, "n": 1000}, "output": {"t": -26.08, "n": 1000}},
    },
}


def document(summary: dict[str, Any]) -> dict[str, Any] | None:
    """What the source document reports for this experiment, if it has it."""
    theirs = DOCUMENT.get(summary["experiment"])
    alike = theirs and theirs["sheet"] == summary.get("sheet", [7, 7]) and theirs["layer"] == summary.get("layer")
    return theirs if alike else None


def title(condition: str) -> str:
    """A condition as a reader sees it: the cost of a further one says what it is."""
    return condition if "@" not in condition else "{} within {}".format(*condition.split("@"))


def results(summary: dict[str, Any]) -> Rows:
    """A header and a row for each condition, with the document's own beneath."""
    five = any(one.get("top5_accuracy") is not None for one in summary["conditions"].values())
    header = ["", "accuracy %", *(["top-5 %"] if five else []), "loss", "variance in", "variance out", "wire length"]
    header += ["corr. out", "Moran's I out"]
    rows = [header]
    for name, numbers in summary["conditions"].items():
        variance = numbers["spatial_variance"]
        rows.append(
            [
                title(name),
                number(numbers["accuracy"], ".2f"),
                *([number(numbers["top5_accuracy"], ".2f")] if five else []),
                number(numbers["loss"], ".3f"),
                number(variance["input"], ".3f"),
                number(variance["output"], ".3f"),
                number(numbers["mean_wire_length"], ".2f"),
                number(numbers["response_correlation"]["output"], "+.3f"),
                number(numbers["morans_i"]["output"], "+.3f"),
            ]
        )
    for name, theirs in (document(summary) or {"conditions": {}})["conditions"].items():
        cells = {"accuracy %": (theirs.get("accuracy"), ".1f"), "loss": (theirs.get("loss"), ".3f")}
        for side, column in (("input", "variance in"), ("output", "variance out")):
            cells[column] = theirs["variance"].get(side), ".3f" if theirs["variance"].get(side, 0) < 100 else ".1f"
        rows.append([f"{name}, document"])
        for column in header[1:]:
            value, form = cells.get(column, (None, ""))
            rows[-1].append("" if value is None else format(value, form))
    return rows


def tests(summary: dict[str, Any]) -> Rows:
    """A header and a row for each condition and side: spatial variance against the control's, by both tests."""
    seed = summary["seeds"][0]
    header = [
        "variance, less control's",
        "",
        f"seed {seed}",
        "t, images",
        "p, images",
        "n",
        "all seeds",
        "t, networks",
        "p, networks",
        "n",
    ]
    rows = [header]
    for name, compared in summary["comparisons"].items():
        for side in ("input", "output"):
            images, seeds = compared["per_image"][side], compared["per_seed"][side]
            rows.append([title(name), side])
            for test in (images, seeds):
                rows[-1] += [
                    number(test["mean_difference"], "+.3f"),
                    number(test["t"], ".2f"),
                    number(test["p"], ".2g"),
                    str(test["n"]),
                ]
    theirs = document(summary) or {"tests": {}, "conditions": {}}
    for side, test in theirs["tests"].items():
        a, b = (theirs["conditions"][name]["variance"][side] for name in ("local", "control"))
        rows.append(["local, document", side, number(a - b, "+.3f" if b < 100 else "+.1f"), number(test["t"], ".2f")])
        rows[-1] += [number(test["p"], ".3g") if "p" in test else "", str(test["n"])]
        rows[-1] += [""] * (len(header) - len(rows[-1]))
    return rows


def pruning(summary: dict[str, Any]) -> Rows:
    """A header and a row for each condition: wires left, and their length, at half a point of accuracy, in percent."""
    header = [""] + [what for name in CUT_FIRST.values() for what in (f"{name}: wires %", "length %")]
    rows = [header]
    for name, numbers in summary["conditions"].items():
        rows.append([title(name)])
        for by in CUT_FIRST:
            for key in ("pruned_wires", "pruned_length"):
                rows[-1].append(number(100 * numbers[key][by], ".0f"))
    return rows


def seeds(summary: dict[str, Any]) -> Rows:
    """A header and a row for every network."""
    rows = [
        ["", "seed", "accuracy %", "loss", "variance in", "variance out", "wire length", "corr. out", "no variance"]
    ]
    for name, condition in summary["conditions"].items():
        for one in condition["per_seed"]:
            rows.append(
                [
                    title(name),
                    str(one["seed"]),
                    number(one["accuracy"], ".2f"),
                    number(one["loss"], ".3f"),
                    number(one["spatial_variance"]["input"], ".3f"),
                    number(one["spatial_variance"]["output"], ".3f"),
                    number(one["mean_wire_length"], ".2f"),
                    number(one["response_correlation"]["output"], "+.3f"),
                    str(sum(one["spatial_variance_undefined"].values())),
                ]
            )
    return rows


def number(value: float | None, form: str) -> str:
    """A number as text; a dash where it is undefined."""
    return "–" if value is None else format(value, form).replace("-", "−")


def network(study: Reproduction) -> str:
    """What is trained, in a sentence."""
    side = "×".join(map(str, study.sheet))
    units = study.sheet[0] * study.sheet[1]
    if study.alexnet is None:
        return f"Each network is a LeNet with a layer of {units:,} units, on a {side} sheet, between two such sheets."
    size = study.alexnet
    share = "" if size.width == 1 else f", its convolutions {size.width:g} times as wide"
    before = "the last convolution's 6×6 places" if size.layer == "fc6" else f"a {side} sheet"
    return (
        f"Each network is an AlexNet on crops of {size.crop}×{size.crop}{share}; its layer {size.layer}, of {units:,} "
        f"units, goes from {before} to a {side} sheet."
    )


def command(study: Reproduction) -> str:
    """The command that makes this study again."""
    recipe = study.recipe
    words = ["locality-prior", "reproduce", study.experiment]
    preset: Preset = "full"
    if study.alexnet is not None:
        preset = "full" if study.sheet == PRESETS["full"][2] else "small"
        words += ["--data-root", "DIR"]
        words += ["--preset", preset] if preset != "full" else []
        words += ["--layer", study.alexnet.layer] if study.alexnet.layer != "fc7" else []
    if recipe.optimizer != "sgd":
        words += ["--recipe", recipe.optimizer]
    standing, _, _ = standard(study.experiment, recipe.optimizer, preset)
    changed = {
        name: [f"--{name.replace('_', '-')}", str(getattr(recipe, name))]
        for name in ("epochs", "batch_size", "l1", "precision")
        if getattr(recipe, name) != getattr(standing, name)
    }
    words += [*changed.pop("epochs", []), "--seeds", *map(str, study.seeds)]
    words += [word for given in changed.values() for word in given]
    also = [cost for name, cost in study.conditions.items() if name not in (CONTROL, "local")]
    return shlex.join(words + (["--also", *also] if also else []))


def show(*tables: Rows, prose: str = "") -> None:
    """Print tables, each a header and rows of numbers but for the column called ``prose``, to the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    for rows in tables:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for k, name in enumerate(rows[0]):
            table.add_column(name, justify="right" if k and name != prose else "left", overflow="fold")
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
