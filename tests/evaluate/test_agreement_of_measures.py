"""Agreement and groups: libraries where they have it, by hand where they do not, and what is undefined."""

from __future__ import annotations

import numpy as np
import pytest
from node_blocks import LARGE, SMALL, nodes_at
from scipy import stats
from statsmodels.regression.linear_model import OLS

from lnfast.evaluate.measures.agreement import MatchedValues, agreement, matched
from lnfast.evaluate.measures.groups import compare_groups
from lnfast.evaluate.measures.values import MeasureValue, mean_sd, summary
from lnfast.matching import compare


def of(truth: list[float], predicted: list[float]) -> MatchedValues:
    return MatchedValues(np.array(truth, float), np.array(predicted, float))


def test_bland_and_altman_by_hand() -> None:
    """Differences 1, 2, 3, 2: mean 2, sum of squares 2, SD sqrt(2 / 3)."""
    result = agreement(of([1, 5, 9, 4], [2, 7, 12, 6]))
    sd = (2 / 3) ** 0.5
    assert (result["bias"], result["n"]) == (2.0, 4)
    assert (result["loa_low"], result["loa_high"]) == pytest.approx((2 - 1.96 * sd, 2 + 1.96 * sd))
    assert result["p_value"] == pytest.approx(2 * stats.t(3).sf(2 / (sd / 2)))
    assert result["pearson_r"] == pytest.approx(np.corrcoef([1, 5, 9, 4], [2, 7, 12, 6])[0, 1])
    assert result["pearson_low"] < result["pearson_r"] < result["pearson_high"]
    assert result["reasons"] == {}


@pytest.mark.parametrize(
    ("truth", "predicted", "undefined"),
    [
        ([], [], {"bias", "loa", "p_value", "pearson_r"}),
        ([5.0], [6.0], {"loa", "p_value", "pearson_r"}),
        ([5.0, 6.0], [6.0, 6.5], {"pearson_r"}),
        ([5.0, 6.0, 8.0], [6.0, 6.5, 8.0], {"pearson_interval"}),
        ([5.0, 6.0, 8.0, 9.0], [5.0, 6.0, 8.0, 9.0], {"p_value", "pearson_interval"}),
        ([5.0, 5.0, 5.0, 5.0], [5.0, 6.0, 8.0, 9.0], {"pearson_r"}),
        # What is left of equal differences after rounding is no evidence.
        ([0.1, 0.2, 0.3, 0.7], [0.1 + 1.1, 0.2 + 1.1, 0.3 + 1.1, 0.7 + 1.1], {"p_value"}),
    ],
)
def test_what_is_undefined_says_why(truth: list[float], predicted: list[float], undefined: set[str]) -> None:
    result = agreement(of(truth, predicted))
    assert set(result["reasons"]) - {"pearson_interval"} == undefined - {"pearson_interval"}
    for key, entry in (("bias", "bias"), ("loa", "loa_low"), ("p_value", "p_value"), ("pearson_r", "pearson_r")):
        assert (result[entry] is None) == (key in undefined)
    numbers = [value for value in result.values() if isinstance(value, float)]
    assert np.isfinite(numbers).all()


def test_pairs_are_of_true_nodes_that_something_touches() -> None:
    truth = nodes_at(((0, 0, 0), LARGE), ((0, 30, 30), SMALL), ((0, 50, 50), SMALL))
    predicted = nodes_at(((0, 0, 0), SMALL), ((0, 30, 30), LARGE), ((12, 0, 40), SMALL))
    studies = [compare(predicted, truth).matches]
    values = matched(studies, "short_axis_mm", "all")
    assert (values.truth.tolist(), values.predicted.tolist()) == ([9.0, 4.0], [4.0, 9.0])
    for subset in ("suspicious", "largest"):  # of the truth, whatever the prediction's size
        values = matched(studies, "volume_mm3", subset)
        assert (values.truth.tolist(), values.predicted.tolist()) == ([900.0], [64.0])


def test_means_say_how_many() -> None:
    result = summary(
        [
            MeasureValue(1.0),
            MeasureValue(None, "b"),
            MeasureValue(3.0),
            MeasureValue(None, "a"),
            MeasureValue(None, "b"),
        ]
    )
    assert result == {"mean": 2.0, "sd": 2.0**0.5, "n": 2, "undefined": 3, "reasons": {"a": 1, "b": 2}}
    assert mean_sd([5.0]) == {"mean": 5.0, "sd": None, "n": 1}
    assert mean_sd([]) == {"mean": None, "sd": None, "n": 0}


def test_anova_and_lsd_against_a_linear_model() -> None:
    """LSD is what the coefficients of the model test, one scanner being the base."""
    rng = np.random.default_rng(0)
    values = {name: rng.normal(mean, 1, n).tolist() for name, mean, n in (("a", 0, 7), ("b", 0.5, 9), ("c", 2, 5))}
    result = compare_groups(values)
    y = np.concatenate(list(values.values()))
    group = np.repeat(list(values), [len(numbers) for numbers in values.values()])
    model = OLS(y, np.stack([np.ones(len(y)), group == "b", group == "c"], axis=1)).fit()
    assert result["f"] == pytest.approx(model.fvalue)
    assert result["p_value"] == pytest.approx(model.f_pvalue)
    assert (result["df_between"], result["df_within"]) == (2, 18)
    assert [pair["groups"] for pair in result["lsd"]] == [["a", "b"], ["a", "c"], ["b", "c"]]
    ends = model.conf_int()
    for pair, which in zip(result["lsd"], (1, 2), strict=False):
        assert pair["difference"] == pytest.approx(-model.params[which])
        assert pair["t"] == pytest.approx(-model.tvalues[which])
        assert pair["p_value"] == pytest.approx(model.pvalues[which])
        assert (-pair["high"], -pair["low"]) == pytest.approx(tuple(ends[which]))


@pytest.mark.parametrize(
    "values",
    [{}, {"a": [1.0, 2.0]}, {"a": [1.0, 2.0], "b": []}, {"a": [1.0], "b": [2.0]}, {"a": [1.0, 1.0], "b": [2.0, 2.0]}],
)
def test_no_test_without_groups_or_variance(values: dict[str, list[float]]) -> None:
    result = compare_groups(values)
    assert (result["f"], result["p_value"], result["lsd"]) == (None, None, [])
    assert result["reason"]
    assert set(result["groups"]) == set(values)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 5e-324])
def test_a_variance_below_what_float64_holds_is_no_test(size: float) -> None:
    result = compare_groups({"a": [size, 3 * size], "b": [5 * size, 9 * size]})
    assert (result["f"], result["p_value"], result["lsd"]) == (None, None, [])
    assert result["reason"] == "the variance within the groups is below what float64 holds"


def test_one_patient_of_a_scanner_is_still_compared() -> None:
    result = compare_groups({"a": [1.0, 2.0, 4.0], "b": [3.0]})
    assert result["p_value"] == pytest.approx(result["lsd"][0]["p_value"])
    assert result["groups"]["b"] == {"mean": 3.0, "sd": None, "n": 1}
