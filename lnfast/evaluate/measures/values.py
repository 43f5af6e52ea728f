"""A number, or why there is none. A failure is never a number, and a mean says how many it is the mean of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from lnfast.measure import LymphNode, largest

Subset = Literal["all", "suspicious", "largest"]
SUBSETS: tuple[Subset, ...] = ("all", "suspicious", "largest")
# Of the values: what two measurements of one thing differ by in float64 is far below, what they mean is far above.
ALIKE = 1e-9


@dataclass(frozen=True)
class Score:
    """One measure.

    Attributes:
        value: finite; None when the measure is undefined.
        reason: why it is.
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
        """``value``, ``low``, ``high``, ``reason``."""
        return {"value": self.value, "low": self.low, "high": self.high, "reason": self.reason}


def select(nodes: Sequence[LymphNode], subset: Subset) -> list[LymphNode]:
    """The nodes of a subset; ``largest`` is one node, the greatest short axis, ties by volume; or none."""
    if subset == "all":
        return list(nodes)
    if subset == "suspicious":
        return [node for node in nodes if node.suspicious]
    node = largest(nodes)
    return [] if node is None else [node]


def summary(scores: Sequence[Score]) -> dict[str, Any]:
    """Mean and SD (n - 1) over the scores that are defined: ``mean``, ``sd``, ``n``, ``undefined``, ``reasons``."""
    values = [score.value for score in scores if score.value is not None]
    reasons = Counter(score.reason for score in scores if score.value is None)
    return {
        **mean_sd(values),
        "undefined": len(scores) - len(values),
        "reasons": {str(reason): count for reason, count in sorted(reasons.items(), key=lambda item: str(item[0]))},
    }


def mean_sd(values: Sequence[float]) -> dict[str, Any]:
    """``mean`` (None without values), ``sd`` (n - 1; None for fewer than two), ``n``."""
    n = len(values)
    mean = math.fsum(values) / n if n else None
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1)) if n > 1 and mean is not None else None
    return {"mean": mean, "sd": sd, "n": n}


def alike(values: ArrayLike, scale: float) -> bool:
    """Whether values differ by no more than the rounding of numbers of this size."""
    return bool(np.ptp(np.asarray(values, float)) <= ALIKE * scale)
