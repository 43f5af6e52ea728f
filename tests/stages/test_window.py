"""A window of the network's grid, from the input buffer to millimetres: what the whole grid gives there."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import oracles
import pytest
from blocks import SHAPE_ZYX, affine_of, make_card, stored_in_all_ways
from numpy.typing import NDArray

from lnfast.errors import EngineError, UsageError
from lnfast.geometry import Grid, Volume
from lnfast.measure import LymphNode, Rules, measure_nodes
from lnfast.postprocess import Segmentation, segment, touches_edge
from lnfast.preprocess import write_input
from lnfast.window import Window, window_shapes

NOWHERE = -1000.0  # a logit whose probability is 0 in float64
WINDOWS = [
    Window.whole(SHAPE_ZYX),
    Window(SHAPE_ZYX, (0, 0, 8), (8, 16, 8)),
    Window(SHAPE_ZYX, (2, 3, 1), (5, 11, 14)),
    Window(SHAPE_ZYX, (0, 4, 0), (8, 9, 16)),
]


def box(window: Window) -> tuple[slice, ...]:
    return tuple(slice(a, b) for a, b in zip(window.start_zyx, window.stop_zyx, strict=True))


def grid_of(shape: tuple[int, int, int] = (6, 20, 24)) -> Grid:
    return Grid(shape, affine_of((1.5, 1.25, 5.0), 8, -5, 12))


def rough_logits(seed: int, dtype: Any = np.float32) -> NDArray[Any]:
    return np.random.default_rng(seed).normal(-1.5, 2.0, SHAPE_ZYX).astype(dtype)


def without_ellipsoids(nodes: tuple[LymphNode, ...]) -> list[LymphNode]:
    return [replace(node, ellipsoid_short_mm=None) for node in nodes]


def test_a_window() -> None:
    window = Window((8, 16, 16), (1, 0, 8), (7, 16, 8))
    assert window.stop_zyx == (8, 16, 16)
    assert not window.is_whole
    assert Window.whole((8, 16, 16)) == Window((8, 16, 16), (0, 0, 0), (8, 16, 16))
    assert Window.whole((8, 16, 16)).is_whole
    assert len({window, replace(window), Window.whole((8, 16, 16))}) == 2


@pytest.mark.parametrize(
    ("start", "shape"),
    [((-1, 0, 0), (2, 2, 2)), ((0, 0, 0), (8, 16, 17)), ((0, 9, 0), (8, 8, 8)), ((0, 0, 0), (0, 1, 1))],
)
def test_a_window_that_is_none_is_refused(start: Any, shape: Any) -> None:
    with pytest.raises(UsageError, match="bad-window") as refusal:
        Window((8, 16, 16), start, shape)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_input_is_that_part_of_the_whole_input(window: Window, dtype: type) -> None:
    array = np.random.default_rng(7).normal(300, 90, (6, 20, 24)).astype(np.int16)
    for orientation in ("LPS", "RAI"):
        card, whole = make_card(orientation=orientation), np.empty(SHAPE_ZYX, dtype)
        for stored in stored_in_all_ways(Volume(array, grid_of())):
            part = np.full(window.shape_zyx, np.nan, dtype)
            norm = write_input(stored, card, whole)
            assert write_input(stored, card, part, window=window) == norm
            assert part.tobytes() == whole[box(window)].tobytes()


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_nodes_are_those_of_the_whole_where_the_window_is_enough(window: Window, dtype: type) -> None:
    logits, card = rough_logits(3, dtype), make_card(orientation="RAS")
    for stored in stored_in_all_ways(Volume(np.zeros((6, 20, 24), np.int16), grid_of())):
        wanted = segment(logits, stored.grid, card).labels.oriented("RAS").array > 0
        wanted &= oracles.supported(wanted.shape, SHAPE_ZYX, window.start_zyx, window.shape_zyx)
        segmented = segment(logits[box(window)], stored.grid, card, window=window)
        assert wanted.any()
        assert np.array_equal(segmented.labels.oriented("RAS").array > 0, wanted)
        assert segmented.count == oracles.label(segmented.labels.array > 0, 26)[1]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("native", [(6, 20, 24), (4, 9, 10), (9, 16, 31)])
def test_beyond_the_window_there_is_no_probability(window: Window, native: tuple[int, int, int]) -> None:
    """Measures are those of the whole grid with a probability of 0 outside."""
    card, grid = make_card(), grid_of(native)
    for seed in range(4):
        logits = rough_logits(seed)
        segmented = segment(logits[box(window)], grid, card, window=window)
        blind = np.full_like(logits, NOWHERE)
        blind[box(window)] = logits[box(window)]
        assert segmented.count > 0
        nodes = measure_nodes(segmented.labels, segmented.count, Rules(), logits=logits[box(window)], window=window)
        in_blind = measure_nodes(segmented.labels, segmented.count, Rules(), logits=blind)
        in_whole = measure_nodes(segmented.labels, segmented.count, Rules(), logits=logits)
        assert without_ellipsoids(nodes) == without_ellipsoids(in_blind) == without_ellipsoids(in_whole)
        shorts_mm = [node.ellipsoid_short_mm for node in in_blind]
        assert [node.ellipsoid_short_mm for node in nodes] == pytest.approx(shorts_mm, rel=1e-9)


def test_a_node_that_keeps_off_the_faces_has_the_ellipsoid_of_the_whole() -> None:
    logits = np.full(SHAPE_ZYX, -4.0, np.float32)
    logits[3:5, 6:10, 7:9] = 3.0
    window = Window(SHAPE_ZYX, (0, 2, 3), (8, 12, 10))
    grid = grid_of()
    segmented = segment(logits[box(window)], grid, make_card(), window=window)
    (inside,) = measure_nodes(segmented.labels, 1, Rules(), logits=logits[box(window)], window=window)
    (whole,) = measure_nodes(segmented.labels, 1, Rules(), logits=logits)
    assert inside == whole


def test_what_does_not_fit_the_window_is_refused() -> None:
    card, window = make_card(), WINDOWS[1]
    other_grid = Window((8, 16, 20), (0, 0, 0), window.shape_zyx)
    study = Volume(np.random.default_rng(0).normal(300, 90, (6, 20, 24)).astype(np.int16), grid_of())
    logits = np.zeros(window.shape_zyx, np.float32)
    labels = segment(logits, study.grid, card, window=window).labels
    for wrong in (other_grid, WINDOWS[2]):
        with pytest.raises(UsageError, match="bad-window"):
            write_input(study, card, np.empty(window.shape_zyx, np.float32), window=wrong)
    with pytest.raises(UsageError, match="bad-window"):
        segment(logits, study.grid, card, window=other_grid)
    with pytest.raises(EngineError, match="bad-output"):
        segment(logits, study.grid, card, window=WINDOWS[2])
    with pytest.raises(EngineError, match="bad-output"):
        segment(logits, study.grid, card)
    with pytest.raises(UsageError, match="bad-window"):
        measure_nodes(labels, 0, Rules(), logits=logits, window=WINDOWS[2])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_of_a_window_that_are_not_finite_are_never_an_n0(value: float) -> None:
    logits = np.full(WINDOWS[2].shape_zyx, -4.0, np.float32)
    logits[-1, -1, -1] = value
    with pytest.raises(EngineError, match="non-finite-logits"):
        segment(logits, grid_of(), make_card(), window=WINDOWS[2])


def is_near(mask: NDArray[Any], window: Window, margin: int) -> bool:
    """Voxel by voxel, in whole numbers."""
    for place in np.argwhere(mask).tolist():
        for o, n, size, a, b in zip(place, mask.shape, window.grid_zyx, window.start_zyx, window.stop_zyx, strict=True):
            low, high = Fraction(o * size, n), Fraction((o + 1) * size, n)
            if (a > 0 and low - a < margin) or (b < size and b - high < margin):
                return True
    return False


@pytest.mark.parametrize("native", [(6, 20, 24), (4, 9, 10), (9, 16, 31)])
@pytest.mark.parametrize("orientation", ["LPS", "RAI"])
def test_nodes_near_a_cut(native: tuple[int, int, int], orientation: str) -> None:
    rng, card = np.random.default_rng(1), make_card(orientation=orientation)
    answers = set()
    for _ in range(300):
        start = tuple(int(rng.integers(n)) for n in SHAPE_ZYX)
        shape = tuple(int(rng.integers(1, n - a + 1)) for a, n in zip(start, SHAPE_ZYX, strict=True))
        window, margin = Window(SHAPE_ZYX, start, shape), int(rng.integers(0, 5))
        inside = np.argwhere(oracles.supported(native, SHAPE_ZYX, start, shape))
        labels = Volume(np.zeros(native, np.uint16), grid_of(native))
        view = labels.oriented(orientation).array
        if len(inside):
            view[tuple(inside[rng.integers(len(inside))])] = 1
        near = touches_edge(Segmentation(labels, int(view.any()), labels), window, card, margin)
        assert near == is_near(view, window, margin)
        answers.add(near)
    assert answers == {True, False}


def test_no_face_of_the_grid_is_a_cut() -> None:
    everywhere = Volume(np.ones((6, 20, 24), np.uint16), grid_of())
    assert not touches_edge(Segmentation(everywhere, 1, everywhere), Window.whole(SHAPE_ZYX), make_card(), 100)
    assert touches_edge(
        Segmentation(everywhere, 1, everywhere), Window(SHAPE_ZYX, (0, 0, 0), (8, 16, 15)), make_card(), 1
    )


def test_window_shapes() -> None:
    assert window_shapes((64, 256, 256)) == ((64, 192, 256), (64, 224, 256))
    for none in ((8, 8, 8), (12, 24, 24), (64, 250, 256), (4, 64, 64), (8, 200, 8)):
        assert window_shapes(none) == ()
    assert window_shapes((32, 256, 256)) == ((32, 192, 256), (32, 224, 256))
    for grid in ((32, 128, 128), (9, 208, 9)):
        assert window_shapes(grid)
        for shape in window_shapes(grid):
            assert shape != grid and all(a == b or (a < b and a % 16 == 0) for a, b in zip(shape, grid, strict=True))


@pytest.mark.parametrize("change", [{"outline": "half-maximum"}, {"peak": 0.97}])
def test_what_was_taken_away_at_a_face_counts(change: dict[str, Any]) -> None:
    """Beyond the face the node may go on: dark, or faint, only here."""
    card = replace(make_card(), **change)
    logits = np.full(SHAPE_ZYX, -4.0, np.float32)
    logits[2:6, 4:10, 8:15] = 2.0
    image = np.full(SHAPE_ZYX, 100, np.int16)
    image[2:6, 4:10, 8:12] = 900
    window = Window(SHAPE_ZYX, (0, 0, 0), (8, 16, 15))
    study = Volume(image, grid_of(SHAPE_ZYX))
    segmented = segment(logits[box(window)], study.grid, card, image=study, window=window)
    assert not segmented.labels.array[:, :, 14].any()
    assert touches_edge(segmented, window, card)
