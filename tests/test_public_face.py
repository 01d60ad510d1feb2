"""What a newcomer meets first: the names of the library, its help, and how soon it is there."""

from __future__ import annotations

import importlib
import pydoc
import re
import subprocess
import sys
from types import ModuleType

import pytest

import locality_prior as lp
from locality_prior import _lazy


def python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, *options, "-c", code]
    return subprocess.run(given, capture_output=True, text=True, timeout=60, check=True)


@pytest.mark.parametrize("name", ["placement", "retrofit", "retrofit.plan", "retrofit.proof", "retrofit.targets"])
def test_no_function_hides_a_module(name: str) -> None:
    found: dict[str, object] = {}
    exec(f"import locality_prior.{name} as q", found)
    assert isinstance(found["q"], ModuleType)
    assert found["q"] is importlib.import_module(f"locality_prior.{name}")
    assert callable(lp.plan)


def test_help_begins_with_every_public_name() -> None:
    described = pydoc.splitdoc(pydoc.getdoc(lp))[1]
    names = set(re.findall(r"\w+", described))
    assert not set(lp.__all__) - names
    assert max(map(len, described.splitlines())) <= 120


def test_importing_it_imports_no_torch() -> None:
    code = "import sys, locality_prior as lp; print(dir(lp)); assert not {'torch', 'numpy'} & set(sys.modules)"
    assert "'Grid'" in python(code).stdout


def test_importing_it_takes_less_than_a_tenth_of_a_second() -> None:
    fastest = min(
        int(
            re.findall(r"(\d+) \| +locality_prior$", python("import locality_prior", "-X", "importtime").stderr, re.M)[
                0
            ]
        )
        for _ in range(3)
    )
    assert fastest < 100_000


MISSING = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "matplotlib":
            raise ModuleNotFoundError("blocked", name="matplotlib")

sys.meta_path.insert(0, Block())
import locality_prior as lp
assert "plots" not in dir(lp) and "plots" not in lp.__all__ and "place" in dir(lp)
try:
    lp.plots
except ImportError as error:
    print(error)
"""


def test_a_missing_extra_is_named_and_help_goes_on_without_it() -> None:
    said = 'plotting needs matplotlib, which is not installed: pip install "locality-prior[plots]"\n'
    assert python(MISSING).stdout == said


def test_extras_are_those_of_public_modules() -> None:
    assert set(_lazy.NEEDS) <= set(lp.__all__)
