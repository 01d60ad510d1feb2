"""Layers on disk: safetensors, with the geometries and costs of the locality layers."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor, nn

from locality_prior._check import instance, short, wrong, wrong_type
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
#: The only key of a file's metadata (with a second key their order, and so the file's bytes, would be random).
FORMAT = "locality-prior/1"
#: Names of tensors that hold the numbers of a geometry begin with this; no name of a parameter does.
RESERVED = "locality-prior:"
#: Lists of fewer numbers stay in the metadata.
LONG = 64
#: The keys of mappings that stand in the metadata for a tensor, a list of numbers, and a list of rows by columns.
TENSOR, LIST, COLUMNS = (f"{RESERVED}{what}" for what in ("tensor", "list", "columns"))


def save(module: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the weights of a layer or model as safetensors, with the geometries and costs of its locality layers.

    The metadata holds the geometries and costs as JSON. Long lists of numbers, such as measured distances, are tensors
    of the file.

    Raises:
        ValueError: ``module`` has no locality layer, or it has a cost or metric that is not a function at the top of an
            importable module.
    """
    layers = {name: _described(layer) for name, layer in locality_layers(module)}
    if not layers:
        raise wrong("module", type(module).__name__, "a model with a locality layer")
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    numbers: dict[str, Tensor] = {}
    text = json.dumps(_without_numbers(layers, numbers))
    with replacing(path) as partial:
        partial.write_bytes(serialise(tensors | numbers, {FORMAT: text}))


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
    # by every name that the state dict has for a layer, which may be in several places
    places = {n: m for n, m in into.named_modules(remove_duplicate=False) if isinstance(m, LocalityLinear)}
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
    for key, value in tensors.items():
        name, _, last = key.rpartition(".")
        own = pruned.get(places[name], places[name]) if name in places else None
        if state[key].shape != value.shape and not (own is not None and last == "weight" and own.takes(value)):
            raise wrong("model", f"{key} of shape {tuple(state[key].shape)}", f"{tuple(value.shape)}, as in the file")
        if own is not None and last == "kept" and not torch.equal(own.rule.kept, value):  # type: ignore[arg-type]
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
        layers = _with_numbers(json.loads(metadata[FORMAT]), numbers)
    except (ValueError, LookupError, TypeError, RuntimeError, RecursionError):
        layers = None
    if not (isinstance(layers, dict) and layers and all(_describes(one) for one in layers.values())):
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
    values = dict(layers[""])
    try:
        kind = KINDS[values.pop("type", "LocalityLinear")]
        return kind.from_config(values, custom, device="meta", dtype=weights[0].dtype, **kept)
    except (TypeError, RuntimeError, AssertionError) as error:
        raise wrong("path", f"{os.fspath(path)} ({short(str(error))})", "arguments that a layer takes") from None


def _described(layer: Locality) -> dict[str, Any]:
    """A layer's config, and its type where that is not LocalityLinear."""
    kind = next(k.__name__ for k in type(layer).__mro__ if k.__name__ in KINDS)
    return ({} if kind == "LocalityLinear" else {"type": kind}) | layer.config()


def _describes(one: Any) -> bool:
    """Whether ``one`` has the arguments of the layer that it names, and no others."""
    kind = KINDS.get(str(one.get("type", "LocalityLinear"))) if isinstance(one, dict) else None
    return kind is not None and one.keys() - {"type"} == kind.keys()


def _check_layers(model: nn.Module, layers: dict[str, dict[str, Any]]) -> None:
    held = dict(locality_layers(model))
    if held.keys() != layers.keys():
        raise wrong("model", f"locality layers {sorted(held)}", f"{sorted(layers)}, as in the file")
    for name, config in layers.items():
        # two layers may compute the same with different backends
        mine = _described(held[name])
        for key in sorted((config.keys() | mine.keys()) - {"backend"}):
            if not _equal(mine.get(key), config.get(key)):
                label = f"{name}.{key}" if name else key
                raise wrong("model", f"{label} = {_told(mine.get(key))}", f"{_told(config.get(key))}, as in the file")


def _key(name: str, parameter: str) -> str:
    """The state dict's key of a layer's parameter."""
    return f"{name}.{parameter}" if name else parameter


def _told(value: object, most: int = 120) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"


# --- numbers of a config as tensors ----------------------------------------------------------------------------------


def _without_numbers(config: Any, numbers: dict[str, Tensor]) -> Any:
    """``config`` with its long lists of numbers moved to ``numbers``: a mapping names the tensor in their place."""
    if isinstance(config, dict):
        return {key: _without_numbers(value, numbers) for key, value in config.items()}
    if isinstance(config, (Tensor, np.ndarray)):
        return {TENSOR: _put(torch.as_tensor(config).detach().cpu().contiguous(), numbers)}
    if not isinstance(config, (list, tuple)):
        return config
    rows = len(config) > 0 and all(isinstance(row, (list, tuple)) and len(row) == len(config[0]) for row in config)
    if (len(config) * len(config[0]) if rows else len(config)) >= LONG:
        matrix = _as_tensor(config, rows)
        if matrix is not None:
            return {LIST: _put(matrix, numbers)}
        if rows and len(config) > len(config[0]):  # the columns may be numbers of different kinds
            columns = [_as_tensor(column, False) for column in zip(*config, strict=True)]
            if all(column is not None for column in columns):
                return {COLUMNS: [_put(column, numbers) for column in columns if column is not None]}
    return [_without_numbers(value, numbers) for value in config]


def _with_numbers(config: Any, numbers: dict[str, Tensor]) -> Any:
    """The config that :func:`_without_numbers` took apart."""
    if isinstance(config, list):
        return [_with_numbers(value, numbers) for value in config]
    if not isinstance(config, dict):
        return config
    if config.keys() == {TENSOR}:
        return numbers[config[TENSOR]]
    if config.keys() == {LIST}:
        return _as_list(numbers[config[LIST]])
    if config.keys() == {COLUMNS}:
        columns = [_as_list(numbers[key]) for key in config[COLUMNS]]
        return [list(row) for row in zip(*columns, strict=True)]
    return {key: _with_numbers(value, numbers) for key, value in config.items()}


def _as_tensor(values: Any, rows: bool) -> Tensor | None:
    """A list of numbers of one kind as a tensor, with inf for None; None where it is no such list."""
    flat = [x for row in values for x in row] if rows else values
    kinds = set(map(type, flat))
    shape = (len(values), len(values[0])) if rows else (len(values),)
    try:
        if kinds == {int}:
            return torch.tensor(flat, dtype=torch.int64, device="cpu").reshape(shape)
        if kinds in ({float}, {float, type(None)}) and all(x is None or math.isfinite(x) for x in flat):
            filled = [math.inf if x is None else x for x in flat]
            return torch.tensor(filled, dtype=torch.float64, device="cpu").reshape(shape)
    except (OverflowError, ValueError, RuntimeError):
        return None  # a whole number beyond 64 bits
    return None


def _as_list(values: Tensor) -> Any:
    """The list that :func:`_as_tensor` made a tensor of."""
    made = values.tolist()
    if not values.is_floating_point() or bool(values.isfinite().all()):
        return made
    if values.ndim == 1:
        return [None if x == math.inf else x for x in made]
    return [[None if x == math.inf else x for x in row] for row in made]


def _put(tensor: Tensor, numbers: dict[str, Tensor]) -> str:
    """The name of ``tensor`` among ``numbers``, where equal ones are kept once."""
    for key, other in numbers.items():
        if other.dtype == tensor.dtype and torch.equal(other, tensor):
            return key
    key = f"{RESERVED}{len(numbers)}"
    numbers[key] = tensor
    return key


def _equal(a: Any, b: Any) -> bool:
    """Whether two configs are equal, where values may be tensors or arrays."""
    if isinstance(a, (Tensor, np.ndarray)) or isinstance(b, (Tensor, np.ndarray)):
        return torch.equal(torch.as_tensor(a), torch.as_tensor(b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return bool(a == b)
