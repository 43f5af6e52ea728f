"""The ledger: what was decided about each exam, and what was sent where, in SQLite.

file.py           its tables, how it is opened, and what is done with one that is damaged
rows.py           what stands in it, read
transactions.py   the steps of what is changed
upkeep.py         what persons, a start after a crash, and retention change
ledger.py         what the life of an exam changes
"""

from __future__ import annotations

from lnfast.node.ledger.ledger import Ledger
from lnfast.node.ledger.rows import (
    EXAM_STATES,
    Counts,
    Ended,
    Event,
    Exam,
    ExamState,
    Job,
    JobState,
    LedgerReader,
    NewResult,
    StoredResult,
)
from lnfast.node.ledger.upkeep import ATTEMPTS_AT_MOST

__all__ = [
    "ATTEMPTS_AT_MOST",
    "EXAM_STATES",
    "Counts",
    "Ended",
    "Event",
    "Exam",
    "ExamState",
    "Job",
    "JobState",
    "Ledger",
    "LedgerReader",
    "NewResult",
    "StoredResult",
]
