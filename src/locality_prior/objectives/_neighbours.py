"""Neighbouring units of a geometry, and what the vectors of each pair of them have in common.

No matrix over all pairs of units is made: the neighbours on a whole grid are shifts of it, and those of any other
geometry are listed once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from locality_prior import _compiled
from locality_prior._check import wrong
from locality_prior._memory import aside, empty
from locality_prior.geometry import Distances, Geometry, Grid, Permuted, near, still

#: How many entries of vectors are worked on at once: few, for a CPU's cache, or many, for another device.
BLOCK = {"cpu": 1 << 18, "other": 1 << 26}

#: Two sides of as many units: side k of the first neighbours side k of the second. Slices of each axis of a grid, or
#: numbers of units.
Sides = tuple[Any, Any]


class Neighbours:
    """Pairs of neighbouring units, each once, in groups.

    Args:
        shape: the grid on which the sides of ``groups`` are slices, or the number of units alone.
        groups: for each group (an axis of the grid, say) its parts, each with two sides.
    """

    def __init__(self, shape: tuple[int, ...], groups: list[list[Sides]]) -> None:
        self.shape, self.groups = shape, groups

    def to(self, device: torch.device) -> Neighbours:
        """The same, on the device of the vectors."""
        if self.listed and device.type != "cpu":
            return Neighbours(self.shape, [[(a.to(device), b.to(device)) for a, b in g] for g in self.groups])
        return self

    @property
    def listed(self) -> bool:
        """Whether the sides are numbers of units."""
        return any(isinstance(a, Tensor) for group in self.groups for a, _ in group)

    def parts(self) -> list[Sides]:
        """The parts of all groups."""
        return list(itertools.chain(*self.groups))

    @cached_property
    def numbers(self) -> tuple[Tensor, Tensor]:
        """The numbers of the first and of the second unit of each pair, on the CPU."""
        with aside():
            first, second = self._sides(torch.arange(math.prod(self.shape)))
            return first.contiguous(), second.contiguous()

    @cached_property
    def rows(self) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """The pairs by their first unit, and by either unit, as compressed sparse rows.

        Each are the ends of the rows of units, and for each entry the other unit and the pair.
        """
        units, (first, second), found = math.prod(self.shape), self.numbers, []
        with aside():
            for here, other in ((first, second), (torch.cat([first, second]), torch.cat([second, first]))):
                order = torch.argsort(here, stable=True)
                ends = torch.cat([here.new_zeros(1), torch.bincount(here, minlength=units).cumsum(0)])
                found.append((ends, other[order], order % max(1, len(first))))
        return found[0], found[1]

    def differ(self, vectors: Tensor, bias: Tensor | None = None) -> Tensor:
        """The mean of 1 − cos(x_u, x_v) over the pairs of each group, and of these the mean over the groups.

        Pairs of which one vector is zero have no cosine and are left out, and so are groups without any.

        Args:
            vectors: (units, entries), in float32 or float64.
            bias: (units,), one more entry of each vector.
        """
        if not self.groups:
            return vectors.sum() * 0
        found: Tensor = _Differ.apply(vectors, bias, self)
        return found

    def apart(self, vectors: Tensor) -> Tensor:
        """The squared distance between the vectors of each pair, (pairs,)."""
        found: Tensor = _Apart.apply(vectors, self)
        return found

    def ends(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The values (units,) at both ends of each pair, each (pairs,)."""
        if not _as_written(values):
            return self._sides(values)
        first, second = self.numbers
        return values.index_select(0, first), values.index_select(0, second)

    def _sides(self, values: Tensor) -> tuple[Tensor, Tensor]:
        laid, parts = values.reshape(self.shape), self.parts()
        return tuple(  # type: ignore[return-value]
            torch.cat([laid[part[side]].flatten() for part in parts]) if parts else values[:0] for side in (0, 1)
        )

    def collect(self, first: Tensor, second: Tensor) -> Tensor:
        """The sum for each unit, (units,), of the values (pairs,) of the pairs whose first and whose second it is."""
        laid = first.new_zeros(self.shape)
        if _as_written(first):
            for numbers, values in zip(self.numbers, (first, second), strict=True):
                laid.view(-1).index_add_(0, numbers, values)
            return laid.flatten()
        for side, values in enumerate((first, second)):
            for part, piece in zip(self.parts(), self.pieces(values), strict=True):
                if isinstance(part[side], Tensor):
                    laid.index_add_(0, part[side], piece)
                else:
                    laid[part[side]] += piece
        return laid.flatten()

    def split(self, pairs: Tensor) -> list[Tensor]:
        """Values of the pairs, group by group."""
        sizes = [sum(math.prod(self.shape_of(part)) for part in group) for group in self.groups]
        return list(torch.split(pairs, sizes))

    def pieces(self, pairs: Tensor) -> list[Tensor]:
        """Values of the pairs, part by part, each in the shape of its sides."""
        shapes = [self.shape_of(part) for part in self.parts()]
        parts = torch.split(pairs, [math.prod(shape) for shape in shapes])
        return [one.reshape(shape) for one, shape in zip(parts, shapes, strict=True)]

    def shape_of(self, part: Sides) -> tuple[int, ...]:
        """The shape of the sides of a part."""
        first = part[0]
        return (len(first),) if isinstance(first, Tensor) else tuple(one.stop - one.start for one in first)


def of_grid(grid: Grid, shifts: list[tuple[int, ...]], closed: tuple[bool, ...], together: bool = False) -> Neighbours:
    """The pairs of a whole grid's units that are one of ``shifts`` apart.

    Args:
        grid: whole.
        shifts: steps of -1, 0 or 1 along each axis.
        closed: which axes go on at their beginning after their end.
        together: whether all are one group, and not a group for each shift.
    """
    find = _of_shape.__wrapped__ if torch.compiler.is_compiling() else _of_shape  # compiled code cannot use a cache
    return find(grid.shape, tuple(shifts), closed, together)


@lru_cache(maxsize=16)
def _of_shape(
    shape: tuple[int, ...], shifts: tuple[tuple[int, ...], ...], closed: tuple[bool, ...], together: bool
) -> Neighbours:
    groups = []
    for shift in shifts:
        ways = [_along(n, step, close) for n, step, close in zip(shape, shift, closed, strict=True)]
        parts = [tuple(zip(*chosen, strict=True)) for chosen in itertools.product(*ways)]
        groups.append([(first, second) for first, second in parts])
    if together:
        groups = [list(itertools.chain(*groups))]
    return Neighbours(shape, [group for group in groups if group])


def _along(n: int, step: int, closed: bool) -> list[tuple[slice, slice]]:
    """Slices of one axis in which cell k of the first is a step before cell k of the second."""
    if step == 0:
        return [(slice(0, n), slice(0, n))]
    if n == 1:
        return []
    found = [(slice(0, n - 1), slice(1, n))] + ([(slice(n - 1, n), slice(0, 1))] if closed else [])
    return found if step > 0 else [(second, first) for first, second in found]


def listed(name: str, geometry: Geometry, reach: float) -> Neighbours:
    """The pairs of units at different places that are at most ``reach`` neighbour distances apart, as one group."""
    if isinstance(geometry, Distances) and geometry.shape[0] != geometry.shape[1]:
        raise wrong(name, geometry, "distances among its own units")
    still(name, geometry)
    if not torch.compiler.is_compiling():
        return _listed(geometry, reach)
    found = _pairs(geometry, reach)
    return Neighbours((len(geometry),), [[found]] if len(found[0]) else [])


@lru_cache(maxsize=16)
def _listed(geometry: Geometry, reach: float) -> Neighbours:
    found = _kept(geometry, reach)
    return Neighbours((len(geometry),), [[found]] if len(found[0]) else [])


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _pairs(geometry: Geometry, reach: float) -> tuple[Tensor, Tensor]:
    return _kept(geometry, reach)


@lru_cache(maxsize=16)
def _kept(geometry: Geometry, reach: float) -> tuple[Tensor, Tensor]:
    """Each pair once; where distances differ by direction, one of them is enough."""
    n = len(geometry)
    with aside():
        keys = []
        for i, j, d in near(geometry, geometry, reach * geometry.neighbour_distance):
            there = (d > 0) & (i != j)
            low, high = torch.minimum(i, j)[there], torch.maximum(i, j)[there]
            keys.append(low * n + high)
        key = torch.unique(torch.cat(keys)) if keys else torch.zeros(0, dtype=torch.int64)
        return key // n, key % n


def moore(name: str, geometry: Geometry) -> Neighbours:
    """The eight neighbours around each unit of a grid; elsewhere, units at most 1.5 neighbour distances apart."""
    if isinstance(geometry, Permuted):
        return in_order(geometry, _moore)
    if not isinstance(geometry, Grid) or not geometry.whole:
        return listed(name, geometry, 1.5)
    around = itertools.product((-1, 0, 1), repeat=len(geometry.shape))
    half = [shift for shift in around if shift > (0,) * len(geometry.shape)]
    # around a ring of two, the same unit is on either side: it is one neighbour
    closed = tuple(periodic and n > 2 for n, periodic in zip(geometry.shape, geometry.periodic, strict=True))
    return of_grid(geometry, half, closed, together=True)


def _moore(geometry: Geometry) -> Neighbours:
    return moore("geometry", geometry)


def in_order(geometry: Permuted, find: Callable[..., Neighbours], *options: bool) -> Neighbours:
    """The pairs of places that ``find`` finds in a permuted geometry's base, as pairs of its units."""
    pairs = (_in_order if torch.compiler.is_compiling() else _held_in_order)(geometry, find, *options)
    return Neighbours((len(geometry),), [[sides] for sides in pairs])


def _by_unit(geometry: Permuted, find: Callable[..., Neighbours], *options: bool) -> list[Sides]:
    found = find(geometry.base, *options)
    with aside():
        unit = geometry.units
        return list(zip(*(found.split(unit[side]) for side in found.numbers), strict=True))


_held_in_order = lru_cache(maxsize=16)(_by_unit)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _in_order(geometry: Permuted, find: Callable[..., Neighbours], *options: bool) -> list[Sides]:
    return _by_unit(geometry, find, *options)


def _blocks(pairs: Neighbours, entries: int, device: torch.device) -> Iterator[tuple[Any, Any, int, slice]]:
    """Both sides of a few pairs, which part they belong to, and which of its first axis they are."""
    limit = BLOCK["cpu" if device.type == "cpu" else "other"]
    for k, (a, b) in enumerate(pairs.parts()):
        shape = pairs.shape_of((a, b))
        size = max(1, limit // (entries * math.prod(shape[1:])))
        for start in range(0, shape[0], size):
            some = slice(start, min(start + size, shape[0]))
            yield _some(a, some), _some(b, some), k, some


def _some(side: Any, some: slice) -> Any:
    if isinstance(side, Tensor):
        return side[some]
    return slice(side[0].start + some.start, side[0].start + some.stop), *side[1:]


def _blank(like: Tensor) -> Tensor:
    """An uninitialised tensor of the same shape, on large pages where the code runs as it is written."""
    return torch.empty_like(like) if torch.compiler.is_compiling() else empty(like.shape, like)


def _as_written(x: Tensor) -> bool:
    """Whether code on a CPU runs as it is written, and is not traced by torch.compile."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def _in_c(x: Tensor) -> bool:
    return _as_written(x) and _compiled.serves(x.dtype, x.device)


def _products(x: Tensor, pairs: Neighbours) -> tuple[Tensor, Tensor]:
    """⟨x_u, x_u⟩ of each unit, (units,), and ⟨x_u, x_v⟩ of each pair, (pairs,)."""
    if _in_c(x):
        norms, products = x.new_empty(len(x)), x.new_empty(len(pairs.rows[0][1]))
        _compiled.call("dots", x.dtype, len(x), x.shape[1], *pairs.rows[0], x, norms, products)
        return norms, products
    laid = x.reshape(*pairs.shape, x.shape[1])
    each = [(laid[a] * laid[b]).sum(-1).flatten() for a, b, *_ in _blocks(pairs, x.shape[1], x.device)]
    return torch.linalg.vector_norm(x, dim=1).square(), torch.cat(each)


def _gathered(x: Tensor, pairs: Neighbours, own: Tensor, each: Tensor) -> Tensor:
    """own_u x_u + Σ each_uv x_v over the neighbours v of each unit u, in the shape of x."""
    if _in_c(x):
        found = empty(x.shape, x)
        _compiled.call("gather", x.dtype, len(x), x.shape[1], *pairs.rows[1], own, each, x, found)
        return found
    pieces = [one[..., None] for one in pairs.pieces(each)]
    laid = x.reshape(*pairs.shape, x.shape[1])
    found = _blank(laid)
    torch.mul(laid, own.reshape(*pairs.shape, 1), out=found)
    for a, b, k, some in _blocks(pairs, x.shape[1], x.device):
        for to, other in ((a, b), (b, a)):
            if isinstance(to, Tensor):
                found.index_add_(0, to, pieces[k][some] * laid[other])
            else:
                found[to].addcmul_(pieces[k][some], laid[other])
    return found.reshape(x.shape)


class _Differ(torch.autograd.Function):
    """Σ_p w_p (1 − cos_p) over pairs p = (u, v), with w_p = 1/(pairs of its group · groups).

    By x_u its derivative is Σ_p w_p cos_p / ‖x_u‖² x_u − Σ_p w_p / (‖x_u‖‖x_v‖) x_v over the pairs of u.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, pairs: Neighbours) -> Tensor:
        x = x.contiguous()
        norms, products = _products(x, pairs)
        if bias is not None:
            first, second = pairs.ends(bias)
            norms, products = norms + bias.square(), products + first * second
        there = norms > 0
        scale = torch.where(there, torch.where(there, norms, 1.0).rsqrt(), 0.0)
        first, second = pairs.ends(scale)
        # one after the other: the product of two squared norms could leave float32's range
        cos = products * first * second
        groups = pairs.split(torch.minimum(first, second) > 0)
        counts = torch.stack([group.sum() for group in groups])
        shares = 1 / (counts.clamp(min=1) * (counts > 0).sum().clamp(min=1)).to(x.dtype)
        weight = torch.cat([group * share for group, share in zip(groups, shares.unbind(), strict=True)])
        pull = weight * cos
        ctx.pairs = pairs
        ctx.save_for_backward(x, bias, pairs.collect(pull, pull) * scale * scale, -weight * first * second)
        return (weight - pull).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, bias, own, each = ctx.saved_tensors
        pairs: Neighbours = ctx.pairs
        own, each = own * grad, each * grad
        of_bias = None
        if bias is not None and ctx.needs_input_grad[1]:
            first, second = pairs.ends(bias)
            of_bias = own * bias + pairs.collect(each * second, each * first)
        return _gathered(x, pairs, own, each) if ctx.needs_input_grad[0] else None, of_bias, None


class _Apart(torch.autograd.Function):
    """‖x_u − x_v‖² of each pair."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pairs: Neighbours) -> Tensor:
        ctx.save_for_backward(x)
        ctx.pairs = pairs
        laid = x.reshape(*pairs.shape, x.shape[1])
        each = [(laid[a] - laid[b]).square().sum(-1).flatten() for a, b, *_ in _blocks(pairs, x.shape[1], x.device)]
        return torch.cat(each or [x.new_zeros(0)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, each: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        pairs: Neighbours = ctx.pairs
        pieces = [2 * one[..., None] for one in pairs.pieces(each)]
        laid = x.reshape(*pairs.shape, x.shape[1])
        grad = _blank(laid).zero_()
        for a, b, k, some in _blocks(pairs, x.shape[1], x.device):
            pull = (laid[a] - laid[b]).mul_(pieces[k][some])
            if isinstance(a, Tensor):
                grad.index_add_(0, a, pull).index_add_(0, b, pull, alpha=-1)
            else:
                grad[a].add_(pull)
                grad[b].sub_(pull)
        return grad.reshape(x.shape), None
