r"""The shape of a lymph node: an ellipsoid, or a lobed or kidney-shaped union of ellipsoids.

    ellipsoid     lobed            kidney
      ____        __  __           ______
     /    \      /  \/  \         /  __  \     .  the hilum's fat opens into the hollow of a kidney,
     \____/      \__/\__/         \_/. \_/        or anywhere on the other two

The default's hilum is one small ellipsoid. A realistic hilum is the node scaled down: about a point near the middle it
leaves a ring of cortex, about a point on the surface or beyond it a crescent. Nodes that grow together are one shape,
as they are one component of the mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.shapes import Ellipsoid, Points, Union
from lnfast_ext import min_volume_box

Floats = NDArray[np.float64]

# Real nodes are ovoid for the most part, and more often kidney-shaped or lobed the larger they are.
ELLIPSOID_SHARE, LOBED_SHARE = 0.5, 0.25
# Directions at which a surface is sampled to find the box's axes; the shape's width along them is then exact.
DIRECTIONS = 150
# A volume is counted on this many cells along each edge of the bounding box; its error is 0.3 %.
CELLS = 40


def _sphere(n: int) -> Floats:
    """Return (n, 3) evenly spread unit vectors: a Fibonacci spiral."""
    i = np.arange(n) + 0.5
    z = 1 - 2 * i / n
    angle = np.pi * (1 + 5**0.5) * i
    r = np.sqrt(1 - z * z)
    return np.stack((r * np.cos(angle), r * np.sin(angle), z), axis=1)


_UNIT = _sphere(DIRECTIONS)


@dataclass(frozen=True, eq=False)
class NodeShape:
    """The shape of a node and its hilum, in mm; an implicit shape itself (`lnfast.phantom.shapes.Shape`).

    Attributes:
        lobes: the ellipsoids whose union it is.
        hilum: the ellipsoids of its fat, as far as they lie inside it; empty where it has none. The default phantom
            shows it in some of its nodes only.
    """

    lobes: tuple[Ellipsoid, ...]
    hilum: tuple[Ellipsoid, ...] = ()

    def distance(self, points: Points) -> NDArray[np.float32]:
        """Return the conservative signed distance in mm, shape ``points.shape[1:]``."""
        return Union(self.lobes).distance(points)

    def bounds(self) -> tuple[Floats, Floats]:
        """Return the lowest and the highest corner, (3,) each, in mm."""
        return Union(self.lobes).bounds()

    def minimum_box(self) -> tuple[Floats, Floats, Floats]:
        """Return centre (3,), axes (3, 3) as rows and half edges (3,), ascending, of the minimum-volume box.

        An ellipsoid's box has the ellipsoid's axes: the box whose faces touch it in an orthonormal frame has the volume
        8 prod sqrt(u_i' A u_i) >= 8 sqrt(det A) by Hadamard's inequality, with equality in the frame of A. A union's
        box has the axes of the box of points on its surface; its widths along them are exact, by the support function.
        """
        if len(self.lobes) == 1:
            lobe = self.lobes[0]
            return lobe.centre, lobe.axes, lobe.semi
        _, axes, _ = min_volume_box(np.concatenate([surface_points(lobe) for lobe in self.lobes]))
        centres = np.array([axes @ lobe.centre for lobe in self.lobes])
        reaches = np.array([np.linalg.norm(lobe.semi * (axes @ lobe.axes.T), axis=1) for lobe in self.lobes])
        high, low = (centres + reaches).max(axis=0), (centres - reaches).min(axis=0)
        order = np.argsort(high - low)
        return axes.T @ ((high + low) / 2), axes[order], ((high - low) / 2)[order]

    def volume_mm3(self) -> float:
        """Return the volume of the shape with its hilum, not of any voxels."""
        if len(self.lobes) == 1:
            return float(4 / 3 * np.pi * self.lobes[0].semi.prod())
        low, high = self.bounds()
        return float((self.distance(_cells(low, high)) < 0).mean() * (high - low).prod())

    def hilum_share(self) -> float:
        """Return the hilum's share of the volume, 0 to 1."""
        if not self.hilum:
            return 0.0
        cells = _cells(*self.bounds())
        inside = self.distance(cells) < 0
        return float((Union(self.hilum).distance(cells)[inside] < 0).mean())

    def placed(self, centre: Floats, axes: Floats, scale: float = 1.0) -> NodeShape:
        """Return the shape scaled, rotated so that x, y, z become the rows of ``axes``, translated by ``centre``."""
        return NodeShape(
            tuple(_placed(lobe, centre, axes, scale) for lobe in self.lobes),
            tuple(_placed(part, centre, axes, scale) for part in self.hilum),
        )

    def translated(self, offset: Floats) -> NodeShape:
        """Return the shape translated by (3,) mm."""
        return self.placed(offset, np.eye(3))


def sample_node_shape(rng: np.random.Generator, short_mm: float) -> NodeShape:
    """Draw a default node about the origin: short axis along x, long along z, short edge of its box ``short_mm``."""
    lobes, semi, hollow = _sample_lobes(rng, 2.2 if short_mm < 8 else 1.7)
    centre = np.array((0.3, 0.0, 0.0)) if hollow is None else hollow
    return _normalized(NodeShape(tuple(lobes), (Ellipsoid(centre, 0.4 * semi),)), short_mm)


def sample_realistic_node_shape(rng: np.random.Generator, short_mm: float, hilum_share: float = 0.0) -> NodeShape:
    """Draw a node as `sample_node_shape` does, but longer, and with a hilum of any size.

    Args:
        rng: source of the draws.
        short_mm: short edge of the box.
        hilum_share: the hilum's approximate share of the volume; less where it opens at the surface.
    """
    lobes, semi, hollow = _sample_lobes(rng, 4.0 if short_mm < 8 else 2.5)
    direction = rng.standard_normal(3)
    if hollow is not None:
        direction = hollow / semi + 0.2 * direction
    anchor = semi * direction / np.linalg.norm(direction) * _anchor_depth(rng)
    return _normalized(NodeShape(tuple(lobes), _hilum(lobes, anchor, hilum_share)), short_mm)


def sample_node_chain(rng: np.random.Generator, short_mm: float, hilum_share: float = 0.0) -> NodeShape:
    """Draw two to five nodes that touch in a row, placed as by `sample_node_shape`; six of ten have a hilum."""
    lobes: list[Ellipsoid] = []
    hilum: list[Ellipsoid] = []
    end, heading = np.zeros(3), np.array((0.0, 0.0, 1.0))
    for _ in range(int(rng.integers(2, 6))):
        semi = rng.uniform(0.75, 1.0) * np.array((1.0, rng.uniform(1.0, 1.3), rng.uniform(1.0, 1.9)))
        heading = heading + rng.normal(0, (0.15, 0.3, 0.0))
        heading /= np.linalg.norm(heading)
        first = np.cross((0.0, 1.0, 0.0), heading)
        first /= np.linalg.norm(first)
        axes = np.stack((first, np.cross(heading, first), heading))
        # Neighbours overlap by a tenth of their semi-axes.
        lobe = Ellipsoid(end + 0.9 * semi[2] * heading, semi, axes)
        end = lobe.centre + 0.9 * semi[2] * heading
        lobes.append(lobe)
        if rng.random() < 0.6:
            direction = rng.standard_normal(3)
            anchor = lobe.centre + (semi * direction / np.linalg.norm(direction) * _anchor_depth(rng)) @ axes
            hilum += _hilum([lobe], anchor, hilum_share)
    return _normalized(NodeShape(tuple(lobes), tuple(hilum)), short_mm)


def _sample_lobes(rng: np.random.Generator, slimmest: float) -> tuple[list[Ellipsoid], Floats, Floats | None]:
    """Draw lobes about the origin; return them, the approximate semi-axes (3,) of all, and the hollow of a kidney."""
    kind = rng.random()
    slim = rng.uniform(1.2, slimmest)
    middle = 1 + (slim - 1) * rng.uniform(0.0, 0.6)
    semi = np.array((1.0, middle, slim))
    if kind < ELLIPSOID_SHARE:
        return [Ellipsoid((0, 0, 0), semi)], semi, None
    if kind < ELLIPSOID_SHARE + LOBED_SHARE:
        return _lobed(rng, semi), semi, None
    lobes, hollow = _kidney(rng, semi)
    return lobes, semi, hollow


def _anchor_depth(rng: np.random.Generator) -> float:
    """Draw the point a hilum is scaled about, from the middle (0) to the surface (1) and beyond: a ring in a third."""
    return float(rng.uniform(0.0, 0.5) if rng.random() < 0.33 else rng.uniform(0.8, 1.4))


def _hilum(lobes: list[Ellipsoid], anchor: Floats, share: float) -> tuple[Ellipsoid, ...]:
    """Return the lobes scaled down about a point, to ``share`` of their volume."""
    if share <= 0:
        return ()
    k = share ** (1 / 3)
    return tuple(Ellipsoid(anchor + k * (lobe.centre - anchor), k * lobe.semi, lobe.axes) for lobe in lobes)


def _normalized(shape: NodeShape, short_mm: float) -> NodeShape:
    """Return the shape with its box along x, y, z about the origin (an ellipsoid's is), short edge ``short_mm``."""
    centre, axes, half = shape.minimum_box()
    aligned = NodeShape(
        tuple(_in_frame(lobe, centre, axes) for lobe in shape.lobes),
        tuple(_in_frame(part, centre, axes) for part in shape.hilum),
    )
    return aligned.placed(np.zeros(3), np.eye(3), short_mm / 2 / float(half[0]))


def _in_frame(lobe: Ellipsoid, centre: Floats, axes: Floats) -> Ellipsoid:
    return Ellipsoid(axes @ (lobe.centre - centre), lobe.semi, lobe.axes @ axes.T)


def _cells(low: Floats, high: Floats) -> NDArray[np.float32]:
    """Return the centres of the cells of a box, (3, CELLS, CELLS, CELLS) mm."""
    steps = (np.arange(CELLS) + 0.5) / CELLS
    cells = np.stack(np.meshgrid(*(a + (b - a) * steps for a, b in zip(low, high, strict=True)), indexing="ij"))
    return cells.astype(np.float32)


def surface_points(ellipsoid: Ellipsoid) -> Floats:
    """Return (n, 3) points on an ellipsoid, mm."""
    points: Floats = (_UNIT * ellipsoid.semi) @ ellipsoid.axes + ellipsoid.centre
    return points


def _lobed(rng: np.random.Generator, semi: Floats) -> list[Ellipsoid]:
    """Draw two or three ellipsoids in a row that overlap by a third or more."""
    count = int(rng.integers(2, 4))
    lobes = []
    for position in np.linspace(-1, 1, count):
        centre = semi * (rng.normal(0, 0.15), rng.normal(0, 0.2), 0.55 * position)
        size = semi * (rng.uniform(0.8, 1.05), rng.uniform(0.75, 1.0), (0.62, 0.5)[count - 2] * rng.uniform(0.9, 1.1))
        lobes.append(Ellipsoid(centre, size))
    return lobes


def _kidney(rng: np.random.Generator, semi: Floats) -> tuple[list[Ellipsoid], Floats]:
    """Draw three ellipsoids along an arc in the plane of the middle and long axes; return them and the hollow (3,)."""
    bend = rng.uniform(0.25, 0.6)
    lobes = []
    for position in (-1.0, 0.0, 1.0):
        angle = np.deg2rad(35 * position * bend / 0.6)
        centre = semi * (0, bend * (0.5 - position * position), 0.58 * position)
        along = np.array(((1, 0, 0), (0, np.cos(angle), np.sin(angle)), (0, -np.sin(angle), np.cos(angle))))
        lobes.append(Ellipsoid(centre, semi * (rng.uniform(0.9, 1.0), rng.uniform(0.6, 0.75), 0.5), along))
    return lobes, semi * np.array((0.0, -0.15 - 0.3 * bend, 0.0))


def _placed(lobe: Ellipsoid, centre: Floats, axes: Floats, scale: float) -> Ellipsoid:
    return Ellipsoid(centre + scale * lobe.centre @ axes, scale * lobe.semi, lobe.axes @ axes)
