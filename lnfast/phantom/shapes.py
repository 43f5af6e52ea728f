"""Implicit bodies and how much of each voxel they fill.

Every shape gives a *conservative* signed distance: negative inside, and near the surface never larger in size than
the true distance to it. So a voxel whose centre is farther than half its diagonal from the surface is known to be
full or empty, and only the shell in between is supersampled:

    . . # # # #        . empty   d >  half diagonal
    . s s # # #        s shell   counted on sub-points
    . . s s # #        # full    d < -half diagonal
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float32]  # (3, ...): x, y, z in mm
Box = tuple[slice, slice, slice]


class Shape(Interface):
    """What `coverage` needs of a body."""

    def distance(self, points: Points) -> NDArray[np.float32]:
        """Conservative signed distance in mm, shape ``points.shape[1:]``."""
        ...

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lowest and highest corner, (3,) each, in mm."""
        ...


class Ellipsoid:
    """A solid ellipsoid: ``centre`` (3,), unit ``axes`` (3, 3) as rows, ``semi`` (3,) in mm."""

    def __init__(self, centre: ArrayLike, semi: ArrayLike, axes: ArrayLike | None = None) -> None:
        self.centre = np.asarray(centre, dtype=np.float64)
        self.semi = np.asarray(semi, dtype=np.float64)
        self.axes = np.eye(3) if axes is None else np.asarray(axes, dtype=np.float64)

    def distance(self, points: Points) -> NDArray[np.float32]:
        x, y, z = (points[i] - np.float32(self.centre[i]) for i in range(3))
        total = np.zeros(points.shape[1:], dtype=np.float32)
        for axis, semi in zip(self.axes, self.semi, strict=True):
            a, b, c = (axis / semi).astype(np.float32)
            along = a * x + b * y + c * z
            total += along * along
        # |k(p) - k(q)| <= |p - q| / min(semi): k is a norm whose unit ball holds a ball of the shortest semi-axis.
        return np.asarray((np.sqrt(total) - np.float32(1)) * np.float32(self.semi.min()), dtype=np.float32)

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        reach = np.sqrt(((self.axes * self.semi[:, None]) ** 2).sum(axis=0))
        return self.centre - reach, self.centre + reach


class Union:
    """What lies in any of some bodies."""

    def __init__(self, parts: Sequence[Shape]) -> None:
        self.parts = tuple(parts)

    def distance(self, points: Points) -> NDArray[np.float32]:
        # Outside, the nearest part is the nearest surface. Inside, the way out of the union is no shorter than the way
        # out of any part of it.
        best = self.parts[0].distance(points)
        for part in self.parts[1:]:
            np.minimum(best, part.distance(points), out=best)
        return best

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        lows, highs = zip(*(part.bounds() for part in self.parts), strict=True)
        return np.min(lows, axis=0), np.max(highs, axis=0)


class Tube:
    """A bent tube along ``path`` (n, 3) with a ``radius`` in mm, one for all or one a vertex (linear in between)."""

    def __init__(self, path: ArrayLike, radius: ArrayLike) -> None:
        self.path = np.asarray(path, dtype=np.float64)
        self.radius = np.broadcast_to(np.asarray(radius, dtype=np.float64), (len(self.path),))

    def distance(self, points: Points) -> NDArray[np.float32]:
        best = np.full(points.shape[1:], np.inf, dtype=np.float32)
        for start, end, r0, r1 in zip(self.path, self.path[1:], self.radius, self.radius[1:], strict=False):
            step = (end - start).astype(np.float32)
            p = [points[i] - np.float32(start[i]) for i in range(3)]
            t = (p[0] * step[0] + p[1] * step[1] + p[2] * step[2]) / np.float32(max(float(step @ step), 1e-6))
            np.clip(t, 0, 1, out=t)
            square = sum((p[i] - t * step[i]) ** 2 for i in range(3))
            np.minimum(best, np.sqrt(square) - (np.float32(r0) + t * np.float32(r1 - r0)), out=best)
        return best

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        reach = float(self.radius.max())
        return self.path.min(axis=0) - reach, self.path.max(axis=0) + reach


@dataclass(frozen=True)
class Column:
    """A rounded box in the axial plane whose size and place change with z.

    The outline is ``(1-w)(u2+v2) + w(u4+v4) = 1`` with u = (x-x0)/a, v = (y-y0)/b; ``table`` has rows (z, a, b, y0).
    """

    table: NDArray[np.float64]
    square: float
    x0: float = 0.0

    def level(self, points: Points) -> NDArray[np.float32]:
        """The left side of the outline's equation: below 1 inside."""
        z, a, b, y0 = self.table.T
        step = np.arange(z[0], z[-1] + 0.25, 0.25)  # tabulated: no interpolation per voxel
        index = np.clip((points[2] - np.float32(z[0])) * 4, 0, len(step) - 1).astype(np.int32)
        inv_a, inv_b, centre = (np.interp(step, z, row).astype(np.float32)[index] for row in (1 / a, 1 / b, y0))
        u = (points[0] - np.float32(self.x0)) * inv_a
        v = (points[1] - centre) * inv_b
        u *= u
        v *= v
        w = np.float32(self.square)
        return np.asarray((1 - w) * (u + v) + w * (u * u + v * v), dtype=np.float32)

    def distance(self, points: Points) -> NDArray[np.float32]:
        # The root of the level grows by (1+w)/min(a, b) a mm on the surface, and by a fifth more within the shell of a
        # voxel and for the lean of the sides. Farther outside it grows faster, where only its sign is used.
        slope = 1.2 * (1 + self.square) / float(self.table[:, 1:3].min())
        return np.asarray((np.sqrt(self.level(points)) - 1) / np.float32(slope), dtype=np.float32)

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        _, a, b, y0 = self.table.T
        low = np.array((self.x0 - a.max(), (y0 - b).min(), -1e3))
        return low, np.array((self.x0 + a.max(), (y0 + b).max(), 1e3))


def sub_offsets(affine: NDArray[np.float64], steps_zyx: tuple[int, int, int]) -> Points:
    """Offsets (3, n) in mm of a regular sub-grid inside a voxel, each sub-cell's centre."""
    z, y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in steps_zyx)
    grid = np.stack(np.meshgrid(x, y, z, indexing="ij")).reshape(3, -1)
    return (affine[:3, :3] @ grid).astype(np.float32)


def coverage(shape: Shape, points: Points, offsets: Points, reach_mm: float) -> NDArray[np.float32]:
    """Which part of each voxel lies in the shape.

    Args:
        shape: the body.
        points: (3, z, y, x) voxel centres in mm.
        offsets: (3, n) sub-points of a voxel in mm.
        reach_mm: half the voxel's diagonal.

    Returns:
        (z, y, x) float32 in 0..1, exact in the full and the empty part, in steps of 1/n between.
    """
    d = shape.distance(points)
    part = (d < 0).astype(np.float32)
    shell = np.abs(d) < reach_mm
    if shell.any():
        sub = points[:, shell][:, :, None] + offsets[:, None, :]
        part[shell] = (shape.distance(sub) < 0).mean(axis=1, dtype=np.float32)
    return part


def index_box(low: ArrayLike, high: ArrayLike, affine: NDArray[np.float64], shape: tuple[int, ...]) -> Box | None:
    """The slices (z, y, x) of the voxels that a box in mm may touch, or None when that is outside the grid."""
    ends = np.array((low, high), dtype=np.float64)
    corners = np.array([[ends[i, 0], ends[j, 1], ends[k, 2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    index = (corners - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    first = np.maximum(np.floor(index.min(axis=0)).astype(int), 0)[::-1]
    last = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1, np.array(shape[::-1]))[::-1]
    if (first >= last).any():
        return None
    return slice(first[0], last[0]), slice(first[1], last[1]), slice(first[2], last[2])
