"""The rooms of lnfast/node: a module imports from its own room and from lower rooms only, and no circle exists."""

from __future__ import annotations

import pytest
from room_imports import check_no_circle, imports_of, modules_of

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
MODULES = modules_of("lnfast/node")


def room_of(module: str) -> str:
    """``ledger`` for lnfast.node.ledger.rows, ``""`` for a module beside the rooms."""
    parts = module.split(".")[2:]
    return parts[0] if parts and parts[0] in LAYERS else ""


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    room = room_of(module)
    for name in imports_of(module, MODULES):
        if room_of(name) != room:
            assert LAYERS[room_of(name)] < LAYERS[room], f"{module} imports {name}"


def test_no_import_circle() -> None:
    check_no_circle(MODULES)
