"""What is published agrees with itself: one version, told in the same way by every file that names it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
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


def workflow(name: str) -> dict[str, Any]:
    """A workflow's jobs by name."""
    text = (HOME / ".github" / "workflows" / name).read_text(encoding="utf-8")
    jobs: dict[str, Any] = yaml.safe_load(text)["jobs"]
    return jobs


def test_the_pythons_that_are_tested_are_those_that_are_promised() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    promised = re.findall(r"Programming Language :: Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert workflow("tests.yml")["tests"]["strategy"]["matrix"]["python"] == promised
    assert project["requires-python"] == f">={promised[0]}"


@pytest.mark.parametrize(
    ("name", "scripts"),
    [("tests.yml", {".ci/run", ".ci/lowest"}), ("docs.yml", {".ci/docs"}), ("publish.yml", {".ci/package"})],
)
def test_workflows_run_the_scripts_of_the_project(name: str, scripts: set[str]) -> None:
    steps = [step.get("run", "") for job in workflow(name).values() for step in job["steps"]]
    called = set(re.findall(r"bash (\S+)", "\n".join(steps)))
    assert called == scripts
    assert all((HOME / script).is_file() for script in called)


def test_only_the_job_that_publishes_may_ask_for_a_token() -> None:
    jobs = workflow("publish.yml")
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "permissions" not in jobs["build"]


def test_no_committed_picture_is_large() -> None:
    """300 KB at most: a clone keeps every version of a picture for ever."""
    kinds = [f"*.{kind}" for kind in ("png", "svg", "pdf", "jpg", "jpeg", "gif")]
    listed = subprocess.run(["git", "ls-files", "-z", *kinds], cwd=HOME, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is not a clone of the repository")
    sizes = {name: (HOME / name).stat().st_size for name in listed.stdout.split("\0") if name}
    assert sizes
    assert {name: size for name, size in sizes.items() if size > 300_000} == {}
