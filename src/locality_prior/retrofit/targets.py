"""What a key means in a model, and the layer that comes in a layer's place."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from torch import nn

from locality_prior._check import wrong
from locality_prior.geometry import Geometry
from locality_prior.layers import (
    Locality,
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


def said(key: Key) -> str:
    return repr(key) if isinstance(key, str) else key.__name__


def matching(model: nn.Module, key: Key) -> list[nn.Module]:
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
            "targets", f"{said(key)}, which matches no layer", f"one of {near}{' …' if len(modules) > 8 else ''}"
        )
    return list({id(m): m for m in found}.values())


def _kind(module: nn.Module) -> type[nn.Module] | None:
    """The torch layer that ``module`` computes as; None for what we cannot replace."""
    if isinstance(module, (Locality, nn.modules.lazy.LazyModuleMixin)) or "forward" in vars(module):
        return None
    return next((k for k in BECOMES if isinstance(module, k) and _computes_as(type(module), k)), None)


def _computes_as(kind: type[nn.Module], plain: type[nn.Module]) -> bool:
    return all(getattr(kind, name, None) is getattr(plain, name, None) for name in ("forward", "_conv_forward"))


def options_of(label: str, module: nn.Module, places: Places, defaults: dict[str, Any]) -> dict[str, Any]:
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


def replacement(label: str, module: nn.Module, options: dict[str, Any]) -> Locality:
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
