"""How a layer is wired, from its effective weights V = P∘W: the lengths of its wires, and the graph of the strong ones.

Two measures describe the graph, as in work on spatially embedded recurrent networks (Achterberg et al., Nature Machine
Intelligence 2023): whether it falls into modules, and whether it is a small world. The density of a graph alone changes
both, and the demo published with that paper compares a graph of 10 % of the pairs with random ones of 18 %. Here each
random graph has as many edges as the graph it is compared with. The measures of the graph need scipy and networkx.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from locality_prior._check import count, needs, number, wrong
from locality_prior.analysis._given import Floats, Integers, floats, neighbours, place_of, units

if TYPE_CHECKING:
    from locality_prior.geometry import Geometry

#: The most random graphs.
MOST_NULLS = 10_000
#: The most numbers that are multiplied at once.
BLOCK = 1 << 20


@dataclass(frozen=True, eq=False)
class WireLengths:
    """How long wires are, each weighted by its strength |V|. Lengths d are as the geometries give them.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> found = lp.analysis.wire_lengths(np.ones((3, 3)), lp.Line(3))
    >>> print(found.total, found.per_unit.round(2))
    8.0 [1.   0.67 1.  ]

    Args:
        total: Σ d|V|; None where it is not finite.
        mean: Σ d|V| / Σ|V|, which does not depend on the scale of V; None where V is 0 or not finite.
        per_unit: (out,) Σ_j d_ij|V_ij| / Σ_j|V_ij|; NaN for a unit without weight.
        distance: (bins,) mean distance of the bin's pairs of units.
        share: (bins,) share of Σ|V| that lies in the bin; NaN where ``mean`` is None.
        pairs: (bins,) how many pairs of units: share · Σ pairs / pairs is 1 in a bin where weights are as on average.
    """

    total: float | None
    mean: float | None
    per_unit: Floats
    distance: Floats
    share: Floats
    pairs: Integers


def wire_lengths(weights: Any, target: Geometry, source: Geometry | None = None) -> WireLengths:
    """How long a layer's wires are: in total, on average, for each unit, and how weight is distributed over distance.

    The exponential distance rule of cortex (Ercsey-Ravasz et al., Neuron 2013) is about this distribution. Its bins are
    as wide as the source's neighbour distance h, and centred on 0, h, 2h, …

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> found = lp.analysis.wire_lengths(np.ones((3, 3)), lp.Line(3))
    >>> print(f"{found.total:g} in total, {found.mean:.2f} on average")
    8 in total, 0.89 on average

    Args:
        weights: (out, in), the effective weights.
        target: where the layer's units sit.
        source: where the units of the previous layer sit; None: at the same places as the target's.

    Returns:
        The lengths; pairs of units with no way between them are left out.

    Raises:
        ValueError: weights that are not (out, in), geometries that cannot meet, or a weight where there is no way.
    """
    place_of("target", target)
    if source is not None:
        place_of("source", source)
    v = np.abs(floats("weights", weights, "out", "in"))
    d: Floats = target.distances(source).detach().numpy()
    if v.shape != d.shape:
        raise wrong("weights", f"shape {v.shape}", f"{d.shape}, the units of target and source")
    way = np.isfinite(d)
    if len(stray := np.argwhere(~way & (v != 0))):
        raise wrong("weights", f"{v[tuple(stray[0])]} at {tuple(stray[0].tolist())}", "0 where there is no way")
    d = np.where(way, d, 0)
    h = (target if source is None else source).neighbour_distance
    bin_of, pairs = np.unique(np.floor(d[way] / h + 0.5), return_inverse=True, return_counts=True)[1:]
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0, and weights that are not finite
        total, strength = float((d * v).sum()), v.sum()
        mean = float(total / strength)
        per_unit = (d * v).sum(axis=1) / v.sum(axis=1)
        share = np.bincount(bin_of, v[way], len(pairs)) / (strength if np.isfinite(strength) else np.nan)
    return WireLengths(
        total if np.isfinite(total) else None,
        mean if np.isfinite(mean) else None,
        per_unit,
        np.bincount(bin_of, d[way], len(pairs)) / pairs,
        share,
        pairs,
    )


def weight_similarity(weights: Any, target: Geometry, radius: float | None = None) -> float | None:
    """How much more alike the incoming weights of neighbouring units are than those of any two units.

    With ŵ_u the incoming weights of unit u, brought to length 1::

        mean over neighbours u, v of ŵ_u · ŵ_v  −  mean over all pairs u ≠ v of ŵ_u · ŵ_v

    The second mean is (‖Σ ŵ_u‖² − N) / (N (N − 1)). The measure does not depend on the scale of any unit's weights. It
    is about 0 where units are placed at random.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> weights = np.cos(np.arange(16)[:, None] / 4 - np.arange(8))  # alike from each unit to the next
    >>> lp.analysis.weight_similarity(weights, lp.Line(16)) > 0.5
    True

    Args:
        weights: (units, incoming), the effective weights with their signs.
        target: where the units sit.
        radius: how far apart neighbours are at most; None: 1.5 neighbour distances (the eight around a grid's unit).
            Units at one place are not neighbours.

    Returns:
        From −2 to 2. Units without weight, or with one that is not finite, are left out. None where no two neighbours
        are left.

    Raises:
        ValueError: weights that are not (units, incoming), or not of the geometry's number of units.
    """
    w = floats("weights", weights, "units", "incoming")
    units("weights", len(w), target)
    largest = np.abs(w).max(axis=1, initial=0.0)
    there = np.isfinite(largest) & (largest > 0)
    row, column, d = neighbours(target, radius)
    near = (d > 0) & there[row] & there[column]
    row, column = row[near], column[near]
    if not len(row):
        return None
    w = np.where(there[:, None], w, 0) / np.where(there, largest, 1)[:, None]  # squares of large values would overflow
    w /= np.where(there, np.sqrt(np.square(w).sum(axis=1)), 1)[:, None]
    n, block = int(there.sum()), max(1, BLOCK // max(w.shape[1], 1))
    alike = sum(
        float(np.einsum("ij,ij->", w[row[k : k + block]], w[column[k : k + block]])) for k in range(0, len(row), block)
    )
    return alike / len(row) - float(np.square(w.sum(axis=0)).sum() - n) / (n * (n - 1))


@dataclass(frozen=True, eq=False)
class Modularity:
    """Modularity of the graph of the strong weights; ``q`` and ``excess`` are None for a graph without an edge.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> two = np.kron(np.eye(2), np.ones((8, 8)))  # two groups, each wired to itself alone
    >>> found = lp.analysis.modularity(two, density=0.5)
    >>> print(round(found.q, 2), found.communities)
    0.5 [0 0 0 0 0 0 0 0 1 1 1 1 1 1 1 1]

    Args:
        q: Σ_c (m_c / m − (k_c / 2m)²) over communities c, with m edges in all, m_c of them within c, and k_c the sum of
            the degrees in c.
        null: (nulls,) Q of random graphs with as many edges, by the same search; NaN for a graph without an edge.
        excess: q − mean(null).
        communities: (n,) the number of each unit's community, counted from 0 for the largest (among equals, the one
            with the lowest unit comes first).
    """

    q: float | None
    null: Floats
    excess: float | None
    communities: Integers


def modularity(weights: Any, density: float = 0.1, nulls: int = 20, seed: int = 0) -> Modularity:
    """Whether strong weights join units within communities: Newman's Q, compared with random graphs of as many edges.

    Q (Newman, PNAS 2006) is that of the communities which Louvain's search finds (Blondel et al., J. Stat. Mech. 2008).
    The search finds communities in a random graph too, with a higher Q the fewer the edges, so q says little without
    ``null``. Each search takes a second or more for 1,024 units.

    In the graph, units are nodes, and pairs of units have the strength A = (|V| + |V|ᵀ) / 2. The strongest of the
    n(n − 1)/2 pairs are its edges, which have no weight of their own. Where pairs are equally strong, those of lower
    rows come first; a pair of strength 0 is never an edge. The random graphs are drawn evenly from all graphs with as
    many nodes and edges.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> two = np.kron(np.eye(2), np.ones((8, 8)))  # two groups, each wired to itself alone
    >>> found = lp.analysis.modularity(two, density=0.5)
    >>> round(found.q, 2), found.excess > 0
    (0.5, True)

    Args:
        weights: (n, n), the effective weights of a layer whose unit k sits at the place of unit k of the previous
            layer, as in a recurrent layer or between two equal sheets.
        density: share of the pairs that are edges, above 0; there are fewer edges where fewer pairs have weight.
        nulls: how many random graphs, at most 10,000.
        seed: of the random graphs and of the search; the same seed gives the same numbers.

    Returns:
        The measure. Where a weight is not finite, the graph has no edge.

    Raises:
        ValueError: weights that are not (n, n), or a number out of range.
    """
    n, graph = _graph(weights, density, nulls, seed)
    if not len(graph):
        return Modularity(None, np.full(nulls, np.nan), None, np.arange(n))
    q, communities = _louvain(n, graph, seed)
    random = np.array(_random_q(n, len(graph), nulls, seed))
    numbers = np.empty(n, dtype=np.int64)
    for k, members in enumerate(sorted(communities, key=lambda members: (-len(members), min(members)))):
        numbers[list(members)] = k
    return Modularity(q, random, q - float(random.mean()), numbers)


def _louvain(n: int, edges: Integers, seed: int) -> tuple[float, list[set[int]]]:
    """Q, and the communities that have it."""
    needs("networkx", "analysis", "this measure")
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(edges.tolist())
    communities = nx.community.louvain_communities(graph, seed=seed)
    return float(nx.community.modularity(graph, communities)), communities


@dataclass(frozen=True)
class SmallWorldness:
    """Small-worldness of the graph of the strong weights; all None for a graph without an edge.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> ring = np.roll(np.eye(32), 1, axis=1) + np.roll(np.eye(32), 2, axis=1)
    >>> found = lp.analysis.small_worldness(ring + ring.T, density=0.12)
    >>> found.clustering > found.null_clustering, found.path > found.null_path
    (True, True)

    Args:
        sigma: (C / C_null) / (L / L_null), above 1 for a small world; None where no random graph has a triangle.
        clustering: C, the mean over units of the share of the pairs of their neighbours that are joined; that share is
            0 for a unit with fewer than two neighbours.
        path: L, the harmonic mean of shortest path lengths, in edges, over pairs of units; ∞ where there is no path.
        null_clustering, null_path: means of C and of L over random graphs with as many edges.
    """

    sigma: float | None
    clustering: float | None
    path: float | None
    null_clustering: float | None
    null_path: float | None


def small_worldness(weights: Any, density: float = 0.1, nulls: int = 20, seed: int = 0) -> SmallWorldness:
    """Whether strong weights cluster as on a lattice while paths stay short: σ (Humphries & Gurney, PLoS ONE 2008).

    They take the arithmetic mean of path lengths. This takes the harmonic mean (Newman, SIAM Review 2003), which is
    also defined for a graph in several pieces, as that of the strongest weights often is.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> ring = np.roll(np.eye(32), 1, axis=1) + np.roll(np.eye(32), 2, axis=1)
    >>> lp.analysis.small_worldness(ring + ring.T, density=0.12).sigma > 1
    True

    Args:
        weights: (n, n), the effective weights; :func:`modularity` says how the graph and the random ones are made.
        density: share of the pairs that are edges, above 0; there are fewer edges where fewer pairs have weight.
        nulls: how many random graphs, at most 10,000.
        seed: of the random graphs; the same seed gives the same numbers.

    Raises:
        ValueError: weights that are not (n, n), or a number out of range.
    """
    n, graph = _graph(weights, density, nulls, seed)
    if not len(graph):
        return SmallWorldness(None, None, None, None, None)
    c, length = _clustering_and_path(n, graph)
    random_c, random_length = _random_clustering_and_path(n, len(graph), nulls, seed)
    sigma = (c / random_c) / (length / random_length) if random_c > 0 else None
    return SmallWorldness(sigma, c, length, random_c, random_length)


def _clustering_and_path(n: int, edges: Integers) -> tuple[float, float]:
    needs("scipy", "analysis", "this measure")
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    i, j = np.vstack([edges, edges[:, ::-1]]).T
    a: Any = csr_array((np.ones(len(i)), (i, j)), shape=(n, n))
    degree = a.sum(axis=1)
    closed = (a @ a).multiply(a).sum(axis=1)  # twice the triangles of each unit
    d: Floats = shortest_path(a, unweighted=True)
    closeness = 1 / d[~np.eye(n, dtype=bool)]
    return float((closed / np.maximum(degree * (degree - 1), 1)).mean()), float(1 / closeness.mean())


def _graph(weights: Any, density: float, nulls: int, seed: int) -> tuple[int, Integers]:
    """How many units, and the edges (m, 2) of the strongest pairs, in order; the other arguments are checked."""
    v = np.abs(floats("weights", weights, "n", "n"))
    n = len(v)
    if v.shape != (n, n):
        raise wrong("weights", f"shape {v.shape}", "as many units before as after, (n, n)")
    if number("density", density, 0, 1) == 0:
        raise wrong("density", density, "a number above 0 and up to 1")
    count("nulls", nulls, 1, MOST_NULLS)
    count("seed", seed, 0)
    pairs = _pairs(n)
    strength = ((v + v.T) / 2)[tuple(pairs.T)]
    strongest = np.argsort(-strength, kind="stable")[: round(density * len(pairs))]
    wanted = np.sort(strongest[strength[strongest] > 0]) if np.isfinite(v).all() else strongest[:0]
    return n, pairs[wanted]


def _pairs(n: int) -> Integers:
    return np.column_stack(np.triu_indices(n, 1))


# What random graphs have depends on their size alone, so it is found once for all layers of that size.


@lru_cache(maxsize=64)
def _random_q(n: int, edges: int, nulls: int, seed: int) -> tuple[float, ...]:
    """Q of each random graph."""
    return tuple(_louvain(n, graph, seed)[0] for graph in _random_graphs(n, edges, nulls, seed))


@lru_cache(maxsize=64)
def _random_clustering_and_path(n: int, edges: int, nulls: int, seed: int) -> tuple[float, float]:
    """C and L, the means over random graphs."""
    each = [_clustering_and_path(n, graph) for graph in _random_graphs(n, edges, nulls, seed)]
    clustering, path = np.mean(each, axis=0).tolist()
    return clustering, path


def _random_graphs(n: int, edges: int, nulls: int, seed: int) -> Iterator[Integers]:
    """The edges of graphs drawn evenly from all that have so many."""
    pairs, rng = _pairs(n), np.random.default_rng(seed)
    return (pairs[np.sort(rng.choice(len(pairs), edges, replace=False))] for _ in range(nulls))
