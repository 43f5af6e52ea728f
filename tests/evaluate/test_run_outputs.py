"""Reports beside predictions: who predicted, by which rules, and where a report and its label map disagree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blocks import affine_of, block
from reports import report_of

from lnfast.cli.show_evaluation import show_metrics
from lnfast.evaluate.evaluation import Evaluation, evaluate
from lnfast.evaluate.inputs.pairing import pair_up
from lnfast.evaluate.output.metrics import metrics
from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules
from lnfast.study.label_writer import label_map_bytes

SHAPE_ZYX = (6, 12, 12)


def write_map(path: Path) -> Path:
    """One cube of 9 mm: N1 by either rule."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(SHAPE_ZYX, np.uint16)
    labels[1:4, 1:4, 1:4] = 1
    path.write_bytes(label_map_bytes(Volume(labels, Grid(SHAPE_ZYX, affine_of((3.0,) * 3)))))
    return path


def report(**changes: Any) -> dict[str, Any]:
    return {
        "schema": "lnfast.report/1",
        "model": {"name": "edge", "version": "1.0"},
        "engine": {"backend": "openvino", "precision": "int8"},
        "rules": {"short_axis": "box", "suspicious_mm": 8.0},
        "summary": {"n_stage_by_rule": {"box": "N1", "axial": "N1", "ellipsoid": None}},
        **changes,
    }


def evaluated(tmp_path: Path, *reports: dict[str, Any] | str | None) -> Evaluation:
    """Runs a, b, ... beside their truths; None for a run without a report."""
    for name, content in zip("abcdef", reports, strict=False):
        write_map(tmp_path / "truth" / f"{name}.nii.gz")
        file = write_map(tmp_path / "runs" / name / "labels.nii.gz").with_name("report.json")
        if content is not None:
            file.write_text(content if isinstance(content, str) else json.dumps(content))
    return evaluate(pair_up(tmp_path / "runs", tmp_path / "truth"), Rules())


def about_reports(evaluation: Evaluation) -> dict[str, str]:
    return {code: message for code, message in evaluation.notes if code != "no-groups"}


def test_who_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = evaluated(tmp_path, report(), report(), None)
    assert about_reports(evaluation) == {}
    content = metrics(evaluation)
    assert content["predictions_by"] == {
        "model": {"name": "edge", "version": "1.0"},
        "engine": {"backend": "openvino", "precision": "int8"},
        "studies": 2,
    }
    show_metrics(content, tmp_path)
    assert "\n2 predicted by edge 1.0, openvino int8\n" in capsys.readouterr().out


def test_our_own_report_is_understood(tmp_path: Path) -> None:
    own = report_of(block((3, 3, 3), affine_of((3.0,) * 3)))
    evaluation = evaluated(tmp_path, own.json())
    assert about_reports(evaluation) == {}
    assert metrics(evaluation)["predictions_by"] == {
        "model": {"name": own.model.name, "version": own.model.version},
        "engine": {"backend": "openvino", "precision": "int8"},
        "studies": 1,
    }


def test_several_who_predicted(tmp_path: Path) -> None:
    different = report(engine={"backend": "onnxruntime", "precision": "fp32"})
    entries = metrics(evaluated(tmp_path, report(), different, report()))["predictions_by"]
    assert [(entry["engine"]["backend"], entry["studies"]) for entry in entries] == [
        ("onnxruntime", 1),
        ("openvino", 2),
    ]


def test_label_maps_without_reports_name_nobody(tmp_path: Path) -> None:
    assert metrics(evaluated(tmp_path, None))["predictions_by"] is None


def test_runs_by_other_rules_are_told_once(tmp_path: Path) -> None:
    axial = report(rules={"short_axis": "axial", "suspicious_mm": 8.0})
    ten = report(rules={"short_axis": "box", "suspicious_mm": 10.0})
    notes = about_reports(evaluated(tmp_path, axial, report(), ten, axial))
    assert notes == {
        "rules-differ": "3 of 4 runs called nodes suspicious by short axis axial over 8 mm (2), short axis box over "
        "10 mm (1), this evaluation by short axis box over 8 mm: its suspicious nodes and stages are not those of the "
        "reports"
    }


def test_a_report_that_says_another_stage_by_the_same_rule(tmp_path: Path) -> None:
    """By another limit, or without a stage by this rule, there is nothing to compare."""
    n0 = {"n_stage_by_rule": {"box": "N0", "axial": "N1", "ellipsoid": None}}
    # Judged by another short axis, the report still says the stage by this one.
    axial = report(rules={"short_axis": "axial", "suspicious_mm": 8.0}, summary=n0)
    other_limit = report(rules={"short_axis": "box", "suspicious_mm": 12.0}, summary=n0)
    silent = report(summary={"n_stage_by_rule": {"box": None}})
    notes = about_reports(evaluated(tmp_path, report(summary=n0), report(), axial, other_limit, silent))
    assert set(notes) == {"rules-differ", "stage-differs"}
    assert notes["stage-differs"].endswith(" by the same rule: a (N0, here N1), c (N0, here N1)")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"schema": "lnfast.report/1", "model": 3}', '"\\ud800"'])
def test_what_is_no_report_is_told(tmp_path: Path, content: str) -> None:
    evaluation = evaluated(tmp_path, report(), content)
    assert about_reports(evaluation) == {
        "bad-report": "report.json cannot be read as lnfast.report/1 and was passed over: b"
    }
    assert metrics(evaluation)["predictions_by"]["studies"] == 1
