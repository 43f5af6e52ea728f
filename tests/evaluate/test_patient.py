"""Patients: the paper's own numbers, an obvious DeLong, and what is undefined."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from lnfast.evaluate.measures.delong import delong
from lnfast.evaluate.measures.patient import (
    NO_NEGATIVE,
    NO_POSITIVE,
    ONE_CLASS,
    TOO_FEW,
    PatientStaging,
    kappa,
    patient_level,
)


def patients(tp: int, fp: int, fn: int, tn: int) -> list[PatientStaging]:
    return (
        [PatientStaging(True, True, 12.0)] * tp
        + [PatientStaging(False, True, 9.0)] * fp
        + [PatientStaging(True, False, 7.0)] * fn
        + [PatientStaging(False, False, 5.0)] * tn
    )


def rounded(result: dict[str, Any], digits: int, *keys: str) -> list[float]:
    return [round(result[key], digits) for key in keys or ("value", "low", "high")]


def test_the_paper_s_patients() -> None:
    result = patient_level(patients(tp=37, fp=3, fn=0, tn=37))
    sensitivity, specificity = result["sensitivity"], result["specificity"]
    assert (sensitivity["count"], sensitivity["of"]) == (37, 37)
    assert (specificity["count"], specificity["of"]) == (37, 40)
    assert rounded(sensitivity, 4) == [1.0, 0.9051, 1.0]
    assert rounded(specificity, 4) == [0.925, 0.7961, 0.9843]
    assert result["auc"]["value"] == 0.9625
    assert rounded(result["auc"], 3, "low", "high") == [0.892, 0.993]
    assert rounded(result["auc"], 3, "delong_low", "delong_high") == [0.921, 1.0]
    assert rounded(result["kappa"], 4, "value", "se") == [0.9222, 0.0439]
    assert result["kappa"]["high"] == 1.0
    assert rounded(result["kappa"], 4, "low") == [0.8361]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ([[37, 3], [0, 37]], 0.9222),  # expert, model
        ([[36, 4], [2, 35]], 0.8442),  # expert, resident
        ([[33, 4], [5, 35]], 0.7661),  # model, resident: none of the resident's four is among the model's three
    ],
)
def test_the_paper_s_readers(table: list[list[int]], expected: float) -> None:
    result = kappa(table)
    assert round(result["value"], 4) == expected
    assert kappa(np.transpose(table))["value"] == pytest.approx(result["value"], rel=1e-12)
    first_reader = [row for row in (0, 1) for column in (0, 1) for _ in range(table[row][column])]
    second_reader = [column for row in (0, 1) for column in (0, 1) for _ in range(table[row][column])]
    assert result["value"] == pytest.approx(cohen_kappa_score(first_reader, second_reader), rel=1e-12)


def test_a_reader_is_a_prediction() -> None:
    """The resident against the expert, by the function that the command calls."""
    assert round(patient_level(patients(tp=35, fp=4, fn=2, tn=36))["kappa"]["value"], 4) == 0.8442


def test_all_patients_of_one_class() -> None:
    result = patient_level(patients(tp=3, fp=0, fn=1, tn=0))
    assert result["sensitivity"]["value"] == 0.75
    assert result["specificity"] == {
        "value": None,
        "low": None,
        "high": None,
        "reason": NO_NEGATIVE,
        "count": 0,
        "of": 0,
    }
    for measure in ("auc", "auc_short_axis"):
        assert (result[measure]["value"], result[measure]["reason"]) == (None, NO_NEGATIVE)
    result = patient_level(patients(tp=0, fp=0, fn=0, tn=5))
    assert (result["sensitivity"]["reason"], result["specificity"]["value"]) == (NO_POSITIVE, 1.0)
    assert (result["kappa"]["value"], result["kappa"]["reason"]) == (None, ONE_CLASS)
    assert kappa([[0, 0], [0, 0]])["value"] is None


def test_a_reader_who_calls_all_alike_agrees_by_chance() -> None:
    assert patient_level(patients(tp=4, fp=6, fn=0, tn=0))["kappa"]["value"] == 0.0


def test_perfect_has_no_asymptotic_interval() -> None:
    """A variance of 0 is a small sample, not certainty; the exact interval says how small."""
    result = patient_level(patients(tp=5, fp=0, fn=0, tn=5))
    assert (result["auc"]["value"], result["auc"]["high"], result["auc"]["delong_low"]) == (1.0, 1.0, None)
    assert 0.6 < result["auc"]["low"] < 0.7
    assert result["auc"]["reason"] is None
    assert result["auc"]["delong_reason"]
    assert (result["kappa"]["value"], result["kappa"]["low"], result["kappa"]["se"]) == (1.0, None, None)
    assert result["kappa"]["reason"]


@pytest.mark.parametrize(("table", "value"), [((1, 1, 0, 9), 0.95), ((9, 0, 1, 1), 0.95), ((1, 0, 0, 1), 1.0)])
def test_an_auc_of_one_patient_of_a_class_has_no_interval(table: tuple[int, int, int, int], value: float) -> None:
    """Ten patients of one class tell nothing of the other."""
    result = patient_level(patients(*table))
    for measure in ("auc", "auc_short_axis"):
        assert (result[measure]["low"], result[measure]["high"]) == (None, None)
        assert result[measure]["reason"]
    assert result["auc"]["value"] == pytest.approx(value)
    assert result["auc"]["reason"] == TOO_FEW
    result = patient_level(patients(2, 0, 0, 2))
    assert (result["auc"]["high"], result["auc"]["reason"]) == (1.0, None)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=12),
    st.lists(st.integers(0, 9), min_size=2, max_size=12),
)
def test_delong_against_every_pair(positives: list[int], negatives: list[int]) -> None:
    result = delong(positives, negatives)
    value, variance = oracles.delong(positives, negatives)  # type: ignore[arg-type]  # integers are floats here
    assert result.value == pytest.approx(value, abs=1e-12)
    assert (result.se or 0.0) ** 2 == pytest.approx(variance, abs=1e-12)
    truth = [1] * len(positives) + [0] * len(negatives)
    assert result.value == pytest.approx(roc_auc_score(truth, positives + negatives), abs=1e-12)
    assert delong(negatives, positives).value == pytest.approx(1 - value, abs=1e-12)


def test_delong_of_one_patient_has_no_variance() -> None:
    assert delong([2.0], [1.0, 3.0]).se is None
