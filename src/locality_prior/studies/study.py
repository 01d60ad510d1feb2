"""What a study is: every combination of some settings, under every seed, and what is asked of the comparison."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from locality_prior import cost as costs
from locality_prior._check import positive, wrong
from locality_prior._files import write_text
from locality_prior.experiments.config import (
    CONTROL,
    DataName,
    Preset,
    RecipeName,
    Run,
    known,
    plain,
    read_config,
    standard,
    vacant,
)
from locality_prior.experiments.measure import NAMES

#: What a study's directory holds, beside its runs.
STUDY, FINDINGS = "study.yaml", "study.json"

Expected = Literal["lower", "higher", "alike"]
#: What a condition is told by.
SETTINGS = ("cost", "shuffled", "data", "optimizer", "weight_decay", "l1", "sheet", "epochs")


@dataclass(frozen=True)
class Axes:
    """Settings to combine. The control of each combination, the flat cost, is always among its costs.

    Args:
        data: data sets.
        seeds: of the networks; each is a pair for a test.
        cost: costs in one word, ``name[:length[,p]][@radius]``.
        shuffled: costs of which the null is trained too, each row of P in an order of its own.
        scale: what the costs' lengths are multiplied by.
        optimizer: recipes; what is not named below is theirs.
        weight_decay: of all parameters, L2; none: the recipe's.
        l1: λ of λ‖W‖₁ of the locality layer.
        sheet: units of the layer, as in ``7x7``; none: the experiment's.
        epochs: of each network; None: the recipe's.
        preset: of imagenet: ``full`` or ``small``.
    """

    data: tuple[DataName, ...] = ("digits",)
    seeds: tuple[int, ...] = (1, 2, 3)
    cost: tuple[str, ...] = ("flat", "linear")
    shuffled: tuple[str, ...] = ()
    scale: tuple[float, ...] = (1.0,)
    optimizer: tuple[RecipeName, ...] = ("sgd",)
    weight_decay: tuple[float, ...] = ()
    l1: tuple[float, ...] = (0.0,)
    sheet: tuple[str, ...] = ()
    epochs: int | None = None
    preset: Preset = "full"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            given = getattr(self, field.name)
            if not field.type.startswith("tuple"):
                continue
            kind = float if "float" in field.type else int if "int" in field.type else str
            if not isinstance(given, (list, tuple)):
                given = (given,)
            try:  # YAML takes 1e-4 for a word
                if any(isinstance(v, bool) or (kind is not float and not isinstance(v, kind)) for v in given):
                    raise TypeError
                values = tuple(kind(v) for v in given)
            except (TypeError, ValueError):
                raise wrong(field.name, list(given), f"values of type {kind.__name__}") from None
            if len(set(values)) < len(values) or not (values or field.default == ()):
                raise wrong(field.name, list(given), "one or more different values")
            object.__setattr__(self, field.name, values)
        known("preset", self.preset, get_args(Preset))
        self.conditions()

    def conditions(self) -> list[Run]:
        """Every combination, with the first of the seeds: each control, the costs after it, and then their nulls."""
        found = []
        words = [*dict.fromkeys(costs.word(costs.scaled(costs.parse(c), s)) for c in self.cost for s in self.scale)]
        nulls = [*dict.fromkeys(costs.word(costs.scaled(costs.parse(c), s)) for c in self.shuffled for s in self.scale)]
        if "flat" in nulls:
            raise wrong("shuffled", "flat", "costs that depend on distance")
        wires = [("flat", False), *((w, False) for w in words if w != "flat"), *((w, True) for w in nulls)]
        for data, optimizer in itertools.product(self.data, self.optimizer):
            known("data", data, get_args(DataName))
            known("optimizer", optimizer, get_args(RecipeName))
            recipe, sheet, alexnet = standard(data, optimizer, self.preset)
            recipe = recipe if self.epochs is None else dataclasses.replace(recipe, epochs=self.epochs)
            for decay, l1, side in itertools.product(
                self.weight_decay or [recipe.weight_decay], self.l1, map(_sides, self.sheet) if self.sheet else [sheet]
            ):
                trained = dataclasses.replace(recipe, weight_decay=decay, l1=l1)
                found += [Run(data, w, trained, self.seeds[0], side, alexnet, null) for w, null in wires]
        return list(dict.fromkeys(found))


def _sides(text: str) -> tuple[int, int]:
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise wrong("sheet", repr(text), "units such as 7x7")
    return int(parts[0]), int(parts[1])


@dataclass(frozen=True)
class Hypothesis:
    """A sentence, and the comparison that it stands or falls with.

    Args:
        says: the sentence, as it is written somewhere.
        measure: what it is about, a name of ``measures`` in study.json.
        expected: what the condition's is to be, against the control's.
        condition: the settings that tell it from the study's first values: ``{cost: quadratic}``.
        control: the same for what it is compared with; None: the condition's own control.
        margin: the least difference that counts, in the measure's unit.
    """

    says: str
    measure: str
    expected: Expected
    condition: Mapping[str, Any]
    control: Mapping[str, Any] | None = None
    margin: float = 0.0

    def __post_init__(self) -> None:
        known("expected", self.expected, get_args(Expected))
        known("measure", self.measure, NAMES)
        for given in (self.condition, self.control or {}):
            if not isinstance(given, Mapping) or not given.keys() <= set(SETTINGS):
                raise wrong("hypotheses", given, f"settings by name, of {', '.join(SETTINGS)}")
        if self.margin or self.expected == "alike":
            object.__setattr__(self, "margin", positive("margin", self.margin))  # YAML takes 1e-2 for a word


@dataclass(frozen=True)
class Study:
    """Axes, further axes that say what is different, and hypotheses about all of them together."""

    axes: Axes = Axes()
    also: tuple[Axes, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = ()

    def __post_init__(self) -> None:
        self.conditions()
        for hypothesis in self.hypotheses:
            self.compared(hypothesis)

    def conditions(self) -> dict[str, Run]:
        """Every condition by its name, which tells what sets it apart from the first values of the axes."""
        first = settings(self.axes.conditions()[0])
        found: dict[str, Run] = {}
        for run in [run for axes in (self.axes, *self.also) for run in axes.conditions()]:
            run = dataclasses.replace(run, seed=0)
            mine = settings(run)
            kind = (CONTROL if run.cost == "flat" else run.cost) + (" shuffled" if run.shuffled else "")
            rest = [k for k in mine if k not in ("cost", "shuffled") and mine[k] != first[k]]
            name = ", ".join([kind, *(f"{k.replace('_', ' ')} {mine[k]}" for k in rest)])
            if found.setdefault(name, run) != run:
                raise wrong("also", f"two conditions called {name}", "ones that differ in more than the preset")
        return found

    def seeds(self) -> dict[str, list[int]]:
        """Seeds of every condition."""
        names = {run: name for name, run in self.conditions().items()}
        found: dict[str, list[int]] = {name: [] for name in names.values()}
        for axes in (self.axes, *self.also):
            for run in axes.conditions():
                of = found[names[dataclasses.replace(run, seed=0)]]
                of += [seed for seed in axes.seeds if seed not in of]
        return found

    def runs(self) -> dict[tuple[str, int], Run]:
        """Every run by (condition, seed): seed by seed, so that pairs finish together."""
        conditions, seeds = self.conditions(), self.seeds()
        order = dict.fromkeys(seed for axes in (self.axes, *self.also) for seed in axes.seeds)
        return {
            (name, seed): dataclasses.replace(run, seed=seed)
            for seed in order
            for name, run in conditions.items()
            if seed in seeds[name]
        }

    def pairs(self) -> list[tuple[str, str]]:
        """Every condition with its control; and every cost with its own null."""
        names = {run: name for name, run in self.conditions().items()}
        pairs = []
        for run, name in names.items():
            control = dataclasses.replace(run, cost="flat", shuffled=False)
            if run != control:
                pairs.append((name, names[control]))
            null = names.get(dataclasses.replace(run, shuffled=True))
            if not run.shuffled and null is not None:
                pairs.append((name, null))
        return pairs

    def compared(self, hypothesis: Hypothesis) -> tuple[str, str]:
        """The two conditions that a hypothesis is about.

        Raises:
            ValueError: the study does not have them.
        """
        conditions = self.conditions()
        first = settings(self.axes.conditions()[0])

        def name(told: Mapping[str, Any]) -> str:
            wanted = first | _settled(told)
            for name, run in conditions.items():
                if settings(run) == wanted:
                    return name
            raise wrong("hypotheses", dict(told), f"settings of one of: {'; '.join(conditions)}")

        own = {**hypothesis.condition, "cost": "flat", "shuffled": False}
        pair = name(hypothesis.condition), name(own if hypothesis.control is None else hypothesis.control)
        if pair[0] == pair[1]:
            raise wrong("hypotheses", f"{pair[0]} compared with itself", "a condition and another")
        return pair


def _settled(told: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a person has written, as :func:`settings` writes them."""
    given = dict(told)
    for key in given.keys() & {"weight_decay", "l1"}:
        try:  # YAML takes 1e-4 for a word
            given[key] = float(given[key])
        except (TypeError, ValueError):
            raise wrong(key, repr(given[key]), "a number") from None
    if "cost" in given:
        given["cost"] = costs.word(costs.parse(str(given["cost"])))
    if isinstance(given.get("sheet"), (list, tuple)):
        given["sheet"] = "x".join(map(str, given["sheet"]))
    return given


def settings(run: Run) -> dict[str, Any]:
    """What a condition is told by."""
    r = run.recipe
    sheet = "x".join(map(str, run.sheet))
    values = (run.cost, run.shuffled, run.data, r.optimizer, r.weight_decay, r.l1, sheet, r.epochs)
    return dict(zip(SETTINGS, values, strict=True))


def study_from(values: Any) -> Study:
    """The study that plain ``values`` describe: axes by name, ``also`` with what differs, ``hypotheses``.

    Raises:
        ValueError: values that do not describe one.
    """
    if not isinstance(values, dict):
        raise wrong("study", type(values).__name__, "settings by name")
    main = {k: v for k, v in values.items() if k not in ("also", "hypotheses")}
    also, asked = values.get("also") or (), values.get("hypotheses") or ()
    for name, given in (("also", also), ("hypotheses", asked)):
        if not isinstance(given, (list, tuple)):
            raise wrong(name, given, "a list")
    for given, kind in ((main, Axes), *((one, Axes) for one in also), *((one, Hypothesis) for one in asked)):
        names = [field.name for field in dataclasses.fields(kind)]
        if not isinstance(given, dict) or not given.keys() <= set(names):
            said = ", ".join(map(str, given)) if isinstance(given, dict) else given
            more = ["also", "hypotheses"] if given is main else []
            raise wrong("study", said, f"settings among {', '.join(names + more)}")
        needed = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING]
        if not given.keys() >= set(needed):
            raise wrong("hypotheses", ", ".join(given), f"each with {', '.join(needed)}")
    return Study(
        Axes(**main), tuple(Axes(**{**main, **one}) for one in also), tuple(Hypothesis(**one) for one in asked)
    )


def study_values(study: Study) -> dict[str, Any]:
    """Plain values from which :func:`study_from` makes the study again."""
    main: dict[str, Any] = plain(study.axes)
    also = [{k: v for k, v in plain(axes).items() if v != main[k]} for axes in study.also]
    return main | {"also": also, "hypotheses": plain(study.hypotheses)}


def read_study(directory: Path) -> Study:
    """The study in ``directory``."""
    return read_config(directory / STUDY, study_from)


def claim_study(directory: Path, study: Study) -> None:
    """Make ``directory`` the home of ``study``: of all that it has trained, and more.

    Raises:
        ValueError: it holds something else, or runs that this study does not have; nothing is written then.
    """
    if not vacant(directory, STUDY):
        runs = set(study.runs().values())
        lost = [name for name, run in read_study(directory).runs().items() if run not in runs]
        if lost:
            held = f"{directory}, which holds {lost[0][0]} of seed {lost[0][1]}"
            raise wrong("out", held, "a new directory, or a study with all of its runs and more")
    directory.mkdir(parents=True, exist_ok=True)
    write_text(directory / STUDY, yaml.safe_dump(study_values(study), sort_keys=False, allow_unicode=True))


def cell_name(run: Run) -> str:
    """The name of a run's directory: the same in every study, and another for any other setting."""
    told = json.dumps(_unusual(run), sort_keys=True)
    key = hashlib.sha256(told.encode()).hexdigest()[:8]
    kind = run.cost.replace(":", "_") + ("-shuffled" if run.shuffled else "")  # a colon is not for every file system
    return f"{run.data}-{kind}-seed{run.seed}-{key}"


def _unusual(value: Any) -> Any:
    """What of a config is not its default: a setting that did not exist yet changes no name."""
    if not dataclasses.is_dataclass(value):
        return plain(value)
    return {f.name: _unusual(v) for f in dataclasses.fields(value) if (v := getattr(value, f.name)) != f.default}


def cell_directory(study: Path, run: Run) -> Path:
    """Where a study keeps one of its runs."""
    return study / "runs" / cell_name(run)
