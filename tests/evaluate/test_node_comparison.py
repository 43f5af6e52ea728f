"""Detection and overlap on blocks that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from blocks import affine_of
from node_blocks import LARGE, SHAPE_ZYX, SMALL, nodes_at

from lnfast.errors import UsageError
from lnfast.evaluate.measures.overlap import overlap, overlap_by_match
from lnfast.geometry import Grid, Volume
from lnfast.matching import Detection, compare, dice, node_map
from lnfast.measure import Rules


def test_a_truth_finds_itself() -> None:
    truth = nodes_at(((0, 0, 0), LARGE), ((0, 30, 30), SMALL))
    comparison = compare(truth, truth)
    assert comparison.dice == 1.0
    assert comparison.detection == Detection(detected=1, missed=0, right=1, wrong=0)
    assert [(pair.truth.id, pair.predicted and pair.predicted.id) for pair in comparison.matches] == [(1, 1), (2, 2)]
    assert [pair.shared_voxels for pair in comparison.matches] == [900, 64]
    assert comparison.shared.tolist() == [[900, 0], [0, 64]]
    assert comparison.unmatched == ()


def test_one_shared_voxel_is_found() -> None:
    truth, predicted = nodes_at(((0, 0, 0), LARGE)), nodes_at(((8, 9, 9), LARGE))
    comparison = compare(predicted, truth)
    assert comparison.detection == Detection(1, 0, 1, 0)
    assert comparison.matches[0].shared_voxels == 1
    assert comparison.dice == pytest.approx(2 * 1 / 1800)


def test_one_prediction_over_two_true_nodes_is_two_found_and_one_right() -> None:
    truth = nodes_at(((0, 0, 0), LARGE), ((0, 0, 20), LARGE))
    predicted = nodes_at(((0, 0, 5), (9, 10, 20)))
    assert compare(predicted, truth).detection == Detection(detected=2, missed=0, right=1, wrong=0)


def test_two_predictions_over_one_true_node_are_one_found_and_two_right() -> None:
    truth = nodes_at(((0, 0, 5), (9, 10, 20)))
    predicted = nodes_at(((0, 0, 0), LARGE), ((0, 0, 20), LARGE))
    comparison = compare(predicted, truth)
    assert comparison.detection == Detection(detected=1, missed=0, right=2, wrong=0)
    assert comparison.matches[0].predicted is predicted.nodes[0]  # 50 voxels each: the lower id


def test_a_prediction_that_is_too_small_does_not_find_a_suspicious_node() -> None:
    truth, predicted = nodes_at(((0, 0, 0), LARGE)), nodes_at(((2, 2, 2), SMALL))
    comparison = compare(predicted, truth)
    assert comparison.detection == Detection(detected=0, missed=1, right=0, wrong=0)
    assert comparison.matches[0].predicted is not None
    assert comparison.matches[0].predicted.short_axis_mm == pytest.approx(4.0)
    assert comparison.unmatched == ()


def test_a_prediction_beside_the_truth_is_wrong_and_the_truth_missed() -> None:
    truth, predicted = nodes_at(((0, 0, 0), LARGE)), nodes_at(((0, 30, 30), LARGE))
    comparison = compare(predicted, truth)
    assert comparison.detection == Detection(detected=0, missed=1, right=0, wrong=1)
    assert comparison.detection.f1 == 0.0
    assert comparison.matches[0].predicted is None
    assert comparison.unmatched == predicted.nodes


def test_without_nodes_nothing_is_defined() -> None:
    comparison = compare(nodes_at(), nodes_at())
    assert comparison.dice is None
    assert comparison.detection == Detection(0, 0, 0, 0)
    assert (comparison.detection.recall, comparison.detection.precision, comparison.detection.f1) == (None, None, None)


def test_an_empty_side_in_the_comparison() -> None:
    some, none = nodes_at(((0, 0, 0), LARGE)), nodes_at()
    assert compare(none, some).detection == Detection(0, 1, 0, 0)
    assert compare(some, none).detection == Detection(0, 0, 0, 1)
    assert compare(none, some).detection.recall == 0.0
    assert compare(none, some).detection.precision is None
    assert compare(some, none).dice == 0.0


def test_the_paper_s_counts_give_the_paper_s_measures() -> None:
    half = Detection(detected=113, missed=2, right=113, wrong=2)
    whole = half + Detection(detected=113, missed=2, right=113, wrong=3)
    assert whole.precision == pytest.approx(0.9784, abs=5e-5)
    assert whole.recall == pytest.approx(0.9826, abs=5e-5)
    assert whole.f1 == pytest.approx(0.9805, abs=5e-5)


def test_dice_counts_what_is_not_zero() -> None:
    assert dice(np.array([0, 1, 7]), np.array([True, False, True])) == 0.5
    with pytest.raises(UsageError, match="grid-mismatch"):
        dice(np.zeros(3), np.zeros(4))


def test_two_grids_are_not_compared() -> None:
    first, second = nodes_at(((0, 0, 0), LARGE)), nodes_at(((0, 0, 0), LARGE), spacing_mm=1.001)
    with pytest.raises(UsageError, match="grid-mismatch"):
        compare(first, second)


def test_labels_with_a_gap_are_refused() -> None:
    labels = np.zeros(SHAPE_ZYX, np.uint16)
    labels[0, 0, 0] = 2
    with pytest.raises(UsageError, match="bad-labels"):
        node_map(Volume(labels, Grid(SHAPE_ZYX, affine_of((1, 1, 1)))), Rules())


def test_a_matched_node_is_measured_against_its_match_alone() -> None:
    truth = nodes_at(((0, 0, 0), LARGE), ((0, 30, 30), SMALL), ((12, 0, 0), SMALL))
    predicted = nodes_at(((1, 2, 0), LARGE), ((0, 31, 30), SMALL), ((15, 50, 50), SMALL))
    overlaps = overlap_by_match(predicted, truth, compare(predicted, truth).matches)
    affine = truth.labels.grid.affine
    for i in (0, 1):
        predicted_mask, true_mask = predicted.labels.array == i + 1, truth.labels.array == i + 1
        assert overlaps[i] == overlap(predicted_mask, true_mask, affine)
    assert overlaps[2] is None  # nothing touches it, and what lies elsewhere is no match
