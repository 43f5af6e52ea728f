"""The report of a study, for radiologists and for programs.

record.py    Report: its content in the order of report.schema.json, as JSON and as text
content.py   the facts that a report states
notices.py   warnings for the reader of the numbers
lengths.py   how lengths and positions are written
text.py      report.txt
folder.py    OUT/<study>/, whole or not at all
page/        report.html; imported when a page is made
dicom/       seg.dcm and sr.dcm; imported when they are made
names.py     distinct folder names for a batch
"""

from __future__ import annotations

from lnfast.report.content import DISCLAIMER, SCHEMA, DicomFacts, EngineFacts, ModelFacts, StudyFacts
from lnfast.report.folder import add_files, add_page, folder_name, write_study_folder
from lnfast.report.names import distinct_names, folder_names
from lnfast.report.notices import Notice
from lnfast.report.record import Report, make_report

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
    "folder_names",
    "make_report",
    "write_study_folder",
]
