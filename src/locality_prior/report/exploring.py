"""The explorer on the page: as many networks of a group, in as much detail, as some bytes hold."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from locality_prior.explorer.scene import Network, Scene, Sheet, Wires, pack
from locality_prior.report.files import Study
from locality_prior.report.pictures import class_names
from locality_prior.report.words import named_apart, plain, several


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
        kept: dict[str, Any] = {"factors": None, "epochs": None, "epoch_means": None}
        if sheet.factors is not None and self.factors:
            kept["factors"] = sheet.factors[: self.factors]
        if sheet.epochs is not None and sheet.epoch_means is not None and self.epochs:
            n = len(sheet.epochs)
            at = np.unique(np.linspace(0, n - 1, min(n, self.epochs)).round().astype(np.int64))
            kept |= {"epochs": sheet.epochs[at], "epoch_means": sheet.epoch_means[at]}
        return replace(sheet, **kept)


#: In which detail networks are shown: in the first in which one network of each condition fits, else in the last.
DETAILS = (Detail(32, 64, 33), Detail(8, 16, 5), Detail(0, 0, 0))


def scene(study: Study, group: dict[str, Any], room: int, against: str = "") -> tuple[dict[str, Any], bytes] | None:
    """What the explorer shows of a group, packed; None where it has no sheet that can be drawn.

    Args:
        study: the study.
        group: one of its groups.
        room: bytes that the packed arrays may take on the page.
        against: the condition whose network stands beside the control's at the start.
    """
    by_seed = _by_seed(study, group)
    if not by_seed:
        return None
    classes = _classes(study, group)
    first = next(iter(by_seed))
    conditions = len(by_seed[first])
    for detail in DETAILS:
        size = _size(_scene(study, classes, [detail.of(one) for one in by_seed[first]], "", against))
        if size <= room:
            break
    else:
        conditions = max(1, conditions * room // size)
    chosen = list(by_seed)[: max(1, room // max(size, 1))]
    # networks of other seeds may compress less well than the first ones
    while True:
        networks = [detail.of(one) for seed in chosen for one in by_seed[seed][:conditions]]
        packed = pack(_scene(study, classes, networks, _note(networks, by_seed, detail), against))
        if len(chosen) == 1 or _on_page(packed[1]) <= room:
            return packed
        chosen = chosen[:-1]


def _by_seed(study: Study, group: dict[str, Any]) -> dict[int, list[Network]]:
    """The networks of each seed, the control first; only those with a sheet that can be drawn."""
    found: dict[int, list[Network]] = {}
    sheets, layers = (dict(zip(group[key], named_apart(group[key]), strict=True)) for key in ("sheets", "layers"))
    for condition in group["conditions"]:
        for seed in study.seeds(group):
            shown = study.runs[condition, seed].network if (condition, seed) in study.runs else None
            if shown is not None and shown.sheets:
                found.setdefault(seed, []).append(_named(shown, sheets, layers))
    most = max(map(len, found.values()), default=0)
    return {seed: found[seed] for seed in sorted(found, key=lambda seed: (len(found[seed]) < most, seed))}


def _named(shown: Network, sheets: dict[str, str], layers: dict[str, str]) -> Network:
    """A network whose sheets and layers have the names that a reader sees."""

    def at(end: str | None) -> str | None:
        return None if end is None else sheets[end]

    wires = {layers[name]: replace(w, source=at(w.source), target=at(w.target)) for name, w in shown.layers.items()}
    return replace(shown, sheets={sheets[name]: sheet for name, sheet in shown.sheets.items()}, layers=wires)


def _classes(study: Study, group: dict[str, Any]) -> tuple[str, ...]:
    runs = (study.runs[c, seed] for c, seed in study.done if c in group["conditions"])
    return tuple(named_apart(class_names(group, next(runs))))


def _note(networks: list[Network], by_seed: dict[int, list[Network]], detail: Detail) -> str:
    """What is left out."""
    left = sum(map(len, by_seed.values())) - len(networks)
    said = []
    if left:
        said.append(f"{left} of {several(left + len(networks), 'network')} left out")
    if detail is not DETAILS[0]:
        said.append("wires and epochs thinned out" if detail.wires else "wires, correlations and epochs left out")
    return f"To keep this page small: {', '.join(said)}. lp.explore(DIR) shows everything." if said else ""


def _scene(study: Study, classes: tuple[str, ...], networks: list[Network], note: str, against: str) -> Scene:
    shown = study.label(against) if against else ""
    return Scene(plain(study.found["title"], 200), classes, tuple(networks), note, shown)


def _size(shown: Scene) -> int:
    return _on_page(pack(shown)[1])


def _on_page(data: bytes) -> int:
    """Bytes that ``data`` takes on the page."""
    return len(base64.b64encode(zlib.compress(data, 9)))
