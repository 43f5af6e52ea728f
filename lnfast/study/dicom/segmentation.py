"""A DICOM Segmentation: which series it is of, and the voxels that its frames hold, where they lie.

Only BINARY objects are read. Frames may be sparse, in any order and orientation; they stay packed, one bit a pixel,
until `DicomSegmentation.mask` unpacks one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError
from lnfast.study.dicom import tags
from lnfast.study.dicom.packages import PYDICOM, quiet
from lnfast.study.dicom.peek import EXPLICIT_LITTLE_ENDIAN, PREAMBLE, DamagedError, read_meta
from lnfast.study.dicom.scan import MOST_FILE_BYTES

MOST_FRAMES = 16384
ORIENTATION_TOLERANCE = 1e-4
FARTHEST_MM = 1e5
# Without a stated distance between slices the least one between frames is taken, if no slice can lie between them.
_NEIGHBOURS_WITHIN = 1.5  # thicknesses
_MEDIA_SOP_CLASS = 0x00020002
_SEGMENTATION, _LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
_SYNTAXES = (EXPLICIT_LITTLE_ENDIAN, "1.2.840.10008.1.2")
_META_BYTES = 1 << 16
_RAS_FROM_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class DicomSegmentation:
    """The frames of a BINARY Segmentation.

    Attributes:
        numbers: segment number of each frame, 1 to 65535.
        positions_mm: ``(frames, 3)``, centre of each frame's first pixel, RAS+.
        steps_mm: ``(2, 3)``, RAS+: from a pixel to the next of its row, and to that of the next row.
        shape: rows and columns of a frame.
        slice_step_mm: distance between slices; None where the file neither states nor shows it.
        segments: how many segments the file lists.
        frame_of_reference: its UID; empty where there is none.
    """

    numbers: tuple[int, ...]
    positions_mm: NDArray[np.float64]
    steps_mm: NDArray[np.float64]
    shape: tuple[int, int]
    slice_step_mm: float | None
    segments: int
    frame_of_reference: str
    _bits: bytes = field(repr=False)

    def mask(self, frame: int) -> NDArray[np.bool_]:
        """Pixels of a frame, ``(rows, columns)``."""
        size = self.shape[0] * self.shape[1]
        first, shift = divmod(frame * size, 8)
        packed = np.frombuffer(self._bits, np.uint8, count=(shift + size + 7) // 8, offset=first)
        bits = np.unpackbits(packed, bitorder="little")[shift : shift + size]
        return bits.reshape(self.shape).view(np.bool_)


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM Segmentation, of a kind that is read or not.

    Raises:
        StudyError: ``unreadable``; ``truncated`` or ``damaged`` for a DICOM file that does not say what it holds.
    """
    return _sop_class_and_syntax(path)[0] in (_SEGMENTATION, _LABEL_MAP)


def segmented_series(path: Path) -> tuple[str, str]:
    """UIDs of the study and of the one series that a Segmentation refers to.

    Raises:
        StudyError: ``unclear-series`` for none or several; ``unreadable``, ``truncated``, ``damaged``, ``too-large``,
            ``unsupported-transfer-syntax``, ``unsupported-segmentation``.
        BackendError: ``backend-missing``.
    """
    dataset = _dataset(path, with_pixels=False)
    with quiet():
        try:
            groups = [dataset, *(dataset.get("StudiesContainingOtherReferencedInstancesSequence") or [])]
            items = [item for group in groups for item in group.get("ReferencedSeriesSequence") or []]
            series = {_uid(item, "SeriesInstanceUID") for item in items} - {""}
            study = _uid(dataset, "StudyInstanceUID")
        except Exception as error:  # pydicom raises what it likes, and its text may quote the header
            raise _damaged() from error
    if len(series) != 1 or not study:
        raise StudyError(
            "unclear-series",
            f"the segmentation refers to {len(series)} series, wanted the one that it was drawn on; export it with a "
            "reference to that series",
        )
    return study, series.pop()


def read_segmentation(path: Path) -> DicomSegmentation:
    """Read the frames of a BINARY Segmentation.

    Raises:
        StudyError: ``unsupported-segmentation``, ``no-geometry``, ``bad-geometry``, ``mixed-geometry``; ``unreadable``,
            ``truncated``, ``damaged``, ``too-large``, ``unsupported-transfer-syntax``.
        BackendError: ``backend-missing``.
    """
    dataset = _dataset(path, with_pixels=True)
    with quiet():
        try:
            return _read(dataset)
        except StudyError:
            raise
        except Exception as error:  # as above
            raise _damaged() from error


def _read(dataset: Any) -> DicomSegmentation:
    shape = int(dataset.Rows), int(dataset.Columns)
    count = int(dataset.get("NumberOfFrames") or 1)
    if count > MOST_FRAMES:
        raise StudyError("too-large", f"the segmentation has {count} frames, wanted at most {MOST_FRAMES}")
    frames = list(dataset.PerFrameFunctionalGroupsSequence)
    if min(*shape, count) < 1 or len(frames) != count:
        raise _damaged()
    listed = {int(segment.SegmentNumber) for segment in dataset.SegmentSequence}
    shared = next(iter(dataset.get("SharedFunctionalGroupsSequence") or []), None)
    numbers = tuple(int(_group(frame, shared, "SegmentIdentification").ReferencedSegmentNumber) for frame in frames)
    if not set(numbers) <= listed or min(listed) < 1 or max(listed) > 65535:
        raise _damaged()
    bits = dataset.PixelData
    spare = len(bits) * 8 - shape[0] * shape[1] * count
    if spare < 0:
        raise StudyError("truncated", "the segmentation has fewer pixels than it promises; send it again")
    if spare >= max(shape[1], 32):  # rows too few for its pixels would put every frame but the first elsewhere
        raise _damaged()
    positions, steps, slice_step = _places(frames, shared)
    uid = _uid(dataset, "FrameOfReferenceUID")
    return DicomSegmentation(numbers, positions, steps, shape, slice_step, len(listed), uid, bits)


def _places(frames: list[Any], shared: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], float | None]:
    """Positions of the frames, the steps between their pixels, and the distance between slices."""
    positions = np.array(
        [_numbers(_group(each, shared, "PlanePosition"), "ImagePositionPatient", 3) for each in frames]
    )
    orientations = [_numbers(_group(each, shared, "PlaneOrientation"), "ImageOrientationPatient", 6) for each in frames]
    measures = [_group(each, shared, "PixelMeasures") for each in frames]
    spacings = [_numbers(each, "PixelSpacing", 2) for each in measures]
    for values in (orientations, spacings):
        if np.ptp(values, axis=0).max() > ORIENTATION_TOLERANCE:
            raise StudyError("mixed-geometry", "the frames differ in orientation or pixel spacing; draw on one stack")
    row, column = np.reshape(orientations[0], (2, 3))
    if np.abs(np.array([row @ row, column @ column, 1 + row @ column]) - 1).max() > 1e-3:
        raise StudyError("bad-geometry", "rows and columns of the frames are not at right angles; export it again")
    if np.abs(positions).max() > FARTHEST_MM:
        raise StudyError("bad-geometry", f"a frame lies more than {FARTHEST_MM:g} mm from the origin; export it again")
    between_rows, between_columns = spacings[0]
    steps = np.stack([row * between_columns, column * between_rows]) * _RAS_FROM_LPS
    slice_step = _slice_step(measures, positions @ np.cross(row, column))
    return positions * _RAS_FROM_LPS, steps, slice_step


def _slice_step(measures: list[Any], depths_mm: NDArray[np.float64]) -> float | None:
    """The distance between slices: as stated, else that of neighbours; None where it cannot be known."""
    stated = {float(each.get("SpacingBetweenSlices") or 0) for each in measures}
    if len(stated) == 1 and (step := stated.pop()) > 0:
        return step
    thickness = max(float(each.get("SliceThickness") or 0) for each in measures)
    gaps = np.diff(np.unique(depths_mm))
    gaps = gaps[gaps > 0.02]
    return float(gaps.min()) if len(gaps) and gaps.min() < _NEIGHBOURS_WITHIN * thickness else None


def _group(frame: Any, shared: Any, name: str) -> Any:
    """A functional group of a frame, its own or the shared one.

    Raises:
        StudyError: ``no-geometry``, ``damaged`` for one that has no geometry.
    """
    for groups in (frame, shared):
        items = None if groups is None else groups.get(f"{name}Sequence")
        if items:
            return items[0]
    raise _damaged() if name == "SegmentIdentification" else _no_geometry()


def _numbers(item: Any, keyword: str, count: int) -> list[float]:
    value = item.get(keyword)
    if value is None or isinstance(value, str) or not hasattr(value, "__len__") or len(value) != count:
        raise _no_geometry()
    numbers = [float(number) for number in value]
    if not np.isfinite(numbers).all():
        raise StudyError("bad-geometry", "a frame has a place that is not finite; export it again")
    return numbers


def _uid(item: Any, keyword: str) -> str:
    return str(item.get(keyword) or "").strip(" \0")


def _sop_class_and_syntax(path: Path) -> tuple[str, str]:
    """What the file meta information says; empty for a file that is no DICOM."""
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(_META_BYTES)
    except OSError as error:
        raise StudyError("unreadable", f"cannot be read ({os.strerror(error.errno or 0)})") from error
    if head[PREAMBLE - 4 : PREAMBLE] != b"DICM":
        return "", ""
    try:
        meta, _ = read_meta(head)
    except DamagedError as error:
        raise StudyError("truncated", "a DICOM file ends before what it promises; send it again") from error
    if not {_MEDIA_SOP_CLASS, tags.TRANSFER_SYNTAX_UID} <= meta.keys():
        raise StudyError("damaged", "a DICOM file does not say what it holds and how; send it again")
    return tags.text(meta, _MEDIA_SOP_CLASS), tags.text(meta, tags.TRANSFER_SYNTAX_UID)


def _dataset(path: Path, *, with_pixels: bool) -> Any:
    """The dataset of a file, once its kind and size are known to be read here."""
    sop_class, syntax = _sop_class_and_syntax(path)
    if sop_class == _LABEL_MAP:
        raise _unsupported("LABELMAP")
    if syntax not in _SYNTAXES:  # before pydicom, which would inflate without bound
        raise StudyError(
            "unsupported-transfer-syntax", "the segmentation is compressed or big endian; send it uncompressed"
        )
    size = path.stat().st_size
    if size > MOST_FILE_BYTES:
        raise StudyError(
            "too-large",
            f"the segmentation has {size} bytes, wanted at most {MOST_FILE_BYTES}; write only frames with voxels",
        )
    module = PYDICOM.load()
    with quiet():
        try:
            dataset = module.dcmread(path, stop_before_pixels=not with_pixels)
            kind, bits = str(dataset.SegmentationType), int(dataset.BitsAllocated)
        except Exception as error:  # as above
            raise _damaged() from error
    if kind in ("FRACTIONAL", "LABELMAP"):
        raise _unsupported(kind)
    if (kind, bits) != ("BINARY", 1):
        raise _unsupported("of another type")
    return dataset


def _unsupported(kind: str) -> StudyError:
    return StudyError("unsupported-segmentation", f"the segmentation is {kind}, wanted BINARY; export it as BINARY")


def _no_geometry() -> StudyError:
    return StudyError(
        "no-geometry", "a frame has no position, orientation or pixel spacing in the patient; export it with them"
    )


def _damaged() -> StudyError:
    return StudyError("damaged", "the segmentation cannot be read to its end; send it again")
