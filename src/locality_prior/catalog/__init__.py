"""The built-in tasks, models and studies. They come in through the same door as a user's own.

A word without a module or file, such as ``digits`` or ``lenet``, names a function here. ``STUDIES`` is the folder of
study files.
"""

from pathlib import Path

from locality_prior._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)

#: Where the study files are.
STUDIES = Path(__file__).parent / "studies"


def studies() -> list[str]:
    """The names of the study files."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))
