"""Slices in separate files become one volume: sorted along their normal, checked, and gathered into one array.

Slices run from the feet to the head or the other way as the cross product of row and column says, whatever their
numbers or names are. A stack with a gap, a repeated or a shifted slice is refused and never mended.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError
from lnfast.geometry import Grid, Volume
from lnfast.study.dicom.frames import Frame
from lnfast.study.dicom.full import read_pixels
from lnfast.study.dicom.select import DicomVolume

FEWEST_SLICES = 8
ORIENTATION_TOLERANCE = 1e-4
STEP_TOLERANCE_MM, STEP_TOLERANCE = 0.02, 0.01  # the larger of both, of a step
LATERAL_TOLERANCE_MM = 0.1
OFF_GRID = 0.25  # of a step: another volume has a slice where this one has none
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0])
_STORED = {
    (8, False): "u1",
    (8, True): "i1",
    (16, False): "<u2",
    (16, True): "<i2",
    (32, False): "<u4",
    (32, True): "<i4",
}


def sort_slices(chosen: DicomVolume, siblings: Sequence[DicomVolume]) -> tuple[list[Frame], Grid]:
    """The frames of a volume in spatial order, and the grid that they make.

    Args:
        chosen: the volume.
        siblings: all volumes of its series, itself among them: one of them with more slices shows that this is cut.

    Returns:
        Frames in ascending position along cross(row, column), and the grid ``(z, y, x)`` in RAS+.

    Raises:
        StudyError: ``no-geometry``, ``mixed-geometry``, ``rgb-or-complex``, ``unsupported-type``, ``lossy``,
            ``repeated-slices``, ``too-few-slices``, ``missing-slices``, ``bad-geometry``.
    """
    first = chosen.frames[0]
    _check_alike(chosen.frames)
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    normal = np.cross(row, column)
    frames = sorted(chosen.frames, key=lambda frame: float(normal @ np.array(frame.position_mm)))
    positions = np.array([frame.position_mm for frame in frames], dtype=np.float64)
    depths = positions @ normal
    steps = np.diff(depths)
    if (steps < STEP_TOLERANCE_MM).any():
        raise StudyError(
            "repeated-slices",
            f"the volume has two slices at one position ({len(frames)} images); give one acquisition, or name its "
            "series with --series",
        )
    if len(frames) < FEWEST_SLICES:
        raise StudyError("too-few-slices", f"got {len(frames)} slices, wanted at least {FEWEST_SLICES}")
    _check_complete(steps, depths, normal, siblings)
    mean_step = (positions[-1] - positions[0]) / (len(frames) - 1)
    lateral = np.linalg.norm(positions - (positions[0] + np.outer(np.arange(len(frames)), mean_step)), axis=1).max()
    if max(float(lateral), float(np.linalg.norm(mean_step - (mean_step @ normal) * normal))) > LATERAL_TOLERANCE_MM:
        raise StudyError("bad-geometry", "the slices are shifted against each other; give a stack that is not sheared")
    between_rows, between_columns = first.spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = _RAS_FROM_LPS @ row * between_columns
    affine[:3, 1] = _RAS_FROM_LPS @ column * between_rows
    affine[:3, 2] = _RAS_FROM_LPS @ mean_step
    affine[:3, 3] = _RAS_FROM_LPS @ positions[0]
    return frames, Grid((len(frames), first.pixels.rows, first.pixels.columns), affine)


def gather(frames: Sequence[Frame], grid: Grid) -> tuple[Volume, float, float]:
    """The voxels of sorted frames, read straight into one array.

    Returns:
        The volume, slope and intercept: stored integers where these are the same in all slices; else float32 with
        both applied, slope 1 and intercept 0.

    Raises:
        StudyError: ``truncated``, ``damaged``, ``unreadable``, ``bad-scaling``, ``unsupported-transfer-syntax``.
    """
    pixels = frames[0].pixels
    stored = np.dtype(_STORED[pixels.bits_allocated, pixels.signed])
    voxels = np.empty(grid.shape, stored)
    # Frames of one file follow each other in one read of that file.
    order = sorted(range(len(frames)), key=lambda z: (str(frames[z].path), frames[z].index))
    for path, group in groupby(order, key=lambda z: frames[z].path):
        slices = list(group)
        offset = frames[slices[0]].offset
        if offset is not None:
            _read_into(voxels[slices[0]], str(path), offset)
            continue
        for z, values in zip(slices, read_pixels(path, [frames[z].index for z in slices], pixels), strict=True):
            if values.shape != voxels.shape[1:] or values.dtype.kind not in "iu":
                raise StudyError("damaged", "the pixels of a slice are not of the size or type that its header says")
            voxels[z] = values
    _keep_stored_bits(voxels, pixels.bits_allocated, pixels.bits_stored, pixels.signed)
    slopes = {(frame.slope, frame.inter) for frame in frames}
    if any(not (np.isfinite(slope) and slope > 0 and np.isfinite(inter)) for slope, inter in slopes):
        raise StudyError("bad-scaling", "a slice has a scale that is not finite and above 0; export the study again")
    if len(slopes) == 1:
        slope, inter = slopes.pop()
        return Volume(voxels, grid), slope, inter
    values = np.empty(grid.shape, np.float32)
    for z, frame in enumerate(frames):  # slice by slice: float64 of the whole would be eight bytes a voxel
        with np.errstate(over="ignore"):
            values[z] = voxels[z] * np.float64(frame.slope) + np.float64(frame.inter)
    if not np.isfinite(values).all():
        raise StudyError("bad-scaling", "the scale of a slice leads beyond what a number holds; export the study again")
    return Volume(values, grid), 1.0, 0.0


def twins_of(frames: Sequence[Frame], siblings: Sequence[DicomVolume]) -> list[DicomVolume]:
    """The other volumes that have slices exactly where some frames have theirs: they show that none is missing."""
    places = {_place(frame) for frame in frames}
    used = set(frames)
    return [
        sibling
        for sibling in siblings
        if used.isdisjoint(sibling.frames) and {_place(frame) for frame in sibling.frames} == places
    ]


def _place(frame: Frame) -> tuple[float, ...]:
    return tuple(round(value, 1) for value in frame.position_mm)


def _check_alike(frames: Sequence[Frame]) -> None:
    first = frames[0]
    if any(
        len(frame.position_mm) != 3 or len(frame.orientation) != 6 or len(frame.spacing_mm) != 2 for frame in frames
    ):
        raise StudyError("no-geometry", "a slice has no position, orientation or pixel spacing; send the originals")
    named = [(frame.sop_uid, frame.index) for frame in frames if frame.sop_uid]
    if len(set(named)) < len(named):
        raise StudyError("damaged", "two slices have the same instance UID; send the originals")
    orientations = np.array([frame.orientation for frame in frames])
    same = np.abs(orientations - orientations[0]).max() <= ORIENTATION_TOLERANCE
    if (
        not same
        or any(frame.pixels != first.pixels for frame in frames)
        or any(frame.frame_of_reference != first.frame_of_reference for frame in frames)
        or np.ptp(np.array([frame.spacing_mm for frame in frames]), axis=0).max() > 1e-4
    ):
        raise StudyError(
            "mixed-geometry", "the slices differ in orientation, size, pixel spacing, frame of reference or type"
        )
    if min(first.spacing_mm) <= 0:  # a negative one would turn the image over
        raise StudyError("bad-geometry", "the pixel spacing is not above 0; send the originals")
    row, column = orientations[0][:3], orientations[0][3:]
    directions = np.stack([row, column])
    if np.abs(directions @ directions.T - np.eye(2)).max() > 1e-3:
        raise StudyError("bad-geometry", "the orientation of the slices is no pair of perpendicular directions")
    pixels = first.pixels
    if pixels.samples != 1 or pixels.photometric not in ("", "MONOCHROME1", "MONOCHROME2"):
        raise StudyError("rgb-or-complex", f"the images have {pixels.samples} samples or a palette, wanted greys")
    if pixels.photometric == "MONOCHROME1":
        raise StudyError("unsupported-type", "the greys are inverted: greater values are darker; export the originals")
    if min(pixels.rows, pixels.columns) < 1 or pixels.representation not in (0, 1):
        raise StudyError("damaged", "the images do not say how many pixels they have, or whether these have a sign")
    if (pixels.bits_allocated, pixels.signed) not in _STORED or not (
        0 < pixels.bits_stored <= pixels.bits_allocated and pixels.high_bit == pixels.bits_stored - 1
    ):
        raise StudyError(
            "unsupported-type",
            f"the pixels have {pixels.bits_stored} of {pixels.bits_allocated} bits up to bit {pixels.high_bit}, wanted "
            "the lower ones of 8, 16 or 32",
        )
    if any(frame.lossy for frame in frames):
        raise StudyError("lossy", "the images were compressed with loss; send them uncompressed")


def _check_complete(
    steps: NDArray[np.float64],
    depths: NDArray[np.float64],
    normal: NDArray[np.float64],
    siblings: Sequence[DicomVolume],
) -> None:
    typical = float(np.median(steps))
    if np.abs(steps - typical).max() > max(STEP_TOLERANCE_MM, STEP_TOLERANCE * typical):
        raise StudyError(
            "missing-slices",
            f"the distance between slices goes from {steps.min():.4g} to {steps.max():.4g} mm, wanted one; send the "
            "whole series",
        )
    files: dict[str, set[Path]] = {}
    parts: dict[str, int] = {}
    for frame in (frame for sibling in siblings for frame in sibling.frames if frame.concatenation):
        files.setdefault(frame.concatenation, set()).add(frame.path)
        parts[frame.concatenation] = max(parts.get(frame.concatenation, 0), frame.parts)
    if any(len(files[uid]) < count for uid, count in parts.items()):
        raise StudyError("missing-slices", "a file that was split into several is not whole; send the whole series")
    for sibling in siblings:
        others = [frame.position_mm for frame in sibling.frames if len(frame.position_mm) == 3]
        if not others:
            continue
        apart = np.abs((np.array(others) @ normal)[:, None] - depths).min(axis=1)
        if apart.max() > typical * OFF_GRID:  # half a step where every second slice is missing here
            raise StudyError(
                "missing-slices",
                "another volume of the examination has slices where this one has none: it is cut short; send the whole "
                "series",
            )


def _read_into(target: NDArray[Any], path: str, offset: int) -> None:
    view = target.reshape(-1).view(np.uint8).data
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(offset)
            done = 0
            while done < len(view):
                count = file.readinto(view[done:])
                if not count:
                    raise StudyError("truncated", "a file became shorter while it was read; wait until it is written")
                done += count
    except OSError as error:
        raise StudyError("unreadable", f"a file cannot be read ({os.strerror(error.errno or 0)})") from error


def _keep_stored_bits(voxels: NDArray[Any], allocated: int, stored: int, signed: bool) -> None:
    """Clear, or fill with the sign, what lies above the stored bits: old files keep overlays there."""
    spare = allocated - stored
    if spare == 0:
        return
    if not signed:
        np.bitwise_and(voxels, voxels.dtype.type((1 << stored) - 1), out=voxels)
        return
    np.left_shift(voxels, spare, out=voxels)
    np.right_shift(voxels, spare, out=voxels)
