"""How well a prediction covers the truth: a subset of a study's nodes as one mask, or one node and its match.

    Dice = 2 TP / (2 TP + FP + FN)      VS = 1 - |FN - FP| / (2 TP + FP + FN)
    PPV  = TP / (TP + FP)               TPR = TP / (TP + FN)

Where both sides are empty every measure is undefined: a patient without nodes is not a perfect result. Where one side
is empty, a measure with a denominator is 0 and the distances are undefined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnfast.evaluate.measures.distances import Mask, directed, mahalanobis
from lnfast.evaluate.measures.subsets import SUBSETS, Subset, select
from lnfast.evaluate.measures.values import MeasureValue
from lnfast.evaluate.packages import load
from lnfast.matching import Match, NodeMap, dice_of_counts

MEASURES = ("dice", "ppv", "tpr", "vs", "hd_mm", "avd_mm", "mhd")
NO_TRUTH, NO_PREDICTION, NEITHER = "no true node", "no predicted node", "no node on either side"
FLAT = "both sides are flat in one direction"


@dataclass(frozen=True)
class Overlap:
    """The measures of one subset of one study.

    Attributes:
        dice, ppv, tpr, vs: 0 to 1.
        hd_mm, avd_mm: in mm.
        mhd: without a unit.
    """

    dice: MeasureValue
    ppv: MeasureValue
    tpr: MeasureValue
    vs: MeasureValue
    hd_mm: MeasureValue
    avd_mm: MeasureValue
    mhd: MeasureValue

    def value_of(self, measure: str) -> MeasureValue:
        """Return the value of one of `MEASURES`."""
        value: MeasureValue = getattr(self, measure)
        return value


def overlap_by_subset(predicted: NodeMap, truth: NodeMap) -> dict[Subset, Overlap]:
    """Return the measures of each subset; ``suspicious`` and ``largest`` are selected on each side by its measurement.

    Args:
        predicted, truth: of one study, on one grid.
    """
    box = _bounding_box((predicted.labels.array != 0) | (truth.labels.array != 0))
    predicted_labels, true_labels = predicted.labels.array[box], truth.labels.array[box]
    affine = truth.labels.grid.affine
    return {
        subset: overlap(_mask(predicted_labels, predicted, subset), _mask(true_labels, truth, subset), affine)
        for subset in SUBSETS
    }


def overlap_by_match(predicted: NodeMap, truth: NodeMap, matches: Sequence[Match]) -> tuple[Overlap | None, ...]:
    """Return the measures of each true node against its match; None for a true node without one.

    A false node elsewhere in the pelvis does not count here. In the mask of a whole study it does: there it alone
    determines the Hausdorff distance.

    Args:
        predicted, truth: of one study, on one grid.
        matches: of `lnfast.matching.compare`.
    """
    find_boxes = load("scipy.ndimage").find_objects
    predicted_boxes, true_boxes = find_boxes(predicted.labels.array), find_boxes(truth.labels.array)
    overlaps: list[Overlap | None] = []
    for match in matches:
        if match.predicted is None:
            overlaps.append(None)
            continue
        spans = zip(predicted_boxes[match.predicted.id - 1], true_boxes[match.truth.id - 1], strict=True)
        box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in spans)
        predicted_mask = predicted.labels.array[box] == match.predicted.id
        true_mask = truth.labels.array[box] == match.truth.id
        overlaps.append(overlap(predicted_mask, true_mask, truth.labels.grid.affine))
    return tuple(overlaps)


def overlap(predicted: Mask, truth: Mask, affine: NDArray[np.float64]) -> Overlap:
    """Return the measures of two masks.

    Args:
        predicted, truth: same shape ``(z, y, x)``.
        affine: (4, 4), index ``(x, y, z, 1)`` to mm; its origin does not matter.
    """
    tp = int(np.count_nonzero(predicted & truth))
    fp, fn = int(np.count_nonzero(predicted)) - tp, int(np.count_nonzero(truth)) - tp
    both = 2 * tp + fp + fn
    hd, avd, mhd = _distances(predicted, truth, affine, _missing(tp + fp, tp + fn))
    return Overlap(
        dice=MeasureValue(dice_of_counts(tp, tp + fp, tp + fn), None if both else NEITHER),
        ppv=MeasureValue(tp / (tp + fp)) if tp + fp else MeasureValue(None, NO_PREDICTION if fn else NEITHER),
        tpr=MeasureValue(tp / (tp + fn)) if tp + fn else MeasureValue(None, NO_TRUTH if fp else NEITHER),
        vs=MeasureValue(1 - abs(fn - fp) / both) if both else MeasureValue(None, NEITHER),
        hd_mm=hd,
        avd_mm=avd,
        mhd=mhd,
    )


def _distances(
    predicted: Mask, truth: Mask, affine: NDArray[np.float64], missing: str | None
) -> tuple[MeasureValue, MeasureValue, MeasureValue]:
    if missing is not None:
        return MeasureValue(None, missing), MeasureValue(None, missing), MeasureValue(None, missing)
    to_truth, to_prediction = directed(predicted, truth, affine), directed(truth, predicted, affine)
    mhd = mahalanobis(predicted, truth)
    return (
        MeasureValue(max(to_truth.greatest_mm, to_prediction.greatest_mm)),
        MeasureValue(max(to_truth.average_mm, to_prediction.average_mm)),
        MeasureValue(mhd, FLAT if mhd is None else None),
    )


def _missing(predicted: int, truth: int) -> str | None:
    if predicted and truth:
        return None
    return NO_PREDICTION if truth else NO_TRUTH if predicted else NEITHER


def _mask(labels: NDArray[np.integer], nodes: NodeMap, subset: Subset) -> Mask:
    selected = np.zeros(len(nodes.nodes) + 1, bool)
    selected[[node.id for node in select(nodes.nodes, subset)]] = True
    mask: Mask = selected[labels]
    return mask


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    """Return the smallest box around a mask: nodes fill little of a study, and nothing outside them counts."""
    spans = []
    for axis in range(3):
        indices = np.flatnonzero(mask.any(axis=tuple(k for k in range(3) if k != axis)))
        spans.append(slice(int(indices[0]), int(indices[-1]) + 1) if len(indices) else slice(0, 0))
    return tuple(spans)
