"""DICOM Segmentations among the entries of a folder, whatever their files are called.

A study has the name that `lnfast run` gives on this machine to the series that the Segmentation refers to.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lnfast.errors import StudyError
from lnfast.study import is_dicom, shown
from lnfast.study.dicom.identity import study_id
from lnfast.study.dicom.scan import files_below
from lnfast.study.dicom.segmentation import is_segmentation, segmented_series

DICOM = ".dcm"


@dataclass(frozen=True)
class FoundSegmentations:
    """What an entry of a folder holds.

    Attributes:
        files: name of the study and path of each Segmentation.
        other_dicom: how many other DICOM files there are.
    """

    files: tuple[tuple[str, Path], ...]
    other_dicom: int


def find_segmentations(entry: Path) -> FoundSegmentations:
    """Find the Segmentations in a folder and its folders, or in one file.

    Raises:
        StudyError: ``damaged`` for a file that is called .dcm and is no DICOM: a truth must not be left out in silence;
            of `lnfast.study.dicom.segmentation.segmented_series`; ``too-large`` for more than 4096 files in a folder.
        BackendError: ``backend-missing``.
    """
    files, others = [], 0
    path = entry
    try:
        for path in list(files_below(entry)):  # too many are refused before any is read
            if path != entry and path.name.startswith("."):  # as macOS writes beside files on a share
                continue
            if not is_dicom(path):
                if path.suffix.lower() == DICOM:
                    raise StudyError("damaged", "is called .dcm and is no DICOM file; mend or remove it")
            elif is_segmentation(path):
                files.append((study_id(*segmented_series(path)), path))
            else:
                others += 1
    except StudyError as error:
        raise StudyError(error.code, f"{shown(str(path))}: {error.message}") from error
    return FoundSegmentations(tuple(files), others)
