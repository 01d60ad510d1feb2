"""Where a run is computed: devices, processes, compilation. What a run is does not depend on it."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from locality_prior._check import boolean, choice, count, number, wrong
from locality_prior._timing import cores
from locality_prior.layers import LocalityLinear
from locality_prior.runs.config import Precision
from locality_prior.runs.task import Shard

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Accelerator = Literal["cpu", "cuda", "mps", "auto"]
Strategy = Literal["auto", "ddp", "fsdp"]

#: How long processes wait for the one that makes a finished run's files.
PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Machine:
    """Where a run is computed. Under ``fabric run`` that command's own flags decide on the first four."""

    accelerator: Accelerator = "cpu"
    devices: str = "1"  # how many on each node, or auto
    nodes: int = 1
    strategy: Strategy = "auto"  # auto: ddp over several devices; fsdp shards large sheets (GPUs)
    sync_batchnorm: bool = False  # BatchNorm over all devices (GPUs)
    compile: bool = False  # compile the network with torch.compile
    workers: int = 0  # processes that read photographs, for each device; 0: the training process itself
    skip_broken: bool = False  # leave out files that cannot be read, and count them
    save_every: float = 300.0  # seconds between two states kept within an epoch

    def __post_init__(self) -> None:
        choice("accelerator", self.accelerator, get_args(Accelerator))
        choice("strategy", self.strategy, get_args(Strategy))
        for name in ("sync_batchnorm", "compile", "skip_broken"):
            boolean(name, getattr(self, name))
        most = cores() if self.accelerator == "cpu" else None
        devices = str(self.devices)
        if devices != "auto":
            if not devices.isdecimal():
                raise wrong("devices", self.devices, "how many on each node, or auto")
            what = "devices" if most is None else "devices (on a CPU, no more processes than its cores)"
            count(what, int(devices[:9]), most=most if most is not None else 4096)
        object.__setattr__(self, "devices", devices)
        count("nodes", self.nodes, most=65_536)
        count("workers", self.workers, least=0, most=cores())
        number("save_every", self.save_every, least=0.0)

    @property
    def alone(self) -> bool:
        """Whether this process, on a CPU, is all that computes a run: then several may run side by side."""
        launched = {"LT_CLI_USED", "LOCAL_RANK", "SLURM_PROCID"} & os.environ.keys()
        return (self.accelerator, self.devices, self.nodes) == ("cpu", "1", 1) and not launched


def fabric(machine: Machine, precision: Precision) -> Fabric:
    """Fabric on ``machine``, its processes launched.

    Raises:
        ValueError: an accelerator, a number of devices or a strategy that is not there.
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
    except (RuntimeError, ValueError, TypeError, ImportError) as error:
        given = f"{machine.accelerator!r}, {machine.devices} devices, {machine.strategy} ({error})"
        raise wrong("accelerator", given, "one that this machine has, such as cpu") from None
    _check(made, precision)
    return made


def _check(made: Fabric, precision: Precision) -> None:
    """Raise where Fabric made something else of what was asked for."""
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
        # large layers one by one; one file that any number of devices reads
        return FSDPStrategy(
            auto_wrap_policy={LocalityLinear, torch.nn.Linear},
            state_dict_type="full",
            use_orig_params=True,
            timeout=PATIENCE,
        )
    return DDPStrategy(timeout=PATIENCE)


def first() -> bool:
    """Whether this process is the one that writes and says, as far as its launcher's environment tells."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def shard(fabric: Fabric) -> Shard:
    """This process's share of every batch."""
    return Shard(fabric.global_rank, fabric.world_size)


def sharded(fabric: Fabric) -> bool:
    """Whether parameters are in parts over the devices."""
    from lightning_fabric.strategies import FSDPStrategy

    return isinstance(fabric.strategy, FSDPStrategy)


def whole(fabric: Fabric, model: torch.nn.Module) -> AbstractContextManager[Any]:
    """A block in which every parameter is there whole, to be read."""
    if not sharded(fabric):
        return nullcontext()
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel.summon_full_params(model, writeback=False)
