"""Attention with a prior over units, in its projections, and with a bias over positions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locality_prior._check import boolean, choice, instance, number, positive, wrong, wrong_type
from locality_prior.cost import Cost, as_cost
from locality_prior.functional import Workspace
from locality_prior.geometry import Distances, Geometry, meet
from locality_prior.layers.base import (
    BACKENDS,
    Plain,
    Rounded,
    Spread,
    affordable,
    factory,
    own_places,
    same_dtype,
    size,
    stacked,
    tensor,
    tracing,
)
from locality_prior.prior import Prior, resolve
from locality_prior.sparse import pattern_for

#: With "auto", projections between fewer pairs of units than this are computed with matrices, which are quicker there.
SMALL = 1 << 16


class PositionBias(Rounded):
    r"""The bias that attention gets over a distance: −m_h (c(d_ij) − 1), (heads, n, n), for query i and key j.

    With the cost 1 + d/ℓ on a line this is ALiBi (Press, Smith & Lewis 2022, arXiv 2108.12409): −(m_h/ℓ)|i − j|. Where
    the cost ends, positions do not attend to each other. The bias is finite there, so a query that reaches no key, or
    only masked ones, attends to what there is.

    Args:
        positions: places of the positions; a sequence of length L uses the first L.
        cost: the cost of a distance.
        slopes: m_h, one for each head.
    """

    def __init__(self, positions: Geometry, cost: Cost, slopes: tuple[float, ...]) -> None:
        self.positions, self.cost, self.slopes = positions, cost, slopes

    def _make(self, other: Tensor) -> Tensor:
        charge = self.cost.cost(self.positions.distances()).detach() - 1
        slopes = torch.tensor(self.slopes, dtype=torch.float64)
        return (-slopes[:, None, None] * charge).to(other.device, other.dtype)

    def __call__(self, queries: int, keys: int, like: Tensor, dtype: torch.dtype) -> Tensor:
        """Its first rows and columns in ``dtype``, rounded to that of ``like`` before, on the device of ``like``."""
        if max(queries, keys) > len(self.positions):
            raise wrong("query", f"{max(queries, keys)} positions", f"at most {len(self.positions)}, which have places")
        least = torch.finfo(dtype).min / 4  # the sum of two such numbers is finite
        return self.like(like)[:, :queries, :keys].to(dtype).clamp(min=least)

    def merged(self, query: Tensor, key: Tensor, mask: Tensor | None, batch_first: bool) -> Tensor:
        """The bias together with the caller's mask, boolean or additive: (batch · heads, L, S)."""
        at = -2 if query.dim() == 2 or batch_first else 0
        batch = 1 if query.dim() == 2 else query.shape[0 if batch_first else 1]
        bias = self(query.shape[at], key.shape[at], query, query.dtype)
        if mask is not None:
            mask = _additive("attn_mask", mask, query.dtype)
        if mask is not None and mask.dim() == 3:
            return mask + bias.repeat(batch, 1, 1)
        return (bias if mask is None else bias + mask).repeat(batch, 1, 1)


class LocalityMultiheadAttention(Plain, nn.MultiheadAttention):
    r"""Attention with a prior over units, in its projections, and with an additive bias over positions.

    q = (P∘W_q) x + b_q, and likewise for k, v and the output projection, where P_ij = s(d_ij) is the signal between the
    places of the embedding's units. With ``positions``, −m_h (c(d_ij) − 1) is added to the logit of query i and key j
    in head h; on a line with the linear cost this is ALiBi. This is a drop-in for :class:`torch.nn.MultiheadAttention`:
    it has the same arguments, state dict (``in_proj_weight`` and ``out_proj.weight`` are W), initialisation and shapes.

    >>> import torch
    >>> import locality_prior as lp
    >>> layer = lp.LocalityMultiheadAttention(16, 2, batch_first=True, units=lp.Grid(4, 4), positions=lp.Line(7))
    >>> x = torch.randn(5, 7, 16)
    >>> output, weights = layer(x, x, x)
    >>> output.shape, weights.shape
    (torch.Size([5, 7, 16]), torch.Size([5, 7, 7]))

    Args:
        embed_dim, num_heads, dropout, bias, add_bias_kv, add_zero_attn, kdim, vdim, batch_first: as in
            :class:`torch.nn.MultiheadAttention`.
        units: places of the embedding's units; the default is the first cells of a square sheet. Keys and values of
            another size lie on sheets of their own.
        cost: the cost of a wire between units, or a word for it; the default is ``Linear()``, c(d) = 1 + d. With
            ``Flat()`` the projections have no prior.
        rescale: multiply row i of P by r_i = K / Σ_j s(d_ij), for K source units.
        positions: places of the positions (a shorter sequence uses the first of them); None: no bias.
        position_cost: c of the bias; the default is ``Linear()``.
        slopes: m_h > 0, one for each head; the default is ALiBi's 2^(−8h/H), h = 1 … H.
        backend: how to compute the projections, as in :class:`LocalityLinear`: "dense", "windowed", "wires" or "auto".
            With a sparse backend ``in_proj_weight`` is (3 · wires,), the weights of queries, keys and values one after
            another, and ``out_proj.weight`` is (wires,); with keys or values of another size, each projection has its
            own wires. Every backend starts from the same weights, and loads the state dict of every other.
        device, dtype: of the parameters.

    Raises:
        ValueError: the geometry has another number of units, a unit has no wire, there are not as many slopes as heads,
            or the sizes of inputs and masks do not fit.
        TypeError: an input is not a tensor of the weight's dtype (outside autocast).
    """

    ARGUMENTS: ClassVar[tuple[str, ...]] = (
        "embed_dim",
        "num_heads",
        "dropout",
        "bias",
        "add_bias_kv",
        "add_zero_attn",
        "kdim",
        "vdim",
        "batch_first",
    )
    PLACES: ClassVar[tuple[str, ...]] = ("units", "cost", "rescale", "positions", "position_cost", "slopes", "backend")

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        units: Geometry | None = None,
        cost: Cost | str = "linear",
        rescale: bool = False,
        positions: Geometry | None = None,
        position_cost: Cost | str | None = None,
        slopes: Sequence[float] | None = None,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        embed_dim, num_heads = size("embed_dim", embed_dim), size("num_heads", num_heads)
        if embed_dim % num_heads:
            raise wrong("num_heads", num_heads, f"a divisor of embed_dim={embed_dim}")
        kdim = embed_dim if kdim is None else size("kdim", kdim)
        vdim = embed_dim if vdim is None else size("vdim", vdim)
        affordable("embed_dim", embed_dim * (2 * embed_dim + kdim + vdim), f"embed_dim={embed_dim}")
        switches = {"bias": bias, "add_bias_kv": add_bias_kv, "add_zero_attn": add_zero_attn}
        switches = {k: boolean(k, v) for k, v in (switches | {"batch_first": batch_first}).items()}
        rescale, cost = boolean("rescale", rescale), as_cost("cost", cost)
        units, backend = own_places("units", units, embed_dim), choice("backend", backend, BACKENDS)
        bias_over_positions = _position_bias(positions, position_cost, slopes, num_heads)

        def spread(features: int, times: int = 1) -> Spread:
            source, target = resolve(features, embed_dim, units if features == embed_dim else None, units)
            rule = Prior(source, target, cost, rescale)
            return Spread(rule, partial(stacked, times=times), pattern_for(rule, backend, times, SMALL))

        if kdim == vdim == embed_dim:
            spreads = {"in_proj_weight": spread(embed_dim, 3)}
        else:
            sizes = {"q_proj_weight": embed_dim, "k_proj_weight": kdim, "v_proj_weight": vdim}
            spreads = {name: spread(features) for name, features in sizes.items()}
        spreads["out_proj.weight"] = spread(embed_dim)
        super().__init__(
            embed_dim,
            num_heads,
            number("dropout", dropout, 0, 1),
            kdim=kdim,
            vdim=vdim,
            **switches,
            **factory(device, dtype),
        )
        self.units, self._own_cost, self.rescale, self.backend = units, cost, rescale, backend
        self.positions = positions
        self._bias = bias_over_positions
        self.position_cost = None if self._bias is None else self._bias.cost
        self.slopes = None if self._bias is None else self._bias.slopes
        self._workspaces = [Workspace() for _ in range(3)]  # for three products, where the inputs differ
        self._wire(spreads)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        if not tracing():
            self._check_inputs(query, key, value, key_padding_mask, attn_mask)
        if is_causal and attn_mask is None:
            raise wrong("attn_mask", "None with is_causal=True", "the causal mask: is_causal only says that it is one")
        # a single example gets an axis for the batch where a batch has it
        lone, batch = query.dim() == 2, 0 if self.batch_first else 1
        apart, together = ((0, 2, 1, 3), (0, 2, 1, 3)) if self.batch_first else ((1, 2, 0, 3), (2, 0, 1, 3))
        q, k, v = (
            torch.unflatten(x.unsqueeze(batch) if lone else x, -1, (self.num_heads, self.head_dim)).permute(apart)
            for x in self._projected(query, key, value)
        )  # each (batch, heads, length, head_dim)
        # as torch does: where nothing else is masked, a flag takes the place of the causal mask
        causal = is_causal and not need_weights and key_padding_mask is None and self._bias is None
        mask = None if causal else self._mask(q, k, key_padding_mask, attn_mask)
        if self.bias_k is not None and self.bias_v is not None:
            one = (1, self.num_heads, 1, self.head_dim)
            k, v = (
                torch.cat([x, b.view(one).expand(x.shape[0], -1, -1, -1)], 2)
                for x, b in ((k, self.bias_k), (v, self.bias_v))
            )
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        if mask is not None:  # nothing masks the keys that were added
            mask = F.pad(mask, (0, self.add_zero_attn + (self.bias_k is not None)))
        y, weights = attend(q, k, v, mask, self.dropout if self.training else 0.0, causal, need_weights)
        y = self._linear("out_proj.weight", y.permute(together).flatten(2), self.out_proj.bias)
        if weights is not None:
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights.squeeze(0) if lone else weights
        return (y.squeeze(batch) if lone else y), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """q, k and v, each (…, embed_dim)."""
        inputs, bias = (query, key, value), self.in_proj_bias
        if "in_proj_weight" in self._spreads and query is key is value:  # one product
            return list(self._linear("in_proj_weight", query, bias).chunk(3, -1))
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        if "in_proj_weight" not in self._spreads:  # keys or values of other sizes
            return [self._linear(f"{name}_proj_weight", *xb) for name, *xb in zip("qkv", inputs, biases, strict=True)]
        spread, weight = self._spreads["in_proj_weight"], self._weight("in_proj_weight")
        if spread.pattern is None:
            weights = self.effective("in_proj_weight").chunk(3)
            return [F.linear(*given) for given in zip(inputs, weights, biases, strict=True)]
        one = self._spreads["out_proj.weight"].pattern  # each of the three has the same wires, between the same units
        assert one is not None
        parts = (weight.chunk(3), spread.like(weight).chunk(3), biases, self._workspaces)
        return [one.linear(*given) for given in zip(inputs, *parts, strict=True)]

    def _linear(self, name: str, x: Tensor, bias: Tensor | None) -> Tensor:
        """(P∘W) x + b with the parameter ``name``."""
        return self._spreads[name].linear(x, self._weight(name), bias)

    def _mask(self, q: Tensor, k: Tensor, padding: Tensor | None, mask: Tensor | None) -> Tensor | None:
        """What is added to the logits; it broadcasts to (batch, heads, L, S). None: nothing."""
        parts = []
        if mask is not None:
            mask = _additive("attn_mask", mask, q.dtype)
            parts.append(torch.unflatten(mask, 0, q.shape[:2]) if mask.dim() == 3 else mask[None, None])
        if padding is not None:
            padding = _additive("key_padding_mask", padding, q.dtype)
            parts.append(padding.view(k.shape[0], 1, 1, k.shape[2]))
        if self._bias is not None:
            parts.append(self._bias(q.shape[2], k.shape[2], self.out_proj.weight, q.dtype)[None])
        return sum(parts[1:], parts[0]) if parts else None

    def _check_inputs(
        self, query: Any, key: Any, value: Any, key_padding_mask: Any = None, attn_mask: Any = None
    ) -> None:
        """Raise one clear line where tensors and masks do not fit the layer or one another."""
        sizes = {"query": self.embed_dim, "key": self.kdim, "value": self.vdim}
        for (name, features), x in zip(sizes.items(), (query, key, value), strict=True):
            tensor(name, x, f"(…, {features})")
            if x.dim() not in (2, 3) or x.dim() != query.dim() or x.shape[-1] != features:
                axes = "2 or 3" if name == "query" else f"{query.dim()}"
                raise wrong(name, f"shape {tuple(x.shape)}", f"{axes} axes, the last of {features}")
            same_dtype(name, x, self.out_proj.weight)
        lone = query.dim() == 2
        time, at = (0, None) if lone else (1, 0) if self.batch_first else (0, 1)
        if key.shape[:-1] != value.shape[:-1]:
            raise wrong("value", f"shape {tuple(value.shape)}", f"{tuple(key.shape[:-1])} before the last axis, as key")
        batch = 1 if at is None else query.shape[at]
        if at is not None and key.shape[at] != batch:
            raise wrong("key", f"a batch of {key.shape[at]}", f"{batch}, as query")
        queries, keys = query.shape[time], key.shape[time]
        masks = {
            "key_padding_mask": (key_padding_mask, [(keys,) if lone else (batch, keys)]),
            "attn_mask": (attn_mask, [(queries, keys), (batch * self.num_heads, queries, keys)]),
        }
        for name, (mask, shapes) in masks.items():
            if mask is not None:
                tensor(name, mask, f"of shape {shapes[0]}")
                if tuple(mask.shape) not in shapes:
                    raise wrong(name, f"shape {tuple(mask.shape)}", " or ".join(map(str, shapes)))
                if mask.dtype != torch.bool and not mask.is_floating_point():
                    raise wrong_type(name, f"{mask.dtype}", "torch.bool or a floating-point dtype")

    def _reset_parameters(self) -> None:
        # torch reads this attribute to know whether the three projections are one matrix
        self._qkv_same_embed_dim = self.q_proj_weight is None
        super()._reset_parameters()
        self._drop_unwired()
        # torch's encoder layers read it before they take a fast path, which would read W without calling this layer
        self._qkv_same_embed_dim = False

    def reset_parameters(self) -> None:
        """Draw the weights as torch's own layer draws them, and set W to 0 where there is no wire."""
        with self._whole():
            self.out_proj.reset_parameters()
            self._reset_parameters()

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        bias = nullcontext() if self._bias is None else self._bias.perturbed(self.out_proj.weight)
        with super().perturbed(), bias:
            yield

    def _make_ready(self) -> None:
        super()._make_ready()
        if self._bias is not None:
            self._bias.like(self.out_proj.weight)

    def fold(self, dense: bool = False) -> nn.Module:
        """A plain :class:`torch.nn.MultiheadAttention` with the weights P∘W. It shares no memory with this layer.

        Plain attention has no bias over positions, so a forward pre-hook of the copy adds the bias to ``attn_mask``.
        """
        plain = super().fold(dense)
        if self._bias is not None:
            plain.register_forward_pre_hook(_Biased(self._bias, self.batch_first), with_kwargs=True)
        return plain


class _Biased:
    """A forward pre-hook that merges a bias over positions with a plain attention's mask."""

    NAMES = ("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask", "average_attn_weights")

    def __init__(self, bias: PositionBias, batch_first: bool) -> None:
        self.bias, self.batch_first = bias, batch_first

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = dict(zip((*self.NAMES, "is_causal"), args, strict=False)) | kwargs
        mask = self.bias.merged(given["query"], given["key"], given.get("attn_mask"), self.batch_first)
        padding = given.get("key_padding_mask")
        padding = None if padding is None else _additive("key_padding_mask", padding, mask.dtype)
        return (), given | {"attn_mask": mask, "key_padding_mask": padding, "is_causal": False}


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float, causal: bool, need_weights: bool
) -> tuple[Tensor, Tensor | None]:
    """Softmax(q kᵀ/√d + mask) v (Vaswani et al. 2017, arXiv 1706.03762), and the weights if they are needed.

    Args:
        q, k, v: (batch, heads, L or S, d).
        mask: what is added to the logits; it broadcasts to (batch, heads, L, S).
        dropout: the share of the weights that is dropped.
        causal: mask every key after the query. It excludes ``mask`` and ``need_weights``.
        need_weights: whether to return the weights, (batch, heads, L, S). Without them the computation is fused.
    """
    mask = None if mask is None else mask.to(q.dtype)
    if not need_weights:
        return F.scaled_dot_product_attention(q, k, v, mask, dropout, causal), None
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    weights = F.dropout((logits if mask is None else logits + mask).softmax(-1), dropout)
    return weights @ v, weights


def _position_bias(positions: Any, cost: Any, slopes: Any, heads: int) -> PositionBias | None:
    """The bias over positions that a constructor's arguments ask for; None where they ask for none."""
    if positions is None:
        if slopes is not None or cost is not None:
            raise wrong("positions", "None", "places of the positions, which slopes and position_cost need")
        return None
    instance("positions", positions, Geometry, "a geometry, such as Line(128)")
    if isinstance(positions, Distances) and len(set(positions.shape)) > 1:
        raise wrong("positions", positions, "a geometry of one place for each position")
    if meet(positions, positions).wired is not None:
        raise wrong("positions", positions, "places alone: a bias over positions knows no wires")
    affordable("positions", heads * len(positions) ** 2, f"{heads} × {len(positions)} × {len(positions)}")
    if slopes is None:
        slopes = [2 ** (-8 * (h + 1) / heads) for h in range(heads)]
    elif not isinstance(slopes, (list, tuple)):
        raise wrong_type("slopes", slopes, f"a list of {heads} numbers above 0, one for each head")
    if len(slopes) != heads:
        raise wrong("slopes", f"{len(slopes)} of them", f"one for each of the {heads} heads")
    cost = as_cost("position_cost", "linear" if cost is None else cost)
    return PositionBias(positions, cost, tuple(positive("slopes", m) for m in slopes))


def _additive(name: str, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask that is added to logits: a boolean mask becomes −inf where it is True."""
    if mask.is_floating_point():
        return mask
    if mask.dtype != torch.bool:
        raise wrong_type(name, f"{mask.dtype}", "torch.bool or a floating-point dtype")
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
