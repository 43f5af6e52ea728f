"""The most memory that a process holds at once while it takes one study from file to report.

Resident pages, so a library's code counts where it was touched, and a file that is mapped where it was read.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.groups.fresh_process import agree, contest
from benchmarks.harness.rows import Pair, Row, make_row
from benchmarks.harness.settings import Settings
from benchmarks.harness.studies import write_study
from lnfast.errors import BackendError

LIMIT_MB = 700.0
# A peak differs by some MB from run to run.
REPEATS = 3


def run(settings: Settings) -> list[Row]:
    """A row for each subject and peer.

    Raises:
        BackendError: ``no-peak-memory`` on a system that does not tell of it.
        ProcessFailedError: a side wrote no report.
    """
    if not sys.platform.startswith("linux"):
        raise BackendError("no-peak-memory", f"got {sys.platform}, wanted Linux: a peak is read from /proc")
    name, volume = next(iter(settings.phantoms().items()))
    with tempfile.TemporaryDirectory(prefix="lnfast-memory-") as folder:
        study = write_study(volume, Path(folder) / f"{name}.nii.gz")
        found = contest(settings, study, repeats=min(settings.repeats, REPEATS), peak=True)
    return [
        make_row(
            Pair("memory", name, "peak", subject, peer, "MB"),
            found.samples[subject]["peak"],
            found.samples[peer]["peak"],
            agree(ours, theirs),
            limit=LIMIT_MB,
        )
        for subject, ours in found.ours.items()
        for peer, theirs in found.theirs.items()
    ]
