"""The loop that trains: epoch by epoch, with the state that is kept of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from locality_prior import analysis
from locality_prior._check import Problem
from locality_prior._files import replacing
from locality_prior.runs import machine as machines
from locality_prior.runs.config import Run, plain
from locality_prior.runs.files import STATE
from locality_prior.runs.network import Network, call, to_device
from locality_prior.runs.task import Batch, Task, draw

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Steps between two looks at the loss.
LOOK = 50

Tick = Callable[[int, float], None]  # epoch under way, share of it done


@dataclass
class Loop:
    """Training, epoch by epoch, with the state that is kept of it."""

    fabric: Fabric
    net: Network
    model: Any  # the network's model as Fabric has set it up
    optimizer: Any
    task: Task
    run: Run
    directory: Path
    save_every: float
    tick: Tick | None
    history: list[dict[str, float]]
    part: dict[str, Any] | None  # where an epoch that was stopped in its middle stands; None between epochs
    saved: float = field(default_factory=time.monotonic)

    def epoch(self, epoch: int) -> None:
        """Train for one epoch, and evaluate on the validation items."""
        start = time.perf_counter()
        train_loss, skipped = self._train(epoch)
        found = evaluate(self.fabric, self.model, self.task, self.task.validation(machines.shard(self.fabric)))
        skipped += int(found.pop("skipped"))
        with machines.whole(self.fabric, self.model):
            length = mean_wire_length(self.net)
        self.history.append(
            {
                "epoch": epoch,
                "train_loss": train_loss,
                **{f"validation_{key}": value for key, value in found.items()},
                "mean_wire_length": length,
                "skipped": skipped,
                "seconds": time.perf_counter() - start,
            }
        )

    def _train(self, epoch: int) -> tuple[float, int]:
        """The mean loss, and how many files could not be read."""
        fabric, recipe, task, shard = self.fabric, self.run.recipe, self.task, machines.shard(self.fabric)
        part, self.part = self.part or {"step": 0, "total": 0.0, "recent": 0.0, "skipped": 0, "random": None}, None
        steps, total = task.steps(recipe.batch_size, shard.world), part["total"]
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * 0.1 ** ((epoch - 1) // recipe.drop_every if recipe.drop_every else 0)
        _set_random(fabric, part["random"], draw(self.run.seed, epoch, 1 + shard.rank))
        self.model.train()
        recent = torch.tensor(part["recent"], device=fabric.device)
        skipped = part["skipped"] if fabric.is_global_zero else 0  # which is kept for all
        batches = task.epoch(self.run.seed, epoch, recipe.batch_size, shard, part["step"])
        for step, batch in enumerate(batches, part["step"] + 1):
            if len(batch.targets) < 2:
                raise Problem(
                    f"a batch of {self.task.name} has {len(batch.targets)} readable items, too few for BatchNorm; "
                    "mend the files that cannot be read, or use larger batches"
                )
            targets = batch.targets.to(fabric.device)
            # over several processes, or with files left out, each item counts as in one whole batch
            share = len(targets) * shard.world / batch.planned
            loss = task.loss(call(self.model, to_device(batch.inputs, fabric.device)), targets) * share
            penalty = recipe.l1 * self._weight_l1() if recipe.l1 else 0.0
            self.optimizer.zero_grad()
            fabric.backward(loss + penalty)
            self.optimizer.step()
            recent += loss.detach()
            skipped += len(batch.broken)
            if step % LOOK == 0 or step == steps:
                total += self._look(recent, epoch, step)
                recent.zero_()
            if step < steps and (shard.world == 1 or step % LOOK == 0) and self._time_to_save():
                kept = {"step": step, "total": total, "recent": float(recent), "skipped": self._count(skipped)}
                self.save(kept | {"random": _random(fabric)})
            if self.tick is not None:
                self.tick(epoch, step / steps)
        return total / steps, self._count(skipped)

    def _weight_l1(self) -> Tensor:
        """‖W‖₁ of the layers that can be made local, the control's too."""
        return torch.stack([layer.penalty(self.net.model) for layer in self.net.layers]).sum()

    def _count(self, number: int) -> int:
        """A number over all processes."""
        return int(_summed(self.fabric, torch.tensor(number)))

    def _look(self, recent: Tensor, epoch: int, step: int) -> float:
        """The sum of the losses since the last look, as a number; an error, and a state, where it diverges."""
        total: float = float(_summed(self.fabric, recent)) / int(self.fabric.world_size)
        loss = total / ((step - 1) % LOOK + 1)
        if not loss < self.task.ceiling():
            self.save({"step": step, "diverged": loss})
            raise diverged(self.run, loss, epoch, step, self.directory)
        return total

    def _time_to_save(self) -> bool:
        """Whether it is time to keep a state: the first process decides for all."""
        due = time.monotonic() - self.saved > self.save_every
        return bool(self.fabric.broadcast(due)) if self.fabric.world_size > 1 else due

    def save(self, part: dict[str, Any] | None = None) -> None:
        """Replace ``state.pt`` by the present state: between epochs, or within one where ``part`` says."""
        path = self.directory / STATE
        state = {
            "config": plain(self.run),
            "epoch": len(self.history),
            "history": self.history,
            "part": part,
            "sizes": list(self.task.sizes),
            "model": self.model,
            "optimizer": self.optimizer,
        }
        # with several processes, one writes; where parameters are sharded, all give their parts
        with replacing(path) if self.fabric.is_global_zero else nullcontext(path) as partial:
            self.fabric.save(partial, state)
        self.saved = time.monotonic()


def mean_wire_length(net: Network) -> float:
    """Σ d|V| / Σ|V| over all layers that can be made local, each length in its source's spacings; NaN without any."""
    sums = [0.0, 0.0]
    for layer in net.layers:
        lengths = analysis.wire_lengths(layer.strength(net.model), layer.target, layer.source)
        if lengths.total and lengths.mean:
            sums[0] += lengths.total
            sums[1] += lengths.total / lengths.mean
    return sums[0] / sums[1] if sums[1] else float("nan")


@torch.no_grad()
def evaluate(fabric: Fabric, model: Any, task: Task, batches: Iterator[Batch]) -> dict[str, float]:
    """The mean loss and scores over ``batches``, and how many files could not be read."""
    model.eval()
    names = ["loss", *(score.name for score in task.scores)]
    sums, counts, skipped, inputs = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0), 0, None
    for batch in batches:
        skipped += len(batch.broken)
        if not len(batch.targets):
            if inputs is not None:
                call(model, inputs)  # where parameters are in parts, all processes must ask for them together
            continue
        inputs, targets = to_device(batch.inputs, fabric.device), batch.targets.to(fabric.device)
        outputs = call(model, inputs)
        found = {"loss": task.loss(outputs, targets).expand(len(targets)), **task.score(outputs, targets)}
        for name in names:
            sums[name] += float(found[name].double().sum())
            counts[name] += found[name].numel()
    numbers = torch.tensor([*sums.values(), *counts.values(), skipped], dtype=torch.float64)
    *values, skips = _summed(fabric, numbers).tolist()
    if not values[len(names)]:
        raise Problem(f"{task.name} has no item to evaluate that can be read; look at its files")
    means = {name: values[k] / values[len(names) + k] for k, name in enumerate(names)}
    return means | {"skipped": skips}


def _summed(fabric: Fabric, values: Tensor) -> Tensor:
    """``values`` over all processes."""
    if fabric.world_size == 1:
        return values
    summed: Any = fabric.all_reduce(fabric.to_device(values), reduce_op="sum")
    return torch.as_tensor(summed).cpu()


def _random(fabric: Fabric) -> dict[str, Tensor]:
    """The states from which each process draws dropout, (world, bytes)."""
    states = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(fabric.device)
    return {
        name: torch.as_tensor(fabric.all_gather(state)).reshape(fabric.world_size, -1).cpu()
        for name, state in states.items()
    }


def _set_random(fabric: Fabric, states: dict[str, Tensor] | None, seed: int) -> None:
    """Go on drawing from ``states``; from ``seed`` where there are none, or those of another number of processes."""
    torch.manual_seed(seed)
    for name, state in (states or {}).items():
        if len(state) == fabric.world_size and name == "cpu":
            torch.set_rng_state(state[fabric.global_rank])
        elif len(state) == fabric.world_size and fabric.device.type == "cuda":
            torch.cuda.set_rng_state(state[fabric.global_rank], fabric.device)


def diverged(run: Run, loss: float, epoch: int, step: int, directory: Path) -> Problem:
    """What is said of a run whose loss has grown beyond bounds."""
    r = run.recipe
    return Problem(
        f"training diverged: the mean loss was {loss:.4g} in epoch {epoch}, step {step}, with {r.optimizer}, "
        f"lr {r.lr:g}, weight decay {r.weight_decay:g}. Its state is kept in {directory / STATE}; "
        "try a lower learning rate in a new directory."
    )
