"""``lnfast node`` between a sender and a receiver of DCMTK, all on loopback.

    programs   the node, storescp and dcmsend as processes; ports that the kernel chose
    exams      digital patients as DICOM examinations, no two with the same UIDs
    journey    one exam's way from the last instance to the PACS, part by part
    soak       a thousand small exams in a row: what the process holds, and how long each one took

Another implementation of the same work is not compared with: there is none.
"""

from __future__ import annotations

from benchmarks.harness.rows import Tables
from benchmarks.harness.settings import Settings
from benchmarks.node.journey import measure_journeys
from benchmarks.node.soak import run_soak


def run(settings: Settings) -> Tables:
    """Return the tables of both measurements.

    Raises:
        BackendError: ``program-missing``: DCMTK is not installed.
        WrongAnswerError: an exam did not arrive in the PACS.
    """
    return {**measure_journeys(settings), **run_soak(settings)}
