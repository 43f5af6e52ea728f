"""Every reading of "found", counted by hand, and pairs against all ways to make them."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from node_blocks import LARGE, SMALL, nodes_at
from scipy.stats import binomtest

from lnfast.evaluate.measures.detection import Counts, DetectionCounts, detect, interval, match_one_to_one
from lnfast.evaluate.measures.subsets import Subset
from lnfast.matching import NodeMap, shared_voxels


def detected(predicted: NodeMap, truth: NodeMap, subset: Subset = "suspicious") -> DetectionCounts:
    return detect(
        shared_voxels(truth.labels.array, predicted.labels.array, (len(truth.nodes), len(predicted.nodes))),
        truth.nodes,
        predicted.nodes,
        subset,
    )


def test_the_paper_s_counts_give_the_paper_s_measures() -> None:
    counts = Counts(tp=226, fp=5, fn=4).to_dict()
    assert (counts["precision"], counts["recall"]) == (226 / 231, 226 / 230)
    assert counts["f1"] == pytest.approx(452 / 461, rel=1e-15)
    assert [round(counts[key], 4) for key in ("precision", "recall", "f1")] == [0.9784, 0.9826, 0.9805]
    ends = ("precision_low", "precision_high", "recall_low", "recall_high")
    assert [round(counts[key], 3) for key in ends] == [0.950, 0.993, 0.956, 0.995]


def test_a_merged_node() -> None:
    truth = nodes_at(((0, 0, 0), LARGE), ((0, 0, 20), LARGE))
    counts = detected(nodes_at(((0, 0, 5), (9, 10, 20))), truth)
    assert (counts.any_voxel, counts.right, counts.one_to_one) == (Counts(2, 0, 0), 1, Counts(1, 0, 1))
    assert counts.iou_10 == Counts(1, 0, 1)  # 450 of 2250 voxels
    assert counts.iou_50 == Counts(0, 1, 2)


def test_a_split_node() -> None:
    truth = nodes_at(((0, 0, 5), (9, 10, 20)))
    counts = detected(nodes_at(((0, 0, 0), LARGE), ((0, 0, 20), LARGE)), truth)
    assert (counts.any_voxel, counts.right, counts.one_to_one) == (Counts(1, 0, 0), 2, Counts(1, 1, 0))


def test_a_prediction_on_the_other_side_of_the_limit() -> None:
    """Missed and not false by the paper's words; found where any size may touch."""
    truth, small = nodes_at(((0, 0, 0), LARGE)), nodes_at(((2, 2, 2), SMALL))
    counts = detected(small, truth)
    assert (counts.any_voxel, counts.any_size) == (Counts(0, 0, 1), Counts(1, 0, 0))
    other_way = detected(truth, small)
    assert (other_way.any_voxel, other_way.any_size) == (Counts(0, 1, 0), Counts(0, 0, 0))


def test_the_largest_is_one_on_each_side() -> None:
    truth = nodes_at(((0, 0, 0), LARGE), ((0, 30, 30), SMALL))
    predicted = nodes_at(((0, 0, 0), SMALL), ((0, 30, 30), LARGE))
    counts = detected(predicted, truth, "largest")
    assert (counts.any_voxel, counts.any_size) == (Counts(0, 1, 1), Counts(1, 0, 0))
    assert detected(truth, truth, "largest").iou_50 == Counts(1, 0, 0)
    assert detected(truth, truth, "all").iou_50 == Counts(2, 0, 0)


def test_iou_of_a_tenth_and_a_half_count() -> None:
    """400 of 4000 voxels and 800 of 1600 are exactly the limits."""
    truth = nodes_at(((0, 0, 0), (10, 10, 22)))
    assert detected(nodes_at(((0, 0, 18), (10, 10, 22))), truth).iou_10 == Counts(1, 0, 0)
    assert detected(nodes_at(((0, 0, 19), (10, 10, 22))), truth).iou_10 == Counts(0, 1, 1)
    truth = nodes_at(((0, 0, 0), (10, 10, 12)))
    assert detected(nodes_at(((0, 0, 4), (10, 10, 12))), truth).iou_50 == Counts(1, 0, 0)


def test_without_nodes_nothing_is_defined() -> None:
    for subset in ("all", "suspicious", "largest"):
        counts = detected(nodes_at(), nodes_at(), subset).to_dict()
        assert (counts["tp"], counts["fp"], counts["fn"]) == (0, 0, 0)
        for part in (
            counts,
            counts["by_prediction"],
            counts["one_to_one"],
            counts["iou_0.5"],
            counts["touching_any_size"],
        ):
            assert (part["precision"], part["f1"], part["precision_low"]) == (None, None, None)
            assert part["reason"] == "no predicted node, no true node"
    one_sided = detected(nodes_at(), nodes_at(((0, 0, 0), LARGE))).to_dict()
    assert (one_sided["recall"], one_sided["precision"], one_sided["reason"]) == (0, None, "no predicted node")


def test_studies_add_up() -> None:
    truth, none = nodes_at(((0, 0, 0), LARGE)), nodes_at()
    whole = sum((detected(truth, truth), detected(none, truth), detected(truth, none)), DetectionCounts())
    assert (whole.any_voxel, whole.right, whole.iou_50) == (Counts(1, 1, 1), 1, Counts(1, 1, 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 5), st.integers(0, 5))
def test_pairs_against_all_ways_to_make_them(seed: int, rows: int, columns: int) -> None:
    iou = np.random.default_rng(seed).random((rows, columns)) ** 2
    allowed = iou >= 0.3
    pairs = oracles.most_pairs(allowed)
    assert match_one_to_one(iou, allowed) == Counts(pairs, columns - pairs, rows - pairs)


@pytest.mark.parametrize(("part", "whole"), [(37, 37), (37, 40), (0, 7), (226, 231)])
def test_the_exact_interval_is_scipy_s(part: int, whole: int) -> None:
    expected = binomtest(part, whole).proportion_ci(0.95, "exact")
    assert interval(part, whole) == pytest.approx((expected.low, expected.high), rel=1e-12)
    assert interval(0, 0) == (None, None)
