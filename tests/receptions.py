"""A reception room without a network: arrivals with a ledger, a spool and a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pytest
from receivers import RECEIVE

from lnfast.node.config.settings import Receive
from lnfast.node.exams.arrivals import Arrivals, Due
from lnfast.node.ledger import Ledger
from lnfast.node.spool import Spool

X, Y = "a" * 16, "b" * 16


class Clock:
    """Monotonic seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Room:
    """Arrivals with a ledger and a spool, and a sender that needs no network."""

    spool: Spool
    ledger: Ledger
    clock: Clock = field(default_factory=Clock)
    receive: Receive = RECEIVE
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    def __post_init__(self) -> None:
        self.arrivals = Arrivals(self.receive, self.spool, self.ledger, clock=self.clock)
        self.touched = self.clock.now

    def restart(self) -> None:
        """Forget everything that only the process knew, as a crash does, and take up what the ledger has."""
        self.arrivals = Arrivals(self.receive, self.spool, self.ledger, clock=self.clock)
        for exam in self.ledger.exams("receiving"):
            self.arrivals.resume(exam.id, whole=exam.ended in ("released", "retried"))

    def open(self, peer: str = "MR1@10.0.0.5") -> int:
        key = next(self.numbers)
        self.arrivals.association_opened(key, peer)
        return key

    def give(self, key: int, names: Iterable[int | str], exam: str = X, outcome: str = "new") -> None:
        folder = self.spool.instances(exam)
        folder.mkdir(parents=True, exist_ok=True)
        for name in map(str, names):
            self.arrivals.instance_arrives(key, exam, name)
            (folder / f"{name}.dcm").touch()
            self.arrivals.instance_stored(key, exam, name, outcome)  # type: ignore[arg-type]
            self.touched = self.clock.now

    def send(
        self, names: Iterable[int | str], exam: str = X, how: str = "released", peer: str = "MR1@10.0.0.5", **kw: str
    ) -> None:
        """One association from its beginning to its end."""
        key = self.open(peer)
        self.give(key, names, exam, **kw)
        self.close(key, how)

    def close(self, key: int, how: str = "released") -> None:
        self.arrivals.association_closed(key, how)  # type: ignore[arg-type]
        self.touched = self.clock.now

    def read(self, exam: str = X, reading: str = "result", **facts: object) -> None:
        """Let the images be read once that is due."""
        for _ in range(20):
            self.after(0.1)
            due = self.due(exam)
            if due is not None and due.step == "read":
                self.arrivals.was_read(due, reading, **facts)  # type: ignore[arg-type]
                return
        pytest.fail("not to be read")

    def after(self, seconds: float) -> None:
        self.clock.now += seconds

    def due(self, exam: str = X) -> Due | None:
        return next((due for due in self.arrivals.due() if due.exam == exam), None)

    def step(self, exam: str = X) -> str | None:
        due = self.due(exam)
        return due and due.step

    def flaw(self, exam: str = X) -> str:
        """What is said of an exam for which everything was waited for; never a release."""
        self.after(RECEIVE.give_up_s)
        if self.step(exam) == "read":
            self.arrivals.was_read(self.due(exam), "result")  # type: ignore[arg-type]
        due = self.due(exam)
        assert due is not None and due.step == "give-up", due
        return due.flaw

    def is_released(self, exam: str = X) -> bool:
        """Whether the result of an exam is released at the end of the quiet time."""
        for _ in range(10 * int(RECEIVE.quiet_s) + 20):
            due = self.due(exam)
            if due is not None and due.step == "read":
                self.arrivals.was_read(due, "result")
            elif due is not None:
                assert due.step == "release" and self.clock.now - self.touched >= RECEIVE.quiet_s
                return True
            self.after(0.1)
        return False
