"""The command `lnfast export`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from engine_files import (
    nodes_of,
)
from model_files import blob_network, make_model_folder

from lnfast.backends.engine.manifest import MANIFEST
from lnfast.card import Model, load_model
from lnfast.cli import main
from lnfast.errors import ModelError, UsageError


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in ("export", *arguments)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_command_makes_an_engine(
    tmp_path: Path, blob: Model, studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ("--target", "openvino", "--precision", "fp32", "--calibration", studies, "--no-windows")
    assert command(blob.folder, "-o", tmp_path / "out", *wanted) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"openvino fp32 in {tmp_path / 'out'}: certified on 2 studies (2 of 3 studies")
    assert "0 stage flips" in printed.out
    assert all(line.startswith("lnfast: ") for line in printed.err.splitlines())
    assert command(blob.folder, "-o", tmp_path / "out", *wanted, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["folder"] == str(tmp_path / "out")
    assert result["manifest"] == json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert result["manifest"]["certificate"]["passed"] is True


def test_the_command_takes_a_bare_graph(tmp_path: Path, studies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = tmp_path / "bare"
    make_model_folder(bare)
    (bare / "probe.npz").unlink()
    (bare / "model.onnx").rename(bare / "mine.onnx")
    wanted = ("--target", "onnxruntime", "--precision", "fp32", "--calibration", studies)
    assert command(bare / "mine.onnx", "-o", tmp_path / "out", *wanted) == 0
    assert "making a probe for mine.onnx" in capsys.readouterr().err
    probe = load_model(tmp_path / "out").probe
    assert probe.mask.any() and probe.ellipsoid_short_mm is not None
    assert nodes_of(tmp_path / "out", studies / "study1.nii.gz")

    (bare / "card.json").rename(tmp_path / "elsewhere.json")
    assert command(bare / "mine.onnx", "-o", tmp_path / "out2", *wanted) == ModelError.exit_code
    assert "lnfast: model-incomplete: " in capsys.readouterr().err
    assert command(bare / "mine.onnx", "-o", tmp_path / "out2", *wanted, "--card", tmp_path / "elsewhere.json") == 0
    blind = make_model_folder(tmp_path / "blind", blob_network(at=1e4))
    assert command(blind / "model.onnx", "-o", tmp_path / "out3", *wanted) == ModelError.exit_code
    assert "lnfast: blank: " in capsys.readouterr().err


def test_the_command_says_what_is_wrong(
    tmp_path: Path, blob: Model, studies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def last_line(*arguments: object) -> tuple[int, str]:
        code = command(*arguments)
        return code, capsys.readouterr().err.strip().splitlines()[-1]

    code, line = last_line(tmp_path / "last.ckpt", "-o", tmp_path / "out")
    assert code == UsageError.exit_code == 2 and line.startswith("lnfast: checkpoint: ")
    assert "python -m training export" in line
    code, line = last_line(blob.folder, "-o", tmp_path / "out", "--target", "coreml")
    assert code == 2 and "coreml" in line
    code, line = last_line(blob.folder, "-o", tmp_path / "out", "--target", "openvino", "--precision", "fp16")
    assert code == 2 and line.startswith("lnfast: unknown-precision: ")
    code, line = last_line(blob.folder, "--card", tmp_path / "card.json", "-o", tmp_path / "out")
    assert code == 2 and line.startswith("lnfast: bad-card: ")
    code, line = last_line(tmp_path / "bare.onnx", "--card", tmp_path / "card.json")
    assert code == 2 and line.startswith("lnfast: no-output: ")
    code, line = last_line(blob.folder, "-o", studies, "--target", "onnxruntime", "--calibration", studies)
    assert code == 2 and line.startswith("lnfast: output-exists: ")
    assert not (tmp_path / "out").exists()
