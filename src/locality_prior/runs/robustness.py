"""What a trained network's score is worth: how it holds when inputs are perturbed and when units are knocked out."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from locality_prior.geometry import Geometry, Permuted
from locality_prior.runs.loop import evaluate
from locality_prior.runs.network import Network, call, sheet_of, to_device
from locality_prior.runs.stages import Reader, held, staged
from locality_prior.runs.task import Batch, Task, draw

#: The standard deviation of the noise, and the size of the step along the gradient's sign, in standard deviations of
#: the inputs.
NOISE, STEP = 0.5, 0.1
#: The share of a sheet's units that is knocked out at once, and how often.
SHARE, TIMES = 0.1, 5
#: What is measured of each network and of each sheet, as the main score over the kept items.
OF_NETWORKS = ("noise_score", "adversarial_score")
OF_SHEETS = ("patch_lesion_score", "random_lesion_score")


class _Undefined(Exception):
    """The loss has no gradient by the inputs."""


def robustness(net: Network, task: Task, device: torch.device, seed: int) -> dict[str, float | None]:
    """The main score (the task's first, or the loss) over the kept items, when something is done to the network.

    - ``noise_score``: to each number of the inputs, noise is added that is normal with half the standard deviation of
      all inputs.
    - ``adversarial_score``: each number of the inputs is moved by a tenth of that standard deviation in the direction
      that raises the loss, by its gradient (Goodfellow et al., ICLR 2015).
    - ``patch_lesion_score.SHEET``: a tenth of the sheet's units give 0, those nearest to a unit drawn at random; the
      mean over five such units. Where several units share a place, all of them give 0.
    - ``random_lesion_score.SHEET``: the same with as many units, or places, drawn at random.

    Everything is drawn from ``seed``, so the networks of one seed are treated alike. The first two are None where the
    inputs are not one tensor of floating numbers that varies; the second is None too where the loss has no gradient by
    the inputs. A unit is knocked out wherever its module is called, in what the module gives out; what goes on inside
    the module is left as it is. The lesions of a sheet of one place are None.

    Args:
        net: the trained network, in evaluation mode.
        task: what it learned.
        device: where the network is.
        seed: of the run.
    """

    def kept() -> Iterator[Batch]:
        return (batch for batch in task.kept() if len(batch.targets))

    read = held(kept, None, device)
    found = _perturbed(net.model, task, read, device, seed)
    for k, name in enumerate(net.placed):
        found |= {
            f"{base}.{name}": value for base, value in _lesioned(net, name, task, read, device, (seed, k)).items()
        }
    return found


def _score(model: nn.Module, task: Task, batches: Iterator[Batch], device: torch.device) -> float:
    return evaluate(model, task, batches, device)[task.scores[0].name if task.scores else "loss"]


def _perturbed(model: nn.Module, task: Task, read: Reader, device: torch.device, seed: int) -> dict[str, float | None]:
    spread = _spread(read())
    if spread is None:
        return dict.fromkeys(OF_NETWORKS)
    noisy = _score(model, task, _noisy(read(), NOISE * spread, draw(seed, 0, 4)), device)
    try:
        attacked: float | None = _score(model, task, _attacked(model, task, read(), STEP * spread, device), device)
    except _Undefined:
        attacked = None
    return dict(zip(OF_NETWORKS, (noisy, attacked), strict=True))


def _spread(batches: Iterator[Batch]) -> float | None:
    """The standard deviation of all inputs; None where they are not floating numbers that vary."""
    count, sums = 0, torch.zeros(2, dtype=torch.float64)
    for batch in batches:
        x = batch.inputs
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return None
        variance, mean = torch.var_mean(x.detach().cpu().double(), correction=0)
        count += x.numel()
        sums += x.numel() * torch.stack([mean, variance + mean.square()])
    mean, square = (sums / max(count, 1)).tolist()
    spread = math.sqrt(max(0.0, square - mean * mean))
    return spread if math.isfinite(spread) and spread > 0 else None


def _noisy(batches: Iterator[Batch], size: float, seed: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(seed)
    for batch in batches:
        noise = torch.randn(batch.inputs.shape, generator=generator)
        yield batch._replace(inputs=batch.inputs + size * noise.to(batch.inputs))


def _attacked(
    model: nn.Module, task: Task, batches: Iterator[Batch], size: float, device: torch.device
) -> Iterator[Batch]:
    for batch in batches:
        inputs = to_device(batch.inputs.detach(), device).requires_grad_()
        try:
            # cuDNN's recurrent layers have no gradient in evaluation mode
            with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
                loss = task.loss(call(model, inputs.clone()), batch.targets.to(device))
                (gradient,) = torch.autograd.grad(loss, inputs)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise _Undefined from error
        yield batch._replace(inputs=inputs.detach() + size * gradient.nan_to_num().sign())


def _lesioned(
    net: Network, name: str, task: Task, read: Reader, device: torch.device, numbers: tuple[int, int]
) -> dict[str, float | None]:
    placed = net.placed[name]
    sheet = sheet_of(placed.geometry)
    if len(sheet) < 2:
        return dict.fromkeys(OF_SHEETS)
    before, rest = staged(net.model, [name], read, device)
    after = held(read, before, device) if before is not None else read
    found: dict[str, float | None] = {}
    for base, chosen in zip(OF_SHEETS, _chosen(placed.geometry, draw(numbers[0], 0, 5, numbers[1])), strict=True):
        scores = []
        for which in chosen:
            units = torch.cat([which + first for first in range(0, len(placed.geometry), len(sheet))])
            with net.placed.lesion(name, units):
                scores.append(_score(rest, task, after(), device))
        found[base] = math.fsum(scores) / len(scores)
    return found


def _chosen(geometry: Geometry, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Patches of units around places drawn at random, and as many units drawn at random, whatever the order.

    Where several units share a place, the numbers are those of places.
    """
    generator = torch.Generator().manual_seed(seed)
    sheet = sheet_of(geometry)
    n = len(sheet)
    size = max(1, round(SHARE * n))
    centres = torch.randint(n, (TIMES,), generator=generator)
    patches = sheet.distances(rows=centres).argsort(dim=1, stable=True)[:, :size]
    if isinstance(geometry, Permuted):
        patches = geometry.units[patches]
    return list(patches), [torch.randperm(n, generator=generator)[:size] for _ in range(TIMES)]
