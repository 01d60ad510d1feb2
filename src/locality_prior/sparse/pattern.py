"""The wires of a layer, and the quickest way to compute with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from locality_prior._check import wrong
from locality_prior._memory import aside
from locality_prior.functional import Workspace
from locality_prior.geometry import Graph
from locality_prior.prior import Prior
from locality_prior.sparse.compiled import CompiledRows
from locality_prior.sparse.function import Kernel, sparse_linear
from locality_prior.sparse.rows import Rows
from locality_prior.sparse.windows import Windows, best_tiles

#: A layer with fewer pairs than this is quicker dense.
SMALL = 1 << 20
#: So is a layer in which more than this share of all pairs has a wire.
FULL = 0.35
#: Without a compiler, rows are quicker than windows on a CPU where units have at most so many wires each.
FEW = 64


class Pattern:
    """Which pairs have a wire, and the kernels that multiply with them on each device.

    Args:
        rule: the prior, with a cost that ends somewhere or a geometry that gives the wires.
        backend: "windowed", "wires" or "auto".
        times: how many matrices lie one below another, each with the wires of the rule, such as gates.

    Raises:
        ValueError: the cost has no end.
    """

    def __init__(self, rule: Prior, backend: str, times: int = 1) -> None:
        if not rule.bounded:
            raise wrong("backend", f"{backend!r} with cost {rule.cost!r}", "a cost that ends, such as .within(4)")
        self.backend, self.times = backend, times
        self.wires = rule.wires().stacked(times)
        #: The row of each wire in the stacked matrices, (wires,).
        self.targets = self.wires.rows()
        self._rule = rule
        self._made: dict[object, Any] = {}

    @cached_property
    def positions(self) -> Tensor:
        """Coordinates of the rows, from which tiles are made: a tile has the rows of its units in all matrices."""
        try:
            units = self._rule.target.positions.detach().cpu()
        except ValueError:  # only distances are known
            units = _by_landmarks(self._rule)
        return units.repeat(self.times, 1)

    def ends(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Row and source unit of each wire, (wires,), on ``device``."""
        if ("ends", device) not in self._made:
            self._made["ends", device] = self.targets.to(device), self.wires.sources.to(device)
        made: tuple[Tensor, Tensor] = self._made["ends", device]
        return made

    def units(self, device: torch.device) -> Tensor:
        """Target unit of each of the rule's wires, those of a single matrix, on ``device``."""
        return self.ends(device)[0][: len(self.targets) // self.times]

    def linear(self, x: Tensor, weight: Tensor, prior: Tensor, bias: Tensor | None, workspace: Workspace) -> Tensor:
        """y = (P∘W) x + b of W and P on the wires; see :func:`~locality_prior.sparse.function.sparse_linear`."""
        ends = self.ends(weight.device)
        return sparse_linear(x, weight, prior, bias, self._kernel, *ends, self.wires.shape[0], workspace)

    def _kernel(self, rows: Tensor) -> Kernel:
        return self.kernel(rows.dtype, rows.device)

    def choice(self, dtype: torch.dtype, device: torch.device) -> str:
        """The way to compute: the one that was asked for, or for "auto" the one that was measured to be quicker."""
        if self.backend != "auto":
            return self.backend
        few = self.wires.count <= FEW * self.wires.shape[0] and device.type == "cpu" and Rows.serves(dtype, device)
        return "wires" if few or CompiledRows.serves(self.wires, dtype, device) else "windowed"

    def describe(self, dtype: torch.dtype, device: torch.device) -> str:
        """The backend, and how it computes in ``dtype`` on ``device``."""
        way = self.choice(dtype, device)
        notes = [way] if self.backend == "auto" else []
        if way == "wires":
            notes.append("compiled" if CompiledRows.serves(self.wires, dtype, device) else "torch.sparse")
        return f"backend={self.backend!r}" + (f" ({', '.join(notes)})" if notes else "")

    def kernel(self, dtype: torch.dtype, device: torch.device) -> Kernel:
        """The kernel that multiplies with the wires in ``dtype`` on ``device``.

        Raises:
            ValueError: "wires" in a dtype for which torch has no sparse products.
        """
        if self.choice(dtype, device) == "windowed":
            made = lambda: Windows(self.wires, best_tiles(self.positions, self.wires), device)  # noqa: E731
            return self._make(Windows, device, made)
        if CompiledRows.serves(self.wires, dtype, device):
            return self._make(CompiledRows, device, lambda: CompiledRows(self.wires))
        if Rows.serves(dtype, device):
            return self._make(Rows, device, lambda: Rows(self.wires, device))
        raise wrong("backend", f"'wires' in {dtype} on {device.type}", "float32 or float64, or backend='windowed'")

    def _make(self, kind: type, device: torch.device, make: Callable[[], Kernel]) -> Kernel:
        if (kind, device) not in self._made:
            with aside():
                self._made[kind, device] = make()
        made: Kernel = self._made[kind, device]
        return made

    def gather(self, matrix: Tensor) -> Tensor:
        """A matrix (times · out, in, …) on the wires, (wires, …)."""
        return matrix[self.ends(matrix.device)]

    def scatter(self, values: Tensor) -> Tensor:
        """Values (wires, …) as a matrix (times · out, in, …), 0 elsewhere."""
        return values.new_zeros(*self.wires.shape, *values.shape[1:]).index_put(self.ends(values.device), values)

    def __deepcopy__(self, memo: Any) -> Pattern:
        return self  # it never changes

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_made": {}}


def _by_landmarks(rule: Prior, landmarks: int = 8) -> Tensor:
    """Coordinates for target units of which only distances are known: the distances to a few source units."""
    chosen = torch.linspace(0, rule.shape[1] - 1, min(landmarks, rule.shape[1])).long()
    if isinstance(rule.target, Graph):  # distances are the same in both directions
        d = rule.distances(chosen).T
    else:
        d = torch.cat([rule.distances(rows)[:, chosen] for rows in torch.split(torch.arange(rule.shape[0]), 256)])
    unreachable = ~d.isfinite()
    farthest = d[~unreachable].max() if not unreachable.all() else d.new_tensor(0.0)
    return d.masked_fill(unreachable, 2 * float(farthest) + 1)


def pattern_for(rule: Prior, backend: str, times: int = 1, small: int = SMALL, full: float = FULL) -> Pattern | None:
    """The wires to compute with; None for "dense", and for "auto" where a layer is small or has many wires.

    Args:
        rule, backend, times: of the :class:`Pattern`.
        small: for "auto", how many pairs the rule must have at least for its wires alone to be quicker.
        full: for "auto", the largest share of the pairs that may have a wire.
    """
    if backend in ("windowed", "wires"):
        return Pattern(rule, backend, times)
    pairs = rule.shape[0] * rule.shape[1]
    if backend == "dense" or not rule.bounded or pairs < small:
        return None
    pattern = Pattern(rule, backend, times)  # whose wires are counted, so that they are looked for once
    return pattern if pattern.wires.count <= full * pairs * times else None
