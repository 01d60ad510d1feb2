"""Where a run is computed: on which devices, by how many processes, compiled or not. Results do not depend on it."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from locality_prior._check import boolean, choice, count, number, short, wrong
from locality_prior._timing import cores
from locality_prior.layers import LocalityLinear
from locality_prior.runs.config import Precision
from locality_prior.runs.task import Shard

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Accelerator = Literal["cpu", "cuda", "mps", "auto"]
Strategy = Literal["auto", "ddp", "fsdp"]

#: How long the other processes wait for the one that measures a finished run.
PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Machine:
    """Where a run is computed.

    >>> from locality_prior.runs import Machine
    >>> Machine().alone, Machine(accelerator="cuda", devices="4").alone
    (True, False)

    Args:
        accelerator: the kind of device. Under ``fabric run``, that command's flags decide this and the next three.
        devices: how many of them on each node, or ``auto`` for all.
        nodes: how many machines.
        strategy: ``auto`` is ddp over several devices; ``fsdp`` shards the weights of large sheets (on GPUs).
        sync_batchnorm: whether BatchNorm takes its statistics over all devices (on GPUs).
        compile: whether to compile the network with ``torch.compile``.
        workers: processes that read files for each device; 0: the training process reads them itself.
        skip_broken: whether to leave out and count files that cannot be read.
        save_every: seconds between two states that are saved within an epoch.
    """

    accelerator: Accelerator = "cpu"
    devices: str = "1"
    nodes: int = 1
    strategy: Strategy = "auto"
    sync_batchnorm: bool = False
    compile: bool = False
    workers: int = 0
    skip_broken: bool = False
    save_every: float = 300.0

    def __post_init__(self) -> None:
        choice("accelerator", self.accelerator, get_args(Accelerator))
        choice("strategy", self.strategy, get_args(Strategy))
        for name in ("sync_batchnorm", "compile", "skip_broken"):
            boolean(name, getattr(self, name))
        devices = str(self.devices)
        if devices != "auto":
            most, what = _most_devices(self.accelerator)
            if not (devices.isascii() and devices.isdecimal() and 1 <= int(devices[:9]) <= most):
                raise wrong("devices", devices, f"auto, or from 1 to {most}, the number of {what}")
        object.__setattr__(self, "devices", devices)
        count("nodes", self.nodes, most=65_536)
        count("workers", self.workers, least=0, most=cores())
        number("save_every", self.save_every, least=0.0)

    @property
    def alone(self) -> bool:
        """Whether a single process on a CPU computes a run, so that several runs can go on side by side."""
        launched = {"LT_CLI_USED", "LOCAL_RANK", "SLURM_PROCID"} & os.environ.keys()
        return (self.accelerator, self.devices, self.nodes) == ("cpu", "1", 1) and not launched


def _most_devices(accelerator: Accelerator) -> tuple[int, str]:
    """The most devices of a kind that a run may ask for on each node, and what is counted."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return torch.cuda.device_count(), "this machine's GPUs"
    if accelerator in ("cpu", "auto"):
        return cores(), "this machine's cores"
    return 4096, "devices that may be asked for"  # Fabric says that there are none


def fabric(machine: Machine, precision: Precision) -> Fabric:
    """Fabric on ``machine``, with its processes started.

    Raises:
        ValueError: an accelerator, a number of devices or a strategy that this machine does not have.
    """
    from lightning_fabric import Fabric  # here, since it takes seconds and only training needs it

    try:
        if os.environ.get("LT_CLI_USED"):  # fabric run: its flags are read from the environment
            made = Fabric()
        else:
            devices: Any = int(machine.devices) if machine.devices.isdigit() else machine.devices
            made = Fabric(
                accelerator=machine.accelerator,
                devices=devices,
                num_nodes=machine.nodes,
                strategy=_strategy(machine),
                precision=precision,
            )
            made.launch()
    except Exception as error:  # Fabric has errors of several kinds for this
        given = f"{machine.accelerator} with devices {machine.devices} and strategy {machine.strategy}"
        raise wrong("accelerator", given, f"what this machine has, such as cpu ({short(str(error))})") from None
    _check(made, precision)
    return made


def _check(made: Fabric, precision: Precision) -> None:
    """Raise where Fabric made something other than what was asked for."""
    environment = os.environ
    counts = ("WORLD_SIZE", "SLURM_NTASKS") if "SLURM_STEP_ID" in environment else ("WORLD_SIZE",)
    started = next((int(environment[name]) for name in counts if environment.get(name)), made.world_size)
    if made.world_size != started:
        raise wrong("devices", f"{made.world_size} over all nodes", f"the {started} processes that were started")
    found = made.strategy.precision.precision
    if found != precision:
        raise wrong("precision", precision, f"{found}, which is what {made.device.type}, or fabric run, has")
    if sharded(made) and environment.get("LT_CLI_USED"):
        raise wrong("strategy", "fsdp by fabric run", "torchrun, srun or the command itself to start it")


def _strategy(machine: Machine) -> Any:
    if machine.strategy == "auto" and machine.devices == "1" and machine.nodes == 1:
        return "auto"
    from lightning_fabric.strategies import DDPStrategy, FSDPStrategy

    if machine.strategy == "fsdp":
        # each large layer is sharded on its own, and the state is one file that any number of devices can read
        return FSDPStrategy(
            auto_wrap_policy={LocalityLinear, torch.nn.Linear},
            state_dict_type="full",
            use_orig_params=True,
            timeout=PATIENCE,
        )
    return DDPStrategy(timeout=PATIENCE)


def first() -> bool:
    """Whether this process is the one that writes files and prints, as its launcher's environment says."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def shard(fabric: Fabric) -> Shard:
    """This process's share of every batch."""
    return Shard(fabric.global_rank, fabric.world_size)


def sharded(fabric: Fabric) -> bool:
    """Whether each device holds only a part of the parameters."""
    from lightning_fabric.strategies import FSDPStrategy

    return isinstance(fabric.strategy, FSDPStrategy)


def whole(fabric: Fabric, model: torch.nn.Module) -> AbstractContextManager[Any]:
    """A block in which every parameter is whole, so that it can be read."""
    if not sharded(fabric):
        return nullcontext()
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel.summon_full_params(model, writeback=False)
