"""The *wires* way of a convolution, in C. It needs a C compiler."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from locality_prior._compiled import call, serves
from locality_prior._memory import aside, empty
from locality_prior.prior import Wires

#: Lengths are multiples of this many bytes, those of the widest vector (BYTES in kernels.c).
BYTES = 64
#: A layer remembers layouts for at most this many sizes of images.
SIZES = 64

Pair = tuple[int, int]


@dataclass(frozen=True)
class Sliding:
    """How a kernel slides over an image; the image has ``padding`` zeros on each side."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair


@dataclass(frozen=True)
class Phase:
    """The pixels of an image that lie in one plane: every s-th one, for a stride of s."""

    rows: slice
    columns: slice
    #: Number of rows and of columns.
    size: Pair
    #: Where the first pixel is among all planes of the channel.
    at: int
    #: How many numbers there are from the first pixel to the last one, rounded up.
    length: int
    #: The taps that see this plane.
    taps: list[int]
    #: Where a plane of gradients has, for each of these taps, the entry that belongs to the first pixel.
    back: Tensor


class Planes:
    """A layout of images in which each tap of a kernel is a fixed offset.

    A channel of an image becomes a plane, row after row, with zeros around it. The zeros on the right of a row are also
    those on the left of the next one. For a stride of (s, t) there are s·t planes, each with every s-th row and every
    t-th column, so that the pixels which one tap sees lie side by side there.

    Args:
        slide: how the kernel slides.
        size: rows and columns of the images.
        step: lengths are multiples of this.
    """

    def __init__(self, slide: Sliding, size: Pair, step: int) -> None:
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = slide.kernel, slide.stride, slide.padding, slide.dilation
        h, w = size
        self.straight = slide.stride == (1, 1)
        self.output = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1
        #: Numbers from one row to the next.
        self.pitch = pitch = max(_over(w + pw, sw), self.output[1])
        #: Numbers from the first output to the last one, rounded up.
        self.length = _over((self.output[0] - 1) * pitch + self.output[1], step) * step
        seen = [(y * dh, x * dw) for y in range(kh) for x in range(kw)]
        plane = [y % sh * sw + x % sw for y, x in seen]
        shift = [y // sh * pitch + x // sw for y, x in seen]
        one = _over(max(_over(h + 2 * ph, sh) * pitch, self.length + max(shift)), step) * step
        #: Numbers in all planes of a channel.
        self.count = sh * sw * one
        self.offsets = torch.tensor([p * one + s for p, s in zip(plane, shift, strict=True)])

        found = []
        for p in range(sh * sw):
            (above, top, rows), (before, left, columns) = (
                _lines(*given) for given in ((p // sw, sh, ph, h), (p % sw, sw, pw, w))
            )
            if rows > 0 and columns > 0:
                first, length = above * pitch + before, _over((rows - 1) * pitch + columns, step) * step
                taps = [t for t, of in enumerate(plane) if of == p]
                found.append((p, first, length, slice(top, None, sh), slice(left, None, sw), (rows, columns), taps))
        #: Zeros in front of a gradient, which pixels near the border read.
        self.front = max([0, *(shift[t] - first for _, first, *_, taps in found for t in taps)])
        self.phases = [
            Phase(
                *(down, right, lines, p * one + first, length, taps),
                back=torch.tensor([self.front + first - shift[t] for t in taps], dtype=torch.int64),
            )
            for p, first, length, down, right, lines, taps in found
        ]
        ends = [int(phase.back.max()) + phase.length for phase in self.phases if phase.taps]
        #: Numbers in a plane of gradients.
        self.back = _over(max([self.front + self.length, *ends]), step) * step

    def lay(self, x: Tensor) -> Tensor:
        """Images (n, channels, h, w) in planes, (n, channels, count)."""
        if self.straight and self.count == x.shape[2] * x.shape[3]:  # there is nothing between the rows
            return x.contiguous().flatten(2)
        planes = x.new_zeros(*x.shape[:2], self.count)
        for phase in self.phases:
            self.images(planes, phase.at, phase.size).copy_(x[:, :, phase.rows, phase.columns])
        return planes

    def lay_gradient(self, grad: Tensor) -> Tensor:
        """The gradient of outputs in planes, (n, channels, back)."""
        if self.front == 0 and self.back == grad.shape[2] * grad.shape[3]:
            return grad.contiguous().flatten(2)
        planes = grad.new_zeros(*grad.shape[:2], self.back)
        self.images(planes, self.front, self.output).copy_(grad)
        return planes

    def images(self, planes: Tensor, at: int, size: Pair) -> Tensor:
        """A view of planes as images, (n, channels, *size), whose first pixel is at ``at``."""
        n, channels, count = planes.shape
        strides = (channels * count, count, self.pitch, 1)
        return planes.as_strided((n, channels, *size), strides, planes.storage_offset() + at)


class CompiledConvolution:
    """Convolutions over the wires between channels, in C, one wire after another.

    Args:
        wires: which pairs of channels have a wire.
        slide: how the kernel slides.
    """

    def __init__(self, wires: Wires, slide: Sliding) -> None:
        self.slide, self.shape = slide, wires.shape
        self.ends, self.sources = wires.ends.contiguous(), wires.sources.to(torch.int32).contiguous()
        self._wires = wires
        self._planes: dict[object, Planes] = {}

    @staticmethod
    def serves(dtype: torch.dtype, device: torch.device) -> bool:
        """Whether this way works: on a CPU in float32 or float64, with a compiler."""
        return serves(dtype, device)

    @cached_property
    def _back(self) -> tuple[Tensor, Tensor, Tensor]:
        """The wires in order of source: where those of each source begin, the target of each wire, and its number."""
        with aside():
            counts = torch.bincount(self._wires.sources, minlength=self.shape[1])
            order = torch.argsort(self._wires.sources, stable=True)
            ends = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
            return ends, self._wires.rows()[order].to(torch.int32), order

    def planes(self, x: Tensor) -> Planes:
        """The layout for images like ``x``, (n, channels, h, w)."""
        key = (*x.shape[2:], x.dtype)
        planes = self._planes.get(key)
        if planes is None:
            if len(self._planes) >= SIZES:
                self._planes.clear()
            with aside():
                planes = Planes(self.slide, (x.shape[2], x.shape[3]), BYTES // x.element_size())
            self._planes[key] = planes
        return planes

    def forward(self, x: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """V ⋆ x + b, (n, out, h′, w′), of x (n, in, h, w), V (wires, kh, kw) and b (out,)."""
        planes, n = self.planes(x), len(x)
        y = empty((n, self.shape[0], planes.length), x)
        call(
            *("convolve", x.dtype, self.shape[0], n, planes.length, self.ends, self.sources),
            *(len(planes.offsets), planes.offsets, v.contiguous(), None if bias is None else bias.contiguous()),
            *_strided(planes.lay(x)),
            *_strided(y),
        )
        return planes.images(y, 0, planes.output).contiguous()

    def backward(
        self, grad: Tensor, x: Tensor, v: Tensor | None, of_weight: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        """Gradients of x, where V is given, and of V, if ``of_weight``, from that of y, (n, out, h′, w′)."""
        planes, n = self.planes(x), len(x)
        given = planes.lay_gradient(grad)
        grad_x = grad_v = None
        if of_weight:
            grad_v = empty((len(self.sources), *self.slide.kernel), grad)
            _, image, plane = _strided(given)
            call(
                *("correlate", grad.dtype, self.shape[0], n, planes.length, self.ends, self.sources),
                *(len(planes.offsets), planes.offsets, given[..., planes.front :], image, plane),
                *_strided(planes.lay(x)),
                grad_v,
            )
        if v is not None:
            ends, targets, order = self._back
            turned = v.flatten(1)[order]
            seen = [phase for phase in planes.phases if phase.taps]
            grad_x = None if len(seen) == len(planes.phases) == 1 else x.new_zeros(x.shape)
            for phase in seen:
                made = empty((n, self.shape[1], phase.length), grad)
                call(
                    *("convolve", grad.dtype, self.shape[1], n, phase.length, ends, targets),
                    *(len(phase.taps), phase.back, turned[:, phase.taps].contiguous(), None),
                    *_strided(given),
                    *_strided(made),
                )
                pixels = planes.images(made, 0, phase.size)
                if grad_x is None:
                    grad_x = pixels.contiguous()
                else:
                    grad_x[:, :, phase.rows, phase.columns] = pixels
        return grad_x, grad_v


def _strided(planes: Tensor) -> tuple[Tensor, int, int]:
    """Planes (n, channels, count) as the C functions take them."""
    return planes, planes.shape[1] * planes.shape[2], planes.shape[2]


def _over(n: int, step: int) -> int:
    """n / step, rounded up."""
    return -(-n // step)


def _lines(phase: int, stride: int, padding: int, size: int) -> tuple[int, int, int]:
    """Where every ``stride``-th line of a padded image lies, from line ``phase`` on, along one axis.

    Returns:
        How many of these lines come before the image, which line of the image is the first of them, and how many lie
        in the image.
    """
    skipped = max(0, _over(padding - phase, stride))
    first = phase + stride * skipped - padding
    return skipped, first, _over(size - first, stride)
