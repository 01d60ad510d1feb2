"""What the README, docs/ and docstrings say is true: their Python runs, commands parse, and links lead somewhere."""

from __future__ import annotations

import ast
import doctest
import importlib
import io
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

import locality_prior
from locality_prior import cli
from locality_prior.objectives.base import usual_strength
from locality_prior.objectives.kinds import KINDS
from locality_prior.studies import study_from
from locality_prior.studies.measures import KNOWN

HOME = Path(__file__).parent.parent
PAGES = [HOME / "README.md", HOME / "CONTRIBUTING.md", *sorted((HOME / "docs").rglob("*.md"))]
EXAMPLES = sorted((HOME / "examples").glob("*.py"))

#: A fenced block, with the reason in a comment above it why it is not run, if there is one.
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^>]+) -->\n)?^```(?P<kind>[\w{}-]*)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
PICTURE_OR_LINK = re.compile(r"!?\[[^\]]*\]\((?P<to>[^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, the number of its first line, and why it is not run."""

    kind: str
    text: str
    line: int
    why: str | None


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("text")) + 1
        yield Block(found["kind"], found["text"], line, found["why"])


def commands(text: str) -> list[str]:
    """The command lines of a shell block: lines that go on with a backslash are joined, comments left out."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [line for line in joined.splitlines() if line.strip() and not line.strip().startswith("#")]


def arguments(command: str) -> list[str] | None:
    """What a command line gives to locality-prior; None where it calls something else."""
    words = shlex.split(command, comments=True)
    for k, word in enumerate(words):
        if word in ("locality-prior", "locality_prior.cli") or word == "$(which locality-prior)":
            return words[k + 1 :]
    return None


SHELL = [
    pytest.param(command, id=f"{page.relative_to(HOME)}-{block.line}-{k}")
    for page in PAGES
    for block in blocks(page)
    if block.kind == ""
    for k, command in enumerate(commands(block.text))
    if arguments(command) is not None
]
SHELL += [
    pytest.param(command, id=path.name)
    for path in EXAMPLES
    for command in commands(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    if command.strip().startswith("locality-prior")
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOME)))
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page one after another, as a reader would run them, each from where the last one left off."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.kind == "python" and block.why is None:
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
            with warnings.catch_warnings():
                warnings.filterwarnings(
                    "ignore", "localize: weight decay", UserWarning
                )  # which docs/howto/models.md tells of
                exec(code, names)


def test_the_readme_needs_the_core_alone(tmp_path: Path) -> None:
    """Its Python runs with torch, numpy and safetensors; the same check fails for what does need an extra."""
    extras = [
        "anywidget",
        "jinja2",
        "lightning_fabric",
        "matplotlib",
        "networkx",
        "PIL",
        "rich",
        "scipy",
        "sklearn",
        "torchvision",
    ]
    block = f"import sys\nsys.modules.update(dict.fromkeys({[*extras, 'yaml']!r}))\n"
    code = "".join(one.text for one in blocks(HOME / "README.md") if one.kind == "python")
    assert code.count("\n") > 10

    def run(text: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-W", "ignore", "-c", block + text]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)

    done = run(code)
    assert done.returncode == 0, done.stderr
    done = run("import locality_prior as lp; lp.analysis.morans_i([0.0, 1.0, 2.0, 3.0], lp.Grid(2, 2))")
    assert "scipy" in done.stderr


@pytest.mark.parametrize("command", SHELL)
def test_commands_parse(command: str) -> None:
    words = arguments(command)
    assert words is not None
    cli._parser().parse_args(words)


def test_study_files_are_studies() -> None:
    texts = [block.text for page in PAGES for block in blocks(page) if block.kind == "yaml"]
    assert texts
    for text in texts:
        study = study_from(yaml.safe_load(text))
        assert study.hypotheses
        assert len(study.conditions()) > 2


def test_every_command_is_shown() -> None:
    """And the reading of blocks finds what it is to find."""
    shown = {words[0] for param in SHELL if (words := arguments(str(param.values[0])))}
    assert shown == {"reproduce", "study", "train", "analyse", "report", "figure", "open", "prior", "bench"}
    with pytest.raises(SystemExit):
        cli._parser().parse_args(["study", "--costs", "flat"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOME)))
def test_links_lead_somewhere(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for found in PICTURE_OR_LINK.finditer(text):
        to, _, heading = found["to"].partition("#")
        if "://" in to:
            continue
        path = (page.parent / to).resolve() if to else page
        assert path.exists(), f"{page.name} links to {to}, which is not there"
        if heading:
            lines = path.read_text(encoding="utf-8").splitlines()
            assert heading in {anchor(line) for line in lines if line.startswith("#")}, f"{page.name}: #{heading}"


def test_links_to_other_sites_are_well_formed() -> None:
    """No network is asked: each has a host, and no mark of the sentence around it."""
    sources = [*PAGES, *HOME.glob("*.md"), *(HOME / "src").rglob("*.py")]
    found = {link for path in sources for link in re.findall(r"https?://[^\s)\]`\"'<>]+", path.read_text("utf-8"))}
    assert len(found) > 2
    for link in found:
        parts = urlsplit(link)
        assert parts.scheme == "https", link
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", parts.netloc), link
        assert not link.endswith((".", ",", ";", ":")), link


def anchor(heading: str) -> str:
    """What GitHub calls a heading in a link."""
    kept = re.sub(r"[^\w\- ]", "", heading.lstrip("#").strip().lower())
    return kept.replace(" ", "-")


def test_the_two_commands_are_as_they_are() -> None:
    text = (HOME / "README.md").read_text(encoding="utf-8")
    assert "pip install uv && uv run locality-prior reproduce digits\n" in text
    assert "pip install uv && uv run pytest\n" in text
    assert len(text.splitlines()) <= 150


def first_column(page: Path, heading: str) -> list[str]:
    """What stands in code in the first column of the table under ``heading``."""
    section = page.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_the_table_of_measures_is_whole() -> None:
    assert first_column(HOME / "docs" / "howto" / "studies.md", "Measures") == list(KNOWN)


def test_the_table_of_settings_is_whole() -> None:
    from dataclasses import fields

    from locality_prior.studies import Axes

    named = first_column(HOME / "docs" / "howto" / "studies.md", "Settings")
    assert sorted(named) == sorted(field.name for field in fields(Axes))


def test_the_page_of_objectives_is_whole() -> None:
    """Each has a row in the table, with its usual strength, and a section with an example and an equation's source."""
    text = (HOME / "docs" / "science" / "objectives.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| [`")]
    told = {re.findall(r"`(\w+)`", row[0])[0]: float(row[4]) for row in rows}
    assert told == {name: usual_strength(kind) for name, kind in KINDS.items()}
    for name in KINDS:
        section = text.split(f"\n### {name}\n")[1].split("\n## ")[0].split("\n### ")[0]
        assert f"lp.objectives.{name}(" in section
        assert "**From.**" in section
    words = (HOME / "docs" / "howto" / "objectives.md").read_text(encoding="utf-8").split(" NAME is ")[1].split(".")[0]
    named = re.findall(r"`(\w+)`", words)
    assert named == [kind.WORD for kind in KINDS.values()]


def test_the_table_of_rooms_is_whole() -> None:
    package = Path(locality_prior.__file__).parent
    rooms = {f"{path.name}/" for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    rooms |= {path.name for path in package.glob("*.py") if path.name != "__init__.py"}
    named = first_column(HOME / "CONTRIBUTING.md", "The house")
    assert sorted(named) == sorted(rooms)


#: Rooms, and modules, whose public names have a page in docs/reference/; "" is the package itself.
ROOMS = ["", "analysis", "arrange", "objectives", "plots", "runs", "studies", "cost", "functional"]


def public_names(room: str) -> list[str]:
    """What a room offers: the classes, functions and constants of its stub, or of ``__all__`` where it is one file."""
    package = Path(locality_prior.__file__).parent
    stub = package / room / "__init__.pyi"
    if not stub.exists():
        return list(importlib.import_module(f"locality_prior.{room}").__all__)
    imported = re.findall(r"^from (\S+) import \w+ as (\w+)$", stub.read_text(encoding="utf-8"), re.MULTILINE)
    return [name for source, name in imported if source != "locality_prior"]


def entries(room: str) -> list[str]:
    """What has its place on the room's page of docs/reference/, by its whole name."""
    page = (HOME / "docs" / "reference" / f"{room or 'top'}.md").read_text(encoding="utf-8")
    return re.findall(r"^\.\. auto\w+:: (\S+)$", page, re.MULTILINE)


@pytest.mark.parametrize("room", ROOMS)
def test_the_reference_is_whole(room: str) -> None:
    """Each public class, function and constant of a room has its place in docs/reference/, and nothing else has."""
    home = f"locality_prior.{room}".rstrip(".")
    named = [name.rpartition(".")[2] for name in entries(room) if name.rpartition(".")[0] == home]
    assert sorted(named) == sorted(public_names(room))


@pytest.mark.parametrize("room", ROOMS)
def test_every_entry_of_the_reference_has_an_example_that_runs(
    room: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each runs on its own, as a reader would copy it, and so do those of its methods."""
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    without, failed = set(entries(room)), []
    for entry in entries(room):
        home, _, name = entry.rpartition(".")
        thing = getattr(importlib.import_module(home), name)
        for test in finder.find(thing, entry, module=False, globs={}):
            told = io.StringIO()
            if runner.run(test, out=told.write).failed:
                failed.append(told.getvalue())
            if any(not example.source.startswith(("import ", "from ")) for example in test.examples):
                without.discard(test.name)
            plt.close("all")
    assert not without
    assert not failed, "\n".join(failed)


def test_the_gallery_is_whole() -> None:
    """Each plot has a heading, a figure, and a link to its place in the reference."""
    text = (HOME / "docs" / "gallery.md").read_text(encoding="utf-8")
    sections = {part.split("\n")[0]: part for part in text.split("\n### ")[1:]}
    assert sorted([*sections, "Places"]) == sorted(public_names("plots"))
    for name, section in sections.items():
        assert f"lp.plots.{name}(" in section
        assert f"<locality_prior.plots.{name}>" in section


def test_what_a_page_takes_from_another_is_there() -> None:
    taken = re.compile(r"^:::\{include\} (\S+)\n((?:^:.*\n)+)", re.MULTILINE)
    found = 0
    for page in sorted((HOME / "docs").rglob("*.md")):
        for path, options in taken.findall(page.read_text(encoding="utf-8")):
            text = (page.parent / path).read_text(encoding="utf-8")
            for mark in re.findall(r'^:(?:start-after|end-before): "(.+)"$', options, re.MULTILINE):
                found += 1
                assert text.count(f"\n{mark}\n") == 1, f"{page.name}: {mark}"
    assert found
