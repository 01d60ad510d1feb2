"""A model's parameters in another order of its units, with the same function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from locality_prior._check import instance, wrong
from locality_prior.geometry.permuted import inverse, permutation
from locality_prior.layers import Locality

_CONV = nn.modules.conv._ConvNd
_NORM = nn.modules.batchnorm._NormBase
KNOWN = "a Linear, a convolution of one group, a BatchNorm, an InstanceNorm or a LayerNorm over the units"


def permute(
    model: nn.Module,
    order: Any,
    *,
    units: Iterable[str],
    inputs: Iterable[str],
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Reorder a model's units in its parameters, as an order says: unit k becomes unit ``order[k]``.

    Afterwards unit p sits at place p, so the units lie on the sheet for which the order was found, without a
    permutation. The model computes the same as before, but for rounding, under three conditions: ``units`` names every
    module that has the units as its outputs or features, ``inputs`` names every module that takes them in, and whatever
    lies between treats all units alike (activations, dropout, pooling, flattening).

    >>> import torch
    >>> import locality_prior as lp
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(4, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 2)).eval()
    >>> x = torch.randn(5, 4)
    >>> y, sheet = net(x), lp.Grid(3, 3)
    >>> order = lp.arrange.by_similarity(net[:3](x), sheet)
    >>> lp.arrange.permute(net, order, units=["0", "1"], inputs=["3"])
    >>> bool(torch.allclose(net(x), y, atol=1e-6))
    True

    Args:
        model: changed in place. The modules that are named must be Linear, convolutions of one group, BatchNorm,
            InstanceNorm, or LayerNorm over the units.
        order: the new number of each unit, (units,): a permutation, such as :func:`by_wires` returns.
        units: names of the modules whose outputs or features are the units; those of a convolution are its channels.
        inputs: names of the modules whose inputs are the units. A Linear on flattened feature maps has as many inputs
            for each unit as a feature map has places.
        optimizer: what it holds for these parameters, such as momenta, is reordered with them; None: there is no
            optimiser, or it holds nothing yet.

    Raises:
        ValueError, TypeError: no such module, a module of another kind or of another number of units, or one with
            parameters that others share or that are computed. The model is then unchanged.
    """
    instance("model", model, nn.Module, "a model")
    if optimizer is not None:
        instance("optimizer", optimizer, torch.optim.Optimizer, "an optimizer, or None")
    sides = [(name, "units") for name in _names("units", units)] + [
        (name, "inputs") for name in _names("inputs", inputs)
    ]
    if not sides or sides[0][1] == "inputs":
        raise wrong("units", "no module", "the names of one module or more")
    modules = dict(model.named_modules(remove_duplicate=False))
    n = len(order) if hasattr(order, "__len__") else 0
    place = inverse(permutation("order", order, n))
    moves: dict[tuple[int, int], tuple[Tensor, int, Tensor]] = {}
    for name, side in sides:
        if name not in modules:
            raise wrong(side, name, "the name of a module of the model")
        for tensor, axis in _of(side, name, modules[name], n):
            if (id(tensor), axis) in moves:
                raise wrong(side, f"{name!r}, whose parameters another of these modules shares", "separate modules")
            each = tensor.shape[axis] // n
            index = (place[:, None] * each + torch.arange(each)).flatten() if each > 1 else place
            moves[id(tensor), axis] = tensor, axis, index.to(tensor.device)
    with torch.no_grad():
        for tensor, axis, index in moves.values():
            kept = optimizer.state.get(tensor, {}) if optimizer is not None else {}
            for one in [tensor, *(v for v in kept.values() if isinstance(v, Tensor) and v.shape == tensor.shape)]:
                one.copy_(one.index_select(axis, index))


def _names(argument: str, names: Any) -> list[str]:
    found = [names] if isinstance(names, str) else list(names)
    for name in found:
        instance(argument, name, str, "names of modules")
    return found


def _of(side: str, name: str, module: nn.Module, n: int) -> list[tuple[Tensor, int]]:
    """The tensors of a module in which the units go along an axis, and that axis."""
    given = f"{name!r}, a {type(module).__name__}"
    if isinstance(module, Locality):
        raise wrong(side, given, f"{KNOWN}; fold() makes a locality layer one")
    if parametrize.is_parametrized(module) or getattr(module, "_forward_pre_hooks", None):
        raise wrong(side, f"{given} whose weight is computed", KNOWN)
    size: int | None = None
    found: list[Tensor | None] = []
    axis = 0
    if isinstance(module, nn.Linear):
        size = module.out_features if side == "units" else module.in_features
    elif isinstance(module, _CONV) and module.groups == 1:
        size = module.out_channels if side == "units" else module.in_channels
    elif side == "units" and isinstance(module, _NORM):
        size = module.num_features
        found = [module.weight, module.bias, module.running_mean, module.running_var]
    elif side == "units" and isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
        size = module.normalized_shape[0]
        found = [module.weight, module.bias]
    else:
        raise wrong(side, given, KNOWN if side == "units" else "a Linear or a convolution of one group")
    if not found:
        weight: Tensor = module.weight
        bias: Tensor | None = module.bias
        turned = isinstance(module, _CONV) and module.transposed
        axis = int(turned) if side == "units" else 1 - int(turned)
        found = [weight]
        if side == "units" and bias is not None:
            _fits(side, given, size, n, whole=True)
            return [(weight, axis), (bias, 0)]
    flattened = side == "inputs" and isinstance(module, nn.Linear)
    _fits(side, given, size, n, whole=not flattened)
    return [(x, axis) for x in found if x is not None]


def _fits(side: str, given: str, size: int, n: int, whole: bool) -> None:
    if size != n if whole else size % n:
        raise wrong(side, f"{given} of {size} {'units' if side == 'units' else 'inputs'}", f"{n}, as in the order")
