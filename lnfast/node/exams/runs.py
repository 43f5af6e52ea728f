"""Runs of exams: the images are read and run on the resident engine, and the result is stored, unreleased for now."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from pathlib import Path

from lnfast.atomic import flush
from lnfast.engine import Engine
from lnfast.errors import LnfastError
from lnfast.measure import Rules
from lnfast.node.config.settings import ModelChoice, NodeConfig
from lnfast.node.ledger import Exam, Ledger, NewResult, StoredResult
from lnfast.node.monitor.metrics import Metrics
from lnfast.node.spool import Spool
from lnfast.report import add_files
from lnfast.report.dicom import STRUCTURED_REPORT, render_dicom
from lnfast.result import Parts, Result, write_result
from lnfast.study import DicomChoice, Study
from lnfast.study.dicom.packages import HIGHDICOM, quiet

_logger = logging.getLogger("lnfast.node.worker")


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


def load_writers() -> None:
    """Import what writes SEG and SR: it takes longer than most runs, which is no time to find that it is not there.

    Raises:
        BackendError: ``backend-missing``, ``backend-broken``.
    """
    with quiet():
        for module in ("highdicom.seg", "highdicom.sr"):
            HIGHDICOM.load(module)


def engine_facts(engine: Engine) -> dict[str, str]:
    """What serves, in words."""
    facts, card = engine.facts, engine.model.card
    return {
        "model": card.name,
        "version": card.version,
        "backend": facts.backend,
        "backend_version": facts.backend_version,
        "device": facts.device,
        "precision": facts.precision,
        "certificate": "none" if facts.certificate is None else (facts.engine_sha256 or "")[:16],
    }


def last_released(results: list[StoredResult]) -> StoredResult | None:
    """The latest result of an exam that left the node; None before the first."""
    return next((result for result in reversed(results) if result.released_at is not None), None)


class Runs:
    """Runs exams, one at a time.

    Args:
        engine: that serves.
        config, spool, ledger, metrics: of the node.

    Attributes:
        running: whether an exam is run now.
    """

    def __init__(self, engine: Engine, config: NodeConfig, spool: Spool, ledger: Ledger, metrics: Metrics) -> None:
        self.running = False
        self._engine, self._config, self._spool = engine, config, spool
        self._ledger, self._metrics = ledger, metrics
        self._unended: set[str] = set()  # exams of which a run ended and the ledger could not be told

    def choice(self, exam: Exam) -> DicomChoice:
        """Which series is to be taken: by node.toml, and what a person said of this exam."""
        select = self._config.select
        return DicomChoice(**{"synthetic": select.synthetic, "prefer": select.prefer, **(exam.choice or {})})

    def study(self, exam: Exam) -> Study:
        """Read the images that an exam has now.

        Raises:
            StudyError: they are refused.
            BackendError: a package is missing.
        """
        return self._engine.read(self._spool.instances(exam.id), choice=self.choice(exam))

    def result_of(self, exam: str, study: Study) -> StoredResult | None:
        """The result that the same images gave before: the last one that was released, or one that waits to be."""
        results = self._ledger.results(exam)
        last = last_released(results)
        if last is not None and last.fingerprint == study.provenance.sha256:
            return last
        waiting = next((result for result in reversed(results) if result.released_at is None), None)
        if waiting is None or waiting.fingerprint != study.provenance.sha256:
            return None
        return waiting if waiting.predecessor == _id_of(last) and self._is_ours(waiting) else None

    def run(self, exam: Exam, study: Study) -> None:
        """Run an exam and store the result. It was counted before it began.

        Raises:
            StudyError: the images are refused.
            EngineError: of the network.
            LnfastError: ``dicom-not-written``.
            BackendError: of the disk: the run does not count.
        """
        if exam.id in self._unended:
            self._ledger.end_run(exam.id)
            self._unended.discard(exam.id)
        self._ledger.begin_run(exam.id)
        self._unended.add(exam.id)
        started = time.perf_counter()
        self.running = True
        try:
            number = self._store(exam, self._engine.analyse(study))
        except LnfastError:
            self._metrics.count("runs_total", outcome="refused")
            self._ledger.end_run(exam.id)
            self._unended.discard(exam.id)
            raise
        finally:
            self.running = False
        self._unended.discard(exam.id)
        seconds = time.perf_counter() - started
        self._metrics.count("runs_total", outcome="result")
        self._metrics.observe("run_seconds", seconds)
        extra = {"exam": exam.id, "result": number, "seconds": round(seconds, 3)}
        _logger.info("an exam was run; its result waits until the exam is whole", extra=extra)

    def discard_unreleased(self, exam: str) -> None:
        """Forget results that were overtaken before they were released."""
        for result in self._ledger.results(exam):
            if result.released_at is None:
                self._ledger.discard_result(result.id)
                self._spool.remove_result(exam, result.number)

    def _is_ours(self, result: StoredResult) -> bool:
        """Whether a result that waits is what this engine would give, and not that of another configuration."""
        try:
            folder = self._spool.result_folder(result.exam, result.number)
            report = json.loads((folder / "report.json").read_bytes())
            rules, model = report["rules"], report["model"]["sha256"]
        except (OSError, ValueError, KeyError):
            return False
        wanted = self._engine.rules
        return bool(
            (model, rules["short_axis"], rules["suspicious_mm"])
            == (self._engine.model.sha256, wanted.short_axis, wanted.suspicious_mm)
        )

    def _store(self, exam: Exam, result: Result) -> int:
        """Store a result, the folder whole and then its row; return its number."""
        last = last_released(self._ledger.results(exam.id))
        work = self._spool.new_result()
        try:
            written = self._write(result, work, exam.id, last)
            assert written.folder is not None and result.study.provenance.sha256 is not None
            report_sha256 = hashlib.sha256((written.folder / "report.json").read_bytes()).hexdigest()
            self.discard_unreleased(exam.id)
            number = self._ledger.next_number(exam.id)
            self._spool.place_result(written.folder, exam.id, number)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self._ledger.store_result(
            NewResult(
                exam=exam.id,
                number=number,
                revision=exam.revision,
                fingerprint=result.study.provenance.sha256,
                report_sha256=report_sha256,
                n_stage=result.n_stage,
                predecessor=_id_of(last),
            )
        )
        return number

    def _write(self, result: Result, work: Path, exam: str, last: StoredResult | None) -> Result:
        """Write a study folder without a page below ``work``, flushed."""
        predecessor = None
        if last is not None:
            path = self._spool.result_folder(exam, last.number) / STRUCTURED_REPORT
            predecessor = path if path.exists() else None  # it was kept as long as it had to be
        all_frames = self._config.model.seg_frames == "all"
        with self._spool.writing():
            written = write_result(result, work, exam, Parts(html=False, dicom=False))
            assert written.folder is not None
            try:
                files = render_dicom(
                    result.study, result.labels, written.report, all_frames=all_frames, predecessor=predecessor
                )
            except (OSError, MemoryError):
                raise
            except Exception as error:  # highdicom's and pydicom's words may quote a header
                reason = error.code if isinstance(error, LnfastError) else type(error).__name__
                raise LnfastError("dicom-not-written", f"seg.dcm and sr.dcm cannot be written: {reason}") from error
            add_files(written.folder, written.report, files)
            flush(written.folder)
        return written


def _id_of(result: StoredResult | None) -> int | None:
    return None if result is None else result.id
