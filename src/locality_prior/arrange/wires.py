"""Arranging by wires: which unit sits where, so that strong wires are short."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from locality_prior._check import check_fits, count, instance, needs, wrong, wrong_type
from locality_prior._memory import aside
from locality_prior.arrange import windows
from locality_prior.arrange.starts import coordinates, of_flow, spread, turned
from locality_prior.arrange.swaps import Clock, Progress, Quadratic, improve, kicked
from locality_prior.geometry import Geometry
from locality_prior.geometry.permuted import permutation
from locality_prior.objectives import _given
from locality_prior.objectives._wires import over_kernel
from locality_prior.objectives.prices import DISTANCE, Price, charges

#: An order of a sheet's units is kept where the sum is smaller than before by more than this share of it.
LEAST = 1e-10


def by_wires(
    weight: Tensor,
    target: Geometry,
    source: Geometry | None = None,
    *,
    price: Price = DISTANCE,
    order: Any = None,
    seed: int = 0,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """An order of a layer's units that makes the wire length Σ_ij f(d_ij)|V_ij| small.

    If the wires come from the units of ``source``, these stay where they are. Then the cost of each unit at each place
    is known, and the best order of all is found by linear assignment (scipy's ``linear_sum_assignment``). Without
    ``source`` the wires come from the units themselves, as in a recurrent layer. That is a quadratic assignment
    problem, for which the order is one that no swap of two units improves.

    >>> import torch
    >>> import locality_prior as lp
    >>> weight = torch.eye(4).flip(0)  # each unit has one wire: the last unit from the first source
    >>> order = lp.arrange.by_wires(weight, lp.Line(4), lp.Line(4))
    >>> order
    tensor([3, 2, 1, 0])
    >>> lp.objectives.wiring(weight, lp.Line(4).permuted(order), lp.Line(4))
    tensor(0.)

    The search for the recurrent order begins with the given order, or else with the better of two: the units as they
    are, and the spectral order of the wires, in which units lie along the eigenvectors of the weights' Laplacian. The
    changes of the sum under all swaps come from two products of matrices (see :func:`swap_gains`). With up to a few
    hundred units, the search then leaves its local optimum several times and looks for a better one. Above 4,096 units
    swaps are looked for within overlapping windows of 1,024 neighbouring places, so that little memory is needed
    besides the weight and the prices of its wires.

    Args:
        weight: V, (out, in) effective weights, or (out, in, …) with a kernel. It is not changed.
        target: the places of the units.
        source: the places of the units that the wires come from; None: they come from the units themselves.
        price: f, as in :func:`~locality_prior.objectives.wiring`: "distance", a cost, or a function of lengths. A cost
            that ends within the sheet is refused, since it has no finite price beyond its end.
        order: an order to begin with, (units,). The linear assignment needs none.
        seed: determines which units change places when a local optimum is left.
        seconds: stop after about this time, with the best order so far; None: no limit. A linear assignment is never
            stopped.
        progress: called after each round of swaps with the number of rounds and the sum.

    Returns:
        The place of each unit, (units,) int64: see :meth:`~locality_prior.Geometry.permuted`.

    Raises:
        ValueError, TypeError: a weight that does not fit the geometries or is not finite; a price that is negative or
            not finite for some pair; an order that is not a permutation.
        Problem: the matrices do not fit into this machine's memory.
    """
    found, at, start = _given.with_source(weight, target, source)
    recurrent = source is None
    sheets = {"target": at} if recurrent else {"target": at, "source": start}
    layers = [_Layer.of("weight", found, sheets, "target" if recurrent else "source", "target", price)]
    orders = {} if order is None else {"target": permutation("order", order, len(at))}
    fixed = set() if recurrent else {"source"}
    return _arranged(sheets, layers, fixed, orders, count("seed", seed, 0), Clock(seconds, progress))["target"]


def stack_by_wires(
    sheets: Mapping[str, Geometry],
    layers: Iterable[tuple[Tensor, str, str]],
    *,
    fixed: Iterable[str] = (),
    price: Price = DISTANCE,
    orders: Mapping[str, Any] | None = None,
    seed: int = 0,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Orders of several sheets that make the wire length Σ f(d_ij)|V_ij| of all layers between them small.

    Sheets are arranged one after another, each with the others as they are at that time, until no sheet improves. For
    one sheet this is a linear assignment, whose best order is found. If the sheet has wires to itself it is a quadratic
    assignment with linear terms, for which the order is one that no swap of two units improves.

    >>> import torch
    >>> import locality_prior as lp
    >>> hidden, output = torch.eye(3)[[1, 2, 0]], torch.eye(3)[[2, 0, 1]]
    >>> line = lp.Line(3)
    >>> orders = lp.arrange.stack_by_wires(
    ...     {"pixels": line, "hidden": line, "output": line},
    ...     [(hidden, "pixels", "hidden"), (output, "hidden", "output")],
    ...     fixed=["pixels"],
    ... )
    >>> orders
    {'pixels': tensor([0, 1, 2]), 'hidden': tensor([1, 2, 0]), 'output': tensor([0, 1, 2])}

    Args:
        sheets: the places of each sheet's units, by name.
        layers: triples of effective weights V, (out, in) or (out, in, …), the name of the sheet that their wires leave,
            and the name of the sheet that they enter.
        fixed: names of the sheets whose units stay where they are.
        price, seed, seconds, progress: as in :func:`by_wires`; ``progress`` is called after each sheet too.
        orders: orders to begin with, by the sheet's name; None: the units as they are, or, if no sheet is fixed, the
            spectral orders of all wires if these are better.

    Returns:
        The place of each unit, (units,) int64, for each sheet.

    Raises:
        ValueError, TypeError: as :func:`by_wires`; a layer on a sheet that is not among ``sheets``, or no layer.
        Problem: as :func:`by_wires`.
    """
    known = dict(instance("sheets", sheets, Mapping, "a mapping of names to geometries"))
    for name, sheet in known.items():
        instance("sheets", sheet, Geometry, f"a geometry for {name!r}, such as Grid(7, 7)")
    found = []
    for k, layer in enumerate(layers):
        if not isinstance(layer, Sequence) or len(layer) != 3:
            raise wrong_type(
                "layers", layer, "triples of weights, the sheet that the wires leave and the one they enter"
            )
        weight, source, target = layer
        _named("layers", (source, target), known)
        found.append(_Layer.of(f"layers[{k}]", weight, known, source, target, price))
    if not found:
        raise wrong("layers", "none", "one layer or more")
    begun = {} if orders is None else dict(instance("orders", orders, Mapping, "a mapping of names to orders"))
    _named("orders", begun, known)
    begun = {name: permutation(f"orders[{name!r}]", one, len(known[name])) for name, one in begun.items()}
    stay = _named("fixed", [fixed] if isinstance(fixed, str) else fixed, known)
    return _arranged(known, found, set(stay), begun, count("seed", seed, 0), Clock(seconds, progress))


def _named(argument: str, names: Iterable[Any], sheets: Mapping[str, Geometry]) -> list[str]:
    found = list(names)
    for name in found:
        if name not in sheets:
            raise wrong(argument, name, f"the name of a sheet: {', '.join(map(str, sheets))}")
    return found


@dataclass(frozen=True)
class _Layer:
    """|V|, (out, in), what a wire between each two places costs, (out, in), and the sheets at its ends."""

    size: Tensor
    price: Tensor
    source: str
    target: str

    @classmethod
    def of(
        cls, name: str, weight: Tensor, sheets: Mapping[str, Geometry], source: str, target: str, price: Price
    ) -> _Layer:
        found, at, start = _given.with_source(weight, sheets[target], sheets[source])
        with torch.no_grad(), aside():
            size = over_kernel(found.detach().cpu().double().abs())
            if not size.isfinite().all():
                raise wrong(name, "weights of which some are not finite", "finite weights")
            return cls(size, charges(at, start, price), source, target)

    def cost(self, orders: Mapping[str, Tensor]) -> float:
        return float((self.size * self.price[orders[self.target]][:, orders[self.source]]).sum())


def _arranged(
    sheets: Mapping[str, Geometry],
    layers: list[_Layer],
    fixed: set[str],
    begun: Mapping[str, Tensor],
    seed: int,
    clock: Clock,
) -> dict[str, Tensor]:
    with torch.no_grad(), aside():
        orders = {name: torch.arange(len(sheet)) for name, sheet in sheets.items()} | dict(begun)
        total = sum(layer.cost(orders) for layer in layers)
        if not begun and not fixed:
            for others in _spectral(sheets, layers):
                there = sum(layer.cost(others) for layer in layers)
                orders, total = (others, there) if there < total else (orders, total)
        moving = [name for name in sheets if name not in fixed and any(name in (x.source, x.target) for x in layers)]
        quiet = 0  # how many sheets in a row were as good as they could be
        while quiet < len(moving) and not clock.over:
            for name in moving:
                better = {**orders, name: _sheet(name, sheets[name], layers, orders, total, seed, clock)}
                there = sum(layer.cost(better) for layer in layers)
                if there < total - LEAST * total:
                    orders, total, quiet = better, there, 0
                else:
                    quiet += 1
                clock.beyond = 0.0
                clock.tell(total)
                if quiet >= len(moving) or clock.over:
                    break
        return orders


def _sheet(
    name: str,
    sheet: Geometry,
    layers: list[_Layer],
    orders: Mapping[str, Tensor],
    total: float,
    seed: int,
    clock: Clock,
) -> Tensor:
    """The best order of one sheet, with the others as they are."""
    linear, flow, lengths = None, None, None
    for x in layers:
        if x.source == x.target == name:
            flow, lengths = x.size if flow is None else flow + x.size, x.price
        elif name == x.target:
            each = x.size @ x.price[:, orders[x.source]].T
            linear = each if linear is None else linear + each
        elif name == x.source:
            each = x.size.T @ x.price[orders[x.target]]
            linear = each if linear is None else linear + each
    if flow is None or lengths is None:
        assert linear is not None
        return assigned(linear)
    if len(flow) > windows.LARGE:
        large = windows.Blocks.of(flow, lengths, linear)
        clock.beyond = total - large.cost(orders[name])
        return windows.improve_in_windows(large, orders[name], sheet, coordinates(sheet), clock)
    problem = Quadratic(flow, lengths, linear)
    clock.beyond = total - problem.cost(orders[name])
    return kicked(problem, improve(problem, orders[name], clock), seed, clock)


def assigned(costs: Tensor) -> Tensor:
    """The order with the least Σ_i C[i, π(i)] of costs C (units, places)."""
    needs("scipy", "analysis", "a linear assignment")
    from scipy.optimize import linear_sum_assignment

    return torch.from_numpy(linear_sum_assignment(costs.numpy())[1])


def _spectral(sheets: Mapping[str, Geometry], layers: list[_Layer]) -> Iterator[dict[str, Tensor]]:
    """Orders of all sheets along the eigenvectors of the graph of all wires."""
    places = {name: coordinates(sheet) for name, sheet in sheets.items()}
    first, total = {}, 0
    for name, sheet in sheets.items():
        first[name], total = total, total + len(sheet)
    check_fits(3 * total**2, f"the graph of {total:,} units", "give orders to begin with")
    flow = torch.zeros(total, total, dtype=torch.float64)
    for x in layers:
        out, into = x.size.shape
        flow[first[x.target] : first[x.target] + out, first[x.source] : first[x.source] + into] += x.size
    axes = max(at.shape[1] for at in places.values())
    for found in turned(of_flow(flow, axes)):
        yield {name: spread(found[first[name] : first[name] + len(at)], at) for name, at in places.items()}
