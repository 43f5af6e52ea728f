"""Reports on small label volumes, as the tests of `lnfast.report` and of `lnfast evaluate` use them."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
from blocks import ADMISSION, affine_of, block, make_card

import lnfast
from lnfast.card import Model
from lnfast.geometry import Grid, Volume
from lnfast.measure import Rules, measure_nodes
from lnfast.report import EngineFacts, Notice, Report, make_report, write_study_folder
from lnfast.study import Provenance, Study

REPORT_FILES = {"report.json", "report.txt", "labels.nii.gz"}
TIMINGS_MS = {"read": 5.0, "preprocess": 7.0, "infer": 700.25, "postprocess": 6.0, "measure": 3.0}
TESTS = str(Path(__file__).parent)  # on the path of a child process, for this module
SCHEMA = json.loads((Path(lnfast.__file__).parent / "report.schema.json").read_text(encoding="utf-8"))


def two_nodes() -> Volume:
    """Labels of two nodes on a grid of 1.5 x 1.5 x 6 mm."""
    labels = block((2, 7, 7), affine_of((1.5, 1.5, 6.0)))
    labels.array[8:9, 14:17, 15:19] = 2
    return labels


def report_of(labels: Volume, rules: Rules | None = None, **other: Any) -> Report:
    """The report of a study that is its own label volume; ``other``: of the study, admission, dropped marks, card."""
    rules = rules or Rules()
    nodes = measure_nodes(labels, int(labels.array.max()), rules)
    provenance = other.pop("provenance", Provenance("nifti-1", "a/0000.nii", "ab" * 32))
    study = Study(other.pop("name", "0000"), labels, 1.0, 0.0, other.pop("b_value", 800.0), provenance)
    engine = EngineFacts("openvino", "2026.4.0", "cpu", "int8", "0" * 64, {"passed": True}, choice="fastest here")
    admission, faint = other.pop("admission", ADMISSION), other.pop("faint", ())
    model = Model(Path("nowhere"), make_card(**other))
    return make_report(study, model, engine, rules, nodes, TIMINGS_MS, admission=admission, faint=faint)


def codes(report: Report) -> list[str]:
    """The codes of a report's warnings."""
    return [notice.code for notice in report.warnings]


def check_schema(report: Report | dict[str, Any]) -> None:
    """Validate a report, or the content of a report.json, against report.schema.json."""
    record = report.to_dict() if isinstance(report, Report) else report
    jsonschema.Draft202012Validator(SCHEMA).validate(record)


def summary_of(study: Path) -> dict[str, Any]:
    """The summary of a whole study folder whose parts belong together."""
    assert {path.name for path in study.iterdir()} == REPORT_FILES
    record = json.loads((study / "report.json").read_text(encoding="utf-8"))
    check_schema(record)
    summary: dict[str, Any] = record["summary"]
    voxels = np.frombuffer(gzip.decompress((study / "labels.nii.gz").read_bytes())[352:], "<u2")
    assert voxels.max() == summary["nodes"]
    assert f"of {summary['nodes']} nodes" in (study / "report.txt").read_text(encoding="utf-8")
    return summary


def study_of(volume: Volume, **other: Any) -> Study:
    """A study of b = 800 whose voxels are a volume; ``other``: fields of `Study`."""
    facts = {"slope": 1.0, "inter": 0.0, "b_value": 800.0, "provenance": Provenance("nifti-1", "a.nii", "ab" * 32)}
    return Study(name="0000", volume=volume, **(facts | other))


def many_nodes(count: int) -> Volume:
    """Nodes of growing size in rows; from the 21st on over the limit in every direction."""
    labels = np.zeros((4 * 12, 60, 120), np.uint16)
    for number in range(count):
        z, y, x = 4 * (number // 40), 12 * (number // 10 % 4) + 1, 11 * (number % 10) + 1
        size = 3 if number < 20 else 7
        labels[z : z + 3, y : y + size, x : x + size] = number + 1
    return Volume(labels, Grid(labels.shape, affine_of((1.5, 1.5, 3.0))))


EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;${name}$title\u202e\u2028\udc80\x00-->"


def evil_report(labels: Volume) -> Report:
    """A report whose every text from a file or header is `EVIL`."""
    report = report_of(labels, name=EVIL)
    return replace(
        report,
        study=replace(report.study, format=EVIL),
        model=replace(report.model, trained_on=EVIL, name=EVIL, version=EVIL),
        engine=replace(
            report.engine, device=EVIL, choice=EVIL, certificate={"studies": EVIL, "dice": {EVIL: EVIL}, EVIL: EVIL}
        ),
        warnings=(Notice("note", EVIL), Notice("rules-disagree", EVIL)),
    )


def write_report(labels: Volume, out: Path) -> tuple[Path, Report]:
    """Write the study folder ``a`` of `report_of` a label volume."""
    return write_study_folder(report_of(labels), labels, out, "a")


def report_and_labels(sha256: str) -> tuple[Report, Volume]:
    """A report on the study of a hash."""
    labels = two_nodes()
    return report_of(labels, provenance=Provenance("nifti-1", "dwi.nii", sha256)), labels
