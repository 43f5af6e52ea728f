"""The acquisition of a noise-free image: point spread, averaging, Rician noise, storage as int16."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

# Muscle over the noise of the averaged image in realistic phantoms. Two public studies stand at about ten.
REALISTIC_SNR = (3.5, 21.0)

# The same ratio in training phantoms that draw any noise, see `acquire`.
ANY_SNR = (2.5, 60.0)

# Up to this many images are simulated singly and averaged; of more, the average is drawn at once.
FEW_AVERAGES = 3


def acquire(
    tissue: Image,
    muscle: float,
    rng: np.random.Generator,
    averages: int = 1,
    *,
    snr: tuple[float, float] | None = None,
    blur_vox: float = 0.0,
) -> NDArray[np.int16]:
    """Simulate what the scanner stores of a noise-free image.

    Args:
        tissue: (z, y, x) magnitude as the coil receives it, without blur or noise.
        muscle: magnitude of muscle; noise and storage scale are relative to it.
        averages: images (diffusion directions, repetitions) of which the scanner averages the magnitudes.
        snr: (low, high) of the ratio of muscle to the noise of the averaged image, drawn log-uniformly; None draws the
            ratio in each image, up to 14, however many are averaged.
        blur_vox: standard deviation of an additional in-plane blur, in pixels.

    Returns:
        (z, y, x) int16: blurred along the phase-encoding direction (y) more than along x, as echo-planar imaging
        is; Rician noise, the magnitude of a complex signal with equal white noise in both parts; then scaled.
    """
    along_y, along_x = rng.uniform(0.45, 0.85), rng.uniform(0.3, 0.6)
    image = blur(blur(tissue, float(np.hypot(along_y, blur_vox)), 1), float(np.hypot(along_x, blur_vox)), 2)
    sigma = muscle / _ratio_of_each(averages, snr, rng)
    width = float(rng.uniform(0.3, 0.7)) if rng.random() < 0.5 else 0.0  # k-space interpolation correlates the noise
    magnitude = _averaged(image, sigma, width, averages, rng)
    scale = np.float32(np.exp(rng.uniform(np.log(15.0), np.log(150.0))) / muscle)
    stored: NDArray[np.int16] = np.clip(np.rint(magnitude * scale), 0, 32767).astype(np.int16)
    return stored


def blur(image: Image, sigma_vox: float, axis: int) -> Image:
    """Blur along an axis with a Gaussian of five taps, edges repeated."""
    if sigma_vox < 0.05:
        return image
    taps = np.exp(-0.5 * (np.arange(-2, 3) / sigma_vox) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    n = image.shape[axis]
    out: Image = image * taps[2]
    for offset in (-2, -1, 1, 2):
        out += image.take(np.clip(np.arange(n) + offset, 0, n - 1), axis) * taps[offset + 2]
    return out


def _ratio_of_each(averages: int, snr: tuple[float, float] | None, rng: np.random.Generator) -> float:
    """Draw the ratio of muscle to the noise in each of the images that are averaged."""
    if snr is None:
        # Muscle of two public studies stands about ten times above the noise; other studies are worse.
        return float(np.exp(rng.uniform(np.log(1.5 if averages == 1 else 1.0), np.log(14.0))))
    # The more images are averaged, the noisier each may be: air keeps its Rician floor when its noise has averaged out.
    ratio = np.exp(rng.uniform(np.log(snr[0]), np.log(snr[1]))) / np.sqrt(averages)
    return max(float(ratio), 1.0)


def _averaged(image: Image, sigma: float, width: float, averages: int, rng: np.random.Generator) -> Image:
    """Return the mean of the magnitudes of ``averages`` noisy images."""
    magnitude = np.zeros_like(image)
    if averages <= FEW_AVERAGES:
        for _ in range(averages):
            real, imaginary = (_noise(image.shape, sigma, width, rng) for _ in range(2))
            real += image
            magnitude += np.hypot(real, imaginary)
        magnitude /= np.float32(averages)
        return magnitude
    # The mean of many is normal about Rice's mean with Rice's spread: both are exact in air and far above the noise,
    # within 5 % between.
    square, variance = image * image, np.float32(sigma * sigma)
    spread = np.sqrt((np.float32(2 - np.pi / 2) + square / (square + variance) * np.float32(np.pi / 2 - 1)) / averages)
    np.sqrt(square + np.float32(np.pi / 2) * variance, out=magnitude)
    magnitude += _noise(image.shape, sigma, width, rng) * spread.astype(np.float32)
    return np.maximum(magnitude, 0, out=magnitude)


def _noise(shape: tuple[int, ...], sigma: float, width_vox: float, rng: np.random.Generator) -> Image:
    part: Image = rng.standard_normal(shape, dtype=np.float32)
    part = blur(blur(part, width_vox, 1), width_vox, 2)
    part *= np.float32(sigma) / part.std()
    return part
