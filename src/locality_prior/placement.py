"""Which of a model's modules lie on which geometry: their weights and activations, unit by unit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from locality_prior._check import Problem, choice, short, shown, wrong
from locality_prior.geometry import Geometry, Grid, meet
from locality_prior.layers import Locality, LocalityLinear
from locality_prior.layers.base import DENSE
from locality_prior.retrofit.targets import chosen, is_conv1d

T = TypeVar("T")

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)
_SPATIAL = (nn.modules.conv._ConvNd, *_NORMS)
#: Where each kind of module says how many units it has, and how many its wires come from.
_OUT: dict[Any, str] = {
    (nn.Linear, LocalityLinear): "out_features",
    nn.modules.conv._ConvNd: "out_channels",
    nn.MultiheadAttention: "embed_dim",
    nn.modules.batchnorm._NormBase: "num_features",
    nn.GroupNorm: "num_channels",
    nn.Embedding: "embedding_dim",
}
_IN: dict[Any, str] = {
    (nn.Linear, LocalityLinear): "in_features",
    nn.modules.conv._ConvNd: "in_channels",
    nn.RNNBase: "input_size",
    nn.MultiheadAttention: "embed_dim",
}


@dataclass(frozen=True, eq=False)
class Placed:
    """One module on a geometry.

    Attributes:
        name: the module's name in the model.
        module: the module itself.
        geometry: the places of its units.
        axis: the axis of the module's output along which the units go; None where the output's shape decides.
        batch: the axis of the output along which the items of a batch go.
        source: the places of the units that the module's wires come from; None where they are not known.
    """

    name: str
    module: nn.Module
    geometry: Geometry
    axis: int | None
    batch: int = 0
    source: Geometry | None = None


@dataclass(frozen=True, eq=False)
class Between:
    """Effective weights V from one sheet to another.

    Attributes:
        weight: (out, in), or (out, in, …) with one matrix for each place of a kernel; differentiable.
        target: the places of the units that the rows belong to.
        source: the places of the units that the columns belong to; None where they are not known.
    """

    weight: Tensor
    target: Geometry
    source: Geometry | None


class Recording:
    """What :meth:`Placement.record` has seen: ``seen[name]`` is (samples, units), or (items, units)."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._parts: dict[str, list[Tensor]] = {name: [] for name in names}

    def __getitem__(self, name: str) -> Tensor:
        parts = _of(self._parts, name)
        if not parts:
            raise Problem(
                f"{name} was not called within the record() block, so there are no activations of it. "
                "Run the model inside the block, and place a module that the model calls."
            )
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts


class Placement:
    """Modules of a model on geometries, made by :func:`place`. Iterating over it gives the modules' names.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU())
    >>> placed = lp.place(net, {"1": lp.Grid(8, 8)})
    >>> placed
    Placement(1: Grid(8, 8))
    >>> with placed.record() as seen:
    ...     y = net(torch.randn(5, 4))
    >>> seen["1"].shape
    torch.Size([5, 64])
    """

    def __init__(self, model: nn.Module, modules: list[Placed]) -> None:
        self.model = model
        self._placed = {one.name: one for one in modules}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the placed modules, in the order of the keys and, within a key, of the model."""
        return tuple(self._placed)

    def __getitem__(self, name: str) -> Placed:
        return _of(self._placed, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._placed)

    def __len__(self) -> int:
        return len(self._placed)

    def __contains__(self, name: object) -> bool:
        return name in self._placed

    def __repr__(self) -> str:
        return f"Placement({', '.join(f'{p.name}: {p.geometry!r}' for p in self._placed.values())})"

    def weights(self, name: str, layer: int = -1) -> Tensor:
        """Incoming effective weights of a module's units, (units, incoming); differentiable.

        Row i holds everything that is multiplied on its way into unit i:

        - ``Linear``, and Conv1D of the ``transformers`` library: the weight, (out, in).
        - convolutions: a unit is an output channel; its kernel is flattened, (out, in · kernel).
        - ``RNN``, ``GRU``, ``LSTM``: a unit is a hidden unit; its rows of W_ih and W_hh for every gate stand side by
          side. A bidirectional network has the forward direction's units first.
        - ``MultiheadAttention``: the output projection's weight, since its outputs are the units that :meth:`record`
          sees.
        - the locality layers: V = P∘W of the same weights, 0 where there is no wire.

        Args:
            name: name of a placed module.
            layer: which layer of a recurrent network; the last one by default, whose units :meth:`record` sees.

        Raises:
            ValueError: the module has no weights into its units (a ReLU has none).
        """
        placed = self[name]
        return _by_unit(placed, _incoming(name, placed.module, layer))

    def matrices(self, name: str) -> list[Between]:
        """Effective weights of a module, as matrices between the sheets of its units; differentiable.

        - ``Linear``, Conv1D of the ``transformers`` library, convolutions: one, (out, in) or (out, in, *kernel).
        - ``RNN``, ``GRU``, ``LSTM`` of one direction: for each gate of the last layer W_hh, from the hidden units to
          themselves. In a network of one layer also W_ih, where the places of its inputs are known.
        - ``MultiheadAttention``: the projections of queries, keys, values and outputs.

        Args:
            name: name of a placed module.

        Raises:
            ValueError: the module has no weights between its units and others, two directions, or several groups.
        """
        return _between(self[name])

    @contextmanager
    def record(self, items: bool | Literal["last"] = False) -> Iterator[Recording]:
        """Record the units' activations for the length of a ``with`` block.

        Inside and after the block, ``seen[name]`` is (samples, units): every image, token and position of a feature map
        is a sample. The rows of several calls follow one another in the order of the calls. Gradients flow through
        what is recorded, as everywhere, unless under ``torch.no_grad``. The modules' hooks are removed at the end of
        the block, after an exception too.

        >>> import torch
        >>> from locality_prior import Grid, place
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 9), torch.nn.ReLU())
        >>> placed = place(net, {"1": Grid(3, 3)})
        >>> with placed.record() as seen:
        ...     y = net(torch.randn(5, 4))
        >>> seen["1"].shape
        torch.Size([5, 9])

        Args:
            items: whether to give one row for each item of the batch, (items, units): True for the mean over tokens or
                positions, "last" for the last token alone. The batch goes along axis 0, or along axis 1 where a
                recurrent network, an attention module or one of torch's transformers says ``batch_first=False``, and in
                the modules inside it.

        Raises:
            ValueError: while the model runs, a module gives an output with no axis that fits the geometry, or, for
                the last token, one with several axes along which it could be.
        """
        items = choice("items", items, (False, True, "last"))
        seen = Recording(self.names)
        with ExitStack() as stack:
            for placed in self._placed.values():
                stack.enter_context(hooked(placed.module, _hook(placed, seen._parts[placed.name], items)))
            yield seen

    @contextmanager
    def lesion(self, name: str, units: Any) -> Iterator[None]:
        """Knock out some units of a module for the length of a ``with`` block: they give 0.

        A unit gives 0 wherever its module is called, in what the module gives; what goes on inside the module is as it
        was. Gradients do not flow through the units. The hooks are removed at the end of the block, after an exception
        too. A :meth:`record` inside the block sees the zeros.

        >>> import torch
        >>> from locality_prior import Grid, place
        >>> net = torch.nn.Sequential(torch.nn.Linear(4, 9))
        >>> placed = place(net, {"0": Grid(3, 3)})
        >>> with placed.lesion("0", [0, 4]):
        ...     y = net(torch.randn(5, 4))
        >>> (y == 0).all(0).nonzero().flatten()
        tensor([0, 4])

        Args:
            name: name of a placed module.
            units: the numbers of the units, (units,) whole numbers from 0.

        Raises:
            ValueError: numbers that are not those of units.
        """
        placed = self[name]
        lost = mask_of("units", units, len(placed.geometry))

        def silence(module: nn.Module, args: Any, output: Any) -> Any:
            packed = first_of(output, PackedSequence)
            found = first_of(output, Tensor) if packed is None else packed.data
            return output if found is None else silenced(placed, output, lost.to(found.device))

        with hooked(placed.module, silence):
            yield


def place(
    model: nn.Module, targets: Mapping[Any, Geometry | tuple[Geometry | None, Geometry] | Literal[False]]
) -> Placement:
    """Say which modules of a model lie on which geometry. Nothing in the model is changed.

    >>> from locality_prior import Grid, place
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 16))
    >>> placed = place(net, {nn.Linear: Grid(4, 4), "1": Grid(2, 8)})
    >>> placed.names
    ('0', '2', '1')
    >>> placed["2"].geometry, placed.weights("0").shape
    (Grid(4, 4), torch.Size([16, 9]))

    Args:
        model: any model. Any module in it can be placed.
        targets: geometries by module. A key is a module's name, the end of one or several names, a pattern or a type,
            as in :func:`~locality_prior.localize`; each module that it names is placed on the geometry. A pair
            (source, target) says also where the units lie that the module's wires come from. Without it they lie on
            the same geometry if there are as many, and a locality layer knows its own. The value ``False`` leaves out
            the modules that its key names, and everything inside them.

    The units of a module go along one axis of its output: the last one for ``Linear``, recurrent networks, attention,
    ``LayerNorm`` and embeddings, and axis 1 for convolutions, ``BatchNorm`` and ``GroupNorm``. For any other module the
    output decides, by the first of these that has as many entries as the geometry has units: axis 1 of a feature map
    (n, channels, h, w); the last axis; another axis, if only one fits; all axes but the first, flattened. By the last
    rule a feature map of 256 channels of 6×6 lies on ``Grid(6, 6).with_channels(256)``. Where a module gives a tuple or
    a mapping, its first tensor is the output.

    Raises:
        ValueError, TypeError: a key that names nothing, a module placed twice, or a geometry that does not have as
            many units as the module.
    """
    placed = []
    for target in chosen(model, targets, replaceable=False):
        name, given = target.names[0], target.value
        source, geometry = given if isinstance(given, tuple) and len(given) == 2 else (None, given)
        if not isinstance(geometry, Geometry) or not isinstance(source, (Geometry, type(None))):
            expected = "a geometry, such as Grid(7, 7), a pair (source, target), or False"
            raise wrong("targets", f"{shown(given)} for {name}", expected)
        axis = _axis(name, target.module, geometry)
        source = _source(name, target.module, geometry, source)
        placed.append(Placed(name, target.module, geometry, axis, _batch_axis(model, name), source))
    return Placement(model, placed)


def makers(model: nn.Module) -> Placement:
    """Every module of a model whose weights make units, such as a linear layer, on a line of as many places."""
    found = []
    for name, module in model.named_modules():
        units = None if isinstance(module, (*_NORMS, nn.LayerNorm)) else _units(module)
        if name and units is not None:
            line = Grid(units)
            found.append(Placed(name, module, line, _axis(name, module, line), _batch_axis(model, name)))
    return Placement(model, found)


def _of(known: dict[str, T], name: Any) -> T:
    if not isinstance(name, str) or name not in known:
        raise wrong("name", shown(name), f"one of {short(', '.join(known))}")
    return known[name]


def mask_of(name: str, numbers: Any, n: int) -> Tensor:
    """Which of ``n`` units ``numbers`` names, (n,) bool."""
    expected = f"whole numbers from 0 to {n - 1} of shape (units,)"
    try:
        given = torch.as_tensor(numbers, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise wrong(name, shown(numbers), expected) from None
    whole = given.dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64) or not given.numel()
    if given.dim() != 1 or not whole or bool(((given < 0) | (given >= n)).any()):
        raise wrong(name, shown(numbers), expected)
    lost = torch.zeros(n, dtype=torch.bool, device="cpu")
    lost[given.long()] = True
    return lost


def _units(module: nn.Module) -> int | None:
    """How many units a module has; None where only its output can tell."""
    if isinstance(module, nn.RNNBase):
        return (module.proj_size or module.hidden_size) * (1 + module.bidirectional)
    if isinstance(module, nn.LayerNorm):
        return module.normalized_shape[-1] if len(module.normalized_shape) == 1 else None
    if is_conv1d(type(module)):
        return int(module.nf)  # type: ignore[arg-type]
    return _size(module, _OUT)


def _axis(name: str, module: nn.Module, geometry: Geometry) -> int | None:
    """The axis of the units; None where the output decides. An error where the numbers of units differ."""
    units, places = _units(module), len(geometry)
    if units is None:
        return None
    spatial = isinstance(module, _SPATIAL)
    if units == places:
        return 1 if spatial else -1
    if spatial and places % units == 0:
        return None  # a feature map, each of whose places is a unit
    kind = type(module).__name__
    given = f"{geometry!r} of {places} units for {name}, a {kind} of {units} units"
    raise wrong("targets", given, f"a geometry of {units} units")


def _source(name: str, module: nn.Module, geometry: Geometry, given: Geometry | None) -> Geometry | None:
    """Where the units lie that a module's wires come from; an error where a given geometry does not have as many."""
    if isinstance(module, Locality) and not isinstance(module, nn.RNNBase) and given is None:
        rules = [wiring.rule for wiring in module.wirings()]
        return next((rule.source for rule in rules if rule.target == geometry), None)
    units = _inputs(module)
    if given is None:
        return geometry if units == len(geometry) else None
    if units is None:
        raise wrong("targets", f"a source for {name}, a {type(module).__name__}", "a module with wires, or no source")
    if units != len(given):
        what = f"the source {given!r} of {len(given)} units for {name}, which has {units} inputs"
        raise wrong("targets", what, f"a source of {units} units")
    meet(geometry, given)
    return given


def _inputs(module: nn.Module) -> int | None:
    """How many units a module's wires come from; None for a module without wires."""
    if is_conv1d(type(module)):
        return len(attrgetter("weight")(module))
    return _size(module, _IN)


def _size(module: nn.Module, attributes: Mapping[Any, str]) -> int | None:
    """The number that a module of a known kind has in the attribute of that kind; None for other kinds."""
    attribute = next((name for kind, name in attributes.items() if isinstance(module, kind)), None)
    return None if attribute is None else int(getattr(module, attribute))


def _batch_axis(model: nn.Module, name: str) -> int:
    """The axis of a batch: 1 where the module, or the nearest one around it that says so, has batch_first=False."""
    parts = name.split(".")
    for k in range(len(parts), -1, -1):
        module: Any = model.get_submodule(".".join(parts[:k]))
        if isinstance(module, (nn.TransformerEncoder, nn.TransformerDecoder)):
            module = module.layers[0]
        if isinstance(module, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
            module = module.self_attn
        if isinstance(first := getattr(module, "batch_first", None), bool):
            return 0 if first else 1
    return 0


@contextmanager
def hooked(module: nn.Module, hook: Callable[[nn.Module, Any, Any], Any]) -> Iterator[None]:
    """A block in which ``hook`` is called after each call of a module, in evaluation mode too."""
    fast = torch.backends.mha.get_fastpath_enabled()
    handle = module.register_forward_hook(hook)
    try:
        # torch's encoder layers have a path in evaluation mode that calls none of their modules
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        handle.remove()
        torch.backends.mha.set_fastpath_enabled(fast)


def _hook(placed: Placed, parts: list[Tensor], items: bool | Literal["last"]) -> Callable[[nn.Module, Any, Any], None]:
    def see(module: nn.Module, args: Any, output: Any) -> None:
        parts.append(rows(placed, output, items))

    return see


def rows(placed: Placed, output: Any, items: bool | Literal["last"]) -> Tensor:
    """A module's output as (samples, units), or (items, units): a copy, since in-place operations may follow.

    An item's row is the mean over its tokens or positions, or that of the "last" token.
    """
    n = len(placed.geometry)
    packed = first_of(output, PackedSequence)
    if packed is not None:
        if not items:
            steps: Tensor = packed.data
            return steps.clone()
        padded, lengths = pad_packed_sequence(packed, batch_first=True)
        lengths = lengths.to(padded.device)
        if items == "last":
            return padded[torch.arange(len(padded), device=padded.device), lengths - 1]
        return padded.sum(1) / lengths[:, None]
    found = first_of(output, Tensor)
    if found is None:
        raise wrong(
            "targets", f"{placed.name}, whose output is a {type(output).__name__}", "a module that gives a tensor"
        )
    if isinstance(placed.module, nn.modules.conv._ConvNd) and found.dim() == len(placed.module.kernel_size) + 1:
        found = found.unsqueeze(0)  # one image, without a batch
    axis = along_axis(placed, found)
    if axis is None:
        return found.flatten(1).clone()
    if not items:
        return found.movedim(axis, -1).clone(memory_format=torch.contiguous_format).reshape(-1, n)
    along = axis % found.dim()
    batch = 0 if along == placed.batch else placed.batch
    sequences = isinstance(placed.module, (nn.RNNBase, nn.MultiheadAttention)) or batch == 1
    if found.dim() == 1 or (found.dim() == 2 and sequences):  # one item, without a batch
        found = found.movedim(along, -1).reshape(-1, n)
        return found[-1:].clone() if items == "last" else found.mean(0, keepdim=True)
    others = [k for k in range(found.dim()) if k not in (batch, along)]
    if items == "last" and others:
        if len(others) > 1:
            given = f"{placed.name}, whose output of shape {tuple(found.shape)} has {len(others)} axes of positions"
            raise wrong("targets", given, "one axis of tokens, of which the last is taken")
        return found.select(others[0], -1).clone()
    return found.mean(others) if others else found.clone()


def silenced(placed: Placed, output: Any, lost: Tensor) -> Any:
    """A module's output, with the units that are ``lost`` (units,) set to 0 in what :func:`rows` would give.

    Of a tuple or a mapping only the first tensor is changed. A recurrent network's states at the end are changed too,
    in its last layer, as the units that they belong to are the same.
    """
    module = placed.module
    if isinstance(output, PackedSequence):
        return output._replace(data=output.data.masked_fill(lost, 0))
    if isinstance(output, Tensor):
        if isinstance(module, nn.modules.conv._ConvNd) and output.dim() == len(module.kernel_size) + 1:
            return silenced(placed, output.unsqueeze(0), lost).squeeze(0)
        axis = along_axis(placed, output)
        if axis is None:
            return output.masked_fill(lost.reshape(output.shape[1:]), 0)
        return output.movedim(axis, -1).masked_fill(lost, 0).movedim(-1, axis)
    if isinstance(module, nn.RNNBase):
        steps, states = output
        each = tuple(_last_layer(module, s, lost) for s in (states if isinstance(states, tuple) else (states,)))
        return silenced(placed, steps, lost), each if isinstance(states, tuple) else each[0]
    if isinstance(output, Mapping):
        changed: Any = copy.copy(output)
        for key, part in output.items():
            if _holds(part):
                changed[key] = silenced(placed, part, lost)
                break
        return changed
    parts = list(output)
    at = next(k for k, part in enumerate(parts) if _holds(part))
    parts[at] = silenced(placed, parts[at], lost)
    return type(output)._make(parts) if hasattr(output, "_make") else type(output)(parts)


def _last_layer(module: nn.RNNBase, state: Tensor, lost: Tensor) -> Tensor:
    """A recurrent network's state at the end, (layers · directions, …, units), without the units that are lost."""
    directions = 1 + module.bidirectional
    if state.shape[-1] * directions != len(lost):  # cells of another number than the units
        return state
    changed = state.clone()
    for k, mine in enumerate(lost.reshape(directions, -1)):
        changed[k - directions] = state[k - directions].masked_fill(mine, 0)
    return changed


def along_axis(placed: Placed, output: Tensor) -> int | None:
    """The axis of ``output`` along which the units go; None: all axes but the first, flattened."""
    n, shape, axis = len(placed.geometry), tuple(output.shape), placed.axis
    if axis is not None and -len(shape) <= axis < len(shape) and shape[axis] == n:
        return axis
    if axis is None:
        if len(shape) == 4 and shape[1] == n:
            return 1
        if shape and shape[-1] == n:
            return -1
        fits = [k for k, size in enumerate(shape) if k > 0 and size == n]
        if len(fits) == 1:
            return fits[0]
        if len(shape) > 1 and output[:1].numel() == n:
            return None
    given = f"{placed.geometry!r} of {n} units for {placed.name}, whose output has shape {shape}"
    raise wrong("targets", given, "one axis of the output, or all but the first together, with as many entries")


def first_of(output: Any, kind: type[T]) -> T | None:
    """The first ``kind`` in a module's output; None where there is none."""
    if isinstance(output, kind):
        return output
    if isinstance(output, PackedSequence):
        return None
    parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else ()
    return next((found for part in parts if (found := first_of(part, kind)) is not None), None)


def _holds(output: Any) -> bool:
    """Whether there is a tensor, or a packed sequence, in a module's output."""
    return first_of(output, PackedSequence) is not None or first_of(output, Tensor) is not None


def _effective(name: str, module: nn.Module, parameter: str) -> Tensor:
    """V of a parameter of a torch layer, or of the locality layer of its kind, with an entry for each pair."""
    for wiring in module.wirings() if isinstance(module, Locality) else ():
        if wiring.name == parameter:
            if wiring.sparse and math.prod(wiring.shape) > DENSE:
                shape = " × ".join(map(str, wiring.shape))
                raise wrong("name", f"{name} of {shape} weights", f"a sparse layer of at most {DENSE:,} pairs")
            return wiring.matrix(dense=True)
    weight: Tensor = attrgetter(parameter)(module)  # which a parametrization may compute
    return weight


def _of_gates(name: str, module: nn.RNNBase, kind: str, layer: int) -> list[Tensor]:
    """V of a recurrent layer's gates, for each direction (gates, units, in); ``kind`` is ih or hh."""
    found = []
    for direction in ("", "_reverse")[: 1 + module.bidirectional]:
        weight = _effective(name, module, f"weight_{kind}_l{layer % module.num_layers}{direction}")
        found.append(weight.reshape(-1, module.hidden_size, weight.shape[1]))
    return found


def _check_recurrent(name: str, module: nn.RNNBase) -> None:
    if module.proj_size:
        raise wrong("name", f"{name}, a {type(module).__name__} with a projection", "one with proj_size=0")


def _no_weights(name: str, module: nn.Module) -> Exception:
    given = f"{name}, a {type(module).__name__}, which has no weights into its units"
    return wrong("name", given, "a linear, convolutional or recurrent layer or an attention module")


def _incoming(name: str, module: nn.Module, layer: int) -> Tensor:
    """Incoming effective weights by unit."""
    if isinstance(module, nn.RNNBase):
        layers = module.num_layers
        _check_recurrent(name, module)
        if isinstance(layer, bool) or not isinstance(layer, int) or not -layers <= layer < layers:
            raise wrong("layer", layer, f"a layer from {-layers} to {layers - 1}")
        each = zip(_of_gates(name, module, "ih", layer), _of_gates(name, module, "hh", layer), strict=True)
        return torch.cat([torch.cat([w.transpose(0, 1).flatten(1) for w in both], 1) for both in each])
    if isinstance(module, LocalityLinear):
        return _effective(name, module, "weight")
    if isinstance(module, nn.MultiheadAttention):
        return _effective(name, module, "out_proj.weight")
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return _effective(name, module, "weight").flatten(1)
    if isinstance(module, nn.Linear):
        return module.weight
    if is_conv1d(type(module)):
        return _effective(name, module, "weight").T
    raise _no_weights(name, module)


def _between(placed: Placed) -> list[Between]:
    """A module's effective weights between sheets."""
    name, module, target, source = placed.name, placed.module, placed.geometry, placed.source
    if isinstance(module, nn.RNNBase):
        _check_recurrent(name, module)
        if module.bidirectional or module.hidden_size != len(target):
            raise wrong("name", f"{name}, whose directions are two sheets", "a recurrent network of one direction")
        found = [Between(gate, target, target) for w in _of_gates(name, module, "hh", -1) for gate in w]
        if source is not None and module.num_layers == 1:
            found += [Between(gate, target, source) for w in _of_gates(name, module, "ih", -1) for gate in w]
        return found
    if isinstance(module, nn.MultiheadAttention):
        if module.in_proj_weight is None:
            raise wrong("name", f"{name}, whose keys or values have sizes of their own", "kdim and vdim of embed_dim")
        parts = _effective(name, module, "in_proj_weight").chunk(3)
        inside = [Between(part, target, source or target) for part in parts]
        return [*inside, Between(_effective(name, module, "out_proj.weight"), target, target)]
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        if module.groups > 1:
            raise wrong("name", f"{name}, a convolution of {module.groups} groups", "a convolution of one group")
        weight = _effective(name, module, "weight")
    elif isinstance(module, LocalityLinear):
        weight = _effective(name, module, "weight")
    elif isinstance(module, nn.Linear) or is_conv1d(type(module)):
        weight = _incoming(name, module, -1)
    else:
        raise _no_weights(name, module)
    return [Between(_by_unit(placed, weight), target, source)]


def _by_unit(placed: Placed, weight: Tensor) -> Tensor:
    """A weight, where it has a row for each unit of the module's geometry."""
    units = len(placed.geometry)
    if len(weight) != units:
        given = f"{placed.name}, whose weights belong to {len(weight)} units and its geometry to {units}"
        raise wrong("name", given, "a module placed by its channels, not by the places of its feature map")
    return weight
