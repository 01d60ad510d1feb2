"""Arrangements in one word, as flags and YAML name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from locality_prior._check import count, instance, number, positive, wrong

#: The word of a condition whose units stay where they are.
NONE = "none"
#: The word of units whose positions learn.
LEARNED = "learned"
EXPECTED = (
    "wires or responses, then :before, :during or :after, such as wires:after or responses:before,epochs=2; or learned"
)

By = Literal["wires", "responses"]
When = Literal["before", "during", "after"]
#: The one option that each moment has; "after" has none.
OPTIONS: dict[When, str | None] = {"before": "epochs", "during": "every", "after": None}
#: Steps of training between two improvements, unless a word says otherwise.
EVERY = 100


@dataclass(frozen=True)
class Arrangement:
    """What better places for the units of a network are found from, and when.

    >>> parse("arrange", "responses:before,epochs=2")
    Arrangement(by='responses', when='before', epochs=2, every=100)

    Attributes:
        by: what the places are found from: "wires", which become short, or "responses", so that neighbours respond
            alike.
        when: "before", "during" or "after" training.
        epochs: for "before", the epochs for which the control is trained first, by which units are then arranged; None:
            as many as the run's own.
        every: for "during", the steps of training between two improvements.
    """

    by: By
    when: When
    epochs: int | None = None
    every: int = EVERY

    def __str__(self) -> str:
        options = f",epochs={self.epochs}" if self.epochs is not None else ""
        options += f",every={self.every}" if self.every != EVERY else ""
        return f"{self.by}:{self.when}{options}"


@dataclass(frozen=True)
class Learned:
    """Units of a network whose positions learn, beginning at the places that the units have.

    >>> parse("arrange", "learned:lr=0.5")
    Learned(lr=0.5, apart=1.0)

    Attributes:
        lr: the learning rate of the positions, which falls as that of the run does. They have no weight decay.
        apart: how strongly units are kept at distances of at least 1: see :func:`~locality_prior.objectives.apart`.
    """

    lr: float = 1.0
    apart: float = 1.0

    #: They move all the time: there is no moment at which an order is found.
    when = "always"
    by = LEARNED
    epochs = None

    def __str__(self) -> str:
        said = [f"{name}={getattr(self, name):g}" for name in ("lr", "apart") if getattr(self, name) != 1]
        return LEARNED + (f":{','.join(said)}" if said else "")


def _learned(name: str, text: str, rest: str) -> Learned:
    values: dict[str, float] = {}
    for option in rest.split(",") if rest else []:
        key, _, value = (part.strip() for part in option.partition("="))
        if key not in ("lr", "apart") or key in values:
            raise wrong(
                name, repr(text), "learned, with lr=NUMBER and apart=NUMBER at most once, such as learned:lr=0.5"
            )
        try:
            read = float(value)
        except ValueError:
            raise wrong(name, repr(text), f"a number as its {key}") from None
        values[key] = positive(f"{name} lr", read) if key == "lr" else number(f"{name} apart", read, least=0.0)
    return Learned(**values)


def parse(name: str, text: Any) -> Arrangement | Learned | None:
    """What a word says; None for ``none``.

    Raises:
        ValueError, TypeError: no such arrangement; the error names the argument ``name``.
    """
    said = instance(name, text, str, EXPECTED).strip()
    if said == NONE:
        return None
    head, _, rest = said.partition(":")
    if head.strip().lower() == LEARNED:
        return _learned(name, said, rest)
    by, (when, *options) = head.strip().lower(), [part.strip().lower() for part in rest.split(",")]
    if by not in get_args(By) or when not in get_args(When):
        raise wrong(name, repr(text), EXPECTED)
    known: str | None = OPTIONS[when]  # type: ignore[index]
    values: dict[str, int] = {}
    for option in options:
        key, _, value = (part.strip() for part in option.partition("="))
        if key != known or key in values:
            raise wrong(name, repr(text), f"{by}:{when}" + (f", with {known}=N at most once" if known else " alone"))
        read: Any = int(value) if value.isdecimal() else value or "nothing"
        values[key] = count(f"{name} {key}", read, least=0 if key == "epochs" else 1, most=1_000_000)
    return Arrangement(by, when, **values)  # type: ignore[arg-type]


def canonical(name: str, text: Any) -> str:
    """The one spelling of an arrangement."""
    found = parse(name, text)
    return NONE if found is None else str(found)
