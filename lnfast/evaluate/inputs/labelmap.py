"""One label map: node ids, or a mask.

A label map says node ids, or it is a mask: one value, and its 26-connected components are the nodes. Ids may have gaps;
touching nodes of different ids stay two. A single value may be either; `Meaning` settles what the file cannot say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError
from lnfast.geometry import Grid, Volume
from lnfast.study import shown
from lnfast.study.nifti import NiftiHeader, parse_header
from lnfast.study.stored import open_stored
from lnfast_ext import label_components

Meaning = Literal["auto", "ids", "mask"]
ReadAs = Literal["ids", "components", "one node", "empty"]
MAX_BYTES = 2 << 30
# The paper counts up to 35 nodes a patient; a study's image in a label map's place has as many values as greys.
IDS_AT_MOST = 1000
# Of a mask. A study keeps the table of all pairs of nodes: 32 MB for noise of this many pieces on both sides.
PIECES_AT_MOST = 2000
# Label maps stored as scaled int16 come back a little beside their integers.
INTEGER_WITHIN = 1e-3


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Node ids on the native grid.

    Attributes:
        labels: ``(z, y, x)`` integers, 1 to n, 0 outside.
        ids: ``ids[i]`` is what the file calls node ``i + 1``, ascending; 1 to n where it only says where nodes are.
        read_as: what the file was taken for.
        split: how many ids lie in several pieces: the file may mean something else by its values, such as classes.
        trailing_bytes: of the file, behind the voxels that its header promises; they were not looked at.
    """

    labels: Volume
    ids: tuple[int, ...]
    read_as: ReadAs
    split: int
    trailing_bytes: int = 0


def read_label_map(path: Path, meaning: Meaning = "auto") -> LabelMap:
    """Read one label map.

    Args:
        path: a NIfTI file.
        meaning: as in `as_label_map`.

    Raises:
        StudyError: ``bad-labels`` for values that are no ids; ``not-3d`` and what `lnfast.study.read_study` refuses of
            any file.
    """
    try:
        with open_stored(path, MAX_BYTES) as stored:
            header = parse_header(stored.head, MAX_BYTES)
            if header.volumes != 1:
                raise StudyError("not-3d", f"holds {header.volumes} volumes, wanted one label map")
            start, size = header.data_offset, header.volume_bytes
            content, behind = stored.values(start, size, start + size)
        grid = Grid(header.shape_xyz[::-1], header.affine)
        values = _integers(np.frombuffer(content, header.dtype).reshape(grid.shape), header)
        return replace(as_label_map(values, grid, meaning), trailing_bytes=behind)
    except StudyError as error:
        raise StudyError(error.code, f"{shown(str(path))}: {error.message}") from error


def as_label_map(values: NDArray[Any], grid: Grid, meaning: Meaning = "auto") -> LabelMap:
    """Decide what a label map means.

    Args:
        values: ``(z, y, x)`` integers, 0 outside.
        grid: of the same shape.
        meaning: "ids": each value is a node, in however many pieces; "mask": whatever is not 0 is inside, and its
            components are the nodes; "auto": a mask where the file holds one value, else ids.

    Raises:
        StudyError: ``bad-labels``.
    """
    inside = values != 0
    ids, places = np.unique(values[inside], return_inverse=True)
    if not len(ids):
        return LabelMap(Volume(np.zeros(grid.shape, np.uint16), grid), (), "empty", 0)
    if ids[0] < 0:
        raise StudyError("bad-labels", f"holds the value {ids[0]}, wanted 0 outside and ids above 0")
    if meaning == "mask" or (meaning == "auto" and len(ids) == 1):
        labels, count = label_components(inside)
        if count > PIECES_AT_MOST:
            raise StudyError("bad-labels", f"holds {count} separate pieces, wanted at most {PIECES_AT_MOST} nodes")
        read_as: ReadAs = "components" if count > 1 else "one node"
        return LabelMap(Volume(labels, grid), tuple(range(1, count + 1)), read_as, 0)
    if len(ids) > IDS_AT_MOST:
        raise StudyError(
            "bad-labels", f"holds {len(ids)} different values, wanted at most {IDS_AT_MOST} ids; is it an image?"
        )
    labels = np.zeros(grid.shape, np.uint16)
    labels[inside] = places + 1
    return LabelMap(Volume(labels, grid), tuple(ids.tolist()), "ids", _split(labels, len(ids)))


def _integers(values: NDArray[Any], header: NiftiHeader) -> NDArray[Any]:
    """What the file's numbers mean, as integers."""
    scaled = (header.slope, header.inter) != (1.0, 0.0)
    if values.dtype.kind in "iu" and not scaled:
        return values
    meant = values.astype(np.float64)
    if scaled:
        meant = meant * header.slope + header.inter
    if not np.isfinite(meant).all():
        raise StudyError("bad-labels", "holds values that are not finite, wanted 0 outside and ids above 0")
    whole = np.rint(meant)
    beside = np.abs(meant - whole) > INTEGER_WITHIN
    if beside.any():
        raise StudyError("bad-labels", f"holds the value {meant[beside][0]:g}, wanted whole numbers: ids, or one value")
    if np.abs(whole).max(initial=0.0) >= 2**53:
        raise StudyError("bad-labels", f"holds the value {np.abs(whole).max():g}, wanted ids")
    return whole.astype(np.int64)


def _split(labels: NDArray[Any], count: int) -> int:
    """How many ids lie in several components of the mask. What another id bridges is not told apart."""
    inside = labels != 0
    pieces, _ = label_components(inside)
    ids = labels[inside].astype(np.int64)
    # Each (id, piece) once, so that ids may be counted by their pieces.
    both = np.unique(np.stack([ids, pieces[inside].astype(np.int64)]), axis=1)
    return int(np.count_nonzero(np.bincount(both[0], minlength=count + 1) > 1))
