"""The noise-free image of a pelvis: tissues are rasterised into it, in atlas coordinates, one over the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.geometry import Grid
from lnfast.phantom.atlas import DEFORMATION_MM, AtlasTransform
from lnfast.phantom.epi_artefacts import EpiArtefacts
from lnfast.phantom.rasterization import Box, coverage, index_box, sub_offsets
from lnfast.phantom.shapes import Shape

# A voxel is divided 8x8x8 to decide whether half of it lies in a node.
NODE_STEPS = 8


class TissueImage:
    """The noise-free image of one pelvis on the grid of its scan.

    Attributes:
        grid: the grid of the scan.
        transform: from the patient to the atlas.
        artefacts: distortion, ghost and motion of the scan.
        points: (3, z, y, x) float32, the atlas position of the tissue that each voxel shows.
        signal: (z, y, x) float32 noise-free magnitude.
        solid: (z, y, x) float32, how much of the voxel is an organ, bone or bowel, where no node can lie.
        slice_shift_mm: (z, 2) displacement of each slice along x and y: the patient does not lie still.
        density: (z, y, x) float32, how much tissue the distortion compresses into each voxel, 1 where there is none.
        phase_axis: (3,) unit vector of the phase-encoding direction in the atlas, towards the front.
    """

    def __init__(self, grid: Grid, transform: AtlasTransform, artefacts: EpiArtefacts | None = None) -> None:
        self.grid = grid
        self.transform = transform
        self.artefacts = artefacts or EpiArtefacts()
        self.points = transform.atlas_points(grid)
        self.slice_shift_mm = self.artefacts.slice_shifts(grid)
        step = grid.affine[:3, :2] / np.linalg.norm(grid.affine[:3, :2], axis=0)
        # Tissue is rasterised where the scanner shows it: distorted along the phase direction, slices displaced.
        self.slice_shift_ras_mm = self.slice_shift_mm @ step.T
        self.points -= (self.slice_shift_ras_mm / transform.scale).T[:, :, None, None].astype(np.float32)
        phase_axis = -grid.affine[:3, 1] / transform.scale  # y runs to the back
        self.phase_axis = phase_axis / np.linalg.norm(phase_axis)
        self.density = self.artefacts.distort(self.points, self.phase_axis)
        distortion_mm = sum(abs(source.peak_shift_mm) for source in self.artefacts.off_resonances)
        self.max_shift_mm = distortion_mm + float(np.abs(self.slice_shift_mm).max())
        self.signal = np.zeros(grid.shape, dtype=np.float32)
        self.solid = np.zeros(grid.shape, dtype=np.float32)
        spacing = np.array(grid.spacing_zyx_mm)
        self.reach_mm = float(np.linalg.norm(spacing)) / 2 / float(transform.scale.min())
        steps = tuple(int(np.clip(np.ceil(d / 1.0), 2, 5)) for d in spacing)
        shrink = (1 / transform.scale).astype(np.float32)[:, None]
        self.offsets = np.multiply(sub_offsets(grid.affine, (steps[0], steps[1], steps[2])), shrink, dtype=np.float32)
        self.node_offsets = sub_offsets(grid.affine, (NODE_STEPS, NODE_STEPS, NODE_STEPS))
        self._atlas = grid.affine.copy()
        self._atlas[:3, 3] -= transform.origin
        self._atlas[:3] /= transform.scale[:, None]

    def rasterize(self, shape: Shape) -> tuple[Box, NDArray[np.float32]] | None:
        """Return a shape's bounding box on the grid and its coverage of each voxel there; None outside the field."""
        low, high = shape.bounds()
        margin = 3 * DEFORMATION_MM + 1.0 + self.max_shift_mm
        box = index_box(low - margin, high + margin, self._atlas, self.grid.shape)
        if box is None:
            return None
        return box, coverage(shape, self.points[(slice(None), *box)], self.offsets, self.reach_mm)

    def paint(self, shape: Shape, value: float, *, solid: bool = False) -> None:
        """Composite a shape of magnitude ``value`` over the image, in proportion where it covers a voxel in part."""
        rasterized = self.rasterize(shape)
        if rasterized is None:
            return
        box, part = rasterized
        self.signal[box] += part * (np.float32(value) - self.signal[box])
        if solid:
            self.solid[box] = np.maximum(self.solid[box], part)

    def to_ras(self, atlas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where the scanner shows an atlas point (3,), in patient mm, without the shifts of slices."""
        return self.transform.to_ras(self.artefacts.displayed_position(atlas, self.phase_axis))

    def bounding_box(self, shape: Shape) -> Box | None:
        """Return the box of voxels that a shape in RAS mm may touch, whatever the shifts of slices; None outside."""
        slack = np.abs(self.slice_shift_ras_mm).max(axis=0)
        low, high = shape.bounds()
        return index_box(low - slack, high + slack, self.grid.affine, self.grid.shape)

    def coverage_of(self, shape: Shape) -> tuple[Box, NDArray[np.float32]]:
        """Return a box and the coverage of its voxels by a shape in RAS mm, on the sub-grid of the labels."""
        box = self.bounding_box(shape)
        assert box is not None, "nodes are placed inside the field"
        z, y, x = (np.arange(s.start, s.stop) for s in box)
        index = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], axis=-1)
        ras = self.grid.to_ras_mm(index) - self.slice_shift_ras_mm[box[0], None, None]
        points = np.moveaxis(ras, -1, 0).astype(np.float32)
        return box, coverage(shape, points, self.node_offsets, float(np.linalg.norm(self.grid.spacing_zyx_mm)) / 2)
