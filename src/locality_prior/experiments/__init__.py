"""Experiments. One run: config → data → models → train → measure, in a directory that says all of itself.

Many runs: a reproduction and its summary, or a study, its cells and what was found.
"""

from locality_prior.experiments.config import RECIPES as RECIPES
from locality_prior.experiments.config import Recipe as Recipe
from locality_prior.experiments.config import Run as Run
from locality_prior.experiments.reproduction import Reproduction as Reproduction
from locality_prior.experiments.study import Study as Study
