"""Which modules a mapping of targets names, and the layer that replaces each."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from locality_prior._check import boolean, instance, short, shown, wrong, wrong_type
from locality_prior.cost import as_cost
from locality_prior.geometry import Geometry, Points
from locality_prior.layers import (
    Locality,
    LocalityConv1D,
    LocalityConv2d,
    LocalityGRU,
    LocalityLinear,
    LocalityLSTM,
    LocalityMultiheadAttention,
    LocalityRNN,
)
from locality_prior.layers.base import arguments

Key = str | type[nn.Module]
Places = Geometry | tuple[Geometry | None, Geometry | None] | Mapping[str, Any] | None

#: The layer that replaces each of torch's.
BECOMES: dict[type[nn.Module], type[Locality]] = {
    nn.Linear: LocalityLinear,
    nn.Conv2d: LocalityConv2d,
    nn.RNN: LocalityRNN,
    nn.GRU: LocalityGRU,
    nn.LSTM: LocalityLSTM,
    nn.MultiheadAttention: LocalityMultiheadAttention,
}
#: The BatchNorm that can follow each layer.
NORMS: dict[type[Locality], type[nn.Module]] = {
    LocalityLinear: nn.BatchNorm1d,
    LocalityConv1D: nn.BatchNorm1d,
    LocalityConv2d: nn.BatchNorm2d,
}

#: The regular expression for each wildcard.
WILDCARDS = {"**.": r"(?:.*\.)?", "**": r".*", "*": r"[^.]*", "?": r"[^.]"}


@dataclass(frozen=True)
class Target:
    """One module of a model that a key names: all the module's names in the model, and the key's value."""

    names: tuple[str, ...]
    module: nn.Module
    value: Any


def chosen(model: Any, targets: Any, replaceable: bool) -> list[Target]:
    """The modules that ``targets`` names, each once, key by key and in the model's order.

    A key is, in this order: the name of a module; the end of one or several names; a pattern, in which ``*`` stands
    for any characters but a dot, ``**`` for any characters, ``?`` for one and ``[…]`` for one of a set; or a type.
    The value ``False`` leaves out what its key names, and everything inside it, whatever other keys name.

    Args:
        replaceable: whether only layers that :func:`localize` can replace will do.

    Raises:
        ValueError, TypeError: a key that names nothing, a module that two keys name, or a module that will not do.
    """
    instance("model", model, nn.Module, "a torch.nn.Module")
    expected = "a mapping of module names or types to geometries"
    if not instance("targets", targets, Mapping, expected):
        raise wrong("targets", targets, expected)
    modules = {name: m for name, m in model.named_modules(remove_duplicate=False) if name}
    if not modules:
        raise wrong("model", f"a {type(model).__name__}, which holds no modules", "a model that holds some")
    names: dict[int, list[str]] = {}
    for name, module in modules.items():
        names.setdefault(id(module), []).append(name)
    left_out = {
        id(part)
        for key, value in targets.items()
        if value is False
        for module in _named(modules, key, None)
        for part in module.modules()
    }
    takes = (lambda m: plain_kind(m) is not None) if replaceable else (lambda m: True)
    keys: dict[int, Key] = {}
    found = []
    for key, value in targets.items():
        if value is False:
            continue
        left = [m for m in _named(modules, key, takes if replaceable else None) if id(m) not in left_out]
        if not left:
            raise wrong("targets", f"{said(key)}, whose modules another key leaves out by False", "other modules")
        for module in left:
            if id(module) in keys:
                both = f"{said(keys[id(module)])} and {said(key)}, which both name {names[id(module)][0]}"
                raise wrong("targets", both, "one key for each module")
            keys[id(module)] = key
            found.append(Target(tuple(names[id(module)]), module, value))
    if not found:
        raise wrong("targets", targets, "a key whose value is not False")
    return found


def said(key: Key) -> str:
    """A key as messages show it."""
    return short(repr(key)) if isinstance(key, str) else key.__name__


def _named(modules: dict[str, nn.Module], key: Any, takes: Callable[[nn.Module], bool] | None) -> list[nn.Module]:
    """The modules that ``key`` names and ``takes`` accepts (None: any), each once, in the model's order.

    What an attention module holds (its output projection) is read and never called, so that it can be neither replaced
    nor recorded: a pattern or a type passes over it.
    """
    layers = f"a layer of type {', '.join(k.__name__ for k in BECOMES)}"
    inside = {id(p) for m in modules.values() if isinstance(m, nn.MultiheadAttention) for p in m.children()}
    if isinstance(key, type) and issubclass(key, nn.Module):
        if takes is not None and key not in BECOMES and not is_conv1d(key):
            raise wrong("targets", key.__name__, layers)
        matched = [m for m in modules.values() if isinstance(m, key)]
    elif not isinstance(key, str):
        raise wrong_type("targets", f"the key {shown(key)}", "a module's name or type, such as torch.nn.Linear")
    elif named := [modules[key]] if key in modules else [m for name, m in modules.items() if name.endswith(f".{key}")]:
        for module in named:
            if id(module) in inside:
                part = f"{said(key)}, a part of an attention module, which reads its weight and never calls it"
                raise wrong("targets", part, "the attention module itself")
            if takes is not None and not takes(module):
                raise wrong("targets", f"{said(key)}, a {type(module).__name__}", layers)
        matched = named
    else:
        pattern = _pattern(key)
        matched = [m for name, m in modules.items() if pattern.fullmatch(name)]
    if not matched:
        known = ", ".join(list(modules)[:8]) + (" …" if len(modules) > 8 else "")
        raise wrong("targets", f"{said(key)}, which matches no module", f"one of {known}")
    found = [m for m in matched if id(m) not in inside and (takes is None or takes(m))]
    if not found:
        kinds = ", ".join(sorted({type(m).__name__ for m in matched}))
        raise wrong("targets", f"{said(key)}, which matches only modules of type {kinds}", layers)
    return list({id(m): m for m in found}.values())


def _pattern(key: str) -> re.Pattern[str]:
    """The regular expression for a pattern of names."""

    def parts() -> Iterator[str]:
        for part in re.split(r"(\*\*\.|\*\*|\*|\?|\[!?[^\]]+\])", key):
            if part in WILDCARDS:
                yield WILDCARDS[part]
            elif part.startswith("[") and part.endswith("]"):
                yield part.replace("[!", "[^", 1).replace("\\", r"\\")
            else:
                yield re.escape(part)

    try:
        return re.compile("".join(parts()))
    except re.error:
        raise wrong("targets", f"the pattern {said(key)}", "wildcards *, **, ? and [abc]") from None


def plain_kind(module: nn.Module) -> type[nn.Module] | None:
    """The torch layer that ``module`` computes as; None where we cannot replace it."""
    if isinstance(module, (Locality, nn.modules.lazy.LazyModuleMixin)) or "forward" in vars(module):
        return None
    if is_conv1d(type(module)):
        return nn.Linear
    return next((k for k in BECOMES if isinstance(module, k) and _computes_as(type(module), k)), None)


def becomes(module: nn.Module) -> type[Locality]:
    """The kind of layer that replaces ``module``, which can be replaced."""
    kind = plain_kind(module)
    assert kind is not None
    return LocalityConv1D if is_conv1d(type(module)) else BECOMES[kind]


def _computes_as(kind: type[nn.Module], plain: type[nn.Module]) -> bool:
    return all(getattr(kind, name, None) is getattr(plain, name, None) for name in ("forward", "_conv_forward"))


def is_conv1d(kind: type[nn.Module]) -> bool:
    """Whether it is the Conv1D of ``transformers``: a linear layer whose weight is (in, out)."""
    return kind.__name__ == "Conv1D" and kind.__module__.partition(".")[0] == "transformers"


def as_plain(module: nn.Module) -> nn.Module:
    """``module``, or for a Conv1D of ``transformers`` a ``Linear`` that shares its memory."""
    if not is_conv1d(type(module)):
        return module
    weight, bias = module.get_parameter("weight"), module.get_parameter("bias")
    sources, units = weight.shape
    linear = nn.Linear(sources, units, device="meta")
    linear.weight = nn.Parameter(weight.detach().T, weight.requires_grad)
    linear.bias = nn.Parameter(bias.detach(), bias.requires_grad)
    return linear.train(module.training)


def options_of(label: str, module: nn.Module, places: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of the replacing layer, and ``norm``."""
    kind = becomes(module)
    linear = issubclass(kind, LocalityLinear)
    one_sheet = not (linear or kind is LocalityConv2d)
    if isinstance(places, Mapping):
        known = {*kind.PLACES, "norm"} | ({"kept"} if linear else set())
        odd = sorted(shown(key) for key in places if key not in known)
        if odd:
            raise wrong("targets", f"{odd[0]} for {label}", f"arguments among {', '.join(sorted(known))}")
        options = {**defaults, **places}
        for name in {"rescale", "norm"} & places.keys():
            options[name] = boolean(f"targets: {label}: {name}", places[name])
        if "cost" in places:
            options["cost"] = as_cost(f"targets: {label}: cost", places["cost"])
        return options
    if places is None or isinstance(places, Geometry):
        return defaults | {"units" if one_sheet else "target": places}
    if not one_sheet and isinstance(places, tuple) and len(places) == 2:
        return defaults | {"source": places[0], "target": places[1]}
    expected = "a geometry" if one_sheet else "a geometry, a pair (source, target)"
    raise wrong("targets", f"{shown(places)} for {label}", f"{expected}, a mapping of arguments, None or False")


def replacement(
    label: str, module: nn.Module, options: dict[str, Any], made: dict[Any, Locality] | None = None
) -> Locality:
    """The layer that replaces ``module``, checked, on the meta device: it takes no memory yet.

    Args:
        made: layers made before, by their arguments; an equal one is copied, since a copy is quicker to make.
    """
    ours = becomes(module)
    for name, parameter in module.named_parameters():
        if "parametrizations" in name or not isinstance(parameter, nn.Parameter):
            raise wrong("targets", f"{label}, whose weights a parametrization computes", "weights of its own")
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    if any(getattr(m, hook, None) for m in module.modules() for hook in hooks):
        raise wrong("targets", f"{label}, whose hooks would be lost", "a layer without hooks: register them afterwards")
    if isinstance(module, nn.RNNBase) and module.proj_size:
        raise wrong("targets", f"{label} with proj_size={module.proj_size}", "proj_size=0")
    given = {**arguments(as_plain(module), ours.ARGUMENTS), **options, "dtype": next(module.parameters()).dtype}
    try:
        layer = _made(ours, given, {} if made is None else made)
    except (ValueError, TypeError) as error:
        raise type(error)(f"targets: {label}: {error}") from None
    extra = sorted(module.state_dict().keys() - layer.state_dict().keys())
    if extra:
        raise wrong(
            "targets",
            f"{label}, whose {extra[0]} would be lost",
            f"a layer that holds only what a {ours.__name__} does",
        )
    return layer


def _made(ours: type[Locality], given: dict[str, Any], made: dict[Any, Locality]) -> Locality:
    """A layer on the meta device; of equal ones, the second is a copy of the first that shares its priors."""
    key = (ours, tuple(given.items()))
    try:
        known = made.get(key)
    except TypeError:  # an argument that cannot be hashed
        return ours(**given, device="meta")
    if known is None:
        known = made[key] = ours(**given, device="meta")
        return known
    rules = [w.rule for w in known.wirings()]
    learned = [p.parameter for rule in rules for p in (rule.source, rule.target) if isinstance(p, Points)]
    return copy.deepcopy(known, {id(one): one for one in (*rules, *learned) if one is not None})
