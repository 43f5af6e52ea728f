"""What stands in the ledger, read: exams, results, jobs and events."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from lnfast.node.ledger.file import ledger_errors, open_for_reading

ExamState = Literal["receiving", "done", "sent", "refused", "dead"]
JobState = Literal["pending", "sent", "dead"]
# How the last association that gave instances of an exam ended; "retried" is a person's word that it is whole.
Ended = Literal["released", "aborted", "lost", "retried"]
Reader = TypeVar("Reader", bound="LedgerReader")
EXAM_STATES: tuple[ExamState, ...] = ("receiving", "done", "sent", "refused", "dead")


@dataclass(frozen=True)
class Exam:
    """A row of ``exams``. Times are Unix seconds.

    Attributes:
        id: as `Spool.exam_id` gives it.
        state: ``receiving`` (instances may still come, or a run is due), ``done`` (a result is released), ``sent``,
            ``refused`` (there is nothing to analyse), ``dead`` (a person must look).
        code, message: why it is refused or dead.
        first_at, last_at: of the first and the last instance.
        ended: how the last association ended; None while it is open, and after a crash during it.
        instances: that were there when it ended.
        revision: grows with each change of the instances.
        attempts: runs that began and did not end since the last one that did.
        started_at: when the run that is going on began.
        choice: what a person said with ``lnfast node retry``: arguments of `lnfast.study.DicomChoice`.
    """

    id: str
    state: ExamState
    code: str | None
    message: str | None
    first_at: float
    last_at: float
    ended: Ended | None
    instances: int
    revision: int
    attempts: int
    started_at: float | None
    choice: dict[str, Any] | None


@dataclass(frozen=True)
class NewResult:
    """What one run of an exam gave, before it is a row.

    Attributes:
        exam: its id.
        number: of its folder, from `Ledger.next_number`.
        revision: of the exam when the run began.
        fingerprint: ``study.sha256`` of the report.
        report_sha256: of the bytes of report.json.
        n_stage: ``N0`` or ``N1``.
        predecessor: id of the released result that this one replaces.
    """

    exam: str
    number: int
    revision: int
    fingerprint: str
    report_sha256: str
    n_stage: str
    predecessor: int | None = None


@dataclass(frozen=True)
class StoredResult(NewResult):
    """A row of ``results``; ``released_at`` is None while it may still be discarded."""

    id: int = 0
    created_at: float = 0.0
    released_at: float | None = None


@dataclass(frozen=True)
class Job:
    """A row of ``jobs``: one result to one target.

    Attributes:
        id: grows in the order of release.
        result: its id.
        exam, number: of the result, for `Spool.result_folder`.
        target: name in node.toml.
        state: ``pending``, ``sent`` or ``dead``.
        attempts: that failed.
        first_at: when it was queued.
        next_at: before which it is not tried.
        code, status: of the last failure; a DICOM status in hexadecimal where there was one.
        sent_at: when the target took it.
    """

    id: int
    result: int
    exam: str
    number: int
    target: str
    state: JobState
    attempts: int
    first_at: float
    next_at: float
    code: str | None
    status: str | None
    sent_at: float | None


@dataclass(frozen=True)
class Event:
    """A row of ``events``: what happened to an exam, or to the node (``exam`` is None)."""

    id: int
    at: float
    exam: str | None
    kind: str
    code: str | None
    message: str | None


@dataclass(frozen=True)
class Counts:
    """Numbers for metrics and ``lnfast node status``.

    Attributes:
        exams: by state; every state has a number.
        refused, dead: exams by code.
        jobs: by target and state.
        oldest_pending_at: when the job that waits longest was queued.
    """

    exams: dict[str, int]
    refused: dict[str, int]
    dead: dict[str, int]
    jobs: dict[str, dict[str, int]]
    oldest_pending_at: float | None


_JOBS = """SELECT jobs.id, result, exam, number, target, state, attempts, first_at, next_at, code, status, sent_at
    FROM jobs JOIN results ON results.id = jobs.result"""


class LedgerReader:
    """A ledger that is read and not changed; safe from many threads.

    Args:
        path: of the ledger.
        connection: to it; None opens it for reading, which works while a node runs and while none does.

    Raises:
        LnfastError: ``ledger-damaged``, ``ledger-newer``.
        BackendError: ``spool-failed``.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection | None = None) -> None:
        self.path = path
        self._connection = open_for_reading(path) if connection is None else connection
        self._lock = threading.RLock()

    def __enter__(self: Reader) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._connection.close()

    def exam(self, exam: str) -> Exam | None:
        """Return an exam; None where there is none of that id."""
        rows = self._rows("SELECT * FROM exams WHERE id = ?", exam)
        return _exam(rows[0]) if rows else None

    def exams(self, *states: ExamState) -> list[Exam]:
        """Return the exams in some states (all when none is given), the oldest first."""
        wanted = states or EXAM_STATES
        rows = self._rows(f"SELECT * FROM exams WHERE state IN {_marks(wanted)} ORDER BY first_at, id", *wanted)
        return [_exam(row) for row in rows]

    def results(self, exam: str) -> list[StoredResult]:
        """Return the results of an exam by number."""
        rows = self._rows("SELECT * FROM results WHERE exam = ? ORDER BY number", exam)
        return [StoredResult(**row) for row in rows]

    def missing(self, exam: str) -> frozenset[str]:
        """Return the keys of the instances that were answered with a failure and have not come since."""
        return frozenset(row["sop_key"] for row in self._rows("SELECT sop_key FROM missing WHERE exam = ?", exam))

    def jobs(self, exam: str | None = None, *, state: JobState | None = None, target: str | None = None) -> list[Job]:
        """Return jobs in the order of release: of an exam, in a state, to a target."""
        given = {"exam": exam, "jobs.state": state, "target": target}
        given = {column: value for column, value in given.items() if value is not None}
        where = " AND ".join(f"{column} = ?" for column in given) or "1"
        return [Job(**row) for row in self._rows(f"{_JOBS} WHERE {where} ORDER BY jobs.id", *given.values())]

    def next_job(self, target: str, now: float) -> Job | None:
        """Return the job of a target that is due; of one exam never a later one before an earlier."""
        rows = self._rows(
            f"""{_JOBS} WHERE target = ? AND jobs.state = 'pending' AND next_at <= ? AND NOT EXISTS (
                SELECT 1 FROM jobs AS earlier JOIN results AS of ON of.id = earlier.result
                WHERE earlier.state = 'pending' AND earlier.target = jobs.target AND of.exam = results.exam
                AND earlier.id < jobs.id
            ) ORDER BY jobs.id LIMIT 1""",
            target,
            now,
        )
        return Job(**rows[0]) if rows else None

    def next_due(self, target: str) -> float | None:
        """Return when the next pending job of a target is due; None where there is none."""
        rows = self._rows("SELECT MIN(next_at) AS at FROM jobs WHERE target = ? AND state = 'pending'", target)
        due: float | None = rows[0]["at"]
        return due

    def events(self, exam: str | None = None, *, most: int = 100) -> list[Event]:
        """Return the last events, the newest first: of an exam, or all."""
        where, values = ("WHERE exam = ?", [exam]) if exam is not None else ("", [])
        rows = self._rows(f"SELECT * FROM events {where} ORDER BY id DESC LIMIT ?", *values, most)
        return [Event(**row) for row in rows]

    def counts(self) -> Counts:
        """Return numbers of exams and jobs, all of the same moment."""
        with self._lock, ledger_errors(self.path):
            self._connection.execute("SAVEPOINT counting")
            try:
                exams = self._rows("SELECT state, code, COUNT(*) AS number FROM exams GROUP BY state, code")
                jobs = self._rows("SELECT target, state, COUNT(*) AS number FROM jobs GROUP BY target, state")
                oldest = self._rows("SELECT MIN(first_at) AS at FROM jobs WHERE state = 'pending'")[0]["at"]
            finally:
                self._connection.execute("RELEASE counting")
        targets: dict[str, dict[str, int]] = {}
        for row in jobs:
            targets.setdefault(row["target"], {"pending": 0, "sent": 0, "dead": 0})[row["state"]] = row["number"]
        states: dict[str, int] = dict.fromkeys(EXAM_STATES, 0)
        for row in exams:
            states[row["state"]] += row["number"]
        return Counts(states, _by_code(exams, "refused"), _by_code(exams, "dead"), targets, oldest)

    def _rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        with self._lock, ledger_errors(self.path):
            return [dict(row) for row in self._connection.execute(statement, values)]


def _exam(row: dict[str, Any]) -> Exam:
    choice = row["choice"]
    return Exam(**row | {"choice": None if choice is None else json.loads(choice)})


def _by_code(rows: Iterable[dict[str, Any]], state: ExamState) -> dict[str, int]:
    return {row["code"] or "unknown": row["number"] for row in rows if row["state"] == state}


def _marks(values: Sequence[object]) -> str:
    return f"({', '.join('?' * len(values))})"
