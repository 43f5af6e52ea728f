"""Which modules of a folder import each other, for the tests that prove its rooms."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent


def modules_of(folder: str) -> dict[str, Path]:
    """Dotted name to file of every module below a folder of the checkout."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def imports_of(module: str, modules: dict[str, Path]) -> set[str]:
    """Those of the modules that a module imports, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(modules[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "relative imports hide the layer"
            nested = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in modules else node.module for name in nested}
    return (names & modules.keys()) - {module}


def check_no_circle(modules: dict[str, Path]) -> None:
    """Raise a CycleError where modules import each other in a circle."""
    TopologicalSorter({module: imports_of(module, modules) for module in modules}).prepare()
