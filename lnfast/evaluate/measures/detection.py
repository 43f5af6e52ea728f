"""Which nodes were detected, by several definitions of "detected".

The paper: a suspicious node is "correctly detected when overlap existed", precision TP / (TP + FP) and recall
TP / (TP + FN), with one count of TP. Which of the two sides is counted it does not say. Here:

    TP   true nodes that a prediction touches (one shared voxel)
    FN   true nodes that none touches
    FP   predictions that touch no true node

so a prediction over two true nodes is two TP, and two predictions over one true node are one TP: neither a merged nor a
split node lowers the result. The other definitions count merged or split nodes:

    by_prediction       precision over predictions: right (touches a true node) / (right + wrong)
    one_to_one          each node has one partner at most: as many touching pairs as can be made
    iou_0.1, iou_0.5    the same, and a pair must share that part of its union
    touching_any_size   a node of either side may be touched by a node outside the subset: a suspicious prediction over
                        a true node that is a little too small is not false
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.evaluate.measures.subsets import Subset, select
from lnfast.evaluate.measures.values import CONFIDENCE
from lnfast.evaluate.packages import load
from lnfast.measure import LymphNode


@dataclass(frozen=True)
class Counts:
    """True positives, false positives, false negatives; counts of several studies may be added."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float | None:
        """TP / (TP + FP); None without predictions."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        """TP / (TP + FN); None without true nodes."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; None where one of them is None."""
        return harmonic_mean(self.precision, self.recall)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, the three measures, and the exact intervals of Clopper and Pearson."""
        precision, recall = interval(self.tp, self.tp + self.fp), interval(self.tp, self.tp + self.fn)
        return {
            "tp": self.tp,
            "fp": self.fp,
            "fn": self.fn,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "precision_low": precision[0],
            "precision_high": precision[1],
            "recall_low": recall[0],
            "recall_high": recall[1],
            "reason": _reason(self),
        }


@dataclass(frozen=True)
class DetectionCounts:
    """The counts of one subset of one study, or of several studies together, by each definition.

    Attributes:
        any_voxel: the paper's counts.
        right: predictions that touch a true node; ``any_voxel.fp`` counts those that touch none.
        one_to_one, iou_10, iou_50: each node has one partner at most.
        any_size: a node of any size may touch.
    """

    any_voxel: Counts = Counts()
    right: int = 0
    one_to_one: Counts = Counts()
    iou_10: Counts = Counts()
    iou_50: Counts = Counts()
    any_size: Counts = Counts()

    def __add__(self, other: DetectionCounts) -> DetectionCounts:
        return DetectionCounts(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and measures as metrics.json holds them."""
        wrong, recall = self.any_voxel.fp, self.any_voxel.recall
        precision = self.right / (self.right + wrong) if self.right + wrong else None
        low, high = interval(self.right, self.right + wrong)
        return {
            **self.any_voxel.to_dict(),
            "by_prediction": {
                "right": self.right,
                "wrong": wrong,
                "precision": precision,
                "precision_low": low,
                "precision_high": high,
                "f1": harmonic_mean(precision, recall),
                "reason": _reason(self.any_voxel),
            },
            "one_to_one": self.one_to_one.to_dict(),
            "iou_0.1": self.iou_10.to_dict(),
            "iou_0.5": self.iou_50.to_dict(),
            "touching_any_size": self.any_size.to_dict(),
        }


def detect(
    shared: NDArray[np.int64], truth: Sequence[LymphNode], predicted: Sequence[LymphNode], subset: Subset
) -> DetectionCounts:
    """Count the detected nodes of one subset of one study.

    Args:
        shared: ``(true nodes, predicted nodes)`` voxels that two nodes share, of all nodes.
        truth, predicted: all nodes; the subset is selected on each side by its own measurement.
        subset: of both sides.
    """
    rows, columns = _indices(truth, subset), _indices(predicted, subset)
    shared_in_subset = shared[np.ix_(rows, columns)]
    union = _voxels(truth)[rows][:, None] + _voxels(predicted)[columns][None, :] - shared_in_subset
    iou = shared_in_subset / union
    detected = shared_in_subset.max(axis=1, initial=0) > 0
    right = int(np.count_nonzero(shared_in_subset.max(axis=0, initial=0)))
    touched_by_any = shared[rows].max(axis=1, initial=0) > 0
    touching_any = shared[:, columns].max(axis=0, initial=0) > 0
    return DetectionCounts(
        any_voxel=_counts(detected, len(columns) - right),
        right=right,
        one_to_one=match_one_to_one(iou, shared_in_subset > 0),
        iou_10=match_one_to_one(iou, iou >= 0.1),
        iou_50=match_one_to_one(iou, iou >= 0.5),
        any_size=_counts(touched_by_any, int(np.count_nonzero(~touching_any))),
    )


def interval(part: float, whole: float) -> tuple[float | None, float | None]:
    """Return the exact binomial interval of Clopper and Pearson, 95 %; (None, None) where ``whole`` is 0.

    Args:
        part: successes; may lie between two integers, as AUC times patients does.
        whole: trials.
    """
    if not whole:
        return None, None
    low, high = load("statsmodels.stats.proportion").proportion_confint(part, whole, 1 - CONFIDENCE, method="beta")
    return float(low), float(high)


def harmonic_mean(a: float | None, b: float | None) -> float | None:
    """Return the harmonic mean; None where one of the two is None, 0 where both are 0."""
    if a is None or b is None:
        return None
    return 2 * a * b / (a + b) if a + b else 0.0


def match_one_to_one(iou: NDArray[np.float64], allowed: NDArray[np.bool_]) -> Counts:
    """Count as many allowed pairs as can be made; of several such choices take the one with the greatest sum of IoUs.

    Args:
        iou: ``(true nodes, predictions)`` intersection over union.
        allowed: of the same shape; which pairs may be made.
    """
    true_nodes, predictions = iou.shape
    # One more pair outweighs any sum of IoUs, which are at most 1 each.
    weights = np.where(allowed, min(true_nodes, predictions) + 1 + iou, 0.0)
    rows, columns = load("scipy.optimize").linear_sum_assignment(weights, maximize=True)
    pairs = int(allowed[rows, columns].sum())
    return Counts(pairs, predictions - pairs, true_nodes - pairs)


def _counts(detected: NDArray[np.bool_], false_positives: int) -> Counts:
    true_positives = int(np.count_nonzero(detected))
    return Counts(true_positives, false_positives, len(detected) - true_positives)


def _indices(nodes: Sequence[LymphNode], subset: Subset) -> list[int]:
    return [node.id - 1 for node in select(nodes, subset)]


def _voxels(nodes: Sequence[LymphNode]) -> NDArray[np.int64]:
    return np.array([node.voxels for node in nodes], np.int64)


def _reason(counts: Counts) -> str | None:
    reasons = [] if counts.tp + counts.fp else ["no predicted node"]
    reasons += [] if counts.tp + counts.fn else ["no true node"]
    return ", ".join(reasons) or None
