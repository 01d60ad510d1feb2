"""What models of language prefer: how often the better of two sentences is the likelier one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from locality_prior._check import wrong, wrong_type
from locality_prior.analysis._given import floats

#: The 97.5 % point of the normal distribution.
Z = 1.959963984540054


@dataclass(frozen=True)
class MinimalPairs:
    """How often the good sentence of a minimal pair is the likelier one.

    >>> import locality_prior as lp
    >>> lp.analysis.minimal_pairs([-9.0, -7.0], [-9.5, -7.5], ["passive"] * 2)["passive"].accuracy
    1.0

    Args:
        accuracy: the share of pairs; a pair of equally likely sentences counts half. None without a pair.
        interval: its 95 % confidence interval; None without a pair.
        pairs: how many pairs were compared.
        left_out: pairs left out because a side is not finite.
    """

    accuracy: float | None
    interval: tuple[float, float] | None
    pairs: int
    left_out: int


def minimal_pairs(good: Any, bad: Any, paradigms: Sequence[str]) -> dict[str, MinimalPairs]:
    """For each paradigm, in how many of its minimal pairs the good sentence is the likelier one (1/2 by chance).

    BLiMP's measure (Warstadt et al., TACL 2020): Σ log p over the whole good sentence against that over the whole bad
    one. Such sums favour the shorter of two sentences. The interval is Wilson's (JASA 1927), with z = 1.96::

        (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n)

    It is for one model, and takes pairs as independent, which sentences made from templates are not quite.

    >>> import locality_prior as lp
    >>> good, bad = [-9.0, -7.0, -8.0, -6.0], [-9.5, -6.5, -8.5, -7.5]
    >>> for name, found in lp.analysis.minimal_pairs(good, bad, ["passive", "passive", "anaphor", "anaphor"]).items():
    ...     print(f"{name}: {found.accuracy:.0%}, {found.interval[0]:.0%} to {found.interval[1]:.0%}")
    passive: 50%, 9% to 91%
    anaphor: 100%, 34% to 100%

    Args:
        good, bad: (pairs,) the log-probability of each pair's sentences. A pair with a NaN or an infinity is left out
            and counted.
        paradigms: what each pair is about.

    Returns:
        The result by paradigm, in the order in which they first come.

    Raises:
        ValueError: arrays that are not one-dimensional, or not of one length.
    """
    a, b = floats("good", good, "pairs"), floats("bad", bad, "pairs")
    if isinstance(paradigms, str) or not isinstance(paradigms, Sequence):
        raise wrong_type("paradigms", paradigms, "a list of names")
    for name, given in (("bad", len(b)), ("paradigms", len(paradigms))):
        if given != len(a):
            raise wrong(name, f"{given} entries", f"{len(a)}, as many as good")
    names = np.array([str(one) for one in paradigms], dtype=object)
    found = {}
    for name in dict.fromkeys(names.tolist()):
        x, y = a[names == name], b[names == name]
        fit = np.isfinite(x) & np.isfinite(y)
        n = int(fit.sum())
        if not n:
            found[name] = MinimalPairs(None, None, 0, len(x))
            continue
        share = float(((x > y) + (x == y) / 2)[fit].mean())
        found[name] = MinimalPairs(share, _wilson(share, n), n, len(x) - n)
    return found


def _wilson(share: float, n: int) -> tuple[float, float]:
    """Wilson's interval of a share of n."""
    half = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    middle, width = share + Z * Z / (2 * n), 1 + Z * Z / n
    # which are 0 and 1 exactly, but for rounding, where no pair or every pair is right
    return 0.0 if share == 0 else (middle - half) / width, 1.0 if share == 1 else (middle + half) / width
