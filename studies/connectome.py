r"""A recurrent network with the wiring of a worm, and its null wirings, for studies/connectome.yaml.

    pip download --no-deps --dest worm cect==0.3.5 c302==0.12.1
    LOCALITY_PRIOR_WORM=worm locality-prior study studies/connectome.yaml --out results/connectome

*Caenorhabditis elegans* has 302 neurons. Which of them are joined is read from ``cect`` (the hermaphrodite of Cook et
al., Nature 571, 63–71, 2019), and where their cell bodies lie from ``c302`` (OpenWorm). Both are wheels under the MIT
licence. Only the files in them are read: nothing is imported from them, and none of their dependencies is needed.
Installed packages of these names are read too. When the study has run,

    LOCALITY_PRIOR_WORM=worm python studies/connectome.py results/connectome

tells whether neurons respond alike if they are near each other, or if they are left and right partners.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import sys
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import locality_prior as lp
from locality_prior.runs import Task

#: The folder with the two wheels, or with the two packages unpacked.
VARIABLE = "LOCALITY_PRIOR_WORM"
#: Positions are in units of 10 µm. A cell body's nearest neighbour is 2.5 µm away (the median).
MICROMETRES = 10.0
#: The types of sensory neurons in cect's table. (A motor neuron's type says so before its first semicolon.)
SENSORY = {"Amphid", "Amphid, nociceptive", "Cephalic", "Mechanosensory", "O2, CO2, social signals, touch"} | {
    "Phasmid",
    "Touch",
}
#: Steps without input before the answer is read, so that the last row can reach the motor neurons.
AFTER = 4
#: What a figure calls the study's conditions.
CALLED = {
    "control": "dense",
    "flat@100": "the animal's wires",
    "flat@100 shuffled": "shuffled: as many wires into each neuron",
    "control, rewired": "rewired: as many into and out of each",
    "control, nearby": "nearby: as many wires of each length",
}
#: :func:`nearby` sorts pairs of neurons by length into this many bins, each of which keeps its number of wires.
BINS = 50

Matrix = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Worm:
    """302 neurons: names, types, positions (302, 3) in 10 µm, and which are joined, (to, from).

    ``chemical`` has, for each pair, the number of serial sections of the microscope that its synapses span;
    ``electrical`` has the same for gap junctions, which act both ways.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]
    positions: npt.NDArray[np.float64]
    chemical: npt.NDArray[np.float64]
    electrical: npt.NDArray[np.float64]

    @property
    def wires(self) -> Matrix:
        """Where one neuron acts on another by a chemical synapse or a gap junction, (to, from)."""
        return (self.chemical + self.electrical) > 0

    @property
    def sensory(self) -> list[int]:
        """Numbers of the sensory neurons."""
        return [k for k, one in enumerate(self.types) if one in SENSORY]

    @property
    def motor(self) -> list[int]:
        """Numbers of the motor neurons."""
        return [k for k, one in enumerate(self.types) if "motor neuron" in one.partition(";")[0]]


@lru_cache(maxsize=2)
def worm(folder: str | None = None) -> Worm:
    """The worm, read from cect and c302: in ``folder``, in the environment variable's folder, or as installed.

    Raises:
        ValueError: one of them is missing, or does not hold what is expected.
    """
    cect, c302 = package("cect", folder), package("c302", folder)
    found = json.loads((cect / "cache" / "Cook2019HermReader.json").read_text("utf-8"))
    table = csv.DictReader(io.StringIO((cect / "data" / "all_cell_info.csv").read_text("utf-8-sig")))
    types = {row["Cell name"]: row["Type"] for row in table}
    at = {}
    for file in (c302 / "NeuroML2").iterdir():
        name = file.name.removesuffix(".cell.nml")
        if name != file.name and "muscle" not in types.get(name, "muscle").lower():
            at[name] = soma(file.read_text("utf-8"))
    names = tuple(sorted(at))
    missing = sorted(set(names) - set(found["nodes"]))
    if missing or not names:
        raise ValueError(f"worm: got no wiring of {', '.join(missing) or 'any neuron'}, expected that of each in c302")
    rows = [found["nodes"].index(name) for name in names]
    # cect has the sending neuron in the rows
    chemical, electrical = (
        np.array(found["connections"][kind], dtype=np.float64)[np.ix_(rows, rows)].T
        for kind in ("Generic_CS", "Generic_GJ")
    )
    positions = np.array([at[name] for name in names]) / MICROMETRES
    return Worm(names, tuple(types[name] for name in names), positions, chemical, electrical)


def package(name: str, folder: str | None = None) -> Any:
    """The files of a package: in its wheel or unpacked in ``folder``, or as it is installed. It is not imported."""
    where = folder or os.environ.get(VARIABLE)
    if where is not None:
        home = Path(where).expanduser()
        if (home / name).is_dir():
            return home / name
        if wheels := sorted(home.glob(f"{name}-*.whl")):
            return zipfile.Path(wheels[-1], f"{name}/")
    else:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            return Path(spec.submodule_search_locations[0])
    told = f"none in {where}" if where is not None else f"none installed, and no {VARIABLE}"
    raise ValueError(f"{name}: got {told}, expected its wheel: pip download --no-deps --dest FOLDER {name}")


def soma(text: str) -> list[float]:
    """Where a cell's body is, in micrometres: the first segment of its NeuroML morphology."""
    space = "{http://www.neuroml.org/schema/neuroml2}"
    point = ElementTree.fromstring(text).find(f".//{space}segment/{space}proximal")
    if point is None:
        raise ValueError("soma: got a cell without a segment, expected a NeuroML morphology")
    return [float(point.attrib[axis]) for axis in "xyz"]


# --- the task --------------------------------------------------------------------------------------------------------


def rows(data_root: str | None = None) -> Task:
    """Every third of MNIST's images to train with and every fifth to test with, for a network to read row by row."""
    from torchvision.datasets import MNIST

    train, test = (MNIST(data_root or os.environ["LOCALITY_PRIOR_DATA"], train=part) for part in (True, False))
    return Task.classification(
        train=(train.data[::3, None], train.targets[::3]),
        test=(test.data[::5, None], test.targets[::5]),
        validation=0.05,
        classes=[str(k) for k in range(10)],
        transform=scaled,
        name="rows",
    )


def scaled(pixels: Tensor) -> Tensor:
    """Bytes as numbers around 0."""
    return (pixels.float() / 255 - 0.1307) / 0.3081


# --- networks --------------------------------------------------------------------------------------------------------


class Nervous(nn.Module):
    """A recurrent network that reads an image row by row with its sensory neurons, and answers by its motor neurons.

    h_t = ½ h_{t−1} + ½ tanh(W h_{t−1} + b + U x_t), with U x_t at the sensory neurons alone; after the last row come a
    few steps without input, and then the answer is a linear function of the motor neurons' h. ``local`` names W, whose
    wires a condition makes those of the animal.
    """

    def __init__(self, animal: Worm, wires: Matrix | None = None) -> None:
        super().__init__()
        n = len(animal.names)
        places = lp.Points(animal.positions)
        self.sense = nn.Linear(28, len(animal.sensory))
        self.recurrent = nn.Linear(n, n)
        self.state = nn.Identity()
        self.answer = nn.Linear(len(animal.motor), 10)
        self.place = {"state": places}
        self.local = {"recurrent": lp.Wired(animal.wires, places)}
        self.register_buffer("sensory", torch.tensor(animal.sensory), persistent=False)
        self.register_buffer("motor", torch.tensor(animal.motor), persistent=False)
        if wires is not None:
            parametrize.register_parametrization(self.recurrent, "weight", Only(wires))

    def forward(self, images: Tensor) -> Tensor:
        rows = images.flatten(1, 2)  # one channel
        n = self.recurrent.out_features
        driven = rows.new_zeros(*rows.shape[:2], n).index_copy(2, self.sensory, self.sense(rows))
        h = rows.new_zeros(len(rows), n)
        with parametrize.cached():
            for t in range(rows.shape[1] + AFTER):
                inward = self.recurrent(h)
                h = (h + torch.tanh(inward + driven[:, t] if t < rows.shape[1] else inward)) / 2
        return self.answer(self.state(h)[:, self.motor])


class Only(nn.Module):
    """W → W∘M: a weight with only the wires of a mask M."""

    def __init__(self, wires: Matrix) -> None:
        super().__init__()
        self.register_buffer("wires", torch.from_numpy(wires), persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.wires


def animal(folder: str | None = None) -> nn.Module:
    """Neurons at their places. The cost ``flat@100`` (1 mm) gives them the animal's wires; without one it is dense."""
    return Nervous(worm(folder))


def rewired(folder: str | None = None) -> nn.Module:
    """The animal's wires with their ends exchanged at random: each neuron has as many incoming and outgoing ones."""
    found = worm(folder)
    return Nervous(found, exchanged(found.wires, _seed()))


def nearby(folder: str | None = None) -> nn.Module:
    """As many wires of each length as the animal has, but between neurons that are drawn at random."""
    found = worm(folder)
    lengths = lp.Points(found.positions).distances().numpy()
    return Nervous(found, as_long(found.wires, lengths, _seed()))


def _seed() -> int:
    # the study seeds torch before it asks for a network; drawing from torch would change the weights that come next
    return torch.initial_seed()


# --- null wirings ----------------------------------------------------------------------------------------------------


def exchanged(wires: Matrix, seed: int, times: int = 20) -> Matrix:
    """``wires`` with the targets of two wires exchanged, ``times`` times as often as there are wires.

    An exchange is left out if it would change or make a neuron's wire to itself, or double a wire. Every neuron keeps
    its numbers of incoming and outgoing wires (Maslov & Sneppen 2002).
    """
    generator = np.random.default_rng(seed)
    made = wires.copy()
    own = np.diag(np.diag(wires))
    targets, sources = np.nonzero(wires & ~own)
    for one, other in generator.integers(len(targets), size=(times * len(targets), 2)):
        a, b, i, j = sources[one], sources[other], targets[one], targets[other]
        if i == j or a in (b, j) or b == i or made[j, a] or made[i, b]:
            continue
        made[i, a] = made[j, b] = False
        made[j, a] = made[i, b] = True
        targets[one], targets[other] = j, i
    return made


def as_long(wires: Matrix, lengths: npt.NDArray[np.float64], seed: int, bins: int = BINS) -> Matrix:
    """As many wires as ``wires`` has among the pairs of about each length, drawn at random. Wires to itself stay."""
    generator = np.random.default_rng(seed)
    apart = ~np.eye(len(wires), dtype=bool)
    edges = np.unique(np.quantile(lengths[apart], np.linspace(0, 1, bins + 1)))
    bin_of = np.searchsorted(edges[1:-1], lengths, side="right")
    made = wires & ~apart
    for k in range(max(1, len(edges) - 1)):
        pairs = np.flatnonzero((bin_of == k) & apart)
        count = int(wires.flat[pairs].sum())
        made.flat[generator.choice(pairs, count, replace=False)] = True
    return made


# --- do neighbours respond alike? ------------------------------------------------------------------------------------


def kinds(found: Worm) -> dict[str, Matrix]:
    """Some kinds of pairs of neurons, each as a matrix whose upper half counts."""
    d = lp.Points(found.positions).distances().numpy() * MICROMETRES
    number = {name: k for k, name in enumerate(found.names)}
    partners = np.zeros(d.shape, dtype=bool)
    for name, k in number.items():
        if name.endswith("L") and (other := number.get(f"{name[:-1]}R")) is not None:
            partners[min(k, other), max(k, other)] = True
    return {
        "left and right partners": partners,
        "others up to 10 µm apart": (d <= 10) & ~partners,
        "others up to 25 µm apart": (d <= 25) & ~partners,
    }


def excess(likeness: npt.NDArray[np.float64], chosen: Matrix) -> float:
    """The mean of a symmetric matrix over some pairs of neurons, less that over all pairs; NaN is left out."""
    counts = np.triu(np.isfinite(likeness), 1)
    return float(likeness[counts & chosen].mean() - likeness[counts].mean())


def correlation(responses: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """|r| of the responses of any two neurons.

    The sign is left out, since it is a matter of chance in a hidden unit: with the signs of all its weights changed,
    the network would compute the same.
    """
    with np.errstate(invalid="ignore", divide="ignore"):  # of units that always respond alike
        return np.abs(np.corrcoef(responses.T))


def in_common(wires: Matrix) -> npt.NDArray[np.float64]:
    """The share of the neurons acting on one of two neurons that act on both."""
    w = wires.astype(np.float64)
    both, each = w @ w.T, w.sum(1)
    return both / (each[:, None] + each - both)


def main(directory: str) -> None:
    """Print the mean of each measure over the seeds of each condition, and how the animal's differs from it."""
    from scipy.stats import ttest_rel

    found, home = worm(), Path(directory)
    chosen = kinds(found)
    seen: dict[str, dict[int, npt.NDArray[np.float64]]] = {}
    accuracy: dict[str, list[float]] = {}
    for cell in json.loads((home / "study.json").read_text("utf-8"))["cells"]:
        if cell["measures"] is not None:
            with np.load(home / cell["run"] / "activations.npz") as arrays:
                alike = correlation(arrays["sheet/state"].astype(np.float64))
            seen.setdefault(cell["condition"], {})[cell["seed"]] = alike
            accuracy.setdefault(cell["condition"], []).append(cell["measures"]["accuracy"])
    lengths, seeds = lp.Points(found.positions).distances().numpy(), sorted(seen["flat@100"])
    shared = {
        "flat@100": in_common(found.wires),
        "control, rewired": sum(in_common(exchanged(found.wires, seed)) for seed in seeds) / len(seeds),
        "control, nearby": sum(in_common(as_long(found.wires, lengths, seed)) for seed in seeds) / len(seeds),
    }
    for kind, pairs in chosen.items():
        print(f"{kind}: {int(np.triu(pairs, 1).sum())} pairs")
        for condition, likeness in shared.items():
            print(f"  sources in common, {condition:18} {excess(likeness, pairs):+.4f}")
        for condition, told in seen.items():
            both = sorted(told.keys() & set(seeds))
            ours, theirs = (np.array([excess(each[s], pairs) for s in both]) for each in (seen["flat@100"], told))
            line = f"  |r|, {condition:18} {theirs.mean():+.4f}"
            if condition != "flat@100":
                test = ttest_rel(ours, theirs)
                low, high = test.confidence_interval()
                line += f"; animal − this {(ours - theirs).mean():+.4f} [{low:+.4f}, {high:+.4f}], "
                line += f"t({len(both) - 1}) = {test.statistic:.2f}, p = {test.pvalue:.2g}"
            print(line)
    draw(accuracy, seen, lengths * MICROMETRES, home / "figures" / "alike.png")


def draw(
    accuracy: dict[str, list[float]],
    seen: dict[str, dict[int, npt.NDArray[np.float64]]],
    lengths: npt.NDArray[np.float64],
    to: Path,
) -> None:
    """Accuracies, and how alike pairs of neurons of each distance respond: means over networks, 95 % intervals."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from scipy.stats import t

    def half(values: Any) -> Any:
        return t.ppf(0.975, len(values) - 1) * np.std(values, axis=0, ddof=1) / np.sqrt(len(values))

    upper = np.triu_indices(len(lengths), 1)
    edges = np.array([0, 5, 10, 20, 40, 80, 160, 320, 800])
    bin_of = np.searchsorted(edges, lengths[upper], side="right") - 1
    middle = [float(np.median(lengths[upper][bin_of == k])) for k in range(len(edges) - 1)]
    figure, (scores, alike) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=[2, 3], layout="constrained")
    for k, (condition, called) in enumerate(CALLED.items()):
        values = accuracy[condition]
        scores.plot(values, np.full(len(values), -k), "o", color=f"C{k}", ms=4, alpha=0.5, mew=0)
        scores.errorbar(np.mean(values), -k, xerr=half(values), fmt="|", color=f"C{k}", ms=10, capsize=2)
        told = [one[upper] - np.nanmean(one[upper]) for one in seen[condition].values()]
        r = np.array([[np.nanmean(one[bin_of == b]) for b in range(len(middle))] for one in told])
        alike.errorbar(middle, r.mean(0), half(r), marker="o", ms=4, lw=1.4, capsize=2, label=called)
    scores.set_yticks(-np.arange(len(CALLED)), [called.partition(":")[0] for called in CALLED.values()])
    scores.set(xlabel="accuracy (%)", ylim=(0.5 - len(CALLED), 0.5))
    alike.set(xscale="log", xlabel="distance between cell bodies (µm)", ylabel="mean |r|, less that of all pairs")
    alike.axhline(0, color="0.7", lw=0.8, zorder=0)
    alike.legend(frameon=False, fontsize="small")
    for ax in (scores, alike):
        ax.spines[["top", "right"]].set_visible(False)
    to.parent.mkdir(exist_ok=True)
    figure.savefig(to, dpi=150)


if __name__ == "__main__":
    main(*sys.argv[1:])
