r"""The body of a lymph node: an ellipsoid, a lobed or a kidney-shaped union of some.

    ellipsoid     lobed            kidney
      ____        __  __           ______
     /    \      /  \/  \         /  __  \     .  the hilum's fat opens into the hollow of a kidney,
     \____/      \__/\__/         \_/. \_/        or anywhere on the other two

The default's hilum is one small ellipsoid. A realistic one is its node drawn smaller: about a point near the middle it
leaves a ring of cortex, about one on the surface or beyond it a crescent. Nodes that grow together are one body here,
as they are one component of voxels for whoever measures them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.shapes import Ellipsoid, Union
from lnfast_ext import min_volume_box

Floats = NDArray[np.float64]

# Real nodes are ovoid for the most part, and more often kidney-shaped or lobed the larger they are.
ELLIPSOID_SHARE, LOBED_SHARE = 0.5, 0.25
# Directions at which a surface is sampled to find the box's axes; how wide the body is along them is then exact.
DIRECTIONS = 150
# A body's volume is counted on this many cells along each edge of its box: 0.3 % of what it is.
CELLS = 40


def _sphere(n: int) -> Floats:
    """(n, 3) unit vectors, evenly spread: a Fibonacci spiral."""
    i = np.arange(n) + 0.5
    z = 1 - 2 * i / n
    angle = np.pi * (1 + 5**0.5) * i
    r = np.sqrt(1 - z * z)
    return np.stack((r * np.cos(angle), r * np.sin(angle), z), axis=1)


_UNIT = _sphere(DIRECTIONS)


@dataclass(frozen=True, eq=False)
class Body:
    """A node somewhere in space, mm.

    Attributes:
        lobes: what it is the union of.
        hilum: where its fat is, as far as that lies inside it; empty where it has none. The default phantom shows it in
            some of its nodes only.
    """

    lobes: tuple[Ellipsoid, ...]
    hilum: tuple[Ellipsoid, ...] = ()

    @property
    def shape(self) -> Ellipsoid | Union:
        """What can be painted."""
        return self.lobes[0] if len(self.lobes) == 1 else Union(self.lobes)

    def box(self) -> tuple[Floats, Floats, Floats]:
        """Centre (3,), axes (3, 3) as rows and half edges (3,), ascending, of the minimum-volume box.

        That of an ellipsoid is its own axes: the box whose faces touch it in an orthonormal frame has the volume
        8 prod sqrt(u_i' A u_i) >= 8 sqrt(det A) by Hadamard's inequality, with equality in the frame of A. A union's
        axes are those of points on its surface; along them the box is as wide as the body, by its support function.
        """
        if len(self.lobes) == 1:
            lobe = self.lobes[0]
            return lobe.centre, lobe.axes, lobe.semi
        _, axes, _ = min_volume_box(np.concatenate([surface_points(lobe) for lobe in self.lobes]))
        middles = np.array([axes @ lobe.centre for lobe in self.lobes])
        reaches = np.array([np.linalg.norm(lobe.semi * (axes @ lobe.axes.T), axis=1) for lobe in self.lobes])
        high, low = (middles + reaches).max(axis=0), (middles - reaches).min(axis=0)
        order = np.argsort(high - low)
        return axes.T @ ((high + low) / 2), axes[order], ((high - low) / 2)[order]

    def volume_mm3(self) -> float:
        """Of the body with its hilum, not of any voxels."""
        if len(self.lobes) == 1:
            return float(4 / 3 * np.pi * self.lobes[0].semi.prod())
        low, high = self.shape.bounds()
        return float((self.shape.distance(_cells(low, high)) < 0).mean() * (high - low).prod())

    def hilum_share(self) -> float:
        """Of the body's volume, 0 to 1."""
        if not self.hilum:
            return 0.0
        cells = _cells(*self.shape.bounds())
        inside = self.shape.distance(cells) < 0
        return float((Union(self.hilum).distance(cells)[inside] < 0).mean())

    def placed(self, centre: Floats, axes: Floats, scale: float = 1.0) -> Body:
        """Scaled, turned so that x, y, z become the rows of ``axes``, and moved to ``centre``."""
        return Body(
            tuple(_placed(lobe, centre, axes, scale) for lobe in self.lobes),
            tuple(_placed(part, centre, axes, scale) for part in self.hilum),
        )

    def moved(self, by: Floats) -> Body:
        """Shifted by (3,) mm."""
        return self.placed(by, np.eye(3))


def sample_body(rng: np.random.Generator, short_mm: float) -> Body:
    """The default's body about the origin: short axis along x, long along z, its box's short edge ``short_mm``."""
    lobes, semi, hollow = _sample_lobes(rng, 2.2 if short_mm < 8 else 1.7)
    at = np.array((0.3, 0.0, 0.0)) if hollow is None else hollow
    return _upright(Body(tuple(lobes), (Ellipsoid(at, 0.4 * semi),)), short_mm)


def sample_realistic_body(rng: np.random.Generator, short_mm: float, hilum_share: float = 0.0) -> Body:
    """As `sample_body`, but longer, and with a hilum of any size.

    Args:
        rng: the patient's dice.
        short_mm: of the box.
        hilum_share: how much of the volume is the hilum's, about; less where it opens at the surface.
    """
    lobes, semi, hollow = _sample_lobes(rng, 2.7 if short_mm < 8 else 2.0)
    towards = rng.standard_normal(3)
    if hollow is not None:
        towards = hollow / semi + 0.2 * towards
    anchor = semi * towards / np.linalg.norm(towards) * _anchor_depth(rng)
    return _upright(Body(tuple(lobes), _hilum(lobes, anchor, hilum_share)), short_mm)


def sample_chain(rng: np.random.Generator, short_mm: float, hilum_share: float = 0.0) -> Body:
    """Two to five nodes that touch in a row, as `sample_body` gives one; the hilum is in each second one or so."""
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
        # They press on each other: a tenth of the way they share.
        lobe = Ellipsoid(end + 0.9 * semi[2] * heading, semi, axes)
        end = lobe.centre + 0.9 * semi[2] * heading
        lobes.append(lobe)
        if rng.random() < 0.6:
            towards = rng.standard_normal(3)
            anchor = lobe.centre + (semi * towards / np.linalg.norm(towards) * _anchor_depth(rng)) @ axes
            hilum += _hilum([lobe], anchor, hilum_share)
    return _upright(Body(tuple(lobes), tuple(hilum)), short_mm)


def _sample_lobes(rng: np.random.Generator, slimmest: float) -> tuple[list[Ellipsoid], Floats, Floats | None]:
    """Lobes about the origin, the semi-axes (3,) of all of them about, and where a kidney is hollow."""
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
    """Where a hilum is shrunk to, from the middle (0) over the surface (1) outwards: a ring in one node of three."""
    return float(rng.uniform(0.0, 0.5) if rng.random() < 0.33 else rng.uniform(0.8, 1.4))


def _hilum(lobes: list[Ellipsoid], anchor: Floats, share: float) -> tuple[Ellipsoid, ...]:
    """The lobes drawn smaller about a point: ``share`` of their volume."""
    if share <= 0:
        return ()
    k = share ** (1 / 3)
    return tuple(Ellipsoid(anchor + k * (lobe.centre - anchor), k * lobe.semi, lobe.axes) for lobe in lobes)


def _upright(body: Body, short_mm: float) -> Body:
    """The box's frame becomes x, y, z about the origin (an ellipsoid's already is), its short edge ``short_mm``."""
    centre, axes, half = body.box()
    turned = Body(
        tuple(_seen_from(lobe, centre, axes) for lobe in body.lobes),
        tuple(_seen_from(part, centre, axes) for part in body.hilum),
    )
    return turned.placed(np.zeros(3), np.eye(3), short_mm / 2 / float(half[0]))


def _seen_from(lobe: Ellipsoid, centre: Floats, axes: Floats) -> Ellipsoid:
    return Ellipsoid(axes @ (lobe.centre - centre), lobe.semi, lobe.axes @ axes.T)


def _cells(low: Floats, high: Floats) -> NDArray[np.float32]:
    """(3, CELLS, CELLS, CELLS) middles of the cells of a box, mm."""
    steps = (np.arange(CELLS) + 0.5) / CELLS
    cells = np.stack(np.meshgrid(*(a + (b - a) * steps for a, b in zip(low, high, strict=True)), indexing="ij"))
    return cells.astype(np.float32)


def surface_points(ellipsoid: Ellipsoid) -> Floats:
    """(n, 3) points on an ellipsoid, mm."""
    points: Floats = (_UNIT * ellipsoid.semi) @ ellipsoid.axes + ellipsoid.centre
    return points


def _lobed(rng: np.random.Generator, semi: Floats) -> list[Ellipsoid]:
    """Two or three ellipsoids in a row that overlap by a third or more."""
    count = int(rng.integers(2, 4))
    lobes = []
    for place in np.linspace(-1, 1, count):
        centre = semi * (rng.normal(0, 0.15), rng.normal(0, 0.2), 0.55 * place)
        size = semi * (rng.uniform(0.8, 1.05), rng.uniform(0.75, 1.0), (0.62, 0.5)[count - 2] * rng.uniform(0.9, 1.1))
        lobes.append(Ellipsoid(centre, size))
    return lobes


def _kidney(rng: np.random.Generator, semi: Floats) -> tuple[list[Ellipsoid], Floats]:
    """Three ellipsoids along an arc in the plane of the middle and the long axis; the hollow's place."""
    bend = rng.uniform(0.25, 0.6)
    lobes = []
    for place in (-1.0, 0.0, 1.0):
        angle = np.deg2rad(35 * place * bend / 0.6)
        centre = semi * (0, bend * (0.5 - place * place), 0.58 * place)
        along = np.array(((1, 0, 0), (0, np.cos(angle), np.sin(angle)), (0, -np.sin(angle), np.cos(angle))))
        lobes.append(Ellipsoid(centre, semi * (rng.uniform(0.9, 1.0), rng.uniform(0.6, 0.75), 0.5), along))
    return lobes, semi * np.array((0.0, -0.15 - 0.3 * bend, 0.0))


def _placed(lobe: Ellipsoid, centre: Floats, axes: Floats, scale: float) -> Ellipsoid:
    return Ellipsoid(centre + scale * lobe.centre @ axes, scale * lobe.semi, lobe.axes @ axes)
