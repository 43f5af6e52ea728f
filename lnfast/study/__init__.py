"""Read a study: a NIfTI file, DICOM files or an array become a `Study`, one diffusion-weighted volume and its source.

    file_content.py    the bytes of a file, plain or gzip, each read once under a size limit
    nifti.py           the header of NIfTI-1 and NIfTI-2, checked before any voxel is read
    affine.py          voxel positions in millimetres of the patient, from the header's sform or qform
    trailing_bytes.py  bytes behind the voxels: harmless, or proof that the header is not this file's
    sidecar_files.py   which .bval and .json belong to a study
    json_sidecar.py    the .json that a converter wrote beside the image
    bvalues.py         the .bval file, and which of several volumes is the high-b one
    named.py           b-values in a file name or a description
    kind.py            words that say that a file is no diffusion-weighted image
    dicom/             a folder of DICOM files
    record.py          `Study` and `Provenance`
    reader.py          the stages above, in order
    labelmap.py        the one reader of label maps; label_writer.py writes them

The header is parsed here and not by nibabel: importing nibabel takes 0.23 s of a cold start, and it accepts much that
must not be measured. The tests compare this reader with nibabel.
"""

from __future__ import annotations

from lnfast.study.dicom import DicomChoice, is_dicom
from lnfast.study.reader import read_study, study_from_array, study_name
from lnfast.study.record import DicomSource, Provenance, Study
from lnfast.study.sidecar_files import shown

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
