"""What all locality layers share: weights behind a prior, and the plain torch layer that they fold to."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from locality_prior import cost as costs
from locality_prior import geometry as geometries
from locality_prior._check import count, instance, wrong, wrong_type
from locality_prior.cost import Cost, as_cost
from locality_prior.functional import Workspace, locality_linear
from locality_prior.geometry import Distances, Geometry, default_sheet
from locality_prior.moving import Moving
from locality_prior.prior import Prior, aside
from locality_prior.sparse import Kernel, Pattern

M = TypeVar("M", bound=nn.Module)

#: The ways to compute with V = P∘W.
BACKENDS = ("auto", "dense", "windowed", "wires")

#: A sparse layer with more pairs than this becomes a dense matrix only where the caller asks for it.
DENSE = 1 << 26
#: The most units, or channels, on one side of a layer.
MOST = 1 << 26
#: The most entries of a weight.
MOST_ENTRIES = 1 << 32


def same(matrix: Tensor) -> Tensor:
    """The matrix (out, in) itself, or values (wires,): for a weight with one entry for each pair, or for each wire."""
    return matrix


def stacked(matrix: Tensor, times: int) -> Tensor:
    """A matrix (out, in) or (out, 1), or values (wires,), ``times`` times over: for weights of stacked matrices."""
    return matrix.repeat(times, *[1] * (matrix.dim() - 1))


@dataclass(frozen=True, eq=False)
class Wiring:
    """One weight W that passes through a prior. Penalties and measures are computed from it.

    ``spread`` turns a matrix (out, in) over the rule's pairs into the shape of the weight, or into one that broadcasts
    to it. In a sparse layer the weight is (wires, …), with the wires of ``pattern``, and so is everything below;
    ``spread`` then takes values (wires,) over the rule's wires in place of a matrix.
    """

    name: str
    weight: Tensor
    rule: Prior
    _prior: Callable[[], Tensor]
    _support: Callable[[], Tensor | None]
    spread: Callable[[Tensor], Tensor] = same
    pattern: Pattern | None = None
    #: P as it is now, if the positions of a side learn; what depends on it then has a gradient for them.
    moving: Moving | None = None

    @property
    def sparse(self) -> bool:
        """Whether the weight is (wires, …)."""
        return self.pattern is not None

    @property
    def prior(self) -> Tensor:
        """P, in the weight's shape or one that broadcasts to it."""
        return self._prior()

    @property
    def support(self) -> Tensor | None:
        """Which entries of P have a wire, as a boolean tensor of P's shape; None where all of them do."""
        return self._support()

    @property
    def raw(self) -> Tensor:
        """|W|, and 0 where there is no wire, in the weight's shape."""
        support = self.support
        return self.weight.abs() if support is None else (self.weight * support).abs()

    @property
    def strength(self) -> Tensor:
        """|V| with V = P∘W, in the weight's shape."""
        return (self.weight * self.prior).abs()

    def lengths(self) -> Tensor:
        """Lengths of the wires, and 0 where there is no wire."""
        if self.moving is not None:
            return self.moving.distances().to(self.weight.dtype)
        get = self.rule.wire_lengths if self.sparse else self.rule.lengths
        return self.spread(get(self.weight.dtype, self.weight.device))

    def charges(self, cost: Cost) -> Tensor:
        """The cost of each wire under ``cost``, and 0 where there is no wire; ValueError where that is not finite."""
        if self.moving is not None:
            d = self.moving.distances()
            charged = cost.cost(d).to(self.weight.dtype)
            if not charged.isfinite().all():
                at = float(d[~charged.isfinite()].min())
                raise wrong("cost", f"{cost!r}, infinite in {charged.dtype} at d = {at:g}", "a price for every wire")
            return charged
        get = self.rule.wire_charges if self.sparse else self.rule.charges
        return self.spread(get(cost, self.weight.dtype, self.weight.device))

    def row_scale(self) -> Tensor | None:
        """The factor r_i of each weight; None without rescaling."""
        scale = self.rule.row_scale if self.moving is None else self.moving.row_scale()
        if scale is None:
            return None
        scale = scale.to(self.weight)
        return self.spread(scale[:, None] if self.pattern is None else scale[self.pattern.units(scale.device)])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the weight has in a dense layer, (times · out, in, …)."""
        own = self.weight.shape
        return tuple(own) if self.pattern is None else (*self.pattern.wires.shape, *own[1:])

    def matrix(self, dense: bool = False) -> Tensor:
        """V in :attr:`shape`, with an entry for each pair, whether or not it has a wire.

        Raises:
            ValueError: the layer is sparse, :attr:`shape` has more than ``DENSE`` entries, and ``dense`` is False.
        """
        v = self.weight if self.rule.flat else self.weight * self.prior
        if self.pattern is None:
            return v
        if not dense and math.prod(self.shape) > DENSE:
            given = f"False for {' × '.join(map(str, self.shape))} weights"
            raise wrong("dense", given, f"at most {DENSE} of them, or dense=True")
        return self.pattern.scatter(v)

    def takes(self, weight: Tensor) -> bool:
        """Whether ``weight`` fits these wires: it has an entry for each pair, or for each wire alone."""
        if weight.shape in (self.weight.shape, self.shape):
            return True
        if self.sparse or not self.rule.bounded:
            return False
        wires = len(self.weight) // self.rule.shape[0] * self.rule.wires().count
        return self.shape[1] == self.rule.shape[1] and weight.shape == (wires, *self.shape[2:])

    def own(self, weight: Any) -> Any:
        """A ``weight`` that fits (:meth:`takes`), in this layer's form: a matrix on the wires, or wires as a matrix."""
        if not isinstance(weight, Tensor) or weight.shape == self.weight.shape or not self.takes(weight):
            return weight  # torch says what is wrong with it
        if self.pattern is not None:
            return self.pattern.gather(weight)
        return Pattern(self.rule, "wires", len(self.weight) // self.rule.shape[0]).scatter(weight)


class Locality(nn.Module):
    """A layer in which some weights pass through a prior: it computes with V = P∘W."""

    #: Constructor arguments that the plain torch layer has too.
    ARGUMENTS: ClassVar[tuple[str, ...]] = ()
    #: Constructor arguments that only the locality layer has.
    PLACES: ClassVar[tuple[str, ...]] = ("source", "target", "cost", "rescale")

    def wirings(self) -> list[Wiring]:
        """The weights that pass through a prior."""
        raise NotImplementedError

    def fold(self, dense: bool = False) -> nn.Module:
        """The plain torch layer with the weights P∘W. It shares no memory with this layer."""
        raise NotImplementedError

    @property
    def cost(self) -> Cost:
        """The cost c(d) of a wire of length d.

        It may be changed during training, for example to raise it step by step. W and its optimiser stay as they are
        and P is computed anew, so the function of the layer changes. In a dense layer W becomes 0 where the new cost
        has no wire. The wires of a sparse or pruned layer are fixed, so its new cost must have the same wires.
        """
        return self._cost()

    @cost.setter
    def cost(self, cost: Cost | str) -> None:
        self._set_cost(as_cost("cost", cost))

    def _cost(self) -> Cost:
        raise NotImplementedError

    def _set_cost(self, cost: Cost) -> None:
        raise NotImplementedError

    def takes(self, name: str, weight: Tensor) -> bool:
        """Whether a state dict may have ``weight`` for the parameter ``name``; it may come from any backend."""
        return any(wiring.name == name and wiring.takes(weight) for wiring in self.wirings())

    def config(self, sheet: Callable[[Geometry], Any] = Geometry.config) -> dict[str, Any]:
        """Plain values from which :meth:`from_config` makes an equal layer, except for its weights.

        Args:
            sheet: what stands for each geometry.
        """
        given = arguments(self, self.ARGUMENTS) | {name: getattr(self, name) for name in self.PLACES}
        for name, value in given.items():
            if isinstance(value, Geometry):
                given[name] = sheet(value)
            elif isinstance(value, Cost):
                given[name] = value.config()
        return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        """Multiply each entry of P by a number between 0.5 and 1.5 inside the block: a layer that uses P then moves."""
        raise NotImplementedError

    @classmethod
    def keys(cls) -> set[str]:
        """The names in :meth:`config`."""
        return {*cls.ARGUMENTS, *cls.PLACES}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom: Mapping[str, Any] | None = None, **options: Any) -> Self:
        """The layer that ``config`` describes.

        Args:
            config: of :meth:`config`.
            custom: your own functions and classes that it names, by import path.
            options: further arguments of the constructor, such as ``device`` and ``dtype``.
        """
        made = dict(config)
        for name, value in config.items():
            if isinstance(value, dict) and name in ("source", "target", "units", "positions"):
                made[name] = geometries.from_config(value, custom=custom)
            elif isinstance(value, dict) and name in ("cost", "position_cost"):
                made[name] = costs.from_config(value, custom)
        return cls(**made, **options)


def with_cost(rule: Prior, cost: Cost, fixed: bool) -> Prior:
    """The rule with another cost. Where the wires are ``fixed``, a cost that has other wires raises ValueError."""
    refusal = wrong(
        "cost", f"{cost!r}, which has other wires", "the wires that this sparse layer has, or backend='dense'"
    )
    if fixed and not (rule.kept is not None or rule.wired or math.isfinite(cost.reach)):
        raise refusal
    with aside():
        try:
            made = Prior(rule.source, rule.target, cost, rule.rescale, rule.kept)
        except ValueError:
            if not fixed:
                raise
            raise refusal from None
        if fixed and rule.kept is None:
            before, now = rule.wires(), made.wires()
            if not (torch.equal(now.ends, before.ends) and torch.equal(now.sources, before.sources)):
                raise refusal
    return made


def alike(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two supports are equal. (W is then left untouched, since a backward pass may still need it as it is.)"""
    return one is other if one is None or other is None else torch.equal(one, other)


def arguments(module: nn.Module, names: Sequence[str]) -> dict[str, Any]:
    """The constructor arguments ``names`` of a torch layer, or of a locality layer that extends it."""
    values = {name: getattr(module, name, None) for name in names}
    if isinstance(module, nn.MultiheadAttention):
        values |= {"bias": module.in_proj_bias is not None, "add_bias_kv": module.bias_k is not None}
    elif not isinstance(module, nn.RNNBase):
        values["bias"] = module.bias is not None
    return values


# --- arguments of constructors and of forward ------------------------------------------------------------------------


def own_places(name: str, units: Any, n: int) -> Geometry:
    """The places of ``n`` units: ``units``, or the first cells of a square sheet where that is None."""
    if units is None:
        return default_sheet(n)
    places: Geometry = instance(name, units, Geometry, "a geometry, such as Grid(7, 7)")
    if len(places) != n:
        raise wrong(name, f"{places!r} of {len(places)} units", f"{n} units")
    if isinstance(places, Distances) and places.shape != (n, n):
        raise wrong(name, repr(places), f"lengths of the units from each other, ({n}, {n})")
    return places


def size(name: str, value: Any) -> int:
    """``value`` as a number of units or channels."""
    return count(name, value, most=MOST)


def affordable(name: str, entries: int, shape: str) -> None:
    """Raise where a weight would be larger than any machine holds, before anything is allocated."""
    if entries > MOST_ENTRIES:
        raise wrong(name, f"{shape} = {entries:,} weights", f"at most {MOST_ENTRIES:,} of them")


def factory(device: Any, dtype: Any) -> dict[str, Any]:
    """``device`` and ``dtype`` as torch's constructors take them, both checked."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise wrong("dtype", dtype, "a floating-point dtype, such as torch.float32")
    if device is not None:
        try:
            device = torch.device(device)
        except (TypeError, ValueError, RuntimeError):
            raise wrong("device", device, 'a device, such as "cpu" or "cuda:0"') from None
    return {"device": device, "dtype": dtype}


def tensor(name: str, value: Any, shape: str) -> Tensor:
    """``value``, where it is a tensor; ``shape`` says which one is expected."""
    if not isinstance(value, Tensor):
        raise wrong_type(name, value, f"a tensor {shape}")
    return value


def same_dtype(name: str, x: Tensor, weight: Tensor) -> None:
    """Raise TypeError where ``x`` has another dtype than the weight and autocast does not bring them to one."""
    if x.dtype == weight.dtype:
        return
    wide = torch.float64 in (x.dtype, weight.dtype)  # which autocast leaves alone
    if wide or x.is_meta or not x.is_floating_point() or not torch.is_autocast_enabled(x.device.type):
        raise wrong_type(name, f"dtype {x.dtype}", f"the weight's, {weight.dtype}")


def tracing() -> bool:
    """Whether torch.jit.trace is recording: checks of an input's shape would then be kept as constants, and warn."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


# --- P in the dtype of a weight --------------------------------------------------------------------------------------


def shaken(values: Tensor) -> Tensor:
    """``values`` times numbers from 0.5 to 1.5, always the same ones."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.rand(values.shape, generator=generator, dtype=torch.float64, device="cpu") + 0.5
    return values * factors.to(values)


class Rounded:
    """A tensor computed in float64, and held in the dtype and on the device of a weight.

    It is not a buffer, so moving, casting or broadcasting a module's tensors cannot make it wrong.
    """

    _held: Tensor | None = None

    def _make(self, other: Tensor) -> Tensor:
        """The tensor in the dtype and on the device of ``other``."""
        raise NotImplementedError

    def like(self, other: Tensor) -> Tensor:
        """The tensor in the dtype and on the device of ``other``; computed again only where one of them is new."""
        held = self._held
        if held is None or held.dtype != other.dtype or held.device != other.device:
            with aside():
                held = self._make(other)
            self._held = held
        return held

    @contextmanager
    def perturbed(self, other: Tensor) -> Iterator[None]:
        """Shake the tensor inside the block."""
        before = self.like(other)
        self._held = shaken(before)
        try:
            yield
        finally:
            self._held = before


class Spread(Rounded):
    """P of a rule, in the shape of a weight: (wires, …) where there is a ``pattern``."""

    def __init__(self, rule: Prior, spread: Callable[[Tensor], Tensor] = same, pattern: Pattern | None = None) -> None:
        for name, geometry in (("target", rule.target), ("source", rule.source)):
            if geometry.learned:
                raise wrong(name, repr(geometry), "places that do not learn: only a dense LocalityLinear has such")
        self.rule, self.spread, self.pattern = rule, spread, pattern
        self._workspace = Workspace()
        self._found: tuple[torch.device, Tensor | None] | None = None

    def _make(self, other: Tensor) -> Tensor:
        get = self.rule.dense if self.pattern is None else self.rule.signals
        return self.spread(get(other.dtype, other.device).detach())

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(P∘W) x + b, (…, times · out), of x (…, in) and W, (times · out, in) or (wires,)."""
        if self.pattern is not None:
            return self.pattern.linear(x, weight, self.like(weight), bias, self._workspace)
        if self.rule.flat:
            return nn.functional.linear(x, weight, bias)
        return locality_linear(x, weight, self.like(weight), bias, self._workspace)

    def kernel(self, rows: Tensor) -> Kernel:
        """What multiplies ``rows`` (n, in) by the wires; there must be a pattern."""
        assert self.pattern is not None
        return self.pattern.kernel(rows.dtype, rows.device)

    def workspace(self) -> AbstractContextManager[Workspace]:
        """Buffers to use inside the block, where no other thread has them."""
        return self._workspace.held()

    def support(self, weight: Tensor) -> Tensor | None:
        """Which entries have a wire, as a boolean tensor; None where all do, and for a weight on "meta".

        To ask whether all have one makes the CPU wait for a GPU, so it is asked once and not at each step.
        """
        if self.rule.flat or self.pattern is not None or weight.is_meta:
            return None
        if self._found is None or self._found[0] != weight.device:
            with aside():
                found = self.spread(self.rule.dense(torch.bool, weight.device))
                self._found = weight.device, None if found.all() else found
        return self._found[1]


class Plain(Locality):
    """A torch layer in which some named parameters pass through priors: convolution, recurrence and attention.

    A subclass names this class before the torch class that it extends. It keeps that class's state dict and its
    initialisation (of W). Where there is no wire W is 0, stays 0 and gets no gradient. A parameter whose
    :class:`Spread` has a pattern is (wires, …): one number for each wire, where torch's layer has a matrix.
    """

    #: The prior of each named parameter; empty while torch's constructor runs.
    _spreads: Mapping[str, Spread] = MappingProxyType({})
    _own_cost: Cost

    def _wire(self, spreads: dict[str, Spread]) -> None:
        """Put the named parameters behind their priors. This is the last step of the constructor."""
        self._spreads = spreads
        for name, pattern in self._patterns().items():
            weight = self._weight(name)
            weight.data = pattern.gather(weight.data)
        # a hook, since the weights of a child (attention's out_proj) are loaded after the layer's own
        self.register_load_state_dict_post_hook(_after_loading)  # type: ignore[no-untyped-call]
        self._drop_unwired()
        self._make_ready()

    def _patterns(self) -> dict[str, Pattern]:
        """The wires of each sparse parameter."""
        return {name: spread.pattern for name, spread in self._spreads.items() if spread.pattern is not None}

    def _cost(self) -> Cost:
        return self._own_cost

    def _set_cost(self, cost: Cost) -> None:
        made: dict[Spread, Spread] = {}
        for spread in self._spreads.values():
            rule = with_cost(spread.rule, cost, fixed=spread.pattern is not None)
            made[spread] = Spread(rule, spread.spread, spread.pattern)
        self._check_support(list(made.values()), cost)
        before = [wiring.support for wiring in self.wirings()]
        self._own_cost = cost
        self._spreads = {name: made[spread] for name, spread in self._spreads.items()}
        if not all(alike(w.support, old) for w, old in zip(self.wirings(), before, strict=True)):
            self._drop_unwired()
        self._make_ready()

    def _check_support(self, spreads: list[Spread], cost: Cost) -> None:
        """Raise where ``cost`` leaves a unit without a wire in a way that only this kind of layer knows."""

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
        """The parameter ``name``, or the tensor that functional_call or a parametrisation puts in its place."""
        where, _, last = name.rpartition(".")
        weight: Tensor = getattr(self.get_submodule(where), last)
        return weight

    def wirings(self) -> list[Wiring]:
        def one(name: str, spread: Spread) -> Wiring:
            weight = self._weight(name)
            prior, support = lambda: spread.like(weight), lambda: spread.support(weight)
            return Wiring(name, weight, spread.rule, prior, support, spread.spread, spread.pattern)

        return [one(name, spread) for name, spread in self._spreads.items()]

    def fold(self, dense: bool = False) -> nn.Module:
        kind = next(k for k in type(self).__mro__ if not issubclass(k, Locality))
        plain: nn.Module = kind(**arguments(self, self.ARGUMENTS), device="meta")  # type: ignore[assignment, call-arg]
        with torch.no_grad():
            values = {name: self._weight(name).detach() for name, _ in plain.named_parameters()}
            values |= {wiring.name: wiring.matrix(dense) for wiring in self.wirings()}
            values = {name: value.clone() for name, value in values.items()}
        plain.load_state_dict(values, assign=True)
        for name, parameter in plain.named_parameters():
            parameter.requires_grad_(self._weight(name).requires_grad)
        return plain.train(self.training)

    def extra_repr(self) -> str:
        places = {name: getattr(self, name) for name in self.PLACES if name != "backend"}
        parts = [f"{name}={value}" for name, value in places.items() if value not in (None, False)]
        patterns = self._patterns()
        for name, pattern in [*patterns.items()][:1]:
            weight, wires = self._weight(name), sum(one.wires.count for one in patterns.values())
            parts.append(f"{wires} wires, {self._way(pattern, weight)}")
        return ", ".join(part for part in (super().extra_repr(), *parts) if part)

    def _way(self, pattern: Pattern, weight: Tensor) -> str:
        """The backend, and how it computes."""
        return pattern.describe(weight.dtype, weight.device)

    def _make_ready(self) -> None:
        """Compute now what compiled code cannot compute for itself, and what a GPU should not be made to wait for."""
        for name, spread in self._spreads.items():
            weight = self._weight(name)
            # on "meta" P would have no values, and torch loads its compiler to compute without any
            if weight.is_meta:
                continue
            if spread.pattern is not None:
                with aside():
                    spread.pattern.ends(weight.device)
            if spread.pattern is not None or not spread.rule.flat:
                spread.like(weight)
                spread.support(weight)

    def reset_parameters(self) -> None:
        """Draw the weights as torch's own layer draws them, and set W to 0 where there is no wire."""
        with self._whole():
            super().reset_parameters()  # type: ignore[misc]
        self._drop_unwired()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Inside the block sparse parameters are matrices, as torch draws them; after it, those matrices' wires."""
        owned = self._owned()
        held = [(owned[name], owned[name].data, pattern) for name, pattern in self._patterns().items() if name in owned]
        try:
            for weight, own, pattern in held:
                weight.data = own.new_empty(*pattern.wires.shape, *own.shape[1:])
            yield
            drawn = [pattern.gather(weight.data) for weight, _, pattern in held]
        finally:
            for weight, own, _ in held:
                weight.data = own
        with torch.no_grad():
            for (weight, _, _), values in zip(held, drawn, strict=True):
                weight.copy_(values)

    def _owned(self) -> dict[str, nn.Parameter]:
        """The weights behind priors that are parameters here, and not computed by a parametrisation."""
        return {n: w for n in self._spreads if isinstance(w := self._weight(n), nn.Parameter)}

    def _drop_unwired(self) -> None:
        owned = self._owned()
        for wiring in self.wirings():
            support = wiring.support
            if support is not None and wiring.name in owned:
                with torch.no_grad():
                    wiring.weight.mul_(support)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._make_ready()
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        self._before_loading = self._owned()
        for wiring in self.wirings():  # also the weights of children, which torch loads after this
            if f"{prefix}{wiring.name}" in state_dict:
                state_dict[f"{prefix}{wiring.name}"] = wiring.own(state_dict[f"{prefix}{wiring.name}"])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _after_loading(layer: Plain, keys: object) -> None:
    """Set loaded weights to 0 where there is no wire; tensors of load_state_dict(…, assign=True) are copied first."""
    for name, parameter in layer.__dict__.pop("_before_loading", {}).items():
        loaded = layer._weight(name)
        if loaded is not parameter:
            where, _, last = name.rpartition(".")
            setattr(layer.get_submodule(where), last, nn.Parameter(loaded.detach().clone(), parameter.requires_grad))
    layer._drop_unwired()


# --- models ----------------------------------------------------------------------------------------------------------


def locality_layers(module: nn.Module) -> Iterator[tuple[str, Locality]]:
    """The locality layers in ``module`` (or ``module`` itself), each once, with their names."""
    instance("model", module, nn.Module, "a torch.nn.Module")
    for name, child in module.named_modules():
        if isinstance(child, Locality):
            yield name, child


def fold(module: nn.Module, dense: bool = False) -> nn.Module:
    """A plain torch copy of a locality layer, or of a model that has some, with equal outputs.

    Fold before you export a model, to ONNX for example: ``torch.onnx.export(lp.fold(model), …)``. The hooks of a
    locality layer are not copied. A module that reads a layer's ``weight`` without calling the layer, as
    ``nn.MultiheadAttention`` does, finds P∘W there after folding.

    >>> import torch
    >>> import locality_prior as lp
    >>> layer = lp.LocalityLinear(16, 16, cost="linear")
    >>> plain, x = lp.fold(layer), torch.randn(5, 16)
    >>> plain, torch.allclose(plain(x), layer(x), atol=1e-6)
    (Linear(in_features=16, out_features=16, bias=True), True)

    Args:
        module: a layer, or a model that has some.
        dense: allow a sparse layer to become a dense matrix of any size.

    Raises:
        ValueError: ``module`` has no locality layer, or one that is too large to be dense.
    """
    if isinstance(module, Locality):
        return module.fold(dense)
    if not any(locality_layers(module)):
        raise wrong("module", type(module).__name__, "a model with a locality layer")
    return with_layers(module, {layer: layer.fold(dense) for _, layer in locality_layers(module)})


def with_layers(module: M, others: Mapping[Any, nn.Module]) -> M:
    """A copy of ``module`` in which other layers replace some of its own; a layer used twice stays one layer."""
    return copy.deepcopy(module, {id(layer): other for layer, other in others.items()})
