"""Failed fat suppression: patches of bright subcutaneous fat, displaced by its chemical shift."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.painter import TissuePainter
from lnfast.phantom.random_field import smooth_field


def add_unsuppressed_fat(painter: TissuePainter, subcutaneous: NDArray[np.float32]) -> None:
    """Add patches where fat suppression failed: bright subcutaneous fat, displaced along y by its chemical shift."""
    rng, image = painter.rng, painter.image
    # In people these are long bands, not balls the size of a node.
    brightest, lengths_mm, limits = (2.0, (40, 120), (0.2, 1.2)) if painter.realistic else (4.0, (25, 80), (0.6, 1.6))
    for _ in range(rng.integers(0, 4)):
        patches = smooth_field(image.grid.shape, image.grid.spacing_zyx_mm, float(rng.uniform(*lengths_mm)), rng)
        mask = np.clip(patches - rng.uniform(*limits), 0, 0.6) / 0.6
        layer = subcutaneous if rng.random() < 0.5 else _outermost(subcutaneous, int(rng.integers(1, 4)))
        brightness = painter.sample_signal("mimic") * np.exp(rng.uniform(np.log(0.3), np.log(brightest)))
        residue = mask * layer * np.float32(brightness)
        image.signal += _shifted(residue, int(rng.integers(-45, 46)) if rng.random() < 0.6 else 0)


def _outermost(layer: NDArray[np.float32], voxels: int) -> NDArray[np.float32]:
    """Return the outermost voxels of a layer along y: a streak along the skin."""
    inner = np.zeros_like(layer)
    inner[:, voxels:-voxels] = np.minimum(layer[:, : -2 * voxels], layer[:, 2 * voxels :])
    outermost: NDArray[np.float32] = np.maximum(layer - inner, 0)
    return outermost


def _shifted(layer: NDArray[np.float32], shift: int) -> NDArray[np.float32]:
    """Return a layer displaced along y by whole voxels; what leaves the field is lost."""
    shifted = np.zeros_like(layer)
    source, target = (
        (slice(shift, None), slice(None, -shift)) if shift > 0 else (slice(None, shift or None), slice(-shift, None))
    )
    shifted[:, target] = layer[:, source]
    return shifted
