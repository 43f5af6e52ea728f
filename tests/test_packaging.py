"""Packaging: the sdist builds the wheel, and the wheel works from an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from lnfast import __version__
from lnfast.card import shipped_models

ROOT = Path(__file__).resolve().parent.parent
# 13.6, 17.1 and 3.8 MB; 16.9, 41.7 and 28.4 with debug sections, and with a model whose weights were rounded to
# bfloat16, which compress to half. The model is 12 MB of what is installed.
WHEEL_MB, INSTALLED_MB, KERNELS_MB = 15, 22, 7
NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "*.so", "*.cpp", "*.egg-info", "build", "dist", "runs", "out")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    source, out = tmp_path_factory.mktemp("source") / "lnfast", tmp_path_factory.mktemp("dist")
    shutil.copytree(ROOT, source, ignore=NOT_SOURCE)
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", out, source], capture_output=True, text=True, cwd=out
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return out


@pytest.fixture(scope="module")
def sdist(built: Path) -> set[str]:
    """Names in the sdist, below its top folder."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel_names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def in_tree(pattern: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in ROOT.glob(pattern)}


def test_the_wheel_holds_the_package_and_nothing_else(wheel_names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel_names}
    assert tops == {"lnfast", "lnfast_ext", f"lnfast-{__version__}.dist-info"}
    assert not [name for name in wheel_names if name.endswith((".cpp", ".pyc", ".tmp"))]


def test_the_wheel_holds_all_that_is_needed_at_run_time(wheel_names: set[str]) -> None:
    assert in_tree("lnfast/**/*.py") <= wheel_names
    assert {"lnfast/py.typed", "lnfast_ext/py.typed", "lnfast_ext/__init__.pyi"} <= wheel_names
    assert "lnfast/report.schema.json" in wheel_names
    assert {f"lnfast/report/page/page.{kind}" for kind in ("html", "css", "js")} <= wheel_names
    assert in_tree("lnfast/**/page.*") <= wheel_names
    assert "pelvic-ln-edge" in shipped_models()
    for model in shipped_models():
        assert {f"lnfast/models/{model}/{name}" for name in ("model.onnx", "card.json", "probe.npz")} <= wheel_names
    compiled = {re.sub(r"\..*", "", name) for name in wheel_names if name.endswith((".so", ".pyd"))}
    assert compiled == {name.removesuffix(".pyx") for name in in_tree("lnfast_ext/*.pyx")}


def test_the_wheel_brings_the_headers_for_cpp_programs(wheel_names: set[str]) -> None:
    headers = {name for name in wheel_names if name.endswith(".hpp")}
    assert headers and headers == in_tree("lnfast_ext/src/**/*.hpp")


def test_the_wheel_and_what_it_installs_stay_small(wheel: Path) -> None:
    """Debug sections, a second model or a data set in it would be seen here."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    kernels = sum(size for name, size in sizes.items() if name.startswith("lnfast_ext/"))
    assert wheel.stat().st_size <= WHEEL_MB * 1e6
    assert sum(sizes.values()) <= INSTALLED_MB * 1e6
    assert kernels <= KERNELS_MB * 1e6


def test_the_licence_travels(wheel_names: set[str], sdist: set[str]) -> None:
    assert f"lnfast-{__version__}.dist-info/licenses/LICENSE" in wheel_names
    assert "LICENSE" in sdist


def test_the_sdist_holds_all_sources(sdist: set[str]) -> None:
    for pattern in ("lnfast/**/*.py", "lnfast_ext/*.pyx", "lnfast_ext/*.pxd", "lnfast_ext/src/**/*.hpp"):
        assert in_tree(pattern) <= sdist
    assert {"pyproject.toml", "setup.py", "README.md"} <= sdist


def test_the_wheel_works_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Only what the wheel brings, beside the dependencies of this environment."""
    target, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(pip, check=True, cwd=empty)
    code = "import lnfast.cli, lnfast_ext; print(lnfast.__file__, lnfast_ext.__file__); lnfast.cli.main(['doctor'])"
    environment = os.environ | {"PYTHONPATH": str(target)}
    done = subprocess.run([sys.executable, "-c", code], cwd=empty, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(path.startswith(str(target)) for path in done.stdout.splitlines()[0].split())
    assert not list(empty.iterdir())
