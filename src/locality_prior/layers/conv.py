"""Convolution between channels that have places."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from locality_prior import cost as costs
from locality_prior._check import wrong
from locality_prior.cost import Cost
from locality_prior.geometry import Geometry
from locality_prior.layers.base import Plain, Spread
from locality_prior.prior import Prior, resolve

Size = int | tuple[int, int]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class LocalityConv2d(Plain, nn.Conv2d):
    r"""A convolution between channels that have places: y_i = Σ_j P_ij (W_ij ⋆ x_j) + b_i.

    P_ij = s(d_ij) is the signal that survives the wire from source channel j to target channel i; it scales all of
    that pair's kernel. A drop-in for :class:`torch.nn.Conv2d`: its arguments, its state dict (``weight`` is W), its
    initialisation on W. The source document names a convolutional form as what its authors would do next.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode: as there.
        source, target: places of the channels, as in :class:`LocalityLinear`.
        cost: what a wire of length d costs; ``Linear()``, c(d) = 1 + d, if not given.
        rescale: multiply row i of P by r_i = K / Σ_j s(d_ij), for K source channels; not with groups.
        device, dtype: of the parameters.

    Shape:
        input: (n, in_channels, h, w), or without n → (n, out_channels, h′, w′), as :class:`torch.nn.Conv2d` gives.

    Raises:
        ValueError: sizes that are not the geometry's, geometries that cannot meet, a target channel with no wire.
    """

    ARGUMENTS: ClassVar[tuple[str, ...]] = (
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "groups",
        "bias",
        "padding_mode",
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        *,
        source: Geometry | None = None,
        target: Geometry | None = None,
        cost: Cost | None = None,
        rescale: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            _pair(kernel_size),
            _pair(stride),
            _pair(padding),
            _pair(dilation),
            groups,
            bias,
            padding_mode,
            device=device,
            dtype=dtype,
        )
        self.source, self.target = resolve(in_channels, out_channels, source, target)
        self.cost, self.rescale = costs.Linear() if cost is None else cost, bool(rescale)
        if rescale and groups > 1:
            raise wrong("rescale", f"True with groups={groups}", "groups=1")
        rule = Prior(self.source, self.target, self.cost, rescale)
        spread = partial(_on_kernels, groups=groups)
        if groups > 1 and not bool((spread(rule.dense()).flatten(1).sum(1) > 0).all()):
            raise wrong("groups", groups, f"a wire to every channel from its own group, under {self.cost!r}")
        self._wire({"weight": Spread(rule, spread)})

    @property
    def effective_weight(self) -> Tensor:
        """V = P∘W, of the weight's shape: what the layer convolves with. Differentiable with respect to W."""
        return self.effective("weight")

    def forward(self, input: Tensor) -> Tensor:
        y: Tensor = self._conv_forward(input, self.effective_weight, self.bias)
        return y


def _pair(value: Any) -> Any:
    """A size as torch takes it: what was saved as a list is a pair again."""
    return tuple(value) if isinstance(value, list) else value


def _on_kernels(matrix: Tensor, groups: int) -> Tensor:
    """A matrix of channel pairs (out, in), on kernels (out, in/groups, 1, 1)."""
    if groups > 1 and matrix.shape[1] > 1:  # (out, 1) is alike for every source
        out, features = (n // groups for n in matrix.shape)
        matrix = torch.cat([matrix[k * out :, k * features :][:out, :features] for k in range(groups)])
    return matrix[:, :, None, None]
