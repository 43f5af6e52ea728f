"""The picture being painted: atlas coordinates of every voxel, the magnitude so far, and what is occupied."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnfast.geometry import Grid
from lnfast.phantom.echo import EchoPlanar
from lnfast.phantom.shapes import Box, Points, Shape, coverage, index_box, sub_offsets

WOBBLE_MM = 2.5  # amplitude of each of the three waves that make one pelvis unlike the next

NODE_STEPS = 8  # a voxel is divided 8x8x8 to decide whether half of it lies in a node


class Frame:
    """Patient millimetres to atlas millimetres: shift, scale, and a smooth wobble.

    ``atlas = (ras - origin) / scale + wobble(ras)``. The anatomy is written down once, in the atlas (origin between
    the femoral heads); patients differ by their frame.
    """

    def __init__(self, rng: np.random.Generator, origin_ras_mm: NDArray[np.float64]) -> None:
        self.origin = origin_ras_mm
        self.scale = rng.normal(1.0, (0.05, 0.05, 0.06), 3).clip(0.85, 1.15)
        length = rng.uniform(70.0, 170.0, (3, 1))
        turn = rng.standard_normal((3, 3))
        self.waves = 2 * np.pi / length * turn / np.linalg.norm(turn, axis=1, keepdims=True)
        self.phases = rng.uniform(0, 2 * np.pi, 3)
        self.amplitudes = rng.uniform(-WOBBLE_MM, WOBBLE_MM, (3, 3))

    def wobble(self, ras: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) mm at points (n, 3)."""
        moved: NDArray[np.float64] = np.sin(ras @ self.waves.T + self.phases) @ self.amplitudes
        return moved

    def to_ras(self, atlas: ArrayLike) -> NDArray[np.float64]:
        """Patient position of one atlas point (3,), to better than 0.01 mm."""
        target = np.asarray(atlas, dtype=np.float64)[None]
        ras = self.origin + self.scale * target
        for _ in range(8):
            ras = self.origin + self.scale * (target - self.wobble(ras))
        return np.asarray(ras[0], dtype=np.float64)

    def atlas_points(self, grid: Grid) -> Points:
        """(3, z, y, x) float32 atlas position of every voxel centre.

        A wave on a lattice is a product of three one-dimensional waves, so no sine is taken per voxel.
        """
        nz, ny, nx = grid.shape
        step, start = grid.affine[:3, :3], grid.affine[:3, 3]
        axes = [np.arange(n, dtype=np.float64) for n in (nx, ny, nz)]
        points = np.empty((3, nz, ny, nx), dtype=np.float32)
        for i in range(3):
            a, b, c = (step[i, k] * axes[k] / self.scale[i] for k in range(3))
            base = (start[i] - self.origin[i]) / self.scale[i]
            points[i] = (c[:, None, None] + base) + b[None, :, None] + a[None, None, :]
        for wave, phase, amplitude in zip(self.waves, self.phases, self.amplitudes, strict=True):
            ex, ey, ez = (np.exp(1j * axes[k] * (wave @ step[:, k])).astype(np.complex64) for k in range(3))
            ez = ez * np.complex64(np.exp(1j * (phase + wave @ start)))
            sine = ((ez[:, None] * ey[None, :])[:, :, None] * ex).imag
            for i in range(3):
                points[i] += np.float32(amplitude[i]) * sine
        return points


class Canvas:
    """A pelvis in the making.

    Attributes:
        grid: of the scan.
        signal: (z, y, x) float32 noise-free magnitude.
        solid: (z, y, x) float32, how much of the voxel is an organ, bone or bowel, where no node can lie.
        slide_mm: (z, 2) how far each slice has moved along x and y: the patient does not lie still.
        density: (z, y, x) float32, how much tissue distortion has drawn into each voxel, 1 where there is none.
    """

    def __init__(self, grid: Grid, frame: Frame, echo: EchoPlanar | None = None) -> None:
        self.grid = grid
        self.frame = frame
        self.echo = echo or EchoPlanar()
        self.points = frame.atlas_points(grid)
        self.slide_mm = self.echo.slides(grid)
        step = grid.affine[:3, :2] / np.linalg.norm(grid.affine[:3, :2], axis=0)
        # What is painted lies where the scanner shows it: distorted along the phase direction, slices apart.
        self.slide_ras_mm = self.slide_mm @ step.T
        self.points -= (self.slide_ras_mm / frame.scale).T[:, :, None, None].astype(np.float32)
        forward = -grid.affine[:3, 1] / frame.scale  # y runs to the back
        self.forward = forward / np.linalg.norm(forward)
        self.density = self.echo.distort(self.points, self.forward)
        self.moved_mm = sum(abs(bump.height_mm) for bump in self.echo.bumps) + float(np.abs(self.slide_mm).max())
        self.signal = np.zeros(grid.shape, dtype=np.float32)
        self.solid = np.zeros(grid.shape, dtype=np.float32)
        spacing = np.array(grid.spacing_zyx_mm)
        self.reach_mm = float(np.linalg.norm(spacing)) / 2 / float(frame.scale.min())
        steps = tuple(int(np.clip(np.ceil(d / 1.0), 2, 5)) for d in spacing)
        shrink = (1 / frame.scale).astype(np.float32)[:, None]
        self.offsets = np.multiply(sub_offsets(grid.affine, (steps[0], steps[1], steps[2])), shrink, dtype=np.float32)
        self.node_offsets = sub_offsets(grid.affine, (NODE_STEPS, NODE_STEPS, NODE_STEPS))
        self._atlas = grid.affine.copy()
        self._atlas[:3, 3] -= frame.origin
        self._atlas[:3] /= frame.scale[:, None]

    def fill(self, shape: Shape) -> tuple[Box, NDArray[np.float32]] | None:
        """The shape's box on the grid and how much of each voxel there it fills; None outside the field."""
        low, high = shape.bounds()
        margin = 3 * WOBBLE_MM + 1.0 + self.moved_mm
        box = index_box(low - margin, high + margin, self._atlas, self.grid.shape)
        if box is None:
            return None
        return box, coverage(shape, self.points[(slice(None), *box)], self.offsets, self.reach_mm)

    def paint(self, shape: Shape, value: float, *, solid: bool = False) -> None:
        """Lay a shape of magnitude ``value`` over what is there, in proportion where it fills a voxel in part."""
        filled = self.fill(shape)
        if filled is None:
            return
        box, part = filled
        self.signal[box] += part * (np.float32(value) - self.signal[box])
        if solid:
            self.solid[box] = np.maximum(self.solid[box], part)

    def to_ras(self, atlas: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the scanner shows an atlas point (3,), in patient mm, slices not moved."""
        return self.frame.to_ras(self.echo.shown(atlas, self.forward))

    def reach_of(self, shape: Shape) -> Box | None:
        """The box of voxels that a shape in RAS mm may touch, wherever its slices have moved."""
        slack = np.abs(self.slide_ras_mm).max(axis=0)
        low, high = shape.bounds()
        return index_box(low - slack, high + slack, self.grid.affine, self.grid.shape)

    def part_of(self, shape: Shape) -> tuple[Box, NDArray[np.float32]]:
        """How much of each voxel a shape given in RAS mm fills (the label's own sub-grid, so both agree)."""
        box = self.reach_of(shape)
        assert box is not None, "nodes are placed inside the field"
        z, y, x = (np.arange(s.start, s.stop) for s in box)
        index = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], axis=-1)
        ras = self.grid.to_ras_mm(index) - self.slide_ras_mm[box[0], None, None]
        points = np.moveaxis(ras, -1, 0).astype(np.float32)
        return box, coverage(shape, points, self.node_offsets, float(np.linalg.norm(self.grid.spacing_zyx_mm)) / 2)
