"""The interpretation of a label map: node ids, or a mask.

A label map holds node ids, or it is a mask of a single value, whose 26-connected components are the nodes. Ids may have
gaps; touching nodes of different ids stay two. A single value may be either: `Meaning` decides where the file cannot.
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
from lnfast.study.labelmap import number_components, number_ids, read_label_file
from lnfast_ext import label_components

Meaning = Literal["auto", "ids", "mask"]
ReadAs = Literal["ids", "components", "one node", "empty"]
# The paper counts up to 35 nodes a patient; an image given instead of a label map has as many values as greys.
IDS_AT_MOST = 1000
# Components of a mask. The table of all pairs of nodes takes 32 MB for this many components on both sides.
PIECES_AT_MOST = 2000


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Node ids on the native grid.

    Attributes:
        labels: ``(z, y, x)`` integers, 1 to n, 0 outside.
        ids: ``ids[i]`` is the value of node ``i + 1`` in the file, ascending; 1 to n for a mask.
        read_as: how the file was interpreted.
        split: number of ids that lie in several components: the values may mean something else, such as classes.
        trailing_bytes: bytes behind the voxels that the header announces; they are ignored.
    """

    labels: Volume
    ids: tuple[int, ...]
    read_as: ReadAs
    split: int
    trailing_bytes: int = 0


def read_label_map(path: Path, meaning: Meaning = "auto") -> LabelMap:
    """Read and interpret a label map.

    Args:
        path: a NIfTI file.
        meaning: as in `as_label_map`.

    Raises:
        StudyError: ``bad-labels`` for more nodes than can be compared; of `lnfast.study.labelmap.read_label_file`.
    """
    file = read_label_file(path)
    try:
        labels = as_label_map(file.values.array, file.values.grid, meaning)
    except StudyError as error:
        raise StudyError(error.code, f"{shown(str(path))}: {error.message}") from error
    return replace(labels, trailing_bytes=file.trailing_bytes)


def as_label_map(values: NDArray[Any], grid: Grid, meaning: Meaning = "auto") -> LabelMap:
    """Interpret the values of a label map.

    Args:
        values: ``(z, y, x)`` integers of 0 and above, 0 outside.
        grid: of the same shape.
        meaning: "ids": each value is a node, also in several components; "mask": every value above 0 is inside, and
            the components are the nodes; "auto": a mask where the file holds a single value, else ids.

    Raises:
        StudyError: ``bad-labels``.
    """
    inside = values != 0
    if not inside.any():
        return LabelMap(Volume(np.zeros(grid.shape, np.uint16), grid), (), "empty", 0)
    present = np.unique(values[inside])
    if meaning == "mask" or (meaning == "auto" and len(present) == 1):
        labels, count = number_components(inside)
        if count > PIECES_AT_MOST:
            raise StudyError("bad-labels", f"holds {count} separate pieces, wanted at most {PIECES_AT_MOST} nodes")
        read_as: ReadAs = "components" if count > 1 else "one node"
        return LabelMap(Volume(labels, grid), tuple(range(1, count + 1)), read_as, 0)
    if len(present) > IDS_AT_MOST:
        raise StudyError(
            "bad-labels", f"holds {len(present)} different values, wanted at most {IDS_AT_MOST} ids; is it an image?"
        )
    labels, ids = number_ids(values)
    return LabelMap(Volume(labels, grid), ids, "ids", _split(labels, len(ids)))


def _split(labels: NDArray[Any], count: int) -> int:
    """Count the ids that lie in several components of the mask; parts that another id connects count as one."""
    inside = labels != 0
    components, _ = label_components(inside)
    ids = labels[inside].astype(np.int64)
    # Each (id, component) once, so that the components of an id can be counted.
    pairs = np.unique(np.stack([ids, components[inside].astype(np.int64)]), axis=1)
    return int(np.count_nonzero(np.bincount(pairs[0], minlength=count + 1) > 1))
