"""The house: imports go one way, and the core needs torch and numpy alone."""

from __future__ import annotations

import ast
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
    {"__init__"},
    {"analysis"},
    {"plots"},
    {"runs"},
    {"studies"},
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
    package = ["locality_prior", "experiments"]
    assert (
        astray("experiments", "from .config import Run\nfrom ..layers import fold\nfrom . import train", package)
        == set()
    )
    assert astray("experiments", "from ..report import build\nfrom .. import cli", package) == {"report", "cli"}


CORE_ONLY = """
import sys

BLOCKED = {blocked!r}

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError("blocked: " + name)

sys.meta_path.insert(0, Block())
import torch
import locality_prior as lp

layer = lp.LocalityLinear(9, 4, source=lp.Grid(3, 3), cost=lp.cost.Gaussian(2).within(3), rescale=True)
(layer(torch.randn(2, 9)).sum() + lp.wiring_cost(layer, lp.cost.Linear()) + lp.mean_wire_length(layer)).backward()
assert layer.weight.grad.isfinite().all()
lp.fold(layer)(torch.randn(2, 9))
for geometry in (lp.HexGrid(2, 2), lp.Sphere(4), lp.Points([[0.0], [1.0], [2.0], [4.0]]), lp.Line(4, periodic=True)):
    lp.LocalityLinear(4, 4, source=geometry)(torch.randn(4))
assert not BLOCKED & {{name.split(".")[0] for name in sys.modules}}
{more}
"""
EXTRAS = {
    "jinja2",
    "lightning_fabric",
    "matplotlib",
    "rich",
    "scipy",
    "sklearn",
    "torchvision",
    "yaml",
}


def core_only(more: str = "") -> subprocess.CompletedProcess[str]:
    code = CORE_ONLY.format(blocked=EXTRAS, more=more)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_the_core_needs_torch_and_numpy_alone() -> None:
    """And the check bites: what needs an extra fails in the same process, after all the rest has passed."""
    done = core_only("print('core done'); lp.Graph([[0, 1], [1, 0]]).distances()")
    assert done.stdout == "core done\n", done.stderr
    assert "blocked: scipy" in done.stderr


def test_public_names_are_there() -> None:
    for name in ("Grid", "Line", "HexGrid", "Sphere", "Points", "Graph", "Distances", "Shuffled", "LocalityLinear"):
        assert callable(getattr(lp, name))
    for name in ("fold", "save", "load", "wiring_cost", "weight_l1", "mean_wire_length", "sparsify"):
        assert callable(getattr(lp, name))
    with pytest.raises(AttributeError, match="has no attribute 'topological'"):
        _ = lp.topological
