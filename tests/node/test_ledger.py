"""The ledger: each transition, what survives a kill, threads and processes at once, and a damaged file."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from small_disks import fill, needs_tmpfs, small_disk

from lnfast.errors import BackendError, LnfastError, UsageError
from lnfast.node.ledger import EXAM_STATES, Ledger, LedgerReader, NewResult, StoredResult
from lnfast.node.ledger import transactions as ledger_transactions

__all__ = ["small_disk"]  # a fixture

A, B = "a" * 16, "b" * 16


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite", clock=clock) as opened:
        yield opened


def state(ledger: LedgerReader, exam: str = A) -> tuple[str, str | None]:
    row = ledger.exam(exam)
    assert row is not None
    return row.state, row.code


def whole(ledger: Ledger, exam: str = A) -> StoredResult:
    """Receive an exam and run it."""
    ledger.exam_received(exam)
    ledger.exam_ended_receiving(exam, "released", instances=84)
    return stored(ledger, exam)


def stored(ledger: Ledger, exam: str = A, predecessor: int | None = None, fingerprint: str = "f") -> StoredResult:
    ledger.begin_run(exam)
    number = ledger.next_number(exam)
    return ledger.store_result(NewResult(exam, number, 1, fingerprint, "r", "N1", predecessor))


# ---------------------------------------------------------------------------------------------------------- transitions


def test_an_exam_from_its_first_instance_until_it_is_sent(ledger: Ledger, clock: Clock) -> None:
    ledger.exam_received(A)
    exam = ledger.exam(A)
    assert exam and (exam.state, exam.ended, exam.first_at, exam.revision) == ("receiving", None, 1000, 0)
    clock.now = 1005
    ledger.exam_ended_receiving(A, "released", instances=84)
    exam = ledger.exam(A)
    assert exam and (exam.ended, exam.instances, exam.last_at, exam.revision) == ("released", 84, 1005, 1)
    assert ledger.begin_run(A) == 1
    result = ledger.store_result(NewResult(A, ledger.next_number(A), 1, "f", "r", "N1"))
    exam = ledger.exam(A)
    assert exam and (exam.state, exam.attempts, exam.started_at) == ("receiving", 0, None)
    assert ledger.results(A) == [result] and result.released_at is None and ledger.next_number(A) == 2
    ledger.release(result.id, ["pacs", "vna"])
    assert state(ledger) == ("done", None)
    job = ledger.next_job("pacs", clock.now)
    assert job and (job.exam, job.number, job.attempts, job.first_at) == (A, 1, 0, 1005)
    ledger.job_sent(job.id, "0x0000")
    assert state(ledger) == ("done", None) and ledger.next_job("pacs", clock.now) is None
    other = ledger.next_job("vna", clock.now)
    assert other
    ledger.job_sent(other.id)
    assert state(ledger) == ("sent", None)
    assert [job.status for job in ledger.jobs(A)] == ["0x0000", None]


def test_without_a_target_a_result_stays_done(ledger: Ledger) -> None:
    ledger.release(whole(ledger).id, [])
    assert state(ledger) == ("done", None)


def test_late_instances_that_change_nothing_send_nothing_again(ledger: Ledger, clock: Clock) -> None:
    result = whole(ledger)
    ledger.release(result.id, ["pacs"])
    ledger.job_sent(ledger.jobs(A)[0].id)
    ledger.exam_received(A)
    assert state(ledger) == ("receiving", None)
    ledger.release(result.id, ["pacs", "vna"])
    assert state(ledger) == ("sent", None)
    assert [job.state for job in ledger.jobs(A)] == ["sent"]


def test_late_instances_that_change_the_result_send_both_in_order(ledger: Ledger, clock: Clock) -> None:
    first = whole(ledger)
    ledger.release(first.id, ["pacs"])
    ledger.exam_received(A)
    second = stored(ledger, predecessor=first.id, fingerprint="g")
    ledger.release(second.id, ["pacs"])
    job = ledger.next_job("pacs", clock.now)
    assert job and job.result == first.id
    ledger.job_failed(job.id, "unreachable", clock.now + 60)
    assert ledger.next_job("pacs", clock.now) is None, "the second must not overtake the first"
    clock.now += 60
    for result in (first, second):
        job = ledger.next_job("pacs", clock.now)
        assert job and job.result == result.id
        ledger.job_sent(job.id)
    assert state(ledger) == ("sent", None)


def test_a_job_that_waits_holds_up_no_other_exam(ledger: Ledger, clock: Clock) -> None:
    for exam in (A, B):
        ledger.release(whole(ledger, exam).id, ["pacs"])
    job = ledger.next_job("pacs", clock.now)
    assert job and job.exam == A
    ledger.job_failed(job.id, "unreachable", clock.now + 5, "0xA700")
    following = ledger.next_job("pacs", clock.now)
    assert following and following.exam == B
    assert ledger.next_due("pacs") == clock.now and ledger.next_due("vna") is None
    ledger.job_sent(following.id)
    assert ledger.next_due("pacs") == clock.now + 5
    failed = ledger.jobs(A)[0]
    assert (failed.attempts, failed.code, failed.status) == (1, "unreachable", "0xA700")


def test_a_dead_job_makes_its_exam_dead_until_a_person_retries(ledger: Ledger, clock: Clock) -> None:
    ledger.release(whole(ledger).id, ["pacs", "vna"])
    first, second = ledger.jobs(A)
    ledger.job_dead(first.id, "context-rejected")
    assert state(ledger) == ("dead", "context-rejected")
    ledger.job_sent(second.id)
    assert state(ledger) == ("dead", "context-rejected")
    assert ledger.next_job("pacs", clock.now + 1e9) is None
    clock.now += 50
    ledger.revive(A)
    assert state(ledger) == ("done", None)
    job = ledger.next_job("pacs", clock.now)
    assert job and job.first_at == clock.now, "the 72 hours begin anew"
    ledger.job_sent(job.id)
    assert state(ledger) == ("sent", None)


def test_a_refused_exam_runs_again_with_a_persons_choice(ledger: Ledger) -> None:
    ledger.exam_received(A)
    ledger.instance_failed(A, "key")
    ledger.refuse(A, "no-high-b", "has b = 50")
    assert state(ledger) == ("refused", "no-high-b")
    ledger.revive(A, {"series": "8"}, whole=True)
    exam = ledger.exam(A)
    assert exam and (exam.state, exam.ended, exam.choice) == ("receiving", "retried", {"series": "8"})
    assert ledger.missing(A) == frozenset()
    ledger.kill(A, "ambiguous", "2 series")
    ledger.revive(A)
    exam = ledger.exam(A)
    assert exam and exam.choice == {"series": "8"}, "a choice stays"


def test_an_exam_that_broke_off_is_run_again_on_a_persons_word_alone(ledger: Ledger) -> None:
    ledger.exam_received(A)
    ledger.exam_ended_receiving(A, "lost", instances=20)
    ledger.kill(A, "internal", "a fault")
    ledger.revive(A)  # the fault may be mended; what is missing is not
    exam = ledger.exam(A)
    assert exam and (exam.state, exam.ended) == ("receiving", "lost")
    ledger.kill(A, "transfer-aborted", "broke off")
    with pytest.raises(UsageError) as refused:
        ledger.revive(A)
    assert refused.value.code == "exam-not-whole" and state(ledger) == ("dead", "transfer-aborted")
    ledger.revive(A, whole=True)
    exam = ledger.exam(A)
    assert exam and (exam.state, exam.ended) == ("receiving", "retried")
    assert next(event.kind for event in ledger.events(A)) == "retried-as-whole"


def test_an_exam_whose_result_is_gone_runs_again(ledger: Ledger) -> None:
    ledger.release(whole(ledger).id, ["pacs", "vna"])
    ledger.job_sent(ledger.jobs(A)[0].id)
    ledger.job_dead(ledger.jobs(A)[1].id, "result-missing")
    ledger.revive(A)
    assert state(ledger) == ("receiving", None) and ledger.results(A) == ledger.jobs(A) == []


@pytest.mark.parametrize(("exam", "code"), [("c" * 16, "no-such-exam"), (A, "nothing-to-retry")])
def test_what_cannot_be_retried_says_so(ledger: Ledger, exam: str, code: str) -> None:
    ledger.exam_received(A)
    with pytest.raises(UsageError) as refused:
        ledger.revive(exam)
    assert refused.value.code == code
    with pytest.raises(UsageError):
        ledger.send_again(exam, ["pacs"])


def test_a_sent_result_is_sent_again_on_request(ledger: Ledger, clock: Clock) -> None:
    ledger.release(whole(ledger).id, ["pacs"])
    ledger.job_sent(ledger.jobs(A)[0].id)
    ledger.send_again(A, ["pacs", "vna"])
    assert state(ledger) == ("done", None)
    assert [(job.target, job.state, job.number) for job in ledger.jobs(A)] == [
        ("pacs", "pending", 1),
        ("vna", "pending", 1),
    ]


def test_failed_instances_are_remembered_until_they_arrive(ledger: Ledger) -> None:
    ledger.exam_received(A)
    for key in ("1", "2", "2"):
        ledger.instance_failed(A, key)
    ledger.instance_arrived(A, "1")
    assert ledger.missing(A) == {"2"} and ledger.missing(B) == frozenset()


def test_an_exam_that_kills_the_process_three_times_is_dead(ledger: Ledger) -> None:
    whole(ledger)
    for attempt in (1, 2, 3):
        assert state(ledger) == ("receiving", None)
        assert ledger.begin_run(A) == attempt
        assert [exam.id for exam in ledger.end_interrupted_runs()] == [A]
        assert ledger.end_interrupted_runs() == []
    assert state(ledger) == ("dead", "worker-died")
    ledger.revive(A)
    assert ledger.begin_run(A) == 1


def test_a_run_that_ends_begins_the_count_anew(ledger: Ledger) -> None:
    whole(ledger)
    for _ in range(5):
        assert ledger.begin_run(A) == 1
        ledger.end_run(A)
    assert ledger.end_interrupted_runs() == []


def test_jobs_to_a_target_that_is_gone_die(ledger: Ledger) -> None:
    ledger.release(whole(ledger).id, ["pacs", "old"])
    assert ledger.kill_jobs_without_target(["pacs"]) == 1
    assert state(ledger) == ("dead", "no-such-target")


def test_counts(ledger: Ledger, clock: Clock) -> None:
    assert ledger.counts().exams == dict.fromkeys(EXAM_STATES, 0) and ledger.counts().oldest_pending_at is None
    ledger.release(whole(ledger).id, ["pacs", "vna"])
    clock.now += 10
    ledger.exam_received(B)
    ledger.refuse(B, "no-high-b", "")
    ledger.job_dead(ledger.jobs(A)[0].id, "rejected")
    counts = ledger.counts()
    assert counts.exams == {"receiving": 0, "done": 0, "sent": 0, "refused": 1, "dead": 1}
    assert (counts.refused, counts.dead) == ({"no-high-b": 1}, {"rejected": 1})
    assert counts.jobs == {
        "pacs": {"pending": 0, "sent": 0, "dead": 1},
        "vna": {"pending": 1, "sent": 0, "dead": 0},
    }
    assert counts.oldest_pending_at == 1000


def test_a_ledger_from_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(LnfastError) as refused:
        Ledger(path)
    assert refused.value.code == "ledger-newer"


# ------------------------------------------------------------------------------------------------ at once, and the disk


def test_threads_at_once_lose_nothing(tmp_path: Path) -> None:
    """Receivers, a worker, senders and a reader at work on one ledger."""
    exams = [f"{number:016x}" for number in range(24)]
    with Ledger(tmp_path / "ledger.sqlite") as ledger, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda exam: ledger.release(whole(ledger, exam).id, ["pacs", "vna"]), exams))

        def send(target: str) -> int:
            sent = 0
            while job := ledger.next_job(target, 1e12):
                ledger.job_sent(job.id)
                sent += 1
            return sent

        counting = pool.submit(lambda: [sum(ledger.counts().exams.values()) for _ in range(50)])
        assert list(pool.map(send, ["pacs", "vna"])) == [24, 24]
        assert set(counting.result()) == {24}
        assert ledger.counts().exams["sent"] == 24


def test_two_processes_at_once(tmp_path: Path) -> None:
    """The node works while ``lnfast node retry`` and ``status`` use the ledger, and notices the first."""
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as node:
        node.exam_received(A)
        node.kill(A, "ambiguous", "2 series")
        assert not node.changed_outside()
        with LedgerReader(path) as status:
            assert state(status) == ("dead", "ambiguous")
        assert not node.changed_outside(), "reading is no change"
        with Ledger(path) as retry:
            retry.revive(A)
        assert node.changed_outside() and not node.changed_outside()
        assert state(node) == ("receiving", None)


def test_a_reader_changes_nothing_and_needs_no_node(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as node:
        node.exam_received(A)
    content = path.read_bytes()
    with LedgerReader(path) as reader:
        assert state(reader) == ("receiving", None) and reader.next_job("pacs", 1e12) is None
        with pytest.raises(BackendError):
            reader._rows("DELETE FROM exams")
    assert path.read_bytes() == content
    with pytest.raises(BackendError) as refused:
        LedgerReader(tmp_path / "other.sqlite")
    assert refused.value.code == "spool-failed" and not (tmp_path / "other.sqlite").exists()


def test_what_fails_in_the_middle_changes_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    result = whole(ledger)
    before = (ledger.exams(), ledger.results(A), ledger.events())

    def fail(exam: str) -> None:
        raise RuntimeError

    monkeypatch.setattr(ledger, "_settle", fail)
    with pytest.raises(RuntimeError):
        ledger.release(result.id, ["pacs"])
    assert (ledger.exams(), ledger.results(A), ledger.events()) == before and ledger.jobs() == []
    monkeypatch.undo()
    ledger.release(result.id, ["pacs"])
    assert state(ledger) == ("done", None)


def test_events_are_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_transactions, "EVENTS_AT_MOST", 200)
    for number in range(350):
        ledger.note("something", message=str(number))
    messages = [event.message for event in ledger.events(most=1000)]
    assert 200 <= len(messages) < 300 and messages[0] == "349"


@needs_tmpfs
def test_a_full_disk_changes_nothing_and_says_so(small_disk: Path) -> None:
    with Ledger(small_disk / "ledger.sqlite") as ledger:
        result = whole(ledger)
        filler = small_disk / "filler"
        fill(filler)
        for _ in range(3):
            with pytest.raises(BackendError) as refused:
                for number in range(2000):  # what the log of SQLite has by now is written over
                    ledger.kill(A, "code", "x" * 1000 + str(number))
            assert refused.value.code == "spool-full"
        last = ledger.exam(A)
        filler.unlink()
        assert ledger.exam(A) == last
        ledger.release(result.id, ["pacs"])
        assert state(ledger) == ("done", None)
    with LedgerReader(small_disk / "ledger.sqlite") as reader:
        assert state(reader) == ("done", None)
