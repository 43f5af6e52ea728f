"""The phantom of a seed: its variety and its protocol, and which seeds may be trained and validated on."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np

from lnfast.errors import UsageError
from lnfast.phantom import LIFELIKE, REALISTIC, SCANNERS, TRAINING, Phantom, Protocol, Variety, make_phantom
from lnfast.phantom import VERSION as PHANTOM_VERSION

# Raise it by one with every change of `variety_of`, `protocol_of` or `phantom_of` after which any seed is another
# patient or is scanned otherwise; `tests/training/test_phantom_cache.py` fails when they change and it does not.
COHORT_VERSION = 2
# Versions were hashes of sources before they were numbers. These phantoms are the same to the byte.
HASHED_VERSIONS = {"ff1582a0": "1.1"}

# Seeds 0-99 and from 100000 on are for tests, probes and evaluation, which a network that was trained on one of them
# would pass too easily. Only these two ranges may be trained or tuned on.
TRAINING_SEEDS = range(1000, 9000)
VALIDATION_SEEDS = range(9000, 10000)

# Prostate protocols of another vendor, whose field is half the pelvis: 168 x 256 x 57 mm and 211 x 260 x 72 mm
# (x or y first, as the phase direction goes). Without them the network only knows whole pelves.
SMALL_FIELDS = (
    Protocol("prostate-tall", (128, 84), (256.0, 168.0), 3.0, 19, 800.0, 70.0, 3500.0),
    Protocol("prostate-wide", (130, 160), (211.25, 260.0), 3.6, 20, 800.0, 65.0, 3300.0),
)


def variety_of(seed: int) -> Variety:
    """Return a seed's variety: of the training seeds, by hash, half are realistic and half are made for training.

    None of them is the default, whose bright veins look like the long nodes of real scans. All others are the default,
    so that figures of validation compare with those of earlier models.
    """
    if seed not in TRAINING_SEEDS:
        return LIFELIKE
    return (REALISTIC, TRAINING)[zlib.crc32(str(seed).encode()) % 2]


def protocol_of(seed: int) -> Protocol:
    """Return the protocol of a seed.

    Of realistic and default phantoms three quarters are the paper's scanners in turn, one quarter small fields in
    turn. Those made for training have any protocol, of small fields as often as of large ones.
    """
    if variety_of(seed) == TRAINING:
        return _any_protocol(seed)
    return SMALL_FIELDS[seed // 4 % 2] if seed % 4 == 3 else tuple(SCANNERS.values())[seed // 4 % len(SCANNERS)]


def _any_protocol(seed: int) -> Protocol:
    """Draw a field of 168-260 or 280-420 mm, slices of 2-8 mm, pixels of 1.2-2.6 mm, b 500-1500, TE 50-95 ms."""
    rng = np.random.default_rng([seed, len(SCANNERS)])
    small = rng.random() < 0.5
    wide, deep = rng.uniform(168, 260, 2) if small else np.array((420, 370)) * rng.uniform(0.75, 1.0, 2)
    thick = float(rng.uniform(2.0, 5.0) if small else rng.uniform(3.0, 8.0))
    slices = int(np.clip(rng.uniform(50, 95) / thick if small else rng.uniform(110, 220) / thick, 12, 36))
    pixel = float(np.exp(rng.uniform(np.log(1.2), np.log(2.6))))
    matrix = [int(np.clip(side / pixel, 64, 256)) for side in (deep, wide)]
    b_value = float(np.round(np.exp(rng.uniform(np.log(500), np.log(1500)))))
    name, te_ms = f"training-{seed}", float(rng.uniform(50, 95))
    return Protocol(name, (matrix[0], matrix[1]), (float(deep), float(wide)), thick, slices, b_value, te_ms, 3500.0)


def phantom_of(seed: int) -> Phantom:
    """Make the phantom of a seed, of either stage.

    Raises:
        UsageError: ``bad-seed``.
    """
    protocol, variety = protocol_of(seed), variety_of(seed)
    try:
        return make_phantom(seed, stage="any", protocol=protocol, variety=variety)
    except UsageError as error:
        if error.code != "no-room":
            raise
        # A small field that has no room for a suspicious node is a patient without one.
        return make_phantom(seed, stage="n0", protocol=protocol, variety=variety)


def check_seeds(seeds: Iterable[int], allowed: tuple[range, ...] = (TRAINING_SEEDS, VALIDATION_SEEDS)) -> None:
    """Refuse seeds that are kept for other purposes.

    Raises:
        UsageError: ``reserved-seed``.
    """
    for seed in seeds:
        if not any(seed in part for part in allowed):
            wanted = " or ".join(f"{part[0]}-{part[-1]}" for part in allowed)
            raise UsageError(
                "reserved-seed",
                f"got phantom seed {seed}, wanted {wanted}: all others are kept for tests, validation or evaluation",
            )


def phantom_version() -> str:
    """Return the version of the phantom, a dot, and that of this cohort: both decide which patient a seed is."""
    return f"{PHANTOM_VERSION}.{COHORT_VERSION}"


def numbered_version(version: str | None) -> str | None:
    """Return the number of a version that a run or a weights file may still name by a hash of sources."""
    return None if version is None else HASHED_VERSIONS.get(version, version)
