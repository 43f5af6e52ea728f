"""Which engine the workers of a cohort must have: that of most of them.

With that of the first to be ready, one odd machine could turn away all others. Until it is decided no study is run.
"""

from __future__ import annotations

from collections import Counter
from time import monotonic

from lnfast.cluster.messages import ErrorValue, WorkerFacts

WITHIN_S = 20.0  # after the first worker is ready: the others may be waiting for room


class Election:
    """Collects workers until the engine is decided, and then checks each against it.

    Attributes:
        reference: a worker with that engine; None until it is decided.
    """

    def __init__(self) -> None:
        self.reference: WorkerFacts | None = None
        self._waiting: dict[int, WorkerFacts] = {}
        self._first_s = float("inf")

    def enter(self, number: int, facts: WorkerFacts) -> None:
        """Add a worker whose engine has loaded, by the number of its slot."""
        self._first_s = min(self._first_s, monotonic())
        self._waiting[number] = facts

    def leave(self, number: int) -> None:
        """Remove a worker that has ended, if it is waiting."""
        self._waiting.pop(number, None)

    def decided(self, live: int) -> dict[int, WorkerFacts]:
        """Return the workers that were waiting, once it is decided; nothing before.

        Args:
            live: how many workers there are, with those that have not loaded.
        """
        if not self._waiting:
            return {}
        if self.reference is None:
            identity, most = Counter(facts.identity for facts in self._waiting.values()).most_common(1)[0]
            all_are_here = len(self._waiting) >= live or monotonic() - self._first_s > WITHIN_S
            if 2 * most <= live and not all_are_here:
                return {}
            self.reference = next(facts for facts in self._waiting.values() if facts.identity == identity)
        waiting, self._waiting = self._waiting, {}
        return waiting

    def refusal(self, facts: WorkerFacts) -> ErrorValue | None:
        """Return why a worker must not have studies; None where it may."""
        assert self.reference is not None
        differences = facts.identity.differences(self.reference.identity)
        if not differences:
            return None
        message = f"the engine of a worker on {facts.host} is not that of the others: {differences}"
        return ErrorValue("EngineError", "worker-engine-differs", message)

    def remark(self, facts: WorkerFacts) -> str | None:
        """Return what to say of a worker that may have studies."""
        assert self.reference is not None
        if facts.device_kind == self.reference.device_kind:
            return None
        kinds = f"{facts.device_kind} beside {self.reference.device_kind}"
        return f"workers run on {kinds}, without a certificate: last digits of their numbers may differ"
