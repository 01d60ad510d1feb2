"""A network in two stages, so that what does not change from one score to the next is computed once."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn

from locality_prior.runs.network import call, to_device
from locality_prior.runs.task import Batch, first

#: The most bytes of items that are held in memory while a network is scored again and again.
MEMORY = 2 << 30

#: What gives the same batches each time it is called.
Reader = Callable[[], Iterator[Batch]]


def staged(
    model: nn.Module, names: Sequence[str], read: Reader, device: torch.device
) -> tuple[nn.Module | None, nn.Module]:
    """What comes before the first of the modules ``names``, and the rest, which is given what the first stage gives.

    Where the model is no plain sequence, or gives a tuple, say, between the stages, there is no first stage.

    Args:
        model: the network.
        names: the modules that change.
        read: the batches, of which a few items are tried.
        device: where the model is.
    """
    stages = _stages(model, names)
    if stages is not None:
        some = [first(batch, 2).inputs for batch in itertools.islice(read(), 1)]
        with torch.no_grad():
            if all(isinstance(call(stages[0].eval(), to_device(x, device)), torch.Tensor) for x in some):
                return stages
    return None, model


def held(read: Reader, before: nn.Module | None, device: torch.device) -> Reader:
    """The batches after the stage ``before``: from memory where they fit, else read and computed again each time."""

    def again() -> Iterator[Batch]:
        for batch in read():
            if before is None:
                yield batch
            else:
                with torch.no_grad():
                    inputs = call(before, to_device(batch.inputs, device)).cpu()
                yield batch._replace(inputs=inputs)

    kept = _in_memory(again())
    return again if kept is None else lambda: iter(kept)


def _in_memory(batches: Iterator[Batch]) -> list[Batch] | None:
    """The batches as a list; None where they take more than :data:`MEMORY`, and must be read again each time."""
    kept, size = [], 0
    for batch in batches:
        inputs = batch.inputs
        parts = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else (inputs,)
        size += sum(x.numel() * x.element_size() for x in parts if isinstance(x, torch.Tensor))
        if size > MEMORY:
            return None
        kept.append(batch)
    return kept


def _stages(model: nn.Module, names: Sequence[str]) -> tuple[nn.Module, nn.Module] | None:
    """The stages; None where the model is no plain sequence."""
    plain = isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward
    if not plain or model._forward_hooks or model._forward_pre_hooks:
        return None
    parts = list(model._modules.items())  # named_children() would leave out a module that is used twice
    at = min([key for key, _ in parts].index(name.partition(".")[0]) for name in names)
    return nn.Sequential(OrderedDict(parts[:at])), nn.Sequential(OrderedDict(parts[at:]))  # type: ignore[arg-type]
