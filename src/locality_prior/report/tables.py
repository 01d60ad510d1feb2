"""The tables of a comparison, for the terminal and for the page: rows of text from a summary."""

from __future__ import annotations

import shlex
from typing import Any

from locality_prior.experiments.config import CONTROL, RECIPES, Study

Rows = list[list[str]]

#: What is cut first, by the names of :func:`locality_prior.sparsify`.
CUT_FIRST = {"weight": "small |V|", "length": "long d", "cost": "small c|V|"}

#: What the source document reports for MNIST, its variances being the layer's output over 1,000 test images.
DOCUMENT: dict[str, dict[str, Any]] = {
    "mnist": {
        "conditions": {
            "control": {"accuracy": 98.1, "loss": 0.101, "variance": 8.667},
            "local": {"accuracy": 97.9, "loss": 0.122, "variance": 8.458},
        },
        "test": {"t": -6.49, "p": 1.35e-10, "n": 1000},
    }
}


def document(summary: dict[str, Any]) -> dict[str, Any] | None:
    """What the source document reports for this experiment, if it has it."""
    return DOCUMENT.get(summary["experiment"])


def title(condition: str) -> str:
    """A condition as a reader sees it: the cost of a further one says what it is."""
    return condition if "@" not in condition else "{} within {}".format(*condition.split("@"))


def results(summary: dict[str, Any]) -> Rows:
    """A header and a row for each condition, with the document's own beneath."""
    header = ["", "accuracy %", "loss", "variance in", "variance out", "wire length", "corr. out", "Moran's I out"]
    rows = [header]
    for name, numbers in summary["conditions"].items():
        variance = numbers["spatial_variance"]
        rows.append(
            [
                title(name),
                number(numbers["accuracy"], ".2f"),
                number(numbers["loss"], ".3f"),
                number(variance["input"], ".3f"),
                number(variance["output"], ".3f"),
                number(numbers["mean_wire_length"], ".2f"),
                number(numbers["response_correlation"]["output"], "+.3f"),
                number(numbers["morans_i"]["output"], "+.3f"),
            ]
        )
    for name, theirs in (document(summary) or {"conditions": {}})["conditions"].items():
        row = [
            f"{name}, document",
            f"{theirs['accuracy']:.1f}",
            f"{theirs['loss']:.3f}",
            "",
            f"{theirs['variance']:.3f}",
        ]
        rows.append(row + [""] * (len(header) - len(row)))
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
    theirs = document(summary)
    if theirs:
        a, b = (theirs["conditions"][name]["variance"] for name in ("local", "control"))
        test = theirs["test"]
        rows.append(["local, document", "output", number(a - b, "+.3f"), number(test["t"], ".2f")])
        rows[-1] += [number(test["p"], ".3g"), str(test["n"])]
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


def command(study: Study) -> str:
    """The command that makes this study again."""
    recipe = study.recipe
    words = ["locality-prior", "reproduce", study.experiment]
    if recipe.optimizer != "sgd":
        words += ["--recipe", recipe.optimizer]
    if recipe.epochs != RECIPES[recipe.optimizer].epochs:
        words += ["--epochs", str(recipe.epochs)]
    words += ["--seeds", *map(str, study.seeds)]
    if recipe.l1:
        words += ["--l1", str(recipe.l1)]
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
