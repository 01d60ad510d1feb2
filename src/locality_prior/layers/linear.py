"""The locality prior layer: fully connected."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from locality_prior import cost as costs
from locality_prior._check import count, wrong
from locality_prior.cost import Cost
from locality_prior.functional import Values, Workspace, dense, locality_linear
from locality_prior.geometry import Geometry
from locality_prior.layers.base import DENSE, Locality, Wiring, shaken
from locality_prior.prior import Prior, Table, resolve
from locality_prior.sparse import Pattern, pattern_for, sparse_linear

BACKENDS = ("auto", "dense", "windowed", "wires")


class LocalityLinear(Locality):
    r"""A fully connected layer between units that have places: y = (P∘W) x + b.

    P_ij = s(d_ij) is the signal that survives the wire of length d_ij from source unit j to target unit i. The source
    document (the README of alexsax/Locality-Prior on GitHub) writes A = P.*(Wx + b) with P of size K×K and Wx + b of
    size K; this is the reading in which the sizes agree, and in which P is, as it says, "the transmitted signal from
    neuron i to neuron j".

    A drop-in for :class:`torch.nn.Linear`, with its state dict (``weight`` is W, ``bias``) and its initialisation
    on W. The effective weight V = P∘W therefore starts smaller than a plain layer's weight: row i by the factor
    √(mean_j P_ij²) in root mean square; over all rows that is 0.30 for the linear cost on a 7×7 sheet, and 0.059
    on a 64×64 one. A BatchNorm after the layer takes the scale back. Where there is no wire W is 0, stays 0 and gets
    no gradient; values loaded there are dropped.

    Args:
        in_features, out_features: numbers of source and target units.
        bias: whether to learn b.
        source, target: places of the units. One given alone serves both sides where the sizes agree; without one,
            n units are the first n cells, row by row, of ⌈√n⌉ columns.
        cost: what a wire of length d costs; ``Linear()``, c(d) = 1 + d, if not given.
        rescale: multiply row i of P by r_i = K / Σ_j s(d_ij), so that each unit's total input is as before.
        backend: how to compute. "dense" is the product with all of P∘W; "windowed" and "wires" (see
            :mod:`locality_prior.sparse`) take a cost that ends, and then ``weight`` is (wires,), one number a wire in
            row-major order, drawn from nn.Linear's distribution. "auto" takes "dense" for a small layer, or one with
            many wires, and else the one of the two that was measured to be quicker. Any backend loads any other's
            state dict.
        kept: after pruning (:func:`locality_prior.sparsify`), the wires that are left, (wires,) int64: the increasing
            pair numbers i·in + j. They are part of the state dict, and fixed.
        device, dtype: of the parameters.

    Shape:
        input: (…, in_features) → (…, out_features). A sparse layer's output lies unit by unit in memory, as the next
        one reads it: to merge its axes takes ``reshape``, where ``view`` would do after nn.Linear.

    Raises:
        ValueError: sizes that are not the geometry's, geometries that cannot meet, a target unit with no wire, an
            input whose last size is not ``in_features``.
        TypeError: an input that is not a tensor of the weight's dtype (outside autocast).
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
        cost: Cost | None = None,
        rescale: bool = False,
        backend: str = "auto",
        kept: Tensor | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = (
            count("in_features", in_features),
            count("out_features", out_features),
        )
        if backend not in BACKENDS:
            raise wrong("backend", repr(backend), f"one of {', '.join(BACKENDS)}")
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise wrong("dtype", dtype, "a floating-point dtype")
        self.backend = backend
        source, target = resolve(self.in_features, self.out_features, source, target)
        #: The rule by which P is made: source, target, cost and rescaling, in float64.
        self.rule = Prior(source, target, costs.Linear() if cost is None else cost, rescale, kept)
        self.kept: Tensor | None
        self.register_buffer("kept", None if self.rule.kept is None else self.rule.kept.to(device))
        #: The wires, where the layer computes with them alone; None where it is dense.
        self.pattern = pattern_for(self.rule, backend)
        shape = (self.out_features, self.in_features) if self.pattern is None else (self.pattern.wires.count,)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(self.out_features, device=device, dtype=dtype)) if bias else None
        self._workspace = Workspace()
        self._values: Values | None = None
        self.reset_parameters()
        self._make_ready()

    def reset_parameters(self) -> None:
        """W and b as :class:`torch.nn.Linear` draws them (the same numbers from the same seed), W on the wires."""
        bound = 1 / math.sqrt(self.in_features)
        if self.pattern is None:
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        else:
            nn.init.uniform_(self.weight, -bound, bound)
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

    @property
    def cost(self) -> Cost:
        """What a wire of length d costs."""
        return self.rule.cost

    @property
    def rescale(self) -> bool:
        """Whether rows of P are rescaled."""
        return self.rule.rescale

    @property
    def prior(self) -> Tensor:
        """P, of the weight's shape ((out, in), or (wires,) where sparse), in its dtype."""
        return dense(self._prior())

    @property
    def wires(self) -> Tensor | None:
        """Where there is a wire, (out, in): 1 or 0 in the weight's dtype; None where every weight has one."""
        if self.rule.flat or self.pattern is not None:
            return None
        kept = self._prior()
        if (kept.values if isinstance(kept, Table) else kept).min() > 0:
            return None
        return dense(kept).sign()

    @property
    def effective_weight(self) -> Tensor:
        """V = P∘W, of the weight's shape: what the layer multiplies by. Differentiable with respect to W."""
        return self.weight * self.prior

    def forward(self, input: Tensor) -> Tensor:
        if not isinstance(input, Tensor):
            raise TypeError(f"input: got {type(input).__name__}, expected a tensor (…, {self.in_features})")
        if input.ndim == 0 or input.shape[-1] != self.in_features:
            raise wrong("input", f"shape {tuple(input.shape)}", f"(…, {self.in_features})")
        if input.dtype != self.weight.dtype and not self._autocasts(input):
            raise TypeError(f"input: got dtype {input.dtype}, expected the weight's, {self.weight.dtype}")
        pattern = self.pattern
        if pattern is not None:
            targets, sources = pattern.ends(self.weight.device)
            return sparse_linear(
                input,
                self.weight,
                self.prior,
                self.bias,
                lambda rows: pattern.kernel(rows.dtype, rows.device),
                targets,
                sources,
                self.out_features,
                self._workspace,
            )
        if self.rule.flat:
            return nn.functional.linear(input, self.weight, self.bias)
        return locality_linear(input, self.weight, self._prior(), self.bias, self._workspace)

    def fold(self, dense: bool = False) -> nn.Linear:
        """A plain :class:`torch.nn.Linear` with the weights P∘W, always a copy.

        Args:
            dense: whether a sparse layer may become a matrix of any size.

        Raises:
            ValueError: a sparse layer of more than 67 million pairs, without ``dense``.
        """
        if self.pattern is not None and not dense and self.in_features * self.out_features > DENSE:
            size = f"{self.out_features} × {self.in_features} weights"
            raise wrong("dense", f"False for {size}", f"at most {DENSE} of them, or dense=True")
        linear = nn.Linear(
            self.in_features, self.out_features, self.bias is not None, device="meta", dtype=self.weight.dtype
        )
        with torch.no_grad():
            weight = self.effective_weight if self.pattern is None else self.pattern.scatter(self.effective_weight)
            for name, value in (("weight", weight), ("bias", self.bias)):
                if value is not None:
                    grad = getattr(self, name).requires_grad
                    setattr(linear, name, nn.Parameter(value.detach().clone(), requires_grad=grad))
        return linear.train(self.training)

    def wirings(self) -> list[Wiring]:
        sparse = self.pattern is not None
        return [Wiring("weight", self.weight, self.rule, lambda: self.prior, lambda: self.wires, sparse=sparse)]

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        before = self._prior()
        self._values = before.map(shaken) if isinstance(before, Table) else shaken(before)
        try:
            yield
        finally:
            self._values = before

    def extra_repr(self) -> str:
        sides = f"source={self.source}" if self.source == self.target else f"source={self.source}, target={self.target}"
        return (
            f"{self.in_features}, {self.out_features}, {sides}, cost={self.cost}"
            f"{', rescale=True' if self.rescale else ''}{'' if self.bias is not None else ', bias=False'}"
            f"{'' if self.kept is None else f', kept={len(self.kept)}'}"
            f"{'' if self.pattern is None else f', {self.pattern.wires.count} wires, {self._way(self.pattern)}'}"
        )

    def _prior(self) -> Values:
        """P in the form it is kept, rounded from float64 to the weight's dtype, on its device."""
        weight, kept = self.weight, self._values
        held = kept.values if isinstance(kept, Table) else kept
        if kept is None or held is None or held.dtype != weight.dtype or held.device != weight.device:
            sparse = self.pattern is not None
            kept = (self.rule.signals if sparse else self.rule.values)(weight.dtype, weight.device)
            self._values = kept
        return kept

    def _make_ready(self) -> None:
        """Make now what compiled code must find made."""
        if self.pattern is not None:
            self.pattern.ends(self.weight.device)
        if not self.rule.flat or self.pattern is not None:
            self._prior()

    def _way(self, pattern: Pattern) -> str:
        return pattern.describe(self.weight.dtype, self.weight.device)

    def _autocasts(self, x: Tensor) -> bool:
        """Whether autocast brings ``x`` and the weight to one dtype: all floating-point ones but float64."""
        wide = {torch.float64} & {x.dtype, self.weight.dtype}
        return x.is_floating_point() and not wide and not x.is_meta and torch.is_autocast_enabled(x.device.type)

    def _become(self, other: LocalityLinear) -> None:
        """Take the wires of ``other``, an equal layer but for pruning."""
        self.backend, self.rule, self.pattern, self.kept = other.backend, other.rule, other.pattern, other.kept
        if self.weight.shape != other.weight.shape:
            self.weight = nn.Parameter(other.weight.detach(), self.weight.requires_grad)
        self._values, self._workspace = None, Workspace()
        self._make_ready()

    def takes(self, weight: Tensor) -> bool:
        """Whether ``weight`` is one that this layer can load: (out, in), or (wires,) in row-major order."""
        if weight.shape in (self.weight.shape, self.rule.shape):
            return True
        return weight.ndim == 1 and self.rule.bounded and len(weight) == self.rule.wires().count

    def _drop_unwired(self, ours: bool = True) -> None:
        """Set W to 0 where there is no wire: in place, or in a copy where the tensor is not ``ours`` to change."""
        if "weight" not in self._parameters:
            return  # it is a parametrisation's, which is made of other tensors
        wires = None if self.weight.is_meta else self.wires
        if wires is not None:
            with torch.no_grad():
                if ours:
                    self.weight.mul_(wires)
                else:
                    self.weight = nn.Parameter(self.weight * wires, self.weight.requires_grad)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LocalityLinear:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.rule.kept is not None:
            self.kept = self.rule.kept.to(self.weight.device)  # which to_empty has emptied
        self._make_ready()
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        own, key = self.weight, f"{prefix}weight"
        given, kept = state_dict.get(key), state_dict.get(f"{prefix}kept")
        if kept is not None or self.kept is not None:
            if kept is None and isinstance(given, Tensor) and given.shape == self.rule.shape:
                state_dict[f"{prefix}kept"] = self.kept  # a plain matrix: what is left of it is known here
            elif kept is None or self.rule.kept is None or not torch.equal(kept.cpu(), self.rule.kept):
                found = "all wires" if kept is None else f"{len(kept)} wires left by pruning"
                mine = "all of them" if self.kept is None else f"the {len(self.kept)} that this layer has"
                args[-1].append(str(wrong(f"{prefix}kept", found, mine)))
                return
        # another backend's weight: a matrix onto the wires, or the wires into a matrix
        if isinstance(given, Tensor) and given.ndim != own.ndim:
            if self.pattern is not None and given.shape == self.rule.shape:
                state_dict[key] = self.pattern.gather(given)
            elif self.pattern is None and self.takes(given):
                state_dict[key] = Pattern(self.rule, self.backend).scatter(given)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._drop_unwired(ours=self.weight is own)  # load_state_dict(…, assign=True) puts the caller's tensor there
