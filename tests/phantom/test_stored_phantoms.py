"""Phantoms do not change unnoticed: the figures of the shipped model were measured on the default ones, and training
keeps its phantoms in a cache whose key is `lnfast.phantom.VERSION`.

Why a fingerprint and not only a hash: the draws of PCG64 are the same everywhere, but another numpy release or
processor family may round the last bit of an exponential, a sine or a hypotenuse differently, which moves a few
voxels by one across the rounding to int16. (numpy 1.26 and 2.4 differ in one voxel each of two of the phantoms below,
and in no label.) So equal bytes pass at once, and otherwise the voxels of each label must agree to one and two
checksums to one part in a million. Any other draw changes all voxels and fails.
"""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from lnfast.phantom import LIFELIKE, REALISTIC, TRAINING, VERSION, Phantom, Protocol, Variety, make_phantom

TALL = Protocol("prostate-tall", (128, 84), (256.0, 168.0), 3.0, 19, 800.0, 70.0, 3500.0)


Stage = Literal["n0", "n1", "any"]


class Fingerprint(NamedTuple):
    """What identifies a phantom.

    Attributes:
        array_sha256: of the int16 voxels' bytes.
        labels_sha256: of the uint16 labels' bytes.
        total: sum of the voxels.
        weighted: sum of the voxels, each times its index modulo 1009.
        counts: voxels of each label, from 1.
        offset_mm: the affine's last column.
    """

    array_sha256: str
    labels_sha256: str
    total: int
    weighted: int
    counts: tuple[int, ...]
    offset_mm: tuple[float, float, float]


DEFAULTS: dict[tuple[int, str, Stage, Protocol | None], Fingerprint] = {
    (40, "achieva", "n0", None): Fingerprint(
        "693db29e7c431e0b5c4301cd74efb711fd44a070fb6b33983da72a63f7a9c09e",
        "a8ebcb7f4e38a363b824e64e293b4eb194cb29a388d89c6803bd210bff269931",
        33240925,
        16748946002,
        (11, 23, 7, 3, 3, 3, 5, 10, 5, 5, 4, 5, 6, 15, 9, 5, 4, 5),
        (208.0196835109961, 198.06013590498608, 9.75469654857057),
    ),
    (42, "ingenia", "any", None): Fingerprint(
        "954e703ad6493005ff1bcfbd26e5ce3c379c72390e511e2a39d7d1ca4ca28273",
        "771e09c80e0aaf3d752f86a91dd21d7067d3d7daa013d6099522b1672a4698d9",
        124258201,
        62613046119,
        (24, 6, 4, 3, 23, 10, 4, 8, 5, 4, 3, 12, 7, 10, 17, 10, 8, 5, 4, 8, 18, 5, 4, 6, 4, 9, 3),
        (193.0931082856371, 172.09884581453753, -22.22872679176196),
    ),
    (43, "discovery", "n1", TALL): Fingerprint(
        "d2840395d8a094bd4666151fa12f6b913eb3968d091ca561b2ade8f8c428a634",
        "aaa50bb0cdddb6e1c0625f32cfd33573cbb348aebe49407fec438696b08d3bb0",
        3801048,
        1916213191,
        (7, 9, 81, 3, 10, 139, 80),
        (83.28859616632418, 133.84528397167782, -5.764821148077756),
    ),
}


# One phantom a scanner and variety, of the version of the phantom that made them.
RECORDED_VERSION = 4
RECORDED: dict[tuple[int, str, Stage, Variety], Fingerprint] = {
    (44, "achieva", "any", LIFELIKE): Fingerprint(
        "2b9c8715c19605a65e5a6f65cd0448fbd08d5ae9f5e2aaa7d01f9706c48765a1",
        "c2d1a8e84fdd6843603289648055051b592168238a2ca2defa770887a7b81eba",
        12505203,
        6301227010,
        (14, 7, 6, 7, 12, 5, 18, 14, 17, 8, 7, 5, 12, 4, 6, 3, 5, 27, 3, 6, 6, 3, 25, 5, 4, 5, 13, 4, 12),
        (182.05752967112218, 199.87772228128753, -25.31315881573722),
    ),
    (45, "discovery", "n1", REALISTIC): Fingerprint(
        "778868a00618614c747f387facc00938fbfca913a6ab034d1b0a732ba1df8f14",
        "db900aa1641d5d285bf42bba2d60647241f555c9c29a787adc6d36650dff97d1",
        38073387,
        19205421222,
        (5, 127, 3, 14, 63, 10, 6, 121, 16, 7, 15, 25, 11, 10, 91, 12, 83, 5, 11, 10, 54, 24),
        (216.51538357251005, 187.30736752231704, -62.39883339961054),
    ),
    (46, "ingenia", "n0", TRAINING): Fingerprint(
        "5455f9f5f8d91c1c30cc6ee135d6d8ea5d3a47a21af3326e0020c2e2bf17c671",
        "db193d5369d322f6005ec294304833203033f6641e6dd7fad268b3c8faed6b75",
        84383680,
        42519854630,
        (13, 9, 8, 30, 4, 13, 13, 4, 25, 5, 18, 12, 4, 3, 6, 13, 4, 12, 5, 14, 20, 13, 7),
        (92.7608723499746, 231.51358530458867, -24.489267110872902),
    ),
}


def fingerprint(phantom: Phantom) -> Fingerprint:
    """Compute the fingerprint of a phantom."""
    array, labels = phantom.volume.array, phantom.labels
    index = np.arange(array.size, dtype=np.int64) % 1009
    x, y, z = (float(value) for value in phantom.volume.grid.affine[:3, 3])
    return Fingerprint(
        sha256(array),
        sha256(labels),
        int(array.sum(dtype=np.int64)),
        int((array.ravel() * index).sum()),
        tuple(np.bincount(labels.ravel())[1:].tolist()),
        (x, y, z),
    )


def sha256(array: NDArray[np.int16] | NDArray[np.uint16]) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def assert_same_phantom(actual: Fingerprint, expected: Fingerprint) -> None:
    """Assert that two fingerprints are of one phantom, up to the last bit of elementary functions."""
    np.testing.assert_allclose(actual.offset_mm, expected.offset_mm, rtol=0, atol=1e-9)
    assert len(actual.counts) == len(expected.counts)
    if (actual.array_sha256, actual.labels_sha256) == (expected.array_sha256, expected.labels_sha256):
        return
    assert np.abs(np.array(actual.counts) - np.array(expected.counts)).max() <= 1
    assert actual.total == pytest.approx(expected.total, rel=1e-6)
    assert actual.weighted == pytest.approx(expected.weighted, rel=1e-6)


@pytest.mark.parametrize("arguments", DEFAULTS, ids=lambda arguments: f"{arguments[1]}-{arguments[2]}")
def test_the_default_phantom_is_what_it_was_before_there_was_any_variety(
    arguments: tuple[int, str, Stage, Protocol | None],
) -> None:
    seed, scanner, stage, protocol = arguments
    phantom = make_phantom(seed, scanner, stage, protocol=protocol)
    assert len(phantom.nodes) == len(DEFAULTS[arguments].counts)
    assert_same_phantom(fingerprint(phantom), DEFAULTS[arguments])


def test_the_version_of_the_phantom_is_the_recorded_one() -> None:
    assert VERSION == RECORDED_VERSION, "record the fingerprints of this version below RECORDED, then its number"


@pytest.mark.parametrize("arguments", RECORDED, ids=lambda arguments: arguments[1])
def test_phantoms_of_one_version_are_the_same(arguments: tuple[int, str, Stage, Variety]) -> None:
    seed, scanner, stage, variety = arguments
    actual = fingerprint(make_phantom(seed, scanner, stage, variety=variety))
    try:
        assert_same_phantom(actual, RECORDED[arguments])
    except AssertionError as error:
        pytest.fail(
            "A seed now makes another phantom. If that was not intended, correct the change. If it was, raise "
            "lnfast.phantom.VERSION by one, so that no cache of training phantoms mixes the two, set RECORDED_VERSION "
            "to the same number, and replace this entry of RECORDED by\n"
            f"{actual}\n{error}"
        )


def test_the_default_takes_no_draw_for_its_variety() -> None:
    rng, untouched = np.random.default_rng(0), np.random.default_rng(0)
    assert LIFELIKE.sample(rng) == LIFELIKE
    assert rng.random() == untouched.random()
