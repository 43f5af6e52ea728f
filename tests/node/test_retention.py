"""Retention: what was sent goes after its time, what waits stays whatever its age, and nothing is half deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lnfast.node.config.settings import Keep
from lnfast.node.ledger import Ledger, NewResult
from lnfast.node.spool import Spool
from lnfast.node.spool.recovery import open_and_recover
from lnfast.node.spool.retention import DAY_S, expired, purge

A, B = "a" * 16, "b" * 16
KEEP = Keep(days=7, dead_days=30)


class Node:
    """A spool and a ledger whose clock is set."""

    def __init__(self, root: Path) -> None:
        self.now = 0.0
        self.spool = Spool(root)
        self.ledger = Ledger(self.spool.ledger_path, clock=lambda: self.now)

    def receive(self, exam: str = A) -> None:
        self.ledger.exam_received(exam)
        part = self.spool.new_part()
        part.write_bytes(b"image")
        self.spool.store(part, exam, "1.2")
        self.ledger.exam_ended_receiving(exam, "released", instances=1)

    def release(self, exam: str = A, *targets: str) -> None:
        number = self.ledger.next_number(exam)
        written = self.spool.new_result() / exam
        written.mkdir(parents=True)
        (written / "sr.dcm").write_bytes(b"report")
        self.spool.place_result(written, exam, number)
        result = self.ledger.store_result(NewResult(exam, number, 1, "f", "r", "N1"))
        self.ledger.release(result.id, targets)

    def send(self, exam: str = A) -> None:
        for job in self.ledger.jobs(exam, state="pending"):
            self.ledger.job_sent(job.id)

    def expired_after(self, days: float) -> list[str]:
        return [item.exam.id for item in expired(self.ledger, KEEP, days * DAY_S)]

    def purge_after(self, days: float) -> int:
        return purge(self.spool, self.ledger, expired(self.ledger, KEEP, days * DAY_S))

    def is_whole(self, exam: str = A) -> bool:
        there = self.ledger.exam(exam) is not None
        assert there == (self.spool.count_instances(exam) == 1)
        return there


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "spool")
    with made.ledger:
        yield made


def test_what_was_sent_goes_some_days_after_it_was_sent(node: Node) -> None:
    node.receive()
    node.release(A, "pacs")
    node.now = 3 * DAY_S
    node.send()
    assert node.expired_after(9.9) == [] and node.expired_after(10) == [A]
    assert node.purge_after(10) == 1
    assert not node.is_whole() and node.spool.exams() == () and node.spool.result_numbers(A) == ()
    assert node.ledger.jobs() == [] and node.ledger.results(A) == []
    assert [event.kind for event in node.ledger.events(A)] == ["purged"]


def test_what_waits_to_be_sent_stays_whatever_its_age(node: Node) -> None:
    node.receive()
    node.release(A, "pacs", "vna")
    node.ledger.job_sent(node.ledger.jobs(A)[0].id)
    assert node.expired_after(1000) == []
    node.ledger.job_dead(node.ledger.jobs(A)[1].id, "context-rejected")
    assert node.expired_after(29) == [] and node.expired_after(31) == [A]
    node.ledger.revive(A)
    assert node.expired_after(1000) == []


def test_a_result_without_a_target_stays(node: Node) -> None:
    node.receive()
    node.release(A)
    assert node.expired_after(1000) == []


@pytest.mark.parametrize(("state", "days"), [("refused", 7), ("dead", 30)])
def test_what_was_refused_or_given_up_goes_after_its_time(node: Node, state: str, days: int) -> None:
    node.receive()
    (node.ledger.refuse if state == "refused" else node.ledger.kill)(A, "no-high-b", "")
    assert node.expired_after(days - 0.1) == [] and node.expired_after(days) == [A]


def test_what_is_being_received_or_run_stays(node: Node) -> None:
    node.receive()
    assert node.expired_after(1000) == []
    node.release(A, "pacs")
    node.send()
    node.ledger.begin_run(A)
    assert node.expired_after(1000) == []


def test_late_instances_begin_its_time_anew(node: Node) -> None:
    node.receive()
    node.release(A, "pacs")
    node.send()
    node.now = 6 * DAY_S
    node.receive()
    node.ledger.release(node.ledger.results(A)[0].id, ["pacs"])
    assert node.expired_after(12) == [] and node.expired_after(13) == [A]


def test_an_exam_that_comes_again_while_it_is_looked_at_stays(node: Node) -> None:
    for exam in (A, B):
        node.receive(exam)
        node.release(exam, "pacs")
        node.send(exam)
    items = expired(node.ledger, KEEP, 10 * DAY_S)
    assert len(items) == 2
    node.now = 10 * DAY_S
    node.ledger.exam_received(B)
    assert purge(node.spool, node.ledger, items) == 1
    assert not node.is_whole(A) and node.is_whole(B)
    assert node.spool.result_numbers(B) == (1,)


def test_a_resend_after_it_was_deleted_is_a_new_exam(node: Node) -> None:
    node.receive()
    node.release(A, "pacs")
    node.send()
    node.purge_after(10)
    node.receive()
    row = node.ledger.exam(A)
    assert row and row.state == "receiving" and node.ledger.next_number(A) == 1


def test_files_that_were_deleted_before_a_kill_are_completed_by_the_next_purge(node: Node) -> None:
    node.receive()
    node.release(A, "pacs")
    node.send()
    node.spool.remove(A)
    node.ledger.close()
    node.ledger, recovered = open_and_recover(node.spool, ["pacs"])
    assert recovered.adopted == () and recovered.dead_jobs == 0
    assert node.purge_after(10) == 1 and node.ledger.exams() == []
