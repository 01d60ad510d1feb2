"""Units without places: the distances alone are known, along a graph or measured."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locality_prior._check import count, wrong
from locality_prior.geometry.base import Geometry


class Measured(Geometry):
    """A geometry that knows distances alone, and so meets only itself."""

    _lengths: Tensor

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def positions(self) -> Tensor:
        raise ValueError(f"{self!r} has no positions, only distances")

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Measured) and type(self) is type(other) and torch.equal(self._lengths, other._lengths)
        )

    __hash__ = Geometry.__hash__


class Graph(Measured):
    """Units at the nodes of a graph; the distance is the length of the shortest path.

    Args:
        adjacency: symmetric (n, n) lengths of the edges, dense or scipy.sparse; 0 is no edge. For directed or
            measured lengths see :class:`Distances`. A node out of reach has no wire. Needs scipy.
    """

    def __init__(self, adjacency: Any) -> None:
        try:
            a = adjacency.toarray() if hasattr(adjacency, "toarray") else np.asarray(adjacency)
        except (TypeError, ValueError, RuntimeError):
            raise wrong("adjacency", type(adjacency).__name__, "numbers of shape (n, n)") from None
        if a.ndim != 2 or a.shape[0] != a.shape[1] or not a.size or a.dtype.kind not in "biuf":
            raise wrong("adjacency", f"{a.dtype} {a.shape}", "numbers of shape (n, n)")
        a = a.astype(np.float64)
        if not (np.isfinite(a).all() and (a >= 0).all()):
            raise wrong("adjacency", "a negative, NaN or infinite length", "finite lengths of at least 0")
        if not (a == a.T).all():
            raise wrong("adjacency", "an asymmetric matrix", "a symmetric one (Distances takes directed lengths)")
        self._adjacency = a

    def __len__(self) -> int:
        return len(self._adjacency)

    @cached_property
    def _lengths(self) -> Tensor:  # type: ignore[override]
        from scipy.sparse.csgraph import shortest_path

        return torch.from_numpy(shortest_path(self._adjacency, directed=False))

    def config(self) -> dict[str, Any]:
        i, j = np.nonzero(np.triu(self._adjacency))
        edges = [[int(a), int(b), float(self._adjacency[a, b])] for a, b in zip(i, j, strict=True)]
        return {"type": "Graph", "nodes": len(self), "edges": edges}

    def __repr__(self) -> str:
        return f"Graph({len(self)} nodes, {np.count_nonzero(np.triu(self._adjacency))} edges)"


class Distances(Measured):
    """Measured lengths of the wires, fibre tracts say.

    Args:
        lengths: (out, in) lengths of at least 0, from source unit (column) to target unit (row); inf is no wire. As a
            layer's geometry it speaks for both sides at once.
    """

    def __init__(self, lengths: Any) -> None:
        try:
            self._lengths = torch.as_tensor(lengths, dtype=torch.float64, device="cpu").detach().clone()
        except (TypeError, ValueError, RuntimeError):
            raise wrong("lengths", type(lengths).__name__, "an array of shape (out, in)") from None
        if self._lengths.ndim != 2 or 0 in self._lengths.shape:
            raise wrong("lengths", f"shape {tuple(self._lengths.shape)}", "shape (out, in)")
        if not (self._lengths >= 0).all():
            i, j = (~(self._lengths >= 0)).nonzero()[0].tolist()
            raise wrong("lengths", f"{float(self._lengths[i, j])} at ({i}, {j})", "lengths of at least 0")

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self._lengths.shape[0], self._lengths.shape[1]

    def config(self) -> dict[str, Any]:
        # JSON has no infinity: None stands for a wire that is not there
        rows = [[None if math.isinf(d) else d for d in row] for row in self._lengths.tolist()]
        return {"type": "Distances", "lengths": rows}

    def __repr__(self) -> str:
        return f"Distances({self.shape[0]} × {self.shape[1]})"


class Shuffled(Distances):
    """Another geometry's distances with each target unit's row in an order of its own: the null of a map.

    Every target unit keeps the lengths of its wires, and so its total signal, but no two share a neighbourhood: what a
    layer has under the real geometry and not under this one is locality. (A source unit's signals are others: by chance
    it is near to more targets, or fewer.)

    Args:
        target: places of the target units.
        source: places of the source units; None: the target's. As a layer's geometry this speaks for both sides.
        seed: which orders; row i takes its sources in the order of the i-th row of numbers that PCG64(seed) gives.
    """

    def __init__(self, target: Geometry, source: Geometry | None = None, seed: int = 0) -> None:
        self.target, self.source, self.seed = target, source or target, count("seed", seed, least=0)
        lengths = self.target.distances(self.source).detach()
        # raw numbers, which no release of numpy may change
        raw = np.random.PCG64(self.seed).random_raw(lengths.numel()).reshape(lengths.shape)
        super().__init__(lengths.gather(1, torch.from_numpy(raw.argsort(axis=1, kind="stable"))))

    def config(self) -> dict[str, Any]:
        target, source = self.target.config(), self.source.config()
        return {"type": "Shuffled", "target": target, "source": source, "seed": self.seed}

    def __repr__(self) -> str:
        both = repr(self.target) if self.source == self.target else f"{self.target!r}, {self.source!r}"
        return f"Shuffled({both}, seed={self.seed})"
