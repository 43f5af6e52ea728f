"""Bladder, prostate with seminal vesicles, and perineum."""

from __future__ import annotations

import numpy as np

from lnfast.phantom.anatomy.sides import SIDES
from lnfast.phantom.painter import TissuePainter
from lnfast.phantom.shapes import rotation


def paint_bladder(painter: TissuePainter, *, empty: bool = False) -> None:
    """Paint urine in a bright wall, sometimes with a thickened patch; an empty bladder is small."""
    rng = painter.rng
    full = rng.uniform(0.2, 0.4) if empty else rng.uniform(0.55, 1.25)
    semi = np.array([36.0, 30.0, 30.0]) * full * rng.uniform(0.88, 1.12, 3)
    centre = np.array([rng.normal(0, 4), 22.0, -8 + semi[2] + rng.normal(0, 3)])
    axes = rotation(*rng.normal(0, 8, 3))
    wall, urine = painter.sample_signal("bladder wall"), painter.sample_signal("urine")
    thickness = rng.uniform(1.2, 4.0) / np.sqrt(full)
    # A second ellipsoid, half inside the first, makes the bladder square-shouldered or lopsided.
    bulge = rng.normal(0, 0.22, 3) * semi
    for shift, size in ((0 * bulge, semi), (bulge, semi * rng.uniform(0.75, 0.95))):
        painter.ellipsoid(centre + shift, size, wall, axes)
    for shift, size in ((0 * bulge, semi), (bulge, semi * 0.8)):
        painter.ellipsoid(centre + shift + rng.normal(0, 0.7, 3), size - thickness, urine, axes)
    if rng.random() < 0.25:  # a thickened patch or a tumour of the wall
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        painter.ellipsoid(centre + direction * (semi - 2), rng.uniform(3, 9, 3), "mimic", axes)


def paint_prostate(painter: TissuePainter) -> None:
    """Paint the gland with zones, nodules and tumours; seminal vesicles and deferent ducts."""
    rng = painter.rng
    size = rng.uniform(0.8, 1.35)
    semi = np.array([23.0, 16.0, 19.0]) * size * rng.uniform(0.9, 1.1, 3)
    centre = painter.jitter((0, 6, -26 + 3 * size))
    gland = painter.sample_signal("prostate")
    painter.ellipsoid(centre, semi + 0.8, gland * 0.6)
    painter.ellipsoid(centre, semi, "peripheral")
    for s in (-1, 1):
        painter.ellipsoid(
            centre + (s * semi[0] * 0.3, semi[1] * 0.22, 3),
            semi * (0.52, 0.66, 0.72),
            gland * rng.uniform(0.85, 1.15),
        )
    painter.ellipsoid(centre + (0, 3, -2), (2.5, 2.5, semi[2]), gland * rng.uniform(0.5, 1.5))
    for _ in range(rng.integers(0, 7)):  # nodules of hyperplasia, brighter or darker than their surroundings
        painter.ellipsoid(
            centre + rng.uniform(-0.5, 0.5, 3) * semi, rng.uniform(2.5, 7, 3), gland * rng.uniform(0.6, 1.5)
        )
    for _ in range(rng.integers(0, 3)):
        offset = rng.uniform((-0.6, -0.7, -0.5), (0.6, 0.1, 0.5)) * semi
        painter.ellipsoid(centre + offset, rng.uniform(2.5, 8, 3), "tumour", rotation(*rng.uniform(-60, 60, 3)))
    bright = painter.sample_signal("seminal")
    for s in (-1, 1):
        path = (
            centre
            + np.array([(s * 5, -12, semi[2] - 3), (s * 16, -16, semi[2] + 5), (s * 28, -15, semi[2] + 12)])
            + rng.normal(0, 2, (3, 3))
        )
        for shift in (0.0, 6.0):
            painter.tube(path + (0, 0.3 * shift, shift), rng.uniform(3, 5.5, 3), bright * rng.uniform(0.7, 1.3))
        painter.tube(path[[0, 2]] + ((0, 2, 4), (0, 8, 10)), 2.0, bright * rng.uniform(0.4, 1.0))
        for _ in range(rng.integers(2, 14)):  # the venous plexus: many short, thin, bright strands beside the gland
            root = centre + np.array(
                (s * semi[0] * 1.1, rng.uniform(-1, 0.6) * semi[1], rng.uniform(-0.6, 1.3) * semi[2])
            )
            walk = np.cumsum(rng.normal(0, (3, 4, 5), (2, 3)), axis=0)
            painter.tube(np.vstack((root, root + walk)), rng.uniform(0.5, 1.7), "plexus", solid=False)


def paint_perineum(painter: TissuePainter) -> None:
    """Paint bulb and crura of the penis, testes and spermatic cords."""
    rng = painter.rng
    gonad = painter.sample_signal("gonad")
    painter.tube([(0, 6, -58), (0, 30, -78), (0, 70, -95), (0, 92, -110)], (8, 8, 9, 10), gonad * rng.uniform(0.4, 0.9))
    for _, s in SIDES:
        painter.tube([(s * 30, -10, -72), (s * 10, 28, -76)], (5, 6), gonad * rng.uniform(0.3, 0.8))
        painter.ellipsoid(painter.jitter((s * 18, 75, -125), 5), (14, 14, 20), gonad)
        cord = [painter.jitter(p, 3) for p in ((s * 55, 62, 5), (s * 38, 74, -30), (s * 22, 80, -80))]
        painter.tube(cord, rng.uniform(1.5, 4.0), "slow vein" if rng.random() < 0.5 else "deep fat")
