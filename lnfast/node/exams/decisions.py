"""What becomes of an exam that is due: it is read and run, its result is released, it is refused, or it is dead.

    read       the exam's images, as `lnfast run` reads a folder; where they are refused, more of them may heal that
    run        speculatively, before anybody knows whether the exam is whole; the result is stored and goes nowhere
    release    once the exam is whole and its images are still those of the result: jobs for all targets
    give up    what stayed half is dead, what has nothing to analyse is refused; neither ever has a stage

A run is counted before it begins, so that an exam which kills the process is not tried for ever. A result is on the
disk before its row, and its row before its release; what a crash leaves in between is run again and gives the same
objects.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lnfast.errors import BackendError, LnfastError, StudyError
from lnfast.node.exams.arrivals import Arrivals, Due
from lnfast.node.exams.reception import TRANSFER_ABORTED, Reading
from lnfast.node.exams.runs import Runs, last_released
from lnfast.node.exams.verdict import FLAWS, is_confirmed, is_nothing_to_analyse, may_heal
from lnfast.node.ledger import Exam, Ledger, StoredResult
from lnfast.node.monitor.logs import place
from lnfast.node.monitor.metrics import Metrics
from lnfast.study import Study

# What the disk does to the spool and the ledger is no exam's fault: everything stays as it is, and due.
OF_THE_DISK = ("spool-full", "spool-failed")

_logger = logging.getLogger("lnfast.node.worker")


@dataclass(frozen=True)
class Decisions:
    """Does what is due.

    Attributes:
        runs: of the engine that serves.
        arrivals, ledger, metrics: of the node.
        targets: names of those to which a result goes.
        on_release: called with each result that leaves the node.
    """

    runs: Runs
    arrivals: Arrivals
    ledger: Ledger
    metrics: Metrics
    targets: Sequence[str]
    on_release: Callable[[StoredResult], None]

    def take_up(self) -> None:
        """Take up the exams that an earlier process left, or that a person revived."""
        for exam in self.ledger.exams("receiving"):
            if not self.arrivals.knows(exam.id):
                self.arrivals.resume(exam.id, whole=exam.ended in ("released", "retried"))

    def do(self, due: Due) -> None:
        """Do what is due; whatever goes wrong is the exam's end and not the worker's.

        Raises:
            BackendError: of the disk.
            LnfastError: of the ledger, which is damaged.
        """
        steps = {"read": self._read, "release": self._release, "give-up": self._give_up}
        try:
            steps[due.step](due)
        except LnfastError as error:
            if error.code in OF_THE_DISK:
                raise
            self._failed(due, error)
        except Exception as error:  # a MemoryError too; its words may quote the images
            fault = LnfastError("internal", f"lnfast failed on it with {type(error).__name__}")
            extra = {"exam": due.exam, "code": fault.code, "at": place(error)}
            _logger.error("an exam met a fault: %s", type(error).__name__, extra=extra)
            self._failed(due, fault)

    def row(self, exam: str) -> Exam:
        """The row of an exam, made where the disk was full when its first instance came."""
        row = self.ledger.exam(exam)
        if row is None:
            self.ledger.exam_received(exam)
            row = self.ledger.exam(exam)
            assert row is not None
        return row

    def _failed(self, due: Due, error: LnfastError) -> None:
        """Count an error as a refusal of the images that are there now: others may come."""
        if due.step == "read":
            self._refused(due, error)
        else:
            self._kill(due, error.code, error.message)

    def _read(self, due: Due) -> None:
        """Read an exam, and run it unless that was done with the same images."""
        exam = self.row(due.exam)
        study = self._study(due, exam)
        if study is None:
            return
        if self.runs.result_of(exam.id, study) is None:
            self.runs.run(exam, study)
        self.arrivals.was_read(due, "result", confirmed=is_confirmed(study))

    def _study(self, due: Due, exam: Exam) -> Study | None:
        """The study of an exam; None where it is refused, which is noted."""
        try:
            return self.runs.study(exam)
        except (StudyError, BackendError) as error:
            self._refused(due, error)
            return None

    def _refused(self, due: Due, error: LnfastError) -> None:
        reading: Reading = "incomplete" if may_heal(error.code) else "unusable"
        self.arrivals.was_read(due, reading, refusal=(error.code, error.message))
        _logger.info("an exam cannot be run, for now", extra={"exam": due.exam, "code": error.code})

    def _release(self, due: Due) -> None:
        """Release the result of an exam, if its images are still those that it was made of."""
        exam = self.row(due.exam)
        study = self._study(due, exam)
        if study is None:
            return
        result = self.runs.result_of(exam.id, study)
        if result is None:  # files changed although none arrived
            self._read(due)
            return
        if not self.arrivals.conclude(due, lambda: self.ledger.release(result.id, self.targets)):
            return
        extra = {"exam": exam.id, "result": result.number}
        if result.released_at is not None:
            _logger.info("later images changed nothing", extra=extra)
            return
        self.metrics.count("exams_done_total")
        _logger.info("a result is released", extra=extra)
        if result.predecessor is not None:
            self.ledger.note("result-replaced", exam.id, message=f"by result {result.number}: images came later")
        self.on_release(result)

    def _give_up(self, due: Due) -> None:
        """Refuse an exam in which there is nothing to analyse; else a person must look at it."""
        code, message = due.refusal
        if is_nothing_to_analyse(code) and not due.flaw and not last_released(self.ledger.results(due.exam)):
            if self.arrivals.conclude(due, lambda: self.ledger.refuse(due.exam, code, message)):
                self.metrics.count("exams_refused_total", code=code)
                _logger.info("there is nothing to analyse in an exam", extra={"exam": due.exam, "code": code})
            return
        if not code or is_nothing_to_analyse(code):
            code = due.flaw or code or TRANSFER_ABORTED
            message = FLAWS.get(code, message)
        self._kill(due, code, message)

    def _kill(self, due: Due, code: str, message: str) -> None:
        """Note that a person must look at an exam, unless something of it came meanwhile."""
        if not self.arrivals.conclude(due, lambda: self.ledger.kill(due.exam, code, message)):
            return
        self.metrics.count("exams_dead_total", code=code)
        _logger.warning("an exam is dead: %s", message, extra={"exam": due.exam, "code": code})
        self.runs.discard_unreleased(due.exam)
