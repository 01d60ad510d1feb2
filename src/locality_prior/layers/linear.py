"""The fully connected locality layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from locality_prior._check import boolean, choice, wrong
from locality_prior.cost import Cost, as_cost
from locality_prior.functional import Values, Workspace, dense, locality_linear
from locality_prior.geometry import Geometry, Points
from locality_prior.geometry.learned import precision
from locality_prior.layers.base import (
    BACKENDS,
    Locality,
    Rounded,
    Wiring,
    affordable,
    alike,
    factory,
    same_dtype,
    shaken,
    size,
    tensor,
    tracing,
    with_cost,
)
from locality_prior.moving import Moving, moving_linear
from locality_prior.prior import Prior, Table, Wires, aside, resolve
from locality_prior.sparse import Pattern, pattern_for

#: Up to this many pairs, a sparse layer draws the numbers that nn.Linear draws, which takes seconds at the limit.
DRAWN = 1 << 28
#: Numbers drawn at once.
BLOCK = 1 << 20


class LocalityLinear(Locality):
    r"""A fully connected layer between units that have places: y = (P∘W) x + b.

    P_ij = s(d_ij) is the signal that survives the wire of length d_ij from source unit j to target unit i. The source
    document (the README of alexsax/Locality-Prior on GitHub) writes A = P.*(Wx + b) with P of size K×K and Wx + b of
    size K. Those sizes do not agree; the equation above is the reading in which they do, and in which P is what the
    document says it is: "the transmitted signal from neuron i to neuron j".

    This is a drop-in for :class:`torch.nn.Linear`: it has the same state dict (``weight`` is W, ``bias`` is b) and
    the same initialisation of W. The effective weight V = P∘W therefore starts smaller than a plain layer's weight. Its
    root mean square is smaller by the factor √(mean_j P_ij²) in row i. Over all rows the factor is 0.30 for the linear
    cost on a 7×7 sheet, and 0.059 on a 64×64 sheet. A BatchNorm after the layer restores the scale. Where there is no
    wire W is 0, stays 0 and gets no gradient; a value that is loaded there is dropped.

    >>> import torch
    >>> import locality_prior as lp
    >>> layer = lp.LocalityLinear(3, 3, source=lp.Line(3), target=lp.Line(3), cost="linear@1")
    >>> layer.prior
    tensor([[1.0000, 0.5000, 0.0000],
            [0.5000, 1.0000, 0.5000],
            [0.0000, 0.5000, 1.0000]])
    >>> layer(torch.randn(5, 3)).shape
    torch.Size([5, 3])

    Args:
        in_features, out_features: numbers of source and target units.
        bias: whether to learn b.
        source, target: places of the units. If only one is given it serves both sides, provided that the sizes agree.
            Without a geometry, n units are the first n cells, row by row, of a sheet with ⌈√n⌉ columns. Points that
            learn (``Points(xyz, learned=True)``) are parameters of the layer, ``source_positions`` and
            ``target_positions``; layers that have the same points share them. The layer must then be dense and its cost
            must not end; P is computed anew at each step, in float32 or better.
        cost: the cost of a wire of length d, or a word for it such as "linear@3"; the default is ``Linear()``,
            c(d) = 1 + d. It may be changed later: ``layer.cost = Linear(2)``.
        rescale: multiply row i of P by r_i = K / Σ_j s(d_ij), so that each row sums to K, as it
            would with P = 1.
        backend: how to compute. "dense" multiplies by the whole matrix P∘W. "windowed" and "wires" (see
            :mod:`locality_prior.sparse`) need a cost that ends, or a geometry that says which wires there are
            (:class:`~locality_prior.Wired`); ``weight`` then is (wires,): one number for each wire, in row-major order.
            "auto" chooses "dense" for a small layer or one with many wires, and otherwise the sparse backend that is
            expected to be quicker. Every backend starts from the same weights, and loads the state dict of every other.
        kept: the wires that pruning (:func:`locality_prior.sparsify`) left, (wires,) int64, as increasing pair numbers
            i·in_features + j. They are part of the state dict, and they cannot be changed later.
        device, dtype: of the parameters.

    Shape:
        input: (…, in_features) → (…, out_features). A sparse layer is quickest if a batch lies unit by unit in
        memory, as the transpose of a contiguous tensor does; its output then lies in the same way.

    Raises:
        ValueError: the sizes differ from the geometry's, the geometries cannot meet, a target unit has no wire, or the
            last size of an input is not ``in_features``; a cost that ends, or a sparse backend, with points that learn.
        TypeError: the input is not a tensor of the weight's dtype (outside autocast).
    """

    ARGUMENTS: ClassVar[tuple[str, ...]] = ("in_features", "out_features", "bias")
    PLACES: ClassVar[tuple[str, ...]] = (*Locality.PLACES, "backend")

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        source: Geometry | None = None,
        target: Geometry | None = None,
        cost: Cost | str = "linear",
        rescale: bool = False,
        backend: str = "auto",
        kept: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = size("in_features", in_features), size("out_features", out_features)
        bias, rescale = boolean("bias", bias), boolean("rescale", rescale)
        self.backend = choice("backend", backend, BACKENDS)
        made = factory(device, dtype)
        cost = as_cost("cost", cost)
        if self.backend == "dense" or (kept is None and not math.isfinite(cost.reach)):
            affordable("in_features", self.in_features * self.out_features, f"{in_features} × {out_features}")
        with aside():
            source, target = resolve(self.in_features, self.out_features, source, target)
            #: The rule from which P is computed: source, target, cost and rescaling, in float64.
            self.rule = Prior(source, target, cost, rescale, kept)
            if self.rule.learned and self.backend in ("windowed", "wires"):
                raise wrong("backend", f"{backend!r} with points that learn", "'dense', since every pair has a wire")
            #: The wires of a sparse layer; None where the layer is dense.
            self.pattern = pattern_for(self.rule, self.backend)
        shape = (self.out_features, self.in_features) if self.pattern is None else (self.pattern.wires.count,)
        self.weight = nn.Parameter(torch.empty(shape, **made))
        self.bias = nn.Parameter(torch.empty(self.out_features, **made)) if bias else None
        self.kept: Tensor | None
        self.register_buffer("kept", None if self.rule.kept is None else self.rule.kept.to(self.weight.device))
        #: The positions that learn, which other layers may share; None for a side whose positions do not.
        self.source_positions: nn.Parameter | None
        self.target_positions: nn.Parameter | None
        for name, points in (("source_positions", source), ("target_positions", target)):
            self.register_parameter(name, points.parameter if isinstance(points, Points) else None)
            if isinstance(points, Points) and points.parameter is not None and not self.weight.is_meta:
                points.parameter.data = points.parameter.data.to(self.weight.device)
        self._still = {"source": _Still(source), "target": _Still(target)}
        self._workspace = Workspace()
        self._values: Values | None = None
        self._found: tuple[torch.device, Values | None] | None = None
        self.reset_parameters()
        self._make_ready()

    def reset_parameters(self) -> None:
        """Draw W and b as :class:`torch.nn.Linear` draws them.

        With the same seed, every wire gets exactly the number that nn.Linear(in_features, out_features) would give it,
        and the generator ends in the same state, so that whatever is drawn next is the same too. This holds for every
        backend: a sparse layer draws the whole matrix in blocks of rows and keeps the numbers of its wires. A sparse
        layer with more than 2²⁸ pairs would take too long; it draws one number for each wire from the same
        distribution, and its numbers are not those of nn.Linear.
        """
        bound = 1 / math.sqrt(self.in_features)
        if self.pattern is None:
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        elif self.in_features * self.out_features > DRAWN:
            nn.init.uniform_(self.weight, -bound, bound)
        elif not self.weight.is_meta:
            _draw_on_wires(self.weight, self.pattern.wires)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)
        self._drop_unwired()

    @property
    def source(self) -> Geometry:
        """Places of the source units."""
        return self.rule.source

    @property
    def target(self) -> Geometry:
        """Places of the target units."""
        return self.rule.target

    def _cost(self) -> Cost:
        return self.rule.cost

    def _set_cost(self, cost: Cost) -> None:
        rule = with_cost(self.rule, cost, fixed=self.pattern is not None or self.kept is not None)
        before = self.support
        self.rule, self._values, self._found = rule, None, None
        if not alike(self.support, before):
            self._drop_unwired()
        self._make_ready()

    @property
    def rescale(self) -> bool:
        """Whether rows of P are rescaled."""
        return self.rule.rescale

    @property
    def prior(self) -> Tensor:
        """P, of the weight's shape ((out, in), or (wires,) where sparse), in its dtype.

        It is differentiable with respect to positions that learn.
        """
        return dense(self._prior())

    @property
    def support(self) -> Tensor | None:
        """Which pairs have a wire, (out, in) boolean; None where all have one, and for a sparse layer."""
        if self.rule.flat or self.rule.learned or self.pattern is not None or self.weight.is_meta:
            return None
        if self._found is None or self._found[0] != self.weight.device:
            # found once: to look whether all pairs have a wire makes the CPU wait for a GPU
            found = self.rule.values(torch.bool, self.weight.device)
            everywhere = (found.values if isinstance(found, Table) else found).all()
            self._found = self.weight.device, None if everywhere else found
        support = self._found[1]
        return None if support is None else dense(support)

    @property
    def effective_weight(self) -> Tensor:
        """V = P∘W, of the weight's shape: what the layer multiplies by.

        It is differentiable with respect to W, and to positions that learn.
        """
        return self.weight * self.prior

    def forward(self, input: Tensor) -> Tensor:
        if not tracing():
            tensor("input", input, f"(…, {self.in_features})")
            if input.ndim == 0 or input.shape[-1] != self.in_features:
                raise wrong("input", f"shape {tuple(input.shape)}", f"(…, {self.in_features})")
            same_dtype("input", input, self.weight)
        if self.pattern is not None:
            return self.pattern.linear(input, self.weight, self.prior, self.bias, self._workspace)
        if self.rule.flat:
            return nn.functional.linear(input, self.weight, self.bias)
        moving = self._moving()
        if moving is not None and self._values is None:
            return moving_linear(input, self.weight, moving, self.bias, self._workspace)
        return locality_linear(input, self.weight, self._prior(), self.bias, self._workspace)

    def _learned(self) -> dict[str, Points]:
        """The points that learn, by the name of their parameter here."""
        sides = {"source_positions": self.source, "target_positions": self.target}
        return {name: points for name, points in sides.items() if isinstance(points, Points) and points.learned}

    def _share(self, took: bool = False) -> None:
        """Take the parameter of the points, which every other layer between these points has too.

        Args:
            took: whether this layer's parameter may be a new one, which the points then take over.
        """
        for name, points in self._learned().items():
            own = self._parameters.get(name)
            if took and own is not None and own is not points.parameter and name == self._first(points):
                points._xyz = own
        for name, points in self._learned().items():
            if name in self._parameters:  # and not computed by a parametrisation
                self._parameters[name] = points.parameter

    def _first(self, points: Points) -> str:
        return next(name for name, one in self._learned().items() if one is points)

    def _moving(self) -> Moving | None:
        """P as it is now, if positions of this layer learn."""
        if not self.rule.learned:
            return None
        at: list[Tensor | None] = [self.target_positions, self.source_positions]
        like = self.weight.new_empty(0, dtype=precision(self.weight, *(one for one in at if one is not None)))
        target, source = (
            self._still[name].like(like) if one is None else one.to(like)
            for name, one in zip(("target", "source"), at, strict=True)
        )
        points = self.target if isinstance(self.target, Points) else self.source
        assert isinstance(points, Points)
        return Moving(target, source, points.metric, self.cost, self.rescale)

    def fold(self, dense: bool = False) -> nn.Linear:
        """A plain :class:`torch.nn.Linear` with the weights P∘W. It shares no memory with this layer.

        Args:
            dense: allow a sparse layer to become a dense matrix of any size.

        Raises:
            ValueError: the layer is sparse with more than 67 million pairs, and ``dense`` is False.
        """
        linear = nn.Linear(
            self.in_features, self.out_features, self.bias is not None, device="meta", dtype=self.weight.dtype
        )
        with torch.no_grad():
            (weight,) = (wiring.matrix(dense) for wiring in self.wirings())
            for name, value in (("weight", weight), ("bias", self.bias)):
                if value is not None:
                    grad = getattr(self, name).requires_grad
                    setattr(linear, name, nn.Parameter(value.detach().clone(), requires_grad=grad))
        return linear.train(self.training)

    def wirings(self) -> list[Wiring]:
        prior, support = lambda: self.prior, lambda: self.support
        return [Wiring("weight", self.weight, self.rule, prior, support, pattern=self.pattern, moving=self._moving())]

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        before = self._prior()
        kept = self._values
        self._values = before.map(shaken) if isinstance(before, Table) else shaken(before)
        try:
            yield
        finally:
            self._values = kept

    def extra_repr(self) -> str:
        sides = f"source={self.source}" if self.source == self.target else f"source={self.source}, target={self.target}"
        return (
            f"{self.in_features}, {self.out_features}, {sides}, cost={self.cost}"
            f"{', rescale=True' if self.rescale else ''}{'' if self.bias is not None else ', bias=False'}"
            f"{'' if self.kept is None else f', kept={len(self.kept)}'}"
            f"{'' if self.pattern is None else f', {self.pattern.wires.count} wires, {self._way(self.pattern)}'}"
        )

    def _prior(self) -> Values:
        """P as a table, a matrix or (wires,), rounded from float64 to the weight's dtype, on its device.

        If positions learn it is computed anew, and is differentiable.
        """
        weight, values = self.weight, self._values
        if values is None and (moving := self._moving()) is not None:
            return moving.prior().to(weight.dtype)
        numbers = values.values if isinstance(values, Table) else values
        if values is None or numbers is None or numbers.dtype != weight.dtype or numbers.device != weight.device:
            sparse = self.pattern is not None
            values = (self.rule.signals if sparse else self.rule.values)(weight.dtype, weight.device)
            self._values = values
        return values

    def _make_ready(self) -> None:
        """Compute now what compiled code cannot compute for itself, and what a GPU should not be made to wait for."""
        if self.weight.is_meta:
            return  # its P would have no values, and torch loads its compiler to compute without any
        with aside():
            if self.pattern is not None:
                self.pattern.ends(self.weight.device)
            if self.rule.learned:
                self._moving()
            elif not self.rule.flat or self.pattern is not None:
                self._prior()
            _ = self.support

    def _way(self, pattern: Pattern) -> str:
        return pattern.describe(self.weight.dtype, self.weight.device)

    def keeping(self, kept: Tensor, backend: str | None = None) -> LocalityLinear:
        """A layer like this one that has only the wires ``kept``. Its weights are not set yet."""
        made = type(self)(
            self.in_features,
            self.out_features,
            self.bias is not None,
            source=self.source,
            target=self.target,
            cost=self.cost,
            rescale=self.rescale,
            backend=self.backend if backend is None else backend,
            kept=kept,
            device="meta",  # where no random numbers are drawn
            dtype=self.weight.dtype,
        )
        return made.to_empty(device=self.weight.device)

    def _become(self, other: LocalityLinear) -> None:
        """Take the wires of ``other``, which differs from this layer only in pruning."""
        self.backend, self.rule, self.pattern, self.kept = other.backend, other.rule, other.pattern, other.kept
        if self.weight.shape != other.weight.shape:
            self.weight = nn.Parameter(other.weight.detach(), self.weight.requires_grad)
        self._values, self._found, self._workspace = None, None, Workspace()
        self._make_ready()

    def _drop_unwired(self, ours: bool = True) -> None:
        """Set W to 0 where there is no wire, in place, or in a copy where the tensor is the caller's (not ``ours``)."""
        if "weight" not in self._parameters:
            return  # a parametrisation computes it from other tensors
        support = self.support
        if support is not None:
            with torch.no_grad():
                if ours:
                    self.weight.mul_(support)
                else:
                    self.weight = nn.Parameter(self.weight * support, self.weight.requires_grad)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LocalityLinear:
        self._share()
        positions = [one for points in self._learned().values() if (one := points.parameter) is not None]
        wide = [id(one) for p in positions for one in (p, p.grad) if one is not None]

        def precise(tensor: Tensor) -> Tensor:
            # half precision is too coarse for places: they keep their dtype and are only moved
            made = fn(tensor)
            return tensor.to(made.device) if id(tensor) in wide and made.element_size() < 4 else made

        super()._apply(precise if positions else fn, recurse)  # type: ignore[no-untyped-call]
        self._share(took=True)
        if self.rule.kept is not None:
            self.kept = self.rule.kept.to(self.weight.device)  # to_empty has emptied it
        self._make_ready()
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        own, key = self.weight, f"{prefix}weight"
        given, kept = state_dict.get(key), state_dict.get(f"{prefix}kept")
        if kept is not None or self.kept is not None:
            if kept is None and isinstance(given, Tensor) and given.shape == self.rule.shape:
                state_dict[f"{prefix}kept"] = self.kept  # a plain matrix: this layer knows which wires are left
            elif kept is None or self.rule.kept is None or not torch.equal(kept.cpu(), self.rule.kept):
                found = "all wires" if kept is None else f"{len(kept)} wires left by pruning"
                mine = "all of them" if self.kept is None else f"the {len(self.kept)} that this layer has"
                args[-1].append(str(wrong(f"{prefix}kept", found, mine)))
                return
        self._share()
        for name, points in self._learned().items():
            positions = state_dict.get(f"{prefix}{name}")
            if isinstance(positions, Tensor) and args[0].get("assign_to_params_buffers", False):
                state_dict[f"{prefix}{name}"] = _assigned(points, positions)
        self._share()
        if given is not None:
            (state_dict[key],) = (wiring.own(given) for wiring in self.wirings())
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._drop_unwired(ours=self.weight is own)  # load_state_dict(…, assign=True): the caller's


def _assigned(points: Points, positions: Tensor) -> Tensor:
    """What load_state_dict(…, assign=True) assigns to each layer between ``points``: their one parameter."""
    parameter = points.parameter
    assert parameter is not None
    if positions.shape != parameter.shape:
        return positions  # torch then refuses it
    if parameter.is_meta:
        points._xyz = nn.Parameter(positions.detach().clone(), parameter.requires_grad)
        return points._xyz
    with torch.no_grad():
        parameter.copy_(positions)
    return parameter


class _Still(Rounded):
    """The positions of a side that does not learn, where the other does."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    def _make(self, other: Tensor) -> Tensor:
        return self.geometry.positions.to(other.device, other.dtype)


def _draw_on_wires(weight: Tensor, wires: Wires) -> None:
    """Fill ``weight``, (wires,), with the numbers that nn.Linear would draw there."""
    out, features = wires.shape
    # a CPU draws its numbers one after another, so blocks of rows give the same ones; on a GPU they depend on the size
    rows = max(1, BLOCK // features) if weight.device.type == "cpu" else out
    with torch.no_grad():
        for first in range(0, out, rows):
            ends = wires.ends[first : min(first + rows, out) + 1]
            block = weight.new_empty(len(ends) - 1, features)
            nn.init.kaiming_uniform_(block, a=math.sqrt(5))
            at = slice(int(ends[0]), int(ends[-1]))
            row = torch.arange(len(ends) - 1, device="cpu").repeat_interleave(ends.diff())
            weight[at] = block.flatten()[(row * features + wires.sources[at]).to(weight.device)]
