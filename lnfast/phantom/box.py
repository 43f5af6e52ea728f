"""A stand-in for the exact minimum-volume box of a node's voxel corners, by search over rotations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def _rotations(count: int, spread: float, rng: np.random.Generator) -> NDArray[np.float64]:
    q = rng.standard_normal((count, 4)) * spread
    if spread < 1:
        q[:, 0] += 1
    q[0] = (1, 0, 0, 0)
    w, x, y, z = (q / np.linalg.norm(q, axis=1, keepdims=True)).T
    rows = [
        1 - 2 * (y * y + z * z),
        2 * (x * y - w * z),
        2 * (x * z + w * y),
        2 * (x * y + w * z),
        1 - 2 * (x * x + z * z),
        2 * (y * z - w * x),
        2 * (x * z - w * y),
        2 * (y * z + w * x),
        1 - 2 * (x * x + y * y),
    ]
    return np.stack(rows, axis=1).reshape(-1, 3, 3)


_RNG = np.random.default_rng(0)
_STAGES = [_rotations(400, 1.0, _RNG)] + [_rotations(80, spread, _RNG) for spread in (0.1, 0.05, 0.02, 0.01, 0.005)]


def short_edge_mm(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> float:
    """Shortest edge in mm of the smallest box found around the corners of the voxels set in ``mask`` (z, y, x)."""
    padded = np.pad(mask, 1)
    corner = np.zeros(np.array(mask.shape) + 1, dtype=int)
    for dz in (0, 1):
        for dy in (0, 1):
            for dx in (0, 1):
                corner += padded[dz : dz + corner.shape[0], dy : dy + corner.shape[1], dx : dx + corner.shape[2]]
    points = np.argwhere(corner % 8 > 0)[:, ::-1] @ affine[:3, :3].T
    best = np.eye(3)
    for stage in _STAGES:
        candidates = stage @ best
        edges = np.ptp(candidates @ points.T, axis=2)
        best = candidates[int(edges.prod(axis=1).argmin())]
    return float(np.ptp(best @ points.T, axis=1).min())
