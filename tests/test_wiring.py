"""Wire lengths pair by pair; modularity and small-worldness against networkx, and of graphs known by heart."""

from __future__ import annotations

import itertools
import math
import statistics
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import locality_prior as lp
from locality_prior.analysis import modularity, small_worldness, wire_lengths

RNG = np.random.default_rng(0)
RATES = RNG.random((7, 9)) + 0.1
FIBRES = np.where(RNG.random((7, 9)) < 0.2, math.inf, 4 * RATES)

#: Target, and source (None: the target itself).
SHEETS: dict[str, tuple[lp.Geometry, lp.Geometry | None]] = {
    "sheet": (lp.Grid(5, 6), None),
    "torus": (lp.Grid(5, 6, periodic=True), None),
    "torus of millimetres": (lp.Grid(4, 6, periodic=True, spacing=(0.5, 0.5)), None),
    "stretched": (lp.Grid(3, 4), lp.Grid(6, 8)),
    "hexagons": (lp.HexGrid(5, 6), None),
    "hexagons on a grid": (lp.HexGrid(4, 4), lp.Grid(5, 6)),
    "points": (lp.Points(RNG.random((20, 3))), lp.Points(RNG.random((12, 3)))),
    "channels": (lp.Grid(3, 3).with_channels(2), lp.Grid(3, 3)),
    "pieces": (lp.Graph(np.kron(np.eye(2), 1 - np.eye(4))), None),
    "fibres": (lp.Distances(FIBRES), None),
}


def weights_between(target: lp.Geometry, source: lp.Geometry | None) -> Any:
    """Signed weights wherever there is a way."""
    d = target.distances(source).numpy()
    return np.where(np.isfinite(d), np.random.default_rng(1).normal(size=d.shape) / (1 + d), 0)


@pytest.mark.parametrize("name", SHEETS)
def test_lengths_pair_by_pair(name: str) -> None:
    target, source = SHEETS[name]
    v, d = weights_between(target, source), target.distances(source).numpy()
    h = (source or target).neighbour_distance
    lengths: dict[int, list[float]] = {}
    strengths: dict[int, list[float]] = {}
    total, strength = 0.0, 0.0
    for i, row in enumerate(v.tolist()):
        for j, w in enumerate(row):
            if math.isfinite(d[i, j]):
                bin_of = math.floor(d[i, j] / h + 0.5)
                lengths.setdefault(bin_of, []).append(d[i, j])
                strengths.setdefault(bin_of, []).append(abs(w))
                total, strength = total + d[i, j] * abs(w), strength + abs(w)
    found, bins = wire_lengths(v, target, source), sorted(lengths)
    assert len(bins) > 1
    assert found.total == pytest.approx(total)
    assert found.mean == pytest.approx(total / strength)
    assert found.pairs.tolist() == [len(lengths[k]) for k in bins]
    assert found.distance == pytest.approx([statistics.mean(lengths[k]) for k in bins])
    assert found.share == pytest.approx([sum(strengths[k]) / strength for k in bins])
    rows = [[(x, abs(w)) for x, w in zip(d[i], v[i], strict=True) if math.isfinite(x)] for i in range(len(v))]
    assert found.per_unit == pytest.approx([sum(x * w for x, w in row) / sum(w for _, w in row) for row in rows])


@pytest.mark.parametrize("name", SHEETS)
def test_lengths_are_free_of_scale_and_sign(name: str) -> None:
    target, source = SHEETS[name]
    v = weights_between(target, source)
    one, other = wire_lengths(v, target, source), wire_lengths(-1e-3 * v, target, source)
    assert one.mean is not None
    assert one.total is not None
    assert other.mean == pytest.approx(one.mean)
    assert other.total == pytest.approx(1e-3 * one.total)
    np.testing.assert_allclose(other.share, one.share)
    np.testing.assert_allclose(other.per_unit, one.per_unit)
    assert one.share.sum() == pytest.approx(1)


def test_lengths_of_a_layer() -> None:
    layer = lp.LocalityLinear(48, 12, source=lp.Grid(6, 8), target=lp.Grid(3, 4), cost=lp.cost.Gaussian(1))
    found = wire_lengths(layer.effective_weight, lp.Grid(3, 4), lp.Grid(6, 8))
    assert found.mean == pytest.approx(float(lp.mean_wire_length(layer).detach()), rel=1e-5)
    # equal weights lie in each bin as its pairs do: no enrichment
    flat = wire_lengths(torch.ones(12, 48), lp.Grid(3, 4), lp.Grid(6, 8))
    np.testing.assert_allclose(flat.share * flat.pairs.sum() / flat.pairs, 1)
    near = found.share * found.pairs.sum() / found.pairs
    assert near[0] > 2 > 0.1 > near[-1]


def test_lengths_by_hand_and_undefined() -> None:
    found = wire_lengths([[0.0, 1, 0], [0, 0, 0], [-3, 0, 0]], lp.Line(3))
    assert (found.total, found.mean) == (7, 7 / 4)
    np.testing.assert_array_equal(found.per_unit, [1, np.nan, 2])
    assert found.distance.tolist() == [0, 1, 2]
    assert found.share.tolist() == [0, 0.25, 0.75]
    assert found.pairs.tolist() == [3, 4, 2]
    # a unit's wire to itself is as long as the geometry says
    assert wire_lengths(np.eye(2), lp.Distances([[3.0, 1.0], [1.0, 5.0]])).mean == 4
    none = wire_lengths(np.zeros((3, 3)), lp.Line(3))
    assert (none.total, none.mean) == (0, None)
    assert np.isnan(none.share).all()
    assert np.isnan(none.per_unit).all()
    for broken in (np.nan, np.inf):
        found = wire_lengths([[0.0, broken, 0], [0, 0, 0], [-3, 0, 0]], lp.Line(3))
        assert (found.total, found.mean) == (None, None)
        assert np.isnan(found.share).all()
        np.testing.assert_array_equal(found.per_unit, [np.nan, np.nan, 2])


def test_lengths_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"weights: got shape \(3, 4\), expected \(3, 3\)"):
        wire_lengths(np.zeros((3, 4)), lp.Line(3))
    with pytest.raises(ValueError, match=r"weights: got shape \(3,\), expected numbers of shape \(out, in\)"):
        wire_lengths(np.zeros(3), lp.Line(3))
    with pytest.raises(ValueError, match=r"weights: got 2\.0 at \(0, 1\), expected 0 where there is no way"):
        wire_lengths([[0.0, 2], [0, 0]], lp.Distances([[0.0, math.inf], [1.0, 0.0]]))


def strongest(v: Any, density: float) -> list[tuple[int, int]]:
    """The graph's edges, pair by pair."""
    pairs = list(itertools.combinations(range(len(v)), 2))
    strength = {(i, j): (abs(v[i][j]) + abs(v[j][i])) / 2 for i, j in pairs}
    ranked = sorted(pairs, key=lambda pair: (-strength[pair], pair))
    return sorted(pair for pair in ranked[: round(density * len(pairs))] if strength[pair] > 0)


def drawn(n: int, edges: int, nulls: int, seed: int) -> list[list[tuple[int, int]]]:
    """The random graphs' edges."""
    pairs, rng = list(itertools.combinations(range(n), 2)), np.random.default_rng(seed)
    return [[pairs[k] for k in sorted(rng.choice(len(pairs), edges, replace=False))] for _ in range(nulls)]


def graph(n: int, edges: list[tuple[int, int]]) -> Any:
    g = nx.Graph()
    g.add_nodes_from(range(n))
    g.add_edges_from(edges)
    return g


def clustering_and_path(g: Any) -> tuple[float, float]:
    lengths = dict(nx.all_pairs_shortest_path_length(g))
    inverse = [1 / lengths[i][j] if j in lengths[i] else 0 for i, j in itertools.permutations(g, 2)]
    return nx.average_clustering(g), 1 / statistics.mean(inverse)


def newman(g: Any, communities: Any) -> float:
    """Q, pair by pair: the share of edges within communities beyond that of the same degrees joined at random."""
    m, q = g.number_of_edges(), 0.0
    for i, j in itertools.product(g, g):
        if communities[i] == communities[j]:
            q += (g.has_edge(i, j) - g.degree[i] * g.degree[j] / (2 * m)) / (2 * m)
    return q


def random_weights(n: int, seed: int) -> Any:
    return np.random.default_rng(seed).normal(size=(n, n))


@pytest.mark.parametrize(("n", "density"), [(12, 0.1), (25, 0.1), (25, 0.4), (40, 0.06)])
def test_graph_measures_are_those_of_networkx(n: int, density: float) -> None:
    v = random_weights(n, 2)
    edges = strongest(v.tolist(), density)
    assert len(edges) == round(density * n * (n - 1) / 2)
    g, null = graph(n, edges), [graph(n, e) for e in drawn(n, len(edges), 5, 3)]

    small = small_worldness(v, density, nulls=5, seed=3)
    c, length = clustering_and_path(g)
    assert (small.clustering, small.path) == pytest.approx((c, length))
    random = [clustering_and_path(r) for r in null]
    random_c, random_length = (statistics.mean(x) for x in zip(*random, strict=True))
    assert (small.null_clustering, small.null_path) == pytest.approx((random_c, random_length))
    assert random_c > 0
    assert small.sigma == pytest.approx((c / random_c) / (length / random_length))

    found = modularity(v, density, nulls=5, seed=3)
    assert found.q == pytest.approx(newman(g, found.communities))
    searched = [nx.community.modularity(r, nx.community.louvain_communities(r, seed=3)) for r in null]
    assert found.null == pytest.approx(searched)
    assert found.excess == pytest.approx(found.q - statistics.mean(searched))
    sizes = np.bincount(found.communities)
    assert (np.diff(sizes) <= 0).all()
    firsts = [(-size, int(np.argmax(found.communities == k))) for k, size in enumerate(sizes)]
    assert firsts == sorted(firsts)


def joined(n: int, edges: Any) -> Any:
    """Weights of which the edges' are the strongest, by far: one way, and with either sign."""
    v = 1e-3 * random_weights(n, 5)
    for k, (i, j) in enumerate(edges):
        v[(i, j) if k % 3 else (j, i)] = 1 if k % 2 else -1
    return v


def ring(n: int, reach: int) -> list[tuple[int, int]]:
    return [(i, (i + k) % n) for i in range(n) for k in range(1, reach + 1)]


def share(n: int, edges: Any) -> float:
    return len(edges) / (n * (n - 1) / 2)


def test_two_cliques() -> None:
    clique = list(itertools.combinations(range(6), 2))
    edges = [*clique, *((i + 6, j + 6) for i, j in clique)]
    order = np.random.default_rng(6).permutation(12)
    edges = [(order[i], order[j]) for i, j in edges]
    v = joined(12, edges)
    found = modularity(v, share(12, edges))
    assert found.q == pytest.approx(0.5)
    assert len({tuple(found.communities[order[:6]]), tuple(found.communities[order[6:]])}) == 2
    assert np.bincount(found.communities).tolist() == [6, 6]
    assert found.communities[0] == 0
    assert found.null.shape == (20,)
    assert (found.null < 0.4).all()
    small = small_worldness(v, share(12, edges))
    assert small.clustering == pytest.approx(1)
    assert small.path == pytest.approx(11 / 5)  # 5 of the 11 others one edge away, 6 out of reach


def test_a_ring_lattice_with_short_cuts_is_a_small_world() -> None:
    lattice = small_worldness(joined(60, ring(60, 3)), share(60, ring(60, 3)), nulls=5)
    assert lattice.clustering == pytest.approx(0.6)
    assert lattice.path == pytest.approx(59 / (6 * sum(1 / k for k in range(1, 10)) + 5 / 10))
    cuts = [*ring(60, 3)[6:], (0, 30), (10, 45), (20, 50), (5, 33), (14, 55), (25, 41)]
    world = small_worldness(joined(60, cuts), share(60, cuts), nulls=5)
    noise = small_worldness(random_weights(60, 8), share(60, cuts), nulls=5)
    assert world.sigma is not None
    assert lattice.sigma is not None
    assert noise.sigma is not None
    assert world.path is not None
    assert world.path < lattice.path
    assert world.sigma > lattice.sigma > 2
    assert noise.sigma == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("missing", [0, 1])
def test_random_graphs_have_as_many_edges(missing: int) -> None:
    # all graphs of all pairs but one are alike, so the random ones are as the one given
    n = 9
    density = 1 - missing / 36
    small, found = (f(random_weights(n, 9), density, nulls=4) for f in (small_worldness, modularity))
    assert small.sigma == pytest.approx(1)
    assert small.null_path == pytest.approx(small.path)
    assert small.path == pytest.approx(36 / (36 - missing / 2))
    assert found.null == pytest.approx([found.q] * 4)
    assert found.excess == pytest.approx(0)


def test_random_graphs_are_drawn_evenly() -> None:
    found = small_worldness(random_weights(30, 10), 0.3, nulls=200)
    assert found.null_clustering == pytest.approx(0.3, abs=0.01)


def test_a_sparse_layer_has_fewer_edges() -> None:
    v = np.zeros((10, 10))
    v[0, 1] = v[1, 2] = v[3, 2] = 1.0
    v[4, 4] = 9  # no edge to itself
    found = small_worldness(v, 0.5, nulls=50)
    assert found.clustering == 0
    assert found.path == pytest.approx(90 / (2 * (3 + 2 / 2 + 1 / 3)))
    groups = modularity(v, 0.5)
    assert groups.q == pytest.approx(newman(graph(10, [(0, 1), (1, 2), (2, 3)]), groups.communities))
    v[3, 2] = 0
    alone = small_worldness(v, 0.5)  # two edges close no triangle, at random neither
    assert (alone.sigma, alone.clustering, alone.null_clustering) == (None, 0, 0)
    assert alone.path is not None


def test_the_first_of_equal_pairs_are_edges() -> None:
    found = small_worldness(np.ones((5, 5)), 0.6, nulls=1)
    first = [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3)]
    assert strongest(np.ones((5, 5)).tolist(), 0.6) == first
    assert (found.clustering, found.path) == pytest.approx(clustering_and_path(graph(5, first)))
    ties = np.random.default_rng(13).integers(0, 3, (30, 30))
    found = small_worldness(ties, 0.2, nulls=1)
    expected = clustering_and_path(graph(30, strongest(ties.tolist(), 0.2)))
    assert (found.clustering, found.path) == pytest.approx(expected)


def test_graph_measures_of_v_turned_scaled_and_as_a_tensor() -> None:
    v = random_weights(20, 11)
    for other in (v.T, -8 * v, torch.from_numpy(v).requires_grad_()):
        assert small_worldness(other, 0.2, nulls=3) == small_worldness(v, 0.2, nulls=3)
        one, two = modularity(other, 0.2, nulls=3), modularity(v, 0.2, nulls=3)
        assert one.q == two.q
        assert one.communities.tolist() == two.communities.tolist()
        assert one.null.tolist() == two.null.tolist()


def test_random_graphs_of_one_size_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from locality_prior.analysis import wiring

    searched, search = [], wiring._louvain
    monkeypatch.setattr(wiring, "_louvain", lambda n, edges, seed: searched.append(n) or search(n, edges, seed))
    one, other = np.random.default_rng(5).normal(size=(2, 23, 23))
    wiring._random_q.cache_clear()
    first = modularity(one, nulls=4)
    assert len(searched) == 5
    second = modularity(other, nulls=4)
    assert len(searched) == 6
    assert first.null.tolist() == second.null.tolist()
    assert modularity(other, nulls=4, seed=1).null.tolist() != second.null.tolist()
    wiring._random_q.cache_clear()
    assert modularity(other, nulls=4).null.tolist() == second.null.tolist()


def test_the_seed_gives_the_numbers() -> None:
    v = random_weights(20, 12)
    assert small_worldness(v, seed=1) == small_worldness(v, seed=1)
    assert small_worldness(v, seed=1).null_path != small_worldness(v, seed=2).null_path
    assert modularity(v, seed=1).null.tolist() == modularity(v, seed=1).null.tolist()
    assert modularity(v, seed=1).null.tolist() != modularity(v, seed=2).null.tolist()
    assert len(set(modularity(v).null)) > 1


@pytest.mark.parametrize("v", [np.zeros((4, 4)), np.eye(4), np.ones((1, 1)), np.full((4, 4), np.nan)], ids=str)
def test_no_edge(v: Any) -> None:
    small, found = small_worldness(v, 0.5), modularity(v, 0.5, nulls=3)
    assert (small.sigma, small.clustering, small.path, small.null_clustering, small.null_path) == (None,) * 5
    assert (found.q, found.excess) == (None, None)
    np.testing.assert_array_equal(found.null, [np.nan] * 3)
    assert found.communities.tolist() == list(range(len(v)))


@pytest.mark.parametrize("measure", [modularity, small_worldness])
def test_graphs_that_do_not_fit(measure: Any) -> None:
    with pytest.raises(ValueError, match=r"weights: got shape \(3, 4\), expected as many units before as after"):
        measure(np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"weights: got shape \(3,\)"):
        measure(np.zeros(3))
    for density in (0, -0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"density: got .*, expected a number (above 0 and up|from 0) to 1"):
            measure(np.ones((3, 3)), density)
    with pytest.raises(ValueError, match="nulls: got 0"):
        measure(np.ones((3, 3)), nulls=0)
    with pytest.raises(ValueError, match="seed: got -1"):
        measure(np.ones((3, 3)), seed=-1)
