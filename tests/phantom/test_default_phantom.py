"""The default phantom does not change: the figures of the shipped model were measured on it."""

from __future__ import annotations

import hashlib
from typing import Literal, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from lnfast.phantom import LIFELIKE, Protocol, make_phantom

TALL = Protocol("prostate-tall", (128, 84), (256.0, 168.0), 3.0, 19, 800.0, 70.0, 3500.0)


class Stored(NamedTuple):
    """What a phantom was before there was any variety.

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


STORED: dict[tuple[int, str, Literal["n0", "n1", "any"], Protocol | None], Stored] = {
    (40, "achieva", "n0", None): Stored(
        "693db29e7c431e0b5c4301cd74efb711fd44a070fb6b33983da72a63f7a9c09e",
        "a8ebcb7f4e38a363b824e64e293b4eb194cb29a388d89c6803bd210bff269931",
        33240925,
        16748946002,
        (11, 23, 7, 3, 3, 3, 5, 10, 5, 5, 4, 5, 6, 15, 9, 5, 4, 5),
        (208.0196835109961, 198.06013590498608, 9.75469654857057),
    ),
    (42, "ingenia", "any", None): Stored(
        "954e703ad6493005ff1bcfbd26e5ce3c379c72390e511e2a39d7d1ca4ca28273",
        "771e09c80e0aaf3d752f86a91dd21d7067d3d7daa013d6099522b1672a4698d9",
        124258201,
        62613046119,
        (24, 6, 4, 3, 23, 10, 4, 8, 5, 4, 3, 12, 7, 10, 17, 10, 8, 5, 4, 8, 18, 5, 4, 6, 4, 9, 3),
        (193.0931082856371, 172.09884581453753, -22.22872679176196),
    ),
    (43, "discovery", "n1", TALL): Stored(
        "d2840395d8a094bd4666151fa12f6b913eb3968d091ca561b2ade8f8c428a634",
        "aaa50bb0cdddb6e1c0625f32cfd33573cbb348aebe49407fec438696b08d3bb0",
        3801048,
        1916213191,
        (7, 9, 81, 3, 10, 139, 80),
        (83.28859616632418, 133.84528397167782, -5.764821148077756),
    ),
}


def sha256(array: NDArray[np.int16] | NDArray[np.uint16]) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


@pytest.mark.parametrize("arguments", STORED, ids=lambda arguments: f"{arguments[1]}-{arguments[2]}")
def test_the_default_phantom_is_what_it_was_before_there_was_any_variety(
    arguments: tuple[int, str, Literal["n0", "n1", "any"], Protocol | None],
) -> None:
    seed, scanner, stage, protocol = arguments
    stored = STORED[arguments]
    phantom = make_phantom(seed, scanner, stage, protocol=protocol)
    array, labels = phantom.volume.array, phantom.labels
    np.testing.assert_allclose(phantom.volume.grid.affine[:3, 3], stored.offset_mm, rtol=0, atol=1e-9)
    assert len(phantom.nodes) == len(stored.counts)
    if (sha256(array), sha256(labels)) == (stored.array_sha256, stored.labels_sha256):
        return
    # Another family of processors may round the last bit of an exponential or a hypotenuse differently, which changes
    # few voxels, each by one. Another draw changes all of them.
    counts = np.bincount(labels.ravel())[1:]
    assert np.abs(counts - np.array(stored.counts)).max() <= 1
    index = np.arange(array.size, dtype=np.int64) % 1009
    assert int(array.sum(dtype=np.int64)) == pytest.approx(stored.total, rel=1e-6)
    assert int((array.ravel() * index).sum()) == pytest.approx(stored.weighted, rel=1e-6)


def test_the_default_takes_no_draw_for_its_variety() -> None:
    rng, untouched = np.random.default_rng(0), np.random.default_rng(0)
    assert LIFELIKE.sample(rng) == LIFELIKE
    assert rng.random() == untouched.random()
