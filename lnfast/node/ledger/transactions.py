"""Transactions of the ledger, and the steps that they are made of."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lnfast.node.ledger.file import ledger_errors, open_ledger
from lnfast.node.ledger.rows import ExamState, LedgerReader

EVENTS_AT_MOST = 10_000
_EVENTS_BETWEEN_DELETIONS = 100


class LedgerTransactions(LedgerReader):
    """The base of the ledger: nothing is changed outside `_transaction`.

    Args:
        path: of the file; made where it is missing.
        clock: Unix seconds.

    Raises:
        LnfastError: ``ledger-damaged``, ``ledger-newer``.
        BackendError: ``spool-full``, ``spool-failed``; as every method that changes something.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(path, open_ledger(path))
        self._clock = clock
        self._version = self._data_version()

    def changed_outside(self) -> bool:
        """Return whether another process changed the ledger since the last call (some microseconds)."""
        with self._lock:
            before, self._version = self._version, self._data_version()
            return before != self._version

    def _data_version(self) -> int:
        return int(self._rows("PRAGMA data_version")[0]["data_version"])

    @contextmanager
    def _transaction(self) -> Iterator[float]:
        """Yield the time; what the block changes is on the disk after it, or none of it is."""
        with self._lock, ledger_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._clock()
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite ends it by itself when the disk is full
                    self._connection.execute("ROLLBACK")
                raise

    def _run(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)

    def _event(self, exam: str | None, kind: str, code: str | None, message: str | None, now: float) -> None:
        cursor = self._run(
            "INSERT INTO events (at, exam, kind, code, message) VALUES (?, ?, ?, ?, ?)", now, exam, kind, code, message
        )
        last = cursor.lastrowid or 0
        if last % _EVENTS_BETWEEN_DELETIONS == 0:
            self._run("DELETE FROM events WHERE id <= ?", last - EVENTS_AT_MOST)

    def _end_run(self, exam: str) -> None:
        self._run("UPDATE exams SET attempts = 0, started_at = NULL WHERE id = ?", exam)

    def _close_exam(self, exam: str, state: ExamState, code: str, message: str, now: float) -> None:
        self._end_run(exam)
        self._run("UPDATE exams SET state = ?, code = ?, message = ? WHERE id = ?", state, code, message, exam)
        self._event(exam, state, code, message, now)

    def _queue(self, result: int, targets: Iterable[str], now: float) -> None:
        """Make a job for each target, pending now, also where it was sent or dead."""
        for target in targets:
            self._run(
                "INSERT OR IGNORE INTO jobs (result, target, state, first_at, next_at) VALUES (?, ?, '', 0, 0)",
                result,
                target,
            )
            self._run(
                """UPDATE jobs SET state = 'pending', attempts = 0, first_at = ?, next_at = ?, code = NULL,
                status = NULL, sent_at = NULL WHERE result = ? AND target = ?""",
                now,
                now,
                result,
                target,
            )

    def _settle(self, exam: str) -> None:
        """Give an exam with a released result the state that follows from its jobs."""
        jobs = self._run(
            """SELECT jobs.state, jobs.code, target FROM jobs JOIN results ON results.id = jobs.result
            WHERE exam = ? ORDER BY jobs.id""",
            exam,
        ).fetchall()
        states = {job["state"] for job in jobs}
        state: ExamState = "dead" if "dead" in states else "sent" if states == {"sent"} else "done"
        code = message = None
        if state == "dead":
            dead = [job for job in jobs if job["state"] == "dead"]
            code, targets = dead[0]["code"], ", ".join(dict.fromkeys(job["target"] for job in dead))
            message = f"the result was not sent to {targets}"
        self._run("UPDATE exams SET state = ?, code = ?, message = ? WHERE id = ?", state, code, message, exam)

    def _settle_after_job(self, job: int) -> None:
        """Give the exam of a job its state, unless it is receiving again or refused."""
        row = self._run(
            """SELECT exams.id, exams.state FROM jobs JOIN results ON results.id = jobs.result
            JOIN exams ON exams.id = results.exam WHERE jobs.id = ?""",
            job,
        ).fetchone()
        if row is not None and row["state"] in ("done", "sent"):
            self._settle(row["id"])
