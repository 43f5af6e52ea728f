"""What echo-planar imaging does to a pelvis: distortion about gas, a ghost half a field away, slices that move.

Where the field is off resonance by a smooth ``s(r)`` mm, tissue at y along the phase direction is shown at ``y - s``:
rectal gas pushes its wall aside, and where that squeezes tissue together the signal piles up:

    tissue   | . . . . . . . |        shown   | . ... .   .  |
                  (gas)                        pile-up   void
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lnfast.geometry import Grid
from lnfast.phantom.shapes import Points

# Pile-up beyond this is seldom seen: the readout smears it.
DENSEST, THINNEST = 2.5, 0.3


@dataclass(frozen=True)
class Bump:
    """Off-resonance about a bubble of gas: ``height_mm`` of shift at ``centre`` (3,), a Gaussian of ``width_mm``."""

    centre: tuple[float, float, float]
    height_mm: float
    width_mm: float


@dataclass(frozen=True, eq=False)
class EchoPlanar:
    """One scan's faults.

    Attributes:
        bumps: off-resonance, in atlas mm; the sum is what is shown too far forward.
        ghost: of the N/2 ghost, as a share of the signal.
        motion_mm: standard deviation of each slice's place along x and y.
        seed: of the slices' places.
    """

    bumps: tuple[Bump, ...] = ()
    ghost: float = 0.0
    motion_mm: float = 0.0
    seed: int = field(default=0, repr=False)

    def shift_mm(self, points: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float32]:
        """How far forward of where it is shown tissue lies, at atlas points (3, ...); ``points.shape[1:]``."""
        total = np.zeros(points.shape[1:], dtype=np.float32)
        for bump in self.bumps:
            square = sum((points[i] - np.float32(bump.centre[i])) ** 2 for i in range(3))
            total += np.float32(bump.height_mm) * np.exp(square / np.float32(-2 * bump.width_mm**2))
        return total

    def distort(self, points: Points, forward: NDArray[np.float64]) -> NDArray[np.float32]:
        """Move the atlas points that the voxels show, in place.

        Args:
            points: (3, z, y, x) atlas mm; y is the phase direction.
            forward: (3,) unit vector of that direction in the atlas, towards the front.

        Returns:
            (z, y, x) how much tissue each voxel now holds, 1 where nothing was squeezed.
        """
        density = np.ones(points.shape[1:], dtype=np.float32)
        if not self.bumps:
            return density
        shift = self.shift_mm(points)
        along = forward.astype(np.float32)
        step = sum(np.gradient(points[i], axis=1) * along[i] for i in range(3))
        for i in range(3):
            points[i] += shift * along[i]
        np.add(density, np.gradient(shift, axis=1) / step, out=density)
        return np.clip(np.abs(density), THINNEST, DENSEST, out=density)

    def shown(self, atlas: NDArray[np.float64], forward: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the tissue of an atlas point (3,) is shown, to 0.01 mm where the shift is not steeper than 1 : 2."""
        place = atlas.astype(np.float64)
        for _ in range(8):
            place = atlas - float(self.shift_mm(place[:, None])[0]) * forward
        return place

    def slides(self, grid: Grid) -> NDArray[np.float64]:
        """(z, 2) mm along x and y."""
        rng = np.random.default_rng(self.seed)
        return rng.normal(0.0, self.motion_mm, (grid.shape[0], 2)) if self.motion_mm else np.zeros((grid.shape[0], 2))

    def add_ghost(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The image with its fainter copy half a field of view away along the phase direction (y)."""
        if not self.ghost:
            return image
        return image + np.float32(self.ghost) * np.roll(image, image.shape[1] // 2, axis=1)


def sample_echo(
    rng: np.random.Generator, gas_at: NDArray[np.float64] | None, *, strong_ghost: bool = False
) -> EchoPlanar:
    """One scan's faults: ``gas_at`` is where the rectum holds gas, in atlas mm, or None where it holds none."""
    bumps = [
        Bump(tuple(rng.uniform((-110, -70, -60), (110, 80, 110))), rng.normal(0, 2.0), rng.uniform(30, 60))
        for _ in range(rng.integers(0, 5))
    ]
    sign = rng.choice((-1.0, 1.0))
    if gas_at is not None:
        width = rng.uniform(11, 20)
        # A Gaussian is steepest at its width, where it falls by 0.61 of its height over its width.
        steep = float(np.exp(rng.uniform(np.log(0.08), np.log(0.8))))
        bumps.append(Bump(tuple(gas_at), sign * steep * width / 0.61, width))
    ghost = float(rng.uniform(0.005, 0.05)) if rng.random() < 0.5 else 0.0
    return EchoPlanar(
        tuple(bumps),
        ghost=float(rng.uniform(0.05, 0.2)) if strong_ghost else ghost,
        motion_mm=float(rng.uniform(0.2, 0.9)) if rng.random() < 0.3 else 0.0,
        seed=int(rng.integers(2**31)),
    )
