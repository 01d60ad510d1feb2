"""Measures of a layer's maps on its sheet: activations and a geometry give numbers. Moran's I needs scipy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from locality_prior._check import count, needs, wrong
from locality_prior.analysis._given import (
    ROWS,
    Floats,
    Integers,
    classes_of,
    floats,
    is_tensor,
    labels_of,
    maps,
    neighbours,
    numbered,
    own_distances,
    pairs_by_block,
    responses,
    unpacked,
)

if TYPE_CHECKING:
    from torch import Tensor

    from locality_prior.geometry import Geometry

_Spread = Callable[[Floats, Integers], Floats]

#: Numbers that differ by less than this share of their size count as equal.
ROUNDING = 1e-12
#: The most shuffled maps.
MOST_PERMUTATIONS = 100_000


class SignedMaps(UserWarning):
    """Some maps have negative values, for which spatial variance is not defined.

    >>> import warnings
    >>> import locality_prior as lp
    >>> with warnings.catch_warnings(action="ignore", category=lp.analysis.SignedMaps):
    ...     print(lp.analysis.spatial_variance([[1.0, -1.0]], lp.Line(2)))
    [nan]
    """


@overload
def spatial_variance(activations: Tensor, geometry: Geometry) -> Tensor: ...


@overload
def spatial_variance(activations: Any, geometry: Geometry) -> Any: ...


def spatial_variance(activations: Any, geometry: Geometry) -> Any:
    """How widely each map's activity spreads over the sheet.

    With p = a / Σa, over pairs of different units::

        σ² = ½ Σ_ij p_i p_j d_ij² / (1 − Σ_i p_i²)

    On Euclidean geometries this equals the variance of position with reliability weights, Σ p‖r − μ‖² / (1 − Σp²) with
    μ = Σ p r, and is computed that way. The pairwise form serves all others (a torus, a sphere, a graph).

    >>> import locality_prior as lp
    >>> near, far = [1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0]
    >>> print(lp.analysis.spatial_variance([near, far], lp.Line(4)))
    [0.5 4.5]

    Args:
        activations: (…, units) of at least 0; each entry of the leading axes, such as an image, is one map.
        geometry: where the units sit.

    Returns:
        (…) float64, in the squared units of the geometry's distance: a CPU tensor for a tensor, else an array. It is
        NaN for a map with a negative or non-finite value, for one with fewer than two active units, and for one with
        two active units that no way joins. One map (units,) in an array gives a float, or None where that is undefined.

    Warns:
        SignedMaps: some maps have negative values; the warning says how many. A caller that counts NaN itself can
            ignore this category.

    Raises:
        ValueError: activations that are not (…, units), or not of the geometry's number of units.
    """
    a, shape = maps("activations", activations, geometry)
    spread = _squared_deviation(geometry) if geometry.euclidean else _squared_distance(geometry)
    variance = np.full(len(a), np.nan)
    signed = 0
    for start in range(0, len(a), ROWS):
        block = slice(start, start + ROWS)
        fit = np.all(np.isfinite(a[block]) & (a[block] >= 0), axis=1)
        signed += int((a[block] < 0).any(axis=1).sum())
        # w: activity as shares of the strongest unit's. 1 − Σp² then keeps its digits even where that unit has
        # nearly all activity: with w = 1 there, q elsewhere and s = Σq, (Σw)² (1 − Σp²) = (1 + s)² − 1 − Σq².
        w = np.where(fit[:, None], a[block], 0)
        peak = w.argmax(axis=1)
        top = np.take_along_axis(w, peak[:, None], axis=1)
        w /= np.where(top > 0, top, 1)
        q = w.copy()
        np.put_along_axis(q, peak[:, None], 0, axis=1)
        s = q.sum(axis=1)
        pairs = s * (2 + s) - np.square(q).sum(axis=1)
        np.divide(spread(w, peak), pairs, out=variance[block], where=pairs > 0)
    if signed:
        what = "1 map has" if signed == 1 else f"{signed:,} maps have"
        warnings.warn(
            f"activations: {what} negative values, and so no spatial variance (NaN); it is defined from 0 upwards",
            SignedMaps,
            stacklevel=2,
        )
    if is_tensor(activations):
        import torch

        return torch.from_numpy(variance).reshape(shape)
    return unpacked(variance, shape)


def _squared_deviation(geometry: Geometry) -> _Spread:
    """(w, peak) → (Σw)² Σ p‖r − μ‖², with positions taken about the strongest unit, to keep all digits."""
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
    squared = np.square(own_distances(geometry))
    np.fill_diagonal(squared, 0)
    away = np.isinf(squared)
    apart = away.astype(np.float64) if away.any() else None
    squared[away] = 0

    def spread(w: Floats, peak: Integers) -> Floats:
        total: Floats = ((w @ squared) * w).sum(axis=1) / 2
        if apart is not None:
            active = (w > 0).astype(np.float64)
            total[((active @ apart) * active).any(axis=1)] = np.nan
        return total

    return spread


@dataclass(frozen=True, eq=False)
class ResponseCorrelation:
    """How alike units respond, against how far apart they sit. Each array has an entry for each bin with a pair.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> responses = np.random.default_rng(0).normal(size=(50, 16))
    >>> found = lp.analysis.response_correlation(responses, lp.Grid(4, 4))
    >>> found.distance.shape == found.correlation.shape, int(found.pairs.sum())
    (True, 120)

    Args:
        distance: mean distance of the bin's pairs, as the geometry gives it.
        correlation: mean correlation of the bin's pairs.
        sem: standard error of that mean over pairs (pairs share units, so it is a guide, not a test); NaN for one pair.
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

    r_ij is the Pearson correlation of units i and j over images, for every pair i < j that a way joins. ``score`` is
    the Pearson correlation over these pairs of r_ij with 1/(1 + d_ij), the target of TDANN's spatial loss (Margalit et
    al., Neuron 2024): 1 for a perfect map, about 0 for none. It depends on the unit of distance, and d is as the
    geometry gives it. Where a pair's two directions have different lengths, their mean counts.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> waves = np.cos(np.arange(8) / 3 - np.arange(20)[:, None])  # waves that travel along a line
    >>> found = lp.analysis.response_correlation(waves, lp.Line(8))
    >>> print(found.distance, found.correlation.round(2))
    [1. 2. 3. 4. 5. 6. 7.] [ 0.94  0.78  0.53  0.21 -0.12 -0.44 -0.71]

    Args:
        activations: (images, units), of either sign; at least 2 images.
        geometry: where the units sit.
        bins: increasing edges of the curve's bins in the geometry's distance, the last edge included; pairs outside
            count for the score alone. None: bins as wide as the neighbour distance h, centred on 0, h, 2h, …

    Raises:
        ValueError: activations that are not (images, units) or not of the geometry's number of units, fewer than two
            images, or edges that do not increase.
    """
    a = responses(activations, geometry)
    if len(a) < 2:
        raise wrong("activations", f"{len(a)} images", "at least 2, to correlate over")
    edges = None if bins is None else _edges(bins)
    live = np.flatnonzero(np.isfinite(a).all(axis=0) & (a != a[0]).any(axis=0))
    z = _standardised(a[:, live])

    of_all: list[
        Floats
    ] = []  # for each block: count, mean r, mean y, Σr², Σy², Σry about the means, with y = 1/(1 + d)
    of_bins: list[Floats] = []  # for each bin of each block: bin, pairs, mean d, mean r, Σr² about the mean
    ranges = np.array([[np.inf, np.inf], [-np.inf, -np.inf]])
    for rows, wanted, d in pairs_by_block(geometry, live):
        if not len(d):
            continue
        r = np.clip((z[:, rows].T @ z[:, rows.start :])[wanted], -1, 1)
        ry = np.stack([r, 1 / (1 + d)])
        ranges = np.stack([np.minimum(ranges[0], ry.min(axis=1)), np.maximum(ranges[1], ry.max(axis=1))])
        mean = ry.mean(axis=1)
        ry -= mean[:, None]
        of_all.append(np.array([len(d), *mean, ry[0] @ ry[0], ry[1] @ ry[1], ry[0] @ ry[1]]))
        if edges is None:
            bin_of = np.floor(d / geometry.neighbour_distance + 0.5)
        else:
            bin_of = np.searchsorted(edges, d, side="right").astype(np.float64)
            bin_of[d == edges[-1]] -= 1
            inside = (bin_of > 0) & (bin_of < len(edges))
            d, r, bin_of = d[inside], r[inside], bin_of[inside]
        found, where = numbered(bin_of)
        pairs = np.bincount(where, minlength=len(found))
        distance, correlation = (np.bincount(where, x, len(found)) / pairs for x in (d, r))
        squares = np.bincount(where, np.square(r - correlation[where]), len(found))
        of_bins.append(np.stack([found, pairs, distance, correlation, squares]))

    score = _pearson(np.array(of_all), ranges) if of_all else None
    return ResponseCorrelation(*_curve(of_bins), score, a.shape[1] - len(live))


def _standardised(a: Floats) -> Floats:
    """Each column about its mean and of length 1; scaled first, so that squares neither overflow nor vanish."""
    z: Floats = a / np.abs(a).max(axis=0, initial=0.0)
    z -= z.min(axis=0, initial=np.inf)
    z /= z.max(axis=0, initial=0.0)
    z -= z.mean(axis=0)
    z /= np.sqrt(np.einsum("ij,ij->j", z, z))
    return z


def _edges(bins: Any) -> Floats:
    edges = floats("bins", bins, "edges")
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise wrong("bins", edges.tolist(), "two or more increasing edges")
    return edges


def _pearson(blocks: Floats, ranges: Floats) -> float | None:
    """Pearson correlation from the moments of blocks of pairs; None where a side is constant to rounding."""
    if (ranges[1] - ranges[0] <= ROUNDING * np.abs(ranges).max(axis=0)).any():
        return None
    n, mean_r, mean_y, rr, yy, ry = blocks.T
    r, y = mean_r - np.average(mean_r, weights=n), mean_y - np.average(mean_y, weights=n)
    rr, yy, ry = (float((within + n * x * z).sum()) for within, x, z in ((rr, r, r), (yy, y, y), (ry, r, y)))
    return float(np.clip(ry / np.sqrt(rr * yy), -1, 1))


def _curve(blocks: list[Floats]) -> tuple[Floats, Floats, Floats, Integers]:
    """Mean distance, mean correlation, its standard error and pairs of each bin, from those of blocks."""
    bin_of, n, d, r, squares = np.concatenate(blocks, axis=1) if blocks else np.empty((5, 0))
    found, where = numbered(bin_of)
    pairs = np.bincount(where, n, len(found))
    distance, correlation = (np.bincount(where, n * x, len(found)) / pairs for x in (d, r))
    squares = np.bincount(where, squares + n * np.square(r - correlation[where]), len(found))
    sem = np.full(len(found), np.nan)
    np.sqrt(squares / np.maximum(pairs - 1, 1) / pairs, out=sem, where=pairs > 1)
    return distance, correlation, sem, pairs.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Moran:
    """Moran's I of one map, or of many: each field but ``permutations`` is a number, or an array with one for each map.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> found = lp.analysis.morans_i(np.arange(16.0), lp.Grid(4, 4))
    >>> print(f"I = {found.i:.2f}, expected {found.expected:.2f} by chance, p = {found.p:.3f}")
    I = 0.62, expected -0.07 by chance, p = 0.001

    Args:
        i: Moran's I: near ``expected`` for no order, towards 1 for smooth maps, below 0 for alternating ones. Where it
            is undefined, i and p are None for one map and NaN in an array.
        p: one-sided: the share of maps with the values shuffled over the units whose I is at least this.
        expected: mean of I over shuffled maps, −1/(N − 1); undefined for fewer than two units.
        left_out: units left out because their value is not finite.
        permutations: how many shuffled maps.
    """

    i: Any
    p: Any
    expected: Any
    left_out: Any
    permutations: int


def morans_i(
    values: Any, geometry: Geometry, permutations: int = 999, seed: int = 0, radius: float | None = None
) -> Moran:
    """Spatial autocorrelation of maps, with the null of shuffled maps (Moran, Biometrika 1950).

    With z the values about their mean and N units::

        I = (N / S₀) Σ_ij w_ij z_i z_j / Σ_i z_i²,    S₀ = Σ_ij w_ij

    w_ij is equal over the neighbours j of i, 0 < d_ij ≤ radius, and sums to 1, so that S₀ counts the units that have a
    neighbour; units at one place are not neighbours. p = (1 + #{I_shuffled ≥ I}) / (1 + permutations). Give unsmoothed
    maps: smoothing alone makes I high, with or without order. All maps are shuffled by the same permutations, so each
    one's p is what it would be alone, but the p of several maps are not independent.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> smooth, noise = np.arange(64.0), np.random.default_rng(0).normal(size=64)
    >>> found = lp.analysis.morans_i([smooth, noise], lp.Grid(8, 8))
    >>> print(found.i.round(2), found.p.round(3))
    [0.9  0.02] [0.001 0.294]

    Args:
        values: (…, units); each entry of the leading axes, such as a class, is one map. Units whose value is not
            finite are left out of their map and counted.
        geometry: where the units sit.
        permutations: shuffled maps for p, at most 100,000.
        seed: of the permutations; the same seed gives the same p.
        radius: how far apart neighbours are at most; None: 1.5 neighbour distances (the eight around a grid's unit).

    Returns:
        The measure; i and p are undefined for a constant map, and where no unit has a neighbour.

    Raises:
        ValueError: values that are not (…, units) or not of the geometry's number of units, or a number out of range.
    """
    v, shape = maps("values", values, geometry)
    permutations, seed = count("permutations", permutations, 1, MOST_PERMUTATIONS), count("seed", seed, 0)
    row, column, d = neighbours(geometry, radius)
    row, column = row[d > 0], column[d > 0]
    finite = np.isfinite(v)
    n = finite.sum(axis=1)
    i, p, expected = (np.full(len(v), np.nan) for _ in range(3))
    np.divide(-1, n - 1, out=expected, where=n > 1)
    for there in np.unique(finite, axis=0):  # the maps that have values at the same units
        alike = np.flatnonzero((finite == there).all(axis=1))
        varied = alike[(v[np.ix_(alike, there)] != v[alike, there.argmax()][:, None]).any(axis=1)]
        number, both = np.cumsum(there) - 1, there[row] & there[column]
        if len(varied) and both.any():
            pairs = number[row[both]], number[column[both]]
            i[varied], p[varied] = _moran(v[np.ix_(varied, there)], *pairs, permutations, seed)
    left_out = v.shape[1] - n
    return Moran(
        unpacked(i, shape),
        unpacked(p, shape),
        unpacked(expected, shape),
        left_out.reshape(shape) if shape else int(left_out[0]),
        permutations,
    )


def _moran(v: Floats, row: Integers, column: Integers, permutations: int, seed: int) -> tuple[Floats, Floats]:
    """I and p of varied maps (m, units), given the pairs of neighbours."""
    needs("scipy", "analysis", "this measure")
    from scipy.sparse import csr_array

    n = v.shape[1]
    count_of = np.bincount(row, minlength=n)
    weights: Any = csr_array((1 / count_of[row], (row, column)), shape=(n, n))
    z = v / np.abs(v).max(axis=1, keepdims=True)  # large values would overflow
    z -= z.min(axis=1, keepdims=True)
    z /= z.max(axis=1, keepdims=True)
    z -= z.mean(axis=1, keepdims=True)
    scale = n / np.count_nonzero(count_of) / np.square(z).sum(axis=1)
    i = scale * ((weights @ z.T) * z.T).sum(axis=0)
    above = np.zeros(len(v))
    rng = np.random.default_rng(seed)
    for start in range(0, permutations, ROWS):
        order = rng.permuted(np.tile(np.arange(n), (min(ROWS, permutations - start), 1)), axis=1).T
        for k in range(len(v)):
            shuffled = z[k][order]
            found = scale[k] * np.einsum("ij,ij->j", weights @ shuffled, shuffled)
            above[k] += (found >= i[k] - ROUNDING).sum()
    return i, (1 + above) / (1 + permutations)


def class_means(activations: Any, labels: Any, classes: int | None = None) -> Floats:
    """The map of each class: the mean response of each unit to the images of the class.

    >>> import locality_prior as lp
    >>> print(lp.analysis.class_means([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]], labels=[0, 0, 1]))
    [[2. 0.]
     [0. 5.]]

    Args:
        activations: (images, units).
        labels: (images,) whole numbers from 0, each image's class.
        classes: how many classes; None: up to the largest label.

    Returns:
        (classes, units) float64; a row of NaN for a class without an image.

    Raises:
        ValueError: sizes that do not fit, labels that are not whole numbers from 0 to classes − 1, or more than 2²⁸
            numbers in the result.
    """
    a = floats("activations", activations, "images", "units")
    label = labels_of(labels, len(a))
    means: npt.NDArray[np.float64] = np.full((classes_of(label, a.shape[1], classes), a.shape[1]), np.nan)
    with np.errstate(invalid="ignore", over="ignore"):  # ∞ − ∞, and sums beyond the largest number
        for k in np.unique(label):
            means[k] = a[label == k].mean(axis=0)
    return means


def normed(activations: Any) -> Floats:
    """Each unit's responses divided by their root mean square over images, so that every unit responds as strongly.

    A loss that makes units alike can be lowered by making them weak (Sander & Hasson 2026). A measure of the maps of
    ``normed`` responses does not see how strong units are.

    >>> import locality_prior as lp
    >>> print(lp.analysis.normed([[1.0, 100.0], [1.0, 0.0]]).round(2))
    [[1.   1.41]
     [1.   0.  ]]

    Args:
        activations: (images, units).

    Returns:
        (images, units) float64; NaN for a unit that never responds or has a value that is not finite.

    Raises:
        ValueError: activations that are not (images, units).
    """
    a = floats("activations", activations, "images", "units")
    largest = np.abs(a).max(axis=0, initial=0.0)
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 and ∞ / ∞, which are NaN
        a = a / largest  # squares of large values would overflow
        found: Floats = a / np.sqrt(np.square(a).mean(axis=0))
    found[:, ~np.isfinite(found).all(axis=0)] = np.nan
    return found
