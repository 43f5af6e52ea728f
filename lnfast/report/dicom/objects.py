"""seg.dcm and sr.dcm of a study that was read from DICOM."""

from __future__ import annotations

import hashlib
import io
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lnfast._version import __version__
from lnfast.geometry import Volume
from lnfast.report.dicom.segmentation import algorithm_parameters, build_segmentation
from lnfast.report.dicom.source import read_header, read_source
from lnfast.report.dicom.structured_report import build_structured_report
from lnfast.report.dicom.uids import UidSource
from lnfast.report.record import Report
from lnfast.study import Study
from lnfast.study.dicom.packages import HIGHDICOM, PYDICOM

SEGMENTATION, STRUCTURED_REPORT = "seg.dcm", "sr.dcm"


def render_dicom(
    study: Study, labels: Volume, report: Report, *, all_frames: bool = False, predecessor: Path | None = None
) -> dict[str, bytes]:
    """The files that are written beside report.json, by name: a report, and a segmentation where there are nodes.

    Their UIDs follow from the images, the model, the engine, the rules, this version and the label map. Their times are
    the report's, or of ``SOURCE_DATE_EPOCH`` where the environment has it, so that the bytes are the same each time.

    Args:
        study: read from DICOM, with its files still there.
        labels: value = node id, of the study's grid.
        report: of the study.
        all_frames: as in `lnfast.report.dicom.segmentation.build_segmentation`.
        predecessor: file of the structured report that this one replaces. Its UID is one of those things from which
            the new UIDs follow, so that they are never the old ones.

    Raises:
        StudyError: ``source-changed`` or ``damaged``.
        BackendError: ``backend-missing`` without pydicom and highdicom.
    """
    for package in (HIGHDICOM, PYDICOM):  # what goes wrong in them further on counts as the files' fault
        package.check_installed()
    source = read_source(study)
    facts = [f"{name}={value}" for name, value in algorithm_parameters(report).items()]
    frames = [f"{uid}:{frame}" for uid, frame in source.frames.values()]
    digest = hashlib.sha256(labels.array.tobytes()).hexdigest()
    previous = None if predecessor is None else read_header(str(predecessor))
    replaced = [] if previous is None else [f"replaces {previous.SOPInstanceUID}"]
    uids = UidSource.of(source.sop_uids, *frames, *facts, __version__, digest, *replaced)
    when = _time(report)
    segmentation = None
    if report.nodes:
        segmentation = build_segmentation(source, labels, report, uids, all_frames=all_frames)
        _stamp(segmentation, when)
    document = build_structured_report(source, labels, report, uids, segmentation, previous)
    _stamp(document, when)
    files = {} if segmentation is None else {SEGMENTATION: _bytes(segmentation)}
    return {**files, STRUCTURED_REPORT: _bytes(document)}


def _time(report: Report) -> datetime:
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch.isdecimal():
        return datetime.fromtimestamp(int(epoch), timezone.utc)
    return datetime.fromisoformat(report.created.replace("Z", "+00:00"))


def _stamp(built: Any, when: datetime) -> None:
    """Set every time of writing; that of the study and of the images stays."""
    date, time = when.strftime("%Y%m%d"), when.strftime("%H%M%S")
    for name in ("InstanceCreation", "Content", "Series"):
        for kind, value in (("Date", date), ("Time", time)):
            if f"{name}{kind}" in built:
                setattr(built, f"{name}{kind}", value)
    built.TimezoneOffsetFromUTC = "+0000"
    for element in built.iterall():
        if element.keyword in ("ObservationDateTime", "ContributionDateTime"):
            element.value = date + time


def _bytes(built: Any) -> bytes:
    buffer = io.BytesIO()
    built.preamble = b"\0" * 128
    built.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
