"""The reception of one exam: what arrived, by which associations, how these ended, and what follows from that.

No sender says how many images an exam has. So an exam counts as whole only when nothing speaks against it:

- every association that gave it instances has ended with a release;
- of an association that ended otherwise the instance within which it broke off has come again, or, where it broke off
  between two, everything that it gave; by associations that began afterwards and ended with a release. One that merely
  brings more images of the exam proves nothing: senders split a series over several associations, at the same time or
  one after the other, and try what failed again much later;
- every instance that was answered with a failure has arrived since.

Time here is monotonic seconds, so that a clock that is set changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal

from lnfast.node.config.settings import Receive

Step = Literal["read", "release", "give-up"]
Ending = Literal["released", "aborted", "lost"]
Reading = Literal["result", "incomplete", "unusable"]

TRANSFER_ABORTED, NOT_STORED = "transfer-aborted", "instance-not-stored"
MOST_FAILED = 10_000  # failed instances that are known one by one; of what comes after, only that it failed
_MORE = "more"  # no instance has this name, so nothing that arrives stands for it

SETTLE_S = 0.5  # after the end of an association; also a sender with one for each instance has a next one by then
OPEN_SETTLE_S = 2.0
EAGER_S = 2.0


@dataclass(eq=False)
class Association:
    """An association that is open, as far as exams go.

    Attributes:
        number: of associations, in the order in which they began.
        peer: who sends: AE title and address.
        opened: when it began.
        given: exam to the instances that were stored.
        arriving: exam to the instances that are being stored.
        broken: the instance of which a part had come when it ended; empty where there is none.
    """

    number: int
    peer: str
    opened: float
    given: dict[str, set[str]] = field(default_factory=dict)
    arriving: dict[str, set[str]] = field(default_factory=dict)
    broken: str = ""


@dataclass
class Debt:
    """Instances that must be given again by associations that began later, because the one that gave them broke off.

    Attributes:
        since: number of the first association that counts.
        instances: that were not given again yet.
    """

    since: int
    instances: set[str]


@dataclass(eq=False)
class Reception:
    """What is known of the transfer of one exam.

    Attributes:
        last: when something last happened to it.
        change: grows with every instance that is new or replaced.
        instances: all that the exam has.
        peers: who sent them.
        open: associations that gave instances and did not end.
        debts: see `Debt`.
        ending: how the last association ended that left a debt.
        failed: instances that were answered with a failure and did not arrive since.
        read_at: `change` when the images were last read; None before.
        reading: what that gave: a ``result`` is stored; ``incomplete``: more images may change the refusal;
            ``unusable``: hardly.
        refusal: code and message of the refusal.
        confirmed: other images of the exam show that the volume of the result is whole.
        overtaken: how often it was read and more arrived afterwards.
        recorded: `change` that the ledger knows of.
        replaced: instances that came with other bytes since then.
    """

    last: float
    change: int = 0
    recorded: int = 0
    replaced: int = 0
    instances: set[str] = field(default_factory=set)
    peers: set[str] = field(default_factory=set)
    open: set[Association] = field(default_factory=set)
    debts: list[Debt] = field(default_factory=list)
    ending: Ending = "lost"
    failed: set[str] = field(default_factory=set)
    read_at: int | None = None
    reading: Reading = "incomplete"
    refusal: tuple[str, str] = ("", "")
    confirmed: bool = False
    overtaken: int = 0

    def add(self, instance: str, *, changed: bool) -> None:
        """Note an instance that was stored."""
        self.instances.add(instance)
        self.failed.discard(instance)
        if changed:
            if self.read_at == self.change:
                self.overtaken += 1
            self.change += 1

    def owe(self, since: int, instances: Iterable[str], ending: Ending) -> None:
        """Note that instances must be given again by associations from a number on."""
        self.debts.append(Debt(since, set(instances)))
        self.ending = ending

    def break_off(self, association: Association, begun: int, ending: Ending) -> None:
        """Note that an association ended without a release, which leaves in doubt what else it would have given.

        Args:
            association: of the exam's sender.
            begun: number of the last association that has begun.
            ending: how it ended.
        """
        given = self.instances.intersection(set().union(*association.given.values()))
        again = {association.broken} if association.broken else given or self.instances
        self.owe(begun + 1, again, ending)

    def repay(self, association: Association, given: set[str]) -> bool:
        """Note that an association ended with a release, and what it gave of any exam; return whether that counts."""
        before = len(self.debts)
        for debt in self.debts:
            if association.number >= debt.since:
                debt.instances -= given
        self.debts = [debt for debt in self.debts if debt.instances]
        return len(self.debts) < before

    @property
    def flaw(self) -> str:
        """Code of why the exam is not whole as far as its transfer goes; empty where nothing speaks against it."""
        if self.debts:
            return TRANSFER_ABORTED
        return NOT_STORED if self.failed else ""

    def next_step(self, receive: Receive, exam: str, *, held: bool) -> tuple[Step, float]:
        """What is to be done with the exam if nothing else arrives, and when.

        Args:
            receive: how long to wait.
            exam: id.
            held: nothing may be released, for a reason that lies outside the exam.
        """
        give_up = self.last + receive.give_up_s
        if self.read_at != self.change:
            # A sender that is slow would have the exam read after each image.
            settle = min(SETTLE_S * 2.0**self.overtaken, max(SETTLE_S, receive.quiet_s / 2))
            return "read", self.last + (max(settle, OPEN_SETTLE_S) if self.open else settle)
        quiet = None if held or self.flaw else self._quiet_s(receive, exam)
        if self.reading == "incomplete" or quiet is None or quiet >= receive.give_up_s:
            return "give-up", give_up
        return ("release" if self.reading == "result" else "give-up"), self.last + quiet

    def _quiet_s(self, receive: Receive, exam: str) -> float | None:
        """How long after the last instance or end of an association the exam is complete; None is never."""
        if not self.open:
            return min(EAGER_S, receive.quiet_s) if receive.eager and self.confirmed else receive.quiet_s
        if self.confirmed and not any(association.arriving.get(exam) for association in self.open):
            return max(receive.quiet_without_release_s, receive.quiet_s)
        return None  # the sender may be held up in the middle of the only series


class Strays:
    """Images that were answered with a failure and of which nobody can tell the exam: any of their sender's may be it.

    Args:
        forget_s: after which an exam that begins then is not held up by one any more.
        clock: monotonic seconds.
    """

    def __init__(self, forget_s: float, clock: Callable[[], float]) -> None:
        self._forget_s, self._clock = forget_s, clock
        self._failed: dict[str, tuple[str, float]] = {}

    def add(self, instance: str, peer: str) -> None:
        """Note that an instance failed."""
        self._failed[bounded_name(instance, self._failed)] = (peer, self._clock())

    def discard(self, instance: str) -> None:
        """Note that an instance arrived."""
        self._failed.pop(instance, None)

    def are_of(self, peers: Collection[str]) -> bool:
        """Whether there is one of some senders."""
        if self._failed:
            oldest = self._clock() - self._forget_s
            self._failed = {instance: stray for instance, stray in self._failed.items() if stray[1] >= oldest}
        return any(peer in peers for peer, _ in self._failed.values())


def bounded_name(instance: str, failed: Collection[str]) -> str:
    """The name under which a failed instance is kept among others: one for all that are too many."""
    return instance if len(failed) < MOST_FAILED else _MORE
