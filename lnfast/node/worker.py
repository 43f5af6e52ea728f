"""The worker: one thread that runs exams on the resident engine, stores what comes out, and releases it.

    read       the exam's images, as `lnfast run` reads a folder; where they are refused, more of them may heal that
    run        speculatively, before anybody knows whether the exam is whole; the result is stored and goes nowhere
    release    once the exam is whole and its images are still those of the result: jobs for all targets
    give up    what stayed half is dead, what has nothing to analyse is refused; neither ever has a stage

A run is counted before it begins, so that an exam which kills the process is not tried for ever. A result is on the
disk before its row, and its row before its release; what a crash leaves in between is run again and gives the same
objects.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from lnfast.engine import Engine
from lnfast.errors import BackendError, EngineError, LnfastError, ModelError, StudyError
from lnfast.measure import Rules
from lnfast.node.arrivals import Arrivals, Due
from lnfast.node.drift import DriftWatch
from lnfast.node.ledger import ATTEMPTS_AT_MOST, Exam, Ledger, NewResult, StoredResult
from lnfast.node.life import Life
from lnfast.node.metrics import Metrics
from lnfast.node.settings import ModelChoice, NodeConfig
from lnfast.node.spool import Spool
from lnfast.node.verdict import FLAWS, TRANSFER_ABORTED, is_confirmed, is_nothing_to_analyse, may_heal
from lnfast.report.dicom import STRUCTURED_REPORT
from lnfast.result import Parts, Result, write_result
from lnfast.study import DicomChoice, Study

THREAD = "lnfast-worker"
_WAIT_S = 1.0
_PAUSE_S = 5.0  # after the disk refused to take a result
_MOST_RUN_S = 900.0
_MOST_LOAD_S = 600.0
_DRAIN_S = 30.0

_logger = logging.getLogger("lnfast.node.worker")


@dataclass(frozen=True)
class Store:
    """Where the worker's decisions go."""

    spool: Spool
    ledger: Ledger
    arrivals: Arrivals
    metrics: Metrics


def load_engine(choice: ModelChoice, precision: str | None = None) -> Engine:
    """Load the engine of a node.

    Args:
        choice: table ``[model]``.
        precision: another one.

    Raises:
        LnfastError: as `lnfast.Engine`.
    """
    return Engine(
        choice.name,
        choice.backend,
        choice.device,
        precision or choice.precision,
        rules=Rules(choice.short_axis, choice.suspicious_mm),
        threads=choice.threads,
    )


class Worker:
    """The thread of the engine.

    Args:
        config: of the node.
        store: where exams, results and decisions are.
        released: called after each release: there is something to send.
        load: of the engine.

    Attributes:
        life: of the thread.
        problem: why nothing is run; None while the engine serves, or is still being loaded.
    """

    def __init__(
        self,
        config: NodeConfig,
        store: Store,
        *,
        released: Callable[[], None] = lambda: None,
        load: Callable[..., Engine] = load_engine,
    ) -> None:
        self.life = Life(THREAD)
        self.problem: LnfastError | None = None
        self._config = config
        self._store = store
        self._released = released
        self._load = load
        self._engine: Engine | None = None
        self._drift = DriftWatch(config.drift.every, store.spool, store.ledger, store.metrics)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=THREAD, daemon=True)
        self._unended: set[str] = set()  # runs that ended, of which the ledger could not be told
        store.metrics.gauge("running", lambda: float(self._running))
        self._running = False

    @property
    def thread(self) -> threading.Thread:
        """The thread, started or not."""
        return self._thread

    @property
    def engine(self) -> Engine | None:
        """The engine that serves; None before it is loaded, and where it cannot be."""
        return self._engine

    def start(self) -> None:
        """Load the engine and begin to run exams, in a thread."""
        self._thread.start()

    def stop(self, drain_s: float = _DRAIN_S) -> bool:
        """Let the exam that is running end.

        Args:
            drain_s: seconds that it gets.

        Returns:
            Whether the thread has ended.
        """
        self._stopping.set()
        self._store.arrivals.wake()
        if self._thread.ident is not None:
            self._thread.join(drain_s)
        return not self._thread.is_alive()

    # --------------------------------------------------------------------------------------------------------- the thread

    def _serve(self) -> None:
        try:
            with self.life.busy(_MOST_LOAD_S):
                self._engine = self._load(self._config.model)
        except LnfastError as error:
            self._refuse_service(error)
        except Exception as error:
            self._refuse_service(LnfastError("internal", f"the engine cannot be loaded: {type(error).__name__}"))
        else:
            with self._engine:
                self._work()

    def _refuse_service(self, problem: LnfastError) -> None:
        """Run nothing. What arrives is kept, and run once a person has mended the engine and restarted the node."""
        self.problem = problem
        _logger.error("%s; exams are received and kept, and none is run", problem)
        with suppress(LnfastError):
            self._store.ledger.note("engine-refused", code=problem.code)
        while not self._stopping.wait(_WAIT_S):
            self.life.beat()

    def _work(self) -> None:
        self._take_up(first=True)
        while not self._stopping.is_set():
            self.life.beat()
            try:
                if self._store.ledger.changed_outside():
                    self._take_up()
                due = self._store.arrivals.due()
                if due:
                    self._attempt(due[0])
                elif self._drift.pending and self._engine is not None:
                    self._check_drift()
                else:
                    self._store.arrivals.wait(_WAIT_S)
            except BackendError as error:  # the disk or the ledger: everything stays as it is, and due
                _logger.error("%s: nothing is run for %g s", error, _PAUSE_S)
                self._stopping.wait(_PAUSE_S)

    def _take_up(self, *, first: bool = False) -> None:
        """Take up the exams that an earlier process left, or that a person revived."""
        for exam in self._store.ledger.exams("receiving"):
            if self._store.arrivals.knows(exam.id):
                continue
            if first:
                self._discard_unreleased(exam.id)  # of another configuration, perhaps
            self._store.arrivals.resume(exam.id, whole=exam.ended in ("released", "retried"))

    def _attempt(self, due: Due) -> None:
        """Do what is due; whatever goes wrong is the exam's end and not the worker's."""
        try:
            with self.life.busy(_MOST_RUN_S):
                {"read": self._read, "release": self._release, "give-up": self._give_up}[due.step](due)
        except BackendError:
            raise
        except Exception as error:  # a MemoryError too; its words may quote the images
            _logger.error("internal: exam %s: %s", due.exam, type(error).__name__)
            self._kill(due, "internal", f"lnfast failed on it with {type(error).__name__}")

    # ---------------------------------------------------------------------------------------------------------- its steps

    def _read(self, due: Due) -> None:
        """Read an exam, and run it unless that was done with the same images."""
        ledger = self._store.ledger
        exam = ledger.exam(due.exam)
        assert exam is not None, "an exam without a row"
        study = self._study(due, exam)
        if study is None:
            return
        result = self._result_of(exam.id, study)
        if result is None:
            if exam.id in self._unended:
                ledger.end_run(exam.id)
                self._unended.discard(exam.id)
            attempts = ledger.begin_run(exam.id)
            if attempts > ATTEMPTS_AT_MOST:
                self._kill(due, "worker-died", f"the process died {ATTEMPTS_AT_MOST} times while it ran this exam")
                return
            self._unended.add(exam.id)
            done = self._run(due, exam, study)
            self._unended.discard(exam.id)
            if not done:
                ledger.end_run(exam.id)
                return
        self._store.arrivals.was_read(due, "result", confirmed=is_confirmed(study))

    def _study(self, due: Due, exam: Exam) -> Study | None:
        """The study of an exam; None where it is refused, which is noted."""
        assert self._engine is not None
        select = self._config.select
        arguments = {"synthetic": select.synthetic, "prefer": select.prefer, **(exam.choice or {})}
        try:
            return self._engine.read(self._store.spool.instances(exam.id), choice=DicomChoice(**arguments))
        except (StudyError, ModelError) as error:
            self._refused(due, error)
        except BackendError as error:
            if error.code in ("spool-full", "spool-failed"):
                raise
            self._refused(due, error)
        return None

    def _refused(self, due: Due, error: LnfastError) -> None:
        reading = "incomplete" if may_heal(error.code) else "unusable"
        self._store.arrivals.was_read(due, reading, refusal=(error.code, error.message))  # type: ignore[arg-type]
        _logger.info("exam %s: %s, for now", due.exam, error.code)

    def _result_of(self, exam: str, study: Study) -> StoredResult | None:
        """The result that the same images gave before: the last one that was released, or one that waits to be."""
        results = self._store.ledger.results(exam)
        last = next((result for result in reversed(results) if result.released_at is not None), None)
        waiting = next((result for result in reversed(results) if result.released_at is None), None)
        for result in (last, waiting):
            if result is not None and result.fingerprint == study.provenance.sha256:
                return result
        return None

    def _run(self, due: Due, exam: Exam, study: Study) -> bool:
        """Run an exam and store the result; return whether there is one."""
        assert self._engine is not None
        started = time.perf_counter()
        self._running = True
        try:
            written = self._written(exam, self._engine.run(study))
        except (StudyError, EngineError) as error:
            self._store.metrics.count("runs_total", outcome="refused")
            self._refused(due, error)
            return False
        finally:
            self._running = False
        if written is None:
            self._store.metrics.count("runs_total", outcome="failed")
            self._store.arrivals.was_read(
                due, "unusable", refusal=("dicom-not-written", "the result could not be written as DICOM objects")
            )
            return False
        self._store.metrics.count("runs_total", outcome="result")
        self._store.metrics.observe("run_seconds", time.perf_counter() - started)
        _logger.info("exam %s: run %d gave a result", exam.id, written.number)
        return True

    def _written(self, exam: Exam, result: Result) -> StoredResult | None:
        """Store a result: the folder whole, then its row. None where it could not be written as DICOM."""
        spool, ledger = self._store.spool, self._store.ledger
        results = ledger.results(exam.id)
        last = next((earlier for earlier in reversed(results) if earlier.released_at is not None), None)
        predecessor = None
        if last is not None:
            predecessor = spool.result_folder(exam.id, last.number) / STRUCTURED_REPORT
            predecessor = predecessor if predecessor.exists() else None  # it was kept as long as it had to be
        work = spool.new_result()
        parts = Parts(html=False, seg_frames=self._config.model.seg_frames, predecessor=predecessor)
        with spool.writing():
            written = write_result(result, work, exam.id, parts)
        folder = written.folder
        assert folder is not None
        if written.dicom_problem is not None:
            _logger.warning("exam %s: %s", exam.id, written.dicom_problem.code)
            return None
        self._discard_unreleased(exam.id)
        number = ledger.next_number(exam.id)
        report_sha256 = hashlib.sha256((folder / "report.json").read_bytes()).hexdigest()
        spool.place_result(folder, exam.id, number)
        with suppress(OSError):
            work.rmdir()
        fingerprint = result.study.provenance.sha256
        assert fingerprint is not None
        return ledger.store_result(
            NewResult(
                exam=exam.id,
                number=number,
                revision=exam.revision,
                fingerprint=fingerprint,
                report_sha256=report_sha256,
                n_stage=result.n_stage,
                predecessor=None if last is None else last.id,
            )
        )

    def _discard_unreleased(self, exam: str) -> None:
        """Forget results that were overtaken before they were released."""
        for result in self._store.ledger.results(exam):
            if result.released_at is None:
                self._store.ledger.discard_result(result.id)
                self._store.spool.remove_result(exam, result.number)

    def _release(self, due: Due) -> None:
        """Release the result of an exam, if its images are still those that it was made of."""
        ledger = self._store.ledger
        exam = ledger.exam(due.exam)
        assert exam is not None, "an exam without a row"
        study = self._study(due, exam)
        if study is None:
            return
        result = self._result_of(exam.id, study)
        if result is None:  # files changed although none arrived
            self._read(due)
            return
        targets = [target.name for target in self._config.enabled_targets]
        if not self._store.arrivals.conclude(due, lambda: ledger.release(result.id, targets)):
            return
        if result.released_at is not None:
            _logger.info("exam %s: later images changed nothing", exam.id)
            return
        self._store.metrics.count("exams_done_total")
        if result.predecessor is not None:
            ledger.note("result-replaced", exam.id, message=f"result {result.number} replaces one that was released")
        _logger.info("exam %s: result %d is released", exam.id, result.number)
        self._drift.released(result)
        self._released()

    def _give_up(self, due: Due) -> None:
        """Refuse an exam in which there is nothing to analyse; else a person must look at it."""
        code, message = due.refusal
        if is_nothing_to_analyse(code) and not due.flaw and not self._had_result(due.exam):
            if self._store.arrivals.conclude(due, lambda: self._store.ledger.refuse(due.exam, code, message)):
                self._store.metrics.count("exams_refused_total", code=code)
                _logger.info("exam %s: refused, %s", due.exam, code)
            return
        if not code or is_nothing_to_analyse(code):
            code = due.flaw or code or TRANSFER_ABORTED
            message = FLAWS.get(code, message)
        self._kill(due, code, message)

    def _had_result(self, exam: str) -> bool:
        return any(result.released_at is not None for result in self._store.ledger.results(exam))

    def _kill(self, due: Due, code: str, message: str) -> None:
        if self._store.arrivals.conclude(due, lambda: self._store.ledger.kill(due.exam, code, message)):
            self._store.metrics.count("exams_dead_total", code=code)
            _logger.warning("exam %s: dead, %s: %s", due.exam, code, message)

    def _check_drift(self) -> None:
        try:
            with self.life.busy(_MOST_LOAD_S):
                self._drift.check(lambda: self._load(self._config.model, "fp32"), self._config)
        except BackendError as error:
            _logger.warning("the drift watch could not run: %s", error.code)
