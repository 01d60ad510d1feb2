"""The loop that trains: epoch by epoch, with what of it is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from locality_prior import objectives
from locality_prior._check import wrong
from locality_prior._files import partial_name, replacing
from locality_prior.experiments import data as datasets
from locality_prior.experiments import machine as machines
from locality_prior.experiments.config import STATE, Run, plain
from locality_prior.experiments.data import Data
from locality_prior.experiments.models import Network

if TYPE_CHECKING:
    from lightning_fabric import Fabric

#: Steps between two looks at the loss, and what it may be, on average over them, in losses of guessing.
LOOK, MOST = 50, 100.0

Tick = Callable[[int, float], None]  # epoch under way, share of it done


@dataclass
class Loop:
    """Training, epoch by epoch, with what of it is kept."""

    fabric: Fabric
    net: Network
    model: Any  # the network, as Fabric has set it up
    optimizer: Any
    data: Data
    run: Run
    directory: Path
    save_every: float
    tick: Tick | None
    history: list[dict[str, float]]
    part: dict[str, Any] | None  # where an epoch that was stopped in its middle stands; None between epochs
    saved: float = field(default_factory=time.monotonic)

    def epoch(self, epoch: int) -> None:
        """One pass over the training images, and what it comes to on the test images."""
        start = time.perf_counter()
        train_loss, skipped = self._train(epoch)
        numbers = evaluate(self.fabric, self.model, self.data)
        with machines.whole(self.fabric, self.model):
            length, cost = objectives.mean_wire_length(self.net).item(), objectives.wiring_cost(self.net).item()
        self.history.append(
            {
                "epoch": epoch,
                "train_loss": train_loss,
                **numbers,
                "mean_wire_length": length,
                "wiring_cost": cost,
                "skipped": skipped + numbers["skipped"],
                "seconds": time.perf_counter() - start,
            }
        )

    def _train(self, epoch: int) -> tuple[float, int]:
        """The mean loss, and how many files could not be read."""
        fabric, recipe, data, shard = self.fabric, self.run.recipe, self.data, machines.shard(self.fabric)
        part, self.part = self.part or {"step": 0, "total": 0.0, "recent": 0.0, "skipped": 0, "random": None}, None
        steps, total = data.steps(recipe.batch_size, shard.world), part["total"]
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * 0.1 ** ((epoch - 1) // recipe.drop_every if recipe.drop_every else 0)
        _set_random(fabric, part["random"], datasets.draw(self.run.seed, epoch, 1 + shard.rank))
        self.model.train()
        recent = torch.tensor(part["recent"], device=fabric.device)
        skipped = part["skipped"] if fabric.is_global_zero else 0  # which is kept for all
        batches = data.epoch(self.run.seed, epoch, recipe.batch_size, shard, part["step"])
        for step, batch in enumerate(batches, part["step"] + 1):
            if len(batch.labels) < 2:
                raise wrong("data-root", f"a batch of {len(batch.labels)} readable images", "at least 2 for BatchNorm")
            images, labels = fabric.to_device((batch.images, batch.labels))
            # over several processes, or with files left out, each image counts as in one whole batch
            share = len(labels) * shard.world / batch.planned
            loss = F.cross_entropy(self.model(images), labels) * share
            penalty = recipe.l1 * objectives.weight_l1(self.net) if recipe.l1 else 0.0
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

    def _count(self, number: int) -> int:
        """A number over all processes."""
        return int(_summed(self.fabric, torch.tensor(number)))

    def _look(self, recent: Tensor, epoch: int, step: int) -> float:
        """The sum of the losses since the last look, as a number; an error, and a state, where it diverges."""
        total: float = float(_summed(self.fabric, recent)) / int(self.fabric.world_size)
        loss = total / ((step - 1) % LOOK + 1)
        if not loss < MOST * math.log(self.data.classes):
            self.save({"step": step, "diverged": loss})
            raise diverged(self.run, loss, epoch, step, self.directory)
        return total

    def _time_to_save(self) -> bool:
        """Whether it is time to keep a state: the first process says so for all."""
        due = time.monotonic() - self.saved > self.save_every
        return bool(self.fabric.broadcast(due)) if self.fabric.world_size > 1 else due

    def save(self, part: dict[str, Any] | None = None) -> None:
        """Replace ``state.pt`` by how things stand: between epochs, or as ``part`` says."""
        path = self.directory / STATE
        state = {
            "config": plain(self.run),
            "epoch": len(self.history),
            "history": self.history,
            "part": part,
            "sizes": self.data.sizes,
            "model": self.model,
            "optimizer": self.optimizer,
        }
        # with several processes, one writes; where parameters are sharded, all give their parts
        with replacing(path) if self.fabric.is_global_zero else nullcontext(partial_name(path)) as partial:
            self.fabric.save(partial, state)
        self.saved = time.monotonic()


@torch.no_grad()
def evaluate(fabric: Fabric, model: Any, data: Data) -> dict[str, float]:
    """Mean test cross-entropy, accuracy in percent (the five likeliest too, where there are many), files not read."""
    model.eval()
    sums, x = torch.zeros(5, dtype=torch.float64), None
    for batch in data.test(machines.shard(fabric)):
        if not len(batch.labels) and x is not None:
            model(x)  # where parameters are in parts, all processes must ask for them together
        if len(batch.labels):
            x, y = fabric.to_device((batch.images, batch.labels))
            logits = model(x)
            loss = F.cross_entropy(logits, y, reduction="sum").item()
            first = logits.topk(min(5, data.classes)).indices == y[:, None]
            sums += torch.tensor([loss, int(first[:, 0].sum()), int(first.sum()), len(y), 0])
        sums[4] += len(batch.broken)
    loss, top1, top5, n, skipped = _summed(fabric, sums).tolist()
    if not n:
        raise wrong("data-root", "no test image that can be read", "one or more")
    five = {"top5_accuracy": 100 * top5 / n} if data.classes > 10 else {}
    return {"test_loss": loss / n, "accuracy": 100 * top1 / n, **five, "skipped": int(skipped)}


def _summed(fabric: Fabric, values: Tensor) -> Tensor:
    """``values`` over all processes."""
    if fabric.world_size == 1:
        return values
    summed: Any = fabric.all_reduce(fabric.to_device(values), reduce_op="sum")
    return torch.as_tensor(summed).cpu()


def _random(fabric: Fabric) -> dict[str, Tensor]:
    """What each process draws dropout from, (world, bytes)."""
    states = {"cpu": torch.get_rng_state()}
    if fabric.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(fabric.device)
    return {
        name: torch.as_tensor(fabric.all_gather(state)).reshape(fabric.world_size, -1).cpu()
        for name, state in states.items()
    }


def _set_random(fabric: Fabric, states: dict[str, Tensor] | None, seed: int) -> None:
    """Go on drawing from ``states``; from ``seed``, where there are none, or of another number of processes."""
    torch.manual_seed(seed)
    for name, state in (states or {}).items():
        if len(state) == fabric.world_size and name == "cpu":
            torch.set_rng_state(state[fabric.global_rank])
        elif len(state) == fabric.world_size and fabric.device.type == "cuda":
            torch.cuda.set_rng_state(state[fabric.global_rank], fabric.device)


def diverged(run: Run, loss: float, epoch: int, step: int, directory: Path) -> ValueError:
    given = f"loss {loss:.4g} in epoch {epoch}, step {step}, of {plain(run.recipe)} (kept in {directory / STATE})"
    return wrong("recipe", given, "a recipe that does not diverge")
