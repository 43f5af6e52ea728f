"""The shortest way from nothing to a report: ``fit --quick``, ``export``, and the runtime runs the result."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("pytorch_lightning")
pytest.importorskip("onnx")

import lnfast
from lnfast.errors import ModelError, UsageError
from lnfast.phantom import make_phantom
from training import __main__ as program
from training.data.phantom_seeds import SMALL_FIELDS


def test_quick_trains_exports_and_the_runtime_runs_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, model = tmp_path / "run", tmp_path / "model"
    program.main(["fit", str(run), "--preset", "edge", "--quick"], standalone_mode=False)
    program.main(["export", str(run), "-o", str(model), "--name", "quick"], standalone_mode=False)
    study = make_phantom(3, protocol=SMALL_FIELDS[0])
    with lnfast.Engine(model=model) as engine:
        result = engine.run(study.volume)
    assert result.labels.array.shape == study.labels.shape
    stderr = capsys.readouterr().err
    assert "Lightning" not in stderr and "Warning" not in stderr


def test_errors_of_the_program_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, code in (
        (["fit", str(tmp_path / "run")], "no-cases"),
        (["fit", str(tmp_path / "run"), "--phantoms", "0-3"], "reserved-seed"),
        (["export", str(tmp_path), "-o", str(tmp_path / "model")], "no-snapshot"),
    ):
        monkeypatch.setattr(sys, "argv", ["training", *arguments])
        assert program.run() in (UsageError.exit_code, ModelError.exit_code)
        stderr = capsys.readouterr().err
        assert stderr.startswith(f"{code}: ") and stderr.count("\n") == 1
