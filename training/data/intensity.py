"""Augmentation by intensity: other scanners and other patients. Each transform is a function of its name.

All take a crop of the network's input, ``(z, y, x)`` float32, in which air is about `FLOOR` and tissue about `TISSUE`,
and give a crop of that shape. None changes where a node ends, so the truth stays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from training.recipe.card import FLOOR, TISSUE
from training.recipe.presets import Crops

# In steps from air to tissue: the brightest that gamma may make.
BRIGHTEST = 10.0
# Where a random curve bends, in steps from air to tissue.
_KNOTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
SPAN = TISSUE - FLOOR


def augment_intensity(image: Tensor, crops: Crops, rng: np.random.Generator) -> Tensor:
    """Apply each transform with the probability in ``crops``, in the order in which a scanner would."""
    for name, transform in TRANSFORMS.items():
        if rng.random() < getattr(crops, name):
            image = transform(image, rng)
    return image


def gamma(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Change the contrast; air and tissue keep their values."""
    steps = ((image - FLOOR) / SPAN).clamp_min(0).pow(float(np.exp(rng.uniform(-0.5, 0.5))))
    return steps.clamp_max(BRIGHTEST) * SPAN + FLOOR


def curve(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Map intensities by a random increasing curve, linear between powers of two; air and tissue keep their values."""
    slopes = np.exp(rng.normal(0, 0.45, len(_KNOTS) - 1))
    heights = np.concatenate(((0.0,), np.cumsum(np.diff(_KNOTS) * slopes)))
    heights /= np.interp(1.0, _KNOTS, heights)
    steps = ((image - FLOOR) / SPAN).clamp(0, _KNOTS[-1])
    table = torch.from_numpy(heights.astype(np.float32))
    knots = torch.tensor(_KNOTS, dtype=torch.float32)
    at = torch.bucketize(steps, knots[1:-1])
    mapped = table[at] + (steps - knots[at]) * ((table[1:] - table[:-1]) / (knots[1:] - knots[:-1]))[at]
    return mapped.clamp_max(BRIGHTEST) * SPAN + FLOOR


def grain(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Multiply by a random field as coarse as a node or finer: no tissue, and no node, is of one grey."""
    depth, height, width = image.shape
    finer = float(np.exp(rng.uniform(np.log(1.5), np.log(10.0))))
    knots = (max(2, int(depth / min(finer, 3.0))), max(2, int(height / finer)), max(2, int(width / finer)))
    field = _smooth(image.shape, knots, rng)
    return (image - FLOOR) * torch.exp(float(rng.uniform(0.05, 0.4)) * field) + FLOOR


def clutter(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Add lines and streaks to darker tissue, as fasciae, fibres and small vessels make them; bright parts stay.

    A smooth random field is near zero along surfaces, so the exponential of minus its magnitude is a web of sheets.
    """
    height, width = image.shape[1:]
    lines = torch.zeros(image.shape)
    for _ in range(int(rng.integers(1, 4))):
        size = np.exp(rng.uniform(np.log(5.0), np.log(25.0), 2))
        knots = (int(rng.integers(2, 9)), max(2, int(height / size[0])), max(2, int(width / size[1])))
        sharpness = float(np.exp(rng.uniform(np.log(2.0), np.log(10.0))))
        where = torch.sigmoid(3 * _smooth(image.shape, (3, 4, 4), rng))
        sign = 1.0 if rng.random() < 0.7 else -1.0
        lines += sign * where * torch.exp(-sharpness * _smooth(image.shape, knots, rng).abs())
    steps = ((image - FLOOR) / SPAN).clamp_min(0)
    dark = 1 / (1 + (steps / 2.5) ** 4)
    return (image - FLOOR) * torch.exp(float(rng.uniform(0.2, 1.3)) * lines * dark) + FLOOR


def resolution(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Sample with larger voxels, and back: thicker slices, a coarser matrix."""
    shape = [max(4, int(n * rng.uniform(least, 1.0))) for n, least in zip(image.shape, (0.5, 0.4, 0.4), strict=True)]
    coarse = interpolate(image[None, None], size=shape, mode="area")
    mode = "nearest-exact" if rng.random() < 0.2 else "trilinear"
    return interpolate(coarse, size=tuple(image.shape), mode=mode)[0, 0]


def filtered(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Filter each slice by 3 x 3 random weights of sum 1: point spreads, edge enhancement, displaced echoes."""
    weights = rng.normal(0, rng.uniform(0.02, 0.12), (3, 3))
    if rng.random() < 0.5:
        weights = np.abs(weights) * rng.choice((-1, 1))
    weights[1, 1] = 0
    weights[1, 1] = 1 - weights.sum()
    kernel = torch.from_numpy(weights.astype(np.float32))[None, None]
    padded = pad(image[:, None], (1, 1, 1, 1), mode="replicate")
    return conv2d(padded, kernel)[:, 0].clamp_min(FLOOR - 0.5 * SPAN)


def clusters(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Add patches of another brightness within one tissue, with smooth edges, in a band of intensities only."""
    field = _smooth(image.shape, (4, 9, 9), rng)
    middle, width = float(rng.uniform(0.3, 4.0)), float(rng.uniform(0.3, 1.5))
    band = torch.exp(-((((image - FLOOR) / SPAN).clamp_min(0.05).log() - np.log(middle)) ** 2) / (2 * width**2))
    return (image - FLOOR) * torch.exp(0.4 * field * band) + FLOOR


def shading(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Apply the profile of a receiving coil: linear and quadratic, some 30 % either way along each axis."""
    field = torch.zeros(())
    for axis, size in enumerate(image.shape):
        along = torch.linspace(-1, 1, size).reshape([-1 if i == axis else 1 for i in range(3)])
        linear, square = rng.uniform(-0.3, 0.3, 2)
        field = field + float(linear) * along + float(square) * (along * along - 1 / 3)
    return (image - FLOOR) * field.exp() + FLOOR


def flare(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Add brightness that falls off from a place at one side of the crop, as below an element of a coil."""
    _, height, width = image.shape
    along, far = float(rng.uniform(0, 1)), bool(rng.random() < 0.5)
    place = (along * height, far * width) if rng.random() < 0.5 else (far * height, along * width)
    y, x = (torch.arange(size, dtype=torch.float32) - at for size, at in zip((height, width), place, strict=True))
    reach, strength = float(rng.uniform(0.08, 0.3)) * max(height, width), float(rng.uniform(0.3, 1.5))
    gain = 1 + strength * torch.exp(-torch.hypot(y[:, None], x[None]) / reach)
    return (image - FLOOR) * gain + FLOOR


def ghost(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Add a faint copy, half a crop further along the rows or the columns."""
    axis = 1 if rng.random() < 0.7 else 2
    return image + float(rng.uniform(0.02, 0.12)) * (image.roll(image.shape[axis] // 2, axis) - FLOOR)


def blur(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Average three pixels, along each axis of the plane with random weights."""
    for axis in (1, 2):
        side = float(rng.uniform(0.05, 0.25))
        padded = torch.cat((image.narrow(axis, 0, 1), image, image.narrow(axis, image.shape[axis] - 1, 1)), axis)
        before, after = (padded.narrow(axis, start, image.shape[axis]) for start in (0, 2))
        image = (1 - 2 * side) * image + side * (before + after)
    return image


def noise(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Add noise of up to a quarter of the way from air to tissue, white or of neighbouring pixels alike."""
    strength = float(rng.uniform(0.0125, 0.25) * SPAN)
    field = torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
    if rng.random() < 0.5:
        field = avg_pool2d(field[:, None], 3, stride=1, padding=1)[:, 0] * 3
    return image + strength * field


def rescale(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Rescale as if air and tissue had been measured in another field of view."""
    return image * float(np.exp(rng.uniform(-0.35, 0.35))) + float(rng.uniform(-0.2, 0.2))


TRANSFORMS: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    transform.__name__: transform
    for transform in (
        gamma,
        curve,
        clusters,
        grain,
        clutter,
        shading,
        flare,
        ghost,
        blur,
        filtered,
        resolution,
        noise,
        rescale,
    )
}


def _smooth(shape: torch.Size, knots: tuple[int, int, int], rng: np.random.Generator) -> Tensor:
    """Return a random field of deviation 1 at its knots, trilinear between them."""
    coarse = torch.from_numpy(rng.standard_normal(knots, dtype=np.float32))
    return interpolate(coarse[None, None], size=tuple(shape), mode="trilinear", align_corners=True)[0, 0]
