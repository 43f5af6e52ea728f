"""N0 or N1, patient by patient, as MedCalc computes it.

sensitivity, specificity   exact binomial intervals (Clopper and Pearson)
AUC of the call            (sensitivity + specificity) / 2: what the paper reports. Its interval is the exact binomial
                           one of AUC x patients, as MedCalc and the paper have it; DeLong's is given beside it
AUC of the short axis      of the largest prediction, 0 without any: how well another limit could separate the stages
kappa                      Cohen's, unweighted, with its asymptotic interval
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lnfast.evaluate.measures.delong import Auc, delong
from lnfast.evaluate.measures.detection import interval
from lnfast.evaluate.measures.values import CONFIDENCE, Estimate
from lnfast.evaluate.packages import load

NO_POSITIVE, NO_NEGATIVE = "no patient is N1 in the truth", "no patient is N0 in the truth"
TOO_FEW = "fewer than two patients of a class"
NO_VARIANCE = "too few patients of a class, or all ordered alike: DeLong's variance is undefined or 0"
ONE_CLASS = "both sides call every patient alike: agreement by chance is already complete"
# The square root of what rounding leaves of a variance of 0; a single patient of a million who differs leaves 1e-3.
LEAST_SE = 1e-6
CERTAIN = "the asymptotic variance is 0"


@dataclass(frozen=True)
class PatientStaging:
    """The stage of one patient, true and predicted.

    Attributes:
        truth: whether the truth is N1.
        called: whether the prediction is N1.
        score: largest predicted short axis in mm, 0 without a prediction.
    """

    truth: bool
    called: bool
    score: float


@dataclass(frozen=True)
class ConfusionTable:
    """Numbers of patients by true and predicted stage; N1 is positive."""

    tp: int
    fp: int
    fn: int
    tn: int


def confusion_table(patients: Sequence[PatientStaging]) -> ConfusionTable:
    """Count patients by true and predicted stage."""

    def count(truth: bool, called: bool) -> int:
        return sum(patient.truth is truth and patient.called is called for patient in patients)

    return ConfusionTable(count(True, True), count(False, True), count(True, False), count(False, False))


def patient_level(patients: Sequence[PatientStaging]) -> dict[str, Any]:
    """Return every measure of this module as metrics.json holds them.

    Args:
        patients: any number, also none.
    """
    table = confusion_table(patients)
    return {
        "n": len(patients),
        "truth_n1": table.tp + table.fn,
        "predicted_n1": table.tp + table.fp,
        "table": {"tp": table.tp, "fp": table.fp, "fn": table.fn, "tn": table.tn},
        "sensitivity": _share(table.tp, table.fn, NO_POSITIVE),
        "specificity": _share(table.tn, table.fp, NO_NEGATIVE),
        "auc": auc_of_call(table),
        "auc_short_axis": auc_of_score(patients),
        "kappa": kappa([[table.tn, table.fp], [table.fn, table.tp]]),
    }


def _share(right: int, wrong: int, reason: str) -> dict[str, Any]:
    whole = right + wrong
    low, high = interval(right, whole)
    estimate = Estimate(right / whole if whole else None, low, high, None if whole else reason)
    return {**estimate.to_dict(), "count": right, "of": whole}


def auc_of_call(table: ConfusionTable) -> dict[str, Any]:
    """Return the AUC of the call, with the exact binomial interval and DeLong's (``delong_low``, ``delong_high``)."""
    positives, negatives = table.tp + table.fn, table.fp + table.tn
    missing = _one_class(positives, negatives)
    if missing:
        estimate, auc = Estimate(None, reason=missing), None
    else:
        auc = delong([1] * table.tp + [0] * table.fn, [1] * table.fp + [0] * table.tn)
        # By its own formula, so that 0.9625 is exactly 0.9625 and not the rounded mean of ranks.
        value = (table.tp / positives + table.tn / negatives) / 2
        patients = positives + negatives
        # The interval ignores classes: it would be as narrow for 1 and 40 patients as for 20 and 21.
        if min(positives, negatives) < 2:
            estimate = Estimate(value, reason=TOO_FEW)
        else:
            estimate = Estimate(value, *interval(min(value * patients, patients), patients))
    low, high = _normal_interval(auc, 0.0, 1.0)
    return {
        **estimate.to_dict(),
        "delong_low": low,
        "delong_high": high,
        "delong_se": auc.se if auc else None,
        "delong_reason": NO_VARIANCE if auc and low is None else missing,
    }


def auc_of_score(patients: Sequence[PatientStaging]) -> dict[str, Any]:
    """Return the AUC of the largest predicted short axis, with DeLong's interval."""
    positives = [patient.score for patient in patients if patient.truth]
    negatives = [patient.score for patient in patients if not patient.truth]
    missing = _one_class(len(positives), len(negatives))
    if missing:
        return Estimate(None, reason=missing).to_dict()
    auc = delong(positives, negatives)
    low, high = _normal_interval(auc, 0.0, 1.0)
    return Estimate(auc.value, low, high, NO_VARIANCE if low is None else None).to_dict()


def kappa(table: ArrayLike) -> dict[str, Any]:
    """Return Cohen's kappa of two readers.

    Args:
        table: (k, k) counts of patients, by the call of the first reader and of the second.

    Returns:
        ``value``, ``low``, ``high`` (cut at -1 and 1), ``se``, ``reason``.
    """
    counts = np.asarray(table)
    first_reader, second_reader = counts.sum(axis=1), counts.sum(axis=0)
    if not counts.any() or int(first_reader @ second_reader) == int(counts.sum()) ** 2:
        reason = ONE_CLASS if counts.any() else "no patient"
        return {**Estimate(None, reason=reason).to_dict(), "se": None}
    with np.errstate(invalid="ignore", divide="ignore"):  # a variance of 0 may come out as -1e-17
        result = load("statsmodels.stats.inter_rater").cohens_kappa(counts)
    value, se = float(result.kappa), float(result.std_kappa)
    if not se > LEAST_SE:
        return {**Estimate(value, reason=CERTAIN).to_dict(), "se": None}
    low, high = _normal_interval(Auc(value, se), -1.0, 1.0)
    return {**Estimate(value, low, high).to_dict(), "se": se}


def _one_class(positives: int, negatives: int) -> str | None:
    reasons = ([] if positives else [NO_POSITIVE]) + ([] if negatives else [NO_NEGATIVE])
    return ", ".join(reasons) or None


def _normal_interval(estimate: Auc | None, least: float, most: float) -> tuple[float | None, float | None]:
    """Return the normal interval of a value with a standard error, cut at the ends of the measure's range."""
    if estimate is None or estimate.se is None:
        return None, None
    half_width = float(load("scipy.stats").norm.ppf((1 + CONFIDENCE) / 2)) * estimate.se
    return max(estimate.value - half_width, least), min(estimate.value + half_width, most)
