"""Orders to begin with, in which neighbouring places have units from about the same part of the network."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from locality_prior.geometry import Geometry

#: Up to so many units all eigenvectors of a matrix are computed; above it, the first few by iteration.
WHOLE = 512
#: How many steps of that iteration are made, on so many vectors more than are wanted.
STEPS, MORE = 60, 6
#: How many rotations of an embedding are tried.
TURNS = 8


def spread(embedding: Tensor, places: Tensor) -> Tensor:
    """An order, (units,), that matches units to places by halving both repeatedly, as in a k-d tree.

    The places of a part are halved along their widest axis, and its units in the same proportion along the same axis of
    their embedding.

    Args:
        embedding: (units, axes).
        places: coordinates of as many places, (units, axes).
    """
    order = torch.empty(len(places), dtype=torch.int64)
    parts = [(torch.arange(len(places)), torch.arange(len(places)))]
    while parts:
        units, there = parts.pop()
        if len(there) == 1:
            order[units] = there
            continue
        at = places[there]
        axis = int((at.amax(0) - at.amin(0)).argmax())
        half = len(there) // 2
        there = there[at[:, axis].argsort(stable=True)]
        units = units[embedding[units, axis].argsort(stable=True)]
        parts += [(units[:half], there[:half]), (units[half:], there[half:])]
    return order


def turned(embedding: Tensor) -> Iterator[Tensor]:
    """An embedding, (units, axes), and the same after some rotations.

    If a sheet is as wide as it is high, two eigenvectors have the same eigenvalue, and any rotation of them is as good.
    """
    axes = embedding.shape[1]
    if axes == 2:
        for angle in torch.arange(TURNS, dtype=torch.float64) * (math.pi / 2 / TURNS):
            c, s = angle.cos(), angle.sin()
            yield embedding @ torch.stack([torch.stack([c, -s]), torch.stack([s, c])])
        return
    yield embedding
    draw = torch.Generator().manual_seed(0)
    for _ in range(TURNS - 1 if axes > 2 else 0):
        yield embedding @ torch.linalg.qr(torch.randn(axes, axes, dtype=torch.float64, generator=draw)).Q


def coordinates(geometry: Geometry) -> Tensor:
    """Coordinates of a geometry's places, (places, axes), made from the distances where it has none."""
    try:
        return geometry.positions
    except ValueError:  # distances alone: their first principal coordinates
        d = geometry.distances()
        d = (d + d.T) / 2
        d = torch.where(d.isfinite(), d, 2 * d[d.isfinite()].max()).square()
        d = d - d.mean(0)
        return leading(-(d - d.mean(1)[:, None]) / 2, 2)


def leading(matrix: Tensor, k: int, least: float | None = None) -> Tensor:
    """The eigenvectors of the ``k`` largest eigenvalues of a symmetric matrix, (n, k), the largest first.

    Args:
        matrix: (n, n) float64.
        k: how many; if there are fewer, the rest is 0.
        least: no eigenvalue is below minus this; None: it is computed.
    """
    n = len(matrix)
    if n <= WHOLE:
        found = torch.linalg.eigh(matrix).eigenvectors.flip(1)[:, :k]
    else:
        shift = float(matrix.abs().sum(1).max()) if least is None else least
        x = torch.randn(n, k + MORE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        for _ in range(STEPS):
            x = torch.linalg.qr(matrix @ x + shift * x).Q
        _, turn = torch.linalg.eigh(x.T @ (matrix @ x))
        found = x @ turn.flip(1)[:, :k]
    found = found * found.gather(0, found.abs().argmax(0)[None]).sign()  # of two directions always the same
    return torch.nn.functional.pad(found, (0, k - found.shape[1]))


def of_flow(flow: Tensor, axes: int) -> Tensor:
    """The first ``axes`` coordinates, (units, axes), in which units with strong flows between them are near each other.

    They are the eigenvectors of the smallest eigenvalues but the first of I − D^-½ A D^-½, with A ≥ 0 made symmetric
    and D its row sums (Fiedler's vector, and those after it), divided by the first.
    """
    a = (flow + flow.T) / 2
    a.fill_diagonal_(0)
    total = a.sum(1)
    root = torch.where(total > 0, total, 1.0).sqrt()
    found = leading(a / root / root[:, None], axes + 1, least=1.0)[:, 1:]
    return found / root[:, None]
