"""Fixtures of the tests of backends."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from fake_gpu import Gpu
from trt_files import RTX

from lnfast import optional
from lnfast.backends import trt
from lnfast.backends.trt import cuda, toolkit


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Callable[[Gpu], Gpu]:
    def into(gpu: Gpu) -> Gpu:
        monkeypatch.setattr(cuda, "PACKAGE", SimpleNamespace(load=lambda: gpu.core))
        monkeypatch.setattr(cuda, "_BINDINGS", SimpleNamespace(load=lambda: gpu))
        missing = optional.Package("backend tensorrt", "not_there", ("not-there",), "not-there")
        monkeypatch.setitem(toolkit.PACKAGES, "tensorrt", missing)
        monkeypatch.setitem(toolkit.PACKAGES, RTX, SimpleNamespace(load=lambda: gpu.trt, installed=lambda: True))
        monkeypatch.setattr(toolkit, "_toolkits", {})
        monkeypatch.setattr(trt, "nvidia_gpus", cuda.count)
        return gpu

    return into
