"""What a folder holds and what becomes of it: a line for each volume, nothing of the patient in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lnfast.errors import StudyError
from lnfast.study.bvalues import BRule
from lnfast.study.dicom.scan import scan
from lnfast.study.dicom.select import DicomChoice, DicomVolume, refusal_of, select, volumes_of
from lnfast.study.dicom.stack import sort_slices

_TAKEN, _PASSED_OVER = "the high-b trace image", "another volume comes before it"


@dataclass(frozen=True)
class Listed:
    """One volume of a folder.

    Attributes:
        series_number: None where the images have none.
        kind: as in `lnfast.study.dicom.frames.Frame`.
        b_value: s/mm2; None where unknown.
        images: how many.
        verdict: ``"taken"``, ``"passed-over"``, or the code of the refusal.
        reason: for a person.
    """

    series_number: int | None
    kind: str
    b_value: float | None
    images: int
    verdict: str
    reason: str


@dataclass(frozen=True)
class Listing:
    """The volumes of a folder, and what else lies there.

    Attributes:
        volumes: by series number and b-value.
        others: how many DICOM files are no MR image.
        not_dicom: how many files are no DICOM.
        error: why nothing is taken, where nothing is.
    """

    volumes: tuple[Listed, ...]
    others: int
    not_dicom: int
    error: StudyError | None


def list_dicom(path: Path, rule: BRule, choice: DicomChoice | None = None) -> Listing:
    """Say of each volume in a folder whether it would be taken, and why not.

    Args:
        path, rule, choice: as for `lnfast.study.dicom.reader.read_dicom`.

    Raises:
        StudyError: the folder cannot be read.
        BackendError: ``backend-missing``.
    """
    choice = choice or DicomChoice()
    contents = scan(path)
    chosen: DicomVolume | None = None
    error: StudyError | None = None
    try:
        chosen, siblings = select(contents, rule, choice)
        sort_slices(chosen, siblings)
    except StudyError as refused:
        error = refused
    volumes = []
    for volume in volumes_of(contents.frames, choice):
        is_chosen = chosen is not None and volume.frames == chosen.frames
        refusal = error if is_chosen else refusal_of([volume], rule, choice)
        if refusal is None and chosen is None:  # several that could be taken: ambiguous
            refusal = error
        number = volume.series_number if volume.series_number >= 0 else None
        verdict = refusal.code if refusal else "taken" if is_chosen else "passed-over"
        reason = refusal.message if refusal else _TAKEN if is_chosen else _PASSED_OVER
        volumes.append(Listed(number, volume.kind, volume.b_value, len(volume.frames), verdict, reason))
    return Listing(tuple(volumes), contents.others, contents.not_dicom, error)
