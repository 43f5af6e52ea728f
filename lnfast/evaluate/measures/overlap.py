"""How well a prediction covers the truth: one study's subset of nodes as one mask, or one node and its match.

    Dice = 2 TP / (2 TP + FP + FN)      VS = 1 - |FN - FP| / (2 TP + FP + FN)
    PPV  = TP / (TP + FP)               TPR = TP / (TP + FN)

Where both sides are empty nothing is defined, and a patient without nodes is no perfect score. Where one is, what has a
denominator is 0 and the distances are undefined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lnfast.evaluate.extra import load
from lnfast.evaluate.measures.distances import Mask, directed, mahalanobis
from lnfast.evaluate.measures.values import SUBSETS, Score, Subset, select
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

    dice: Score
    ppv: Score
    tpr: Score
    vs: Score
    hd_mm: Score
    avd_mm: Score
    mhd: Score

    def score(self, measure: str) -> Score:
        """One of `MEASURES`."""
        found: Score = getattr(self, measure)
        return found


def overlap_by_subset(predicted: NodeMap, truth: NodeMap) -> dict[Subset, Overlap]:
    """The measures of each subset; ``suspicious`` and ``largest`` are chosen on each side by its own measurement.

    Args:
        predicted, truth: of one study, on one grid.
    """
    box = _box((predicted.labels.array != 0) | (truth.labels.array != 0))
    ours, theirs = predicted.labels.array[box], truth.labels.array[box]
    affine = truth.labels.grid.affine
    return {subset: overlap(_mask(ours, predicted, subset), _mask(theirs, truth, subset), affine) for subset in SUBSETS}


def overlap_by_pair(predicted: NodeMap, truth: NodeMap, pairs: Sequence[Match]) -> tuple[Overlap | None, ...]:
    """The measures of each true node against the prediction that it is paired with; None where there is none.

    A false node elsewhere in the pelvis does not count here, as it does in the mask of a whole study, where it alone
    makes the Hausdorff distance.

    Args:
        predicted, truth: of one study, on one grid.
        pairs: as `lnfast.matching.compare` found them.
    """
    find = load("scipy.ndimage").find_objects
    ours, theirs = find(predicted.labels.array), find(truth.labels.array)
    found: list[Overlap | None] = []
    for pair in pairs:
        if pair.predicted is None:
            found.append(None)
            continue
        spans = zip(ours[pair.predicted.id - 1], theirs[pair.truth.id - 1], strict=True)
        box = tuple(slice(min(one.start, other.start), max(one.stop, other.stop)) for one, other in spans)
        one, other = predicted.labels.array[box] == pair.predicted.id, truth.labels.array[box] == pair.truth.id
        found.append(overlap(one, other, truth.labels.grid.affine))
    return tuple(found)


def overlap(predicted: Mask, truth: Mask, affine: NDArray[np.float64]) -> Overlap:
    """The measures of two masks.

    Args:
        predicted, truth: same shape ``(z, y, x)``.
        affine: (4, 4), index ``(x, y, z, 1)`` to mm; where it begins does not matter.
    """
    tp = int(np.count_nonzero(predicted & truth))
    fp, fn = int(np.count_nonzero(predicted)) - tp, int(np.count_nonzero(truth)) - tp
    both = 2 * tp + fp + fn
    hd, avd, mhd = _distances(predicted, truth, affine, _missing(tp + fp, tp + fn))
    return Overlap(
        dice=Score(dice_of_counts(tp, tp + fp, tp + fn), None if both else NEITHER),
        ppv=Score(tp / (tp + fp)) if tp + fp else Score(None, NO_PREDICTION if fn else NEITHER),
        tpr=Score(tp / (tp + fn)) if tp + fn else Score(None, NO_TRUTH if fp else NEITHER),
        vs=Score(1 - abs(fn - fp) / both) if both else Score(None, NEITHER),
        hd_mm=hd,
        avd_mm=avd,
        mhd=mhd,
    )


def _distances(
    predicted: Mask, truth: Mask, affine: NDArray[np.float64], missing: str | None
) -> tuple[Score, Score, Score]:
    if missing is not None:
        return Score(None, missing), Score(None, missing), Score(None, missing)
    there, back = directed(predicted, truth, affine), directed(truth, predicted, affine)
    mhd = mahalanobis(predicted, truth)
    return (
        Score(max(there.greatest_mm, back.greatest_mm)),
        Score(max(there.average_mm, back.average_mm)),
        Score(mhd, FLAT if mhd is None else None),
    )


def _missing(predicted: int, truth: int) -> str | None:
    if predicted and truth:
        return None
    return NO_PREDICTION if truth else NO_TRUTH if predicted else NEITHER


def _mask(labels: NDArray[np.integer], nodes: NodeMap, subset: Subset) -> Mask:
    wanted = np.zeros(len(nodes.nodes) + 1, bool)
    wanted[[node.id for node in select(nodes.nodes, subset)]] = True
    mask: Mask = wanted[labels]
    return mask


def _box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box around a mask: nodes fill little of a study, and nothing outside them counts."""
    spans = []
    for axis in range(3):
        places = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        spans.append(slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0))
    return tuple(spans)
