"""Units at points in space: on a sphere, or wherever the caller puts them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from locality_prior._check import count, wrong
from locality_prior.geometry._given import reals
from locality_prior.geometry.base import MOST, Geometry, cannot_meet
from locality_prior.geometry.channels import Channels
from locality_prior.geometry.grids import Grid
from locality_prior.geometry.meeting import Coordinates, checked, euclidean
from locality_prior.geometry.permuted import Permuted

Metric = Callable[[Tensor, Tensor], Tensor]

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

    Args:
        xyz: (n, d) finite coordinates. They do not learn: a tensor that requires a gradient is refused.
        metric: "euclidean", "cityblock", "chebyshev", or a function of coordinates (n, d) and (m, d) that returns
            their distances (n, m). A function is saved by its import path, so a lambda cannot be saved.
    """

    def __init__(self, xyz: Any, metric: str | Metric = "euclidean") -> None:
        self._xyz = reals("xyz", xyz, "coordinates of shape (n, d)")
        if self._xyz.ndim != 2 or 0 in self._xyz.shape:
            raise wrong("xyz", f"shape {tuple(self._xyz.shape)}", "coordinates of shape (n, d)")
        if not self._xyz.isfinite().all():
            row = int((~self._xyz.isfinite()).any(1).nonzero()[0])
            raise wrong("xyz", f"{self._xyz[row].tolist()} at unit {row}", "finite coordinates")
        if not callable(metric) and not (isinstance(metric, str) and metric in _MINKOWSKI):
            raise wrong("metric", repr(metric), f"{', '.join(map(repr, _MINKOWSKI))} or a function")
        self.metric = metric
        self.euclidean = metric == "euclidean"

    def __len__(self) -> int:
        return len(self._xyz)

    @property
    def positions(self) -> Tensor:
        return self._xyz.clone()

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
        return {"xyz": self._xyz, "metric": self.metric}

    def __repr__(self) -> str:
        n, d = self._xyz.shape
        metric = getattr(self.metric, "__name__", self.metric)
        return f"Points({n} × {d}{'' if self.euclidean else f', metric={metric}'})"
