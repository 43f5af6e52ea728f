"""A module imports only from lower layers, and each heavy package belongs to one module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lnfast.evaluate.packages import PACKAGES

PACKAGE = Path(__file__).parent.parent / "lnfast"

# By the first part of the name below lnfast; siblings inside a package may import each other.
LAYERS = {
    "_version": 0,
    "errors": 0,
    "folder_exchange": 1,
    "optional": 1,
    "batch": 1,
    "geometry": 1,
    "header_noise": 1,
    "window": 1,
    "atomic": 2,
    "card": 2,
    "study": 2,
    "ellipsoid": 2,
    "slabs": 2,
    "backends": 3,
    "body": 3,
    "preprocess": 3,
    "postprocess": 3,
    "measure": 3,
    "admission": 4,
    "matching": 4,
    "phantom": 5,
    "report": 5,
    "network": 5,
    "selftest": 6,
    "cohort": 6,
    "evaluate": 6,
    "export": 7,
    "result": 8,
    "serving": 8,
    "engine": 9,
    "cluster": 10,
    "contracts": 10,
    "node": 10,
    "cli": 11,
    "__main__": 12,
}
# The one module below lnfast that may import the package, and only inside a function. None: nobody may; what stands
# behind the extra "evaluate" comes through `lnfast.evaluate.packages.load` alone.
HEAVY = {
    "openvino": "backends.openvino",
    "onnxruntime": "backends.ort",
    "tensorrt": "backends.trt.toolkit",
    "tensorrt_rtx": "backends.trt.toolkit",
    "nibabel": "cohort",
    "onnx": None,  # lnfast.export.graph asks lnfast.optional for it
    "torch": None,
    "scipy": None,
    "statsmodels": None,
    "sklearn": None,
    "matplotlib": None,
    "pandas": None,
    "ray": None,  # lnfast.cluster asks lnfast.optional for both
    "pyarrow": None,
    "training": None,
    "benchmarks": None,
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """``study.nifti`` for lnfast/study/nifti.py, ``study`` for its package, ``""`` for lnfast itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> Iterator[str]:
    """Absolute names of all modules that are imported, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "relative imports hide the layer"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "import_module":
            argument = node.args[0]
            if isinstance(argument, ast.Constant):
                yield str(argument.value)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def test_every_module_has_a_layer() -> None:
    names = {dotted(path).partition(".")[0] for path in MODULES} - {""}
    assert names <= set(LAYERS), f"say in which layer these stand: {names - set(LAYERS)}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: dotted(path) or "lnfast")
def test_imports_go_down(path: Path) -> None:
    own = dotted(path).partition(".")[0]
    if not own:
        return  # lnfast/__init__.py hands out names from all layers; that it does so lazily is tested below
    for name in imports(parsed(path)):
        root, _, rest = name.partition(".")
        imported = rest.partition(".")[0]
        if root == "lnfast" and imported in LAYERS and imported != own:
            assert LAYERS[imported] < LAYERS[own], f"{dotted(path)} (layer {LAYERS[own]}) imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: dotted(path) or "lnfast")
def test_heavy_packages_stay_in_their_module(path: Path) -> None:
    for name in imports(parsed(path)):
        root = name.partition(".")[0]
        if root in HEAVY:
            assert dotted(path) == HEAVY[root], f"{dotted(path)} imports {name}, which belongs to {HEAVY[root]}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: dotted(path) or "lnfast")
def test_heavy_packages_are_imported_inside_functions(path: Path) -> None:
    tree = parsed(path)
    inside = {id(node) for scope in ast.walk(tree) if isinstance(scope, ast.FunctionDef) for node in ast.walk(scope)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and id(node) not in inside:
            assert not {name.partition(".")[0] for name in imports(node)} & set(HEAVY)


def test_packages_of_the_extra_are_loaded_by_evaluate_and_inside_functions() -> None:
    loaded = set()
    for path in MODULES:
        tree = parsed(path)
        scopes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        inside = {id(node) for scope in scopes for node in ast.walk(scope)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load" and node.args:
                root = str(getattr(node.args[0], "value", "")).partition(".")[0]
                if root in PACKAGES:
                    assert id(node) in inside and dotted(path).startswith("evaluate."), dotted(path)
                    loaded.add(root)
    assert loaded == set(PACKAGES)


def test_the_kernels_know_nothing_of_lnfast() -> None:
    for path in (PACKAGE.parent / "lnfast_ext").glob("*.py*"):
        if path.suffix in (".py", ".pyx", ".pyi"):
            text = path.read_text(encoding="utf-8")
            assert "import lnfast\n" not in text and "from lnfast " not in text and "from lnfast." not in text


def test_importing_is_light(tmp_path: Path) -> None:
    """Not even numpy: ``lnfast --help`` is instant."""
    code = "import sys, lnfast, lnfast.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & (set(HEAVY) | {"numpy", "rich", "isal"})
