"""Distances and overlaps against every pair of voxels, and against SimpleITK where the definitions are the same."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import oracles
import pytest
import SimpleITK
from blocks import affine_of
from hypothesis import given, settings
from hypothesis import strategies as st

from lnfast.evaluate.measures.distances import directed, mahalanobis
from lnfast.evaluate.measures.overlap import (
    FLAT,
    MEASURES,
    NEITHER,
    NO_PREDICTION,
    NO_TRUTH,
    overlap,
    overlap_by_subset,
)
from lnfast.geometry import Grid, Volume
from lnfast.matching import node_map
from lnfast.measure import Rules

SPACING_XYZ_MM = (1.4, 0.9, 6.5)
AFFINES = {
    "isotropic": affine_of((1.0, 1.0, 1.0)),
    "anisotropic": affine_of(SPACING_XYZ_MM),
    "oblique": affine_of(SPACING_XYZ_MM, 12, -25, 40),
}


def some(rng: np.random.Generator, shape: tuple[int, int, int], share: float) -> Any:
    """A random mask that is not empty."""
    mask = rng.random(shape) < share
    mask[tuple(rng.integers(shape))] = True
    return mask


def masks(kind: str, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    shape = (5, 9, 8)
    if kind == "one voxel":
        return some(rng, shape, 0), some(rng, shape, 0)
    if kind == "one voxel in many":
        return some(rng, shape, 0), some(rng, shape, 0.3)
    if kind == "full":
        return np.ones(shape, bool), some(rng, shape, 0.1)
    return some(rng, shape, 0.02 if kind == "sparse" else 0.4), some(rng, shape, 0.1)


KINDS = ["one voxel", "one voxel in many", "sparse", "dense", "full"]


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
@pytest.mark.parametrize("kind", KINDS)
def test_distances_against_every_pair(kind: str, affine: Any) -> None:
    for seed in range(3):
        first, second = masks(kind, seed)
        there, back = directed(first, second, affine), directed(second, first, affine)
        expected = oracles.directed_distances(first, second, affine), oracles.directed_distances(second, first, affine)
        assert (there.greatest_mm, there.average_mm) == pytest.approx(expected[0], abs=1e-9)
        assert (back.greatest_mm, back.average_mm) == pytest.approx(expected[1], abs=1e-9)
        result = overlap(first, second, affine)
        assert result.hd_mm.value == pytest.approx(max(expected[0][0], expected[1][0]), abs=1e-9)
        assert result.avd_mm.value == pytest.approx(max(expected[0][1], expected[1][1]), abs=1e-9)
        if kind != "one voxel":
            assert result.mhd.value == pytest.approx(oracles.mahalanobis(first, second, affine), rel=1e-6)


def test_the_greatest_shear_that_a_grid_may_have() -> None:
    """The nearest voxel is on the border there too, far from the origin of a long thin grid."""
    affine = affine_of((0.3, 0.3, 10.0))
    affine[0, 2] = 1e-3 * 10
    rng = np.random.default_rng(0)
    grid = Grid((4, 6, 160), affine)
    first, second = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    first[:, :, :8], second[1:, 1:, 100:] = True, True
    first |= rng.random(grid.shape) < 0.002
    expected = oracles.directed_distances(first, second, affine)
    result = directed(first, second, grid.affine)
    assert (result.greatest_mm, result.average_mm) == pytest.approx(expected, abs=1e-9)


def itk_image(mask: Any) -> Any:
    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(SPACING_XYZ_MM)
    return image


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("affine", ["anisotropic", "oblique"])
def test_against_simpleitk(kind: str, affine: str) -> None:
    """ITK looks at spacing alone, and turning changes nothing. Its AVD is the mean of both ways, its VS signed."""
    for seed in range(10, 14):
        first, second = masks(kind, seed)
        result = overlap(first, second, AFFINES[affine])
        ours, theirs = itk_image(first), itk_image(second)
        distance = SimpleITK.HausdorffDistanceImageFilter()
        distance.Execute(ours, theirs)
        assert result.hd_mm.value == pytest.approx(distance.GetHausdorffDistance(), rel=1e-5, abs=1e-6)
        there, back = directed(first, second, AFFINES[affine]), directed(second, first, AFFINES[affine])
        mean = (there.average_mm + back.average_mm) / 2
        assert mean == pytest.approx(distance.GetAverageHausdorffDistance(), rel=1e-5, abs=1e-6)
        measures = SimpleITK.LabelOverlapMeasuresImageFilter()
        measures.Execute(ours, theirs)  # source, target
        assert result.dice.value == pytest.approx(measures.GetDiceCoefficient())
        assert result.vs.value == pytest.approx(1 - abs(measures.GetVolumeSimilarity()) / 2)
        assert result.tpr.value == pytest.approx(1 - measures.GetFalseNegativeError())
        assert result.ppv.value == pytest.approx(1 - measures.GetFalseDiscoveryRate())


def test_simpleitk_has_no_distance_of_an_empty_mask_either() -> None:
    mask, none = some(np.random.default_rng(0), (4, 4, 4), 0.2), np.zeros((4, 4, 4), bool)
    with pytest.raises(RuntimeError):
        SimpleITK.HausdorffDistanceImageFilter().Execute(itk_image(mask), itk_image(none))
    assert overlap(mask, none, AFFINES["isotropic"]).hd_mm.value is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.sampled_from(sorted(AFFINES)))
def test_symmetric_measures_are_symmetric_and_bounded_ones_bounded(seed: int, kind: str, affine: str) -> None:
    first, second = masks(kind, seed)
    there, back = overlap(first, second, AFFINES[affine]), overlap(second, first, AFFINES[affine])
    for measure in ("dice", "vs", "hd_mm", "avd_mm", "mhd"):
        forward, backward = there.value_of(measure), back.value_of(measure)
        assert (forward.value is None) == (backward.value is None)
        if forward.value is not None:
            assert forward.value == pytest.approx(backward.value, rel=1e-9, abs=1e-12)
    assert there.ppv == back.tpr
    for measure in ("dice", "ppv", "tpr", "vs"):
        value = there.value_of(measure).value
        assert value is not None and 0 <= value <= 1
    assert there.hd_mm.value is not None and there.avd_mm.value is not None
    assert 0 <= there.avd_mm.value <= there.hd_mm.value
    itself = overlap(first, first, AFFINES[affine])
    assert [itself.value_of(measure).value for measure in MEASURES[:6]] == [1, 1, 1, 1, 0, 0]


def test_counted_by_hand() -> None:
    """Two voxels and three of which one is shared: TP 1, FP 1, FN 2."""
    predicted, truth = np.zeros((1, 1, 6), bool), np.zeros((1, 1, 6), bool)
    predicted[0, 0, :2], truth[0, 0, 1:4] = True, True
    result = overlap(predicted, truth, affine_of((2.0, 1.0, 1.0)))
    assert [result.value_of(measure).value for measure in MEASURES[:4]] == [2 / 5, 1 / 2, 1 / 3, 1 - 1 / 5]
    assert result.hd_mm.value == 4.0  # from x = 3 to 1
    assert result.avd_mm.value == (0 + 2 + 4) / 3  # the greater of (2 + 0) / 2 and this
    assert result.mhd.value is None and result.mhd.reason == FLAT


def test_an_empty_mask_on_one_side_or_on_both() -> None:
    none, some_ = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    affine = AFFINES["isotropic"]
    missed, false, neither = overlap(none, some_, affine), overlap(some_, none, affine), overlap(none, none, affine)
    assert [missed.value_of(m).value for m in MEASURES] == [0, None, 0, 0, None, None, None]
    assert [false.value_of(m).value for m in MEASURES] == [0, 0, None, 0, None, None, None]
    assert [neither.value_of(m).value for m in MEASURES] == [None] * 7
    assert {missed.value_of(m).reason for m in MEASURES} == {None, NO_PREDICTION}
    assert {false.value_of(m).reason for m in MEASURES} == {None, NO_TRUTH}
    assert {neither.value_of(m).reason for m in MEASURES} == {NEITHER}


def test_mhd_of_flat_sets() -> None:
    """A plane that no axis runs along is flat too; a second slice on one side is enough to be defined."""
    z, y, x = np.indices((7, 7, 7))
    plane = (z + y + x) == 9
    assert mahalanobis(plane, np.roll(plane, 0)) is None
    apart = plane.copy()
    apart[0, 0, 0] = True
    assert mahalanobis(plane, apart) is not None
    single = np.zeros((7, 7, 7), bool)
    single[3, 3, 3] = True
    assert mahalanobis(single, single) is None


def test_mhd_does_not_change_with_the_grid() -> None:
    first, second = masks("dense", 3)
    values = [overlap(first, second, affine).mhd.value for affine in AFFINES.values()]
    assert all(value == next_value for value, next_value in pairwise(values))


def test_a_large_mask_is_measured_quickly() -> None:
    """A body of 1.6 million voxels, of which only the border is searched."""
    body = np.ones((28, 240, 240), bool)
    shifted = body.copy()
    shifted[:, :3] = False
    result = overlap(shifted, body, affine_of((1.5, 1.5, 7.0)))
    assert result.hd_mm.value == 4.5
    assert result.avd_mm.value == pytest.approx((1.5 + 3 + 4.5) / 240)


def test_subsets_are_chosen_on_each_side() -> None:
    labels = np.zeros((12, 30, 30), np.uint16)
    labels[0:9, 0:9, 0:9] = 1  # 9 mm
    labels[0:4, 20:24, 20:24] = 2
    truth = node_map(Volume(labels, Grid(labels.shape, AFFINES["isotropic"])), Rules())
    shrunk = labels.copy()
    shrunk[8:9] = 0  # 8 mm: no longer suspicious
    predicted = node_map(Volume(shrunk, truth.labels.grid), Rules())
    by_subset = overlap_by_subset(predicted, truth)
    assert by_subset["suspicious"].dice.value == 0
    assert by_subset["suspicious"].hd_mm.reason == NO_PREDICTION
    assert by_subset["largest"].dice.value == pytest.approx(2 * 648 / (648 + 729))
    assert by_subset["all"].tpr.value == pytest.approx((648 + 64) / (729 + 64))
    assert overlap_by_subset(truth, truth)["largest"].dice.value == 1


def test_two_parallel_planes_are_not_one_plane() -> None:
    """The reason says what is so: either side is flat, wherever the other lies."""
    first, second = np.zeros((5, 6, 6), bool), np.zeros((5, 6, 6), bool)
    first[1], second[3] = True, True
    result = overlap(first, second, np.eye(4)).mhd
    assert (result.value, result.reason) == (None, "both sides are flat in one direction")
