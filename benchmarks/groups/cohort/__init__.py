"""A cohort on Ray: what the schedule costs, and how many studies an hour real engines do. Needs the extra ``cluster``.

    recorded.py    workers that sleep for as long as a network took, on Ray and in simulated numbers
    engines.py     workers with real engines beside one process of two cores

It runs only when it is named: it takes minutes, and 32 processes.
"""

from __future__ import annotations

from typing import Any

from benchmarks.groups.cohort import engines, recorded
from benchmarks.harness.settings import Settings


def run(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the tables ``cohort``, ``cohort, simulated`` and ``cohort, real engines``."""
    return {**recorded.run(settings), **engines.run(settings)}
