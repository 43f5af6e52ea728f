"""Write a label map as a compressed single-file NIfTI-1: labels.nii.gz.

This takes under 2 ms, where nibabel's import takes 0.23 s and zlib 19 ms for 28x240x240 labels. The same labels give
the same bytes.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import UsageError
from lnfast.geometry import Grid, Volume
from lnfast.study.nifti import NIFTI1 as HEADER  # one definition of the header for reading and writing

_UINT16, _MILLIMETRES, _LABELS, _SCANNER_SPACE = 512, 2, 1002, 1
_VOXELS_AT_MOST = 32767  # along an axis: NIfTI-1 counts in int16
_VOX_OFFSET = 352  # header and four bytes that say "no extensions"
_COMPRESSION = 1  # 5.6 KB in 0.3 ms; level 0 is no faster, level 3 takes 12 ms


def label_map_bytes(labels: Volume) -> bytes:
    """Return a label map as the content of a ``.nii.gz`` file.

    Args:
        labels: ``(z, y, x)`` of values that fit uint16.

    Raises:
        UsageError: ``bad-labels`` for values or a shape that the file cannot hold.
    """
    from isal import igzip

    values = labels.array
    if values.dtype != np.uint16:
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise UsageError("bad-labels", f"got labels from {values.min()} to {values.max()}, wanted 0 to 65535")
        values = values.astype(np.uint16)
    if max(values.shape) > _VOXELS_AT_MOST:
        raise UsageError("bad-labels", f"got labels of shape {values.shape}, wanted at most {_VOXELS_AT_MOST} an axis")
    content = _header(labels.grid) + values.astype("<u2", copy=False).tobytes()
    packed: bytes = igzip.compress(content, _COMPRESSION, mtime=0)
    return packed


def _header(grid: Grid) -> bytes:
    z, y, x = grid.shape
    dz, dy, dx = grid.spacing_zyx_mm
    quaternion, handedness = quaternion_of(grid.affine)
    row: Any = np.zeros(1, HEADER)
    row["dim"] = (3, x, y, z, 1, 1, 1, 1)
    row["datatype"], row["bitpix"] = _UINT16, 16
    row["pixdim"] = (handedness, dx, dy, dz, 0, 0, 0, 0)
    row["vox_offset"], row["scl_slope"], row["scl_inter"] = _VOX_OFFSET, 1, 0
    row["xyzt_units"] = _MILLIMETRES
    row["descrip"] = b"lnfast: value = node id; for research use only"
    row["qform_code"] = row["sform_code"] = _SCANNER_SPACE
    row["quatern"], row["qoffset"] = quaternion, grid.affine[:3, 3]
    row["srow"] = grid.affine[:3]
    header = bytearray(row.tobytes())
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<h", header, 68, _LABELS)
    struct.pack_into("4s", header, 344, b"n+1")
    return bytes(header) + bytes(4)


def quaternion_of(affine: NDArray[np.float64]) -> tuple[tuple[float, float, float], float]:
    """Return the quaternion ``(b, c, d)`` of an affine's rotation and its handedness (qfac), as nifti1.h defines them.

    The rotation is the nearest one, and its quaternion the eigenvector of the greatest eigenvalue (Bar-Itzhack 2000):
    no case distinctions, no loss of digits near half turns.
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    handedness = -1.0 if np.linalg.det(axes) < 0 else 1.0
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = axes * (1.0, 1.0, handedness)
    matrix = (
        (xx + yy + zz, zy - yz, xz - zx, yx - xy),
        (zy - yz, xx - yy - zz, yx + xy, xz + zx),
        (xz - zx, yx + xy, yy - xx - zz, zy + yz),
        (yx - xy, xz + zx, zy + yz, zz - xx - yy),
    )
    a, b, c, d = np.linalg.eigh(np.array(matrix))[1][:, 3].tolist()
    sign = -1.0 if a < 0 else 1.0
    return (sign * b, sign * c, sign * d), handedness
