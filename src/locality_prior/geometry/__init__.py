"""Where units sit, and the distance between any two of them.

A geometry holds the places of a layer's units. ``target.distances(source)`` is the length of the wire from each
source unit (column) to each target unit (row), in units of the source's spacing, as float64 on the CPU.

:class:`Geometry` says what a geometry of your own defines. ``target.meet(source)`` is how one is laid onto another.
"""

from __future__ import annotations

from locality_prior.geometry.base import Geometry as Geometry
from locality_prior.geometry.base import meet as meet
from locality_prior.geometry.base import near as near
from locality_prior.geometry.base import still as still
from locality_prior.geometry.channels import Channels as Channels
from locality_prior.geometry.config import from_config as from_config
from locality_prior.geometry.config import to_config as to_config
from locality_prior.geometry.grids import Axis as Axis
from locality_prior.geometry.grids import Grid as Grid
from locality_prior.geometry.grids import HexGrid as HexGrid
from locality_prior.geometry.grids import Line as Line
from locality_prior.geometry.grids import Offsets as Offsets
from locality_prior.geometry.grids import default_sheet as default_sheet
from locality_prior.geometry.measured import Distances as Distances
from locality_prior.geometry.measured import Graph as Graph
from locality_prior.geometry.measured import Measured as Measured
from locality_prior.geometry.measured import Shuffled as Shuffled
from locality_prior.geometry.measured import Wired as Wired
from locality_prior.geometry.meeting import ByRow as ByRow
from locality_prior.geometry.meeting import Coordinates as Coordinates
from locality_prior.geometry.meeting import Meeting as Meeting
from locality_prior.geometry.mesh import Mesh as Mesh
from locality_prior.geometry.permuted import Permuted as Permuted
from locality_prior.geometry.points import Metric as Metric
from locality_prior.geometry.points import Points as Points
from locality_prior.geometry.points import Sphere as Sphere
from locality_prior.geometry.points import learned_distances as learned_distances
from locality_prior.geometry.tiles import tiles as tiles
