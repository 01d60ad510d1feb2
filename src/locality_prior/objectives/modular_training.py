"""Brain-inspired modular training: every layer's mean weight, where long wires cost more."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from locality_prior._check import boolean, instance, wrong
from locality_prior.geometry import Channels, Geometry, Grid, Measured, Permuted, still
from locality_prior.objectives import _given
from locality_prior.objectives._kept import kept
from locality_prior.objectives._precision import precise
from locality_prior.objectives._wires import between_sheets, over_kernel
from locality_prior.objectives.base import OfWeights
from locality_prior.objectives.schedules import Strength
from locality_prior.placement import Placement

#: The distance between two layers, as a share of a sheet's side, which each wire and each bias pays.
BETWEEN = 0.5
#: How much a wire pays for its length within the unit square.
WITHIN = 2.0


def bimt(
    weight: Tensor,
    target: Geometry,
    source: Geometry | None = None,
    *,
    bias: Tensor | None = None,
    distance: bool = True,
) -> Tensor:
    """mean_ij |W_ij| (2 d_ij + ½) + ½ mean_i |b_i|, with d the city-block distance of both sheets in the unit square.

    Cell k of the n cells along an axis of a grid is at (k + ½)/n; along a periodic axis d goes the shorter way round.
    Positions of other geometries are stretched to go from 0 to 1 along each axis.

    Source: Liu, Gan & Tegmark, *Seeing is believing: brain-inspired modular training for mechanistic interpretability*
    (2023; KindXiaoming/BIMT · mnist_3.5.ipynb). It is summed over layers, with λ = 0.01, ×10 at a quarter and at half
    of training: the word ``bimt:0.01,steps=0.25/0.5``. In the last layer of that network wires do not pay for their
    length (``distance=False``). Difference: the authors also swap units, every 500 steps, to make the wires shorter.
    That changes the arrangement of units, and is not done here.

    >>> import torch
    >>> import locality_prior as lp
    >>> weight = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    >>> lp.objectives.bimt(weight, lp.Line(2)), lp.objectives.bimt(weight, lp.Line(2), bias=torch.tensor([1.0, -2.0]))
    (tensor(2.5000), tensor(3.2500))

    Args:
        weight: W, (out, in), or (out, in, …) with a kernel; the mean is over all entries.
        target: the places of the rows.
        source: the places of the columns; None: the target.
        bias: b, (out,); None: there is none.
        distance: whether wires pay for their length.

    Raises:
        ValueError, TypeError: geometries without positions, or whose axes differ in number or close differently; a
            weight or bias that does not fit the geometries.
    """
    if boolean("distance", distance):
        found, at, start = _given.with_source(weight, target, source)
        w = precise(found)
        # not mean(), whose gradient would be one more matrix
        cost = (over_kernel(w.abs()) * _prices(at, start, w.dtype, w.device)).sum() / w.numel()
    else:
        found, at, _ = _given.weight(weight, target, source)
        w = precise(found)
        cost = BETWEEN * w.abs().sum() / w.numel()
    return cost if bias is None else cost + BETWEEN * precise(_given.bias(bias, at)).abs().mean()


class BIMT(OfWeights):
    """:func:`bimt` of each placed module: its weights, all gates of a recurrent one, and its biases.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.ReLU(), torch.nn.Linear(9, 9))
    >>> placed = lp.place(net, {"0": (lp.Grid(2, 2), lp.Grid(3, 3)), "2": lp.Grid(3, 3)})
    >>> objective = lp.objectives.BIMT(placed, strength=lp.objectives.steps(0.001), last="2")
    >>> loss = net(torch.randn(32, 4)).square().mean() + objective(progress=0.5)

    Args:
        placed: the modules, and where their units are.
        strength: λ.
        last: the name of the placed module whose wires do not pay for their length, the network's last in the paper; it
            needs no source. Empty: all pay.
    """

    WORD = "bimt"
    last: str

    def __init__(self, placed: Placement, strength: float | Strength = 0.01, *, last: str = "") -> None:
        instance("last", last, str, "the name of a placed module, or ''")
        if isinstance(placed, Placement) and last and last not in placed:
            raise wrong("last", repr(last), f"one of {', '.join(placed)}, or ''")
        super().__init__(placed, strength, last=last)

    def of(self, name: str) -> Tensor:
        if name == self.last:
            each = [bimt(one.weight, one.target, distance=False) for one in self.placed.matrices(name)]
        else:
            pairs = between_sheets(self.placed, name)
            each = [bimt(one.weight, one.target, source) for one, source in pairs]
        each += [BETWEEN * precise(b).abs().mean() for b in _biases(self.placed[name].module)]
        return torch.stack(each).sum()


def _biases(module: nn.Module) -> list[Tensor]:
    """The biases of a module's units: of each gate of the last layer, where the module is recurrent."""
    if isinstance(module, nn.RNNBase):
        ends = f"_l{module.num_layers - 1}"
        found = [b for name, b in module.named_parameters() if name.startswith("bias") and name.endswith(ends)]
        return [gate for b in found for gate in b.chunk(len(b) // module.hidden_size)]
    if isinstance(module, nn.MultiheadAttention):
        inside, outside = getattr(module, "in_proj_bias", None), module.out_proj.bias
        return [] if inside is None else [*inside.chunk(3), outside]
    bias = getattr(module, "bias", None)
    return [bias] if isinstance(bias, Tensor) else []


@kept
def _prices(target: Geometry, source: Geometry, dtype: torch.dtype, device: torch.device) -> Tensor:
    """2d + ½ of every pair, (out, in)."""
    (ends, closed), (starts, other) = _in_unit_square("target", target), _in_unit_square("source", source)
    if closed != other:
        raise wrong("source", repr(source), f"as many axes as {target!r} has, which close as its axes do")
    d = torch.zeros(len(ends), len(starts), dtype=torch.float64)
    for axis, around in enumerate(closed):
        apart = (ends[:, None, axis] - starts[None, :, axis]).abs()
        d += torch.minimum(apart, 1 - apart) if around else apart
    return (WITHIN * d + BETWEEN).to(device, dtype)


def _in_unit_square(name: str, sheet: Geometry) -> tuple[Tensor, tuple[bool, ...]]:
    """Positions (n, axes) from 0 to 1 along each axis, and which axes close on themselves."""
    if isinstance(sheet, Channels):
        places, closed = _in_unit_square(name, sheet.base)
        return places.repeat(sheet.channels, 1), closed
    if isinstance(sheet, Permuted):
        places, closed = _in_unit_square(name, sheet.base)
        return places[sheet.order], closed
    still(name, sheet)
    if isinstance(sheet, Measured):
        raise wrong(name, repr(sheet), "a geometry with positions")
    if isinstance(sheet, Grid):
        cells = sheet.cells(torch.arange(len(sheet)))
        centres = [(k.double() + 0.5) / n for k, n in zip(cells, sheet.shape, strict=True)]
        return torch.stack(centres, dim=1), sheet.periodic
    found = sheet.positions
    low, extent = found.amin(0), found.amax(0) - found.amin(0)
    stretched = torch.where(extent > 0, (found - low) / extent.clamp(min=torch.finfo(found.dtype).tiny), 0.5)
    return stretched, (False,) * found.shape[1]
