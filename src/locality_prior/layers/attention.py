"""Attention between positions, and between units, that have places."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locality_prior import cost as costs
from locality_prior._check import positive, wrong
from locality_prior.cost import Cost
from locality_prior.geometry import Distances, Geometry
from locality_prior.layers.base import Kept, Plain, Spread, own_places, same, stacked
from locality_prior.prior import Prior, resolve


class PositionBias(Kept):
    r"""What attention over a distance is charged: −m_h (c(d_ij) − 1), (heads, n, n), for query i and key j.

    With the cost 1 + d/ℓ on a line this is ALiBi (Press, Smith & Lewis 2022, arXiv 2108.12409), −(m_h/ℓ)|i − j|; where
    the cost ends, positions do not attend. (The bias is finite there: a query whose reach holds no key, or masked ones
    alone, attends to what there is.)

    Args:
        positions: places of the positions; a sequence of L takes the first L.
        cost: what distance costs.
        slopes: m_h, one for each head.
    """

    def __init__(self, positions: Geometry, cost: Cost, slopes: tuple[float, ...]) -> None:
        self.positions, self.cost, self.slopes = positions, cost, slopes

    def _make(self, other: Tensor) -> Tensor:
        charge = self.cost.cost(self.positions.distances()).detach() - 1
        slopes = torch.tensor(self.slopes, dtype=torch.float64)
        least = torch.finfo(other.dtype).min / 4  # so that two of them are finite
        return (-slopes[:, None, None] * charge).clamp(min=least).to(other.device, other.dtype)

    def __call__(self, queries: int, keys: int, like: Tensor) -> Tensor:
        """The first rows and columns of it, in the dtype of ``like`` and on its device."""
        if max(queries, keys) > len(self.positions):
            raise wrong("query", f"{max(queries, keys)} positions", f"at most the {len(self.positions)} with places")
        return self.like(like)[:, :queries, :keys]

    def merged(self, query: Tensor, key: Tensor, mask: Tensor | None, batch_first: bool) -> Tensor:
        """The caller's mask, boolean or additive, with the bias: (heads, L, S) for each of the batch."""
        at = -2 if query.dim() == 2 or batch_first else 0
        batch = 1 if query.dim() == 2 else query.shape[0 if batch_first else 1]
        bias = self(query.shape[at], key.shape[at], query)
        if mask is not None:
            shape = query.shape[at], key.shape[at]
            if tuple(mask.shape) not in (shape, (batch * len(self.slopes), *shape)):
                raise wrong("attn_mask", f"shape {tuple(mask.shape)}", f"{shape}, or that for each head of the batch")
            mask = _additive(mask, query.dtype)
        if mask is not None and mask.dim() == 3:
            return mask + bias.repeat(batch, 1, 1)
        return (bias if mask is None else bias + mask).repeat(batch, 1, 1)


class LocalityMultiheadAttention(Plain, nn.MultiheadAttention):
    r"""Attention with locality over units, in its projections, and over positions, as an additive bias.

    q = (P∘W_q) x + b_q, and so for k, v and the output projection: P_ij = s(d_ij) between places of the embedding's
    units. With ``positions``, the logit of query i and key j in head h gets −m_h (c(d_ij) − 1): ALiBi where these are a
    line and the cost is linear. A drop-in for :class:`torch.nn.MultiheadAttention`: its arguments, its state dict
    (``in_proj_weight`` and ``out_proj.weight`` are W), its initialisation on W, its shapes.

    Args:
        embed_dim, num_heads, dropout, bias, add_bias_kv, add_zero_attn, kdim, vdim, batch_first: as there.
        units: places of the embedding's units; the first cells of a square sheet if not given. Keys and values of
            another size are sheets of their own.
        cost: what a wire between units costs; ``Linear()``, c(d) = 1 + d, if not given; ``Flat()``: nothing.
        rescale: multiply row i of P by r_i = K / Σ_j s(d_ij), for K source units.
        positions: places of the positions (for a shorter sequence, the first of them); None: no bias.
        position_cost: c of the bias; ``Linear()`` if not given.
        slopes: m_h > 0, one for each head; 2^(−8h/H), h = 1 … H, as ALiBi has them, if not given.
        device, dtype: of the parameters.

    Raises:
        ValueError: a geometry of another number of units, a unit with no wire, slopes of another number than heads, a
            sequence longer than the positions.
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
    PLACES: ClassVar[tuple[str, ...]] = ("units", "cost", "rescale", "positions", "position_cost", "slopes")

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
        cost: Cost | None = None,
        rescale: bool = False,
        positions: Geometry | None = None,
        position_cost: Cost | None = None,
        slopes: Sequence[float] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            embed_dim,
            num_heads,
            dropout,
            bias,
            add_bias_kv,
            add_zero_attn,
            kdim,
            vdim,
            batch_first,
            device=device,
            dtype=dtype,
        )
        self.units = own_places("units", units, embed_dim)
        self.cost, self.rescale = costs.Linear() if cost is None else cost, bool(rescale)
        self.positions = positions
        self.position_cost = costs.Linear() if position_cost is None and positions is not None else position_cost
        self.slopes: tuple[float, ...] | None = None
        self._bias: PositionBias | None = None
        if positions is not None and self.position_cost is not None:
            uneven = isinstance(positions, Distances) and len(set(positions.shape)) > 1
            if not isinstance(positions, Geometry) or uneven:
                raise wrong("positions", repr(positions), "a geometry of one place for each position")
            if not isinstance(self.position_cost, Cost):
                raise wrong("position_cost", repr(position_cost), "a cost, such as locality_prior.cost.Linear()")
            given = [2 ** (-8 * (h + 1) / num_heads) for h in range(num_heads)]
            if slopes is not None:
                given = list(slopes) if isinstance(slopes, Sequence) else [slopes]
            if len(given) != num_heads:
                raise wrong("slopes", f"{len(given)} of them", f"one for each of the {num_heads} heads")
            self.slopes = tuple(positive("slopes", m) for m in given)
            self._bias = PositionBias(positions, self.position_cost, self.slopes)
        elif slopes is not None or position_cost is not None:
            raise wrong("positions", "None", "places, for what a distance between positions costs")

        def rule(features: int) -> Prior:
            source, target = resolve(features, embed_dim, self.units if features == embed_dim else None, self.units)
            return Prior(source, target, self.cost, rescale)

        own = rule(embed_dim)
        if isinstance(self._parameters["in_proj_weight"], Tensor):
            spreads = {"in_proj_weight": Spread(own, partial(stacked, times=3))}
        else:
            sizes = {"q_proj_weight": embed_dim, "k_proj_weight": self.kdim, "v_proj_weight": self.vdim}
            spreads = {name: Spread(rule(features), same) for name, features in sizes.items()}
        self._wire(spreads | {"out_proj.weight": Spread(own, same)})

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
        if is_causal and attn_mask is None:
            raise wrong("attn_mask", "None with is_causal", "the mask of which is_causal tells")
        if self._bias is not None:
            attn_mask, is_causal = self._bias.merged(query, key, attn_mask, self.batch_first), False
        if key_padding_mask is not None and attn_mask is not None and attn_mask.dtype != torch.bool:
            key_padding_mask = _additive(key_padding_mask, query.dtype)  # torch asks for masks of one kind
        turn = self.batch_first and query.dim() == 3
        if turn:  # what was one tensor stays one: its projections are then one product
            turned = {id(x): x.transpose(0, 1) for x in (query, key, value)}
            query, key, value = (turned[id(x)] for x in (query, key, value))
        separate = "in_proj_weight" not in self._spreads  # keys and values of other sizes
        y, weights = F.multi_head_attention_forward(
            query,
            key,
            value,
            self.embed_dim,
            self.num_heads,
            None if separate else self.effective("in_proj_weight"),
            self.in_proj_bias,
            self.bias_k,
            self.bias_v,
            self.add_zero_attn,
            self.dropout,
            self.effective("out_proj.weight"),
            self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=separate,
            q_proj_weight=self.effective("q_proj_weight") if separate else None,
            k_proj_weight=self.effective("k_proj_weight") if separate else None,
            v_proj_weight=self.effective("v_proj_weight") if separate else None,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        return (y.transpose(0, 1) if turn else y), weights

    def _reset_parameters(self) -> None:
        # torch asks by this whether the three projections are one matrix
        self._qkv_same_embed_dim = self._parameters.get("in_proj_weight") is not None
        super()._reset_parameters()
        self._drop_unwired()
        # and its encoder layers, before they take a path of their own, which would read W and not call us
        self._qkv_same_embed_dim = False

    def reset_parameters(self) -> None:
        """As torch's own layer draws them, 0 where there is no wire."""
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
        """The plain :class:`torch.nn.MultiheadAttention` with the weights P∘W, always a copy.

        A bias over positions is in no plain attention: a forward pre-hook on the copy merges it with ``attn_mask``.
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
        padding = None if padding is None else _additive(padding, mask.dtype)
        return (), given | {"attn_mask": mask, "key_padding_mask": padding, "is_causal": False}


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask as what is added to logits: a boolean one is −inf where it is true."""
    if mask.is_floating_point():
        return mask
    if mask.dtype != torch.bool:
        raise TypeError(f"attn_mask: got {mask.dtype}, expected torch.bool or a floating-point dtype")
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -math.inf)
