"""Units without places: only the distances are known, along a graph or measured."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from locality_prior._check import ArgumentError, Problem, Told, check_fits, count, instance, wrong
from locality_prior.geometry._given import reals
from locality_prior.geometry._ways import Edges as Ways
from locality_prior.geometry._ways import Shortest
from locality_prior.geometry.base import MOST, Geometry, meet, still
from locality_prior.geometry.meeting import ByRow, Meeting


class Measured(Geometry):
    """A geometry that knows only distances, and so meets only itself."""

    MEETS_ONLY: ClassVar[str] = "a geometry of distances alone meets only itself"

    _lengths: Tensor
    #: The pairs that may have a wire, as in :class:`Meeting`.
    _wired: Tensor | None = None

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def positions(self) -> Tensor:
        raise ArgumentError(f"geometry: got {self!r}, which knows only distances, expected one that has positions")

    def meet(self, source: Geometry) -> Meeting | None:
        if self != source:
            return None
        lengths = self._lengths
        return ByRow((lengths.shape[0], lengths.shape[1]), lambda rows: lengths[rows], self._wired)


class Graph(Measured):
    """Units at the nodes of a graph; the distance is the length of the shortest path (Dijkstra 1959). Needs scipy.

    If a cost ends, paths are followed only to that length: time and memory are then proportional to the number of
    wires.

    >>> import torch
    >>> import locality_prior as lp
    >>> path = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]])  # 0 – 1 – 2
    >>> lp.Graph(path).distances()
    tensor([[0., 1., 2.],
            [1., 0., 1.],
            [2., 1., 0.]], dtype=torch.float64)

    Args:
        adjacency: symmetric (n, n) lengths of the edges, in which 0 is no edge: an array, or a sparse matrix of
            scipy or torch; or an undirected networkx graph, whose edges have the length "weight", 1 where there is
            none, and whose nodes are numbered in their own order. For directed or measured lengths see
            :class:`Distances`. Only the edges are kept. There is no wire to a node that cannot be reached.

    Raises:
        ValueError: no symmetric matrix of finite lengths of at least 0, or no undirected graph.
    """

    #: The two ends of each edge, (2, edges) with the smaller number first, in order, and its length, (edges,).
    _ends: Tensor
    _edges: Tensor

    def __init__(self, adjacency: Any) -> None:
        try:
            if hasattr(adjacency, "nodes") and hasattr(adjacency, "edges"):
                found = _of_network(adjacency)
            elif hasattr(adjacency, "tocoo") or (isinstance(adjacency, Tensor) and adjacency.layout != torch.strided):
                found = _of_sparse(adjacency)
            else:
                found = _of_matrix(adjacency)
        except Told:
            raise
        except Exception:  # whatever an object does that is no matrix
            expected = "numbers of shape (n, n), or a networkx graph"
            raise wrong("adjacency", type(adjacency).__name__, expected) from None
        self._nodes, self._ends, self._edges = found

    def __len__(self) -> int:
        return self._nodes

    @cached_property
    def _ways(self) -> Ways:
        try:
            return Ways(self._nodes, self._ends.numpy(), self._edges.numpy())
        except ImportError as error:
            raise Problem("A Graph needs scipy: pip install 'locality-prior[analysis]'.") from error

    def meet(self, source: Geometry) -> Shortest | None:
        if self != source:
            return None
        check_fits(8 * self._nodes, f"the ways between {self._nodes:,} nodes", "use a smaller graph")
        nodes = np.arange(self._nodes)
        return Shortest(self._ways, nodes, nodes)

    @property
    def neighbour_distance(self) -> float:
        # the nearest other node is at the end of the shortest edge
        nearest = torch.full((self._nodes,), math.inf, dtype=torch.float64, device="cpu")
        for ends in self._ends:
            nearest.scatter_reduce_(0, ends, self._edges, "amin")
        nearest = nearest[nearest.isfinite()]
        return float(nearest.median()) if len(nearest) else 1.0

    def arguments(self) -> dict[str, Any]:
        return {"nodes": self._nodes, "ends": self._ends, "lengths": self._edges}

    @classmethod
    def from_arguments(cls, **arguments: Any) -> Self:
        made = cls.__new__(cls)
        made._nodes, made._ends, made._edges = _of_edges(**arguments)
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_ways"}

    def __repr__(self) -> str:
        return f"Graph({self._nodes} nodes, {len(self._edges)} edges)"


Edges = tuple[int, Tensor, Tensor]


def _of_edges(nodes: int, ends: Any, lengths: Any) -> Edges:
    n, edges = count("nodes", nodes, most=MOST), reals("lengths", lengths, "the lengths of the edges")
    if edges.ndim != 1 or not (edges.isfinite() & (edges > 0)).all():
        raise wrong("lengths", edges, "finite lengths above 0, one for each edge")
    pairs = torch.as_tensor(ends, device="cpu")
    if not len(edges) and not pairs.numel():
        pairs = torch.zeros(2, 0, dtype=torch.int64, device="cpu")
    if pairs.shape != (2, len(edges)) or pairs.dtype != torch.int64:
        raise wrong("ends", pairs, f"the numbers of two nodes for each of {len(edges)} edges, (2, edges) int64")
    if len(edges) and not (int(pairs.min()) >= 0 and int(pairs.max()) < n):
        raise wrong("ends", f"nodes from {int(pairs.min())} to {int(pairs.max())}", f"nodes from 0 to {n - 1}")
    low, high = pairs.sort(0).values.numpy()
    return _sorted(n, low, high, edges.numpy())


def _of_matrix(adjacency: Any) -> Edges:
    a = reals("adjacency", adjacency, "numbers of shape (n, n), or a networkx graph").numpy()
    if a.ndim != 2 or a.shape[0] != a.shape[1] or not a.size:
        raise wrong("adjacency", f"shape {a.shape}", "numbers of shape (n, n)")
    _check_lengths(a)
    if not (a == a.T).all():
        raise _asymmetric()
    i, j = np.nonzero(np.triu(a, 1))
    return len(a), torch.from_numpy(np.stack([i, j])), torch.from_numpy(a[i, j])


def _of_sparse(adjacency: Any) -> Edges:
    """The edges in a sparse matrix of scipy's, or in a sparse tensor."""
    if isinstance(adjacency, Tensor):
        if adjacency.requires_grad:
            raise wrong("adjacency", "a tensor that requires a gradient", "lengths that do not learn")
        shape, dtype = adjacency.shape, adjacency.dtype
        a = adjacency.detach().cpu().to_sparse_coo().coalesce()  # type: ignore[no-untyped-call]
        real = not dtype.is_complex
        entries = (*a.indices(), a.values().double()) if a.sparse_dim() == 2 and real else ()
    else:
        a = adjacency.tocoo()
        shape, dtype = a.shape, a.dtype
        entries = (a.row, a.col, a.data) if len(shape) == 2 and dtype.kind in "biuf" else ()
    if not entries or len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise wrong("adjacency", f"{dtype} of shape {tuple(shape)}", "numbers of shape (n, n)")
    n, (i, j, lengths) = count("nodes", int(shape[0]), most=MOST), (np.asarray(x) for x in entries)
    pairs, where = np.unique(i.astype(np.int64) * n + j, return_inverse=True)
    lengths = np.bincount(where, weights=lengths, minlength=len(pairs))  # entries that are given twice add up
    _check_lengths(lengths)
    pairs, lengths = pairs[lengths != 0], lengths[lengths != 0]
    i, j = np.divmod(pairs, n)
    turned = np.lexsort((i, j))
    if not ((j * n + i)[turned] == pairs).all() or not (lengths[turned] == lengths).all():
        raise _asymmetric()
    return _sorted(n, i, j, lengths)


def _of_network(graph: Any) -> Edges:
    if graph.is_directed():
        raise wrong("adjacency", "a directed graph", "an undirected one (Distances takes directed lengths)")
    number = {node: k for k, node in enumerate(graph.nodes)}
    if not number:
        raise wrong("adjacency", "a graph without nodes", "at least one node")
    shortest: dict[tuple[int, int], float] = {}  # of edges between the same two nodes, the shortest counts
    for one, other, weight in graph.edges(data="weight", default=1):
        i, j = sorted((number[one], number[other]))
        shortest[i, j] = min(float(weight), shortest.get((i, j), math.inf))
    lengths = np.array(list(shortest.values()), dtype=np.float64)
    _check_lengths(lengths)
    if not (lengths > 0).all():
        raise wrong("adjacency", "an edge of length 0", "edges with a weight above 0")
    ends = np.array(list(shortest), dtype=np.int64).reshape(-1, 2)
    return _sorted(len(number), ends[:, 0], ends[:, 1], lengths)


def _sorted(nodes: int, i: Any, j: Any, lengths: Any) -> Edges:
    """Edges in order of their ends, each once, without those from a node to itself."""
    each = i < j
    i, j, lengths = i[each], j[each], lengths[each]
    order = np.lexsort((j, i))
    return nodes, torch.from_numpy(np.stack([i, j])[:, order]), torch.from_numpy(lengths[order])


def _check_lengths(lengths: Any) -> None:
    if not (np.isfinite(lengths).all() and (lengths >= 0).all()):
        raise wrong("adjacency", "a negative, NaN or infinite length", "finite lengths of at least 0")


def _asymmetric() -> ArgumentError:
    return wrong("adjacency", "an asymmetric matrix", "a symmetric one (Distances takes directed lengths)")


class Distances(Measured):
    """Measured lengths of the wires, such as those of fibre tracts.

    >>> import torch
    >>> import locality_prior as lp
    >>> tracts = lp.Distances(torch.tensor([[0.0, 12.5], [12.5, 0.0]]))  # millimetres of fibre, say
    >>> lp.LocalityLinear(2, 2, source=tracts, target=tracts, cost="linear:10").prior
    tensor([[1.0000, 0.4444],
            [0.4444, 1.0000]])

    Args:
        lengths: (out, in) lengths of at least 0, from source unit (column) to target unit (row); inf is no wire. As a
            layer's geometry it speaks for both sides at once.
    """

    def __init__(self, lengths: Any) -> None:
        self._lengths = reals("lengths", lengths, "lengths of shape (out, in)")
        if self._lengths.ndim != 2 or 0 in self._lengths.shape:
            raise wrong("lengths", f"shape {tuple(self._lengths.shape)}", "shape (out, in)")
        if not (self._lengths >= 0).all():
            i, j = (~(self._lengths >= 0)).nonzero()[0].tolist()
            raise wrong("lengths", f"{float(self._lengths[i, j])} at ({i}, {j})", "lengths of at least 0")

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self._lengths.shape[0], self._lengths.shape[1]

    def arguments(self) -> dict[str, Any]:
        return {"lengths": self._lengths}

    def __repr__(self) -> str:
        return f"Distances({self.shape[0]} × {self.shape[1]})"


class Wired(Distances):
    """Measured wiring between units that have places, such as an animal's synapses between its neurons.

    The distance of any two units is that of their places, but only the given pairs may have a wire: P_ij = s(d_ij)
    where ``wires`` is not 0, and P_ij = 0 elsewhere. The two directions may differ: j may have a wire to i, and i none
    to j. A unit's wire to itself has the length 0. Unlike with other geometries, a unit may have no incoming wire at
    all, as some sensory neurons have none: it gets only its bias and, in a recurrent layer, the layer's input.

    >>> import torch
    >>> import locality_prior as lp
    >>> neurons = lp.Points(torch.tensor([[0.0], [10.0], [30.0]]))  # along a body, in micrometres
    >>> synapses = torch.tensor([[0, 0, 0], [4, 0, 1], [0, 2, 0]])  # row 1: 4 from neuron 0 to 1, and 1 from 2 to 1
    >>> worm = lp.Wired(synapses, neurons)
    >>> worm
    Wired(3 wires of Points(3 × 1))
    >>> lp.LocalityLinear(3, 3, source=worm, target=worm, cost="linear:10").prior
    tensor([[0.0000, 0.0000, 0.0000],
            [0.5000, 0.0000, 0.3333],
            [0.0000, 0.3333, 0.0000]])
    >>> rnn = lp.LocalityRNN(2, 3, units=worm, cost="flat")  # V = W on the wires, whatever their length

    Args:
        wires: (out, in) numbers, an array or a scipy.sparse matrix: an entry that is not 0 allows a wire from its
            source unit (column) to its target unit (row). Many published tables have the source in the rows: transpose
            those. The size and the sign of an entry make no difference: it is not a weight.
        target: places of the target units; or measured ``Distances``, such as lengths of fibre tracts.
        source: places of the source units; None: the target's. Either way a layer takes the made geometry for both
            sides, as its ``source`` and its ``target``.

    Raises:
        ValueError: ``wires`` of another shape, a number that is not finite, no wire at all, places that cannot meet, or
            a wire between units whose distance is infinite.
        Problem: the lengths of all pairs are larger than this machine's memory.
    """

    def __init__(self, wires: Any, target: Geometry, source: Geometry | None = None) -> None:
        lengths = self._between(target, source)
        self._take(_numbered(wires, tuple(lengths.shape)), lengths)

    def _between(self, target: Geometry, source: Geometry | None) -> Tensor:
        self.target = still("target", instance("target", target, Geometry, "a geometry, such as Points(xyz)"))
        other = None if source is None else instance("source", source, Geometry, "a geometry, or None")
        self.source = self.target if other is None else still("source", other)
        return self.target.distances(None if self.source is self.target else self.source)

    def _take(self, wired: Tensor, lengths: Tensor) -> None:
        super().__init__(lengths)
        apart = ~self._lengths.flatten()[wired].isfinite()
        if apart.any():
            i, j = divmod(int(wired[apart][0]), lengths.shape[1])
            raise wrong("wires", f"a wire at ({i}, {j}), where the distance is infinite", "wires of finite length")
        self._wired = wired

    @property
    def positions(self) -> Tensor:
        return self.target.positions

    def arguments(self) -> dict[str, Any]:
        return {"wires": self._wired, "target": self.target, "source": self.source}

    @classmethod
    def from_arguments(cls, wires: Any, target: Any, source: Any) -> Self:  # type: ignore[override]
        made = cls.__new__(cls)
        lengths = made._between(target, source)
        expected = f"increasing numbers i·in + j of pairs below {lengths.numel()}, (wires,) int64"
        if not isinstance(wires, Tensor) or wires.ndim != 1 or wires.dtype != torch.int64 or not len(wires):
            raise wrong("wires", wires, expected)
        if not (wires.diff() > 0).all() or wires[0] < 0 or wires[-1] >= lengths.numel():
            raise wrong("wires", f"numbers from {int(wires.min())} to {int(wires.max())}", expected)
        made._take(wires.detach().to("cpu", copy=True), lengths)
        return made

    def __repr__(self) -> str:
        both = repr(self.target) if self.source == self.target else f"{self.source!r} → {self.target!r}"
        return f"Wired({0 if self._wired is None else len(self._wired)} wires of {both})"


def _numbered(wires: Any, shape: tuple[int, ...]) -> Tensor:
    """The pairs of a matrix that are not 0, as increasing numbers i·in + j."""
    if hasattr(wires, "tocoo"):
        found = wires.tocoo(copy=True)
        found.sum_duplicates()  # entries that are given twice add up
        given, dense = tuple(found.shape), None
        values = reals("wires", found.data, f"numbers of shape (out, in) = {shape}")
    else:
        dense = reals("wires", wires, f"numbers of shape (out, in) = {shape}")
        given, values = tuple(dense.shape), dense
    if given != shape:
        raise wrong("wires", f"shape {given}", f"shape (out, in) = {shape}, one row for each target unit")
    if not values.isfinite().all():
        raise wrong("wires", "a number that is NaN or infinite", "finite numbers, 0 where there is no wire")
    if dense is not None:
        numbers = dense.flatten().nonzero()[:, 0]
    else:
        i, j = (torch.from_numpy(np.asarray(ends).astype(np.int64)) for ends in (found.row, found.col))
        numbers = (i * shape[1] + j)[values != 0].sort().values
    if not len(numbers):
        raise wrong("wires", "only zeros", "at least one wire")
    return numbers


class Shuffled(Distances):
    """Another geometry's distances, with each target unit's row in an order of its own: the null hypothesis of a map.

    Every target unit keeps the distances that the cost is asked for, and so its total signal, but they belong to other
    source units: its wires no longer come from its neighbours, and units share a neighbourhood only by chance. A
    difference between a layer under the real geometry and one under this is due to locality. A source unit's total
    signal does change: by chance it is near to more targets, or to fewer. The wires of a :class:`Wired` geometry are
    dealt out with their lengths: every target unit keeps how many it has.

    >>> import locality_prior as lp
    >>> ring = lp.Line(6, periodic=True)
    >>> lp.Shuffled(ring, seed=1).distances()[0]  # the distances of a ring's unit, in another order
    tensor([2., 2., 1., 0., 3., 1.], dtype=torch.float64)

    Args:
        target: places of the target units.
        source: places of the source units; None: the target's. As a layer's geometry this speaks for both sides.
        seed: which orders; row i takes its sources in the order of the i-th row of numbers that PCG64(seed) gives.
    """

    def __init__(self, target: Geometry, source: Geometry | None = None, seed: int = 0) -> None:
        self.target = instance("target", target, Geometry, "a geometry, such as Grid(7, 7)")
        self.source = target if source is None else instance("source", source, Geometry, "a geometry, or None")
        self.seed = count("seed", seed, least=0)
        for name, places in (("target", self.target), ("source", self.source)):
            still(name, places)
        lengths = self.target.distances(self.source)
        # raw numbers, which no release of numpy may change
        raw = np.random.PCG64(self.seed).random_raw(lengths.numel()).reshape(tuple(lengths.shape))
        order = torch.from_numpy(raw.argsort(axis=1, kind="stable"))
        super().__init__(lengths.gather(1, order))
        wired = meet(self.target, self.source).wired
        if wired is not None:
            there = torch.zeros(lengths.numel(), dtype=torch.bool, device="cpu").index_fill_(0, wired, True)
            self._wired = there.reshape(lengths.shape).gather(1, order).flatten().nonzero()[:, 0]

    def arguments(self) -> dict[str, Any]:
        return {"target": self.target, "source": self.source, "seed": self.seed}

    def __repr__(self) -> str:
        both = repr(self.target) if self.source == self.target else f"{self.target!r}, {self.source!r}"
        return f"Shuffled({both}, seed={self.seed})"
