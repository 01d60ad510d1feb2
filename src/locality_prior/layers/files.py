"""Layers on disk: safetensors, with the geometries and costs of the locality layers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from locality_prior._check import Told, instance, short, wrong, wrong_type
from locality_prior._files import replacing
from locality_prior.geometry import Geometry, from_config, to_config
from locality_prior.layers.attention import LocalityMultiheadAttention
from locality_prior.layers.base import Locality, locality_layers
from locality_prior.layers.conv import LocalityConv2d
from locality_prior.layers.conv1d import LocalityConv1D
from locality_prior.layers.linear import LocalityLinear
from locality_prior.layers.recurrent import LocalityGRU, LocalityLSTM, LocalityRNN

M = TypeVar("M", bound=nn.Module)

KINDS: dict[str, type[Locality]] = {
    kind.__name__: kind
    for kind in (
        LocalityLinear,
        LocalityConv1D,
        LocalityConv2d,
        LocalityRNN,
        LocalityGRU,
        LocalityLSTM,
        LocalityMultiheadAttention,
    )
}
#: The only key of a file's metadata (with a second key their order, and so the file's bytes, would be random).
FORMAT = "locality-prior/1"
#: Names of tensors that belong to a geometry begin with this; no name of a parameter does.
RESERVED = "locality-prior:"
#: The arguments of layers that are geometries.
SHEETS = ("source", "target", "units", "positions")


@dataclass(frozen=True, eq=False)
class Sheet:
    """A geometry as it is saved: plain values, and its tensors by name."""

    config: Any
    tensors: dict[str, Tensor]

    def __repr__(self) -> str:
        return repr(self.config)

    @property
    def learned(self) -> bool:
        """Whether its positions learn."""
        return self.config.get("learned", False) is True

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Sheet)
            and self.config == other.config
            and self.tensors.keys() == other.tensors.keys()
            and all(
                tensor.shape == other.tensors[name].shape and (self.learned or torch.equal(tensor, other.tensors[name]))
                for name, tensor in self.tensors.items()
            )
        )


def save(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the weights of a layer or model as safetensors, with the geometries and costs of its locality layers.

    The metadata holds these as JSON: ``{"geometries": […], "layers": {name: arguments}}``, where a layer names each of
    its geometries by its number in the list. The tensors of a geometry, such as measured distances, are tensors of the
    file.

    >>> import locality_prior as lp
    >>> lp.save(lp.LocalityLinear(16, 16, cost="linear@2"), "layer.safetensors")
    >>> lp.load("layer.safetensors").cost
    Linear().within(2)

    Raises:
        ValueError: ``module`` has no locality layer, or it has a cost or metric that is not a function at the top of an
            importable module.
    """
    layers = dict(locality_layers(module))
    if not layers:
        raise wrong("module", type(module).__name__, "a model with a locality layer")
    # positions that learn are tensors of their geometry, which is saved once for all layers that share it
    learned = _positions(module)
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items() if k not in learned}
    number: dict[Geometry, int] = {}  # equal ones are saved once
    said = {
        name: _described(layer, lambda sheet: number.setdefault(sheet, len(number))) for name, layer in layers.items()
    }
    sheets = [Sheet(*to_config(sheet)) for sheet in number]
    for k, sheet in enumerate(sheets):
        tensors |= {f"{RESERVED}{k}.{name}": tensor.clone() for name, tensor in sheet.tensors.items()}
    text = json.dumps({"geometries": [sheet.config for sheet in sheets], "layers": said})
    with replacing(path) as partial:
        partial.write_bytes(serialise(tensors, {FORMAT: text}))


def load(
    path: str | os.PathLike[str],
    model: M | None = None,
    *,
    custom: Mapping[str, Callable[..., Any]] | None = None,
) -> M | Locality:
    """Read what :func:`save` wrote into ``model``, or, where a single layer was saved, as a new layer.

    Reading a file never runs code that the file names. Where a cost or a metric is a function of your own, pass it:
    ``load(path, custom={"my.module:my_cost": my_cost})``. With a ``model`` there is no need: the file's description is
    then only compared with the geometries and costs of the model.

    >>> import locality_prior as lp
    >>> sheet = lp.Grid(4, 4)
    >>> lp.save(lp.LocalityLinear(16, 16, source=sheet, target=sheet, cost="linear@2"), "layer.safetensors")
    >>> layer = lp.load("layer.safetensors")
    >>> layer.target, layer.cost
    (Grid(4, 4), Linear().within(2))

    Args:
        path: the file.
        model: the model to load into; it must have the same locality layers. None: make the layer that was saved.
        custom: without a ``model``: functions that the file may name, by their import path "module:function".

    Raises:
        ValueError: there is no such file or it has another format, it names a function that was not passed, its
            geometries or costs differ from the model's, or its weights do not fit. The model is then unchanged.
    """
    layers, tensors = _read(path)
    into: Any = instance("model", model, (nn.Module, type(None)), "a torch.nn.Module")
    if model is None:
        into = _made(path, layers, tensors, custom)
    _check_layers(into, layers)
    tensors |= _loaded(into, layers)
    # by every name that the state dict has for a layer, which may be in several places
    places = {n: m for n, m in into.named_modules(remove_duplicate=False) if isinstance(m, Locality)}
    # a layer that was pruned before it was saved: the model's own layer takes its wires once all else is known to fit
    pruned = {
        layer: layer.keeping(tensors[_key(name, "kept")])
        for name, layer in locality_layers(into)
        if isinstance(layer, LocalityLinear) and _key(name, "kept") in tensors and layer.kept is None
    }
    state = into.state_dict()
    for name, layer in places.items():
        if layer in pruned:
            state |= {_key(name, key): value for key, value in pruned[layer].state_dict().items()}
    if state.keys() != tensors.keys():
        odd = sorted(state.keys() ^ tensors.keys())
        raise wrong("model", f"{type(into).__name__}, differing in {', '.join(odd)}", "the parameters in the file")
    own = {name: pruned.get(layer, layer) for name, layer in places.items()}  # type: ignore[call-overload]
    weights = {_key(name, w.name): (layer, w.name) for name, layer in own.items() for w in layer.wirings()}
    kept = {_key(name, "kept"): layer for name, layer in own.items() if isinstance(layer, LocalityLinear)}
    for key, value in tensors.items():
        layer, parameter = weights.get(key, (None, ""))
        if state[key].shape != value.shape and not (layer is not None and layer.takes(parameter, value)):
            raise wrong("model", f"{key} of shape {tuple(state[key].shape)}", f"{tuple(value.shape)}, as in the file")
        if key in kept and not torch.equal(kept[key].rule.kept, value):  # type: ignore[arg-type]
            raise wrong("model", f"{key} of other wires", "the wires in the file")
    if model is None:
        into.to_empty(device=torch.get_default_device())
    for layer, other in pruned.items():
        layer._become(other)
    into.load_state_dict(tensors)
    found: M | Locality = into
    return found


# --- a file ----------------------------------------------------------------------------------------------------------


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, dict[str, Any]], dict[str, Tensor]]:
    """The configs of a file's locality layers, and its weights, by name."""
    if not isinstance(path, (str, os.PathLike)):
        raise wrong_type("path", path, "the path of a file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise wrong("path", f"{os.fspath(path)} ({error})", "a readable safetensors file") from None
    if FORMAT not in metadata:
        raise wrong("path", f"{os.fspath(path)} of another format", f"a file of {FORMAT}, as save writes")
    numbers = {key: tensors.pop(key) for key in list(tensors) if key.startswith(RESERVED)}
    try:
        said = json.loads(metadata[FORMAT])
        sheets = [Sheet(config, _part(numbers, f"{RESERVED}{k}.")) for k, config in enumerate(said["geometries"])]
        layers = {
            name: {k: sheets[v] if k in SHEETS and v is not None else v for k, v in config.items()}
            for name, config in said["layers"].items()
        }
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        layers = {}
    if not (layers and all(_describes(one) for one in layers.values())):
        said = short(metadata[FORMAT])
        raise wrong("path", f"{os.fspath(path)} with {said}", "a description of its layers")
    return layers, tensors


def _made(
    path: str | os.PathLike[str],
    layers: dict[str, dict[str, Any]],
    tensors: dict[str, Tensor],
    custom: Mapping[str, Any] | None,
) -> Locality:
    """The single layer that the file describes, without memory yet."""
    if list(layers) != [""]:
        raise wrong("model", "None", f"the model to load into: {os.fspath(path)} holds {', '.join(layers)}")
    weights = [tensor for name, tensor in tensors.items() if "weight" in name]
    if not weights:
        raise wrong("path", f"{os.fspath(path)} with {', '.join(tensors)} alone", "a layer's weight")
    kept = {"kept": tensors["kept"]} if "kept" in tensors else {}
    values = layers[""]
    kind = KINDS[values.get("type", "LocalityLinear")]
    try:
        _check_sizes(path, kind, values, tensors)
        made = {id(v): _sheet(v, custom) for v in values.values()}  # one for both sides where the file has one
        values = {k: made[id(v)] for k, v in values.items() if k != "type"}
        return kind.from_config(values, custom, device="meta", dtype=weights[0].dtype, **kept)
    except Told:
        raise
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise wrong("path", f"{os.fspath(path)} ({short(str(error))})", "arguments that a layer takes") from None


def _part(tensors: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``start``, by the rest of their names."""
    return {key.removeprefix(start): tensor for key, tensor in tensors.items() if key.startswith(start)}


def _sheet(value: Any, custom: Mapping[str, Any] | None) -> Any:
    return from_config(value.config, value.tensors, custom) if isinstance(value, Sheet) else value


def _check_sizes(
    path: str | os.PathLike[str], kind: type[Locality], values: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    """Whether the file holds the weights of the layer that it describes, before time is spent on a prior."""
    if values.get("num_layers", 1) > len(tensors):
        raise wrong("path", f"{os.fspath(path)} with {len(tensors)} tensors", "those of each layer that it describes")
    linear = issubclass(kind, LocalityLinear)
    if linear and tensors.get("weight", torch.empty(0, 0)).ndim == 1:
        return  # a sparse layer: how many wires it has is known once its prior is
    plain: Any = nn.Linear if linear else next(k for k in kind.__mro__ if not issubclass(k, Locality))
    wanted = plain(**{name: values[name] for name in kind.ARGUMENTS}, device="meta").state_dict()
    if kind is LocalityConv1D:
        wanted["weight"] = wanted["weight"].T
    for name, own in wanted.items():
        given = tensors.get(name, own)
        if own.dim() > 1 and given.shape[1:] == own.shape[2:]:
            continue  # (wires, …), likewise
        if given.shape != own.shape:
            expected = f"{tuple(own.shape)}, as it describes"
            raise wrong("path", f"{os.fspath(path)} with {name} of shape {tuple(given.shape)}", expected)


def _described(layer: Locality, sheet: Callable[[Geometry], Any]) -> dict[str, Any]:
    """A layer's arguments as plain values, with ``sheet`` of each geometry, and its type if it isn't LocalityLinear."""
    kind = next(k.__name__ for k in type(layer).__mro__ if k.__name__ in KINDS)
    return ({} if kind == "LocalityLinear" else {"type": kind}) | layer.config(sheet)


def _describes(one: Any) -> bool:
    """Whether ``one`` has the arguments of the layer that it names, and no others."""
    kind = KINDS.get(str(one.get("type", "LocalityLinear"))) if isinstance(one, dict) else None
    return kind is not None and one.keys() - {"type"} == kind.keys()


def _check_layers(model: nn.Module, layers: dict[str, dict[str, Any]]) -> None:
    held = dict(locality_layers(model))
    if held.keys() != layers.keys():
        raise wrong("model", f"locality layers {sorted(held)}", f"{sorted(layers)}, as in the file")
    partner: dict[int, object] = {}  # positions that learn, of the file or the model → their counterpart in the other
    for name, config in layers.items():
        # two layers may compute the same with different backends
        mine = _described(held[name], lambda sheet: Sheet(*to_config(sheet)))
        for key in sorted((config.keys() | mine.keys()) - {"backend"}):
            label = f"{name}.{key}" if name else key
            if mine.get(key) != config.get(key):
                raise wrong("model", f"{label} = {_told(mine.get(key))}", f"{_told(config.get(key))}, as in the file")
            sheet, places = config.get(key), getattr(held[name], key, None)
            if isinstance(sheet, Sheet) and sheet.learned:
                theirs, ours = partner.setdefault(id(sheet), places), partner.setdefault(id(places), sheet)
                if theirs is not places or ours is not sheet:
                    given = f"{label}, which shares its positions with other layers than in the file"
                    raise wrong("model", given, "positions that are shared as they were saved")


def _positions(model: nn.Module) -> dict[str, Geometry]:
    """The state dict's keys of positions that learn, under every name that a layer has, and their geometries."""
    return {
        _key(name, f"{side}_positions"): getattr(layer, side)
        for name, layer in model.named_modules(remove_duplicate=False)
        if isinstance(layer, LocalityLinear)
        for side in ("source", "target")
        if getattr(layer, side).learned
    }


def _loaded(model: nn.Module, layers: dict[str, dict[str, Any]]) -> dict[str, Tensor]:
    """The file's positions that learn, under the keys of the model's state dict."""
    held = dict(locality_layers(model))
    found = {
        getattr(held[name], key): sheet.tensors["xyz"]
        for name, config in layers.items()
        for key, sheet in config.items()
        if isinstance(sheet, Sheet) and sheet.learned
    }
    return {key: found[geometry] for key, geometry in _positions(model).items()}


def _key(name: str, parameter: str) -> str:
    """The state dict's key of a layer's parameter."""
    return f"{name}.{parameter}" if name else parameter


def _told(value: object, most: int = 120) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"
