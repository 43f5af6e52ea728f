"""body_statistics against its slow oracle, and what it must not depend on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import oracles
import pytest
from numpy.typing import NDArray

from lnfast_ext import BodyStatistics, body_statistics

TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]


def patient(seed: int, shape: tuple[int, int, int] = (9, 37, 46)) -> NDArray[np.float64]:
    """A bright ellipse with a few brighter spots, in noise."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    image = np.where(x * x / 0.8 + y * y / 0.6 < 1, 30.0, 0.0) + np.zeros(shape)
    for _ in range(6):
        z, v, u = rng.integers(0, shape)
        image[z : z + 2, v : v + 3, u : u + 3] += 70
    return np.hypot(image + rng.normal(0, 4, shape), rng.normal(0, 4, shape))


def padded(seed: int, dtype: str) -> NDArray[np.generic]:
    """A patient with padding at the rim, inside, or nowhere, of any value that the type holds."""
    rng = np.random.default_rng([seed, 1])
    array = np.rint(patient(seed)).astype(dtype)
    limits = np.iinfo(dtype) if array.dtype.kind in "iu" else np.finfo(dtype)
    values = [limits.min, limits.max, 0, 1, 100, int(array.max()), 30]
    for _ in range(int(rng.integers(0, 3))):
        value = values[rng.integers(len(values))]
        place = rng.integers(5)
        if place == 0:
            array[:, :, : rng.integers(1, 6)] = value
        elif place == 1:
            array[: rng.integers(1, 3)] = value
        elif place == 2:
            array[:, : rng.integers(1, 5)] = value
            array[:, :, -2:] = value
        elif place == 3:
            array[:, 10:20, 12 : 12 + rng.integers(7, 14)] = value
        else:
            array[rng.random(array.shape) < 0.01] = value
    return array


def check(got: BodyStatistics, array: NDArray[np.generic]) -> None:
    wanted = oracles.body_statistics(array)
    assert sorted(got.padding.tolist()) == wanted.pop("padding")
    greys = wanted.pop("greys")
    if greys <= 4096 and float(array.max()) - float(array.min()) < 65536 and array.dtype.kind in "iu":
        assert got.greys == greys
    for name, value in wanted.items():
        assert getattr(got, name) == pytest.approx(value, rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("seed", range(8))
def test_it_agrees_with_the_oracle(seed: int, dtype: str) -> None:
    array = padded(seed, dtype)
    check(body_statistics(array), array)


@pytest.mark.parametrize("length", range(1, 20))
def test_runs_of_any_length_at_any_place_are_counted(length: int) -> None:
    array = np.rint(patient(3, (8, 32, 40))).astype(np.int16)
    for start in range(0, 40 - length + 1, 3):
        filled = array.copy()
        filled[:, :, start : start + length] = 32000
        check(body_statistics(filled), filled)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 5), (2, 9, 4), (20, 5, 8), (3, 64, 7)])
def test_any_shape_is_measured(shape: tuple[int, int, int]) -> None:
    array = np.random.default_rng(5).integers(0, 1000, shape).astype(np.int16)
    got = body_statistics(array)
    assert got.voxels == array.size
    assert got.floor == pytest.approx(np.percentile(array, 2))


def test_strides_threads_and_read_only_memory_change_nothing() -> None:
    array = padded(7, "int16")
    wanted = body_statistics(array)
    view = np.asfortranarray(array)[:, ::-1][:, ::-1]
    backward = np.ascontiguousarray(array[:, :, ::-1])[:, :, ::-1]
    backward.flags.writeable = False
    for same in (view, backward):
        for threads in (1, 2, 5):
            got = body_statistics(same, threads=threads)
            assert got[:13] == wanted[:13]
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(body_statistics, [array] * 24):
            assert got[:13] == wanted[:13]


def test_a_scale_and_an_offset_change_the_unit_alone() -> None:
    array = patient(11)
    plain, scaled = body_statistics(array), body_statistics(array * 8 - 1000)
    for name in ("floor", "tissue", "level", "low", "median", "high"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name) * 8 - 1000, rel=1e-9)
    for name in ("body_share", "bright_share", "bright_patch", "voxels"):
        assert getattr(scaled, name) == getattr(plain, name)


@pytest.mark.parametrize("value", [-1.7e308, -3.4e38, -1024.0, 4095.0, 1.7e308])
def test_padding_of_any_size_moves_nothing(value: float) -> None:
    array = patient(13)
    corner = np.add.outer(np.arange(array.shape[1]), np.arange(array.shape[2])) < 12
    array[:, corner] = 0.0
    wanted = body_statistics(array)
    array[:, corner] = value
    got = body_statistics(array)
    assert got[:13] == wanted[:13]
    assert got.padding.tolist() == [value]
    assert got.padding_voxels.tolist() == [corner.sum() * len(array)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_voxel_that_is_no_number_is_refused(bad: float) -> None:
    array = patient(17)
    array[3, 4, 5] = bad
    with pytest.raises(ValueError, match="non-finite"):
        body_statistics(array)


def test_a_blank_volume_has_no_tissue_above_its_floor() -> None:
    got = body_statistics(np.full((4, 40, 40), 7, np.int16))
    assert got.tissue == got.floor
    assert got.body_share == 0


@pytest.mark.parametrize(
    "array", [np.zeros((0, 4, 4), np.int16), np.zeros((4, 4), np.int16), np.zeros((2, 4, 4), bool)]
)
def test_what_is_no_volume_is_refused(array: NDArray[np.generic]) -> None:
    with pytest.raises((TypeError, ValueError), match="volume"):
        body_statistics(array)
