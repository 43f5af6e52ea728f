"""The signal model of a diffusion-weighted spin echo: S = PD exp(-TE/T2) exp(-b ADC), and its tissues."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lnfast.phantom.protocol import Protocol


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
    "plexus": Tissue(0.80, 85, 1.3, 0.45),
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

# Realistic phantoms differ in these tissues. Blood that flows, however slowly, loses its phase in the gradients of a
# high b-value, as if its ADC were that of urine: veins are little brighter than muscle. The plexus about the prostate
# stays bright, as real studies show it. In these nerves hardly show, so they are dimmer: bright tubes beside the iliac
# vessels would teach a network that nothing long and bright there is a node. Fat below the skin, near the coil and
# suppressed in part, may be as bright as muscle.
REALISTIC_TISSUES = TISSUES | {
    "fat": Tissue(0.120, 65, 0.05, 0.50),
    "deep fat": Tissue(0.060, 65, 0.05, 0.40),
    "slow vein": Tissue(0.80, 85, 2.60, 0.45),
    "nerve": Tissue(0.78, 50, 1.20, 0.30),
}


def sample_signal(name: str, protocol: Protocol, rng: np.random.Generator, *, realistic: bool = False) -> float:
    """Draw a tissue's noise-free magnitude; 1 is water without any decay."""
    tissue = (REALISTIC_TISSUES if realistic else TISSUES)[name]
    a, b, c = rng.normal(0.0, tissue.spread, 3)
    density = tissue.density * float(np.exp(0.5 * a))
    t2, adc = tissue.t2_ms * float(np.exp(b)), tissue.adc * float(np.exp(2 / 3 * c))
    # Repetition times of 3 s and more leave T1 weighting at the level of the density's own spread.
    return density * float(np.exp(-protocol.te_ms / t2)) * float(np.exp(-protocol.b_value * adc * 1e-3))
