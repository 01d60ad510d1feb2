"""Shortest paths along edges or across faces, and how units at the vertices of one network meet."""

from __future__ import annotations

import math
import multiprocessing
import os
import queue
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locality_prior._check import Problem, check_fits
from locality_prior._timing import cores
from locality_prior.geometry import _exact
from locality_prior.geometry._exact import Array
from locality_prior.geometry.meeting import BLOCK, Meeting, Pairs
from locality_prior.geometry.tiles import tiles

#: A matrix of at most this many distances is computed as a whole and kept; of a larger one the rows that are asked for.
WHOLE = 1 << 24
#: How many numbers are kept for one network, over all its meetings.
KEPT = 1 << 25
#: The least number of sources of a block for which paths are looked for together.
TILE = 64
#: The seconds of work above which other processes are started to share it, and their greatest number.
ALONE, PROCESSES = 2.0, 16

#: Source vertices, the vertices that they reach, and the distances, each (pairs,).
Found = tuple[Array, Array, Array]


class Ways(ABC):
    """The shortest paths between the vertices of one network, and the distances that have been computed already."""

    def __init__(self) -> None:
        self.kept: dict[object, tuple[Any, ...]] = {}

    @abstractmethod
    def search(self, sources: Array, wanted: Array, within: float) -> Iterator[Found]:
        """Distances from each source to each wanted vertex (increasing numbers) at most ``within`` away, in blocks."""

    def keep(self, key: object, *tensors: Any) -> None:
        """Remember what was computed, and forget the oldest of it if it is too much."""
        self.kept.pop(key, None)
        self.kept[key] = tensors
        while len(self.kept) > 1 and sum(t.numel() for found in self.kept.values() for t in found) > KEPT:
            del self.kept[next(iter(self.kept))]


class Shortest(Meeting):
    """Units at vertices of one network. Only near pairs are computed where a cost ends.

    The length of a pair can be computed from either end, with a different rounding. So that it is the same for both, it
    is always computed from one end: from the side with fewer units, or within one set of units from the lower number.
    Only if a few rows of a large matrix are asked for, it is computed from their units.

    Args:
        ways: the paths of the network.
        target: vertex number of each target unit, (n,) int64, each once.
        source: vertex number of each source unit, (m,) int64, each once.
    """

    def __init__(self, ways: Ways, target: Array, source: Array) -> None:
        self.ways, self.target, self.source = ways, target, source
        self.shape = len(target), len(source)
        self._key = target.tobytes(), source.tobytes()

    def rows(self, rows: Tensor) -> Tensor:
        n, m = self.shape
        few = 16 * len(rows) < n
        if few or (n * m > WHOLE and len(rows) < n):
            units, which = np.unique(rows.numpy(), return_inverse=True)
            return self._filled((len(units), m), self._from(self.target, self.source, math.inf, units))[which]
        kept = self.ways.kept.get(("whole", *self._key))
        if kept is None:
            kept = (self._filled(self.shape, self._pairs(math.inf)),)
            if n * m <= WHOLE:
                self.ways.keep(("whole", *self._key), *kept)
        d: Tensor = kept[0][rows]
        return d

    def rows_within(self, rows: Tensor, within: float) -> Tensor:
        if within == math.inf:
            return self.rows(rows)
        pairs, lengths = self._near(within)
        m = self.shape[1]
        first, last = torch.searchsorted(pairs, rows * m), torch.searchsorted(pairs, (rows + 1) * m)
        d = torch.full((len(rows), m), math.inf, dtype=torch.float64)
        for k, (start, stop) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
            d[k, pairs[start:stop] % m] = lengths[start:stop]
        return d

    def near(self, within: float) -> Iterator[Pairs]:
        if within == math.inf:
            yield from super().near(within)
            return
        m = self.shape[1]
        for pairs, d in zip(*(torch.split(x, BLOCK) for x in self._near(within)), strict=True):
            yield pairs // m, pairs % m, d

    def _near(self, within: float) -> tuple[Tensor, Tensor]:
        """Numbers i·m + j of the pairs at most ``within`` apart, increasing, and their distances."""
        kept = self.ways.kept.get(("near", *self._key))
        if kept is not None and kept[0] >= within:
            far, pairs, d = kept
            return (pairs, d) if far == within else (pairs[d <= within], d[d <= within])
        blocks: list[tuple[Array, Array]] = []
        count = 0
        for i, j, lengths in self._pairs(within):
            count += len(i)
            what = f"more than {count:,} pairs of units at most {within:g} apart"
            check_fits(4 * count, what, "use a cost that ends earlier")
            blocks.append((i * self.shape[1] + j, lengths))
        found = np.concatenate([numbers for numbers, _ in blocks])
        order = np.argsort(found)
        pairs = torch.from_numpy(found[order])
        d = torch.from_numpy(np.concatenate([lengths for _, lengths in blocks])[order])
        self.ways.keep(("near", *self._key), torch.tensor(within, dtype=torch.float64), pairs, d)
        return pairs, d

    def _pairs(self, within: float) -> Iterator[Found]:
        """Target units, source units and the distances of all pairs at most ``within`` apart, in blocks."""
        n, m = self.shape
        if n > m or (n == m and self._key[0] > self._key[1]):
            yield from ((i, j, d) for j, i, d in self._from(self.source, self.target, within))
        elif self._key[0] != self._key[1]:
            yield from self._from(self.target, self.source, within)
        else:
            for i, j, d in self._from(self.target, self.source, within):
                once = self.target[i] <= self.source[j]
                i, j, d = i[once], j[once], d[once]
                yield i, j, d
                twice = i != j
                yield j[twice], i[twice], d[twice]

    def _from(self, one: Array, other: Array, within: float, units: Array | None = None) -> Iterator[Found]:
        """Units of ``one`` (all, or ``units``: indices into it), units of ``other``, and their distances."""
        starts = one if units is None else one[units]
        if not len(starts):
            return
        by_start, by_end = np.argsort(starts), np.argsort(other)
        starts, ends = starts[by_start], other[by_end]
        for u, v, d in self.ways.search(starts, ends, within):
            yield by_start[np.searchsorted(starts, u)], by_end[np.searchsorted(ends, v)], d

    def _filled(self, shape: tuple[int, int], found: Iterator[Found]) -> Tensor:
        check_fits(shape[0] * shape[1], f"{shape[0]:,} × {shape[1]:,} distances", "ask for fewer rows of them")
        filled = np.full(shape, math.inf)
        for i, j, d in found:
            filled[i, j] = d
        return torch.from_numpy(filled)


class Edges(Ways):
    """Along the edges of a graph, by Dijkstra's algorithm. Needs scipy.

    Args:
        nodes: how many there are.
        ends: the two ends of each edge, (2, edges).
        lengths: of the edges, above 0, (edges,).
    """

    def __init__(self, nodes: int, ends: Array, lengths: Array) -> None:
        super().__init__()
        from scipy.sparse import coo_array

        both = np.concatenate([ends, ends[::-1]], axis=1)
        self.graph = coo_array((np.concatenate([lengths, lengths]), tuple(both)), shape=(nodes, nodes)).tocsr()

    def search(self, sources: Array, wanted: Array, within: float) -> Iterator[Found]:
        from scipy.sparse.csgraph import dijkstra, reverse_cuthill_mckee

        nodes = self.graph.shape[0]
        size = TILE
        if within < math.inf:  # neighbours together, so that a block of them reaches few vertices
            rank = np.empty(nodes, dtype=np.int64)
            rank[reverse_cuthill_mckee(self.graph, symmetric_mode=True)] = np.arange(nodes)
            sources = sources[np.argsort(rank[sources])]
        else:
            size = max(1, BLOCK // nodes)
        for some in np.split(sources, range(size, len(sources), size)):
            graph, there = self.graph, np.arange(nodes)
            if within < math.inf:  # all that the block reaches, which includes all the paths that count
                there = np.flatnonzero(dijkstra(graph, indices=some, limit=within, min_only=True) <= within)
                graph = graph[there][:, there]
            d = dijkstra(graph, indices=np.searchsorted(there, some), limit=within)
            seen = np.flatnonzero(np.isin(there, wanted, assume_unique=True))
            d = d[:, seen]
            i, j = np.nonzero(np.isfinite(d))
            yield some[i], there[seen[j]], d[i, j]


class Faces(Ways):
    """Across the faces of a surface, exactly. Needs pygeodesic.

    Args:
        vertices: (V, 3) float64.
        faces: (F, 3) int64.
    """

    def __init__(self, vertices: Array, faces: Array) -> None:
        super().__init__()
        self.vertices, self.faces = vertices, faces

    def search(self, sources: Array, wanted: Array, within: float) -> Iterator[Found]:
        numbers = tiles(torch.from_numpy(self.vertices[sources]), TILE if within < math.inf else 8).numpy()
        blocks = np.split(sources[np.argsort(numbers, kind="stable")], np.bincount(numbers).cumsum()[:-1])
        search = _exact.Search(self.vertices, self.faces, wanted)
        most = min(cores(), PROCESSES) if multiprocessing.parent_process() is None and sys.executable else 1
        began = time.perf_counter()
        for k, block in enumerate(blocks):
            yield _laid(block, search.from_each(block, within))
            spent, left = time.perf_counter() - began, len(blocks) - k - 1
            if min(most, left) > 1 and spent > ALONE / 4 and spent / (k + 1) * left > ALONE:
                yield from self._shared(blocks[k + 1 :], wanted, within, min(most, left))
                return

    def _shared(self, blocks: list[Array], wanted: Array, within: float, processes: int) -> Iterator[Found]:
        """The same, computed by any number of processes, a block at a time."""
        command = [sys.executable, "-P", _exact.__file__]
        pipe = subprocess.PIPE
        found_at = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        workers = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=os.environ | found_at)
            for _ in range(processes)
        ]
        idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()

        def ask(block: Array) -> Found:
            worker = idle.get()
            try:
                _exact.send(worker.stdin, block, within)  # type: ignore[arg-type]
                return _laid(block, _exact.receive(worker.stdout))  # type: ignore[arg-type]
            except (OSError, EOFError):
                raise Problem(
                    "A process that measured distances ended early. It may have been short of memory."
                ) from None
            finally:
                idle.put(worker)

        pool = ThreadPoolExecutor(processes)
        try:
            for worker in workers:
                with suppress(OSError):  # one that has already ended is reported when it is asked
                    _exact.send(worker.stdin, self.vertices, self.faces, wanted)  # type: ignore[arg-type]
                idle.put(worker)
            yield from pool.map(ask, blocks)
        finally:
            for worker in workers:
                worker.kill()
            pool.shutdown(cancel_futures=True)
            for worker in workers:
                with suppress(OSError):
                    worker.communicate()


def _laid(block: Array, found: Any) -> Found:
    counts, vertices, lengths = found
    return np.repeat(block, counts), vertices, lengths
