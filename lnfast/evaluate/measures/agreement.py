"""Agreement of prediction and truth in the short axis and volume of matched nodes.

    bias      mean of prediction - truth         loa_low, loa_high = bias -+ 1.96 SD  (Bland and Altman, 1986)
    p_value   paired t-test, two-sided           pearson_r with the interval by Fisher's z

A true node is matched with the prediction that shares most voxels with it; a node that no prediction touches is in no
pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnfast.evaluate.measures.subsets import Subset, select
from lnfast.evaluate.measures.values import CONFIDENCE, alike, mean_sd
from lnfast.evaluate.packages import load
from lnfast.matching import Match

QUANTITIES = ("short_axis_mm", "volume_mm3")
LIMITS_SD = 1.96


@dataclass(frozen=True)
class MatchedValues:
    """One quantity of matched nodes, on both sides.

    Attributes:
        truth, predicted: (n,) float64, in the quantity's unit.
    """

    truth: NDArray[np.float64]
    predicted: NDArray[np.float64]


def matched(studies: Sequence[Sequence[Match]], quantity: str, subset: Subset) -> MatchedValues:
    """Return one quantity of the true nodes of a subset and of their matches; true nodes without a match are left out.

    Args:
        studies: the matches of each study, one for every true node.
        quantity: one of `QUANTITIES`.
        subset: of the true nodes; ``largest`` is one of each study.
    """
    matches = [match for study in studies for match in in_subset(study, subset) if match.predicted is not None]
    truth = [getattr(match.truth, quantity) for match in matches]
    predicted = [getattr(match.predicted, quantity) for match in matches]
    return MatchedValues(np.array(truth, np.float64), np.array(predicted, np.float64))


def in_subset(matches: Sequence[Match], subset: Subset) -> list[Match]:
    """Return the matches of one study whose true node belongs to a subset."""
    ids = {node.id for node in select([match.truth for match in matches], subset)}
    return [match for match in matches if match.truth.id in ids]


def agreement(values: MatchedValues) -> dict[str, Any]:
    """Return bias, limits, correlation and test as metrics.json holds them; None with a reason where undefined."""
    n, reasons = len(values.truth), {}
    difference = values.predicted - values.truth
    summary = mean_sd(difference.tolist())
    bias, sd = summary["mean"], summary["sd"]
    if bias is None:
        reasons["bias"] = "no matched pair"
    if sd is None:
        reasons["loa"] = "fewer than two matched pairs"
    pearson_r, pearson_low, pearson_high = _correlation(values, reasons)
    return {
        "bias": bias,
        "loa_low": None if sd is None else bias - LIMITS_SD * sd,
        "loa_high": None if sd is None else bias + LIMITS_SD * sd,
        "pearson_r": pearson_r,
        "p_value": _paired_t(values, reasons),
        "n": n,
        "difference_sd": sd,
        "pearson_low": pearson_low,
        "pearson_high": pearson_high,
        "truth": mean_sd(values.truth.tolist()),
        "predicted": mean_sd(values.predicted.tolist()),
        "reasons": reasons,
    }


def _paired_t(values: MatchedValues, reasons: dict[str, str]) -> float | None:
    if len(values.truth) < 2:
        reasons["p_value"] = "fewer than two matched pairs"
    elif alike(values.predicted - values.truth, _scale(values)):
        reasons["p_value"] = "all differences are alike"
    else:
        return float(load("scipy.stats").ttest_rel(values.predicted, values.truth).pvalue)
    return None


def _correlation(values: MatchedValues, reasons: dict[str, str]) -> tuple[float | None, float | None, float | None]:
    if len(values.truth) < 3:  # two points always lie on a line
        reasons["pearson_r"] = "fewer than three matched pairs"
    elif alike(values.truth, _scale(values)) or alike(values.predicted, _scale(values)):
        reasons["pearson_r"] = "all values of one side are alike"
    else:
        result = load("scipy.stats").pearsonr(values.truth, values.predicted)
        r = float(result.statistic)
        if len(values.truth) > 3 and abs(r) < 1:
            low, high = result.confidence_interval(CONFIDENCE)
            return r, float(low), float(high)
        reasons["pearson_interval"] = "fewer than four matched pairs" if abs(r) < 1 else "all points lie on a line"
        return r, None, None
    return None, None, None


def _scale(values: MatchedValues) -> float:
    return float(max(np.abs(values.truth).max(), np.abs(values.predicted).max()))
