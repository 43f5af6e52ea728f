"""Whether scanners or subsets differ: one-way analysis of variance, then Fisher's least significant difference.

LSD is a t-test for each two groups with the variance of all (the mean square within) and its degrees of freedom,
without a correction for how many tests there are. That is what the paper ran (SPSS).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from lnfast.evaluate.extra import load
from lnfast.evaluate.measures.detection import CONFIDENCE
from lnfast.evaluate.measures.values import alike, mean_sd

# Squares of 1e-160 leave nothing; what is smaller than a normal number has lost its digits already.
LEAST_WITHIN = float(np.finfo(np.float64).tiny)


def compare_groups(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """ANOVA and LSD of one measure.

    Args:
        values: one a patient, by group, or by subset; groups without any are left out of the test.

    Returns:
        ``f``, ``df_between``, ``df_within``, ``p_value``, ``groups`` (mean, SD and n of each), ``lsd`` (one for each
        two groups: difference first - second with its interval, t, p) and ``reason``, why there is no test.
    """
    groups = {name: np.array(numbers, np.float64) for name, numbers in sorted(values.items())}
    told = {name: mean_sd(numbers.tolist()) for name, numbers in groups.items()}
    tested = {name: numbers for name, numbers in groups.items() if len(numbers)}
    n, k = sum(map(len, tested.values())), len(tested)
    if k < 2:
        return _untested(told, "fewer than two groups with values")
    if n - k < 1:
        return _untested(told, "no group has two values")
    scale = max(float(np.abs(numbers).max()) for numbers in tested.values())
    if all(alike(numbers, scale) for numbers in tested.values()):
        return _untested(told, "the values of each group are alike")
    within = sum(float(((numbers - numbers.mean()) ** 2).sum()) for numbers in tested.values()) / (n - k)
    if not within > LEAST_WITHIN:
        return _untested(told, "the variance within the groups is below what float64 holds")
    f, p = load("scipy.stats").f_oneway(*tested.values())
    return {
        "f": float(f),
        "df_between": k - 1,
        "df_within": n - k,
        "p_value": float(p),
        "groups": told,
        "lsd": [
            {"groups": [one, other], **_lsd(tested[one], tested[other], within, n - k)}
            for one, other in combinations(tested, 2)
        ],
        "reason": None,
    }


def _lsd(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], within: float, df: int) -> dict[str, float]:
    difference = float(one.mean() - other.mean())
    se = (within * (1 / len(one) + 1 / len(other))) ** 0.5
    law = load("scipy.stats").t(df)
    reach = float(law.ppf((1 + CONFIDENCE) / 2)) * se
    return {
        "difference": difference,
        "low": difference - reach,
        "high": difference + reach,
        "t": difference / se,
        "p_value": float(2 * law.sf(abs(difference / se))),
    }


def _untested(groups: dict[str, Any], reason: str) -> dict[str, Any]:
    nothing = {"f": None, "df_between": None, "df_within": None, "p_value": None}
    return {**nothing, "groups": groups, "lsd": [], "reason": reason}
