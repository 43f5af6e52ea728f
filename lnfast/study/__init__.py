"""Read a study: NIfTI, DICOM or an array becomes a `Study`: one diffusion-weighted volume and where it is from.

    stored.py    bytes, plain or gzip, each read once under a cap
    nifti.py     the header of NIfTI-1 and NIfTI-2, checked before anything else is read
    tail.py      bytes behind the voxels: a harmless tail, or a header that is not this file's
    bvalues.py   which volume of several is the high-b one
    beside.py    which .bval and .json belong to a study
    sidecar.py   what a .json that a converter wrote says of the image
    named.py     b-values that a text names
    kind.py      evidence that a file is no diffusion-weighted image: a table of words
    dicom/       a folder of DICOM files
    record.py    what a study is
    reader.py    the stages above, in order
    labelmap.py  the one reader of label maps; label_writer.py writes them

The header is parsed here and not by nibabel, whose import takes 0.23 s of a cold start and which accepts much that a
measurement must not be made on; the tests hold this reader against nibabel.
"""

from __future__ import annotations

from lnfast.study.beside import shown
from lnfast.study.dicom import DicomChoice, is_dicom
from lnfast.study.reader import read_study, study_from_array, study_name
from lnfast.study.record import DicomSource, Provenance, Study

__all__ = [
    "DicomChoice",
    "DicomSource",
    "Provenance",
    "Study",
    "is_dicom",
    "read_study",
    "shown",
    "study_from_array",
    "study_name",
]
