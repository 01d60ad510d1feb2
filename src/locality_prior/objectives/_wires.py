"""What the objectives that charge wires by their length have in common."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

import torch
from torch import Tensor

from locality_prior._check import wrong
from locality_prior._memory import aside
from locality_prior.geometry import Geometry
from locality_prior.placement import Between, Placement

P = ParamSpec("P")
Made = Callable[Concatenate[Geometry, Geometry, P], Tensor]

#: How many answers are kept for each target.
KEPT = 8


def kept(make: Made[P]) -> Made[P]:
    """Keep the tensors that ``make(target, source, …)`` returns, since an objective is asked for at every step.

    They are made as ordinary tensors on the CPU, unless ``make`` moves them. The last few are held for each target, for
    as long as the target lives. In compiled code they are constants.
    """
    memo: weakref.WeakKeyDictionary[Geometry, dict[Any, Tensor]] = weakref.WeakKeyDictionary()

    @wraps(make)
    def found(target: Geometry, source: Geometry, *rest: P.args, **options: P.kwargs) -> Tensor:
        answers = memo.setdefault(target, {})
        # the source is often the target, which a strong reference in here would keep alive
        asked = weakref.ref(source), rest, *options.items()
        answer = answers.get(asked)
        if answer is None:
            with aside():
                answer = make(target, source, *rest, **options)
            while len(answers) >= KEPT:
                del answers[next(iter(answers))]
            answers[asked] = answer
        return answer

    constant: Made[P] = torch.compiler.assume_constant_result(found)  # type: ignore[no-untyped-call]
    return constant


@kept
def lengths(target: Geometry, source: Geometry, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Lengths of the wires of every pair, (out, in), with 0 where a unit is wired to itself.

    Raises:
        ValueError: there is no way between two units.
    """
    d = connected(target, source).to(device, dtype)
    if target == source:
        d = d.clone().fill_diagonal_(0)
    return d


def connected(target: Geometry, source: Geometry) -> Tensor:
    """Distances of every pair, (out, in) float64, all of them finite."""
    d = target.distances(None if source is target else source)
    if not d.isfinite().all():
        raise wrong("target", f"{target!r}, in which some units are not connected", "a way between any two units")
    return d


def wide(weight: Tensor) -> Tensor:
    """A weight in the precision in which its objective is computed: float64 as it is, all else in float32."""
    return weight if weight.dtype == torch.float64 else weight.float()


def over_kernel(each: Tensor) -> Tensor:
    """Sums over the places of a kernel, (out, in, …) to (out, in)."""
    return each.flatten(2).sum(2) if each.dim() > 2 else each


def between_sheets(placed: Placement, name: str) -> list[tuple[Between, Geometry]]:
    """The matrices of a placed module, each with the places of its columns.

    Raises:
        ValueError: a module without weights, or one of which it is not known where its wires come from.
    """
    found = []
    for one in placed.matrices(name):
        if one.source is None:
            expected = f"{{{name!r}: (source, target)}} in place()"
            raise wrong("placed", f"{name} without the places that its wires come from", expected)
        found.append((one, one.source))
    return found
