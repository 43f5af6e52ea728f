"""Fixtures of the tests of backends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from fake_gpu import Gpu
from model_files import SHAPE_ZYX, make_model_folder, network
from numpy.typing import NDArray
from trt_files import RTX

from lnfast import optional
from lnfast.backends import choice, trt
from lnfast.backends import ort as ort_backend
from lnfast.backends.trt import cuda, toolkit
from lnfast.card import Model, load_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(make_model_folder(tmp_path_factory.mktemp("model"), network()))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Test what holds without an NVIDIA GPU on machines with a GPU as well."""
    for module in (choice, ort_backend, trt):
        monkeypatch.setattr(module, "nvidia_gpus", lambda: 0)


@pytest.fixture
def study() -> NDArray[np.float32]:
    return np.random.default_rng(7).standard_normal((1, 1, *SHAPE_ZYX)).astype(np.float32)


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Make packages look as if they were not installed."""
    real = optional.find_spec

    def hide(*names: str) -> None:
        monkeypatch.setattr(optional, "find_spec", lambda name: None if name in names else real(name))

    return hide  # type: ignore[return-value]


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
