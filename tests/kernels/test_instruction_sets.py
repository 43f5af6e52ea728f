"""Every instruction set that the kernels can choose gives the same bits."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import lnfast_ext

SETS = ("baseline", "avx2", "avx512")


def digest() -> str:
    """Return the SHA-256 of the results of all kernels on seeded input."""
    total = hashlib.sha256()

    def add(*parts: Any) -> None:
        for part in parts:
            total.update(np.ascontiguousarray(part).tobytes())

    rng = np.random.default_rng(0)
    for width, target in ((9, 9), (65, 64), (200, 256), (256, 200), (700, 256), (1100, 1300)):
        floats = rng.normal(-1, 3, (4, 9, width)).astype(np.float32)
        for volume in ((floats * 50).astype(np.int16), (floats * 1e5).astype(np.int32), floats, floats[:, :, ::-1]):
            add(*intensity(volume))
            for dtype in (np.float32, np.float16):
                out = np.empty((7, 20, target), dtype)
                lnfast_ext.resample_normalize(volume, out, lo=-400, hi=500, shift=3, scale=0.01)
                add(out)
        for logits in (floats, floats.astype(np.float16), floats[::-1, ::-1, ::-1]):
            mask = np.empty((7, 20, target), np.uint8)
            add(lnfast_ext.threshold_resample(logits, mask, 0.3), mask)
            labels, count = lnfast_ext.label_components(mask)
            add(labels, lnfast_ext.measure_components(labels, count, np.diag([1, 1.1, 3, 1.0]), logits=logits))
    large = np.empty((70, 130, 130), np.float32)  # beyond a megabyte stores go past the caches
    lnfast_ext.resample_normalize(floats, large, lo=-9, hi=9, shift=0, scale=1)
    add(large)
    return total.hexdigest()


def intensity(volume: Any) -> tuple[Any, ...]:
    *moments, percentiles = lnfast_ext.intensity_statistics(volume, (0.5, 50, 99.5), clipped=True)
    return (*moments, percentiles)


@pytest.mark.parametrize("wanted", SETS)
def test_every_instruction_set_gives_the_same_bits(wanted: str) -> None:
    best = lnfast_ext.instruction_set()
    used = SETS[min(SETS.index(wanted), SETS.index(best))]
    process = subprocess.run(
        [sys.executable, __file__], env=os.environ | {"LNFAST_ISA": wanted}, capture_output=True, text=True
    )
    assert process.stdout.split() == [used, digest()], process.stderr


if __name__ == "__main__":
    sys.stdout.write(f"{lnfast_ext.instruction_set()} {digest()}\n")
