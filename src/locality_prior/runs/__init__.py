"""One run: config → data → models → train → measure, in a directory that says all of itself."""

from locality_prior.experiments.config import RECIPES as RECIPES
from locality_prior.experiments.config import Recipe as Recipe
from locality_prior.experiments.config import Run as Run
