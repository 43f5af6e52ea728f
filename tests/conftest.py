"""Fixtures of all tests: the installed lnfast, the programs beside it, an empty working folder, real studies."""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _make_importable(name: str) -> None:
    """Make a program of the checkout importable without putting the checkout on ``sys.path``.

    There, lnfast/ and lnfast_ext/ without their compiled parts would stand before the installed ones.
    """
    spec = spec_from_file_location(name, ROOT / name / "__init__.py", submodule_search_locations=[str(ROOT / name)])
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


try:
    import lnfast_ext  # noqa: F401
except ImportError as error:
    pytest.exit(
        f"lnfast is not installed here ({error}): pip install '.[test]', then 'pytest' (not 'python -m pytest')", 4
    )

_make_importable("training")
_make_importable("benchmarks")


_STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the terminal's standard error, which is a file of pytest's own while a test runs."""
    config.stash[_STDERR] = os.dup(2)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked ``gpu`` run where there is one and TensorRT can reach it."""
    if item.get_closest_marker("gpu"):
        from lnfast.backends.trt import cuda
        from lnfast.errors import BackendError

        try:
            cuda.count()
        except BackendError as error:
            pytest.skip(error.message)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """A crash says where it was: Lightning puts back the handlers that Python knows, and faulthandler's is none."""
    if "pytorch_lightning" in sys.modules:
        faulthandler.disable()
        faulthandler.enable(item.config.stash[_STDERR])


@pytest.fixture(scope="session", autouse=True)
def _empty_working_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test writes into the checkout, and no child process imports from it."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("empty"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session", autouse=True)
def _empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test finds an engine or a proof that was left on this machine, and none leaves any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LNFAST_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real studies: ``LNFAST_TEST_DATA``, else ``../shared/data``. Without it tests skip, but not in CI."""
    folder = Path(os.environ.get("LNFAST_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"no test data in {folder}: CI must not skip these tests")
        pytest.skip("no real studies here; set LNFAST_TEST_DATA")
    return folder
