"""label_components against flood fill, scipy and cc3d, on every tiny image and on built worst cases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import cc3d
import numpy as np
import oracles
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from lnfast_ext import Components, label_components

Connectivity = Literal[6, 18, 26]
CONNECTIVITIES: tuple[Connectivity, ...] = (6, 18, 26)
STRUCTURES = {6: 1, 18: 2, 26: 3}


def scipy_label(mask: NDArray[Any], connectivity: int) -> tuple[NDArray[Any], int]:
    labels, count = ndimage.label(mask, ndimage.generate_binary_structure(3, STRUCTURES[connectivity]))
    return labels, int(count)


def spiral(n: int) -> NDArray[np.uint8]:
    """One long path that winds inwards in a plane: a single component with a late, long chain of unions."""
    plane = np.zeros((n, n), np.uint8)
    y = x = 0
    dy, dx = 0, 1
    plane[0, 0] = 1
    for length in [n - 1] + [k for k in range(n - 1, 0, -2) for _ in range(2)]:
        for _ in range(length):
            if not (0 <= y + dy < n and 0 <= x + dx < n):
                break
            y, x = y + dy, x + dx
            plane[y, x] = 1
        dy, dx = dx, -dy
    return plane


def comb(n: int) -> NDArray[np.uint8]:
    """Teeth that meet only in the last row: every tooth is a label of its own until then."""
    mask = np.zeros((n, n, n), np.uint8)
    mask[:, :, ::2] = 1
    mask[-1, -1, :] = 1
    return mask


def worst_cases() -> dict[str, NDArray[Any]]:
    z, y, x = np.indices((16, 16, 16))
    stack = np.zeros((9, 25, 25), np.uint8)
    stack[::2] = spiral(25)
    stack[1::2, 0, 0] = 1
    return {
        "checkerboard": (z + y + x) % 2,
        "18-connected lattice": ((z + y) % 2 == 0) & ((y + x) % 2 == 0),
        "isolated voxels": (z % 2 == 0) & (y % 2 == 0) & (x % 2 == 0),
        "corners only": ((z + y + x) % 3 == 0),
        "spirals": stack,
        "comb": comb(16),
        "comb upside down": comb(16)[::-1, ::-1],
        "ones": np.ones((7, 8, 9), np.uint8),
        "zeros": np.zeros((7, 8, 9), np.uint8),
        "plane": np.ones((1, 5, 5), np.uint8),
        "line": np.array([[[1, 0, 1, 1, 0, 0, 1]]], np.uint8),
    }


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_every_tiny_image(connectivity: Connectivity) -> None:
    for mask in oracles.tiny_masks():
        labels, count = label_components(mask, connectivity=connectivity)
        wanted, n = scipy_label(mask, connectivity)
        assert count == n
        np.testing.assert_array_equal(labels, wanted)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_flood_fill_says_the_same(connectivity: Connectivity) -> None:
    for seed in range(12):
        rng = np.random.default_rng(seed)
        mask = rng.random(rng.integers(1, 12, 3)) < rng.uniform(0.1, 0.7)
        labels, count = label_components(mask, connectivity=connectivity)
        wanted, n = oracles.label(mask, connectivity)
        assert count == n
        np.testing.assert_array_equal(labels, wanted)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("name", worst_cases())
def test_worst_cases(name: str, connectivity: Connectivity) -> None:
    mask = worst_cases()[name].astype(np.uint8)
    labels, count = label_components(mask, connectivity=connectivity)
    wanted, n = scipy_label(mask, connectivity)
    assert count == n
    np.testing.assert_array_equal(labels, wanted)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_larger_images_agree_with_scipy_and_cc3d(connectivity: Connectivity) -> None:
    for seed, density in enumerate((0.02, 0.1, 0.2, 0.31, 0.5)):
        mask = np.random.default_rng(seed).random((20, 45, 67)) < density
        labels, count = label_components(mask, connectivity=connectivity)
        wanted, n = scipy_label(mask, connectivity)
        assert count == n
        np.testing.assert_array_equal(labels, wanted)
        theirs = cc3d.connected_components(mask.astype(np.uint8), connectivity=connectivity)
        assert len(np.unique(np.stack([labels.ravel(), theirs.ravel()]), axis=1).T) == n + 1


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_types_and_layouts(dtype: str) -> None:
    rng = np.random.default_rng(0)
    mask = (rng.integers(1, 100, (6, 9, 40)) * (rng.random((6, 9, 40)) < 0.3)).astype(dtype)
    if dtype.startswith("int"):
        mask[mask > 50] = -1
    wanted, n = scipy_label(mask != 0, 26)
    for view in oracles.layouts(mask):
        labels, count = label_components(view)
        assert labels.dtype == np.int32
        assert labels.flags.c_contiguous
        assert count == n
        np.testing.assert_array_equal(labels, wanted)


def test_out_is_written_and_returned() -> None:
    mask = np.random.default_rng(0).random((6, 7, 8)) < 0.3
    wanted, n = scipy_label(mask, 26)
    for dtype in (np.int32, np.uint32, np.uint16):
        for out in oracles.layouts(np.full(mask.shape, 77, dtype)):
            out.flags.writeable = True
            labels, count = label_components(mask, out)
            assert labels is out
            assert count == n
            np.testing.assert_array_equal(out, wanted)


def test_out_may_be_the_mask() -> None:
    mask = (np.random.default_rng(0).random((6, 7, 8)) < 0.3).astype(np.int32) * 5
    wanted, _ = scipy_label(mask, 26)
    label_components(mask, mask)
    np.testing.assert_array_equal(mask, wanted)


def test_uint16_holds_65535_labels_and_is_left_alone_beyond() -> None:
    mask = np.zeros((2, 512, 512), np.uint8)
    mask[0, ::2, ::2] = 1
    out = np.full(mask.shape, 7, np.uint16)
    with pytest.raises(ValueError, match="out: can not hold 65536 labels"):
        label_components(mask, out)
    assert (out == 7).all()
    mask[0, 0, 0] = 0
    labels, count = label_components(mask, out)
    assert count == labels.max() == 65535
    np.testing.assert_array_equal(labels, scipy_label(mask, 26)[0])


def test_rows_of_any_length_and_number() -> None:
    for shape in ((1, 1, 1_000_003), (1_000_003, 1, 1), (1, 1_000_003, 1), (3, 70_000, 5)):
        mask = np.random.default_rng(0).random(shape) < 0.3
        labels, count = label_components(mask)
        wanted, n = scipy_label(mask, 26)
        assert count == n
        np.testing.assert_array_equal(labels, wanted)


@pytest.mark.parametrize("density", [0.0, 1e-4, 0.2])
def test_large_volumes_with_little_and_much_in_them(density: float) -> None:
    mask = np.random.default_rng(0).random((8, 256, 256)) < density
    labels, count = label_components(mask)
    wanted, n = scipy_label(mask, 26)
    assert count == n
    np.testing.assert_array_equal(labels, wanted)
    assert labels.dtype == np.int32


def test_components_do_not_hold_on_to_the_mask() -> None:
    mask = (np.random.default_rng(0).random((6, 7, 80)) < 0.3).astype(np.uint8)
    wanted, n = scipy_label(mask, 26)
    components = Components(mask)
    mask[:] = 1
    assert components.count == n
    assert components.shape == mask.shape
    for _ in range(2):
        labels = components.label()
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(labels, wanted)


@pytest.mark.parametrize("shape", [(0, 3, 3), (3, 0, 3), (3, 3, 0), (0, 0, 0)])
def test_empty(shape: tuple[int, ...]) -> None:
    labels, count = label_components(np.zeros(shape, np.uint8))
    assert labels.shape == shape
    assert count == Components(np.zeros(shape, bool)).count == 0


def test_eight_threads_on_one_mask() -> None:
    mask = np.random.default_rng(1).random((20, 50, 50)) < 0.2
    mask.flags.writeable = False
    wanted, n = label_components(mask)
    with ThreadPoolExecutor(8) as pool:
        for labels, count in pool.map(label_components, [mask] * 24):
            assert count == n
            np.testing.assert_array_equal(labels, wanted)


MASK = np.zeros((2, 2, 2), np.uint8)


@pytest.mark.parametrize(
    ("mask", "out", "connectivity", "error", "match"),
    [
        ([[[1]]], None, 26, TypeError, "mask"),
        (MASK.astype(np.float32), None, 26, TypeError, "mask"),
        (MASK.astype(">i4"), None, 26, TypeError, "mask"),
        (MASK[0], None, 26, ValueError, "mask"),
        (MASK, None, 8, ValueError, "connectivity"),
        (MASK, MASK, 26, TypeError, "out"),
        (MASK, MASK.astype(np.int64), 26, TypeError, "out"),
        (MASK, np.zeros((2, 2, 3), np.int32), 26, ValueError, "out"),
        (MASK, np.broadcast_to(np.int32(0), (2, 2, 2)), 26, ValueError, "out"),
    ],
)
def test_refusals(mask: Any, out: Any, connectivity: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        label_components(mask, out, connectivity=connectivity)
