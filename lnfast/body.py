"""Find the patient on the model grid; `lnfast.window` chooses the window that contains the result.

A third of a pelvic field of view is air. At b = 800 to 1000 with suppressed fat, muscle is only 1.3 to 5 times as
bright as the noise there, so the values of single voxels overlap. Means of 4 x 4 pixels over some slices do not, since
noise shrinks to a few percent in them:

    slices   --mean-->   cells   --over the level, no speck-->   rows and columns with body
                                 level: the darkest corner + a part of the way to bright tissue

Errors make the extent larger, never smaller: a large ghost counts as body, and where a corner is padded with zeros so
does noise. Every slice counts as the patient's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.card import ModelCard
from lnfast.geometry import Volume
from lnfast.window import Zyx
from lnfast_ext import label_components

CELL = 4  # pixels along a side
# Slices that are averaged together: an oblique body part is in some slices only, and more slices would dilute it.
SLAB = 8
CORNER = 3  # cells along a side
# Of the cells of one slab: the percentile that tissue reaches, and the number in a row or column that noise does not.
BRIGHT_PERCENTILE = 90
FEWEST = 3
SPECK = 0.05  # of the largest component: ghosts and objects on the patient are smaller
# The level lies this many deviations of a corner's cells above their mean, within these parts of the way to tissue.
DEVIATIONS = 5.0
PART_OF_THE_WAY = (0.1, 0.25)

Floats = NDArray[np.float64]


def body_extent(volume: Volume, card: ModelCard) -> tuple[Zyx, Zyx]:
    """Return the bounding box of the patient: of all that is not air.

    It takes one pass over the voxels, 1 to 2 ms for 28x240x240 of int16. The result does not change under
    ``slope * v + inter`` with a positive slope.

    Args:
        volume: native grid, any strides.
        card: says the network's grid and axes.

    Returns:
        ``(start_zyx, stop_zyx)`` on the network's grid, first voxel and one past the last; the whole grid where body
        and air cannot be separated.
    """
    view = volume.oriented(card.orientation).array
    with np.errstate(invalid="ignore", over="ignore"):  # values that are not finite count as body
        slabs = np.array_split(view, max(len(view) // SLAB, 1))
        body = np.any([_is_body(_cells(slab)) for slab in slabs], axis=0)
    depth, height, width = card.shape_zyx
    top, bottom = _reach(body.sum(axis=1), view.shape[1], height)
    left, right = _reach(body.sum(axis=0), view.shape[2], width)
    return (0, top, left), (depth, bottom, right)


def _cells(slab: NDArray[np.generic]) -> Floats:
    """Return means of ``CELL`` x ``CELL`` pixels, fewer at the far edges, over all slices."""
    total: Floats = slab.sum(axis=0, dtype=np.float64)
    height, width = (np.diff(np.arange(0, size, CELL), append=size) for size in total.shape)
    means: Floats = _sums(_sums(total).T).T / (len(slab) * np.outer(height, width))
    return means


def _sums(rows: Floats) -> Floats:
    """Return the sums of each ``CELL`` rows, fewer at the far end."""
    sums = rows[::CELL].copy()
    for k in range(1, CELL):
        more = rows[k::CELL]
        sums[: len(more)] += more
    return sums


def _is_body(cells: Floats) -> NDArray[np.bool_]:
    ends = slice(None, CORNER), slice(-CORNER, None)
    dark = min((cells[y, x] for y in ends for x in ends), key=np.mean)
    air = dark.mean()
    way = np.percentile(cells, BRIGHT_PERCENTILE) - air
    low, high = PART_OF_THE_WAY
    level = air + min(max(DEVIATIONS * dark.std(), low * way), high * way)
    return _without_specks(~(cells <= level)) if way > 0 else np.ones(cells.shape, np.bool_)


def _without_specks(body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = label_components(body[np.newaxis])
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    large = sizes >= SPECK * max(sizes[1:], default=0)
    large[0] = False
    mask: NDArray[np.bool_] = large[labels[0]]
    return mask


def _reach(cells: NDArray[np.intp], native: int, grid: int) -> tuple[int, int]:
    """Return start and stop of the rows with body, in voxels of the network, from the number of body cells in each."""
    rows = np.flatnonzero(cells >= FEWEST)
    if rows.size == 0:
        return 0, grid
    first, past = int(rows[0]) * CELL, min((int(rows[-1]) + 1) * CELL, native)
    return first * grid // native, -(-past * grid // native)
