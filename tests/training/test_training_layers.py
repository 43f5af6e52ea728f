"""A room of training/ imports only from rooms below it, and nothing in it imports in a circle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "training"
# By the first part of the name below training; modules of one room may import each other.
LAYERS = {
    "console": 0,
    "json_file": 0,
    "recipe": 0,
    "data": 1,
    "readers": 2,
    "model": 2,
    "fit": 3,
    "release": 4,
    "data_commands": 5,
    "__main__": 6,
}
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(path: Path) -> set[str]:
    """Modules of training that a module imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "relative imports hide the layer"
            nested = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else node.module for name in nested}
    return names & MODULES.keys()


def room(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("module", [name for name in MODULES if "." in name])
def test_imports_go_down(module: str) -> None:
    for name in imports(MODULES[module]):
        if room(name) != room(module):
            assert LAYERS[room(name)] < LAYERS[room(module)], f"{module} imports {name}"


def test_no_module_imports_in_a_circle() -> None:
    TopologicalSorter({module: imports(path) for module, path in MODULES.items()}).prepare()
