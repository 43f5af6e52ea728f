"""The variance of an AUC (DeLong, DeLong and Clarke-Pearson, Biometrics 1988), by ranks (Sun and Xu, 2014).

None of lnfast's dependencies has it. V10 of a positive is the share of negatives that it lies above, ties a half, and
V01 of a negative the share of positives that lie above it; the AUC is the mean of either, and its variance

    var(V10) / positives + var(V01) / negatives          both over n - 1
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnfast.evaluate.packages import load


@dataclass(frozen=True)
class Auc:
    """An AUC and its standard error.

    Attributes:
        value: 0 to 1.
        se: standard error; None where a class has fewer than two members, or where every pair is ordered alike: a
            variance of 0 says that the sample is too small, not that the AUC is certain.
    """

    value: float
    se: float | None


def delong(positives: ArrayLike, negatives: ArrayLike) -> Auc:
    """Return the AUC of scores, with DeLong's standard error.

    Args:
        positives, negatives: finite scores, at least one of each; a higher score speaks for a positive.
    """
    x, y = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    pooled_ranks = _ranks(np.concatenate([x, y]))
    v10 = (pooled_ranks[: len(x)] - _ranks(x)) / len(y)
    v01 = 1 - (pooled_ranks[len(x) :] - _ranks(y)) / len(x)
    value = float(v10.mean())
    if min(len(x), len(y)) < 2:
        return Auc(value, None)
    variance = float(v10.var(ddof=1)) / len(x) + float(v01.var(ddof=1)) / len(y)
    return Auc(value, variance**0.5 if variance > 0 else None)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    ranks: NDArray[np.float64] = load("scipy.stats").rankdata(values)
    return ranks
