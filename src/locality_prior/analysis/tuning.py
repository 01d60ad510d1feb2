"""What units respond to, and how that lies on the sheet: selectivity, patches, smoothness, dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from locality_prior._check import positive, wrong
from locality_prior.analysis._given import Floats, Integers, array, floats, own_distances, units

if TYPE_CHECKING:
    from locality_prior.geometry import Geometry


@dataclass(frozen=True, eq=False)
class Selectivity:
    """How much more each unit responds to one class than to the rest, (classes, units) each.

    Args:
        d_prime: (μ_k − μ_r) / √((σ²_k + σ²_r) / 2), with the means and variances (n − 1) of the class and of the rest.
        t: (μ_k − μ_r) / √(σ²_k / n_k + σ²_r / n_r), Welch's.
    """

    d_prime: Floats
    t: Floats


def selectivity(activations: Any, labels: Any) -> Selectivity:
    """Selectivity maps: each unit's response to the images of a class, against all other images.

    TDANN's maps (Margalit et al., Neuron 2024) are of t; d′ does not grow with the number of images.

    Args:
        activations: (images, units).
        labels: (images,) whole numbers from 0, each image's class.

    Returns:
        The two maps; NaN where a class or the rest has fewer than two images, or neither varies.

    Raises:
        ValueError: sizes that do not fit, or labels that are not whole numbers from 0.
    """
    a = floats("activations", activations, "images", "units")
    label = array("labels", labels)
    if label.shape != (len(a),) or label.dtype.kind not in "iu" or (label < 0).any() or not len(label):
        raise wrong("labels", f"{label.dtype} {label.shape}", f"whole numbers from 0 of shape ({len(a)},)")
    shape = (int(label.max()) + 1, a.shape[1])
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
    """The patches of a map: neighbouring units above a threshold, as connected components.

    Args:
        values: (units,), a map, such as a row of :attr:`Selectivity.t`.
        geometry: where the units sit.
        threshold: units above it count.
        radius: how far neighbours are; None: 1.5 neighbour distances (the eight around a grid's unit).

    Returns:
        (units,): the number of each unit's patch, from 0 for the largest (of equal ones the one of the lowest
        unit); −1 for units in none. Sizes in units are ``np.bincount(patches[patches >= 0])``.

    Raises:
        ValueError: values that are not (units,) or not as many as the geometry's units.
    """
    v = floats("values", values, "units")
    units("values", len(v), geometry)
    return _parts(v > threshold, _near(geometry, radius))


def _near(geometry: Geometry, radius: float | None) -> Any:
    """Which units are neighbours, each its own too: (units, units) of scipy.sparse."""
    from scipy.sparse import csr_array

    radius = 1.5 * geometry.neighbour_distance if radius is None else positive("radius", radius)
    return csr_array(own_distances(geometry) <= radius * (1 + 1e-9))


def _parts(above: npt.NDArray[np.bool_], near: Any) -> Integers:
    """The number of each unit's connected part among those ``above``, from 0 for the largest; −1 for the others."""
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
    """Whether the patches of classes lie in one another, at each of k thresholds; NaN where no two classes have one.

    Args:
        threshold: (k,) the thresholds.
        containment: (k,) mean over pairs of classes with a patch of |A ∩ B| / min(|A|, |B|).
        chance: (k,) mean over the pairs of max(|A|, |B|) / N: the same for places drawn at random.
        pairs: (k,) how many pairs.
        size: (k,) mean units of a patch over classes that have one; NaN where none has.
        score: mean of containment − chance over the thresholds with a pair; None where there is none.
    """

    threshold: Floats
    containment: Floats
    chance: Floats
    pairs: Integers
    size: Floats
    score: float | None


def nested_patches(maps: Any, geometry: Geometry, thresholds: Any) -> NestedPatches:
    """Whether classes are represented within one another on the sheet: exploratory, for want of a standard measure.

    The authors of the source document ask whether representations are nested on the sheet as in the brain, where those
    of finer distinctions lie within those of coarser ones (Grill-Spector & Weiner, Nat. Rev. Neurosci. 2014). The units
    above ever higher thresholds of one class's map are nested whatever the map, so the question is put between classes.
    A class's patch A is its largest (see :func:`patches`), and two classes' patches overlap by |A ∩ B| / min(|A|, |B|),
    the overlap or Szymkiewicz–Simpson coefficient: 1 where the smaller lies wholly in the larger, 0 where they are
    apart. On places drawn at random, of N, it is max(|A|, |B|) / N on average.

    Args:
        maps: (classes, units), such as :attr:`Selectivity.d_prime`; NaN is above no threshold.
        geometry: where the units sit.
        thresholds: (k,) increasing.

    Raises:
        ValueError: maps that are not (classes, units) or not of the geometry's number of units, or thresholds that do
            not increase.
    """
    m = floats("maps", maps, "classes", "units")
    n = units("maps", m.shape[1], geometry)
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


def smoothness(values: Any, geometry: Geometry) -> float | None:
    """How much less near units differ in their tuning than far ones: S = (max(y) − y₁) / max(y).

    y is the mean |v_i − v_j| over pairs of units at one distance (bins as wide as the neighbour distance), and y₁ that
    of the nearest: TDANN's measure (Margalit et al., Neuron 2024). 0 where near units differ as much as any, 1 where
    they are alike.

    Args:
        values: (units,), what each unit is tuned to, or how much.
        geometry: where the units sit.

    Returns:
        S; None for a constant or non-finite map, and for fewer than two distances.

    Raises:
        ValueError: values that are not (units,) or not as many as the geometry's units.
    """
    v = floats("values", values, "units")
    units("values", len(v), geometry)
    d = own_distances(geometry)
    wanted = np.isfinite(d) & ~np.eye(len(d), dtype=bool)
    if not np.isfinite(v).all() or np.ptp(v) == 0 or not wanted.any():
        return None
    bins = np.unique(np.floor(d[wanted] / geometry.neighbour_distance + 0.5), return_inverse=True)[1]
    y = np.bincount(bins, np.abs(v[:, None] - v)[wanted]) / np.bincount(bins)
    return float((y.max() - y[0]) / y.max()) if len(y) > 1 and y.max() > 0 else None


def effective_dimension(activations: Any) -> float | None:
    """In how many directions responses vary: (Σ λ)² / Σ λ², for the eigenvalues λ of their covariance over images.

    The participation ratio: 1 where all units vary together, the number of units where they vary alike and apart. TDANN
    reports it (Margalit et al., Neuron 2024).

    Args:
        activations: (images, units).

    Returns:
        The dimension; None where nothing varies, or is not finite.
    """
    a = floats("activations", activations, "images", "units")
    if len(a) < 2 or not np.isfinite(a).all():
        return None
    z = a - a.mean(axis=0)
    scale = np.abs(z).max(initial=0.0)
    if scale == 0:
        return None
    # Σλ = Σ z² and Σλ² = Σ (z zᵀ)², up to the same factor, on the smaller side
    z /= scale
    gram = z @ z.T if len(z) < z.shape[1] else z.T @ z
    return float(np.trace(gram) ** 2 / np.square(gram).sum())
