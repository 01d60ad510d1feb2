"""Topographic independent component analysis: the energies of neighbouring units go together."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from locality_prior._check import positive
from locality_prior.geometry import Geometry, Grid, near
from locality_prior.objectives import _given, _nearness
from locality_prior.objectives._kept import Kept
from locality_prior.objectives._nearness import places
from locality_prior.objectives._precision import not_half
from locality_prior.objectives.base import OfResponses
from locality_prior.objectives.schedules import Strength
from locality_prior.placement import Placement


def tica(responses: Tensor, geometry: Geometry, *, radius: float = 1.5, epsilon: float = 1e-6) -> Tensor:
    """Σ_i √(ε + Σ_j h_ij a_j²), the mean over samples, with h_ij = 1 where d_ij ≤ radius spacings, and 0 elsewhere.

    The penalty of topographic ICA (Hyvärinen, Hoyer and Inki, Neural Computation 2001, "Topographic independent
    component analysis"; there it is minus the log-likelihood of the energies). Each unit is in its own neighbourhood:
    on a square grid the usual radius gives the 3×3 units around each. It is small where few neighbourhoods respond to a
    sample, and where those that do lie together. In the paper the components stay orthonormal, so that shrinking is no
    way out; nothing keeps the responses of a network from that.

    It is a sum over units, as in the paper, so its size grows with their number.

    >>> import torch
    >>> import locality_prior as lp
    >>> float(lp.objectives.tica(torch.tensor([[3.0, 4.0, 0.0, 0.0]]), lp.Line(4), epsilon=1e-12))  # 5 + 5 + 4 + 0
    14.0000...

    Args:
        responses: (samples, units). Half precision is brought to float32.
        geometry: where the units are.
        radius: how far a neighbourhood reaches, in distances between neighbours.
        epsilon: above 0; keeps the root differentiable where nothing responds.

    Returns:
        A scalar, float32 or float64.

    Raises:
        TypeError, ValueError: responses that do not fit the geometry, or an option out of range.
    """
    x, sheet = _given.responses(responses, geometry, samples=1)
    positive("radius", radius)
    positive("epsilon", epsilon)
    if x.dtype != torch.float64:
        x = x.float()
    with not_half(x):
        base, channels = places(sheet)
        energy = x.square()
        if channels > 1:
            energy = energy.reshape(len(x), channels, len(base)).sum(1)
        window, pairs, matrix = _KEPT.made[_number(base, radius, x.dtype, str(x.device))]
        if matrix is not None:
            energy = energy @ matrix
        elif window is not None and isinstance(base, Grid):
            energy = _by_window(energy, base, window)
        else:
            assert pairs is not None
            energy = torch.zeros_like(energy).index_add(1, pairs[0], energy[:, pairs[1]])
        return channels * (energy + epsilon).sqrt().sum() / len(x)


class TICA(OfResponses):
    """:func:`tica` of each placed module's responses.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64))
    >>> objective = lp.objectives.TICA(lp.place(net, {"0": lp.Grid(8, 8)}))
    >>> loss = net(torch.randn(32, 4)).square().mean() + objective()
    >>> loss.backward()

    Args:
        placed: the modules, and where their units are.
        strength: how much it counts. The paper has none. With the usual one, the task's loss stays the larger part of
            the sum on sheets of a few hundred units.
        radius: how far a neighbourhood reaches, in distances between neighbours.
        epsilon: above 0; keeps the root differentiable where nothing responds.

    Raises:
        ValueError: an option out of range.
    """

    WORD = "tica"

    def __init__(
        self, placed: Placement, strength: float | Strength = 1e-3, *, radius: float = 1.5, epsilon: float = 1e-6
    ) -> None:
        super().__init__(placed, strength, radius=positive("radius", radius), epsilon=positive("epsilon", epsilon))

    def of(self, responses: Tensor, geometry: Geometry) -> Tensor:
        return tica(responses, geometry, **self.options)


def _by_window(energy: Tensor, grid: Grid, window: Tensor) -> Tensor:
    """The sums over neighbourhoods of a grid, as a convolution with a small window."""
    samples, axes = len(energy), len(grid.shape)
    x = F.pad(energy, (0, math.prod(grid.shape) - len(grid))).reshape(samples, 1, *grid.shape)
    for axis, (size, ring) in enumerate(zip(window.shape, grid.periodic, strict=True)):
        reach = [0] * (2 * axes)
        reach[2 * (axes - 1 - axis) : 2 * (axes - axis)] = [size // 2] * 2
        if size > 1:
            x = F.pad(x, reach, mode="circular" if ring else "constant")
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[axes]
    return convolve(x, window[None, None]).reshape(samples, -1)[:, : len(grid)]


def _window(grid: Grid, within: float) -> Tensor | None:
    """1 at each offset of two cells that are near, where a convolution can say so."""
    axes = []
    for n, ring, s in zip(grid.shape, grid.periodic, grid.spacing or (1.0,) * len(grid.shape), strict=True):
        reach = min(int(within * (1 + 1e-9) / s), n - 1)
        if ring and 2 * reach + 1 > n:
            return None  # it would meet itself on the other side
        axes.append(torch.arange(-reach, reach + 1, dtype=torch.float64) * s)
    if len(axes) > 3:
        return None
    squared = torch.zeros((), dtype=torch.float64)
    for a, along in enumerate(axes):
        squared = squared + along.square().reshape([-1 if b == a else 1 for b in range(len(axes))])
    return (squared.sqrt() <= within * (1 + 1e-9)).double()


#: A window over offsets, or target and source units of all pairs, or 1 from source to target where they are near.
Neighbours = tuple[Tensor | None, Tensor | None, Tensor | None]


def _make(geometry: Geometry, radius: float, dtype: torch.dtype, device: str) -> Neighbours:
    within, units = radius * geometry.neighbour_distance, len(geometry)
    if units * units <= _nearness.SMALL:
        matrix = torch.zeros(units, units)
        for target, source, *_ in near(geometry, geometry, within):
            matrix[source, target] = 1
        return None, None, matrix.to(device, dtype)
    window = _window(geometry, within) if isinstance(geometry, Grid) else None
    if window is not None:
        return window.to(device, dtype), None, None
    pairs = torch.cat([torch.stack(pair[:2]) for pair in near(geometry, geometry, within)], 1)
    return None, pairs.to(device), None


_KEPT = Kept(_make)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _number(geometry: Geometry, radius: float, dtype: torch.dtype, device: str) -> int:
    return _KEPT.number(geometry, radius, dtype, device)
