"""The trunk: its outline, subcutaneous fat, muscles and the fat planes between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.anatomy.sides import SIDES
from lnfast.phantom.painter import TissuePainter
from lnfast.phantom.shapes import Column, rotation


def sample_skin(painter: TissuePainter) -> Column:
    """Draw the outline of the trunk."""
    rng = painter.rng
    wide, deep = rng.uniform(160, 192), rng.uniform(92, 122)
    z = np.array([-140.0, -80, -30, 20, 70, 140])
    a = wide * np.array([0.93, 0.97, 1.0, 0.99, 0.94, 0.92])
    b = deep * np.array([0.88, 0.94, 1.0, 1.0, 0.97, 1.0])
    y0 = np.array([-20.0, -18, -14, -12, -8, 0])
    return Column(np.stack((z, a, b, y0), axis=1), rng.uniform(0.25, 0.6))


def paint_trunk(painter: TissuePainter, skin: Column) -> NDArray[np.float32]:
    """Paint fat, muscle and the pelvic cavity; return how much of each voxel is subcutaneous fat, (z, y, x) float32."""
    rng, image = painter.rng, painter.image
    z, a, b, y0 = skin.table.T
    fat = rng.uniform(10, 30)
    fascia = Column(np.stack((z, a - fat * 1.1, b - fat * 0.8, y0 - 0.1 * fat), axis=1), skin.square)
    subcutaneous = np.zeros(image.grid.shape, dtype=np.float32)
    whole, inner = image.rasterize(skin), image.rasterize(fascia)
    if whole is not None:
        subcutaneous[whole[0]] = whole[1]
    image.signal += subcutaneous * np.float32(painter.sample_signal("fat"))
    if inner is not None:
        subcutaneous[inner[0]] -= inner[1]
        image.signal[inner[0]] += inner[1] * (np.float32(painter.muscle) - image.signal[inner[0]])
    rows = np.array(
        [
            [-110, 14, 20, -10],
            [-55, 24, 38, -6],
            [-25, 36, 50, -2],
            [10, 54, 60, -4],
            [40, 72, 63, -4],
            [80, 100, 66, 2],
            [140, 118, 66, 10],
        ],
        dtype=np.float64,
    )
    rows[:, 1:3] *= rng.uniform(0.9, 1.08)
    image.paint(Column(rows, 0.3), painter.sample_signal("deep fat"))
    return np.maximum(subcutaneous, 0)


def paint_muscles(painter: TissuePainter) -> None:
    """Paint psoas, obturator internus, levator, piriformis, and the fat planes between muscles."""
    tone = painter.muscle
    for _, s in SIDES:
        path = [
            (s * 34, -18, 140),
            (s * 46, -8, 105),
            (s * 62, 6, 70),
            (s * 78, 28, 30),
            (s * 84, 30, 0),
            (s * 84, 12, -60),
        ]
        painter.tube(
            path,
            np.array([20, 21, 22, 20, 18, 14]) * painter.rng.uniform(0.8, 1.1),
            tone * painter.rng.uniform(0.85, 1.2),
            solid=False,
        )
        painter.ellipsoid(
            (s * 53, 0, -6), (10, 36, 38), tone * painter.rng.uniform(0.85, 1.2), rotation(-8 * s, 0), solid=False
        )
        levator = [(s * 42, 14, 4), (s * 30, -8, -18), (s * 17, -18, -38), (s * 12, -26, -58)]
        painter.tube(levator, (2.5, 3.5, 4, 4), tone * painter.rng.uniform(0.9, 1.6), solid=False)
        painter.tube(
            [(s * 20, -66, 48), (s * 60, -62, 25), (s * 100, -35, 12)],
            (8, 10, 6),
            tone * painter.rng.uniform(0.9, 1.2),
            solid=False,
        )
        # Between the glutei and around the ischiorectal fossa fat shows as dark planes.
        plane = painter.sample_signal("deep fat")
        painter.ellipsoid((s * 34, -46, -42), (15, 26, 26), plane, solid=False)
        painter.ellipsoid((s * 105, -60, 30), (42, 3.5, 60), plane, rotation(38 * s, 0), solid=False)
        painter.ellipsoid((s * 110, 25, -45), (3, 30, 60), plane, rotation(-30 * s, 0), solid=False)
    painter.ellipsoid((0, -125, -45), (4, 34, 60), 0.0, solid=False)
    rng = painter.rng
    for _ in range(rng.integers(10, 40)):  # septa, fascia and fat between the bundles: muscle is never of one grey
        value = painter.sample_signal("deep fat") if rng.random() < 0.7 else tone * rng.uniform(1.2, 2.2)
        centre = rng.uniform((-150, -95, -90), (150, 75, 120))
        painter.ellipsoid(
            centre, rng.uniform((0.6, 8, 12), (2.2, 32, 60)), value, rotation(*rng.uniform(-90, 90, 3)), solid=False
        )
