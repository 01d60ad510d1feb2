"""Recurrent networks whose hidden units have places: a prior on the connections over one time step."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from locality_prior import cost as costs
from locality_prior._check import wrong
from locality_prior.cost import Cost
from locality_prior.geometry import Geometry
from locality_prior.layers.base import Plain, Spread, own_places, stacked
from locality_prior.prior import Prior

State = Tensor | tuple[Tensor, ...]


class _Recurrent(Plain, nn.RNNBase):
    """What the three have in common; torch's own class of each comes after this one among its bases."""

    ARGUMENTS: ClassVar[tuple[str, ...]] = (
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
    )
    PLACES: ClassVar[tuple[str, ...]] = ("units", "cost", "rescale")
    STATES: ClassVar[int] = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        units: Geometry | None = None,
        cost: Cost | None = None,
        rescale: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **more: Any,
    ) -> None:
        if more.pop("proj_size", 0):
            raise wrong("proj_size", "a projection", "0: recurrent connections between the hidden units themselves")
        plain: dict[str, Any] = {"num_layers": num_layers, "bias": bias, "batch_first": batch_first}
        plain |= {"dropout": dropout, "bidirectional": bidirectional, "device": device, "dtype": dtype}
        super().__init__(input_size, hidden_size, **plain, **more)  # type: ignore[arg-type]  # torch's own class's
        self.units = own_places("units", units, hidden_size)
        self.cost, self.rescale = costs.Linear() if cost is None else cost, bool(rescale)
        rule = Prior(self.units, self.units, self.cost, rescale)
        recurrent = [name for name in self._flat_weights_names if name.startswith("weight_hh")]
        gates = self.get_parameter(recurrent[0]).shape[0] // hidden_size
        shared = Spread(rule, partial(stacked, times=gates))
        self._wire(dict.fromkeys(recurrent, shared))

    def flatten_parameters(self) -> None:
        """Nothing: P∘W is made anew at every step, so there is no one place in memory to keep."""

    def forward(self, input: Tensor | PackedSequence, hx: State | None = None) -> tuple[Tensor | PackedSequence, State]:
        if isinstance(input, PackedSequence):
            h = self._state(input.data, int(input.batch_sizes[0]), hx, input.sorted_indices)
            y, *last = self._run(input.data, input.batch_sizes, h)
            packed = PackedSequence(y, input.batch_sizes, input.sorted_indices, input.unsorted_indices)
            return packed, self._turned(last, input.unsorted_indices)
        if input.dim() not in (2, 3):
            raise wrong("input", f"shape {tuple(input.shape)}", "2 axes, or 3 with a batch")
        lone, batch = input.dim() == 2, 0 if self.batch_first else 1
        if lone:
            input = input.unsqueeze(batch)
            hx = None if hx is None else _each(hx, lambda h: h.unsqueeze(1))
        y, *last = self._run(input, None, self._state(input, input.shape[batch], hx, None))
        if lone:
            y, last = y.squeeze(batch), [h.squeeze(1) for h in last]
        return y, self._turned(last, None)

    def _weights(self) -> list[Tensor]:
        return [self.effective(name) for name in self._flat_weights_names]

    def _options(self) -> tuple[Any, ...]:
        return self.bias, self.num_layers, self.dropout, self.training, self.bidirectional

    def _run(self, x: Tensor, sizes: Tensor | None, h: State) -> tuple[Tensor, ...]:
        """The kernel: outputs and last states."""
        found: tuple[Tensor, ...]
        if sizes is None:
            found = self._kernel()(x, h, self._weights(), *self._options(), self.batch_first)
        else:
            found = self._kernel()(x, sizes, h, self._weights(), *self._options())
        return found

    def _kernel(self) -> Any:
        raise NotImplementedError

    def _state(self, x: Tensor, batch: int, hx: State | None, order: Tensor | None) -> State:
        """The states to start from, as the kernel takes them; an error where they, or ``x``, do not fit."""
        weight = self._weight(self._flat_weights_names[0])
        if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"input: got dtype {x.dtype}, expected the weight's, {weight.dtype}")
        if x.shape[-1] != self.input_size:
            raise wrong("input", f"{x.shape[-1]} features", f"{self.input_size}")
        expected = (self.num_layers * (1 + self.bidirectional), batch, self.hidden_size)
        if hx is None:
            zeros = x.new_zeros(expected)
            return zeros if self.STATES == 1 else (zeros, zeros)
        given = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if isinstance(hx, Tensor) != (self.STATES == 1) or not all(isinstance(h, Tensor) for h in given):
            raise wrong("hx", type(hx).__name__, "a tensor" if self.STATES == 1 else "(h, c)")
        for one in given:
            if one.shape != expected:
                raise wrong("hx", f"shape {tuple(one.shape)}", f"{expected}")
        return hx if order is None else _each(hx, lambda h: h.index_select(1, order))

    def _turned(self, last: list[Tensor], order: Tensor | None) -> State:
        """The last states, in the caller's order of sequences."""
        turned = tuple(h if order is None else h.index_select(1, order) for h in last)
        return turned[0] if self.STATES == 1 else turned


class LocalityRNN(_Recurrent, nn.RNN):  # type: ignore[misc]
    r"""An Elman network between units that have places: h_t = f(W_ih x_t + b_ih + (P∘W_hh) h_{t−1} + b_hh).

    f is tanh or ReLU; P_ij = s(d_ij) is the signal that survives from unit j to unit i, "the connections between
    neurons over one timestep" of the source document's authors. A drop-in for :class:`torch.nn.RNN`: its arguments
    (without a projection), its state dict (``weight_hh_l0`` is W_hh), its shapes. All layers and directions have the
    same places.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as there.
        nonlinearity: "tanh" or "relu".
        units: places of the hidden units; the first cells of a square sheet if not given.
        cost: what a wire of length d costs; ``Linear()``, c(d) = 1 + d, if not given.
        rescale: multiply row i of P by r_i = K / Σ_j s(d_ij), for K hidden units.
        device, dtype: of the parameters.

    Raises:
        ValueError: a geometry of another number of units, a unit with no wire, an input or state of another size.
    """

    ARGUMENTS: ClassVar[tuple[str, ...]] = (*_Recurrent.ARGUMENTS, "nonlinearity")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args: Any,
        **more: Any,
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, *args, nonlinearity=nonlinearity, **more)

    def _kernel(self) -> Any:
        return torch.rnn_relu if self.nonlinearity == "relu" else torch.rnn_tanh


class LocalityGRU(_Recurrent, nn.GRU):  # type: ignore[misc]
    r"""A gated recurrent unit between units that have places: each gate's W_hh passes through the same P.

    r_t = σ(W_ir x_t + b_ir + (P∘W_hr) h_{t−1} + b_hr), and so for z_t and n_t, as :class:`torch.nn.GRU` has them.
    Arguments, shapes and errors are those of :class:`LocalityRNN`, but for the nonlinearity.
    """

    def _kernel(self) -> Any:
        return torch.gru


class LocalityLSTM(_Recurrent, nn.LSTM):  # type: ignore[misc]
    r"""Long short-term memory between units that have places: each gate's W_hh passes through the same P.

    i_t = σ(W_ii x_t + b_ii + (P∘W_hi) h_{t−1} + b_hi), and so for f_t, g_t and o_t, as :class:`torch.nn.LSTM` has them.
    Arguments, shapes and errors are those of :class:`LocalityRNN`, but for the nonlinearity; the state is (h, c).
    """

    STATES: ClassVar[int] = 2

    def _kernel(self) -> Any:
        return torch.lstm


def _each(state: State, f: Any) -> State:
    return f(state) if isinstance(state, Tensor) else tuple(f(h) for h in state)
