"""`lnfast doctor`: what it says of a machine, with the model that ships."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from typing import Any

import pytest
from command_line import lnfast

from lnfast import __version__
from lnfast.errors import BackendError
from lnfast.optional import Package
from lnfast_ext import instruction_set


def test_doctor_says_what_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert lnfast("doctor", "--json") == 0
    output = json.loads(capsys.readouterr().out)
    assert output["lnfast"] == __version__
    assert output["kernels"] == instruction_set()
    assert {row["name"] for row in output["backends"]} == {"openvino", "onnxruntime", "tensorrt"}
    (model,) = (row for row in output["models"] if row["name"] == "pelvic-ln-edge")
    assert model["problem"] is None
    assert output["auto"]["error"] is None
    assert output["auto"]["self_test"]["dice"] >= 0.98
    assert lnfast("doctor") == 0
    text = capsys.readouterr().out
    assert f"auto takes {output['auto']['name']}" in text
    assert max(map(len, text.splitlines())) <= 100 or "self-test passed" in max(text.splitlines(), key=len)


def test_doctor_says_where_instructions_are_limited(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert lnfast("doctor") == 0
    assert "limited to AVX2" in capsys.readouterr().out


def test_doctor_says_what_of_dicom_can_be_read_and_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def status() -> tuple[dict[str, Any], str]:
        lnfast("doctor", "--json")
        record = json.loads(capsys.readouterr().out)["dicom"]
        lnfast("doctor")
        return record, " ".join(capsys.readouterr().out.split())

    monkeypatch.setattr(sys.modules["lnfast.cli.doctor"], "_auto", lambda: {"error": "none of this test"})
    record, text = status()
    assert record == {
        "pydicom": metadata.version("pydicom"),
        "highdicom": metadata.version("highdicom"),
        "decoders": {"RLE": True, "JPEG-LS": True, "JPEG 2000": True},
        "problem": None,
        "mend": None,
    }
    assert f"DICOM: reads any file (pydicom {record['pydicom']}; decodes RLE, JPEG-LS, JPEG 2000), writes seg" in text

    installed = Package.installed
    absent = {"openjpeg", "highdicom"}
    monkeypatch.setattr(Package, "installed", lambda self: self.module not in absent and installed(self))
    record, text = status()
    assert record["decoders"] == {"RLE": True, "JPEG-LS": True, "JPEG 2000": False} and record["highdicom"] is None
    assert "writes nothing DICOM: without highdicom, pylibjpeg-openjpeg; mend: pip install 'lnfast[dicom]'" in text
    absent.add("pydicom")
    record, text = status()
    assert not any(record["decoders"].values())
    assert "DICOM: reads plain files only, writes nothing" in text


def test_doctor_where_nothing_runs_exits_5_and_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lnfast.optional.Package.installed", lambda _: False)
    assert lnfast("doctor") == BackendError.exit_code
    text = " ".join(capsys.readouterr().out.split())
    assert "nothing can run: backend-missing" in text
    assert "pip install 'lnfast[cpu]'" in text
