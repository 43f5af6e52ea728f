"""Smooth random fields: noise on a coarse lattice, interpolated linearly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


def smooth_field(
    shape: tuple[int, int, int], spacing_zyx: tuple[float, float, float], length_mm: float, rng: np.random.Generator
) -> Field:
    """Draw smooth noise, (z, y, x) float32: unit variance at knots ``length_mm`` apart, linear between them."""
    counts = [max(int(np.ceil(n * d / length_mm)) + 2, 2) for n, d in zip(shape, spacing_zyx, strict=True)]
    field = rng.standard_normal(counts).astype(np.float32)
    shift = rng.random(3)
    for axis, (n, d) in enumerate(zip(shape, spacing_zyx, strict=True)):
        position = np.minimum(np.arange(n) * d / length_mm + shift[axis], counts[axis] - 1.001)
        low = position.astype(int)
        part = (position - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
        field = field.take(low, axis) * (1 - part) + field.take(low + 1, axis) * part
    smooth: Field = field
    return smooth
