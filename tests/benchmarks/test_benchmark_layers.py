"""The rooms of benchmarks/: a module imports from its own room and from lower rooms only, and no circle exists."""

from __future__ import annotations

import ast

import pytest
from room_imports import check_no_circle, imports_of, modules_of

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
MODULES = modules_of("benchmarks")


def room_of(module: str) -> str:
    """``harness`` for benchmarks.harness.timing, ``""`` for benchmarks itself."""
    return module.partition(".")[2].partition(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    room = room_of(module)
    for name in imports_of(module, MODULES):
        if room_of(name) != room:
            assert LAYERS[room_of(name)] < LAYERS[room], f"{module} imports {name}"


def test_no_import_circle() -> None:
    check_no_circle(MODULES)


def test_a_peer_is_imported_by_its_own_script_only() -> None:
    """``benchmarks.peers.script`` starts in a fresh process: what it imports at the top, every peer pays for."""
    tree = ast.parse(MODULES["benchmarks.peers.script"].read_text(encoding="utf-8"))
    top = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert set(top) == {"__future__", "importlib", "pathlib"}
