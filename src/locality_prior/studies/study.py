"""What a study is: every combination of some settings under every seed, and what is claimed about the networks."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from locality_prior import cost as costs
from locality_prior._check import Problem, boolean, choice, count, instance, number, positive, short, wrong, wrong_type
from locality_prior._files import read_yaml, write_json, write_text
from locality_prior.arrange import words as arrangements
from locality_prior.objectives import words as objectives
from locality_prior.runs import door
from locality_prior.runs.config import Named, Recipe, Run, as_number, condition_of, control_of, named, plain, run_name
from locality_prior.studies.files import PLAN, STUDY

Expected = Literal["lower", "higher", "alike"]
#: The settings of a recipe. A study may vary each of them.
RECIPE = tuple(f.name for f in dataclasses.fields(Recipe))
#: The settings that tell one condition from another.
SETTINGS = ("task", "model", "cost", "shuffled", "objective", "arrange", "place", "local", *RECIPE)
#: The settings of a control that its conditions do not share.
_CONTROL: dict[str, Any] = {
    "cost": "flat",
    "shuffled": False,
    "objective": objectives.NONE,
    "arrange": arrangements.NONE,
}
#: A study has at most this many networks.
MOST = 10_000


@dataclass(frozen=True)
class Axes:
    """Settings to combine. Each takes one value or several; the control is always trained too.

    The control has a flat cost and no objective, and its units stay where they are. Costs and objectives are
    conditions beside one another, and each is combined with each arrangement of units.

    >>> from locality_prior.studies import Axes
    >>> axes = Axes(task="own.py:images", model="own.py:net", cost=["flat", "linear@2"], objective="topoloss:0.5,2")
    >>> [(run.cost, run.objective) for run in axes.conditions()]
    [('flat', 'none'), ('linear@2', 'none'), ('flat', 'topoloss:0.5'), ('flat', 'topoloss:2')]

    Args:
        task: what is learned: a word (see :mod:`locality_prior.runs.door`) or a Python object.
        model: the network, likewise.
        place: the sheets that are measured, {module: geometry}; empty: the model's own.
        local: the layers that the cost is put into, {layer: geometry, or [source, target]}; empty: the model's own,
            or else every placed layer that can be made local.
        seeds: one network of each condition is trained under each seed. Networks of one seed form a pair in the tests.
        cost: wiring costs, each in one word: ``name[:length[,p]][@radius]``.
        shuffled: the costs whose shuffled null, in which each row of P is shuffled, is trained too.
        scale: factors by which the lengths in the costs are multiplied.
        objective: what is added to the loss of networks whose cost is flat, each in one word,
            ``name[:strength,…][,option=value …]``. Each of its strengths is a condition.
        arrange: what better places for units are found from, and when, each in one word, such as ``wires:after``;
            ``none``: units stay. A network with a cost cannot be arranged during training: that combination is left
            out. So is ``learned`` with a cost that ends, with a shuffled prior, or with the flat cost and no objective.
        optimizer, lr, momentum, weight_decay, epochs, batch_size, l1, drop_every, precision: how the networks are
            trained: see :class:`locality_prior.runs.Recipe`.

    Raises:
        ValueError, TypeError: a value that does not fit, or too many networks.
    """

    task: Any = ()
    model: Any = ()
    place: Any = ()
    local: Any = ()
    seeds: Any = (1, 2, 3)
    cost: Any = ("flat", "linear")
    shuffled: Any = ()
    scale: Any = (1.0,)
    objective: Any = ()
    arrange: Any = (arrangements.NONE,)
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
            canonical[name] = [costs.word(costs.as_cost(name, v)) for v in given]
        given = _several("objective", self.objective, none=True)
        canonical["objective"] = [word for v in given for word in objectives.several("objective", v)]
        canonical["arrange"] = [arrangements.canonical("arrange", v) for v in _several("arrange", self.arrange)]
        if "flat" in canonical["shuffled"]:
            raise wrong("shuffled", "flat", "costs that depend on distance")
        for name in RECIPE:
            values = [as_number(v) for v in _several(name, getattr(self, name))]
            canonical[name] = [getattr(Recipe(**{name: v}), name) for v in values]
        for name, values in canonical.items():
            if isinstance(values, list) and len(set(values)) < len(values):
                raise wrong(name, getattr(self, name), "each value once")
            object.__setattr__(self, name, tuple(values))
        _check_size(self._most())

    def _most(self) -> int:
        """How many networks there are, or a few more where costs coincide."""
        recipes = math.prod(len(getattr(self, name)) for name in RECIPE)
        local = (len(self.cost) + len(self.shuffled)) * len(self.scale) + len(self.objective)
        return len(self.task) * len(self.model) * recipes * (1 + local * len(self.arrange)) * len(self.seeds)

    @cached_property
    def _conditions(self) -> tuple[Run, ...]:
        local: list[dict[str, Any]] = [{"cost": word} for word in self._scaled(self.cost)]
        local += [{"cost": word, "shuffled": True} for word in self._scaled(self.shuffled)]
        local += [{"objective": word} for word in self.objective]
        local = [{}, *(one | {"arrange": word} for one in local for word in self.arrange if _together(one, word))]
        found = []
        for task, model in itertools.product(self.task, self.model):
            for values in itertools.product(*(getattr(self, name) for name in RECIPE)):
                recipe = Recipe(**dict(zip(RECIPE, values, strict=True)))
                usual = {"place": self.place, "local": self.local, "recipe": recipe, "seed": 0}
                found += [Run(task, model, **usual, **one) for one in local]
        return tuple(dict.fromkeys(found))

    def conditions(self) -> list[Run]:
        """Every condition, as the run of seed 0: for each recipe the control, costs, their nulls, and objectives.

        Each of these is combined with every arrangement.
        """
        return list(self._conditions)

    def _scaled(self, words: tuple[str, ...]) -> list[str]:
        made = [costs.word(costs.scaled(costs.parse(word), scale)) for word in words for scale in self.scale]
        return list(dict.fromkeys(made))


def _together(one: Mapping[str, Any], arrange: str) -> bool:
    """Whether a network of these settings can be arranged so.

    A network with a cost cannot be arranged during training. Positions learn only under a cost that does not end, or by
    an objective.
    """
    how, cost = arrangements.parse("arrange", arrange), one.get("cost", "flat")
    if isinstance(how, arrangements.Learned):
        moving = cost != "flat" or one.get("objective", objectives.NONE) != objectives.NONE
        return moving and math.isinf(costs.parse(cost).reach) and not one.get("shuffled", False)
    return how is None or how.when != "during" or cost == "flat"


def _several(name: str, given: Any, none: bool = False) -> list[Any]:
    """One value, or several, as a list."""
    values = list(given) if isinstance(given, (list, tuple)) else [given]
    if not values and not none:
        raise wrong(name, given, "one or more values")
    if len(values) > MOST:
        raise wrong(name, f"{len(values):,} values", f"at most {MOST:,}")
    return values


def _check_size(networks: int) -> None:
    if networks > MOST:
        raise wrong("study", f"{networks:,} networks", f"at most {MOST:,}")


@dataclass(frozen=True)
class Hypothesis:
    """A sentence, and the comparison that decides whether it holds.

    >>> from locality_prior.studies import Hypothesis
    >>> claim = Hypothesis("Short wires cost no accuracy.", "accuracy", "alike", {"cost": "linear@2"}, margin=0.5)
    >>> claim.expected, claim.margin
    ('alike', 0.5)

    Args:
        says: the sentence, as the page quotes it.
        measure: the measure that it is about, by its name in ``study.json``, such as ``morans_i.output``.
        expected: how the condition's value compares with the control's: lower, higher or alike.
        condition: the settings in which the condition differs from the study's first values, as in
            ``{cost: quadratic}``.
        control: the same for the condition that it is compared with; None: the condition's own control.
        margin: the smallest difference that counts, in the measure's unit.
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
        for name, told in (("condition", self.condition), ("control", self.control)):
            if told is None and name == "control":
                continue
            if not isinstance(told, Mapping) or not told.keys() <= set(SETTINGS):
                raise wrong(name, told, f"settings by name, such as {{cost: linear}}; known: {', '.join(SETTINGS)}")
            object.__setattr__(self, name, _settled(told))
        margin = as_number(self.margin)
        checked = positive("margin", margin) if self.expected == "alike" else number("margin", margin, least=0.0)
        object.__setattr__(self, "margin", checked)


@dataclass(frozen=True)
class Study:
    """What is trained, and what is claimed about it.

    >>> from locality_prior.studies import Axes, Study
    >>> study = Study(Axes(task="own.py:images", model="own.py:net", cost=["flat", "linear@2"], seeds=[1, 2, 3]))
    >>> list(study.conditions()), len(study.runs())
    (['control', 'linear@2'], 6)

    Args:
        axes: settings to combine.
        also: further settings to combine, added to the first.
        hypotheses: what is claimed.
        title: a line for the page.
        about: paragraphs for the page.
        published: numbers from elsewhere to show beside the study's. Each has ``name``, ``source`` and ``measures``.

    Raises:
        ValueError, TypeError: a value that does not fit, a claim about networks that the study does not have, or too
            many networks.
    """

    axes: Axes = field(default_factory=Axes)
    also: tuple[Axes, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = ()
    title: str = ""
    about: tuple[str, ...] = ()
    published: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        instance("axes", self.axes, Axes, "Axes")
        for name, kind in (("also", Axes), ("hypotheses", Hypothesis)):
            given: Any = getattr(self, name)
            if not isinstance(given, (list, tuple)) or not all(isinstance(one, kind) for one in given):
                raise wrong_type(name, given, f"a list of {kind.__name__}")
            object.__setattr__(self, name, tuple(given))
        instance("title", self.title, str, "a line of text")
        given = self.about
        given = (given,) if isinstance(given, str) else given
        if not isinstance(given, (list, tuple)) or not all(isinstance(text, str) for text in given):
            raise wrong_type("about", given, "paragraphs of text")
        object.__setattr__(self, "about", tuple(given))
        object.__setattr__(self, "published", tuple(map(_published, self.published)))
        _check_size(sum(axes._most() for axes in (self.axes, *self.also)))
        for hypothesis in self.hypotheses:
            self.compared(hypothesis)
        self.conditions()

    def conditions(self) -> dict[str, Run]:
        """Every condition by name, as the run of seed 0.

        A name says what made the network local, and each setting in which the condition differs from the study's first
        values: "linear@3", "linear@3 shuffled", "topoloss:0.5", "control, lr 0.1". So names stay as they are when a
        study grows.
        """
        return dict(self._conditions)

    @cached_property
    def _conditions(self) -> dict[str, Run]:
        labels = self.labels()
        found: dict[str, Run] = {}
        for run in self._each():
            mine, usual = settings(run), self._usual(run)
            differs = [k for k in (*RECIPE, "place", "local", "task", "model") if mine[k] != usual[k]]
            name = ", ".join([condition_of(run), *(_setting(k, mine[k], labels) for k in differs)])
            if found.setdefault(name, run) != run:
                raise wrong("study", f"two conditions called {name}", "conditions with names of their own")
        return found

    def _each(self) -> list[Run]:
        return [run for axes in (self.axes, *self.also) for run in axes.conditions()]

    @cached_property
    def _names(self) -> dict[Run, str]:
        return {run: name for name, run in self._conditions.items()}

    @cached_property
    def _firsts(self) -> dict[Any, dict[str, Any]]:
        """The settings of the first condition of the study, of each task with each model, and of each group."""
        found: dict[Any, dict[str, Any]] = {}
        for run in self._each():
            group = _group(run)
            for part in ((), group[:2], group):
                found.setdefault(part, settings(run))
        return found

    def _usual(self, run: Run) -> dict[str, Any]:
        """The settings that the name of a run's condition leaves out, and a hypothesis about it may leave out."""
        group = _group(run)
        usual = dict(self._firsts[()])
        usual |= {k: self._firsts[group[:2]][k] for k in ("place", "local")}
        return usual | {k: self._firsts[group][k] for k in RECIPE}

    def labels(self) -> dict[str, str]:
        """What each task and each model is called: its name, and more of its word where that name is taken."""
        found: dict[str, str] = {}
        for word in dict.fromkeys(w for axes in (self.axes, *self.also) for w in (*axes.task, *axes.model)):
            names = door.label(word).partition(" ")[0], door.label(word), word, f"{word} ({len(found) + 1})"
            found[word] = next(name for name in names if name not in found.values())
        return found

    def runs(self) -> dict[tuple[str, int], Run]:
        """Every run by (condition, seed): seed by seed, so that pairs finish together."""
        conditions, names = self._conditions, self._names
        seeds: dict[str, set[int]] = {name: set() for name in conditions}
        for axes in (self.axes, *self.also):
            for run in axes.conditions():
                seeds[names[run]].update(axes.seeds)
        order = dict.fromkeys(seed for axes in (self.axes, *self.also) for seed in axes.seeds)
        return {
            (name, seed): dataclasses.replace(run, seed=seed)
            for seed in order
            for name, run in conditions.items()
            if seed in seeds[name]
        }

    def control(self, name: str) -> str | None:
        """The control of a condition; None for a control."""
        control = self._names[control_of(self._conditions[name])]
        return None if control == name else control

    def null(self, name: str) -> str | None:
        """The shuffled null of a condition; None where it is not trained, and for controls and nulls."""
        run = self._conditions[name]
        learned = isinstance(arrangements.parse("arrange", run.arrange), arrangements.Learned)
        if run.shuffled or run.cost == "flat" or learned:  # all costs are equal, or follow the positions
            return None
        return self._names.get(dataclasses.replace(run, shuffled=True))

    def unmoved(self, name: str) -> str | None:
        """The same condition without its arrangement; None if that is its control, or is not trained."""
        run = self._conditions[name]
        found = self._names.get(dataclasses.replace(run, arrange=arrangements.NONE))
        return None if found in (name, self.control(name)) else found

    def compared(self, hypothesis: Hypothesis) -> tuple[str, str]:
        """The two conditions that a hypothesis is about.

        Raises:
            ValueError: the study does not have them.
        """

        def name(told: dict[str, Any]) -> str:
            for run, found in self._names.items():
                if settings(run) == self._usual(run) | told:
                    return found
            raise wrong("hypotheses", told, f"the settings of one of these: {'; '.join(self._conditions)}")

        condition, control = dict(hypothesis.condition), hypothesis.control
        own = {**condition, **_CONTROL}
        pair = name(condition), name(own if control is None else dict(control))
        if pair[0] == pair[1]:
            raise wrong("hypotheses", f"{pair[0]} compared with itself", "a condition and another")
        return pair


def _published(row: Any) -> dict[str, Any]:
    """A row of published numbers, checked."""
    expected = "rows with name, source and measures (numbers by name)"
    if not isinstance(row, Mapping) or not row.keys() <= {"name", "source", "measures"}:
        raise wrong("published", row, expected)
    name, source, values = row.get("name"), row.get("source", ""), row.get("measures")
    if not isinstance(name, str) or not name or not isinstance(source, str) or not isinstance(values, Mapping):
        raise wrong("published", row, expected)
    if not all(isinstance(key, str) for key in values):
        raise wrong("published", row, expected)
    return {
        "name": name,
        "source": source,
        "measures": {key: number(f"published {key}", as_number(value)) for key, value in values.items()},
    }


def _group(run: Run) -> Any:
    """What the networks of a group share: they are made, and measured, alike."""
    return run.task, run.model, run.place, run.local


def settings(run: Run) -> dict[str, Any]:
    """The settings that tell a run's condition from others."""
    values = {name: getattr(run, name) for name in SETTINGS if name not in RECIPE}
    return values | {name: getattr(run.recipe, name) for name in RECIPE}


def _setting(key: str, value: Any, labels: Mapping[str, str]) -> str:
    """A setting in a condition's name."""
    if key in ("task", "model"):
        return labels[value]
    if key in ("place", "local"):
        return f"{key} {_words(value)}"
    return f"{key.replace('_', ' ')} {value!r}" if isinstance(value, float) else f"{key.replace('_', ' ')} {value}"


def _words(value: Named) -> str:
    return " ".join(f"{name}={','.join(words)}" for name, words in value) or "as the model says"


def _settled(told: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a person writes them, made canonical."""
    given = dict(told)
    for key in given.keys() & set(RECIPE):
        given[key] = getattr(Recipe(**{key: as_number(given[key])}), key)
    if "shuffled" in given:
        given["shuffled"] = boolean("shuffled", given["shuffled"])
    if "cost" in given:
        given["cost"] = costs.word(costs.as_cost("cost", given["cost"]))
    if "objective" in given:
        given["objective"] = objectives.canonical("objective", given["objective"])
    if "arrange" in given:
        given["arrange"] = arrangements.canonical("arrange", given["arrange"])
    for key in given.keys() & {"task", "model"}:
        given[key] = door.canonical(key, given[key])
    for key in given.keys() & {"place", "local"}:
        given[key] = named(key, given[key], pairs=key == "local")
    return given


def study_from(values: Any) -> Study:
    """The study that plain ``values`` describe: the settings by name, ``also``, ``hypotheses`` and texts.

    An entry of ``also`` names only what differs from the first settings.

    >>> from locality_prior.studies import study_from
    >>> study = study_from({"task": "own.py:images", "model": "own.py:net", "cost": ["flat", "linear"]})
    >>> len(study.runs())
    6

    Raises:
        ValueError, TypeError: values that do not describe a study.
    """
    axes = [f.name for f in dataclasses.fields(Axes)]
    asked = [f.name for f in dataclasses.fields(Hypothesis)]
    texts = ("title", "about", "published")
    found = _known("study", values, [*axes, "also", "hypotheses", *texts])
    for name in ("also", "hypotheses", "published"):
        found[name] = found.get(name) or ()
        if not isinstance(found[name], (list, tuple)):
            raise wrong(name, found[name], "a list")
    main = {name: found[name] for name in axes if name in found}
    hypotheses = []
    for one in found["hypotheses"]:
        told = _known("hypotheses", one, asked)
        missing = [name for name in ("says", "measure", "expected", "condition") if name not in told]
        if missing:
            raise wrong("hypotheses", f"one without {' and '.join(missing)}", f"each with {', '.join(asked[:4])}")
        hypotheses.append(Hypothesis(**told))
    return Study(
        Axes(**main),
        tuple(Axes(**beside(main, _known("also", one, axes))) for one in found["also"]),
        tuple(hypotheses),
        found.get("title") or "",
        found.get("about") or (),
        tuple(found["published"]),
    )


def _known(name: str, values: Any, names: list[str]) -> dict[str, Any]:
    """``values``, where it is a mapping that has no other keys than ``names``."""
    if not isinstance(values, Mapping):
        raise wrong(name, values, "settings by name")
    strange = [key for key in values if key not in names]
    if strange:
        raise wrong(name, f"a setting {short(repr(strange[0]))}", f"settings among {', '.join(names)}")
    return dict(values)


def beside(main: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``one``, and those of ``main`` that it leaves out.

    Sheets belong to a model, so where ``one`` names another model the sheets of ``main`` are not carried over.
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
    """The study that ``directory`` holds."""
    return study_from(read_yaml(directory / STUDY))


def run_path(run: Run) -> str:
    """The path of a run's directory, relative to its study's."""
    return f"runs/{run_name(run)}"


def plan(study: Study) -> dict[str, Any]:
    """A study written out in plain values: everything that :func:`find` needs besides the runs themselves."""
    conditions, labels = study.conditions(), study.labels()
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    described: dict[str, dict[str, Any]] = {}
    for name, run in conditions.items():
        group = groups.setdefault(
            _group(run),
            {
                "name": f"{labels[run.model]} on {labels[run.task]}",
                "task": labels[run.task],
                "model": labels[run.model],
                "recipe": plain(run.recipe),
                "conditions": [],
                "control": study.control(name) or name,
            },
        )
        group["conditions"].append(name)
        label = name.removesuffix(f", {labels[run.model]}").removesuffix(f", {labels[run.task]}")
        method, strength = _method(run)
        described[name] = {
            "group": "",
            "label": label,
            "control": study.control(name),
            "null": study.null(name),
            "of": None,
            "unmoved": study.unmoved(name),
            "cost": run.cost,
            "shuffled": run.shuffled,
            "objective": run.objective,
            "arrange": run.arrange,
            "method": method + label.removeprefix(condition_of(run)),
            "strength": strength,
            "settings": {k: v for k, v in plain(run).items() if k != "seed"},
        }
    taken: dict[str, int] = {}
    for group in groups.values():  # the same model on other sheets
        taken[group["name"]] = number = taken.get(group["name"], 0) + 1
        if number > 1:
            group["name"] = f"{group['name']} ({number})"
        for name in group["conditions"]:
            described[name]["group"] = group["name"]
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


def _method(run: Run) -> tuple[str, float | None]:
    """What the conditions that differ only in an objective's strength share, and the strength of this one."""
    cost = f"prior: {run.cost}" + (" shuffled" if run.shuffled else "")
    family, strength = objectives.family(run.objective)
    parts = ([] if run.cost == "flat" else [cost]) + ([] if run.objective == objectives.NONE else [family])
    parts += [] if run.arrange == arrangements.NONE else [run.arrange]
    return " + ".join(parts) or "control", strength


def check_study(directory: Path, study: Study) -> None:
    """Raise if ``study`` cannot be kept in ``directory``. A study may grow in its directory, but never loses a run.

    Raises:
        ValueError: it is not, and cannot become, a directory.
        Problem: it holds something else, or runs that this study does not have.
    """
    for parent in (directory, *directory.parents):
        if parent.exists() and not parent.is_dir():
            raise wrong("out", str(directory), f"a directory, but {parent} is a file")
    if not (directory / STUDY).exists():
        strangers = directory.exists() and sorted(p.name for p in directory.iterdir() if not p.name.startswith("."))
        if strangers:
            raise Problem(f"{directory} holds {short(strangers[0])} but no {STUDY}. Choose a new or empty directory.")
        return
    runs = set(study.runs().values())
    lost = [name for name, run in read_study(directory).runs().items() if run not in runs]
    if lost:
        raise Problem(
            f"{directory} already holds {lost[0][0]} with seed {lost[0][1]}, which this study leaves out. "
            "Choose a new directory, or add to the study that is there."
        )


def write_study(directory: Path, study: Study) -> None:
    """Write ``study``, and its plan, into ``directory``."""
    text = yaml.safe_dump(study_values(study), sort_keys=False, allow_unicode=True)
    write_text(directory / STUDY, text)
    write_json(directory / PLAN, plan(study))
