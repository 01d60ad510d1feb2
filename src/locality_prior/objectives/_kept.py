"""What depends on a geometry alone, made once."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import torch
from torch import Tensor

from locality_prior._memory import aside
from locality_prior.geometry import Geometry, still

T = TypeVar("T")
P = ParamSpec("P")
Made = Callable[Concatenate[Geometry, Geometry, P], Tensor]

#: How many answers are kept for each target.
KEPT = 8


class Kept(Generic[T]):
    """What ``make`` makes of a geometry and plain values, kept under a number for as long as the geometry lives.

    Compiled code can hold a number: a function that gives it is marked with ``torch.compiler.assume_constant_result``,
    and ``made[number]`` is looked up in the code.
    """

    def __init__(self, make: Callable[..., T]) -> None:
        self.make = make
        self.made: dict[int, T] = {}
        # beside the numbers, the geometry that they are kept for; others that are equal find them too
        self._numbers: weakref.WeakKeyDictionary[Geometry, tuple[weakref.ref[Geometry], dict[Any, int]]]
        self._numbers = weakref.WeakKeyDictionary()
        self._next = 0

    def number(self, geometry: Geometry, *values: Any) -> int:
        """The number of something made from a geometry and values, which must not hold the geometry itself.

        Raises:
            ValueError: a geometry whose positions learn: nothing made from it can be kept.
        """
        still("geometry", geometry)
        held = self._numbers.get(geometry)
        first = None if held is None else held[0]()
        if held is None or first is None:
            held, first = (weakref.ref(geometry), {}), geometry
            self._numbers[geometry] = held
            weakref.finalize(geometry, self._forget, held[1]).atexit = False
        numbers = held[1]
        if values not in numbers:
            with torch.no_grad(), aside():
                made = self.make(first, *values)
            self._next += 1
            numbers[values] = self._next
            self.made[self._next] = made
        return numbers[values]

    def _forget(self, numbers: dict[Any, int]) -> None:
        for number in numbers.values():
            self.made.pop(number, None)


def kept(make: Made[P]) -> Made[P]:
    """Keep the tensors that ``make(target, source, …)`` returns, since an objective is asked for at every step.

    They are made as ordinary tensors on the CPU, unless ``make`` moves them. The last few are held for each target, for
    as long as the target lives. In compiled code they are constants. If positions learn, nothing is kept.
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

    @wraps(make)
    def now_or_kept(target: Geometry, source: Geometry, *rest: P.args, **options: P.kwargs) -> Tensor:
        if target.learned or source.learned:
            return make(target, source, *rest, **options)
        return constant(target, source, *rest, **options)

    return now_or_kept  # type: ignore[return-value]
