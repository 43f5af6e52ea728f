"""What a refusal means for an exam that may still be arriving, and when its images show that a volume is whole."""

from __future__ import annotations

import os

from lnfast.node.exams.reception import NOT_STORED, TRANSFER_ABORTED
from lnfast.study import Study

FLAWS = {
    TRANSFER_ABORTED: "an association that sent it did not end with a release; send the whole exam again",
    NOT_STORED: "an image of it was answered with a failure and did not come again; send the whole exam again",
}
# Nothing in the exam is a high-b trace image: most exams of a scanner. Another series may be.
_NOTHING_TO_ANALYSE = frozenset(
    {
        "not-found",
        "not-dicom",
        "no-mr-image",
        "no-b-value",
        "no-high-b",
        "adc-map",
        "not-dwi",
        "no-trace",
        "computed-b",
        "mosaic",
    }
)
# Of these the rest of the images may make a study.
_HALF = frozenset({"missing-slices", "too-few-slices", "truncated", "source-changed", "no-pelvis", "ambiguous"})


def is_nothing_to_analyse(code: str) -> bool:
    """Whether a refusal says that an exam has no image of the kind that is analysed; no person is needed then."""
    return code in _NOTHING_TO_ANALYSE


def may_heal(code: str) -> bool:
    """Whether more images of the same exam may turn a refusal into a result."""
    return code in _NOTHING_TO_ANALYSE or code in _HALF


def is_confirmed(study: Study) -> bool:
    """Whether other images of the exam show that a volume has all its slices.

    That is so where the whole volume lies in one enhanced file; and where another volume has slices at exactly the same
    places, and came as a whole before or after this one. Of two that came in turn, slice by slice, both may be cut.
    """
    source = study.provenance.dicom
    if source is None:
        return False
    own = sorted({path for path, _ in source.frames})
    if len(own) == 1 < len(source.frames):
        return True
    try:
        first, last = _arrived(own)
        spans = [_arrived(twin) for twin in source.twins]
    except OSError:  # replaced or deleted meanwhile
        return False
    return any(before < first or last < after for after, before in spans)


def _arrived(paths: tuple[str, ...] | list[str]) -> tuple[int, int]:
    """When the first and the last of some files was written: storing renames them, which keeps that."""
    times = [os.stat(path).st_mtime_ns for path in paths]
    return min(times), max(times)
