"""The most memory that a process holds at once while it takes one study from file to report.

Resident pages are counted, so a library's code and a mapped file count only where they were read.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.groups.fresh_process import compare_reports, run_processes
from benchmarks.harness.rows import Row, RowKey, make_row
from benchmarks.harness.settings import Settings
from benchmarks.harness.studies import write_study
from lnfast.errors import BackendError

LIMIT_MB = 700.0
# A peak differs by some MB from run to run.
REPEATS = 3


def run(settings: Settings) -> list[Row]:
    """Return a row for each subject and peer.

    Raises:
        BackendError: ``no-peak-memory`` on a system that does not report it.
        ProcessFailedError: a side wrote no report.
    """
    if not sys.platform.startswith("linux"):
        raise BackendError("no-peak-memory", f"got {sys.platform}, wanted Linux: a peak is read from /proc")
    name, volume = next(iter(settings.phantoms().items()))
    with tempfile.TemporaryDirectory(prefix="lnfast-memory-") as folder:
        study = write_study(volume, Path(folder) / f"{name}.nii.gz")
        runs = run_processes(settings, study, repeats=min(settings.repeats, REPEATS), peak=True)
    return [
        make_row(
            RowKey("memory", name, "peak", subject, peer, "MB"),
            runs.samples[subject]["peak"],
            runs.samples[peer]["peak"],
            compare_reports(ours, theirs),
            limit=LIMIT_MB,
        )
        for subject, ours in runs.ours.items()
        for peer, theirs in runs.theirs.items()
    ]
