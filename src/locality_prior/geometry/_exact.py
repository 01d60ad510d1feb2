"""Exact distances along a surface, by pygeodesic, and the program of the processes that compute them.

The program is this file. It imports only numpy and pygeodesic, so a process starts at once, runs no code of the
caller's and is independent of torch's threads.
"""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from typing import IO, Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
#: How much farther than asked the search goes, so that rounding cannot end it early.
MORE = 1e-6
#: How far a first guess at what is near goes by simple paths: so many times as far, and so many lengths of a side.
GUESS = 1.1, 1.5


class Search:
    """Geodesics between vertices of a surface, after Mitchell, Mount & Papadimitriou (1987), as Kirsanov wrote them.

    Args:
        vertices: (V, 3) float64.
        faces: (F, 3) int64; each vertex is in one.
        wanted: numbers of the vertices whose distances are asked for, increasing.
    """

    def __init__(self, vertices: Array, faces: Array, wanted: Array) -> None:
        self.vertices, self.faces = vertices, faces
        self.wanted = np.zeros(len(vertices), dtype=bool)
        self.wanted[wanted] = True
        corners = vertices[faces]
        self.low, self.high = corners.min(axis=1), corners.max(axis=1)
        self.length = float(np.sqrt(((corners - np.roll(corners, 1, axis=1)) ** 2).sum(axis=2)).mean())

    def from_each(self, sources: Array, within: float) -> tuple[Array, Array, Array]:
        """The wanted vertices at most ``within`` from each source: how many of each, their numbers, their distances."""
        search = self._anywhere(sources) if within == np.inf else self._near(sources, within)
        counts, found, lengths = [], [], []
        for reached, d in search:
            right = self.wanted[reached] & (d <= within)
            counts.append(int(right.sum()))
            found.append(reached[right])
            lengths.append(d[right])
        return np.array(counts), np.concatenate(found), np.concatenate(lengths)

    @cached_property
    def _everywhere(self) -> tuple[Any, Array]:
        """pygeodesic's search on the whole surface, and the number of the connected part that each vertex is in."""
        from pygeodesic.geodesic import PyGeodesicAlgorithmExact

        part = joined(len(self.vertices), self.faces.ravel(), np.roll(self.faces, 1, axis=1).ravel())
        return PyGeodesicAlgorithmExact(self.vertices, self.faces), part

    def _anywhere(self, sources: Array) -> Iterator[tuple[Array, Array]]:
        """For each source the wanted vertices that it reaches, and their distances."""
        search, part = self._everywhere
        for source in sources:
            asked = np.flatnonzero(self.wanted & (part == part[source]))
            yield asked, _distances(search, source, asked, 0.0)

    def _near(self, sources: Array, within: float) -> Iterator[tuple[Array, Array]]:
        """For each source, vertices that include all those at most ``within`` away, and their distances.

        A path of length r stays within r of its source in space too, so the faces near the sources are enough.
        pygeodesic must never be asked for a vertex that its search does not reach (it would read uninitialised
        memory), and it takes longer the farther it has to search. So it is first asked for the vertices that are near
        by simple paths. If a path of length r may have left the region of these, it is asked for more.
        """
        from pygeodesic.geodesic import PyGeodesicAlgorithmExact
        from scipy.sparse.csgraph import dijkstra

        reach = within * (1 + MORE)
        guess = GUESS[0] * reach + GUESS[1] * self.length
        box = (self.high >= self.vertices[sources].min(axis=0) - guess).all(axis=1)
        box &= (self.low <= self.vertices[sources].max(axis=0) + guess).all(axis=1)
        there, numbers = np.unique(self.faces[box], return_inverse=True)
        vertices, faces = self.vertices[there], numbers.reshape(-1, 3)
        # each side of each face, and the corner opposite
        a, b, c = (np.concatenate([faces[:, (k + turn) % 3] for k in range(3)]) for turn in range(3))
        length = np.sqrt(((vertices[a] - vertices[b]) ** 2).sum(axis=1))
        search = PyGeodesicAlgorithmExact(vertices, faces)
        starts = np.searchsorted(there, sources)
        ways = _simple_ways(vertices, a, b, c, length)
        for source, along in zip(starts, dijkstra(ways, False, starts, limit=guess), strict=True):
            asked = along <= guess
            while True:
                d = np.full(len(there), np.inf)
                d[asked] = _distances(search, source, np.flatnonzero(asked), reach)
                # a path that leaves a vertex or crosses a side: d(p) ≤ r at a point p of it
                leaves, crosses = d[a] <= reach, d[a] + d[b] <= 2 * reach + length
                more = np.concatenate([b[leaves], c[leaves], c[crosses]])
                if asked[more].all():
                    break
                asked[more] = True
            yield there[asked], d[asked]


def _simple_ways(vertices: Array, a: Array, b: Array, c: Array, length: Array) -> Any:
    """The sides (a, b) of faces, and straight paths across them from the corner c of one face to that of the next.

    Returns:
        Their lengths, a csr_array.
    """
    from scipy.sparse import csr_array

    n = len(vertices)
    one, other = np.minimum(a, b), np.maximum(a, b)
    name = one * n + other
    order = np.argsort(name, kind="stable")
    again = name[order[1:]] == name[order[:-1]]
    this, next_ = order[:-1][again], order[1:][again]
    first = np.concatenate([order[:1], order[1:][~again]])
    # with the two faces laid flat: how far along the side each corner is, and how far from it
    away = vertices[c] - vertices[one]
    along = (away * (vertices[other] - vertices[one])).sum(axis=1) / length
    off = np.sqrt(np.maximum((away * away).sum(axis=1) - along * along, 0))
    crossing = along[this] + (along[next_] - along[this]) * off[this] / (off[this] + off[next_])
    inside = (crossing > 0) & (crossing < length[this])
    across = np.hypot(along[this] - along[next_], off[this] + off[next_])
    ends = (
        np.concatenate([one[first], c[this][inside]]),
        np.concatenate([other[first], c[next_][inside]]),
    )
    return csr_array((np.concatenate([length[first], across[inside]]), ends), shape=(n, n))


def _distances(search: Any, source: int, asked: Array, reach: float) -> Array:
    """Distances from the source to the vertices asked for; the search ends when it has reached these and ``reach``."""
    distances: Array = search.geodesicDistances([source], asked, reach)[0]
    return distances


def joined(n: int, one: Array, other: Array) -> Array:
    """For each of n things, the least number that it is connected to by pairs (one, other), in any number of steps."""
    least = np.arange(n)
    while True:
        low = np.minimum(least[one], least[other])
        new = least.copy()
        np.minimum.at(new, least[one], low)
        np.minimum.at(new, least[other], low)
        new = new[new]
        if (new == least).all():
            return least
        least = new


def send(stream: IO[bytes], *arrays: Any) -> None:
    """Write arrays to a pipe."""
    packed = io.BytesIO()
    np.savez(packed, *arrays)
    stream.write(packed.tell().to_bytes(8, "big"))
    stream.write(packed.getbuffer())
    stream.flush()


def receive(stream: IO[bytes]) -> list[Array]:
    """Read arrays from a pipe.

    Raises:
        EOFError: the pipe has ended.
    """
    size = int.from_bytes(stream.read(8), "big")
    packed = stream.read(size)
    if not size or len(packed) < size:
        raise EOFError
    with np.load(io.BytesIO(packed)) as arrays:
        return list(arrays.values())


def serve() -> None:
    """Answer questions, one after the other, until the pipe that they come through is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    with suppress(EOFError):
        search = Search(*receive(asked))
        while True:
            sources, within = receive(asked)
            send(answers, *search.from_each(sources, float(within)))


if __name__ == "__main__":
    serve()
