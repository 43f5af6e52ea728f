"""The affine without the rounding of a file's header."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

# Of a voxel size and of a cosine: float32 rounds a number by 6e-8, and a column of an affine by several times that.
HEADER_NOISE = 2e-6
# Of a simple ratio of voxel sizes: 7 mm slices and pixels of 360 / 240 mm have the ratio 14/3.
LARGEST_DENOMINATOR = 64


def without_header_noise(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the exact affine that a header stands for, where the two differ by no more than float32 rounding.

    Nodes are lattice shapes, and a lattice shape often has several smallest boxes of one volume but different edges.
    The rounding of a header (1e-7 of a voxel) must not choose between them, or the same study would measure
    differently as a file and as an array. So axes that are right-angled within rounding become exactly right-angled,
    and voxel sizes whose ratio is a simple fraction within rounding (1, 2, 7/3) get exactly that ratio. An affine that
    differs by more is returned as it is.

    Args:
        affine: (4, 4), index ``(x, y, z, 1)`` to RAS+ mm.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / spacing
    if np.abs(directions.T @ directions - np.eye(3)).max() > HEADER_NOISE:
        return affine
    left, _, right = np.linalg.svd(directions)
    exact = affine.copy()
    exact[:3, :3] = (left @ right) * _in_simple_ratios(spacing)
    return exact


def _in_simple_ratios(spacing: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``(3,)`` voxel sizes whose ratios to the smallest one are exact simple fractions where they nearly are."""
    alike = np.abs(spacing[:, None] - spacing) <= HEADER_NOISE * spacing
    equal = np.array([spacing[row].mean() for row in alike])
    unit = equal.min()
    ratios = [Fraction(size / unit).limit_denominator(LARGEST_DENOMINATOR) for size in equal]
    simple = np.array([float(ratio) for ratio in ratios]) * unit
    return np.where(np.abs(simple - equal) <= HEADER_NOISE * equal, simple, equal)
