"""How alike the responses of two units are, against how near the units are to each other.

r_uv is the correlation of two units' responses over the samples, and q_uv = 1/(1 + d_uv) their nearness. Each objective
here asks, in its own way, that r follow q.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from locality_prior._check import count, positive, wrong
from locality_prior.geometry import Geometry
from locality_prior.objectives import _given
from locality_prior.objectives._nearness import Nearness, mutual, nearness, neighbourhood, slices, wide
from locality_prior.objectives._precision import not_half
from locality_prior.objectives.base import OfResponses
from locality_prior.objectives.schedules import Strength
from locality_prior.placement import Placement

#: A norm within so many roundings of the mean's is that of a constant response, and a variance within twice as many of
#: the squares' that of equal numbers.
ROUNDINGS = 16


def spatial_correlation(
    responses: Tensor, geometry: Geometry, *, neighbourhoods: int = 0, units: int = 500, radius: float | None = None
) -> Tensor:
    """½(1 − ρ), ρ being the correlation over pairs of units of (r_uv, q_uv): 0 where nearness explains all of r.

    This is the relative spatial loss of TDANN (Margalit et al., Neuron 2024; neuroailab/TDANN,
    spacetorch/losses/losses_torch.py), of TopoLM (ICLR 2025; epflneuroailab/topolm, models/positions.py) and of
    Topo-Omni (2026; epflneuroailab/topo-omni, src/models/spatial_utils.py).

    By default it is exact, over all pairs of units. With z the responses standardised over the samples,
    Σ r = ‖Σ_u z_u‖², Σ r² = ‖zzᵀ‖² and Σ rq = Σ z∘Qz. On a grid Qz is a convolution, done by FFT without a matrix of
    pairs: O(samples · n log n + samples² · n). Up to 512 units the product with Q is quicker, and Q takes 1 MiB at most
    in float32. Elsewhere Q is multiplied by blocks of its rows.

    Their code looks at a few neighbourhoods in each step. With ``neighbourhoods`` above 0 this function does so too,
    but draws them anew in each call, from torch's generator, around any unit, and takes what is near by the geometry's
    distance. Theirs are squares that are made once, and TopoLM's stay away from the borders. TDANN takes one
    neighbourhood a step, of at most 500 units, of 1.6 to 32 mm; TopoLM the mean over 5, of a Chebyshev distance below
    5; Topo-Omni the mean over 20, below 20. A constant response counts as r = 0 in TDANN, gives NaN in TopoLM, and
    makes its whole neighbourhood drop out in Topo-Omni; here the unit is left out of all sums.

    >>> import torch
    >>> import locality_prior as lp
    >>> sheet = lp.Grid(5, 5)
    >>> smooth = torch.linalg.cholesky(1 / (1 + sheet.distances()))  # responses whose correlations are q itself
    >>> responses = torch.randn(10_000, 25, generator=torch.Generator().manual_seed(0), dtype=torch.float64) @ smooth.T
    >>> print(f"{lp.objectives.spatial_correlation(responses, sheet):.3f}")
    0.002

    Args:
        responses: (samples, units), at least 2 samples. Half precision is brought to float32.
        geometry: where the units are; the distance from u to v must be that from v to u.
        neighbourhoods: how many random neighbourhoods to take the mean over; 0: all pairs are taken instead.
        units: how many units a neighbourhood has at most.
        radius: the units of a neighbourhood are drawn from those within this distance of its middle, in the
            geometry's own units; None: the nearest ones are taken.

    Returns:
        A scalar from 0 to 1, float32 or float64. 0 where it is undefined: fewer than three units that respond, or
        equal correlations or distances throughout; a neighbourhood in which it is undefined is left out of the mean.

    Raises:
        TypeError, ValueError: responses that do not fit the geometry, a single sample, distances that differ by
            direction, or numbers out of range.
    """
    return _measured(_Relative, False, responses, geometry, neighbourhoods, units, radius)


def absolute_correlation(
    responses: Tensor, geometry: Geometry, *, neighbourhoods: int = 0, units: int = 500, radius: float | None = None
) -> Tensor:
    """The mean over pairs of units of |r_uv − q_uv|.

    This is the older, absolute spatial loss of TDANN (neuroailab/TDANN, spacetorch/losses/losses_torch.py, there
    ``old_spatial_correlation_loss``). Theirs is taken in one random neighbourhood a step; here it is taken over all
    pairs by default, by blocks of rows, so no matrix of pairs is held, but its time grows with the square of the units.
    Neighbourhoods, and constant responses, are as in :func:`spatial_correlation`.

    >>> import torch
    >>> import locality_prior as lp
    >>> responses = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, 1.0], [-1.0, -1.0, -1.0], [1.0, 1.0, -1.0]])
    >>> float(lp.objectives.absolute_correlation(responses, lp.Line(3)))  # r is 1, 0 and 0; q is 1/2, 1/3 and 1/2
    0.4444...

    Args:
        responses: (samples, units), at least 2 samples. Half precision is brought to float32.
        geometry: where the units are; the distance from u to v must be that from v to u.
        neighbourhoods: how many random neighbourhoods to take the mean over; 0: all pairs are taken instead.
        units: how many units a neighbourhood has at most.
        radius: the units of a neighbourhood are drawn from those within this distance of its middle, in the
            geometry's own units; None: the nearest ones are taken.

    Returns:
        A scalar of at least 0, float32 or float64. 0 where fewer than two units respond.

    Raises:
        TypeError, ValueError: as :func:`spatial_correlation`.
    """
    return _measured(_Absolute, True, responses, geometry, neighbourhoods, units, radius)


def bootphon(responses: Tensor, geometry: Geometry) -> Tensor:
    """The mean over pairs of units of (cos_uv − q_uv)², the cosine being that of their responses, without centring.

    This is the topographic loss of Poli, Dupoux and Riad (2023; bootphon/topography, topography/core/loss.py). As
    Σ cos² − 2 Σ cos·q + Σ q² it is exact without a matrix of pairs, as :func:`spatial_correlation` is.

    Theirs takes the cosine of two channels over the places of one image, and then the mean over images; here all
    samples are taken together, and those of a convolution placed by its channels are all places of all images, so a
    Linear layer has a loss as well. Theirs places the channels in a unit square, whose sides are 1 long however many
    there are (``Grid(8, 8, spacing=1 / 7)``); a Grid's own neighbours are 1 apart. A channel that is 0 throughout
    counts as cos = 0 there, and is left out here.

    >>> import torch
    >>> import locality_prior as lp
    >>> print(f"{lp.objectives.bootphon(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), lp.Line(2)):.2f}")
    0.25

    Args:
        responses: (samples, units), at least 2 samples. Half precision is brought to float32.
        geometry: where the units are; the distance from u to v must be that from v to u.

    Returns:
        A scalar of at least 0, float32 or float64. 0 where fewer than two units respond.

    Raises:
        TypeError, ValueError: as :func:`spatial_correlation`.
    """
    return _measured(_Squared, False, responses, geometry, 0, 3, None)


class _OfPairs(OfResponses):
    """A loss of all pairs of units, or of those in some neighbourhoods."""

    def __init__(
        self,
        placed: Placement,
        strength: float | Strength = 0.25,
        *,
        neighbourhoods: int = 0,
        units: int = 500,
        radius: float | None = None,
    ) -> None:
        super().__init__(_fit(placed), strength, **_options(neighbourhoods, units, radius))


class SpatialCorrelation(_OfPairs):
    """:func:`spatial_correlation` of each placed module's responses.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU())
    >>> objective = lp.objectives.SpatialCorrelation(lp.place(net, {"1": lp.Grid(8, 8)}), strength=0.5)
    >>> loss = net(torch.randn(32, 4)).square().mean() + objective()
    >>> loss.backward()
    >>> objective
    SpatialCorrelation(1: strength=0.5, neighbourhoods=0, units=500, radius=None)

    Args:
        placed: the modules, and where their units are.
        strength: TDANN's 0.25, which it gives each layer. TopoLM has 2.5, Topo-Omni 20.
        neighbourhoods: how many random neighbourhoods; 0: all pairs.
        units: how many units a neighbourhood has at most.
        radius: how far a neighbourhood reaches; None: the nearest units are taken.

    Raises:
        ValueError: an option out of range, or a geometry whose distances differ by direction.
    """

    WORD = "spatial_correlation"

    def of(self, responses: Tensor, geometry: Geometry) -> Tensor:
        return spatial_correlation(responses, geometry, **self.options)


class AbsoluteCorrelation(_OfPairs):
    """:func:`absolute_correlation` of each placed module's responses.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU())
    >>> objective = lp.objectives.AbsoluteCorrelation(lp.place(net, {"1": lp.Grid(8, 8)}))
    >>> loss = net(torch.randn(32, 4)).square().mean() + objective()
    >>> loss.backward()

    Args:
        placed: the modules, and where their units are.
        strength: TDANN's 0.25.
        neighbourhoods: how many random neighbourhoods; 0: all pairs.
        units: how many units a neighbourhood has at most.
        radius: how far a neighbourhood reaches; None: the nearest units are taken.

    Raises:
        ValueError: an option out of range, or a geometry whose distances differ by direction.
    """

    WORD = "absolute_correlation"

    def of(self, responses: Tensor, geometry: Geometry) -> Tensor:
        return absolute_correlation(responses, geometry, **self.options)


class Bootphon(OfResponses):
    """:func:`bootphon` of each placed module's responses.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU())
    >>> objective = lp.objectives.Bootphon(lp.place(net, {"1": lp.Grid(8, 8)}))
    >>> loss = net(torch.randn(32, 4)).square().mean() + objective()
    >>> loss.backward()

    Args:
        placed: the modules, and where their units are.
        strength: how much it counts.

    Raises:
        ValueError: a geometry whose distances differ by direction.
    """

    WORD = "bootphon"

    def __init__(self, placed: Placement, strength: float | Strength = 1.0) -> None:
        super().__init__(_fit(placed), strength)

    def of(self, responses: Tensor, geometry: Geometry) -> Tensor:
        return bootphon(responses, geometry)


# --- what the functions share ----------------------------------------------------------------------------------------


def _fit(placed: Any) -> Any:
    """A placement on geometries whose distances are equal both ways."""
    for name in placed if isinstance(placed, Placement) else ():
        mutual(placed[name].geometry)
    return placed


def _options(neighbourhoods: Any, units: Any, radius: Any) -> dict[str, Any]:
    many = count("neighbourhoods", neighbourhoods, least=0)
    if radius is not None and not many:
        raise wrong("radius", radius, "None where there are no neighbourhoods (neighbourhoods=0)")
    within = None if radius is None else positive("radius", radius)
    return {"neighbourhoods": many, "units": count("units", units, least=3), "radius": within}


def _measured(
    kind: type[torch.autograd.Function], rows: bool, responses: Tensor, geometry: Geometry, *options: int | float | None
) -> Tensor:
    x, sheet = _given.responses(responses, geometry)
    checked = _options(*options)
    if x.dtype != torch.float64:
        x = x.float()
    need = torch.is_grad_enabled() and x.requires_grad

    def measure(part: Tensor, near: Nearness) -> tuple[Tensor, Tensor]:
        value, _, defined = kind.apply(part, near, need)
        return value, defined

    if not checked["neighbourhoods"]:
        return measure(x, nearness(sheet, x, pairs=rows))[0]
    mutual(sheet)
    values, defined = [], []
    for _ in range(checked["neighbourhoods"]):
        chosen, near = neighbourhood(sheet, checked["units"], checked["radius"], x)
        value, there = measure(x[:, chosen], near)
        values.append(value)
        defined.append(there)
    return torch.stack(values).sum() / torch.stack(defined).sum().clamp(min=1)


class _Fused(torch.autograd.Function):
    """A value and its gradient together, so that nothing but the gradient is held until it is asked for."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        _, gradient, defined = output
        ctx.mark_non_differentiable(gradient, defined)
        ctx.save_for_backward(gradient)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        return grad * ctx.saved_tensors[0], None, None


class _Relative(_Fused):
    @staticmethod
    def forward(x: Tensor, near: Nearness, need: bool) -> tuple[Tensor, Tensor, Tensor]:
        return _by_sums(x, near, need, centred=True, reduce=_relative)


class _Squared(_Fused):
    @staticmethod
    def forward(x: Tensor, near: Nearness, need: bool) -> tuple[Tensor, Tensor, Tensor]:
        return _by_sums(x, near, need, centred=False, reduce=_squared)


class _Absolute(_Fused):
    @staticmethod
    def forward(x: Tensor, near: Nearness, need: bool) -> tuple[Tensor, Tensor, Tensor]:
        with not_half(x):
            z, inverse, live = _standard(x, centred=True)
            units = live.sum(dtype=wide(x))
            pairs = (units * (units - 1)).clamp(min=1)  # each twice
            total, g = units.new_zeros(()), torch.empty_like(z)
            for part in slices(z.shape[1], z.shape[1]):
                away = z[:, part].T @ z
                away -= near.rows(torch.arange(part.start, part.stop, device=x.device))
                away.diagonal(part.start).zero_()
                away *= live
                away *= live[part, None]
                total = total + away.abs().sum(1).to(total.dtype).sum()
                if need:
                    g[:, part] = z @ away.sign_().T
            g *= (2 / pairs).to(g.dtype)
            return (total / pairs).to(x.dtype), _back(g, z, inverse) if need else g.new_empty(0), units > 1


#: Sums over pairs u < v → the value, whether it is defined, and its derivatives by Σ r, Σ r² and Σ rq.
Reduced = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
Reduce = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, float], Reduced]


def _by_sums(x: Tensor, near: Nearness, need: bool, centred: bool, reduce: Reduce) -> tuple[Tensor, Tensor, Tensor]:
    """A function of Σ r, Σ r², Σ rq, Σ q and Σ q² over pairs, and its gradient by the responses."""
    with not_half(x):
        z, inverse, live = _standard(x, centred)
        samples, n = z.shape
        qz, q1, q2 = near.times(z, live)
        units = live.sum(dtype=wide(x))
        along = z.sum(1)
        # the smaller of the two Gram matrices, which have the same norm, and are never larger than the responses
        gram = z @ z.T if samples <= n else z.T @ z
        r1 = (along.to(wide(x)).square().sum() - units) / 2
        r2 = (_dots(gram, gram, 1).to(wide(x)).sum() - units) / 2
        rq = _dots(z, qz, 1).to(wide(x)).sum() / 2
        pairs = units * (units - 1) / 2
        value, defined, by_r1, by_r2, by_rq = reduce(pairs, r1, r2, rq, q1 / 2, q2 / 2, torch.finfo(x.dtype).eps)
        if not need:
            return value.to(x.dtype), x.new_empty(0), defined
        g = qz.mul_(by_rq.to(x.dtype))
        gram *= (2 * by_r2).to(x.dtype)
        g.addmm_(*((gram, z) if samples <= n else (z, gram)))
        g += (by_r1.to(x.dtype) * along)[:, None]
        return value.to(x.dtype), _back(g, z, inverse), defined


def _relative(pairs: Tensor, r1: Tensor, r2: Tensor, rq: Tensor, q1: Tensor, q2: Tensor, eps: float) -> Reduced:
    pairs = pairs.clamp(min=1)
    of_r, of_q, both = r2 - r1 * r1 / pairs, q2 - q1 * q1 / pairs, rq - r1 * q1 / pairs
    defined = (pairs > 1) & (of_r > 2 * ROUNDINGS * eps * r2) & (of_q > 2 * ROUNDINGS * eps * q2)
    of_r, of_q = torch.where(defined, of_r, 1), torch.where(defined, of_q, 1)
    root = (of_r * of_q).sqrt()
    rho = both / root
    there = defined.to(rho.dtype)
    by_r1 = (q1 / root - rho * r1 / of_r) / (2 * pairs)
    return there * (1 - rho) / 2, defined, there * by_r1, there * rho / (4 * of_r), there * -0.5 / root


def _squared(pairs: Tensor, r1: Tensor, r2: Tensor, rq: Tensor, q1: Tensor, q2: Tensor, eps: float) -> Reduced:
    each = (pairs > 0).to(pairs.dtype) / pairs.clamp(min=1)
    return (r2 - 2 * rq + q2) * each, pairs > 0, torch.zeros_like(each), each, -2 * each


def _standard(x: Tensor, centred: bool) -> tuple[Tensor, Tensor, Tensor]:
    """z with Σ_s z_su² = 1, what it was multiplied by, and 1 for each unit that responds; for the others all are 0."""
    info = torch.finfo(x.dtype)
    mean = x.mean(0) if centred else x.new_zeros(x.shape[1])
    z = x - mean
    norm = _dots(z, z, 0).sqrt()
    alive = norm > (ROUNDINGS * info.eps * len(x) ** 0.5 * mean.abs()).clamp(min=info.tiny**0.5)
    inverse = torch.where(alive, 1 / torch.where(alive, norm, 1), 0)
    return z.mul_(inverse), inverse, alive.to(x.dtype)


def _back(g: Tensor, z: Tensor, inverse: Tensor) -> Tensor:
    """The gradient by the responses from that by z, in place: what would change a norm or a mean is taken out.

    Its mean over the samples needs nothing, since that of every z, and so of every sum of them, is 0.
    """
    return g.addcmul_(z, _dots(z, g, 0), value=-1).mul_(inverse)


def _dots(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Σ a∘b along an axis of two matrices, by blocks of rows."""
    parts = [(a[part] * b[part]).sum(dim) for part in slices(*a.shape)]
    return torch.cat(parts) if dim else torch.stack(parts).sum(0)
