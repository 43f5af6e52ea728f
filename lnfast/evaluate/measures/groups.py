"""Whether scanners or subsets differ: one-way analysis of variance, then Fisher's least significant difference.

LSD is a t-test of each pair of groups with the pooled variance (the mean square within) and its degrees of freedom,
without a correction for the number of tests. That is what the paper ran (SPSS).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from lnfast.evaluate.measures.values import CONFIDENCE, alike, mean_sd
from lnfast.evaluate.packages import load

# Squares of 1e-160 underflow to 0; a number below the normal range has already lost its digits.
LEAST_WITHIN = float(np.finfo(np.float64).tiny)


def compare_groups(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Run ANOVA and LSD on one measure.

    Args:
        values: one value for each patient, by group or by subset; groups without values are left out of the test.

    Returns:
        ``f``, ``df_between``, ``df_within``, ``p_value``, ``groups`` (mean, SD and n of each), ``lsd`` (for each pair
        of groups: difference first - second with its interval, t, p) and ``reason``, why there is no test.
    """
    groups = {name: np.array(numbers, np.float64) for name, numbers in sorted(values.items())}
    summaries = {name: mean_sd(numbers.tolist()) for name, numbers in groups.items()}
    tested = {name: numbers for name, numbers in groups.items() if len(numbers)}
    n, k = sum(map(len, tested.values())), len(tested)
    if k < 2:
        return _untested(summaries, "fewer than two groups with values")
    if n - k < 1:
        return _untested(summaries, "no group has two values")
    scale = max(float(np.abs(numbers).max()) for numbers in tested.values())
    if all(alike(numbers, scale) for numbers in tested.values()):
        return _untested(summaries, "the values of each group are alike")
    within = sum(float(((numbers - numbers.mean()) ** 2).sum()) for numbers in tested.values()) / (n - k)
    if not within > LEAST_WITHIN:
        return _untested(summaries, "the variance within the groups is below what float64 holds")
    f, p = load("scipy.stats").f_oneway(*tested.values())
    return {
        "f": float(f),
        "df_between": k - 1,
        "df_within": n - k,
        "p_value": float(p),
        "groups": summaries,
        "lsd": [
            {"groups": [first, second], **_lsd(tested[first], tested[second], within, n - k)}
            for first, second in combinations(tested, 2)
        ],
        "reason": None,
    }


def _lsd(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any], within: float, df: int) -> dict[str, float]:
    difference = float(first.mean() - second.mean())
    se = (within * (1 / len(first) + 1 / len(second))) ** 0.5
    distribution = load("scipy.stats").t(df)
    half_width = float(distribution.ppf((1 + CONFIDENCE) / 2)) * se
    return {
        "difference": difference,
        "low": difference - half_width,
        "high": difference + half_width,
        "t": difference / se,
        "p_value": float(2 * distribution.sf(abs(difference / se))),
    }


def _untested(groups: dict[str, Any], reason: str) -> dict[str, Any]:
    undefined = {"f": None, "df_between": None, "df_within": None, "p_value": None}
    return {**undefined, "groups": groups, "lsd": [], "reason": reason}
