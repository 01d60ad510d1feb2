"""The cost of spatially embedded recurrent networks: weight × distance × communicability."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from locality_prior._check import boolean, wrong
from locality_prior.geometry import Geometry
from locality_prior.objectives import _given
from locality_prior.objectives._precision import not_half, precise
from locality_prior.objectives._wires import lengths
from locality_prior.objectives.base import OfWeights
from locality_prior.objectives.schedules import Strength
from locality_prior.placement import Between, Placement

#: How often e^(A/2^k) is squared: the Taylor polynomial's error is then below the rounding of the dtype.
SQUARINGS = {torch.float32: 1, torch.float64: 5}
#: Coefficients of a Taylor polynomial of degree 8 in three products: see :func:`_beyond_one`.
_ROOT = math.sqrt(177)
_X3 = 2 / 3
_X1, _X2 = _X3 * (1 + _ROOT) / 88, _X3 * (1 + _ROOT) / 352
_X4 = (29 * _ROOT - 271) / (315 * _X3)
_X5, _X6 = 11 * (_ROOT - 1) / (1260 * _X3), 11 * (_ROOT - 9) / (5040 * _X3)
_X7 = (89 - _ROOT) / (5040 * _X3**2)
_Y2 = (857 - 58 * _ROOT) / 630


def communicability(
    weight: Tensor, target: Geometry, source: Geometry | None = None, *, through: bool = True
) -> Tensor:
    """Σ_ij |W_ij| d_ij C_ij with C = e^(S^-½ |W| S^-½), where S holds what each unit sends, S_j = Σ_i |W_ij|.

    C is how well signals get from one unit to another over paths of any length. A unit that sends nothing reaches none
    and is left out.

    Source: Achterberg, Akarca, Strouse, Duncan & Astle, *Spatially embedded recurrent neural networks reveal widespread
    links between structural and functional neuroscience findings* (Nature Machine Intelligence 2023;
    8erberg/spatially-embedded-RNN · seRNN_demo.ipynb), whose γ is 0.5 and whose 100 units are a 5×5×4 grid. Their
    matrix is this one transposed: the rows that they sum are columns here. Difference: a unit that sends nothing
    gives NaN there. A later notebook of theirs lets no gradient through C (``through=False``).

    With R = |W| S^-1, C = S^-½ e^R S^½. The columns of R sum to 1 whatever the weights are, so one polynomial of fixed
    degree is near enough to e^R for all of them: C and its gradient are exact to rounding.

    >>> import torch
    >>> import locality_prior as lp
    >>> weight = torch.tensor([[0.0, 2.0], [-2.0, 0.0]])
    >>> lp.objectives.communicability(weight, lp.Line(2))  # 4 sinh(1)
    tensor(4.7008)

    Args:
        weight: W, (n, n), from a sheet to itself; a recurrent layer's from its units to themselves.
        target: the places of the units.
        source: the same, or None.
        through: whether the gradient goes through C too.

    Raises:
        ValueError, TypeError: a weight from another sheet or with a kernel, or units that are not connected.
    """
    found, at, start = _given.with_source(weight, target, source)
    if start is not at and start != at:
        raise wrong("source", repr(start), f"the target itself, {at!r}")
    if found.dim() != 2:
        raise wrong("weight", found, f"({len(at)}, {len(at)}), without a kernel")
    boolean("through", through)
    size = precise(found).abs()
    with not_half(size):
        charged = size * lengths(at, at, size.dtype, size.device)
        reached, sends, receives = _communicability(size if through else size.detach())
        return ((charged * reached) @ sends) @ receives


class Communicability(OfWeights):
    """:func:`communicability` of each placed module's weights from its sheet to itself.

    In a recurrent layer those are the weights from its hidden units to themselves, of each gate. In other modules they
    are the weights between a sheet and an equal one, and C is computed as if both were the same units.

    >>> import torch
    >>> import locality_prior as lp
    >>> net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU())
    >>> objective = lp.objectives.Communicability(lp.place(net, {"0": lp.Grid(8, 8)}))
    >>> loss = net(torch.randn(32, 64)).square().mean() + objective()
    >>> loss.backward()

    Args:
        placed: the modules, and where their units are.
        strength: γ; the paper's is 0.5.
        through: whether the gradient goes through C too.

    Raises:
        ValueError: a module without weights from its sheet to itself, or units that are not connected.
    """

    WORD = "communicability"
    through: bool

    def __init__(self, placed: Placement, strength: float | Strength = 0.5, *, through: bool = True) -> None:
        super().__init__(placed, strength, through=boolean("through", through))

    def of(self, name: str) -> Tensor:
        each = [communicability(one.weight, one.target, through=self.through) for one in self._own(name)]
        return torch.stack(each).sum()

    def _own(self, name: str) -> list[Between]:
        """The weights of a module from its sheet to itself."""
        found, module = self.placed.matrices(name), self.placed[name].module
        if isinstance(module, nn.RNNBase):
            # the weights from the hidden units come first; its inputs may lie on the same sheet without being them
            # (as many as there are gates, of which W_ih tells, since W_hh may be one number for each wire)
            found = found[: len(getattr(module, f"weight_ih_l{module.num_layers - 1}")) // module.hidden_size]
        own = [one for one in found if one.source == one.target and one.weight.dim() == 2]
        if not own:
            given = f"{name}, a {type(module).__name__} without weights from its sheet to itself"
            raise wrong("placed", given, "a recurrent layer, or a linear one between equal sheets")
        return own


def _communicability(size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """C off the diagonal as M_ij r_i s_j: M (n, n), s (n,) and r (n,), from |W|."""
    sent = size.sum(0)
    there = sent > torch.finfo(size.dtype).tiny ** (2 / 3)  # below it the gradient of 1/√sent would leave the range
    total = torch.where(there, sent, 1.0)  # where nothing is sent neither the value nor the gradient is NaN
    squarings = SQUARINGS[size.dtype]
    reached = _beyond_one(size / (total * 2**squarings))
    for _ in range(squarings):
        reached = torch.addmm(reached, reached, reached, beta=2)  # (1 + x)² − 1 = 2x + x²
    root = total.sqrt()
    return reached, torch.where(there, root, 0.0), torch.where(there, 1 / root, 0.0)


def _beyond_one(a: Tensor) -> Tensor:
    """Σ_{k=1..8} a^k / k! of a matrix, in three products.

    This way to evaluate it is that of Bader, Blanes & Casas, *Computing the matrix exponential with an optimized Taylor
    polynomial approximation* (Mathematics 2019). All coefficients are positive, and so nothing cancels.
    """
    second = a @ a
    fourth = second @ (_X1 * a + _X2 * second)
    left = _X3 * second + fourth
    return a + _Y2 * second + _X4 * left + left @ (_X5 * a + _X6 * second + _X7 * fourth)
