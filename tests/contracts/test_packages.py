"""Application packages: folders by options, and by the names of MONAI Deploy."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import lnfast as command
from exam_files import small_model, write_exam

OBJECTS = {"seg.dcm", "sr.dcm"}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    model = small_model(tmp_path_factory.mktemp("model"))
    return ["--model", str(model), "--backend", "onnxruntime", "--precision", "fp32", "--no-html"]


def test_folders_are_named_by_options(options: list[str], tmp_path: Path) -> None:
    write_exam(tmp_path / "in", "a")
    assert command("run", "-i", tmp_path / "in", "-o", tmp_path / "out", *options) == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert {path.name for path in folder.iterdir()} >= OBJECTS


def test_folders_are_named_by_the_environment(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_exam(tmp_path / "in", "a")
    (tmp_path / "out").mkdir()
    monkeypatch.setenv("HOLOSCAN_INPUT_PATH", str(tmp_path / "in"))
    assert command("run", "--contract", "monai", *options) == 2
    assert "HOLOSCAN_OUTPUT_PATH is not set" in capsys.readouterr().err
    monkeypatch.setenv("HOLOSCAN_OUTPUT_PATH", str(tmp_path / "out"))
    assert command("run", "--contract", "monai", *options) == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert {path.name for path in folder.iterdir()} >= OBJECTS
    assert command("run", "--contract", "monai", "-i", tmp_path / "in", *options) == 2
    assert "leave out '-i' / '--input'" in capsys.readouterr().err


def test_a_refused_study_is_no_success(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_exam(tmp_path / "in", "a", slices=7)
    (tmp_path / "out").mkdir()
    monkeypatch.setenv("HOLOSCAN_INPUT_PATH", str(tmp_path / "in"))
    monkeypatch.setenv("HOLOSCAN_OUTPUT_PATH", str(tmp_path / "out"))
    assert command("run", "--contract", "monai", *options) == 3
    assert list((tmp_path / "out").iterdir()) == []


def test_a_study_is_still_wanted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert command("run", "-o", tmp_path / "out") == 2
    assert "Missing argument 'STUDY...'" in capsys.readouterr().err
