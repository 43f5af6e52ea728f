"""What training phantoms have and lifelike ones have not: other fields, clusters of intensity, coils, shading.

Nothing here moves tissue: the truth stays what it is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.anatomy import SIDES
from lnfast.phantom.canvas import Canvas
from lnfast.phantom.nodes import STATIONS, chain_of
from lnfast.phantom.physics import smooth_field
from lnfast.phantom.protocol import Protocol
from lnfast.phantom.shapes import Column
from lnfast.phantom.variety import Variety

# Beyond this the middle of a field leaves the pelvis.
LOWEST, HIGHEST = np.array((-90.0, -40.0, -75.0)), np.array((90.0, 50.0, 100.0))


def any_centre(scan: Protocol, rng: np.random.Generator) -> NDArray[np.float64]:
    """Atlas mm (3,): a field that a station's chain runs through, at its middle or near its edge."""
    station = str(rng.choice(list(STATIONS)))
    path, _ = chain_of(station, SIDES[rng.integers(2)][1])
    i = int(rng.integers(len(path) - 1))
    place = path[i] + rng.random() * (path[i + 1] - path[i])
    fy, fx = scan.field_of_view_yx_mm
    size = np.array((fx, fy, scan.slices * scan.slice_mm))
    shift = rng.uniform(-1, 1, 3) * (0.45, 0.2, 0.45) * size
    return np.asarray(np.clip(place + shift, LOWEST, HIGHEST), dtype=np.float64)


def clusters(canvas: Canvas, rng: np.random.Generator) -> None:
    """Multiply each cluster of like brightness and neighbourhood by a factor of its own, in place.

    After FetalSynthSeg (Zalevskyi et al.): a tissue is split into some clusters at random, each brighter or darker.
    """
    grid, signal = canvas.grid, canvas.signal
    levels = np.quantile(signal[signal > 0][::97], np.sort(rng.uniform(0.05, 0.98, int(rng.integers(2, 7)))))
    cluster = np.searchsorted(levels.astype(np.float32), signal.ravel()).reshape(signal.shape)
    for _ in range(int(rng.integers(1, 3))):
        field = smooth_field(grid.shape, grid.spacing_zyx_mm, float(np.exp(rng.uniform(np.log(8), np.log(60)))), rng)
        cluster = 2 * cluster + (field > rng.normal(0, 0.5))
    spread = rng.uniform(0.1, 0.5)
    factors = np.clip(rng.lognormal(0.0, spread, int(cluster.max()) + 1), 0.3, 3.0).astype(np.float32)
    canvas.signal *= factors[cluster]


def coil(canvas: Canvas, skin: Column, patient: Variety, rng: np.random.Generator) -> NDArray[np.float32] | np.float32:
    """What the patient's coils and the shading add to the usual gain, (z, y, x) float32; 1 where they add nothing."""
    gain: NDArray[np.float32] | np.float32 = np.float32(1)
    if patient.endorectal_coil:
        near = _near(canvas, np.array((0.0, -22.0, rng.uniform(-30, 10))), (22.0, 18.0, 40.0), rng)
        gain = gain + np.float32(np.exp(rng.uniform(np.log(2.0), np.log(8.0)))) * near
    if patient.flare:
        for _ in range(int(rng.integers(1, 4))):
            angle, high = rng.uniform(0, 2 * np.pi), rng.uniform(-90, 110)
            a, b, y0 = (float(np.interp(high, skin.table[:, 0], skin.table[:, k])) for k in (1, 2, 3))
            place = np.array((a * np.cos(angle), y0 + b * np.sin(angle), high))
            near = _near(canvas, place, (35.0, 25.0, 45.0), rng)
            gain = gain + np.float32(rng.uniform(0.5, 4.0)) * near
    if patient.bias:
        slow = smooth_field(canvas.grid.shape, canvas.grid.spacing_zyx_mm, float(rng.uniform(60, 160)), rng)
        gain = gain * np.exp(np.float32(rng.uniform(0.15, 0.5)) * slow)
    return gain


def _near(
    canvas: Canvas, place: NDArray[np.float64], size: tuple[float, float, float], rng: np.random.Generator
) -> NDArray[np.float32]:
    """1 at an atlas place (3,), and a Gaussian about it."""
    widths = np.array(size) * rng.uniform(0.7, 1.4, 3)
    square = sum(((canvas.points[i] - np.float32(place[i])) * np.float32(1 / widths[i])) ** 2 for i in range(3))
    return np.asarray(np.exp(np.float32(-0.5) * square), dtype=np.float32)
