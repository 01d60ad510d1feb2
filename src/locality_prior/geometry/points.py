"""Units at points in space: on a sphere, or wherever the caller puts them."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from locality_prior._check import Problem, boolean, count, wrong
from locality_prior._memory import aside
from locality_prior.geometry._given import reals
from locality_prior.geometry.base import MOST, Geometry, cannot_meet, meet
from locality_prior.geometry.channels import Channels
from locality_prior.geometry.grids import Grid
from locality_prior.geometry.learned import Metric as Metric
from locality_prior.geometry.learned import between, precision
from locality_prior.geometry.meeting import Coordinates, checked, euclidean
from locality_prior.geometry.permuted import Permuted

_MINKOWSKI = {"euclidean": 2.0, "cityblock": 1.0, "chebyshev": math.inf}


class Sphere(Geometry):
    """``n`` Fibonacci points on a sphere, with great-circle distances.

    The radius √(n/4π) gives each unit an area of 1, so that neighbours are about 1 apart. A target is laid onto the
    source's sphere by direction.

    >>> import locality_prior as lp
    >>> sphere = lp.Sphere(500)
    >>> sphere.positions.shape, sphere.distances().max() / sphere.radius  # half way round: π
    (torch.Size([500, 3]), tensor(3.1398, dtype=torch.float64))

    Args:
        n: how many points.
    """

    def __init__(self, n: int) -> None:
        self.n = count("n", n, most=MOST)
        self.radius = math.sqrt(self.n / (4 * math.pi))

    def __len__(self) -> int:
        return self.n

    @property
    def directions(self) -> Tensor:
        """Unit vectors, (n, 3)."""
        k = torch.arange(self.n, dtype=torch.float64, device="cpu")
        z = 1 - (2 * k + 1) / self.n
        phi, ring = k * math.pi * (3 - math.sqrt(5)), (1 - z * z).sqrt()
        return torch.stack([ring * phi.cos(), ring * phi.sin(), z], dim=1)

    @property
    def positions(self) -> Tensor:
        return self.directions * self.radius

    @property
    def neighbour_distance(self) -> float:
        return 1.0

    def meet(self, source: Geometry) -> Coordinates | None:
        if not isinstance(source, Sphere):
            return None
        # the straight line is never longer than the great circle, so boxes hold all that is near
        arc = partial(great_circle, source.radius)
        return Coordinates(self.directions * source.radius, source.positions, arc, boxed=True)

    def arguments(self) -> dict[str, Any]:
        return {"n": self.n}

    def __repr__(self) -> str:
        return f"Sphere({self.n})"


def great_circle(radius: float, u: Tensor, v: Tensor) -> Tensor:
    """Great-circle distances (n, m) between points (n, 3) and (m, 3) of a sphere around 0."""
    # the angle as 2 atan2(|u − v|, |u + v|) is accurate at 0 and at π, where acos(u·v) is not
    return 2 * radius * torch.atan2(euclidean(u, v), euclidean(u, -v))


class Points(Geometry):
    """Units at given coordinates, which meet anything that has positions of the same dimension, unstretched.

    >>> import torch
    >>> import locality_prior as lp
    >>> electrodes = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    >>> lp.Points(electrodes).distances()[0], lp.Points(electrodes, metric="cityblock").distances()[0]
    (tensor([0., 5.], dtype=torch.float64), tensor([0., 7.], dtype=torch.float64))

    With ``learned=True`` the coordinates are a parameter, which is part of every dense
    :class:`~locality_prior.LocalityLinear` that has these points as its source or its target:

    >>> hidden = lp.Points(torch.rand(16, 2), learned=True)
    >>> model = torch.nn.Sequential(
    ...     lp.LocalityLinear(9, 16, source=lp.Grid(3, 3), target=hidden), lp.LocalityLinear(16, 4, source=hidden)
    ... )
    >>> [name for name, _ in model.named_parameters() if "positions" in name]  # once, since both layers share it
    ['0.target_positions']

    Points that learn are equal only to themselves, and a copy of a model has points of its own. :attr:`positions` and
    :meth:`distances` are those of the moment.

    Args:
        xyz: (n, d) finite coordinates; a tensor that requires a gradient is refused.
        metric: "euclidean", "cityblock", "chebyshev", or a function of coordinates (n, d) and (m, d) that returns
            their distances (n, m). A function is saved by its import path, so a lambda cannot be saved. If the
            coordinates learn, it must be differentiable, even between two units at the same place.
        learned: whether the coordinates learn. The parameter has torch's default dtype; it is moved and cast as
            parameters are, but never to less than float32.
    """

    def __init__(self, xyz: Any, metric: str | Metric = "euclidean", learned: bool = False) -> None:
        given = reals("xyz", xyz, "coordinates of shape (n, d)")
        if given.ndim != 2 or 0 in given.shape:
            raise wrong("xyz", f"shape {tuple(given.shape)}", "coordinates of shape (n, d)")
        if not given.isfinite().all():
            row = int((~given.isfinite()).any(1).nonzero()[0])
            raise wrong("xyz", f"{given[row].tolist()} at unit {row}", "finite coordinates")
        if not callable(metric) and not (isinstance(metric, str) and metric in _MINKOWSKI):
            raise wrong("metric", repr(metric), f"{', '.join(map(repr, _MINKOWSKI))} or a function")
        self.metric = metric
        self.euclidean = metric == "euclidean"
        self.learned = boolean("learned", learned)
        self._xyz = given
        if learned:
            with aside():
                self._xyz = nn.Parameter(given.to(torch.promote_types(torch.get_default_dtype(), torch.float32)))

    def __len__(self) -> int:
        return len(self._xyz)

    @property
    def parameter(self) -> nn.Parameter | None:
        """The coordinates as the optimiser sees them, (n, d); None if they do not learn."""
        return self._xyz if isinstance(self._xyz, nn.Parameter) else None

    @property
    def positions(self) -> Tensor:
        now = self._xyz.detach()
        if now.is_meta:
            raise Problem("These points are on the meta device, where they have no positions. Load them first.")
        return now.to("cpu", torch.float64, copy=True)

    def still(self) -> Points:
        """Points that do not learn, at the places where these are now."""
        return Points(self.positions, self.metric)

    @classmethod
    def from_arguments(cls, **arguments: Any) -> Self:
        made = cls(**arguments)
        if made.learned and not torch.equal(made.positions, arguments["xyz"].double()):
            made._xyz = nn.Parameter(arguments["xyz"].double())  # as they were saved; float32 would round them
        return made

    def meet(self, source: Geometry) -> Coordinates | None:
        return self._beside(self, source)

    def met_by(self, target: Geometry) -> Coordinates | None:
        return self._beside(target, self)

    def _beside(self, target: Geometry, source: Geometry) -> Coordinates | None:
        """Two sides as they are in space, one of which is this."""
        other = source if target is self else target
        if isinstance(other, (Channels, Permuted)):
            return None  # it asks its own places, which may be ones that points cannot meet
        if isinstance(other, Points) and other.metric != self.metric:
            cannot_meet(target, source, "their metrics differ")
        if isinstance(other, Grid) and any(other.periodic):
            cannot_meet(target, source, "points do not close on themselves (periodic)")
        if other.MEETS_ONLY:
            return None
        a, b = target.positions, source.positions
        if a.shape[1] != b.shape[1]:
            cannot_meet(target, source, f"positions have {a.shape[1]} and {b.shape[1]} coordinates")
        return Coordinates(a, b, self._between, boxed=not callable(self.metric))

    def _between(self, target: Tensor, source: Tensor) -> Tensor:
        if callable(self.metric):
            return checked("metric", self.metric(target, source), (len(target), len(source)))
        return torch.cdist(target, source, p=_MINKOWSKI[self.metric], compute_mode="donot_use_mm_for_euclid_dist")

    def arguments(self) -> dict[str, Any]:
        return {"xyz": self._xyz.detach(), "metric": self.metric, **({"learned": True} if self.learned else {})}

    def __repr__(self) -> str:
        n, d = self._xyz.shape
        metric = getattr(self.metric, "__name__", self.metric)
        more = "" if self.euclidean else f", metric={metric}"
        return f"Points({n} × {d}{more}{', learned=True' if self.learned else ''})"

    def __eq__(self, other: object) -> bool:
        return self is other or (not self.learned and super().__eq__(other))

    def __hash__(self) -> int:
        return hash((type(self).__name__, len(self)))

    def __deepcopy__(self, memo: Any) -> Self:
        if not self.learned:
            return self
        made = copy.copy(self)
        memo[id(self)] = made
        made._xyz = copy.deepcopy(self._xyz, memo)
        return made


def learned_distances(target: Geometry, source: Geometry, like: Tensor) -> Tensor:
    """Distances (out, in) of the moment, through which a gradient reaches positions that learn.

    They are on the device of ``like``, and in its dtype or a wider one.

    Raises:
        ValueError: the two geometries cannot meet.
    """
    meet(target, source)
    points = target if isinstance(target, Points) else source
    assert isinstance(points, Points)
    sides = [one.parameter if isinstance(one, Points) and one.learned else one.positions for one in (target, source)]
    moving = [side for side in sides if isinstance(side, nn.Parameter)]
    at, start = (side.to(like.device, precision(like, *moving)) for side in sides)  # type: ignore[union-attr]
    return between(at, start, points.metric)
