"""Rasterisation: which part of each voxel a shape covers.

A voxel whose centre is farther than half its diagonal from the surface is full or empty, because a shape's distance is
conservative; only the shell in between is supersampled:

    . . # # # #        . empty   d >  half diagonal
    . s s # # #        s shell   counted on sub-points
    . . s s # #        # full    d < -half diagonal
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnfast.phantom.shapes import Points, Shape

Box = tuple[slice, slice, slice]


def sub_offsets(affine: NDArray[np.float64], steps_zyx: tuple[int, int, int]) -> Points:
    """Return the offsets (3, n) in mm of the cells of a regular sub-grid from a voxel's centre."""
    z, y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in steps_zyx)
    grid = np.stack(np.meshgrid(x, y, z, indexing="ij")).reshape(3, -1)
    return (affine[:3, :3] @ grid).astype(np.float32)


def coverage(shape: Shape, points: Points, offsets: Points, reach_mm: float) -> NDArray[np.float32]:
    """Return the part of each voxel that lies in a shape.

    Args:
        shape: what is rasterised.
        points: (3, z, y, x) voxel centres in mm.
        offsets: (3, n) sub-points of a voxel in mm.
        reach_mm: half the voxel's diagonal.

    Returns:
        (z, y, x) float32 in 0..1, exact in the full and the empty part, in steps of 1/n between.
    """
    d = shape.distance(points)
    part = (d < 0).astype(np.float32)
    shell = np.abs(d) < reach_mm
    if shell.any():
        sub = points[:, shell][:, :, None] + offsets[:, None, :]
        part[shell] = (shape.distance(sub) < 0).mean(axis=1, dtype=np.float32)
    return part


def index_box(low: ArrayLike, high: ArrayLike, affine: NDArray[np.float64], shape: tuple[int, ...]) -> Box | None:
    """Return the slices (z, y, x) of the voxels that a box in mm may touch; None when it lies outside the grid."""
    ends = np.array((low, high), dtype=np.float64)
    corners = np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    index = (corners - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    first = np.maximum(np.floor(index.min(axis=0)).astype(int), 0)[::-1]
    last = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1, np.array(shape[::-1]))[::-1]
    if (first >= last).any():
        return None
    return slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])
