"""The texture of tissue: no tissue is of one grey."""

from __future__ import annotations

import numpy as np

from lnfast.phantom.painter import TissuePainter
from lnfast.phantom.random_field import smooth_field


def apply_texture(painter: TissuePainter) -> None:
    """Multiply the image by random fields at 12 mm, 5 mm and, finer than most voxels, 2.5 mm."""
    grid, rng = painter.image.grid, painter.rng
    for length, amount in (
        (12.0, rng.uniform(0.06, 0.2)),
        (5.0, rng.uniform(0.05, 0.2)),
        (2.5, rng.uniform(0.0, 0.15)),
    ):
        grain = smooth_field(grid.shape, grid.spacing_zyx_mm, length, painter.rng)
        painter.image.signal *= np.maximum(1 + np.float32(amount) * grain, 0.3)
