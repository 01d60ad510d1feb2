"""What a layer's activations look like on its sheet, how it is wired, and statistics that compare networks.

Everything here takes arrays (numpy, torch, or nested lists) and geometries, never models, so that a control
network is measured exactly as the local one is. All arithmetic is float64 on the CPU. What is undefined is
NaN in an array and None alone.
"""

from locality_prior.analysis.maps import Moran as Moran
from locality_prior.analysis.maps import ResponseCorrelation as ResponseCorrelation
from locality_prior.analysis.maps import class_means as class_means
from locality_prior.analysis.maps import morans_i as morans_i
from locality_prior.analysis.maps import response_correlation as response_correlation
from locality_prior.analysis.maps import spatial_variance as spatial_variance
from locality_prior.analysis.statistics import PairedComparison as PairedComparison
from locality_prior.analysis.statistics import PairedTest as PairedTest
from locality_prior.analysis.statistics import holm as holm
from locality_prior.analysis.statistics import paired_comparison as paired_comparison
from locality_prior.analysis.statistics import paired_t_test as paired_t_test
from locality_prior.analysis.statistics import seeds_needed as seeds_needed
from locality_prior.analysis.tuning import NestedPatches as NestedPatches
from locality_prior.analysis.tuning import Selectivity as Selectivity
from locality_prior.analysis.tuning import effective_dimension as effective_dimension
from locality_prior.analysis.tuning import nested_patches as nested_patches
from locality_prior.analysis.tuning import patches as patches
from locality_prior.analysis.tuning import selectivity as selectivity
from locality_prior.analysis.tuning import smoothness as smoothness
from locality_prior.analysis.wiring import Modularity as Modularity
from locality_prior.analysis.wiring import SmallWorldness as SmallWorldness
from locality_prior.analysis.wiring import WireLengths as WireLengths
from locality_prior.analysis.wiring import modularity as modularity
from locality_prior.analysis.wiring import small_worldness as small_worldness
from locality_prior.analysis.wiring import wire_lengths as wire_lengths
