"""The training loop: epoch by epoch, with a saved state from which a run can go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from locality_prior._check import Problem, short
from locality_prior._files import replacing
from locality_prior.arrange import words as arrangements
from locality_prior.objectives import apart
from locality_prior.objectives import words as objectives
from locality_prior.runs import machine as machines
from locality_prior.runs.arranging import Arranger
from locality_prior.runs.config import Run, plain
from locality_prior.runs.epochs import EpochMaps
from locality_prior.runs.files import STATE
from locality_prior.runs.network import Network, call, moved, to_device
from locality_prior.runs.task import Batch, Task, draw
from locality_prior.runs.wires import mean_wire_length

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Steps between two looks at the loss.
LOOK = 50

Tick = Callable[[int, float], None]  # called with the current epoch and the share of it that is done


@dataclass
class Loop:
    """The training of one run."""

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
    part: dict[str, Any] | None  # how far an epoch had come when it was stopped; None: training starts between epochs
    maps: EpochMaps | None  # None: no maps are kept
    arranger: Arranger | None = None  # None: units stay where they are
    file: str = STATE  # the name of the file that holds the state
    saved: float = field(default_factory=time.monotonic)

    def epoch(self, epoch: int) -> None:
        """Train for one epoch, and evaluate on the validation items."""
        start = time.perf_counter()
        means, skipped = self._train(epoch)
        batches = self.task.validation(machines.shard(self.fabric))
        found = evaluate(self.model, self.task, batches, self.fabric.device, lambda v: _summed(self.fabric, v))
        skipped += int(found.pop("skipped"))
        with machines.whole(self.fabric, self.model):
            length = mean_wire_length(self.net.layers, self.net.model)
        self.history.append(
            {
                "epoch": epoch,
                **dict(zip(self._columns(), means, strict=True)),
                **{f"validation_{key}": value for key, value in found.items()},
                "mean_wire_length": length,
                "seconds": time.perf_counter() - start,
                "skipped": skipped,
            }
        )

    def _columns(self) -> list[str]:
        """What is averaged over the steps of an epoch: the task's loss, and each objective without and with its weight.

        Two objectives of one kind have the columns ``wiring`` and ``wiring_2``.
        """
        named = zip(objectives.names(self.run.objective), self.net.objectives, strict=True)
        return ["train_loss", *(c for name, one in named if one.LOSS for c in (name, f"{name}_weighted"))]

    def _train(self, epoch: int) -> tuple[list[float], int]:
        """Train for an epoch; the means over its steps, and how many files could not be read."""
        fabric, recipe, task, shard = self.fabric, self.run.recipe, self.task, machines.shard(self.fabric)
        zeros = [0.0] * len(self._columns())
        part, self.part = self.part or {"step": 0, "total": zeros, "recent": zeros, "skipped": 0, "random": None}, None
        steps, total = task.steps(recipe.batch_size, shard.world), part["total"]
        for group in self.optimizer.param_groups:
            group["lr"] = group.get("first_lr", recipe.lr) * 0.1 ** (
                (epoch - 1) // recipe.drop_every if recipe.drop_every else 0
            )
        _set_random(fabric, part["random"], draw(self.run.seed, epoch, 1 + shard.rank))
        self.model.train()
        recent = torch.tensor(part["recent"], device=fabric.device)
        skipped = part["skipped"] if fabric.is_global_zero else 0  # the saved number is that of all processes
        batches, step = task.epoch(self.run.seed, epoch, recipe.batch_size, shard, part["step"]), part["step"]
        for step, batch in enumerate(batches, part["step"] + 1):
            if len(batch.targets) < 2:
                raise Problem(
                    f"A batch of {self.task.name} has {len(batch.targets)} readable items, too few for BatchNorm. "
                    "Repair the files that cannot be read, or use larger batches."
                )
            targets = batch.targets.to(fabric.device)
            # each item counts as much as in one whole batch, over several processes and with files left out
            share = len(targets) * shard.world / batch.planned
            loss = task.loss(call(self.model, to_device(batch.inputs, fabric.device)), targets) * share
            penalty = (recipe.l1 * self._weight_l1() if recipe.l1 else 0.0) + self._crowding()
            progress = (epoch - 1 + (step - 1) / steps) / recipe.epochs
            seen = [loss]
            for objective in self.net.objectives:
                if not objective.LOSS:
                    continue
                value = objective.value()
                seen += [value, objective.weight(progress) * value]
            self.optimizer.zero_grad()
            fabric.backward(loss + penalty + sum(seen[2::2]))
            self.optimizer.step()
            for objective in self.net.objectives:
                objective.after_step(progress)
            self._arrange((epoch - 1) * steps + step)
            recent += torch.stack([one.detach().to(recent) for one in seen])
            skipped += len(batch.broken)
            if step % LOOK == 0 or step == steps:
                total = [a + b for a, b in zip(total, self._look(recent, epoch, step), strict=True)]
                recent.zero_()
            if step < steps and (shard.world == 1 or step % LOOK == 0) and self._time_to_save():
                kept = {"step": step, "total": total, "recent": recent.tolist(), "skipped": self._count(skipped)}
                self.save(kept | {"random": _random(fabric)})
            if self.tick is not None:
                self.tick(epoch, step / steps)
        if step != steps:
            raise Problem(
                f"{task.name} has {steps} batches in an epoch, as its steps() says, but its epoch() gave {step}."
            )
        return [one / steps for one in total], self._count(skipped)

    def _arrange(self, step: int) -> None:
        """Give the units better places if that is due after this many steps of training."""
        how = None if self.arranger is None else self.arranger.how
        if self.arranger is None or not isinstance(how, arrangements.Arrangement):
            return
        if how.when != "during" or step % how.every:
            return
        self.arranger.improve(self.net, self.fabric)
        for objective in self.net.objectives:
            objective.remove()
        self.net = moved(self.arranger.given, self.arranger.units, self.run)

    def _crowding(self) -> Tensor | float:
        """The objective ``apart`` of the units whose positions learn, times the strength that the run says."""
        how = None if self.arranger is None else self.arranger.how
        if not isinstance(how, arrangements.Learned) or not how.apart:
            return 0.0
        return how.apart * torch.stack([apart(points) for points in self.net.points()]).sum()

    def _weight_l1(self) -> Tensor:
        """‖W‖₁ of the layers that a condition makes local, in the control too."""
        return torch.stack([layer.penalty(self.net.model) for layer in self.net.layers]).sum()

    def _count(self, number: int) -> int:
        """A number over all processes."""
        return int(_summed(self.fabric, torch.tensor(number)))

    def _look(self, recent: Tensor, epoch: int, step: int) -> list[float]:
        """The sums since the last look. Where the loss diverges, the state is saved and an error raised."""
        totals: list[float] = (_summed(self.fabric, recent) / int(self.fabric.world_size)).tolist()
        loss = totals[0] / ((step - 1) % LOOK + 1)
        whole = loss + sum(totals[2::2])
        if not loss < self.task.ceiling() or not math.isfinite(whole):
            worst = loss if math.isfinite(whole) else whole
            self.save({"step": step, "diverged": worst})
            raise diverged(self.run, worst, epoch, step, self.directory / self.file)
        return totals

    def _time_to_save(self) -> bool:
        """Whether it is time to save a state. The first process decides for all."""
        due = time.monotonic() - self.saved > self.save_every
        return bool(self.fabric.broadcast(due)) if self.fabric.world_size > 1 else due

    def save(self, part: dict[str, Any] | None = None) -> None:
        """Replace ``state.pt`` by the present state; within an epoch, ``part`` says how far it has come."""
        path = self.directory / self.file
        state = {
            "config": plain(self.run),
            "epoch": len(self.history),
            "history": self.history,
            "part": part,
            "sizes": list(self.task.sizes),
            "model": self.model,
            "optimizer": self.optimizer,
            "maps": None if self.maps is None else self.maps.state(),
        }
        if self.arranger is not None:
            state["orders"] = self.arranger.state()
        # one process writes, but all take part, since each may hold a part of the parameters
        try:
            with replacing(path) if self.fabric.is_global_zero else nullcontext(path) as partial:
                self.fabric.save(partial, state)
        except (OSError, RuntimeError) as error:  # torch raises the latter where a disk is full
            raise Problem(
                f"{path} could not be written ({short(str(error))}). The state that was saved before is still there: "
                "make room on the disk, and start the same command again."
            ) from error
        self.saved = time.monotonic()


@torch.no_grad()
def evaluate(
    model: Any,
    task: Task,
    batches: Iterator[Batch],
    device: torch.device,
    over_all: Callable[[Tensor], Tensor] = lambda values: values,
) -> dict[str, float]:
    """The mean loss and scores over ``batches``, and how many files could not be read.

    Args:
        model: as it is called.
        task: what it learns.
        batches: the items, or this process's share of them.
        device: where the model is.
        over_all: adds up numbers over all processes that have a share.
    """
    model.eval()
    names = ["loss", *(score.name for score in task.scores)]
    sums, counts, skipped, inputs = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0), 0, None
    for batch in batches:
        skipped += len(batch.broken)
        if not len(batch.targets):
            if inputs is not None:
                call(model, inputs)  # processes that hold parts of the parameters must ask for them together
            continue
        inputs, targets = to_device(batch.inputs, device), batch.targets.to(device)
        outputs = call(model, inputs)
        found = {"loss": task.loss(outputs, targets).expand(len(targets)), **task.score(outputs, targets)}
        if missing := [name for name in names if not isinstance(found.get(name), Tensor)]:
            raise Problem(f"{task.name} has the score {missing[0]}, but its score() gives no tensor of that name.")
        for name in names:
            sums[name] += float(found[name].double().sum())
            counts[name] += found[name].numel()
    numbers = torch.tensor([*sums.values(), *counts.values(), skipped], dtype=torch.float64)
    *values, skips = over_all(numbers).tolist()
    if not values[len(names)]:
        raise Problem(f"{task.name} has no item that can be read, to validate or to test with. Look at its files.")
    means = {name: values[k] / values[len(names) + k] for k, name in enumerate(names)}
    return means | {"skipped": skips}


def _summed(fabric: Fabric, values: Tensor) -> Tensor:
    """``values`` summed over all processes."""
    if fabric.world_size == 1:
        return values
    summed: Any = fabric.all_reduce(fabric.to_device(values), reduce_op="sum")
    return torch.as_tensor(summed).cpu()


def _random(fabric: Fabric) -> dict[str, Tensor]:
    """The state of each process's random numbers, from which dropout is drawn, (world, bytes)."""
    states = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(fabric.device)
    return {
        name: torch.as_tensor(fabric.all_gather(state)).reshape(fabric.world_size, -1).cpu()
        for name, state in states.items()
    }


def _set_random(fabric: Fabric, states: dict[str, Tensor] | None, seed: int) -> None:
    """Draw from ``states`` on; from ``seed`` where there are none, or where they are of another number of processes."""
    torch.manual_seed(seed)
    for name, state in (states or {}).items():
        if len(state) == fabric.world_size and name == "cpu":
            torch.set_rng_state(state[fabric.global_rank].clone())  # torch crashes with a part of a tensor
        elif len(state) == fabric.world_size and fabric.device.type == "cuda":
            torch.cuda.set_rng_state(state[fabric.global_rank].clone(), fabric.device)


def diverged(run: Run, loss: float, epoch: int, step: int, state: Path) -> Problem:
    """The error of a run whose loss has grown out of bounds."""
    r, weaker = run.recipe, "" if run.objective == objectives.NONE else f", or {run.objective} with a lower strength,"
    return Problem(
        f"Training diverged: the mean loss was {loss:.4g} in epoch {epoch}, step {step}, with {r.optimizer}, "
        f"lr {r.lr:g} and weight decay {r.weight_decay:g}. The state is kept in {state}. "
        f"Try a lower learning rate{weaker} in a new directory."
    )
