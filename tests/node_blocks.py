"""Nodes that are blocks of voxels."""

from __future__ import annotations

import numpy as np
from blocks import affine_of

from lnfast.geometry import Grid, Volume
from lnfast.matching import NodeMap, node_map
from lnfast.measure import Rules

SHAPE_ZYX = (20, 60, 60)
Corner = tuple[int, int, int]
LARGE, SMALL = (9, 10, 10), (4, 4, 4)


def nodes_at(*blocks: tuple[Corner, Corner], spacing_mm: float = 1.0) -> NodeMap:
    """Nodes that are blocks given by first corner and size, (z, y, x) voxels of 1 mm, numbered in the order given."""
    labels = np.zeros(SHAPE_ZYX, np.uint16)
    for label, (start, size) in enumerate(blocks, start=1):
        labels[tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))] = label
    return node_map(Volume(labels, Grid(SHAPE_ZYX, affine_of((spacing_mm,) * 3))), Rules())
