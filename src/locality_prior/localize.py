"""Put locality into a model that is there already: plan → apply. W = V / P, so the model's function stays."""

from __future__ import annotations

import copy
import fnmatch
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from locality_prior._check import wrong
from locality_prior.cost import Cost
from locality_prior.geometry import Geometry
from locality_prior.layers import (
    Locality,
    LocalityConv2d,
    LocalityGRU,
    LocalityLinear,
    LocalityLSTM,
    LocalityMultiheadAttention,
    LocalityRNN,
    Wiring,
)
from locality_prior.layers.base import arguments
from locality_prior.prior import aside

M = TypeVar("M", bound=nn.Module)
Key = str | type[nn.Module]
Places = Geometry | tuple[Geometry | None, Geometry | None] | Mapping[str, Any] | None

#: What each torch layer becomes.
BECOMES: dict[type[nn.Module], type[Locality]] = {
    nn.Linear: LocalityLinear,
    nn.Conv2d: LocalityConv2d,
    nn.RNN: LocalityRNN,
    nn.GRU: LocalityGRU,
    nn.LSTM: LocalityLSTM,
    nn.MultiheadAttention: LocalityMultiheadAttention,
}
#: The BatchNorm that may follow.
NORMS: dict[type[Locality], type[nn.Module]] = {LocalityLinear: nn.BatchNorm1d, LocalityConv2d: nn.BatchNorm2d}
#: A signal below this counts as no wire where a weight is divided by it.
LEAST = 1e-6
#: How far, relative to the largest output, the outputs of the same function may be apart.
APART = {torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True, eq=False)
class Change:
    """One layer that will be replaced: every name that it has, what it is, and what it becomes (not yet in memory)."""

    names: tuple[str, ...]
    module: nn.Module
    layer: Locality
    norm: bool
    #: Share of Σ|V| on pairs that will have no wire.
    dropped: float

    @property
    def pairs(self) -> int:
        """Pairs of units (or channels) that a wire could join."""
        return sum(_pairs(w) for w in self.layer.wirings())

    @property
    def wires(self) -> int:
        """Pairs that a wire joins."""
        return sum(_wires(w) for w in self.layer.wirings())

    def row(self) -> tuple[str, ...]:
        """What is shown of it in a plan's table."""
        shape = " ".join("×".join(map(str, w.shape)) for w in self._weights())
        rule = self.layer.wirings()[0].rule
        places = f"{rule.target}" if rule.source == rule.target else f"{rule.source} → {rule.target}"
        after = f"{type(self.layer).__name__}{' + BatchNorm' if self.norm else ''}"
        wires = self.wires
        return (
            ", ".join(self.names),
            f"{type(self.module).__name__} → {after}",
            shape,
            places,
            repr(rule.cost),
            f"{wires:,}",
            f"{wires / self.pairs:.1%}",
            f"{self.dropped:.1%}",
        )

    def _weights(self) -> list[Tensor]:
        return [self.module.get_parameter(w.name) for w in self.layer.wirings()]


@dataclass
class Plan:
    """What :func:`plan` found to change. ``print`` it to see it; nothing is changed before :meth:`apply`."""

    model: nn.Module
    changes: tuple[Change, ...]
    applied: bool = False

    HEAD: ClassVar = ("name", "layer", "weights", "places", "cost", "wires", "density", "dropped")

    def __str__(self) -> str:
        rows = [self.HEAD, *(change.row() for change in self.changes)]
        widths = [max(len(row[k]) for row in rows) for k in range(len(self.HEAD))]
        numbers = len(self.HEAD) - 3
        return "\n".join(
            "  ".join(
                cell.ljust(w) if k < numbers else cell.rjust(w)
                for k, (cell, w) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )

    def apply(self, example: Any = None) -> nn.Module:
        """Change the model, in place, and return it.

        Args:
            example: an input, a tuple of arguments or a mapping of them, with which the change is proved: the output
                stays where nothing was dropped or added, and moves when P of any one replaced layer does. A module
                that reads a layer's ``weight`` without calling it is found out so.

        Raises:
            ValueError: a layer that the proof finds not to be called, or a changed function; or a plan already
                applied. The model is then as it was.
        """
        if self.applied:
            raise wrong("plan", "one that was applied", "a new one")
        self._check_current()
        before = None if example is None else _outputs(self.model, example)
        layers = [_filled(change) for change in self.changes]
        undo = _Undo()
        try:
            for change, layer in zip(self.changes, layers, strict=True):
                after = _with_norm(layer) if change.norm else layer
                for name in change.names:
                    undo.set(*_place(self.model, name), after)
                    _no_fast_path(self.model, name, undo)
            if before is not None:
                self._prove(before, example, layers)
        except BaseException:
            undo.all()
            raise
        self.applied = True
        return self.model

    def _check_current(self) -> None:
        """Raise where the model is not as it was planned for."""
        for change in self.changes:
            weight = next(change.layer.parameters())
            for name in change.names:
                found = getattr(*_place(self.model, name), None)
                if found is not change.module or next(change.module.parameters()).dtype != weight.dtype:
                    raise wrong("plan", f"{name}, which has changed since", "the model that it was made for")

    def _prove(self, before: list[Tensor], example: Any, layers: list[Locality]) -> None:
        after = _outputs(self.model, example)
        kept = all(
            change.dropped == 0 and getattr(layer, "positions", None) is None
            for change, layer in zip(self.changes, layers, strict=True)
        )
        if kept and not _apart(before, after) <= _tolerance(after):
            name = self.changes[0].names[0]
            raise wrong("model", f"another output after {name} was replaced", "modules that call it")
        for change, layer in zip(self.changes, layers, strict=True):
            if all(w.rule.flat for w in layer.wirings()) and getattr(layer, "positions", None) is None:
                continue  # P = 1 is not computed with: there is nothing to move
            with layer.perturbed():
                moved = _outputs(self.model, example)
            if not _apart(after, moved) > 1e-7:
                said = "whose prior does not move the output"
                expected = "a layer that is called, whose weights, and those after it, are not 0"
                raise wrong("model", f"{change.names[0]}, {said}", expected)


def plan(
    model: nn.Module,
    targets: Mapping[Key, Places],
    *,
    cost: Cost | None = None,
    rescale: bool = False,
    norm: bool = False,
) -> Plan:
    """What :func:`localize` would do with the same arguments: checked whole, and nothing touched.

    Raises:
        ValueError, TypeError: as :func:`localize`.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: got {type(model).__name__}, expected a torch.nn.Module")
    if not isinstance(targets, Mapping) or not targets:
        raise wrong("targets", repr(targets), "a mapping of module names or types to geometries")
    if cost is not None and not isinstance(cost, Cost):
        raise wrong("cost", repr(cost), "a cost, such as locality_prior.cost.Linear()")
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    owners: dict[int, set[int]] = {}  # of a parameter: the modules that hold it
    for module in model.modules():
        for parameter in module._parameters.values():
            owners.setdefault(id(parameter), set()).add(id(module))
    chosen: dict[int, Key] = {}
    changes = []
    for key, places in targets.items():
        for module in _matching(model, key):
            if id(module) in chosen:
                raise wrong(
                    "targets", f"{names[id(module)][0]} by both {_said(chosen[id(module)])} and {_said(key)}", "one"
                )
            chosen[id(module)] = key
            label = names[id(module)][0]
            for part, parameter in module.named_parameters():
                others = owners[id(parameter)] - {id(m) for m in module.modules()}
                if others:
                    other = names[next(iter(others))][0]
                    raise wrong("targets", f"{label}, whose {part} is that of {other} too", "weights of its own")
            options = _options(label, module, places, {"cost": cost, "rescale": rescale, "norm": norm})
            after = bool(options.pop("norm"))
            layer = _replacement(label, module, options)
            if after and type(layer) not in NORMS:
                raise wrong("norm", f"True for {label}, a {type(module).__name__}", "a Linear or a Conv2d")
            changes.append(Change(tuple(names[id(module)]), module, layer, after, _dropped(layer, module)))
    return Plan(model, tuple(changes))


def localize(
    model: M,
    targets: Mapping[Key, Places],
    *,
    cost: Cost | None = None,
    rescale: bool = False,
    norm: bool = False,
    example: Any = None,
) -> M:
    r"""Give units of a model's layers places, in place: y = V x + b becomes y = (P∘W) x + b with W = V / P.

    The model's function stays, to rounding, but for weights on pairs without a wire, which are dropped (a signal below
    1e-6 counts as none); a warning says how much. It says too what weight decay on W now means: λ‖W‖² = λ Σ c²V².
    Parameters are new ones: make the optimiser afterwards. With ``cost=Flat()`` it makes the matched control.

    >>> from locality_prior import Grid, localize, plan
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 16))
    >>> print(plan(net, {"2": Grid(4, 4)}))
    name  layer                    weights  places      cost      wires  density  dropped
    2     Linear → LocalityLinear  16×16    Grid(4, 4)  Linear()    256   100.0%     0.0%

    Args:
        model: any model. Its ``Linear``, ``Conv2d``, ``RNN``, ``GRU``, ``LSTM`` and ``MultiheadAttention`` layers may
            be replaced by ours.
        targets: what to replace, and the places of its units. A key is a module's name ("classifier.4"), else the end
            of one or several ("fc1" for every "….fc1"), else a pattern ("encoder.*.mlp.?"; of what it matches, the
            layers above are taken), or one of the types above. A value is a geometry (the target's; the source's too
            where the sizes agree; for recurrence and attention the units'), a pair (source, target), None for square
            sheets, or a mapping of the replacing layer's own arguments, with ``cost``, ``rescale`` and ``norm`` for
            this key alone.
        cost: what a wire of length d costs; ``Linear()`` if not given.
        rescale: see :class:`LocalityLinear`.
        norm: whether a fresh BatchNorm follows each layer (of ``Linear``, with inputs (n, features), and ``Conv2d``):
            the module is then ``Sequential(layer, norm)``.
        example: see :meth:`Plan.apply`.

    Returns:
        The model.

    Raises:
        ValueError: a key that matches nothing, or something that cannot be replaced (another type, weights shared with
            another module or made by a parametrisation, hooks, a part of an attention); geometries that do not fit;
            with ``example``, a layer that is not called. The model is then as it was.
    """
    planned = plan(model, targets, cost=cost, rescale=rescale, norm=norm)
    local = [c for c in planned.changes if not all(w.rule.flat for w in c.layer.wirings())]
    if local:
        lost = [f"{c.names[0]} {c.dropped:.1%}" for c in local if c.dropped]
        dropped = f"; dropped, of Σ|V|, where there is no wire: {', '.join(lost)}" if lost else ""
        said = "weight decay on W = V/P now charges V by c²"
        warnings.warn(f"localize: {said} in {', '.join(c.names[0] for c in local)}{dropped}", stacklevel=2)
    planned.apply(example)
    return model


def _said(key: Key) -> str:
    return repr(key) if isinstance(key, str) else key.__name__


def _matching(model: nn.Module, key: Key) -> list[nn.Module]:
    """The layers that ``key`` means, each once, in the model's order."""
    modules = {name: m for name, m in model.named_modules(remove_duplicate=False) if name}
    parts = {id(part) for m in modules.values() if isinstance(m, nn.MultiheadAttention) for part in m.children()}
    if isinstance(key, type):
        if key not in BECOMES:
            raise wrong("targets", key.__name__, f"one of {', '.join(k.__name__ for k in BECOMES)}")
        found = [m for m in modules.values() if isinstance(m, key) and _kind(m) and id(m) not in parts]
    elif not isinstance(key, str):
        raise TypeError(f"targets: got the key {key!r}, expected a module's name or type")
    else:
        named = [modules[key]] if key in modules else [m for name, m in modules.items() if name.endswith(f".{key}")]
        for m in named:
            if id(m) in parts:
                raise wrong(
                    "targets", f"{key!r}, a part of an attention that is read, not called", "the attention itself"
                )
            if _kind(m) is None:
                kinds = ", ".join(k.__name__ for k in BECOMES)
                raise wrong("targets", f"{key!r}, a {type(m).__name__}", f"a layer of type {kinds}")
        matched = [m for name, m in modules.items() if fnmatch.fnmatchcase(name, key)]
        found = named or [m for m in matched if _kind(m) and id(m) not in parts]
    if not found:
        near = ", ".join(list(modules)[:8])
        raise wrong(
            "targets", f"{_said(key)}, which matches no layer", f"one of {near}{' …' if len(modules) > 8 else ''}"
        )
    return list({id(m): m for m in found}.values())


def _kind(module: nn.Module) -> type[nn.Module] | None:
    """The torch layer that ``module`` computes as; None for what we cannot replace."""
    if isinstance(module, (Locality, nn.modules.lazy.LazyModuleMixin)) or "forward" in vars(module):
        return None
    return next((k for k in BECOMES if isinstance(module, k) and _computes_as(type(module), k)), None)


def _computes_as(kind: type[nn.Module], plain: type[nn.Module]) -> bool:
    return all(getattr(kind, name, None) is getattr(plain, name, None) for name in ("forward", "_conv_forward"))


def _options(label: str, module: nn.Module, places: Places, defaults: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of a replacing layer, and ``norm``."""
    alone = not isinstance(module, (nn.Linear, nn.Conv2d))
    if isinstance(places, Mapping):
        kind = BECOMES[_kind(module) or nn.Linear]
        known = {*kind.PLACES, "norm"} | ({"kept"} if kind is LocalityLinear else set())
        odd = sorted(map(str, places.keys() - known))
        if odd:
            raise wrong("targets", f"{odd[0]!r} for {label}", f"arguments among {', '.join(sorted(known))}")
        return {**defaults, **places}
    if places is None or isinstance(places, Geometry):
        return defaults | {"units" if alone else "target": places}
    if not alone and isinstance(places, tuple) and len(places) == 2:
        return defaults | {"source": places[0], "target": places[1]}
    expected = "a geometry" if alone else "a geometry, or a pair (source, target)"
    raise wrong("targets", f"{places!r} for {label}", f"{expected}, or a mapping of arguments")


def _replacement(label: str, module: nn.Module, options: dict[str, Any]) -> Locality:
    """The layer that is to replace ``module``, on the meta device: checked, and not yet in memory."""
    kind = _kind(module)
    assert kind is not None
    ours = BECOMES[kind]
    for name, parameter in module.named_parameters():
        if "parametrizations" in name or not isinstance(parameter, nn.Parameter):
            raise wrong("targets", f"{label}, whose weights a parametrisation makes", "weights of its own")
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(m, hook, None) for m in module.modules() for hook in hooks):
        raise wrong("targets", f"{label} with hooks, which would be lost", "hooks put there afterwards")
    if isinstance(module, nn.RNNBase) and module.proj_size:
        raise wrong("targets", f"{label} with a projection", "proj_size=0")
    plain, weight = arguments(module, ours.ARGUMENTS), next(module.parameters())
    try:
        layer = ours(**{**plain, **options}, device="meta", dtype=weight.dtype)
    except (ValueError, TypeError) as error:
        raise type(error)(f"targets: {label}: {error}") from None
    extra = sorted(module.state_dict().keys() - layer.state_dict().keys())
    if extra:
        raise wrong("targets", f"{label} with {extra[0]}, which would be lost", f"what a {kind.__name__} holds alone")
    return layer


def _dropped(layer: Locality, module: nn.Module) -> float:
    """The share of Σ|V| where there will be no wire to carry it."""
    weights = [(w, module.get_parameter(w.name)) for w in layer.wirings()]
    total = sum(float(v.detach().double().abs().sum()) for _, v in weights)
    lost = total - sum(_raw(layer, w, v)[1] for w, v in weights)
    return lost / total if lost > 1e-12 * total else 0.0


def _raw(layer: Locality, wiring: Wiring, v: Tensor) -> tuple[Tensor, float]:
    """W = V / P of one weight, and Σ|V| over its wires."""
    with aside():
        return _raw_aside(layer, wiring, v.detach())


def _raw_aside(layer: Locality, wiring: Wiring, v: Tensor) -> tuple[Tensor, float]:
    rule = wiring.rule
    if wiring.sparse:
        assert isinstance(layer, LocalityLinear)
        assert layer.pattern is not None
        return _divided(layer.pattern.gather(v), rule.signals(torch.float64, v.device))
    if not isinstance(layer, LocalityLinear):
        return _divided(v, wiring.spread(rule.dense(device=v.device).detach()))
    rows = torch.split(torch.arange(rule.shape[0]), max(1, (1 << 22) // rule.shape[1]))
    blocks = [_divided(v[r.to(v.device)], rule.rows(r).detach().to(v.device)) for r in rows]
    return torch.cat([w for w, _ in blocks]), sum(kept for _, kept in blocks)


def _divided(v: Tensor, p: Tensor) -> tuple[Tensor, float]:
    """V / P where there is a wire, else 0; and Σ|V| over the wires."""
    there = p >= LEAST
    w = torch.where(there, v.double() / torch.where(there, p, 1.0), 0.0).to(v.dtype)
    if v.isfinite().all() and not w.isfinite().all():
        least = float(p[there].min())
        raise wrong("cost", f"a signal as low as {least:.1e}", f"one for which W = V/P is finite in {v.dtype}")
    return w, float((v.double().abs() * there).sum())


def _filled(change: Change) -> Locality:
    """The replacing layer in memory, with the weights of what it replaces."""
    old = change.module
    layer = change.layer.to_empty(device=next(old.parameters()).device)
    wirings = {w.name: w for w in layer.wirings()}
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            given = old.get_parameter(name)
            parameter.copy_(_raw(layer, wirings[name], given)[0] if name in wirings else given)
            parameter.requires_grad_(given.requires_grad)
    return layer.train(old.training)


def _with_norm(layer: Locality) -> nn.Sequential:
    weight = next(layer.parameters())
    out = getattr(layer, "out_features", None) or getattr(layer, "out_channels", None)
    norm = NORMS[type(layer)](out, device=weight.device, dtype=weight.dtype)
    return nn.Sequential(layer, norm).train(layer.training)


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    parent, _, last = name.rpartition(".")
    return model.get_submodule(parent), last


def _no_fast_path(model: nn.Module, name: str, undo: _Undo) -> None:
    """Keep torch's encoder layers around ``name`` from a path of their own, which reads weights and calls nothing."""
    parts = name.split(".")
    for k in range(len(parts)):
        module = model.get_submodule(".".join(parts[:k]))
        if isinstance(module, nn.TransformerEncoderLayer):
            undo.set(module, "activation_relu_or_gelu", 0)
        if isinstance(module, nn.TransformerEncoder):
            undo.set(module, "use_nested_tensor", False)


class _Undo:
    """Attributes that were set, to be set back."""

    def __init__(self) -> None:
        self.done: list[tuple[nn.Module, str, Any]] = []

    def set(self, module: nn.Module, name: str, value: Any) -> None:
        self.done.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    def all(self) -> None:
        while self.done:
            setattr(*self.done.pop())


def _pairs(wiring: Wiring) -> int:
    """Pairs that a weight has entries for: in a grouped convolution, those within groups."""
    out, features = wiring.rule.shape
    grouped = wiring.weight.dim() == 4
    return out * (wiring.weight.shape[1] if grouped else features)


def _wires(wiring: Wiring) -> int:
    """Pairs of :func:`_pairs` that a wire joins."""
    rule, pairs = wiring.rule, _pairs(wiring)
    if not rule.bounded:
        return pairs
    if pairs == math.prod(rule.shape):
        return rule.wires().count
    return int((wiring.spread(rule.dense()) > 0).sum())


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, each module's own afterwards; what is drawn is the same each time, and nobody else's."""
    modes = {module: module.training for module in model.modules()}
    devices = {p.device for p in model.parameters() if p.is_cuda}
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        for module in modes:
            module.training = False  # and not eval(), which a model may have made into more
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


def _outputs(model: nn.Module, example: Any) -> list[Tensor]:
    """Every floating-point tensor in the model's output, in evaluation mode."""
    given = copy.deepcopy(example)  # a model may change its input
    with torch.no_grad(), _evaluated(model):
        if isinstance(given, Mapping):
            output = model(**given)
        else:
            several = isinstance(given, (tuple, list)) and not isinstance(given, PackedSequence)
            output = model(*given) if several else model(given)
    found = list(_tensors(output))
    if not found:
        raise wrong("example", f"an output of {type(output).__name__}", "an input for which the model gives numbers")
    return found


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point() and output.isfinite().any():
            yield output
    elif isinstance(output, Mapping):
        for one in output.values():
            yield from _tensors(one)
    elif isinstance(output, (tuple, list)):
        for one in output:
            yield from _tensors(one)


def _apart(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest difference, relative to the largest value of its tensor; inf where they differ in kind."""
    if [x.shape for x in a] != [y.shape for y in b]:
        return math.inf
    apart = 0.0
    for x, y in zip(a, b, strict=True):
        there = x.isfinite()
        if not torch.equal(there, y.isfinite()):
            return math.inf
        largest = float(x[there].abs().max())
        apart = max(apart, float((x[there] - y[there]).abs().max()) / max(largest, 1e-30))
    return apart


def _tolerance(outputs: list[Tensor]) -> float:
    return max(APART.get(x.dtype, 1e-3) for x in outputs)
