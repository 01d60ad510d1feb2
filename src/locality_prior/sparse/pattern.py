"""The wires of a layer, and the quicker way to compute with them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from locality_prior._check import wrong
from locality_prior.prior import Prior
from locality_prior.sparse.function import Kernel
from locality_prior.sparse.rows import Rows
from locality_prior.sparse.windows import TILE, Windows, tiles

#: Fewer pairs than this are quicker dense.
SMALL = 1 << 20
#: So are layers with more than this share of all pairs wired.
FULL = 0.2
#: With at most so many wires to a unit, rows are quicker than windows on a CPU.
FEW = 64


class Pattern:
    """Which pairs have a wire, on whatever device is asked for, with the kernels that multiply there.

    Args:
        rule: source, target and a cost that ends somewhere.
        backend: "windowed", "wires" or "auto".

    Raises:
        ValueError: a cost without an end.
    """

    def __init__(self, rule: Prior, backend: str) -> None:
        if rule.cost.reach == float("inf"):
            raise wrong("backend", f"{backend!r} with cost {rule.cost!r}", "a cost that ends, such as .within(4)")
        self.backend = backend
        self.wires = rule.wires()
        self.targets = self.wires.rows()
        try:
            positions = rule.target.positions.detach()
        except ValueError:  # distances alone: units are near each other in their own order, or nowhere
            positions = torch.arange(len(rule.target), dtype=torch.float64)[:, None]
        self._positions = positions[: self.wires.shape[0]]
        self._made: dict[object, Any] = {}

    def ends(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Target and source unit of each wire, (wires,), on ``device``."""
        if ("ends", device) not in self._made:
            self._made["ends", device] = self.targets.to(device), self.wires.sources.to(device)
        made: tuple[Tensor, Tensor] = self._made["ends", device]
        return made

    def choice(self, dtype: torch.dtype, device: torch.device) -> str:
        """The way taken: what was asked for, or the one that was measured to be quicker."""
        if self.backend != "auto":
            return self.backend
        few = self.wires.count <= FEW * self.wires.shape[0]
        return "wires" if few and device.type == "cpu" and dtype in Rows.dtypes else "windowed"

    def kernel(self, dtype: torch.dtype, device: torch.device) -> Kernel:
        """What multiplies with the wires in ``dtype`` on ``device``.

        Raises:
            ValueError: "wires" in a dtype that torch's sparse products do not serve.
        """
        name = self.choice(dtype, device)
        if name == "wires" and dtype not in Rows.dtypes:
            raise wrong("backend", f"'wires' in {dtype}", "float32 or float64, or backend='windowed'")
        if (name, device) not in self._made:
            if name == "wires":
                self._made[name, device] = Rows(self.wires, device)
            else:
                self._made[name, device] = Windows(self.wires, tiles(self._positions, TILE), device)
        made: Kernel = self._made[name, device]
        return made

    def gather(self, matrix: Tensor) -> Tensor:
        """A matrix (out, in) on the wires, (wires,)."""
        return matrix[self.ends(matrix.device)]

    def scatter(self, values: Tensor) -> Tensor:
        """Values (wires,) as a matrix (out, in), 0 elsewhere."""
        return values.new_zeros(self.wires.shape).index_put(self.ends(values.device), values)

    def __deepcopy__(self, memo: Any) -> Pattern:
        return self  # nothing in it changes

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_made": {}}


def pattern_for(rule: Prior, backend: str) -> Pattern | None:
    """The wires to compute with; None for "dense", and under "auto" for a layer that is small or has many wires."""
    if backend in ("windowed", "wires"):
        return Pattern(rule, backend)
    pairs = rule.shape[0] * rule.shape[1]
    if backend == "dense" or rule.cost.reach == float("inf") or pairs < SMALL:
        return None
    pattern = Pattern(rule, backend)
    return pattern if pattern.wires.count <= FULL * pairs else None
