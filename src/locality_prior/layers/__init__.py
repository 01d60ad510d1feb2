"""Layers whose weights pass through a prior, folding them to plain torch, and saving them with their geometry."""

from locality_prior.layers.attention import LocalityMultiheadAttention as LocalityMultiheadAttention
from locality_prior.layers.base import DENSE as DENSE
from locality_prior.layers.base import Locality as Locality
from locality_prior.layers.base import Wiring as Wiring
from locality_prior.layers.base import fold as fold
from locality_prior.layers.base import locality_layers as locality_layers
from locality_prior.layers.base import with_layers as with_layers
from locality_prior.layers.conv import LocalityConv2d as LocalityConv2d
from locality_prior.layers.conv1d import LocalityConv1D as LocalityConv1D
from locality_prior.layers.files import load as load
from locality_prior.layers.files import save as save
from locality_prior.layers.linear import LocalityLinear as LocalityLinear
from locality_prior.layers.recurrent import LocalityGRU as LocalityGRU
from locality_prior.layers.recurrent import LocalityLSTM as LocalityLSTM
from locality_prior.layers.recurrent import LocalityRNN as LocalityRNN
