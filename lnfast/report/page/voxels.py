"""The study's voxels and labels as text inside the page.

A volume becomes ``base64(gzip(low bytes of all voxels, then high bytes))``: bytes of one kind together deflate to half
the size of interleaved pairs, and a browser unpacks gzip by itself and checks its checksum. Values are not predicted
from their neighbours: the noise of a high-b image is as large as the differences between neighbours, so prediction
gains -3 to 18 % (a phantom of 28x240x240 becomes 1.84 MB without and 1.79 to 1.89 MB with), and takes 13 ms more.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnfast.geometry import Volume
from lnfast_ext import intensity_statistics

# Size of the text of one volume, so that the page stays under 3 MB. A larger volume loses bits, never voxels.
TEXT_BYTES_AT_MOST = 2_800_000
# Grey values that remain between the percentiles below, however large the volume: about as many as an eye tells apart.
GREYS_AT_LEAST = 64
# A browser unpacks this many without difficulty: 128 slices of 512 x 512.
VOXELS_AT_MOST = 1 << 25
_COMPRESSION = 1  # of isal: 4 ms and 1.84 MB; level 0 makes 2.53 MB, 2 and 3 gain nothing
# The greys that are shown at first: up to where the shipped model's input is clipped, since nodes are bright.
_WINDOW_PERCENTILES = (1.0, 99.9)
# Values that are not 16-bit integers are clipped this many windows beyond the first window, and divided into this many
# steps.
_BEYOND, _STEPS = 3.0, 16383


@dataclass(frozen=True)
class PackedVoxels:
    """A volume of intensities as text.

    Attributes:
        text: base64, see above; uint16 voxels in the order of the volume.
        slope, inter: intensity in the study's own units = slope * packed value + inter, to ``slope / 2``.
        exact: whether nothing was rounded or clipped.
        window: lowest and highest intensity to show at first, the lowest below the highest.
    """

    text: str
    slope: float
    inter: float
    exact: bool
    window: tuple[float, float]


def pack_voxels(volume: Volume, slope: float = 1.0, inter: float = 0.0) -> PackedVoxels | None:
    """Pack a study's voxels: losslessly where they are 16-bit integers and fit, else in as many steps as fit.

    Args:
        volume: ``(z, y, x)`` of finite integers or floats, any strides.
        slope, inter: intensity = slope * value + inter; slope above 0.

    Returns:
        None for more than `VOXELS_AT_MOST`.
    """
    values = volume.array
    if values.size > VOXELS_AT_MOST:
        return None
    low, high, _, _, percentiles = intensity_statistics(values, _WINDOW_PERCENTILES)
    window_low, window_high = (float(value) for value in percentiles)
    if window_high <= window_low:
        window_low, window_high = float(low), max(float(high), float(low) + 1.0)
    greys = window_high - window_low
    if values.dtype.kind in "iu" and int(values.max()) - int(values.min()) <= 65535:
        least, step = int(values.min()), 1.0
        # Both wrap around, and their difference comes out right whatever the type.
        codes = values.astype(np.uint16, order="C") - np.uint16(least % 65536)
        exact, origin = True, float(least)
    else:
        origin = max(float(low), window_low - _BEYOND * greys)
        top = min(float(high), window_high + _BEYOND * greys)
        step = (top - origin) / _STEPS
        codes = np.rint((np.clip(values, origin, top).astype(np.float64) - origin) / step).astype(np.uint16, order="C")
        exact = False
    packed = _packed(codes)
    while len(packed) > TEXT_BYTES_AT_MOST and 2 * step * GREYS_AT_LEAST <= greys:
        codes >>= 1
        step, origin, exact = 2 * step, origin + step / 2, False
        packed = _packed(codes)
    return PackedVoxels(
        packed,
        slope * step,
        slope * origin + inter,
        exact,
        (slope * window_low + inter, slope * window_high + inter),
    )


def pack_labels(labels: Volume) -> str:
    """Pack labels of 0 to 65535 losslessly as text; see above."""
    return _packed(labels.array.astype(np.uint16, order="C"))


def _packed(codes: NDArray[np.uint16]) -> str:
    from isal import igzip

    halves = np.concatenate(((codes & 255).astype(np.uint8).ravel(), (codes >> 8).astype(np.uint8).ravel()))
    content: bytes = igzip.compress(halves, _COMPRESSION, mtime=0)
    return base64.b64encode(content).decode("ascii")
