"""The affine of a NIfTI file: voxel positions in millimetres of the patient, from its sform or qform.

The sform is used when it is set, else the qform. Where both are set and one is no lattice at all (not finite, zeros, no
rotation, a voxel size that is not above 0), the other is used with a warning. Where both are lattices and disagree
about the size of a voxel, the file is refused. A file with neither has voxel sizes only, which say nothing about left
and right, and is refused. Quaternions follow nifti1.h.
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
# Below this fraction of a right-angled voxel's volume the axes span no space; `Grid` refuses far smaller shear.
_LEAST_DETERMINANT = 1e-6

Warnings = tuple[tuple[str, str], ...]


def patient_affine(
    fields: dict[str, Any], shape_xyz: tuple[int, int, int], mm_per_unit: float
) -> tuple[NDArray[np.float64], Warnings]:
    """Return the affine that the header's fields define, with warnings about the fields.

    Args:
        fields: ``pixdim, qform_code, sform_code, quatern, qoffset, srow`` as stored.
        shape_xyz: voxels along x, y, z.
        mm_per_unit: the header's unit of length in mm.

    Returns:
        ``(affine, warnings)``: (4, 4) float64, voxel-centre index ``(x, y, z, 1)`` to RAS+ mm. `Grid` checks
        whether it is a usable lattice.

    Raises:
        StudyError: ``no-geometry``; ``bad-geometry`` where no form that is set can be used, or both can and disagree
            about the size of a voxel.
    """
    forms: dict[str, NDArray[np.float64]] = {}
    problems: dict[str, str] = {}
    for form, read in (("sform", _from_rows), ("qform", _from_quaternion)):
        if fields[f"{form}_code"] > 0:
            try:
                forms[form] = _scaled(read(fields), mm_per_unit)
            except _NoLatticeError as problem:
                problems[form] = str(problem)
    if not forms and not problems:
        raise StudyError("no-geometry", "neither sform nor qform is set, wanted one; export it again with orientation")
    if not forms:
        got = " and ".join(f"the {form} {problem}" for form, problem in problems.items())
        raise StudyError("bad-geometry", f"{got}; re-export it")
    if len(forms) == 2:
        return forms["sform"], _compare(forms["sform"], forms["qform"], shape_xyz)
    if "qform" in forms:
        return forms["qform"], _replacement_warning(problems, "sform", "qform")
    warnings = _replacement_warning(problems, "qform", "sform")
    return forms["sform"], warnings + _compare_pixdim(forms["sform"], fields, mm_per_unit, bool(problems))


class _NoLatticeError(Exception):
    """An sform or qform that defines no lattice; in a message the text follows the form's name."""


def _replacement_warning(problems: dict[str, str], bad: str, good: str) -> Warnings:
    if bad not in problems:
        return ()
    return ((f"bad-{bad}", f"the {bad} {problems[bad]}; the {good} was used"),)


def _from_rows(fields: dict[str, Any]) -> NDArray[np.float64]:
    return np.vstack([np.array(fields["srow"], dtype=np.float64), (0, 0, 0, 1)])


def _from_quaternion(fields: dict[str, Any]) -> NDArray[np.float64]:
    b, c, d = fields["quatern"]
    spacing = np.array(fields["pixdim"][1:4], dtype=np.float64)
    square = b * b + c * c + d * d
    if not ((spacing > 0) & (spacing <= _FARTHEST_MM)).all():
        raise _NoLatticeError("has a voxel size that is not above 0 and finite")
    if not square <= 1 + _QUATERNION_SLACK:
        raise _NoLatticeError("has a quaternion that is no rotation")
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
    """Return the affine in mm.

    Raises:
        _NoLatticeError: it is not finite, too large, or its axes span no space.
    """
    if not (np.abs(affine[:3]) <= _FARTHEST_MM).all():  # NaN too; and no square of what passes can overflow
        raise _NoLatticeError(f"has a value that is not finite or above {_FARTHEST_MM:g}")
    spacing = _spacing(affine)
    if not (spacing > 0).all() or abs(np.linalg.det(affine[:3, :3] / spacing)) < _LEAST_DETERMINANT:
        raise _NoLatticeError("has axes that span no space")
    affine[:3] *= mm_per_unit
    return affine


def _compare(sform: NDArray[np.float64], qform: NDArray[np.float64], shape_xyz: tuple[int, int, int]) -> Warnings:
    if not _same_spacing(_spacing(sform), _spacing(qform)):
        raise _sizes_disagree(_spacing(sform), _spacing(qform))
    corners = np.array([(*corner, 1) for corner in product(*((0, size - 1) for size in shape_xyz))], dtype=np.float64)
    apart = float(np.linalg.norm((sform - qform)[:3] @ corners.T, axis=0).max())
    if apart > DISAGREEMENT_MM:
        return (("forms-disagree", f"sform and qform place a corner {apart:.1f} mm apart; the sform was used"),)
    return ()


def _compare_pixdim(
    sform: NDArray[np.float64], fields: dict[str, Any], mm_per_unit: float, qform_is_set: bool
) -> Warnings:
    """Compare the header's voxel sizes with the sform, where only the sform is used.

    Raises:
        StudyError: ``bad-geometry`` where a qform is set and only its rotation is bad: its sizes count as in
            `_compare`.
    """
    pixdim = np.array(fields["pixdim"][1:4], dtype=np.float64) * mm_per_unit
    if _same_spacing(_spacing(sform), pixdim):
        return ()
    if not qform_is_set:
        return (("pixdim-disagrees", "the header's voxel size is not that of its sform; the sform was used"),)
    if (pixdim > 0).all() and np.isfinite(pixdim).all():
        raise _sizes_disagree(_spacing(sform), pixdim)
    return ()


def _sizes_disagree(sform: NDArray[np.float64], qform: NDArray[np.float64]) -> StudyError:
    texts = [" x ".join(f"{value:.4g}" for value in spacing) for spacing in (sform, qform)]
    return StudyError(
        "bad-geometry",
        f"the voxel is {texts[0]} mm by the sform and {texts[1]} mm by the qform, wanted one size; re-export it",
    )


def _spacing(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(affine[:3, :3], axis=0)
    return lengths


def _same_spacing(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool((np.abs(a - b) <= SPACING_TOLERANCE * np.maximum(np.abs(a), np.abs(b))).all())
