"""Plan what will change in a model, apply the change, and prove it on an example."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar
from warnings import warn

import torch
from torch import Tensor, nn

from locality_prior._check import Problem, boolean, choice, short, wrong
from locality_prior.cost import Cost, as_cost
from locality_prior.layers import Locality
from locality_prior.retrofit.proof import apart, outputs, tolerance
from locality_prior.retrofit.targets import NORMS, Places, as_plain, chosen, options_of, replacement
from locality_prior.retrofit.weights import Division, pairs, wires

M = TypeVar("M", bound=nn.Module)
Keep = Literal["function", "weights"]


@dataclass(frozen=True, eq=False)
class Change:
    """One layer that will be replaced.

    Attributes:
        names: every name that the layer has in the model.
        before: the type of the layer now.
        layer: the layer that replaces it, without memory for its weights until the plan is applied.
        norm: whether a BatchNorm follows.
        dropped: the share of Σ|V| on pairs that will have no wire; None where the weights are kept, or on the meta
            device.
    """

    names: tuple[str, ...]
    before: type[nn.Module]
    layer: Locality
    norm: bool
    dropped: float | None
    _module: weakref.ref[nn.Module]  # so that a plan does not keep the old layers in memory
    _shapes: tuple[tuple[int, ...], ...]
    _versions: tuple[int, ...]

    @property
    def pairs(self) -> int:
        """How many pairs of units (or channels) a wire could join."""
        return sum(pairs(w) for w in self.layer.wirings())

    @property
    def wires(self) -> int:
        """How many pairs a wire joins."""
        return sum(wires(w) for w in self.layer.wirings())

    def row(self) -> tuple[str, ...]:
        """The change as a row of the plan's table."""
        rule = self.layer.wirings()[0].rule
        places = f"{rule.target}" if rule.source == rule.target else f"{rule.source} → {rule.target}"
        after = f"{type(self.layer).__name__}{' + BatchNorm' if self.norm else ''}"
        wires = self.wires
        return (
            ", ".join(self.names),
            f"{self.before.__name__} → {after}",
            " ".join("×".join(map(str, shape)) for shape in self._shapes),
            places,
            repr(rule.cost),
            f"{wires:,}",
            f"{wires / self.pairs:.1%}",
            "–" if self.dropped is None else f"{self.dropped:.1%}",
        )

    def _same_function(self, keep: Keep) -> bool:
        """Whether the new layer computes what the old one does, to rounding."""
        if getattr(self.layer, "positions", None) is not None:
            return False
        return self.dropped == 0 if keep == "function" else _flat(self.layer)


@dataclass(eq=False, repr=False)
class Plan:
    """What :func:`plan` found to change. ``print`` it to see it; nothing changes before :meth:`apply`."""

    model: nn.Module
    changes: tuple[Change, ...]
    keep: Keep = "function"
    applied: bool = False

    HEAD: ClassVar = ("name", "layer", "weights", "places", "cost", "wires", "density", "dropped")

    def __repr__(self) -> str:
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

        Each old layer's memory is freed as soon as it is replaced. With an ``example`` the old layers stay until the
        change is proved, so that it can be undone.

        Args:
            example: an input, a tuple of arguments or a mapping of them, with which to prove the change. Every new
                layer must have an effect on the output (a model that reads a layer's ``weight`` without calling the
                layer fails this), and the output must not change if all new layers compute what the old ones did.

        Raises:
            ValueError: the proof fails; the model is then as it was.
            RuntimeError: the plan was applied already, or the model has changed since it was made.
        """
        if self.applied:
            raise Problem("This plan was applied already. Make a new one with plan().")
        division = Division()
        self._check_current(division)
        before = None if example is None else outputs(self.model, example)
        undo = _Undo()
        try:
            for change in self.changes:
                filled = self._filled(change, division)
                after = _with_norm(filled) if change.norm else filled
                for name in change.names:
                    undo.set(*_parent(self.model, name), after)
                    _no_fast_path(self.model, name, undo)
                if before is None:
                    undo.done.clear()
            if before is not None:
                self._prove(before, example)
        except BaseException:
            undo.all()
            raise
        self.applied = True
        return self.model

    def _check_current(self, division: Division) -> None:
        """Raise if the model's layers are not those of the plan. Update ``dropped`` if weights have changed."""
        changes = []
        for change in self.changes:
            old, weight = change._module(), next(change.layer.parameters())
            there = [getattr(*_parent(self.model, name), None) for name in change.names]
            if old is None or any(m is not old for m in there) or next(old.parameters()).dtype != weight.dtype:
                raise Problem(f"{change.names[0]} has changed since this plan was made. Make a new one with plan().")
            if self.keep == "function":
                if next(old.parameters()).is_meta:
                    raise wrong("model", f"{change.names[0]} on the meta device", "weights that can be divided")
                if _versions(old) != change._versions:
                    lost = division.dropped(change.layer, as_plain(old))
                    change = dataclasses.replace(change, dropped=lost, _versions=_versions(old))
            changes.append(change)
        self.changes = tuple(changes)

    def _filled(self, change: Change, division: Division) -> Locality:
        """The new layer in memory, with the weights of the old one."""
        replaced = change._module()
        assert replaced is not None
        old = as_plain(replaced)
        layer = change.layer
        places = {k: v.clone() for k, v in layer.state_dict().items() if k in ("source_positions", "target_positions")}
        layer.to_empty(device=next(old.parameters()).device)
        with torch.no_grad():
            for name, xyz in places.items():
                layer.get_parameter(name).copy_(xyz)
        if self.keep == "weights":
            layer.load_state_dict(replaced.state_dict() | places)
        else:
            wirings = {w.name: w for w in layer.wirings()}
            with torch.no_grad():
                for name, given in old.named_parameters():
                    parameter = layer.get_parameter(name)
                    if name in wirings:
                        division.raw(layer, wirings[name], given, parameter)
                    else:
                        parameter.copy_(given)
        for name, parameter in old.named_parameters():
            layer.get_parameter(name).requires_grad_(parameter.requires_grad)
        return layer.train(old.training)

    def _prove(self, before: list[Tensor], example: Any) -> None:
        after = outputs(self.model, example)
        for change in self.changes:
            if _flat(change.layer) and getattr(change.layer, "positions", None) is None:
                continue  # P = 1 is not multiplied by, so perturbing it does nothing
            with change.layer.perturbed():
                moved = outputs(self.model, example)
            if not apart(after, moved) > 1e-7:
                given = f"{change.names[0]}, whose prior has no effect on the output for this example"
                raise wrong("model", given, "a model that calls the layer (and does not only read its weight)")
        same = all(change._same_function(self.keep) for change in self.changes)
        if same and not apart(before, after) <= tolerance(after):
            names = short(", ".join(change.names[0] for change in self.changes))
            given = f"a model whose output for this example changed when {names} was replaced"
            raise wrong("model", given, "one that calls each layer and never reads its weight")


def plan(
    model: nn.Module,
    targets: Mapping[Any, Places | Literal[False]],
    *,
    cost: Cost | str = "linear",
    rescale: bool = False,
    norm: bool = False,
    keep: Keep = "function",
) -> Plan:
    """What :func:`localize` would do with the same arguments: everything is checked, and nothing is touched.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(9, 16), torch.nn.ReLU(), torch.nn.Linear(16, 16))
    >>> print(lp.plan(net, {"2": lp.Grid(4, 4)}, cost="quadratic"))
    name  layer                    weights  places      cost         wires  density  dropped
    2     Linear → LocalityLinear  16×16    Grid(4, 4)  Quadratic()    256   100.0%     0.0%

    Raises:
        ValueError, TypeError: as :func:`localize`.
    """
    keep = choice("keep", keep, ("function", "weights"))
    defaults = {"cost": as_cost("cost", cost), "rescale": boolean("rescale", rescale), "norm": boolean("norm", norm)}
    found = chosen(model, targets, replaceable=True)
    names = {id(module): name for name, module in model.named_modules()}
    owners: dict[int, set[int]] = {}  # of a parameter: the modules that hold it
    for module in model.modules():
        for parameter in module._parameters.values():
            owners.setdefault(id(parameter), set()).add(id(module))
    made: dict[Any, Locality] = {}
    changes, division = [], Division()
    for target in found:
        module, label = target.module, target.names[0]
        for part, parameter in module.named_parameters():
            others = owners[id(parameter)] - {id(m) for m in module.modules()}
            if others:
                other = names[next(iter(others))]
                expected = f"weights of its own, or {label!r}: False to leave it out"
                raise wrong("targets", f"{label}, which shares its {part} with {other}", expected)
        options = options_of(label, module, target.value, defaults)
        after = options.pop("norm")
        layer = replacement(label, module, options, made)
        if after and type(layer) not in NORMS:
            raise wrong("norm", f"True for {label}, a {type(module).__name__}", "a Linear or a Conv2d")
        old = as_plain(module)
        lost = division.dropped(layer, old) if keep == "function" else None
        shapes = tuple(tuple(old.get_parameter(w.name).shape) for w in layer.wirings())
        now = weakref.ref(module), shapes, _versions(module)
        changes.append(Change(target.names, type(module), layer, after, lost, *now))
    return Plan(model, tuple(changes), keep)


def localize(
    model: M,
    targets: Mapping[Any, Places | Literal[False]],
    *,
    cost: Cost | str = "linear",
    rescale: bool = False,
    norm: bool = False,
    keep: Keep = "function",
    example: Any = None,
) -> M:
    r"""Give the units of a model's layers places, in place: y = V x + b becomes y = (P∘W) x + b.

    With ``keep="function"`` W = V / P, so the model computes what it did, to rounding, except that weights on pairs
    without a wire are dropped (a signal below 1e-6 counts as no wire). A warning says how much was dropped, and that
    weight decay on W now charges long wires more: λ‖W‖² = λ Σ c²V². With ``keep="weights"`` W is the old weight, on
    the wires, and V = P∘W: a network drawn from a seed then has the raw weights of its control.

    The random number generators are left as they are. The parameters are new ones, so make the optimiser afterwards.
    ``cost=Flat()`` makes the matched control.

    >>> from locality_prior import Grid, localize, plan
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 16))
    >>> print(plan(net, {"2": Grid(4, 4)}))
    name  layer                    weights  places      cost      wires  density  dropped
    2     Linear → LocalityLinear  16×16    Grid(4, 4)  Linear()    256   100.0%     0.0%

    Args:
        model: any model. Its ``Linear``, ``Conv2d``, ``RNN``, ``GRU``, ``LSTM`` and ``MultiheadAttention`` layers can
            be replaced, and the ``Conv1D`` of the ``transformers`` library, which is a ``Linear`` with its weight
            transposed.
        targets: what to replace, and where its units are. A key is one of these:

            - the name of a module: "classifier.4";
            - the end of one or several names: "fc1" for every "….fc1";
            - a pattern for whole names, in which ``*`` stands for any characters but a dot, ``**`` for any characters,
              ``?`` for one character and ``[…]`` for one of a set: "encoder.*.mlp.?", "encoder.**". Of the modules that
              it matches, those of the types above are replaced;
            - one of the types above: ``nn.Linear``.

            A value is one of these:

            - a geometry: that of the target units (and of the source units where the sizes agree), or of the units of
              recurrent networks and attention;
            - a pair (source, target);
            - None for square sheets;
            - a mapping of the new layer's own arguments, in which ``cost``, ``rescale`` and ``norm`` hold for this key
              alone;
            - False to leave what the key names, and everything inside it, as it is, whatever other keys name:
              ``{nn.Linear: None, "lm_head": False}``.
        cost: what a wire of length d costs, or its word, such as "linear@3"; the default is ``Linear()``.
        rescale: see :class:`LocalityLinear`.
        norm: whether a new BatchNorm follows each layer (a ``Linear`` with inputs (n, features), or a ``Conv2d``). The
            module is then ``Sequential(layer, norm)``.
        keep: "function" or "weights", see above.
        example: see :meth:`Plan.apply`.

    Returns:
        The model.

    Raises:
        ValueError, TypeError: a key that matches nothing; a layer that cannot be replaced (another type, weights that
            are shared with another module or computed by a parametrization, hooks, a part of an attention module);
            geometries that do not fit; with ``example``, a layer that has no effect. The model is then as it was.
    """
    planned = plan(model, targets, cost=cost, rescale=rescale, norm=norm, keep=keep)
    local = [c for c in planned.changes if not _flat(c.layer)]
    if local and keep == "function":
        charged = short(", ".join(c.names[0] for c in local))
        said = f"localize: weight decay on W = V/P charges long wires more, λ Σ c²V², from now on in {charged}."
        parts = [f"{c.dropped:.1%} in {c.names[0]}" for c in local if c.dropped]
        if parts:
            said += f" Dropped, of Σ|V|, for want of a wire: {short(', '.join(parts))}."
        warn(said, stacklevel=2)
    planned.apply(example)
    return model


def _flat(layer: Locality) -> bool:
    """Whether all of a layer's P are 1."""
    return all(w.rule.flat for w in layer.wirings())


def _versions(module: nn.Module) -> tuple[int, ...]:
    """How often each parameter has been written to."""
    return tuple(-1 if p.is_inference() else p._version for p in module.parameters())


def _with_norm(layer: Locality) -> nn.Sequential:
    weight = next(layer.parameters())
    out = getattr(layer, "out_features", None) or getattr(layer, "out_channels", None)
    norm = NORMS[type(layer)](out, device=weight.device, dtype=weight.dtype)
    return nn.Sequential(layer, norm).train(layer.training)


def _parent(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds ``name``, and its own name for it."""
    parent, _, last = name.rpartition(".")
    return model.get_submodule(parent), last


def _no_fast_path(model: nn.Module, name: str, undo: _Undo) -> None:
    """Keep torch's encoder layers around ``name`` off their fast path, which reads weights and calls no layer."""
    parts = name.split(".")
    for k in range(len(parts)):
        module = model.get_submodule(".".join(parts[:k]))
        if isinstance(module, nn.TransformerEncoderLayer):
            undo.set(module, "activation_relu_or_gelu", 0)
        if isinstance(module, nn.TransformerEncoder):
            undo.set(module, "use_nested_tensor", False)


class _Undo:
    """Attributes that were set, with the values to set back."""

    def __init__(self) -> None:
        self.done: list[tuple[nn.Module, str, Any]] = []

    def set(self, module: nn.Module, name: str, value: Any) -> None:
        self.done.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    def all(self) -> None:
        while self.done:
            setattr(*self.done.pop())
