"""What every geometry is: places for units, and the distances between them."""

from __future__ import annotations

import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NoReturn, Self

import torch
from torch import Tensor

from locality_prior._check import ROUNDING, ArgumentError, check_fits, instance, number, wrong
from locality_prior._memory import aside
from locality_prior.geometry import meeting as meetings
from locality_prior.geometry.meeting import Meeting, Pairs, in_blocks

#: The most units that a geometry can have.
MOST = 2**31 - 1


class Geometry(ABC):
    """Places for units, and the distances between them. Immutable; two are equal when they are made equal.

    The one exception is :class:`~locality_prior.Points` that learn: they change, and are equal only to themselves.

    A subclass of your own is a geometry like any other. It defines ``__len__``, ``positions``, :meth:`meet` and
    :meth:`arguments`:

    >>> import torch
    >>> import locality_prior as lp
    >>> from locality_prior.geometry import Coordinates
    >>> def around(a, b):
    ...     turn = (a[:, None, 0] - b[:, 0]).remainder(2 * torch.pi)
    ...     return torch.hypot(torch.minimum(turn, 2 * torch.pi - turn), a[:, None, 1] - b[:, 1])
    >>> class Cylinder(lp.Geometry):
    ...     def __init__(self, angles, heights):
    ...         self.angles = torch.as_tensor(angles, dtype=torch.float64)
    ...         self.heights = torch.as_tensor(heights, dtype=torch.float64)
    ...
    ...     def __len__(self):
    ...         return len(self.angles)
    ...
    ...     @property
    ...     def positions(self):
    ...         return torch.stack([self.angles, self.heights], dim=1)
    ...
    ...     def meet(self, source):
    ...         if isinstance(source, Cylinder):
    ...             return Coordinates(self.positions, source.positions, around)
    ...
    ...     def arguments(self):
    ...         return {"angles": self.angles, "heights": self.heights}
    >>> Cylinder([0.0, 6.0], [0.0, 0.0]).distances()[0]  # the short way round: 2π − 6
    tensor([0.0000, 0.2832], dtype=torch.float64)

    Here ``around`` takes coordinates (n, d) and (m, d) and returns distances (n, m). The class is saved by its import
    path, and whoever loads it passes the class itself (``custom``): see :func:`~locality_prior.geometry.from_config`.
    :func:`~locality_prior.testing.check_geometry` tests such a class against the rules that every geometry keeps.
    """

    #: Whether squared distances are squared Euclidean distances between ``positions``.
    euclidean: bool = False
    #: Whether the positions learn, so that distances change from step to step and must not be kept.
    learned: bool = False
    #: Why this kind meets no others, where it does not.
    MEETS_ONLY: ClassVar[str] = ""

    @abstractmethod
    def __len__(self) -> int:
        """How many units."""

    @property
    @abstractmethod
    def positions(self) -> Tensor:
        """Coordinates of every unit, (n, d) float64 on the CPU, a new tensor each time.

        Raises:
            ValueError: the geometry knows only distances.
        """

    @abstractmethod
    def meet(self, source: Geometry) -> Meeting | None:
        """How this geometry, as the target, is laid onto ``source``; None where it does not know that kind."""

    def met_by(self, target: Geometry) -> Meeting | None:
        """How ``target`` is laid onto this geometry; asked only where the target does not know this kind."""
        return None

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments by name: plain values (JSON), tensors, geometries and functions."""

    @classmethod
    def from_arguments(cls, **arguments: Any) -> Self:
        """An equal geometry, made from :meth:`arguments`."""
        return cls(**arguments)

    def config(self) -> dict[str, Any]:
        """Plain values (JSON, YAML) from which :func:`~locality_prior.geometry.from_config` makes an equal geometry."""
        from locality_prior.geometry.config import plain_config  # here, because it knows every kind of geometry

        return plain_config(self)

    @property
    def neighbour_distance(self) -> float:
        """Distance between neighbouring units: the median over units of the distance to the nearest other place."""
        with aside():
            nearest = []
            for rows in torch.split(torch.arange(len(self)), max(1, meetings.BLOCK // len(self))):
                d = self.distances(rows=rows)
                nearest.append(torch.where((d > 0) & d.isfinite(), d, math.inf).min(dim=1).values)
            found = torch.cat(nearest)
            found = found[found.isfinite()]
            return float(found.median()) if len(found) else 1.0

    def distances(self, other: Geometry | None = None, rows: Tensor | None = None) -> Tensor:
        """Length of the wire from each unit of ``other`` to each unit of this geometry.

        The whole matrix between a geometry and itself is computed once, and is the same tensor for as long as somebody
        holds it: treat it as read-only, and clone it before you change it.

        Args:
            other: the source geometry; this one is the target and is laid onto it. None: this geometry itself.
            rows: numbers of the target units wanted, (r,) int64; None: all of them.

        Returns:
            (len(self), len(other)), or (r, len(other)), float64 on the CPU, in units of ``other``'s spacing
            (physical where a ``spacing`` or coordinates are given); inf where there is no way between two units.

        Raises:
            ValueError: the two geometries cannot meet, or ``rows`` are not units of this geometry.
            Problem: the matrix is larger than this machine's memory.
        """
        source = self if other is None else instance("other", other, Geometry, "a geometry, such as Grid(7, 7)")
        with aside():
            if rows is not None:
                return meet(self, source).rows(self._units(rows))
            if source is not self or self.learned:
                return _whole(self, source)
            held, version = self.__dict__.get("_own", (None, 0))
            d: Tensor | None = None if held is None else held()
            if d is None or d._version != version:
                d = _whole(self, self)
                self.__dict__["_own"] = weakref.ref(d), d._version
            return d

    def _units(self, rows: Any) -> Tensor:
        if not isinstance(rows, Tensor) or rows.ndim != 1 or rows.dtype != torch.int64:
            raise wrong("rows", rows, "numbers of units, a tensor (r,) of int64")
        if len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) < len(self)):
            raise wrong("rows", f"{int(rows.min())} to {int(rows.max())}", f"units from 0 to {len(self) - 1}")
        return rows.cpu()

    def with_channels(self, channels: int) -> Geometry:
        """``channels`` units at each place, ordered as flattened convolution features: channel by channel."""
        from locality_prior.geometry.channels import Channels  # here, since Channels is a Geometry

        return Channels(self, channels)

    def permuted(self, order: Any) -> Geometry:
        """The same places, with the units in another order: unit k sits at place ``order[k]`` of this geometry.

        Its distances are those of this geometry, with rows and columns in that order. If a permuted geometry is
        permuted again, the two orders become one; if every unit is then at its own place, the result is the geometry
        itself.

        >>> import locality_prior as lp
        >>> line = lp.Line(3).permuted([2, 0, 1])
        >>> line, line.positions.flatten(), line.distances()[0]
        (Permuted(Grid(3)), tensor([2., 0., 1.], dtype=torch.float64), tensor([0., 2., 1.], dtype=torch.float64))
        >>> line.permuted([1, 2, 0])
        Grid(3)

        Args:
            order: the place of each unit, (units,) whole numbers: a permutation of 0, 1, …, units − 1. See
                ``lp.arrange`` for functions that find one.

        Raises:
            ValueError: ``order`` is not a permutation of as many units, or the geometry is of distances between two
                different sets of units.
        """
        from locality_prior.geometry.permuted import Permuted  # here, since Permuted is a Geometry

        made = Permuted(self, order)
        stays = torch.equal(made.order, torch.arange(len(made), device="cpu"))
        return made.base if stays else made

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} units)"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Geometry) and type(self) is type(other) and same(self.arguments(), other.arguments())

    def __hash__(self) -> int:
        return hash((type(self).__name__, len(self)))

    def __deepcopy__(self, memo: Any) -> Geometry:
        return self  # it never changes

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_own"}


def still(name: str, geometry: Geometry) -> Geometry:
    """``geometry``, or an error if its positions learn: for whatever is made only once from them."""
    if geometry.learned:
        raise wrong(name, f"{geometry!r}", f"places that do not change, such as {name}.still()")
    return geometry


def same(one: Any, other: Any) -> bool:
    """Whether two arguments are equal; tensors are where they have equal values."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    return bool(one == other)


def meet(target: Geometry, source: Geometry) -> Meeting:
    """How ``target`` is laid onto ``source``. The target is asked first, then the source.

    Raises:
        ValueError: the two geometries cannot meet.
    """
    met = target.meet(source)
    if met is None:
        met = source.met_by(target)
    if met is None:
        why = target.MEETS_ONLY or source.MEETS_ONLY or "no distance is defined between the two kinds"
        cannot_meet(target, source, why)
    return instance("meet", met, Meeting, f"a Meeting, such as Coordinates, from {type(target).__name__}")


def near(target: Geometry, source: Geometry, radius: float) -> Iterator[Pairs]:
    """Every pair at most ``radius`` apart, in row-major order and in blocks: target and source units, and distances.

    Between grids, and between units with coordinates, only pairs in the neighbourhood are looked at; between other
    geometries all pairs are, some rows at a time.
    """
    within = radius if radius == math.inf else number("radius", radius, 0) * (1 + ROUNDING)
    with aside():
        met = meet(target, source)
    return in_blocks(met.near(within))


def cannot_meet(target: Geometry, source: Geometry, why: str) -> NoReturn:
    """Raise the error for two geometries that cannot meet."""
    raise ArgumentError(f"target: got {target!r} opposite source {source!r}, which cannot meet: {why}")


def _whole(target: Geometry, source: Geometry) -> Tensor:
    met = meet(target, source)
    out, inside = met.shape
    check_fits(
        out * inside,
        f"the {out:,} × {inside:,} distances between {target!r} and {source!r}",
        "ask for some rows of them, or use a cost that ends, such as cost.within(4)",
    )
    return met.rows(torch.arange(out))
