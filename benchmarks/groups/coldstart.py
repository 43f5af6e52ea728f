"""From the start of a process to the report on disk, once: what a study costs where nothing is resident.

The quick run's one run proves the engine on its probe as well; in the others that was done since the machine started.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.groups.fresh_process import agree, contest
from benchmarks.harness.rows import Pair, Row, make_row
from benchmarks.harness.settings import Settings
from benchmarks.harness.studies import write_study

# Until the report is there.
LIMIT_MS = 1500.0


def run(settings: Settings) -> list[Row]:
    """Rows for ``report`` (written) and ``exit`` (the process is gone).

    Raises:
        ProcessFailedError: a side wrote no report.
    """
    name, volume = next(iter(settings.phantoms().items()))
    with tempfile.TemporaryDirectory(prefix="lnfast-cold-") as folder:
        found = contest(settings, write_study(volume, Path(folder) / f"{name}.nii.gz"), repeats=settings.repeats)
    told = {"self_test": "run" if settings.quick else "remembered"}
    return [
        make_row(
            Pair("coldstart", name, stage, subject, peer),
            found.samples[subject][stage],
            found.samples[peer][stage],
            agree(ours, theirs) | told,
            limit=LIMIT_MS if stage == "report" else None,
        )
        for subject, ours in found.ours.items()
        for peer, theirs in found.theirs.items()
        for stage in ("report", "exit")
    ]
