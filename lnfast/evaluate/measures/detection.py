"""Which nodes were found, by several readings of "found".

The paper: a suspicious node is "correctly detected when overlap existed", precision TP / (TP + FP) and recall
TP / (TP + FN), with one count of TP. Which of the two sides is counted it does not say. Here:

    TP   true nodes that a prediction touches (one shared voxel)
    FN   true nodes that none touches
    FP   predictions that touch no true node

so a prediction over two true nodes is two TP, and two predictions over one true node are one TP: neither a merged nor a
split node costs anything. Those that do charge for it stand beside:

    by_prediction       precision over predictions: right (touches a true node) / (right + wrong)
    one_to_one          each node has one partner at most: as many touching pairs as can be made
    iou_0.1, iou_0.5    the same, and a pair must share that part of its union
    touching_any_size   both sides may be touched by a node outside the subset: a suspicious prediction over a true node
                        that is a little too small is not false
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.evaluate.extra import load
from lnfast.evaluate.measures.values import Subset, select
from lnfast.measure import LymphNode

CONFIDENCE = 0.95


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
        """None without predictions."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else None

    @property
    def recall(self) -> float | None:
        """None without true nodes."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of both; None where one of them is."""
        return harmonic_mean(self.precision, self.recall)

    def to_dict(self) -> dict[str, Any]:
        """Counts, the three measures, and the exact intervals of Clopper and Pearson."""
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
class Detected:
    """One subset of one study, or of several together.

    Attributes:
        any_voxel: the paper's.
        right: predictions that touch a true node; ``any_voxel.fp`` are the others.
        one_to_one, iou_10, iou_50: with one partner at most.
        any_size: touched by whatever node.
    """

    any_voxel: Counts = Counts()
    right: int = 0
    one_to_one: Counts = Counts()
    iou_10: Counts = Counts()
    iou_50: Counts = Counts()
    any_size: Counts = Counts()

    def __add__(self, other: Detected) -> Detected:
        return Detected(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    def to_dict(self) -> dict[str, Any]:
        """As it stands in metrics.json."""
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
) -> Detected:
    """Find one subset of one study.

    Args:
        shared: ``(true nodes, predicted nodes)`` voxels that two nodes share, of all nodes.
        truth, predicted: all nodes; the subset is chosen on each side by its own measurement.
        subset: of both sides.
    """
    rows, columns = _rows_of(truth, subset), _rows_of(predicted, subset)
    part = shared[np.ix_(rows, columns)]
    union = _voxels(truth)[rows][:, None] + _voxels(predicted)[columns][None, :] - part
    iou = part / union
    found = part.max(axis=1, initial=0) > 0
    right = int(np.count_nonzero(part.max(axis=0, initial=0)))
    reached, meant = shared[rows].max(axis=1, initial=0) > 0, shared[:, columns].max(axis=0, initial=0) > 0
    return Detected(
        any_voxel=_counts(found, len(columns) - right),
        right=right,
        one_to_one=paired(iou, part > 0),
        iou_10=paired(iou, iou >= 0.1),
        iou_50=paired(iou, iou >= 0.5),
        any_size=_counts(reached, int(np.count_nonzero(~meant))),
    )


def interval(part: float, whole: float) -> tuple[float | None, float | None]:
    """The exact binomial interval of Clopper and Pearson, 95 %; None and None of nothing.

    Args:
        part: may lie between two integers, as AUC times patients does.
        whole: above 0 for numbers to come back.
    """
    if not whole:
        return None, None
    low, high = load("statsmodels.stats.proportion").proportion_confint(part, whole, 1 - CONFIDENCE, method="beta")
    return float(low), float(high)


def harmonic_mean(one: float | None, other: float | None) -> float | None:
    """None where one of them is, 0 where both are."""
    if one is None or other is None:
        return None
    return 2 * one * other / (one + other) if one + other else 0.0


def paired(iou: NDArray[np.float64], allowed: NDArray[np.bool_]) -> Counts:
    """As many allowed pairs as can be made and, of those choices, the one with the greatest sum of IoUs."""
    true_nodes, predictions = iou.shape
    # One pair more outweighs all that IoUs (at most 1 each) can say.
    worth = np.where(allowed, min(true_nodes, predictions) + 1 + iou, 0.0)
    rows, columns = load("scipy.optimize").linear_sum_assignment(worth, maximize=True)
    pairs = int(allowed[rows, columns].sum())
    return Counts(pairs, predictions - pairs, true_nodes - pairs)


def _counts(found: NDArray[np.bool_], wrong: int) -> Counts:
    hits = int(np.count_nonzero(found))
    return Counts(hits, wrong, len(found) - hits)


def _rows_of(nodes: Sequence[LymphNode], subset: Subset) -> list[int]:
    return [node.id - 1 for node in select(nodes, subset)]


def _voxels(nodes: Sequence[LymphNode]) -> NDArray[np.int64]:
    return np.array([node.voxels for node in nodes], np.int64)


def _reason(counts: Counts) -> str | None:
    told = [] if counts.tp + counts.fp else ["no predicted node"]
    told += [] if counts.tp + counts.fn else ["no true node"]
    return ", ".join(told) or None
