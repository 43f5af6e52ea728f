"""From tissue to scanner magnitude: S = PD exp(-TE/T2) exp(-b ADC), then coil, point spread, noise, storage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnfast.phantom.protocol import Protocol

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Tissue:
    """Mean proton density (relative to water), T2 (ms), ADC (1e-3 mm2/s), and the spread from patient to patient.

    ``spread`` is the standard deviation of the log of T2; ADC and density vary by two thirds and half of it.
    """

    density: float
    t2_ms: float
    adc: float
    spread: float = 0.2


# Orders of magnitude at 3 T as reviews give them (muscle T2 ~ 30-40 ms, prostate peripheral zone T2 ~ 120-160 ms and
# ADC ~ 1.6, tumour ADC ~ 0.8, lymph nodes ADC ~ 0.8-1.2, urine ADC ~ 2.8), rounded; not fitted to any patient. Fat's
# density is what fat suppression leaves. Walls and glands spread widely on purpose, up to the brightness of nodes: a
# network must tell a node by its shape and place, for real pelves show all of these bright.
TISSUES: dict[str, Tissue] = {
    "air": Tissue(0.0, 50, 0.0, 0.0),
    "fat": Tissue(0.045, 65, 0.05, 0.35),
    "deep fat": Tissue(0.022, 65, 0.05, 0.35),
    "muscle": Tissue(0.75, 36, 1.35, 0.06),
    "bone": Tissue(0.075, 45, 0.45, 0.30),
    "cortex": Tissue(0.02, 30, 0.5, 0.30),
    "joint": Tissue(0.60, 60, 1.5, 0.35),
    "vessel": Tissue(0.05, 60, 1.5, 0.50),
    "slow vein": Tissue(0.80, 80, 1.4, 0.35),
    "nerve": Tissue(0.80, 72, 1.15, 0.30),
    "urine": Tissue(1.00, 800, 2.75, 0.05),
    "bladder wall": Tissue(0.80, 68, 1.2, 0.30),
    "prostate": Tissue(0.80, 88, 1.35, 0.22),
    "peripheral": Tissue(0.85, 125, 1.55, 0.22),
    "tumour": Tissue(0.80, 88, 0.80, 0.20),
    "seminal": Tissue(0.85, 130, 1.65, 0.35),
    "rectal wall": Tissue(0.80, 78, 1.10, 0.35),
    "anal": Tissue(0.78, 58, 1.25, 0.25),
    "stool": Tissue(0.35, 60, 1.2, 0.50),
    "bowel wall": Tissue(0.80, 75, 1.20, 0.40),
    "bowel fluid": Tissue(0.90, 250, 2.3, 0.35),
    "gonad": Tissue(0.85, 130, 1.05, 0.25),
    "mimic": Tissue(0.80, 85, 1.05, 0.35),
    "node": Tissue(0.82, 86, 0.98, 0.16),
}


def signal(name: str, protocol: Protocol, rng: np.random.Generator) -> float:
    """One draw of a tissue's noise-free magnitude, 1 being water without any decay."""
    tissue = TISSUES[name]
    a, b, c = rng.normal(0.0, tissue.spread, 3)
    density = tissue.density * float(np.exp(0.5 * a))
    t2, adc = tissue.t2_ms * float(np.exp(b)), tissue.adc * float(np.exp(2 / 3 * c))
    # Repetition times of 3 s and more leave T1 weighting at the level of the density's own spread.
    return density * float(np.exp(-protocol.te_ms / t2)) * float(np.exp(-protocol.b_value * adc * 1e-3))


def smooth_field(shape: tuple[int, int, int], spacing_zyx: tuple[float, float, float], length_mm: float,
                 rng: np.random.Generator) -> Field:
    """Smooth noise of unit variance at the knots, linear between knots ``length_mm`` apart, (z, y, x) float32."""
    counts = [max(int(np.ceil(n * d / length_mm)) + 2, 2) for n, d in zip(shape, spacing_zyx, strict=True)]
    field = rng.standard_normal(counts).astype(np.float32)
    shift = rng.random(3)
    for axis, (n, d) in enumerate(zip(shape, spacing_zyx, strict=True)):
        place = np.minimum(np.arange(n) * d / length_mm + shift[axis], counts[axis] - 1.001)
        low = place.astype(int)
        part = (place - low).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
        field = field.take(low, axis) * (1 - part) + field.take(low + 1, axis) * part
    return field


def blur(image: Field, sigma_vox: float, axis: int) -> Field:
    """Gaussian blur along an axis, five taps, edge repeated."""
    if sigma_vox < 0.05:
        return image
    taps = np.exp(-0.5 * (np.arange(-2, 3) / sigma_vox) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    n = image.shape[axis]
    out = image * taps[2]
    for offset in (-2, -1, 1, 2):
        out += image.take(np.clip(np.arange(n) + offset, 0, n - 1), axis) * taps[offset + 2]
    return out


def acquire(tissue: Field, gain: Field, muscle: float, rng: np.random.Generator) -> NDArray[np.int16]:
    """What the scanner stores of a noise-free pelvis.

    Args:
        tissue: (z, y, x) magnitude without coil, blur or noise.
        gain: (z, y, x) receive sensitivity, about 1.
        muscle: magnitude of muscle; noise and storage scale are relative to it.

    Returns:
        (z, y, x) int16: blurred along the phase-encoding direction (y) more than along x, as echo-planar imaging
        is; Rician noise, the magnitude of a complex signal with equal white noise in both parts; then scaled.
    """
    image = blur(blur(tissue * gain, rng.uniform(0.45, 0.85), 1), rng.uniform(0.3, 0.6), 2)
    sigma = np.float32(muscle / np.exp(rng.uniform(np.log(1.0), np.log(5.0))))
    parts = [rng.standard_normal(image.shape, dtype=np.float32) for _ in range(2)]
    if rng.random() < 0.5:  # scanners that interpolate in k-space correlate the noise of neighbours
        width = rng.uniform(0.3, 0.7)
        parts = [blur(blur(part, width, 1), width, 2) for part in parts]
        parts = [part / part.std() for part in parts]
    parts[0] *= sigma
    parts[1] *= sigma
    parts[0] += image
    magnitude = np.sqrt(parts[0] ** 2 + parts[1] ** 2)
    scale = np.exp(rng.uniform(np.log(15.0), np.log(150.0))) / muscle
    return np.clip(np.rint(magnitude * np.float32(scale)), 0, 32767).astype(np.int16)
