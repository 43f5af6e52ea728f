"""resample_normalize, threshold_resample and intensity_statistics against dense float64 matrices, numpy and torch."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from numpy.typing import NDArray

from lnfast_ext import intensity_statistics, resample_normalize, threshold_resample

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
WINDOW: dict[str, Any] = {"lo": 10.0, "hi": 90.0, "shift": 50.0, "scale": 0.05}
SHAPES = [
    ((1, 1, 1), (3, 4, 5)),
    ((2, 3, 4), (2, 3, 4)),
    ((5, 7, 9), (1, 1, 1)),
    ((6, 40, 33), (9, 70, 20)),
    ((3, 5, 64), (13, 66, 31)),
]


def voxels(shape: tuple[int, ...], dtype: str, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).normal(50, 30, shape).clip(0, 120).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("source", "target"), SHAPES)
def test_normalize_agrees_with_the_oracle(dtype: str, source: tuple[int, ...], target: tuple[int, ...]) -> None:
    volume = voxels(source, dtype)
    wanted = oracles.normalize(volume, target, **WINDOW)
    for view in oracles.layouts(volume):
        out = np.full(target, np.nan, np.float32)
        resample_normalize(view, out, **WINDOW)
        np.testing.assert_allclose(out, wanted, atol=4e-6 * 4)
        half = np.full(target, np.nan, np.float16)
        resample_normalize(view, half, **WINDOW)
        np.testing.assert_array_equal(half, out.astype(np.float16))


@pytest.mark.parametrize(("source", "target"), SHAPES)
def test_normalize_agrees_with_torch(source: tuple[int, int, int], target: tuple[int, int, int]) -> None:
    volume = voxels(source, "float32")
    out = np.empty(target, np.float32)
    resample_normalize(volume, out, lo=-np.inf, hi=np.inf, shift=0, scale=1)
    tensor = torch.from_numpy(volume.astype(np.float64))[None, None]
    wanted = torch.nn.functional.interpolate(tensor, size=target, mode="trilinear", align_corners=False)
    np.testing.assert_allclose(out, wanted[0, 0].numpy(), atol=120e-5)


def test_the_same_grid_is_copied_exactly() -> None:
    volume = voxels((5, 6, 7), "float32")
    out = np.empty_like(volume)
    resample_normalize(volume, out, lo=-1e9, hi=1e9, shift=0, scale=1)
    np.testing.assert_array_equal(out, volume)


def test_a_large_shift_does_not_eat_the_digits() -> None:
    volume = (voxels((4, 5, 6), "int32") + 2_000_000_000).astype(np.int32)
    out = np.empty((4, 5, 6), np.float32)
    resample_normalize(volume, out, lo=-np.inf, hi=np.inf, shift=2e9, scale=1)
    np.testing.assert_array_equal(out, volume - 2_000_000_000)


def test_nan_stays_nan() -> None:
    volume = voxels((3, 3, 3), "float32")
    volume[1, 1, 1] = np.nan
    out = np.empty((3, 3, 3), np.float32)
    resample_normalize(volume, out, **WINDOW)
    assert np.isnan(out[1, 1, 1])


def test_float16_rounds_as_numpy_does() -> None:
    """Random bit patterns, all halves, all midpoints between halves and their neighbours."""
    rng = np.random.default_rng(0)
    random = rng.integers(0, 1 << 32, 200_000, dtype=np.uint32).view(np.float32)
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middle = (halves[:-1] + halves[1:]) / 2
    edge = np.array([65504, 65519.996, 65520, 65536, 2**-24, 2**-25, 2**-26, 0.0], np.float32)
    values = np.concatenate(
        [random, halves, middle, np.nextafter(middle, np.float32(9e9)), np.nextafter(middle, 0), edge]
    )
    values = np.concatenate([values, -values])[np.newaxis, np.newaxis]
    values = values[np.abs(values) < 1e38][np.newaxis, np.newaxis]  # differences of neighbours must stay finite
    out = np.empty(values.shape, np.float16)
    resample_normalize(values, out, lo=-np.inf, hi=np.inf, shift=0, scale=1)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(out, values.astype(np.float16))


def test_threads_do_not_change_a_bit() -> None:
    volume = voxels((9, 70, 50), "int16")
    logits = voxels((9, 70, 50), "float32") - 50
    wanted, ones = np.empty((12, 130, 60), np.float32), np.empty((12, 130, 60), np.uint8)
    resample_normalize(volume, wanted, threads=1, **WINDOW)
    count = threshold_resample(logits, ones, 0.3, threads=1)

    def run(threads: int) -> tuple[NDArray[Any], NDArray[Any], int]:
        out, mask = np.empty_like(wanted), np.empty_like(ones)
        resample_normalize(volume, out, threads=threads, **WINDOW)
        return out, mask, threshold_resample(logits, mask, 0.3, threads=threads)

    with ThreadPoolExecutor(8) as pool:
        for out, mask, n in pool.map(run, [0, 1, 2, 3, 5, 8, 64, 2] * 2):
            np.testing.assert_array_equal(out, wanted)
            np.testing.assert_array_equal(mask, ones)
            assert n == count


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("source", "target"), SHAPES)
def test_threshold_agrees_with_the_oracle(dtype: str, source: tuple[int, ...], target: tuple[int, ...]) -> None:
    logits = np.random.default_rng(1).normal(size=source).astype(dtype)
    wanted = oracles.resample(logits, target)
    certain = np.abs(wanted - 0.25) > 1e-12
    for view in oracles.layouts(logits):
        for out in oracles.layouts(np.zeros(target, np.uint8)):
            out.flags.writeable = True
            count = threshold_resample(view, out, 0.25)
            np.testing.assert_array_equal(out[certain], (wanted > 0.25)[certain])
            assert count == np.count_nonzero(out)


def test_a_logit_equal_to_the_level_is_background() -> None:
    for level in (0.0, 0.1, -3.7, 1e30):
        out = np.full((5, 6, 7), 7, np.uint8)
        field = np.full((2, 3, 4), level, np.float32)
        assert threshold_resample(field, out, float(np.float32(level))) == 0
        assert not out.any()
        assert threshold_resample(field, out, float(np.nextafter(np.float32(level), np.float32(-9e30)))) == out.size


def test_huge_logits_do_not_overflow() -> None:
    logits = np.array([[[-3e38, 3e38]]], np.float32)
    out = np.empty((1, 1, 64), np.uint8)
    assert threshold_resample(logits, out, 0.0) == 32
    assert out[0, 0, 32:].all()


def test_every_half_is_read_exactly() -> None:
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16)
    out = np.empty((1, 1, 1), np.uint8)
    for half in halves[::97]:
        for sign in (1, -1):
            logits = np.array([[[sign * half]]], np.float16)
            assert threshold_resample(logits, out, float(logits[0, 0, 0])) == 0
            assert threshold_resample(logits, out, float(np.nextafter(np.float64(logits[0, 0, 0]), -1e9))) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_non_finite_logit_is_refused_and_nothing_written(bad: float, dtype: str) -> None:
    logits = np.zeros((8, 8, 8), dtype)
    logits[3, 5, 7] = bad
    out = np.full((2, 2, 2), 9, np.uint8)  # so coarse that the bad voxel has no weight
    with pytest.raises(ValueError, match="non-finite"):
        threshold_resample(logits, out, 0.0)
    assert (out == 9).all()


def test_empty_output_is_no_work() -> None:
    resample_normalize(voxels((2, 2, 2), "int16"), np.empty((0, 4, 4), np.float32), **WINDOW)
    assert threshold_resample(np.zeros((2, 2, 2), np.float32), np.empty((3, 0, 2), np.uint8), 0.0) == 0


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 2), (3, 4, 5), (12, 30, 31)])
def test_statistics_agree_with_numpy(dtype: str, shape: tuple[int, ...]) -> None:
    percents = (99.5, 0.5, 0, 100, 50, 50, 33.3, 75)
    for seed in range(3):
        volume = voxels(shape, dtype, seed)
        exact = volume.astype(np.float64)
        for view in oracles.layouts(volume):
            low, high, mean, std, got = intensity_statistics(view, percents)
            assert (low, high) == (exact.min(), exact.max())
            np.testing.assert_allclose([mean, std], [exact.mean(), exact.std()], rtol=1e-12, atol=1e-12)
            np.testing.assert_array_equal(got, np.percentile(exact, percents))
            for few in ((0.5, 99.5), (90, 20, 40)):
                *ends, mean, std, got = intensity_statistics(view, few, clipped=True)
                clipped = exact.clip(got.min(), got.max())
                assert ends == [exact.min(), exact.max()]
                np.testing.assert_allclose([mean, std], [clipped.mean(), clipped.std()], rtol=1e-12, atol=1e-12)
                np.testing.assert_array_equal(got, np.percentile(exact, few))


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_of_extreme_values(dtype: str) -> None:
    limits = np.iinfo(dtype) if np.dtype(dtype).kind != "f" else np.finfo(dtype)
    scale = 1 if np.dtype(dtype).kind != "f" else 1e-160  # squares must stay finite
    volume = np.array([limits.min, limits.max, 0, 1, limits.max], dtype).reshape(1, 5, 1) * np.dtype(dtype).type(scale)
    exact = volume.astype(np.float64)
    low, high, mean, std, (median,) = intensity_statistics(volume, (50,))
    assert (low, high, median) == (exact.min(), exact.max(), np.median(exact))
    np.testing.assert_allclose([mean, std], [exact.mean(), exact.std()], rtol=1e-12)


def test_statistics_beyond_float64_are_infinite_and_not_nan() -> None:
    assert intensity_statistics(np.full((1, 1, 3), 1.7e308))[2] == np.inf
    assert intensity_statistics(np.array([[[1e300, -1e300]]]))[3] == np.inf
    for tiny in (4.7e-281, 1e-300, 4e-323):  # a deviation whose square is 0
        assert intensity_statistics(np.array([[[tiny, 0.0]]]))[3] == pytest.approx(tiny / 2, rel=1e-12)


def test_statistics_in_threads_and_without_percentiles() -> None:
    volume = voxels((8, 20, 20), "float32")
    wanted = intensity_statistics(volume)
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(intensity_statistics, [volume] * 16):
            assert got[:4] == wanted[:4]
            np.testing.assert_array_equal(got[4], wanted[4])
    assert intensity_statistics(volume, ())[4].shape == (0,)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_statistics_refuse_what_is_not_a_number(bad: float) -> None:
    for dtype in (np.float32, np.float64):
        volume = np.zeros((2, 2, 2), dtype)
        volume[1, 0, 1] = bad
        with pytest.raises(ValueError, match="non-finite"):
            intensity_statistics(volume)


FINE = np.zeros((2, 2, 2), np.float32)


@pytest.mark.parametrize(
    ("volume", "error"),
    [
        ([[[1.0]]], TypeError),
        (np.zeros((2, 2, 2), bool), TypeError),
        (np.zeros((2, 2, 2), np.complex64), TypeError),
        (np.zeros((2, 2, 2), ">i2"), TypeError),
        (np.zeros((2, 2), np.int16), ValueError),
        (np.zeros((0, 2, 2), np.int16), ValueError),
        (np.zeros(9, np.uint8)[1:].view(np.uint8).reshape(2, 2, 2)[:, :, :0], ValueError),
        (np.frombuffer(b"\0" * 17, np.uint8)[1:].view(np.int16).reshape(2, 2, 2), ValueError),
    ],
)
def test_refused_volumes(volume: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="volume"):
        resample_normalize(volume, np.zeros((2, 2, 2), np.float32), **WINDOW)
    with pytest.raises(error, match="volume"):
        intensity_statistics(volume)


@pytest.mark.parametrize(
    "change", [{"lo": 5, "hi": 1}, {"lo": np.nan}, {"shift": np.inf}, {"scale": np.nan}, {"threads": -1}]
)
def test_refused_windows(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        resample_normalize(FINE, np.zeros((2, 2, 2), np.float32), **{**WINDOW, **change})


def test_refused_outputs() -> None:
    frozen = np.zeros((2, 2, 2), np.float32)
    frozen.flags.writeable = False
    for out, error in (
        (frozen, ValueError),
        (np.zeros((2, 2, 4), np.float32)[:, :, ::2], ValueError),
        (np.zeros((2, 2), np.float32), ValueError),
        (np.zeros((2, 2, 2)), TypeError),
    ):
        with pytest.raises(error, match="out"):
            resample_normalize(FINE, out, **WINDOW)
    mask = np.zeros((2, 2, 2), np.uint8)
    mask.flags.writeable = False
    for target, error in (
        (mask, ValueError),
        (np.zeros((2, 2, 2), bool), TypeError),
        (np.zeros(3, np.uint8), ValueError),
    ):
        with pytest.raises(error, match="out"):
            threshold_resample(FINE, target, 0.0)
    with pytest.raises(TypeError, match="logits"):
        threshold_resample(FINE.astype(np.float64), np.zeros((2, 2, 2), np.uint8), 0.0)
    with pytest.raises(ValueError, match="level"):
        threshold_resample(FINE, np.zeros((2, 2, 2), np.uint8), float("nan"))


@pytest.mark.parametrize("percentiles", [(101,), (-1,), (np.nan,), ((1, 2), (3, 4))])
def test_refused_percentiles(percentiles: Any) -> None:
    with pytest.raises(ValueError, match="percentiles"):
        intensity_statistics(FINE, percentiles)
