"""The image of a body: the part of each voxel that it fills, and a scanner's image of it.

part    the part of a voxel that lies in the body: a slice's profile is a box as thick as the slice, so this is the
        field of a perfect scanner
truth   voxels of which at least half lies in the body, as the phantom labels them
imaged  the part, blurred in plane as echo-planar imaging does and with noise, cut at half the node's brightness
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lnfast.geometry import Grid
from lnfast.phantom import SCANNERS
from lnfast.phantom.protocol import sample_grid
from lnfast.phantom.rasterization import coverage, index_box, sub_offsets
from lnfast.phantom.shapes import Ellipsoid

STEPS = 8  # a voxel is divided 8x8x8, as the phantom's labels are
MARGIN = 2  # voxels around a body, so that its surface is never cut
THIN_MM = (1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0)
THIN_SCANNER = "ingenia"  # its pixels and height are those of the stacks of every thickness
# In pixels along y and x, the middle of what the phantom's scanners have, and noise as a part of the node's brightness:
# nodes stand at three to four times muscle, and muscle at some three times the noise.
BLUR_YX, NOISE = (0.65, 0.45), 0.1
HALF = 0.5

Field = NDArray[np.float64]
Mask = NDArray[np.bool_]


def scanner_grid(scanner: str) -> Grid:
    """Return the grid of a scanner's study, untilted: nodes have random directions."""
    return sample_grid(SCANNERS[scanner], np.zeros(3), 0.0)


def thin_grid(slice_mm: float) -> Grid:
    """Return a stack as high as `THIN_SCANNER`'s, with slices of another thickness."""
    usual = SCANNERS[THIN_SCANNER]
    slices = round(usual.slices * usual.slice_mm / slice_mm)
    return sample_grid(replace(usual, slice_mm=slice_mm, slices=slices), np.zeros(3), 0.0)


def random_place(grid: Grid, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a point (3,) in mm in the middle half of the grid, so that no body reaches its rim."""
    shape_xyz = np.array(grid.shape[::-1])
    return grid.to_ras_mm((shape_xyz - 1) * rng.uniform(0.25, 0.75, 3))


def part_of(body: Ellipsoid, grid: Grid) -> tuple[Field, Grid]:
    """Return the part of each voxel around a body that it fills, and the grid of those voxels."""
    box = index_box(*body.bounds(), grid.affine, grid.shape)
    assert box is not None, "bodies lie inside the grid"
    start = np.array([axis.start for axis in box]) - MARGIN
    shape = tuple(axis.stop - axis.start + 2 * MARGIN for axis in box)
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_ras_mm(start[::-1])
    local = Grid(shape, affine)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")[::-1], axis=-1)
    points = np.moveaxis(local.to_ras_mm(index), -1, 0).astype(np.float32)
    reach_mm = float(np.linalg.norm(local.spacing_zyx_mm)) / 2
    part = coverage(body, points, sub_offsets(affine, (STEPS, STEPS, STEPS)), reach_mm)
    return part.astype(np.float64), local


def imaged(part: Field, rng: np.random.Generator) -> Field:
    """Return a scanner's image of a body of brightness 1 on a dark ground."""
    blurred = ndimage.gaussian_filter(part, (0.0, *BLUR_YX), mode="nearest")
    return np.asarray(blurred + NOISE * rng.standard_normal(part.shape))


def largest_component(field: Field) -> Mask:
    """Return the largest 26-connected component of the voxels at half or more; the mask may be blank."""
    mask = field >= HALF
    mask[[0, -1]] = mask[:, [0, -1]] = mask[:, :, [0, -1]] = False  # noise at the rim of the cut-out
    components, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count <= 1:
        return mask
    return np.asarray(components == 1 + int(np.bincount(components.ravel())[1:].argmax()))
