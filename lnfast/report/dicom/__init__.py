"""A report as DICOM objects: a Segmentation of the nodes and a Structured Report of the measurements.

    codes.py              coded concepts
    uids.py               UIDs that follow from the content
    source.py             the images that the result was made of
    segmentation.py       SEG, one binary segment a node
    structured_report.py  SR, TID 1500
    objects.py            both as files

highdicom builds both; what it leaves to chance or references too much is set afterwards.
"""

from __future__ import annotations

from lnfast.report.dicom.objects import SEGMENTATION, STRUCTURED_REPORT, render_dicom

__all__ = ["SEGMENTATION", "STRUCTURED_REPORT", "render_dicom"]
