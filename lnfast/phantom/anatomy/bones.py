"""The bones of the pelvis, and bright lesions in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.anatomy.sides import SIDES
from lnfast.phantom.painter import TissuePainter
from lnfast.phantom.shapes import rotation


def paint_bones(painter: TissuePainter) -> None:
    """Paint hip bones, femora, spine, sacrum and coccyx; in some patients bright lesions in them."""
    rng = painter.rng
    marrow = painter.sample_signal("bone")
    for _, s in SIDES:
        rim, head = painter.sample_signal("joint"), marrow * rng.uniform(0.7, 1.2)
        painter.ellipsoid((s * 94, -8, 82), (68, 9, 54), marrow, rotation(54 * s, 8), solid=True)
        painter.ellipsoid((s * 72, -6, 14), (15, 34, 28), marrow, rotation(10 * s, 0))
        painter.ellipsoid((s * 62, -38, -42), (15, 19, 32), marrow, rotation(0, 15))
        painter.tube([(s * 66, 20, 6), (s * 34, 44, -18), (s * 7, 46, -28)], (12, 8, 11), marrow)
        painter.tube([(s * 8, 40, -44), (s * 34, 0, -66), (s * 56, -35, -66)], (6, 6, 9), marrow)
        painter.tube([(s * 94, -3, -4), (s * 128, -14, -18), (s * 124, -10, -120)], (17, 21, 16), head)
        painter.ellipsoid((s * 88, 0, 0), (26.5, 26.5, 26.5), rim)
        painter.ellipsoid((s * 88, 0, 0), (25, 25, 25), head)
    painter.tube([(0, -18, 140), (0, -28, 100)], (26, 25), marrow)
    painter.ellipsoid((0, -52, 72), (50, 17, 30), marrow, rotation(0, -25))
    painter.tube([(0, -66, 55), (0, -80, 25), (0, -76, 0), (0, -66, -14)], (22, 15, 9, 5), marrow)
    if rng.random() < (0.12 if painter.realistic else 0.25):
        for _ in range(rng.integers(1, 5)):  # bone metastases and red marrow: bright, and no nodes
            s = SIDES[rng.integers(2)][1]
            # Inside a bone, where no node can be: the same lesion beside the iliac vessels would be a node.
            centre, semi, axes = lesion_sites(s)[rng.integers(4)]
            if painter.realistic:
                _paint_lesion_within(painter, centre, semi, axes)
            else:
                painter.ellipsoid(
                    centre + (rng.uniform(-0.6, 0.6, 3) * semi) @ axes,
                    rng.uniform(3, 11, 3),
                    "mimic",
                    rotation(*rng.uniform(-90, 90, 3)),
                )


def _paint_lesion_within(
    painter: TissuePainter, centre: NDArray[np.float64], semi: NDArray[np.float64], axes: NDArray[np.float64]
) -> None:
    """Paint a lesion that ends where the bone ends: flat in the ilium's wing, round in the head of the femur.

    A ball of 2 cm in a wing of 18 mm would look like a node around a dark vessel.
    """
    rng = painter.rng
    place = rng.standard_normal(3)
    place *= 0.7 * rng.random() ** (1 / 3) / np.linalg.norm(place)
    # A copy of the bone, scaled about this place, lies within the bone up to this scale.
    largest = 1 - float(np.linalg.norm(place))
    lesion = np.clip(semi * largest * rng.uniform(0.4, 1.0, 3), 1.5, 11.0)
    painter.ellipsoid(centre + (place * semi) @ axes, np.minimum(lesion, semi * largest), "mimic", axes)


def lesion_sites(s: float) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
    """Return centre, semi-axes and axes of the bones with most marrow: ilium's wing, ischium, sacrum, femoral head."""
    upright = np.eye(3)
    return [
        (np.array((s * 94, -8, 82)), np.array((68, 9, 54)), rotation(54 * s, 8)),
        (np.array((s * 62, -38, -42)), np.array((15, 19, 32)), rotation(0, 15)),
        (np.array((0, -52, 72)), np.array((50, 17, 30)), rotation(0, -25)),
        (np.array((s * 88, 0, 0)), np.array((25, 25, 25)), upright),
    ]
