"""Random contrasts: the brightness of clusters of voxels, changed at random."""

from __future__ import annotations

import numpy as np

from lnfast.phantom.random_field import smooth_field
from lnfast.phantom.tissue_image import TissueImage


def randomize_contrast(image: TissueImage, rng: np.random.Generator) -> None:
    """Multiply each cluster of like brightness and neighbourhood by a factor of its own, in place.

    After FetalSynthSeg (Zalevskyi et al.): a tissue is split into some clusters at random, each brighter or darker.
    """
    grid, signal = image.grid, image.signal
    levels = np.quantile(signal[signal > 0][::97], np.sort(rng.uniform(0.05, 0.98, int(rng.integers(2, 7)))))
    cluster = np.searchsorted(levels.astype(np.float32), signal.ravel()).reshape(signal.shape)
    for _ in range(int(rng.integers(1, 3))):
        field = smooth_field(grid.shape, grid.spacing_zyx_mm, float(np.exp(rng.uniform(np.log(8), np.log(60)))), rng)
        cluster = 2 * cluster + (field > rng.normal(0, 0.5))
    spread = rng.uniform(0.1, 0.5)
    factors = np.clip(rng.lognormal(0.0, spread, int(cluster.max()) + 1), 0.3, 3.0).astype(np.float32)
    image.signal *= factors[cluster]
