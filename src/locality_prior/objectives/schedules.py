"""How strong an objective is: a number, or a function of how far training has come, from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from locality_prior._check import number, positive, wrong, wrong_type

#: A function from the share of training that is done, 0 to 1, to a strength.
Strength = Callable[[float], float]


@dataclass(frozen=True)
class Schedule:
    """strength · min(1, progress / until) · factor^k, with k the number of ``at`` that progress has reached.

    :func:`constant`, :func:`ramp` and :func:`steps` make one.

    >>> import locality_prior as lp
    >>> strength = lp.objectives.Schedule(0.5, until=0.1)
    >>> [strength(progress) for progress in (0.0, 0.05, 0.1, 1.0)]
    [0.0, 0.25, 0.5, 0.5]

    Args:
        strength: at least 0.
        until: the share of training over which the strength rises from 0; 0: it is there from the start.
        at: the shares of training at which it is multiplied by ``factor``, in increasing order.
        factor: above 0.
    """

    strength: float
    until: float = 0.0
    at: tuple[float, ...] = ()
    factor: float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", number("strength", self.strength, least=0.0))
        object.__setattr__(self, "until", number("until", self.until, 0.0, 1.0))
        object.__setattr__(self, "factor", positive("factor", self.factor))
        if not isinstance(self.at, (list, tuple)):
            raise wrong_type("at", self.at, "shares of training, such as (0.25, 0.5)")
        at = tuple(number("at", share, 0.0, 1.0) for share in self.at)
        if list(at) != sorted(set(at)):
            raise wrong("at", self.at, "shares of training in increasing order")
        object.__setattr__(self, "at", at)

    def __call__(self, progress: float) -> float:
        """The strength when the share ``progress`` of training is done."""
        done = number("progress", progress, 0.0, 1.0)
        risen = min(1.0, done / self.until) if self.until else 1.0
        return self.strength * risen * self.factor ** sum(done >= share for share in self.at)

    @property
    def moves(self) -> bool:
        """Whether the strength changes while training goes on."""
        return bool(self.strength) and (self.until > 0 or (bool(self.at) and self.factor != 1))


def constant(strength: float) -> Schedule:
    """The same strength throughout.

    >>> import locality_prior as lp
    >>> strength = lp.objectives.constant(0.5)
    >>> strength(0.0), strength(1.0)
    (0.5, 0.5)
    """
    return Schedule(strength)


def ramp(strength: float, until: float = 0.1) -> Schedule:
    """A strength that rises in proportion to progress, up to ``until``, and then stays.

    >>> import locality_prior as lp
    >>> strength = lp.objectives.ramp(0.5, until=0.1)
    >>> [strength(progress) for progress in (0.0, 0.05, 0.1, 1.0)]
    [0.0, 0.25, 0.5, 0.5]
    """
    return Schedule(strength, until=positive("until", until))


def steps(strength: float, at: Sequence[float] = (0.25, 0.5), factor: float = 10.0) -> Schedule:
    """A strength that is multiplied by ``factor`` each time training has come to one of ``at``.

    The defaults are those of brain-inspired modular training (BIMT), ×10 at a quarter and at half of training.

    >>> import locality_prior as lp
    >>> strength = lp.objectives.steps(0.5, at=(0.25, 0.5))
    >>> [strength(progress) for progress in (0.0, 0.25, 0.5, 1.0)]
    [0.5, 5.0, 50.0, 50.0]
    """
    return Schedule(strength, at=tuple(at), factor=factor)


def as_strength(value: float | Strength) -> Strength:
    """A number, a schedule, or a function of one's own, as a function of progress.

    Raises:
        ValueError, TypeError: a number below 0, or something else.
    """
    if isinstance(value, Schedule) or (callable(value) and not isinstance(value, type)):
        return value
    return constant(number("strength", value, least=0.0))
