"""Ellipsoid nodes whose short axis is known exactly, by the box rule and by the axial rule.

box     the smallest box around an ellipsoid lies along its own axes: a box that touches it in an orthonormal frame u
        has the volume 8 prod sqrt(u' A u) >= 8 sqrt(det A) by Hadamard's inequality, equal in the frame of A. So the
        box's short edge is twice the shortest semi-axis.
axial   all slices through an ellipsoid are similar ellipses, the largest through its centre; there the extent across
        the longest diameter is twice the shorter semi-axis of that ellipse. The position of the slices is no property
        of the body, so it is no part of this truth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.shapes import Ellipsoid

# Bands of the short axis. The limit of 8 mm lies in the middle one.
BANDS_MM = ((3.0, 5.0), (5.0, 7.5), (7.5, 8.8), (8.8, 12.0), (12.0, 16.0))
# Angles between the short axis and the normal of the slices. Random directions are 13, 37 and 50 % of these.
NEAR_NORMAL_DEG, NEAR_PLANE_DEG = 30.0, 60.0
ORIENTATIONS = ("along the normal", "oblique", "in plane")

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EllipsoidNode:
    """An ellipsoid and the direction of the slices.

    Attributes:
        body: in RAS mm.
        normal: unit vector (3,) across the slices.
    """

    body: Ellipsoid
    normal: Vector

    @property
    def box_short_mm(self) -> float:
        """Short edge of its minimum-volume box."""
        return 2 * float(self.body.semi.min())

    @property
    def axial_short_mm(self) -> float:
        """Extent across the longest diameter of its largest section by a plane at right angles to ``normal``."""
        _, _, rows = np.linalg.svd(self.normal[None])
        plane = rows[1:].T
        scaled = (self.body.axes @ plane) / self.body.semi[:, None]
        return 2 / float(np.sqrt(np.linalg.eigvalsh(scaled.T @ scaled)[1]))

    @property
    def orientation(self) -> str:
        """The direction of the short axis, one of `ORIENTATIONS`."""
        short = self.body.axes[int(self.body.semi.argmin())]
        return orientation_of(float(abs(short @ self.normal)))


def orientation_of(cosine: float) -> str:
    """Return one of `ORIENTATIONS` for the cosine between the short axis and the slices' normal."""
    degrees = np.degrees(np.arccos(min(abs(cosine), 1.0)))
    return ORIENTATIONS[int(degrees > NEAR_NORMAL_DEG) + int(degrees > NEAR_PLANE_DEG)]


def draw_node(
    rng: np.random.Generator, band_mm: tuple[float, float], centre_ras_mm: Vector, normal: Vector
) -> EllipsoidNode:
    """Draw a node of the phantom's proportions in a random direction, with a random short axis within the band."""
    short_mm = rng.uniform(*band_mm)
    a = short_mm / 2
    c = a * rng.uniform(1.2, 2.2 if short_mm < 8 else 1.7)
    b = a + (c - a) * rng.uniform(0.0, 0.6)
    rotation, upper = np.linalg.qr(rng.standard_normal((3, 3)))
    axes = rotation * np.sign(np.diag(upper))  # without the signs rotations would not be evenly spread
    return EllipsoidNode(Ellipsoid(centre_ras_mm, (a, b, c), axes.T), normal)


def band_of(short_mm: float) -> str | None:
    """Return the band's name, such as "7.5-8.8"; None outside all bands."""
    for low, high in BANDS_MM:
        if low <= short_mm < high:
            return band_name((low, high))
    return None


def band_name(band_mm: tuple[float, float]) -> str:
    """Return the band's name in the tables."""
    return f"{band_mm[0]:g}-{band_mm[1]:g}"
