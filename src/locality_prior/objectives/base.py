"""An objective bound to a placement: a number that a training loop adds to its loss."""

from __future__ import annotations

import inspect
import math
import sys
import weakref
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from locality_prior._check import Problem, import_path, instance, wrong
from locality_prior.geometry import Geometry
from locality_prior.objectives.schedules import Schedule, Strength, as_strength
from locality_prior.placement import Placed, Placement, rows

#: What an objective looks at: the weights of the placed modules, or their responses.
Of = Literal["weights", "responses"]


class Objective(ABC):
    """strength(progress) · Σ over the placed modules of what the objective measures there.

    A training loop adds it to its loss:

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU())
    >>> objective = lp.objectives.TopoLoss(lp.place(net, {"0": lp.Grid(8, 8)}), strength=0.5, factor=2)
    >>> loss = net(torch.randn(5, 4)).square().mean() + objective()
    >>> loss.backward()

    A subclass takes its options as keyword-only arguments with plain defaults, and passes them on:
    ``super().__init__(placed, strength, factor=factor)``. Each becomes an attribute.

    Args:
        placed: the modules, and where their units are.
        strength: a number of at least 0, a :class:`~locality_prior.objectives.Schedule`, or a function from the share
            of training that is done, 0 to 1, to a number.
        options: the objective's own settings.
    """

    #: The word that names it in flags and study files, which is also the name of its function.
    WORD: ClassVar[str]
    #: What it looks at.
    OF: ClassVar[Of] = "weights"
    #: Whether the value is the mean over the modules, and not their sum.
    MEAN: ClassVar[bool] = False
    #: Whether it adds something to the loss. What only changes the model or its weights has the value 0.
    LOSS: ClassVar[bool] = True

    def __init__(self, placed: Placement, strength: float | Strength, **options: Any) -> None:
        self.placed = instance("placed", placed, Placement, "a placement, as place() returns it")
        if not len(placed):
            raise wrong("placed", "no module", "a placement of at least one")
        self.strength = as_strength(strength)
        self.options = options
        for name, value in options.items():
            setattr(self, name, value)

    @abstractmethod
    def parts(self) -> dict[str, Tensor]:
        """The objective in each placed module, by name, unweighted: differentiable scalars."""

    def value(self) -> Tensor:
        """The objective over all placed modules, unweighted: a differentiable scalar."""
        each = torch.stack(list(self.parts().values()))
        return each.mean() if self.MEAN else each.sum()

    def weight(self, progress: float | None = None) -> float:
        """The strength when the share ``progress`` of training is done. A constant strength needs no ``progress``."""
        if progress is None:
            if not isinstance(self.strength, Schedule) or self.strength.moves:
                raise wrong("progress", None, "the share of training that is done, 0 to 1, since the strength changes")
            progress = 0.0
        return float(self.strength(progress))

    def __call__(self, progress: float | None = None) -> Tensor:
        """What the loop adds to its loss: strength · value."""
        return self.weight(progress) * self.value()

    def after_step(self, progress: float | None = None) -> None:  # noqa: B027  # few have anything to do
        """What is done to the weights after the optimiser's step. Most objectives do nothing."""

    def remove(self) -> None:  # noqa: B027
        """Take away whatever the objective has attached to the model."""

    def config(self) -> dict[str, Any]:
        """Plain values (JSON, YAML) from which :func:`from_config` binds an equal objective to a placement."""
        options = {k: list(v) if isinstance(v, tuple) else v for k, v in self.options.items()}
        return {"type": type(self).__name__, "strength": _plain(self.strength), **options}

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({', '.join(self.placed)}: strength={_plain(self.strength)!r}{options})"


class OfWeights(Objective):
    """An objective that is measured from the weights of each placed module.

    It is measured once when it is made, so that a module that does not fit is an error then.
    """

    def __init__(self, placed: Placement, strength: float | Strength, **options: Any) -> None:
        super().__init__(placed, strength, **options)
        with torch.no_grad():
            self.parts()

    @abstractmethod
    def of(self, name: str) -> Tensor:
        """The objective in the placed module ``name``, a differentiable scalar."""

    def parts(self) -> dict[str, Tensor]:
        return {name: self.of(name) for name in self.placed}


class OfResponses(Objective):
    """An objective that is measured from what the placed modules gave in the last training pass of the model.

    Hooks keep the modules' outputs in each forward pass that has gradients. Measuring the objective lets them go, so it
    can be measured once for each pass. :meth:`remove` takes the hooks away.
    """

    OF = "responses"

    def __init__(self, placed: Placement, strength: float | Strength, **options: Any) -> None:
        super().__init__(placed, strength, **options)
        self._seen: dict[str, list[Tensor]] = {name: [] for name in placed}
        hooks = [placed.model.register_forward_pre_hook(_Begin(self._seen))]
        for name in placed:
            hooks.append(placed[name].module.register_forward_hook(_See(placed[name], self._seen[name])))
        # the model holds no objective, so that one that is not used any more goes, and its hooks with it
        self._remove = weakref.finalize(self, _take_away, hooks)
        self._remove.atexit = False
        compile_again()

    @abstractmethod
    def of(self, responses: Tensor, geometry: Geometry) -> Tensor:
        """The objective of the responses (samples, units) of one sheet, a differentiable scalar."""

    def parts(self) -> dict[str, Tensor]:
        found = {}
        for name, parts in self._seen.items():
            if not parts:
                raise Problem(
                    f"{name} was not called in the model's last training pass, so {type(self).__name__} has no "
                    "responses of it. Call the model, with gradients, before each objective(), and place modules "
                    "that it calls."
                )
            found[name] = self.of(parts[0] if len(parts) == 1 else torch.cat(parts), self.placed[name].geometry)
        _forget(self._seen)
        return found

    def remove(self) -> None:
        self._remove()
        _forget(self._seen)

    def __reduce__(self) -> tuple[Any, ...]:
        # a copy is bound anew, to the copied placement, and has seen nothing
        return _bound, (type(self), self.placed, self.strength, self.options)


class _Hook:
    """A hook of an objective, which does nothing in a copy of the model: the objective is not the copy's."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _Idle, ()


class _Idle(_Hook):
    def __call__(self, *_: Any) -> None:
        pass


class _Begin(_Hook):
    """Forgets the responses of the pass before."""

    def __init__(self, seen: dict[str, list[Tensor]]) -> None:
        self.seen = seen

    def __call__(self, *_: Any) -> None:
        if torch.is_grad_enabled():
            _forget(self.seen)


class _See(_Hook):
    """Keeps a module's responses."""

    def __init__(self, placed: Placed, parts: list[Tensor]) -> None:
        self.placed, self.parts = placed, parts

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            self.parts.append(rows(self.placed, output, items=False))


def _forget(seen: dict[str, list[Tensor]]) -> None:
    for parts in seen.values():
        parts.clear()


def _take_away(hooks: list[RemovableHandle]) -> None:
    for hook in hooks:
        hook.remove()


def _bound(kind: type[Objective], placed: Placement, strength: Strength, options: dict[str, Any]) -> Objective:
    return kind(placed, strength, **options)


class WithoutLoss(Objective):
    """An objective that adds nothing to the loss: it changes what the model computes, or its weights after a step.

    Its value is 0. Its strength says how much it changes.
    """

    LOSS = False

    def parts(self) -> dict[str, Tensor]:
        first = next(self.placed.model.parameters(), None)
        zero = torch.zeros((), device=None if first is None else first.device)
        return dict.fromkeys(self.placed, zero)

    def fixed(self, word: str, most: float = math.inf) -> float:
        """The strength, where it is above 0, at most ``most``, and the same throughout training."""
        schedule = self.strength
        if not isinstance(schedule, Schedule) or schedule.moves or not 0 < schedule.strength <= most:
            given = f"{_plain(schedule)} for {word}" if isinstance(schedule, Schedule) else "a function"
            below = "" if most == math.inf else f" and at most {most:g}"
            raise wrong("strength", given, f"one number above 0{below}, which does not change in training")
        return schedule.strength


def compile_again() -> None:
    """Let go of compiled code after a change of hooks, which it does not look at again to see whether it fits.

    Without this, a network that was compiled before, or one of the same class, would go on without the new hooks.
    """
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


def options_of(kind: type[Objective]) -> dict[str, Any]:
    """The options of a kind of objective, with their defaults."""
    parameters = inspect.signature(kind).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def usual_strength(kind: type[Objective]) -> float:
    """The strength that a kind of objective has unless another is given: its paper's."""
    return float(inspect.signature(kind).parameters["strength"].default)


def _plain(strength: Strength) -> Any:
    """A strength as plain values."""
    if not isinstance(strength, Schedule):
        return import_path("strength", strength)
    if not strength.moves:
        return strength.strength
    told = {"strength": strength.strength, "until": strength.until, "at": list(strength.at), "factor": strength.factor}
    return told if strength.at else {k: told[k] for k in ("strength", "until")}
