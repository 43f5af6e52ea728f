"""The rooms of lnfast/node: a module imports from its own room and from lower rooms only, and no circle exists."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Rooms of one layer do not import each other.
LAYERS = {
    "config": 0,
    "monitor": 0,
    "ledger": 0,
    "spool": 1,
    "transport": 1,
    "client": 2,
    "exams": 2,
    "receiver": 3,
    "outbox": 3,
    "watch": 3,
    "": 4,
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "lnfast" / "node").rglob("*.py"))
}


def room_of(module: str) -> str:
    """``ledger`` for lnfast.node.ledger.rows, ``""`` for a module beside the rooms."""
    parts = module.split(".")[2:]
    return parts[0] if parts and parts[0] in LAYERS else ""


def imports_of(module: str) -> Iterator[str]:
    """The modules of lnfast/node that a module imports, wherever in the file."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "relative imports hide the layer"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in names]
        yield from (name for name in names if name in MODULES and name != module)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    room = room_of(module)
    for name in imports_of(module):
        if room_of(name) != room:
            assert LAYERS[room_of(name)] < LAYERS[room], f"{module} imports {name}"


def test_no_import_circle() -> None:
    TopologicalSorter({module: set(imports_of(module)) for module in MODULES}).prepare()  # raises CycleError
