"""From the start of a process to the report on disk, once: the cost of a study where nothing is resident.

The only run of a quick benchmark proves the engine on its probe as well; otherwise that has been done since the machine
started.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.groups.fresh_process import compare_reports, run_processes
from benchmarks.harness.rows import Row, RowKey, make_row
from benchmarks.harness.settings import Settings
from benchmarks.harness.studies import write_study

# Until the report is written.
LIMIT_MS = 1500.0


def run(settings: Settings) -> list[Row]:
    """Return rows for ``report`` (it is written) and ``exit`` (the process has ended).

    Raises:
        ProcessFailedError: a side wrote no report.
    """
    name, volume = next(iter(settings.phantoms().items()))
    with tempfile.TemporaryDirectory(prefix="lnfast-cold-") as folder:
        study = write_study(volume, Path(folder) / f"{name}.nii.gz")
        runs = run_processes(settings, study, repeats=settings.repeats)
    self_test = {"self_test": "run" if settings.quick else "remembered"}
    return [
        make_row(
            RowKey("coldstart", name, stage, subject, peer),
            runs.samples[subject][stage],
            runs.samples[peer][stage],
            compare_reports(ours, theirs) | self_test,
            limit=LIMIT_MS if stage == "report" else None,
        )
        for subject, ours in runs.ours.items()
        for peer, theirs in runs.theirs.items()
        for stage in ("report", "exit")
    ]
