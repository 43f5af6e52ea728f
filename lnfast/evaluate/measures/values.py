"""The value of a measure, or why there is none. A failure is never a number, and a mean says how many it is the mean
of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95
# Relative to the values: two measurements of one thing differ in float64 by far less, two that mean different things by
# far more.
ALIKE = 1e-9


@dataclass(frozen=True)
class MeasureValue:
    """The value of one measure.

    Attributes:
        value: finite; None when the measure is undefined.
        reason: why it is undefined.
    """

    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Estimate:
    """A measure and its 95 % interval.

    Attributes:
        value, low, high: finite or None.
        reason: why one of them is None.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return ``value``, ``low``, ``high``, ``reason``."""
        return {"value": self.value, "low": self.low, "high": self.high, "reason": self.reason}


def summary(values: Sequence[MeasureValue]) -> dict[str, Any]:
    """Return mean and SD (n - 1) of the defined values: ``mean``, ``sd``, ``n``, ``undefined``, ``reasons``."""
    defined = [value.value for value in values if value.value is not None]
    reasons = Counter(value.reason for value in values if value.value is None)
    return {
        **mean_sd(defined),
        "undefined": len(values) - len(defined),
        "reasons": {str(reason): count for reason, count in sorted(reasons.items(), key=lambda item: str(item[0]))},
    }


def mean_sd(values: Sequence[float]) -> dict[str, Any]:
    """Return ``mean`` (None without values), ``sd`` (n - 1; None for fewer than two), ``n``."""
    n = len(values)
    mean = math.fsum(values) / n if n else None
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1)) if n > 1 and mean is not None else None
    return {"mean": mean, "sd": sd, "n": n}


def alike(values: ArrayLike, scale: float) -> bool:
    """Return whether values differ by no more than the rounding of numbers of this size."""
    return bool(np.ptp(np.asarray(values, float)) <= ALIKE * scale)
