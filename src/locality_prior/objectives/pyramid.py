"""Weights that survive a blur of the sheet: TopoLoss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from locality_prior._check import choice, number, wrong
from locality_prior._memory import aside
from locality_prior.geometry import Geometry, Grid
from locality_prior.objectives import _given
from locality_prior.objectives._precision import not_half, precise
from locality_prior.objectives.base import OfWeights
from locality_prior.objectives.schedules import Strength
from locality_prior.placement import Placement

#: What is compared with its blurred self: each unit's incoming weights, or each input's map over the sheet.
Cosine = Literal["units", "maps"]


def topoloss(weight: Tensor, target: Geometry, *, factor: float = 8.0, cosine: str = "units") -> Tensor:
    """1 − mean cos(W, Up(Down(W))): how much of a sheet of weights is lost when the sheet is sampled down and up again.

    The weights of input j are a map over the grid, W_·j. Down samples each map at ``1/factor`` of the grid's rows and
    columns, Up brings it back to the grid's size; both are bilinear (``torch.nn.functional.interpolate`` with
    ``align_corners=False``, without antialiasing, so Down looks at no more than 2×2 units for each of its places). As
    one linear map along rows and one along columns, Up(Down(X)) = A X Bᵀ.

    With ``cosine="units"`` the cosine is taken for each unit u, between its incoming weights W_u· and the blurred
    ones, and the mean is over units. With ``cosine="maps"`` it is taken for each input j, between the map W_·j and the
    blurred one, and the mean is over inputs.

    TopoLoss (Deb, Deb & Murty, "TopoNets", ICLR 2025; murtylab/topoloss · ``losses/laplacian_pyramid.py``), whose
    cosine is that of units. What differs:

    - A row (or map) that is zero, before or after the blur, has no cosine and is left out; there it counts as 0.
    - The grid is the one that is given, where theirs is the most nearly square one of as many units.
    - There is one factor for both axes, at most the shorter side. Theirs checks its two factors against the number of
      inputs and of rows.

    >>> import torch
    >>> import locality_prior as lp
    >>> checkers = torch.tensor([1.0, -1.0]).repeat(8).reshape(4, 4)
    >>> checkers[1::2] *= -1
    >>> # squares of 2 and 0 become 1 everywhere
    >>> lp.objectives.topoloss(checkers.reshape(16, 1) + 1, lp.Grid(4, 4), factor=2, cosine="maps")  # 1 − 1/√2
    tensor(0.2929)

    Args:
        weight: (units, in), or (units, in, *kernel), in which each entry of the kernel is an input of its own.
        target: a whole grid of two axes. Sampling does not go over its edges, periodic or not.
        factor: from 1 to the shorter side of the grid.
        cosine: "units" or "maps".

    Returns:
        A scalar from 0 to 2; 0 where nothing has a cosine. float32, or float64 for float64.

    Raises:
        ValueError, TypeError: another geometry, sizes that do not fit, or a factor out of range.
    """
    weight, target, _ = _given.weight(weight, target)
    grid = _given.plane("target", target)
    blur = _matrices(grid, number("factor", factor, least=1.0), weight.dtype == torch.float64, weight.device)
    cosine = choice("cosine", cosine, get_args(Cosine))
    with not_half(weight):
        rows = _given.by_place(precise(weight.flatten(1)), target)
        found: Tensor = _Lost.apply(rows, cosine, *blur)
        return found


class _Blur:
    """Up(Down(·)) of sheets (h, w, e), as one small matrix along each axis for each of the two.

    Attributes:
        rows, columns: the rows and columns of the sheet that Down looks at.
        down: Down from those rows (h', rows) and from those columns (w', columns).
        up: Up to all rows (h, h') and to all columns (w, w').
    """

    def __init__(self, rows: Tensor, columns: Tensor, *matrices: Tensor) -> None:
        self.rows, self.columns = rows, columns
        self.down, self.up = matrices[:2], matrices[2:]

    def sample(self, sheets: Tensor) -> Tensor:
        """Down(X), (h', w', e)."""
        seen = sheets.index_select(0, self.rows).index_select(1, self.columns)
        return _both(self.down, seen)

    def spread(self, small: Tensor) -> Tensor:
        """Up(Z), (h, w, e)."""
        return _both(self.up, small)

    def gather(self, sheets: Tensor) -> Tensor:
        """Upᵀ(X), (h', w', e)."""
        return _both([one.T for one in self.up], sheets)

    def overlap(self, small: Tensor) -> Tensor:
        """Upᵀ(Up(Z)), (h', w', e)."""
        return _both([one.T @ one for one in self.up], small)

    def scatter(self, small: Tensor, sheets: Tensor) -> None:
        """Add Downᵀ(Z) to X."""
        places = self.rows[:, None], self.columns
        sheets[places] += _both([one.T for one in self.down], small)


def _both(matrices: Sequence[Tensor], sheets: Tensor) -> Tensor:
    """One matrix along the columns of sheets (h, w, e), and then another along their rows."""
    along_rows, along_columns = matrices
    sheets = torch.matmul(along_columns, sheets)
    h, w, e = sheets.shape
    return (along_rows @ sheets.reshape(h, w * e)).reshape(-1, w, e)


def _matrices(grid: Grid, factor: float, double: bool, device: torch.device) -> tuple[Tensor, ...]:
    side = min(grid.shape)
    if factor > side:
        raise wrong("factor", f"{factor:g}", f"at most {side}, the shorter side of {grid!r}")
    found: tuple[Tensor, ...] = _made(grid.shape, factor, torch.float64 if double else torch.float32, device)
    return found


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _made(shape: tuple[int, ...], factor: float, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    return _kept(shape, factor, dtype, device)


@lru_cache(maxsize=16)
def _kept(shape: tuple[int, ...], factor: float, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    with aside():
        downs, ups, seen = [], [], []
        for n in shape:
            small = max(1, math.floor(n * (1 / factor)))
            down = _bilinear(n, small, factor)
            some = down.any(0).nonzero().flatten()
            seen.append(some.to(device))
            downs.append(down[:, some].to(device, dtype))
            ups.append(_bilinear(small, n, small / n).to(device, dtype))
    return *seen, *downs, *ups


def _bilinear(n: int, m: int, step: float) -> Tensor:
    """The matrix (m, n) that samples n values at m places, ``step`` of them apart, between the nearest two."""
    at = ((torch.arange(m, dtype=torch.float64) + 0.5) * step - 0.5).clamp(min=0)
    low = at.floor().long().clamp(max=n - 1)
    high = (low + 1).clamp(max=n - 1)
    share = (at - low)[:, None]
    return (1 - share) * torch.nn.functional.one_hot(low, n) + share * torch.nn.functional.one_hot(high, n)


class _Lost(torch.autograd.Function):
    """1 − mean cos(X, Y) with Y = M X, M = Up Down, over rows or columns of X (n, e).

    For one row or column x, and y = Mx where it is a column, ∂cos/∂x = αy − βx + Mᵀ(αx − γy) with α = 1/(‖x‖‖y‖),
    β = cos/‖x‖², γ = cos/‖y‖². Of columns, Y itself is not needed, since ⟨x, Up z⟩ = ⟨Upᵀ x, z⟩.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: str, *matrices: Tensor) -> Tensor:
        blur = _Blur(*matrices)
        sheets = x.reshape(len(blur.up[0]), len(blur.up[1]), x.shape[1])
        z = blur.sample(sheets)
        if cosine == "maps":
            gathered, overlapped = blur.gather(sheets), blur.overlap(z)
            norm = torch.stack([some.square().sum(0) for some in sheets]).sum(0).sqrt()
            blurred = (z * overlapped).sum((0, 1)).clamp(min=0).sqrt()
            product = (z * gathered).sum((0, 1))
        else:
            gathered = overlapped = z.new_zeros(0)
            y = blur.spread(z).reshape(x.shape)
            norm, blurred = torch.linalg.vector_norm(x, dim=1), torch.linalg.vector_norm(y, dim=1)
            product = torch.einsum("ue,ue->u", x, y)
        there = (norm > 0) & (blurred > torch.finfo(x.dtype).eps * norm)  # what is less is rounding
        norm, blurred = torch.where(there, norm, 1.0), torch.where(there, blurred, 1.0)
        cos = product / norm / blurred
        share = there.to(x.dtype) / there.sum().clamp(min=1)
        ctx.save_for_backward(x, z, gathered, overlapped, norm, blurred, cos, share, *matrices)
        ctx.cosine = cosine
        return ((1 - cos) * share).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, z, gathered, overlapped, norm, blurred, cos, share, *matrices = ctx.saved_tensors
        blur = _Blur(*matrices)
        with not_half(x):
            share = -grad * share
            alpha, beta, gamma = share / norm / blurred, share * cos / norm.square(), share * cos / blurred.square()
            h, w = len(blur.up[0]), len(blur.up[1])
            if ctx.cosine == "maps":
                found = blur.spread(alpha * z)
                pulled = alpha * gathered - gamma * overlapped
            else:
                alpha, beta, gamma = alpha[:, None], beta[:, None], gamma[:, None]
                y = blur.spread(z).reshape(x.shape)
                pulled = blur.gather((alpha * x - gamma * y).reshape(h, w, -1))
                found = y.mul_(alpha).reshape(h, w, -1)
            found = found.reshape(x.shape).addcmul_(x, beta.expand_as(x), value=-1).reshape(h, w, -1)
            blur.scatter(pulled, found)
            return found.reshape(x.shape), *[None] * 7


class TopoLoss(OfWeights):
    """τ · :func:`topoloss` of the incoming weights of each placed module, the mean over the modules.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU())
    >>> objective = lp.objectives.TopoLoss(lp.place(net, {"0": lp.Grid(8, 8)}), strength=0.5, factor=4)
    >>> loss = net(torch.randn(32, 4)).square().mean() + objective()
    >>> loss.backward()
    >>> objective
    TopoLoss(0: strength=0.5, factor=4.0, cosine='units')

    Args:
        placed: the modules, each on a whole grid of two axes.
        strength: τ; the default is that of the authors' package, and their paper has 0.5 to 50.
        factor: how much smaller the sampled-down sheet is, from 1 to the shorter side of each grid.
        cosine: "units" or "maps".

    Raises:
        ValueError: another geometry, a module without weights, or an option out of range.
    """

    WORD: ClassVar[str] = "topoloss"
    MEAN: ClassVar[bool] = True
    factor: float
    cosine: str

    def __init__(
        self, placed: Placement, strength: float | Strength = 1.0, *, factor: float = 8.0, cosine: str = "units"
    ) -> None:
        factor, cosine = number("factor", factor, least=1.0), choice("cosine", cosine, get_args(Cosine))
        super().__init__(placed, strength, factor=factor, cosine=cosine)

    def of(self, name: str) -> Tensor:
        return topoloss(self.placed.weights(name), self.placed[name].geometry, factor=self.factor, cosine=self.cosine)
