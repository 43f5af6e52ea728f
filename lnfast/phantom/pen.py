"""The hand that paints: draws a tissue's brightness, shakes a landmark, lays ellipsoids, tubes and gut."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnfast.phantom.canvas import Canvas
from lnfast.phantom.physics import signal
from lnfast.phantom.protocol import Protocol
from lnfast.phantom.shapes import Ellipsoid, Tube


def turned(yaw: float, pitch: float, roll: float = 0.0) -> NDArray[np.float64]:
    """Rows: x, y, z axes turned by degrees about z, then x, then y."""
    a, b, c = np.deg2rad((yaw, pitch, roll))
    about_z = np.array([[np.cos(a), np.sin(a), 0], [-np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    about_y = np.array([[np.cos(c), 0, -np.sin(c)], [0, 1, 0], [np.sin(c), 0, np.cos(c)]])
    return np.asarray(about_y @ about_x @ about_z, dtype=np.float64)


class Pen:
    """Paints one patient.

    Attributes:
        canvas: what is painted on.
        rng: the patient's dice.
        muscle: magnitude of this patient's muscle.
        rectal_content: a tissue, or "collapsed"; decided before the scan, for gas distorts it.
        realistic: as `Variety.realistic`.
    """

    def __init__(
        self,
        canvas: Canvas,
        protocol: Protocol,
        rng: np.random.Generator,
        rectal_content: str,
        *,
        realistic: bool = False,
    ) -> None:
        self.canvas, self.protocol, self.rng = canvas, protocol, rng
        self.rectal_content, self.realistic = rectal_content, realistic
        self.muscle = signal("muscle", protocol, rng)

    def draw(self, tissue: str) -> float:
        """One draw of a tissue's noise-free magnitude."""
        return signal(tissue, self.protocol, self.rng, realistic=self.realistic)

    def near(self, point: ArrayLike, sd_mm: float = 2.0) -> NDArray[np.float64]:
        """A landmark (3,), shaken by ``sd_mm`` along each axis."""
        return np.asarray(point, dtype=np.float64) + self.rng.normal(0, sd_mm, 3)

    def put(
        self,
        centre: ArrayLike,
        semi: ArrayLike,
        tissue: str | float,
        axes: ArrayLike | None = None,
        *,
        solid: bool = True,
    ) -> None:
        """Paint an ellipsoid: atlas centre (3,), semi-axes (3,) in mm, rows of axes; ``solid`` keeps nodes out."""
        value = tissue if isinstance(tissue, float) else self.draw(tissue)
        self.canvas.paint(Ellipsoid(centre, semi, axes), value, solid=solid)

    def tube(self, path: ArrayLike, radius: ArrayLike, tissue: str | float, *, solid: bool = True) -> None:
        """Paint a tube along an atlas path (n, 3) with a radius in mm, one for all or one a vertex."""
        value = tissue if isinstance(tissue, float) else self.draw(tissue)
        self.canvas.paint(Tube(path, radius), value, solid=solid)

    def gut(self, path: NDArray[np.float64], outer: NDArray[np.float64], wall: str, kind: str | None = None) -> None:
        """A tube with a wall of varying brightness around gas, stool or fluid, or collapsed and solid."""
        rng = self.rng
        bright = self.draw(wall)
        # Strands side by side make an oval or a rounded triangle: no gut is round.
        squash = rng.normal(0, 0.22, 3).clip(-0.38, 0.38) * (1, 1, 0.3)
        for turn in (-squash, squash):
            self.tube(path + turn * outer[:, None], outer * rng.uniform(0.8, 1.0), bright)
        for _ in range(rng.integers(0, 3 * len(path))):  # a wall is thick here and thin there, and uneven all along
            i = int(rng.integers(len(path) - 1))
            around = rng.standard_normal(3)
            spot = path[i] + rng.random() * (path[i + 1] - path[i]) + around / np.linalg.norm(around) * outer[i] * 0.85
            self.put(
                spot,
                rng.uniform(2.0, 6.5, 3),
                bright * float(rng.lognormal(0.0, 0.45)),
                turned(*rng.uniform(-90, 90, 3)),
            )
        kind = kind or str(rng.choice(("air", "stool", "stool", "bowel fluid", "collapsed")))
        if kind == "collapsed":
            self.tube(path, outer * 0.3, bright * rng.uniform(0.3, 1.3))
            return
        thick = rng.uniform(1.2, 4.0, len(outer)) * rng.uniform(0.7, 1.3)
        content = self.draw(kind)
        for turn in (-squash, squash):
            lumen = path + turn * outer[:, None] + rng.normal(0, 0.8, path.shape)
            self.tube(lumen, np.maximum(outer - thick, 0.5), content)
        if kind == "air":
            return
        for i in range(len(path) - 1):  # folds, and contents that are not even
            for _ in range(rng.integers(0, 6)):
                spot = path[i] + rng.random() * (path[i + 1] - path[i]) + rng.normal(0, outer[i] * 0.35, 3)
                semi = np.sort(rng.uniform((0.8, 1.5, 3), (2.0, 3.5, 8)))
                self.put(
                    spot,
                    np.minimum(semi, outer[i] * 0.6),
                    bright * rng.uniform(0.2, 1.6),
                    turned(*rng.uniform(-90, 90, 3)),
                )
