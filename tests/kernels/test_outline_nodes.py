"""Nodes taken apart and outlined at the half maximum, against SciPy and against what is known of the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.peers.outlines import numbered, outline_at_half_maximum
from lnfast_ext import label_components, number_nodes, outline_nodes

LEVELS = {"join": -1.4, "seed": 1.4, "sure": 2.2}
SPACING_MM = (3.0, 1.5, 1.25)


def outlined(labels: NDArray[np.uint16], image: NDArray[Any], logits: NDArray[Any], **changes: Any) -> Any:
    """Return the kernel's labels, numbered."""
    result = labels.copy()
    arguments = LEVELS | {"spacing_mm": SPACING_MM} | changes
    count = outline_nodes(result, int(labels.max(initial=0)), image, logits, **arguments)
    number_nodes(result, count)
    assert set(np.unique(result)) - {0} == set(range(1, count + 1))
    return result


def by_scipy(labels: NDArray[np.uint16], image: NDArray[Any], logits: NDArray[Any]) -> Any:
    masks = tuple(logits > level for level in LEVELS.values())
    return numbered(outline_at_half_maximum(labels, image, masks, SPACING_MM))  # type: ignore[arg-type]


def random_study(seed: int) -> tuple[NDArray[np.uint16], NDArray[np.float32], NDArray[np.float32]]:
    """Blobs that touch, rings and noise; the logits agree with the image more or less."""
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 8)), int(rng.integers(3, 40)), int(rng.integers(3, 40)))
    smooth = (0.7, 1.3, 1.3)
    bright = ndimage.gaussian_filter(rng.normal(size=shape), smooth)
    logits = 12 * bright / bright.std() - float(rng.uniform(6, 14)) + rng.normal(0, rng.uniform(0, 3), shape)
    image = 100 + 60 * bright / bright.std() + rng.normal(0, rng.uniform(0, 20), shape)
    if rng.random() < 0.5:  # dark hila
        image = np.where(bright > 2.2 * bright.std(), 100, image)
    labels, _ = label_components(logits > 0)
    return labels.astype(np.uint16), image.astype(np.float32), logits.astype(np.float32)


@pytest.mark.parametrize("seed", range(60))
def test_as_scipy_does_it(seed: int) -> None:
    labels, image, logits = random_study(seed)
    np.testing.assert_array_equal(outlined(labels, image, logits), by_scipy(labels, image, logits))


def test_random_studies_try_every_part_of_the_rule() -> None:
    apart = joined = lost = untouched = 0
    for seed in range(60):
        labels, image, logits = random_study(seed)
        result = outlined(labels, image, logits)
        apart += int(result.max(initial=0)) > int(labels.max(initial=0))
        joined += int(((result > 0) & (labels == 0)).sum())
        lost += int(((result == 0) & (labels > 0)).sum())
        untouched += int((result == labels).all())
    assert apart > 10
    assert joined > 100
    assert lost > 100
    assert 0 < untouched < 30


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_every_type_of_voxel_and_float16_logits(dtype: str) -> None:
    labels, image, logits = random_study(7)
    image = image.clip(0, 255).astype(dtype)
    logits = logits.astype(np.float16)
    np.testing.assert_array_equal(outlined(labels, image, logits), by_scipy(labels, image, logits))


def test_strides_do_not_matter() -> None:
    labels, image, logits = random_study(11)
    wanted = outlined(labels, image, logits)
    turned = tuple(np.ascontiguousarray(array[:, ::-1].transpose(0, 2, 1)) for array in (labels, image, logits))
    again = tuple(array.transpose(0, 2, 1)[:, ::-1] for array in turned)
    np.testing.assert_array_equal(outlined(*again), wanted)


def ball(shape: tuple[int, int, int], centre: tuple[float, ...], radius: float) -> NDArray[np.float64]:
    """Return a ball blurred as by a scanner: 1 within, 0 outside, 0.5 at its edge."""
    place = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))
    finer = 1 / (1 + np.exp((np.sqrt((place**2).sum(0)) - radius) / 0.3))
    return np.asarray(finer)


def test_the_edge_is_where_the_image_is_halfway_whatever_the_network_drew() -> None:
    truth = ball((9, 30, 30), (4, 15, 15), 4.0)
    image = 80 + 700 * truth
    for drawn in (2.6, 3.4, 4.0, 4.6):  # the radius of the mark
        logits = (8 * (ball((9, 30, 30), (4, 15, 15), drawn) - 0.5)).astype(np.float32)
        logits = np.where(ball((9, 30, 30), (4, 15, 15), drawn + 1.2) > 0.5, np.maximum(logits, -1.0), logits)
        labels = (logits > 0).astype(np.uint16)
        result = outlined(labels, image, logits, sure=3.9)
        if drawn < 3:  # one voxel is as far as a node grows
            assert (labels > 0).sum() < (result > 0).sum() < (truth > 0.5).sum()
        else:
            assert ((result > 0) != (truth > 0.5)).sum() <= 6  # six tips of one voxel, alone at their sides


def test_two_nodes_in_one_mark_are_taken_apart() -> None:
    both = ball((7, 30, 40), (3, 15, 14), 3.0) + ball((7, 30, 40), (3, 15, 22), 3.0)
    logits = (6 * both - 2.6).astype(np.float32)
    logits[3, 15, 17:20] = np.maximum(logits[3, 15, 17:20], 0.2)  # a bridge
    labels, count = label_components(logits > 0)
    assert count == 1
    result = outlined(labels.astype(np.uint16), 50 + 400 * both, logits)
    assert result.max() == 2
    first, second = (np.argwhere(result == label).mean(0) for label in (1, 2))
    assert abs(second[2] - first[2]) == pytest.approx(8, abs=0.5)


def block(core: float, border: float, dip: float) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
    """A mark of 4 x 9 x 6 voxels whose halves are `core` sure, but for one row of `dip` between them."""
    logits = np.full((6, 17, 14), -6.0, np.float32)
    logits[1:5, 4:13, 4:10] = border
    logits[1:5, 5:12, 5:9] = core
    logits[1:5, 8, 4:10] = dip
    return (logits > 0).astype(np.uint16), logits


@pytest.mark.parametrize(("core", "dip", "nodes"), [(1.8, 1.3, 1), (1.8, 0.2, 1), (2.6, 1.5, 1), (2.6, 1.3, 2)])
def test_a_shallow_dip_is_no_gap(core: float, dip: float, nodes: int) -> None:
    """Only between two parts that the network is sure of: else noise would make two small nodes of a large one."""
    labels, logits = block(core, core, dip)
    assert outlined(labels, 100 + 300 * (labels > 0), logits).max() == nodes


def test_a_few_bright_voxels_do_not_outweigh_the_node() -> None:
    labels, logits = block(1.9, 1.9, 1.9)
    image = np.where(labels > 0, 400.0, 100.0)
    image[2:4, 6:11, 6:8] = 3000.0  # 20 of 216 voxels: more than a tenth in the slices that hold them
    image[1:5, 5, 5:9] = 3000.0
    np.testing.assert_array_equal(outlined(labels, image, logits), labels)


def test_only_the_border_is_taken_away() -> None:
    labels, logits = block(1.9, 1.9, 1.9)
    image = np.where(labels > 0, 150.0, 100.0)
    image[1:5, 4:13, 4:6] = image[1:5, 4:13, 8:10] = 1000.0  # bright at two sides, dim between them
    inner = np.zeros(labels.shape, bool)
    inner[2:4, 5:12, 5:9] = True
    assert outlined(labels, image, logits)[inner].all()


def test_a_speck_changes_nothing_else() -> None:
    labels, logits = block(1.9, 1.9, 1.9)
    image = np.where(labels > 0, 150.0, 100.0)
    image[1:5, 5:10, 5:9] = 1000.0
    speck = image.copy()
    speck[1, 12, 4] = 1000.0
    np.testing.assert_array_equal(outlined(labels, speck, logits), outlined(labels, image, logits))


@pytest.mark.parametrize("fill", [0.0, -2000.0, -32768.0])
def test_padding_below_the_floor_is_air(fill: float) -> None:
    labels, logits = block(1.9, 1.9, 1.9)
    image = np.where(labels > 0, 900.0, 300.0)
    image[:, :, 11:] = image[:, :3] = fill
    air = np.maximum(image, 40.0)
    np.testing.assert_array_equal(outlined(labels, image, logits, floor=40.0), outlined(labels, air, logits))


def test_extreme_values_are_no_overflow() -> None:
    labels, logits = block(1.9, 1.9, 1.9)
    image = np.where(labels > 0, 1e308, -1e308)
    np.testing.assert_array_equal(outlined(labels, image, logits), labels)


def test_a_mark_in_pieces_is_refused() -> None:
    labels, logits = block(2.6, 2.6, -6.0)
    labels[1:5, 4:13, 4:10] = 1
    labels[1:5, 8] = 0
    labels[:, 15:, 12:] = 1
    with pytest.raises(ValueError, match="not connected"):
        outlined(labels, 100.0 * labels, logits)


def test_a_dark_hilum_stays_in_the_node() -> None:
    ring = ball((5, 30, 30), (2, 15, 15), 6.0) - ball((5, 30, 30), (2, 15, 15), 2.5)
    logits = (8 * ball((5, 30, 30), (2, 15, 15), 6.0) - 4).astype(np.float32)
    logits[2, 14:17, 14:17] = 1.0  # the network is not sure of it
    labels = (logits > 0).astype(np.uint16)
    result = outlined(labels, 60 + 500 * ring, logits)
    assert (result[2, 14:17, 14:17] == 1).all()


def test_a_node_no_brighter_than_its_surroundings_stays_as_it_is() -> None:
    labels, _, logits = random_study(5)
    seeds = np.full(logits.shape, -9.0, np.float32)
    np.testing.assert_array_equal(outlined(labels, np.full(labels.shape, 7.0), logits, seed=99.0), numbered(labels))
    np.testing.assert_array_equal(outlined(labels, -logits, seeds), numbered(labels))


def test_logits_that_are_missing_exceed_nothing() -> None:
    labels, image, logits = random_study(3)
    height = logits.shape[1]
    part = logits[:, : height // 2]
    result = outlined(labels, image, part, grid=logits.shape, start=(0, 0, 0))
    beyond = np.zeros(labels.shape, bool)
    beyond[:, height // 2 :] = True
    assert not ((result > 0) & (labels == 0) & beyond).any()


def test_numbers_follow_the_order_of_first_voxels() -> None:
    labels = np.array([[[0, 3, 3], [1, 0, 3], [1, 2, 0]]], np.uint16)
    number_nodes(labels, 3)
    np.testing.assert_array_equal(labels, [[[0, 1, 1], [2, 0, 1], [2, 3, 0]]])
    with pytest.raises(ValueError, match="holds 3, wanted 0 to count = 2"):
        number_nodes(labels, 2)


def test_nothing_is_nothing() -> None:
    empty = np.zeros((0, 4, 4), np.uint16)
    assert outline_nodes(empty, 0, empty, np.zeros((1, 1, 1), np.float32), **LEVELS, spacing_mm=SPACING_MM) == 0
    none = np.zeros((2, 4, 4), np.uint16)
    assert outline_nodes(none, 0, none, np.zeros((2, 4, 4), np.float32), **LEVELS, spacing_mm=SPACING_MM) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.zeros((2, 4, 5))}, "image: got shape"),
        ({"labels": np.zeros((2, 4, 4), np.int32)}, "labels: got dtype int32"),
        ({"labels": np.full((2, 4, 4), 3, np.uint16)}, "labels holds 3"),
        ({"labels": np.ones((2, 4, 4), np.uint16), "image": np.full((2, 4, 4), np.nan)}, "non-finite"),
        ({"count": 2}, "no voxel of label 1"),
        ({"count": -1}, "count: got -1"),
        ({"join": np.nan}, "join"),
        ({"spacing_mm": (3.0, 1.0)}, "spacing_mm"),
        ({"spacing_mm": (3.0, 0.0, 1.0)}, "spacing_mm"),
        ({"grid": (1, 4, 4)}, "grid"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "labels": np.zeros((2, 4, 4), np.uint16),
        "count": 0,
        "image": np.zeros((2, 4, 4)),
        "logits": np.full((2, 4, 4), 5.0, np.float32),
        "spacing_mm": SPACING_MM,
        **LEVELS,
    } | changes
    if "image" in changes and np.isnan(changes["image"]).any():
        arguments["count"] = 1
    with pytest.raises((TypeError, ValueError), match=message):
        outline_nodes(**arguments)


def test_read_only_labels_are_refused() -> None:
    labels = np.zeros((2, 4, 4), np.uint16)
    labels.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        outline_nodes(labels, 0, labels, np.zeros((2, 4, 4), np.float32), **LEVELS, spacing_mm=SPACING_MM)
