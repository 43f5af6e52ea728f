"""Real DICOM series."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data(shared_data: Path) -> Path:
    """Folder of real DICOM series, beside that of the real NIfTI studies."""
    return shared_data.parent / "dicom" / "data"
