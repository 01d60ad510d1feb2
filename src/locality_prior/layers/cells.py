"""The equations of recurrent cells, and the steps of a sequence computed wire by wire, with their backward pass.

Inside, a batch (n, units) lies in memory unit by unit, with strides (1, …), the layout that products with wires use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from locality_prior.functional import gradients, not_autocast, ordinary, ordinary_backward
from locality_prior.layers.base import Spread
from locality_prior.sparse.function import check_like

_sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input
_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_relu_backward = torch.ops.aten.threshold_backward.grad_input

State = tuple[Tensor, ...]
T = TypeVar("T")


class Cell(Protocol):
    """One time step of a recurrent network, from ``given`` = W_ih x_t + b_ih and ``recurrent`` = V h_{t−1} + b_hh."""

    def step(self, given: Tensor, recurrent: Tensor, *state: Tensor) -> State:
        """The next state, of tensors (n, units); differentiable."""

    def forward(self, given: Tensor, recurrent: Tensor, *state: Tensor) -> tuple[State, Any]:
        """The next state, and what ``backward`` needs; ``recurrent`` may be written to."""

    def backward(self, grads: State, kept: Any, out: Tensor) -> tuple[Tensor, State]:
        """Gradients of ``recurrent``, and of the state except through V; that of ``given`` is written to ``out``."""


class RNNCell:
    """h_t = f(given + recurrent), with f the hyperbolic tangent or ReLU."""

    def __init__(self, relu: bool) -> None:
        self.relu = relu

    def step(self, given: Tensor, recurrent: Tensor, *state: Tensor) -> State:
        z = given + recurrent
        return (z.relu() if self.relu else z.tanh(),)

    def forward(self, given: Tensor, recurrent: Tensor, *state: Tensor) -> tuple[State, Any]:
        recurrent += given
        h = recurrent.relu_() if self.relu else recurrent.tanh_()
        return (h,), h

    def backward(self, grads: State, kept: Any, out: Tensor) -> tuple[Tensor, State]:
        if self.relu:
            _relu_backward(grads[0], kept, 0, grad_input=out)
        else:
            _tanh_backward(grads[0], kept, grad_input=out)
        return out, (out.new_zeros(()),)


class GRUCell:
    """r, z = σ(given + recurrent), n = tanh(given + r ∘ recurrent), h_t = (1 − z) ∘ n + z ∘ h_{t−1}."""

    def step(self, given: Tensor, recurrent: Tensor, *state: Tensor) -> State:
        (h,), k = state, 2 * state[0].shape[1]
        r, z = (given[:, :k] + recurrent[:, :k]).sigmoid().chunk(2, 1)
        n = (given[:, k:] + r * recurrent[:, k:]).tanh()
        return (n + z * (h - n),)

    def forward(self, given: Tensor, recurrent: Tensor, *state: Tensor) -> tuple[State, Any]:
        (h,), k = state, 2 * state[0].shape[1]
        recurrent[:, :k].add_(given[:, :k]).sigmoid_()
        r, z, of_n = recurrent.chunk(3, 1)
        n = (r * of_n).add_(given[:, k:]).tanh_()
        return ((h - n).mul_(z).add_(n),), (recurrent, n, h)

    def backward(self, grads: State, kept: Any, out: Tensor) -> tuple[Tensor, State]:
        (grad,), (recurrent, n, h) = grads, kept
        r, z, of_n = recurrent.chunk(3, 1)
        at_r, at_z, at_n = out.chunk(3, 1)
        through = grad * z
        _tanh_backward(grad - through, n, grad_input=at_n)
        _sigmoid_backward((h - n).mul_(grad), z, grad_input=at_z)
        _sigmoid_backward(of_n * at_n, r, grad_input=at_r)
        grad_recurrent = out.clone()
        grad_recurrent[:, -n.shape[1] :] *= r
        return grad_recurrent, (through,)


class LSTMCell:
    """i, f, o = σ(given + recurrent), g = tanh(given + recurrent), c_t = f ∘ c_{t−1} + i ∘ g, h_t = o ∘ tanh(c_t)."""

    def step(self, given: Tensor, recurrent: Tensor, *state: Tensor) -> State:
        i, f, g, o = (given + recurrent).chunk(4, 1)
        c = f.sigmoid() * state[1].to(f.dtype) + i.sigmoid() * g.tanh()  # under autocast, as torch's own does
        return o.sigmoid() * c.tanh(), c

    def forward(self, given: Tensor, recurrent: Tensor, *state: Tensor) -> tuple[State, Any]:
        recurrent += given
        i, f, g, o = recurrent.chunk(4, 1)
        for gate in (i, f, o):
            gate.sigmoid_()
        c = (f * state[1]).addcmul_(i, g.tanh_())
        squashed = c.tanh()
        return (o * squashed, c), (recurrent, state[1], squashed)

    def backward(self, grads: State, kept: Any, out: Tensor) -> tuple[Tensor, State]:
        (grad_h, grad_c), (gates, c, squashed) = grads, kept
        i, f, g, o = gates.chunk(4, 1)
        at_i, at_f, at_g, at_o = out.chunk(4, 1)
        grad_c = grad_c + torch.ops.aten.tanh_backward(grad_h * o, squashed)
        _sigmoid_backward(grad_c * g, i, grad_input=at_i)
        _sigmoid_backward(grad_c * c, f, grad_input=at_f)
        _tanh_backward(grad_c * i, g, grad_input=at_g)
        _sigmoid_backward(grad_h * squashed, o, grad_input=at_o)
        return out, (out.new_zeros(()), grad_c.mul_(f))


def recurrence(
    cell: Cell,
    spread: Spread,
    steps: Sequence[int],
    back: bool,
    rows: Tensor,
    weights: tuple[Tensor, Tensor],
    biases: tuple[Tensor, Tensor] | tuple[None, None],
    state: State,
) -> tuple[Tensor, ...]:
    """The outputs of one layer in one direction, (rows, units), and its last state.

    Args:
        cell: the equations.
        spread: P of W_hh, with its pattern.
        steps: how many rows each time step has, one for each of its sequences; these are the first ones of the batch.
        back: whether to begin with the last step.
        rows: the inputs (rows, in), step after step.
        weights: W_ih, (gates · units, in), and W_hh on the wires, (wires,).
        biases: b_ih and b_hh, (gates · units,).
        state: the tensors to start from, each (batch, units).
    """
    if not_autocast(rows) and ordinary(rows, weights[1]) and len(rows):
        pattern, batch = spread.pattern, len(state[0])
        assert pattern is not None
        stacked, units = pattern.wires.shape
        check_like(
            rows,
            weight_ih=(weights[0], (stacked, rows.shape[1])),
            weight_hh=(weights[1], (pattern.wires.count,)),
            bias_ih=(biases[0], (stacked,)),
            bias_hh=(biases[1], (stacked,)),
            **{name: (h, (batch, units)) for name, h in zip("hc", state, strict=False)},
        )
        found: tuple[Tensor, ...] = _Recurrence.apply(
            cell, spread, steps, back, torch.is_grad_enabled(), rows, *weights, *biases, *state
        )
        return found
    return _plain(cell, spread, steps, back, rows, *weights, *biases, *state)


def _plain(
    cell: Cell,
    spread: Spread,
    steps: Sequence[int],
    back: bool,
    rows: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    *state: Tensor,
) -> tuple[Tensor, ...]:
    """:func:`recurrence` step by step, which works under every transformation."""
    product = weight_ih @ rows.t() if bias_ih is None else torch.addmm(bias_ih[:, None], weight_ih, rows.t())
    outputs = []
    for given in _turned(torch.split(product, list(steps), 1), back):
        n = given.shape[1]
        now = tuple(h[:n] for h in state)
        made = cell.step(given.t(), spread.linear(now[0], weight_hh, bias_hh), *now)
        outputs.append(made[0])
        state = _with(made, state)
    return torch.cat(_turned(outputs, back)), *state


def _turned(steps: Sequence[T], back: bool) -> list[T]:
    return [*reversed(steps)] if back else [*steps]


def _with(first: State, state: State) -> State:
    """The state with new values for its first sequences; the others have ended, or are still to begin."""
    n = len(first[0])
    return first if n == len(state[0]) else tuple(torch.cat([a, h[n:]]) for a, h in zip(first, state, strict=True))


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        cell: Cell,
        spread: Spread,
        steps: Sequence[int],
        back: bool,
        grad_enabled: bool,
        rows: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor | None,
        bias_hh: Tensor | None,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        training = grad_enabled and any(ctx.needs_input_grad)
        given = rows, weight_ih, weight_hh, bias_ih, bias_hh, *state
        ctx.how = cell, spread, steps, back
        prior, kernel = spread.like(weight_hh), spread.kernel(rows)
        outputs, kept = [], []
        with spread.workspace() as ctx.workspace:
            space = ctx.workspace
            product = space.buffer("steps", (len(weight_ih), len(rows)), rows)
            torch.mm(weight_ih, rows.t(), out=product)
            if bias_ih is not None:
                product += bias_ih[:, None]
            for part in _turned(torch.split(product, list(steps), 1), back):
                now = tuple(h[: part.shape[1]] for h in state)
                recurrent, of_kernel = kernel.forward(now[0], weight_hh, prior, bias_hh, space, training)
                made, of_cell = cell.forward(part.t(), recurrent, *now)
                if training:
                    kept.append((now[0], of_cell, of_kernel))
                outputs.append(made[0])
                state = _with(made, state)
        # autograd holds those that are tensors: then it can free them, and hooks of saved tensors see them
        leaves, ctx.tree = tree_flatten(kept)
        ctx.others = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        ctx.save_for_backward(*given, *(leaf for leaf in leaves if isinstance(leaf, Tensor)))
        return torch.cat(_turned(outputs, back)), *(h.clone() for h in state)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cell, spread, steps, back = ctx.how
        needed = ctx.needs_input_grad[5:]
        saved = ctx.saved_tensors  # raises where one of them has changed since
        given, held = saved[: len(needed)], iter(saved[len(needed) :])
        if not all(map(ordinary_backward, grads)):

            def formula(*given: Any) -> tuple[Tensor, ...]:
                return _plain(cell, spread, steps, back, *given)

            return *[None] * 5, *gradients(formula, given, needed, grads)
        rows, weight_ih, weight_hh, _, bias_hh, *_ = given
        prior, kernel = spread.like(weight_hh), spread.kernel(rows)
        kept = tree_unflatten([next(held) if leaf is None else leaf for leaf in ctx.others], ctx.tree)
        outputs, state = grads[0], tuple(g.clone() for g in grads[1:])
        grad_hh = torch.zeros_like(weight_hh) if needed[2] else None
        grad_bias_hh = torch.zeros_like(bias_hh) if needed[4] else None
        space = ctx.workspace
        with space.lock:
            product = space.buffer("steps", (len(weight_ih), len(rows)), rows)  # to hold its gradient
            parts = [*zip(torch.split(product, list(steps), 1), torch.split(outputs, list(steps)), strict=True)]
            for (h, of_cell, of_kernel), (part, output) in zip(kept[::-1], _turned(parts, not back), strict=True):
                now = tuple(g[: len(output)] for g in state)
                out = space.buffer("step", part.shape, rows).t()
                grad, made = cell.backward((now[0] + output, *now[1:]), of_cell, out)
                part.copy_(out.t())
                through, step = kernel.backward(grad, h if needed[2] else None, weight_hh, prior, of_kernel, space)
                if grad_hh is not None:
                    grad_hh += step
                if grad_bias_hh is not None:
                    grad_bias_hh += grad.sum(0)
                state = _with((through + made[0], *made[1:]), state)
            grad_rows = product.t() @ weight_ih if needed[0] else None
            grad_ih = product @ rows if needed[1] else None
            grad_bias_ih = product.sum(1) if needed[3] else None
        return *[None] * 5, grad_rows, grad_ih, grad_hh, grad_bias_ih, grad_bias_hh, *state
