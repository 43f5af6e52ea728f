"""What the engine says of a study, for a radiologist and for a machine.

record.py    Report: everything that is said, in the order of report.schema.json
notices.py   what the reader of the numbers must know
text.py      report.txt
folder.py    OUT/<study>/, whole or not at all
labels.py    labels.nii.gz
page/        report.html; imported when a page is made
dicom/       seg.dcm and sr.dcm; imported when they are made
    names.py     folder names for a batch, of which no two are alike
"""

from __future__ import annotations

from lnfast.report.folder import add_files, add_page, folder_name, write_study_folder
from lnfast.report.names import distinct_names
from lnfast.report.notices import Notice
from lnfast.report.record import (
    DISCLAIMER,
    SCHEMA,
    DicomFacts,
    EngineFacts,
    ModelFacts,
    Report,
    StudyFacts,
    make_report,
)

__all__ = [
    "DISCLAIMER",
    "SCHEMA",
    "DicomFacts",
    "EngineFacts",
    "ModelFacts",
    "Notice",
    "Report",
    "StudyFacts",
    "add_files",
    "add_page",
    "distinct_names",
    "folder_name",
    "make_report",
    "write_study_folder",
]
