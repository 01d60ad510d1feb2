"""What units are tuned to, and how tuning is laid out on the sheet: selectivity, patches, smoothness, dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from locality_prior._check import ROUNDING, needs, number, wrong
from locality_prior.analysis._given import (
    Floats,
    Integers,
    classes_of,
    floats,
    labels_of,
    maps,
    neighbours,
    numbered,
    pairs_by_block,
    unpacked,
)

if TYPE_CHECKING:
    from locality_prior.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Selectivity:
    """How much more each unit responds to one class than to the rest, (classes, units) each.

    >>> import locality_prior as lp
    >>> found = lp.analysis.selectivity([[3.0, 0.0], [2.0, 1.0], [0.0, 3.0], [1.0, 2.0]], labels=[0, 0, 1, 1])
    >>> print(found.d_prime.round(2))
    [[ 2.83 -2.83]
     [-2.83  2.83]]

    Args:
        d_prime: (μ_k − μ_r) / √((σ²_k + σ²_r) / 2), with the means and variances (n − 1) of the class and of the rest.
        t: (μ_k − μ_r) / √(σ²_k / n_k + σ²_r / n_r), Welch's.
    """

    d_prime: Floats
    t: Floats


def selectivity(activations: Any, labels: Any) -> Selectivity:
    """Selectivity maps: how much more each unit responds to the images of a class than to all other images.

    TDANN's maps (Margalit et al., Neuron 2024) show t, which grows with the number of images; d′ does not.

    >>> import locality_prior as lp
    >>> responses, labels = [[3.0, 0.0], [2.0, 1.0], [0.0, 3.0], [1.0, 2.0]], [0, 0, 1, 1]
    >>> print(lp.analysis.selectivity(responses, labels).d_prime.round(2))
    [[ 2.83 -2.83]
     [-2.83  2.83]]

    Args:
        activations: (images, units).
        labels: (images,) whole numbers from 0, each image's class.

    Returns:
        The two maps; NaN where a class or the rest has fewer than two images, or neither varies.

    Raises:
        ValueError: sizes that do not fit, or labels that are not whole numbers from 0.
    """
    a = floats("activations", activations, "images", "units")
    label = labels_of(labels, len(a))
    shape = (classes_of(label, a.shape[1]), a.shape[1])
    d_prime, t = np.full(shape, np.nan), np.full(shape, np.nan)
    for k in range(shape[0]):
        one, rest = a[label == k], a[label != k]
        if min(len(one), len(rest)) < 2:
            continue
        apart = one.mean(axis=0) - rest.mean(axis=0)
        v, w = one.var(axis=0, ddof=1), rest.var(axis=0, ddof=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            d_prime[k] = np.where(v + w > 0, apart / np.sqrt((v + w) / 2), np.nan)
            t[k] = np.where(v + w > 0, apart / np.sqrt(v / len(one) + w / len(rest)), np.nan)
    return Selectivity(d_prime, t)


def patches(values: Any, geometry: Geometry, threshold: float, radius: float | None = None) -> Integers:
    """The patches of maps: connected components of neighbouring units whose value is above a threshold.

    >>> import locality_prior as lp
    >>> d_prime = [2.0, 2.0, 0.0, 2.0]
    >>> print(lp.analysis.patches(d_prime, lp.Line(4), threshold=1.0))
    [ 0  0 -1  1]

    Args:
        values: (…, units), maps such as :attr:`Selectivity.t`; NaN is above no threshold.
        geometry: where the units sit.
        threshold: units above it are part of a patch.
        radius: how far apart neighbours are at most; None: 1.5 neighbour distances (the eight around a grid's unit).

    Returns:
        (…, units): the number of each unit's patch, counted in each map from 0 for the largest (among equals, the one
        with the lowest unit comes first); −1 for units in none. For one map, ``np.bincount(patches[patches >= 0])``
        gives the sizes in units.

    Raises:
        ValueError: values that are not (…, units) or not of the geometry's number of units.
    """
    v, shape = maps("values", values, geometry)
    threshold = number("threshold", threshold)
    near = _near(geometry, radius)
    return np.array([_parts(row > threshold, near) for row in v], dtype=np.int64).reshape(*shape, v.shape[1])


def _near(geometry: Geometry, radius: float | None) -> Any:
    """Which units are neighbours: a (units, units) matrix of scipy.sparse."""
    needs("scipy", "analysis", "this measure")
    from scipy.sparse import csr_array

    i, j, _ = neighbours(geometry, radius)
    return csr_array((np.ones(len(i)), (i, j)), shape=(len(geometry), len(geometry)))


def _parts(above: npt.NDArray[np.bool_], near: Any) -> Integers:
    """The number of each unit's connected part among those ``above``, from 0 for the largest; −1 for the others."""
    needs("scipy", "analysis", "this measure")
    from scipy.sparse.csgraph import connected_components

    found, part = connected_components(near[above][:, above], directed=False)
    order = np.argsort(-np.bincount(part, minlength=found), kind="stable")
    rank = np.empty(found, dtype=np.int64)
    rank[order] = np.arange(found)
    numbers = np.full(len(above), -1, dtype=np.int64)
    numbers[above] = rank[part]
    return numbers


@dataclass(frozen=True, eq=False)
class NestedPatches:
    """Whether the patches of classes lie in one another, at each of k thresholds; NaN where fewer than two have one.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> animal, bird = np.zeros((8, 8)), np.zeros((8, 8))
    >>> animal[:4, :4], bird[:2, :2] = 2, 2
    >>> found = lp.analysis.nested_patches([animal.ravel(), bird.ravel()], lp.Grid(8, 8), thresholds=[1.0])
    >>> print(found.containment, found.chance)
    [1.] [0.25]

    Args:
        threshold: (k,) the thresholds.
        containment: (k,) mean over pairs of classes with a patch of |A ∩ B| / min(|A|, |B|).
        chance: (k,) mean over the pairs of max(|A|, |B|) / N, which is the containment of randomly placed patches.
        pairs: (k,) how many pairs.
        size: (k,) mean number of units in a patch, over the classes that have one; NaN where none has.
        score: mean of containment − chance over the thresholds with a pair; None where there is none.
    """

    threshold: Floats
    containment: Floats
    chance: Floats
    pairs: Integers
    size: Floats
    score: float | None


def nested_patches(values: Any, geometry: Geometry, thresholds: Any) -> NestedPatches:
    """Whether classes are represented within one another on the sheet. Exploratory: there is no standard measure.

    The authors of the source document ask whether representations are nested on the sheet as in the brain, where those
    of finer distinctions lie within those of coarser ones (Grill-Spector & Weiner, Nat. Rev. Neurosci. 2014). Patches
    of one class above rising thresholds are nested in any map, so this measure compares different classes. A class's
    patch A is its largest (see :func:`patches`), and two patches overlap by |A ∩ B| / min(|A|, |B|), the overlap or
    Szymkiewicz–Simpson coefficient: 1 where the smaller patch lies wholly within the larger, 0 where they are apart.
    Two patches of units drawn at random from N overlap by max(|A|, |B|) / N on average.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> animal, bird = np.zeros((8, 8)), np.zeros((8, 8))
    >>> animal[:4, :4], bird[:2, :2] = 2, 2
    >>> found = lp.analysis.nested_patches([animal.ravel(), bird.ravel()], lp.Grid(8, 8), thresholds=[1.0])
    >>> print(found.containment)  # all of the smaller patch lies in the larger
    [1.]

    Args:
        values: (classes, units), maps such as :attr:`Selectivity.d_prime`; NaN is above no threshold.
        geometry: where the units sit.
        thresholds: (k,) increasing numbers.

    Raises:
        ValueError: values that are not (classes, units) or not of the geometry's number of units, or thresholds that do
            not increase.
    """
    m = maps("values", floats("values", values, "classes", "units"), geometry)[0]
    n = m.shape[1]
    at = floats("thresholds", thresholds, "thresholds")
    if not len(at) or not np.isfinite(at).all() or not (np.diff(at) > 0).all():
        raise wrong("thresholds", at.tolist(), "one or more increasing numbers")
    near = _near(geometry, None)
    containment, chance, size = (np.full(len(at), np.nan) for _ in range(3))
    pairs = np.zeros(len(at), dtype=np.int64)
    for k, threshold in enumerate(at):
        patch = np.array([_parts(row > threshold, near) == 0 for row in m], dtype=np.float64).reshape(-1, n)
        patch = patch[patch.any(axis=1)]
        sizes = patch.sum(axis=1)
        a, b = np.triu_indices(len(patch), 1)
        pairs[k] = len(a)
        if len(patch):
            size[k] = sizes.mean()
        if len(a):
            containment[k] = ((patch @ patch.T)[a, b] / np.minimum(sizes[a], sizes[b])).mean()
            chance[k] = np.maximum(sizes[a], sizes[b]).mean() / n
    beyond = (containment - chance)[pairs > 0]
    return NestedPatches(at, containment, chance, pairs, size, float(beyond.mean()) if len(beyond) else None)


@dataclass(frozen=True, eq=False)
class Smoothness:
    """Smoothness of one map, or of many: each field is a number, or an array with one for each map.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> lp.analysis.smoothness(np.arange(64.0), lp.Grid(8, 8)).left_out
    0

    Args:
        score: S; None for one map, or NaN in an array, where it is undefined.
        left_out: units left out because their value is not finite.
    """

    score: Any
    left_out: Any


def smoothness(values: Any, geometry: Geometry) -> Smoothness:
    """How much less near units differ in their tuning than far ones: S = (max(y) − y₁) / max(y).

    y is the mean |v_i − v_j| over pairs of units at one distance (bins as wide as the neighbour distance), and y₁ is
    that of the nearest pairs: TDANN's measure (Margalit et al., Neuron 2024). It is near 0 where near units differ as
    much as any, and near 1 where they are alike. Pairs count up to half of the largest distance. The few that are
    farther apart, between opposite corners, would make max(y) large by chance, and S with it, for a map of pure noise.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> gradient, noise = np.arange(64.0), np.random.default_rng(0).normal(size=64)
    >>> print(lp.analysis.smoothness([gradient, noise], lp.Grid(8, 8)).score.round(2))
    [0.71 0.  ]

    Args:
        values: (…, units), what each unit is tuned to, or how much; each entry of the leading axes is one map. Units
            whose value is not finite (the d′ of a unit that never responds is NaN) are left out of their map and
            counted.
        geometry: where the units sit.

    Returns:
        The measure; S is undefined for a constant map, and for fewer than two bins.

    Raises:
        ValueError: values that are not (…, units) or not of the geometry's number of units.
    """
    v, shape = maps("values", values, geometry)
    finite = np.isfinite(v)
    v = np.where(finite, v, 0)
    v /= np.maximum(np.abs(v).max(axis=1, keepdims=True, initial=0.0), np.finfo(np.float64).tiny)  # no overflow
    everyone = np.arange(v.shape[1])
    half = max((d.max() for *_, d in pairs_by_block(geometry, everyone) if len(d)), default=0.0) / 2
    score = np.full(len(v), np.nan)
    for there in np.unique(finite, axis=0):  # the maps that have values at the same units
        alike = np.flatnonzero((finite == there).all(axis=1))
        score[alike] = _smoothness(v[alike], geometry, everyone[there], half)
    left_out = (~finite).sum(axis=1)
    return Smoothness(unpacked(score, shape), left_out.reshape(shape) if shape else int(left_out[0]))


def _smoothness(v: Floats, geometry: Geometry, units: Integers, half: float) -> Floats:
    """S of maps (m, all units) over pairs of ``units`` at most ``half`` apart; NaN where undefined."""
    sums: list[Floats] = []  # for each bin of each block: bin, pairs, and each map's Σ|v_i − v_j|
    for rows, wanted, d in pairs_by_block(geometry, units):
        near = d <= half * (1 + ROUNDING)
        i, j = (k[near] for k in np.nonzero(wanted))
        i, j = units[i + rows.start], units[j + rows.start]
        found, where = numbered(np.floor(d[near] / geometry.neighbour_distance + 0.5))
        differences = [np.bincount(where, np.abs(row[i] - row[j]), len(found)) for row in v]
        sums.append(np.stack([found, np.bincount(where, minlength=len(found)), *differences]))
    bin_of, pairs, *differences = np.concatenate(sums, axis=1) if sums else np.empty((2 + len(v), 0))
    found, where = numbered(bin_of)
    if len(found) < 2:
        return np.full(len(v), np.nan)
    y = np.stack([np.bincount(where, x) for x in differences]) / np.bincount(where, pairs)
    top = y.max(axis=1)
    score = np.full(len(v), np.nan)
    np.divide(top - y[:, 0], top, out=score, where=top > 0)
    return score


def effective_dimension(activations: Any) -> float | None:
    """In how many directions responses vary: (Σ λ)² / Σ λ², for the eigenvalues λ of their covariance over images.

    This is the participation ratio: 1 where all units vary together, and the number of units where they vary equally
    and independently. TDANN reports it (Margalit et al., Neuron 2024).

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> one = np.arange(10.0)
    >>> round(lp.analysis.effective_dimension(np.stack([one, 2 * one, 3 * one], axis=1)), 2)
    1.0

    Args:
        activations: (images, units).

    Returns:
        The dimension; None where nothing varies, and where a value is not finite.

    Raises:
        ValueError: activations that are not (images, units).
    """
    a = floats("activations", activations, "images", "units")
    if len(a) < 2 or not np.isfinite(a).all():
        return None
    a = a / (np.abs(a).max(initial=0.0) or 1.0)  # large values would overflow
    z = a - a.mean(axis=0)
    scale = np.abs(z).max(initial=0.0)
    if scale == 0:
        return None
    # Σλ = Σ z² and Σλ² = Σ (z zᵀ)², up to the same factor, on the smaller side
    z /= scale
    gram = z @ z.T if len(z) < z.shape[1] else z.T @ z
    return float(np.trace(gram) ** 2 / np.square(gram).sum())
