"""The nerves of the pelvis."""

from __future__ import annotations

import numpy as np

from lnfast.phantom.anatomy.sides import SIDES
from lnfast.phantom.painter import TissuePainter


def paint_nerves(painter: TissuePainter) -> None:
    """Paint the sacral plexus, the sciatic, femoral and obturator nerves, and the ganglia in the foramina."""
    rng = painter.rng
    for _, s in SIDES:
        value = painter.sample_signal("nerve") * float(rng.lognormal(0.1, 0.2 if painter.realistic else 0.4))
        sciatic = np.array(
            [
                (s * 26, -46, 72),
                (s * 40, -56, 45),
                (s * 58, -60, 20),
                (s * 72, -58, -10),
                (s * 82, -52, -50),
                (s * 86, -45, -110),
            ],
            dtype=float,
        )
        sciatic += rng.normal(0, 2.5, sciatic.shape)
        strand = rng.normal(0, 1.0, 3) + (s * rng.uniform(0, 4), rng.uniform(-1, 1), 0)  # flat: two strands abreast
        for shift in (-strand / 2, strand / 2):
            painter.tube(sciatic + shift, rng.uniform(1.5, 4.5), value)
        painter.tube(sciatic[:4] + (-s * 8, 4, -8), rng.uniform(1.5, 3.0), value * rng.uniform(0.6, 1.1))
        painter.tube([(s * 30, -30, 130), (s * 36, -34, 95), (s * 34, -46, 66)], rng.uniform(1.5, 3.2), value)
        painter.tube(
            [(s * 60, -2, 90), (s * 80, 25, 40), (s * 92, 44, -10)],
            rng.uniform(1.0, 2.5),
            value * rng.uniform(0.5, 1.0),
        )
        painter.tube(
            [(s * 42, -22, 80), (s * 50, -8, 40), (s * 50, 18, 8)],
            rng.uniform(0.7, 1.6),
            value * rng.uniform(0.4, 1.0),
        )
        for y, z in ((-42, 100), (-56, 76), (-68, 52), (-74, 30)):  # ganglia: round, bright, in the foramina
            painter.ellipsoid(
                painter.jitter((s * (20 + 0.06 * z), y, z), 1.5),
                rng.uniform(2.0, 4.5, 3),
                value * rng.uniform(0.7, 1.4),
            )
