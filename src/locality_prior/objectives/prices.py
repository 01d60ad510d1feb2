"""A wiring cost at any price: Σ f(d)|V|, or Σ f(d)V²."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from locality_prior._check import choice, shown, wrong, wrong_type
from locality_prior.cost import WORDS, Cost, parse, word
from locality_prior.geometry import Geometry
from locality_prior.objectives import _given
from locality_prior.objectives._kept import kept
from locality_prior.objectives._precision import precise
from locality_prior.objectives._wires import between_sheets, connected, over_kernel
from locality_prior.objectives.base import OfWeights
from locality_prior.objectives.schedules import Strength
from locality_prior.placement import Placement

#: What is charged for a wire of each length: a word, a cost, or a function of a tensor of lengths.
Price = str | Cost | Callable[[Tensor], Tensor]
#: The word of the price f(d) = d.
DISTANCE = "distance"
EXPECTED = '"distance", a cost, such as "linear:2", or a function of a tensor of lengths'


def wiring(
    weight: Tensor, target: Geometry, source: Geometry | None = None, *, price: Price = DISTANCE, power: int = 1
) -> Tensor:
    """Σ_ij f(d_ij) |V_ij|^power over all pairs of a target and a source unit.

    With the price f(d) = d this is the distance-weighted L1 of the literature. A price need not be a cost: any function
    with f ≥ 0 will do. :func:`~locality_prior.wiring_cost` charges the wires of locality layers alone, so that it can
    take a cost that ends.

    >>> import torch
    >>> import locality_prior as lp
    >>> weight = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    >>> lp.objectives.wiring(weight, lp.Line(2)), lp.objectives.wiring(weight, lp.Line(2), price="linear", power=2)
    (tensor(5.), tensor(43.))

    Args:
        weight: V, (out, in), or (out, in, …) with a kernel, each of whose entries pays.
        target: the places of the rows.
        source: the places of the columns; None: the target.
        price: "distance", f(d) = d; a cost or its word, f(d) = c(d), where / can stand for a comma ("power:2/1.5"); or
            a function from all lengths (out, in) to as many prices. It is called once for each pair of sheets.
        power: 1 or 2.

    Raises:
        ValueError, TypeError: a price that is negative, or not finite for some pair, as beyond the end of a cost; a
            weight that does not fit the geometries.
    """
    found, at, start = _given.with_source(weight, target, source)
    v = precise(found)
    size = v.abs() if choice("power", power, (1, 2)) == 1 else v.square()
    return (over_kernel(size) * _charges(at, start, price, v.dtype, v.device)).sum()


class Wiring(OfWeights):
    """:func:`wiring` of the weights into each placed module, all gates of a recurrent one.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 3))
    >>> objective = lp.objectives.Wiring(lp.place(net, {"0": lp.Line(3)}), strength=0.1)
    >>> _ = torch.nn.init.ones_(net[0].weight)
    >>> objective.value(), objective()  # 4 · 1 + 2 · 2, and a tenth of it
    (tensor(8., grad_fn=<SumBackward0>), tensor(0.8000, grad_fn=<MulBackward0>))

    Args:
        placed: the modules, and the places of their units and of their sources.
        strength: how much it counts; the usual one is not a paper's.
        price: what a wire of each length costs. A price that is a function cannot be saved.
        power: 1 or 2.

    Raises:
        ValueError: a module whose source is not known, or a price that does not fit.
    """

    WORD = "wiring"
    price: Price
    power: int

    def __init__(
        self, placed: Placement, strength: float | Strength = 1e-4, *, price: Price = DISTANCE, power: int = 1
    ) -> None:
        super().__init__(placed, strength, price=_said(price), power=choice("power", power, (1, 2)))

    def of(self, name: str) -> Tensor:
        each = [
            wiring(one.weight, one.target, source, price=self.price, power=self.power)
            for one, source in between_sheets(self.placed, name)
        ]
        return torch.stack(each).sum()

    def config(self) -> dict[str, Any]:
        if not isinstance(self.price, str):
            raise wrong("price", _name(self.price), "a word, since no other price can be saved")
        return super().config()


@kept
def _charges(target: Geometry, source: Geometry, price: Price, dtype: torch.dtype, device: torch.device) -> Tensor:
    """f(d) of every pair, (out, in)."""
    learned = target.learned or source.learned
    d = connected(target, source, dtype, device) if learned else None
    return charges(target, source, price, dtype, d).to(device)


def charges(
    target: Geometry, source: Geometry, price: Price, dtype: torch.dtype = torch.float64, d: Tensor | None = None
) -> Tensor:
    """f(d) of every pair, (out, in); differentiable where the distances ``d`` are given.

    Raises:
        ValueError, TypeError: no price, or one that is negative or not finite for some pair.
    """
    differentiable = d is not None
    if d is None:
        d = target.distances(None if source is target else source)
    values = _function(price)(d.clone())  # a function may write into what it is given
    if not isinstance(values, Tensor) or values.shape != d.shape:
        given = f"{_name(price)}, which gives {shown(values)}"
        raise wrong("price", given, f"a tensor of prices {tuple(d.shape)}")
    values = (values if differentiable else values.detach()).to(dtype)
    fits = (values >= 0) & values.isfinite()
    if not fits.all():
        i, j = (~fits).nonzero()[0].tolist()
        given = f"{_name(price)}, {float(values[i, j]):g} at d = {float(d[i, j]):g}"
        raise wrong("price", given, "a finite price of at least 0 for every pair")
    return values


def _function(price: Any) -> Callable[[Tensor], Tensor]:
    known = _known(price)
    if known == DISTANCE:
        return lambda d: d
    return known.cost if isinstance(known, Cost) else known


def _known(price: Any) -> Any:
    """A price as "distance", as a cost, or as a function."""
    if isinstance(price, str) and price != DISTANCE:
        text = price.replace("/", ",")
        if text.partition("@")[0].partition(":")[0].lower() not in WORDS:
            raise wrong("price", repr(price), f"distance, or a cost's word, with a name of {', '.join(WORDS)}")
        return parse(text, "price")
    if price == DISTANCE or isinstance(price, Cost) or (callable(price) and not isinstance(price, type)):
        return price
    raise wrong_type("price", price, EXPECTED)


def _said(price: Any) -> Price:
    """A price in its one word, in which no comma separates it from other options; one without a word as it is."""
    known = _known(price)
    return word(known).replace(",", "/") if type(known) in WORDS.values() else known


def _name(price: Any) -> str:
    return repr(price) if isinstance(price, (str, Cost)) else getattr(price, "__name__", type(price).__name__)
