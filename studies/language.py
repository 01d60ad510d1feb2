"""The transformers of studies/language.yaml on other sheets, and what they have learned of language.

When the study has run,

    python studies/language.py results/language

measures its networks, and the control before training too. For each one it finds the units of a sheet that respond
more to one set of windows than to another, asks whether they lie together, and scores BLiMP's minimal pairs. The
numbers go to ``language.csv`` in the study's folder, where networks that are already in it are not measured again, and
their means over seeds to the screen.

    python studies/language.py times results/language

says how long a step of training takes in each condition.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import locality_prior as lp
from locality_prior._timing import in_turns
from locality_prior.catalog import gpt
from locality_prior.catalog.language import Pairs, Text, blimp
from locality_prior.catalog.models import Sheets
from locality_prior.layers import locality_layers
from locality_prior.runs import Recipe, Shard, Task
from locality_prior.runs.config import read_run
from locality_prior.runs.machine import Machine
from locality_prior.runs.network import Network, network
from locality_prior.runs.training import task_of

#: The sheets whose units are looked at, and the share of units that is chosen.
SHEETS, TOP = ("block2.attention", "block2.hidden"), 0.05
#: Random divisions of the windows that the localizer compares its units with.
PERMUTATIONS = 199
#: How many pairs of each of BLiMP's paradigms are read.
PAIRS = 100
#: Sets of windows whose last characters are of two kinds.
KINDS = {"vowels": ("vowels", "consonants"), "capitals": ("capitals", "consonants"), "spaces": ("spaces", "consonants")}
#: The study's conditions, with their controls and what a figure calls them.
CALLED = {
    "linear, lr 0.004": ("control", "linear cost"),
    "linear@3, lr 0.004": ("control", "wires within 3"),
    "linear@3 shuffled, lr 0.004": ("control", "as many wires, shuffled"),
    "control, gpt (window 8)": ("control", "attention to 8 characters"),
    "topoloss:10, mlps": ("control, mlps", "TopoLoss"),
    "mask:0.11, projections": ("control, projections", "Topoformer's masks"),
    "spatial_correlation:2.5,neighbourhoods=5,radius=5, sublayers": ("control, sublayers", "TopoLM's loss"),
}
#: The measures that the figure shows.
DRAWN = {
    "bits_per_byte": "bits a byte",
    "morans_i.block2.attention": "Moran's I, attention",
    "morans_i.block2.hidden": "Moran's I, hidden units",
}


def mlps(task: Text) -> Sheets:
    """The first layer of each MLP alone may be local, as TopoNets has its loss on GPT-2's ``c_fc``."""
    net = gpt(task)
    return Sheets(
        dict(net.named_children()), net.place, {name: at for name, at in net.local.items() if name.endswith(".up")}
    )


def projections(task: Text) -> Sheets:
    """Attention's projections alone may be local, on sheets that are closed to a torus, as Topoformer has them."""
    net, torus = gpt(task), lp.Grid(16, 16, periodic=True)
    net.local = {name: (torus, torus) for name in net.local if ".attention." in name}
    net.place = {name: torus if name.endswith(".attention") else sheet for name, sheet in net.place.items()}
    return net


def sublayers(task: Text) -> Sheets:
    """The sheets are the outputs of attention and of the MLP in each block, as TopoLM has its loss on them."""
    net = gpt(task)
    place = {name.replace("hidden", "down"): net.place["block1.attention"] for name in net.place}
    return Sheets(dict(net.named_children()), place, net.local)


def networks(run: Path) -> tuple[Text, dict[str, Network]]:
    """The task of a run, and its network as it is before training and after."""
    settings = read_run(run)
    task = task_of(settings, None, Machine())
    assert isinstance(task, Text)
    found = {when: network(settings, task) for when in ("untrained", "trained")}
    model, path = found["trained"].model, run / "model.safetensors"
    if any(True for _ in locality_layers(model)):
        lp.load(path, model)
    else:
        from safetensors.torch import load_model

        load_model(model, path)
    return task, found


def contrasts(task: Text) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Pairs of sets of windows, by name: of two kinds of last characters, and of text against scrambled text.

    Scrambled windows are the same ones, each with all of its characters but the last in a random order.
    """
    kept = list(task.kept())
    windows, kinds = torch.cat([b.inputs for b in kept]), torch.cat([b.labels for b in kept])
    for name, ends in KINDS.items():
        one, other = (windows[kinds == task.classes.index(kind)] for kind in ends)
        yield name, one, other
    generator = torch.Generator().manual_seed(0)
    scrambled = windows.clone()
    for row in scrambled:
        row[:-1] = row[torch.randperm(len(row) - 1, generator=generator)]
    yield "text", windows, scrambled


@torch.no_grad()
def responses(net: Network, windows: Tensor) -> dict[str, Tensor]:
    """Responses of each sheet's units at each window's last token, (windows, units)."""
    with net.placed.record(items="last") as seen:
        net.model(windows)
        return {name: seen[name] for name in net.placed}


def measured(net: Network, task: Text, pairs: Pairs) -> Iterator[tuple[str, str, float | None]]:
    """The measures of one network: sheet, name and value."""
    net.model.eval()
    yield from maps(net, task)
    for name, *sets in contrasts(task):
        one, other = (responses(net, windows) for windows in sets)
        for sheet in SHEETS:
            if sheet not in net.placed:
                continue
            geometry = net.placed[sheet].geometry
            found = lp.analysis.localizer(one[sheet], other[sheet], geometry, top=TOP, permutations=PERMUTATIONS)
            yield sheet, f"{name}: significant units", float(found.significant.mean())
            yield sheet, f"{name}: Moran's I", found.moran.i
            yield sheet, f"{name}: p, places", found.moran.p
            yield sheet, f"{name}: p, items", found.p_items
    good, bad = (task.log_probabilities(net.model, sentences) for sentences in (pairs.good, pairs.bad))
    for paradigm, told in lp.analysis.minimal_pairs(good, bad, pairs.paradigm).items():
        yield "", f"BLiMP {paradigm}", told.accuracy


def maps(net: Network, task: Text) -> Iterator[tuple[str, str, float | None]]:
    """Moran's I of the maps of kinds of characters: at the units' own places, and at those that an arrangement finds.

    Every other window says how the units are arranged, and the rest are those that the maps are of.
    """
    kept = list(task.kept())
    seen = responses(net, torch.cat([b.inputs for b in kept]))
    kinds = np.concatenate([b.labels.numpy() for b in kept])
    there = np.unique(kinds)
    for sheet in (name for name in SHEETS if name in seen):
        found, geometry = seen[sheet].numpy(), net.placed[sheet].geometry
        means = lp.analysis.class_means(found[1::2], kinds[1::2])[there]
        order = lp.arrange.by_similarity(seen[sheet][::2], geometry)
        for where, at in (("own places", geometry), ("arranged", geometry.permuted(order))):
            moran = np.asarray(lp.analysis.morans_i(means, at, permutations=1).i, dtype=np.float64)
            yield sheet, f"Moran's I of kinds, {where}", float(np.nanmean(moran))


def some(pairs: Pairs) -> Pairs:
    """The first pairs of each paradigm."""
    rank: dict[str, int] = {}
    first = []
    for k, paradigm in enumerate(pairs.paradigm):
        rank[paradigm] = rank.get(paradigm, 0) + 1
        first += [k] if rank[paradigm] <= PAIRS else []
    return Pairs(*([part[k] for k in first] for part in pairs))


def main(directory: str) -> None:
    """Measure the networks that are not measured yet, and print the mean of each measure over the seeds."""
    home = Path(directory)
    to, pairs = home / "language.csv", some(blimp())
    fields = ["run", "condition", "when", "seed", "sheet", "measure", "value"]
    rows: list[dict[str, str]] = []
    if to.exists():
        with to.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    there = {row["run"] for row in rows}
    for path, told in analysed(home).items():
        if path in there:
            continue
        task, both = networks(home / path)
        print(path, flush=True)
        if told["condition"] != "control":
            del both["untrained"]  # which differs by its places alone
        for when, net in both.items():
            about = {"run": path, "condition": told["condition"], "when": when, "seed": str(told["seed"])}
            for sheet, measure, value in measured(net, task, pairs):
                rows.append(about | {"sheet": sheet, "measure": measure, "value": "" if value is None else str(value)})
        with to.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fields)
            writer.writeheader()
            writer.writerows(rows)
    tell(rows)
    draw(list(analysed(home).values()), home / "figures" / "cost.png")


def analysed(home: Path) -> dict[str, Any]:
    """What each run that has ended says of itself, by its folder."""
    found = sorted(home.glob("runs/*/analysis.json"))
    return {path.parent.relative_to(home).as_posix(): json.loads(path.read_text("utf-8")) for path in found}


def times(directory: str) -> None:
    """Print how long a step of training takes in each condition: medians over turns, on one thread."""
    torch.set_num_threads(1)
    home, steps = Path(directory), {}
    for path, told in analysed(home).items():
        if told["condition"] not in steps:
            settings = read_run(home / path)
            task = task_of(settings, None, Machine())
            steps[told["condition"]] = step(network(settings, task), task, settings.recipe)
    found = in_turns(steps, rounds=7, turn=1000.0)
    for condition, ms in found.items():
        print(f"{ms:8.1f} ms  {ms / found['control']:5.2f}  {condition}")


def step(net: Network, task: Task, recipe: Recipe) -> Callable[[], None]:
    """A step of training, halfway through, on one batch again and again."""
    batch = next(iter(task.epoch(1, 1, recipe.batch_size, Shard())))
    optimizer = torch.optim.AdamW(net.model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)

    def call() -> None:
        optimizer.zero_grad()
        loss = task.loss(net.model(batch.inputs), batch.targets)
        for objective in net.objectives:
            loss = loss + objective(0.5) if objective.LOSS else loss
        loss.backward()
        optimizer.step()

    return call


def tell(rows: list[dict[str, str]]) -> None:
    """Print the mean over seeds of each measure, a line for each condition."""
    by: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = {}
    for row in rows:
        if row["value"]:
            values = by.setdefault((row["sheet"], row["measure"]), {})
            values.setdefault((row["condition"], row["when"]), []).append(float(row["value"]))
    for (sheet, measure), values in by.items():
        print(f"{sheet} {measure}".strip())
        for (condition, when), one in values.items():
            print(f"  {np.mean(one):8.4f}  {min(one):8.4f} … {max(one):8.4f}  {when:9}  {condition}")


def draw(runs: list[dict[str, Any]], to: Path) -> None:
    """What each condition costs and how clear its maps are, each less those of its control of the same seed."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from scipy.stats import t

    at = {(run["condition"], run["seed"]): run["measures"] for run in runs}
    figure, axes = plt.subplots(1, len(DRAWN), figsize=(9.5, 3.6), sharey=True, layout="constrained")
    for ax, (measure, called) in zip(axes, DRAWN.items(), strict=True):
        for k, (condition, (control, _)) in enumerate(CALLED.items()):
            seeds = sorted(seed for name, seed in at if name == condition and (control, seed) in at)
            pairs = [(at[condition, seed].get(measure), at[control, seed].get(measure)) for seed in seeds]
            values = [one - other for one, other in pairs if one is not None and other is not None]
            ax.plot(values, np.full(len(values), -k), "o", color=f"C{k}", ms=4, alpha=0.5, mew=0)
            if len(values) > 1:
                half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
                ax.errorbar(np.mean(values), -k, xerr=half, fmt="|", color=f"C{k}", ms=10, capsize=2)
        ax.axvline(0, color="0.7", lw=0.8, zorder=0)
        ax.set_xlabel(f"{called}, less the control's")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(-np.arange(len(CALLED)), [called for _, called in CALLED.values()])
    to.parent.mkdir(exist_ok=True)
    figure.savefig(to, dpi=150)


if __name__ == "__main__":
    if sys.argv[1:2] == ["times"]:
        times(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
