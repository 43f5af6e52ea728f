"""The forecast of how long an export takes: its steps, the cost of each, and the time that the first took here.

Costs are estimates, in multiples of one study in FP32; they have not been measured. Machines differ in speed far more
than in these ratios, so the time of the steps that are done predicts the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from lnfast.export.variants import CLIPS

# Of one step, by the first word of its name.
COSTS = {"preparing": 0.5, "measuring": 1.2, "choosing": 2.0, "finding": 2.0, "compiling": 0.5, "certifying": 2.0}
CERTIFIED_AGAIN = 0.8  # FP32 has answered by then
OTHER_COST = 0.5
# Part of the whole that must be done before a time is given: the first step alone holds imports and cold caches.
FORECAST_FROM = 0.03


@dataclass(frozen=True)
class Phase:
    """Steps of one kind.

    Attributes:
        what: its name in progress.
        steps: how many.
        cost: of one.
    """

    name: str
    steps: int
    cost: float


def planned(target: str, precisions: tuple[str, ...], studies: int, ranges: int, windows: int) -> list[Phase]:
    """Return what an export does when the first graph of each precision passes.

    Args:
        target: as in `lnfast.export.Request`.
        precisions: that are tried, in their order.
        studies: that the certificate rests on.
        ranges: studies that ranges are measured on.
        windows: shapes that are compiled beside the whole grid.
    """
    plan: list[Phase] = []
    for number, precision in enumerate(precisions):
        if precision == "int8":
            plan += [Phase("preparing calibration studies", ranges, COSTS["preparing"])]
            plan += [Phase("measuring ranges", ranges, COSTS["measuring"])]
            plan += [Phase("choosing ranges", len(CLIPS), COSTS["choosing"])]
        if target == "openvino":
            plan += [Phase("compiling", 1 + windows, COSTS["compiling"])]
        plan += [Phase(f"certifying {precision}", studies, CERTIFIED_AGAIN if number else COSTS["certifying"])]
    return plan


class Forecast:
    """The time that is left, from the steps as they are reported.

    Args:
        plan: the expected phases; others are counted in when they come.
        clock: returns seconds.
    """

    def __init__(self, plan: list[Phase] | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._plan = list(plan or [Phase("", 1, 1.0)])
        self._clock = clock
        self._started = clock()
        self._current = 0  # index of the phase
        self._done = 0.0  # cost of it that is done

    def step(self, name: str, done: int, total: int) -> None:
        """Take in a report of progress: ``done`` of ``total`` steps of a phase are done."""
        phase = self._plan[self._current]
        if phase.name != name:
            left = self._plan[self._current :]
            ahead = next((index for index, phase in enumerate(left) if phase.name == name), None)
            if ahead is not None:
                self._current += ahead
            elif self._begun:  # the current phase is over, and this one was not planned
                self._current += 1
                self._plan.insert(self._current, self._unplanned(name, total))
            else:
                self._plan.insert(self._current, self._unplanned(name, total))
            phase = self._plan[self._current]
        if phase.steps != total:
            phase = self._plan[self._current] = Phase(name, total, phase.cost)
        self._done = min(done, total) * phase.cost

    @property
    def share(self) -> float:
        """The part of the whole that is done, 0 to 1."""
        total = sum(phase.steps * phase.cost for phase in self._plan)
        before = sum(phase.steps * phase.cost for phase in self._plan[: self._current])
        return (before + self._done) / total if total > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that are left; None before enough is done to predict them."""
        share = self.share
        return None if share < FORECAST_FROM else (self._clock() - self._started) * (1.0 - share) / share

    def text(self) -> str:
        """Return ``"38 %, about 6 min left"``."""
        left = self.left_s
        remaining = "" if left is None else f", {duration_text(left)} left"
        return f"{100.0 * self.share:.0f} %{remaining}"

    @property
    def _begun(self) -> bool:
        return self._done > 0.0 or self._current > 0

    def _unplanned(self, name: str, total: int) -> Phase:
        return Phase(name, total, COSTS.get(name.partition(" ")[0], OTHER_COST))


def duration_text(seconds: float) -> str:
    """Return ``"about 40 s"`` or ``"about 6 min"``: as exact as a forecast is."""
    if seconds < 90.0:
        return f"about {max(10, 10 * round(seconds / 10.0))} s"
    return f"about {round(seconds / 60.0)} min"
