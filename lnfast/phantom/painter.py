"""Painting tissues: draws a tissue's signal, jitters a landmark, paints ellipsoids, tubes and bowel segments."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnfast.phantom.diffusion_signal import sample_signal
from lnfast.phantom.protocol import Protocol
from lnfast.phantom.shapes import Ellipsoid, Tube, rotation
from lnfast.phantom.tissue_image import TissueImage


class TissuePainter:
    """Paints the tissues of one patient.

    Attributes:
        image: the image that is painted.
        protocol: how the patient is scanned.
        rng: source of all draws of this patient.
        muscle: noise-free magnitude of this patient's muscle.
        rectal_content: a tissue, or "collapsed"; drawn before the scan, because gas distorts it.
        realistic: as `Variety.realistic`.
    """

    def __init__(
        self,
        image: TissueImage,
        protocol: Protocol,
        rng: np.random.Generator,
        rectal_content: str,
        *,
        realistic: bool = False,
    ) -> None:
        self.image, self.protocol, self.rng = image, protocol, rng
        self.rectal_content, self.realistic = rectal_content, realistic
        self.muscle = sample_signal("muscle", protocol, rng)

    def sample_signal(self, tissue: str) -> float:
        """Draw a tissue's noise-free magnitude."""
        return sample_signal(tissue, self.protocol, self.rng, realistic=self.realistic)

    def jitter(self, point: ArrayLike, sd_mm: float = 2.0) -> NDArray[np.float64]:
        """Return a landmark (3,) displaced by a normal draw of ``sd_mm`` along each axis."""
        return np.asarray(point, dtype=np.float64) + self.rng.normal(0, sd_mm, 3)

    def ellipsoid(
        self,
        centre: ArrayLike,
        semi: ArrayLike,
        tissue: str | float,
        axes: ArrayLike | None = None,
        *,
        solid: bool = True,
    ) -> None:
        """Paint an ellipsoid: atlas centre (3,), semi-axes (3,) in mm, rows of axes; ``solid`` keeps nodes out."""
        value = tissue if isinstance(tissue, float) else self.sample_signal(tissue)
        self.image.paint(Ellipsoid(centre, semi, axes), value, solid=solid)

    def tube(self, path: ArrayLike, radius: ArrayLike, tissue: str | float, *, solid: bool = True) -> None:
        """Paint a tube along an atlas path (n, 3) with a radius in mm, one for all or one a vertex."""
        value = tissue if isinstance(tissue, float) else self.sample_signal(tissue)
        self.image.paint(Tube(path, radius), value, solid=solid)

    def bowel_segment(
        self, path: NDArray[np.float64], outer: NDArray[np.float64], wall: str, kind: str | None = None
    ) -> None:
        """Paint a tube whose wall of varying brightness encloses gas, stool or fluid, or that is collapsed.

        Args:
            path: (n, 3) centre line in atlas mm.
            outer: (n,) outer radius in mm.
            wall: tissue of the wall.
            kind: content, a tissue or "collapsed"; drawn when None.
        """
        rng = self.rng
        bright = self.sample_signal(wall)
        # Tubes side by side make an oval or a rounded triangle: no bowel is round.
        offset = rng.normal(0, 0.22, 3).clip(-0.38, 0.38) * (1, 1, 0.3)
        for shift in (-offset, offset):
            self.tube(path + shift * outer[:, None], outer * rng.uniform(0.8, 1.0), bright)
        for _ in range(rng.integers(0, 3 * len(path))):  # the wall is uneven all along
            i = int(rng.integers(len(path) - 1))
            direction = rng.standard_normal(3)
            on_axis = path[i] + rng.random() * (path[i + 1] - path[i])
            centre = on_axis + direction / np.linalg.norm(direction) * outer[i] * 0.85
            self.ellipsoid(
                centre,
                rng.uniform(2.0, 6.5, 3),
                bright * float(rng.lognormal(0.0, 0.45)),
                rotation(*rng.uniform(-90, 90, 3)),
            )
        kind = kind or str(rng.choice(("air", "stool", "stool", "bowel fluid", "collapsed")))
        if kind == "collapsed":
            self.tube(path, outer * 0.3, bright * rng.uniform(0.3, 1.3))
            return
        thickness = rng.uniform(1.2, 4.0, len(outer)) * rng.uniform(0.7, 1.3)
        content = self.sample_signal(kind)
        for shift in (-offset, offset):
            lumen = path + shift * outer[:, None] + rng.normal(0, 0.8, path.shape)
            self.tube(lumen, np.maximum(outer - thickness, 0.5), content)
        if kind == "air":
            return
        for i in range(len(path) - 1):  # folds and uneven content
            for _ in range(rng.integers(0, 6)):
                centre = path[i] + rng.random() * (path[i + 1] - path[i]) + rng.normal(0, outer[i] * 0.35, 3)
                semi = np.sort(rng.uniform((0.8, 1.5, 3), (2.0, 3.5, 8)))
                self.ellipsoid(
                    centre,
                    np.minimum(semi, outer[i] * 0.6),
                    bright * rng.uniform(0.2, 1.6),
                    rotation(*rng.uniform(-90, 90, 3)),
                )
