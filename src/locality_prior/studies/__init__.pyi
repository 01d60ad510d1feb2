from locality_prior.studies.cells import run_study as run_study
from locality_prior.studies.findings import find as find
from locality_prior.studies.findings import read_findings as read_findings
from locality_prior.studies.study import Axes as Axes
from locality_prior.studies.study import Hypothesis as Hypothesis
from locality_prior.studies.study import Study as Study
from locality_prior.studies.study import study_from as study_from
