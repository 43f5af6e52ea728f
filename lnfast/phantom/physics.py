"""From tissue to scanner magnitude: S = PD exp(-TE/T2) exp(-b ADC), then coil, point spread, noise, storage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.protocol import Protocol

Field = NDArray[np.float32]

# Muscle over the noise of the averaged image in realistic phantoms. Two public studies stand at about ten.
REALISTIC_SNR = (3.5, 21.0)
FEW_AVERAGES = 3  # so many are made one by one


@dataclass(frozen=True)
class Tissue:
    """Mean proton density (relative to water), T2 (ms), ADC (1e-3 mm2/s), and the spread from patient to patient.

    ``spread`` is the standard deviation of the log of T2; ADC and density vary by two thirds and half of it.
    """

    density: float
    t2_ms: float
    adc: float
    spread: float = 0.2


# Orders of magnitude at 3 T, from memory of reviews and not from one citable table (muscle T2 ~ 30-40 ms, prostate
# peripheral zone T2 ~ 120-160 ms and ADC ~ 1.6, tumour ADC ~ 0.8, lymph nodes ADC ~ 0.8-1.2, urine ADC ~ 2.8). Fat,
# bone, bladder, rectum, nerve and the noise were then moved by eye until two public prostate studies (PROSTATEx, b 800)
# and the phantom looked alike and had similar percentiles: those two are no independent check of a model trained on
# this. Fat's density is what fat suppression leaves. Walls and glands spread widely on purpose, up to the brightness of
# nodes: a network must tell a node by its shape and place, for real pelves show all of these bright.
TISSUES: dict[str, Tissue] = {
    "air": Tissue(0.0, 50, 0.0, 0.0),
    "fat": Tissue(0.085, 65, 0.05, 0.35),
    "deep fat": Tissue(0.042, 65, 0.05, 0.35),
    "muscle": Tissue(0.80, 37, 1.32, 0.06),
    "bone": Tissue(0.11, 45, 0.45, 0.30),
    "cortex": Tissue(0.02, 30, 0.5, 0.30),
    "joint": Tissue(0.60, 60, 1.5, 0.35),
    "vessel": Tissue(0.05, 60, 1.5, 0.50),
    "slow vein": Tissue(0.80, 85, 1.3, 0.45),
    "nerve": Tissue(0.78, 66, 1.20, 0.45),
    "urine": Tissue(1.00, 700, 2.95, 0.12),
    "bladder wall": Tissue(0.80, 80, 1.10, 0.35),
    "prostate": Tissue(0.78, 82, 1.50, 0.26),
    "peripheral": Tissue(0.80, 110, 1.65, 0.28),
    "tumour": Tissue(0.80, 88, 0.80, 0.20),
    "seminal": Tissue(0.85, 130, 1.65, 0.35),
    "rectal wall": Tissue(0.80, 85, 1.00, 0.42),
    "anal": Tissue(0.78, 58, 1.25, 0.25),
    "stool": Tissue(0.40, 60, 1.2, 0.60),
    "bowel wall": Tissue(0.80, 74, 1.15, 0.50),
    "bowel fluid": Tissue(0.90, 250, 2.3, 0.35),
    "gonad": Tissue(0.85, 130, 1.05, 0.25),
    "mimic": Tissue(0.80, 88, 1.00, 0.50),
    "node": Tissue(0.85, 92, 0.90, 0.22),
}


# What differs in realistic phantoms.
REALISTIC_TISSUES = TISSUES | {"deep fat": Tissue(0.060, 65, 0.05, 0.40)}


def signal(name: str, protocol: Protocol, rng: np.random.Generator, *, realistic: bool = False) -> float:
    """One draw of a tissue's noise-free magnitude, 1 being water without any decay."""
    tissue = (REALISTIC_TISSUES if realistic else TISSUES)[name]
    a, b, c = rng.normal(0.0, tissue.spread, 3)
    density = tissue.density * float(np.exp(0.5 * a))
    t2, adc = tissue.t2_ms * float(np.exp(b)), tissue.adc * float(np.exp(2 / 3 * c))
    # Repetition times of 3 s and more leave T1 weighting at the level of the density's own spread.
    return density * float(np.exp(-protocol.te_ms / t2)) * float(np.exp(-protocol.b_value * adc * 1e-3))


def smooth_field(
    shape: tuple[int, int, int], spacing_zyx: tuple[float, float, float], length_mm: float, rng: np.random.Generator
) -> Field:
    """Smooth noise of unit variance at the knots, linear between knots ``length_mm`` apart, (z, y, x) float32."""
    counts = [max(int(np.ceil(n * d / length_mm)) + 2, 2) for n, d in zip(shape, spacing_zyx, strict=True)]
    field = rng.standard_normal(counts).astype(np.float32)
    shift = rng.random(3)
    for axis, (n, d) in enumerate(zip(shape, spacing_zyx, strict=True)):
        place = np.minimum(np.arange(n) * d / length_mm + shift[axis], counts[axis] - 1.001)
        low = place.astype(int)
        part = (place - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
        field = field.take(low, axis) * (1 - part) + field.take(low + 1, axis) * part
    smooth: Field = field
    return smooth


def blur(image: Field, sigma_vox: float, axis: int) -> Field:
    """Gaussian blur along an axis, five taps, edge repeated."""
    if sigma_vox < 0.05:
        return image
    taps = np.exp(-0.5 * (np.arange(-2, 3) / sigma_vox) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    n = image.shape[axis]
    out: Field = image * taps[2]
    for offset in (-2, -1, 1, 2):
        out += image.take(np.clip(np.arange(n) + offset, 0, n - 1), axis) * taps[offset + 2]
    return out


def acquire(
    tissue: Field,
    muscle: float,
    rng: np.random.Generator,
    averages: int = 1,
    *,
    snr: tuple[float, float] | None = None,
    blur_vox: float = 0.0,
) -> NDArray[np.int16]:
    """What the scanner stores of a noise-free pelvis.

    Args:
        tissue: (z, y, x) magnitude as the coil receives it, without blur or noise.
        muscle: magnitude of muscle; noise and storage scale are relative to it.
        averages: images (diffusion directions, repetitions) of which the scanner averages the magnitudes.
        snr: the range that muscle's ratio to the noise of the averaged image is drawn from, log-uniformly; None draws
            the ratio in each image, up to 14, however many are averaged.
        blur_vox: standard deviation of what blurs the slice besides, in pixels.

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


def _ratio_of_each(averages: int, snr: tuple[float, float] | None, rng: np.random.Generator) -> float:
    """Muscle over the noise in each of the images that are averaged."""
    if snr is None:
        # Muscle of two public studies stands about ten times above the noise; others are worse.
        return float(np.exp(rng.uniform(np.log(1.5 if averages == 1 else 1.0), np.log(14.0))))
    # The more images are averaged, the noisier each may be: air's grey floor stays when its grain has gone.
    ratio = np.exp(rng.uniform(np.log(snr[0]), np.log(snr[1]))) / np.sqrt(averages)
    return max(float(ratio), 1.0)


def _averaged(image: Field, sigma: float, width: float, averages: int, rng: np.random.Generator) -> Field:
    """The mean of the magnitudes of ``averages`` noisy images."""
    magnitude = np.zeros_like(image)
    if averages <= FEW_AVERAGES:
        for _ in range(averages):
            real, imaginary = (_noise(image.shape, sigma, width, rng) for _ in range(2))
            real += image
            magnitude += np.hypot(real, imaginary)
        magnitude /= np.float32(averages)
        return magnitude
    # Of many the mean is normal about Rice's mean with Rice's spread: both are exact in air and far above the noise,
    # within 5 % between.
    square, variance = image * image, np.float32(sigma * sigma)
    spread = np.sqrt((np.float32(2 - np.pi / 2) + square / (square + variance) * np.float32(np.pi / 2 - 1)) / averages)
    np.sqrt(square + np.float32(np.pi / 2) * variance, out=magnitude)
    magnitude += _noise(image.shape, sigma, width, rng) * spread.astype(np.float32)
    return np.maximum(magnitude, 0, out=magnitude)


def _noise(shape: tuple[int, ...], sigma: float, width_vox: float, rng: np.random.Generator) -> Field:
    part: Field = rng.standard_normal(shape, dtype=np.float32)
    part = blur(blur(part, width_vox, 1), width_vox, 2)
    part *= np.float32(sigma) / part.std()
    return part
