"""The iliac vessels and the small vessels of the pelvis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.anatomy.sides import SIDES
from lnfast.phantom.painter import TissuePainter


def iliac_vessels(s: float) -> list[tuple[NDArray[np.float64], float]]:
    """Return centre lines (n, 3) in atlas mm and radii in mm of one side's vessels (``s`` = 1 right, -1 left).

    In this order: common, external and internal iliac, obturator.
    """
    common = [(s * 6, 0, 122), (s * 20, -4, 104), (s * 34, -12, 86)]
    external = [
        (s * 34, -12, 86),
        (s * 46, 2, 62),
        (s * 56, 22, 34),
        (s * 64, 44, 6),
        (s * 74, 54, -24),
        (s * 80, 48, -90),
    ]
    internal = [(s * 34, -12, 86), (s * 38, -34, 62), (s * 42, -40, 36), (s * 44, -28, 10)]
    obturator = [(s * 42, -30, 50), (s * 47, -8, 28), (s * 47, 18, 8), (s * 44, 30, -8)]
    radii = (5.5, 4.8, 3.4, 1.5)
    paths = (common, external, internal, obturator)
    return [(np.array(path, dtype=np.float64), radius) for path, radius in zip(paths, radii, strict=True)]


def paint_vessels(painter: TissuePainter) -> None:
    """Paint iliac arteries and veins (flow voids, now and then a slow bright vein) and small vessels in pelvic fat."""
    rng = painter.rng
    # Shares of the veins and of the sides. Blood is dark at high b-values; where slow blood is not, a stretch of vein
    # beside the iliac artery looks like a node.
    slow, stagnant = (0.02, 0.06) if painter.realistic else (0.12, 0.4)
    for _, s in SIDES:
        artery = painter.sample_signal("vessel")
        vein = painter.sample_signal("slow vein" if rng.random() < slow else "vessel")
        for path, radius in iliac_vessels(s):
            painter.tube(path, radius, artery, solid=False)
            beside = path + (-s * 7.0 * (radius > 3), -6.0, -2.0)
            painter.tube(beside, radius * 1.1, vein, solid=False)
        for _ in range(rng.integers(1, 6)):  # periprostatic and vesical veins: thin, often slow and bright
            start = painter.jitter((s * 32, -8, -5), 9)
            step = np.cumsum(rng.normal(0, (5, 5, 9), (3, 3)), axis=0)
            painter.tube(
                np.vstack((start, start + step)),
                rng.uniform(0.8, 2.2),
                "plexus" if rng.random() < 0.6 else "vessel",
                solid=False,
            )
        if rng.random() < stagnant:  # a stretch of vein without flow: oval in a slice, a tube across several
            path, radius = iliac_vessels(s)[rng.integers(3)]
            i = int(rng.integers(len(path) - 1))
            ends = path[i] + np.sort(rng.random(2))[:, None] * (path[i + 1] - path[i]) + (-s * 7.0, -6.0, -2.0)
            painter.tube(ends, radius * rng.uniform(0.5, 1.0), "slow vein", solid=False)
        for _ in range(rng.integers(0, 8)):  # superficial veins and lymphatics in the fat of the groin
            start = rng.uniform((40, 60, -80), (95, 85, 20)) * (s, 1, 1)
            walk = np.cumsum(rng.normal(0, (6, 2, 10), (3, 3)), axis=0)
            painter.tube(np.vstack((start, start + walk)), rng.uniform(0.5, 1.6), "slow vein", solid=False)
    painter.tube([(4, -2, 150), (3, 0, 122)], (10, 8), "vessel", solid=False)
    for _ in range(rng.integers(8, 26)):  # small vessels run through all pelvic fat, so that it is never empty
        start = rng.uniform((-55, -55, -45), (55, 50, 120))
        walk = np.cumsum(rng.normal(0, (7, 7, 9), (4, 3)), axis=0)
        value = painter.muscle * rng.uniform(0.3, 3.0)
        painter.tube(np.vstack((start, start + walk)), rng.uniform(0.6, 1.6), value, solid=False)
