"""Mimics of lymph nodes: bright structures that are no nodes by their position or their shape."""

from __future__ import annotations

import numpy as np

from lnfast.phantom.painter import TissuePainter
from lnfast.phantom.shapes import rotation


def paint_mimics(painter: TissuePainter) -> None:
    """Paint thin sheets, streaks and blobs as bright as nodes."""
    rng = painter.rng
    broadest = 2.5 if painter.realistic else 5.0  # a broader streak looks like a long node
    for _ in range(rng.integers(0, 6)):  # thin sheets and streaks: fascia, fluid, vessels in the abdominal wall
        centre = painter.jitter((rng.uniform(-90, 90), rng.uniform(30, 80), rng.uniform(-60, 80)), 3)
        semi = np.sort(rng.uniform((0.8, 1.5, 12), (2.0, broadest, 30)))
        painter.ellipsoid(centre, semi, "mimic", rotation(*rng.uniform(-90, 90, 3)), solid=False)
    # Blobs inside muscle and behind the sacrum, where no station is. In people they are rare, and a node that lies in
    # fat as bright as muscle looks the same.
    blobs = int(rng.integers(0, 5))
    for _ in range(blobs // 4 if painter.realistic else blobs):
        s = rng.choice((-1, 1))
        centre = painter.jitter((s * rng.uniform(70, 130), rng.uniform(-95, -65), rng.uniform(-60, 80)), 3)
        painter.ellipsoid(centre, rng.uniform(2, 9, 3), "mimic", rotation(*rng.uniform(-90, 90, 3)))
