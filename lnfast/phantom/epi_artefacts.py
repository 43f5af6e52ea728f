"""Artefacts of echo-planar imaging: distortion by off-resonance, the N/2 ghost, and motion between slices.

Where the field is off resonance by a smooth ``s(r)`` mm, tissue at y along the phase direction is shown at ``y - s``:
rectal gas displaces the rectum's wall, and where that compresses tissue the signal piles up:

    tissue   | . . . . . . . |        shown   | . ... .   .  |
                  (gas)                        pile-up   void
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lnfast.geometry import Grid
from lnfast.phantom.shapes import Points

# Stronger pile-up is seldom seen: the readout blurs it.
DENSEST, THINNEST = 2.5, 0.3


@dataclass(frozen=True)
class OffResonance:
    """Off-resonance about a bubble of gas: a Gaussian shift, ``peak_shift_mm`` at ``centre`` (3,), of ``sigma_mm``."""

    centre: tuple[float, float, float]
    peak_shift_mm: float
    sigma_mm: float


@dataclass(frozen=True, eq=False)
class EpiArtefacts:
    """The artefacts of one scan.

    Attributes:
        off_resonances: in atlas mm; the sum of their shifts displaces tissue along the phase direction.
        ghost: the N/2 ghost's share of the signal.
        motion_mm: standard deviation of each slice's displacement along x and y.
        seed: of the slices' displacements.
    """

    off_resonances: tuple[OffResonance, ...] = ()
    ghost: float = 0.0
    motion_mm: float = 0.0
    seed: int = field(default=0, repr=False)

    def shift_mm(self, points: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float32]:
        """Return how far forward of where it is shown tissue lies at atlas points (3, ...), ``points.shape[1:]``."""
        total = np.zeros(points.shape[1:], dtype=np.float32)
        for source in self.off_resonances:
            square = sum((points[i] - np.float32(source.centre[i])) ** 2 for i in range(3))
            total += np.float32(source.peak_shift_mm) * np.exp(square / np.float32(-2 * source.sigma_mm**2))
        return total

    def distort(self, points: Points, phase_axis: NDArray[np.float64]) -> NDArray[np.float32]:
        """Displace, in place, the atlas points that the voxels show.

        Args:
            points: (3, z, y, x) atlas mm; y is the phase direction.
            phase_axis: (3,) unit vector of that direction in the atlas, towards the front.

        Returns:
            (z, y, x) how much tissue each voxel now holds, 1 where nothing is compressed.
        """
        density = np.ones(points.shape[1:], dtype=np.float32)
        if not self.off_resonances:
            return density
        shift = self.shift_mm(points)
        along = phase_axis.astype(np.float32)
        step = sum(np.gradient(points[i], axis=1) * along[i] for i in range(3))
        for i in range(3):
            points[i] += shift * along[i]
        np.add(density, np.gradient(shift, axis=1) / step, out=density)
        return np.clip(np.abs(density), THINNEST, DENSEST, out=density)

    def displayed_position(self, atlas: NDArray[np.float64], phase_axis: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where tissue at an atlas point (3,) is shown, to 0.01 mm where the shift is not steeper than 1 : 2."""
        position = atlas.astype(np.float64)
        for _ in range(8):
            position = atlas - float(self.shift_mm(position[:, None])[0]) * phase_axis
        return position

    def slice_shifts(self, grid: Grid) -> NDArray[np.float64]:
        """Return the displacement of each slice, (z, 2) mm along x and y."""
        rng = np.random.default_rng(self.seed)
        return rng.normal(0.0, self.motion_mm, (grid.shape[0], 2)) if self.motion_mm else np.zeros((grid.shape[0], 2))

    def add_ghost(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the image with a fainter copy of itself half a field of view away along the phase direction (y)."""
        if not self.ghost:
            return image
        return image + np.float32(self.ghost) * np.roll(image, image.shape[1] // 2, axis=1)


def sample_epi_artefacts(
    rng: np.random.Generator, gas_at: NDArray[np.float64] | None, *, strong_ghost: bool = False
) -> EpiArtefacts:
    """Draw the artefacts of one scan; ``gas_at`` (3,) is where the rectum holds gas, atlas mm, None without gas."""
    off_resonances = [
        OffResonance(tuple(rng.uniform((-110, -70, -60), (110, 80, 110))), rng.normal(0, 2.0), rng.uniform(30, 60))
        for _ in range(rng.integers(0, 5))
    ]
    sign = rng.choice((-1.0, 1.0))
    if gas_at is not None:
        width = rng.uniform(11, 20)
        # A Gaussian is steepest at its width, where it falls by 0.61 of its height over its width.
        steep = float(np.exp(rng.uniform(np.log(0.08), np.log(0.8))))
        off_resonances.append(OffResonance(tuple(gas_at), sign * steep * width / 0.61, width))
    ghost = float(rng.uniform(0.005, 0.05)) if rng.random() < 0.5 else 0.0
    return EpiArtefacts(
        tuple(off_resonances),
        ghost=float(rng.uniform(0.05, 0.2)) if strong_ghost else ghost,
        motion_mm=float(rng.uniform(0.2, 0.9)) if rng.random() < 0.3 else 0.0,
        seed=int(rng.integers(2**31)),
    )
