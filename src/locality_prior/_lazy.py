"""Public names that are imported when they are first used, so that a page or ``--help`` does not wait for torch."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def attach(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package, from the imports of the stub beside its ``__init__``.

    The stub ``__init__.pyi`` is what type checkers read, so that every public name is listed once. It holds
    ``from package import module as module`` and ``from package.module import name as name``.
    """
    where: dict[str, str | None] = {}  # public name → the module that defines it; None: it is a module itself
    for node in ast.parse(Path(file).with_suffix(".pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package):
            for one in node.names:
                where[one.name] = None if node.module == package else node.module

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = where[name]
        if module is None:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(module), name)
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *where}), sorted(where)
