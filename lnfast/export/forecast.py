"""How long an export will take: its steps, what each costs, and the time that the first of them took here.

Costs are estimates, in multiples of one study in FP32; they have not been measured. Machines differ in how fast they
are far more than in these ratios, so the time of what is done says how long the rest will take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from lnfast.export.variants import CLIPS

# By the first word of a step, for one of its kind.
COSTS = {"preparing": 0.5, "measuring": 1.2, "choosing": 2.0, "finding": 2.0, "compiling": 0.5, "certifying": 2.0}
CERTIFIED_AGAIN = 0.8  # FP32 has answered by then
OTHER_COST = 0.5
# Of the whole that must be done before a time is told: the first step alone holds imports and cold caches.
TOLD_FROM = 0.03


@dataclass(frozen=True)
class Phase:
    """Steps of one kind.

    Attributes:
        what: as progress names it.
        steps: how many.
        cost: of one.
    """

    what: str
    steps: int
    cost: float


def planned(target: str, precisions: tuple[str, ...], studies: int, ranges: int, windows: int) -> list[Phase]:
    """What an export does when the first graph of each precision passes.

    Args:
        target: as in `lnfast.export.Request`.
        precisions: that are tried, in their order.
        studies: that the certificate rests on.
        ranges: studies that ranges are taken on.
        windows: programs beside that for the whole grid.
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
    """The time that is left, from the steps that are told as they come.

    Args:
        plan: what is expected; what comes beside it is counted in when it comes.
        clock: seconds.
    """

    def __init__(self, plan: list[Phase] | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._plan = list(plan or [Phase("", 1, 1.0)])
        self._clock = clock
        self._started = clock()
        self._now = 0  # which phase
        self._done = 0.0  # cost of it that is done

    def step(self, what: str, done: int, of: int) -> None:
        """Take a step in: ``done`` of ``of`` are done of what is going on."""
        phase = self._plan[self._now]
        if phase.what != what:
            left = self._plan[self._now :]
            ahead = next((index for index, one in enumerate(left) if one.what == what), None)
            if ahead is not None:
                self._now += ahead
            elif self._begun:  # what is begun is over by now, and this was not planned
                self._now += 1
                self._plan.insert(self._now, self._unplanned(what, of))
            else:
                self._plan.insert(self._now, self._unplanned(what, of))
            phase = self._plan[self._now]
        if phase.steps != of:
            phase = self._plan[self._now] = Phase(what, of, phase.cost)
        self._done = min(done, of) * phase.cost

    @property
    def share(self) -> float:
        """Part of the whole that is done, 0 to 1."""
        total = sum(phase.steps * phase.cost for phase in self._plan)
        before = sum(phase.steps * phase.cost for phase in self._plan[: self._now])
        return (before + self._done) / total if total > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds; None before there is anything to tell it from."""
        share = self.share
        return None if share < TOLD_FROM else (self._clock() - self._started) * (1.0 - share) / share

    def text(self) -> str:
        """``"38 %, about 6 min left"``."""
        left = self.left_s
        told = "" if left is None else f", {duration_text(left)} left"
        return f"{100.0 * self.share:.0f} %{told}"

    @property
    def _begun(self) -> bool:
        return self._done > 0.0 or self._now > 0

    def _unplanned(self, what: str, of: int) -> Phase:
        return Phase(what, of, COSTS.get(what.partition(" ")[0], OTHER_COST))


def duration_text(seconds: float) -> str:
    """``"about 40 s"``, ``"about 6 min"``: as exact as a forecast is."""
    if seconds < 90.0:
        return f"about {max(10, 10 * round(seconds / 10.0))} s"
    return f"about {round(seconds / 60.0)} min"
