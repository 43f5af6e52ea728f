"""A room of training/ imports only from rooms below it, and nothing in it imports in a circle."""

from __future__ import annotations

import pytest
from room_imports import check_no_circle, imports_of, modules_of

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
MODULES = modules_of("training")


def room(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("module", [name for name in MODULES if "." in name])
def test_imports_go_down(module: str) -> None:
    for name in imports_of(module, MODULES):
        if room(name) != room(module):
            assert LAYERS[room(name)] < LAYERS[room(module)], f"{module} imports {name}"


def test_no_module_imports_in_a_circle() -> None:
    check_no_circle(MODULES)
