"""The house: imports go one way, the core needs no extra, and no data set or network has a name above the catalog."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import locality_prior as lp

HOME = Path(lp.__file__).parent

#: A room imports only from the rooms above it. ``__init__`` opens the core's door, so what comes after may use it.
ROOMS = [
    {"_check", "_compiled", "_lazy", "_memory", "_timing"},
    {"_files"},
    {"_processes"},
    {"geometry"},
    {"cost"},
    {"prior"},
    {"functional"},
    {"sparse"},
    {"layers"},
    {"retrofit"},
    {"placement"},
    {"objectives"},
    {"pruning"},
    {"testing"},
    {"__init__"},
    {"analysis"},
    {"plots"},
    {"runs"},
    {"studies"},
    {"explorer"},
    {"report"},
    {"catalog"},
    {"bench"},
    {"cli"},
]
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}


def imported(source: str, package: list[str]) -> set[str]:
    """The rooms of the library that ``source``, a file of ``package``, imports anywhere in it."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            found += [f"{start}.{alias.name}" for alias in node.names]
    paths = [name.split(".") for name in found if name.split(".")[0] == "locality_prior"]
    return {path[1] if len(path) > 1 and path[1] in FLOOR else "__init__" for path in paths}


def astray(room: str, source: str, package: list[str]) -> set[str]:
    """Rooms that ``source`` must not import: those that are not above ``room``."""
    return {other for other in imported(source, package) if other != room and FLOOR[other] >= FLOOR[room]}


FILES = sorted(path for path in HOME.rglob("*.py") if path != HOME / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOME)))
def test_imports_go_one_way(path: Path) -> None:
    inside = path.relative_to(HOME)
    room = inside.with_suffix("").parts[0]
    assert room in FLOOR, f"{inside} is in no room: give it a place in ROOMS"
    package = ["locality_prior", *inside.parent.parts]
    assert not astray(room, path.read_text(encoding="utf-8"), package)


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        ("cost", "from locality_prior.prior import Prior", {"prior"}),
        ("cost", "import locality_prior.layers as layers", {"layers"}),
        ("geometry", "def f():\n    from locality_prior import cost", {"cost"}),
        ("geometry", "from . import cost, _check", {"cost"}),
        ("geometry", "from .cost import Linear", {"cost"}),
        ("layers", "import locality_prior as lp", {"__init__"}),
        ("layers", "from locality_prior import Grid", {"__init__"}),
        ("analysis", "from locality_prior.plots import sheet", {"plots"}),
        ("plots", "from locality_prior import Grid, analysis, geometry", set()),
        ("prior", "import torch\nfrom locality_prior.cost import Linear\nfrom .geometry import Grid", set()),
    ],
)
def test_a_wrong_import_is_caught(room: str, source: str, found: set[str]) -> None:
    assert astray(room, source, ["locality_prior"]) == found


def test_relative_imports_within_a_folder() -> None:
    package = ["locality_prior", "runs"]
    assert astray("runs", "from .config import Run\nfrom ..layers import fold\nfrom . import train", package) == set()
    assert astray("runs", "from ..report import write\nfrom .. import cli", package) == {"report", "cli"}


#: Names of data sets and networks, as people write them.
PROPER = re.compile(
    r"mnist|imagenet|cifar|olivetti|iris|lenet|alex-?net|resnet|vgg|gpt|"
    r"load_digits|(the|scikit-learn's|handwritten) digits",
    re.IGNORECASE,
)
#: What the catalog calls its tasks and models, where that is also an ordinary word.
WORDS = re.compile(r"(digits|photographs)(:.*)?")


def named(source: str, python: bool = True) -> set[str]:
    """The data sets and networks that ``source`` names: proper names anywhere, the catalog's words in its strings."""
    found = {match[0] for match in PROPER.finditer(source)}
    if python:
        tree = ast.parse(source)
        strings = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        found |= {text for text in strings if WORDS.fullmatch(text)}
    return found


ABOVE = sorted(
    path
    for room in ("runs", "studies", "report")
    for path in (HOME / room).rglob("*")
    if path.suffix in (".py", ".html")
)


@pytest.mark.parametrize("path", ABOVE, ids=lambda path: str(path.relative_to(HOME)))
def test_no_data_set_and_no_network_is_named(path: Path) -> None:
    assert named(path.read_text(encoding="utf-8"), path.suffix == ".py") == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("if task == 'digits':\n    pass", {"digits"}),
        ("word = 'photographs:crop=64'", {"photographs:crop=64"}),
        ("# as LeNet has it", {"LeNet"}),
        ("from torchvision.datasets import MNIST", {"MNIST"}),
        ("digits = 3  # significant digits of photographs", set()),
        ("analysis['sheets']", set()),
    ],
)
def test_a_name_is_caught(source: str, found: set[str]) -> None:
    assert named(source) == found


CORE = """
import torch
import locality_prior as lp

layer = lp.LocalityLinear(9, 4, source=lp.Grid(3, 3), cost=lp.cost.Gaussian(2).within(3), rescale=True)
(layer(torch.randn(2, 9)).sum() + lp.wiring_cost(layer, lp.cost.Linear()) + lp.mean_wire_length(layer)).backward()
assert layer.weight.grad.isfinite().all()
lp.fold(layer)(torch.randn(2, 9))
for geometry in (lp.HexGrid(2, 2), lp.Sphere(4), lp.Points([[0.0], [1.0], [2.0], [4.0]]), lp.Line(4, periodic=True)):
    lp.LocalityLinear(4, 4, source=geometry)(torch.randn(4))
lp.save(layer, sys.argv[1])
assert torch.equal(lp.load(sys.argv[1]).weight, layer.weight)
"""
EXTRAS = {
    "PIL",
    "anywidget",
    "jinja2",
    "lightning_fabric",
    "matplotlib",
    "rich",
    "scipy",
    "sklearn",
    "torchvision",
    "yaml",
}


def without(blocked: set[str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process that cannot import ``blocked``."""
    start = f"import sys\nsys.modules.update(dict.fromkeys({sorted(blocked)}))\n"
    command = [sys.executable, "-c", start + code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_core_needs_torch_numpy_and_safetensors_alone(tmp_path: Path) -> None:
    """And the check bites: what needs an extra fails in the same process, after all the rest has passed."""
    more = "print('core done'); lp.Graph([[0, 1], [1, 0]]).distances()"
    done = without(EXTRAS, CORE + more, str(tmp_path / "layer.safetensors"))
    assert done.stdout == "core done\n", done.stderr
    assert "A Graph needs scipy" in done.stderr


def test_findings_and_the_page_need_no_torch() -> None:
    """Networks are measured once, when a run ends; what comes after reads files."""
    code = "import locality_prior.studies.findings, locality_prior.report\nprint('read')\nimport torch"
    done = without({"torch"}, code)
    assert done.stdout == "read\n", done.stderr
    assert "import of torch halted" in done.stderr


def test_public_names_are_there() -> None:
    for name in ("Grid", "Line", "HexGrid", "Sphere", "Points", "Graph", "Distances", "Shuffled", "LocalityLinear"):
        assert callable(getattr(lp, name))
    for name in ("fold", "save", "load", "wiring_cost", "weight_l1", "mean_wire_length", "sparsify", "place"):
        assert callable(getattr(lp, name))
    with pytest.raises(AttributeError, match="has no attribute 'topological'"):
        _ = lp.topological
