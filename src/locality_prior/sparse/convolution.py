"""Convolutions over the wires between channels, computed exactly."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from locality_prior._memory import aside
from locality_prior.functional import autocasted, gradients, ordinary, ordinary_backward
from locality_prior.sparse.function import check_like
from locality_prior.sparse.pattern import Pattern
from locality_prior.sparse.planes import CompiledConvolution, Sliding
from locality_prior.sparse.windows import Windows, best_tiles

#: How many target channels a tile may have; the largest takes all of them, which is the dense convolution.
TILES = (16, 32, 64, 128, 256, 1 << 62)
#: What a channel in the window of a tile costs, as a number of taps in a block.
SEEN = 512
#: Tiles and windows have a multiple of this many channels: with other numbers torch takes up to twice as long.
MULTIPLE = 16


class Convolution:
    """y_i = Σ_j P_ij (W_ij ⋆ x_j) + b_i over the wires of a pattern.

    There are two ways to compute it. *Wires* goes through the wires one after another, in C. *Windowed* is one
    convolution of torch in groups; each group is a tile of target channels with the window of source channels within
    their reach. It works on any device, in any dtype and under every transformation.

    Args:
        pattern: which pairs of channels have a wire.
        slide: how the kernel slides.
    """

    def __init__(self, pattern: Pattern, slide: Sliding) -> None:
        self.pattern, self.slide = pattern, slide
        self.in_c = CompiledConvolution(pattern.wires, slide)
        self._made: dict[torch.device, Windows] = {}

    def compiled(self, dtype: torch.dtype, device: torch.device) -> bool:
        """Whether the wires are computed in C."""
        return self.pattern.backend != "windowed" and CompiledConvolution.serves(dtype, device)

    def __call__(self, x: Tensor, weight: Tensor, prior: Tensor, bias: Tensor | None) -> Tensor:
        """The output (n, out, h′, w′).

        Args:
            x: (n, in, h, w).
            weight: W on the wires, (wires, kh, kw), in row-major order of the pairs.
            prior: P on the wires, (wires, 1, 1); it gets no gradient here.
            bias: b, (out,).

        Raises:
            ValueError: a weight or a bias of another size, dtype or device than the input and the wires ask for.
        """
        x, weight, prior, bias = autocasted(x, weight, prior, bias)
        if ordinary(x, weight):
            wires = self.pattern.wires
            check_like(x, weight=(weight, (wires.count, *self.slide.kernel)), bias=(bias, wires.shape[:1]))
            if self.compiled(x.dtype, x.device):
                y: Tensor = _Compiled.apply(x, weight, bias, prior, self)
                return y
        return self.windowed(x, weight * prior, bias)

    def windowed(self, x: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """V ⋆ x + b, (n, out, h′, w′), of V (wires, kh, kw), in torch."""
        windows, slide = self.windows(x.device), self.slide
        count, tall, wide = windows.blocks
        if count == 1:
            return F.conv2d(x, self.pattern.scatter(v), bias, slide.stride, slide.padding, slide.dilation)
        blocks = v.new_zeros(count * tall * wide, *slide.kernel).index_copy(0, windows.at, v)
        if bias is not None:
            bias = bias.new_zeros(count * tall).index_copy(0, windows.place, bias)
        y = F.conv2d(
            x.index_select(1, windows.window),
            blocks.view(count * tall, wide, *slide.kernel),
            bias,
            slide.stride,
            slide.padding,
            slide.dilation,
            count,
        )
        return y.index_select(1, windows.place)

    def windows(self, device: torch.device) -> Windows:
        """The tiles and their windows, for tensors on ``device``."""
        if device not in self._made:
            with aside():
                kh, kw = self.slide.kernel
                chosen = best_tiles(self.pattern.positions, self.pattern.wires, TILES, kh * kw, SEEN)
                self._made[device] = Windows(self.pattern.wires, chosen, device, MULTIPLE)
        return self._made[device]

    def describe(self, dtype: torch.dtype, device: torch.device) -> str:
        """The backend, and how it computes in ``dtype`` on ``device``."""
        asked, compiled = self.pattern.backend, self.compiled(dtype, device)
        way = "wires" if compiled else "windowed"
        notes = [way] * (way != asked) + ["compiled"] * compiled
        return f"backend={asked!r}" + (f" ({', '.join(notes)})" if notes else "")

    def __deepcopy__(self, memo: Any) -> Convolution:
        return self  # it never changes

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_made": {}}


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, prior: Tensor, convolution: Convolution
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.prior, ctx.convolution = prior, convolution
        y = convolution.in_c.forward(x.resolve_neg(), weight * prior, bias)
        return y.data  # autograd must not take it for a view, so that ReLU(inplace=True) may change it

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, weight = ctx.saved_tensors
        convolution: Convolution = ctx.convolution
        need_x, need_weight, need_bias, *_ = ctx.needs_input_grad
        grad_x = grad_weight = None
        if ordinary_backward(grad):
            v = weight * ctx.prior if need_x else None
            grad_x, grad_v = convolution.in_c.backward(grad.resolve_neg(), x.resolve_neg(), v, need_weight)
            grad_weight = None if grad_v is None else grad_v.mul_(ctx.prior)
        elif need_x or need_weight:

            def formula(x: Tensor, weight: Tensor) -> Tensor:
                return convolution.windowed(x, weight * ctx.prior, None)

            grad_x, grad_weight = gradients(formula, (x, weight), (need_x, need_weight), (grad,))
        return grad_x, grad_weight, grad.sum((0, 2, 3)) if need_bias else None, None, None
