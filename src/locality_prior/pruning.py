"""Cut the wires that are not worth their length, after training, and run with what is left."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor, nn

from locality_prior._check import count, wrong
from locality_prior._timing import in_turns
from locality_prior.layers import DENSE, LocalityLinear, locality_layers, with_layers

M = TypeVar("M", bound=nn.Module)

By = Literal["weight", "length", "cost"]
#: Shares of the wires at which a curve is measured, where no others are asked for.
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)
#: How often the largest cut between two points of the curve is halved.
HALVINGS = 7


@dataclass(frozen=True)
class Cut:
    """A number of wires kept, and what it comes to."""

    wires: int  #: wires kept, of all layers
    share: float  #: of the wires that there were
    wire_length: float  #: Σ d over the wires kept, in units of each layer's source spacing
    score: float | None  #: what ``evaluate`` says of the network with these wires


class Sparsified(NamedTuple, Generic[M]):
    """A pruned copy of a model, the cut it has, and the curve of what other cuts come to, from all wires to few."""

    model: M
    cut: Cut
    curve: list[Cut]


def sparsify(
    model: M,
    by: By = "weight",
    *,
    keep: float | None = None,
    wire_length: float | None = None,
    drop: float | None = None,
    evaluate: Callable[[M], float] | None = None,
    shares: Sequence[float] = SHARES,
    batch: int = 64,
) -> Sparsified[M]:
    r"""Cut wires of all the :class:`LocalityLinear` in ``model``: those that count least, over all layers at once.

    The source document closes with the thought that a trained network can be made sparse "by removing small entries of
    W∘P without a significant loss of accuracy": that is ``by="weight"``.

    Args:
        model: a layer, or a model that has some; it is left as it is.
        by: what is cut first. "weight": the smallest effective weights |V|, V = P∘W. "length": the longest wires d (of
            equally long ones the weakest). "cost": the smallest c(d)|V|, which is r_i|W|, the raw weights: a long wire
            is then kept at a smaller V, since it was dearer to learn.
        keep: the share of the wires to keep, above 0 and at most 1.
        wire_length: a budget for Σ d over the wires kept: wires are cut until it is met.
        drop: the most that ``evaluate`` may fall below what it says of ``model``; the largest cut that was found not to
            exceed it is taken (the curve is walked from its small end, and the gap then halved seven times).
        evaluate: what a network is worth, such as its validation accuracy; higher is better. Needed for ``drop``.
        shares: where the curve is measured, as shares of the wires.
        batch: size of the batch with which the ways to compute are timed: each pruned layer takes the quickest.

    Returns:
        A copy of the model, its layers with the wires that are left (:class:`LocalityLinear` with ``kept``: it trains,
        folds, saves and loads as any other); the cut; and the curve.

    Raises:
        ValueError: no such layer, no target or more than one, or one that cannot be met.
    """
    layers = {layer: name for name, layer in locality_layers(model) if isinstance(layer, LocalityLinear)}
    if not layers:
        raise wrong("model", type(model).__name__, "a model with a LocalityLinear")
    if by not in get_args(By):
        raise wrong("by", repr(by), f"one of {', '.join(get_args(By))}")
    for layer, name in layers.items():
        if not isinstance(layer._parameters.get("weight"), nn.Parameter):
            raise wrong("model", f"layer {name!r} with a weight made of others", "weights without a parametrisation")
    count("batch", batch)
    _check_target(keep, wire_length, drop, evaluate)
    shares = sorted({1.0, *(_number("shares", share) for share in shares)}, reverse=True)
    if not 0 < shares[-1] <= shares[0] <= 1:
        raise wrong("shares", shares, "shares above 0 and at most 1")

    # candidates are drawn and timed: the caller's random numbers stay as they are
    gpus = {layer.weight.device for layer in layers if layer.weight.is_cuda}
    with torch.no_grad(), torch.random.fork_rng(gpus):
        order = _Order([_Wires.of(layer) for layer in layers], by)
        cuts: dict[int, Cut] = {}

        def cut(wires: int) -> Cut:
            """What keeping so many wires comes to: measured once."""
            if wires not in cuts:
                score = None
                if evaluate is not None:
                    score = _number("evaluate", evaluate(_muted(model, layers, order, wires)), nan=True)
                cuts[wires] = Cut(wires, wires / order.count, order.length(wires), score)
            return cuts[wires]

        if keep is not None:
            wires = round(keep * order.count)
        elif wire_length is not None:
            wires = order.within(wire_length)
        for share in shares:
            if round(share * order.count):
                cut(round(share * order.count))
        if drop is not None:
            wires = _largest_cut(cut, cuts, drop, order)
        left = order.left(wires)
        for layer, chosen_wires in zip(layers, left, strict=True):
            if not chosen_wires.any():
                asked = {"keep": keep, "wire_length": wire_length, "drop": drop}
                name, value = next((k, v) for k, v in asked.items() if v is not None)
                where = f"layer {layers[layer]!r}" if layers[layer] else "the layer"
                raise wrong(
                    name, f"{value}, which leaves {where} without a wire", "a target that leaves each layer some"
                )
        chosen = cut(wires)
        pruned = {
            layer: _quickest(layer, wires_of, chosen_wires, batch)
            for layer, wires_of, chosen_wires in zip(layers, order.layers, left, strict=True)
        }
    return Sparsified(with_layers(model, pruned), chosen, [cuts[wires] for wires in sorted(cuts, reverse=True)])


def _number(name: str, value: object, nan: bool = False) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        raise wrong(name, repr(value), "a number") from None
    if isinstance(value, (bool, str)) or (math.isnan(number) and not nan):
        raise wrong(name, repr(value), "a number")
    return number


def _check_target(keep: float | None, wire_length: float | None, drop: float | None, evaluate: object) -> None:
    given = {k: v for k, v in (("keep", keep), ("wire_length", wire_length), ("drop", drop)) if v is not None}
    if len(given) != 1:
        raise wrong("keep, wire_length, drop", " and ".join(given) or "none of them", "one of the three")
    for name, value in given.items():
        number = _number(name, value)
        if name == "keep" and not 0 < number <= 1:
            raise wrong(name, value, "a share above 0 and at most 1")
        if not number >= 0:
            raise wrong(name, value, "a length of at least 0" if name == "wire_length" else "a fall of at least 0")
    if not callable(evaluate) and (drop is not None or evaluate is not None):
        raise wrong("evaluate", repr(evaluate), "a function from a model to its score")


@dataclass(frozen=True)
class _Wires:
    """The wires of a layer, in row-major order: pair numbers, W, |V|, lengths, and c|V| = r|W|."""

    pairs: Tensor
    raw: Tensor
    strength: Tensor
    length: Tensor
    charged: Tensor

    @staticmethod
    def of(layer: LocalityLinear) -> _Wires:
        rule, cpu = layer.rule, torch.device("cpu")
        wires = rule.wires()
        rows = wires.rows()
        pairs = rows * rule.shape[1] + wires.sources
        on_wires = pairs.to(layer.weight.device) if layer.pattern is None else slice(None)
        raw = layer.weight.flatten()[on_wires]
        strength = layer.effective_weight.flatten()[on_wires].cpu().double().abs()
        charged = raw.cpu().double().abs()
        if rule.row_scale is not None:
            charged = charged * rule.row_scale[rows]
        return _Wires(pairs, raw, strength, rule.wire_lengths(torch.float64, cpu), charged)


class _Order:
    """The wires of all layers from the one that counts most to the one that is cut first."""

    def __init__(self, layers: list[_Wires], by: By) -> None:
        self.layers = layers
        strength, length = (torch.cat([getattr(w, name) for w in layers]) for name in ("strength", "length"))
        order = strength.argsort(descending=True, stable=True)
        if by == "length":
            order = order[length[order].argsort(stable=True)]
        elif by == "cost":
            order = torch.cat([w.charged for w in layers]).argsort(descending=True, stable=True)
        self.order, self.lengths = order, length[order].cumsum(0)
        self.count = len(order)

    def length(self, wires: int) -> float:
        """Σ d over the first ``wires``."""
        return float(self.lengths[wires - 1]) if wires else 0.0

    def within(self, budget: float) -> int:
        """How many of the first wires are together no longer than ``budget``."""
        return int((self.lengths <= budget * (1 + 1e-12)).sum())

    def left(self, wires: int) -> list[Tensor]:
        """Whether each wire is among the first ``wires``, layer by layer."""
        chosen = torch.zeros(self.count, dtype=torch.bool)
        chosen[self.order[:wires]] = True
        return list(torch.split(chosen, [len(w.pairs) for w in self.layers]))


def _largest_cut(cut: Callable[[int], Cut], cuts: dict[int, Cut], drop: float, order: _Order) -> int:
    """The fewest wires found whose score is no more than ``drop`` below that of all."""
    whole = max(cuts)
    least = cuts[whole].score
    assert least is not None

    def good(wires: int) -> bool:
        if not all(chosen.any() for chosen in order.left(wires)):
            return False  # a layer without a wire
        score = cut(wires).score
        return score is not None and score >= least - drop - 1e-9 * abs(least)

    known = sorted(cuts)
    first = next((k for k, wires in enumerate(known) if good(wires)), None)
    if first is None:
        raise wrong("drop", drop, f"a score that is a number (got {least} with all wires)")
    many, few = known[first], known[first - 1] if first else 0
    for _ in range(HALVINGS):
        middle = (many + few) // 2
        if middle <= few:
            break
        many, few = (middle, few) if good(middle) else (many, middle)
    return many


def _muted(model: M, layers: Iterable[LocalityLinear], order: _Order, wires: int) -> M:
    """A copy of ``model`` in which the weights of the cut wires are 0: the same function, not yet quicker."""
    copies: dict[LocalityLinear, nn.Module] = {}
    for layer, all_wires, chosen in zip(layers, order.layers, order.left(wires), strict=True):
        muted = copy.deepcopy(layer)
        at = all_wires.pairs.to(layer.weight.device) if layer.pattern is None else slice(None)
        muted.weight.view(-1)[at] = all_wires.raw * chosen.to(all_wires.raw.device)
        copies[layer] = muted
    return with_layers(model, copies)


def _quickest(layer: LocalityLinear, wires: _Wires, chosen: Tensor, batch: int) -> LocalityLinear:
    """``layer`` with the ``chosen`` wires alone, computing in the way that is quickest in inference."""
    if chosen.all():
        return copy.deepcopy(layer)  # nothing is cut
    kept = wires.pairs[chosen]
    device, dtype = layer.weight.device, layer.weight.dtype
    x = torch.randn(batch, layer.in_features, device=device, dtype=dtype)
    calls: dict[str, Callable[[], Tensor]] = {}
    made: dict[str, LocalityLinear] = {}
    auto = LocalityLinear.from_config({**layer.config(), "backend": "auto"}, kept=kept, device=device, dtype=dtype)
    for way in ("windowed", "wires", "dense"):
        if way == "dense" and math.prod(layer.rule.shape) > DENSE:
            continue
        made[way] = LocalityLinear.from_config(
            {**layer.config(), "backend": way}, kept=kept, device=device, dtype=dtype
        )
        calls[way] = partial(made[way], x)
        try:
            calls[way]()
        except ValueError:  # not served in this dtype
            del calls[way]
    times = in_turns(calls, rounds=5, turn=2.0)
    quickest = min(times, key=lambda way: times[way])
    # where "auto" does the same it is left in place: it serves every dtype and device
    same = quickest == ("dense" if auto.pattern is None else auto.pattern.choice(dtype, device))
    best = auto if same else made[quickest]
    values = wires.raw[chosen.to(device)]
    if best.pattern is None:
        best.weight.zero_().view(-1)[kept.to(device)] = values
    else:
        best.weight.copy_(values)
    best.weight.requires_grad_(layer.weight.requires_grad)
    if layer.bias is not None and best.bias is not None:
        best.bias.copy_(layer.bias).requires_grad_(layer.bias.requires_grad)
    return best.train(layer.training)
