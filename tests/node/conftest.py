"""What tests of whole nodes share."""

from __future__ import annotations

from pathlib import Path

import pytest
from exam_files import small_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that runs in milliseconds; it finds the nodes of `exam_files.NODES`."""
    return small_model(tmp_path_factory.mktemp("model") / "small")
