"""When something that failed is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """When a job is tried again, and when it is given up.

    Attributes:
        first_s: after the first failure; it doubles with each.
        most_s: at most.
        jitter: share of it by which it varies, so that not all boxes ask a PACS at the same moment.
        give_up_s: age of a job after which a person must look.
        least_attempts: that are made all the same, for a box that was switched off so long.
    """

    first_s: float = 5.0
    most_s: float = 900.0
    jitter: float = 0.2
    give_up_s: float = 72 * 3600.0
    least_attempts: int = 10

    def delay_s(self, attempts: int) -> float:
        """Seconds to wait after some attempts, all of which failed."""
        doubled = self.first_s * 2.0 ** min(attempts - 1, 32)
        return min(doubled, self.most_s) * random.uniform(1 - self.jitter, 1 + self.jitter)

    def is_over(self, age_s: float, attempts: int) -> bool:
        """Whether what is so old is given up after so many attempts."""
        return age_s >= self.give_up_s and attempts >= self.least_attempts
