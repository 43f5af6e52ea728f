"""Runtimes whose packages are missing or broken."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runtime_files import NO_TENSORRT, refusal, show_tensorrt

from lnfast import optional
from lnfast.backends import backend_status, candidates, choice
from lnfast.errors import BackendError


@pytest.mark.usefixtures("no_gpu")
def test_a_missing_runtime(hide: Callable[..., None]) -> None:
    hide("openvino")
    assert {candidate.backend for candidate in candidates()} == {"onnxruntime"}
    with pytest.raises(BackendError, match=r"pip install 'lnfast\[cpu\]'") as caught:
        candidates("openvino")
    assert caught.value.code == "backend-missing"
    hide("openvino", "onnxruntime")
    with pytest.raises(BackendError, match=r"openvino or onnxruntime\): pip install 'lnfast\[cpu\]'") as caught:
        candidates()
    assert caught.value.code == "backend-missing"
    for status, extra in zip(backend_status()[:2], ("cpu", "onnxruntime"), strict=True):
        assert not status.installed and status.mend == f"pip install 'lnfast[{extra}]'"
        assert "not installed" in str(status.problem)


@pytest.mark.usefixtures("no_gpu")
def test_a_broken_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def broken(name: str) -> Any:
        if name == "openvino":
            raise OSError("libtbb.so.12: cannot open shared object file")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", broken)
    assert {candidate.backend for candidate in candidates()} == {"onnxruntime"}
    assert refusal(BackendError, lambda: candidates("openvino")) == "backend-broken"
    status = backend_status()[0]
    assert status.installed and status.devices == () and "libtbb.so.12" in str(status.problem) and status.mend


def test_a_folder_that_an_uninstall_left_is_not_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "left_behind").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    left = optional.Package("x", "left_behind", ("left-behind",), "x")
    assert not left.installed() and left.version() is None and left.present() == ()
    assert not optional.Package("x", "no.such.package", ("left-behind",), "").installed()


@NO_TENSORRT
@pytest.mark.usefixtures("no_gpu")
def test_status_of_this_machine(monkeypatch: pytest.MonkeyPatch, package_there: bool, code: str, message: str) -> None:
    show_tensorrt(monkeypatch, package_there)
    openvino, onnxruntime, tensorrt = backend_status()
    assert [status.name for status in (openvino, onnxruntime, tensorrt)] == ["openvino", "onnxruntime", "tensorrt"]
    for status in (openvino, onnxruntime):
        assert status.installed and status.version and "cpu" in status.devices and "fp32" in status.precisions
        assert status.problem is None and status.mend is None
    assert tensorrt.installed == package_there and tensorrt.devices == tensorrt.precisions == ()
    assert re.search(message, str(tensorrt.problem))
    assert tensorrt.mend == (None if package_there else "pip install 'lnfast[rtx]'")

    monkeypatch.setattr(optional, "_version", lambda name: "1.0")
    status = backend_status()[1]
    assert "installed over each other" in str(status.problem) and str(status.mend).startswith(
        "pip uninstall onnxruntime"
    )


def test_status_survives_whatever_a_runtime_throws(monkeypatch: pytest.MonkeyPatch) -> None:
    def throw() -> None:
        raise SystemError("bad\nthings")

    monkeypatch.setattr(choice.RUNTIMES["openvino"], "offers", throw)
    assert backend_status()[0].problem == "bad things"
