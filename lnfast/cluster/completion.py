"""Whether a study is done already: a whole folder whose report is of this very study, model, engine and rules."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lnfast.engine import Engine
from lnfast.report import SCHEMA, DicomFacts, StudyFacts, folder_name
from lnfast.result import Parts
from lnfast.study import Study

_REPORT_BYTES_AT_MOST = 64 << 20  # of 65535 nodes; more was not written by lnfast


def completed_report(engine: Engine, study: Study, name: str, out: Path, parts: Parts) -> dict[str, Any] | None:
    """Return the report of a study that is done already; None where it must be run.

    The study was read again for this: a file that was replaced since is another study.

    Args:
        engine: that would run it.
        study: as it was read now.
        name: of its folder.
        out: the folder of study folders.
        parts: what has to be there beside the report.
    """
    folder = out / folder_name(name)
    wanted = {"labels.nii.gz", "report.txt"} | ({"report.html"} if parts.html else set())
    if parts.dicom and study.provenance.dicom is not None:
        wanted |= {"seg.dcm", "sr.dcm"}
    report = _read(folder / "report.json")
    if report is None or not all((folder / file).is_file() for file in wanted):
        return None
    return report if _is_of(report, engine, study, name) else None


def _is_of(report: dict[str, Any], engine: Engine, study: Study, name: str) -> bool:
    grid, source, card = study.volume.grid, study.provenance.dicom, engine.model.card
    facts = engine.facts
    study_facts = StudyFacts(
        name=name,
        format=study.provenance.format,
        shape_zyx=grid.shape,
        spacing_zyx_mm=grid.spacing_zyx_mm,
        b_value=study.b_value,
        sha256=study.provenance.sha256,
        dicom=DicomFacts(source.series_number, source.computed_b) if source else None,
    )
    wanted = {
        "schema": SCHEMA,
        "study": asdict(study_facts),
        "model": {
            "name": card.name,
            "version": card.version,
            "sha256": engine.model.sha256,
            "trained_on": card.trained_on,
            "threshold": card.threshold,
            "peak": card.peak,
            "outline": card.outline,
        },
        "rules": asdict(engine.rules),
        "engine": {
            name: getattr(facts, name)
            for name in ("backend", "backend_version", "device", "precision", "engine_sha256", "self_test")
        },
    }
    return study.provenance.sha256 is not None and _holds(report, json.loads(json.dumps(wanted)))


def _holds(content: Any, wanted: Any) -> bool:
    """Whether every entry that is wanted is there; there may be more."""
    if isinstance(wanted, dict):
        return isinstance(content, dict) and all(key in content and _holds(content[key], wanted[key]) for key in wanted)
    return bool(content == wanted)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        if path.stat().st_size > _REPORT_BYTES_AT_MOST:
            return None
        report = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return report if isinstance(report, dict) else None
