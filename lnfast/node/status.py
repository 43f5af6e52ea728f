"""What a node is at and what waits for a person, from its spool and ledger, whether it runs or not."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from lnfast.errors import BackendError, UsageError
from lnfast.node.config.settings import NodeConfig
from lnfast.node.ledger import Exam, ExamState, LedgerReader
from lnfast.node.spool import is_running
from lnfast.node.spool.disk import free_bytes
from lnfast.study.dicom.identity import exam_id, load_key

MOST_LISTED = 100
WAITING: tuple[ExamState, ...] = ("dead", "receiving", "done")
_GIB = 1 << 30


def open_reader(config: NodeConfig) -> LedgerReader:
    """Open the ledger of a node's spool for reading.

    Raises:
        UsageError: ``no-ledger``: no node has worked there.
        LnfastError: ``ledger-damaged``, ``ledger-newer``.
        BackendError: ``spool-failed``.
    """
    path = config.spool / "ledger.sqlite"
    if not path.is_file():
        raise UsageError(
            "no-ledger", f"no node has worked with the spool {config.spool}: start it, or give its own --config"
        )
    return LedgerReader(path)


def status(config: NodeConfig, ledger: LedgerReader, now: float | None = None) -> dict[str, Any]:
    """Return what ``lnfast node status --json`` prints, as plain values; times are Unix seconds.

    Args:
        config: of the node.
        ledger: of its spool.
        now: Unix seconds; the clock's when None.
    """
    now = time.time() if now is None else now
    counts = ledger.counts()
    free = free_bytes(config.spool)
    jobs = [*ledger.jobs(state="dead"), *ledger.jobs(state="pending")]
    waiting = [exam for state in WAITING for exam in ledger.exams(state)]
    return {
        "running": is_running(config.spool),
        "spool": str(config.spool),
        "free_gib": round(free / _GIB, 1),
        "min_free_gib": round(config.receive.min_free_bytes / _GIB, 1),
        "takes_instances": free >= config.receive.min_free_bytes,
        "exams": counts.exams,
        "refused": counts.refused,
        "dead": counts.dead,
        "targets": _targets(config, counts.jobs),
        "oldest_pending_s": None if counts.oldest_pending_at is None else round(now - counts.oldest_pending_at, 1),
        "waiting": [_exam(exam) for exam in waiting[:MOST_LISTED]],
        "last_refused": [_exam(exam) for exam in ledger.exams("refused")[-MOST_LISTED:]],
        "outbox": [asdict(job) for job in jobs[:MOST_LISTED]],
        "events": [asdict(event) for event in ledger.events(most=20)],
    }


def find_exams(ledger: LedgerReader, beginnings: Iterable[str]) -> list[Exam]:
    """Return the exams whose ids begin with some letters, each of which must fit exactly one.

    Raises:
        UsageError: ``no-such-exam``.
    """
    exams = ledger.exams()
    found = []
    for beginning in beginnings:
        fitting = [exam for exam in exams if exam.id.startswith(beginning)]
        if not beginning or not fitting:
            raise UsageError("no-such-exam", f"there is no exam {beginning}; lnfast node status lists them")
        if len(fitting) > 1:
            raise UsageError("no-such-exam", f"{len(fitting)} exams begin with {beginning}; give more of the id")
        found.append(fitting[0])
    return list({exam.id: exam for exam in found}.values())


def find_study(config: NodeConfig, ledger: LedgerReader, study_uid: str) -> Exam:
    """Return the exam of a StudyInstanceUID, which the node does not keep but knows again.

    Raises:
        UsageError: ``no-such-exam``.
        BackendError: ``spool-failed``: the key of the spool may not be read.
    """
    path = config.spool / "id.key"
    try:
        exam = ledger.exam(exam_id(study_uid.strip(), load_key(path))) if path.is_file() else None
    except OSError as error:
        raise BackendError("spool-failed", f"cannot read {path}: {error.strerror}") from error
    if exam is None:
        raise UsageError("no-such-exam", "nothing of this study has come, or what came is deleted already")
    return exam


def exam_status(ledger: LedgerReader, exam: Exam) -> dict[str, Any]:
    """Return everything that the ledger has of one exam, as plain values; times are Unix seconds."""
    return {
        "exam": _exam(exam),
        "results": [asdict(result) for result in ledger.results(exam.id)],
        "jobs": [asdict(job) for job in ledger.jobs(exam.id)],
        "events": [asdict(event) for event in ledger.events(exam.id)],
    }


def _targets(config: NodeConfig, jobs: dict[str, dict[str, int]]) -> dict[str, dict[str, Any]]:
    configured = {target.name: target.enabled for target in config.targets}
    none = {"pending": 0, "sent": 0, "dead": 0}
    return {
        name: {"configured": name in configured, "enabled": configured.get(name, False), **jobs.get(name, none)}
        for name in dict.fromkeys([*configured, *jobs])
    }


def _exam(exam: Exam) -> dict[str, Any]:
    return asdict(exam) | {"running": exam.started_at is not None}
