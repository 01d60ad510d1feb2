"""y = (P∘W) x + b where few pairs have a wire, computed exactly, with work and memory in proportion to the wires.

The weight is one number for each wire, in row-major order. There are two ways to compute, each of which is quicker in
some cases. *Wires* uses only the wires: in C where there is a compiler, through torch.sparse elsewhere. *Windowed*
multiplies small dense blocks, a tile of target units with the window of source units within their reach; it works on
any device and in any dtype.

The order of the units is always the public one. The output of a batch lies in memory as the input does: example by
example, as torch's own layers have it, or unit by unit, as the transpose of a contiguous tensor. The latter is computed
fastest, and element-wise functions keep it, but torch's BatchNorm and LayerNorm take many times as long on it.
"""

from locality_prior.sparse.convolution import Convolution as Convolution
from locality_prior.sparse.function import Kernel as Kernel
from locality_prior.sparse.function import sparse_linear as sparse_linear
from locality_prior.sparse.pattern import Pattern as Pattern
from locality_prior.sparse.pattern import pattern_for as pattern_for
from locality_prior.sparse.planes import Sliding as Sliding
from locality_prior.sparse.rows import Rows as Rows
from locality_prior.sparse.windows import Windows as Windows
