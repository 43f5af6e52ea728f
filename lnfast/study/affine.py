"""Where a NIfTI file says that its voxels are, in millimetres of the patient.

The sform is taken when it is set, else the qform. A file with neither holds voxel sizes only, which say nothing about
left and right, and is refused. Quaternions follow nifti1.h.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError

# Voxel sizes that differ by more make different millimetres of the same node (1 % of the 8 mm limit is 0.08 mm).
SPACING_TOLERANCE = 0.01
DISAGREEMENT_MM = 1.0
_FARTHEST_MM = 1e6
_QUATERNION_SLACK = 1e-4  # float32 rounding of three components leaves about 1e-6

Warnings = tuple[tuple[str, str], ...]


def patient_affine(
    fields: dict[str, Any], shape_xyz: tuple[int, int, int], mm_per_unit: float
) -> tuple[NDArray[np.float64], Warnings]:
    """The affine that the header's fields mean, and what is odd about them.

    Args:
        fields: ``pixdim, qform_code, sform_code, quatern, qoffset, srow`` as stored.
        shape_xyz: voxels along x, y, z.
        mm_per_unit: the header's unit of length in mm.

    Returns:
        ``(affine, warnings)``: (4, 4) float64, voxel-centre index ``(x, y, z, 1)`` to RAS+ mm. Whether it is a usable
        lattice is for `Grid` to say.

    Raises:
        StudyError: ``no-geometry``; ``bad-geometry`` for values out of bounds, and where both forms are set and
            disagree about the size of a voxel.
    """
    has_s, has_q = fields["sform_code"] > 0, fields["qform_code"] > 0
    if not has_s and not has_q:
        raise StudyError("no-geometry", "neither sform nor qform is set, wanted one; export it again with orientation")
    qform = _scaled(_from_quaternion(fields), mm_per_unit) if has_q else None
    if not has_s:
        assert qform is not None
        return qform, ()
    sform = _scaled(np.vstack([np.array(fields["srow"], dtype=np.float64), (0, 0, 0, 1)]), mm_per_unit)
    if qform is not None:
        return sform, _compare(sform, qform, shape_xyz)
    pixdim = np.array(fields["pixdim"][1:4], dtype=np.float64)
    if not _same_spacing(_spacing(sform), pixdim * mm_per_unit):
        return sform, (("pixdim-disagrees", "the header's voxel size is not that of its sform; the sform was used"),)
    return sform, ()


def _from_quaternion(fields: dict[str, Any]) -> NDArray[np.float64]:
    b, c, d = fields["quatern"]
    spacing = np.array(fields["pixdim"][1:4], dtype=np.float64)
    square = b * b + c * c + d * d
    if not square <= 1 + _QUATERNION_SLACK or not (spacing > 0).all():
        raise StudyError("bad-geometry", "the qform has no rotation or a voxel size that is not above 0; re-export it")
    a = (1 - square) ** 0.5 if square < 1 else 0.0
    a, b, c, d = np.array((a, b, c, d)) / max(square, 1.0) ** 0.5
    affine = np.eye(4)
    affine[:3, :3] = (
        (a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)),
        (2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)),
        (2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c),
    )
    spacing[2] *= -1 if fields["pixdim"][0] < 0 else 1  # pixdim[0] is the handedness; 0 means right
    affine[:3, :3] *= spacing
    affine[:3, 3] = fields["qoffset"]
    return affine


def _scaled(affine: NDArray[np.float64], mm_per_unit: float) -> NDArray[np.float64]:
    if not (np.abs(affine[:3]) <= _FARTHEST_MM).all():  # NaN too; and no square of what passes can overflow
        raise StudyError(
            "bad-geometry", f"the affine has a value that is not finite or above {_FARTHEST_MM:g}; re-export it"
        )
    affine[:3] *= mm_per_unit
    return affine


def _compare(sform: NDArray[np.float64], qform: NDArray[np.float64], shape_xyz: tuple[int, int, int]) -> Warnings:
    if not _same_spacing(_spacing(sform), _spacing(qform)):
        texts = [" x ".join(f"{value:.4g}" for value in _spacing(form)) for form in (sform, qform)]
        raise StudyError(
            "bad-geometry",
            f"the voxel is {texts[0]} mm by the sform and {texts[1]} mm by the qform, wanted one size; re-export it",
        )
    corners = np.array([(*corner, 1) for corner in product(*((0, size - 1) for size in shape_xyz))], dtype=np.float64)
    apart = float(np.linalg.norm((sform - qform)[:3] @ corners.T, axis=0).max())
    if apart > DISAGREEMENT_MM:
        return (("forms-disagree", f"sform and qform place a corner {apart:.1f} mm apart; the sform was used"),)
    return ()


def _spacing(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(affine[:3, :3], axis=0)
    return lengths


def _same_spacing(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool((np.abs(a - b) <= SPACING_TOLERANCE * np.maximum(np.abs(a), np.abs(b))).all())
