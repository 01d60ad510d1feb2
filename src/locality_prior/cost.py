"""What a wire of length d costs, c(d) ≥ 1, and the signal that survives it, s(d) = 1/c(d).

A cost is immutable, compares by value and round-trips through plain config. c(0) = 1; where there is no wire
(d = inf, or beyond a cut-off) c = inf and s = 0.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from locality_prior._check import ROUNDING, from_import_path, import_path, positive, wrong

C = TypeVar("C", bound="Cost")


@dataclass(frozen=True)
class Cost(ABC):
    """Cost and signal of a wire as functions of its length.

    Args:
        radius: wires longer than this are not there; inf: no cut-off.
    """

    _: KW_ONLY
    radius: float = math.inf

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.type == "float" and not (field.name == "radius" and self.radius == math.inf):
                object.__setattr__(self, field.name, positive(field.name, getattr(self, field.name)))

    @abstractmethod
    def _signal(self, d: Tensor) -> Tensor:
        """s(d) before the cut-off."""

    def _cost(self, d: Tensor) -> Tensor:
        return 1 / self._signal(d)

    @property
    def reach(self) -> float:
        """The distance beyond which there is no wire; inf where there always is one."""
        return self.radius

    def signal(self, d: Any) -> Tensor:
        """s(d) = 1/c(d): the share of the signal that arrives over length ``d`` ≥ 0 (any shape); 0 for no wire."""
        there, d = self._ask(d)
        return torch.where(there, self._signal(d), 0.0)

    def cost(self, d: Any) -> Tensor:
        """c(d) ≥ 1: what a wire of length ``d`` ≥ 0 (any shape) costs per unit of signal; inf for no wire."""
        there, d = self._ask(d)
        return torch.where(there, self._cost(d), math.inf)

    def _ask(self, d: Any) -> tuple[Tensor, Tensor]:
        """Where there is a wire, and the lengths with 0 elsewhere: no formula meets inf, forward or backward."""
        d = d if isinstance(d, Tensor) and d.is_floating_point() else torch.as_tensor(d, dtype=torch.float64)
        if (d < 0).any():
            raise wrong("d", f"{float(d.min()):g}", "lengths of at least 0")
        there = self._wired(d)
        return there, torch.where(there, d, 0.0)

    def _wired(self, d: Tensor) -> Tensor:
        return (d <= self.radius * (1 + ROUNDING)) & d.isfinite()

    def within(self: C, radius: float) -> C:
        """The same cost, cut off: wires with d ≤ ``radius`` alone are there."""
        return dataclasses.replace(self, radius=min(self.radius, positive("radius", radius)))

    def config(self) -> dict[str, Any]:
        """Plain values from which :func:`from_config` makes an equal cost."""
        values = {k: v for k, v in vars(self).items() if not (k == "radius" and v == math.inf)}
        return {"type": type(self).__name__, **values}

    def __repr__(self) -> str:
        config = self.config()
        name, radius = config.pop("type"), config.pop("radius", None)
        unsaid = {field.name: field.default for field in dataclasses.fields(self)}
        shown = [f"{k}={_number(v)}" for k, v in config.items() if v != unsaid[k]]
        return f"{name}({', '.join(shown)})" + ("" if radius is None else f".within({_number(radius)})")


def _number(value: float) -> str:
    """``value`` as short as can be read back."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)


@dataclass(frozen=True, repr=False)
class Linear(Cost):
    """c(d) = 1 + d/ℓ."""

    length: float = 1.0

    def _cost(self, d: Tensor) -> Tensor:
        return 1 + d / self.length

    def _signal(self, d: Tensor) -> Tensor:
        return 1 / self._cost(d)


@dataclass(frozen=True, repr=False)
class Sqrt(Cost):
    """c(d) = √(1 + d/ℓ)."""

    length: float = 1.0

    def _cost(self, d: Tensor) -> Tensor:
        return (1 + d / self.length).sqrt()

    def _signal(self, d: Tensor) -> Tensor:
        return (1 + d / self.length).rsqrt()


@dataclass(frozen=True, repr=False)
class Quadratic(Cost):
    """c(d) = (1 + d/ℓ)²."""

    length: float = 1.0

    def _cost(self, d: Tensor) -> Tensor:
        return (1 + d / self.length).square()

    def _signal(self, d: Tensor) -> Tensor:
        return 1 / self._cost(d)


@dataclass(frozen=True, repr=False)
class Power(Cost):
    """c(d) = (1 + d/ℓ)^p."""

    length: float = 1.0
    p: float = None  # type: ignore[assignment]  # no default: __post_init__ asks for it

    def _cost(self, d: Tensor) -> Tensor:
        return (1 + d / self.length) ** self.p

    def _signal(self, d: Tensor) -> Tensor:
        return (1 + d / self.length) ** -self.p


@dataclass(frozen=True, repr=False)
class Exponential(Cost):
    """c(d) = e^(d/ℓ)."""

    length: float = 1.0

    def _cost(self, d: Tensor) -> Tensor:
        return (d / self.length).exp()

    def _signal(self, d: Tensor) -> Tensor:
        return (-d / self.length).exp()


@dataclass(frozen=True, repr=False)
class Gaussian(Cost):
    """c(d) = e^(d²/2ℓ²)."""

    length: float = 1.0

    def _cost(self, d: Tensor) -> Tensor:
        return (d.square() / (2 * self.length**2)).exp()

    def _signal(self, d: Tensor) -> Tensor:
        return (-d.square() / (2 * self.length**2)).exp()


@dataclass(frozen=True, repr=False)
class LinearDecay(Cost):
    """s(d) = max(0, 1 − d/R): the signal, not the cost, is linear, and ends at ``end`` = R."""

    end: float = None  # type: ignore[assignment]  # no default: __post_init__ asks for it

    @property
    def reach(self) -> float:
        return min(self.radius, self.end)

    def _wired(self, d: Tensor) -> Tensor:
        return super()._wired(d) & (d < self.end * (1 - ROUNDING))

    def _signal(self, d: Tensor) -> Tensor:
        return (1 - d / self.end).clamp(min=0)


@dataclass(frozen=True, repr=False)
class Flat(Cost):
    """c(d) = 1: distance costs nothing (the control)."""

    def _signal(self, d: Tensor) -> Tensor:
        return 1 + 0 * d  # a constant with a gradient: 0


@dataclass(frozen=True, repr=False)
class Custom(Cost):
    """c(d) = f(d), a user's own function.

    Args:
        f: takes a tensor of lengths and returns costs ≥ 1 of the same shape. It is saved by its import path, so a
            lambda works but cannot be saved.
    """

    f: Callable[[Tensor], Tensor] = None  # type: ignore[assignment]  # no default: __post_init__ asks for it

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.f):
            raise wrong("f", repr(self.f), "a function of distances that returns costs of at least 1")

    def _cost(self, d: Tensor) -> Tensor:
        cost = self.f(d)
        if not isinstance(cost, Tensor) or cost.shape != d.shape:
            shape = getattr(cost, "shape", "")
            raise wrong("f", f"{type(cost).__name__} {shape} from {self.f!r}", f"a tensor of {tuple(d.shape)}")
        if not (cost >= 1 - ROUNDING).all():
            at = (~(cost >= 1 - ROUNDING)).nonzero()[0].tolist()
            raise wrong("f", f"cost {float(cost[tuple(at)]):g} at d = {float(d[tuple(at)]):g}", "at least 1")
        return cost

    def _signal(self, d: Tensor) -> Tensor:
        return 1 / self._cost(d)

    def config(self) -> dict[str, Any]:
        return {**super().config(), "f": import_path("f", self.f)}

    def __repr__(self) -> str:
        within = "" if self.radius == math.inf else f".within({_number(self.radius)})"
        return f"Custom({getattr(self.f, '__name__', self.f)}){within}"


KINDS: dict[str, type[Cost]] = {
    kind.__name__: kind for kind in (Linear, Sqrt, Quadratic, Power, Exponential, Gaussian, LinearDecay, Flat, Custom)
}


def from_config(config: dict[str, Any]) -> Cost:
    """The cost that ``config`` (of :meth:`Cost.config`) describes.

    Raises:
        ValueError: no such cost, or values that do not fit it.
    """
    values = dict(config) if isinstance(config, dict) else {}
    kind = KINDS.get(str(values.pop("type", "")))
    if kind is None:
        raise wrong("cost", repr(config), f'a mapping whose "type" is one of {", ".join(KINDS)}')
    if kind is Custom and "f" in values:
        values["f"] = from_import_path("f", values["f"])
    try:
        return kind(**values)
    except TypeError:
        raise wrong("cost", repr(config), f"the values of {kind.__name__}") from None


def parse(text: str) -> Cost:
    """The cost in one word, as the command line takes it: ``name[:ℓ[,p]][@radius]``.

    >>> parse("linear"), parse("power:2,1.5"), parse("linear@2")
    (Linear(), Power(length=2, p=1.5), Linear().within(2))
    """
    head, at, radius = text.partition("@")
    name, _, numbers = head.partition(":")
    kind = {k.lower(): v for k, v in KINDS.items() if v is not Custom}.get(name.lower())
    if kind is None:
        known = ", ".join(k.lower() for k in KINDS if k != "Custom")
        raise wrong("cost", repr(text), f"name[:length[,p]][@radius] with a name of {known}")
    names = [f.name for f in dataclasses.fields(kind) if f.name != "radius"]
    given = numbers.split(",") if numbers else []
    if len(given) > len(names):
        raise wrong("cost", repr(text), f"at most {len(names)} numbers after {name}")
    made = kind(**{n: positive(n, v) for n, v in zip(names, given, strict=False)})
    return made.within(positive("radius", radius)) if at else made


def word(cost: Cost) -> str:
    """``cost`` in the one word that :func:`parse` takes.

    >>> word(Power(2, 1.5)), word(Linear().within(2))
    ('power:2,1.5', 'linear@2')
    """
    if isinstance(cost, Custom):
        raise wrong("cost", repr(cost), "one that has a name")
    numbers = {f.name: (getattr(cost, f.name), f.default) for f in dataclasses.fields(cost) if f.name != "radius"}
    said = ",".join(_number(v) for v, _ in numbers.values()) if any(v != d for v, d in numbers.values()) else ""
    within = "" if cost.radius == math.inf else f"@{_number(cost.radius)}"
    return type(cost).__name__.lower() + (f":{said}" if said else "") + within


def scaled(cost: Cost, scale: float) -> Cost:
    """``cost`` with its length, or where it ends, times ``scale``; a cut-off stays, and a flat cost has no length."""
    name = next((f.name for f in dataclasses.fields(cost) if f.name in ("length", "end")), None)
    if name is None:
        return cost
    return dataclasses.replace(cost, **{name: getattr(cost, name) * positive("scale", scale)})
