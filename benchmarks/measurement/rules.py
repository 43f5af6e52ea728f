"""A node's short axis by each rule: the engine's rules and a rule that was tried beside them.

box        short edge of the smallest box around the voxel corners
axial      extent across the longest in-plane diameter, pixel corners
surface    short edge of the smallest box around the half-level points on the lines between voxel centres
ellipsoid  short axis of the ellipsoid of equal second moments (`lnfast_ext.ellipsoid_short_axes`)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.measurement.imaging import Field, Mask
from lnfast_ext import measure_components, min_volume_box

AXES = range(3)


def box_and_axial_mm(mask: Mask, affine: NDArray[np.float64]) -> tuple[float, float]:
    """Return the short axis by the box rule and by the axial rule, as the engine measures them."""
    row = measure_components(mask.astype(np.uint8), 1, affine)[0]
    return float(row["box_mm"][0]), float(row["axial_short_mm"])


def surface_mm(field: Field, mask: Mask, level: float, affine: NDArray[np.float64]) -> float:
    """Return the short edge of the smallest box around the level's surface.

    Args:
        field: ``(z, y, x)``, linear between voxel centres.
        mask: voxels of the node, none at the rim; the field is at the level or above in them and below it beside them.
        level: of the surface.
        affine: (4, 4), index ``(x, y, z, 1)`` to mm.
    """
    inside = np.argwhere(mask)
    points = []
    for axis in AXES:
        for step in (-1, 1):
            beside = inside.copy()
            beside[:, axis] += step
            leaves = ~mask[tuple(beside.T)]
            here, there = inside[leaves], beside[leaves]
            value, next_value = field[tuple(here.T)], field[tuple(there.T)]
            share = (value - level) / np.maximum(value - next_value, np.finfo(np.float64).tiny)
            points.append(here + np.clip(share, 0, 1)[:, None] * (there - here))
    points_xyz = np.concatenate(points)[:, ::-1]
    _, _, edges_mm = min_volume_box(points_xyz @ affine[:3, :3].T)
    return float(edges_mm[0])
