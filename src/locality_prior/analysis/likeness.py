"""How alike two networks are: in how they tell items apart, and in their maps, however one of them is turned."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from locality_prior._check import count, wrong
from locality_prior.analysis._given import Floats, floats, place_of, units

if TYPE_CHECKING:
    from locality_prior.geometry import Geometry

#: One axis of a grid: its length, whether it closes on itself, and its spacing. Two equal axes can be swapped.
Axis = tuple[int, bool, float]

#: The most axes of which all turns are tried: four have 384 of them.
MOST_AXES = 4
#: The most permutations of units.
MOST_PERMUTATIONS = 10_000
#: Numbers that differ by less than this share of their size count as equal.
ROUNDING = 1e-12


def representational_similarity(a: Any, b: Any) -> float | None:
    """How alike two networks tell items apart (Kriegeskorte et al., Front. Syst. Neurosci. 2008).

    In each network, items i and j are as similar as the Pearson correlation of their responses over its units. The
    result is the Pearson correlation of these similarities between the two networks, over all pairs of items i < j. It
    does not depend on which unit sits where, nor on how many units there are.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> responses = np.random.default_rng(0).normal(size=(20, 64))
    >>> mirrored = responses[:, ::-1]  # the order of units does not count
    >>> round(lp.analysis.representational_similarity(responses, mirrored), 2)
    1.0

    Args:
        a: (items, units) the responses of one network.
        b: (items, other units) those of the other, to the same items.

    Returns:
        From −1 to 1. Items to which the units of either network all respond alike, or with a value that is not finite,
        are left out. None where fewer than three items are left, and where a side's similarities are all equal.

    Raises:
        ValueError: responses that are not (items, units), or not of the same items.
    """
    one, other = (floats(name, values, "items", "units") for name, values in (("a", a), ("b", b)))
    if len(one) != len(other):
        raise wrong("b", f"{len(other)} items", f"the {len(one)} items of a")
    return agreement(similarities(one), similarities(other))


def similarities(responses: Floats) -> Floats:
    """(items, items) correlations of the items' responses; NaN where an item has none."""
    z = _standardised(responses)
    return z @ z.T


def agreement(a: Floats, b: Floats) -> float | None:
    """The correlation of two networks' :func:`similarities` over the pairs of items that both have."""
    kept = np.flatnonzero(np.isfinite(a.diagonal()) & np.isfinite(b.diagonal()))
    if len(kept) < 3:
        return None
    pairs = np.triu_indices(len(kept), 1)
    chosen = np.ix_(kept, kept)
    x, y = _standardised(np.stack([a[chosen][pairs], b[chosen][pairs]]))
    r = float(x @ y)
    return min(1.0, max(-1.0, r)) if math.isfinite(r) else None


@dataclass(frozen=True)
class MapSimilarity:
    """How alike the maps of two networks are; both numbers are None where that is undefined.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> maps = np.random.default_rng(0).normal(size=(3, 64))
    >>> found = lp.analysis.map_similarity(maps, maps, lp.Grid(8, 8))
    >>> round(found.score, 2), found.chance < 0.5
    (1.0, True)

    Args:
        score: after the best symmetry of the sheet, from −1 to 1.
        chance: the mean of the same for maps whose units are shuffled. The best of many symmetries is above 0 for noise
            too, so only what ``score`` has beyond ``chance`` says that two maps are alike.
    """

    score: float | None
    chance: float | None


def map_similarity(a: Any, b: Any, geometry: Geometry, permutations: int = 5, seed: int = 0) -> MapSimilarity:
    """How alike the maps of two networks are, after the best of the sheet's symmetries.

    Nothing tells a network which corner of a sheet is which, so two networks may have the same map, turned. With r_c
    the Pearson correlation over units of both networks' maps of class c, and g a symmetry of the sheet::

        score = max_g mean_c r_c(a_c, b_c ∘ g)

    One symmetry serves all classes. The symmetries are those of a grid in which every cell has a unit: its mirror
    images, the exchanges of axes that are equal in length, spacing and periodicity, and all shifts along periodic axes
    (at once, by FFT): 8 for a square sheet, 4 for a rectangle, 8 n² for a torus of n × n. Maps on other geometries are
    compared as they lie.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> maps = np.random.default_rng(0).normal(size=(3, 8, 8))
    >>> turned = np.rot90(maps, axes=(1, 2)).reshape(3, 64)
    >>> found = lp.analysis.map_similarity(maps.reshape(3, 64), turned, lp.Grid(8, 8))
    >>> round(found.score, 2)  # the same maps, turned by 90°
    1.0

    Args:
        a: (classes, units) the maps of one network.
        b: (classes, units) those of the other, of the same classes.
        geometry: where the units sit, in both networks.
        permutations: how often the units of ``b`` are shuffled (all classes alike) for ``chance``; at most 10,000.
        seed: of the permutations.

    Returns:
        The score and its chance level. A class whose map is constant or not finite in either network is left out.

    Raises:
        ValueError: maps that are not (classes, units), not of the same classes, or not of the geometry's number of
            units.
    """
    from locality_prior.geometry import Permuted

    one, other = (floats(name, values, "classes", "units") for name, values in (("a", a), ("b", b)))
    if len(one) != len(other):
        raise wrong("b", f"{len(other)} maps", f"the {len(one)} maps of a")
    for name, values in (("a", one), ("b", other)):
        units(name, values.shape[1], geometry)
    if isinstance(geometry, Permuted):
        place = geometry.units.numpy()
        geometry, one, other = geometry.base, one[:, place], other[:, place]
    permutations, seed = count("permutations", permutations, 1, MOST_PERMUTATIONS), count("seed", seed, 0)
    return best_of_symmetries(one, other, axes_of(geometry), permutations, seed)


def axes_of(geometry: Geometry) -> tuple[Axis, ...] | None:
    """The axes of a grid whose symmetries are known; None for other geometries, and for a grid with empty cells."""
    from locality_prior.geometry import Grid

    place_of("geometry", geometry)
    if not isinstance(geometry, Grid) or not geometry.whole or len(geometry.shape) > MOST_AXES:
        return None
    spacing = geometry.spacing or (1.0,) * len(geometry.shape)
    return tuple(zip(geometry.shape, geometry.periodic, spacing, strict=True))


def best_of_symmetries(
    a: Floats, b: Floats, axes: Sequence[Axis] | None, permutations: int = 5, seed: int = 0
) -> MapSimilarity:
    """:func:`map_similarity` of maps (classes, units) on a grid of ``axes``, which only keep their places for None."""
    x, y = _standardised(a), _standardised(b)
    kept = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    if not kept.any():
        return MapSimilarity(None, None)
    x, y = x[kept], y[kept]
    rng = np.random.default_rng(seed)
    order = [rng.permutation(x.shape[1]) for _ in range(permutations)]
    score, *shuffled = (_best(x, maps, axes) for maps in (y, *(y[:, one] for one in order)))
    return MapSimilarity(score, float(np.mean(shuffled)))


def _best(x: Floats, y: Floats, axes: Sequence[Axis] | None) -> float:
    """max_g mean_c Σ_u x_c(u) y_c(g(u)) of standardised maps."""
    if axes is None:
        return _within_one(float((x * y).sum()) / len(x))
    shape = tuple(n for n, _, _ in axes)
    closed = [k for k, (_, periodic, _) in enumerate(axes, 1) if periodic]
    x, y = x.reshape(-1, *shape), y.reshape(-1, *shape)
    if not closed:
        return _within_one(max(float(np.vdot(x, turned)) for turned in _turned(y, axes)) / len(x))
    spectrum, sizes = np.fft.rfftn(x, axes=closed), [x.shape[k] for k in closed]
    over = tuple(k for k in range(x.ndim) if k not in closed)
    best = -math.inf
    for turned in _turned(y, axes):
        product = (spectrum * np.fft.rfftn(turned, axes=closed).conj()).sum(axis=over)
        best = max(best, float(np.fft.irfftn(product, s=sizes, axes=range(len(sizes))).max()))
    return _within_one(best / len(x))


def _turned(maps: Floats, axes: Sequence[Axis]) -> Iterator[Floats]:
    """Maps (classes, *shape) after each exchange of equal axes and each set of mirrored axes."""
    for order in itertools.permutations(range(len(axes))):
        if all(axes[k] == axes[j] for k, j in enumerate(order)):
            exchanged = maps.transpose(0, *(k + 1 for k in order))
            for mirrored in itertools.product((1, -1), repeat=len(axes)):
                yield exchanged[(slice(None), *(slice(None, None, step) for step in mirrored))]


def _standardised(rows: Floats) -> Floats:
    """Each row about its mean and of length 1; NaN for a row that is not finite, or constant to rounding."""
    z = np.full(rows.shape, np.nan)
    if not rows.shape[1]:
        return z
    with np.errstate(invalid="ignore", over="ignore"):  # ∞ − ∞
        varied = np.isfinite(rows).all(axis=1)
        varied &= np.ptp(rows, axis=1) > ROUNDING * np.abs(rows).max(axis=1)
    v = rows[varied] / np.abs(rows[varied]).max(axis=1, keepdims=True)  # large values would overflow
    v -= v.min(axis=1, keepdims=True)
    v /= v.max(axis=1, keepdims=True)
    v -= v.mean(axis=1, keepdims=True)
    z[varied] = v / np.sqrt(np.square(v).sum(axis=1, keepdims=True))
    return z


def _within_one(r: float) -> float:
    return min(1.0, max(-1.0, r))
