"""Retention: what was sent, refused or given up is deleted after its time. What waits to be sent never is.

The node calls `purge` each hour; ``lnfast node purge`` calls it at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from lnfast.node.config.settings import Keep
from lnfast.node.ledger import Exam, ExamState, Ledger, LedgerReader
from lnfast.node.spool import Spool

DAY_S = 86400.0
_KEPT: dict[ExamState, str] = {"sent": "days", "refused": "days", "dead": "dead_days"}


@dataclass(frozen=True)
class Expired:
    """An exam whose time is over.

    Attributes:
        exam: as the ledger has it.
        since: Unix seconds of the last thing that happened to it: an instance, or a target took its result.
    """

    exam: Exam
    since: float


def expired(ledger: LedgerReader, keep: Keep, now: float) -> list[Expired]:
    """Return the exams that may be deleted, the oldest first.

    An exam with a pending job is not among them, whatever its state, nor one whose result no target was there to take.

    Args:
        ledger: of the node.
        keep: table ``[keep]``.
        now: Unix seconds.
    """
    over = []
    for exam in ledger.exams(*_KEPT):
        jobs = ledger.jobs(exam.id)
        since = max([exam.last_at, *(job.sent_at for job in jobs if job.sent_at is not None)])
        waiting = any(job.state == "pending" for job in jobs) or exam.started_at is not None
        if not waiting and now - since >= getattr(keep, _KEPT[exam.state]) * DAY_S:
            over.append(Expired(exam, since))
    return sorted(over, key=lambda item: (item.since, item.exam.id))


def purge(spool: Spool, ledger: Ledger, items: Iterable[Expired]) -> int:
    """Delete the instances, results and rows of exams; one to which something happened meanwhile stays.

    Args:
        spool, ledger: of the node, which may run.
        items: from `expired`.

    Returns:
        The number of exams that were deleted.

    Raises:
        BackendError: ``spool-failed``.
        LnfastError: ``ledger-damaged``.
    """
    return sum(ledger.forget(item.exam, partial(spool.remove, item.exam.id)) for item in items)
