"""What a start does with what a kill, a power cut or a damaged ledger left behind.

Files are the truth: every exam and result that is in the spool gets a row, or is deleted where it is nothing. Where the
ledger is lost, results are taken in again as they are, so that what is sent once more has the same bytes and UIDs.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from lnfast.errors import LnfastError
from lnfast.node.ledger import Exam, Ledger, NewResult
from lnfast.node.ledger.file import move_aside
from lnfast.node.spool import Spool


@dataclass(frozen=True)
class Recovered:
    """What a start found.

    Attributes:
        lost: why the ledger is a new one although the spool has exams: ``ledger-damaged``, ``ledger-missing``.
        aside: where the damaged ledger is now.
        key_lost: the key of the exams' ids is a new one: an exam that comes again will not be known again.
        parts: instances that were half-received; none of them had been answered.
        adopted: ids of exams that had no row, or more or fewer instances than their row says.
        results: that had no row and were taken in.
        interrupted: ids of exams whose run was interrupted.
        dead_jobs: to targets that are no longer configured, or of results that are gone.
    """

    lost: str | None
    aside: Path | None
    key_lost: bool
    parts: int
    adopted: tuple[str, ...]
    results: int
    interrupted: tuple[str, ...]
    dead_jobs: int


def open_and_recover(
    spool: Spool, targets: Collection[str], *, clock: Callable[[], float] = time.time
) -> tuple[Ledger, Recovered]:
    """Open the ledger of a spool, make both agree, and return the ledger with what was found.

    Args:
        spool: whose `Spool.lock` the caller holds.
        targets: names of all targets in node.toml, also of those that are not enabled.
        clock: Unix seconds.

    Raises:
        LnfastError: ``ledger-newer``.
        BackendError: ``spool-full``, ``spool-failed``.
    """
    with spool.writing():
        parts = spool.clean()
    ledger, lost, aside = _open(spool, clock)
    try:
        adopted = _adopt_exams(spool, ledger)
        recovered = Recovered(
            lost=lost,
            aside=aside,
            key_lost=spool.key_is_new and bool(spool.exams()),
            parts=parts,
            adopted=adopted,
            results=_reconcile_results(spool, ledger, lost=lost is not None),
            interrupted=tuple(exam.id for exam in ledger.end_interrupted_runs()),
            dead_jobs=ledger.kill_jobs_without_target(targets) + _kill_jobs_without_result(spool, ledger),
        )
        if not ledger.is_complete():
            ledger.mark_complete(lost, None if aside is None else f"the damaged one is now {aside.name}")
        if recovered.key_lost:
            ledger.note("key-lost")
    except BaseException:
        ledger.close()
        raise
    return ledger, recovered


def _open(spool: Spool, clock: Callable[[], float]) -> tuple[Ledger, str | None, Path | None]:
    path = spool.ledger_path
    aside = None
    try:
        ledger = Ledger(path, clock=clock)
    except LnfastError as error:
        if error.code != "ledger-damaged":
            raise
        aside = move_aside(path)
        ledger = Ledger(path, clock=clock)
    if aside is not None:
        return ledger, "ledger-damaged", aside
    return ledger, "ledger-missing" if spool.exams() and not ledger.is_complete() else None, None


def _adopt_exams(spool: Spool, ledger: Ledger) -> tuple[str, ...]:
    """Give a row to each exam in the spool; delete folders and rows that are empty."""
    rows = {exam.id: exam for exam in ledger.exams()}
    adopted = []
    for exam in spool.exams():
        instances = spool.count_instances(exam)
        row = rows.get(exam)
        if not instances:
            if row is None:
                spool.remove(exam)
        elif row is None:
            ledger.adopt_exam(exam, spool.instances(exam).stat().st_mtime, instances)
            adopted.append(exam)
        elif row.state != "receiving" and row.instances != instances:
            ledger.exam_received(exam)  # an instance was stored, and the row had not heard of it
            adopted.append(exam)
    for row in rows.values():
        if row.state == "receiving" and not spool.count_instances(row.id) and not ledger.results(row.id):
            ledger.forget(row)
    return tuple(adopted)


def _reconcile_results(spool: Spool, ledger: Ledger, *, lost: bool) -> int:
    """Take in, or delete, folders without a row; forget rows without a folder that were never released."""
    adopted = 0
    for exam in ledger.exams():
        known = {result.number: result for result in ledger.results(exam.id)}
        for number in spool.result_numbers(exam.id):
            if number in known:
                continue
            result = _result_in(spool.result_folder(exam.id, number), exam, number) if lost else None
            if result is None:
                spool.remove_result(exam.id, number)
            else:
                ledger.adopt_result(result, spool.result_folder(exam.id, number).stat().st_mtime)
                adopted += 1
        for number, row in known.items():
            if row.released_at is None and not spool.result_folder(exam.id, number).is_dir():
                ledger.discard_result(row.id)
    return adopted


def _result_in(folder: Path, exam: Exam, number: int) -> NewResult | None:
    """Read what the ledger says of a result from its folder; None where the folder is not whole."""
    try:
        content = (folder / "report.json").read_bytes()
        report = json.loads(content)
        fingerprint, n_stage = report["study"]["sha256"], report["summary"]["n_stage"]
        whole = (folder / "sr.dcm").is_file() and isinstance(fingerprint, str) and n_stage in ("N0", "N1")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not whole:
        return None
    return NewResult(exam.id, number, exam.revision, fingerprint, hashlib.sha256(content).hexdigest(), n_stage)


def _kill_jobs_without_result(spool: Spool, ledger: Ledger) -> int:
    jobs = [job for job in ledger.jobs(state="pending") if not spool.result_folder(job.exam, job.number).is_dir()]
    for job in jobs:
        ledger.job_dead(job.id, "result-missing")
    return len(jobs)
