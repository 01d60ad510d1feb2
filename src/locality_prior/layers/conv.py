"""Convolution between channels that have places."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locality_prior._check import boolean, choice, count, wrong
from locality_prior.cost import Cost, as_cost
from locality_prior.geometry import Geometry
from locality_prior.layers.base import (
    BACKENDS,
    Locality,
    Plain,
    Spread,
    affordable,
    factory,
    same_dtype,
    size,
    tensor,
    tracing,
)
from locality_prior.prior import Prior, aside, resolve
from locality_prior.sparse import Convolution, Pattern, Sliding, pattern_for

Size = int | tuple[int, int]
PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
#: "auto" is dense where there are fewer pairs of channels than this, or where more than this share of them has a wire.
#: (A pass over the wires took 0.5 to 1.1 times as long as torch's on 64 channels, and 0.5 to 0.75 on 144 at 16 %.)
SMALL, FULL = 1 << 13, 0.17


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
        backend: how to compute. "dense" convolves with the whole P∘W. With "wires" and "windowed" ``weight`` is
            (wires, kh, kw), one kernel for each wire in row-major order of the pairs; they need a cost that ends, as in
            :class:`LocalityLinear`, and groups=1. "wires" goes through the wires one after another, in C, where that
            is possible: on a CPU, in float32 or float64, with a compiler. "windowed", and "wires" elsewhere, convolves
            tiles of target channels with the source channels within their reach. "auto" chooses "wires" where it was
            measured to be quicker, and "dense" otherwise. Every backend starts from the same weights, and loads the
            state dict of every other.
        device, dtype: of the parameters.

    Shape:
        input: (n, in_channels, h, w), or without n → (n, out_channels, h′, w′), as :class:`torch.nn.Conv2d` gives it.

    Raises:
        ValueError: the sizes differ from the geometry's, the geometries cannot meet, a target channel has no wire, or
            an input has another number of channels or is smaller than the kernel; a sparse backend with groups, or with
            a cost that does not end.
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
    PLACES: ClassVar[tuple[str, ...]] = (*Locality.PLACES, "backend")

    #: What convolves over the wires; None in a dense layer.
    _convolution: Convolution | None = None

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
        backend: str = "auto",
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
        backend = choice("backend", backend, BACKENDS)
        if rescale and groups > 1:
            raise wrong("rescale", f"True with groups={groups}", "groups=1")
        if groups > 1 and backend in ("windowed", "wires"):
            raise wrong("backend", f"{backend!r} with groups={groups}", "groups=1, or backend='dense'")
        entries = sources // groups * targets * kernel[0] * kernel[1]
        affordable("kernel_size", entries, f"{sources // groups} × {targets} × {kernel[0]} × {kernel[1]}")
        affordable("in_channels", sources * targets, f"{sources} × {targets}")
        made, cost = factory(device, dtype), as_cost("cost", cost)
        source, target = resolve(sources, targets, source, target)
        # torch's attributes come first: before that a module cannot hold any of ours
        super().__init__(sources, targets, kernel, stride, padding, dilation, groups, bias, padding_mode, **made)
        self.source, self.target, self._own_cost, self.rescale = source, target, cost, rescale
        self.backend = backend
        rule = Prior(source, target, cost, rescale)
        pattern = pattern_for(rule, "dense" if groups > 1 else backend, small=SMALL, full=FULL)
        spread = Spread(rule, partial(_on_kernels, groups=groups), pattern)
        self._check_support([spread], cost)
        if pattern is not None:
            left, _, top, _ = self._reversed_padding_repeated_twice
            padding = (0, 0) if self._pads_first() else (top, left)
            self._convolution = Convolution(pattern, Sliding(kernel, stride, padding, dilation))
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
        if self._convolution is not None:
            return self._over_wires(input, self._convolution)
        y: Tensor = self._conv_forward(input, self.effective_weight, self.bias)
        return y

    def _over_wires(self, x: Tensor, convolution: Convolution) -> Tensor:
        lone = x.dim() == 3
        if lone:
            x = x.unsqueeze(0)
        if self._pads_first():
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x = F.pad(x, self._reversed_padding_repeated_twice, mode)
        y = convolution(x, self.weight, self._spreads["weight"].like(self.weight), self.bias)
        return y.squeeze(0) if lone else y

    def _pads_first(self) -> bool:
        """Whether an image is padded before it is convolved: not with zeros, or by more on one side than the other."""
        left, right, top, bottom = self._reversed_padding_repeated_twice
        return self.padding_mode != "zeros" or left != right or top != bottom

    def _make_ready(self) -> None:
        super()._make_ready()
        if self._convolution is not None and not self.weight.is_meta:
            self._convolution.windows(self.weight.device)

    def _way(self, pattern: Pattern, weight: Tensor) -> str:
        assert self._convolution is not None
        return self._convolution.describe(weight.dtype, weight.device)

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
    """A matrix (out, in) or (out, 1) over pairs of channels, in the shape of kernels: (out, in/groups, 1, 1).

    Values (wires,) become (wires, 1, 1).
    """
    if matrix.dim() == 1:
        return matrix[:, None, None]
    if groups > 1 and matrix.shape[1] > 1:  # (out, 1) is the same for every source
        out, features = (n // groups for n in matrix.shape)
        matrix = torch.cat([matrix[k * out :, k * features :][:out, :features] for k in range(groups)])
    return matrix[:, :, None, None]
