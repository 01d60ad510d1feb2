"""Cut the wires that are not worth their length, after training, and go on with those that are left."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor, nn

from locality_prior._check import choice, instance, number, wrong, wrong_type
from locality_prior.layers import LocalityLinear, locality_layers, with_layers
from locality_prior.prior import aside

M = TypeVar("M", bound=nn.Module)
S = TypeVar("S")

By = Literal["weight", "length", "cost"]
#: Shares of the wires at which a curve is measured by default.
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)
#: How often the gap between the largest acceptable cut and the next one on the curve is halved.
HALVINGS = 7


@dataclass(frozen=True)
class Cut(Generic[S]):
    """A number of wires that are kept, with their length and the score of the network that has them."""

    wires: int  #: wires kept, in all layers together
    share: float  #: their share of the wires that there were
    wire_length: float  #: Σ d over the wires kept, in units of each layer's source spacing
    score: S  #: what ``evaluate`` returned for the network with these wires; None without ``evaluate``


class Sparsified(NamedTuple, Generic[M]):
    """A pruned copy of a model, its cut, and the curve of all cuts that were measured, from all wires to few."""

    model: M
    cut: Cut[float | None]
    curve: list[Cut[float | None]]


def curve(
    model: M,
    by: By,
    evaluate: Callable[[M], S],
    shares: Sequence[float] = SHARES,
    names: Sequence[str] | None = None,
) -> list[Cut[S]]:
    """Evaluate ``model`` with fewer and fewer wires, in place: nothing is copied, and its weights are restored.

    For each share the weights of the wires that are cut are set to 0 while ``evaluate`` looks at the model. Choose a
    cut by a score on a validation split and report its score on the test set; ``evaluate`` may return both at once.

    Args:
        model: a layer, or a model that has some :class:`LocalityLinear`.
        by: what is cut first, as in :func:`sparsify`.
        evaluate: a function of the model; whatever it returns is the score of the cut. It must not change weights.
        shares: shares of the wires to keep, above 0 and at most 1. All wires are always measured too. A share of less
            than half a wire is left out.
        names: names of the layers to cut; None: all :class:`LocalityLinear` in ``model``. Shares are of their wires.

    Returns:
        The cuts, from all wires to few.

    Raises:
        ValueError: there is no such layer, or an argument has another form.
    """
    layers = _layers(model, names)
    choice("by", by, get_args(By))
    if not callable(evaluate):
        raise wrong_type("evaluate", evaluate, "a function of the model")
    shares = _shares(shares)
    with torch.no_grad():
        order = _Order([_Wires.of(layer) for layer in layers], by)
        return [
            _cut(model, layers, order, wires, evaluate)
            for wires in sorted({round(share * order.count) for share in shares} - {0}, reverse=True)
        ]


def sparsify(
    model: M,
    by: By = "weight",
    *,
    keep: float | None = None,
    wire_length: float | None = None,
    drop: float | None = None,
    evaluate: Callable[[M], float] | None = None,
    shares: Sequence[float] = SHARES,
    names: Sequence[str] | None = None,
) -> Sparsified[M]:
    r"""Cut the wires that count least, over all the :class:`LocalityLinear` in ``model`` together.

    The source document closes with the thought that a trained network can be made sparse "by removing small entries of
    W∘P without a significant loss of accuracy"; that is ``by="weight"``.

    >>> import locality_prior as lp
    >>> layer = lp.LocalityLinear(16, 16, cost="linear")
    >>> pruned, cut, curve = lp.sparsify(layer, keep=0.25)
    >>> cut.wires, cut.share, curve[0].wires
    (64, 0.25, 256)

    Args:
        model: a layer, or a model that has some. It is left as it is.
        by: what is cut first. "weight": the smallest effective weights |V|, V = P∘W. "length": the longest wires d, and
            among equally long ones the weakest. "cost": the smallest c(d)|V|, which is r_i|W|, the raw weights; a long
            wire then survives with a smaller V than a short one, because it was more expensive to learn.
        keep: the share of the wires to keep, above 0 and at most 1.
        wire_length: the most that Σ d over the wires kept may be.
        drop: the most that ``evaluate`` may fall below its value for the whole model. The largest cut that was found to
            stay within it is taken: the curve is searched from its small end, and the gap to the next cut is then
            halved seven times.
        evaluate: a score of the model, such as its accuracy; higher is better. Needed for ``drop``. Since the cut is
            chosen by this score, compute it on a validation split, and measure the pruned model on the test set.
        shares: where the curve is measured, as shares of the wires.
        names: names of the layers to cut; None: all of them.

    Returns:
        A copy of the model, whose layers have only the wires that are left; the cut; and the curve. The layers are
        :class:`LocalityLinear` with ``kept``, which train, fold, save and load as any other; one that lost wires has
        ``backend="auto"``, which decides by its size and its share of wires, so the same cut gives the same layer.

    Raises:
        ValueError: there is no such layer, not exactly one of the three targets is given, or it cannot be met.
    """
    layers = _layers(model, names)
    choice("by", by, get_args(By))
    _check_target(keep, wire_length, drop, evaluate)
    shares = _shares(shares)

    def score(whole: M) -> float | None:
        return None if evaluate is None else _score(evaluate(whole))

    with torch.no_grad():
        order = _Order([_Wires.of(layer) for layer in layers], by)
        cuts: dict[int, Cut[float | None]] = {}

        def cut(wires: int) -> Cut[float | None]:
            """The cut that keeps so many wires, measured once."""
            if wires not in cuts:
                cuts[wires] = _cut(model, layers, order, wires, score)
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
        for name, chosen in zip(layers.values(), left, strict=True):
            if not chosen.any():
                asked = {"keep": keep, "wire_length": wire_length, "drop": drop}
                target, value = next((k, v) for k, v in asked.items() if v is not None)
                where = f"layer {name!r}" if name else "the layer"
                expected = "a target that leaves each layer some"
                raise wrong(target, f"{value}, which leaves {where} without a wire", expected)
        measured = cut(wires)
        pruned = {
            layer: _pruned(layer, all_wires, chosen)
            for layer, all_wires, chosen in zip(layers, order.layers, left, strict=True)
        }
    return Sparsified(with_layers(model, pruned), measured, [cuts[wires] for wires in sorted(cuts, reverse=True)])


# --- arguments -------------------------------------------------------------------------------------------------------


def _layers(model: nn.Module, names: Any) -> dict[LocalityLinear, str]:
    """The layers to cut, with their names."""
    layers = {layer: name for name, layer in locality_layers(model) if isinstance(layer, LocalityLinear)}
    if not layers:
        raise wrong("model", type(model).__name__, "a model with a LocalityLinear")
    if names is not None:
        if isinstance(names, str):
            raise wrong("names", names, "a list of names")
        known = {n: m for n, m in model.named_modules(remove_duplicate=False) if m in layers}
        for name in instance("names", names, Sequence, "a list of names"):
            if name not in list(known):
                raise wrong("names", name, f"one of {', '.join(map(repr, known))}")
        layers = {layer: name for layer, name in layers.items() if any(known[n] is layer for n in names)}
        if not layers:
            raise wrong("names", names, "at least one name")
    for layer, name in layers.items():
        if layer.rule.learned:
            raise wrong("model", f"layer {name!r} between points that learn", "layers between places that do not")
        if not isinstance(layer._parameters.get("weight"), nn.Parameter):
            raise wrong("model", f"layer {name!r} with a weight made of others", "weights without a parametrisation")
    return layers


def _shares(shares: Any) -> list[float]:
    """All wires, and the shares asked for, from many to few."""
    if isinstance(shares, str) or not isinstance(shares, Sequence):
        raise wrong_type("shares", shares, "a list of shares above 0 and at most 1")
    found = sorted({1.0, *(number("shares", share, 0, 1) for share in shares)}, reverse=True)
    if not found[-1] > 0:
        raise wrong("shares", found[-1], "shares above 0 and at most 1")
    return found


def _score(value: object) -> float:
    """What ``evaluate`` returned, as a number; NaN and infinity are numbers here."""
    try:
        if not isinstance(value, (bool, str)):
            return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        pass
    raise wrong("evaluate", value, "a function that returns a number")


def _check_target(keep: Any, wire_length: Any, drop: Any, evaluate: object) -> None:
    given = {k: v for k, v in (("keep", keep), ("wire_length", wire_length), ("drop", drop)) if v is not None}
    if len(given) != 1:
        raise wrong("keep, wire_length, drop", " and ".join(given) or "none of them", "one of the three")
    for name, value in given.items():
        if name == "wire_length" and isinstance(value, float) and value == math.inf:
            continue  # every length is within it
        if number(name, value, 0, 1 if name == "keep" else math.inf) == 0 and name == "keep":
            raise wrong(name, value, "a share above 0 and at most 1")
    if not callable(evaluate) and (drop is not None or evaluate is not None):
        raise wrong_type("evaluate", evaluate, "a function from a model to its score")


# --- wires in the order in which they are cut ------------------------------------------------------------------------


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
        with aside(), torch.no_grad():
            wires = rule.wires()
            rows = wires.rows()
            pairs = rows * rule.shape[1] + wires.sources
            on_wires = pairs.to(layer.weight.device) if layer.pattern is None else slice(None)
            raw = layer.weight.flatten()[on_wires].clone()
            strength = layer.effective_weight.flatten()[on_wires].cpu().double().abs()
            charged = raw.cpu().double().abs()
            if rule.row_scale is not None:
                charged = charged * rule.row_scale[rows]
            return _Wires(pairs, raw, strength, rule.wire_lengths(torch.float64, cpu), charged)


class _Order:
    """The wires of all layers, from the one that counts most to the one that is cut first."""

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
        """The largest number of first wires whose total length is at most ``budget``."""
        return int((self.lengths <= budget * (1 + 1e-12)).sum())

    def left(self, wires: int) -> list[Tensor]:
        """Whether each wire is among the first ``wires``, layer by layer."""
        chosen = torch.zeros(self.count, dtype=torch.bool, device="cpu")
        chosen[self.order[:wires]] = True
        return list(torch.split(chosen, [len(w.pairs) for w in self.layers]))


def _largest_cut(
    cut: Callable[[int], Cut[float | None]], cuts: dict[int, Cut[float | None]], drop: float, order: _Order
) -> int:
    """The fewest wires found whose score is at most ``drop`` below the score of all wires."""
    whole = max(cuts)
    least = cuts[whole].score
    assert least is not None

    def good(wires: int) -> bool:
        if not all(chosen.any() for chosen in order.left(wires)):
            return False  # a layer would have no wire
        score = cut(wires).score
        return score is not None and score >= least - drop - 1e-9 * abs(least)

    known = sorted(cuts)
    first = next((k for k, wires in enumerate(known) if good(wires)), None)
    if first is None:
        raise wrong("drop", drop, f"a score that is a number (with all wires it is {least})")
    many, few = known[first], known[first - 1] if first else 0
    for _ in range(HALVINGS):
        middle = (many + few) // 2
        if middle <= few:
            break
        many, few = (middle, few) if good(middle) else (many, middle)
    return many


# --- a model with fewer wires ----------------------------------------------------------------------------------------


def _cut(model: M, layers: Iterable[LocalityLinear], order: _Order, wires: int, evaluate: Callable[[M], S]) -> Cut[S]:
    """What ``evaluate`` says of the model while only the first ``wires`` are not 0."""
    with _muted(layers, order, wires):
        score = evaluate(model)
    return Cut(wires, wires / order.count, order.length(wires), score)


@contextmanager
def _muted(layers: Iterable[LocalityLinear], order: _Order, wires: int) -> Iterator[None]:
    """Set the weights of all but the first ``wires`` to 0 inside the block."""
    at = [
        (layer, all_wires.pairs.to(layer.weight.device) if layer.pattern is None else slice(None), all_wires.raw)
        for layer, all_wires in zip(layers, order.layers, strict=True)
    ]
    try:
        with torch.no_grad():
            for (layer, pairs, raw), chosen in zip(at, order.left(wires), strict=True):
                layer.weight.view(-1)[pairs] = raw * chosen.to(raw.device)
        yield
    finally:
        with torch.no_grad():
            for layer, pairs, raw in at:
                layer.weight.view(-1)[pairs] = raw


def _pruned(layer: LocalityLinear, wires: _Wires, chosen: Tensor) -> LocalityLinear:
    """A copy of ``layer`` that has only the ``chosen`` wires."""
    if chosen.all():
        return copy.deepcopy(layer)
    kept, device = wires.pairs[chosen], layer.weight.device
    made = layer.keeping(kept, backend="auto")
    values = wires.raw[chosen.to(device)]
    if made.pattern is None:
        made.weight.zero_().view(-1)[kept.to(device)] = values
    else:
        made.weight.copy_(values)
    made.weight.requires_grad_(layer.weight.requires_grad)
    if layer.bias is not None and made.bias is not None:
        made.bias.copy_(layer.bias).requires_grad_(layer.bias.requires_grad)
    return made.train(layer.training)
