"""The content of a report, its schema and its text."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from blocks import ADMISSION, affine_of, make_card
from reports import SCHEMA, TIMINGS_MS, check_schema, codes, report_of, two_nodes

from lnfast.card import Model
from lnfast.geometry import Grid, Volume
from lnfast.measure import LymphNode, Rules
from lnfast.report import DISCLAIMER, EngineFacts, make_report, write_study_folder
from lnfast.report.lengths import length_text
from lnfast.report.text import WIDTH, image_text
from lnfast.study import DicomSource, Provenance, study_from_array


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("rules", [Rules(), Rules(short_axis="axial", suspicious_mm=6.5)])
def test_a_report_is_of_its_schema_in_the_order_of_its_schema(rules: Rules) -> None:
    record = report_of(two_nodes(), rules).to_dict()
    check_schema(record)
    assert list(record) == SCHEMA["required"]
    for part in ("study", "model", "engine", "rules", "summary", "timings_ms"):
        assert list(record[part]) == list(SCHEMA["properties"][part]["properties"])
    assert list(record["nodes"][0]) == list(SCHEMA["$defs"]["node"]["properties"])


def test_a_report_survives_json_to_the_last_bit() -> None:
    report = report_of(two_nodes())
    assert json.loads(report.json()) == report.to_dict()
    assert json.loads(report.json())["nodes"][0]["box_mm"][0] == report.nodes[0].box_mm[0]
    assert report.json().isascii()


@pytest.mark.parametrize(
    ("number", "computed", "b_value", "text"),
    [
        (6, False, 800.0, "series 6, b = 800 s/mm2"),
        (8, True, 1400.0, "series 8, computed b = 1400 s/mm2"),
        (None, False, None, "series without a number, b-value unknown"),
    ],
)
def test_a_report_of_dicom_names_the_series_and_the_b_value(
    number: int | None, computed: bool, b_value: float | None, text: str
) -> None:
    source = DicomSource(number, computed, (("SECRET.dcm", 0),))
    report = report_of(two_nodes(), b_value=b_value, provenance=Provenance("dicom", "SECRET", "ab" * 32, dicom=source))
    assert image_text(report.study) == text
    line = report.text().splitlines()[2]
    assert line.startswith(f"Study           0000 (dicom, {text}, ") and "SECRET" not in report.text()


def test_a_report_of_nifti_names_the_b_value_alone() -> None:
    assert report_of(two_nodes()).text().splitlines()[2].startswith("Study           0000 (nifti-1, b = 800 s/mm2, ")


def test_the_summary_follows_the_nodes() -> None:
    report = report_of(two_nodes())
    first = report.nodes[0]
    assert report.to_dict()["summary"] == {
        "nodes": 2,
        "suspicious": 1,
        "largest": {"id": 1, "short_axis_mm": first.short_axis_mm, "volume_mm3": first.volume_mm3},
        "n_stage": "N1",
        "n_stage_by_rule": {"box": "N1", "axial": "N1", "ellipsoid": None},
    }


def test_without_nodes_the_stage_is_n0_and_nothing_is_largest() -> None:
    report = report_of(Volume(np.zeros((4, 20, 20), np.uint16), Grid((4, 20, 20), affine_of((1.5, 1.5, 6.0)))))
    check_schema(report)
    summary = report.to_dict()["summary"]
    assert summary["largest"] is None
    assert summary["n_stage"] == "N0"
    assert "No lymph node was found." in report.text()


def test_an_array_in_memory_has_no_hash_and_no_b_value() -> None:
    labels = two_nodes()
    study = study_from_array(labels.array, labels.grid.affine)
    model = Model(Path("nowhere"), make_card())
    engine = EngineFacts("onnxruntime", "1.30", "cpu", "fp32", None)
    report = make_report(study, model, engine, Rules(), (), TIMINGS_MS, admission=ADMISSION)
    check_schema(report)
    assert report.to_dict()["study"]["sha256"] is None
    assert codes(report) == ["unknown-b-value"]


def test_total_is_the_sum_of_the_stages() -> None:
    report = report_of(two_nodes())
    assert report.timings_ms["write"] == 0.0
    assert report.timings_ms["total"] == pytest.approx(721.25)
    assert report.written_in(8.0).timings_ms["total"] == pytest.approx(729.25)


def wrong_reports() -> list[tuple[str, Any]]:
    return [
        ("schema", "lnfast.report/2"),
        ("created", "yesterday"),
        ("summary.n_stage", "N2"),
        ("summary.largest", {}),
        ("engine.self_test", "failed"),
        ("rules.short_axis", "longest"),
        ("rules.connectivity", 6),
        ("nodes.0.box_mm", [1.0, 2.0]),
        ("nodes.0.short_axis_mm", "11"),
        ("nodes.0.volume_mm3", 0),
        ("nodes.0.suspicious", None),
        ("study.patient_name", "Doe"),
        ("timings_ms.write", None),
        ("warnings", [{"code": "Not A Code", "message": "x"}]),
    ]


@pytest.mark.parametrize(("path", "value"), wrong_reports())
def test_the_schema_refuses_what_is_wrong(path: str, value: Any) -> None:
    record = report_of(two_nodes()).to_dict()
    *way, last = path.split(".")
    part: Any = record
    for step in way:
        part = part[int(step) if step.isdigit() else step]
    part[last] = value
    with pytest.raises(jsonschema.ValidationError):
        check_schema(record)


def test_the_schema_refuses_what_is_missing() -> None:
    whole = report_of(two_nodes()).to_dict()
    for key in whole:
        with pytest.raises(jsonschema.ValidationError):
            check_schema({remaining: value for remaining, value in whole.items() if remaining != key})


def test_a_number_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    labels = two_nodes()
    report = report_of(labels)
    broken = replace(report, nodes=(replace(report.nodes[0], volume_mm3=math.nan),))
    with pytest.raises(ValueError, match="JSON"):
        write_study_folder(broken, labels, tmp_path, "a")
    assert not list(tmp_path.iterdir())


def test_the_text_says_what_the_radiologist_s_report_says() -> None:
    text = report_of(two_nodes()).text()
    assert "N stage         N1 by the size criterion" in text
    assert "Suspicious      1 of 2 nodes (short diameter > 8 mm)" in text
    assert "node 1: short diameter 1.05 cm (10.5 mm), volume 1.32 cm3" in text
    assert "10.5 x 10.5 x 12.0" in text
    assert " ".join(DISCLAIMER.split()) in " ".join(text.split())
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= WIDTH


def test_the_text_takes_any_name_and_any_line() -> None:
    warnings = (("long", "a very long story " * 20), ("odd", "caf\u00e9\x07"))
    provenance = Provenance("nifti-1", warnings=warnings, notes=("took volume 2 of 3, b = 800",))
    report = report_of(two_nodes(), name="\x1b[31mn\u00f6de\n\udc80" + "x" * 300, provenance=provenance)
    text = report.text()
    assert text.replace("\n", "").isprintable()
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "took volume 2 of 3" in text
    check_schema(report)


@pytest.mark.parametrize(
    ("value_mm", "text"),
    [(11.23, "11.2"), (8.04, "8.04"), (8.0, "8.0"), (7.96, "8.0"), (8.000002, "8.000002"), (8.0000005, "8.0")],
)
def test_a_length_reads_on_the_side_of_the_limit_where_it_is(value_mm: float, text: str) -> None:
    assert length_text(value_mm, Rules()) == text


def test_nothing_of_a_node_is_lost(tmp_path: Path) -> None:
    labels = two_nodes()
    report = report_of(labels)
    for entry, node in zip(report.to_dict()["nodes"], report.nodes, strict=True):
        x, y, z = (tuple(axis) for axis in entry["box_axes_ras"])
        tuples = {key: tuple(value) for key, value in entry.items() if key.endswith("_mm") and isinstance(value, list)}
        assert LymphNode(**{**entry, **tuples, "box_axes_ras": (x, y, z)}) == node
