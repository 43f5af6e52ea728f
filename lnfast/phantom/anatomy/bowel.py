"""Small bowel, sigmoid and rectum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.painter import TissuePainter
from lnfast.phantom.shapes import rotation


def paint_bowel(painter: TissuePainter) -> None:
    """Paint loops of small bowel, and often a sigmoid that hangs down beside the bladder."""
    rng = painter.rng
    for _ in range(rng.integers(5, 14)):
        outer = rng.uniform(6, 16)
        start = painter.jitter((rng.uniform(-70, 70), rng.uniform(5, 45), rng.uniform(45, 120)), 4)
        heading = rng.normal(0, (1, 0.5, 0.7), 3)
        path = [start]
        for _ in range(rng.integers(2, 7)):
            heading = heading / np.linalg.norm(heading) + rng.normal(0, 0.5, 3)
            step = path[-1] + heading / np.linalg.norm(heading) * rng.uniform(12, 24)
            path.append(np.clip(step, (-85, -20, 40), (85, 58, 140)))
        painter.bowel_segment(np.array(path), np.full(len(path), outer), "bowel wall")
    if rng.random() < 0.6:  # a loop or the sigmoid that hangs down beside the bladder
        s = rng.choice((-1.0, 1.0))
        path = [
            painter.jitter(p, 5)
            for p in ((s * 65, 15, 90), (s * 58, 20, 60), (s * 40, 12, 42), (s * 14, -12, 48), (s * 4, -35, 58))
        ]
        painter.bowel_segment(np.array(path), np.full(5, rng.uniform(6, 12)), "bowel wall")


def sample_rectal_content(rng: np.random.Generator) -> str:
    """Draw the content of the rectum: a tissue, or "collapsed"."""
    return str(rng.choice(("air", "air", "stool", "stool", "bowel fluid", "collapsed")))


def sample_rectal_gas(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the centre of a gas bubble in the rectum, atlas mm (3,)."""
    return np.array((rng.normal(0, 4), rng.normal(-34, 6), rng.uniform(-25, 35)))


def paint_rectum(painter: TissuePainter) -> None:
    """Paint the anal canal and the rectum, with bright folds."""
    rng = painter.rng
    anal = painter.sample_signal("anal")
    painter.tube([(0, -30, -85), (0, -24, -60), (0, -22, -44)], (11, 13, 14), anal)
    painter.tube([(0, -30, -85), (0, -24, -60), (0, -22, -44)], (4, 5, 6), anal * rng.uniform(0.8, 1.9))
    path = np.array([(0, -23, -46), (0, -32, -25), (0, -42, 0), (2, -50, 25), (-2, -48, 45), (8, -36, 62)], dtype=float)
    path[:, 0] += rng.normal(0, 5, 6) * (0, 0.4, 0.8, 1, 1.5, 2)
    radius = (
        rng.uniform(9, 13)
        * np.array([1, 1.1, 1.2, 1.15, 1, 0.95])
        * rng.uniform(0.85, 1.25 if rng.random() < 0.5 else 1.8, 6)
    )
    radius = np.minimum(radius, (14, 17, 20, 22, 20, 18))
    radius[0] = 12
    painter.bowel_segment(path, radius, "rectal wall", painter.rectal_content)
    for _ in range(rng.integers(0, 7)):  # folds and mucus: bright patches on the wall
        i = rng.integers(1, 5)
        angle = rng.uniform(0, 2 * np.pi)
        centre = path[i] + radius[i] * np.array((np.cos(angle), np.sin(angle), 0)) * 0.8
        painter.ellipsoid(centre, rng.uniform(2, 7, 3), "rectal wall", rotation(*rng.uniform(-90, 90, 3)))
