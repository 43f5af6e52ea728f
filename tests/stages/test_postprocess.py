"""From logits to labelled nodes on the native grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from blocks import SHAPE_ZYX, affine_of, make_card, stored_in_all_ways
from numpy.typing import NDArray
from scipy import ndimage

import lnfast.postprocess
from benchmarks.peers.outlines import numbered, outline_at_half_maximum
from lnfast.errors import EngineError, UsageError
from lnfast.geometry import Grid, Volume
from lnfast.postprocess import JOIN, SURE, segment


def two_blocks() -> NDArray[np.float32]:
    logits = np.full(SHAPE_ZYX, -4.0, np.float32)
    logits[1:3, 2:6, 2:6] = 4.0
    logits[5:7, 9:14, 8:12] = 4.0
    return logits


def native(shape: tuple[int, int, int] = SHAPE_ZYX) -> Grid:
    return Grid(shape, affine_of((1.5, 1.5, 6.0)))


def test_on_the_same_grid_the_mask_is_the_logits_over_the_level() -> None:
    segmentation = segment(two_blocks(), native(), make_card())
    assert segmentation.count == 2
    assert segmentation.labels.array.dtype == np.uint16
    assert segmentation.labels.grid == native()
    assert np.array_equal(segmentation.labels.array > 0, two_blocks() > 0)
    assert segmentation.labels.array[1, 2, 2] == 1
    assert segmentation.labels.array[5, 9, 8] == 2


def test_voxels_that_share_a_corner_are_one_node() -> None:
    logits = np.full(SHAPE_ZYX, -4.0, np.float32)
    logits[1, 1, 1] = logits[2, 2, 2] = 4.0
    assert segment(logits, native(), make_card()).count == 1


def test_the_card_s_threshold_is_a_probability() -> None:
    logits = np.full(SHAPE_ZYX, np.log(0.7 / 0.3), np.float32)
    assert segment(logits, native(), make_card(threshold=0.69)).count == 1
    assert segment(logits, native(), make_card(threshold=0.71)).count == 0


@pytest.mark.parametrize("orientation", ["LPS", "RAI"])
def test_a_node_that_nowhere_exceeds_the_peak_is_dropped_and_the_others_keep_their_order(orientation: str) -> None:
    """Against scipy, on a grid of the network's own voxels, where nothing is interpolated."""
    rng = np.random.default_rng(0)
    left = dropped = 0
    for _ in range(6):
        logits = ndimage.gaussian_filter(rng.normal(0, 12, SHAPE_ZYX), 0.9).astype(np.float32)
        card = make_card(threshold=0.6, peak=0.97, orientation=orientation)
        stored = Volume(np.zeros(SHAPE_ZYX, np.int16), native())
        segmentation = segment(logits, stored.grid, card)
        probability = np.empty(SHAPE_ZYX)
        Volume(probability, stored.grid).oriented(orientation).array[:] = 1 / (1 + np.exp(-logits.astype(np.float64)))
        numbered, count = ndimage.label(probability > 0.6, np.ones((3, 3, 3)))
        kept = [i for i in range(1, count + 1) if probability[numbered == i].max() > 0.97]
        wanted, faint = np.zeros((2, *SHAPE_ZYX), np.uint16)
        for new, old in enumerate(kept, start=1):
            wanted[numbered == old] = new
        others = sorted(set(range(1, count + 1)) - set(kept))
        for new, old in enumerate(others, start=1):
            faint[numbered == old] = new
        assert (segmentation.count, segmentation.faint_count) == (len(kept), len(others))
        assert (segmentation.faint is None) == (not others)
        assert segmentation.faint is None or np.array_equal(segmentation.faint.array, faint)
        assert segmentation.labels.array.dtype == np.uint16
        assert np.array_equal(segmentation.labels.array, wanted)
        left, dropped = left + len(kept), dropped + count - len(kept)
    assert left > 6 and dropped > 6


@pytest.mark.parametrize("orientation", ["LPS", "RAI"])
def test_outlines_at_the_half_maximum_are_those_of_scipy(orientation: str) -> None:
    """Whatever way the study is stored: slices, neighbours and numbers are the network's and the file's in turn."""
    rng = np.random.default_rng(3)
    card = make_card(threshold=0.6, peak=0.97, orientation=orientation, outline="half-maximum")
    changed = 0
    for _ in range(6):
        bright = ndimage.gaussian_filter(rng.normal(0, 12, SHAPE_ZYX), 0.9)
        logits = (bright + rng.normal(0, 1, SHAPE_ZYX)).astype(np.float32)
        likely = 1 / (1 + np.exp(-logits.astype(np.float64)))
        for stored in stored_in_all_ways(Volume((100 + 40 * bright).astype(np.int16), native())):
            drawn = segment(logits, stored.grid, replace(card, outline="threshold"))
            segmentation = segment(logits, stored.grid, card, image=stored)
            view = drawn.labels.oriented(orientation)
            masks = likely > JOIN, likely > 0.97, likely > SURE
            image = stored.oriented(orientation).array
            wanted = np.zeros_like(drawn.labels.array)
            Volume(wanted, stored.grid).oriented(orientation).array[:] = outline_at_half_maximum(
                view.array, image, masks, view.grid.spacing_zyx_mm
            )
            np.testing.assert_array_equal(segmentation.labels.array, numbered(wanted))
            assert segmentation.count == wanted.max()
            assert segmentation.faint_count == drawn.faint_count
            changed += int((segmentation.labels.array != drawn.labels.array).sum())
    assert changed > 100


def test_outlines_in_the_image_need_the_image() -> None:
    card = make_card(outline="half-maximum")
    with pytest.raises(UsageError, match="no-image"):
        segment(two_blocks(), native(), card)


def test_more_nodes_than_labels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def outline(*_: object, **__: object) -> int:
        raise ValueError("more than 65535 nodes")

    monkeypatch.setattr(lnfast.postprocess, "outline_nodes", outline)
    image = Volume(np.zeros(SHAPE_ZYX, np.int16), native())
    with pytest.raises(EngineError, match="too-many-nodes"):
        segment(two_blocks(), native(), make_card(outline="half-maximum"), image=image)


def test_without_a_peak_or_a_node_nothing_is_dropped() -> None:
    kept = segment(two_blocks(), native(), make_card(peak=0.97))
    assert (kept.count, kept.faint, kept.faint_count) == (2, None, 0)
    assert segment(two_blocks(), native(), make_card(peak=0.99)).count == 0  # logits of 4 are 0.982
    assert segment(np.full(SHAPE_ZYX, -4.0, np.float32), native(), make_card(peak=0.9)).count == 0


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LAI"])
def test_nodes_stay_where_they_are_however_the_study_is_stored(orientation: str) -> None:
    logits, card = two_blocks(), make_card(orientation=orientation)
    study = Volume(np.zeros((10, 20, 24), np.int16), Grid((10, 20, 24), affine_of((1.5, 1.25, 5.0), 8, -5, 12)))
    wanted = segment(logits, study.grid, card).labels.oriented("LPS").array > 0
    assert wanted.any()
    for stored in stored_in_all_ways(study):
        segmentation = segment(logits, stored.grid, card)
        assert segmentation.count == 2
        assert segmentation.labels.array.flags.c_contiguous
        assert segmentation.labels.grid == stored.grid
        assert np.array_equal(segmentation.labels.oriented("LPS").array > 0, wanted)


def test_half_precision_logits() -> None:
    assert segment(two_blocks().astype(np.float16), native(), make_card()).count == 2


def test_blank_is_a_result() -> None:
    segmentation = segment(np.full(SHAPE_ZYX, -9.0, np.float32), native((6, 12, 14)), make_card())
    assert segmentation.count == 0
    assert not segmentation.labels.array.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_logits_that_are_not_finite_are_never_an_n0(value: float, dtype: type) -> None:
    logits = np.full(SHAPE_ZYX, -4.0, dtype)
    logits[7, 15, 15] = value
    with pytest.raises(EngineError, match="non-finite-logits"):
        segment(logits, native((4, 9, 9)), make_card())


def test_logits_of_another_shape_are_refused() -> None:
    with pytest.raises(EngineError, match="bad-output"):
        segment(np.zeros((1, 16, 16), np.float32), native(), make_card())


def test_more_nodes_than_uint16_can_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lnfast.postprocess, "NODES_AT_MOST", 1)
    with pytest.raises(EngineError, match="too-many-nodes"):
        segment(two_blocks(), native(), make_card())


def test_a_fault_of_the_call_is_not_hidden() -> None:
    with pytest.raises((TypeError, ValueError), match="dtype"):
        segment(np.zeros(SHAPE_ZYX, np.int32), native(), make_card())
