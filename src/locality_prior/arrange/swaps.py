"""Quadratic assignment by swaps: which unit sits at which place, so that strong flows go over short distances."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from locality_prior._check import check_fits, positive, wrong, wrong_type
from locality_prior._memory import aside
from locality_prior.geometry.permuted import permutation

Ints = npt.NDArray[np.int64]
Reals = npt.NDArray[np.floating[Any]]
#: Called after each round with the number of rounds so far and the cost that they have reached.
Progress = Callable[[int, float], None]

#: Above so many units the gains of all swaps are computed in float32, and those that look good again in float64.
EXACT = 2048
#: How many swaps of each unit are tried in a round.
TRIED = 3
#: A change counts where it is larger than this share of the largest change that there could be.
LEAST = 1e-12
#: After so many rounds the products are computed anew, so that rounding does not add up.
ANEW = 16
#: With n units, a local optimum is left about (this many multiplications) / n³ times, and at most so often.
KICKS, MOST_KICKS = 1e8, 30
#: How many swaps are tried between two looks at the clock.
BETWEEN = 256


class Clock:
    """When to stop, and whom to tell how far it is."""

    def __init__(self, seconds: Any, progress: Any) -> None:
        limit = math.inf if seconds is None else positive("seconds", seconds)
        if progress is not None and not callable(progress):
            raise wrong_type("progress", progress, "a function of the number of rounds and the cost, or None")
        self.end, self._progress, self.rounds = time.monotonic() + limit, progress, 0
        self.beyond = 0.0  # the cost besides that of the part being worked on

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.end

    def tell(self, cost: float) -> None:
        self.rounds += 1
        if self._progress is not None:
            self._progress(self.rounds, cost + self.beyond)


class Quadratic:
    """E(π) = Σ_ij A_ij D[π(i), π(j)] + Σ_i L[i, π(i)] of an order π, unit → place.

    Where A or D is symmetric, only the symmetric part of the other counts, so then both are made symmetric. All is done
    in numpy, whose calls are quick where there are few units.

    Args:
        flow: A, (units, units) float64 on the CPU, of either sign.
        lengths: D, (places, places), for as many places as units; finite.
        linear: L, (units, places); None: 0.
    """

    def __init__(self, flow: Tensor, lengths: Tensor, linear: Tensor | None = None) -> None:
        n = len(flow)
        check_fits(8 * n * n, f"the matrices for the swaps of {n:,} units", "arrange fewer units at once")
        a, d = flow.numpy(), lengths.numpy()
        self.symmetric = bool((a == a.T).all() or (d == d.T).all())
        if self.symmetric:
            a, d = ((x + x.T) / 2 for x in (a, d))
        #: A and D for what leaves a unit, and where it differs their transposes for what enters it.
        self.sides = [(a, d)]
        if not self.symmetric:
            self.sides.append((a.T.copy(), d.T.copy()))
        self.linear = None if linear is None else linear.numpy()
        self._rounded: list[tuple[Reals, Reals]] | None = None  # in float32, once asked for
        most = 2 * sum(float(np.abs(x).sum(1).max()) for x, _ in self.sides) * float(d.max() - d.min())
        if self.linear is not None:
            most += float(self.linear.max() - self.linear.min())
        #: The size that a change must exceed to count.
        self.least = LEAST * most

    def __len__(self) -> int:
        return len(self.sides[0][0])

    def cost(self, order: Tensor | Ints) -> float:
        """E of one order."""
        at, (a, d) = np.asarray(order), self.sides[0]
        rows = max(1, (1 << 22) // len(at))
        parts = (slice(k, k + rows) for k in range(0, len(at), rows))
        found = sum(float(np.vdot(a[part], d[at[part]][:, at])) for part in parts)
        return found + (0.0 if self.linear is None else float(self.linear[np.arange(len(at)), at].sum()))

    def change(self, order: Ints, u: int, v: int) -> float:
        """What E changes by if the units ``u`` and ``v`` swap places, from their rows and columns."""
        p, q = order[u], order[v]
        found = 0.0
        for a, d in self.sides:
            x, y = a[u] - a[v], (d[q] - d[p])[order]
            found += x @ y - x[u] * y[u] - x[v] * y[v]
        a, d = self.sides[0]
        if self.symmetric:
            found *= 2
        else:
            found += (a[u, v] - a[v, u]) * (d[q, p] - d[p, q])
        found += (a[u, u] - a[v, v]) * (d[q, q] - d[p, p])
        if self.linear is not None:
            m = self.linear
            found += m[u, q] + m[v, p] - m[u, p] - m[v, q]
        return float(found)

    def products(self, order: Ints, exact: bool) -> list[Reals]:
        """A Bᵀ, and AᵀB where they differ, with B = D[π][:, π]."""
        return [a @ _placed(d, order).T for a, d in self._in(exact)]

    def moved(self, products: list[Reals], before: Ints, after: Ints, exact: bool) -> list[Reals]:
        """The products for the order ``after``, from those for ``before``: only units that moved change them."""
        n = len(before)
        gone = np.empty(n, np.int64)
        gone[before] = np.arange(n)
        came = gone[after]  # the unit whose place in ``before`` each unit has now
        gone[came] = np.arange(n)
        touched = np.flatnonzero(came != np.arange(n))
        if 3 * len(touched) > n:
            return self.products(after, exact)
        found = []
        for product, (a, d) in zip(products, self._in(exact), strict=True):
            # Σ_k (A[:, gone(k)] − A[:, k]) B[:, k]ᵀ over the units k that moved, and then the columns in order
            change = a[:, gone[touched]] - a[:, touched]
            product += change @ d[:, before[touched]][before].T
            found.append(np.take(product, came, axis=1))
        return found

    def gains(self, order: Ints, products: list[Reals], exact: bool) -> Reals:
        """What E changes by under each swap, (units, units), symmetric, with 0 on the diagonal.

        For one side, Σ_i (A_ui − A_vi)(B_vi − B_ui) = T_uv + T_vu − T_uu − T_vv with T = ABᵀ. Its terms i = u and i = v
        are taken out, and what these entries really change by is put in.
        """
        found: Reals = np.zeros_like(products[0])
        sides = self._in(exact)
        for product, (a, d) in zip(products, sides, strict=True):
            b = _placed(d, order)
            # the term i = u, and the term i = v, which is its transpose
            half = a.diagonal()[:, None] - a.T
            half *= b.T - b.diagonal()[:, None]
            np.subtract(product, half, out=half)
            half -= product.diagonal()[:, None]
            found += half
            found += half.T
        a, d = sides[0]
        own, at = a.diagonal(), d.diagonal()[order]
        if self.symmetric:
            found *= 2
        else:
            b = _placed(d, order)
            found += (a - a.T) * (b.T - b)
        if own.any() and at.any():
            found += (own[:, None] - own) * (at - at[:, None])
        if self.linear is not None:
            m = self.linear[:, order].astype(found.dtype, copy=False)
            half = m - m.diagonal()[:, None]
            found += half
            found += half.T
        np.fill_diagonal(found, 0)
        return found

    def _in(self, exact: bool) -> list[tuple[Reals, Reals]]:
        if exact:
            return self.sides
        if self._rounded is None:
            self._rounded = [(a.astype(np.float32), d.astype(np.float32)) for a, d in self.sides]
        return self._rounded


def _placed(lengths: Reals, order: Ints) -> Reals:
    return np.take(np.take(lengths, order, axis=0), order, axis=1)


def improve(problem: Quadratic, order: Tensor, clock: Clock) -> Tensor:
    """An order that no swap of two units improves, found from ``order``; or the order reached when the time is up.

    In each round the gains of all swaps are computed at once. The best of each unit are then tried one after another,
    the best of all first, and each is made if it is still good after those before it.
    """
    n = len(problem)
    found, cost = order.numpy().copy(), problem.cost(order)
    exact = n <= EXACT
    products: list[Reals] | None = None
    rounds = 0
    while n > 1 and not clock.over:
        fresh = products is None
        if products is None:
            products = problem.products(found, exact)
        before = found.copy()
        better = _swap(problem, found, _best(problem.gains(found, products, exact), problem.least), clock)
        if better < 0:
            cost += better
            rounds += 1
            clock.tell(cost)
            products = None if rounds % ANEW == 0 else problem.moved(products, before, found, exact)
        elif fresh and exact:
            break
        else:  # rounding may have hidden a gain: look once more
            products, exact = None, True
    return torch.from_numpy(found)


def kicked(problem: Quadratic, order: Tensor, seed: int, clock: Clock) -> Tensor:
    """An order at least as good as a local optimum: some of its units change places, and swaps improve it again.

    With few units, for which it is cheap, this is done a few times. Every fourth time all units change places.
    """
    n = len(problem)
    rng, best, cost = np.random.default_rng(seed), order, problem.cost(order)
    for k in range(min(MOST_KICKS, int(KICKS / max(n, 1) ** 3)) if n > 3 else 0):
        if clock.over:
            break
        size = n if k % 4 == 3 else int(rng.integers(3, max(4, n // 4)))
        some = torch.from_numpy(rng.choice(n, size=size, replace=False))
        tried = best.clone()
        tried[some] = best[some.roll(1)]
        tried = improve(problem, tried, clock)
        reached = problem.cost(tried)
        if reached < cost - problem.least:
            best, cost = tried, reached
    return best


def swap_gains(flow: Tensor, lengths: Tensor, order: Any = None, linear: Tensor | None = None) -> Tensor:
    """The change of Σ_ij A_ij D[π(i), π(j)] + Σ_i L[i, π(i)] under each swap of two units.

    With B = D[π][:, π], the swap of u and v changes the first sum by T_uv + T_vu − T_uu − T_vv for T = ABᵀ, by the same
    for T = AᵀB, and by terms in the entries of A and B at u and v. So two products of matrices give the changes under
    all swaps; one is enough if A or D is symmetric.

    >>> import torch
    >>> import locality_prior as lp
    >>> flow = torch.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    >>> lp.arrange.swap_gains(flow, lp.Line(3).distances())  # the best is to swap units 0 and 1
    tensor([[ 0., -6.,  0.],
            [-6.,  0., -4.],
            [ 0., -4.,  0.]], dtype=torch.float64)

    Args:
        flow: A, (units, units), of either sign.
        lengths: D, (places, places), for as many places as units, from place (column) to place (row); finite.
        order: π, the place of each unit, (units,); None: unit k is at place k.
        linear: L, (units, places), the cost of each unit at each place; None: 0.

    Returns:
        (units, units) float64, symmetric; negative for a swap that makes the sum smaller.

    Raises:
        ValueError, TypeError: matrices that are not square, of the same size and finite, or an order that is not a
            permutation.
        Problem: the matrices do not fit into this machine's memory.
    """
    with torch.no_grad(), aside():
        a = _square("flow", flow, None)
        d, m = _square("lengths", lengths, len(a)), None if linear is None else _square("linear", linear, len(a))
        at = torch.arange(len(a)) if order is None else permutation("order", order, len(a))
        problem = Quadratic(a, d, m)
        found = at.numpy()
        return torch.from_numpy(problem.gains(found, problem.products(found, True), True))


def _square(name: str, value: Any, units: int | None) -> Tensor:
    n = "units" if units is None else units
    expected = f"a matrix ({n}, {n}) of finite numbers"
    if not isinstance(value, Tensor) or value.is_complex():
        raise wrong_type(name, value, expected)
    if value.dim() != 2 or value.shape[0] != value.shape[1] or units not in (None, len(value)) or not len(value):
        raise wrong(name, value, expected)
    if not value.isfinite().all():
        raise wrong(name, "numbers that are not finite", expected)
    return value.detach().to("cpu", torch.float64)


def _best(gains: Reals, least: float) -> Ints:
    """The best swaps of each unit, the best of all first, as pairs (swaps, 2)."""
    n = len(gains)
    k = min(TRIED, n - 1)
    other = np.argpartition(gains, k - 1, axis=1)[:, :k]
    change = np.take_along_axis(gains, other, axis=1)
    unit, which = np.nonzero(change < -least)
    other, change = other[unit, which], change[unit, which]
    # a swap that is among the best of both its units counts once
    key, first = np.unique(np.minimum(unit, other) * n + np.maximum(unit, other), return_index=True)
    key = key[np.argsort(change[first], kind="stable")]
    return np.stack([key // n, key % n], axis=1)


def _swap(problem: Quadratic, order: Ints, pairs: Ints, clock: Clock) -> float:
    """Make those swaps in ``order`` that are still good when their turn comes; returns the change of E."""
    total = 0.0
    for k, (u, v) in enumerate(pairs.tolist()):
        if k % BETWEEN == 0 and clock.over:
            break
        change = problem.change(order, u, v)
        if change < -problem.least:
            order[u], order[v] = order[v], order[u]
            total += change
    return total
