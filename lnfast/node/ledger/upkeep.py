"""What persons, a start after a crash, and retention do to the ledger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from lnfast.errors import UsageError
from lnfast.node.ledger.file import COMPLETE
from lnfast.node.ledger.rows import Exam, NewResult
from lnfast.node.ledger.transactions import LedgerTransactions

ATTEMPTS_AT_MOST = 3
HALF_CODES = ("transfer-aborted", "instance-not-stored")


class LedgerUpkeep(LedgerTransactions):
    """The part of the ledger that a running node seldom needs."""

    def revive(self, exam: str, choice: dict[str, Any] | None = None, *, whole: bool = False) -> None:
        """Take up again an exam that is refused or dead; with a choice also one that is done or sent.

        Where only jobs died they are tried again, now; else, or where the result is gone from the disk, the exam runs
        again. That it came whole is nothing that a run can show: only a person's word replaces what is missing.

        Args:
            exam: id.
            choice: arguments of `DicomChoice`, kept with the exam; None leaves what is there.
            whole: a person made sure that every image of the exam has come.

        Raises:
            UsageError: ``no-such-exam``, ``nothing-to-retry``; ``exam-not-whole`` where its transfer broke off.
        """
        with self._transaction() as now:
            row = self._run("SELECT state, code, ended FROM exams WHERE id = ?", exam).fetchone()
            if row is None:
                raise UsageError("no-such-exam", f"there is no exam {exam}; lnfast node status lists them")
            if row["state"] not in (("refused", "dead", "done", "sent") if choice else ("refused", "dead")):
                raise UsageError(
                    "nothing-to-retry",
                    f"exam {exam} is {row['state']}, neither refused nor dead"
                    + ("; it is run or given up by itself" if row["state"] == "receiving" else ""),
                )
            is_half = row["ended"] not in ("released", "retried") or bool(self.missing(exam))
            if is_half and not whole and row["code"] in HALF_CODES:
                raise UsageError(
                    "exam-not-whole",
                    f"the transfer of exam {exam} broke off; send it again, or say --whole if every image has come",
                )
            self._event(exam, "retried-as-whole" if is_half and whole else "retried", None, None, now)
            self._forget_missing_results(exam)
            jobs = self._run(
                """UPDATE jobs SET state = 'pending', attempts = 0, first_at = ?, next_at = ?
                WHERE state = 'dead' AND result IN (SELECT id FROM results WHERE exam = ?)""",
                now,
                now,
                exam,
            ).rowcount
            if jobs and not choice:
                self._settle(exam)
                return
            self._run(
                """UPDATE exams SET state = 'receiving', ended = ?, code = NULL, message = NULL, attempts = 0,
                choice = COALESCE(?, choice) WHERE id = ?""",
                row["ended"] if is_half and not whole else "retried",
                json.dumps(choice) if choice else None,
                exam,
            )
            if whole:
                self._run("DELETE FROM missing WHERE exam = ?", exam)

    def _forget_missing_results(self, exam: str) -> None:
        """Delete the rows of results whose folder is gone: only another run brings them back."""
        gone = "SELECT id FROM results WHERE exam = ? AND id IN (SELECT result FROM jobs WHERE code = 'result-missing')"
        for row in self._run(gone, exam).fetchall():
            self._run("DELETE FROM jobs WHERE result = ?", row["id"])
            self._run("DELETE FROM results WHERE id = ?", row["id"])

    def send_again(self, exam: str, targets: Iterable[str]) -> None:
        """Queue the exam's last released result for some targets once more, with the same bytes.

        Raises:
            UsageError: ``nothing-to-retry``: no result of it was released.
        """
        with self._transaction() as now:
            row = self._run(
                "SELECT id FROM results WHERE exam = ? AND released_at IS NOT NULL ORDER BY number DESC", exam
            ).fetchone()
            if row is None:
                raise UsageError("nothing-to-retry", f"exam {exam} has no result that was released")
            self._event(exam, "sent-again", None, None, now)
            self._queue(row["id"], targets, now)
            self._settle(exam)

    def note(self, kind: str, exam: str | None = None, code: str | None = None, message: str | None = None) -> None:
        """Add an event; its message has no patient data and no UID."""
        with self._transaction() as now:
            self._event(exam, kind, code, message, now)

    def end_interrupted_runs(self) -> list[Exam]:
        """End the runs that a process which died left open: an exam that did so three times is dead ``worker-died``.

        Returns:
            The exams whose run was interrupted, as they were.
        """
        with self._transaction() as now:
            interrupted = [exam for exam in self.exams() if exam.started_at is not None]
            for exam in interrupted:
                if exam.attempts >= ATTEMPTS_AT_MOST:
                    message = f"the node died {exam.attempts} times while it worked on this exam"
                    self._close_exam(exam.id, "dead", "worker-died", message, now)
                else:
                    self._run("UPDATE exams SET started_at = NULL WHERE id = ?", exam.id)
            return interrupted

    def is_complete(self) -> bool:
        """Whether everything that was in the spool when the ledger was made has its row: `mark_complete` was called."""
        return bool(self._rows("PRAGMA application_id")[0]["application_id"] == COMPLETE)

    def mark_complete(self, lost: str | None, message: str | None) -> None:
        """Note that everything in the spool has its row, and the code of why there was none before."""
        with self._transaction() as now:
            self._run(f"PRAGMA application_id = {COMPLETE}")
            if lost is not None:
                self._event(None, lost, lost, message, now)

    def adopt_exam(self, exam: str, last_at: float, instances: int) -> None:
        """Make a row for an exam that is in the spool and has none; its end is unknown."""
        with self._transaction() as now:
            self._run(
                """INSERT OR IGNORE INTO exams (id, state, first_at, last_at, instances, revision)
                VALUES (?, 'receiving', ?, ?, ?, 1)""",
                exam,
                last_at,
                last_at,
                instances,
            )
            self._event(exam, "adopted", None, f"{instances} instances", now)

    def adopt_result(self, result: NewResult, created_at: float) -> None:
        """Make a row for a result that is in the spool and has none; it is not released.

        Where it is still what reading the exam gives, it is released again as it is, and sent with the same bytes.
        """
        with self._transaction() as now:
            self._run(
                """INSERT OR IGNORE INTO results (exam, number, revision, fingerprint, report_sha256, n_stage,
                predecessor, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
                *vars(result).values(),
                created_at,
            )
            self._event(result.exam, "result-adopted", None, f"result {result.number}", now)

    def forget(self, exam: Exam, remove: Callable[[], bool] = lambda: True) -> bool:
        """Delete all rows of an exam, unless it changed since it was read.

        Args:
            exam: as it was read.
            remove: deletes its files, in the middle of the transaction: no association can begin to give instances of
                the exam meanwhile. Where it returns False the rows stay. After a kill the rows may be left without
                files, and forgetting them again completes it.

        Returns:
            Whether they were deleted.
        """
        with self._transaction() as now:
            unchanged = "id = ? AND state = ? AND last_at = ?"
            row = self._run(f"SELECT 1 FROM exams WHERE {unchanged}", exam.id, exam.state, exam.last_at).fetchone()
            if row is None or not remove():
                return False
            self._run("DELETE FROM exams WHERE id = ?", exam.id)
            self._run("DELETE FROM jobs WHERE result IN (SELECT id FROM results WHERE exam = ?)", exam.id)
            self._run("DELETE FROM results WHERE exam = ?", exam.id)
            self._run("DELETE FROM missing WHERE exam = ?", exam.id)
            self._event(exam.id, "purged", None, None, now)
            return True
