"""The locality layer that takes the place of a Conv1D of the ``transformers`` library."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from locality_prior._check import Missing, wrong
from locality_prior.layers.linear import LocalityLinear


class LocalityConv1D(LocalityLinear):
    r"""A :class:`LocalityLinear` with the state dict of GPT-2's linear layer: y = (P∘W) x + b.

    ``transformers.Conv1D``, of which GPT-2 is built, is a linear layer that keeps its weight as (in, out). So does this
    layer's state dict, and a checkpoint of the plain model loads as raw weights W, whether the matrix is square or not.
    In the layer itself ``weight`` is (out, in), as in every linear layer, or (wires,) where it is sparse; a state dict
    has the (wires,) of a sparse layer as they are. So give ``torch.func.functional_call`` the named parameters, and not
    the state dict. :func:`localize` makes this layer, and :func:`fold` turns it back into a Conv1D.

    >>> import locality_prior as lp
    >>> layer = lp.LocalityConv1D(4, 9, target=lp.Grid(3, 3))
    >>> layer.weight.shape, layer.state_dict()["weight"].shape
    (torch.Size([9, 4]), torch.Size([4, 9]))

    Args:
        in_features, out_features: numbers of source and target units: nx and nf of a Conv1D.
        bias: True, since a Conv1D has one.
        options: ``source``, ``target`` and the other arguments of :class:`LocalityLinear`.

    Raises:
        ValueError, TypeError: as :class:`LocalityLinear`, and where ``bias`` is False.
    """

    PLACES: ClassVar[tuple[str, ...]] = LocalityLinear.PLACES

    def __init__(self, in_features: int, out_features: int, bias: bool = True, **options: Any) -> None:
        super().__init__(in_features, out_features, bias, **options)
        if self.bias is None:
            raise wrong("bias", bias, "True, since a Conv1D of transformers has one")

    def fold(self, dense: bool = False) -> nn.Module:  # type: ignore[override]
        """A Conv1D of ``transformers`` with the weights P∘W. It shares no memory with this layer.

        Args:
            dense: allow a sparse layer to become a dense matrix of any size.

        Raises:
            ValueError: the layer is sparse with more than 67 million pairs, and ``dense`` is False.
            ImportError: ``transformers`` is not installed.
        """
        try:
            from transformers.pytorch_utils import Conv1D
        except ImportError:
            said = "folding a LocalityConv1D needs transformers, which is not installed: pip install transformers"
            raise Missing(said) from None
        linear = super().fold(dense)
        with torch.device("meta"):  # where no random numbers are drawn
            conv: nn.Module = Conv1D(self.out_features, self.in_features)
        for name, value in (("weight", linear.weight.detach().T.contiguous()), ("bias", linear.bias.detach())):
            setattr(conv, name, nn.Parameter(value, getattr(self, name).requires_grad))
        return conv.train(self.training)

    def takes(self, name: str, weight: Tensor) -> bool:
        """Whether a state dict may have ``weight``: it is (in, out), or (wires,) in row-major order of (out, in)."""
        return super().takes(name, _turned(weight))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        key = f"{prefix}weight"
        if key in destination:  # a parametrisation may compute it from other tensors
            destination[key] = _turned(destination[key])

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        key = f"{prefix}weight"
        given = state_dict.get(key)
        if isinstance(given, Tensor):
            turned = _turned(given)
            # what load_state_dict(…, assign=True) gives becomes the parameter, and is kept row by row
            state_dict[key] = turned.contiguous() if local_metadata.get("assign_to_params_buffers") else turned
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)


def _turned(weight: Tensor) -> Tensor:
    """(in, out) of a matrix (out, in), and the other way round; the (wires,) of a sparse layer as they are."""
    return weight.T if weight.ndim == 2 else weight
