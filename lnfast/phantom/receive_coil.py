"""Receive coils: the phased array's sensitivity, and what an endorectal coil, a nearby element or shading adds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.domain_randomization import Variety
from lnfast.phantom.painter import TissuePainter
from lnfast.phantom.random_field import smooth_field
from lnfast.phantom.shapes import Column
from lnfast.phantom.tissue_image import TissueImage


def receive_sensitivity(painter: TissuePainter, skin: Column) -> NDArray[np.float32]:
    """Draw the sensitivity of a phased array, (z, y, x) float32: highest at the skin of the front and the back."""
    rng, image = painter.rng, painter.image
    y = image.points[1]
    front, back = float(skin.table[2, 3] + skin.table[2, 2]), float(skin.table[2, 3] - skin.table[2, 2])
    depth = rng.uniform(22, 50)
    gain = 1 + np.float32(rng.uniform(0.2, 1.6)) * np.exp(np.minimum(y - front, 20) / np.float32(depth))
    gain += np.float32(rng.uniform(0.2, 1.2)) * np.exp(np.minimum(back - y, 20) / np.float32(depth))
    slow = smooth_field(image.grid.shape, image.grid.spacing_zyx_mm, 130.0, rng)
    return np.asarray(gain * (1 + np.float32(0.1) * slow).clip(0.6, 1.5), dtype=np.float32)


def added_sensitivity(
    image: TissueImage, skin: Column, patient: Variety, rng: np.random.Generator
) -> NDArray[np.float32] | np.float32:
    """Draw the factor on the array's sensitivity by other coils and shading, (z, y, x) float32; 1 without any."""
    gain: NDArray[np.float32] | np.float32 = np.float32(1)
    if patient.endorectal_coil:
        near = _gaussian(image, np.array((0.0, -22.0, rng.uniform(-30, 10))), (22.0, 18.0, 40.0), rng)
        gain = gain + np.float32(np.exp(rng.uniform(np.log(2.0), np.log(8.0)))) * near
    if patient.flare:
        for _ in range(int(rng.integers(1, 4))):
            angle, z = rng.uniform(0, 2 * np.pi), rng.uniform(-90, 110)
            a, b, y0 = (float(np.interp(z, skin.table[:, 0], skin.table[:, k])) for k in (1, 2, 3))
            centre = np.array((a * np.cos(angle), y0 + b * np.sin(angle), z))
            near = _gaussian(image, centre, (35.0, 25.0, 45.0), rng)
            gain = gain + np.float32(rng.uniform(0.5, 4.0)) * near
    if patient.bias:
        slow = smooth_field(image.grid.shape, image.grid.spacing_zyx_mm, float(rng.uniform(60, 160)), rng)
        gain = gain * np.exp(np.float32(rng.uniform(0.15, 0.5)) * slow)
    return gain


def _gaussian(
    image: TissueImage, centre: NDArray[np.float64], size_mm: tuple[float, float, float], rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return a Gaussian, (z, y, x) float32, that is 1 at an atlas point (3,), with widths drawn about ``size_mm``."""
    widths = np.array(size_mm) * rng.uniform(0.7, 1.4, 3)
    square = sum(((image.points[i] - np.float32(centre[i])) * np.float32(1 / widths[i])) ** 2 for i in range(3))
    return np.asarray(np.exp(np.float32(-0.5) * square), dtype=np.float32)
