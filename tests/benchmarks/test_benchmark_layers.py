"""The rooms of benchmarks/: a module imports from its own room and from lower rooms only, and no circle exists."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Rooms of one layer do not import each other.
LAYERS = {
    "": 0,
    "harness": 0,
    "peers": 1,
    "report": 1,
    "groups": 2,
    "kernels": 2,
    "measurement": 2,
    "node": 2,
    "__main__": 3,
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "benchmarks").rglob("*.py"))
}


def room_of(module: str) -> str:
    """``harness`` for benchmarks.harness.timing, ``""`` for benchmarks itself."""
    return module.partition(".")[2].partition(".")[0]


def imports_of(module: str) -> Iterator[str]:
    """The modules of benchmarks/ that a module imports, wherever in the file."""
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


def test_a_peer_is_imported_by_its_own_script_only() -> None:
    """``benchmarks.peers.script`` starts in a fresh process: what it imports at the top, every peer pays for."""
    tree = ast.parse(MODULES["benchmarks.peers.script"].read_text(encoding="utf-8"))
    top = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert set(top) == {"__future__", "importlib", "pathlib"}
