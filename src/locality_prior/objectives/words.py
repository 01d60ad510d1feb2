"""Objectives in one word, as flags and YAML name them, and in plain values, as files hold them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

from locality_prior._check import boolean, count, from_import_path, instance, kind_from, number, wrong
from locality_prior.objectives import base
from locality_prior.objectives.base import Objective
from locality_prior.objectives.kinds import KINDS
from locality_prior.objectives.schedules import Schedule
from locality_prior.placement import Placement

#: The word of a condition without an objective.
NONE = "none"
EXPECTED = "name[:strength][,option=value …], such as topoloss:0.5 or spatial_correlation:0.25,ramp=0.1"
#: One word stands for at most this many conditions.
MOST = 10_000
#: The kinds of objectives by the word that names each: TopoLoss is topoloss, SpatialCorrelation spatial_correlation.
WORDS: dict[str, type[Objective]] = {kind.WORD: kind for kind in KINDS.values()}


def several(name: str, text: Any) -> list[str]:
    """The canonical words that one word of a flag stands for: one for each of its strengths.

    >>> several("objective", "topoloss:0.5,2")
    ['topoloss:0.5', 'topoloss:2']

    Raises:
        ValueError, TypeError: no such objective or option; the error names the argument ``name``.
    """
    text = instance(name, text, str, EXPECTED).strip()
    if text == NONE:
        return [NONE]
    each = [_parsed(name, part) for part in re.split(r"\+(?=[A-Za-z])", text)]
    if math.prod(map(len, each)) > MOST:
        raise wrong(name, repr(text), f"at most {MOST:,} combinations of strengths")
    return ["+".join(said) for said in itertools.product(*each)]


def canonical(name: str, text: Any) -> str:
    """The one spelling of an objective, or of several that are joined by +; each with one strength."""
    words = several(name, text)
    if len(words) != 1:
        raise wrong(name, repr(text), "one strength")
    return words[0]


def bind(word: str, layers: Placement | None, sheets: Placement) -> list[Objective]:
    """The objectives of a canonical word, bound: those of weights to ``layers``, those of responses to ``sheets``.

    Raises:
        ValueError: an objective that does not fit what it is bound to.
    """
    made = []
    for part in [] if word == NONE else word.split("+"):
        kind, strength, options = _read("objective", part)
        placed = sheets if kind.OF == "responses" else layers
        if placed is None:
            raise wrong("objective", part, "a network with layers between sheets (local)")
        made.append(kind(placed, strength[0], **options))
    return made


def names(word: str) -> list[str]:
    """A name for each objective of a canonical word, in its order: the first two of a kind are wiring and wiring_2.

    >>> names("none")
    []
    """
    heads = [part.partition(":")[0] for part in ([] if word == NONE else word.split("+"))]
    before = [heads[:k].count(head) for k, head in enumerate(heads)]
    return [f"{head}_{n + 1}" if n else head for head, n in zip(heads, before, strict=True)]


def family(word: str) -> tuple[str, float | None]:
    """What objectives of different strengths share, and the strength; None for the strength of several together.

    >>> family("topoloss:0.5,factor=4")
    ('topoloss,factor=4', 0.5)
    """
    if word == NONE or "+" in word:
        return word, None
    head, _, rest = word.partition(":")
    strength, comma, options = rest.partition(",")
    return head + comma + options, float(strength)


def from_config(config: Mapping[str, Any], placed: Placement, custom: Mapping[str, Any] | None = None) -> Objective:
    """The objective that ``config``, of :meth:`Objective.config`, describes, bound to ``placed``.

    >>> import torch
    >>> import locality_prior as lp
    >>> placed = lp.place(torch.nn.Sequential(torch.nn.Linear(4, 64)), {"0": lp.Grid(8, 8)})
    >>> config = lp.objectives.TopoLoss(placed, strength=0.5).config()
    >>> lp.objectives.from_config(config, placed)
    TopoLoss(0: strength=0.5, factor=8.0, cosine='units')

    Args:
        config: plain values.
        placed: the modules to bind it to.
        custom: your own classes and functions by the import path under which they were saved.

    Raises:
        ValueError: no such objective, values that do not fit it, or a class or function that ``custom`` does not hold.
    """
    kind, values = kind_from("objective", config, KINDS, Objective, custom)
    strength = values.pop("strength", base.usual_strength(kind))
    if isinstance(strength, Mapping):
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in strength.items()}
        if not fields.keys() <= {"strength", "until", "at", "factor"} or "strength" not in fields:
            raise wrong("strength", repr(strength), "a number, or strength, until, at and factor")
        strength = Schedule(**fields)
    elif isinstance(strength, str):
        strength = from_import_path("strength", strength, custom)
    known = base.options_of(kind)
    if strange := [key for key in values if key not in known]:
        raise wrong("objective", f"{strange[0]} in {config!r}", f"options among {', '.join(known) or 'none'}")
    return kind(placed, strength, **values)


def _parsed(name: str, part: str) -> list[str]:
    """The canonical words of one objective, one for each of its strengths."""
    kind, strengths, options = _read(name, part)
    said = []
    for strength in strengths:
        tail = _schedule(strength) + [f"{k}={_said(v)}" for k, v in options.items()]
        said.append(",".join([f"{kind.WORD}:{_digits(strength.strength)}", *tail]))
    if len(set(said)) < len(said):
        raise wrong(name, repr(part), "each strength once")
    return said


def _schedule(strength: Schedule) -> list[str]:
    said = [f"ramp={_digits(strength.until)}"] if strength.until else []
    if strength.at:
        said.append("steps=" + "/".join(map(_digits, strength.at)))
        if strength.factor != 10:
            said.append(f"times={_digits(strength.factor)}")
    return said


def _digits(value: float) -> str:
    """A number in few characters, exactly, and without the + that joins objectives."""
    text = f"{value:g}"
    return (text if float(text) == value else repr(value)).replace("e+", "e")


def _said(value: Any) -> str:
    return _digits(value) if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _read(name: str, part: str) -> tuple[type[Objective], list[Schedule], dict[str, Any]]:
    """A kind, its strengths and its options other than the usual ones, from one objective's word."""
    head, colon, rest = part.partition(":")
    kind = WORDS.get(head.strip().lower())
    if kind is None:
        raise wrong(name, repr(part), f"{EXPECTED}, with a name of {', '.join(WORDS)}")
    strengths, usual = [], base.options_of(kind)
    options: dict[str, Any] = {}
    told: dict[str, Any] = {}
    given: set[str] = set()
    for item in rest.split(",") if colon else []:
        key, equals, value = (text.strip() for text in item.partition("="))
        if equals and key in given:
            raise wrong(name, repr(part), f"{key} once")
        given.add(key)
        if not equals:
            strengths.append(number(f"{name} {head}: strength", _number(name, part, item), least=0.0))
        elif key == "ramp":
            told["until"] = number("ramp", _number(name, part, value), 0.0, 1.0)
        elif key == "steps":
            told["at"] = tuple(_number(name, part, share) for share in value.split("/"))
        elif key == "times":
            told["factor"] = _number(name, part, value)
        elif key in usual:
            options[key] = _option(f"{name} {head}: {key}", value, usual[key])
        else:
            known = ", ".join(["ramp", "steps", "times", *usual])
            raise wrong(name, repr(part), f"options among {known}")
    if "factor" in told and "at" not in told:
        raise wrong(name, repr(part), "steps where there are times")
    options = {key: options[key] for key in usual if key in options and options[key] != usual[key]}
    strengths = strengths or [base.usual_strength(kind)]
    return kind, [Schedule(strength, **told) for strength in strengths], options


def _option(name: str, text: str, usual: Any) -> Any:
    """An option's value, of the type of its usual one."""
    if isinstance(usual, bool):
        return boolean(name, {"true": True, "false": False}.get(text.lower(), text))
    if isinstance(usual, int):
        return count(name, int(text) if text.isdecimal() else text, least=0)
    if isinstance(usual, float) or usual is None:
        return number(name, _number(name, text, text))
    return text


def _number(name: str, part: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise wrong(name, repr(part), EXPECTED) from None
