"""The grid of a study: how many slices it is analysed on, and how a network works through more than it has.

A network either resamples each study to its own number of slices, or keeps those of a study that has fewer and sees air
beyond them (`slices` of the card). Interpolated between two slices, one is neither, and a node ends a slice too early
or too late.

Squeezed into the slices of the network's grid, a node of a few thin slices would all but vanish. So such a study gets a
deeper grid, on which slabs of the network's own shape overlap by half:

    deep grid    |================================================|
    slabs        |-------- 0 --------|
                            |-------- 1 --------|
                                       |-------- 2 --------|  ...

Where two overlap, each counts the less the nearer a slice is to the face beyond which that slab saw nothing.
"""

from __future__ import annotations

from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.geometry import Grid
from lnfast.window import Window, Zyx

# A few slices more than the grid has are squeezed into it. Of 650 nodes in digital patients of 64 slices 522 were found
# on a grid of 32 slices and 588 in slabs on one of 64; of the 109 suspicious ones 98 and 101.
MOST_SQUEEZED = 1.25
# With finer steps the slices of a node are nearly alike, as no training study shows them, and it is outlined too
# short. Of 20 suspicious nodes in 8 realistic phantoms of 128 slices of 1.25 mm a grid of 48 slices found 12, and no
# N1 patient was N0; grids of 64 and 96 found 12 and 11, and two and one were; squeezed into 32, 10 and one.
FINEST_STEP_MM = 3.0
# Of a number of slices: the rounding of a header must not choose the depth.
_HEADER_NOISE = 1e-3


def grid_for(grid: Grid, shape_zyx: Zyx, *, kept: bool) -> Zyx:
    """Return the grid on which a study is analysed: the network's own, or one with the same plane and other slices.

    A deeper grid has a slice for each of the study's, up to half a slab more, but none nearer than `FINEST_STEP_MM`.

    Args:
        grid: of the study, in the network's axes.
        shape_zyx: of the network.
        kept: whether it keeps a study's slices.
    """
    slices, depth = grid.shape[0], shape_zyx[0]
    if kept and slices < depth:
        return (slices, *shape_zyx[1:])
    step, finest = _step(depth), grid.extent_zyx_mm[0] / FINEST_STEP_MM + _HEADER_NOISE
    more = min(ceil((slices - depth) / step), floor((finest - depth) / step))
    if slices <= MOST_SQUEEZED * depth or more <= 0:
        return shape_zyx
    return (depth + more * step, *shape_zyx[1:])


def slabs_of(grid_zyx: Zyx, shape_zyx: Zyx) -> tuple[Window, ...]:
    """Return the slabs of a grid, from its first slice to its last; the whole grid alone where the network holds it.

    Args:
        grid_zyx: of `grid_for`.
        shape_zyx: of the network.
    """
    if grid_zyx[0] <= shape_zyx[0]:
        return (Window.whole(grid_zyx),)
    step = _step(shape_zyx[0])
    assert (grid_zyx[0] - shape_zyx[0]) % step == 0, "the last slab would not reach the last slice"
    return tuple(Window(grid_zyx, (z, 0, 0), shape_zyx) for z in range(0, grid_zyx[0] - shape_zyx[0] + 1, step))


def add_slab(joined: NDArray[np.float32], slab: Window, logits: NDArray[Any]) -> None:
    """Add the logits of one slab to those of its grid; once all have been added, each slice has their weighted mean.

    Args:
        joined: ``(z, y, x)`` of the slab's grid, zeros before the first slab.
        slab: one of `slabs_of`.
        logits: ``(z, y, x)`` of the slab, float32 or float16.
    """
    depth = slab.shape_zyx[0]
    overlap = depth - _step(depth)
    rise = (np.arange(overlap, dtype=np.float32) + np.float32(0.5)) / np.float32(overlap)
    share = np.ones(depth, np.float32)
    if slab.start_zyx[0] > 0:
        share[:overlap] = rise
    if slab.stop_zyx[0] < slab.grid_zyx[0]:
        share[depth - overlap :] = rise[::-1]
    joined[slab.start_zyx[0] : slab.stop_zyx[0]] += share[:, None, None] * logits


def _step(depth: int) -> int:
    """Return how far each slab begins behind the one before: half of it, so that no slice has more than two."""
    return (depth + 1) // 2
