"""Many runs, over a pool of processes or a cluster: a reproduction → its summary, or a study → cells → findings."""

from locality_prior.studies.reproduction import Reproduction as Reproduction
from locality_prior.studies.study import Study as Study
