"""Read a study from DICOM: a folder of a series or a study, or an enhanced file, becomes a `Study`.

tags.py      the elements that are read, and how their values are decoded
peek.py      the elements of a plain file, in one pass over its bytes
full.py      frames and pixels of any other file, by pydicom
codestream.py  the size that a compressed frame claims
frames.py    what a frame's header says: its kind, b-value, place and pixels
scan.py      all frames of a folder
select.py    which volume is the high-b trace image
stack.py     sorted, checked and gathered into one array
identity.py  a name without the patient's
reader.py    the stages above, in order

segmentation.py  a DICOM Segmentation, as `lnfast evaluate` takes it
"""

from __future__ import annotations

from lnfast.study.dicom.reader import read_dicom
from lnfast.study.dicom.scan import is_dicom
from lnfast.study.dicom.select import DicomChoice

__all__ = ["DicomChoice", "is_dicom", "read_dicom"]
