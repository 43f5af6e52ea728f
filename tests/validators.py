"""``validate.sh``: independent validators and readers of SEG and SR, beside the real series.

It installs what it runs (Debian's packages as root, PyPI, npm), so the first call takes a minute.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from dicom_network import system_path

# All but the one that needs the standard's text, which it would download.
CHECKS = (
    "dciodvfy dciodvfy_debian dcentvfy dcmtk_dump dsrdump pixelmed pydicom_strict references highdicom_read dcmqi_seg"
)
CHECKS += " dcmqi_sr dcmjs dcmtk_store orthanc labels"


def validators(shared_data: Path) -> Path:
    """Path of the script; without it or root the test skips, but not in CI."""
    path = shared_data.parent / "dicom" / "validate.sh"
    if not path.is_file() or os.geteuid() != 0:
        if os.environ.get("CI"):
            pytest.fail(f"no validators in {path}, or not root: CI must not skip these tests")
        pytest.skip("the validators are not here, or cannot be installed without root")
    return path


def validate(
    script: Path, results: Path, source: Path, labels: Path, checks: str = CHECKS
) -> subprocess.CompletedProcess[str]:
    """Check the objects in a folder against their source images and their label map; every check must run."""
    command = ["bash", str(script), str(results), str(source), "--require-all", "--only", checks.replace(" ", ",")]
    return subprocess.run(
        [*command, "--labels", str(labels)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PATH": system_path()},
    )
