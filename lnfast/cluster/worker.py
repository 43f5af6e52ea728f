"""A worker: one resident engine in a process of its own, which reads, runs and writes the studies that it is sent.

Several calls run at once, each in a thread: one reads and another writes while the network, which takes one at a time,
works on a third. Nothing is raised to the driver: an error is part of the answer.
"""

from __future__ import annotations

import hashlib
import os
import platform
import threading
from pathlib import Path
from time import perf_counter
from typing import Any

from lnfast._version import __version__
from lnfast.backends.machine import device_kind
from lnfast.cluster.completion import completed_report
from lnfast.cluster.messages import EngineIdentity, ErrorValue, Outcome, Task, WorkerFacts, WorkerRequest
from lnfast.cluster.placement import check_shared
from lnfast.cluster.rows import node_rows, refused_row, study_row
from lnfast.engine import Engine
from lnfast.optional import Package
from lnfast.result import Result, StudyFailure, write_outcome
from lnfast.study import Study
from lnfast.study.dicom.identity import use_study_key

_DICOM_PACKAGES = ("pydicom", "highdicom")
STOPPED = ErrorValue("LnfastError", "stopped", "the cohort was stopped")


class CohortWorker:
    """See the module. The driver makes one, calls `load`, and then `run` for each study."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._request: WorkerRequest | None = None
        self._stopping = threading.Event()

    def load(self, request: WorkerRequest) -> WorkerFacts | ErrorValue:
        """Load the engine, which proves itself, and check that the driver's folder is here."""
        try:
            out = Path(request.out)
            check_shared(out, request.token)
            if request.study_key:
                use_study_key(request.study_key)
            engine = Engine(
                request.model,
                request.backend,
                request.device,
                request.precision,
                rules=request.rules,
                threads=request.threads,
            )
        except Exception as error:
            return ErrorValue.of(error)
        self._engine, self._request = engine, request
        return _facts(engine)

    def run(self, task: Task) -> Outcome:
        """Run a study and write its folder, unless it is there already."""
        try:
            return self._run(task)
        except Exception as error:
            return refused(task, ErrorValue.of(error))

    def stop(self) -> None:
        """Begin no other study and write none that is not being written."""
        self._stopping.set()

    def close(self) -> None:
        """Release the engine's memory."""
        if self._engine is not None:
            self._engine.close()

    def _run(self, task: Task) -> Outcome:
        engine, request = self._engine, self._request
        assert engine is not None
        assert request is not None
        started = perf_counter()
        study = engine.read(task.path, choice=request.choice)
        read_ms = (perf_counter() - started) * 1e3
        out = Path(request.out)
        if request.resume:
            report = completed_report(engine, study, task.name or study.name, out, request.parts)
            if report is not None:
                return _done(task, report, resumed=True)
        if self._stopping.is_set():
            return refused(task, STOPPED)
        return self._run_read(task, study, read_ms)

    def _run_read(self, task: Task, study: Study, read_ms: float) -> Outcome:
        engine, request = self._engine, self._request
        assert engine is not None
        assert request is not None
        result = engine.analyse(study, read_ms)
        if self._stopping.is_set():
            return refused(task, STOPPED)
        outcome = write_outcome(result, Path(request.out), task.name, request.parts)
        if isinstance(outcome, StudyFailure):
            return refused(task, ErrorValue.of(outcome.error))
        return _done(task, outcome.report.to_dict(), beside=_problems(outcome))


def refused(task: Task, refusal: ErrorValue) -> Outcome:
    """Return the outcome of a study without a report."""
    return Outcome(task.index, refused_row(refusal.code, refusal.message), refusal=refusal)


def _done(
    task: Task, report: dict[str, Any], *, beside: tuple[tuple[str, str], ...] = (), resumed: bool = False
) -> Outcome:
    codes = (*(notice["code"] for notice in report["warnings"]), *(code for code, _ in beside))
    row = {**study_row(report), "warnings": ";".join(codes)}
    return Outcome(task.index, row, node_rows(report), notices=beside, resumed=resumed)


def _problems(result: Result) -> tuple[tuple[str, str], ...]:
    return tuple((notice.code, notice.message) for notice in (result.page_problem, result.dicom_problem) if notice)


def _facts(engine: Engine) -> WorkerFacts:
    facts, card = engine.facts, engine.model.card
    kind = device_kind(facts.device)
    decisive = hashlib.sha256("\n".join((*card.sha256.values(), card.decisive)).encode())
    versions = ((name, Package("DICOM", name, (name,), "dicom").version()) for name in _DICOM_PACKAGES)
    identity = EngineIdentity(
        lnfast=__version__,
        dicom=", ".join(f"{name} {version or 'none'}" for name, version in versions),
        model=f"{card.name} {card.version} {decisive.hexdigest()[:12]}",
        backend=f"{facts.backend} {facts.backend_version}",
        device=facts.device.partition(":")[0],
        precision=facts.precision,
        engine=facts.engine_sha256 or "",
        certified_for=kind if facts.certificate else "",
    )
    reason = f" ({engine.choice})" if engine.choice else ""
    description = f"{facts.backend} {facts.backend_version}, {facts.precision} on {facts.device}{reason}"
    return WorkerFacts(identity, kind, description, platform.node(), os.getpid())
