"""The ledger: what was decided about each exam, and what was sent where, in SQLite.

    receiving ──> done ──> sent        a result is released, with its jobs; all jobs are sent
        │ ^         │
        │ └─────────┴── a new instance, or a person's retry, takes any exam back to ``receiving``
        ├──> refused    there is nothing to analyse in it
        └──> dead       a person must look; also from ``done``, where a job died

Each method that changes something is one transaction, which is on the disk when it returns. Instances have no rows:
the files in the spool are the truth for them, the ledger for decisions.

Other processes (``lnfast node retry``) write to the ledger of a running node: `changed_outside` says when. An exam that
they revived is ``receiving`` with ``ended == "retried"``, a job is ``pending`` again with ``next_at`` now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lnfast.node.ledger.rows import Ended, NewResult, StoredResult
from lnfast.node.ledger.upkeep import LedgerUpkeep


class Ledger(LedgerUpkeep):
    """The ledger, to be read and changed; safe from many threads and processes.

    Args:
        path: of the file; made where it is missing.
        clock: Unix seconds.

    Raises:
        LnfastError: ``ledger-damaged``, ``ledger-newer``.
        BackendError: ``spool-full``, ``spool-failed``; as every method that changes something.
    """

    # ------------------------------------------------------------------------------------------------------- arriving

    def exam_received(self, exam: str) -> None:
        """Note that an association gives instances of an exam: before the first of them is answered.

        Whatever its state was, it is ``receiving`` now.
        """
        with self._transaction() as now:
            self._run("INSERT OR IGNORE INTO exams (id, state, first_at, last_at) VALUES (?, '', ?, ?)", exam, now, now)
            self._run(
                """UPDATE exams SET state = 'receiving', code = NULL, message = NULL, ended = NULL, attempts = 0,
                last_at = ? WHERE id = ?""",
                now,
                exam,
            )

    def exam_ended_receiving(self, exam: str, ended: Ended, *, instances: int, changed: bool = True) -> None:
        """Note that an association which gave instances of an exam has ended.

        Args:
            exam: id.
            ended: how.
            instances: that the exam has now.
            changed: an instance is new or was replaced.
        """
        with self._transaction() as now:
            self._run(
                "UPDATE exams SET ended = ?, instances = ?, revision = revision + ?, last_at = ? WHERE id = ?",
                ended,
                instances,
                int(changed),
                now,
                exam,
            )

    def instance_failed(self, exam: str, sop_key: str) -> None:
        """Note that an instance was answered with a failure: without it the exam is not whole.

        Args:
            exam: id.
            sop_key: anything that tells the instance again and is no UID, such as the name of its file in the spool.
        """
        with self._transaction():
            self._run("INSERT OR IGNORE INTO missing VALUES (?, ?)", exam, sop_key)

    def instance_arrived(self, exam: str, sop_key: str) -> None:
        """Note that an instance that had failed has come."""
        with self._transaction():
            self._run("DELETE FROM missing WHERE exam = ? AND sop_key = ?", exam, sop_key)

    # -------------------------------------------------------------------------------------------------------- running

    def begin_run(self, exam: str) -> int:
        """Note that a run of an exam begins; return how many have begun and not ended, with this one."""
        with self._transaction() as now:
            self._run("UPDATE exams SET attempts = attempts + 1, started_at = ? WHERE id = ?", now, exam)
            return int(self._run("SELECT attempts FROM exams WHERE id = ?", exam).fetchone()[0])

    def end_run(self, exam: str) -> None:
        """Note that a run of an exam ended, however: the process lived."""
        with self._transaction():
            self._end_run(exam)

    def next_number(self, exam: str) -> int:
        """Return the number of an exam's next result."""
        return 1 + max((result.number for result in self.results(exam)), default=0)

    def store_result(self, result: NewResult) -> StoredResult:
        """Note that a run gave a result, whose folder is in its place. It ends the run."""
        with self._transaction() as now:
            cursor = self._run(
                """INSERT INTO results (exam, number, revision, fingerprint, report_sha256, n_stage, predecessor,
                created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
                *vars(result).values(),
                now,
            )
            self._end_run(result.exam)
            return StoredResult(**vars(result), id=cursor.lastrowid or 0, created_at=now)

    def discard_result(self, result: int) -> None:
        """Forget a result that was never released, before its folder is deleted."""
        with self._transaction():
            self._run("DELETE FROM results WHERE id = ? AND released_at IS NULL", result)

    def release(self, result: int, targets: Iterable[str]) -> None:
        """Release a result: queue a job for each target, and give its exam the state that follows from its jobs.

        Of a result that was released before nothing is queued again: its exam goes back to ``done``, ``sent`` or
        ``dead``. That is how late instances that change nothing are settled.
        """
        with self._transaction() as now:
            row = self._run("SELECT exam, released_at FROM results WHERE id = ?", result).fetchone()
            if row["released_at"] is None:
                self._run("UPDATE results SET released_at = ? WHERE id = ?", now, result)
                self._queue(result, targets, now)
            self._end_run(row["exam"])
            self._settle(row["exam"])

    def refuse(self, exam: str, code: str, message: str) -> None:
        """Note that there is nothing to analyse in an exam."""
        with self._transaction() as now:
            self._close_exam(exam, "refused", code, message, now)

    def kill(self, exam: str, code: str, message: str) -> None:
        """Note that a person must look at an exam: it is ``dead``."""
        with self._transaction() as now:
            self._close_exam(exam, "dead", code, message, now)

    # -------------------------------------------------------------------------------------------------------- sending

    def job_sent(self, job: int, status: str | None = None) -> None:
        """Note that a target took all objects of a job."""
        with self._transaction() as now:
            self._run(
                "UPDATE jobs SET state = 'sent', sent_at = ?, code = NULL, status = ? WHERE id = ?", now, status, job
            )
            self._settle_after_job(job)

    def job_failed(self, job: int, code: str, retry_at: float, status: str | None = None) -> None:
        """Note that a job failed and is tried again, not before ``retry_at``."""
        with self._transaction():
            self._run(
                "UPDATE jobs SET attempts = attempts + 1, code = ?, next_at = ?, status = ? WHERE id = ?",
                code,
                retry_at,
                status,
                job,
            )

    def try_now(self, target: str) -> None:
        """Make all pending jobs of a target due: a node that starts does not wait for what was wrong before."""
        with self._transaction() as now:
            self._run("UPDATE jobs SET next_at = ? WHERE target = ? AND state = 'pending'", now, target)

    def job_dead(self, job: int, code: str, status: str | None = None) -> None:
        """Note that a job is not tried again before a person looked: its exam is ``dead``."""
        with self._transaction() as now:
            self._run(
                "UPDATE jobs SET state = 'dead', attempts = attempts + 1, code = ?, status = ? WHERE id = ?",
                code,
                status,
                job,
            )
            exam = self._run(
                "SELECT exam FROM jobs JOIN results ON results.id = jobs.result WHERE jobs.id = ?", job
            ).fetchone()
            if exam is not None:  # else retention deleted it meanwhile
                self._event(exam["exam"], "job-dead", code, None, now)
            self._settle_after_job(job)

    def kill_jobs_without_target(self, targets: Collection[str]) -> int:
        """Let the pending jobs to targets that node.toml no longer has die; return how many."""
        jobs = [job for job in self.jobs(state="pending") if job.target not in targets]
        for job in jobs:
            self.job_dead(job.id, "no-such-target")
        return len(jobs)
