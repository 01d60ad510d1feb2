"""What a run is: plain, frozen settings, each in its one spelling, that are written into the run's directory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from locality_prior import cost as costs
from locality_prior._check import boolean, choice, count, number, positive, short, wrong, wrong_type
from locality_prior._files import write_text
from locality_prior.arrange import words as arrangements
from locality_prior.objectives import words as objectives
from locality_prior.runs import door, places
from locality_prior.runs.files import CONFIG, read_config

OptimizerName = Literal["sgd", "rmsprop", "adam", "adamw"]
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
#: A geometry's word, or the words of a source and a target.
Words = tuple[str, ...]
Named = tuple[tuple[str, Words], ...]
#: What is expected of a network whose units are arranged during training.
NO_PRIOR = "the cost flat, or an arrangement before or after training"


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The defaults are the smaller of the source document's two, with SGD for its RMSProp.

    >>> from locality_prior.runs import Recipe
    >>> Recipe(optimizer="adam", lr="1e-3", epochs=3).lr
    0.001

    Args:
        optimizer: sgd, rmsprop, adam or adamw, as torch has them.
        lr: learning rate.
        momentum: of sgd and rmsprop; the others have none.
        weight_decay: the optimiser's own, on all parameters.
        epochs: how many. The task says how often an epoch goes over the training items; most go once.
        batch_size: items in a batch, over all devices together.
        l1: λ in λ‖W‖₁, which is added to the loss; W are the raw weights of the layers that are made local.
        drop_every: the learning rate is divided by ten each time this many epochs have passed; 0: never.
        precision: of the arithmetic.
    """

    optimizer: OptimizerName = "sgd"
    lr: float = 0.01
    momentum: float = 0.5
    weight_decay: float = 0.01
    epochs: int = 10
    batch_size: int = 64
    l1: float = 0.0
    drop_every: int = 0
    precision: Precision = "32-true"

    def __post_init__(self) -> None:
        choice("optimizer", self.optimizer, get_args(OptimizerName))
        choice("precision", self.precision, get_args(Precision))
        checked = {
            "lr": positive("lr", as_number(self.lr)),
            "momentum": number("momentum", as_number(self.momentum), least=0.0),
            "weight_decay": number("weight_decay", as_number(self.weight_decay), least=0.0),
            "epochs": count("epochs", self.epochs, most=1_000_000),
            "batch_size": count("batch_size", self.batch_size, least=2, most=1 << 20),  # BatchNorm needs two items
            "l1": number("l1", as_number(self.l1), least=0.0),
            "drop_every": count("drop_every", self.drop_every, least=0),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def as_number(value: Any) -> Any:
    """``value`` as a number where YAML, as it does with 1e-4, reads a number as a word."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", value.strip()):
        return float(value)
    return value


@dataclass(frozen=True)
class Run:
    """One network: what it learns, what it is, what makes it local, how it is trained.

    >>> from locality_prior.runs import Recipe, Run
    >>> run = Run(task="own.py:images", model="own.py:net", cost="linear:1@2", recipe=Recipe(epochs=3), seed=7)
    >>> run.cost, run.recipe.epochs, run.seed
    ('linear@2', 3, 7)

    Args:
        task: what it learns: a word (see :mod:`locality_prior.runs.door`), a function that returns a
            :class:`~locality_prior.runs.Task`, or a task.
        model: the network: a word, a function that returns a module, or a module. Each run trains a copy of a module,
            which starts from the weights that the module has.
        cost: what a wire costs, in one word, ``name[:length[,p]][@radius]``; ``flat`` for the control.
        shuffled: whether each row of P is shuffled, in an order drawn from the seed. This is the null model of a map.
        place: the sheets to look at, {module: geometry}; empty: the model's own ``place``.
        local: the layers that the cost is put into, {layer: geometry, or (source, target)}; empty: the model's own
            ``local`` where the sheets are its own too, else every placed layer that can be made local.
        objective: what is added to the loss, in one word, ``name[:strength][,option=value …]``, or several joined by +;
            ``none`` for nothing. Objectives of weights act on the layers of ``local``, and objectives of responses on
            the sheets of ``place``.
        arrange: what better places for its units are found from, and when, in one word: ``wires`` or ``responses``,
            then ``:before``, ``:during`` or ``:after``, as in ``responses:before,epochs=2``; ``none``: units stay. A
            network with a cost cannot be arranged during training, because P would change under the weights.
            ``learned``, optionally with ``lr=`` and ``apart=``, makes the positions of units parameters.
        recipe: how it is trained.
        seed: of its initial weights, the order of the data, and dropout.
    """

    task: str
    model: str
    cost: str = "flat"
    shuffled: bool = False
    place: Named = ()
    local: Named = ()
    objective: str = objectives.NONE
    arrange: str = arrangements.NONE
    recipe: Recipe = Recipe()
    seed: int = 1

    def __post_init__(self) -> None:
        seed = count("seed", self.seed, least=0, most=2**63 - 1)
        cost = costs.word(costs.as_cost("cost", self.cost))
        if boolean("shuffled", self.shuffled) and cost == "flat":
            raise wrong("shuffled", "True with the cost flat", "a cost that depends on distance")
        if not isinstance(self.recipe, Recipe):
            raise wrong_type("recipe", self.recipe, "a Recipe")
        how = arrangements.parse("arrange", self.arrange)
        if isinstance(how, arrangements.Learned) and self.shuffled:
            raise wrong("arrange", f"{how} with a shuffled prior", "shuffled False, since lengths follow the positions")
        if isinstance(how, arrangements.Learned) and cost == "flat" and self.objective == objectives.NONE:
            expected = "a cost, or an objective of wires, such as wiring"
            raise wrong("arrange", f"{how} with the cost flat and no objective, where nothing moves units", expected)
        if isinstance(how, arrangements.Learned) and math.isfinite(costs.parse(cost).reach):
            given = f"{how} with the cost {cost}, whose wires would come and go"
            raise wrong("arrange", given, "a cost that does not end, such as linear")
        if isinstance(how, arrangements.Arrangement) and how.epochs == self.recipe.epochs:
            how = dataclasses.replace(how, epochs=None)
        if how is not None and how.when == "during" and cost != "flat":
            raise wrong("arrange", f"{how} with the cost {cost}, whose P would change under the weights", NO_PRIOR)
        canonical = {
            "task": door.canonical("task", self.task),
            "model": door.canonical("model", self.model),
            "cost": cost,
            "place": named("place", self.place),
            "local": named("local", self.local, pairs=True),
            "objective": objectives.canonical("objective", self.objective),
            "arrange": arrangements.NONE if how is None else str(how),
            "seed": seed,
        }
        for name, value in canonical.items():
            object.__setattr__(self, name, value)


def named(name: str, given: Any, pairs: bool = False) -> Named:
    """Geometries by module, each in its one spelling: from a mapping, pairs, or words such as ``fc1=32x32``."""
    expected = "geometries by module, such as {fc1: 32x32}"
    if isinstance(given, str):
        given = given.split()
    if isinstance(given, Mapping):
        items = list(given.items())
    elif isinstance(given, (list, tuple)):
        items = []
        for one in given:
            if isinstance(one, str):
                key, equals, value = one.partition("=")
                if not equals:
                    raise wrong(name, repr(one), "module=geometry, such as fc1=32x32")
                items.append((key, value))
            elif isinstance(one, (list, tuple)) and len(one) == 2:
                items.append((one[0], one[1]))
            else:
                raise wrong(name, one, expected)
    else:
        raise wrong_type(name, given, expected)
    found: dict[str, Words] = {}
    for key, value in items:
        if not isinstance(key, str) or not key:
            raise wrong(name, key, "the names of modules")
        if key in found:
            raise wrong(name, f"the module {short(key)} twice", "each module once")
        words = places.canonical(f"{name} {short(key)}", value)
        if not 1 <= len(words) <= (2 if pairs else 1):
            expected = "one geometry" + (", or a source and a target" if pairs else "")
            raise wrong(f"{name} {short(key)}", ",".join(words) or "none", expected)
        found[key] = words
    return tuple(found.items())


def plain(value: Any) -> Any:
    """A config as mappings, lists and scalars."""
    if isinstance(value, Run):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        for key in ("place", "local"):
            fields[key] = {name: ",".join(words) for name, words in fields[key]}
        if value.arrange == arrangements.NONE:  # so that the configs and names of earlier runs stay the same
            del fields["arrange"]
        return {key: plain(v) for key, v in fields.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def run_from(values: Any) -> Run:
    """The run that plain ``values`` describe, as :func:`plain` makes them.

    Raises:
        ValueError: a setting that is missing, unknown or does not fit.
    """
    if isinstance(values, dict):
        values = {"arrange": arrangements.NONE} | values
    return Run(
        **{**_fields("config", values, Run), "recipe": Recipe(**_fields("recipe", values.get("recipe"), Recipe))}
    )


def _fields(name: str, values: Any, kind: type[Any]) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(kind)]
    if not isinstance(values, dict) or values.keys() != set(names):
        given = ", ".join(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise wrong(name, short(given), f"the settings {', '.join(names)}")
    return values


def read_run(directory: Path) -> Run:
    """The run in ``directory``."""
    return run_from(read_config(directory))


def write_run(directory: Path, run: Run) -> None:
    """Write the config of ``run``. The file ends with a mark, by which a truncated one is recognised."""
    text = yaml.safe_dump(plain(run), sort_keys=False, allow_unicode=True, explicit_end=True)
    write_text(directory / CONFIG, text)


def difference(found: Any, wanted: Any) -> str:
    """The settings in which two configs differ, for an error."""
    a, b = ({"arrange": arrangements.NONE} | _flat(plain(v)) for v in (found, wanted))
    return ", ".join(f"{k} = {a.get(k)} (asked: {b.get(k)})" for k in a | b if a.get(k) != b.get(k))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


def control_of(run: Run) -> Run:
    """The run of the same network with nothing that makes it local."""
    return dataclasses.replace(run, cost="flat", shuffled=False, objective=objectives.NONE, arrange=arrangements.NONE)


def condition_of(run: Run) -> str:
    """The name of what makes a run's network local."""
    cost = run.cost + (" shuffled" if run.shuffled else "")
    parts = ([] if run.cost == "flat" else [cost]) + ([] if run.objective == objectives.NONE else [run.objective])
    parts += [] if run.arrange == arrangements.NONE else [run.arrange]
    return " + ".join(parts) or "control"


def epochs_before(run: Run) -> int:
    """The epochs for which the control is trained first, so that the units can be arranged by it."""
    how = arrangements.parse("arrange", run.arrange)
    if how is None or how.when != "before":
        return 0
    return run.recipe.epochs if how.epochs is None else how.epochs


def run_name(run: Run) -> str:
    """The name of a run's directory. It is the same in every study, and different for any other settings."""
    from locality_prior._files import slug

    left_out = ("recipe", "seed") + (("objective",) if run.objective == objectives.NONE else ())
    told = {k: v for k, v in plain(run).items() if k not in left_out}
    usual = plain(Recipe())
    told["recipe"] = {k: v for k, v in plain(run.recipe).items() if v != usual[k]}
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    words = (door.label(run.task), door.label(run.model), condition_of(run).replace(" ", "-"))
    return f"{'-'.join(slug(word.partition(' ')[0])[:24] for word in words)}-seed{run.seed}-{key}"
