"""How a layer is wired, from its effective weights V = P∘W: how long its wires are, and the graph of the strong ones.

Of the graph it is asked whether it falls into modules and whether it is a small world, as of spatially embedded
recurrent networks (Achterberg et al., Nature Machine Intelligence 2023). A graph's density alone moves both measures,
and the demo published with that paper compares a graph of 10 % of the pairs with random ones of 18 %: here a random
graph has as many edges as the graph beside it. The graph's measures need scipy and networkx.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from locality_prior._check import count, wrong
from locality_prior.analysis._given import Floats, Integers, floats

if TYPE_CHECKING:
    from locality_prior.geometry import Geometry


@dataclass(frozen=True, eq=False)
class WireLengths:
    """How long wires are, each counted by its strength |V|; lengths d are as the geometries give them.

    Args:
        total: Σ d|V|; None where not finite.
        mean: Σ d|V| / Σ|V|, free of V's scale; None where all of V is 0, or not finite.
        per_unit: (out,) Σ_j d_ij|V_ij| / Σ_j|V_ij|; NaN for a unit without weight.
        distance: (bins,) mean distance of the bin's pairs of units.
        share: (bins,) share of Σ|V| that lies in the bin; NaN where there is no ``mean``.
        pairs: (bins,) how many pairs of units, so that share · Σ pairs / pairs is 1 where distance does not matter.
    """

    total: float | None
    mean: float | None
    per_unit: Floats
    distance: Floats
    share: Floats
    pairs: Integers


def wire_lengths(weights: Any, target: Geometry, source: Geometry | None = None) -> WireLengths:
    """How long a layer's wires are: in total, on average, unit by unit, and how their strength falls with distance.

    The distribution of weight over distance is what the exponential distance rule of cortex is about (Ercsey-Ravasz et
    al., Neuron 2013). Its bins are as wide as the source's neighbour distance h, and centred on 0, h, 2h, …

    Args:
        weights: (out, in), the effective weights.
        target: where the layer's units sit.
        source: where the units of the layer before sit; None: where the target's do.

    Returns:
        The lengths; pairs of units with no way between them are left out.

    Raises:
        ValueError: weights that are not (out, in), geometries that cannot meet, or a weight where there is no way.
    """
    d: Floats = target.distances(source).detach().numpy()
    v = np.abs(floats("weights", weights, "out", "in"))
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


@dataclass(frozen=True, eq=False)
class Modularity:
    """Modularity of the graph of the strong weights; ``q`` and ``excess`` are None for a graph without an edge.

    Args:
        q: Σ_c (m_c / m − (k_c / 2m)²) over communities c, of m edges m_c within c and degrees k_c in all.
        null: (nulls,) that of random graphs of as many edges, by the same search; NaN without an edge.
        excess: q − mean(null).
        communities: (n,) the number of each unit's community, from 0 for the largest (of equal ones the one of the
            lowest unit).
    """

    q: float | None
    null: Floats
    excess: float | None
    communities: Integers


def modularity(weights: Any, density: float = 0.1, nulls: int = 20, seed: int = 0) -> Modularity:
    """Whether strong weights join units within communities: Newman's Q, beside that of random graphs of as many edges.

    Q (Newman, PNAS 2006) is of the communities that Louvain's search finds (Blondel et al., J. Stat. Mech. 2008). It
    finds some in a random graph too, of a higher Q the fewer the edges, so that q says little without ``null``. Each
    graph is searched, for a second or more where there are 1,024 units.

    The graph: units are nodes, A = (|V| + |V|ᵀ) / 2 without its diagonal, and the strongest of the n(n − 1)/2 pairs are
    edges, all alike. Among equal ones the first by row count; a pair of weight 0 never does. A random graph is any with
    as many nodes and edges, all equally likely.

    Args:
        weights: (n, n), the effective weights of a layer whose unit k has the place of the k-th before it, as in a
            recurrent layer or between two equal sheets.
        density: share of the pairs that are edges; fewer where fewer have weight.
        nulls: random graphs.
        seed: of them and of the search; the same seed gives the same numbers.

    Returns:
        The measure. Weights that are not all finite have no graph, as if without an edge.

    Raises:
        ValueError: weights that are not (n, n), or a number out of range.
    """
    n, graph, null = _graphs(weights, density, nulls, seed)
    if not len(graph):
        return Modularity(None, np.full(nulls, np.nan), None, np.arange(n))
    q, communities = _louvain(n, graph, seed)
    random = np.array([_louvain(n, edges, seed)[0] for edges in null])
    numbers = np.empty(n, dtype=np.int64)
    for number, members in enumerate(sorted(communities, key=lambda members: (-len(members), min(members)))):
        numbers[list(members)] = number
    return Modularity(q, random, q - float(random.mean()), numbers)


def _louvain(n: int, edges: Integers, seed: int) -> tuple[float, list[set[int]]]:
    """Q, and the communities of which it is."""
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_edges_from(edges.tolist())
    communities = nx.community.louvain_communities(graph, seed=seed)
    return float(nx.community.modularity(graph, communities)), communities


@dataclass(frozen=True)
class SmallWorldness:
    """Small-worldness of the graph of the strong weights; all None for a graph without an edge.

    Args:
        sigma: (C / C_null) / (L / L_null), above 1 for a small world; None where no random graph has a triangle.
        clustering: C, the mean over units of the share of the pairs of their neighbours that are joined; 0 for a unit
            with fewer than two.
        path: L, the harmonic mean of shortest path lengths, in edges, over pairs of units; no path counts as ∞.
        null_clustering, null_path: means of C and of L over random graphs of as many edges.
    """

    sigma: float | None
    clustering: float | None
    path: float | None
    null_clustering: float | None
    null_path: float | None


def small_worldness(weights: Any, density: float = 0.1, nulls: int = 20, seed: int = 0) -> SmallWorldness:
    """Whether strong weights cluster as on a lattice while paths stay short: σ (Humphries & Gurney, PLoS ONE 2008).

    They take the arithmetic mean of path lengths; the harmonic one (Newman, SIAM Review 2003), 1 over the graph's
    efficiency, is defined for a graph in pieces too, which the strongest weights often are.

    Args:
        weights: (n, n), the effective weights; see :func:`modularity` for the graph, and for the random ones.
        density: share of the pairs that are edges; fewer where fewer have weight.
        nulls: random graphs.
        seed: of them; the same seed gives the same numbers.

    Raises:
        ValueError: weights that are not (n, n), or a number out of range.
    """
    n, graph, null = _graphs(weights, density, nulls, seed)
    if not len(graph):
        return SmallWorldness(None, None, None, None, None)
    c, length = _clustering_and_path(n, graph)
    random_c, random_length = np.mean([_clustering_and_path(n, edges) for edges in null], axis=0).tolist()
    sigma = (c / random_c) / (length / random_length) if random_c > 0 else None
    return SmallWorldness(sigma, c, length, random_c, random_length)


def _clustering_and_path(n: int, edges: Integers) -> tuple[float, float]:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    i, j = np.vstack([edges, edges[:, ::-1]]).T
    a: Any = csr_array((np.ones(len(i)), (i, j)), shape=(n, n))
    degree = a.sum(axis=1)
    closed = (a @ a).multiply(a).sum(axis=1)  # twice the triangles of each unit
    d: Floats = shortest_path(a, unweighted=True)
    closeness = 1 / d[~np.eye(n, dtype=bool)]
    return float((closed / np.maximum(degree * (degree - 1), 1)).mean()), float(1 / closeness.mean())


def _graphs(weights: Any, density: float, nulls: int, seed: int) -> tuple[int, Integers, Iterator[Integers]]:
    """How many units; the edges (m, 2) of the strongest pairs, in order; and those of random graphs of as many."""
    v = np.abs(floats("weights", weights, "n", "n"))
    n = len(v)
    if v.shape != (n, n):
        raise wrong("weights", f"shape {v.shape}", "as many units before as after, (n, n)")
    if not 0 < density <= 1:
        raise wrong("density", density, "a number above 0 and up to 1")
    nulls, rng = count("nulls", nulls), np.random.default_rng(count("seed", seed, 0))
    pairs = np.column_stack(np.triu_indices(n, 1))
    strength = ((v + v.T) / 2)[tuple(pairs.T)]
    strongest = np.argsort(-strength, kind="stable")[: round(density * len(pairs))]
    wanted = np.sort(strongest[strength[strongest] > 0]) if np.isfinite(v).all() else strongest[:0]
    null = (pairs[np.sort(rng.choice(len(pairs), len(wanted), replace=False))] for _ in range(nulls))
    return n, pairs[wanted], null
