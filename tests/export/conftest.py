"""Fixtures of the tests of export: a cache of their own, studies, and two models."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_files import BRIGHT, LARGE, SMALL, deep_blob_network, write_studies
from model_files import make_model_folder

from lnfast.card import Model, load_model


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LNFAST_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three studies with one large and one small node each."""
    return write_studies(tmp_path_factory.mktemp("studies"), (LARGE, BRIGHT), (SMALL, BRIGHT))


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(make_model_folder(tmp_path_factory.mktemp("blob") / "blob"))


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(make_model_folder(tmp_path_factory.mktemp("deep") / "deep", deep_blob_network()))
