"""Public names that are imported when they are first used, so that ``--help`` does not wait for torch."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Public names that need more than the core's dependencies: a module that they need, and the extra that installs all.
NEEDS = {
    "explore": ("anywidget", "notebook"),
    "plots": ("matplotlib", "plots"),
    "report": ("jinja2", "experiments"),
    "runs": ("lightning_fabric", "experiments"),
    "studies": ("yaml", "experiments"),
}


def attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package, from the imports of the stub beside its ``__init__``.

    The stub ``__init__.pyi`` is what type checkers read, so every public name is listed once. It holds
    ``from package import module as module`` and ``from package.module import name as name``. ``__dir__`` and
    ``__all__`` leave out modules that need an extra that is not installed.
    """
    where: dict[str, str | None] = {}  # public name → the module that defines it; None: the name is a module
    for node in ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package):
            for one in node.names:
                where[one.name] = None if node.module == package else node.module

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = where[name]
        try:
            if module is None:
                return importlib.import_module(f"{package}.{name}")
            value = getattr(importlib.import_module(module), name)
            setattr(sys.modules[package], name, value)
            return value
        except ModuleNotFoundError as error:
            if name not in NEEDS or (error.name or "").startswith(package):
                raise
            install = f"pip install '{package.replace('_', '-')}[{NEEDS[name][1]}]'"
            raise ModuleNotFoundError(
                f"{package}.{name} needs more than the core. Install it with: {install}"
            ) from error

    usable = sorted(name for name in where if name not in NEEDS or _installed(NEEDS[name][0]))
    return get, lambda: sorted({*vars(sys.modules[package]), *usable}), usable


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
