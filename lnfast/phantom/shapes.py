"""Implicit shapes: solids given by a signed distance.

Every shape gives a *conservative* signed distance: negative inside, and near the surface never larger in size than the
true distance to it. `lnfast.phantom.rasterization` relies on this to supersample only the voxels near a surface.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float32]  # (3, ...): x, y, z in mm


class Shape(Interface):
    """What `lnfast.phantom.rasterization.coverage` needs of a solid."""

    def distance(self, points: Points) -> NDArray[np.float32]:
        """Return the conservative signed distance in mm, shape ``points.shape[1:]``."""
        ...

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the lowest and the highest corner, (3,) each, in mm."""
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
    """The union of several shapes."""

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
        """Return the left side of the outline's equation: below 1 inside."""
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


def rotation(yaw: float, pitch: float, roll: float = 0.0) -> NDArray[np.float64]:
    """Return (3, 3) rows: the x, y, z axes rotated by degrees about z, then x, then y."""
    a, b, c = np.deg2rad((yaw, pitch, roll))
    about_z = np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    about_y = np.array([[np.cos(c), 0, -np.sin(c)], [0, 1, 0], [np.sin(c), 0, np.cos(c)]])
    return np.asarray(about_y @ about_x @ about_z, dtype=np.float64)
