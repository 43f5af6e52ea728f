"""N0 or N1, patient by patient, as MedCalc has it.

sensitivity, specificity   exact binomial intervals (Clopper and Pearson)
AUC of the call            (sensitivity + specificity) / 2: what the paper reports. Its interval is the exact binomial
                           one of AUC x patients, which is MedCalc's and the paper's; DeLong's stands beside it
AUC of the short axis      of the largest prediction, 0 without any: how well some other limit could do
kappa                      Cohen's, unweighted, with its asymptotic interval
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from lnfast.evaluate.extra import load
from lnfast.evaluate.measures.delong import Auc, delong
from lnfast.evaluate.measures.detection import CONFIDENCE, interval
from lnfast.evaluate.measures.values import Estimate

NO_POSITIVE, NO_NEGATIVE = "no patient is N1 in the truth", "no patient is N0 in the truth"
TOO_FEW = "fewer than two patients of a class"
NO_VARIANCE = "too few patients of a class, or all ordered alike: DeLong's variance is undefined or 0"
ONE_CLASS = "both sides call every patient alike: agreement by chance is already complete"
# sqrt of what rounding leaves of a variance of 0; one patient of a million who changes it leaves 1e-3.
LEAST_SE = 1e-6
CERTAIN = "the asymptotic variance is 0"


@dataclass(frozen=True)
class Patient:
    """What two readings say of one patient.

    Attributes:
        truth: N1.
        called: N1.
        score: largest predicted short axis in mm, 0 without a prediction.
    """

    truth: bool
    called: bool
    score: float


@dataclass(frozen=True)
class Table:
    """Patients by truth and call."""

    tp: int
    fp: int
    fn: int
    tn: int


def table_of(patients: Sequence[Patient]) -> Table:
    """Count."""

    def count(truth: bool, called: bool) -> int:
        return sum(patient.truth is truth and patient.called is called for patient in patients)

    return Table(count(True, True), count(False, True), count(True, False), count(False, False))


def patient_level(patients: Sequence[Patient]) -> dict[str, Any]:
    """All of it, as it stands in metrics.json.

    Args:
        patients: any number.
    """
    table = table_of(patients)
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


def auc_of_call(table: Table) -> dict[str, Any]:
    """AUC of N0 or N1, with the exact binomial interval and DeLong's (``delong_low``, ``delong_high``)."""
    positives, negatives = table.tp + table.fn, table.fp + table.tn
    missing = _one_class(positives, negatives)
    if missing:
        estimate, found = Estimate(None, reason=missing), None
    else:
        found = delong([1] * table.tp + [0] * table.fn, [1] * table.fp + [0] * table.tn)
        # By its own formula: 0.9625 is to be 0.9625 and not the last bit of a mean of ranks.
        value = (table.tp / positives + table.tn / negatives) / 2
        patients = positives + negatives
        # The interval knows no classes: of one patient and forty it would say as much as of twenty and twenty-one.
        if min(positives, negatives) < 2:
            estimate = Estimate(value, reason=TOO_FEW)
        else:
            estimate = Estimate(value, *interval(min(value * patients, patients), patients))
    low, high = _within(found, 0.0, 1.0)
    return {
        **estimate.to_dict(),
        "delong_low": low,
        "delong_high": high,
        "delong_se": found.se if found else None,
        "delong_reason": NO_VARIANCE if found and low is None else missing,
    }


def auc_of_score(patients: Sequence[Patient]) -> dict[str, Any]:
    """AUC of the largest predicted short axis, with DeLong's interval."""
    positives = [patient.score for patient in patients if patient.truth]
    negatives = [patient.score for patient in patients if not patient.truth]
    missing = _one_class(len(positives), len(negatives))
    if missing:
        return Estimate(None, reason=missing).to_dict()
    found = delong(positives, negatives)
    low, high = _within(found, 0.0, 1.0)
    return Estimate(found.value, low, high, NO_VARIANCE if low is None else None).to_dict()


def kappa(table: ArrayLike) -> dict[str, Any]:
    """Cohen's kappa of two readers.

    Args:
        table: (k, k) counts, patients by the call of one reader and of the other.

    Returns:
        ``value``, ``low``, ``high`` (not beyond 1 and -1), ``se``, ``reason``.
    """
    counts = np.asarray(table)
    by_one, by_other = counts.sum(axis=1), counts.sum(axis=0)
    if not counts.any() or int(by_one @ by_other) == int(counts.sum()) ** 2:
        reason = ONE_CLASS if counts.any() else "no patient"
        return {**Estimate(None, reason=reason).to_dict(), "se": None}
    with np.errstate(invalid="ignore", divide="ignore"):  # a variance of 0 may come out as -1e-17
        found = load("statsmodels.stats.inter_rater").cohens_kappa(counts)
    value, se = float(found.kappa), float(found.std_kappa)
    if not se > LEAST_SE:
        return {**Estimate(value, reason=CERTAIN).to_dict(), "se": None}
    low, high = _within(Auc(value, se), -1.0, 1.0)
    return {**Estimate(value, low, high).to_dict(), "se": se}


def _one_class(positives: int, negatives: int) -> str | None:
    told = ([] if positives else [NO_POSITIVE]) + ([] if negatives else [NO_NEGATIVE])
    return ", ".join(told) or None


def _within(found: Auc | None, least: float, most: float) -> tuple[float | None, float | None]:
    """The normal interval of a value with a standard error, cut where the measure ends."""
    if found is None or found.se is None:
        return None, None
    reach = float(load("scipy.stats").norm.ppf((1 + CONFIDENCE) / 2)) * found.se
    return max(found.value - reach, least), min(found.value + reach, most)
