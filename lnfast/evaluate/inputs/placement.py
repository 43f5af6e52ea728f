"""Both sides of a study on one grid.

A Segmentation's frames are often sparse and lie in any order and orientation. Its voxels are put onto the other side's
grid by their place in millimetres: onto that of a label map, or, of two Segmentations, onto the smallest grid along the
truth's axes that holds all frames of both. Nothing is resampled: every pixel lies on a voxel of the grid, or the study
is refused.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError, UsageError
from lnfast.evaluate.inputs.labelmap import LabelMap, Meaning, as_label_map, read_label_map
from lnfast.geometry import SAME_PLACE_MM, Grid
from lnfast.study import is_dicom, shown
from lnfast.study.dicom.segmentation import DicomSegmentation, read_segmentation

MOST_VOXELS = 1 << 28
# Headers round the distance between slices, or repeat the thickness: a hundredth is the scanner's own tolerance.
_SLICE_STEP_MM, _SLICE_STEP = 0.02, 0.01


def read_label_maps(prediction: Path, truth: Path, meaning: Meaning = "auto") -> tuple[LabelMap, LabelMap]:
    """Read prediction and truth of one study, each a NIfTI label map or a DICOM Segmentation.

    Each segment of a Segmentation is a node, its number the id; that of a single segment is what a label map with a
    single value is to ``meaning``.

    Raises:
        UsageError: ``grid-mismatch`` for a Segmentation that does not fit the other side's grid.
        StudyError: ``overlapping-segments``; ``no-geometry`` for two Segmentations of unknown distance between slices;
            of `read_label_map` and `lnfast.study.dicom.segmentation.read_segmentation`.
        BackendError: ``backend-missing`` without pydicom.
    """
    predicted, true = (_read(path, meaning) for path in (prediction, truth))
    grid = None
    if isinstance(predicted, DicomSegmentation) and isinstance(true, DicomSegmentation):
        try:
            grid = _common_grid(true, predicted)
        except (StudyError, UsageError) as error:
            raise _of_file(truth, error) from error
    elif isinstance(predicted, LabelMap):
        grid = predicted.labels.grid
    elif isinstance(true, LabelMap):
        grid = true.labels.grid
    assert grid is not None, "each side is a label map or a Segmentation"
    return _on_grid(prediction, predicted, grid, meaning), _on_grid(truth, true, grid, meaning)


def place(segmentation: DicomSegmentation, grid: Grid) -> NDArray[np.uint16]:
    """Put the voxels of a Segmentation onto a grid.

    Args:
        segmentation: of the same patient.
        grid: may be larger, or smaller where nothing is marked.

    Returns:
        ``(z, y, x)``, segment numbers, 0 outside.

    Raises:
        UsageError: ``grid-mismatch`` where pixels of any frame, also an empty one, lie more than 0.01 mm beside the
            grid's voxels, slices are of another distance, or marked voxels lie outside the grid.
        StudyError: ``overlapping-segments``.
    """
    starts, steps = _indices(segmentation, grid)
    labels = np.zeros(grid.shape, np.uint16)
    limits = np.array(grid.shape[::-1])
    for frame, number in enumerate(segmentation.numbers):
        rows, columns = np.nonzero(segmentation.mask(frame))
        voxels = starts[frame] + columns[:, None] * steps[0] + rows[:, None] * steps[1]
        if (voxels < 0).any() or (voxels >= limits).any():
            raise UsageError(
                "grid-mismatch", "the segmentation has voxels outside the other side's grid; wanted one image's masks"
            )
        place_zyx = tuple(voxels.T[::-1])
        present = labels[place_zyx]
        if ((present != 0) & (present != number)).any():
            raise StudyError(
                "overlapping-segments", "two segments hold the same voxel, wanted each voxel in one node; redraw them"
            )
        labels[place_zyx] = number
    return labels


def _indices(segmentation: DicomSegmentation, grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the voxel ``(x, y, z)`` of each frame's first pixel, and the steps to the next column and the next row."""
    axes, origin = grid.affine[:3, :3], grid.affine[:3, 3]
    to_index = np.linalg.inv(axes).T
    steps = np.rint(segmentation.steps_mm @ to_index).astype(np.int64)
    starts = np.rint((segmentation.positions_mm - origin) @ to_index).astype(np.int64)
    if (np.abs(steps).sum(axis=1) != 1).any() or (steps[0] * steps[1]).any():
        raise UsageError(
            "grid-mismatch", "the segmentation's pixels have another size or direction than the other side's voxels"
        )
    # A frame's four corners: what lies between them lies no farther from its voxel.
    rows, columns = segmentation.shape
    counts = np.array([(column, row) for row in (0, rows - 1) for column in (0, columns - 1)])
    stated = segmentation.positions_mm[:, None] + counts @ segmentation.steps_mm
    on_grid = (starts[:, None] + counts @ steps) @ axes.T + origin
    apart = float(np.linalg.norm(stated - on_grid, axis=2).max())
    if apart > SAME_PLACE_MM:
        raise UsageError(
            "grid-mismatch",
            f"pixels of the segmentation lie {apart:.3g} mm beside the other side's voxels, wanted at most "
            f"{SAME_PLACE_MM} mm",
        )
    _check_slice_step(segmentation, float(np.linalg.norm(axes[:, np.flatnonzero(~steps.any(axis=0))[0]])))
    return starts, steps


def _check_slice_step(segmentation: DicomSegmentation, step_mm: float) -> None:
    """Refuse slices of another distance whose planes coincide: every second slice of a stack."""
    own = segmentation.slice_step_mm
    if own is not None and abs(own - step_mm) > max(_SLICE_STEP_MM, _SLICE_STEP * step_mm):
        raise UsageError(
            "grid-mismatch", f"the segmentation's slices are {own:.4g} mm apart, the other side's {step_mm:.4g} mm"
        )


def _common_grid(truth: DicomSegmentation, prediction: DicomSegmentation) -> Grid:
    """Return the smallest grid along the truth's axes that holds all frames of both."""
    frames_of_reference = {truth.frame_of_reference, prediction.frame_of_reference} - {""}
    if len(frames_of_reference) > 1:
        raise UsageError("grid-mismatch", "prediction and truth have different frames of reference: no common place")
    step_mm = truth.slice_step_mm or prediction.slice_step_mm
    if step_mm is None:
        raise StudyError(
            "no-geometry",
            "neither segmentation states the distance between slices nor shows it by neighbouring frames; export one "
            "with all frames, or compare with a label map",
        )
    normal = np.cross(truth.steps_mm[0], truth.steps_mm[1])
    normal /= np.linalg.norm(normal)
    depths = truth.positions_mm @ normal
    low, high = int(depths.argmin()), int(depths.argmax())
    steps_between = round(float(depths[high] - depths[low]) / step_mm)
    # The frames themselves say where slices lie; the stated distance only says how many lie between them.
    span = truth.positions_mm[high] - truth.positions_mm[low]
    slice_step = span / steps_between if steps_between else normal * step_mm
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([*truth.steps_mm, slice_step])
    affine[:3, 3] = truth.positions_mm[low]
    lattice = Grid((1, 1, 1), affine)
    corners = np.concatenate([_corners(side, lattice) for side in (truth, prediction)])
    first, shape_xyz = corners.min(axis=0), np.ptp(corners, axis=0) + 1
    if float(np.prod(shape_xyz.astype(np.float64))) > MOST_VOXELS:
        raise StudyError("too-large", f"both segmentations span more than {MOST_VOXELS} voxels; are they of one image?")
    affine[:3, 3] = lattice.to_ras_mm(first)
    return Grid(tuple(int(size) for size in shape_xyz[::-1]), affine)


def _corners(segmentation: DicomSegmentation, lattice: Grid) -> NDArray[np.int64]:
    """Return the first and last voxels of all frames as ``(x, y, z)``."""
    starts, steps = _indices(segmentation, lattice)
    rows, columns = segmentation.shape
    return np.concatenate([starts, starts + (columns - 1) * steps[0] + (rows - 1) * steps[1]])


def _read(path: Path, meaning: Meaning) -> LabelMap | DicomSegmentation:
    if not is_dicom(path):
        return read_label_map(path, meaning)
    try:
        return read_segmentation(path)
    except StudyError as error:
        raise _of_file(path, error) from error


def _on_grid(path: Path, side: LabelMap | DicomSegmentation, grid: Grid, meaning: Meaning) -> LabelMap:
    if isinstance(side, LabelMap):
        return side
    if meaning == "auto" and side.segments > 1:
        meaning = "ids"
    try:
        return as_label_map(place(side, grid), grid, meaning)
    except (StudyError, UsageError) as error:
        raise _of_file(path, error) from error


def _of_file(path: Path, error: StudyError | UsageError) -> StudyError | UsageError:
    return type(error)(error.code, f"{shown(str(path))}: {error.message}")
