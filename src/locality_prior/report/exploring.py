"""The explorer on the page: as many networks of a group, in as much detail, as some bytes hold."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from locality_prior.explorer.scene import Network, Scene, Sheet, Wires, pack
from locality_prior.report.files import Study
from locality_prior.report.pictures import class_names
from locality_prior.report.words import listed, named_apart, plain, several


@dataclass(frozen=True)
class Detail:
    """How much of a network is shown: at most so many wires into a unit, factors of the correlation, and epochs."""

    wires: int
    factors: int
    epochs: int

    def of(self, shown: Network) -> Network:
        """A network in this detail."""
        layers = {name: self._wires(one) for name, one in shown.layers.items()} if self.wires else {}
        return replace(shown, sheets={name: self._sheet(one) for name, one in shown.sheets.items()}, layers=layers)

    def _wires(self, wires: Wires) -> Wires:
        arrays = {name: getattr(wires, name)[:, : self.wires] for name in ("origin", "weight", "distance", "rank")}
        return replace(wires, **arrays)

    def _sheet(self, sheet: Sheet) -> Sheet:
        kept: dict[str, Any] = {"factors": None, "epochs": None, "epoch_means": None, "epoch_xy": None}
        if sheet.factors is not None and self.factors:
            kept["factors"] = sheet.factors[: self.factors]
        if sheet.epochs is not None and self.epochs:
            n = len(sheet.epochs)
            at = np.unique(np.linspace(0, n - 1, min(n, self.epochs)).round().astype(np.int64))
            kept["epochs"] = sheet.epochs[at]
            kept |= {key: a[at] for key in ("epoch_means", "epoch_xy") if (a := getattr(sheet, key)) is not None}
        return replace(sheet, **kept)


#: How many networks are packed to see how large one is.
SAMPLE = 4
#: In which detail networks are shown: in the first in which one network of each condition fits, else in the last.
DETAILS = (
    Detail(32, 64, 33),
    Detail(16, 32, 9),
    Detail(8, 16, 5),
    Detail(4, 16, 3),
    Detail(0, 16, 3),
    Detail(0, 0, 3),
    Detail(0, 0, 0),
)


def scene(study: Study, group: dict[str, Any], room: int, against: str = "") -> tuple[dict[str, Any], bytes] | None:
    """What the explorer shows of a group, packed; None where there is nothing to draw, or no room for one network.

    Args:
        study: the study.
        group: one of its groups.
        room: bytes that the packed arrays may take on the page.
        against: the condition whose network stands beside the control's at the start.
    """
    classes, by_seed, others = _by_seed(study, group)
    if not by_seed:
        return None
    beside = study.label(against) if against else ""
    title = plain(study.found["title"], 200)

    def packed(networks: list[Network], note: str = "") -> tuple[tuple[dict[str, Any], bytes], int]:
        made = pack(Scene(title, classes, tuple(networks), note, beside))
        return made, _on_page(made[1])

    seeds = list(by_seed)
    conditions = len(by_seed[seeds[0]])
    for detail in DETAILS:
        some = [detail.of(shown) for shown in by_seed[seeds[0]][:SAMPLE]]
        one = packed(some)[1] / len(some)
        if one * conditions <= room:
            break
    # networks compress more or less well, so the first guess is a little too large
    seeds = seeds[: 1 + int(1.2 * room / (one * conditions))]
    conditions = min(conditions, 1 + int(1.2 * room / one))
    while True:
        networks = [detail.of(shown) for seed in seeds for shown in by_seed[seed][:conditions]]
        made, size = packed(networks, _note(networks, by_seed, others, detail))
        if size <= room:
            return made
        if len(seeds) > 1:
            seeds = seeds[:-1]
        elif conditions > 1:
            conditions = min(conditions - 1, conditions * room // size)
        else:
            return None


def _by_seed(study: Study, group: dict[str, Any]) -> tuple[tuple[str, ...], dict[int, list[Network]], int]:
    """The names of the classes, the networks of each seed, and how many networks cannot be shown beside them.

    The control comes first. A network is left out if it has no sheet that can be drawn, or maps of other classes.
    """
    found: dict[int, list[Network]] = {}
    sheets, layers = (dict(zip(group[key], named_apart(group[key]), strict=True)) for key in ("sheets", "layers"))
    classes: list[str] | None = None
    others = 0
    for condition in group["conditions"]:
        for seed in study.seeds(group):
            run = study.runs.get((condition, seed))
            if run is None or run.network is None:
                continue
            own = class_names(group, run) if "classes" in run.arrays else []
            if not run.network.sheets or classes not in (None, own):
                others += 1
                continue
            classes = own
            found.setdefault(seed, []).append(_named(run.network, sheets, layers))
    most = max(map(len, found.values()), default=0)
    by_seed = {seed: found[seed] for seed in sorted(found, key=lambda seed: (len(found[seed]) < most, seed))}
    return tuple(named_apart(classes or [])), by_seed, others


def _named(shown: Network, sheets: dict[str, str], layers: dict[str, str]) -> Network:
    """A network whose sheets and layers have the names that a reader sees."""

    def at(end: str | None) -> str | None:
        return None if end is None else sheets[end]

    wires = {layers[name]: replace(w, source=at(w.source), target=at(w.target)) for name, w in shown.layers.items()}
    return replace(shown, sheets={sheets[name]: sheet for name, sheet in shown.sheets.items()}, layers=wires)


def _note(networks: list[Network], by_seed: dict[int, list[Network]], others: int, detail: Detail) -> str:
    """What is left out."""
    left = sum(map(len, by_seed.values())) - len(networks)
    said = []
    if left:
        said.append(f"{left} of {several(left + len(networks), 'network')} left out")
    if detail is not DETAILS[0]:
        kept = [("wires", detail.wires), ("correlations", detail.factors), ("epochs", detail.epochs)]
        for verb, parts in (("thinned out", [n for n, k in kept if k]), ("left out", [n for n, k in kept if not k])):
            if parts:
                said.append(f"{listed(parts)} {verb}")
    notes = [f"To keep this page small: {'; '.join(said)}. lp.explore(DIR) shows everything."] if said else []
    if others:
        notes.append(f"Without maps of these classes, and left out: {several(others, 'network')}.")
    return " ".join(notes)


def _on_page(data: bytes) -> int:
    """Bytes that ``data`` takes on the page."""
    return -(-len(zlib.compress(data, 9)) // 3) * 4
