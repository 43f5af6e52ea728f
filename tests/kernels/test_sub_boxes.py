"""Kernels on a part of a grid: the bits of the same part of the whole, and nothing beyond it is read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import oracles
import pytest
from numpy.typing import NDArray

from lnfast_ext import instruction_set, label_components, measure_components, resample_normalize, threshold_resample

Shape = tuple[int, ...]
SETS = ("baseline", "avx2", "avx512")
DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
SCALE: dict[str, Any] = {"lo": 10.0, "hi": 90.0, "shift": 50.0, "scale": 0.05}
LEVEL = 0.25
# native, grid: finer, coarser and alike; rows of less than a register and of more pieces than a word has bits.
SHAPES = [
    ((5, 9, 11), (8, 16, 16)),
    ((9, 20, 40), (4, 13, 17)),
    ((6, 33, 70), (6, 33, 70)),
    ((7, 24, 240), (16, 40, 256)),
    ((3, 5, 1300), (4, 6, 1100)),
]


def parts(shape: Shape, rng: np.random.Generator, count: int) -> Iterator[tuple[Shape, Shape]]:
    """Starts and shapes: the whole, each face cut off, one voxel, and random ones."""
    yield (0, 0, 0), shape
    for axis, size in enumerate(shape):
        if size > 1:
            less = tuple(n - (k == axis) for k, n in enumerate(shape))
            yield (0, 0, 0), less
            yield tuple(int(k == axis) for k in range(3)), less
    for k in range(count):
        start = tuple(int(rng.integers(n)) for n in shape)
        yield start, tuple(1 if k == 0 else int(rng.integers(1, n - a + 1)) for a, n in zip(start, shape, strict=True))


def box(start: Shape, shape: Shape) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))


def alone(whole: NDArray[Any], where: tuple[slice, ...]) -> NDArray[Any]:
    """Return a view of a part that is surrounded by NaN, so that a read beyond it shows."""
    hidden = np.full([n + 2 for n in whole.shape], np.nan, whole.dtype)
    inner = hidden[1:-1, 1:-1, 1:-1]
    inner[where] = whole[where]
    return inner[where]


def line(size: int, axis: int) -> Shape:
    return tuple(size if k == axis else 1 for k in range(3))


def check_resample(volume: NDArray[Any], grid: Shape, start: Shape, shape: Shape, dtype: Any, **more: Any) -> None:
    whole, part = np.empty(grid, dtype), np.full(shape, np.nan, dtype)
    resample_normalize(volume, whole, **SCALE)
    resample_normalize(volume, part, grid=grid, start=start, **SCALE, **more)
    assert part.tobytes() == whole[box(start, shape)].tobytes()


def check_threshold(logits: NDArray[Any], native: Shape, start: Shape, shape: Shape, **more: Any) -> None:
    wanted = np.empty(native, np.uint8)
    threshold_resample(logits, wanted, LEVEL)
    wanted[~oracles.supported(native, logits.shape, start, shape)] = 0
    result = np.full(native, 7, np.uint8)
    where = alone(logits, box(start, shape))
    assert threshold_resample(where, result, LEVEL, grid=logits.shape, start=start, **more) == wanted.sum()
    np.testing.assert_array_equal(result, wanted)


def check_random_parts() -> None:
    rng = np.random.default_rng(3)
    for native, grid in SHAPES:
        volume = rng.normal(50, 30, native).clip(0, 120).astype(np.int16)
        logits = rng.normal(0, 1, grid).astype(np.float32)
        for start, shape in parts(grid, rng, 12):
            for dtype in (np.float32, np.float16):
                check_resample(volume, grid, start, shape, dtype)
                check_threshold(logits.astype(dtype), native, start, shape)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_part_of_every_short_axis(axis: int) -> None:
    rng = np.random.default_rng(axis)
    for native in range(1, 8):
        for grid in range(1, 7):
            volume, logits = rng.normal(50, 30, line(native, axis)), rng.normal(0, 1, line(grid, axis)).astype("f4")
            for start in range(grid):
                for size in range(1, grid - start + 1):
                    begin = tuple(start if k == axis else 0 for k in range(3))
                    check_resample(volume, line(grid, axis), begin, line(size, axis), np.float32)
                    check_threshold(logits, line(native, axis), begin, line(size, axis))


def test_random_parts_in_three_dimensions() -> None:
    check_random_parts()


@pytest.mark.parametrize("wanted", SETS)
def test_random_parts_with_every_instruction_set(wanted: str) -> None:
    used = SETS[min(SETS.index(wanted), SETS.index(instruction_set()))]
    environment = os.environ | {"LNFAST_ISA": wanted, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    assert process.stdout.split() == [used], process.stderr


@pytest.mark.parametrize("dtype", DTYPES)
def test_types_and_layouts_of_volumes(dtype: str) -> None:
    rng = np.random.default_rng(4)
    volume = rng.normal(50, 30, (5, 9, 40)).clip(0, 120).astype(dtype)
    for view in oracles.layouts(volume):
        for start, shape in parts((8, 12, 50), rng, 4):
            check_resample(view, (8, 12, 50), start, shape, np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_layouts_of_logits_and_masks(dtype: str) -> None:
    rng = np.random.default_rng(5)
    logits, native = rng.normal(size=(8, 12, 70)).astype(dtype), (5, 20, 33)
    for start, shape in parts(logits.shape, rng, 4):
        wanted = np.empty(native, np.uint8)
        threshold_resample(logits, wanted, LEVEL)
        wanted &= oracles.supported(native, logits.shape, start, shape)
        for view in oracles.layouts(logits[box(start, shape)]):
            for out in oracles.layouts(np.full(native, 7, np.uint8)):
                out.flags.writeable = True
                assert threshold_resample(view, out, LEVEL, grid=logits.shape, start=start) == wanted.sum()
                np.testing.assert_array_equal(out, wanted)


def test_a_large_part_whose_stores_go_past_the_caches() -> None:
    volume = np.random.default_rng(6).normal(50, 30, (20, 100, 120)).astype(np.int16)
    check_resample(volume, (64, 160, 200), (0, 8, 24), (64, 136, 163), np.float32)


def test_what_lies_under_other_parts_is_not_read() -> None:
    volume = np.random.default_rng(7).normal(50, 30, (6, 12, 40)).astype(np.float32)
    grid, start, shape = (9, 30, 64), (3, 10, 20), (4, 9, 30)
    axes = zip(volume.shape, grid, start, shape, strict=True)
    z, y, x = (oracles.weights(n, m)[a : a + k].any(axis=0) for n, m, a, k in axes)
    hidden = np.where(z[:, None, None] & y[:, None] & x, volume, np.float32(np.nan))
    assert np.isnan(hidden).mean() > 0.5
    whole, part = np.empty(grid, np.float32), np.empty(shape, np.float32)
    resample_normalize(volume, whole, **SCALE)
    resample_normalize(hidden, part, grid=grid, start=start, **SCALE)
    assert part.tobytes() == whole[box(start, shape)].tobytes()


def test_threads_do_not_change_a_bit() -> None:
    rng = np.random.default_rng(8)
    volume, logits = rng.normal(50, 30, (9, 70, 50)).astype(np.int16), rng.normal(0, 1, (12, 60, 70)).astype(np.float32)

    def run(threads: int) -> None:
        check_resample(volume, (12, 130, 60), (2, 17, 5), (9, 90, 50), np.float32, threads=threads)
        check_threshold(logits, (9, 70, 50), (2, 9, 4), (9, 40, 64), threads=threads)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, [0, 1, 2, 3, 5, 8, 64, 2] * 2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_logit_in_the_part_is_refused_though_no_voxel_needs_it(bad: float) -> None:
    logits = np.zeros((3, 4, 5), np.float32)
    logits[1, 2, 3] = bad
    out = np.full((2, 2, 2), 9, np.uint8)
    with pytest.raises(ValueError, match="non-finite"):
        threshold_resample(logits, out, 0.0, grid=(40, 40, 40), start=(1, 1, 1))
    assert (out == 9).all()


def test_a_part_that_is_enough_for_no_voxel_gives_none() -> None:
    out = np.full((2, 2, 2), 9, np.uint8)
    part = np.full((1, 1, 1), 5.0, np.float32)
    assert threshold_resample(part, out, 0.0, grid=(8, 8, 8), start=(0, 0, 0)) == 0
    assert not out.any()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_probabilities_are_those_of_the_whole(dtype: str) -> None:
    rng = np.random.default_rng(9)
    for native, grid in SHAPES:
        logits = rng.normal(0, 1, grid).astype(dtype)
        for start, shape in parts(grid, rng, 5):
            part, mask = alone(logits, box(start, shape)), np.empty(native, np.uint8)
            threshold_resample(part, mask, LEVEL, grid=grid, start=start)
            mask[rng.random(native) < 0.5] = 0
            labels, count = label_components(mask)
            wanted = measure_components(labels, count, np.eye(4), logits=logits)
            result = measure_components(labels, count, np.eye(4), logits=part, grid=grid, start=start)
            assert result.tobytes() == wanted.tobytes()


def test_labels_that_need_logits_beyond_the_part_are_refused() -> None:
    """Every voxel alone: measured where the part is enough for it, refused elsewhere, and never read beyond."""
    native, grid, start, shape = (3, 4, 6), (5, 4, 4), (1, 1, 0), (3, 2, 3)
    logits = np.random.default_rng(10).normal(0, 1, grid).astype(np.float32)
    part, enough = alone(logits, box(start, shape)), oracles.supported(native, grid, start, shape)
    assert 0 < np.count_nonzero(enough) < enough.size
    for at in np.ndindex(native):
        labels = np.zeros(native, np.int32)
        labels[at] = 1
        if enough[at]:
            wanted = measure_components(labels, 1, np.eye(4), logits=logits)
            result = measure_components(labels, 1, np.eye(4), logits=part, grid=grid, start=start)
            assert result.tobytes() == wanted.tobytes()
        else:
            with pytest.raises(ValueError, match="label 1 has voxels beyond the logits"):
                measure_components(labels, 1, np.eye(4), logits=part, grid=grid, start=start)


FINE = np.zeros((2, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("grid", "start", "error"),
    [
        ((2, 3, 3), (0, 0, 0), ValueError),
        ((9, 9, 9), (0, 0, -1), ValueError),
        ((9, 9, 9), (8, 0, 0), ValueError),
        ((9, 9, 9), (0, 7, 0), ValueError),
        ((9, 9), (0, 0, 0), ValueError),
        ((9, 9, 9), (0, 0), ValueError),
        ((9, 9, 1 << 31), (0, 0, 0), ValueError),
        ((9, 9, 1 << 70), (0, 0, 1 << 69), ValueError),
        ((-9, 9, 9), (0, 0, 0), ValueError),
        (None, (0, 0, 1), ValueError),
        ((9, 9, 9.5), (0, 0, 0), TypeError),
        (9, (0, 0, 0), TypeError),
        ((9, 9, 9), None, TypeError),
    ],
)
def test_refused_parts(grid: Any, start: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        resample_normalize(FINE, FINE.copy(), grid=grid, start=start, **SCALE)
    mask = np.full((2, 2, 2), 9, np.uint8)
    with pytest.raises(error):
        threshold_resample(FINE, mask, 0.0, grid=grid, start=start)
    assert (mask == 9).all()
    with pytest.raises(error):
        measure_components(np.ones((2, 2, 2), np.uint8), 1, np.eye(4), logits=FINE, grid=grid, start=start)


def test_a_grid_may_be_anything_that_counts() -> None:
    out = np.full((2, 2, 2), 9, np.uint8)
    assert threshold_resample(FINE + 1, out, 0.0, grid=np.array([2, 3, 4]), start=[0, 0, 0]) == 8


def test_an_empty_part_is_no_work() -> None:
    resample_normalize(FINE, np.empty((0, 4, 4), np.float32), grid=(5, 5, 5), start=(5, 1, 0), **SCALE)


if __name__ == "__main__":
    check_random_parts()
    sys.stdout.write(instruction_set() + "\n")
