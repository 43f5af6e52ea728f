"""The logger "lnfast": which engine serves, which was passed over, and silence where no handler was added."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from model_files import make_model_folder

from lnfast import serving
from lnfast.backends import Candidate
from lnfast.engine import Engine

UNTRUSTED = Candidate("openvino", "cpu", "bf16", "first")
FP32 = Candidate("openvino", "cpu", "fp32", "second")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LNFAST_CACHE", str(tmp_path / "cache"))
    return make_model_folder(tmp_path / "tiny")


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(level, text) for name, level, text in caplog.record_tuples if name == "lnfast"]


def test_the_engine_that_serves_is_named_at_info(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lnfast")
    with Engine(folder, "openvino", "cpu", "fp32") as engine:
        info = engine.info
    ((level, text),) = lines(caplog)
    assert level == logging.INFO
    assert f"is served by openvino {info.version} on {info.device} in fp32: requested by name" in text


def test_what_was_passed_over_is_a_warning_with_the_reason(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lnfast.errors import EngineError

    true_proven = serving._proven

    def proven(model: object, option: Candidate, *arguments: object) -> object:
        if option is UNTRUSTED:
            raise EngineError("self-test-failed", "Dice 0.5")
        return true_proven(model, option, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(serving, "each_candidate", lambda *_: iter((UNTRUSTED, FP32)))
    monkeypatch.setattr(serving, "_proven", proven)
    caplog.set_level(logging.INFO, "lnfast")
    with Engine(folder) as engine:
        choice = engine.choice
    (warning_level, message), (info_level, served) = lines(caplog)
    assert (warning_level, info_level) == (logging.WARNING, logging.INFO)
    assert message == "passed over openvino on cpu in bf16: self-test-failed: Dice 0.5"
    assert served.endswith(f": {choice}")


def test_without_a_handler_nothing_is_printed(tmp_path: Path) -> None:
    code = "import logging, lnfast.serving; logging.getLogger('lnfast').warning('heard by nobody')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
