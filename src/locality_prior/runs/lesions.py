"""What units are worth: a network's loss and scores without them, against those without as many random units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from locality_prior._check import count, instance, wrong
from locality_prior.placement import Placement, mask_of
from locality_prior.runs.loop import evaluate
from locality_prior.runs.measure import scores_of
from locality_prior.runs.stages import held, staged
from locality_prior.runs.task import Batch, Task


@dataclass(frozen=True)
class Lesion:
    """A network's loss and scores by name: whole, without the given units, and without as many random ones.

    >>> from locality_prior.runs import Lesion
    >>> found = Lesion({"loss": 0.5}, {"loss": 1.5}, {"loss": (0.5, 0.75, 0.625)}, {"loss": 0.25})
    >>> found.lesioned["loss"] - max(found.random["loss"])
    0.75

    Args:
        whole: of the whole network.
        lesioned: of the network without the given units.
        random: of the network without random units, once for each draw.
        p: the share of random lesions, with the given one among them, that harm as much as the given one. Of n draws it
            is never below 1/(n + 1).
    """

    whole: dict[str, float]
    lesioned: dict[str, float]
    random: dict[str, tuple[float, ...]]
    p: dict[str, float]


def lesion(
    model: nn.Module, placed: Placement, task: Task, name: str, units: Any, *, times: int = 20, seed: int = 0
) -> Lesion:
    """Knock out units of a sheet, and again and again as many that are drawn at random from the whole sheet.

    A unit that is knocked out gives 0 (see :meth:`~locality_prior.Placement.lesion`). The loss and the scores
    are those over the task's kept items, as in the lesions that each run measures.

    >>> import torch
    >>> import locality_prior as lp
    >>> from locality_prior.runs import Task, lesion
    >>> x, y = torch.rand(60, 16), torch.arange(60) % 3
    >>> task = Task.classification(train=(x[:40], y[:40]), test=(x[40:], y[40:]))
    >>> net = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    >>> placed = lp.place(net, {"1": lp.Grid(4, 4)})
    >>> found = lesion(net, placed, task, "1", units=[0, 1, 4, 5], times=3)
    >>> sorted(found.whole), len(found.random["loss"])
    (['accuracy', 'loss'], 3)

    Args:
        model: the trained network. It is put into evaluation mode, and back.
        placed: its sheets, from :func:`locality_prior.place`.
        task: what it learned.
        name: the sheet, by the name of its module.
        units: the numbers of the units, (units,), such as those that :func:`locality_prior.analysis.localizer` finds.
        times: how many random draws.
        seed: of the draws.

    Raises:
        ValueError, TypeError: arguments that do not fit, no unit, or a sheet that ``placed`` does not have.
    """
    instance("model", model, nn.Module, "a torch.nn.Module")
    instance("placed", placed, Placement, "a placement, from locality_prior.place")
    instance("task", task, Task, "a Task")
    if placed.model is not model:
        raise wrong("placed", "a placement of another model", "a placement of modules of this model")
    times, seed = count("times", times, most=10_000), count("seed", seed, least=0)
    n = len(placed[name].geometry)
    chosen = mask_of("units", units, n).nonzero()[:, 0]
    if not len(chosen):
        raise wrong("units", "none", "at least one unit")
    generator = torch.Generator().manual_seed(seed)
    draws = [torch.randperm(n, generator=generator)[: len(chosen)] for _ in range(times)]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def kept() -> Iterator[Batch]:
        return (batch for batch in task.kept() if len(batch.targets))

    training = [(module, module.training) for module in model.modules()]
    try:
        # what comes before the sheet is computed once
        before, rest = staged(model, [name], kept, device)
        read = held(kept, before, device)

        def scores() -> dict[str, float]:
            found = evaluate(rest, task, read(), device)
            return {score.name: found[score.name] for score in scores_of(task)}

        whole, each = scores(), []
        for lost in (chosen, *draws):
            with placed.lesion(name, lost):
                each.append(scores())
    finally:
        for module, was in training:
            module.training = was
    lesioned, others = each[0], each[1:]
    random = {key: tuple(one[key] for one in others) for key in whole}
    p = {}
    for score in scores_of(task):
        sign = 1.0 if score.better == "down" else -1.0
        as_much = sum(sign * value >= sign * lesioned[score.name] for value in random[score.name])
        p[score.name] = (1 + as_much) / (1 + times)
    return Lesion(whole, lesioned, random, p)
