from pathlib import Path

from locality_prior.catalog.language import text as text
from locality_prior.catalog.models import alexnet as alexnet
from locality_prior.catalog.models import gpt as gpt
from locality_prior.catalog.models import lenet as lenet
from locality_prior.catalog.models import sheets as sheets
from locality_prior.catalog.tasks import digits as digits
from locality_prior.catalog.tasks import mnist as mnist
from locality_prior.catalog.tasks import photographs as photographs

STUDIES: Path

def studies() -> list[str]: ...
