"""The unit of systemd, checked by systemd itself and against what the node does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lnfast.errors import UsageError
from lnfast.node import service
from lnfast.node.config.templates import unit_text
from lnfast.node.monitor import life

DOCUMENT = Path(__file__).parents[2] / "docs" / "node.md"
PROGRAM = "/opt/lnfast/bin/lnfast "


@pytest.fixture(scope="module")
def analyze() -> str:
    path = shutil.which("systemd-analyze")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("no systemd-analyze on the path: CI must not skip these tests")
        pytest.skip("needs systemd-analyze")
    return path


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that is here in place of the one that is installed on a box."""
    text = unit_text()
    assert text.count(PROGRAM) == 1
    path = tmp_path / "lnfast-node.service"
    path.write_text(text.replace(PROGRAM, f"{sys.executable} "))
    return path


def settings() -> dict[str, str]:
    return dict(line.split("=", 1) for line in unit_text().splitlines() if re.match(r"[A-Z]\w+=", line))


def test_systemd_has_nothing_to_say_of_the_unit(analyze: str, unit: Path) -> None:
    done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_exposure_is_what_the_document_says(analyze: str, unit: Path) -> None:
    command = [analyze, "security", "--offline=yes", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    exposure = re.search(r"Overall exposure level for lnfast-node.service: ([\d.]+) OK", done.stdout)
    assert exposure is not None, done.stdout + done.stderr
    document = re.search(r"calls its exposure ([\d.]+) of 10", DOCUMENT.read_text(encoding="utf-8"))
    assert document is not None and float(exposure[1]) <= float(document[1])


def test_the_unit_fits_what_the_node_does() -> None:
    unit = settings()
    assert unit["Type"] == "notify" and unit["NotifyAccess"] == "main"
    assert float(unit["WatchdogSec"]) > life.IDLE_S, "a thread may be silent for so long"
    assert float(unit["TimeoutStopSec"]) > service.DRAIN_S, "the exam that is run may end"
    assert unit["RestartPreventExitStatus"] == str(UsageError.exit_code)
    assert unit["LimitCORE"] == "0" and unit["UMask"] == "0077"
    assert unit["ProtectSystem"] == "strict" and unit["StateDirectory"] == unit["CacheDirectory"] == "lnfast"
    assert "MemoryDenyWriteExecute" not in unit, "OpenVINO writes machine code"


def test_the_document_and_the_unit_name_the_same_places() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert PROGRAM.strip() in text
    for place in ("/etc/lnfast/node.toml", "/var/cache/lnfast", "/etc/systemd/system/lnfast-node.service"):
        assert place in text
    assert settings()["ExecStart"].endswith("--config /etc/lnfast/node.toml")
    assert settings()["Environment"] == "LNFAST_CACHE=/var/cache/lnfast"
