"""Units at points in space: on a sphere, or wherever the caller puts them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from locality_prior._check import count, import_path, wrong
from locality_prior.geometry.base import Geometry

Metric = Callable[[Tensor, Tensor], Tensor]

_MINKOWSKI = {"euclidean": 2.0, "cityblock": 1.0, "chebyshev": math.inf}


class Sphere(Geometry):
    """``n`` Fibonacci points on a sphere, with great-circle distances.

    The radius √(n/4π) gives each unit an area of 1, so that neighbours are about 1 apart. A target is laid onto the
    source's sphere by direction.
    """

    def __init__(self, n: int) -> None:
        self.n = count("n", n)
        self.radius = math.sqrt(self.n / (4 * math.pi))

    def __len__(self) -> int:
        return self.n

    @cached_property
    def directions(self) -> Tensor:
        """Unit vectors, (n, 3)."""
        k = torch.arange(self.n).double()
        z = 1 - (2 * k + 1) / self.n
        phi, ring = k * math.pi * (3 - math.sqrt(5)), (1 - z * z).sqrt()
        return torch.stack([ring * phi.cos(), ring * phi.sin(), z], dim=1)

    @property
    def positions(self) -> Tensor:
        return self.directions * self.radius

    @property
    def neighbour_distance(self) -> float:
        return 1.0

    def config(self) -> dict[str, Any]:
        return {"type": "Sphere", "n": self.n}

    def __repr__(self) -> str:
        return f"Sphere({self.n})"


class Points(Geometry):
    """Units at given coordinates, which meet anything that has positions of the same dimension, unstretched.

    Args:
        xyz: (n, d) finite coordinates. A tensor that requires a gradient keeps it: ``distances`` is differentiable.
        metric: "euclidean", "cityblock", "chebyshev", or a function of coordinates (n, d) and (m, d) that returns
            their distances (n, m). A function is saved by its import path, so a lambda cannot be saved.
    """

    def __init__(self, xyz: Any, metric: str | Metric = "euclidean") -> None:
        try:
            self._xyz = torch.as_tensor(xyz, dtype=torch.float64, device="cpu").clone()
        except (TypeError, ValueError, RuntimeError):
            raise wrong("xyz", type(xyz).__name__, "an array of coordinates (n, d)") from None
        if self._xyz.ndim != 2 or 0 in self._xyz.shape:
            raise wrong("xyz", f"shape {tuple(self._xyz.shape)}", "coordinates of shape (n, d)")
        if not self._xyz.isfinite().all():
            row = int((~self._xyz.isfinite()).any(1).nonzero()[0])
            raise wrong("xyz", f"{self._xyz[row].tolist()} at unit {row}", "finite coordinates")
        if not callable(metric) and metric not in list(_MINKOWSKI):
            raise wrong("metric", repr(metric), f"{', '.join(map(repr, _MINKOWSKI))} or a function")
        self.metric = metric
        self.euclidean = metric == "euclidean"

    def __len__(self) -> int:
        return len(self._xyz)

    @property
    def positions(self) -> Tensor:
        return self._xyz

    def between(self, target: Tensor, source: Tensor) -> Tensor:
        """Distances (n, m) by this geometry's metric between coordinates (n, d) and (m, d)."""
        if not callable(self.metric):
            # without the matrix-product shortcut: exact zeros, and torch's gradient 0 there
            return torch.cdist(target, source, p=_MINKOWSKI[self.metric], compute_mode="donot_use_mm_for_euclid_dist")
        d = self.metric(target, source)
        shape = (len(target), len(source))
        if not isinstance(d, Tensor) or d.shape != shape:
            raise wrong("metric", f"{type(d).__name__} {tuple(getattr(d, 'shape', ()))}", f"a tensor {shape}")
        if not (d >= 0).all():
            raise wrong("metric", "a negative or NaN distance", "distances of at least 0")
        return d.double()

    def config(self) -> dict[str, Any]:
        metric = import_path("metric", self.metric) if callable(self.metric) else self.metric
        return {"type": "Points", "xyz": self._xyz.tolist(), "metric": metric}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Points) and self.metric == other.metric and torch.equal(self._xyz, other._xyz)

    __hash__ = Geometry.__hash__

    def __repr__(self) -> str:
        n, d = self._xyz.shape
        metric = getattr(self.metric, "__name__", self.metric)
        return f"Points({n} × {d}{'' if self.euclidean else f', metric={metric}'})"
