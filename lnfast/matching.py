"""Which node is which, and how much of two masks is the same: the one definition of a match and of Dice.

Used by self-test, certificate, demo, training and `lnfast evaluate`. A node of one side *touches* one of the other
when they share a voxel; its *match* is the one with which it shares most, ties by the lower id.

As in the clinical method, a suspicious node counts as detected when prediction and annotation share a voxel. One
prediction may lie over two true nodes, and two over one, so hits are counted twice:

    recall       by true node        detected / (detected + missed)
    precision    by predicted node   right / (right + wrong)

A prediction over two true nodes is two detected and one right; two predictions over one true node are one detected and
two right. Where there is nothing to count, a measure is None and not a number: two empty masks have no Dice, neither 0
nor 1. `lnfast evaluate` gives this precision as ``by_prediction``, beside the others that the paper's words admit, such
as matches one to one: see `lnfast.evaluate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import UsageError
from lnfast.geometry import Volume, check_same_grid
from lnfast.measure import LymphNode, Rules, measure_nodes


@dataclass(frozen=True, eq=False)
class NodeMap:
    """Nodes and their voxels.

    Attributes:
        labels: ``(z, y, x)`` integers, value = node id, 0 outside.
        nodes: ``nodes[i].id == i + 1``.
    """

    labels: Volume
    nodes: tuple[LymphNode, ...]


@dataclass(frozen=True)
class Detection:
    """How many suspicious nodes were detected, and how many suspicious predictions are right.

    Attributes:
        detected, missed: suspicious true nodes that a suspicious prediction touches, and those that none touches.
        right, wrong: suspicious predictions that touch a suspicious true node, and those that touch none.
    """

    detected: int
    missed: int
    right: int
    wrong: int

    @property
    def recall(self) -> float | None:
        """None without true nodes."""
        return _share(self.detected, self.missed)

    @property
    def precision(self) -> float | None:
        """None without predictions."""
        return _share(self.right, self.wrong)

    @property
    def f1(self) -> float | None:
        """Harmonic mean; None where recall or precision is, 0 where both are 0."""
        recall, precision = self.recall, self.precision
        if recall is None or precision is None:
            return None
        return 2 * recall * precision / (recall + precision) if recall + precision else 0.0

    def __add__(self, other: Detection) -> Detection:
        """Return the counts of two studies together."""
        return Detection(
            detected=self.detected + other.detected,
            missed=self.missed + other.missed,
            right=self.right + other.right,
            wrong=self.wrong + other.wrong,
        )


@dataclass(frozen=True)
class Match:
    """A true node and the prediction that shares most voxels with it, ties by the lower id.

    Attributes:
        predicted: None when no prediction touches the true node.
        shared_voxels: of the two.
    """

    truth: LymphNode
    predicted: LymphNode | None
    shared_voxels: int


@dataclass(frozen=True)
class Comparison:
    """One study's prediction against its truth.

    Attributes:
        dice: of all node voxels; None when both masks are empty.
        detection: of suspicious nodes.
        matches: one for each true node, suspicious or not, in the order of ids.
        unmatched: false positives: predictions that touch no true node.
        shared: as `shared_voxels` counts them, true nodes by predicted nodes.
    """

    dice: float | None
    detection: Detection
    matches: tuple[Match, ...]
    unmatched: tuple[LymphNode, ...]
    shared: NDArray[np.int64] = field(compare=False, repr=False)


def dice(first: NDArray[Any], second: NDArray[Any]) -> float | None:
    """Return twice the shared voxels over the sum of both masks; None when both are empty.

    Args:
        first, second: same shape; what is not 0 counts.

    Raises:
        UsageError: ``grid-mismatch``.
    """
    if first.shape != second.shape:
        raise UsageError("grid-mismatch", f"got masks of shape {first.shape} and {second.shape}, wanted one grid")
    inside_first, inside_second = first != 0, second != 0
    shared = int(np.count_nonzero(inside_first & inside_second))
    return dice_of_counts(shared, int(np.count_nonzero(inside_first)), int(np.count_nonzero(inside_second)))


def dice_of_counts(shared: int, first: int, second: int) -> float | None:
    """Return Dice from the voxels of the intersection and of either mask; None of two empty masks."""
    return 2 * shared / (first + second) if first + second else None


def node_map(labels: Volume, rules: Rules) -> NodeMap:
    """Measure the nodes of a label volume whose values 1 to n are instance ids.

    Raises:
        UsageError: ``bad-labels`` for values below 0 or ids that are missing.
    """
    present = np.unique(labels.array)
    ids = present[present != 0]
    if not np.array_equal(ids, np.arange(1, len(ids) + 1)):
        raise UsageError("bad-labels", f"got node ids {ids[:10].tolist()}, wanted 1 to n without a gap")
    return NodeMap(labels, measure_nodes(labels, len(ids), rules))


def compare(predicted: NodeMap, truth: NodeMap) -> Comparison:
    """Compare a prediction with the truth of the same study.

    Args:
        predicted, truth: measured by the same rules on the same grid.

    Raises:
        UsageError: ``grid-mismatch``.
    """
    check_same_grid(predicted.labels.grid, truth.labels.grid)
    counts = len(truth.nodes), len(predicted.nodes)
    shared = shared_voxels(truth.labels.array, predicted.labels.array, counts)
    return Comparison(
        dice=dice(predicted.labels.array, truth.labels.array),
        detection=_detection(shared, truth.nodes, predicted.nodes),
        matches=tuple(
            Match(node, None, 0) if column < 0 else Match(node, predicted.nodes[column], int(row[column]))
            for node, row, column in zip(truth.nodes, shared, best_columns(shared), strict=True)
        ),
        unmatched=tuple(node for node in predicted.nodes if not shared[:, node.id - 1].any()),
        shared=shared,
    )


def shared_voxels(row_labels: NDArray[Any], column_labels: NDArray[Any], counts: tuple[int, int]) -> NDArray[np.int64]:
    """Count the voxels that each two nodes of two label maps share.

    Args:
        row_labels, column_labels: ``(z, y, x)`` node ids on one grid, 1 to n, 0 outside.
        counts: nodes of either.

    Returns:
        ``counts``-shaped table; entry ``[i, j]`` is of node ``i + 1`` of the first and node ``j + 1`` of the second.
    """
    inside = (row_labels != 0) & (column_labels != 0)
    rows, columns = counts
    cells = (row_labels[inside].astype(np.int64) - 1) * columns + column_labels[inside].astype(np.int64) - 1
    return np.bincount(cells, minlength=rows * columns).reshape(rows, columns)


def best_columns(shared: NDArray[np.int64]) -> tuple[int, ...]:
    """Return each row's match: the column with most shared voxels, the lowest of equals; -1 where it touches none."""
    return tuple(int(row.argmax()) if row.any() else -1 for row in shared)


def _detection(shared: NDArray[np.int64], truth: Sequence[LymphNode], predicted: Sequence[LymphNode]) -> Detection:
    suspicious_rows = np.array([node.suspicious for node in truth], dtype=bool)
    suspicious_columns = np.array([node.suspicious for node in predicted], dtype=bool)
    touching = shared[suspicious_rows][:, suspicious_columns] > 0
    detected, right = int(touching.any(axis=1).sum()), int(touching.any(axis=0).sum())
    return Detection(detected, touching.shape[0] - detected, right, touching.shape[1] - right)


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None
