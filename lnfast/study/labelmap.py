"""The one reader of label maps: files whose voxels say which node they belong to.

The values of a file become whole numbers of 0 and above. The caller knows whether they are node ids or classes, and
numbers the nodes from 1 to n without a gap: with `number_ids`, where each value is a node, or with `number_components`,
where each 26-connected component of a mask is one. `lnfast.study.label_writer` writes such files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError
from lnfast.geometry import Grid, Volume
from lnfast.study.file_content import open_stored
from lnfast.study.nifti import NiftiHeader, parse_header
from lnfast.study.sidecar_files import shown
from lnfast_ext import Components

MAX_BYTES = 2 << 30
NODES_AT_MOST = 65535  # uint16, as label maps are written
# Label maps stored as scaled integers are read with a small error: 255 x 0.00392157 is 1.0000004.
INTEGER_WITHIN = 1e-3


@dataclass(frozen=True, eq=False)
class LabelFile:
    """The content of a label map's file.

    Attributes:
        values: ``(z, y, x)`` integers of 0 and above, native grid.
        trailing_bytes: how many bytes follow the voxels that the header promises; their content is ignored.
    """

    values: Volume
    trailing_bytes: int


def read_label_file(path: Path) -> LabelFile:
    """Read a label map with the checks of the study reader, except those that only concern an image (b-value, ADC).

    Args:
        path: a NIfTI file; of any type whose values are whole numbers within 0.001.

    Raises:
        StudyError: ``bad-labels`` for values that are negative, fractional, not finite, or floating point of 2^53 and
            above; ``not-3d`` for more than one volume; what `lnfast.study.read_study` refuses of any file.
    """
    try:
        with open_stored(path, MAX_BYTES) as stored:
            header = parse_header(stored.head, MAX_BYTES)
            if header.volumes != 1:
                raise StudyError("not-3d", f"holds {header.volumes} volumes, wanted one label map; split it")
            start, size = header.data_offset, header.volume_bytes
            content, trailing_bytes = stored.values(start, size, start + size)
        grid = Grid(header.shape_xyz[::-1], header.affine)
        values = _integers(np.frombuffer(content, header.dtype).reshape(grid.shape), header)
        return LabelFile(Volume(values, grid), trailing_bytes)
    except StudyError as error:
        raise StudyError(error.code, f"{shown(str(path))}: {error.message}") from error


def number_ids(values: NDArray[Any]) -> tuple[NDArray[np.uint16], tuple[int, ...]]:
    """Number nodes in the order of their ids, where each value above 0 is a node.

    Args:
        values: ``(z, y, x)`` integers, 0 outside.

    Returns:
        ``(labels, ids)``: ``(z, y, x)`` from 1 to n, 0 outside; and ``ids[i]``, the value that became ``i + 1``.

    Raises:
        StudyError: ``bad-labels`` for more than 65535 ids.
    """
    inside = values != 0
    ids, places = np.unique(values[inside], return_inverse=True)
    if len(ids) > NODES_AT_MOST:
        raise StudyError("bad-labels", f"holds {len(ids)} different ids, wanted at most {NODES_AT_MOST} nodes")
    labels = np.zeros(values.shape, np.uint16)
    labels[inside] = places + 1
    return labels, tuple(ids.tolist())


def number_components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.uint16], int]:
    """Number the 26-connected components of a mask in raster order of their first voxels.

    Args:
        mask: ``(z, y, x)``.

    Returns:
        ``(labels, count)``: ``(z, y, x)`` from 1 to ``count``, 0 outside.

    Raises:
        StudyError: ``bad-labels`` for more than 65535 components.
    """
    components = Components(mask)
    count = components.count
    if count > NODES_AT_MOST:
        raise StudyError("bad-labels", f"holds {count} separate pieces, wanted at most {NODES_AT_MOST} nodes")
    labels: NDArray[np.uint16] = components.label(np.zeros(mask.shape, np.uint16))
    return labels, components.count


def _integers(values: NDArray[Any], header: NiftiHeader) -> NDArray[Any]:
    """Return the file's values, scaled as its header says, as integers of 0 and above."""
    scaled = (header.slope, header.inter) != (1.0, 0.0)
    if values.dtype.kind in "iu" and not scaled:
        whole = values
    else:
        numbers = values.astype(np.float64)
        if scaled:
            numbers = numbers * header.slope + header.inter
        whole = _rounded(numbers)
    least = whole.min()
    if least < 0:
        raise StudyError("bad-labels", f"holds the value {least}, wanted 0 outside and ids above 0")
    return whole


def _rounded(numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    if not np.isfinite(numbers).all():
        raise StudyError("bad-labels", "holds values that are not finite, wanted 0 outside and ids above 0")
    whole = np.rint(numbers)
    fractional = np.abs(numbers - whole) > INTEGER_WITHIN
    if fractional.any():
        raise StudyError(
            "bad-labels", f"holds the value {numbers[fractional][0]:g}, wanted whole numbers: ids, or one value"
        )
    if np.abs(whole).max(initial=0.0) >= 2**53:
        raise StudyError("bad-labels", f"holds the value {np.abs(whole).max():g}, wanted ids")
    return whole.astype(np.int64)
