"""The atlas transform: from a patient's millimetres to those of the atlas in which the anatomy is written down.

Atlas millimetres have RAS directions (x to the patient's right, y forward, z up) and their origin midway between the
centres of the femoral heads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnfast.geometry import Grid
from lnfast.phantom.shapes import Points

# Amplitude of each of the three waves by which one pelvis differs from the next.
DEFORMATION_MM = 2.5


class AtlasTransform:
    """Patient millimetres to atlas millimetres: translation, scaling and a smooth deformation.

    ``atlas = (ras - origin) / scale + deformation(ras)``. The anatomy is written down once, in the atlas; patients
    differ by their transform.
    """

    def __init__(self, rng: np.random.Generator, origin_ras_mm: NDArray[np.float64]) -> None:
        self.origin = origin_ras_mm
        self.scale = rng.normal(1.0, (0.05, 0.05, 0.06), 3).clip(0.85, 1.15)
        length = rng.uniform(70.0, 170.0, (3, 1))
        direction = rng.standard_normal((3, 3))
        self.waves = 2 * np.pi / length * direction / np.linalg.norm(direction, axis=1, keepdims=True)
        self.phases = rng.uniform(0, 2 * np.pi, 3)
        self.amplitudes = rng.uniform(-DEFORMATION_MM, DEFORMATION_MM, (3, 3))

    def deformation(self, ras: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the deformation, (n, 3) mm, at points (n, 3)."""
        displacement: NDArray[np.float64] = np.sin(ras @ self.waves.T + self.phases) @ self.amplitudes
        return displacement

    def to_ras(self, atlas: ArrayLike) -> NDArray[np.float64]:
        """Return the patient position of an atlas point (3,), to better than 0.01 mm."""
        target = np.asarray(atlas, dtype=np.float64)[None]
        ras = self.origin + self.scale * target
        for _ in range(8):
            ras = self.origin + self.scale * (target - self.deformation(ras))
        return np.asarray(ras[0], dtype=np.float64)

    def atlas_points(self, grid: Grid) -> Points:
        """Return the atlas position of every voxel centre, (3, z, y, x) float32.

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
