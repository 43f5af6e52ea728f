"""Logits as a trained network leaves them, without a network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.geometry import Grid
from lnfast.phantom.rasterization import Box, index_box
from lnfast.phantom.shapes import Ellipsoid

# Logits as a trained network leaves them: -6 and some noise where there is nothing, growing by one a millimetre (along
# a node's shortest axis) to the middle of a node. Along its longest, at most 2.2 times as long, -6 is 13.2 mm away.
NOTHING, NOISE, LARGEST = -6.0, 0.3, 8.0
REACH_MM = 14.0


def logits_around(bodies: list[Ellipsoid], grid: Grid, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return logits of a network that finds these bodies, in RAS mm, and nothing else; ``(z, y, x)`` float32."""
    logits = rng.standard_normal(grid.shape, np.float32) * np.float32(NOISE) + np.float32(NOTHING)
    for body in bodies:
        box = box_around(body, grid, REACH_MM)
        np.maximum(logits[box], np.minimum(-body.distance(centres_mm(grid, box)), LARGEST), out=logits[box])
    return logits


def box_around(body: Ellipsoid, grid: Grid, reach_mm: float) -> Box:
    """Return the part of the grid that holds the body and ``reach_mm`` about it."""
    low, high = body.bounds()
    box = index_box(low - reach_mm, high + reach_mm, grid.affine, grid.shape)
    assert box is not None, "the body lies inside the field"
    return box


def centres_mm(grid: Grid, box: Box) -> NDArray[np.float32]:
    """Return voxel centres in RAS mm, ``(3, z, y, x)``."""
    z, y, x = np.meshgrid(*(np.arange(part.start, part.stop) for part in box), indexing="ij")
    centres: NDArray[np.float32] = np.moveaxis(grid.to_ras_mm(np.stack((x, y, z), axis=-1)), -1, 0).astype(np.float32)
    return centres
