"""From a folder of DICOM files to a `Study`: scan -> select -> sort -> gather."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lnfast.geometry import Grid
from lnfast.study.bvalues import BRule
from lnfast.study.dicom.frames import Frame
from lnfast.study.dicom.identity import instances_of, study_id
from lnfast.study.dicom.scan import check_unchanged, scan
from lnfast.study.dicom.select import COMPUTED, DicomChoice, DicomVolume, select
from lnfast.study.dicom.stack import gather, sort_slices, twins_of
from lnfast.study.record import DicomSource, Provenance, Study


def read_dicom(path: Path, rule: BRule, choice: DicomChoice | None = None) -> Study:
    """Read the high-b trace image of a folder of DICOM files, or of one enhanced file.

    Args:
        path: of the folder, with all files below it, or of a file.
        rule: which b-values the model takes.
        choice: what a person said about which series to take.

    Raises:
        StudyError: with a code of `scan`, `select` or `stack` beside this module. No message has any text of a header.
        BackendError: ``backend-missing`` where a file needs pydicom.
    """
    choice = choice or DicomChoice()
    contents = scan(path)
    chosen, siblings = select(contents, rule, choice)
    frames, grid = sort_slices(chosen, siblings)
    volume, slope, inter = gather(frames, grid)
    check_unchanged(contents, (frame.path for frame in frames))
    first = frames[0]
    provenance = Provenance(
        format="dicom",
        path=str(path),
        sha256=_fingerprint(frames, grid, volume.array),
        notes=_notes(chosen, len(frames)),
        warnings=_warnings(chosen),
        dicom=DicomSource(
            series_number=chosen.series_number if chosen.series_number >= 0 else None,
            computed_b=chosen.kind == COMPUTED,
            frames=tuple((str(frame.path), frame.index) for frame in frames),
            instances=instances_of((frame.study_uid, frame.sop_uid) for frame in frames),
            twins=tuple(_paths(twin.frames) for twin in twins_of(frames, siblings)),
        ),
    )
    return Study(study_id(first.study_uid, first.series_uid), volume, slope, inter, chosen.b_value, provenance)


def _paths(frames: Iterable[Frame]) -> tuple[str, ...]:
    return tuple(sorted({str(frame.path) for frame in frames}))


def _fingerprint(frames: Sequence[Frame], grid: Grid, voxels: NDArray[Any]) -> str:
    """Hex digest of what was used: which instances, where their voxels lie, and the voxels."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(f"{frame.sop_uid}:{frame.index}:{frame.slope!r}:{frame.inter!r}\n".encode())
    digest.update(grid.affine.tobytes())
    digest.update(voxels.data)
    return digest.hexdigest()


def _notes(chosen: DicomVolume, slices: int) -> tuple[str, ...]:
    number = f"series {chosen.series_number}" if chosen.series_number >= 0 else "a series without a number"
    return (f"took {number}, b = {chosen.b_value:g}, {slices} slices",)


def _warnings(chosen: DicomVolume) -> tuple[tuple[str, str], ...]:
    warnings = []
    if chosen.kind == COMPUTED:
        warnings.append(("computed-b", "the image was computed for its b-value and not acquired, as was asked for"))
    if chosen.given:
        warnings.append(("given-b-value", "the b-value was given by a person and does not stand in the images"))
    return tuple(warnings)
