"""Fixtures that several test modules use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real studies: ``LNFAST_TEST_DATA``, else ``../shared/data``. Without it tests skip, but not in CI."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LNFAST_TEST_DATA") or beside)
    if not folder.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"no test data in {folder}: CI must not skip these tests")
        pytest.skip("no real studies here; set LNFAST_TEST_DATA")
    return folder
