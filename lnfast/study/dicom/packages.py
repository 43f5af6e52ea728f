"""The packages that DICOM needs: pydicom to read what is not plain, highdicom to write."""

from __future__ import annotations

from lnfast.optional import Package

PYDICOM = Package("reading this DICOM file", "pydicom", ("pydicom",), "dicom")
HIGHDICOM = Package("writing seg.dcm and sr.dcm", "highdicom", ("highdicom",), "dicom")
