"""What a layer's activations look like on its sheet: (activations, geometry) → numbers. Moran's I needs scipy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from locality_prior._check import count, positive, wrong
from locality_prior.analysis._given import Floats, Integers, array, floats, is_tensor, own_distances, responses, units

if TYPE_CHECKING:
    from torch import Tensor

    from locality_prior.geometry import Geometry

_Spread = Callable[[Floats, Integers], Floats]

#: Numbers that differ by less than this share of their size count as equal.
ROUNDING = 1e-12

_ROWS = 256  # images, or permutations, worked on at once: bounds the memory


@overload
def spatial_variance(activations: Tensor, geometry: Geometry) -> Tensor: ...


@overload
def spatial_variance(activations: npt.NDArray[Any], geometry: Geometry) -> Floats: ...


def spatial_variance(activations: Any, geometry: Geometry) -> Any:
    """How widely each image's activity spreads over the sheet.

    With p = a / Σa, over pairs of different units::

        σ² = ½ Σ_ij p_i p_j d_ij² / (1 − Σ_i p_i²)

    On Euclidean geometries this is the variance of position with reliability weights, Σ p‖r − μ‖² / (1 − Σp²)
    with μ = Σ p r, and is computed so; the pairwise form serves all others (a torus, a sphere, a graph).

    Args:
        activations: (images, units), at least 0.
        geometry: where the units sit.

    Returns:
        (images,) float64, squared units of the geometry's distance: a CPU tensor for a tensor, else an array.
        NaN for an image with a negative or non-finite value, with fewer than two active units, or with two
        active units between which there is no way.

    Raises:
        ValueError: activations that are not (images, units), or not of the geometry's number of units.
    """
    a = responses(activations, geometry)
    spread = _squared_deviation(geometry) if geometry.euclidean else _squared_distance(geometry)
    variance = np.full(len(a), np.nan)
    for start in range(0, len(a), _ROWS):
        block = slice(start, start + _ROWS)
        fit = np.all(np.isfinite(a[block]) & (a[block] >= 0), axis=1)
        # w: activity as shares of the strongest unit's, so that 1 − Σp² keeps its digits where that unit has
        # nearly all of it: with w = 1 there, q elsewhere and s = Σq, (Σw)² (1 − Σp²) = (1 + s)² − 1 − Σq².
        w = np.where(fit[:, None], a[block], 0)
        peak = w.argmax(axis=1)
        top = np.take_along_axis(w, peak[:, None], axis=1)
        w /= np.where(top > 0, top, 1)
        q = w.copy()
        np.put_along_axis(q, peak[:, None], 0, axis=1)
        s = q.sum(axis=1)
        pairs = s * (2 + s) - np.square(q).sum(axis=1)
        np.divide(spread(w, peak), pairs, out=variance[block], where=pairs > 0)
    if is_tensor(activations):
        import torch

        return torch.from_numpy(variance)
    return variance


def _squared_deviation(geometry: Geometry) -> _Spread:
    """(w, peak) → (Σw)² Σ p‖r − μ‖², positions taken about the strongest unit, to keep all digits."""
    positions = geometry.positions.detach().numpy()

    def spread(w: Floats, peak: Integers) -> Floats:
        total = np.zeros(len(w))
        for x in positions.T:
            x = x - x[peak][:, None]
            wx = w * x
            total += w.sum(axis=1) * (wx * x).sum(axis=1) - np.square(wx.sum(axis=1))
        return total

    return spread


def _squared_distance(geometry: Geometry) -> _Spread:
    """(w, peak) → (Σw)² ½ Σ p_i p_j d_ij²; NaN where two active units have no finite distance."""
    d = own_distances(geometry)
    apart = np.isinf(d).astype(np.float64) if np.isinf(d).any() else None
    squared = np.square(np.where(np.isinf(d), 0, d))

    def spread(w: Floats, peak: Integers) -> Floats:
        total: Floats = ((w @ squared) * w).sum(axis=1) / 2
        if apart is not None:
            active = (w > 0).astype(np.float64)
            total[((active @ apart) * active).any(axis=1)] = np.nan
        return total

    return spread


@dataclass(frozen=True, eq=False)
class ResponseCorrelation:
    """How alike units respond, against how far apart they sit: an array's entry for each bin with a pair.

    Args:
        distance: mean distance of the bin's pairs, as the geometry gives it.
        correlation: mean correlation of the bin's pairs.
        sem: standard error of that mean over pairs (which share units, so it is a guide, not a test); NaN for
            one pair.
        pairs: how many pairs.
        score: correlation, over all pairs, of r_ij with 1/(1 + d_ij); None where undefined.
        silent: units left out because their response is constant, or not finite, over the images.
    """

    distance: Floats
    correlation: Floats
    sem: Floats
    pairs: Integers
    score: float | None
    silent: int


def response_correlation(activations: Any, geometry: Geometry, bins: Any = None) -> ResponseCorrelation:
    """Correlation of two units' responses as a function of their distance, and its agreement with 1/(1 + d).

    r_ij is the Pearson correlation of units i and j over images, for every pair i < j that a way joins.
    ``score`` is the Pearson correlation over these pairs of r_ij with 1/(1 + d_ij), the target of TDANN's
    spatial loss (Margalit et al., Neuron 2024): 1 for a perfect map, about 0 for none. 1/(1 + d) is not
    scale-free: d enters as the geometry gives it. Lengths that differ by direction count with their mean.

    Args:
        activations: (images, units), signed or not; at least 2 images.
        geometry: where the units sit.
        bins: increasing edges of the curve's bins in the geometry's distance, the last edge included; pairs
            outside count for the score alone. None: bins as wide as the neighbour distance h, centred on 0,
            h, 2h, …

    Raises:
        ValueError: activations that are not (images, units) or not of the geometry's number of units, fewer
            than two images, or edges that do not increase.
    """
    a = responses(activations, geometry)
    if len(a) < 2:
        raise wrong("activations", f"{len(a)} images", "at least 2, to correlate over")
    edges = None if bins is None else _edges(bins)
    live: npt.NDArray[np.bool_] = np.all(np.isfinite(a), axis=0)
    live[live] = np.ptp(a[:, live], axis=0) > 0
    z = a[:, live]
    z = (z - z.min(axis=0)) / np.ptp(z, axis=0)  # within [0, 1]: squares neither overflow nor vanish
    z -= z.mean(axis=0)
    z /= np.sqrt(np.square(z).sum(axis=0))

    d = own_distances(geometry)[np.ix_(live, live)]
    d = (d + d.T) / 2
    wanted = np.isfinite(d) & np.tri(len(d), dtype=bool).T
    np.fill_diagonal(wanted, False)
    d, r = d[wanted], np.clip((z.T @ z)[wanted], -1, 1)
    score = _pearson(r, 1 / (1 + d))

    if edges is None:
        bin_of = np.floor(d / geometry.neighbour_distance + 0.5)
    else:
        bin_of = np.searchsorted(edges, d, side="right").astype(np.float64)
        bin_of[d == edges[-1]] -= 1
        inside = (bin_of > 0) & (bin_of < len(edges))
        d, r, bin_of = d[inside], r[inside], bin_of[inside]
    bin_of, pairs = np.unique(bin_of, return_inverse=True, return_counts=True)[1:]
    distance, correlation = (np.bincount(bin_of, x, len(pairs)) / pairs for x in (d, r))
    squares = np.bincount(bin_of, np.square(r - correlation[bin_of]), len(pairs))
    sem = np.full(len(pairs), np.nan)
    np.sqrt(squares / np.maximum(pairs - 1, 1) / pairs, out=sem, where=pairs > 1)
    return ResponseCorrelation(distance, correlation, sem, pairs, score, int((~live).sum()))


def _edges(bins: Any) -> Floats:
    edges = floats("bins", bins, "edges")
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise wrong("bins", edges.tolist(), "two or more increasing edges")
    return edges


def _pearson(x: Floats, y: Floats) -> float | None:
    """Pearson correlation of two (n,) arrays; None where one is constant, to rounding."""
    if not len(x) or any(np.ptp(v) <= ROUNDING * abs(v).max() for v in (x, y)):
        return None
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


@dataclass(frozen=True)
class Moran:
    """Moran's I of a map; ``i`` and ``p`` are None where undefined.

    Args:
        i: Moran's I: near ``expected`` for no order, towards 1 for smooth maps, below 0 for alternating.
        p: one-sided, the share of maps with the values shuffled over units whose I is at least this.
        expected: mean of I over such maps, −1/(N − 1); None for one unit.
        permutations: how many shuffled maps.
    """

    i: float | None
    p: float | None
    expected: float | None
    permutations: int


def morans_i(
    values: Any, geometry: Geometry, permutations: int = 999, seed: int = 0, radius: float | None = None
) -> Moran:
    """Spatial autocorrelation of a map, with the null of a shuffled map (Moran, Biometrika 1950).

    With z the values about their mean and N units::

        I = (N / S₀) Σ_ij w_ij z_i z_j / Σ_i z_i²,    S₀ = Σ_ij w_ij

    w_ij is equal over the neighbours j of i, 0 < d_ij ≤ radius, and sums to 1 (S₀ counts the units with a
    neighbour); units at one place are no neighbours. p = (1 + #{I_shuffled ≥ I}) / (1 + permutations). Give
    the unsmoothed map: smoothing alone makes I high, order or no order.

    Args:
        values: (units,), a map.
        geometry: where the units sit.
        permutations: shuffled maps for p.
        seed: of their generator; the same seed gives the same p.
        radius: how far neighbours are; None: 1.5 neighbour distances (the eight around a grid's unit).

    Returns:
        The measure; i and p are None for a constant or non-finite map, and where no unit has a neighbour.

    Raises:
        ValueError: values that are not (units,) or not as many as the geometry's units, or a number out of
            range.
    """
    v = floats("values", values, "units")
    n = units("values", len(v), geometry)
    permutations = count("permutations", permutations)
    rng = np.random.default_rng(count("seed", seed, 0))
    radius = 1.5 * geometry.neighbour_distance if radius is None else positive("radius", radius)
    expected = -1 / (n - 1) if n > 1 else None

    d = own_distances(geometry)
    near = (d > 0) & (d <= radius * (1 + 1e-9))
    neighbours = near.sum(axis=1)
    if not np.isfinite(v).all() or np.ptp(v) == 0 or not neighbours.any():
        return Moran(None, None, expected, permutations)
    from scipy.sparse import csr_array

    matrix: Any = (csr_array(near) if near.mean() < 0.05 else near).astype(np.float64)
    share = np.where(neighbours > 0, 1 / np.maximum(neighbours, 1), 0)[:, None]
    z = (v - v.min()) / np.ptp(v)
    z -= z.mean()
    scale = n / share.astype(bool).sum() / (z @ z)

    def index(maps: Floats) -> Floats:  # (units, m) → (m,)
        result: Floats = scale * (share * maps * (matrix @ maps)).sum(axis=0)
        return result

    i = index(z[:, None])[0]
    above = 0
    for start in range(0, permutations, _ROWS):
        maps = np.tile(z, (min(_ROWS, permutations - start), 1))
        above += int((index(rng.permuted(maps, axis=1).T) >= i - ROUNDING).sum())
    return Moran(float(i), (1 + above) / (1 + permutations), expected, permutations)


def class_means(activations: Any, labels: Any, classes: int | None = None) -> Floats:
    """Mean response of each unit to the images of each class: the class's map.

    Args:
        activations: (images, units).
        labels: (images,) whole numbers from 0, each image's class.
        classes: how many classes; None: up to the largest label.

    Returns:
        (classes, units) float64; a row of NaN for a class without an image.

    Raises:
        ValueError: sizes that do not fit, or labels that are not whole numbers from 0 to classes − 1.
    """
    a = floats("activations", activations, "images", "units")
    label = array("labels", labels)
    if label.shape != (len(a),) or label.dtype.kind not in "iu":
        raise wrong("labels", f"{label.dtype} {label.shape}", f"whole numbers of shape ({len(a)},)")
    if classes is None:
        if not len(a):
            raise wrong("labels", "none", "at least one, or the number of classes")
        classes = max(int(label.max()) + 1, 1)
    classes = count("classes", classes)
    if len(outside := label[(label < 0) | (label >= classes)]):
        raise wrong("labels", int(outside[0]), f"0 to {classes - 1}")
    means = np.full((classes, a.shape[1]), np.nan)
    with np.errstate(invalid="ignore"):  # ∞ − ∞
        for k in np.unique(label):
            means[k] = a[label == k].mean(axis=0)
    return means
