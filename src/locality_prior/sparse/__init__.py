"""y = (P∘W) x + b where few pairs have a wire: work and memory in proportion to the wires, exact.

The weight is one number for each wire, in row-major order. Two ways to compute, each the quicker one somewhere. *Wires*
touches the wires alone: in C where there is a compiler, through torch.sparse elsewhere. *Windowed* multiplies small
dense blocks, a tile of target units with the window of source units within their reach: any device, any dtype.

Units keep their public order. A batch lies unit by unit inside, and is handed on so (as the transpose of a contiguous
tensor): element-wise functions keep that, and the next sparse layer finds its input as it wants it.
"""

from locality_prior.sparse.function import Kernel as Kernel
from locality_prior.sparse.function import sparse_linear as sparse_linear
from locality_prior.sparse.pattern import Pattern as Pattern
from locality_prior.sparse.pattern import pattern_for as pattern_for
from locality_prior.sparse.rows import Rows as Rows
from locality_prior.sparse.windows import Windows as Windows
