"""A label map as its file holds it becomes numbered nodes.

Two kinds are admitted: instance maps (each value is one node; gaps are closed) and classes (the node's 26-connected
components are the nodes, as for the runtime). Which of the two a file is cannot be seen in it, one node of value 1 is
both, so ``dataset.json`` says it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import StudyError
from lnfast.geometry import Grid, Volume
from lnfast.study import shown
from lnfast.study.nifti import parse_header
from lnfast.study.stored import open_stored
from lnfast_ext import Components

MOST_NODES = 65535  # uint16
MOST_BYTES = 2 << 30  # as the runtime's own reader
# Two headers of one study differ by the rounding of float32: 1e-4 mm at 1 m. As `lnfast.evaluate` has it.
SAME_PLACE_MM = 1e-2
# Whole numbers that were stored with a scale, such as 255 x 0.00392157, come back as 1.0000004.
ROUNDING = 1e-3


@dataclass(frozen=True)
class LabelRule:
    """What the values of a label map mean.

    Attributes:
        instances: every value above 0 is a node of its own; the rest is not read then.
        node: values that are node, of all nodes together.
        others: values that are known and no node.
    """

    instances: bool = True
    node: tuple[int, ...] = ()
    others: tuple[int, ...] = (0,)


def read_labels(path: Path) -> Volume:
    """Read a label map with the checks of the runtime's reader, less those that only concern an image (b-value, ADC).

    Returns:
        ``(z, y, x)`` int32 from 0 to 65535, native grid.

    Raises:
        StudyError: the codes of `lnfast.study.read_study` for files and geometry; ``bad-labels`` for values that are
            negative, fractional, too large or no number, and for more than one volume.
    """
    try:
        with open_stored(path, MOST_BYTES) as stored:
            header = parse_header(stored.head, MOST_BYTES)
            grid = Grid(header.shape_xyz[::-1], header.affine)
            if header.volumes > 1:
                raise StudyError("bad-labels", f"holds {header.volumes} label maps, wanted one; split it")
            size = header.volume_bytes
            content, _ = stored.values(header.data_offset, size, header.data_offset + size)
            values = np.frombuffer(content, header.dtype).reshape(grid.shape)
        if (header.slope, header.inter) != (1.0, 0.0):
            values = values * header.slope + header.inter
        return Volume(whole_numbers(values), grid)
    except StudyError as error:
        raise StudyError(error.code, f"label {shown(path.name)}: {error.message}") from error


def whole_numbers(values: NDArray[Any]) -> NDArray[np.int32]:
    """The same values as int32; many tools write labels as floating point.

    Raises:
        StudyError: ``bad-labels``.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise StudyError("bad-labels", "holds NaN or infinity, wanted whole numbers; draw it again or export it again")
    low, high = values.min(), values.max()
    if low < 0 or high > MOST_NODES:
        raise StudyError("bad-labels", f"holds values from {low:g} to {high:g}, wanted 0 to {MOST_NODES}")
    if values.dtype.kind != "f":
        return values.astype(np.int32)
    whole: NDArray[np.int32] = np.rint(values).astype(np.int32)
    apart = np.abs(values - whole)
    if apart.max() > ROUNDING:
        raise StudyError(
            "bad-labels",
            f"holds {values.flat[apart.argmax()]:g}, wanted whole numbers; probabilities and smoothed masks are none",
        )
    return whole


def number_nodes(values: NDArray[np.int32], rule: LabelRule) -> NDArray[np.uint16]:
    """Nodes numbered from 1 without a gap: instances in the order of their values, components in raster order.

    Args:
        values: ``(z, y, x)``, as `read_labels` gives them.
        rule: what they mean.

    Raises:
        StudyError: ``bad-labels`` for a value that the rule does not know.
    """
    present = np.unique(values)
    if rule.instances:
        ids = present[present > 0]
        table = np.zeros(int(present[-1]) + 1, np.uint16)
        table[ids] = np.arange(1, len(ids) + 1)
        return table[values]
    strange = [int(value) for value in present if value not in (*rule.node, *rule.others)]
    if strange:
        raise StudyError(
            "bad-labels",
            f"holds the value {', '.join(map(str, strange[:5]))}{', ...' if len(strange) > 5 else ''}, which "
            'dataset.json does not name as a class; if values are nodes, add "instance_labels": true there',
        )
    found = Components(np.isin(values, rule.node))
    if found.count > MOST_NODES:
        raise StudyError("bad-labels", f"holds {found.count} separate nodes, wanted at most {MOST_NODES}")
    labels: NDArray[np.uint16] = found.label(np.zeros(values.shape, np.uint16))
    return labels


def check_same_grid(one: Grid, other: Grid) -> None:
    """Refuse two grids of which the voxels do not lie on each other.

    Args:
        one, other: turned to the same axes; how a file stores them is no difference.

    Raises:
        StudyError: ``grid-mismatch``.
    """
    if one.shape != other.shape:
        raise StudyError(
            "grid-mismatch", f"got grids of {_by(one.shape)} and {_by(other.shape)} voxels (z, y, x), wanted one grid"
        )
    corners = [tuple((size - 1) * at for size, at in zip(one.shape[::-1], ends, strict=True)) for ends in _ENDS]
    apart = float(np.abs(one.to_ras_mm(corners) - other.to_ras_mm(corners)).max())
    if apart > SAME_PLACE_MM:
        raise StudyError(
            "grid-mismatch",
            f"got two grids of which a corner lies {apart:.3g} mm apart, wanted at most {SAME_PLACE_MM} mm",
        )


_ENDS = tuple(product((0, 1), repeat=3))


def _by(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))
