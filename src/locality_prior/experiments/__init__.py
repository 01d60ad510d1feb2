"""Experiments: config → data → models → train → measure → reproduction, summary. Each run is a directory that says all of itself."""

from locality_prior.experiments.config import RECIPES as RECIPES
from locality_prior.experiments.config import Recipe as Recipe
from locality_prior.experiments.config import Run as Run
from locality_prior.experiments.reproduction import Reproduction as Reproduction
