"""A prediction against a truth: overlap of voxels, and which suspicious nodes were found.

As in the clinical method, a suspicious node counts as found when prediction and annotation share a voxel. One
prediction may lie over two true nodes, and two over one, so hits are counted twice:

    recall       by true node        found  / (found + missed)
    precision    by predicted node   right  / (right + wrong)

A prediction over two true nodes is two found and one right; two predictions over one true node are one found and two
right. Where there is nothing to count, a measure is None and not a number. `lnfast evaluate` gives this precision as
``by_prediction``, beside the others that the paper's words admit: see `lnfast.evaluate.measures.detection`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.errors import UsageError
from lnfast.geometry import Volume
from lnfast.measure import LymphNode, Rules, measure_nodes

# Two headers of one study differ by the rounding of float32: 1e-4 mm at 1 m.
SAME_PLACE_MM = 1e-2


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
    """How suspicious nodes were found.

    Attributes:
        found, missed: suspicious true nodes that a suspicious prediction touches, and those that none touches.
        right, wrong: suspicious predictions that touch a suspicious true node, and those that touch none.
    """

    found: int
    missed: int
    right: int
    wrong: int

    @property
    def recall(self) -> float | None:
        """None without true nodes."""
        return _share(self.found, self.missed)

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
        """Counts of two studies together."""
        return Detection(
            self.found + other.found, self.missed + other.missed, self.right + other.right, self.wrong + other.wrong
        )


@dataclass(frozen=True)
class Pair:
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
        pairs: one for each true node, suspicious or not, in the order of ids.
        unmatched: predictions that touch no true node.
        shared: ``(true nodes, predicted nodes)`` voxels that two nodes share; what the others are counted from.
    """

    dice: float | None
    detection: Detection
    pairs: tuple[Pair, ...]
    unmatched: tuple[LymphNode, ...]
    shared: NDArray[np.int64] = field(compare=False, repr=False)


def dice(one: NDArray[Any], other: NDArray[Any]) -> float | None:
    """Twice the shared voxels over the sum of both; None when both are empty.

    Args:
        one, other: same shape; what is not 0 counts.

    Raises:
        UsageError: ``grid-mismatch``.
    """
    if one.shape != other.shape:
        raise UsageError("grid-mismatch", f"got masks of shape {one.shape} and {other.shape}, wanted one grid")
    first, second = one != 0, other != 0
    both = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * np.count_nonzero(first & second) / both if both else None


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
    check_same_grid(predicted.labels, truth.labels)
    shared = shared_voxels(truth, predicted)
    return Comparison(
        dice=dice(predicted.labels.array, truth.labels.array),
        detection=_detection(shared, truth.nodes, predicted.nodes),
        pairs=tuple(_pair(node, shared[node.id - 1], predicted.nodes) for node in truth.nodes),
        unmatched=tuple(node for node in predicted.nodes if not shared[:, node.id - 1].any()),
        shared=shared,
    )


def shared_voxels(rows: NodeMap, columns: NodeMap) -> NDArray[np.int64]:
    """``(rows, columns)`` table: voxels that node ``i + 1`` of one and node ``j + 1`` of the other share."""
    one, other = rows.labels.array, columns.labels.array
    both = (one != 0) & (other != 0)
    width = len(columns.nodes)
    cells = (one[both].astype(np.int64) - 1) * width + other[both].astype(np.int64) - 1
    table = np.bincount(cells, minlength=len(rows.nodes) * width)
    return table.reshape(len(rows.nodes), width)


def check_same_grid(one: Volume, other: Volume) -> None:
    """Raises UsageError ``grid-mismatch`` where two volumes are not of one shape in one place."""
    if one.grid.shape != other.grid.shape:
        raise UsageError("grid-mismatch", f"got grids of {one.grid.shape} and {other.grid.shape}, wanted one grid")
    far = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * (np.array(one.grid.shape[::-1]) - 1)
    apart = float(np.abs(one.grid.to_ras_mm(far) - other.grid.to_ras_mm(far)).max())
    if apart > SAME_PLACE_MM:
        raise UsageError("grid-mismatch", f"the two grids lie {apart:.3g} mm apart, wanted at most {SAME_PLACE_MM} mm")


def _detection(shared: NDArray[np.int64], truth: Sequence[LymphNode], predicted: Sequence[LymphNode]) -> Detection:
    true_ones = np.array([node.suspicious for node in truth], dtype=bool)
    predicted_ones = np.array([node.suspicious for node in predicted], dtype=bool)
    touching = shared[true_ones][:, predicted_ones] > 0
    found, right = int(touching.any(axis=1).sum()), int(touching.any(axis=0).sum())
    return Detection(found, touching.shape[0] - found, right, touching.shape[1] - right)


def _pair(node: LymphNode, shared: NDArray[np.int64], predicted: Sequence[LymphNode]) -> Pair:
    if not shared.any():
        return Pair(node, None, 0)
    best = int(shared.argmax())
    return Pair(node, predicted[best], int(shared[best]))


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None
