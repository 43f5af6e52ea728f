"""What a male pelvis holds besides lymph nodes: organs, bowel, and bright things that a network could take for nodes.

Later functions paint over earlier ones. Atlas millimetres as in `anatomy`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.anatomy import SIDES
from lnfast.phantom.pen import Pen, turned
from lnfast.phantom.physics import smooth_field
from lnfast.phantom.shapes import Column


def bowel(pen: Pen) -> None:
    """Loops of small bowel, and often a sigmoid that hangs down beside the bladder."""
    rng = pen.rng
    for _ in range(rng.integers(5, 14)):
        outer = rng.uniform(6, 16)
        place = pen.near((rng.uniform(-70, 70), rng.uniform(5, 45), rng.uniform(45, 120)), 4)
        heading = rng.normal(0, (1, 0.5, 0.7), 3)
        path = [place]
        for _ in range(rng.integers(2, 7)):
            heading = heading / np.linalg.norm(heading) + rng.normal(0, 0.5, 3)
            step = path[-1] + heading / np.linalg.norm(heading) * rng.uniform(12, 24)
            path.append(np.clip(step, (-85, -20, 40), (85, 58, 140)))
        pen.gut(np.array(path), np.full(len(path), outer), "bowel wall")
    if rng.random() < 0.6:  # a loop or the sigmoid that hangs down beside the bladder
        s = rng.choice((-1.0, 1.0))
        path = [
            pen.near(p, 5)
            for p in ((s * 65, 15, 90), (s * 58, 20, 60), (s * 40, 12, 42), (s * 14, -12, 48), (s * 4, -35, 58))
        ]
        pen.gut(np.array(path), np.full(5, rng.uniform(6, 12)), "bowel wall")


def bladder(pen: Pen, *, empty: bool = False) -> None:
    """Urine in a bright wall, sometimes with a thickened patch; after voiding it is a small one."""
    rng = pen.rng
    full = rng.uniform(0.2, 0.4) if empty else rng.uniform(0.55, 1.25)
    semi = np.array([36.0, 30.0, 30.0]) * full * rng.uniform(0.88, 1.12, 3)
    centre = np.array([rng.normal(0, 4), 22.0, -8 + semi[2] + rng.normal(0, 3)])
    axes = turned(*rng.normal(0, 8, 3))
    wall, urine = pen.draw("bladder wall"), pen.draw("urine")
    thick = rng.uniform(1.2, 4.0) / np.sqrt(full)
    # Not a ball: a second one, half inside the first, makes it square-shouldered or lopsided.
    bulge = rng.normal(0, 0.22, 3) * semi
    for shift, size in ((0 * bulge, semi), (bulge, semi * rng.uniform(0.75, 0.95))):
        pen.put(centre + shift, size, wall, axes)
    for shift, size in ((0 * bulge, semi), (bulge, semi * 0.8)):
        pen.put(centre + shift + rng.normal(0, 0.7, 3), size - thick, urine, axes)
    if rng.random() < 0.25:  # a thickened patch or a tumour of the wall
        direction = rng.standard_normal(3)
        direction /= np.linalg.norm(direction)
        pen.put(centre + direction * (semi - 2), rng.uniform(3, 9, 3), "mimic", axes)


def prostate(pen: Pen) -> None:
    """Gland with its zones, nodules and tumours; seminal vesicles and deferent ducts."""
    rng = pen.rng
    size = rng.uniform(0.8, 1.35)
    semi = np.array([23.0, 16.0, 19.0]) * size * rng.uniform(0.9, 1.1, 3)
    centre = pen.near((0, 6, -26 + 3 * size))
    gland = pen.draw("prostate")
    pen.put(centre, semi + 0.8, gland * 0.6)
    pen.put(centre, semi, "peripheral")
    for s in (-1, 1):
        pen.put(
            centre + (s * semi[0] * 0.3, semi[1] * 0.22, 3),
            semi * (0.52, 0.66, 0.72),
            gland * rng.uniform(0.85, 1.15),
        )
    pen.put(centre + (0, 3, -2), (2.5, 2.5, semi[2]), gland * rng.uniform(0.5, 1.5))
    for _ in range(rng.integers(0, 7)):  # nodules of hyperplasia, brighter or darker than their surroundings
        pen.put(centre + rng.uniform(-0.5, 0.5, 3) * semi, rng.uniform(2.5, 7, 3), gland * rng.uniform(0.6, 1.5))
    for _ in range(rng.integers(0, 3)):
        where = rng.uniform((-0.6, -0.7, -0.5), (0.6, 0.1, 0.5)) * semi
        pen.put(centre + where, rng.uniform(2.5, 8, 3), "tumour", turned(*rng.uniform(-60, 60, 3)))
    bright = pen.draw("seminal")
    for s in (-1, 1):
        path = (
            centre
            + np.array([(s * 5, -12, semi[2] - 3), (s * 16, -16, semi[2] + 5), (s * 28, -15, semi[2] + 12)])
            + rng.normal(0, 2, (3, 3))
        )
        for shift in (0.0, 6.0):
            pen.tube(path + (0, 0.3 * shift, shift), rng.uniform(3, 5.5, 3), bright * rng.uniform(0.7, 1.3))
        pen.tube(path[[0, 2]] + ((0, 2, 4), (0, 8, 10)), 2.0, bright * rng.uniform(0.4, 1.0))
        for _ in range(rng.integers(2, 14)):  # the venous plexus: many short, thin, bright strands beside the gland
            root = centre + np.array(
                (s * semi[0] * 1.1, rng.uniform(-1, 0.6) * semi[1], rng.uniform(-0.6, 1.3) * semi[2])
            )
            walk = np.cumsum(rng.normal(0, (3, 4, 5), (2, 3)), axis=0)
            pen.tube(np.vstack((root, root + walk)), rng.uniform(0.5, 1.7), "slow vein", solid=False)


def rectal_content(rng: np.random.Generator) -> str:
    """What the rectum holds: a tissue, or "collapsed"."""
    return str(rng.choice(("air", "air", "stool", "stool", "bowel fluid", "collapsed")))


def rectal_gas(rng: np.random.Generator) -> NDArray[np.float64]:
    """Where a bubble lies in the rectum, atlas mm (3,)."""
    return np.array((rng.normal(0, 4), rng.normal(-34, 6), rng.uniform(-25, 35)))


def rectum(pen: Pen) -> None:
    """Anal canal and rectum, with bright folds."""
    rng = pen.rng
    anal = pen.draw("anal")
    pen.tube([(0, -30, -85), (0, -24, -60), (0, -22, -44)], (11, 13, 14), anal)
    pen.tube([(0, -30, -85), (0, -24, -60), (0, -22, -44)], (4, 5, 6), anal * rng.uniform(0.8, 1.9))
    path = np.array([(0, -23, -46), (0, -32, -25), (0, -42, 0), (2, -50, 25), (-2, -48, 45), (8, -36, 62)], dtype=float)
    path[:, 0] += rng.normal(0, 5, 6) * (0, 0.4, 0.8, 1, 1.5, 2)
    radius = (
        rng.uniform(9, 13)
        * np.array([1, 1.1, 1.2, 1.15, 1, 0.95])
        * rng.uniform(0.85, 1.25 if rng.random() < 0.5 else 1.8, 6)
    )
    radius = np.minimum(radius, (14, 17, 20, 22, 20, 18))
    radius[0] = 12
    pen.gut(path, radius, "rectal wall", pen.rectal_content)
    for _ in range(rng.integers(0, 7)):  # folds and mucus: bright patches on the wall
        i = rng.integers(1, 5)
        angle = rng.uniform(0, 2 * np.pi)
        spot = path[i] + radius[i] * np.array((np.cos(angle), np.sin(angle), 0)) * 0.8
        pen.put(spot, rng.uniform(2, 7, 3), "rectal wall", turned(*rng.uniform(-90, 90, 3)))


def perineum(pen: Pen) -> None:
    """Bulb and crura of the penis, testes and spermatic cords."""
    rng = pen.rng
    body = pen.draw("gonad")
    pen.tube([(0, 6, -58), (0, 30, -78), (0, 70, -95), (0, 92, -110)], (8, 8, 9, 10), body * rng.uniform(0.4, 0.9))
    for _, s in SIDES:
        pen.tube([(s * 30, -10, -72), (s * 10, 28, -76)], (5, 6), body * rng.uniform(0.3, 0.8))
        pen.put(pen.near((s * 18, 75, -125), 5), (14, 14, 20), body)
        cord = [pen.near(p, 3) for p in ((s * 55, 62, 5), (s * 38, 74, -30), (s * 22, 80, -80))]
        pen.tube(cord, rng.uniform(1.5, 4.0), "slow vein" if rng.random() < 0.5 else "deep fat")


def mimics(pen: Pen) -> None:
    """Bright things that are no nodes by their place or their shape."""
    rng = pen.rng
    for _ in range(rng.integers(0, 6)):  # thin sheets and streaks: fascia, fluid, vessels in the abdominal wall
        centre = pen.near((rng.uniform(-90, 90), rng.uniform(30, 80), rng.uniform(-60, 80)), 3)
        semi = np.sort(rng.uniform((0.8, 1.5, 12), (2.0, 5, 30)))
        pen.put(centre, semi, "mimic", turned(*rng.uniform(-90, 90, 3)), solid=False)
    for _ in range(rng.integers(0, 5)):  # blobs inside muscle and behind the sacrum, where no node station is
        s = rng.choice((-1, 1))
        centre = pen.near((s * rng.uniform(70, 130), rng.uniform(-95, -65), rng.uniform(-60, 80)), 3)
        pen.put(centre, rng.uniform(2, 9, 3), "mimic", turned(*rng.uniform(-90, 90, 3)))


def unsuppressed_fat(pen: Pen, subcutaneous: NDArray[np.float32]) -> None:
    """Patches where fat suppression failed: bright skin fat, displaced along y by its chemical shift."""
    rng, canvas = pen.rng, pen.canvas
    for _ in range(rng.integers(0, 4)):
        patches = smooth_field(canvas.grid.shape, canvas.grid.spacing_zyx_mm, float(rng.uniform(25, 80)), rng)
        mask = np.clip(patches - rng.uniform(0.6, 1.6), 0, 0.6) / 0.6
        layer = subcutaneous if rng.random() < 0.5 else _rim(subcutaneous, int(rng.integers(1, 4)))
        residue = mask * layer * np.float32(pen.draw("mimic") * np.exp(rng.uniform(np.log(0.3), np.log(4.0))))
        canvas.signal += _shifted(residue, int(rng.integers(-45, 46)) if rng.random() < 0.6 else 0)


def _rim(layer: NDArray[np.float32], voxels: int) -> NDArray[np.float32]:
    """The outermost voxels of a layer along y: the skin's own streak."""
    inner = np.zeros_like(layer)
    inner[:, voxels:-voxels] = np.minimum(layer[:, : -2 * voxels], layer[:, 2 * voxels :])
    rim: NDArray[np.float32] = np.maximum(layer - inner, 0)
    return rim


def _shifted(layer: NDArray[np.float32], shift: int) -> NDArray[np.float32]:
    """Moved along y by whole voxels; what leaves the field is lost."""
    moved = np.zeros_like(layer)
    source, target = (
        (slice(shift, None), slice(None, -shift)) if shift > 0 else (slice(None, shift or None), slice(-shift, None))
    )
    moved[:, target] = layer[:, source]
    return moved


def gain(pen: Pen, skin: Column) -> NDArray[np.float32]:
    """Receive sensitivity of a phased array: highest at the front and the back skin, (z, y, x) float32."""
    rng, canvas = pen.rng, pen.canvas
    y = canvas.points[1]
    front, back = (
        float(skin.table[2, 3] + skin.table[2, 2]),
        float(skin.table[2, 3] - skin.table[2, 2]),
    )
    depth = rng.uniform(22, 50)
    gain = 1 + np.float32(rng.uniform(0.2, 1.6)) * np.exp(np.minimum(y - front, 20) / np.float32(depth))
    gain += np.float32(rng.uniform(0.2, 1.2)) * np.exp(np.minimum(back - y, 20) / np.float32(depth))
    slow = smooth_field(canvas.grid.shape, canvas.grid.spacing_zyx_mm, 130.0, rng)
    return np.asarray(gain * (1 + np.float32(0.1) * slow).clip(0.6, 1.5), dtype=np.float32)


def texture(pen: Pen) -> None:
    """No tissue is flat: grain at 12 mm, 5 mm and, finer than most voxels, 2.5 mm."""
    grid, rng = pen.canvas.grid, pen.rng
    for length, amount in (
        (12.0, rng.uniform(0.06, 0.2)),
        (5.0, rng.uniform(0.05, 0.2)),
        (2.5, rng.uniform(0.0, 0.15)),
    ):
        grain = smooth_field(grid.shape, grid.spacing_zyx_mm, length, pen.rng)
        pen.canvas.signal *= np.maximum(1 + np.float32(amount) * grain, 0.3)
