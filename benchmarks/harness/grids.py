"""Grids that several groups need."""

from __future__ import annotations

import numpy as np

from lnfast.geometry import Grid

# The paper's network.
NETWORK_ZYX = (64, 256, 256)


def network_grid(native: Grid, shape: tuple[int, int, int] = NETWORK_ZYX) -> Grid:
    """Return the grid of that shape with the same outer edges."""
    ratio_xyz = np.array(native.shape[::-1]) / np.array(shape[::-1])
    step = np.diag((*ratio_xyz, 1.0))
    step[:3, 3] = (ratio_xyz - 1) / 2
    return Grid(shape, native.affine @ step)
