"""Check the bytes that follow the voxels: a harmless tail, or proof that the header is not this file's.

A file that is longer than its header says usually has the header of another file: values of a wider type (int64 called
float32), a header of fewer slices, rows or columns, a 3D header on 4D data. Its voxels would be read from the wrong
positions, and the result would look like a study without nodes. Bytes that are appended to a whole file are few: a
checksum, a line's end, zeros up to the next block of 512 to 4096 bytes.

So trailing bytes are accepted as a tail, with a warning, only if they are

- no whole number of rows and no whole number of columns (a slice or a volume is made of whole rows),
- fewer than `_BLOCK_BYTES`,
- and fewer than a row, or at most `_TAIL_SHARE` of the voxels: the least that a wrong header can leave out of an image
  of usual size is 0.3 %, one column or row of 300, which is a whole one.

Padding that happens to be as long as some rows is refused too. That is rare, is reported, and one command cuts the
padding off.
"""

from __future__ import annotations

import math

from lnfast.errors import StudyError
from lnfast.study.nifti import NiftiHeader

_BLOCK_BYTES = 4096
_TAIL_SHARE = 0.01
# Bytes of a voxel of any NIfTI type: integers and floats, RGB and RGBA, complex, float128, complex256.
_VOXEL_BYTES = (1, 2, 3, 4, 8, 16, 32)


def check_tail(header: NiftiHeader, extra: int) -> tuple[tuple[str, str], ...]:
    """Return the warnings about ``extra`` bytes behind the voxels that ``header`` promises.

    Raises:
        StudyError: ``damaged-header`` where the bytes are part of the image.
    """
    if not extra:
        return ()
    surplus = _surplus(header, extra)
    if surplus:
        raise StudyError(
            "damaged-header",
            f"holds {extra} bytes more than its header promises, {surplus}: the header is not that of these voxels; "
            "export the study again",
        )
    return (("trailing-data", f"{extra} bytes follow the voxels that the header promises; they were ignored"),)


def _surplus(header: NiftiHeader, extra: int) -> str:
    """Describe the bytes if they are part of the image; empty where they may be a harmless tail."""
    columns, rows, slices = header.shape_xyz
    voxel = header.dtype.itemsize
    voxels = math.prod(header.shape_xyz) * header.volumes
    row, column = columns * voxel, rows * slices * header.volumes * voxel
    meanings = [
        f"as many as {_counted(extra // size, unit)}"
        for unit, size in (("volume", row * rows * slices), ("slice", row * rows), ("row", row))
        if extra % size == 0
    ][:1]
    if not meanings and extra % column == 0:
        meanings.append(f"as many as {_counted(extra // column, 'column')} in every slice")
    meanings += [
        f"as many as {size} bytes a voxel make where it says {voxel} ({header.dtype.name})"
        for size in _VOXEL_BYTES
        if extra == voxels * (size - voxel)
    ]
    if meanings:
        return " or ".join(meanings)
    if extra < _BLOCK_BYTES and (extra < row or extra <= _TAIL_SHARE * voxels * voxel):
        return ""
    return "too many to be a tail"


def _counted(number: int, unit: str) -> str:
    return f"{number} more {unit}" + ("s" if number > 1 else "")
