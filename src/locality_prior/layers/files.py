"""Layers on disk: safetensors, with geometry and cost in the metadata."""

from __future__ import annotations

import json
import os
from typing import Any, TypeVar

import torch
from torch import nn

from locality_prior._check import wrong
from locality_prior._files import replacing
from locality_prior.layers.attention import LocalityMultiheadAttention
from locality_prior.layers.base import Locality, locality_layers
from locality_prior.layers.conv import LocalityConv2d
from locality_prior.layers.linear import LocalityLinear
from locality_prior.layers.recurrent import LocalityGRU, LocalityLSTM, LocalityRNN

M = TypeVar("M", bound=nn.Module)

KINDS: dict[str, type[Locality]] = {
    kind.__name__: kind
    for kind in (LocalityLinear, LocalityConv2d, LocalityRNN, LocalityGRU, LocalityLSTM, LocalityMultiheadAttention)
}
#: The one key of a file's metadata (a second would leave their order, and so the file's bytes, to chance).
FORMAT = "locality-prior/1"


def save(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the weights of a layer or model as safetensors, with geometry and cost of its locality layers.

    Raises:
        ValueError: no locality layer in it, or a cost or metric that is not a function of an importable module.
    """
    from safetensors.torch import save as serialise

    layers = {name: _described(layer) for name, layer in locality_layers(module)}
    if not layers:
        raise wrong("module", type(module).__name__, "a model with a locality layer")
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    data = serialise(tensors, {FORMAT: json.dumps(layers)})
    with replacing(path) as partial:
        partial.write_bytes(data)


def _described(layer: Locality) -> dict[str, Any]:
    """A layer's config, with its type where that is not LocalityLinear."""
    kind = next(k.__name__ for k in type(layer).__mro__ if k.__name__ in KINDS)
    return ({} if kind == "LocalityLinear" else {"type": kind}) | layer.config()


def _made(described: dict[str, Any], **options: Any) -> Locality:
    values = dict(described)
    return KINDS[values.pop("type", "LocalityLinear")].from_config(values, **options)


def load(path: str | os.PathLike[str], model: M | None = None) -> M | Locality:
    """Read what :func:`save` wrote: into ``model``, or, where a lone layer was saved, as a new layer.

    Raises:
        ValueError: no such file or not of this format, another geometry or cost than the model's, or weights that do
            not fit it; the model is then unchanged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise wrong("path", f"{os.fspath(path)} ({error})", "a readable safetensors file") from None
    if FORMAT not in metadata:
        raise wrong("path", f"{os.fspath(path)} of another format", f"a file of {FORMAT}, as save writes")
    layers = _read_layers(path, metadata[FORMAT])
    into: nn.Module
    if model is None:
        if list(layers) != [""]:
            raise wrong("model", "None", f"the model to load into: {os.fspath(path)} holds {', '.join(layers)}")
        weights = [tensor for name, tensor in tensors.items() if "weight" in name]
        if not weights:
            raise wrong("path", f"{os.fspath(path)} with {', '.join(tensors)} alone", "a layer's weight")
        kept = {"kept": tensors["kept"]} if "kept" in tensors else {}
        try:
            into = _made(layers[""], dtype=weights[0].dtype, **kept)
        except (TypeError, RuntimeError, AssertionError) as error:
            said = " ".join(str(error).split())
            raise wrong("path", f"{os.fspath(path)} ({_short(said)})", "arguments that a layer takes") from None
    else:
        into = model
    _check_layers(into, layers)
    # by every name that the state dict has for it: a layer may be in several places
    places = {n: m for n, m in into.named_modules(remove_duplicate=False) if isinstance(m, LocalityLinear)}
    # a layer that was saved pruned: what the model's own becomes, once all else is known to fit
    pruned = {
        layer: LocalityLinear.from_config(
            layer.config(), kept=tensors[_key(name, "kept")], device=layer.weight.device, dtype=layer.weight.dtype
        )
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
    fits = {_key(name, "weight"): pruned.get(layer, layer) for name, layer in places.items()}
    wires = {_key(name, "kept") for name in places}
    for key, value in tensors.items():
        if state[key].shape != value.shape and not (key in fits and fits[key].takes(value)):
            raise wrong("model", f"{key} of shape {tuple(state[key].shape)}", f"{tuple(value.shape)}, as in the file")
        if key in wires and not torch.equal(state[key].cpu(), value):
            raise wrong("model", f"{key} of other wires", "the wires in the file")
    for layer, other in pruned.items():
        layer._become(other)
    into.load_state_dict(tensors)
    return into


def _key(name: str, parameter: str) -> str:
    """The state dict's key of a layer's parameter."""
    return f"{name}.{parameter}" if name else parameter


def _read_layers(path: str | os.PathLike[str], text: str) -> dict[str, dict[str, Any]]:
    """The configs of a file's locality layers, by name."""
    try:
        layers = json.loads(text)
    except ValueError:
        layers = None
    if not (isinstance(layers, dict) and layers and all(_describes(one) for one in layers.values())):
        raise wrong("path", f"{os.fspath(path)} with {_short(text)}", "a description of its layers")
    return layers


def _describes(one: Any) -> bool:
    """Whether ``one`` has the arguments of the layer that it names, and no others."""
    kind = KINDS.get(str(one.get("type", "LocalityLinear"))) if isinstance(one, dict) else None
    return kind is not None and one.keys() - {"type"} == kind.keys()


def _check_layers(model: nn.Module, layers: dict[str, dict[str, Any]]) -> None:
    held = dict(locality_layers(model))
    if held.keys() != layers.keys():
        raise wrong("model", f"locality layers {sorted(held)}", f"{sorted(layers)}, as in the file")
    for name, config in layers.items():
        # the backend is a way to compute, and free to differ
        mine = _described(held[name])
        for key in sorted((config.keys() | mine.keys()) - {"backend"}):
            if mine.get(key) != config.get(key):
                label = f"{name}.{key}" if name else key
                raise wrong("model", f"{label} = {_short(mine.get(key))}", f"{_short(config.get(key))}, as in the file")


def _short(value: object, most: int = 120) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"
