"""Units on a triangulated surface, such as the cortex."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from locality_prior._check import choice, count, needs, wrong
from locality_prior._memory import aside
from locality_prior.geometry import _surface
from locality_prior.geometry._given import reals, whole
from locality_prior.geometry._surface import Surface
from locality_prior.geometry._ways import Shortest
from locality_prior.geometry.base import MOST, Geometry

#: The surfaces of fsaverage5 on which units may lie, and nilearn's names of them.
SURFACES = {"white": "white", "pial": "pial", "inflated": "infl", "sphere": "sphere"}


class Mesh(Geometry):
    """Units at the vertices of a triangulated surface; distances are lengths of shortest paths along it.

    Distances are exact (Mitchell, Mount & Papadimitriou 1987, by pygeodesic: ``pip install
    "locality-prior[surfaces]"``). Without pygeodesic they are lengths of shortest paths along the edges, which are
    longer (Dijkstra's algorithm, by scipy), and the repr says so. They are in the unit of the vertices. If a cost ends,
    only the pairs that are near enough are computed. Units on a mesh meet units on the same mesh: one with equal
    vertices and faces, whose units may be others.

    >>> import torch
    >>> import locality_prior as lp
    >>> corners = torch.tensor([[0.0, 0, 0], [3, 0, 0], [3, 4, 0], [0, 4, 0]])  # a rectangle of two triangles
    >>> lp.Mesh(corners, [[0, 1, 2], [0, 2, 3]]).distances()[1].round(decimals=9)  # from corner to corner: √(3² + 4²)
    tensor([3., 0., 4., 5.], dtype=torch.float64)
    >>> spread = lp.Mesh(corners, [[0, 1, 2], [0, 2, 3]], n=50)
    >>> spread
    Mesh(54 vertices, 102 faces, 50 units)
    >>> retina, area = spread.part(torch.arange(20)), spread.part(torch.arange(50) >= 20)
    >>> area.distances(retina).shape
    torch.Size([30, 20])

    Args:
        vertices: (V, 3) finite coordinates.
        faces: (F, 3) numbers of vertices. Each vertex is in a face, and each face has an area. At most two faces share
            an edge, and the faces around a vertex are connected by edges. The surface may consist of several pieces;
            there are no wires between them.
        n: how many units to spread evenly over the surface, as new vertices within its faces; for every m, the first m
            units are spread evenly too. None: the units are at given vertices.
        units: the vertex of each unit, (n,), each at most once; None: all vertices. Not together with ``n``.
        inflated: (V, 3) other coordinates of the vertices, for drawing alone.
        curvature: (V,) a number of each vertex, for drawing alone.

    Raises:
        ValueError: the vertices and faces are not such a surface.
    """

    MEETS_ONLY: ClassVar[str] = "units on a mesh meet units on the same mesh"

    def __init__(
        self,
        vertices: Any,
        faces: Any,
        n: int | None = None,
        units: Any = None,
        *,
        inflated: Any = None,
        curvature: Any = None,
    ) -> None:
        xyz = _real("vertices", vertices, 3)
        corners = whole("faces", faces, "numbers of vertices, (F, 3)")
        if corners.ndim != 2 or corners.shape[1] != 3 or not len(corners):
            raise wrong("faces", f"shape {tuple(corners.shape)}", "shape (F, 3)")
        if not 3 <= len(xyz) <= MOST:
            raise wrong("vertices", f"shape {tuple(xyz.shape)}", "shape (V, 3)")
        drawn = {
            "inflated": None if inflated is None else _real("inflated", inflated, 3, len(xyz)),
            "curvature": None if curvature is None else _real("curvature", curvature, None, len(xyz)),
        }
        surface = Surface(xyz.numpy(), corners.numpy())
        if n is not None:
            if units is not None:
                raise wrong("units", "units and n", "one of the two")
            face, shares = _surface.spread(surface.vertices, surface.faces, count("n", n, most=MOST))
            weights = torch.from_numpy(shares)
            for name, values in drawn.items():
                if values is not None:
                    there = values[corners[torch.from_numpy(face)]]  # (n, 3) or (n, 3, 3)
                    more = torch.einsum("nk,nk...->n...", weights, there)
                    drawn[name] = torch.cat([values, more])
            units = torch.arange(len(xyz), len(xyz) + n, device="cpu")
            surface = Surface(*_surface.insert(surface.vertices, surface.faces, face, shares))
        self._surface = surface
        self._inflated, self._curvature = drawn["inflated"], drawn["curvature"]
        self._at = _units(units, len(surface.vertices))

    @classmethod
    def fsaverage(cls, hemisphere: str, n: int | None = None, surface: str = "white") -> Self:
        """A hemisphere of fsaverage5, FreeSurfer's average of forty brains, in millimetres; it comes with nilearn.

        It has 10,242 vertices, about 3 mm apart. Its inflated surface, and its curvature, which is positive in the
        sulci, are used for drawing.

        Args:
            hemisphere: "left" or "right".
            n: how many units to spread evenly; None: one at each vertex.
            surface: the surface along which distances are measured: "white" (below the cortex), "pial" (its outside),
                "inflated" or "sphere".

        Raises:
            ImportError: nilearn is not installed: ``pip install "locality-prior[surfaces]"``.
        """
        choice("hemisphere", hemisphere, ("left", "right"))
        choice("surface", surface, SURFACES)
        needs("nilearn", "surfaces", "fsaverage")
        from nilearn.datasets import fetch_surf_fsaverage
        from nilearn.surface import load_surf_data, load_surf_mesh

        files = fetch_surf_fsaverage("fsaverage5")  # a part of nilearn: nothing is downloaded
        mesh, inflated = (load_surf_mesh(files[f"{name}_{hemisphere}"]) for name in (SURFACES[surface], "infl"))
        curvature = load_surf_data(files[f"curv_{hemisphere}"])
        return cls(mesh.coordinates, mesh.faces, n, inflated=inflated.coordinates, curvature=curvature)

    def part(self, which: Any) -> Self:
        """Some of the units, on the same surface.

        Args:
            which: numbers of units, (k,), in any order and each once, or True and False for each unit, (n,).
        """
        mask = _mask(which)
        if mask is not None and mask.shape != (len(self),):
            raise wrong("which", f"shape {tuple(mask.shape)}", f"True or False for each of the {len(self)} units")
        chosen = _units(which if mask is None else mask.nonzero()[:, 0], len(self), "which")
        made = type(self).__new__(type(self))
        made.__dict__ |= {name: value for name, value in self.__getstate__().items() if name != "neighbour_distance"}
        made._at = self._at[chosen]
        return made

    def __len__(self) -> int:
        return len(self._at)

    @property
    def vertices(self) -> Tensor:
        """(V, 3) float64."""
        return torch.from_numpy(self._surface.vertices.copy())

    @property
    def faces(self) -> Tensor:
        """Numbers of vertices, (F, 3) int64."""
        return torch.from_numpy(self._surface.faces.copy())

    @property
    def units(self) -> Tensor:
        """The vertex of each unit, (n,) int64."""
        return self._at.clone()

    @property
    def inflated(self) -> Tensor | None:
        """Other coordinates of the vertices, (V, 3) float64, for drawing."""
        return None if self._inflated is None else self._inflated.clone()

    @property
    def curvature(self) -> Tensor | None:
        """A number of each vertex, (V,) float64, for drawing."""
        return None if self._curvature is None else self._curvature.clone()

    @property
    def positions(self) -> Tensor:
        return torch.from_numpy(self._surface.vertices[self._at.numpy()])

    @cached_property
    def neighbour_distance(self) -> float:
        """Distance between neighbouring units: the median over units of the distance to the nearest other one."""
        with aside():
            # units that are alone on their piece of the surface have none
            parts = self._surface.parts[self._at.numpy()]
            together = int((np.bincount(parts)[parts] > 1).sum())
            if not together:
                return 1.0
            met = Shortest(self._surface.ways, self._at.numpy(), self._at.numpy())
            within = float(np.median(self._surface.lengths))
            while True:
                nearest = torch.full((len(self),), math.inf, dtype=torch.float64)
                for i, j, d in met.near(within):
                    nearest.scatter_reduce_(0, i[i != j], d[i != j], "amin")
                found = nearest[nearest.isfinite()].sort().values
                middle = (together - 1) // 2
                if len(found) > middle:
                    return float(found[middle])
                within *= 2

    def meet(self, source: Geometry) -> Shortest | None:
        if not isinstance(source, Mesh) or source._surface is not self._surface:
            return None
        return Shortest(self._surface.ways, self._at.numpy(), source._at.numpy())

    def arguments(self) -> dict[str, Any]:
        return {
            "vertices": torch.from_numpy(self._surface.vertices),
            "faces": torch.from_numpy(self._surface.faces),
            "units": self._at,
            "inflated": self._inflated,
            "curvature": self._curvature,
        }

    def __repr__(self) -> str:
        along = "" if _surface.exact() else ", along edges"
        vertices, faces = len(self._surface.vertices), len(self._surface.faces)
        return f"Mesh({vertices} vertices, {faces} faces, {len(self)} units{along})"


def _real(name: str, value: Any, columns: int | None, rows: int | None = None) -> Tensor:
    found = reals(name, value, "numbers")
    expected = "(V,)" if columns is None else f"(V, {columns})"
    fits = found.ndim == (1 if columns is None else 2) and (columns is None or found.shape[1] == columns)
    if not fits or rows not in (None, len(found)):
        raise wrong(name, f"shape {tuple(found.shape)}", f"shape {expected}" + (f", V = {rows}" if rows else ""))
    if name != "vertices" and not found.isfinite().all():
        raise wrong(name, "NaN or infinity", "finite numbers")
    return found


def _mask(given: Any) -> Tensor | None:
    """Truth values as a tensor; None if the values are of another kind."""
    if isinstance(given, Tensor):
        return given.detach().cpu() if given.dtype == torch.bool else None
    listed = isinstance(given, (list, tuple)) and given and isinstance(given[0], (bool, np.bool_))
    if listed or getattr(given, "dtype", None) == np.bool_:
        return torch.tensor(np.asarray(given, dtype=bool), device="cpu")
    return None


def _units(given: Any, n: int, name: str = "units") -> Tensor:
    """Numbers of some of n vertices, each once; None: all of them."""
    if given is None:
        return torch.arange(n, device="cpu")
    units = whole(name, given, "numbers, (n,)")
    if units.ndim != 1 or not len(units):
        raise wrong(name, f"shape {tuple(units.shape)}", "numbers, (n,)")
    if int(units.min()) < 0 or int(units.max()) >= n:
        raise wrong(name, f"{int(units.min())} to {int(units.max())}", f"numbers from 0 to {n - 1}")
    if len(np.unique(units.numpy())) < len(units):
        raise wrong(name, "a number more than once", "each once (with_channels puts several units at each place)")
    return units
