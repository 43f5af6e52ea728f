"""What goes wrong with the greys of a study: padding, flares, coils, pile-ups, sentinels; each drawn at random.

A member is ``(what, disturbed, reference)``: the reference is the study without the disturbance, with air where the
disturbed one is padded.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Member = tuple[str, NDArray[np.generic], NDArray[np.generic]]
# Of converters and viewers, and what a type's limits are.
PADDING = (-1, -100, -200, -400, -1024, -2000, -32768, 1, 50, 100, 255, 4095, 32767, 65535, -1e6, 1e6, -3.4e38, 3.4e38)


def padded(array: Array, rng: np.random.Generator) -> Member:
    """One value in corners, a frame, slices or a side: 0.1 to 10 % of the voxels."""
    outside = _outside(array.shape, rng)
    value = float(rng.choice([*PADDING, array.max(), 2 * array.max(), rng.uniform(0, array.max())]))
    reference, disturbed = array.copy(), array.copy()
    reference[outside], disturbed[outside] = 0.0, value
    return f"padded with {value:g}", _stored(disturbed), _stored(reference)


def flared(array: Array, rng: np.random.Generator) -> Member:
    """A column of one bright value, as a metal clip or a coil element makes."""
    y, x = _plane(array.shape)
    distance = np.hypot(y - rng.uniform(-1, 1), x - rng.uniform(-1, 1))
    inside = distance < np.quantile(distance, _share(rng))
    disturbed = array.copy()
    disturbed[:, inside] = array.max() * rng.uniform(0.5, 5.0)
    return "flared", _stored(disturbed), _stored(array)


def glowing(array: Array, rng: np.random.Generator) -> Member:
    """A smooth glow that is added, such as of an interfering coil."""
    y, x = _plane(array.shape)
    width = rng.uniform(0.05, 0.2)
    glow = np.exp(-((y - rng.uniform(-1, 1)) ** 2 + (x - rng.uniform(-1, 1)) ** 2) / (2 * width * width))
    return "glowing", _stored(array + array.max() * rng.uniform(0.3, 3.0) * glow), _stored(array)


def endorectal(array: Array, rng: np.random.Generator) -> Member:
    """A coil in the rectum: what is near it is many times as bright."""
    y, x = _plane(array.shape)
    width = rng.uniform(0.08, 0.2)
    gain = 1 + rng.uniform(5, 40) * np.exp(-((y - rng.uniform(-0.1, 0.3)) ** 2 + x**2) / (2 * width * width))
    return "endorectal", _stored(array * gain), _stored(array)


def piled(array: Array, rng: np.random.Generator) -> Member:
    """Signal of several voxels in one line, as beside a bubble of gas."""
    y, x = _plane(array.shape)
    line = np.exp(-(((y - rng.uniform(-0.9, 0.9)) / rng.uniform(0.01, 0.04)) ** 2)) * (np.abs(x) < 0.6)
    return "piled", _stored(array * (1 + rng.uniform(3, 15) * line)), _stored(array)


def scaled(array: Array, rng: np.random.Generator) -> Member:
    """Another unit, as large or as small as a type can hold."""
    factor = 10.0 ** rng.uniform(-300, 300)
    return f"times {factor:.0e}", array * factor, _stored(array)


GREYS: dict[str, Callable[[Array, np.random.Generator], Member]] = {
    "padded": padded,
    "flared": flared,
    "glowing": glowing,
    "endorectal": endorectal,
    "piled": piled,
    "scaled": scaled,
}


def _stored(array: Array) -> NDArray[np.generic]:
    """In the narrowest common type that holds it."""
    if np.abs(array).max() > 2**31 - 1:
        return array
    whole = np.rint(array)
    for kind in (np.int16, np.uint16, np.int32):
        if np.iinfo(kind).min <= whole.min() and whole.max() <= np.iinfo(kind).max:
            return whole.astype(kind)
    return array


def _share(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(0.001), np.log(0.1))))


def _plane(shape: tuple[int, ...]) -> tuple[Array, Array]:
    y, x = np.meshgrid(np.linspace(-1, 1, shape[1]), np.linspace(-1, 1, shape[2]), indexing="ij")
    return y, x


def _outside(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    z, _, width = shape
    y, x = _plane(shape)
    outside, share = np.zeros(shape, np.bool_), _share(rng)
    place = rng.integers(4)
    if place == 0:
        distance = np.hypot(y, x)
        outside[:, distance > np.quantile(distance, 1 - share)] = True
    elif place == 1:
        edge = np.maximum(np.abs(y), np.abs(x))
        outside[:, edge > np.quantile(edge, 1 - share)] = True
    elif place == 2:
        thick = max(round(share * z), 1)
        outside[: thick if rng.random() < 0.5 else None][-thick:] = True
    else:
        outside[:, :, : max(round(share * width), 1)] = True
        outside = outside[:, ::-1, ::-1] if rng.random() < 0.5 else outside
    return outside
