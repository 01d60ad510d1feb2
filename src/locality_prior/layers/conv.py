"""Convolution between channels that have places."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from locality_prior._check import boolean, choice, count, wrong
from locality_prior.cost import Cost, as_cost
from locality_prior.geometry import Geometry
from locality_prior.layers.base import Plain, Spread, affordable, factory, same_dtype, size, tensor, tracing
from locality_prior.prior import Prior, aside, resolve

Size = int | tuple[int, int]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class LocalityConv2d(Plain, nn.Conv2d):
    r"""A convolution between channels that have places: y_i = Σ_j P_ij (W_ij ⋆ x_j) + b_i.

    P_ij = s(d_ij) is the signal that survives the wire from source channel j to target channel i. It scales the whole
    kernel of that pair. This is a drop-in for :class:`torch.nn.Conv2d`: it has the same arguments, the same state dict
    (``weight`` is W) and the same initialisation of W. The source document names a convolutional form as the next step.

    >>> import torch
    >>> import locality_prior as lp
    >>> layer = lp.LocalityConv2d(16, 16, 3, padding=1, source=lp.Grid(4, 4), target=lp.Grid(4, 4), cost="linear@2")
    >>> layer(torch.randn(5, 16, 8, 8)).shape
    torch.Size([5, 16, 8, 8])

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode: as in
            :class:`torch.nn.Conv2d`.
        source, target: places of the channels, as in :class:`LocalityLinear`.
        cost: the cost of a wire of length d, or a word for it; the default is ``Linear()``, c(d) = 1 + d.
        rescale: multiply row i of P by r_i = K / Σ_j s(d_ij), for K source channels; not with groups.
        device, dtype: of the parameters.

    Shape:
        input: (n, in_channels, h, w), or without n → (n, out_channels, h′, w′), as :class:`torch.nn.Conv2d` gives it.

    Raises:
        ValueError: the sizes differ from the geometry's, the geometries cannot meet, a target channel has no wire, or
            an input has another number of channels or is smaller than the kernel.
        TypeError: the input is not a tensor of the weight's dtype (outside autocast).
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
        cost: Cost | str = "linear",
        rescale: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sources, targets = size("in_channels", in_channels), size("out_channels", out_channels)
        kernel, stride, dilation = (
            _pair(name, value, 1)
            for name, value in (("kernel_size", kernel_size), ("stride", stride), ("dilation", dilation))
        )
        if isinstance(padding, str):
            padding = choice("padding", padding, ("same", "valid"))
            if padding == "same" and stride != (1, 1):
                raise wrong("padding", f"'same' with stride={stride}", "a stride of 1")
        else:
            padding = _pair("padding", padding, 0)
        groups = count("groups", groups)
        if sources % groups or targets % groups:
            raise wrong("groups", groups, f"a divisor of in_channels={sources} and of out_channels={targets}")
        bias, rescale = boolean("bias", bias), boolean("rescale", rescale)
        padding_mode = choice("padding_mode", padding_mode, get_args(PaddingMode))
        if rescale and groups > 1:
            raise wrong("rescale", f"True with groups={groups}", "groups=1")
        entries = sources // groups * targets * kernel[0] * kernel[1]
        affordable("kernel_size", entries, f"{sources // groups} × {targets} × {kernel[0]} × {kernel[1]}")
        affordable("in_channels", sources * targets, f"{sources} × {targets}")
        made, cost = factory(device, dtype), as_cost("cost", cost)
        source, target = resolve(sources, targets, source, target)
        # torch's attributes come first: before that a module cannot hold any of ours
        super().__init__(sources, targets, kernel, stride, padding, dilation, groups, bias, padding_mode, **made)
        self.source, self.target, self._own_cost, self.rescale = source, target, cost, rescale
        spread = Spread(Prior(source, target, cost, rescale), partial(_on_kernels, groups=groups))
        self._check_support([spread], cost)
        self._wire({"weight": spread})

    def _check_support(self, spreads: list[Spread], cost: Cost) -> None:
        if self.groups > 1:
            with aside():
                wired = spreads[0].spread(spreads[0].rule.dense()).flatten(1).sum(1) > 0
                if not wired.all():
                    expected = f"a wire to every channel from its own group, under {cost!r}"
                    raise wrong("groups", self.groups, expected)

    @property
    def effective_weight(self) -> Tensor:
        """V = P∘W, of the weight's shape: what the layer convolves with. Differentiable with respect to W."""
        return self.effective("weight")

    def forward(self, input: Tensor) -> Tensor:
        if not tracing():
            self._check_input(input)
        y: Tensor = self._conv_forward(input, self.effective_weight, self.bias)
        return y

    def _check_input(self, x: Tensor) -> None:
        shape = f"(n, {self.in_channels}, h, w) or ({self.in_channels}, h, w)"
        tensor("input", x, shape)
        if x.dim() not in (3, 4) or x.shape[-3] != self.in_channels:
            raise wrong("input", f"shape {tuple(x.shape)}", shape)
        same_dtype("input", x, self.weight)
        if self.padding == "same":
            return
        for axis, name in enumerate(("high", "wide")):
            pad = 0 if isinstance(self.padding, str) else int(self.padding[axis])
            least = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1 - 2 * pad
            if self.padding_mode in ("reflect", "circular"):
                least = max(least, pad + (self.padding_mode == "reflect"))
            if x.shape[axis - 2] < max(1, least):
                raise wrong("input", f"shape {tuple(x.shape)}", f"images at least {max(1, least)} {name}")


def _pair(name: str, value: Any, least: int) -> tuple[int, int]:
    """A number for both axes, or one for each."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise wrong(name, value, "a whole number, or one for each of the two axes")
        return count(name, value[0], least, 1 << 20), count(name, value[1], least, 1 << 20)
    both = count(name, value, least, 1 << 20)
    return both, both


def _on_kernels(matrix: Tensor, groups: int) -> Tensor:
    """A matrix (out, in) or (out, 1) over pairs of channels, in the shape of kernels: (out, in/groups, 1, 1)."""
    if groups > 1 and matrix.shape[1] > 1:  # (out, 1) is the same for every source
        out, features = (n // groups for n in matrix.shape)
        matrix = torch.cat([matrix[k * out :, k * features :][:out, :features] for k in range(groups)])
    return matrix[:, :, None, None]
