"""What a study is: every combination of some settings under every seed, and what is claimed of the comparison."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from locality_prior import cost as costs
from locality_prior._check import Problem, choice, count, positive, wrong, wrong_type
from locality_prior._files import read_yaml, write_json, write_text
from locality_prior.runs import door
from locality_prior.runs.config import Named, Recipe, Run, as_number, cost_of, named, plain, run_name
from locality_prior.runs.training import condition_of
from locality_prior.studies.files import PLAN, STUDY

Expected = Literal["lower", "higher", "alike"]
#: The settings of a recipe, each of which a study may vary.
RECIPE = tuple(f.name for f in dataclasses.fields(Recipe))
#: What tells one condition from another.
SETTINGS = ("task", "model", "cost", "shuffled", "place", "local", *RECIPE)
#: The most networks of one study.
MOST = 100_000


@dataclass(frozen=True)
class Axes:
    """Settings to combine; each takes one value or several. The control, whose cost is flat, is always trained too.

    Args:
        task: what is learned, by a word (:mod:`locality_prior.runs.door`) or as Python objects.
        model: networks, likewise.
        place: the sheets that are looked at, {module: geometry}; none: the model's own.
        local: the layers that the cost is put into, {layer: geometry or [source, target]}; none: the model's own, or
            every placed layer that can be made local.
        seeds: of the networks; each gives one pair for a test.
        cost: costs in one word, ``name[:length[,p]][@radius]``.
        shuffled: costs of which the null is trained too: each row of P in an order of its own.
        scale: what the costs' lengths are multiplied by.
        optimizer, lr, momentum, weight_decay, epochs, batch_size, l1, drop_every, precision: see
            :class:`locality_prior.runs.Recipe`.
    """

    task: Any = "digits"
    model: Any = "lenet"
    place: Any = ()
    local: Any = ()
    seeds: Any = (1, 2, 3)
    cost: Any = ("flat", "linear")
    shuffled: Any = ()
    scale: Any = (1.0,)
    optimizer: Any = (Recipe.optimizer,)
    lr: Any = (Recipe.lr,)
    momentum: Any = (Recipe.momentum,)
    weight_decay: Any = (Recipe.weight_decay,)
    epochs: Any = (Recipe.epochs,)
    batch_size: Any = (Recipe.batch_size,)
    l1: Any = (Recipe.l1,)
    drop_every: Any = (Recipe.drop_every,)
    precision: Any = (Recipe.precision,)

    def __post_init__(self) -> None:
        canonical: dict[str, Any] = {
            "task": [door.canonical("task", v) for v in _several("task", self.task)],
            "model": [door.canonical("model", v) for v in _several("model", self.model)],
            "place": named("place", self.place),
            "local": named("local", self.local, pairs=True),
            "seeds": [count("seeds", v, least=0, most=2**63 - 1) for v in _several("seeds", self.seeds)],
            "scale": [positive("scale", as_number(v)) for v in _several("scale", self.scale)],
        }
        for name in ("cost", "shuffled"):
            given = _several(name, getattr(self, name), none=name == "shuffled")
            canonical[name] = [costs.word(cost_of(name, v)) for v in given]
        if "flat" in canonical["shuffled"]:
            raise wrong("shuffled", "flat", "costs that depend on distance")
        for name in RECIPE:
            values = [as_number(v) for v in _several(name, getattr(self, name))]
            canonical[name] = [getattr(Recipe(**{name: v}), name) for v in values]
        for name, values in canonical.items():
            if isinstance(values, list) and len(set(values)) < len(values):
                raise wrong(name, getattr(self, name), "different values")
            object.__setattr__(self, name, tuple(values))
        size = len(self.seeds) * (len(self.cost) + len(self.shuffled) + 1) * len(self.scale)
        for name in ("task", "model", *RECIPE):
            size *= len(getattr(self, name))
        if size > MOST:
            raise wrong("study", f"{size:,} networks", f"at most {MOST:,}")

    def conditions(self) -> list[Run]:
        """Every combination with the first seed: each control, the costs after it, and then their nulls."""
        words = self._scaled(self.cost)
        nulls = self._scaled(self.shuffled)
        wires = [("flat", False), *((w, False) for w in words if w != "flat"), *((w, True) for w in nulls)]
        found = []
        for task, model in itertools.product(self.task, self.model):
            for values in itertools.product(*(getattr(self, name) for name in RECIPE)):
                recipe = Recipe(**dict(zip(RECIPE, values, strict=True)))
                for word, null in wires:
                    found.append(Run(task, model, word, null, self.place, self.local, recipe, self.seeds[0]))
        return list(dict.fromkeys(found))

    def _scaled(self, words: tuple[str, ...]) -> list[str]:
        made = [costs.word(costs.scaled(costs.parse(word), scale)) for word in words for scale in self.scale]
        return list(dict.fromkeys(made))


def _several(name: str, given: Any, none: bool = False) -> list[Any]:
    """One value, or several, as a list."""
    values = list(given) if isinstance(given, (list, tuple)) else [given]
    if not values and not none:
        raise wrong(name, given, "one or more values")
    if len(values) > MOST:
        raise wrong(name, f"{len(values):,} values", f"at most {MOST:,}")
    return values


@dataclass(frozen=True)
class Hypothesis:
    """A sentence, and the comparison that it stands or falls with.

    Args:
        says: the sentence as it is written somewhere.
        measure: what it is about: a name among the ``measures`` of study.json.
        expected: how the condition's value compares with the control's: lower, higher or alike.
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
        choice("expected", self.expected, get_args(Expected))
        for name, text in (("says", self.says), ("measure", self.measure)):
            if not isinstance(text, str) or not text:
                raise wrong_type(name, text, "text")
        for given in (self.condition, self.control or {}):
            if not isinstance(given, Mapping) or not given.keys() <= set(SETTINGS):
                raise wrong("hypotheses", given, f"settings by name, of {', '.join(SETTINGS)}")
        if self.margin or self.expected == "alike":
            object.__setattr__(self, "margin", positive("margin", as_number(self.margin)))


@dataclass(frozen=True)
class Study:
    """Axes, further axes, and hypotheses about all of them together.

    Args:
        axes: the settings to combine.
        also: further settings to combine, beside the first.
        hypotheses: what is claimed.
        title: a line for the page.
        about: paragraphs for the page.
        published: numbers from elsewhere to show beside the study's: each with ``name``, ``source`` and ``measures``.
    """

    axes: Axes = field(default_factory=Axes)
    also: tuple[Axes, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = ()
    title: str = ""
    about: tuple[str, ...] = ()
    published: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.title, str):
            raise wrong_type("title", self.title, "a line of text")
        given: Any = self.about
        about = (given,) if isinstance(given, str) else tuple(given or ())
        if not all(isinstance(text, str) for text in about):
            raise wrong_type("about", self.about, "paragraphs of text")
        object.__setattr__(self, "about", about)
        for row in self.published:
            ok = isinstance(row, Mapping) and isinstance(row.get("measures"), Mapping) and row.get("name")
            if not ok or not all(isinstance(v, (int, float)) for v in row["measures"].values()):
                raise wrong("published", row, "rows with name, source and measures (numbers by name)")
        self.conditions()
        for hypothesis in self.hypotheses:
            self.compared(hypothesis)

    def conditions(self) -> dict[str, Run]:
        """Every condition by its name, which says what sets it apart from the first values of the axes."""
        firsts = self._firsts()
        whole = settings(self.axes.conditions()[0])
        labels = self.labels()
        found: dict[str, Run] = {}
        for run in [run for axes in (self.axes, *self.also) for run in axes.conditions()]:
            run = dataclasses.replace(run, seed=0)
            mine, first = settings(run), firsts[_group(run)]
            rest = [k for k in mine if k in RECIPE and mine[k] != first[k]]
            rest += [k for k in ("task", "model") if mine[k] != whole[k]]
            if sum(_group(run)[:2] == key[:2] for key in firsts) > 1:
                rest += [k for k in ("place", "local") if mine[k] != whole[k]]
            name = ", ".join([condition_of(run), *(_said(k, mine[k], labels) for k in rest)])
            if found.setdefault(name, run) != run:
                raise wrong(
                    "also", f"two conditions called {name}", "conditions that differ in more than a module's path"
                )
        return found

    def _firsts(self) -> dict[Any, dict[str, Any]]:
        """The settings of the first condition of each task with each model and its sheets."""
        found: dict[Any, dict[str, Any]] = {}
        for axes in (self.axes, *self.also):
            for run in axes.conditions():
                found.setdefault(_group(run), settings(run))
        return found

    def labels(self) -> dict[str, str]:
        """What each task and each model is called: its name; with its arguments, where several have that name."""
        words = dict.fromkeys(w for axes in (self.axes, *self.also) for w in (*axes.task, *axes.model))
        short = {word: door.label(word).partition(" ")[0] for word in words}
        shared = list(short.values())
        return {word: name if shared.count(name) == 1 else door.label(word) for word, name in short.items()}

    def seeds(self) -> dict[str, list[int]]:
        """The seeds of every condition."""
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

    def control(self, name: str) -> str | None:
        """The control of a condition; None of a control."""
        conditions = self.conditions()
        names = {run: key for key, run in conditions.items()}
        control = names[dataclasses.replace(conditions[name], cost="flat", shuffled=False)]
        return None if control == name else control

    def null(self, name: str) -> str | None:
        """The shuffled null of a condition, where it is trained."""
        conditions = self.conditions()
        run = conditions[name]
        if run.shuffled or run.cost == "flat":
            return None
        return {run: key for key, run in conditions.items()}.get(dataclasses.replace(run, shuffled=True))

    def compared(self, hypothesis: Hypothesis) -> tuple[str, str]:
        """The two conditions that a hypothesis is about.

        Raises:
            ValueError: the study does not have them.
        """
        conditions, firsts = self.conditions(), self._firsts()
        whole = settings(self.axes.conditions()[0])

        def name(told: Mapping[str, Any]) -> str:
            wanted = _settled(told)
            for name, run in conditions.items():
                mine, first = settings(run), firsts[_group(run)]
                usual = {k: (first if k in RECIPE else whole)[k] for k in mine}
                if "model" in wanted:
                    usual |= {k: mine[k] for k in ("place", "local")}
                if mine == usual | wanted:
                    return name
            raise wrong("hypotheses", dict(told), f"settings of one of: {'; '.join(conditions)}")

        own = {**hypothesis.condition, "cost": "flat", "shuffled": False}
        pair = name(hypothesis.condition), name(own if hypothesis.control is None else hypothesis.control)
        if pair[0] == pair[1]:
            raise wrong("hypotheses", f"{pair[0]} compared with itself", "a condition and another")
        return pair


def _group(run: Run) -> Any:
    """What networks share that are drawn and measured alike."""
    return run.task, run.model, run.place, run.local


def settings(run: Run) -> dict[str, Any]:
    """What tells a run's condition from others."""
    values = {name: getattr(run, name) for name in SETTINGS if name not in RECIPE}
    return values | {name: getattr(run.recipe, name) for name in RECIPE}


def _said(key: str, value: Any, labels: Mapping[str, str]) -> str:
    """A setting in a condition's name."""
    if key in ("task", "model"):
        return labels[value]
    if key in ("place", "local"):
        return f"{key} {_words(value)}"
    return f"{key.replace('_', ' ')} {value:g}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"


def _words(value: Named) -> str:
    return " ".join(f"{name}={','.join(words)}" for name, words in value) or "of the model"


def _settled(told: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a person writes them, made canonical."""
    given = dict(told)
    for key in given.keys() & set(RECIPE):
        given[key] = getattr(Recipe(**{key: as_number(given[key])}), key)
    if "cost" in given:
        given["cost"] = costs.word(cost_of("cost", given["cost"]))
    for key in given.keys() & {"task", "model"}:
        given[key] = door.canonical(key, given[key])
    for key in given.keys() & {"place", "local"}:
        given[key] = named(key, given[key], pairs=key == "local")
    return given


def study_from(values: Any) -> Study:
    """The study that plain ``values`` describe: axes by name, ``also`` with what differs, ``hypotheses`` and texts.

    Raises:
        ValueError: values that do not describe a study.
    """
    if not isinstance(values, Mapping):
        raise wrong("study", values, "settings by name")
    texts = {"title", "about", "published"}
    main = {k: v for k, v in values.items() if k not in texts | {"also", "hypotheses"}}
    lists = {name: values.get(name) or () for name in ("also", "hypotheses", "published")}
    for name, given in lists.items():
        if not isinstance(given, (list, tuple)):
            raise wrong(name, given, "a list")
    for given, kind in (
        (main, Axes),
        *((one, Axes) for one in lists["also"]),
        *((one, Hypothesis) for one in lists["hypotheses"]),
    ):
        names = [f.name for f in dataclasses.fields(kind)]
        if not isinstance(given, Mapping) or not given.keys() <= set(names):
            said = ", ".join(map(str, given)) if isinstance(given, Mapping) else given
            more = ["also", "hypotheses", *sorted(texts)] if given is main else []
            raise wrong("study", said, f"settings among {', '.join(names + more)}")
        needed = [f.name for f in dataclasses.fields(kind) if f.init and f.default is dataclasses.MISSING]
        if not given.keys() >= set(needed):
            raise wrong("hypotheses", ", ".join(given), f"each with {', '.join(needed)}")
    return Study(
        Axes(**main),
        tuple(Axes(**_beside(main, one)) for one in lists["also"]),
        tuple(Hypothesis(**one) for one in lists["hypotheses"]),
        values.get("title") or "",
        values.get("about") or (),
        tuple(lists["published"]),
    )


def _beside(main: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of further axes: those of the first, but where they say other ones.

    Sheets belong to a model: with another model they are not carried over.
    """
    kept = {k: v for k, v in main.items() if "model" not in one or k not in ("place", "local")}
    return {**kept, **one}


def study_values(study: Study) -> dict[str, Any]:
    """Plain values from which :func:`study_from` makes the study again."""
    main, also = _axes_values(study.axes), [_axes_values(axes) for axes in study.also]
    carried = [{k: v for k, v in one.items() if v != main[k] or k in ("place", "local")} for one in also]
    return {
        "title": study.title,
        "about": list(study.about),
        "published": [plain(row) for row in study.published],
        **main,
        "also": carried,
        "hypotheses": [plain(h) for h in study.hypotheses],
    }


def _axes_values(axes: Axes) -> dict[str, Any]:
    values = {f.name: getattr(axes, f.name) for f in dataclasses.fields(axes)}
    for key in ("place", "local"):
        values[key] = {name: ",".join(words) for name, words in values[key]}
    return plain(values)  # type: ignore[no-any-return]


def read_study(directory: Path) -> Study:
    """The study in ``directory``."""
    return study_from(read_yaml(directory / STUDY))


def run_path(run: Run) -> str:
    """Where a study keeps one of its runs, from its directory."""
    return f"runs/{run_name(run)}"


def plan(study: Study) -> dict[str, Any]:
    """A study written out: groups, conditions, cells, comparisons and claims, as findings are made from."""
    conditions, labels = study.conditions(), study.labels()
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    described = {}
    for name, run in conditions.items():
        group = groups.setdefault(
            _group(run),
            {
                "name": f"{labels[run.model]} on {labels[run.task]}",
                "task": labels[run.task],
                "model": labels[run.model],
                "recipe": plain(run.recipe),
                "conditions": [],
                "control": None,
            },
        )
        group["conditions"].append(name)
        if run.cost == "flat" and group["control"] is None:
            group["control"] = name
        described[name] = {
            "group": group["name"],
            "label": name.removesuffix(f", {labels[run.model]}").removesuffix(f", {labels[run.task]}"),
            "control": study.control(name),
            "null": study.null(name),
            "of": None,
            "cost": run.cost,
            "shuffled": run.shuffled,
            "settings": {k: v for k, v in plain(run).items() if k != "seed"},
        }
    for number, group in enumerate(groups.values(), 1):  # groups of one name: other sheets of the same model
        if sum(g["name"] == group["name"] for g in groups.values()) > 1:
            for name in group["conditions"]:
                described[name]["group"] = f"{group['name']} ({number})"
            group["name"] = f"{group['name']} ({number})"
    for name, one in described.items():
        if one["null"] is not None:
            described[one["null"]]["of"] = name
    asked = []
    for hypothesis in study.hypotheses:
        pair = study.compared(hypothesis)
        told = {k: getattr(hypothesis, k) for k in ("says", "measure", "expected", "margin")}
        asked.append(told | {"condition": pair[0], "control": pair[1]})
    return {
        "title": study.title,
        "about": list(study.about),
        "published": [plain(row) for row in study.published],
        "groups": list(groups.values()),
        "conditions": described,
        "cells": [
            {"condition": name, "seed": seed, "run": run_path(run), "config": plain(run)}
            for (name, seed), run in study.runs().items()
        ],
        "hypotheses": asked,
    }


def check_study(directory: Path, study: Study) -> None:
    """Raise where ``directory`` cannot be the home of ``study``: it may grow, and never loses a run.

    Raises:
        Problem: it holds something else, or runs that this study does not have.
    """
    if not (directory / STUDY).exists():
        strangers = directory.exists() and sorted(p.name for p in directory.iterdir() if not p.name.startswith("."))
        if strangers:
            raise Problem(f"{directory} holds {strangers[0]} but no {STUDY}. Choose a new or empty directory.")
        return
    runs = set(study.runs().values())
    lost = [name for name, run in read_study(directory).runs().items() if run not in runs]
    if lost:
        raise Problem(
            f"{directory} holds {lost[0][0]} of seed {lost[0][1]}, which this study does not have. "
            "Choose a new directory, or a study with all of its runs and more."
        )


def write_study(directory: Path, study: Study) -> None:
    """Write what ``study`` is, and its plan, into ``directory``."""
    text = yaml.safe_dump(study_values(study), sort_keys=False, allow_unicode=True)
    write_text(directory / STUDY, text)
    write_json(directory / PLAN, plan(study))
