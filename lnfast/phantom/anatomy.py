"""The frame of a male pelvis: trunk, muscles, bones, vessels and nerves; later functions paint over earlier.

Atlas millimetres, RAS directions (x to the patient's right, y forward, z up), origin midway between the centres of
the femoral heads. Landmarks are rounded from ordinary anatomy; no patient was traced.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.pen import Pen, turned
from lnfast.phantom.shapes import Column

SIDES = (("right", 1.0), ("left", -1.0))


def skin_of(pen: Pen) -> Column:
    """The outline of the trunk."""
    rng = pen.rng
    wide, deep = rng.uniform(160, 192), rng.uniform(92, 122)
    z = np.array([-140.0, -80, -30, 20, 70, 140])
    a = wide * np.array([0.93, 0.97, 1.0, 0.99, 0.94, 0.92])
    b = deep * np.array([0.88, 0.94, 1.0, 1.0, 0.97, 1.0])
    y0 = np.array([-20.0, -18, -14, -12, -8, 0])
    return Column(np.stack((z, a, b, y0), axis=1), rng.uniform(0.25, 0.6))


def trunk(pen: Pen, skin: Column) -> NDArray[np.float32]:
    """Paint fat, muscle and the pelvic cavity; returns how much of each voxel is fat below the skin, (z, y, x)."""
    rng, canvas = pen.rng, pen.canvas
    z, a, b, y0 = skin.table.T
    fat = rng.uniform(10, 30)
    fascia = Column(np.stack((z, a - fat * 1.1, b - fat * 0.8, y0 - 0.1 * fat), axis=1), skin.square)
    subcutaneous = np.zeros(canvas.grid.shape, dtype=np.float32)
    whole, inner = canvas.fill(skin), canvas.fill(fascia)
    if whole is not None:
        subcutaneous[whole[0]] = whole[1]
    canvas.signal += subcutaneous * np.float32(pen.draw("fat"))
    if inner is not None:
        subcutaneous[inner[0]] -= inner[1]
        canvas.signal[inner[0]] += inner[1] * (np.float32(pen.muscle) - canvas.signal[inner[0]])
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
    canvas.paint(Column(rows, 0.3), pen.draw("deep fat"))
    return np.maximum(subcutaneous, 0)


def muscles(pen: Pen) -> None:
    """Psoas, obturator internus, levator, piriformis, and the fat planes between muscles."""
    tone = pen.muscle
    for _, s in SIDES:
        path = [
            (s * 34, -18, 140),
            (s * 46, -8, 105),
            (s * 62, 6, 70),
            (s * 78, 28, 30),
            (s * 84, 30, 0),
            (s * 84, 12, -60),
        ]
        pen.tube(
            path,
            np.array([20, 21, 22, 20, 18, 14]) * pen.rng.uniform(0.8, 1.1),
            tone * pen.rng.uniform(0.85, 1.2),
            solid=False,
        )
        pen.put((s * 53, 0, -6), (10, 36, 38), tone * pen.rng.uniform(0.85, 1.2), turned(-8 * s, 0), solid=False)
        levator = [(s * 42, 14, 4), (s * 30, -8, -18), (s * 17, -18, -38), (s * 12, -26, -58)]
        pen.tube(levator, (2.5, 3.5, 4, 4), tone * pen.rng.uniform(0.9, 1.6), solid=False)
        pen.tube(
            [(s * 20, -66, 48), (s * 60, -62, 25), (s * 100, -35, 12)],
            (8, 10, 6),
            tone * pen.rng.uniform(0.9, 1.2),
            solid=False,
        )
        # Between the glutei and around the ischiorectal fossa fat shows as dark planes.
        plane = pen.draw("deep fat")
        pen.put((s * 34, -46, -42), (15, 26, 26), plane, solid=False)
        pen.put((s * 105, -60, 30), (42, 3.5, 60), plane, turned(38 * s, 0), solid=False)
        pen.put((s * 110, 25, -45), (3, 30, 60), plane, turned(-30 * s, 0), solid=False)
    pen.put((0, -125, -45), (4, 34, 60), 0.0, solid=False)
    rng = pen.rng
    for _ in range(rng.integers(10, 40)):  # septa, fascia and fat between the bundles: muscle is never one grey
        value = pen.draw("deep fat") if rng.random() < 0.7 else tone * rng.uniform(1.2, 2.2)
        centre = rng.uniform((-150, -95, -90), (150, 75, 120))
        pen.put(centre, rng.uniform((0.6, 8, 12), (2.2, 32, 60)), value, turned(*rng.uniform(-90, 90, 3)), solid=False)


def bones(pen: Pen) -> None:
    """Hip bones, femora, spine, sacrum and coccyx; in some patients bright lesions in them."""
    rng = pen.rng
    marrow = pen.draw("bone")
    for _, s in SIDES:
        rim, head = pen.draw("joint"), marrow * rng.uniform(0.7, 1.2)
        pen.put((s * 94, -8, 82), (68, 9, 54), marrow, turned(54 * s, 8), solid=True)
        pen.put((s * 72, -6, 14), (15, 34, 28), marrow, turned(10 * s, 0))
        pen.put((s * 62, -38, -42), (15, 19, 32), marrow, turned(0, 15))
        pen.tube([(s * 66, 20, 6), (s * 34, 44, -18), (s * 7, 46, -28)], (12, 8, 11), marrow)
        pen.tube([(s * 8, 40, -44), (s * 34, 0, -66), (s * 56, -35, -66)], (6, 6, 9), marrow)
        pen.tube([(s * 94, -3, -4), (s * 128, -14, -18), (s * 124, -10, -120)], (17, 21, 16), head)
        pen.put((s * 88, 0, 0), (26.5, 26.5, 26.5), rim)
        pen.put((s * 88, 0, 0), (25, 25, 25), head)
    pen.tube([(0, -18, 140), (0, -28, 100)], (26, 25), marrow)
    pen.put((0, -52, 72), (50, 17, 30), marrow, turned(0, -25))
    pen.tube([(0, -66, 55), (0, -80, 25), (0, -76, 0), (0, -66, -14)], (22, 15, 9, 5), marrow)
    if rng.random() < 0.25:
        for _ in range(rng.integers(1, 5)):  # bone metastases and red marrow: bright, and no node
            s = SIDES[rng.integers(2)][1]
            # Inside a bone, where no node can be: a like blob beside the iliac vessels would be no mimic but a node.
            centre, semi, axes = _lesion_sites(s)[rng.integers(4)]
            pen.put(
                centre + (rng.uniform(-0.6, 0.6, 3) * semi) @ axes,
                rng.uniform(3, 11, 3),
                "mimic",
                turned(*rng.uniform(-90, 90, 3)),
            )


def _lesion_sites(s: float) -> list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
    """Centre, semi-axes, axes of the bones with most marrow: wing of the ilium, ischium, sacrum, femoral head."""
    upright = np.eye(3)
    return [
        (np.array((s * 94, -8, 82)), np.array((68, 9, 54)), turned(54 * s, 8)),
        (np.array((s * 62, -38, -42)), np.array((15, 19, 32)), turned(0, 15)),
        (np.array((0, -52, 72)), np.array((50, 17, 30)), turned(0, -25)),
        (np.array((s * 88, 0, 0)), np.array((25, 25, 25)), upright),
    ]


def blood(pen: Pen) -> None:
    """Iliac arteries and veins (flow voids, now and then a slow bright vein), small vessels in the pelvic fat."""
    rng = pen.rng
    slow, still = (0.06, 0.2) if pen.realistic else (0.12, 0.4)  # share of the veins
    for _, s in SIDES:
        artery, vein = pen.draw("vessel"), pen.draw("slow vein" if rng.random() < slow else "vessel")
        for path, radius in vessels(s):
            pen.tube(path, radius, artery, solid=False)
            beside = path + (-s * 7.0 * (radius > 3), -6.0, -2.0)
            pen.tube(beside, radius * 1.1, vein, solid=False)
        for _ in range(rng.integers(1, 6)):  # periprostatic and vesical veins: thin, often slow and bright
            start = pen.near((s * 32, -8, -5), 9)
            step = np.cumsum(rng.normal(0, (5, 5, 9), (3, 3)), axis=0)
            pen.tube(
                np.vstack((start, start + step)),
                rng.uniform(0.8, 2.2),
                "slow vein" if rng.random() < 0.6 else "vessel",
                solid=False,
            )
        if rng.random() < still:  # a stretch of vein whose blood stands still: oval in a slice, a tube across some
            path, radius = vessels(s)[rng.integers(3)]
            i = int(rng.integers(len(path) - 1))
            ends = path[i] + np.sort(rng.random(2))[:, None] * (path[i + 1] - path[i]) + (-s * 7.0, -6.0, -2.0)
            pen.tube(ends, radius * rng.uniform(0.5, 1.0), "slow vein", solid=False)
        for _ in range(rng.integers(0, 8)):  # superficial veins and lymphatics in the fat of the groin
            start = rng.uniform((40, 60, -80), (95, 85, 20)) * (s, 1, 1)
            walk = np.cumsum(rng.normal(0, (6, 2, 10), (3, 3)), axis=0)
            pen.tube(np.vstack((start, start + walk)), rng.uniform(0.5, 1.6), "slow vein", solid=False)
    pen.tube([(4, -2, 150), (3, 0, 122)], (10, 8), "vessel", solid=False)
    for _ in range(rng.integers(8, 26)):  # small vessels run through all pelvic fat, so that it is never empty
        start = rng.uniform((-55, -55, -45), (55, 50, 120))
        walk = np.cumsum(rng.normal(0, (7, 7, 9), (4, 3)), axis=0)
        value = pen.muscle * rng.uniform(0.3, 3.0)
        pen.tube(np.vstack((start, start + walk)), rng.uniform(0.6, 1.6), value, solid=False)


def nerves(pen: Pen) -> None:
    """Sacral plexus and sciatic, femoral and obturator nerves, and the ganglia in the foramina."""
    rng = pen.rng
    for _, s in SIDES:
        value = pen.draw("nerve") * float(rng.lognormal(0.1, 0.4))
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
            pen.tube(sciatic + shift, rng.uniform(1.5, 4.5), value)
        pen.tube(sciatic[:4] + (-s * 8, 4, -8), rng.uniform(1.5, 3.0), value * rng.uniform(0.6, 1.1))
        pen.tube([(s * 30, -30, 130), (s * 36, -34, 95), (s * 34, -46, 66)], rng.uniform(1.5, 3.2), value)
        pen.tube(
            [(s * 60, -2, 90), (s * 80, 25, 40), (s * 92, 44, -10)],
            rng.uniform(1.0, 2.5),
            value * rng.uniform(0.5, 1.0),
        )
        pen.tube(
            [(s * 42, -22, 80), (s * 50, -8, 40), (s * 50, 18, 8)],
            rng.uniform(0.7, 1.6),
            value * rng.uniform(0.4, 1.0),
        )
        for y, z in ((-42, 100), (-56, 76), (-68, 52), (-74, 30)):  # ganglia: round, bright, in the foramina
            pen.put(pen.near((s * (20 + 0.06 * z), y, z), 1.5), rng.uniform(2.0, 4.5, 3), value * rng.uniform(0.7, 1.4))


def vessels(s: float) -> list[tuple[NDArray[np.float64], float]]:
    """Centre lines and radii of one side's iliac vessels (``s`` = 1 right, -1 left)."""
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
