"""Plan → apply: what will change, the change, and its proof."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from locality_prior._check import wrong
from locality_prior.cost import Cost
from locality_prior.layers import Locality
from locality_prior.retrofit.proof import apart, outputs, tolerance
from locality_prior.retrofit.targets import NORMS, Key, Places, chosen, options_of, replacement
from locality_prior.retrofit.weights import dropped, pairs, raw, wires

M = TypeVar("M", bound=nn.Module)


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
        return sum(pairs(w) for w in self.layer.wirings())

    @property
    def wires(self) -> int:
        """Pairs that a wire joins."""
        return sum(wires(w) for w in self.layer.wirings())

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
        before = None if example is None else outputs(self.model, example)
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
        after = outputs(self.model, example)
        kept = all(
            change.dropped == 0 and getattr(layer, "positions", None) is None
            for change, layer in zip(self.changes, layers, strict=True)
        )
        if kept and not apart(before, after) <= tolerance(after):
            name = self.changes[0].names[0]
            raise wrong("model", f"another output after {name} was replaced", "modules that call it")
        for change, layer in zip(self.changes, layers, strict=True):
            if all(w.rule.flat for w in layer.wirings()) and getattr(layer, "positions", None) is None:
                continue  # P = 1 is not computed with: there is nothing to move
            with layer.perturbed():
                moved = outputs(self.model, example)
            if not apart(after, moved) > 1e-7:
                expected = "a layer that is called, whose weights, and those after it, are not 0"
                raise wrong("model", f"{change.names[0]}, whose prior does not move the output", expected)


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
    found = chosen(model, targets, replaceable=True)
    if cost is not None and not isinstance(cost, Cost):
        raise wrong("cost", repr(cost), "a cost, such as locality_prior.cost.Linear()")
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    owners: dict[int, set[int]] = {}  # of a parameter: the modules that hold it
    for module in model.modules():
        for parameter in module._parameters.values():
            owners.setdefault(id(parameter), set()).add(id(module))
    changes = []
    for target in found:
        module, label = target.module, target.names[0]
        for part, parameter in module.named_parameters():
            others = owners[id(parameter)] - {id(m) for m in module.modules()}
            if others:
                other = names[next(iter(others))][0]
                raise wrong("targets", f"{label}, whose {part} is that of {other} too", "weights of its own")
        options = options_of(label, module, target.value, {"cost": cost, "rescale": rescale, "norm": norm})
        after = bool(options.pop("norm"))
        layer = replacement(label, module, options)
        if after and type(layer) not in NORMS:
            raise wrong("norm", f"True for {label}, a {type(module).__name__}", "a Linear or a Conv2d")
        changes.append(Change(target.names, module, layer, after, dropped(layer, module)))
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
        parts = [f"{c.names[0]} {c.dropped:.1%}" for c in local if c.dropped]
        lost = f"; dropped, of Σ|V|, where there is no wire: {', '.join(parts)}" if parts else ""
        charged = ", ".join(c.names[0] for c in local)
        warnings.warn(f"localize: weight decay on W = V/P now charges V by c² in {charged}{lost}", stacklevel=2)
    planned.apply(example)
    return model


def _filled(change: Change) -> Locality:
    """The replacing layer in memory, with the weights of what it replaces."""
    old = change.module
    layer = change.layer.to_empty(device=next(old.parameters()).device)
    wirings = {w.name: w for w in layer.wirings()}
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            given = old.get_parameter(name)
            parameter.copy_(raw(layer, wirings[name], given)[0] if name in wirings else given)
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
