"""Recurrent networks whose hidden units have places: the prior acts on the connections over one time step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from locality_prior._check import boolean, choice, count, number, wrong, wrong_type
from locality_prior.cost import Cost, as_cost
from locality_prior.geometry import Geometry
from locality_prior.layers.base import (
    BACKENDS,
    Plain,
    Spread,
    affordable,
    factory,
    own_places,
    same_dtype,
    size,
    stacked,
    tensor,
)
from locality_prior.layers.cells import Cell, GRUCell, LSTMCell, RNNCell, recurrence
from locality_prior.prior import Prior
from locality_prior.sparse import pattern_for

State = Tensor | tuple[Tensor, ...]
#: A layer in which more than this share of all pairs has a wire is quicker dense.
FULL = 0.1
#: The most layers that are stacked.
MOST_LAYERS = 1024


class _Recurrent(Plain, nn.RNNBase):
    """What the three recurrent networks share; each names torch's own class after this one among its bases."""

    ARGUMENTS: ClassVar[tuple[str, ...]] = (
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
    )
    PLACES: ClassVar[tuple[str, ...]] = ("units", "cost", "rescale", "backend")
    #: How many tensors a state has, and how many matrices the gates have.
    STATES: ClassVar[int] = 1
    GATES: ClassVar[int] = 1
    #: A layer whose units have fewer pairs than this is quicker dense. (Measured on CPUs; torch's LSTM is quick there.)
    SMALL: ClassVar[int] = 1 << 18

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
        cost: Cost | str = "linear",
        rescale: bool = False,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **more: Any,
    ) -> None:
        if more.pop("proj_size", 0) != 0:
            raise wrong("proj_size", "a projection", "0: the prior acts on connections between the hidden units")
        plain: dict[str, Any] = {}
        if "nonlinearity" in more and "nonlinearity" in self.ARGUMENTS:
            plain["nonlinearity"] = choice("nonlinearity", more.pop("nonlinearity"), ("tanh", "relu"))
        for name in more:
            known = ", ".join((*self.ARGUMENTS, *self.PLACES, "device", "dtype"))
            raise wrong_type(name, "an argument of that name", f"one of {known}")
        features, hidden = size("input_size", input_size), size("hidden_size", hidden_size)
        layers, both = count("num_layers", num_layers, most=MOST_LAYERS), boolean("bidirectional", bidirectional)
        dropout = number("dropout", dropout, 0, 1)
        bias, batch_first, rescale = (
            boolean(name, value) for name, value in (("bias", bias), ("batch_first", batch_first), ("rescale", rescale))
        )
        ways = 1 + both
        entries = self.GATES * hidden * ways * ((features + hidden) + (layers - 1) * (hidden * ways + hidden))
        affordable("hidden_size", entries, f"input_size={features}, hidden_size={hidden}, num_layers={layers}")
        made, cost, units = factory(device, dtype), as_cost("cost", cost), own_places("units", units, hidden)
        backend = choice("backend", backend, BACKENDS)
        rule = Prior(units, units, cost, rescale)
        spread = Spread(
            rule, partial(stacked, times=self.GATES), pattern_for(rule, backend, self.GATES, self.SMALL, FULL)
        )
        plain |= {"num_layers": layers, "bias": bias, "batch_first": batch_first}
        plain |= {"dropout": dropout, "bidirectional": both, **made}
        super().__init__(features, hidden, **plain)  # type: ignore[arg-type]  # of torch's own class
        self.units, self._own_cost, self.rescale, self.backend = units, cost, rescale, backend
        recurrent = [name for name in self._flat_weights_names if name.startswith("weight_hh")]
        self._wire(dict.fromkeys(recurrent, spread))

    def flatten_parameters(self) -> None:
        """Do nothing: P∘W is computed anew at every step, so its memory cannot be laid out once and for all."""

    def forward(self, input: Tensor | PackedSequence, hx: State | None = None) -> tuple[Tensor | PackedSequence, State]:
        states = self._given(hx)
        if isinstance(input, PackedSequence):
            x, sizes, order = input.data, input.batch_sizes, input.sorted_indices
            y, *last = self._run(x, sizes, self._start(x, int(sizes[0]), states, order))
            packed = PackedSequence(y, sizes, order, input.unsorted_indices)
            return packed, self._turned(last, input.unsorted_indices)
        tensor("input", input, f"(…, {self.input_size}) or a PackedSequence")
        if input.dim() not in (2, 3):
            raise wrong("input", f"shape {tuple(input.shape)}", "2 axes, or 3 with a batch")
        lone, batch = input.dim() == 2, 0 if self.batch_first else 1
        if lone:
            input = input.unsqueeze(batch)
            for h in states or ():
                if h.dim() != 2:
                    raise wrong("hx", f"shape {tuple(h.shape)}", "2 axes, as the input has no batch")
            states = None if states is None else tuple(h.unsqueeze(1) for h in states)
        if input.shape[1 - batch] == 0:
            raise wrong("input", f"shape {tuple(input.shape)}, with no time steps", "at least one")
        y, *last = self._run(input, None, self._start(input, input.shape[batch], states, None))
        if lone:
            y, last = y.squeeze(batch), [h.squeeze(1) for h in last]
        return y, self._turned(last, None)

    def _weights(self) -> list[Tensor]:
        return [self.effective(name) for name in self._flat_weights_names]

    def _options(self) -> tuple[Any, ...]:
        return self.bias, self.num_layers, self.dropout, self.training, self.bidirectional

    def _run(self, x: Tensor, sizes: Tensor | None, h: State) -> tuple[Tensor, ...]:
        """Outputs and last states: of torch's kernel, or wire by wire."""
        if self._patterns():
            return self._by_wires(x, sizes, h if isinstance(h, tuple) else (h,))
        found: tuple[Tensor, ...]
        if sizes is None:
            found = self._kernel()(x, h, self._weights(), *self._options(), self.batch_first)
        else:
            found = self._kernel()(x, sizes, h, self._weights(), *self._options())
        return found

    def _kernel(self) -> Callable[..., tuple[Tensor, ...]]:
        raise NotImplementedError

    def _by_wires(self, x: Tensor, sizes: Tensor | None, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What torch's kernel computes, over the wires; time steps lie one below another, as in a packed sequence."""
        if sizes is None:
            x = x.transpose(0, 1) if self.batch_first else x
            steps, shape = [x.shape[1]] * x.shape[0], x.shape[:2]
            y, *last = self._layers(x.reshape(-1, x.shape[-1]), steps, states)
            y = y.view(*shape, y.shape[1])
            return y.transpose(0, 1) if self.batch_first else y, *last
        return self._layers(x, sizes.tolist(), states)

    def _layers(self, rows: Tensor, steps: list[int], states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The outputs of the last layer, and the last states of all; ``steps`` has the number of rows of each step."""
        last = []
        ways = 1 + self.bidirectional
        for layer in range(self.num_layers):
            found = [
                self._direction(rows, steps, [h[layer * ways + way] for h in states], f"_l{layer}", bool(way))
                for way in range(ways)
            ]
            rows = torch.cat([y for y, _ in found], 1) if self.bidirectional else found[0][0]
            last += [state for _, state in found]
            if layer < self.num_layers - 1 and self.dropout:
                rows = F.dropout(rows, self.dropout, self.training)
        return rows, *(torch.stack(h) for h in zip(*last, strict=True))

    def _direction(
        self, rows: Tensor, steps: list[int], state: Sequence[Tensor], name: str, back: bool
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """One layer in one direction: its outputs, row by row, and its last state."""
        name = f"{name}_reverse" if back else name
        weights = self._weight(f"weight_ih{name}"), self._weight(f"weight_hh{name}")
        biases = (self._weight(f"bias_ih{name}"), self._weight(f"bias_hh{name}")) if self.bias else (None, None)
        spread = self._spreads[f"weight_hh{name}"]
        y, *last = recurrence(self._cell(), spread, steps, back, rows, weights, biases, tuple(state))
        return y, last

    def _cell(self) -> Cell:
        raise NotImplementedError

    def _given(self, hx: Any) -> tuple[Tensor, ...] | None:
        """The caller's state as a tuple of tensors."""
        if hx is None:
            return None
        several = isinstance(hx, (tuple, list))
        given = tuple(hx) if several else (hx,)
        if several != (self.STATES > 1) or len(given) != self.STATES or not all(isinstance(h, Tensor) for h in given):
            raise wrong_type("hx", type(hx).__name__, "a tensor" if self.STATES == 1 else "a tuple of tensors, (h, c)")
        return given

    def _start(self, x: Tensor, batch: int, states: tuple[Tensor, ...] | None, order: Tensor | None) -> State:
        """The state to start from, as torch's kernel takes it; an error where the state or ``x`` does not fit."""
        weight = self._weight(self._flat_weights_names[0])
        same_dtype("input", x, weight)
        if x.shape[-1] != self.input_size:
            raise wrong("input", f"{x.shape[-1]} features", f"{self.input_size}")
        expected = (self.num_layers * (1 + self.bidirectional), batch, self.hidden_size)
        if states is None:
            states = tuple(x.new_zeros(expected) for _ in range(self.STATES))
        for h in states:
            if h.shape != expected:
                raise wrong("hx", f"shape {tuple(h.shape)}", f"{expected}")
            same_dtype("hx", h, weight)
        return self._turned([h if order is None else h.index_select(1, order) for h in states], None)

    def _turned(self, last: list[Tensor], order: Tensor | None) -> State:
        """A state as the caller sees it, with the sequences in the caller's order."""
        turned = tuple(h if order is None else h.index_select(1, order) for h in last)
        return turned[0] if self.STATES == 1 else turned


class LocalityRNN(_Recurrent, nn.RNN):  # type: ignore[misc]
    r"""An Elman network between units that have places: h_t = f(W_ih x_t + b_ih + (P∘W_hh) h_{t−1} + b_hh).

    f is tanh or ReLU. P_ij = s(d_ij) is the signal that survives from unit j to unit i over "the connections between
    neurons over one timestep", as the authors of the source document put it. This is a drop-in for
    :class:`torch.nn.RNN`: it has the same arguments (without a projection), state dict (``weight_hh_l0`` is W_hh) and
    shapes. All layers and directions share the places.

    >>> import torch
    >>> import locality_prior as lp
    >>> layer = lp.LocalityRNN(3, 16, nonlinearity="relu", batch_first=True, units=lp.Grid(4, 4), cost="linear@2")
    >>> outputs, state = layer(torch.randn(5, 7, 3))
    >>> outputs.shape, state.shape
    (torch.Size([5, 7, 16]), torch.Size([1, 5, 16]))

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional: as in :class:`torch.nn.RNN`.
        nonlinearity: "tanh" or "relu".
        units: places of the hidden units, or measured wiring between them (:class:`~locality_prior.Wired`); the default
            is the first cells of a square sheet.
        cost: the cost of a wire of length d, or a word for it; the default is ``Linear()``, c(d) = 1 + d.
        rescale: multiply row i of P by r_i = K / Σ_j s(d_ij), for K hidden units.
        backend: how to compute with P∘W_hh, as in :class:`LocalityLinear`. With "windowed" and "wires" ``weight_hh_l0``
            is (wires,), the wires of each gate after those of the gate before. "auto" takes the wires of a large layer
            that has few of them. Every backend starts from the same weights, and loads the state dict of every other.
        device, dtype: of the parameters.

    Raises:
        ValueError: the geometry has another number of units, a unit has no wire, or an input or state has another size;
            a sparse backend with a cost that does not end.
        TypeError: an input or state is not a tensor of the weight's dtype (outside autocast).
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

    def _cell(self) -> Cell:
        return RNNCell(self.nonlinearity == "relu")


class LocalityGRU(_Recurrent, nn.GRU):  # type: ignore[misc]
    r"""A gated recurrent unit between units that have places: the W_hh of each gate passes through the same P.

    r_t = σ(W_ir x_t + b_ir + (P∘W_hr) h_{t−1} + b_hr), and likewise for z_t and n_t of :class:`torch.nn.GRU`.
    Arguments, shapes and errors are those of :class:`LocalityRNN`, without the nonlinearity.

    >>> import torch
    >>> import locality_prior as lp
    >>> layer = lp.LocalityGRU(3, 16, batch_first=True, units=lp.Grid(4, 4), cost="linear@2")
    >>> outputs, state = layer(torch.randn(5, 7, 3))
    >>> outputs.shape, state.shape
    (torch.Size([5, 7, 16]), torch.Size([1, 5, 16]))
    """

    GATES: ClassVar[int] = 3

    def _kernel(self) -> Any:
        return torch.gru

    def _cell(self) -> Cell:
        return GRUCell()


class LocalityLSTM(_Recurrent, nn.LSTM):  # type: ignore[misc]
    r"""Long short-term memory between units that have places: the W_hh of each gate passes through the same P.

    i_t = σ(W_ii x_t + b_ii + (P∘W_hi) h_{t−1} + b_hi), and likewise for f_t, g_t and o_t of :class:`torch.nn.LSTM`.
    Arguments, shapes and errors are those of :class:`LocalityRNN`, without the nonlinearity. The state is (h, c).

    >>> import torch
    >>> import locality_prior as lp
    >>> layer = lp.LocalityLSTM(3, 16, batch_first=True, units=lp.Grid(4, 4), cost="linear@2")
    >>> outputs, (state, cell) = layer(torch.randn(5, 7, 3))
    >>> outputs.shape, cell.shape
    (torch.Size([5, 7, 16]), torch.Size([1, 5, 16]))
    """

    STATES: ClassVar[int] = 2
    GATES: ClassVar[int] = 4
    SMALL: ClassVar[int] = 1 << 20

    def _kernel(self) -> Any:
        return torch.lstm

    def _cell(self) -> Cell:
        return LSTMCell()
