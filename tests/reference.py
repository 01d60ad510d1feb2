"""The slow and obvious reference: every definition as a double loop over plain numbers, and the rows of the contract.

Nothing here uses the library's formulas. A new geometry or cost is tested by adding one row below; those of a user's
own (homemade.py) are rows like any others.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import homemade
import numpy as np
import torch

import locality_prior as lp
from locality_prior.cost import Cost
from locality_prior.geometry import Geometry, default_sheet

Matrix = list[list[float]]

# --- samples ---------------------------------------------------------------------------------------------------------


def pairwise(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Some of the combinations of the axes' values: always the same, and any two values of two axes meet in one."""
    missing = {
        (a, i, b, j)
        for a, b in itertools.combinations(range(len(axes)), 2)
        for i in range(len(axes[a]))
        for j in range(len(axes[b]))
    }

    def covers(row: Sequence[int]) -> set[tuple[int, int, int, int]]:
        return {(a, row[a], b, row[b]) for a, b in itertools.combinations(range(len(axes)), 2)}

    by_size = sorted(range(len(axes)), key=lambda a: -len(axes[a]))
    turn, rows = random.Random(0), []
    for pair in itertools.product(*(range(len(axes[a])) for a in by_size[:2])):
        rest = list(itertools.product(*(range(len(axes[a])) for a in by_size[2:])))
        turn.shuffle(rest)
        choices = [[x for _, x in sorted(zip(by_size, (*pair, *others), strict=True))] for others in rest]
        best = max(choices, key=lambda row: len(covers(row) & missing))
        missing -= covers(best)
        rows.append(best)
    assert not missing
    return [tuple(axis[k] for axis, k in zip(axes, row, strict=True)) for row in rows]


# --- distances -------------------------------------------------------------------------------------------------------


def between(targets: Sequence[Any], sources: Sequence[Any], distance: Callable[[Any, Any], float]) -> Matrix:
    return [[distance(a, b) for b in sources] for a in targets]


def euclidean(a: Sequence[float], b: Sequence[float]) -> float:
    return math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def cityblock(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(abs(p - q) for p, q in zip(a, b, strict=True))


def chebyshev(a: Sequence[float], b: Sequence[float]) -> float:
    return max(abs(p - q) for p, q in zip(a, b, strict=True))


def cells(*shape: int, units: int | None = None) -> list[tuple[int, ...]]:
    return list(itertools.product(*map(range, shape)))[:units]


def grid(
    target: Sequence[int],
    source: Sequence[int],
    periodic: Sequence[bool] | None = None,
    spacing: tuple[Sequence[float], Sequence[float]] | None = None,
    units: tuple[int | None, int | None] = (None, None),
) -> Matrix:
    """Axis by axis: stretched cell centres, or physical coordinates; the shorter way round where an axis closes."""

    def along(a: int, k: int, j: int) -> float:
        m, n = target[a], source[a]
        if spacing is None:
            gap, around = abs((k + 0.5) * n / m - 0.5 - j), float(n)
        else:
            gap, around = abs(k * spacing[0][a] - j * spacing[1][a]), n * spacing[1][a]
        return min(gap, around - gap) if periodic and periodic[a] else gap

    def distance(k: tuple[int, ...], j: tuple[int, ...]) -> float:
        return math.sqrt(sum(along(a, k[a], j[a]) ** 2 for a in range(len(target))))

    return between(cells(*target, units=units[0]), cells(*source, units=units[1]), distance)


def hexagonal(rows: int, cols: int) -> list[tuple[float, float]]:
    return [(r * math.sqrt(3) / 2, c + (0.5 if r % 2 else 0.0)) for r in range(rows) for c in range(cols)]


def box(places: Sequence[Sequence[float]], cell: tuple[float, float]) -> list[tuple[float, float]]:
    """(low, high) of each axis of the box around the cells at ``places``, each of size ``cell``."""
    return [(min(p[a] for p in places) - cell[a] / 2, max(p[a] for p in places) + cell[a] / 2) for a in range(2)]


def stretched(
    targets: Sequence[Sequence[float]],
    sources: Sequence[Sequence[float]],
    cell: tuple[tuple[float, float], tuple[float, float]],
) -> Matrix:
    """Euclidean distances after the box of the target's cells is laid onto the box of the source's."""
    to, onto = box(targets, cell[0]), box(sources, cell[1])

    def move(p: Sequence[float]) -> list[float]:
        return [onto[a][0] + (p[a] - to[a][0]) / (to[a][1] - to[a][0]) * (onto[a][1] - onto[a][0]) for a in range(2)]

    return between([move(p) for p in targets], sources, euclidean)


HEX, SQUARE = (math.sqrt(3) / 2, 1.0), (1.0, 1.0)


def fibonacci(n: int) -> list[tuple[float, float, float]]:
    """n directions: golden-angle turns at equal steps of height."""
    found = []
    for k in range(n):
        z, turn = 1 - (2 * k + 1) / n, k * math.pi * (3 - math.sqrt(5))
        found.append((math.sqrt(1 - z * z) * math.cos(turn), math.sqrt(1 - z * z) * math.sin(turn), z))
    return found


def great_circle(target: int, source: int) -> Matrix:
    """The angle from the cross and the dot product, on the source's sphere of area ``source``."""

    def angle(u: Sequence[float], v: Sequence[float]) -> float:
        cross = np.cross(u, v)
        return math.atan2(math.sqrt(float(cross @ cross)), sum(p * q for p, q in zip(u, v, strict=True)))

    radius = math.sqrt(source / (4 * math.pi))
    return [[radius * angle(u, v) for v in fibonacci(source)] for u in fibonacci(target)]


def floyd_warshall(adjacency: Matrix) -> Matrix:
    n = len(adjacency)
    d = [[0.0 if i == j else (adjacency[i][j] or math.inf) for j in range(n)] for i in range(n)]
    for k, i, j in itertools.product(range(n), repeat=3):
        d[i][j] = min(d[i][j], d[i][k] + d[k][j])
    return d


# --- the layer -------------------------------------------------------------------------------------------------------


def signals(distances: Matrix, price: Callable[[float], float]) -> Matrix:
    return [[0.0 if price(d) == math.inf else 1 / price(d) for d in row] for row in distances]


def prior(distances: Matrix, price: Callable[[float], float], rescale: bool = False) -> Matrix:
    s = signals(distances, price)
    return [[p * len(row) / sum(row) if rescale else p for p in row] for row in s]


def linear(x: Matrix, w: Matrix, p: Matrix, b: list[float]) -> Matrix:
    return [[b[i] + sum(p[i][j] * w[i][j] * row[j] for j in range(len(row))) for i in range(len(w))] for row in x]


def linear_gradients(x: Matrix, w: Matrix, p: Matrix, g: Matrix) -> tuple[Matrix, Matrix, list[float]]:
    """Gradients of Σ g·y with respect to x, W and b."""
    batch, out, features = range(len(x)), range(len(w)), range(len(w[0]))
    gx = [[sum(g[n][i] * p[i][j] * w[i][j] for i in out) for j in features] for n in batch]
    gw = [[p[i][j] * sum(g[n][i] * x[n][j] for n in batch) for j in features] for i in out]
    gb = [sum(g[n][i] for n in batch) for i in out]
    return gx, gw, gb


def convolution(
    x: torch.Tensor, v: torch.Tensor, b: torch.Tensor, stride: int, padding: int, groups: int
) -> torch.Tensor:
    """Every output of a convolution with zeros around, one by one."""
    n, _, height, width = x.shape
    out, inside, tall, wide = v.shape
    padded = x.new_zeros(n, x.shape[1], height + 2 * padding, width + 2 * padding)
    padded[:, :, padding : padding + height, padding : padding + width] = x
    rows, cols = ((size + 2 * padding - k) // stride + 1 for size, k in ((height, tall), (width, wide)))
    y = []
    for i in range(out):
        first = i // (out // groups) * inside
        for r in range(rows):
            for c in range(cols):
                seen = padded[:, first : first + inside, r * stride : r * stride + tall, c * stride : c * stride + wide]
                y.append((seen * v[i]).sum((1, 2, 3)) + b[i])
    return torch.stack(y, 1).reshape(n, out, rows, cols)


def recurrence(kind: str, x: torch.Tensor, h: list[torch.Tensor], w: list[torch.Tensor]) -> list[torch.Tensor]:
    """One direction of one layer over time, (time, batch, features): outputs, and the last states."""
    w_ih, v_hh, b_ih, b_hh = w
    y = []
    for now in x:
        a, r = now @ w_ih.t() + b_ih, h[0] @ v_hh.t() + b_hh
        if kind == "LSTM":
            i, f, g, o = (a + r).chunk(4, -1)
            cell = f.sigmoid() * h[1] + i.sigmoid() * g.tanh()
            h = [o.sigmoid() * cell.tanh(), cell]
        elif kind == "GRU":
            (ar, az, an), (rr, rz, rn) = a.chunk(3, -1), r.chunk(3, -1)
            reset, update = (ar + rr).sigmoid(), (az + rz).sigmoid()
            h = [(1 - update) * (an + reset * rn).tanh() + update * h[0]]
        else:
            h = [(a + r).tanh() if kind == "RNN" else (a + r).relu()]
        y.append(h[0])
    return [torch.stack(y), *h]


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, charge: Matrix | None, slopes: Sequence[float]
) -> torch.Tensor:
    """Attention of one sequence, (length, embedding), head by head and query by query; ``charge`` is c(d) − 1."""
    size = q.shape[1] // heads
    y = []
    for i in range(len(q)):
        parts = []
        for h in range(heads):
            at = slice(h * size, (h + 1) * size)
            logits = [
                (q[i, at] * k[j, at]).sum() / math.sqrt(size) - (slopes[h] * charge[i][j] if charge else 0.0)
                for j in range(len(k))
            ]
            share = torch.stack(logits).softmax(0)
            parts.append(sum(share[j] * v[j, at] for j in range(len(k))))
        y.append(torch.cat(parts))
    return torch.stack(y)


def over_wires(v: Matrix, distances: Matrix, price: Callable[[float], float], value: Callable[[float], float]) -> float:
    """Σ value(d)·|V| over the wires of ``price``."""
    total = 0.0
    for v_row, d_row in zip(v, distances, strict=True):
        for strength, d in zip(v_row, d_row, strict=True):
            if price(d) < math.inf:
                total += value(d) * abs(strength)
    return total


# --- rows of the contract: costs -------------------------------------------------------------------------------------


def parabola(d: torch.Tensor) -> torch.Tensor:
    """A user's own cost."""
    return 1 + d.square() / 3


def there(price: Callable[[float], float], radius: float = math.inf) -> Callable[[float], float]:
    return lambda d: price(d) if d < math.inf and d <= radius + 1e-12 else math.inf


def decay(end: float) -> Callable[[float], float]:
    return lambda d: math.inf if d >= end - 1e-12 else 1 / (1 - d / end)


COSTS: dict[str, tuple[Cost, Callable[[float], float]]] = {
    "linear": (lp.cost.Linear(), there(lambda d: 1 + d)),
    "linear 2.5": (lp.cost.Linear(2.5), there(lambda d: 1 + d / 2.5)),
    "sqrt": (lp.cost.Sqrt(1.5), there(lambda d: math.sqrt(1 + d / 1.5))),
    "quadratic": (lp.cost.Quadratic(2), there(lambda d: (1 + d / 2) * (1 + d / 2))),
    "power": (lp.cost.Power(2, 1.7), there(lambda d: math.pow(1 + d / 2, 1.7))),
    "exponential": (lp.cost.Exponential(2), there(lambda d: math.exp(d / 2))),
    "gaussian": (lp.cost.Gaussian(1.5), there(lambda d: math.exp(d * d / (2 * 1.5 * 1.5)))),
    "decay": (lp.cost.LinearDecay(2.5), decay(2.5)),
    "decay within": (lp.cost.LinearDecay(4).within(2), there(decay(4), 2)),
    "flat": (lp.cost.Flat(), there(lambda d: 1.0)),
    "flat within": (lp.cost.Flat().within(1.5), there(lambda d: 1.0, 1.5)),
    "custom": (lp.cost.Custom(parabola), there(lambda d: 1 + d * d / 3)),
    "linear within": (lp.cost.Linear().within(1.6), there(lambda d: 1 + d, 1.6)),
    "own class": (homemade.Logarithmic(2).within(2.1), there(lambda d: 1 + math.log(1 + d / 2), 2.1)),
}


def shuffled(lengths: Matrix, seed: int) -> Matrix:
    """Each row in the order of its own random numbers."""
    draws = iter(np.random.PCG64(seed).random_raw(len(lengths) * len(lengths[0])).tolist())
    return [[d for _, d in sorted((next(draws), d) for d in row)] for row in lengths]


# --- rows of the contract: geometries --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Meeting:
    """A target laid onto a source, and how the reference measures it."""

    source: Geometry
    target: Geometry
    measure: Callable[[], Matrix]

    @cached_property
    def distances(self) -> Matrix:
        return self.measure()

    @property
    def sizes(self) -> tuple[int, int]:
        """(in, out)."""
        return len(self.distances[0]), len(self.distances)

    def layer(self, cost: Cost, **options: Any) -> lp.LocalityLinear:
        return lp.LocalityLinear(*self.sizes, source=self.source, target=self.target, cost=cost, **options)


def alone(geometry: Geometry, measure: Callable[[], Matrix]) -> Meeting:
    return Meeting(geometry, geometry, measure)


def taxi(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """A user's own metric: twice the city block."""
    return 2 * (a[:, None] - b[None]).abs().sum(-1)


def cylinder(targets: Sequence[Sequence[float]], sources: Sequence[Sequence[float]]) -> Matrix:
    """Around or along: the shorter way round."""

    def distance(a: Sequence[float], b: Sequence[float]) -> float:
        turn = abs(a[0] - b[0])
        return math.sqrt(min(turn, 2 * math.pi - turn) ** 2 + (a[1] - b[1]) ** 2)

    return between(targets, sources, distance)


#: Angles and heights of units around a cylinder.
AROUND = [[0.1, 0.0], [3.0, 0.2], [6.1, 0.4], [4.5, 1.0]]
OTHERS = [[0.0, 0.1], [1.5, 0.5], [5.5, 0.3]]

#: What is saved by import path, and passed by whoever loads it.
CUSTOM = {
    "homemade:Cylinder": homemade.Cylinder,
    "homemade:Logarithmic": homemade.Logarithmic,
    "reference:parabola": parabola,
    "reference:taxi": taxi,
}

# the first two points coincide
XYZ = [[0.1, 0.2, 0.0], [0.1, 0.2, 0.0], [1.0, 0.5, 0.3], [0.4, 1.5, 0.2], [1.3, 1.1, 1.0]]
PLANE = [[0.3, 0.4], [1.2, 0.9], [0.3, 1.7]]
EDGES = [
    [0.0, 1.0, 0.0, 0.0, 0.0],
    [1.0, 0.0, 0.7, 2.5, 0.0],
    [0.0, 0.7, 0.0, 0.6, 0.0],
    [0.0, 2.5, 0.6, 0.0, 0.0],
    [0.0, 0.0, 0.0, 0.0, 0.0],
]
#: A sheet of paper: places of its vertices, and triangles. It is folded where x = 1, which changes no distance on it.
PAPER = [[x, y] for x in (0.0, 1.0, 2.2) for y in (0.0, 0.9, 1.7)]
FOLDED = [[min(x, 1.0), y, max(x - 1.0, 0.0)] for x, y in PAPER]
FACES = [[0, 3, 4], [0, 4, 1], [1, 4, 2], [2, 4, 5], [3, 6, 4], [4, 6, 7], [4, 7, 8], [4, 8, 5]]
TRACTS = [[0.5, math.inf, 1.0, 2.2], [1.5, 0.0, math.inf, 3.0], [0.3, 0.9, 2.0, math.inf]]

GEOMETRIES: dict[str, Meeting] = {
    "line": alone(lp.Line(6), lambda: grid([6], [6])),
    "line 6 to 4": Meeting(lp.Line(6), lp.Line(4), lambda: grid([4], [6])),
    "ring": alone(lp.Line(5, periodic=True), lambda: grid([5], [5], [True])),
    "ring 4 to 6": Meeting(lp.Line(4, periodic=True), lp.Line(6, periodic=True), lambda: grid([6], [4], [True])),
    "sheet": alone(lp.Grid(3, 4), lambda: grid([3, 4], [3, 4])),
    "sheet unequal": Meeting(lp.Grid(4, 3), lp.Grid(2, 5), lambda: grid([2, 5], [4, 3])),
    "torus": alone(lp.Grid(3, 4, periodic=True), lambda: grid([3, 4], [3, 4], [True, True])),
    "cylinder unequal": Meeting(
        lp.Grid(4, 3, periodic=(True, False)),
        lp.Grid(3, 2, periodic=(True, False)),
        lambda: grid([3, 2], [4, 3], [True, False]),
    ),
    "block": alone(lp.Grid(2, 3, 2), lambda: grid([2, 3, 2], [2, 3, 2])),
    "block unequal": Meeting(lp.Grid(2, 1, 3), lp.Grid(1, 2, 2), lambda: grid([1, 2, 2], [2, 1, 3])),
    "spaced": alone(lp.Grid(3, 3, spacing=(0.5, 1.25)), lambda: grid([3, 3], [3, 3], None, ((0.5, 1.25), (0.5, 1.25)))),
    "spaced unequal": Meeting(lp.Line(4), lp.Line(6, spacing=0.6), lambda: grid([6], [4], None, ((0.6,), (1.0,)))),
    "spaced ring": Meeting(
        lp.Line(4, periodic=True, spacing=1.5),
        lp.Line(6, periodic=True),
        lambda: grid([6], [4], [True], ((1.0,), (1.5,))),
    ),
    "not square": Meeting(default_sheet(10), default_sheet(5), lambda: grid([2, 3], [3, 4], units=(5, 10))),
    "hexagons": alone(lp.HexGrid(3, 3), lambda: between(hexagonal(3, 3), hexagonal(3, 3), euclidean)),
    "hexagons unequal": Meeting(
        lp.HexGrid(3, 4), lp.HexGrid(4, 2), lambda: stretched(hexagonal(4, 2), hexagonal(3, 4), (HEX, HEX))
    ),
    "hexagons on squares": Meeting(
        lp.Grid(3, 3), lp.HexGrid(2, 3), lambda: stretched(hexagonal(2, 3), cells(3, 3), (HEX, SQUARE))
    ),
    "squares on hexagons": Meeting(
        lp.HexGrid(1, 4), lp.Grid(2, 2), lambda: stretched(cells(2, 2), hexagonal(1, 4), (SQUARE, HEX))
    ),
    "sphere": alone(lp.Sphere(9), lambda: great_circle(9, 9)),
    "sphere 9 to 6": Meeting(lp.Sphere(9), lp.Sphere(6), lambda: great_circle(6, 9)),
    "points": alone(lp.Points(XYZ), lambda: between(XYZ, XYZ, euclidean)),
    "points cityblock": alone(lp.Points(XYZ, "cityblock"), lambda: between(XYZ, XYZ, cityblock)),
    "points chebyshev": alone(lp.Points(XYZ, "chebyshev"), lambda: between(XYZ, XYZ, chebyshev)),
    "points own": alone(lp.Points(XYZ, taxi), lambda: between(XYZ, XYZ, lambda a, b: 2 * cityblock(a, b))),
    "points on sheet": Meeting(lp.Grid(2, 3), lp.Points(PLANE), lambda: between(PLANE, cells(2, 3), euclidean)),
    "sheet on points": Meeting(lp.Points(PLANE), lp.Grid(2, 2), lambda: between(cells(2, 2), PLANE, euclidean)),
    "graph": alone(lp.Graph(EDGES), lambda: floyd_warshall(EDGES)),
    "mesh": alone(lp.Mesh(FOLDED, FACES), lambda: between(PAPER, PAPER, euclidean)),
    "patches of a mesh": Meeting(
        lp.Mesh(FOLDED, FACES, units=[0, 8, 3, 4]),
        lp.Mesh(FOLDED, FACES, units=[6, 4, 1]),
        lambda: between([PAPER[k] for k in (6, 4, 1)], [PAPER[k] for k in (0, 8, 3, 4)], euclidean),
    ),
    "tracts": alone(lp.Distances(TRACTS), lambda: TRACTS),
    "shuffled": alone(lp.Shuffled(lp.Grid(2, 2), lp.Grid(3, 2), 5), lambda: shuffled(grid([2, 2], [3, 2]), 5)),
    "channels": Meeting(
        lp.Grid(2, 2).with_channels(3),
        lp.Grid(3, 2),
        lambda: [row * 3 for row in grid([3, 2], [2, 2])],
    ),
    "own class": Meeting(
        homemade.Cylinder(*zip(*AROUND, strict=True)),
        homemade.Cylinder(*zip(*OTHERS, strict=True)),
        lambda: cylinder(OTHERS, AROUND),
    ),
    "to channels": Meeting(lp.Line(4), lp.Line(3).with_channels(2), lambda: grid([3], [4]) * 2),
}


# --- samples of combinations -----------------------------------------------------------------------------------------


def sampled(*long: Sequence[Any], few: Sequence[Sequence[Any]] = (), seed: int = 0) -> list[tuple[Any, ...]]:
    """Rows (one of each of ``long``, one of each of ``few``): a fixed sample of all their combinations.

    Every entry of a long list meets every combination of the few. Two long lists meet at random.
    """
    draw = random.Random(seed)
    rows = []
    for combination in itertools.product(*few):
        orders = [draw.sample(list(one), len(one)) for one in long]
        for k in range(max(map(len, orders))):
            rows.append((*(order[k % len(order)] for order in orders), *combination))
    return rows


def named(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """Names of the sampled rows, for pytest."""
    return ["-".join(str(value).removeprefix("torch.") for value in row) for row in rows]
