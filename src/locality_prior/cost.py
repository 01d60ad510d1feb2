"""What a wire of length d costs, c(d) ≥ 1, and the signal that survives it, s(d) = 1/c(d).

A cost is immutable, compares by value and can be saved as plain values. c(0) = 1; where there is no wire
(d = inf, or beyond a cut-off) c = inf and s = 0. A word can stand wherever a cost is expected: ``"linear@3"`` is
``Linear().within(3)`` (see :func:`parse`).
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from locality_prior._check import (
    ROUNDING,
    Told,
    from_import_path,
    import_path,
    instance,
    kind_from,
    positive,
    short,
    wrong,
)
from locality_prior.geometry._given import reals

__all__ = [
    "Cost",
    "Custom",
    "Exponential",
    "Flat",
    "Gaussian",
    "Linear",
    "LinearDecay",
    "Power",
    "Quadratic",
    "Sqrt",
    "from_config",
    "parse",
    "word",
]

C = TypeVar("C", bound="Cost")


@dataclass(frozen=True)
class Cost(ABC):
    """Cost and signal of a wire as functions of its length.

    A subclass of your own is a cost like any other. It is a frozen dataclass, whose float fields must be above 0, and
    defines :meth:`cost_of`:

    >>> import torch
    >>> from dataclasses import dataclass
    >>> from locality_prior.cost import Cost
    >>> @dataclass(frozen=True, repr=False)
    ... class Logarithmic(Cost):
    ...     length: float = 1.0
    ...
    ...     def cost_of(self, d):
    ...         return 1 + torch.log1p(d / self.length)

    The class is saved by its import path, and whoever loads it passes the class itself (``custom``): see
    :func:`from_config`. A single function does not need a class: see :class:`Custom`.

    Args:
        radius: there are no wires longer than this; inf: no cut-off.
    """

    #: What an error calls the formula. Where it is empty, the name of the class.
    FORMULA: ClassVar[str] = ""

    _: KW_ONLY
    radius: float = math.inf

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            # in a module with "from __future__ import annotations" the type of a field is a string
            if field.type in (float, "float") and not (field.name == "radius" and self.radius == math.inf):
                object.__setattr__(self, field.name, positive(field.name, getattr(self, field.name)))

    @abstractmethod
    def cost_of(self, d: Tensor) -> Tensor:
        """c(d) ≥ 1 before any cut-off, of the shape of ``d``; all lengths are finite and at least 0."""

    def signal_of(self, d: Tensor) -> Tensor:
        """s(d) = 1/c(d) before any cut-off; override it where there is a more accurate formula."""
        cost: Any = self.cost_of(d)
        return 1 / cost if isinstance(cost, Tensor) else cost  # which is then refused by name

    @property
    def reach(self) -> float:
        """The distance beyond which there is no wire; inf where there always is one."""
        return self.radius

    def signal(self, d: Any) -> Tensor:
        """s(d) = 1/c(d): the share of the signal that arrives over length ``d`` ≥ 0 (any shape); 0 for no wire."""
        there, d = self._ask(d)
        s = self.signal_of(d)
        self._check(d, s, lambda: (s >= 0) & (s <= 1 + ROUNDING), lambda at: 1 / float(s[at]) if s[at] else math.inf)
        return torch.where(there, s, 0.0)

    def cost(self, d: Any) -> Tensor:
        """c(d) ≥ 1: what a wire of length ``d`` ≥ 0 (any shape) costs per unit of signal; inf for no wire."""
        there, d = self._ask(d)
        c = self.cost_of(d)
        self._check(d, c, lambda: c >= 1 - ROUNDING, lambda at: float(c[at]))
        return torch.where(there, c, math.inf)

    def _check(
        self, d: Tensor, values: Any, fits: Callable[[], Tensor], cost: Callable[[tuple[int, ...]], float]
    ) -> None:
        """Whether the formula gave a cost of at least 1 for each length."""
        name = self.FORMULA or type(self).__name__
        if not isinstance(values, Tensor) or values.shape != d.shape:
            raise wrong(
                name, f"{type(values).__name__} {getattr(values, 'shape', '')}", f"a tensor of {tuple(d.shape)}"
            )
        there = fits()
        if not there.all():
            at = tuple((~there).nonzero()[0].tolist())
            raise wrong(name, f"cost {cost(at):g} at d = {float(d[at]):g}", "at least 1")

    def _ask(self, d: Any) -> tuple[Tensor, Tensor]:
        """Where there is a wire, and the lengths with 0 elsewhere: no formula meets inf, forward or backward."""
        if not isinstance(d, Tensor):
            d = reals("d", d, "lengths of at least 0")
        elif d.is_complex() or d.layout != torch.strided or d.is_meta:
            raise wrong("d", f"{d.dtype}, {d.layout} on {d.device}", "lengths of at least 0, dense and real")
        elif not d.is_floating_point():
            d = d.double()
        if (d < 0).any():
            raise wrong("d", f"{float(d.min()):g}", "lengths of at least 0")
        there = self._wired(d)
        return there, torch.where(there, d, 0.0)

    def _wired(self, d: Tensor) -> Tensor:
        return (d <= self.radius * (1 + ROUNDING)) & d.isfinite()

    def within(self: C, radius: float) -> C:
        """The same cost with a cut-off: there are only wires with d ≤ ``radius``."""
        return dataclasses.replace(self, radius=min(self.radius, positive("radius", radius)))

    def config(self) -> dict[str, Any]:
        """Plain values (JSON, YAML) from which :func:`from_config` makes an equal cost."""
        kind, values = type(self), {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        if self.radius == math.inf:
            del values["radius"]
        return {"type": kind.__name__ if kind in KINDS.values() else import_path("cost", kind), **values}

    def __repr__(self) -> str:
        shown = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "radius" and value != field.default:
                shown.append(f"{field.name}={_number(value) if isinstance(value, float) else short(repr(value))}")
        return f"{type(self).__name__}({', '.join(shown)}){self._cut_off()}"

    def _cut_off(self) -> str:
        return "" if self.radius == math.inf else f".within({_number(self.radius)})"


def _number(value: float) -> str:
    """``value`` as short as can be read back."""
    brief = f"{value:g}"
    return brief if float(brief) == value else repr(value)


@dataclass(frozen=True, repr=False)
class Linear(Cost):
    """c(d) = 1 + d/ℓ.

    >>> import locality_prior as lp
    >>> cost = lp.cost.Linear(2)
    >>> cost.cost([0.0, 2.0, 4.0]), cost.signal([0.0, 2.0, 4.0])
    (tensor([1., 2., 3.], dtype=torch.float64), tensor([1.0000, 0.5000, 0.3333], dtype=torch.float64))
    """

    length: float = 1.0

    def cost_of(self, d: Tensor) -> Tensor:
        return 1 + d / self.length


@dataclass(frozen=True, repr=False)
class Sqrt(Cost):
    """c(d) = √(1 + d/ℓ).

    >>> import locality_prior as lp
    >>> lp.cost.Sqrt().cost([0.0, 3.0, 8.0])
    tensor([1., 2., 3.], dtype=torch.float64)
    """

    length: float = 1.0

    def cost_of(self, d: Tensor) -> Tensor:
        return (1 + d / self.length).sqrt()

    def signal_of(self, d: Tensor) -> Tensor:
        return (1 + d / self.length).rsqrt()


@dataclass(frozen=True, repr=False)
class Quadratic(Cost):
    """c(d) = (1 + d/ℓ)².

    >>> import locality_prior as lp
    >>> lp.cost.Quadratic().cost([0.0, 1.0, 2.0])
    tensor([1., 4., 9.], dtype=torch.float64)
    """

    length: float = 1.0

    def cost_of(self, d: Tensor) -> Tensor:
        return (1 + d / self.length).square()


@dataclass(frozen=True, repr=False)
class Power(Cost):
    """c(d) = (1 + d/ℓ)^p.

    >>> import locality_prior as lp
    >>> lp.cost.Power(1, 3).cost([0.0, 1.0, 2.0])
    tensor([ 1.,  8., 27.], dtype=torch.float64)
    """

    length: float = 1.0
    p: float = None  # type: ignore[assignment]  # no default: __post_init__ asks for it

    def cost_of(self, d: Tensor) -> Tensor:
        return (1 + d / self.length) ** self.p

    def signal_of(self, d: Tensor) -> Tensor:
        return (1 + d / self.length) ** -self.p


@dataclass(frozen=True, repr=False)
class Exponential(Cost):
    """c(d) = e^(d/ℓ).

    >>> import locality_prior as lp
    >>> lp.cost.Exponential(2).cost([0.0, 2.0, 4.0])
    tensor([1.0000, 2.7183, 7.3891], dtype=torch.float64)
    """

    length: float = 1.0

    def cost_of(self, d: Tensor) -> Tensor:
        return (d / self.length).exp()

    def signal_of(self, d: Tensor) -> Tensor:
        return (-d / self.length).exp()


@dataclass(frozen=True, repr=False)
class Gaussian(Cost):
    """c(d) = e^(d²/2ℓ²).

    >>> import locality_prior as lp
    >>> lp.cost.Gaussian(2).cost([0.0, 2.0, 4.0])
    tensor([1.0000, 1.6487, 7.3891], dtype=torch.float64)
    """

    length: float = 1.0

    def cost_of(self, d: Tensor) -> Tensor:
        return (d.square() / (2 * self.length**2)).exp()

    def signal_of(self, d: Tensor) -> Tensor:
        return (-d.square() / (2 * self.length**2)).exp()


@dataclass(frozen=True, repr=False)
class LinearDecay(Cost):
    """s(d) = max(0, 1 − d/R): the signal, not the cost, is linear, and ends at ``end`` = R.

    >>> import locality_prior as lp
    >>> lp.cost.LinearDecay(4).signal([0.0, 1.0, 2.0, 4.0])
    tensor([1.0000, 0.7500, 0.5000, 0.0000], dtype=torch.float64)
    """

    end: float = None  # type: ignore[assignment]  # no default: __post_init__ asks for it

    @property
    def reach(self) -> float:
        return min(self.radius, self.end)

    def _wired(self, d: Tensor) -> Tensor:
        return super()._wired(d) & (d < self.end * (1 - ROUNDING))

    def cost_of(self, d: Tensor) -> Tensor:
        return 1 / self.signal_of(d)

    def signal_of(self, d: Tensor) -> Tensor:
        return (1 - d / self.end).clamp(min=0)


@dataclass(frozen=True, repr=False)
class Flat(Cost):
    """c(d) = 1: distance costs nothing (the control).

    >>> import locality_prior as lp
    >>> lp.cost.Flat().cost([0.0, 1.0, 2.0])
    tensor([1., 1., 1.], dtype=torch.float64)
    """

    def cost_of(self, d: Tensor) -> Tensor:
        return 1 + 0 * d  # a constant that has a gradient, 0


@dataclass(frozen=True, repr=False)
class Custom(Cost):
    """c(d) = f(d), a user's own function.

    >>> import locality_prior as lp
    >>> def steep(d):
    ...     return 1 + d**4
    >>> lp.cost.Custom(steep).within(2).cost([0.0, 1.0, 2.0])
    tensor([ 1.,  2., 17.], dtype=torch.float64)

    Args:
        f: takes a tensor of lengths and returns costs ≥ 1 of the same shape. It is saved by its import path, so a
            lambda works but cannot be saved.
    """

    FORMULA: ClassVar[str] = "f"

    f: Callable[[Tensor], Tensor] = None  # type: ignore[assignment]  # no default: __post_init__ asks for it

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.f):
            raise wrong("f", self.f, "a function of distances that returns costs of at least 1")

    def cost_of(self, d: Tensor) -> Tensor:
        return self.f(d)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "f": import_path("f", self.f)}

    def __repr__(self) -> str:
        return f"Custom({getattr(self.f, '__name__', self.f)}){self._cut_off()}"


#: The built-in costs, by the names under which they are saved.
KINDS: dict[str, type[Cost]] = {
    kind.__name__: kind for kind in (Linear, Sqrt, Quadratic, Power, Exponential, Gaussian, LinearDecay, Flat, Custom)
}
#: The built-in costs that a word can name.
WORDS: dict[str, type[Cost]] = {name.lower(): kind for name, kind in KINDS.items() if kind is not Custom}


def from_config(config: Mapping[str, Any], custom: Mapping[str, Any] | None = None) -> Cost:
    """The cost that ``config``, made by :meth:`Cost.config`, describes.

    Nothing is imported and no function is looked up: pass a cost of your own in ``custom``.

    >>> import locality_prior as lp
    >>> lp.cost.from_config(lp.cost.Linear(2).config())
    Linear(length=2)

    Args:
        config: plain values.
        custom: your own functions and classes by the import path under which they were saved, such as
            ``{"mine.costs:parabola": parabola}``.

    Raises:
        ValueError: no such cost, values that do not fit it, or a function or class that ``custom`` does not hold.
    """
    kind, values = kind_from("cost", config, KINDS, Cost, custom)
    if kind is Custom and "f" in values:
        values["f"] = from_import_path("f", values["f"], custom)
    try:
        return kind(**values)
    except Told:
        raise
    except TypeError:
        raise wrong("cost", repr(config), f"the values of {kind.__name__}") from None


def as_cost(name: str, value: Any) -> Cost:
    """``value`` as a cost: it is one already, or a word such as "linear", "exponential:2", "power:1,1.5" or "linear@3".

    Raises:
        ValueError, TypeError: ``value`` is neither; the error names the argument ``name``.
    """
    if isinstance(value, str):
        return parse(value, name)
    return instance(name, value, Cost, 'a cost, such as locality_prior.cost.Linear() or "linear@3"')


def parse(text: str, name: str = "cost") -> Cost:
    """The cost in one word, as the command line takes it: ``name[:ℓ[,p]][@radius]``.

    >>> from locality_prior.cost import parse
    >>> parse("linear"), parse("power:2,1.5"), parse("linear@2")
    (Linear(), Power(length=2, p=1.5), Linear().within(2))

    Raises:
        ValueError: no such word; the error names the argument ``name``.
    """
    head, at, radius = instance(name, text, str, "a word, such as linear@3").partition("@")
    kind_name, colon, numbers = head.partition(":")
    kind = WORDS.get(kind_name.lower())
    if kind is None:
        raise wrong(name, repr(text), f"name[:length[,p]][@radius] with a name of {', '.join(WORDS)}")
    fields = [f for f in dataclasses.fields(kind) if f.name != "radius"]
    given = numbers.split(",") if colon else []
    if len(given) > len(fields):
        raise wrong(name, repr(text), f"at most {len(fields)} numbers after {kind_name}")
    values = {field.name: _read(name, text, field.name, number) for field, number in zip(fields, given, strict=False)}
    for field in fields[len(given) :]:
        if field.default is None:
            example = ",".join([*given, *["2"] * (len(fields) - len(given))])
            raise wrong(name, f"{text!r} without {field.name}", f"a number for it too, such as {kind_name}:{example}")
    made = kind(**values)
    return made.within(_read(name, text, "radius", radius)) if at else made


def _read(name: str, text: str, field: str, number: str) -> float:
    try:
        return positive(field, float(number))
    except ValueError:
        raise wrong(name, repr(text), f"a finite number above 0 as its {field}") from None


def word(cost: Cost) -> str:
    """``cost`` as the word that :func:`parse` takes. Equal costs give the same word.

    >>> from locality_prior.cost import Linear, Power, parse, word
    >>> word(Power(2, 1.5)), word(Linear().within(2)), word(parse("Linear:1.0"))
    ('power:2,1.5', 'linear@2', 'linear')

    Raises:
        ValueError: a cost of the user's own, which no word names.
    """
    if type(cost) not in WORDS.values():
        raise wrong("cost", cost, f"one of {', '.join(WORDS)}")
    numbers = {f.name: (getattr(cost, f.name), f.default) for f in dataclasses.fields(cost) if f.name != "radius"}
    said = ",".join(_number(v) for v, _ in numbers.values()) if any(v != d for v, d in numbers.values()) else ""
    within = "" if cost.radius == math.inf else f"@{_number(cost.radius)}"
    return type(cost).__name__.lower() + (f":{said}" if said else "") + within


def scaled(cost: Cost, scale: float) -> Cost:
    """``cost`` with its length or its end times ``scale``. A cut-off is not scaled, nor a cost without a length."""
    name = next((f.name for f in dataclasses.fields(cost) if f.name in ("length", "end")), None)
    if name is None:
        return cost
    return dataclasses.replace(cost, **{name: getattr(cost, name) * positive("scale", scale)})
