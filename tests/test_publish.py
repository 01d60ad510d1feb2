"""What is published agrees with itself: one version, told in the same way by every file that names it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

import locality_prior as lp

HOME = Path(__file__).parent.parent
#: A release of the changelog: its version and its day.
RELEASE = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", re.MULTILINE)


def test_the_build_takes_the_version_of_the_library() -> None:
    settings = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["dynamic"] == ["version"]
    source = HOME / settings["tool"]["hatch"]["version"]["path"]
    assert re.findall(r'^__version__ = "(.+)"$', source.read_text(encoding="utf-8"), re.MULTILINE) == [lp.__version__]


def test_the_citation_and_the_changelog_name_the_same_release() -> None:
    changelog = (HOME / "CHANGELOG.md").read_text(encoding="utf-8")
    released = RELEASE.findall(changelog)
    assert re.findall(r"^## .*$", changelog, re.MULTILINE)[0] == "## [Unreleased]"
    citation = yaml.safe_load((HOME / "CITATION.cff").read_text(encoding="utf-8"))
    assert released[0] == (lp.__version__, str(citation["date-released"]))
    assert citation["version"] == lp.__version__
