"""What lies in a male pelvis besides lymph nodes, painted in the order in which later covers earlier.

Atlas millimetres, RAS directions (x to the patient's right, y forward, z up), origin midway between the centres of
the femoral heads. Landmarks are rounded from ordinary anatomy; no patient was traced.
"""

from __future__ import annotations


import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnfast.phantom.canvas import Canvas
from lnfast.phantom.physics import signal, smooth_field
from lnfast.phantom.protocol import Protocol
from lnfast.phantom.shapes import Column, Ellipsoid, Tube

SIDES = (("right", 1.0), ("left", -1.0))


def turned(yaw: float, pitch: float, roll: float = 0.0) -> NDArray[np.float64]:
    """Rows: x, y, z axes turned by degrees about z, then x, then y."""
    a, b, c = np.deg2rad((yaw, pitch, roll))
    about_z = np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    about_y = np.array([[np.cos(c), 0, -np.sin(c)], [0, 1, 0], [np.sin(c), 0, np.cos(c)]])
    return np.asarray(about_y @ about_x @ about_z, dtype=np.float64)


class Patient:
    """One patient's anatomy: paints itself on a canvas with a tissue brightness drawn per structure."""

    def __init__(self, canvas: Canvas, protocol: Protocol, rng: np.random.Generator) -> None:
        self.canvas, self.protocol, self.rng = canvas, protocol, rng
        self.muscle = signal("muscle", protocol, rng)
        self.skin = self._skin()

    def draw(self, tissue: str) -> float:
        return signal(tissue, self.protocol, self.rng)

    def near(self, point: ArrayLike, sd_mm: float = 2.0) -> NDArray[np.float64]:
        return np.asarray(point, dtype=np.float64) + self.rng.normal(0, sd_mm, 3)

    def put(self, centre: ArrayLike, semi: ArrayLike, tissue: str | float, axes: ArrayLike | None = None,
            *, solid: bool = True) -> None:
        value = tissue if isinstance(tissue, float) else self.draw(tissue)
        self.canvas.paint(Ellipsoid(centre, semi, axes), value, solid=solid)

    def tube(self, path: ArrayLike, radius: ArrayLike, tissue: str | float, *, solid: bool = True) -> None:
        value = tissue if isinstance(tissue, float) else self.draw(tissue)
        self.canvas.paint(Tube(path, radius), value, solid=solid)

    def paint(self) -> None:
        for stage in (self._trunk, self._muscles, self._bones, self._vessels, self._nerves, self._bowel,
                      self._bladder, self._prostate, self._rectum, self._perineum, self._mimics):
            stage()

    def _skin(self) -> Column:
        rng = self.rng
        wide, deep = rng.uniform(160, 192), rng.uniform(92, 122)
        z = np.array([-140.0, -80, -30, 20, 70, 140])
        a = wide * np.array([0.93, 0.97, 1.0, 0.99, 0.94, 0.92])
        b = deep * np.array([0.88, 0.94, 1.0, 1.0, 0.97, 1.0])
        y0 = np.array([-20.0, -18, -14, -12, -8, 0])
        return Column(np.stack((z, a, b, y0), axis=1), rng.uniform(0.25, 0.6))

    def _trunk(self) -> None:
        rng, canvas = self.rng, self.canvas
        z, a, b, y0 = self.skin.table.T
        fat = rng.uniform(10, 30)
        fascia = Column(np.stack((z, a - fat * 1.1, b - fat * 0.8, y0 - 0.1 * fat), axis=1), self.skin.square)
        whole, inner = canvas.fill(self.skin), canvas.fill(fascia)
        if whole is not None:
            canvas.signal[whole[0]] = whole[1] * np.float32(self.draw("fat"))
            subcutaneous = np.zeros(canvas.grid.shape, dtype=np.float32)
            subcutaneous[whole[0]] = whole[1]
            if inner is not None:
                subcutaneous[inner[0]] -= inner[1]
            self.subcutaneous = np.maximum(subcutaneous, 0)
        if inner is not None:
            canvas.signal[inner[0]] += inner[1] * (np.float32(self.muscle) - canvas.signal[inner[0]])
        self.cavity_scale = rng.uniform(0.9, 1.08)
        rows = np.array([[-110, 16, 22, -10], [-55, 30, 40, -6], [-20, 48, 54, -2], [10, 58, 60, -4], [40, 72, 63, -4],
                         [80, 100, 66, 2], [140, 118, 66, 10]], dtype=np.float64)
        rows[:, 1:3] *= self.cavity_scale
        canvas.paint(Column(rows, 0.3), self.draw("deep fat"))

    def _muscles(self) -> None:
        tone = self.muscle
        for _, s in SIDES:
            path = [(s * 34, -18, 140), (s * 46, -8, 105), (s * 62, 6, 70), (s * 78, 28, 30), (s * 84, 30, 0), (s * 84, 12, -60)]
            self.tube(path, np.array([20, 21, 22, 20, 18, 14]) * self.rng.uniform(0.8, 1.1), tone * self.rng.uniform(0.85, 1.2), solid=False)
            self.put((s * 54, 0, 2), (9, 34, 30), tone * self.rng.uniform(0.85, 1.2), turned(-8 * s, 0), solid=False)
            self.tube([(s * 20, -66, 48), (s * 60, -62, 25), (s * 100, -35, 12)], (8, 10, 6), tone * self.rng.uniform(0.9, 1.2), solid=False)
            # Between the glutei and around the ischiorectal fossa fat shows as dark planes.
            plane = self.draw("deep fat")
            self.put((s * 34, -46, -42), (15, 26, 26), plane, solid=False)
            self.put((s * 105, -60, 30), (42, 3.5, 60), plane, turned(38 * s, 0), solid=False)
            self.put((s * 110, 25, -45), (3, 30, 60), plane, turned(-30 * s, 0), solid=False)
        self.put((0, -125, -45), (4, 34, 60), 0.0, solid=False)

    def _bones(self) -> None:
        rng = self.rng
        marrow = self.draw("bone")
        for _, s in SIDES:
            rim, head = self.draw("joint"), marrow * rng.uniform(0.7, 1.2)
            self.put((s * 94, -8, 82), (68, 9, 54), marrow, turned(54 * s, 8), solid=True)
            self.put((s * 72, -6, 14), (15, 34, 28), marrow, turned(10 * s, 0))
            self.put((s * 62, -38, -42), (15, 19, 32), marrow, turned(0, 15))
            self.tube([(s * 66, 20, 6), (s * 34, 44, -18), (s * 7, 46, -28)], (12, 8, 11), marrow)
            self.tube([(s * 8, 40, -44), (s * 34, 0, -66), (s * 56, -35, -66)], (6, 6, 9), marrow)
            self.tube([(s * 94, -3, -4), (s * 128, -14, -18), (s * 124, -10, -120)], (17, 21, 16), head)
            self.put((s * 88, 0, 0), (26.5, 26.5, 26.5), rim)
            self.put((s * 88, 0, 0), (25, 25, 25), head)
        self.tube([(0, -18, 140), (0, -28, 100)], (26, 25), marrow)
        self.put((0, -52, 72), (50, 17, 30), marrow, turned(0, -25))
        self.tube([(0, -66, 55), (0, -80, 25), (0, -76, 0), (0, -66, -14)], (22, 15, 9, 5), marrow)
        if rng.random() < 0.25:
            for _ in range(rng.integers(1, 5)):  # bone metastases and red marrow: bright, and no node
                centre = self.near(((rng.choice((-1, 1)) * 80), -5, 60), 25)
                self.put(centre, rng.uniform(3, 11, 3), "mimic", turned(*rng.uniform(-90, 90, 3)))

    def _vessels(self) -> None:
        rng = self.rng
        for name, s in SIDES:
            artery, vein = self.draw("vessel"), self.draw("slow vein" if rng.random() < 0.12 else "vessel")
            for path, radius in vessels(s):
                self.tube(path, radius, artery, solid=False)
                beside = np.asarray(path) + (-s * 7.0 * (radius > 3), -6.0, -2.0)
                self.tube(beside, radius * 1.1, vein, solid=False)
            for _ in range(rng.integers(1, 6)):  # periprostatic and vesical veins: thin, often slow and bright
                start = self.near((s * 32, -8, -5), 9)
                step = np.cumsum(rng.normal(0, (5, 5, 9), (3, 3)), axis=0)
                self.tube(np.vstack((start, start + step)), rng.uniform(0.8, 2.2), "slow vein" if rng.random() < 0.6 else "vessel", solid=False)
        self.tube([(4, -2, 150), (3, 0, 122)], (10, 8), "vessel", solid=False)

    def _nerves(self) -> None:
        rng = self.rng
        for _, s in SIDES:
            value = self.draw("nerve")
            sciatic = np.array([(s * 26, -46, 72), (s * 40, -56, 45), (s * 58, -60, 20), (s * 72, -58, -10), (s * 82, -52, -50), (s * 86, -45, -110)], dtype=float)
            sciatic += rng.normal(0, 2.5, sciatic.shape)
            self.tube(sciatic, rng.uniform(2.0, 5.5), value)
            self.tube(sciatic[:4] + (-s * 8, 4, -8), rng.uniform(1.5, 3.0), value * rng.uniform(0.6, 1.1))
            self.tube([(s * 30, -30, 130), (s * 36, -34, 95), (s * 34, -46, 66)], rng.uniform(1.5, 3.2), value)
            self.tube([(s * 60, -2, 90), (s * 80, 25, 40), (s * 92, 44, -10)], rng.uniform(1.0, 2.5), value * rng.uniform(0.5, 1.0))
            self.tube([(s * 42, -22, 80), (s * 50, -8, 40), (s * 50, 18, 8)], rng.uniform(0.7, 1.6), value * rng.uniform(0.4, 1.0))
            for y, z in ((-42, 100), (-56, 76), (-68, 52), (-74, 30)):  # ganglia: round, bright, in the foramina
                self.put(self.near((s * (20 + 0.06 * z), y, z), 1.5), rng.uniform(2.0, 4.5, 3), value * rng.uniform(0.7, 1.4))

    def _bowel(self) -> None:
        rng = self.rng
        for _ in range(rng.integers(3, 10)):
            outer = rng.uniform(6, 16)
            place = self.near((rng.uniform(-70, 70), rng.uniform(5, 45), rng.uniform(45, 120)), 4)
            heading = rng.normal(0, (1, 0.5, 0.7), 3)
            path = [place]
            for _ in range(rng.integers(2, 7)):
                heading = heading / np.linalg.norm(heading) + rng.normal(0, 0.5, 3)
                step = path[-1] + heading / np.linalg.norm(heading) * rng.uniform(12, 24)
                path.append(np.clip(step, (-85, -20, 40), (85, 58, 140)))
            self._gut(np.array(path), np.full(len(path), outer), "bowel wall")
        if rng.random() < 0.6:  # a loop or the sigmoid that hangs down beside the bladder
            s = rng.choice((-1.0, 1.0))
            path = [self.near(p, 5) for p in ((s * 65, 15, 90), (s * 58, 20, 60), (s * 40, 12, 42), (s * 14, -12, 48), (s * 4, -35, 58))]
            self._gut(np.array(path), np.full(5, rng.uniform(6, 12)), "bowel wall")

    def _gut(self, path: NDArray[np.float64], outer: NDArray[np.float64], wall: str) -> None:
        """A tube with a wall of varying brightness around gas, stool or fluid, or collapsed and solid."""
        rng = self.rng
        bright = self.draw(wall)
        self.tube(path, outer, bright)
        kind = rng.choice(("air", "stool", "stool", "bowel fluid", "collapsed"))
        if kind == "collapsed":
            self.tube(path, outer * 0.3, bright * rng.uniform(0.3, 1.3))
            return
        thick = rng.uniform(1.5, 4.0, len(outer))
        self.tube(path + rng.normal(0, 0.8, path.shape), np.maximum(outer - thick, 0.5), str(kind))

    def _bladder(self) -> None:
        rng = self.rng
        full = rng.uniform(0.55, 1.25)
        semi = np.array([36.0, 30.0, 30.0]) * full * rng.uniform(0.88, 1.12, 3)
        centre = np.array([rng.normal(0, 4), 22.0, -8 + semi[2] + rng.normal(0, 3)])
        axes = turned(*rng.normal(0, 8, 3))
        wall = self.draw("bladder wall")
        thick = rng.uniform(1.2, 3.5) / np.sqrt(full)
        self.put(centre, semi, wall, axes)
        self.put(centre + rng.normal(0, 0.5, 3), semi - thick, "urine", axes)
        if rng.random() < 0.25:  # a thickened patch or a tumour of the wall
            direction = rng.standard_normal(3)
            direction /= np.linalg.norm(direction)
            self.put(centre + direction * (semi - 2), rng.uniform(3, 9, 3), "mimic", axes)

    def _prostate(self) -> None:
        rng = self.rng
        size = rng.uniform(0.8, 1.35)
        semi = np.array([23.0, 16.0, 19.0]) * size * rng.uniform(0.9, 1.1, 3)
        centre = self.near((0, 6, -26 + 3 * size))
        gland = self.draw("prostate")
        self.put(centre, semi + 0.8, gland * 0.6)
        self.put(centre, semi, "peripheral")
        for s in (-1, 1):
            self.put(centre + (s * semi[0] * 0.3, semi[1] * 0.22, 3), semi * (0.52, 0.66, 0.72), gland * rng.uniform(0.85, 1.15))
        self.put(centre + (0, 3, -2), (2.5, 2.5, semi[2]), gland * rng.uniform(0.5, 1.5))
        for _ in range(rng.integers(0, 7)):  # nodules of hyperplasia, brighter or darker than their surroundings
            self.put(centre + rng.uniform(-0.5, 0.5, 3) * semi, rng.uniform(2.5, 7, 3), gland * rng.uniform(0.6, 1.5))
        for _ in range(rng.integers(0, 3)):
            where = rng.uniform((-0.6, -0.7, -0.5), (0.6, 0.1, 0.5)) * semi
            self.put(centre + where, rng.uniform(2.5, 8, 3), "tumour", turned(*rng.uniform(-60, 60, 3)))
        bright = self.draw("seminal")
        for s in (-1, 1):
            path = centre + np.array([(s * 5, -12, semi[2] - 3), (s * 16, -16, semi[2] + 5), (s * 28, -15, semi[2] + 12)]) + rng.normal(0, 2, (3, 3))
            for shift in (0.0, 6.0):
                self.tube(path + (0, 0.3 * shift, shift), rng.uniform(3, 5.5, 3), bright * rng.uniform(0.7, 1.3))
            self.tube(path[[0, 2]] + ((0, 2, 4), (0, 8, 10)), 2.0, bright * rng.uniform(0.4, 1.0))

    def _rectum(self) -> None:
        rng = self.rng
        anal = self.draw("anal")
        self.tube([(0, -30, -85), (0, -24, -60), (0, -22, -44)], (11, 13, 14), anal)
        self.tube([(0, -30, -85), (0, -24, -60), (0, -22, -44)], (4, 5, 6), anal * rng.uniform(0.8, 1.9))
        path = np.array([(0, -23, -46), (0, -32, -25), (0, -42, 0), (2, -50, 25), (-2, -48, 45), (8, -36, 62)], dtype=float)
        path[:, 0] += rng.normal(0, 5, 6) * (0, 0.4, 0.8, 1, 1.5, 2)
        radius = rng.uniform(9, 13) * np.array([1, 1.1, 1.2, 1.15, 1, 0.95]) * rng.uniform(0.85, 1.25 if rng.random() < 0.5 else 1.8, 6)
        radius = np.minimum(radius, (14, 17, 20, 22, 20, 18))
        radius[0] = 12
        self._gut(path, radius, "rectal wall")
        for _ in range(rng.integers(0, 5)):  # folds and mucus: bright patches on the wall
            i = rng.integers(1, 5)
            angle = rng.uniform(0, 2 * np.pi)
            spot = path[i] + radius[i] * np.array((np.cos(angle), np.sin(angle), 0)) * 0.8
            self.put(spot, rng.uniform(2, 6, 3), "rectal wall", turned(*rng.uniform(-90, 90, 3)))

    def _perineum(self) -> None:
        rng = self.rng
        body = self.draw("gonad")
        self.tube([(0, 6, -58), (0, 30, -78), (0, 70, -95), (0, 92, -110)], (8, 8, 9, 10), body * rng.uniform(0.4, 0.9))
        for _, s in SIDES:
            self.tube([(s * 30, -10, -72), (s * 10, 28, -76)], (5, 6), body * rng.uniform(0.3, 0.8))
            self.put(self.near((s * 18, 75, -125), 5), (14, 14, 20), body)
            cord = [self.near(p, 3) for p in ((s * 55, 62, 5), (s * 38, 74, -30), (s * 22, 80, -80))]
            self.tube(cord, rng.uniform(1.5, 4.0), "slow vein" if rng.random() < 0.5 else "deep fat")

    def _mimics(self) -> None:
        """Bright things that are no nodes by their place or their shape."""
        rng = self.rng
        for _ in range(rng.integers(0, 6)):  # thin sheets and streaks: fascia, fluid, vessels in the abdominal wall
            centre = self.near((rng.uniform(-90, 90), rng.uniform(30, 80), rng.uniform(-60, 80)), 3)
            semi = np.sort(rng.uniform((0.8, 1.5, 12), (2.0, 5, 30)))
            self.put(centre, semi, "mimic", turned(*rng.uniform(-90, 90, 3)), solid=False)
        for _ in range(rng.integers(0, 5)):  # blobs inside muscle and behind the sacrum, where no node station is
            s = rng.choice((-1, 1))
            centre = self.near((s * rng.uniform(70, 130), rng.uniform(-95, -65), rng.uniform(-60, 80)), 3)
            self.put(centre, rng.uniform(2, 9, 3), "mimic", turned(*rng.uniform(-90, 90, 3)))
        self._unsuppressed_fat()

    def _unsuppressed_fat(self) -> None:
        """Patches where fat suppression failed: bright skin fat, displaced along y by its chemical shift."""
        rng, canvas = self.rng, self.canvas
        if rng.random() > 0.45:
            return
        patches = smooth_field(canvas.grid.shape, canvas.grid.spacing_zyx_mm, 60.0, rng)
        mask = np.clip(patches - rng.uniform(0.8, 1.6), 0, 0.6) / 0.6
        ghost = mask * self.subcutaneous * np.float32(self.draw("mimic") * rng.uniform(0.4, 1.6))
        shift = int(rng.integers(-30, 31))
        moved = np.zeros_like(ghost)
        source, target = (slice(shift, None), slice(None, -shift)) if shift > 0 else (slice(None, shift or None), slice(-shift, None))
        moved[:, target] = ghost[:, source]
        canvas.signal += moved

    def gain(self) -> NDArray[np.float32]:
        """Receive sensitivity of a phased array: highest at the front and the back skin, (z, y, x) float32."""
        rng, canvas = self.rng, self.canvas
        y = canvas.points[1]
        front, back = float((self.skin.table[2, 3] + self.skin.table[2, 2])), float(self.skin.table[2, 3] - self.skin.table[2, 2])
        depth = rng.uniform(22, 50)
        gain = 1 + np.float32(rng.uniform(0.2, 1.6)) * np.exp(np.minimum(y - front, 20) / np.float32(depth))
        gain += np.float32(rng.uniform(0.2, 1.2)) * np.exp(np.minimum(back - y, 20) / np.float32(depth))
        slow = smooth_field(canvas.grid.shape, canvas.grid.spacing_zyx_mm, 130.0, rng)
        return np.asarray(gain * (1 + np.float32(0.1) * slow).clip(0.6, 1.5), dtype=np.float32)

    def texture(self) -> None:
        """No tissue is flat: grain at 12 mm and at 5 mm."""
        grid = self.canvas.grid
        for length, amount in ((12.0, self.rng.uniform(0.05, 0.14)), (5.0, self.rng.uniform(0.04, 0.12))):
            grain = smooth_field(grid.shape, grid.spacing_zyx_mm, length, self.rng)
            self.canvas.signal *= np.maximum(1 + np.float32(amount) * grain, 0.3)


def vessels(s: float) -> list[tuple[list[tuple[float, float, float]], float]]:
    """Centre lines and radii of one side's iliac vessels (``s`` = 1 right, -1 left)."""
    common = [(s * 6, 0, 122), (s * 20, -4, 104), (s * 34, -12, 86)]
    external = [(s * 34, -12, 86), (s * 46, 2, 62), (s * 56, 22, 34), (s * 64, 44, 6), (s * 74, 54, -24), (s * 80, 48, -90)]
    internal = [(s * 34, -12, 86), (s * 38, -34, 62), (s * 42, -40, 36), (s * 44, -28, 10)]
    obturator = [(s * 42, -30, 50), (s * 47, -8, 28), (s * 47, 18, 8), (s * 44, 30, -8)]
    return [(common, 5.5), (external, 4.8), (internal, 3.4), (obturator, 1.5)]
