"""A layer whose units share their responses with their neighbours: a fixed Gaussian blur over the sheet."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from locality_prior._check import instance, positive, wrong, wrong_type
from locality_prior.geometry import Geometry, Grid
from locality_prior.objectives import _given
from locality_prior.objectives._precision import not_half
from locality_prior.objectives.base import WithoutLoss, compile_again
from locality_prior.objectives.schedules import Strength
from locality_prior.placement import Placed, Placement, along_axis


def blur(responses: Tensor, geometry: Geometry, share: float = 0.23) -> Tensor:
    """Responses of the units of a sheet, blurred over the sheet by a Gaussian.

    y_u = Σ_v g(r_u − r_v) g(c_u − c_v) x_v, where unit u is in row r_u and column c_u, and g(k) ∝ exp(−k²/2σ²) for
    |k| ≤ (K − 1)/2, 0 beyond it, and Σ_k g(k) = 1. With m the shorter side of the sheet, σ = ``share``·m, and K is m,
    or m − 1 where m is even, and at least 3. Beyond an open border the responses are 0, so units near a border get
    less; an axis that is periodic goes on at its other end.

    Source: locally laterally connected networks (LLCNN; Nature Communications 2026), BashivanLab/LLCNN
    ``models/helpers.py``, where σ is 0.23 of the shorter side in the networks that the paper looks at. Differences:
    these networks put the last rows of the layer's own input in front of the sheet, so that the sheets of successive
    layers follow one another. Here each sheet stands alone, as with their ``continuous=False``. Their optional noise is
    left out.

    >>> import torch
    >>> import locality_prior as lp
    >>> spot = torch.zeros(9)
    >>> spot[4] = 1
    >>> lp.objectives.blur(spot, lp.Grid(3, 3), share=0.4).reshape(3, 3).round(decimals=3)
    tensor([[0.0860, 0.1210, 0.0860],
            [0.1210, 0.1720, 0.1210],
            [0.0860, 0.1210, 0.0860]])

    Args:
        responses: (…, units).
        geometry: a whole grid of two axes. Rows and columns are counted in cells, whatever its spacing.
        share: σ as a share of the shorter side; above 0.

    Returns:
        (…, units), in the dtype of ``responses``. float16 and bfloat16 are computed in float32.

    Raises:
        ValueError, TypeError: another geometry, or another number of units than it has.
    """
    sheet = _given.plane("geometry", instance("geometry", geometry, Geometry, "a geometry, such as Grid(7, 7)"))
    if not isinstance(responses, Tensor) or not responses.is_floating_point():
        raise wrong_type("responses", responses, "a floating-point tensor (…, units)")
    if responses.dim() < 1 or responses.shape[-1] != len(sheet):
        raise wrong("responses", responses, f"(…, {len(sheet)}) for {sheet!r}")
    wide = torch.float64 if responses.dtype == torch.float64 else torch.float32
    along = _along.__wrapped__ if torch.compiler.is_compiling() else _along  # compiled code cannot use a cache
    down, across = along(sheet, positive("share", share), wide, responses.device)
    with not_half(responses):
        maps = _given.by_place(responses.to(wide), geometry, -1).reshape(*responses.shape[:-1], *sheet.shape)
        blurred = (down @ maps @ across.mT).reshape(responses.shape)
        return _given.by_unit(blurred, geometry, -1).to(responses.dtype)


class Blur(WithoutLoss):
    """Put :func:`blur` behind each placed module: whatever comes after it sees blurred responses.

    There is no loss. In the authors' networks the blur follows a convolution, its normalisation and its ReLU: place the
    module that gives the layer's responses, such as the ReLU. Of a feature map the channels are blurred, at each place
    of the image. Hooks on the same module, such as those of :meth:`~locality_prior.Placement.record`, see blurred
    responses too.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU())
    >>> blurred = lp.objectives.Blur(lp.place(net, {"1": lp.Grid(8, 8)}))
    >>> net(torch.randn(5, 4)).shape, float(blurred())
    (torch.Size([5, 64]), 0.0)
    >>> blurred.remove()

    Args:
        placed: modules on whole grids of two axes. A module may give a tuple, whose first tensor is then blurred.
        strength: the ``share`` of :func:`blur`, which cannot change during training.

    Raises:
        ValueError: another geometry, a recurrent network (whose state would go on unblurred), or a strength that is 0
            or changes. While the model runs: a module that gives no tensor, or one of another number of units.
    """

    WORD = "blur"
    OF = "responses"

    def __init__(self, placed: Placement, strength: float | Strength = 0.23) -> None:
        super().__init__(placed, strength)
        self.share = self.fixed(self.WORD)
        for name in placed:
            _given.plane("blur", placed[name].geometry)
            if isinstance(placed[name].module, nn.RNNBase):
                given = f"{name}, a {type(placed[name].module).__name__}, whose state would go on unblurred"
                raise wrong("placed", given, "modules that are not recurrent")
        # the first of a module's hooks, so that all others see what the model goes on with
        self._hooks = [
            placed[name].module.register_forward_hook(_Blurring(placed[name], self.share), prepend=True)
            for name in placed
        ]
        compile_again()

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        compile_again()


class _Blurring:
    """The hook that blurs a module's output; a class, so that the model can be copied and pickled with it."""

    def __init__(self, placed: Placed, share: float) -> None:
        self.placed, self.share = placed, share

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        if type(output) is tuple and output and isinstance(output[0], Tensor):
            return _blurred(self.placed, output[0], self.share), *output[1:]
        if not isinstance(output, Tensor):
            given = f"{self.placed.name}, whose output is a {type(output).__name__}"
            raise wrong("placed", given, "a module that gives a tensor")
        return _blurred(self.placed, output, self.share)


def _blurred(placed: Placed, output: Tensor, share: float) -> Tensor:
    """A module's output, blurred along the axis of its units."""
    single = isinstance(placed.module, nn.modules.conv._ConvNd) and output.dim() == len(placed.module.kernel_size) + 1
    batch = output.unsqueeze(0) if single else output
    axis = along_axis(placed, batch)
    if axis is None:
        found = blur(batch.flatten(1), placed.geometry, share).reshape(batch.shape)
    else:
        found = blur(batch.movedim(axis, -1), placed.geometry, share).movedim(-1, axis)
    return found.squeeze(0) if single else found


@lru_cache(maxsize=64)
def _along(sheet: Grid, share: float, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The blur along each axis, as matrices (rows, rows) and (columns, columns)."""
    shorter = min(sheet.shape)
    reach = max(shorter - (1 - shorter % 2), 3) // 2
    offset = torch.arange(-reach, reach + 1, device="cpu")
    kernel = torch.exp(-0.5 * (offset.double() / (share * shorter)).square())
    kernel = kernel / kernel.sum()

    def along(n: int, periodic: bool) -> Tensor:
        at = torch.arange(n, device="cpu")[:, None] + offset
        inside = torch.ones_like(at, dtype=torch.bool) if periodic else (at >= 0) & (at < n)
        shares = torch.where(inside, kernel, 0.0)
        matrix = torch.zeros(n, n, dtype=torch.float64, device="cpu").scatter_add(1, at.remainder(n), shares)
        return matrix.to(device, dtype)

    down, across = (along(n, p) for n, p in zip(sheet.shape, sheet.periodic, strict=True))
    return down, across
