"""What every locality layer is: weights that pass through a prior, and a plain layer to fold to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from locality_prior import cost as costs
from locality_prior import geometry as geometries
from locality_prior._check import wrong
from locality_prior.cost import Cost
from locality_prior.geometry import Geometry, default_sheet
from locality_prior.prior import Prior, aside

M = TypeVar("M", bound=nn.Module)

#: The most entries of a matrix that a sparse layer is made into without being told to.
DENSE = 1 << 26


def same(matrix: Tensor) -> Tensor:
    """A matrix (out, in) as the weight that it is."""
    return matrix


def stacked(matrix: Tensor, times: int) -> Tensor:
    """A matrix (out, in), or (out, 1), for each of several weights that lie below one another as one."""
    return matrix.repeat(times, 1)


@dataclass(frozen=True, eq=False)
class Wiring:
    """One weight W of a layer that passes through a prior: what penalties and measures are taken from.

    ``spread`` gives a matrix (out, in) of the rule's pairs the weight's shape, or one that broadcasts to it. Where
    the layer computes wire by wire (``sparse``), the weight is (wires,), and so is what belongs to it.
    """

    name: str
    weight: Tensor
    rule: Prior
    _prior: Callable[[], Tensor]
    _there: Callable[[], Tensor | None]
    spread: Callable[[Tensor], Tensor] = same
    sparse: bool = False

    @property
    def prior(self) -> Tensor:
        """P, of the weight's shape or one that broadcasts to it."""
        return self._prior()

    @property
    def there(self) -> Tensor | None:
        """1 where there is a wire, 0 elsewhere, of the prior's shape; None where every weight has one."""
        return self._there()

    @property
    def raw(self) -> Tensor:
        """|W| on the wires, of the weight's shape."""
        there = self.there
        return self.weight.abs() if there is None else (self.weight * there).abs()

    @property
    def strength(self) -> Tensor:
        """|V|, V = P∘W, of the weight's shape."""
        return (self.weight * self.prior).abs()

    def lengths(self) -> Tensor:
        """Lengths of the wires, 0 where there is none."""
        get = self.rule.wire_lengths if self.sparse else self.rule.lengths
        return self.spread(get(self.weight.dtype, self.weight.device))

    def charges(self, cost: Cost) -> Tensor:
        """What ``cost`` asks for each wire, 0 where there is none; ValueError where that is not finite."""
        get = self.rule.wire_charges if self.sparse else self.rule.charges
        return self.spread(get(cost, self.weight.dtype, self.weight.device))

    def row_scale(self) -> Tensor | None:
        """r_i for each weight; None without rescaling."""
        scale = self.rule.row_scale
        if scale is None:
            return None
        scale = scale.to(self.weight)
        return scale[self.rule.wires().rows().to(scale.device)] if self.sparse else self.spread(scale[:, None])


class Locality(nn.Module):
    """A layer some of whose weights pass through a prior, V = P∘W."""

    #: Arguments that the plain torch layer has too.
    ARGUMENTS: ClassVar[tuple[str, ...]] = ()
    #: Arguments of ours.
    PLACES: ClassVar[tuple[str, ...]] = ("source", "target", "cost", "rescale")

    def wirings(self) -> list[Wiring]:
        """The weights that pass through a prior."""
        raise NotImplementedError

    def fold(self, dense: bool = False) -> nn.Module:
        """The plain torch layer with the weights P∘W, always a copy."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """Plain values from which :meth:`from_config` makes an equal layer, but for its weights."""
        ours = {name: getattr(self, name) for name in self.PLACES}
        given = arguments(self, self.ARGUMENTS) | {
            k: v.config() if isinstance(v, (Geometry, Cost)) else v for k, v in ours.items()
        }
        return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        """P with each entry times a number from 0.5 to 1.5, for as long as the block: what uses P then shows it."""
        raise NotImplementedError

    @classmethod
    def keys(cls) -> set[str]:
        """The names in :meth:`config`."""
        return {*cls.ARGUMENTS, *cls.PLACES}

    @classmethod
    def from_config(cls, config: dict[str, Any], **options: Any) -> Self:
        """The layer that ``config`` describes; ``options`` are further arguments, such as ``device`` and ``dtype``."""
        made = dict(config)
        for name, value in config.items():
            if value is not None and name in ("source", "target", "units", "positions"):
                made[name] = geometries.from_config(value)
            elif value is not None and name in ("cost", "position_cost"):
                made[name] = costs.from_config(value)
        return cls(**made, **options)


def arguments(module: nn.Module, names: Sequence[str]) -> dict[str, Any]:
    """The constructor's arguments ``names`` of a torch layer, or of ours that extends it."""
    values = {name: getattr(module, name, None) for name in names}
    if isinstance(module, nn.MultiheadAttention):
        values |= {"bias": module.in_proj_bias is not None, "add_bias_kv": module.bias_k is not None}
    elif not isinstance(module, nn.RNNBase):
        values["bias"] = module.bias is not None
    return values


def own_places(name: str, units: Geometry | None, n: int) -> Geometry:
    """Places of ``n`` units to themselves; the first cells of a square sheet if none are given."""
    if units is None:
        return default_sheet(n)
    if not isinstance(units, Geometry):
        raise wrong(name, repr(units), "a geometry, such as Grid(7, 7)")
    if len(units) != n:
        raise wrong(name, f"{units!r} of {len(units)} units", f"{n} units")
    return units


def shaken(values: Tensor) -> Tensor:
    """``values`` times numbers from 0.5 to 1.5, always the same ones."""
    factors = torch.rand(values.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    return values * factors.to(values)


class Kept:
    """A tensor made in float64, rounded to the dtype of a weight and kept on its device.

    It is no buffer: what moves, casts or broadcasts a module's tensors cannot leave it wrong.
    """

    _kept: Tensor | None = None

    def _make(self, other: Tensor) -> Tensor:
        """The tensor, in the dtype of ``other`` and on its device."""
        raise NotImplementedError

    def like(self, other: Tensor) -> Tensor:
        """The tensor, made anew where the last one has another dtype or device."""
        kept = self._kept
        if kept is None or kept.dtype != other.dtype or kept.device != other.device:
            with aside():
                kept = self._make(other)
            self._kept = kept
        return kept

    @contextmanager
    def perturbed(self, other: Tensor) -> Iterator[None]:
        """The tensor shaken, for as long as the block."""
        before = self.like(other)
        self._kept = shaken(before)
        try:
            yield
        finally:
            self._kept = before


class Spread(Kept):
    """P of a rule in the shape of a weight."""

    def __init__(self, rule: Prior, spread: Callable[[Tensor], Tensor]) -> None:
        self.rule, self.spread = rule, spread

    def _make(self, other: Tensor) -> Tensor:
        return self.spread(self.rule.dense(other.dtype, other.device).detach())

    def there(self, weight: Tensor) -> Tensor | None:
        """Where there is a wire: 1 or 0; None where every weight has one (or what it is cannot be known: meta)."""
        if self.rule.flat or weight.is_meta or self.like(weight).min() > 0:
            return None
        return self.like(weight).sign()


class Plain(Locality):
    """A torch layer whose named parameters pass through priors, each whole: what convolution and recurrence are.

    It comes before the torch class that it extends, whose state dict and initialisation (of W) it keeps. Where there is
    no wire W is 0, stays 0 and gets no gradient.
    """

    #: The named parameters' priors; none while torch's class is being made.
    _spreads: Mapping[str, Spread] = MappingProxyType({})

    def _wire(self, spreads: dict[str, Spread]) -> None:
        """Put the named parameters behind their priors; the last step of making a layer."""
        self._spreads = spreads
        self.register_load_state_dict_post_hook(_after_loading)  # type: ignore[no-untyped-call]  # when children are loaded too
        self._drop_unwired()
        self._make_ready()

    def effective(self, name: str) -> Tensor:
        """V = P∘W of the parameter ``name``; differentiable with respect to W."""
        weight = self._weight(name)
        spread = self._spreads.get(name)
        return weight if spread is None or spread.rule.flat else weight * spread.like(weight)

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name, spread in {id(s): (n, s) for n, s in self._spreads.items()}.values():
                stack.enter_context(spread.perturbed(self._weight(name)))
            yield

    def _weight(self, name: str) -> Tensor:
        """The parameter ``name``, or the tensor that functional_call or a parametrisation puts there."""
        where, _, last = name.rpartition(".")
        weight: Tensor = getattr(self.get_submodule(where), last)
        return weight

    def wirings(self) -> list[Wiring]:
        def one(name: str, spread: Spread) -> Wiring:
            weight = self._weight(name)
            return Wiring(
                name, weight, spread.rule, lambda: spread.like(weight), lambda: spread.there(weight), spread.spread
            )

        return [one(name, spread) for name, spread in self._spreads.items()]

    def fold(self, dense: bool = False) -> nn.Module:
        kind = next(k for k in type(self).__mro__ if not issubclass(k, Locality))
        plain: nn.Module = kind(**arguments(self, self.ARGUMENTS), device="meta")  # type: ignore[assignment, call-arg]
        with torch.no_grad():
            values = {name: self.effective(name).detach().clone() for name, _ in plain.named_parameters()}
        plain.load_state_dict(values, assign=True)
        for name, parameter in plain.named_parameters():
            parameter.requires_grad_(self._weight(name).requires_grad)
        return plain.train(self.training)

    def extra_repr(self) -> str:
        parts = [f"{name}={getattr(self, name)}" for name in self.PLACES if getattr(self, name) not in (None, False)]
        return ", ".join(part for part in (super().extra_repr(), *parts) if part)

    def _make_ready(self) -> None:
        """Make now what compiled code must find made."""
        for name, spread in self._spreads.items():
            if not spread.rule.flat:
                spread.like(self._weight(name))

    def reset_parameters(self) -> None:
        """As torch's own layer draws them, 0 where there is no wire."""
        super().reset_parameters()  # type: ignore[misc]
        self._drop_unwired()

    def _owned(self) -> dict[str, nn.Parameter]:
        """The weights behind priors that are parameters here, and not made of others by a parametrisation."""
        return {n: w for n in self._spreads if isinstance(w := self._weight(n), nn.Parameter)}

    def _drop_unwired(self) -> None:
        owned = self._owned()
        for wiring in self.wirings():
            there = wiring.there
            if there is not None and wiring.name in owned:
                with torch.no_grad():
                    wiring.weight.mul_(there)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._make_ready()
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._held = self._owned()
        super()._load_from_state_dict(*args, **kwargs)


def _after_loading(layer: Plain, keys: object) -> None:
    """Set what was loaded to 0 where there is no wire; the tensors of load_state_dict(…, assign=True) are copied."""
    for name, parameter in layer.__dict__.pop("_held", {}).items():
        loaded = layer._weight(name)
        if loaded is not parameter:
            where, _, last = name.rpartition(".")
            setattr(layer.get_submodule(where), last, nn.Parameter(loaded.detach().clone(), parameter.requires_grad))
    layer._drop_unwired()


def locality_layers(module: nn.Module) -> Iterator[tuple[str, Locality]]:
    """The locality layers in ``module`` (itself, if it is one), each once, with their names."""
    if not isinstance(module, nn.Module):
        raise TypeError(f"model: got {type(module).__name__}, expected a torch.nn.Module")
    for name, child in module.named_modules():
        if isinstance(child, Locality):
            yield name, child


def fold(module: nn.Module, dense: bool = False) -> nn.Module:
    """Plain torch for a locality layer, or for a model that has some: equal outputs, always a copy.

    A layer's hooks are its own and stay behind, and a module that reads a layer's ``weight`` without calling it, as
    ``nn.MultiheadAttention`` does, finds P∘W there afterwards.

    Args:
        module: a layer, or a model that has some.
        dense: whether a sparse layer may become a matrix of any size.

    Raises:
        ValueError: there is no locality layer in ``module``, or one too large to be dense.
    """
    if isinstance(module, Locality):
        return module.fold(dense)
    if not any(locality_layers(module)):
        raise wrong("module", type(module).__name__, "a model with a locality layer")
    return with_layers(module, {layer: layer.fold(dense) for _, layer in locality_layers(module)})


def with_layers(module: M, others: Mapping[Any, nn.Module]) -> M:
    """A copy of ``module`` with other layers in the place of its own; one used in two places stays one."""
    return copy.deepcopy(module, {id(layer): other for layer, other in others.items()})
