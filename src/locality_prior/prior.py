"""The prior P: the signal that each target unit receives over its wire from each source unit.

P_ij = r_i · s(d_ij), with r_i = 1, or r_i = K / Σ_j s(d_ij) where rescaled (K source units). It is computed in float64
and rounded on use. Between grids P depends only on the offset of two cells, and is kept as a :class:`Table`.

There is a wire between two units where s(d_ij) > 0 in float64. That is decided here, once, for every backend and dtype:
in float32 the P of a long wire may round to 0, and it is a wire all the same.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from locality_prior import _compiled
from locality_prior._check import ROUNDING, boolean, check_fits, instance, wrong
from locality_prior._memory import aside as aside
from locality_prior.cost import Cost, Flat, as_cost
from locality_prior.geometry import Distances, Geometry, Offsets, default_sheet, meet, near

#: A matrix of at most this many entries is kept whole: one product is quicker than several.
WHOLE = 1 << 16
#: How many entries are handled at once where a matrix is worked through in blocks of rows.
BLOCK = 1 << 18
#: How many answers of :meth:`Prior.lengths`, ``charges`` and the like are kept.
REMEMBERED = 2


@dataclass(frozen=True, eq=False)
class Table:
    """A matrix between two grids whose entries depend only on the offset of two cells, times a factor for each row.

    Entry (i, j) is ``row_scale[i] · values[u]``, where along each axis u = (m − 1 − i)·A + j·B, for m target cells and
    steps (A, B): (1, 1) between equal grids, which leaves ∏(2n − 1) distinct values of ∏ n².
    """

    values: Tensor
    target: tuple[int, ...]
    source: tuple[int, ...]
    steps: tuple[tuple[int, int], ...]
    row_scale: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return math.prod(self.target), math.prod(self.source)

    def map(self, f: Callable[[Tensor], Tensor]) -> Table:
        """The table with ``f`` applied to its values and to its factors."""
        scale = None if self.row_scale is None else f(self.row_scale)
        return dataclasses.replace(self, values=f(self.values), row_scale=scale)

    def dense(self) -> Tensor:
        """The whole matrix, (out, in)."""
        d = len(self.target)
        spread = self._spread(range(d)).permute(*range(0, 2 * d, 2), *range(1, 2 * d, 2)).reshape(self.shape)
        return spread if self.row_scale is None else spread * self.row_scale[:, None]

    def multiply(self, weight: Tensor, out: Tensor) -> Tensor:
        """``weight`` (out, in) times the matrix, into ``out`` (which may be ``weight``), without making the matrix."""
        ours = weight.is_contiguous() and out.is_contiguous() and self.values.dtype == weight.dtype == out.dtype
        if ours and _compiled.serves(weight.dtype, weight.device):
            rest, run = math.prod(self.target[1:]), math.prod(self.source[1:])
            sizes = (rest, self.target[0], *self.steps[0], self.source[0], self.values.shape[0], run)
            tensors = (self._windows().contiguous(), self.row_scale, weight, out)
            _compiled.call("spread", weight.dtype, len(weight), *sizes, *tensors)
            return out
        for rows, block in self.blocks():
            into = out[rows]
            torch.mul(weight[rows].reshape(block.shape), block, out=into.view(block.shape))
            if self.row_scale is not None:
                into *= self.row_scale[rows, None]
        return out

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of rows without their factors, each of shape (r, target[1:], source): views, or small copies."""
        m, (a, b) = self.target[0], self.steps[0]
        rest, entries = math.prod(self.target[1:]), math.prod(self.target[1:]) * math.prod(self.source)
        d, spread = len(self.target), self._windows()
        *front, along = spread.stride()[:d]
        r = max(1, min(m, BLOCK // entries))
        for first in range(0, m, r):
            last = min(first + r, m)
            block = spread.as_strided(
                (last - first, *self.target[1:], *self.source),
                (a * along, *front, b * along, *spread.stride()[d:]),
                spread.storage_offset() + (m - last) * a * along,
            )
            yield slice(first * rest, last * rest), block if last - first == 1 else block.flip(0)

    def _windows(self) -> Tensor:
        """The values with all axes but the first spread out, (target[1:], first axis, source[1:]).

        Along the first axis, rows of the matrix are windows of it.
        """
        d = len(self.target)
        return self._spread(range(1, d)).permute(*range(1, 2 * d - 1, 2), 0, *range(2, 2 * d - 1, 2))

    def _spread(self, axes: range) -> Tensor:
        """The values with each of ``axes``, in place, spread to (target, source)."""
        values = self.values.contiguous()
        sizes: list[int] = []
        strides: list[int] = []
        turn: list[int] = []
        for k, (size, stride) in enumerate(zip(values.shape, values.stride(), strict=True)):
            if k in axes:
                turn.append(len(sizes))
                sizes += [self.target[k], self.source[k]]
                strides += [self.steps[k][0] * stride, self.steps[k][1] * stride]
            else:
                sizes.append(size)
                strides.append(stride)
        # the target cells come out last to first, because strides cannot be negative
        spread = values.as_strided(sizes, strides)
        return spread.flip(turn) if turn else spread


@dataclass(frozen=True, eq=False)
class Wires:
    """Which pairs have a wire, in row-major order: the wires of target unit i are ``ends[i]:ends[i + 1]``."""

    shape: tuple[int, int]
    ends: Tensor
    sources: Tensor

    @property
    def count(self) -> int:
        """How many wires."""
        return len(self.sources)

    def rows(self) -> Tensor:
        """The target unit of each wire, (wires,)."""
        return torch.arange(self.shape[0], device="cpu").repeat_interleave(self.ends.diff())

    def stacked(self, times: int) -> Wires:
        """The same wires in each of ``times`` matrices, one below another."""
        ends = [self.ends[:1], *(k * self.count + self.ends[1:] for k in range(times))]
        return Wires((times * self.shape[0], self.shape[1]), torch.cat(ends), self.sources.repeat(times))


class Prior:
    """P from source × target × cost.

    >>> import locality_prior as lp
    >>> prior = lp.Prior(lp.Line(3), lp.Line(3), cost="linear")
    >>> prior
    Prior(Grid(3) → Grid(3), Linear())
    >>> prior.dense()
    tensor([[1.0000, 0.5000, 0.3333],
            [0.5000, 1.0000, 0.5000],
            [0.3333, 0.5000, 1.0000]], dtype=torch.float64)

    Args:
        source: places of the source units.
        target: places of the target units.
        cost: what a wire costs: a cost, or a word such as "linear@3".
        rescale: whether row i is multiplied by r_i = K / Σ_j s(d_ij), so that each unit's total input is as before.
        kept: the wires that were not cut, (wires,) int64, as increasing pair numbers i·in + j; None: all of them. Where
            a wire was cut P is 0. Elsewhere P, and r_i too, are as they were before the cut.

    Between points that learn, P is computed for their present positions each time, and every pair has a wire.

    Raises:
        ValueError: the geometries cannot meet, the cost leaves a target unit without a wire (unless ``Wired`` gave it
            none), or ``kept`` has pairs without a wire; a cost that ends, or wires that were cut, between points that
            learn.
        Problem: every pair may have a wire, and the weights would not fit into this machine's memory.
    """

    def __init__(
        self, source: Geometry, target: Geometry, cost: Cost | str, rescale: bool = False, kept: Tensor | None = None
    ) -> None:
        _check_geometries(source, target)
        self.source, self.target, self.cost = source, target, as_cost("cost", cost)
        self.rescale = boolean("rescale", rescale)
        #: Whether the positions of a side learn.
        self.learned = source.learned or target.learned
        if self.learned and math.isfinite(self.cost.reach):
            raise wrong("cost", f"{self.cost!r} between points that learn", "a cost that does not end, such as linear")
        if self.learned and kept is not None:
            raise wrong("kept", f"{len(kept)} wires between points that learn", "all wires, or points.still()")
        #: r_i, (out,) float64; None without rescaling, and between points that learn, where r_i changes.
        self.row_scale: Tensor | None = None
        #: Pair numbers of the wires that were not cut; None where all are there.
        self.kept: Tensor | None = None
        #: Pair numbers of the wires, if they are listed because the geometry gives them or some were cut.
        self._listed: Tensor | None = None
        self._memo: dict[object, Tensor | Table] = {}
        with aside():
            met = meet(target, source)
            self.shape = met.shape
            pairs = math.prod(self.shape)
            #: Whether the geometry says which pairs may have a wire.
            self.wired = met.wired is not None
            if met.wired is not None:
                self._listed = met.wired
                self._listed = torch.cat([i * self.shape[1] + j for i, j, _ in self._near()])
            if not self.bounded:
                layer = f"a layer of {self.shape[0]:,} × {self.shape[1]:,} wires"
                check_fits(pairs // 2, layer, "use a cost that ends, such as cost.within(4)")
            total, wires = self._row_sums()
            alone = ~(total > 0)
            if met.wired is not None:  # a unit to which the geometry gives no wire has none
                alone &= torch.bincount(met.wired // self.shape[1], minlength=self.shape[0]) > 0
            if alone.any():
                i = int(alone.nonzero()[0])
                raise wrong("target", f"unit {i} of {target!r} with no wire under {self.cost!r}", "a wire to each unit")
            #: Whether P is 1 everywhere, so that nothing need be multiplied.
            self.flat = self.cost == Flat() and wires == pairs
            #: Whether every pair has a wire. (A signal that is 0 in float64 now may grow if positions learn.)
            self.complete = wires == pairs or self.learned
            if rescale and not self.flat and not self.learned:
                self.row_scale = torch.where(total > 0, self.shape[1] / total, 1.0)
            if kept is not None:
                self._keep(kept)

    @property
    def bounded(self) -> bool:
        """Whether wires may be few: the cost ends somewhere, the geometry gives the wires, or wires were cut."""
        return self._listed is not None or math.isfinite(self.cost.reach)

    def _keep(self, kept: Tensor) -> None:
        expected = "the increasing numbers i·in + j of pairs with a wire, (wires,), int64"
        if not (isinstance(kept, Tensor) and kept.ndim == 1 and kept.dtype == torch.int64 and len(kept)):
            shape = f"{kept.dtype}, shape {tuple(kept.shape)}" if isinstance(kept, Tensor) else repr(kept)
            raise wrong("kept", shape, expected)
        kept = kept.detach().cpu()
        if not (kept.diff() > 0).all() or kept[0] < 0 or kept[-1] >= self.shape[0] * self.shape[1]:
            raise wrong("kept", f"numbers from {int(kept.min())} to {int(kept.max())}", expected)
        given, self._listed = self._listed, kept.clone()
        self.kept, self.flat, self.complete = self._listed, False, False
        found = sum(len(i) for i, _, _ in self._near())
        if given is not None:
            found = min(found, int(_among(kept, given).sum()))
        if found != len(kept):
            raise wrong("kept", f"{len(kept) - found} pairs that have no wire", expected)

    def distances(self, rows: Tensor | None = None) -> Tensor:
        """Distances between target and source units, (out, in) or (r, in), float64."""
        return self.target.distances(self.source, rows)

    def rows(self, rows: Tensor) -> Tensor:
        """Rows of P, (r, in) float64, for the numbers (r,) of target units."""
        with aside():
            p = self._signal(self._lengths(rows))
            if self.learned and self.rescale:
                p = rescaled(p)
            elif self.row_scale is not None:
                p *= self.row_scale[rows, None]
            return p if self._listed is None else p * self._left(rows)

    def _lengths(self, rows: Tensor) -> Tensor:
        """:meth:`distances`, except that those of pairs without a wire may be inf."""
        return meet(self.target, self.source).rows_within(rows, self.cost.reach * (1 + ROUNDING))

    def _signal(self, d: Tensor) -> Tensor:
        return self.cost.signal(d).detach()  # a user's function may have parameters, which do not learn here

    def _left(self, rows: Tensor) -> Tensor:
        """Whether each pair is listed, (r, in)."""
        wires = self.wires()
        left = torch.zeros(len(rows), self.shape[1], dtype=torch.bool)
        for k, i in enumerate(rows.tolist()):
            left[k, wires.sources[wires.ends[i] : wires.ends[i + 1]]] = True
        return left

    def dense(self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None) -> Tensor:
        """The whole of P, (out, in)."""
        with aside():
            return torch.cat([self.rows(rows).to(device, dtype) for rows in self._chunks()])

    def support(self, dtype: torch.dtype, device: torch.device) -> Tensor | None:
        """Where there is a wire, (out, in): 1 or 0 in ``dtype``; None where every pair has one.

        This is not where P > 0: in ``dtype`` the P of a wire may be 0.
        """
        return None if self.complete else self._on_pairs("support", torch.ones_like, dtype, device)

    def table(self) -> Table | None:
        """P as a table of offsets, float64; None where the geometries have none, or it would not be smaller."""
        with aside():
            table = None if self._listed is not None else self._tabulate(self._signal)
        return None if table is None else dataclasses.replace(table, row_scale=self.row_scale)

    def wires(self) -> Wires:
        """The pairs that have a wire. Between grids, time and memory are in proportion to the wires."""
        with aside():
            return self._wires()

    def _wires(self) -> Wires:
        if self._listed is not None:
            counts = torch.bincount(self._listed // self.shape[1], minlength=self.shape[0])
            sources = [self._listed % self.shape[1]]
        else:
            counts = torch.zeros(self.shape[0], dtype=torch.int64)
            sources = []
            for i, j, _ in self._near():
                counts += torch.bincount(i, minlength=self.shape[0])
                sources.append(j)
        return Wires(self.shape, torch.cat([counts.new_zeros(1), counts.cumsum(0)]), torch.cat(sources))

    def signals(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """P on the wires, (wires,), in row-major order."""
        with aside():
            r = torch.ones(self.shape[0], dtype=torch.float64) if self.row_scale is None else self.row_scale
            return torch.cat([(self._signal(d) * r[i]).to(device, dtype) for i, _, d in self._near()])

    def _near(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Target and source units of the wires and their lengths, in row-major order, in blocks."""
        for i, j, d in self._given() if self.wired else near(self.target, self.source, self.cost.reach):
            there = self._signal(d) > 0
            if self._listed is not None and not self.wired:
                there &= _among(i * self.shape[1] + j, self._listed)
            yield (i, j, d) if there.all() else (i[there], j[there], d[there])

    def _given(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The listed pairs and their lengths, some rows at a time, where the geometry gives the wires."""
        assert self._listed is not None
        for rows in self._chunks():
            first, end = int(rows[0]) * self.shape[1], (int(rows[-1]) + 1) * self.shape[1]
            low, high = torch.searchsorted(self._listed, torch.tensor([first, end], device="cpu")).tolist()
            pairs = self._listed[low:high]
            i, j = pairs // self.shape[1], pairs % self.shape[1]
            yield i, j, self.distances(rows)[i - rows[0], j]

    def values(self, dtype: torch.dtype, device: torch.device) -> Tensor | Table:
        """P in the form to keep: as a table where there is one and it is worth it, else whole.

        The layers of a model that have the same rule share it, so it is never written to.
        """

        def make() -> Tensor | Table:
            table = self.table() if math.prod(self.shape) > WHOLE else None
            if table is not None:
                return table.map(lambda t: t.to(device, dtype))
            return self.dense(dtype, device)

        if dtype == torch.bool and self.complete:  # nothing but True: whoever asks has no need to keep it
            with aside():
                return make()
        return self._recalled(("values", dtype, device), make)

    def lengths(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Lengths of the wires, (out, in), 0 where there is no wire."""
        return self._on_pairs("lengths", _itself, dtype, device)

    def charges(self, cost: Cost, dtype: torch.dtype, device: torch.device) -> Tensor:
        """What ``cost`` asks for each of this prior's wires, (out, in), 0 where there is no wire.

        Raises:
            ValueError: ``cost`` has no finite price for one of the wires.
        """
        return self._on_pairs(cost, cost.cost, dtype, device)

    def wire_lengths(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Lengths of the wires, (wires,), in row-major order."""
        return self._on_wires("lengths", _itself, dtype, device)

    def wire_charges(self, cost: Cost, dtype: torch.dtype, device: torch.device) -> Tensor:
        """:meth:`charges` on the wires, (wires,), in row-major order."""
        return self._on_wires(cost, cost.cost, dtype, device)

    def _on_pairs(self, key: object, f: Callable[[Tensor], Tensor], dtype: torch.dtype, device: torch.device) -> Tensor:
        """f of the length of each wire, (out, in), 0 where there is no wire."""

        def at(d: Tensor) -> Tensor:
            return _priced(key, d, torch.where(self._signal(d) > 0, f(d), 0.0), dtype, device)

        def make() -> Tensor | Table:
            if self._listed is not None:
                return torch.cat([at(self._lengths(r)) * self._left(r).to(device) for r in self._chunks()])
            return self._tabulate(at) or torch.cat([at(self._lengths(r)) for r in self._chunks()])

        return self._remembered(("pairs", key, dtype, device), make)

    def _on_wires(self, key: object, f: Callable[[Tensor], Tensor], dtype: torch.dtype, device: torch.device) -> Tensor:
        """f of the length of each wire, (wires,)."""
        return self._remembered(
            ("wires", key, dtype, device),
            lambda: torch.cat([_priced(key, d, f(d), dtype, device) for _, _, d in self._near()]),
        )

    def _remembered(self, asked: object, make: Callable[[], Tensor | Table]) -> Tensor:
        # a penalty is asked for at every step
        found = self._recalled(asked, make)
        return found.dense() if isinstance(found, Table) else found

    def _recalled(self, asked: object, make: Callable[[], Tensor | Table]) -> Tensor | Table:
        """What ``make`` makes; the last few answers are kept, each in its smallest form."""
        if self.learned:  # it is that of the moment
            self._memo.clear()
        if asked not in self._memo:
            with aside():
                made = make()
            while len(self._memo) >= REMEMBERED:
                del self._memo[next(iter(self._memo))]
            self._memo[asked] = made
        return self._memo[asked]

    def _tabulate(self, f: Callable[[Tensor], Tensor]) -> Table | None:
        """f of the distance as a table of offsets."""
        met = meet(self.target, self.source)
        if not (isinstance(met, Offsets) and met.source.whole and met.target.whole):
            return None
        if 4 * math.prod(len(axis.lengths) for axis in met.axes) > math.prod(self.shape):
            return None
        squared = torch.zeros((), dtype=torch.float64)
        for axis in met.axes:
            squared = squared[..., None] + axis.lengths.square()
        return Table(f(squared.sqrt()), met.target.shape, met.source.shape, tuple(axis.steps for axis in met.axes))

    def _row_sums(self) -> tuple[Tensor, int]:
        """Σ_j s(d_ij) of each target unit, (out,), and how many wires there are."""
        if math.isfinite(self.cost.reach):
            total, wires = torch.zeros(self.shape[0], dtype=torch.float64), 0
            for i, _, d in self._near():
                total.index_add_(0, i, self._signal(d))
                wires += len(i)
            return total, wires
        table = self.table()
        if table is None:
            rows = (self.rows(rows) for rows in self._chunks())
            sums, counts = zip(*((p.sum(1), int((p > 0).sum())) for p in rows), strict=True)
            return torch.cat(sums), sum(counts)
        places = tuple(range(-len(table.source), 0))
        total = torch.cat([p.sum(places).flatten() for _, p in table.blocks()])
        if (table.values > 0).all():
            return total, math.prod(self.shape)
        return total, sum(int((p > 0).sum()) for _, p in table.blocks())

    def _chunks(self) -> Iterator[Tensor]:
        return iter(torch.split(torch.arange(self.shape[0], device="cpu"), max(1, 16 * BLOCK // self.shape[1])))

    def __repr__(self) -> str:
        more = ", rescale=True" if self.rescale else ""
        more += "" if self.kept is None else f", {len(self.kept)} wires kept"
        return f"Prior({self.source!r} → {self.target!r}, {self.cost!r}{more})"


def rescaled(signal: Tensor) -> Tensor:
    """Whole rows of P from those of the signal s, r_i·s with r_i = K / Σ_j s; differentiable.

    A unit that has moved so far away that no signal which is worth the name reaches it has the row 0.
    """
    # as shares of the strongest, on whose size r_i·s does not depend: a sum of them is never too small to divide by
    top = signal.detach().amax(1, keepdim=True)
    least = torch.finfo(signal.dtype)
    far = top < least.tiny / least.eps  # and not where it is NaN, which is to be seen
    share = torch.where(far, 0.0, signal / torch.where(far, 1.0, top))
    return share * (signal.shape[1] / share.sum(1, keepdim=True).clamp(min=1))


def _itself(d: Tensor) -> Tensor:
    return d


def _among(pairs: Tensor, listed: Tensor) -> Tensor:
    """Which of ``pairs`` are among the increasing numbers ``listed``."""
    if not len(listed):
        return torch.zeros_like(pairs, dtype=torch.bool)
    return listed[torch.searchsorted(listed, pairs).clamp_(max=len(listed) - 1)] == pairs


def _priced(key: object, d: Tensor, values: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is asked for wires of length ``d``, where it is finite in ``dtype``."""
    price = values.detach().to(device, dtype)
    if not price.is_meta and not price.isfinite().all():
        at = d[~price.isfinite().cpu()].min()
        raise wrong("cost", f"{key!r}, infinite in {dtype} at d = {float(at):g}", "a price for every wire")
    return price


def resolve(
    in_features: int, out_features: int, source: Geometry | None, target: Geometry | None
) -> tuple[Geometry, Geometry]:
    """Source and target geometries of a layer, with the missing ones filled in.

    A geometry given for one side is also the other side's where the sizes agree; otherwise n units are the first n
    cells, row by row, of ⌈√n⌉ columns.

    Raises:
        ValueError: a geometry whose number of units is not the layer's.
    """
    _check_geometries(source, target, optional=True)
    for name, geometry in (("source", source), ("target", target)):
        if isinstance(geometry, Distances):
            if geometry.shape != (out_features, in_features):
                raise wrong(name, repr(geometry), f"lengths of shape (out, in) = ({out_features}, {in_features})")
            return source or geometry, target or geometry
    if source is None:
        source = target if target is not None and len(target) == in_features else default_sheet(in_features)
    if target is None:
        target = source if len(source) == out_features else default_sheet(out_features)
    for name, geometry, features in (("source", source, in_features), ("target", target, out_features)):
        if len(geometry) != features:
            side = "in" if name == "source" else "out"
            raise wrong(name, f"{geometry!r} of {len(geometry)} units", f"{features} units ({side}_features)")
    return source, target


def _check_geometries(source: Geometry | None, target: Geometry | None, optional: bool = False) -> None:
    for name, geometry in (("source", source), ("target", target)):
        if not (optional and geometry is None):
            instance(name, geometry, Geometry, "a geometry, such as Grid(7, 7)")
