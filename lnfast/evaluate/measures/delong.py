"""The variance of an AUC (DeLong, DeLong and Clarke-Pearson, Biometrics 1988), by ranks (Sun and Xu, 2014).

No kept library has it. V10 of a positive is the share of negatives that it lies above, ties a half, and V01 of a
negative the share of positives that lie above it; the AUC is the mean of either, and its variance

    var(V10) / positives + var(V01) / negatives          both over n - 1
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lnfast.evaluate.extra import load


@dataclass(frozen=True)
class Auc:
    """An AUC and how sure it is.

    Attributes:
        value: 0 to 1.
        se: standard error; None where a class has fewer than two members, or where every pair is ordered alike: a
            variance of 0 says that the sample is too small, not that the AUC is certain.
    """

    value: float
    se: float | None


def delong(positives: ArrayLike, negatives: ArrayLike) -> Auc:
    """The AUC of scores.

    Args:
        positives, negatives: finite scores, at least one of each; a higher score speaks for a positive.
    """
    above, below = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    everyone = _ranks(np.concatenate([above, below]))
    v10 = (everyone[: len(above)] - _ranks(above)) / len(below)
    v01 = 1 - (everyone[len(above) :] - _ranks(below)) / len(above)
    value = float(v10.mean())
    if min(len(above), len(below)) < 2:
        return Auc(value, None)
    variance = float(v10.var(ddof=1)) / len(above) + float(v01.var(ddof=1)) / len(below)
    return Auc(value, variance**0.5 if variance > 0 else None)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    ranks: NDArray[np.float64] = load("scipy.stats").rankdata(values)
    return ranks
